//! Reservations across two controllers, in the toy world: the same through both, at every step and through crashes.

use protocol::interlink::event::Event;
use protocol::interlink::shared::{Registrant, Reservation, Reservations, SharedState};
use protocol::scsi::persistent_reservation::{InAction, Kind, OutAction, ReserveOut};
use protocol::scsi::sense::{Sense, Status};

use crate::command::{Admission, LunIndex, NexusId, Op, Outcome};
use crate::disk::DiskError;
use crate::reservation::{asked, perform};
use crate::testing::{TwoControllers, range, write};

const GOOD: Outcome = Outcome::Good(Vec::new());
const CONFLICT: Outcome = Outcome::Status(Status::ReservationConflict);

/// Two that have met, each with three sessions.
fn met(seed: u64) -> TwoControllers {
    let mut duo = TwoControllers::new(seed, true);
    duo.connect();
    duo.settle(1);
    for side in 0..2 {
        for nexus in 1..4 {
            duo.log_in(side, nexus, &format!("host{side}{nexus}"));
        }
    }
    duo
}

/// One answer of a side, after everything has come to its end.
fn answer(duo: &mut TwoControllers, side: usize) -> Outcome {
    duo.settle(1);
    let mut answers = duo.answers(side);
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers.remove(0).1
}

fn out(
    action: OutAction,
    key: u64,
    action_key: u64,
    kind: Kind,
) -> impl Fn(protocol::interlink::shared::Requester) -> Event {
    let aptpl = kind == Kind::ExclusiveAccess && action == OutAction::Register;
    asked::event(ReserveOut { aptpl, ..asked::out(action, (key, action_key), kind) })
}

fn reserve_out(
    duo: &mut TwoControllers,
    at: (usize, u64),
    action: OutAction,
    keys: (u64, u64),
    kind: Kind,
) -> Outcome {
    duo.event(at.0, at.1, 7, out(action, keys.0, keys.1, kind));
    answer(duo, at.0)
}

fn state(duo: &TwoControllers, side: usize) -> SharedState {
    duo.controllers[side].shared(LunIndex(0)).unwrap()
}

fn read_in(duo: &mut TwoControllers, side: usize, action: InAction) -> Vec<u8> {
    duo.event(side, 3, 8, |who| Event::ReserveIn { who, action, allocation: 4096 });
    match answer(duo, side) {
        Outcome::Good(data) => data.concat(),
        other => panic!("{other:?}"),
    }
}

/// What READ KEYS, READ RESERVATION and READ FULL STATUS tell is the same through both.
fn assert_same(duo: &mut TwoControllers) {
    for action in [InAction::ReadKeys, InAction::ReadReservation, InAction::ReadFullStatus] {
        assert_eq!(read_in(duo, 0, action), read_in(duo, 1, action), "{action:?}");
    }
}

/// Nexus 1 of a side holds, nexus 2 of a side is registered, nexus 3 of a side is a stranger.
#[test]
fn each_type_lets_pass_the_same_through_the_same_and_through_different_controllers() {
    for (number, kind) in Kind::ALL.into_iter().enumerate() {
        for sides in [[0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 1], [0, 0, 1], [1, 1, 0]] {
            let mut duo = met(number as u64);
            let [holder, registrant, stranger] = sides;
            for (side, nexus) in [(holder, 1), (registrant, 2)] {
                let done = reserve_out(&mut duo, (side, nexus), OutAction::Register, (0, nexus), kind);
                assert_eq!(done, GOOD);
                assert_same(&mut duo);
            }
            assert_eq!(reserve_out(&mut duo, (holder, 1), OutAction::Reserve, (1, 0), kind), GOOD);
            assert_same(&mut duo);
            let only_holder = kind.is_holders_alone();
            for (side, nexus, passes) in
                [(holder, 1, true), (registrant, 2, !only_holder), (stranger, 3, false)]
            {
                let reads = passes || !kind.excludes_reads();
                let ops = [
                    (Op::Read { range: range(0, 1) }, reads),
                    (write(0, 1, 5), passes),
                    (Op::Unmap { ranges: vec![range(4, 1)] }, passes),
                    (Op::SynchronizeCache, passes),
                ];
                for (op, passes) in ops {
                    duo.ask_of(side, NexusId(nexus), 9, op.clone());
                    let ended = answer(&mut duo, side);
                    let wanted = if passes { matches!(ended, Outcome::Good(_)) } else { ended == CONFLICT };
                    assert!(wanted, "{kind:?} {sides:?} nexus {nexus} {op:?}: {ended:?}");
                }
                let ready = duo.controllers[side].admit(LunIndex(0), NexusId(nexus), Admission::Ready);
                assert!(ready.is_ok(), "TEST UNIT READY passes every type");
            }
        }
    }
}

