//! A disk that fails, does not answer or is gone takes its copy out of the pair.

use crate::command::{Op, Outcome};
use crate::disk::DiskError;
use crate::pair::{PairStatus, Role};
use crate::testing::{BLOCKS, blocks_of, range, write};
use protocol::scsi::sense::Sense;

use super::{DUPLEX, GOOD, met, statuses};

#[test]
fn a_volume_that_went_missing_is_refilled_from_the_other_and_the_preferred_main_is_main_again() {
    for seed in 0..50 {
        let mut duo = met(seed, true);
        duo.ask(0, 1, write(0, BLOCKS, 5));
        duo.settle(1);
        duo.remove_volume(0);
        let mut duo = duo.crash(seed + 100, true);
        duo.connect();
        let mut mains = Vec::new();
        for tag in 0..40 {
            (0..4).for_each(|_| {
                duo.step();
            });
            duo.ask(1, tag, write(u64::from(tag) % 8, 1, tag as u8));
            duo.settle(0);
            mains.push(statuses(&duo)[1].1);
        }
        duo.settle(8);
        assert!(mains.contains(&Role::Main), "the source's controller is main while it copies");
        assert_eq!(statuses(&duo), DUPLEX, "seed {seed}");
        assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
        assert_eq!(duo.volume(0)[BLOCKS as usize * 512 - 1], 5);
    }
}

#[test]
fn a_disk_that_fails_takes_its_copy_out_and_the_other_serves_the_hosts_of_both() {
    for seed in 0..40 {
        for failed in 0..2 {
            let mut duo = met(seed, true);
            duo.break_disk(failed, DiskError::Io);
            for tag in 0..6 {
                duo.ask((tag % 2) as usize, tag, write(u64::from(tag), 1, tag as u8 + 1));
            }
            duo.settle(4);
            let ends = [duo.answers(0), duo.answers(1)].concat();
            assert_eq!(ends.len(), 6, "seed {seed}");
            let allowed = |end: &Outcome| *end == GOOD || *end == Outcome::Check(Sense::ABORTED_COMMAND);
            assert!(ends.iter().all(|(_, end)| allowed(end)), "seed {seed}: {ends:?}");
            for side in 0..2 {
                duo.ask(side, 10, write(9, 1, 99));
                duo.ask(side, 11, Op::Read { range: range(20, 1) });
                duo.settle(1);
                let mut ends = duo.answers(side);
                ends.sort_by_key(|(tag, _)| *tag);
                assert_eq!(
                    ends,
                    [(10, GOOD), (11, Outcome::Good(blocks_of(0, 1)))],
                    "seed {seed} side {side}"
                );
            }
            assert_eq!(statuses(&duo)[1 - failed], (PairStatus::Suspended, Role::Main, true));
            assert_eq!(statuses(&duo)[failed], (PairStatus::Suspended, Role::Sub, true));
            let volume = duo.volume(1 - failed);
            for (tag, end) in &ends {
                if *end == GOOD {
                    assert_eq!(volume[*tag as usize * 512], *tag as u8 + 1, "seed {seed}: an answered write");
                }
            }
        }
    }
}

#[test]
fn a_disk_that_does_not_answer_takes_its_copy_out_before_hosts_lose_patience() {
    for seed in 0..40 {
        for silent in 0..2 {
            let mut duo = met(seed, true);
            for tag in 0..6 {
                duo.ask((tag % 2) as usize, tag, write(u64::from(tag), 1, tag as u8 + 1));
            }
            duo.ask(silent, 6, Op::Read { range: range(20, 1) });
            for _ in 0..seed % 10 {
                duo.step();
            }
            duo.stall_disk(silent);
            // 4 s: well before a host's patience ends.
            duo.settle(80);
            let ends = [duo.answers(0), duo.answers(1)].concat();
            assert_eq!(ends.len(), 7, "seed {seed} silent {silent}: {ends:?}");
            let volume = duo.volume(1 - silent);
            for (tag, end) in &ends {
                if *end == GOOD {
                    assert_eq!(volume[*tag as usize * 512], *tag as u8 + 1, "seed {seed}: an answered write");
                }
            }
            for side in 0..2 {
                duo.ask(side, 10, write(9, 1, 99));
                duo.ask(side, 11, Op::Read { range: range(20, 1) });
                duo.settle(1);
                let mut ends = duo.answers(side);
                ends.sort_by_key(|(tag, _)| *tag);
                assert_eq!(
                    ends,
                    [(10, GOOD), (11, Outcome::Good(blocks_of(0, 1)))],
                    "seed {seed} side {side}"
                );
            }
        }
    }
}

#[test]
fn a_copy_whose_target_could_not_take_everything_is_never_called_whole() {
    let (mut whole, mut out) = (0, 0);
    for seed in 0..3000 {
        let mut duo = met(seed, true);
        duo.ask(0, 1, write(0, BLOCKS, 5));
        duo.settle(1);
        duo.spoil(1, 6);
        let mut duo = duo.crash(seed + 100, true);
        duo.connect();
        (0..seed % 60).for_each(|_| {
            duo.step();
        });
        duo.break_disk(1, DiskError::Full);
        // The copy may get to its end before main hears that the target is about to leave, or before the two have met.
        duo.hold_control(seed % 2 == 0);
        duo.ask(0, 2, write(seed % BLOCKS, 1, 7));
        (0..seed % 9).for_each(|_| {
            duo.step();
        });
        duo.mend_disk(1);
        duo.settle(2);
        duo.hold_control(false);
        duo.settle(8);
        if statuses(&duo)[0].0 == PairStatus::Duplex {
            whole += 1;
            assert!(duo.volume(0) == duo.volume(1), "seed {seed}: the copies differ");
        } else {
            out += 1;
            duo.ask(1, 3, Op::Read { range: range(seed % BLOCKS, 1) });
            duo.settle(1);
            let expected = Outcome::Good(blocks_of(duo.volume(0)[(seed % BLOCKS) as usize * 512], 1));
            assert!(duo.answers(1).contains(&(3, expected)), "seed {seed}: main reads for the sub");
        }
    }
    assert!(whole > 0 && out > 0, "{whole} whole, {out} out: the test shows nothing");
}
