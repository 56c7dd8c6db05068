//! What each controller is told by its peer of the peer's own state, and how old it is.

use crate::disk::DiskError;
use crate::pair::{PairStatus, Role};
use crate::status::{ControllerStatus, PeerReport};
use crate::testing::{TwoControllers, write};
use crate::volume::superblock::VolumeFound;

fn status(duo: &TwoControllers, side: usize) -> ControllerStatus {
    duo.controllers[side].status()
}

fn said(duo: &TwoControllers, side: usize) -> Option<PeerReport> {
    status(duo, side).peer_said
}

#[test]
fn in_touch_each_knows_what_the_other_says_and_afterwards_what_it_said_and_when() {
    let mut duo = TwoControllers::new(21, true);
    assert_eq!(said(&duo, 0), None);
    duo.connect();
    duo.settle(30);
    for (side, role) in [(0, Role::Sub), (1, Role::Main)] {
        let word = said(&duo, side).expect("the peer has said something");
        let lun = &word.luns[0];
        assert!(word.current && word.age_seconds <= 1, "{word:?}");
        assert_eq!((lun.role, lun.status, lun.serving), (role, PairStatus::Duplex, true));
        assert_eq!(lun.main, "alpha");
    }
    duo.cut();
    for _ in 0..100 {
        duo.advance();
    }
    let word = said(&duo, 1).expect("the last word stays");
    assert!(!word.current && word.age_seconds >= 4, "{word:?}");
    assert_eq!((word.luns[0].status, word.luns[0].serving), (PairStatus::Duplex, true), "as it was");
}

#[test]
fn how_far_a_copy_is_and_why_is_known_on_both_machines() {
    let mut duo = TwoControllers::new(22, true);
    duo.connect();
    duo.settle(1);
    duo.ask(0, 1, write(0, 8, 5));
    duo.settle(1);
    let mut duo = duo.crash_and(23, true, |side, restored| {
        if side == 1 {
            restored.volumes = vec![VolumeFound::Missing];
        }
    });
    duo.connect();
    duo.stall_disk(1);
    duo.settle(25);
    let [main, sub] = [0, 1].map(|side| status(&duo, side).luns.remove(0));
    assert_eq!((main.status, sub.status), (PairStatus::Copy, PairStatus::Copy));
    assert_eq!((main.copied_percent, sub.copied_percent), (Some(0), Some(0)));
    assert_eq!(said(&duo, 1).and_then(|word| word.luns[0].reason.clone()), main.reason);
    duo.resume_disk(1);
    duo.settle(30);
    let sub = status(&duo, 1).luns.remove(0);
    assert_eq!((sub.status, sub.copied_percent), (PairStatus::Duplex, None));
}

/// alpha's copy was full, so beta is main; it gives the LUN back, and dies late in that switch.
#[test]
fn nobody_is_told_that_a_controller_was_started_again_that_was_not() {
    let mut told = Vec::new();
    for seed in 0..10 {
        for steps in 0..60 {
            let mut duo = TwoControllers::met(seed);
            duo.break_disk(0, DiskError::Full);
            duo.ask(0, 1, write(0, 4, 1));
            duo.settle(4);
            assert_eq!(duo.statuses(), [PairStatus::Suspended; 2], "seed {seed}");
            duo.mend_disk(0);
            let switches = |duo: &TwoControllers| {
                duo.controllers[1]
                    .place(crate::command::LunIndex(0))
                    .is_some_and(|(_, status, _, switching)| switching && status == PairStatus::Duplex)
            };
            let mut waited = 0;
            while !switches(&duo) && waited < 400 {
                if !duo.step() {
                    duo.settle(0);
                    waited += 1;
                }
            }
            assert!(switches(&duo), "seed {seed}: it does not give it back");
            for _ in 0..steps {
                duo.step();
                duo.controllers.iter().for_each(crate::unit::Controller::on_tick);
            }
            duo.cut();
            duo.settle(40);
            let luns = [0, 1].map(|side| duo.controllers[side].status().luns.remove(0));
            let reason = luns[0].reason.clone().unwrap_or_default();
            if !luns[0].serving && reason.contains("has been started again") {
                told.push((seed, steps, luns[1].serving, reason));
            }
        }
    }
    assert!(told.is_empty(), "{} times, {:?}", told.len(), told.first());
}
