//! The LUN core where commands are admitted: everything at main, and the reads of the sub's own copy.
//!
//! A task's way: its ranges (stage Range) → for a READ the own volume's data (stage Read, [`super::reading`]), then
//! the answer; for COMPARE AND WRITE the same, then the comparison → for a change both copies at once (stage Legs), the peer's
//! message before the own write → when both have it, the ranges are free and the answer goes out.

use bytes::Bytes;
use protocol::interlink::{Ending, Message};
use protocol::scsi::sense::{Sense, Status};

use super::mirror::Place;
use super::operation::{asks_durable, from_wire, is_atomic, payload_bytes, ranges};
use super::reading::report_io;
use super::task::{Action, Fate, Leg, Origin, Slot, Stage, Task};
use super::{LUN_COMMANDS_MAX, Lun};
use crate::command::{COMMAND_AGE_MAX, Data, Op, Outcome};
use crate::disk::{DiskError, DiskIo, DiskResult};
use crate::exclusive::{Holder, Request};
use crate::link::{LinkId, Via};
use crate::pair::{Breakage, Role, Service};
use crate::time::Time;

impl Lun {
    /// Admits a command as soon as its ranges are free: reservation, range and order in one step. False if there is no
    /// place for it, to wait or to go on: then it is not under way, and whoever counts it must not.
    pub(super) fn enter(
        &mut self,
        origin: Origin,
        op: Op,
        durable: bool,
        received: Time,
        actions: &mut Vec<Action>,
    ) -> bool {
        if self.tasks.len() >= LUN_COMMANDS_MAX {
            self.turn_away(origin, actions);
            return false;
        }
        let (ranges, mode) = ranges(&op);
        let durable = durable || !self.caches() || asks_durable(&op);
        let task = Task {
            origin,
            op,
            ranges,
            mode,
            durable,
            received,
            stage: Stage::Range,
            sequence: 0,
            own: Leg::None,
            peer: Leg::None,
            failed: None,
            credit: 0,
            result: Data::new(),
            copied_again: None,
        };
        let slot = self.tasks.insert(task) as u32;
        self.peaks.commands = self.peaks.commands.max(self.tasks.len());
        let task = &self.tasks[slot as usize];
        match self.locks.request(Slot::Task(slot).holder(), task.mode, &task.ranges) {
            Request::Granted => self.admitted(slot, actions),
            Request::Waits => {}
            Request::Refused => {
                self.tasks.remove(slot as usize);
                self.turn_away(origin, actions);
                return false;
            }
        }
        true
    }

    /// No place for a command.
    fn turn_away(&mut self, origin: Origin, actions: &mut Vec<Action>) {
        let outcome = Outcome::Status(self.full_status(origin));
        match origin {
            Origin::Event(number) => self.on_event_flushed(number, outcome, actions),
            origin => self.end(origin, outcome, actions),
        }
    }

    /// A command the peer forwarded.
    pub(super) fn on_forward(
        &mut self,
        link: LinkId,
        id: u64,
        op: Option<Op>,
        (durable, version): (bool, u64),
        received: Time,
        actions: &mut Vec<Action>,
    ) {
        match op {
            Some(op) if self.view.role == Role::Main => {
                self.take_forwarded(link, id, op, (durable, version), received, actions);
            }
            // The pair changes, and nothing was done.
            Some(_) => self.end(Origin::Peer { link, id }, Outcome::Status(Status::Busy), actions),
            None => {
                let origin = Origin::Peer { link, id };
                self.end(origin, Outcome::Check(Sense::ABORTED_COMMAND), actions);
            }
        }
    }

    /// The peer's host has given up a forwarded command.
    pub(super) fn on_cancel(&mut self, cancelled: u64, actions: &mut Vec<Action>) {
        let found = self
            .tasks
            .iter()
            .find(|(_, task)| matches!(task.origin, Origin::Peer { id, .. } if id == cancelled))
            .map(|(slot, _)| slot as u32);
        if let Some(slot) = found {
            self.withdraw(slot, Outcome::Aborted, actions);
        }
        self.give_up_behind(
            &Outcome::Aborted,
            actions,
            |origin, _| matches!(origin, Origin::Peer { id, .. } if id == cancelled),
        );
        self.end_sanitize_wait(
            &Outcome::Aborted,
            actions,
            |origin| matches!(origin, Origin::Peer { id, .. } if id == cancelled),
        );
    }

