//! What must be on disk before what: each step of the toy world is looked at.

use crate::command::{LunIndex, Op, Outcome};
use crate::disk::DiskError;
use crate::lease::{DRIFT_MARGIN, LEASE, RENEWAL};
use crate::pair::{PairStatus, Role};
use crate::testing::{BLOCKS, TwoControllers, blocks_of, range, write};
use crate::unit::Controller;

const GOOD: Outcome = Outcome::Good(Vec::new());

fn status(duo: &TwoControllers, side: usize) -> (PairStatus, Role) {
    let lun = duo.controllers[side].status().luns.remove(0);
    (lun.status, lun.role)
}

/// One step, after which: a volume is being changed only under a generation that both disks know, or that names
/// this copy alone, and that is not marked clean; and what is marked clean is flushed.
fn step(duo: &mut TwoControllers) -> bool {
    let before = [duo.changing(0).0, duo.changing(1).0];
    let going_on = duo.step();
    for (side, changed) in before.into_iter().enumerate() {
        let (changing, unflushed) = duo.changing(side);
        let [own, peer] = [duo.durable(side), duo.durable(1 - side)];
        if changing && !changed {
            let own = own.as_ref().expect("a change without a generation");
            assert!(!own.clean, "a change under the mark of a clean end");
            let alone = own.generation.members == 1 << side;
            // In a switch one has the next generation on disk already and still takes changes of the order before it.
            let switching = duo.controllers[side].place(LunIndex(0)).is_some_and(|(.., switching)| switching);
            let both = peer.is_some_and(|peer| {
                let id = peer.generation.id;
                !peer.clean && (own.generation.id == id || switching && own.generation.parent == id)
            });
            assert!(alone || both, "a change under a generation that the other disk does not know: {own:?}");
        }
        if own.is_some_and(|own| own.clean) {
            assert!(!changing && !unflushed, "marked clean with changes that are not flushed");
        }
    }
    going_on
}

/// Like [`TwoControllers::settle`], looking at each step; ticks also come while much is under way.
fn settle(duo: &mut TwoControllers, ticks: u32) {
    for _ in 0..ticks {
        settle_now(duo);
        duo.advance();
        duo.controllers.iter().for_each(|controller| controller.on_tick());
    }
    settle_now(duo);
}

fn settle_now(duo: &mut TwoControllers) {
    let mut steps = 0;
    while step(duo) {
        steps += 1;
        if steps % 4 == 0 {
            duo.controllers.iter().for_each(|controller| controller.on_tick());
        }
    }
}

/// Hosts of both sides write at every step until `ticks` are over.
fn settle_under_writes(duo: &mut TwoControllers, ticks: u32, tag: &mut u32) {
    for _ in 0..ticks {
        for _ in 0..60 {
            if tag.is_multiple_of(3) {
                let side = (*tag / 3 % 2) as usize;
                duo.ask(side, *tag, write(u64::from(*tag) % (BLOCKS - 2), 2, *tag as u8));
            }
            *tag += 1;
            step(duo);
            if tag.is_multiple_of(7) {
                duo.controllers.iter().for_each(|controller| controller.on_tick());
            }
        }
        settle_now(duo);
        duo.advance();
        duo.controllers.iter().for_each(|controller| controller.on_tick());
    }
    settle(duo, 2);
}

#[test]
fn no_volume_is_changed_before_both_disks_know_the_generation_and_none_is_marked_clean_before_its_flush() {
    for seed in 0..40 {
        let mut duo = TwoControllers::new(seed, true);
        let mut tag = 1;
        duo.connect();
        settle_under_writes(&mut duo, 6, &mut tag);
        // A clean end, with commands in flight when it begins, of hosts of both sides or only of the other's.
        let ends = (seed % 2) as usize;
        for number in 0..6 {
            let side = if seed % 4 < 2 { number % 2 } else { 1 - ends };
            duo.ask(side, tag, write(number as u64, 1, 1));
            tag += 1;
        }
        duo.controllers[ends].stop();
        duo.controllers.iter().for_each(|controller| controller.on_tick());
        settle(&mut duo, 6);
        assert!(duo.controllers[ends].stopped(), "seed {seed}");
        assert!(duo.durable(0).is_some_and(|record| record.clean), "seed {seed}");
        duo.cut();
        settle(&mut duo, 1);
        // Both again, without a copy; then power loss, a copy, and a switch to the preferred main.
        let mut duo = duo.crash(seed + 1000, true);
        duo.connect();
        settle_under_writes(&mut duo, 6, &mut tag);
        assert_eq!(status(&duo, 0), (PairStatus::Duplex, Role::Main), "seed {seed}");
        duo.remove_volume(0);
        let mut duo = duo.crash(seed + 2000, true);
        duo.connect();
        settle_under_writes(&mut duo, 12, &mut tag);
        assert_eq!(status(&duo, 0), (PairStatus::Duplex, Role::Main), "seed {seed}");
        assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
    }
}

