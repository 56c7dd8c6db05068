//! Known ways to lose data or to lie, each written out as a script. Main is alpha, sub is beta, the write cache is on;
//! hosts A and C are alpha's, host B is beta's.
//!
//! Every one ends with all pairs DUPLEX, every block read again through both controllers, the whole history judged,
//! and both copies compared.

use core::time::Duration;

use controller::pair::{PairStatus, Service};
use controller::plan::Side;

use super::disk::Trouble;
use super::scenario::Scenario;
use super::script::Act::{
    Ask as Asks, BackUp, Cut, Disconnect, Expire, GiveUp, Heal, Hold as Holds, Kill, LogOut, Mount, Pause,
    PowerLoss, Release, RemoveVolumes, Repair, Reset, ResetControl, Restore, Start, Stop,
    Trouble as GetsInto, Unmount,
};
use super::script::Ask::{CompareAndWrite, Read, Synchronize, Write};
use super::script::Moment::{
    self, Clean, Ended, Idle, InFlight, Members, Not, OnItsWay, Ready, Record, Stopped, Waits,
};
use super::script::{Act, Function, Hold, Io, Step};
use super::settings::{HostSettings, Settings};
use crate::judge::Extent;
use crate::workload::{self, Mix, Shape};

pub(super) const ALPHA: Side = Side::First;
pub(super) const BETA: Side = Side::Second;

/// Hosts.
pub(super) const A: usize = 0;
pub(super) const B: usize = 1;
pub(super) const C: usize = 2;

/// Where they write.
pub(super) const HERE: Extent = Extent { start: 16, blocks: 8 };
pub(super) const THERE: Extent = Extent { start: 64, blocks: 8 };

pub(super) const GOOD: workload::Ended = workload::Ended::Good;

/// All of them by name.
pub const ALL: [(&str, Scenario); 27] = [
    ("resync-by-role", resync_by_role),
    ("empty-volume", empty_volume),
    ("mount-missing", mount_missing),
    ("paused-reader", paused_reader),
    ("early-survivor", early_survivor),
    ("time-backwards", time_backwards),
    ("starter-alone", starter_alone),
    ("two-histories", two_histories),
    ("ghost-waits", ghost_waits),
    ("ghost-session", ghost_session),
    ("ghost-pipe", ghost_pipe),
    ("ghost-login", ghost_login),
    ("ghost-logout", ghost_logout),
    ("ghost-adrift", ghost_adrift),
    ("intent-too-late", intent_too_late),
    ("intent-too-early-gone", intent_too_early_gone),
    ("flush-second-time", flush_second_time),
    ("sub-full", sub_full),
    ("main-full", main_full),
    ("failing-in-a-turn", failing_in_a_turn),
    ("lost-answer", lost_answer),
    ("lost-answer-of-a-restart", lost_answer_of_a_restart),
    ("abort-task", abort_task),
    ("abort-task-set", abort_task_set),
    ("logical-unit-reset", logical_unit_reset),
    ("old-bridge", old_bridge),
    ("lost-state", lost_state),
];

pub(super) fn act(act: Act) -> Step {
    Step::Do(act)
}

pub(super) fn when(moment: Moment) -> Step {
    Step::When(moment)
}

pub(super) fn must(moment: Moment) -> Step {
    Step::Must(moment)
}

pub(super) fn wait_ms(ms: u64) -> Step {
    Step::Wait(Duration::from_millis(ms))
}

/// A host writes, and hears that it did.
pub(super) fn written(host: usize) -> [Step; 3] {
    [when(Ready(host)), act(Asks(host, Write(HERE))), when(Ended(host, GOOD))]
}

fn cut_both() -> [Step; 2] {
    [act(Cut(ALPHA)), act(Cut(BETA))]
}

const fn alone(side: Side) -> Moment {
    Moment::Place(side, PairStatus::Suspended, Service::Alone)
}

const fn apart(side: Side) -> Moment {
    Moment::Place(side, PairStatus::Suspended, Service::Refused)
}

