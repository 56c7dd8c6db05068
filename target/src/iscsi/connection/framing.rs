//! Framing: the bytes of a connection as PDUs, digests checked (RFC 7143 11.2).

use core::hint::cold_path;

use bytes::{Buf, Bytes, BytesMut};
use controller::disk::crc32c::{crc32c, crc32c_of, crc32c_of_both};
use protocol::iscsi::frame::DIGEST_BYTES;
use protocol::iscsi::{BHS_BYTES, Bhs, Digests, Frame};

/// A PDU as it was received.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its header.
    pub bhs: Bhs,
    /// Its additional header segments; mostly empty.
    pub ahs: Bytes,
    /// Its data segment; none if the data digest did not match.
    pub data: Option<Bytes>,
}

/// What stands at the front of the input.
#[derive(Debug)]
pub enum Framed {
    /// A whole PDU, now taken out.
    Pdu(Received),
    /// The beginning of one that is this long, in bytes (or 48 as long as nothing is known of it).
    Incomplete(usize),
}

/// Input that cannot be framed: the connection must end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FramingError {
    /// A data segment longer than MaxRecvDataSegmentLength (13.12).
    #[error("a data segment of {0} bytes is longer than was agreed")]
    TooLong(usize),
    /// The header digest does not match: nothing in the header can be believed, not even its length (7.8).
    #[error("a header digest does not match")]
    HeaderDigest,
}

/// Takes the first PDU out of `input`. Its data segment shares the memory of `input`.
pub fn take_pdu(input: &mut BytesMut, digests: Digests, segment_max: u32) -> Result<Framed, FramingError> {
    let Some(bhs) = input.first_chunk::<BHS_BYTES>() else {
        return Ok(Framed::Incomplete(BHS_BYTES));
    };
    let bhs: Bhs = *bhs;
    let frame = Frame::of(&bhs, digests);
    let total = frame.total_bytes();
    if frame.data_bytes() > segment_max as usize {
        cold_path();
        return Err(FramingError::TooLong(frame.data_bytes()));
    }
    if bhs[4] == 0 && frame.data_bytes() == 0 {
        return take_header(input, bhs, digests.header);
    }
    if input.len() < total {
        return Ok(Framed::Incomplete(total));
    }
    let intact = if digests == BOTH && bhs[4] == 0 {
        is_intact(&bhs, &input[BHS_BYTES..total])?
    } else {
        is_intact_anyhow(input, &frame)?
    };
    let ahs = if frame.ahs().is_empty() { Bytes::new() } else { Bytes::copy_from_slice(&input[frame.ahs()]) };
    if frame.data_bytes() == 0 {
        input.advance(total);
        return Ok(Framed::Pdu(Received { bhs, ahs, data: Some(Bytes::new()) }));
    }
    debug_assert!(frame.data().end <= total, "a data segment lies within its PDU");
    let pdu = input.split_to(total).freeze();
    let data = intact.then(|| pdu.slice(frame.data()));
    Ok(Framed::Pdu(Received { bhs, ahs, data }))
}

/// Both digests.
const BOTH: Digests = Digests { header: true, data: true };

/// Takes out a PDU that is nothing but this header, as most are: every length is known, so nothing is looked up. The
/// compiler is told what hardly happens, or it takes what is left of a header with a digest for that.
#[inline]
fn take_header(input: &mut BytesMut, bhs: Bhs, digest: bool) -> Result<Framed, FramingError> {
    const DIGESTED_BYTES: usize = BHS_BYTES + DIGEST_BYTES;
    let mut bytes = BHS_BYTES;
    if digest {
        let Some(digested) = input.first_chunk::<DIGESTED_BYTES>() else {
            cold_path();
            return Ok(Framed::Incomplete(DIGESTED_BYTES));
        };
        if digested.last_chunk() != Some(&crc32c_of(&bhs).to_le_bytes()) {
            cold_path();
            return Err(FramingError::HeaderDigest);
        }
        bytes = DIGESTED_BYTES;
    }
    input.advance(bytes);
    Ok(Framed::Pdu(Received { bhs, ahs: Bytes::new(), data: Some(Bytes::new()) }))
}

/// True if the data is what its digest says, for a PDU without additional header segments that has both digests:
/// `behind` is all of it behind its header.
#[inline]
fn is_intact(bhs: &Bhs, behind: &[u8]) -> Result<bool, FramingError> {
    let (of_header, padded) = behind.split_first_chunk::<DIGEST_BYTES>().ok_or(FramingError::HeaderDigest)?;
    let (padded, of_data) = padded.split_last_chunk::<DIGEST_BYTES>().ok_or(FramingError::HeaderDigest)?;
    let (header, data) = crc32c_of_both(bhs, padded);
    if *of_header != header.to_le_bytes() {
        return Err(FramingError::HeaderDigest);
    }
    Ok(*of_data == data.to_le_bytes())
}

