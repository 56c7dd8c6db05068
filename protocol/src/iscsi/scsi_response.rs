//! SCSI Response (RFC 7143 11.4): the status of a command, its residuals, and its sense data as data segment.

use super::field::{self, FINAL, put_u32, u32_at};
use super::{Bhs, CmdSn, DecodeError, Opcode, Residual, StatSn};

const BIDIRECTIONAL_OVERFLOW: u8 = 0x10;
const BIDIRECTIONAL_UNDERFLOW: u8 = 0x08;
const OVERFLOW: u8 = 0x04;
const UNDERFLOW: u8 = 0x02;

/// The iSCSI service response (11.4.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ServiceResponse {
    /// Command Completed at Target: the status is valid.
    #[default]
    CompletedAtTarget,
    /// Target Failure: the status is undefined.
    TargetFailure,
    /// A vendor-specific failure, 80h to FFh.
    Vendor(u8),
}

impl ServiceResponse {
    const fn value(self) -> u8 {
        match self {
            Self::CompletedAtTarget => 0,
            Self::TargetFailure => 1,
            Self::Vendor(value) => value | 0x80,
        }
    }

    const fn from_value(value: u8) -> Result<Self, DecodeError> {
        match value {
            0 => Ok(Self::CompletedAtTarget),
            1 => Ok(Self::TargetFailure),
            0x80.. => Ok(Self::Vendor(value)),
            value => Err(DecodeError::ReservedValue { field: "Response", value, section: "11.4.3" }),
        }
    }
}

/// SCSI Response; sent by targets. Its data segment, if any, is that of [`super::sense_segment`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScsiResponse {
    /// Service response.
    pub response: ServiceResponse,
    /// SCSI status (SAM-5 5.3.1); valid if the command completed at the target.
    pub status: u8,
    /// Residual of the command; of the write if it is bidirectional.
    pub residual: Residual,
    /// Residual of the read of a bidirectional command.
    pub bidirectional_read_residual: Residual,
    /// DataSegmentLength, in bytes.
    pub data_segment_length: u32,
    /// The task this ends.
    pub initiator_task_tag: u32,
    /// SNACK Tag of the last R-Data SNACK for the command, else 0 (11.4.4).
    pub snack_tag: u32,
    /// Status sequence number of this response.
    pub stat_sn: StatSn,
    /// Next CmdSN expected.
    pub exp_cmd_sn: CmdSn,
    /// Last CmdSN that would be taken.
    pub max_cmd_sn: CmdSn,
    /// How many Data-In PDUs the target has sent for the command (11.4.8), R2Ts included (4.2.2.4).
    pub exp_data_sn: u32,
}

impl ScsiResponse {
    /// The opcode of this PDU.
    pub const OPCODE: Opcode = Opcode::ScsiResponse;

    /// Reads a header.
    pub fn decode(bhs: &Bhs) -> Result<Self, DecodeError> {
        field::expect_opcode(bhs, Self::OPCODE)?;
        field::expect_no_ahs(bhs)?;
        let set = |mask| bhs[1] & mask != 0;
        let residual = Residual::from_bits(set(OVERFLOW), set(UNDERFLOW), u32_at(bhs, 44));
        let read_residual =
            Residual::from_bits(set(BIDIRECTIONAL_OVERFLOW), set(BIDIRECTIONAL_UNDERFLOW), u32_at(bhs, 40));
        let (Some(residual), Some(bidirectional_read_residual)) = (residual, read_residual) else {
            let rule = "overflow and underflow are mutually exclusive";
            return Err(DecodeError::Inconsistent { rule, section: "11.4.1" });
        };
        Ok(Self {
            response: ServiceResponse::from_value(bhs[2])?,
            status: bhs[3],
            residual,
            bidirectional_read_residual,
            data_segment_length: field::data_segment_length(bhs),
            initiator_task_tag: u32_at(bhs, 16),
            snack_tag: u32_at(bhs, 20),
            stat_sn: StatSn(u32_at(bhs, 24)),
            exp_cmd_sn: CmdSn(u32_at(bhs, 28)),
            max_cmd_sn: CmdSn(u32_at(bhs, 32)),
            exp_data_sn: u32_at(bhs, 36),
        })
    }

    /// Writes the header.
    #[must_use]
    pub const fn encode(&self) -> Bhs {
        let flags = FINAL
            | self.residual.bits(OVERFLOW, UNDERFLOW)
            | self.bidirectional_read_residual.bits(BIDIRECTIONAL_OVERFLOW, BIDIRECTIONAL_UNDERFLOW);
        let mut bhs = field::start(Self::OPCODE, false, flags);
        bhs[2] = self.response.value();
        bhs[3] = self.status;
        field::put_data_segment_length(&mut bhs, self.data_segment_length);
        put_u32(&mut bhs, 16, self.initiator_task_tag);
        put_u32(&mut bhs, 20, self.snack_tag);
        put_u32(&mut bhs, 24, self.stat_sn.0);
        put_u32(&mut bhs, 28, self.exp_cmd_sn.0);
        put_u32(&mut bhs, 32, self.max_cmd_sn.0);
        put_u32(&mut bhs, 36, self.exp_data_sn);
        put_u32(&mut bhs, 40, self.bidirectional_read_residual.count());
        put_u32(&mut bhs, 44, self.residual.count());
        bhs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::testing::pdu_properties;

    pdu_properties!(ScsiResponse);

    #[test]
    fn check_condition_with_an_underflow_has_its_bits_where_the_standard_says() {
        let response = ScsiResponse {
            status: 2,
            residual: Residual::Underflow(0x200),
            data_segment_length: 20,
            initiator_task_tag: 7,
            ..ScsiResponse::default()
        };
        let bhs = response.encode();
        assert_eq!(bhs[..8], [0x21, 0x82, 0, 2, 0, 0, 0, 20]);
        assert_eq!(bhs[16..20], [0, 0, 0, 7]);
        assert_eq!(bhs[44..], [0, 0, 2, 0]);
    }

    #[test]
    fn overflow_and_underflow_at_once_and_reserved_responses_are_refused() {
        for (flags, response, refused) in [
            (0x86, 0, true),
            (0x98, 0, true),
            (0x94, 0, false),
            (0x80, 2, true),
            (0x80, 0x7f, true),
            (0x80, 0x80, false),
            (0x80, 1, false),
        ] {
            let mut bhs = ScsiResponse::default().encode();
            bhs[1] = flags;
            bhs[2] = response;
            assert_eq!(ScsiResponse::decode(&bhs).is_err(), refused, "{flags:#x} {response:#x}");
        }
    }
}
