//! Task Management Function Response (RFC 7143 11.6).

use super::field::{self, FINAL, put_u32, u32_at};
use super::{Bhs, CmdSn, DecodeError, Opcode, StatSn};

/// How a task management function ended (11.6.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum TaskManagementResult {
    /// Function complete.
    Complete = 0,
    /// Task does not exist.
    TaskDoesNotExist = 1,
    /// LUN does not exist.
    LunDoesNotExist = 2,
    /// Task still allegiant.
    TaskStillAllegiant = 3,
    /// Task allegiance reassignment not supported.
    ReassignmentNotSupported = 4,
    /// Task management function not supported.
    NotSupported = 5,
    /// Function authorization failed.
    AuthorizationFailed = 6,
    /// Function succeeded (RFC 7144 6.2), for the functions defined there.
    Succeeded = 7,
    /// Function rejected.
    Rejected = 255,
}

/// Task Management Function Response; sent by targets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskManagementResponse {
    /// How it ended.
    pub response: TaskManagementResult,
    /// Of the request.
    pub initiator_task_tag: u32,
    /// Status sequence number of this response.
    pub stat_sn: StatSn,
    /// Next CmdSN expected.
    pub exp_cmd_sn: CmdSn,
    /// Last CmdSN that would be taken.
    pub max_cmd_sn: CmdSn,
}

impl TaskManagementResponse {
    /// The opcode of this PDU.
    pub const OPCODE: Opcode = Opcode::TaskManagementResponse;

    /// Reads a header.
    pub fn decode(bhs: &Bhs) -> Result<Self, DecodeError> {
        use TaskManagementResult as R;
        field::expect_opcode(bhs, Self::OPCODE)?;
        field::expect_no_ahs(bhs)?;
        field::expect_no_data(bhs)?;
        let response = match bhs[2] {
            0 => R::Complete,
            1 => R::TaskDoesNotExist,
            2 => R::LunDoesNotExist,
            3 => R::TaskStillAllegiant,
            4 => R::ReassignmentNotSupported,
            5 => R::NotSupported,
            6 => R::AuthorizationFailed,
            7 => R::Succeeded,
            255 => R::Rejected,
            value => return Err(DecodeError::ReservedValue { field: "Response", value, section: "11.6.1" }),
        };
        Ok(Self {
            response,
            initiator_task_tag: u32_at(bhs, 16),
            stat_sn: StatSn(u32_at(bhs, 24)),
            exp_cmd_sn: CmdSn(u32_at(bhs, 28)),
            max_cmd_sn: CmdSn(u32_at(bhs, 32)),
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
        bhs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::testing::pdu_properties;

    pdu_properties!(TaskManagementResponse);

    #[test]
    fn a_rejected_function_has_its_fields_where_the_standard_says() {
        let response = TaskManagementResponse {
            response: TaskManagementResult::Rejected,
            initiator_task_tag: 1,
            stat_sn: StatSn(2),
            exp_cmd_sn: CmdSn(3),
            max_cmd_sn: CmdSn(4),
        };
        let bhs = response.encode();
        assert_eq!(bhs[..3], [0x22, 0x80, 0xff]);
        assert_eq!(bhs[16..36], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]);
    }

    #[test]
    fn reserved_responses_are_refused() {
        for value in 0..=255 {
            let mut bhs = [0; 48];
            bhs[0] = 0x22;
            bhs[2] = value;
            assert_eq!(TaskManagementResponse::decode(&bhs).is_ok(), value <= 7 || value == 255, "{value}");
        }
    }
}
