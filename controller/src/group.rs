//! Groups: who may complete writes, and whose copy counts, when the two controllers meet.
//!
//! On disk each controller keeps, per group, its newest [`Generation`] and whether it was closed cleanly. Meeting
//! goes in this order:
//!
//! 1. Both tell what they have ([`CopyReport`]). [`agree`] makes a new generation of it, the same on both sides.
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

use protocol::interlink::copy_report::{CopyFound, CopyReport, Generation, Pairing};
use protocol::interlink::hello::LUNS_MAX;
use protocol::interlink::will::{Wanted, Will};

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
        "the volume of {0} cannot be opened or made: its device is not there or used by somebody else, its disk does \
         not answer, there is no room for its size, or what lies there was never served and has content. Nothing was \
         touched. `twinlun check` on that machine says what is wrong with it; then start both controllers again"
    )]
    NoDevice(String),
    /// No more LUNs can be known.
    #[error(
        "this appliance knows {LUNS_MAX} names of LUNs, also of those that its files name no more, and no more fit. \
         The LUN was not made, all others go on. More LUNs need another appliance"
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
        "the copy of {0}, or its state folder, is older than what {0} has served since: was it put back from a backup? \
         It is not served, and nothing was touched. Put the volume and the state folder of {0} back as they were last, \
         both, or start the other controller with its whole copy: {0} is then refilled"
    )]
    Stale(String),
    /// An old state folder was put back, and its controller has gone on from it.
    #[error(
        "the state folder of {old} was put back from a time before {old} and {new} last served together, and {old} has \
         gone on alone from there: two histories. Neither is served, nothing was touched. Keep both volumes and both \
         state folders; every volume is a raw image that can be read and copied while the controllers are stopped"
    )]
    PutBack {
        /// The controller whose state folder was put back.
        old: String,
        /// The other controller.
        new: String,
    },
    /// A record of the LUN cannot be read.
    #[error(
        "what {0} keeps of this LUN beside its volume (reservations, mode pages) cannot be read: it is damaged, or a \
         newer release wrote it. The LUN is not served from there, nothing was touched. Run the release that wrote it, \
         or put the state folder of {0} back as it was last, then start {0} again"
    )]
    Unreadable(String),
    /// A copy that would be the source may still turn out to have lost something.
    #[error(
        "{0} is still writing to its disk what was acknowledged before the two parted. Until that is done nobody knows \
         whether its copy has everything, and the other is not overwritten by it; the two then go on by themselves. If \
         it lasts, look at the disk of {0}; leave both volumes where they are"
    )]
    Unsettled(String),
    /// The volume is the other controller's.
    #[error(
        "the volume that lies at {0} is the copy of the other controller. Nothing was touched. Put the local volume of \
         {0} back, or move this one away: {0} is then refilled. Then start {0} again"
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
        "the volume on {0} is gone, and this LUN has no copy. Nothing was created in its place. Look whether its disk \
         is mounted, bring the volume back, then start {0} again"
    )]
    Gone(String),
    /// The peer's configuration does not have the LUN.
    #[error(
        "the appliance.toml of {0} does not have this LUN, so that it is not served. Make the two files equal, then \
         start {0} again"
    )]
    UnknownToPeer(String),
    /// A LUN of a group cannot be served, so that none of them is.
    #[error("the LUNs of group {group} are served together, and {lun} cannot be: {reason}")]
    InGroup {
        /// The group.
        group: String,
        /// The LUN.
        lun: String,
        /// Why not.
        reason: Box<Self>,
    },
    /// The copies that count of a group's LUNs are not on one controller.
    #[error(
        "the only whole copies of the LUNs of this group are not all on one controller, so that none could be main of \
         all. Nothing was touched. Look whether a disk is not mounted and start both controllers again; if it is as it \
         should be, remove `group` from the LUNs of this group on both machines: each is then refilled by itself, and \
         they can be joined again when all are whole"
    )]
    Torn,
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

