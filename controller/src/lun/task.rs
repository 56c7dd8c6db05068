//! What a LUN core has in flight, and what it asks to be done.

use bytes::Bytes;
use protocol::block::{BLOCK_BYTES, BlockRange, Lba};
use protocol::interlink::{GenerationTag, Message, Report, WireOp};

use super::reading::REPORT_BYTES_MAX;
use crate::command::{Data, NexusId, Op, Outcome, TaskTag};
use crate::disk::{DiskError, DiskIo};
use crate::exclusive::{Mode, Ranges};
use crate::time::Time;
use crate::volume::redo::ATOMIC_BLOCKS_MAX;
use crate::world::{LinkId, Ticket, Via};

/// Who waits for the end of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// A host of this controller.
    Host {
        /// Its nexus.
        nexus: NexusId,
        /// Its task.
        tag: TaskTag,
    },
    /// The peer forwarded it.
    Peer {
        /// By this bridge; it is answered there.
        link: LinkId,
        /// Under this name.
        id: u64,
    },
    /// A piece of the copy to the peer.
    Copy,
    /// A piece of this run of a sanitize operation.
    Sanitize(u32),
    /// An event's flush, of this number.
    Event(u32),
    /// Nobody any more: a piece of a copy that was given up.
    Nobody,
}

/// What a task waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Its ranges are held by others. Not admitted.
    Range,
    /// The peer's buffers are full. It holds its ranges, but nobody has begun.
    Credit,
    /// The lease: a READ of the sub's own copy whose data is there.
    Lease,
    /// Its own volume's data: a READ, the compare half of COMPARE AND WRITE, the blocks of an ORWRITE, or a piece
    /// to copy.
    Read,
    /// Its legs.
    Legs,
}

/// One of the copies a change goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leg {
    /// This copy takes no part.
    None,
    /// On its way.
    Writing,
    /// Written, being made durable.
    Flushing,
    /// Durable, being read back.
    Verifying,
    /// As durable as asked.
    Done,
    /// The interlink went away first: nobody knows.
    Lost,
}

/// A command admitted or waiting to be admitted here: at main, or a read of the sub's own copy.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) origin: Origin,
    pub(super) op: Op,
    pub(super) ranges: Ranges,
    pub(super) mode: Mode,
    pub(super) durable: bool,
    pub(super) received: Time,
    pub(super) stage: Stage,
    /// Given when it is admitted as a change of a mirrored LUN; zero before.
    pub(super) sequence: u64,
    pub(super) own: Leg,
    pub(super) peer: Leg,
    /// Its own copy could not take it.
    pub(super) failed: Option<DiskError>,
    /// Bytes it has of the peer's buffers.
    pub(super) credit: u64,
    /// What an ORWRITE is going to write, once its blocks were read; the op keeps what its host sent. Empty for
    /// every other command.
    pub(super) result: Data,
    /// The own copy could not take it, and the peer's is to be made equal before its ranges are free: what is left of
    /// them to be copied again.
    pub(super) copied_again: Option<Vec<BlockRange>>,
}

impl Task {
    /// The disk I/O of the own leg.
    pub(super) fn io(&self) -> DiskIo {
        match &self.op {
            Op::OrWrite { range, .. } => DiskIo::Write { range: *range, data: self.result.clone() },
            op => to_disk(op),
        }
    }

    /// What the peer's copy is to take, for a change that it does not hold already.
    pub(super) fn apply_op(&self) -> (WireOp, Data) {
        match &self.op {
            // What was compared does not travel: the peer gets a plain write.
            Op::CompareAndWrite { range, write, .. } => (wire_write(*range), write.clone()),
            // Nor does what was read: the peer gets what came of it.
            Op::OrWrite { range, .. } => (wire_write(*range), self.result.clone()),
            op => to_wire(op),
        }
    }

