//! What comes late, or in between: a refused peer within the lease, words of an earlier meeting, flushes that outlive a
//! connection, records that are being written when the peer is back.

use protocol::interlink::copy_report::Generation;
use protocol::scsi::sense::Status;

use crate::appliance::{CONTROL_KEY, ControlRecord, Restored};
use crate::command::Outcome;
use crate::disk::DiskError;
use crate::pair::PairStatus;
use crate::testing::{TwoControllers, write};
use crate::unit::Controller;

const GOOD: Outcome = Outcome::Good(Vec::new());

/// Whether a write of a side's host is answered GOOD at once.
fn serves(duo: &mut TwoControllers, side: usize) -> bool {
    duo.answers(side);
    duo.ask(side, 77, write(12, 2, 3));
    duo.settle(2);
    duo.answers(side) == [(77, GOOD)]
}

#[test]
fn a_main_whose_peer_is_back_within_the_lease_and_is_refused_goes_on_alone() {
    for seed in 0..40 {
        let mut duo = TwoControllers::met(seed).crash_one_losing_state(seed, 1);
        duo.connect();
        duo.settle(20);
        assert!(serves(&mut duo, 0), "seed {seed}: {:?}", duo.controllers[0].status().luns[0]);
        assert!(duo.controllers[0].status().interlink.up, "seed {seed}: the two are in touch");
        duo.cut();
        duo.settle(1);
        assert!(serves(&mut duo, 0), "seed {seed}: and when the refused peer goes away again");
    }
}

#[test]
fn a_main_that_starts_alone_and_meets_a_refused_peer_within_the_lease_goes_on_alone() {
    for seed in 0..40 {
        let mut duo = TwoControllers::met(seed);
        duo.cut();
        duo.settle(30);
        assert!(serves(&mut duo, 0), "seed {seed}");
        let mut duo = duo.crash_losing_state(seed, 1);
        duo.connect();
        duo.settle(20);
        assert!(serves(&mut duo, 0), "seed {seed}: {:?}", duo.controllers[0].status().luns[0]);
    }
}

/// beta's record says that it went on alone for longer.
fn another_history(side: usize, restored: &mut Restored) {
    let record =
        restored.records.get(CONTROL_KEY).and_then(|record| ControlRecord::read("beta", record).ok());
    if let (1, Some(mut record)) = (side, record) {
        let number = record.groups[0].generation.number + 3;
        record.groups[0].generation =
            Generation { number, id: 99, parent: 98, main: 1, members: 0b10, ..Generation::default() };
        restored.records.insert(CONTROL_KEY.into(), record.write("beta"));
    }
}

#[test]
fn a_main_that_waits_to_go_alone_and_finds_a_split_brain_goes_nowhere_when_the_connection_breaks() {
    for seed in 0..40 {
        let mut duo = TwoControllers::met(seed);
        duo.cut();
        duo.settle(30);
        let mut duo = duo.crash_and(seed, true, another_history);
        duo.connect();
        while duo.step() {}
        assert!(duo.controllers[0].status().interlink.up, "seed {seed}");
        duo.cut();
        // It would have waited one lease.
        (0..14).for_each(|_| duo.settle(0));
        assert!(!serves(&mut duo, 0), "seed {seed}: two histories");
    }
}

#[test]
fn the_word_that_a_copy_is_complete_means_nothing_under_another_generation() {
    for seed in 0..40 {
        let mut duo = TwoControllers::met(seed).crash_one(seed, 1);
        let copying = |duo: &mut TwoControllers| {
            duo.stall_disk(0);
            duo.connect();
            while duo.step() {}
            assert_eq!(duo.statuses(), [PairStatus::Copy; 2], "seed {seed}");
        };
        copying(&mut duo);
        let earlier = duo.generation();
        duo.cut();
        duo.resume_disk(0);
        duo.settle(1);
        copying(&mut duo);
        assert_ne!(duo.generation(), earlier, "seed {seed}");
        duo.controllers[0].with_appliance(|appliance| appliance.on_copy_complete(0, earlier));
        duo.settle(1);
        assert_eq!(duo.statuses(), [PairStatus::Copy; 2], "seed {seed}: half a copy is called whole");
        duo.resume_disk(0);
        duo.settle(2);
        assert_eq!(duo.statuses(), [PairStatus::Duplex; 2], "seed {seed}");
    }
}

