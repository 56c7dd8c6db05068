//! Hosts' commands on their way from the sub to main: kept in the communication volume, sent when main has room, ended
//! by what main and the local copy say.
//!
//! ```text
//!  Queued ──► AtMain ──► Ordered ──► answered when both copies have it
//!     │          │          │
//!     │          │          └─ the interlink goes away while the local copy takes it ─► Lost ──► ABORTED COMMAND
//!     │          ├─ the interlink goes away, main goes on without asking ───────────► Adrift ─► ABORTED COMMAND, late
//!     │          └─ ended at main without a change
//!     └─ never sent: BUSY when too old
//! ```
//!
//! What always holds:
//! * What a command may use of main's room it gives back once: with its end, or when that main is lost.
//! * GOOD for a change needs both copies ([`Forwarder::both`]).
//! * A command that was queued when the interlink, its nexus or its time went away is never executed.

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;
use protocol::interlink::event::Event;
use protocol::interlink::{Ending, GenerationTag, Message, WireOp};
use protocol::scsi::sense::{Sense, Status};

use super::LunCounters;
use super::budget::Budget;
use super::communication::{CommunicationVolume, Forward, MainsCopy, Progress};
use super::operation::{asks_durable, ordered, payload_bytes, to_wire};
use super::overdue::Oldest;
use super::task::Action;
use super::unit_state::UnitState;
use crate::command::{COMMAND_AGE_MAX, Command, Data, NexusId, Op, Outcome, TaskTag};
use crate::link::Via;
use crate::pair::PairView;
use crate::time::Time;

/// How much older than [`COMMAND_AGE_MAX`] main may take a command for that is not, its clock being another.
const CLOCKS_MARGIN: Duration = Duration::from_secs(1);

/// How commands leave for main.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Way {
    /// The generation that they carry.
    pub(super) generation: GenerationTag,
    /// Whether main reads events of the version that knows of formats.
    pub(super) formats: bool,
}

impl Way {
    /// In this place in the pair.
    pub(super) fn of(view: &PairView) -> Self {
        Self { generation: view.generation, formats: view.peer_reads_formats() }
    }
}

/// A change that main has ordered, for the local copy.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) slot: u32,
    pub(super) op: Op,
    pub(super) durable: bool,
}

/// What the end at main means here.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum AtMain {
    /// Nothing: the command is not known here any more.
    Unknown,
    /// It is over.
    Over(u32, Outcome),
    /// Main's copy could not take what was ordered: to be looked at with [`Forwarder::both`].
    Lacks(u32),
    /// Main did not admit it because an older state had let it pass.
    Again(u32),
    /// That cannot be.
    ProtocolViolation,
}

/// The commands that one LUN of a sub has forwarded.
#[derive(Debug)]
pub(super) struct Forwarder {
    kept: CommunicationVolume,
    /// Main's room for them.
    room: Budget,
    /// Those that wait for room, in their order.
    queue: VecDeque<u32>,
    counters: LunCounters,
}

impl Forwarder {
    pub(super) fn new(room: Budget) -> Self {
        Self {
            kept: CommunicationVolume::default(),
            room,
            queue: VecDeque::new(),
            counters: LunCounters::default(),
        }
    }

    /// From now on there is so much room.
    pub(super) const fn set_room(&mut self, room: Budget) {
        self.room = room;
    }

    /// The communication volume.
    pub(super) const fn volume(&self) -> &CommunicationVolume {
        &self.kept
    }

    /// The room at main, what is taken of it, and the most that ever was.
    pub(super) const fn usage(&self) -> (u64, u64, u64) {
        self.room.usage()
    }

    /// What commands met on their way so far.
    pub(super) const fn counters(&self) -> LunCounters {
        self.counters
    }

