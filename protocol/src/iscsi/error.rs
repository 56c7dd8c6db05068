//! Why a header could not be decoded, and what a target makes of it.

use super::reject::RejectReason;

/// A header that is no PDU of RFC 7143 section 11.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// The opcode is not assigned, not supported, or belongs to the other direction (11.2.1.2).
    #[error("opcode {0:#04x} is not one the other side may send")]
    UnknownOpcode(u8),
    /// A defined field holds a reserved value (11: "MUST be reported as a protocol error").
    #[error("{field} holds the reserved value {value:#x} (RFC 7143 {section})")]
    ReservedValue {
        /// The field, as the standard names it.
        field: &'static str,
        /// What it held.
        value: u8,
        /// Where its values are listed.
        section: &'static str,
    },
    /// Two fields contradict each other, or a length that must be 0 is not.
    #[error("{rule} (RFC 7143 {section})")]
    Inconsistent {
        /// The rule that is broken.
        rule: &'static str,
        /// Where it stands.
        section: &'static str,
    },
}

impl DecodeError {
    /// The reason of the Reject that answers the PDU (11.17.1); its data segment is the complete header.
    #[must_use]
    pub const fn reject_reason(&self) -> RejectReason {
        match self {
            Self::UnknownOpcode(_) => RejectReason::CommandNotSupported,
            Self::ReservedValue { .. } => RejectReason::ProtocolError,
            Self::Inconsistent { .. } => RejectReason::InvalidPduField,
        }
    }

    /// True if the PDU is a format error, after which a target closes the session's connections (7.7): every
    /// error but that of the opcode.
    #[must_use]
    pub const fn is_format_error(&self) -> bool {
        !matches!(self, Self::UnknownOpcode(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_opcode_is_answered_and_the_session_goes_on() {
        let error = DecodeError::UnknownOpcode(0x1c);
        assert_eq!(error.reject_reason(), RejectReason::CommandNotSupported);
        assert!(!error.is_format_error());
        assert_eq!(error.to_string(), "opcode 0x1c is not one the other side may send");
    }

    #[test]
    fn reserved_values_and_contradictions_are_format_errors() {
        let reserved = DecodeError::ReservedValue { field: "Type", value: 9, section: "11.16.1" };
        let inconsistent = DecodeError::Inconsistent { rule: "C=1 needs F=0", section: "11.10.2" };
        assert!(reserved.is_format_error() && inconsistent.is_format_error());
        assert_eq!(reserved.reject_reason(), RejectReason::ProtocolError);
        assert_eq!(inconsistent.reject_reason(), RejectReason::InvalidPduField);
    }
}
