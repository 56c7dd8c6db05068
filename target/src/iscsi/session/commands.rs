//! The SCSI commands of one session: their tasks, the order in which they run, their data and its memory.
//!
//! It sends nothing: each event returns what there is to send.

use std::sync::Arc;

use bytes::Bytes;
use controller::command::{NexusId, TaskTag};
use controller::time::Time;
use protocol::iscsi::{DataOut, Lun, ScsiCommand, TaskAttribute, TaskManagementRequest};
use protocol::scsi::cdb::opcode;
use protocol::scsi::sense::Status;

use super::budget::Budget;
use super::data_out::{DataOutFlow, R2t, R2tTerms, Taken};
use super::data_out_buffer::{DataOutBuffer, DataOutTerms, Progress, Refusal};
use super::scheduler::{Place, Scheduler};
use super::sender::TransferTags;
use super::task_management::{self, Reach};
use super::task_set;
use super::tasks::{Ending, State, Task, Tasks};
use crate::device_server::Request;
use crate::iscsi::connection::framing::Received;
use crate::iscsi::login::parameters::Parameters;
use crate::iscsi::memory_pool::{self, Pool, Quota};

/// What a task comes to with the data it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// It waits, or is ready to run: there is nothing to do.
    Nothing,
    /// It wants the R2Ts that are due for it.
    Solicit,
    /// It was aborted, and its host has sent all that it owed.
    Over,
    /// It is answered without being executed.
    Refused(Refusal),
}

/// A task that a task management function reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Affected {
    /// Its Initiator Task Tag.
    pub tag: u32,
    /// Its LUN field.
    pub lun: Lun,
    /// What happens to it.
    pub fate: Fate,
}

/// What happens to a task that is aborted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The controller is asked to give it up; its outcome is awaited.
    Executing,
    /// The initiator answers its R2Ts to the end first (4.2.3.3 a).
    OwedData,
    /// It ends at once.
    Gone,
}

/// The commands of one session.
#[derive(Debug)]
pub struct Commands {
    tasks: Tasks,
    scheduler: Scheduler,
    data_out: DataOutFlow,
    budget: Budget,
    /// When there is memory again, reads are tried before R2Ts.
    reads_first: bool,
    /// When it last was told the time.
    now: Time,
    data_out_bytes: fn(&[u8; 16]) -> u64,
}

impl Commands {
    /// A session without commands. `data_out_bytes` tells how many bytes of data-out a CDB takes.
    #[must_use]
    pub fn new(memory: Arc<Pool>, data_out_bytes: fn(&[u8; 16]) -> u64) -> Self {
        Self {
            tasks: Tasks::default(),
            scheduler: Scheduler::default(),
            data_out: DataOutFlow::default(),
            budget: Budget::new(memory),
            reads_first: false,
            now: Time(0),
            data_out_bytes,
        }
    }

    /// Commands not answered yet.
    #[must_use]
    pub fn count(&self) -> usize {
        self.tasks.count()
    }

    /// The memory they take.
    #[must_use]
    pub const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Aborted tasks whose Data-Out is still dropped.
    #[must_use]
    pub fn aborted_writes(&self) -> usize {
        self.data_out.aborted_writes()
    }

    /// True while a command with this tag is not answered.
    #[must_use]
    pub fn contains(&self, tag: u32) -> bool {
        self.tasks.find(tag).is_some()
    }

    /// Tags of the commands the controller has.
    pub fn executing(&self) -> impl Iterator<Item = u32> {
        self.tasks.iter().filter(|task| task.state == State::Outcome).map(|task| task.tag)
    }

    /// It is this late now.
    pub const fn set_time(&mut self, now: Time) {
        self.now = now;
    }

