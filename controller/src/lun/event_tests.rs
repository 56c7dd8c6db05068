//! Events across two controllers, in the toy world: order, unit attentions, durability, and losing the peer in the
//! middle.

use protocol::interlink::event::{Event, ModeSelection};
use protocol::interlink::shared::SharedState;
use protocol::scsi::sense::{Sense, Status};

use crate::command::{LunIndex, NexusId, Op, Outcome, TaskTag};
use crate::pair::PairStatus;
use crate::testing::{TwoControllers, range, write};

const GOOD: Outcome = Outcome::Good(Vec::new());
const CONFLICT: Outcome = Outcome::Status(Status::ReservationConflict);

/// Two that have met, each with two sessions, none of which has anything to be told.
fn met(seed: u64) -> TwoControllers {
    let mut duo = TwoControllers::new(seed, true);
    duo.connect();
    duo.settle(1);
    for side in 0..2 {
        duo.log_in(side, 1, &format!("host{side}"));
        duo.log_in(side, 2, &format!("other{side}"));
    }
    duo
}

fn protect(save: bool) -> impl Fn(protocol::interlink::shared::Requester) -> Event + Copy {
    move |who| Event::ModeSelect {
        who,
        select: ModeSelection { save, write_protect: Some(true), ..Default::default() },
    }
}

fn settled(duo: &mut TwoControllers, side: usize) -> Vec<(u32, Outcome)> {
    duo.settle(1);
    let mut answers = duo.answers(side);
    answers.sort_by_key(|(tag, _)| *tag);
    answers
}

fn state(duo: &TwoControllers, side: usize) -> SharedState {
    duo.controllers[side].shared(LunIndex(0)).unwrap()
}

fn on_disk(duo: &TwoControllers, side: usize) -> Option<SharedState> {
    duo.shared(side)
}

#[test]
fn a_reset_through_either_controller_is_told_to_every_nexus_of_both_before_it_is_answered() {
    for seed in 0..40 {
        let side = (seed % 2) as usize;
        let mut duo = met(seed);
        duo.controllers[side].reset(LunIndex(0), NexusId(1), TaskTag(9));
        while duo.answers(side).is_empty() {
            assert!(duo.step());
        }
        for (side, nexus) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
            assert_eq!(duo.told(side, nexus), [Sense::LOGICAL_UNIT_RESET], "seed {seed} {side} {nexus}");
        }
    }
}

#[test]
fn a_reset_waits_for_what_was_admitted_and_what_was_not_is_never_executed() {
    let mut given_up = 0;
    for seed in 0..100 {
        let side = (seed % 2) as usize;
        let mut duo = met(seed);
        for at in 0..2 {
            duo.ask(at, 1, write(0, 8, 1));
            duo.ask(at, 2, write(0, 8, 2));
        }
        (0..seed % 11).for_each(|_| assert!(duo.step()));
        duo.controllers[side].reset(LunIndex(0), NexusId(1), TaskTag(9));
        let mut ended = [Vec::new(), Vec::new()];
        while !ended[side].iter().any(|(tag, _)| *tag == 9) {
            assert!(duo.step(), "seed {seed}");
            (0..2).for_each(|at| ended[at].extend(duo.answers(at)));
        }
        let volumes = [duo.volume(0), duo.volume(1)];
        duo.settle(2);
        let landed = [duo.volume(0), duo.volume(1)] != volumes;
        assert!(!landed, "seed {seed}: something landed after the answer");
        assert!(volumes[0] == volumes[1], "seed {seed}");
        (0..2).for_each(|at| ended[at].extend(duo.answers(at)));
        let all: Vec<_> = ended.concat();
        assert_eq!(all.len(), 5, "seed {seed}: {all:?}");
        assert!(all.iter().all(|(_, end)| matches!(end, Outcome::Good(_) | Outcome::Aborted)), "{all:?}");
        given_up += all.iter().filter(|(_, end)| *end == Outcome::Aborted).count();
    }
    assert!(given_up > 0, "nothing waited: the test shows nothing");
}

