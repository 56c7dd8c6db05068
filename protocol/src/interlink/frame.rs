//! Framing: the 48-byte prefix of every interlink frame, and its checksums.
//!
//! ```text
//! byte 0   magic "TWLI"            byte 24  generation number (u64)
//!      4   version (u16)                32  generation id (u64)
//!      6   kind (u8)                    40  reserved, zero
//!      7   reserved, zero               44  CRC32C of bytes 0..44 and the body
//!      8   body bytes (u32)         byte 48  body
//!     12   payload bytes (u32)               payload
//!     16   LUN number (u16)
//!     18   reserved, zero
//!     20   CRC32C of the payload
//! ```
//! All numbers are big endian.

use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};

/// Bytes of the prefix.
pub const PREFIX_BYTES: usize = 48;

/// A body is at most this long; only the greetings come near it.
pub const BODY_BYTES_MAX: u32 = 256 * 1024;

/// A payload is at most this long: the largest command's data, COMPARE AND WRITE counted twice.
pub const PAYLOAD_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// First bytes of every frame.
pub const MAGIC: [u8; 4] = *b"TWLI";

/// Versions of the interlink's language.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u16)]
pub enum Version {
    /// The first: forwarding, mirrored writes, identity, generations, copying back.
    V1 = 1,
    /// The times of service that both know of ([`super::copy_report::Starts`]), before the reports, and with them
    /// copies that are stale, unreadable or the other's. A peer of version 1 is spoken to: it is told of such a copy as
    /// of a failed or foreign one, and what it has is judged by its generations alone, as it judges itself.
    V2 = 2,
}

/// The oldest version spoken.
pub const VERSION_MIN: u16 = Version::V1 as u16;
/// The newest version spoken.
pub const VERSION_MAX: u16 = Version::V2 as u16;

/// Which generation a message belongs to: enough of it to tell any two apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct GenerationTag {
    /// Counts up.
    pub number: u64,
    /// The low 64 bits of its random id.
    pub id: u64,
}

/// A prefix that was read, its checksum not yet compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    /// The language of the body.
    pub version: u16,
    /// Which message.
    pub kind: u8,
    /// The LUN's number, for messages about one.
    pub lun: u16,
    /// The sender's generation of that LUN's group.
    pub generation: GenerationTag,
}

/// What follows a prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameLengths {
    /// Prefix and body together.
    pub head: usize,
    /// The payload after them.
    pub payload: usize,
}

/// Why bytes are not a frame. The connection cannot be trusted after any of these.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// Not the first bytes of a frame.
    #[error("the peer does not speak the interlink's language")]
    Magic,
    /// Body or payload longer than any message's.
    #[error("a frame of the interlink announces an impossible length")]
    Length,
    /// A checksum does not match.
    #[error("a frame of the interlink arrived damaged")]
    Checksum,
    /// A kind or field this version does not know.
    #[error("a frame of the interlink makes no sense")]
    Content,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_be_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// Reads the lengths from the first [`PREFIX_BYTES`] of a frame, so that a reader can cut the stream.
pub fn frame_lengths(prefix: &[u8; PREFIX_BYTES]) -> Result<FrameLengths, FrameError> {
    if prefix[..4] != MAGIC {
        return Err(FrameError::Magic);
    }
    let (body, payload) = (u32_at(prefix, 8), u32_at(prefix, 12));
    if body > BODY_BYTES_MAX || payload > PAYLOAD_BYTES_MAX {
        return Err(FrameError::Length);
    }
    Ok(FrameLengths { head: PREFIX_BYTES + body as usize, payload: payload as usize })
}

fn crc32c(pieces: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for piece in pieces {
        digest.update(piece);
    }
    // A 32-bit checksum in a 64-bit return value.
    digest.finalize() as u32
}

