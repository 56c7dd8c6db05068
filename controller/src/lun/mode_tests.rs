//! MODE SELECT across two controllers, in the toy world: what is selected is the same on both, and from the end of the
//! write cache on every write that was answered is durable on both copies.

use protocol::interlink::event::{Event, ModeSelection};
use protocol::interlink::shared::{Modes, Requester, SharedState};
use protocol::scsi::sense::{Sense, SenseKey, Status};

use crate::command::{LunIndex, NexusId, Outcome, TaskTag};
use crate::disk::DiskError;
use crate::testing::{TwoControllers, write};

const GOOD: Outcome = Outcome::Good(Vec::new());

/// Two that have met, each with a session that has nothing to be told.
fn met(seed: u64) -> TwoControllers {
    let mut duo = TwoControllers::new(seed, true);
    duo.connect();
    duo.settle(1);
    (0..2).for_each(|side| duo.log_in(side, 1, &format!("host{side}")));
    duo
}

fn select(selection: ModeSelection) -> impl Fn(Requester) -> Event + Copy {
    move |who| Event::ModeSelect { who, select: selection }
}

/// WCE becomes `on`.
fn cache(on: bool, save: bool) -> impl Fn(Requester) -> Event + Copy {
    select(ModeSelection { save, write_cache: Some(on), ..ModeSelection::default() })
}

fn state(duo: &TwoControllers, side: usize) -> SharedState {
    duo.controllers[side].shared(LunIndex(0)).unwrap()
}

fn caches(duo: &TwoControllers, side: usize) -> bool {
    state(duo, side).current.caches(true)
}

fn is_flushed(duo: &TwoControllers, side: usize) -> bool {
    duo.changing(side) == (false, false)
}

/// Steps until a side has answered the command of this tag; how.
fn answered(duo: &mut TwoControllers, side: usize, tag: u32) -> Outcome {
    for _ in 0..100_000 {
        if let Some((_, outcome)) = duo.answers(side).into_iter().find(|(answered, _)| *answered == tag) {
            return outcome;
        }
        if !duo.step() {
            duo.settle(0);
        }
    }
    panic!("it is never answered");
}

/// The same for a MODE SELECT, which is sent again when there is something to be told first.
fn selected(duo: &mut TwoControllers, side: usize, tag: u32, event: impl Fn(Requester) -> Event + Copy) {
    for tag in tag..tag + 3 {
        match answered(duo, side, tag) {
            Outcome::Check(Sense { key: SenseKey::UnitAttention, .. }) => {}
            outcome => return assert_eq!(outcome, GOOD),
        }
        duo.event(side, 1, tag + 1, event);
    }
    panic!("there is always something to be told");
}

#[test]
fn every_selected_mode_is_the_same_on_both_and_saved_ones_outlive_both_controllers() {
    let selection = |save| ModeSelection {
        save,
        write_protect: Some(false),
        descriptor_sense: Some(true),
        write_cache: Some(false),
    };
    let selected = Modes { write_protect: false, descriptor_sense: true, write_cache: Some(false) };
    for (seed, save) in [(1, true), (2, false), (3, true), (4, false)] {
        let side = (seed / 3) as usize;
        let mut duo = met(seed);
        duo.event(side, 1, 5, select(selection(save)));
        assert_eq!(answered(&mut duo, side, 5), GOOD);
        let saved = if save { selected } else { Modes::default() };
        for at in 0..2 {
            assert_eq!(
                (state(&duo, at).current, state(&duo, at).saved),
                (selected, saved),
                "seed {seed} {at}"
            );
            assert!(duo.controllers[at].sense_formats().is_descriptor(0), "seed {seed} {at}");
            let kept = duo.shared(at).map(|state| state.saved);
            assert_eq!(kept.unwrap_or_default(), saved, "seed {seed} {at}");
        }
        assert_eq!(duo.told(side, 1), [], "who asked for it knows");
        assert_eq!(duo.told(1 - side, 1), [Sense::MODE_PARAMETERS_CHANGED]);
        let mut duo = duo.crash(seed + 100, true);
        duo.connect();
        duo.settle(90);
        for at in 0..2 {
            assert_eq!((state(&duo, at).current, state(&duo, at).saved), (saved, saved), "seed {seed} {at}");
            assert_eq!(duo.controllers[at].sense_formats().is_descriptor(0), save, "seed {seed} {at}");
        }
    }
}

