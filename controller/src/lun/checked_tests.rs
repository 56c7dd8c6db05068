//! VERIFY, WRITE AND VERIFY, ORWRITE, START STOP UNIT and what main tells of its volume, asked of both controllers
//! in the toy world: the same answers, and the same bytes on both copies.

use bytes::Bytes;
use protocol::block::Lba;
use protocol::interlink::Report;
use protocol::scsi::sense::{Sense, Status};

use crate::command::{Data, LunIndex, NexusId, Op, Outcome};
use crate::disk::DiskError;
use crate::pair::PairStatus;
use crate::testing::{BLOCKS, TwoControllers, blocks_of, range, write};

const GOOD: Outcome = Outcome::Good(Vec::new());

/// What a side answers to one command after everything came to its end.
fn answer(duo: &mut TwoControllers, side: usize, op: Op) -> Outcome {
    duo.ask(side, 1, op);
    duo.settle(1);
    let answers = duo.answers(side);
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers.into_iter().next().map(|(_, outcome)| outcome).unwrap()
}

fn or_write(start: u64, blocks: u64, byte: u8) -> Op {
    Op::OrWrite { range: range(start, blocks), data: blocks_of(byte, blocks), fua: false }
}

fn verify(start: u64, blocks: u64, expected: Data) -> Op {
    Op::Verify { range: range(start, blocks), expected }
}

#[test]
fn verify_finds_the_first_byte_that_differs_on_either_side_and_moves_no_data() {
    for side in 0..2 {
        let mut duo = TwoControllers::met(1);
        assert_eq!(answer(&mut duo, 0, write(4, 3, 7)), GOOD);
        assert_eq!(answer(&mut duo, side, verify(4, 3, Data::new())), GOOD);
        assert_eq!(answer(&mut duo, side, verify(4, 3, blocks_of(7, 3))), GOOD);
        assert_eq!(answer(&mut duo, side, verify(4, 3, blocks_of(7, 1))), GOOD);
        let one_more = answer(&mut duo, side, verify(4, 4, blocks_of(7, 1)));
        assert_eq!(one_more, Outcome::Check(Sense::miscompare(3 * 512)));
        let mut expected = vec![7; 3 * 512];
        expected[700] = 0;
        let expected = vec![Bytes::from(expected.split_off(0))];
        let differs = answer(&mut duo, side, verify(4, 3, expected));
        assert_eq!(differs, Outcome::Check(Sense::miscompare(700)));
    }
}

