//! How far the two controllers have come in meeting each other: one enum, one function of transitions
//! ([`Phase::on`]); the test below walks every pair of phase and event.
//!
//! ```text
//!          every connection greeted
//!  Apart ───────────────────────────► Settling    the identity, durable on both
//!    ▲                                   │
//!    │ lost                          Comparing ◄─┐ what each has of every LUN
//!    │ (from any phase)                  │  └► Making   volumes of new LUNs, then both tell again
//!    │                               Agreeing     volumes made, generations and starts durable on both
//!    │                                   │
//!    └───────────────────────────────── Joined    LUNs are served
//! ```
//!
//! What always holds: nothing is waited for that this phase did not ask for, and only [`Phase::Joined`] serves a LUN
//! together with the peer.

/// Where the meeting is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Phase {
    /// The two are not in touch, or their connections are not complete.
    #[default]
    Apart,
    /// The identity is being made durable.
    Settling {
        /// It is, here.
        own: bool,
        /// It is, at the peer.
        peer: bool,
    },
    /// This controller has told what it has, and waits for what the peer has.
    Comparing,
    /// Volumes of LUNs that were never agreed on are being made.
    Making {
        /// So many.
        waits: u32,
    },
    /// What was agreed on is being carried out.
    Agreeing {
        /// So many volumes are being made or marked.
        waits: u32,
        /// Whose turn it is.
        step: Step,
    },
    /// LUNs are served together.
    Joined,
}

/// Who makes what durable while agreeing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// The leader, of the LUNs it will be main of.
    LeadingOwn,
    /// The leader waits for the other.
    LeadingPeer,
    /// The leader, of the LUNs the other will be main of.
    LeadingRest,
    /// The other.
    Following,
    /// The other has all and waits for the word to begin.
    Placed,
}

/// What happens in a meeting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// An identity to be kept is there; whether the peer has it durable.
    Identity {
        /// It is the leader's, and came from there.
        peer: bool,
    },
    /// The identity is durable here.
    OwnIdentity,
    /// The identity is durable at the peer.
    PeerIdentity,
    /// This controller tells what it has.
    Tells,
    /// So many volumes have to be made before both tell again.
    Makes(u32),
    /// An agreement is carried out; so many volumes have to be made first.
    CarriesOut(Step, u32),
    /// One of the volumes that are waited for is made or marked, or will not be.
    OneLess,
    /// The leader has its own generations durable and sends the agreements.
    SendsAgreements,
    /// All generations are durable here; so many volumes have to be marked.
    Marks(u32),
    /// Nothing that is put back later can have what is durable here now.
    StartsDurable,
    /// The leader's word to begin.
    Begin,
    /// The peer is out of reach.
    Lost,
}

impl Phase {
    /// The one function of transitions: the phase after an event. An event that means nothing to a phase changes
    /// nothing.
    #[must_use]
    pub(super) const fn on(self, progress: Progress) -> Self {
        match (self, progress) {
            (_, Progress::Lost) => Self::Apart,
            (Self::Apart, Progress::Identity { peer }) => Self::Settling { own: false, peer },
            (Self::Settling { peer, .. }, Progress::OwnIdentity) => Self::Settling { own: true, peer },
            (Self::Settling { own, .. }, Progress::PeerIdentity) => Self::Settling { own, peer: true },
            (Self::Settling { own: true, peer: true } | Self::Making { waits: 0 }, Progress::Tells) => {
                Self::Comparing
            }
            (Self::Comparing, Progress::Makes(waits)) => Self::Making { waits },
            (Self::Comparing, Progress::CarriesOut(step @ (Step::LeadingOwn | Step::Following), waits))
            | (
                Self::Agreeing { step: Step::LeadingPeer, .. },
                Progress::CarriesOut(step @ Step::LeadingRest, waits),
            ) => Self::Agreeing { waits, step },
            (Self::Making { waits }, Progress::OneLess) => Self::Making { waits: waits.saturating_sub(1) },
            (Self::Agreeing { waits, step }, Progress::OneLess) => {
                Self::Agreeing { waits: waits.saturating_sub(1), step }
            }
            (Self::Agreeing { step: Step::LeadingOwn, .. }, Progress::SendsAgreements) => {
                Self::Agreeing { waits: 0, step: Step::LeadingPeer }
            }
            (
                Self::Agreeing { step: step @ (Step::LeadingRest | Step::Following), .. },
                Progress::Marks(waits),
            ) => Self::Agreeing { waits, step },
            (Self::Agreeing { step: Step::LeadingRest, .. }, Progress::StartsDurable)
            | (Self::Agreeing { step: Step::Placed, .. }, Progress::Begin) => Self::Joined,
            (Self::Agreeing { step: Step::Following, .. }, Progress::StartsDurable) => {
                Self::Agreeing { waits: 0, step: Step::Placed }
            }
            (unchanged, _) => unchanged,
        }
    }

    /// Whether the identity is durable on both, so that both tell what they have.
    #[must_use]
    pub(super) const fn is_settled(self) -> bool {
        matches!(self, Self::Settling { own: true, peer: true })
    }
}

#[cfg(test)]
#[path = "phase_tests.rs"]
mod tests;
