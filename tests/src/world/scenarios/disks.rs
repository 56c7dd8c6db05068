//! Disks that fail or are full: what the other copy can serve no host may hear of.

use controller::pair::{PairStatus, Service};

use super::{A, ALPHA, B, BETA, C, GOOD, HERE, THERE, act, alone, must, scripted, when, written};
use crate::workload::{self};
use crate::world::disk::Trouble;
use crate::world::script::Act::{
    Ask as Asks, Hold as Holds, Kill, PowerLoss, Release, Repair, Start, Trouble as GetsInto,
};
use crate::world::script::Ask::{Read, Synchronize, Write};
use crate::world::script::Moment::{self, Ended, Idle, InFlight, Not, Ready, Record};
use crate::world::script::{Hold, Io};
use crate::world::settings::Settings;

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
