//! How a command is carried out once its ranges are granted.
//!
//! ```text
//!  a read      Read ─► answered with a proof ([`super::reading`]), or Lease ─► answered, or done by main after all
//!  a change    (Read ─►) Credit ─► Legs   peer: Writing ─► Done   local: Writing ─► Flushing ─► Verifying ─► Done
//!              either leg may end Lost instead; with neither on its way the change ends ([`Blocks::finish_if_whole`])
//!  at the sub  a change of the local copy in main's order ([`crate::lun::replica`])
//! ```
//!
//! A chunk of a resync is a read that becomes a change for the peer's copy alone.

use bytes::Bytes;
use protocol::interlink::Message;
use protocol::scsi::sense::{Sense, Status};

use super::reading::{Truth, answer, truth};
use super::{Blocks, Happened};
use crate::command::{Command, Data, Op, Outcome};
use crate::disk::{DiskError, DiskIo, DiskResult};
use crate::exclusive::{Mode, Request};
use crate::link::Via;
use crate::lun::compare::{first_difference, ored};
use crate::lun::operation::{is_atomic, is_zero, payload_bytes, ranges};
use crate::lun::redo::Step;
use crate::lun::replica::{Applied, Ordered};
use crate::lun::resync::{After, Refused};
use crate::lun::task::{Action, Leg, Origin, Slot, Stage};
use crate::lun::volume::Completion;
use crate::pair::{Breakage, Role, Service};
use crate::time::Time;
use crate::world::Ticket;

impl Blocks {
    /// Disk I/O is complete.
    pub(in crate::lun) fn on_disk(
        &mut self,
        ticket: Ticket,
        result: DiskResult,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        let completion = self.volume.on_disk(ticket, result);
        self.on_completion(completion, now, actions);
    }

    pub(super) fn on_completion(&mut self, completion: Completion, now: Time, actions: &mut Vec<Action>) {
        match completion {
            Completion::GivenUp => {}
            Completion::Of(slot, result) => self.on_disk_of(slot, result, now, actions),
            Completion::Redo(steps) => {
                for step in steps {
                    match step {
                        Step::Go(go) => actions.push(self.volume.go(go)),
                        Step::Done(slot, result) => self.on_disk_of(slot, result, now, actions),
                        Step::Failed(error) if self.terms.has_other_copy() => {
                            self.report_own_disk(error, actions)
                        }
                        Step::Failed(_) => {}
                    }
                }
            }
        }
    }

    fn on_disk_of(&mut self, slot: Slot, result: DiskResult, now: Time, actions: &mut Vec<Action>) {
        match slot {
            Slot::Task(slot) => self.on_task_disk(slot, result, now, actions),
            Slot::Apply(slot) => self.on_apply_disk(slot, result, actions),
        }
    }

