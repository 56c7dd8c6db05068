//! Events: what changes the LUN other than its blocks goes one after the other through main, each a barrier.
//!
//! ```text
//!            everything before it has ended        own record durable, the sub has it
//!  Draining ────────────────────────────────► Legs ───────────────────────────────────► answered
//!      │                                       ▲
//!      └─ it ends the write cache ─► Flushing ─┘ both copies are flushed
//! ```
//!
//! * What comes to main's gate meanwhile, from its hosts or forwarded, waits behind the event and is checked
//!   against the new state when its turn comes. So nothing that was admitted under the old state is still under way
//!   when the event is answered, and nothing that waited slips by.
//! * Main sends the whole new state, not the event: the two cannot come to differ. The sub makes the durable part
//!   durable, tells its nexuses, and says so ([`receiving`]); main does the same, both at once. Neither shows the
//!   new state before.
//! * The sub checks its hosts' commands against its own copy of the state, and forwards them with that state's
//!   version. Main admits none of another version: the sub checks it again. No command carries names.
//! * A reset, and a PREEMPT of those it drives out, end copies of the copy manager (`copy_permits.rs`): main concludes,
//!   and the sub says that it has it, when those copies have ended.
//! * An event that is on its legs when main loses its peer is completed by the controller that goes on as main; one
//!   that had begun nothing goes back to the gate, or, forwarded, is never executed.
//! * Main begins each place in a pair in which it has a peer by asking for the peer's state. The newer of both holds.
//!
//! What always holds ([`Events::check`]): an event under way at main and a state being taken at the sub exclude each
//! other while the LUN is served, and no more wait than may.

mod access;
mod keeper;
mod lost_reserver;
mod receiving;
mod running;
mod step;

use std::collections::VecDeque;

use bytes::Bytes;
use protocol::interlink::Message;
use protocol::interlink::event::Event;
use protocol::interlink::shared::{Attention, NexusHandle, SharedState, Stamp};
use protocol::scsi::sense::{Sense, Status};

use super::HELD_COMMANDS_MAX;
use super::task::{Action, Origin};
use super::unit_state::UnitState;
use crate::command::{Data, Op, Outcome};
use crate::link::Via;
use crate::pair::{PairFault, Role};
use crate::shared::{Applied, apply, stamped};
use crate::time::Time;
use crate::world::Ticket;

use access::AccessNotes;
use keeper::Keeper;
use lost_reserver::LostReserver;
use receiving::Receiving;
pub(super) use receiving::Taking;
use running::{Legs, Running, Stage, What};
pub(super) use step::{Facts, Here, Step, Waiting};

/// The events of one LUN on one controller.
#[derive(Debug)]
pub(super) struct Events {
    /// WCE where no host has set it.
    write_cache: bool,
    /// The shared state on this controller's disk, or on its way there.
    keeper: Keeper,
    running: Option<Running>,
    receiving: Receiving,
    /// In their order; at most [`HELD_COMMANDS_MAX`].
    behind: VecDeque<Waiting>,
    /// The LUN has its place, and the peer has.
    open: bool,
    /// The two have met, and have not found which state is the newer.
    meets: bool,
    /// Flushes that events began.
    flushes: u32,
    lost_reserver: LostReserver,
    access: AccessNotes,
}

impl Events {
    /// No event; `restored` is on this controller's disk. `index`: the LUN's place in the controller's table.
    pub(super) fn new(index: u16, write_cache: bool, restored: SharedState) -> Self {
        Self {
            write_cache,
            keeper: Keeper::new(index, restored),
            running: None,
            receiving: Receiving::default(),
            behind: VecDeque::new(),
            open: false,
            meets: false,
            flushes: 0,
            lost_reserver: LostReserver::default(),
            access: AccessNotes::default(),
        }
    }

    /// Nothing is under way, neither here nor for the peer.
    pub(super) fn is_quiet(&self) -> bool {
        !self.is_waiting() && self.behind.is_empty() && !self.meets
    }

