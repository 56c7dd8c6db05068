//! Meeting, parting and meeting again.

use crate::command::{Op, Outcome};
use crate::link::{LinkId, LinkKind};
use crate::pair::{PairStatus, Role};
use crate::testing::{BLOCKS, TwoControllers, blocks_of, range, write};
use crate::unit::Controller;
use bytes::Bytes;
use protocol::scsi::sense::Sense;

use super::{DUPLEX, GOOD, met, reasons, statuses};

#[test]
fn two_that_never_knew_the_lun_make_it_together_and_are_duplex_at_once() {
    for seed in 0..50 {
        let duo = met(seed, true);
        assert_eq!(
            statuses(&duo),
            DUPLEX,
            "seed {seed}: {:?}",
            duo.controllers.each_ref().map(|c| c.status().interlink)
        );
        let [alpha, beta] = duo.controllers.each_ref().map(|controller| controller.status());
        assert_eq!(alpha.appliance, beta.appliance);
        assert_eq!((&alpha.luns[0].naa, &alpha.luns[0].serial), (&beta.luns[0].naa, &beta.luns[0].serial));
        assert!(alpha.luns[0].naa.as_ref().is_some_and(|naa| naa.starts_with('3')));
    }
}

#[test]
fn a_first_meeting_that_is_cut_anywhere_starts_over() {
    for steps in 0..80 {
        let mut duo = TwoControllers::new(steps, true);
        duo.connect();
        (0..steps).for_each(|_| {
            duo.step();
        });
        duo.cut();
        duo.settle(1);
        duo.connect();
        duo.settle(40);
        let statuses = statuses(&duo).map(|(status, ..)| status);
        assert_eq!(statuses, [PairStatus::Duplex; 2], "cut after {steps} steps: {:?}", reasons(&duo));
    }
}

#[test]
fn before_they_meet_nothing_is_served() {
    let duo = TwoControllers::new(1, true);
    duo.ask(0, 1, write(0, 1, 1));
    assert_eq!(duo.answers(0), [(1, Outcome::Check(Sense::UNAVAILABLE))]);
    assert!(!duo.controllers[0].serving());
}

#[test]
fn a_write_through_either_reaches_both_copies_before_good() {
    for seed in 0..50 {
        for side in 0..2 {
            let mut duo = met(seed, true);
            duo.ask(side, 7, write(3, 2, 9));
            assert!(duo.answers(side).is_empty());
            while duo.answers(side).is_empty() {
                assert!(duo.step());
            }
            for copy in 0..2 {
                assert_eq!(duo.volume(copy)[3 * 512..5 * 512], [9; 1024], "seed {seed} side {side}");
            }
        }
    }
}

#[test]
fn after_a_crash_of_both_main_is_copied_to_the_sub_and_then_they_are_duplex() {
    for seed in 0..20 {
        let mut duo = met(seed, true);
        duo.ask(0, 1, write(0, BLOCKS, 5));
        duo.settle(1);
        duo.spoil(1, 6);
        let mut duo = duo.crash(seed + 100, true);
        duo.connect();
        duo.settle(4);
        assert_eq!(statuses(&duo), DUPLEX, "seed {seed}");
        assert_eq!(duo.volume(0), duo.volume(1));
        assert_eq!(duo.volume(1)[0], 5);
    }
}

#[test]
fn after_a_clean_end_nothing_is_copied() {
    for seed in 0..20 {
        let mut duo = met(seed, true);
        duo.ask(1, 1, write(0, 4, 5));
        duo.settle(1);
        duo.controllers[1].stop();
        duo.settle(4);
        assert!(duo.controllers[1].stopped(), "seed {seed}");
        duo.cut();
        // A difference no copy would leave: if it is still there afterwards, nothing was copied.
        duo.spoil(1, 6);
        let mut duo = duo.crash(seed + 100, true);
        duo.connect();
        duo.settle(4);
        assert_eq!(statuses(&duo), DUPLEX, "seed {seed}");
        assert_eq!(duo.volume(1)[0], 6);
    }
}

