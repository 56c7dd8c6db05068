//! No leg without a deadline: what the peer has taken and never handles ends the meeting, though its control
//! connection goes on answering.

use super::LEG_AGE_MAX;
use crate::command::Outcome;
use crate::duo::{BLOCKS, Duo, write};
use crate::status::PairStatus;
use crate::unit::TICK;

const GOOD: Outcome = Outcome::Good(Vec::new());

const DEADLINE: u32 = (LEG_AGE_MAX.as_millis() / TICK.as_millis()) as u32;

fn met(seed: u64) -> Duo {
    let mut duo = Duo::new(seed, true);
    duo.connect();
    duo.settle(1);
    duo
}

fn up(duo: &Duo) -> [bool; 2] {
    duo.controllers.each_ref().map(|controller| controller.status().interlink.up)
}

#[test]
fn a_change_that_the_peer_never_applies_ends_the_meeting_and_main_goes_on_alone() {
    for seed in 0..20 {
        let mut duo = met(seed);
        duo.hold_bridges(true);
        duo.ask(0, 1, write(0, BLOCKS, 5));
        duo.settle(DEADLINE - 20);
        assert_eq!(up(&duo), [true; 2], "seed {seed}: it may still come");
        assert!(duo.answers(0).is_empty(), "seed {seed}");
        duo.settle(60);
        assert_eq!(duo.answers(0), [(1, GOOD)], "seed {seed}");
        assert_eq!(duo.controllers[0].status().luns[0].status, PairStatus::Suspended, "seed {seed}");
    }
}

#[test]
fn a_forwarded_change_that_main_never_handles_ends_the_meeting_and_its_host_hears_of_it() {
    for seed in 0..20 {
        let mut duo = met(seed);
        duo.hold_bridges(true);
        duo.ask(1, 1, write(0, BLOCKS, 5));
        duo.settle(DEADLINE - 20);
        assert_eq!(up(&duo), [true; 2], "seed {seed}: it may still come");
        duo.settle(60);
        assert!(matches!(duo.answers(1)[..], [(1, Outcome::Check(_))]), "seed {seed}");
        assert_eq!(up(&duo), [false; 2], "seed {seed}");
    }
}

#[test]
fn a_peer_that_gets_on_slowly_is_not_parted_from() {
    let mut duo = met(3);
    for tag in 1..=10 {
        duo.hold_bridges(true);
        duo.ask(0, tag, write(u64::from(tag), 1, 5));
        duo.settle(DEADLINE / 2);
        duo.hold_bridges(false);
        duo.settle(1);
        assert_eq!(duo.answers(0), [(tag, GOOD)]);
        assert_eq!(up(&duo), [true; 2]);
    }
}
