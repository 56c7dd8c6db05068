//! Commands on their way in, from this controller's hosts and from the peer: past the gate, past what the shared state
//! keeps out, to the place where they are carried out.
//!
//! A forwarded change ends for its host when the local copy has it and main's DONE has come. Its range stays held
//! until then; the range of a change of main's own hosts until a later message says that it is on both copies.
//!
//! When the interlink breaks, what main may have is answered ABORTED COMMAND at once: main completes nothing more
//! before it has noticed too, and then admits nothing of this any more. A main that has the only good copy completes
//! what it gets without asking: there the answer waits until the command is too old for main, so that the host's next
//! write cannot come before it ([`Progress::Adrift`](super::communication::Progress::Adrift)).

use core::time::Duration;

use bytes::Bytes;
use protocol::interlink::event::Event;
use protocol::interlink::shared::{Attention, SharedState};
use protocol::interlink::{Message, Prefix, Report};
use protocol::scsi::sense::{Sense, Status};

use super::Lun;
use super::communication::Forward;
use super::events::{Taking, Waiting};
use super::operation::from_wire;
use super::replica::Ordered;
use super::task::{Action, Origin, end, send_back};
use crate::command::{Admission, COMMAND_AGE_MAX, Command, Data, Initiator, NexusId, Op, Outcome, TaskTag};
use crate::exclusive::Ranges;
use crate::link::{LinkId, Via};
use crate::pair::{Breakage, Role};
use crate::route::{Kind, Route, route};
use crate::time::Time;

/// The tag of what the controller does for a nexus that is gone: nobody is left to be answered.
const NOBODYS_TAG: TaskTag = TaskTag::of(u32::MAX);

/// Whether a command has waited behind an event already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// It comes now, and waits if there is one.
    Comes,
    /// Its turn has come.
    Has,
}

impl Lun {
    /// A command at the gate, from a host of this controller.
    pub fn command(&mut self, command: Command, now: Time, actions: &mut Vec<Action>) {
        self.judge(command, Turn::Comes, now, actions);
        self.run(now, actions);
    }

    pub(super) fn judge(&mut self, command: Command, turn: Turn, now: Time, actions: &mut Vec<Action>) {
        let (nexus, tag) = (command.nexus, command.tag);
        let reset = is_reset(&command.op);
        if !reset && let Err(outcome) = self.may_pass(nexus, tag) {
            return actions.push(Action::Answer { nexus, tag, outcome });
        }
        if self.gate.waits() {
            return self.keep_waiting(command, actions);
        }
        if let Some(outcome) = self.refusal(nexus, &command.op) {
            return actions.push(Action::Answer { nexus, tag, outcome });
        }
        let needs_medium = !matches!(
            command.op,
            Op::StartStop { .. } | Op::Event(_) | Op::Report { what: Report::Provisioning { .. }, .. }
        );
        if self.blocks.terms().is_stopped() && needs_medium {
            return actions.push(Action::Answer { nexus, tag, outcome: Outcome::Check(Sense::STOPPED) });
        }
        let Command { op, received, .. } = command;
        let view = self.blocks.terms().view();
        match route(view.role, view.service, self.kind_of(&op)) {
            Route::Here => self.admit_here(Origin::Host { nexus, tag }, op, received, turn, actions),
            Route::ToMain => self.forward(nexus, tag, op, received, now, actions),
            // Not served here: there is nothing to be done but to tell this controller's nexuses.
            Route::Refuse if reset => {
                self.unit.raise_for_all(Sense::LOGICAL_UNIT_RESET);
                actions.push(Action::Answer { nexus, tag, outcome: Outcome::Good(Data::new()) });
            }
            Route::Refuse => {
                let outcome = Outcome::Check(Sense::UNAVAILABLE);
                actions.push(Action::Answer { nexus, tag, outcome });
            }
        }
    }

    /// Leave to answer a command that only describes the LUN.
    pub fn admit(&mut self, nexus: NexusId, admission: Admission) -> Result<(), Outcome> {
        match admission {
            Admission::Always => Ok(()),
            Admission::Attention => self.unit.take_attention(nexus),
            Admission::RequestSense => {
                self.unit.take_attention(nexus)?;
                self.sanitize_sense().map_or(Ok(()), |sense| Err(Outcome::Check(sense)))
            }
            Admission::Known | Admission::KnownReading => {
                self.unit.take_attention(nexus)?;
                if self.known { Ok(()) } else { Err(Outcome::Check(Sense::UNAVAILABLE)) }
            }
            Admission::Ready | Admission::Reading | Admission::Changing => self.may_enter(nexus),
            Admission::Medium => {
                self.may_enter(nexus)?;
                if self.blocks.terms().is_stopped() { Err(Outcome::Check(Sense::STOPPED)) } else { Ok(()) }
            }
        }?;
        if self.unit.keeps_out(nexus, admission.access()) {
            return Err(Outcome::Status(Status::ReservationConflict));
        }
        match admission {
            Admission::Known
            | Admission::KnownReading
            | Admission::Ready
            | Admission::Medium
            | Admission::Reading
            | Admission::Changing => self.sanitize_sense().map_or(Ok(()), |sense| Err(Outcome::Check(sense))),
            Admission::Always | Admission::RequestSense | Admission::Attention => Ok(()),
        }
    }

