//! What is next for a task when what it waited for has come: the data of the local copy, its read error, or the end of
//! both legs. Decided here from the task and what holds at that moment; [`super::Blocks::go_on`] carries it out.

use protocol::block::BlockRange;
use protocol::scsi::sense::{Sense, Status};

use super::reading::{Truth, answer, truth};
use super::terms::{Fate, Terms};
use crate::command::{Data, Op, Outcome};
use crate::disk::DiskError;
use crate::lease::Lease;
use crate::lun::compare::{first_difference, ored};
use crate::lun::operation::is_zero;
use crate::lun::task::{Leg, Origin, Task};
use crate::pair::{Role, Service};
use crate::time::Time;

/// What is next for a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Nothing: it waits on.
    Waits,
    /// It is over.
    Finish(Outcome),
    /// It has begun nothing, and waits at the gate for the decision about the pair.
    PutBack,
    /// It is a change, and goes to both copies.
    Change,
    /// Main does it after all.
    ToMain,
    /// It has this data, and waits for the lease.
    Lease(Data),
    /// The local copy could not take it, or took half of it: its host hears of it at once, but its range stays held
    /// until this copy has left the pair. Nobody reads what only one of them has.
    Undecided,
}

/// What data of the local copy is judged by.
#[derive(Debug)]
pub(super) struct Local<'a> {
    pub(super) terms: &'a Terms,
    pub(super) lease: &'a Lease,
    /// A resync is under way.
    pub(super) copies: bool,
    pub(super) now: Time,
}

/// The local copy's data of a task is there.
pub(super) fn after_read(task: &mut Task, data: Data, local: &Local<'_>) -> Next {
    match (&task.op, task.origin) {
        (Op::Read { .. }, Origin::Copy) if !local.copies => Next::Finish(Outcome::Aborted),
        // It becomes a change for the peer alone. The range stays held.
        (&Op::Read { range }, Origin::Copy) => {
            task.op = copied(range, data);
            Next::Change
        }
        (Op::Read { .. } | Op::Verify { .. } | Op::Report { .. }, _) => after_own_read(task, data, local),
        (Op::Prefetch { .. }, _) => Next::Finish(Outcome::Good(Data::new())),
        (Op::CompareAndWrite { compare, .. }, _) => match first_difference(compare, &data) {
            Some(offset) => Next::Finish(Outcome::Check(Sense::miscompare(offset))),
            None if local.terms.may_not_admit() => Next::PutBack,
            None => Next::Change,
        },
        (Op::OrWrite { .. }, _) if local.terms.may_not_admit() => Next::PutBack,
        (Op::OrWrite { data: added, .. }, _) => {
            task.result = vec![ored(&data, added)];
            Next::Change
        }
        (
            Op::Write { .. }
            | Op::WriteAtomic { .. }
            | Op::WriteAndVerify { .. }
            | Op::WriteSame { .. }
            | Op::Unmap { .. }
            | Op::StartStop { .. }
            | Op::SynchronizeCache
            | Op::Event(_),
            _,
        ) => Next::Waits,
    }
}

/// What a piece of the local copy is for the peer's: holes stay holes.
fn copied(range: BlockRange, data: Data) -> Op {
    if data.iter().all(|piece| is_zero(piece)) {
        return Op::Unmap { ranges: vec![range] };
    }
    Op::Write { range, data, fua: false }
}

/// A read is answered if the local copy is the truth after its data was read.
fn after_own_read(task: &Task, data: Data, local: &Local<'_>) -> Next {
    match truth(local.terms.view(), local.lease, local.now) {
        Truth::Proven(proof) => Next::Finish(answer(&task.op, &proof, data)),
        Truth::Unproven => Next::Lease(data),
        Truth::AtMain => left_to_main(task, local.terms),
        Truth::Nowhere => Next::Finish(Outcome::Check(Sense::UNAVAILABLE)),
    }
}

/// A read of the local copy that main has to do after all: later, if main may not have its place yet and would not
/// know the message.
fn left_to_main(task: &Task, terms: &Terms) -> Next {
    if !terms.has_peer_in_place() && matches!(task.origin, Origin::Host { .. }) {
        return Next::PutBack;
    }
    Next::ToMain
}

