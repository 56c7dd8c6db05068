//! Devices as volumes: how large the LUN gets, and what a device that cannot be used is answered with.

use crate::command::{LunIndex, Outcome};
use crate::pair::PairStatus;
use crate::testing::{BLOCKS, TwoControllers, write};
use crate::volume::superblock::VolumeFound;

fn met(mut duo: TwoControllers) -> TwoControllers {
    duo.connect();
    duo.settle(4);
    duo
}

fn statuses(duo: &TwoControllers) -> [(PairStatus, bool); 2] {
    duo.controllers.each_ref().map(|controller| {
        let lun = controller.status().luns.remove(0);
        (lun.status, lun.serving)
    })
}

fn reason(duo: &TwoControllers, side: usize) -> String {
    duo.controllers[side].status().luns.remove(0).reason.unwrap_or_default()
}

#[test]
fn the_smaller_device_decides_how_large_the_lun_is_whichever_it_is() {
    for (seed, rooms) in [[BLOCKS, BLOCKS + 8], [BLOCKS + 8, BLOCKS]].into_iter().enumerate() {
        let duo = met(TwoControllers::on_devices(seed as u64, 0, rooms));
        assert_eq!(statuses(&duo), [(PairStatus::Duplex, true); 2], "{rooms:?}: {}", reason(&duo, 0));
        for controller in &duo.controllers {
            assert_eq!(
                controller.capacity(LunIndex(0)).map(|(blocks, ..)| blocks),
                Some(BLOCKS),
                "{rooms:?}"
            );
        }
    }
}

#[test]
fn a_device_that_is_too_small_is_named_and_a_smaller_size_is_taken_afterwards() {
    let duo = met(TwoControllers::on_devices(3, BLOCKS + 1, [BLOCKS + 8, BLOCKS]));
    assert_eq!(statuses(&duo), [(PairStatus::Suspended, false); 2]);
    for side in 0..2 {
        let reason = reason(&duo, side);
        assert!(reason.contains(&format!(
            "the device of beta is too small: the LUN is to have {}",
            (BLOCKS + 1) * 512
        )));
        assert!(reason.contains(&format!("and {} fit", BLOCKS * 512)), "{reason}");
    }
    // Nothing was made that would have to be kept.
    let blank = |_, restored: &mut crate::appliance::Restored| restored.volumes = vec![VolumeFound::Blank];
    let duo = met(duo.crash_on_devices(4, [BLOCKS + 8, BLOCKS], blank));
    assert_eq!(statuses(&duo), [(PairStatus::Duplex, true); 2], "{}", reason(&duo, 0));
}

#[test]
fn a_device_that_is_not_there_at_the_first_start_is_named() {
    for (blocks, rooms, name) in [(0, [0, BLOCKS], "alpha"), (BLOCKS, [BLOCKS, 0], "beta")] {
        let duo = met(TwoControllers::on_devices(5, blocks, rooms));
        assert_eq!(statuses(&duo), [(PairStatus::Suspended, false); 2]);
        assert!(
            reason(&duo, 1).contains(&format!("the volume of {name} cannot be opened or made")),
            "{}",
            reason(&duo, 1)
        );
    }
}

#[test]
fn a_device_that_is_gone_or_too_small_later_leaves_the_other_serving_both_hosts() {
    for (room, found) in [(0, VolumeFound::Missing), (BLOCKS - 1, VolumeFound::Blank)] {
        for side in 0..2 {
            let mut duo = met(TwoControllers::on_devices(6, 0, [BLOCKS; 2]));
            duo.ask(side, 1, write(0, 2, 7));
            duo.settle(1);
            let mut rooms = [BLOCKS; 2];
            rooms[side] = room;
            let mut duo = met(duo.crash_on_devices(7, rooms, |at, restored| {
                if at == side {
                    restored.volumes = vec![found];
                }
            }));
            let expected = [(PairStatus::Suspended, true); 2];
            assert_eq!(statuses(&duo), expected, "{found:?} {side}: {}", reason(&duo, 0));
            assert_eq!(duo.volume(1 - side)[..1024], [7; 1024]);
            duo.ask(side, 2, write(0, 1, 8));
            duo.settle(1);
            assert_eq!(duo.answers(side), [(2, Outcome::Good(Vec::new()))]);
        }
    }
}

#[test]
fn a_blank_device_in_place_of_one_that_failed_is_refilled() {
    let mut duo = met(TwoControllers::on_devices(8, 0, [BLOCKS; 2]));
    duo.ask(0, 1, write(0, 2, 7));
    duo.settle(1);
    let duo = met(duo.crash_on_devices(9, [BLOCKS, BLOCKS + 5], |side, restored| {
        if side == 1 {
            restored.volumes = vec![VolumeFound::Blank];
        }
    }));
    assert_eq!(statuses(&duo), [(PairStatus::Duplex, true); 2], "{}", reason(&duo, 0));
    assert_eq!(duo.volume(0), duo.volume(1));
}

#[test]
fn a_device_that_is_replaced_by_a_smaller_one_before_the_lun_is_made_sets_its_size_when_both_start() {
    for (seed, hangs) in (0..20).flat_map(|seed| [(seed, false), (seed, true)]) {
        let mut duo = TwoControllers::on_devices(seed, 0, [64, 64]);
        // Beta has made its volume, or is about to.
        if hangs {
            duo.hold_volumes(true);
        } else {
            duo.cannot_make(0, 0);
        }
        duo.connect();
        duo.settle_and_redial(2);
        let [plan, _] = TwoControllers::plans_on_devices(0, [48, 64]);
        let mut duo = duo.crash_one_planned(100 + seed, 0, plan, Some(vec![VolumeFound::Blank]));
        duo.cannot_make(1, 9);
        duo.connect();
        duo.settle_and_redial(2);
        duo.hold_volumes(false);
        duo.settle_and_redial(60);
        let [first, _] = statuses(&duo);
        let said = reason(&duo, 0);
        assert!(first.1 || said.contains("start both controllers again"), "seed {seed}: {said}");
        let mut duo = duo.crash_on_devices(200 + seed, [48, 64], |_, _| ());
        duo.connect();
        duo.settle_and_redial(60);
        assert_eq!(statuses(&duo), [(PairStatus::Duplex, true); 2], "seed {seed}: {}", reason(&duo, 0));
        assert_eq!(duo.volume(1).len(), 48 * 512, "seed {seed}");
    }
}
