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
use protocol::interlink::shared::SharedState;
use protocol::interlink::{Ending, Message, Prefix, Report};
use protocol::scsi::sense::{Sense, Status};

use super::communication::Forward;
use super::events::{Taking, Waiting};
use super::forwarder::{AtMain, Order, Way};
use super::leave::{Standing, may_pass, refusal};
use super::operation::from_wire;
use super::replica::Ordered;
use super::task::{Action, Origin, end, send_back};
use super::{CopyNews, Lun};
use crate::command::{
    Admission, COMMAND_AGE_MAX, Command, Data, Initiator, LunIndex, NexusId, Op, Outcome, TaskTag,
};
use crate::link::{LinkId, Via};
use crate::pair::{PairFault, PairView, Role};
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
        if !reset && let Err(outcome) = may_pass(self.serving(), (nexus, tag), &self.permits, &mut self.unit)
        {
            return actions.push(Action::Answer { nexus, tag, outcome });
        }
        if self.gate.waits() {
            return self.gate.keep(command, actions);
        }
        if let Some(outcome) = refusal(&command.op, nexus, &self.unit, &self.sanitizing, self.setup.blocks) {
            return actions.push(Action::Answer { nexus, tag, outcome });
        }
        let needs_medium = !matches!(
            command.op,
            Op::StartStop { .. } | Op::Event(_) | Op::Report { what: Report::Provisioning { .. }, .. }
        );
        if self.blocks.terms().is_stopped() && needs_medium {
            return actions.push(Action::Answer { nexus, tag, outcome: Outcome::Check(Sense::STOPPED) });
        }
        let view = self.blocks.terms().view();
        let kind = Kind::of(&command.op, |ranges| self.blocks.tasks().is_free_to_read(ranges));
        match route(view.role, view.service, kind) {
            Route::Here => {
                let (origin, Command { op, received, .. }) = (Origin::Host { nexus, tag }, command);
                let waiting = Waiting::of_this_controller(origin, op, received, &self.unit);
                self.take_turn(waiting, turn, actions);
            }
            Route::ToMain => {
                self.forwarder.forward(command, &self.unit, Way::of(view), now, actions);
            }
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
        let standing = Standing {
            known: self.known,
            serves: self.serving(),
            stopped: self.blocks.terms().is_stopped(),
            sanitize: self.sanitizing.sense(&self.unit.state().sanitize, self.setup.blocks),
        };
        standing.admit(admission, nexus, &mut self.unit)
    }

    /// Whether hosts' commands are carried out here or at main.
    #[must_use]
    pub fn serving(&self) -> bool {
        self.gate.serves(self.view())
    }

    /// What waited at the gate goes on, if nothing is awaited any more.
    pub(super) fn let_in(&mut self, now: Time, actions: &mut Vec<Action>) {
        for command in self.gate.let_in() {
            self.judge(command, Turn::Comes, now, actions);
            self.run(now, actions);
        }
    }

    /// There is news of an EXTENDED COPY of a host that uses this LUN.
    pub fn on_copy(
        &mut self,
        nexus: NexusId,
        task: u32,
        news: CopyNews,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        if self.permits.on(nexus, task, news) {
            self.run(now, actions);
        }
    }

    /// A command that is carried out here takes its turn: at main behind an event, if there is one. One that the peer
    /// has forwarded is admitted only if the state that holds here has let it pass.
    pub(super) fn take_turn(&mut self, waiting: Waiting, turn: Turn, actions: &mut Vec<Action>) {
        if matches!(waiting.op, Op::Event(_)) || (turn == Turn::Comes && self.events.holds()) {
            let (events, mut here) = self.here(actions);
            return events.wait(waiting, &mut here);
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
        self.gate.end(&Outcome::Aborted, actions, |command| chosen(command.nexus, command.tag));
        self.give_up_here(actions, picks);
        let way = Way::of(self.blocks.terms().view());
        let gone = |request: &Forward| chosen(request.nexus, request.tag);
        self.forwarder.withdraw(gone, &Outcome::Aborted, way, now, actions);
        self.forwarder.cancel(chosen, way.generation, actions);
    }

    /// Ends every command here that `chosen` picks and that was not admitted.
    fn give_up_here(&mut self, actions: &mut Vec<Action>, chosen: impl Fn(Origin) -> bool) {
        let (events, mut here) = self.here(actions);
        events.give_up(&Outcome::Aborted, &mut here, |origin, _| chosen(origin));
        self.sanitizing.end_wait(&Outcome::Aborted, self.blocks.terms().view(), actions, &chosen);
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
            Route::Here => {
                let waiting = Waiting::of_this_controller(Origin::Nobody, op, now, &self.unit);
                self.take_turn(waiting, Turn::Comes, actions);
            }
            Route::ToMain => {
                let (lun, nexus) = (LunIndex(self.setup.index), NexusId(reserver.nexus));
                let command = Command { lun, nexus, tag: NOBODYS_TAG, op, received: now };
                self.forwarder.forward(command, &self.unit, Way::of(view), now, actions);
            }
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
                let origin = Origin::Peer { link, id };
                match arrived(op, age, self.view().role) {
                    Ok(op) => {
                        let waiting = Waiting { origin, op, durable, received: now - age, version };
                        self.take_turn(waiting, Turn::Comes, actions);
                    }
                    Err(outcome) => actions.extend(end(origin, outcome, self.view().generation)),
                }
            }
            Message::Cancel { id: cancelled } => self
                .give_up_here(actions, |origin| matches!(origin, Origin::Peer { id, .. } if id == cancelled)),
            Message::Applied { sequence, good } => self.blocks.on_applied(sequence, good, actions),
            Message::Order { id, sequence, released } => {
                self.blocks.on_released(released, actions);
                match self.forwarder.on_order(id, sequence, payload) {
                    Some(Order { slot, op, durable }) => {
                        let forward = Some(slot);
                        self.blocks.apply(&Ordered { link, sequence, op: &op, durable, forward }, actions);
                    }
                    None => actions.push(nonsense(self.view())),
                }
            }
            Message::Done { id } => {
                if let Some(slot) = self.forwarder.on_done(id) {
                    self.answer_if_both(slot, now, actions);
                }
            }
            Message::Ended { id, ending } => self.on_ended(id, ending, payload, now, actions),
            Message::Apply { sequence, released, durable, op } => {
                self.blocks.on_released(released, actions);
                match from_wire(op, payload, durable, self.setup.blocks) {
                    Some(op) => {
                        let forward = None;
                        self.blocks.apply(&Ordered { link, sequence, op: &op, durable, forward }, actions);
                    }
                    None => actions.push(nonsense(self.view())),
                }
            }
            Message::Released { released } => self.blocks.on_released(released, actions),
            Message::SharedAsk
            | Message::SharedTold
            | Message::Shared { .. }
            | Message::SharedTaken { .. } => self.on_shared(link, message, payload, now, actions),
            _ => {}
        }
        self.run(now, actions);
    }

    /// A forwarded command ended at main without a change.
    fn on_ended(&mut self, id: u64, ending: Ending, payload: &Bytes, now: Time, actions: &mut Vec<Action>) {
        match self.forwarder.on_ended(id, ending, payload) {
            AtMain::Unknown => {}
            AtMain::Over(slot, outcome) => {
                self.forwarder.end(slot, outcome, Way::of(self.blocks.terms().view()), now, actions);
            }
            AtMain::Lacks(slot) => self.answer_if_both(slot, now, actions),
            AtMain::Again(slot) => {
                // An older shared state had let it pass: back to the gate with it.
                if let Some(request) = self.forwarder.take(slot) {
                    let command = request.into_command(LunIndex(self.setup.index));
                    self.judge(command, Turn::Comes, now, actions);
                    self.forwarder.resume(Way::of(self.blocks.terms().view()), now, actions);
                }
            }
            AtMain::ProtocolViolation => actions.push(nonsense(self.view())),
        }
    }

    /// What the two tell each other of the state that both have: at the sub, what it is to be from now on.
    fn on_shared(
        &mut self,
        link: LinkId,
        message: Message,
        payload: &Bytes,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        let entered = self.blocks.tasks().entered();
        let (events, mut here) = self.here(actions);
        match message {
            Message::SharedAsk => events.on_shared_ask(Via::Link(link), &mut here),
            Message::SharedTold => events.on_shared_told(payload, &mut here),
            Message::SharedTaken { version } => events.on_shared_taken(version),
            Message::Shared { reset, met, attentions } => {
                let drains = reset.then_some(entered);
                let told = attentions.clone();
                let taking = SharedState::decode(payload).map(|state| Taking {
                    link,
                    state,
                    attentions,
                    own: None,
                    drains,
                    met,
                });
                if !taking.is_ok_and(|taking| events.on_shared(taking, &mut here)) {
                    return actions.push(nonsense(self.view()));
                }
                self.permits.revoke_for(reset, &told, &self.unit, actions);
                if reset {
                    self.give_up_waiting(actions);
                    self.forwarder.reset(Way::of(self.blocks.terms().view()), now, actions);
                }
            }
            _ => {}
        }
    }
}

