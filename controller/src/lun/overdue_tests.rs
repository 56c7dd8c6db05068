//! No leg without a deadline: what the peer has taken and never handles ends the meeting, though its control
//! connection goes on answering.

use super::LEG_AGE_MAX;
use crate::command::{Op, Outcome};
use crate::pair::PairStatus;
use crate::testing::{BLOCKS, TwoControllers, blocks_of, range, write};
use crate::time::TICK;

const GOOD: Outcome = Outcome::Good(Vec::new());

const DEADLINE: u32 = (LEG_AGE_MAX.as_millis() / TICK.as_millis()) as u32;

fn up(duo: &TwoControllers) -> [bool; 2] {
    duo.controllers.each_ref().map(|controller| controller.status().interlink.up)
}

#[test]
fn a_change_that_the_peer_never_applies_ends_the_meeting_and_main_goes_on_alone() {
    for seed in 0..20 {
        let mut duo = TwoControllers::met(seed);
        duo.hold_bridges(true);
        duo.ask(0, 1, write(0, BLOCKS, 5));
        duo.settle(DEADLINE - 20);
        assert_eq!(up(&duo), [true; 2], "seed {seed}: it may still come");
        assert!(duo.answers(0).is_empty(), "seed {seed}");
        duo.settle(60);
        assert_eq!(duo.answers(0), [(1, GOOD)], "seed {seed}");
        assert_eq!(duo.controllers[0].status().luns[0].status, PairStatus::Suspended, "seed {seed}");
    }
}

#[test]
fn a_forwarded_change_that_main_never_handles_ends_the_meeting_and_its_host_hears_of_it() {
    for seed in 0..20 {
        let mut duo = TwoControllers::met(seed);
        duo.hold_bridges(true);
        duo.ask(1, 1, write(0, BLOCKS, 5));
        duo.settle(DEADLINE - 20);
        assert_eq!(up(&duo), [true; 2], "seed {seed}: it may still come");
        duo.settle(60);
        assert!(matches!(duo.answers(1)[..], [(1, Outcome::Check(_))]), "seed {seed}");
        assert_eq!(up(&duo), [false; 2], "seed {seed}");
    }
}

#[test]
fn a_peer_that_gets_on_slowly_is_not_parted_from() {
    let mut duo = TwoControllers::met(3);
    for tag in 1..=10 {
        duo.hold_bridges(true);
        duo.ask(0, tag, write(u64::from(tag), 1, 5));
        duo.settle(DEADLINE / 2);
        duo.hold_bridges(false);
        duo.settle(1);
        assert_eq!(duo.answers(0), [(tag, GOOD)]);
        assert_eq!(up(&duo), [true; 2]);
    }
}

mod events {
    use crate::command::{Op, Outcome};
    use crate::reservation::asked;
    use crate::testing::{TwoControllers, range};
    use protocol::scsi::persistent_reservation::{Kind, OutAction, ReserveOut};

    fn registers() -> ReserveOut {
        ReserveOut { aptpl: true, ..asked::out(OutAction::Register, (0, 7), Kind::ExclusiveAccess) }
    }

    /// An event on its way to the sub, which never says that it has it.
    fn never_taken(bridges: bool) {
        let mut duo = TwoControllers::new(1, true);
        duo.connect();
        duo.settle(1);
        duo.log_in(0, 1, "host0");
        duo.log_in(0, 2, "other");
        duo.hold_shared(Some(1).filter(|_| !bridges));
        duo.hold_bridges(bridges);
        duo.event(0, 1, 1, asked::event(registers()));
        // 30 s, three times the deadline of a leg.
        duo.settle(600);
        // The first hears that the access states have changed.
        duo.ask_of(0, crate::command::NexusId(2), 3, Op::Read { range: range(0, 1) });
        duo.settle(100);
        duo.answers(0);
        duo.ask_of(0, crate::command::NexusId(2), 2, Op::Read { range: range(0, 1) });
        duo.settle(100);
        let answers = duo.answers(0);
        assert!(
            matches!(answers[..], [(2, Outcome::Good(_))]),
            "30 s later every command of every host is {answers:?}: {:?}",
            duo.controllers[0].status().luns[0]
        );
    }

    /// The sub's state folder takes nothing any more (its file system went read-only, or hangs). Its volumes are on
    /// devices and well, and so is everything of main.
    #[test]
    fn an_event_that_the_subs_state_folder_never_takes_ends_the_meeting() {
        never_taken(false);
    }

    /// What was taken from the line is never handled, as in the tests above.
    #[test]
    fn an_event_that_the_sub_never_handles_ends_the_meeting() {
        never_taken(true);
    }

    #[test]
    fn control_an_event_that_is_taken_is_answered() {
        let mut duo = TwoControllers::new(1, true);
        duo.connect();
        duo.settle(1);
        duo.log_in(0, 1, "host0");
        duo.event(0, 1, 1, asked::event(registers()));
        duo.settle(4);
        assert_eq!(duo.answers(0), [(1, Outcome::Good(Vec::new()))]);
    }
}

#[test]
fn a_slow_disk_of_the_sub_does_not_part_the_two_and_harm_other_luns() {
    let mut duo = TwoControllers::two_luns(1, 64);
    duo.connect();
    duo.settle(4);
    duo.stall_disk(1);
    let op = Op::WriteAtomic { range: range(0, 4), data: blocks_of(5, 4), fua: true };
    duo.ask(0, 1, op);
    while duo.step() {}
    for at in 0..8 {
        duo.settle(54);
        let status = duo.controllers[0].status();
        let answers = duo.answers(0);
        assert!(
            status.interlink.up,
            "after {at} answers of the disk: {:?}, {answers:?}, {:?}",
            status.interlink.reason,
            status.luns.iter().map(|lun| (lun.status, lun.serving, lun.reason.clone())).collect::<Vec<_>>()
        );
        if !answers.is_empty() {
            return;
        }
        duo.resume_disk(1);
        assert!(duo.step());
        duo.stall_disk(1);
    }
}

#[test]
fn no_host_waits_ten_seconds_for_a_disk_that_is_slow_but_not_silent() {
    let mut duo = TwoControllers::met(1);
    let own = |duo: &mut TwoControllers| {
        duo.resume_disk(0);
        assert!(duo.step());
        duo.stall_disk(0);
    };
    duo.stall_disk(0);
    let begun = duo.now();
    let op = Op::WriteAtomic { range: range(0, 4), data: blocks_of(5, 4), fua: true };
    duo.ask(0, 1, op);
    while duo.step() {}
    for _ in 0..12 {
        duo.settle(54);
        if !duo.answers(0).is_empty() {
            break;
        }
        own(&mut duo);
    }
    let waited = duo.now().since(begun);
    assert!(waited.as_secs() < 10, "a host was kept for {waited:?}: {:?}", duo.statuses());
}
