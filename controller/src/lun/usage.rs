//! What a LUN says of its work, and how much of its bounds is in use, for whoever asks: counted where the queues are,
//! read under the LUN's lock.

use crate::status::SanitizeStatus;

/// How much of a bound is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Used {
    /// Now.
    pub now: u64,
    /// The most since the start.
    pub peak: u64,
}

/// What people are told of the work of one LUN.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LunWork {
    /// Commands of this controller's hosts in flight, forwarded ones among them.
    pub commands: u32,
    /// Bytes in the communication volume.
    pub communication_bytes: u64,
    /// While COPY, at main: how much is done, in percent, and what the rest takes at the pace so far, in seconds.
    pub copied: Option<(u8, Option<u64>)>,
    /// A sanitize operation.
    pub sanitize: Option<SanitizeStatus>,
}

/// What one LUN uses of its bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LunUsage {
    /// Commands in flight: [`super::LUN_COMMANDS_MAX`].
    pub commands: Used,
    /// Commands that wait for a decision about the pair: [`super::HELD_COMMANDS_MAX`].
    pub held: Used,
    /// Commands that wait for ranges: [`crate::exclusive::WAITERS_MAX`].
    pub waiters: Used,
    /// Requests in the communication volume: [`super::COMMUNICATION_VOLUME_REQUESTS_MAX`].
    pub requests: u64,
    /// Bytes in the communication volume: [`super::COMMUNICATION_VOLUME_BYTES_MAX`].
    pub communication_bytes: Used,
    /// Bytes of changes under way to the peer.
    pub apply_bytes: Used,
    /// Bytes of forwarded commands at main.
    pub forward_bytes: Used,
    /// What one LUN gets of each of these two classes.
    pub class_bytes: u64,
    /// Pieces of a copy under way.
    pub copy_chunks: u64,
    /// Pieces of a sanitize operation under way.
    pub sanitize_chunks: u64,
    /// Nexuses known: [`super::NEXUSES_MAX`].
    pub nexuses: u64,
}
