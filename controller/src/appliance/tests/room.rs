//! Disks that are full, and have room again.

use crate::command::{Op, Outcome};
use crate::disk::DiskError;
use crate::pair::{PairStatus, Role};
use crate::testing::{BLOCKS, TwoControllers, blocks_of, range, write};
use crate::unit::Controller;
use protocol::scsi::sense::Sense;

const GOOD: Outcome = Outcome::Good(Vec::new());
const NO_ROOM: Outcome = Outcome::Check(Sense::SPACE_ALLOCATION_FAILED);

fn places(duo: &TwoControllers) -> [(PairStatus, Role); 2] {
    duo.controllers.each_ref().map(|controller| {
        let lun = controller.status().luns.remove(0);
        (lun.status, lun.role)
    })
}

fn met(seed: u64) -> TwoControllers {
    met_sized(seed, BLOCKS)
}

fn met_sized(seed: u64, blocks: u64) -> TwoControllers {
    let mut duo = TwoControllers::sized(seed, blocks);
    duo.connect();
    duo.settle(1);
    duo.ask(0, 1, write(0, BLOCKS, 5));
    duo.settle(1);
    assert_eq!(duo.answers(0), [(1, GOOD)]);
    duo
}

/// How a command ends.
fn end(duo: &mut TwoControllers, side: usize, tag: u32, op: Op) -> Outcome {
    duo.ask(side, tag, op);
    duo.settle(4);
    let mut answers = duo.answers(side);
    let at = answers.iter().position(|(answered, _)| *answered == tag).expect("no answer");
    answers.swap_remove(at).1
}

/// Both are DUPLEX and the same, by themselves.
fn are_well_again(duo: &mut TwoControllers, what: &str) {
    duo.settle(200);
    assert_eq!(places(duo).map(|(status, _)| status), [PairStatus::Duplex; 2], "{what}: {:?}", {
        duo.controllers.each_ref().map(|controller| controller.status().luns.remove(0).reason)
    });
    assert_eq!(places(duo)[0].1, Role::Main, "{what}");
    assert!(duo.volume(0) == duo.volume(1), "{what}: the copies differ");
}

#[test]
fn with_both_disks_full_a_write_hears_of_it_reads_go_on_and_room_is_noticed_without_a_restart() {
    for seed in 0..60 {
        for side in 0..2 {
            let mut duo = met(seed);
            (0..2).for_each(|side| duo.break_disk(side, DiskError::Full));
            duo.ask(side, 2, write(3, 1, 7));
            duo.settle(8);
            // While the pair was being decided on the first may have ended without that word.
            for tag in 3..5 {
                let ended = end(&mut duo, side, tag, write(3, 1, 7));
                assert_eq!(ended, NO_ROOM, "seed {seed} side {side}");
            }
            for reader in 0..2 {
                let read = end(&mut duo, reader, 9, Op::Read { range: range(8, 2) });
                assert_eq!(read, Outcome::Good(blocks_of(5, 2)), "seed {seed}");
            }
            (0..2).for_each(|side| duo.mend_disk(side));
            assert_eq!(end(&mut duo, side, 10, write(3, 1, 7)), GOOD, "seed {seed} side {side}");
            are_well_again(&mut duo, &format!("seed {seed} side {side}"));
        }
    }
}

#[test]
fn with_one_disk_full_the_other_copy_serves_the_hosts_of_both_and_room_is_noticed() {
    for seed in 0..60 {
        for full in 0..2 {
            let mut duo = met(seed);
            duo.break_disk(full, DiskError::Full);
            duo.ask(0, 2, write(3, 1, 7));
            duo.settle(8);
            for side in 0..2 {
                assert_eq!(end(&mut duo, side, 3, write(4, 1, 8)), GOOD, "seed {seed} full {full}");
            }
            let out = duo.controllers[full].status().luns.remove(0);
            assert_eq!((out.status, out.role, out.serving), (PairStatus::Suspended, Role::Sub, true));
            assert!(out.reason.is_some_and(|reason| reason.contains("is full")), "seed {seed}");
            duo.mend_disk(full);
            are_well_again(&mut duo, &format!("seed {seed} full {full}"));
        }
    }
}

