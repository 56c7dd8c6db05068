//! What becomes of a person's command about a pair: a function of the command and of how the group stands. The test
//! below walks every command in every status.
//!
//! | | SIMPLEX | COPY | DUPLEX | SPLIT | SUSPENDED |
//! |---|---|---|---|---|---|
//! | create | **COPY** | done | done | refused: resync | refused: it mends itself |
//! | split | refused: no pair | refused: not whole yet | **SPLIT** | done | refused: it mends itself |
//! | resync | refused: no pair | done | done | **COPY** | refused: it mends itself |
//! | swap | refused: no pair | refused: not whole yet | **roles** | refused: not whole | refused: it mends itself |
//! | delete | done | **SIMPLEX** | **SIMPLEX** | **SIMPLEX** | refused: it mends itself |
//!
//! What changes something is a switch to a generation that carries what is wanted ([`Wanted`]), begun by the controller
//! that is not main under it. So no crash leaves a pair half split: before the generation is durable at the one that is
//! main under it nothing has changed, afterwards it is what counts at the next meeting. What was asked is pursued until
//! it is done or the two part (`asked.rs`). Where the second copy has to be made first, the switch only says that a
//! pair is wanted; the volume is made when the two meet next.

use std::collections::BTreeSet;

use protocol::interlink::copy_report::{CopyFound, Pairing};
use protocol::interlink::will::{PairCommand, Wanted};

use super::coordinator::Appliance;
use crate::pair::{PairStatus, Role};

/// Why a command about a pair is not carried out. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PairRefusal {
    /// The configuration wants one copy.
    #[error(
        "appliance.toml says `mirror = false`: there is one copy. Write `mirror = true` into both machines' files"
    )]
    NotMirrored,
    /// Its pair was deleted.
    #[error("it has no pair, which was deleted: `twinlun pair create` makes it again")]
    NoPair,
    /// Its copies are not identical yet.
    #[error("the second copy is not complete yet: wait until `twinlun pair list` says duplex")]
    NotWhole,
    /// It is split.
    #[error("it is split: `twinlun pair resync` makes the copies identical first")]
    IsSplit,
    /// A failure keeps the copies apart.
    #[error(
        "a failure keeps its copies apart, and they come together by themselves when that is mended; `twinlun status` \
         says what it is"
    )]
    Suspended,
    /// The two controllers are not in touch.
    #[error(
        "the two controllers are not in touch, and both must agree: `twinlun status` says why they are not"
    )]
    Apart,
    /// The other is of an older release.
    #[error("the other controller runs an older release, which does not know this: upgrade it first")]
    OlderPeer,
    /// They are, and do not agree on it.
    #[error("the two controllers do not agree on it: `twinlun status` says why")]
    NotAgreed,
    /// A disk of this controller, or that of the second copy, has failed.
    #[error("the disk of one of its copies has failed: `twinlun status` says how that is mended")]
    DiskFailed,
    /// What lies where the second copy would be made is not this LUN.
    #[error(
        "where its second copy belongs something lies that is not this LUN, and nothing was touched. Move it away or \
         name another device, then start that controller again"
    )]
    Foreign,
    /// Something else is under way.
    #[error("its roles are just changing, or a controller is about to end: try it again in a moment")]
    Busy,
}

/// How a group stands, as far as a command about its pair must know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) mirror: bool,
    pub(super) status: PairStatus,
    pub(super) role: Role,
    /// The two have joined.
    pub(super) joined: bool,
    /// The peer's release knows the commands.
    pub(super) knows: bool,
    /// They have a part in it together.
    pub(super) agreed: bool,
    /// A switch is under way, an end has begun or is about to.
    pub(super) busy: bool,
    /// A disk of this controller has failed.
    pub(super) broken: bool,
    /// The sub's volumes.
    pub(super) target: Target,
}

