//! READ CAPACITY (10) and (16) (SBC-3 5.12, 5.13): how large the LUN is.

use super::cdb::{Cdb, be32};
use crate::block::BLOCK_BYTES;

/// LBPME and LBPRZ: blocks can be unmapped, and read as zeros then.
const PROVISIONING: u8 = 0xc0;

/// READ CAPACITY (10): LOGICAL BLOCK ADDRESS without PMI is not allowed.
#[must_use]
pub const fn lba_without_pmi(cdb: &Cdb) -> bool {
    be32(cdb, 2) != 0 && cdb[8] & 1 == 0
}

/// READ CAPACITY (16): ALLOCATION LENGTH in bytes.
#[must_use]
pub const fn allocation_16(cdb: &Cdb) -> usize {
    be32(cdb, 10) as usize
}

/// The answer to READ CAPACITY (10) for a LUN of `blocks`: FFFFFFFFh if the last address does not fit.
#[must_use]
pub fn capacity_10(blocks: u64) -> [u8; 8] {
    let last = u32::try_from(blocks.saturating_sub(1)).unwrap_or(u32::MAX);
    let mut data = [0; 8];
    data[..4].copy_from_slice(&last.to_be_bytes());
    data[4..].copy_from_slice(&BLOCK_BYTES.to_be_bytes());
    data
}

/// The answer to READ CAPACITY (16) for a LUN of `blocks`: no protection, a physical block of two to the power of
/// `exponent` logical blocks, the first of which is block zero.
#[must_use]
pub fn capacity_16(blocks: u64, exponent: u8) -> [u8; 32] {
    let mut data = [0; 32];
    data[..8].copy_from_slice(&blocks.saturating_sub(1).to_be_bytes());
    data[8..12].copy_from_slice(&BLOCK_BYTES.to_be_bytes());
    data[13] = exponent & 0x0f;
    data[14] = PROVISIONING;
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_names_the_last_block_not_the_count() {
        assert_eq!(capacity_10(0x20_0000), [0, 0x1f, 0xff, 0xff, 0, 0, 2, 0]);
        let mut wanted = [0; 32];
        wanted[..16].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 3, 0xc0, 0]);
        assert_eq!(capacity_16(0x1_0000_0001, 3), wanted);
    }

    #[test]
    fn a_lun_too_large_for_ten_says_so() {
        assert_eq!(capacity_10(0xffff_ffff)[..4], [0xff, 0xff, 0xff, 0xfe]);
        assert_eq!(capacity_10(0x1_0000_0000)[..4], [0xff; 4]);
        assert_eq!(capacity_10(u64::MAX)[..4], [0xff; 4]);
    }

    #[test]
    fn an_address_needs_the_pmi_bit() {
        let mut cdb = [0; 16];
        assert!(!lba_without_pmi(&cdb));
        cdb[5] = 1;
        assert!(lba_without_pmi(&cdb));
        cdb[8] = 1;
        assert!(!lba_without_pmi(&cdb));
    }
}
