//! Once a second: gives back the memory that nobody needs any more, after a burst of many hosts for instance.

use std::sync::Arc;
use std::time::Duration;

use controller::disk::buffers::BufferPool;
use controller::disk::heap::Tidy;
use controller::disk::pool::Lane;
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(1);

/// Of so many looks one is at the pooled buffers: those that lay idle since the last one are freed.
const BUFFERS_EVERY: usize = 2;

/// Looks for ever, on the threads of the disk pool: it may take some milliseconds.
pub(super) async fn keep(lane: Lane, buffers: BufferPool) {
    let tidy = Arc::new(Mutex::new(Tidy::default()));
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for look in 0_usize.. {
        ticks.tick().await;
        let (tidy, buffers) = (Arc::clone(&tidy), buffers.clone());
        let job = move || {
            if look.is_multiple_of(BUFFERS_EVERY) {
                buffers.rest();
            }
            // One look at a time: the last may not have ended.
            if let Some(mut tidy) = tidy.try_lock() {
                tidy.look();
            }
        };
        // It is handed back only where the process ends, or where all threads hang.
        let _handed_back = lane.submit(Box::new(job));
    }
}
