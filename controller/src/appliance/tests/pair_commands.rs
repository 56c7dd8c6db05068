//! What a person asks of a pair: it is carried out at one point of the order of writes, hosts hear nothing of it, and
//! it stays so through everything until the person asks for something else.

use protocol::interlink::will::PairCommand;

use crate::appliance::PairRefusal;
use crate::command::{Op, Outcome};
use crate::pair::{PairStatus, Role};
use crate::testing::{TwoControllers, range, write};

const GOOD: Outcome = Outcome::Good(Vec::new());

/// Ticks after which a switch, or a copy, is over.
const DONE: u32 = 20;

fn ask(duo: &mut TwoControllers, side: usize, command: PairCommand) -> Result<bool, PairRefusal> {
    let answer = duo.controllers[side].pair_command(&[0], command).remove(0);
    duo.settle(DONE);
    answer
}

fn roles(duo: &TwoControllers) -> [Role; 2] {
    [0, 1].map(|side| duo.controllers[side].status().luns.remove(0).role)
}

fn writes(duo: &mut TwoControllers, side: usize, block: u64, byte: u8) {
    duo.ask(side, u32::from(byte), write(block, 1, byte));
    duo.settle(1);
    assert_eq!(duo.answers(side), [(u32::from(byte), GOOD)], "the write of {byte} through {side}");
}

fn reads(duo: &mut TwoControllers, side: usize, block: u64) -> u8 {
    duo.ask(side, 900, Op::Read { range: range(block, 1) });
    duo.settle(1);
    match &duo.answers(side)[..] {
        [(900, Outcome::Good(data))] => data[0][0],
        other => panic!("{other:?}"),
    }
}

fn firsts(duo: &TwoControllers, block: usize) -> [u8; 2] {
    [0, 1].map(|side| duo.volume(side)[block * 512])
}

#[test]
fn a_split_leaves_the_subs_copy_as_it_was_and_a_resync_makes_it_identical_again() {
    for seed in 0..20 {
        for asked in 0..2 {
            let case = format!("seed {seed}, through {asked}");
            let mut duo = TwoControllers::met(seed);
            writes(&mut duo, 1, 0, 1);
            assert_eq!(ask(&mut duo, asked, PairCommand::Split), Ok(true), "{case}");
            assert_eq!(duo.statuses(), [PairStatus::Split; 2], "{case}");
            assert!(!duo.changing(1).1, "{case}: the image is on its disk");
            for side in 0..2 {
                writes(&mut duo, side, side as u64, 7 + side as u8);
                assert_eq!(reads(&mut duo, 1 - side, side as u64), 7 + side as u8, "{case}");
            }
            assert_eq!((firsts(&duo, 0), firsts(&duo, 1)), ([7, 1], [8, 0]), "{case}");
            assert_eq!(ask(&mut duo, asked, PairCommand::Split), Ok(false), "{case}: it is split");
            assert_eq!(ask(&mut duo, asked, PairCommand::Swap), Err(PairRefusal::IsSplit), "{case}");
            assert_eq!(ask(&mut duo, 1 - asked, PairCommand::Resync), Ok(true), "{case}");
            assert_eq!(duo.statuses(), [PairStatus::Duplex; 2], "{case}");
            assert_eq!(duo.volume(0), duo.volume(1), "{case}");
        }
    }
}

#[test]
fn a_split_pair_stays_split_through_cuts_and_crashes_and_its_main_needs_nobody() {
    for seed in 0..20 {
        let mut duo = TwoControllers::met(seed);
        writes(&mut duo, 0, 0, 1);
        ask(&mut duo, 0, PairCommand::Split).unwrap();
        writes(&mut duo, 0, 0, 2);
        duo.cut();
        duo.settle(DONE);
        assert_eq!(duo.statuses()[0], PairStatus::Split, "seed {seed}");
        writes(&mut duo, 0, 0, 3);
        let mut duo = duo.crash(100 + seed, true);
        duo.settle(DONE);
        assert_eq!(reads(&mut duo, 0, 0), 3, "seed {seed}: alone after a start");
        assert_eq!(ask(&mut duo, 0, PairCommand::Resync), Err(PairRefusal::Apart), "seed {seed}");
        duo.connect();
        duo.settle(DONE);
        assert_eq!(duo.statuses(), [PairStatus::Split; 2], "seed {seed}");
        assert_eq!(firsts(&duo, 0), [3, 1], "seed {seed}: nothing is copied");
        assert_eq!(reads(&mut duo, 1, 0), 3, "seed {seed}: through the other");
        assert_eq!(ask(&mut duo, 1, PairCommand::Resync), Ok(true), "seed {seed}");
        assert_eq!(duo.statuses(), [PairStatus::Duplex; 2], "seed {seed}");
        assert_eq!(firsts(&duo, 0), [3, 3], "seed {seed}");
    }
}