#[test]
fn two_full_disks_that_lose_each_other_at_any_moment_are_no_lost_lun() {
    for seed in 0..60 {
        for steps in 0..16 {
            let mut duo = met(seed);
            (0..2).for_each(|side| duo.break_disk(side, DiskError::Full));
            (0..2).for_each(|side| duo.ask(side, 2, write(3 + side as u64, 1, 7)));
            (0..steps).for_each(|_| {
                duo.step();
            });
            duo.cut();
            duo.settle(2);
            duo.connect();
            duo.settle(30);
            let served = duo.controllers.each_ref().map(|controller| controller.status().luns[0].serving);
            assert_eq!(served, [true; 2], "seed {seed} steps {steps}");
            (0..2).for_each(|side| duo.mend_disk(side));
            are_well_again(&mut duo, &format!("seed {seed} steps {steps}"));
        }
    }
}

#[test]
fn a_main_that_is_full_and_loses_its_peer_says_so_and_goes_on_when_there_is_room() {
    for seed in 0..60 {
        for before in [false, true] {
            let mut duo = met(seed);
            duo.break_disk(1, DiskError::Full);
            if before {
                // Its copy is about to leave.
                duo.ask(0, 2, write(3, 1, 7));
                (0..seed % 12).for_each(|_| {
                    duo.step();
                });
            }
            duo.cut();
            duo.break_disk(0, DiskError::Full);
            duo.settle(40);
            let served = duo.controllers[0].status().luns.remove(0);
            assert_eq!((served.role, served.serving), (Role::Main, true), "seed {seed} {:?}", served.reason);
            assert_eq!(end(&mut duo, 0, 3, write(3, 1, 7)), NO_ROOM, "seed {seed}");
            assert!(matches!(end(&mut duo, 0, 4, Op::Read { range: range(3, 1) }), Outcome::Good(_)));
            duo.mend_disk(0);
            assert_eq!(end(&mut duo, 0, 5, write(3, 1, 8)), GOOD, "seed {seed}");
            duo.mend_disk(1);
            duo.connect();
            are_well_again(&mut duo, &format!("seed {seed} before {before}"));
        }
    }
}

#[test]
fn a_main_whose_copy_is_about_to_leave_for_want_of_room_never_goes_on_beside_its_peer() {
    let mut went_on = 0;
    for seed in 0..60 {
        for steps in 0..24 {
            let mut duo = met(seed);
            duo.break_disk(0, DiskError::Full);
            duo.ask(0, 2, write(3, 1, 7));
            (0..steps).for_each(|_| {
                if !duo.step() {
                    duo.advance();
                    duo.controllers.iter().for_each(Controller::on_tick);
                }
            });
            duo.cut();
            duo.settle(40);
            let mains = duo.controllers.each_ref().map(|controller| {
                let lun = controller.status().luns.remove(0);
                u32::from(lun.role == Role::Main && lun.serving)
            });
            assert_ne!(mains, [1, 1], "seed {seed} steps {steps}: two histories");
            went_on += mains[1];
            duo.mend_disk(0);
            duo.connect();
            are_well_again(&mut duo, &format!("seed {seed} steps {steps}"));
        }
    }
    assert!(went_on > 10, "beta went on {went_on} times: the test shows nothing");
}

