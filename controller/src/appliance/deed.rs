//! What a meeting and the marking of volumes want done: the appliance core carries it out, in the order of the list.

use protocol::interlink::Message;

use super::effect::Apart;
use super::lifecycle::Event;
use super::pending::Pending;
use super::starts::Round;
use super::wish::Wish;
use crate::volume::superblock::Superblock;

/// What is to be done. A group is named by its place, a LUN by its place in the plan.
#[derive(Debug)]
pub(super) enum Deed {
    /// The peer is told.
    Send(Message),
    /// A LUN has an identity: its capacity in blocks is this.
    Identified(usize, u64),
    /// LUNs have been added to those that hosts see.
    LunsChanged,
    /// All records are written; this follows when they are durable.
    Write(Pending),
    /// A volume is made.
    Create(usize, Superblock),
    /// A volume that the meeting waits for is made, or will not be.
    VolumeDone,
    /// A volume is marked, in a round.
    Mark(usize, Superblock, Round),
    /// A volume is flushed, for a clean end.
    Flush(usize),
    /// The same before one, while hosts go on.
    FlushEarly(usize),
    /// The peer has ended cleanly.
    PeerStops,
    /// Those flushes take too long: these disks have failed.
    FlushesHang,
    /// This controller's clean end begins.
    EndBegins,
    /// What a group wants.
    Group(usize, Vec<Wish>),
    /// Something happens to a group.
    Happens(usize, Event),
    /// The same happens to every group.
    EveryGroup(Event),
    /// The record that names the marks of a round is durable.
    Named(Round),
    /// So many volumes are being marked for the meeting under way, or for a clean end.
    Marks(Round, u32),
    /// One of them is marked, or could not be.
    Marked(Round, bool),
    /// The two have joined.
    Joined,
    /// What has its place begins.
    BeginPlaced,
    /// What waited for something to be written first goes on, if nothing else keeps it.
    GoOn,
    /// The two part.
    Part(Apart),
}
