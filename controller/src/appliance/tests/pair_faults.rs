//! Commands about pairs beside what goes wrong: disks that fail in the middle of a switch, volumes that are not there,
//! groups that are joined, words that come too early.

use protocol::interlink::will::{PairCommand, Wanted};

use super::reasons;
use crate::appliance::PairRefusal;
use crate::command::{Command, LunIndex, NexusId, Op, Outcome, TaskTag};
use crate::disk::DiskError;
use crate::pair::{PairStatus, Role};
use crate::testing::InGroup::{No, Yes};
use crate::testing::{TwoControllers, range, write};

const GOOD: Outcome = Outcome::Good(Vec::new());

/// Ticks after which a switch, or a copy, is over.
pub(super) const DONE: u32 = 20;

pub(super) fn begin(duo: &TwoControllers, side: usize, command: PairCommand) -> Result<bool, PairRefusal> {
    duo.controllers[side].pair_command(&[0], command).remove(0)
}

pub(super) fn ask(duo: &mut TwoControllers, side: usize, command: PairCommand) -> Result<bool, PairRefusal> {
    let answer = begin(duo, side, command);
    duo.settle(DONE);
    answer
}

pub(super) fn ask_of(duo: &mut TwoControllers, side: usize, lun: usize, command: PairCommand) {
    assert_eq!(duo.controllers[side].pair_command(&[lun], command), [Ok(true)], "{command:?} of {lun}");
    duo.settle(DONE);
}

fn order(duo: &TwoControllers, side: usize, lun: u16, tag: u32, op: Op) {
    let (lun, nexus, tag, received) = (LunIndex(lun), NexusId(1), TaskTag::of(tag), duo.now());
    duo.controllers[side].command(Command { lun, nexus, tag, op, received });
}

pub(super) fn writes(duo: &mut TwoControllers, side: usize, block: u64, byte: u8) {
    duo.ask(side, u32::from(byte), write(block, 1, byte));
    duo.settle(1);
    assert_eq!(duo.answers(side), [(u32::from(byte), GOOD)], "the write of {byte} through {side}");
}

/// What a read gives, tried again while hosts are told to come again.
pub(super) fn reads(duo: &mut TwoControllers, side: usize, block: u64) -> Result<u8, String> {
    let mut last = String::new();
    for tag in 900..910 {
        duo.ask(side, tag, Op::Read { range: range(block, 1) });
        duo.settle_and_redial(5);
        match duo.answers(side).into_iter().find(|(answered, _)| *answered == tag) {
            Some((_, Outcome::Good(data))) => return Ok(data[0][0]),
            other => last = format!("{other:?}"),
        }
    }
    Err(last)
}

fn roles(duo: &TwoControllers) -> [Role; 2] {
    [0, 1].map(|side| duo.controllers[side].status().luns.remove(0).role)
}

pub(super) fn steps(duo: &mut TwoControllers, steps: u64) {
    for _ in 0..steps {
        if !duo.step() {
            duo.advance_and_tick();
        }
    }
}

fn is_durably(duo: &TwoControllers, side: usize, wanted: Wanted) -> bool {
    duo.durable(side).is_some_and(|record| record.generation.will.wanted == wanted)
}

/// Main's disk fails, and that is known there, before the generation is durable that leaves it as the only copy: the
/// other copy serves.
fn a_disk_of_main_fails_beside(command: PairCommand, wanted: Wanted, swapped: bool, early_flush: bool) {
    let mut bad = Vec::new();
    let mut met = 0;
    for seed in 0..12_u64 {
        for after in 0..40_u64 {
            let case = format!("seed {seed}, after {after} steps");
            let (main, sub) = if swapped { (1, 0) } else { (0, 1) };
            let mut duo = TwoControllers::met(seed);
            if swapped {
                ask(&mut duo, 0, PairCommand::Swap).unwrap();
            }
            writes(&mut duo, 0, 0, 1);
            if !early_flush {
                duo.stall_disk(main);
                duo.ask(main, 7, Op::Read { range: range(0, 1) });
            }
            assert_eq!(begin(&duo, sub, command), Ok(true), "{case}");
            steps(&mut duo, after);
            if early_flush {
                duo.break_disk(main, DiskError::FlushFailed);
                duo.controllers[main].announce_stop();
                while duo.flushing(main) && !is_durably(&duo, main, wanted) {
                    duo.step();
                }
            } else {
                duo.break_disk(main, DiskError::Io);
                duo.resume_disk(main);
            }
            if is_durably(&duo, main, wanted) {
                assert!(early_flush, "{case}: something was in flight");
                continue;
            }
            met += 1;
            duo.settle_and_redial(120);
            (0..2).for_each(|side| drop(duo.answers(side)));
            let read = reads(&mut duo, sub, 0);
            if read != Ok(1) {
                bad.push(format!("{case}: {read:?} {:?} {:?}", duo.statuses(), roles(&duo)));
            }
        }
    }
    assert!(met > 20, "the moment was met only {met} times");
    let shown: Vec<_> = bad.iter().take(6).collect();
    assert!(bad.is_empty(), "{} of {met}: {shown:#?}", bad.len());
}

