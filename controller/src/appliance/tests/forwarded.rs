//! Commands that the sub forwards: their age, what waits behind them, and what becomes of them when the interlink goes.

use crate::command::{COMMAND_AGE_MAX, Command, LunIndex, NexusId, Op, Outcome, TaskTag};
use crate::testing::{TwoControllers, range, write};
use core::time::Duration;
use protocol::scsi::sense::{Sense, Status};

/// A host of the sub writes block 0; in 100 ms its command is too old.
fn ask_aged(duo: &TwoControllers, byte: u8) {
    let received = duo.now() - (COMMAND_AGE_MAX - Duration::from_millis(100));
    let (lun, nexus, tag) = (LunIndex(0), NexusId(1), TaskTag(2));
    duo.controllers[1].command(Command { lun, nexus, tag, op: write(0, 1, byte), received });
}

#[test]
fn a_forwarded_command_brings_its_age_and_is_busy_at_main_when_it_is_too_old() {
    let mut shown = 0;
    for seed in 0..10 {
        let mut duo = TwoControllers::met(seed);
        duo.settle(90);
        duo.ask(0, 1, write(0, 1, 1));
        ask_aged(&duo, 2);
        // The forward arrives while the range is held, or this seed shows nothing.
        let waits = |duo: &TwoControllers| {
            duo.controllers[0].counters(LunIndex(0)).is_some_and(|met| met.range_waits > 0)
        };
        let mut answered = false;
        while !waits(&duo) && !answered {
            assert!(duo.step());
            answered = !duo.answers(0).is_empty();
        }
        if answered {
            continue;
        }
        shown += 1;
        (0..4).for_each(|_| duo.advance());
        duo.controllers[0].on_tick();
        duo.settle(1);
        assert_eq!(duo.answers(1), [(2, Outcome::Status(Status::Busy))], "seed {seed}");
        assert_eq!((duo.volume(0)[0], duo.volume(1)[0]), (1, 1));
    }
    assert!(shown > 0);
}

#[test]
fn a_command_that_main_has_is_not_answered_busy_by_the_sub() {
    let mut duo = TwoControllers::met(3);
    duo.settle(90);
    ask_aged(&duo, 2);
    (0..4).for_each(|_| duo.advance());
    duo.controllers[1].on_tick();
    assert_eq!(duo.answers(1), [], "only main knows whether it is executed");
    duo.settle(1);
    // It has grown too old on its way: main does not execute it any more.
    assert_eq!(duo.answers(1), [(2, Outcome::Status(Status::Busy))]);
    assert_eq!((duo.volume(0)[0], duo.volume(1)[0]), (0, 0));
}

#[test]
fn what_was_forwarded_and_waits_at_main_when_the_interlink_goes_is_never_executed() {
    for seed in 0..40 {
        let mut duo = TwoControllers::met(seed);
        duo.ask(0, 1, write(0, 1, 1));
        duo.ask(1, 2, write(0, 1, 2));
        let mut steps = 0;
        while duo.controllers[0].counters(LunIndex(0)).is_some_and(|met| met.range_waits == 0) && steps < 60 {
            duo.step();
            steps += 1;
        }
        if !duo.answers(0).is_empty() || steps == 60 {
            continue;
        }
        duo.cut();
        duo.settle(16);
        assert_eq!(duo.volume(0)[0], 1, "seed {seed}");
        assert_eq!(duo.answers(1), [(2, Outcome::Check(Sense::ABORTED_COMMAND))], "seed {seed}");
    }
}

/// What the sub answers so far must be on main's copy as well; counts reads of something new.
fn reads_of_new(duo: &TwoControllers) -> u32 {
    let mut new = 0;
    for (tag, end) in duo.answers(1) {
        let Outcome::Good(data) = end else { panic!("{end:?}") };
        let block = (tag % 100) as usize;
        if data.concat().first() == Some(&(block as u8 + 1)) {
            new += 1;
            assert_eq!(duo.volume(0)[block * 512], block as u8 + 1, "read at the sub, not yet at main");
        }
    }
    new
}

#[test]
fn no_read_at_the_sub_returns_what_main_has_not_written_yet() {
    let mut new = 0;
    for seed in 0..40 {
        let mut duo = TwoControllers::met(seed);
        duo.stall_disk(0);
        let ask_round = |duo: &TwoControllers, round: u32| {
            for block in 0..6 {
                duo.ask(1, 100 * round + block, Op::Read { range: range(u64::from(block), 1) });
            }
            duo.controllers[0].on_tick();
        };
        // The sub's copy has all of them, main's none.
        (0..6).for_each(|tag| duo.ask((seed % 2) as usize, tag, write(u64::from(tag), 1, tag as u8 + 1)));
        for round in 1..6 {
            while duo.step() {}
            ask_round(&duo, round);
            new += reads_of_new(&duo);
        }
        // And while main's copy takes one after the other.
        duo.resume_disk(0);
        for round in 6..40 {
            ask_round(&duo, round);
            duo.step();
            new += reads_of_new(&duo);
        }
        while duo.step() {
            new += reads_of_new(&duo);
        }
    }
    assert!(new > 0, "nothing new was read: the test shows nothing");
}

#[test]
fn what_waits_behind_a_forwarded_command_is_not_admitted_when_the_interlink_goes() {
    let mut shown = 0;
    for seed in 0..100 {
        let mut duo = TwoControllers::met(seed);
        let waits =
            |duo: &TwoControllers| duo.controllers[0].counters(LunIndex(0)).map_or(0, |met| met.range_waits);
        duo.ask(0, 1, write(0, 2, 1));
        duo.ask(1, 2, write(1, 3, 2));
        while waits(&duo) == 0 && duo.step() {}
        duo.ask(0, 3, write(3, 2, 3));
        while duo.volume(0)[0] != 1 && duo.step() {}
        if waits(&duo) != 2 || !duo.answers(0).is_empty() || duo.changing(0).0 {
            continue;
        }
        shown += 1;
        duo.cut();
        assert!(!duo.changing(0).0, "seed {seed}: a change of one copy only");
        while duo.step() {}
        assert_eq!(duo.answers(0), [], "seed {seed}");
        assert_eq!(duo.volume(0)[3 * 512], 0, "seed {seed}");
    }
    assert!(shown > 0, "never were all three where they should be: the test shows nothing");
}