    /// Whether hosts' commands are carried out here or at main.
    #[must_use]
    pub fn serving(&self) -> bool {
        self.gate.waits() || (self.gate.is_open() && self.view().serves())
    }

    fn sanitize_sense(&self) -> Option<Sense> {
        self.sanitizing.sense(&self.unit.state().sanitize, self.setup.blocks)
    }

    /// How a command ends that the shared state keeps out.
    pub(super) fn refusal(&self, nexus: NexusId, op: &Op) -> Option<Outcome> {
        self.unit.refusal(nexus, op).or_else(|| {
            let state = &self.unit.state().sanitize;
            self.sanitizing.refusal(op, state, self.setup.blocks)
        })
    }

    fn may_enter(&mut self, nexus: NexusId) -> Result<(), Outcome> {
        self.unit.take_attention(nexus)?;
        if self.serving() { Ok(()) } else { Err(Outcome::Check(Sense::UNAVAILABLE)) }
    }

    /// Leave to come to the gate.
    fn may_pass(&mut self, nexus: NexusId, tag: TaskTag) -> Result<(), Outcome> {
        if !tag.is_piece() {
            return self.may_enter(nexus);
        }
        if !self.permits.allows(nexus, tag) {
            return Err(Outcome::Aborted);
        }
        if self.serving() { Ok(()) } else { Err(Outcome::Check(Sense::UNAVAILABLE)) }
    }

    /// What waited at the gate goes on, if nothing is awaited any more.
    pub(super) fn let_in(&mut self, now: Time, actions: &mut Vec<Action>) {
        for command in self.gate.let_in() {
            self.judge(command, Turn::Comes, now, actions);
            self.run(now, actions);
        }
    }

    /// A command that waits at the gate.
    pub(super) fn keep_waiting(&mut self, command: Command, actions: &mut Vec<Action>) {
        if let Err(Command { nexus, tag, .. }) = self.gate.keep(command) {
            actions.push(Action::Answer { nexus, tag, outcome: Outcome::Status(Status::Busy) });
        }
    }

    /// Hosts are served no more: what waits at the gate is refused.
    pub(super) fn shut_gate(&mut self, actions: &mut Vec<Action>) {
        for Command { nexus, tag, .. } in self.gate.shut() {
            actions.push(Action::Answer { nexus, tag, outcome: Outcome::Check(Sense::UNAVAILABLE) });
        }
    }

    /// Those of the commands at the gate that `chosen` picks end so.
    pub(super) fn end_waiting(
        &mut self,
        outcome: &Outcome,
        actions: &mut Vec<Action>,
        chosen: impl Fn(&Command) -> bool,
    ) {
        for Command { nexus, tag, .. } in self.gate.take_out(chosen) {
            actions.push(Action::Answer { nexus, tag, outcome: outcome.clone() });
        }
    }

    fn kind_of(&self, op: &Op) -> Kind {
        match op {
            Op::Read { range } | Op::Verify { range, .. } => {
                let free = self.blocks.tasks().is_free_to_read(&Ranges::One(*range));
                if free { Kind::ReadFree } else { Kind::ReadContended }
            }
            // Only a hint, for whichever copy the reads come from.
            Op::Prefetch { .. } => Kind::ReadFree,
            _ => Kind::Change,
        }
    }

    /// Chunks of this EXTENDED COPY pass.
    pub fn permit_copy(&mut self, nexus: NexusId, task: u32) {
        self.permits.grant(nexus, task);
    }

    /// They do not any more.
    pub fn revoke_copy(&mut self, nexus: NexusId, task: u32) {
        self.permits.revoke(|key| *key == (nexus, task));
    }

    /// The copy has ended; what waited for that goes on.
    pub fn copy_ended(&mut self, nexus: NexusId, task: u32, now: Time, actions: &mut Vec<Action>) {
        if self.permits.end(nexus, task) {
            self.run(now, actions);
        }
    }