/// Begins when all is well, ends when all is well again.
pub(super) fn scripted(
    name: &'static str,
    seed: u64,
    steps: impl IntoIterator<Item = Vec<Step>>,
) -> Settings {
    let mix = Mix { read: 1, ..Mix::NONE };
    let shape = Shape { lun: 0, start: 0, blocks: 128, blocks_min: 1, blocks_max: 8, mix };
    let host = |side| HostSettings::new(side, vec![shape], 8, 0);
    let mut settings = Settings::scenario(name, seed, [ALPHA, BETA, ALPHA].map(host).to_vec());
    settings.luns.truncate(1);
    settings.inline_percent = 0;
    settings.commands_min = 0;
    settings.script = vec![when(Moment::Settled), when(Ready(A)), when(Ready(B)), when(Ready(C))];
    settings.script.extend(steps.into_iter().flatten());
    settings.script.push(when(Moment::Settled));
    settings
}

/// W is acknowledged, in both memories. alpha loses power before it is written back; beta lives but refuses its hosts.
/// alpha returns without W: the source is the copy whose controller kept its memory.
#[must_use]
pub fn resync_by_role(seed: u64) -> Settings {
    let loses = vec![
        must(Moment::Holds(BETA, A)),
        act(PowerLoss(ALPHA)),
        must(Moment::Lacks(ALPHA, A)),
        when(apart(BETA)),
        act(Start(ALPHA)),
    ];
    scripted("resync-by-role", seed, [written(A).into(), loses])
}

/// Both crash; alpha's volume is not there when it starts. It is main by its record, and an empty volume is never a
/// source.
#[must_use]
pub fn empty_volume(seed: u64) -> Settings {
    let starts = vec![
        act(Kill(ALPHA)),
        act(Kill(BETA)),
        act(RemoveVolumes(ALPHA)),
        must(Moment::Holds(BETA, A)),
        act(Start(BETA)),
        act(Start(ALPHA)),
    ];
    scripted("empty-volume", seed, [written(A).into(), starts])
}

/// alpha's whole data mount is missing at boot, records and volume. Nothing is created and nothing copied; when the
/// mount is there again, alpha has what it missed.
#[must_use]
pub fn mount_missing(seed: u64) -> Settings {
    let starts = vec![
        act(Kill(ALPHA)),
        act(Unmount(ALPHA)),
        when(apart(BETA)),
        act(Start(ALPHA)),
        when(Moment::Refuses(ALPHA, "the state folder of alpha knows nothing of this LUN")),
        when(Moment::Refuses(BETA, "the state folder of alpha knows nothing of this LUN")),
        wait_ms(1000),
        must(Moment::Holds(BETA, A)),
        act(Kill(ALPHA)),
        act(Mount(ALPHA)),
        act(Start(ALPHA)),
    ];
    scripted("mount-missing", seed, [written(A).into(), starts])
}

/// beta is stopped for 30 s. alpha goes on alone and writes; then a host of beta asks to read. beta wakes, and before it
/// notices the time or hears of anything it reads its own copy: it finds its lease gone before it answers.
#[must_use]
pub fn paused_reader(seed: u64) -> Settings {
    let pauses = vec![
        wait_ms(200),
        act(Cut(ALPHA)),
        act(Holds(Hold::Ticks(BETA))),
        act(Pause(BETA, Duration::from_secs(30))),
        act(Asks(A, Write(HERE))),
        when(Ended(A, GOOD)),
        must(alone(ALPHA)),
        act(Asks(B, Read(HERE))),
        wait_ms(14_000),
        wait_ms(13_000),
        when(InFlight(BETA, Io::Read)),
        must(Moment::Lacks(BETA, A)),
        must(Moment::Place(BETA, PairStatus::Duplex, Service::Mirrored)),
        when(Not(Box::new(InFlight(BETA, Io::Read)))),
        wait_ms(100),
        act(Release(Hold::Ticks(BETA))),
        when(Idle(B)),
        act(Heal),
    ];
    scripted("paused-reader", seed, [written(A).into(), pauses])
}

