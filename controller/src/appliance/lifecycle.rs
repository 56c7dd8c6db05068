//! The life of a group: in which stage its LUN is on this controller, and what each event makes of it. One enum, one
//! function of transitions ([`Stage::on`]); the test below walks every pair of stage and event.
//!
//! ```text
//!            agreed           records durable            the word to begin
//!   Apart ───────────► Agreed ───────────────► Placed ───────────────────► Served ◄──────┐
//!    ▲  ▲                 ▲ ▲                                               │ │ │   over  │
//!    │  │ lost, no right  │ │ agreed                             proposed  │ │ └────► Switching
//!    │  └─────────────────┼─┼──────────────────────────────────────────────┤ │
//!    │ refused for good   │ │             lost, with the right to go on    │ │ an end has begun
//!    ├──────────── WaitingOut ◄────────────────────────────────────────────┘ ▼
//!    │                 │ the lease has run out                      Closed, Yielding
//!    │                 ▼
//!    │            GoingAlone ── the generation is durable ──► Alone
//! ```
//!
//! * **Nothing opens once the end has begun**: whatever a stage was about to become, it becomes [`Stage::Closed`]
//!   (or [`Stage::Yielding`], at a main whose peer is the one that ends).
//! * **Every wait is a stage**, and each arrow looks at all of it: a peer that is refused, that goes away again, a disk
//!   that is given up, an end that begins.
//! * The pair's status and how hosts are served follow from the stage in one function ([`Stage::view`]); nothing else
//!   decides on them, and the LUNs live by what is handed down to them:
//!
//! | stage | pairing | status | main serves | sub serves |
//! |---|---|---|---|---|
//! | Apart, Agreed from it | - | SUSPENDED | no | no |
//! | WaitingOut, GoingAlone, Agreed from them | - | SUSPENDED | not yet: commands wait | - |
//! | Alone, Agreed from it | - | SUSPENDED | alone | - |
//! | Placed, Served, Switching, Yielding, Closed | Copy | COPY | to both copies | through main |
//! | the same | Whole | DUPLEX | to both copies | reads here, writes through main |
//! | the same | Out | SUSPENDED | alone | through main |
//! | any that serves, without a second copy | - | SIMPLEX | alone | through main |
//!
//! Out is SPLIT or SIMPLEX where a person wants that (`GroupState::standing`).

use protocol::interlink::copy_report::Pairing;

use super::switch::Switch;
use crate::pair::{PairStatus, Role, Service};
use crate::time::Time;

/// Where a group is in its life on this controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Nothing is served: not met yet, lost, or refused.
    Apart,
    /// Main has lost its peer, or has started as the only one its last generation names: hosts wait until the last
    /// lease that may have been granted has run out.
    WaitingOut {
        /// When it has.
        until: Time,
    },
    /// The generation that names its copy alone is being written; hosts wait.
    GoingAlone {
        /// By this ticket.
        ticket: u64,
    },
    /// Hosts of this controller are served from the only whole copy; the peer has no part in it.
    Alone,
    /// The two have agreed; volumes and records are being made.
    Agreed {
        /// How the pair goes on.
        pairing: Pairing,
        /// What goes on meanwhile.
        before: Before,
    },
    /// It has its place in the pair; hosts wait for the word to begin.
    Placed(Pairing),
    /// Hosts are served.
    Served(Pairing),
    /// The pair goes on under another generation; hosts wait.
    Switching {
        /// What is under way.
        switch: Switch,
        /// The place it has meanwhile.
        pairing: Pairing,
    },
    /// An end has begun: hosts are refused, what is in flight finishes.
    Closed(Pairing),
    /// The peer ends and this main goes on without it: hosts wait for that.
    Yielding(Pairing),
}

/// What an agreement came upon, and goes on if it comes to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Before {
    /// Nothing was served.
    Nothing,
    /// Main was waiting for the lease to run out.
    WaitingOut,
    /// Hosts of this controller were served alone.
    Alone,
}