#[test]
fn selected_modes_are_the_same_on_both_and_saved_ones_outlive_both_controllers() {
    for (seed, save) in [(1, true), (2, false), (3, true), (4, false)] {
        let side = (seed / 3) as usize;
        let mut duo = met(seed);
        duo.event(side, 1, 5, protect(save));
        assert_eq!(settled(&mut duo, side), [(5, GOOD)]);
        for at in 0..2 {
            assert!(state(&duo, at).current.write_protect);
            assert_eq!(state(&duo, at).saved.write_protect, save);
            assert_eq!(on_disk(&duo, at).is_some_and(|state| state.saved.write_protect), save);
        }
        let changed = [Sense::MODE_PARAMETERS_CHANGED];
        assert_eq!(duo.told(side, 1), [], "who asked for it knows");
        for (side, nexus) in [(side, 2), (1 - side, 1), (1 - side, 2)] {
            assert_eq!(duo.told(side, nexus), changed);
        }
        let mut duo = duo.crash(seed + 100, true);
        duo.connect();
        duo.settle(90);
        for at in 0..2 {
            assert_eq!(state(&duo, at).current.write_protect, save);
        }
    }
}

#[test]
fn a_saved_mode_page_is_durable_on_both_before_it_is_answered() {
    for seed in 0..40 {
        let side = (seed % 2) as usize;
        let mut duo = met(seed);
        duo.event(side, 1, 5, protect(true));
        while duo.answers(side).is_empty() {
            assert!(duo.step());
        }
        for at in 0..2 {
            assert!(on_disk(&duo, at).is_some_and(|state| state.saved.write_protect), "seed {seed} {at}");
        }
    }
}

#[test]
fn a_reset_brings_saved_modes_back() {
    let mut duo = met(1);
    duo.event(1, 1, 5, protect(false));
    duo.settle(1);
    duo.controllers[0].reset(LunIndex(0), NexusId(1), TaskTag(9));
    duo.settle(1);
    assert!((0..2).all(|at| !state(&duo, at).current.write_protect));
}

#[test]
fn an_event_that_loses_its_peer_holds_on_main_and_is_unknown_to_a_host_of_the_sub() {
    let mut answered = [0, 0];
    for seed in 0..120 {
        let side = (seed % 2) as usize;
        let mut duo = met(seed);
        duo.event(side, 1, 5, protect(true));
        (0..seed % 9).for_each(|_| {
            duo.step();
        });
        duo.cut();
        duo.settle(60);
        let early = duo.answers(side);
        let main = state(&duo, 0).current.write_protect;
        match early.as_slice() {
            [(5, Outcome::Good(_))] => {
                answered[side] += 1;
                assert!(main, "seed {seed}: answered, and lost");
            }
            [(5, Outcome::Check(sense))] => {
                assert_eq!((side, *sense), (1, Sense::ABORTED_COMMAND), "seed {seed}");
            }
            other => panic!("seed {seed}: {other:?}"),
        }
        duo.connect();
        duo.settle(90);
        assert_eq!(state(&duo, 0), state(&duo, 1), "seed {seed}");
        assert_eq!(state(&duo, 0).current.write_protect, main, "seed {seed}");
    }
    assert!(answered[0] > 0);
}

#[test]
fn a_controller_that_comes_back_has_what_happened_meanwhile() {
    for seed in 0..10 {
        let mut duo = met(seed);
        duo.cut();
        duo.settle(60);
        duo.told(0, 1);
        duo.event(0, 1, 5, protect(true));
        assert_eq!(settled(&mut duo, 0), [(5, GOOD)]);
        assert!(!state(&duo, 1).current.write_protect);
        duo.connect();
        duo.settle(90);
        assert_eq!(state(&duo, 0), state(&duo, 1));
        assert!(on_disk(&duo, 1).is_some_and(|state| state.saved.write_protect));
        assert!(duo.told(1, 1).contains(&Sense::MODE_PARAMETERS_CHANGED));
    }
}

