//! Old state that somebody put back, and records that cannot be read.

use crate::appliance::Restored;
use crate::command::Op;
use crate::pair::PairStatus;
use crate::testing::{BLOCKS, TwoControllers, blocks_of, range, write};
use crate::volume::superblock::{Superblock, VolumeFound};
use crate::world::World;
use std::collections::BTreeMap;

type Kept = (BTreeMap<String, Vec<u8>>, BTreeMap<u16, (Superblock, Vec<u8>)>);

pub(super) fn met(seed: u64, mirror: bool) -> TwoControllers {
    let mut duo = TwoControllers::new(seed, mirror);
    duo.connect();
    duo.settle(4);
    duo
}

/// Everything is written with `byte`, through alpha or beta.
pub(super) fn fill(duo: &mut TwoControllers, side: usize, byte: u8) {
    duo.ask(side, u32::from(byte), write(0, BLOCKS, byte));
    duo.settle(2);
    assert!(duo.answers(side).iter().any(|(tag, outcome)| *tag == u32::from(byte) && is_good(outcome)));
}

fn is_good(outcome: &crate::command::Outcome) -> bool {
    matches!(outcome, crate::command::Outcome::Good(_))
}

fn step(duo: &mut TwoControllers) {
    let _nothing_left = duo.step();
}

fn stop_both(duo: &mut TwoControllers) {
    duo.controllers.iter().for_each(crate::unit::Controller::stop);
    duo.settle(20);
    assert!(duo.controllers.iter().all(crate::unit::Controller::stopped));
}

fn stop(duo: &mut TwoControllers, side: usize) {
    duo.controllers[side].stop();
    duo.settle(20);
    assert!(duo.controllers[side].stopped());
}

fn again(duo: TwoControllers, seed: u64) -> TwoControllers {
    let mut duo = duo.crash(seed, true);
    duo.connect();
    duo.settle(40);
    duo
}

pub(super) fn status(duo: &TwoControllers, side: usize) -> (PairStatus, bool, String) {
    let lun = duo.controllers[side].status().luns.remove(0);
    (lun.status, lun.serving, lun.reason.unwrap_or_default())
}

pub(super) fn duplex(duo: &TwoControllers) -> bool {
    (0..2).all(|side| {
        let (status, serving, _) = status(duo, side);
        (status, serving) == (PairStatus::Duplex, true)
    })
}

/// Alpha and beta served 1 and ended cleanly; then, as `after` says, 2 was written; then `what` of a side is as it was.
#[derive(Clone, Copy, Debug)]
enum What {
    Folder,
    Volume,
    Both,
}

fn put_back(duo: &TwoControllers, side: usize, what: What, kept: &Kept) {
    let (records, volumes) = kept.clone();
    match what {
        What::Folder => duo.put_back(side, Some(records), None),
        What::Volume => duo.put_back(side, None, Some(volumes)),
        What::Both => duo.put_back(side, Some(records), Some(volumes)),
    }
}

