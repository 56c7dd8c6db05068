//! Commands of this controller's hosts on their way in: past the gate, past what the shared state keeps out, to the side
//! that carries them out.

use protocol::interlink::Report;
use protocol::interlink::shared::Attention;
use protocol::scsi::sense::{Sense, Status};

use super::Lun;
use super::task::{Action, Origin};
use crate::command::{Admission, Command, NexusId, Op, Outcome, TaskTag};
use crate::exclusive::{Mode, Ranges};
use crate::pair::Service;
use crate::route::{Kind, Route, route};
use crate::time::Time;

impl Lun {
    /// A command at the gate, from a host of this controller.
    pub fn command(&mut self, command: Command, now: Time, actions: &mut Vec<Action>) {
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
        if self.stopped && needs_medium {
            return actions.push(Action::Answer { nexus, tag, outcome: Outcome::Check(Sense::STOPPED) });
        }
        let Command { op, received, .. } = command;
        match route(self.view.role, self.view.service, self.kind_of(&op)) {
            Route::Here => self.take_turn(Origin::Host { nexus, tag }, op, false, received, actions),
            Route::ToMain => self.forward(nexus, tag, op, received, now, actions),
            Route::Refuse if reset => self.reset_out_of_service(nexus, tag, actions),
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
                if self.stopped { Err(Outcome::Check(Sense::STOPPED)) } else { Ok(()) }
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
        self.gate.waits() || (self.gate.is_open() && self.view.service != Service::Refused)
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
            self.command(command, now, actions);
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
                let free = self.locks.is_free(Mode::Shared, &Ranges::One(*range));
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
            self.pump_events(actions);
            self.let_in(now, actions);
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
}

/// A reset is no command: it neither waits for unit attentions nor takes them.
fn is_reset(op: &Op) -> bool {
    matches!(op, Op::Event(event) if **event == protocol::interlink::event::Event::Reset)
}