    /// Nothing of it is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.kept.len() == 0
    }

    /// Nothing of it is under way.
    pub(super) fn is_quiet(&self) -> bool {
        self.kept.slots(|request| request.progress != Progress::Adrift).is_empty()
    }

    /// Keeps a host's command, and sends it if main has room and nobody waits for that. `unit`: the state by which it
    /// was let pass.
    pub(super) fn forward(
        &mut self,
        command: Command,
        unit: &UnitState,
        way: Way,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        let Command { nexus, tag, op, received, .. } = command;
        if matches!(op, Op::Read { .. } | Op::Verify { .. }) {
            self.counters.contended_reads += 1;
        }
        let request = Forward {
            id: 0,
            nexus,
            tag,
            bytes: payload_bytes(&op),
            durable: !unit.caches() || asks_durable(&op),
            op,
            version: unit.version(),
            received,
            progress: Progress::Queued,
            given_up: false,
        };
        let Some(slot) = self.kept.put(request) else {
            // TASK SET FULL tells a host to wait for its own commands (SAM-5 5.3.1).
            let status = if self.kept.len() > 0 { Status::TaskSetFull } else { Status::Busy };
            return actions.push(Action::Answer { nexus, tag, outcome: Outcome::Status(status) });
        };
        self.counters.forwards += 1;
        if self.queue.is_empty()
            && let Some(action) = self.send(slot, way, now)
        {
            return actions.push(action);
        }
        self.counters.credit_waits += 1;
        self.queue.push_back(slot);
    }

    /// `None`: main has no room.
    fn send(&mut self, slot: u32, way: Way, now: Time) -> Option<Action> {
        let request = self.kept.get(slot)?;
        if !self.room.take(request.bytes) {
            return None;
        }
        request.progress = Progress::AtMain { done: false };
        let (op, payload) = match to_wire(&request.op) {
            (WireOp::Event(event), payload) if !way.formats => {
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
        Some(Action::Send { via: Via::AnyBridge, message, payload, generation: way.generation })
    }

    /// Sends what waited for room, oldest first.
    pub(super) fn resume(&mut self, way: Way, now: Time, actions: &mut Vec<Action>) {
        while let Some(slot) = self.queue.front().copied() {
            let Some(action) = self.send(slot, way, now) else {
                return;
            };
            actions.push(action);
            self.queue.pop_front();
        }
    }

    /// Main has admitted a change: what is kept for it goes to the local copy. `None` if that cannot be.
    pub(super) fn on_order(&mut self, id: u64, sequence: u64, result: &Bytes) -> Option<Order> {
        let slot = self.kept.slot_of(id)?;
        let request = self.kept.get(slot)?;
        let (Progress::AtMain { done }, Some(op)) = (request.progress, ordered(&request.op, result)) else {
            return None;
        };
        let main = if done { MainsCopy::Has } else { MainsCopy::Writing };
        request.progress = Progress::Ordered { sequence, here: false, main };
        Some(Order { slot, op, durable: request.durable })
    }

    /// The local copy has a change.
    pub(super) fn on_applied_here(&mut self, slot: u32) {
        if let Some(Progress::Ordered { here, .. }) = self.progress(slot) {
            *here = true;
        }
    }

    /// Main's copy has a change; which.
    pub(super) fn on_done(&mut self, id: u64) -> Option<u32> {
        let slot = self.kept.slot_of(id)?;
        match self.progress(slot) {
            Some(Progress::AtMain { done }) => *done = true,
            Some(Progress::Ordered { main, .. }) => *main = MainsCopy::Has,
            _ => {}
        }
        Some(slot)
    }

    /// A command ended at main without a change.
    pub(super) fn on_ended(&mut self, id: u64, ending: Ending, payload: &Bytes) -> AtMain {
        let Some(slot) = self.kept.slot_of(id) else {
            return AtMain::Unknown;
        };
        let Some(request) = self.kept.get(slot) else {
            return AtMain::Unknown;
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
            (Ending::Stale, _) if request.progress.is_at_main() => return AtMain::Again(slot),
            (Ending::Stale, _) => return AtMain::ProtocolViolation,
        };
        let Progress::Ordered { main, .. } = &mut request.progress else {
            return AtMain::Over(slot, outcome);
        };
        // Ordered, then main's own copy could not take it and leaves the pair. The host hears of it when the copy here
        // is done with it.
        if *main == MainsCopy::Writing {
            *main = MainsCopy::Lacks(match outcome {
                Outcome::Check(sense) => sense,
                _ => Sense::ABORTED_COMMAND,
            });
        }
        AtMain::Lacks(slot)
    }

    /// How a change ends that both copies are done with. GOOD, if both have it: then its range is free here too, by its
    /// place in the order. It is not where main's copy could not take it: it may yet be this copy that leaves the pair,
    /// so nobody reads what it alone has before that is decided.
    pub(super) fn both(&mut self, slot: u32) -> Option<(Option<u64>, Outcome)> {
        match *self.progress(slot)? {
            Progress::Ordered { sequence, here: true, main: MainsCopy::Has } => {
                Some((Some(sequence), Outcome::Good(Data::new())))
            }
            Progress::Ordered { here: true, main: MainsCopy::Lacks(sense), .. } => {
                Some((None, Outcome::Check(sense)))
            }
            _ => None,
        }
    }

    /// A command is over: its host hears of it, and what waited for its room goes.
    pub(super) fn end(
        &mut self,
        slot: u32,
        outcome: Outcome,
        way: Way,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        let Some(request) = self.take(slot) else {
            return;
        };
        actions.push(Action::Answer { nexus: request.nexus, tag: request.tag, outcome });
        self.resume(way, now, actions);
    }

    /// Takes a command out, without a word to its host. What waited for its room goes with [`Forwarder::resume`].
    pub(super) fn take(&mut self, slot: u32) -> Option<Forward> {
        let request = self.kept.take(slot)?;
        if request.progress == Progress::Queued {
            self.queue.retain(|queued| *queued != slot);
        }
        if request.progress.holds_room() {
            self.room.give(request.bytes);
        }
        Some(request)
    }

    /// Ends the commands that have not left for main, of those that `chosen` picks.
    pub(super) fn withdraw(
        &mut self,
        chosen: impl Fn(&Forward) -> bool,
        outcome: &Outcome,
        way: Way,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        for slot in self.kept.slots(|request| request.progress == Progress::Queued && chosen(request)) {
            // The end of another may have let it go.
            if self.progress(slot).is_some_and(|progress| *progress == Progress::Queued) {
                self.end(slot, outcome.clone(), way, now, actions);
            }
        }
    }

    /// Asks main to give up what it has not admitted. What it says to each comes as to any other; a request that
    /// overtakes its command is too early, and the command ends as it would have.
    pub(super) fn cancel(
        &mut self,
        chosen: impl Fn(NexusId, TaskTag) -> bool,
        generation: GenerationTag,
        actions: &mut Vec<Action>,
    ) {
        let sent =
            self.kept.slots(|request| request.progress.is_at_main() && chosen(request.nexus, request.tag));
        for slot in sent {
            if let Some(request) = self.kept.get(slot) {
                let message = Message::Cancel { id: request.id };
                let (via, payload) = (Via::AnyBridge, Data::new());
                actions.push(Action::Send { via, message, payload, generation });
            }
        }
    }

    /// A reset: what main has not admitted, it never does. What has left carries an older version.
    pub(super) fn reset(&mut self, way: Way, now: Time, actions: &mut Vec<Action>) {
        for slot in self.kept.slots(|request| !matches!(request.op, Op::Event(_))) {
            let Some(request) = self.kept.get(slot) else {
                continue;
            };
            request.given_up = true;
            if request.progress == Progress::Queued {
                self.end(slot, Outcome::Aborted, way, now, actions);
            }
        }
    }

    /// What was queued too long is never executed; nor is what is adrift after some time more.
    pub(super) fn expire(&mut self, way: Way, now: Time, actions: &mut Vec<Action>) {
        let old = |request: &Forward| now.since(request.received) >= COMMAND_AGE_MAX;
        self.withdraw(old, &Outcome::Status(Status::Busy), way, now, actions);
        let too_old = |request: &Forward| now.since(request.received) >= COMMAND_AGE_MAX + CLOCKS_MARGIN;
        for slot in self.kept.slots(|request| request.progress == Progress::Adrift && too_old(request)) {
            self.end(slot, Outcome::Check(Sense::ABORTED_COMMAND), way, now, actions);
        }
    }

    /// The interlink is gone. `writing`: what the local copy is taking. `main_goes_on`: without asking for this copy.
    pub(super) fn lose(&mut self, writing: &[u32], main_goes_on: bool, actions: &mut Vec<Action>) {
        self.queue.clear();
        for slot in self.kept.slots(|_| true) {
            let Some(request) = self.kept.get(slot) else {
                continue;
            };
            let before = request.progress;
            let changes = !matches!(request.op, Op::Read { .. } | Op::Verify { .. } | Op::Report { .. });
            let after = match before {
                _ if writing.contains(&slot) => Some(Progress::Lost),
                Progress::AtMain { .. } if main_goes_on && changes => Some(Progress::Adrift),
                Progress::Adrift => Some(Progress::Adrift),
                _ => None,
            };
            if let Some(after) = after {
                request.progress = after;
                // The room was that main's, which this controller may never meet again.
                if before.holds_room() {
                    self.room.give(request.bytes);
                }
                continue;
            }
            let sense = match before {
                Progress::Queued => Sense::UNAVAILABLE,
                _ => Sense::ABORTED_COMMAND,
            };
            if let Some(request) = self.take(slot) {
                let outcome = Outcome::Check(sense);
                actions.push(Action::Answer { nexus: request.nexus, tag: request.tag, outcome });
            }
        }
    }

    /// What only main can end.
    pub(super) fn oldest(&self) -> Oldest {
        // Main gives up at once what it does not admit, and says at once what it admits.
        let command = self.kept.oldest(|request| {
            request.progress.is_at_main()
                && !matches!(request.op, Op::Event(_) | Op::Read { .. } | Op::Verify { .. })
        });
        // What waits for a sanitize has no deadline.
        let event = self.kept.oldest(|request| {
            let waits = |event: &Event| !matches!(event, Event::Sanitize { .. });
            request.progress.is_at_main() && matches!(&request.op, Op::Event(event) if waits(event))
        });
        Oldest { command, event }
    }

    fn progress(&mut self, slot: u32) -> Option<&mut Progress> {
        self.kept.get(slot).map(|request| &mut request.progress)
    }
}

#[cfg(test)]
#[path = "forwarder_tests.rs"]
mod tests;
