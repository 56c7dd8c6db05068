//! What comes before a clean end: the other controller becomes main of what this one is main of, and both put on their
//! disks what they have, while hosts go on. So the end itself, for which hosts of the other wait, has little to do.
//!
//! ```text
//!  this controller, which shall end         the other
//!   │ LEAVING ──────────────────────────────►│ flushes; gives nothing back from now on
//!   │ flushes; a switch for each group       │
//!   │   that it is main of                   │
//!   │◄───────────────────────── TAKES OVER   │ has flushed
//!   │ main of nothing, flushed: GOODBYE      │
//! ```
//!
//! A pair that is not DUPLEX has nobody to be handed to: it ends as it is. So does all if the other shall end as well,
//! if the two lose each other, or if it takes too long.
//!
//! What always holds: a controller says that it takes over once, and only to one that leaves.

use core::time::Duration;

use crate::time::Time;

/// What has not been handed over by then ends as it is.
pub(super) const HAND_OVER_MAX: Duration = Duration::from_secs(8);

/// How far it has come on this controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum HandOver {
    /// Nobody leaves.
    #[default]
    None,
    /// This controller does.
    Leaves {
        /// Since when.
        since: Time,
        /// So many of its volumes are being flushed.
        flushes: u32,
        /// The other has flushed its own.
        taken: bool,
    },
    /// It has lost the other meanwhile.
    Lost,
    /// The other leaves.
    PeerLeaves {
        /// So many volumes of this controller are being flushed.
        flushes: u32,
    },
    /// The other leaves, and knows that this controller is ready.
    Ready,
}

impl HandOver {
    /// This controller shall end; so many of its volumes are being flushed.
    pub(super) const fn leaves(since: Time, flushes: u32) -> Self {
        Self::Leaves { since, flushes, taken: false }
    }

    /// The other does; so many volumes of this controller are being flushed. Whether it is to hear at once that this
    /// controller is ready.
    pub(super) const fn peer_leaves(flushes: u32) -> (Self, bool) {
        match flushes {
            0 => (Self::Ready, true),
            _ => (Self::PeerLeaves { flushes }, false),
        }
    }

    /// Whether this controller is handing over.
    pub(super) const fn is_under_way(self) -> bool {
        matches!(self, Self::Leaves { .. } | Self::Lost)
    }

    /// Whether the other leaves: nothing is given back to it.
    pub(super) const fn is_of_peer(self) -> bool {
        matches!(self, Self::PeerLeaves { .. } | Self::Ready)
    }

    /// A volume was flushed, or could not be: then the end finds that out. Whether the other is to hear that this
    /// controller is ready.
    pub(super) const fn on_flushed(self) -> (Self, bool) {
        match self {
            Self::Leaves { since, flushes, taken } => {
                (Self::Leaves { since, flushes: flushes.saturating_sub(1), taken }, false)
            }
            Self::PeerLeaves { flushes } => Self::peer_leaves(flushes.saturating_sub(1)),
            other => (other, false),
        }
    }

    /// The other is ready.
    pub(super) const fn on_taken_over(self) -> Self {
        match self {
            Self::Leaves { since, flushes, .. } => Self::Leaves { since, flushes, taken: true },
            other => other,
        }
    }

    /// The two have lost each other.
    pub(super) const fn on_lost(self) -> Self {
        match self {
            Self::Leaves { .. } | Self::Lost => Self::Lost,
            Self::None | Self::PeerLeaves { .. } | Self::Ready => Self::None,
        }
    }

    /// Whether the end may begin. `main`: this controller is still main of something that can be handed over.
    pub(super) fn is_over(self, now: Time, main: bool) -> bool {
        match self {
            Self::Leaves { since, flushes, taken } => {
                (flushes == 0 && taken && !main) || now.since(since) >= HAND_OVER_MAX
            }
            Self::Lost => true,
            Self::None | Self::PeerLeaves { .. } | Self::Ready => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Time = Time(1_000_000_000);

    #[test]
    fn the_end_begins_when_this_controller_is_main_of_nothing_and_both_have_flushed() {
        let mut hand_over = HandOver::leaves(AT, 2);
        assert!(hand_over.is_under_way() && !hand_over.is_over(AT, false));
        hand_over = hand_over.on_taken_over();
        for left in [2, 1] {
            assert!(!hand_over.is_over(AT, false), "{left} volumes are being flushed");
            let (next, says) = hand_over.on_flushed();
            assert!(!says, "it is the one that leaves");
            hand_over = next;
        }
        assert!(!hand_over.is_over(AT, true) && hand_over.is_over(AT, false));
    }

    #[test]
    fn it_waits_for_the_other_and_not_for_ever() {
        let hand_over = HandOver::leaves(AT, 0);
        assert!(!hand_over.is_over(AT + HAND_OVER_MAX - Duration::from_nanos(1), false));
        assert!(hand_over.is_over(AT + HAND_OVER_MAX, true));
    }

    #[test]
    fn the_other_hears_once_that_this_controller_is_ready() {
        assert_eq!(HandOver::peer_leaves(0), (HandOver::Ready, true));
        let (waits, says) = HandOver::peer_leaves(2);
        assert!(!says && waits.is_of_peer() && !waits.is_under_way());
        let (waits, says) = waits.on_flushed();
        assert!(!says);
        let (ready, says) = waits.on_flushed();
        assert_eq!((ready, says), (HandOver::Ready, true));
        assert_eq!(ready.on_flushed(), (HandOver::Ready, false));
    }

    #[test]
    fn who_loses_the_other_ends_as_it_is_and_who_is_left_forgets_it() {
        let lost = HandOver::leaves(AT, 3).on_lost();
        assert!(lost.is_over(AT, true) && lost.is_under_way() && lost.on_lost().is_over(AT, true));
        for other in [HandOver::None, HandOver::PeerLeaves { flushes: 1 }, HandOver::Ready] {
            assert_eq!(other.on_lost(), HandOver::None);
            assert!(!other.is_over(AT + HAND_OVER_MAX, false), "this controller does not end");
        }
    }
}
