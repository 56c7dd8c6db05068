//! How a command is carried out once its ranges are granted, to its end.
//!
//! ```text
//!  a read      Read ─► answered with a proof ([`super::reading`]), or Lease ─► answered, or done by main after all
//!  a change    (Read ─►) Credit ─► Legs   peer: Writing ─► Done   local: Writing ─► Flushing ─► Verifying ─► Done
//!              either leg may end Lost instead; with neither on its way the change ends ([`Blocks::finish_if_whole`])
//!  at the sub  a change of the local copy in main's order ([`crate::lun::replica`])
//! ```
//!
//! A chunk of a resync is a read that becomes a change for the peer's copy alone. What is next for a task when it has
//! its data, or when its legs have ended, is decided in [`super::next`]; here it is carried out.

use protocol::interlink::Message;
use protocol::scsi::sense::Sense;

use super::next::{Local, Next, after_legs, after_read, after_read_error};
use super::terms::Fate;
use super::{Blocks, Happened};
use crate::command::{Command, Data, Op, Outcome};
use crate::disk::{DiskError, DiskIo, DiskResult};
use crate::exclusive::{Holder, Mode, Request};
use crate::link::Via;
use crate::lun::operation::{payload_bytes, ranges};
use crate::lun::redo::Step;
use crate::lun::replica::{Applied, Ordered};
use crate::lun::report::report_io;
use crate::lun::resync::{After, next_chunk};
use crate::lun::task::{Action, Leg, Origin, Slot, Stage, Task, end};
use crate::lun::volume::Completion;
use crate::pair::PairFault;
use crate::time::Time;
use crate::world::Ticket;