#[test]
fn the_flush_of_a_copy_that_lost_its_peer_counts_however_many_connections_come_to_nothing_meanwhile() {
    for seed in 0..40 {
        let mut duo = TwoControllers::met(seed);
        duo.ask(0, 1, write(0, 2, 1));
        duo.settle(1);
        duo.stall_disk(1);
        duo.cut();
        for _ in 0..2 {
            duo.connect_control();
            while duo.step() {}
            duo.cut();
        }
        assert_eq!(duo.durable(1).map(|record| record.flushed), Some(false), "seed {seed}");
        duo.resume_disk(1);
        while duo.step() {}
        assert_eq!(duo.durable(1).map(|record| record.flushed), Some(true), "seed {seed}");
    }
}

#[test]
fn a_failed_flush_of_a_copy_that_lost_its_peer_is_not_noted() {
    for seed in 0..20 {
        let mut duo = TwoControllers::met(seed);
        duo.ask(0, 1, write(0, 2, 1));
        duo.settle(1);
        duo.break_disk(1, DiskError::FlushFailed);
        duo.cut();
        duo.settle(2);
        assert_eq!(duo.durable(1).map(|record| record.flushed), Some(false), "seed {seed}");
    }
}

/// A write of main is on its way to its disk when the peer is lost, and the disk says this of it.
fn fails_while_the_peer_is_lost(seed: u64, error: DiskError) -> TwoControllers {
    let mut duo = TwoControllers::met(seed);
    duo.stall_disk(0);
    duo.ask(0, 1, write(0, 2, 1));
    while duo.step() {}
    duo.cut();
    duo.break_disk(0, error);
    duo.resume_disk(0);
    while duo.step() {}
    duo.mend_disk(0);
    duo
}

#[test]
fn one_write_that_fails_while_main_loses_its_peer_costs_no_refill() {
    for seed in 0..40 {
        for error in [DiskError::Io, DiskError::Full] {
            let mut duo = fails_while_the_peer_is_lost(seed, error);
            duo.settle(20);
            assert!(serves(&mut duo, 0), "seed {seed}: {:?}", duo.controllers[0].status().luns[0]);
            duo.connect();
            duo.settle(20);
            assert_eq!(duo.statuses(), [PairStatus::Duplex; 2], "seed {seed}, {error:?}");
            assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}, {error:?}");
        }
    }
}

#[test]
fn the_only_whole_copy_goes_on_whatever_its_disk_could_not_take_and_is_a_source_again() {
    for seed in 0..20 {
        let mut duo = TwoControllers::met(seed).crash_one(seed, 1);
        duo.stall_disk(0);
        duo.connect();
        while duo.step() {}
        assert_eq!(duo.statuses(), [PairStatus::Copy; 2], "seed {seed}");
        duo.ask(0, 1, write(0, 2, 1));
        while duo.step() {}
        duo.break_disk(0, DiskError::Io);
        duo.resume_disk(0);
        while duo.step() {}
        duo.cut();
        duo.mend_disk(0);
        duo.settle(20);
        assert!(serves(&mut duo, 0), "seed {seed}: {:?}", duo.controllers[0].status().luns[0]);
        duo.connect();
        duo.settle(20);
        assert_eq!(duo.statuses(), [PairStatus::Duplex; 2], "seed {seed}");
        assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
    }
}

#[test]
fn a_main_whose_flush_failed_while_it_loses_its_peer_leaves_the_lun_to_the_peers_copy() {
    for seed in 0..20 {
        let mut duo = TwoControllers::met(seed);
        duo.stall_disk(0);
        duo.ask(0, 1, crate::command::Op::SynchronizeCache);
        while duo.step() {}
        duo.cut();
        duo.break_disk(0, DiskError::FlushFailed);
        duo.resume_disk(0);
        while duo.step() {}
        duo.mend_disk(0);
        duo.settle(20);
        assert!(!serves(&mut duo, 0), "seed {seed}: what was answered may be gone from this copy");
        duo.connect();
        duo.settle(20);
        assert!(serves(&mut duo, 0), "seed {seed}: {:?}", duo.controllers[0].status().luns[0]);
    }
}

