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
//! | 64 | features that may be ignored (64 bits) |
//! | 72 | features that must be known to write to the volume (64 bits) |
//! | 80 | features that must be known to use it at all (64 bits) |
//! | 88 | bytes of the reserved tail (64 bits) |
//! | 96 | start: number (64 bits) |
//! | 104 | start: id (128 bits) |
//! | 120 | length of the controller's name (16 bits) |
//! | 122 | zeros |
//! | 128 | the name of the controller whose copy it is |
//! | 192 | zeros |
//! | 4092 | CRC32C of everything before (32 bits) |

//!
//! The start is that of the last time of service, made durable before its first byte; the control record says which it
//! must be, so a volume that was put back from a copy, and one whose control record was, are both told (see
//! `appliance/starts.rs`). Version 1, of the first release, ends with the sequence: it has no start and names nobody.
//! The copies lie 1 MiB and 512 KiB before the end, however long the tail is.

use protocol::interlink::copy_report::Start;

use crate::disk::crc32c::crc32c;

/// Bytes of the reserved tail of a volume's file or device.
pub const TAIL_BYTES: u64 = 1 << 20;

/// Bytes of one copy of the superblock.
pub const SUPERBLOCK_BYTES: usize = 4096;

/// Where the two copies lie, in bytes from the start of the tail.
pub const COPY_OFFSETS: [u64; 2] = [0, TAIL_BYTES / 2];

/// The format this release writes. It reads those before, too.
pub const FORMAT_VERSION: u32 = 2;

/// Bytes of a controller's name at most.
pub const OWNER_BYTES_MAX: usize = 64;

/// Features that must be known to write to the volume, and are.
const KNOWN_FOR_WRITING: u64 = 0;

/// Features that must be known to use the volume, and are.
const KNOWN_FOR_USE: u64 = 0;

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
    /// Bytes of the reserved tail.
    pub tail: u64,
    /// The last time of service.
    pub start: Start,
    /// Whose copy it is.
    pub owner: Owner,
    /// Features of other releases that may be ignored: kept as they are.
    pub compatible: u64,
}

/// The name of the controller whose copy a volume is; empty on a volume of the first release.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    length: u8,
    bytes: [u8; OWNER_BYTES_MAX],
}

impl Owner {
    /// Nobody that is known.
    pub const NOBODY: Self = Self { length: 0, bytes: [0; OWNER_BYTES_MAX] };

    /// The controller of this name, whose first [`OWNER_BYTES_MAX`] bytes count.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let length = name.len().min(OWNER_BYTES_MAX);
        let mut bytes = [0; OWNER_BYTES_MAX];
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        Self { length: length as u8, bytes }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> String {
        String::from_utf8_lossy(&self.bytes[..usize::from(self.length)]).into_owned()
    }

    /// Whether a volume that says so may be this controller's.
    #[must_use]
    pub fn may_be(&self, name: &str) -> bool {
        *self == Self::NOBODY || *self == Self::of(name)
    }
}

impl core::fmt::Debug for Owner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.name().fmt(f)
    }
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
    /// Its disk did not answer in time: nobody knows what is there, and it is not touched.
    Silent,
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
    #[error("its format version is {0}, and this release reads versions 1 to {FORMAT_VERSION}")]
    Version(u32),
    /// It has features that must be known to use it.
    #[error("it has features of a newer release (incompatible {0:#x}); use that release")]
    Incompatible(u64),
    /// It has features that must be known to write to it.
    #[error(
        "it has features of a newer release without which nothing may write to it ({0:#x}); use that release"
    )]
    ReadOnly(u64),
}

impl SuperblockError {
    const fn is_newer(self) -> bool {
        matches!(self, Self::Version(_) | Self::Incompatible(_) | Self::ReadOnly(_))
    }
}

impl Superblock {
    /// That of a new volume, which was never served.
    #[must_use]
    pub const fn new(appliance: u128, volume: u128, blocks: u64, owner: Owner) -> Self {
        let start = Start { number: 0, id: 0 };
        Self { appliance, volume, blocks, tail: TAIL_BYTES, start, owner, compatible: 0 }
    }

