//! What the group decides of a pair and the LUN lives by, in words that both have: roles, the pair's status, and why a
//! pair breaks.

use protocol::interlink::frame::VERSION_MAX;
use protocol::interlink::shared::SharedState;
use protocol::interlink::{GenerationTag, Version};
use serde::{Deserialize, Serialize};

use crate::disk::DiskError;
use crate::link::LinkId;

/// The version of the interlink since which a format is told.
const FORMATS_SINCE: u16 = Version::V2 as u16;

/// The pair status (lower case in JSON).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PairStatus {
    /// One copy, as configured.
    Simplex,
    /// Being copied from main's volume to the other.
    Copy,
    /// Both copies are identical but for writes in flight.
    Duplex,
    /// Split by a person.
    Split,
    /// Split by a failure, or the peer has not been met yet.
    Suspended,
}

/// A controller's role for one LUN.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Admits and orders the writes.
    Main,
    /// Forwards them to main.
    Sub,
}

/// How a LUN is served on one controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Service {
    /// Not at all.
    Refused,
    /// Not until it is decided how main, which has lost its peer, goes on: nothing is admitted, no write answered.
    Undecided,
    /// Changes go to both copies. The sub reads its own.
    Mirrored,
    /// Main has the only whole copy.
    Alone,
    /// The sub has no whole copy (or none at all): main does everything.
    Forwarded,
}

impl Service {
    /// Whether hosts' commands are carried out, here or at main.
    #[must_use]
    pub const fn serves(self) -> bool {
        !matches!(self, Self::Refused | Self::Undecided)
    }
}

/// A LUN's place in the pair: made by its group in one function, and handed down to its LUNs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PairView {
    /// This controller's role.
    pub role: Role,
    /// The pair, as people see it.
    pub status: PairStatus,
    /// How hosts are served here.
    pub service: Service,
    /// What messages must carry.
    pub generation: GenerationTag,
    /// The bridges they may come by.
    pub links: Vec<LinkId>,
    /// The version of the interlink that both speak.
    pub version: u16,
}

impl PairView {
    /// Serving nothing.
    #[must_use]
    pub const fn suspended(role: Role) -> Self {
        let generation = GenerationTag { number: 0, id: 0 };
        let (status, service) = (PairStatus::Suspended, Service::Refused);
        Self { role, status, service, generation, links: Vec::new(), version: VERSION_MAX }
    }

    /// Whether this is a main whose changes go to both copies.
    #[must_use]
    pub const fn is_mirrored(&self) -> bool {
        matches!((self.role, self.service), (Role::Main, Service::Mirrored))
    }

    /// Whether the peer can read of a format; without a peer nobody has to.
    #[must_use]
    pub fn peer_reads_formats(&self) -> bool {
        self.links.is_empty() || self.version >= FORMATS_SINCE
    }

    /// A state that the peer is to have, in words that it can read. Both then have it in these words.
    #[must_use]
    pub fn as_peer_reads(&self, state: SharedState) -> SharedState {
        if self.peer_reads_formats() {
            return state;
        }
        SharedState { sanitize: state.sanitize.in_version_1(), ..state }
    }

    /// Whether hosts' commands are carried out, here or at main.
    #[must_use]
    pub const fn serves(&self) -> bool {
        self.service.serves()
    }

    /// The generation in the stamp of what main makes of the shared state now. Without a peer it is the next one: what
    /// the peer remembers of this one is older, and the next meeting makes a newer.
    #[must_use]
    pub const fn stamp_generation(&self) -> u64 {
        self.generation.number.saturating_add(self.links.is_empty() as u64)
    }

    /// A later one under the same connections.
    #[must_use]
    pub fn followed_by(&mut self, later: Self) -> Self {
        Self { links: core::mem::take(&mut self.links), version: self.version, ..later }
    }
}

/// Whether anything is in flight on a LUN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quiet {
    /// Something is.
    No,
    /// Only changes that one of the copies has and the other may lack: they wait for a decision about the pair.
    Undecided,
    /// Nothing.
    Yes,
}

impl Quiet {
    /// Of two LUNs together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Undecided, _) | (_, Self::Undecided) => Self::Undecided,
            (Self::Yes, Self::Yes) => Self::Yes,
        }
    }
}

/// Why a pair is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PairFault {
    /// This controller's disk failed.
    OwnDisk(DiskError),
    /// The peer says its disk failed.
    PeerDisk,
    /// The peer sent something that cannot be.
    ProtocolViolation,
    /// The peer does not end what it was asked for.
    Overdue,
}

impl PairFault {
    /// Whether a disk that had found no room has failed since.
    #[must_use]
    pub const fn is_worse_than(self, known: DiskError) -> bool {
        matches!(self, Self::OwnDisk(error) if known.wants_room() && !error.wants_room())
    }
}
