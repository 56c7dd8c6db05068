//! Ready To Transfer (RFC 7143 11.8): the target asks for a part of a write's data.

use super::field::{self, FINAL, put_u32, u32_at};
use super::{Bhs, CmdSn, DecodeError, Lun, Opcode, RESERVED_TAG, StatSn};

/// Ready To Transfer; sent by targets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadyToTransfer {
    /// Logical unit; copied into the Data-Out PDUs.
    pub lun: Lun,
    /// The task.
    pub initiator_task_tag: u32,
    /// Copied into the Data-Out PDUs; never [`RESERVED_TAG`] (11.8.5).
    pub target_transfer_tag: u32,
    /// The next StatSN; not advanced by this PDU (11.8.3).
    pub stat_sn: StatSn,
    /// Next CmdSN expected.
    pub exp_cmd_sn: CmdSn,
    /// Last CmdSN that would be taken.
    pub max_cmd_sn: CmdSn,
    /// Number of this R2T within the command, Data-Ins included (11.8.2).
    pub r2t_sn: u32,
    /// Where the wanted data begins in the complete transfer, in bytes.
    pub buffer_offset: u32,
    /// How much is wanted, in bytes; not 0, at most MaxBurstLength (11.8.4).
    pub desired_data_transfer_length: u32,
}

impl ReadyToTransfer {
    /// The opcode of this PDU.
    pub const OPCODE: Opcode = Opcode::ReadyToTransfer;

    /// Reads a header.
    pub fn decode(bhs: &Bhs) -> Result<Self, DecodeError> {
        field::expect_opcode(bhs, Self::OPCODE)?;
        field::expect_no_ahs(bhs)?;
        field::expect_no_data(bhs)?;
        let target_transfer_tag = u32_at(bhs, 20);
        if target_transfer_tag == RESERVED_TAG {
            let rule = "the Target Transfer Tag of an R2T must not be ffffffffh";
            return Err(DecodeError::Inconsistent { rule, section: "11.8.5" });
        }
        let desired_data_transfer_length = u32_at(bhs, 44);
        if desired_data_transfer_length == 0 {
            let rule = "the Desired Data Transfer Length must not be 0";
            return Err(DecodeError::Inconsistent { rule, section: "11.8.4" });
        }
        Ok(Self {
            lun: field::lun(bhs),
            initiator_task_tag: u32_at(bhs, 16),
            target_transfer_tag,
            stat_sn: StatSn(u32_at(bhs, 24)),
            exp_cmd_sn: CmdSn(u32_at(bhs, 28)),
            max_cmd_sn: CmdSn(u32_at(bhs, 32)),
            r2t_sn: u32_at(bhs, 36),
            buffer_offset: u32_at(bhs, 40),
            desired_data_transfer_length,
        })
    }

    /// Writes the header.
    #[must_use]
    pub fn encode(&self) -> Bhs {
        debug_assert_ne!(self.target_transfer_tag, RESERVED_TAG, "an R2T has a tag (11.8.5)");
        debug_assert_ne!(self.desired_data_transfer_length, 0, "an R2T asks for something (11.8.4)");
        let mut bhs = field::start(Self::OPCODE, false, FINAL);
        field::put_lun(&mut bhs, &self.lun);
        put_u32(&mut bhs, 16, self.initiator_task_tag);
        put_u32(&mut bhs, 20, self.target_transfer_tag);
        put_u32(&mut bhs, 24, self.stat_sn.0);
        put_u32(&mut bhs, 28, self.exp_cmd_sn.0);
        put_u32(&mut bhs, 32, self.max_cmd_sn.0);
        put_u32(&mut bhs, 36, self.r2t_sn);
        put_u32(&mut bhs, 40, self.buffer_offset);
        put_u32(&mut bhs, 44, self.desired_data_transfer_length);
        bhs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::testing::pdu_properties;

    pdu_properties!(ReadyToTransfer);

    const R2T: ReadyToTransfer = ReadyToTransfer {
        lun: [0, 1, 0, 0, 0, 0, 0, 0],
        initiator_task_tag: 2,
        target_transfer_tag: 3,
        stat_sn: StatSn(4),
        exp_cmd_sn: CmdSn(5),
        max_cmd_sn: CmdSn(6),
        r2t_sn: 7,
        buffer_offset: 8,
        desired_data_transfer_length: 9,
    };

    #[test]
    fn the_fields_are_where_the_standard_says() {
        let bhs = R2T.encode();
        assert_eq!(bhs[..16], [0x31, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        let words = bhs[16..].chunks(4).map(|word| word[3]).collect::<Vec<_>>();
        assert_eq!(words, [2, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn no_tag_and_no_length_are_refused() {
        for (at, wrong) in [(20, RESERVED_TAG), (44, 0)] {
            let mut bhs = R2T.encode();
            put_u32(&mut bhs, at, wrong);
            assert!(matches!(ReadyToTransfer::decode(&bhs), Err(DecodeError::Inconsistent { .. })));
        }
    }
}
