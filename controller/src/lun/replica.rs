//! The sub's copy: the changes that main has ordered on it, from their arrival until main says that they are on both.
//!
//! What always holds:
//! * A change begins when no read of the local copy is in its way, and holds its range until it is released: main's
//!   DONE, a later order that overlaps it, or a `released` beyond it.
//! * APPLIED goes back by the bridge that brought the change, once. What that bridge's loss leaves behind ends with its
//!   disk I/O, and says nothing.

use std::collections::BTreeMap;

use slab::Slab;

use super::operation::{is_atomic, ranges, to_disk};
use super::task::{Action, Slot};
use super::volume::Volume;
use crate::command::Op;
use crate::disk::{DiskIo, DiskResult};
use crate::exclusive::{Holder, Mode, RangeLocks, Ranges, Request};
use crate::link::LinkId;

/// What a change of the sub's own copy waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Reads of the local copy.
    Range,
    /// The disk.
    Writing,
    /// The disk's flush.
    Flushing,
    /// The disk, from which it is read back.
    Verifying,
    /// Main's word that the range is free on both: until then its reads go to main.
    Release,
}

/// A change main has ordered on the sub's own copy.
#[derive(Debug)]
struct Apply {
    sequence: u64,
    /// Where APPLIED goes; `None` once that bridge is gone.
    link: Option<LinkId>,
    io: DiskIo,
    /// All or nothing, by way of the redo record.
    atomic: bool,
    ranges: Ranges,
    durable: bool,
    /// WRITE AND VERIFY: read back when it is durable.
    verify: bool,
    /// START STOP UNIT: what the unit is once the disk is done.
    start: Option<bool>,
    stage: Stage,
    /// The forward it belongs to, if it came from a host of this controller.
    forward: Option<u32>,
}

/// A change as main orders it.
#[derive(Debug)]
pub(super) struct Ordered<'a> {
    /// The bridge that brought it.
    pub(super) link: LinkId,
    /// Its place in the order.
    pub(super) sequence: u64,
    pub(super) op: &'a Op,
    pub(super) durable: bool,
    /// The forward it belongs to, if it came from a host of this controller.
    pub(super) forward: Option<u32>,
}

/// What a completion of the disk makes of a change.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Applied {
    /// It is known no more.
    Unknown,
    /// It is not over: this is next.
    Goes(DiskIo),
    /// Its bridge is gone. Its range is to be released.
    Lost(Ranges, Option<u32>),
    /// It is over, and waits for its release.
    Over {
        /// Where APPLIED goes.
        link: LinkId,
        /// Its place in the order.
        sequence: u64,
        /// The forward it belongs to.
        forward: Option<u32>,
    },
}

/// The changes under way on the copy of a sub.
#[derive(Debug, Default)]
pub(super) struct Replica {
    applies: Slab<Apply>,
    /// Done here, not yet known to be on both copies, by sequence.
    unreleased: BTreeMap<u64, u32>,
}

impl Replica {
    /// Nothing is known of any change.
    pub(super) fn is_empty(&self) -> bool {
        self.applies.is_empty()
    }

    /// Nothing is under way: what there is waits for its release.
    pub(super) fn is_quiet(&self) -> bool {
        self.applies.iter().all(|(_, apply)| apply.stage == Stage::Release)
    }

    /// A change that main has ordered: its slot, and whether its range is free, waits or was refused.
    pub(super) fn take(&mut self, ordered: &Ordered<'_>, locks: &mut RangeLocks) -> (u32, Request) {
        let Ordered { link, sequence, op, durable, forward } = *ordered;
        let (ranges, _) = ranges(op);
        let (io, atomic) = (to_disk(op), is_atomic(op));
        let verify = matches!(op, Op::WriteAndVerify { .. });
        let start = if let Op::StartStop { start } = op { Some(*start) } else { None };
        let (link, stage) = (Some(link), Stage::Range);
        let apply = Apply { sequence, link, io, atomic, ranges, durable, verify, start, stage, forward };
        let slot = self.applies.insert(apply) as u32;
        let request = locks.request(holder(slot), Mode::Exclusive, &self.applies[slot as usize].ranges);
        if matches!(request, Request::Refused) {
            self.applies.remove(slot as usize);
        }
        (slot, request)
    }

    /// Main orders no change of a range before the one before it is on both copies: an order is as good as the word
    /// that those it overlaps are free. Their places in the order.
    pub(super) fn overtaken(&self, ranges: &Ranges) -> Vec<u64> {
        let overlaps =
            |slot: &u32| self.applies.get(*slot as usize).is_some_and(|apply| apply.ranges.overlap(ranges));
        self.unreleased.iter().filter(|(_, slot)| overlaps(slot)).map(|(sequence, _)| *sequence).collect()
    }

