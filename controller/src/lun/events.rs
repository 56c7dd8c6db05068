//! Events in the LUN core: what changes the LUN other than its blocks goes one after the other through main, each a
//! barrier.
//!
//! ```text
//!            everything before it has ended        own record durable, the sub has it
//!  Draining ────────────────────────────────► Legs ───────────────────────────────────► answered
//! ```
//!
//! * What comes to main's door meanwhile, from its hosts or forwarded, waits behind the event and is checked
//!   against the new state when its turn comes. So nothing that was admitted under the old state is still under way
//!   when the event is answered, and nothing that waited slips by.
//! * Main sends the whole new state, not the event: the two cannot come to differ. The sub makes the durable part
//!   durable, tells its nexuses, and says so; main does the same, both at once. Neither shows the new state before.
//! * The sub checks its hosts' commands against its own copy of the state, and forwards them with that state's
//!   version. Main admits none of another version: the sub checks it again. No command carries names.
//! * One that ends the write cache flushes both copies between its draining and its legs ([`flushing`]).
//! * A reset, and a PREEMPT of those it drives out, end copies of the copy manager (`copy_permits.rs`): main concludes, and
//!   the sub says that it has it, when those copies have ended.
//! * An event that is on its legs when main loses its peer is completed by whoever goes on as main; one that had
//!   begun nothing goes back to the door, or, forwarded, is never executed.
//! * Main begins each standing in which it has a peer by asking for the peer's state. The newer of both holds.

mod flushing;
mod losing;

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;
use protocol::interlink::event::Event;
use protocol::interlink::shared::{Attention, NexusHandle, SharedState, Stamp};
use protocol::interlink::{Ending, Message};
use protocol::scsi::sense::{Sense, Status};

use super::task::{Action, Origin};
use super::{HELD_COMMANDS_MAX, Lun};
use crate::command::{COMMAND_AGE_MAX, Command, Data, LunIndex, NexusId, Op, Outcome, TaskTag};
use crate::link::{LinkId, Via};
use crate::pair::{Breakage, Role, Service};
use crate::route::{Kind, Route, route};
use crate::shared::{Applied, apply, stamped};
use crate::time::Time;

/// The tag of what the controller does for a nexus that is gone: nobody is left to be answered.
const NOBODYS_TAG: TaskTag = TaskTag::of(u32::MAX);

/// How long a session's end may go unanswered before main is told again.
const RELEASE_AGAIN: Duration = Duration::from_secs(1);

/// What waits behind an event, or is one.
#[derive(Debug)]
struct Waiting {
    origin: Origin,
    op: Op,
    durable: bool,
    received: Time,
    /// Of the state by which the peer let it pass.
    version: u64,
}

#[derive(Debug)]
enum What {
    /// The two have met: which state is the newer?
    Meet,
    Event(Box<Event>),
}

#[derive(Debug)]
enum Stage {
    /// What is before it has not ended.
    Draining,
    /// The write cache is about to end: the flush of this number is on its way, then done. See [`flushing`].
    Flushing(u32),
    Flushed,
    /// The sub has been asked for its state.
    Asking,
    /// On its way to both disks.
    Legs(Box<Legs>),
}

#[derive(Debug)]
struct Legs {
    next: SharedState,
    attentions: Vec<Attention>,
    data: Data,
    /// What hosts of the sub have under way ends first.
    reset: bool,
    /// The record that has to be durable here, until it is.
    own: Option<u64>,
    /// The sub has not taken it yet.
    peer: bool,
}

/// An event under way at main.
#[derive(Debug)]
struct Running {
    what: What,
    origin: Origin,
    received: Time,
    stage: Stage,
}

/// What main sent, under way at the sub.
#[derive(Debug)]
pub(super) struct Taking {
    pub(super) link: LinkId,
    pub(super) state: SharedState,
    pub(super) attentions: Vec<Attention>,
    /// The record that has to be durable, until it is.
    pub(super) own: Option<u64>,
    /// Commands of own hosts that have to end first.
    pub(super) drain: Vec<u32>,
    /// Main tells it because the two have met.
    pub(super) met: bool,
}

/// Who reaches the LUN how, as unit attentions tell it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Access {
    role: Role,
    serving: bool,
    peer: bool,
}