/// The local disk could not read. Where the other copy may be good this one leaves the pair rather than report the
/// medium.
pub(super) fn after_read_error(task: &Task, error: DiskError, terms: &Terms) -> Next {
    match (terms.view().role, terms.view().service) {
        (Role::Main, Service::Mirrored) => Next::Finish(Outcome::Status(Status::Busy)),
        (Role::Sub, Service::Mirrored | Service::Forwarded) => left_to_main(task, terms),
        (Role::Main, Service::Alone) => Next::Finish(Outcome::Check(error.sense(false))),
        _ => Next::Finish(Outcome::Check(Sense::UNAVAILABLE)),
    }
}

/// Neither leg of a change is on its way any more. `copied_again`: what the local copy could not take of it is to be
/// copied to the peer's once more.
pub(super) fn after_legs(task: &Task, copied_again: bool, fate: Fate) -> Next {
    let aborted = || Next::Finish(Outcome::Check(Sense::ABORTED_COMMAND));
    match (task.failed, task.peer) {
        (Some(error), Leg::None) => Next::Finish(Outcome::Check(error.sense(true))),
        (Some(_), _) if !copied_again && fate == Fate::Undecided => Next::Undecided,
        // No other copy could have taken it: what the target of a copy has of it is copied over.
        (Some(error), _) if error.wants_room() && (copied_again || fate == Fate::Good) => {
            Next::Finish(Outcome::Check(error.sense(true)))
        }
        (Some(_), _) => aborted(),
        (None, Leg::Lost) if task.origin == Origin::Copy => Next::Finish(Outcome::Aborted),
        (None, Leg::Lost) => match fate {
            Fate::Good => Next::Finish(Outcome::Good(Data::new())),
            // The event would keep the pair from being decided on.
            Fate::Undecided if matches!(task.origin, Origin::Event(_)) => Next::Undecided,
            Fate::Undecided => Next::Waits,
            Fate::Unknown => aborted(),
        },
        (None, _) => Next::Finish(Outcome::Good(Data::new())),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use protocol::block::BLOCK_BYTES;

    use super::*;
    use crate::command::{NexusId, TaskTag};
    use crate::pair::{PairStatus, PairView};

    const HOST: Origin = Origin::Host { nexus: NexusId(1), tag: TaskTag(2) };

    fn range() -> BlockRange {
        BlockRange::new(4, 1).unwrap()
    }

    fn block(byte: u8) -> Data {
        vec![Bytes::from(vec![byte; BLOCK_BYTES as usize])]
    }

    fn task(origin: Origin, op: Op) -> Task {
        Task::new(origin, 1, op, false, Time(0))
    }

    fn terms(role: Role, service: Service, peer_in_place: bool) -> Terms {
        let mut terms = Terms::new(false, 8);
        terms.begin(PairView { service, status: PairStatus::Duplex, ..PairView::suspended(role) });
        if peer_in_place {
            terms.peer_is_in_place();
        }
        terms
    }

    #[test]
    fn what_becomes_of_a_change_by_how_its_legs_have_ended() {
        let good = Next::Finish(Outcome::Good(Data::new()));
        let aborted = Next::Finish(Outcome::Check(Sense::ABORTED_COMMAND));
        let failures = [None, Some(DiskError::Io), Some(DiskError::Full)];
        let fates = [Fate::Good, Fate::Undecided, Fate::Unknown];
        for origin in [HOST, Origin::Copy, Origin::Event(1)] {
            for (failed, peer) in failures
                .iter()
                .flat_map(|failed| [Leg::None, Leg::Done, Leg::Lost].map(|peer| (*failed, peer)))
            {
                for (again, fate) in [false, true].iter().flat_map(|again| fates.map(|fate| (*again, fate))) {
                    let mut task = task(origin, Op::SynchronizeCache);
                    (task.failed, task.peer) = (failed, peer);
                    let expected = match (failed, peer, again, fate) {
                        (Some(error), Leg::None, _, _)
                        | (Some(error @ DiskError::Full), _, true, _)
                        | (Some(error @ DiskError::Full), _, _, Fate::Good) => {
                            Next::Finish(Outcome::Check(error.sense(true)))
                        }
                        (Some(_), _, false, Fate::Undecided) => Next::Undecided,
                        (Some(_), _, _, _) => aborted.clone(),
                        (None, Leg::Lost, _, _) if origin == Origin::Copy => Next::Finish(Outcome::Aborted),
                        (None, Leg::Lost, _, Fate::Undecided) if origin == HOST => Next::Waits,
                        (None, Leg::Lost, _, Fate::Undecided) => Next::Undecided,
                        (None, Leg::Lost, _, Fate::Unknown) => aborted.clone(),
                        (None, _, _, _) => good.clone(),
                    };
                    let next = after_legs(&task, again, fate);
                    assert_eq!(next, expected, "{origin:?} {failed:?} {peer:?} {again} {fate:?}");
                }
            }
        }
    }

    #[test]
    fn a_read_error_is_told_only_by_the_only_whole_copy() {
        let error = DiskError::Io;
        let services =
            [Service::Refused, Service::Undecided, Service::Mirrored, Service::Alone, Service::Forwarded];
        for (role, service) in [Role::Main, Role::Sub].iter().flat_map(|role| services.map(|s| (*role, s))) {
            for (origin, in_place) in [(HOST, false), (HOST, true), (Origin::Nobody, false)] {
                let expected = match (role, service) {
                    (Role::Main, Service::Mirrored) => Next::Finish(Outcome::Status(Status::Busy)),
                    (Role::Main, Service::Alone) => Next::Finish(Outcome::Check(error.sense(false))),
                    (Role::Sub, Service::Mirrored | Service::Forwarded) if origin == HOST && !in_place => {
                        Next::PutBack
                    }
                    (Role::Sub, Service::Mirrored | Service::Forwarded) => Next::ToMain,
                    _ => Next::Finish(Outcome::Check(Sense::UNAVAILABLE)),
                };
                let read = task(origin, Op::Read { range: range() });
                let next = after_read_error(&read, error, &terms(role, service, in_place));
                assert_eq!(next, expected, "{role:?} {service:?} {origin:?} {in_place}");
            }
        }
    }

    #[test]
    fn data_of_the_local_copy_is_an_answer_a_change_or_goes_back() {
        let lease = Lease::default();
        let judge = |task: &mut Task, byte: u8, terms: &Terms, copies: bool| {
            after_read(task, block(byte), &Local { terms, lease: &lease, copies, now: Time(0) })
        };
        let main = terms(Role::Main, Service::Mirrored, true);
        let cut = terms(Role::Main, Service::Undecided, true);
        let read = || Op::Read { range: range() };

        // A host's read: where the copy is the truth, with its data.
        let answered = Next::Finish(Outcome::Good(block(7)));
        for (terms, expected) in [
            (&main, answered.clone()),
            (&cut, answered),
            (&terms(Role::Sub, Service::Mirrored, true), Next::Lease(block(7))),
            (&terms(Role::Sub, Service::Forwarded, true), Next::ToMain),
            (&terms(Role::Sub, Service::Forwarded, false), Next::PutBack),
            (&terms(Role::Sub, Service::Refused, true), Next::Finish(Outcome::Check(Sense::UNAVAILABLE))),
        ] {
            assert_eq!(judge(&mut task(HOST, read()), 7, terms, false), expected, "{terms:?}");
        }

        // A piece of a copy: a change, unless the copy was given up.
        let mut piece = task(Origin::Copy, read());
        assert_eq!(judge(&mut piece, 7, &main, false), Next::Finish(Outcome::Aborted));
        assert_eq!(judge(&mut piece, 7, &main, true), Next::Change);
        assert_eq!(piece.op, Op::Write { range: range(), data: block(7), fua: false });
        let mut hole = task(Origin::Copy, read());
        assert_eq!(judge(&mut hole, 0, &main, true), Next::Change);
        assert_eq!(hole.op, Op::Unmap { ranges: vec![range()] });

        // What reads before it writes: not while nothing may be admitted.
        let mut or = task(HOST, Op::OrWrite { range: range(), data: block(8), fua: false });
        assert_eq!(judge(&mut or, 7, &cut, false), Next::PutBack);
        assert_eq!((judge(&mut or, 7, &main, false), &or.result), (Next::Change, &block(15)));
        let op = Op::CompareAndWrite { range: range(), compare: block(7), write: block(1), fua: false };
        let mut compare = task(HOST, op);
        assert_eq!(judge(&mut compare, 7, &cut, false), Next::PutBack);
        assert_eq!(judge(&mut compare, 7, &main, false), Next::Change);
        let differs = Next::Finish(Outcome::Check(Sense::miscompare(0)));
        assert_eq!(judge(&mut compare, 6, &cut, false), differs, "whatever the pair is");
    }
}