#[test]
fn a_main_that_goes_on_alone_takes_back_the_mark_of_the_clean_end_first() {
    for seed in 0..40 {
        let mut duo = TwoControllers::met(seed);
        duo.controllers[1].stop();
        settle(&mut duo, 4);
        assert!(duo.controllers[1].stopped() && duo.durable(0).is_some_and(|record| record.clean));
        duo.cut();
        let mut tag = 1;
        settle_under_writes(&mut duo, 20, &mut tag);
        assert!(duo.answers(0).iter().any(|(_, end)| *end == GOOD), "seed {seed}: main goes on");
    }
}

#[test]
fn a_clean_end_whose_flush_fails_leaves_no_mark() {
    let mut ended = 0;
    for failing in 0..2 {
        for after in 0..160 {
            let mut duo = TwoControllers::met(9);
            duo.ask(0, 1, write(0, 4, 5));
            settle(&mut duo, 1);
            duo.controllers.iter().for_each(Controller::stop);
            // At any step of the end: also at its last flush, when what was there before has been flushed ahead.
            for step in 0..after {
                if step == after / 2 {
                    duo.ask(0, 2, write(8, 4, 6));
                }
                if !duo.step() {
                    duo.advance_and_tick();
                }
            }
            duo.break_disk(failing, DiskError::FlushFailed);
            settle(&mut duo, 300);
            let unflushed = duo.changing(failing).1;
            ended += u32::from(unflushed && duo.controllers[failing].stopped());
            let clean = duo.durable(failing).is_some_and(|record| record.clean);
            assert!(!(clean && unflushed), "{failing} fails after {after} steps");
        }
    }
    assert!(ended > 5, "an end met it {ended} times");
}

#[test]
fn what_main_answers_after_a_cut_is_on_both_copies_or_under_a_generation_that_names_its_copy_alone() {
    let mut alone = 0;
    for seed in 0..150 {
        let mut duo = TwoControllers::met(seed);
        // Time for leases to be granted; the last one in the very moment of the cut.
        duo.settle(20);
        for tag in 0..8 {
            duo.ask(0, tag, write(u64::from(tag), 1, tag as u8 + 1));
        }
        for _ in 0..seed % 24 {
            duo.step();
        }
        let _ = duo.answers(0);
        duo.cut();
        let cut = duo.now();
        duo.ask(0, 8, write(8, 1, 9));
        for _ in 0..20 {
            loop {
                let going_on = duo.step();
                for (tag, end) in duo.answers(0) {
                    assert_eq!(end, GOOD, "seed {seed}");
                    if duo.volume(1)[tag as usize * 512] == tag as u8 + 1 {
                        continue;
                    }
                    alone += 1;
                    let waited = duo.now().since(cut);
                    assert!(waited + RENEWAL >= LEASE + DRIFT_MARGIN, "seed {seed}: after {waited:?}");
                    let record = duo.durable(0).expect("a record");
                    assert_eq!(record.generation.members, 0b01, "seed {seed}: {record:?}");
                }
                if !going_on {
                    break;
                }
            }
            duo.advance();
            duo.controllers[0].on_tick();
        }
    }
    assert!(alone > 0, "main never went on alone: the test shows nothing");
}

#[test]
fn a_main_that_starts_alone_waits_one_lease() {
    let mut duo = TwoControllers::met(4);
    duo.cut();
    duo.settle(20);
    let mut duo = duo.crash(5, true);
    let start = duo.now();
    duo.ask(0, 1, write(0, 1, 5));
    loop {
        while duo.step() {}
        if duo.answers(0) == [(1, GOOD)] {
            break;
        }
        duo.advance();
        duo.controllers[0].on_tick();
    }
    let waited = duo.now().since(start);
    assert!(waited >= LEASE + DRIFT_MARGIN, "{waited:?}");
}

#[test]
fn an_answer_that_was_long_on_its_way_gives_a_lease_that_counts_from_its_request() {
    let mut duo = TwoControllers::met(6);
    duo.settle(4);
    (0..2).for_each(|_| duo.advance());
    duo.controllers[1].on_tick();
    let requested = duo.now();
    (0..11).for_each(|_| duo.advance());
    while duo.step() {}
    let read = Op::Read { range: range(0, 1) };
    duo.ask(1, 1, read.clone());
    while duo.step() {}
    assert_eq!(duo.answers(1), [(1, Outcome::Good(blocks_of(0, 1)))], "it still holds");
    duo.advance();
    assert!(duo.now().since(requested) >= LEASE);
    duo.ask(1, 2, read);
    while duo.step() {}
    assert_eq!(duo.answers(1), [], "it has run out");
}

#[test]
fn whenever_the_two_are_duplex_again_after_a_copy_they_are_identical() {
    for seed in 0..60 {
        let mut duo = TwoControllers::met(seed);
        // Zeros at main, something else at the sub: a hole has to be copied as well.
        if seed % 2 == 0 {
            duo.ask(0, 1, write(0, BLOCKS, 5));
            duo.settle(1);
        }
        duo.spoil(1, 6);
        let mut duo = duo.crash(seed + 100, true);
        duo.connect();
        let mut duplex = 0;
        for _ in 0..8 {
            loop {
                let going_on = step(&mut duo);
                for side in 0..2 {
                    let both = duo.durable(side).is_some_and(|record| record.generation.members == 0b11);
                    if status(&duo, side).0 == PairStatus::Duplex {
                        duplex += 1;
                        assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
                        assert!(both, "seed {seed}: DUPLEX before the disk says so");
                        let sub = duo.durable(1).expect("a record");
                        assert_eq!(sub.generation.members, 0b11, "seed {seed}: the sub's disk comes first");
                    }
                }
                if !going_on {
                    break;
                }
            }
            duo.advance();
            duo.controllers.iter().for_each(|controller| controller.on_tick());
        }
        assert!(duplex > 0, "seed {seed}");
    }
}

