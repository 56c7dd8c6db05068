//! Copying main's volume to the peer while hosts go on: pieces are read under a shared hold of their range and
//! sent like any other change, holes as holes. Interrupted, it starts again from the beginning.
//!
//! A change that main's disk does not take, and the peer's may have taken, must not keep the two apart: before its
//! range is free, what main has of it is copied again. So the copy gets on however many such changes come, and no more
//! of them are under way than commands. A failed flush says nothing of any range: after it the copy starts over.
//!
//! What main's disk cannot read is tried again, after all the rest and after longer and longer rests: a disk may have
//! bad moments, and without it there is no other whole copy.
//!
//! When the last piece has gone the copy ends: main's disk may refuse no more, for who refuses then could keep the end
//! away for ever. What it does not take from then on is decided as if the copy were complete (`blocks::next`).

use core::time::Duration;

use protocol::block::BlockRange;

use crate::command::Op;
use crate::time::{TICK, Time};

/// Blocks of one piece.
pub(super) const COPY_CHUNK_BLOCKS: u64 = 2048;

/// Both copies are flushed when so many blocks were copied (32 MiB): a slow disk writes that well before it counts as
/// silent, and the flush at the end is no longer than those on the way.
const COPY_FLUSH_BLOCKS: u64 = 65_536;

/// Pieces that could not be read and are remembered; with more the copy starts over.
const AGAIN_MAX: usize = 64;

/// The first and the longest rest before what could not be read is tried again, in ticks: 1 s, a minute.
const REST_TICKS: u32 = (Duration::from_secs(1).as_millis() / TICK.as_millis()) as u32;
const REST_TICKS_MAX: u32 = 60 * REST_TICKS;

/// Pieces under way at once: the credit of the resync class.
pub const COPY_CHUNKS_MAX: u32 = 4;

/// What becomes of the copy when something of it is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum After {
    /// It goes on.
    GoesOn,
    /// It does not end after all: what waited for that is to be decided on.
    Decide,
    /// Both copies are whole and durable.
    Complete,
}

/// What main's copy refused, that the peer's may have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refused<'a> {
    /// The copy's own flush.
    OwnFlush,
    /// Another flush.
    Flush,
    /// A change of these blocks.
    Change(&'a [BlockRange]),
}

/// The copy of main's volume to the peer, if one is under way; at main.
#[derive(Debug, Default)]
pub(super) struct Resync {
    run: Option<Run>,
    /// It has ended well: from now on the peer may take its own copy for whole.
    complete: bool,
}

/// How far a copy is.
#[derive(Debug)]
struct Run {
    /// When it began.
    since: Time,
    next: u64,
    done: u64,
    running: u32,
    failed: bool,
    flushing: bool,
    /// Blocks copied since the last flush.
    unflushed: u64,
    /// A flush of the local copy failed: what is copied so far proves nothing.
    over: bool,
    /// Changes that the local copy could not take, and whose blocks are being copied again.
    repeats: u32,
    /// Every piece has gone.
    ends: bool,
    /// Pieces that main's disk could not read.
    again: Vec<BlockRange>,
    /// How long they rest yet, and how often they did, without one that could be read since.
    rest: u32,
    rests: u32,
}

impl Run {
    const fn new(since: Time) -> Self {
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

    /// Nothing starts before the rest is over.
    const fn rests(&self, blocks: u64) -> bool {
        self.rest > 0 && self.next >= blocks && self.running == 0 && (self.over || !self.again.is_empty())
    }

    /// What is to start now, if anything.
    fn next(&mut self, blocks: u64) -> Option<Op> {
        if self.failed || self.running >= COPY_CHUNKS_MAX || self.flushing {
            return None;
        }
        if self.next >= blocks && self.rest == 0 && self.again.is_empty() && self.running == 0 && self.over {
            let (repeats, rests) = (self.repeats, self.rests);
            *self = Self { repeats, rests, ..Self::new(self.since) };
        }
        let op = if self.next < blocks && self.unflushed >= COPY_FLUSH_BLOCKS {
            self.unflushed = 0;
            self.flushing = true;
            Op::SynchronizeCache
        } else if self.next < blocks {
            let length = COPY_CHUNK_BLOCKS.min(blocks - self.next);
            let range = BlockRange::new(self.next, length)?;
            self.next += length;
            self.unflushed += length;
            Op::Read { range }
        } else if self.rest > 0 && (self.over || !self.again.is_empty()) {
            return None;
        } else if let Some(range) = self.again.pop() {
            Op::Read { range }
        } else if self.running == 0 {
            self.ends = true;
            if self.repeats > 0 {
                return None;
            }
            self.flushing = true;
            Op::SynchronizeCache
        } else {
            return None;
        };
        self.running += 1;
        Some(op)
    }
}

impl Resync {
    /// Begins from the first block.
    pub(super) fn begin(&mut self, now: Time) {
        self.run = Some(Run::new(now));
    }

    /// Ends without being complete, or after it.
    pub(super) fn stop(&mut self) {
        self.run = None;
    }

    /// The pair is agreed on anew: nothing of an earlier copy counts.
    pub(super) const fn forget(&mut self) {
        self.complete = false;
    }

    /// Whether one is under way.
    pub(super) const fn is_under_way(&self) -> bool {
        self.run.is_some()
    }

    /// How much is done, in percent, and what the rest takes at the pace so far, in seconds; none before anything is
    /// done.
    pub(super) fn progress(&self, blocks: u64, now: Time) -> Option<(u8, Option<u64>)> {
        let run = self.run.as_ref()?;
        // At most 100.
        let percent = (run.done.saturating_mul(100) / blocks.max(1)).min(100) as u8;
        let (done, rest) = (u128::from(run.done), u128::from(blocks.saturating_sub(run.done)));
        let so_far = now.since(run.since).as_millis();
        let left = so_far.saturating_mul(rest).checked_div(done).map(|left| left.div_ceil(1000));
        Some((percent, left.and_then(|left| u64::try_from(left).ok())))
    }

