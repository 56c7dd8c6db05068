//! Answers that are lost with the interlink, and functions that give up what is on its way.

use super::{A, ALPHA, B, BETA, GOOD, HERE, act, must, scripted, wait_ms, when, written};
use crate::workload::{self};
use crate::world::script::Act::{Ask as Asks, Cut, GiveUp, Heal, Hold as Holds, Kill, Release, Reset, Start};
use crate::world::script::Ask::{CompareAndWrite, Write};
use crate::world::script::Moment::{self, Ended, Idle, OnItsWay, Waits};
use crate::world::script::{Function, Hold};
use crate::world::settings::Settings;

/// A COMPARE AND WRITE of beta's host is carried out at alpha, and the answer is lost with the interlink. The host
/// hears that nobody knows; it is not sent again.
#[must_use]
pub fn lost_answer(seed: u64) -> Settings {
    let loses = vec![
        act(Holds(Hold::Replies(ALPHA))),
        act(Asks(B, CompareAndWrite(200))),
        when(Moment::Holds(ALPHA, B)),
        must(Waits(B)),
        act(Reset(BETA)),
        when(Ended(B, workload::Ended::Unknown)),
        act(Release(Hold::Replies(ALPHA))),
    ];
    scripted("lost-answer", seed, [loses])
}

/// The same, and alpha restarts before the answer.
#[must_use]
pub fn lost_answer_of_a_restart(seed: u64) -> Settings {
    let loses = vec![
        act(Asks(B, CompareAndWrite(200))),
        act(Cut(ALPHA)),
        when(Moment::Holds(ALPHA, B)),
        must(Waits(B)),
        act(Kill(ALPHA)),
        act(Heal),
        act(Start(ALPHA)),
        when(Ended(B, workload::Ended::Unknown)),
    ];
    scripted("lost-answer-of-a-restart", seed, [loses])
}

/// A host of beta gives up a write that is still on its way to alpha; the answer waits until nothing of it can be
/// written any more.
fn given_up(name: &'static str, seed: u64, function: Function) -> Settings {
    let gives_up = vec![
        act(Holds(Hold::Bridges(BETA))),
        act(Asks(B, Write(HERE))),
        when(OnItsWay(BETA)),
        act(GiveUp(B, function)),
        wait_ms(300),
        act(Asks(A, Write(HERE))),
        when(Ended(A, GOOD)),
        must(OnItsWay(BETA)),
        act(Release(Hold::Bridges(BETA))),
        when(Idle(B)),
    ];
    scripted(name, seed, [written(A).into(), gives_up])
}

/// By ABORT TASK.
#[must_use]
pub fn abort_task(seed: u64) -> Settings {
    given_up("abort-task", seed, Function::AbortTask)
}

/// By ABORT TASK SET.
#[must_use]
pub fn abort_task_set(seed: u64) -> Settings {
    given_up("abort-task-set", seed, Function::AbortTaskSet)
}

/// By LOGICAL UNIT RESET.
#[must_use]
pub fn logical_unit_reset(seed: u64) -> Settings {
    given_up("logical-unit-reset", seed, Function::LogicalUnitReset)
}
