//! Groups: who may complete writes, and whose copy counts, when the two controllers meet.
//!
//! On disk each controller keeps, per group, its newest [`Generation`] and whether it was closed cleanly. Meeting
//! goes in this order:
//!
//! 1. Both tell what they have ([`Standing`]). [`agree`] makes a new generation of it, the same on both sides.
//! 2. Both make it durable, not clean, before anything is served under it: from here on the whole LUN may differ
//!    after a crash, and both know it (the intent region of the size of the LUN).
//! 3. Only then does either serve.
//! 4. A clean end drains, flushes both copies, and then marks the generation clean on both.
//!
//! A crash between the two records of step 2 leaves one controller a generation ahead. Nothing was served under
//! it, and it names as members only copies that were whole before: whoever is named is still whole, whether its
//! own record is the newest or the one before.
//!
//! A main that loses its peer makes a generation of its own, naming its copy alone, before it completes a write
//! without the other. So that no two generations ever have one number: whoever will be main has a proposed
//! generation on disk before the other does, and a running main counts on from the newest it ever proposed.

use protocol::interlink::hello::LUNS_MAX;
use protocol::interlink::standing::{CopyFound, Generation, Pairing, Standing};

use crate::plan::Side;

/// What the two agreed on for one LUN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreed {
    /// To be made durable by both.
    pub generation: Generation,
    /// How the pair goes on.
    pub pairing: Pairing,
    /// Which volumes have to be made first: bit 0 the first controller's, bit 1 the second's.
    pub create: u8,
}

/// Why a LUN is not served.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// A volume has other content.
    #[error(
        "the volume of {0} holds something that is not this LUN; nothing was touched. Move it away or name \
         another device, then start {0} again"
    )]
    Foreign(String),
    /// A device cannot be opened.
    #[error(
        "the volume of {0} cannot be opened or made: its device is not there or used by somebody else, its disk does not \
         answer, there is no room for its size, or what lies there was never served and has content. Nothing was touched. `twinlun check` on that machine says what is wrong \
         with it; then start both controllers again"
    )]
    NoDevice(String),
    /// No more LUNs can be known.
    #[error(
        "this appliance knows {LUNS_MAX} names of LUNs, also of those that its files name no more, and no more fit. The LUN \
         was not made, all others go on. More LUNs need another appliance"
    )]
    TooMany,
    /// A device has no room for a LUN that is to be made.
    #[error(
        "the device of {name} is too small: the LUN is to have {bytes} bytes, and {room} fit. Nothing was touched. \
         Write a smaller `size` on both machines or name a larger device, then start both controllers again"
    )]
    TooSmall {
        /// The controller.
        name: String,
        /// Wanted, in bytes.
        bytes: u64,
        /// The largest LUN that fits, in bytes.
        room: u64,
    },
    /// Both went on from the same generation.
    #[error(
        "{0} and {1} have each gone on alone since they last met: two histories. Neither is served, nothing was \
         touched. Keep both volumes and both state folders; every volume is a raw image that can be read and copied \
         while the controllers are stopped"
    )]
    SplitBrain(String, String),
    /// One controller has never heard of a LUN that the other has served.
    #[error(
        "the state folder of {0} knows nothing of this LUN, though its peer does. Nothing was copied. Put the \
         right state folder of {0} back (is its disk mounted?), then start {0} again"
    )]
    StateLost(String),
    /// A copy is older than what its controller served, and no newer one was found.
    #[error(
        "the copy of {0}, or its state folder, is older than what {0} has served since: was it put back from a backup? It \
         is not served, and nothing was touched. Put the volume and the state folder of {0} back as they were last, both, \
         or start the other controller with its whole copy: {0} is then refilled"
    )]
    Stale(String),
    /// An old state folder was put back, and its controller has gone on from it.
    #[error(
        "the state folder of {old} was put back from a time before {old} and {new} last served together, and {old} has \
         gone on alone from there: two histories. Neither is served, nothing was touched. Keep both volumes and both state \
         folders; every volume is a raw image that can be read and copied while the controllers are stopped"
    )]
    PutBack {
        /// Whose.
        old: String,
        /// The other.
        new: String,
    },
    /// A record of the LUN cannot be read.
    #[error(
        "what {0} keeps of this LUN beside its volume (reservations, mode pages) cannot be read: it is damaged, or a newer \
         release wrote it. The LUN is not served from there, nothing was touched. Run the release that wrote it, or put the \
         state folder of {0} back as it was last, then start {0} again"
    )]
    Unreadable(String),
    /// A copy that would be the source may still turn out to have lost something.
    #[error(
        "{0} is still writing to its disk what was acknowledged before the two parted. Until that is done nobody knows whether \
         its copy has everything, and the other is not overwritten by it; the two then go on by themselves. If it lasts, look \
         at the disk of {0}; leave both volumes where they are"
    )]
    Unsettled(String),
    /// The volume is the other controller's.
    #[error(
        "the volume that lies at {0} is the copy of the other controller. Nothing was touched. Put the own volume of {0} \
         back, or move this one away: {0} is then refilled. Then start {0} again"
    )]
    Others(String),
    /// No whole copy is left.
    #[error(
        "no whole copy of this LUN was found on either controller. Nothing was created. Look whether a disk is \
         not mounted, then start both controllers again"
    )]
    NoSource,
    /// The only volume of a LUN that is not mirrored is gone.
    #[error(
        "the volume on {0} is gone, and this LUN has no copy. Nothing was created in its place. Look whether its disk is \
         mounted, bring the volume back, then start {0} again"
    )]
    Gone(String),
    /// The peer's configuration does not have the LUN.
    #[error(
        "the appliance.toml of {0} does not have this LUN, so that it is not served. Make the two files equal, then start \
         {0} again"
    )]
    UnknownToPeer(String),
    /// The two configurations differ.
    #[error(
        "the two machines' appliance.toml differ in `{key}`: {first} on {first_name}, {second} on {second_name}. \
         Make the two files equal, then start again what was started with the wrong one"
    )]
    Differs {
        /// The key.
        key: String,
        /// The first controller's value.
        first: String,
        /// The second controller's value.
        second: String,
        /// The first controller.
        first_name: String,
        /// The second controller.
        second_name: String,
    },
}

