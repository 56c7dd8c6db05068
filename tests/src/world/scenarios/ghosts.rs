//! Ghosts: commands that are late, and whose hosts have given them up and written something else since.

use super::{A, ALPHA, B, BETA, C, GOOD, HERE, THERE, act, alone, must, scripted, wait_ms, when, written};
use crate::workload::{self};
use crate::world::script::Act::{
    Ask as Asks, Disconnect, Expire, Hold as Holds, LogOut, Release, ResetControl,
};
use crate::world::script::Ask::{Read, Write};
use crate::world::script::Moment::{Ended, Idle, InFlight, Not, OnItsWay, Ready, Waits};
use crate::world::script::{Act, Hold, Io};
use crate::world::settings::Settings;

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
