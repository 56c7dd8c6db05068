//! The task set: the commands under way on the blocks of a LUN at one controller, with the ranges that they hold or
//! wait for. Changes that main orders on the sub's copy ([`crate::lun::replica`]) are no tasks, but hold ranges of the
//! same kind.
//!
//! What always holds ([`TaskSet::check`]):
//! * A task of stage Range waits for its ranges; any other holds them until it ends.
//! * Data waits for the lease exactly for the tasks of that stage.
//! * A task that is not admitted as a change has no leg, and none but one on its legs has room at the peer.

use std::collections::BTreeMap;

use protocol::scsi::sense::Status;
use slab::Slab;

use crate::command::{Data, Op, Outcome};
use crate::exclusive::{Holder, Mode, RangeLocks, Ranges, Request};
use crate::lun::task::{Leg, Origin, Slot, Stage, Task};
use crate::lun::{LUN_COMMANDS_MAX, Used};
use crate::time::Time;

/// What a command that comes finds.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Entered {
    /// Its ranges are free, and held by it: the task goes on.
    Granted(u32),
    /// They are not; it waits for them.
    Waits,
    /// There is no place for it, to wait or to go on. This is what its origin is to hear.
    NoPlace(Outcome),
}

/// Commands under way, and those that wait to be.
#[derive(Debug, Default)]
pub(in crate::lun) struct TaskSet {
    tasks: Slab<Task>,
    locks: RangeLocks,
    /// Data of the sub's reads that waits for the lease to be renewed.
    awaiting_lease: BTreeMap<u32, Data>,
    /// Commands that ever came, and the most that there were at once.
    entered: u64,
    peak: usize,
}

impl TaskSet {
    /// Whether a read of these blocks meets no change under way.
    pub(in crate::lun) fn is_free_to_read(&self, ranges: &Ranges) -> bool {
        self.locks.is_free(Mode::Shared, ranges)
    }

    /// The number of commands that have come so far: those that come now have a higher one.
    pub(in crate::lun) const fn entered(&self) -> u64 {
        self.entered
    }

    /// Whether a host of this controller has a command under way that came when there were at most `entered`.
    pub(in crate::lun) fn has_host_since_before(&self, entered: u64) -> bool {
        self.iter().any(|(_, task)| task.number <= entered && matches!(task.origin, Origin::Host { .. }))
    }

    /// Commands of this controller's hosts here.
    pub(in crate::lun) fn hosts(&self) -> usize {
        self.iter().filter(|(_, task)| matches!(task.origin, Origin::Host { .. })).count()
    }

    /// Commands here and the most there were; those that wait for ranges and the most that did.
    pub(in crate::lun) fn usage(&self) -> (Used, Used) {
        let used = |(now, peak): (usize, usize)| Used { now: now as u64, peak: peak as u64 };
        (used((self.tasks.len(), self.peak)), used(self.locks.waiting()))
    }