/// The events of one LUN.
#[derive(Debug, Default)]
pub(super) struct Events {
    running: Option<Running>,
    pub(super) taking: Option<Taking>,
    /// In their order; at most [`HELD_COMMANDS_MAX`].
    behind: VecDeque<Waiting>,
    /// The LUN has its place, and the peer has.
    open: bool,
    /// The two have met, and have not found which state is the newer.
    meets: bool,
    /// One of `behind` is having its turn.
    pumping: bool,
    /// Flushes that events began.
    flushes: u32,
    /// When main was last told of a session's end.
    release_told: Option<Time>,
    access: Option<Access>,
}

impl Events {
    /// Nothing is under way, neither here nor for the peer.
    pub(super) fn is_quiet(&self) -> bool {
        self.running.is_none() && self.taking.is_none() && self.behind.is_empty() && !self.meets
    }

    /// Something waits for other commands to end.
    pub(super) const fn is_waiting(&self) -> bool {
        self.running.is_some() || self.taking.is_some()
    }

    /// The state that holds is known, and no event is about to change it.
    pub(super) fn knows_the_state(&self) -> bool {
        self.open && self.running.is_none() && !self.meets && self.behind.is_empty() && !self.pumping
    }

    fn holds_the_door(&self) -> bool {
        !self.pumping && (self.running.is_some() || self.meets || !self.behind.is_empty())
    }
}

impl Lun {
    /// A command that is done here takes its turn: at main behind an event, if there is one.
    pub(super) fn take_turn(
        &mut self,
        origin: Origin,
        op: Op,
        durable: bool,
        received: Time,
        actions: &mut Vec<Action>,
    ) {
        if !matches!(op, Op::Event(_)) && !self.events.holds_the_door() {
            self.enter(origin, op, durable, received, actions);
            return;
        }
        let version = self.unit.version();
        self.wait_behind(Waiting { origin, op, durable, received, version }, actions);
    }

    /// A forwarded command: main admits it only if it was let pass by the state that holds here.
    pub(super) fn take_forwarded(
        &mut self,
        link: LinkId,
        id: u64,
        op: Op,
        (durable, version): (bool, u64),
        received: Time,
        actions: &mut Vec<Action>,
    ) {
        let origin = Origin::Peer { link, id };
        let event = matches!(op, Op::Event(_));
        if event || self.events.holds_the_door() {
            return self.wait_behind(Waiting { origin, op, durable, received, version }, actions);
        }
        if version == self.unit.version() {
            self.enter(origin, op, durable, received, actions);
            return;
        }
        self.send_back(link, id, actions);
    }

    /// A forwarded command that was not admitted goes back to the door it came in by.
    pub(super) fn send_back(&self, link: LinkId, id: u64, actions: &mut Vec<Action>) {
        let (message, payload) = (Message::Ended { id, ending: Ending::Stale }, Data::new());
        let generation = self.view.generation;
        actions.push(Action::Send { via: Via::Link(link), message, payload, generation });
    }

    fn wait_behind(&mut self, waiting: Waiting, actions: &mut Vec<Action>) {
        if self.events.behind.len() >= HELD_COMMANDS_MAX {
            return self.end(waiting.origin, Outcome::Status(Status::Busy), actions);
        }
        self.events.behind.push_back(waiting);
        self.pump_events(actions);
    }

    /// Takes events as far as they get.
    pub(super) fn pump_events(&mut self, actions: &mut Vec<Action>) {
        if self.events.pumping {
            return;
        }
        self.events.pumping = true;
        self.take_if_ready(actions);
        while self.events.open && self.step_event(actions) {}
        self.events.pumping = false;
        self.pump_sanitize(actions);
    }

    /// One step at main; false if there is nothing to do now.
    fn step_event(&mut self, actions: &mut Vec<Action>) -> bool {
        let Some(running) = &self.events.running else {
            if core::mem::take(&mut self.events.meets) {
                let (what, origin, received) = (What::Meet, Origin::Nobody, Time(0));
                self.events.running = Some(Running { what, origin, received, stage: Stage::Draining });
                return true;
            }
            let Some(waiting) = self.events.behind.pop_front() else {
                return false;
            };
            self.have_turn(waiting, actions);
            return true;
        };
        match &running.stage {
            Stage::Draining if self.is_drained() => self.carry_out(actions),
            Stage::Legs(legs)
                if !legs.peer
                    && legs.own.is_none_or(|own| self.keeper.has(own))
                    && !self.permits.awaits() =>
            {
                self.conclude(actions);
            }
            Stage::Flushed => self.carry_out(actions),
            Stage::Draining | Stage::Flushing(_) | Stage::Asking | Stage::Legs(_) => return false,
        }
        true
    }

