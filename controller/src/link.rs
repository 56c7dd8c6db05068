//! Connections of the interlink, and what travels on them, as the cores see them.

use bytes::Bytes;
use protocol::interlink::{GenerationTag, Message};

/// In the place of a LUN's number: a message is about none.
pub const NO_LUN: u16 = u16::MAX;

/// One connection of the interlink, counted by the controller's world since its start; never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u32);

/// What kind of connection of the interlink a link is, told to the one who dials and learned by the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkKind {
    /// The control connection; dialed by the first controller only.
    Control,
    /// A bridge of the given number; each controller dials its own.
    Bridge(u16),
}

/// One frame for the interlink: its head (prefix and body) and its payload, both already checksummed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Prefix and body.
    pub head: Bytes,
    /// The data, in the pieces it was received in.
    pub payload: Vec<Bytes>,
}

impl Frame {
    /// A frame with a message about the LUN of this number, under this generation.
    #[must_use]
    pub fn new(message: &Message, lun: u16, generation: GenerationTag, payload: Vec<Bytes>) -> Self {
        Self { head: message.encode(lun, generation, &payload), payload }
    }
}

/// Where a frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    /// Back on the connection a request came by.
    Link(LinkId),
    /// To the peer on whichever of this controller's bridges belongs to the calling worker.
    AnyBridge,
}
