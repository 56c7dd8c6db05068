//! A LUN that is missing from the files for a start, or of which its folders know nothing, or whose volume is not made
//! in time.

use crate::command::{Command, LunIndex, NexusId, Op, Outcome, TaskTag};
use crate::pair::PairStatus;
use crate::testing::{TwoControllers, write};

fn ask_second(duo: &TwoControllers, side: usize, tag: u32, op: Op) {
    let (lun, nexus, tag, received) = (LunIndex(1), NexusId(1), TaskTag::of(tag), duo.now());
    duo.controllers[side].command(Command { lun, nexus, tag, op, received });
}

fn firsts(duo: &TwoControllers) -> [u8; 2] {
    [0, 1].map(|side| duo.volumes(side)[1][0])
}

fn is_duplex(duo: &TwoControllers) -> bool {
    duo.controllers.iter().all(|controller| controller.status().luns[1].status == PairStatus::Duplex)
}

/// Beta serves the second LUN alone; the answered write is on its copy only.
fn beta_alone(seed: u64) -> TwoControllers {
    let mut duo = TwoControllers::two_luns(seed, 64);
    duo.connect();
    duo.settle(8);
    duo.cut();
    duo.settle(400);
    ask_second(&duo, 1, 1, write(0, 64, 7));
    duo.settle(2);
    let good = |(_, outcome): &(u32, Outcome)| matches!(outcome, Outcome::Good(_));
    assert!(duo.answers(1).iter().any(good) && firsts(&duo) == [0, 7], "the test shows nothing");
    duo
}

#[test]
fn what_was_answered_is_there_when_a_lun_was_left_out_of_one_file_or_both_for_a_start() {
    for (seed, both) in (0..10).flat_map(|seed| [(seed, true), (seed, false)]) {
        let duo = beta_alone(seed);
        let [_, plan] = TwoControllers::plans_of_two_luns(64);
        let mut without = plan.clone();
        without.luns.truncate(1);
        let mut duo = match both {
            true => duo.crash(100 + seed, true),
            false => duo.crash_one_planned(100 + seed, 1, without, None),
        };
        duo.connect();
        duo.settle_and_redial(60);
        let mut duo = match both {
            true => duo.crash_of_two(200 + seed),
            false => duo.crash_one_planned(200 + seed, 1, plan, None),
        };
        duo.connect();
        duo.settle_and_redial(60);
        assert!(is_duplex(&duo), "seed {seed} both {both}");
        assert_eq!(firsts(&duo), [7, 7], "seed {seed} both {both}");
    }
}

#[test]
fn a_lun_that_comes_back_with_another_size_keeps_its_own() {
    for seed in 0..10 {
        let mut duo = TwoControllers::two_luns(seed, 64);
        duo.connect();
        duo.settle(8);
        let mut duo = duo.crash(100 + seed, true);
        duo.connect();
        duo.settle(8);
        let mut duo = duo.crash_of_two_resized(200 + seed, 80);
        duo.connect();
        duo.settle_and_redial(60);
        assert!(is_duplex(&duo), "seed {seed}");
        let capacity = duo.controllers[0].capacity(LunIndex(1));
        assert_eq!(capacity.map(|(blocks, ..)| blocks), Some(64), "seed {seed}");
    }
}

#[test]
fn copies_of_which_neither_folder_knows_anything_are_not_called_whole() {
    for seed in 0..10 {
        let mut duo = TwoControllers::two_luns(seed, 64);
        duo.cannot_make(1, 1);
        duo.connect();
        duo.settle_and_redial(8);
        let backup = [0, 1].map(|side| duo.records(side));
        let mut duo = duo.crash_of_two(100 + seed);
        duo.connect();
        duo.settle_and_redial(8);
        // They differ, as after a crash.
        (0..2).for_each(|side| duo.spoil_lun(side, 1, 1 + side as u8));
        for (side, records) in backup.into_iter().enumerate() {
            duo.put_back(side, Some(records), None);
        }
        let mut duo = duo.crash_of_two_resized(200 + seed, 80);
        duo.connect();
        duo.settle_and_redial(40);
        let capacity = duo.controllers[0].capacity(LunIndex(1));
        assert_eq!(capacity.map(|(blocks, ..)| blocks), Some(64), "seed {seed}: another size than theirs");
        let lun = duo.controllers[0].status().luns.remove(1);
        assert!(!lun.serving, "seed {seed}: {:?} both whole", firsts(&duo));
        assert!(lun.reason.is_some_and(|reason| reason.contains("put back from a backup")), "seed {seed}");
        assert_eq!(firsts(&duo), [1, 2], "seed {seed}");
    }
}

#[test]
fn a_volume_that_is_made_for_ever_keeps_no_other_lun_from_being_served() {
    for seed in 0..10 {
        let mut duo = TwoControllers::met(seed).crash_and_add_a_lun(100 + seed);
        duo.hold_volumes(true);
        duo.connect();
        duo.settle_and_redial(100);
        duo.ask(0, 1, write(0, 1, 1));
        duo.settle_and_redial(5);
        let good = |(_, outcome): &(u32, Outcome)| matches!(outcome, Outcome::Good(_));
        let lun = duo.controllers[0].status().luns.remove(0);
        assert!(duo.answers(0).iter().any(good), "seed {seed}: {:?}", lun.reason);
        let new = duo.controllers[0].status().luns.remove(1);
        assert!(new.reason.is_some_and(|reason| reason.contains("its disk does not")), "seed {seed}");
        // The disk answers.
        duo.hold_volumes(false);
        duo.settle_and_redial(20);
        let mut duo = duo.crash_of_two(200 + seed);
        duo.connect();
        duo.settle_and_redial(40);
        assert!(is_duplex(&duo), "seed {seed}");
    }
}

#[test]
fn a_volume_that_is_made_for_long_is_asked_for_once_wherever_its_meeting_ends() {
    for (seed, steps) in (0..4).flat_map(|seed| (20..40).map(move |steps| (seed, steps))) {
        let mut duo = TwoControllers::new(seed, true);
        duo.hold_volumes(true);
        duo.connect();
        (0..steps).for_each(|_| {
            duo.step();
        });
        duo.cut();
        duo.settle(60);
        duo.connect();
        duo.settle_and_redial(60);
        let made = [0, 1].map(|side| duo.volumes_being_made(side));
        assert!(made.iter().all(|made| *made <= 1), "seed {seed} steps {steps}: {made:?} at once");
        duo.hold_volumes(false);
        duo.settle_and_redial(60);
        assert_eq!(duo.statuses(), [PairStatus::Duplex; 2], "seed {seed} steps {steps}");
    }
}

#[test]
fn a_volume_that_comes_late_does_not_break_off_a_clean_end() {
    for seed in 0..10 {
        let mut duo = TwoControllers::met(seed).crash_and_add_a_lun(100 + seed);
        duo.hold_volumes(true);
        duo.connect();
        duo.settle_and_redial(100);
        duo.ask(0, 1, write(0, 1, 1));
        duo.controllers.iter().for_each(crate::unit::Controller::stop);
        duo.step();
        duo.hold_volumes(false);
        duo.settle(100);
        let clean = [0, 1].map(|side| duo.durable(side).is_some_and(|record| record.clean));
        assert_eq!(clean, [true; 2], "seed {seed}");
    }
}
