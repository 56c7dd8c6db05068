//! What this controller has of one LUN: what it tells the peer, and what it writes down.

use super::*;
use crate::plan::Side;
use crate::volume::stack::VolumeId;
use crate::volume::superblock::Owner;

const COMMON: Common =
    Common { clean: false, kept: false, member: true, flushed: false, may_go_on: false, failed: false };

pub(in crate::appliance) fn plan(name: &str) -> LunPlan {
    LunPlan {
        number: 0,
        name: name.to_owned(),
        base: VolumeId(0),
        blocks: 8,
        main: Side::First,
        mirror: true,
        group: None,
        write_cache: true,
        read_only: false,
        physical_block_exponent: 0,
        device: false,
        room: None,
    }
}

fn superblock(owner: &str) -> Superblock {
    Superblock::new(1, 2, 8, Owner::of(owner))
}

fn generation(number: u64) -> Generation {
    Generation { number, id: u128::from(number), parent: 0, main: 0, members: 0b11, ..Generation::default() }
}

/// A copy with an identity, and what was found of its volume.
fn copy(volume: VolumeFound) -> LunCopy {
    LunCopy::restored(0, &plan("a"), None, volume, Some(superblock("alpha")), false)
}

#[test]
fn what_is_found_is_judged_by_whose_it_is_and_by_its_start() {
    let found = |volume| copy(volume).found(false);
    assert_eq!(found(VolumeFound::Missing), CopyFound::Missing);
    assert_eq!(found(VolumeFound::Open(superblock("alpha"))), CopyFound::Whole);
    assert_eq!(found(VolumeFound::Open(superblock("beta"))), CopyFound::Others);
    let other = Superblock { volume: 9, ..superblock("alpha") };
    assert_eq!(found(VolumeFound::Open(other)), CopyFound::Foreign);
    let old = Superblock { start: Start { number: 1, id: 1 }, ..superblock("alpha") };
    assert_eq!(found(VolumeFound::Open(old)), CopyFound::Stale);
    assert_eq!(copy(VolumeFound::Open(superblock("alpha"))).found(true), CopyFound::Failed);
    assert_eq!(found(VolumeFound::Silent), CopyFound::Failed);
}

#[test]
fn a_device_that_cannot_hold_the_lun_has_failed() {
    let mut copy = copy(VolumeFound::Blank);
    copy.room = Some(7);
    assert_eq!(copy.found(false), CopyFound::Failed);
    copy.room = Some(8);
    assert_eq!(copy.found(false), CopyFound::Blank);
}

#[test]
fn while_a_mark_is_coming_the_old_start_and_the_coming_one_are_both_current() {
    let mut ids = Ids::new(1);
    let mut copy = copy(VolumeFound::Open(superblock("alpha")));
    assert_eq!(copy.to_mark(false), None, "it has no name yet");
    copy.choose_mark(false, &mut ids);
    copy.check();
    let marked = copy.to_mark(false).expect("it is to be marked");
    assert!(copy.expects(Start::default()) && copy.expects(marked.start));
    copy.choose_mark(false, &mut ids);
    assert_eq!(copy.to_mark(false), Some(marked), "chosen once");
    assert!(copy.has_mark() && !copy.has_mark());
    copy.check();
    assert!(!copy.expects(Start::default()) && copy.expects(marked.start));
    assert_eq!((copy.found(false), copy.to_mark(false)), (CopyFound::Whole, None));
    copy.choose_end_mark(false, &mut ids);
    assert!(copy.waits_for_mark(), "a clean end marks anew");
}

#[test]
fn a_volume_is_made_once_and_counts_when_it_is_still_wanted() {
    let mut copy = copy(VolumeFound::Missing);
    let Creation::Make(asked) = copy.create(false, 1) else { panic!("nothing is there") };
    assert_eq!(copy.create(false, 2), Creation::Waited, "an earlier meeting asked for it");
    copy.check();
    assert_eq!(copy.on_made(Ok(()), 2, false), Made::GoesOn);
    assert_eq!((copy.found(false), copy.create(false, 2)), (CopyFound::Whole, Creation::Nothing));
    assert_eq!(copy.on_made(Ok(()), 2, false), Made::NotWaitedFor);
    assert!(copy.on_made_late(asked), "it is the same");
}