    /// Whether both are about the same copy of the same volume, whenever each was written.
    #[must_use]
    pub fn is_same_copy(&self, other: &Self) -> bool {
        let owners = self.owner == other.owner || [self.owner, other.owner].contains(&Owner::NOBODY);
        owners && (self.appliance, self.volume, self.blocks) == (other.appliance, other.volume, other.blocks)
    }

    /// Whether a time of service was ever begun. (Not known of a volume of the first release.)
    #[must_use]
    pub fn was_served(&self) -> bool {
        self.start != Start::default()
    }

    /// Whether this is the same copy, and may still get the size of `other`, for nothing was ever served from it.
    #[must_use]
    pub fn may_become(&self, other: &Self) -> bool {
        !self.was_served() && Self { blocks: other.blocks, ..*self }.is_same_copy(other)
    }

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
        copy[64..72].copy_from_slice(&self.compatible.to_le_bytes());
        copy[88..96].copy_from_slice(&self.tail.to_le_bytes());
        copy[96..104].copy_from_slice(&self.start.number.to_le_bytes());
        copy[104..120].copy_from_slice(&self.start.id.to_le_bytes());
        copy[120..122].copy_from_slice(&u16::from(self.owner.length).to_le_bytes());
        copy[128..128 + OWNER_BYTES_MAX].copy_from_slice(&self.owner.bytes);
        seal(&mut copy);
        debug_assert_eq!(Self::decode(&copy), Ok((*self, sequence)), "not read as it is written");
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
        if version == 0 || version > FORMAT_VERSION {
            return Err(SuperblockError::Version(version));
        }
        let blocks = number(&copy[48..56]);
        let mut superblock = Self::new(wide(&copy[16..32]), wide(&copy[32..48]), blocks, Owner::NOBODY);
        if version > 1 {
            superblock.decode_second(copy)?;
        }
        Ok((superblock, number(&copy[56..64])))
    }

    /// What version 2 added.
    fn decode_second(&mut self, copy: &[u8; SUPERBLOCK_BYTES]) -> Result<(), SuperblockError> {
        let [for_writing, for_use] = [number(&copy[72..80]), number(&copy[80..88])];
        if for_use & !KNOWN_FOR_USE != 0 {
            return Err(SuperblockError::Incompatible(for_use));
        }
        // There is no service without writing: even a reader's copy is repaired after a crash.
        if for_writing & !KNOWN_FOR_WRITING != 0 {
            return Err(SuperblockError::ReadOnly(for_writing));
        }
        self.compatible = number(&copy[64..72]);
        self.tail = number(&copy[88..96]);
        self.start = Start { number: number(&copy[96..104]), id: wide(&copy[104..120]) };
        let length = number(&copy[120..122]);
        let name = &copy[128..128 + OWNER_BYTES_MAX];
        let text =
            usize::try_from(length).ok().and_then(|length| core::str::from_utf8(name.get(..length)?).ok());
        self.owner = Owner::of(text.ok_or(SuperblockError::Damaged)?);
        Ok(())
    }

    /// The newest valid of both copies, with its sequence; if none is valid, what is wrong. What a newer release has
    /// written into one of them is not to be passed over by way of the other.
    pub fn newest(copies: &[[u8; SUPERBLOCK_BYTES]; 2]) -> Result<(Self, u64), SuperblockError> {
        match (Self::decode(&copies[0]), Self::decode(&copies[1])) {
            (Ok(one), Ok(other)) => Ok(if other.1 > one.1 { other } else { one }),
            (_, Err(error)) | (Err(error), _) if error.is_newer() => Err(error),
            (Ok(valid), Err(_)) | (Err(_), Ok(valid)) => Ok(valid),
            (Err(SuperblockError::NotOurs), Err(error)) | (Err(error), Err(_)) => Err(error),
        }
    }
}