    /// Something waits for other commands to end.
    pub(super) const fn is_waiting(&self) -> bool {
        self.running.is_some() || self.receiving.is_under_way()
    }

    /// The state that holds is known, and no event is about to change it.
    pub(super) fn knows_the_state(&self) -> bool {
        self.open && !self.holds()
    }

    /// Whether what comes to main's gate now has to wait behind an event.
    pub(super) fn holds(&self) -> bool {
        self.running.is_some() || self.meets || !self.behind.is_empty()
    }

    /// What comes behind an event, or is one, takes its place. It ends with BUSY if too many wait.
    pub(super) fn wait(&mut self, waiting: Waiting, here: &mut Here<'_>) {
        if self.behind.len() >= HELD_COMMANDS_MAX {
            return here.end(waiting.origin, Outcome::Status(Status::Busy));
        }
        self.behind.push_back(waiting);
    }

    /// One step; to be asked for again until it rests.
    pub(super) fn step(&mut self, facts: &Facts, here: &mut Here<'_>) -> Step {
        if let Some(taken) = self.receiving.take_if_ready(facts, &self.keeper) {
            let message = taken.message(here.view.generation);
            let resanitized = install(here.unit, taken.state, &taken.attentions, taken.met);
            return Step::Taken { message, met: taken.met, resanitized };
        }
        if !self.open {
            return Step::Rests;
        }
        let Some(running) = &self.running else {
            return self.begin_next();
        };
        match &running.stage {
            Stage::Draining if facts.drained && !(facts.record_left && running.forbids_writes()) => {
                self.carry_out(here)
            }
            Stage::Flushed => self.carry_out(here),
            Stage::Legs(legs) if legs.are_done(&self.keeper) && !facts.copies_end => self.conclude(here),
            Stage::Draining | Stage::Flushing(_) | Stage::Asking | Stage::Legs(_) => Step::Rests,
        }
    }

    /// What waits has its turn.
    fn begin_next(&mut self) -> Step {
        if core::mem::take(&mut self.meets) {
            let (what, origin, received) = (What::Meet, Origin::Nobody, Time(0));
            self.running = Some(Running { what, origin, received, stage: Stage::Draining });
            return Step::Goes;
        }
        match self.behind.pop_front() {
            None => Step::Rests,
            Some(Waiting { op: Op::Event(event), origin, received, .. }) => {
                let reset = *event == Event::Reset;
                let what = What::Event(event);
                self.running = Some(Running { what, origin, received, stage: Stage::Draining });
                if reset { Step::Reset } else { Step::Goes }
            }
            Some(waiting) => Step::Turn(waiting),
        }
    }

    /// The event under way may forbid a write that a record, which a failed disk left behind, would carry out at the
    /// next start.
    pub(super) fn forbids_writes(&self) -> bool {
        self.running.as_ref().is_some_and(Running::forbids_writes)
    }

    /// What names the event that waits for the sub's word alone.
    pub(super) fn at_sub(&self) -> Option<u64> {
        self.running.as_ref()?.at_sub()
    }

    /// The sub has the new state.
    pub(super) fn on_shared_taken(&mut self, version: u64) {
        if let Some(running) = &mut self.running {
            running.on_taken(version);
        }
    }

    /// Nothing is before the event any more.
    fn carry_out(&mut self, here: &mut Here<'_>) -> Step {
        let Some(mut running) = self.running.take() else {
            return Step::Rests;
        };
        let event = match &running.what {
            What::Meet => {
                here.tell_sub(Message::SharedAsk, Data::new());
                running.stage = Stage::Asking;
                self.running = Some(running);
                return Step::Goes;
            }
            What::Event(event) => event,
        };
        match apply(here.unit.state(), event, self.write_cache) {
            Err(outcome) => here.end(running.origin, outcome),
            Ok(Applied { next: None, data, .. }) => here.end(running.origin, Outcome::Good(data)),
            Ok(Applied { next: Some(next), .. })
                if here.unit.caches()
                    && !next.current.caches(self.write_cache)
                    && !matches!(running.stage, Stage::Flushed) =>
            {
                self.flushes = self.flushes.wrapping_add(1);
                running.stage = Stage::Flushing(self.flushes);
                self.running = Some(running);
                return Step::Flush(self.flushes);
            }
            Ok(Applied { next: Some(next), attentions, data, reset }) => {
                let next = stamped(next, here.view.stamp_generation());
                let told = attentions.clone();
                let legs = self.start_legs(next, attentions, data, reset, false, here);
                running.stage = Stage::Legs(Box::new(legs));
                self.running = Some(running);
                return Step::Revoke { reset, attentions: told };
            }
        }
        Step::Goes
    }

