//! Busy polling: how long a worker spins for more work before it sleeps.
//!
//! Putting a processor to sleep and waking it costs more than executing a command, in the host's waiting and in
//! processor time. So a worker whose work comes in short intervals goes on looking for it for a while: at most
//! [`SPIN_MAX`], and only as long as that pays. It sleeps at once where work comes in longer intervals, and where
//! another thread wants its processor. A worker without work sleeps.
//!
//! Two workers may share a processor (both controllers on a small machine, or in a measurement). Then the one that
//! hears from hosts shall look, and the one whose work the first makes shall sleep: it is waked cheaply. Each counts
//! where its work came from ([`Poller::on_polled_work`]), and the one that gives way does so for longer each time it
//! tries in vain.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// A worker spins for at most this long.
const SPIN_MAX: Duration = Duration::from_micros(100);

/// The first time it spins for this long.
const SPIN_MIN: Duration = Duration::from_micros(25);

/// A yield to the system that takes longer than this has let others of this processor work. One that only spins, too,
/// takes less.
const SOLE_YIELD_MAX: Duration = Duration::from_micros(10);

/// A yield that takes longer than this has let them do more than make work for this worker.
const SHORT_YIELD_MAX: Duration = Duration::from_micros(100);

/// So much contention makes a worker stop spinning.
const CONTENTION_MAX: u32 = 16;

/// How much one long yield counts as contention, where work that others of this processor made counts one.
const LONG_YIELD_WEIGHT: u32 = 4;

/// How much contention a piece of work from elsewhere takes away.
const REMOTE_WORK_RELIEF: u32 = 2;

/// How long a worker stops spinning once its processor is contended. Doubles each time, so that of two workers on one
/// processor the one fed by the network is rarely disturbed.
const BACKOFF_MIN: Duration = Duration::from_millis(20);

/// The longest time for which it stops spinning.
const BACKOFF_MAX: Duration = Duration::from_millis(320);

/// By what part work from elsewhere shortens the next such time: one in so many.
const BACKOFF_DECAY: u32 = 16;

/// Decides how long to spin.
#[derive(Debug, Default)]
struct Poller {
    /// For how long to spin; zero: sleep at once.
    spin_for: Duration,
    /// Others worked the last time this worker yielded.
    others_ran: bool,
    /// Grows with work that was made on this processor, whose maker would wake this worker cheaply, and with long
    /// runs of others; shrinks with work from elsewhere.
    contention: u32,
    /// For how long it slept at once the last time, less what work from elsewhere took off.
    backoff: Duration,
}

impl Poller {
    /// Work came to the sleeping worker, `idle` after the end of the last.
    fn on_woken(&mut self, idle: Duration) {
        self.spin_for = if idle <= SPIN_MAX {
            (self.spin_for * 2).clamp(SPIN_MIN, SPIN_MAX)
        } else if self.spin_for > SPIN_MIN {
            self.spin_for / 2
        } else {
            Duration::ZERO
        };
    }

    /// Looking has found work.
    fn on_polled_work(&mut self) {
        if self.others_ran {
            self.contention += 1;
        } else {
            self.contention = self.contention.saturating_sub(REMOTE_WORK_RELIEF);
            self.backoff -= self.backoff / BACKOFF_DECAY;
        }
    }