    /// A piece of a copy or of a sanitize operation, or an event's flush, that is given up: it must not count for the
    /// next one. What was only for the peer has no leg left to wait for.
    pub(super) fn forget_copy(&mut self) {
        self.copied_again = None;
        match self.origin {
            Origin::Copy => {
                self.origin = Origin::Nobody;
                self.peer = Leg::None;
            }
            Origin::Sanitize(_) | Origin::Event(_) => self.origin = Origin::Nobody,
            Origin::Host { .. } | Origin::Peer { .. } | Origin::Nobody => {}
        }
    }

    /// Both legs have ended, one of them without the change: what becomes of it is decided with the pair.
    pub(super) fn awaits_decision(&self) -> bool {
        let ended = |leg| matches!(leg, Leg::Done | Leg::Lost);
        self.stage == Stage::Legs && ended(self.own) && ended(self.peer)
    }
}

/// Where a command of the sub's host stands at main.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sent {
    /// Kept in the communication volume; main has no room for it yet.
    Kept,
    /// Main has it.
    AtMain,
    /// Main has admitted it; the own copy takes it by the apply of this slot.
    Ordered,
    /// The interlink went away while the own copy was taking it.
    Lost,
    /// The interlink went away, and main, which has the only good copy, may admit it until it is too old.
    Adrift,
}

impl Sent {
    /// Whether it takes up some of the room that the main of this meeting has for forwarded commands.
    pub(super) const fn holds_credit(self) -> bool {
        match self {
            Self::AtMain | Self::Ordered => true,
            Self::Kept | Self::Lost | Self::Adrift => false,
        }
    }
}

/// A command of a host of the sub, kept until main and the own copy are done with it.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) id: u64,
    pub(super) nexus: NexusId,
    pub(super) tag: TaskTag,
    pub(super) op: Op,
    pub(super) durable: bool,
    /// The version of the shared state by which it was let pass.
    pub(super) version: u64,
    pub(super) received: Time,
    pub(super) sent: Sent,
    /// Main's DONE has come.
    pub(super) done: bool,
    /// Main's copy could not take it after it was ordered.
    pub(super) failed: Option<protocol::scsi::sense::Sense>,
    /// A reset has come: if main has not admitted it, it never does.
    pub(super) given_up: bool,
    /// The own copy has taken it.
    pub(super) applied: bool,
    /// Main's place for it in the order, once ordered.
    pub(super) sequence: u64,
    /// Bytes it takes of the communication volume and of main's buffers.
    pub(super) bytes: u64,
}

/// What a change of the sub's own copy waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ApplyStage {
    /// Reads of the own copy.
    Range,
    /// The disk.
    Writing,
    /// The disk's flush.
    Flushing,
    /// The disk, from which it is read back.
    Verifying,
    /// Main's word that the range is free on both: until then its reads go to main.
    Release,
}

/// A change main has ordered on the sub's own copy.
#[derive(Debug)]
pub(super) struct Apply {
    pub(super) sequence: u64,
    /// Where APPLIED goes; `None` once that bridge is gone.
    pub(super) link: Option<LinkId>,
    pub(super) io: DiskIo,
    /// All or nothing, by way of the redo record.
    pub(super) atomic: bool,
    pub(super) ranges: Ranges,
    pub(super) durable: bool,
    /// WRITE AND VERIFY: read back when it is durable.
    pub(super) verify: bool,
    /// START STOP UNIT: what the unit is once the disk is done.
    pub(super) start: Option<bool>,
    pub(super) stage: ApplyStage,
    /// The forward it belongs to, if it came from a host of this controller.
    pub(super) forward: Option<u32>,
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

/// Why a pair is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Breakage {
    /// This controller's disk failed.
    OwnDisk(DiskError),
    /// The peer says its disk failed.
    PeerDisk,
    /// The peer sent something that cannot be.
    Nonsense,
    /// The peer does not end what it was asked for.
    Overdue,
}

impl Breakage {
    /// Whether a disk that had found no room has failed since.
    #[must_use]
    pub const fn is_worse_than(self, known: DiskError) -> bool {
        matches!(self, Self::OwnDisk(error) if known.wants_room() && !error.wants_room())
    }
}

