//! The memory that the sessions of one controller hold for data, bounded over all of them.
//!
//! Each session has a share of its own that nobody else can take, and which is enough for what most hosts ever have
//! under way; counting it costs no shared word. What goes beyond comes out of one purse for all, in lumps. When the
//! purse runs low, hosts are slowed down in this order: their command windows get narrow; R2Ts and reads are
//! withheld; what brings its data unasked is answered TASK SET FULL, or BUSY where the host has nothing else under
//! way. Whoever waits is woken when something was given back, and looks again by itself once a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::connection::Transport;

/// Data of all sessions of one controller together beyond their own shares at most, in bytes.
pub const PURSE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// What every session may hold beside the purse, in bytes.
pub const SHARE_BYTES: u64 = 256 * 1024;

/// The purse is given out in such lumps, in bytes.
const LUMP_BYTES: u64 = 1024 * 1024;

/// Taken from the purse above which command windows are narrow, in bytes.
const TIGHT_BYTES: u64 = PURSE_BYTES_MAX / 2;

/// Kept in the purse for data that comes unasked, in bytes: R2Ts and reads do not use it.
const UNASKED_BYTES: u64 = PURSE_BYTES_MAX / 8;

/// What a session wants memory for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Data that comes whether it is wanted or not: immediate and unsolicited.
    Unasked,
    /// Data that can be made to wait: behind an R2T, or not read yet.
    Asked,
}

/// The purse of a controller.
#[derive(Default)]
pub struct Memory {
    taken: AtomicU64,
    given_back: AtomicBool,
    waiting: Mutex<Vec<Arc<dyn Transport>>>,
}

impl Memory {
    /// Taken from the purse, in bytes: at most [`PURSE_BYTES_MAX`].
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// True while command windows are to be narrow.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        self.taken() >= TIGHT_BYTES
    }

    fn take(&self, bytes: u64, purpose: Purpose) -> bool {
        let most = match purpose {
            Purpose::Unasked => PURSE_BYTES_MAX,
            Purpose::Asked => PURSE_BYTES_MAX - UNASKED_BYTES,
        };
        let fits = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= most);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give(&self, bytes: u64) {
        if bytes > 0 {
            self.taken.fetch_sub(bytes, Ordering::Relaxed);
            self.given_back.store(true, Ordering::Release);
        }
    }

    /// A connection whose session was refused memory will be asked to look again.
    pub fn enlist(&self, transport: Arc<dyn Transport>) {
        let waiting = &mut *self.waiting.lock();
        if !waiting.iter().any(|known| Arc::ptr_eq(known, &transport)) {
            waiting.push(transport);
        }
    }

    /// Wakes who waits, if something was given back since the last time. Not to be called under a session's lock.
    pub fn wake(&self) {
        if self.given_back.load(Ordering::Acquire) && self.given_back.swap(false, Ordering::AcqRel) {
            let waiting = core::mem::take(&mut *self.waiting.lock());
            waiting.iter().for_each(|transport| transport.want_writable());
        }
    }
}

impl core::fmt::Debug for Memory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Memory").field("taken", &self.taken()).finish_non_exhaustive()
    }
}

/// What one session holds. Always: `level` is covered by the share and `taken`.
#[derive(Debug)]
pub struct Holding {
    memory: Arc<Memory>,
    taken: u64,
}

impl Holding {
    /// A session that holds nothing yet.
    #[must_use]
    pub const fn new(memory: Arc<Memory>) -> Self {
        Self { memory, taken: 0 }
    }

    /// The purse it takes from.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Makes room for `level` bytes in all; false if there is none.
    pub fn cover(&mut self, level: u64, purpose: Purpose) -> bool {
        let covered = SHARE_BYTES + self.taken;
        if level <= covered {
            return true;
        }
        let lumps = (level - covered).div_ceil(LUMP_BYTES).saturating_mul(LUMP_BYTES);
        let fits = self.memory.take(lumps, purpose);
        if fits {
            self.taken += lumps;
        }
        fits
    }

