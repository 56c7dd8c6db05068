//! What a frame may ask of a LUN's blocks, and how a forwarded command ends.

use bytes::{BufMut, BytesMut};

use super::event::Event;
use super::frame::FrameError;
use super::wire::{Reader, put_list, put_range};
use crate::block::{BlockRange, Lba};
use crate::scsi::sense::{Asc, FieldPointer, Sense, SenseKey, Status};

/// Ranges of one UNMAP at most (the most that VPD page B0 may announce).
pub const RANGES_MAX: usize = 256;

/// An operation on a LUN's blocks as it crosses the interlink; its data is the frame's payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WireOp {
    /// READ.
    Read(BlockRange),
    /// WRITE; payload: the range's bytes.
    Write(BlockRange),
    /// WRITE AND VERIFY; payload: the range's bytes.
    WriteAndVerify(BlockRange),
    /// VERIFY; payload: nothing, the range's bytes, or one block that all of them must equal.
    Verify(BlockRange),
    /// ORWRITE; payload: the range's bytes. Only main works on it; what it makes of them travels back.
    OrWrite(BlockRange),
    /// WRITE ATOMIC, and what a COMPARE AND WRITE or an ORWRITE of several blocks writes: all or nothing through any
    /// crash. Payload: the range's bytes.
    WriteAtomic(BlockRange),
    /// PRE-FETCH.
    Prefetch(BlockRange),
    /// START STOP UNIT.
    StartStop {
        /// The START bit.
        start: bool,
    },
    /// What only main tells of its volume.
    Report {
        /// What is asked for.
        what: Report,
        /// ALLOCATION LENGTH in bytes.
        allocation: u32,
    },
    /// WRITE SAME; payload: one block.
    WriteSame {
        /// The blocks that are concerned.
        range: BlockRange,
        /// The UNMAP bit.
        unmap: bool,
    },
    /// COMPARE AND WRITE; payload: the bytes to compare, then those to write.
    CompareAndWrite(BlockRange),
    /// UNMAP.
    Unmap(Vec<BlockRange>),
    /// SYNCHRONIZE CACHE.
    SynchronizeCache,
    /// What changes the LUN other than its blocks.
    Event(Box<Event>),
}

/// What is told of a volume, by main for both controllers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report {
    /// GET LBA STATUS: which blocks are deallocated.
    LbaStatus {
        /// STARTING LOGICAL BLOCK ADDRESS.
        start: Lba,
    },
    /// LOG SENSE, Logical Block Provisioning page: how much of the volume's disk is in use and how much is free.
    Provisioning {
        /// PARAMETER POINTER: the first parameter wanted.
        pointer: u16,
    },
}

/// How a forwarded command ended at main.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// GOOD; payload: a read's data.
    Good,
    /// CHECK CONDITION.
    Check(Sense),
    /// Another status.
    Status(Status),
    /// Cancelled before it was admitted.
    Aborted,
    /// It was not admitted: the shared state it was checked against is not main's any more, or what it waits for is
    /// decided with the pair. It goes back to the controller it came to, which forwards it again.
    Stale,
}

pub(super) fn put_op(body: &mut BytesMut, op: &WireOp) {
    let (code, range) = match op {
        WireOp::Read(range) => (0, range),
        WireOp::Write(range) => (1, range),
        WireOp::WriteSame { range, unmap: false } => (2, range),
        WireOp::WriteSame { range, unmap: true } => (3, range),
        WireOp::CompareAndWrite(range) => (4, range),
        WireOp::Unmap(ranges) => {
            body.put_u8(5);
            put_list(body, RANGES_MAX, ranges, |body, range| put_range(body, *range));
            return;
        }
        WireOp::SynchronizeCache => {
            body.put_u8(6);
            return;
        }
        WireOp::WriteAndVerify(range) => (7, range),
        WireOp::Verify(range) => (8, range),
        WireOp::OrWrite(range) => (9, range),
        WireOp::Prefetch(range) => (10, range),
        WireOp::StartStop { start } => {
            body.put_slice(&[11, u8::from(*start)]);
            return;
        }
        WireOp::Report { what, allocation } => {
            match what {
                Report::LbaStatus { start } => {
                    body.put_u8(12);
                    body.put_u64(start.0);
                }
                Report::Provisioning { pointer } => {
                    body.put_u8(13);
                    body.put_u16(*pointer);
                }
            }
            body.put_u32(*allocation);
            return;
        }
        WireOp::WriteAtomic(range) => (14, range),
        WireOp::Event(event) => {
            body.put_u8(64);
            event.put(body);
            return;
        }
    };
    body.put_u8(code);
    put_range(body, *range);
}

