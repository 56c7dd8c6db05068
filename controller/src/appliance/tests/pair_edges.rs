//! What a person asks of pairs, where it meets what is rare: disks that are slow, that fail at the end of a split or
//! while main writes it down, volumes that were put back, words that come early.

use std::collections::BTreeSet;

use protocol::interlink::will::{PairCommand, Wanted};
use protocol::scsi::sense::Status;

use super::pair_faults::{DONE, ask, begin, steps, writes};
use super::reasons;
use crate::appliance::PairRefusal;
use crate::command::{LunIndex, Op, Outcome};
use crate::disk::DiskError;
use crate::pair::{PairFault, PairStatus, Role};
use crate::testing::{BLOCKS, TwoControllers, range, write};

/// Ticks that take longer than any switch but a split may.
const STALL: u32 = 80;

fn images(duo: &TwoControllers) -> [Option<bool>; 2] {
    [0, 1].map(|side| duo.controllers[side].status().luns.remove(0).image)
}

fn roles(duo: &TwoControllers) -> [Role; 2] {
    [0, 1].map(|side| duo.controllers[side].status().luns.remove(0).role)
}

fn is_durably(duo: &TwoControllers, side: usize, wanted: Wanted) -> bool {
    duo.durable(side).is_some_and(|record| record.generation.will.wanted == wanted)
}

fn cut_and_meet_again(duo: &mut TwoControllers) {
    duo.cut();
    duo.settle(DONE);
    duo.connect();
    duo.settle_and_redial(60);
}

/// What came of a read while nobody dials, if it was answered well.
fn read(duo: &mut TwoControllers, side: usize, block: u64) -> Option<u8> {
    drop(duo.answers(side));
    duo.ask(side, 901, Op::Read { range: range(block, 1) });
    duo.settle(5);
    duo.answers(side).into_iter().find_map(|(tag, outcome)| match outcome {
        Outcome::Good(data) if tag == 901 => Some(data[0][0]),
        _ => None,
    })
}

/// A split that its sub did not survive: there is no image. Another meeting makes none.
#[test]
fn what_is_no_image_does_not_become_one_by_another_meeting() {
    let (mut met, mut bad) = (0, Vec::new());
    for seed in 0..6 {
        for after in 0..80 {
            let mut duo = TwoControllers::met(seed);
            writes(&mut duo, 0, 0, 1);
            begin(&duo, 1, PairCommand::Split).unwrap();
            steps(&mut duo, after);
            if !is_durably(&duo, 0, Wanted::Split) || is_durably(&duo, 1, Wanted::Split) {
                continue;
            }
            let mut duo = duo.crash_one(seed + 100, 1);
            duo.connect();
            duo.settle_and_redial(60);
            if images(&duo) != [Some(false); 2] {
                continue;
            }
            met += 1;
            cut_and_meet_again(&mut duo);
            if images(&duo) != [Some(false); 2] {
                bad.push(format!("seed {seed} after {after}: {:?} {:?}", images(&duo), duo.statuses()));
            }
        }
    }
    assert!(met > 0 && bad.is_empty(), "{} of {met}: {:#?}", bad.len(), &bad[..bad.len().min(3)]);
}

/// The same of a volume that was put back from a backup under a split pair.
#[test]
fn a_volume_that_was_put_back_does_not_become_an_image_by_another_meeting() {
    let mut duo = TwoControllers::met(1);
    writes(&mut duo, 0, 0, 1);
    let (_, volumes) = duo.kept(1);
    let mut duo = duo.crash(100, true);
    duo.connect();
    duo.settle(60);
    writes(&mut duo, 0, 0, 2);
    ask(&mut duo, 0, PairCommand::Split).unwrap();
    duo.put_back(1, None, Some(volumes));
    let mut duo = duo.crash_one(200, 1);
    duo.connect();
    duo.settle_and_redial(60);
    assert_eq!((duo.statuses(), duo.volume(1)[0]), ([PairStatus::Split; 2], 1));
    assert_eq!(images(&duo), [Some(false); 2], "it is older than the split");
    cut_and_meet_again(&mut duo);
    assert_eq!((images(&duo), duo.volume(1)[0]), ([Some(false); 2], 1), "{:?}", reasons(&duo));
}

