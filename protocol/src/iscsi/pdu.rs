//! All PDUs of one direction as one type.

use super::{
    AsyncMessage, Bhs, DataIn, DataOut, DecodeError, LoginRequest, LoginResponse, LogoutRequest,
    LogoutResponse, NopIn, NopOut, Opcode, ReadyToTransfer, Reject, ScsiCommand, ScsiResponse, Snack,
    TaskManagementRequest, TaskManagementResponse, TextRequest, TextResponse,
};

macro_rules! direction {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name {
            $($(#[$variant_doc])* $variant($variant),)*
        }

        impl $name {
            /// Reads a header of this direction; every other opcode is [`DecodeError::UnknownOpcode`].
            pub fn decode(bhs: &Bhs) -> Result<Self, DecodeError> {
                match Opcode::of(bhs) {
                    $(Some($variant::OPCODE) => $variant::decode(bhs).map(Self::$variant),)*
                    _ => Err(DecodeError::UnknownOpcode(Opcode::value_of(bhs))),
                }
            }

            /// Writes the header.
            #[must_use]
            pub fn encode(&self) -> Bhs {
                match self {
                    $(Self::$variant(pdu) => pdu.encode(),)*
                }
            }

            /// The opcode.
            #[must_use]
            pub const fn opcode(&self) -> Opcode {
                match self {
                    $(Self::$variant(_) => $variant::OPCODE,)*
                }
            }
        }

        $(impl From<$variant> for $name {
            fn from(pdu: $variant) -> Self {
                Self::$variant(pdu)
            }
        })*
    };
}

direction! {
    /// A PDU an initiator sends: what a target decodes.
    InitiatorPdu {
        /// NOP-Out.
        NopOut,
        /// SCSI Command.
        ScsiCommand,
        /// Task Management Function Request.
        TaskManagementRequest,
        /// Login Request.
        LoginRequest,
        /// Text Request.
        TextRequest,
        /// SCSI Data-Out.
        DataOut,
        /// Logout Request.
        LogoutRequest,
        /// SNACK Request.
        Snack,
    }
}

direction! {
    /// A PDU a target sends: what an initiator decodes.
    TargetPdu {
        /// NOP-In.
        NopIn,
        /// SCSI Response.
        ScsiResponse,
        /// Task Management Function Response.
        TaskManagementResponse,
        /// Login Response.
        LoginResponse,
        /// Text Response.
        TextResponse,
        /// SCSI Data-In.
        DataIn,
        /// Logout Response.
        LogoutResponse,
        /// Ready To Transfer.
        ReadyToTransfer,
        /// Asynchronous Message.
        AsyncMessage,
        /// Reject.
        Reject,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_opcode_belongs_to_exactly_one_direction() {
        for value in 0..=0x3f_u8 {
            let mut bhs = [0; 48];
            bhs[0] = value;
            let unknown = |error: Option<DecodeError>| error == Some(DecodeError::UnknownOpcode(value));
            let (initiator, target) = (InitiatorPdu::decode(&bhs), TargetPdu::decode(&bhs));
            let known = Opcode::from_value(value);
            assert_eq!(unknown(initiator.err()), !known.is_some_and(Opcode::is_from_initiator), "{value:#x}");
            assert_eq!(unknown(target.err()), known.is_none_or(Opcode::is_from_initiator), "{value:#x}");
        }
    }

    proptest! {
        #[test]
        fn no_header_brings_a_decoder_down(bhs: [u8; 48]) {
            if let Ok(pdu) = InitiatorPdu::decode(&bhs) {
                prop_assert_eq!(Some(pdu.opcode()), Opcode::of(&bhs));
                prop_assert_eq!(InitiatorPdu::decode(&pdu.encode()), Ok(pdu));
            }
            if let Ok(pdu) = TargetPdu::decode(&bhs) {
                prop_assert_eq!(Some(pdu.opcode()), Opcode::of(&bhs));
                prop_assert_eq!(TargetPdu::decode(&pdu.encode()), Ok(pdu));
            }
        }
    }
}