pub(super) fn op(reader: &mut Reader<'_>) -> Result<WireOp, FrameError> {
    Ok(match reader.u8()? {
        0 => WireOp::Read(reader.range()?),
        1 => WireOp::Write(reader.range()?),
        2 => WireOp::WriteSame { range: reader.range()?, unmap: false },
        3 => WireOp::WriteSame { range: reader.range()?, unmap: true },
        4 => WireOp::CompareAndWrite(reader.range()?),
        5 => WireOp::Unmap(reader.list(RANGES_MAX, Reader::range)?),
        6 => WireOp::SynchronizeCache,
        7 => WireOp::WriteAndVerify(reader.range()?),
        8 => WireOp::Verify(reader.range()?),
        9 => WireOp::OrWrite(reader.range()?),
        10 => WireOp::Prefetch(reader.range()?),
        11 => WireOp::StartStop { start: reader.bool()? },
        12 => {
            let what = Report::LbaStatus { start: Lba(reader.u64()?) };
            WireOp::Report { what, allocation: reader.u32()? }
        }
        13 => {
            let what = Report::Provisioning { pointer: reader.u16()? };
            WireOp::Report { what, allocation: reader.u32()? }
        }
        14 => WireOp::WriteAtomic(reader.range()?),
        64 => WireOp::Event(Box::new(Event::read(reader)?)),
        _ => return Err(FrameError::Content),
    })
}

/// In place of a sense's field pointer: there is none.
const NO_FIELD: u32 = u32::MAX;

/// In place of a sense's field pointer: with this bit, its progress indication.
const PROGRESS: u32 = 1 << 17;

pub(super) fn put_ending(body: &mut BytesMut, ending: Ending) {
    match ending {
        Ending::Good => body.put_u8(0),
        Ending::Check(sense) => {
            body.put_slice(&[1, sense.key as u8, sense.code.0, sense.code.1]);
            body.put_u8(u8::from(sense.information.is_some()));
            body.put_u64(sense.information.unwrap_or(0));
            let progress = sense.progress.map_or(NO_FIELD, |progress| PROGRESS | u32::from(progress));
            let field =
                sense.field.map_or(progress, |field| u32::from(field.in_cdb) << 16 | u32::from(field.byte));
            body.put_u32(field);
        }
        Ending::Status(status) => body.put_slice(&[2, status as u8]),
        Ending::Aborted => body.put_u8(3),
        Ending::Stale => body.put_u8(4),
    }
}

pub(super) fn ending(reader: &mut Reader<'_>) -> Result<Ending, FrameError> {
    Ok(match reader.u8()? {
        0 => Ending::Good,
        1 => {
            let key = match reader.u8()? {
                0x0 => SenseKey::NoSense,
                0x1 => SenseKey::RecoveredError,
                0x2 => SenseKey::NotReady,
                0x3 => SenseKey::MediumError,
                0x4 => SenseKey::HardwareError,
                0x5 => SenseKey::IllegalRequest,
                0x6 => SenseKey::UnitAttention,
                0x7 => SenseKey::DataProtect,
                0xa => SenseKey::CopyAborted,
                0xb => SenseKey::AbortedCommand,
                0xe => SenseKey::Miscompare,
                _ => return Err(FrameError::Content),
            };
            let code = Asc(reader.u8()?, reader.u8()?);
            let known = reader.bool()?;
            let value = reader.u64()?;
            let (field, progress) = match reader.u32()? {
                NO_FIELD => (None, None),
                progress if progress & PROGRESS != 0 => (None, Some(progress as u16)),
                field => (Some(FieldPointer { in_cdb: field >> 16 & 1 == 1, byte: field as u16 }), None),
            };
            let information = known.then_some(value);
            Ending::Check(Sense { key, code, information, field, progress, copy: None })
        }
        2 => Ending::Status(match reader.u8()? {
            0x00 => Status::Good,
            0x08 => Status::Busy,
            0x18 => Status::ReservationConflict,
            0x28 => Status::TaskSetFull,
            0x40 => Status::TaskAborted,
            _ => return Err(FrameError::Content),
        }),
        3 => Ending::Aborted,
        4 => Ending::Stale,
        _ => return Err(FrameError::Content),
    })
}