#[test]
fn when_the_end_of_the_write_cache_is_answered_all_that_was_answered_is_durable_on_both() {
    let mut unflushed = [0; 2];
    for seed in 0..100 {
        let side = (seed % 2) as usize;
        let mut duo = met(seed);
        (0..2).for_each(|at| duo.ask(at, 1, write(0, 8, 1)));
        (0..2).for_each(|at| duo.ask(at, 2, write(8 * at as u64 + 8, 8, 2)));
        (0..seed % 29).for_each(|_| {
            duo.step();
        });
        (0..2).for_each(|at| unflushed[at] += u32::from(duo.changing(at).1));
        duo.event(side, 1, 9, cache(false, seed % 3 == 0));
        assert_eq!(answered(&mut duo, side, 9), GOOD, "seed {seed}");
        for at in 0..2 {
            assert!(is_flushed(&duo, at), "seed {seed}: copy {at} is not flushed");
            assert!(!caches(&duo, at), "seed {seed} {at}");
        }
    }
    assert!(unflushed.iter().all(|often| *often > 0), "all was flushed before: the test shows nothing");
}

#[test]
fn writes_that_race_with_the_end_of_the_write_cache_are_durable_on_both_when_all_is_answered() {
    for seed in 0..200 {
        let side = (seed % 2) as usize;
        let mut duo = met(seed);
        (0..2).for_each(|at| duo.ask(at, 1, write(0, 8, 1)));
        (0..seed % 7).for_each(|_| {
            duo.step();
        });
        duo.event(side, 1, 9, cache(false, false));
        (0..seed % 13).for_each(|_| {
            duo.step();
        });
        (0..2).for_each(|at| duo.ask(at, 2, write(8 * at as u64, 8, 2)));
        let mut ends = Vec::new();
        while ends.len() < 5 {
            assert!(duo.step(), "seed {seed}: {ends:?}");
            (0..2).for_each(|at| ends.extend(duo.answers(at)));
        }
        let told = Outcome::Check(Sense::MODE_PARAMETERS_CHANGED);
        assert!(
            ends.iter().all(|(_, outcome)| *outcome == GOOD || *outcome == told),
            "seed {seed}: {ends:?}"
        );
        (0..2).for_each(|at| assert!(is_flushed(&duo, at), "seed {seed}: copy {at} is not flushed"));
    }
}

#[test]
fn without_the_write_cache_every_write_is_durable_on_both_before_its_answer_and_with_it_again_not() {
    let mut cached = [0; 2];
    for seed in 0..60 {
        let side = (seed % 2) as usize;
        let mut duo = met(seed);
        duo.event(1 - side, 1, 8, cache(false, false));
        assert_eq!(answered(&mut duo, 1 - side, 8), GOOD);
        duo.told(side, 1);
        duo.ask(side, 9, write(0, 8, 7));
        assert_eq!(answered(&mut duo, side, 9), GOOD);
        (0..2).for_each(|at| assert!(is_flushed(&duo, at), "seed {seed}: copy {at} is not flushed"));
        duo.event(side, 1, 10, cache(true, false));
        assert_eq!(answered(&mut duo, side, 10), GOOD);
        duo.ask(side, 11, write(0, 8, 8));
        assert_eq!(answered(&mut duo, side, 11), GOOD);
        (0..2).for_each(|at| cached[at] += u32::from(duo.changing(at).1));
    }
    assert_eq!(cached, [60; 2], "with the write cache nothing is flushed before the answer");
}

#[test]
fn a_reset_that_brings_a_saved_end_of_the_write_cache_back_flushes_both_before_it_is_answered() {
    for seed in 0..40 {
        let side = (seed % 2) as usize;
        let mut duo = met(seed);
        for (tag, on, save) in [(1, false, true), (2, true, false)] {
            duo.event(side, 1, tag, cache(on, save));
            assert_eq!(answered(&mut duo, side, tag), GOOD);
        }
        duo.ask(side, 3, write(0, 8, 7));
        assert_eq!(answered(&mut duo, side, 3), GOOD);
        assert!((0..2).all(|at| caches(&duo, at) && duo.changing(at).1), "seed {seed}");
        duo.controllers[side].reset(LunIndex(0), NexusId(1), TaskTag(9));
        assert_eq!(answered(&mut duo, side, 9), GOOD);
        (0..2).for_each(|at| assert!(is_flushed(&duo, at) && !caches(&duo, at), "seed {seed}: copy {at}"));
    }
}