/// What a LUN core asks to be done. Any order, any time later.
#[derive(Debug)]
pub enum Action {
    /// A message for the peer.
    Send {
        /// By which connection.
        via: Via,
        /// What.
        message: Message,
        /// Its data.
        payload: Data,
        /// As of which generation.
        generation: GenerationTag,
    },
    /// Disk I/O on this LUN's volume.
    Disk {
        /// What.
        io: DiskIo,
        /// What its completion is called.
        ticket: Ticket,
    },
    /// A host's command has ended.
    Answer {
        /// Whose.
        nexus: NexusId,
        /// Which.
        tag: TaskTag,
        /// How.
        outcome: Outcome,
    },
    /// The durable part of the shared state.
    Persist {
        /// Its record.
        record: Vec<u8>,
        /// What its completion is called.
        ticket: Ticket,
    },
    /// The pair broke here, as of this generation.
    Broken(Breakage, GenerationTag),
    /// Both copies are whole and flushed, as of this generation.
    CopyComplete(GenerationTag),
    /// An event ends an EXTENDED COPY that has a licence here.
    Revoked {
        /// Whose.
        nexus: NexusId,
        /// Its initiator task tag.
        task: u32,
    },
    /// The LUN is reset.
    WasReset,
}

/// Whose disk I/O it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Slot {
    Task(u32),
    Apply(u32),
}

impl Slot {
    /// The same as a holder of ranges.
    pub(super) fn holder(self) -> u32 {
        match self {
            Self::Task(slot) => slot << 1,
            Self::Apply(slot) => slot << 1 | 1,
        }
    }

    pub(super) fn of_holder(holder: u32) -> Self {
        if holder & 1 == 0 { Self::Task(holder >> 1) } else { Self::Apply(holder >> 1) }
    }
}

/// No block of any LUN: held by what changes the state of the unit, so that both controllers see such changes in
/// one order.
const UNIT_STATE: BlockRange = BlockRange { start: Lba(u64::MAX / BLOCK_BYTES as u64 - 1), blocks: 1 };

/// No block of any LUN either: held by what needs the redo record, of which a copy has one ([`super::redo`]).
const REDO_RECORD: BlockRange = BlockRange { start: Lba(UNIT_STATE.start.0 - 1), blocks: 1 };

/// The blocks it must write all or nothing, if they are several: one block is written whole by any disk.
fn atomic_range(op: &Op) -> Option<BlockRange> {
    match op {
        Op::WriteAtomic { range, .. } | Op::CompareAndWrite { range, .. } | Op::OrWrite { range, .. } => {
            (range.blocks > 1).then_some(*range)
        }
        _ => None,
    }
}

/// Whether a command's write goes by way of the redo record.
pub(super) fn is_atomic(op: &Op) -> bool {
    atomic_range(op).is_some()
}

/// How the blocks travel that a command is to write all or nothing.
const fn wire_write(range: BlockRange) -> WireOp {
    if range.blocks > 1 { WireOp::WriteAtomic(range) } else { WireOp::Write(range) }
}

/// The blocks a command touches and how it holds them.
pub(super) fn ranges(op: &Op) -> (Ranges, Mode) {
    if let Some(range) = atomic_range(op) {
        return (Ranges::Many(vec![range, REDO_RECORD]), Mode::Exclusive);
    }
    match op {
        Op::Read { range } | Op::Verify { range, .. } => (Ranges::One(*range), Mode::Shared),
        Op::Write { range, .. }
        | Op::WriteAndVerify { range, .. }
        | Op::WriteSame { range, .. }
        | Op::WriteAtomic { range, .. }
        | Op::CompareAndWrite { range, .. }
        | Op::OrWrite { range, .. } => (Ranges::One(*range), Mode::Exclusive),
        Op::Unmap { ranges } => (Ranges::Many(ranges.clone()), Mode::Exclusive),
        Op::StartStop { .. } => (Ranges::One(UNIT_STATE), Mode::Exclusive),
        Op::SynchronizeCache | Op::Prefetch { .. } | Op::Report { .. } | Op::Event(_) => {
            (Ranges::None, Mode::Exclusive)
        }
    }
}

