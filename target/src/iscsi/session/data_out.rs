//! The data-out of a session's commands: R2Ts within the bounds, Data-Out PDUs to their tasks (RFC 7143 11.7, 11.8).

use core::time::Duration;
use std::collections::VecDeque;

use controller::time::Time;
use protocol::iscsi::{DataOut, Lun, RESERVED_TAG, ReadyToTransfer};

use super::budget::{Budget, DATA_IN_BYTES_MAX};
use super::data_out_buffer::{Header, Solicitation};
use super::sender::{Sender, TransferTags};
use super::tasks::{State, Task, Tasks};
use crate::iscsi::connection::framing::Received;
use crate::iscsi::login::parameters::Parameters;

/// Data-out of one session asked for by R2T and not yet executed, in bytes; a single command may exceed it alone.
pub const SOLICITED_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// How long a host may leave an R2T unanswered, or a burst without its end; then its connection is closed, which
/// is what 4.2.3.3 and 10.7 leave to a target.
pub const DATA_OUT_SILENCE_MAX: Duration = Duration::from_secs(30);

/// Aborted tasks whose Data-Out is still dropped without a Reject.
pub const SILENCED_MAX: usize = 128;

/// A host that leaves an R2T unanswered while so many bytes go over its connection has passed it over: they are more
/// than can have stood before it in either direction.
const PASSED_OVER_BYTES: u64 = 2 * (SOLICITED_BYTES_MAX + DATA_IN_BYTES_MAX);

/// What goes over a connection, as far as its host's R2Ts have to wait for it.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    /// Data-Out, and output that waited, in bytes.
    bytes: u64,
    /// When some of it last moved.
    moved: Time,
}

/// A moment, and what had gone over the connection by then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mark {
    time: Time,
    bytes: u64,
}

impl Flow {
    const fn mark(&self, now: Time) -> Mark {
        Mark { time: now, bytes: self.bytes }
    }

    fn pass(&mut self, bytes: u64, now: Time) {
        self.bytes += bytes;
        self.moved = now;
    }

    /// True if a host has had time enough for what it owes since then, on a connection that is no faster than this: it
    /// or the connection has been silent, or it has passed it over.
    fn is_overdue(&self, since: Mark, now: Time) -> bool {
        debug_assert!(since.bytes <= self.bytes, "what has passed is never taken back");
        let late = |time: Time| now.since(time) > DATA_OUT_SILENCE_MAX;
        late(since.time) && (late(self.moved) || self.bytes - since.bytes > PASSED_OVER_BYTES)
    }
}

/// What the session has agreed to about R2Ts.
#[derive(Clone, Copy, Debug)]
pub struct R2tTerms {
    /// MaxBurstLength, in bytes.
    pub max_burst: u32,
    /// MaxOutstandingR2T.
    pub outstanding: u32,
}

impl R2tTerms {
    /// What these parameters say.
    #[must_use]
    pub const fn of(parameters: &Parameters) -> Self {
        let agreed = &parameters.agreed;
        Self { max_burst: agreed.max_burst_length, outstanding: agreed.max_outstanding_r2t }
    }
}

/// An R2T that is due.
#[derive(Clone, Copy, Debug)]
pub struct R2t {
    lun: Lun,
    tag: u32,
    transfer_tag: u32,
    asked: Solicitation,
}

impl R2t {
    /// Sends it. It uses up no StatSN (11.8).
    pub fn send(&self, sender: &mut Sender<'_>) {
        let header = ReadyToTransfer {
            lun: self.lun,
            initiator_task_tag: self.tag,
            target_transfer_tag: self.transfer_tag,
            stat_sn: *sender.stat_sn,
            exp_cmd_sn: sender.expected(),
            max_cmd_sn: sender.maximum(),
            r2t_sn: self.asked.number,
            buffer_offset: self.asked.offset,
            desired_data_transfer_length: self.asked.length,
        };
        sender.output.pdu(&header.encode(), &[], sender.parameters.digests());
    }
}

/// What became of a Data-Out PDU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// The task at this place has it.
    By(usize),
    /// It belongs to an aborted task, or its task is not known and it was damaged anyway.
    Dropped,
    /// It belongs to no transfer under way.
    Rejected,
}

/// How the data-out of a session's tasks stands.
#[derive(Debug, Default)]
pub struct DataOutFlow {
    /// Tasks whose R2Ts are withheld until there is room for their data, in their order.
    awaiting_r2t: VecDeque<u32>,
    /// Aborted tasks whose Data-Out may still come, the oldest first.
    aborted_writes: VecDeque<u32>,
    flow: Flow,
}

impl DataOutFlow {
    /// Tasks whose R2Ts are withheld.
    #[must_use]
    pub const fn awaiting_r2t(&self) -> &VecDeque<u32> {
        &self.awaiting_r2t
    }

    /// Takes out those whose R2Ts are withheld: each is to be tried again, in its order.
    pub fn take_awaiting_r2t(&mut self) -> VecDeque<u32> {
        core::mem::take(&mut self.awaiting_r2t)
    }

