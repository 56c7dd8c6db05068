//! Logout Request (RFC 7143 11.14).

use super::field::{self, FINAL, put_u16, put_u32, u16_at, u32_at};
use super::{Bhs, CmdSn, DecodeError, Opcode, StatSn};

/// The bits of byte 1 that hold the reason code.
const REASON_MASK: u8 = 0x7f;

/// Why the initiator logs out (11.14.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum LogoutReason {
    /// Close the session.
    CloseSession = 0,
    /// Close the connection.
    CloseConnection = 1,
    /// Remove the connection for recovery.
    RemoveForRecovery = 2,
}

/// Logout Request; sent by initiators.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogoutRequest {
    /// I: for immediate delivery.
    pub immediate: bool,
    /// Why.
    pub reason: LogoutReason,
    /// Identifies this request.
    pub initiator_task_tag: u32,
    /// The connection to close; valid unless the session is closed (11.14.3).
    pub cid: u16,
    /// Command sequence number.
    pub cmd_sn: CmdSn,
    /// Acknowledges responses before it.
    pub exp_stat_sn: StatSn,
}

impl LogoutRequest {
    /// The opcode of this PDU.
    pub const OPCODE: Opcode = Opcode::LogoutRequest;

    /// Reads a header.
    pub fn decode(bhs: &Bhs) -> Result<Self, DecodeError> {
        field::expect_opcode(bhs, Self::OPCODE)?;
        field::expect_no_ahs(bhs)?;
        field::expect_no_data(bhs)?;
        let reason = match bhs[1] & REASON_MASK {
            0 => LogoutReason::CloseSession,
            1 => LogoutReason::CloseConnection,
            2 => LogoutReason::RemoveForRecovery,
            value => {
                return Err(DecodeError::ReservedValue { field: "Reason Code", value, section: "11.14.1" });
            }
        };
        Ok(Self {
            immediate: field::is_immediate(bhs),
            reason,
            initiator_task_tag: u32_at(bhs, 16),
            cid: u16_at(bhs, 20),
            cmd_sn: CmdSn(u32_at(bhs, 24)),
            exp_stat_sn: StatSn(u32_at(bhs, 28)),
        })
    }

    /// Writes the header.
    #[must_use]
    pub const fn encode(&self) -> Bhs {
        let mut bhs = field::start(Self::OPCODE, self.immediate, FINAL | self.reason as u8);
        put_u32(&mut bhs, 16, self.initiator_task_tag);
        put_u16(&mut bhs, 20, self.cid);
        put_u32(&mut bhs, 24, self.cmd_sn.0);
        put_u32(&mut bhs, 28, self.exp_stat_sn.0);
        bhs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::testing::pdu_properties;

    pdu_properties!(LogoutRequest);

    #[test]
    fn the_fields_are_where_the_standard_says() {
        let request = LogoutRequest {
            immediate: true,
            reason: LogoutReason::CloseConnection,
            initiator_task_tag: 1,
            cid: 2,
            cmd_sn: CmdSn(3),
            exp_stat_sn: StatSn(4),
        };
        let bhs = request.encode();
        assert_eq!(bhs[..2], [0x46, 0x81]);
        assert_eq!(bhs[16..32], [0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 3, 0, 0, 0, 4]);
    }

    #[test]
    fn reserved_reasons_are_refused() {
        for value in 0..=REASON_MASK {
            let mut bhs = [0; 48];
            bhs[0] = 0x06;
            bhs[1] = FINAL | value;
            assert_eq!(LogoutRequest::decode(&bhs).is_ok(), value <= 2, "{value}");
        }
    }
}
