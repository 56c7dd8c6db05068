//! Commands on their way to main, one after the other.

use protocol::block::{BLOCK_BYTES, BlockRange};
use protocol::interlink::shared::SharedState;

use super::*;
use crate::command::LunIndex;
use crate::lun::LunSetup;
use crate::plan::Side;
use crate::volume::stack::{Stack, VolumeId};

const BLOCK: u64 = BLOCK_BYTES as u64;
const WAY: Way = Way { generation: GenerationTag { number: 1, id: 1 }, formats: true };

/// A write of one block by a host, on its way; how that went.
fn ask(forwarder: &mut Forwarder) -> Option<Action> {
    let setup = LunSetup {
        index: 0,
        stack: Stack::of(VolumeId(0)),
        blocks: 8,
        write_cache: true,
        luns: 1,
        side: Side::Second,
        incarnation: 1,
    };
    let unit = UnitState::new(&setup, SharedState::default());
    let range = BlockRange::new(0, 1).unwrap();
    let op = Op::Write { range, data: vec![Bytes::from(vec![0; BLOCK_BYTES as usize])], fua: false };
    let (nexus, tag) = (NexusId(1), TaskTag::of(1));
    let command = Command { lun: LunIndex(0), nexus, tag, op, received: Time(0) };
    let mut actions = Vec::new();
    forwarder.forward(command, &unit, WAY, Time(0), &mut actions);
    actions.pop()
}

/// Sends one; its name for main.
fn sent(forwarder: &mut Forwarder) -> u64 {
    match ask(forwarder) {
        Some(Action::Send { message: Message::Forward { id, .. }, .. }) => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn good_needs_both_copies_in_whichever_order_they_say_so() {
    for order in [[0, 1, 2], [1, 0, 2], [0, 2, 1]] {
        let mut forwarder = Forwarder::new(Budget::of(8 * BLOCK));
        let id = sent(&mut forwarder);
        let mut slot = 0;
        for (at, step) in order.into_iter().enumerate() {
            assert_eq!(forwarder.both(slot), None, "after {at} of {order:?}");
            match step {
                0 => slot = forwarder.on_order(id, 9, &Bytes::new()).unwrap().slot,
                1 => assert_eq!(forwarder.on_done(id), Some(slot)),
                _ => forwarder.on_applied_here(slot),
            }
        }
        assert_eq!(forwarder.both(slot), Some((Some(9), Outcome::Good(Data::new()))), "{order:?}");
    }
}

#[test]
fn a_change_that_only_this_copy_has_frees_nothing() {
    let mut forwarder = Forwarder::new(Budget::of(8 * BLOCK));
    let id = sent(&mut forwarder);
    let slot = forwarder.on_order(id, 9, &Bytes::new()).unwrap().slot;
    let ending = Ending::Check(Sense::WRITE_ERROR);
    assert_eq!(forwarder.on_ended(id, ending, &Bytes::new()), AtMain::Lacks(slot));
    assert_eq!(forwarder.both(slot), None, "the local copy is not done with it");
    forwarder.on_applied_here(slot);
    assert_eq!(forwarder.both(slot), Some((None, Outcome::Check(Sense::WRITE_ERROR))));
}

#[test]
fn an_order_that_comes_twice_cannot_be() {
    let mut forwarder = Forwarder::new(Budget::of(8 * BLOCK));
    let id = sent(&mut forwarder);
    assert!(forwarder.on_order(id, 9, &Bytes::new()).is_some());
    assert!(forwarder.on_order(id, 10, &Bytes::new()).is_none());
    assert!(forwarder.on_order(id + 1, 11, &Bytes::new()).is_none());
}

#[test]
fn room_at_main_is_given_back_once_and_goes_to_who_waits_longest() {
    let mut forwarder = Forwarder::new(Budget::of(BLOCK));
    let first = sent(&mut forwarder);
    for _ in 0..2 {
        assert!(ask(&mut forwarder).is_none(), "main has no room");
    }
    let mut actions = Vec::new();
    let AtMain::Over(slot, outcome) = forwarder.on_ended(first, Ending::Good, &Bytes::new()) else {
        panic!("it is over");
    };
    forwarder.end(slot, outcome, WAY, Time(0), &mut actions);
    assert!(matches!(actions[..], [Action::Answer { .. }, Action::Send { .. }]), "{actions:?}");
    actions.clear();
    forwarder.lose(&[], true, &mut actions);
    assert!(matches!(actions[..], [Action::Answer { .. }]), "only the queued one ends: {actions:?}");
    assert_eq!(forwarder.usage().1, 0, "nothing is left of a lost main's room");
    sent(&mut forwarder);
    actions.clear();
    forwarder.expire(WAY, Time(0) + COMMAND_AGE_MAX + CLOCKS_MARGIN, &mut actions);
    assert!(matches!(actions[..], [Action::Answer { .. }]), "what is adrift ends late: {actions:?}");
    assert_eq!(forwarder.usage().1, BLOCK, "what was given back is not given back again");
}
