//! The opcodes of all PDUs (RFC 7143 11.2.1.2).

use super::Bhs;

/// Type of a PDU: the low six bits of its first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// NOP-Out (11.18).
    NopOut = 0x00,
    /// SCSI Command (11.3).
    ScsiCommand = 0x01,
    /// SCSI Task Management Function Request (11.5).
    TaskManagementRequest = 0x02,
    /// Login Request (11.12).
    LoginRequest = 0x03,
    /// Text Request (11.10).
    TextRequest = 0x04,
    /// SCSI Data-Out (11.7).
    DataOut = 0x05,
    /// Logout Request (11.14).
    LogoutRequest = 0x06,
    /// SNACK Request (11.16).
    Snack = 0x10,
    /// NOP-In (11.19).
    NopIn = 0x20,
    /// SCSI Response (11.4).
    ScsiResponse = 0x21,
    /// SCSI Task Management Function Response (11.6).
    TaskManagementResponse = 0x22,
    /// Login Response (11.13).
    LoginResponse = 0x23,
    /// Text Response (11.11).
    TextResponse = 0x24,
    /// SCSI Data-In (11.7).
    DataIn = 0x25,
    /// Logout Response (11.15).
    LogoutResponse = 0x26,
    /// Ready To Transfer (11.8).
    ReadyToTransfer = 0x31,
    /// Asynchronous Message (11.9).
    AsyncMessage = 0x32,
    /// Reject (11.17).
    Reject = 0x3f,
}

/// The bits of byte 0 that hold the opcode.
const OPCODE_MASK: u8 = 0x3f;

impl Opcode {
    /// Every opcode, in the order of its value.
    pub const ALL: [Self; 18] = [
        Self::NopOut,
        Self::ScsiCommand,
        Self::TaskManagementRequest,
        Self::LoginRequest,
        Self::TextRequest,
        Self::DataOut,
        Self::LogoutRequest,
        Self::Snack,
        Self::NopIn,
        Self::ScsiResponse,
        Self::TaskManagementResponse,
        Self::LoginResponse,
        Self::TextResponse,
        Self::DataIn,
        Self::LogoutResponse,
        Self::ReadyToTransfer,
        Self::AsyncMessage,
        Self::Reject,
    ];

    /// The opcode with this value, if one is assigned; vendor-specific ones are not known.
    #[must_use]
    pub fn from_value(value: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|opcode| *opcode as u8 == value)
    }

    /// The opcode of a header, if it is known.
    #[must_use]
    pub fn of(bhs: &Bhs) -> Option<Self> {
        Self::from_value(Self::value_of(bhs))
    }

    /// The opcode bits of a header, known or not.
    #[must_use]
    pub const fn value_of(bhs: &Bhs) -> u8 {
        bhs[0] & OPCODE_MASK
    }

    /// True for the PDUs initiators send.
    #[must_use]
    pub const fn is_from_initiator(self) -> bool {
        (self as u8) < 0x20
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_opcode_is_found_by_its_value_and_no_other_value_is_one() {
        let known = (0..=0x3f).filter_map(Opcode::from_value).collect::<Vec<_>>();
        assert_eq!(known, Opcode::ALL);
    }

    #[test]
    fn the_immediate_and_the_reserved_bit_are_not_part_of_the_opcode() {
        let mut bhs = [0; 48];
        bhs[0] = 0xc1;
        assert_eq!(Opcode::of(&bhs), Some(Opcode::ScsiCommand));
    }

    #[test]
    fn initiators_send_the_opcodes_below_20h() {
        let from_initiator = Opcode::ALL.into_iter().filter(|opcode| opcode.is_from_initiator()).count();
        assert_eq!(from_initiator, 8);
        assert!(!Opcode::NopIn.is_from_initiator());
    }
}