#[test]
fn a_swap_changes_the_roles_and_they_stay_so_until_another() {
    for seed in 0..20 {
        for asked in 0..2 {
            let case = format!("seed {seed}, through {asked}");
            let mut duo = TwoControllers::met(seed);
            writes(&mut duo, 0, 0, 1);
            assert_eq!(ask(&mut duo, asked, PairCommand::Swap), Ok(true), "{case}");
            assert_eq!(
                (roles(&duo), duo.statuses()),
                ([Role::Sub, Role::Main], [PairStatus::Duplex; 2]),
                "{case}"
            );
            // Through a crash, and an absence of the new main's.
            let mut duo = duo.crash(100 + seed, true);
            duo.connect();
            duo.settle(DONE);
            assert_eq!(
                (roles(&duo), duo.statuses()),
                ([Role::Sub, Role::Main], [PairStatus::Duplex; 2]),
                "{case}"
            );
            duo.controllers[1].stop();
            duo.settle(40);
            duo.cut();
            let mut duo = duo.crash_one(200 + seed, 1);
            duo.connect();
            duo.settle(DONE);
            assert_eq!(
                (roles(&duo), duo.statuses()),
                ([Role::Sub, Role::Main], [PairStatus::Duplex; 2]),
                "{case}"
            );
            assert_eq!(ask(&mut duo, asked, PairCommand::Swap), Ok(true), "{case}");
            assert_eq!(
                (roles(&duo), duo.statuses()),
                ([Role::Main, Role::Sub], [PairStatus::Duplex; 2]),
                "{case}"
            );
            let mut duo = duo.crash(300 + seed, true);
            duo.connect();
            duo.settle(DONE);
            assert_eq!(roles(&duo), [Role::Main, Role::Sub], "{case}");
            assert_eq!(reads(&mut duo, 1, 0), 1, "{case}");
        }
    }
}

#[test]
fn a_deleted_pair_is_one_copy_until_it_is_created_again() {
    for seed in 0..20 {
        let mut duo = TwoControllers::met(seed);
        writes(&mut duo, 1, 0, 1);
        assert_eq!(ask(&mut duo, 0, PairCommand::Delete), Ok(true), "seed {seed}");
        assert_eq!(duo.statuses(), [PairStatus::Simplex; 2], "seed {seed}");
        writes(&mut duo, 1, 0, 2);
        assert_eq!(firsts(&duo, 0), [2, 1], "seed {seed}");
        for (command, answer) in [
            (PairCommand::Delete, Ok(false)),
            (PairCommand::Resync, Err(PairRefusal::NoPair)),
            (PairCommand::Split, Err(PairRefusal::NoPair)),
        ] {
            assert_eq!(ask(&mut duo, 1, command), answer, "seed {seed}: {command:?}");
        }
        let mut duo = duo.crash(100 + seed, true);
        duo.connect();
        duo.settle(DONE);
        assert_eq!(duo.statuses(), [PairStatus::Simplex; 2], "seed {seed}");
        assert_eq!(ask(&mut duo, 0, PairCommand::Create), Ok(true), "seed {seed}");
        assert_eq!(duo.statuses(), [PairStatus::Duplex; 2], "seed {seed}");
        assert_eq!(firsts(&duo, 0), [2, 2], "seed {seed}");
    }
}

#[test]
fn what_was_done_once_is_not_done_again() {
    for seed in 0..20 {
        for asked in 0..2 {
            let mut duo = TwoControllers::met(seed);
            assert_eq!(duo.controllers[asked].pair_command(&[0], PairCommand::Split), [Ok(true)]);
            while duo.statuses() != [PairStatus::Split; 2] {
                if !duo.step() {
                    duo.advance_and_tick();
                }
            }
            // At once, and before any controller looks again at what was asked.
            while duo.step() {}
            assert_eq!(duo.controllers[1 - asked].pair_command(&[0], PairCommand::Resync), [Ok(true)]);
            for _ in 0..3 * DONE {
                duo.settle(1);
                assert_ne!(duo.statuses(), [PairStatus::Split; 2], "seed {seed}, through {asked}");
            }
            assert_eq!(duo.statuses(), [PairStatus::Duplex; 2], "seed {seed}, through {asked}");
        }
    }
}