#[test]
fn after_a_cut_main_goes_on_alone_when_the_lease_has_run_out_and_the_sub_refuses() {
    for seed in 0..200 {
        let mut duo = met(seed, true);
        for tag in 0..8 {
            duo.ask(usize::from(tag % 2 == 0), tag, write(u64::from(tag / 2), 4, tag as u8 + 1));
        }
        for _ in 0..seed % 40 {
            duo.step();
        }
        let before = duo.answers(0).len();
        duo.cut();
        duo.ask(0, 100, write(20, 1, 77));
        while duo.step() {}
        // What both copies had before the cut may still be answered; nothing else is before the lease has run out.
        let mut answers = duo.answers(0);
        assert!(answers.iter().all(|(tag, _)| *tag != 100), "seed {seed}");
        duo.settle(16);
        answers.extend(duo.answers(0));
        assert!(answers.iter().all(|(_, end)| *end == GOOD), "seed {seed}: {answers:?}");
        assert_eq!(before + answers.len(), 5, "seed {seed}: each of main's hosts' commands and the late one");
        assert_eq!(
            statuses(&duo),
            [(PairStatus::Suspended, Role::Main, true), (PairStatus::Suspended, Role::Sub, false)],
            "seed {seed}"
        );
        duo.ask(1, 101, Op::Read { range: range(0, 1) });
        assert_eq!(duo.answers(1).pop(), Some((101, Outcome::Check(Sense::UNAVAILABLE))));
        assert!(duo.controllers.iter().all(|controller| controller.status().luns[0].commands == 0));
        duo.connect();
        duo.settle(4);
        let report = duo.controllers.each_ref().map(|controller| controller.status());
        assert_eq!(statuses(&duo), DUPLEX, "seed {seed}: {report:?}");
        assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
        assert_eq!(duo.volume(1)[20 * 512], 77, "seed {seed}");
    }
}

#[test]
fn a_cut_that_heals_before_the_lease_has_run_out_costs_hosts_of_main_only_time() {
    for seed in 0..100 {
        let mut duo = met(seed, true);
        for tag in 0..6 {
            duo.ask(0, tag, write(u64::from(tag), 2, tag as u8 + 1));
        }
        for _ in 0..seed % 20 {
            duo.step();
        }
        let before = duo.answers(0).len();
        duo.cut();
        duo.ask(0, 7, write(20, 1, 77));
        duo.connect();
        duo.settle(4);
        let answers = duo.answers(0);
        assert_eq!(before + answers.len(), 7, "seed {seed}");
        assert!(answers.iter().all(|(_, end)| *end == GOOD), "seed {seed}: {answers:?}");
        assert_eq!(statuses(&duo), DUPLEX, "seed {seed}");
        assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
    }
}

#[test]
fn a_read_of_the_subs_own_copy_waits_for_the_lease_and_is_refused_when_the_peer_is_lost() {
    let mut duo = met(3, true);
    (0..14).for_each(|_| duo.advance());
    duo.ask(1, 1, Op::Read { range: range(0, 1) });
    while duo.step() {}
    assert_eq!(duo.answers(1), [], "the data is there, the right to send it is not");
    duo.settle(3);
    assert_eq!(duo.answers(1), [(1, Outcome::Good(blocks_of(0, 1)))], "the lease is renewed");
    (0..14).for_each(|_| duo.advance());
    duo.ask(1, 2, Op::Read { range: range(0, 1) });
    while duo.step() {}
    duo.cut();
    duo.settle(1);
    assert_eq!(duo.answers(1), [(2, Outcome::Check(Sense::UNAVAILABLE))]);
}