#[test]
fn the_change_of_main_is_told_once_on_both_sides() {
    let mut duo = met(1);
    duo.cut();
    duo.settle(60);
    let changed = [Sense::ASYMMETRIC_ACCESS_STATE_CHANGED];
    assert_eq!((duo.told(0, 1), duo.told(1, 1)), (changed.to_vec(), changed.to_vec()));
    duo.connect();
    duo.settle(90);
    assert_eq!((duo.told(0, 1), duo.told(1, 1)), (changed.to_vec(), changed.to_vec()));
    duo.settle(90);
    assert_eq!((duo.told(0, 1), duo.told(1, 1)), (vec![], vec![]));
}

#[test]
fn a_reservation_ends_with_its_session_through_either_controller() {
    for side in 0..2 {
        let mut duo = met(side as u64);
        duo.event(side, 1, 5, Event::Reserve);
        assert_eq!(settled(&mut duo, side), [(5, GOOD)]);
        for (other, nexus) in [(side, 2), (1 - side, 1)] {
            duo.event(other, nexus, 6, Event::Reserve);
            assert_eq!(settled(&mut duo, other), [(6, CONFLICT)]);
        }
        duo.controllers[side].nexus_lost(NexusId(1));
        duo.settle(2);
        duo.answers(side);
        assert_eq!((state(&duo, 0).reserver, state(&duo, 1).reserver), (None, None));
        duo.event(1 - side, 1, 7, Event::Reserve);
        assert_eq!(settled(&mut duo, 1 - side), [(7, GOOD)]);
    }
}

#[test]
fn whoever_comes_after_a_session_is_not_kept_out_by_what_it_reserved() {
    for side in 0..2 {
        for asked in [write(0, 1, 3), Op::Read { range: range(0, 1) }] {
            let mut duo = met(side as u64);
            duo.event(side, 1, 5, Event::Reserve);
            assert_eq!(settled(&mut duo, side), [(5, GOOD)]);
            duo.controllers[side].nexus_lost(NexusId(1));
            duo.ask_of(side, NexusId(2), 6, asked);
            let answers = settled(&mut duo, side);
            let (_, outcome) = answers.iter().find(|(tag, _)| *tag == 6).unwrap();
            assert!(matches!(outcome, Outcome::Good(_)), "{outcome:?}");
        }
    }
}

#[test]
fn a_reservation_through_a_controller_that_is_gone_ends_when_main_goes_on() {
    let mut duo = met(1);
    duo.event(1, 1, 5, Event::Reserve);
    assert_eq!(settled(&mut duo, 1), [(5, GOOD)]);
    duo.cut();
    duo.settle(60);
    assert_eq!(state(&duo, 0).reserver, None);
    duo.connect();
    duo.settle(90);
    assert_eq!(state(&duo, 1).reserver, None);
    assert_eq!(duo.told(1, 1).first(), Some(&Sense::NEXUS_LOSS), "its session lives and must know");
}

/// Main is told of it when it has its place in the pair, and not before: it would not know the message.
#[test]
fn a_session_that_ends_in_a_meeting_leaves_neither_its_reservation_nor_a_message() {
    for seed in 0..200 {
        let mut duo = met(seed);
        duo.event(1, 1, 5, Event::Reserve);
        duo.settle(1);
        duo.cut();
        duo.connect();
        (0..seed % 70).for_each(|_| {
            duo.step();
        });
        duo.controllers[1].nexus_lost(NexusId(1));
        duo.settle(30);
        assert_eq!(state(&duo, 0).reserver, None, "seed {seed}");
        let status = duo.controllers[1].status().luns.remove(0);
        assert_eq!((status.status, status.commands), (PairStatus::Duplex, 0), "seed {seed}");
    }
}

