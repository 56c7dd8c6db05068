//! Meeting, parting and meeting again.

use crate::command::{Op, Outcome};
use crate::disk::DiskError;
use crate::duo::{BLOCKS, Duo, blocks_of, range, write};
use crate::status::{PairStatus, Role};
use protocol::scsi::sense::Sense;

fn statuses(duo: &Duo) -> [(PairStatus, Role, bool); 2] {
    duo.controllers.each_ref().map(|controller| {
        let lun = controller.status().luns.remove(0);
        (lun.status, lun.role, lun.serving)
    })
}

fn met(seed: u64, mirror: bool) -> Duo {
    let mut duo = Duo::new(seed, mirror);
    duo.connect();
    duo.settle(1);
    duo
}

const DUPLEX: [(PairStatus, Role, bool); 2] =
    [(PairStatus::Duplex, Role::Main, true), (PairStatus::Duplex, Role::Sub, true)];

#[test]
fn two_that_never_knew_the_lun_make_it_together_and_are_duplex_at_once() {
    for seed in 0..50 {
        let duo = met(seed, true);
        assert_eq!(
            statuses(&duo),
            DUPLEX,
            "seed {seed}: {:?}",
            duo.controllers.each_ref().map(|c| c.status().interlink)
        );
        let [alpha, beta] = duo.controllers.each_ref().map(|controller| controller.status());
        assert_eq!(alpha.appliance, beta.appliance);
        assert_eq!((&alpha.luns[0].naa, &alpha.luns[0].serial), (&beta.luns[0].naa, &beta.luns[0].serial));
        assert!(alpha.luns[0].naa.as_ref().is_some_and(|naa| naa.starts_with('3')));
    }
}

#[test]
fn before_they_meet_nothing_is_served() {
    let duo = Duo::new(1, true);
    duo.ask(0, 1, write(0, 1, 1));
    assert_eq!(duo.answers(0), [(1, Outcome::Check(Sense::UNAVAILABLE))]);
    assert!(!duo.controllers[0].serving());
}

#[test]
fn a_write_through_either_reaches_both_copies_before_good() {
    for seed in 0..50 {
        for side in 0..2 {
            let mut duo = met(seed, true);
            duo.ask(side, 7, write(3, 2, 9));
            assert!(duo.answers(side).is_empty());
            while duo.answers(side).is_empty() {
                assert!(duo.step());
            }
            for copy in 0..2 {
                assert_eq!(duo.volume(copy)[3 * 512..5 * 512], [9; 1024], "seed {seed} side {side}");
            }
        }
    }
}

#[test]
fn after_a_crash_of_both_main_is_copied_to_the_sub_and_then_they_are_duplex() {
    for seed in 0..20 {
        let mut duo = met(seed, true);
        duo.ask(0, 1, write(0, BLOCKS, 5));
        duo.settle(1);
        duo.spoil(1, 6);
        let mut duo = duo.crash(seed + 100, true);
        duo.connect();
        duo.settle(4);
        assert_eq!(statuses(&duo), DUPLEX, "seed {seed}");
        assert_eq!(duo.volume(0), duo.volume(1));
        assert_eq!(duo.volume(1)[0], 5);
    }
}

#[test]
fn after_a_clean_end_nothing_is_copied() {
    for seed in 0..20 {
        let mut duo = met(seed, true);
        duo.ask(1, 1, write(0, 4, 5));
        duo.settle(1);
        duo.controllers[1].stop();
        duo.settle(4);
        assert!(duo.controllers[1].stopped(), "seed {seed}");
        duo.cut();
        // A difference no copy would leave: if it is still there afterwards, nothing was copied.
        duo.spoil(1, 6);
        let mut duo = duo.crash(seed + 100, true);
        duo.connect();
        duo.settle(4);
        assert_eq!(statuses(&duo), DUPLEX, "seed {seed}");
        assert_eq!(duo.volume(1)[0], 6);
    }
}

