//! Task management functions (RFC 7143 11.5, 11.6; SAM-5 7): who is affected, and when the answer is due.
//!
//! A function never undoes a task: it marks those it affects, asks the controller to give them up, and is
//! answered when every one of them has ended. Until then their outcomes are awaited and not sent.

use controller::command::NexusId;
use protocol::iscsi::{
    CmdSn, Lun, RejectReason, TaskManagementFunction, TaskManagementRequest, TaskManagementResponse,
    TaskManagementResult,
};

use super::sender::Sender;
use super::tasks::Task;

/// Functions of one session that wait for tasks to end; further ones are rejected.
pub const FUNCTIONS_MAX: usize = 32;

/// How far a function reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// One task of this session.
    Task,
    /// This session's tasks on the logical unit.
    OwnUnit,
    /// Every session's tasks on the logical unit.
    Unit,
    /// Every session's tasks.
    Target,
}

/// What a function reaches, or the answer to one that is not performed here.
pub const fn reach(function: TaskManagementFunction) -> Result<Reach, TaskManagementResult> {
    use TaskManagementFunction as F;
    match function {
        F::AbortTask => Ok(Reach::Task),
        // TST is 001b: the task set of an I_T nexus is its own.
        F::AbortTaskSet | F::ClearTaskSet => Ok(Reach::OwnUnit),
        F::LogicalUnitReset => Ok(Reach::Unit),
        F::TargetWarmReset | F::TargetColdReset => Ok(Reach::Target),
        F::TaskReassign => Err(TaskManagementResult::ReassignmentNotSupported),
        F::ClearAca | F::Other(_) => Err(TaskManagementResult::NotSupported),
    }
}

/// What a function of this session reaches, or the answer to one that is not performed. `exists` says whether the host
/// sees a LUN that the request names, `restricted` whether there may be LUNs that it does not see.
pub fn judge(
    request: &TaskManagementRequest,
    exists: bool,
    restricted: bool,
) -> Result<Reach, TaskManagementResult> {
    match reach(request.function)? {
        // What others have under way on LUNs this host must not see is none of its business (11.5.1, 11.6.1).
        Reach::Target if restricted => Err(TaskManagementResult::AuthorizationFailed),
        Reach::Target => Ok(Reach::Target),
        _ if !exists => Err(TaskManagementResult::LunDoesNotExist),
        reach => Ok(reach),
    }
}

/// True for the functions that wait until every command before them has come (4.2.3.3 b).
#[must_use]
pub const fn waits_for_commands(function: TaskManagementFunction) -> bool {
    use TaskManagementFunction as F;
    matches!(function, F::AbortTaskSet | F::ClearTaskSet | F::LogicalUnitReset)
}

/// True for the functions that wait until the initiator has answered every R2T of the tasks they abort: "The
/// target for its part MUST wait for responses on all affected Target Transfer Tags before acting on either of
/// these two" (11.5.1). Resets do not: hosts in the field stop sending once they have asked for one.
#[must_use]
pub const fn waits_for_data(function: TaskManagementFunction) -> bool {
    use TaskManagementFunction as F;
    matches!(function, F::AbortTaskSet | F::ClearTaskSet)
}

/// True if a function of the task's own session reaches it. "Task management requests must act on all the
/// commands from the same session having a CmdSN lower than the task management CmdSN" (11.5.1).
#[must_use]
pub fn reaches_own(request: &TaskManagementRequest, reach: Reach, task: &Task) -> bool {
    match reach {
        Reach::Task => task.tag == request.referenced_task_tag && task.lun == request.lun,
        Reach::OwnUnit => task.lun == request.lun && !task.number.follows(request.cmd_sn),
        Reach::Unit => task.lun == request.lun,
        Reach::Target => true,
    }
}

/// True if a function of another session reaches a task.
#[must_use]
pub fn reaches_foreign(lun: &Lun, reach: Reach, task: &Task) -> bool {
    match reach {
        Reach::Task | Reach::OwnUnit => false,
        Reach::Unit => task.lun == *lun,
        Reach::Target => true,
    }
}

/// A task management function of another session that waits for a task of this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiter {
    /// The session that asked.
    pub nexus: NexusId,
    /// Its function's Initiator Task Tag.
    pub function: u32,
}

