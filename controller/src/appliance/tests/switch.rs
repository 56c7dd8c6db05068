//! Switches beside commands on their way, in a toy world.

use protocol::interlink::event::Event;
use protocol::interlink::shared::Requester;
use protocol::scsi::persistent_reservation::{Kind, OutAction};
use protocol::scsi::sense::Sense;

use crate::command::{Op, Outcome};
use crate::disk::DiskError;
use crate::pair::{PairFault, PairStatus, Role};
use crate::reservation::asked;
use crate::testing::{TwoControllers, range, write};

/// Commands of the sub's hosts that the switch meets.
const WRITES: u32 = 6;

/// The disk of the sub fails under writes of its hosts, and a switch may look at any moment whether nothing is in
/// flight.
fn sub_loses_its_disk_under_writes(seed: u64) -> TwoControllers {
    let mut duo = TwoControllers::new(seed, true);
    duo.connect();
    duo.settle(1);
    duo.log_in(0, 1, "host0");
    duo.log_in(1, 1, "host1");
    for tag in 0..WRITES {
        duo.ask(1, tag, write(u64::from(tag) * 8, 4, 1));
    }
    duo.break_disk(1, DiskError::Io);
    duo.ask(0, WRITES, write(60, 4, 1));
    while duo.step() {
        duo.controllers.iter().for_each(crate::unit::Controller::on_tick);
    }
    duo.settle(10);
    duo
}

#[test]
fn no_range_stays_held_by_a_change_whose_copy_left_the_pair_before_main_heard_what_became_of_it() {
    for seed in 0..1000 {
        let mut duo = sub_loses_its_disk_under_writes(seed);
        assert_eq!([duo.answers(0).len(), duo.answers(1).len()], [1, WRITES as usize], "seed {seed}");
        duo.told(0, 1);
        duo.ask(0, 100, Op::Read { range: range(0, 64) });
        duo.settle(1);
        let answers = duo.answers(0);
        assert!(matches!(answers[..], [(100, Outcome::Good(_))]), "seed {seed}: {answers:?}");
    }
}

const GOOD: Outcome = Outcome::Good(Vec::new());

fn reserve_out(action: OutAction, key: u64, action_key: u64) -> impl FnOnce(Requester) -> Event {
    asked::event(asked::out(action, (key, action_key), Kind::ExclusiveAccess))
}

/// A write of session 1 of a side is on its way to that side's disk, which has gone silent; session 2 is registered.
fn write_meets_silence(seed: u64, silent: usize) -> TwoControllers {
    let mut duo = TwoControllers::new(seed, true);
    duo.connect();
    duo.settle(1);
    for side in 0..2 {
        duo.log_in(side, 1, &format!("host{side}1"));
        duo.log_in(side, 2, &format!("host{side}2"));
    }
    duo.event(silent, 2, 1, reserve_out(OutAction::Register, 0, 2));
    duo.settle(1);
    assert_eq!(duo.answers(silent), [(1, GOOD)]);
    duo.stall_disk(silent);
    duo.ask(silent, 2, write(0, 2, 7));
    while duo.step() {}
    duo
}

/// Session 2 of the silent side reserves the LUN for itself alone, and after a while the disk goes on. Whether that was
/// answered GOOD; whether it was not, as long as the write was not there; whether the write is there at the end.
fn reserves_while_silent(duo: &mut TwoControllers, silent: usize) -> (bool, bool, bool) {
    duo.told(silent, 2);
    duo.event(silent, 2, 3, reserve_out(OutAction::Reserve, 2, 0));
    duo.settle(20);
    let early = duo.answers(silent).contains(&(3, GOOD));
    let then = duo.volume(silent)[0] == 7;
    duo.resume_disk(silent);
    duo.settle(20);
    let good = early || duo.answers(silent).contains(&(3, GOOD));
    let end = duo.volume(silent)[0] == 7;
    (good, !early || then, end)
}