#[test]
fn a_split_never_leaves_a_main_whose_disk_fails_as_the_only_copy() {
    a_disk_of_main_fails_beside(PairCommand::Split, Wanted::Split, false, false);
}

#[test]
fn a_delete_never_leaves_a_main_whose_disk_fails_as_the_only_copy() {
    a_disk_of_main_fails_beside(PairCommand::Delete, Wanted::Simplex, false, false);
}

#[test]
fn a_split_by_the_leader_never_leaves_a_main_whose_disk_fails_as_the_only_copy() {
    a_disk_of_main_fails_beside(PairCommand::Split, Wanted::Split, true, false);
}

#[test]
fn a_split_never_leaves_a_main_whose_early_flush_fails_as_the_only_copy() {
    a_disk_of_main_fails_beside(PairCommand::Split, Wanted::Split, false, true);
}

/// The disk of main has failed already when the leader, which does not know of it yet, proposes a split.
#[test]
fn a_split_that_crosses_with_a_failed_copy_that_leaves_does_not_keep_that_one() {
    let mut bad = Vec::new();
    for seed in 0..60_u64 {
        let mut duo = TwoControllers::met(seed);
        ask(&mut duo, 0, PairCommand::Swap).unwrap();
        writes(&mut duo, 0, 0, 1);
        duo.hold_control(true);
        duo.break_disk(1, DiskError::Io);
        duo.ask(1, 7, Op::Read { range: range(0, 1) });
        duo.settle(0);
        let begun = begin(&duo, 0, PairCommand::Split);
        duo.hold_control(false);
        duo.settle_and_redial(120);
        (0..2).for_each(|side| drop(duo.answers(side)));
        let read = reads(&mut duo, 0, 0);
        if read != Ok(1) {
            bad.push(format!("seed {seed}: {begun:?} {read:?} {:?} {:?}", duo.statuses(), roles(&duo)));
        }
    }
    assert!(bad.is_empty(), "{} {:#?}", bad.len(), &bad[..bad.len().min(4)]);
}

/// Two LUNs that were each a pair of their own, one of which is split, are joined in a group.
fn joins(first: &[PairCommand], second: &[PairCommand]) -> TwoControllers {
    let mut duo = TwoControllers::grouped_as(1, [[No, No]; 2]);
    duo.connect();
    duo.settle(DONE);
    for lun in 0..2 {
        order(&duo, 0, lun, 1, write(0, 1, 1));
        duo.settle(1);
        assert_eq!(duo.answers(0), [(1, GOOD)]);
    }
    first.iter().for_each(|command| ask_of(&mut duo, 0, 0, *command));
    second.iter().for_each(|command| ask_of(&mut duo, 0, 1, *command));
    for lun in 0..2 {
        order(&duo, 0, lun, 2, write(0, 1, 2));
        duo.settle(1);
        assert_eq!(duo.answers(0), [(2, GOOD)]);
    }
    let mut duo = duo.crash_regrouped(2, [[Yes, Yes]; 2]);
    duo.connect();
    duo.settle(DONE);
    duo
}

#[test]
fn a_split_image_stays_when_its_lun_joins_one_with_a_newer_generation() {
    let newer = [PairCommand::Swap, PairCommand::Swap, PairCommand::Swap, PairCommand::Swap];
    let mut duo = joins(&[PairCommand::Split], &newer);
    assert_eq!(duo.volumes(1)[0][0], 1, "the image is as it was");
    let why = reasons(&duo);
    assert_eq!(duo.statuses(), [PairStatus::Split; 2], "what a person wanted: {why:?}");
    // Another meeting.
    duo.cut();
    duo.settle(5);
    duo.connect();
    duo.settle(60);
    assert_eq!(duo.volumes(1)[0][0], 1, "nobody asked for a resync; {:?}", duo.statuses());
}