    /// What waited behind an event has its turn, at the door if a host of this controller sent it.
    fn have_turn(&mut self, waiting: Waiting, actions: &mut Vec<Action>) {
        let Waiting { origin, op, durable, received, version } = waiting;
        match (op, origin) {
            (Op::Event(event), _) => {
                let reset = *event == Event::Reset;
                let what = What::Event(event);
                self.events.running = Some(Running { what, origin, received, stage: Stage::Draining });
                if reset {
                    self.give_up_waiting(actions);
                }
            }
            (op, Origin::Host { nexus, tag }) => {
                let lun = LunIndex(self.setup.index);
                self.command(Command { lun, nexus, tag, op, received }, received, actions);
            }
            (op, Origin::Peer { link, id }) => {
                self.take_forwarded(link, id, op, (durable, version), received, actions);
            }
            (_, Origin::Copy | Origin::Sanitize(_) | Origin::Event(_) | Origin::Nobody) => {}
        }
    }

    /// A reset: what hosts asked for and was not admitted never is.
    pub(super) fn give_up_waiting(&mut self, actions: &mut Vec<Action>) {
        self.withdraw_those(&Outcome::Aborted, actions, |task| {
            matches!(task.origin, Origin::Host { .. } | Origin::Peer { .. })
        });
        self.end_sanitize_wait(&Outcome::Aborted, actions, |_| true);
    }

    /// No host's command is under way here, not even one that this copy was asked for as the sub's, and none will be
    /// carried out by the next start.
    fn is_drained(&self) -> bool {
        !self.must_blot()
            && self.replica.is_empty()
            && !self
                .tasks
                .iter()
                .any(|(_, task)| matches!(task.origin, Origin::Host { .. } | Origin::Peer { .. }))
    }

    /// The event may forbid a write that a record, which a failed disk left behind, would carry out at the next start.
    fn must_blot(&self) -> bool {
        let forbids = |event: &Event| matches!(event, Event::ReserveOut { .. });
        let Some(Running { what: What::Event(event), .. }) = &self.events.running else { return false };
        forbids(event) && self.volume.has_record_left()
    }

    /// Nothing is before the event any more.
    fn carry_out(&mut self, actions: &mut Vec<Action>) {
        let Some(mut running) = self.events.running.take() else {
            return;
        };
        let event = match &running.what {
            What::Meet => {
                self.tell_sub(Message::SharedAsk, Data::new(), actions);
                running.stage = Stage::Asking;
                self.events.running = Some(running);
                return;
            }
            What::Event(event) => event,
        };
        match apply(self.unit.state(), event, self.setup.write_cache) {
            Err(outcome) => self.end(running.origin, outcome, actions),
            Ok(Applied { next: None, data, .. }) => self.end(running.origin, Outcome::Good(data), actions),
            Ok(Applied { next: Some(next), .. })
                if self.ends_write_cache(&next) && !matches!(running.stage, Stage::Flushed) =>
            {
                self.flush_first(running, actions);
            }
            Ok(Applied { next: Some(next), attentions, data, reset }) => {
                let next = stamped(next, self.stamp_generation());
                let legs = self.start_legs(next, attentions, data, (reset, false), actions);
                running.stage = Stage::Legs(Box::new(legs));
                self.events.running = Some(running);
            }
        }
    }

    /// The new state goes to both disks, and to the sub's nexuses, at once.
    fn start_legs(
        &mut self,
        next: SharedState,
        attentions: Vec<Attention>,
        data: Data,
        (reset, met): (bool, bool),
        actions: &mut Vec<Action>,
    ) -> Legs {
        let next = self.as_peer_reads(next);
        let peer = !self.view.links.is_empty();
        if peer {
            let message = Message::Shared { reset, met, attentions: attentions.clone() };
            self.tell_sub(message, vec![next.encode()], actions);
        }
        let own = self.keep(&next, actions);
        self.revoke_for(reset, &attentions, actions);
        Legs { next, attentions, data, reset, own, peer }
    }

    fn tell_sub(&self, message: Message, payload: Data, actions: &mut Vec<Action>) {
        let generation = self.view.generation;
        actions.push(Action::Send { via: Via::AnyBridge, message, payload, generation });
    }

    /// Both have it: it holds, and whoever asked for it hears so.
    fn conclude(&mut self, actions: &mut Vec<Action>) {
        let Some(Running { what, origin, stage: Stage::Legs(legs), .. }) = self.events.running.take() else {
            return;
        };
        self.install(legs.next, &legs.attentions, matches!(what, What::Meet));
        self.answer_sanitize(actions);
        let waits = |event: &Event| matches!(event, Event::Sanitize { order: Some(_), immed: false, .. });
        match what {
            What::Event(event) if waits(&event) => self.await_sanitize(origin, actions),
            _ => self.end(origin, Outcome::Good(legs.data), actions),
        }
    }