/// alpha sees its connections reset; beta lives behind a firewall and answers reads from its own copy until its lease
/// runs out. alpha completes nothing alone before.
#[must_use]
pub fn early_survivor(seed: u64) -> Settings {
    let resets = vec![
        wait_ms(200),
        act(Cut(ALPHA)),
        act(Cut(BETA)),
        act(Reset(ALPHA)),
        act(Asks(A, Write(HERE))),
        act(Asks(B, Read(HERE))),
        when(Ended(B, GOOD)),
        when(Ended(A, GOOD)),
        must(Moment::Lacks(BETA, A)),
        act(Asks(B, Read(HERE))),
        when(Idle(B)),
        act(Heal),
    ];
    scripted("early-survivor", seed, [written(A).into(), resets])
}

/// alpha has v2 on its own copy, beta has not; then alpha dies, and beta's copy is the source. Nobody may have read
/// v2.
#[must_use]
pub fn time_backwards(seed: u64) -> Settings {
    let reads = vec![
        act(Holds(Hold::Bridges(ALPHA))),
        act(Asks(A, Write(HERE))),
        when(Moment::Holds(ALPHA, A)),
        act(Asks(C, Read(HERE))),
        wait_ms(300),
        must(Moment::Lacks(BETA, A)),
        act(PowerLoss(ALPHA)),
        act(Release(Hold::Bridges(ALPHA))),
        act(Start(ALPHA)),
    ];
    scripted("time-backwards", seed, [written(A).into(), reads])
}

/// alpha has forgotten what it acknowledged, beta has it and is cut off. alpha, main by its record, waits.
#[must_use]
pub fn starter_alone(seed: u64) -> Settings {
    let starts = vec![
        act(PowerLoss(ALPHA)),
        must(Moment::Lacks(ALPHA, A)),
        when(apart(BETA)),
        act(Start(ALPHA)),
        wait_ms(4000),
        must(Moment::Holds(BETA, A)),
        act(Heal),
    ];
    scripted("starter-alone", seed, [written(A).into(), cut_both().into(), starts])
}

/// alpha's records come back from a backup of a time when it was alone, and it goes on alone once more: two
/// generations have one number. Neither is served until a person has put the right records back.
#[must_use]
pub fn two_histories(seed: u64) -> Settings {
    let first = vec![
        when(Members(ALPHA, 0b01)),
        when(alone(ALPHA)),
        act(BackUp(ALPHA)),
        act(Heal),
        when(Moment::Settled),
        when(Members(ALPHA, 0b11)),
    ];
    let second = vec![
        act(Kill(ALPHA)),
        act(Restore(ALPHA)),
        must(Members(ALPHA, 0b01)),
        act(Start(ALPHA)),
        when(alone(ALPHA)),
        act(Heal),
        when(Moment::Refuses(ALPHA, "two histories")),
        when(Moment::Refuses(BETA, "two histories")),
        act(Kill(ALPHA)),
        act(Restore(ALPHA)),
        act(Start(ALPHA)),
    ];
    scripted(
        "two-histories",
        seed,
        [written(A).into(), cut_both().into(), first, written(A).into(), cut_both().into(), second],
    )
}

/// v1 waits at main behind two slow writes for longer than its host would.
#[must_use]
pub fn ghost_waits(seed: u64) -> Settings {
    let slow = Hold::Disk(BETA, Io::Change);
    let waits = vec![
        act(Holds(slow)),
        act(Asks(A, Write(HERE))),
        when(InFlight(BETA, Io::Change)),
        act(Asks(C, Write(HERE))),
        wait_ms(100),
        act(Asks(B, Write(HERE))),
        when(Not(Box::new(OnItsWay(BETA)))),
        wait_ms(2300),
        must(Waits(A)),
        act(Release(slow)),
        when(Not(Box::new(InFlight(BETA, Io::Change)))),
        act(Holds(slow)),
        when(Idle(A)),
        when(InFlight(BETA, Io::Change)),
        must(Waits(C)),
        when(Ended(B, workload::Ended::Busy)),
        must(Waits(C)),
        act(Release(slow)),
        when(Ended(C, GOOD)),
    ];
    scripted("ghost-waits", seed, [written(A).into(), waits])
}