/// Folder and volume of the sub are put back from a backup that was made when both had ended cleanly.
#[test]
fn a_copy_that_was_put_back_with_its_folder_is_no_image() {
    let mut duo = TwoControllers::met(1);
    writes(&mut duo, 0, 0, 1);
    duo.controllers[1].stop();
    duo.controllers[0].stop();
    duo.settle(60);
    let (records, volumes) = duo.kept(1);
    let mut duo = duo.crash(100, true);
    duo.connect();
    duo.settle(60);
    assert_eq!(duo.statuses(), [PairStatus::Duplex; 2]);
    writes(&mut duo, 0, 0, 2);
    ask(&mut duo, 0, PairCommand::Split).unwrap();
    duo.put_back(1, Some(records), Some(volumes));
    let mut duo = duo.crash_one(200, 1);
    duo.connect();
    duo.settle_and_redial(60);
    assert_eq!(duo.volume(1)[0], 1);
    assert!(!images(&duo).contains(&Some(true)), "{:?} {:?}", images(&duo), reasons(&duo));
}

/// Folder and volume of the sub are put back from a time before the split, and main's volume is not there (not
/// mounted): what main's hosts wrote since is not forgotten.
#[test]
fn a_copy_that_was_put_back_is_not_served_in_place_of_a_split_main() {
    for command in [PairCommand::Split, PairCommand::Delete] {
        let mut duo = TwoControllers::met(1);
        writes(&mut duo, 0, 0, 1);
        let (records, volumes) = duo.kept(1);
        ask(&mut duo, 0, command).unwrap();
        writes(&mut duo, 0, 0, 2);
        let (_, mains) = duo.kept(0);
        duo.remove_volume(0);
        duo.put_back(1, Some(records), Some(volumes));
        let mut duo = duo.crash(100, true);
        duo.connect();
        duo.settle_and_redial(60);
        let served = [0, 1].map(|side| read(&mut duo, side, 0));
        // It is mounted again.
        duo.put_back(0, None, Some(mains));
        let mut duo = duo.crash(200, true);
        duo.connect();
        duo.settle_and_redial(60);
        let left = duo.volume(0)[0];
        let case = format!("{command:?}: {:?} {:?}", duo.statuses(), reasons(&duo));
        assert!(!served.contains(&Some(1)) && left == 2, "served {served:?}, left {left}; {case}");
    }
}

/// Main's disk fails while its generation of a split is being written, which becomes durable all the same: the two
/// part, and main takes it back. Whoever is started again, it does not go on by it, and nothing that was answered is
/// lost.
#[test]
fn a_main_whose_disk_fails_while_the_split_is_written_never_goes_on_by_it() {
    let mut met = 0;
    for seed in 0..8 {
        for after in 0..60 {
            for restarted in [[true, false], [true, true], [false, false]] {
                let case = format!("seed {seed} after {after} {restarted:?}");
                let mut duo = TwoControllers::met(seed);
                // What main has answered is gone from its disk.
                duo.forgetful_disk(0);
                writes(&mut duo, 0, 0, 1);
                begin(&duo, 1, PairCommand::Split).unwrap();
                steps(&mut duo, after);
                if is_durably(&duo, 0, Wanted::Split) {
                    continue;
                }
                let generation = duo.controllers[0].generation(LunIndex(0)).unwrap();
                let fault = PairFault::OwnDisk(DiskError::FlushFailed);
                duo.controllers[0].with_appliance(|appliance| appliance.on_broken(0, fault, generation));
                let newest = duo.durable(0).map(|record| record.generation.number);
                duo.cut();
                while duo.step() {}
                let record = duo.durable(0).unwrap().generation;
                assert_eq!((record.members, record.will.wanted), (0b11, Wanted::Pair), "{case}");
                let taken_back = newest.is_some_and(|newest| record.number > newest + 1);
                met += u32::from(taken_back);
                let mut duo = match restarted {
                    [true, true] => duo.crash(seed + 500, true),
                    [true, false] => duo.crash_one(seed + 500, 0),
                    _ => duo,
                };
                duo.settle(60);
                let serving =
                    |duo: &TwoControllers, side: usize| duo.controllers[side].status().luns.remove(0).serving;
                assert!(!taken_back || !serving(&duo, 0), "{case}: alone, by a copy that has failed");
                duo.connect();
                duo.settle_and_redial(60);
                if restarted != [true, true] {
                    let served = [0, 1].map(|side| read(&mut duo, side, 0));
                    assert_eq!(served, [Some(1); 2], "{case}: {:?}", duo.statuses());
                }
            }
        }
    }
    assert!(met > 20, "it was taken back {met} times");
}