    /// An event that is about to hold ends copies of this controller's hosts.
    pub(super) fn revoke_for(&mut self, reset: bool, attentions: &[Attention], actions: &mut Vec<Action>) {
        if reset {
            actions.push(Action::WasReset);
        }
        let drives_out = |attention: &&Attention| {
            [Sense::REGISTRATIONS_PREEMPTED.code, Sense::RESERVATIONS_PREEMPTED.code]
                .contains(&attention.code)
        };
        let driven: Vec<&Attention> = attentions.iter().filter(drives_out).collect();
        let out = |nexus: NexusId| driven.iter().any(|attention| self.unit.is_meant(attention, nexus));
        let revoked = self.permits.revoke(|(nexus, _)| reset || out(*nexus));
        actions.extend(revoked.into_iter().map(|(nexus, task)| Action::Revoked { nexus, task }));
    }

    /// A command that is carried out here takes its turn: at main behind an event, if there is one.
    pub(super) fn admit_here(
        &mut self,
        origin: Origin,
        op: Op,
        received: Time,
        turn: Turn,
        actions: &mut Vec<Action>,
    ) {
        if !matches!(op, Op::Event(_)) && (turn == Turn::Has || !self.events.holds()) {
            self.blocks.enter(origin, op, false, received, actions);
            return;
        }
        let version = self.unit.version();
        self.wait_behind(Waiting { origin, op, durable: false, received, version }, actions);
    }

    fn wait_behind(&mut self, waiting: Waiting, actions: &mut Vec<Action>) {
        if let Err(waiting) = self.events.wait(waiting) {
            let busy = Outcome::Status(Status::Busy);
            actions.extend(end(waiting.origin, busy, self.view().generation));
        }
    }

    /// A command that the peer has forwarded. Main admits it only if the state that holds here has let it pass.
    pub(super) fn take_forwarded(&mut self, waiting: Waiting, turn: Turn, actions: &mut Vec<Action>) {
        let event = matches!(waiting.op, Op::Event(_));
        if event || (turn == Turn::Comes && self.events.holds()) {
            return self.wait_behind(waiting, actions);
        }
        let Waiting { origin, op, durable, received, version } = waiting;
        match origin {
            Origin::Peer { link, id } if version != self.unit.version() => {
                actions.push(send_back(link, id, self.view().generation));
            }
            _ => {
                self.blocks.enter(origin, op, durable, received, actions);
            }
        }
    }

    /// A new I_T nexus.
    pub fn nexus_added(&mut self, nexus: NexusId, initiator: &Initiator) {
        self.unit.add(nexus, initiator);
    }

    /// An I_T nexus is gone: what it had not got admitted is never executed.
    pub fn nexus_lost(&mut self, nexus: NexusId, now: Time, actions: &mut Vec<Action>) {
        self.unit.remove(nexus);
        self.permits.nexus_lost(nexus);
        self.give_up(now, actions, |owner, _| owner == nexus);
        self.end_lost_reservation(now, actions);
        self.run(now, actions);
    }

    /// A task shall be given up, if it was not admitted.
    pub fn abort(&mut self, nexus: NexusId, tag: TaskTag, now: Time, actions: &mut Vec<Action>) {
        self.give_up(now, actions, |owner, which| owner == nexus && which == tag);
        self.run(now, actions);
    }

    /// Ends every command of a host that `chosen` picks and that was not admitted.
    fn give_up(&mut self, now: Time, actions: &mut Vec<Action>, chosen: impl Fn(NexusId, TaskTag) -> bool) {
        let picks = |origin: Origin| matches!(origin, Origin::Host { nexus, tag } if chosen(nexus, tag));
        self.end_waiting(&Outcome::Aborted, actions, |command| chosen(command.nexus, command.tag));
        self.give_up_here(actions, picks);
        let way = self.way();
        let gone = |request: &Forward| chosen(request.nexus, request.tag);
        self.forwarder.withdraw(gone, &Outcome::Aborted, way, now, actions);
        self.forwarder.cancel(chosen, way.generation, actions);
    }

    /// Ends every command here that `chosen` picks and that was not admitted.
    fn give_up_here(&mut self, actions: &mut Vec<Action>, chosen: impl Fn(Origin) -> bool) {
        let (events, mut here) = self.here(actions);
        events.give_up(&Outcome::Aborted, &mut here, |origin, _| chosen(origin));
        self.end_sanitize_wait(&Outcome::Aborted, actions, &chosen);
        self.blocks.withdraw_those(&Outcome::Aborted, actions, |task| chosen(task.origin));
    }