impl Refusal {
    /// Why a LUN is refused, whether it is for its own sake or for that of another LUN of its group.
    #[must_use]
    pub fn reason(&self) -> &Self {
        if let Self::InGroup { reason, .. } = self { reason } else { self }
    }
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
pub fn agree(question: Question<'_>, reports: [&CopyReport; 2]) -> Result<Agreed, Refusal> {
    for (name, report) in question.names.iter().zip(reports) {
        match report.copy {
            CopyFound::Unreadable => return Err(Refusal::Unreadable(name.clone())),
            CopyFound::Others => return Err(Refusal::Others(name.clone())),
            _ => {}
        }
    }
    let old = stale(question.names, reports)?;
    // What is put back with its folder is as old as that.
    let judged = [0, 1].map(|side: usize| match (old[side], reports[side].copy) {
        (true, CopyFound::Whole | CopyFound::Unsettled) => {
            CopyReport { copy: CopyFound::Stale, ..*reports[side] }
        }
        _ => *reports[side],
    });
    let reports = [&judged[0], &judged[1]];
    let newest = match old {
        [true, _] => reports[1].generation,
        [_, true] => reports[0].generation,
        [false, false] => newest(question.names, reports)?,
    };
    if question.mirror { mirrored(question, reports, newest) } else { single(question, reports, newest) }
}

/// Decides for all LUNs of a group together: one main, one pairing, one generation. If one of them cannot be served,
/// why, as `of_lun` tells it of that LUN. A LUN that joins others brings what it was at before with it, as the parent
/// of the new generation.
pub fn agree_together(
    question: Question<'_>,
    luns: &[[&CopyReport; 2]],
    of_lun: impl Fn(usize, Refusal) -> Refusal,
) -> Result<Vec<Agreed>, Refusal> {
    let judged = luns.iter().enumerate().map(|(at, both)| (at, agree(question, *both)));
    let each = judged.map(|(at, agreed)| agreed.map_err(|refusal| of_lun(at, refusal)));
    let agreed: Vec<Agreed> = each.collect::<Result<_, _>>()?;
    if let [one] = agreed[..] {
        return Ok(vec![one]);
    }
    let known = luns.iter().position(|both| both.iter().any(|report| report.generation.number > 0));
    let natural = usize::from(agreed[known.unwrap_or_default()].generation.main);
    let sides = [natural, 1 - natural];
    let tries = [false, true].into_iter().flat_map(|forget| sides.map(|main| (main, forget)));
    let found = tries.into_iter().find_map(|(main, forget)| {
        let main_side = [Side::First, Side::Second][main];
        let question = Question { main: main_side, ..question };
        let favoured = luns.iter().map(|both| agree(question, favour(*both, main, forget).each_ref()));
        let agreed: Vec<Agreed> = favoured.collect::<Result<_, _>>().ok()?;
        agreed.iter().all(|agreed| usize::from(agreed.generation.main) == main).then_some((main, agreed))
    });
    let Some((main, agreed)) = found else {
        return Err(unsettled(question, luns, of_lun).unwrap_or(Refusal::Torn));
    };
    let pairing = |of: Pairing| agreed.iter().any(|agreed| agreed.pairing == of).then_some(of);
    let pairing = pairing(Pairing::Out).or(pairing(Pairing::Copy)).unwrap_or(Pairing::Whole);
    let whole = question.mirror && pairing == Pairing::Whole;
    let members = if whole { 0b11 } else { 1 << main };
    let latest = agreed.iter().map(|agreed| agreed.generation).max_by_key(|generation| generation.number);
    let Generation { number, will, .. } = latest.unwrap_or_default();
    // What a person has left in one of them is left in all: no image is written over.
    let wants = |of: Wanted| agreed.iter().any(|agreed| agreed.generation.will.wanted == of).then_some(of);
    let wanted = wants(Wanted::Split).or(wants(Wanted::Simplex)).unwrap_or_default();
    let together = |agreed: Agreed| {
        let will = Will { wanted, ..will };
        let generation = Generation { number, main: main as u8, members, will, ..agreed.generation };
        // Of what is not mirrored only main has a volume.
        let volumes = if question.mirror && wanted == Wanted::Pair { 0b11 } else { 1 << main };
        let create = if question.mirror || agreed.create == 0 { agreed.create & volumes } else { volumes };
        Agreed { generation, pairing, create }
    };
    Ok(agreed.into_iter().map(together).collect())
}

/// Whether a copy of one of the LUNs would be a source but for what its disk has yet to flush: that is waited for, as
/// for a LUN by itself, and then one side may have them all.
fn unsettled(
    question: Question<'_>,
    luns: &[[&CopyReport; 2]],
    of_lun: impl Fn(usize, Refusal) -> Refusal,
) -> Option<Refusal> {
    let of = |main: usize, both: [&CopyReport; 2]| {
        let question = Question { main: [Side::First, Side::Second][main], ..question };
        agree(question, favour(both, main, false).each_ref()).err()
    };
    let each = [0, 1].into_iter().flat_map(|main| luns.iter().enumerate().map(move |lun| (main, lun)));
    each.filter_map(|(main, (at, both))| Some((at, of(main, *both)?)))
        .find(|(_, refusal)| matches!(refusal, Refusal::Unsettled(_)))
        .map(|(at, refusal)| of_lun(at, refusal))
}

/// Lets a side be the source of a LUN where both copies are equally good: then it is a matter of choice. `forget`: what
/// only one controller remembers of reservations shall not decide, because the blocks of another LUN of the group do.
fn favour(both: [&CopyReport; 2], main: usize, forget: bool) -> [CopyReport; 2] {
    let mut both = both.map(|report| *report);
    let good = both.map(|report| report.kept || report.clean);
    let free = good[0] == good[1] && !both[1 - main].may_go_on;
    if free && !both.iter().all(|report| report.clean) {
        both[main].kept = true;
        (both[1 - main].kept, both[1 - main].clean) = (false, false);
    }
    if forget {
        both.iter_mut().for_each(|report| report.remembers = false);
    }
    both
}

/// Whose state folder is older than it was: it does not know when the two last began to serve together.
pub(crate) fn stale(names: &[String; 2], reports: [&CopyReport; 2]) -> Result<[bool; 2], Refusal> {
    let [Some(first), Some(second)] = reports.map(|report| report.starts) else {
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
        let [own, other] = [side, 1 - side].map(|side| reports[side].generation);
        let own_history = own.id != other.id && own.id != other.parent;
        if own_history && (own.number >= other.number || own.members == 1 << side) {
            return Err(Refusal::PutBack { old: names[side].clone(), new: names[1 - side].clone() });
        }
    }
    Ok(old)
}

fn newest(names: &[String; 2], reports: [&CopyReport; 2]) -> Result<Generation, Refusal> {
    let [first, second] = reports.map(|report| report.generation);
    if first.number == second.number && first.id != second.id {
        return Err(Refusal::SplitBrain(names[0].clone(), names[1].clone()));
    }
    Ok(if first.number >= second.number { first } else { second })
}

fn single(question: Question<'_>, reports: [&CopyReport; 2], newest: Generation) -> Result<Agreed, Refusal> {
    let main = if newest.number == 0 { question.main.index() } else { usize::from(newest.main) };
    let name = || question.names[main].clone();
    let create = match reports[main].copy {
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
    reports: [&CopyReport; 2],
    newest: Generation,
) -> Result<Agreed, Refusal> {
    for (side, (name, report)) in question.names.iter().zip(reports).enumerate() {
        if newest.number == 0 && report.copy == CopyFound::Failed {
            return Err(Refusal::NoDevice(name.clone()));
        }
        let left_alone = newest.will.wanted != Wanted::Pair && !newest.has_member(side as u8);
        if report.copy == CopyFound::Foreign && !left_alone {
            return Err(Refusal::Foreign(name.clone()));
        }
        // It has been served, and neither folder knows of that.
        if newest.number == 0 && report.copy == CopyFound::Stale {
            return Err(Refusal::Stale(name.clone()));
        }
        if newest.number > 0 && !report.known {
            return Err(Refusal::StateLost(name.clone()));
        }
    }
    let absent = |side: &usize| matches!(reports[*side].copy, CopyFound::Missing | CopyFound::Blank);
    let create = (0..2).filter(absent).map(|side| 1 << side).sum();
    if newest.number == 0 {
        let main = question.main.index();
        let copied = reports.iter().any(|report| report.device);
        let (pairing, members) = if copied { (Pairing::Copy, 1 << main) } else { (Pairing::Whole, 0b11) };
        return Ok(Agreed { generation: next(newest, question.id, main, members), pairing, create });
    }
    for (side, name) in question.names.iter().enumerate() {
        // Whoever went on alone is in every later generation's ancestry as its last source: the next one is its child.
        let own = reports[side].generation;
        if own.members == 1 << side && own.id != newest.id && own.id != newest.parent {
            return Err(Refusal::SplitBrain(name.clone(), question.names[1 - side].clone()));
        }
    }
    let sources = sources(reports, newest);
    // Whoever goes on without the other does so until both have written down what they agree on: a cut in between must
    // not leave two that may. What they prefer comes later, by a switch.
    let goes_on = (0..2).find(|side| sources[*side] && reports[*side].may_go_on);
    let both_clean = sources == [true, true] && reports.iter().all(|report| report.clean);
    if both_clean {
        // Whose memory is intact knows reservations that no disk has. Until the other has heard of them it must not be
        // main: it may be cut off before, and would go on without them.
        let knows = (0..2).find(|side| reports[*side].remembers && !reports[1 - *side].remembers);
        let main = goes_on.or(knows).unwrap_or(question.main.index());
        let generation = next(newest, question.id, main, 0b11);
        return Ok(Agreed { generation, pairing: Pairing::Whole, create });
    }
    let source = match goes_on {
        Some(side) => side,
        None => source(question.names, reports, newest, sources)?,
    };
    let generation = next(newest, question.id, source, 1 << source);
    if newest.will.wanted != Wanted::Pair {
        // The other copy is not touched.
        return Ok(Agreed { generation, pairing: Pairing::Out, create: create & 1 << source });
    }
    let target_failed = reports[1 - source].copy == CopyFound::Failed;
    let pairing = if target_failed { Pairing::Out } else { Pairing::Copy };
    Ok(Agreed { generation, pairing, create })
}

/// Which copy the other is overwritten with, where neither goes on and not both are clean.
fn source(
    names: &[String; 2],
    reports: [&CopyReport; 2],
    newest: Generation,
    sources: [bool; 2],
) -> Result<usize, Refusal> {
    let main = usize::from(newest.main);
    let unsettled = reports.map(|report| report.copy == CopyFound::Unsettled);
    let source = match sources {
        [false, false] => return Err(no_source(names, reports)),
        // Settled or not, there is no other.
        [true, false] => return Ok(0),
        [false, true] => return Ok(1),
        // A copy that was marked clean has everything, too, even if the other was not.
        [true, true] => match reports.map(|report| report.kept || report.clean) {
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
fn sources(reports: [&CopyReport; 2], newest: Generation) -> [bool; 2] {
    [0, 1].map(|side: u8| {
        let report = reports[usize::from(side)];
        let id = report.generation.id;
        newest.has_member(side)
            && matches!(report.copy, CopyFound::Whole | CopyFound::Unsettled)
            && (id == newest.id || id == newest.parent)
    })
}

fn no_source(names: &[String; 2], reports: [&CopyReport; 2]) -> Refusal {
    let stale = reports.iter().position(|report| report.copy == CopyFound::Stale);
    stale.map_or(Refusal::NoSource, |side| Refusal::Stale(names[side].clone()))
}

/// The generation after `newest`; what a person wants stays.
#[must_use]
pub fn next(newest: Generation, id: u128, main: usize, members: u8) -> Generation {
    Generation {
        number: newest.number + 1,
        id,
        parent: newest.id,
        main: main as u8,
        members,
        will: newest.will,
    }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