    /// Yielding to the system took `time`. For how long this processor is to be left to others, if it is.
    fn on_yielded(&mut self, time: Duration) -> Option<Duration> {
        self.others_ran = time > SOLE_YIELD_MAX;
        if time > SHORT_YIELD_MAX {
            self.contention += LONG_YIELD_WEIGHT;
        }
        if self.contention < CONTENTION_MAX {
            return None;
        }
        let backoff = (self.backoff * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
        *self = Self { backoff, ..Self::default() };
        Some(backoff)
    }

    /// True if it pays to go on spinning, `idle` after the end of the last work.
    fn keeps_spinning(&self, idle: Duration) -> bool {
        idle < self.spin_for
    }
}

thread_local! {
    /// Batches of work that this thread has ended.
    static ENDED: Cell<u64> = const { Cell::new(0) };
    /// What wakes `poll_for_work` on this thread; there while the worker sleeps or is about to.
    static SLEEPER: RefCell<Option<Waker>> = const { RefCell::new(None) };
    /// A batch has begun that ends later, outside of the runtime: until then this worker works.
    static LEFT: Cell<bool> = const { Cell::new(false) };
    /// When the batch began that ended the sleep.
    static WOKEN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A batch of work begins on this thread.
pub(crate) fn on_work_begun() {
    if SLEEPER.with_borrow(Option::is_some) {
        WOKEN.set(Some(Instant::now()));
    }
}

/// The batch of work on this thread goes on outside of the runtime.
pub(crate) fn on_work_left() {
    LEFT.set(true);
}

/// A batch of work has ended on this thread.
pub(crate) fn on_work_ended() {
    LEFT.set(false);
    ENDED.set(ENDED.get().wrapping_add(1));
    if let Some(sleeper) = SLEEPER.take() {
        sleeper.wake();
    }
}

/// Waits until more batches than `ended` have ended on this thread.
async fn work_after(ended: u64) {
    poll_fn(|context| {
        if ENDED.get() != ended {
            return Poll::Ready(());
        }
        SLEEPER.set(Some(context.waker().clone()));
        Poll::Pending
    })
    .await;
}

/// Keeps the runtime of this thread from sleeping while that pays, for ever. Yielding to it makes it look at its
/// sockets without waiting; yielding to the system lets others of this processor run.
pub(crate) async fn poll_for_work() {
    let mut poller = Poller::default();
    let (mut ended, mut since) = (ENDED.get(), Instant::now());
    loop {
        work_after(ended).await;
        let mut now = Instant::now();
        let woken = WOKEN.take().unwrap_or(now);
        poller.on_woken(woken.saturating_duration_since(since));
        (ended, since) = (ENDED.get(), now);
        while LEFT.get() || poller.keeps_spinning(now.saturating_duration_since(since)) {
            // Work that was found and has not ended is neither idle time nor somebody else's.
            if !LEFT.get() {
                std::thread::yield_now();
                let back = Instant::now();
                if let Some(backoff) = poller.on_yielded(back.saturating_duration_since(now)) {
                    tokio::time::sleep(backoff).await;
                }
            }
            tokio::task::yield_now().await;
            now = Instant::now();
            if ENDED.get() != ended {
                poller.on_polled_work();
                (ended, since) = (ENDED.get(), now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_micros(40);

    fn after(intervals: &[Duration]) -> Poller {
        let mut poller = Poller::default();
        intervals.iter().for_each(|idle| poller.on_woken(*idle));
        poller
    }

    #[test]
    fn a_worker_without_much_to_do_sleeps_at_once() {
        assert!(!Poller::default().keeps_spinning(Duration::ZERO));
        assert!(!after(&[Duration::from_millis(1); 5]).keeps_spinning(Duration::ZERO));
    }

    #[test]
    fn work_in_short_intervals_is_looked_for_longer_each_time_up_to_the_bound() {
        assert!(after(&[SHORT]).keeps_spinning(Duration::ZERO));
        assert!(!after(&[SHORT]).keeps_spinning(SPIN_MIN));
        assert!(after(&[SHORT; 2]).keeps_spinning(SHORT));
        assert!(!after(&[SHORT; 50]).keeps_spinning(SPIN_MAX));
    }

    #[test]
    fn looking_in_vain_ends_soon() {
        let mut intervals = vec![SHORT; 50];
        intervals.extend([SPIN_MAX * 2; 3]);
        assert!(!after(&intervals).keeps_spinning(Duration::ZERO));
    }

    /// How many of `turns` pass before the processor is left to others.
    fn turns_until_contended(turns: &[(Duration, bool)]) -> Option<usize> {
        let mut poller = after(&[SHORT; 5]);
        turns.iter().position(|(yielded, found)| {
            let contended = poller.on_yielded(*yielded).is_some();
            assert_eq!(contended, !poller.keeps_spinning(Duration::ZERO));
            if *found {
                poller.on_polled_work();
            }
            contended
        })
    }

    const ALONE: Duration = Duration::from_nanos(500);
    const WITH_ONE_THAT_LOOKS: Duration = Duration::from_micros(6);
    const WITH_MAKER: Duration = Duration::from_micros(30);
    const WITH_NEIGHBOUR: Duration = Duration::from_millis(3);

    #[test]
    fn a_processor_that_others_want_is_left_to_them() {
        assert_eq!(turns_until_contended(&[(WITH_NEIGHBOUR, false); 100]), Some(3));
        assert!(turns_until_contended(&[(ALONE, true); 100]).is_none());
    }

    #[test]
    fn work_that_is_made_on_the_same_processor_is_waited_for_asleep_unless_others_bring_more() {
        assert!(turns_until_contended(&[(WITH_MAKER, true); 100]).is_some());
        assert!(turns_until_contended(&[(WITH_MAKER, true), (ALONE, true)].repeat(100)).is_none());
        let others_look_too = [(WITH_MAKER, true), (WITH_ONE_THAT_LOOKS, true)];
        assert!(turns_until_contended(&others_look_too.repeat(100)).is_none(), "they give up first");
    }

    #[test]
    fn who_tries_again_in_vain_leaves_the_processor_for_longer_each_time() {
        fn left_for(poller: &mut Poller) -> Duration {
            poller.on_woken(SHORT);
            for _ in 0..=CONTENTION_MAX {
                if let Some(backoff) = poller.on_yielded(WITH_MAKER) {
                    return backoff;
                }
                poller.on_polled_work();
            }
            panic!("others work whenever it yields, and it goes on looking");
        }
        let mut poller = Poller::default();
        assert_eq!(left_for(&mut poller), BACKOFF_MIN);
        assert_eq!(left_for(&mut poller), BACKOFF_MIN * 2);
        for _ in 0..20 {
            assert!(left_for(&mut poller) <= BACKOFF_MAX);
        }
        assert_eq!(left_for(&mut poller), BACKOFF_MAX);
        for _ in 0..100 {
            assert_eq!(poller.on_yielded(ALONE), None);
            poller.on_polled_work();
        }
        assert_eq!(left_for(&mut poller), BACKOFF_MIN, "work has come from elsewhere for a while");
    }

    #[test]
    fn a_worker_that_found_no_more_work_sleeps_until_there_is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let looking = runtime.spawn(poll_for_work());
        runtime.block_on(async {
            while SLEEPER.with_borrow(Option::is_none) {
                tokio::task::yield_now().await;
            }
            on_work_begun();
            on_work_ended();
            assert!(SLEEPER.with_borrow(Option::is_none));
            while SLEEPER.with_borrow(Option::is_none) {
                tokio::task::yield_now().await;
            }
        });
        looking.abort();
    }

    #[test]
    fn work_that_goes_on_outside_of_the_runtime_is_no_idle_time() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let looking = runtime.spawn(poll_for_work());
        let sleeps = || SLEEPER.with_borrow(Option::is_some);
        runtime.block_on(async {
            while !sleeps() {
                tokio::task::yield_now().await;
            }
            on_work_begun();
            on_work_left();
            on_work_ended();
            // While it looks for more, work comes that goes on outside.
            on_work_left();
            let begun = Instant::now();
            while begun.elapsed() < SPIN_MAX * 20 {
                tokio::task::yield_now().await;
                assert!(!sleeps(), "it works");
            }
            on_work_ended();
            while !sleeps() {
                tokio::task::yield_now().await;
            }
        });
        looking.abort();
    }
}
