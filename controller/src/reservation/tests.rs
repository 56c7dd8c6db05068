//! Each service action by the cases of SPC-4 5.13, and the conflict table.

use protocol::interlink::shared::{Attention, NexusName, REGISTRANTS_MAX, Recipients, Reservations};
use protocol::scsi::persistent_reservation::{InitiatorPort, Kind, Move, OutAction, ReserveOut};
use protocol::scsi::sense::Sense;

use super::*;

fn port(name: &str) -> InitiatorPort {
    InitiatorPort { initiator: name.into(), isid: [0; 6] }
}

fn nexus(name: &str) -> NexusName {
    port(name).nexus(1)
}

fn out(action: OutAction, key: u64, action_key: u64, kind: Kind) -> ReserveOut {
    asked::out(action, (key, action_key), kind)
}

const WE: Kind = Kind::WriteExclusive;

/// A, B and C registered with 0xa, 0xb and 0xc; A holds `kind`.
fn held(kind: Kind) -> Reservations {
    let mut state = Reservations::default();
    for (name, key) in [("a", 0xa), ("b", 0xb), ("c", 0xc)] {
        act(&mut state, name, &out(OutAction::Register, 0, key, WE)).unwrap();
    }
    act(&mut state, "a", &out(OutAction::Reserve, 0xa, 0, kind)).unwrap();
    state
}

fn act(state: &mut Reservations, name: &str, out: &ReserveOut) -> Result<Vec<Attention>, Outcome> {
    let done = perform(state, &nexus(name), out)?;
    if let Some(next) = done.next {
        *state = next;
    }
    Ok(done.attentions)
}

fn told(names: &[&str], sense: Sense) -> Vec<Attention> {
    names.iter().map(|name| Attention { whom: Recipients::One(nexus(name)), code: sense.code }).collect()
}

fn names(state: &Reservations) -> Vec<&str> {
    state.registrants.iter().map(|registrant| registrant.nexus.initiator.as_str()).collect()
}

#[test]
fn a_key_that_is_not_the_registered_one_conflicts_with_everything_but_register_and_ignore() {
    for action in OutAction::ALL {
        for name in ["a", "stranger"] {
            let mut state = held(WE);
            let result = act(&mut state, name, &out(action, 0xbad, 0xb, WE));
            let ignores = action == OutAction::RegisterAndIgnoreExistingKey;
            assert_eq!(result.is_ok(), ignores, "{action:?} {name}");
            assert!(ignores || state == held(WE));
        }
    }
}

#[test]
fn registering_nothing_without_a_registration_does_nothing() {
    let mut state = held(WE);
    for action in [OutAction::Register, OutAction::RegisterAndIgnoreExistingKey] {
        assert_eq!(act(&mut state, "stranger", &out(action, 0, 0, WE)), Ok(vec![]));
        assert_eq!(state, held(WE));
    }
}

#[test]
fn every_registration_counts_the_generation_and_reserve_and_release_do_not() {
    let mut state = held(WE);
    assert_eq!(state.generation, 3);
    act(&mut state, "a", &out(OutAction::Release, 0xa, 0, WE)).unwrap();
    assert_eq!(state.generation, 3);
    act(&mut state, "a", &out(OutAction::Register, 0xa, 0xaa, WE)).unwrap();
    act(&mut state, "b", &out(OutAction::Preempt, 0xb, 0xaa, WE)).unwrap();
    assert_eq!((state.generation, names(&state)), (5, vec!["b", "c"]));
    act(&mut state, "b", &out(OutAction::Clear, 0xb, 0, WE)).unwrap();
    assert_eq!((state.generation, names(&state)), (6, vec![]));
}

#[test]
fn all_target_ports_and_spec_i_pt_register_every_nexus_they_name_or_none() {
    let mut state = Reservations::default();
    let mut both = out(OutAction::Register, 0, 7, WE);
    both.all_target_ports = true;
    both.others = vec![port("x"), port("y")];
    act(&mut state, "a", &both).unwrap();
    let ports: Vec<_> =
        state.registrants.iter().map(|r| (r.nexus.initiator.as_str(), r.nexus.port)).collect();
    assert_eq!(ports, [("a", 1), ("a", 2), ("x", 1), ("x", 2), ("y", 1), ("y", 2)]);
    both.key = 7;
    assert_eq!(act(&mut state, "a", &both), Err(INVALID), "SPEC_I_PT of a registered nexus");
    for more in 0.. {
        let registered = act(&mut state, &format!("more {more}"), &out(OutAction::Register, 0, 1, WE));
        if registered == Err(Outcome::Check(Sense::INSUFFICIENT_REGISTRATION_RESOURCES)) {
            break;
        }
    }
    assert_eq!(state.registrants.len(), REGISTRANTS_MAX);
}