#[test]
fn what_was_put_back_of_one_controller_is_refilled_and_never_a_source() {
    for seed in 0..6 {
        for side in 0..2 {
            for what in [What::Folder, What::Volume, What::Both] {
                for cleanly in [true, false] {
                    let mut duo = met(100 + seed, true);
                    fill(&mut duo, 0, 1);
                    stop_both(&mut duo);
                    let kept = duo.kept(side);
                    let mut duo = again(duo, 200 + seed);
                    fill(&mut duo, 1, 2);
                    if cleanly {
                        stop_both(&mut duo);
                    }
                    put_back(&duo, side, what, &kept);
                    let duo = again(duo, 300 + seed);
                    assert!(duplex(&duo), "seed {seed}, {what:?} of {side}: {:?}", status(&duo, side));
                    for at in 0..2 {
                        let all = duo.volume(at).iter().all(|byte| *byte == 2);
                        assert!(all, "seed {seed}, {what:?} of {side}, cleanly {cleanly}: old data at {at}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_was_put_back_from_before_the_other_ran_on_alone_is_refilled() {
    for what in [What::Folder, What::Volume, What::Both] {
        let mut duo = met(1, true);
        fill(&mut duo, 0, 1);
        stop(&mut duo, 1);
        let kept = duo.kept(1);
        duo.cut();
        duo.settle(40);
        fill(&mut duo, 0, 2);
        let mut duo = duo.crash_one(2, 1);
        duo.connect();
        duo.settle(40);
        fill(&mut duo, 1, 3);
        stop_both(&mut duo);
        put_back(&duo, 1, what, &kept);
        let duo = again(duo, 3);
        assert!(duplex(&duo), "{what:?}: {:?}", status(&duo, 1));
        assert!((0..2).all(|at| duo.volume(at).iter().all(|byte| *byte == 3)), "{what:?}");
    }
}

#[test]
fn both_put_back_from_one_time_are_as_good_as_they_were_then() {
    let mut duo = met(1, true);
    fill(&mut duo, 0, 1);
    stop_both(&mut duo);
    let kept = [duo.kept(0), duo.kept(1)];
    let mut duo = again(duo, 2);
    fill(&mut duo, 0, 2);
    stop_both(&mut duo);
    (0..2).for_each(|side| put_back(&duo, side, What::Both, &kept[side]));
    let duo = again(duo, 3);
    assert!(duplex(&duo));
    assert!((0..2).all(|at| duo.volume(at).iter().all(|byte| *byte == 1)));
}

#[test]
fn both_volumes_put_back_without_their_folders_are_refused_and_left_alone() {
    for what in [What::Volume, What::Folder] {
        let mut duo = met(1, true);
        fill(&mut duo, 0, 1);
        stop_both(&mut duo);
        let kept = [duo.kept(0), duo.kept(1)];
        let mut duo = again(duo, 2);
        fill(&mut duo, 0, 2);
        stop_both(&mut duo);
        (0..2).for_each(|side| put_back(&duo, side, what, &kept[side]));
        let before = [duo.volume(0), duo.volume(1)];
        let duo = again(duo, 3);
        for side in 0..2 {
            let (_, serving, reason) = status(&duo, side);
            assert!(!serving && reason.contains("older than what"), "{what:?}: {reason}");
        }
        assert_eq!([duo.volume(0), duo.volume(1)], before);
    }
}

/// Main served alone when it ended: it may start alone.
fn ran_alone(seed: u64) -> TwoControllers {
    let mut duo = met(seed, true);
    fill(&mut duo, 0, 1);
    duo.cut();
    duo.settle(40);
    fill(&mut duo, 0, 2);
    duo
}

#[test]
fn a_volume_or_a_folder_that_was_put_back_does_not_start_alone() {
    for what in [What::Volume, What::Folder] {
        let mut duo = ran_alone(1);
        stop(&mut duo, 0);
        let kept = duo.kept(0);
        let mut duo = duo.crash(2, true);
        duo.settle(40);
        assert!(status(&duo, 0).1, "it was the last and starts alone");
        fill(&mut duo, 0, 3);
        stop(&mut duo, 0);
        put_back(&duo, 0, what, &kept);
        let before = duo.volume(0);
        let mut duo = duo.crash(3, true);
        duo.settle(40);
        let (_, serving, reason) = status(&duo, 0);
        assert!(!serving && reason.contains("older than what alpha has served since"), "{what:?}: {reason}");
        assert_eq!(duo.volume(0), before);
    }
}

#[test]
fn an_old_folder_that_its_controller_went_on_from_is_refused_when_the_two_meet() {
    let mut duo = ran_alone(1);
    stop(&mut duo, 0);
    let kept = duo.kept(0);
    let mut duo = again(duo, 2);
    assert!(duplex(&duo));
    fill(&mut duo, 1, 3);
    stop_both(&mut duo);
    put_back(&duo, 0, What::Both, &kept);
    let mut duo = duo.crash(3, true);
    duo.settle(40);
    assert!(status(&duo, 0).1, "nobody is there to tell");
    fill(&mut duo, 0, 4);
    for seed in 4..12 {
        // However far it counted.
        duo = duo.crash(seed, true);
        duo.settle(40);
    }
    duo.connect();
    duo.settle(40);
    for side in 0..2 {
        let (_, serving, reason) = status(&duo, side);
        assert!(!serving && reason.contains("put back from a time before"), "{reason}");
    }
    assert!(duo.volume(1).iter().all(|byte| *byte == 3) && duo.volume(0).iter().all(|byte| *byte == 4));
}

#[test]
fn a_lun_without_a_copy_is_refused_when_its_volume_or_its_folder_was_put_back() {
    for what in [What::Volume, What::Folder] {
        let mut duo = met(1, false);
        fill(&mut duo, 0, 1);
        stop_both(&mut duo);
        let kept = duo.kept(0);
        let mut duo = duo.crash(2, false);
        duo.settle(4);
        fill(&mut duo, 0, 2);
        stop(&mut duo, 0);
        put_back(&duo, 0, what, &kept);
        let mut duo = duo.crash(3, false);
        duo.settle(10);
        let (_, serving, reason) = status(&duo, 0);
        assert!(!serving && reason.contains("older than what alpha has served since"), "{what:?}: {reason}");
        duo.connect();
        duo.settle(10);
        assert!((0..2).all(|side| !status(&duo, side).1));
    }
}

/// Wherever a start is cut short, the copies stay whole: no crash makes a healthy one stale.
#[test]
fn a_start_that_is_cut_short_anywhere_leaves_whole_copies() {
    for seed in 0..12 {
        for steps in 0..60 {
            let mut duo = met(seed, true);
            fill(&mut duo, 0, 1);
            stop_both(&mut duo);
            let mut duo = duo.crash(1000 + seed, true);
            duo.connect();
            (0..steps).for_each(|_| step(&mut duo));
            // And once more, a little further.
            let mut duo = duo.crash(2000 + seed, true);
            duo.connect();
            (0..steps / 2 + 7).for_each(|_| step(&mut duo));
            let duo = again(duo, 3000 + seed);
            assert!(duplex(&duo), "seed {seed}, {steps} steps: {:?}", [status(&duo, 0), status(&duo, 1)]);
            assert!((0..2).all(|at| duo.volume(at).iter().all(|byte| *byte == 1)));
        }
    }
}

/// The same of a main that starts alone, and of one LUN without a copy.
#[test]
fn a_start_without_the_peer_that_is_cut_short_anywhere_leaves_a_whole_copy() {
    for mirror in [true, false] {
        for seed in 0..6 {
            for steps in 0..12 {
                let mut duo = met(seed, mirror);
                fill(&mut duo, 0, 1);
                duo.cut();
                duo.settle(40);
                let mut duo = duo.crash(1000 + seed, mirror);
                (0..16).for_each(|_| duo.advance_and_tick());
                (0..steps).for_each(|_| step(&mut duo));
                let mut duo = duo.crash(2000 + seed, mirror);
                duo.settle(40);
                assert!(status(&duo, 0).1, "mirror {mirror}, seed {seed}, {steps}: {:?}", status(&duo, 0));
                duo.ask(0, 9, Op::Read { range: range(0, 1) });
                duo.settle(2);
                let read = crate::command::Outcome::Good(blocks_of(1, 1));
                assert!(duo.answers(0).contains(&(9, read)));
            }
        }
    }
}

#[test]
fn the_first_byte_waits_until_both_have_written_down_that_the_other_was_there() {
    for seed in 0..20 {
        let mut duo = TwoControllers::new(seed, true);
        duo.connect();
        let written = |duo: &TwoControllers| {
            (0..2).any(|side| duo.volumes(side).iter().flatten().any(|byte| *byte == 7))
        };
        let mut tag = 0;
        while !written(&duo) {
            tag += 1;
            assert!(tag < 1000, "seed {seed}");
            (0..2).for_each(|side| duo.ask(side, tag, write(0, 1, 7)));
            step(&mut duo);
        }
        let main = duo.durable(0).unwrap();
        assert_eq!(main.starts.joint, main.starts.coming);
        for side in 0..2 {
            let record = duo.durable(side).unwrap();
            assert!(
                record.starts.knows(main.starts.joint) && record.volume.number > 0,
                "seed {seed}: {record:?}"
            );
        }
    }
}

#[test]
fn a_volume_made_to_be_refilled_is_no_source_before_it_is() {
    // Its controller dies when the volume is made, and before it is written down that it is no member.
    for steps in 0..40 {
        let mut duo = met(1, true);
        fill(&mut duo, 0, 1);
        let mut duo = {
            duo.remove_volume(0);
            duo.cut();
            duo.crash(2, true)
        };
        duo.connect();
        (0..steps).for_each(|_| step(&mut duo));
        let duo = again(duo, 3);
        assert!(duplex(&duo), "{steps} steps: {:?}", status(&duo, 0));
        assert!((0..2).all(|at| duo.volume(at).iter().all(|byte| *byte == 1)), "{steps} steps");
    }
}

#[test]
fn the_folder_and_the_volume_of_the_other_controller_are_refused_by_name() {
    let mut duo = met(1, true);
    fill(&mut duo, 0, 1);
    stop_both(&mut duo);
    let kept = duo.kept(0);
    put_back(&duo, 1, What::Folder, &kept);
    let records = duo.records(1);
    let mut duo = again(duo, 2);
    let (_, serving, reason) = status(&duo, 1);
    assert!(!serving && reason.contains("its state folder is that of alpha"), "{reason}");
    assert_eq!(duo.records(1), records, "it was written over");
    stop(&mut duo, 1);
    assert_eq!(duo.records(1), records);

    let mut duo = met(3, true);
    fill(&mut duo, 0, 1);
    stop_both(&mut duo);
    let kept = duo.kept(0);
    put_back(&duo, 1, What::Volume, &kept);
    let duo = again(duo, 4);
    for side in 0..2 {
        let (_, serving, reason) = status(&duo, side);
        assert!(!serving && reason.contains("lies at beta is the copy of the other controller"), "{reason}");
    }
}

#[test]
fn a_control_record_that_cannot_be_read_is_refused_and_never_written_over() {
    let damages: [fn(&mut Vec<u8>); 3] =
        [|record| record.push(0), |record| record.truncate(9), |record| record[20] ^= 1];
    for (number, damage) in damages.iter().enumerate() {
        for sides in [vec![0], vec![1], vec![0, 1]] {
            let mut duo = met(1, true);
            fill(&mut duo, 0, 1);
            stop_both(&mut duo);
            for side in &sides {
                duo.change_record(*side, "control", damage);
            }
            let records = [duo.records(0), duo.records(1)];
            let mut duo = again(duo, 2);
            for side in &sides {
                let (_, serving, reason) = status(&duo, *side);
                assert!(!serving && reason.contains("control record cannot be used"), "{number}: {reason}");
                let interlink = duo.controllers[*side].status().interlink;
                assert!(interlink.refused && interlink.reason.unwrap_or_default().contains("control record"));
                stop(&mut duo, *side);
                assert_eq!(duo.records(*side), records[*side], "{number}: it was written over");
            }
        }
    }
}

#[test]
fn a_shared_state_that_cannot_be_read_refuses_its_lun_and_is_never_written_over() {
    for side in 0..2 {
        let mut duo = met(1, true);
        fill(&mut duo, 0, 1);
        stop_both(&mut duo);
        duo.set_record(side, "shared.data0", vec![1, 2, 3]);
        let mut duo = again(duo, 2);
        let name = ["alpha", "beta"][side];
        for at in 0..2 {
            let (_, serving, reason) = status(&duo, at);
            assert!(!serving && reason.contains(&format!("what {name} keeps of this LUN")), "{reason}");
        }
        stop_both(&mut duo);
        assert_eq!(duo.records(side)["shared.data0"], [1, 2, 3]);
    }
}

#[test]
fn a_control_record_that_is_missing_beside_others_is_not_taken_for_a_first_start() {
    let restored = Restored {
        records: BTreeMap::from([("shared.data0".to_owned(), vec![1])]),
        volumes: vec![VolumeFound::Missing],
        unusable: None,
    };
    assert!(restored.control("alpha").unwrap_err().contains("missing"));
}

#[test]
fn a_peer_of_the_first_release_is_still_met() {
    // Nothing is known of its starts, and nothing is held against it.
    let mut duo = met(1, true);
    fill(&mut duo, 0, 1);
    stop_both(&mut duo);
    let mut duo = duo.crash(2, true);
    duo.speak_version_1();
    duo.connect();
    duo.settle(20);
    assert!(duplex(&duo));
    fill(&mut duo, 1, 2);
    stop_both(&mut duo);
    let duo = again(duo, 3);
    assert!(duplex(&duo) && duo.volume(0)[0] == 2, "{}", duo.controllers[0].world().random());
}

/// Alpha and beta serve; a backup of one volume is made while they do; more is written; both end cleanly; the
/// volume is put back from the backup.
fn put_back_from_a_backup_of_the_same_run(seed: u64, side: usize) -> TwoControllers {
    let mut duo = met(100 + seed, true);
    fill(&mut duo, 0, 1);
    let (_, volumes) = duo.kept(side);
    fill(&mut duo, 1, 2);
    duo.settle(40);
    stop_both(&mut duo);
    duo.put_back(side, None, Some(volumes));
    again(duo, 200 + seed)
}

#[test]
fn a_volume_put_back_from_a_backup_of_the_run_that_ended_cleanly_is_refilled() {
    for seed in 0..6 {
        for side in 0..2 {
            let duo = put_back_from_a_backup_of_the_same_run(seed, side);
            let bytes = [0, 1].map(|at| duo.volume(at)[0]);
            assert_eq!(bytes, [2; 2], "seed {seed}, put back at {side}: {:?} and old data", duo.statuses());
        }
    }
}