/// Whether the command itself asks for durability.
pub(super) fn asks_durable(op: &Op) -> bool {
    match op {
        Op::Write { fua, .. }
        | Op::WriteAtomic { fua, .. }
        | Op::CompareAndWrite { fua, .. }
        | Op::OrWrite { fua, .. } => *fua,
        Op::SynchronizeCache | Op::WriteAndVerify { .. } | Op::StartStop { .. } => true,
        Op::Read { .. }
        | Op::Verify { .. }
        | Op::Prefetch { .. }
        | Op::Report { .. }
        | Op::WriteSame { .. }
        | Op::Unmap { .. }
        | Op::Event(_) => false,
    }
}

/// Bytes that a command's data takes of the peer's buffers.
pub(super) fn payload_bytes(op: &Op) -> u64 {
    let sum = |data: &Data| data.iter().map(|piece| piece.len() as u64).sum::<u64>();
    match op {
        Op::Read { range } => range.bytes(),
        Op::Write { data, .. }
        | Op::WriteAtomic { data, .. }
        | Op::WriteAndVerify { data, .. }
        | Op::OrWrite { data, .. }
        | Op::Verify { expected: data, .. } => sum(data),
        Op::WriteSame { block, .. } => block.len() as u64,
        Op::CompareAndWrite { compare, write, .. } => sum(compare) + sum(write),
        Op::Report { allocation, .. } => u64::from(*allocation).min(REPORT_BYTES_MAX),
        Op::Unmap { .. }
        | Op::SynchronizeCache
        | Op::StartStop { .. }
        | Op::Prefetch { .. }
        | Op::Event(_) => 0,
    }
}

/// The command as it crosses the interlink, and its data.
pub(super) fn to_wire(op: &Op) -> (WireOp, Data) {
    match op {
        Op::Read { range } => (WireOp::Read(*range), Data::new()),
        Op::Write { range, data, .. } => (WireOp::Write(*range), data.clone()),
        Op::WriteAtomic { range, data, .. } => (WireOp::WriteAtomic(*range), data.clone()),
        Op::WriteSame { range, block, unmap } => {
            (WireOp::WriteSame { range: *range, unmap: *unmap }, vec![block.clone()])
        }
        Op::CompareAndWrite { range, compare, write, .. } => {
            (WireOp::CompareAndWrite(*range), compare.iter().chain(write).cloned().collect())
        }
        Op::Unmap { ranges } => (WireOp::Unmap(ranges.clone()), Data::new()),
        Op::SynchronizeCache => (WireOp::SynchronizeCache, Data::new()),
        Op::Event(event) => (WireOp::Event(event.clone()), Data::new()),
        Op::Verify { range, expected } => (WireOp::Verify(*range), expected.clone()),
        Op::WriteAndVerify { range, data } => (WireOp::WriteAndVerify(*range), data.clone()),
        Op::OrWrite { range, data, .. } => (WireOp::OrWrite(*range), data.clone()),
        Op::Prefetch { range } => (WireOp::Prefetch(*range), Data::new()),
        Op::StartStop { start } => (WireOp::StartStop { start: *start }, Data::new()),
        Op::Report { what, allocation } => {
            (WireOp::Report { what: *what, allocation: *allocation }, Data::new())
        }
    }
}