/// v1 is kept on beta for want of credit; its session is lost, and the host writes v2 through alpha.
#[must_use]
pub fn ghost_session(seed: u64) -> Settings {
    let loses = vec![
        act(Holds(Hold::Bridges(BETA))),
        act(Asks(B, Write(THERE))),
        when(OnItsWay(BETA)),
        act(Asks(B, Write(HERE))),
        wait_ms(100),
        must(Waits(B)),
        act(Disconnect(B)),
        wait_ms(100),
        act(Expire(B)),
        act(Asks(A, Write(HERE))),
        when(Ended(A, GOOD)),
        act(Release(Hold::Bridges(BETA))),
        wait_ms(200),
    ];
    let mut settings = scripted("ghost-session", seed, [written(A).into(), loses]);
    settings.credit_bytes = Some(4096);
    settings
}

/// v1 is stuck in a bridge while the control connection lives; its host gives up after 4.5 s and writes v2 through
/// alpha; then the bridge goes on.
#[must_use]
pub fn ghost_pipe(seed: u64) -> Settings {
    let stuck = vec![
        act(Holds(Hold::Bridges(BETA))),
        act(Asks(B, Write(HERE))),
        when(OnItsWay(BETA)),
        wait_ms(4500),
        must(OnItsWay(BETA)),
        act(Disconnect(B)),
        act(Expire(B)),
        act(Asks(A, Write(HERE))),
        when(Ended(A, GOOD)),
        act(Release(Hold::Bridges(BETA))),
        wait_ms(300),
        must(Not(Box::new(OnItsWay(BETA)))),
    ];
    scripted("ghost-pipe", seed, [written(A).into(), stuck])
}

/// v1 is on its way when its host's session ends; v2 is written through alpha; v1 goes on. The host hears that it is
/// logged out, or in again, only when v1 has landed or never will.
fn ghost_of_a_session(name: &'static str, seed: u64, ends: Act) -> Settings {
    let ghost = vec![
        act(Holds(Hold::Bridges(BETA))),
        act(Asks(B, Write(HERE))),
        when(OnItsWay(BETA)),
        act(ends),
        wait_ms(2000),
        act(Asks(A, Write(HERE))),
        when(Ended(A, GOOD)),
        must(OnItsWay(BETA)),
        act(Release(Hold::Bridges(BETA))),
        when(Ready(B)),
        act(Asks(B, Read(HERE))),
        when(Ended(B, GOOD)),
    ];
    scripted(name, seed, [written(A).into(), ghost])
}

/// The connection is lost, and the host logs in again.
#[must_use]
pub fn ghost_login(seed: u64) -> Settings {
    ghost_of_a_session("ghost-login", seed, Disconnect(B))
}

/// The host logs out.
#[must_use]
pub fn ghost_logout(seed: u64) -> Settings {
    ghost_of_a_session("ghost-logout", seed, LogOut(B))
}

/// The LUN has one copy, alpha's. beta loses the interlink, alpha does not notice, not even by the time: v1, forwarded
/// before, arrives after its host has heard that it was aborted and v2 was written.
#[must_use]
pub fn ghost_adrift(seed: u64) -> Settings {
    let ghost = vec![
        act(Holds(Hold::Bridges(BETA))),
        act(Asks(B, Write(HERE))),
        when(OnItsWay(BETA)),
        act(Holds(Hold::Closes(BETA))),
        act(Holds(Hold::Ticks(ALPHA))),
        act(ResetControl(BETA)),
        when(Idle(B)),
        act(Expire(B)),
        act(Asks(A, Write(HERE))),
        when(Ended(A, GOOD)),
        must(OnItsWay(BETA)),
        act(Release(Hold::Bridges(BETA))),
        when(Not(Box::new(OnItsWay(BETA)))),
        act(Asks(A, Read(HERE))),
        when(Ended(A, GOOD)),
        act(Release(Hold::Ticks(ALPHA))),
        act(Release(Hold::Closes(BETA))),
    ];
    let mut settings = scripted("ghost-adrift", seed, [written(A).into(), ghost]);
    settings.luns[0].mirror = false;
    settings
}

