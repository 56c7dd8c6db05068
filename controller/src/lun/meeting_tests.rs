//! What hosts hear while the two meet again, and the state that holds is known to one of them only.

use protocol::interlink::event::Event;
use protocol::interlink::shared::Requester;
use protocol::scsi::persistent_reservation::{Kind, OutAction};
use protocol::scsi::sense::Status;

use crate::command::{NexusId, Op, Outcome};
use crate::reservation::asked;
use crate::testing::{TwoControllers, range, write};

const GOOD: Outcome = Outcome::Good(Vec::new());
const CONFLICT: Outcome = Outcome::Status(Status::ReservationConflict);

/// A host of main, and one of the sub.
const HOLDER: (usize, u64) = (0, 1);
const STRANGER: (usize, u64) = (1, 1);

fn out(action: OutAction, key: u64) -> impl Fn(Requester) -> Event {
    asked::event(asked::out(action, (key, 7 - key), Kind::ExclusiveAccess))
}

fn asked(duo: &mut TwoControllers, action: OutAction, key: u64) {
    duo.event(HOLDER.0, HOLDER.1, 5, out(action, key));
    duo.settle(1);
    assert_eq!(duo.answers(HOLDER.0), [(5, GOOD)]);
}

/// What hosts of the sub hear at every step of a meeting, after main went on alone and a reservation changed. `before`
/// is done while they are together, `alone` while they are not.
fn heard(seed: u64, before: &[(OutAction, u64)], alone: (OutAction, u64)) -> Vec<Outcome> {
    let mut duo = TwoControllers::new(seed, true);
    duo.connect();
    duo.settle(1);
    for (side, nexus) in [HOLDER, STRANGER] {
        duo.log_in(side, nexus, &format!("host{side}"));
    }
    before.iter().for_each(|(action, key)| asked(&mut duo, *action, *key));
    duo.cut();
    duo.settle(60);
    duo.told(0, 1);
    asked(&mut duo, alone.0, alone.1);
    duo.connect();
    let (mut ended, mut tag) = (Vec::new(), 10);
    for _ in 0..40 {
        for _ in 0..4 {
            duo.told(STRANGER.0, STRANGER.1);
            for op in [Op::Read { range: range(0, 1) }, write(8, 1, 3)] {
                duo.ask_of(STRANGER.0, NexusId(STRANGER.1), tag, op);
                tag += 1;
            }
            duo.step();
            ended.extend(duo.answers(STRANGER.0));
        }
        if tag % 3 == 0 {
            duo.advance();
        }
        duo.controllers.iter().for_each(crate::unit::Controller::on_tick);
    }
    duo.settle(90);
    ended.extend(duo.answers(STRANGER.0));
    assert_eq!(ended.len(), tag as usize - 10);
    ended.into_iter().map(|(_, outcome)| outcome).collect()
}

#[test]
fn no_command_is_refused_for_a_reservation_that_main_ended_before_the_two_met_again() {
    use OutAction::{Register, Release, Reserve};
    for seed in 0..20 {
        let heard = heard(seed, &[(Register, 0), (Reserve, 7)], (Release, 7));
        assert!(!heard.contains(&CONFLICT), "seed {seed}");
        assert!(heard.iter().any(|outcome| matches!(outcome, Outcome::Good(_))), "seed {seed}");
    }
}

#[test]
fn no_command_is_carried_out_that_a_reservation_forbids_which_main_took_before_the_two_met_again() {
    use OutAction::{Register, Reserve};
    for seed in 0..20 {
        let heard = heard(seed, &[(Register, 0)], (Reserve, 7));
        assert!(!heard.iter().any(|outcome| matches!(outcome, Outcome::Good(_))), "seed {seed}");
        assert!(heard.contains(&CONFLICT), "seed {seed}");
    }
}

/// The two lose each other while the copy is being refilled and an event waits for a write that waits for the copy.
fn lost_with_an_event_behind_a_write(seed: u64) -> TwoControllers {
    let mut duo = TwoControllers::new(seed, true);
    duo.connect();
    duo.settle(1);
    for (side, nexus) in [HOLDER, STRANGER] {
        duo.log_in(side, nexus, &format!("host{side}"));
    }
    duo.cut();
    duo.settle(60);
    duo.connect();
    while !duo.controllers[0].status().interlink.up {
        assert!(duo.step(), "seed {seed}: they do not meet");
    }
    for _ in 0..seed % 40 {
        duo.step();
    }
    duo.told(HOLDER.0, HOLDER.1);
    duo.told(STRANGER.0, STRANGER.1);
    duo.ask(HOLDER.0, 1, write(8, 4, 1));
    duo.event(HOLDER.0, HOLDER.1, 2, out(OutAction::Register, 0));
    duo.ask(STRANGER.0, 3, write(10, 4, 2));
    for _ in 0..seed % 11 {
        duo.step();
    }
    let before = duo.answers(HOLDER.0);
    duo.cut();
    let answered = |answers: &[(u32, Outcome)]| answers.contains(&(2, GOOD));
    if !answered(&before) {
        // The peer may still serve under its lease.
        while duo.step() {}
        assert!(!answered(&duo.answers(HOLDER.0)), "seed {seed}: answered by one that may not go on yet");
    }
    duo
}

#[test]
fn no_event_has_its_turn_and_no_range_stays_held_when_the_two_lose_each_other() {
    for seed in 0..600 {
        let mut duo = lost_with_an_event_behind_a_write(seed);
        duo.settle(120);
        duo.connect();
        duo.settle(120);
        duo.told(HOLDER.0, HOLDER.1);
        duo.answers(HOLDER.0);
        duo.ask(HOLDER.0, 9, write(0, 64, 7));
        duo.settle(1);
        assert_eq!(duo.answers(HOLDER.0), [(9, GOOD)], "seed {seed}");
        assert!(duo.volume(0) == duo.volume(1), "seed {seed}");
    }
}
