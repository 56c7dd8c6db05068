//! Reservations survive: random sequences of PERSISTENT RESERVE OUT through both controllers of the simulated world, of
//! which one or both crash meanwhile. `TWINLUN_SEEDS=A..B` runs other seeds than the usual 1,000.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use twinlun_tests::world::{self, Report, scenario};

/// Sequences of one run of the tests.
const SEEDS: u64 = 1000;

/// They are shared out among so many tests, which run side by side.
const SHARES: u64 = 4;

/// Each share has so many of them at least, so that every service action meets every crash.
const EVENTS_DONE_MIN: u64 = 20 * SEEDS / SHARES;

fn survive(share: u64) {
    let (from, to) = match std::env::var("TWINLUN_SEEDS") {
        Ok(text) => {
            let (from, to) = text.split_once("..").expect("TWINLUN_SEEDS is a range like 0..1000");
            (from.parse().unwrap(), to.parse().unwrap())
        }
        Err(_) => (SEEDS / SHARES * share, SEEDS / SHARES * (share + 1)),
    };
    let mut sum = Report::default();
    for seed in from..to {
        let run = world::run(&scenario::reservations_through_crashes(seed));
        sum += run.unwrap_or_else(|failure| panic!("{failure}")).report;
    }
    println!("{sum}");
    assert_eq!(sum.never_caught(), Vec::<String>::new(), "service actions that met no such crash");
    assert!(sum.events_done > EVENTS_DONE_MIN && sum.reserved.iter().all(|done| *done > 0));
    assert!(sum.memory_losses > 0 && sum.record_crashes > 0);
}

#[test]
fn after_a_crash_both_controllers_show_the_last_answered_state_or_the_unanswered_event_too_in_the_first_share()
 {
    survive(0);
}

#[test]
fn after_a_crash_both_controllers_show_the_last_answered_state_or_the_unanswered_event_too_in_the_second_share()
 {
    survive(1);
}

#[test]
fn after_a_crash_both_controllers_show_the_last_answered_state_or_the_unanswered_event_too_in_the_third_share()
 {
    survive(2);
}

#[test]
fn after_a_crash_both_controllers_show_the_last_answered_state_or_the_unanswered_event_too_in_the_fourth_share()
 {
    survive(3);
}
