//! A copy that has everything on its disk is as good as a memory that was kept: it stays the source although its
//! controller was restarted before the other came back.

use crate::command::Outcome;
use crate::disk::DiskError;
use crate::pair::PairStatus;
use crate::testing::{BLOCKS, TwoControllers, write};

const GOOD: Outcome = Outcome::Good(Vec::new());

/// Both start anew; what a side had not flushed is lost (its volume is all `lost` then).
fn power_fails_and_they_meet(duo: TwoControllers, seed: u64, lost: [bool; 2]) -> TwoControllers {
    (0..2).filter(|side| lost[*side]).for_each(|side| duo.spoil(side, 99));
    let mut duo = duo.crash(seed + 1000, true);
    duo.connect();
    duo.settle(6);
    let statuses = duo.controllers.each_ref().map(|controller| controller.status().luns[0].status);
    assert_eq!(statuses, [PairStatus::Duplex; 2], "seed {seed}");
    assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
    duo
}

#[test]
fn a_restarted_sub_that_had_flushed_everything_is_the_source_for_a_main_that_lost_its_memory() {
    for seed in 0..100 {
        let mut duo = TwoControllers::met(seed);
        let side = (seed % 2) as usize;
        duo.ask(side, 1, write(0, BLOCKS, 5));
        duo.settle(1);
        assert_eq!(duo.answers(side), [(1, GOOD)]);
        assert!(duo.changing(0).1, "main has it in memory only");
        // alpha loses power; beta flushes what it has, and is restarted before alpha comes back.
        duo.cut();
        while duo.step() {}
        assert!(!duo.changing(1).1, "seed {seed}: beta has flushed");
        let duo = power_fails_and_they_meet(duo, seed, [true, false]);
        assert_eq!(duo.volume(0)[0], 5, "seed {seed}: the acknowledged write is lost");
    }
}

#[test]
fn a_sub_restarted_before_its_flush_was_over_claims_nothing() {
    let mut claims = 0;
    for seed in 0..200 {
        let mut duo = TwoControllers::met(seed);
        duo.ask(1, 1, write(0, BLOCKS, 5));
        duo.settle(1);
        duo.cut();
        (0..seed % 8).for_each(|_| {
            duo.step();
        });
        let claimed = duo.durable(1).is_some_and(|record| record.flushed);
        assert!(!claimed || !duo.changing(1).1, "seed {seed}: claimed before the flush was over");
        claims += u32::from(claimed);
        let lost = duo.changing(1).1;
        let duo = power_fails_and_they_meet(duo, seed, [false, lost]);
        if !claimed {
            assert_eq!(duo.volume(1)[0], 5, "seed {seed}: main has everything");
        }
    }
    assert!((1..200).contains(&claims), "{claims}: the test shows nothing");
}

#[test]
fn a_clean_end_cut_anywhere_loses_no_acknowledged_write() {
    let mut one_sided = 0;
    for seed in 0..1200 {
        let mut duo = TwoControllers::met(seed);
        duo.ask(1, 1, write(0, BLOCKS, 5));
        duo.settle(1);
        assert_eq!(duo.answers(1), [(1, GOOD)]);
        duo.controllers[(seed % 2) as usize].stop();
        for step in 0..(seed / 2 % 150) as u32 {
            // What was in memory when the end was asked for goes to the disks before it begins; this comes later.
            if step == (seed / 7 % 40) as u32 {
                duo.ask(1, 2, write(0, BLOCKS, 5));
            }
            if !duo.step() {
                duo.advance();
                duo.controllers.iter().for_each(crate::unit::Controller::on_tick);
            }
        }
        let lost = [0, 1].map(|side| duo.changing(side).1);
        if lost == [true, true] {
            continue;
        }
        let clean = [0, 1].map(|side| duo.durable(side).is_some_and(|record| record.clean));
        one_sided += u32::from(clean[0] != clean[1] && lost != [false, false]);
        if clean[0] == clean[1] && !clean[0] && lost != [false, false] {
            // Nobody said that it had flushed: to the two, both lost power with something in memory.
            continue;
        }
        let duo = power_fails_and_they_meet(duo, seed, lost);
        assert_eq!(duo.volume(0)[0], 5, "seed {seed}: the acknowledged write is lost");
    }
    assert!(one_sided > 0, "the test shows nothing");
}

#[test]
fn a_copy_whose_flush_failed_after_it_lost_its_peer_is_not_the_source() {
    for seed in 0..20 {
        let mut duo = TwoControllers::met(seed);
        duo.ask(0, 1, write(0, 2, 1));
        duo.settle(1);
        assert_eq!(duo.answers(0), [(1, GOOD)], "seed {seed}");
        duo.break_disk(1, DiskError::FlushFailed);
        let mut duo = duo.crash_one(seed + 100, 0);
        duo.settle(2);
        assert_eq!(duo.durable(1).map(|record| record.flushed), Some(false), "seed {seed}");
        // What was not flushed is gone from that disk; it works again.
        duo.spoil(1, 0xee);
        duo.mend_disk(1);
        duo.connect();
        duo.settle(20);
        let bytes = [0, 1].map(|side| duo.volume(side)[0]);
        assert_eq!(bytes[0], 1, "seed {seed}: what was answered is gone {bytes:?} {:?}", duo.statuses());
    }
}

#[test]
fn while_a_copy_may_still_lose_what_it_was_asked_to_flush_nobody_is_overwritten_by_it() {
    for (seed, steps) in (0..8).flat_map(|seed| (0..70).map(move |steps| (seed, steps))) {
        let mut duo = TwoControllers::met(seed);
        duo.ask(0, 1, write(0, 2, 1));
        duo.settle(1);
        assert_eq!(duo.answers(0), [(1, GOOD)], "seed {seed}");
        duo.stall_disk(1);
        let mut duo = duo.crash_one(seed + 100, 0);
        while duo.step() {}
        duo.connect();
        (0..steps).for_each(|_| {
            duo.step();
        });
        duo.break_disk(1, DiskError::FlushFailed);
        duo.resume_disk(1);
        while duo.flushing(1) && duo.step() {}
        duo.spoil(1, 0xee);
        duo.mend_disk(1);
        duo.settle_and_redial(100);
        let bytes = [0, 1].map(|side| duo.volume(side)[0]);
        assert_eq!(
            bytes[0],
            1,
            "seed {seed} steps {steps}: what was answered is gone {bytes:?} {:?}",
            duo.statuses()
        );
    }
}

#[test]
fn a_copy_that_is_slow_to_flush_is_the_source_for_a_main_that_lost_its_memory() {
    for seed in 0..40 {
        let mut duo = TwoControllers::met(seed);
        duo.ask(0, 1, write(0, BLOCKS, 5));
        duo.settle(1);
        duo.stall_disk(1);
        duo.spoil(0, 99);
        let mut duo = duo.crash_one(seed + 100, 0);
        duo.settle(1);
        duo.connect();
        duo.settle(2);
        let lun = duo.controllers[0].status().luns.remove(0);
        assert!(lun.reason.is_some_and(|reason| reason.contains("still writing to its disk")), "seed {seed}");
        duo.resume_disk(1);
        duo.settle_and_redial(60);
        assert_eq!(duo.statuses(), [PairStatus::Duplex; 2], "seed {seed}");
        assert_eq!([0, 1].map(|side| duo.volume(side)[0]), [5, 5], "seed {seed}");
    }
}
