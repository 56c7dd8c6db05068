//! How long a message of the peer was on its way, though the clocks of two machines have nothing in common.
//!
//! Each ping carries the peer's clock. The smallest difference between the clocks seen lately is their offset plus the
//! minimum transit time; a message's delay is what its own difference exceeds that by. So a message is never taken for
//! older than it is, and for younger only by the minimum transit time of a ping. How far the clocks drift apart within
//! [`WINDOW`] is below a millisecond.

use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use core::time::Duration;

use crate::time::Time;

/// The least difference is of this long ago at least, and of twice as long at most.
const WINDOW: Duration = Duration::from_secs(5);

/// The peer's clock, as its pings tell.
#[derive(Debug, Default)]
pub struct PeerClock {
    known: AtomicBool,
    since: AtomicU64,
    /// The least differences, in nanoseconds, of this window and of the one before.
    least: [AtomicI64; 2],
}

impl PeerClock {
    /// A ping that was sent at `theirs` has come. Only one thread at a time may tell.
    pub fn heard(&self, theirs: u64, now: Time) {
        let ahead = difference(theirs, now);
        let [this, before] = &self.least;
        if !self.known.load(Ordering::Acquire) {
            this.store(ahead, Ordering::Relaxed);
            before.store(ahead, Ordering::Relaxed);
            self.since.store(now.0, Ordering::Relaxed);
            self.known.store(true, Ordering::Release);
        } else if now.since(Time(self.since.load(Ordering::Relaxed))) >= WINDOW {
            before.store(this.swap(ahead, Ordering::Relaxed), Ordering::Relaxed);
            self.since.store(now.0, Ordering::Relaxed);
        } else {
            this.fetch_min(ahead, Ordering::Relaxed);
        }
    }

    /// The peer is gone; the next one may have another clock.
    pub fn forget(&self) {
        self.known.store(false, Ordering::Release);
    }

    /// How long a message was on its way that was sent at `theirs` and has come now; zero if nothing is known.
    #[must_use]
    pub fn way(&self, theirs: u64, now: Time) -> Duration {
        if !self.known.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        let [this, before] = &self.least;
        let least = this.load(Ordering::Relaxed).min(before.load(Ordering::Relaxed));
        let late = difference(theirs, now).saturating_sub(least);
        Duration::from_nanos(u64::try_from(late).unwrap_or(0))
    }
}

/// Clocks count from the start of their machines: the difference fits, and what a peer makes up may wrap.
const fn difference(theirs: u64, now: Time) -> i64 {
    now.0.wrapping_sub(theirs).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> u64 {
        ms * 1_000_000
    }

    #[test]
    fn what_a_message_took_longer_than_a_ping_is_its_way_whatever_the_clocks_say() {
        for ahead in [0, ms(5_000_000)] {
            for theirs_ahead in [0, ms(7_000_000)] {
                let clock = PeerClock::default();
                let now = |at: u64| Time(ms(at) + ahead);
                let theirs = |at: u64| ms(at) + theirs_ahead;
                assert_eq!(clock.way(theirs(1), now(9000)), Duration::ZERO, "nothing is known");
                for ping in 0..300 {
                    let way = if ping % 10 == 0 { 2 } else { 40 };
                    clock.heard(theirs(ping * 100), now(ping * 100 + way));
                }
                assert_eq!(clock.way(theirs(30_000), now(30_002)), Duration::ZERO);
                assert_eq!(clock.way(theirs(30_000), now(34_502)), Duration::from_millis(4500));
                assert_eq!(clock.way(theirs(30_000), now(29_000)), Duration::ZERO);
                clock.forget();
                assert_eq!(clock.way(theirs(30_000), now(34_502)), Duration::ZERO);
            }
        }
    }

    #[test]
    fn a_clock_that_runs_at_another_speed_is_followed() {
        let clock = PeerClock::default();
        // Theirs loses a thousandth: after an hour it is 3.6 s behind.
        let theirs = |at: u64| ms(at) - ms(at) / 1000;
        (0..36_000).for_each(|ping| clock.heard(theirs(ping * 100), Time(ms(ping * 100 + 1))));
        assert!(clock.way(theirs(3_600_000), Time(ms(3_600_001))) < Duration::from_millis(20));
    }
}
