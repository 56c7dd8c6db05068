//! What is found at a cold start: other configurations, other volumes, other folders, and what is said of them.

use crate::appliance::Restored;
use crate::command::{Op, Outcome};
use crate::pair::PairStatus;
use crate::testing::{BLOCKS, TwoControllers, range, write};
use crate::volume::superblock::VolumeFound;
use protocol::scsi::sense::Sense;

use super::{DUPLEX, met, reasons, statuses};

/// Both served, then both ended by a crash; something happens to what one of them keeps; both start and meet.
fn cold_start(change: impl Fn(usize, &mut Restored)) -> TwoControllers {
    let mut duo = met(11, true);
    duo.ask(0, 1, write(0, BLOCKS, 5));
    duo.settle(1);
    let mut duo = duo.crash_and(12, true, change);
    duo.connect();
    duo.settle(6);
    duo
}

#[test]
fn what_is_said_of_a_pair_that_is_apart_tells_who_serves_and_what_to_do() {
    let mut duo = TwoControllers::new(13, true);
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
    let mut duo =
        TwoControllers::configured(1, [&[("lun.data0.size", "32768")], &[("lun.data0.size", "65536")]]);
    duo.connect();
    duo.settle(2);
    assert_eq!(statuses(&duo).map(|status| status.2), [false; 2]);
    for reason in reasons(&duo) {
        assert!(reason.contains("`lun.data0.size`: 32768 on alpha, 65536 on beta"), "{reason}");
    }
}

#[test]
fn two_whose_appliances_differ_do_not_meet_and_status_names_the_key() {
    let mut duo =
        TwoControllers::configured(1, [&[("appliance.iqn", "iqn.a")], &[("appliance.iqn", "iqn.b")]]);
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

#[test]
fn a_copy_that_was_being_refilled_when_main_went_is_called_no_image() {
    let mut shown = 0;
    for seed in 0..20 {
        let mut duo = TwoControllers::met(seed).crash(100 + seed, true);
        duo.connect();
        for _ in 0..400 {
            if duo.statuses()[1] == PairStatus::Copy {
                break;
            }
            if !duo.step() {
                duo.advance_and_tick();
            }
        }
        let copied = duo.statuses()[1] == PairStatus::Copy;
        duo.cut();
        duo.settle(60);
        let no_image = reasons(&duo)[1].contains("is no image of the LUN");
        assert_eq!(no_image, copied, "seed {seed}: {:?}", reasons(&duo));
        shown += u32::from(copied);
    }
    assert!(shown > 0, "no copy was cut");
}
