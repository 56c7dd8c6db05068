//! The LUN core at the sub: hosts' commands on their way to main, and main's changes on their way to the own
//! copy.
//!
//! A forwarded change ends for its host when the own copy has it and main's DONE has come. Its range stays held
//! until then; the range of a change of main's own hosts until a later message says that it is on both copies.
//!
//! When the interlink breaks, what main may have is answered ABORTED COMMAND at once: main completes nothing more before
//! it has noticed too, and then admits nothing of this any more. A main that has the only good copy completes what it
//! gets without asking: there the answer waits until the command is too old for main, so that the host's next write cannot
//! come before it ([`Progress::Adrift`]).

use bytes::Bytes;
use protocol::interlink::{Ending, Message, Prefix};
use protocol::scsi::sense::{Sense, Status};

use super::Lun;
use super::communication::{Forward, Progress};
use super::forwarder::{AtMain, Order, Submitted, Way};
use super::operation::{asks_durable, payload_bytes, ranges};
use super::replica::{Applied, Ordered};
use super::task::{Action, Origin, Slot};
use crate::command::{COMMAND_AGE_MAX, Command, Data, LunIndex, NexusId, Op, Outcome, TaskTag};
use crate::disk::DiskResult;
use crate::exclusive::{Mode, Ranges, Request};
use crate::link::{LinkId, Via};
use crate::pair::Breakage;
use crate::time::Time;

impl Lun {
    /// A message of the peer about this LUN. One of another generation, or by a connection that does not belong
    /// to this one, changes nothing.
    pub fn on_message(
        &mut self,
        link: LinkId,
        prefix: &Prefix,
        message: Message,
        payload: &Bytes,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        if prefix.generation != self.view.generation || !self.view.links.contains(&link) {
            return;
        }
        self.peer_in_place = true;
        match message {
            Message::Forward { id, age_ms, sent, durable, version, op } => {
                let op = self.op_from_wire(op, payload, durable);
                let age = core::time::Duration::from_millis(u64::from(age_ms));
                let age = age.saturating_add(self.lease.clock.way(sent, now));
                if age >= COMMAND_AGE_MAX {
                    // It was stuck on its way; its host has long given it up.
                    let outcome = Outcome::Status(Status::Busy);
                    return self.end(Origin::Peer { link, id }, outcome, actions);
                }
                let received = now - age;
                self.on_forward(link, id, op, (durable, version), received, actions);
            }
            Message::Cancel { id } => self.on_cancel(id, actions),
            Message::Applied { sequence, good } => self.on_applied(sequence, good, actions),
            Message::Order { id, sequence, released } => {
                self.on_released(released, actions);
                self.on_order(link, id, sequence, payload, actions);
            }
            Message::Done { id } => self.on_done(id, now, actions),
            Message::Ended { id, ending } => self.on_ended(id, ending, payload, now, actions),
            Message::Apply { sequence, released, durable, op } => {
                self.on_released(released, actions);
                match self.op_from_wire(op, payload, durable) {
                    Some(op) => {
                        self.apply(&Ordered { link, sequence, op: &op, durable, forward: None }, actions);
                    }
                    None => actions.push(Action::Broken(Breakage::Nonsense, self.view.generation)),
                }
            }
            Message::Released { released } => self.on_released(released, actions),
            Message::SharedAsk => self.on_shared_ask(link, actions),
            Message::SharedTold => self.on_shared_told(payload, actions),
            Message::Shared { reset, met, attentions } => {
                self.on_shared(link, (reset, met), attentions, payload, now, actions);
            }
            Message::SharedTaken { version } => self.on_shared_taken(version, actions),
            _ => {}
        }
    }

    /// How commands leave for main now.
    pub(super) fn way(&self) -> Way {
        Way { generation: self.view.generation, formats: self.peer_reads_formats() }
    }

    /// Keeps a host's command in the communication volume and sends it to main.
    pub(super) fn forward(
        &mut self,
        nexus: NexusId,
        tag: TaskTag,
        op: Op,
        received: Time,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        if matches!(op, Op::Read { .. } | Op::Verify { .. }) {
            self.counters.contended_reads += 1;
        }
        let request = Forward {
            id: 0,
            nexus,
            tag,
            bytes: payload_bytes(&op),
            durable: !self.caches() || asks_durable(&op),
            op,
            version: self.unit.version(),
            received,
            progress: Progress::Queued,
            given_up: false,
        };
        let way = self.way();
        match self.forwarder.submit(request, way, now) {
            Submitted::Leaves(action) => {
                self.counters.forwards += 1;
                actions.push(action);
            }
            Submitted::Queued => {
                self.counters.forwards += 1;
                self.counters.credit_waits += 1;
            }
            Submitted::Full(status) => {
                actions.push(Action::Answer { nexus, tag, outcome: Outcome::Status(status) });
            }
        }
    }

    /// Main has admitted a forwarded change: the own copy takes what is kept for it.
    fn on_order(&mut self, link: LinkId, id: u64, sequence: u64, result: &Bytes, actions: &mut Vec<Action>) {
        match self.forwarder.on_order(id, sequence, result) {
            Some(Order { slot, op, durable }) => {
                self.apply(&Ordered { link, sequence, op: &op, durable, forward: Some(slot) }, actions);
            }
            None => actions.push(Action::Broken(Breakage::Nonsense, self.view.generation)),
        }
    }

