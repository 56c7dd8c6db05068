//! Task attributes: which tasks of one session wait for which (SAM-5 8.6).

use proptest::prelude::*;

use super::*;
use TaskAttribute::{Aca, HeadOfQueue, Ordered, Simple, Untagged};

fn with(number: u32, attribute: TaskAttribute, lun: u8) -> Received {
    let mut pdu = command(number, false, 0);
    pdu.bhs[1] = pdu.bhs[1] & !7 | attribute as u8;
    pdu.bhs[9] = lun;
    pdu
}

fn end(session: &mut FullFeature, tag: u32) -> Vec<u32> {
    session.on_outcome(TaskTag::of(tag), Outcome::Good(Vec::new()), &mut Output::default());
    executed(session)
}

#[test]
fn simple_tasks_wait_for_nobody() {
    let mut session = session();
    for (number, attribute) in [(1, Simple), (2, Untagged), (3, Simple)] {
        session.on_pdu(&with(number, attribute, 0), Time(0), &mut Output::default());
    }
    assert_eq!(executed(&mut session), [1, 2, 3]);
}

#[test]
fn an_ordered_task_waits_for_all_older_ones_and_the_younger_wait_for_it() {
    let mut session = session();
    for (number, attribute) in [(1, Simple), (2, Simple), (3, Ordered), (4, Simple), (5, Ordered)] {
        session.on_pdu(&with(number, attribute, 0), Time(0), &mut Output::default());
    }
    assert_eq!(executed(&mut session), [1, 2]);
    assert_eq!(end(&mut session, 2), [0_u32; 0]);
    assert!(!session.take_room(0));
    session.on_outcome(TaskTag::of(1), Outcome::Good(Vec::new()), &mut Output::default());
    assert!(session.take_room(0), "the connection is told that there is work again");
    assert_eq!(executed(&mut session), [3]);
    assert_eq!(end(&mut session, 3), [4]);
    assert_eq!(end(&mut session, 4), [5]);
}

#[test]
fn a_task_at_the_head_of_the_queue_runs_at_once_and_holds_up_what_has_not_begun() {
    let mut session = session();
    for (number, attribute) in [(1, Simple), (2, Ordered), (3, HeadOfQueue), (4, Simple)] {
        session.on_pdu(&with(number, attribute, 0), Time(0), &mut Output::default());
    }
    assert_eq!(executed(&mut session), [3], "what had not been handed out waits");
    assert_eq!(end(&mut session, 3), [1]);
    assert_eq!(end(&mut session, 1), [2]);
    assert_eq!(end(&mut session, 2), [4]);
}

#[test]
fn every_logical_unit_has_a_task_set_of_its_own() {
    let mut session = session();
    for (number, attribute, lun) in [(1, Simple, 0), (2, Ordered, 0), (3, Simple, 1), (4, Simple, 0)] {
        session.on_pdu(&with(number, attribute, lun), Time(0), &mut Output::default());
    }
    assert_eq!(executed(&mut session), [1, 3]);
}

#[test]
fn the_attribute_aca_is_refused_once_the_data_of_the_command_has_ended() {
    let mut session = session();
    let mut output = Output::default();
    session.on_pdu(&with(1, Aca, 0), Time(0), &mut output);
    let answers = pdus(&mut output);
    let [TargetPdu::ScsiResponse(response)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(response.status, 0x02);
    assert_eq!(executed(&mut session), [0_u32; 0]);
}

#[test]
fn an_aborted_task_holds_up_nobody() {
    let mut session = session();
    for (number, attribute) in [(1, Simple), (2, Ordered), (3, Simple)] {
        session.on_pdu(&with(number, attribute, 0), Time(0), &mut Output::default());
    }
    assert_eq!(executed(&mut session), [1]);
    assert!(forget(&mut session, 2, &mut Output::default()));
    assert_eq!(executed(&mut session), [3]);
}

#[test]
fn who_has_looked_for_room_after_a_special_task_is_not_told_again_for_having_looked() {
    let mut session = session();
    // All the room there is, on a LUN whose disk hangs.
    for number in 1..=4 {
        session.on_pdu(&command(number, false, 8 << 20), Time(0), &mut Output::default());
    }
    session.on_pdu(&with(5, Ordered, 1), Time(0), &mut Output::default());
    let mut read = command(6, false, 8 << 20);
    read.bhs[9] = 1;
    session.on_pdu(&read, Time(0), &mut Output::default());
    assert_eq!(executed(&mut session), [1, 2, 3, 4, 5], "6 waits for 5");
    session.on_outcome(TaskTag::of(5), Outcome::Good(Vec::new()), &mut Output::default());
    // The session that is told looks again, and finds no room for 6.
    let told = (0..1000).filter(|_| {
        let told = session.take_room(0);
        assert_eq!(executed(&mut session), [0_u32; 0]);
        told
    });
    assert!(told.count() <= 1, "the connection wakes itself for as long as that disk hangs");
    session.on_outcome(TaskTag::of(1), Outcome::Good(Vec::new()), &mut Output::default());
    session.on_outcome(TaskTag::of(2), Outcome::Good(Vec::new()), &mut Output::default());
    assert!(session.take_room(0));
    assert_eq!(executed(&mut session), [6]);
}

proptest! {
    #[test]
    fn every_task_runs_in_the_end_and_none_before_its_time(
        kinds in prop::collection::vec((0_u8..3, 0_u8..2), 1..30), picks in prop::collection::vec(0_usize..40, 60),
    ) {
        let kind = |n: u8| [Simple, Ordered, HeadOfQueue][usize::from(n)];
        let mut session = session();
        let mut running = Vec::new();
        let mut done = Vec::new();
        let mut picks = picks.into_iter().cycle();
        for step in 0..kinds.len() * 2 {
            if let Some((attribute, lun)) = kinds.get(step) {
                session.on_pdu(&with(step as u32 + 1, kind(*attribute), *lun), Time(0), &mut Output::default());
            }
            for tag in executed(&mut session) {
                let (attribute, lun) = kinds[tag as usize - 1];
                for older in (1..tag).filter(|older| !done.contains(older)) {
                    let (other, unit) = kinds[older as usize - 1];
                    let ordered = kind(attribute) == Ordered || (kind(other) == Ordered && kind(attribute) == Simple);
                    prop_assert!(unit != lun || !ordered, "{tag} before {older}");
                }
                running.push(tag);
            }
            if !running.is_empty() {
                let tag = running.swap_remove(picks.next().unwrap_or(0) % running.len());
                session.on_outcome(TaskTag::of(tag), Outcome::Good(Vec::new()), &mut Output::default());
                done.push(tag);
            }
        }
        prop_assert_eq!(done.len(), kinds.len());
    }
}
