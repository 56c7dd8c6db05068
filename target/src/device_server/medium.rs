//! Commands that touch blocks: from the CDB, its data and the LUN's capacity to an [`Op`] for the controller.
//!
//! `Ok(None)` is a command that is right and has nothing to do. The checks come in one order everywhere: fields
//! we do not have, write protection, the address range, the limits, and the data last.

use bytes::{Bytes, BytesMut};
use controller::command::{Data, Op};
use protocol::block::{BLOCK_BYTES, BlockRange};
use protocol::scsi::cdb::{Cdb, Transfer};
use protocol::scsi::provisioning::{self, Unmap, UnmapDescriptor, WriteSame};
use protocol::scsi::sense::Sense;

use super::limits::{
    COMPARE_AND_WRITE_BLOCKS_MAX, TRANSFER_BLOCKS_MAX, UNMAP_BLOCKS_MAX, UNMAP_DESCRIPTORS_MAX,
    WRITE_SAME_BLOCKS_MAX,
};

/// What to do, nothing, or why not.
pub(super) type Decoded = Result<Option<Op>, Sense>;

/// What a command that touches blocks is checked against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bounds {
    /// Capacity in logical blocks.
    pub(super) blocks: u64,
    /// No host may write.
    pub(super) read_only: bool,
}

/// A command's data-out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct DataOut {
    /// What came, at most what the CDB asks for.
    pub(super) pieces: Data,
    /// Bytes the initiator said it has, which may be more or less than the CDB asks for.
    pub(super) announced: u64,
}

/// Data-out of a command that takes none.
pub(super) fn no_data(_: &Cdb) -> u64 {
    0
}

/// READ (6), (10), (12), (16) (SBC-3 5.7 to 5.11). FUA is not made use of: a block reads the same from the cache,
/// and what SYNCHRONIZE CACHE has not covered is no more durable for having been read.
pub(super) fn read(transfer: Transfer, lun: Bounds) -> Decoded {
    let range = transfer_range(transfer, lun)?;
    Ok((!range.is_empty()).then_some(Op::Read { range }))
}

/// WRITE (6), (10), (12), (16) (SBC-3 5.30 to 5.35). If the initiator sent fewer blocks than the CDB names, those
/// are written and the residual count tells it; a part of a block is refused.
pub(super) fn write(transfer: Transfer, lun: Bounds, data: DataOut) -> Decoded {
    refuse_write_protected(lun)?;
    let asked = transfer_range(transfer, lun)?;
    let sent = total(&data.pieces).min(asked.bytes());
    if !sent.is_multiple_of(u64::from(BLOCK_BYTES)) {
        return Err(Sense::INVALID_FIELD_IN_INFORMATION_UNIT);
    }
    let range = BlockRange { start: asked.start, blocks: sent / u64::from(BLOCK_BYTES) };
    let (data, _) = split(data.pieces, sent);
    Ok((!range.is_empty()).then_some(Op::Write { range, data, fua: transfer.fua }))
}

/// Data-out of a WRITE.
pub(super) fn write_data(transfer: Transfer) -> u64 {
    if transfer.blocks > TRANSFER_BLOCKS_MAX { 0 } else { block_bytes(transfer.blocks) }
}

/// COMPARE AND WRITE (SBC-3 5.3).
pub(super) fn compare_and_write(cdb: &Cdb, lun: Bounds, data: DataOut) -> Decoded {
    let transfer = Transfer::of_compare_and_write(cdb);
    refuse_write_protected(lun)?;
    if transfer.protect != 0 || transfer.blocks > u32::from(COMPARE_AND_WRITE_BLOCKS_MAX) {
        return Err(Sense::INVALID_FIELD_IN_CDB);
    }
    let range = checked_range(transfer.lba, u64::from(transfer.blocks), lun)?;
    if range.is_empty() {
        // Data for no blocks: a count that did not fit its byte, rather than nothing to do.
        return if data.announced == 0 { Ok(None) } else { Err(Sense::INVALID_FIELD_IN_CDB) };
    }
    refuse_other_length(&data, 2 * range.bytes())?;
    let (compare, rest) = split(data.pieces, range.bytes());
    let (write, _) = split(rest, range.bytes());
    Ok(Some(Op::CompareAndWrite { range, compare, write, fua: transfer.fua }))
}

/// Data-out of COMPARE AND WRITE: what is compared, then what is written.
pub(super) fn compare_and_write_data(cdb: &Cdb) -> u64 {
    let blocks = Transfer::of_compare_and_write(cdb).blocks;
    if blocks > u32::from(COMPARE_AND_WRITE_BLOCKS_MAX) { 0 } else { block_bytes(2 * blocks) }
}

/// WRITE SAME (10), (16) (SBC-3 5.41, 5.42).
pub(super) fn write_same(asked: WriteSame, lun: Bounds, data: DataOut) -> Decoded {
    refuse_write_protected(lun)?;
    // VPD page B0h says WSNZ: zero is no length. VPD page B2h says there are no anchored blocks.
    if asked.protect != 0 || asked.anchor || asked.address_data || asked.blocks == 0 {
        return Err(Sense::INVALID_FIELD_IN_CDB);
    }
    let range = checked_range(asked.lba, u64::from(asked.blocks), lun)?;
    if asked.blocks > WRITE_SAME_BLOCKS_MAX {
        return Err(Sense::INVALID_FIELD_IN_CDB);
    }
    let block = if asked.no_data {
        Bytes::from_static(&[0; BLOCK_BYTES as usize])
    } else {
        refuse_other_length(&data, u64::from(BLOCK_BYTES))?;
        join(data.pieces)
    };
    Ok(Some(Op::WriteSame { range, block, unmap: asked.unmap }))
}