    /// How often commands had to wait for a range.
    pub(in crate::lun) const fn range_waits(&self) -> u64 {
        self.locks.waits()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Whether a command of a host is here, of either controller.
    pub(super) fn has_hosts(&self) -> bool {
        self.iter().any(|(_, task)| matches!(task.origin, Origin::Host { .. } | Origin::Peer { .. }))
    }

    /// Whether nothing is here but changes that wait for a decision about the pair.
    pub(super) fn awaits_decision(&self) -> bool {
        self.iter().all(|(_, task)| task.awaits_decision())
    }

    /// The ranges, for changes that main has ordered.
    pub(super) const fn locks(&mut self) -> &mut RangeLocks {
        &mut self.locks
    }

    /// A command comes: it gets its ranges as soon as they are free, at once or by what [`TaskSet::end`] grants.
    pub(super) fn enter(&mut self, origin: Origin, op: Op, durable: bool, received: Time) -> Entered {
        if self.tasks.len() >= LUN_COMMANDS_MAX {
            return self.no_place(origin);
        }
        self.entered += 1;
        let slot = self.tasks.insert(Task::new(origin, self.entered, op, durable, received)) as u32;
        self.peak = self.peak.max(self.tasks.len());
        let task = &self.tasks[slot as usize];
        match self.locks.request(Slot::Task(slot).holder(), task.mode, &task.ranges) {
            Request::Granted => Entered::Granted(slot),
            Request::Waits => Entered::Waits,
            Request::Refused => {
                self.tasks.remove(slot as usize);
                self.no_place(origin)
            }
        }
    }

    /// TASK SET FULL tells a host to wait for its own commands; one that has none in the task set would wait for ever,
    /// and is told BUSY instead (SAM-5 5.3.1).
    fn no_place(&self, origin: Origin) -> Entered {
        let nexus = |origin| match origin {
            Origin::Host { nexus, .. } => Some(nexus),
            _ => None,
        };
        let is_its = |task: &Task| nexus(origin).is_some_and(|own| nexus(task.origin) == Some(own));
        let full = self.iter().any(|(_, task)| is_its(task));
        Entered::NoPlace(Outcome::Status(if full { Status::TaskSetFull } else { Status::Busy }))
    }

    /// A task is over, or was taken back: its ranges are free, or waited for no more. Who holds now what they waited
    /// for is added to `granted`.
    pub(super) fn end(&mut self, slot: u32, granted: &mut Vec<Holder>) -> Option<Task> {
        let task = self.tasks.try_remove(slot as usize)?;
        let holder = Slot::Task(slot).holder();
        if task.stage == Stage::Range {
            self.locks.cancel(holder, granted);
        } else {
            self.locks.release(holder, task.mode, &task.ranges, granted);
        }
        if task.stage == Stage::Lease {
            self.awaiting_lease.remove(&slot);
        }
        Some(task)
    }

    /// The data of a read waits for the lease.
    pub(super) fn wait_for_lease(&mut self, slot: u32, data: Data) {
        if let Some(task) = self.get_mut(slot) {
            task.stage = Stage::Lease;
            self.awaiting_lease.insert(slot, data);
        }
    }

    /// The data that waited for the lease, to be looked at anew.
    pub(super) fn take_leased(&mut self) -> BTreeMap<u32, Data> {
        core::mem::take(&mut self.awaiting_lease)
    }

    /// A task.
    pub(super) fn get(&self, slot: u32) -> Option<&Task> {
        self.tasks.get(slot as usize)
    }

    /// The same, to go on with.
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Task> {
        self.tasks.get_mut(slot as usize)
    }

    /// All of them, by slot.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Task)> {
        self.tasks.iter().map(|(slot, task)| (slot as u32, task))
    }

    /// The same, to go on with.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Task> {
        self.tasks.iter_mut().map(|(_, task)| task)
    }

    /// Those that `chosen` picks, by slot.
    pub(super) fn chosen(&self, chosen: impl Fn(&Task) -> bool) -> Vec<u32> {
        self.iter().filter(|(_, task)| chosen(task)).map(|(slot, _)| slot).collect()
    }

    /// Those that `chosen` picks, in the order in which they came.
    pub(super) fn in_turn(&self, chosen: impl Fn(&Task) -> bool) -> Vec<u32> {
        let found = self.iter().filter(|(_, task)| chosen(task));
        let mut found: Vec<(Time, u32)> = found.map(|(slot, task)| (task.received, slot)).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, slot)| slot).collect()
    }

    /// What waits for the ranges of changes that in turn wait for a decision about the pair, if nothing else is here;
    /// in the order in which they came.
    pub(super) fn stuck(&self) -> Vec<u32> {
        let stuck = self.iter().any(|(_, task)| task.awaits_decision())
            && self.iter().all(|(_, task)| task.awaits_decision() || task.can_make_way());
        if stuck { self.in_turn(Task::can_make_way) } else { Vec::new() }
    }

    /// What always holds.
    pub(super) fn check(&self) {
        self.locks.check();
        let mut waiting = 0;
        for (slot, task) in self.iter() {
            let leased = self.awaiting_lease.contains_key(&slot);
            assert_eq!(
                task.stage == Stage::Lease,
                leased,
                "data waits for the lease for another task: {task:?}"
            );
            let legs = task.stage == Stage::Legs || (task.own, task.peer) == (Leg::None, Leg::None);
            assert!(legs, "a task that is not admitted as a change has a leg: {task:?}");
            let room = task.credit == 0 || task.stage == Stage::Legs;
            assert!(room, "a task has room at the peer and sends nothing: {task:?}");
            waiting += usize::from(task.stage == Stage::Range);
        }
        assert!(self.awaiting_lease.len() <= self.tasks.len(), "data waits for the lease for no task");
        assert!(waiting <= self.locks.waiting().0, "a task waits for ranges that it has or will never get");
    }
}

#[cfg(test)]
mod tests {
    use protocol::block::BlockRange;

    use super::*;
    use crate::command::{NexusId, TaskTag};

