//! The LUN core at the sub: hosts' commands on their way to main, and main's changes on their way to the own
//! copy.
//!
//! A forwarded change ends for its host when the own copy has it and main's DONE has come. Its range stays held
//! until then; the range of a change of main's own hosts until a later message says that it is on both copies.
//!
//! When the interlink breaks, what main may have is answered ABORTED COMMAND at once: main completes nothing more before
//! it has noticed too, and then admits nothing of this any more. A main that has the only good copy completes what it
//! gets without asking: there the answer waits until the command is too old for main, so that the host's next write cannot
//! come before it ([`Sent::Adrift`]).

use core::time::Duration;

use bytes::Bytes;
use protocol::interlink::{Ending, Message, Prefix, WireOp};
use protocol::scsi::sense::{Sense, Status};

use super::Lun;
use super::operation::{asks_durable, is_atomic, payload_bytes, ranges, to_disk, to_wire};
use super::task::{Action, Apply, ApplyStage, Forward, Origin, Sent, Slot};
use crate::command::{COMMAND_AGE_MAX, Command, Data, LunIndex, NexusId, Op, Outcome, TaskTag};
use crate::disk::{DiskIo, DiskResult};
use crate::exclusive::{Mode, Ranges, Request};
use crate::link::{LinkId, Via};
use crate::pair::Breakage;
use crate::time::Time;

