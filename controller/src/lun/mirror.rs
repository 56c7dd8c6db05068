//! Main's side of the other copy: the order of the changes that go there, which of them are not on both copies yet, and
//! the room that the sub has for their data.
//!
//! What always holds:
//! * A change that goes to both copies has a sequence of its own, one more than the last.
//! * It is in flight until both have it. Below [`Mirror::committed_below`] there is none: the sub may let the ranges of
//!   those go.
//! * Who waits for room goes on in the order of coming, and nobody passes.

use std::collections::{BTreeMap, VecDeque};

use protocol::interlink::{GenerationTag, Message};

use super::budget::Budget;
use super::task::{Action, Leg, Origin, Task};
use crate::command::Data;
use crate::link::Via;

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
    /// Tasks that ever had to.
    waits: u64,
}

/// The place of a change in the order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    /// Its number.
    sequence: u64,
    /// Everything below is on both copies.
    released: u64,
}

impl Mirror {
    pub(super) const fn new(room: Budget) -> Self {
        Self { next: 1, in_flight: BTreeMap::new(), told: 1, room, waiting: VecDeque::new(), waits: 0 }
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

    /// Puts the change of the task in `slot` into the order, and sends it: the peer's leg has begun. What the peer
    /// forwarded it has already, but for what came of an ORWRITE.
    pub(super) fn send(&mut self, slot: u32, task: &mut Task, generation: GenerationTag) -> Action {
        let Place { sequence, released } = self.order(slot);
        task.sequence = sequence;
        task.peer = Leg::Writing;
        let (via, message, payload) = match task.origin {
            Origin::Peer { link, id } => {
                (Via::Link(link), Message::Order { id, sequence, released }, task.result.clone())
            }
            Origin::Host { .. } | Origin::Copy | Origin::Sanitize(_) | Origin::Event(_) | Origin::Nobody => {
                let (op, payload) = task.apply_op();
                (Via::AnyBridge, Message::Apply { sequence, released, durable: task.durable, op }, payload)
            }
        };
        Action::Send { via, message, payload, generation }
    }

    /// The next place in the order is a task's. The message that carries its change tells what is on both copies as
    /// well.
    fn order(&mut self, task: u32) -> Place {
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
    fn committed_below(&self) -> u64 {
        self.in_flight.keys().next().copied().unwrap_or(self.next)
    }

    /// There is something that the sub has not been told yet.
    pub(super) fn has_news(&self) -> bool {
        self.committed_below() > self.told
    }

    /// Tells the sub what is on both copies, when no other message did.
    pub(super) fn news(&mut self, generation: GenerationTag) -> Option<Action> {
        let (via, payload) = (Via::AnyBridge, Data::new());
        let send =
            |released| Action::Send { via, message: Message::Released { released }, payload, generation };
        self.tell().map(send)
    }

    /// What the sub has not been told yet of [`Mirror::committed_below`]: from now on it has.
    fn tell(&mut self) -> Option<u64> {
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
        self.waits += 1;
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

    /// How often a task had to wait for room.
    pub(super) const fn waits(&self) -> u64 {
        self.waits
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
