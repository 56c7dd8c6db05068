//! SANITIZE (SBC-4 4.11), and FORMAT UNIT, which is one that makes holes, in the LUN core: every block of both copies is overwritten or made a hole, and no crash, reset
//! or loss of the peer ends that before it is done.
//!
//! ```text
//!          SANITIZE                 every segment: pieces ► flush ► the position
//! Idle ──────────────► UnderWay ──────────────────────────────────────────────────► Idle
//!   ▲                      │ the only copy cannot take a piece
//!   └── EXIT FAILURE MODE ─┴──► Failed ──► SANITIZE ──► UnderWay
//! ```
//!
//! * That an operation is under way, and how far it is, is a part of the **shared state** ([`crate::shared`]): it
//!   begins, goes on and ends by events, each a barrier and durable on both controllers before it holds. So every
//!   command that was admitted before has ended when the first piece starts, and both controllers refuse hosts from
//!   then on. With IMMED the answer comes when it has begun, else when it has ended.
//! * The **pieces** are ordinary changes, admitted at main like a host's: WRITE SAME of the pattern, or UNMAP. They go
//!   to both copies, in order with a copy that is being refilled, and hold their range for well below a second.
//! * A **segment** is done when its pieces are on both copies and both were flushed after the last of them; only then
//!   the position moves. Whoever is main begins again at the position that the state names. So at any crash the blocks
//!   before the position are durably overwritten on every copy that may be a source, and those behind it are gone over
//!   again.
//! * Before main has found which state is the newest, no piece starts ([`Lun::may_sanitize`]): what an older state
//!   names may be over, and hosts may have written since. Pieces of a run that was given up count for no other.
//! * A pass begins with one write by way of the **redo record**, as long as any record: what the record's place held of
//!   hosts' data is overwritten with the rest. The record of an earlier write is gone before the first piece of its
//!   blocks begins, as before any other change ([`super::redo`]), and the flush makes that durable.
//! * A copy that is out of the pair is not reached. It is no source any more, and is refilled from the sanitized copy
//!   before anyone reads it.
//! * An abort or a reset ends the waiting of a host, never the operation. So does a turn of the pair, if the host came
//!   through the controller that is or becomes sub: it gets ABORTED COMMAND, and asks how far it is.

use bytes::Bytes;
use protocol::block::BlockRange;
use protocol::interlink::event::Event;
use protocol::interlink::sanitize::{Order, Position, Sanitize, Step};
use protocol::scsi::sanitize::Method;
use protocol::scsi::sense::{Sense, SenseKey};

use super::Lun;
use super::task::{Action, Origin};
use crate::command::{Data, NexusId, Op, Outcome, TaskTag};
use crate::pair::{Role, Service};
use crate::status::SanitizeStatus;
use crate::time::Time;
use crate::volume::redo::ATOMIC_BLOCKS_MAX;

/// Pieces under way at once.
pub const SANITIZE_PIECES_MAX: u32 = 4;

/// Blocks that one piece overwrites: 1 MiB.
const OVERWRITE_BLOCKS: u64 = 2048;

/// Blocks that one piece makes a hole of: 32 MiB.
const ERASE_BLOCKS: u64 = 65_536;

/// Pieces that overwrite in a second, 128 MiB: what other LUNs on the same disks want of them is to be left.
const PACE: u64 = 128;

/// Pieces that may start at once after a pause.
const BURST: u64 = 16;

/// Blocks of a segment at least: 256 MiB; and how many there are at most in a large LUN.
const SEGMENT_BLOCKS: u64 = 524_288;
const SEGMENTS: u64 = 32;

/// What this controller does for the operation that the state names.
#[derive(Debug)]
pub(super) struct Sanitizing {
    /// What is under way, at main.
    segment: Option<Segment>,
    /// Segments begun so far.
    runs: u32,
    /// Who waits for the operation's end.
    waiting: Option<Origin>,
    /// What may still be overwritten, in thousandths of a piece, and as of when.
    allowance: u64,
    paced: Time,
}

/// One segment under way at main.
#[derive(Clone, Debug)]
struct Segment {
    /// Which of this controller's runs it is: a piece of another counts for nothing.
    run: u32,
    from: Position,
    next: u64,
    end: u64,
    done: u64,
    running: u32,
    /// The redo record was overwritten in this pass.
    recorded: bool,
    flushing: bool,
    /// It is given up: it begins again when what is under way has ended.
    again: bool,
    /// The event that tells what became of it is on its way.
    told: bool,
}

impl Sanitizing {
    pub(super) const fn new() -> Self {
        Self { segment: None, runs: 0, waiting: None, allowance: 0, paced: Time(0) }
    }

    /// What is under way counts no more; whoever is main begins the segment again.
    pub(super) fn forget(&mut self) {
        self.segment = None;
    }

    /// Pieces under way.
    pub(super) fn running(&self) -> u32 {
        self.segment.as_ref().map_or(0, |segment| segment.running)
    }
}

