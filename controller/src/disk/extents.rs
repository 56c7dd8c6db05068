//! Which blocks of a volume are holes, and how much room it takes: what the file system says of its file.

use std::fs::File;

use bytes::Bytes;
use protocol::block::{BLOCK_BYTES, BlockRange, Lba};
use protocol::scsi::provisioning::{LBA_STATUS_DESCRIPTOR_BYTES, ProvisioningStatus, lba_status_descriptor};
use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// The extents from the start of `range` on, at most `count`, each as an LBA status descriptor. A block that is a
/// hole in part is mapped, and so is everything where nobody knows of holes, as on a block device.
pub(super) fn descriptors(file: &File, range: BlockRange, count: u16) -> Bytes {
    let mut found = Vec::with_capacity(usize::from(count) * LBA_STATUS_DESCRIPTOR_BYTES);
    let mut start = range.start;
    for _ in 0..count {
        if start >= range.end() {
            break;
        }
        let (status, end) = extent(file, start, range.end());
        // One descriptor counts up to 32 bits of blocks; the rest of a longer extent is the next one.
        let blocks = (end.0 - start.0).min(u64::from(u32::MAX));
        found.extend_from_slice(&lba_status_descriptor(BlockRange { start, blocks }, status));
        start = Lba(start.0 + blocks);
    }
    Bytes::from(found)
}

/// The extent that holds the block `start`, which lies before `end`: what it is and where it ends.
fn extent(file: &File, start: Lba, end: Lba) -> (ProvisioningStatus, Lba) {
    let block = u64::from(BLOCK_BYTES);
    let data = match rustix::fs::seek(file, SeekFrom::Data(start.byte_offset())) {
        // A block whose last byte is data is mapped.
        Ok(at) => at / block,
        // No data from here to the end of the file.
        Err(Errno::NXIO) => end.0,
        Err(_) => return (ProvisioningStatus::Mapped, end),
    };
    if data > start.0 {
        return (ProvisioningStatus::Deallocated, Lba(data.min(end.0)));
    }
    match rustix::fs::seek(file, SeekFrom::Hole(start.byte_offset())) {
        Ok(at) => (ProvisioningStatus::Mapped, Lba(at.div_ceil(block).clamp(start.0 + 1, end.0))),
        Err(_) => (ProvisioningStatus::Mapped, end),
    }
}

/// Blocks that the volume takes on its disk and blocks free there. A device takes all of its LUN and has no more.
pub(super) fn usage(file: &File, lun_bytes: u64) -> Bytes {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let block = u64::from(BLOCK_BYTES);
    let (used, free) = match (file.metadata(), rustix::fs::fstatvfs(file)) {
        (Ok(metadata), Ok(disk)) if !metadata.file_type().is_block_device() => {
            // st_blocks counts 512 bytes, whatever the disk's blocks are.
            (metadata.blocks(), disk.f_bavail.saturating_mul(disk.f_frsize) / block)
        }
        _ => (lun_bytes / block, 0),
    };
    Bytes::from([used.to_be_bytes(), free.to_be_bytes()].concat())
}
