//! Which task of a session runs next: in turn, by its attribute, and as far as there is room for what it yields.

use std::collections::VecDeque;

use controller::command::TaskTag;
use protocol::scsi::cdb::opcode;

use super::full_feature::{DATA_IN_BYTES_MAX, FullFeature, Work};
use super::memory::{LUMP_BYTES, Purpose};
use super::output::Output;
use super::task_set;
use super::tasks::{State, Task, Tasks};
use crate::device_server::Request;

/// Where a task stands; valid until the next change of either.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// In the queue of those that may run.
    turn: usize,
    /// In the table of tasks.
    task: usize,
}

impl FullFeature {
    /// The next thing to do outside, and whether there may be more. `backlog` is what waits to be written, in
    /// bytes.
    pub fn next_work(&mut self, backlog: usize) -> (Option<Work>, bool) {
        if !self.postponed.is_empty() {
            let expected = self.window.expected();
            let due = self.postponed.extract_if(.., |request| !request.cmd_sn.follows(expected));
            self.work.extend(due.map(Work::Manage));
        }
        if let Some(work) = self.work.pop_front() {
            return (Some(work), true);
        }
        if self.may_leave() {
            return (self.leaving.take().map(Work::LogOut), true);
        }
        self.backlog = backlog as u64;
        let (Some(nexus), Some(next)) = (self.nexus, self.next_with_room()) else {
            return (None, false);
        };
        let Some(task) = self.tasks.at_mut(next.task) else {
            return (None, false);
        };
        self.turn.remove(next.turn);
        task.state = State::Outcome;
        self.data_in_bytes += task.charged_in();
        let request = Request {
            nexus,
            tag: TaskTag::of(task.tag),
            lun: task.lun,
            luns: self.luns.clone(),
            cdb: task.cdb,
            data: task.gather.take(),
            announced: if task.writes { task.expected } else { 0 },
            // A host may be slow to take what it reads; a read changes nothing, however late.
            received: if only_reads(&task.cdb) { self.clock } else { task.received },
        };
        (Some(Work::Execute(request)), !self.turn.is_empty())
    }

    /// The next task that may run now: one without data-in does not wait for the room that others wait for.
    fn next_with_room(&mut self) -> Option<Place> {
        let next = self.next_turn(0)?;
        if self.find_room(next) {
            return Some(next);
        }
        let passes = |task: &Task| task.state == State::Turn && task.charged_in() == 0;
        if !self.tasks.iter().any(passes) {
            return None;
        }
        let mut next = next;
        loop {
            next = self.next_turn(next.turn + 1)?;
            if self.tasks.at(next.task).is_some_and(passes) {
                return Some(next);
            }
        }
    }

    /// Makes room for what a task yields, if there is any now.
    fn find_room(&mut self, next: Place) -> bool {
        let Some(task) = self.tasks.at(next.task) else {
            return false;
        };
        let wanted = task.charged_in();
        if wanted == 0 {
            return true;
        }
        let busy = self.data_in_bytes + self.backlog;
        if busy > 0 && busy + wanted > DATA_IN_BYTES_MAX {
            self.held = true;
            return false;
        }
        self.take_memory(wanted)
    }

    /// Makes room for so many bytes more that can be made to wait; remembers it if there is none.
    pub(super) fn take_memory(&mut self, more: u64) -> bool {
        let level = self.level() + more;
        if self.holding.covers(level) {
            return true;
        }
        let moving = self.moving();
        let taken = self.holding.take(level, Purpose::Asked { alone: moving == 0 });
        if !taken {
            self.short = Some(moving);
        }
        taken
    }

    /// Bytes of this session that are on their way, so that something will happen when they have gone: what the
    /// controller is at, what the host is to take, and what it was asked for. What waits for room is none of it.
    fn moving(&self) -> u64 {
        let on_its_way =
            |task: &&Task| task.state == State::Outcome || (task.state == State::Data && task.solicited);
        let out = self.tasks.iter().filter(on_its_way).map(|task| u64::from(task.counted_out)).sum::<u64>();
        self.data_in_bytes + self.backlog + out
    }

    /// The next task that may run, from a place in `turn` on. What is not there any more is dropped on the way.
    fn next_turn(&mut self, from: usize) -> Option<Place> {
        if from == 0 {
            while let Some(tag) = self.turn.front() {
                let waits = |at: &usize| self.tasks.at(*at).is_some_and(|task| task.state == State::Turn);
                match self.tasks.find(*tag).filter(waits) {
                    Some(task) if self.special == 0 => {
                        self.gated = false;
                        return Some(Place { turn: 0, task });
                    }
                    Some(_) => break,
                    None => self.turn.pop_front(),
                };
            }
        }
        let free = |task: &Task| {
            let mut others = self.tasks.iter();
            self.special == 0
                || !others.any(|other| task_set::waits_for(task, other, self.starved.contains(&other.tag)))
        };
        let next = (from..self.turn.len()).find_map(|turn| {
            let task = self.tasks.find(*self.turn.get(turn)?)?;
            let may_run = self.tasks.at(task).filter(|task| task.state == State::Turn).is_some_and(free);
            may_run.then_some(Place { turn, task })
        });
        if from == 0 {
            self.gated = next.is_none() && !self.turn.is_empty();
        }
        next
    }

    /// True once if commands were held for want of room, or because of other tasks, and may go on now. Only what has
    /// changed since counts: whoever is told looks again, and must not be told again for having looked.
    pub fn take_room(&mut self, backlog: usize) -> bool {
        self.backlog = backlog as u64;
        if !self.wants_memory() {
            // What stood in the queue for it may have been aborted.
            self.holding.leave_queue();
        }
        self.holding.settle(self.level());
        let room = self.data_in_bytes + self.backlog <= DATA_IN_BYTES_MAX / 2;
        let resume = self.held && room;
        self.held &= !resume;
        resume || self.may_take_again() || self.may_leave() || (self.gated && self.next_turn(0).is_some())
    }

    /// True if there may be memory for what there was none for.
    fn may_take_again(&self) -> bool {
        let Some(before) = self.short else {
            return false;
        };
        if self.holding.awaits_turn() {
            return false;
        }
        let moving = self.moving();
        moving == 0 || moving + LUMP_BYTES <= before
    }

    /// There may be room in the purse again: what waits for it is tried once more, R2Ts and reads by turns before the
    /// other. [`FullFeature::next_work`] follows.
    pub fn on_memory(&mut self, output: &mut Output) {
        if self.short.take().is_some() {
            let reads_first = self.reads_first && !self.turn.is_empty();
            self.reads_first = !self.reads_first;
            if !reads_first {
                self.solicit_starved(output);
            }
        }
    }

    /// True while something waits for room in the purse.
    #[must_use]
    pub const fn wants_memory(&self) -> bool {
        self.short.is_some()
    }

    /// Nothing has happened for a while: what is not needed is given back.
    pub fn rest(&mut self) {
        if !self.wants_memory() {
            self.holding.leave_queue();
        }
        self.holding.rest(self.level());
        if self.tasks.count() == 0 {
            self.tasks = Tasks::default();
            self.turn = VecDeque::new();
            self.work.shrink_to_fit();
            self.deferred.shrink_to_fit();
        }
    }
}

/// True for commands that change nothing, of those whose data a host may be slow to take.
const fn only_reads(cdb: &[u8; 16]) -> bool {
    matches!(cdb[0], opcode::READ_6 | opcode::READ_10 | opcode::READ_12 | opcode::READ_16)
}