    /// Takes a command, whose tag no other has, with the immediate data that came with it. Gives its place.
    pub fn begin(&mut self, command: &ScsiCommand, data: Bytes, parameters: &Parameters) -> usize {
        self.data_out.on_tag_used_again(command.initiator_task_tag);
        let expected = command.expected_data_transfer_length;
        let takes = (self.data_out_bytes)(&command.cdb);
        let out = if command.write { expected } else { 0 };
        let terms = DataOutTerms {
            wanted: u32::try_from(takes).unwrap_or(u32::MAX).min(out),
            expected: out,
            more: !command.final_bit,
            immediate_allowed: parameters.agreed.immediate_data,
            unsolicited_allowed: !parameters.agreed.initial_r2t,
            first_burst: parameters.agreed.first_burst_bytes(),
        };
        let mut task = Task {
            tag: command.initiator_task_tag,
            lun: command.lun,
            cdb: command.cdb,
            number: command.cmd_sn,
            expected,
            reads: command.read,
            writes: command.write,
            takes,
            counted_out: 0,
            solicited: false,
            received: self.now,
            owed: self.data_out.mark(self.now),
            attribute: command.attribute,
            entered: 0,
            state: State::Order,
            ending: Ending::Answered,
            data_out: DataOutBuffer::begin(&terms, data),
        };
        if command.attribute == TaskAttribute::Aca {
            task.data_out.refuse(Refusal::Check(task_set::INVALID_MESSAGE_ERROR));
        }
        if terms.wanted > 0 {
            let most = if command.final_bit { command.data_segment_length } else { terms.first_burst };
            self.admit_unasked(&mut task, most.min(terms.wanted));
        }
        self.scheduler.count_in(task.attribute);
        self.tasks.insert(task)
    }

    /// Makes room for what a command brings unasked; a command for which there is none is refused.
    fn admit_unasked(&mut self, task: &mut Task, bytes: u32) {
        if self.budget.admit_unasked(u64::from(bytes)) {
            task.counted_out = bytes;
        } else {
            let status = if self.tasks.count() == 0 { Status::Busy } else { Status::TaskSetFull };
            task.data_out.refuse(Refusal::Status(status));
        }
    }

    /// Every command before that at this place has come: it enters its task set. False if it has done so already.
    pub fn enter(&mut self, at: usize) -> bool {
        let Some(task) = self.tasks.at_mut(at).filter(|task| task.state == State::Order) else {
            return false;
        };
        task.state = State::Data;
        task.entered = self.scheduler.enter();
        true
    }

    /// The place of the command that came early with this tag and number: it may have been aborted since, and its tag
    /// used again.
    #[must_use]
    pub fn find_early(&self, tag: u32, number: protocol::iscsi::CmdSn) -> Option<usize> {
        let at = self.tasks.find(tag)?;
        self.tasks.at(at).is_some_and(|task| task.number == number).then_some(at)
    }

    /// Takes the task at this place as far as its data-out allows. Gives its tag.
    pub fn proceed(&mut self, at: usize) -> (u32, Step) {
        let Some(task) = self.tasks.at_mut(at).filter(|task| task.state == State::Data) else {
            return (0, Step::Nothing);
        };
        let tag = task.tag;
        let step = if task.ending == Ending::Unheard {
            // Only what the initiator still had to send was waited for.
            if task.data_out.is_open() { Step::Nothing } else { Step::Over }
        } else {
            match task.data_out.progress() {
                Progress::Waiting => Step::Solicit,
                Progress::Failed(refusal) => Step::Refused(refusal),
                Progress::Complete => {
                    task.state = State::Ready;
                    self.scheduler.enqueue(tag, task.attribute);
                    Step::Nothing
                }
            }
        };
        (tag, step)
    }

    /// The next R2T that is due for a task, if there is room for all its data.
    pub fn next_r2t(&mut self, tag: u32, terms: R2tTerms, tags: &mut TransferTags) -> Option<R2t> {
        self.data_out.next_r2t(tag, &mut self.tasks, &mut self.budget, (terms, self.now), tags)
    }

    /// Takes out the tasks whose R2Ts are withheld: each is to be tried again, in its order.
    pub fn take_awaiting_r2t(&mut self) -> impl Iterator<Item = u32> + use<> {
        self.data_out.take_awaiting_r2t().into_iter()
    }