    /// The sub tells which state it has: the newer of both holds.
    pub(super) fn on_shared_told(&mut self, payload: &Bytes, actions: &mut Vec<Action>) {
        let asking =
            |running: &mut Running| matches!((&running.what, &running.stage), (What::Meet, Stage::Asking));
        let Some(mut running) = self.events.running.take_if(asking) else {
            return;
        };
        let Ok(theirs) = SharedState::decode(payload) else {
            return actions.push(Action::Broken(Breakage::Nonsense, self.view.generation));
        };
        let mut newer =
            if theirs.stamp > self.unit.state().stamp { theirs } else { self.unit.state().clone() };
        newer.stamp = Stamp { generation: self.view.generation.number, whole: true, ..newer.stamp };
        let legs = self.start_legs(newer, Vec::new(), Data::new(), (false, true), actions);
        running.stage = Stage::Legs(Box::new(legs));
        self.events.running = Some(running);
        self.pump_events(actions);
    }

    /// The sub has the new state.
    pub(super) fn on_shared_taken(&mut self, version: u64, actions: &mut Vec<Action>) {
        if let Some(Running { stage: Stage::Legs(legs), .. }) = &mut self.events.running
            && legs.next.stamp.version == version
        {
            legs.peer = false;
        }
        self.pump_events(actions);
    }

    /// What names the event that waits for the sub's word alone.
    pub(super) fn event_at_sub(&self) -> Option<u64> {
        match &self.events.running.as_ref()?.stage {
            Stage::Asking => Some(u64::MAX),
            Stage::Legs(legs) if legs.peer => Some(legs.next.stamp.version),
            Stage::Draining | Stage::Flushing(_) | Stage::Flushed | Stage::Legs(_) => None,
        }
    }

    /// A task has ended; events may have waited for it.
    pub(super) fn after_task(&mut self, slot: u32, actions: &mut Vec<Action>) {
        if self.events.is_waiting() {
            if let Some(taking) = &mut self.events.taking {
                taking.drain.retain(|awaited| *awaited != slot);
            }
            self.pump_events(actions);
        }
    }

    /// Hosts are served from here on: with a peer, the newer state is found first.
    pub(super) fn open_events(&mut self, actions: &mut Vec<Action>) {
        self.note_access();
        if self.view.role != Role::Main {
            return;
        }
        self.events.open = true;
        if self.view.links.is_empty() {
            self.stamp_alone(actions);
            self.end_peers_reservation(actions);
            return self.pump_events(actions);
        }
        self.events.meets = true;
        self.send_again(actions);
        self.pump_events(actions);
    }

    /// The generation in the stamp of what main makes of the state now. Without a peer it is the next one: what the peer
    /// remembers of this one is older, and the next meeting makes a newer.
    fn stamp_generation(&self) -> u64 {
        let alone = self.view.links.is_empty();
        self.view.generation.number.saturating_add(u64::from(alone))
    }

    /// Whatever a peer keeps in its memory is older than what is here, also after a restart of this controller: the
    /// stamp that says so is durable before any event is answered without the peer.
    fn stamp_alone(&mut self, actions: &mut Vec<Action>) {
        let generation = self.stamp_generation();
        self.unit.stamp_generation(generation);
        let on_legs = match &mut self.events.running {
            Some(Running { stage: Stage::Legs(legs), .. }) => {
                legs.next.stamp.generation = generation;
                Some(legs.next.clone())
            }
            _ => None,
        };
        let state = on_legs.as_ref().unwrap_or_else(|| self.unit.state());
        // A LUN that no event ever changed has nothing to lose.
        if state.stamp.version == 0 || self.keeper.generation() == generation {
            return;
        }
        let own = self.record(&state.clone(), actions);
        if let Some(Running { stage: Stage::Legs(legs), .. }) = &mut self.events.running {
            legs.own = Some(own);
        }
    }

