//! Login Response (RFC 7143 11.13).

use super::field::{self, put_u16, put_u32, u16_at, u32_at};
use super::login_request::{LoginFlags, isid};
use super::{Bhs, CmdSn, DecodeError, Isid, LoginStage, Opcode, StatSn};

/// Status-Class and Status-Detail (11.13.5). With any status but success both sides close the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u16)]
pub enum LoginStatus {
    /// Login is proceeding.
    Success = 0x0000,
    /// Target moved temporarily.
    MovedTemporarily = 0x0101,
    /// Target moved permanently.
    MovedPermanently = 0x0102,
    /// Initiator error.
    InitiatorError = 0x0200,
    /// Authentication failure.
    AuthenticationFailure = 0x0201,
    /// Authorization failure: the initiator is not allowed access to the target.
    AuthorizationFailure = 0x0202,
    /// Not found: the target name does not exist at this address.
    NotFound = 0x0203,
    /// Target removed.
    TargetRemoved = 0x0204,
    /// Unsupported version.
    UnsupportedVersion = 0x0205,
    /// Too many connections.
    TooManyConnections = 0x0206,
    /// Missing parameter: initiator name and/or target name.
    MissingParameter = 0x0207,
    /// Can't include in session.
    CannotIncludeInSession = 0x0208,
    /// Session type not supported.
    SessionTypeNotSupported = 0x0209,
    /// Session does not exist.
    SessionDoesNotExist = 0x020a,
    /// Invalid request type during login.
    InvalidDuringLogin = 0x020b,
    /// Target error.
    TargetError = 0x0300,
    /// Service unavailable: not currently operational.
    ServiceUnavailable = 0x0301,
    /// Out of resources.
    OutOfResources = 0x0302,
}

impl LoginStatus {
    const ALL: [Self; 18] = [
        Self::Success,
        Self::MovedTemporarily,
        Self::MovedPermanently,
        Self::InitiatorError,
        Self::AuthenticationFailure,
        Self::AuthorizationFailure,
        Self::NotFound,
        Self::TargetRemoved,
        Self::UnsupportedVersion,
        Self::TooManyConnections,
        Self::MissingParameter,
        Self::CannotIncludeInSession,
        Self::SessionTypeNotSupported,
        Self::SessionDoesNotExist,
        Self::InvalidDuringLogin,
        Self::TargetError,
        Self::ServiceUnavailable,
        Self::OutOfResources,
    ];

    fn from_value(value: u16) -> Result<Self, DecodeError> {
        let known = Self::ALL.into_iter().find(|status| *status as u16 == value);
        let [class, detail] = value.to_be_bytes();
        known.ok_or(match class {
            0..=3 => DecodeError::ReservedValue { field: "Status-Detail", value: detail, section: "11.13.5" },
            _ => DecodeError::ReservedValue { field: "Status-Class", value: class, section: "11.13.5" },
        })
    }
}

/// Login Response; sent by targets. Its data segment is text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoginResponse {
    /// C: the text goes on in the next response; never with a next stage (11.13.7).
    pub continue_bit: bool,
    /// CSG: the stage this response belongs to.
    pub current_stage: LoginStage,
    /// T with NSG: the target goes on to this stage too (11.13.6).
    pub next_stage: Option<LoginStage>,
    /// Highest version the target knows.
    pub version_max: u8,
    /// The version in use.
    pub version_active: u8,
    /// DataSegmentLength, in bytes.
    pub data_segment_length: u32,
    /// As in the request.
    pub isid: Isid,
    /// As in the request; in the final response for a new session the new handle, not 0 (11.13.3).
    pub tsih: u16,
    /// As in the request.
    pub initiator_task_tag: u32,
    /// Status sequence number of this response; valid with success.
    pub stat_sn: StatSn,
    /// Next CmdSN expected; valid with success.
    pub exp_cmd_sn: CmdSn,
    /// Last CmdSN that would be taken; valid with success.
    pub max_cmd_sn: CmdSn,
    /// How the login stands.
    pub status: LoginStatus,
}

impl LoginResponse {
    /// The opcode of this PDU.
    pub const OPCODE: Opcode = Opcode::LoginResponse;

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
            version_active: bhs[3],
            data_segment_length: field::data_segment_length(bhs),
            isid: isid(bhs),
            tsih: u16_at(bhs, 14),
            initiator_task_tag: u32_at(bhs, 16),
            stat_sn: StatSn(u32_at(bhs, 24)),
            exp_cmd_sn: CmdSn(u32_at(bhs, 28)),
            max_cmd_sn: CmdSn(u32_at(bhs, 32)),
            status: LoginStatus::from_value(u16_at(bhs, 36))?,
        })
    }

    /// Writes the header.
    #[must_use]
    pub fn encode(&self) -> Bhs {
        debug_assert!(
            !(self.continue_bit && self.next_stage.is_some()),
            "what goes on stays in its stage (11.13.2)"
        );
        let flags = LoginFlags {
            continue_bit: self.continue_bit,
            current_stage: self.current_stage,
            next_stage: self.next_stage,
        };
        let mut bhs = field::start(Self::OPCODE, false, flags.encode());
        bhs[2] = self.version_max;
        bhs[3] = self.version_active;
        field::put_data_segment_length(&mut bhs, self.data_segment_length);
        bhs[8..14].copy_from_slice(&self.isid.0);
        put_u16(&mut bhs, 14, self.tsih);
        put_u32(&mut bhs, 16, self.initiator_task_tag);
        put_u32(&mut bhs, 24, self.stat_sn.0);
        put_u32(&mut bhs, 28, self.exp_cmd_sn.0);
        put_u32(&mut bhs, 32, self.max_cmd_sn.0);
        put_u16(&mut bhs, 36, self.status as u16);
        bhs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::testing::pdu_properties;

    pdu_properties!(LoginResponse);

    #[test]
    fn the_fields_are_where_the_standard_says() {
        let response = LoginResponse {
            continue_bit: false,
            current_stage: LoginStage::SecurityNegotiation,
            next_stage: Some(LoginStage::OperationalNegotiation),
            version_max: 0,
            version_active: 0,
            data_segment_length: 5,
            isid: Isid([0x80, 1, 2, 3, 4, 5]),
            tsih: 6,
            initiator_task_tag: 7,
            stat_sn: StatSn(8),
            exp_cmd_sn: CmdSn(9),
            max_cmd_sn: CmdSn(10),
            status: LoginStatus::ServiceUnavailable,
        };
        let bhs = response.encode();
        assert_eq!(bhs[..16], [0x23, 0x81, 0, 0, 0, 0, 0, 5, 0x80, 1, 2, 3, 4, 5, 0, 6]);
        assert_eq!(bhs[16..38], [0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 10, 3, 1]);
    }

    #[test]
    fn every_status_of_the_table_and_no_other_is_known() {
        let known =
            (0..=u16::MAX).filter_map(|value| LoginStatus::from_value(value).ok()).collect::<Vec<_>>();
        assert_eq!(known, LoginStatus::ALL);
    }
}
