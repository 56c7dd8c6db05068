//! The task manager of one session (SAM-5 4.6.9): runs its commands, performs its task management functions, and sends
//! what comes of them.

use std::sync::Arc;

use bytes::Bytes;
use controller::command::{Outcome, TaskTag};
use protocol::iscsi::{
    CmdSn, DataOut, Lun, RejectReason, ScsiCommand, TaskManagementRequest, TaskManagementResult,
};

use super::commands::{Affected, Commands, Fate, Step};
use super::data_in;
use super::data_out::{R2tTerms, Taken};
use super::data_out_buffer::Refusal;
use super::sender::Sender;
use super::task_management::{Admission, Answer, Functions, Managed, Reach, Waiter};
use super::tasks::{Ending, Task};
use crate::iscsi::connection::framing::Received;
use crate::iscsi::memory_pool::{Pool, Quota};

/// The commands and the task management functions of one session.
#[derive(Debug)]
pub struct TaskManager {
    commands: Commands,
    functions: Functions,
}

impl TaskManager {
    /// Without tasks. `data_out_bytes` tells how many bytes of data-out a CDB takes.
    #[must_use]
    pub fn new(memory: Arc<Pool>, data_out_bytes: fn(&[u8; 16]) -> u64) -> Self {
        Self { commands: Commands::new(memory, data_out_bytes), functions: Functions::default() }
    }

    /// The commands.
    #[must_use]
    pub const fn commands(&self) -> &Commands {
        &self.commands
    }

    /// The commands.
    pub const fn commands_mut(&mut self) -> &mut Commands {
        &mut self.commands
    }

    /// Opens the command window for a PDU that is sent now, as far as the tasks leave room.
    pub fn open<'b, 'a>(&self, sender: &'b mut Sender<'a>) -> &'b mut Sender<'a> {
        sender.window.open(self.commands.count() as u32, self.commands.budget().memory().is_tight());
        sender
    }

    /// Functions that wait for tasks to end.
    #[must_use]
    pub fn functions(&self) -> usize {
        self.functions.count()
    }

    /// True if no function waits for tasks to end.
    #[must_use]
    pub fn has_no_functions(&self) -> bool {
        self.functions.is_idle()
    }