/// What [`agree`] must know of a LUN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question<'a> {
    /// Names of both controllers.
    pub names: &'a [String; 2],
    /// The preferred main.
    pub main: Side,
    /// Whether there is a second copy.
    pub mirror: bool,
    /// A random id for the new generation.
    pub id: u128,
}

/// Decides, from what both controllers have, how a LUN goes on. Pure: both sides, given the same, come to the
/// same.
pub fn agree(question: Question<'_>, standings: [&Standing; 2]) -> Result<Agreed, Refusal> {
    for (name, standing) in question.names.iter().zip(standings) {
        match standing.copy {
            CopyFound::Unreadable => return Err(Refusal::Unreadable(name.clone())),
            CopyFound::Others => return Err(Refusal::Others(name.clone())),
            _ => {}
        }
    }
    let old = stale(question.names, standings)?;
    // What is put back with its folder is as old as that.
    let judged = [0, 1].map(|side: usize| match (old[side], standings[side].copy) {
        (true, CopyFound::Whole | CopyFound::Unsettled) => {
            Standing { copy: CopyFound::Stale, ..*standings[side] }
        }
        _ => *standings[side],
    });
    let standings = [&judged[0], &judged[1]];
    let newest = match old {
        [true, _] => standings[1].generation,
        [_, true] => standings[0].generation,
        [false, false] => newest(question.names, standings)?,
    };
    if question.mirror { mirrored(question, standings, newest) } else { single(question, standings, newest) }
}

/// Whose state folder is older than it was: it does not know when the two last began to serve together.
fn stale(names: &[String; 2], standings: [&Standing; 2]) -> Result<[bool; 2], Refusal> {
    let [Some(first), Some(second)] = standings.map(|standing| standing.starts) else {
        return Ok([false; 2]);
    };
    let knows = [first.knows(second.joint), second.knows(first.joint)];
    if knows == [false; 2] && first.joint.number == second.joint.number {
        return Err(Refusal::SplitBrain(names[0].clone(), names[1].clone()));
    }
    let old = [
        !knows[0] && first.joint.number < second.joint.number,
        !knows[1] && second.joint.number < first.joint.number,
    ];
    for side in (0..2).filter(|side| old[*side]) {
        let [own, other] = [side, 1 - side].map(|side| standings[side].generation);
        let own_history = own.id != other.id && own.id != other.parent;
        if own_history && (own.number >= other.number || own.members == 1 << side) {
            return Err(Refusal::PutBack { old: names[side].clone(), new: names[1 - side].clone() });
        }
    }
    Ok(old)
}

fn newest(names: &[String; 2], standings: [&Standing; 2]) -> Result<Generation, Refusal> {
    let [first, second] = standings.map(|standing| standing.generation);
    if first.number == second.number && first.id != second.id {
        return Err(Refusal::SplitBrain(names[0].clone(), names[1].clone()));
    }
    Ok(if first.number >= second.number { first } else { second })
}