impl Segment {
    fn new(run: u32, from: Position, blocks: u64) -> Self {
        let end = from.next.saturating_add(SEGMENT_BLOCKS.max(blocks / SEGMENTS)).min(blocks);
        let (next, recorded) = (from.next, from.next > 0);
        Self {
            run,
            from,
            next,
            end,
            done: 0,
            running: 0,
            recorded,
            flushing: false,
            again: false,
            told: false,
        }
    }

    /// What is to start now. `slow`: nothing that overwrites.
    fn start(&mut self, order: &Order, blocks: u64, slow: bool) -> Option<Op> {
        if self.again || self.told || self.flushing || self.running >= SANITIZE_PIECES_MAX {
            return None;
        }
        let overwrites = matches!(order.method, Method::Overwrite { .. });
        let piece = if overwrites { OVERWRITE_BLOCKS } else { ERASE_BLOCKS };
        let block = || order.method.block(self.from.pass);
        let op = if !self.recorded {
            self.recorded = true;
            let range = BlockRange::new(0, blocks.min(u64::from(ATOMIC_BLOCKS_MAX)))?;
            // At most ATOMIC_BLOCKS_MAX blocks.
            let data = Bytes::from(block().repeat(range.blocks as usize));
            Op::WriteAtomic { range, data: vec![data], fua: false }
        } else if self.next < self.end {
            let range = BlockRange::new(self.next, piece.min(self.end - self.next))?;
            if slow && overwrites {
                return None;
            }
            self.next += range.blocks;
            match order.method {
                Method::BlockErase | Method::Format => Op::Unmap { ranges: vec![range] },
                Method::Overwrite { .. } => Op::WriteSame { range, block: block(), unmap: false },
            }
        } else if self.running == 0 {
            self.flushing = true;
            Op::SynchronizeCache
        } else {
            return None;
        };
        self.running += 1;
        Some(op)
    }

    /// Where the operation is when this segment is durable.
    fn step(&self, order: &Order, blocks: u64) -> Step {
        let pass = self.from.pass.saturating_add(1);
        if self.end < blocks {
            Step::To(Position { pass: self.from.pass, next: self.end })
        } else if pass < order.method.passes() {
            Step::To(Position { pass, next: 0 })
        } else {
            Step::Done
        }
    }
}

impl Lun {
    /// Main may change blocks for the operation that the state names.
    fn may_sanitize(&self) -> bool {
        self.view.role == Role::Main
            && self.view.service != Service::Refused
            && self.gate.is_open()
            && self.events.knows_the_state()
    }

    /// Starts as many pieces as may run; after the last of a segment, a flush of both copies.
    pub(super) fn pump_sanitize(&mut self, actions: &mut Vec<Action>) {
        let Sanitize::UnderWay { order, at } = &self.unit.state().sanitize else {
            return;
        };
        if !self.may_sanitize() {
            return;
        }
        let (order, at, blocks) = (order.clone(), *at, self.setup.blocks);
        loop {
            // What was told has come to nothing, else the state would be another.
            let over = |run: &mut Segment| run.told || (run.again && run.running == 0);
            self.sanitizing.segment.take_if(over);
            let run = self.sanitizing.segment.get_or_insert_with(|| {
                self.sanitizing.runs = self.sanitizing.runs.wrapping_add(1);
                Segment::new(self.sanitizing.runs, at, blocks)
            });
            let slow = self.sanitizing.allowance < 1000;
            let before = run.clone();
            let Some(op) = run.start(&order, blocks, slow) else {
                return;
            };
            let origin = Origin::Sanitize(run.run);
            let paced = matches!(op, Op::WriteSame { .. });
            if !self.enter(origin, op, false, Time(0), actions) {
                // It is not under way: it is asked for again with the next tick, or when another piece is over.
                self.sanitizing.segment = Some(before);
                return;
            }
            if paced {
                self.sanitizing.allowance = self.sanitizing.allowance.saturating_sub(1000);
            }
        }
    }

    /// Time has passed: so much more may be overwritten.
    pub(super) fn tick_sanitize(&mut self, now: Time, actions: &mut Vec<Action>) {
        if matches!(self.unit.state().sanitize, Sanitize::UnderWay { .. }) {
            let passed = now.since(self.sanitizing.paced).as_millis().min(1000) as u64;
            self.sanitizing.paced = now;
            self.sanitizing.allowance = (self.sanitizing.allowance + passed * PACE).min(BURST * 1000);
            self.pump_sanitize(actions);
        }
    }

    /// A piece, or the flush at the end of a segment, is over.
    pub(super) fn on_sanitize_step(
        &mut self,
        run: u32,
        op: &Op,
        outcome: &Outcome,
        actions: &mut Vec<Action>,
    ) {
        let Some(current) = self.sanitizing.segment.as_mut().filter(|current| current.run == run) else {
            return;
        };
        current.running = current.running.saturating_sub(1);
        let mut told = None;
        match (outcome, op, &self.unit.state().sanitize) {
            _ if current.again || current.told => {}
            (Outcome::Good(_), Op::SynchronizeCache, Sanitize::UnderWay { order, .. }) => {
                told = Some(current.step(order, self.setup.blocks));
            }
            (Outcome::Good(_), Op::WriteSame { range, .. }, _) => current.done += range.blocks,
            (Outcome::Good(_), Op::Unmap { ranges }, _) => {
                current.done += ranges.iter().map(|range| range.blocks).sum::<u64>();
            }
            (Outcome::Good(_), ..) => {}
            (Outcome::Check(sense), ..) if is_disks(sense) => told = Some(Step::Failed),
            // The pair changes: what has become of it is not known.
            _ => current.again = true,
        }
        if let Some(step) = told {
            current.told = true;
            let event = Event::Sanitized { from: current.from, step };
            self.take_turn(Origin::Nobody, Op::Event(Box::new(event)), false, Time(0), actions);
        }
        self.pump_sanitize(actions);
    }

