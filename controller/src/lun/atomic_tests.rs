//! WRITE ATOMIC, and COMPARE AND WRITE and ORWRITE of several blocks, asked of both controllers in the toy world: by
//! way of the redo record on both copies.

use protocol::scsi::persistent_reservation::{Kind, OutAction};
use protocol::scsi::sense::Status;

use crate::command::{LunIndex, Op, Outcome};
use crate::disk::DiskError;
use crate::pair::{PairStatus, Role, Service};
use crate::reservation::asked;
use crate::testing::{BLOCKS, TwoControllers, blocks_of, range, write};

const GOOD: Outcome = Outcome::Good(Vec::new());

fn write_atomic(start: u64, blocks: u64, byte: u8) -> Op {
    Op::WriteAtomic { range: range(start, blocks), data: blocks_of(byte, blocks), fua: false }
}

fn compare_and_write(start: u64, blocks: u64, compare: u8, write: u8) -> Op {
    let (compare, write) = (blocks_of(compare, blocks), blocks_of(write, blocks));
    Op::CompareAndWrite { range: range(start, blocks), compare, write, fua: false }
}

fn or_write(start: u64, blocks: u64, byte: u8) -> Op {
    Op::OrWrite { range: range(start, blocks), data: blocks_of(byte, blocks), fua: false }
}

/// What a side answers to one command after everything came to its end.
fn answer(duo: &mut TwoControllers, side: usize, op: Op) -> Outcome {
    duo.ask(side, 1, op);
    duo.settle(1);
    duo.answers(side).into_iter().next().map(|(_, outcome)| outcome).unwrap()
}

#[test]
fn what_writes_several_blocks_as_one_leaves_a_record_on_both_copies_through_either_controller() {
    for side in 0..2 {
        let mut duo = TwoControllers::met(side as u64);
        let several = [write_atomic(8, 3, 1), compare_and_write(8, 3, 1, 2), or_write(8, 3, 4)];
        for (op, (number, byte)) in several.into_iter().zip([(1, 1), (2, 2), (3, 6)]) {
            assert_eq!(answer(&mut duo, side, op), GOOD, "side {side}: {number}");
            assert_eq!([duo.record(0), duo.record(1)], [(false, number); 2], "side {side}");
            assert_eq!(duo.volume(0)[8 * 512..11 * 512], [byte; 3 * 512], "side {side}");
            assert_eq!(duo.volume(0), duo.volume(1), "side {side}");
        }
        for op in [write_atomic(8, 1, 1), compare_and_write(8, 1, 1, 2), or_write(8, 1, 4), write(8, 3, 9)] {
            assert_eq!(answer(&mut duo, side, op), GOOD);
            assert_eq!([duo.record(0).1, duo.record(1).1], [3; 2], "one block is written whole by any disk");
        }
        let differs = answer(&mut duo, side, compare_and_write(8, 3, 1, 7));
        assert!(matches!(differs, Outcome::Check(_)), "{differs:?}");
        assert_eq!(duo.record(0).1, 3, "what does not compare needs no record");
    }
}

#[test]
fn many_of_them_from_both_sides_among_other_changes_come_to_their_end_with_equal_copies() {
    for seed in 0..200 {
        let mut duo = TwoControllers::met(seed);
        for tag in 0..6 {
            let at = u64::from(tag) % 3 * 2;
            duo.ask(0, 10 + tag, write_atomic(at, 4, 1 + tag as u8));
            duo.ask(1, 20 + tag, or_write(at + 1, 4, 0x40));
            duo.ask(1, 30 + tag, write(at, 2, 0x80));
            duo.ask(0, 40 + tag, Op::Unmap { ranges: vec![range(at + 3, 1)] });
        }
        duo.settle(2);
        let ends = [duo.answers(0), duo.answers(1)].concat();
        assert!(ends.len() == 24 && ends.iter().all(|(_, end)| *end == GOOD), "seed {seed}: {ends:?}");
        assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
        assert_eq!([duo.record(0), duo.record(1)], [(false, 12); 2], "seed {seed}");
    }
}