/// How much older than [`COMMAND_AGE_MAX`] main may take a command for that is not, its clock being another.
const CLOCKS_MARGIN: Duration = Duration::from_secs(1);

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
                    Some(op) => self.apply(link, sequence, &op, durable, None, actions),
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
        let bytes = payload_bytes(&op);
        let durable = !self.caches() || asks_durable(&op);
        if matches!(op, Op::Read { .. } | Op::Verify { .. }) {
            self.counters.contended_reads += 1;
        }
        let request = Forward {
            id: 0,
            nexus,
            tag,
            op,
            durable,
            version: self.shared.stamp.version,
            received,
            sent: Sent::Kept,
            done: false,
            failed: None,
            given_up: false,
            applied: false,
            sequence: 0,
            bytes,
        };
        match self.communication.put(request) {
            Some(placed) if placed.ready => {
                self.counters.forwards += 1;
                if !self.kept.is_empty() || !self.send_forward(placed.slot, now, actions) {
                    self.counters.credit_waits += 1;
                    self.kept.push_back(placed.slot);
                }
            }
            Some(_) => {}
            None => {
                let status = if self.communication.len() > 0 { Status::TaskSetFull } else { Status::Busy };
                actions.push(Action::Answer { nexus, tag, outcome: Outcome::Status(status) });
            }
        }
    }

    fn send_forward(&mut self, slot: u32, now: Time, actions: &mut Vec<Action>) -> bool {
        let generation = self.view.generation;
        let reads_formats = self.peer_reads_formats();
        let Some(request) = self.communication.get(slot) else {
            return true;
        };
        if !self.forward_credit.take(request.bytes) {
            return false;
        }
        request.sent = Sent::AtMain;
        let (op, payload) = match to_wire(&request.op) {
            (WireOp::Event(event), payload) if !reads_formats => {
                (WireOp::Event(Box::new(event.in_version_1())), payload)
            }
            readable => readable,
        };
        let age_ms = u32::try_from(now.since(request.received).as_millis()).unwrap_or(u32::MAX);
        let message = Message::Forward {
            sent: now.0,
            id: request.id,
            age_ms,
            durable: request.durable,
            version: request.version,
            op,
        };
        actions.push(Action::Send { via: Via::AnyBridge, message, payload, generation });
        true
    }

    /// Sends what was kept for want of credit, oldest first.
    fn resume_forwards(&mut self, now: Time, actions: &mut Vec<Action>) {
        while let Some(slot) = self.kept.front().copied() {
            if !self.send_forward(slot, now, actions) {
                return;
            }
            self.kept.pop_front();
        }
    }

    /// Main has admitted a forwarded change: the own copy takes what is kept for it.
    fn on_order(&mut self, link: LinkId, id: u64, sequence: u64, result: &Bytes, actions: &mut Vec<Action>) {
        let Some(slot) = self.communication.slot_of(id) else {
            return actions.push(Action::Broken(Breakage::Nonsense, self.view.generation));
        };
        let Some(request) = self.communication.get(slot) else {
            return;
        };
        let ordered = ordered(&request.op, result);
        let (Sent::AtMain, Some(op)) = (request.sent, ordered) else {
            return actions.push(Action::Broken(Breakage::Nonsense, self.view.generation));
        };
        request.sent = Sent::Ordered;
        request.sequence = sequence;
        let durable = request.durable;
        self.apply(link, sequence, &op, durable, Some(slot), actions);
    }

    /// A change main has ordered: it waits for reads of the own copy, then is written.
    fn apply(
        &mut self,
        link: LinkId,
        sequence: u64,
        op: &Op,
        durable: bool,
        forward: Option<u32>,
        actions: &mut Vec<Action>,
    ) {
        let (ranges, _) = ranges(op);
        if !self.locks.is_free(Mode::Exclusive, &ranges) {
            self.release_overtaken(&ranges, actions);
        }
        let (io, atomic) = (to_disk(op), is_atomic(op));
        let verify = matches!(op, Op::WriteAndVerify { .. });
        let start = if let Op::StartStop { start } = op { Some(*start) } else { None };
        let (link, stage) = (Some(link), ApplyStage::Range);
        let apply = Apply { sequence, link, io, atomic, ranges, durable, verify, start, stage, forward };
        let slot = self.applies.insert(apply) as u32;
        let ranges = &self.applies[slot as usize].ranges;
        match self.locks.request(Slot::Apply(slot).holder(), Mode::Exclusive, ranges) {
            Request::Granted => self.apply_granted(slot, actions),
            Request::Waits => {}
            Request::Refused => {
                self.applies.remove(slot as usize);
                actions.push(Action::Broken(Breakage::Nonsense, self.view.generation));
            }
        }
    }

    /// Main orders no change of a range before the one before it is on both copies: an order is as good as the
    /// word that those it overlaps are free.
    fn release_overtaken(&mut self, ranges: &Ranges, actions: &mut Vec<Action>) {
        let overtaken: Vec<u64> = self
            .unreleased
            .iter()
            .filter(|(_, slot)| {
                self.applies.get(**slot as usize).is_some_and(|apply| apply.ranges.overlap(ranges))
            })
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in overtaken {
            self.release_apply(sequence, actions);
        }
    }

    /// The range of a change is free of the own copy's reads.
    pub(super) fn apply_granted(&mut self, slot: u32, actions: &mut Vec<Action>) {
        let Some(apply) = self.applies.get_mut(slot as usize) else {
            return;
        };
        apply.stage = if apply.io == DiskIo::Flush { ApplyStage::Flushing } else { ApplyStage::Writing };
        let (io, atomic) = (apply.io.clone(), apply.atomic);
        actions.extend(self.volume.change(Slot::Apply(slot), io, atomic));
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
        let Some(apply) = self.applies.get_mut(slot as usize) else {
            return;
        };
        if result.is_ok() && apply.stage == ApplyStage::Writing && apply.durable {
            apply.stage = ApplyStage::Flushing;
            return actions.push(self.volume.submit(Slot::Apply(slot), DiskIo::Flush));
        }
        if let (true, true, ApplyStage::Flushing, DiskIo::Write { range, data }) =
            (result.is_ok(), apply.verify, apply.stage, &apply.io)
        {
            let io = DiskIo::Verify { range: *range, data: data.clone() };
            apply.stage = ApplyStage::Verifying;
            return actions.push(self.volume.submit(Slot::Apply(slot), io));
        }
        if let (Some(start), true) = (apply.start, result.is_ok()) {
            self.stopped = !start;
        }
        let Some(link) = apply.link else {
            return self.drop_lost_apply(slot, now, actions);
        };
        let message = Message::Applied { sequence: apply.sequence, good: result.is_ok() };
        actions.push(Action::Send { via: Via::Link(link), message, payload: Data::new(), generation });
        apply.stage = ApplyStage::Release;
        self.unreleased.insert(apply.sequence, slot);
        let forward = apply.forward;
        if let Err(error) = result {
            actions.push(Action::Broken(Breakage::OwnDisk(error), self.view.generation));
            if let Some(forward) = forward {
                self.end_forward(forward, Outcome::Check(Sense::ABORTED_COMMAND), now, actions);
            }
            return;
        }
        if let Some(forward) = forward {
            if let Some(request) = self.communication.get(forward) {
                request.applied = true;
            }
            self.answer_if_both(forward, now, actions);
        }
    }

    /// Main's own copy has a forwarded change.
    fn on_done(&mut self, id: u64, now: Time, actions: &mut Vec<Action>) {
        let Some(slot) = self.communication.slot_of(id) else {
            return;
        };
        if let Some(request) = self.communication.get(slot) {
            request.done = true;
        }
        self.answer_if_both(slot, now, actions);
    }

    /// GOOD, once both copies have it; then its range is free here too. It is not where main's copy could not take it:
    /// it may yet be this copy that leaves the pair, so nobody reads what it alone has before that is decided.
    fn answer_if_both(&mut self, slot: u32, now: Time, actions: &mut Vec<Action>) {
        let Some(request) = self.communication.get(slot) else {
            return;
        };
        let sequence = request.sequence;
        let outcome = match (request.applied, request.done, request.failed) {
            (true, true, _) => {
                self.release_apply(sequence, actions);
                Outcome::Good(Data::new())
            }
            (true, false, Some(sense)) => Outcome::Check(sense),
            _ => return,
        };
        self.end_forward(slot, outcome, now, actions);
    }

    /// A forwarded command ended at main without a change.
    fn on_ended(&mut self, id: u64, ending: Ending, payload: &Bytes, now: Time, actions: &mut Vec<Action>) {
        let Some(slot) = self.communication.slot_of(id) else {
            return;
        };
        let Some(request) = self.communication.get(slot) else {
            return;
        };
        let outcome = match (ending, &request.op) {
            (Ending::Good, Op::Read { range }) if payload.len() as u64 == range.bytes() => {
                Outcome::Good(vec![payload.clone()])
            }
            (Ending::Good, Op::Report { allocation, .. })
                if payload.len() as u64 <= u64::from(*allocation) =>
            {
                Outcome::Good(vec![payload.clone()])
            }
            (Ending::Good, Op::Read { .. } | Op::Report { .. }) => Outcome::Check(Sense::ABORTED_COMMAND),
            (Ending::Good, Op::Event(_)) if !payload.is_empty() => Outcome::Good(vec![payload.clone()]),
            (Ending::Good, _) => Outcome::Good(Data::new()),
            (Ending::Check(sense), _) => Outcome::Check(sense),
            (Ending::Status(status), _) => Outcome::Status(status),
            (Ending::Aborted, _) => Outcome::Aborted,
            (Ending::Stale, _) if request.given_up => Outcome::Aborted,
            (Ending::Stale, _) if request.sent == Sent::AtMain => {
                return self.check_again(slot, now, actions);
            }
            (Ending::Stale, _) => {
                return actions.push(Action::Broken(Breakage::Nonsense, self.view.generation));
            }
        };
        if request.sent == Sent::Ordered {
            // Ordered, then main's own copy could not take it and leaves the pair. The host hears of it when the
            // copy here is done with it.
            request.failed = Some(match outcome {
                Outcome::Check(sense) => sense,
                _ => Sense::ABORTED_COMMAND,
            });
            return self.answer_if_both(slot, now, actions);
        }
        self.end_forward(slot, outcome, now, actions);
    }

    /// Main did not admit a command that an older shared state let pass: back to the door with it.
    fn check_again(&mut self, slot: u32, now: Time, actions: &mut Vec<Action>) {
        if let Some(request) = self.communication.take(slot) {
            if request.sent.holds_credit() {
                self.forward_credit.give(request.bytes);
            }
            let Forward { nexus, tag, op, received, .. } = request;
            let lun = LunIndex(self.setup.index);
            self.command(Command { lun, nexus, tag, op, received }, now, actions);
            self.resume_forwards(now, actions);
        }
    }

    fn end_forward(&mut self, slot: u32, outcome: Outcome, now: Time, actions: &mut Vec<Action>) {
        let Some(request) = self.communication.take(slot) else {
            return;
        };
        if request.sent == Sent::Kept {
            self.kept.retain(|kept| *kept != slot);
        }
        if request.sent.holds_credit() {
            self.forward_credit.give(request.bytes);
        }
        actions.push(Action::Answer { nexus: request.nexus, tag: request.tag, outcome });
        self.resume_forwards(now, actions);
    }

    /// Takes back a command that has not left for main.
    pub(super) fn withdraw_forward(
        &mut self,
        slot: u32,
        outcome: Outcome,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        if self.communication.get(slot).is_some_and(|request| request.sent == Sent::Kept) {
            self.end_forward(slot, outcome, now, actions);
        }
    }

    /// Asks main to give up what it has not admitted. What it says to each comes as to any other; a request that
    /// overtakes its command is too early, and the command ends as it would have.
    pub(super) fn cancel_forwards(
        &mut self,
        chosen: impl Fn(NexusId, TaskTag) -> bool,
        actions: &mut Vec<Action>,
    ) {
        let generation = self.view.generation;
        let sent = self
            .communication
            .slots(|request| request.sent == Sent::AtMain && chosen(request.nexus, request.tag));
        for slot in sent {
            if let Some(request) = self.communication.get(slot) {
                let message = Message::Cancel { id: request.id };
                let (via, payload) = (Via::AnyBridge, Data::new());
                actions.push(Action::Send { via, message, payload, generation });
            }
        }
    }

    /// What was kept too long is never executed; nor is what is adrift after some time more.
    pub(super) fn expire_forwards(&mut self, now: Time, actions: &mut Vec<Action>) {
        let old = self
            .communication
            .slots(|request| request.sent == Sent::Kept && now.since(request.received) >= COMMAND_AGE_MAX);
        for slot in old {
            self.withdraw_forward(slot, Outcome::Status(Status::Busy), now, actions);
        }
        let too_old = |request: &Forward| now.since(request.received) >= COMMAND_AGE_MAX + CLOCKS_MARGIN;
        let over = self.communication.slots(|request| request.sent == Sent::Adrift && too_old(request));
        for slot in over {
            self.end_forward(slot, Outcome::Check(Sense::ABORTED_COMMAND), now, actions);
        }
    }

    /// Everything below `released` is on both copies: its ranges are free for reads of the own copy.
    pub(super) fn on_released(&mut self, released: u64, actions: &mut Vec<Action>) {
        while let Some((sequence, _)) = self.unreleased.first_key_value() {
            let sequence = *sequence;
            if sequence >= released {
                return;
            }
            self.release_apply(sequence, actions);
        }
    }

    fn release_apply(&mut self, sequence: u64, actions: &mut Vec<Action>) {
        let Some(slot) = self.unreleased.remove(&sequence) else {
            return;
        };
        let Some(apply) = self.applies.try_remove(slot as usize) else {
            return;
        };
        let mut granted = Vec::new();
        let holder = Slot::Apply(slot).holder();
        self.locks.release(holder, Mode::Exclusive, &apply.ranges, &mut granted);
        self.granted(granted, actions);
    }

    /// A change whose bridge went away while the disk had it is over; its host cannot know how it ended.
    fn drop_lost_apply(&mut self, slot: u32, now: Time, actions: &mut Vec<Action>) {
        let Some(apply) = self.applies.try_remove(slot as usize) else {
            return;
        };
        let mut granted = Vec::new();
        let holder = Slot::Apply(slot).holder();
        self.locks.release(holder, Mode::Exclusive, &apply.ranges, &mut granted);
        if let Some(forward) = apply.forward {
            self.end_forward(forward, Outcome::Check(Sense::ABORTED_COMMAND), now, actions);
        }
        self.granted(granted, actions);
    }

    /// The interlink is gone: see [`Lun::suspend`]. `main_goes_on`: without asking for this copy.
    pub(super) fn suspend_sub_side(&mut self, main_goes_on: bool, actions: &mut Vec<Action>) {
        let mut granted = Vec::new();
        self.unreleased.clear();
        self.kept.clear();
        let mut writing = Vec::new();
        let slots: Vec<u32> = self.applies.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            let Some(apply) = self.applies.get_mut(slot as usize) else {
                continue;
            };
            apply.link = None;
            let holder = Slot::Apply(slot).holder();
            match apply.stage {
                ApplyStage::Range => {
                    self.applies.remove(slot as usize);
                    self.locks.cancel(holder, &mut granted);
                }
                ApplyStage::Release => {
                    let apply = self.applies.remove(slot as usize);
                    self.locks.release(holder, Mode::Exclusive, &apply.ranges, &mut granted);
                }
                ApplyStage::Writing | ApplyStage::Flushing | ApplyStage::Verifying => {
                    writing.extend(apply.forward);
                }
            }
        }
        for slot in self.communication.slots(|_| true) {
            let Some(request) = self.communication.get(slot) else {
                continue;
            };
            // The room was that main's, which this controller may never meet again.
            if request.sent.holds_credit() {
                self.forward_credit.give(request.bytes);
            }
            if writing.contains(&slot) {
                request.sent = Sent::Lost;
                continue;
            }
            let changes = !matches!(request.op, Op::Read { .. } | Op::Verify { .. } | Op::Report { .. });
            if main_goes_on && request.sent == Sent::AtMain && changes {
                request.sent = Sent::Adrift;
            }
            if request.sent == Sent::Adrift {
                continue;
            }
            let kept = request.sent == Sent::Kept;
            let sense = if kept { Sense::UNAVAILABLE } else { Sense::ABORTED_COMMAND };
            if let Some(request) = self.communication.take(slot) {
                let outcome = Outcome::Check(sense);
                actions.push(Action::Answer { nexus: request.nexus, tag: request.tag, outcome });
            }
        }
        self.granted(granted, actions);
    }
}

/// What the own copy takes for a forwarded change that main has ordered, if the two fit each other: what its host
/// sent, but for an ORWRITE what main made of it.
fn ordered(op: &Op, result: &Bytes) -> Option<Op> {
    match op {
        Op::OrWrite { range, fua, .. } if result.len() as u64 == range.bytes() => {
            Some(Op::WriteAtomic { range: *range, data: vec![result.clone()], fua: *fua })
        }
        Op::OrWrite { .. } | Op::Event(_) => None,
        op => result.is_empty().then(|| op.clone()),
    }
}