#[test]
fn a_cut_interlink_answers_every_command_and_meeting_again_makes_the_copies_equal() {
    for seed in 0..200 {
        let mut duo = met(seed, true);
        for tag in 0..8 {
            duo.ask(usize::from(tag % 2 == 0), tag, write(u64::from(tag / 2), 4, tag as u8 + 1));
        }
        for _ in 0..seed % 40 {
            duo.step();
        }
        duo.cut();
        duo.settle(1);
        let answered = duo.answers(0).len() + duo.answers(1).len();
        assert!(answered <= 8);
        assert_eq!(statuses(&duo).map(|status| status.0), [PairStatus::Suspended; 2]);
        assert!(duo.controllers[0].status().luns[0].commands == 0, "seed {seed}: nothing may be left over");
        assert!(duo.controllers[1].status().luns[0].commands == 0, "seed {seed}: nothing may be left over");
        duo.connect();
        duo.settle(4);
        let report = duo.controllers.each_ref().map(|controller| controller.status());
        assert_eq!(statuses(&duo), DUPLEX, "seed {seed}: {report:?}");
        assert_eq!(duo.volume(0), duo.volume(1), "seed {seed}");
    }
}

#[test]
fn a_volume_that_went_missing_is_refilled_from_the_other_even_if_it_was_mains() {
    let mut duo = met(3, true);
    duo.ask(0, 1, write(0, BLOCKS, 5));
    duo.settle(1);
    duo.remove_volume(0);
    let mut duo = duo.crash(4, true);
    duo.connect();
    duo.settle(4);
    assert_eq!(duo.volume(0), duo.volume(1));
    assert_eq!(duo.volume(0)[0], 5);
    assert_eq!(statuses(&duo)[1].1, Role::Main, "the source's controller is main");
}

#[test]
fn a_disk_that_fails_ends_service_on_both_sides_and_no_write_is_called_good() {
    for side in 0..2 {
        let mut duo = met(5, true);
        duo.break_disk(1 - side, DiskError::Io);
        duo.ask(side, 1, write(0, 1, 5));
        duo.settle(2);
        assert_eq!(duo.answers(side), [(1, Outcome::Check(Sense::ABORTED_COMMAND))]);
        assert_eq!(statuses(&duo).map(|status| (status.0, status.2)), [(PairStatus::Suspended, false); 2]);
    }
}

#[test]
fn a_lun_without_a_copy_is_served_by_main_and_forwarded_to_by_the_other() {
    let mut duo = met(6, false);
    assert_eq!(statuses(&duo).map(|status| status.0), [PairStatus::Simplex; 2]);
    duo.ask(1, 1, write(0, 2, 5));
    duo.settle(1);
    assert_eq!(duo.answers(1), [(1, Outcome::Good(vec![]))]);
    duo.ask(1, 2, Op::Read { range: range(0, 2) });
    duo.settle(1);
    assert_eq!(duo.answers(1), [(2, Outcome::Good(blocks_of(5, 2)))]);
    duo.cut();
    duo.ask(0, 3, Op::Read { range: range(0, 2) });
    duo.settle(1);
    assert_eq!(duo.answers(0), [(3, Outcome::Good(blocks_of(5, 2)))], "main goes on alone");
    duo.ask(1, 4, Op::Read { range: range(0, 2) });
    assert_eq!(duo.answers(1), [(4, Outcome::Check(Sense::UNAVAILABLE))]);
    let mut duo = duo.crash(7, false);
    duo.ask(0, 5, Op::Read { range: range(0, 2) });
    duo.settle(1);
    assert_eq!(duo.answers(0), [(5, Outcome::Good(blocks_of(5, 2)))], "and serves again without its peer");
}

#[test]
fn a_silent_peer_is_taken_for_lost() {
    let mut duo = met(8, true);
    let now = core::time::Duration::from_secs(3);
    for _ in 0..now.as_millis() / 50 {
        // Time passes for alpha alone; nothing beta says arrives.
        duo.controllers[0].on_tick();
        duo.advance();
    }
    assert_eq!(statuses(&duo)[0].0, PairStatus::Suspended);
    assert!(duo.controllers[0].status().interlink.reason.is_some_and(|reason| reason.contains("silent")));
}
