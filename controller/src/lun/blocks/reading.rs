//! Data that came from the local copy: reads become answers here, and only here, with the proof that the copy was the
//! truth after it was read; chunks of a resync become changes for the peer's copy.

use bytes::Bytes;
use protocol::scsi::sense::{Sense, Status};

use super::{Blocks, Happened};
use crate::command::{Command, Data, LunIndex, Op, Outcome};
use crate::disk::{DiskError, DiskIo};
use crate::lease::{self, Proof};
use crate::lun::compare::{first_difference, first_unexpected, ored};
use crate::lun::operation::is_zero;
use crate::lun::report::report;
use crate::lun::resync::{After, Refused, next_piece};
use crate::lun::task::{Action, Leg, Origin, Slot, Stage};
use crate::pair::{Breakage, Role, Service};
use crate::time::Time;

impl Blocks {
    /// The own volume's data of a task is there.
    pub(super) fn on_data(&mut self, slot: u32, data: Vec<Bytes>, now: Time, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get(slot as usize) else {
            return;
        };
        match (&task.op, task.origin) {
            (Op::Read { .. }, Origin::Copy) => self.on_copy_data(slot, &data, actions),
            (Op::Read { .. } | Op::Verify { .. } | Op::Report { .. }, _) => {
                self.on_read_data(slot, data, now, actions);
            }
            (Op::Prefetch { .. }, _) => self.finish(slot, Outcome::Good(Data::new()), actions),
            (Op::CompareAndWrite { compare, .. }, _) => match first_difference(compare, &data) {
                Some(offset) => self.finish(slot, Outcome::Check(Sense::miscompare(offset)), actions),
                None if self.may_not_admit() => self.put_back(slot, actions),
                None => self.change(slot, actions),
            },
            (Op::OrWrite { .. }, _) if self.may_not_admit() => self.put_back(slot, actions),
            (Op::OrWrite { data: added, .. }, _) => {
                let result = ored(&data, added);
                if let Some(task) = self.tasks.get_mut(slot as usize) {
                    task.result = vec![result];
                }
                self.change(slot, actions);
            }
            _ => {}
        }
    }

    /// Whether the copy here is the truth *now*, after its data was read.
    fn on_read_data(&mut self, slot: u32, data: Vec<Bytes>, now: Time, actions: &mut Vec<Action>) {
        match (self.view.role, self.view.service) {
            // Between losing the peer and going on alone main is still main.
            (Role::Main, Service::Mirrored | Service::Alone | Service::Undecided) => {
                self.answer_read(slot, &lease::of_main(), data, actions);
            }
            (Role::Sub, Service::Mirrored) => match self.lease.proof(now) {
                Some(proof) => self.answer_read(slot, &proof, data, actions),
                None => {
                    if let Some(task) = self.tasks.get_mut(slot as usize) {
                        task.stage = Stage::Lease;
                        self.awaiting_lease.insert(slot, data);
                    }
                }
            },
            (Role::Sub, Service::Forwarded) => self.forward_instead(slot, actions),
            _ => self.finish(slot, Outcome::Check(Sense::UNAVAILABLE), actions),
        }
    }

    /// The only place where a read's data becomes an answer: it takes the proof that it may.
    fn answer_read(&mut self, slot: u32, _proof: &Proof, data: Data, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get(slot as usize) else {
            return;
        };
        let outcome = match &task.op {
            Op::Verify { expected, .. } => match first_unexpected(expected, &data) {
                Some(offset) => Outcome::Check(Sense::miscompare(offset)),
                None => Outcome::Good(Data::new()),
            },
            Op::Report { what, allocation } => Outcome::Good(report(*what, *allocation, &data)),
            _ => Outcome::Good(data),
        };
        self.finish(slot, outcome, actions);
    }

    /// Reads that waited for the lease.
    pub(super) fn answer_leased(&mut self, now: Time, actions: &mut Vec<Action>) {
        for (slot, data) in core::mem::take(&mut self.awaiting_lease) {
            self.on_read_data(slot, data, now, actions);
        }
    }

    /// A read of the own copy that main has to do after all: later, if main may not have its place yet and would not
    /// know the message.
    fn forward_instead(&mut self, slot: u32, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(slot as usize) else {
            return;
        };
        if !self.peer_in_place && matches!(task.origin, Origin::Host { .. }) {
            return self.put_back(slot, actions);
        }
        let (op, received) = (task.op.clone(), task.received);
        let origin = core::mem::replace(&mut task.origin, Origin::Nobody);
        self.finish(slot, Outcome::Aborted, actions);
        if let Origin::Host { nexus, tag } = origin {
            let lun = LunIndex(self.setup.index);
            self.happened.push_back(Happened::ToMain(Command { lun, nexus, tag, op, received }));
        }
    }

