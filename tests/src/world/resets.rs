//! Resets of a LUN through one controller while a host of the other has a write in some stage, each written out as a
//! script: when the reset is answered, nothing of that write can be written any more. Main is alpha, sub is beta; hosts
//! A and C are alpha's, host B is beta's.

use super::scenario::Scenario;
use super::scenarios::{
    A, ALPHA, B, BETA, C, GOOD, HERE, THERE, act, must, scripted, wait_ms, when, written,
};
use super::script::Act::{Ask as Asks, Expire, Hold as Holds, Release, ResetLun};
use super::script::Ask::{Read, Write};
use super::script::Moment::{Ended, Idle, InFlight, Manages, Not, OnItsWay, Waits};
use super::script::{Hold, Io, Step};
use super::settings::Settings;

/// All of them by name.
pub const ALL: [(&str, Scenario); 4] = [
    ("reset-of-what-is-kept", reset_of_what_is_kept),
    ("reset-of-what-is-sent", reset_of_what_is_sent),
    ("reset-of-what-is-ordered", reset_of_what_is_ordered),
    ("reset-of-what-main-writes", reset_of_what_main_writes),
];

fn not(moment: super::script::Moment) -> super::script::Moment {
    Not(Box::new(moment))
}

/// A resets the LUN and hears that it is done; B's write is still where it was, and over. B hears of the reset by
/// another command, so that no unit attention stops the write. A writes.
fn reset_and_written() -> Vec<Step> {
    vec![
        act(ResetLun(A)),
        when(not(Manages(A))),
        must(Waits(B)),
        act(Expire(B)),
        act(Asks(B, Read(THERE))),
        wait_ms(100),
        act(Asks(A, Write(HERE))),
        when(Ended(A, GOOD)),
        must(OnItsWay(BETA)),
        act(Release(Hold::Bridges(BETA))),
        when(Idle(B)),
    ]
}

/// B's write has not left beta, for want of credit.
#[must_use]
pub fn reset_of_what_is_kept(seed: u64) -> Settings {
    let kept = vec![
        act(Holds(Hold::Bridges(BETA))),
        act(Asks(B, Write(THERE))),
        when(OnItsWay(BETA)),
        act(Asks(B, Write(HERE))),
        wait_ms(100),
    ];
    let mut settings =
        scripted("reset-of-what-is-kept", seed, [written(A).into(), kept, reset_and_written()]);
    settings.credit_bytes = Some(4096);
    settings
}

/// B's write is on its way to alpha, and arrives when the reset is done.
#[must_use]
pub fn reset_of_what_is_sent(seed: u64) -> Settings {
    let sent = vec![act(Holds(Hold::Bridges(BETA))), act(Asks(B, Write(HERE))), when(OnItsWay(BETA))];
    scripted("reset-of-what-is-sent", seed, [written(A).into(), sent, reset_and_written()])
}

/// beta's copy takes B's write, which alpha has ordered: the reset waits for it.
#[must_use]
pub fn reset_of_what_is_ordered(seed: u64) -> Settings {
    let slow = Hold::Disk(BETA, Io::Change);
    let ordered = vec![
        act(Holds(slow)),
        act(Asks(B, Write(HERE))),
        when(InFlight(BETA, Io::Change)),
        act(ResetLun(A)),
        wait_ms(500),
        must(Manages(A)),
        act(Release(slow)),
        when(not(Manages(A))),
        must(not(InFlight(BETA, Io::Change))),
        when(Ended(B, GOOD)),
    ];
    scripted("reset-of-what-is-ordered", seed, [written(A).into(), ordered])
}

/// alpha's copy takes C's write, and beta has it: the reset, through beta, waits for it.
#[must_use]
pub fn reset_of_what_main_writes(seed: u64) -> Settings {
    let slow = Hold::Disk(ALPHA, Io::Change);
    let writes = vec![
        act(Holds(slow)),
        act(Asks(C, Write(HERE))),
        when(InFlight(ALPHA, Io::Change)),
        wait_ms(100),
        act(ResetLun(B)),
        wait_ms(500),
        must(Manages(B)),
        act(Release(slow)),
        when(not(Manages(B))),
        must(not(InFlight(ALPHA, Io::Change))),
        when(Ended(C, GOOD)),
    ];
    scripted("reset-of-what-main-writes", seed, [written(A).into(), writes])
}