#[test]
fn a_split_image_stays_when_its_lun_joins_one_with_a_newer_generation_and_the_two_meet_again() {
    let newer = [PairCommand::Swap, PairCommand::Swap, PairCommand::Swap, PairCommand::Swap];
    let mut duo = joins(&[PairCommand::Split], &newer);
    duo.cut();
    duo.settle(5);
    duo.connect();
    duo.settle(60);
    assert_eq!(duo.volumes(1)[0][0], 1, "nobody asked for a resync; {:?}", duo.statuses());
}

#[test]
fn a_split_image_stays_when_its_lun_joins_an_older_one() {
    let duo = joins(&[PairCommand::Split], &[]);
    assert_eq!(duo.volumes(1)[0][0], 1, "the image is as it was");
    assert_eq!(duo.statuses(), [PairStatus::Split; 2], "{:?}", reasons(&duo));
}

/// As soon as a controller says that a command has begun, it is carried out, if nothing goes wrong.
#[test]
fn what_is_said_to_have_begun_is_done() {
    let mut bad = Vec::new();
    for seed in 0..20_u64 {
        for after in 0..160_u64 {
            for command in [PairCommand::Swap, PairCommand::Split] {
                for side in 0..2 {
                    let mut duo = TwoControllers::met(seed);
                    // The follower is main.
                    ask(&mut duo, 0, PairCommand::Swap).unwrap();
                    duo.cut();
                    duo.settle(30);
                    duo.connect();
                    for _ in 0..after {
                        duo.step();
                    }
                    let before = roles(&duo);
                    let status = duo.statuses();
                    if begin(&duo, side, command) != Ok(true) {
                        continue;
                    }
                    duo.settle(DONE);
                    let done = match command {
                        PairCommand::Swap => roles(&duo) != before,
                        _ => duo.statuses() == [PairStatus::Split; 2],
                    };
                    if !done {
                        let now = duo.statuses();
                        bad.push(format!(
                            "seed {seed} after {after} {command:?} at {side}: {status:?} {now:?}"
                        ));
                    }
                }
            }
        }
    }
    assert!(bad.is_empty(), "{} {:#?}", bad.len(), &bad[..bad.len().min(6)]);
}

/// A command that came to nothing because its controller had no place yet makes no copy old.
#[test]
fn a_command_that_comes_to_nothing_makes_no_copy_old() {
    let mut bad = Vec::new();
    let mut met = 0;
    for seed in 0..30_u64 {
        for after in 0..160_u64 {
            let mut duo = TwoControllers::met(seed);
            ask(&mut duo, 0, PairCommand::Swap).unwrap();
            writes(&mut duo, 0, 0, 1);
            duo.controllers[1].stop();
            duo.controllers[0].stop();
            duo.settle(60);
            let mut duo = duo.crash(seed + 50, true);
            duo.connect();
            for _ in 0..after {
                duo.step();
            }
            let before = roles(&duo);
            if begin(&duo, 1, PairCommand::Swap) != Ok(true) {
                continue;
            }
            duo.settle(DONE);
            if roles(&duo) != before {
                continue;
            }
            met += 1;
            // Again, and now the one that becomes main writes it down, and nobody else.
            duo.hold_records(Some(1));
            assert_eq!(begin(&duo, 1, PairCommand::Swap), Ok(true));
            while duo.step() {}
            duo.advance_and_tick();
            while duo.step() {}
            duo.cut();
            duo.hold_records(None);
            duo.connect();
            duo.settle(2);
            if duo.statuses() != [PairStatus::Duplex; 2] && duo.statuses() != [PairStatus::Copy; 2] {
                continue;
            }
            // The one that has just written it down lost its memory and what was not flushed.
            if duo.durable(0).map(|it| it.generation.members) == Some(1) {
                bad.push(format!("seed {seed} after {after}: {:?}", duo.statuses()));
            }
        }
    }
    assert!(bad.is_empty(), "{} of {met} {:#?}", bad.len(), &bad[..bad.len().min(6)]);
}

