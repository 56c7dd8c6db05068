//! The copy manager: EXTENDED COPY (SPC-4 6.4) between LUNs of this appliance. A plain core: what happens goes
//! in, [`Act`]s come out.
//!
//! A segment is copied piece by piece: a READ of the source, then a WRITE of the destination, each a command of its own
//! that comes in by `Controller::command` in the asking nexus's name, with a tag that names the task and the piece
//! ([`TaskTag::piece`]). So each piece takes the way of any host's command: to main or not, under the reservations that
//! hold then, waiting for ranges, onto both copies, and never executed when it is too old. Nothing is held from one
//! piece to the next.
//!
//! ```text
//!   begun ──► Reading ──data──► Writing ──GOOD──► done
//!             │     ▲           │     ▲
//!             └─BUSY┴──► Again ◄┴BUSY─┘   at the next tick it is read, or written, again
//!
//!   any other end of either: the copy has failed, nothing more is begun
//! ```
//!
//! * **Segments** are processed in their order, one after the other; the pieces of one beside each other, at most
//!   [`EXTENDED_COPY_CHUNKS_MAX`]. Where source and destination overlap it is one piece after the other, from the end
//!   that no piece has overwritten yet.
//! * **Who ends a copy**: an abort of its task, the end of its session, a reset of a LUN it uses, a PREEMPT that takes
//!   its nexus's registration or reservation there. Each takes away its *permit* at the LUNs
//!   (`lun/copy_permits.rs`): a piece that comes to a LUN without a permit is refused, under that LUN's lock. What is
//!   under way is given up like any command. The copy is answered when its last piece has ended, and the request that
//!   ended it after that: so none of it is written afterwards.
//! * **No crash point matters**: nothing of a copy is kept. What was written are writes of that host, each whole on
//!   both copies or not answered; the host hears nothing of the rest and copies again.
//! * A copy that takes longer than [`EXTENDED_COPY_TIME_MAX`] begins no more pieces. It ends with COPY ABORTED, and the
//!   host knows from the sense data where to go on.

mod driver;
#[cfg(test)]
mod duo_tests;
mod results;
mod running;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use protocol::scsi::extended_copy::CopyStatus;
use protocol::scsi::sense::{Sense, Status};

pub use self::driver::CopyDriver;
use self::results::{Kept, Results};
use self::running::{Over, Running};
use crate::command::{COMMAND_AGE_MAX, Command, LunIndex, NexusId, Outcome, TaskTag};
use crate::status::{LimitStatus, compared, counted};
use crate::time::Time;

/// EXTENDED COPY commands under way on one controller at most.
pub const EXTENDED_COPIES_MAX: usize = 16;

/// Pieces of one EXTENDED COPY under way at most.
pub const EXTENDED_COPY_CHUNKS_MAX: usize = 4;

/// Blocks of one piece at most: 512 KiB. With the two bounds above, 32 MiB are in memory for copies at most.
pub const EXTENDED_COPY_CHUNK_BLOCKS_MAX: u32 = 1024;

/// After this time a copy begins no more pieces: with the age of the last of them it has ended within ten seconds.
pub const EXTENDED_COPY_TIME_MAX: Duration = Duration::from_secs(5);

/// Copies that have ended and whose list identifiers are remembered, on one controller at most; the oldest is
/// forgotten.
pub const COPY_RESULTS_MAX: usize = 1024;

/// Copies that have ended and whose list identifiers are remembered for one I_T nexus at most.
pub const NEXUS_COPY_RESULTS_MAX: usize = 8;

/// One segment: blocks of one LUN that another, or the same, is to have too. Ranges were checked against capacities.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Where they are, and the first of them.
    pub source: (LunIndex, u64),
    /// Where they go, and the first of those.
    pub destination: (LunIndex, u64),
    /// How many.
    pub blocks: u32,
}

/// A list identifier: one for each I_T nexus and logical unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListName {
    /// LIST IDENTIFIER.
    pub id: u8,
    /// What comes of the copy is kept when it has ended.
    pub hold: bool,
}

/// An EXTENDED COPY command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyOrder {
    /// The LUN it was sent to.
    pub lun: LunIndex,
    /// The nexus it came by.
    pub nexus: NexusId,
    /// Its initiator task tag.
    pub task: u32,
    /// Its list identifier, if it has one.
    pub list: Option<ListName>,
    /// What to copy; or, for a segment that cannot be, how the command ends when its turn has come.
    pub segments: Vec<Result<Segment, Sense>>,
    /// When its CDB arrived.
    pub received: Time,
}

