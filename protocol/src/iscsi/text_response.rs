//! Text Response (RFC 7143 11.11): the target's answer to a Text Request.

use super::field::{self, CONTINUE, FINAL, bit, put_u32, u32_at};
use super::{Bhs, CmdSn, DecodeError, Lun, Opcode, RESERVED_TAG, StatSn};

/// Text Response; sent by targets. Its data segment is text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TextResponse {
    /// F: the target has finished the operation.
    pub final_bit: bool,
    /// C: the text goes on in the next response; never with F (11.11.2).
    pub continue_bit: bool,
    /// DataSegmentLength, in bytes.
    pub data_segment_length: u32,
    /// May be significant where the Target Transfer Tag is valid.
    pub lun: Lun,
    /// As in the request.
    pub initiator_task_tag: u32,
    /// [`RESERVED_TAG`] exactly if F is set (11.11.1).
    pub target_transfer_tag: u32,
    /// Status sequence number of this response.
    pub stat_sn: StatSn,
    /// Next CmdSN expected.
    pub exp_cmd_sn: CmdSn,
    /// Last CmdSN that would be taken.
    pub max_cmd_sn: CmdSn,
}

impl TextResponse {
    /// The opcode of this PDU.
    pub const OPCODE: Opcode = Opcode::TextResponse;

    /// Reads a header.
    pub fn decode(bhs: &Bhs) -> Result<Self, DecodeError> {
        field::expect_opcode(bhs, Self::OPCODE)?;
        field::expect_no_ahs(bhs)?;
        let (final_bit, continue_bit) = (field::is_final(bhs), bhs[1] & CONTINUE != 0);
        let target_transfer_tag = u32_at(bhs, 20);
        if final_bit && continue_bit {
            let rule = "a Text Response with the C bit must not have the F bit";
            return Err(DecodeError::Inconsistent { rule, section: "11.11.2" });
        }
        if final_bit != (target_transfer_tag == RESERVED_TAG) {
            let rule = "the Target Transfer Tag must be ffffffffh exactly if the F bit is set";
            return Err(DecodeError::Inconsistent { rule, section: "11.11.1" });
        }
        Ok(Self {
            final_bit,
            continue_bit,
            data_segment_length: field::data_segment_length(bhs),
            lun: field::lun(bhs),
            initiator_task_tag: u32_at(bhs, 16),
            target_transfer_tag,
            stat_sn: StatSn(u32_at(bhs, 24)),
            exp_cmd_sn: CmdSn(u32_at(bhs, 28)),
            max_cmd_sn: CmdSn(u32_at(bhs, 32)),
        })
    }

    /// Writes the header.
    #[must_use]
    pub fn encode(&self) -> Bhs {
        debug_assert!(!(self.final_bit && self.continue_bit), "what goes on is not final (11.11.2)");
        debug_assert_eq!(
            self.final_bit,
            self.target_transfer_tag == RESERVED_TAG,
            "an exchange that goes on has a tag (11.11.1)"
        );
        let flags = bit(self.final_bit, FINAL) | bit(self.continue_bit, CONTINUE);
        let mut bhs = field::start(Self::OPCODE, false, flags);
        field::put_data_segment_length(&mut bhs, self.data_segment_length);
        field::put_lun(&mut bhs, &self.lun);
        put_u32(&mut bhs, 16, self.initiator_task_tag);
        put_u32(&mut bhs, 20, self.target_transfer_tag);
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

    pdu_properties!(TextResponse);

    const FINISHED: TextResponse = TextResponse {
        final_bit: true,
        continue_bit: false,
        data_segment_length: 64,
        lun: [0; 8],
        initiator_task_tag: 1,
        target_transfer_tag: RESERVED_TAG,
        stat_sn: StatSn(2),
        exp_cmd_sn: CmdSn(3),
        max_cmd_sn: CmdSn(4),
    };

    #[test]
    fn the_fields_are_where_the_standard_says() {
        let bhs = FINISHED.encode();
        assert_eq!(bhs[..8], [0x24, 0x80, 0, 0, 0, 0, 0, 64]);
        assert_eq!(bhs[16..36], [0, 0, 0, 1, 255, 255, 255, 255, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]);
    }

    #[test]
    fn only_an_unfinished_answer_has_a_target_transfer_tag() {
        for (final_bit, continue_bit, target_transfer_tag, fine) in [
            (true, false, RESERVED_TAG, true),
            (false, true, 5, true),
            (false, false, 5, true),
            (true, false, 5, false),
            (false, true, RESERVED_TAG, false),
            (true, true, RESERVED_TAG, false),
        ] {
            let mut bhs = FINISHED.encode();
            bhs[1] = bit(final_bit, FINAL) | bit(continue_bit, CONTINUE);
            put_u32(&mut bhs, 20, target_transfer_tag);
            assert_eq!(TextResponse::decode(&bhs).is_ok(), fine, "{bhs:02x?}");
        }
    }
}
