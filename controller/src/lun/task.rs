//! What a LUN core has in flight, and what it asks to be done.

use protocol::block::BlockRange;
use protocol::interlink::{Ending, GenerationTag, Message, WireOp};

use super::operation::{is_atomic, ranges, to_disk, to_wire, wire_write};
use super::resync::Refused;
use crate::command::{Data, NexusId, Op, Outcome, TaskTag};
use crate::disk::{DiskError, DiskIo};
use crate::exclusive::{Mode, Ranges};
use crate::link::{LinkId, Via};
use crate::pair::PairFault;
use crate::time::Time;
use crate::volume::stack::VolumeId;
use crate::world::Ticket;

/// Who waits for the end of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// A host of this controller.
    Host {
        /// Its nexus.
        nexus: NexusId,
        /// Its task.
        tag: TaskTag,
    },
    /// The peer forwarded it.
    Peer {
        /// By this bridge; it is answered there.
        link: LinkId,
        /// Under this name.
        id: u64,
    },
    /// A piece of the copy to the peer.
    Copy,
    /// A piece of this run of a sanitize operation.
    Sanitize(u32),
    /// An event's flush, of this number.
    Event(u32),
    /// Nobody any more: a piece of a copy that was given up.
    Nobody,
}

/// What a task waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Its ranges are held by others. Not admitted.
    Range,
    /// The peer's buffers are full. It holds its ranges, but nobody has begun.
    Credit,
    /// The lease: a READ of the sub's own copy whose data is there.
    Lease,
    /// Its own volume's data: a READ, the compare half of COMPARE AND WRITE, the blocks of an ORWRITE, or a piece
    /// to copy.
    Read,
    /// Its legs.
    Legs,
}

/// One of the copies a change goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leg {
    /// This copy takes no part.
    None,
    /// On its way.
    Writing,
    /// Written, being made durable.
    Flushing,
    /// Durable, being read back.
    Verifying,
    /// As durable as asked.
    Done,
    /// The interlink went away first: nobody knows.
    Lost,
}

impl Leg {
    /// The copy takes no part, has it as asked, or will not have it by this leg.
    pub(super) const fn has_ended(self) -> bool {
        match self {
            Self::None | Self::Done | Self::Lost => true,
            Self::Writing | Self::Flushing | Self::Verifying => false,
        }
    }
}

/// How far a change has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Legs {
    pub(super) own: Leg,
    pub(super) peer: Leg,
}

/// A command admitted or waiting to be admitted here: at main, or a read of the sub's own copy.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) origin: Origin,
    /// Counts the commands that ever came.
    pub(super) number: u64,
    pub(super) op: Op,
    pub(super) ranges: Ranges,
    pub(super) mode: Mode,
    pub(super) durable: bool,
    pub(super) received: Time,
    pub(super) stage: Stage,
    /// Given when it is admitted as a change of a mirrored LUN; zero before.
    pub(super) sequence: u64,
    pub(super) own: Leg,
    pub(super) peer: Leg,
    /// Its own copy could not take it.
    pub(super) failed: Option<DiskError>,
    /// Bytes it has of the peer's buffers.
    pub(super) credit: u64,
    /// What an ORWRITE is going to write, once its blocks were read; the op keeps what its host sent. Empty for
    /// every other command.
    pub(super) result: Data,
    /// The local copy could not take it, and the peer's is to be made equal before its ranges are free: what is left of
    /// them to be copied again.
    pub(super) copied_again: Option<Vec<BlockRange>>,
}

impl Task {
    /// A command that has come as the `number`th and holds nothing yet.
    pub(super) fn new(origin: Origin, number: u64, op: Op, durable: bool, received: Time) -> Self {
        let (ranges, mode) = ranges(&op);
        Self {
            origin,
            number,
            op,
            ranges,
            mode,
            durable,
            received,
            stage: Stage::Range,
            sequence: 0,
            own: Leg::None,
            peer: Leg::None,
            failed: None,
            credit: 0,
            result: Data::new(),
            copied_again: None,
        }
    }

