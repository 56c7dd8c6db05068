//! NOP-In (RFC 7143 11.19): the target's answer to a ping, its own ping, or news of the command window.

use super::field::{self, FINAL, put_u32, u32_at};
use super::{Bhs, CmdSn, DecodeError, Lun, Opcode, RESERVED_TAG, StatSn};

/// NOP-In; sent by targets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NopIn {
    /// DataSegmentLength: the reflected ping data, in bytes; 0 unless this is an answer.
    pub data_segment_length: u32,
    /// Correct where the Target Transfer Tag is valid (11.19.3), else reserved.
    pub lun: Lun,
    /// As in the NOP-Out this answers, else [`RESERVED_TAG`].
    pub initiator_task_tag: u32,
    /// Valid if an answer is wanted, else [`RESERVED_TAG`] (11.19.1).
    pub target_transfer_tag: u32,
    /// The next StatSN; advanced only by an answer (11.19.2).
    pub stat_sn: StatSn,
    /// Next CmdSN expected.
    pub exp_cmd_sn: CmdSn,
    /// Last CmdSN that would be taken.
    pub max_cmd_sn: CmdSn,
}

impl NopIn {
    /// The opcode of this PDU.
    pub const OPCODE: Opcode = Opcode::NopIn;

    /// Reads a header.
    pub fn decode(bhs: &Bhs) -> Result<Self, DecodeError> {
        field::expect_opcode(bhs, Self::OPCODE)?;
        field::expect_no_ahs(bhs)?;
        let (initiator_task_tag, target_transfer_tag) = (u32_at(bhs, 16), u32_at(bhs, 20));
        let data_segment_length = field::data_segment_length(bhs);
        if initiator_task_tag == RESERVED_TAG && data_segment_length != 0 {
            let rule = "a NOP-In that is no answer must not carry data";
            return Err(DecodeError::Inconsistent { rule, section: "11.19" });
        }
        if initiator_task_tag != RESERVED_TAG && target_transfer_tag != RESERVED_TAG {
            let rule = "a NOP-In that is an answer must not have a Target Transfer Tag";
            return Err(DecodeError::Inconsistent { rule, section: "11.19" });
        }
        Ok(Self {
            data_segment_length,
            lun: field::lun(bhs),
            initiator_task_tag,
            target_transfer_tag,
            stat_sn: StatSn(u32_at(bhs, 24)),
            exp_cmd_sn: CmdSn(u32_at(bhs, 28)),
            max_cmd_sn: CmdSn(u32_at(bhs, 32)),
        })
    }

    /// Writes the header.
    #[must_use]
    pub fn encode(&self) -> Bhs {
        let mut bhs = field::start(Self::OPCODE, false, FINAL);
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

    pdu_properties!(NopIn);

    const ECHO: NopIn = NopIn {
        data_segment_length: 4,
        lun: [0; 8],
        initiator_task_tag: 1,
        target_transfer_tag: RESERVED_TAG,
        stat_sn: StatSn(2),
        exp_cmd_sn: CmdSn(3),
        max_cmd_sn: CmdSn(4),
    };

    #[test]
    fn the_fields_are_where_the_standard_says() {
        let bhs = ECHO.encode();
        assert_eq!(bhs[..8], [0x20, 0x80, 0, 0, 0, 0, 0, 4]);
        assert_eq!(bhs[16..36], [0, 0, 0, 1, 255, 255, 255, 255, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]);
    }

    #[test]
    fn a_ping_carries_no_data_and_an_answer_asks_for_none() {
        let ping = NopIn { initiator_task_tag: RESERVED_TAG, target_transfer_tag: 5, ..ECHO };
        assert!(NopIn::decode(&ping.encode()).is_err());
        let ping = NopIn { data_segment_length: 0, ..ping };
        assert_eq!(NopIn::decode(&ping.encode()), Ok(ping));
        let both = NopIn { target_transfer_tag: 5, ..ECHO };
        assert!(NopIn::decode(&both.encode()).is_err());
    }
}
