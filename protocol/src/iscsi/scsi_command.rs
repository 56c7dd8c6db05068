//! SCSI Command (RFC 7143 11.3): a CDB with the length the initiator expects to move.

use super::field::{self, FINAL, bit, put_u32, u32_at};
use super::{Bhs, CmdSn, DecodeError, Lun, Opcode, StatSn};

/// Bytes of the CDB that have their place in the header (11.3.5); the rest is in an Extended CDB AHS.
pub const CDB_BYTES: usize = 16;

const READ: u8 = 0x40;
const WRITE: u8 = 0x20;
const ATTRIBUTE_MASK: u8 = 0x07;

/// Task attribute (11.3.1, SAM-5 8.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum TaskAttribute {
    /// Untagged; treated as SIMPLE.
    Untagged = 0,
    /// SIMPLE.
    #[default]
    Simple = 1,
    /// ORDERED.
    Ordered = 2,
    /// HEAD OF QUEUE.
    HeadOfQueue = 3,
    /// ACA.
    Aca = 4,
}

/// SCSI Command; sent by initiators.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScsiCommand {
    /// I: for immediate delivery.
    pub immediate: bool,
    /// F: no unsolicited Data-Out follows.
    pub final_bit: bool,
    /// R: data is expected to travel to the initiator.
    pub read: bool,
    /// W: data is expected to travel to the target.
    pub write: bool,
    /// ATTR.
    pub attribute: TaskAttribute,
    /// TotalAHSLength, in 4-byte words.
    pub total_ahs_length: u8,
    /// DataSegmentLength: immediate data, in bytes.
    pub data_segment_length: u32,
    /// Logical unit.
    pub lun: Lun,
    /// Identifies the task within its session; never [`super::RESERVED_TAG`].
    pub initiator_task_tag: u32,
    /// Expected Data Transfer Length, in bytes; of the write if both directions are set (11.3.4).
    pub expected_data_transfer_length: u32,
    /// Command sequence number.
    pub cmd_sn: CmdSn,
    /// Acknowledges responses before it.
    pub exp_stat_sn: StatSn,
    /// The first 16 bytes of the CDB.
    pub cdb: [u8; CDB_BYTES],
}

impl ScsiCommand {
    /// The opcode of this PDU.
    pub const OPCODE: Opcode = Opcode::ScsiCommand;

    /// Reads a header.
    pub fn decode(bhs: &Bhs) -> Result<Self, DecodeError> {
        field::expect_opcode(bhs, Self::OPCODE)?;
        let attribute = match bhs[1] & ATTRIBUTE_MASK {
            0 => TaskAttribute::Untagged,
            1 => TaskAttribute::Simple,
            2 => TaskAttribute::Ordered,
            3 => TaskAttribute::HeadOfQueue,
            4 => TaskAttribute::Aca,
            value => return Err(DecodeError::ReservedValue { field: "ATTR", value, section: "11.3.1" }),
        };
        let final_bit = field::is_final(bhs);
        let read = bhs[1] & READ != 0;
        let write = bhs[1] & WRITE != 0;
        let expected_data_transfer_length = u32_at(bhs, 20);
        // 11.3.1: "At least one of the W and F bits MUST be set to 1."
        if !write && !final_bit {
            return Err(inconsistent("at least one of the W and F bits must be set"));
        }
        // 11.3.1: R and W "MUST NOT both be 0 when the Expected Data Transfer Length [is] not 0".
        if !read && !write && expected_data_transfer_length != 0 {
            return Err(inconsistent("a transfer is expected but neither R nor W is set"));
        }
        let mut cdb = [0; CDB_BYTES];
        cdb.copy_from_slice(&bhs[32..48]);
        Ok(Self {
            immediate: field::is_immediate(bhs),
            final_bit,
            read,
            write,
            attribute,
            total_ahs_length: bhs[4],
            data_segment_length: field::data_segment_length(bhs),
            lun: field::lun(bhs),
            initiator_task_tag: u32_at(bhs, 16),
            expected_data_transfer_length,
            cmd_sn: CmdSn(u32_at(bhs, 24)),
            exp_stat_sn: StatSn(u32_at(bhs, 28)),
            cdb,
        })
    }

    /// Writes the header.
    #[must_use]
    pub fn encode(&self) -> Bhs {
        let flags = bit(self.final_bit, FINAL) | bit(self.read, READ) | bit(self.write, WRITE);
        let mut bhs = field::start(Self::OPCODE, self.immediate, flags | self.attribute as u8);
        bhs[4] = self.total_ahs_length;
        field::put_data_segment_length(&mut bhs, self.data_segment_length);
        field::put_lun(&mut bhs, &self.lun);
        put_u32(&mut bhs, 16, self.initiator_task_tag);
        put_u32(&mut bhs, 20, self.expected_data_transfer_length);
        put_u32(&mut bhs, 24, self.cmd_sn.0);
        put_u32(&mut bhs, 28, self.exp_stat_sn.0);
        bhs[32..48].copy_from_slice(&self.cdb);
        bhs
    }
}

const fn inconsistent(rule: &'static str) -> DecodeError {
    DecodeError::Inconsistent { rule, section: "11.3.1" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::testing::pdu_properties;

    pdu_properties!(ScsiCommand);

    /// The READ(10) of RFC 7143 A.4.
    const READ_10: Bhs = [
        0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0x14, 0, 0,
        0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0,
    ];

    #[test]
    fn the_standards_read_10_is_understood() {
        let command = ScsiCommand::decode(&READ_10).unwrap();
        assert!(command.final_bit && command.read && !command.write && !command.immediate);
        assert_eq!(command.attribute, TaskAttribute::Untagged);
        assert_eq!(command.initiator_task_tag, 0x1400_0000);
        assert_eq!(command.expected_data_transfer_length, 1024);
        assert_eq!((command.cmd_sn, command.exp_stat_sn), (CmdSn(0x14), StatSn(0x18)));
        assert_eq!(command.cdb[..10], [0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
        assert_eq!(command.encode(), READ_10);
    }

    #[test]
    fn contradicting_flags_and_reserved_attributes_are_refused() {
        for (flags, length, refused) in [
            (0x80, 0, false),
            (0x20, 512, false),
            (0xe0, 512, false),
            (0x40, 512, true),
            (0x00, 0, true),
            (0x80, 1, true),
            (0xc5, 0, true),
            (0xc7, 0, true),
        ] {
            let mut bhs = READ_10;
            bhs[1] = flags;
            put_u32(&mut bhs, 20, length);
            assert_eq!(ScsiCommand::decode(&bhs).is_err(), refused, "flags {flags:#x}, length {length}");
        }
    }
}