fn single(question: Question<'_>, standings: [&Standing; 2], newest: Generation) -> Result<Agreed, Refusal> {
    let main = if newest.number == 0 { question.main.index() } else { usize::from(newest.main) };
    let name = || question.names[main].clone();
    let create = match standings[main].copy {
        CopyFound::Foreign => return Err(Refusal::Foreign(name())),
        CopyFound::Stale => return Err(Refusal::Stale(name())),
        CopyFound::Unreadable => return Err(Refusal::Unreadable(name())),
        CopyFound::Others => return Err(Refusal::Others(name())),
        CopyFound::Whole | CopyFound::Unsettled => false,
        CopyFound::Missing | CopyFound::Blank if newest.number == 0 => true,
        CopyFound::Missing | CopyFound::Blank | CopyFound::Failed => return Err(Refusal::Gone(name())),
    };
    Ok(Agreed {
        generation: next(newest, question.id, main, 1 << main),
        pairing: Pairing::Whole,
        create: u8::from(create) << main,
    })
}

fn mirrored(
    question: Question<'_>,
    standings: [&Standing; 2],
    newest: Generation,
) -> Result<Agreed, Refusal> {
    for (name, standing) in question.names.iter().zip(standings) {
        if newest.number == 0 && standing.copy == CopyFound::Failed {
            return Err(Refusal::NoDevice(name.clone()));
        }
        if standing.copy == CopyFound::Foreign {
            return Err(Refusal::Foreign(name.clone()));
        }
        // It has been served, and neither folder knows of that.
        if newest.number == 0 && standing.copy == CopyFound::Stale {
            return Err(Refusal::Stale(name.clone()));
        }
        if newest.number > 0 && !standing.known {
            return Err(Refusal::StateLost(name.clone()));
        }
    }
    let absent = |side: &usize| matches!(standings[*side].copy, CopyFound::Missing | CopyFound::Blank);
    let create = (0..2).filter(absent).map(|side| 1 << side).sum();
    if newest.number == 0 {
        let main = question.main.index();
        let copied = standings.iter().any(|standing| standing.device);
        let (pairing, members) = if copied { (Pairing::Copy, 1 << main) } else { (Pairing::Whole, 0b11) };
        return Ok(Agreed { generation: next(newest, question.id, main, members), pairing, create });
    }
    for (side, name) in question.names.iter().enumerate() {
        // Whoever went on alone is in every later generation's ancestry as its last source: the next one is its child.
        let own = standings[side].generation;
        if own.members == 1 << side && own.id != newest.id && own.id != newest.parent {
            return Err(Refusal::SplitBrain(name.clone(), question.names[1 - side].clone()));
        }
    }
    let sources = sources(standings, newest);
    // Whoever goes on without the other does so until both have written down what they agree on: a cut in between must
    // not leave two that may. What they prefer comes later, by a turn.
    let goes_on = (0..2).find(|side| sources[*side] && standings[*side].may_go_on);
    let both_clean = sources == [true, true] && standings.iter().all(|standing| standing.clean);
    if both_clean {
        // Whose memory is intact knows reservations that no disk has. Until the other has heard of them it must not be
        // main: it may be cut off before, and would go on without them.
        let knows = (0..2).find(|side| standings[*side].remembers && !standings[1 - *side].remembers);
        let main = goes_on.or(knows).unwrap_or(question.main.index());
        let generation = next(newest, question.id, main, 0b11);
        return Ok(Agreed { generation, pairing: Pairing::Whole, create });
    }
    let source = match goes_on {
        Some(side) => side,
        None => source(question.names, standings, newest, sources)?,
    };
    let target_failed = standings[1 - source].copy == CopyFound::Failed;
    let pairing = if target_failed { Pairing::Out } else { Pairing::Copy };
    Ok(Agreed { generation: next(newest, question.id, source, 1 << source), pairing, create })
}

/// Which copy the other is overwritten with, where neither goes on and not both are clean.
fn source(
    names: &[String; 2],
    standings: [&Standing; 2],
    newest: Generation,
    sources: [bool; 2],
) -> Result<usize, Refusal> {
    let main = usize::from(newest.main);
    let unsettled = standings.map(|standing| standing.copy == CopyFound::Unsettled);
    let source = match sources {
        [false, false] => return Err(no_source(names, standings)),
        // Settled or not, there is no other.
        [true, false] => return Ok(0),
        [false, true] => return Ok(1),
        // A copy that was marked clean has everything, too, even if the other was not.
        [true, true] => match standings.map(|standing| standing.kept || standing.clean) {
            [true, false] => 0,
            [false, true] => 1,
            [true, true] if unsettled[main] && !unsettled[1 - main] => 1 - main,
            [true, true] | [false, false] => main,
        },
    };
    // The other may be the one that has everything.
    if unsettled[source] { Err(Refusal::Unsettled(names[source].clone())) } else { Ok(source) }
}

