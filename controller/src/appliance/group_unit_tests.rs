//! A group: what each event makes of it, and what it wishes.

use protocol::interlink::copy_report::{GroupRecord, Start, Starts};
use protocol::interlink::frame::VERSION_MAX;

use core::time::Duration;

use super::*;
use crate::appliance::copies::GIVEN_UP;
use crate::appliance::copy::tests::plan;
use crate::appliance::switch::SWITCH_MAX;
use crate::disk::DiskError;
use crate::pair::PairStatus;
use crate::volume::superblock::{Owner, Superblock, VolumeFound};

const JOINED: Setting = Setting {
    joined: true,
    ending: None,
    peer_leaves: false,
    leaves: false,
    version: VERSION_MAX,
    now: Time(0),
};
const UNTIL: Time = Time(630);

/// A group of so many LUNs on alpha, at a generation with this main and these members.
fn group(luns: usize, main: u8, members: u8) -> Group {
    let copy = |lun: usize| {
        let superblock = Superblock::new(1, lun as u128 + 2, 8, Owner::of("alpha"));
        let name = format!("data{lun}");
        let record = GroupRecord {
            lun: name.clone(),
            generation: Generation { number: 5, id: 50, parent: 40, main, members, ..Generation::default() },
            clean: false,
            flushed: false,
            volume: Start::default(),
            volume_coming: Start::default(),
            starts: Starts::default(),
        };
        LunCopy::restored(
            lun,
            &plan(&name),
            Some(&record),
            VolumeFound::Open(superblock),
            Some(superblock),
            false,
        )
    };
    Group::restored(Side::First, &plan("data0"), (0..luns).map(copy).collect())
}

/// The same, served together with the peer.
fn served(luns: usize, main: u8, pairing: Pairing) -> Group {
    let members = if pairing == Pairing::Whole { 0b11 } else { 1 << main };
    let mut group = group(luns, main, members);
    group.on(Event::Agreed(pairing), None);
    group.on(Event::TakesPlace { open: true }, None);
    group.check();
    group
}

fn tells(wishes: &[Wish]) -> Vec<LunOrder> {
    wishes.iter().filter_map(|wish| if let Wish::Tell(order) = wish { Some(*order) } else { None }).collect()
}

fn parts(wishes: &[Wish]) -> bool {
    wishes.iter().any(|wish| matches!(wish, Wish::Part(_)))
}

/// A switch of two groups, each on its controller, up to the point where `beta` has it durable.
fn says_switch(wishes: &[Wish]) -> Option<(Generation, Pairing)> {
    wishes.iter().find_map(|wish| match wish {
        Wish::Say(Message::Switch { generation, pairing }) => Some((*generation, *pairing)),
        _ => None,
    })
}

#[test]
fn the_view_follows_from_the_stage_and_the_generation() {
    let view = |group: &Group| {
        (group.state().view().role, group.state().view().status, group.state().view().service)
    };
    let apart = (PairStatus::Suspended, Service::Refused);
    assert_eq!(view(&group(2, 0, 0b11)), (Role::Main, apart.0, apart.1));
    assert_eq!(view(&served(2, 1, Pairing::Whole)), (Role::Sub, PairStatus::Duplex, Service::Mirrored));
    assert_eq!(view(&served(2, 0, Pairing::Copy)), (Role::Main, PairStatus::Copy, Service::Mirrored));
    assert_eq!(view(&served(2, 1, Pairing::Out)), (Role::Sub, PairStatus::Suspended, Service::Forwarded));
}

#[test]
fn a_main_that_loses_its_peer_flushes_every_copy_and_goes_on_under_one_generation() {
    let mut group = served(2, 0, Pairing::Whole);
    let wishes = group.lose(UNTIL, None);
    assert_eq!(tells(&wishes), [LunOrder::LosePeer]);
    assert_eq!(group.stage().waits_until(), Some(UNTIL));
    group.go_alone(7, &mut Ids::new(1));
    let generation = group.copies().generation();
    assert_eq!((generation.number, generation.parent, generation.members), (6, 50, 0b01));
    assert!(group.copies().are_one());
    assert!(matches!(group.on(Event::AloneDurable(7), None)[..], [Wish::Begin(true)]));
    group.check();
}