#[test]
fn the_last_aptpl_holds() {
    let mut state = held(WE);
    let mut persist = out(OutAction::Register, 0xb, 0xb, WE);
    persist.aptpl = true;
    act(&mut state, "b", &persist).unwrap();
    assert!(state.aptpl);
    act(&mut state, "c", &out(OutAction::Register, 0xc, 0xc, WE)).unwrap();
    assert!(!state.aptpl);
}

#[test]
fn who_reserves_again_alike_is_answered_good_and_anything_else_conflicts() {
    for kind in Kind::ALL {
        for (name, key) in [("a", 0xa), ("b", 0xb)] {
            for asked in Kind::ALL {
                let mut state = held(kind);
                let result = act(&mut state, name, &out(OutAction::Reserve, key, 0, asked));
                let good = asked == kind && (name == "a" || kind.is_all_registrants());
                assert_eq!(
                    result,
                    if good { Ok(vec![]) } else { Err(CONFLICT) },
                    "{kind:?} {name} {asked:?}"
                );
                assert_eq!(state, held(kind));
            }
        }
    }
}

#[test]
fn a_release_tells_the_other_registrants_unless_the_holder_was_alone() {
    for kind in Kind::ALL {
        let mut state = held(kind);
        let attentions = act(&mut state, "a", &out(OutAction::Release, 0xa, 0, kind)).unwrap();
        let others: &[&str] = if kind.is_holders_alone() { &[] } else { &["b", "c"] };
        assert_eq!(attentions, told(others, Sense::RESERVATIONS_RELEASED), "{kind:?}");
        assert_eq!(state.reservation, None);
        let mut state = held(kind);
        let other = if kind == WE { Kind::ExclusiveAccess } else { WE };
        let refused = Err(Outcome::Check(Sense::INVALID_RELEASE));
        assert_eq!(act(&mut state, "a", &out(OutAction::Release, 0xa, 0, other)), refused);
        if !kind.is_all_registrants() {
            assert_eq!(act(&mut state, "b", &out(OutAction::Release, 0xb, 0, other)), Ok(vec![]));
        }
        assert_eq!(state, held(kind));
    }
}

#[test]
fn a_holder_that_unregisters_ends_its_reservation_and_the_last_one_that_of_all() {
    for kind in Kind::ALL {
        let mut state = held(kind);
        let attentions = act(&mut state, "a", &out(OutAction::Register, 0xa, 0, WE)).unwrap();
        let told_to: &[&str] = match kind {
            Kind::WriteExclusiveRegistrantsOnly | Kind::ExclusiveAccessRegistrantsOnly => &["b", "c"],
            _ => &[],
        };
        assert_eq!(attentions, told(told_to, Sense::RESERVATIONS_RELEASED), "{kind:?}");
        assert_eq!(state.reservation.is_some(), kind.is_all_registrants());
        act(&mut state, "b", &out(OutAction::Register, 0xb, 0, WE)).unwrap();
        act(&mut state, "c", &out(OutAction::Register, 0xc, 0, WE)).unwrap();
        assert_eq!(state.reservation, None);
    }
}

#[test]
fn clear_tells_everybody_else() {
    let mut state = held(Kind::ExclusiveAccess);
    let attentions = act(&mut state, "b", &out(OutAction::Clear, 0xb, 0, WE)).unwrap();
    assert_eq!(attentions, told(&["a", "c"], Sense::RESERVATIONS_PREEMPTED));
    assert!(state.registrants.is_empty() && state.reservation.is_none());
}

#[test]
fn preempting_the_holder_takes_its_reservation() {
    for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_all_registrants()) {
        for new in Kind::ALL {
            let mut state = held(kind);
            let attentions = act(&mut state, "b", &out(OutAction::Preempt, 0xb, 0xa, new)).unwrap();
            let mut wanted = told(&["a"], Sense::REGISTRATIONS_PREEMPTED);
            if new != kind {
                wanted.extend(told(&["c"], Sense::RESERVATIONS_RELEASED));
            }
            assert_eq!(attentions, wanted, "{kind:?} {new:?}");
            assert_eq!(names(&state), ["b", "c"]);
            assert_eq!(state.reservation, Some(Reservation { kind: new.code(), holder: nexus("b") }));
        }
    }
}