    /// The new state goes to both disks, and to the sub's nexuses, at once.
    fn start_legs(
        &mut self,
        next: SharedState,
        attentions: Vec<Attention>,
        data: Data,
        reset: bool,
        met: bool,
        here: &mut Here<'_>,
    ) -> Legs {
        let next = here.view.as_peer_reads(next);
        let peer = here.has_peer();
        if peer {
            let message = Message::Shared { reset, met, attentions: attentions.clone() };
            here.tell_sub(message, vec![next.encode()]);
        }
        let own = self.keeper.keep(&next, here.actions);
        Legs { next, attentions, data, reset, own, peer }
    }

    /// Both have it: it holds, and its host hears so.
    fn conclude(&mut self, here: &mut Here<'_>) -> Step {
        let Some(Running { what, origin, stage: Stage::Legs(legs), .. }) = self.running.take() else {
            return Step::Rests;
        };
        let resanitized = install(here.unit, legs.next, &legs.attentions, matches!(what, What::Meet));
        let sanitizes = matches!(&what, What::Event(event)
            if matches!(**event, Event::Sanitize { order: Some(_), immed: false, .. }));
        Step::Holds { origin, outcome: Outcome::Good(legs.data), sanitizes, resanitized }
    }

    /// The flush of this number is over. It counts for nothing if its event was given up or put back.
    pub(super) fn on_flushed(&mut self, number: u32, outcome: Outcome, here: &mut Here<'_>) {
        let waits = |running: &mut Running| matches!(running.stage, Stage::Flushing(this) if this == number);
        let Some(mut running) = self.running.take_if(waits) else {
            return;
        };
        match outcome {
            Outcome::Good(_) => {
                running.stage = Stage::Flushed;
                self.running = Some(running);
            }
            Outcome::Check(sense) if sense != Sense::ABORTED_COMMAND => {
                here.end(running.origin, Outcome::Check(sense));
            }
            // The pair changes. The event has not happened: a host may send it again whatever it is.
            Outcome::Check(_) | Outcome::Status(_) | Outcome::Aborted => {
                here.end(running.origin, Outcome::Status(Status::Busy));
            }
        }
    }

    /// The sub tells which state it has: the newer of both holds.
    pub(super) fn on_shared_told(&mut self, payload: &Bytes, here: &mut Here<'_>) {
        let asking =
            |running: &mut Running| matches!((&running.what, &running.stage), (What::Meet, Stage::Asking));
        let Some(mut running) = self.running.take_if(asking) else {
            return;
        };
        let Ok(theirs) = SharedState::decode(payload) else {
            return here.actions.push(Action::Broken(PairFault::ProtocolViolation, here.view.generation));
        };
        let mut newer =
            if theirs.stamp > here.unit.state().stamp { theirs } else { here.unit.state().clone() };
        newer.stamp = Stamp { generation: here.view.generation.number, whole: true, ..newer.stamp };
        let legs = self.start_legs(newer, Vec::new(), Data::new(), false, true, here);
        running.stage = Stage::Legs(Box::new(legs));
        self.running = Some(running);
    }

    /// Hosts are served from here on: with a peer, the newer state is found first.
    pub(super) fn open(&mut self, here: &mut Here<'_>) {
        self.access.note(here);
        if here.view.role != Role::Main {
            return;
        }
        self.open = true;
        if here.has_peer() {
            self.meets = true;
            return self.send_again(here);
        }
        self.stamp_alone(here);
        self.end_peers_reservation(here);
    }

