//! Commands that touch blocks: from the CDB, its data and the LUN's capacity to an [`Op`] for the controller. Here
//! those that only move data; the others in [`super::checked`] and [`super::thin`].
//!
//! `Ok(None)` is a command that is right and has nothing to do. The checks come in one order everywhere: fields
//! we do not have, write protection, the address range, the limits, and the data last.

use bytes::{Bytes, BytesMut};
use controller::command::{Admission, Data, Op};
use protocol::block::{BLOCK_BYTES, BlockRange};
use protocol::scsi::cdb::{Cdb, Transfer, opcode};
use protocol::scsi::sense::Sense;

use super::limits::{COMPARE_AND_WRITE_BLOCKS_MAX, TRANSFER_BLOCKS_MAX};

/// What to do, nothing, or why not.
pub(super) type Decoded = Result<Option<Op>, Sense>;

/// What a command that touches blocks is checked against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bounds {
    /// Capacity in logical blocks.
    pub(super) blocks: u64,
    /// No host may write.
    pub(super) read_only: bool,
    /// LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT.
    pub(super) physical_block_exponent: u8,
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
    let written = blocks_to_write(transfer, lun, data)?;
    Ok(written.map(|(range, data)| Op::Write { range, data, fua: transfer.fua }))
}

/// The blocks of a WRITE for which data came, if any, and their data.
pub(super) fn blocks_to_write(
    transfer: Transfer,
    lun: Bounds,
    data: DataOut,
) -> Result<Option<(BlockRange, Data)>, Sense> {
    refuse_write_protected(lun)?;
    let asked = transfer_range(transfer, lun)?;
    let sent = total(&data.pieces).min(asked.bytes());
    if !sent.is_multiple_of(u64::from(BLOCK_BYTES)) {
        return Err(Sense::INVALID_FIELD_IN_INFORMATION_UNIT);
    }
    let range = BlockRange { start: asked.start, blocks: sent / u64::from(BLOCK_BYTES) };
    let (data, _) = split(data.pieces, sent);
    Ok((!range.is_empty()).then_some((range, data)))
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

/// SYNCHRONIZE CACHE (10), (16) (SBC-3 5.18, 5.19): the whole LUN, whatever the range; IMMED is not made use of.
pub(super) fn synchronize_cache(transfer: Transfer, lun: Bounds) -> Decoded {
    checked_range(transfer.lba, u64::from(transfer.blocks), lun)?;
    Ok(Some(Op::SynchronizeCache))
}

/// The range of a READ or WRITE.
pub(super) fn transfer_range(transfer: Transfer, lun: Bounds) -> Result<BlockRange, Sense> {
    if transfer.protect != 0 {
        return Err(Sense::invalid_cdb_field(1));
    }
    let range = checked_range(transfer.lba, u64::from(transfer.blocks), lun)?;
    if transfer.blocks > TRANSFER_BLOCKS_MAX { Err(Sense::INVALID_FIELD_IN_CDB) } else { Ok(range) }
}

/// A range inside the LUN. An empty one may stand right behind the last block.
pub(super) fn checked_range(lba: u64, blocks: u64, lun: Bounds) -> Result<BlockRange, Sense> {
    BlockRange::new(lba, blocks).filter(|range| range.end().0 <= lun.blocks).ok_or(Sense::LBA_OUT_OF_RANGE)
}

pub(super) fn refuse_write_protected(lun: Bounds) -> Result<(), Sense> {
    if lun.read_only { Err(Sense::WRITE_PROTECTED) } else { Ok(()) }
}

/// Refuses data-out that is longer or shorter than the CDB means: a part of it makes no sense by itself.
pub(super) fn refuse_other_length(data: &DataOut, bytes: u64) -> Result<(), Sense> {
    if data.announced == bytes && total(&data.pieces) == bytes {
        Ok(())
    } else {
        Err(Sense::INVALID_FIELD_IN_INFORMATION_UNIT)
    }
}

pub(super) fn block_bytes(blocks: u32) -> u64 {
    u64::from(blocks) * u64::from(BLOCK_BYTES)
}

/// Bytes in all pieces.
pub(super) fn total(data: &Data) -> u64 {
    data.iter().map(|piece| piece.len() as u64).sum()
}

/// The first `bytes` of the data and the rest, without copying.
pub(super) fn split(data: Data, bytes: u64) -> (Data, Data) {
    // The usual case asks the allocator for nothing.
    if data.iter().map(|piece| piece.len() as u64).sum::<u64>() <= bytes {
        return (data, Data::new());
    }
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
pub(super) fn join(mut data: Data) -> Bytes {
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

/// What a command for no blocks asks leave for: the same as one for some.
pub(super) const fn idle_admission(cdb: &Cdb) -> Admission {
    match cdb[0] {
        opcode::READ_10
        | opcode::READ_12
        | opcode::READ_16
        | opcode::VERIFY_10
        | opcode::VERIFY_12
        | opcode::VERIFY_16
        | opcode::PRE_FETCH_10
        | opcode::PRE_FETCH_16
        | opcode::SERVICE_ACTION_IN_16 => Admission::Reading,
        _ => Admission::Changing,
    }
}
