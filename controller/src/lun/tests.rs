//! Two LUN cores against each other, in the toy world.

use bytes::Bytes;
use protocol::interlink::{GenerationTag, Message, WireOp};
use protocol::scsi::sense::{Sense, Status};

use crate::command::{LunIndex, NexusId, Op, Outcome, TaskTag};
use crate::link::LinkId;
use crate::testing::{BLOCKS, TwoControllers, blocks_of, range, write};

const GOOD: Outcome = Outcome::Good(Vec::new());

fn read(start: u64, blocks: u64) -> Op {
    Op::Read { range: range(start, blocks) }
}

fn compare_and_write(start: u64, compare: u8, write: u8) -> Op {
    let (compare, write) = (blocks_of(compare, 1), blocks_of(write, 1));
    Op::CompareAndWrite { range: range(start, 1), compare, write, fua: false }
}

/// What a side has been answered after everything came to its end.
fn settled(duo: &mut TwoControllers, side: usize) -> Vec<(u32, Outcome)> {
    duo.settle(1);
    let mut answers = duo.answers(side);
    answers.sort_by_key(|(tag, _)| *tag);
    answers
}

#[test]
fn compare_and_write_writes_what_compares_and_names_the_first_byte_that_does_not() {
    for side in 0..2 {
        let mut duo = TwoControllers::met(1);
        duo.ask(side, 1, compare_and_write(5, 0, 7));
        assert_eq!(settled(&mut duo, side), [(1, GOOD)]);
        let mut compare = vec![7; 512];
        compare[300] = 0;
        let (compare, write) = (vec![Bytes::from(compare)], blocks_of(9, 1));
        duo.ask(side, 2, Op::CompareAndWrite { range: range(5, 1), compare, write, fua: false });
        assert_eq!(settled(&mut duo, side), [(2, Outcome::Check(Sense::miscompare(300)))]);
        assert_eq!(duo.volume(0)[5 * 512..6 * 512], [7; 512]);
        assert_eq!(duo.volume(0), duo.volume(1));
    }
}

#[test]
fn of_two_hosts_that_compare_the_same_exactly_one_wins() {
    for seed in 0..100 {
        let mut duo = TwoControllers::met(seed);
        duo.ask(0, 1, compare_and_write(5, 0, 1));
        duo.ask(1, 2, compare_and_write(5, 0, 2));
        duo.settle(1);
        let won = [duo.answers(0), duo.answers(1)].concat().iter().filter(|(_, end)| *end == GOOD).count();
        assert_eq!(won, 1, "seed {seed}");
        assert_eq!(duo.volume(0), duo.volume(1));
    }
}

#[test]
fn a_read_beside_a_write_of_its_range_is_all_old_or_all_new_on_both_sides() {
    let mut old = 0;
    for seed in 0..200 {
        let mut duo = TwoControllers::met(seed);
        duo.ask((seed % 2) as usize, 1, write(0, 8, 1));
        for _ in 0..seed % 7 {
            duo.step();
        }
        duo.ask(0, 2, read(0, 8));
        duo.ask(1, 3, read(0, 8));
        duo.settle(1);
        for (_, end) in [duo.answers(0), duo.answers(1)].concat() {
            let Outcome::Good(data) = end else { panic!("seed {seed}: {end:?}") };
            let bytes = data.concat();
            assert!(bytes.iter().all(|byte| *byte == bytes.first().copied().unwrap_or(1)), "seed {seed}");
            old += u32::from(bytes.first() == Some(&0));
        }
    }
    assert!(old > 0, "no read came before its write: the test shows nothing");
}

