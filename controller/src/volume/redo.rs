//! The redo record of one copy: what makes a write of several blocks all or nothing through any crash. Here its
//! format and its replay; the order of every step while a copy is served is kept by `lun/redo.rs`.
//!
//! One record lies in the reserved tail, behind the first copy of the superblock. Numbers are little-endian:
//!
//! | byte | what |
//! |---|---|
//! | 4096 | `TWINREDO` |
//! | 4104 | blocks (64 bits) |
//! | 4112 | first block (64 bits) |
//! | 4120 | CRC-64/NVME of the 24 bytes before, of the 8 bytes behind, and of the data (64 bits) |
//! | 4128 | version (32 bits) |
//! | 4132 | zeros |
//! | 8192 | the data: what the blocks become |
//!
//! The first release wrote no version, and its checksum did not cover the 8 bytes; one of a version that is not known
//! is refused with its volume ([`is_newer`]). The record names no generation, no volume and no controller: it lies in
//! the volume that it is about, whose superblock names them, and whose tail was blank when the volume became ours.
//! This copy was in the middle of this write, whatever the pair decides later. A volume has one record at most, so
//! records need no order.
//!
//! A record that is torn, cut short or blotted out fails its checksum and is none. One that holds is replayed when the
//! volume is found, before anybody compares or serves the copy: it is made durable (the crash may have been of the
//! controller alone, before the record was), its data is written in place and flushed, and the record is blotted out,
//! durably. A crash on the way finds the record again.

use crc_fast::{CrcAlgorithm, Digest};
use protocol::block::{BLOCK_BYTES, BlockRange};

use super::stack::{Part, Stack};
use super::superblock::{COPY_OFFSETS, SUPERBLOCK_BYTES};

/// Blocks that one command can write all or nothing at most: 256 KiB.
pub const ATOMIC_BLOCKS_MAX: u32 = 512;

/// Where the record lies, in bytes from the start of the tail.
pub const RECORD_OFFSET: u64 = SUPERBLOCK_BYTES as u64;

/// Bytes of the record before its data: a page, so that nothing has to be read to write it.
pub const HEADER_BYTES: usize = 4096;

const MAGIC: [u8; 8] = *b"TWINREDO";

/// What this release writes. It reads records without a version (zero), too.
const VERSION: u32 = 2;

/// Bytes from the start of a record to the end of the longest.
pub const RECORD_BYTES: u64 = HEADER_BYTES as u64 + DATA_BYTES;

const DATA_BYTES: u64 = ATOMIC_BLOCKS_MAX as u64 * BLOCK_BYTES as u64;
const _: () = assert!(RECORD_OFFSET + HEADER_BYTES as u64 + DATA_BYTES <= COPY_OFFSETS[1]);

/// The header of a record of `data`, which fills `range` exactly.
#[must_use]
pub fn header<'a>(range: BlockRange, data: impl IntoIterator<Item = &'a [u8]>) -> [u8; HEADER_BYTES] {
    debug_assert!(
        !range.is_empty() && range.blocks <= u64::from(ATOMIC_BLOCKS_MAX),
        "no replay takes a record of {range}"
    );
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..16].copy_from_slice(&range.blocks.to_le_bytes());
    header[16..24].copy_from_slice(&range.start.0.to_le_bytes());
    header[32..36].copy_from_slice(&VERSION.to_le_bytes());
    let sum = checksum(&[&header[..24], &header[32..40]], data);
    header[24..32].copy_from_slice(&sum.to_le_bytes());
    header
}

/// The blocks a header speaks of, of a volume of `blocks`; `None` if it is no header of a record. Whether the record
/// holds is known with its data only.
#[must_use]
pub fn range_of(header: &[u8; HEADER_BYTES], blocks: u64) -> Option<BlockRange> {
    let range = BlockRange::new(number(&header[16..24]), number(&header[8..16]))?;
    let sound = header[..8] == MAGIC
        && !range.is_empty()
        && range.blocks <= u64::from(ATOMIC_BLOCKS_MAX)
        && range.end().0 <= blocks;
    sound.then_some(range)
}

/// Whether the data is what the header was made for.
#[must_use]
pub fn holds(header: &[u8; HEADER_BYTES], data: &[u8]) -> bool {
    let expected = number(&header[24..32]);
    match version(header) {
        0 => checksum(&[&header[..24]], [data]) == expected,
        _ => checksum(&[&header[..24], &header[32..40]], [data]) == expected,
    }
}

/// Whether it is the header of a record that only a newer release can read: then its volume must not be used.
#[must_use]
pub fn is_newer(header: &[u8; HEADER_BYTES]) -> bool {
    header[..8] == MAGIC && ![0, VERSION].contains(&version(header))
}

fn version(header: &[u8; HEADER_BYTES]) -> u32 {
    number(&header[32..36]) as u32
}

