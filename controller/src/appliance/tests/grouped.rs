//! Two LUNs in one group: whatever happens, both are under one generation, role and switch.

use protocol::interlink::GenerationTag;
use protocol::interlink::copy_report::GroupRecord;

use crate::appliance::{CONTROL_KEY, ControlRecord};
use crate::command::{Command, LunIndex, NexusId, Op, Outcome, TaskTag};
use crate::disk::DiskError;
use crate::pair::{PairStatus, Role, Service};
use crate::testing::{TwoControllers, write};
use crate::volume::superblock::VolumeFound;

const DUPLEX: [[(Role, PairStatus, Service); 2]; 2] = [
    [(Role::Main, PairStatus::Duplex, Service::Mirrored); 2],
    [(Role::Sub, PairStatus::Duplex, Service::Mirrored); 2],
];

/// By side and LUN: role, status and service.
fn places(duo: &TwoControllers) -> [[(Role, PairStatus, Service); 2]; 2] {
    [0, 1].map(|side| {
        [0, 1].map(|lun| {
            let (role, status, service, _) = duo.controllers[side].place(LunIndex(lun)).unwrap();
            (role, status, service)
        })
    })
}

fn records(duo: &TwoControllers, side: usize) -> Option<Vec<GroupRecord>> {
    let records = duo.records(side);
    Some(ControlRecord::read(["alpha", "beta"][side], records.get(CONTROL_KEY)?).unwrap().groups)
}

/// Both LUNs are under one generation, role, status, service and switch on each side, and on its disk.
fn are_one(duo: &TwoControllers, when: &str) {
    for side in 0..2 {
        let view = |lun: u16| {
            let controller = &duo.controllers[side];
            let generation: Option<GenerationTag> = controller.generation(LunIndex(lun));
            (controller.place(LunIndex(lun)).unwrap(), generation)
        };
        assert_eq!(view(0), view(1), "{when}: side {side}");
        let groups = records(duo, side).unwrap_or_default();
        let on_disk = |group: &GroupRecord| {
            let generation = group.generation;
            (generation.tag(), generation.main, generation.members, group.clean)
        };
        assert!(groups.windows(2).all(|two| on_disk(&two[0]) == on_disk(&two[1])), "{when}: {groups:?}");
    }
}

fn met(seed: u64) -> TwoControllers {
    let mut duo = TwoControllers::grouped(seed);
    duo.connect();
    duo.settle(2);
    assert_eq!(places(&duo), DUPLEX, "seed {seed}");
    duo
}

fn ask(duo: &TwoControllers, side: usize, lun: u16, tag: u32, op: Op) {
    let (lun, nexus, tag, received) = (LunIndex(lun), NexusId(1), TaskTag::of(tag), duo.now());
    duo.controllers[side].command(Command { lun, nexus, tag, op, received });
}

fn are_good(duo: &TwoControllers, side: usize, count: usize) -> bool {
    let answers = duo.answers(side);
    answers.len() == count && answers.iter().all(|(_, outcome)| matches!(outcome, Outcome::Good(_)))
}

#[test]
fn a_meeting_that_is_cut_or_crashes_anywhere_leaves_both_luns_under_one_generation() {
    for steps in 0..120 {
        for crashes in [false, true] {
            let mut duo = TwoControllers::grouped(steps);
            duo.connect();
            for _ in 0..steps {
                duo.step();
                are_one(&duo, &format!("{steps} steps"));
            }
            duo.cut();
            duo.settle(1);
            if crashes {
                duo = duo.crash_of_a_group(steps + 1000, |_, _| {});
            }
            duo.connect();
            duo.settle(40);
            are_one(&duo, &format!("after {steps} steps"));
            assert_eq!(places(&duo), DUPLEX, "after {steps} steps, crash {crashes}");
        }
    }
}

#[test]
fn a_main_that_loses_its_peer_goes_on_alone_with_both_and_both_are_refilled() {
    for seed in 0..40 {
        let mut duo = met(seed);
        duo.cut();
        for _ in 0..40 {
            duo.settle(1);
            are_one(&duo, "apart");
        }
        let alone = [(Role::Main, PairStatus::Suspended, Service::Alone); 2];
        assert_eq!(places(&duo)[0], alone, "seed {seed}");
        (0..2).for_each(|lun| ask(&duo, 0, lun, 7 + u32::from(lun), write(3, 2, 9)));
        duo.settle(1);
        assert!(are_good(&duo, 0, 2), "seed {seed}");
        duo.connect();
        for _ in 0..60 {
            duo.settle(1);
            are_one(&duo, "being refilled");
        }
        assert_eq!(places(&duo), DUPLEX, "seed {seed}");
        assert_eq!(duo.volumes(0), duo.volumes(1));
    }
}

