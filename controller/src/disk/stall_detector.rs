//! Whether writes into the page cache return at once, or had better wait on the pool's threads.
//!
//! A write that blocks shows only by the time it took. One that took very long, or two in a row that took long,
//! mean that the disk does not keep up (a single long one may only have lost its processor to somebody else).
//! Writes then go to the pool for a while, and after that for as long as the pool's own writes hang.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Two writes in a row that take longer mean the disk does not keep up.
pub const WRITE_PROMPT_MAX: Duration = Duration::from_millis(2);

/// One write that takes longer means it too.
pub const WRITE_SLOW_MIN: Duration = Duration::from_millis(10);

/// For how long the pool writes after that.
pub const WRITE_POOLED_FOR: Duration = Duration::from_millis(100);

/// What is known of one volume's disk. Times are nanoseconds since `opened`.
pub(super) struct StallDetector {
    opened: Instant,
    pooled_until: AtomicU64,
    last_was_long: AtomicBool,
    /// Writes on the pool, waiting or in flight.
    pooled: AtomicUsize,
    /// When the pool last finished one.
    finished: AtomicU64,
}

impl Default for StallDetector {
    fn default() -> Self {
        Self {
            opened: Instant::now(),
            pooled_until: AtomicU64::new(0),
            last_was_long: AtomicBool::new(false),
            pooled: AtomicUsize::new(0),
            finished: AtomicU64::new(0),
        }
    }
}

impl StallDetector {
    /// True if a write may be done at once.
    pub(super) fn is_prompt(&self) -> bool {
        let until = self.pooled_until.load(Ordering::Relaxed);
        if until == 0 {
            return true;
        }
        let now = nanoseconds(self.opened.elapsed());
        let slow = nanoseconds(WRITE_SLOW_MIN);
        now >= until
            && (self.pooled.load(Ordering::Relaxed) == 0
                || now.saturating_sub(self.finished.load(Ordering::Relaxed)) < slow)
    }

    /// A write that was done at once took this long.
    pub(super) fn written(&self, took: Duration) {
        let long = took > WRITE_PROMPT_MAX;
        if long || self.last_was_long.load(Ordering::Relaxed) {
            let again = self.last_was_long.swap(long, Ordering::Relaxed);
            if took > WRITE_SLOW_MIN || (long && again) {
                self.stalled();
            }
        }
    }

    /// A write goes to the pool.
    pub(super) fn write_pooled(&self) {
        self.pooled.fetch_add(1, Ordering::Relaxed);
    }

    /// The pool had no room for a write.
    pub(super) fn write_refused(&self) {
        self.pooled.fetch_sub(1, Ordering::Relaxed);
    }

    /// A write of the pool ended; it took this long from when it was begun.
    pub(super) fn pooled_write_ended(&self, took: Duration) {
        self.pooled.fetch_sub(1, Ordering::Relaxed);
        self.finished.store(nanoseconds(self.opened.elapsed()), Ordering::Relaxed);
        if took > WRITE_SLOW_MIN {
            self.stalled();
        }
    }

    /// Sends the writes of the next [`WRITE_POOLED_FOR`] to the pool.
    pub(super) fn stalled(&self) {
        let until = nanoseconds(self.opened.elapsed() + WRITE_POOLED_FOR);
        self.pooled_until.store(until, Ordering::Relaxed);
    }

    #[cfg(test)]
    fn later(&mut self, by: Duration) {
        self.opened -= by;
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_millis(3);
    const SHORT: Duration = Duration::from_micros(3);

    #[test]
    fn one_long_write_may_have_lost_its_processor_but_two_in_a_row_send_writes_to_the_pool() {
        let disk = StallDetector::default();
        for took in [LONG, SHORT, LONG, SHORT] {
            disk.written(took);
            assert!(disk.is_prompt());
        }
        disk.written(LONG);
        disk.written(LONG);
        assert!(!disk.is_prompt());
    }

    #[test]
    fn writes_come_back_from_the_pool_after_a_while() {
        let mut disk = StallDetector::default();
        disk.written(WRITE_SLOW_MIN * 2);
        disk.write_pooled();
        disk.pooled_write_ended(SHORT);
        assert!(!disk.is_prompt());
        disk.later(WRITE_POOLED_FOR);
        assert!(disk.is_prompt());
    }

    #[test]
    fn nothing_is_written_at_once_while_the_pool_hangs() {
        let mut disk = StallDetector::default();
        disk.written(WRITE_SLOW_MIN * 2);
        disk.write_pooled();
        disk.write_pooled();
        disk.later(WRITE_POOLED_FOR * 100);
        assert!(!disk.is_prompt(), "a write hangs on the pool");
        disk.pooled_write_ended(SHORT);
        assert!(disk.is_prompt(), "the pool gets on");
    }
}
