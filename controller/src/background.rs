//! Whose turn it is to work in the background. Copies and sanitize operations of all LUNs of a controller stand in one
//! queue, and so many of them run at once: those of a thousand LUNs would otherwise share the disks and the interlink
//! with the hosts a thousand to one, and none would end soon.
//!
//! ```text
//!          it has work              its turn has come
//!   Idle ─────────────► Asked(work) ────────────────► Running(work)
//!    ▲                   ▲  │                            │   │
//!    │                   │  │                            │   │ its work is another
//!    │                   └──┼────────────────────────────┼───┘
//!    └──────────────────────┴────────────────────────────┘ it has none
//! ```
//!
//! A LUN keeps its own place ([`Place`]) and has the queue look whenever what it has to do begins, ends or is another.
//! The queue looks later, perhaps after more has happened, and goes by what the LUN has to do then.
//!
//! A copy goes before a sanitize operation: until it ends there is one copy less. Sanitize operations, which take
//! hours, never have all places. Among equals the one that asked first goes first. Work that rests (a disk that does
//! not do what a copy needs) gives its place up and asks anew.
//!
//! What always holds: no LUN stands in the queue twice; nobody waits while a place is free for its work.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::LunIndex;
use crate::status::{LimitStatus, counted};

/// LUNs whose background work runs at once.
pub const BACKGROUND_LUNS_MAX: usize = 8;

/// Those of them that sanitize.
const SANITIZING_LUNS: usize = BACKGROUND_LUNS_MAX / 2;

/// What a LUN has to do in the background. The order is that in which they come to their turn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Work {
    /// Its blocks are to be copied to the peer.
    Copy,
    /// A sanitize operation is under way.
    Sanitize,
}

/// Where a LUN stands in the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Place {
    /// Not in it.
    #[default]
    Idle,
    /// It has asked for a turn to do this.
    Asked(Work),
    /// It may start pieces of this.
    Running(Work),
}

impl Place {
    /// What the LUN has to do has changed, or not. Whether the queue has to look.
    #[must_use]
    pub fn on_work(&mut self, work: Option<Work>) -> bool {
        let known = match *self {
            Self::Idle => None,
            Self::Asked(work) | Self::Running(work) => Some(work),
        };
        if known != work {
            *self = work.map_or(Self::Idle, Self::Asked);
        }
        known != work
    }

    /// The turn to do this has come. It may have come for what the LUN had to do before: the queue hears of that and
    /// looks again.
    pub fn on_turn(&mut self, work: Work) {
        if *self == Self::Asked(work) {
            *self = Self::Running(work);
        }
    }

    /// Whether pieces may start.
    #[must_use]
    pub const fn may_start(self) -> bool {
        matches!(self, Self::Running(_))
    }
}

/// The queue.
#[derive(Debug, Default)]
pub struct Background {
    running: BTreeMap<u16, Work>,
    /// By what they have to do, then in the order in which they asked.
    waiting: BTreeSet<(Work, u64, u16)>,
    /// How many have asked so far.
    asked: u64,
    /// The most that ever ran at once.
    peak: usize,
}

impl Background {
    /// What a LUN has to do now, if anything: it may be the same as before. Whose turn it is by that, of this LUN and
    /// of others that waited, and for what.
    #[must_use]
    pub fn look(&mut self, lun: LunIndex, work: Option<Work>) -> Vec<(LunIndex, Work)> {
        match (self.place(lun), work) {
            // It may have left and asked anew since the queue last looked: it has its turn still.
            (Place::Running(known), Some(work)) if known == work => return vec![(lun, work)],
            (Place::Asked(known), Some(work)) if known == work => return Vec::new(),
            _ => {}
        }
        self.running.remove(&lun.0);
        self.waiting.retain(|(_, _, waits)| *waits != lun.0);
        if let Some(work) = work {
            self.asked += 1;
            self.waiting.insert((work, self.asked, lun.0));
        }
        core::iter::from_fn(|| self.let_in()).collect()
    }

