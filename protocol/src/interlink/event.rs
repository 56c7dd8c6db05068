//! Events: what changes a LUN other than its blocks, on its way to main.

use bytes::{BufMut, BytesMut};

use super::frame::FrameError;
use super::sanitize::{Order, Position, Step};
use super::shared::{NexusHandle, Requester};
use super::wire::{Reader, put_list, put_string};
use crate::scsi::persistent_reservation::{
    InAction, InitiatorPort, Move, OutAction, ReserveOut, TRANSPORT_IDS_MAX,
};

/// What changes a LUN other than its blocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A logical unit reset (SAM-5 6.3.3): LOGICAL UNIT RESET, or a reset of the target.
    Reset,
    /// The session that reserved the LUN is gone.
    ReserverLost(NexusHandle),
    /// RESERVE (SPC-2 7.21).
    Reserve(Requester),
    /// RELEASE (SPC-2 7.16).
    Release(Requester),
    /// MODE SELECT (SPC-4 6.11).
    ModeSelect {
        /// The requesting nexus.
        who: Requester,
        /// What it selects.
        select: ModeSelection,
    },
    /// PERSISTENT RESERVE IN (SPC-4 6.15): changes nothing, and tells what main knows.
    ReserveIn {
        /// The requesting nexus.
        who: Requester,
        /// SERVICE ACTION.
        action: InAction,
        /// ALLOCATION LENGTH in bytes.
        allocation: u16,
    },
    /// PERSISTENT RESERVE OUT (SPC-4 6.16).
    ReserveOut {
        /// The requesting nexus.
        who: Requester,
        /// The service action with its parameters.
        out: Box<ReserveOut>,
    },
    /// SANITIZE (SBC-4 5.30).
    Sanitize {
        /// The requesting nexus.
        who: Requester,
        /// The operation; none: EXIT FAILURE MODE, of which the AUSE bit says nothing.
        order: Option<Box<Order>>,
        /// IMMED: it is answered when the operation has begun, else when it is over.
        immed: bool,
    },
    /// What main has done of a sanitize operation: no command.
    Sanitized {
        /// Where it was.
        from: Position,
        /// What has become of it.
        step: Step,
    },
}

/// What a MODE SELECT changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ModeSelection {
    /// SP: the saved values change too.
    pub save: bool,
    /// SWP, if its page was sent.
    pub write_protect: Option<bool>,
    /// D_SENSE, if its page was sent.
    pub descriptor_sense: Option<bool>,
    /// WCE, if its page was sent.
    pub write_cache: Option<bool>,
}

/// What a byte says of a field whose page was sent or not.
const SENT: [Option<bool>; 3] = [None, Some(false), Some(true)];

impl ModeSelection {
    fn put(self, body: &mut BytesMut) {
        let sent = |field: Option<bool>| field.map_or(0, |value| 1 + u8::from(value));
        let protect = self.write_protect.map_or(2, u8::from);
        body.put_u8(u8::from(self.save));
        body.put_u8(protect | sent(self.descriptor_sense) << 2 | sent(self.write_cache) << 4);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        let (save, fields) = (reader.bool()?, reader.u8()?);
        let write_protect = match fields & 0x03 {
            0 => Some(false),
            1 => Some(true),
            2 => None,
            _ => return Err(FrameError::Content),
        };
        let sent = |bits: u8| SENT.get(usize::from(bits)).copied().ok_or(FrameError::Content);
        let (descriptor_sense, write_cache) = (sent(fields >> 2 & 0x03)?, sent(fields >> 4)?);
        Ok(Self { save, write_protect, descriptor_sense, write_cache })
    }
}

impl Event {
    /// For a peer of version 1 of the interlink; see [`Order::in_version_1`].
    #[must_use]
    pub fn in_version_1(self) -> Self {
        match self {
            Self::Sanitize { who, order: Some(order), immed } => {
                Self::Sanitize { who, order: Some(Box::new(order.in_version_1())), immed }
            }
            other => other,
        }
    }

