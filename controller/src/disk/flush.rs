//! Group commit: one flush of a volume is in flight, the next batch of requests gathers meanwhile.
//!
//! A request joins a flush that has not begun, never the one in flight, which may have passed its data
//! already. A failure is sticky: the kernel reports a lost write once and forgets it, so that a later flush
//! which succeeds proves nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::{DiskError, DiskResult};

/// Receives the result of disk I/O that was not done at once.
pub type Completion = Box<dyn FnOnce(DiskResult) + Send>;

/// The flushes of one volume.
#[derive(Default)]
pub struct Flusher {
    gathering: Mutex<Gathering>,
    failed: AtomicBool,
}

#[derive(Default)]
struct Gathering {
    in_flight: bool,
    /// Bounded by the commands a LUN may have in flight.
    waiting: Vec<Completion>,
}

impl Flusher {
    /// Whether a flush has failed.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Adds a request to the next flush. True if the caller must see to it that [`Flusher::flush`] is called.
    pub fn gather(&self, done: Completion) -> bool {
        let mut gathering = self.gathering.lock();
        gathering.waiting.push(done);
        !std::mem::replace(&mut gathering.in_flight, true)
    }

    /// Flushes for all that have gathered. True if more gathered meanwhile: it must then be called again.
    pub fn flush(&self, sync: impl FnOnce() -> Result<(), DiskError>) -> bool {
        let batch = {
            let mut gathering = self.gathering.lock();
            debug_assert!(gathering.in_flight, "a flush that nobody was asked for");
            std::mem::take(&mut gathering.waiting)
        };
        let result = if self.failed() { Err(DiskError::FlushFailed) } else { sync() };
        if result.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        for done in batch {
            done(result.map(|()| Vec::new()));
        }
        let mut gathering = self.gathering.lock();
        gathering.in_flight = !gathering.waiting.is_empty();
        gathering.in_flight
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    type Results = Arc<Mutex<Vec<(u32, DiskResult)>>>;

    fn request(results: &Results, number: u32) -> Completion {
        let results = Arc::clone(results);
        Box::new(move |result| results.lock().push((number, result)))
    }

    #[test]
    fn a_request_that_comes_during_a_flush_waits_for_the_next() {
        let (flusher, results) = (Flusher::default(), Results::default());
        assert!(flusher.gather(request(&results, 1)));
        assert!(!flusher.gather(request(&results, 2)));
        let again = flusher.flush(|| {
            assert!(!flusher.gather(request(&results, 3)));
            Ok(())
        });
        assert!(again);
        assert_eq!(*results.lock(), [(1, Ok(Vec::new())), (2, Ok(Vec::new()))]);
        assert!(!flusher.flush(|| Ok(())));
        assert_eq!(results.lock().len(), 3);
        assert!(flusher.gather(request(&results, 4)), "the flusher must be started again after it went idle");
    }

    #[test]
    fn a_failed_flush_is_never_followed_by_a_success() {
        let (flusher, results) = (Flusher::default(), Results::default());
        flusher.gather(request(&results, 1));
        flusher.flush(|| Err(DiskError::Full));
        assert!(flusher.failed());
        flusher.gather(request(&results, 2));
        flusher.flush(|| Ok(()));
        assert_eq!(*results.lock(), [(1, Err(DiskError::Full)), (2, Err(DiskError::FlushFailed))]);
    }
}
