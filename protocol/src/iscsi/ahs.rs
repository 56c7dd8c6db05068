//! Additional header segments (RFC 7143 11.2.2): the part of a CDB beyond 16 bytes, and the expected read length
//! of a bidirectional command.

use super::frame::padding_bytes;

/// AHSType of an Extended CDB (11.2.2.3).
const EXTENDED_CDB: u8 = 1;
/// AHSType of a Bidirectional Read Expected Data Transfer Length (11.2.2.4).
const BIDIRECTIONAL_READ_LENGTH: u8 = 2;
/// The bits of the AHSType byte that hold the code (11.2.2.1).
const TYPE_MASK: u8 = 0x3f;
/// AHSLength and AHSType, which AHSLength does not count (11.2.2.2).
const UNCOUNTED_BYTES: usize = 3;
/// The reserved byte, which AHSLength counts.
const RESERVED_BYTES: usize = 1;

/// What the additional header segments of a SCSI Command PDU say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AdditionalHeader<'a> {
    /// The bytes of the CDB after its first 16, without padding.
    pub extended_cdb: Option<&'a [u8]>,
    /// Bidirectional Read Expected Data Transfer Length, in bytes.
    pub bidirectional_read_length: Option<u32>,
}

/// Additional header segments that cannot be understood: a protocol error.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AhsError {
    /// A segment is longer than what TotalAHSLength leaves.
    #[error("an additional header segment is longer than TotalAHSLength leaves (RFC 7143 11.2.2.2)")]
    TooLong,
    /// AHSLength does not fit the type.
    #[error("AHSLength {length} does not fit AHSType {ahs_type} (RFC 7143 11.2.2.2)")]
    WrongLength {
        /// AHS code.
        ahs_type: u8,
        /// What AHSLength said.
        length: u16,
    },
    /// The type is reserved.
    #[error("AHSType {0} is reserved (RFC 7143 11.2.2.1)")]
    ReservedType(u8),
    /// The same type came twice.
    #[error("AHSType {0} is there twice")]
    Twice(u8),
}

/// Reads the list of additional header segments between the Basic Header Segment and the header digest.
pub fn decode(mut list: &[u8]) -> Result<AdditionalHeader<'_>, AhsError> {
    let mut header = AdditionalHeader::default();
    while let [high, low, ahs_type, rest @ ..] = list {
        let length = u16::from_be_bytes([*high, *low]);
        let ahs_type = ahs_type & TYPE_MASK;
        let content = rest.get(..usize::from(length)).ok_or(AhsError::TooLong)?;
        let wrong_length = AhsError::WrongLength { ahs_type, length };
        let twice = match ahs_type {
            EXTENDED_CDB => match content {
                [_, cdb @ ..] if !cdb.is_empty() => header.extended_cdb.replace(cdb).is_some(),
                _ => return Err(wrong_length),
            },
            BIDIRECTIONAL_READ_LENGTH => match content {
                [_, a, b, c, d] => {
                    let bytes = u32::from_be_bytes([*a, *b, *c, *d]);
                    header.bidirectional_read_length.replace(bytes).is_some()
                }
                _ => return Err(wrong_length),
            },
            reserved => return Err(AhsError::ReservedType(reserved)),
        };
        if twice {
            return Err(AhsError::Twice(ahs_type));
        }
        let used = UNCOUNTED_BYTES + usize::from(length);
        list = list.get(used + padding_bytes(used)..).ok_or(AhsError::TooLong)?;
    }
    if list.is_empty() { Ok(header) } else { Err(AhsError::TooLong) }
}

impl AdditionalHeader<'_> {
    /// The list as it goes on the wire, padded to whole words; empty if there is nothing to say.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut list = Vec::new();
        if let Some(cdb) = self.extended_cdb {
            push(&mut list, EXTENDED_CDB, cdb);
        }
        if let Some(bytes) = self.bidirectional_read_length {
            push(&mut list, BIDIRECTIONAL_READ_LENGTH, &bytes.to_be_bytes());
        }
        list
    }
}

fn push(list: &mut Vec<u8>, ahs_type: u8, content: &[u8]) {
    let length = u16::try_from(RESERVED_BYTES + content.len()).unwrap_or(u16::MAX);
    list.extend_from_slice(&length.to_be_bytes());
    list.extend_from_slice(&[ahs_type, 0]);
    list.extend_from_slice(content);
    list.resize(list.len() + padding_bytes(list.len()), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_32_byte_cdb_spills_16_bytes_and_ahs_length_is_17() {
        let cdb = [0xa5; 16];
        let list = AdditionalHeader { extended_cdb: Some(&cdb), bidirectional_read_length: None }.encode();
        assert_eq!(list.len(), 20);
        assert_eq!(list[..4], [0, 17, 1, 0]);
        assert_eq!(decode(&list).unwrap().extended_cdb, Some(&cdb[..]));
    }

    #[test]
    fn a_bidirectional_read_length_is_eight_bytes() {
        let list = [0, 5, 2, 0, 0, 0, 0x10, 0];
        let header = decode(&list).unwrap();
        assert_eq!(header.bidirectional_read_length, Some(4096));
        assert_eq!(header.encode(), list);
    }

    #[test]
    fn what_no_segment_can_be_is_refused() {
        let cases: &[(&[u8], AhsError)] = &[
            (&[0, 5, 2, 0], AhsError::TooLong),
            (&[0, 1], AhsError::TooLong),
            (&[0xff, 0xff, 1, 0], AhsError::TooLong),
            (&[0, 0, 1, 0], AhsError::WrongLength { ahs_type: 1, length: 0 }),
            (&[0, 1, 1, 0], AhsError::WrongLength { ahs_type: 1, length: 1 }),
            (&[0, 1, 2, 0], AhsError::WrongLength { ahs_type: 2, length: 1 }),
            (&[0, 1, 3, 0], AhsError::ReservedType(3)),
            (&[0, 1, 0, 0], AhsError::ReservedType(0)),
            (&[0, 5, 2, 0, 0, 0, 0, 1, 0, 5, 2, 0, 0, 0, 0, 1], AhsError::Twice(2)),
        ];
        for (list, error) in cases {
            assert_eq!(decode(list), Err(*error), "{list:?}");
        }
    }

    proptest! {
        #[test]
        fn no_list_of_bytes_brings_the_decoder_down(list in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&list);
        }

        #[test]
        fn what_is_encoded_decodes_to_the_same(
            cdb in prop::option::of(prop::collection::vec(any::<u8>(), 1..245)),
            length in prop::option::of(any::<u32>()),
        ) {
            let header = AdditionalHeader { extended_cdb: cdb.as_deref(), bidirectional_read_length: length };
            let list = header.encode();
            prop_assert_eq!(list.len() % 4, 0);
            prop_assert_eq!(decode(&list), Ok(header));
        }
    }
}
