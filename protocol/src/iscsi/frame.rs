//! Cutting a byte stream into PDUs: where the segments, the padding and the digests of a PDU lie (RFC 7143 11.2).

use core::ops::Range;

use super::{BHS_BYTES, Bhs, field};

/// Bytes in one header or data digest (RFC 7143 13.1).
pub const DIGEST_BYTES: usize = 4;

/// The largest additional header segments TotalAHSLength can announce, in bytes.
pub const AHS_BYTES_MAX: usize = 255 * 4;

/// Which digests are in use on a connection; none before full feature phase (13.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Digests {
    /// HeaderDigest=CRC32C.
    pub header: bool,
    /// DataDigest=CRC32C.
    pub data: bool,
}

/// The layout of one PDU, known from its first 48 bytes. All ranges count from the PDU's first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    ahs_bytes: usize,
    data_bytes: usize,
    digests: Digests,
}

/// Padding after `length` bytes, in bytes: "to the closest integer number of 4-byte words" (11.1).
#[must_use]
pub const fn padding_bytes(length: usize) -> usize {
    length.wrapping_neg() % 4
}

impl Frame {
    /// The layout of the PDU that begins with this header.
    #[must_use]
    pub const fn of(bhs: &Bhs, digests: Digests) -> Self {
        let data_bytes = field::data_segment_length(bhs) as usize;
        Self { ahs_bytes: bhs[4] as usize * 4, data_bytes, digests }
    }

    /// Bytes of the whole header segment group, without digest.
    #[must_use]
    pub const fn header_bytes(&self) -> usize {
        BHS_BYTES + self.ahs_bytes
    }

    /// Bytes of the data segment without padding: DataSegmentLength. At most 2**24 - 1, so a reader compares
    /// it with the negotiated limit before it makes room.
    #[must_use]
    pub const fn data_bytes(&self) -> usize {
        self.data_bytes
    }

    /// Bytes of padding after the data segment: 0 to 3.
    #[must_use]
    pub const fn padding_bytes(&self) -> usize {
        padding_bytes(self.data_bytes)
    }

    /// Where the additional header segments lie, padding included; may be empty.
    #[must_use]
    pub const fn ahs(&self) -> Range<usize> {
        BHS_BYTES..self.header_bytes()
    }

    /// Where the header digest lies, if there is one.
    #[must_use]
    pub const fn header_digest(&self) -> Option<Range<usize>> {
        let start = self.header_bytes();
        if self.digests.header { Some(start..start + DIGEST_BYTES) } else { None }
    }

    /// Where the data segment lies, without padding; may be empty.
    #[must_use]
    pub const fn data(&self) -> Range<usize> {
        let start = self.header_bytes() + if self.digests.header { DIGEST_BYTES } else { 0 };
        start..start + self.data_bytes
    }

    /// Where the data segment lies, with padding: what the data digest covers (11.2.3).
    #[must_use]
    pub const fn padded_data(&self) -> Range<usize> {
        let data = self.data();
        data.start..data.end + self.padding_bytes()
    }

    /// Where the data digest lies, if there is one: "A zero-length Data Segment also implies a zero-length
    /// Data-Digest" (11.2.3).
    #[must_use]
    pub const fn data_digest(&self) -> Option<Range<usize>> {
        let start = self.padded_data().end;
        if self.digests.data && self.data_bytes > 0 { Some(start..start + DIGEST_BYTES) } else { None }
    }

    /// Bytes from the PDU's first to the next PDU's first.
    #[must_use]
    pub const fn total_bytes(&self) -> usize {
        match self.data_digest() {
            Some(digest) => digest.end,
            None => self.padded_data().end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(ahs_words: u8, data: u32) -> Bhs {
        let mut bhs = [0; BHS_BYTES];
        bhs[4] = ahs_words;
        field::put_data_segment_length(&mut bhs, data);
        bhs
    }

    #[test]
    fn segments_follow_each_other_with_padding_and_digests() {
        let both = Digests { header: true, data: true };
        let none = Digests::default();
        for (ahs, length, digests, total, header_digest, data, data_digest) in [
            (0, 0, none, 48, None, 48..48, None),
            (0, 0, both, 52, Some(48..52), 52..52, None),
            (0, 5, none, 56, None, 48..53, None),
            (0, 5, both, 64, Some(48..52), 52..57, Some(60..64)),
            (2, 4, both, 68, Some(56..60), 60..64, Some(64..68)),
            (0, 8, Digests { header: false, data: true }, 60, None, 48..56, Some(56..60)),
        ] {
            let frame = Frame::of(&header(ahs, length), digests);
            assert_eq!(frame.total_bytes(), total, "{frame:?}");
            assert_eq!(frame.header_digest(), header_digest, "{frame:?}");
            assert_eq!(frame.data(), data, "{frame:?}");
            assert_eq!(frame.data_digest(), data_digest, "{frame:?}");
        }
    }

    proptest! {
        #[test]
        fn every_pdu_is_a_whole_number_of_words(bhs: [u8; 48], header: bool, data: bool) {
            let frame = Frame::of(&bhs, Digests { header, data });
            prop_assert_eq!(frame.total_bytes() % 4, 0);
            prop_assert!(frame.total_bytes() >= BHS_BYTES + frame.data_bytes());
            prop_assert!(frame.ahs().len() <= AHS_BYTES_MAX);
        }
    }
}
