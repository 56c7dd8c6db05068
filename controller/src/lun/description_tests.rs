//! What hosts are told of a LUN that is not served yet, and that they hear when it is.

use std::sync::Arc;

use protocol::interlink::shared::SharedState;
use protocol::scsi::sense::Sense;

use super::{Lun, LunSetup};
use crate::command::{Admission, Initiator, LunIndex, NexusId, Outcome};
use crate::plan::Side;
use crate::testing::{BLOCKS, TwoControllers};
use crate::volume::stack::{Stack, VolumeId};

const LUN: LunIndex = LunIndex(0);
const HOST: NexusId = NexusId(1);
const NOT_READY: Outcome = Outcome::Check(Sense::UNAVAILABLE);

/// Two that have served hosts and were both ended by a power cut.
fn after_a_power_cut(seed: u64) -> TwoControllers {
    let mut duo = TwoControllers::new(seed, true);
    duo.connect();
    duo.settle(1);
    duo.crash(seed + 1, true)
}

#[test]
fn what_a_lun_is_is_told_before_the_peer_is_met_again() {
    for side in 0..2 {
        let duo = after_a_power_cut(1);
        duo.log_in(side, 1, "host");
        let controller = &duo.controllers[side];
        for admission in [Admission::Known, Admission::KnownReading, Admission::Attention] {
            let view = controller.admit(LUN, HOST, admission).unwrap();
            assert_eq!((view.blocks, view.serving), (BLOCKS, false));
            assert!(view.identity.is_some_and(|name| name.naa >> 60 == 3));
        }
        for admission in [Admission::Ready, Admission::Medium, Admission::Reading, Admission::Changing] {
            assert_eq!(controller.admit(LUN, HOST, admission), Err(NOT_READY.clone()));
        }
        assert_eq!(controller.known_lun_numbers(), [0]);
    }
}

#[test]
fn a_lun_that_was_never_made_is_not_there_yet() {
    let duo = TwoControllers::new(1, true);
    duo.log_in(0, 1, "host");
    let controller = &duo.controllers[0];
    assert_eq!(controller.admit(LUN, HOST, Admission::Known), Err(NOT_READY));
    assert_eq!(controller.admit(LUN, HOST, Admission::Always).unwrap().identity, None);
    assert_eq!((controller.known_lun_numbers(), controller.serving()), (vec![], false));
}

#[test]
fn hosts_are_told_when_a_run_serves_a_lun_for_the_first_time() {
    let mut duo = after_a_power_cut(1);
    for side in 0..2 {
        duo.log_in(side, 1, "host");
        assert_eq!(duo.told(side, 1), []);
    }
    duo.connect();
    duo.settle(4);
    for side in 0..2 {
        assert_eq!(duo.told(side, 1), [Sense::ASYMMETRIC_ACCESS_STATE_CHANGED], "side {side}");
        assert!(duo.controllers[side].admit(LUN, HOST, Admission::Medium).is_ok());
    }
}

#[test]
fn hosts_are_told_of_a_lun_that_is_made_while_they_use_others() {
    let mut duo = TwoControllers::new(1, true);
    duo.connect();
    duo.settle(1);
    let mut duo = duo.crash_and_add_a_lun(2);
    for side in 0..2 {
        duo.log_in(side, 1, "host");
        assert_eq!(duo.controllers[side].known_lun_numbers(), [0]);
    }
    duo.connect();
    duo.settle(4);
    for side in 0..2 {
        assert_eq!(duo.controllers[side].known_lun_numbers(), [0, 1]);
        assert!(duo.told(side, 1).contains(&Sense::REPORTED_LUNS_CHANGED), "side {side}");
    }
}

#[test]
fn hosts_are_told_of_another_capacity() {
    let setup = LunSetup {
        index: 0,
        stack: Stack::of(VolumeId(0)),
        blocks: 0,
        write_cache: true,
        luns: 1,
        side: Side::First,
        incarnation: 1,
    };
    let mut lun = Lun::new(setup, SharedState::default(), Arc::default(), Arc::default());
    lun.nexus_added(HOST, &Initiator { name: "host".into(), isid: [0; 6] });
    let told = |lun: &mut Lun, blocks| {
        lun.learn(blocks);
        core::iter::from_fn(|| lun.admit(HOST, Admission::Attention).err()).collect::<Vec<_>>()
    };
    let power_on = Outcome::Check(Sense::POWER_ON);
    assert_eq!(told(&mut lun, 8), [power_on]);
    assert_eq!(told(&mut lun, 8), []);
    assert_eq!(told(&mut lun, 9), [Outcome::Check(Sense::CAPACITY_CHANGED)]);
    assert_eq!(lun.blocks(), 9);
}