/// A volume that is found, as its replay needs it.
pub trait Found {
    /// What can go wrong.
    type Error;
    /// Reads from the tail, `offset` bytes behind its start.
    fn read_tail(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Self::Error>;
    /// Writes to the tail.
    fn write_tail(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Self::Error>;
    /// Writes blocks.
    fn write(&mut self, part: Part, data: &[u8]) -> Result<(), Self::Error>;
    /// Makes everything written durable.
    fn flush(&mut self) -> Result<(), Self::Error>;
}

/// Completes the write that a crash has interrupted on a volume of `blocks`, if there is one; which it was. `stack`:
/// where the blocks of its LUN lie. After an error the volume must not be used.
pub fn replay<V: Found>(volume: &mut V, stack: Stack, blocks: u64) -> Result<Option<BlockRange>, V::Error> {
    let mut header = [0; HEADER_BYTES];
    volume.read_tail(RECORD_OFFSET, &mut header)?;
    let Some(range) = range_of(&header, blocks) else {
        return Ok(None);
    };
    // At most DATA_BYTES.
    let mut data = vec![0; range.bytes() as usize];
    volume.read_tail(RECORD_OFFSET + HEADER_BYTES as u64, &mut data)?;
    if !holds(&header, &data) {
        return Ok(None);
    }
    volume.flush()?;
    volume.write(stack.plan(range), &data)?;
    volume.flush()?;
    volume.write_tail(RECORD_OFFSET, &[0; HEADER_BYTES])?;
    volume.flush()?;
    Ok(Some(range))
}

fn checksum<'a>(head: &[&[u8]], data: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    head.iter().for_each(|piece| digest.update(piece));
    data.into_iter().for_each(|piece| digest.update(piece));
    digest.finalize()
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(start: u64, blocks: u64) -> BlockRange {
        BlockRange::new(start, blocks).unwrap()
    }

    #[test]
    fn the_encoding_is_the_golden_one() {
        let data: Vec<u8> = (0..1024_u32).map(|byte| byte as u8).collect();
        let made = header(range(0x0102, 2), [&data[..100], &data[100..]]);
        let hex: String = made[..32].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            concat!("5457494e5245444f", "0200000000000000", "0201000000000000", "639425ba1281fec2")
        );
        assert_eq!(made[32..40], [2, 0, 0, 0, 0, 0, 0, 0]);
        assert!(made[40..].iter().all(|byte| *byte == 0));
        assert_eq!(range_of(&made, 0x0104), Some(range(0x0102, 2)));
        assert!(holds(&made, &data));
        assert_eq!(
            checksum(&[b"1234"], [&b"56789"[..]]),
            0xae8b_1486_0a79_9888,
            "the catalogue's check value"
        );
        let mut first = made;
        first[24..32].copy_from_slice(&0xd2aa_05f0_83f3_e45a_u64.to_le_bytes());
        first[32] = 0;
        assert!(holds(&first, &data) && !is_newer(&first), "the first release wrote it so");
        let mut newer = made;
        newer[32] = 3;
        assert!(is_newer(&newer) && !is_newer(&made) && !holds(&newer, &data));
    }

    #[test]
    fn what_cannot_be_a_record_of_the_volume_is_none() {
        let data = vec![7; 512];
        let made = header(range(10, 1), [&data[..]]);
        assert_eq!(range_of(&made, 11), Some(range(10, 1)));
        assert_eq!(range_of(&made, 10), None, "it ends behind the volume");
        assert_eq!(range_of(&[0; HEADER_BYTES], 100), None);
        for (start, blocks) in [(0_u64, 0), (0, u64::from(ATOMIC_BLOCKS_MAX) + 1), (u64::MAX / 512, 1)] {
            let mut nonsense = made;
            nonsense[8..16].copy_from_slice(&blocks.to_le_bytes());
            nonsense[16..24].copy_from_slice(&start.to_le_bytes());
            assert_eq!(range_of(&nonsense, 1 << 40), None, "{blocks} blocks from {start}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 32), magic: bool, blocks: u64) {
            let mut header = [0; HEADER_BYTES];
            header[..32].copy_from_slice(&bytes);
            if magic {
                header[..8].copy_from_slice(&MAGIC);
            }
            if let Some(range) = range_of(&header, blocks) {
                prop_assert!(range.end().0 <= blocks && range.bytes() <= DATA_BYTES);
            }
        }

        #[test]
        fn a_flipped_bit_is_noticed(bit in 64..(40 + 1024) * 8_usize) {
            let mut data = vec![0x5a; 1024];
            let mut made = header(range(3, 2), [&data[..]]);
            match bit.checked_sub(40 * 8) {
                None => made[bit / 8] ^= 1 << (bit % 8),
                Some(bit) => data[bit / 8] ^= 1 << (bit % 8),
            }
            prop_assert!(!holds(&made, &data));
        }
    }
}