    /// The peer's copy has a change, or could not take it.
    pub(super) fn on_applied(&mut self, sequence: u64, good: bool, actions: &mut Vec<Action>) {
        let Some(slot) = self.mirror.task(sequence) else {
            return;
        };
        let Some(task) = self.tasks.get_mut(slot as usize) else {
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

    /// The ranges of a task are held.
    pub(super) fn admitted(&mut self, slot: u32, actions: &mut Vec<Action>) {
        let refused = self.may_not_admit();
        let Some(task) = self.tasks.get_mut(slot as usize) else {
            return;
        };
        task.stage = Stage::Read;
        if refused && task.origin != Origin::Nobody {
            return self.put_back(slot, actions);
        }
        match &task.op {
            Op::Read { range }
            | Op::Verify { range, .. }
            | Op::CompareAndWrite { range, .. }
            | Op::OrWrite { range, .. } => {
                let io = DiskIo::Read(*range);
                actions.push(self.volume.submit(Slot::Task(slot), io));
            }
            Op::Prefetch { range } => {
                let io = DiskIo::Prefetch(*range);
                actions.push(self.volume.submit(Slot::Task(slot), io));
            }
            Op::Report { what, allocation } => {
                let io = report_io(*what, *allocation, self.setup.blocks);
                actions.push(self.volume.submit(Slot::Task(slot), io));
            }
            Op::Write { .. }
            | Op::WriteAtomic { .. }
            | Op::WriteAndVerify { .. }
            | Op::WriteSame { .. }
            | Op::Unmap { .. }
            | Op::StartStop { .. }
            | Op::SynchronizeCache
            | Op::Event(_) => self.change(slot, actions),
        }
    }

    /// Sends a change on its legs, once the peer has room for its data.
    pub(super) fn change(&mut self, slot: u32, actions: &mut Vec<Action>) {
        let mirrored = self.is_mirrored();
        let Some(task) = self.tasks.get_mut(slot as usize) else {
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
                    self.counters.credit_waits += 1;
                    self.mirror.wait_for_room(slot);
                }
                return;
            }
            task.credit = bytes;
        }
        task.stage = Stage::Legs;
        if mirrored {
            self.start_peer_leg(slot, actions);
        }
        self.start_own_leg(slot, actions);
    }

    fn start_peer_leg(&mut self, slot: u32, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(slot as usize) else {
            return;
        };
        let Place { sequence, released } = self.mirror.order(slot);
        task.sequence = sequence;
        task.peer = Leg::Writing;
        let (via, message, payload) = match task.origin {
            Origin::Peer { link, id } => {
                (Via::Link(link), Message::Order { id, sequence, released }, task.result.clone())
            }
            Origin::Host { .. } | Origin::Copy | Origin::Sanitize(_) | Origin::Event(_) | Origin::Nobody => {
                let (op, payload) = task.apply_op();
                (Via::AnyBridge, Message::Apply { sequence, released, durable: task.durable, op }, payload)
            }
        };
        let generation = self.view.generation;
        actions.push(Action::Send { via, message, payload, generation });
    }