    fn host(nexus: u64, tag: u64) -> Origin {
        Origin::Host { nexus: NexusId(nexus), tag: TaskTag(tag) }
    }

    fn read(start: u64) -> Op {
        Op::Read { range: BlockRange::new(start, 4).unwrap() }
    }

    fn write(start: u64) -> Op {
        Op::Write { range: BlockRange::new(start, 4).unwrap(), data: Data::new(), fua: false }
    }

    /// What `Blocks` does with who has got its ranges.
    fn admit(set: &mut TaskSet, holders: Vec<Holder>) {
        for holder in holders {
            let Slot::Task(slot) = Slot::of_holder(holder) else { panic!("a change that main ordered") };
            set.get_mut(slot).unwrap().stage = Stage::Read;
        }
    }

    fn enter(set: &mut TaskSet, origin: Origin, op: Op, received: u64) -> Entered {
        let entered = set.enter(origin, op, false, Time(received));
        if let Entered::Granted(slot) = entered {
            admit(set, vec![Slot::Task(slot).holder()]);
        }
        set.check();
        entered
    }

    fn end(set: &mut TaskSet, slot: u32) -> usize {
        let mut granted = Vec::new();
        set.end(slot, &mut granted).unwrap();
        let count = granted.len();
        admit(set, granted);
        set.check();
        count
    }

    #[test]
    fn a_task_holds_its_ranges_until_it_ends_and_one_that_waits_can_be_taken_back() {
        let mut set = TaskSet::default();
        assert_eq!(enter(&mut set, host(1, 1), write(0), 1), Entered::Granted(0));
        assert_eq!(enter(&mut set, host(1, 2), write(2), 2), Entered::Waits);
        assert_eq!(enter(&mut set, host(1, 3), read(2), 3), Entered::Waits);
        assert!(!set.is_free_to_read(&Ranges::One(BlockRange::new(3, 1).unwrap())));
        assert_eq!(end(&mut set, 1), 0, "the first is still in the way");
        assert_eq!(end(&mut set, 0), 1, "who came behind the one that was taken back");
        assert_eq!((set.hosts(), set.entered(), set.range_waits()), (1, 3, 2));
        assert!(set.has_host_since_before(3) && !set.has_host_since_before(2));
        assert_eq!(end(&mut set, 2), 0);
        assert!(set.is_empty() && !set.has_hosts());
        assert_eq!(set.usage(), (Used { now: 0, peak: 3 }, Used { now: 0, peak: 2 }));
    }

    #[test]
    fn data_waits_for_the_lease_no_longer_than_its_task() {
        let mut set = TaskSet::default();
        enter(&mut set, host(1, 1), read(0), 1);
        set.wait_for_lease(0, Data::new());
        set.wait_for_lease(7, Data::new());
        set.check();
        assert_eq!(end(&mut set, 0), 0);
        assert!(set.take_leased().is_empty());
    }

    #[test]
    fn a_host_without_a_command_in_a_full_task_set_is_told_busy() {
        let mut set = TaskSet::default();
        for tag in 0..LUN_COMMANDS_MAX as u64 {
            set.enter(host(1, tag), read(tag * 4), false, Time(0));
        }
        let told = |set: &mut TaskSet, origin| set.enter(origin, read(0), false, Time(0));
        assert_eq!(told(&mut set, host(1, 0)), Entered::NoPlace(Outcome::Status(Status::TaskSetFull)));
        assert_eq!(told(&mut set, host(2, 0)), Entered::NoPlace(Outcome::Status(Status::Busy)));
        assert_eq!(told(&mut set, Origin::Nobody), Entered::NoPlace(Outcome::Status(Status::Busy)));
    }

    #[test]
    fn who_waits_behind_an_undecided_change_makes_way_in_turn_when_nothing_else_is_left() {
        let mut set = TaskSet::default();
        enter(&mut set, host(1, 1), write(0), 1);
        enter(&mut set, host(1, 2), write(0), 3);
        enter(&mut set, host(2, 3), read(0), 2);
        enter(&mut set, host(2, 4), read(8), 4);
        let change = set.get_mut(0).unwrap();
        (change.stage, change.own, change.peer) = (Stage::Legs, Leg::Done, Leg::Lost);
        assert!(set.stuck().is_empty() && !set.awaits_decision(), "a read is still under way");
        end(&mut set, 3);
        assert_eq!(set.stuck(), [2, 1]);
        end(&mut set, 1);
        end(&mut set, 2);
        assert!(set.stuck().is_empty() && set.awaits_decision() && !set.is_empty());
    }
}
