//! The lease: the sub's right to answer reads from its own copy.
//!
//! The sub asks main for it every [`RENEWAL`]; what main grants counts from when it was asked for, by the sub's
//! own clock. Main never completes a write alone before the last lease it granted has run out, measured by its
//! own clock from the grant, which is later than the request. Both clocks are CLOCK_BOOTTIME, which goes on while
//! a machine is suspended; how far they may drift apart within one lease is [`DRIFT_MARGIN`].
//!
//! The check comes *after* the data was read ([`Lease::proof`]): a controller that was stopped for half a minute
//! between the two finds its lease gone. A read's answer can be built only from the [`Proof`].

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use crate::clock::PeerClock;
use crate::time::Time;

/// How long a lease lasts.
pub const LEASE: Duration = Duration::from_millis(600);

/// How often it is renewed.
pub const RENEWAL: Duration = Duration::from_millis(100);

/// What two clocks may differ over one lease: 5 %, a hundred times what quartz does.
pub const DRIFT_MARGIN: Duration = Duration::from_millis(30);

/// The lease of one controller for all LUNs it is sub of, and what it knows of its peer's clock.
#[derive(Debug, Default)]
pub struct Lease {
    until: AtomicU64,
    /// The peer's clock.
    pub clock: PeerClock,
}

/// Proof that a copy was the newest at a moment after its data was read. Only this module and main can make one.
#[derive(Debug)]
pub struct Proof(());

impl Lease {
    /// Main has granted what was asked for at `requested`.
    pub fn renew(&self, requested: Time) {
        self.until.fetch_max((requested + LEASE).0, Ordering::SeqCst);
    }

    /// The interlink is gone: there is nothing left to hold.
    pub fn end(&self) {
        self.until.store(0, Ordering::SeqCst);
        self.clock.forget();
    }

    /// That the lease holds `now`.
    #[must_use]
    pub fn proof(&self, now: Time) -> Option<Proof> {
        (now.0 < self.until.load(Ordering::SeqCst)).then_some(Proof(()))
    }
}

/// Main orders every change itself: its copy is the truth while it is main.
#[must_use]
pub const fn of_main() -> Proof {
    Proof(())
}

/// When main may go on alone, if it last granted a lease at `granted`.
#[must_use]
pub fn run_out(granted: Time) -> Time {
    granted + LEASE + DRIFT_MARGIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_from_its_request_and_is_over_when_main_may_go_on_alone() {
        let lease = Lease::default();
        assert!(lease.proof(Time(0)).is_none());
        let (requested, granted) = (Time(1_000_000_000), Time(1_050_000_000));
        lease.renew(requested);
        assert!(lease.proof(requested + LEASE - Duration::from_nanos(1)).is_some());
        assert!(lease.proof(requested + LEASE).is_none());
        assert!(run_out(granted) > requested + LEASE);
        // Asked for and granted in one moment: the clocks may still go differently.
        assert!(run_out(requested) >= requested + LEASE + LEASE / 20);
    }

    #[test]
    fn an_answer_that_was_overtaken_takes_nothing_away() {
        let lease = Lease::default();
        lease.renew(Time(2_000));
        lease.renew(Time(1_000));
        assert!(lease.proof(Time(1_999) + LEASE).is_some());
        lease.end();
        assert!(lease.proof(Time(0)).is_none());
    }
}
