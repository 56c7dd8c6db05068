//! Which copy is whole after crashes: which one is the source of the other, and which is never.

use core::time::Duration;

use super::{A, ALPHA, BETA, act, alone, apart, cut_both, must, scripted, wait_ms, when, written};
use crate::workload::{Mix, Shape};
use crate::world::script::Act::{
    BackUp, Heal, Hold as Holds, Kill, Mount, PowerLoss, Release, RemoveVolumes, Restore, Start, Stop,
    Unmount,
};
use crate::world::script::Moment::{self, Clean, InFlight, Members, Not, Record, Stopped};
use crate::world::script::{Hold, Io};
use crate::world::settings::{HostSettings, Settings};

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