    fn start_own_leg(&mut self, slot: u32, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(slot as usize) else {
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
        let Some(task) = self.tasks.get_mut(slot as usize) else {
            return;
        };
        match (task.stage, result) {
            (Stage::Read, Ok(data)) => self.on_data(slot, data, now, actions),
            (Stage::Read, Err(error)) => self.on_read_error(slot, error, now, actions),
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

    /// The own copy could not take a change. The only whole one stays when all it lacks is room: its hosts hear so, and
    /// can go on when there is some.
    pub(super) fn report_own_disk(&self, error: DiskError, actions: &mut Vec<Action>) {
        if !(error.wants_room() && matches!(self.fate(), Fate::Good)) {
            actions.push(Action::Broken(Breakage::OwnDisk(error), self.view.generation));
        }
    }

    /// The own copy has a change.
    fn on_own_done(&mut self, slot: u32, actions: &mut Vec<Action>) {
        let generation = self.view.generation;
        let Some(task) = self.tasks.get_mut(slot as usize) else {
            return;
        };
        task.own = Leg::Done;
        if let (Origin::Peer { link, id }, Leg::Writing | Leg::Done) = (task.origin, task.peer) {
            let message = Message::Done { id };
            actions.push(Action::Send { via: Via::Link(link), message, payload: Data::new(), generation });
        }
        self.finish_if_whole(slot, actions);
    }

    /// Ends a change when neither of its legs is on its way any more.
    pub(super) fn finish_if_whole(&mut self, slot: u32, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get(slot as usize) else {
            return;
        };
        let under_way = |leg| matches!(leg, Leg::Writing | Leg::Flushing | Leg::Verifying);
        if task.stage != Stage::Legs || under_way(task.own) || under_way(task.peer) {
            return;
        }
        let copied_again = task.copied_again.is_some() && self.resync.goes_on();
        let outcome = match (task.failed, task.peer) {
            (Some(error), Leg::None) => Outcome::Check(error.sense(true)),
            (Some(_), _) if !copied_again && matches!(self.fate(), Fate::Undecided) => {
                return self.end_undecided(slot, actions);
            }
            // No other copy could have taken it: what the target of a copy has of it is copied over.
            (Some(error), _) if error.wants_room() && (copied_again || matches!(self.fate(), Fate::Good)) => {
                Outcome::Check(error.sense(true))
            }
            (Some(_), _) => Outcome::Check(Sense::ABORTED_COMMAND),
            (None, Leg::Lost) if task.origin == Origin::Copy => Outcome::Aborted,
            (None, Leg::Lost) => match self.fate() {
                Fate::Good => Outcome::Good(Data::new()),
                // The event would keep the pair from being decided on.
                Fate::Undecided if matches!(task.origin, Origin::Event(_)) => {
                    return self.end_undecided(slot, actions);
                }
                Fate::Undecided => return,
                Fate::Unknown => Outcome::Check(Sense::ABORTED_COMMAND),
            },
            (None, _) => Outcome::Good(Data::new()),
        };
        if copied_again {
            return self.copy_again(slot, outcome, actions);
        }
        self.finish(slot, outcome, actions);
    }

    /// A task is over: its ranges are free, its origin hears of it.
    pub(super) fn finish(&mut self, slot: u32, outcome: Outcome, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.try_remove(slot as usize) else {
            return;
        };
        // Only now it is on both copies, and `released` may pass it.
        self.mirror.end(task.sequence, slot);
        if let (Op::StartStop { start }, Outcome::Good(_)) = (&task.op, &outcome) {
            self.stopped = !start;
        }
        let mut granted = Vec::new();
        self.locks.release(Slot::Task(slot).holder(), task.mode, &task.ranges, &mut granted);
        match task.origin {
            Origin::Copy => {
                let good = outcome == Outcome::Good(Data::new());
                self.on_copy_step(&task.op, task.copied_again.is_some(), good, actions);
            }
            Origin::Sanitize(run) => self.on_sanitize_step(run, &task.op, &outcome, actions),
            Origin::Event(number) => self.on_event_flushed(number, outcome, actions),
            // A change of the peer's host was answered by DONE already.
            Origin::Peer { .. } if task.sequence != 0 && matches!(outcome, Outcome::Good(_)) => {}
            origin => self.end(origin, outcome, actions),
        }
        self.granted(granted, actions);
        self.after_task(slot, actions);
    }

    /// Takes back a task that was not admitted, or holds its ranges but has begun nothing.
    pub(super) fn withdraw(&mut self, slot: u32, outcome: Outcome, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get(slot as usize) else {
            return;
        };
        match task.stage {
            Stage::Range => {
                let origin = task.origin;
                let op = self.tasks.remove(slot as usize).op;
                let mut granted = Vec::new();
                self.locks.cancel(Slot::Task(slot).holder(), &mut granted);
                match origin {
                    Origin::Copy => self.on_copy_step(&op, false, false, actions),
                    Origin::Sanitize(run) => self.on_sanitize_step(run, &op, &outcome, actions),
                    Origin::Event(number) => self.on_event_flushed(number, outcome, actions),
                    origin => self.end(origin, outcome, actions),
                }
                self.granted(granted, actions);
                self.after_task(slot, actions);
            }
            Stage::Credit => {
                self.mirror.waits_no_more(slot);
                self.finish(slot, outcome, actions);
            }
            Stage::Read | Stage::Lease | Stage::Legs => {}
        }
    }

    /// Takes back those of the tasks which have begun nothing that `chosen` picks. The end of one may let another have
    /// its slot: whoever is in it then is looked at anew.
    pub(super) fn withdraw_those(
        &mut self,
        outcome: &Outcome,
        actions: &mut Vec<Action>,
        chosen: impl Fn(&Task) -> bool,
    ) {
        let chosen = |task: &Task| matches!(task.stage, Stage::Range | Stage::Credit) && chosen(task);
        let found = self.tasks.iter().filter(|(_, task)| chosen(task));
        let slots: Vec<u32> = found.map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            if self.tasks.get(slot as usize).is_some_and(&chosen) {
                self.withdraw(slot, outcome.clone(), actions);
            }
        }
    }

    /// Those who waited for ranges go on.
    pub(super) fn granted(&mut self, holders: Vec<Holder>, actions: &mut Vec<Action>) {
        for holder in holders {
            match Slot::of_holder(holder) {
                Slot::Task(slot) => self.admitted(slot, actions),
                Slot::Apply(slot) => self.apply_granted(slot, actions),
            }
        }
    }

    /// Tells the origin of a task how it ended.
    pub(super) fn end(&self, origin: Origin, outcome: Outcome, actions: &mut Vec<Action>) {
        match origin {
            Origin::Host { nexus, tag } => actions.push(Action::Answer { nexus, tag, outcome }),
            Origin::Peer { link, id } => {
                let (ending, payload) = match outcome {
                    Outcome::Good(data) => (Ending::Good, data),
                    Outcome::Check(sense) => (Ending::Check(sense), Data::new()),
                    Outcome::Status(status) => (Ending::Status(status), Data::new()),
                    Outcome::Aborted => (Ending::Aborted, Data::new()),
                };
                let message = Message::Ended { id, ending };
                let generation = self.view.generation;
                actions.push(Action::Send { via: Via::Link(link), message, payload, generation });
            }
            Origin::Copy | Origin::Sanitize(_) | Origin::Event(_) | Origin::Nobody => {}
        }
    }

    /// What waited too long is never executed.
    pub(super) fn expire_tasks(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.withdraw_those(&Outcome::Status(Status::Busy), actions, |task| {
            matches!(task.origin, Origin::Host { .. } | Origin::Peer { .. })
                && now.since(task.received) >= COMMAND_AGE_MAX
        });
    }

    /// Tells the peer what is on both copies, when no other message did.
    pub(super) fn tell_released(&mut self, actions: &mut Vec<Action>) {
        if self.is_mirrored()
            && let Some(released) = self.mirror.tell()
        {
            let generation = self.view.generation;
            let message = Message::Released { released };
            actions.push(Action::Send { via: Via::AnyBridge, message, payload: Data::new(), generation });
        }
    }

    /// Those who wait for the peer's buffers go on in their order, as far as there is room.
    fn resume_credit(&mut self, actions: &mut Vec<Action>) {
        while let Some(slot) = self.mirror.first_waiting() {
            self.change(slot, actions);
            if self.tasks.get(slot as usize).is_some_and(|task| task.stage == Stage::Credit) {
                return;
            }
            self.mirror.first_goes();
        }
    }

    /// Whether changes go to both copies.
    pub(super) const fn is_mirrored(&self) -> bool {
        matches!((self.view.role, self.view.service), (Role::Main, Service::Mirrored))
    }

    /// Turns a message's operation into a command, checked against this LUN.
    pub(super) fn op_from_wire(
        &self,
        op: protocol::interlink::WireOp,
        payload: &Bytes,
        durable: bool,
    ) -> Option<Op> {
        from_wire(op, payload, durable, self.setup.blocks)
    }
}
