//! The event under way at main.

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