/// What happens to a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// This controller has started, and its last generation names its copy alone.
    StartsAlone {
        /// When the last lease has run out that may have been granted.
        until: Time,
    },
    /// This controller has started, and the LUN has no other copy.
    StartsSimplex,
    /// The peer is out of reach.
    Lost {
        /// Whether this main has the right to go on without it ([`Stage::has_right`]).
        right: bool,
        /// When the last lease has run out.
        until: Time,
    },
    /// The lease has run out; what names this copy alone is written by this ticket.
    LeaseOut(u64),
    /// What was written by this ticket is durable.
    AloneDurable(u64),
    /// The two have agreed.
    Agreed(Pairing),
    /// The two have met and do not agree.
    Refused {
        /// What the peer has may be newer, or another history: this controller does not go on.
        for_good: bool,
    },
    /// It takes its place; hosts are served at once, or with the word to begin.
    TakesPlace {
        /// At once.
        open: bool,
    },
    /// The word to begin.
    Begins,
    /// Another generation is proposed, here or there.
    Switches(Switch),
    /// The switch takes its next step.
    SwitchSteps(Switch),
    /// This controller has its new place, and waits for the peer's.
    SwitchPlaces(Pairing),
    /// The switch is over.
    SwitchOver(Pairing),
    /// Both copies are whole.
    CopyWhole,
    /// A clean end has begun here.
    OwnEnd,
    /// A clean end has begun at the peer.
    PeerEnds {
        /// Whether this main goes on when the peer is gone.
        right: bool,
    },
    /// This copy's disk was given up, or has lost what was flushed: it may not become the last one.
    DiskLost,
}

/// What the LUN is told when its group changes stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// Nothing.
    Nothing,
    /// The peer is out of reach, this main may go on.
    LosePeer,
    /// The peer is gone; this controller serves on.
    PeerGone,
    /// Nothing is served any more.
    Suspend,
    /// Name this copy alone, durably.
    WriteAlone,
    /// Take the place of the pairing, without serving hosts yet.
    Place(Pairing),
    /// Take the place of the pairing and serve hosts.
    Begin(Pairing),
    /// Serve hosts.
    Open,
    /// Hosts' new commands wait.
    Hold,
    /// Hosts' new commands are refused.
    Close,
    /// Take the place of the pairing; hosts' new commands are refused.
    PlaceClosed(Pairing),
    /// Both copies are whole.
    Copied,
}

/// What [`Stage::on`] has to know of the group beside its stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Facts {
    /// This controller's role by the group's generation.
    pub(super) role: Role,
    /// Whether the LUN has a second copy.
    pub(super) mirror: bool,
    /// Whose clean end has begun.
    pub(super) ending: Option<Ends>,
}

/// Whose clean end it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ends {
    /// This controller's, or both.
    Own,
    /// The peer's.
    Peer,
}

impl Stage {
    /// The one function of transitions: the stage after an event, and what the LUN is told. An event that means nothing
    /// to a stage changes nothing.
    #[must_use]
    pub(super) fn on(self, event: Event, facts: Facts) -> (Self, Order) {
        match event {
            // An end that comes before what a start writes down is durable.
            Event::StartsAlone { .. } | Event::StartsSimplex if facts.ending == Some(Ends::Own) => {
                (self, Order::Nothing)
            }
            Event::StartsAlone { .. } | Event::StartsSimplex => self.on_start(event),
            Event::Lost { right, until } => self.on_lost(right, until, facts),
            Event::LeaseOut(ticket) => match self {
                Self::WaitingOut { .. } if facts.ending.is_none() => {
                    (Self::GoingAlone { ticket }, Order::WriteAlone)
                }
                other => (other, Order::Nothing),
            },
            Event::AloneDurable(durable) => match self {
                Self::GoingAlone { ticket } if ticket == durable && facts.ending == Some(Ends::Own) => {
                    (Self::Apart, Order::Suspend)
                }
                Self::GoingAlone { ticket } if ticket == durable => (Self::Alone, Order::Begin(Pairing::Out)),
                other => (other, Order::Nothing),
            },
            Event::Agreed(pairing) => self.on_agreed(pairing),
            Event::Refused { for_good } => self.on_refused(for_good),
            Event::TakesPlace { open } => match self {
                Self::Agreed { pairing, .. } if open => Self::opened(pairing, facts, true),
                Self::Agreed { pairing, .. } => (Self::Placed(pairing), Order::Place(pairing)),
                other => (other, Order::Nothing),
            },
            Event::Begins => match self {
                Self::Placed(pairing) => Self::opened(pairing, facts, false),
                other => (other, Order::Nothing),
            },
            Event::Switches(_) | Event::SwitchSteps(_) | Event::SwitchPlaces(_) | Event::SwitchOver(_) => {
                self.on_switch_event(event, facts)
            }
            Event::CopyWhole => self.on_copy_whole(),
            Event::OwnEnd => self.on_own_end(facts),
            Event::PeerEnds { right } => self.on_peers_end(right, facts),
            Event::DiskLost => match self {
                Self::WaitingOut { .. } => (Self::Apart, Order::Suspend),
                Self::Agreed { pairing, before: Before::WaitingOut } => {
                    (Self::Agreed { pairing, before: Before::Nothing }, Order::Suspend)
                }
                other => (other, Order::Nothing),
            },
        }
    }