    /// The next that waits, if there is a place for what it has to do.
    fn let_in(&mut self) -> Option<(LunIndex, Work)> {
        let next = *self.waiting.iter().find(|(work, _, _)| self.has_place(*work))?;
        self.waiting.remove(&next);
        let (work, _, lun) = next;
        self.running.insert(lun, work);
        self.peak = self.peak.max(self.running.len());
        Some((LunIndex(lun), work))
    }

    fn has_place(&self, work: Work) -> bool {
        let sanitizing = self.running.values().filter(|work| **work == Work::Sanitize).count();
        self.running.len() < BACKGROUND_LUNS_MAX && (work == Work::Copy || sanitizing < SANITIZING_LUNS)
    }

    /// Where a LUN stands.
    #[must_use]
    pub fn place(&self, lun: LunIndex) -> Place {
        if let Some(work) = self.running.get(&lun.0) {
            return Place::Running(*work);
        }
        let waits = self.waiting.iter().find(|(_, _, waits)| *waits == lun.0);
        waits.map_or(Place::Idle, |(work, _, _)| Place::Asked(*work))
    }

    /// What is used of its bound.
    #[must_use]
    pub fn limit(&self) -> LimitStatus {
        let (max, used, peak) = (BACKGROUND_LUNS_MAX as u64, self.running.len() as u64, self.peak as u64);
        counted("BACKGROUND_LUNS_MAX", "LUNs", max, used, Some(peak))
    }