    /// True if no command and no task management function is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.commands.count() == 0 && self.functions.is_idle()
    }

    /// True while a command or a function with this tag is not answered.
    #[must_use]
    pub fn is_tag_in_use(&self, tag: u32) -> bool {
        self.commands.contains(tag) || self.functions.contains(tag)
    }

    /// True while a function with this tag is not answered.
    #[must_use]
    pub fn has_function(&self, tag: u32) -> bool {
        self.functions.contains(tag)
    }

    /// Takes a command, whose tag nothing else has, with its immediate data. Gives its place.
    pub fn begin(&mut self, command: &ScsiCommand, data: Bytes, sender: &Sender<'_>) -> usize {
        self.commands.begin(command, data, sender.parameters)
    }

    /// Every command before the task at this place has come.
    pub fn deliver(&mut self, at: usize, sender: &mut Sender<'_>) {
        if self.commands.enter(at) {
            self.proceed(at, sender);
        }
    }

    /// The same, for a command that came early with this tag and number.
    pub fn deliver_early(&mut self, tag: u32, number: CmdSn, sender: &mut Sender<'_>) {
        if let Some(at) = self.commands.find_early(tag, number) {
            self.deliver(at, sender);
        }
    }

    /// Takes the task at this place as far as its data-out allows.
    fn proceed(&mut self, at: usize, sender: &mut Sender<'_>) {
        let (tag, step) = self.commands.proceed(at);
        match step {
            Step::Nothing => {}
            Step::Solicit => self.solicit(tag, sender),
            Step::Over => {
                self.commands.remove(at);
                self.solicit_awaiting(sender);
                self.after_unheard(tag, sender);
            }
            Step::Refused(refusal) => {
                let task = self.commands.remove(at);
                self.solicit_awaiting(sender);
                let outcome = match refusal {
                    Refusal::Check(sense) => Outcome::Check(sense),
                    Refusal::Status(status) => Outcome::Status(status),
                };
                if let Some(task) = task {
                    data_in::answer(self.open(sender), &task, outcome);
                }
            }
        }
    }

    /// Sends the R2Ts that are due for a task.
    fn solicit(&mut self, tag: u32, sender: &mut Sender<'_>) {
        let terms = R2tTerms::of(sender.parameters);
        while let Some(r2t) = self.commands.next_r2t(tag, terms, sender.tags) {
            r2t.send(self.open(sender));
        }
    }

    /// There may be room for R2Ts that were withheld.
    fn solicit_awaiting(&mut self, sender: &mut Sender<'_>) {
        if self.commands.is_awaiting_r2t() {
            for tag in self.commands.take_awaiting_r2t() {
                self.solicit(tag, sender);
            }
        }
    }

    /// There may be memory again: what waits for it is tried once more.
    pub fn on_memory(&mut self, sender: &mut Sender<'_>) {
        if self.commands.on_memory() {
            self.solicit_awaiting(sender);
        }
    }

    /// Takes a Data-Out PDU. False if it is to be rejected, because it belongs to no transfer.
    pub fn on_data_out(&mut self, data: &DataOut, pdu: &Received, sender: &mut Sender<'_>) -> bool {
        match self.commands.on_data_out(data, pdu) {
            Taken::By(at) => self.proceed(at, sender),
            Taken::Dropped => {}
            Taken::Rejected => return false,
        }
        true
    }

    /// Removes a task that is not being executed; its Data-Out may still come.
    pub fn forget(&mut self, tag: u32, sender: &mut Sender<'_>) -> Option<Task> {
        let task = self.commands.forget(tag)?;
        self.solicit_awaiting(sender);
        Some(task)
    }

    /// Takes the outcome of a command, or of a reset. Gives the functions of other sessions that waited for it.
    pub fn on_outcome(&mut self, tag: TaskTag, outcome: Outcome, sender: &mut Sender<'_>) -> Vec<Waiter> {
        let Some(task) = self.commands.take_executed(tag.task()) else {
            self.on_reset(tag.task(), &outcome, sender);
            return Vec::new();
        };
        self.solicit_awaiting(sender);
        if task.ending == Ending::Unheard {
            self.after_unheard(tag.task(), sender);
        } else {
            data_in::answer(self.open(sender), &task, outcome);
        }
        self.functions.take_waiters(tag.task())
    }

    /// A LUN that a function of this session resets has been, or it is not known whether it has.
    fn on_reset(&mut self, function: u32, outcome: &Outcome, sender: &mut Sender<'_>) {
        if !matches!(outcome, Outcome::Good(_)) {
            self.functions.fail(function);
        }
        self.release(function, -1, sender);
    }

    /// What becomes of a request for a function, or why its PDU is rejected.
    pub fn admit(
        &self,
        request: &TaskManagementRequest,
        immediate: bool,
        expected: CmdSn,
    ) -> Result<Admission, RejectReason> {
        self.functions.admit(request, immediate, expected)
    }

    /// A function waits until the commands before it have come.
    pub fn postpone(&mut self, request: TaskManagementRequest) {
        self.functions.postpone(request);
    }

    /// True if functions wait for commands before them.
    #[must_use]
    pub fn has_postponed(&self) -> bool {
        self.functions.has_postponed()
    }

    /// Takes out the functions that no command is awaited for any more.
    pub fn take_due(&mut self, expected: CmdSn) -> impl Iterator<Item = TaskManagementRequest> {
        self.functions.take_due(expected)
    }

    /// Performs a function of this session on its tasks. `None` if it is to abort one task, which is not here.
    pub fn manage(
        &mut self,
        request: &TaskManagementRequest,
        reach: Reach,
        sender: &mut Sender<'_>,
    ) -> Option<Managed> {
        let affected = self.commands.abort(request, reach);
        if reach == Reach::Task && affected.is_empty() {
            return None;
        }
        let awaited = affected.iter().filter(|affected| affected.fate != Fate::Gone);
        let awaited = awaited.map(|affected| affected.tag).collect();
        self.functions.begin(request.initiator_task_tag, awaited);
        Some(Managed { waits: true, ..self.end_unheard(affected, sender) })
    }

    /// The host logs out: gives the tasks the controller has to be asked to give up. No function waits for commands any
    /// more.
    pub fn end_all(&mut self, sender: &mut Sender<'_>) -> Managed {
        self.functions.drop_postponed();
        let affected = self.commands.abort_all();
        self.end_unheard(affected, sender)
    }

    /// Ends what can be of tasks that were aborted and are not answered.
    fn end_unheard(&mut self, affected: Vec<Affected>, sender: &mut Sender<'_>) -> Managed {
        let mut managed = Managed::default();
        for Affected { tag, lun, fate } in affected {
            match fate {
                Fate::Executing => managed.aborts.push((lun, tag)),
                Fate::OwedData => {}
                Fate::Gone => {
                    self.forget(tag, sender);
                    // A function before this one may wait for its data.
                    self.after_unheard(tag, sender);
                    managed.waiters.extend(self.functions.take_waiters(tag));
                }
            }
        }
        managed
    }

    /// A function of another session reaches into this one: gives the tasks the controller has to be asked to
    /// give up. Each will be reported to the [`Waiter`] when it has ended.
    pub fn abort_for(&mut self, lun: &Lun, reach: Reach, waiter: Waiter, sender: &mut Sender<'_>) -> Managed {
        let mut managed = Managed::default();
        for Affected { tag, lun, fate } in self.commands.abort_for_other(lun, reach) {
            if fate == Fate::Executing {
                self.functions.add_waiter(tag, waiter);
                managed.aborts.push((lun, tag));
            } else if let Some(task) = self.forget(tag, sender) {
                // A function of its own session may have aborted it before, and waits for data that it owes no more.
                if task.ending == Ending::Unheard {
                    self.after_unheard(tag, sender);
                } else {
                    data_in::answer(self.open(sender), &task, Outcome::Aborted);
                }
                managed.waiters.extend(self.functions.take_waiters(tag));
            }
        }
        managed
    }

    /// Counts tasks of other sessions that a function waits for in or out, and answers it if it was the last.
    pub fn release(&mut self, function: u32, change: i64, sender: &mut Sender<'_>) {
        let answers = self.functions.elsewhere(function, change);
        self.send_answers(answers, sender);
    }

    /// An aborted task has ended: so have perhaps the functions that waited for it.
    fn after_unheard(&mut self, task: u32, sender: &mut Sender<'_>) {
        let answers = self.functions.on_ended(task);
        self.send_answers(answers, sender);
    }

    fn send_answers(&self, answers: Vec<Answer>, sender: &mut Sender<'_>) {
        for answer in answers {
            answer.send(self.open(sender));
        }
    }

    /// Answers a function that waits for nothing.
    pub fn respond(&self, tag: u32, result: TaskManagementResult, sender: &mut Sender<'_>) {
        Answer { tag, result }.send(self.open(sender));
    }

    /// The session ends without answering its tasks: the functions of other sessions that wait for any of them, and
    /// what covers its output.
    #[must_use]
    pub fn end(self) -> (Vec<Waiter>, Quota) {
        (self.functions.end(), self.commands.end())
    }

    /// What always holds, looked at in debug builds only.
    pub fn check(&self) {
        self.commands.check();
        self.functions.check(|tag| self.commands.contains(tag));
    }
}