/// What is known of the volumes that main's copies would be copied to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// They can be written.
    Fit,
    /// One has to be made first.
    Absent,
    /// A disk has failed.
    Failed,
    /// One has other content, or cannot be told.
    Foreign,
}

impl Target {
    /// What was found of the volume of one LUN.
    pub(super) const fn of(found: CopyFound) -> Self {
        match found {
            CopyFound::Whole | CopyFound::Unsettled | CopyFound::Stale => Self::Fit,
            CopyFound::Missing | CopyFound::Blank => Self::Absent,
            CopyFound::Failed => Self::Failed,
            CopyFound::Foreign | CopyFound::Others | CopyFound::Unreadable => Self::Foreign,
        }
    }

    /// Of several, the one that is worst.
    pub(super) fn worst(found: impl Iterator<Item = CopyFound>) -> Self {
        found.map(Self::of).max_by_key(|target| *target as u8).unwrap_or(Self::Fit)
    }
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// It is so already.
    Done,
    /// The pair changes: this controller begins it, or tells the other to.
    Change(Change),
    /// It cannot be done.
    Refused(PairRefusal),
}

/// How a pair changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Change {
    pub(super) pairing: Pairing,
    pub(super) wanted: Wanted,
    /// Main and sub change their roles.
    pub(super) swaps: bool,
    /// This controller begins it.
    pub(super) here: bool,
}

/// What becomes of a command.
pub(super) const fn answer(command: PairCommand, place: Place) -> Answer {
    if !place.mirror {
        return Answer::Refused(PairRefusal::NotMirrored);
    }
    let (pairing, wanted) = match in_status(command, place.status, place.joined) {
        Ok(Some(change)) => change,
        Ok(None) => return Answer::Done,
        Err(refusal) => return Answer::Refused(refusal),
    };
    if !place.joined {
        return Answer::Refused(PairRefusal::Apart);
    }
    if !place.knows {
        return Answer::Refused(PairRefusal::OlderPeer);
    }
    if place.busy {
        return Answer::Refused(PairRefusal::Busy);
    }
    if !place.agreed {
        return Answer::Refused(PairRefusal::NotAgreed);
    }
    if place.broken && !leaves_failed_copy(pairing, wanted, place) {
        return Answer::Refused(PairRefusal::DiskFailed);
    }
    let pairing = match (pairing, place.target) {
        (Pairing::Copy, Target::Failed) => return Answer::Refused(PairRefusal::DiskFailed),
        (Pairing::Copy, Target::Foreign) => return Answer::Refused(PairRefusal::Foreign),
        (Pairing::Copy, Target::Absent) => Pairing::Out,
        (pairing, _) => pairing,
    };
    let swaps = matches!(command, PairCommand::Swap);
    let here = matches!(place.role, Role::Main) == swaps;
    Answer::Change(Change { pairing, wanted, swaps, here })
}

/// Whether a command only leaves behind the copy here, whose disk has failed or is full; or writes it anew.
const fn leaves_failed_copy(pairing: Pairing, wanted: Wanted, place: Place) -> bool {
    match (pairing, wanted) {
        (Pairing::Copy, _) => true,
        // A failed copy is no image of anything; and main's may not become the only one while the other is whole.
        (Pairing::Out, Wanted::Simplex) => {
            matches!(place.role, Role::Sub) || !matches!(place.status, PairStatus::Duplex)
        }
        (Pairing::Out | Pairing::Whole, _) => false,
    }
}