#[test]
fn a_reservation_by_reserve_keeps_out_all_others_but_what_describes_the_target() {
    for holder in 0..2 {
        for other in 0..2 {
            let mut duo = met(7);
            duo.event(holder, 1, 5, Event::Reserve);
            assert_eq!(answer(&mut duo, holder), GOOD);
            duo.ask_of(other, NexusId(2), 6, Op::Read { range: range(0, 1) });
            assert_eq!(answer(&mut duo, other), CONFLICT);
            duo.ask_of(other, NexusId(2), 6, write(0, 1, 1));
            assert_eq!(answer(&mut duo, other), CONFLICT);
            let admit =
                |admission| duo.controllers[other].admit(LunIndex(0), NexusId(2), admission).map(|_| ());
            assert_eq!(admit(Admission::Ready), Err(CONFLICT));
            assert_eq!((admit(Admission::Always), admit(Admission::RequestSense)), (Ok(()), Ok(())));
            let done = reserve_out(&mut duo, (holder, 1), OutAction::Register, (0, 1), Kind::WriteExclusive);
            assert_eq!(done, CONFLICT, "the two ways of reserving exclude each other");
            duo.event(other, 2, 6, Event::Release);
            assert_eq!(answer(&mut duo, other), GOOD, "RELEASE by another does nothing");
            duo.ask_of(holder, NexusId(1), 6, write(0, 1, 1));
            assert_eq!(answer(&mut duo, holder), GOOD);
            duo.event(holder, 1, 6, Event::Release);
            assert_eq!(answer(&mut duo, holder), GOOD);
            duo.ask_of(other, NexusId(2), 6, write(0, 1, 1));
            assert_eq!(answer(&mut duo, other), GOOD);
        }
    }
}

#[test]
fn reserve_and_release_do_nothing_for_those_whom_a_persistent_reservation_lets_pass() {
    let mut duo = met(1);
    let kind = Kind::WriteExclusiveRegistrantsOnly;
    for (side, nexus) in [(0, 1), (1, 2)] {
        reserve_out(&mut duo, (side, nexus), OutAction::Register, (0, nexus), kind);
    }
    reserve_out(&mut duo, (0, 1), OutAction::Reserve, (1, 0), kind);
    for (side, nexus, wanted) in [(0, 1, GOOD), (1, 2, GOOD), (0, 3, CONFLICT), (1, 3, CONFLICT)] {
        for event in [Event::Reserve, Event::Release] {
            duo.event(side, nexus, 5, event);
            assert_eq!(answer(&mut duo, side), wanted, "{side} {nexus}");
        }
    }
    assert_eq!(state(&duo, 0).reserver, None);
}

/// A write that was let pass under the old state ends before the answer, or never happens.
#[test]
fn no_write_lands_after_the_answer_that_forbids_it() {
    let (mut landed, mut kept_out) = (0, 0);
    for seed in 0..300 {
        let (victim, preemptor) = ((seed % 2) as usize, (seed / 2 % 2) as usize);
        let mut duo = met(seed);
        let kind = Kind::WriteExclusiveRegistrantsOnly;
        reserve_out(&mut duo, (victim, 1), OutAction::Register, (0, 1), kind);
        reserve_out(&mut duo, (preemptor, 2), OutAction::Register, (0, 2), kind);
        reserve_out(&mut duo, (victim, 1), OutAction::Reserve, (1, 0), kind);
        duo.ask_of(victim, NexusId(1), 1, write(0, 8, 1));
        duo.ask_of(victim, NexusId(1), 2, write(0, 8, 2));
        (0..seed % 13).for_each(|_| {
            duo.step();
        });
        duo.event(preemptor, 2, 9, out(OutAction::PreemptAndAbort, 2, 1, kind));
        let mut ended = [Vec::new(), Vec::new()];
        while !ended[preemptor].iter().any(|(tag, _)| *tag == 9) {
            assert!(duo.step(), "seed {seed}");
            (0..2).for_each(|side| ended[side].extend(duo.answers(side)));
        }
        let volumes = [duo.volume(0), duo.volume(1)];
        duo.ask_of(victim, NexusId(1), 3, write(0, 8, 3));
        duo.settle(2);
        assert!([duo.volume(0), duo.volume(1)] == volumes, "seed {seed}: something landed after the answer");
        assert!(volumes[0] == volumes[1], "seed {seed}");
        (0..2).for_each(|side| ended[side].extend(duo.answers(side)));
        for (tag, end) in ended.concat() {
            match (tag, end) {
                (9, end) => assert_eq!(end, GOOD, "seed {seed}"),
                (3, end) => assert_eq!(end, Outcome::Check(Sense::REGISTRATIONS_PREEMPTED), "seed {seed}"),
                (_, Outcome::Good(_)) => landed += 1,
                (_, Outcome::Check(Sense::REGISTRATIONS_PREEMPTED) | CONFLICT) => kept_out += 1,
                other => panic!("seed {seed}: {other:?}"),
            }
        }
    }
    assert!(landed > 50 && kept_out > 10, "{landed} landed, {kept_out} were kept out");
}

