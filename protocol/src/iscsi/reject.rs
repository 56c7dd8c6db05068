//! Reject (RFC 7143 11.17): a PDU could not be served; its complete header comes back as data segment.

use super::field::{self, FINAL, put_u32, u32_at};
use super::{Bhs, CmdSn, DecodeError, Opcode, RESERVED_TAG, StatSn};

/// Why (11.17.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RejectReason {
    /// Data (payload) digest error.
    DataDigestError = 0x02,
    /// SNACK Reject.
    SnackReject = 0x03,
    /// Protocol Error.
    ProtocolError = 0x04,
    /// Command not supported.
    CommandNotSupported = 0x05,
    /// Immediate command reject: too many immediate commands.
    TooManyImmediateCommands = 0x06,
    /// Task in progress.
    TaskInProgress = 0x07,
    /// Invalid data ack.
    InvalidDataAck = 0x08,
    /// Invalid PDU field.
    InvalidPduField = 0x09,
    /// Long op reject: no Target Transfer Tag, out of resources.
    LongOperationReject = 0x0a,
    /// Waiting for Logout.
    WaitingForLogout = 0x0c,
}

impl RejectReason {
    const ALL: [Self; 10] = [
        Self::DataDigestError,
        Self::SnackReject,
        Self::ProtocolError,
        Self::CommandNotSupported,
        Self::TooManyImmediateCommands,
        Self::TaskInProgress,
        Self::InvalidDataAck,
        Self::InvalidPduField,
        Self::LongOperationReject,
        Self::WaitingForLogout,
    ];
}

/// Reject; sent by targets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reject {
    /// Why.
    pub reason: RejectReason,
    /// DataSegmentLength, in bytes: the header of the PDU in error, AHS included, digest not (11.17.4).
    pub data_segment_length: u32,
    /// Status sequence number of this PDU.
    pub stat_sn: StatSn,
    /// Next CmdSN expected.
    pub exp_cmd_sn: CmdSn,
    /// Last CmdSN that would be taken.
    pub max_cmd_sn: CmdSn,
    /// Of a rejected Data/R2T SNACK, the next DataSN or R2TSN of the task (11.17.2).
    pub data_sn: u32,
}

impl Reject {
    /// The opcode of this PDU.
    pub const OPCODE: Opcode = Opcode::Reject;

    /// Reads a header.
    pub fn decode(bhs: &Bhs) -> Result<Self, DecodeError> {
        field::expect_opcode(bhs, Self::OPCODE)?;
        field::expect_no_ahs(bhs)?;
        let value = bhs[2];
        let reason = RejectReason::ALL.into_iter().find(|reason| *reason as u8 == value);
        Ok(Self {
            reason: reason.ok_or(DecodeError::ReservedValue {
                field: "Reason",
                value,
                section: "11.17.1",
            })?,
            data_segment_length: field::data_segment_length(bhs),
            stat_sn: StatSn(u32_at(bhs, 24)),
            exp_cmd_sn: CmdSn(u32_at(bhs, 28)),
            max_cmd_sn: CmdSn(u32_at(bhs, 32)),
            data_sn: u32_at(bhs, 36),
        })
    }

    /// Writes the header.
    #[must_use]
    pub const fn encode(&self) -> Bhs {
        let mut bhs = field::start(Self::OPCODE, false, FINAL);
        bhs[2] = self.reason as u8;
        field::put_data_segment_length(&mut bhs, self.data_segment_length);
        put_u32(&mut bhs, 16, RESERVED_TAG);
        put_u32(&mut bhs, 24, self.stat_sn.0);
        put_u32(&mut bhs, 28, self.exp_cmd_sn.0);
        put_u32(&mut bhs, 32, self.max_cmd_sn.0);
        put_u32(&mut bhs, 36, self.data_sn);
        bhs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::testing::pdu_properties;

    pdu_properties!(Reject);

    #[test]
    fn the_fields_are_where_the_standard_says() {
        let reject = Reject {
            reason: RejectReason::CommandNotSupported,
            data_segment_length: 48,
            stat_sn: StatSn(1),
            exp_cmd_sn: CmdSn(2),
            max_cmd_sn: CmdSn(3),
            data_sn: 4,
        };
        let bhs = reject.encode();
        assert_eq!(bhs[..8], [0x3f, 0x80, 5, 0, 0, 0, 0, 48]);
        assert_eq!(bhs[16..24], [255, 255, 255, 255, 0, 0, 0, 0]);
        assert_eq!(bhs[24..40], [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]);
    }

    #[test]
    fn reserved_and_deprecated_reasons_are_refused() {
        for value in 0..=255_u8 {
            let mut bhs = [0; 48];
            bhs[0] = 0x3f;
            bhs[2] = value;
            let known = (2..=0x0c).contains(&value) && value != 0x0b;
            assert_eq!(Reject::decode(&bhs).is_ok(), known, "{value:#x}");
        }
    }
}