/// Which copies may be the source: whole, named by the newest generation, their controller's own record that
/// generation or its parent. With the parent's record nothing can have been served under the newest: that needs
/// it durable on both.
fn sources(standings: [&Standing; 2], newest: Generation) -> [bool; 2] {
    [0, 1].map(|side: u8| {
        let standing = standings[usize::from(side)];
        let id = standing.generation.id;
        newest.has_member(side)
            && matches!(standing.copy, CopyFound::Whole | CopyFound::Unsettled)
            && (id == newest.id || id == newest.parent)
    })
}

fn no_source(names: &[String; 2], standings: [&Standing; 2]) -> Refusal {
    let stale = standings.iter().position(|standing| standing.copy == CopyFound::Stale);
    stale.map_or(Refusal::NoSource, |side| Refusal::Stale(names[side].clone()))
}

/// The generation after `newest`.
#[must_use]
pub fn next(newest: Generation, id: u128, main: usize, members: u8) -> Generation {
    Generation { number: newest.number + 1, id, parent: newest.id, main: main as u8, members }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> [String; 2] {
        ["alpha".into(), "beta".into()]
    }

    fn at(number: u64, id: u128, parent: u128, main: u8, members: u8) -> Standing {
        let generation = Generation { number, id, parent, main, members };
        Standing {
            generation,
            clean: false,
            kept: false,
            copy: CopyFound::Whole,
            known: true,
            device: false,
            starts: None,
            may_go_on: false,
            remembers: false,
        }
    }

    fn fresh() -> Standing {
        Standing { copy: CopyFound::Missing, known: false, ..at(0, 0, 0, 0, 0) }
    }

    fn ask(first: &Standing, second: &Standing) -> Result<(u8, u8, bool, u8), Refusal> {
        let names = names();
        let question = Question { names: &names, main: Side::First, mirror: true, id: 77 };
        agree(question, [first, second]).map(|agreed| {
            (
                agreed.generation.main,
                agreed.generation.members,
                agreed.pairing == Pairing::Whole,
                agreed.create,
            )
        })
    }

    #[test]
    fn two_fresh_files_are_made_and_are_whole_at_once() {
        assert_eq!(ask(&fresh(), &fresh()), Ok((0, 0b11, true, 0b11)));
    }

    #[test]
    fn a_fresh_device_is_copied_first() {
        let device = Standing { device: true, copy: CopyFound::Blank, ..fresh() };
        assert_eq!(ask(&device, &device), Ok((0, 0b01, false, 0b11)));
    }

    #[test]
    fn after_a_clean_end_of_both_nothing_is_copied_and_the_preferred_main_is_main() {
        let clean = Standing { clean: true, ..at(5, 50, 40, 1, 0b11) };
        assert_eq!(ask(&clean, &clean), Ok((0, 0b11, true, 0)));
    }

    #[test]
    fn of_two_clean_copies_the_one_whose_controller_ran_on_is_main_first() {
        let clean = Standing { clean: true, ..at(5, 50, 40, 0, 0b11) };
        let ran_on = Standing { remembers: true, ..clean };
        assert_eq!(ask(&clean, &ran_on), Ok((1, 0b11, true, 0)), "it may know reservations that no disk has");
        assert_eq!(ask(&ran_on, &ran_on), Ok((0, 0b11, true, 0)));
        let goes_on = Standing { may_go_on: true, ..clean };
        assert_eq!(
            ask(&goes_on, &ran_on),
            Ok((0, 0b11, true, 0)),
            "nobody else may be main before it agreed"
        );
    }

    #[test]
    fn after_both_lost_power_main_is_the_source() {
        let dirty = at(5, 50, 40, 1, 0b11);
        assert_eq!(ask(&dirty, &dirty), Ok((1, 0b10, false, 0)));
    }

    #[test]
    fn the_copy_whose_controller_kept_its_memory_is_the_source_whatever_its_role() {
        let lost = at(5, 50, 40, 0, 0b11);
        let kept = Standing { kept: true, ..lost };
        assert_eq!(ask(&lost, &kept), Ok((1, 0b10, false, 0)));
        assert_eq!(ask(&kept, &lost), Ok((0, 0b01, false, 0)));
    }

    #[test]
    fn one_clean_end_alone_does_not_make_the_copies_identical_but_its_copy_the_source() {
        let clean = Standing { clean: true, ..at(5, 50, 40, 0, 0b11) };
        let kept = Standing { kept: true, ..at(5, 50, 40, 0, 0b11) };
        let lost = at(5, 50, 40, 0, 0b11);
        assert_eq!(ask(&clean, &kept), Ok((0, 0b01, false, 0)), "both have everything: main's is taken");
        assert_eq!(ask(&lost, &clean), Ok((1, 0b10, false, 0)));
        assert_eq!(ask(&clean, &lost), Ok((0, 0b01, false, 0)));
    }

    #[test]
    fn a_half_made_copy_is_never_the_source() {
        let newest = at(6, 60, 50, 1, 0b10);
        assert_eq!(ask(&Standing { kept: true, ..newest }, &newest), Ok((1, 0b10, false, 0)));
        let lost_source = Standing { copy: CopyFound::Missing, ..newest };
        assert_eq!(ask(&newest, &lost_source), Err(Refusal::NoSource));
    }

    #[test]
    fn a_generation_durable_on_one_side_only_does_not_make_its_target_a_source() {
        let ahead = at(6, 60, 50, 1, 0b10);
        let behind = Standing { kept: true, ..at(5, 50, 40, 0, 0b11) };
        assert_eq!(ask(&ahead, &behind), Ok((1, 0b10, false, 0)));
    }

    #[test]
    fn two_that_went_on_alone_are_a_split_brain_however_far_each_counted() {
        let [alone, further] = [at(6, 60, 50, 0, 0b01), at(8, 81, 71, 1, 0b10)];
        assert_eq!(ask(&alone, &further), Err(Refusal::SplitBrain("alpha".into(), "beta".into())));
        let met_since = at(7, 70, 60, 0, 0b01);
        assert_eq!(ask(&alone, &met_since), Ok((0, 0b01, false, 0)));
    }

    #[test]
    fn a_copy_two_generations_behind_is_never_the_source() {
        let ahead = at(7, 70, 60, 1, 0b10);
        let behind = Standing { kept: true, ..at(5, 50, 40, 0, 0b11) };
        assert_eq!(ask(&ahead, &behind), Err(Refusal::NoSource));
        let whole = at(7, 70, 60, 0, 0b11);
        assert_eq!(ask(&whole, &behind), Ok((0, 0b01, false, 0)));
    }

    #[test]
    fn the_newest_generation_decides_whichever_controller_has_it() {
        let behind = Standing { kept: true, ..at(5, 50, 40, 1, 0b11) };
        let ahead = at(7, 70, 60, 0, 0b11);
        assert_eq!(ask(&ahead, &behind), Ok((0, 0b01, false, 0)));
        assert_eq!(
            ask(&behind, &Standing { generation: Generation { main: 1, ..ahead.generation }, ..ahead }),
            Ok((1, 0b10, false, 0))
        );
    }

    #[test]
    fn a_missing_volume_is_refilled_and_never_the_source() {
        let missing = Standing { copy: CopyFound::Missing, ..at(5, 50, 40, 0, 0b11) };
        let whole = at(5, 50, 40, 0, 0b11);
        assert_eq!(ask(&missing, &whole), Ok((1, 0b10, false, 0b01)));
        assert_eq!(ask(&missing, &missing), Err(Refusal::NoSource));
    }

    #[test]
    fn foreign_content_split_brains_and_lost_state_are_refused() {
        let whole = at(5, 50, 40, 0, 0b11);
        let foreign = Standing { copy: CopyFound::Foreign, ..whole };
        assert_eq!(ask(&whole, &foreign), Err(Refusal::Foreign("beta".into())));
        let other = at(5, 51, 40, 0, 0b01);
        assert_eq!(ask(&whole, &other), Err(Refusal::SplitBrain("alpha".into(), "beta".into())));
        assert_eq!(ask(&whole, &fresh()), Err(Refusal::StateLost("beta".into())));
    }

    #[test]
    fn a_lun_without_mirror_asks_for_its_one_volume_only() {
        let names = names();
        let question = Question { names: &names, main: Side::Second, mirror: false, id: 77 };
        let agreed = agree(question, [&fresh(), &fresh()]).unwrap();
        assert_eq!((agreed.generation.main, agreed.create, agreed.pairing), (1, 0b10, Pairing::Whole));
        let old = at(5, 50, 40, 0, 0b01);
        let agreed = agree(question, [&old, &fresh()]).unwrap();
        assert_eq!((agreed.generation.main, agreed.create), (0, 0), "the persisted role wins");
        let gone = Standing { copy: CopyFound::Missing, ..old };
        assert_eq!(agree(question, [&gone, &fresh()]), Err(Refusal::Gone("alpha".into())));
    }
}
