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
//! main under it nothing has changed, afterwards it is what counts at the next meeting.

use std::collections::BTreeSet;

use protocol::interlink::copy_report::Pairing;
use protocol::interlink::will::{PairCommand, Wanted};

use super::coordinator::Appliance;
use super::view::View;
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
    /// A disk of this controller has failed.
    #[error("the disk of its copy has failed: `twinlun status` says how that is mended")]
    DiskFailed,
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
    /// A switch is under way, an end has begun or is about to.
    pub(super) busy: bool,
    /// A disk of this controller has failed.
    pub(super) broken: bool,
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
    // A copy that has failed can only be left behind.
    if place.broken && !matches!(pairing, Pairing::Out) {
        return Answer::Refused(PairRefusal::DiskFailed);
    }
    let swaps = matches!(command, PairCommand::Swap);
    let here = matches!(place.role, Role::Main) == swaps;
    Answer::Change(Change { pairing, wanted, swaps, here })
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
        let View { local, session, shutdown } = self.view();
        let setting = shutdown.setting(session.is_joined(), session.version());
        let places: Vec<usize> = luns.iter().map(|lun| local.groups().place(*lun)).collect();
        let answers =
            places.iter().map(|at| match answer(command, local.groups().at(*at).state().place(setting)) {
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
mod tests {
    use super::*;

    const STATUSES: [PairStatus; 5] =
        [PairStatus::Simplex, PairStatus::Copy, PairStatus::Duplex, PairStatus::Split, PairStatus::Suspended];

    const PLACE: Place = Place {
        mirror: true,
        status: PairStatus::Duplex,
        role: Role::Main,
        joined: true,
        knows: true,
        busy: false,
        broken: false,
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
            (Place { broken: true, ..PLACE }, PairRefusal::DiskFailed),
        ];
        for (place, refusal) in cases {
            assert_eq!(answer(PairCommand::Swap, place), Answer::Refused(refusal), "{place:?}");
        }
        let left = answer(PairCommand::Delete, Place { broken: true, ..PLACE });
        assert!(matches!(left, Answer::Change(_)), "a failed copy can be left behind");
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
