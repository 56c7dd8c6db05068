//! Time as the cores see it: a number that comes in with every event, never a clock.

use core::ops::{Add, Sub};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

/// Nanoseconds of CLOCK_BOOTTIME, which goes on while a machine is suspended: a lease must too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(pub u64);

/// [`crate::unit::Controller::on_tick`] comes at least this often.
pub const TICK: Duration = Duration::from_millis(50);

/// Between two ticks more than this was spent stopped.
const RUNNING_MAX: Duration = Duration::from_millis(4 * TICK.as_millis() as u64);

/// How long a controller has run. Time in which it was stopped does not count: whoever waited for something then finds
/// what has come of it when it goes on.
#[derive(Debug, Default)]
pub struct RunTime {
    /// In nanoseconds, as [`Time`].
    ticked: AtomicU64,
    ran: AtomicU64,
}

impl RunTime {
    /// Time has passed: at least every [`TICK`] while the controller runs.
    pub fn tick(&self, now: Time) {
        let ticked = Time(self.ticked.fetch_max(now.0, Ordering::Relaxed));
        let ran = now.since(ticked).min(RUNNING_MAX);
        self.ran.fetch_add(ran.as_nanos() as u64, Ordering::Relaxed);
    }

    /// How long it has run.
    #[must_use]
    pub fn ran(&self) -> Duration {
        Duration::from_nanos(self.ran.load(Ordering::Relaxed))
    }

    /// The last tick; zero before the first.
    #[must_use]
    pub fn ticked(&self) -> Time {
        Time(self.ticked.load(Ordering::Relaxed))
    }
}

impl Time {
    /// The time that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// How long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}
