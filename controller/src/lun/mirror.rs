//! Main's side of the other copy: the order of the changes that go there, which of them are not on both copies yet, and
//! the room that the sub has for their data.
//!
//! What always holds:
//! * A change that goes to both copies has a sequence of its own, one more than the last.
//! * It is in flight until both have it. Below [`Mirror::committed_below`] there is none: the sub may let the ranges of
//!   those go.
//! * Who waits for room goes on in the order of coming, and nobody passes.

use std::collections::{BTreeMap, VecDeque};

use super::budget::Budget;

/// Changes under way to the sub's copy.
#[derive(Debug)]
pub(super) struct Mirror {
    next: u64,
    /// Changes that are not on both copies yet, by sequence: their tasks.
    in_flight: BTreeMap<u64, u32>,
    /// The last [`Mirror::committed_below`] that the sub was told.
    told: u64,
    room: Budget,
    /// Tasks that wait for room, in their order.
    waiting: VecDeque<u32>,
}

/// The place of a change in the order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// Its number.
    pub(super) sequence: u64,
    /// Everything below is on both copies.
    pub(super) released: u64,
}

impl Mirror {
    pub(super) const fn new(room: Budget) -> Self {
        Self { next: 1, in_flight: BTreeMap::new(), told: 1, room, waiting: VecDeque::new() }
    }

    /// From now on there is so much room.
    pub(super) const fn set_room(&mut self, room: Budget) {
        self.room = room;
    }

    /// A new order begins. Of the one before nothing is in flight any more: its tasks know of it themselves.
    pub(super) fn begin(&mut self) {
        self.in_flight.clear();
        (self.next, self.told) = (1, 1);
    }

    /// The sub is out of reach.
    pub(super) fn lose(&mut self) {
        self.in_flight.clear();
        self.waiting.clear();
    }

    /// Puts a task's change into the order. The message that carries it tells what is on both copies as well.
    pub(super) fn order(&mut self, task: u32) -> Place {
        let sequence = self.next;
        self.next += 1;
        let last = self.in_flight.insert(sequence, task);
        debug_assert!(last.is_none());
        self.told = self.committed_below();
        debug_assert!(self.told <= sequence);
        Place { sequence, released: self.told }
    }

    /// The task of a change in flight.
    pub(super) fn task(&self, sequence: u64) -> Option<u32> {
        self.in_flight.get(&sequence).copied()
    }

    /// A task's change is on both copies, or has left the order.
    pub(super) fn end(&mut self, sequence: u64, task: u32) {
        if self.in_flight.get(&sequence) == Some(&task) {
            self.in_flight.remove(&sequence);
        }
    }

    /// Below this sequence everything is on both copies.
    pub(super) fn committed_below(&self) -> u64 {
        self.in_flight.keys().next().copied().unwrap_or(self.next)
    }

    /// There is something that the sub has not been told yet.
    pub(super) fn has_news(&self) -> bool {
        self.committed_below() > self.told
    }

    /// What the sub has not been told yet of [`Mirror::committed_below`]: from now on it has.
    pub(super) fn tell(&mut self) -> Option<u64> {
        let committed = self.committed_below();
        let news = committed > self.told;
        self.told = self.told.max(committed);
        news.then_some(committed)
    }

    /// The oldest change in flight whose task `chosen` picks.
    pub(super) fn oldest(&self, chosen: impl Fn(u32) -> bool) -> Option<u64> {
        self.in_flight.iter().find(|(_, task)| chosen(**task)).map(|(sequence, _)| *sequence)
    }

    /// Takes room for the data of a change. Who has not waited yet passes nobody who does.
    pub(super) fn take_room(&mut self, bytes: u64, waited: bool) -> bool {
        (waited || self.waiting.is_empty()) && self.room.take(bytes)
    }

    /// The sub has a change's data, or will never get it.
    pub(super) fn give_room(&mut self, bytes: u64) {
        self.room.give(bytes);
    }

    /// A task waits for room.
    pub(super) fn wait_for_room(&mut self, task: u32) {
        self.waiting.push_back(task);
    }

    /// The first that waits for room.
    pub(super) fn first_waiting(&self) -> Option<u32> {
        self.waiting.front().copied()
    }

    /// The first that waited has got it, or is gone.
    pub(super) fn first_goes(&mut self) {
        self.waiting.pop_front();
    }

    /// A task waits no more.
    pub(super) fn waits_no_more(&mut self, task: u32) {
        self.waiting.retain(|other| *other != task);
    }

    /// The room, what is taken of it, and the most that ever was.
    pub(super) const fn usage(&self) -> (u64, u64, u64) {
        self.room.usage()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_committed_ends_at_the_oldest_change_in_flight_and_is_told_once() {
        let mut mirror = Mirror::new(Budget::of(1));
        let places = [7, 8, 9].map(|task| mirror.order(task).sequence);
        assert_eq!(places, [1, 2, 3]);
        assert_eq!((mirror.committed_below(), mirror.tell()), (1, None));
        mirror.end(2, 8);
        assert_eq!(mirror.tell(), None, "one before it is still on its way");
        mirror.end(1, 8);
        assert_eq!(mirror.task(1), Some(7), "that slot is another task's");
        mirror.end(1, 7);
        assert_eq!((mirror.tell(), mirror.tell()), (Some(3), None));
        mirror.end(3, 9);
        assert_eq!(mirror.order(10), Place { sequence: 4, released: 4 });
        assert_eq!(mirror.tell(), None, "the order has told it");
    }

    #[test]
    fn who_comes_later_passes_nobody_who_waits_for_room() {
        let mut mirror = Mirror::new(Budget::of(10));
        assert!(mirror.take_room(8, false) && !mirror.take_room(4, false));
        mirror.wait_for_room(1);
        assert!(!mirror.take_room(1, false), "there would be room, but another waits");
        mirror.give_room(8);
        assert_eq!(mirror.first_waiting(), Some(1));
        assert!(mirror.take_room(4, true));
        mirror.first_goes();
        assert!(mirror.take_room(1, false));
    }
}
