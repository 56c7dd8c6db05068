//! The order in which tasks may run (SAM-5 8.6, 8.7): the task attributes.
//!
//! TST is 001b (SPC-4 7.5.8): every I_T nexus has a task set of its own for each logical unit, so that what is
//! decided here concerns one session only. A task enters its task set when its CmdSN is in turn, whether or not
//! its data-out is here; it leaves it when it is answered. Until something else than SIMPLE is sent, nothing of
//! this is looked at.

use protocol::iscsi::TaskAttribute;
use protocol::scsi::sense::{Sense, SenseKey};

use super::tasks::{State, Task};

/// The answer to the ACA attribute where there is never an auto contingent allegiance (NORMACA 0; SAM-5 8.6.5).
pub const INVALID_MESSAGE_ERROR: Sense = Sense::new(SenseKey::IllegalRequest, 0x49, 0x00);

/// True for tasks whose attribute holds up others.
#[must_use]
pub const fn is_special(attribute: TaskAttribute) -> bool {
    matches!(attribute, TaskAttribute::Ordered | TaskAttribute::HeadOfQueue)
}

/// True if `task` must wait until `other` has ended. `withheld`: there is no memory yet for the R2Ts of `other`. Such a
/// HEAD OF QUEUE task blocks no other, because the tasks that it would block may hold the memory that it waits for.
#[must_use]
pub fn waits_for(task: &Task, other: &Task, withheld: bool) -> bool {
    if task.lun != other.lun || task.tag == other.tag || other.state == State::Order {
        return false;
    }
    let older = other.entered < task.entered;
    match (task.attribute, other.attribute) {
        (TaskAttribute::HeadOfQueue, _) => false,
        (_, TaskAttribute::HeadOfQueue) => !withheld,
        (TaskAttribute::Ordered, _) | (_, TaskAttribute::Ordered) => older,
        _ => false,
    }
}