    /// The range of a change is free of the local copy's reads: to the disk with it.
    pub(super) fn start(&mut self, slot: u32, volume: &mut Volume) -> Option<Action> {
        let apply = self.applies.get_mut(slot as usize)?;
        apply.stage = if apply.io == DiskIo::Flush { Stage::Flushing } else { Stage::Writing };
        volume.change(Slot::Apply(slot), apply.io.clone(), apply.atomic)
    }

    /// The disk is done with a change, or with a part of it. `starts` is told what a START STOP UNIT has done.
    pub(super) fn on_disk(&mut self, slot: u32, result: &DiskResult, starts: impl FnOnce(bool)) -> Applied {
        let Some(apply) = self.applies.get_mut(slot as usize) else {
            return Applied::Unknown;
        };
        match (apply.stage, &apply.io) {
            (Stage::Writing, _) if result.is_ok() && apply.durable => {
                apply.stage = Stage::Flushing;
                return Applied::Goes(DiskIo::Flush);
            }
            (Stage::Flushing, DiskIo::Write { range, data }) if result.is_ok() && apply.verify => {
                let io = DiskIo::Verify { range: *range, data: data.clone() };
                apply.stage = Stage::Verifying;
                return Applied::Goes(io);
            }
            _ => {}
        }
        if let (Some(start), true) = (apply.start, result.is_ok()) {
            starts(start);
        }
        let (sequence, forward) = (apply.sequence, apply.forward);
        let Some(link) = apply.link else {
            let apply = self.applies.remove(slot as usize);
            return Applied::Lost(apply.ranges, forward);
        };
        apply.stage = Stage::Release;
        self.unreleased.insert(sequence, slot);
        Applied::Over { link, sequence, forward }
    }

    /// The places of those below `released`.
    pub(super) fn below(&self, released: u64) -> Option<u64> {
        self.unreleased.keys().next().copied().filter(|sequence| *sequence < released)
    }

    /// A change is on both copies: who waited for its range gets it.
    pub(super) fn release(&mut self, sequence: u64, locks: &mut RangeLocks) -> Vec<Holder> {
        let mut granted = Vec::new();
        let slot = self.unreleased.remove(&sequence);
        if let Some((slot, apply)) =
            slot.and_then(|slot| Some((slot, self.applies.try_remove(slot as usize)?)))
        {
            locks.release(holder(slot), Mode::Exclusive, &apply.ranges, &mut granted);
        }
        granted
    }

    /// The interlink is gone. Whose forwards the disk still has, and who gets the ranges of the rest.
    pub(super) fn lose(&mut self, locks: &mut RangeLocks) -> (Vec<u32>, Vec<Holder>) {
        self.unreleased.clear();
        let (mut writing, mut granted) = (Vec::new(), Vec::new());
        let slots: Vec<u32> = self.applies.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            let Some(apply) = self.applies.get_mut(slot as usize) else {
                continue;
            };
            apply.link = None;
            match apply.stage {
                Stage::Range => {
                    let apply = self.applies.remove(slot as usize);
                    // The going of another may have granted it.
                    if !locks.cancel(holder(slot), &mut granted) {
                        locks.release(holder(slot), Mode::Exclusive, &apply.ranges, &mut granted);
                    }
                }
                Stage::Release => {
                    let apply = self.applies.remove(slot as usize);
                    locks.release(holder(slot), Mode::Exclusive, &apply.ranges, &mut granted);
                }
                Stage::Writing | Stage::Flushing | Stage::Verifying => writing.extend(apply.forward),
            }
        }
        (writing, granted)
    }
}

fn holder(slot: u32) -> Holder {
    Slot::Apply(slot).holder()
}

#[cfg(test)]
mod tests {
    use protocol::block::BlockRange;

    use super::*;
    use crate::command::Data;

    #[test]
    fn when_the_interlink_goes_away_no_range_stays_held() {
        let range = |start, blocks| BlockRange::new(start, blocks).unwrap();
        let (mut replica, mut locks) = (Replica::default(), RangeLocks::default());
        let reader = Slot::Task(0).holder();
        assert!(matches!(locks.request(reader, Mode::Shared, &Ranges::One(range(0, 2))), Request::Granted));
        for (sequence, range) in [(1, range(0, 4)), (2, range(2, 2))] {
            let op = Op::Write { range, data: Data::new(), fua: false };
            let ordered = Ordered { link: LinkId(0), sequence, op: &op, durable: false, forward: None };
            assert!(matches!(replica.take(&ordered, &mut locks).1, Request::Waits));
        }
        // The going of the first grants the second, which goes as well.
        let (writing, _) = replica.lose(&mut locks);
        assert!(writing.is_empty() && replica.is_empty());
        assert!(locks.is_free(Mode::Exclusive, &Ranges::One(range(2, 2))));
    }
}