#[test]
fn a_main_that_is_started_again_gets_both_back_by_one_switch_wherever_it_is_cut() {
    for seed in 0..60 {
        let mut duo = met(seed).crash_one_of_a_group(seed, 0);
        duo.connect();
        let switching =
            |duo: &TwoControllers| (0..2).any(|side| duo.controllers[side].place(LunIndex(0)).unwrap().3);
        for _ in 0..20_000 {
            if switching(&duo) {
                break;
            }
            if !duo.step() {
                // What is flushed late makes the two meet again.
                duo.settle_and_redial(1);
            }
            are_one(&duo, "being refilled");
        }
        assert!(switching(&duo), "seed {seed}: {:?}", duo.controllers[1].status().luns);
        for _ in 0..seed / 2 {
            duo.step();
            are_one(&duo, "in a switch");
        }
        duo.cut();
        duo.settle(40);
        duo.connect();
        duo.settle(60);
        are_one(&duo, "after a switch");
        assert_eq!(places(&duo), DUPLEX, "seed {seed}");
    }
}

#[test]
fn a_disk_that_fails_under_one_lun_takes_the_copies_of_both_out_and_both_are_served() {
    for seed in 0..40 {
        let mut duo = met(seed);
        duo.break_disk(0, DiskError::Io);
        ask(&duo, 0, 1, 1, write(0, 4, 5));
        for _ in 0..20 {
            duo.settle(1);
            are_one(&duo, "leaving");
        }
        let [alpha, beta] = places(&duo);
        assert_eq!(alpha, [(Role::Sub, PairStatus::Suspended, Service::Forwarded); 2], "seed {seed}");
        assert_eq!(beta, [(Role::Main, PairStatus::Suspended, Service::Alone); 2], "seed {seed}");
        duo.answers(0);
        (0..2).for_each(|lun| ask(&duo, 0, lun, 7 + u32::from(lun), write(3, 2, 9)));
        duo.settle(2);
        assert!(are_good(&duo, 0, 2), "seed {seed}: {:?}", duo.controllers[0].status().luns);
    }
}

#[test]
fn one_volume_that_is_gone_has_both_refilled_from_the_other_side() {
    for seed in 0..20 {
        let duo = met(seed);
        ask(&duo, 0, 0, 1, write(0, 4, 5));
        let mut duo = duo.crash_of_a_group(seed, |side, restored| {
            if side == 0 {
                restored.volumes[1] = VolumeFound::Missing;
            }
        });
        duo.connect();
        for _ in 0..60 {
            duo.settle(1);
            are_one(&duo, "being refilled");
        }
        assert_eq!(places(&duo), DUPLEX, "seed {seed}");
        assert_eq!(duo.volumes(0), duo.volumes(1));
    }
}

#[test]
fn luns_that_were_groups_of_their_own_are_one_after_the_next_meeting() {
    for seed in 0..20 {
        let mut duo = TwoControllers::ungrouped(seed);
        duo.connect();
        duo.settle(8);
        let ids: Vec<u128> = records(&duo, 0).unwrap().iter().map(|group| group.generation.id).collect();
        assert_ne!(ids[0], ids[1]);
        let mut duo = duo.crash_of_a_group(seed, |_, _| {});
        duo.connect();
        duo.settle(40);
        are_one(&duo, "joined");
        assert_eq!(places(&duo), DUPLEX, "seed {seed}");
    }
}

#[test]
fn a_lun_that_cannot_be_served_keeps_its_group_back_and_is_named() {
    let mut duo = met(1).crash_of_a_group(2, |side, restored| {
        if side == 1 {
            restored.volumes[1] = VolumeFound::Foreign;
        }
    });
    duo.connect();
    duo.settle(20);
    for lun in duo.controllers[0].status().luns {
        assert_eq!((lun.group.as_deref(), lun.serving), (Some("db"), false));
        let reason = lun.reason.unwrap();
        assert!(
            reason.starts_with("the LUNs of group db are served together, and data1 cannot be: "),
            "{reason}"
        );
        assert!(reason.contains("the volume of beta holds something that is not this LUN"), "{reason}");
    }
}
