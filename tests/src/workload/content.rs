//! Block contents that tell who wrote them, and where: every 16 bytes of a block name the operation and the LBA,
//! so that mixed, misplaced and corrupt blocks are told from whole ones.

use crate::judge::{OpId, Piece, Seen};

/// Bytes in one logical block.
pub const BLOCK_BYTES: usize = 512;

/// Stands in for the LBA in what WRITE SAME writes: the same block everywhere.
pub const ANY_LBA: u64 = u64::MAX;

/// Between the operation and the LBA of a mark.
const MAGIC: u32 = 0x6e77_7474;

/// What stands in a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// Zeros.
    Zeros,
    /// Written by an operation for this LBA, or for [`ANY_LBA`].
    Written(OpId, u64),
}

impl Mark {
    /// Appends the block.
    pub fn append_to(self, out: &mut Vec<u8>) {
        let start = out.len();
        match self {
            Self::Zeros => out.resize(start + BLOCK_BYTES, 0),
            Self::Written(id, lba) => {
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&MAGIC.to_le_bytes());
                out.extend_from_slice(&lba.to_le_bytes());
                while out.len() < start + BLOCK_BYTES {
                    out.extend_from_within(start..);
                }
            }
        }
    }

    /// Reads the block at `lba`; `None` if nobody wrote that there.
    #[must_use]
    pub fn of(block: &[u8], lba: u64) -> Option<Self> {
        if block.len() != BLOCK_BYTES || block[16..] != block[..BLOCK_BYTES - 16] {
            return None;
        }
        let head = block.first_chunk::<16>()?;
        if *head == [0; 16] {
            return Some(Self::Zeros);
        }
        let id = OpId::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let magic = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let at = head.last_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))?;
        (magic == MAGIC && (at == lba || at == ANY_LBA)).then_some(Self::Written(id, at))
    }

    /// Without the LBA.
    #[must_use]
    pub const fn seen(self) -> Seen {
        match self {
            Self::Zeros => Seen::Zeros,
            Self::Written(id, _) => Seen::Written(id),
        }
    }
}

/// What a WRITE by `id` writes from block `start` on.
#[must_use]
pub fn written(id: OpId, start: u64, blocks: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(blocks as usize * BLOCK_BYTES);
    (start..start + blocks).for_each(|lba| Mark::Written(id, lba).append_to(&mut out));
    out
}

/// What a read of whole blocks from `start` on saw.
#[must_use]
pub fn pieces(data: &[u8], start: u64) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for (block, lba) in data.chunks(BLOCK_BYTES).zip(start..) {
        let seen = Mark::of(block, lba).map_or(Seen::Nobody, Mark::seen);
        match pieces.last_mut() {
            Some(last) if last.seen == seen => last.blocks += 1,
            _ => pieces.push(Piece { blocks: 1, seen }),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_tells_who_wrote_it_and_no_other_block_does() {
        let data = written(7, 100, 2);
        assert_eq!(pieces(&data, 100), [Piece { blocks: 2, seen: Seen::Written(7) }]);
        assert_eq!(pieces(&data, 101)[0].seen, Seen::Nobody, "misplaced");
        let mut mixed = data[..256].to_vec();
        mixed.extend_from_slice(&written(8, 100, 1)[256..]);
        assert_eq!(Mark::of(&mixed, 100), None, "half of each");
        for byte in [0, 5, 15, 16, 511] {
            let mut corrupt = data[..512].to_vec();
            corrupt[byte] ^= 1;
            assert_eq!(Mark::of(&corrupt, 100), None, "byte {byte}");
        }
    }

    #[test]
    fn what_write_same_wrote_is_the_same_everywhere() {
        let mut block = Vec::new();
        Mark::Written(9, ANY_LBA).append_to(&mut block);
        assert_eq!(Mark::of(&block, 3), Some(Mark::Written(9, ANY_LBA)));
        assert_eq!(Mark::of(&[0; 512], 3), Some(Mark::Zeros));
    }
}
