//! The shared state in the LUN core: who the nexuses of this controller are, how a state that main sends is taken, and
//! how its durable part gets to the disk.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use protocol::interlink::shared::{Attention, SharedState, Who};
use protocol::interlink::{Message, Version};

use super::Lun;
use super::events::Taking;
use super::keeper::Record;
use super::task::{Action, Origin, Stage};
use crate::command::{Data, NexusId};
use crate::link::{LinkId, Via};
use crate::pair::{Breakage, Role};
use crate::time::Time;
use crate::world::Ticket;

/// Bits of a ticket that name the record of a LUN.
const RECORD_BITS: u32 = 48;

/// The version of the interlink since which a format is told.
const FORMATS_SINCE: u16 = Version::V2 as u16;

impl Lun {
    /// The state that both controllers share, as it is here.
    #[must_use]
    pub const fn shared(&self) -> &SharedState {
        self.unit.state()
    }

    /// Who a nexus of this controller is, if it is known.
    #[must_use]
    pub fn who(&self, nexus: NexusId) -> Option<Who> {
        self.unit.who(nexus)
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
        let state = self.as_peer_reads(self.unit.state().clone());
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
        if self.permits.awaits() {
            return;
        }
        let keeper = &self.keeper;
        let ready =
            |taking: &mut Taking| taking.own.is_none_or(|own| keeper.has(own)) && taking.drain.is_empty();
        let Some(taking) = self.events.taking.take_if(ready) else {
            return;
        };
        let message = Message::SharedTaken { version: taking.state.stamp.version };
        let generation = self.view.generation;
        self.install(taking.state, &taking.attentions, taking.met);
        self.refuse_waiting(actions);
        if taking.met {
            self.gate.know(true);
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
        let before = self.unit.install(next, attentions, met);
        if before.sanitize != self.unit.state().sanitize {
            // What is under way belongs to another position.
            self.sanitizing.forget();
        }
    }

    /// Where whoever encodes sense data of this LUN finds its format.
    #[must_use]
    pub fn sense_format(&self) -> Arc<AtomicBool> {
        self.unit.sense_format()
    }

    /// Hands over the durable part, if it changes; the number of the record that has to be durable, if one is not yet.
    pub(super) fn keep(&mut self, next: &SharedState, actions: &mut Vec<Action>) -> Option<u64> {
        let (awaited, record) = self.keeper.keep(next);
        actions.extend(record.map(|record| self.persist(record)));
        awaited
    }

    /// Hands over the durable part; the number of its record.
    pub(super) fn record(&mut self, next: &SharedState, actions: &mut Vec<Action>) -> u64 {
        let (number, record) = self.keeper.record(next);
        actions.extend(record.map(|record| self.persist(record)));
        number
    }

    fn persist(&self, record: Record) -> Action {
        let ticket = Ticket(u64::from(self.setup.index) << RECORD_BITS | record.number);
        Action::Persist { record: record.content.to_vec(), ticket }
    }

    /// A record is durable.
    pub fn on_persisted(&mut self, ticket: Ticket, now: Time, actions: &mut Vec<Action>) {
        let next = self.keeper.on_durable(ticket.0 & ((1 << RECORD_BITS) - 1));
        actions.extend(next.map(|record| self.persist(record)));
        self.pump_events(actions);
        self.let_in(now, actions);
    }
}
