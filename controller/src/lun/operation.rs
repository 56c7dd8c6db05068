//! What is true of each operation: the blocks it holds, whether it asks for durability, the bytes it takes of the
//! peer's buffers, and what it is on the interlink and on the disk.

use bytes::Bytes;
use protocol::block::{BLOCK_BYTES, BlockRange, Lba};
use protocol::interlink::{Report, WireOp};

use crate::command::{Data, Op, REPORT_BYTES_MAX};
use crate::disk::DiskIo;
use crate::exclusive::{Mode, Ranges};
use crate::volume::redo::ATOMIC_BLOCKS_MAX;

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
pub(super) const fn wire_write(range: BlockRange) -> WireOp {
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

/// What the local copy takes for a forwarded change that main has ordered, if the two fit each other: what its host
/// sent, but for an ORWRITE what main made of it.
pub(super) fn ordered(op: &Op, result: &Bytes) -> Option<Op> {
    match op {
        Op::OrWrite { range, fua, .. } if result.len() as u64 == range.bytes() => {
            Some(Op::WriteAtomic { range: *range, data: vec![result.clone()], fua: *fua })
        }
        Op::OrWrite { .. } | Op::Event(_) => None,
        op => result.is_empty().then(|| op.clone()),
    }
}