#[test]
fn the_sub_reads_its_own_copy_and_leaves_to_main_what_a_change_in_flight_overlaps() {
    let mut duo = TwoControllers::met(2);
    duo.ask(1, 1, read(0, 1));
    duo.settle(0);
    let forwards = |duo: &TwoControllers| duo.controllers[1].counters(LunIndex(0)).map(|met| met.forwards);
    assert_eq!(forwards(&duo), Some(0));
    duo.ask(0, 2, write(0, 4, 1));
    while duo.volume(1)[0] == 0 {
        assert!(duo.step());
    }
    duo.ask(1, 3, read(0, 1));
    duo.ask(1, 4, read(8, 1));
    assert_eq!(forwards(&duo), Some(1));
    let answers = settled(&mut duo, 1);
    assert!(answers.contains(&(3, Outcome::Good(blocks_of(1, 1)))));
    // Main's word that the write is on both copies has come with the tick.
    duo.ask(1, 5, read(0, 1));
    assert_eq!(forwards(&duo), Some(1));
}

#[test]
fn a_command_that_waits_too_long_is_busy_and_never_executed() {
    let mut duo = TwoControllers::met(3);
    // The first is not on both copies before it is resumed, whatever comes before what.
    duo.stall_disk(1);
    duo.ask(0, 1, write(0, 1, 1));
    duo.ask(0, 2, write(0, 1, 2));
    while duo.volume(0)[0] == 0 {
        assert!(duo.step());
    }
    for _ in 0..81 {
        duo.advance();
    }
    duo.controllers[0].on_tick();
    assert_eq!(duo.answers(0), [(2, Outcome::Status(Status::Busy))]);
    duo.resume_disk(1);
    duo.settle(16);
    assert_eq!(duo.volume(0)[0], 1);
}

#[test]
fn an_aborted_command_that_was_not_admitted_is_never_executed_and_one_that_was_ends_as_it_would() {
    let mut duo = TwoControllers::met(4);
    duo.ask(0, 1, write(0, 1, 1));
    duo.ask(0, 2, write(0, 1, 2));
    duo.controllers[0].abort(LunIndex(0), NexusId(1), TaskTag(2));
    assert_eq!(duo.answers(0), [(2, Outcome::Aborted)]);
    duo.controllers[0].abort(LunIndex(0), NexusId(1), TaskTag(1));
    assert_eq!(settled(&mut duo, 0), [(1, GOOD)]);
    assert_eq!((duo.volume(0)[0], duo.volume(1)[0]), (1, 1));
}

#[test]
fn a_forwarded_command_that_main_has_not_admitted_is_cancelled_there_and_one_it_has_ends_as_it_would() {
    let (mut aborted, mut executed) = (0, 0);
    for seed in 0..200 {
        let mut duo = TwoControllers::met(seed);
        duo.ask(0, 1, write(0, 1, 1));
        duo.ask(1, 2, write(0, 1, 2));
        for _ in 0..seed % 12 {
            duo.step();
        }
        duo.controllers[1].abort(LunIndex(0), NexusId(1), TaskTag(2));
        while duo.answers(0).is_empty() {
            assert!(duo.step());
        }
        match settled(&mut duo, 1).pop() {
            Some((2, Outcome::Aborted)) => {
                aborted += 1;
                assert_eq!(duo.volume(0)[0], 1, "seed {seed}: nothing may be written after the answer");
            }
            Some((2, end)) if end == GOOD => executed += 1,
            None => executed += 1,
            other => panic!("seed {seed}: {other:?}"),
        }
        assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
    }
    assert!(aborted > 0 && executed > 0, "{aborted} aborted, {executed} executed: the test shows nothing");
}

#[test]
fn a_command_that_waits_at_the_door_is_aborted_there() {
    let mut duo = TwoControllers::met(9);
    duo.cut();
    duo.ask(0, 1, write(0, 1, 1));
    duo.controllers[0].abort(LunIndex(0), NexusId(1), TaskTag(1));
    assert_eq!(duo.answers(0), [(1, Outcome::Aborted)]);
    duo.settle(16);
    assert_eq!(duo.volume(0)[0], 0);
}

#[test]
fn a_lost_nexus_takes_with_it_what_was_not_admitted() {
    let mut duo = TwoControllers::met(5);
    duo.ask(0, 1, write(0, 1, 1));
    duo.ask(0, 2, write(0, 1, 2));
    duo.controllers[0].nexus_lost(NexusId(1));
    duo.settle(1);
    assert_eq!((duo.volume(0)[0], duo.volume(1)[0]), (1, 1));
}