#[test]
fn preempting_another_removes_exactly_the_registrations_with_that_key() {
    for kind in Kind::ALL {
        let mut state = held(kind);
        act(&mut state, "d", &out(OutAction::Register, 0, 0xc, WE)).unwrap();
        let before = state.reservation.clone();
        let attentions = act(&mut state, "b", &out(OutAction::PreemptAndAbort, 0xb, 0xc, WE)).unwrap();
        assert_eq!(attentions, told(&["c", "d"], Sense::REGISTRATIONS_PREEMPTED));
        assert_eq!((names(&state), state.reservation.clone()), (vec!["a", "b"], before));
        assert_eq!(act(&mut state, "b", &out(OutAction::Preempt, 0xb, 0xdead, WE)), Err(CONFLICT));
    }
}

#[test]
fn key_zero_preempts_all_registrants_and_is_invalid_otherwise() {
    for kind in Kind::ALL {
        let mut state = held(kind);
        let result = act(&mut state, "b", &out(OutAction::Preempt, 0xb, 0, WE));
        if kind.is_all_registrants() {
            assert_eq!(result, Ok(told(&["a", "c"], Sense::REGISTRATIONS_PREEMPTED)));
            assert_eq!(names(&state), ["b"]);
            assert_eq!(state.reservation, Some(Reservation { kind: WE.code(), holder: nexus("b") }));
        } else {
            assert_eq!((result, state), (Err(INVALID), held(kind)));
        }
    }
}

#[test]
fn register_and_move_hands_the_reservation_over() {
    let moving = |unregister, port_number, to: &str, action_key| {
        let mut out = out(OutAction::RegisterAndMove, 0xa, action_key, WE);
        out.moved = Some(Move { unregister, port: port_number, to: port(to) });
        out
    };
    for unregister in [false, true] {
        let mut state = held(WE);
        assert_eq!(act(&mut state, "a", &moving(unregister, 2, "z", 0xf)), Ok(vec![]));
        assert_eq!(state.reservation, Some(Reservation { kind: WE.code(), holder: port("z").nexus(2) }));
        assert_eq!(names(&state).contains(&"a"), !unregister);
        assert_eq!(key_of(&state, &port("z").nexus(2)), Some(0xf));
    }
    for invalid in [moving(false, 2, "z", 0), moving(false, 3, "z", 1), moving(false, 1, "a", 1)] {
        assert_eq!(act(&mut held(WE), "a", &invalid), Err(INVALID));
    }
    let mut by_another = moving(false, 2, "z", 1);
    by_another.key = 0xb;
    assert_eq!(act(&mut held(WE), "b", &by_another), Err(CONFLICT));
    let mut all = held(Kind::WriteExclusiveAllRegistrants);
    assert_eq!(act(&mut all, "a", &moving(false, 2, "z", 1)), Err(CONFLICT));
}

/// SPC-4 tables 62 and 63.
#[test]
fn whom_each_type_lets_pass() {
    let mut table = String::new();
    for kind in Kind::ALL {
        let state = held(kind);
        for (who, name) in [("holder", "a"), ("registrant", "b"), ("stranger", "z")] {
            let passing = [Access::Always, Access::Describe, Access::Own, Access::Read, Access::Write]
                .map(|access| if passes(&state, &nexus(name), access) { "yes" } else { "-" });
            table += &format!("{kind:?} {who}: {}\n", passing.join(" "));
        }
    }
    assert_eq!(
        table,
        "WriteExclusive holder: yes yes yes yes yes\nWriteExclusive registrant: yes yes yes yes -\n\
         WriteExclusive stranger: yes yes yes yes -\n\
         ExclusiveAccess holder: yes yes yes yes yes\nExclusiveAccess registrant: yes yes yes - -\n\
         ExclusiveAccess stranger: yes yes yes - -\n\
         WriteExclusiveRegistrantsOnly holder: yes yes yes yes yes\n\
         WriteExclusiveRegistrantsOnly registrant: yes yes yes yes yes\n\
         WriteExclusiveRegistrantsOnly stranger: yes yes yes yes -\n\
         ExclusiveAccessRegistrantsOnly holder: yes yes yes yes yes\n\
         ExclusiveAccessRegistrantsOnly registrant: yes yes yes yes yes\n\
         ExclusiveAccessRegistrantsOnly stranger: yes yes yes - -\n\
         WriteExclusiveAllRegistrants holder: yes yes yes yes yes\n\
         WriteExclusiveAllRegistrants registrant: yes yes yes yes yes\n\
         WriteExclusiveAllRegistrants stranger: yes yes yes yes -\n\
         ExclusiveAccessAllRegistrants holder: yes yes yes yes yes\n\
         ExclusiveAccessAllRegistrants registrant: yes yes yes yes yes\n\
         ExclusiveAccessAllRegistrants stranger: yes yes yes - -\n"
    );
    let free = Reservations { reservation: None, ..held(WE) };
    assert!(passes(&free, &nexus("z"), Access::Write));
}
