//! Disks that do not take the mark of a start, or late.

use crate::disk::DiskError;
use crate::testing::TwoControllers;

#[test]
fn a_disk_that_hangs_when_a_start_is_marked_harms_only_its_own_lun() {
    let mut duo = TwoControllers::two_luns(1, 64);
    duo.connect();
    duo.settle(4);
    // Both were without power; the disk of data1 on beta hangs.
    let mut duo = duo.crash_of_two(2);
    duo.hold_marks(Some((1, 1)));
    duo.connect();
    duo.settle_and_redial(600);
    let luns = [0, 1].map(|side| duo.controllers[side].status().luns.remove(0));
    assert!(
        luns.iter().all(|lun| lun.serving),
        "30 s later nobody serves data0, whose disks are well: {:?}",
        luns.map(|lun| lun.reason)
    );
}

#[test]
fn a_disk_that_hangs_when_a_main_starts_alone_harms_only_its_own_lun() {
    let mut duo = TwoControllers::two_luns(1, 64);
    duo.connect();
    duo.settle(4);
    duo.cut();
    duo.settle(40);
    // Each is alone with its own LUN now; then alpha becomes the last one of both is not needed: data0 is enough.
    let mut duo = duo.crash_of_two(2);
    duo.hold_marks(Some((0, 0)));
    duo.settle(20);
    duo.connect();
    duo.settle_and_redial(600);
    let luns = [0, 1].map(|side| duo.controllers[side].status().luns.remove(1));
    assert!(
        luns.iter().all(|lun| lun.serving),
        "30 s later not both serve data1, whose disks are well: {:?}",
        luns.map(|lun| (lun.serving, lun.reason))
    );
}

#[test]
fn a_file_size_limit_that_keeps_a_volume_from_being_marked_takes_out_only_that_copy() {
    for side in 0..2 {
        let mut duo = TwoControllers::new(1, true);
        duo.connect();
        duo.settle(4);
        let mut duo = duo.crash(2, true);
        duo.break_disk(side, DiskError::SizeLimit);
        duo.connect();
        duo.settle_and_redial(600);
        let luns = [0, 1].map(|side| duo.controllers[side].status().luns.remove(0));
        assert!(
            luns.iter().all(|lun| lun.serving),
            "limited: {side}: 30 s later nobody serves: {:?} {:?}",
            luns.map(|lun| lun.reason),
            duo.controllers[side].status().interlink
        );
    }
}

/// beta is started again at once, while alpha waits out its lease; one disk of beta hangs.
#[test]
fn a_disk_of_the_sub_that_hangs_when_its_start_is_marked_does_not_keep_mains_hosts_waiting() {
    use crate::command::Outcome;
    use crate::testing::write;
    let mut duo = TwoControllers::two_luns(1, 64);
    duo.connect();
    duo.settle(4);
    let mut duo = duo.crash_one_of_two(2, 1);
    duo.hold_marks(Some((1, 1)));
    duo.settle(2);
    duo.connect();
    duo.settle_and_redial(600);
    duo.answers(0);
    duo.ask(0, 1, write(0, 1, 7));
    duo.settle_and_redial(100);
    let answers = duo.answers(0);
    assert_eq!(
        answers,
        [(1, Outcome::Good(Vec::new()))],
        "30 s later hosts of alpha, main of data0, whose disks are well, hear only that: {:?}",
        duo.controllers[0].status().luns[0].reason
    );
}

/// Controls: the same without what is wrong.
#[test]
fn control_of_the_marks() {
    let mut duo = TwoControllers::two_luns(1, 64);
    duo.connect();
    duo.settle(4);
    let mut duo = duo.crash_of_two(2);
    duo.connect();
    duo.settle_and_redial(100);
    assert!((0..2).all(|side| duo.controllers[side].status().luns.iter().all(|lun| lun.serving)));
}

/// Both were without power, and one disk does not come back: it takes no mark.
#[test]
fn a_disk_that_fails_when_a_start_is_marked_leaves_the_lun_to_the_other_copy() {
    for seed in 0..20 {
        for side in 0..2 {
            let mut duo = TwoControllers::new(seed, true);
            duo.connect();
            duo.settle(4);
            let mut duo = duo.crash(seed + 1, true);
            duo.break_disk(side, DiskError::Io);
            duo.connect();
            duo.settle_and_redial(200);
            let luns = [0, 1].map(|side| duo.controllers[side].status().luns.remove(0));
            assert!(
                luns.iter().all(|lun| lun.serving),
                "the disk of {side} failed: {:?}",
                luns.map(|lun| lun.reason)
            );
        }
    }
}