/// A command that the peer has forwarded, so old when it came, is to be carried out here; else how it ends.
fn arrived(op: Option<Op>, age: Duration, role: Role) -> Result<Op, Outcome> {
    match op {
        // It was stuck on its way; its host has long given it up.
        _ if age >= COMMAND_AGE_MAX => Err(Outcome::Status(Status::Busy)),
        Some(op) if role == Role::Main => Ok(op),
        // The pair changes, and nothing was done.
        Some(_) => Err(Outcome::Status(Status::Busy)),
        None => Err(Outcome::Check(Sense::ABORTED_COMMAND)),
    }
}

/// The peer has sent what cannot be: the meeting ends.
const fn nonsense(view: &PairView) -> Action {
    Action::Broken(PairFault::ProtocolViolation, view.generation)
}

/// A reset is no command: it neither waits for unit attentions nor takes them.
fn is_reset(op: &Op) -> bool {
    matches!(op, Op::Event(event) if **event == protocol::interlink::event::Event::Reset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forwarded_is_carried_out_only_at_main_and_before_its_host_has_given_it_up() {
        let (young, old) = (COMMAND_AGE_MAX.checked_sub(Duration::from_nanos(1)).unwrap(), COMMAND_AGE_MAX);
        let (op, busy) = (Op::SynchronizeCache, Outcome::Status(Status::Busy));
        for role in [Role::Main, Role::Sub] {
            assert_eq!(arrived(Some(op.clone()), old, role), Err(busy.clone()));
            assert_eq!(arrived(None, young, role), Err(Outcome::Check(Sense::ABORTED_COMMAND)));
        }
        assert_eq!(arrived(Some(op.clone()), young, Role::Main), Ok(op.clone()));
        assert_eq!(arrived(Some(op), young, Role::Sub), Err(busy));
    }
}