/// As [`is_intact`], for any PDU that stands whole at the front of the input.
fn is_intact_anyhow(input: &[u8], frame: &Frame) -> Result<bool, FramingError> {
    if let Some(at) = frame.header_digest()
        && input[at.clone()] != crc32c(&input[..at.start]).to_le_bytes()
    {
        return Err(FramingError::HeaderDigest);
    }
    Ok(frame.data_digest().is_none_or(|at| input[at] == crc32c(&input[frame.padded_data()]).to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::iscsi::digest::digest;

    fn wire(digests: Digests, data: &[u8]) -> BytesMut {
        let mut bhs = [0_u8; 48];
        bhs[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
        let mut output = crate::iscsi::connection::output::Output::default();
        output.pdu(&bhs, data, digests);
        output.to_bytes()
    }

    #[test]
    fn a_wrong_header_digest_ends_the_connection_and_a_wrong_data_digest_loses_the_data() {
        let mut bytes = wire(BOTH, b"hello");
        bytes[10] ^= 1;
        assert_eq!(take_pdu(&mut bytes, BOTH, 512).unwrap_err(), FramingError::HeaderDigest);
        let mut bytes = wire(BOTH, b"hello");
        bytes[53] ^= 1;
        assert!(matches!(take_pdu(&mut bytes, BOTH, 512), Ok(Framed::Pdu(Received { data: None, .. }))));
        assert!(bytes.is_empty());
    }

    #[test]
    fn a_header_alone_is_awaited_with_its_digest_which_must_be_right() {
        let whole = wire(BOTH, &[]);
        let mut part = BytesMut::from(&whole[..51]);
        assert!(matches!(take_pdu(&mut part, BOTH, 512), Ok(Framed::Incomplete(52))));
        assert_eq!(part.len(), 51);
        assert!(matches!(
            take_pdu(&mut whole.clone(), BOTH, 512),
            Ok(Framed::Pdu(Received { data: Some(_), .. }))
        ));
        for at in [10, 48, 51] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert_eq!(take_pdu(&mut bytes, BOTH, 512).unwrap_err(), FramingError::HeaderDigest, "byte {at}");
        }
    }

    #[test]
    fn additional_header_segments_are_kept_and_covered_by_the_header_digest() {
        let mut bhs = [0_u8; 48];
        (bhs[4], bhs[7]) = (2, 3);
        let ahs = [0, 2, 1, 0, 9, 0, 0, 0];
        let mut wire = [&bhs[..], &ahs, &digest([&bhs[..], &ahs]), b"abc\0"].concat();
        wire.extend_from_slice(&digest([&b"abc\0"[..]]));
        let Ok(Framed::Pdu(pdu)) = take_pdu(&mut BytesMut::from(&wire[..]), BOTH, 512) else { panic!() };
        assert_eq!((&pdu.ahs[..], pdu.data.as_deref()), (&ahs[..], Some(&b"abc"[..])));
        wire[50] ^= 1;
        assert_eq!(
            take_pdu(&mut BytesMut::from(&wire[..]), BOTH, 512).unwrap_err(),
            FramingError::HeaderDigest
        );
    }

    #[test]
    fn a_segment_longer_than_agreed_is_refused_before_it_is_awaited() {
        let mut bytes = wire(Digests::default(), &[0; 513]);
        bytes.truncate(48);
        assert_eq!(take_pdu(&mut bytes, Digests::default(), 512).unwrap_err(), FramingError::TooLong(513));
    }

    proptest! {
        #[test]
        fn pdus_come_out_as_they_went_in_however_the_bytes_arrive(
            segments in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..8),
            step in 1_usize..100, header: bool, data: bool,
        ) {
            let digests = Digests { header, data };
            let all = segments.iter().flat_map(|s| wire(digests, s)).collect::<Vec<_>>();
            let mut input = BytesMut::new();
            let mut seen = Vec::new();
            for chunk in all.chunks(step) {
                input.extend_from_slice(chunk);
                while let Framed::Pdu(pdu) = take_pdu(&mut input, digests, 512).unwrap() {
                    seen.push(pdu.data.unwrap().to_vec());
                }
            }
            prop_assert_eq!(seen, segments);
            prop_assert!(input.is_empty());
        }

        #[test]
        fn any_bytes_are_cut_without_a_crash(bytes: Vec<u8>, header: bool, data: bool) {
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Framed::Pdu(_)) = take_pdu(&mut input, Digests { header, data }, 8192) {}
        }
    }
}
