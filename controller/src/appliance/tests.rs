//! Meeting, parting and meeting again.

use crate::appliance::Restored;
use crate::command::{Op, Outcome};
use crate::disk::DiskError;
use crate::link::{LinkId, LinkKind};
use crate::pair::{PairStatus, Role};
use crate::testing::{BLOCKS, Duo, blocks_of, range, write};
use crate::unit::Controller;
use crate::volume::superblock::VolumeFound;
use bytes::Bytes;
use protocol::scsi::sense::Sense;

fn statuses(duo: &Duo) -> [(PairStatus, Role, bool); 2] {
    duo.controllers.each_ref().map(|controller| {
        let lun = controller.status().luns.remove(0);
        (lun.status, lun.role, lun.serving)
    })
}

fn met(seed: u64, mirror: bool) -> Duo {
    let mut duo = Duo::new(seed, mirror);
    duo.connect();
    duo.settle(1);
    duo
}

const GOOD: Outcome = Outcome::Good(Vec::new());

const DUPLEX: [(PairStatus, Role, bool); 2] =
    [(PairStatus::Duplex, Role::Main, true), (PairStatus::Duplex, Role::Sub, true)];

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
        let mut duo = Duo::new(steps, true);
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
    let duo = Duo::new(1, true);
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
fn a_volume_that_went_missing_is_refilled_from_the_other_and_the_preferred_main_is_main_again() {
    for seed in 0..50 {
        let mut duo = met(seed, true);
        duo.ask(0, 1, write(0, BLOCKS, 5));
        duo.settle(1);
        duo.remove_volume(0);
        let mut duo = duo.crash(seed + 100, true);
        duo.connect();
        let mut mains = Vec::new();
        for tag in 0..40 {
            (0..4).for_each(|_| {
                duo.step();
            });
            duo.ask(1, tag, write(u64::from(tag) % 8, 1, tag as u8));
            duo.settle(0);
            mains.push(statuses(&duo)[1].1);
        }
        duo.settle(8);
        assert!(mains.contains(&Role::Main), "the source's controller is main while it copies");
        assert_eq!(statuses(&duo), DUPLEX, "seed {seed}");
        assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
        assert_eq!(duo.volume(0)[BLOCKS as usize * 512 - 1], 5);
    }
}

