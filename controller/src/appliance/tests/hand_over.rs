//! A controller that ends hands over what it is main of first: hosts of the other hear of nothing.

use crate::command::Outcome;
use crate::pair::{PairStatus, Role};
use crate::testing::{TwoControllers, range, write};
use crate::unit::Controller;

const GOOD: Outcome = Outcome::Good(Vec::new());

/// Ticks of 50 ms after which an end has come, and the other goes on alone.
const ENDED_TICKS: u32 = 40;

fn status(duo: &TwoControllers, side: usize) -> (PairStatus, Role) {
    let lun = duo.controllers[side].status().luns.remove(0);
    (lun.status, lun.role)
}

/// Hosts of both sides write, one block each, until so many ticks are over or the controller has ended. Gives the tags
/// of the writes of `side` that were not answered GOOD, and the most ticks for which one was not answered.
fn writes_of(duo: &mut TwoControllers, side: usize, ticks: u32, tag: &mut u32) -> (Vec<(u32, Outcome)>, u32) {
    let (mut bad, mut waits, mut longest) = (Vec::new(), 0, 0);
    let mut open = 0_u32;
    for _ in 0..ticks {
        for other in [side, 1 - side] {
            *tag += 1;
            duo.ask(other, *tag, write(u64::from(*tag % 60), 1, *tag as u8));
        }
        open += 1;
        duo.settle(1);
        let answers = duo.answers(side);
        open -= answers.len() as u32;
        bad.extend(answers.into_iter().filter(|(_, outcome)| *outcome != GOOD));
        let _of_the_other = duo.answers(1 - side);
        waits = if open > 0 { waits + 1 } else { 0 };
        longest = longest.max(waits);
        if duo.controllers[1 - side].stopped() {
            duo.cut();
        }
    }
    (bad, longest)
}

#[test]
fn the_hosts_of_the_one_that_stays_are_served_through_the_others_end_whoever_was_main() {
    for seed in 0..40 {
        for ends in 0..2 {
            let case = format!("seed {seed}, {ends} ends");
            let (mut duo, mut tag) = (TwoControllers::met(seed), 0);
            writes_of(&mut duo, 1 - ends, 2, &mut tag);
            duo.controllers[ends].stop();
            let (bad, longest) = writes_of(&mut duo, 1 - ends, ENDED_TICKS, &mut tag);
            assert!(duo.controllers[ends].stopped(), "{case}");
            assert!(bad.is_empty(), "{case}: {bad:?}");
            assert!(longest <= 4, "{case}: a host waits for {longest} ticks");
            assert_eq!(status(&duo, 1 - ends), (PairStatus::Suspended, Role::Main), "{case}");
        }
    }
}

#[test]
fn who_comes_back_is_refilled_and_is_main_again_if_the_files_prefer_it() {
    for seed in 0..20 {
        let (mut duo, mut tag) = (TwoControllers::met(seed), 0);
        duo.controllers[0].stop();
        writes_of(&mut duo, 1, ENDED_TICKS, &mut tag);
        duo.cut();
        let mut duo = duo.crash_one(seed + 100, 0);
        duo.connect();
        duo.settle(20);
        assert_eq!(status(&duo, 0), (PairStatus::Duplex, Role::Main), "seed {seed}");
        assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
    }
}

#[test]
fn two_that_end_at_once_are_the_same_at_the_next_start() {
    for seed in 0..40 {
        for steps in 0..6 {
            let case = format!("seed {seed}, {steps} steps");
            let mut duo = TwoControllers::met(seed);
            duo.ask(1, 1, write(0, 4, 5));
            duo.settle(1);
            duo.controllers[(seed % 2) as usize].stop();
            (0..steps).for_each(|_| {
                duo.step();
            });
            duo.controllers.iter().for_each(Controller::stop);
            duo.settle(ENDED_TICKS);
            assert!(duo.controllers.iter().all(Controller::stopped), "{case}");
            duo.cut();
            // A difference that no copy would leave: if it is still there afterwards, nothing was copied.
            duo.spoil(1, 6);
            let mut duo = duo.crash(seed + 100, true);
            duo.connect();
            duo.settle(10);
            assert_eq!(status(&duo, 0), (PairStatus::Duplex, Role::Main), "{case}");
            assert_eq!(duo.volume(1)[0], 6, "{case}: it was copied");
        }
    }
}

