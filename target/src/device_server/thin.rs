//! Commands of logical block provisioning (SBC-3 4.7): WRITE SAME, UNMAP, GET LBA STATUS.

use bytes::Bytes;
use controller::command::Op;
use protocol::block::{BLOCK_BYTES, BlockRange, Lba};
use protocol::interlink::Report;
use protocol::scsi::cdb::Cdb;
use protocol::scsi::provisioning::{self, GetLbaStatus, Unmap, UnmapDescriptor, WriteSame};
use protocol::scsi::sense::Sense;

use super::limits::{UNMAP_BLOCKS_MAX, UNMAP_DESCRIPTORS_MAX, WRITE_SAME_BLOCKS_MAX};
use super::medium::{
    Bounds, DataOut, Decoded, checked_range, join, refuse_other_length, refuse_write_protected, total,
};

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

/// GET LBA STATUS (SBC-3 5.4): told by main of its volume, whichever controller is asked. An allocation length of
/// zero asks for nothing, and gets it.
pub(super) fn get_lba_status(cdb: &Cdb, lun: Bounds) -> Decoded {
    let GetLbaStatus { lba, allocation } = GetLbaStatus::of(cdb);
    if lba >= lun.blocks {
        return Err(Sense::LBA_OUT_OF_RANGE);
    }
    let what = Report::LbaStatus { start: Lba(lba) };
    Ok((allocation > 0).then_some(Op::Report { what, allocation }))
}
