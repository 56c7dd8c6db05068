//! SANITIZE across two controllers, in the toy world: both copies wholly overwritten before it is over, through
//! crashes, resets and the loss of the peer, and hosts refused meanwhile.

use bytes::Bytes;
use protocol::interlink::event::Event;
use protocol::interlink::sanitize::{Order, Sanitize};
use protocol::interlink::shared::{Requester, SharedState};
use protocol::scsi::sanitize::Method;
use protocol::scsi::sense::{Asc, Sense, SenseKey};

use crate::command::{Admission, LunIndex, NexusId, Op, Outcome, TaskTag};
use crate::disk::DiskError;
use crate::testing::{BLOCKS, TwoControllers, blocks_of, range, write};

const GOOD: Outcome = Outcome::Good(Vec::new());
const LUN: LunIndex = LunIndex(0);
const PATTERN: [u8; 3] = [0xa5, 0x5a, 0x77];

pub(super) fn overwrite(passes: u8) -> Method {
    Method::Overwrite { pattern: Bytes::from_static(&PATTERN), invert: true, passes }
}

pub(super) fn sanitize(method: Method, immed: bool, ause: bool) -> impl Fn(Requester) -> Event {
    move |who| {
        let order = Some(Box::new(Order { method: method.clone(), ause }));
        Event::Sanitize { who, order, immed }
    }
}

pub(super) fn exit(who: Requester) -> Event {
    Event::Sanitize { who, order: None, immed: false }
}

/// Two that have met, with a session each, and whose LUN is full of what shall go.
pub(super) fn met(seed: u64) -> TwoControllers {
    let mut duo = TwoControllers::new(seed, true);
    duo.connect();
    duo.settle(1);
    (0..2).for_each(|side| duo.log_in(side, 1, &format!("host{side}")));
    duo.ask(0, 1, write(0, BLOCKS, 0x11));
    // By way of the redo record, which so holds something that shall go too.
    duo.ask(1, 2, Op::WriteAtomic { range: range(3, 9), data: blocks_of(0x22, 9), fua: false });
    duo.settle(1);
    assert_eq!((duo.answers(0), duo.answers(1)), (vec![(1, GOOD)], vec![(2, GOOD)]));
    duo
}

fn log_in_again(duo: &TwoControllers) {
    (0..2).for_each(|side| duo.log_in(side, 7, &format!("later{side}")));
}

pub(super) fn state(duo: &TwoControllers, side: usize) -> SharedState {
    duo.controllers[side].shared(LUN).unwrap()
}

pub(super) fn kept(duo: &TwoControllers, side: usize) -> Sanitize {
    duo.shared(side).map(|state| state.sanitize).unwrap_or_default()
}

pub(super) fn is_under_way(sanitize: &Sanitize) -> bool {
    matches!(sanitize, Sanitize::UnderWay { .. })
}

pub(super) fn wholly(duo: &TwoControllers, side: usize, method: &Method) -> bool {
    let wanted = method.block(method.passes() - 1);
    duo.volume(side).chunks(512).all(|block| *block == wanted[..])
}

/// Steps and lets time pass until it holds; false if it does not in `most` ticks.
pub(super) fn until(duo: &mut TwoControllers, most: u32, holds: impl Fn(&TwoControllers) -> bool) -> bool {
    for _ in 0..most {
        loop {
            if holds(duo) {
                return true;
            }
            if !duo.step() {
                break;
            }
        }
        duo.advance();
        duo.controllers.iter().for_each(crate::unit::Controller::on_tick);
    }
    holds(duo)
}

pub(super) fn code(outcome: &Outcome) -> Option<(SenseKey, Asc)> {
    match outcome {
        Outcome::Check(sense) => Some((sense.key, sense.code)),
        _ => None,
    }
}

const IN_PROGRESS: Option<(SenseKey, Asc)> = Some((SenseKey::NotReady, Asc(0x04, 0x1b)));

