//! The state that main has sent, under way at the sub: its durable part becomes durable, what has to end first ends,
//! then it holds, and main hears so.

use protocol::interlink::shared::{Attention, SharedState};
use protocol::interlink::{GenerationTag, Message};

use super::keeper::Keeper;
use super::step::Facts;
use crate::command::Data;
use crate::link::{LinkId, Via};
use crate::lun::task::Action;

/// A state that main has sent.
#[derive(Debug)]
pub(in crate::lun) struct Taking {
    /// Where main hears that it holds.
    pub(in crate::lun) link: LinkId,
    pub(in crate::lun) state: SharedState,
    pub(in crate::lun) attentions: Vec<Attention>,
    /// The record that has to be durable, until it is.
    pub(in crate::lun) own: Option<u64>,
    /// The number of hosts' commands that had come: what is left of them has to end first.
    pub(in crate::lun) drains: Option<u64>,
    /// Main tells it because the two have met.
    pub(in crate::lun) met: bool,
}

impl Taking {
    /// The word for main that it holds.
    pub(super) fn message(&self, generation: GenerationTag) -> Action {
        let message = Message::SharedTaken { version: self.state.stamp.version };
        Action::Send { via: Via::Link(self.link), message, payload: Data::new(), generation }
    }
}

/// What the sub is being told: one state at a time.
#[derive(Debug, Default)]
pub(super) struct Receiving {
    taking: Option<Taking>,
}

impl Receiving {
    /// Whether a state is under way.
    pub(super) const fn is_under_way(&self) -> bool {
        self.taking.is_some()
    }

    /// A state begins its way.
    pub(super) fn begin(&mut self, taking: Taking) {
        debug_assert!(self.taking.is_none(), "main sends one state at a time");
        self.taking = Some(taking);
    }

    /// The number of hosts' commands that had come, if what is left of them has to end.
    pub(super) fn drains(&self) -> Option<u64> {
        self.taking.as_ref()?.drains
    }

    /// The state that may hold from now on.
    pub(super) fn take_if_ready(&mut self, facts: &Facts, keeper: &Keeper) -> Option<Taking> {
        if facts.copies_end || !facts.hosts_ended {
            return None;
        }
        self.taking.take_if(|taking| taking.own.is_none_or(|own| keeper.has(own)))
    }

    /// What is under way, whatever it still waits for.
    pub(super) const fn take(&mut self) -> Option<Taking> {
        self.taking.take()
    }
}
