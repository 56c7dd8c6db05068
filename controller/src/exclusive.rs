//! Ranges in flight: a write holds its blocks exclusively, a read holds its blocks shared, and what overlaps
//! waits in the order it came.
//!
//! Fairness: a newcomer waits not only for holders but also for everybody who already waits and overlaps it, so
//! no stream of readers starves a writer. Nothing is ever granted in part: a command with several ranges gets
//! all of them at once, hence two commands cannot wait for each other.
//!
//! The exclusive ranges are disjoint by construction, so one look at the neighbour decides. Shared ranges may
//! overlap each other; the longest one held bounds how far back a look has to go.

use std::collections::{BTreeMap, VecDeque};

use protocol::block::{BlockRange, Lba};

/// Commands that may wait for ranges of one LUN; one more is refused.
pub const WAITERS_MAX: usize = 1024;

/// How a range is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// By reads: beside each other.
    Shared,
    /// By changes: alone.
    Exclusive,
}

/// Who holds or waits: the LUN core's number for a command in flight.
pub type Holder = u32;

/// The ranges of one command: none (SYNCHRONIZE CACHE), one, or those of an UNMAP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ranges {
    /// No block at all.
    None,
    /// The usual case.
    One(BlockRange),
    /// None overlapping another.
    Many(Vec<BlockRange>),
}

impl Ranges {
    /// As a slice.
    #[must_use]
    pub fn as_slice(&self) -> &[BlockRange] {
        match self {
            Self::None => &[],
            Self::One(range) => core::slice::from_ref(range),
            Self::Many(ranges) => ranges,
        }
    }

    /// True if any of them overlaps any of the others.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> bool {
        self.as_slice().iter().any(|mine| other.as_slice().iter().any(|theirs| mine.overlaps(theirs)))
    }
}

/// What a request came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// The ranges are held.
    Granted,
    /// They will be granted by a later release.
    Waits,
    /// Too many wait already; nothing was changed.
    Refused,
}

#[derive(Debug)]
struct Waiter {
    holder: Holder,
    mode: Mode,
    ranges: Ranges,
}

/// The ranges held and waited for of one LUN.
#[derive(Debug, Default)]
pub struct RangeLocks {
    /// Start to (end, holder); disjoint.
    exclusive: BTreeMap<u64, (u64, Holder)>,
    /// (Start, holder) to end.
    shared: BTreeMap<(u64, Holder), u64>,
    /// Longest range in `shared` since it was last empty.
    shared_blocks_max: u64,
    waiting: VecDeque<Waiter>,
    /// How often a request had to wait.
    waits: u64,
    /// The most that ever waited at once.
    waiting_peak: usize,
}

impl RangeLocks {
    /// Asks for all of `ranges`. A holder asks once and releases once.
    pub fn request(&mut self, holder: Holder, mode: Mode, ranges: &Ranges) -> Request {
        if self.is_free(mode, ranges) {
            self.hold(holder, mode, ranges);
            return Request::Granted;
        }
        if self.waiting.len() >= WAITERS_MAX {
            return Request::Refused;
        }
        self.waits += 1;
        self.waiting.push_back(Waiter { holder, mode, ranges: ranges.clone() });
        self.waiting_peak = self.waiting_peak.max(self.waiting.len());
        Request::Waits
    }