    /// The two lost each other with an event on its legs, and have met again: the sub may not have it.
    fn send_again(&mut self, here: &mut Here<'_>) {
        let Some(Running { what, stage: Stage::Legs(legs), .. }) = &mut self.running else {
            return;
        };
        legs.peer = true;
        legs.next = here.view.as_peer_reads(core::mem::take(&mut legs.next));
        let met = matches!(what, What::Meet);
        let message = Message::Shared { reset: legs.reset, met, attentions: legs.attentions.clone() };
        here.tell_sub(message, vec![legs.next.encode()]);
    }

    /// Whatever a peer keeps in its memory is older than what is here, also after a restart of this controller: the
    /// stamp that says so is durable before any event is answered without the peer.
    fn stamp_alone(&mut self, here: &mut Here<'_>) {
        let generation = here.view.stamp_generation();
        here.unit.stamp_generation(generation);
        let legs = match &mut self.running {
            Some(Running { stage: Stage::Legs(legs), .. }) => {
                legs.next.stamp.generation = generation;
                Some(legs)
            }
            _ => None,
        };
        let state = legs.as_ref().map_or_else(|| here.unit.state(), |legs| &legs.next);
        // A LUN that no event ever changed has nothing to lose.
        if state.stamp.version == 0 || self.keeper.generation() == generation {
            return;
        }
        let own = self.keeper.record(state, here.actions);
        if let Some(legs) = legs {
            legs.own = Some(own);
        }
    }

    /// Main goes on without its peer: nobody can tell when a session there ends that has reserved the LUN.
    fn end_peers_reservation(&mut self, here: &Here<'_>) {
        let peers = |reserver: &NexusHandle| here.unit.is_of_peer(*reserver);
        if let Some(reserver) = here.unit.state().reserver.filter(peers) {
            let op = Op::Event(Box::new(Event::ReserverLost(reserver)));
            self.behind.push_back(Waiting::of_this_controller(Origin::Nobody, op, Time(0), here.unit));
        }
    }

    /// Ends the event under way, if it has begun nothing.
    pub(super) fn give_up_running(&mut self, outcome: &Outcome, here: &mut Here<'_>) {
        if let Some(running) = self.running.take_if(|running| running.has_begun_nothing()) {
            here.end(running.origin, outcome.clone());
        }
    }

    /// Ends the event under way, if it has begun nothing, and what waits behind it, of those that `chosen` picks.
    pub(super) fn give_up(
        &mut self,
        outcome: &Outcome,
        here: &mut Here<'_>,
        chosen: impl Fn(Origin, Time) -> bool,
    ) {
        if self.running.as_ref().is_some_and(|running| chosen(running.origin, running.received)) {
            self.give_up_running(outcome, here);
        }
        self.behind.retain(|waiting| {
            let gone = chosen(waiting.origin, waiting.received);
            if gone {
                here.end(waiting.origin, outcome.clone());
            }
            !gone
        });
    }

    /// The session that has reserved the LUN, has ended, and whose end main is to be told now.
    pub(super) fn lost_reserver(&mut self, unit: &UnitState, now: Time) -> Option<NexusHandle> {
        self.lost_reserver.due(unit, now)
    }

    /// The pair is about to change: until it has, no event goes on, and nothing that waits behind one.
    pub(super) const fn stop(&mut self) {
        self.open = false;
    }

    /// The peer is out of reach, and this main will go on: what is on its legs is completed then. What has begun
    /// nothing is given back, to wait at the gate.
    pub(super) fn hold(&mut self, unit: &UnitState) -> Vec<Waiting> {
        self.open = false;
        self.meets = false;
        let mut back = Vec::from_iter(self.lose_peers_part(unit.version()));
        back.extend(self.behind.drain(..));
        back
    }

    /// Nobody does what the peer had to do with the event under way. Gives it back if it had begun nothing.
    fn lose_peers_part(&mut self, version: u64) -> Option<Waiting> {
        if let Stage::Legs(_) = self.running.as_ref()?.stage {
            self.running.as_mut()?.lose_peer();
            return None;
        }
        self.running.take()?.into_waiting(version)
    }