#[test]
fn write_same_and_unmap_and_synchronize_cache_reach_both_copies_from_either_side() {
    for side in 0..2 {
        let mut duo = TwoControllers::met(6);
        let block = Bytes::from(vec![3; 512]);
        duo.ask(side, 1, Op::WriteSame { range: range(0, BLOCKS), block, unmap: false });
        duo.settle(0);
        duo.ask(side, 2, Op::Unmap { ranges: vec![range(2, 2), range(10, 1)] });
        duo.ask(side, 3, Op::SynchronizeCache);
        duo.settle(1);
        let volume = duo.volume(0);
        assert_eq!(volume, duo.volume(1));
        let zeros = volume.chunks(512).filter(|block| block.iter().all(|byte| *byte == 0)).count();
        assert_eq!(zeros, 3);
        assert_eq!(duo.answers(side).len(), 3);
    }
}

#[test]
fn with_little_credit_many_large_writes_of_both_sides_all_end() {
    for seed in 0..50 {
        let mut duo = TwoControllers::met(seed);
        duo.controllers.iter().for_each(|controller| controller.set_credit(1024));
        for tag in 0..40 {
            duo.ask((tag % 2) as usize, tag, write(u64::from(tag) % 8 * 8, 8, tag as u8 + 1));
        }
        duo.settle(1);
        let ends = [duo.answers(0), duo.answers(1)].concat();
        assert_eq!(ends.len(), 40, "seed {seed}");
        assert!(ends.iter().all(|(_, end)| *end == GOOD), "seed {seed}");
        assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
        let waits =
            |side: usize| duo.controllers[side].counters(LunIndex(0)).map_or(0, |met| met.credit_waits);
        assert!(waits(0) > 0 && waits(1) > 0, "nobody waited: the test shows nothing");
    }
}

#[test]
fn a_message_of_another_generation_or_by_a_strange_connection_changes_nothing() {
    let mut duo = TwoControllers::met(7);
    let apply = Message::Apply { sequence: 1, released: 1, durable: false, op: WireOp::Write(range(0, 1)) };
    let payload = Bytes::from(vec![9; 512]);
    let tag = GenerationTag { number: 1, id: 12345 };
    let head = apply.encode(0, tag, core::slice::from_ref(&payload));
    duo.controllers[1].on_frame(LinkId(0), head, payload.clone());
    let tag = duo.generation();
    let head = apply.encode(0, tag, core::slice::from_ref(&payload));
    duo.controllers[1].on_frame(LinkId(77), head, payload);
    duo.settle(1);
    assert_eq!(duo.volume(1)[0], 0);
}

#[test]
fn what_the_peer_forwards_is_checked_against_the_lun() {
    let mut duo = TwoControllers::met(8);
    let tag = duo.generation();
    for (op, bytes) in [
        (WireOp::Write(range(BLOCKS, 1)), 512),
        (WireOp::Write(range(0, 1)), 511),
        (WireOp::CompareAndWrite(range(0, 1)), 512),
        (WireOp::WriteAtomic(range(0, 2)), 512),
        (WireOp::WriteAtomic(range(BLOCKS - 1, 2)), 1024),
        (WireOp::Unmap(vec![range(0, 2), range(1, 2)]), 0),
        (WireOp::Read(range(0, 0)), 0),
    ] {
        let forward = Message::Forward { id: 1 << 16, age_ms: 0, sent: 0, durable: false, version: 0, op };
        let payload = Bytes::from(vec![9; bytes]);
        let pieces = if bytes == 0 { vec![] } else { vec![payload.clone()] };
        duo.controllers[0].on_frame(LinkId(1), forward.encode(0, tag, &pieces), payload);
    }
    duo.settle(1);
    assert_eq!(duo.volume(0), vec![0; (BLOCKS * 512) as usize]);
    assert!(duo.controllers[0].status().luns[0].serving);
}
