//! Asynchronous Message (RFC 7143 11.9): the target speaks unasked.

use super::field::{self, FINAL, put_u16, put_u32, u16_at, u32_at};
use super::{Bhs, CmdSn, DecodeError, Lun, Opcode, RESERVED_TAG, StatSn};

/// What happened, with its parameters (11.9.1). All times are in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AsyncEvent {
    /// A SCSI asynchronous event, told in the sense data.
    ScsiEvent,
    /// The target requests logout within `parameter3` seconds.
    LogoutRequest {
        /// How long the initiator has.
        within: u16,
    },
    /// The target will drop a connection.
    ConnectionDrop {
        /// Connection ID.
        cid: u16,
        /// Time2Wait: not before.
        time_2_wait: u16,
        /// Time2Retain: not later than this after the wait.
        time_2_retain: u16,
    },
    /// The target will drop all connections of this session.
    SessionDrop {
        /// Time2Wait: not before.
        time_2_wait: u16,
        /// Time2Retain: not later than this after the wait.
        time_2_retain: u16,
    },
    /// The target requests parameter negotiation.
    NegotiationRequest {
        /// How long the initiator has.
        within: u16,
    },
    /// All active tasks of the LUN are being terminated; only with TaskReporting=FastAbort.
    TaskTermination,
    /// Vendor-specific: 248 to 255.
    Vendor {
        /// AsyncEvent.
        event: u8,
        /// AsyncVCode.
        code: u8,
        /// Parameter1 to Parameter3.
        parameters: [u16; 3],
    },
}

/// The lowest vendor-specific event.
const VENDOR_FIRST: u8 = 248;

impl AsyncEvent {
    /// AsyncEvent, AsyncVCode and the three parameters.
    const fn fields(self) -> (u8, u8, [u16; 3]) {
        match self {
            Self::ScsiEvent => (0, 0, [0; 3]),
            Self::LogoutRequest { within } => (1, 0, [0, 0, within]),
            Self::ConnectionDrop { cid, time_2_wait, time_2_retain } => {
                (2, 0, [cid, time_2_wait, time_2_retain])
            }
            Self::SessionDrop { time_2_wait, time_2_retain } => (3, 0, [0, time_2_wait, time_2_retain]),
            Self::NegotiationRequest { within } => (4, 0, [0, 0, within]),
            Self::TaskTermination => (5, 0, [0; 3]),
            Self::Vendor { event, code, parameters } => (event | VENDOR_FIRST, code, parameters),
        }
    }

    fn decode(bhs: &Bhs) -> Result<Self, DecodeError> {
        let parameters = [u16_at(bhs, 38), u16_at(bhs, 40), u16_at(bhs, 42)];
        let [cid, time_2_wait, time_2_retain] = parameters;
        match bhs[36] {
            0 => Ok(Self::ScsiEvent),
            1 => Ok(Self::LogoutRequest { within: time_2_retain }),
            2 => Ok(Self::ConnectionDrop { cid, time_2_wait, time_2_retain }),
            3 => Ok(Self::SessionDrop { time_2_wait, time_2_retain }),
            4 => Ok(Self::NegotiationRequest { within: time_2_retain }),
            5 => Ok(Self::TaskTermination),
            event @ VENDOR_FIRST.. => Ok(Self::Vendor { event, code: bhs[37], parameters }),
            value => Err(DecodeError::ReservedValue { field: "AsyncEvent", value, section: "11.9.1" }),
        }
    }
}

/// Asynchronous Message; sent by targets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AsyncMessage {
    /// What happened.
    pub event: AsyncEvent,
    /// DataSegmentLength, in bytes; the segment is that of [`super::sense_segment`].
    pub data_segment_length: u32,
    /// The logical unit, for SCSI events and task termination.
    pub lun: Lun,
    /// Status sequence number of this message.
    pub stat_sn: StatSn,
    /// Next CmdSN expected.
    pub exp_cmd_sn: CmdSn,
    /// Last CmdSN that would be taken.
    pub max_cmd_sn: CmdSn,
}

impl AsyncMessage {
    /// The opcode of this PDU.
    pub const OPCODE: Opcode = Opcode::AsyncMessage;

    /// Reads a header.
    pub fn decode(bhs: &Bhs) -> Result<Self, DecodeError> {
        field::expect_opcode(bhs, Self::OPCODE)?;
        field::expect_no_ahs(bhs)?;
        Ok(Self {
            event: AsyncEvent::decode(bhs)?,
            data_segment_length: field::data_segment_length(bhs),
            lun: field::lun(bhs),
            stat_sn: StatSn(u32_at(bhs, 24)),
            exp_cmd_sn: CmdSn(u32_at(bhs, 28)),
            max_cmd_sn: CmdSn(u32_at(bhs, 32)),
        })
    }

    /// Writes the header.
    #[must_use]
    pub fn encode(&self) -> Bhs {
        let (event, code, [parameter1, parameter2, parameter3]) = self.event.fields();
        let mut bhs = field::start(Self::OPCODE, false, FINAL);
        field::put_data_segment_length(&mut bhs, self.data_segment_length);
        field::put_lun(&mut bhs, &self.lun);
        put_u32(&mut bhs, 16, RESERVED_TAG);
        put_u32(&mut bhs, 24, self.stat_sn.0);
        put_u32(&mut bhs, 28, self.exp_cmd_sn.0);
        put_u32(&mut bhs, 32, self.max_cmd_sn.0);
        bhs[36] = event;
        bhs[37] = code;
        put_u16(&mut bhs, 38, parameter1);
        put_u16(&mut bhs, 40, parameter2);
        put_u16(&mut bhs, 42, parameter3);
        bhs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::testing::pdu_properties;

    pdu_properties!(AsyncMessage);

    #[test]
    fn a_connection_drop_has_its_fields_where_the_standard_says() {
        let event = AsyncEvent::ConnectionDrop { cid: 1, time_2_wait: 2, time_2_retain: 3 };
        let message = AsyncMessage {
            event,
            data_segment_length: 0,
            lun: [0; 8],
            stat_sn: StatSn(4),
            exp_cmd_sn: CmdSn(5),
            max_cmd_sn: CmdSn(6),
        };
        let bhs = message.encode();
        assert_eq!(bhs[..2], [0x32, 0x80]);
        assert_eq!(bhs[16..20], [0xff; 4]);
        assert_eq!(bhs[36..], [2, 0, 0, 1, 0, 2, 0, 3, 0, 0, 0, 0]);
    }

    #[test]
    fn unassigned_events_are_refused() {
        for event in 0..=255 {
            let mut bhs = [0; 48];
            bhs[0] = 0x32;
            bhs[36] = event;
            assert_eq!(AsyncMessage::decode(&bhs).is_ok(), event <= 5 || event >= 248, "{event}");
        }
    }
}