    /// No more than `level` bytes are needed: gives back the rest, but for a lump that is soon taken again.
    pub fn settle(&mut self, level: u64) {
        if self.taken == 0 {
            return;
        }
        let needed = level.saturating_sub(SHARE_BYTES).div_ceil(LUMP_BYTES).saturating_mul(LUMP_BYTES);
        let spare = if self.memory.is_tight() { 0 } else { LUMP_BYTES };
        let surplus = self.taken.saturating_sub(needed.saturating_add(spare));
        self.taken -= surplus;
        self.memory.give(surplus);
    }

    /// Gives back everything that `level` bytes do not need.
    pub fn rest(&mut self, level: u64) {
        let needed = level.saturating_sub(SHARE_BYTES).div_ceil(LUMP_BYTES).saturating_mul(LUMP_BYTES);
        let surplus = self.taken.saturating_sub(needed);
        self.taken -= surplus;
        self.memory.give(surplus);
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.memory.give(self.taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_share_of_a_session_costs_the_purse_nothing() {
        let memory = Arc::new(Memory::default());
        let mut holding = Holding::new(memory.clone());
        assert!(holding.cover(SHARE_BYTES, Purpose::Unasked));
        assert_eq!(memory.taken(), 0);
        assert!(holding.cover(SHARE_BYTES + 1, Purpose::Unasked));
        assert_eq!(memory.taken(), LUMP_BYTES);
        drop(holding);
        assert_eq!(memory.taken(), 0);
    }

    #[test]
    fn what_can_wait_is_refused_before_what_comes_unasked() {
        let memory = Arc::new(Memory::default());
        let mut large = Holding::new(memory.clone());
        assert!(!memory.is_tight());
        assert!(large.cover(PURSE_BYTES_MAX - UNASKED_BYTES, Purpose::Asked));
        assert!(memory.is_tight());
        let mut small = Holding::new(memory.clone());
        assert!(!small.cover(SHARE_BYTES + 1, Purpose::Asked));
        assert!(small.cover(UNASKED_BYTES, Purpose::Unasked));
        assert!(!small.cover(SHARE_BYTES + UNASKED_BYTES + LUMP_BYTES, Purpose::Unasked));
        assert!(small.cover(SHARE_BYTES, Purpose::Asked), "its own share is always there");
    }

    #[test]
    fn a_session_at_rest_keeps_nothing() {
        let memory = Arc::new(Memory::default());
        let mut holding = Holding::new(memory.clone());
        assert!(holding.cover(5 * LUMP_BYTES, Purpose::Asked));
        holding.settle(0);
        assert_eq!(memory.taken(), LUMP_BYTES);
        holding.rest(0);
        assert_eq!(memory.taken(), 0);
    }

    proptest! {
        #[test]
        fn the_purse_is_never_overdrawn_and_every_byte_comes_back(
            steps in prop::collection::vec((0_usize..4, 0_u64..400 << 20, any::<bool>(), any::<bool>()), 0..100),
        ) {
            let memory = Arc::new(Memory::default());
            let mut holdings = (0..4).map(|_| (Holding::new(memory.clone()), 0)).collect::<Vec<_>>();
            for (who, level, asked, down) in steps {
                let (holding, held) = &mut holdings[who];
                if down {
                    holding.settle(level.min(*held));
                    *held = level.min(*held);
                } else if holding.cover(level, if asked { Purpose::Asked } else { Purpose::Unasked }) {
                    *held = (*held).max(level);
                }
                prop_assert!(memory.taken() <= PURSE_BYTES_MAX);
                for (holding, held) in &holdings {
                    prop_assert!(*held <= SHARE_BYTES + holding.taken);
                }
            }
            drop(holdings);
            prop_assert_eq!(memory.taken(), 0);
        }
    }
}
