//! The shared state in the LUN core: who the nexuses of this controller are, how a state that main sends is taken, and
//! how its durable part gets to the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use protocol::interlink::shared::{
    Attention, Modes, NexusHandle, NexusName, Reservations, SharedState, Who, Whom,
};
use protocol::interlink::{Message, Version};
use protocol::scsi::sense::Sense;

use super::events::Taking;
use super::guard::Guard;
use super::task::{Action, Origin, Stage};
use super::{Lun, LunSetup};
use crate::command::{Data, NexusId};
use crate::link::{LinkId, Via};
use crate::pair::{Breakage, Role};
use crate::time::Time;
use crate::world::Ticket;

/// The version of the interlink since which a format is told.
const FORMATS_SINCE: u16 = Version::V2 as u16;

impl LunSetup {
    /// The name of a session of this controller, which tells it from every other there ever was.
    pub(super) const fn handle(&self, nexus: NexusId) -> NexusHandle {
        NexusHandle { side: self.side.index() as u8, incarnation: self.incarnation, nexus: nexus.0 }
    }
}

impl Lun {
    /// The state that both controllers share, as it is here.
    #[must_use]
    pub const fn shared(&self) -> &SharedState {
        &self.shared
    }

    /// Who a nexus of this controller is, if it is known.
    #[must_use]
    pub fn who(&self, nexus: NexusId) -> Option<Who> {
        let name = self.attentions.name(nexus)?;
        Some(Who { handle: self.handle(nexus), name: NexusName::clone(name) })
    }

    pub(super) const fn handle(&self, nexus: NexusId) -> NexusHandle {
        self.setup.handle(nexus)
    }

    /// Whether the peer can read of a format; without a peer nobody has to.
    pub(super) fn peer_reads_formats(&self) -> bool {
        self.view.links.is_empty() || self.view.version >= FORMATS_SINCE
    }

    /// A state that the peer is to have, in words that it can read. Both then have it in these words.
    pub(super) fn as_peer_reads(&self, state: SharedState) -> SharedState {
        if self.peer_reads_formats() {
            return state;
        }
        SharedState { sanitize: state.sanitize.in_version_1(), ..state }
    }

    /// At the sub: main wants to know which state is here.
    pub(super) fn on_shared_ask(&self, link: LinkId, actions: &mut Vec<Action>) {
        let state = self.as_peer_reads(self.shared.clone());
        let (message, payload) = (Message::SharedTold, vec![state.encode()]);
        let generation = self.view.generation;
        actions.push(Action::Send { via: Via::Link(link), message, payload, generation });
    }

    /// At the sub: the state as it is to be from now on.
    pub(super) fn on_shared(
        &mut self,
        link: LinkId,
        (reset, met): (bool, bool),
        attentions: Vec<Attention>,
        payload: &Bytes,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        let state = match SharedState::decode(payload) {
            Ok(state) if self.view.role == Role::Sub && self.events.taking.is_none() => state,
            _ => return actions.push(Action::Broken(Breakage::Nonsense, self.view.generation)),
        };
        let own = self.keep(&state, actions);
        self.revoke_for(reset, &attentions, actions);
        let hosts = self.tasks.iter().filter(|(_, task)| matches!(task.origin, Origin::Host { .. }));
        let drain = if reset { hosts.map(|(slot, _)| slot as u32).collect() } else { Vec::new() };
        self.events.taking = Some(Taking { link, state, attentions, own, drain, met });
        if reset {
            self.give_up_waiting(actions);
            let way = self.way();
            self.forwarder.reset(way, now, actions);
        }
        self.pump_events(actions);
        self.let_in(now, actions);
    }

    pub(super) fn take_if_ready(&mut self, actions: &mut Vec<Action>) {
        if self.licences.awaits() {
            return;
        }
        let kept = self.events.kept;
        let ready = |taking: &mut Taking| taking.own.is_none_or(|own| kept >= own) && taking.drain.is_empty();
        let Some(taking) = self.events.taking.take_if(ready) else {
            return;
        };
        let message = Message::SharedTaken { version: taking.state.stamp.version };
        let generation = self.view.generation;
        self.install(taking.state, &taking.attentions, taking.met);
        self.refuse_waiting(actions);
        if taking.met {
            self.know_state();
        }
        actions.push(Action::Send { via: Via::Link(taking.link), message, payload: Data::new(), generation });
    }

    /// Reads of own hosts that wait for a range, which the new state keeps out.
    fn refuse_waiting(&mut self, actions: &mut Vec<Action>) {
        let mut refused = Vec::new();
        for (slot, task) in &self.tasks {
            if let (Stage::Range, Origin::Host { nexus, .. }) = (task.stage, task.origin)
                && let Some(outcome) = self.refusal(nexus, &task.op)
            {
                refused.push((slot as u32, outcome));
            }
        }
        for (slot, outcome) in refused {
            self.withdraw(slot, outcome, actions);
        }
    }