    /// The local disk's data of a task is there.
    pub(super) fn on_data(&mut self, slot: u32, data: Vec<Bytes>, now: Time, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get(slot) else {
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
                None if self.terms.may_not_admit() => self.put_back(slot, actions),
                None => self.change(slot, actions),
            },
            (Op::OrWrite { .. }, _) if self.terms.may_not_admit() => self.put_back(slot, actions),
            (Op::OrWrite { data: added, .. }, _) => {
                let result = ored(&data, added);
                if let Some(task) = self.tasks.get_mut(slot) {
                    task.result = vec![result];
                }
                self.change(slot, actions);
            }
            _ => {}
        }
    }

    /// A read is answered if the local copy is the truth after its data was read.
    fn on_read_data(&mut self, slot: u32, data: Vec<Bytes>, now: Time, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(slot) else {
            return;
        };
        match truth(self.terms.view(), &self.lease, now) {
            Truth::Proven(proof) => {
                let outcome = answer(&task.op, &proof, data);
                self.finish(slot, outcome, actions);
            }
            Truth::Unproven => self.tasks.wait_for_lease(slot, data),
            Truth::AtMain => self.forward_instead(slot, actions),
            Truth::Nowhere => self.finish(slot, Outcome::Check(Sense::UNAVAILABLE), actions),
        }
    }

    /// Reads that waited for the lease.
    pub(super) fn answer_leased(&mut self, now: Time, actions: &mut Vec<Action>) {
        for (slot, data) in self.tasks.take_leased() {
            self.on_read_data(slot, data, now, actions);
        }
    }

    /// A read of the local copy that main has to do after all: later, if main may not have its place yet and would not
    /// know the message.
    fn forward_instead(&mut self, slot: u32, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(slot) else {
            return;
        };
        if !self.terms.has_peer_in_place() && matches!(task.origin, Origin::Host { .. }) {
            return self.put_back(slot, actions);
        }
        let (op, received) = (task.op.clone(), task.received);
        let origin = core::mem::replace(&mut task.origin, Origin::Nobody);
        self.finish(slot, Outcome::Aborted, actions);
        if let Origin::Host { nexus, tag } = origin {
            let lun = self.index;
            self.happened.push_back(Happened::ToMain(Command { lun, nexus, tag, op, received }));
        }
    }

    pub(super) fn on_read_error(&mut self, slot: u32, error: DiskError, actions: &mut Vec<Action>) {
        match (self.terms.view().role, self.terms.view().service) {
            // The other copy may be good: this one leaves the pair rather than report the medium.
            (Role::Main, Service::Mirrored) => {
                actions.push(Action::Broken(Breakage::OwnDisk(error), self.terms.view().generation));
                self.finish(slot, Outcome::Status(Status::Busy), actions);
            }
            (Role::Sub, Service::Mirrored | Service::Forwarded) => {
                actions.push(Action::Broken(Breakage::OwnDisk(error), self.terms.view().generation));
                self.forward_instead(slot, actions);
            }
            (Role::Main, Service::Alone) => {
                self.finish(slot, Outcome::Check(error.sense(false)), actions);
            }
            _ => self.finish(slot, Outcome::Check(Sense::UNAVAILABLE), actions),
        }
    }

    /// Starts as many pieces of a resync as may run; after the last, a flush of both copies. Whether any has started.
    pub(in crate::lun) fn pump_resync(&mut self, actions: &mut Vec<Action>) -> bool {
        let before = self.resync.running();
        while let Some(op) = self.resync.next(self.terms.capacity()) {
            if !self.enter(Origin::Copy, op.clone(), false, Time(0), actions) {
                // It is not under way: asked for again with the next tick, or when another piece is over.
                self.resync.take_back(&op);
                break;
            }
        }
        self.resync.running() > before
    }

    /// The own copy could not take a change that the peer's may have, or could not make it durable (`flush`).
    pub(super) fn spoil_resync(&mut self, slot: u32, flush: bool) {
        let Some(task) = self.tasks.get_mut(slot) else {
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

    /// A piece was read: it becomes a change for the peer alone. The range stays held.
    pub(super) fn on_copy_data(&mut self, slot: u32, data: &[Bytes], actions: &mut Vec<Action>) {
        if !self.resync.is_under_way() {
            return self.finish(slot, Outcome::Aborted, actions);
        }
        let Some(task) = self.tasks.get_mut(slot) else {
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
            After::Complete => actions.push(Action::CopyComplete(self.terms.view().generation)),
        }
    }

    /// Sends a change on its legs, once the peer has room for its data.
    pub(super) fn change(&mut self, slot: u32, actions: &mut Vec<Action>) {
        let mirrored = self.terms.view().is_mirrored();
        let Some(task) = self.tasks.get_mut(slot) else {
            return;
        };
        // The peer keeps the data of what it forwarded, but not the result of an ORWRITE.
        let kept_there = matches!(task.origin, Origin::Peer { .. }) && task.result.is_empty();
        let carries_data = mirrored && !kept_there;
        if carries_data {
            let bytes = payload_bytes(&task.op);
            if !self.mirror.take_room(bytes, task.stage == Stage::Credit) {
                if task.stage != Stage::Credit {
                    task.stage = Stage::Credit;
                    self.mirror.wait_for_room(slot);
                }
                return;
            }
            task.credit = bytes;
        }
        task.stage = Stage::Legs;
        if mirrored {
            actions.push(self.mirror.send(slot, task, self.terms.view().generation));
        }
        self.start_own_leg(slot, actions);
    }

    fn start_own_leg(&mut self, slot: u32, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(slot) else {
            return;
        };
        if task.origin == Origin::Copy && !matches!(task.op, Op::SynchronizeCache) {
            // A piece of the copy came from the own volume.
            task.own = Leg::None;
            return self.finish_if_whole(slot, actions);
        }
        let (io, atomic) = (task.io(), is_atomic(&task.op));
        task.own = if io == DiskIo::Flush { Leg::Flushing } else { Leg::Writing };
        actions.extend(self.volume.change(Slot::Task(slot), io, atomic));
    }

    /// A task's disk I/O is complete.
    pub(super) fn on_task_disk(
        &mut self,
        slot: u32,
        result: DiskResult,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        let Some(task) = self.tasks.get_mut(slot) else {
            return;
        };
        match (task.stage, result) {
            (Stage::Read, Ok(data)) => self.on_data(slot, data, now, actions),
            (Stage::Read, Err(error)) => self.on_read_error(slot, error, actions),
            (Stage::Legs, Ok(_)) if task.own == Leg::Writing && task.durable => {
                task.own = Leg::Flushing;
                actions.push(self.volume.go_on(Slot::Task(slot), DiskIo::Flush));
            }
            (Stage::Legs, Ok(_)) => match &task.op {
                Op::WriteAndVerify { range, data } if task.own == Leg::Flushing => {
                    let io = DiskIo::Verify { range: *range, data: data.clone() };
                    task.own = Leg::Verifying;
                    actions.push(self.volume.go_on(Slot::Task(slot), io));
                }
                _ => self.on_own_done(slot, actions),
            },
            (Stage::Legs, Err(error)) => {
                let flush = task.own == Leg::Flushing;
                task.failed = Some(error);
                task.own = Leg::Lost;
                if task.peer != Leg::None {
                    self.spoil_resync(slot, flush);
                    self.report_own_disk(error, actions);
                }
                self.finish_if_whole(slot, actions);
            }
            (Stage::Range | Stage::Credit | Stage::Lease, _) => {}
        }
    }

    /// The own copy has a change.
    fn on_own_done(&mut self, slot: u32, actions: &mut Vec<Action>) {
        let generation = self.terms.view().generation;
        let Some(task) = self.tasks.get_mut(slot) else {
            return;
        };
        task.own = Leg::Done;
        if let (Origin::Peer { link, id }, Leg::Writing | Leg::Done) = (task.origin, task.peer) {
            let message = Message::Done { id };
            actions.push(Action::Send { via: Via::Link(link), message, payload: Data::new(), generation });
        }
        self.finish_if_whole(slot, actions);
    }

    /// The peer's copy has a change, or could not take it.
    pub(in crate::lun) fn on_applied(&mut self, sequence: u64, good: bool, actions: &mut Vec<Action>) {
        let Some(slot) = self.mirror.task(sequence) else {
            return;
        };
        let Some(task) = self.tasks.get_mut(slot) else {
            return;
        };
        if task.peer != Leg::Writing {
            return;
        }
        self.mirror.give_room(core::mem::take(&mut task.credit));
        task.peer = if good { Leg::Done } else { Leg::Lost };
        if !good {
            self.resync.fail();
        }
        self.finish_if_whole(slot, actions);
        self.resume_credit(actions);
    }

    /// Those who wait for the peer's buffers go on in their order, as far as there is room.
    fn resume_credit(&mut self, actions: &mut Vec<Action>) {
        while let Some(slot) = self.mirror.first_waiting() {
            self.change(slot, actions);
            if self.tasks.get(slot).is_some_and(|task| task.stage == Stage::Credit) {
                return;
            }
            self.mirror.first_goes();
        }
    }

    /// A change main has ordered: it waits for reads of the own copy, then is written.
    pub(in crate::lun) fn apply(&mut self, ordered: &Ordered<'_>, actions: &mut Vec<Action>) {
        let (ranges, _) = ranges(ordered.op);
        if !self.tasks.locks().is_free(Mode::Exclusive, &ranges) {
            for sequence in self.replica.overtaken(&ranges) {
                self.release_apply(sequence, actions);
            }
        }
        match self.replica.take(ordered, self.tasks.locks()) {
            (slot, Request::Granted) => self.apply_granted(slot, actions),
            (_, Request::Waits) => {}
            (_, Request::Refused) => {
                actions.push(Action::Broken(Breakage::Nonsense, self.terms.view().generation));
            }
        }
    }

    /// The range of a change is free of the own copy's reads.
    pub(super) fn apply_granted(&mut self, slot: u32, actions: &mut Vec<Action>) {
        actions.extend(self.replica.start(slot, &mut self.volume));
    }

    /// The local disk is done with a change that main has ordered.
    pub(super) fn on_apply_disk(&mut self, slot: u32, result: DiskResult, actions: &mut Vec<Action>) {
        let generation = self.terms.view().generation;
        let (link, sequence, forward) = match self.replica.on_disk(slot, &result, &mut self.terms) {
            Applied::Unknown => return,
            Applied::Goes(io) => return actions.push(self.volume.go_on(Slot::Apply(slot), io)),
            // Its bridge went away while the disk had it: its host cannot know how it ended.
            Applied::Lost(ranges, forward) => {
                let mut granted = Vec::new();
                let holder = Slot::Apply(slot).holder();
                self.tasks.locks().release(holder, Mode::Exclusive, &ranges, &mut granted);
                self.happened.extend(forward.map(|forward| Happened::Applied { forward, good: false }));
                return self.granted(granted, actions);
            }
            Applied::Over { link, sequence, forward } => (link, sequence, forward),
        };
        let message = Message::Applied { sequence, good: result.is_ok() };
        actions.push(Action::Send { via: Via::Link(link), message, payload: Data::new(), generation });
        if let Err(error) = &result {
            actions.push(Action::Broken(Breakage::OwnDisk(*error), generation));
        }
        self.happened.extend(forward.map(|forward| Happened::Applied { forward, good: result.is_ok() }));
    }

    /// Everything below `released` is on both copies: its ranges are free for reads of the own copy.
    pub(in crate::lun) fn on_released(&mut self, released: u64, actions: &mut Vec<Action>) {
        while let Some(sequence) = self.replica.below(released) {
            self.release_apply(sequence, actions);
        }
    }

    /// A change is on both copies: its range is free.
    pub(in crate::lun) fn release_apply(&mut self, sequence: u64, actions: &mut Vec<Action>) {
        let granted = self.replica.release(sequence, self.tasks.locks());
        self.granted(granted, actions);
    }

    /// The interlink is gone. Which forwarded commands the local disk still has.
    pub(super) fn lose_orders(&mut self, actions: &mut Vec<Action>) -> Vec<u32> {
        let (writing, granted) = self.replica.lose(self.tasks.locks());
        self.granted(granted, actions);
        writing
    }
}
