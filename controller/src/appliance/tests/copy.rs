//! Copies and meetings that something gets in the way of.

use std::collections::BTreeSet;

use protocol::scsi::sense::Sense;

use crate::command::{Op, Outcome};
use crate::disk::DiskError;
use crate::pair::{PairStatus, Role};
use crate::testing::{BLOCKS, TwoControllers, range, write};
use crate::unit::Controller;

const GOOD: Outcome = Outcome::Good(Vec::new());

fn place(duo: &TwoControllers, side: usize) -> (PairStatus, Role) {
    let lun = duo.controllers[side].status().luns.remove(0);
    (lun.status, lun.role)
}

/// Blocks of one piece of a copy.
const PIECE: u64 = 2048;

/// Both have met and written, and are started anew.
fn started_anew(seed: u64, between: impl Fn(&mut TwoControllers)) -> TwoControllers {
    let mut duo = TwoControllers::new(seed, true);
    duo.connect();
    duo.settle(1);
    duo.ask(0, 1, write(0, BLOCKS, 5));
    duo.settle(1);
    between(&mut duo);
    let mut duo = duo.crash(seed + 100, true);
    duo.connect();
    duo
}

#[test]
fn a_main_that_was_alone_and_follows_admits_nothing_before_the_leader_has_its_place() {
    for seed in 0..150 {
        // alpha has no volume: beta, which follows in every meeting, is main while it is copied, and goes on alone.
        let mut duo = started_anew(seed, |duo| duo.remove_volume(0));
        while place(&duo, 1) != (PairStatus::Copy, Role::Main) {
            assert!(duo.step(), "seed {seed}");
        }
        duo.cut();
        duo.settle(20);
        assert_eq!(place(&duo, 1), (PairStatus::Suspended, Role::Main), "seed {seed}");
        duo.connect();
        // At every moment of the meeting some writes of one range wait for each other.
        let mut asked = 0;
        for step in 0..60 {
            if step % 4 == 0 {
                asked += 1;
                duo.ask(1, asked, write(0, 4, asked as u8));
            }
            duo.step();
        }
        duo.settle(10);
        let answers = duo.answers(1);
        assert_eq!(answers.len(), asked as usize, "seed {seed}: {answers:?}");
        assert!(answers.iter().all(|(_, end)| *end == GOOD), "seed {seed}: {answers:?}");
        assert_eq!(place(&duo, 0), (PairStatus::Duplex, Role::Main), "seed {seed}");
        assert!(duo.volume(0) == duo.volume(1), "seed {seed}");
    }
}

#[test]
fn a_copy_whose_source_could_not_take_a_change_starts_over_and_the_source_leaves_when_it_is_whole() {
    let mut again = 0;
    for seed in 0..300 {
        let mut duo = started_anew(seed, |duo| duo.spoil(1, 6));
        while place(&duo, 0).0 != PairStatus::Copy {
            assert!(duo.step(), "seed {seed}");
        }
        for _ in 0..seed % 12 {
            duo.step();
        }
        duo.break_writes(0);
        duo.ask(0, 2, write(seed % BLOCKS, 1, 7));
        for _ in 0..4 + seed % 5 {
            duo.step();
        }
        duo.mend_disk(0);
        // Did it fail while the copy was made, and not after it?
        let (mut failed, mut whole, mut seen) = (false, false, Vec::new());
        // A read that waits for the range may keep the source in for as long as a switch may take.
        for _ in 0..90 {
            loop {
                let going_on = duo.step();
                let ends = duo.answers(0);
                failed |= place(&duo, 0).0 == PairStatus::Copy
                    && ends.iter().any(|(tag, end)| *tag == 2 && *end != GOOD);
                let ends = ends.into_iter().chain(duo.answers(1));
                seen.extend(
                    ends.filter(|(tag, end)| *tag == 3 && matches!(end, Outcome::Good(_)))
                        .map(|(_, end)| end),
                );
                if failed && place(&duo, 1).0 == PairStatus::Duplex {
                    if !whole {
                        (0..2).for_each(|side| duo.ask(side, 3, Op::Read { range: range(seed % BLOCKS, 1) }));
                    }
                    whole = true;
                }
                if !going_on {
                    break;
                }
            }
            duo.advance();
            duo.controllers.iter().for_each(Controller::on_tick);
        }
        if whole {
            again += 1;
            let same = seen.windows(2).all(|two| two[0] == two[1]);
            assert!(same, "seed {seed}: DUPLEX with two different blocks");
            if place(&duo, 1).1 != Role::Main {
                // The switch took too long, because the read waited: they have lost each other, and meet again.
                duo.cut();
                duo.connect();
                duo.settle(8);
            }
            assert_eq!(
                place(&duo, 1),
                (PairStatus::Suspended, Role::Main),
                "seed {seed}: the good copy serves"
            );
        }
    }
    assert!(again > 0, "nothing failed while copying: the test shows nothing");
}

