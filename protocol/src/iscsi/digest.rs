//! Header and data digests: CRC32C (RFC 7143 11.2.3, 13.1).
//!
//! A digest covers its segment with its padding. On receipt the padding is hashed as it came; on sending it is 0,
//! and [`data_digest`] adds it.

use crc_fast::{CrcAlgorithm, Digest};

use super::Bhs;
use super::frame::{DIGEST_BYTES, padding_bytes};

/// A digest in the making, over pieces of a segment in their order.
#[derive(Clone, Debug)]
pub struct Crc32c(Digest);

impl Default for Crc32c {
    fn default() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }
}

impl Crc32c {
    /// Adds the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The digest as it goes on the wire: the x**31 coefficient in bit 7 of the lowest numbered byte (13.1), which
    /// for this bit-reflected CRC is little-endian order.
    #[must_use]
    pub fn finish(&self) -> [u8; DIGEST_BYTES] {
        (self.0.finalize() as u32).to_le_bytes()
    }
}

/// The digest of these pieces, with nothing added.
#[must_use]
pub fn digest<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> [u8; DIGEST_BYTES] {
    let mut crc = Crc32c::default();
    for piece in pieces {
        crc.update(piece);
    }
    crc.finish()
}

/// The header digest: over the Basic Header Segment and the additional header segments with their padding.
#[must_use]
pub fn header_digest(bhs: &Bhs, ahs: &[u8]) -> [u8; DIGEST_BYTES] {
    digest([&bhs[..], ahs])
}

/// The data digest of a data segment to be sent with zeros as padding. Not to be sent for an empty segment
/// (11.2.3).
#[must_use]
pub fn data_digest<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> [u8; DIGEST_BYTES] {
    let mut crc = Crc32c::default();
    let mut length = 0_usize;
    for piece in pieces {
        crc.update(piece);
        length = length.wrapping_add(piece.len());
    }
    crc.update(&[0; 3][..padding_bytes(length)]);
    crc.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The READ(10) of RFC 7143 A.4.
    const READ_10: Bhs = [
        0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0x14, 0, 0,
        0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0,
    ];

    #[test]
    fn the_examples_of_the_standard_have_the_digests_of_the_standard() {
        let up: Vec<u8> = (0..32).collect();
        let down: Vec<u8> = (0..32).rev().collect();
        let cases: [(&[u8], [u8; 4]); 5] = [
            (&[0; 32], [0xaa, 0x36, 0x91, 0x8a]),
            (&[0xff; 32], [0x43, 0xab, 0xa8, 0x62]),
            (&up, [0x4e, 0x79, 0xdd, 0x46]),
            (&down, [0x5c, 0xdb, 0x3f, 0x11]),
            (&READ_10, [0x56, 0x3a, 0x96, 0xd9]),
        ];
        for (segment, expected) in cases {
            assert_eq!(digest([segment]), expected, "{segment:02x?}");
        }
        assert_eq!(header_digest(&READ_10, &[]), [0x56, 0x3a, 0x96, 0xd9]);
    }

    #[test]
    fn padding_is_part_of_the_data_digest() {
        assert_eq!(data_digest([&[1, 2, 3, 4, 5][..]]), digest([&[1, 2, 3, 4, 5, 0, 0, 0][..]]));
        assert_eq!(data_digest([&[1, 2, 3, 4][..]]), digest([&[1, 2, 3, 4][..]]));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(segment in prop::collection::vec(any::<u8>(), 0..600), at in 0_usize..600) {
            let (left, right) = segment.split_at(at.min(segment.len()));
            prop_assert_eq!(digest([left, right]), digest([&segment[..]]));
            prop_assert_eq!(data_digest([left, right]), data_digest([&segment[..]]));
        }

        #[test]
        fn a_flipped_bit_is_noticed(
            mut segment in prop::collection::vec(any::<u8>(), 1..600), at: prop::sample::Index, bit in 0_u32..8,
        ) {
            let before = digest([&segment[..]]);
            *at.get_mut(&mut segment) ^= 1_u8 << bit;
            prop_assert_ne!(digest([&segment[..]]), before);
        }
    }
}