/// What a task management function or a logout asks of the outside.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Managed {
    /// Tasks of this session the controller has to be asked to give up.
    pub aborts: Vec<(Lun, u32)>,
    /// Functions of other sessions that waited for tasks which ended at once.
    pub waiters: Vec<Waiter>,
    /// The function waits for a release; until then tasks of other sessions may be counted in.
    pub waits: bool,
}

/// What becomes of a request for a function, whose PDU is not rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It is performed.
    Perform,
    /// It waits for the commands before it (4.2.3.3 b).
    Postpone,
    /// There are too many: it is answered that it is rejected.
    Refuse,
}

/// An answer to a function that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The function's Initiator Task Tag.
    pub tag: u32,
    /// What it came to.
    pub result: TaskManagementResult,
}

impl Answer {
    /// Sends it.
    pub fn send(self, sender: &mut Sender<'_>) {
        let header = TaskManagementResponse {
            response: self.result,
            initiator_task_tag: self.tag,
            stat_sn: sender.take_stat_sn(),
            exp_cmd_sn: sender.expected(),
            max_cmd_sn: sender.maximum(),
        };
        sender.output.pdu(&header.encode(), &[], sender.parameters.digests());
    }
}

/// A function whose answer is due when nothing is awaited any more.
#[derive(Debug)]
struct Function {
    tag: u32,
    tasks: Vec<u32>,
    /// Tasks of other sessions still awaited; they may be reported before they are counted, hence the sign.
    elsewhere: i64,
    /// A LUN that it was to reset could not be.
    failed: bool,
}

impl Function {
    const fn is_done(&self) -> bool {
        self.tasks.is_empty() && self.elsewhere == 0
    }
}

/// The functions that one session is asked for, and those of others that wait for its tasks. Always: no two of its own
/// have the same tag.
#[derive(Debug, Default)]
pub struct Functions {
    /// Performed, and not answered yet.
    waiting: Vec<Function>,
    /// They came before commands that they reach.
    postponed: Vec<TaskManagementRequest>,
    /// Functions of other sessions, each with the task it waits for.
    waiters: Vec<(u32, Waiter)>,
}

impl Functions {
    /// How many wait for tasks to end.
    #[must_use]
    pub fn count(&self) -> usize {
        self.waiting.len()
    }

    /// True if none waits for tasks to end.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// True if a function with this tag is not answered yet.
    #[must_use]
    pub fn contains(&self, tag: u32) -> bool {
        self.waiting.iter().any(|function| function.tag == tag)
            || self.postponed.iter().any(|request| request.initiator_task_tag == tag)
    }

    /// What becomes of a request for a function, or why its PDU is rejected. Commands up to `expected` have come.
    pub fn admit(
        &self,
        request: &TaskManagementRequest,
        immediate: bool,
        expected: CmdSn,
    ) -> Result<Admission, RejectReason> {
        if self.waiting.len() + self.postponed.len() >= FUNCTIONS_MAX {
            return if immediate {
                Err(RejectReason::TooManyImmediateCommands)
            } else {
                Ok(Admission::Refuse)
            };
        }
        let early = immediate && request.cmd_sn.follows(expected);
        Ok(if early && waits_for_commands(request.function) {
            Admission::Postpone
        } else {
            Admission::Perform
        })
    }

    /// A function waits until the commands before it have come.
    pub fn postpone(&mut self, request: TaskManagementRequest) {
        debug_assert!(!self.contains(request.initiator_task_tag), "its tag is not in use");
        debug_assert!(self.postponed.len() < FUNCTIONS_MAX, "it was admitted");
        self.postponed.push(request);
    }

    /// Takes out the functions that no command is awaited for any more.
    pub fn take_due(&mut self, expected: CmdSn) -> impl Iterator<Item = TaskManagementRequest> {
        self.postponed.extract_if(.., move |request| !request.cmd_sn.follows(expected))
    }

    /// True if functions wait for commands before them.
    #[must_use]
    pub fn has_postponed(&self) -> bool {
        !self.postponed.is_empty()
    }

    /// The host logs out: what waits for commands before it is not performed.
    pub fn drop_postponed(&mut self) {
        self.postponed.clear();
    }

    /// A function waits for these tasks of its own session, and for one release by [`Functions::elsewhere`].
    pub fn begin(&mut self, tag: u32, tasks: Vec<u32>) {
        self.waiting.push(Function { tag, tasks, elsewhere: 1, failed: false });
    }