#[test]
fn a_follower_that_writes_down_that_it_goes_alone_meets_as_soon_as_that_is_done() {
    for seed in 0..200 {
        let mut duo = TwoControllers::two_luns(seed, 64);
        duo.connect();
        duo.settle(1);
        duo.cut();
        while duo.step() {}
        for _ in 0..13 {
            duo.advance();
        }
        duo.controllers.iter().for_each(Controller::on_tick);
        duo.connect();
        duo.settle(10);
        let up = duo.controllers.each_ref().map(|controller| controller.status().interlink.up);
        assert_eq!(up, [true; 2], "seed {seed}");
    }
}

#[test]
fn a_volume_that_is_still_being_made_for_an_earlier_meeting_is_not_made_twice() {
    for seed in 0..60 {
        for steps in 0..40 {
            let mut duo = TwoControllers::new(seed, true);
            duo.hold_volumes(true);
            duo.connect();
            (0..steps).for_each(|_| {
                duo.step();
            });
            duo.cut();
            duo.connect();
            while duo.step() {}
            let most = (0..2).map(|side| duo.volumes_being_made(side)).max();
            assert!(most <= Some(1), "seed {seed}, {steps} steps: {most:?}");
            duo.hold_volumes(false);
            duo.settle(20);
            assert_eq!(duo.statuses(), [PairStatus::Duplex; 2], "seed {seed}, {steps} steps");
        }
    }
}

#[test]
fn a_cut_while_a_lost_volume_is_made_anew_leaves_the_other_lun_what_it_was() {
    for seed in 0..20 {
        for steps in 0..60 {
            let mut duo = TwoControllers::two_luns(seed, 16);
            duo.connect();
            duo.settle(20);
            duo.remove_volume_of(1, 0);
            let mut duo = duo.crash_of_two(seed);
            duo.hold_volumes(true);
            duo.connect();
            (0..steps).for_each(|_| {
                duo.step();
            });
            duo.cut();
            duo.hold_volumes(false);
            duo.settle(30);
            duo.connect();
            duo.settle(100);
            let luns = duo.controllers[0].status().luns;
            let statuses: Vec<_> = luns.iter().map(|lun| (lun.status, &lun.reason)).collect();
            assert_eq!(statuses, [(PairStatus::Duplex, &None); 2], "seed {seed}, {steps} steps");
        }
    }
}

#[test]
fn the_first_command_that_is_forwarded_is_not_executed_if_it_was_too_long_on_its_way() {
    for seed in 0..10 {
        let mut duo = TwoControllers::new(seed, true);
        duo.connect();
        // The two have met, and no time has passed since.
        while duo.step() {}
        duo.ask(1, 1, write(0, 1, 7));
        (0..90).for_each(|_| duo.advance());
        while duo.step() {}
        assert_eq!(duo.answers(1), [(1, Outcome::Status(Status::Busy))], "seed {seed}");
        assert_eq!((duo.volume(0)[0], duo.volume(1)[0]), (0, 0), "seed {seed}");
    }
}

mod parted_twice {
    // The two part in a switch back to the leader, meet again within the lease, and part again.

    use crate::command::LunIndex;
    use crate::pair::Role;
    use crate::testing::TwoControllers;
    use crate::unit::Controller;

    /// alpha, the preferred main and the leader, was started again and refilled; beta is about to give the LUN back to
    /// it.
    fn turning_back(seed: u64) -> TwoControllers {
        let mut duo = TwoControllers::new(seed, true);
        duo.connect();
        duo.settle(1);
        let mut duo = duo.crash_one(seed, 0);
        duo.connect();
        let switching = |duo: &TwoControllers| {
            duo.controllers[1].place(LunIndex(0)).is_some_and(|(.., switching)| switching)
        };
        while !switching(&duo) {
            if !duo.step() {
                duo.settle(1);
            }
        }
        duo
    }

