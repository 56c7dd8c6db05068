//! SCSI Data-Out (RFC 7143 11.7): data of a write, unsolicited or as answer to an R2T.

use super::field::{self, FINAL, bit, put_u32, u32_at};
use super::{Bhs, DecodeError, Lun, Opcode, StatSn};

/// SCSI Data-Out; sent by initiators.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataOut {
    /// F: last PDU of unsolicited data or of the sequence that answers an R2T.
    pub final_bit: bool,
    /// DataSegmentLength, in bytes.
    pub data_segment_length: u32,
    /// As in the R2T; reserved if the data is unsolicited (11.7.4).
    pub lun: Lun,
    /// The task.
    pub initiator_task_tag: u32,
    /// As in the R2T, or [`super::RESERVED_TAG`] if the data is unsolicited.
    pub target_transfer_tag: u32,
    /// Acknowledges responses before it.
    pub exp_stat_sn: StatSn,
    /// Number of this PDU within its sequence (11.7.5).
    pub data_sn: u32,
    /// Where the data belongs in the complete transfer, in bytes.
    pub buffer_offset: u32,
}

impl DataOut {
    /// The opcode of this PDU.
    pub const OPCODE: Opcode = Opcode::DataOut;

    /// Reads a header.
    pub fn decode(bhs: &Bhs) -> Result<Self, DecodeError> {
        field::expect_opcode(bhs, Self::OPCODE)?;
        field::expect_no_ahs(bhs)?;
        Ok(Self {
            final_bit: field::is_final(bhs),
            data_segment_length: field::data_segment_length(bhs),
            lun: field::lun(bhs),
            initiator_task_tag: u32_at(bhs, 16),
            target_transfer_tag: u32_at(bhs, 20),
            exp_stat_sn: StatSn(u32_at(bhs, 28)),
            data_sn: u32_at(bhs, 36),
            buffer_offset: u32_at(bhs, 40),
        })
    }

    /// Writes the header.
    #[must_use]
    pub fn encode(&self) -> Bhs {
        let mut bhs = field::start(Self::OPCODE, false, bit(self.final_bit, FINAL));
        field::put_data_segment_length(&mut bhs, self.data_segment_length);
        field::put_lun(&mut bhs, &self.lun);
        put_u32(&mut bhs, 16, self.initiator_task_tag);
        put_u32(&mut bhs, 20, self.target_transfer_tag);
        put_u32(&mut bhs, 28, self.exp_stat_sn.0);
        put_u32(&mut bhs, 36, self.data_sn);
        put_u32(&mut bhs, 40, self.buffer_offset);
        bhs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::testing::pdu_properties;

    pdu_properties!(DataOut);

    #[test]
    fn the_fields_are_where_the_standard_says() {
        let pdu = DataOut {
            final_bit: true,
            data_segment_length: 0x01_0203,
            lun: [0, 1, 0, 0, 0, 0, 0, 0],
            initiator_task_tag: 2,
            target_transfer_tag: 3,
            exp_stat_sn: StatSn(4),
            data_sn: 5,
            buffer_offset: 6,
        };
        let bhs = pdu.encode();
        assert_eq!(bhs[..16], [0x05, 0x80, 0, 0, 0, 1, 2, 3, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bhs[16..32], [0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4]);
        assert_eq!(bhs[32..], [0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 0]);
    }
}
