//! Login Request (RFC 7143 11.12): the first PDUs on every connection.

use core::fmt;

use super::field::{self, CONTINUE, FINAL, bit, put_u16, put_u32, u16_at, u32_at};
use super::{Bhs, CmdSn, DecodeError, Opcode, StatSn};

/// The version of iSCSI this is (11.12.4).
pub const VERSION: u8 = 0x00;

/// A stage of the login phase (11.12.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum LoginStage {
    /// SecurityNegotiation.
    SecurityNegotiation = 0,
    /// LoginOperationalNegotiation.
    OperationalNegotiation = 1,
    /// FullFeaturePhase: only as next stage.
    FullFeaturePhase = 3,
}

impl LoginStage {
    const fn from_value(value: u8, field: &'static str) -> Result<Self, DecodeError> {
        match value {
            0 => Ok(Self::SecurityNegotiation),
            1 => Ok(Self::OperationalNegotiation),
            3 => Ok(Self::FullFeaturePhase),
            value => Err(DecodeError::ReservedValue { field, value, section: "11.12.3" }),
        }
    }
}

/// What byte 1 of Login Request and Login Response says: T, C, CSG and NSG.
pub(super) struct LoginFlags {
    pub(super) continue_bit: bool,
    pub(super) current_stage: LoginStage,
    pub(super) next_stage: Option<LoginStage>,
}

impl LoginFlags {
    pub(super) const fn decode(byte: u8) -> Result<Self, DecodeError> {
        let (transit, continue_bit) = (byte & FINAL != 0, byte & CONTINUE != 0);
        if transit && continue_bit {
            let rule = "a Login PDU with the C bit must not have the T bit";
            return Err(DecodeError::Inconsistent { rule, section: "11.12.2" });
        }
        let current_stage = match LoginStage::from_value(byte >> 2 & 3, "CSG") {
            Ok(stage) => stage,
            Err(error) => return Err(error),
        };
        // 11.12.3: "The Next Stage value is only valid when the T bit is 1; otherwise, it is reserved."
        let next_stage = match LoginStage::from_value(byte & 3, "NSG") {
            Ok(stage) if transit => Some(stage),
            Err(error) if transit => return Err(error),
            _ => None,
        };
        Ok(Self { continue_bit, current_stage, next_stage })
    }

    pub(super) const fn encode(&self) -> u8 {
        let next = match self.next_stage {
            Some(stage) => FINAL | stage as u8,
            None => 0,
        };
        next | bit(self.continue_bit, CONTINUE) | (self.current_stage as u8) << 2
    }
}

/// Initiator session ID: the initiator's part of the session's identity (11.12.5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Isid(pub [u8; 6]);

impl fmt::Display for Isid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Login Request; sent by initiators. Always immediate (11.12). Its data segment is text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoginRequest {
    /// C: the text goes on in the next request; never with a next stage (11.12.2).
    pub continue_bit: bool,
    /// CSG: the stage this request belongs to.
    pub current_stage: LoginStage,
    /// T with NSG: the initiator is ready to go on to this stage.
    pub next_stage: Option<LoginStage>,
    /// Highest version the initiator knows.
    pub version_max: u8,
    /// Lowest version the initiator knows.
    pub version_min: u8,
    /// DataSegmentLength, in bytes.
    pub data_segment_length: u32,
    /// The initiator's part of the session's identity.
    pub isid: Isid,
    /// Target session identifying handle: 0 for a new session (11.12.6).
    pub tsih: u16,
    /// The same in all Login PDUs of a login phase.
    pub initiator_task_tag: u32,
    /// Connection ID.
    pub cid: u16,
    /// Of a new session its first CmdSN (11.12.8).
    pub cmd_sn: CmdSn,
    /// Acknowledges Login Responses; in the first request valid only if a connection is restarted (11.12.9).
    pub exp_stat_sn: StatSn,
}

impl LoginRequest {
    /// The opcode of this PDU.
    pub const OPCODE: Opcode = Opcode::LoginRequest;

    /// Reads a header.
    pub fn decode(bhs: &Bhs) -> Result<Self, DecodeError> {
        field::expect_opcode(bhs, Self::OPCODE)?;
        field::expect_no_ahs(bhs)?;
        let LoginFlags { continue_bit, current_stage, next_stage } = LoginFlags::decode(bhs[1])?;
        Ok(Self {
            continue_bit,
            current_stage,
            next_stage,
            version_max: bhs[2],
            version_min: bhs[3],
            data_segment_length: field::data_segment_length(bhs),
            isid: isid(bhs),
            tsih: u16_at(bhs, 14),
            initiator_task_tag: u32_at(bhs, 16),
            cid: u16_at(bhs, 20),
            cmd_sn: CmdSn(u32_at(bhs, 24)),
            exp_stat_sn: StatSn(u32_at(bhs, 28)),
        })
    }

    /// Writes the header.
    #[must_use]
    pub fn encode(&self) -> Bhs {
        let flags = LoginFlags {
            continue_bit: self.continue_bit,
            current_stage: self.current_stage,
            next_stage: self.next_stage,
        };
        let mut bhs = field::start(Self::OPCODE, true, flags.encode());
        bhs[2] = self.version_max;
        bhs[3] = self.version_min;
        field::put_data_segment_length(&mut bhs, self.data_segment_length);
        bhs[8..14].copy_from_slice(&self.isid.0);
        put_u16(&mut bhs, 14, self.tsih);
        put_u32(&mut bhs, 16, self.initiator_task_tag);
        put_u16(&mut bhs, 20, self.cid);
        put_u32(&mut bhs, 24, self.cmd_sn.0);
        put_u32(&mut bhs, 28, self.exp_stat_sn.0);
        bhs
    }
}

/// The ISID of a Login Request or Login Response.
pub(super) const fn isid(bhs: &Bhs) -> Isid {
    Isid([bhs[8], bhs[9], bhs[10], bhs[11], bhs[12], bhs[13]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::testing::pdu_properties;

    pdu_properties!(LoginRequest);

    #[test]
    fn the_fields_are_where_the_standard_says() {
        let request = LoginRequest {
            continue_bit: false,
            current_stage: LoginStage::OperationalNegotiation,
            next_stage: Some(LoginStage::FullFeaturePhase),
            version_max: VERSION,
            version_min: VERSION,
            data_segment_length: 5,
            isid: Isid([0, 2, 0x3d, 0, 0, 1]),
            tsih: 6,
            initiator_task_tag: 7,
            cid: 8,
            cmd_sn: CmdSn(9),
            exp_stat_sn: StatSn(10),
        };
        let bhs = request.encode();
        assert_eq!(bhs[..16], [0x43, 0x87, 0, 0, 0, 0, 0, 5, 0, 2, 0x3d, 0, 0, 1, 0, 6]);
        assert_eq!(bhs[16..32], [0, 0, 0, 7, 0, 8, 0, 0, 0, 0, 0, 9, 0, 0, 0, 10]);
        assert_eq!(request.isid.to_string(), "00023d000001");
    }

    #[test]
    fn stages_are_checked_where_they_are_valid() {
        for (flags, fine) in [
            (0x87, true),
            (0x04, true),
            (0x06, true), // NSG is reserved without T
            (0x40, true),
            (0x86, false),
            (0x88, false),
            (0x0b, false),
            (0xc7, false),
        ] {
            let mut bhs = [0; 48];
            bhs[0] = 0x43;
            bhs[1] = flags;
            assert_eq!(LoginRequest::decode(&bhs).is_ok(), fine, "{flags:#x}");
        }
    }
}
