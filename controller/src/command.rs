//! The one door: a command from a host port and one forwarded by the peer enter the controller alike.
//!
//! What passes the door is decoded: the device server of the front end has checked the CDB and turned it into
//! an [`Op`]. What comes back is an [`Outcome`]. Commands that only describe the LUN (INQUIRY, READ CAPACITY,
//! MODE SENSE, ...) are answered by the device server itself after asking [`Admission`] questions of the LUN.

use core::time::Duration;

use bytes::Bytes;
use protocol::block::BlockRange;
use protocol::interlink::Report;
use protocol::interlink::event::Event;
use protocol::scsi::provisioning::{LBA_STATUS_DESCRIPTOR_BYTES, LBA_STATUS_HEADER_BYTES};
use protocol::scsi::sense::{Sense, Status};

use crate::time::Time;

/// A command not admitted by this age is never executed and gets BUSY. Below the 5 s after which multipath has
/// usually tried the other path.
pub const COMMAND_AGE_MAX: Duration = Duration::from_secs(4);

/// Bytes of what one GET LBA STATUS or LOG SENSE tells at most: a header and 256 descriptors.
pub const REPORT_BYTES_MAX: u64 = LBA_STATUS_HEADER_BYTES as u64 + 256 * LBA_STATUS_DESCRIPTOR_BYTES as u64;

/// An I_T nexus of this controller (SAM-5 4.5): one iSCSI session. Never reused within an incarnation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NexusId(pub u64);

/// The initiator's end of an I_T nexus.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Initiator {
    /// Its iSCSI name, in lower case (RFC 7143 4.2.7).
    pub name: String,
    /// Its part of the session id.
    pub isid: [u8; 6],
}

/// A command's name within its nexus while it lives: the initiator task tag (RFC 7143 11.2.1.8) in the low 32 bits;
/// above them zero, or for what the copy manager asks in the name of an EXTENDED COPY the number of that piece.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TaskTag(pub u64);

impl TaskTag {
    /// The task that a host named so.
    #[must_use]
    pub const fn of(task: u32) -> Self {
        Self(task as u64)
    }

    /// A piece of that task's work; `number` is not zero.
    #[must_use]
    pub const fn piece(task: u32, number: u32) -> Self {
        Self((number as u64) << 32 | task as u64)
    }

    /// The initiator task tag.
    #[must_use]
    pub const fn task(self) -> u32 {
        self.0 as u32
    }

    /// The number of a piece; zero for what a host sent.
    #[must_use]
    pub const fn number(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether the copy manager asks, and not a host.
    #[must_use]
    pub const fn is_piece(self) -> bool {
        self.number() != 0
    }
}

/// A LUN's place in this controller's table of LUNs; not the LUN number hosts use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LunIndex(pub u16);

/// Data that came from or goes to a host, in pieces as they were received; never copied to join them.
pub type Data = Vec<Bytes>;

/// What a command asks of the LUN's blocks. Ranges were checked against the capacity, data against the range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// READ.
    Read {
        /// Blocks to read; not empty.
        range: BlockRange,
    },
    /// WRITE.
    Write {
        /// Blocks to write; not empty.
        range: BlockRange,
        /// Exactly the bytes of `range`.
        data: Data,
        /// Durable on every copy before GOOD.
        fua: bool,
    },
    /// WRITE ATOMIC (SBC-4 5.48): all or nothing through any crash, on every copy.
    WriteAtomic {
        /// Blocks to write; not empty, at most [`crate::volume::redo::ATOMIC_BLOCKS_MAX`].
        range: BlockRange,
        /// Exactly the bytes of `range`.
        data: Data,
        /// Durable on every copy before GOOD.
        fua: bool,
    },
    /// WRITE SAME: one block all over the range. With `unmap` the range may become a hole if the block is zero.
    WriteSame {
        /// Blocks to write; not empty.
        range: BlockRange,
        /// One logical block.
        block: Bytes,
        /// The UNMAP bit.
        unmap: bool,
    },
    /// COMPARE AND WRITE (SBC-3 5.3): all or nothing.
    CompareAndWrite {
        /// Blocks to compare and write; not empty, at most [`crate::volume::redo::ATOMIC_BLOCKS_MAX`].
        range: BlockRange,
        /// What the blocks must hold; the bytes of `range`.
        compare: Data,
        /// What they then become; the bytes of `range`.
        write: Data,
        /// Durable on every copy before GOOD.
        fua: bool,
    },
    /// UNMAP: the ranges become holes and read as zeros.
    Unmap {
        /// Ascending; none empty, none overlapping or touching another.
        ranges: Vec<BlockRange>,
    },
    /// VERIFY: the blocks can be read, and hold what is expected.
    Verify {
        /// Blocks to read; not empty.
        range: BlockRange,
        /// Nothing (BYTCHK 00b), the bytes of `range` (01b), or one block that each must equal (11b).
        expected: Data,
    },
    /// WRITE AND VERIFY: durable on every copy and read back from there before GOOD.
    WriteAndVerify {
        /// Blocks to write; not empty.
        range: BlockRange,
        /// Exactly the bytes of `range`.
        data: Data,
    },
    /// ORWRITE: the blocks become what they are or the data is, bit by bit. One step, like COMPARE AND WRITE.
    OrWrite {
        /// Blocks to read and write; not empty, at most [`crate::volume::redo::ATOMIC_BLOCKS_MAX`].
        range: BlockRange,
        /// Exactly the bytes of `range`.
        data: Data,
        /// Durable on every copy before GOOD.
        fua: bool,
    },
    /// PRE-FETCH: the kernel is asked to read the range into its cache.
    Prefetch {
        /// Blocks to read; not empty.
        range: BlockRange,
    },
    /// START STOP UNIT without power conditions. A stopped unit has flushed both copies.
    StartStop {
        /// The START bit.
        start: bool,
    },
    /// What main tells of its volume, for both controllers.
    Report {
        /// The report that is asked for.
        what: Report,
        /// ALLOCATION LENGTH in bytes.
        allocation: u32,
    },
    /// SYNCHRONIZE CACHE: everything answered before is durable on every copy before GOOD.
    SynchronizeCache,
    /// What changes the LUN other than its blocks: see `lun/events/`.
    Event(Box<Event>),
}

