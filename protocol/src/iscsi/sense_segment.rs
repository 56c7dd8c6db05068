//! The data segment of a SCSI Response and of an Asynchronous Message: SenseLength, sense data, and what follows
//! (RFC 7143 11.4.7, 11.9.4).

/// Bytes of the SenseLength field in front of the sense data.
pub const SENSE_LENGTH_BYTES: usize = 2;

/// The largest sense data SPC-4 4.5 allows, in bytes.
pub const SENSE_DATA_BYTES_MAX: usize = 252;

/// A data segment that announces more sense data than it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("SenseLength is longer than the data segment (RFC 7143 11.4.7.1)")]
pub struct SenseLengthError;

/// The data segment that carries this sense data and nothing more.
#[must_use]
pub fn encode(sense: &[u8]) -> Vec<u8> {
    let sense = &sense[..sense.len().min(SENSE_DATA_BYTES_MAX)];
    let mut segment = Vec::with_capacity(SENSE_LENGTH_BYTES + sense.len());
    segment.extend_from_slice(&(sense.len() as u16).to_be_bytes());
    segment.extend_from_slice(sense);
    segment
}

/// The sense data and what follows it (response data or event data); both empty for an empty segment.
pub fn decode(segment: &[u8]) -> Result<(&[u8], &[u8]), SenseLengthError> {
    match segment {
        [] => Ok((&[], &[])),
        [high, low, rest @ ..] => {
            rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low]))).ok_or(SenseLengthError)
        }
        [_] => Err(SenseLengthError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sense_data_is_preceded_by_its_length() {
        let segment = encode(&[0x70, 0, 5]);
        assert_eq!(segment, [0, 3, 0x70, 0, 5]);
        assert_eq!(decode(&segment), Ok((&[0x70, 0, 5][..], &[][..])));
        assert_eq!(decode(&[0, 1, 0x70, 9]), Ok((&[0x70][..], &[9][..])));
        assert_eq!(decode(&[]), Ok((&[][..], &[][..])));
    }

    #[test]
    fn a_length_beyond_the_segment_is_refused() {
        assert_eq!(decode(&[0, 3, 1, 2]), Err(SenseLengthError));
        assert_eq!(decode(&[0]), Err(SenseLengthError));
    }

    proptest! {
        #[test]
        fn no_segment_brings_the_decoder_down(segment in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&segment);
        }

        #[test]
        fn what_is_encoded_decodes_to_the_same(sense in prop::collection::vec(any::<u8>(), 0..=252)) {
            let segment = encode(&sense);
            prop_assert_eq!(decode(&segment), Ok((&sense[..], &[][..])));
        }
    }
}
