//! Which shared state is the newer when one controller has lost what it had not made durable.

use protocol::interlink::event::{Event, ModeSelection};
use protocol::interlink::shared::{Requester, SharedState};
use protocol::scsi::persistent_reservation::{Kind, OutAction};

use crate::command::{LunIndex, Outcome};
use crate::reservation::asked;
use crate::testing::TwoControllers;

const GOOD: Outcome = Outcome::Good(Vec::new());

fn met(seed: u64) -> TwoControllers {
    let mut duo = TwoControllers::new(seed, true);
    duo.connect();
    duo.settle(1);
    (0..2).for_each(|side| duo.log_in(side, 1, &format!("host{side}")));
    duo
}

/// A registration that no loss of power outlives.
fn register(who: Requester) -> Event {
    asked::event(asked::out(OutAction::RegisterAndIgnoreExistingKey, (0, 7), Kind::ALL[0]))(who)
}

fn protect(save: bool, on: bool) -> impl Fn(Requester) -> Event + Copy {
    move |who| Event::ModeSelect {
        who,
        select: ModeSelection { save, write_protect: Some(on), ..Default::default() },
    }
}

fn asked(duo: &mut TwoControllers, side: usize, event: impl FnOnce(Requester) -> Event) {
    duo.event(side, 1, 5, event);
    duo.settle(1);
    assert_eq!(duo.answers(side), [(5, GOOD)]);
}

fn state(duo: &TwoControllers, side: usize) -> SharedState {
    duo.controllers[side].shared(LunIndex(0)).unwrap()
}

fn on_disk(duo: &TwoControllers, side: usize) -> Option<SharedState> {
    duo.shared(side)
}

#[test]
fn what_main_changed_alone_is_not_undone_by_the_older_memory_of_the_other() {
    for seed in 0..20 {
        let mut duo = met(seed);
        asked(&mut duo, 0, protect(false, true));
        duo.cut();
        duo.settle(60);
        duo.told(0, 1);
        asked(&mut duo, 0, protect(false, false));
        // main's own loss of power ends what was not saved, as it may; what it had ended does not come back.
        let mut duo = duo.crash_one(seed + 100, 0);
        duo.connect();
        duo.settle(90);
        for side in 0..2 {
            assert!(!state(&duo, side).current.write_protect, "seed {seed} side {side}");
        }
    }
}

#[test]
fn what_main_of_an_unmirrored_lun_changed_without_its_peer_is_not_undone_by_the_older_memory_of_the_other() {
    for seed in 0..20 {
        let mut duo = TwoControllers::new(seed, false);
        duo.connect();
        duo.settle(1);
        (0..2).for_each(|side| duo.log_in(side, 1, &format!("host{side}")));
        asked(&mut duo, 0, register);
        duo.cut();
        duo.settle(60);
        duo.told(0, 1);
        asked(&mut duo, 0, protect(true, true));
        let restarts = seed % 3;
        for restart in 1..=restarts {
            duo = duo.crash_one(seed + 100 * restart, 0);
        }
        duo.connect();
        duo.settle(90);
        for side in 0..2 {
            let state = state(&duo, side);
            assert!(state.saved.write_protect, "seed {seed} side {side}");
            assert_eq!(state.reservations.registrants.is_empty(), restarts > 0, "seed {seed} side {side}");
        }
    }
}

#[test]
fn an_event_that_main_had_on_its_disk_and_told_nobody_ends_no_reservation_that_the_other_remembers() {
    let mut shown = 0;
    for seed in 0..300 {
        let mut duo = met(seed);
        asked(&mut duo, 1, register);
        duo.event(0, 1, 6, protect(true, true));
        (0..seed % 5).for_each(|_| {
            duo.step();
        });
        let told = !duo.answers(0).is_empty() || state(&duo, 1).current.write_protect;
        let durable = on_disk(&duo, 0).is_some_and(|state| state.saved.write_protect);
        shown += u32::from(durable && !told);
        let mut duo = duo.crash_one(seed + 100, 0);
        duo.connect();
        duo.settle_and_redial(90);
        for side in 0..2 {
            assert_eq!(state(&duo, side).reservations.registrants.len(), 1, "seed {seed} side {side}");
        }
    }
    assert!(shown > 0, "the test shows nothing");
}

#[test]
fn a_record_on_its_way_is_awaited_by_whatever_needs_the_same() {
    let mut on_its_way = 0;
    for seed in 0..60 {
        let slow = (seed % 2) as usize;
        let mut duo = met(seed);
        duo.hold_shared(Some(slow));
        duo.event(0, 1, 6, protect(true, true));
        while duo.step() {}
        assert_eq!(duo.answers(0), [], "seed {seed}");
        on_its_way += u32::from(on_disk(&duo, 1 - slow).is_some());
        // They lose each other for a moment, with the record on its way to a disk, and meet again.
        duo.cut();
        duo.connect();
        duo.settle(2);
        assert!(
            on_disk(&duo, slow).is_none_or(|state| !state.saved.write_protect),
            "seed {seed}: nothing waits"
        );
        assert!(
            !duo.answers(0).contains(&(6, GOOD)),
            "seed {seed}: answered before side {slow} has it on its disk"
        );
        duo.hold_shared(None);
        duo.settle(2);
        for side in 0..2 {
            let durable = on_disk(&duo, side).is_some_and(|state| state.saved.write_protect);
            assert!(durable, "seed {seed}: side {side} never has it on its disk");
        }
    }
    assert!(on_its_way > 0, "the test shows nothing");
}
