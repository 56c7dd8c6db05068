//! Copying main's volume to the peer while hosts go on: pieces are read under a shared hold of their range and
//! sent like any other change, holes as holes. Interrupted, it starts again from the beginning.
//!
//! A change that main's disk does not take, and the peer's may have taken, must not keep the two apart: before its range
//! is free, what main has of it is copied again. So the copy gets on however many such changes come, and no more of them
//! are under way than commands. A failed flush says nothing of any range: after it the copy starts over.
//!
//! What main's disk cannot read is tried again, after all the rest and after longer and longer rests: a disk may have bad
//! moments, and without it there is no other whole copy.
//!
//! When the last piece has gone the copy ends: main's disk may refuse no more, for who refuses then could keep the end
//! away for ever. What it does not take from then on is decided as if the copy were complete ([`super::losing`]).

use core::time::Duration;

use bytes::Bytes;
use protocol::block::BlockRange;

use super::operation::is_zero;
use super::task::{Action, Leg, Origin, Slot, Task};
use super::{Lun, Stage};
use crate::command::{Data, Op, Outcome};
use crate::disk::DiskIo;
use crate::time::{TICK, Time};

/// Blocks of one piece.
pub(super) const COPY_PIECE_BLOCKS: u64 = 2048;

/// Both copies are flushed when so many blocks were copied (32 MiB): a slow disk writes that well before it counts as
/// silent, and the flush at the end is no longer than those on the way.
const COPY_FLUSH_BLOCKS: u64 = 65_536;

/// Pieces that could not be read and are remembered; with more the copy starts over.
const AGAIN_MAX: usize = 64;

/// The first and the longest rest before what could not be read is tried again, in ticks: 1 s, a minute.
const REST_TICKS: u32 = (Duration::from_secs(1).as_millis() / TICK.as_millis()) as u32;
const REST_TICKS_MAX: u32 = 60 * REST_TICKS;

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
    /// Blocks copied since the last flush.
    unflushed: u64,
    /// A flush of the own copy failed: what is copied so far proves nothing.
    over: bool,
    /// Changes that the own copy could not take, and whose blocks are being copied again.
    repeats: u32,
    /// Every piece has gone.
    ends: bool,
    /// Pieces that main's disk could not read.
    again: Vec<BlockRange>,
    /// How long they rest yet, and how often they did, without one that could be read since.
    rest: u32,
    rests: u32,
}

impl Copying {
    pub(super) const fn new(since: Time) -> Self {
        Self {
            since,
            next: 0,
            done: 0,
            running: 0,
            failed: false,
            flushing: false,
            unflushed: 0,
            over: false,
            repeats: 0,
            ends: false,
            again: Vec::new(),
            rest: 0,
            rests: 0,
        }
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

    /// Main's disk did not do what the copy needs: it rests before that is tried again.
    fn rest(&mut self) {
        if self.rest == 0 {
            self.rest = REST_TICKS.saturating_mul(1 << self.rests.min(16)).min(REST_TICKS_MAX);
            self.rests += 1;
        }
    }

    /// A piece could not be read.
    fn read_again(&mut self, range: BlockRange) {
        if self.again.len() < AGAIN_MAX {
            self.again.push(range);
        } else {
            self.over = true;
        }
        self.rest();
    }

    /// Pieces under way.
    pub(super) const fn running(&self) -> u32 {
        self.running
    }
}

impl Lun {
    /// Time has passed: at a tick.
    pub(super) fn tick_copy(&mut self, actions: &mut Vec<Action>) {
        if let Some(copying) = &mut self.copying {
            copying.rest = copying.rest.saturating_sub(1);
        }
        self.pump_copy(actions);
    }