    /// The two lost each other with an event on its legs, and have met again: the sub may not have it.
    fn send_again(&mut self, actions: &mut Vec<Action>) {
        let reads_formats = self.peer_reads_formats();
        let Some(Running { what, stage: Stage::Legs(legs), .. }) = &mut self.events.running else {
            return;
        };
        legs.peer = true;
        if !reads_formats {
            legs.next.sanitize = core::mem::take(&mut legs.next.sanitize).in_version_1();
        }
        let met = matches!(what, What::Meet);
        let message = Message::Shared { reset: legs.reset, met, attentions: legs.attentions.clone() };
        let payload = vec![legs.next.encode()];
        self.tell_sub(message, payload, actions);
    }

    /// Ends what waits behind an event and `chosen` picks.
    pub(super) fn give_up_behind(
        &mut self,
        outcome: &Outcome,
        actions: &mut Vec<Action>,
        chosen: impl Fn(Origin, Time) -> bool,
    ) {
        let draining = |running: &mut Running| {
            matches!(running.stage, Stage::Draining | Stage::Flushing(_))
                && chosen(running.origin, running.received)
        };
        if let Some(running) = self.events.running.take_if(draining) {
            self.end(running.origin, outcome.clone(), actions);
        }
        if self.events.behind.iter().any(|waiting| chosen(waiting.origin, waiting.received)) {
            let (gone, stay) = core::mem::take(&mut self.events.behind)
                .into_iter()
                .partition(|waiting| chosen(waiting.origin, waiting.received));
            self.events.behind = stay;
            let gone: VecDeque<Waiting> = gone;
            for waiting in gone {
                self.end(waiting.origin, outcome.clone(), actions);
            }
        }
        self.pump_events(actions);
    }

    /// A reset of a LUN that is not served here: there is nothing to be done but to tell the own nexuses.
    pub(super) fn reset_out_of_service(&mut self, nexus: NexusId, tag: TaskTag, actions: &mut Vec<Action>) {
        self.unit.raise_for_all(Sense::LOGICAL_UNIT_RESET);
        actions.push(Action::Answer { nexus, tag, outcome: Outcome::Good(Data::new()) });
    }

    /// Time has passed.
    pub(super) fn tick_events(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.events.is_waiting() || !self.events.behind.is_empty() {
            let busy = Outcome::Status(Status::Busy);
            self.give_up_behind(&busy, actions, |origin, received| {
                matches!(origin, Origin::Host { .. } | Origin::Peer { .. })
                    && now.since(received) >= COMMAND_AGE_MAX
            });
        }
        if self.must_blot() {
            actions.extend(self.volume.blot_stuck_record());
        }
        self.end_lost_reservation(now, actions);
    }

    /// A legacy reservation ends with its session (SPC-2 5.5.1); main is told until it says so.
    pub(super) fn end_lost_reservation(&mut self, now: Time, actions: &mut Vec<Action>) {
        let Some(reserver) = self.unit.state().reserver else {
            return;
        };
        let told = |at: Time| now.since(at) < RELEASE_AGAIN;
        if !self.unit.is_of_lost_session(reserver) || self.events.release_told.is_some_and(told) {
            return;
        }
        let way = route(self.view.role, self.view.service, Kind::Change);
        if matches!(way, Route::ToMain) && !self.peer_in_place {
            return;
        }
        self.events.release_told = Some(now);
        let op = Op::Event(Box::new(Event::ReserverLost(reserver)));
        match way {
            Route::Here => self.take_turn(Origin::Nobody, op, false, now, actions),
            Route::ToMain => self.forward(NexusId(reserver.nexus), NOBODYS_TAG, op, now, now, actions),
            Route::Refuse => {}
        }
    }

    /// Main goes on without its peer: whoever reserved the LUN over there cannot tell when its session ends.
    fn end_peers_reservation(&mut self, actions: &mut Vec<Action>) {
        let peers = |reserver: &NexusHandle| self.unit.is_of_peer(*reserver);
        if let Some(reserver) = self.unit.state().reserver.filter(peers) {
            let op = Op::Event(Box::new(Event::ReserverLost(reserver)));
            self.take_turn(Origin::Nobody, op, false, Time(0), actions);
        }
    }

    /// Hosts are told when the ways to the LUN have changed (SPC-4 5.15.2): main has moved, or this controller or
    /// the other does or does not serve it any more.
    fn note_access(&mut self) {
        let serving = self.view.service != Service::Refused;
        let peer = !self.view.links.is_empty();
        let access = Access { role: self.view.role, serving, peer };
        // A controller begins by serving nobody: hosts may have been told so already.
        let before = self.events.access.replace(access).unwrap_or(Access { serving: false, ..access });
        if before != access {
            self.unit.raise_for_all(Sense::ASYMMETRIC_ACCESS_STATE_CHANGED);
        }
    }
}
