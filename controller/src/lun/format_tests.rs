//! FORMAT UNIT across two controllers, in the toy world: a SANITIZE that makes holes, in words of its own.

use protocol::interlink::sanitize::Sanitize;
use protocol::scsi::sanitize::Method;
use protocol::scsi::sense::{Asc, Sense, SenseKey};

use super::sanitize_tests::{code, exit, is_under_way, kept, met, overwrite, sanitize, state, until, wholly};
use crate::command::{Admission, LunIndex, NexusId, Op, Outcome};
use crate::disk::DiskError;
use crate::testing::{BLOCKS, TwoControllers, range, write};

const GOOD: Outcome = Outcome::Good(Vec::new());
const LUN: LunIndex = LunIndex(0);
const IN_PROGRESS: Option<(SenseKey, Asc)> = Some((SenseKey::NotReady, Asc(0x04, 0x04)));

#[test]
fn both_copies_are_formatted_and_flushed_before_it_is_answered_through_either_controller() {
    for seed in 0..20 {
        let side = (seed % 2) as usize;
        let mut duo = met(seed);
        duo.event(side, 1, 9, sanitize(Method::Format, false, true));
        assert!(until(&mut duo, 4, |duo| is_under_way(&state(duo, side).sanitize)), "seed {seed}");
        assert_eq!(duo.answers(side), [], "seed {seed}");
        let over = |duo: &TwoControllers| (0..2).all(|at| state(duo, at).sanitize == Sanitize::Idle);
        assert!(until(&mut duo, 100, over), "seed {seed}");
        duo.settle(1);
        assert_eq!(duo.answers(side), [(9, GOOD)], "seed {seed}");
        for copy in 0..2 {
            assert!(wholly(&duo, copy, &Method::Format), "seed {seed}: copy {copy}");
            assert!(!duo.changing(copy).1, "seed {seed}: copy {copy} is not flushed");
        }
    }
}

#[test]
fn hosts_of_both_controllers_hear_that_a_format_is_in_progress() {
    let mut duo = met(1);
    duo.event(0, 1, 9, sanitize(Method::Format, true, true));
    assert!(until(&mut duo, 4, |duo| (0..2).all(|at| is_under_way(&state(duo, at).sanitize))));
    for at in 0..2 {
        duo.answers(at);
        duo.ask(at, 20, write(0, 1, 9));
        duo.event(at, 1, 21, sanitize(Method::Format, true, true));
        let codes: Vec<_> = duo.answers(at).iter().map(|(_, outcome)| code(outcome)).collect();
        assert_eq!(codes, [IN_PROGRESS; 2]);
        for admission in [Admission::RequestSense, Admission::Known, Admission::Medium] {
            let refused = duo.controllers[at].admit(LUN, NexusId(1), admission).err();
            assert_eq!(refused.and_then(|outcome| code(&outcome)), IN_PROGRESS, "{admission:?}");
        }
    }
}

#[test]
fn a_format_that_fails_with_the_last_copy_is_left_by_another() {
    let mut duo = met(1);
    duo.cut();
    duo.settle(60);
    duo.told(0, 1);
    duo.break_disk(0, DiskError::Io);
    let failed = Outcome::Check(Sense::FORMAT_FAILED);
    duo.event(0, 1, 9, sanitize(Method::Format, false, true));
    duo.settle(4);
    assert_eq!(duo.answers(0), [(9, failed.clone())]);
    assert_eq!(kept(&duo, 0), Sanitize::FormatFailed);
    duo.ask(0, 10, Op::Read { range: range(0, 1) });
    duo.mend_disk(0);
    // There is no failed SANITIZE to leave, and the format stays failed.
    duo.event(0, 1, 11, exit);
    duo.settle(1);
    duo.ask(0, 12, Op::Read { range: range(0, 1) });
    assert_eq!(duo.answers(0), [(10, failed.clone()), (11, GOOD), (12, failed)]);
    duo.event(0, 1, 13, sanitize(Method::Format, false, true));
    duo.settle(60);
    assert_eq!(duo.answers(0), [(13, GOOD)]);
    assert!(wholly(&duo, 0, &Method::Format));
}

#[test]
fn no_format_makes_away_with_what_a_failed_sanitize_left() {
    let mut duo = met(1);
    duo.cut();
    duo.settle(60);
    duo.told(0, 1);
    duo.break_disk(0, DiskError::Io);
    duo.event(0, 1, 9, sanitize(overwrite(1), false, false));
    duo.settle(4);
    duo.mend_disk(0);
    let failed = Outcome::Check(Sense::SANITIZE_FAILED);
    duo.event(0, 1, 10, sanitize(Method::Format, false, true));
    duo.settle(4);
    assert_eq!(duo.answers(0), [(9, failed.clone()), (10, failed)]);
    assert_eq!(kept(&duo, 0), Sanitize::Failed { ause: false });
}

/// As [`met`], and beta cannot read more than the first release could.
fn met_the_first_release(seed: u64) -> TwoControllers {
    let mut duo = TwoControllers::new(seed, true);
    duo.speak_version_1();
    duo.connect();
    duo.settle(1);
    (0..2).for_each(|side| duo.log_in(side, 1, &format!("host{side}")));
    duo.ask(0, 1, write(0, BLOCKS, 0x11));
    duo.settle(1);
    assert_eq!(duo.answers(0), [(1, GOOD)]);
    duo
}

#[test]
fn a_peer_of_the_first_release_formats_by_erasing_its_blocks() {
    for side in 0..2 {
        let mut duo = met_the_first_release(1);
        duo.event(side, 1, 9, sanitize(Method::Format, false, true));
        duo.settle(60);
        assert_eq!(duo.answers(side), [(9, GOOD)]);
        assert!((0..2).all(|copy| wholly(&duo, copy, &Method::Format)));
    }
}

#[test]
fn a_format_begun_alone_goes_on_as_an_erasure_when_a_peer_of_the_first_release_is_met() {
    let mut duo = met_the_first_release(1);
    duo.cut();
    duo.settle(60);
    duo.told(0, 1);
    duo.stall_disk(0);
    duo.event(0, 1, 9, sanitize(Method::Format, false, true));
    duo.settle(1);
    assert!(is_under_way(&state(&duo, 0).sanitize));
    duo.connect();
    duo.resume_disk(0);
    let over = |duo: &TwoControllers| (0..2).all(|at| state(duo, at).sanitize == Sanitize::Idle);
    assert!(until(&mut duo, 100, over));
    duo.settle(60);
    assert!((0..2).all(|copy| wholly(&duo, copy, &Method::Format)));
}

#[test]
fn a_format_that_failed_alone_is_a_failed_erasure_to_a_peer_of_the_first_release() {
    let mut duo = met_the_first_release(1);
    duo.cut();
    duo.settle(60);
    duo.told(0, 1);
    duo.break_disk(0, DiskError::Io);
    duo.event(0, 1, 9, sanitize(Method::Format, false, true));
    duo.settle(4);
    assert_eq!(kept(&duo, 0), Sanitize::FormatFailed);
    duo.mend_disk(0);
    duo.connect();
    duo.settle(60);
    for side in 0..2 {
        assert_eq!(state(&duo, side).sanitize, Sanitize::Failed { ause: true });
    }
}
