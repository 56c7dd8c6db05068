//! SANITIZE (SBC-4 4.11) as a part of the state that both controllers share of a LUN.

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::FrameError;
use super::wire::{Reader, put_list};
use crate::block::BLOCK_BYTES;
use crate::scsi::sanitize::Method;
use crate::scsi::sense::Sense;

/// A sanitize operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// What becomes of the blocks.
    pub method: Method,
    /// AUSE: unrestricted completion mode.
    pub ause: bool,
}

/// How far an operation is, durably and on both copies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Position {
    /// The pass it is in, from zero.
    pub pass: u8,
    /// The first block that this pass has still to go over.
    pub next: u64,
}

/// Where a LUN stands with sanitize operations.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Sanitize {
    /// None is under way, and the last has not failed.
    #[default]
    Idle,
    /// One is under way: hosts reach no block until it is over.
    UnderWay {
        /// The operation that was ordered.
        order: Order,
        /// How far it is.
        at: Position,
    },
    /// The last has failed.
    Failed {
        /// Its AUSE: EXIT FAILURE MODE ends this.
        ause: bool,
    },
    /// The last was a format, and has failed: another one, or a sanitize operation, ends this.
    FormatFailed,
}

/// What has become of an operation since its last [`Position`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// It is so far.
    To(Position),
    /// It is over.
    Done,
    /// The only copy could not take it.
    Failed,
}

/// In place of a number of passes, of which there are 31 at most, and of AUSE.
const FORMAT: u8 = 32;

impl Order {
    /// For a peer of version 1 of the interlink, which cannot read of a format: a block erase makes the same of every
    /// block.
    #[must_use]
    pub fn in_version_1(self) -> Self {
        let method = if self.method == Method::Format { Method::BlockErase } else { self.method };
        Self { method, ..self }
    }

    pub(super) fn put(&self, body: &mut BytesMut) {
        body.put_u8(u8::from(self.ause));
        match &self.method {
            Method::BlockErase => body.put_u8(0),
            Method::Format => body.put_u8(FORMAT),
            Method::Overwrite { pattern, invert, passes } => {
                body.put_slice(&[*passes, u8::from(*invert)]);
                put_list(body, BLOCK_BYTES as usize, pattern, |body, byte| body.put_u8(*byte));
            }
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        let ause = reader.bool()?;
        let method = match reader.u8()? {
            0 => Method::BlockErase,
            passes @ 1..=31 => {
                let invert = reader.bool()?;
                let pattern = Bytes::from(reader.list(BLOCK_BYTES as usize, Reader::u8)?);
                if pattern.is_empty() {
                    return Err(FrameError::Content);
                }
                Method::Overwrite { pattern, invert, passes }
            }
            FORMAT => Method::Format,
            _ => return Err(FrameError::Content),
        };
        Ok(Self { method, ause })
    }
}

impl Position {
    pub(super) fn put(self, body: &mut BytesMut) {
        body.put_u8(self.pass);
        body.put_u64(self.next);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Self { pass: reader.u8()?, next: reader.u64()? })
    }
}

impl Sanitize {
    /// For a peer of version 1 of the interlink; see [`Order::in_version_1`].
    #[must_use]
    pub fn in_version_1(self) -> Self {
        match self {
            Self::UnderWay { order, at } => Self::UnderWay { order: order.in_version_1(), at },
            Self::FormatFailed => Self::Failed { ause: true },
            Self::Idle | Self::Failed { .. } => self,
        }
    }

    /// How a command ends that is not let pass while an operation is under way, so many 65536ths done, or after it has
    /// failed.
    #[must_use]
    pub const fn sense(&self, progress: u16) -> Option<Sense> {
        match self {
            Self::Idle => None,
            Self::UnderWay { order, .. } => Some(order.method.in_progress(progress)),
            Self::Failed { .. } => Some(Sense::SANITIZE_FAILED),
            Self::FormatFailed => Some(Sense::FORMAT_FAILED),
        }
    }

    /// Nothing at all while idle: what a release without SANITIZE wrote is read, and it reads this.
    pub(super) fn put(&self, body: &mut BytesMut) {
        match self {
            Self::Idle => {}
            Self::UnderWay { order, at } => {
                body.put_u8(1);
                order.put(body);
                at.put(body);
            }
            Self::Failed { ause } => body.put_slice(&[2, u8::from(*ause)]),
            Self::FormatFailed => body.put_slice(&[2, FORMAT]),
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        if reader.end().is_ok() {
            return Ok(Self::Idle);
        }
        Ok(match reader.u8()? {
            1 => Self::UnderWay { order: Order::read(reader)?, at: Position::read(reader)? },
            2 => match reader.u8()? {
                FORMAT => Self::FormatFailed,
                ause @ 0..=1 => Self::Failed { ause: ause == 1 },
                _ => return Err(FrameError::Content),
            },
            _ => return Err(FrameError::Content),
        })
    }
}

impl Step {
    pub(super) fn put(self, body: &mut BytesMut) {
        match self {
            Self::To(at) => {
                body.put_u8(0);
                at.put(body);
            }
            Self::Done => body.put_u8(1),
            Self::Failed => body.put_u8(2),
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(match reader.u8()? {
            0 => Self::To(Position::read(reader)?),
            1 => Self::Done,
            2 => Self::Failed,
            _ => return Err(FrameError::Content),
        })
    }
}