    /// They part after so many steps of the switch, meet again at once, and part after so many steps of the meeting.
    fn parted_twice(seed: u64, switch_steps: u32, meeting_steps: u32) -> TwoControllers {
        let mut duo = turning_back(seed);
        for _ in 0..switch_steps {
            duo.step();
            duo.controllers.iter().for_each(Controller::on_tick);
        }
        duo.cut();
        duo.connect();
        (0..meeting_steps).for_each(|_| {
            duo.step();
        });
        duo.cut();
        duo
    }

    #[test]
    fn two_that_part_in_a_switch_and_again_while_they_meet_are_no_split_brain() {
        let mut bad = Vec::new();
        for seed in 0..10 {
            for switch_steps in 0..16 {
                for meeting_steps in 0..60 {
                    let mut duo = parted_twice(seed, switch_steps, meeting_steps);
                    duo.settle(40);
                    duo.connect();
                    duo.settle(60);
                    let luns = [0, 1].map(|side| duo.controllers[side].status().luns.remove(0));
                    if !luns.iter().all(|lun| lun.serving) {
                        bad.push(format!(
                            "seed {seed}, switch {switch_steps}, meeting {meeting_steps}: {:?}",
                            luns.map(|lun| lun.reason)
                        ));
                    }
                }
            }
        }
        assert!(bad.is_empty(), "{} of {}: {:#?}", bad.len(), 10 * 16 * 60, &bad[..bad.len().min(3)]);
    }

    #[test]
    fn two_that_part_in_a_switch_and_again_while_they_meet_never_both_serve_alone() {
        let mut bad = Vec::new();
        for seed in 0..10 {
            for switch_steps in 0..16 {
                for meeting_steps in 0..60 {
                    let duo = parted_twice(seed, switch_steps, meeting_steps);
                    // alpha ends as a crash would and starts again; the line is still cut.
                    let mut duo = duo.crash_one(seed + 77, 0);
                    duo.settle(60);
                    let mains = [0, 1].map(|side| {
                        let lun = duo.controllers[side].status().luns.remove(0);
                        lun.role == Role::Main && lun.serving
                    });
                    if mains == [true, true] {
                        bad.push(format!("seed {seed}, switch {switch_steps}, meeting {meeting_steps}"));
                    }
                }
            }
        }
        assert!(
            bad.is_empty(),
            "two writable histories, {} of {}: {:#?}",
            bad.len(),
            10 * 16 * 60,
            &bad[..bad.len().min(3)]
        );
    }

    /// The same the other way round: beta, the preferred main of data1 and not the leader, was started again.
    fn turning_back_to_the_follower(seed: u64) -> TwoControllers {
        let mut duo = TwoControllers::two_luns(seed, 64);
        duo.connect();
        duo.settle(1);
        let mut duo = duo.crash_one_of_two(seed, 1);
        duo.connect();
        let switching = |duo: &TwoControllers| {
            duo.controllers[0].place(LunIndex(1)).is_some_and(|(.., switching)| switching)
        };
        while !switching(&duo) {
            if !duo.step() {
                duo.settle(1);
            }
        }
        duo
    }

    #[test]
    fn two_that_part_in_a_switch_to_the_follower_and_again_while_they_meet_never_both_serve_alone() {
        let mut bad = Vec::new();
        for seed in 0..10 {
            for switch_steps in 0..16 {
                for meeting_steps in 0..60 {
                    let mut duo = turning_back_to_the_follower(seed);
                    for _ in 0..switch_steps {
                        duo.step();
                        duo.controllers.iter().for_each(Controller::on_tick);
                    }
                    duo.cut();
                    duo.connect();
                    (0..meeting_steps).for_each(|_| {
                        duo.step();
                    });
                    duo.cut();
                    duo.settle(60);
                    let mains = [0, 1].map(|side| {
                        let lun = duo.controllers[side].status().luns.remove(1);
                        lun.role == Role::Main && lun.serving
                    });
                    if mains == [true, true] {
                        bad.push(format!("seed {seed}, switch {switch_steps}, meeting {meeting_steps}"));
                    }
                }
            }
        }
        assert!(
            bad.is_empty(),
            "two writable histories, {} of {}: {:#?}",
            bad.len(),
            10 * 16 * 60,
            &bad[..bad.len().min(3)]
        );
    }
}