impl Blocks {
    /// The ranges of a task are held.
    pub(super) fn admitted(&mut self, slot: u32, actions: &mut Vec<Action>) {
        let refused = self.terms.may_not_admit();
        let Some(task) = self.tasks.get_mut(slot) else {
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
                let io = report_io(*what, *allocation, self.terms.capacity());
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
    pub(super) fn on_data(&mut self, slot: u32, data: Data, now: Time, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(slot) else {
            return;
        };
        let copies = self.resync.is_under_way();
        let next = after_read(task, data, &Local { terms: &self.terms, lease: &self.lease, copies, now });
        self.go_on(slot, next, actions);
    }

    /// Carries out what is next for a task.
    fn go_on(&mut self, slot: u32, next: Next, actions: &mut Vec<Action>) {
        match next {
            Next::Waits => {}
            Next::Finish(outcome) => self.finish(slot, outcome, actions),
            Next::PutBack => self.put_back(slot, actions),
            Next::Change => self.change(slot, actions),
            Next::ToMain => self.leave_to_main(slot, actions),
            Next::Lease(data) => self.tasks.wait_for_lease(slot, data),
            Next::Undecided => {
                if let Some(task) = self.tasks.get_mut(slot) {
                    let origin = core::mem::replace(&mut task.origin, Origin::Nobody);
                    self.hear(origin, Outcome::Check(Sense::ABORTED_COMMAND), actions);
                }
            }
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

    /// A piece, or the flush at the end, is over; or blocks are that were copied again (`repeat`).
    fn on_copy_step(&mut self, op: &Op, repeat: bool, good: bool, actions: &mut Vec<Action>) {
        match self.resync.on_step(op, repeat, good) {
            After::GoesOn => {}
            After::Decide => self.decide_lost(actions),
            After::Complete => actions.push(Action::CopyComplete(self.terms.view().generation)),
        }
    }

    /// Sends a change on its legs, once the peer has room for its data.
    fn change(&mut self, slot: u32, actions: &mut Vec<Action>) {
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
        match task.begin_own_leg() {
            Some((io, atomic)) => actions.extend(self.volume.change(Slot::Task(slot), io, atomic)),
            None => self.finish_if_whole(slot, actions),
        }
    }

    /// A task's disk I/O is complete.
    fn on_task_disk(&mut self, slot: u32, result: DiskResult, now: Time, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(slot) else {
            return;
        };
        match (task.stage, result) {
            (Stage::Read, Ok(data)) => self.on_data(slot, data, now, actions),
            (Stage::Read, Err(error)) => {
                if self.terms.has_other_copy() {
                    let generation = self.terms.view().generation;
                    actions.push(Action::Broken(PairFault::OwnDisk(error), generation));
                }
                let next = after_read_error(task, error, &self.terms);
                self.go_on(slot, next, actions);
            }
            (Stage::Legs, Ok(_)) => match task.own_leg_goes_on() {
                Some(io) => actions.push(self.volume.go_on(Slot::Task(slot), io)),
                None => {
                    actions.extend(task.done(self.terms.view().generation));
                    self.finish_if_whole(slot, actions);
                }
            },
            (Stage::Legs, Err(error)) => {
                let mirrored = task.peer != Leg::None;
                if mirrored && let Some(left) = self.resync.spoil(task.refused()) {
                    task.copied_again = Some(left);
                }
                task.failed = Some(error);
                task.own = Leg::Lost;
                if mirrored {
                    self.report_own_disk(error, actions);
                }
                self.finish_if_whole(slot, actions);
            }
            (Stage::Range | Stage::Credit | Stage::Lease, _) => {}
        }
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

    /// A change main has ordered: it waits for reads of the local copy, then is written.
    pub(in crate::lun) fn apply(&mut self, ordered: &Ordered<'_>, actions: &mut Vec<Action>) {
        let (ranges, _) = ranges(ordered.op);
        if !self.tasks.locks().is_free(Mode::Exclusive, &ranges) {
            for sequence in self.replica.overtaken(&ranges) {
                self.release_apply(sequence, actions);
            }
        }
        match self.replica.take(ordered, self.tasks.locks()) {
            (slot, Request::Granted) => actions.extend(self.replica.start(slot, &mut self.volume)),
            (_, Request::Waits) => {}
            (_, Request::Refused) => {
                actions.push(Action::Broken(PairFault::ProtocolViolation, self.terms.view().generation));
            }
        }
    }

    /// The local disk is done with a change that main has ordered.
    fn on_apply_disk(&mut self, slot: u32, result: DiskResult, actions: &mut Vec<Action>) {
        let generation = self.terms.view().generation;
        let starts = |start| self.terms.on_start_stop(start);
        let (link, sequence, forward) = match self.replica.on_disk(slot, &result, starts) {
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
            actions.push(Action::Broken(PairFault::OwnDisk(*error), generation));
        }
        self.happened.extend(forward.map(|forward| Happened::Applied { forward, good: result.is_ok() }));
    }

    /// Everything below `released` is on both copies: its ranges are free for reads of the local copy.
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

    /// The pair is decided on: so are the changes that waited for it.
    pub(super) fn decide_lost(&mut self, actions: &mut Vec<Action>) {
        for slot in self.tasks.chosen(Task::awaits_decision) {
            self.finish_if_whole(slot, actions);
        }
    }

    /// Ends a change when its legs have come so far that the mode has it answered. Its blocks are free then, or after
    /// they were copied again.
    pub(super) fn finish_if_whole(&mut self, slot: u32, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get(slot) else {
            return;
        };
        let legs = task.legs();
        if task.stage != Stage::Legs || !self.mode.answers_at(legs) {
            return;
        }
        let copied_again = task.copied_again.is_some() && self.resync.goes_on();
        match after_legs(task, copied_again, self.terms.fate(self.resync.ends())) {
            Next::Finish(outcome) if !self.mode.frees_at(legs, copied_again) => {
                self.copy_again(slot, outcome, actions);
            }
            next => self.go_on(slot, next, actions),
        }
    }

    /// Both have done with a change that the local copy could not take, or with a piece of its blocks: the next one.
    /// Its origin hears of the end at once; the ranges stay held.
    fn copy_again(&mut self, slot: u32, outcome: Outcome, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(slot) else {
            return;
        };
        let Some(range) = task.copied_again.as_mut().and_then(next_chunk) else {
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

    /// Back to the gate with a command that has begun nothing, to wait there for the decision about the pair.
    pub(super) fn put_back(&mut self, slot: u32, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(slot) else {
            return;
        };
        let Origin::Host { nexus, tag } = task.origin else {
            return self.finish(slot, Outcome::Check(Sense::UNAVAILABLE), actions);
        };
        task.origin = Origin::Nobody;
        let (op, received) = (task.op.clone(), task.received);
        let lun = self.index;
        self.happened.push_back(Happened::Back(Command { lun, nexus, tag, op, received }));
        self.finish(slot, Outcome::Aborted, actions);
    }

    /// A read of the local copy that is main's to do.
    fn leave_to_main(&mut self, slot: u32, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(slot) else {
            return;
        };
        let (op, received) = (task.op.clone(), task.received);
        let origin = core::mem::replace(&mut task.origin, Origin::Nobody);
        self.finish(slot, Outcome::Aborted, actions);
        if let Origin::Host { nexus, tag } = origin {
            let lun = self.index;
            self.happened.push_back(Happened::ToMain(Command { lun, nexus, tag, op, received }));
        }
    }

    /// A task is over, or was taken back: its ranges are free, its origin hears of it.
    pub(super) fn finish(&mut self, slot: u32, outcome: Outcome, actions: &mut Vec<Action>) {
        let mut granted = Vec::new();
        let Some(task) = self.tasks.end(slot, &mut granted) else {
            return;
        };
        if task.stage == Stage::Credit {
            self.mirror.waits_no_more(slot);
        }
        // Only now it is on both copies, and `released` may pass it.
        self.mirror.end(task.sequence, slot);
        if let (Op::StartStop { start }, Outcome::Good(_)) = (&task.op, &outcome) {
            self.terms.on_start_stop(*start);
        }
        match task.origin {
            Origin::Copy => {
                let good = outcome == Outcome::Good(Data::new());
                self.on_copy_step(&task.op, task.copied_again.is_some(), good, actions);
            }
            // A change of the peer's host was answered by DONE already.
            Origin::Peer { .. } if task.sequence != 0 && matches!(outcome, Outcome::Good(_)) => {}
            origin => self.tell(origin, task.op, outcome, actions),
        }
        self.granted(granted, actions);
    }

    /// Those who waited for ranges go on.
    pub(super) fn granted(&mut self, holders: Vec<Holder>, actions: &mut Vec<Action>) {
        for holder in holders {
            match Slot::of_holder(holder) {
                Slot::Task(slot) => self.admitted(slot, actions),
                Slot::Apply(slot) => actions.extend(self.replica.start(slot, &mut self.volume)),
            }
        }
    }

    /// Tells the origin of a task how it ended.
    fn tell(&mut self, origin: Origin, op: Op, outcome: Outcome, actions: &mut Vec<Action>) {
        match origin {
            Origin::Sanitize(run) => self.happened.push_back(Happened::Sanitized { run, op, outcome }),
            origin => self.hear(origin, outcome, actions),
        }
    }

    /// The same, where a piece of a sanitize operation is not over: that is begun again when its time has come.
    pub(super) fn hear(&mut self, origin: Origin, outcome: Outcome, actions: &mut Vec<Action>) {
        match origin {
            Origin::Event(number) => self.happened.push_back(Happened::Flushed { number, outcome }),
            origin => actions.extend(end(origin, outcome, self.terms.view().generation)),
        }
    }

    /// The local copy could not take a change. The only whole one stays when all it lacks is room: its hosts hear so,
    /// and can go on when there is some.
    fn report_own_disk(&self, error: DiskError, actions: &mut Vec<Action>) {
        if !(error.wants_room() && matches!(self.terms.fate(self.resync.ends()), Fate::Good)) {
            actions.push(Action::Broken(PairFault::OwnDisk(error), self.terms.view().generation));
        }
    }
}