    const fn on_start(self, event: Event) -> (Self, Order) {
        match (self, event) {
            (Self::Apart, Event::StartsAlone { until }) => (Self::WaitingOut { until }, Order::LosePeer),
            (Self::Apart, Event::StartsSimplex) => (Self::Alone, Order::Begin(Pairing::Whole)),
            (other, _) => (other, Order::Nothing),
        }
    }

    fn on_lost(self, right: bool, until: Time, facts: Facts) -> (Self, Order) {
        let waits = (Self::WaitingOut { until }, Order::LosePeer);
        let suspends = (Self::Apart, Order::Suspend);
        match self {
            Self::Alone => (Self::Alone, Order::PeerGone),
            // What was agreed on came to nothing. Who may be main by it is main of both generations.
            Self::Agreed { before: Before::Alone, .. } => (Self::Alone, Order::PeerGone),
            Self::Agreed { before: Before::WaitingOut, .. } if facts.role == Role::Main => {
                (Self::WaitingOut { until }, Order::Nothing)
            }
            Self::Agreed { before: Before::WaitingOut | Before::Nothing, .. } => suspends,
            Self::Served(pairing) if Self::serves_alone(pairing, facts) => (Self::Alone, Order::PeerGone),
            // Its hosts wait for that.
            Self::Yielding(pairing)
                if Self::serves_alone(pairing, facts) && facts.ending != Some(Ends::Own) =>
            {
                (Self::Alone, Order::Begin(pairing))
            }
            // It was not serving yet, and needs nobody for it.
            Self::Placed(pairing)
                if !facts.mirror && facts.role == Role::Main && facts.ending != Some(Ends::Own) =>
            {
                (Self::Alone, Order::Begin(pairing))
            }
            Self::Placed(_)
            | Self::Served(_)
            | Self::Switching { .. }
            | Self::Yielding(_)
            | Self::Closed(_) => {
                if right && facts.ending != Some(Ends::Own) {
                    waits
                } else {
                    suspends
                }
            }
            // Every connection that comes to nothing is a loss, too: what goes on without the peer is not touched.
            Self::Apart | Self::WaitingOut { .. } | Self::GoingAlone { .. } => (self, Order::Nothing),
        }
    }

    const fn on_agreed(self, pairing: Pairing) -> (Self, Order) {
        let before = match self {
            Self::Apart => Before::Nothing,
            Self::WaitingOut { .. } => Before::WaitingOut,
            Self::Alone => Before::Alone,
            other => return (other, Order::Nothing),
        };
        (Self::Agreed { pairing, before }, Order::Nothing)
    }

    const fn on_refused(self, for_good: bool) -> (Self, Order) {
        match self {
            Self::Alone | Self::WaitingOut { .. } | Self::GoingAlone { .. } if for_good => {
                (Self::Apart, Order::Suspend)
            }
            other => (other, Order::Nothing),
        }
    }