    /// A change main has ordered: it waits for reads of the own copy, then is written.
    fn apply(&mut self, ordered: &Ordered<'_>, actions: &mut Vec<Action>) {
        let (ranges, _) = ranges(ordered.op);
        if !self.locks.is_free(Mode::Exclusive, &ranges) {
            for sequence in self.replica.overtaken(&ranges) {
                self.release_apply(sequence, actions);
            }
        }
        match self.replica.take(ordered, &mut self.locks) {
            (slot, Request::Granted) => self.apply_granted(slot, actions),
            (_, Request::Waits) => {}
            (_, Request::Refused) => {
                actions.push(Action::Broken(Breakage::Nonsense, self.view.generation));
            }
        }
    }

    /// The range of a change is free of the own copy's reads.
    pub(super) fn apply_granted(&mut self, slot: u32, actions: &mut Vec<Action>) {
        actions.extend(self.replica.start(slot, &mut self.volume));
    }

    /// The own copy's disk is done with a change.
    pub(super) fn on_apply_disk(
        &mut self,
        slot: u32,
        result: DiskResult,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        let generation = self.view.generation;
        let (link, sequence, forward) = match self.replica.on_disk(slot, &result, &mut self.stopped) {
            Applied::Unknown => return,
            Applied::Goes(io) => return actions.push(self.volume.go_on(Slot::Apply(slot), io)),
            Applied::Lost(ranges, forward) => {
                return self.drop_lost_apply(slot, &ranges, forward, now, actions);
            }
            Applied::Over { link, sequence, forward } => (link, sequence, forward),
        };
        let message = Message::Applied { sequence, good: result.is_ok() };
        actions.push(Action::Send { via: Via::Link(link), message, payload: Data::new(), generation });
        match (result, forward) {
            (Ok(_), None) => {}
            (Ok(_), Some(forward)) => {
                self.forwarder.on_applied_here(forward);
                self.answer_if_both(forward, now, actions);
            }
            (Err(error), forward) => {
                actions.push(Action::Broken(Breakage::OwnDisk(error), self.view.generation));
                if let Some(forward) = forward {
                    self.end_forward(forward, Outcome::Check(Sense::ABORTED_COMMAND), now, actions);
                }
            }
        }
    }

    /// Main's own copy has a forwarded change.
    fn on_done(&mut self, id: u64, now: Time, actions: &mut Vec<Action>) {
        if let Some(slot) = self.forwarder.on_done(id) {
            self.answer_if_both(slot, now, actions);
        }
    }

    /// Answers a forwarded change that both copies are done with.
    fn answer_if_both(&mut self, slot: u32, now: Time, actions: &mut Vec<Action>) {
        let Some((free, outcome)) = self.forwarder.both(slot) else {
            return;
        };
        if let Some(sequence) = free {
            self.release_apply(sequence, actions);
        }
        self.end_forward(slot, outcome, now, actions);
    }

    /// A forwarded command ended at main without a change.
    fn on_ended(&mut self, id: u64, ending: Ending, payload: &Bytes, now: Time, actions: &mut Vec<Action>) {
        match self.forwarder.on_ended(id, ending, payload) {
            AtMain::Unknown => {}
            AtMain::Over(slot, outcome) => self.end_forward(slot, outcome, now, actions),
            AtMain::Lacks(slot) => self.answer_if_both(slot, now, actions),
            AtMain::Again(slot) => self.check_again(slot, now, actions),
            AtMain::Nonsense => actions.push(Action::Broken(Breakage::Nonsense, self.view.generation)),
        }
    }

    /// Main did not admit a command that an older shared state let pass: back to the door with it.
    fn check_again(&mut self, slot: u32, now: Time, actions: &mut Vec<Action>) {
        if let Some(request) = self.forwarder.take(slot) {
            let Forward { nexus, tag, op, received, .. } = request;
            let lun = LunIndex(self.setup.index);
            self.command(Command { lun, nexus, tag, op, received }, now, actions);
            let way = self.way();
            self.forwarder.resume(way, now, actions);
        }
    }

    fn end_forward(&mut self, slot: u32, outcome: Outcome, now: Time, actions: &mut Vec<Action>) {
        let way = self.way();
        self.forwarder.end(slot, outcome, way, now, actions);
    }

    /// Everything below `released` is on both copies: its ranges are free for reads of the own copy.
    pub(super) fn on_released(&mut self, released: u64, actions: &mut Vec<Action>) {
        while let Some(sequence) = self.replica.below(released) {
            self.release_apply(sequence, actions);
        }
    }

    fn release_apply(&mut self, sequence: u64, actions: &mut Vec<Action>) {
        let granted = self.replica.release(sequence, &mut self.locks);
        self.granted(granted, actions);
    }

    /// A change whose bridge went away while the disk had it is over; its host cannot know how it ended.
    fn drop_lost_apply(
        &mut self,
        slot: u32,
        ranges: &Ranges,
        forward: Option<u32>,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        let mut granted = Vec::new();
        self.locks.release(Slot::Apply(slot).holder(), Mode::Exclusive, ranges, &mut granted);
        if let Some(forward) = forward {
            self.end_forward(forward, Outcome::Check(Sense::ABORTED_COMMAND), now, actions);
        }
        self.granted(granted, actions);
    }

    /// The interlink is gone: see [`Lun::suspend`]. `main_goes_on`: without asking for this copy.
    pub(super) fn suspend_sub_side(&mut self, main_goes_on: bool, actions: &mut Vec<Action>) {
        let (writing, granted) = self.replica.lose(&mut self.locks);
        self.forwarder.lose(&writing, main_goes_on, actions);
        self.granted(granted, actions);
    }
}
