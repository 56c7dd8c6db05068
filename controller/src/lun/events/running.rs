//! The event under way at main.
//!
//! # The end of the write cache
//!
//! A MODE SELECT that makes WCE 0, and a reset that brings a saved 0 back, flush both copies between draining and legs:
//! from its answer on every write that was ever answered is durable on both.
//! * When the flush begins, no host's command is under way and what comes waits behind the event. Nothing is answered
//!   that the flush does not cover.
//! * What waited is admitted under the new state only, by which it is durable on both copies before its answer. The sub
//!   sends what an older state let pass again, under the new one.
//! * A crash before the new state is on both leaves WCE as it was, or 0, for an event that nobody was told of; the
//!   copies are flushed in either case. After it, main has the new state or meets a peer that has.
//! * If the pair loses a copy meanwhile, what the flush said of it means nothing: the event is given back, and flushes
//!   anew when the pair is decided on, or its host hears that it came to nothing.

use protocol::interlink::event::Event;
use protocol::interlink::shared::{Attention, SharedState};

use super::keeper::Keeper;
use super::step::Waiting;
use crate::command::{Data, Op};
use crate::lun::task::Origin;
use crate::time::Time;

/// What it is.
#[derive(Debug)]
pub(super) enum What {
    /// The two have met: which state is the newer?
    Meet,
    Event(Box<Event>),
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Stage {
    /// What is before it has not ended.
    Draining,
    /// The write cache is about to end: the flush of this number is on its way, then done.
    Flushing(u32),
    Flushed,
    /// The sub has been asked for its state.
    Asking,
    /// On its way to both disks.
    Legs(Box<Legs>),
}

/// A new state on its way to both.
#[derive(Debug)]
pub(super) struct Legs {
    pub(super) next: SharedState,
    pub(super) attentions: Vec<Attention>,
    pub(super) data: Data,
    /// What hosts of the sub have under way ends first.
    pub(super) reset: bool,
    /// The record that has to be durable here, until it is.
    pub(super) own: Option<u64>,
    /// The sub has not taken it yet.
    pub(super) peer: bool,
}

/// An event under way.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) what: What,
    pub(super) origin: Origin,
    pub(super) received: Time,
    pub(super) stage: Stage,
}

impl Legs {
    /// Both disks and the sub have it.
    pub(super) fn are_done(&self, keeper: &Keeper) -> bool {
        !self.peer && self.own.is_none_or(|own| keeper.has(own))
    }
}

impl Running {
    /// Nothing of it is anywhere yet.
    pub(super) const fn has_begun_nothing(&self) -> bool {
        matches!(self.stage, Stage::Draining | Stage::Flushing(_))
    }

    /// It may forbid a write that a record, which a failed disk left behind, would carry out at the next start.
    pub(super) fn forbids_writes(&self) -> bool {
        matches!(&self.what, What::Event(event) if matches!(**event, Event::ReserveOut { .. }))
    }

    /// Its name while it waits for the sub's word alone.
    pub(super) fn at_sub(&self) -> Option<u64> {
        match &self.stage {
            Stage::Asking => Some(u64::MAX),
            Stage::Legs(legs) if legs.peer => Some(legs.next.stamp.version),
            Stage::Draining | Stage::Flushing(_) | Stage::Flushed | Stage::Legs(_) => None,
        }
    }

    /// The sub has the state of this version.
    pub(super) fn on_taken(&mut self, version: u64) {
        if let Stage::Legs(legs) = &mut self.stage
            && legs.next.stamp.version == version
        {
            legs.peer = false;
        }
    }

    /// On its legs, it is completed without the peer; if a host there sent it, nobody hears of the end.
    pub(super) fn lose_peer(&mut self) {
        if let Stage::Legs(legs) = &mut self.stage {
            legs.peer = false;
        }
        if matches!(self.origin, Origin::Peer { .. }) {
            self.origin = Origin::Nobody;
        }
    }

    /// It had begun nothing, and waits again. `None` for the question which state is the newer.
    pub(super) fn into_waiting(self, version: u64) -> Option<Waiting> {
        let What::Event(event) = self.what else {
            return None;
        };
        let (origin, received) = (self.origin, self.received);
        Some(Waiting { origin, op: Op::Event(event), durable: false, received, version })
    }
}
