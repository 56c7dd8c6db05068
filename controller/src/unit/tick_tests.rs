//! Which LUNs a tick visits: those that something is due on, and no others.

use crate::command::Outcome;
use crate::testing::{BLOCKS, TwoControllers, write};
use crate::time::Time;

const GOOD: Outcome = Outcome::Good(Vec::new());

/// When the LUN of a side has its next tick, if nothing happens to it.
fn due(duo: &TwoControllers, side: usize) -> Time {
    duo.controllers[side].luns.due(0)
}

#[test]
fn a_lun_rests_when_nothing_is_under_way_and_wakes_with_what_happens_to_it() {
    for seed in 0..10 {
        let mut duo = TwoControllers::met(seed);
        for side in [0, 1] {
            duo.settle(4);
            assert_eq!([due(&duo, 0), due(&duo, 1)], [Time::NEVER; 2], "seed {seed}");
            duo.hold_bridges(true);
            duo.ask(side, 1, write(0, BLOCKS, 5));
            duo.settle(20);
            assert!(due(&duo, side) <= duo.now(), "seed {seed}: a command waits for the peer");
            duo.hold_bridges(false);
            duo.settle(1);
            assert_eq!(duo.answers(side), [(1, GOOD)], "seed {seed}");
        }
    }
}

#[test]
fn a_copy_that_is_alone_has_a_tick_for_its_flush() {
    let mut duo = TwoControllers::met(1);
    duo.cut();
    duo.settle(100);
    let next = due(&duo, 0);
    assert!(next > duo.now() && next < Time::NEVER, "{next:?}");
    assert_eq!(due(&duo, 1), Time::NEVER, "nobody is served there");
}