/// A deleted pair is made again only by a person, also where the disk of the copy that was left was full then.
#[test]
fn a_pair_that_was_deleted_while_its_copy_found_no_room_is_not_refilled() {
    let mut bad = Vec::new();
    let mut met = 0;
    for seed in 0..40_u64 {
        for after in 0..40_u64 {
            let case = format!("seed {seed}, after {after} steps");
            let mut duo = TwoControllers::sized(seed, 8192);
            duo.connect();
            duo.settle(1);
            assert_eq!(ask(&mut duo, 0, PairCommand::Split), Ok(true));
            assert_eq!(begin(&duo, 1, PairCommand::Resync), Ok(true));
            steps(&mut duo, 20 + seed);
            if duo.statuses() != [PairStatus::Copy; 2] {
                continue;
            }
            (0..4).for_each(|tag| duo.ask(0, 10 + tag, write(u64::from(tag), 1, 9)));
            let deleted = begin(&duo, 1, PairCommand::Delete);
            steps(&mut duo, after);
            duo.break_disk(1, DiskError::Full);
            duo.settle_and_redial(10);
            if deleted != Ok(true) || duo.statuses() != [PairStatus::Simplex; 2] {
                continue;
            }
            met += 1;
            duo.mend_disk(1);
            duo.settle_and_redial(120);
            if duo.statuses() != [PairStatus::Simplex; 2] {
                bad.push(format!("{case}: {:?}", duo.statuses()));
            }
        }
    }
    assert!(bad.is_empty(), "{} of {met} {:#?}", bad.len(), &bad[..bad.len().min(6)]);
}

/// What a person is told of a split copy whose main is away.
#[test]
fn a_split_copy_is_said_to_be_an_image_also_while_its_main_is_away() {
    let mut duo = TwoControllers::met(1);
    writes(&mut duo, 0, 0, 1);
    ask(&mut duo, 0, PairCommand::Split).unwrap();
    duo.cut();
    duo.settle(DONE);
    let [_, sub] = reasons(&duo);
    assert!(!sub.contains("is no image of the LUN"), "{sub}");
    let mut duo = duo.crash(2, true);
    duo.settle(DONE);
    let [_, sub] = reasons(&duo);
    assert!(!sub.contains("is no image of the LUN"), "{sub}");
    duo.connect();
    duo.settle(1);
}

/// An image whose flush failed is none.
#[test]
fn a_split_copy_that_could_not_be_flushed_is_not_said_to_be_an_image() {
    let (mut left, mut split) = (0, 0);
    for seed in 0..4 {
        for after in 0..50 {
            let case = format!("seed {seed}, after {after} steps");
            let mut duo = TwoControllers::met(seed);
            writes(&mut duo, 0, 0, 1);
            assert_eq!(begin(&duo, 1, PairCommand::Split), Ok(true));
            steps(&mut duo, after);
            if duo.statuses().contains(&PairStatus::Split) {
                continue;
            }
            duo.break_disk(1, DiskError::FlushFailed);
            duo.settle_and_redial(DONE);
            let statuses = duo.statuses();
            if statuses == [PairStatus::Suspended; 2] {
                left += 1;
                continue;
            }
            assert_eq!(statuses, [PairStatus::Split; 2], "{case}");
            let [main, sub] = reasons(&duo);
            let whole = !main.contains("no image of the LUN");
            assert_eq!(whole, !sub.contains("no image of the LUN"), "{case}: {main} {sub}");
            assert!(!whole || !duo.changing(1).1, "{case}: {main}");
            split += u32::from(!whole);
        }
    }
    assert!(left > 0 && split > 0, "the pair is left {left} times, split without an image {split} times");
}

/// SPLIT says that there is an image, and a crash of the other machine does not take it away.
#[test]
fn a_pair_is_not_said_to_be_split_before_its_image_is_on_its_disk() {
    for seed in 0..4 {
        for after in 0..40 {
            let mut duo = TwoControllers::met(seed);
            writes(&mut duo, 0, 0, 1);
            assert_eq!(begin(&duo, 1, PairCommand::Split), Ok(true));
            steps(&mut duo, after);
            // Perhaps after what was there was flushed ahead.
            duo.ask(0, 50, write(3, 1, 50));
            for _ in 0..400 {
                if duo.statuses() == [PairStatus::Split; 2] {
                    break;
                }
                steps(&mut duo, 1);
            }
            assert_eq!(duo.statuses(), [PairStatus::Split; 2], "seed {seed} after {after}");
            assert!(!duo.changing(1).1, "seed {seed} after {after}: it is not on its disk");
        }
    }
}