/// After a clean end the new generation is on neither disk yet, and hosts insist on writing; then one controller is
/// killed and the other loses power. No byte may have reached either copy: the marks of the clean end still stand.
#[must_use]
pub fn intent_too_late(seed: u64) -> Settings {
    let starts = vec![
        act(Stop(ALPHA)),
        act(Stop(BETA)),
        when(Stopped(ALPHA)),
        when(Stopped(BETA)),
        act(Kill(ALPHA)),
        act(Kill(BETA)),
        must(Clean(ALPHA, true)),
        must(Clean(BETA, true)),
        act(Holds(Hold::Records(ALPHA))),
        act(Holds(Hold::Records(BETA))),
        act(Start(ALPHA)),
        act(Start(BETA)),
        when(Record(ALPHA)),
        wait_ms(1500),
        act(Kill(ALPHA)),
        act(PowerLoss(BETA)),
        must(Clean(ALPHA, true)),
        must(Clean(BETA, true)),
        act(Release(Hold::Records(ALPHA))),
        act(Release(Hold::Records(BETA))),
        act(Start(ALPHA)),
        act(Start(BETA)),
    ];
    let mut settings = scripted("intent-too-late", seed, [written(A).into(), starts]);
    let mix = Mix { write: 1, ..Mix::NONE };
    let shape = Shape { lun: 0, start: 1000, blocks: 64, blocks_min: 1, blocks_max: 8, mix };
    for side in [ALPHA, BETA] {
        settings.hosts.push(HostSettings { insists: true, ..HostSettings::new(side, vec![shape], 2, 20) });
    }
    settings.round = Duration::from_millis(100);
    settings
}

/// A clean end while beta's disk has not flushed what it acknowledged; beta loses power. The mark of a clean end may
/// not stand yet.
#[must_use]
pub fn intent_too_early_gone(seed: u64) -> Settings {
    let ends = vec![
        act(Holds(Hold::Disk(BETA, Io::Flush))),
        act(Stop(ALPHA)),
        act(Stop(BETA)),
        when(InFlight(BETA, Io::Flush)),
        wait_ms(500),
        act(PowerLoss(BETA)),
        must(Moment::Lacks(BETA, A)),
        act(Kill(ALPHA)),
        must(Moment::Holds(ALPHA, A)),
        act(Release(Hold::Disk(BETA, Io::Flush))),
        act(Start(ALPHA)),
        act(Start(BETA)),
    ];
    scripted("intent-too-early-gone", seed, [written(A).into(), ends])
}

/// Of alpha alone a flush fails, and the disk's next one succeeds: what the failed one was to write is gone all the
/// same, and no SYNCHRONIZE CACHE may say otherwise.
#[must_use]
pub fn flush_second_time(seed: u64) -> Settings {
    let fails = vec![
        act(Kill(BETA)),
        when(alone(ALPHA)),
        // Every second it is flushed: right after that.
        when(InFlight(ALPHA, Io::Flush)),
        when(Not(Box::new(InFlight(ALPHA, Io::Flush)))),
    ];
    let synchronizes = vec![
        act(GetsInto(ALPHA, Trouble::FlushOnce)),
        when(InFlight(ALPHA, Io::Flush)),
        when(Not(Box::new(InFlight(ALPHA, Io::Flush)))),
        act(Asks(A, Synchronize)),
        when(Idle(A)),
        act(PowerLoss(ALPHA)),
        must(Moment::Lacks(ALPHA, A)),
        act(Start(ALPHA)),
        act(Start(BETA)),
    ];
    scripted("flush-second-time", seed, [fails, written(A).into(), synchronizes])
}

/// beta's disk is full: its copy leaves the pair and no host hears of it. When the last copy's disk is full, they do.
#[must_use]
pub fn sub_full(seed: u64) -> Settings {
    let full = vec![
        act(GetsInto(BETA, Trouble::Full)),
        act(Asks(A, Write(HERE))),
        when(Ended(A, GOOD)),
        when(alone(ALPHA)),
        act(Asks(B, Write(THERE))),
        when(Ended(B, GOOD)),
        act(GetsInto(ALPHA, Trouble::Full)),
        act(Asks(A, Write(HERE))),
        when(Ended(A, workload::Ended::Failed)),
        act(Repair(ALPHA)),
        act(Repair(BETA)),
        act(Kill(BETA)),
        act(Start(BETA)),
    ];
    scripted("sub-full", seed, [written(A).into(), full])
}

