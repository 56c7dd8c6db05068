//! Events and the peer: what becomes of those under way when the pair changes, or the two lose each other.

use protocol::scsi::sense::Sense;

use super::{Running, Stage, Taking, Waiting, What};
use crate::command::{Command, LunIndex, Op, Outcome};
use crate::lun::Lun;
use crate::lun::task::{Action, Origin};
use crate::pair::Role;

impl Lun {
    /// The pair is about to change: until it has, no event has its turn, and nobody who waits behind one.
    pub(in crate::lun) const fn stop_events(&mut self) {
        self.events.open = false;
    }

    /// The peer is out of reach, and this main will go on: what is on its legs is completed then, what has begun
    /// nothing goes back to the door.
    pub(in crate::lun) fn hold_events(&mut self, actions: &mut Vec<Action>) {
        self.events.open = false;
        self.events.meets = false;
        if let Some(event) = self.lose_peers_part() {
            self.put_event_back(event, actions);
        }
        for waiting in core::mem::take(&mut self.events.behind) {
            self.put_event_back(waiting, actions);
        }
    }

    /// What the peer had to do with the event under way is done by nobody. Gives it back if it had begun nothing.
    fn lose_peers_part(&mut self) -> Option<Waiting> {
        let running = self.events.running.as_mut()?;
        if let Stage::Legs(legs) = &mut running.stage {
            legs.peer = false;
            if matches!(running.origin, Origin::Peer { .. }) {
                running.origin = Origin::Nobody;
            }
            return None;
        }
        let Running { what, origin, received, .. } = self.events.running.take()?;
        let What::Event(event) = what else {
            return None;
        };
        let version = self.unit.version();
        Some(Waiting { origin, op: Op::Event(event), durable: false, received, version })
    }

    fn put_event_back(&mut self, waiting: Waiting, actions: &mut Vec<Action>) {
        if let Origin::Host { nexus, tag } = waiting.origin {
            let Waiting { op, received, .. } = waiting;
            let lun = LunIndex(self.setup.index);
            self.keep_waiting(Command { lun, nexus, tag, op, received }, actions);
        }
    }

    /// The peer is gone from a LUN whose only whole copy is here.
    pub(in crate::lun) fn events_without_peer(&mut self, actions: &mut Vec<Action>) {
        if let Some(event) = self.lose_peers_part()
            && !matches!(event.origin, Origin::Peer { .. })
        {
            self.events.behind.push_front(event);
        }
        self.events.meets = false;
        self.end_sanitize_wait(&Outcome::Aborted, actions, |origin| matches!(origin, Origin::Peer { .. }));
        self.events.behind.retain(|waiting| !matches!(waiting.origin, Origin::Peer { .. }));
        self.note_access();
        self.stamp_alone(actions);
        self.end_peers_reservation(actions);
        self.pump_events(actions);
    }

    /// The LUN is not served here any more. An event on its legs may hold or not: its host cannot know.
    pub(in crate::lun) fn suspend_events(&mut self, actions: &mut Vec<Action>) {
        self.events.open = false;
        self.events.meets = false;
        if let Some(Taking { state, attentions, met, .. }) = self.events.taking.take() {
            self.install(state, &attentions, met);
        }
        self.give_up_legs(actions);
        self.end_sanitize_wait(&Outcome::Check(Sense::ABORTED_COMMAND), actions, |_| true);
        if let Some(Running { origin: Origin::Host { nexus, tag }, .. }) = self.events.running.take() {
            actions.push(Action::Answer { nexus, tag, outcome: Outcome::Check(Sense::UNAVAILABLE) });
        }
        for waiting in core::mem::take(&mut self.events.behind) {
            if let Origin::Host { nexus, tag } = waiting.origin {
                actions.push(Action::Answer { nexus, tag, outcome: Outcome::Check(Sense::UNAVAILABLE) });
            }
        }
        self.note_access();
    }

    /// An event on its legs, at a main that is not main any more.
    pub(in crate::lun) fn give_up_legs(&mut self, actions: &mut Vec<Action>) {
        let on_legs = |running: &mut Running| matches!(running.stage, Stage::Legs(_));
        if let Some(Running { origin, stage: Stage::Legs(legs), .. }) = self.events.running.take_if(on_legs) {
            self.install(legs.next, &legs.attentions, false);
            if let Origin::Host { nexus, tag } = origin {
                let outcome = Outcome::Check(Sense::ABORTED_COMMAND);
                actions.push(Action::Answer { nexus, tag, outcome });
            }
        }
    }

    /// The LUN takes another place in the pair: nothing of an earlier one is awaited.
    pub(in crate::lun) fn begin_events(&mut self, actions: &mut Vec<Action>) {
        self.hold_events(actions);
        // What the sub remembers may be old: nobody is judged by it before main's word.
        self.gate.know(self.view.role == Role::Main || self.view.links.is_empty());
        if self.view.role == Role::Sub {
            let aborted = Outcome::Check(Sense::ABORTED_COMMAND);
            self.end_sanitize_wait(&aborted, actions, |_| true);
            self.give_up_legs(actions);
        }
    }
}
