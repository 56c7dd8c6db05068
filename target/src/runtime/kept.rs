//! Disks that keep a thread which was a worker: how many there are, and since when. A stall of a moment is nothing that
//! anybody has to know; a disk that has kept a thread for a second is told of, and so is its coming back, each once a
//! minute.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use controller::disk::pool::HUNG_AFTER;
use controller::log_limit::{Suppressed, TimedLogLimiter};
use parking_lot::Mutex;

/// Those of this process.
static KEPT: LazyLock<KeptThreads> = LazyLock::new(KeptThreads::default);

/// Those of this process.
pub(crate) fn threads() -> &'static KeptThreads {
    &KEPT
}

/// Threads that were workers and wait for their disks.
#[derive(Debug, Default)]
pub(crate) struct KeptThreads {
    kept: Mutex<Vec<Kept>>,
    said: TimedLogLimiter,
}

/// What tells one request of a worker from every other: where the worker is, and the request's number.
pub(crate) type Request = (usize, u64);

#[derive(Debug)]
struct Kept {
    request: Request,
    path: PathBuf,
    since: Instant,
    /// Known to hang: then its coming back is told of as well.
    hangs: bool,
}

impl KeptThreads {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.kept.lock().len()
    }

    /// The disk of `path` keeps the thread that made this request.
    pub(crate) fn begins(&self, request: Request, path: &Path, now: Instant) {
        self.kept.lock().push(Kept { request, path: path.to_owned(), since: now, hangs: false });
    }

    /// It was done before another thread could go on in its place.
    pub(crate) fn never_was(&self, request: Request) {
        self.kept.lock().retain(|kept| kept.request != request);
    }

    /// Logs what has been kept for [`HUNG_AFTER`] by now.
    pub(crate) fn look(&self, now: Instant) {
        for (path, unsaid) in self.found_to_hang(now) {
            tracing::warn!(
                "{}: its disk does not answer; everything else goes on without waiting for it{unsaid}",
                path.display()
            );
        }
    }

    /// The request has come back; logs it if it was known to hang.
    pub(crate) fn ends(&self, request: Request) {
        if let Some((path, unsaid)) = self.came_back(request) {
            tracing::warn!("{}: its disk has answered after all{unsaid}", path.display());
        }
    }

    fn found_to_hang(&self, now: Instant) -> Vec<(PathBuf, Suppressed)> {
        let mut kept = self.kept.lock();
        let late = kept
            .iter_mut()
            .filter(|kept| !kept.hangs && now.saturating_duration_since(kept.since) >= HUNG_AFTER);
        late.filter_map(|kept| {
            kept.hangs = true;
            Some((kept.path.clone(), self.said.happens("hangs", &kept.path.to_string_lossy())?))
        })
        .collect()
    }

    fn came_back(&self, request: Request) -> Option<(PathBuf, Suppressed)> {
        let mut kept = self.kept.lock();
        let at = kept.iter().position(|kept| kept.request == request)?;
        let Kept { path, since, hangs, .. } = kept.swap_remove(at);
        let kept_for: Duration = since.elapsed();
        tracing::debug!("{}: its disk has answered after {} ms", path.display(), kept_for.as_millis());
        if !hangs {
            return None;
        }
        let unsaid = self.said.happens("answers", &path.to_string_lossy())?;
        Some((path, unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_keeps_threads_for_a_second_is_told_of_once_a_minute_and_so_is_its_coming_back() {
        let threads = KeptThreads::default();
        let (now, path) = (Instant::now(), Path::new("/srv/lun.volume"));
        for request in 0..20 {
            threads.begins((7, request), path, now);
        }
        assert_eq!(threads.found_to_hang(now + HUNG_AFTER / 2), []);
        assert_eq!(threads.came_back((7, 0)), None, "it stalled for a moment");
        assert_eq!(threads.found_to_hang(now + HUNG_AFTER).len(), 1);
        assert_eq!(threads.found_to_hang(now + HUNG_AFTER * 2), []);
        assert_eq!((1..20).filter_map(|request| threads.came_back((7, request))).count(), 1);
        assert_eq!(threads.count(), 0);
    }
}
