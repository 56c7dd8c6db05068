//! EXTENDED COPY across two controllers, in a fake world: two LUNs, each with another main.

use bytes::Bytes;
use protocol::block::BLOCK_BYTES;
use protocol::interlink::event::{Event, ModeSelection};
use protocol::interlink::sanitize::Order;
use protocol::scsi::persistent_reservation::{Kind, OutAction};
use protocol::scsi::sanitize::Method;
use protocol::scsi::sense::{CopyEnd, Forwarded, Sense, Status};

use super::{CopyOrder, ListName, Segment};
use crate::command::{Admission, Command, LunIndex, NexusId, Op, Outcome, TaskTag};
use crate::reservation::asked;
use crate::testing::{TwoControllers, write};

const GOOD: Outcome = Outcome::Good(Vec::new());
const BLOCKS: u64 = 8192;
/// The initiator task tag of the copy.
const COPY: u32 = 5;
/// That of what ends it.
const END: u32 = 9;

/// Two that have met, each with two sessions; the first LUN holds something.
fn met(seed: u64) -> TwoControllers {
    let mut duo = TwoControllers::two_luns(seed, BLOCKS);
    duo.connect();
    duo.settle(1);
    for side in 0..2 {
        duo.log_in(side, 1, &format!("host{side}"));
        duo.log_in(side, 2, &format!("other{side}"));
    }
    duo.fill(0, &content());
    duo
}

fn content() -> Vec<u8> {
    (0..BLOCKS as u32 * BLOCK_BYTES).map(|at| (at / 509 % 255 + 1) as u8).collect()
}

fn bytes(blocks: u64) -> usize {
    (blocks * u64::from(BLOCK_BYTES)) as usize
}

/// A copy of most of the first LUN to the second, sent to the first.
fn order() -> CopyOrder {
    let segment = Segment { source: (LunIndex(0), 3), destination: (LunIndex(1), 7), blocks: 6000 };
    CopyOrder {
        lun: LunIndex(0),
        nexus: NexusId(1),
        task: COPY,
        list: Some(ListName { id: 1, hold: true }),
        segments: vec![Ok(segment)],
        received: crate::time::Time(u64::MAX),
    }
}

/// Steps until this tag is answered on a side, and gives every answer of both.
fn until(duo: &mut TwoControllers, side: usize, tag: u32) -> [Vec<(u32, Outcome)>; 2] {
    let mut ended = [Vec::new(), Vec::new()];
    for _ in 0..100 {
        while !ended[side].iter().any(|(other, _)| *other == tag) {
            if !duo.step() {
                break;
            }
            (0..2).for_each(|at| ended[at].extend(duo.answers(at)));
        }
        if ended[side].iter().any(|(other, _)| *other == tag) {
            return ended;
        }
        duo.settle(0);
        (0..2).for_each(|at| ended[at].extend(duo.answers(at)));
    }
    panic!("{tag} is not answered: {ended:?}");
}

fn all(duo: &TwoControllers) -> [Vec<Vec<u8>>; 2] {
    [duo.volumes(0), duo.volumes(1)]
}

/// Nothing of the copy is written from here on, and both copies of each LUN are the same in the end.
fn assert_still(duo: &mut TwoControllers, seed: u64) {
    let before = all(duo);
    duo.settle(3);
    assert!(all(duo) == before, "seed {seed}: something landed after the answer");
    assert!(before[0] == before[1], "seed {seed}: the copies differ");
}

#[test]
fn a_copy_between_luns_of_different_mains_lands_on_both_copies_through_either_controller() {
    for seed in 0..20 {
        let side = (seed % 2) as usize;
        let mut duo = met(seed);
        duo.controllers[side].extended_copy(order());
        let ended = until(&mut duo, side, COPY);
        assert_eq!(ended[side], [(COPY, GOOD)]);
        let wanted = &content()[bytes(3)..bytes(6003)];
        for volumes in all(&duo) {
            assert!(volumes[1][bytes(7)..bytes(6007)] == *wanted, "seed {seed}");
            assert!(volumes[1][..bytes(7)].iter().chain(&volumes[1][bytes(6007)..]).all(|byte| *byte == 0));
        }
        assert_still(&mut duo, seed);
        assert!(duo.controllers[side].copies().progress(NexusId(1), LunIndex(0), 1).is_some());
    }
}

