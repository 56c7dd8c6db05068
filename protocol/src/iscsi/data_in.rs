//! SCSI Data-In (RFC 7143 11.7): data of a read, the last one possibly with the command's status.

use super::field::{self, FINAL, bit, put_u32, u32_at};
use super::{Bhs, CmdSn, DecodeError, Lun, Opcode, Residual, StatSn};

const ACKNOWLEDGE: u8 = 0x40;
const OVERFLOW: u8 = 0x04;
const UNDERFLOW: u8 = 0x02;
const STATUS: u8 = 0x01;

/// SCSI Data-In; sent by targets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataIn {
    /// F: last PDU of a sequence of at most MaxBurstLength bytes.
    pub final_bit: bool,
    /// A: a DataACK SNACK is asked for; never at ErrorRecoveryLevel 0.
    pub acknowledge: bool,
    /// S with the Status field: the command ended with this status, which is not an exception (11.7.3).
    pub status: Option<u8>,
    /// Residual of the command; [`Residual::None`] where there is no status.
    pub residual: Residual,
    /// DataSegmentLength, in bytes.
    pub data_segment_length: u32,
    /// Valid with the A bit, else reserved.
    pub lun: Lun,
    /// The task.
    pub initiator_task_tag: u32,
    /// Valid with the A bit, else [`super::RESERVED_TAG`] (11.7.4).
    pub target_transfer_tag: u32,
    /// Status sequence number; valid with a status.
    pub stat_sn: StatSn,
    /// Next CmdSN expected.
    pub exp_cmd_sn: CmdSn,
    /// Last CmdSN that would be taken.
    pub max_cmd_sn: CmdSn,
    /// Number of this PDU within the command, R2Ts included (11.7.5).
    pub data_sn: u32,
    /// Where the data belongs in the complete transfer, in bytes.
    pub buffer_offset: u32,
}

impl DataIn {
    /// The opcode of this PDU.
    pub const OPCODE: Opcode = Opcode::DataIn;

    /// Reads a header.
    pub fn decode(bhs: &Bhs) -> Result<Self, DecodeError> {
        field::expect_opcode(bhs, Self::OPCODE)?;
        field::expect_no_ahs(bhs)?;
        let set = |mask| bhs[1] & mask != 0;
        let final_bit = field::is_final(bhs);
        let (status, residual) = if set(STATUS) {
            // 11.7.3: if S is set to 1, "the F bit MUST also be set to 1".
            if !final_bit {
                return Err(inconsistent("a PDU with status must have the F bit", "11.7.3"));
            }
            let residual = Residual::from_bits(set(OVERFLOW), set(UNDERFLOW), u32_at(bhs, 44))
                .ok_or(inconsistent("overflow and underflow are mutually exclusive", "11.4.1"))?;
            (Some(bhs[3]), residual)
        } else {
            (None, Residual::None)
        };
        Ok(Self {
            final_bit,
            acknowledge: set(ACKNOWLEDGE),
            status,
            residual,
            data_segment_length: field::data_segment_length(bhs),
            lun: field::lun(bhs),
            initiator_task_tag: u32_at(bhs, 16),
            target_transfer_tag: u32_at(bhs, 20),
            stat_sn: StatSn(u32_at(bhs, 24)),
            exp_cmd_sn: CmdSn(u32_at(bhs, 28)),
            max_cmd_sn: CmdSn(u32_at(bhs, 32)),
            data_sn: u32_at(bhs, 36),
            buffer_offset: u32_at(bhs, 40),
        })
    }

    /// Writes the header. A PDU with status always gets the F bit; a residual without status is not sent.
    #[must_use]
    pub fn encode(&self) -> Bhs {
        let mut flags = bit(self.final_bit, FINAL) | bit(self.acknowledge, ACKNOWLEDGE);
        if self.status.is_some() {
            flags |= FINAL | STATUS | self.residual.bits(OVERFLOW, UNDERFLOW);
        }
        let mut bhs = field::start(Self::OPCODE, false, flags);
        if let Some(status) = self.status {
            bhs[3] = status;
            put_u32(&mut bhs, 44, self.residual.count());
        }
        field::put_data_segment_length(&mut bhs, self.data_segment_length);
        field::put_lun(&mut bhs, &self.lun);
        put_u32(&mut bhs, 16, self.initiator_task_tag);
        put_u32(&mut bhs, 20, self.target_transfer_tag);
        put_u32(&mut bhs, 24, self.stat_sn.0);
        put_u32(&mut bhs, 28, self.exp_cmd_sn.0);
        put_u32(&mut bhs, 32, self.max_cmd_sn.0);
        put_u32(&mut bhs, 36, self.data_sn);
        put_u32(&mut bhs, 40, self.buffer_offset);
        bhs
    }
}

const fn inconsistent(rule: &'static str, section: &'static str) -> DecodeError {
    DecodeError::Inconsistent { rule, section }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::RESERVED_TAG;
    use crate::iscsi::testing::pdu_properties;

    pdu_properties!(DataIn);

    const LAST: DataIn = DataIn {
        final_bit: true,
        acknowledge: false,
        status: Some(0),
        residual: Residual::Underflow(9),
        data_segment_length: 36,
        lun: [0; 8],
        initiator_task_tag: 1,
        target_transfer_tag: RESERVED_TAG,
        stat_sn: StatSn(2),
        exp_cmd_sn: CmdSn(3),
        max_cmd_sn: CmdSn(4),
        data_sn: 5,
        buffer_offset: 6,
    };

    #[test]
    fn the_fields_are_where_the_standard_says() {
        let bhs = LAST.encode();
        assert_eq!(bhs[..16], [0x25, 0x83, 0, 0, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bhs[16..32], [0, 0, 0, 1, 255, 255, 255, 255, 0, 0, 0, 2, 0, 0, 0, 3]);
        assert_eq!(bhs[32..], [0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 9]);
    }

    #[test]
    fn a_residual_without_status_is_not_sent() {
        let bhs = DataIn { status: None, ..LAST }.encode();
        assert_eq!((bhs[1], bhs[3]), (0x80, 0));
        assert_eq!(bhs[44..], [0; 4]);
    }

    #[test]
    fn a_status_before_the_final_pdu_is_refused() {
        let mut bhs = LAST.encode();
        bhs[1] = 0x01;
        assert!(matches!(DataIn::decode(&bhs), Err(DecodeError::Inconsistent { .. })));
        bhs[1] = 0x87;
        assert!(matches!(DataIn::decode(&bhs), Err(DecodeError::Inconsistent { .. })));
    }
}
