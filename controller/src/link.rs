//! Connections of the interlink, and what travels on them, as the cores see them.

use bytes::Bytes;

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

/// Where a frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    /// Back on the connection a request came by.
    Link(LinkId),
    /// To the peer on whichever of this controller's bridges belongs to the calling worker.
    AnyBridge,
}