/// The command out of what crossed the interlink, if the payload fits it and it lies within `blocks`.
pub(super) fn from_wire(op: WireOp, payload: &Bytes, durable: bool, blocks: u64) -> Option<Op> {
    let inside = |range: &BlockRange| !range.is_empty() && range.end().0 <= blocks;
    let recorded = |range: &BlockRange| inside(range) && range.blocks <= u64::from(ATOMIC_BLOCKS_MAX);
    let bytes = payload.len() as u64;
    match op {
        WireOp::Read(range) if inside(&range) && bytes == 0 => Some(Op::Read { range }),
        WireOp::Write(range) if inside(&range) && bytes == range.bytes() => {
            Some(Op::Write { range, data: vec![payload.clone()], fua: durable })
        }
        WireOp::WriteSame { range, unmap } if inside(&range) && bytes == u64::from(BLOCK_BYTES) => {
            Some(Op::WriteSame { range, block: payload.clone(), unmap })
        }
        WireOp::WriteAtomic(range) if recorded(&range) && bytes == range.bytes() => {
            Some(Op::WriteAtomic { range, data: vec![payload.clone()], fua: durable })
        }
        WireOp::CompareAndWrite(range) if recorded(&range) && bytes == range.bytes() * 2 => {
            let half = payload.len() / 2;
            let (compare, write) = (vec![payload.slice(..half)], vec![payload.slice(half..)]);
            Some(Op::CompareAndWrite { range, compare, write, fua: durable })
        }
        WireOp::Unmap(ranges) if bytes == 0 && disjoint(&ranges) && ranges.iter().all(inside) => {
            Some(Op::Unmap { ranges })
        }
        WireOp::SynchronizeCache if bytes == 0 => Some(Op::SynchronizeCache),
        WireOp::Event(event) if bytes == 0 => Some(Op::Event(event)),
        WireOp::WriteAndVerify(range) if inside(&range) && bytes == range.bytes() => {
            Some(Op::WriteAndVerify { range, data: vec![payload.clone()] })
        }
        WireOp::Verify(range)
            if inside(&range) && [0, u64::from(BLOCK_BYTES), range.bytes()].contains(&bytes) =>
        {
            let expected = if bytes == 0 { Data::new() } else { vec![payload.clone()] };
            Some(Op::Verify { range, expected })
        }
        WireOp::OrWrite(range) if recorded(&range) && bytes == range.bytes() => {
            Some(Op::OrWrite { range, data: vec![payload.clone()], fua: durable })
        }
        WireOp::Prefetch(range) if inside(&range) && bytes == 0 => Some(Op::Prefetch { range }),
        WireOp::StartStop { start } if bytes == 0 => Some(Op::StartStop { start }),
        WireOp::Report { what: what @ Report::LbaStatus { start }, allocation }
            if start.0 < blocks && bytes == 0 =>
        {
            Some(Op::Report { what, allocation })
        }
        WireOp::Report { what: what @ Report::Provisioning { .. }, allocation } if bytes == 0 => {
            Some(Op::Report { what, allocation })
        }
        _ => None,
    }
}

fn disjoint(ranges: &[BlockRange]) -> bool {
    let mut sorted: Vec<_> = ranges.iter().map(|range| (range.start.0, range.end().0)).collect();
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| pair[0].1 <= pair[1].0)
}

/// The disk I/O that carries out a change; COMPARE AND WRITE has been compared by then. For what is not a change
/// and for ORWRITE: the read before it.
pub(super) fn to_disk(op: &Op) -> DiskIo {
    match op {
        Op::Read { range } | Op::Verify { range, .. } | Op::OrWrite { range, .. } => DiskIo::Read(*range),
        Op::Prefetch { range } => DiskIo::Prefetch(*range),
        Op::Report { .. } => DiskIo::Usage,
        Op::Write { range, data, .. }
        | Op::WriteAtomic { range, data, .. }
        | Op::WriteAndVerify { range, data }
        | Op::CompareAndWrite { range, write: data, .. } => {
            DiskIo::Write { range: *range, data: data.clone() }
        }
        Op::WriteSame { range, block, unmap } if *unmap && is_zero(block) => DiskIo::Unmap(vec![*range]),
        Op::WriteSame { range, block, .. } => DiskIo::WriteSame { range: *range, block: block.clone() },
        Op::Unmap { ranges } => DiskIo::Unmap(ranges.clone()),
        // An event never touches the volume.
        Op::SynchronizeCache | Op::StartStop { .. } | Op::Event(_) => DiskIo::Flush,
    }
}

/// True if all bytes are zero.
pub(super) fn is_zero(data: &[u8]) -> bool {
    let (words, rest) = data.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}
