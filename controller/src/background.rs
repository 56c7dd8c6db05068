//! Whose turn it is to work in the background. Copies and sanitize operations of all LUNs of a controller stand in one
//! queue, and so many of them run at once: those of a thousand LUNs would otherwise share the disks and the interlink
//! with the hosts a thousand to one, and none would end soon.
//!
//! ```text
//!        it has work, a place is free        it has none
//!   idle ───────────────────────────► running ───────────► idle
//!     │ it has work, none is free        ▲        │
//!     └────────────► waiting ────────────┘        └─► the next that waits runs
//!                       │ it has none
//!                       └────────────────────────────────► idle
//! ```
//!
//! A LUN keeps its own place ([`Place`]) and has the queue look whenever what it has to do begins or ends. The queue
//! looks later, perhaps after more has happened, and goes by what the LUN has to do then.
//!
//! A copy goes before a sanitize operation: until it ends there is one copy less. Among equals the one that asked first
//! goes first. Work that rests (a disk that does not do what a copy needs) gives its place up and asks anew.
//!
//! What always holds: no LUN stands in the queue twice; nobody waits while a place is free.

use std::collections::BTreeSet;

use crate::command::LunIndex;
use crate::status::{LimitStatus, counted};

/// LUNs whose background work runs at once.
pub const BACKGROUND_LUNS_MAX: usize = 8;

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
    /// It has asked.
    Asked,
    /// It may start pieces.
    Running,
}

impl Place {
    /// What the LUN has to do has changed, or not. Whether the queue has to look.
    #[must_use]
    pub const fn on_work(&mut self, work: Option<Work>) -> bool {
        match (*self, work) {
            (Self::Idle, Some(_)) => *self = Self::Asked,
            (Self::Asked | Self::Running, None) => *self = Self::Idle,
            (Self::Idle, None) | (Self::Asked | Self::Running, Some(_)) => return false,
        }
        true
    }

    /// Its turn has come.
    pub const fn on_turn(&mut self) {
        if let Self::Asked = self {
            *self = Self::Running;
        }
    }

    /// Whether pieces may start.
    pub const fn may_start(self) -> bool {
        matches!(self, Self::Running)
    }
}

/// The queue.
#[derive(Debug, Default)]
pub struct Background {
    running: BTreeSet<u16>,
    /// By what they have to do, then in the order in which they asked.
    waiting: BTreeSet<(Work, u64, u16)>,
    /// How many have asked so far.
    asked: u64,
    /// The most that ever ran at once.
    peak: usize,
}

impl Background {
    /// What a LUN has to do now, if anything: it may be the same as before. Whose turn has come by it, of this LUN or
    /// of another that waited.
    #[must_use]
    pub fn look(&mut self, lun: LunIndex, work: Option<Work>) -> Option<LunIndex> {
        match work {
            // It may have left and asked anew since the queue last looked: it has its turn still.
            Some(_) if self.running.contains(&lun.0) => Some(lun),
            Some(_) if self.place(lun) == Place::Asked => None,
            Some(_) if self.running.len() < BACKGROUND_LUNS_MAX => {
                self.run(lun.0);
                Some(lun)
            }
            Some(work) => {
                self.asked += 1;
                self.waiting.insert((work, self.asked, lun.0));
                None
            }
            None => self.over(lun),
        }
    }

    /// A LUN has nothing to do any more, whether it ran or waited.
    fn over(&mut self, lun: LunIndex) -> Option<LunIndex> {
        self.waiting.retain(|(_, _, waits)| *waits != lun.0);
        if !self.running.remove(&lun.0) {
            return None;
        }
        let (_, _, next) = self.waiting.pop_first()?;
        self.run(next);
        Some(LunIndex(next))
    }

    fn run(&mut self, lun: u16) {
        self.running.insert(lun);
        self.peak = self.peak.max(self.running.len());
    }

    /// Where a LUN stands.
    #[must_use]
    pub fn place(&self, lun: LunIndex) -> Place {
        if self.running.contains(&lun.0) {
            Place::Running
        } else if self.waiting.iter().any(|(_, _, waits)| *waits == lun.0) {
            Place::Asked
        } else {
            Place::Idle
        }
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
        let free = self.running.len() < BACKGROUND_LUNS_MAX;
        assert!(!free || self.waiting.is_empty(), "a place is free, and {:?} wait", self.waiting);
        let waiting: BTreeSet<u16> = self.waiting.iter().map(|(_, _, lun)| *lun).collect();
        assert_eq!(waiting.len(), self.waiting.len(), "a LUN waits twice: {:?}", self.waiting);
        assert!(waiting.is_disjoint(&self.running), "a LUN runs and waits");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn so_many_run_at_once_and_the_others_in_their_order_copies_first() {
        let mut background = Background::default();
        let full = BACKGROUND_LUNS_MAX as u16;
        for lun in (0..full).map(LunIndex) {
            assert_eq!(background.look(lun, Some(Work::Sanitize)), Some(lun));
            assert_eq!(background.look(lun, Some(Work::Sanitize)), Some(lun), "it runs already");
        }
        for (lun, work) in [(20, Work::Sanitize), (21, Work::Copy), (22, Work::Copy), (23, Work::Copy)] {
            assert_eq!(background.look(LunIndex(lun), Some(work)), None);
        }
        assert_eq!(
            background.look(LunIndex(22), None),
            None,
            "it wants no more, and nobody was kept waiting by it"
        );
        assert_eq!(background.look(LunIndex(3), None), Some(LunIndex(21)));
        assert_eq!(background.look(LunIndex(21), None), Some(LunIndex(23)));
        assert_eq!(background.look(LunIndex(0), None), Some(LunIndex(20)));
        assert_eq!(background.look(LunIndex(1), None), None, "nobody waits");
        assert_eq!(background.look(LunIndex(3), Some(Work::Sanitize)), Some(LunIndex(3)));
    }

    #[test]
    fn every_place_meets_every_event() {
        use Place::{Asked, Idle, Running};
        let copy = Some(Work::Copy);
        for (place, work, after, told) in [
            (Idle, None, Idle, false),
            (Idle, copy, Asked, true),
            (Idle, Some(Work::Sanitize), Asked, true),
            (Asked, copy, Asked, false),
            (Asked, None, Idle, true),
            (Running, copy, Running, false),
            (Running, Some(Work::Sanitize), Running, false),
            (Running, None, Idle, true),
        ] {
            let mut now = place;
            assert_eq!((now.on_work(work), now), (told, after), "{place:?} {work:?}");
        }
        for (place, after) in [(Idle, Idle), (Asked, Running), (Running, Running)] {
            let mut now = place;
            now.on_turn();
            assert_eq!((now, now.may_start()), (after, after == Running));
        }
    }

    /// The LUNs as they see themselves: what each has to do, and where it takes itself to stand.
    type Luns = [(Option<Work>, Place); 12];

    /// The queue looks at a LUN, some time after it asked for that.
    fn look(background: &mut Background, luns: &mut Luns, lun: u16) {
        if let Some(turn) = background.look(LunIndex(lun), luns[usize::from(lun)].0) {
            luns[usize::from(turn.0)].1.on_turn();
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