#[test]
fn a_sub_that_loses_its_peer_is_flushed_and_suspended() {
    let mut group = served(2, 1, Pairing::Whole);
    let wishes = group.lose(UNTIL, None);
    let flushes: Vec<usize> = wishes
        .iter()
        .filter_map(|wish| if let Wish::Flush(lun, _) = wish { Some(*lun) } else { None })
        .collect();
    assert_eq!((flushes, tells(&wishes)), (vec![0, 1], vec![LunOrder::Suspend]));
    let as_of = group.copies().generation().tag();
    assert!(!parts(&group.on_flushed_apart(0, as_of, true, "alpha", false)));
    assert!(!group.state().common(0).flushed, "one of two");
    group.on_flushed_apart(1, as_of, true, "alpha", false);
    assert!(group.state().common(0).flushed && group.state().common(1).flushed);
}

#[test]
fn a_broken_copy_leaves_by_a_switch_and_the_peer_is_told_once() {
    let mut ids = Ids::new(1);
    let mut group = served(2, 0, Pairing::Whole);
    let as_of = group.copies().generation().tag();
    let wishes = group.on_broken(PairFault::OwnDisk(DiskError::Io), as_of, JOINED, &mut Ids::new(1));
    let (generation, pairing) = says_switch(&wishes).expect("a switch");
    assert_eq!((generation.main, generation.members, pairing), (1, 0b10, Pairing::Out));
    assert!(group.leave_if_broken(JOINED, &mut Ids::new(1)).is_empty(), "it is leaving already");
    let ended = Setting { ending: Some(Ends::Own), ..JOINED };
    let mut other = served(1, 0, Pairing::Whole);
    assert!(
        says_switch(&other.on_broken(PairFault::OwnDisk(DiskError::Io), as_of, ended, &mut ids)).is_none()
    );
}

#[test]
fn a_main_that_goes_on_alone_wants_what_was_durable() {
    let mut group = served(1, 0, Pairing::Whole);
    let as_of = group.copies().generation().tag();
    let will = Will { wanted: Wanted::Split, main: None };
    let generation = Generation { number: 6, id: 60, parent: 50, main: 0, members: 0b01, will };
    let split = Message::Switch { generation, pairing: Pairing::Out };
    group.on_message(0, as_of, &split, false, JOINED, &mut Ids::new(1));
    assert!(group.stage().switch().is_some(), "it was asked for");
    group.lose(UNTIL, None);
    group.go_alone(7, &mut Ids::new(1));
    let alone = group.copies().generation();
    assert_eq!((alone.number, alone.will.wanted), (7, Wanted::Pair), "no image was split off");
}

/// A main that the peer tells to swap while something else is under way.
fn told_too_early() -> Group {
    let mut group = served(1, 0, Pairing::Whole);
    let busy = Setting { leaves: true, ..JOINED };
    assert!(group.on_command(PairCommand::Swap, true, busy, &mut Ids::new(1)).is_empty());
    assert!(group.tick(busy, &mut Ids::new(1)).is_empty(), "still");
    group
}

#[test]
fn what_was_asked_does_not_begin_after_a_loss() {
    assert!(says_switch(&told_too_early().tick(JOINED, &mut Ids::new(1))).is_some(), "it begins when it can");
    let mut group = told_too_early();
    group.lose(UNTIL, None);
    group.on(Event::Agreed(Pairing::Whole), None);
    group.on(Event::TakesPlace { open: true }, None);
    assert!(group.tick(JOINED, &mut Ids::new(1)).is_empty());
    let mut late = told_too_early();
    let after = |seconds| Setting { now: Time(0) + Duration::from_secs(seconds), ..JOINED };
    let busy = Setting { leaves: true, ..after(10) };
    assert!(late.tick(busy, &mut Ids::new(1)).is_empty());
    assert!(late.tick(after(11), &mut Ids::new(1)).is_empty(), "whoever asked has been told so");
}

#[test]
fn a_switch_ends_with_both_luns_at_its_generation() {
    let mut group = served(2, 0, Pairing::Whole);
    let as_of = group.copies().generation().tag();
    let wishes = group.on_broken(PairFault::OwnDisk(DiskError::Full), as_of, JOINED, &mut Ids::new(1));
    let (generation, _) = says_switch(&wishes).expect("a switch");
    group.on_switch_word(&Message::SwitchDurable(generation.number), None);
    // One of its LUNs is not quiet.
    let busy = |lun| if lun == 1 { Quiet::No } else { Quiet::Yes };
    assert!(group.tick_switch(0, &busy, JOINED).is_empty());
    let wishes = group.tick_switch(0, &|_| Quiet::Yes, Setting { now: Time(1), ..JOINED });
    assert!(matches!(wishes[..], [Wish::Write(Pending::Switch(0))]));
    assert!(group.copies().iter().all(|copy| copy.generation() == generation));
    let wishes = group.on_own_switch_durable(None);
    assert!(matches!(wishes[..], [Wish::Begin(false), Wish::Say(Message::SwitchBegin(_))]), "{wishes:?}");
    assert_eq!(
        tells(&group.on_switch_word(&Message::SwitchBegun(generation.number), None)),
        [LunOrder::Open]
    );
    assert_eq!((group.role(), group.service()), (Role::Sub, Service::Forwarded));
    group.check();
}

