//! The superblock: who a volume belongs to. It lies in the reserved tail, the last MiB of the file or device.
//!
//! Two copies lie in the tail and are written one after the other with a flush between, so that one of them
//! holds together at any moment. The newest valid one wins. Numbers are little-endian:
//!
//! | byte | what |
//! |---|---|
//! | 0 | `TWINLUN` and a zero |
//! | 8 | format version (32 bits) |
//! | 12 | zero |
//! | 16 | appliance (128 bits) |
//! | 32 | volume (128 bits) |
//! | 48 | capacity in logical blocks (64 bits) |
//! | 56 | sequence of this write of the superblock (64 bits) |
//! | 64 | zeros |
//! | 4092 | CRC32C of everything before (32 bits) |

use crate::disk::crc32c::crc32c;

/// Bytes of the reserved tail of a volume's file or device.
pub const TAIL_BYTES: u64 = 1 << 20;

/// Bytes of one copy of the superblock.
pub const SUPERBLOCK_BYTES: usize = 4096;

/// Where the two copies lie, in bytes from the start of the tail.
pub const COPY_OFFSETS: [u64; 2] = [0, TAIL_BYTES / 2];

/// The format this release writes.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"TWINLUN\0";
const CRC_OFFSET: usize = SUPERBLOCK_BYTES - 4;

/// What the superblock says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// The appliance, random, made once by both controllers together.
    pub appliance: u128,
    /// The LUN's volume id, the same on both controllers, never derived from a name or number.
    pub volume: u128,
    /// Capacity in logical blocks; READ CAPACITY comes from here.
    pub blocks: u64,
}

/// What was found where a volume should be, when the controller started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VolumeFound {
    /// Nothing there.
    Missing,
    /// A file or device without a superblock and without any content.
    Blank,
    /// A volume of ours, open and ready.
    Open(Superblock),
    /// Content that is not ours, or a superblock that does not hold together: never touched.
    Foreign,
}

/// Why a copy of the superblock cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SuperblockError {
    /// Something else, or nothing, lies there.
    #[error("it has no superblock of Twinlun")]
    NotOurs,
    /// The checksum does not fit.
    #[error("its superblock is damaged")]
    Damaged,
    /// Written by a release this one does not know.
    #[error("its format version is {0}, and this release reads version {FORMAT_VERSION}")]
    Version(u32),
}

impl Superblock {
    /// One copy as it lies on the disk.
    #[must_use]
    pub fn encode(&self, sequence: u64) -> [u8; SUPERBLOCK_BYTES] {
        let mut copy = [0; SUPERBLOCK_BYTES];
        copy[..8].copy_from_slice(&MAGIC);
        copy[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        copy[16..32].copy_from_slice(&self.appliance.to_le_bytes());
        copy[32..48].copy_from_slice(&self.volume.to_le_bytes());
        copy[48..56].copy_from_slice(&self.blocks.to_le_bytes());
        copy[56..64].copy_from_slice(&sequence.to_le_bytes());
        let crc = crc32c(&copy[..CRC_OFFSET]);
        copy[CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
        copy
    }

    /// Reads one copy and its sequence.
    pub fn decode(copy: &[u8; SUPERBLOCK_BYTES]) -> Result<(Self, u64), SuperblockError> {
        if copy[..8] != MAGIC {
            return Err(SuperblockError::NotOurs);
        }
        if u64::from(crc32c(&copy[..CRC_OFFSET])) != number(&copy[CRC_OFFSET..]) {
            return Err(SuperblockError::Damaged);
        }
        let version = number(&copy[8..12]) as u32;
        if version != FORMAT_VERSION {
            return Err(SuperblockError::Version(version));
        }
        let superblock = Self {
            appliance: wide(&copy[16..32]),
            volume: wide(&copy[32..48]),
            blocks: number(&copy[48..56]),
        };
        Ok((superblock, number(&copy[56..64])))
    }

    /// The newest valid of both copies, with its sequence; if none is valid, what is wrong.
    pub fn newest(copies: &[[u8; SUPERBLOCK_BYTES]; 2]) -> Result<(Self, u64), SuperblockError> {
        match (Self::decode(&copies[0]), Self::decode(&copies[1])) {
            (Ok(one), Ok(other)) => Ok(if other.1 > one.1 { other } else { one }),
            (Ok(valid), Err(_)) | (Err(_), Ok(valid)) => Ok(valid),
            (Err(SuperblockError::NotOurs), Err(error)) | (Err(error), Err(_)) => Err(error),
        }
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn wide(bytes: &[u8]) -> u128 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: Superblock = Superblock {
        appliance: 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100,
        volume: 0x1f1e_1d1c_1b1a_1918_1716_1514_1312_1110,
        blocks: 0x20_0000,
    };

    /// The first 64 bytes and the checksum of [`EXAMPLE`] with sequence 5; all between is zero.
    const GOLDEN: (&str, &str) = (
        "5457494e4c554e00\
         0100000000000000\
         000102030405060708090a0b0c0d0e0f\
         101112131415161718191a1b1c1d1e1f\
         0000200000000000\
         0500000000000000",
        "027010b9",
    );

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_encoding_is_the_golden_one() {
        let copy = EXAMPLE.encode(5);
        assert_eq!(hex(&copy[..64]), GOLDEN.0);
        assert!(copy[64..CRC_OFFSET].iter().all(|byte| *byte == 0));
        assert_eq!(hex(&copy[CRC_OFFSET..]), GOLDEN.1);
        assert_eq!(Superblock::decode(&copy), Ok((EXAMPLE, 5)));
    }

    #[test]
    fn the_checksum_is_crc32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn the_newest_valid_copy_wins() {
        let other = Superblock { blocks: 1, ..EXAMPLE };
        let (old, new) = (EXAMPLE.encode(1), other.encode(2));
        let mut torn = new;
        torn[50] ^= 1;
        let nothing = [0; SUPERBLOCK_BYTES];
        let mut later = EXAMPLE.encode(3);
        later[8] = 9;
        let crc = crc32c(&later[..CRC_OFFSET]).to_le_bytes();
        later[CRC_OFFSET..].copy_from_slice(&crc);
        for (copies, expected) in [
            ([old, new], Ok((other, 2))),
            ([new, old], Ok((other, 2))),
            ([old, torn], Ok((EXAMPLE, 1))),
            ([torn, old], Ok((EXAMPLE, 1))),
            ([nothing, old], Ok((EXAMPLE, 1))),
            ([torn, nothing], Err(SuperblockError::Damaged)),
            ([nothing, torn], Err(SuperblockError::Damaged)),
            ([nothing, later], Err(SuperblockError::Version(9))),
            ([nothing, nothing], Err(SuperblockError::NotOurs)),
        ] {
            assert_eq!(Superblock::newest(&copies), expected);
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_noticed(bit in 0..SUPERBLOCK_BYTES * 8) {
            let mut copy = EXAMPLE.encode(1);
            copy[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Superblock::decode(&copy).is_err());
        }

        #[test]
        fn what_was_encoded_is_decoded(appliance: u128, volume: u128, blocks: u64, sequence: u64) {
            let superblock = Superblock { appliance, volume, blocks };
            prop_assert_eq!(Superblock::decode(&superblock.encode(sequence)), Ok((superblock, sequence)));
        }
    }
}
