//! Groups that gain or lose a LUN, and groups of which the two machines' files name different LUNs.

use crate::command::{Command, LunIndex, NexusId, Op, Outcome, TaskTag};
use crate::pair::{PairStatus, Role, Service};
use crate::testing::InGroup::{No, NotThere, Yes};
use crate::testing::{InGroup, TwoControllers, write};

type Place = (Role, PairStatus, Service);

fn place(duo: &TwoControllers, side: usize, lun: u16) -> Place {
    let (role, status, service, _) = duo.controllers[side].place(LunIndex(lun)).unwrap();
    (role, status, service)
}

fn reason(duo: &TwoControllers, side: usize, lun: usize) -> String {
    duo.controllers[side].status().luns[lun].reason.clone().unwrap_or_default()
}

fn ask(duo: &TwoControllers, side: usize, lun: u16, tag: u32, op: Op) {
    let (lun, nexus, tag, received) = (LunIndex(lun), NexusId(1), TaskTag::of(tag), duo.now());
    duo.controllers[side].command(Command { lun, nexus, tag, op, received });
}

/// Files whose groups differ: alpha's, then beta's.
const DIFFERENT: [[[InGroup; 2]; 2]; 4] = [
    [[Yes, Yes], [Yes, No]],
    [[Yes, No], [Yes, Yes]],
    [[Yes, Yes], [Yes, NotThere]],
    [[Yes, NotThere], [Yes, Yes]],
];

/// Whether neither serves any LUN, and both say that the group is the reason.
fn are_refused(duo: &TwoControllers, files: [[InGroup; 2]; 2], when: &str) {
    for (side, file) in files.iter().enumerate() {
        for (lun, _) in file.iter().enumerate().filter(|(_, is)| **is != NotThere) {
            assert_eq!(
                place(duo, side, lun as u16).2,
                Service::Refused,
                "{when}: {files:?} side {side} LUN {lun}"
            );
            let reason = reason(duo, side, lun);
            let named = reason.contains("`lun.data1.group`") || reason.contains("does not have this LUN");
            assert!(named, "{when}: {files:?} side {side} LUN {lun}: {reason}");
        }
    }
}

#[test]
fn a_group_that_the_two_files_fill_differently_is_served_by_neither_and_both_say_why() {
    for (seed, files) in (0..).zip(DIFFERENT) {
        let mut duo = TwoControllers::grouped_as(seed, files);
        duo.connect();
        duo.settle(20);
        are_refused(&duo, files, "first met");
        for before in [[[Yes, Yes]; 2], [[Yes, No]; 2]] {
            let mut duo = TwoControllers::grouped_as(seed, before);
            duo.connect();
            duo.settle(20);
            assert_eq!(place(&duo, 1, 1).1, PairStatus::Duplex);
            let mut duo = duo.crash_regrouped(50 + seed, files);
            duo.connect();
            duo.settle(20);
            are_refused(&duo, files, "after a crash");
            // Equal files again: what was there goes on.
            let mut duo = duo.crash_regrouped(100 + seed, [[Yes, Yes]; 2]);
            duo.connect();
            duo.settle(60);
            assert_eq!(
                place(&duo, 0, 1).1,
                PairStatus::Duplex,
                "{before:?} {files:?}: {}",
                reason(&duo, 0, 1)
            );
        }
    }
}

#[test]
fn one_started_with_another_group_takes_no_part_and_main_goes_on_with_what_it_answered() {
    for (seed, side) in (0..20).flat_map(|seed| [(seed, 0), (seed, 1)]) {
        for (before, after) in
            [([Yes, Yes], [Yes, No]), ([Yes, No], [Yes, Yes]), ([Yes, Yes], [Yes, NotThere])]
        {
            let mut duo = TwoControllers::grouped_as(seed, [before; 2]);
            duo.connect();
            duo.settle(8);
            let mut duo = duo.crash_one_regrouped(seed, side, after);
            duo.connect();
            duo.settle(40);
            let case = format!("seed {seed}: {before:?}, then {after:?} on side {side}");
            for lun in 0..2 {
                assert_ne!(place(&duo, 1 - side, lun).1, PairStatus::Duplex, "{case}");
            }
            if side == 0 {
                continue;
            }
            // Alpha is main, and was not restarted.
            for lun in 0..2 {
                assert_eq!(place(&duo, 0, lun).2, Service::Alone, "{case}: {}", reason(&duo, 0, 0));
                ask(&duo, 0, lun, 7 + u32::from(lun), write(3, 2, 9));
            }
            duo.settle(2);
            let good = |(_, outcome): &(u32, Outcome)| matches!(outcome, Outcome::Good(_));
            let answers = duo.answers(0);
            assert!(answers.len() == 2 && answers.iter().all(good), "{case}: {answers:?}");
            // The file is put right.
            let mut duo = duo.crash_one_regrouped(100 + seed, side, before);
            duo.connect();
            duo.settle(80);
            for lun in 0..2 {
                assert_eq!(place(&duo, 1, lun).1, PairStatus::Duplex, "{case}: {}", reason(&duo, 1, 0));
            }
            assert_eq!(duo.volumes(0), duo.volumes(1), "{case}");
        }
    }
}