#[test]
fn nothing_of_a_copy_lands_after_its_abort_is_answered() {
    let mut given_up = 0;
    for seed in 0..60 {
        let side = (seed % 2) as usize;
        let mut duo = met(seed);
        duo.controllers[side].extended_copy(order());
        (0..seed % 23).for_each(|_| assert!(duo.step()));
        duo.controllers[side].abort(LunIndex(0), NexusId(1), TaskTag::of(COPY));
        let ended = until(&mut duo, side, COPY);
        given_up += usize::from(ended[side] == [(COPY, Outcome::Aborted)]);
        assert_still(&mut duo, seed);
    }
    assert!(given_up > 50, "{given_up}");
}

#[test]
fn nothing_of_a_copy_lands_after_its_nexus_is_lost_and_its_end_is_known() {
    for seed in 0..40 {
        let side = (seed % 2) as usize;
        let mut duo = met(seed);
        duo.controllers[side].extended_copy(order());
        (0..seed % 23).for_each(|_| assert!(duo.step()));
        duo.controllers[side].nexus_lost(NexusId(1));
        assert_eq!(until(&mut duo, side, COPY)[side], [(COPY, Outcome::Aborted)]);
        assert_still(&mut duo, seed);
        assert_eq!(duo.controllers[side].copies().progress(NexusId(1), LunIndex(0), 1), None);
    }
}

#[test]
fn a_reset_of_any_lun_of_a_copy_through_either_controller_ends_it_first() {
    let mut given_up = 0;
    for seed in 0..120 {
        let (side, through, lun) = ((seed % 2) as usize, (seed / 2 % 2) as usize, (seed / 4 % 2) as u16);
        let mut duo = met(seed);
        duo.controllers[side].extended_copy(order());
        (0..seed % 29).for_each(|_| assert!(duo.step()));
        duo.controllers[through].reset(LunIndex(lun), NexusId(2), TaskTag::of(END));
        let mut ended = until(&mut duo, through, END);
        assert!(ended[through].contains(&(END, GOOD)), "seed {seed}: {ended:?}");
        assert_still(&mut duo, seed);
        ended[side].extend(duo.answers(side));
        assert!(ended[side].iter().any(|(tag, _)| *tag == COPY), "seed {seed}: {ended:?}");
        given_up += usize::from(ended[side].contains(&(COPY, Outcome::Aborted)));
        if lun == 0 {
            assert_eq!(duo.controllers[side].copies().progress(NexusId(1), LunIndex(0), 1), None);
        }
    }
    assert!(given_up > 80, "{given_up}");
}

/// PERSISTENT RESERVE OUT of a session, on a LUN.
fn reserve_out(
    duo: &mut TwoControllers,
    (side, nexus, lun): (usize, u64, u16),
    action: OutAction,
    keys: (u64, u64),
) {
    let who = duo.controllers[side].who(LunIndex(lun), NexusId(nexus)).unwrap();
    let out = asked::out(action, keys, Kind::WriteExclusiveRegistrantsOnly);
    event(duo, (side, nexus, lun), asked::event(out)(who));
}

fn event(duo: &mut TwoControllers, (side, nexus, lun): (usize, u64, u16), event: Event) {
    // Pending unit attentions come first.
    while duo.controllers[side].admit(LunIndex(lun), NexusId(nexus), Admission::Attention).is_err() {}
    duo.controllers[side].command(Command {
        lun: LunIndex(lun),
        nexus: NexusId(nexus),
        tag: TaskTag::of(END),
        op: Op::Event(Box::new(event)),
        received: duo.now(),
    });
}

fn settled_good(duo: &mut TwoControllers, side: usize) {
    assert!(until(duo, side, END)[side].contains(&(END, GOOD)));
}