#[test]
fn the_disk_of_the_copy_that_stays_is_waited_for_before_a_reservation_that_forbids_what_it_was_asked() {
    for seed in 0..40 {
        for silent in 0..2 {
            let mut duo = write_meets_silence(seed, silent);
            duo.settle(20);
            duo.break_disk(1 - silent, DiskError::Io);
            duo.ask(1 - silent, 9, write(8, 1, 1));
            // The disk is silent for three seconds, and then the switch is late.
            duo.settle(65);
            duo.cut();
            duo.settle(1);
            duo.connect();
            duo.settle(4);
            let (good, there, end) = reserves_while_silent(&mut duo, silent);
            assert!(good && there && end, "seed {seed} silent {silent}: {good} {there} {end}");
        }
    }
}

#[test]
fn a_copy_whose_disk_was_given_up_does_not_become_the_last_one() {
    for seed in 0..40 {
        let mut duo = write_meets_silence(seed, 1);
        duo.settle(56);
        duo.hold_control(true);
        duo.settle(8);
        // Both say that their copy leaves; the leader's word stands.
        duo.break_disk(0, DiskError::Full);
        duo.ask(0, 9, write(8, 1, 1));
        duo.settle(1);
        duo.hold_control(false);
        duo.settle(6);
        let (good, there, _) = reserves_while_silent(&mut duo, 1);
        assert!(
            !good || there,
            "seed {seed}: what was given up is written after a reservation that forbids it"
        );
    }
}

#[test]
fn a_main_that_hears_of_a_disk_given_up_just_after_it_lost_its_peer_does_not_become_the_last_one() {
    for seed in 0..40 {
        let mut duo = write_meets_silence(seed, 0);
        duo.settle(56);
        duo.cut();
        duo.settle(1);
        duo.ask(0, 8, write(16, 1, 1));
        // The LUN gave it up before, and said so while the appliance was losing its peer.
        let given_up = PairFault::OwnDisk(DiskError::Silent);
        let as_of = duo.generation();
        duo.controllers[0].with_appliance(|appliance| appliance.on_broken(0, given_up, as_of));
        duo.settle(70);
        let unavailable = Outcome::Check(Sense::UNAVAILABLE);
        assert!(duo.answers(0).contains(&(8, unavailable)), "seed {seed}: hosts use the other path");
        let lun = duo.controllers[0].status().luns.remove(0);
        assert!(!lun.serving, "seed {seed}: {lun:?}");
        assert!(lun.reason.is_some_and(|reason| reason.contains("on alpha")), "seed {seed}");
        duo.resume_disk(0);
        duo.connect();
        duo.settle(20);
        let lun = duo.controllers[1].status().luns.remove(0);
        assert!(lun.serving && lun.role == Role::Main, "seed {seed}: {lun:?}");
    }
}

#[test]
fn a_main_whose_lun_gave_its_disk_up_and_has_not_said_so_yet_does_not_go_on_alone_with_it() {
    for seed in 0..20 {
        let mut duo = write_meets_silence(seed, 0);
        duo.settle(57);
        while !duo.controllers[0].gives_up_and_says_so_later(0) {
            duo.advance();
        }
        duo.cut();
        duo.settle(1);
        duo.told(0, 1);
        duo.ask(0, 8, write(16, 1, 1));
        duo.settle(70);
        let answers = duo.answers(0);
        assert!(answers.contains(&(8, Outcome::Check(Sense::UNAVAILABLE))), "seed {seed}: {answers:?}");
        assert!(!duo.controllers[0].status().luns[0].serving, "seed {seed}");
    }
}

#[test]
fn a_main_that_finds_the_lease_over_when_it_notices_the_silence_hears_of_the_given_up_disk_before_it_goes_on()
{
    for seed in 0..20 {
        let mut duo = write_meets_silence(seed, 0);
        duo.settle(20);
        // The last that is heard: two seconds of silence end when the disk was given up already.
        duo.hold_control(true);
        duo.settle(36);
        while !duo.controllers[0].gives_up_and_says_so_later(0) {
            duo.advance();
        }
        (0..4).for_each(|_| duo.advance());
        assert_eq!(duo.statuses()[0], PairStatus::Duplex, "seed {seed}: it was noticed too early");
        duo.settle(70);
        let lun = duo.controllers[0].status().luns.remove(0);
        assert!(!lun.serving, "seed {seed}: {lun:?}");
        assert!(lun.reason.is_some_and(|reason| reason.contains("on alpha")), "seed {seed}");
        // Nothing names alpha's copy alone: beta's serves.
        duo.hold_control(false);
        duo.cut();
        duo.resume_disk(0);
        duo.connect();
        duo.settle(20);
        let lun = duo.controllers[1].status().luns.remove(0);
        assert!(lun.serving && lun.role == Role::Main, "seed {seed}: {lun:?}");
    }
}