    /// The own leg begins: its disk I/O, and whether that is all or nothing. None if the local copy takes no part: a
    /// piece of the copy to the peer came from there.
    pub(super) fn begin_own_leg(&mut self) -> Option<(DiskIo, bool)> {
        if self.origin == Origin::Copy && !matches!(self.op, Op::SynchronizeCache) {
            self.own = Leg::None;
            return None;
        }
        let io = self.io();
        self.own = if io == DiskIo::Flush { Leg::Flushing } else { Leg::Writing };
        Some((io, is_atomic(&self.op)))
    }

    /// The local disk has done what the own leg asked of it: what it asks next, or nothing when the local copy has the
    /// change as it was to.
    pub(super) fn own_leg_goes_on(&mut self) -> Option<DiskIo> {
        let (leg, io) = match (self.own, &self.op) {
            (Leg::Writing, _) if self.durable => (Leg::Flushing, Some(DiskIo::Flush)),
            (Leg::Flushing, Op::WriteAndVerify { range, data }) => {
                (Leg::Verifying, Some(DiskIo::Verify { range: *range, data: data.clone() }))
            }
            _ => (Leg::Done, None),
        };
        self.own = leg;
        io
    }

    /// The local copy has a change that the peer forwarded, and the peer's takes it: the peer hears so.
    pub(super) fn done(&self, generation: GenerationTag) -> Option<Action> {
        match (self.origin, self.peer) {
            (Origin::Peer { link, id }, Leg::Writing | Leg::Done) => {
                let (via, message) = (Via::Link(link), Message::Done { id });
                Some(Action::Send { via, message, payload: Data::new(), generation })
            }
            _ => None,
        }
    }

    /// What the local copy refuses of it, where the peer's may have it.
    pub(super) fn refused(&self) -> Refused<'_> {
        match self.own {
            Leg::Flushing if self.origin == Origin::Copy => Refused::OwnFlush,
            Leg::Flushing => Refused::Flush,
            _ => Refused::Change(self.ranges.as_slice()),
        }
    }

    /// How far its copies are.
    pub(super) const fn legs(&self) -> Legs {
        Legs { own: self.own, peer: self.peer }
    }

    /// The disk I/O of the own leg.
    fn io(&self) -> DiskIo {
        match &self.op {
            Op::OrWrite { range, .. } => DiskIo::Write { range: *range, data: self.result.clone() },
            op => to_disk(op),
        }
    }

    /// What the peer's copy is to take, for a change that it does not hold already.
    pub(super) fn apply_op(&self) -> (WireOp, Data) {
        match &self.op {
            // What was compared does not travel: the peer gets a plain write.
            Op::CompareAndWrite { range, write, .. } => (wire_write(*range), write.clone()),
            // Nor does what was read: the peer gets what came of it.
            Op::OrWrite { range, .. } => (wire_write(*range), self.result.clone()),
            op => to_wire(op),
        }
    }

    /// A piece of a copy or of a sanitize operation, or an event's flush, that is given up: it must not count for the
    /// next one. What was only for the peer has no leg left to wait for.
    pub(super) fn forget_copy(&mut self) {
        self.copied_again = None;
        match self.origin {
            Origin::Copy => {
                self.origin = Origin::Nobody;
                self.peer = Leg::None;
            }
            Origin::Sanitize(_) | Origin::Event(_) => self.origin = Origin::Nobody,
            Origin::Host { .. } | Origin::Peer { .. } | Origin::Nobody => {}
        }
    }

    /// The peer, or its word about a change, is out of reach. What the task had of the peer's buffers.
    pub(super) fn lose_peer(&mut self) -> u64 {
        if self.peer == Leg::Writing {
            self.peer = Leg::Lost;
        }
        core::mem::take(&mut self.credit)
    }

    /// Nobody has begun with it: it can be taken back as if it had never come.
    pub(super) const fn has_begun_nothing(&self) -> bool {
        matches!(self.stage, Stage::Range | Stage::Credit)
    }

    /// A host's, of either controller, that waits for its ranges and can do so at the gate as well.
    pub(super) const fn can_make_way(&self) -> bool {
        matches!((self.stage, self.origin), (Stage::Range, Origin::Host { .. } | Origin::Peer { .. }))
    }

    /// Both legs have ended, one of them without the change: what becomes of it is decided with the pair.
    pub(super) fn awaits_decision(&self) -> bool {
        let ended = |leg| matches!(leg, Leg::Done | Leg::Lost);
        self.stage == Stage::Legs && ended(self.own) && ended(self.peer)
    }
}