#[test]
fn a_peer_of_the_release_before_is_told_nothing_of_it() {
    let mut duo = TwoControllers::new(1, true);
    duo.speak_version_1();
    duo.connect();
    duo.settle(DONE);
    for command in [PairCommand::Split, PairCommand::Swap, PairCommand::Delete] {
        assert_eq!(ask(&mut duo, 0, command), Err(PairRefusal::OlderPeer), "{command:?}");
    }
    assert_eq!(duo.statuses(), [PairStatus::Duplex; 2]);
}

#[test]
fn of_several_pairs_all_are_split_or_none() {
    let mut duo = TwoControllers::two_luns(1, 64);
    duo.connect();
    duo.settle(DONE);
    assert_eq!(duo.controllers[0].pair_command(&[1], PairCommand::Split), [Ok(true)]);
    duo.settle(DONE);
    let swap = duo.controllers[0].pair_command(&[0, 1], PairCommand::Swap);
    assert_eq!(swap, [Ok(true), Err(PairRefusal::IsSplit)]);
    duo.settle(DONE);
    assert_eq!(roles(&duo), [Role::Main, Role::Sub], "of the first");
    assert_eq!(duo.controllers[1].pair_command(&[0, 1], PairCommand::Split), [Ok(true), Ok(false)]);
    duo.settle(DONE);
    let luns = duo.controllers[0].status().luns;
    assert!(luns.iter().all(|lun| lun.status == PairStatus::Split), "{luns:?}");
}

#[test]
fn luns_of_a_group_are_split_together() {
    let mut duo = TwoControllers::grouped(1);
    duo.connect();
    duo.settle(DONE);
    assert_eq!(ask(&mut duo, 0, PairCommand::Split), Ok(true));
    for side in 0..2 {
        let luns = duo.controllers[side].status().luns;
        assert!(luns.iter().all(|lun| lun.status == PairStatus::Split), "{luns:?}");
    }
    assert_eq!(ask(&mut duo, 1, PairCommand::Resync), Ok(true));
    assert_eq!(duo.statuses(), [PairStatus::Duplex; 2]);
}

/// One command, hosts of both sides beside it, and a cut or a crash at any step. Whatever became of it, both are of one
/// mind afterwards, every acknowledged write is there, and it can be undone.
fn interrupted(seed: u64, command: PairCommand, crash: bool) {
    let case = format!("seed {seed}, {command:?}, crash {crash}");
    let mut duo = TwoControllers::met(seed);
    let (mut acknowledged, mut tag) = ([0_u8; 2], 0);
    duo.controllers[(seed % 2) as usize].pair_command(&[0], command).remove(0).unwrap();
    for step in 0..seed % 110 {
        if step % 5 == 0 {
            let side = (tag % 2) as usize;
            tag += 1;
            duo.ask(side, tag, write(side as u64, 1, tag as u8));
        }
        if !duo.step() {
            duo.advance_and_tick();
        }
        for (side, last) in acknowledged.iter_mut().enumerate() {
            for (tag, outcome) in duo.answers(side) {
                assert_eq!(outcome, GOOD, "{case}");
                *last = tag as u8;
            }
        }
    }
    duo.cut();
    let mut duo = if crash { duo.crash(seed + 1000, true) } else { duo };
    duo.settle(5);
    (0..2).for_each(|side| drop(duo.answers(side)));
    duo.connect();
    duo.settle_and_redial(60);
    let statuses = duo.statuses();
    assert_eq!(statuses[0], statuses[1], "{case}");
    let wanted = match command {
        PairCommand::Split => PairStatus::Split,
        PairCommand::Delete => PairStatus::Simplex,
        _ => PairStatus::Duplex,
    };
    assert!([PairStatus::Duplex, wanted].contains(&statuses[0]), "{case}: {statuses:?}");
    (0..2).for_each(|side| drop(duo.answers(side)));
    for (side, last) in acknowledged.into_iter().enumerate() {
        let read = reads(&mut duo, side, side as u64);
        assert!(read >= last, "{case}: {read} after {last} was acknowledged");
    }
    let back = match statuses[0] {
        PairStatus::Split => PairCommand::Resync,
        PairStatus::Simplex => PairCommand::Create,
        _ => return assert_eq!(duo.volume(0), duo.volume(1), "{case}"),
    };
    assert_eq!(ask(&mut duo, 0, back), Ok(true), "{case}");
    assert_eq!(duo.statuses(), [PairStatus::Duplex; 2], "{case}");
    assert_eq!(duo.volume(0), duo.volume(1), "{case}");
}

#[test]
fn a_command_that_is_cut_off_anywhere_leaves_both_of_one_mind() {
    for seed in 0..220 {
        for command in [PairCommand::Split, PairCommand::Swap, PairCommand::Delete] {
            interrupted(seed, command, false);
            interrupted(seed, command, true);
        }
    }
}