#[test]
fn preempt_and_abort_ends_the_copies_of_whom_it_drives_out_before_it_is_answered() {
    let mut given_up = 0;
    for seed in 0..80 {
        let (side, lun) = ((seed % 2) as usize, (seed / 2 % 2) as u16);
        let mut duo = met(seed);
        // Both have registered, and nobody holds a reservation: no later command is in anybody's way.
        reserve_out(&mut duo, (side, 1, lun), OutAction::Register, (0, 11));
        settled_good(&mut duo, side);
        reserve_out(&mut duo, (1 - side, 2, lun), OutAction::Register, (0, 22));
        settled_good(&mut duo, 1 - side);
        duo.controllers[side].extended_copy(order());
        (0..seed % 29).for_each(|_| assert!(duo.step()));
        reserve_out(&mut duo, (1 - side, 2, lun), OutAction::PreemptAndAbort, (22, 11));
        let mut ended = until(&mut duo, 1 - side, END);
        assert!(ended[1 - side].contains(&(END, GOOD)), "seed {seed}: {ended:?}");
        assert_still(&mut duo, seed);
        ended[side].extend(duo.answers(side));
        given_up += usize::from(ended[side].contains(&(COPY, Outcome::Aborted)));
    }
    assert!(given_up > 50, "{given_up}");
}

#[test]
fn a_reservation_of_another_keeps_a_copy_from_its_destination_and_tells_it_so() {
    for (lun, end, failed) in [(1, CopyEnd::Destination, true), (0, CopyEnd::Source, false)] {
        let mut duo = met(7);
        reserve_out(&mut duo, (1, 2, lun), OutAction::Register, (0, 22));
        settled_good(&mut duo, 1);
        reserve_out(&mut duo, (1, 2, lun), OutAction::Reserve, (22, 0));
        settled_good(&mut duo, 1);
        duo.controllers[0].extended_copy(order());
        let outcome = until(&mut duo, 0, COPY)[0].pop().unwrap().1;
        let Outcome::Check(sense) = &outcome else {
            // Write exclusive: the source may be read.
            assert!(!failed && outcome == GOOD, "{outcome:?}");
            continue;
        };
        let forwarded = Forwarded { end, status: Status::ReservationConflict, sense: None };
        assert_eq!(sense.code, Sense::THIRD_PARTY_DEVICE_FAILURE.code);
        assert_eq!(sense.copy.and_then(|copy| copy.forwarded), Some(forwarded));
        assert!(failed && all(&duo)[0][1].iter().all(|byte| *byte == 0), "nothing was written");
    }
}

#[test]
fn a_write_protected_destination_is_not_written() {
    let mut duo = met(3);
    let who = duo.controllers[1].who(LunIndex(1), NexusId(2)).unwrap();
    let select = ModeSelection { save: false, write_protect: Some(true), ..Default::default() };
    event(&mut duo, (1, 2, 1), Event::ModeSelect { who, select });
    settled_good(&mut duo, 1);
    duo.controllers[0].extended_copy(order());
    let outcome = until(&mut duo, 0, COPY)[0].pop().unwrap().1;
    let Outcome::Check(Sense { copy: Some(details), .. }) = outcome else { panic!("{outcome:?}") };
    let said = details.forwarded.and_then(|forwarded| forwarded.sense);
    assert_eq!(said, Some((Sense::WRITE_PROTECTED.key, Sense::WRITE_PROTECTED.code)));
    assert!(all(&duo)[0][1].iter().all(|byte| *byte == 0));
}

#[test]
fn a_copy_neither_waits_for_unit_attentions_nor_takes_them() {
    let mut duo = met(3);
    // POWER ON of the second LUN was never told.
    duo.controllers[0].extended_copy(order());
    assert_eq!(until(&mut duo, 0, COPY)[0], [(COPY, GOOD)]);
    let told = duo.controllers[0].admit(LunIndex(1), NexusId(1), Admission::Attention).err();
    assert_eq!(told, Some(Outcome::Check(Sense::POWER_ON)));
}

#[test]
fn a_piece_whose_copy_has_no_permit_is_not_let_in() {
    for side in 0..2 {
        let mut duo = met(3);
        let before = all(&duo);
        for lun in 0..2 {
            duo.controllers[side].command(Command {
                lun: LunIndex(lun),
                nexus: NexusId(1),
                tag: TaskTag::piece(COPY, 1),
                op: write(0, 8, 9),
                received: duo.now(),
            });
        }
        duo.settle(2);
        assert!(all(&duo) == before);
        assert_eq!(duo.answers(side), [], "no host is told of pieces");
    }
}