    /// The state holds here from now on, and the nexuses of this controller are told of it.
    pub(super) fn install(&mut self, next: SharedState, attentions: &[Attention], met: bool) {
        let before = core::mem::replace(&mut self.shared, next);
        self.on_sanitize_state(&before.sanitize);
        self.stand_guard();
        self.show_sense_format();
        for attention in attentions {
            self.raise(attention);
        }
        if met {
            self.tell_difference(&before);
        }
    }

    /// Where whoever encodes sense data of this LUN finds its format.
    #[must_use]
    pub fn sense_format(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.descriptor_sense)
    }

    pub(super) fn show_sense_format(&self) {
        self.descriptor_sense.store(self.shared.current.descriptor_sense, Ordering::Relaxed);
    }

    /// Works out anew whom the state keeps out.
    pub(super) fn stand_guard(&mut self) {
        let handle = |nexus| self.handle(nexus);
        let reserver = self.shared.reserver.filter(|reserver| !self.is_of_lost_session(*reserver));
        self.guard = Guard::of(&self.shared, reserver, self.attentions.nexuses(), handle);
    }

    pub(super) fn raise(&mut self, attention: &Attention) {
        let setup = &self.setup;
        self.attentions.raise(attention, |nexus| setup.handle(nexus));
    }

    /// Events that this controller did not take part in have changed the state: its nexuses hear what they would
    /// have been told.
    fn tell_difference(&mut self, before: &SharedState) {
        self.tell_reservations(before);
        let told = |modes: Modes| modes.with_configured(self.setup.write_cache);
        if told(before.current) != told(self.shared.current) {
            let code = Sense::MODE_PARAMETERS_CHANGED.code;
            self.raise(&Attention { whom: Whom::All, code });
        }
        if let Some(reserver) = before.reserver
            && self.shared.reserver != before.reserver
            && let Some(name) = self.own_name(reserver)
        {
            let code = Sense::NEXUS_LOSS.code;
            self.raise(&Attention { whom: Whom::One(name), code });
        }
    }

    /// SPC-4 5.13: whose registration is gone, or whose reservation another has taken or ended.
    fn tell_reservations(&mut self, before: &SharedState) {
        let (old, new) = (&before.reservations, &self.shared.reservations);
        let is_in = |state: &Reservations, name: &NexusName| {
            state.registrants.iter().any(|registrant| registrant.nexus == *name)
        };
        let mut told = Vec::new();
        for (_, name) in self.attentions.nexuses() {
            let sense = match (is_in(old, name), is_in(new, name)) {
                (true, false) => Sense::REGISTRATIONS_PREEMPTED,
                (true, true) if old.reservation.is_some() && old.reservation != new.reservation => {
                    Sense::RESERVATIONS_RELEASED
                }
                _ => continue,
            };
            told.push(Attention { whom: Whom::One(name.clone()), code: sense.code });
        }
        for attention in told {
            self.raise(&attention);
        }
    }

    /// Whether a handle means a session of this controller that has ended. What it reserved keeps nobody of this
    /// controller out, though the event that ends it may still be on its way.
    pub(super) fn is_of_lost_session(&self, handle: NexusHandle) -> bool {
        handle.side == self.setup.side.index() as u8 && self.own_name(handle).is_none()
    }

    /// The name of a nexus of this controller that a handle means, if it is alive.
    pub(super) fn own_name(&self, handle: NexusHandle) -> Option<NexusName> {
        let nexus = NexusId(handle.nexus);
        (self.handle(nexus) == handle).then(|| self.attentions.name(nexus).map(|name| (**name).clone()))?
    }

    /// Hands over the durable part, if it changes; the number of the record that has to be durable, if one is not yet.
    pub(super) fn keep(&mut self, next: &SharedState, actions: &mut Vec<Action>) -> Option<u64> {
        if next.survives_as(&self.durable) {
            return (self.events.kept < self.events.asked).then_some(self.events.asked);
        }
        Some(self.record(next, actions))
    }

    /// Hands over the durable part; the number of its record.
    pub(super) fn record(&mut self, next: &SharedState, actions: &mut Vec<Action>) -> u64 {
        self.durable = next.after_power_loss();
        let record = self.durable.encode();
        self.events.asked += 1;
        if self.events.keeping {
            self.events.next_record = Some(record);
        } else {
            self.events.keeping = true;
            actions.push(self.persist(record));
        }
        self.events.asked
    }

    fn persist(&self, record: Bytes) -> Action {
        let ticket = Ticket(u64::from(self.setup.index) << 48 | self.events.asked);
        Action::Persist { record: record.to_vec(), ticket }
    }

    /// A record is durable.
    pub fn on_persisted(&mut self, ticket: Ticket, now: Time, actions: &mut Vec<Action>) {
        self.events.kept = ticket.0 & ((1 << 48) - 1);
        self.events.keeping = false;
        if let Some(record) = self.events.next_record.take() {
            self.events.keeping = true;
            actions.push(self.persist(record));
        }
        self.pump_events(actions);
        self.let_in(now, actions);
    }
}