/// The table above.
const fn in_status(
    command: PairCommand,
    status: PairStatus,
    joined: bool,
) -> Result<Option<(Pairing, Wanted)>, PairRefusal> {
    use {PairCommand as C, PairStatus as S};
    match (command, status) {
        (_, S::Suspended) if !joined => Err(PairRefusal::Apart),
        (_, S::Suspended) => Err(PairRefusal::Suspended),
        (C::Create, S::Simplex) | (C::Resync, S::Split) => Ok(Some((Pairing::Copy, Wanted::Pair))),
        (C::Create | C::Resync, S::Copy | S::Duplex) | (C::Split, S::Split) | (C::Delete, S::Simplex) => {
            Ok(None)
        }
        (C::Create | C::Swap, S::Split) => Err(PairRefusal::IsSplit),
        (C::Split | C::Resync | C::Swap, S::Simplex) => Err(PairRefusal::NoPair),
        (C::Split | C::Swap, S::Copy) => Err(PairRefusal::NotWhole),
        (C::Split, S::Duplex) => Ok(Some((Pairing::Out, Wanted::Split))),
        (C::Swap, S::Duplex) => Ok(Some((Pairing::Whole, Wanted::Pair))),
        (C::Delete, S::Copy | S::Duplex | S::Split) => Ok(Some((Pairing::Out, Wanted::Simplex))),
    }
}

impl Appliance {
    /// A person asks something of the pairs of these LUNs' groups: it is begun for all of them, and shows in their
    /// status and roles when it is done; or, if one of them refuses, for none. Whether anything has to be done for each
    /// LUN.
    pub fn on_pair_command(
        &mut self,
        luns: &[usize],
        command: PairCommand,
    ) -> Vec<Result<bool, PairRefusal>> {
        let (local, setting) = (self.view().local, self.view().setting());
        let places: Vec<usize> = luns.iter().map(|lun| local.groups().place(*lun)).collect();
        let answers =
            places.iter().map(|at| match answer(command, local.groups().at(*at).state().place(setting)) {
                // It may be so for a moment only.
                _ if local.groups().at(*at).state().is_asked_something_else(command) => {
                    Err(PairRefusal::Busy)
                }
                Answer::Done => Ok(false),
                Answer::Change(_) => Ok(true),
                Answer::Refused(refusal) => Err(refusal),
            });
        let answers: Vec<_> = answers.collect();
        if answers.iter().all(Result::is_ok) {
            let groups: BTreeSet<usize> = places.into_iter().collect();
            for at in groups {
                self.ask(at, |group, setting, ids| group.on_command(command, false, setting, ids));
            }
        }
        answers
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const STATUSES: [PairStatus; 5] =
        [PairStatus::Simplex, PairStatus::Copy, PairStatus::Duplex, PairStatus::Split, PairStatus::Suspended];

    pub(in crate::appliance) const PLACE: Place = Place {
        mirror: true,
        status: PairStatus::Duplex,
        role: Role::Main,
        joined: true,
        knows: true,
        agreed: true,
        busy: false,
        broken: false,
        target: Target::Fit,
    };

    /// In a word: what becomes of it.
    fn word(answer: Answer) -> &'static str {
        match answer {
            Answer::Done => "done",
            Answer::Refused(PairRefusal::NoPair) => "no pair",
            Answer::Refused(PairRefusal::NotWhole) => "not whole",
            Answer::Refused(PairRefusal::IsSplit) => "is split",
            Answer::Refused(PairRefusal::Suspended) => "suspended",
            Answer::Refused(_) => "refused",
            Answer::Change(Change { swaps: true, .. }) => "ROLES",
            Answer::Change(Change { pairing: Pairing::Copy, wanted: Wanted::Pair, .. }) => "COPY",
            Answer::Change(Change { pairing: Pairing::Out, wanted: Wanted::Split, .. }) => "SPLIT",
            Answer::Change(Change { pairing: Pairing::Out, wanted: Wanted::Simplex, .. }) => "SIMPLEX",
            Answer::Change(_) => "?",
        }
    }

    #[test]
    fn every_command_in_every_status_has_its_answer() {
        let table = PairCommand::ALL
            .map(|command| STATUSES.map(|status| word(answer(command, Place { status, ..PLACE }))));
        assert_eq!(
            table,
            [
                ["COPY", "done", "done", "is split", "suspended"],
                ["no pair", "not whole", "SPLIT", "done", "suspended"],
                ["no pair", "done", "done", "COPY", "suspended"],
                ["no pair", "not whole", "ROLES", "is split", "suspended"],
                ["done", "SIMPLEX", "SIMPLEX", "SIMPLEX", "suspended"],
            ]
        );
    }

