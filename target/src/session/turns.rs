//! Which task of a session runs next: in turn, by its attribute, and as far as there is room for what it yields.

use std::collections::VecDeque;

use controller::command::TaskTag;

use super::full_feature::{DATA_IN_BYTES_MAX, FullFeature, Work};
use super::memory::Purpose;
use super::output::Output;
use super::task_set;
use super::tasks::{State, Tasks};
use crate::device_server::Request;

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
        let (Some(nexus), Some(at)) = (self.nexus, self.next_turn()) else {
            return (None, false);
        };
        self.backlog = backlog as u64;
        let level = self.level();
        let busy = self.data_in_bytes + self.backlog;
        let Some(task) = self.turn.get(at).copied().and_then(|tag| self.tasks.get_mut(tag)) else {
            return (None, false);
        };
        let wanted = task.charged_in();
        let covered = wanted == 0 || self.holding.cover(level + wanted, Purpose::Asked);
        if !covered || (busy > 0 && busy + wanted > DATA_IN_BYTES_MAX) {
            self.wants_memory |= !covered;
            self.held = true;
            return (None, false);
        }
        self.turn.remove(at);
        task.state = State::Outcome;
        self.data_in_bytes += wanted;
        let request = Request {
            nexus,
            tag: TaskTag::of(task.tag),
            lun: task.lun,
            luns: self.luns.clone(),
            cdb: task.cdb,
            data: task.gather.take(),
            announced: if task.writes { task.expected } else { 0 },
            received: task.received,
        };
        (Some(Work::Execute(request)), !self.turn.is_empty())
    }

    /// Where in `turn` the next task is that may run. What is not there any more is dropped on the way.
    fn next_turn(&mut self) -> Option<usize> {
        let tasks = &mut self.tasks;
        while let Some(tag) = self.turn.front()
            && tasks.get_mut(*tag).is_none_or(|task| task.state != State::Turn)
        {
            self.turn.pop_front();
        }
        if self.special == 0 {
            return (!self.turn.is_empty()).then_some(0);
        }
        let free = |tag: &u32| {
            let task = self.tasks.get(*tag).filter(|task| task.state == State::Turn);
            task.is_some_and(|task| {
                let mut others = self.tasks.iter();
                !others.any(|other| task_set::waits_for(task, other, self.starved.contains(&other.tag)))
            })
        };
        let next = self.turn.iter().position(free);
        self.gated = next.is_none() && !self.turn.is_empty();
        next
    }

    /// True once if commands were held for want of room, or because of other tasks, and may go on now.
    pub fn take_room(&mut self, backlog: usize) -> bool {
        self.backlog = backlog as u64;
        self.holding.settle(self.level());
        let room = self.data_in_bytes + self.backlog <= DATA_IN_BYTES_MAX / 2;
        let resume = self.held && room && !self.wants_memory;
        self.held &= !resume;
        resume || self.may_leave() || (self.gated && self.next_turn().is_some())
    }

    /// There may be room in the purse again.
    pub fn on_memory(&mut self, output: &mut Output) {
        if core::mem::take(&mut self.wants_memory) {
            self.solicit_starved(output);
        }
    }

    /// True while something waits for room in the purse.
    #[must_use]
    pub const fn wants_memory(&self) -> bool {
        self.wants_memory
    }

    /// Nothing has happened for a while: what is not needed is given back.
    pub fn rest(&mut self) {
        self.holding.rest(self.level());
        if self.tasks.count() == 0 {
            self.tasks = Tasks::default();
            self.turn = VecDeque::new();
            self.work.shrink_to_fit();
            self.deferred.shrink_to_fit();
        }
    }
}
