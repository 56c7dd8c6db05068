//! Turns beside commands on their way, in a toy world.

use crate::command::{Op, Outcome};
use crate::disk::DiskError;
use crate::duo::{Duo, range, write};

/// Commands of the sub's hosts that the turn meets.
const WRITES: u32 = 6;

/// The disk of the sub fails under writes of its hosts, and a turn may look at any moment whether nothing is in flight.
fn sub_loses_its_disk_under_writes(seed: u64) -> Duo {
    let mut duo = Duo::new(seed, true);
    duo.connect();
    duo.settle(1);
    duo.log_in(0, 1, "host0");
    duo.log_in(1, 1, "host1");
    for tag in 0..WRITES {
        duo.ask(1, tag, write(u64::from(tag) * 8, 4, 1));
    }
    duo.break_disk(1, DiskError::Io);
    duo.ask(0, WRITES, write(60, 4, 1));
    while duo.step() {
        duo.controllers.iter().for_each(crate::unit::Controller::on_tick);
    }
    duo.settle(10);
    duo
}

#[test]
fn no_range_stays_held_by_a_change_whose_copy_left_the_pair_before_main_heard_what_became_of_it() {
    for seed in 0..1000 {
        let mut duo = sub_loses_its_disk_under_writes(seed);
        assert_eq!([duo.answers(0).len(), duo.answers(1).len()], [1, WRITES as usize], "seed {seed}");
        duo.told(0, 1);
        duo.ask(0, 100, Op::Read { range: range(0, 64) });
        duo.settle(1);
        let answers = duo.answers(0);
        assert!(matches!(answers[..], [(100, Outcome::Good(_))]), "seed {seed}: {answers:?}");
    }
}