/// Both hold different bytes, and main's volume is being copied to the sub's. What was asked of it is told.
fn copying(seed: u64, pieces: u64) -> TwoControllers {
    let mut duo = TwoControllers::sized(seed, pieces * PIECE);
    duo.connect();
    duo.settle(1);
    (0..pieces).for_each(|piece| duo.ask(0, 1, write(piece * PIECE, 1, 5)));
    duo.settle(1);
    duo.spoil(1, 6);
    let mut duo = duo.crash(seed + 100, true);
    duo.connect();
    while place(&duo, 0).0 != PairStatus::Copy {
        assert!(duo.step(), "seed {seed}");
    }
    duo
}

#[test]
fn what_the_source_could_not_take_behind_the_copy_is_copied_again() {
    const PIECES: u64 = 16;
    const TRIED: u64 = 3;
    let mut behind = 0;
    for seed in 0..12 {
        let mut duo = copying(seed, PIECES);
        let copied =
            |duo: &TwoControllers| duo.controllers[0].status().luns.remove(0).copied_percent.unwrap_or(100);
        while copied(&duo) < 30 {
            assert!(duo.step(), "seed {seed}");
        }
        // Of one piece at least the sub has the copy: main's disk does not take what is written there, the sub's does.
        duo.break_writes(0);
        for piece in 0..TRIED {
            duo.ask(0, 10 + piece as u32, write(piece * PIECE + 8, 1, 7));
        }
        let mut failed = 0;
        while failed < TRIED && place(&duo, 0).0 == PairStatus::Copy {
            assert!(duo.step(), "seed {seed}");
            failed += duo.answers(0).iter().filter(|(_, end)| *end != GOOD).count() as u64;
        }
        behind += u32::from(failed > 0 && place(&duo, 0).0 == PairStatus::Copy && copied(&duo) < 100);
        duo.mend_disk(0);
        duo.settle(90);
        assert!(duo.volume(0) == duo.volume(1), "seed {seed}: a copy that is whole, and differs");
        assert_eq!(place(&duo, 1), (PairStatus::Suspended, Role::Main), "seed {seed}: the good copy serves");
    }
    assert!(behind > 0, "nothing failed behind the copy: the test shows nothing");
}

#[test]
fn what_main_could_not_take_when_the_copy_is_complete_is_read_by_nobody_before_its_copy_has_left() {
    let mut shown = 0;
    for seed in 0..60 {
        let mut duo = copying(seed, 1);
        while place(&duo, 1).0 != PairStatus::Duplex {
            assert!(duo.step(), "seed {seed}");
        }
        // The sub takes its copy for whole and reads it; main has not heard so, and does not for a while.
        if place(&duo, 0).0 != PairStatus::Copy {
            continue;
        }
        shown += 1;
        duo.hold_control(true);
        duo.break_disk(0, DiskError::Full);
        duo.ask(0, 2, write(8, 1, 7));
        while duo.step() {}
        assert!(duo.answers(0).iter().any(|(tag, end)| *tag == 2 && *end != GOOD), "seed {seed}");
        duo.advance();
        duo.controllers.iter().for_each(Controller::on_tick);
        while duo.step() {}
        for side in [1, 0] {
            duo.ask(side, 3, Op::Read { range: range(8, 1) });
            while duo.step() {}
        }
        duo.hold_control(false);
        duo.settle(90);
        let read = |side: usize| duo.answers(side).into_iter().find(|(tag, _)| *tag == 3).map(|(_, end)| end);
        let [first, second] = [read(1), read(0)];
        if matches!((&first, &second), (Some(Outcome::Good(_)), Some(Outcome::Good(_)))) {
            assert!(first == second, "seed {seed}: two controllers, two different blocks");
        }
    }
    assert!(shown > 5, "{shown} seeds met the moment: the test shows nothing");
}

/// The only whole copy is copied from a disk that is full. Every so many steps a host of one of the two tries to write
/// where `at` says, a few at a time, until both are whole. How many tries there were, and which were refused for want
/// of room.
fn copied_from_a_full_disk(
    seed: u64,
    every: u32,
    at: impl Fn(u32) -> (u64, u64),
) -> (TwoControllers, u32, BTreeSet<u32>) {
    const STEPS: u32 = 60_000;
    const PIECES: u64 = 12;
    const DEPTH: u32 = 32;
    let mut duo = TwoControllers::sized(seed, PIECES * PIECE);
    duo.connect();
    duo.settle(1);
    (0..PIECES).for_each(|piece| duo.ask(0, 0, write(piece * PIECE, 1, 5)));
    duo.settle(1);
    let mut duo = duo.crash_one(seed, 1);
    duo.settle(30);
    duo.answers(0);
    duo.break_disk(0, DiskError::Full);
    duo.connect();
    let refused = Outcome::Check(Sense::SPACE_ALLOCATION_FAILED);
    let (mut asked, mut answered, mut tags) = (0, 0, BTreeSet::new());
    for step in 0..STEPS {
        if !duo.step() {
            duo.advance();
            duo.controllers.iter().for_each(Controller::on_tick);
        }
        if step % every == 0 && asked - answered < DEPTH {
            asked += 1;
            let (start, blocks) = at(asked);
            duo.ask(asked as usize % 2, asked, write(start, blocks, 9));
        }
        for (tag, end) in (0..2).flat_map(|side| duo.answers(side)) {
            answered += 1;
            if end == refused {
                tags.insert(tag);
            }
        }
        if [0, 1].map(|side| place(&duo, side).0) == [PairStatus::Duplex; 2] {
            return (duo, asked, tags);
        }
    }
    panic!("seed {seed}: still being copied after {asked} tries: {:?}", duo.controllers[0].status().luns[0]);
}

