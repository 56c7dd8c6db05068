//! Calling the controller when it wants to be called, and every tick.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use controller::time::{TICK, Time};
use controller::unit::Controller;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::rooms::look_for_room;
use super::world::{ProductWorld, now};
use crate::batch::Batch;

/// Times that were asked for are rounded up to this many nanoseconds (one millisecond).
const STEP_NANOSECONDS: u64 = 1_000_000;

/// Times that wait at most; what was asked for beyond comes with the next tick.
pub(crate) const TIMES_MAX: usize = 4096;

/// When the controller wants to be called.
#[derive(Default)]
pub(crate) struct Timer {
    times: Mutex<BTreeSet<Time>>,
    /// Told when a time was asked for that is the earliest.
    earlier: Notify,
}

impl Timer {
    /// Asks for a call at `at`.
    pub(super) fn set(&self, at: Time) {
        let at = Time(at.0.div_ceil(STEP_NANOSECONDS).saturating_mul(STEP_NANOSECONDS));
        let mut times = self.times.lock();
        if times.len() < TIMES_MAX && times.insert(at) && times.first() == Some(&at) {
            drop(times);
            self.earlier.notify_one();
        }
    }

    /// The earliest time that was asked for.
    fn next(&self) -> Option<Time> {
        self.times.lock().first().copied()
    }

    /// How many times wait.
    pub(super) fn count(&self) -> usize {
        self.times.lock().len()
    }

    /// Forgets every time that has come.
    fn take_due(&self, now: Time) {
        let mut times = self.times.lock();
        while times.first().is_some_and(|time| *time <= now) {
            times.pop_first();
        }
        debug_assert!(times.len() <= TIMES_MAX, "what came beyond was left to the tick");
    }
}

/// Calls the controller at every tick and whenever it asked to be called, for ever.
pub(super) async fn call(controller: Arc<Controller<ProductWorld>>, timer: Arc<Timer>) {
    let mut tick = now();
    loop {
        let at = timer.next().map_or(tick, |time| time.min(tick));
        let wait = at.since(now());
        if wait > Duration::ZERO {
            tokio::select! {
                () = sleep(wait) => {}
                () = timer.earlier.notified() => {}
            }
            continue;
        }
        let time = now();
        timer.take_due(time);
        if time >= tick {
            tick = time + TICK;
        }
        {
            let _batch = Batch::begin();
            controller.on_tick();
        }
        let world = controller.world();
        look_for_room(&world.volumes, &world.looked);
        // Others of this thread have their turn even if the controller asks for the present.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_asked_for_is_kept_until_it_has_come() {
        let timer = Timer::default();
        for at in [30, 10, 20, 20] {
            timer.set(Time(at * STEP_NANOSECONDS - 1));
        }
        assert_eq!(timer.next(), Some(Time(10 * STEP_NANOSECONDS)));
        timer.take_due(Time(20 * STEP_NANOSECONDS));
        assert_eq!(timer.next(), Some(Time(30 * STEP_NANOSECONDS)));
        timer.take_due(Time(30 * STEP_NANOSECONDS));
        assert_eq!(timer.next(), None);
    }

    #[test]
    fn no_more_times_wait_than_the_bound() {
        let timer = Timer::default();
        (0..2 * TIMES_MAX as u64).for_each(|step| timer.set(Time(step * STEP_NANOSECONDS)));
        assert_eq!(timer.times.lock().len(), TIMES_MAX);
    }
}