/// The flush in the switch takes longer than any other switch may: nothing of the copy is lost.
#[test]
fn a_slow_flush_in_a_split_costs_no_image() {
    let (mut met, mut bad) = (0, Vec::new());
    for seed in 0..10 {
        let mut duo = TwoControllers::met(seed);
        writes(&mut duo, 0, 0, 1);
        begin(&duo, 1, PairCommand::Split).unwrap();
        let in_switch = |duo: &TwoControllers| {
            is_durably(duo, 0, Wanted::Split) && !is_durably(duo, 1, Wanted::Split) && duo.flushing(1)
        };
        for _ in 0..400 {
            if in_switch(&duo) {
                break;
            }
            steps(&mut duo, 1);
        }
        if !in_switch(&duo) {
            continue;
        }
        met += 1;
        duo.stall_disk(1);
        duo.settle(STALL);
        duo.resume_disk(1);
        duo.settle(DONE);
        let [main, sub] = reasons(&duo);
        if duo.statuses() != [PairStatus::Split; 2] || images(&duo) != [Some(true); 2] {
            bad.push(format!("seed {seed}: {:?} {:?} {main} / {sub}", duo.statuses(), images(&duo)));
        }
    }
    assert!(met > 0 && bad.is_empty(), "{} of {met}: {:#?}", bad.len(), &bad[..bad.len().min(2)]);
}

/// The statuses that the second LUN has on both while all gets on.
fn statuses_of_the_second(duo: &mut TwoControllers) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for _ in 0..3000 {
        steps(duo, 1);
        if (0..2).any(|side| duo.has_closed_control(side)) {
            duo.cut();
            duo.connect();
        }
        for side in 0..2 {
            seen.insert(format!("{:?}", duo.controllers[side].status().luns.remove(1).status));
        }
    }
    seen
}

/// A copy that is made for one pair does not cost another its second copy.
#[test]
fn a_pair_that_is_made_again_does_not_have_another_copied() {
    let mut duo = TwoControllers::two_luns(1, BLOCKS);
    duo.connect();
    duo.settle(DONE);
    ask(&mut duo, 0, PairCommand::Delete).unwrap();
    duo.remove_volume_of(1, 0);
    let mut duo = duo.crash_of_two(100);
    duo.connect();
    duo.settle_and_redial(60);
    let before: Vec<_> = duo.controllers[0].status().luns.iter().map(|lun| lun.status).collect();
    assert_eq!(before, [PairStatus::Simplex, PairStatus::Duplex]);
    begin(&duo, 0, PairCommand::Create).unwrap();
    let seen = statuses_of_the_second(&mut duo);
    assert!(!seen.contains("Copy"), "{seen:?}");
    assert_eq!(duo.statuses(), [PairStatus::Suspended; 2], "it is made when somebody has the two meet");
    let reasons = reasons(&duo);
    assert!(reasons.iter().all(|reason| reason.contains("Start beta again at a quiet time")), "{reasons:?}");
    let mut duo = duo.crash_one_of_two(200, 1);
    duo.connect();
    duo.settle_and_redial(60);
    let after: Vec<_> = duo.controllers[0].status().luns.iter().map(|lun| lun.status).collect();
    assert_eq!(after, [PairStatus::Duplex; 2]);
}