#[test]
fn a_preempted_nexus_of_the_other_controller_is_told_before_the_answer() {
    for seed in 0..20 {
        let mut duo = met(seed);
        let side = (seed % 2) as usize;
        reserve_out(&mut duo, (1 - side, 1), OutAction::Register, (0, 1), Kind::WriteExclusive);
        reserve_out(&mut duo, (side, 2), OutAction::Register, (0, 2), Kind::WriteExclusive);
        duo.event(side, 2, 9, out(OutAction::Preempt, 2, 1, Kind::WriteExclusive));
        while duo.answers(side).is_empty() {
            assert!(duo.step());
        }
        assert_eq!(duo.told(1 - side, 1), [Sense::REGISTRATIONS_PREEMPTED], "seed {seed}");
        assert_eq!((duo.told(side, 2), duo.told(1 - side, 2)), (vec![], vec![]));
    }
}

#[test]
fn reservations_with_aptpl_outlive_both_controllers_and_those_without_do_not() {
    for (seed, kind) in [(1, Kind::ExclusiveAccess), (2, Kind::WriteExclusive)] {
        let side = (seed % 2) as usize;
        let mut duo = met(seed);
        reserve_out(&mut duo, (side, 1), OutAction::Register, (0, 1), kind);
        reserve_out(&mut duo, (side, 1), OutAction::Reserve, (1, 0), kind);
        let before = state(&duo, 0).reservations;
        let mut duo = duo.crash(seed + 100, true);
        duo.connect();
        duo.settle(90);
        for at in 0..2 {
            let after = state(&duo, at).reservations;
            let persists = kind == Kind::ExclusiveAccess;
            assert_eq!(after.registrants == before.registrants, persists);
            assert_eq!(after.reservation == before.reservation, persists);
        }
    }
}

#[test]
fn a_registration_outlives_its_session_and_a_change_of_main() {
    let mut duo = met(1);
    let kind = Kind::WriteExclusiveAllRegistrants;
    reserve_out(&mut duo, (1, 1), OutAction::Register, (0, 1), kind);
    reserve_out(&mut duo, (1, 1), OutAction::Reserve, (1, 0), kind);
    duo.controllers[1].nexus_lost(NexusId(1));
    duo.cut();
    duo.settle(60);
    duo.connect();
    duo.settle(90);
    duo.log_in(1, 9, "host11");
    for (side, nexus) in [(0, 1), (0, 3), (1, 3)] {
        duo.told(side, nexus);
    }
    assert_same(&mut duo);
    duo.ask_of(1, NexusId(9), 5, write(0, 1, 1));
    assert_eq!(answer(&mut duo, 1), GOOD);
    duo.ask_of(0, NexusId(1), 5, write(0, 1, 1));
    assert_eq!(answer(&mut duo, 0), CONFLICT);
}

/// What the reservations are, but for PRGENERATION, which a loss of power sets to zero.
fn lasting(state: &Reservations) -> (Vec<Registrant>, Option<Reservation>) {
    (state.registrants.clone(), state.reservation.clone())
}

/// Any service action of a nexus with this registration.
fn service_action(own: Option<&Registrant>, pick: &mut impl FnMut(u64) -> u64) -> ReserveOut {
    let action = OutAction::ALL[pick(7) as usize];
    ReserveOut {
        action,
        kind: Kind::ALL[pick(6) as usize].code(),
        key: own.map_or(0, |own| own.key),
        action_key: pick(3),
        aptpl: true,
        all_target_ports: pick(4) == 0,
        others: Vec::new(),
        moved: None,
    }
}

/// A cut, a crash of one or of both, or nothing; then the two are connected.
fn through_a_fault(mut duo: TwoControllers, seed: u64, pick: &mut impl FnMut(u64) -> u64) -> TwoControllers {
    match pick(5) {
        0 => {
            duo.cut();
            duo.settle(pick(40) as u32);
        }
        fault @ (1 | 2) => {
            let crashed = fault as usize - 1;
            duo = duo.crash_one(seed, crashed);
            duo.settle(pick(40) as u32);
            relog(&duo, crashed);
        }
        3 => {
            duo = duo.crash(seed, true);
            (0..2).for_each(|side| relog(&duo, side));
        }
        _ => return duo,
    }
    duo.connect();
    duo
}