#[test]
fn a_cut_in_the_middle_of_a_turn_never_leaves_two_mains() {
    let mut mains = [0; 2];
    for seed in 0..400 {
        let mut duo = met(seed % 7, true);
        duo.ask(0, 1, write(0, BLOCKS, 5));
        duo.settle(1);
        duo.remove_volume(0);
        let mut duo = duo.crash(seed + 100, true);
        duo.connect();
        // beta is main while it copies back; then comes the turn.
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
fn a_disk_that_fails_takes_its_copy_out_and_the_other_serves_the_hosts_of_both() {
    for seed in 0..40 {
        for failed in 0..2 {
            let mut duo = met(seed, true);
            duo.break_disk(failed, DiskError::Io);
            for tag in 0..6 {
                duo.ask((tag % 2) as usize, tag, write(u64::from(tag), 1, tag as u8 + 1));
            }
            duo.settle(4);
            let ends = [duo.answers(0), duo.answers(1)].concat();
            assert_eq!(ends.len(), 6, "seed {seed}");
            let allowed = |end: &Outcome| *end == GOOD || *end == Outcome::Check(Sense::ABORTED_COMMAND);
            assert!(ends.iter().all(|(_, end)| allowed(end)), "seed {seed}: {ends:?}");
            for side in 0..2 {
                duo.ask(side, 10, write(9, 1, 99));
                duo.ask(side, 11, Op::Read { range: range(20, 1) });
                duo.settle(1);
                let mut ends = duo.answers(side);
                ends.sort_by_key(|(tag, _)| *tag);
                assert_eq!(
                    ends,
                    [(10, GOOD), (11, Outcome::Good(blocks_of(0, 1)))],
                    "seed {seed} side {side}"
                );
            }
            assert_eq!(statuses(&duo)[1 - failed], (PairStatus::Suspended, Role::Main, true));
            assert_eq!(statuses(&duo)[failed], (PairStatus::Suspended, Role::Sub, true));
            let volume = duo.volume(1 - failed);
            for (tag, end) in &ends {
                if *end == GOOD {
                    assert_eq!(volume[*tag as usize * 512], *tag as u8 + 1, "seed {seed}: an answered write");
                }
            }
        }
    }
}

#[test]
fn a_disk_that_does_not_answer_takes_its_copy_out_before_hosts_lose_patience() {
    for seed in 0..40 {
        for silent in 0..2 {
            let mut duo = met(seed, true);
            for tag in 0..6 {
                duo.ask((tag % 2) as usize, tag, write(u64::from(tag), 1, tag as u8 + 1));
            }
            duo.ask(silent, 6, Op::Read { range: range(20, 1) });
            for _ in 0..seed % 10 {
                duo.step();
            }
            duo.stall_disk(silent);
            // 4 s: well before a host's patience ends.
            duo.settle(80);
            let ends = [duo.answers(0), duo.answers(1)].concat();
            assert_eq!(ends.len(), 7, "seed {seed} silent {silent}: {ends:?}");
            let volume = duo.volume(1 - silent);
            for (tag, end) in &ends {
                if *end == GOOD {
                    assert_eq!(volume[*tag as usize * 512], *tag as u8 + 1, "seed {seed}: an answered write");
                }
            }
            for side in 0..2 {
                duo.ask(side, 10, write(9, 1, 99));
                duo.ask(side, 11, Op::Read { range: range(20, 1) });
                duo.settle(1);
                let mut ends = duo.answers(side);
                ends.sort_by_key(|(tag, _)| *tag);
                assert_eq!(
                    ends,
                    [(10, GOOD), (11, Outcome::Good(blocks_of(0, 1)))],
                    "seed {seed} side {side}"
                );
            }
        }
    }
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
    let mut duo = Duo::new(9, true);
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

/// Both served, then both ended by a crash; something happens to what one of them keeps; both start and meet.
fn cold_start(change: impl Fn(usize, &mut Restored)) -> Duo {
    let mut duo = met(11, true);
    duo.ask(0, 1, write(0, BLOCKS, 5));
    duo.settle(1);
    let mut duo = duo.crash_and(12, true, change);
    duo.connect();
    duo.settle(6);
    duo
}

fn reasons(duo: &Duo) -> [String; 2] {
    duo.controllers.each_ref().map(|controller| controller.status().luns.remove(0).reason.unwrap_or_default())
}

#[test]
fn what_is_said_of_a_pair_that_is_apart_tells_who_serves_and_what_to_do() {
    let mut duo = Duo::new(13, true);
    assert!(reasons(&duo)[0].contains("the LUN is made when the two meet for the first time. Start beta"));
    duo.connect();
    duo.settle(4);
    assert_eq!(reasons(&duo), ["", ""]);
    duo.cut();
    let [alpha, beta] = reasons(&duo);
    assert!(alpha.contains("in a moment alpha serves its hosts alone"), "{alpha}");
    assert!(beta.contains("beta refuses its hosts") && beta.ends_with("wait for alpha"), "{beta}");
    duo.settle(20);
    let [alpha, _] = reasons(&duo);
    assert!(
        alpha.starts_with("alpha serves its hosts alone") && alpha.contains("bring beta back"),
        "{alpha}"
    );
    // Both served under one generation, both are started again, and do not meet.
    let duo = met(14, true).crash(15, true);
    let [alpha, beta] = reasons(&duo);
    assert!(alpha.contains("alpha has been started again") && alpha.contains("start beta"), "{alpha}");
    assert!(beta.ends_with("wait for alpha"), "{beta}");
    // A LUN without a copy.
    let mut duo = met(16, false);
    duo.cut();
    assert!(reasons(&duo)[1].contains("alpha has the only copy of this LUN"), "{:?}", reasons(&duo));
}

#[test]
fn a_volume_with_foreign_content_is_refused_on_both_sides_and_not_touched() {
    for foreign in 0..2 {
        let duo = cold_start(|side, restored| {
            if side == foreign {
                restored.volumes = vec![VolumeFound::Foreign];
            }
        });
        assert_eq!(statuses(&duo).map(|status| status.2), [false; 2]);
        let name = ["alpha", "beta"][foreign];
        assert!(reasons(&duo).iter().all(|reason| reason.contains(name) && reason.contains("not this LUN")));
        assert_eq!(duo.volume(foreign), vec![5; (BLOCKS * 512) as usize]);
    }
}

#[test]
fn a_volume_of_another_lun_is_foreign() {
    let duo = cold_start(|side, restored| {
        if let (0, Some(VolumeFound::Open(superblock))) = (side, restored.volumes.first_mut()) {
            superblock.volume += 1;
        }
    });
    assert_eq!(statuses(&duo).map(|status| status.2), [false; 2]);
}

#[test]
fn with_an_empty_state_folder_a_controller_waits_for_a_person() {
    for empty in 0..2 {
        let duo = cold_start(|side, restored| {
            if side == empty {
                restored.records.clear();
                restored.volumes = vec![VolumeFound::Missing];
            }
        });
        assert_eq!(statuses(&duo).map(|status| status.2), [false; 2]);
        let name = ["alpha", "beta"][empty];
        assert!(reasons(&duo)[0].contains(name), "{:?}", reasons(&duo));
    }
}

#[test]
fn the_state_folder_of_another_appliance_is_refused_by_name() {
    let other = met(99, true);
    let stranger = other.records(1);
    let duo = cold_start(|side, restored| {
        if side == 1 {
            restored.records.clone_from(&stranger);
        }
    });
    assert_eq!(statuses(&duo).map(|status| status.2), [false; 2]);
    assert!(reasons(&duo)[0].contains("another appliance"), "{:?}", reasons(&duo));
}

#[test]
fn an_older_generation_is_refilled_from_the_newer_one() {
    let mut duo = met(13, true);
    let old = duo.records(1);
    duo.cut();
    duo.ask(0, 1, write(0, 4, 7));
    duo.settle(16);
    let mut duo = duo.crash_and(14, true, |side, restored| {
        if side == 1 {
            restored.records.clone_from(&old);
        }
    });
    duo.connect();
    duo.settle(6);
    assert_eq!(statuses(&duo), DUPLEX);
    assert_eq!(duo.volume(1)[0], 7);
}

#[test]
fn a_lun_whose_configuration_differs_is_not_paired_and_status_names_the_key() {
    let mut duo = Duo::configured(1, [&[("lun.data0.size", "32768")], &[("lun.data0.size", "65536")]]);
    duo.connect();
    duo.settle(2);
    assert_eq!(statuses(&duo).map(|status| status.2), [false; 2]);
    for reason in reasons(&duo) {
        assert!(reason.contains("`lun.data0.size`: 32768 on alpha, 65536 on beta"), "{reason}");
    }
}

#[test]
fn two_whose_appliances_differ_do_not_meet_and_status_names_the_key() {
    let mut duo = Duo::configured(1, [&[("appliance.iqn", "iqn.a")], &[("appliance.iqn", "iqn.b")]]);
    duo.connect();
    duo.settle(2);
    let interlink = duo.controllers.each_ref().map(|controller| controller.status().interlink);
    assert!(interlink.iter().all(|interlink| !interlink.up));
    assert!(interlink.iter().all(|interlink| {
        interlink
            .reason
            .as_ref()
            .is_some_and(|reason| reason.contains("`appliance.iqn`: iqn.a on alpha, iqn.b on beta"))
    }));
}

#[test]
fn after_both_lost_power_either_may_start_first_and_nothing_is_served_before_both_are_there() {
    for first in 0..2 {
        let mut duo = met(15, true);
        duo.ask(0, 1, write(0, 4, 7));
        duo.settle(1);
        let mut duo = duo.crash(16, true);
        (0..40).for_each(|_| {
            duo.advance();
            duo.controllers[first].on_tick();
        });
        duo.ask(first, 2, Op::Read { range: range(0, 1) });
        assert_eq!(duo.answers(first), [(2, Outcome::Check(Sense::UNAVAILABLE))]);
        assert!(reasons(&duo)[first].contains(["beta", "alpha"][first]), "{:?}", reasons(&duo));
        duo.connect();
        duo.settle(6);
        assert_eq!(statuses(&duo), DUPLEX);
        assert_eq!((duo.volume(0)[0], duo.volume(1)[0]), (7, 7));
    }
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
    let mut duo = Duo::new(20, true);
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

#[test]
fn a_copy_whose_target_could_not_take_everything_is_never_called_whole() {
    let (mut whole, mut out) = (0, 0);
    for seed in 0..3000 {
        let mut duo = met(seed, true);
        duo.ask(0, 1, write(0, BLOCKS, 5));
        duo.settle(1);
        duo.spoil(1, 6);
        let mut duo = duo.crash(seed + 100, true);
        duo.connect();
        (0..seed % 60).for_each(|_| {
            duo.step();
        });
        duo.break_disk(1, DiskError::Full);
        // The copy may get to its end before main hears that the target is about to leave, or before the two have met.
        duo.hold_control(seed % 2 == 0);
        duo.ask(0, 2, write(seed % BLOCKS, 1, 7));
        (0..seed % 9).for_each(|_| {
            duo.step();
        });
        duo.mend_disk(1);
        duo.settle(2);
        duo.hold_control(false);
        duo.settle(8);
        if statuses(&duo)[0].0 == PairStatus::Duplex {
            whole += 1;
            assert!(duo.volume(0) == duo.volume(1), "seed {seed}: the copies differ");
        } else {
            out += 1;
            duo.ask(1, 3, Op::Read { range: range(seed % BLOCKS, 1) });
            duo.settle(1);
            let expected = Outcome::Good(blocks_of(duo.volume(0)[(seed % BLOCKS) as usize * 512], 1));
            assert!(duo.answers(1).contains(&(3, expected)), "seed {seed}: main reads for the sub");
        }
    }
    assert!(whole > 0 && out > 0, "{whole} whole, {out} out: the test shows nothing");
}

#[test]
fn a_controller_that_lost_its_state_is_refused_wherever_it_crashed_after_meeting_its_peer() {
    for lost in 0..2 {
        for steps in 0..60 {
            let mut duo = met(20, true);
            duo.ask(0, 1, write(0, BLOCKS, 5));
            duo.settle(1);
            let mut duo = duo.crash_losing_state(21, lost);
            duo.connect();
            (0..steps).for_each(|_| {
                duo.step();
            });
            // Once more: cut off, then ended by a crash. What it has learnt it has learnt from its peer.
            if steps % 2 == 0 {
                duo.cut();
                duo.connect();
                duo.settle(6);
                assert_eq!(
                    statuses(&duo).map(|status| status.2),
                    [false; 2],
                    "{steps} steps: {:?}",
                    reasons(&duo)
                );
            }
            let mut duo = duo.crash(22, true);
            duo.connect();
            duo.settle(6);
            assert_eq!(
                statuses(&duo).map(|status| status.2),
                [false; 2],
                "{steps} steps: {:?}",
                reasons(&duo)
            );
            let name = ["alpha", "beta"][lost];
            assert!(reasons(&duo).iter().all(|reason| reason.contains(name)), "{:?}", reasons(&duo));
            assert_eq!(duo.volume(1 - lost), vec![5; (BLOCKS * 512) as usize]);
        }
    }
}