/// The disk of an image fails: what has nothing to do with it goes on.
#[test]
fn the_disk_of_an_image_that_fails_does_not_have_another_pair_copied() {
    let mut duo = TwoControllers::two_luns(1, BLOCKS);
    duo.connect();
    duo.settle(DONE);
    ask(&mut duo, 0, PairCommand::Split).unwrap();
    let generation = duo.controllers[1].generation(LunIndex(0)).unwrap();
    let fault = PairFault::OwnDisk(DiskError::FlushFailed);
    duo.controllers[1].with_appliance(|appliance| appliance.on_broken(0, fault, generation));
    let seen = statuses_of_the_second(&mut duo);
    assert!(!seen.contains("Copy"), "{seen:?}");
}

/// The sub goes away just when its volume is to be made: no disk has failed.
#[test]
fn a_pair_whose_copy_is_to_be_made_is_not_said_to_have_a_failed_disk() {
    let mut duo = TwoControllers::met(1);
    ask(&mut duo, 0, PairCommand::Delete).unwrap();
    duo.remove_volume(1);
    let mut duo = duo.crash(100, true);
    duo.connect();
    duo.settle_and_redial(60);
    begin(&duo, 0, PairCommand::Create).unwrap();
    for _ in 0..400 {
        steps(&mut duo, 1);
        if duo.statuses()[0] == PairStatus::Suspended {
            break;
        }
    }
    assert_eq!(duo.statuses()[0], PairStatus::Suspended);
    duo.cut();
    duo.settle(DONE);
    let [main, _] = reasons(&duo);
    assert!(!main.contains("disk of beta failed"), "{main}");
}

/// Two commands, one after the other, at a leader that has just begun, while the other still writes down that it has.
#[test]
fn commands_that_come_early_are_all_heard() {
    for seed in 0..30 {
        for last in [PairCommand::Split, PairCommand::Delete] {
            let case = format!("seed {seed} {last:?}");
            let mut duo = TwoControllers::met(seed);
            ask(&mut duo, 0, PairCommand::Swap).unwrap();
            duo.controllers[1].stop();
            duo.controllers[0].stop();
            duo.settle(60);
            let mut duo = duo.crash(seed + 50, true);
            duo.connect();
            let serving =
                |duo: &TwoControllers, side: usize| duo.controllers[side].status().luns.remove(0).serving;
            for _ in 0..400 {
                if serving(&duo, 0) {
                    break;
                }
                steps(&mut duo, 1);
            }
            // The other waits for its record.
            duo.hold_records(Some(1));
            assert_eq!(begin(&duo, 0, PairCommand::Swap), Ok(true), "{case}");
            assert_eq!(begin(&duo, 0, last), Err(PairRefusal::Busy), "{case}: one after the other");
            duo.settle(0);
            duo.hold_records(None);
            duo.settle(DONE);
            assert_eq!(roles(&duo), [Role::Main, Role::Sub], "{case}");
            assert_eq!(ask(&mut duo, 0, last), Ok(true), "{case}");
            assert!([PairStatus::Split, PairStatus::Simplex].contains(&duo.statuses()[0]), "{case}");
        }
    }
}

