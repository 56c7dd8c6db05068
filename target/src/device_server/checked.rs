//! Commands that look at blocks before or after they write them, or instead: VERIFY, WRITE AND VERIFY, ORWRITE,
//! PRE-FETCH. And WRITE ATOMIC.

use controller::command::{Data, Op};
use protocol::block::{BLOCK_BYTES, BlockRange};
use protocol::scsi::cdb::{ByteCheck, Cdb, Transfer, atomic_boundary};
use protocol::scsi::sense::Sense;

use super::limits::{ATOMIC_BLOCKS_MAX, PREFETCH_BLOCKS_MAX, TRANSFER_BLOCKS_MAX, atomic_granularity};
use super::medium::{
    Bounds, DataOut, Decoded, block_bytes, blocks_to_write, checked_range, refuse_other_length,
    refuse_write_protected, transfer_range, write_data,
};

/// VERIFY (10), (12), (16) (SBC-3 5.29 to 5.31). The blocks are read as READ reads them, from the cache where they
/// are newer there than on the disk.
pub(super) fn verify(cdb: &Cdb, asked: Transfer, lun: Bounds, data: DataOut) -> Decoded {
    let check = ByteCheck::of(cdb);
    if check == ByteCheck::Reserved {
        return Err(Sense::invalid_cdb_field(1));
    }
    let range = transfer_range(asked, lun)?;
    if range.is_empty() {
        return Ok(None);
    }
    let expected = match check {
        ByteCheck::None | ByteCheck::Reserved => Data::new(),
        ByteCheck::Whole | ByteCheck::OneBlock => {
            refuse_other_length(&data, verify_data(cdb, asked))?;
            data.pieces
        }
    };
    Ok(Some(Op::Verify { range, expected }))
}

/// Data-out of VERIFY: what the blocks are compared with.
pub(super) fn verify_data(cdb: &Cdb, asked: Transfer) -> u64 {
    match ByteCheck::of(cdb) {
        ByteCheck::Whole => write_data(asked),
        ByteCheck::OneBlock if (1..=TRANSFER_BLOCKS_MAX).contains(&asked.blocks) => u64::from(BLOCK_BYTES),
        ByteCheck::None | ByteCheck::OneBlock | ByteCheck::Reserved => 0,
    }
}

/// WRITE AND VERIFY (10), (12), (16) (SBC-3 5.36 to 5.38). What was written is always compared, also where only its
/// being readable is asked for.
pub(super) fn write_and_verify(cdb: &Cdb, asked: Transfer, lun: Bounds, data: DataOut) -> Decoded {
    if matches!(ByteCheck::of(cdb), ByteCheck::Reserved | ByteCheck::OneBlock) {
        return Err(Sense::invalid_cdb_field(1));
    }
    let written = blocks_to_write(asked, lun, data)?;
    Ok(written.map(|(range, data)| Op::WriteAndVerify { range, data }))
}

/// ORWRITE (16) (SBC-3 5.5). As with WRITE, what blocks came are worked on.
pub(super) fn or_write(asked: Transfer, lun: Bounds, data: DataOut) -> Decoded {
    refuse_write_protected(lun)?;
    atomic_range(asked, lun)?;
    let written = blocks_to_write(asked, lun, data)?;
    Ok(written.map(|(range, data)| Op::OrWrite { range, data, fua: asked.fua }))
}

/// WRITE ATOMIC (16) (SBC-4 5.48), of whole physical blocks and without boundaries within the transfer. A part of the
/// data is not what is to be written all or nothing, and is refused.
pub(super) fn write_atomic(cdb: &Cdb, lun: Bounds, data: DataOut) -> Decoded {
    let asked = Transfer::of_write_atomic(cdb);
    if atomic_boundary(cdb) != 0 {
        return Err(Sense::invalid_cdb_field(10));
    }
    refuse_write_protected(lun)?;
    let range = atomic_range(asked, lun)?;
    let granularity = u64::from(atomic_granularity(lun.physical_block_exponent).max(1));
    if !range.start.0.is_multiple_of(granularity) || !range.blocks.is_multiple_of(granularity) {
        return Err(Sense::INVALID_FIELD_IN_CDB);
    }
    if range.is_empty() {
        return Ok(None);
    }
    refuse_other_length(&data, range.bytes())?;
    Ok(Some(Op::WriteAtomic { range, data: data.pieces, fua: asked.fua }))
}

/// Data-out of what is written all or nothing: WRITE ATOMIC, ORWRITE.
pub(super) fn atomic_data(asked: Transfer) -> u64 {
    if asked.blocks > ATOMIC_BLOCKS_MAX { 0 } else { block_bytes(asked.blocks) }
}

/// The range of what is written all or nothing.
fn atomic_range(asked: Transfer, lun: Bounds) -> Result<BlockRange, Sense> {
    let range = transfer_range(asked, lun)?;
    if asked.blocks > ATOMIC_BLOCKS_MAX { Err(Sense::INVALID_FIELD_IN_CDB) } else { Ok(range) }
}

/// PRE-FETCH (10), (16) (SBC-3 5.7, 5.8). CONDITION MET would mean that the cache has room for all of the blocks,
/// which nobody can promise of the kernel's page cache: the answer is GOOD. A length of zero means up to the last
/// block; what is read ahead of it is bounded.
pub(super) fn prefetch(asked: Transfer, lun: Bounds) -> Decoded {
    let range = checked_range(asked.lba, u64::from(asked.blocks), lun)?;
    if asked.blocks > PREFETCH_BLOCKS_MAX {
        return Err(Sense::INVALID_FIELD_IN_CDB);
    }
    let blocks = if range.is_empty() { lun.blocks - range.start.0 } else { range.blocks };
    let range = BlockRange { start: range.start, blocks: blocks.min(u64::from(PREFETCH_BLOCKS_MAX)) };
    Ok((!range.is_empty()).then_some(Op::Prefetch { range }))
}