    /// The peer is gone from a LUN whose only whole copy is here.
    pub(super) fn peer_gone(&mut self, here: &mut Here<'_>) {
        if let Some(event) = self.lose_peers_part(here.unit.version())
            && !matches!(event.origin, Origin::Peer { .. })
        {
            self.behind.push_front(event);
        }
        self.meets = false;
        self.behind.retain(|waiting| !matches!(waiting.origin, Origin::Peer { .. }));
        self.access.note(here);
        self.stamp_alone(here);
        self.end_peers_reservation(here);
    }

    /// The LUN is not served here any more. An event on its legs may hold or not: its host cannot know. Whether another
    /// sanitize operation, or another position of it, is known now.
    pub(super) fn suspend(&mut self, here: &mut Here<'_>) -> bool {
        self.open = false;
        self.meets = false;
        let taken = self.receiving.take();
        let mut resanitized =
            taken.is_some_and(|taken| install(here.unit, taken.state, &taken.attentions, taken.met));
        resanitized |= self.give_up_legs(here);
        let running = self.running.take().map(|running| running.origin);
        for origin in running.into_iter().chain(self.behind.drain(..).map(|waiting| waiting.origin)) {
            if matches!(origin, Origin::Host { .. }) {
                here.end(origin, Outcome::Check(Sense::UNAVAILABLE));
            }
        }
        self.access.note(here);
        resanitized
    }

    /// An event on its legs, at a main that is not main any more. As [`Events::suspend`].
    pub(super) fn give_up_legs(&mut self, here: &mut Here<'_>) -> bool {
        let on_legs = |running: &mut Running| matches!(running.stage, Stage::Legs(_));
        let Some(Running { origin, stage: Stage::Legs(legs), .. }) = self.running.take_if(on_legs) else {
            return false;
        };
        if matches!(origin, Origin::Host { .. }) {
            here.end(origin, Outcome::Check(Sense::ABORTED_COMMAND));
        }
        install(here.unit, legs.next, &legs.attentions, false)
    }

    /// At the sub: main wants to know which state is here.
    pub(super) fn on_shared_ask(&self, via: Via, here: &mut Here<'_>) {
        let state = here.view.as_peer_reads(here.unit.state().clone());
        let (message, payload) = (Message::SharedTold, vec![state.encode()]);
        let generation = here.view.generation;
        here.actions.push(Action::Send { via, message, payload, generation });
    }

    /// At the sub: main's state is to hold from now on. `drains`: the number of hosts' commands that have come, if they
    /// have to end first. False if that cannot be.
    pub(super) fn on_shared(&mut self, mut taking: Taking, here: &mut Here<'_>) -> bool {
        if here.view.role != Role::Sub || self.receiving.is_under_way() {
            return false;
        }
        taking.own = self.keeper.keep(&taking.state, here.actions);
        self.receiving.begin(taking);
        true
    }

    /// At the sub: the number of hosts' commands whose end is awaited, as they are counted when they come.
    pub(super) fn drains(&self) -> Option<u64> {
        self.receiving.drains()
    }

    /// A record is durable.
    pub(super) fn on_persisted(&mut self, ticket: Ticket, actions: &mut Vec<Action>) {
        self.keeper.on_durable(ticket, actions);
    }

    /// What always holds.
    pub(super) fn check(&self) {
        self.keeper.check();
        assert!(self.behind.len() <= HELD_COMMANDS_MAX + 1, "more wait behind an event than may");
        assert!(
            !(self.open && self.running.is_some() && self.receiving.is_under_way()),
            "main's own event and main's word at once"
        );
    }
}

/// The state holds here from now on, and this controller's nexuses are told. Whether its sanitize operation is another.
fn install(unit: &mut UnitState, next: SharedState, attentions: &[Attention], met: bool) -> bool {
    let before = unit.install(next, attentions, met);
    before.sanitize != unit.state().sanitize
}