    /// Looks whether what always holds does.
    ///
    /// # Panics
    ///
    /// If something does not hold.
    pub fn check(&self) {
        assert!(self.running.len() <= BACKGROUND_LUNS_MAX, "{} LUNs run at once", self.running.len());
        let overlooked = self.waiting.iter().find(|(work, _, _)| self.has_place(*work));
        assert_eq!(overlooked, None, "a place is free, and it waits");
        let waiting: BTreeSet<u16> = self.waiting.iter().map(|(_, _, lun)| *lun).collect();
        assert_eq!(waiting.len(), self.waiting.len(), "a LUN waits twice: {:?}", self.waiting);
        assert!(!waiting.iter().any(|lun| self.running.contains_key(lun)), "a LUN runs and waits");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn look_at(background: &mut Background, lun: u16, work: Option<Work>) -> Vec<u16> {
        background.look(LunIndex(lun), work).into_iter().map(|(lun, _)| lun.0).collect()
    }

    const FULL: u16 = BACKGROUND_LUNS_MAX as u16;
    const COPY: Option<Work> = Some(Work::Copy);
    const SANITIZE: Option<Work> = Some(Work::Sanitize);

    #[test]
    fn so_many_run_at_once_and_the_others_in_their_order() {
        let mut background = Background::default();
        for lun in 0..FULL {
            assert_eq!(look_at(&mut background, lun, COPY), [lun]);
            assert_eq!(look_at(&mut background, lun, COPY), [lun], "it runs already");
        }
        for (lun, work) in [(20, SANITIZE), (21, COPY), (22, COPY), (23, COPY)] {
            assert_eq!(look_at(&mut background, lun, work), []);
        }
        assert_eq!(look_at(&mut background, 22, None), [], "it wants no more, and kept nobody waiting");
        assert_eq!(look_at(&mut background, 3, None), [21], "a copy goes first");
        assert_eq!(look_at(&mut background, 21, None), [23]);
        assert_eq!(look_at(&mut background, 0, None), [20]);
        assert_eq!(look_at(&mut background, 1, None), [], "nobody waits");
        assert_eq!(look_at(&mut background, 3, COPY), [3]);
    }

    #[test]
    fn a_copy_never_waits_for_sanitize_operations() {
        let mut background = Background::default();
        for lun in 0..FULL {
            let turns = look_at(&mut background, lun, SANITIZE);
            assert_eq!(turns.len(), usize::from(usize::from(lun) < SANITIZING_LUNS), "LUN {lun}");
        }
        assert_eq!(look_at(&mut background, 20, COPY), [20]);
        assert_eq!(
            look_at(&mut background, 0, COPY),
            [0, SANITIZING_LUNS as u16],
            "its own work is another now"
        );
    }

    #[test]
    fn a_turn_for_work_of_before_is_not_one_for_other_work() {
        let (mut background, mut luns): (Background, Luns) = Default::default();
        let mut ask = |lun: usize, work, looks: bool| {
            luns[lun].0 = work;
            assert!(luns[lun].1.on_work(work));
            if looks {
                look(&mut background, &mut luns, lun as u16);
            }
            luns[lun].1
        };
        for lun in 0..usize::from(FULL) {
            ask(lun, if lun < SANITIZING_LUNS { SANITIZE } else { COPY }, true);
        }
        let waits = usize::from(FULL);
        assert_eq!(ask(waits, COPY, true), Place::Asked(Work::Copy));
        ask(waits, SANITIZE, false);
        ask(waits - 1, None, true);
        assert_eq!(luns[waits].1, Place::Asked(Work::Sanitize), "its turn was to copy");
        look(&mut background, &mut luns, FULL);
        assert_eq!(luns[waits].1, background.place(LunIndex(FULL)), "the others sanitize");
    }

    #[test]
    fn every_place_meets_every_event() {
        use Place::{Asked, Idle, Running};
        use Work::{Copy, Sanitize};
        for (place, work, after) in [
            (Idle, None, Idle),
            (Idle, COPY, Asked(Copy)),
            (Idle, SANITIZE, Asked(Sanitize)),
            (Asked(Copy), COPY, Asked(Copy)),
            (Asked(Copy), SANITIZE, Asked(Sanitize)),
            (Asked(Copy), None, Idle),
            (Running(Copy), COPY, Running(Copy)),
            (Running(Copy), SANITIZE, Asked(Sanitize)),
            (Running(Copy), None, Idle),
        ] {
            let mut now = place;
            assert_eq!((now.on_work(work), now), (place != after, after), "{place:?} {work:?}");
        }
        for (place, after) in [
            (Idle, Idle),
            (Asked(Copy), Running(Copy)),
            (Asked(Sanitize), Asked(Sanitize)),
            (Running(Copy), Running(Copy)),
            (Running(Sanitize), Running(Sanitize)),
        ] {
            let mut now = place;
            now.on_turn(Copy);
            assert_eq!((now, now.may_start()), (after, matches!(after, Running(_))));
        }
    }

    /// The LUNs as they see themselves: what each has to do, and where it takes itself to stand.
    type Luns = [(Option<Work>, Place); 12];

    /// The queue looks at a LUN, some time after it asked for that.
    fn look(background: &mut Background, luns: &mut Luns, lun: u16) {
        for (turn, work) in background.look(LunIndex(lun), luns[usize::from(lun)].0) {
            luns[usize::from(turn.0)].1.on_turn(work);
        }
    }

    proptest! {
        #[test]
        fn however_late_the_queue_looks_it_and_the_luns_agree_in_the_end(
            events in prop::collection::vec((0_u16..12, prop::option::of(any::<bool>()), 0_usize..3), 0..200)
        ) {
            let mut background = Background::default();
            let mut luns: Luns = [(None, Place::Idle); 12];
            let mut asked = Vec::new();
            for (lun, work, looks) in events {
                let (now, place) = &mut luns[usize::from(lun)];
                *now = work.map(|copies| if copies { Work::Copy } else { Work::Sanitize });
                if place.on_work(*now) {
                    asked.push(lun);
                }
                for lun in asked.split_off(asked.len().saturating_sub(looks)) {
                    look(&mut background, &mut luns, lun);
                    background.check();
                }
            }
            for lun in asked {
                look(&mut background, &mut luns, lun);
            }
            for lun in 0..12 {
                prop_assert_eq!(luns[usize::from(lun)].1, background.place(LunIndex(lun)), "LUN {}", lun);
            }
            // Who has its turn ends: so all come to theirs.
            while let Some(lun) = (0..12).find(|lun| luns[usize::from(*lun)].1.may_start()) {
                let (work, place) = &mut luns[usize::from(lun)];
                *work = None;
                prop_assert!(place.on_work(None));
                look(&mut background, &mut luns, lun);
            }
            prop_assert!(luns.iter().all(|lun| *lun == (None, Place::Idle)), "{luns:?}");
        }
    }
}