#[test]
fn verify_beside_a_write_of_its_range_sees_all_old_or_all_new() {
    let mut seen = [0; 2];
    for seed in 0..200 {
        let mut duo = TwoControllers::met(seed);
        duo.ask((seed % 2) as usize, 1, write(0, 8, 1));
        for _ in 0..seed % 11 {
            duo.step();
        }
        let side = (seed / 2 % 2) as usize;
        duo.ask(side, 2, verify(0, 8, blocks_of(1, 1)));
        duo.settle(1);
        let answers = duo.answers(side);
        match answers.iter().find(|(tag, _)| *tag == 2) {
            Some((_, end)) if *end == GOOD => seen[0] += 1,
            // A part of the write would differ later.
            Some((_, Outcome::Check(sense))) if *sense == Sense::miscompare(0) => seen[1] += 1,
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0, "one of both never came: {seen:?}");
}

#[test]
fn orwrites_of_both_sides_add_up_on_both_copies() {
    for seed in 0..200 {
        let mut duo = TwoControllers::met(seed);
        duo.ask(0, 1, write(0, 4, 0x10));
        duo.ask(0, 2, or_write(0, 4, 0x01));
        duo.ask(1, 3, or_write(1, 2, 0x02));
        duo.ask(1, 4, or_write(0, 4, 0x04));
        duo.settle(1);
        let ends = [duo.answers(0), duo.answers(1)].concat();
        assert!(ends.len() == 4 && ends.iter().all(|(_, end)| *end == GOOD), "seed {seed}: {ends:?}");
        assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
        let bits = |block: usize| duo.volume(0)[block * 512];
        // The write may have come at any place of the order; what came after it is there.
        assert_eq!(bits(0) & !0x05, 0x10, "seed {seed}");
        assert!(bits(1) & 0x02 == bits(2) & 0x02 && bits(0) & 0x02 == 0, "seed {seed}");
        assert_eq!(answer(&mut duo, 1, or_write(0, 4, 0x07)), GOOD);
        assert_eq!(duo.volume(0)[..4 * 512], [0x17; 4 * 512], "seed {seed}");
        assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
    }
}

#[test]
fn an_orwrite_through_the_sub_gives_a_copy_being_filled_the_result_and_not_its_own_bits() {
    let mut copying = 0;
    for seed in 0..60 {
        let mut duo = TwoControllers::met(seed);
        assert_eq!(answer(&mut duo, 0, write(0, BLOCKS, 0x10)), GOOD);
        duo.remove_volume(1);
        let mut duo = duo.crash(seed, true);
        duo.connect();
        for _ in 0..2000 {
            let place = duo.controllers[1].place(LunIndex(0));
            if place.is_some_and(|(_, status, ..)| status == PairStatus::Copy) || !duo.step() {
                break;
            }
        }
        let status = duo.controllers[1].place(LunIndex(0)).map(|(_, status, ..)| status);
        copying += u32::from(status == Some(PairStatus::Copy));
        duo.ask(1, 9, or_write(60, 4, 0x01));
        duo.settle(8);
        let ends = duo.answers(1);
        assert!(ends.iter().any(|(_, end)| *end == GOOD), "seed {seed}: {ends:?}");
        assert_eq!(duo.volume(0)[60 * 512..], [0x11; 4 * 512], "seed {seed}");
        assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
    }
    assert!(copying > 0, "no copy was under way: the test shows nothing");
}

#[test]
fn an_orwrite_that_waits_when_the_peer_is_lost_reads_its_blocks_again() {
    for seed in 0..100 {
        let mut duo = TwoControllers::met(seed);
        duo.controllers.iter().for_each(|controller| controller.set_credit(1));
        duo.ask(0, 1, write(0, 4, 0x10));
        duo.ask(0, 2, or_write(8, 4, 0x01));
        for _ in 0..seed % 9 {
            duo.step();
        }
        duo.cut();
        duo.settle(40);
        duo.ask(0, 3, write(8, 4, 0x20));
        duo.settle(2);
        let ends = duo.answers(0);
        assert!(ends.len() == 3 && ends.iter().all(|(_, end)| *end == GOOD), "seed {seed}: {ends:?}");
        assert_eq!(answer(&mut duo, 0, or_write(8, 4, 0x02)), GOOD);
        let block = duo.volume(0)[8 * 512];
        assert!(block & !0x01 == 0x22, "seed {seed}: {block:02x}");
    }
}

#[test]
fn write_and_verify_is_durable_on_both_copies_and_read_back_there() {
    for (seed, side) in [(1, 0), (2, 1), (3, 0), (4, 1)] {
        let mut duo = TwoControllers::met(seed);
        let op = Op::WriteAndVerify { range: range(3, 2), data: blocks_of(9, 2) };
        assert_eq!(answer(&mut duo, side, op), GOOD);
        for copy in 0..2 {
            assert_eq!(duo.volume(copy)[3 * 512..5 * 512], [9; 1024]);
            assert!(!duo.changing(copy).1, "copy {copy} is flushed");
        }
    }
}

#[test]
fn a_disk_that_does_not_hold_what_was_written_to_it_takes_its_copy_out_of_the_pair() {
    for bad in 0..2 {
        for side in 0..2 {
            let mut duo = TwoControllers::met(7);
            duo.forgetful_disk(bad);
            duo.ask(side, 1, Op::WriteAndVerify { range: range(3, 2), data: blocks_of(9, 2) });
            duo.settle(8);
            let place = |at: usize| duo.controllers[at].place(LunIndex(0)).unwrap().1;
            assert_ne!(place(1 - bad), PairStatus::Duplex, "disk {bad}, asked through {side}");
            assert_eq!(duo.volume(1 - bad)[3 * 512..5 * 512], [9; 1024]);
        }
    }
}

#[test]
fn a_stopped_unit_refuses_what_needs_the_medium_on_both_sides_until_it_is_started() {
    for (stopped_by, started_by) in [(0, 1), (1, 0), (0, 0), (1, 1)] {
        let mut duo = TwoControllers::met(5);
        assert_eq!(answer(&mut duo, 1, write(0, 1, 1)), GOOD);
        assert_eq!(answer(&mut duo, stopped_by, Op::StartStop { start: false }), GOOD);
        assert!(!duo.changing(0).1 && !duo.changing(1).1, "both copies are flushed");
        for side in 0..2 {
            for op in [write(0, 1, 2), verify(0, 1, Data::new()), Op::Read { range: range(0, 1) }] {
                assert_eq!(answer(&mut duo, side, op), Outcome::Check(Sense::STOPPED), "side {side}");
            }
            let usage = Op::Report { what: Report::Provisioning { pointer: 0 }, allocation: 64 };
            assert!(matches!(answer(&mut duo, side, usage), Outcome::Good(data) if !data.is_empty()));
        }
        assert_eq!(answer(&mut duo, started_by, Op::StartStop { start: true }), GOOD);
        for side in 0..2 {
            assert_eq!(answer(&mut duo, side, write(0, 1, 2)), GOOD);
        }
    }
}

#[test]
fn stops_and_starts_that_meet_leave_both_sides_the_same() {
    for seed in 0..200 {
        let mut duo = TwoControllers::met(seed);
        duo.ask(0, 1, Op::StartStop { start: false });
        duo.ask(1, 2, Op::StartStop { start: true });
        duo.ask(1, 3, Op::StartStop { start: false });
        duo.ask(0, 4, Op::StartStop { start: true });
        duo.settle(1);
        let ends = [duo.answers(0), duo.answers(1)].concat();
        assert!(ends.iter().all(|(_, end)| *end == GOOD), "seed {seed}: {ends:?}");
        let ready = [0, 1].map(|side| {
            let admission = crate::command::Admission::Medium;
            duo.controllers[side].admit(LunIndex(0), NexusId(1), admission).is_ok()
        });
        assert_eq!(ready[0], ready[1], "seed {seed}");
    }
}

#[test]
fn a_stopped_unit_starts_again_when_the_pair_meets_anew() {
    let mut duo = TwoControllers::met(5);
    assert_eq!(answer(&mut duo, 1, Op::StartStop { start: false }), GOOD);
    duo.cut();
    duo.settle(60);
    duo.connect();
    duo.settle(40);
    for side in 0..2 {
        assert_eq!(answer(&mut duo, side, write(0, 1, 2)), GOOD, "side {side}");
    }
}

#[test]
fn main_tells_of_holes_and_room_the_same_through_both() {
    let mut duo = TwoControllers::met(5);
    assert_eq!(answer(&mut duo, 1, write(8, 8, 1)), GOOD);
    let status = |start, allocation| Op::Report { what: Report::LbaStatus { start: Lba(start) }, allocation };
    let told = |duo: &mut TwoControllers, side, op| match answer(duo, side, op) {
        Outcome::Good(data) => data.concat(),
        other => panic!("{other:?}"),
    };
    for side in 0..2 {
        let data = told(&mut duo, side, status(0, 4096));
        let descriptors: Vec<(u8, u8, u8)> =
            data[8..].chunks(16).map(|one| (one[7], one[11], one[12])).collect();
        assert_eq!(descriptors, [(0, 8, 1), (8, 8, 0), (16, BLOCKS as u8 - 16, 1)]);
        assert_eq!(data[3], 4 + 48);
        assert_eq!(
            told(&mut duo, side, status(9, 24))[8..],
            [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 7, 0, 0, 0, 0]
        );
        assert_eq!(told(&mut duo, side, status(9, 10)).len(), 10, "cut to the allocation length");
        let usage = Op::Report { what: Report::Provisioning { pointer: 2 }, allocation: 512 };
        assert_eq!(told(&mut duo, side, usage)[..12], [0x8c, 0, 0, 12, 0, 2, 3, 8, 0, 0, 0, 7]);
    }
    // The sub's own copy knows other extents after a copy; its hosts are told main's.
    duo.spoil(1, 3);
    assert_eq!(told(&mut duo, 1, status(0, 24))[20], 1);
}

#[test]
fn a_failed_look_at_the_blocks_of_an_orwrite_changes_nothing() {
    let mut duo = TwoControllers::met(5);
    duo.break_disk(0, DiskError::Io);
    let end = answer(&mut duo, 0, or_write(0, 1, 1));
    assert_eq!(end, Outcome::Status(Status::Busy));
    assert_eq!(duo.volume(1)[..512], [0; 512]);
}
