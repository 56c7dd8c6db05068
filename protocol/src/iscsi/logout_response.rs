//! Logout Response (RFC 7143 11.15).

use super::field::{self, FINAL, put_u16, put_u32, u16_at, u32_at};
use super::{Bhs, CmdSn, DecodeError, Opcode, StatSn};

/// How the cleanup ended (11.15.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum LogoutResult {
    /// Connection or session closed successfully.
    Closed = 0,
    /// CID not found.
    CidNotFound = 1,
    /// Connection recovery is not supported.
    RecoveryNotSupported = 2,
    /// Cleanup failed for various reasons.
    CleanupFailed = 3,
}

/// Logout Response; sent by targets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogoutResponse {
    /// How it ended.
    pub response: LogoutResult,
    /// Of the request.
    pub initiator_task_tag: u32,
    /// Status sequence number of this response.
    pub stat_sn: StatSn,
    /// Next CmdSN expected.
    pub exp_cmd_sn: CmdSn,
    /// Last CmdSN that would be taken.
    pub max_cmd_sn: CmdSn,
    /// Not to come back before, in seconds (11.15.3).
    pub time_2_wait: u16,
    /// Not to come back later than this after the wait, in seconds (11.15.4).
    pub time_2_retain: u16,
}

impl LogoutResponse {
    /// The opcode of this PDU.
    pub const OPCODE: Opcode = Opcode::LogoutResponse;

    /// Reads a header.
    pub fn decode(bhs: &Bhs) -> Result<Self, DecodeError> {
        field::expect_opcode(bhs, Self::OPCODE)?;
        field::expect_no_ahs(bhs)?;
        field::expect_no_data(bhs)?;
        let response = match bhs[2] {
            0 => LogoutResult::Closed,
            1 => LogoutResult::CidNotFound,
            2 => LogoutResult::RecoveryNotSupported,
            3 => LogoutResult::CleanupFailed,
            value => return Err(DecodeError::ReservedValue { field: "Response", value, section: "11.15.1" }),
        };
        Ok(Self {
            response,
            initiator_task_tag: u32_at(bhs, 16),
            stat_sn: StatSn(u32_at(bhs, 24)),
            exp_cmd_sn: CmdSn(u32_at(bhs, 28)),
            max_cmd_sn: CmdSn(u32_at(bhs, 32)),
            time_2_wait: u16_at(bhs, 40),
            time_2_retain: u16_at(bhs, 42),
        })
    }

    /// Writes the header.
    #[must_use]
    pub const fn encode(&self) -> Bhs {
        let mut bhs = field::start(Self::OPCODE, false, FINAL);
        bhs[2] = self.response as u8;
        put_u32(&mut bhs, 16, self.initiator_task_tag);
        put_u32(&mut bhs, 24, self.stat_sn.0);
        put_u32(&mut bhs, 28, self.exp_cmd_sn.0);
        put_u32(&mut bhs, 32, self.max_cmd_sn.0);
        put_u16(&mut bhs, 40, self.time_2_wait);
        put_u16(&mut bhs, 42, self.time_2_retain);
        bhs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::testing::pdu_properties;

    pdu_properties!(LogoutResponse);

    #[test]
    fn the_fields_are_where_the_standard_says() {
        let response = LogoutResponse {
            response: LogoutResult::CidNotFound,
            initiator_task_tag: 1,
            stat_sn: StatSn(2),
            exp_cmd_sn: CmdSn(3),
            max_cmd_sn: CmdSn(4),
            time_2_wait: 5,
            time_2_retain: 6,
        };
        let bhs = response.encode();
        assert_eq!(bhs[..3], [0x26, 0x80, 1]);
        assert_eq!(bhs[16..36], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]);
        assert_eq!(bhs[36..], [0, 0, 0, 0, 0, 5, 0, 6, 0, 0, 0, 0]);
    }

    #[test]
    fn reserved_responses_are_refused() {
        let mut bhs = [0; 48];
        bhs[0] = 0x26;
        bhs[2] = 4;
        assert!(matches!(LogoutResponse::decode(&bhs), Err(DecodeError::ReservedValue { .. })));
    }
}