/// A command at the door.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// Which LUN.
    pub lun: LunIndex,
    /// The nexus that sent it.
    pub nexus: NexusId,
    /// Which of the nexus's tasks; the outcome comes back under it.
    pub tag: TaskTag,
    /// What to do.
    pub op: Op,
    /// When its CDB arrived; its age counts from here.
    pub received: Time,
}

/// How a command ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// GOOD, with the data of a read (empty for everything else).
    Good(Data),
    /// CHECK CONDITION.
    Check(Sense),
    /// Any other status: BUSY, TASK SET FULL, RESERVATION CONFLICT.
    Status(Status),
    /// Cancelled by [`crate::unit::Controller::abort`] or a lost nexus before it was admitted: nothing was and
    /// nothing will be done.
    Aborted,
}

/// How a command that does not touch the medium stands towards unit attentions, reservations and the pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Always answered, leaves unit attentions pending: INQUIRY, REPORT LUNS (SAM-5 5.14).
    Always,
    /// REQUEST SENSE: takes the pending unit attention as its answer.
    RequestSense,
    /// Reports unit attentions, but is answered while the LUN cannot serve: REPORT TARGET PORT GROUPS.
    Attention,
    /// Reports unit attentions, and is answered as soon as the LUN's identity is known, served or not: READ CAPACITY.
    Known,
    /// The same, and conflicts with reservations as a read does: MODE SENSE.
    KnownReading,
    /// Reports unit attentions, and is refused while the LUN cannot serve: LOG SENSE.
    Ready,
    /// The same, and refused while the unit is stopped: TEST UNIT READY.
    Medium,
    /// As [`Admission::Ready`], and conflicts with reservations as a read does: READ DEFECT DATA.
    Reading,
    /// As [`Admission::Ready`], and conflicts with reservations as a change does: EXTENDED COPY, RECEIVE COPY RESULTS,
    /// PREVENT ALLOW MEDIUM REMOVAL that prevents.
    Changing,
}

/// What a command asks leave for, as reservations see it: the classes of the rows of SPC-4 tables 62 and 63 and SBC-3
/// table 13, and whether it passes a reservation by RESERVE (SPC-2 table 9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Passes every reservation: INQUIRY, REPORT LUNS, REQUEST SENSE.
    Always,
    /// Passes persistent reservations, not RESERVE: TEST UNIT READY, READ CAPACITY, LOG SENSE.
    Describe,
    /// Conflicts with the exclusive access types: READ and its like, MODE SENSE.
    Read,
    /// Conflicts with every type: WRITE and its like, SYNCHRONIZE CACHE, MODE SELECT.
    Write,
    /// Has rules of its own: RESERVE, RELEASE, PERSISTENT RESERVE IN and OUT.
    Own,
}

impl Op {
    /// What it asks leave for.
    #[must_use]
    pub fn access(&self) -> Access {
        match self {
            Self::Read { .. }
            | Self::Verify { .. }
            | Self::Prefetch { .. }
            | Self::Report { what: Report::LbaStatus { .. }, .. } => Access::Read,
            // LOG SENSE; START STOP UNIT passes with START only.
            Self::Report { what: Report::Provisioning { .. }, .. } | Self::StartStop { start: true } => {
                Access::Describe
            }
            Self::Write { .. }
            | Self::WriteAtomic { .. }
            | Self::WriteAndVerify { .. }
            | Self::WriteSame { .. }
            | Self::CompareAndWrite { .. }
            | Self::OrWrite { .. }
            | Self::Unmap { .. }
            | Self::StartStop { start: false }
            | Self::SynchronizeCache => Access::Write,
            Self::Event(event) => match **event {
                Event::ModeSelect { .. } | Event::Sanitize { .. } => Access::Write,
                Event::Reset
                | Event::Sanitized { .. }
                | Event::ReserverLost(_)
                | Event::Reserve(_)
                | Event::Release(_)
                | Event::ReserveIn { .. }
                | Event::ReserveOut { .. } => Access::Own,
            },
        }
    }

    /// Whether software write protection forbids it.
    #[must_use]
    pub fn changes_blocks(&self) -> bool {
        match self {
            Self::Write { .. }
            | Self::WriteAtomic { .. }
            | Self::WriteAndVerify { .. }
            | Self::WriteSame { .. }
            | Self::CompareAndWrite { .. }
            | Self::OrWrite { .. }
            | Self::Unmap { .. } => true,
            Self::Read { .. }
            | Self::Verify { .. }
            | Self::Prefetch { .. }
            | Self::Report { .. }
            | Self::StartStop { .. }
            | Self::SynchronizeCache => false,
            Self::Event(event) => matches!(**event, Event::Sanitize { order: Some(_), .. }),
        }
    }
}

impl Admission {
    /// What it asks leave for.
    #[must_use]
    pub const fn access(self) -> Access {
        match self {
            Self::Always | Self::RequestSense => Access::Always,
            Self::Attention | Self::Known | Self::Ready | Self::Medium => Access::Describe,
            Self::KnownReading | Self::Reading => Access::Read,
            Self::Changing => Access::Write,
        }
    }
}
