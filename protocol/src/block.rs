//! Block addresses, counts and ranges: three kinds of number that must not be mixed.
//!
//! A logical block is 512 bytes everywhere in the appliance ([`BLOCK_BYTES`]); what differs between LUNs is
//! the physical block that is reported to hosts.

use core::fmt;

/// Bytes in one logical block of every LUN (SBC-3 4.4).
pub const BLOCK_BYTES: u32 = 512;

/// The address of one logical block (SBC-3 3.1.68).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Lba(pub u64);

impl Lba {
    /// Where the block begins in the volume, in bytes.
    #[must_use]
    pub const fn byte_offset(self) -> u64 {
        self.0 * BLOCK_BYTES as u64
    }
}

impl fmt::Display for Lba {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LBA {}", self.0)
    }
}

/// A run of logical blocks: `[start, start + blocks)`. May be empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct BlockRange {
    /// First block.
    pub start: Lba,
    /// How many blocks.
    pub blocks: u64,
}

impl BlockRange {
    /// A run of `blocks` logical blocks from `start`, if its end is an address at all.
    #[must_use]
    pub const fn new(start: u64, blocks: u64) -> Option<Self> {
        match start.checked_add(blocks) {
            Some(end) if end <= u64::MAX / BLOCK_BYTES as u64 => Some(Self { start: Lba(start), blocks }),
            _ => None,
        }
    }

    /// The first block after the range.
    #[must_use]
    pub const fn end(&self) -> Lba {
        Lba(self.start.0 + self.blocks)
    }

    /// True if the range holds no block.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    /// Length in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.blocks * BLOCK_BYTES as u64
    }

    /// True if both ranges hold at least one common block.
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.blocks > 0 && other.blocks > 0 && self.start.0 < other.end().0 && other.start.0 < self.end().0
    }
}

impl fmt::Display for BlockRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.start.0, self.blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_do_not_overlap_and_empty_ranges_overlap_nothing() {
        let range = |start, blocks| BlockRange::new(start, blocks).unwrap();
        assert!(!range(0, 8).overlaps(&range(8, 8)));
        assert!(range(0, 9).overlaps(&range(8, 8)));
        assert!(!range(4, 0).overlaps(&range(0, 8)));
    }

    #[test]
    fn a_range_whose_end_is_no_address_is_refused() {
        assert_eq!(BlockRange::new(u64::MAX, 1), None);
        assert_eq!(BlockRange::new(u64::MAX / 512, 1), None);
    }
}