    #[test]
    fn what_would_change_something_needs_a_peer_that_knows_it_and_nothing_else_under_way() {
        let cases = [
            (Place { mirror: false, ..PLACE }, PairRefusal::NotMirrored),
            (Place { joined: false, ..PLACE }, PairRefusal::Apart),
            (Place { joined: false, status: PairStatus::Suspended, ..PLACE }, PairRefusal::Apart),
            (Place { knows: false, ..PLACE }, PairRefusal::OlderPeer),
            (Place { busy: true, ..PLACE }, PairRefusal::Busy),
            (Place { agreed: false, ..PLACE }, PairRefusal::NotAgreed),
            (Place { broken: true, ..PLACE }, PairRefusal::DiskFailed),
        ];
        for (place, refusal) in cases {
            assert_eq!(answer(PairCommand::Swap, place), Answer::Refused(refusal), "{place:?}");
        }
    }

    #[test]
    fn a_failed_copy_can_be_left_behind_and_never_becomes_the_only_one() {
        let answer = |command, role, status| {
            !matches!(answer(command, Place { broken: true, role, status, ..PLACE }), Answer::Refused(_))
        };
        use {PairCommand as C, PairStatus as S, Role as R};
        assert!(answer(C::Delete, R::Sub, S::Duplex) && !answer(C::Delete, R::Main, S::Duplex));
        assert!(answer(C::Delete, R::Main, S::Copy), "the other is not whole");
        assert!([R::Main, R::Sub].iter().all(|role| !answer(C::Split, *role, S::Duplex)), "no image of it");
        assert!(answer(C::Resync, R::Sub, S::Split), "there may be room now");
    }

    #[test]
    fn a_copy_is_made_where_there_is_none_and_not_over_something_else() {
        let answer = |status, command, target| answer(command, Place { status, target, ..PLACE });
        for (status, command) in
            [(PairStatus::Simplex, PairCommand::Create), (PairStatus::Split, PairCommand::Resync)]
        {
            let pairing = |target| match answer(status, command, target) {
                Answer::Change(Change { pairing, wanted: Wanted::Pair, .. }) => Ok(pairing),
                Answer::Refused(refusal) => Err(refusal),
                other => panic!("{other:?}"),
            };
            assert_eq!(pairing(Target::Fit), Ok(Pairing::Copy));
            assert_eq!(pairing(Target::Absent), Ok(Pairing::Out), "made at the next meeting");
            assert_eq!(pairing(Target::Failed), Err(PairRefusal::DiskFailed));
            assert_eq!(pairing(Target::Foreign), Err(PairRefusal::Foreign));
        }
        for target in [Target::Absent, Target::Failed, Target::Foreign] {
            let left = answer(PairStatus::Split, PairCommand::Delete, target);
            assert!(matches!(left, Answer::Change(_)), "nothing is copied there: {target:?}");
        }
        let worst = Target::worst([CopyFound::Whole, CopyFound::Others, CopyFound::Missing].into_iter());
        assert_eq!(worst, Target::Foreign);
    }

    #[test]
    fn the_one_who_is_not_main_afterwards_begins() {
        for command in PairCommand::ALL {
            for status in STATUSES {
                let here = [Role::Main, Role::Sub].map(|role| {
                    match answer(command, Place { status, role, ..PLACE }) {
                        Answer::Change(change) => Some(change.here),
                        _ => None,
                    }
                });
                let expected = match (here, command) {
                    ([None, None], _) => [None, None],
                    (_, PairCommand::Swap) => [Some(true), Some(false)],
                    _ => [Some(false), Some(true)],
                };
                assert_eq!(here, expected, "{command:?} {status:?}");
            }
        }
    }
}
