//! Volumes that are made or marked late, or cannot be made.

use crate::command::Op;
use crate::pair::PairStatus;
use crate::testing::{TwoControllers, blocks_of, range};

use super::start::{duplex, fill, met, status};

/// alpha has the only whole copy of what it was asked to write, and is started again; its disk does not answer.
fn the_last_copys_disk_sleeps(seed: u64, mirror: bool) -> TwoControllers {
    let mut duo = met(seed, mirror);
    duo.cut();
    duo.settle(40);
    fill(&mut duo, 0, 5);
    let mut duo = duo.crash(seed + 1, mirror);
    duo.hold_marks(Some((0, 0)));
    duo
}

#[test]
fn the_last_copy_counts_when_its_disk_takes_the_mark_late() {
    for (seed, mirror) in (0..40).map(|seed| (seed, seed % 2 == 0)) {
        // Alone, and in touch with a controller whose copy is older.
        let in_touch = seed % 4 < 2;
        let mut duo = the_last_copys_disk_sleeps(seed, mirror);
        if in_touch {
            duo.connect();
        }
        duo.settle_and_redial(100);
        assert!(!status(&duo, 0).1, "seed {seed}: it is served without a mark");
        duo.hold_marks(None);
        if in_touch {
            duo.settle_and_redial(200);
        } else {
            duo.settle(100);
        }
        assert!(status(&duo, 0).1, "seed {seed}: {:?}", status(&duo, 0));
        duo.ask(0, 9, Op::Read { range: range(0, 1) });
        duo.settle(2);
        let read = crate::command::Outcome::Good(blocks_of(5, 1));
        assert!(duo.answers(0).contains(&(9, read)), "seed {seed}");
        assert!(!in_touch || !mirror || duplex(&duo), "seed {seed}: {:?}", status(&duo, 0));
    }
}

#[test]
fn a_copy_without_which_the_peer_went_on_stays_out_when_its_disk_takes_the_mark_late() {
    for seed in 0..20 {
        let mut duo = met(seed, true).crash_one(seed + 1, 1);
        duo.hold_marks(Some((1, 0)));
        duo.connect();
        duo.settle_and_redial(100);
        assert!(status(&duo, 0).1, "seed {seed}: {:?}", status(&duo, 0));
        fill(&mut duo, 0, 6);
        duo.hold_marks(None);
        duo.settle_and_redial(100);
        assert!(status(&duo, 0).1, "seed {seed}: {:?}", status(&duo, 0));
        let through = duo.controllers[1].status().luns.remove(0);
        assert_eq!(through.status, PairStatus::Suspended, "seed {seed}: {:?}", through.reason);
    }
}

#[test]
fn a_volume_that_cannot_be_made_keeps_no_other_lun_from_being_served() {
    for (seed, side) in (0..20).flat_map(|seed| [(seed, 0), (seed, 1)]) {
        let mut duo = TwoControllers::two_luns(seed, 64);
        duo.cannot_make(side, 1);
        duo.connect();
        duo.settle_and_redial(60);
        for at in 0..2 {
            let luns = duo.controllers[at].status().luns;
            assert!(
                luns[0].serving && luns[0].status == PairStatus::Duplex,
                "seed {seed}: {:?}",
                luns[0].reason
            );
            assert!(
                luns[1].status != PairStatus::Duplex && luns[1].reason.is_some(),
                "seed {seed}: {:?}",
                luns[1]
            );
        }
    }
}

#[test]
fn a_lun_that_was_never_made_gets_the_size_that_the_files_say_now_whatever_was_written_down() {
    for seed in 0..60 {
        for side in 0..2 {
            let mut duo = TwoControllers::two_luns(seed, 64);
            duo.cannot_make(side, 1);
            duo.connect();
            duo.settle_and_redial(8);
            // Corrected, and the meeting that takes it up is cut at any moment.
            let mut duo = duo.crash_of_two_resized(100 + seed, 48);
            duo.connect();
            for _ in 0..seed {
                duo.step();
            }
            let mut duo = duo.crash_of_two_resized(200 + seed, 48);
            duo.connect();
            duo.settle(20);
            for at in 0..2 {
                let lun = duo.controllers[at].status().luns.remove(1);
                assert_eq!(lun.status, PairStatus::Duplex, "seed {seed} side {side}: {:?}", lun.reason);
                assert!(lun.reason.is_none(), "seed {seed} side {side}: {:?}", lun.reason);
                let capacity = duo.controllers[at].capacity(crate::command::LunIndex(1));
                assert_eq!(capacity.map(|(blocks, ..)| blocks), Some(48), "seed {seed} side {side}");
                assert_eq!(duo.volumes(at)[1].len(), 48 * 512, "seed {seed} side {side}");
            }
        }
    }
}

#[test]
fn a_lone_copy_whose_disk_was_slow_to_take_the_mark_of_a_start_is_a_source_when_it_has() {
    for seed in 0..20 {
        let mut duo = met(seed, true);
        duo.cut();
        duo.settle(40);
        let mut duo = duo.crash_one(seed + 100, 0);
        duo.hold_marks(Some((0, 0)));
        duo.settle(60);
        duo.hold_marks(None);
        duo.settle(100);
        assert!(duo.controllers[0].status().luns[0].serving, "seed {seed}: it serves alone");
        duo.connect();
        duo.settle_and_redial(400);
        let luns = [0, 1].map(|side| duo.controllers[side].status().luns.remove(0));
        assert!(
            luns.iter().all(|lun| lun.status == PairStatus::Duplex),
            "seed {seed}: 20 s after they met: {:?}",
            luns.map(|lun| (lun.status, lun.serving, lun.reason))
        );
    }
}

#[test]
fn a_lone_copy_whose_disk_did_not_take_the_mark_is_not_served_when_its_record_is_durable_later_than_that() {
    for seed in 0..20 {
        let mut duo = met(seed, true);
        duo.cut();
        duo.settle(40);
        let mut duo = duo.crash_one(seed + 100, 0);
        duo.hold_marks(Some((0, 0)));
        duo.settle(8);
        duo.hold_records(Some(0));
        duo.settle(44);
        duo.hold_records(None);
        duo.settle(2);
        let lun = duo.controllers[0].status().luns.remove(0);
        assert!(!lun.serving, "seed {seed}: its start is not marked");
        duo.hold_marks(None);
        duo.settle(60);
        assert!(duo.controllers[0].status().luns[0].serving, "seed {seed}: it serves alone");
    }
}
