//! What one session holds of the memory that all sessions share, and what it holds it for.
//!
//! Its *level* is data-out that is here or was asked for, data-in that is read or waits to be sent, and output that the
//! host has not taken.

use std::sync::Arc;

use super::tasks::{State, Task, Tasks};
use crate::iscsi::memory_pool::{self, GRANT_BYTES, Pool, Purpose, Quota};

/// Data-in of one session being read or waiting to be sent, in bytes; a single command may exceed it alone.
pub const DATA_IN_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// The memory of one session, in bytes. Always: what is counted as data is covered by what it has been given.
#[derive(Debug)]
pub struct Budget {
    quota: Quota,
    data_out: u64,
    data_in: u64,
    /// Output that waited when it was last looked at.
    backlog: u64,
    /// There was no room for something: how much was moving then.
    short: Option<u64>,
    /// Reads wait until less data-in and output of this session is under way.
    reads_held: bool,
}

impl Budget {
    /// A session that holds nothing yet.
    #[must_use]
    pub fn new(memory: Arc<Pool>) -> Self {
        Self {
            quota: Quota::new(memory),
            data_out: 0,
            data_in: 0,
            backlog: 0,
            short: None,
            reads_held: false,
        }
    }

    /// Data-out that is here, promised or asked for.
    #[must_use]
    pub const fn data_out(&self) -> u64 {
        self.data_out
    }

    /// Data-in that is being read, or was read and is not answered yet.
    #[must_use]
    pub const fn data_in(&self) -> u64 {
        self.data_in
    }

    const fn level(&self) -> u64 {
        self.data_out + self.data_in + self.backlog
    }

    /// What all sessions share.
    #[must_use]
    pub fn memory(&self) -> &Pool {
        self.quota.memory()
    }

    /// So much output waits now.
    pub const fn see_backlog(&mut self, bytes: u64) {
        self.backlog = bytes;
    }

    /// True if output waits for the host to take it.
    #[must_use]
    pub const fn has_backlog(&self) -> bool {
        self.backlog > 0
    }

    /// True if it holds more than the share that every session has.
    #[must_use]
    pub const fn holds_shared_memory(&self) -> bool {
        self.quota.taken() > 0
    }

    /// Makes room for the data-in of a command, if there is any now.
    pub fn make_room_for_read(&mut self, bytes: u64, tasks: &Tasks) -> bool {
        if bytes == 0 {
            return true;
        }
        let busy = self.data_in + self.backlog;
        if busy > 0 && busy + bytes > DATA_IN_BYTES_MAX {
            self.reads_held = true;
            return false;
        }
        self.make_room(bytes, tasks)
    }

    /// Makes room for so many bytes more that can be made to wait; remembers it if there is none.
    pub fn make_room(&mut self, more: u64, tasks: &Tasks) -> bool {
        let level = self.level() + more;
        if self.quota.covers(level) {
            return true;
        }
        let moving = self.moving(tasks);
        let taken = self.quota.take(level, Purpose::Asked { alone: moving == 0 });
        if !taken {
            self.short = Some(moving);
        }
        taken
    }

    /// Counts data-out that comes whether it is wanted or not; false if there is no room for it.
    pub fn admit_unasked(&mut self, bytes: u64) -> bool {
        let taken = self.quota.take(self.level() + bytes, Purpose::Unasked);
        if taken {
            self.data_out += bytes;
        }
        taken
    }

    /// Data-out is asked for, for which room was made.
    pub const fn count_data_out(&mut self, bytes: u64) {
        self.data_out += bytes;
    }

    /// A read begins, for which room was made.
    pub const fn count_data_in(&mut self, bytes: u64) {
        self.data_in += bytes;
    }

    /// A task has ended: what was counted for it is free.
    pub fn release(&mut self, task: &Task) {
        if task.state == State::Outcome {
            debug_assert!(self.data_in >= task.charged_in(), "a read was counted in");
            self.data_in = self.data_in.saturating_sub(task.charged_in());
        }
        debug_assert!(self.data_out >= u64::from(task.counted_out), "data-out was counted in");
        self.data_out = self.data_out.saturating_sub(u64::from(task.counted_out));
    }

    /// Bytes of this session that are on their way, so that something will happen when they have gone: what the
    /// controller works on, what the host is to take, and what it was asked for. What waits for room does not count.
    fn moving(&self, tasks: &Tasks) -> u64 {
        let on_its_way =
            |task: &&Task| task.state == State::Outcome || (task.state == State::Data && task.solicited);
        let out = tasks.iter().filter(on_its_way).map(|task| u64::from(task.counted_out)).sum::<u64>();
        self.data_in + self.backlog + out
    }

    /// True once if what was held for want of room may be tried again. Only what has changed since counts: a session
    /// that is told looks again, and must not be told again for having looked.
    pub fn take_room(&mut self, tasks: &Tasks) -> bool {
        if !self.wants_memory() {
            // The task that waited in the queue for memory may have been aborted.
            self.quota.leave_queue();
        }
        self.quota.settle(self.level());
        let room = self.data_in + self.backlog <= DATA_IN_BYTES_MAX / 2;
        let resume = self.reads_held && room;
        self.reads_held &= !resume;
        resume || self.may_take_again(tasks)
    }

    /// True if there may be memory where there was none.
    fn may_take_again(&self, tasks: &Tasks) -> bool {
        let Some(before) = self.short else {
            return false;
        };
        if self.quota.awaits_turn() {
            return false;
        }
        let moving = self.moving(tasks);
        moving == 0 || moving + GRANT_BYTES <= before
    }

    /// True while something waits for memory.
    #[must_use]
    pub const fn wants_memory(&self) -> bool {
        self.short.is_some()
    }

    /// What waits for memory is tried again now. True if anything does.
    pub const fn retry(&mut self) -> bool {
        self.short.take().is_some()
    }

    /// What is to be asked of the memory that all sessions share, if anything.
    pub fn request(&mut self) -> Option<memory_pool::Request> {
        self.quota.request()
    }

    /// Nothing has happened for a while: what is not needed is given back.
    pub fn rest(&mut self) {
        if !self.wants_memory() {
            self.quota.leave_queue();
        }
        self.quota.rest(self.level());
    }

    /// The session has ended; what is left covers its output.
    #[must_use]
    pub fn end(mut self) -> Quota {
        self.quota.leave_queue();
        self.quota
    }

    /// What always holds, looked at in debug builds only.
    pub fn check(&self, tasks: &Tasks) {
        if cfg!(debug_assertions) {
            let counted_out = tasks.iter().map(|task| u64::from(task.counted_out)).sum::<u64>();
            debug_assert_eq!(self.data_out, counted_out, "data-out is counted with its task");
            let reading = tasks.iter().filter(|task| task.state == State::Outcome);
            let reading = reading.map(Task::charged_in).sum::<u64>();
            debug_assert_eq!(self.data_in, reading, "so is data-in");
            debug_assert!(self.quota.covers(self.data_out + self.data_in), "there is room for all data");
        }
    }
}