#[test]
fn a_clean_end_leaves_no_record() {
    let mut caught = 0;
    for seed in 0..100 {
        let mut duo = TwoControllers::met(seed);
        duo.ask((seed % 2) as usize, 1, write_atomic(0, 4, 7));
        while duo.answers((seed % 2) as usize).is_empty() {
            assert!(duo.step(), "seed {seed}: it never ends");
        }
        caught += u32::from(duo.record(0).0) + u32::from(duo.record(1).0);
        duo.controllers.iter().for_each(crate::unit::Controller::stop);
        for _ in 0..200 {
            if duo.controllers.iter().all(crate::unit::Controller::stopped) {
                break;
            }
            duo.settle(1);
        }
        assert!(duo.controllers.iter().all(crate::unit::Controller::stopped), "seed {seed}");
        assert_eq!([duo.record(0).0, duo.record(1).0], [false; 2], "seed {seed}");
    }
    assert!(caught > 50, "the end never met a record");
}

#[test]
fn a_copy_whose_disk_fails_under_the_record_leaves_the_pair_and_the_other_takes_the_write() {
    for seed in 0..60 {
        let side = (seed % 2) as usize;
        let mut duo = TwoControllers::met(seed);
        assert_eq!(answer(&mut duo, 0, write(0, BLOCKS, 3)), GOOD);
        duo.ask(0, 2, write_atomic(0, 4, 7));
        for _ in 0..seed / 2 % 9 {
            duo.step();
        }
        duo.break_disk(side, DiskError::Io);
        duo.settle(20);
        duo.answers(1 - side);
        // If nothing touched the disk in time, this does, and its host is told to ask again.
        let again = answer(&mut duo, 1 - side, write_atomic(0, 4, 7));
        if again != GOOD {
            duo.settle(20);
            assert_eq!(answer(&mut duo, 1 - side, write_atomic(0, 4, 7)), GOOD, "seed {seed}: {again:?}");
        }
        assert_eq!(duo.volume(1 - side)[..2048], [7; 2048], "seed {seed}");
        assert_ne!(duo.controllers[1 - side].status().luns[0].status, PairStatus::Duplex, "seed {seed}");
    }
}

#[test]
fn a_write_that_waits_when_the_peer_is_lost_goes_on_with_the_copy_that_is_left() {
    for seed in 0..60 {
        let mut duo = TwoControllers::met(seed);
        (1..4).for_each(|tag| duo.ask(0, tag, write_atomic(0, 4, tag as u8)));
        for _ in 0..seed % 23 {
            duo.step();
        }
        duo.cut();
        duo.settle(60);
        let ends = duo.answers(0);
        assert!(ends.len() == 3 && ends.iter().all(|(_, end)| *end == GOOD), "seed {seed}: {ends:?}");
        assert!(!duo.record(0).0, "seed {seed}");
        let there = duo.volume(0)[..2048].to_vec();
        assert!(there.iter().all(|byte| *byte == there[0] && *byte > 0), "seed {seed}");
        duo.connect();
        duo.settle(60);
        assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
    }
}

#[test]
fn a_record_on_a_disk_that_was_given_up_is_left_alone_and_a_reservation_does_not_keep_that_copy_from_leaving()
{
    for seed in 0..20 {
        let mut duo = TwoControllers::met(seed);
        for session in 1..=2 {
            duo.log_in(0, session, &format!("host{session}"));
        }
        let reserve_out = |action, keys| asked::event(asked::out(action, keys, Kind::ExclusiveAccess));
        duo.event(0, 2, 1, reserve_out(OutAction::Register, (0, 2)));
        duo.settle(1);
        assert_eq!(duo.answers(0), [(1, GOOD)], "seed {seed}");
        duo.stall_disk(0);
        duo.ask(0, 2, write_atomic(0, 2, 7));
        duo.settle(20);
        duo.event(0, 2, 3, reserve_out(OutAction::Reserve, (2, 0)));
        // The disk is given up after three seconds.
        duo.settle(55);
        assert!(duo.blots(0) <= 1, "seed {seed}: {} times", duo.blots(0));
        let answers = duo.answers(0);
        assert!(answers.contains(&(3, Outcome::Status(Status::Busy))), "seed {seed}: {answers:?}");
        let place = duo.controllers[1].place(LunIndex(0)).unwrap();
        assert_eq!((place.0, place.2), (Role::Main, Service::Alone), "seed {seed}");
        duo.told(0, 2);
        duo.event(0, 2, 4, reserve_out(OutAction::Reserve, (2, 0)));
        duo.settle(2);
        assert!(duo.answers(0).contains(&(4, GOOD)), "seed {seed}");
    }
}
