//! A clean end that begins while something else is under way: a switch, a meeting, a wait for the lease.

use crate::command::{Op, Outcome};
use crate::pair::PairStatus;
use crate::testing::{TwoControllers, range, write};
use crate::unit::Controller;

const GOOD: Outcome = Outcome::Good(Vec::new());

/// Ticks of 50 ms after which an end under load has come.
const ENDED_TICKS: u32 = 60;

/// alpha was started again; its copy is whole, and beta is about to give the LUN back to it.
fn turning_back(seed: u64) -> TwoControllers {
    let mut duo = TwoControllers::met(seed).crash_one(seed, 0);
    duo.connect();
    while !(0..2).any(|side| is_switching(&duo, side)) {
        if !duo.step() {
            duo.settle(1);
        }
    }
    duo
}

fn is_switching(duo: &TwoControllers, side: usize) -> bool {
    duo.controllers[side].place(crate::command::LunIndex(0)).is_some_and(|(.., switching)| switching)
}

/// Steps with hosts writing on both sides.
fn write_and_step(duo: &mut TwoControllers, steps: u32, tag: &mut u32) {
    for _ in 0..steps {
        *tag += 1;
        let side = (*tag % 2) as usize;
        duo.ask(side, *tag, write(u64::from(*tag % 16) * 4, 2, *tag as u8));
        duo.step();
        duo.controllers.iter().for_each(Controller::on_tick);
    }
}

fn good(answers: &[(u32, Outcome)]) -> bool {
    answers.iter().any(|(_, outcome)| *outcome == GOOD)
}

/// Whether the end itself has begun there: what a controller is main of is handed over before, and hosts are served.
fn ends(duo: &TwoControllers, side: usize) -> bool {
    !duo.controllers[side].status().luns[0].serving
}

#[test]
fn a_clean_end_that_begins_in_a_switch_opens_nothing_and_its_marks_are_true() {
    let mut both_clean = 0;
    for seed in 0..12 {
        for before in 0..40 {
            for stopper in 0..2 {
                let case = format!("seed {seed}, {before} steps, stopped {stopper}");
                let (mut duo, mut tag) = (turning_back(seed), 0);
                write_and_step(&mut duo, before, &mut tag);
                duo.controllers[stopper].stop();
                let mut last = None;
                for _ in 0..ENDED_TICKS {
                    write_and_step(&mut duo, 6, &mut tag);
                    duo.settle(1);
                    let mut answers = duo.answers(stopper);
                    answers.retain(|(asked, _)| last.is_some_and(|last| *asked > last));
                    assert!(!good(&answers), "{case}: served after its end has begun");
                    if ends(&duo, stopper) {
                        last.get_or_insert(tag);
                    }
                    if duo.controllers[stopper].stopped() {
                        break;
                    }
                }
                assert!(duo.controllers[stopper].stopped(), "{case}: the end does not come");
                let clean = [0, 1].map(|side| duo.durable(side).is_some_and(|record| record.clean));
                if clean == [true, true] {
                    both_clean += 1;
                    assert_eq!(duo.volume(0), duo.volume(1), "{case}: both marked clean and different");
                }
            }
        }
    }
    assert!(both_clean > 100, "only {both_clean} ends were clean on both sides");
}

#[test]
fn a_clean_end_that_begins_while_the_two_are_meeting_serves_nobody_and_comes() {
    for seed in 0..8 {
        for steps in 0..50 {
            for stopper in 0..2 {
                let case = format!("seed {seed}, {steps} steps, stopped {stopper}");
                let mut duo = TwoControllers::met(seed);
                duo.cut();
                duo.connect();
                (0..steps).for_each(|_| {
                    duo.step();
                });
                let met = duo.controllers[stopper].status().interlink.up;
                duo.controllers[stopper].stop();
                duo.ask(stopper, 1, write(0, 1, 1));
                duo.settle(ENDED_TICKS);
                assert!(met || !good(&duo.answers(stopper)), "{case}: served after its end has begun");
                duo.ask(stopper, 2, write(4, 1, 1));
                duo.settle(2);
                assert!(!duo.answers(stopper).contains(&(2, GOOD)), "{case}: served after its end");
                assert!(duo.controllers[stopper].stopped(), "{case}: the end does not come");
            }
        }
    }
}

#[test]
fn a_clean_end_while_main_waits_for_the_lease_comes_at_once_and_refuses_who_waits() {
    for seed in 0..20 {
        let mut duo = TwoControllers::met(seed);
        duo.cut();
        duo.ask(0, 1, Op::Read { range: range(0, 1) });
        duo.settle(2);
        assert!(duo.answers(0).is_empty(), "seed {seed}");
        duo.controllers[0].stop();
        duo.settle(2);
        assert_eq!(duo.answers(0).len(), 1, "seed {seed}: who waits hears of it");
        assert!(duo.controllers[0].stopped(), "seed {seed}");
        duo.settle(30);
        assert_eq!(duo.controllers[0].status().luns[0].status, PairStatus::Suspended, "seed {seed}");
        assert_eq!(duo.durable(0).map(|record| record.generation.members), Some(0b11), "seed {seed}");
    }
}