#[test]
fn a_main_that_loses_its_peer_meanwhile_ends_the_write_cache_alone_and_the_peer_learns_of_it() {
    let mut on_its_way = 0;
    for seed in 0..80 {
        let mut duo = met(seed);
        duo.ask(0, 1, write(0, 8, 1));
        duo.settle(0);
        duo.answers(0);
        duo.event(0, 1, 9, cache(false, seed % 2 == 0));
        (0..seed % 16).for_each(|_| {
            duo.step();
        });
        on_its_way += u32::from(caches(&duo, 0));
        duo.cut();
        selected(&mut duo, 0, 9, cache(false, seed % 2 == 0));
        assert!(is_flushed(&duo, 0) && !caches(&duo, 0), "seed {seed}");
        duo.settle(80);
        duo.connect();
        duo.settle(90);
        assert!((0..2).all(|at| !caches(&duo, at)), "seed {seed}");
        while !duo.told(1, 1).is_empty() {}
        duo.ask(1, 20, write(0, 8, 2));
        assert_eq!(answered(&mut duo, 1, 20), GOOD, "seed {seed}");
        (0..2).for_each(|at| assert!(is_flushed(&duo, at), "seed {seed}: copy {at}"));
    }
    assert!(on_its_way > 0, "it was never under way: the test shows nothing");
}

#[test]
fn a_copy_that_cannot_be_flushed_leaves_the_pair_and_the_write_cache_ends_on_the_other() {
    for (seed, broken) in [(1, 0), (2, 1), (3, 0), (4, 1)] {
        let mut duo = met(seed);
        duo.ask(0, 1, write(0, 8, 1));
        duo.settle(0);
        duo.answers(0);
        duo.break_disk(broken, DiskError::FlushFailed);
        duo.event(0, 1, 9, cache(false, true));
        let first = answered(&mut duo, 0, 9);
        assert_eq!(first, Outcome::Status(Status::Busy), "seed {seed}: its host sends it again");
        duo.settle(10);
        duo.event(0, 1, 10, cache(false, true));
        selected(&mut duo, 0, 10, cache(false, true));
        let good = 1 - broken;
        assert!(is_flushed(&duo, good) && !caches(&duo, good), "seed {seed}");
    }
}

#[test]
fn an_only_copy_that_cannot_be_flushed_keeps_its_write_cache_and_its_host_hears_of_the_disk() {
    let mut duo = met(1);
    duo.cut();
    duo.settle(60);
    duo.told(0, 1);
    duo.break_disk(0, DiskError::FlushFailed);
    duo.event(0, 1, 9, cache(false, true));
    let outcome = answered(&mut duo, 0, 9);
    assert!(matches!(outcome, Outcome::Check(Sense { key: SenseKey::MediumError, .. })), "{outcome:?}");
    assert!(caches(&duo, 0));
    duo.mend_disk(0);
    duo.event(0, 1, 10, cache(false, true));
    assert_eq!(answered(&mut duo, 0, 10), GOOD);
    assert!(!caches(&duo, 0));
}

#[test]
fn to_write_down_what_is_configured_is_told_to_nobody_but_holds_when_the_configuration_changes() {
    let mut duo = met(5);
    duo.event(0, 1, 9, cache(true, true));
    assert_eq!(answered(&mut duo, 0, 9), GOOD);
    for at in 0..2 {
        assert_eq!(duo.told(at, 1), [], "{at}");
        assert_eq!(state(&duo, at).saved.write_cache, Some(true));
        assert!(state(&duo, at).saved.caches(false));
    }
}

#[test]
fn a_flush_counts_for_its_own_event_only() {
    let mut given_up = 0;
    for seed in 0..200 {
        let mut duo = met(seed);
        duo.event(0, 1, 9, cache(false, false));
        (0..seed % 8).for_each(|_| {
            duo.step();
        });
        duo.controllers[0].abort(LunIndex(0), NexusId(1), TaskTag(9));
        let early = duo.answers(0);
        if early.iter().all(|(_, outcome)| *outcome != Outcome::Aborted) {
            continue;
        }
        given_up += 1;
        duo.ask(0, 10, write(0, 8, 1));
        assert_eq!(answered(&mut duo, 0, 10), GOOD, "seed {seed}");
        duo.event(0, 1, 11, cache(false, false));
        assert_eq!(answered(&mut duo, 0, 11), GOOD, "seed {seed}");
        (0..2).for_each(|at| assert!(is_flushed(&duo, at), "seed {seed}: copy {at} is not flushed"));
    }
    assert!(given_up > 20, "it was too late to give it up: the test shows nothing");
}