/// alpha's disk is full: its host hears that nobody knows, never that there is no room; it asks again and is served
/// by beta's copy.
#[must_use]
pub fn main_full(seed: u64) -> Settings {
    let full = vec![
        act(GetsInto(ALPHA, Trouble::Full)),
        act(Asks(A, Write(HERE))),
        when(Ended(A, workload::Ended::Unknown)),
        when(alone(BETA)),
        act(Asks(A, Write(HERE))),
        when(Ended(A, GOOD)),
        must(Moment::Lacks(ALPHA, A)),
        act(Asks(B, Read(HERE))),
        when(Ended(B, GOOD)),
        act(Repair(ALPHA)),
        act(Kill(ALPHA)),
        act(Start(ALPHA)),
    ];
    scripted("main-full", seed, [written(A).into(), full])
}

/// beta was main while alpha's copy was away, and is about to give the pair back when its disk fails under a write
/// that alpha's copy has. That write's range is nobody's until beta's copy has left the pair.
#[must_use]
pub fn failing_in_a_turn(seed: u64) -> Settings {
    let away = vec![
        act(GetsInto(ALPHA, Trouble::Full)),
        act(Asks(A, Write(HERE))),
        when(alone(BETA)),
        act(Repair(ALPHA)),
        act(Kill(ALPHA)),
        act(Start(ALPHA)),
        when(Moment::Place(ALPHA, PairStatus::Copy, Service::Forwarded)),
        act(Holds(Hold::Records(ALPHA))),
        when(Record(ALPHA)),
    ];
    let turns = vec![
        act(Holds(Hold::Disk(BETA, Io::Change))),
        act(GetsInto(BETA, Trouble::Io)),
        act(Asks(B, Write(HERE))),
        when(InFlight(BETA, Io::Change)),
        act(Release(Hold::Records(ALPHA))),
        when(Moment::Place(BETA, PairStatus::Duplex, Service::Mirrored)),
        act(Release(Hold::Disk(BETA, Io::Change))),
        when(Idle(B)),
        when(alone(ALPHA)),
        when(Ready(C)),
        act(Asks(C, Read(HERE))),
        when(Ended(C, GOOD)),
        when(Ready(B)),
        act(Asks(B, Read(HERE))),
        when(Ended(B, GOOD)),
        act(Repair(BETA)),
        act(Kill(BETA)),
        act(Start(BETA)),
    ];
    scripted("failing-in-a-turn", seed, [written(A).into(), away, turns])
}

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

/// v1 was forwarded before alpha went on alone, and arrives after v2 was written: by a bridge that alpha has not
/// closed yet.
#[must_use]
pub fn old_bridge(seed: u64) -> Settings {
    let late = vec![
        act(Holds(Hold::Bridges(BETA))),
        act(Asks(B, Write(HERE))),
        when(OnItsWay(BETA)),
        act(Holds(Hold::Closes(ALPHA))),
        act(ResetControl(ALPHA)),
        when(alone(ALPHA)),
        act(Asks(A, Write(HERE))),
        when(Ended(A, GOOD)),
        when(Idle(B)),
        act(Expire(B)),
        act(Asks(C, Write(HERE))),
        when(Ended(C, GOOD)),
        must(OnItsWay(BETA)),
        act(Release(Hold::Bridges(BETA))),
        when(Not(Box::new(OnItsWay(BETA)))),
        wait_ms(100),
        act(Release(Hold::Closes(ALPHA))),
    ];
    scripted("old-bridge", seed, [written(A).into(), late])
}

/// alpha has lost its state folder, has learnt its peer's identity, and crashes before it has done with the meeting.
/// At the next one it is still refused.
#[must_use]
pub fn lost_state(seed: u64) -> Settings {
    let starts = vec![
        act(Kill(ALPHA)),
        act(Unmount(ALPHA)),
        when(apart(BETA)),
        act(Start(ALPHA)),
        when(Record(ALPHA)),
        when(Not(Box::new(Record(ALPHA)))),
        act(Kill(ALPHA)),
        act(Start(ALPHA)),
        when(Moment::Refuses(ALPHA, "the state folder of alpha knows nothing of this LUN")),
        act(Kill(ALPHA)),
        act(Mount(ALPHA)),
        act(Start(ALPHA)),
    ];
    scripted("lost-state", seed, [written(A).into(), starts])
}