#[test]
fn the_only_whole_copy_stays_main_when_it_finds_no_room_while_the_other_is_refilled() {
    // In pieces enough that most of the copy is still to come.
    const MANY: u64 = 12 * 2048;
    let mut met_it = 0;
    for seed in 0..40 {
        let mut duo = met_sized(seed, MANY);
        duo.break_disk(1, DiskError::Full);
        duo.ask(0, 2, write(3, 1, 7));
        duo.settle(8);
        duo.mend_disk(1);
        while places(&duo)[0].0 != PairStatus::Copy {
            if !duo.step() {
                duo.advance();
                duo.controllers.iter().for_each(Controller::on_tick);
            }
        }
        (0..seed % 5).for_each(|_| {
            duo.step();
        });
        duo.break_disk(0, DiskError::Full);
        for side in 0..2 {
            duo.ask(side, 11, write(7, 1, 9));
        }
        while duo.step() {}
        let ended: Vec<Outcome> = (0..2).flat_map(|side| duo.answers(side)).map(|(_, end)| end).collect();
        met_it += usize::from(ended.contains(&NO_ROOM));
        duo.mend_disk(0);
        are_well_again(&mut duo, &format!("seed {seed}"));
    }
    assert!(met_it > 10, "{met_it} seeds met the moment: the test shows nothing");
}

#[test]
fn a_peer_that_is_lost_while_its_copy_comes_back_keeps_nobody_from_being_served() {
    for seed in 0..40 {
        for steps in 0..14 {
            let mut duo = met(seed);
            duo.break_disk(1, DiskError::Full);
            duo.ask(0, 2, write(3, 1, 7));
            duo.settle(8);
            duo.mend_disk(1);
            // The rest before the try, and into it.
            duo.settle(19);
            duo.advance();
            duo.controllers.iter().for_each(Controller::on_tick);
            (0..steps).for_each(|_| {
                duo.step();
            });
            duo.cut();
            duo.settle(40);
            assert_eq!(end(&mut duo, 0, 3, write(3, 1, 9)), GOOD, "seed {seed} steps {steps}");
            duo.connect();
            are_well_again(&mut duo, &format!("seed {seed} steps {steps}"));
        }
    }
}

mod full_and_then_failed {
    use crate::command::{LunIndex, Op, Outcome};
    use crate::disk::DiskError;
    use crate::testing::{BLOCKS, TwoControllers, write};

    const GOOD: Outcome = Outcome::Good(Vec::new());

    fn met(seed: u64) -> TwoControllers {
        let mut duo = TwoControllers::new(seed, true);
        duo.connect();
        duo.settle(1);
        duo
    }

    /// Main's disk has no room for a write, and then its flush fails (ENOSPC at writeback: what was answered before is
    /// gone from it). The two lose each other while its copy is leaving.
    #[test]
    fn a_copy_whose_flush_failed_after_it_had_found_no_room_is_no_source() {
        let mut met_it = 0;
        for seed in 0..60 {
            let mut duo = met(seed);
            duo.ask(0, 1, write(0, BLOCKS, 5));
            duo.settle(1);
            assert_eq!(duo.answers(0), [(1, GOOD)]);
            duo.stall_disk(0);
            duo.ask(0, 2, write(3, 1, 7));
            duo.ask(0, 3, Op::SynchronizeCache);
            while duo.step() {}
            duo.break_disk(0, DiskError::Full);
            duo.hold_control(true);
            duo.resume_disk(0);
            let switching = |duo: &TwoControllers| {
                duo.controllers[0].place(LunIndex(0)).is_some_and(|(.., switching)| switching)
            };
            while !switching(&duo) && duo.step() {}
            if !duo.flushing(0) {
                continue;
            }
            met_it += 1;
            duo.break_disk(0, DiskError::FlushFailed);
            while duo.step() {}
            // The kernel has dropped what it could not write.
            duo.spoil(0, 99);
            duo.mend_disk(0);
            duo.cut();
            duo.hold_control(false);
            duo.settle(1);
            duo.connect();
            duo.settle(40);
            // alpha's copy stays out until alpha is started again; what is served is beta's.
            assert_eq!(duo.volume(1)[0], 5, "seed {seed}: the acknowledged write is gone from both copies");
        }
        assert!(met_it > 5, "{met_it}: the test shows nothing");
    }
}
