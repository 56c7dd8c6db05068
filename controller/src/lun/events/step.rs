//! What goes into the events of a LUN and what comes out: what waits, what they need of the LUN, what a step comes to.

use protocol::interlink::Message;
use protocol::interlink::shared::Attention;

use crate::command::{Command, Data, LunIndex, Op, Outcome};
use crate::link::Via;
use crate::lun::task::{Action, Origin, end};
use crate::lun::unit_state::UnitState;
use crate::pair::PairView;
use crate::time::Time;

/// What waits behind an event, or is one.
#[derive(Debug)]
pub(in crate::lun) struct Waiting {
    pub(in crate::lun) origin: Origin,
    pub(in crate::lun) op: Op,
    pub(in crate::lun) durable: bool,
    pub(in crate::lun) received: Time,
    /// Of the state by which the peer let it pass.
    pub(in crate::lun) version: u64,
}

impl Waiting {
    /// One that did not come from the peer: the state that let it pass is the one that holds here.
    pub(in crate::lun) fn of_this_controller(
        origin: Origin,
        op: Op,
        received: Time,
        unit: &UnitState,
    ) -> Self {
        Self { origin, op, durable: false, received, version: unit.version() }
    }

    /// The host's command that it is, to be judged anew. `None` if it is no host's of this controller.
    pub(in crate::lun) fn into_command(self, lun: LunIndex) -> Option<Command> {
        let Self { origin, op, received, .. } = self;
        match origin {
            Origin::Host { nexus, tag } => Some(Command { lun, nexus, tag, op, received }),
            Origin::Peer { .. } | Origin::Copy | Origin::Sanitize(_) | Origin::Event(_) | Origin::Nobody => {
                None
            }
        }
    }
}

/// What events need of the LUN, and where what they ask to be done goes.
#[derive(Debug)]
pub(in crate::lun) struct Here<'a> {
    pub(in crate::lun) view: &'a PairView,
    pub(in crate::lun) unit: &'a mut UnitState,
    pub(in crate::lun) actions: &'a mut Vec<Action>,
}

impl Here<'_> {
    /// Tells where an event or a command came from how it ended.
    pub(super) fn end(&mut self, origin: Origin, outcome: Outcome) {
        self.actions.extend(end(origin, outcome, self.view.generation));
    }

    /// A message for the sub.
    pub(super) fn tell_sub(&mut self, message: Message, payload: Data) {
        let generation = self.view.generation;
        self.actions.push(Action::Send { via: Via::AnyBridge, message, payload, generation });
    }

    /// Whether there is one.
    pub(super) fn has_peer(&self) -> bool {
        !self.view.links.is_empty()
    }
}

/// What an event may have waited for.
#[derive(Clone, Copy, Debug)]
pub(in crate::lun) struct Facts {
    /// No host's command is under way here, not even one that main has ordered on this copy.
    pub(in crate::lun) drained: bool,
    /// A record is left of a write that a failed disk did not take: the next start would carry it out.
    pub(in crate::lun) record_left: bool,
    /// Copies of the copy manager that an event ended have not ended yet.
    pub(in crate::lun) copies_end: bool,
    /// At the sub: what this controller's hosts had under way when main told of a reset has ended.
    pub(in crate::lun) hosts_ended: bool,
}

/// What a step of the events comes to.
#[derive(Debug)]
pub(in crate::lun) enum Step {
    /// Nothing can go on now.
    Rests,
    /// Something did.
    Goes,
    /// A reset has begun: what hosts asked for and was not admitted never is.
    Reset,
    /// What waited behind an event has its turn.
    Turn(Waiting),
    /// Both copies are to be flushed, under this number.
    Flush(u32),
    /// An event that is about to hold ends copies of the copy manager.
    Revoke { reset: bool, attentions: Vec<Attention> },
    /// The event holds here, and at the sub.
    Holds {
        origin: Origin,
        outcome: Outcome,
        /// Its host waits until the sanitize operation that it began has ended.
        sanitizes: bool,
        /// Another sanitize operation, or another position of it.
        resanitized: bool,
    },
    /// At the sub: the state that main sent holds.
    Taken {
        message: Action,
        /// It was told because the two have met.
        met: bool,
        resanitized: bool,
    },
}
