//! What people are told where the two machines' configurations differ in what parts nobody.

use crate::disk::DiskError;
use crate::pair::PairStatus;
use crate::plan::TOLD;
use crate::testing::{BLOCKS, TwoControllers, write};
use crate::volume::superblock::VolumeFound;

fn notes(duo: &TwoControllers) -> [Vec<String>; 2] {
    [0, 1].map(|side| duo.controllers[side].status().notes)
}

/// Two that have met, with these keys beside those of their LUN.
fn met(seed: u64, shared: [&[(&str, &str)]; 2]) -> TwoControllers {
    let mut duo = TwoControllers::configured(seed, shared);
    duo.connect();
    duo.settle(30);
    duo
}

#[test]
fn what_differs_and_parts_nobody_is_told_the_same_on_both_while_the_pair_is_whole() {
    let key = format!("{TOLD}access.host.iqn.a");
    let only = format!("{TOLD}access.host.iqn.b");
    let open = format!("{TOLD}access.open");
    let duo =
        met(51, [&[(&key, "LUN 0"), (&open, "false")], &[(&key, "LUN 1"), (&open, "false"), (&only, "all")]]);
    let [alpha, beta] = notes(&duo);
    assert_eq!(alpha, beta);
    let text = &alpha[0];
    for part in [
        "`access.host.iqn.a`: LUN 0 on alpha, LUN 1 on beta",
        "`access.host.iqn.b`: not there on alpha, all on beta",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("access.open") && !text.contains(TOLD), "{text}");
    for side in 0..2 {
        let status = duo.controllers[side].status();
        assert!(status.interlink.up && status.luns[0].status == PairStatus::Duplex, "{status:?}");
        let said = status.peer_said.unwrap();
        assert_eq!(said.notes, alpha, "the other machine hears of it");
    }
}

#[test]
fn a_release_that_tells_nothing_of_it_differs_in_nothing() {
    let open = format!("{TOLD}access.open");
    assert_eq!(notes(&met(52, [&[(&open, "true")], &[]])), [Vec::<String>::new(), Vec::new()]);
}

#[test]
fn a_lun_that_one_machine_alone_has_is_named_on_both() {
    let duo = met(53, [&[], &[("lun.extra.number", "7"), ("lun.extra.main", "alpha")]]);
    let [alpha, _] = notes(&duo);
    assert!(
        alpha[0].contains("LUN 7 extra: beta was started with it in its appliance.toml, alpha without it"),
        "{alpha:?}"
    );
}

/// What a controller says of the LUN.
fn reason(duo: &TwoControllers, side: usize) -> String {
    duo.controllers[side].status().luns[0].reason.clone().unwrap_or_default()
}

const NOTHING_LOST: &str = "Nothing acknowledged is lost";

#[test]
fn that_nothing_is_lost_is_said_only_while_it_is_certain() {
    let mut duo = TwoControllers::new(54, true);
    duo.connect();
    duo.settle(2);
    duo.break_disk(1, DiskError::Io);
    duo.ask(0, 1, write(0, 8, 5));
    duo.settle(20);
    assert!(reason(&duo, 1).contains(NOTHING_LOST), "main has all of it: {}", reason(&duo, 1));
    duo.cut();
    duo.settle(2);
    let apart = reason(&duo, 1);
    assert!(!apart.contains(NOTHING_LOST) && apart.contains("shows when the two meet"), "{apart}");
    let mut duo = TwoControllers::new(55, true);
    duo.connect();
    duo.settle(2);
    duo.cut();
    duo.settle(2);
    let sub = reason(&duo, 1);
    assert!(!sub.contains(NOTHING_LOST) && sub.contains("acknowledged before is on both copies"), "{sub}");
    let duo = duo.crash(56, true);
    for side in 0..2 {
        assert!(!reason(&duo, side).contains(NOTHING_LOST), "{}", reason(&duo, side));
    }
}

#[test]
fn a_volume_that_is_gone_is_named_with_where_the_other_copy_is() {
    let mut duo = TwoControllers::new(57, true);
    duo.connect();
    duo.settle(2);
    let duo = duo.crash_and(58, true, |side, restored| {
        if side == 0 {
            restored.volumes = vec![VolumeFound::Missing];
        }
    });
    let gone = reason(&duo, 0);
    assert!(gone.contains("the volume on alpha is gone") && gone.contains("beta has a copy"), "{gone}");
    assert!(!reason(&duo, 1).contains("gone"), "{}", reason(&duo, 1));
}

#[test]
fn another_size_in_the_file_is_told_while_the_lun_is_served_with_its_own() {
    let mut duo = TwoControllers::new(59, true);
    duo.connect();
    duo.settle(2);
    let mut duo = duo.crash_resized(60, 2 * BLOCKS);
    duo.connect();
    duo.settle(20);
    for side in 0..2 {
        let lun = duo.controllers[side].status().luns.remove(0);
        assert!(lun.serving, "{lun:?}");
        assert!(lun.reason.is_some_and(|reason| reason.contains("a LUN keeps the size it was made with")));
    }
}

#[test]
fn a_peer_whose_machine_answers_and_that_says_nothing_is_told_apart() {
    let mut duo = TwoControllers::new(61, true);
    duo.connect();
    duo.settle(2);
    duo.cut();
    duo.settle(1);
    let mute = |duo: &TwoControllers| duo.controllers[0].status().interlink.mute;
    assert!(!mute(&duo));
    duo.controllers[0].on_link_refused(crate::appliance::LinkRefusal::Mute);
    duo.settle(1);
    assert!(mute(&duo));
    duo.connect();
    duo.settle(4);
    assert!(!mute(&duo), "it speaks");
}