    /// A legacy reservation ends with its session (SPC-2 5.5.1); main is told until it says so.
    pub(super) fn end_lost_reservation(&mut self, now: Time, actions: &mut Vec<Action>) {
        let view = self.blocks.terms().view();
        let way = route(view.role, view.service, Kind::Change);
        if matches!(way, Route::ToMain) && !self.blocks.terms().has_peer_in_place() {
            return;
        }
        let Some(reserver) = self.events.lost_reserver(&self.unit, now) else {
            return;
        };
        let op = Op::Event(Box::new(Event::ReserverLost(reserver)));
        match way {
            Route::Here => self.admit_here(Origin::Nobody, op, now, Turn::Comes, actions),
            Route::ToMain => self.forward(NexusId(reserver.nexus), NOBODYS_TAG, op, now, now, actions),
            Route::Refuse => {}
        }
    }

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
        let view = self.blocks.terms().view();
        if prefix.generation != view.generation || !view.links.contains(&link) {
            return;
        }
        self.blocks.terms_mut().peer_is_in_place();
        match message {
            Message::Forward { id, age_ms, sent, durable, version, op } => {
                let op = from_wire(op, payload, durable, self.setup.blocks);
                let age = Duration::from_millis(u64::from(age_ms));
                let age = age.saturating_add(self.lease.clock.way(sent, now));
                self.on_forward(Origin::Peer { link, id }, op, durable, version, (age, now), actions);
            }
            Message::Cancel { id: cancelled } => self
                .give_up_here(actions, |origin| matches!(origin, Origin::Peer { id, .. } if id == cancelled)),
            Message::Applied { sequence, good } => self.blocks.on_applied(sequence, good, actions),
            Message::Order { id, sequence, released } => {
                self.blocks.on_released(released, actions);
                self.on_order(link, id, sequence, payload, actions);
            }
            Message::Done { id } => self.on_done(id, now, actions),
            Message::Ended { id, ending } => self.on_ended(id, ending, payload, now, actions),
            Message::Apply { sequence, released, durable, op } => {
                self.blocks.on_released(released, actions);
                match from_wire(op, payload, durable, self.setup.blocks) {
                    Some(op) => {
                        let forward = None;
                        self.blocks.apply(&Ordered { link, sequence, op: &op, durable, forward }, actions);
                    }
                    None => self.break_over_nonsense(actions),
                }
            }
            Message::Released { released } => self.blocks.on_released(released, actions),
            Message::SharedAsk => {
                let (events, mut here) = self.here(actions);
                events.on_shared_ask(Via::Link(link), &mut here);
            }
            Message::SharedTold => {
                let (events, mut here) = self.here(actions);
                events.on_shared_told(payload, &mut here);
            }
            Message::Shared { reset, met, attentions } => match SharedState::decode(payload) {
                Ok(state) => {
                    let drains = reset.then(|| self.blocks.tasks().entered());
                    self.on_shared(Taking { link, state, attentions, own: None, drains, met }, now, actions);
                }
                Err(_) => self.break_over_nonsense(actions),
            },
            Message::SharedTaken { version } => self.events.on_shared_taken(version),
            _ => {}
        }
        self.run(now, actions);
    }

    pub(super) fn break_over_nonsense(&self, actions: &mut Vec<Action>) {
        actions.push(Action::Broken(Breakage::Nonsense, self.view().generation));
    }

    /// A command that the peer has forwarded, so old when it came at that time.
    fn on_forward(
        &mut self,
        origin: Origin,
        op: Option<Op>,
        durable: bool,
        version: u64,
        (age, now): (Duration, Time),
        actions: &mut Vec<Action>,
    ) {
        let outcome = match op {
            // It was stuck on its way; its host has long given it up.
            _ if age >= COMMAND_AGE_MAX => Outcome::Status(Status::Busy),
            Some(op) if self.view().role == Role::Main => {
                let waiting = Waiting { origin, op, durable, received: now - age, version };
                return self.take_forwarded(waiting, Turn::Comes, actions);
            }
            // The pair changes, and nothing was done.
            Some(_) => Outcome::Status(Status::Busy),
            None => Outcome::Check(Sense::ABORTED_COMMAND),
        };
        actions.extend(end(origin, outcome, self.view().generation));
    }

    /// At the sub: the state as it is to be from now on.
    fn on_shared(&mut self, taking: Taking, now: Time, actions: &mut Vec<Action>) {
        let (attentions, reset) = (taking.attentions.clone(), taking.drains.is_some());
        let (events, mut here) = self.here(actions);
        if !events.on_shared(taking, &mut here) {
            return self.break_over_nonsense(actions);
        }
        self.revoke_for(reset, &attentions, actions);
        if reset {
            self.give_up_waiting(actions);
            let way = self.way();
            self.forwarder.reset(way, now, actions);
        }
    }
}

/// A reset is no command: it neither waits for unit attentions nor takes them.
fn is_reset(op: &Op) -> bool {
    matches!(op, Op::Event(event) if **event == protocol::interlink::event::Event::Reset)
}
