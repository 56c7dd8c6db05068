//! Which task of a session runs next: in the order of CmdSN, by its attribute ([`task_set`]).

use std::collections::VecDeque;

use protocol::iscsi::TaskAttribute;

use super::task_set;
use super::tasks::{State, Task, Tasks};

/// Where a task stands; valid until the next change of either.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// In the queue of those that are ready.
    ready: usize,
    /// In the table of tasks.
    pub task: usize,
}

/// The tasks that have all they need to run, in their order. Always: every task in [`State::Ready`] is in it once.
#[derive(Debug, Default)]
pub struct Scheduler {
    ready: VecDeque<u32>,
    /// Tasks of the session that are ORDERED or HEAD OF QUEUE: without any, attributes are not looked at.
    ordered_tasks: u32,
    /// All ready tasks were found to wait for others, because of their attributes or theirs.
    blocked: bool,
    /// Tasks that have entered their task sets since the session began.
    entered: u64,
}

impl Scheduler {
    /// A task begins.
    pub fn count_in(&mut self, attribute: TaskAttribute) {
        if task_set::is_special(attribute) {
            self.ordered_tasks += 1;
        }
    }

    /// A task has ended.
    pub fn count_out(&mut self, attribute: TaskAttribute) {
        if task_set::is_special(attribute) {
            debug_assert!(self.ordered_tasks > 0, "it was counted in");
            self.ordered_tasks = self.ordered_tasks.saturating_sub(1);
        }
    }

    /// The place in the order of those that entered before, for a task that enters its task set.
    pub const fn enter(&mut self) -> u64 {
        let entered = self.entered;
        self.entered += 1;
        entered
    }

    /// A task has all it needs.
    pub fn enqueue(&mut self, tag: u32, attribute: TaskAttribute) {
        debug_assert!(!self.ready.contains(&tag), "a task is ready once");
        if attribute == TaskAttribute::HeadOfQueue {
            self.ready.push_front(tag);
        } else {
            self.ready.push_back(tag);
        }
    }

    /// How many tasks are ready.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.ready.len()
    }

    /// True if no task is ready.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// A task that [`Scheduler::next`] gave runs.
    pub fn take(&mut self, place: Place) {
        self.ready.remove(place.ready);
    }

    /// A task that was ready has been aborted.
    pub fn remove(&mut self, tag: u32) {
        self.ready.retain(|ready| *ready != tag);
    }

    /// The first task that may run now.
    pub fn next(&mut self, tasks: &Tasks, awaiting_r2t: &VecDeque<u32>) -> Option<Place> {
        while let Some(tag) = self.ready.front() {
            let is_ready = |at: &usize| tasks.at(*at).is_some_and(|task| task.state == State::Ready);
            match tasks.find(*tag).filter(is_ready) {
                Some(task) if self.ordered_tasks == 0 => {
                    self.blocked = false;
                    return Some(Place { ready: 0, task });
                }
                Some(_) => break,
                None => self.ready.pop_front(),
            };
        }
        let next = self.next_from(0, tasks, awaiting_r2t);
        self.blocked = next.is_none() && !self.ready.is_empty();
        next
    }

    /// The first task behind this one that may run now and yields no data.
    pub fn next_without_data(
        &self,
        mut place: Place,
        tasks: &Tasks,
        awaiting_r2t: &VecDeque<u32>,
    ) -> Option<Place> {
        let passes = |task: &Task| task.state == State::Ready && task.charged_in() == 0;
        if !tasks.iter().any(passes) {
            return None;
        }
        loop {
            place = self.next_from(place.ready + 1, tasks, awaiting_r2t)?;
            if tasks.at(place.task).is_some_and(passes) {
                return Some(place);
            }
        }
    }

    /// The first task that may run now, from a place in the queue on.
    fn next_from(&self, from: usize, tasks: &Tasks, awaiting_r2t: &VecDeque<u32>) -> Option<Place> {
        let free = |task: &Task| {
            let mut others = tasks.iter();
            self.ordered_tasks == 0
                || !others.any(|other| task_set::waits_for(task, other, awaiting_r2t.contains(&other.tag)))
        };
        (from..self.ready.len()).find_map(|ready| {
            let task = tasks.find(*self.ready.get(ready)?)?;
            let may_run = tasks.at(task).filter(|task| task.state == State::Ready).is_some_and(free);
            may_run.then_some(Place { ready, task })
        })
    }

    /// True if all ready tasks were blocked by others, and one may run now.
    pub fn take_unblocked(&mut self, tasks: &Tasks, awaiting_r2t: &VecDeque<u32>) -> bool {
        self.blocked && self.next(tasks, awaiting_r2t).is_some()
    }

    /// Gives memory back; no task is ready.
    pub fn rest(&mut self) {
        self.ready = VecDeque::new();
    }

    /// What always holds, looked at in debug builds only.
    pub fn check(&self, tasks: &Tasks) {
        if cfg!(debug_assertions) {
            let ready = || tasks.iter().filter(|task| task.state == State::Ready);
            debug_assert!(ready().all(|task| self.ready.contains(&task.tag)), "a ready task will run");
            debug_assert_eq!(self.ready.len(), ready().count(), "nothing else is in the queue");
            let ordered = tasks.iter().filter(|task| task_set::is_special(task.attribute)).count();
            debug_assert_eq!(self.ordered_tasks as usize, ordered, "the count of attributes is right");
            debug_assert!(tasks.iter().all(|task| task.entered <= self.entered), "tasks enter in order");
        }
    }
}