/// What the copy manager asks to be done, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    /// A LUN lets pieces of a copy pass.
    Permit(LunIndex, NexusId, u32),
    /// It lets none pass any more.
    Revoke(LunIndex, NexusId, u32),
    /// No piece of the copy is under way any more.
    EndPermit(LunIndex, NexusId, u32),
    /// A piece is to be executed like a host's command.
    Ask(Command),
    /// A piece is to be given up if it was not admitted.
    Abort(LunIndex, NexusId, TaskTag),
    /// The EXTENDED COPY has ended.
    Answer(NexusId, TaskTag, Outcome),
}

/// How far a copy is or came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// COPY MANAGER STATUS.
    pub status: CopyStatus,
    /// Segments that were processed, with the one that is being.
    pub segments: u16,
    /// Bytes written.
    pub bytes: u32,
}

/// The copy manager of one controller.
#[derive(Debug, Default)]
pub struct CopyManager {
    /// By nexus and initiator task tag.
    copies: BTreeMap<(NexusId, u32), Running>,
    results: Results,
    acts: VecDeque<Act>,
    peak: usize,
}

impl CopyManager {
    /// The next thing to do.
    pub fn next_act(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    /// Whether something is to be done.
    #[must_use]
    pub fn has_acts(&self) -> bool {
        !self.acts.is_empty()
    }

    /// An EXTENDED COPY command.
    pub fn begin(&mut self, order: CopyOrder, now: Time) {
        let key = (order.nexus, order.task);
        if let Err(outcome) = self.may_begin(&order, now) {
            self.acts.push_back(Act::Answer(order.nexus, TaskTag::of(order.task), outcome));
            return;
        }
        if let Some(list) = order.list {
            self.results.forget(order.nexus, order.lun, list.id);
        }
        let running = Running::new(order, now);
        self.acts.extend(running.luns().iter().map(|lun| Act::Permit(*lun, key.0, key.1)));
        self.copies.insert(key, running);
        self.peak = self.peak.max(self.copies.len());
        self.go_on(key, now);
    }

    fn may_begin(&self, order: &CopyOrder, now: Time) -> Result<(), Outcome> {
        if now.since(order.received) >= COMMAND_AGE_MAX {
            return Err(Outcome::Status(Status::Busy));
        }
        if let Some(list) = order.list
            && self.find(order.nexus, order.lun, list.id).is_some()
        {
            return Err(Outcome::Check(Sense::OPERATION_IN_PROGRESS));
        }
        if self.copies.len() < EXTENDED_COPIES_MAX {
            return Ok(());
        }
        // TASK SET FULL to a nexus with none under way would make it wait for ever for its own to end (SAM-5 5.3.1).
        let own = self.copies.keys().any(|(nexus, _)| *nexus == order.nexus);
        Err(Outcome::Status(if own { Status::TaskSetFull } else { Status::Busy }))
    }

    fn find(&self, nexus: NexusId, lun: LunIndex, list: u8) -> Option<&Running> {
        self.copies.values().find(|running| running.is_named(nexus, lun, list))
    }

    /// A piece has ended.
    pub fn on_piece(&mut self, nexus: NexusId, tag: TaskTag, outcome: Outcome, now: Time) {
        let key = (nexus, tag.task());
        if let Some(running) = self.copies.get_mut(&key) {
            running.on_piece(tag.number(), outcome, &mut self.acts, now);
            self.go_on(key, now);
        }
    }

    /// The task is to be given up: by an abort, or because a LUN has revoked its permit.
    pub fn give_up(&mut self, nexus: NexusId, task: u32, now: Time) {
        let key = (nexus, task);
        if let Some(running) = self.copies.get_mut(&key) {
            running.give_up(&mut self.acts);
            self.go_on(key, now);
        }
    }

    /// An I_T nexus is gone, and with it its list identifiers.
    pub fn nexus_lost(&mut self, nexus: NexusId, now: Time) {
        self.results.forget_nexus(nexus);
        let lost: Vec<u32> =
            self.copies.keys().filter(|(owner, _)| *owner == nexus).map(|(_, task)| *task).collect();
        for task in lost {
            self.give_up(nexus, task, now);
        }
    }

    /// A LUN was reset: what was known of copies that were sent to it is not any more.
    pub fn was_reset(&mut self, lun: LunIndex) {
        self.results.forget_lun(lun);
    }

    /// Time has passed.
    pub fn on_tick(&mut self, now: Time) {
        let keys: Vec<_> = self.copies.keys().copied().collect();
        for key in keys {
            if let Some(running) = self.copies.get_mut(&key) {
                running.on_tick(&mut self.acts, now);
            }
            self.go_on(key, now);
        }
    }

    /// Begins what may begin, and ends a copy of which nothing is under way.
    fn go_on(&mut self, key: (NexusId, u32), now: Time) {
        let Some(running) = self.copies.get_mut(&key) else {
            return;
        };
        let Some(over) = running.go_on(&mut self.acts, now) else {
            return;
        };
        let Some(running) = self.copies.remove(&key) else {
            return;
        };
        self.acts.extend(running.luns().iter().map(|lun| Act::EndPermit(*lun, key.0, key.1)));
        let (status, outcome, sense) = match over {
            Over::Done => (CopyStatus::Completed, Outcome::Good(Vec::new()), None),
            Over::Failed(sense) => (CopyStatus::Failed, Outcome::Check(sense), Some(sense)),
            Over::GivenUp => (CopyStatus::Failed, Outcome::Aborted, None),
        };
        if let (Some(list), false) = (running.held_list(), over == Over::GivenUp) {
            let progress = Progress { status, ..running.progress() };
            self.results.keep(key.0, running.lun(), list, Kept { progress, sense });
        }
        self.acts.push_back(Act::Answer(key.0, TaskTag::of(key.1), outcome));
    }

    /// What always holds of copies, whatever came before.
    ///
    /// # Panics
    ///
    /// If something does not hold.
    pub fn check(&self) {
        assert!(self.copies.len() <= self.peak && self.peak <= EXTENDED_COPIES_MAX, "too many copies");
        let mut names: Vec<_> = self.copies.values().filter_map(Running::name).collect();
        let copies = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), copies, "two copies of one list identifier");
        self.copies.values().for_each(Running::check);
        let (results, most) = self.results.counts();
        assert!(results <= COPY_RESULTS_MAX && most <= NEXUS_COPY_RESULTS_MAX, "too many results");
    }

    /// How far the copy of a list identifier is or came; `None` if there is none.
    #[must_use]
    pub fn progress(&self, nexus: NexusId, lun: LunIndex, list: u8) -> Option<Progress> {
        let running = self.find(nexus, lun, list).map(Running::progress);
        running.or_else(|| self.results.get(nexus, lun, list).map(|kept| kept.progress))
    }

    /// Why the copy of a list identifier failed, if it did; `None` if there is no such copy that has ended.
    #[must_use]
    pub fn failure(&self, nexus: NexusId, lun: LunIndex, list: u8) -> Option<Option<Sense>> {
        self.results.get(nexus, lun, list).map(|kept| kept.sense)
    }

    /// Why a copy failed has been told (it is told once).
    pub fn failure_told(&mut self, nexus: NexusId, lun: LunIndex, list: u8) {
        self.results.failure_told(nexus, lun, list);
    }

    /// The limits, with their use.
    #[must_use]
    pub fn limits(&self) -> Vec<LimitStatus> {
        let pieces = self.copies.values().map(Running::pieces).max().unwrap_or(0);
        let time = u64::try_from(EXTENDED_COPY_TIME_MAX.as_millis()).unwrap_or(u64::MAX);
        let (results, most) = self.results.counts();
        vec![
            counted(
                "EXTENDED_COPIES_MAX",
                "EXTENDED COPY commands",
                EXTENDED_COPIES_MAX as u64,
                self.copies.len() as u64,
                Some(self.peak as u64),
            ),
            counted(
                "EXTENDED_COPY_CHUNKS_MAX",
                "pieces of one EXTENDED COPY",
                EXTENDED_COPY_CHUNKS_MAX as u64,
                pieces as u64,
                None,
            ),
            compared(
                "EXTENDED_COPY_CHUNK_BLOCKS_MAX",
                "blocks of one piece of an EXTENDED COPY",
                u64::from(EXTENDED_COPY_CHUNK_BLOCKS_MAX),
            ),
            compared("EXTENDED_COPY_TIME_MAX", "ms", time),
            counted(
                "COPY_RESULTS_MAX",
                "list identifiers of ended EXTENDED COPY commands",
                COPY_RESULTS_MAX as u64,
                results as u64,
                None,
            ),
            counted(
                "NEXUS_COPY_RESULTS_MAX",
                "list identifiers of ended EXTENDED COPY commands, per session",
                NEXUS_COPY_RESULTS_MAX as u64,
                most as u64,
                None,
            ),
        ]
    }
}
