//! What comes before a clean end: the other controller becomes main of what this one is main of, and both put on their
//! disks what they have, while hosts go on. So the end itself, for which hosts of the other wait, has little to do.
//!
//! ```text
//!  this controller, which is to end         the other
//!   │ LEAVING ──────────────────────────────►│ flushes; gives nothing back from now on
//!   │ flushes; its hosts log out             │
//!   │◄──────────────────────────────── READY │ has flushed
//!   │ a switch for each group that it is main of
//!   │ main of nothing, flushed: GOODBYE      │
//! ```
//!
//! If both are to end, neither hands anything over: each says READY when it may end, and when both have, both do. A
//! pair that is not DUPLEX has nobody to be handed to: it ends as it is. So does all if the two lose each other, or if
//! it takes too long.
//!
//! What always holds: a controller says that it is ready only to one that leaves, and once for each time that one of
//! the two says that it does.

use core::time::Duration;

use crate::time::Time;

/// What has not been handed over by then ends as it is.
pub(super) const HAND_OVER_MAX: Duration = Duration::from_secs(12);

/// A disk that has not flushed by then has failed: its copy leaves the pair, so that the end has nothing to flush
/// there.
pub(super) const EARLY_FLUSH_MAX: Duration = Duration::from_secs(8);

/// Whether this controller is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Own {
    /// It is not.
    #[default]
    Stays,
    /// It is, when its hosts have left.
    Announced,
    /// It is, since then.
    Leaves(Time),
    /// It is, and has lost the other: as it is.
    Lost,
}

/// How far a hand-over has come on this controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct HandOver {
    own: Own,
    /// The other is to end.
    peer_leaves: bool,
    /// So many volumes of this controller are being flushed, and since when.
    flushes: u32,
    flushing: Option<Time>,
    /// The other has heard that this controller is to end.
    told: bool,
    /// The other has heard that this controller is ready.
    said: bool,
    /// The other is.
    heard: bool,
}

impl HandOver {
    /// This controller is to end, when its hosts have left. True if the other is to be told: then it flushes, too.
    pub(super) fn announce(&mut self) -> bool {
        if self.own == Own::Stays {
            self.own = Own::Announced;
        }
        let tells = !self.told;
        if tells {
            (self.told, self.said) = (true, false);
        }
        tells
    }

    /// Its hosts have left, or their time is up.
    pub(super) fn leave(&mut self, now: Time) {
        if matches!(self.own, Own::Stays | Own::Announced) {
            self.own = Own::Leaves(now);
        }
    }

    /// The other is to end. True if this controller is to flush for that; one that is to end itself does already.
    pub(super) fn on_leaving(&mut self) -> bool {
        (self.peer_leaves, self.heard) = (true, false);
        self.own == Own::Stays
    }

    /// So many volumes are being flushed.
    pub(super) fn expect(&mut self, volumes: u32, now: Time) {
        self.flushes += volumes;
        self.flushing = (self.flushes > 0).then(|| self.flushing.unwrap_or(now));
    }

    /// Whether that takes too long: said once.
    pub(super) fn hangs(&mut self, now: Time) -> bool {
        let hangs =
            self.flushes > 0 && self.flushing.is_some_and(|since| now.since(since) >= EARLY_FLUSH_MAX);
        if hangs {
            self.flushing = None;
        }
        hangs
    }

    /// One was, or could not be: then the end finds that out.
    pub(super) const fn on_flushed(&mut self) {
        self.flushes = self.flushes.saturating_sub(1);
    }

    /// The other is ready.
    pub(super) const fn on_ready(&mut self) {
        self.heard = true;
    }

    /// Whether the other is to hear now that this controller is ready.
    pub(super) fn says_ready(&mut self) -> bool {
        let waits_for_hosts = self.own == Own::Announced;
        let says = self.peer_leaves && self.flushes == 0 && !waits_for_hosts && !self.said;
        self.said |= says;
        says
    }

    /// The two have lost each other.
    pub(super) fn on_lost(&mut self) {
        let own = match self.own {
            Own::Leaves(_) | Own::Lost => Own::Lost,
            // It says so again when they meet again before its hosts have left.
            Own::Stays | Own::Announced => self.own,
        };
        *self = Self { own, ..Self::default() };
    }

    /// Whether this controller is to end, and may not yet.
    pub(super) const fn is_under_way(self) -> bool {
        matches!(self.own, Own::Leaves(_) | Own::Lost)
    }

    /// Whether this controller is to end.
    pub(super) fn is_own(self) -> bool {
        self.own != Own::Stays
    }

    /// Whether its hosts are still leaving.
    pub(super) fn is_announced(self) -> bool {
        self.own == Own::Announced
    }

    /// Whether the other is to end: nothing is given back to it.
    pub(super) const fn is_of_peer(self) -> bool {
        self.peer_leaves
    }

    /// Whether the other becomes main of what this controller is main of: not before both have flushed, for a switch
    /// waits for what is in flight, and not for long.
    pub(super) const fn hands_over(self) -> bool {
        matches!(self.own, Own::Leaves(_)) && !self.peer_leaves && self.heard && self.flushes == 0
    }

