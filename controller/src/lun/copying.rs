//! Copying main's volume to the peer while hosts go on: pieces are read under a shared hold of their range and
//! sent like any other change, holes as holes. Interrupted, it starts again from the beginning.

use bytes::Bytes;
use protocol::block::BlockRange;

use super::task::{Action, Origin, is_zero};
use super::{Lun, Stage};
use crate::command::{Data, Op, Outcome};
use crate::time::Time;

/// Blocks of one piece.
pub(super) const COPY_PIECE_BLOCKS: u64 = 2048;

/// Pieces under way at once: the credit of the resync class.
pub const COPY_PIECES_MAX: u32 = 4;

/// How far a copy is.
#[derive(Debug)]
pub(super) struct Copying {
    /// When it began.
    since: Time,
    next: u64,
    done: u64,
    running: u32,
    failed: bool,
    flushing: bool,
    /// A change reached the peer's copy and not the own one: what is copied so far proves nothing.
    again: bool,
}

impl Copying {
    pub(super) const fn new(since: Time) -> Self {
        Self { since, next: 0, done: 0, running: 0, failed: false, flushing: false, again: false }
    }

    pub(super) fn percent(&self, blocks: u64) -> u8 {
        // At most 100.
        (self.done.saturating_mul(100) / blocks.max(1)).min(100) as u8
    }

    /// What the rest takes at the pace so far, in seconds; none before anything is done.
    pub(super) fn seconds_left(&self, blocks: u64, now: Time) -> Option<u64> {
        let (done, rest) = (u128::from(self.done), u128::from(blocks.saturating_sub(self.done)));
        let so_far = now.since(self.since).as_millis();
        u64::try_from(so_far.saturating_mul(rest).checked_div(done)?.div_ceil(1000)).ok()
    }

    /// Pieces under way.
    pub(super) const fn running(&self) -> u32 {
        self.running
    }
}

impl Lun {
    /// Starts as many pieces as may run; after the last, a flush of both copies.
    pub(super) fn pump_copy(&mut self, actions: &mut Vec<Action>) {
        let blocks = self.setup.blocks;
        while let Some(copying) = &mut self.copying {
            if copying.failed || copying.running >= COPY_PIECES_MAX || copying.flushing {
                return;
            }
            let op = if copying.next < blocks {
                let length = COPY_PIECE_BLOCKS.min(blocks - copying.next);
                let Some(range) = BlockRange::new(copying.next, length) else {
                    return;
                };
                copying.next += length;
                Op::Read { range }
            } else if copying.running == 0 && copying.again {
                *copying = Copying::new(copying.since);
                continue;
            } else if copying.running == 0 {
                copying.flushing = true;
                Op::SynchronizeCache
            } else {
                return;
            };
            copying.running += 1;
            let again = op.clone();
            if !self.enter(Origin::Copy, op, false, Time(0), actions) {
                // It is not under way: asked for again with the next tick, or when another piece is over.
                return self.take_back(&again);
            }
        }
    }

    /// A piece, or the flush, that found no place.
    fn take_back(&mut self, op: &Op) {
        let Some(copying) = &mut self.copying else {
            return;
        };
        copying.running = copying.running.saturating_sub(1);
        match op {
            Op::Read { range } => copying.next = range.start.0,
            _ => copying.flushing = false,
        }
    }

    /// The peer's copy could not take a piece or a change: it will never be whole, its controller takes it out.
    pub(super) const fn fail_copy(&mut self) {
        if let Some(copying) = &mut self.copying {
            copying.failed = true;
        }
    }

    /// The own copy could not take a change that the peer's may have: the copy starts over when its pieces are done.
    pub(super) fn spoil_copy(&mut self) {
        if let Some(copying) = &mut self.copying {
            copying.again = true;
        }
    }

    /// A piece was read: it becomes a change for the peer alone. The range stays held.
    pub(super) fn on_copy_data(&mut self, slot: u32, data: &[Bytes], actions: &mut Vec<Action>) {
        if self.copying.is_none() {
            return self.finish(slot, Outcome::Aborted, actions);
        }
        let Some(task) = self.tasks.get_mut(slot as usize) else {
            return;
        };
        let Op::Read { range } = task.op else {
            return;
        };
        task.op = if data.iter().all(|piece| is_zero(piece)) {
            Op::Unmap { ranges: vec![range] }
        } else {
            Op::Write { range, data: Data::from(data), fua: false }
        };
        task.stage = Stage::Legs;
        self.change(slot, actions);
    }

    /// A piece, or the flush at the end, is over.
    pub(super) fn on_copy_step(&mut self, op: &Op, good: bool, actions: &mut Vec<Action>) {
        let Some(copying) = &mut self.copying else {
            return;
        };
        copying.running = copying.running.saturating_sub(1);
        match op {
            _ if !good || copying.failed => copying.failed = true,
            Op::SynchronizeCache if copying.again => *copying = Copying::new(copying.since),
            Op::SynchronizeCache => {
                self.copy_complete = true;
                actions.push(Action::CopyComplete(self.standing.generation));
            }
            Op::Unmap { ranges } => copying.done += ranges.iter().map(|range| range.blocks).sum::<u64>(),
            Op::Write { range, .. } => copying.done += range.blocks,
            _ => {}
        }
        self.pump_copy(actions);
    }
}
