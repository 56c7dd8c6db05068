//! A controller whose workers do not get on claims nothing: neither its own lease nor that of its peer is renewed.

use crate::command::{Op, Outcome};
use crate::lease::LEASE;
use crate::pair::{PairStatus, Role};
use crate::testing::{BLOCKS, TwoControllers, range, write};
use crate::time::TICK;

const GOOD: Outcome = Outcome::Good(Vec::new());

fn places(duo: &TwoControllers) -> [(Role, PairStatus, bool); 2] {
    duo.controllers.each_ref().map(|controller| {
        let status = controller.status();
        (status.luns[0].role, status.luns[0].status, status.luns[0].serving)
    })
}

/// Ticks until the last lease that was granted has run out, and a little more.
const LEASE_TICKS: u32 = (LEASE.as_millis() / TICK.as_millis()) as u32 + 4;

#[test]
fn a_sub_whose_workers_are_stuck_parts_from_main_which_goes_on_alone() {
    for seed in 0..50 {
        let mut duo = TwoControllers::met(seed);
        duo.stick(1, true);
        duo.ask(0, 1, write(0, BLOCKS, 5));
        duo.settle(1);
        assert!(duo.has_closed_control(1), "seed {seed}: it claims to live");
        duo.cut();
        duo.settle(LEASE_TICKS);
        assert_eq!(duo.answers(0), [(1, GOOD)], "seed {seed}");
        let [main, sub] = places(&duo);
        assert_eq!(main, (Role::Main, PairStatus::Suspended, true), "seed {seed}");
        assert_eq!(sub, (Role::Sub, PairStatus::Suspended, false), "seed {seed}");
        let said = duo.controllers[1].status();
        assert!(
            said.stuck.is_some() && said.interlink.reason.is_some_and(|why| why.contains("does not get on"))
        );
    }
}

#[test]
fn a_main_whose_workers_are_stuck_grants_no_lease_and_does_not_go_on_alone() {
    for seed in 0..50 {
        let mut duo = TwoControllers::met(seed);
        let generation = duo.durable(0).unwrap().generation;
        duo.stick(0, true);
        duo.ask(1, 1, Op::Read { range: range(0, 1) });
        duo.settle(1);
        assert!(duo.has_closed_control(0), "seed {seed}: it claims to live");
        duo.cut();
        duo.settle(LEASE_TICKS);
        assert!(duo.answers(1).iter().all(|(_, outcome)| matches!(outcome, Outcome::Good(_))), "seed {seed}");
        duo.ask(1, 2, Op::Read { range: range(0, 1) });
        duo.settle(1);
        let answers = duo.answers(1);
        assert!(matches!(answers[..], [(2, Outcome::Check(_))]), "seed {seed}: {answers:?}");
        let [main, sub] = places(&duo);
        assert_eq!(
            (main.1, sub.1, sub.2),
            (PairStatus::Suspended, PairStatus::Suspended, false),
            "seed {seed}"
        );
        duo.ask(0, 3, write(0, 1, 9));
        duo.settle(2);
        assert!(!duo.answers(0).contains(&(3, GOOD)), "seed {seed}: it goes on alone");
        assert_eq!(duo.durable(0).unwrap().generation, generation, "seed {seed}: it named its copy alone");
    }
}

#[test]
fn one_that_is_stuck_meets_nobody_and_one_that_gets_on_again_does() {
    for seed in 0..50 {
        let mut duo = TwoControllers::met(seed);
        duo.stick(1, true);
        duo.settle(1);
        duo.cut();
        duo.connect();
        duo.settle(LEASE_TICKS);
        assert_eq!(places(&duo)[0].1, PairStatus::Suspended, "seed {seed}");
        assert!(!duo.controllers[1].status().interlink.up, "seed {seed}");
        duo.cut();
        duo.stick(1, false);
        duo.connect();
        duo.settle(LEASE_TICKS);
        assert_eq!(places(&duo).map(|(_, status, _)| status), [PairStatus::Duplex; 2], "seed {seed}");
    }
}

mod smaller_ones {
    use crate::command::Outcome;
    use crate::testing::{TwoControllers, write};

    const GOOD: Outcome = Outcome::Good(Vec::new());

    #[test]
    fn a_lun_without_a_copy_is_not_opened_after_the_end_has_begun() {
        for seed in 0..20 {
            for steps in 0..6 {
                let mut duo = TwoControllers::new(seed, false);
                duo.connect();
                duo.settle(4);
                let mut duo = duo.crash(seed + 1, false);
                (0..steps).for_each(|_| {
                    duo.step();
                });
                duo.controllers[0].stop();
                while duo.step() {}
                duo.ask(0, 1, write(0, 1, 1));
                while duo.step() {}
                assert_ne!(
                    duo.answers(0),
                    [(1, GOOD)],
                    "seed {seed}, {steps} steps: served after its end has begun"
                );
            }
        }
    }

    #[test]
    fn a_controller_whose_state_cannot_be_used_says_so_also_after_it_was_stuck() {
        let duo = TwoControllers::new(1, true);
        let mut duo = duo.crash_and(2, true, |side, restored| {
            if side == 0 {
                restored.unusable = Some("its control state is damaged".into());
            }
        });
        duo.settle(1);
        let before = duo.controllers[0].status().interlink.reason;
        duo.stick(0, true);
        duo.settle(1);
        duo.stick(0, false);
        duo.settle(4);
        assert_eq!(duo.controllers[0].status().interlink.reason, before);
    }

    #[test]
    fn a_main_that_gets_stuck_while_it_writes_that_it_goes_alone_does_not_go_alone() {
        for seed in 0..20 {
            let mut duo = TwoControllers::new(seed, true);
            duo.connect();
            duo.settle(1);
            duo.cut();
            while duo.step() {}
            (0..14).for_each(|_| duo.advance_and_tick());
            duo.stick(0, true);
            duo.settle(4);
            let lun = duo.controllers[0].status().luns.remove(0);
            duo.ask(0, 1, write(0, 1, 1));
            duo.settle(1);
            assert_ne!(
                duo.answers(0),
                [(1, GOOD)],
                "seed {seed}: a stuck controller has gone alone: {lun:?}"
            );
        }
    }
}