#[test]
fn a_copy_from_a_full_disk_ends_although_a_host_tries_on_to_write_a_block() {
    for seed in 0..6 {
        copied_from_a_full_disk(seed, 30, |_| (1, 1));
    }
}

#[test]
fn what_a_full_source_refuses_is_the_same_on_both_and_keeps_no_copy_from_its_end() {
    let mut shown = 0;
    for seed in 0..8 {
        // All over the volume, some in two of its pieces.
        let at = |tag: u32| (u64::from(tag) * 1021 % (11 * PIECE), 4);
        let (mut duo, asked, refused) = copied_from_a_full_disk(seed, 2, at);
        duo.settle(60);
        let [main, sub] = [0, 1].map(|side| duo.volume(side));
        // What became of the others only the copy knows that stays.
        let others: BTreeSet<u64> = (1..=asked)
            .filter(|tag| !refused.contains(tag))
            .flat_map(|tag| at(tag).0..at(tag).0 + at(tag).1)
            .collect();
        for tag in &refused {
            for block in (at(*tag).0..at(*tag).0 + at(*tag).1).filter(|block| !others.contains(block)) {
                shown += 1;
                let bytes = block as usize * 512..(block as usize + 1) * 512;
                assert!(
                    main[bytes.clone()] == sub[bytes],
                    "seed {seed}: try {tag} of {asked}, block {block}"
                );
            }
        }
    }
    assert!(shown > 500, "{shown} blocks were refused: the test shows nothing");
}

#[test]
fn a_large_copy_is_flushed_on_its_way_and_a_target_that_takes_its_time_for_it_stays() {
    const PIECES: u64 = 80;
    const MIB: u64 = 1 << 20;
    let mut duo = TwoControllers::sized(1, PIECES * PIECE);
    duo.connect();
    duo.settle(1);
    duo.fill(0, &vec![7; (PIECES * MIB) as usize]);
    let mut duo = duo.crash_one(1, 1);
    duo.settle(30);
    duo.connect();
    while duo.most_unflushed(1) < 30 * MIB || !duo.flushing(1) {
        if !duo.step() {
            duo.advance();
            duo.controllers.iter().for_each(Controller::on_tick);
        }
    }
    // Longer than any disk may be silent.
    duo.stall_disk(1);
    duo.settle(120);
    assert_eq!(place(&duo, 0).0, PairStatus::Copy);
    duo.resume_disk(1);
    duo.settle(20);
    assert_eq!([0, 1].map(|side| place(&duo, side).0), [PairStatus::Duplex; 2]);
    let most = duo.most_unflushed(1);
    assert!(most <= 40 * MIB, "{} MiB were not flushed", most / MIB);
}

/// The source of a copy cannot be read, or flushed, for a moment: `trouble` after so many steps of the copy.
fn a_bad_moment_of_the_source(seed: u64, steps: u64) -> TwoControllers {
    let mut duo = TwoControllers::met(seed).crash_one(seed, 1);
    duo.stall_disk(0);
    duo.connect();
    while duo.step() {}
    assert_eq!(duo.statuses(), [PairStatus::Copy; 2], "seed {seed}");
    duo.resume_disk(0);
    for _ in 0..steps {
        duo.step();
    }
    duo.break_disk(0, DiskError::Io);
    while duo.step() {}
    duo.mend_disk(0);
    duo
}

#[test]
fn a_copy_goes_on_when_its_source_has_had_a_bad_moment() {
    let mut told = 0;
    for (seed, steps) in (0..40).flat_map(|seed| (0..6).map(move |steps| (seed, steps))) {
        let mut duo = a_bad_moment_of_the_source(seed, steps);
        let lun = duo.controllers[0].status().luns.remove(0);
        told += u32::from(lun.reason.is_some_and(|reason| reason.contains("tried again")));
        duo.settle(600);
        duo.settle(600);
        // A disk that fails leaves the pair as soon as another copy is whole.
        let statuses = duo.statuses();
        assert!(!statuses.contains(&PairStatus::Copy), "seed {seed} {steps}: {statuses:?}");
        duo.ask(0, 1, write(0, BLOCKS, 7));
        duo.settle(4);
        let answers = duo.answers(0);
        assert!(
            answers.iter().any(|(_, outcome)| *outcome == Outcome::Good(Vec::new())),
            "seed {seed}: {answers:?}"
        );
        assert_eq!(duo.volume(1)[0], 7, "seed {seed} {steps}: the copy that was made serves");
    }
    assert!(told > 40, "{told}: status says why it takes long");
}