    pub(super) fn put(&self, body: &mut BytesMut) {
        match self {
            Self::Reset => body.put_u8(0),
            Self::ReserverLost(handle) => {
                body.put_u8(1);
                handle.put(body);
            }
            Self::Reserve(who) => {
                body.put_u8(2);
                who.put(body);
            }
            Self::Release(who) => {
                body.put_u8(3);
                who.put(body);
            }
            Self::ModeSelect { who, select } => {
                body.put_u8(4);
                who.put(body);
                select.put(body);
            }
            Self::ReserveIn { who, action, allocation } => {
                body.put_u8(5);
                who.put(body);
                body.put_u8(*action as u8);
                body.put_u16(*allocation);
            }
            Self::ReserveOut { who, out } => {
                body.put_u8(6);
                who.put(body);
                put_out(body, out);
            }
            Self::Sanitize { who, order, immed } => {
                body.put_u8(7);
                who.put(body);
                body.put_slice(&[u8::from(*immed), u8::from(order.is_some())]);
                if let Some(order) = order {
                    order.put(body);
                }
            }
            Self::Sanitized { from, step } => {
                body.put_u8(8);
                from.put(body);
                step.put(body);
            }
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(match reader.u8()? {
            0 => Self::Reset,
            1 => Self::ReserverLost(NexusHandle::read(reader)?),
            2 => Self::Reserve(Requester::read(reader)?),
            3 => Self::Release(Requester::read(reader)?),
            4 => Self::ModeSelect { who: Requester::read(reader)?, select: ModeSelection::read(reader)? },
            5 => Self::ReserveIn {
                who: Requester::read(reader)?,
                action: InAction::of(reader.u8()?).ok_or(FrameError::Content)?,
                allocation: reader.u16()?,
            },
            6 => Self::ReserveOut { who: Requester::read(reader)?, out: Box::new(out(reader)?) },
            7 => Self::Sanitize {
                who: Requester::read(reader)?,
                immed: reader.bool()?,
                order: if reader.bool()? { Some(Box::new(Order::read(reader)?)) } else { None },
            },
            8 => Self::Sanitized { from: Position::read(reader)?, step: Step::read(reader)? },
            _ => return Err(FrameError::Content),
        })
    }
}

fn put_out(body: &mut BytesMut, out: &ReserveOut) {
    body.put_u8(out.action as u8);
    body.put_u8(out.kind);
    body.put_u64(out.key);
    body.put_u64(out.action_key);
    body.put_u8(u8::from(out.aptpl));
    body.put_u8(u8::from(out.all_target_ports));
    put_list(body, TRANSPORT_IDS_MAX, &out.others, put_port);
    body.put_u8(u8::from(out.moved.is_some()));
    if let Some(moved) = &out.moved {
        body.put_u8(u8::from(moved.unregister));
        body.put_u16(moved.port);
        put_port(body, &moved.to);
    }
}

fn out(reader: &mut Reader<'_>) -> Result<ReserveOut, FrameError> {
    Ok(ReserveOut {
        action: OutAction::of(reader.u8()?).ok_or(FrameError::Content)?,
        kind: reader.u8()?,
        key: reader.u64()?,
        action_key: reader.u64()?,
        aptpl: reader.bool()?,
        all_target_ports: reader.bool()?,
        others: reader.list(TRANSPORT_IDS_MAX, port)?,
        moved: if reader.bool()? {
            Some(Move { unregister: reader.bool()?, port: reader.u16()?, to: port(reader)? })
        } else {
            None
        },
    })
}

fn put_port(body: &mut BytesMut, port: &InitiatorPort) {
    put_string(body, &port.initiator);
    body.put_slice(&port.isid);
}

fn port(reader: &mut Reader<'_>) -> Result<InitiatorPort, FrameError> {
    Ok(InitiatorPort { initiator: reader.string()?, isid: reader.bytes()? })
}
