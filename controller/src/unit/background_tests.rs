//! Many LUNs that all have to be copied at the same time.

use crate::background::{BACKGROUND_LUNS_MAX, Place, Work};
use crate::pair::PairStatus;
use crate::testing::TwoControllers;

const LUNS: u16 = BACKGROUND_LUNS_MAX as u16 + 4;

/// Blocks of each: some pieces of a copy.
const BLOCKS: u64 = 10_000;

fn statuses(duo: &TwoControllers) -> Vec<PairStatus> {
    duo.controllers[0].status().luns.into_iter().map(|lun| lun.status).collect()
}

/// How many LUNs of alpha stand there.
fn standing(duo: &TwoControllers, place: Place) -> usize {
    duo.controllers[0].luns.iter().filter(|lun| lun.background_place() == place).count()
}

/// All LUNs have been served by alpha alone, and beta is back.
fn to_be_copied(seed: u64) -> TwoControllers {
    let mut duo = TwoControllers::many_luns(seed, BLOCKS, LUNS);
    duo.connect();
    duo.settle(1);
    assert_eq!(statuses(&duo), vec![PairStatus::Duplex; usize::from(LUNS)]);
    duo.cut();
    duo.settle(30);
    duo.connect();
    while !statuses(&duo).contains(&PairStatus::Copy) {
        assert!(duo.step(), "seed {seed}");
    }
    duo
}

#[test]
fn no_more_luns_are_copied_at_once_than_may_be_and_all_are_in_the_end() {
    for seed in 0..10 {
        let mut duo = to_be_copied(seed);
        let mut most = 0;
        while duo.step() {
            let running = standing(&duo, Place::Running(Work::Copy));
            let waiting = standing(&duo, Place::Asked(Work::Copy));
            let pieces = duo.controllers[0].luns.iter().filter(|lun| lun.usage().copy_chunks > 0).count();
            assert!(pieces <= BACKGROUND_LUNS_MAX, "seed {seed}: pieces of {pieces} LUNs are under way");
            assert!(
                waiting == 0 || running == BACKGROUND_LUNS_MAX,
                "seed {seed}: {waiting} wait, {running} run"
            );
            most = most.max(running + waiting);
        }
        assert!(most > BACKGROUND_LUNS_MAX, "seed {seed}: nobody ever waited");
        duo.settle(30);
        assert_eq!(statuses(&duo), vec![PairStatus::Duplex; usize::from(LUNS)], "seed {seed}");
        assert_eq!(standing(&duo, Place::Idle), usize::from(LUNS), "seed {seed}");
    }
}

#[test]
fn a_copy_that_ends_with_the_peer_gives_its_place_up() {
    let mut duo = to_be_copied(1);
    while standing(&duo, Place::Asked(Work::Copy)) == 0 {
        assert!(duo.step());
    }
    duo.cut();
    duo.settle(30);
    assert_eq!(standing(&duo, Place::Idle), usize::from(LUNS));
    duo.connect();
    duo.settle(60);
    assert_eq!(statuses(&duo), vec![PairStatus::Duplex; usize::from(LUNS)]);
}
