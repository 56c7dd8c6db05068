//! What main does to the LUN without a host: the pieces of a resync ([`super::resync`]) and of a sanitize operation
//! ([`super::sanitizing`]), admitted like commands of hosts, and what becomes of them.

use bytes::Bytes;
use protocol::interlink::sanitize::Sanitize;
use protocol::scsi::sense::Sense;

use super::operation::is_zero;
use super::resync::{After, Refused, next_piece};
use super::sanitizing::Started;
use super::task::{Action, Leg, Origin, Slot};
use super::{Lun, Stage};
use crate::command::{Data, Op, Outcome};
use crate::disk::DiskIo;
use crate::pair::{Role, Service};
use crate::status::SanitizeStatus;
use crate::time::Time;

impl Lun {
    /// Starts as many pieces of a resync as may run; after the last, a flush of both copies.
    pub(super) fn pump_resync(&mut self, actions: &mut Vec<Action>) {
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
        match origin {
            Origin::Copy => {}
            Origin::Sanitize(run) => self.on_sanitize_step(run, &op, &outcome, actions),
            Origin::Event(number) => self.on_event_flushed(number, outcome, actions),
            origin => self.end(origin, outcome, actions),
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

    /// Main may change blocks for the operation that the state names.
    fn may_sanitize(&self) -> bool {
        self.view.role == Role::Main
            && self.view.service != Service::Refused
            && self.gate.is_open()
            && self.events.knows_the_state()
    }

    /// Starts as many pieces of a sanitize operation as may run; after the last of a segment, a flush of both copies.
    pub(super) fn pump_sanitize(&mut self, actions: &mut Vec<Action>) {
        let Sanitize::UnderWay { order, at } = &self.unit.state().sanitize else {
            return;
        };
        if !self.may_sanitize() {
            return;
        }
        let (order, at, blocks) = (order.clone(), *at, self.setup.blocks);
        while let Some(Started { run, op, before }) = self.sanitizing.next(&order, at, blocks) {
            if !self.enter(Origin::Sanitize(run), op, false, Time(0), actions) {
                // Asked for again with the next tick, or when another piece is over.
                return self.sanitizing.take_back(before);
            }
        }
    }

    /// Time has passed.
    pub(super) fn tick_background(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.resync.tick();
        self.pump_resync(actions);
        if matches!(self.unit.state().sanitize, Sanitize::UnderWay { .. }) {
            self.sanitizing.tick(now);
            self.pump_sanitize(actions);
        }
    }

    /// A piece of a sanitize operation, or the flush at the end of a segment, is over.
    pub(super) fn on_sanitize_step(
        &mut self,
        run: u32,
        op: &Op,
        outcome: &Outcome,
        actions: &mut Vec<Action>,
    ) {
        let (state, blocks) = (&self.unit.state().sanitize, self.setup.blocks);
        if let Some(event) = self.sanitizing.on_step(run, op, outcome, state, blocks) {
            self.take_turn(Origin::Nobody, Op::Event(Box::new(event)), false, Time(0), actions);
        }
        self.pump_sanitize(actions);
    }

    /// A SANITIZE has begun, and whoever asked for it waits until it is over.
    pub(super) fn await_sanitize(&mut self, origin: Origin, actions: &mut Vec<Action>) {
        let aborted = Outcome::Check(Sense::ABORTED_COMMAND);
        self.end_sanitize_wait(&aborted, actions, |_| true);
        self.sanitizing.wait(origin);
    }

    /// Answers who waits for the end, if it has come.
    pub(super) fn answer_sanitize(&mut self, actions: &mut Vec<Action>) {
        if matches!(self.unit.state().sanitize, Sanitize::UnderWay { .. }) {
            return;
        }
        let outcome = self.unit.state().sanitize.sense(0).map_or(Outcome::Good(Data::new()), Outcome::Check);
        self.end_sanitize_wait(&outcome, actions, |_| true);
    }

    /// Ends the waiting of whom `chosen` picks. The operation goes on.
    pub(super) fn end_sanitize_wait(
        &mut self,
        outcome: &Outcome,
        actions: &mut Vec<Action>,
        chosen: impl Fn(Origin) -> bool,
    ) {
        if let Some(origin) = self.sanitizing.wait_no_more(chosen) {
            self.end(origin, outcome.clone(), actions);
        }
    }

    /// What people are told of a sanitize operation.
    #[must_use]
    pub fn sanitize_status(&self) -> Option<SanitizeStatus> {
        self.sanitizing.status(&self.unit.state().sanitize, self.setup.blocks)
    }
}