#[test]
fn a_lun_that_is_added_to_a_group_or_taken_out_while_both_are_stopped_goes_on_with_what_it_has() {
    for seed in 0..20 {
        for (before, after) in
            [([Yes, Yes], [Yes, No]), ([Yes, No], [Yes, Yes]), ([Yes, NotThere], [Yes, Yes])]
        {
            let mut duo = TwoControllers::grouped_as(seed, [before; 2]);
            duo.connect();
            duo.settle(8);
            ask(&duo, 0, 0, 1, write(3, 2, 9));
            if before[1] != NotThere {
                ask(&duo, 1, 1, 2, write(3, 2, 8));
            }
            duo.settle(2);
            let answers = duo.answers(0).len() + duo.answers(1).len();
            let mut duo = duo.crash_regrouped(100 + seed, [after; 2]);
            duo.connect();
            duo.settle(80);
            let case = format!("seed {seed}: {before:?}, then {after:?}");
            for lun in 0..2 {
                assert_eq!(place(&duo, 0, lun).1, PairStatus::Duplex, "{case}: {}", reason(&duo, 0, 0));
            }
            let copies = [0, 1].map(|side| duo.volumes(side));
            assert_eq!(copies[0], copies[1], "{case}");
            let kept = [copies[0][0][3 * 512], copies[0][1][3 * 512]];
            assert_eq!(kept, if answers == 2 { [9, 8] } else { [9, 0] }, "{case}");
        }
    }
}

#[test]
fn a_lun_that_is_added_to_a_group_after_a_clean_end_costs_the_others_no_copy() {
    for seed in 0..10 {
        let mut duo = TwoControllers::grouped_as(seed, [[Yes, NotThere]; 2]);
        duo.connect();
        duo.settle(8);
        duo.controllers.iter().for_each(crate::unit::Controller::stop);
        duo.settle(60);
        assert!(duo.controllers.iter().all(crate::unit::Controller::stopped), "seed {seed}");
        // A difference that no copy would leave.
        duo.spoil_lun(1, 0, 7);
        let mut duo = duo.crash_regrouped(100 + seed, [[Yes, Yes]; 2]);
        duo.connect();
        duo.settle(60);
        for lun in 0..2 {
            assert_eq!(place(&duo, 0, lun).1, PairStatus::Duplex, "seed {seed}: {}", reason(&duo, 0, 0));
        }
        assert_eq!(duo.volumes(1)[0][0], 7, "seed {seed}: it was copied");
    }
}

#[test]
fn what_one_copy_alone_was_known_to_have_is_not_lost_when_another_lun_joins_its_group() {
    for seed in 0..20 {
        for before in [[Yes, NotThere], [Yes, No]] {
            let mut duo = TwoControllers::grouped_as(seed, [before; 2]);
            duo.connect();
            duo.settle(8);
            ask(&duo, 0, 0, 1, write(3, 2, 9));
            duo.settle(2);
            assert_eq!(duo.answers(0).len(), 1);
            // The two part, and then both end: beta has flushed what was answered, and noted that. Alpha has lost it.
            duo.stall_disk(0);
            duo.cut();
            while duo.step() {}
            duo.spoil_lun(0, 0, 0);
            let flushed = [0, 1].map(|side| duo.durable(side).is_some_and(|record| record.flushed));
            assert_eq!(flushed, [false, true], "seed {seed}: the test shows nothing");
            let mut duo = duo.crash_regrouped(seed, [[Yes, Yes]; 2]);
            duo.connect();
            duo.settle(80);
            let case = format!("seed {seed}: {before:?}");
            assert_eq!(place(&duo, 0, 0).1, PairStatus::Duplex, "{case}: {}", reason(&duo, 0, 0));
            let kept = [0, 1].map(|side| duo.volumes(side)[0][3 * 512]);
            assert_eq!(kept, [9, 9], "{case}");
        }
    }
}

#[test]
fn one_that_starts_alone_with_a_lun_added_to_its_group_serves_neither_and_says_what_to_do() {
    let mut duo = TwoControllers::grouped_as(1, [[Yes, NotThere]; 2]);
    duo.connect();
    duo.settle(8);
    duo.cut();
    duo.settle(40);
    assert_eq!(place(&duo, 0, 0).2, Service::Alone);
    let mut duo = duo.crash_regrouped(2, [[Yes, Yes]; 2]);
    duo.settle(40);
    for lun in 0..2 {
        assert_eq!(place(&duo, 0, lun).2, Service::Refused);
        let said = reason(&duo, 0, usize::from(lun));
        assert!(said.contains("the LUNs of group db were not all in one group before"), "LUN {lun}: {said}");
    }
    // As they were.
    let mut duo = duo.crash_regrouped(3, [[Yes, NotThere]; 2]);
    duo.settle(40);
    assert_eq!(place(&duo, 0, 0).2, Service::Alone);
}