#[test]
fn a_main_that_was_alone_starts_alone_and_what_it_wrote_meanwhile_reaches_the_other() {
    let mut duo = met(4, true);
    duo.cut();
    duo.ask(0, 1, write(0, 4, 5));
    duo.settle(16);
    assert_eq!(duo.answers(0), [(1, GOOD)]);
    let mut duo = duo.crash(5, true);
    duo.ask(0, 2, write(4, 4, 6));
    while duo.step() {}
    assert_eq!(duo.answers(0), [], "it waits one lease first");
    duo.settle(16);
    assert_eq!(duo.answers(0), [(2, GOOD)]);
    duo.ask(1, 3, write(0, 1, 9));
    assert_eq!(duo.answers(1), [(3, Outcome::Check(Sense::UNAVAILABLE))], "the sub waits for main");
    duo.connect();
    duo.settle(4);
    assert_eq!(statuses(&duo), DUPLEX);
    assert_eq!(duo.volume(0), duo.volume(1));
    assert_eq!(duo.volume(1)[4 * 512], 6);
}

#[test]
fn one_that_starts_alone_after_both_served_waits_for_the_other() {
    for side in 0..2 {
        let mut duo = met(6, true).crash(7, true);
        duo.settle(30);
        duo.ask(side, 1, Op::Read { range: range(0, 1) });
        assert_eq!(duo.answers(side), [(1, Outcome::Check(Sense::UNAVAILABLE))]);
    }
}

#[test]
fn a_sub_that_ends_cleanly_leaves_main_serving() {
    let mut duo = met(8, true);
    duo.ask(0, 1, write(0, 4, 5));
    duo.settle(1);
    duo.controllers[1].stop();
    duo.settle(4);
    assert!(duo.controllers[1].stopped());
    duo.cut();
    duo.ask(0, 2, write(0, 4, 6));
    duo.settle(16);
    assert_eq!(duo.answers(0), [(1, GOOD), (2, GOOD)]);
    assert_eq!(statuses(&duo)[0], (PairStatus::Suspended, Role::Main, true));
}

#[test]
fn a_cut_in_the_middle_of_a_switch_never_leaves_two_mains() {
    let mut mains = [0; 2];
    for seed in 0..400 {
        let mut duo = met(seed % 7, true);
        duo.ask(0, 1, write(0, BLOCKS, 5));
        duo.settle(1);
        duo.remove_volume(0);
        let mut duo = duo.crash(seed + 100, true);
        duo.connect();
        // beta is main while it copies back; then comes the switch.
        for _ in 0..seed % 80 {
            if !duo.step() {
                duo.advance();
                duo.controllers.iter().for_each(Controller::on_tick);
            }
        }
        duo.cut();
        duo.ask(0, 2, write(3, 1, 7));
        duo.ask(1, 3, write(3, 1, 8));
        duo.settle(20);
        let good = [duo.answers(0), duo.answers(1)].map(|ends| ends.iter().any(|(_, end)| *end == GOOD));
        assert!(good != [true, true], "seed {seed}: both went on alone");
        good.iter().zip(&mut mains).for_each(|(good, count)| *count += u32::from(*good));
        duo.connect();
        duo.settle(8);
        let report = duo.controllers.each_ref().map(|controller| controller.status());
        assert_eq!(statuses(&duo), DUPLEX, "seed {seed}: {report:?}");
        assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
        for (side, value) in [(0, 7), (1, 8)] {
            if good[side] {
                assert_eq!(duo.volume(0)[3 * 512], value, "seed {seed}");
            }
        }
    }
    assert!(mains.iter().all(|count| *count > 0), "{mains:?}: the test shows nothing");
}

#[test]
fn a_lun_without_a_copy_is_served_by_main_and_forwarded_to_by_the_other() {
    let mut duo = met(6, false);
    assert_eq!(statuses(&duo).map(|status| status.0), [PairStatus::Simplex; 2]);
    duo.ask(1, 1, write(0, 2, 5));
    duo.settle(1);
    assert_eq!(duo.answers(1), [(1, Outcome::Good(vec![]))]);
    duo.ask(1, 2, Op::Read { range: range(0, 2) });
    duo.settle(1);
    assert_eq!(duo.answers(1), [(2, Outcome::Good(blocks_of(5, 2)))]);
    duo.cut();
    duo.ask(0, 3, Op::Read { range: range(0, 2) });
    duo.settle(1);
    assert_eq!(duo.answers(0), [(3, Outcome::Good(blocks_of(5, 2)))], "main goes on alone");
    duo.ask(1, 4, Op::Read { range: range(0, 2) });
    assert_eq!(duo.answers(1), [(4, Outcome::Check(Sense::UNAVAILABLE))]);
    let mut duo = duo.crash(7, false);
    duo.settle(0);
    duo.ask(0, 5, Op::Read { range: range(0, 2) });
    duo.settle(1);
    assert_eq!(duo.answers(0), [(5, Outcome::Good(blocks_of(5, 2)))], "and serves again without its peer");
}

