//! What the tests of every PDU share.

use proptest::prelude::*;

use super::{Bhs, Opcode};

/// Random headers of one type: many decode, because lengths are mostly 0 and byte 1 often has few bits.
pub(super) fn headers(opcode: Opcode) -> impl Strategy<Value = Bhs> {
    (any::<Bhs>(), 0_u8..4, prop::option::of(0_u8..12), prop::option::of(0_u8..12)).prop_map(
        move |(mut bhs, lengths, byte2, byte36)| {
            bhs[0] = bhs[0] & 0xc0 | opcode as u8;
            if lengths > 0 {
                bhs[4] = 0;
            }
            if lengths > 1 {
                bhs[5..8].fill(0);
            }
            bhs[2] = byte2.unwrap_or(bhs[2]);
            bhs[36] = byte36.unwrap_or(bhs[36]);
            bhs
        },
    )
}

/// Properties that hold for every PDU: no header brings the decoder down, and a header that decodes is encoded
/// to one that decodes to the same.
macro_rules! pdu_properties {
    ($pdu:ident) => {
        proptest::proptest! {
            #[test]
            fn no_header_brings_the_decoder_down(bhs: [u8; 48]) {
                let _ = $pdu::decode(&bhs);
            }

            #[test]
            fn what_is_encoded_decodes_to_the_same(
                bhs in crate::iscsi::testing::headers($pdu::OPCODE),
            ) {
                if let Ok(pdu) = $pdu::decode(&bhs) {
                    let encoded = pdu.encode();
                    proptest::prop_assert_eq!($pdu::decode(&encoded), Ok(pdu));
                    proptest::prop_assert_eq!(&encoded[5..8], &bhs[5..8]);
                }
            }
        }

        #[test]
        fn a_header_of_another_type_is_refused() {
            let other = crate::iscsi::Opcode::ALL.into_iter().find(|opcode| *opcode != $pdu::OPCODE).unwrap();
            let mut bhs = [0; 48];
            bhs[0] = other as u8;
            assert_eq!($pdu::decode(&bhs), Err(crate::iscsi::DecodeError::UnknownOpcode(other as u8)));
        }
    };
}
pub(super) use pdu_properties;