    fn on_switch_event(self, event: Event, facts: Facts) -> (Self, Order) {
        match (self, event) {
            // A switch that meets an end is carried out: the peer may have it on its disk. Nothing opens after it.
            (Self::Served(pairing) | Self::Yielding(pairing), Event::Switches(switch)) => {
                (Self::Switching { switch, pairing }, Order::Hold)
            }
            (Self::Closed(pairing), Event::Switches(switch)) => {
                (Self::Switching { switch, pairing }, Order::Nothing)
            }
            // Two proposals that cross: the leader's stands.
            (Self::Switching { pairing, .. }, Event::Switches(switch) | Event::SwitchSteps(switch)) => {
                (Self::Switching { switch, pairing }, Order::Nothing)
            }
            (Self::Switching { switch, .. }, Event::SwitchPlaces(pairing)) => {
                (Self::Switching { switch, pairing }, Order::Place(pairing))
            }
            // Who proposed has its place already, the other takes it now.
            (Self::Switching { switch, .. }, Event::SwitchOver(pairing)) => {
                Self::opened(pairing, facts, !switch.has_own_place())
            }
            (other, _) => (other, Order::Nothing),
        }
    }

    const fn on_copy_whole(self) -> (Self, Order) {
        match self {
            Self::Served(Pairing::Copy) => (Self::Served(Pairing::Whole), Order::Copied),
            Self::Closed(Pairing::Copy) => (Self::Closed(Pairing::Whole), Order::Copied),
            Self::Yielding(Pairing::Copy) => (Self::Yielding(Pairing::Whole), Order::Copied),
            other => (other, Order::Nothing),
        }
    }

    fn on_own_end(self, facts: Facts) -> (Self, Order) {
        match self {
            // The end comes when this is over; hosts are refused at once.
            Self::Switching { .. } => (self, Order::Close),
            Self::Served(pairing) | Self::Yielding(pairing) | Self::Placed(pairing) => {
                (Self::Closed(pairing), Order::Close)
            }
            Self::Alone | Self::Agreed { before: Before::Alone, .. } => {
                (Self::Closed(Self::alone(facts.mirror)), Order::Close)
            }
            // What waits here to go on would wait for ever.
            Self::WaitingOut { .. }
            | Self::GoingAlone { .. }
            | Self::Agreed { before: Before::WaitingOut | Before::Nothing, .. } => {
                (Self::Apart, Order::Suspend)
            }
            Self::Apart | Self::Closed(_) => (self, Order::Close),
        }
    }

    fn on_peers_end(self, right: bool, facts: Facts) -> (Self, Order) {
        match self {
            Self::Served(pairing) if Self::serves_alone(pairing, facts) => (self, Order::Nothing),
            Self::Served(pairing) if right => (Self::Yielding(pairing), Order::Hold),
            Self::Served(pairing) => (Self::Closed(pairing), Order::Close),
            Self::Switching { .. } if !right => (self, Order::Close),
            other => (other, Order::Nothing),
        }
    }

    /// Hosts are served from now on, unless an end has begun. `placing`: the LUN takes its place only now.
    fn opened(pairing: Pairing, facts: Facts, placing: bool) -> (Self, Order) {
        match facts.ending {
            None if placing => (Self::Served(pairing), Order::Begin(pairing)),
            None => (Self::Served(pairing), Order::Open),
            // Hosts wait already, and go on when the peer is gone.
            Some(Ends::Peer) if facts.role == Role::Main => {
                let order = if placing { Order::Place(pairing) } else { Order::Hold };
                (Self::Yielding(pairing), order)
            }
            Some(_) if placing => (Self::Closed(pairing), Order::PlaceClosed(pairing)),
            Some(_) => (Self::Closed(pairing), Order::Close),
        }
    }