/// The sub's disk has failed and its copy is about to leave; after so many steps the two part.
fn parted_while_the_subs_copy_leaves(seed: u64, steps: u32, error: DiskError) -> TwoControllers {
    let mut duo = TwoControllers::new(seed, true);
    duo.connect();
    duo.settle(1);
    duo.break_disk(1, error);
    duo.ask(0, 1, write(0, 4, 1));
    duo.ask(1, 1, write(8, 4, 1));
    for _ in 0..steps {
        duo.step();
        duo.controllers.iter().for_each(crate::unit::Controller::on_tick);
    }
    duo.cut();
    duo
}

#[test]
fn a_main_that_is_main_before_and_after_a_switch_goes_on_alone_wherever_the_two_part() {
    for seed in 0..6 {
        for steps in 0..60 {
            for error in [DiskError::Io, DiskError::Full, DiskError::Silent] {
                let mut duo = parted_while_the_subs_copy_leaves(seed, steps, error);
                duo.settle(30);
                duo.answers(0);
                duo.ask(0, 9, write(20, 2, 7));
                duo.settle(2);
                let answers = duo.answers(0);
                assert_eq!(answers, [(9, GOOD)], "seed {seed}, {steps} steps, {error:?}");
            }
        }
    }
}

/// alpha was started again and refilled, and beta is about to give the LUN back to it.
fn turning_back(seed: u64) -> TwoControllers {
    let mut duo = TwoControllers::new(seed, true);
    duo.connect();
    duo.settle(1);
    let mut duo = duo.crash_one(seed, 0);
    duo.connect();
    let switching = |duo: &TwoControllers| {
        duo.controllers[1].place(crate::command::LunIndex(0)).is_some_and(|(.., switching)| switching)
    };
    while !switching(&duo) {
        if !duo.step() {
            duo.settle(1);
        }
    }
    duo
}

#[test]
fn a_main_whose_disk_failed_in_a_switch_to_two_whole_copies_does_not_go_on_alone() {
    for seed in 0..40 {
        let mut duo = turning_back(seed);
        duo.controllers[1].with_appliance(|appliance| {
            appliance.on_broken(0, PairFault::OwnDisk(DiskError::Io), Default::default());
        });
        duo.cut();
        duo.settle(30);
        duo.ask(1, 5, write(0, 1, 1));
        duo.settle(2);
        assert!(!duo.answers(1).contains(&(5, GOOD)), "seed {seed}: the other copy is whole");
        duo.connect();
        duo.settle(20);
        let lun = duo.controllers[0].status().luns.remove(0);
        assert!(lun.serving && lun.role == Role::Main, "seed {seed}: {lun:?}");
    }
}

#[test]
fn the_flushes_of_a_lone_slow_copy_do_not_keep_a_switch_from_its_end() {
    for seed in 0..4 {
        let mut duo = TwoControllers::met(seed);
        duo.break_disk(1, DiskError::Full);
        duo.ask(0, 1, write(0, 4, 1));
        duo.settle(4);
        assert_eq!(duo.statuses(), [PairStatus::Suspended; 2], "seed {seed}");
        // A flush of alpha's disk takes a little more than a second from now on.
        duo.stall_disk(0);
        duo.settle(21);
        duo.mend_disk(1);
        for at in 0..20 {
            duo.settle(21);
            let interlink = duo.controllers[0].status().interlink;
            assert!(interlink.up, "seed {seed}: after {at} flushes: {:?}", interlink.reason);
            if duo.statuses() != [PairStatus::Suspended; 2] {
                break;
            }
            duo.resume_disk(0);
            assert!(duo.step());
            duo.stall_disk(0);
        }
    }
}
