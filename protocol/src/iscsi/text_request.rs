//! Text Request (RFC 7143 11.10): key=value pairs in full feature phase, such as SendTargets.

use super::field::{self, CONTINUE, FINAL, bit, put_u32, u32_at};
use super::{Bhs, CmdSn, DecodeError, Lun, Opcode, StatSn};

/// Text Request; sent by initiators. Its data segment is text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TextRequest {
    /// I: for immediate delivery.
    pub immediate: bool,
    /// F: the last or only request of its sequence.
    pub final_bit: bool,
    /// C: the text goes on in the next request; never with F (11.10.2).
    pub continue_bit: bool,
    /// DataSegmentLength, in bytes.
    pub data_segment_length: u32,
    /// Copied from the response with the Target Transfer Tag, else reserved.
    pub lun: Lun,
    /// The same in all requests of a sequence.
    pub initiator_task_tag: u32,
    /// [`super::RESERVED_TAG`] for a new sequence, else as in the last response (11.10.4).
    pub target_transfer_tag: u32,
    /// Command sequence number.
    pub cmd_sn: CmdSn,
    /// Acknowledges responses before it.
    pub exp_stat_sn: StatSn,
}

impl TextRequest {
    /// The opcode of this PDU.
    pub const OPCODE: Opcode = Opcode::TextRequest;

    /// Reads a header.
    pub fn decode(bhs: &Bhs) -> Result<Self, DecodeError> {
        field::expect_opcode(bhs, Self::OPCODE)?;
        field::expect_no_ahs(bhs)?;
        let (final_bit, continue_bit) = (field::is_final(bhs), bhs[1] & CONTINUE != 0);
        if final_bit && continue_bit {
            let rule = "a Text Request with the C bit must not have the F bit";
            return Err(DecodeError::Inconsistent { rule, section: "11.10.2" });
        }
        Ok(Self {
            immediate: field::is_immediate(bhs),
            final_bit,
            continue_bit,
            data_segment_length: field::data_segment_length(bhs),
            lun: field::lun(bhs),
            initiator_task_tag: u32_at(bhs, 16),
            target_transfer_tag: u32_at(bhs, 20),
            cmd_sn: CmdSn(u32_at(bhs, 24)),
            exp_stat_sn: StatSn(u32_at(bhs, 28)),
        })
    }

    /// Writes the header.
    #[must_use]
    pub fn encode(&self) -> Bhs {
        let flags = bit(self.final_bit, FINAL) | bit(self.continue_bit, CONTINUE);
        let mut bhs = field::start(Self::OPCODE, self.immediate, flags);
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
    use crate::iscsi::RESERVED_TAG;
    use crate::iscsi::testing::pdu_properties;

    pdu_properties!(TextRequest);

    const SEND_TARGETS: TextRequest = TextRequest {
        immediate: false,
        final_bit: true,
        continue_bit: false,
        data_segment_length: 16,
        lun: [0; 8],
        initiator_task_tag: 1,
        target_transfer_tag: RESERVED_TAG,
        cmd_sn: CmdSn(2),
        exp_stat_sn: StatSn(3),
    };

    #[test]
    fn the_fields_are_where_the_standard_says() {
        let bhs = SEND_TARGETS.encode();
        assert_eq!(bhs[..16], [0x04, 0x80, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bhs[16..32], [0, 0, 0, 1, 255, 255, 255, 255, 0, 0, 0, 2, 0, 0, 0, 3]);
    }

    #[test]
    fn text_that_goes_on_cannot_be_final() {
        let wrong = TextRequest { continue_bit: true, ..SEND_TARGETS };
        assert!(matches!(TextRequest::decode(&wrong.encode()), Err(DecodeError::Inconsistent { .. })));
    }
}
