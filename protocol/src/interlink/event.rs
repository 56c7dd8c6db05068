//! Events: what changes a LUN other than its blocks, on its way to main.

use bytes::{BufMut, BytesMut};

use super::frame::FrameError;
use super::shared::{NexusHandle, Who, option_bool, put_option_bool};
use super::wire::Reader;

/// What changes a LUN other than its blocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A logical unit reset (SAM-5 6.3.3): LOGICAL UNIT RESET, or a reset of the target.
    Reset,
    /// The session that reserved the LUN is gone.
    ReserverLost(NexusHandle),
    /// RESERVE (SPC-2 7.21).
    Reserve(Who),
    /// RELEASE (SPC-2 7.16).
    Release(Who),
    /// MODE SELECT (SPC-4 6.11).
    ModeSelect {
        /// Whose.
        who: Who,
        /// What it selects.
        select: ModeSelection,
    },
}

/// What a MODE SELECT changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ModeSelection {
    /// SP: the saved values change too.
    pub save: bool,
    /// SWP, if its page was sent.
    pub write_protect: Option<bool>,
    /// WCE, if its page was sent.
    pub write_cache: Option<bool>,
}

impl Event {
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
                body.put_u8(u8::from(select.save));
                put_option_bool(body, select.write_protect);
                put_option_bool(body, select.write_cache);
            }
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(match reader.u8()? {
            0 => Self::Reset,
            1 => Self::ReserverLost(NexusHandle::read(reader)?),
            2 => Self::Reserve(Who::read(reader)?),
            3 => Self::Release(Who::read(reader)?),
            4 => Self::ModeSelect {
                who: Who::read(reader)?,
                select: ModeSelection {
                    save: reader.bool()?,
                    write_protect: option_bool(reader)?,
                    write_cache: option_bool(reader)?,
                },
            },
            _ => return Err(FrameError::Content),
        })
    }
}