#[test]
fn a_switch_that_takes_too_long_is_late() {
    let mut group = served(1, 1, Pairing::Whole);
    let generation =
        Generation { number: 6, id: 60, parent: 50, main: 0, members: 0b11, ..Generation::default() };
    group.on_switch(generation, Pairing::Whole, true, None);
    let mut late = |now| group.tick_switch(0, &|_| Quiet::No, Setting { now, ..JOINED });
    assert!(late(Time(1)).is_empty());
    assert!(matches!(late(Time(1) + SWITCH_MAX)[..], [Wish::Part(Parting::Overdue)]));
}

#[test]
fn of_two_switches_that_cross_the_leaders_stands() {
    for leads in [true, false] {
        let mut group = served(1, 0, Pairing::Whole);
        let as_of = group.copies().generation().tag();
        let wishes = group.on_broken(PairFault::OwnDisk(DiskError::Full), as_of, JOINED, &mut Ids::new(1));
        let (own, _) = says_switch(&wishes).expect("a switch");
        let theirs =
            Generation { number: 6, id: 61, parent: 50, main: 0, members: 0b01, ..Generation::default() };
        group.on_switch(theirs, Pairing::Out, leads, None);
        let stands = if leads { own } else { theirs };
        assert_eq!(group.stage().switch().map(|switch| switch.generation), Some(stands));
    }
}

#[test]
fn a_copy_given_up_never_becomes_the_last() {
    let mut group = served(1, 0, Pairing::Whole);
    group.copies_mut().break_by(GIVEN_UP);
    let theirs =
        Generation { number: 6, id: 61, parent: 50, main: 0, members: 0b01, ..Generation::default() };
    let wishes = group.on_switch(theirs, Pairing::Out, true, None);
    assert!(matches!(wishes[..], [Wish::Part(Parting::InASwitch)]));
}

#[test]
fn the_copy_of_a_group_is_complete_when_that_of_its_last_lun_is() {
    let mut group = served(2, 0, Pairing::Copy);
    let as_of = group.copies().generation().tag();
    assert!(group.state_mut().on_copy_complete(0, as_of, true).is_empty());
    let old = GenerationTag { number: 4, ..as_of };
    assert!(group.state_mut().on_copy_complete(1, old, true).is_empty(), "said late");
    assert!(matches!(group.state_mut().on_copy_complete(1, as_of, true)[..], [Wish::Say(Message::Copied)]));
    assert!(matches!(
        group.on_message(3, as_of, &Message::CopiedDurable, true, JOINED, &mut Ids::new(1))[..],
        [Wish::Write(Pending::CopiedAtMain(3))]
    ));
    assert!(group.copies().iter().all(|copy| copy.generation().members == 0b11));
    assert_eq!(tells(&group.on_copied_at_main(JOINED, &mut Ids::new(1))), [LunOrder::Copied]);
    assert_eq!(group.state().status(), PairStatus::Duplex);
}

#[test]
fn luns_of_different_generations_start_neither_alone() {
    let mut group = group(2, 0, 0b01);
    let newer = Generation { number: 9, id: 90, parent: 50, main: 0, members: 0b01, ..Generation::default() };
    group.copies_mut().of_mut(1).take_on(newer, false);
    assert!(group.state_mut().start_alone(Time(0), None).is_empty());
    group.copies_mut().of_mut(0).take_on(newer, false);
    assert_eq!(tells(&group.state_mut().start_alone(Time(0), None)), [LunOrder::LosePeer]);
}

#[test]
fn a_refusal_ends_what_goes_on_alone_only_for_good() {
    for (refusal, newer, ends) in [
        (Refusal::TooMany, false, false),
        (Refusal::TooMany, true, true),
        (Refusal::SplitBrain("alpha".into(), "beta".into()), false, true),
    ] {
        let mut group = group(1, 0, 0b01);
        group.state_mut().start_alone(Time(0), None);
        let wishes = group.refuse(refusal, newer, None);
        assert_eq!(!tells(&wishes).is_empty(), ends);
        assert!(group.refusal().is_some());
        group.accept();
        assert!(group.refusal().is_none());
    }
}