    /// How many aborted tasks are remembered for their Data-Out.
    #[must_use]
    pub fn aborted_writes(&self) -> usize {
        self.aborted_writes.len()
    }

    /// Now, as the tasks of this connection count it.
    #[must_use]
    pub const fn mark(&self, now: Time) -> Mark {
        self.flow.mark(now)
    }

    /// So many bytes went over the connection.
    pub fn pass(&mut self, bytes: u64, now: Time) {
        self.flow.pass(bytes, now);
    }

    /// True if a host has had time enough for the data of this task.
    #[must_use]
    pub fn is_overdue(&self, task: &Task, now: Time) -> bool {
        self.flow.is_overdue(task.owed, now)
    }

    /// The next R2T that is due for a task. It is withheld if the bounds do not leave room for all of the task's data.
    pub fn next_r2t(
        &mut self,
        tag: u32,
        tasks: &mut Tasks,
        budget: &mut Budget,
        (terms, now): (R2tTerms, Time),
        tags: &mut TransferTags,
    ) -> Option<R2t> {
        let at = tasks.find(tag)?;
        let task = tasks.at(at).filter(|task| task.state == State::Data)?;
        let asked = task.data_out.next_solicitation(terms.max_burst, terms.outstanding)?;
        if !task.solicited && !self.admit(at, tasks, budget) {
            self.awaiting_r2t.push_back(tag);
            return None;
        }
        let task = tasks.at_mut(at)?;
        let transfer_tag = tags.take();
        task.data_out.on_solicited(asked, transfer_tag);
        task.owed = self.flow.mark(now);
        Some(R2t { lun: task.lun, tag, transfer_tag, asked })
    }

    /// Counts all data-out of a task in, if there is room. No task overtakes one that waits: the small ones behind it
    /// could for ever hold what it needs.
    fn admit(&self, at: usize, tasks: &mut Tasks, budget: &mut Budget) -> bool {
        let Some(task) = tasks.at(at) else {
            return false;
        };
        let more = u64::from(task.data_out.wanted().saturating_sub(task.counted_out));
        let all = budget.data_out();
        let others = all - u64::from(task.counted_out);
        let crowded = others > 0 && all + more > SOLICITED_BYTES_MAX;
        if !self.awaiting_r2t.is_empty() || crowded || !budget.make_room(more, tasks) {
            return false;
        }
        let Some(task) = tasks.at_mut(at) else {
            return false;
        };
        task.solicited = true;
        task.counted_out = task.data_out.wanted();
        budget.count_data_out(more);
        true
    }

    /// Takes a Data-Out PDU.
    pub fn on_pdu(&mut self, data: &DataOut, pdu: &Received, tasks: &mut Tasks, now: Time) -> Taken {
        let tag = data.initiator_task_tag;
        self.flow.pass(u64::from(data.data_segment_length), now);
        let Some(at) = tasks.find(tag) else {
            let dropped = self.aborted_writes.contains(&tag) || pdu.data.is_none();
            return if dropped { Taken::Dropped } else { Taken::Rejected };
        };
        let Some(task) = tasks.at_mut(at) else {
            return Taken::Rejected;
        };
        // "the LUN field MUST hold a valid value and be consistent with whatever was specified with the command"
        // (11.7.4), and is reserved without Target Transfer Tag.
        if data.target_transfer_tag != RESERVED_TAG && data.lun != task.lun {
            return Taken::Rejected;
        }
        let header = Header {
            transfer_tag: data.target_transfer_tag,
            data_sn: data.data_sn,
            offset: data.buffer_offset,
            last: data.final_bit,
        };
        if task.data_out.on_data(header, data.data_segment_length, pdu.data.clone()).is_err() {
            return Taken::Rejected;
        }
        task.received = now;
        task.owed = self.flow.mark(now);
        Taken::By(at)
    }

    /// A task that may still get Data-Out has been aborted.
    pub fn on_aborted(&mut self, tag: u32) {
        if self.aborted_writes.len() >= SILENCED_MAX {
            self.aborted_writes.pop_front();
        }
        self.aborted_writes.push_back(tag);
    }

    /// A new task has this tag: what comes under it is its own.
    pub fn on_tag_used_again(&mut self, tag: u32) {
        if !self.aborted_writes.is_empty() {
            self.aborted_writes.retain(|aborted| *aborted != tag);
        }
    }

    /// What always holds, looked at in debug builds only.
    pub fn check(&self, tasks: &Tasks) {
        if cfg!(debug_assertions) {
            debug_assert!(self.aborted_writes.len() <= SILENCED_MAX, "few aborted tasks are remembered");
            let is_alive = |tag: &u32| tasks.find(*tag).is_some();
            debug_assert!(!self.aborted_writes.iter().any(is_alive), "a tag in use is not dropped");
            let waits =
                |tag: &u32| tasks.get(*tag).is_some_and(|task| task.state == State::Data && !task.solicited);
            debug_assert!(self.awaiting_r2t.iter().all(waits), "only what waits for an R2T is in its queue");
            tasks.iter().for_each(|task| task.data_out.check());
        }
    }
}
