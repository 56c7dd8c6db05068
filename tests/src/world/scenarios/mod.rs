//! Known ways to lose data or to lie, each written out as a script. Main is alpha, sub is beta, the write cache is on;
//! hosts A and C are alpha's, host B is beta's.
//!
//! Every one ends with all pairs DUPLEX, every block read again through both controllers, the whole history judged,
//! and both copies compared.

mod answers;
mod disks;
mod ghosts;
mod groups;
mod reads;
mod sources;

use core::time::Duration;

use controller::pair::{PairStatus, Service};
use controller::plan::Side;

pub use self::answers::*;
pub use self::disks::*;
pub use self::ghosts::*;
pub use self::groups::*;
pub use self::reads::*;
pub use self::sources::*;
use super::scenario::Scenario;
use super::script::Act::{Ask as Asks, Cut};
use super::script::Ask::Write;
use super::script::Moment::{self, Ended, Ready};
use super::script::{Act, Step};
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
pub const ALL: [(&str, Scenario); 29] = [
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
    ("group-cut-and-crashed", group_cut_and_crashed),
    ("group-breaks-and-ends", group_breaks_and_ends),
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
