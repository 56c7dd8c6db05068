//! What hosts ask about the blocks of a LUN: GET LBA STATUS and the provisioning log page (SBC-3), as disk I/O and as
//! parameter data.

use bytes::Bytes;
use protocol::block::BlockRange;
use protocol::interlink::Report;
use protocol::scsi::log;
use protocol::scsi::provisioning::{LBA_STATUS_DESCRIPTOR_BYTES, LBA_STATUS_HEADER_BYTES, lba_status};

use crate::command::{Data, REPORT_BYTES_MAX};
use crate::disk::DiskIo;

/// The disk I/O that finds out what is to be told: as many descriptors as there is room for, and one at least.
pub(super) fn report_io(what: Report, allocation: u32, blocks: u64) -> DiskIo {
    match what {
        Report::LbaStatus { start } => {
            let room = u64::from(allocation).min(REPORT_BYTES_MAX);
            let room = room.saturating_sub(LBA_STATUS_HEADER_BYTES as u64);
            let descriptors = room.div_ceil(LBA_STATUS_DESCRIPTOR_BYTES as u64).max(1);
            let range = BlockRange { start, blocks: blocks.saturating_sub(start.0) };
            DiskIo::Extents { range, descriptors: u16::try_from(descriptors).unwrap_or(u16::MAX) }
        }
        Report::Provisioning { .. } => DiskIo::Usage,
    }
}

/// What was found out, as parameter data cut to the allocation length.
pub(super) fn report(what: Report, allocation: u32, found: &[Bytes]) -> Data {
    let found = found.concat();
    let mut data = match what {
        Report::LbaStatus { .. } => lba_status(&found),
        Report::Provisioning { pointer } => {
            let count = |at: usize| {
                found.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_be_bytes(*bytes))
            };
            log::logical_block_provisioning(pointer, count(0), count(8))
        }
    };
    data.truncate(allocation as usize);
    if data.is_empty() { Data::new() } else { vec![Bytes::from(data)] }
}
