//! SNACK Request (RFC 7143 11.16): asks for lost PDUs again, or acknowledges data. For ErrorRecoveryLevel 1 and 2.

use super::field::{self, FINAL, put_u32, u32_at};
use super::{Bhs, DecodeError, Lun, Opcode, StatSn};

/// The bits of byte 1 that hold the type.
const TYPE_MASK: u8 = 0x0f;

/// What is asked for (11.16.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum SnackType {
    /// Data/R2T SNACK.
    DataOrR2t = 0,
    /// Status SNACK.
    Status = 1,
    /// DataACK.
    DataAck = 2,
    /// R-Data SNACK.
    RData = 3,
}

/// SNACK Request; sent by initiators.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snack {
    /// What is asked for.
    pub snack_type: SnackType,
    /// Of a DataACK, copied from the Data-In; else reserved.
    pub lun: Lun,
    /// The task, or [`super::RESERVED_TAG`] for Status SNACK and DataACK (11.16.4).
    pub initiator_task_tag: u32,
    /// Target Transfer Tag of a DataACK, SNACK Tag of an R-Data SNACK, else [`super::RESERVED_TAG`] (11.16.5).
    pub transfer_or_snack_tag: u32,
    /// Acknowledges responses before it.
    pub exp_stat_sn: StatSn,
    /// DataSN, R2TSN or StatSN of the first PDU wanted (11.16.6).
    pub beg_run: u32,
    /// How many PDUs are wanted; 0 for all from the first (11.16.7).
    pub run_length: u32,
}

impl Snack {
    /// The opcode of this PDU.
    pub const OPCODE: Opcode = Opcode::Snack;

    /// Reads a header.
    pub fn decode(bhs: &Bhs) -> Result<Self, DecodeError> {
        field::expect_opcode(bhs, Self::OPCODE)?;
        field::expect_no_ahs(bhs)?;
        field::expect_no_data(bhs)?;
        let snack_type = match bhs[1] & TYPE_MASK {
            0 => SnackType::DataOrR2t,
            1 => SnackType::Status,
            2 => SnackType::DataAck,
            3 => SnackType::RData,
            value => return Err(DecodeError::ReservedValue { field: "Type", value, section: "11.16.1" }),
        };
        Ok(Self {
            snack_type,
            lun: field::lun(bhs),
            initiator_task_tag: u32_at(bhs, 16),
            transfer_or_snack_tag: u32_at(bhs, 20),
            exp_stat_sn: StatSn(u32_at(bhs, 28)),
            beg_run: u32_at(bhs, 40),
            run_length: u32_at(bhs, 44),
        })
    }

    /// Writes the header.
    #[must_use]
    pub fn encode(&self) -> Bhs {
        let mut bhs = field::start(Self::OPCODE, false, FINAL | self.snack_type as u8);
        field::put_lun(&mut bhs, &self.lun);
        put_u32(&mut bhs, 16, self.initiator_task_tag);
        put_u32(&mut bhs, 20, self.transfer_or_snack_tag);
        put_u32(&mut bhs, 28, self.exp_stat_sn.0);
        put_u32(&mut bhs, 40, self.beg_run);
        put_u32(&mut bhs, 44, self.run_length);
        bhs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::RESERVED_TAG;
    use crate::iscsi::testing::pdu_properties;

    pdu_properties!(Snack);

    #[test]
    fn the_fields_are_where_the_standard_says() {
        let snack = Snack {
            snack_type: SnackType::Status,
            lun: [0; 8],
            initiator_task_tag: RESERVED_TAG,
            transfer_or_snack_tag: RESERVED_TAG,
            exp_stat_sn: StatSn(1),
            beg_run: 2,
            run_length: 3,
        };
        let bhs = snack.encode();
        assert_eq!(bhs[..2], [0x10, 0x81]);
        assert_eq!(bhs[16..32], [255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(bhs[40..], [0, 0, 0, 2, 0, 0, 0, 3]);
    }

    #[test]
    fn reserved_types_are_refused() {
        for value in 0..=TYPE_MASK {
            let mut bhs = [0; 48];
            bhs[0] = 0x10;
            bhs[1] = FINAL | value;
            assert_eq!(Snack::decode(&bhs).is_ok(), value <= 3, "{value}");
        }
    }
}