    /// True if R2Ts are withheld for want of room.
    #[must_use]
    pub fn is_awaiting_r2t(&self) -> bool {
        !self.data_out.awaiting_r2t().is_empty()
    }

    /// Takes a Data-Out PDU.
    pub fn on_data_out(&mut self, data: &DataOut, pdu: &Received) -> Taken {
        self.data_out.on_pdu(data, pdu, &mut self.tasks, self.now)
    }

    /// Removes the task that the controller has, now that it has an outcome.
    pub fn take_executed(&mut self, tag: u32) -> Option<Task> {
        let at = self.tasks.find(tag)?;
        self.tasks.at(at).filter(|task| task.state == State::Outcome)?;
        self.remove(at)
    }

    /// Removes the task at this place and gives back what it held. Tasks may have waited for that: R2Ts may be due.
    pub fn remove(&mut self, at: usize) -> Option<Task> {
        let task = self.tasks.remove_at(at)?;
        self.budget.release(&task);
        self.scheduler.count_out(task.attribute);
        Some(task)
    }

    /// Removes a task that is not being executed, and drops the Data-Out that may still come for it. R2Ts may be due.
    pub fn forget(&mut self, tag: u32) -> Option<Task> {
        let task = self.remove(self.tasks.find(tag)?)?;
        debug_assert!(task.state != State::Outcome, "the controller does not have it");
        if task.state == State::Ready {
            self.scheduler.remove(tag);
        }
        if task.writes {
            self.data_out.on_aborted(tag);
        }
        Some(task)
    }

    /// A task management function of this session aborts what it reaches: none of it is answered.
    pub fn abort(&mut self, request: &TaskManagementRequest, reach: Reach) -> Vec<Affected> {
        let waits = task_management::waits_for_data(request.function);
        let reached = self.tasks.iter_mut().filter(|task| task_management::reaches_own(request, reach, task));
        let abort = |task: &mut Task| {
            task.ending = Ending::Unheard;
            let fate = match task.state {
                State::Outcome => Fate::Executing,
                State::Data if waits && task.data_out.is_open() => Fate::OwedData,
                _ => Fate::Gone,
            };
            Affected { tag: task.tag, lun: task.lun, fate }
        };
        reached.map(abort).collect()
    }

    /// A task management function of another session aborts what it reaches: it is answered with TASK ABORTED.
    pub fn abort_for_other(&mut self, lun: &Lun, reach: Reach) -> Vec<Affected> {
        let reached = self.tasks.iter_mut().filter(|task| task_management::reaches_foreign(lun, reach, task));
        let abort = |task: &mut Task| {
            if task.ending == Ending::Answered {
                task.ending = Ending::TaskAborted;
            }
            Affected { tag: task.tag, lun: task.lun, fate: Fate::at_once(task) }
        };
        reached.map(abort).collect()
    }

    /// The host logs out: everything is aborted, and no R2T is sent any more.
    pub fn abort_all(&mut self) -> Vec<Affected> {
        let _ = self.data_out.take_awaiting_r2t();
        let abort = |task: &mut Task| {
            task.ending = Ending::Unheard;
            Affected { tag: task.tag, lun: task.lun, fate: Fate::at_once(task) }
        };
        self.tasks.iter_mut().map(abort).collect()
    }

    /// So much output waits to be written, in bytes.
    pub const fn see_backlog(&mut self, bytes: u64) {
        self.budget.see_backlog(bytes);
    }

    /// The next command to execute, if one may run and there is room for its data.
    pub fn next_request(&mut self, nexus: NexusId, luns: Option<&Arc<[u16]>>) -> Option<Request> {
        let next = self.next_with_room()?;
        let task = self.tasks.at_mut(next.task)?;
        self.scheduler.take(next);
        task.state = State::Outcome;
        self.budget.count_data_in(task.charged_in());
        Some(Request {
            nexus,
            tag: TaskTag::of(task.tag),
            lun: task.lun,
            luns: luns.cloned(),
            cdb: task.cdb,
            data: task.data_out.take(),
            announced: if task.writes { task.expected } else { 0 },
            // A host may be slow to take what it reads; a read changes nothing, however late.
            received: if only_reads(&task.cdb) { self.now } else { task.received },
        })
    }