/// Builds prefix and body of a frame around `body`, for a payload of these pieces.
#[must_use]
pub fn encode(prefix: Prefix, body: &[u8], payload: &[Bytes]) -> Bytes {
    let payload_bytes: usize = payload.iter().map(Bytes::len).sum();
    debug_assert!(body.len() <= BODY_BYTES_MAX as usize, "the peer refuses a body of {} bytes", body.len());
    debug_assert!(payload_bytes <= PAYLOAD_BYTES_MAX as usize, "the peer refuses {payload_bytes} bytes");
    let mut head = BytesMut::with_capacity(PREFIX_BYTES + body.len());
    head.put_slice(&MAGIC);
    head.put_u16(prefix.version);
    head.put_u8(prefix.kind);
    head.put_u8(0);
    head.put_u32(body.len() as u32);
    head.put_u32(payload_bytes as u32);
    head.put_u16(prefix.lun);
    head.put_u16(0);
    head.put_u32(if payload_bytes == 0 {
        0
    } else {
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        for piece in payload {
            digest.update(piece);
        }
        digest.finalize() as u32
    });
    head.put_u64(prefix.generation.number);
    head.put_u64(prefix.generation.id);
    head.put_u32(0);
    let checksum = crc32c(&[&head, body]);
    head.put_u32(checksum);
    debug_assert_eq!(head.len(), PREFIX_BYTES, "the prefix is what its reader takes for it");
    head.put_slice(body);
    head.freeze()
}

/// Checks a whole frame against its checksums and gives its prefix and body.
pub fn decode<'a>(head: &'a [u8], payload: &[u8]) -> Result<(Prefix, &'a [u8]), FrameError> {
    let Some((fixed, body)) = head.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(FrameError::Length);
    };
    let lengths = frame_lengths(fixed)?;
    if lengths.head != head.len() || lengths.payload != payload.len() {
        return Err(FrameError::Length);
    }
    if u32_at(fixed, 44) != crc32c(&[&fixed[..44], body]) {
        return Err(FrameError::Checksum);
    }
    let expected = if payload.is_empty() { 0 } else { crc32c(&[payload]) };
    if u32_at(fixed, 20) != expected {
        return Err(FrameError::Checksum);
    }
    let prefix = Prefix {
        version: u16_at(fixed, 4),
        kind: fixed[6],
        lun: u16_at(fixed, 16),
        generation: GenerationTag { number: u64_at(fixed, 24), id: u64_at(fixed, 32) },
    };
    Ok((prefix, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: Prefix =
        Prefix { version: 1, kind: 16, lun: 3, generation: GenerationTag { number: 7, id: 0xabcd } };

    #[test]
    fn a_frame_comes_back_as_it_was_made() {
        let payload = [Bytes::from_static(b"first "), Bytes::from_static(b"second")];
        let head = encode(PREFIX, b"the body", &payload);
        let fixed: &[u8; PREFIX_BYTES] = head[..PREFIX_BYTES].try_into().unwrap();
        assert_eq!(frame_lengths(fixed), Ok(FrameLengths { head: PREFIX_BYTES + 8, payload: 12 }));
        assert_eq!(decode(&head, b"first second"), Ok((PREFIX, &b"the body"[..])));
    }

    #[test]
    fn any_single_flipped_bit_is_noticed() {
        let payload = Bytes::from_static(b"data");
        let head = encode(PREFIX, b"body", std::slice::from_ref(&payload));
        for bit in 0..head.len() * 8 {
            let mut damaged = head.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged, &payload).is_err(), "bit {bit} of the head");
        }
        for bit in 0..payload.len() * 8 {
            let mut damaged = payload.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&head, &damaged).is_err(), "bit {bit} of the payload");
        }
    }

    #[test]
    fn impossible_lengths_are_refused_before_anything_is_allocated() {
        let mut prefix = [0u8; PREFIX_BYTES];
        prefix[..4].copy_from_slice(&MAGIC);
        prefix[8..12].copy_from_slice(&(BODY_BYTES_MAX + 1).to_be_bytes());
        assert_eq!(frame_lengths(&prefix), Err(FrameError::Length));
        prefix[8..12].copy_from_slice(&0u32.to_be_bytes());
        prefix[12..16].copy_from_slice(&(PAYLOAD_BYTES_MAX + 1).to_be_bytes());
        assert_eq!(frame_lengths(&prefix), Err(FrameError::Length));
        assert_eq!(frame_lengths(&[0u8; PREFIX_BYTES]), Err(FrameError::Magic));
    }
}