#[test]
fn both_copies_are_overwritten_and_flushed_before_it_is_answered_through_either_controller() {
    for seed in 0..60 {
        let side = (seed % 2) as usize;
        let method =
            [overwrite(1), overwrite(2), overwrite(3), Method::BlockErase][(seed / 2 % 4) as usize].clone();
        let mut duo = met(seed);
        duo.event(side, 1, 9, sanitize(method.clone(), false, true));
        let mut ends = Vec::new();
        for _ in 0..400 {
            while duo.step() {
                ends.extend(duo.answers(side));
                if !ends.is_empty() {
                    break;
                }
            }
            if !ends.is_empty() {
                break;
            }
            duo.settle(0);
            ends.extend(duo.answers(side));
        }
        assert_eq!(ends, [(9, GOOD)], "seed {seed}");
        for copy in 0..2 {
            assert!(wholly(&duo, copy, &method), "seed {seed}: copy {copy}");
            assert!(!duo.changing(copy).1, "seed {seed}: copy {copy} is not flushed");
            assert_eq!(state(&duo, copy).sanitize, Sanitize::Idle, "seed {seed}");
            assert_eq!(kept(&duo, copy), Sanitize::Idle, "seed {seed}");
            assert_eq!(
                duo.record(copy),
                (false, 1 + u64::from(method.passes())),
                "each pass goes over the record"
            );
        }
    }
}

#[test]
fn with_immed_it_is_answered_when_both_have_it_durably_and_hosts_are_refused_until_it_is_over() {
    for seed in 0..40 {
        let side = (seed % 2) as usize;
        let mut duo = met(seed);
        duo.event(side, 1, 9, sanitize(overwrite(2), true, true));
        let mut ends = Vec::new();
        while ends.is_empty() {
            assert!(duo.step(), "seed {seed}");
            ends.extend(duo.answers(side));
        }
        assert_eq!(ends, [(9, GOOD)], "seed {seed}");
        let again = sanitize(Method::BlockErase, true, true);
        for at in 0..2 {
            assert!(is_under_way(&kept(&duo, at)) && is_under_way(&state(&duo, at).sanitize), "seed {seed}");
            let ops: [Op; 4] = [
                Op::Read { range: range(0, 1) },
                write(0, 1, 9),
                Op::SynchronizeCache,
                Op::StartStop { start: true },
            ];
            for (tag, op) in ops.into_iter().enumerate() {
                duo.ask(at, 20 + tag as u32, op);
            }
            duo.event(at, 1, 30, &again);
            let refused: Vec<_> = duo.answers(at);
            let codes: Vec<_> = refused.iter().map(|(_, outcome)| code(outcome)).collect();
            assert!(
                codes.len() >= 4 && codes.iter().all(|code| *code == IN_PROGRESS),
                "seed {seed}: {refused:?}"
            );
            for (admission, wanted) in [
                (Admission::Always, None),
                (Admission::Attention, None),
                (Admission::RequestSense, IN_PROGRESS),
                (Admission::Ready, IN_PROGRESS),
                (Admission::Medium, IN_PROGRESS),
            ] {
                let admitted = duo.controllers[at].admit(LUN, NexusId(1), admission);
                assert_eq!(admitted.err().and_then(|outcome| code(&outcome)), wanted, "{admission:?}");
            }
        }
        assert!(until(&mut duo, 100, |duo| (0..2).all(|at| state(duo, at).sanitize == Sanitize::Idle)));
        (0..2).for_each(|copy| assert!(wholly(&duo, copy, &overwrite(2)), "seed {seed}"));
        duo.answers(0);
        duo.answers(1);
        duo.ask(1 - side, 40, write(5, 1, 9));
        duo.settle(1);
        assert_eq!(duo.answers(1 - side), [(40, GOOD)], "seed {seed}");
    }
}