#[test]
fn two_that_are_each_main_of_something_end_at_once_without_waiting_for_each_other() {
    for seed in 0..40 {
        let mut duo = TwoControllers::two_luns(seed, 64);
        duo.connect();
        duo.settle(4);
        duo.controllers.iter().for_each(Controller::announce_stop);
        duo.settle(1);
        duo.controllers.iter().for_each(Controller::stop);
        duo.settle(ENDED_TICKS);
        assert!(duo.controllers.iter().all(Controller::stopped), "seed {seed}");
    }
}

#[test]
fn who_waits_for_its_hosts_to_leave_is_given_nothing_back_although_the_two_lost_each_other() {
    for seed in 0..20 {
        let (mut duo, mut tag) = (TwoControllers::met(seed), 0);
        duo.controllers[0].stop();
        writes_of(&mut duo, 1, ENDED_TICKS, &mut tag);
        duo.cut();
        let mut duo = duo.crash_one(seed + 100, 0);
        duo.connect();
        while status(&duo, 0).0 != PairStatus::Copy {
            assert!(duo.step(), "seed {seed}: nothing is copied");
        }
        duo.controllers[0].announce_stop();
        duo.cut();
        duo.connect();
        duo.settle(20);
        assert_eq!(status(&duo, 1), (PairStatus::Duplex, Role::Main), "seed {seed}");
    }
}

#[test]
fn a_hand_over_cut_anywhere_leaves_one_main_and_every_acknowledged_write() {
    let mut handed = 0;
    for seed in 0..400 {
        let mut duo = TwoControllers::met(seed);
        duo.ask(0, 1, write(0, 4, 5));
        duo.settle(1);
        assert_eq!(duo.answers(0), [(1, GOOD)]);
        duo.controllers[0].stop();
        for _ in 0..seed % 80 {
            if !duo.step() {
                duo.advance();
                duo.controllers.iter().for_each(Controller::on_tick);
            }
        }
        duo.cut();
        duo.ask(1, 2, write(0, 4, 7));
        duo.settle(20);
        let alone = [0, 1].map(|side| duo.controllers[side].status().luns[0].serving);
        assert_ne!(alone, [true, true], "seed {seed}: both serve");
        handed += u32::from(alone == [false, true]);
        let byte = if duo.answers(1).contains(&(2, GOOD)) { 7 } else { 5 };
        let mut duo = duo.crash(seed + 500, true);
        duo.connect();
        duo.settle(20);
        assert_eq!(status(&duo, 0), (PairStatus::Duplex, Role::Main), "seed {seed}");
        let read = [0, 1].map(|side| duo.volume(side)[0]);
        assert!(
            read[0] == read[1] && (read[0] == byte || (byte == 5 && read[0] == 7)),
            "seed {seed}: {read:?}"
        );
    }
    assert!((1..400).contains(&handed), "{handed}: the test shows nothing");
}

#[test]
fn a_controller_of_the_release_before_is_told_nothing_that_it_does_not_know() {
    for ends in 0..2 {
        let mut duo = TwoControllers::new(3, true);
        duo.speak_version_1();
        duo.connect();
        duo.settle(4);
        assert_eq!(status(&duo, 1).0, PairStatus::Duplex);
        duo.controllers[ends].stop();
        duo.settle(ENDED_TICKS);
        assert!(duo.controllers[ends].stopped());
        duo.ask(1 - ends, 1, crate::command::Op::Read { range: range(0, 1) });
        duo.settle(2);
        let refused = matches!(duo.answers(1 - ends)[..], [(1, Outcome::Check(_))]);
        assert_eq!(refused, ends == 0, "its main ends without handing over");
    }
}