#[test]
fn a_volume_that_cannot_be_made_fails_its_lun_and_the_meeting_only_if_that_needs_it() {
    for (making, made) in [(true, Made::GoesOn), (false, Made::Fails(DiskError::Io))] {
        let mut copy = copy(VolumeFound::Missing);
        assert!(matches!(copy.create(false, 1), Creation::Make(_)));
        assert_eq!(copy.on_made(Err(DiskError::Io), 1, making), made);
        assert_eq!((copy.found(false), copy.create(false, 1)), (CopyFound::Failed, Creation::Nothing));
    }
}

#[test]
fn one_of_another_size_that_is_being_made_is_made_anew_at_the_next_start() {
    let mut copy = copy(VolumeFound::Missing);
    assert!(matches!(copy.create(false, 1), Creation::Make(_)));
    copy.resize(16);
    assert_eq!(copy.blocks(), 16);
    assert_eq!(copy.on_made(Ok(()), 2, false), Made::NotWaitedFor);
    assert_eq!(copy.found(false), CopyFound::Failed);
}

#[test]
fn the_clean_mark_goes_with_the_next_generation_and_comes_back_if_nothing_was_served() {
    let mut copy = copy(VolumeFound::Open(superblock("alpha")));
    copy.end_cleanly(true);
    copy.take_on(generation(2), false);
    assert!(!copy.to_record().0.clean, "what is on disk says not clean");
    assert!(copy.is_clean(), "but nothing was served");
    copy.begin();
    assert!(!copy.is_clean());
}

#[test]
fn a_flush_speaks_of_its_generation_alone_and_until_it_is_over_the_copy_is_unsettled() {
    let mut copy = copy(VolumeFound::Open(superblock("alpha")));
    copy.take_on(generation(2), false);
    let as_of = copy.flush_apart();
    let kept = Common { kept: true, ..COMMON };
    assert_eq!(copy.tell(kept, true).copy, CopyFound::Unsettled);
    assert_eq!(copy.tell(kept, false).copy, CopyFound::Whole, "version 1 has no word for it");
    copy.tell(kept, true);
    assert!(copy.on_flushed(as_of));
    assert_eq!(copy.judged(kept, true).copy, CopyFound::Unsettled, "the peer was told so");
    copy.forget_meeting();
    assert_eq!(copy.judged(kept, true).copy, CopyFound::Whole);
    copy.take_on(generation(3), false);
    assert!(!copy.on_flushed(as_of));
}

#[test]
fn what_the_peer_knows_as_joint_has_begun_here_if_it_was_coming() {
    let mut copy = copy(VolumeFound::Missing);
    copy.agree(generation(4), false);
    copy.take_on_agreed(true);
    let coming = Start::of(generation(4));
    copy.hear(Starts { joint: Start { number: 4, id: 99 }, coming: Start::default() });
    assert_eq!(copy.record.starts, Starts { joint: Start::default(), coming });
    copy.hear(Starts { joint: coming, coming: Start::default() });
    assert_eq!(copy.record.starts.joint, coming);
    assert!(!copy.know_as_joint(), "nothing new");
}

#[test]
fn a_copy_that_is_left_is_complete_if_it_was_when_the_peer_was_told() {
    let flushed = |common: Common, left: bool| {
        let mut copy = copy(VolumeFound::Open(superblock("alpha")));
        copy.tell(common, true);
        copy.agree(generation(4), left);
        copy.take_on_agreed(true);
        copy.is_flushed()
    };
    assert!(flushed(Common { kept: true, ..COMMON }, true), "it has its memory");
    assert!(flushed(Common { flushed: true, ..COMMON }, true), "all was on its disk");
    assert!(flushed(Common { clean: true, ..COMMON }, true), "it ended cleanly");
    assert!(!flushed(COMMON, true), "what was not on its disk may be gone");
    assert!(!flushed(Common { kept: true, member: false, ..COMMON }, true), "it was left already, as it was");
    assert!(!flushed(Common { kept: true, failed: true, ..COMMON }, true), "its disk has failed");
    assert!(!flushed(Common { kept: true, ..COMMON }, false), "it is written from now on");
}