#[test]
fn no_piece_starts_before_what_was_admitted_has_ended_and_both_have_the_order() {
    for seed in 0..60 {
        let mut duo = met(seed);
        duo.ask((seed % 2) as usize, 3, write(0, BLOCKS, 0x33));
        (0..seed % 7).for_each(|_| {
            duo.step();
        });
        duo.event(0, 1, 9, sanitize(overwrite(1), true, true));
        let begun = |duo: &TwoControllers| (0..2).any(|copy| duo.volume(copy)[..3] == PATTERN);
        while !begun(&duo) && duo.step() {}
        for at in 0..2 {
            assert!(!begun(&duo) || is_under_way(&kept(&duo, at)), "seed {seed}");
        }
        assert!(until(&mut duo, 100, |duo| (0..2).all(|at| state(duo, at).sanitize == Sanitize::Idle)));
        (0..2).for_each(|copy| assert!(wholly(&duo, copy, &overwrite(1)), "seed {seed}"));
        let ends = [duo.answers(0), duo.answers(1)].concat();
        // It came before, or is refused: nothing between.
        let right = |end: &Outcome| *end == GOOD || code(end) == IN_PROGRESS;
        assert!(ends.iter().all(|(tag, end)| *tag != 3 || right(end)), "seed {seed}: {ends:?}");
    }
}

#[test]
fn it_goes_on_after_both_or_either_crash_at_any_stage_and_both_copies_are_sanitized() {
    let mut resumed = [0; 3];
    for seed in 0..150 {
        let method = [overwrite(3), Method::BlockErase][(seed % 2) as usize].clone();
        let mut duo = met(seed);
        duo.event((seed / 2 % 2) as usize, 1, 9, sanitize(method.clone(), true, true));
        for _ in 0..seed / 3 {
            if !duo.step() {
                duo.settle(0);
            }
        }
        let begun = duo.answers(0).len() + duo.answers(1).len() > 0;
        let over = begun && (0..2).all(|at| state(&duo, at).sanitize == Sanitize::Idle);
        let who = (seed % 3) as usize;
        let mut duo = match who {
            2 => duo.crash(seed + 1000, true),
            side => duo.crash_one(seed + 1000, side),
        };
        resumed[who] += u32::from((0..2).any(|at| is_under_way(&state(&duo, at).sanitize)));
        duo.connect();
        let idle = |duo: &TwoControllers| (0..2).all(|at| state(duo, at).sanitize == Sanitize::Idle);
        duo.settle(120);
        assert!(until(&mut duo, 200, idle), "seed {seed}: it does not end");
        assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
        if begun || over {
            (0..2).for_each(|copy| assert!(wholly(&duo, copy, &method), "seed {seed}: copy {copy}"));
        }
        log_in_again(&duo);
        duo.ask_of(0, NexusId(7), 50, write(1, 1, 9));
        duo.settle(2);
        assert!(duo.answers(0).contains(&(50, GOOD)), "seed {seed}");
        duo.settle(60);
        assert_eq!(duo.volume(0)[512], 9, "seed {seed}: what is written later stays");
    }
    assert!(resumed.iter().all(|count| *count > 0), "it was never resumed: {resumed:?}");
}

#[test]
fn main_goes_on_alone_and_the_copy_that_returns_is_refilled_with_what_is_sanitized() {
    let mut alone = 0;
    for seed in 0..60 {
        let mut duo = met(seed);
        duo.event(0, 1, 9, sanitize(overwrite(3), false, true));
        assert!(until(&mut duo, 4, |duo| is_under_way(&state(duo, 0).sanitize)), "seed {seed}");
        (0..seed).for_each(|_| {
            duo.step();
        });
        duo.cut();
        let was = is_under_way(&state(&duo, 0).sanitize);
        duo.settle(80);
        alone += u32::from(was && state(&duo, 0).sanitize == Sanitize::Idle);
        assert_eq!(state(&duo, 0).sanitize, Sanitize::Idle, "seed {seed}");
        assert!(wholly(&duo, 0, &overwrite(3)), "seed {seed}");
        assert_eq!(duo.answers(0), [(9, GOOD)], "seed {seed}: its host waited at main");
        duo.connect();
        duo.settle(60);
        (0..2).for_each(|copy| assert!(wholly(&duo, copy, &overwrite(3)), "seed {seed}: copy {copy}"));
        assert_eq!(state(&duo, 1).sanitize, Sanitize::Idle, "seed {seed}");
    }
    assert!(alone > 0, "it was never under way: the test shows nothing");
}