/// Data-out of WRITE SAME: one block or none.
pub(super) fn write_same_data(asked: WriteSame) -> u64 {
    if asked.no_data { 0 } else { u64::from(BLOCK_BYTES) }
}

/// UNMAP (SBC-3 5.28).
pub(super) fn unmap(cdb: &Cdb, lun: Bounds, data: DataOut) -> Decoded {
    let asked = Unmap::of(cdb);
    refuse_write_protected(lun)?;
    if asked.anchor {
        return Err(Sense::INVALID_FIELD_IN_CDB);
    }
    if asked.list_bytes == 0 {
        return Ok(None);
    }
    if total(&data.pieces) < u64::from(asked.list_bytes) {
        return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
    }
    let descriptors = provisioning::unmap_descriptors(&join(data.pieces))?;
    let ranges = unmap_ranges(&descriptors, lun)?;
    Ok((!ranges.is_empty()).then_some(Op::Unmap { ranges }))
}

/// Data-out of UNMAP: its parameter list.
pub(super) fn unmap_data(cdb: &Cdb) -> u64 {
    u64::from(Unmap::of(cdb).list_bytes)
}

/// Checks every descriptor, then puts the ranges in ascending order and makes one of those that touch or overlap
/// (which SBC-3 allows: the blocks are unmapped all the same).
fn unmap_ranges(descriptors: &[UnmapDescriptor], lun: Bounds) -> Result<Vec<BlockRange>, Sense> {
    if descriptors.len() > usize::from(UNMAP_DESCRIPTORS_MAX) {
        return Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST);
    }
    let mut ranges = Vec::with_capacity(descriptors.len());
    let mut blocks: u64 = 0;
    for descriptor in descriptors {
        let range = checked_range(descriptor.lba, u64::from(descriptor.blocks), lun)?;
        // At most 256 counts of 32 bits.
        blocks += range.blocks;
        if !range.is_empty() {
            ranges.push(range);
        }
    }
    if blocks > u64::from(UNMAP_BLOCKS_MAX) {
        return Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST);
    }
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<BlockRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end() => {
                let end = last.end().max(range.end());
                last.blocks = end.0 - last.start.0;
            }
            _ => merged.push(range),
        }
    }
    Ok(merged)
}

/// SYNCHRONIZE CACHE (10), (16) (SBC-3 5.18, 5.19): the whole LUN, whatever the range; IMMED is not made use of.
pub(super) fn synchronize_cache(transfer: Transfer, lun: Bounds) -> Decoded {
    checked_range(transfer.lba, u64::from(transfer.blocks), lun)?;
    Ok(Some(Op::SynchronizeCache))
}

/// The range of a READ or WRITE.
fn transfer_range(transfer: Transfer, lun: Bounds) -> Result<BlockRange, Sense> {
    if transfer.protect != 0 {
        return Err(Sense::INVALID_FIELD_IN_CDB);
    }
    let range = checked_range(transfer.lba, u64::from(transfer.blocks), lun)?;
    if transfer.blocks > TRANSFER_BLOCKS_MAX { Err(Sense::INVALID_FIELD_IN_CDB) } else { Ok(range) }
}

/// A range inside the LUN. An empty one may stand right behind the last block.
fn checked_range(lba: u64, blocks: u64, lun: Bounds) -> Result<BlockRange, Sense> {
    BlockRange::new(lba, blocks).filter(|range| range.end().0 <= lun.blocks).ok_or(Sense::LBA_OUT_OF_RANGE)
}

fn refuse_write_protected(lun: Bounds) -> Result<(), Sense> {
    if lun.read_only { Err(Sense::WRITE_PROTECTED) } else { Ok(()) }
}

/// Refuses data-out that is longer or shorter than the CDB means: a part of it makes no sense by itself.
fn refuse_other_length(data: &DataOut, bytes: u64) -> Result<(), Sense> {
    if data.announced == bytes && total(&data.pieces) == bytes {
        Ok(())
    } else {
        Err(Sense::INVALID_FIELD_IN_INFORMATION_UNIT)
    }
}

fn block_bytes(blocks: u32) -> u64 {
    u64::from(blocks) * u64::from(BLOCK_BYTES)
}

/// Bytes in all pieces.
fn total(data: &Data) -> u64 {
    data.iter().map(|piece| piece.len() as u64).sum()
}

/// The first `bytes` of the data and the rest, without copying.
fn split(data: Data, bytes: u64) -> (Data, Data) {
    let (mut head, mut tail, mut left) = (Data::new(), Data::new(), bytes);
    for mut piece in data {
        let length = piece.len() as u64;
        if left >= length {
            left -= length;
            head.push(piece);
        } else {
            // `left` is below the length of a piece, which is a usize.
            let front = piece.split_to(left as usize);
            left = 0;
            if !front.is_empty() {
                head.push(front);
            }
            tail.push(piece);
        }
    }
    (head, tail)
}

/// One run of bytes. Only for what is small: a parameter list, the block of a WRITE SAME.
fn join(mut data: Data) -> Bytes {
    if data.len() == 1
        && let Some(only) = data.pop()
    {
        return only;
    }
    let mut joined = BytesMut::new();
    for piece in &data {
        joined.extend_from_slice(piece);
    }
    joined.freeze()
}