#[test]
fn no_switch_begins_once_an_end_has_begun() {
    for seed in 0..40 {
        let mut duo = TwoControllers::met(seed);
        duo.ask(1, 1, write(0, 2, 1));
        duo.ask(0, 1, write(8, 2, 1));
        (0..seed % 8).for_each(|_| {
            duo.step();
        });
        duo.break_disk(1, crate::disk::DiskError::Io);
        duo.controllers.iter().for_each(Controller::stop);
        // What was being handed over when each heard of the other's end is carried out.
        let mut over = false;
        for _ in 0..200 {
            while duo.step() {
                let switching = (0..2).any(|side| is_switching(&duo, side));
                assert!(!(over && switching), "seed {seed}");
                over |= !switching && (0..2).all(|side| ends(&duo, side));
            }
            duo.settle(0);
        }
        assert!(duo.controllers.iter().all(Controller::stopped), "seed {seed}: the end does not come");
    }
}

mod in_the_switch_in_which_a_copy_leaves {
    // A copy that leaves by a switch while its controller ends.

    use crate::command::{LunIndex, Outcome};
    use crate::disk::DiskError;
    use crate::testing::{TwoControllers, write};
    use crate::unit::Controller;

    const GOOD: Outcome = Outcome::Good(Vec::new());

    /// The disk of the sub has failed, its copy is about to leave, and its controller is stopped.
    #[test]
    fn a_main_whose_peer_ended_in_the_switch_in_which_its_copy_left_serves_its_hosts() {
        let mut met_it = 0;
        for seed in 0..20 {
            for steps in 0..40 {
                let mut duo = TwoControllers::new(seed, true);
                duo.connect();
                duo.settle(1);
                duo.break_disk(1, DiskError::Io);
                duo.ask(0, 1, write(0, 4, 1));
                for _ in 0..steps {
                    duo.step();
                    duo.controllers.iter().for_each(Controller::on_tick);
                }
                let switching = (0..2).any(|side| {
                    duo.controllers[side].place(LunIndex(0)).is_some_and(|(.., switching)| switching)
                });
                met_it += u32::from(switching);
                duo.controllers[1].stop();
                for _ in 0..400 {
                    duo.settle(0);
                    if duo.controllers[1].stopped() {
                        break;
                    }
                }
                assert!(duo.controllers[1].stopped(), "seed {seed}, {steps} steps: the end does not come");
                duo.cut();
                duo.settle(30);
                duo.answers(0);
                duo.ask(0, 9, write(20, 2, 7));
                // A command is BUSY after four seconds.
                duo.settle(90);
                let lun = duo.controllers[0].status().luns.remove(0);
                assert_eq!(
                    duo.answers(0),
                    [(9, GOOD)],
                    "seed {seed}, {steps} steps: alpha is main, has the only whole copy, and says: {lun:?}"
                );
            }
        }
        assert!(met_it > 20, "{met_it}: the test shows nothing");
    }
}

#[test]
fn a_main_whose_disk_does_not_take_the_mark_of_its_peers_end_goes_on_when_it_does() {
    for seed in 0..20 {
        let mut duo = TwoControllers::met(seed);
        duo.hold_marks(Some((0, 0)));
        duo.controllers[1].stop();
        duo.settle(80);
        duo.cut();
        duo.settle(20);
        duo.hold_marks(None);
        duo.settle(120);
        let lun = duo.controllers[0].status().luns.remove(0);
        assert!(lun.serving, "seed {seed}: {:?}", lun.reason);
    }
}

/// Both have ended cleanly and meet; whatever comes between them, what is on both disks is the same.
#[test]
fn a_meeting_that_comes_to_nothing_after_a_clean_end_costs_no_copy() {
    for (seed, steps) in (0..10).flat_map(|seed| (0..60).map(move |steps| (seed, steps))) {
        for cut in [false, true] {
            let mut duo = TwoControllers::met(seed);
            duo.controllers.iter().for_each(crate::unit::Controller::stop);
            duo.settle(20);
            let mut duo = duo.crash(seed + 1, true);
            duo.connect();
            (0..steps).for_each(|_| {
                duo.step();
            });
            let joined = duo.controllers.iter().all(|controller| controller.status().interlink.up);
            let placed = duo.statuses()[1] == PairStatus::Duplex;
            let duo = if cut {
                duo.cut();
                duo.settle(2);
                duo
            } else {
                duo.controllers.iter().for_each(crate::unit::Controller::stop);
                duo.settle(200);
                assert!(duo.controllers.iter().all(crate::unit::Controller::stopped));
                duo.crash(seed + 2, true)
            };
            // What main has begun to send may differ.
            if placed && (cut || !joined) {
                continue;
            }
            let mut duo = duo;
            (0..2).for_each(|side| duo.stall_disk(side));
            duo.connect();
            duo.settle(4);
            let copied = duo.statuses().contains(&PairStatus::Copy);
            assert!(!copied, "seed {seed} steps {steps} cut {cut}: everything is copied");
        }
    }
}

/// A clean end is no news once something was served: what was under way when the two lost each other may be on one
/// alone.
#[test]
fn what_was_served_since_a_clean_end_is_copied_after_a_cut() {
    for (seed, steps) in (0..40).flat_map(|seed| (0..12).map(move |steps| (seed, steps))) {
        let mut duo = TwoControllers::met(seed);
        duo.controllers.iter().for_each(crate::unit::Controller::stop);
        duo.settle(20);
        let mut duo = duo.crash(seed + 1, true);
        duo.connect();
        duo.settle(2);
        duo.ask(0, 1, write(0, 2, 7));
        (0..steps).for_each(|_| {
            duo.step();
        });
        duo.cut();
        duo.settle(1);
        duo.connect();
        duo.settle(90);
        assert_eq!(duo.statuses(), [PairStatus::Duplex; 2], "seed {seed} steps {steps}");
        assert!(duo.volume(0) == duo.volume(1), "seed {seed} steps {steps}: the copies differ");
    }
}
