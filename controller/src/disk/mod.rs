//! Disk I/O of one volume: what can be asked, and what comes back.

pub mod buffers;
pub mod cache_predictor;
pub mod crc32c;
mod extents;
pub mod file;
pub mod flush;
pub mod heap;
mod open_file;
pub mod pool;
pub mod signals;
#[cfg(test)]
pub(crate) mod small;
pub mod stall_detector;

use bytes::Bytes;
use protocol::block::BlockRange;
use protocol::scsi::sense::Sense;

/// One piece of disk I/O on a volume. Ranges lie inside the volume (never in the reserved tail).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DiskIo {
    /// Reads the range.
    Read(BlockRange),
    /// Writes the pieces at the start of the range, which they fill exactly.
    Write {
        /// The blocks that are concerned.
        range: BlockRange,
        /// The data, in the pieces it was received in.
        data: Vec<Bytes>,
    },
    /// Writes one block all over the range.
    WriteSame {
        /// The blocks that are concerned.
        range: BlockRange,
        /// One logical block.
        block: Bytes,
    },
    /// Reads the range from the disk, not from the page cache as far as that can be, and compares. What differs is
    /// an error of the disk.
    Verify {
        /// The blocks that are concerned.
        range: BlockRange,
        /// What was written there.
        data: Vec<Bytes>,
    },
    /// Begins to read the range into the page cache. Never fails.
    Prefetch(BlockRange),
    /// Which blocks are holes, from the start of the range on, as LBA status descriptors (SBC-3 5.4.2) in one
    /// piece. Never fails: what is not known counts as mapped.
    Extents {
        /// Where; not empty.
        range: BlockRange,
        /// Descriptors at most; not zero.
        descriptors: u16,
    },
    /// Blocks in use by the volume and blocks free on its disk, each eight bytes. Never fails.
    Usage,
    /// Makes holes of the ranges; they read as zeros afterwards.
    Unmap(Vec<BlockRange>),
    /// Writes the redo record of a write of several blocks ([`crate::volume::redo`]), after making room for the blocks
    /// themselves: what fails has changed none of them.
    Record {
        /// What is going to be written.
        range: BlockRange,
        /// What it becomes.
        data: Vec<Bytes>,
    },
    /// Blots out the redo record, if there is one.
    Unrecord,
    /// Makes everything completed before durable. A failure is sticky for the volume.
    Flush,
}

/// Why disk I/O failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DiskError {
    /// The disk could not read or write.
    #[error("the disk reports an I/O error")]
    Io,
    /// The disk is full (ENOSPC, EDQUOT).
    #[error("the disk is full")]
    Full,
    /// The file may not grow (EFBIG): RLIMIT_FSIZE, or the largest file that the file system can hold.
    #[error("a file size limit keeps the volume from growing")]
    SizeLimit,
    /// An earlier flush failed, so nothing on this volume can be called durable again.
    #[error("an earlier flush of this volume failed")]
    FlushFailed,
    /// The disk does not answer; its work was given up.
    #[error("the disk does not answer")]
    Silent,
    /// The volume is not open.
    #[error("the volume is not open")]
    Absent,
}

impl DiskError {
    /// What a host hears of it, when no other copy could serve it.
    #[must_use]
    pub const fn sense(self, write: bool) -> Sense {
        match self {
            Self::Full | Self::SizeLimit => Sense::SPACE_ALLOCATION_FAILED,
            Self::Absent => Sense::UNAVAILABLE,
            Self::Io | Self::Silent | Self::FlushFailed if write => Sense::WRITE_ERROR,
            Self::Io | Self::Silent | Self::FlushFailed => Sense::UNRECOVERED_READ,
        }
    }

    /// There is no room for more, and nothing else is wrong: what is on the disk stays as it is, and more can be
    /// written as soon as there is room.
    #[must_use]
    pub const fn wants_room(self) -> bool {
        match self {
            Self::Full | Self::SizeLimit => true,
            Self::Io | Self::FlushFailed | Self::Silent | Self::Absent => false,
        }
    }
}

/// A completion: the data of a read (exactly the bytes of its range) or what was asked about; empty otherwise.
pub type DiskResult = Result<Vec<Bytes>, DiskError>;