#[test]
fn a_reservation_survives_the_loss_of_the_interlink_for_less_than_a_lease() {
    let mut duo = met(1);
    duo.event(1, 1, 5, Event::Reserve);
    duo.settle(1);
    duo.cut();
    duo.connect();
    duo.settle(90);
    assert!(state(&duo, 0).reserver.is_some());
    assert_eq!(state(&duo, 0), state(&duo, 1));
}

#[test]
fn the_side_that_kept_its_memory_brings_the_shared_state_back() {
    let mut duo = met(1);
    duo.event(0, 1, 5, protect(false));
    duo.settle(1);
    let mut duo = duo.crash_one(7, 0);
    duo.settle(60);
    duo.connect();
    duo.settle(90);
    for at in 0..2 {
        assert!(state(&duo, at).current.write_protect, "side {at}");
    }
}

#[test]
fn commands_behind_an_event_keep_their_turn_and_all_end() {
    for seed in 0..60 {
        let side = (seed % 2) as usize;
        let mut duo = met(seed);
        let mut tag = 0;
        for round in 0..4 {
            for at in 0..2 {
                tag += 1;
                duo.ask(at, tag, write(round, 2, tag as u8));
                tag += 1;
                duo.ask(at, tag, Op::Read { range: range(round, 4) });
            }
            tag += 1;
            let release = round % 2 == 1;
            let change = protect(false);
            duo.event(side, 1, tag, |who| if release { Event::Release(who) } else { change(who) });
            (0..seed % 5).for_each(|_| {
                duo.step();
            });
        }
        duo.settle(2);
        let ended = [duo.answers(0), duo.answers(1)].concat();
        assert_eq!(ended.len() as u32, tag, "seed {seed}");
        assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
        assert_eq!(state(&duo, 0), state(&duo, 1), "seed {seed}");
    }
}

#[test]
fn a_disk_that_hangs_under_an_extended_copy_harms_only_its_own_lun() {
    use crate::copy_manager::{CopyOrder, Segment};
    let mut duo = TwoControllers::two_luns(1, 8192);
    duo.connect();
    duo.settle(4);
    // data1 has one whole copy, beta's; data0 has two.
    let mut duo = duo.crash_of_two(2);
    duo.hold_marks(Some((0, 1)));
    duo.connect();
    duo.settle_and_redial(200);
    let places = [0, 1].map(|lun| duo.controllers[0].place(LunIndex(lun)).unwrap());
    assert_eq!(places.map(|place| place.1), [PairStatus::Duplex, PairStatus::Suspended]);
    duo.log_in(0, 1, "copier");
    duo.log_in(0, 2, "other");
    duo.fill(0, &vec![3; 8192 * 512]);
    // The disk of beta hangs.
    duo.stall_disk(1);
    let segment = Segment { source: (LunIndex(0), 0), destination: (LunIndex(1), 0), blocks: 6000 };
    duo.controllers[0].extended_copy(CopyOrder {
        lun: LunIndex(0),
        nexus: NexusId(1),
        task: 5,
        list: None,
        segments: vec![Ok(segment)],
        received: crate::time::Time(u64::MAX),
    });
    duo.settle(120);
    let lun = duo.controllers[0].status().luns.remove(0);
    assert!(lun.serving, "{lun:?}");
    duo.told(0, 2);
    duo.ask_of(0, NexusId(2), 8, write(0, 1, 7));
    duo.settle(100);
    assert!(duo.answers(0).contains(&(8, GOOD)), "alpha serves data0");
    // Its host resets the LUN from which it copied.
    duo.ask_of(0, NexusId(1), 9, Op::Event(Box::new(Event::Reset)));
    duo.settle(600);
    duo.answers(0);
    duo.told(0, 2);
    duo.ask_of(0, NexusId(2), 10, write(0, 1, 8));
    duo.settle(100);
    let answers = duo.answers(0);
    assert!(
        answers.contains(&(10, GOOD)),
        "30 s later another host of data0, whose disk is well: {answers:?}, {:?}",
        duo.controllers[0].status().luns[0]
    );
}
