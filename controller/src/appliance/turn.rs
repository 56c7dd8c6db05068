//! A turn under way: what it is to, and what it waits for on this controller ([`super::turns`] has the drawing).

use protocol::interlink::standing::{Generation, Pairing};

use crate::time::Time;

/// A turn under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Turn {
    pub(super) generation: Generation,
    pub(super) pairing: Pairing,
    pub(super) since: Option<Time>,
    pub(super) step: TurnStep,
    /// This controller is main of the generation before, too.
    pub(super) was_main: bool,
}

/// What a turn waits for on this controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TurnStep {
    /// Proposed here: the other writes it down first.
    Proposed,
    /// The other has it: nothing may be in flight here.
    Draining,
    /// It is being written here, last.
    WritesLast,
    /// This controller has its new place, and waits for the other's.
    AwaitsPeersPlace,
    /// Asked for by the other: nothing may be in flight here.
    Asked,
    /// It is being written here, first.
    WritesFirst,
    /// It is durable here: changes of the old order may come until the word to begin.
    AwaitsBegin,
}

impl Turn {
    pub(super) const fn is_proposer(self) -> bool {
        match self.step {
            TurnStep::Proposed | TurnStep::Draining | TurnStep::WritesLast | TurnStep::AwaitsPeersPlace => {
                true
            }
            TurnStep::Asked | TurnStep::WritesFirst | TurnStep::AwaitsBegin => false,
        }
    }

    /// Whether this controller has its new place already.
    pub(super) const fn has_own_place(self) -> bool {
        matches!(self.step, TurnStep::AwaitsPeersPlace)
    }

    /// Whether a main may go on without the other in the middle of it. The old main while it has not written the new
    /// generation, but not if its own copy leaves: the other may have that already. The new one if the other's copy
    /// has left, as soon as that is durable here. Who is main of both at any time: nobody else could ever go on.
    pub(super) const fn leaves_the_right_here(self) -> bool {
        let out = matches!(self.pairing, Pairing::Out);
        match self.step {
            TurnStep::Proposed | TurnStep::Draining => !out,
            TurnStep::WritesLast | TurnStep::AwaitsPeersPlace => false,
            TurnStep::Asked | TurnStep::WritesFirst => self.was_main,
            TurnStep::AwaitsBegin => self.was_main || out,
        }
    }
}