#[test]
fn a_copy_whose_controllers_lose_each_other_ends_and_both_copies_become_the_same() {
    for seed in 0..30 {
        let side = (seed % 2) as usize;
        let mut duo = met(seed);
        duo.controllers[side].extended_copy(order());
        (0..seed % 23).for_each(|_| assert!(duo.step()));
        duo.cut();
        duo.settle(30);
        let ended = duo.answers(side);
        assert_eq!(ended.len(), 1, "seed {seed}: {ended:?}");
        duo.connect();
        duo.settle(20);
        let volumes = all(&duo);
        assert!(volumes[0] == volumes[1], "seed {seed}: the copies differ");
    }
}

/// What SANITIZE leaves: no byte of what is copied.
const WIPED: u8 = 0;

/// Which blocks of a LUN hold something of what is copied, on each copy.
fn with_content(duo: &TwoControllers, lun: usize) -> [Vec<bool>; 2] {
    all(duo).map(|volumes| volumes[lun].chunks(BLOCK_BYTES as usize).map(|block| block[0] != WIPED).collect())
}

#[test]
fn nothing_of_a_copy_lands_after_a_sanitize_operation_of_one_of_its_luns_has_begun() {
    let (mut failed, mut cut_short) = (0, 0);
    for seed in 0..16 {
        let (side, through, lun) = ((seed % 2) as usize, (seed / 2 % 2) as usize, (seed / 4 % 2) as u16);
        let mut duo = met(seed);
        duo.controllers[side].extended_copy(order());
        (0..seed % 29).for_each(|_| assert!(duo.step()));
        let who = duo.controllers[through].who(LunIndex(lun), NexusId(2)).unwrap();
        let pattern = Bytes::from_static(&[WIPED]);
        let method = Method::Overwrite { pattern, invert: false, passes: 1 };
        let order = Some(Box::new(Order { method, ause: true }));
        event(&mut duo, (through, 2, lun), Event::Sanitize { who, order, immed: true });
        let mut ended = until(&mut duo, through, END);
        assert!(ended[through].contains(&(END, GOOD)), "seed {seed}: {ended:?}");
        // Of the sanitized LUN ever fewer blocks hold anything, from the moment on at which it is known.
        let mut before = with_content(&duo, usize::from(lun));
        for _ in 0..20 {
            if !(0..8).any(|_| duo.step()) {
                duo.settle(1);
            }
            (0..2).for_each(|at| ended[at].extend(duo.answers(at)));
            let now = with_content(&duo, usize::from(lun));
            for (now, before) in now.iter().flatten().zip(before.iter().flatten()) {
                assert!(*before || !now, "seed {seed}: a piece landed");
            }
            before = now;
        }
        duo.settle(20);
        (0..2).for_each(|at| ended[at].extend(duo.answers(at)));
        let outcome = ended[side].iter().find(|(tag, _)| *tag == COPY).map(|(_, outcome)| outcome);
        let good = outcome == Some(&GOOD);
        failed += usize::from(!good);
        assert!(good || matches!(outcome, Some(Outcome::Check(_))), "seed {seed}: {outcome:?}");
        let [first, second] = all(&duo);
        assert!(first == second, "seed {seed}: the copies differ");
        assert!(first[usize::from(lun)] == vec![WIPED; bytes(BLOCKS)], "seed {seed}: not wiped");
        if lun == 0 {
            // Each block of the destination was copied before its source was wiped, or not at all.
            let copied = &first[1][bytes(7)..bytes(6007)];
            let wanted = &content()[bytes(3)..bytes(6003)];
            let whole = |(now, then): (&[u8], &[u8])| now == then || now == [0; 512];
            assert!(copied.chunks(512).zip(wanted.chunks(512)).all(whole), "seed {seed}");
            assert!(!good || copied == wanted, "seed {seed}: GOOD, but not copied");
            cut_short += usize::from(copied != wanted);
        }
    }
    assert!(failed > 6 && cut_short > 2, "{failed} {cut_short}");
}