    pub(super) fn on_read_error(&mut self, slot: u32, error: DiskError, actions: &mut Vec<Action>) {
        match (self.view.role, self.view.service) {
            // The other copy may be good: this one leaves the pair rather than report the medium.
            (Role::Main, Service::Mirrored) => {
                actions.push(Action::Broken(Breakage::OwnDisk(error), self.view.generation));
                self.finish(slot, Outcome::Status(Status::Busy), actions);
            }
            (Role::Sub, Service::Mirrored | Service::Forwarded) => {
                actions.push(Action::Broken(Breakage::OwnDisk(error), self.view.generation));
                self.forward_instead(slot, actions);
            }
            (Role::Main, Service::Alone) => {
                self.finish(slot, Outcome::Check(error.sense(false)), actions);
            }
            _ => self.finish(slot, Outcome::Check(Sense::UNAVAILABLE), actions),
        }
    }

    /// Starts as many pieces of a resync as may run; after the last, a flush of both copies.
    pub(in crate::lun) fn pump_resync(&mut self, actions: &mut Vec<Action>) {
        while let Some(op) = self.resync.next(self.setup.blocks) {
            let again = op.clone();
            if !self.enter(Origin::Copy, op, false, Time(0), actions) {
                // It is not under way: asked for again with the next tick, or when another piece is over.
                return self.resync.take_back(&again);
            }
        }
    }

    /// The own copy could not take a change that the peer's may have, or could not make it durable (`flush`).
    pub(super) fn spoil_resync(&mut self, slot: u32, flush: bool) {
        let Some(task) = self.tasks.get_mut(slot as usize) else {
            return;
        };
        let refused = match flush {
            true if task.origin == Origin::Copy => Refused::OwnFlush,
            true => Refused::Flush,
            false => Refused::Change(task.ranges.as_slice()),
        };
        if let Some(left) = self.resync.spoil(refused) {
            task.copied_again = Some(left);
        }
    }

    /// Both have done with a change that the own copy could not take, or with a piece of its blocks: the next one. Its
    /// origin hears of the end at once; the ranges stay held.
    pub(super) fn copy_again(&mut self, slot: u32, outcome: Outcome, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(slot as usize) else {
            return;
        };
        let Some(range) = task.copied_again.as_mut().and_then(next_piece) else {
            return self.finish(slot, outcome, actions);
        };
        // It has another place in the order from now on.
        self.mirror.end(task.sequence, slot);
        let origin = core::mem::replace(&mut task.origin, Origin::Copy);
        let op = core::mem::replace(&mut task.op, Op::Read { range });
        task.stage = Stage::Read;
        (task.own, task.peer, task.failed) = (Leg::None, Leg::None, None);
        task.result.clear();
        actions.push(self.volume.submit(Slot::Task(slot), DiskIo::Read(range)));
        if origin != Origin::Copy {
            self.tell(origin, op, outcome, actions);
        }
    }

    /// A piece was read: it becomes a change for the peer alone. The range stays held.
    pub(super) fn on_copy_data(&mut self, slot: u32, data: &[Bytes], actions: &mut Vec<Action>) {
        if !self.resync.is_under_way() {
            return self.finish(slot, Outcome::Aborted, actions);
        }
        let Some(task) = self.tasks.get_mut(slot as usize) else {
            return;
        };
        let Op::Read { range } = task.op else {
            return;
        };
        task.op = if data.iter().all(|piece| is_zero(piece)) {
            Op::Unmap { ranges: vec![range] }
        } else {
            Op::Write { range, data: Data::from(data), fua: false }
        };
        task.stage = Stage::Legs;
        self.change(slot, actions);
    }

    /// A piece, or the flush at the end, is over; or blocks are that were copied again (`repeat`).
    pub(super) fn on_copy_step(&mut self, op: &Op, repeat: bool, good: bool, actions: &mut Vec<Action>) {
        match self.resync.on_step(op, repeat, good) {
            After::GoesOn => {}
            After::Decide => self.decide_lost(actions),
            After::Complete => actions.push(Action::CopyComplete(self.view.generation)),
        }
        self.pump_resync(actions);
    }
}