    /// Whether the end may begin. `main`: this controller is still main of something that can be handed over.
    pub(super) fn is_over(self, now: Time, main: bool) -> bool {
        match self.own {
            Own::Leaves(since) => {
                let ready = self.heard && self.flushes == 0;
                let done = if self.peer_leaves { self.said } else { !main };
                (ready && done) || now.since(since) >= HAND_OVER_MAX
            }
            Own::Lost => true,
            Own::Stays | Own::Announced => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Time = Time(1_000_000_000);

    fn leaves(flushes: u32) -> HandOver {
        let mut hand_over = HandOver::default();
        assert!(hand_over.announce() && !hand_over.announce(), "it is said once");
        hand_over.expect(flushes, AT);
        assert!(!hand_over.is_under_way() && !hand_over.is_over(AT, false), "hosts are still leaving");
        hand_over.leave(AT);
        hand_over
    }

    #[test]
    fn the_end_begins_when_this_controller_is_main_of_nothing_and_both_have_flushed() {
        let mut hand_over = leaves(2);
        assert!(hand_over.is_under_way() && !hand_over.hands_over());
        hand_over.on_ready();
        for left in [2, 1] {
            let waits = !hand_over.is_over(AT, false) && !hand_over.hands_over();
            assert!(waits, "{left} volumes are being flushed");
            hand_over.on_flushed();
        }
        assert!(hand_over.hands_over());
        assert!(!hand_over.is_over(AT, true) && hand_over.is_over(AT, false));
        assert!(!hand_over.says_ready(), "nobody has asked");
    }

    #[test]
    fn it_waits_for_the_other_and_not_for_ever() {
        let hand_over = leaves(0);
        assert!(!hand_over.is_over(AT + HAND_OVER_MAX - Duration::from_nanos(1), false));
        assert!(hand_over.is_over(AT + HAND_OVER_MAX, true));
    }

    #[test]
    fn one_that_stays_says_once_that_it_is_ready_when_it_has_flushed() {
        let mut stays = HandOver::default();
        assert!(stays.on_leaving() && stays.is_of_peer() && !stays.is_own());
        stays.expect(2, AT);
        for _ in 0..2 {
            assert!(!stays.says_ready());
            stays.on_flushed();
        }
        assert!(stays.says_ready() && !stays.says_ready());
        assert!(!stays.is_over(AT + HAND_OVER_MAX, false), "it does not end");
    }

    #[test]
    fn two_that_are_to_end_hand_over_nothing_and_end_when_both_may() {
        let mut own = leaves(1);
        assert!(!own.on_leaving(), "it is flushing already");
        assert!(!own.hands_over() && !own.says_ready());
        own.on_flushed();
        assert!(own.says_ready() && !own.is_over(AT, true), "the other has not said so");
        own.on_ready();
        assert!(own.is_over(AT, true), "that it is main of something does not matter");

        let mut waits = HandOver::default();
        assert!(waits.announce() && !waits.on_leaving());
        waits.on_ready();
        assert!(!waits.says_ready() && !waits.is_over(AT, false), "its own hosts are still leaving");
        waits.leave(AT);
        assert!(waits.says_ready() && waits.is_over(AT, false));
    }

    #[test]
    fn one_that_is_to_end_after_all_says_anew_that_it_is_ready() {
        let mut late = HandOver::default();
        assert!(late.on_leaving() && late.says_ready());
        assert!(late.announce());
        late.leave(AT);
        assert!(late.says_ready());
        let mut first = leaves(0);
        first.on_ready();
        assert!(first.is_over(AT, false));
        assert!(!first.on_leaving());
        assert!(
            first.says_ready() && !first.is_over(AT, false),
            "what the other said before it was to end is old"
        );
    }

    #[test]
    fn a_flush_that_takes_too_long_is_noticed_once() {
        let mut hand_over = leaves(1);
        assert!(!hand_over.hangs(AT + EARLY_FLUSH_MAX - Duration::from_nanos(1)));
        assert!(hand_over.hangs(AT + EARLY_FLUSH_MAX) && !hand_over.hangs(AT + EARLY_FLUSH_MAX));
        let mut flushed = leaves(1);
        flushed.on_flushed();
        assert!(!flushed.hangs(AT + EARLY_FLUSH_MAX));
    }

    #[test]
    fn who_waits_for_hosts_and_loses_the_other_says_so_again() {
        let mut waits = HandOver::default();
        assert!(waits.announce());
        waits.on_lost();
        assert!(waits.is_announced() && waits.announce() && !waits.announce());
    }

    #[test]
    fn who_loses_the_other_ends_as_it_is_and_who_is_left_forgets_it() {
        let mut lost = leaves(3);
        lost.on_lost();
        assert!(lost.is_over(AT, true) && lost.is_under_way());
        lost.on_lost();
        assert!(lost.is_over(AT, true));
        let mut left = HandOver::default();
        assert!(left.on_leaving());
        left.on_lost();
        assert_eq!(left, HandOver::default());
    }
}
