//! SANITIZE (SBC-4 4.11), and FORMAT UNIT, which is one that makes holes: every block of both copies is overwritten or
//! made a hole, and no crash, reset or loss of the peer ends that before it is done.
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
//! * Before main has found which state is the newest, no piece starts (`Lun::may_sanitize`): what an older state
//!   names may be over, and hosts may have written since. Pieces of a run that was given up count for no other.
//! * A pass begins with one write by way of the **redo record**, as long as any record: what the record's place held of
//!   hosts' data is overwritten with the rest. The record of an earlier write is gone before the first piece of its
//!   blocks begins, as before any other change ([`super::redo`]), and the flush makes that durable.
//! * A copy that is out of the pair is not reached. It is no source any more, and is refilled from the sanitized copy
//!   before anyone reads it.
//! * An abort or a reset ends the waiting of a host, never the operation. So does a switch of the pair, if the host
//!   came through the controller that is or becomes sub: it gets ABORTED COMMAND, and asks how far it is.

use bytes::Bytes;
use protocol::block::BlockRange;
use protocol::interlink::event::Event;
use protocol::interlink::sanitize::{Order, Position, Sanitize, Step};
use protocol::scsi::sanitize::Method;
use protocol::scsi::sense::{Sense, SenseKey};

use super::task::{Action, Origin, end};
use crate::command::{Data, Op, Outcome};
use crate::pair::PairView;
use crate::status::SanitizeStatus;
use crate::time::Time;
use crate::volume::redo::ATOMIC_BLOCKS_MAX;

/// Pieces under way at once.
pub const SANITIZE_CHUNKS_MAX: u32 = 4;

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
pub(super) struct Segment {
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

/// A piece, or a flush, that is to start; or to be given back.
#[derive(Debug)]
pub(super) struct Started {
    /// The run it belongs to.
    pub(super) run: u32,
    /// What is to be done.
    pub(super) op: Op,
    /// How things stood before.
    pub(super) before: (Segment, u64),
}

impl Sanitizing {
    pub(super) const fn new() -> Self {
        Self { segment: None, runs: 0, waiting: None, allowance: 0, paced: Time(0) }
    }

    /// Time has passed: so much more may be overwritten.
    pub(super) fn tick(&mut self, now: Time) {
        let passed = now.since(self.paced).as_millis().min(1000) as u64;
        self.paced = now;
        self.allowance = (self.allowance + passed * PACE).min(BURST * 1000);
    }

    /// What is to start now: a piece; after the last of a segment, a flush of both copies. What finds no place is given
    /// back by [`Sanitizing::take_back`].
    pub(super) fn next(&mut self, order: &Order, at: Position, blocks: u64) -> Option<Started> {
        // What was told has come to nothing, else the state would be another.
        self.segment.take_if(|run| run.told || (run.again && run.running == 0));
        let run = self.segment.get_or_insert_with(|| {
            self.runs = self.runs.wrapping_add(1);
            Segment::new(self.runs, at, blocks)
        });
        let before = (run.clone(), self.allowance);
        let op = run.start(order, blocks, self.allowance < 1000)?;
        if matches!(op, Op::WriteSame { .. }) {
            self.allowance = self.allowance.saturating_sub(1000);
        }
        Some(Started { run: run.run, op, before })
    }

    /// What found no place is not under way: it is asked for again.
    pub(super) fn take_back(&mut self, before: (Segment, u64)) {
        (self.segment, self.allowance) = (Some(before.0), before.1);
    }