/// What a LUN core asks to be done. Any order, any time later.
#[derive(Debug)]
pub enum Action {
    /// A message for the peer.
    Send {
        /// By which connection.
        via: Via,
        /// What.
        message: Message,
        /// Its data.
        payload: Data,
        /// As of which generation.
        generation: GenerationTag,
    },
    /// Disk I/O on a volume of this LUN.
    Disk {
        /// Which.
        volume: VolumeId,
        /// What.
        io: DiskIo,
        /// What its completion is called.
        ticket: Ticket,
    },
    /// A host's command has ended.
    Answer {
        /// Whose.
        nexus: NexusId,
        /// Which.
        tag: TaskTag,
        /// How.
        outcome: Outcome,
    },
    /// The durable part of the shared state.
    Persist {
        /// Its record.
        record: Vec<u8>,
        /// What its completion is called.
        ticket: Ticket,
    },
    /// The pair broke here, as of this generation.
    Broken(PairFault, GenerationTag),
    /// Both copies are whole and flushed, as of this generation.
    CopyComplete(GenerationTag),
    /// An event ends an EXTENDED COPY that has a permit here.
    Revoked {
        /// Whose.
        nexus: NexusId,
        /// Its initiator task tag.
        task: u32,
    },
    /// The LUN is reset.
    WasReset,
    /// What it has to do in the background has changed: the queue is to look ([`crate::background`]).
    Background,
}

/// Whose disk I/O it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Slot {
    Task(u32),
    Apply(u32),
}

impl Slot {
    /// The same as a holder of ranges.
    pub(super) fn holder(self) -> u32 {
        match self {
            Self::Task(slot) => slot << 1,
            Self::Apply(slot) => slot << 1 | 1,
        }
    }

    pub(super) fn of_holder(holder: u32) -> Self {
        if holder & 1 == 0 { Self::Task(holder >> 1) } else { Self::Apply(holder >> 1) }
    }
}

/// Tells the origin of a command how it ended; what this controller does by itself hears it elsewhere.
pub(super) fn end(origin: Origin, outcome: Outcome, generation: GenerationTag) -> Option<Action> {
    match origin {
        Origin::Host { nexus, tag } => Some(Action::Answer { nexus, tag, outcome }),
        Origin::Peer { link, id } => {
            let (ending, payload) = match outcome {
                Outcome::Good(data) => (Ending::Good, data),
                Outcome::Check(sense) => (Ending::Check(sense), Data::new()),
                Outcome::Status(status) => (Ending::Status(status), Data::new()),
                Outcome::Aborted => (Ending::Aborted, Data::new()),
            };
            let message = Message::Ended { id, ending };
            Some(Action::Send { via: Via::Link(link), message, payload, generation })
        }
        Origin::Copy | Origin::Sanitize(_) | Origin::Event(_) | Origin::Nobody => None,
    }
}

/// A forwarded command that was not admitted goes back to the gate it came in by.
pub(super) fn send_back(link: LinkId, id: u64, generation: GenerationTag) -> Action {
    let (message, payload) = (Message::Ended { id, ending: Ending::Stale }, Data::new());
    Action::Send { via: Via::Link(link), message, payload, generation }
}
