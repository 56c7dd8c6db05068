//! Reads while the two are apart: none may show what is not, or will not stay, the LUN's content.

use core::time::Duration;

use controller::pair::{PairStatus, Service};

use super::{A, ALPHA, B, BETA, C, GOOD, HERE, act, alone, must, scripted, wait_ms, when, written};
use crate::world::script::Act::{
    Ask as Asks, Cut, Heal, Hold as Holds, Pause, PowerLoss, Release, Reset, Start,
};
use crate::world::script::Ask::{Read, Write};
use crate::world::script::Moment::{self, Ended, Idle, InFlight, Not};
use crate::world::script::{Hold, Io};
use crate::world::settings::Settings;

/// beta is stopped for 30 s. alpha goes on alone and writes; then a host of beta asks to read. beta wakes, and before
/// it notices the time or hears of anything it reads its own copy: it finds its lease gone before it answers.
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