    /// Whether it has something to start, now or when what is under way is over. What main's disk did not do rests
    /// without a place in the queue for background work.
    pub(super) fn has_work(&self, blocks: u64) -> bool {
        let has_work = |run: &Run| !run.failed && !run.rests(blocks);
        !self.complete && self.run.as_ref().is_some_and(has_work)
    }

    /// Pieces under way.
    pub(super) fn running(&self) -> u32 {
        self.run.as_ref().map_or(0, |run| run.running)
    }

    /// Time has passed: at a tick.
    pub(super) const fn tick(&mut self) {
        if let Some(run) = &mut self.run {
            run.rest = run.rest.saturating_sub(1);
        }
    }

    /// There is one, under way, resting or failed.
    pub(super) const fn has_run(&self) -> bool {
        self.run.is_some()
    }

    /// What is to start now: the next piece, or a flush of both copies. What finds no place is given back by
    /// [`Resync::take_back`].
    pub(super) fn next(&mut self, blocks: u64) -> Option<Op> {
        self.run.as_mut()?.next(blocks)
    }

    /// A piece, or the flush, that found no place.
    pub(super) fn take_back(&mut self, op: &Op) {
        let Some(run) = &mut self.run else {
            return;
        };
        run.running = run.running.saturating_sub(1);
        match op {
            Op::Read { range } if range.end().0 == run.next => run.next = range.start.0,
            Op::Read { range } => run.again.push(*range),
            _ => run.flushing = false,
        }
    }

    /// The peer's copy could not take a piece or a change: it will never be whole, its controller takes it out.
    pub(super) const fn fail(&mut self) {
        if let Some(run) = &mut self.run {
            run.failed = true;
        }
    }

    /// Whether it is under way and has not failed.
    pub(super) fn goes_on(&self) -> bool {
        self.run.as_ref().is_some_and(|run| !run.failed)
    }

    /// Nothing that only the peer's copy has will be copied over any more.
    pub(super) fn ends(&self) -> bool {
        self.complete || self.run.as_ref().is_some_and(|run| run.ends && !run.failed)
    }

    /// The local copy could not take a change that the peer's may have, or could not make it durable. What is to be
    /// copied again before the change's ranges are free.
    pub(super) fn spoil(&mut self, refused: Refused<'_>) -> Option<Vec<BlockRange>> {
        let ends = self.ends();
        let run = self.run.as_mut()?;
        match refused {
            // With its own last flush the copy does not end after all.
            Refused::OwnFlush => (run.over, run.ends) = (true, false),
            _ if ends => {}
            Refused::Flush => run.over = true,
            Refused::Change(ranges) => {
                // What the copy has not come to yet it will find as it is then.
                let reached = |range: &BlockRange| {
                    let blocks = range.end().0.min(run.next).checked_sub(range.start.0)?;
                    BlockRange::new(range.start.0, blocks).filter(|range| !range.is_empty())
                };
                let left: Vec<BlockRange> = ranges.iter().filter_map(reached).collect();
                if !left.is_empty() {
                    run.repeats += 1;
                    return Some(left);
                }
            }
        }
        None
    }

    /// A piece, or the flush at the end, is over; or blocks are that were copied again (`repeat`).
    pub(super) fn on_step(&mut self, op: &Op, repeat: bool, good: bool) -> After {
        let Some(run) = &mut self.run else {
            return After::GoesOn;
        };
        if repeat {
            run.repeats = run.repeats.saturating_sub(1);
        } else {
            run.running = run.running.saturating_sub(1);
        }
        match op {
            // What waited for the end waits in vain.
            _ if run.failed => return After::Decide,
            // The ranges of what could not be copied again are free: only a copy from the beginning finds them all.
            Op::Read { .. } | Op::SynchronizeCache if !good && (repeat || *op == Op::SynchronizeCache) => {
                (run.over, run.flushing, run.ends) = (true, false, false);
                run.rest();
                return After::Decide;
            }
            Op::Read { range } if !good => run.read_again(*range),
            _ if !good => {
                run.failed = true;
                return After::Decide;
            }
            _ if repeat => {}
            Op::SynchronizeCache if !run.ends => run.flushing = false,
            Op::SynchronizeCache => {
                self.complete = true;
                return After::Complete;
            }
            Op::Unmap { ranges } => {
                run.rests = 0;
                run.done += ranges.iter().map(|range| range.blocks).sum::<u64>();
            }
            Op::Write { range, .. } => {
                run.rests = 0;
                run.done += range.blocks;
            }
            _ => {}
        }
        After::GoesOn
    }

    /// What always holds.
    pub(super) fn check(&self) {
        let Some(run) = &self.run else { return };
        assert!(run.running <= COPY_CHUNKS_MAX, "more pieces of a copy than may be under way: {run:?}");
        assert!(run.again.len() <= AGAIN_MAX + COPY_CHUNKS_MAX as usize, "more is to be read again than may");
    }
}

/// Takes a piece off what is left.
pub(super) fn next_chunk(left: &mut Vec<BlockRange>) -> Option<BlockRange> {
    let range = left.pop()?;
    let blocks = range.blocks.min(COPY_CHUNK_BLOCKS);
    let rest = BlockRange::new(range.start.0 + blocks, range.blocks - blocks);
    left.extend(rest.filter(|rest| !rest.is_empty()));
    BlockRange::new(range.start.0, blocks)
}