#[test]
fn what_is_answered_as_durable_is_flushed_on_both_copies() {
    for seed in 0..60 {
        let mut duo = TwoControllers::met(seed);
        let side = (seed % 2) as usize;
        duo.ask(side, 1, Op::Write { range: range(0, 4), data: blocks_of(7, 4), fua: true });
        while duo.answers(side).is_empty() {
            assert!(duo.step(), "seed {seed}");
        }
        for copy in 0..2 {
            assert_eq!(duo.changing(copy), (false, false), "seed {seed} side {side} copy {copy}");
            assert_eq!(duo.volume(copy)[..512], [7; 512]);
        }
    }
}

#[test]
fn a_copy_without_its_peer_is_flushed_at_once_and_then_every_second() {
    let mut duo = TwoControllers::met(3);
    duo.ask(0, 1, write(0, 4, 5));
    duo.settle(1);
    assert!(duo.changing(0).1 && duo.changing(1).1, "the cache is on: nothing is flushed yet");
    duo.cut();
    while duo.step() {}
    assert!(!duo.changing(1).1, "the sub's copy may be the only one for long");
    duo.settle(40);
    assert!(!duo.changing(0).1);
    duo.ask(0, 2, write(4, 4, 5));
    while duo.step() {}
    assert!(duo.changing(0).1);
    duo.settle(21);
    assert!(!duo.changing(0).1, "main alone has it for a second at most in memory only");
}

#[test]
fn a_main_whose_disk_failed_does_not_go_on_alone() {
    for seed in 0..40 {
        let mut duo = TwoControllers::met(seed);
        duo.break_disk(0, DiskError::Io);
        duo.ask(0, 1, write(0, 1, 1));
        while duo.controllers[0].status().luns[0].status == PairStatus::Duplex && duo.answers(0).is_empty() {
            assert!(duo.step(), "seed {seed}");
        }
        duo.cut();
        duo.settle(20);
        let record = duo.durable(0).expect("a record");
        assert_ne!(
            record.generation.members, 0b01,
            "seed {seed}: a failed copy is named as the only whole one"
        );
    }
}

#[test]
fn nobody_reads_what_the_failed_disk_of_main_could_not_take_before_that_copy_has_left_the_pair() {
    let mut waited = 0;
    for seed in 0..200 {
        let mut duo = TwoControllers::met(seed);
        duo.break_disk(0, [DiskError::Io, DiskError::Full][(seed % 2) as usize]);
        duo.hold_control(true);
        duo.ask(1, 1, write(0, 4, 7));
        for tag in 2..40 {
            if tag == 30 {
                duo.hold_control(false);
            }
            duo.ask(1, tag, Op::Read { range: range(2, 1) });
            for _ in 0..4 {
                duo.step();
            }
            let left = duo.durable(1).is_some_and(|record| record.generation.members == 0b10);
            for (tag, outcome) in duo.answers(1) {
                let new = outcome == Outcome::Good(blocks_of(7, 1));
                assert!(
                    !new || left,
                    "seed {seed}: read {tag} shows what one copy has that may be the one to go"
                );
                waited += u32::from(tag == 1 && !left);
            }
        }
        duo.settle(30);
        duo.ask(1, 40, Op::Read { range: range(2, 1) });
        duo.settle(1);
        assert_eq!(duo.answers(1).pop(), Some((40, Outcome::Good(blocks_of(7, 1)))), "seed {seed}");
    }
    assert!(waited > 100, "the write's host hears at once that it failed: {waited}");
}

/// The sub's copy is no longer whole when its disk answers: main has to be asked, and may not have its place yet.
#[test]
fn a_read_that_outlives_a_meeting_is_answered() {
    for (seed, steps) in (0..8).flat_map(|seed| (0..80).map(move |steps| (seed, steps))) {
        let mut duo = TwoControllers::met(seed);
        duo.stall_disk(1);
        (1..7).for_each(|tag| duo.ask(1, tag, Op::Read { range: range(u64::from(tag), 1) }));
        duo.cut();
        duo.connect();
        for _ in 0..steps {
            duo.step();
        }
        duo.resume_disk(1);
        duo.settle(6);
        let mut answered: Vec<u32> = duo.answers(1).into_iter().map(|(tag, _)| tag).collect();
        answered.sort_unstable();
        assert_eq!(answered, [1, 2, 3, 4, 5, 6], "seed {seed} {steps}");
        assert_eq!(status(&duo, 1).0, PairStatus::Duplex, "seed {seed} {steps}");
    }
}
