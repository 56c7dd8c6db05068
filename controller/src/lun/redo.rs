//! Writes of several blocks that are all or nothing through any crash: WRITE ATOMIC, COMPARE AND WRITE, ORWRITE. Here
//! the order in which one copy takes them; the format of the record and its replay are in [`crate::volume::redo`].
//!
//! ```text
//! Idle ─► Recording ─► Keeping ─► Placing ─► Settling ─► Clearing ─► Idle
//!         record       flush      blocks     flush       record
//!         written                 written                blotted out
//!                                    │ the copy has it: APPLIED, DONE, GOOD
//! ```
//!
//! From Recording to Clearing what changes a block of the same range waits; everything else passes. Nothing here asks
//! an ordinary write for more than a look at whether the stage is Idle.
//!
//! What always holds:
//! * **The record is durable before the first block is written** (Keeping before Placing). So at any crash either the
//!   record holds and its replay makes every block new, or no block is new.
//! * **The blocks are durable before the record goes** (Settling before Clearing), else half of them could be all that
//!   is left.
//! * **The record is gone before another change of its blocks begins** (Clearing before what waits): blotted out in
//!   the page cache, which is what is left when only the controller ends. Both lie in one file, so whatever makes the
//!   later change durable makes the going of the record durable with it. If the power goes before that, its replay may
//!   undo the later change, which nobody had made durable, and no other.
//! * With the write cache on, GOOD means both memories, and power loss may take the whole write back. It may not if
//!   the record is on the disk; it never tears it. With it off, or with FUA, a flush follows Placing before GOOD as it
//!   does for any other change.
//!
//! **The two copies** need nothing more. Each takes the write whole by itself. After a crash one of them is the source
//! of the other, or both are known to be equal and quiet (a clean end waits for Idle). A copy in between is made under
//! range holds, so it reads the source before or after the write; what a target has of it is no source.
//!
//! **One at a time**: all these commands hold one block behind every LUN's last (`REDO_RECORD` in [`super::operation`])
//! from before they read until both copies have them. Where they wait for it they are not admitted: they age, can be
//! given up, and no more than [`crate::exclusive::WAITERS_MAX`] do.
//!
//! **A disk that fails** while the record is written or kept: nothing was done, the record goes. While the blocks are
//! written or made durable: the stage is Stuck, the record stays for the next start, and only a later change of the
//! same blocks makes it go first. If it cannot, that change fails with the disk's error. No stage lets a change pass a
//! record. A PERSISTENT RESERVE OUT makes it go first too: else the next start would carry out a write that the answer
//! forbids. While the disk cannot, it waits, and is BUSY when it is too old.

use std::collections::VecDeque;

use protocol::block::BlockRange;

use super::task::Slot;
use crate::command::Data;
use crate::disk::{DiskError, DiskIo, DiskResult};

/// One change of the local copy.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) slot: Slot,
    pub(super) io: DiskIo,
    /// All or nothing; a write then.
    pub(super) atomic: bool,
}

/// A write under way.
#[derive(Debug)]
struct Write {
    slot: Slot,
    range: BlockRange,
    data: Data,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    Recording(Write),
    Keeping(Write),
    Placing(Write),
    Settling(BlockRange),
    Clearing(BlockRange),
    /// A disk that failed: the record may be there, and nothing is under way.
    Stuck(BlockRange),
}

/// What goes to the disk.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Go {
    /// Disk I/O whose completion comes back to [`Redo::on_disk`].
    Own(DiskIo),
    /// A change goes its way.
    Pass(Slot, DiskIo),
}

/// What is to be done next.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// To the disk.
    Go(Go),
    /// The copy has a change, or could not take it.
    Done(Slot, DiskResult),
    /// The disk failed while nobody waited for it.
    Failed(DiskError),
}

/// The redo record of one copy.
#[derive(Debug, Default)]
pub(super) struct Redo {
    stage: Stage,
    /// Changes that wait for the record to go, in their order. Each is a task or an apply, bounded as those are.
    waiting: VecDeque<Change>,
}

impl Redo {
    /// There is no record: every change that is not atomic goes its way.
    pub(super) const fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    /// Nothing is under way.
    pub(super) const fn is_quiet(&self) -> bool {
        matches!(self.stage, Stage::Idle | Stage::Stuck(_))
    }

    /// A failed disk left a record behind, which the next start would carry out, or it is being blotted out.
    pub(super) const fn is_left(&self) -> bool {
        matches!(self.stage, Stage::Stuck(_) | Stage::Clearing(_))
    }