    /// Requests that wait, and the most that ever did.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (self.waiting.len(), self.waiting_peak)
    }

    /// Whether a request would be granted at once: nothing held and nobody waiting is in the way.
    #[must_use]
    pub fn is_free(&self, mode: Mode, ranges: &Ranges) -> bool {
        !self.is_held_against(mode, ranges) && !self.is_waited_for(mode, ranges, self.waiting.len())
    }

    /// Gives up what `holder` holds, and appends to `granted` those who hold now what they waited for.
    pub fn release(&mut self, holder: Holder, mode: Mode, ranges: &Ranges, granted: &mut Vec<Holder>) {
        for range in ranges.as_slice() {
            match mode {
                Mode::Exclusive => {
                    let gone = self.exclusive.remove(&range.start.0);
                    debug_assert!(range.is_empty() || gone.is_some_and(|(_, by)| by == holder));
                }
                Mode::Shared => {
                    let gone = self.shared.remove(&(range.start.0, holder));
                    debug_assert!(range.is_empty() || gone.is_some());
                }
            }
        }
        if self.shared.is_empty() {
            self.shared_blocks_max = 0;
        }
        self.grant_waiting(granted);
    }

    /// Takes `holder` out of the queue. False if it does not wait (any more). Others may be granted by it.
    pub fn cancel(&mut self, holder: Holder, granted: &mut Vec<Holder>) -> bool {
        let Some(at) = self.waiting.iter().position(|waiter| waiter.holder == holder) else {
            return false;
        };
        self.waiting.remove(at);
        self.grant_waiting(granted);
        true
    }

    /// How often a request had to wait since the start.
    #[must_use]
    pub const fn waits(&self) -> u64 {
        self.waits
    }

    /// What always holds: no two hold what cannot be held together, and each that waits has a reason to.
    ///
    /// # Panics
    ///
    /// If something does not hold.
    pub fn check(&self) {
        let mut last = 0;
        for (start, (end, holder)) in &self.exclusive {
            assert!(start < end, "{holder} holds an empty range at {start}");
            assert!(last <= *start, "the exclusive range of {holder} at {start} overlaps another");
            last = *end;
        }
        for ((start, holder), end) in &self.shared {
            let blocks = end - start;
            assert!(
                0 < blocks && blocks <= self.shared_blocks_max,
                "{blocks} blocks, longer than the longest"
            );
            let range = BlockRange { start: Lba(*start), blocks };
            assert!(!self.overlaps_exclusive(&range), "{holder} reads what another changes: {range}");
        }
        assert!(self.waiting.len() <= self.waiting_peak && self.waiting_peak <= WAITERS_MAX, "too many wait");
        for (at, Waiter { holder, mode, ranges }) in self.waiting.iter().enumerate() {
            let in_the_way = self.is_held_against(*mode, ranges) || self.is_waited_for(*mode, ranges, at);
            assert!(in_the_way, "{holder} waits for nothing");
            let twice = self.waiting.iter().skip(at + 1).any(|other| other.holder == *holder);
            assert!(!twice, "{holder} waits twice");
        }
    }

    fn hold(&mut self, holder: Holder, mode: Mode, ranges: &Ranges) {
        for range in ranges.as_slice() {
            if range.is_empty() {
                continue;
            }
            match mode {
                Mode::Exclusive => {
                    self.exclusive.insert(range.start.0, (range.end().0, holder));
                }
                Mode::Shared => {
                    self.shared.insert((range.start.0, holder), range.end().0);
                    self.shared_blocks_max = self.shared_blocks_max.max(range.blocks);
                }
            }
        }
    }

    fn is_held_against(&self, mode: Mode, ranges: &Ranges) -> bool {
        ranges.as_slice().iter().any(|range| {
            self.overlaps_exclusive(range) || (mode == Mode::Exclusive && self.overlaps_shared(range))
        })
    }

    fn overlaps_exclusive(&self, range: &BlockRange) -> bool {
        // Disjoint ranges are sorted by their ends too: only the last one that starts before our end can overlap.
        !range.is_empty()
            && self
                .exclusive
                .range(..range.end().0)
                .next_back()
                .is_some_and(|(_, (end, _))| *end > range.start.0)
    }

    fn overlaps_shared(&self, range: &BlockRange) -> bool {
        if range.is_empty() {
            return false;
        }
        let first = range.start.0.saturating_sub(self.shared_blocks_max);
        self.shared.range((first, 0)..(range.end().0, 0)).any(|(_, end)| *end > range.start.0)
    }

    /// Whether one of the first `before` waiters stands in the way.
    fn is_waited_for(&self, mode: Mode, ranges: &Ranges, before: usize) -> bool {
        self.waiting.iter().take(before).any(|waiter| {
            (mode == Mode::Exclusive || waiter.mode == Mode::Exclusive) && waiter.ranges.overlap(ranges)
        })
    }

    fn grant_waiting(&mut self, granted: &mut Vec<Holder>) {
        let mut at = 0;
        while let Some(waiter) = self.waiting.get(at) {
            if self.is_held_against(waiter.mode, &waiter.ranges)
                || self.is_waited_for(waiter.mode, &waiter.ranges, at)
            {
                at += 1;
                continue;
            }
            if let Some(waiter) = self.waiting.remove(at) {
                self.hold(waiter.holder, waiter.mode, &waiter.ranges);
                granted.push(waiter.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(start: u64, blocks: u64) -> Ranges {
        Ranges::One(BlockRange::new(start, blocks).unwrap())
    }

    #[test]
    fn reads_go_beside_each_other_and_a_write_waits_for_all_of_them() {
        let mut locks = RangeLocks::default();
        let mut granted = Vec::new();
        assert_eq!(locks.request(1, Mode::Shared, &one(0, 8)), Request::Granted);
        assert_eq!(locks.request(2, Mode::Shared, &one(4, 8)), Request::Granted);
        assert_eq!(locks.request(3, Mode::Exclusive, &one(7, 1)), Request::Waits);
        locks.release(1, Mode::Shared, &one(0, 8), &mut granted);
        assert!(granted.is_empty());
        locks.release(2, Mode::Shared, &one(4, 8), &mut granted);
        assert_eq!(granted, [3]);
    }

    #[test]
    fn a_read_that_comes_after_a_waiting_write_waits_behind_it() {
        let mut locks = RangeLocks::default();
        let mut granted = Vec::new();
        locks.request(1, Mode::Shared, &one(0, 8));
        locks.request(2, Mode::Exclusive, &one(0, 8));
        assert_eq!(locks.request(3, Mode::Shared, &one(0, 8)), Request::Waits);
        assert_eq!(locks.request(4, Mode::Shared, &one(8, 8)), Request::Granted);
        locks.release(1, Mode::Shared, &one(0, 8), &mut granted);
        assert_eq!(granted, [2]);
        locks.release(2, Mode::Exclusive, &one(0, 8), &mut granted);
        assert_eq!(granted, [2, 3]);
    }

    #[test]
    fn several_ranges_are_granted_together_or_not_at_all() {
        let mut locks = RangeLocks::default();
        let mut granted = Vec::new();
        let two = Ranges::Many(vec![BlockRange::new(0, 1).unwrap(), BlockRange::new(10, 1).unwrap()]);
        locks.request(1, Mode::Exclusive, &one(10, 1));
        assert_eq!(locks.request(2, Mode::Exclusive, &two), Request::Waits);
        assert_eq!(locks.request(3, Mode::Exclusive, &one(0, 1)), Request::Waits);
        locks.release(1, Mode::Exclusive, &one(10, 1), &mut granted);
        assert_eq!(granted, [2]);
        locks.release(2, Mode::Exclusive, &two, &mut granted);
        assert_eq!(granted, [2, 3]);
    }

    #[test]
    fn who_gives_up_waiting_stands_in_nobodys_way() {
        let mut locks = RangeLocks::default();
        let mut granted = Vec::new();
        locks.request(1, Mode::Shared, &one(0, 8));
        locks.request(2, Mode::Exclusive, &one(0, 8));
        locks.request(3, Mode::Shared, &one(0, 8));
        assert!(locks.cancel(2, &mut granted));
        assert_eq!(granted, [3]);
        assert!(!locks.cancel(2, &mut granted));
    }

    #[test]
    fn one_waiter_too_many_is_refused() {
        let mut locks = RangeLocks::default();
        locks.request(0, Mode::Exclusive, &one(0, 1));
        for holder in 1..=WAITERS_MAX as u32 {
            assert_eq!(locks.request(holder, Mode::Exclusive, &one(0, 1)), Request::Waits);
        }
        assert_eq!(locks.request(9999, Mode::Exclusive, &one(0, 1)), Request::Refused);
    }

    proptest! {
        /// Against a model that compares every pair: nothing incompatible is ever held together, grants come in
        /// order among overlapping requests, and everybody is granted in the end.
        #[test]
        fn holders_never_conflict_and_everybody_is_served_in_turn(
            steps in prop::collection::vec((0u64..40, 1u64..12, any::<bool>(), any::<prop::sample::Index>()), 1..120)
        ) {
            let mut locks = RangeLocks::default();
            let mut held: Vec<(u32, Mode, Ranges)> = Vec::new();
            let mut waiting: Vec<(u32, Mode, Ranges)> = Vec::new();
            let conflict = |a: &(u32, Mode, Ranges), b: &(u32, Mode, Ranges)| {
                (a.1 == Mode::Exclusive || b.1 == Mode::Exclusive) && a.2.overlap(&b.2)
            };
            for (next, (start, blocks, write, pick)) in (0..).zip(steps) {
                let mode = if write { Mode::Exclusive } else { Mode::Shared };
                let asked = (next, mode, one(start, blocks));
                let free = !held.iter().chain(&waiting).any(|other| conflict(&asked, other));
                match locks.request(asked.0, asked.1, &asked.2) {
                    Request::Granted => { prop_assert!(free); held.push(asked); }
                    Request::Waits => { prop_assert!(!free); waiting.push(asked); }
                    Request::Refused => prop_assert!(false, "far from the bound"),
                }
                locks.check();
                if held.len() > 4 {
                    let gone = held.remove(pick.index(held.len()));
                    let mut granted = Vec::new();
                    locks.release(gone.0, gone.1, &gone.2, &mut granted);
                    locks.check();
                    for holder in granted {
                        let at = waiting.iter().position(|w| w.0 == holder).unwrap();
                        prop_assert!(!waiting[..at].iter().any(|w| conflict(w, &waiting[at])));
                        let now = waiting.remove(at);
                        prop_assert!(!held.iter().any(|h| conflict(h, &now)));
                        held.push(now);
                    }
                }
            }
            while let Some(gone) = held.pop() {
                let mut granted = Vec::new();
                locks.release(gone.0, gone.1, &gone.2, &mut granted);
                for holder in granted {
                    let at = waiting.iter().position(|w| w.0 == holder).unwrap();
                    held.push(waiting.remove(at));
                }
            }
            prop_assert!(waiting.is_empty());
            prop_assert!(locks.exclusive.is_empty() && locks.shared.is_empty() && locks.waiting.is_empty());
        }
    }
}
