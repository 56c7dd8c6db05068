//! Task Management Function Request (RFC 7143 11.5).

use super::field::{self, FINAL, put_u32, u32_at};
use super::{Bhs, CmdSn, DecodeError, Lun, Opcode, StatSn};

/// The bits of byte 1 that hold the function.
const FUNCTION_MASK: u8 = 0x7f;

/// What is asked for (11.5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskManagementFunction {
    /// ABORT TASK: the task of the Referenced Task Tag.
    AbortTask,
    /// ABORT TASK SET: all tasks of this session on the logical unit.
    AbortTaskSet,
    /// CLEAR ACA.
    ClearAca,
    /// CLEAR TASK SET: all tasks of the task set.
    ClearTaskSet,
    /// LOGICAL UNIT RESET.
    LogicalUnitReset,
    /// TARGET WARM RESET.
    TargetWarmReset,
    /// TARGET COLD RESET: also closes all connections.
    TargetColdReset,
    /// TASK REASSIGN: gives the task to this connection.
    TaskReassign,
    /// Assigned elsewhere (RFC 7144: 9 to 12) or not at all; answered with "function not supported".
    Other(u8),
}

impl TaskManagementFunction {
    /// The value of the Function field.
    #[must_use]
    pub const fn value(self) -> u8 {
        match self {
            Self::AbortTask => 1,
            Self::AbortTaskSet => 2,
            Self::ClearAca => 3,
            Self::ClearTaskSet => 4,
            Self::LogicalUnitReset => 5,
            Self::TargetWarmReset => 6,
            Self::TargetColdReset => 7,
            Self::TaskReassign => 8,
            Self::Other(value) => value & FUNCTION_MASK,
        }
    }

    const fn from_value(value: u8) -> Self {
        match value {
            1 => Self::AbortTask,
            2 => Self::AbortTaskSet,
            3 => Self::ClearAca,
            4 => Self::ClearTaskSet,
            5 => Self::LogicalUnitReset,
            6 => Self::TargetWarmReset,
            7 => Self::TargetColdReset,
            8 => Self::TaskReassign,
            other => Self::Other(other),
        }
    }
}

/// Task Management Function Request; sent by initiators.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskManagementRequest {
    /// I: for immediate delivery.
    pub immediate: bool,
    /// What is asked for.
    pub function: TaskManagementFunction,
    /// Logical unit, of those functions that work on one (11.5.3).
    pub lun: Lun,
    /// Identifies this request itself.
    pub initiator_task_tag: u32,
    /// The task to abort or to reassign, else [`super::RESERVED_TAG`] (11.5.4).
    pub referenced_task_tag: u32,
    /// Command sequence number.
    pub cmd_sn: CmdSn,
    /// Acknowledges responses before it.
    pub exp_stat_sn: StatSn,
    /// CmdSN of the task to abort (11.5.5).
    pub ref_cmd_sn: CmdSn,
    /// First DataSN not acknowledged; of TASK REASSIGN (11.5.6).
    pub exp_data_sn: u32,
}

impl TaskManagementRequest {
    /// The opcode of this PDU.
    pub const OPCODE: Opcode = Opcode::TaskManagementRequest;

    /// Reads a header.
    pub fn decode(bhs: &Bhs) -> Result<Self, DecodeError> {
        field::expect_opcode(bhs, Self::OPCODE)?;
        field::expect_no_ahs(bhs)?;
        field::expect_no_data(bhs)?;
        Ok(Self {
            immediate: field::is_immediate(bhs),
            function: TaskManagementFunction::from_value(bhs[1] & FUNCTION_MASK),
            lun: field::lun(bhs),
            initiator_task_tag: u32_at(bhs, 16),
            referenced_task_tag: u32_at(bhs, 20),
            cmd_sn: CmdSn(u32_at(bhs, 24)),
            exp_stat_sn: StatSn(u32_at(bhs, 28)),
            ref_cmd_sn: CmdSn(u32_at(bhs, 32)),
            exp_data_sn: u32_at(bhs, 36),
        })
    }

    /// Writes the header.
    #[must_use]
    pub fn encode(&self) -> Bhs {
        let mut bhs = field::start(Self::OPCODE, self.immediate, FINAL | self.function.value());
        field::put_lun(&mut bhs, &self.lun);
        put_u32(&mut bhs, 16, self.initiator_task_tag);
        put_u32(&mut bhs, 20, self.referenced_task_tag);
        put_u32(&mut bhs, 24, self.cmd_sn.0);
        put_u32(&mut bhs, 28, self.exp_stat_sn.0);
        put_u32(&mut bhs, 32, self.ref_cmd_sn.0);
        put_u32(&mut bhs, 36, self.exp_data_sn);
        bhs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::RESERVED_TAG;
    use crate::iscsi::testing::pdu_properties;

    pdu_properties!(TaskManagementRequest);

    #[test]
    fn every_function_keeps_its_value() {
        for value in 0..=FUNCTION_MASK {
            assert_eq!(TaskManagementFunction::from_value(value).value(), value);
        }
        assert_eq!(TaskManagementFunction::from_value(9), TaskManagementFunction::Other(9));
    }

    #[test]
    fn a_lun_reset_has_its_fields_where_the_standard_says() {
        let request = TaskManagementRequest {
            immediate: true,
            function: TaskManagementFunction::LogicalUnitReset,
            lun: [0, 3, 0, 0, 0, 0, 0, 0],
            initiator_task_tag: 1,
            referenced_task_tag: RESERVED_TAG,
            cmd_sn: CmdSn(2),
            exp_stat_sn: StatSn(3),
            ref_cmd_sn: CmdSn(4),
            exp_data_sn: 0,
        };
        let bhs = request.encode();
        assert_eq!(bhs[..10], [0x42, 0x85, 0, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(bhs[16..36], [0, 0, 0, 1, 255, 255, 255, 255, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]);
    }

    #[test]
    fn a_data_segment_is_refused() {
        let mut bhs = [0; 48];
        bhs[0] = 0x02;
        bhs[7] = 1;
        assert!(matches!(TaskManagementRequest::decode(&bhs), Err(DecodeError::Inconsistent { .. })));
    }
}