    /// A task of this session has ended. Gives the answers that are due with it.
    pub fn on_ended(&mut self, task: u32) -> Vec<Answer> {
        for function in &mut self.waiting {
            function.tasks.retain(|awaited| *awaited != task);
        }
        self.done()
    }

    /// Counts tasks of other sessions in (positive) or out (negative). Gives the answers that are due with it.
    pub fn elsewhere(&mut self, tag: u32, change: i64) -> Vec<Answer> {
        if let Some(function) = self.waiting.iter_mut().find(|function| function.tag == tag) {
            function.elsewhere += change;
        }
        self.done()
    }

    /// A LUN could not be reset for a function.
    pub fn fail(&mut self, tag: u32) {
        if let Some(function) = self.waiting.iter_mut().find(|function| function.tag == tag) {
            function.failed = true;
        }
    }

    fn done(&mut self) -> Vec<Answer> {
        let answer = |function: Function| {
            let result =
                if function.failed { TaskManagementResult::Rejected } else { TaskManagementResult::Complete };
            Answer { tag: function.tag, result }
        };
        self.waiting.extract_if(.., |function| function.is_done()).map(answer).collect()
    }

    /// A function of another session waits for a task of this one.
    pub fn add_waiter(&mut self, task: u32, waiter: Waiter) {
        self.waiters.push((task, waiter));
    }

    /// The functions of other sessions that waited for a task that has ended.
    pub fn take_waiters(&mut self, task: u32) -> Vec<Waiter> {
        if self.waiters.is_empty() {
            return Vec::new();
        }
        self.waiters.extract_if(.., |(awaited, _)| *awaited == task).map(|(_, waiter)| waiter).collect()
    }

    /// The session ends: the functions of other sessions that wait for any of its tasks.
    #[must_use]
    pub fn end(self) -> Vec<Waiter> {
        self.waiters.into_iter().map(|(_, waiter)| waiter).collect()
    }

    /// What always holds, looked at in debug builds only. `has_task` tells whether a task is alive.
    pub fn check(&self, has_task: impl Fn(u32) -> bool) {
        if cfg!(debug_assertions) {
            debug_assert!(self.postponed.len() <= FUNCTIONS_MAX, "they were admitted");
            debug_assert!(
                self.waiting.iter().all(|function| !function.is_done()),
                "what is done is answered"
            );
            let awaited = || self.waiting.iter().flat_map(|function| &function.tasks);
            debug_assert!(awaited().all(|task| has_task(*task)), "what is awaited will end");
            debug_assert!(self.waiters.iter().all(|(task, _)| has_task(*task)), "for others too");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn complete(tag: u32) -> Answer {
        Answer { tag, result: TaskManagementResult::Complete }
    }

    #[test]
    fn a_function_is_answered_when_the_last_task_has_ended() {
        let mut functions = Functions::default();
        functions.begin(100, vec![1, 2]);
        functions.begin(101, vec![2]);
        assert_eq!(functions.elsewhere(100, -1), []);
        assert_eq!(functions.elsewhere(101, -1), []);
        assert_eq!(functions.on_ended(2), [complete(101)]);
        assert!(functions.contains(100) && !functions.contains(101));
        assert_eq!(functions.on_ended(1), [complete(100)]);
        assert_eq!(functions.on_ended(1), []);
    }

    #[test]
    fn a_function_whose_lun_could_not_be_reset_is_rejected() {
        let mut functions = Functions::default();
        functions.begin(100, vec![]);
        functions.elsewhere(100, 1);
        functions.fail(100);
        functions.fail(999);
        assert_eq!(functions.elsewhere(100, -1), []);
        let rejected = Answer { tag: 100, result: TaskManagementResult::Rejected };
        assert_eq!(functions.elsewhere(100, -1), [rejected]);
        functions.begin(100, vec![]);
        assert_eq!(functions.elsewhere(100, -1), [complete(100)], "it is told once");
    }

    #[test]
    fn tasks_of_other_sessions_are_awaited_whatever_order_they_are_counted_in() {
        let mut functions = Functions::default();
        functions.begin(100, vec![]);
        assert_eq!(functions.elsewhere(100, -1), [complete(100)], "nothing elsewhere");
        functions.begin(101, vec![]);
        assert_eq!(functions.elsewhere(101, 1), []);
        assert_eq!(functions.elsewhere(101, -1), []);
        assert_eq!(functions.elsewhere(101, -1), [complete(101)]);
    }
}
