//! Task management functions (RFC 7143 11.5, 11.6; SAM-5 7): who is affected, and when the answer is due.
//!
//! A function never undoes a task: it marks those it affects, asks the controller to give them up, and is
//! answered when every one of them has ended. Until then their outcomes are awaited and not sent.

use protocol::iscsi::{TaskManagementFunction, TaskManagementRequest, TaskManagementResult};

use super::tasks::Task;

/// Functions of one session that wait for tasks to end, at most; further ones are rejected.
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
pub fn reaches_foreign(lun: &protocol::iscsi::Lun, reach: Reach, task: &Task) -> bool {
    match reach {
        Reach::Task | Reach::OwnUnit => false,
        Reach::Unit => task.lun == *lun,
        Reach::Target => true,
    }
}

/// A function whose answer is due when nothing is awaited any more.
#[derive(Debug)]
struct Function {
    tag: u32,
    tasks: Vec<u32>,
    /// Tasks of other sessions still awaited; they may be reported before they are counted, hence the sign.
    elsewhere: i64,
}

/// The functions of one session that wait.
#[derive(Debug, Default)]
pub struct Functions {
    waiting: Vec<Function>,
    /// Those that a LUN could not be reset for; in [`Functions::waiting`] until they are answered.
    failed: Vec<u32>,
}

impl Functions {
    /// How many wait.
    #[must_use]
    pub fn count(&self) -> usize {
        self.waiting.len()
    }

    /// True if one more may wait beside `others` that wait elsewhere.
    #[must_use]
    pub fn has_room(&self, others: usize) -> bool {
        self.waiting.len() + others < FUNCTIONS_MAX
    }

    /// True if none waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// True if a function with this tag waits.
    #[must_use]
    pub fn contains(&self, tag: u32) -> bool {
        self.waiting.iter().any(|function| function.tag == tag)
    }

    /// A function waits for these tasks of its own session, and for one release by [`Functions::elsewhere`].
    pub fn begin(&mut self, tag: u32, tasks: Vec<u32>) {
        self.waiting.push(Function { tag, tasks, elsewhere: 1 });
    }

    /// A task of this session has ended. Gives the tags of the functions that are done with it.
    pub fn on_ended(&mut self, task: u32) -> Vec<u32> {
        for function in &mut self.waiting {
            function.tasks.retain(|awaited| *awaited != task);
        }
        self.done()
    }

    /// Counts tasks of other sessions in (positive) or out (negative).
    pub fn elsewhere(&mut self, tag: u32, change: i64) -> Vec<u32> {
        if let Some(function) = self.waiting.iter_mut().find(|function| function.tag == tag) {
            function.elsewhere += change;
        }
        self.done()
    }

    /// A LUN could not be reset for a function that waits.
    pub fn fail(&mut self, tag: u32) {
        if self.contains(tag) && !self.failed.contains(&tag) {
            self.failed.push(tag);
        }
    }

    /// How a function that is done ends.
    pub fn result(&mut self, tag: u32) -> TaskManagementResult {
        let failed = self.failed.extract_if(.., |failed| *failed == tag).count() > 0;
        if failed { TaskManagementResult::Rejected } else { TaskManagementResult::Complete }
    }

    fn done(&mut self) -> Vec<u32> {
        let is_done = |function: &mut Function| function.tasks.is_empty() && function.elsewhere == 0;
        self.waiting.extract_if(.., is_done).map(|function| function.tag).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_answered_when_the_last_task_has_ended() {
        let mut functions = Functions::default();
        functions.begin(100, vec![1, 2]);
        functions.begin(101, vec![2]);
        assert_eq!(functions.elsewhere(100, -1), [0_u32; 0]);
        assert_eq!(functions.elsewhere(101, -1), [0_u32; 0]);
        assert_eq!(functions.on_ended(2), [101]);
        assert!(functions.contains(100) && !functions.contains(101));
        assert_eq!(functions.on_ended(1), [100]);
        assert_eq!(functions.on_ended(1), [0_u32; 0]);
    }

    #[test]
    fn a_function_whose_lun_could_not_be_reset_is_rejected() {
        let mut functions = Functions::default();
        functions.begin(100, vec![]);
        functions.elsewhere(100, 1);
        functions.fail(100);
        functions.fail(999);
        assert_eq!(functions.elsewhere(100, -1), [0_u32; 0]);
        assert_eq!(functions.elsewhere(100, -1), [100]);
        assert_eq!(functions.result(100), TaskManagementResult::Rejected);
        assert_eq!(functions.result(100), TaskManagementResult::Complete, "it is told once");
    }

    #[test]
    fn tasks_of_other_sessions_are_awaited_whatever_order_they_are_counted_in() {
        let mut functions = Functions::default();
        functions.begin(100, vec![]);
        assert_eq!(functions.elsewhere(100, -1), [100], "nothing elsewhere");
        functions.begin(101, vec![]);
        assert_eq!(functions.elsewhere(101, 1), [0_u32; 0]);
        assert_eq!(functions.elsewhere(101, -1), [0_u32; 0]);
        assert_eq!(functions.elsewhere(101, -1), [101]);
    }
}