/// The disk of the copy that is left fails when its image is on it, before the switch is over: main does not say that
/// there is an image for ever, nor that a resync has begun.
#[test]
fn an_image_whose_disk_fails_at_the_end_of_its_split_is_told_to_main() {
    let (mut met, mut bad) = (0, Vec::new());
    for seed in 0..6 {
        for after in 0..80 {
            let mut duo = TwoControllers::met(seed);
            writes(&mut duo, 0, 0, 1);
            begin(&duo, 1, PairCommand::Split).unwrap();
            steps(&mut duo, after);
            // It writes the generation down, or has: everything is flushed.
            let last = is_durably(&duo, 0, Wanted::Split) && !duo.flushing(1) && !duo.changing(1).1;
            if !last || duo.statuses()[1] == PairStatus::Split {
                continue;
            }
            let generation = duo.controllers[1].generation(LunIndex(0)).unwrap();
            let fault = PairFault::OwnDisk(DiskError::FlushFailed);
            duo.controllers[1].with_appliance(|appliance| appliance.on_broken(0, fault, generation));
            duo.settle_and_redial(200);
            if duo.statuses() != [PairStatus::Split; 2] {
                continue;
            }
            met += 1;
            let [main, sub] = images(&duo);
            if main != sub {
                let resync = begin(&duo, 0, PairCommand::Resync);
                duo.settle_and_redial(300);
                bad.push(format!(
                    "seed {seed} after {after}: {main:?} {sub:?} {resync:?} {:?}",
                    duo.statuses()
                ));
            }
        }
    }
    assert!(met > 0 && bad.is_empty(), "{} of {met}: {:#?}", bad.len(), &bad[..bad.len().min(3)]);
}

/// `twinlun pair split` says after a minute that it is not done: then it is not done later.
#[test]
fn a_split_does_not_begin_after_the_person_was_told_that_it_is_not_done() {
    let mut duo = TwoControllers::met(1);
    writes(&mut duo, 0, 0, 1);
    duo.stall_disk(1);
    begin(&duo, 0, PairCommand::Split).unwrap();
    duo.settle(4);
    for side in 0..2 {
        assert_eq!(begin(&duo, side, PairCommand::Resync), Err(PairRefusal::Busy), "through {side}");
        assert_eq!(begin(&duo, side, PairCommand::Split), Ok(true), "it is under way");
    }
    duo.resume_disk(1);
    duo.settle(DONE);
    assert_eq!(duo.statuses(), [PairStatus::Split; 2]);
}

/// A resync that has nothing to do, while a split is under way: the pair is not split afterwards.
/// While something is asked, nothing else is.
#[test]
fn what_is_said_to_be_so_already_is_not_undone_by_an_earlier_command() {
    let mut duo = TwoControllers::met(1);
    writes(&mut duo, 0, 0, 1);
    duo.stall_disk(1);
    begin(&duo, 0, PairCommand::Split).unwrap();
    duo.settle(4);
    let resync = begin(&duo, 0, PairCommand::Resync);
    duo.resume_disk(1);
    duo.settle(DONE);
    assert_ne!((resync, duo.statuses()), (Ok(false), [PairStatus::Split; 2]), "nothing to do, it is duplex");
}

/// The same where hosts of both write meanwhile: they are answered, or told to try again.
#[test]
fn hosts_hear_no_error_of_a_slow_flush_in_a_split() {
    let (mut met, mut bad) = (0, Vec::new());
    for seed in 0..10 {
        let mut duo = TwoControllers::met(seed);
        writes(&mut duo, 0, 0, 1);
        begin(&duo, 1, PairCommand::Split).unwrap();
        for _ in 0..400 {
            if is_durably(&duo, 0, Wanted::Split) {
                break;
            }
            steps(&mut duo, 1);
        }
        if is_durably(&duo, 1, Wanted::Split) {
            continue;
        }
        met += 1;
        duo.ask(0, 41, write(2, 1, 41));
        duo.ask(1, 42, write(3, 1, 42));
        duo.stall_disk(1);
        duo.settle(STALL);
        duo.resume_disk(1);
        duo.settle(DONE);
        let answers = [duo.answers(0), duo.answers(1)];
        let good = [Outcome::Good(Vec::new()), Outcome::Status(Status::Busy)];
        if !answers.iter().flatten().all(|(_, outcome)| good.contains(outcome)) {
            bad.push(format!("seed {seed}: {answers:?}"));
        }
    }
    assert!(met > 0 && bad.is_empty(), "{} of {met}: {:#?}", bad.len(), &bad[..bad.len().min(3)]);
}
