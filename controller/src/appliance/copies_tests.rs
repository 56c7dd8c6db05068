//! What a group has of its LUNs on this controller.

use protocol::interlink::copy_report::{GroupRecord, Start, Starts};

use super::*;
use crate::appliance::copy::tests::plan;
use crate::volume::superblock::{Owner, VolumeFound};

fn superblock(lun: usize) -> Superblock {
    Superblock::new(1, lun as u128 + 2, 8, Owner::of("alpha"))
}

fn record(lun: usize, number: u64) -> GroupRecord {
    GroupRecord {
        lun: format!("data{lun}"),
        generation: Generation {
            number,
            id: u128::from(number),
            parent: lun as u128,
            main: 0,
            members: 0b11,
            ..Generation::default()
        },
        clean: false,
        flushed: false,
        volume: Start::default(),
        volume_coming: Start::default(),
        starts: Starts::default(),
    }
}

/// Whole copies of LUNs at these generations.
fn copies(numbers: &[u64]) -> Copies {
    let copy = |(lun, number): (usize, &u64)| {
        let (record, found) = (record(lun, *number), VolumeFound::Open(superblock(lun)));
        let plan = plan(&record.lun);
        LunCopy::restored(lun, &plan, Some(&record), found, Some(superblock(lun)), false)
    };
    Copies::new(numbers.iter().enumerate().map(copy).collect())
}

#[test]
fn luns_are_one_when_their_generations_are_whatever_they_were_at_before() {
    let joined = copies(&[5, 5]);
    assert!(joined.are_one() && joined.are_whole());
    let apart = copies(&[5, 6]);
    assert!(!apart.are_one());
    assert_eq!(apart.generation().number, 6);
}

#[test]
fn a_disk_that_fails_takes_the_copies_of_all_luns_out() {
    let mut copies = copies(&[5, 5]);
    copies.break_by(PairFault::OwnDisk(DiskError::Io));
    assert_eq!([0, 1].map(|lun| copies.found(lun)), [CopyFound::Failed; 2]);
    copies.break_by(PairFault::OwnDisk(DiskError::Full));
    assert!(copies.are_whole() && copies.are_broken(), "one that found no room has all that was answered");
}

#[test]
fn what_is_broken_is_forgotten_as_the_copies_take_their_place_by_what_it_was() {
    let cases = [
        (PairFault::PeerDisk, Pairing::Out, true, true),
        (PairFault::PeerDisk, Pairing::Copy, true, false),
        (PairFault::OwnDisk(DiskError::Full), Pairing::Copy, false, false),
        (PairFault::OwnDisk(DiskError::Full), Pairing::Out, false, true),
        (PairFault::OwnDisk(DiskError::Io), Pairing::Copy, false, true),
        (PairFault::OwnDisk(DiskError::Io), Pairing::Out, true, false),
        (GIVEN_UP, Pairing::Out, true, true),
    ];
    for (breakage, pairing, is_main, stays) in cases {
        let mut copies = copies(&[5]);
        copies.break_by(breakage);
        copies.begin(pairing, is_main);
        assert_eq!(copies.breakage(), stays.then_some(breakage), "{breakage:?} {pairing:?} {is_main}");
    }
}

#[test]
fn a_disk_that_was_given_up_is_well_when_the_last_mark_is_there() {
    let mut copies = copies(&[5, 5]);
    copies.choose_marks(&mut Ids::new(1));
    assert_eq!(copies.to_mark().len(), 2);
    assert!(!copies.on_marked(0, Err(DiskError::Silent)));
    assert!(copies.on_marked(1, Ok(())));
    assert_eq!(copies.breakage(), Some(GIVEN_UP), "the other mark is still waited for");
    assert!(copies.on_late_mark(0) && !copies.on_late_mark(0));
    assert_eq!(copies.breakage(), None);
    copies.check();
}

#[test]
fn a_mark_that_finds_no_room_is_a_failure_and_makes_no_failure_better() {
    let mut copies = copies(&[5]);
    copies.choose_marks(&mut Ids::new(1));
    assert!(!copies.on_marked(0, Err(DiskError::Full)));
    assert_eq!(copies.breakage(), Some(PairFault::OwnDisk(DiskError::Io)));
    assert!(!copies.on_marked(0, Err(DiskError::Silent)));
    assert_eq!(copies.breakage(), Some(PairFault::OwnDisk(DiskError::Io)));
}

#[test]
fn whole_copies_are_flushed_apart_and_settled_when_all_are() {
    let mut copies = copies(&[5, 5]);
    let flushes = copies.flush_apart();
    assert_eq!(flushes.iter().map(|(lun, _)| *lun).collect::<Vec<_>>(), [0, 1]);
    for (lun, as_of) in flushes {
        assert!(!copies.are_settled());
        assert!(copies.of_mut(lun).on_flushed(as_of));
    }
    assert!(copies.are_settled());
}
