//! Whether reads find their data in the page cache, or had better begin on the pool's threads.
//!
//! A read that must not wait (`RWF_NOWAIT`) and finds nothing sends its request to the disk before it says so, on the
//! thread that serves everybody's sessions: in a virtual machine that alone takes longer than many a read from memory.
//! So where many reads in a row find nothing, the next ones are not tried there. The first that the pool finds in
//! memory ends that: somebody reads warm data of the same volume, and shall not take the long way for others' sake.

use std::sync::atomic::{AtomicU32, Ordering};

/// So many reads in a row that find nothing mean that the next ones will not either: more than come between two reads
/// of one who finds everything, where others read cold data of the same volume.
pub const COLD_MISSES: u32 = 32;

/// So many reads then begin on the pool, unless one of them finds its data in memory; after them one is tried.
pub const COLD_READS: u32 = 64;

/// What is known of one volume's data. Threads may disagree for a moment: that costs a detour, nothing else.
#[derive(Default)]
pub(super) struct CachePredictor {
    /// Reads in a row that were tried at once and found nothing.
    misses: AtomicU32,
    /// How many more reads begin on the pool.
    left: AtomicU32,
}

impl CachePredictor {
    /// Whether the next read begins on the pool.
    pub(super) fn is_cold(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0
            && self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
    }

    /// A read that was tried at once has found its data, or nothing.
    pub(super) fn tried(&self, found: bool) {
        let misses = self.misses.load(Ordering::Relaxed);
        if found {
            if misses > 0 {
                self.misses.store(0, Ordering::Relaxed);
            }
            return;
        }
        let misses = misses.saturating_add(1);
        self.misses.store(misses, Ordering::Relaxed);
        if misses >= COLD_MISSES {
            self.left.store(COLD_READS, Ordering::Relaxed);
        }
    }

    /// A read that began on the pool has found its data in memory.
    pub(super) fn found_by_the_pool(&self) {
        self.misses.store(0, Ordering::Relaxed);
        self.left.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_between_hits_mean_nothing_but_a_row_of_them_sends_reads_to_the_pool() {
        let cache = CachePredictor::default();
        for read in 0..COLD_MISSES * 10 {
            cache.tried(read % COLD_MISSES == 0);
            assert!(!cache.is_cold());
        }
        cache.tried(true);
        (0..COLD_MISSES).for_each(|_| cache.tried(false));
        let pooled = (0..).take_while(|_| cache.is_cold()).count();
        assert_eq!(pooled as u32, COLD_READS);
        // Then one is tried: if it finds nothing it goes on like this.
        cache.tried(false);
        assert!(cache.is_cold());
    }

    #[test]
    fn what_the_pool_finds_in_memory_is_tried_at_once_again() {
        let cache = CachePredictor::default();
        (0..COLD_MISSES).for_each(|_| cache.tried(false));
        assert!(cache.is_cold());
        cache.found_by_the_pool();
        assert!(!cache.is_cold());
        cache.tried(false);
        assert!(!cache.is_cold(), "the row was broken");
    }

    #[test]
    fn misses_do_not_overflow() {
        let cache = CachePredictor::default();
        cache.misses.store(u32::MAX, Ordering::Relaxed);
        cache.tried(false);
        assert!(cache.is_cold());
    }
}