    /// A piece, or the flush at the end of a segment, is over. What is to be told of the operation, if that is decided.
    pub(super) fn on_step(
        &mut self,
        run: u32,
        op: &Op,
        outcome: &Outcome,
        state: &Sanitize,
        blocks: u64,
    ) -> Option<Event> {
        let current = self.segment.as_mut().filter(|current| current.run == run)?;
        current.running = current.running.saturating_sub(1);
        let mut told = None;
        match (outcome, op, state) {
            _ if current.again || current.told => {}
            (Outcome::Good(_), Op::SynchronizeCache, Sanitize::UnderWay { order, .. }) => {
                told = Some(current.step(order, blocks));
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
        let step = told?;
        current.told = true;
        Some(Event::Sanitized { from: current.from, step })
    }

    /// Whoever asked for the operation waits until it is over.
    pub(super) const fn wait(&mut self, origin: Origin) {
        self.waiting = Some(origin);
    }

    /// Answers the host that waits for the operation's end, if it has come.
    pub(super) fn answer(&mut self, state: &Sanitize, view: &PairView, actions: &mut Vec<Action>) {
        if matches!(state, Sanitize::UnderWay { .. }) {
            return;
        }
        let outcome = state.sense(0).map_or(Outcome::Good(Data::new()), Outcome::Check);
        self.end_wait(&outcome, view, actions, |_| true);
    }

    /// Ends the waiting, if `chosen` picks the host that waits. The operation goes on.
    pub(super) fn end_wait(
        &mut self,
        outcome: &Outcome,
        view: &PairView,
        actions: &mut Vec<Action>,
        chosen: impl Fn(Origin) -> bool,
    ) {
        if let Some(origin) = self.waiting.take_if(|origin| chosen(*origin)) {
            actions.extend(end(origin, outcome.clone(), view.generation));
        }
    }

    /// How far the operation is, in 65536ths: main knows it by the piece, the sub by the segment.
    fn progress(&self, state: &Sanitize, blocks: u64) -> u16 {
        let Sanitize::UnderWay { order, at } = state else {
            return 0;
        };
        let done = self.segment.as_ref().map_or(0, |run| run.done);
        let blocks = u128::from(blocks.max(1));
        let all = blocks * u128::from(order.method.passes());
        let so_far = blocks * u128::from(at.pass) + u128::from(at.next) + u128::from(done);
        u16::try_from(so_far * 65_536 / all).unwrap_or(u16::MAX)
    }

    /// How a command ends that comes while an operation is under way or after it has failed.
    pub(super) fn sense(&self, state: &Sanitize, blocks: u64) -> Option<Sense> {
        state.sense(self.progress(state, blocks))
    }

    /// The same for a command that goes through the gate.
    pub(super) fn refusal(&self, op: &Op, state: &Sanitize, blocks: u64) -> Option<Outcome> {
        let sense = self.sense(state, blocks)?;
        let passes = match op {
            Op::Event(event) => crate::shared::passes_sanitize(state, event),
            _ => false,
        };
        (!passes).then_some(Outcome::Check(sense))
    }

    /// What people are told.
    pub(super) fn status(&self, state: &Sanitize, blocks: u64) -> Option<SanitizeStatus> {
        let percent = (u32::from(self.progress(state, blocks)) * 100 / 65_536) as u8;
        match state {
            Sanitize::Idle => None,
            Sanitize::UnderWay { order, at } => {
                let method = match order.method {
                    Method::Overwrite { .. } => "overwrite",
                    Method::BlockErase => "block erase",
                    Method::Format => "format",
                };
                Some(SanitizeStatus {
                    failed: false,
                    method: Some(method.to_owned()),
                    percent: Some(percent),
                    pass: at.pass.saturating_add(1),
                    passes: order.method.passes(),
                })
            }
            Sanitize::Failed { .. } | Sanitize::FormatFailed => {
                let method = (*state == Sanitize::FormatFailed).then(|| "format".to_owned());
                Some(SanitizeStatus { failed: true, method, percent: None, pass: 0, passes: 0 })
            }
        }
    }

    /// What always holds.
    pub(super) fn check(&self) {
        let Some(segment) = &self.segment else { return };
        assert!(segment.running <= SANITIZE_CHUNKS_MAX, "more pieces than may be under way: {segment:?}");
        assert!(segment.next <= segment.end, "pieces beyond the segment: {segment:?}");
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
        if self.again || self.told || self.flushing || self.running >= SANITIZE_CHUNKS_MAX {
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

/// The only copy's disk could not take it.
const fn is_disks(sense: &Sense) -> bool {
    matches!(sense.key, SenseKey::MediumError | SenseKey::HardwareError | SenseKey::DataProtect)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{NexusId, TaskTag};
    use crate::pair::Role;

    const VIEW: PairView = PairView::suspended(Role::Main);
    const HOST: Origin = Origin::Host { nexus: NexusId(1), tag: TaskTag::of(5) };

    /// How the host heard that its waiting is over, if it did.
    fn heard(act: impl FnOnce(&mut Sanitizing, &mut Vec<Action>)) -> Option<Outcome> {
        let (mut sanitizing, mut actions) = (Sanitizing::new(), Vec::new());
        sanitizing.wait(HOST);
        act(&mut sanitizing, &mut actions);
        let before = actions.len();
        sanitizing.end_wait(&Outcome::Aborted, &VIEW, &mut actions, |_| true);
        assert_eq!(actions.len(), 1, "it hears once, and is not forgotten");
        match actions.pop() {
            Some(Action::Answer { outcome, .. }) => (before == 1).then_some(outcome),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_waits_for_the_end_hears_what_became_of_the_operation_and_no_sooner() {
        let order = Order { method: Method::BlockErase, ause: false };
        let under_way = Sanitize::UnderWay { order, at: Position::default() };
        let heard = |state: &Sanitize| heard(|waits, actions| waits.answer(state, &VIEW, actions));
        assert_eq!(heard(&under_way), None);
        assert_eq!(heard(&Sanitize::Idle), Some(Outcome::Good(Data::new())));
        assert_eq!(heard(&Sanitize::FormatFailed), Some(Outcome::Check(Sense::FORMAT_FAILED)));
    }

    #[test]
    fn only_who_is_chosen_waits_no_more() {
        let heard = |chosen: fn(Origin) -> bool| {
            heard(|waits, actions| waits.end_wait(&Outcome::Aborted, &VIEW, actions, chosen))
        };
        assert_eq!(heard(|origin| matches!(origin, Origin::Peer { .. })), None);
        assert_eq!(heard(|origin| origin == HOST), Some(Outcome::Aborted));
    }
}
