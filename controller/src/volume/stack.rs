//! Where the blocks of a LUN lie on its controller: the volumes that they are spread over, and which of them has what.
//!
//! Disk I/O on blocks asks a volume that [`Stack::plan`] names, whoever it is for: the commands of hosts, the changes
//! that main has ordered, the chunks of a resync, the replay of a redo record. Nothing else turns a block of a LUN into
//! a place in a volume.
//!
//! The LUN's own place in the controller's table says nothing about its volumes: completions come back by the LUN
//! ([`crate::world::Ticket`]), and disks are asked by the volume.

use protocol::block::BlockRange;

use crate::disk::DiskIo;

/// A volume of this controller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VolumeId(pub u16);

/// Blocks of a LUN that lie in one volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// Where they lie.
    pub volume: VolumeId,
    /// Which blocks of the volume they are.
    pub range: BlockRange,
}

/// The volumes of one LUN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stack {
    base: VolumeId,
}

impl Stack {
    /// A base volume, in which block n is block n of the LUN, and nothing beside it.
    #[must_use]
    pub const fn of(base: VolumeId) -> Self {
        Self { base }
    }

    /// The base volume. Its tail has the superblock and the redo record, and its length is the LUN's.
    #[must_use]
    pub const fn base(&self) -> VolumeId {
        self.base
    }

    /// Where a range of the LUN lies. All of it in one volume while there is nothing beside the base.
    #[must_use]
    pub const fn plan(&self, range: BlockRange) -> Part {
        Part { volume: self.base, range }
    }

    /// The volume that a piece of disk I/O is about.
    #[must_use]
    pub fn volume_of(&self, io: &DiskIo) -> VolumeId {
        match io {
            DiskIo::Read(range)
            | DiskIo::Write { range, .. }
            | DiskIo::WriteSame { range, .. }
            | DiskIo::Verify { range, .. }
            | DiskIo::Prefetch(range)
            | DiskIo::Extents { range, .. } => self.plan(*range).volume,
            DiskIo::Unmap(ranges) => ranges.first().map_or(self.base, |range| self.plan(*range).volume),
            DiskIo::Usage | DiskIo::Record { .. } | DiskIo::Unrecord | DiskIo::Flush => self.base,
        }
    }
}