fn seal(copy: &mut [u8; SUPERBLOCK_BYTES]) {
    let crc = crc32c(&copy[..CRC_OFFSET]);
    copy[CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
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

    fn example() -> Superblock {
        Superblock {
            start: Start { number: 0x0706, id: 0x3f3e_3d3c_3b3a_3938_3736_3534_3332_3130 },
            ..Superblock::new(
                0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100,
                0x1f1e_1d1c_1b1a_1918_1716_1514_1312_1110,
                0x20_0000,
                Owner::of("alpha"),
            )
        }
    }

    /// The first bytes of [`example`] with sequence 5.
    const GOLDEN: &str = "5457494e4c554e00\
         0200000000000000\
         000102030405060708090a0b0c0d0e0f\
         101112131415161718191a1b1c1d1e1f\
         0000200000000000\
         0500000000000000\
         000000000000000000000000000000000000000000000000\
         0000100000000000\
         0607000000000000\
         303132333435363738393a3b3c3d3e3f\
         0500000000000000\
         616c706861000000";

    /// The first 64 bytes and the checksum of what the first release wrote; all between is zero.
    const FIRST: (&str, &str) = (
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

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_encoding_is_the_golden_one() {
        let copy = example().encode(5);
        assert_eq!(hex(&copy[..GOLDEN.len() / 2]), GOLDEN);
        assert!(copy[GOLDEN.len() / 2..CRC_OFFSET].iter().all(|byte| *byte == 0));
        assert_eq!(Superblock::decode(&copy), Ok((example(), 5)));
    }

    #[test]
    fn the_superblock_of_the_first_release_is_read() {
        let mut copy = [0; SUPERBLOCK_BYTES];
        copy[..64].copy_from_slice(&bytes(FIRST.0));
        copy[CRC_OFFSET..].copy_from_slice(&bytes(FIRST.1));
        let expected = Superblock { start: Start::default(), owner: Owner::NOBODY, ..example() };
        assert_eq!(Superblock::decode(&copy), Ok((expected, 5)));
        assert!(expected.is_same_copy(&example()));
    }

    #[test]
    fn features_that_must_be_known_are_refused_and_the_others_kept() {
        let with = |place: usize| {
            let mut copy = example().encode(1);
            copy[place] = 4;
            seal(&mut copy);
            Superblock::decode(&copy)
        };
        assert_eq!(with(64), Ok((Superblock { compatible: 4, ..example() }, 1)));
        assert_eq!(with(72), Err(SuperblockError::ReadOnly(4)));
        assert_eq!(with(80), Err(SuperblockError::Incompatible(4)));
    }

    #[test]
    fn the_copy_of_the_other_controller_is_not_this_ones() {
        let others = Superblock { owner: Owner::of("beta"), ..example() };
        assert!(!others.is_same_copy(&example()) && !others.owner.may_be("alpha"));
        assert!(others.owner.may_be("beta") && Owner::NOBODY.may_be("alpha"));
    }

    #[test]
    fn the_checksum_is_crc32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn the_newest_valid_copy_wins() {
        let other = Superblock { blocks: 1, ..example() };
        let (old, new) = (example().encode(1), other.encode(2));
        let mut torn = new;
        torn[50] ^= 1;
        let nothing = [0; SUPERBLOCK_BYTES];
        let mut later = example().encode(3);
        later[8] = 9;
        seal(&mut later);
        for (copies, expected) in [
            ([old, new], Ok((other, 2))),
            ([new, old], Ok((other, 2))),
            ([old, torn], Ok((example(), 1))),
            ([torn, old], Ok((example(), 1))),
            ([nothing, old], Ok((example(), 1))),
            ([torn, nothing], Err(SuperblockError::Damaged)),
            ([nothing, torn], Err(SuperblockError::Damaged)),
            ([nothing, later], Err(SuperblockError::Version(9))),
            ([new, later], Err(SuperblockError::Version(9))),
            ([later, old], Err(SuperblockError::Version(9))),
            ([nothing, nothing], Err(SuperblockError::NotOurs)),
        ] {
            assert_eq!(Superblock::newest(&copies), expected);
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_noticed(bit in 0..SUPERBLOCK_BYTES * 8) {
            let mut copy = example().encode(1);
            copy[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Superblock::decode(&copy).is_err());
        }

        #[test]
        fn what_was_encoded_is_decoded(
            appliance: u128, volume: u128, blocks: u64, sequence: u64, name in "[a-z]{0,64}",
        ) {
            let start = Start { number: blocks ^ sequence, id: appliance ^ volume };
            let superblock = Superblock { start, ..Superblock::new(appliance, volume, blocks, Owner::of(&name)) };
            prop_assert_eq!(Superblock::decode(&superblock.encode(sequence)), Ok((superblock, sequence)));
        }
    }
}