    /// Blots out a record that was left behind.
    pub(super) fn blot_if_stuck(&mut self) -> Option<Go> {
        match self.stage {
            Stage::Stuck(range) => Some(self.clear(range)),
            _ => None,
        }
    }

    /// A change of the local copy. `None` if it waits.
    pub(super) fn ask(&mut self, change: Change) -> Option<Go> {
        let in_the_way = match self.range() {
            None => false,
            Some(range) => change.atomic || touches(&change.io, range),
        };
        if in_the_way {
            self.waiting.push_back(change);
            return self.clear_if_stuck();
        }
        Some(match change {
            Change { slot, io: DiskIo::Write { range, data }, atomic: true } => {
                let io = DiskIo::Record { range, data: data.clone() };
                self.stage = Stage::Recording(Write { slot, range, data });
                Go::Own(io)
            }
            Change { slot, io, .. } => Go::Pass(slot, io),
        })
    }

    /// What [`Go::Own`] asked for is complete.
    pub(super) fn on_disk(&mut self, result: DiskResult, steps: &mut Vec<Step>) {
        let done = || Ok(Data::new());
        match (core::mem::take(&mut self.stage), result) {
            (Stage::Recording(write), Ok(_)) => {
                steps.push(Step::Go(Go::Own(DiskIo::Flush)));
                self.stage = Stage::Keeping(write);
            }
            (Stage::Keeping(write), Ok(_)) => {
                let (range, data) = (write.range, write.data.clone());
                steps.push(Step::Go(Go::Own(DiskIo::Write { range, data })));
                self.stage = Stage::Placing(write);
            }
            (Stage::Recording(write) | Stage::Keeping(write), Err(error)) => {
                steps.push(Step::Done(write.slot, Err(error)));
                steps.push(Step::Go(self.clear(write.range)));
            }
            (Stage::Placing(write), Ok(_)) => {
                steps.extend([Step::Done(write.slot, done()), Step::Go(Go::Own(DiskIo::Flush))]);
                self.stage = Stage::Settling(write.range);
            }
            (Stage::Placing(write), Err(error)) => {
                steps.push(Step::Done(write.slot, Err(error)));
                self.stage = Stage::Stuck(write.range);
                steps.extend(self.clear_if_stuck().map(Step::Go));
            }
            (Stage::Settling(range), Ok(_)) => steps.push(Step::Go(self.clear(range))),
            (Stage::Settling(range), Err(error)) => {
                steps.push(Step::Failed(error));
                self.stage = Stage::Stuck(range);
                steps.extend(self.clear_if_stuck().map(Step::Go));
            }
            (Stage::Clearing(_), Ok(_)) => {
                let waiting = core::mem::take(&mut self.waiting);
                steps.extend(waiting.into_iter().filter_map(|change| self.ask(change)).map(Step::Go));
            }
            (Stage::Clearing(range), Err(error)) => {
                steps.push(Step::Failed(error));
                let waiting = core::mem::take(&mut self.waiting);
                steps.extend(waiting.into_iter().map(|change| Step::Done(change.slot, Err(error))));
                self.stage = Stage::Stuck(range);
            }
            (stage @ (Stage::Idle | Stage::Stuck(_)), _) => self.stage = stage,
        }
    }

    /// The blocks that the record is about.
    const fn range(&self) -> Option<BlockRange> {
        match &self.stage {
            Stage::Idle => None,
            Stage::Recording(write) | Stage::Keeping(write) | Stage::Placing(write) => Some(write.range),
            Stage::Settling(range) | Stage::Clearing(range) | Stage::Stuck(range) => Some(*range),
        }
    }

    fn clear(&mut self, range: BlockRange) -> Go {
        self.stage = Stage::Clearing(range);
        Go::Own(DiskIo::Unrecord)
    }

    /// Somebody may wait for the record to go.
    fn clear_if_stuck(&mut self) -> Option<Go> {
        match self.stage {
            Stage::Stuck(range) if !self.waiting.is_empty() => Some(self.clear(range)),
            _ => None,
        }
    }
}

/// Whether disk I/O changes blocks of a range.
fn touches(io: &DiskIo, range: BlockRange) -> bool {
    match io {
        DiskIo::Write { range: other, .. } | DiskIo::WriteSame { range: other, .. } => range.overlaps(other),
        DiskIo::Unmap(ranges) => ranges.iter().any(|other| range.overlaps(other)),
        DiskIo::Read(_)
        | DiskIo::Verify { .. }
        | DiskIo::Prefetch(_)
        | DiskIo::Extents { .. }
        | DiskIo::Usage
        | DiskIo::Record { .. }
        | DiskIo::Unrecord
        | DiskIo::Flush => false,
    }
}