    /// Starts as many pieces as may run; after the last, a flush of both copies.
    pub(super) fn pump_copy(&mut self, actions: &mut Vec<Action>) {
        let blocks = self.setup.blocks;
        while let Some(copying) = &mut self.copying {
            if copying.failed || copying.running >= COPY_PIECES_MAX || copying.flushing {
                return;
            }
            let op = if copying.next < blocks && copying.unflushed >= COPY_FLUSH_BLOCKS {
                copying.unflushed = 0;
                copying.flushing = true;
                Op::SynchronizeCache
            } else if copying.next < blocks {
                let length = COPY_PIECE_BLOCKS.min(blocks - copying.next);
                let Some(range) = BlockRange::new(copying.next, length) else {
                    return;
                };
                copying.next += length;
                copying.unflushed += length;
                Op::Read { range }
            } else if copying.rest > 0 && (copying.over || !copying.again.is_empty()) {
                return;
            } else if let Some(range) = copying.again.pop() {
                Op::Read { range }
            } else if copying.running == 0 && copying.over {
                let (repeats, rests) = (copying.repeats, copying.rests);
                *copying = Copying { repeats, rests, ..Copying::new(copying.since) };
                continue;
            } else if copying.running == 0 {
                copying.ends = true;
                if copying.repeats > 0 {
                    return;
                }
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
            Op::Read { range } if range.end().0 == copying.next => copying.next = range.start.0,
            Op::Read { range } => copying.again.push(*range),
            _ => copying.flushing = false,
        }
    }

    /// The peer's copy could not take a piece or a change: it will never be whole, its controller takes it out.
    pub(super) const fn fail_copy(&mut self) {
        if let Some(copying) = &mut self.copying {
            copying.failed = true;
        }
    }

    /// Nothing that only the peer's copy has will be copied over any more.
    pub(super) fn copy_ends(&self) -> bool {
        self.copy_complete || self.copying.as_ref().is_some_and(|copying| copying.ends && !copying.failed)
    }

    /// The own copy could not take a change that the peer's may have, or could not make it durable (`flush`).
    pub(super) fn spoil_copy(&mut self, slot: u32, flush: bool) {
        let ends = self.copy_ends();
        let (Some(copying), Some(task)) = (&mut self.copying, self.tasks.get_mut(slot as usize)) else {
            return;
        };
        // With its own last flush the copy does not end after all.
        if flush && task.origin == Origin::Copy {
            (copying.over, copying.ends) = (true, false);
            return;
        }
        if ends {
            return;
        }
        if flush {
            copying.over = true;
            return;
        }
        // What the copy has not come to yet it will find as it is then.
        let reached = |range: &BlockRange| {
            let blocks = range.end().0.min(copying.next).checked_sub(range.start.0)?;
            BlockRange::new(range.start.0, blocks).filter(|range| !range.is_empty())
        };
        let left: Vec<BlockRange> = task.ranges.as_slice().iter().filter_map(reached).collect();
        if !left.is_empty() {
            copying.repeats += 1;
            task.copied_again = Some(left);
        }
    }

    /// Whether a task's blocks are copied again before its ranges are free.
    pub(super) fn is_copied_again(&self, task: &Task) -> bool {
        task.copied_again.is_some() && self.copying.as_ref().is_some_and(|copying| !copying.failed)
    }

    /// Both have done with a change that the own copy could not take, or with a piece of its blocks: the next one. Its
    /// origin hears of the end at once; the ranges stay held.
    pub(super) fn copy_again(&mut self, slot: u32, outcome: Outcome, actions: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(slot as usize) else {
            return;
        };
        let Some(range) = task.copied_again.as_mut().and_then(next_piece) else {
            return self.finish(slot, outcome, actions);
        };
        // It has another place in the order from now on.
        self.mirror.end(task.sequence, slot);
        let origin = core::mem::replace(&mut task.origin, Origin::Copy);
        let op = core::mem::replace(&mut task.op, Op::Read { range });
        task.stage = Stage::Read;
        (task.own, task.peer, task.failed) = (Leg::None, Leg::None, None);
        task.result.clear();
        actions.push(self.volume.submit(Slot::Task(slot), DiskIo::Read(range)));
        match origin {
            Origin::Copy => {}
            Origin::Sanitize(run) => self.on_sanitize_step(run, &op, &outcome, actions),
            Origin::Event(number) => self.on_event_flushed(number, outcome, actions),
            origin => self.end(origin, outcome, actions),
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

    /// A piece, or the flush at the end, is over; or blocks are that were copied again (`repeat`).
    pub(super) fn on_copy_step(&mut self, op: &Op, repeat: bool, good: bool, actions: &mut Vec<Action>) {
        let Some(copying) = &mut self.copying else {
            return;
        };
        if repeat {
            copying.repeats = copying.repeats.saturating_sub(1);
        } else {
            copying.running = copying.running.saturating_sub(1);
        }
        match op {
            // What waited for the end waits in vain.
            _ if copying.failed => self.decide_lost(actions),
            // The ranges of what could not be copied again are free: only a copy from the beginning finds them all.
            Op::Read { .. } | Op::SynchronizeCache if !good && (repeat || *op == Op::SynchronizeCache) => {
                (copying.over, copying.flushing, copying.ends) = (true, false, false);
                copying.rest();
                self.decide_lost(actions);
            }
            Op::Read { range } if !good => copying.read_again(*range),
            _ if !good => {
                copying.failed = true;
                self.decide_lost(actions);
            }
            _ if repeat => {}
            Op::SynchronizeCache if !copying.ends => copying.flushing = false,
            Op::SynchronizeCache => {
                self.copy_complete = true;
                actions.push(Action::CopyComplete(self.view.generation));
            }
            Op::Unmap { ranges } => {
                copying.rests = 0;
                copying.done += ranges.iter().map(|range| range.blocks).sum::<u64>();
            }
            Op::Write { range, .. } => {
                copying.rests = 0;
                copying.done += range.blocks;
            }
            _ => {}
        }
        self.pump_copy(actions);
    }
}

/// Takes a piece off what is left.
fn next_piece(left: &mut Vec<BlockRange>) -> Option<BlockRange> {
    let range = left.pop()?;
    let blocks = range.blocks.min(COPY_PIECE_BLOCKS);
    let rest = BlockRange::new(range.start.0 + blocks, range.blocks - blocks);
    left.extend(rest.filter(|rest| !rest.is_empty()));
    BlockRange::new(range.start.0, blocks)
}