    /// Whether this controller goes on without its peer if it loses it now: as the main of a generation that is durable
    /// here, or of the one before and the one that is being written. Whether its copy is good is not looked at.
    #[must_use]
    pub(super) fn has_right(self, facts: Facts) -> bool {
        facts.mirror
            && facts.role == Role::Main
            && match self {
                Self::Placed(_) | Self::Served(_) | Self::Yielding(_) => true,
                Self::Switching { switch, .. } => switch.leaves_the_right_here(),
                Self::Apart
                | Self::WaitingOut { .. }
                | Self::GoingAlone { .. }
                | Self::Alone
                | Self::Agreed { .. }
                | Self::Closed(_) => false,
            }
    }

    /// Whether this main serves without its peer, or will when a lease has run out: until it has agreed to something
    /// else, nobody else may become main.
    #[must_use]
    pub(super) const fn goes_on(self) -> bool {
        matches!(self, Self::WaitingOut { .. } | Self::GoingAlone { .. } | Self::Alone)
    }

    /// The pair's status, and how hosts are served here.
    #[must_use]
    pub(super) fn view(self, role: Role, mirror: bool) -> (PairStatus, Service) {
        let pairing = match self {
            Self::Apart | Self::Agreed { before: Before::Nothing, .. } => {
                return (PairStatus::Suspended, Service::Refused);
            }
            Self::WaitingOut { .. }
            | Self::GoingAlone { .. }
            | Self::Agreed { before: Before::WaitingOut, .. } => {
                return (PairStatus::Suspended, Service::Undecided);
            }
            Self::Alone | Self::Agreed { before: Before::Alone, .. } => Self::alone(mirror),
            Self::Placed(pairing)
            | Self::Served(pairing)
            | Self::Switching { pairing, .. }
            | Self::Closed(pairing)
            | Self::Yielding(pairing) => pairing,
        };
        match (mirror, pairing, role) {
            (false, _, Role::Main) => (PairStatus::Simplex, Service::Alone),
            (false, _, Role::Sub) => (PairStatus::Simplex, Service::Forwarded),
            (true, Pairing::Whole, _) => (PairStatus::Duplex, Service::Mirrored),
            (true, Pairing::Copy, Role::Main) => (PairStatus::Copy, Service::Mirrored),
            (true, Pairing::Copy, Role::Sub) => (PairStatus::Copy, Service::Forwarded),
            (true, Pairing::Out, Role::Main) => (PairStatus::Suspended, Service::Alone),
            (true, Pairing::Out, Role::Sub) => (PairStatus::Suspended, Service::Forwarded),
        }
    }

    /// The switch under way.
    #[must_use]
    pub(super) const fn switch(self) -> Option<Switch> {
        match self {
            Self::Switching { switch, .. } => Some(switch),
            _ => None,
        }
    }

    /// Whether it has a part in the meeting under way, and is not served yet.
    #[must_use]
    pub(super) const fn is_agreed(self) -> bool {
        matches!(self, Self::Agreed { .. } | Self::Placed(_))
    }

    /// Whether it is served together with the peer, or was until an end began.
    #[must_use]
    pub(super) const fn is_joint(self) -> bool {
        matches!(self, Self::Served(_) | Self::Switching { .. } | Self::Closed(_) | Self::Yielding(_))
    }

    /// When the last lease has run out that this main waits for.
    #[must_use]
    pub(super) const fn waits_until(self) -> Option<Time> {
        if let Self::WaitingOut { until } = self { Some(until) } else { None }
    }

    /// Whether this LUN has to fall quiet before a clean end goes on. A switch has to be over as well.
    #[must_use]
    pub(super) const fn closes(self) -> bool {
        matches!(self, Self::Closed(_) | Self::Yielding(_) | Self::Switching { .. })
    }

    const fn alone(mirror: bool) -> Pairing {
        if mirror { Pairing::Out } else { Pairing::Whole }
    }

    /// Main needs nothing of its peer: it has the only whole copy.
    fn serves_alone(pairing: Pairing, facts: Facts) -> bool {
        facts.role == Role::Main && (!facts.mirror || pairing == Pairing::Out)
    }
}

#[cfg(test)]
#[path = "lifecycle_tests.rs"]
mod tests;
