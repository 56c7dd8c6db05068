//! What is under way when the two lose each other, when a disk hangs, and when there is no place for more.

use protocol::scsi::sense::Sense;

use crate::command::{Op, Outcome};
use crate::exclusive::WAITERS_MAX;
use crate::pair::PairStatus;
use crate::testing::{TwoControllers, blocks_of, range, write};

const GOOD: Outcome = Outcome::Good(Vec::new());

/// A command that reads its blocks at main before it writes them is reading them when the two are cut, and has read
/// them while the sub's lease still runs.
fn reads_its_blocks_in_a_cut(seed: u64, op: Op) -> TwoControllers {
    let mut duo = TwoControllers::met(seed);
    duo.stall_disk(0);
    duo.ask(0, 1, op);
    while duo.step() {}
    duo.cut();
    duo.resume_disk(0);
    while duo.step() {}
    duo
}

#[test]
fn what_reads_before_it_writes_is_not_written_on_one_copy_while_the_subs_lease_runs() {
    let compare = || Op::CompareAndWrite {
        range: range(0, 1),
        compare: blocks_of(0, 1),
        write: blocks_of(7, 1),
        fua: false,
    };
    let or = || Op::OrWrite { range: range(0, 1), data: blocks_of(7, 1), fua: false };
    for seed in 0..20 {
        for op in [compare(), or()] {
            let mut duo = reads_its_blocks_in_a_cut(seed, op);
            assert_eq!(duo.answers(0), [], "seed {seed}: the sub still reads the old block");
            assert_eq!(duo.volume(0)[0], 0, "seed {seed}");
            duo.settle(20);
            assert_eq!(duo.answers(0), [(1, GOOD)], "seed {seed}: and when main is alone it is");
        }
    }
}

#[test]
fn what_a_lost_main_may_still_have_takes_up_no_room_at_the_main_that_is_back() {
    for seed in 0..20 {
        let mut duo = TwoControllers::new(seed, false);
        duo.connect();
        duo.settle(1);
        duo.controllers[1].set_credit(1);
        duo.stall_disk(0);
        duo.ask(1, 1, write(0, 4, 1));
        while duo.step() {}
        duo.cut();
        while duo.step() {}
        assert_eq!(duo.answers(1), [], "seed {seed}: main goes on without asking");
        duo.resume_disk(0);
        duo.connect();
        duo.settle(1);
        duo.ask(1, 2, write(8, 4, 2));
        duo.settle(1);
        assert_eq!(duo.answers(1), [(2, GOOD)], "seed {seed}");
        duo.settle(120);
        let lost = Outcome::Check(Sense::ABORTED_COMMAND);
        assert_eq!(duo.answers(1), [(1, lost)], "seed {seed}: its end is not known");
        // What is given back twice would let more leave than there is room for.
        duo.ask(1, 3, write(0, 4, 3));
        duo.settle(1);
        assert_eq!(duo.answers(1), [(3, GOOD)], "seed {seed}");
    }
}

#[test]
fn what_the_subs_disk_still_has_of_an_earlier_meeting_never_lands_over_the_refilled_copy() {
    for seed in 0..40 {
        let mut duo = TwoControllers::met(seed);
        duo.stall_disk(1);
        duo.ask(0, 1, write(0, 4, 1));
        while duo.step() {}
        duo.cut();
        duo.settle(16);
        duo.ask(0, 2, write(0, 4, 2));
        duo.settle(2);
        duo.connect();
        while duo.step() {}
        duo.resume_disk(1);
        duo.settle(20);
        assert_eq!(duo.statuses(), [PairStatus::Duplex; 2], "seed {seed}");
        assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
        assert_eq!(duo.volume(1)[0], 2, "seed {seed}");
    }
}

#[test]
fn the_silent_disk_of_the_source_of_a_copy_is_waited_for() {
    for seed in 0..20 {
        let mut duo = TwoControllers::met(seed).crash_one(seed, 1);
        duo.stall_disk(0);
        duo.connect();
        while duo.step() {}
        assert_eq!(duo.statuses(), [PairStatus::Copy; 2], "seed {seed}");
        duo.ask(0, 1, write(8, 2, 3));
        duo.settle(75);
        let early = duo.answers(0);
        assert!(early.iter().all(|(_, outcome)| *outcome != GOOD), "seed {seed}: {early:?}");
        assert_eq!(duo.statuses(), [PairStatus::Copy; 2], "seed {seed}: no other copy is whole");
        duo.resume_disk(0);
        duo.settle(20);
        assert_eq!(duo.statuses(), [PairStatus::Duplex; 2], "seed {seed}");
        assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
    }
}

#[test]
fn a_copy_whose_piece_finds_no_place_goes_on_when_there_is_one() {
    const PIECE: u64 = 2048;
    const PIECES: u64 = 10;
    for seed in 0..3 {
        let mut duo = TwoControllers::sized(seed, PIECE * PIECES);
        duo.connect();
        duo.settle(1);
        let mut duo = duo.crash_one(seed, 1);
        duo.stall_disk(0);
        duo.connect();
        while duo.step() {}
        assert_eq!(duo.statuses(), [PairStatus::Copy; 2], "seed {seed}");
        let hot = PIECE * (PIECES - 3) + 8;
        let mut tag = 0;
        let mut fill = |duo: &TwoControllers, writes: usize| {
            for _ in 0..writes {
                tag += 1;
                duo.ask(0, tag, write(hot, 1, tag as u8));
            }
        };
        // More than can wait for one range: what comes then finds no place.
        fill(&duo, WAITERS_MAX + 8);
        duo.resume_disk(0);
        for _ in 0..600 {
            fill(&duo, 2);
            duo.step();
        }
        duo.settle(60);
        assert_eq!(duo.statuses(), [PairStatus::Duplex; 2], "seed {seed}: a piece is waited for for ever");
        assert!(duo.volume(0) == duo.volume(1), "seed {seed}");
    }
}
