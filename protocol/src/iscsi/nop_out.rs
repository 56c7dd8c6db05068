//! NOP-Out (RFC 7143 11.18): the initiator's ping, or its answer to the target's.

use super::field::{self, FINAL, put_u32, u32_at};
use super::{Bhs, CmdSn, DecodeError, Lun, Opcode, RESERVED_TAG, StatSn};

/// NOP-Out; sent by initiators.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NopOut {
    /// I: for immediate delivery.
    pub immediate: bool,
    /// DataSegmentLength: ping data to be reflected, in bytes.
    pub data_segment_length: u32,
    /// Copied from the NOP-In with its Target Transfer Tag, else reserved.
    pub lun: Lun,
    /// Valid if an answer is wanted, else [`RESERVED_TAG`] (11.18.1).
    pub initiator_task_tag: u32,
    /// Copied from the NOP-In this answers, else [`RESERVED_TAG`] (11.18.2).
    pub target_transfer_tag: u32,
    /// Command sequence number.
    pub cmd_sn: CmdSn,
    /// Acknowledges responses before it.
    pub exp_stat_sn: StatSn,
}

impl NopOut {
    /// The opcode of this PDU.
    pub const OPCODE: Opcode = Opcode::NopOut;

    /// Reads a header.
    pub fn decode(bhs: &Bhs) -> Result<Self, DecodeError> {
        field::expect_opcode(bhs, Self::OPCODE)?;
        field::expect_no_ahs(bhs)?;
        let immediate = field::is_immediate(bhs);
        let initiator_task_tag = u32_at(bhs, 16);
        // 11.18.1: "If the Initiator Task Tag contains 0xffffffff, the I bit MUST be set to 1".
        if initiator_task_tag == RESERVED_TAG && !immediate {
            let rule = "a NOP-Out without Initiator Task Tag must be immediate";
            return Err(DecodeError::Inconsistent { rule, section: "11.18.1" });
        }
        Ok(Self {
            immediate,
            data_segment_length: field::data_segment_length(bhs),
            lun: field::lun(bhs),
            initiator_task_tag,
            target_transfer_tag: u32_at(bhs, 20),
            cmd_sn: CmdSn(u32_at(bhs, 24)),
            exp_stat_sn: StatSn(u32_at(bhs, 28)),
        })
    }

    /// Writes the header.
    #[must_use]
    pub fn encode(&self) -> Bhs {
        let mut bhs = field::start(Self::OPCODE, self.immediate, FINAL);
        field::put_data_segment_length(&mut bhs, self.data_segment_length);
        field::put_lun(&mut bhs, &self.lun);
        put_u32(&mut bhs, 16, self.initiator_task_tag);
        put_u32(&mut bhs, 20, self.target_transfer_tag);
        put_u32(&mut bhs, 24, self.cmd_sn.0);
        put_u32(&mut bhs, 28, self.exp_stat_sn.0);
        bhs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::testing::pdu_properties;

    pdu_properties!(NopOut);

    const PING: NopOut = NopOut {
        immediate: true,
        data_segment_length: 4,
        lun: [0; 8],
        initiator_task_tag: 1,
        target_transfer_tag: RESERVED_TAG,
        cmd_sn: CmdSn(2),
        exp_stat_sn: StatSn(3),
    };

    #[test]
    fn the_fields_are_where_the_standard_says() {
        let bhs = PING.encode();
        assert_eq!(bhs[..8], [0x40, 0x80, 0, 0, 0, 0, 0, 4]);
        assert_eq!(bhs[16..32], [0, 0, 0, 1, 255, 255, 255, 255, 0, 0, 0, 2, 0, 0, 0, 3]);
    }

    #[test]
    fn without_a_tag_it_must_be_immediate() {
        let wrong = NopOut { immediate: false, initiator_task_tag: RESERVED_TAG, ..PING };
        assert!(matches!(NopOut::decode(&wrong.encode()), Err(DecodeError::Inconsistent { .. })));
        let fine = NopOut { immediate: true, initiator_task_tag: RESERVED_TAG, ..PING };
        assert_eq!(NopOut::decode(&fine.encode()), Ok(fine));
    }
}