#[test]
fn a_silent_peer_is_taken_for_lost() {
    let mut duo = met(8, true);
    let now = core::time::Duration::from_secs(3);
    for _ in 0..now.as_millis() / 50 {
        // Time passes for alpha alone; nothing beta says arrives.
        duo.controllers[0].on_tick();
        duo.advance();
    }
    assert_eq!(statuses(&duo)[0].0, PairStatus::Suspended);
    assert!(duo.controllers[0].status().interlink.reason.is_some_and(|reason| reason.contains("silent")));
}

/// The machine at the other end died before it greeted: nothing that is sent would ever find out.
#[test]
fn a_connection_that_never_greets_is_closed_and_the_pair_meets_by_another() {
    let mut duo = TwoControllers::new(9, true);
    duo.half_open();
    duo.settle(30);
    assert!(!duo.has_closed_control(0), "it has not been open for long");
    duo.settle(15);
    assert!(duo.has_closed_control(0));
    duo.cut();
    duo.connect();
    duo.settle(2);
    assert_eq!(statuses(&duo), DUPLEX);
}

#[test]
fn strangers_on_the_interlink_disturb_nobody() {
    let mut duo = met(17, true);
    duo.ask(1, 1, write(0, 4, 7));
    for (link, frame) in [(50, vec![0u8; 64]), (51, duo.greeting_of_another_appliance())] {
        duo.controllers[0].on_link_up(LinkId(link), None);
        duo.controllers[0].on_frame(LinkId(link), frame.into(), Bytes::new());
        duo.controllers[0].on_link_down(LinkId(link));
    }
    duo.settle(1);
    assert_eq!(duo.answers(1), [(1, GOOD)]);
    assert_eq!(statuses(&duo), DUPLEX);
}

#[test]
fn a_peer_that_starts_over_unnoticed_is_met_again() {
    let mut duo = met(18, true);
    // beta's end of the old connections is half-open: only alpha has noticed.
    for link in 0..3 {
        duo.controllers[0].on_link_down(LinkId(link));
    }
    duo.controllers[0].on_link_up(LinkId(60), Some(LinkKind::Control));
    duo.controllers[1].on_link_up(LinkId(60), None);
    while duo.step() {}
    assert!(!statuses(&duo)[1].2, "beta has noticed by the greeting");
    duo.cut();
    duo.connect();
    duo.settle(6);
    assert_eq!(statuses(&duo), DUPLEX);
}

#[test]
fn a_bridge_that_the_peer_has_made_anew_unnoticed_makes_both_start_over() {
    let mut duo = met(19, true);
    // beta still sends by the bridge that alpha makes anew.
    duo.controllers[0].on_link_up(LinkId(60), Some(LinkKind::Bridge(0)));
    duo.controllers[1].on_link_up(LinkId(60), None);
    while duo.step() {}
    assert!(!statuses(&duo)[1].2, "beta has noticed by the greeting");
    duo.cut();
    duo.connect();
    duo.settle(6);
    assert_eq!(statuses(&duo), DUPLEX);
}

#[test]
fn a_bridge_that_one_has_lost_before_the_two_met_makes_both_start_over() {
    let mut duo = TwoControllers::new(20, true);
    duo.connect_bridges();
    while duo.step() {}
    // Both have greeted it; only beta learns that it is gone.
    duo.controllers[1].on_link_down(LinkId(0));
    duo.connect_control();
    while duo.step() {}
    assert!(duo.has_closed_control(1), "alpha would send into it for ever");
    duo.cut();
    duo.connect();
    duo.settle(2);
    assert_eq!(statuses(&duo), DUPLEX);
}