#[test]
fn an_abort_a_reset_and_a_lost_session_end_the_waiting_and_not_the_operation() {
    for seed in 0..60 {
        let side = (seed % 2) as usize;
        let mut duo = met(seed);
        duo.event(side, 1, 9, sanitize(overwrite(3), false, true));
        assert!(until(&mut duo, 4, |duo| (0..2).all(|at| is_under_way(&state(duo, at).sanitize))));
        assert_eq!(duo.answers(side), [], "seed {seed}");
        match seed / 2 % 3 {
            0 => duo.controllers[side].abort(LUN, NexusId(1), TaskTag(9)),
            1 => duo.controllers[1 - side].reset(LUN, NexusId(1), TaskTag(99)),
            _ => duo.controllers[side].nexus_lost(NexusId(1)),
        }
        let over = |duo: &TwoControllers| (0..2).all(|at| state(duo, at).sanitize == Sanitize::Idle);
        let mut ends = Vec::new();
        while duo.step() {
            ends.extend(duo.answers(side));
        }
        assert_eq!(ends, [(9, Outcome::Aborted)], "seed {seed}");
        assert!(until(&mut duo, 100, over), "seed {seed}");
        (0..2).for_each(|copy| assert!(wholly(&duo, copy, &overwrite(3)), "seed {seed}"));
        assert_eq!(duo.answers(side), [], "seed {seed}");
    }
}

#[test]
fn it_fails_with_the_last_copy_and_is_left_as_its_mode_allows() {
    for (seed, ause) in [(1, true), (2, false), (3, true), (4, false)] {
        let mut duo = met(seed);
        duo.cut();
        duo.settle(60);
        duo.told(0, 1);
        duo.break_disk(0, DiskError::Io);
        duo.event(0, 1, 9, sanitize(overwrite(1), false, ause));
        duo.settle(4);
        assert_eq!(duo.answers(0), [(9, Outcome::Check(Sense::SANITIZE_FAILED))], "seed {seed}");
        assert_eq!(kept(&duo, 0), Sanitize::Failed { ause });
        let answer = |duo: &mut TwoControllers| {
            duo.settle(4);
            duo.answers(0).into_iter().map(|(_, outcome)| outcome).collect::<Vec<_>>()
        };
        duo.ask(0, 10, Op::Read { range: range(0, 1) });
        assert_eq!(answer(&mut duo), [Outcome::Check(Sense::SANITIZE_FAILED)]);
        duo.mend_disk(0);
        let refused = Outcome::Check(Sense::invalid_cdb_field(1));
        duo.event(0, 1, 11, exit);
        assert_eq!(answer(&mut duo), [if ause { GOOD } else { refused.clone() }], "EXIT FAILURE MODE");
        if !ause {
            duo.event(0, 1, 12, sanitize(Method::BlockErase, false, true));
            assert_eq!(answer(&mut duo), [refused], "unrestricted after restricted");
            duo.event(0, 1, 13, sanitize(Method::BlockErase, false, false));
            assert_eq!(answer(&mut duo), [GOOD]);
            assert!(wholly(&duo, 0, &Method::BlockErase));
        }
        duo.ask(0, 14, Op::Read { range: range(0, 1) });
        assert!(matches!(answer(&mut duo)[..], [Outcome::Good(_)]));
        duo.event(0, 1, 15, exit);
        assert_eq!(answer(&mut duo), [GOOD], "there is nothing to leave");
    }
}

#[test]
fn a_copy_whose_disk_fails_meanwhile_leaves_the_pair_and_the_other_is_sanitized() {
    for (seed, broken) in [(1, 0), (2, 1), (3, 0), (4, 1)] {
        let mut duo = met(seed);
        duo.event(0, 1, 9, sanitize(overwrite(3), true, true));
        assert!(until(&mut duo, 4, |duo| (0..2).all(|at| is_under_way(&state(duo, at).sanitize))));
        duo.break_disk(broken, DiskError::Io);
        let over = |duo: &TwoControllers| (0..2).all(|at| state(duo, at).sanitize == Sanitize::Idle);
        assert!(until(&mut duo, 300, over), "seed {seed}");
        assert!(wholly(&duo, 1 - broken, &overwrite(3)), "seed {seed}");
    }
}