/// Registrations persist through power loss here, so whatever happens both controllers end with the last state that
/// was answered, or with that and what was asked for last.
#[test]
fn random_sequences_with_cuts_and_crashes_leave_both_with_what_was_answered() {
    let (mut done, mut unanswered) = (0, 0);
    for seed in 0..200_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut pick = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut duo = met(seed);
        let mut model = Reservations::default();
        for round in 0..7 {
            for side in 0..2 {
                (1..4).for_each(|nexus| drop(duo.told(side, nexus)));
            }
            let (side, nexus) = (pick(2) as usize, pick(2) + 1);
            let who = duo.controllers[side].who(LunIndex(0), NexusId(nexus)).unwrap();
            let own = model.registrants.iter().find(|registrant| registrant.nexus == who.name);
            let out = service_action(own, &mut pick);
            let after = perform(&model, &who.name, &out).ok().and_then(|done| done.next);
            duo.event(side, nexus, 9, |who| Event::ReserveOut { who, out: Box::new(out) });
            (0..pick(16)).for_each(|_| {
                duo.step();
            });
            let mut answers = duo.answers(side);
            duo = through_a_fault(duo, seed * 10 + round, &mut pick);
            duo.settle(100);
            answers.extend(duo.answers(side));
            let actual = state(&duo, 0).reservations;
            assert_eq!(lasting(&actual), lasting(&state(&duo, 1).reservations), "seed {seed} round {round}");
            let good = answers.iter().any(|(tag, end)| (*tag, end) == (9, &GOOD));
            let wanted = after.clone().unwrap_or_else(|| model.clone());
            if good {
                done += 1;
                assert_eq!(
                    lasting(&actual),
                    lasting(&wanted),
                    "seed {seed} round {round}: answered, and lost"
                );
            } else {
                unanswered += u32::from(after.is_some());
                let possible = [lasting(&model), lasting(&wanted)];
                assert!(
                    possible.contains(&lasting(&actual)),
                    "seed {seed} round {round}: neither old nor new"
                );
            }
            model = actual;
        }
    }
    assert!(done > 100 && unanswered > 50, "{done} done, {unanswered} unanswered");
}

/// The sessions of a controller that has started again.
fn relog(duo: &TwoControllers, side: usize) {
    for nexus in 1..4 {
        duo.log_in(side, nexus, &format!("host{side}{nexus}"));
    }
}

#[test]
fn no_write_that_a_failed_disk_left_in_its_record_lands_after_a_reservation_forbids_it() {
    let mut left = 0;
    for steps in 0..40 {
        let mut duo = TwoControllers::new(7, false);
        duo.connect();
        duo.settle(1);
        duo.log_in(0, 1, "host1");
        let Op::Write { range, data, .. } = write(0, 4, 9) else { unreachable!() };
        duo.ask(0, 1, Op::WriteAtomic { range, data, fua: false });
        (0..steps).for_each(|_| {
            duo.step();
        });
        duo.break_disk(0, DiskError::Io);
        duo.settle(1);
        left += usize::from(matches!(duo.answers(0).as_slice(), [(_, Outcome::Check(_))]));
        duo.mend_disk(0);
        assert_eq!(reserve_out(&mut duo, (0, 1), OutAction::Register, (0, 1), Kind::WriteExclusive), GOOD);
        assert!(!duo.has_redo_record(0), "the next start would carry it out, after {steps} steps");
    }
    assert!(left > 0, "no disk failed in the middle");
}

#[test]
fn a_reservation_outlives_the_restart_of_main_that_meets_its_peer_for_a_moment() {
    for seed in 0..20 {
        let mut duo = met(seed);
        duo.log_in(1, 1, "holder");
        for (action, keys) in [(OutAction::Register, (0, 7)), (OutAction::Reserve, (7, 0))] {
            assert_eq!(
                reserve_out(&mut duo, (1, 1), action, keys, Kind::ExclusiveAccess),
                GOOD,
                "seed {seed}"
            );
        }
        // Main is stopped cleanly and started again; beta runs all the time.
        duo.controllers[0].stop();
        duo.settle(20);
        assert!(duo.controllers[0].stopped(), "seed {seed}");
        let mut duo = duo.crash_one(seed + 100, 0);
        duo.settle(1);
        duo.connect();
        while !duo.controllers[0].status().interlink.up {
            assert!(duo.step(), "seed {seed}: they do not meet");
        }
        duo.cut();
        duo.settle(30);
        duo.log_in(0, 2, "stranger");
        duo.ask_of(0, NexusId(2), 3, write(0, 1, 9));
        duo.settle(2);
        let answers = duo.answers(0);
        let held = duo.controllers[1].shared(LunIndex(0)).unwrap().reservations;
        assert!(held.reservation.is_some(), "seed {seed}: beta still knows the holder");
        assert!(
            !answers.contains(&(3, GOOD)),
            "seed {seed}: a write that the reservation forbids: {answers:?}"
        );
    }
}