    /// The state has changed: what is under way belongs to another position.
    pub(super) fn on_sanitize_state(&mut self, before: &Sanitize) {
        if *before != self.unit.state().sanitize {
            self.sanitizing.forget();
        }
    }

    /// A SANITIZE has begun, and whoever asked for it waits until it is over.
    pub(super) fn await_sanitize(&mut self, origin: Origin, actions: &mut Vec<Action>) {
        let aborted = Outcome::Check(Sense::ABORTED_COMMAND);
        self.end_sanitize_wait(&aborted, actions, |_| true);
        self.sanitizing.waiting = Some(origin);
    }

    /// Answers who waits for the end, if it has come.
    pub(super) fn answer_sanitize(&mut self, actions: &mut Vec<Action>) {
        if matches!(self.unit.state().sanitize, Sanitize::UnderWay { .. }) {
            return;
        }
        let outcome = self.unit.state().sanitize.sense(0).map_or(Outcome::Good(Data::new()), Outcome::Check);
        self.end_sanitize_wait(&outcome, actions, |_| true);
    }

    /// Ends the waiting of whom `chosen` picks. The operation goes on.
    pub(super) fn end_sanitize_wait(
        &mut self,
        outcome: &Outcome,
        actions: &mut Vec<Action>,
        chosen: impl Fn(Origin) -> bool,
    ) {
        if let Some(origin) = self.sanitizing.waiting.take_if(|origin| chosen(*origin)) {
            self.end(origin, outcome.clone(), actions);
        }
    }

    /// The same for a command of a host of this controller.
    pub(super) fn give_up_sanitize_wait(
        &mut self,
        actions: &mut Vec<Action>,
        chosen: impl Fn(NexusId, TaskTag) -> bool,
    ) {
        self.end_sanitize_wait(&Outcome::Aborted, actions, |origin| match origin {
            Origin::Host { nexus, tag } => chosen(nexus, tag),
            _ => false,
        });
    }

    /// How a command ends that comes while an operation is under way or after it has failed.
    pub(super) fn sanitize_sense(&self) -> Option<Sense> {
        self.unit.state().sanitize.sense(self.sanitize_progress())
    }

    /// The same for a command that goes through the door.
    pub(super) fn sanitize_refusal(&self, op: &Op) -> Option<Outcome> {
        let sense = self.sanitize_sense()?;
        let passes = match op {
            Op::Event(event) => crate::shared::passes_sanitize(&self.unit.state().sanitize, event),
            _ => false,
        };
        (!passes).then_some(Outcome::Check(sense))
    }

    /// How far the operation is, in 65536ths: main knows it by the piece, the sub by the segment.
    fn sanitize_progress(&self) -> u16 {
        let Sanitize::UnderWay { order, at } = &self.unit.state().sanitize else {
            return 0;
        };
        let done = self.sanitizing.segment.as_ref().map_or(0, |run| run.done);
        let blocks = u128::from(self.setup.blocks.max(1));
        let all = blocks * u128::from(order.method.passes());
        let so_far = blocks * u128::from(at.pass) + u128::from(at.next) + u128::from(done);
        u16::try_from(so_far * 65_536 / all).unwrap_or(u16::MAX)
    }

    /// What people are told.
    #[must_use]
    pub fn sanitize_status(&self) -> Option<SanitizeStatus> {
        let percent = (u32::from(self.sanitize_progress()) * 100 / 65_536) as u8;
        match &self.unit.state().sanitize {
            Sanitize::Idle => None,
            Sanitize::UnderWay { order, at } => {
                let method = match order.method {
                    Method::Overwrite { .. } => "overwrite",
                    Method::BlockErase => "block erase",
                    Method::Format => "format",
                };
                let (pass, passes) = (at.pass.saturating_add(1), order.method.passes());
                let method = method.to_owned();
                Some(SanitizeStatus {
                    failed: false,
                    method: Some(method),
                    percent: Some(percent),
                    pass,
                    passes,
                })
            }
            Sanitize::Failed { .. } | Sanitize::FormatFailed => {
                let format = self.unit.state().sanitize == Sanitize::FormatFailed;
                let method = format.then(|| "format".to_owned());
                Some(SanitizeStatus { failed: true, method, percent: None, pass: 0, passes: 0 })
            }
        }
    }
}

/// The only copy's disk could not take it.
const fn is_disks(sense: &Sense) -> bool {
    matches!(sense.key, SenseKey::MediumError | SenseKey::HardwareError | SenseKey::DataProtect)
}
