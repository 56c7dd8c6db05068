//! Commands about pairs where the second copy's volume is gone, is something else's or has failed, and where the other
//! controller refuses what this one would do.

use protocol::interlink::will::PairCommand;

use super::pair_faults::{DONE, ask, begin, reads, steps, writes};
use super::reasons;
use crate::appliance::PairRefusal;
use crate::command::{LunIndex, Op, Outcome};
use crate::disk::DiskError;
use crate::pair::PairStatus;
use crate::testing::{BLOCKS, TwoControllers, range, write};
use crate::volume::superblock::VolumeFound;

/// A pair that was deleted is made again where the other volume is gone.
#[test]
fn a_pair_is_created_again_also_where_the_volume_of_the_sub_is_gone_or_it_is_refused() {
    for seed in 0..10 {
        let mut duo = TwoControllers::met(seed);
        writes(&mut duo, 0, 0, 1);
        ask(&mut duo, 0, PairCommand::Delete).unwrap();
        duo.remove_volume(1);
        let mut duo = duo.crash(seed + 100, true);
        duo.connect();
        duo.settle(DONE);
        assert_eq!(duo.statuses(), [PairStatus::Simplex; 2], "seed {seed}: {:?}", reasons(&duo));
        for side in [1, 0] {
            let created = begin(&duo, side, PairCommand::Create);
            duo.settle_and_redial(100);
            let is = duo.statuses();
            if created == Ok(true) {
                assert_eq!(is, [PairStatus::Duplex; 2], "seed {seed}, through {side}: {:?}", reasons(&duo));
                assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
                break;
            }
            assert_eq!(is, [PairStatus::Simplex; 2], "seed {seed}, through {side}: {:?}", reasons(&duo));
        }
    }
}

/// And where it holds something else nothing is made of it, and nothing is worse than before.
#[test]
fn a_pair_is_not_created_where_the_volume_of_the_sub_holds_something_else() {
    for command in [PairCommand::Delete, PairCommand::Split] {
        let mut duo = TwoControllers::met(3);
        writes(&mut duo, 0, 0, 1);
        ask(&mut duo, 0, command).unwrap();
        let mut duo = duo.crash_and(100, true, |side, restored| {
            if side == 1 {
                restored.volumes[0] = VolumeFound::Foreign;
            }
        });
        duo.connect();
        duo.settle(DONE);
        let before = duo.statuses();
        assert_eq!(reads(&mut duo, 1, 0), Ok(1), "{command:?}: through the other");
        let made = if command == PairCommand::Delete { PairCommand::Create } else { PairCommand::Resync };
        let begun = begin(&duo, 0, made);
        duo.settle_and_redial(60);
        assert_eq!((begun.is_ok(), duo.statuses()), (false, before), "{made:?}: {:?}", reasons(&duo));
        duo.cut();
        duo.connect();
        duo.settle_and_redial(60);
        assert_eq!(reads(&mut duo, 1, 0), Ok(1), "{command:?}: hosts of the other");
    }
}

/// Nothing of a deleted pair's copy is ever served again, whatever becomes of main's.
#[test]
fn what_was_left_by_a_delete_is_never_a_source() {
    for seed in 0..10 {
        for lost in 0..3 {
            let mut duo = TwoControllers::met(seed);
            writes(&mut duo, 0, 0, 1);
            ask(&mut duo, 0, PairCommand::Delete).unwrap();
            writes(&mut duo, 0, 0, 2);
            if lost == 1 {
                // Creating it again is cut off.
                begin(&duo, 1, PairCommand::Create).unwrap();
                steps(&mut duo, seed * 3);
            }
            if lost < 2 {
                duo.remove_volume(0);
            }
            let mut duo = duo.crash(seed + 100, true);
            duo.settle(40);
            duo.ask(1, 5, Op::Read { range: range(0, 1) });
            duo.settle(2);
            assert!(!duo.answers(1).iter().any(|(_, outcome)| matches!(outcome, Outcome::Good(_))));
            duo.connect();
            duo.settle_and_redial(60);
            for side in 0..2 {
                duo.ask(side, 6, Op::Read { range: range(0, 1) });
                duo.settle(2);
                for (_, outcome) in duo.answers(side) {
                    if let Outcome::Good(data) = outcome {
                        assert_eq!(data[0][0], 2, "seed {seed}, lost {lost}");
                    }
                }
            }
        }
    }
}

/// Of several pairs all are changed or none, whichever of the two was asked.
#[test]
fn of_several_pairs_none_is_resynchronized_if_the_other_refuses_one() {
    let mut duo = TwoControllers::many_luns(1, BLOCKS, 2);
    duo.connect();
    duo.settle(DONE);
    assert_eq!(duo.controllers[0].pair_command(&[0, 1], PairCommand::Split), [Ok(true), Ok(true)]);
    duo.settle(DONE);
    // The copy of the second LUN has failed over there.
    let generation = duo.controllers[1].generation(LunIndex(1)).unwrap();
    let fault = crate::pair::PairFault::OwnDisk(DiskError::FlushFailed);
    duo.controllers[1].with_appliance(|appliance| appliance.on_broken(1, fault, generation));
    duo.settle_and_redial(5);
    let answers = duo.controllers[0].pair_command(&[0, 1], PairCommand::Resync);
    duo.settle(DONE);
    let statuses: Vec<_> = duo.controllers[0].status().luns.iter().map(|lun| lun.status).collect();
    assert_eq!(answers, [Ok(true), Err(PairRefusal::DiskFailed)]);
    assert_eq!(statuses, [PairStatus::Split; 2]);
}

/// A LUN that main serves alone, because the other's copy is refused, is not told to be split or created anew.
#[test]
fn a_command_that_the_other_cannot_hear_is_refused() {
    let mut duo = TwoControllers::met(1);
    writes(&mut duo, 0, 0, 1);
    ask(&mut duo, 0, PairCommand::Split).unwrap();
    // The other machine comes back with an empty state folder.
    let mut duo = duo.crash_one_losing_state(5, 1);
    duo.connect();
    duo.settle(DONE);
    for command in [PairCommand::Resync, PairCommand::Delete] {
        let answer = begin(&duo, 0, command);
        duo.settle(DONE);
        assert!(answer.is_err(), "{command:?} {answer:?}: {:?} {:?}", duo.statuses(), reasons(&duo));
    }
}

/// The only copy that is served is no failed one: its hosts have heard what its disk said.
#[test]
fn a_main_of_a_split_pair_whose_disk_refused_a_write_once_is_met_again() {
    for command in [PairCommand::Split, PairCommand::Delete] {
        let mut duo = TwoControllers::met(1);
        writes(&mut duo, 0, 0, 1);
        ask(&mut duo, 0, command).unwrap();
        let before = duo.statuses();
        duo.break_disk(0, DiskError::Io);
        duo.ask(0, 7, write(1, 1, 7));
        duo.settle(2);
        duo.mend_disk(0);
        assert_eq!(reads(&mut duo, 1, 0), Ok(1), "{command:?}: it serves on");
        duo.cut();
        duo.settle(DONE);
        duo.connect();
        duo.settle_and_redial(60);
        assert_eq!(duo.statuses(), before, "{command:?}: {:?}", reasons(&duo));
        assert_eq!(reads(&mut duo, 1, 0), Ok(1), "{command:?}");
    }
}