    /// True if tasks are ready to run.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.scheduler.is_empty()
    }

    /// How many tasks are ready to run.
    #[cfg(test)]
    pub fn ready(&self) -> usize {
        self.scheduler.count()
    }

    /// The next task that may run now: one without data-in does not wait for the room that others wait for.
    fn next_with_room(&mut self) -> Option<Place> {
        let awaiting_r2t = self.data_out.awaiting_r2t();
        let next = self.scheduler.next(&self.tasks, awaiting_r2t)?;
        let bytes = self.tasks.at(next.task).map_or(0, Task::charged_in);
        if self.budget.make_room_for_read(bytes, &self.tasks) {
            return Some(next);
        }
        self.scheduler.next_without_data(next, &self.tasks, awaiting_r2t)
    }

    /// True once if commands were held for want of room, or because of other tasks, and may go on now.
    pub fn take_room(&mut self) -> bool {
        self.budget.take_room(&self.tasks)
            || self.scheduler.take_unblocked(&self.tasks, self.data_out.awaiting_r2t())
    }

    /// There may be memory again. True if R2Ts are to be tried before [`Commands::next_request`]: they and reads come
    /// first by turns.
    pub fn on_memory(&mut self) -> bool {
        if !self.budget.retry() {
            return false;
        }
        let reads_first = self.reads_first && !self.scheduler.is_empty();
        self.reads_first = !self.reads_first;
        !reads_first
    }

    /// True while something waits for memory.
    #[must_use]
    pub const fn wants_memory(&self) -> bool {
        self.budget.wants_memory()
    }

    /// What is to be asked of the memory that all sessions share, if anything.
    pub fn memory_request(&mut self) -> Option<memory_pool::Request> {
        self.budget.request()
    }

    /// Nothing has happened for a while: memory that is not needed is given back.
    pub fn rest(&mut self) {
        self.budget.rest();
        if self.tasks.count() == 0 {
            self.tasks = Tasks::default();
            self.scheduler.rest();
        }
    }

    /// Time has passed, in which so many bytes of output that waited, and of a Data-Out PDU that is not whole yet, went
    /// over the connection.
    pub fn on_tick(&mut self, bytes: u64, now: Time) {
        self.now = now;
        if bytes > 0 {
            self.data_out.pass(bytes, now);
        }
    }

    /// True if the host has left something it owes unsent for too long.
    #[must_use]
    pub fn owes_data(&self, now: Time) -> bool {
        self.owed().any(|task| self.data_out.is_overdue(task, now))
    }

    /// True if the host holds memory by what it does not take or not send.
    #[must_use]
    pub fn holds_memory(&self) -> bool {
        self.budget.holds_shared_memory() && (self.budget.has_backlog() || self.owed().next().is_some())
    }

    /// The tasks whose data-out the host has been asked for, or has begun.
    fn owed(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| task.state == State::Data && task.data_out.is_open())
    }

    /// The session ends, and no task is answered any more. Gives what covers its output.
    #[must_use]
    pub fn end(self) -> Quota {
        self.budget.end()
    }

    /// What always holds, looked at in debug builds only.
    pub fn check(&self) {
        self.budget.check(&self.tasks);
        self.scheduler.check(&self.tasks);
        self.data_out.check(&self.tasks);
    }
}

impl Fate {
    /// Of a task that is aborted without waiting for its data.
    fn at_once(task: &Task) -> Self {
        if task.state == State::Outcome { Self::Executing } else { Self::Gone }
    }
}

/// True for commands that change nothing, of those whose data a host may be slow to take.
const fn only_reads(cdb: &[u8; 16]) -> bool {
    matches!(cdb[0], opcode::READ_6 | opcode::READ_10 | opcode::READ_12 | opcode::READ_16)
}
