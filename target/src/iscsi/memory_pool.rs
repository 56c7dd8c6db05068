//! The memory that the sessions of one controller hold for data, bounded over all of them.
//!
//! Each session has a share of its own that nobody else can take, and which is enough for what most hosts ever have
//! under way; counting it costs no shared word. What goes beyond comes out of one pool for all, in grants. When the
//! pool runs low, hosts are slowed down in this order: their command windows get narrow; R2Ts and reads are
//! withheld; what brings its data unasked is answered TASK SET FULL, or BUSY where the host has nothing else under
//! way.
//!
//! Who gets what of the pool:
//!
//! * A session that has something under way may take more as long as it holds only a small part of what is left for
//!   everybody else ([`FAIR_PART`]). So the first host that does not take its data keeps a thirteenth of the pool, the
//!   next a thirteenth of the rest, and dozens of them leave room for others. None gets more before some of what it
//!   has is gone: it looks again when its own data moves.
//! * A session that has nothing under way gets room for one command, in its turn: it stands in a queue while there is
//!   none, and nobody takes anything past the queue. Room is given to the first in it before it is woken, so nobody
//!   waits for a thread.
//! * Should those who hold the pool stand still while somebody is first in the queue, they are given up, one after the
//!   other ([`Pool::is_starved`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use controller::time::Time;
use parking_lot::Mutex;

use crate::transport::Transport;

/// Data of all sessions of one controller together beyond their own shares at most, in bytes.
pub const POOL_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// What every session may hold beside the pool, in bytes.
pub const GUARANTEED_BYTES: u64 = 256 * 1024;

/// The pool is given out in such grants, in bytes.
pub(super) const GRANT_BYTES: u64 = 1024 * 1024;

/// Taken from the pool above which command windows are narrow, in bytes.
const TIGHT_BYTES: u64 = POOL_BYTES_MAX / 2;

/// Kept in the pool for data that comes unasked, in bytes: R2Ts and reads do not use it.
const UNASKED_BYTES: u64 = POOL_BYTES_MAX / 8;

/// What one session holds of the pool for R2Ts and reads, times this, is at most what is left of it.
const FAIR_PART: u64 = 12;

/// How long somebody is first in the queue before those who hold memory and stand still are given up.
const STARVING_AFTER: Duration = Duration::from_secs(1);

/// What a session wants memory for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Data that comes whether it is wanted or not: immediate and unsolicited.
    Unasked,
    /// Data that can be made to wait: behind an R2T, or not read yet.
    Asked {
        /// Nothing else of the session is under way, so that nothing else will make it look again.
        alone: bool,
    },
}

/// One stay of a session in the queue, from its request to the moment when it counts in what it was given, or leaves.
#[derive(Debug, Default)]
struct Stay {
    /// Bytes that the queue has given and the session has not counted in yet.
    given: AtomicU64,
    /// It is over: a request that comes into the queue only now is not for anybody. Written under the queue's lock.
    over: AtomicBool,
}

/// A session in the queue.
struct Waiting {
    stay: Arc<Stay>,
    bytes: u64,
    transport: Arc<dyn Transport>,
    /// Since when somebody has seen it stand first.
    first_since: Option<Time>,
}

/// The pool of a controller.
#[derive(Default)]
pub struct Pool {
    taken: AtomicU64,
    /// Something was given back, or somebody has come into the queue, since it was last looked at.
    due: AtomicBool,
    /// Sessions in the queue: at most one place for each.
    waiting: AtomicUsize,
    queue: Mutex<VecDeque<Waiting>>,
}

impl Pool {
    /// Taken from the pool, in bytes: at most [`POOL_BYTES_MAX`].
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// True while command windows are to be narrow.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        self.taken() >= TIGHT_BYTES
    }

    /// Sessions that wait for their turn.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Takes `bytes` if `may` says so of what is left for this purpose, all of it counted.
    fn take(&self, bytes: u64, most: u64, may: impl Fn(u64) -> bool) -> bool {
        let sum = |taken: u64| {
            let left = most.checked_sub(taken).filter(|left| bytes <= *left && may(*left))?;
            Some(most - left + bytes)
        };
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, sum).is_ok()
    }

    fn give(&self, bytes: u64) {
        if bytes > 0 {
            let taken = self.taken.fetch_sub(bytes, Ordering::SeqCst);
            debug_assert!(bytes <= taken, "nobody gives back more than was taken");
            self.due.store(true, Ordering::SeqCst);
        }
    }

    /// A session waits for its turn to get `bytes`; in the queue already it may want more, and keeps its place.
    pub fn enqueue(&self, request: Request, transport: &Arc<dyn Transport>) {
        let Request { stay, bytes } = request;
        let queue = &mut *self.queue.lock();
        // Between its being asked for and here, the session may have ended, or have been given what it wanted before:
        // it asks again if that was not enough.
        if stay.over.load(Ordering::SeqCst) || stay.given.load(Ordering::SeqCst) > 0 {
            return;
        }
        if let Some(known) = queue.iter_mut().find(|known| Arc::ptr_eq(&known.stay, &stay)) {
            known.bytes = bytes;
        } else {
            let transport = Arc::clone(transport);
            queue.push_back(Waiting { stay, bytes, transport, first_since: None });
        }
        debug_assert!(bytes > 0, "nobody waits for nothing");
        self.waiting.store(queue.len(), Ordering::SeqCst);
        self.due.store(true, Ordering::SeqCst);
    }

    /// Gives the first in the queue what they wait for, as far as it goes, and wakes them, if something has changed
    /// since the last time. Not to be called under a session's lock.
    pub fn wake(&self) {
        if self.waiting() == 0 || !self.due.swap(false, Ordering::SeqCst) {
            return;
        }
        let mut served = Vec::new();
        let mut queue = self.queue.lock();
        while let Some(first) = queue.front() {
            if !self.take(first.bytes, POOL_BYTES_MAX - UNASKED_BYTES, |_| true) {
                break;
            }
            debug_assert!(!first.stay.over.load(Ordering::SeqCst), "who has left is not in the queue");
            first.stay.given.fetch_add(first.bytes, Ordering::SeqCst);
            served.extend(queue.pop_front());
        }
        self.waiting.store(queue.len(), Ordering::SeqCst);
        drop(queue);
        served.iter().for_each(|waiting| waiting.transport.want_writable());
    }

    /// A stay is over; gives what it was given.
    fn leave(&self, stay: &Arc<Stay>) -> u64 {
        let queue = &mut *self.queue.lock();
        stay.over.store(true, Ordering::SeqCst);
        queue.retain(|waiting| !Arc::ptr_eq(&waiting.stay, stay));
        self.waiting.store(queue.len(), Ordering::SeqCst);
        self.due.store(true, Ordering::SeqCst);
        stay.given.swap(0, Ordering::SeqCst)
    }

    /// True if a session has been first in the queue for too long: those that hold memory and make no progress are to
    /// be closed.
    pub fn is_starved(&self, now: Time) -> bool {
        if self.waiting() == 0 {
            return false;
        }
        self.queue.lock().front_mut().is_some_and(|first| {
            let since = *first.first_since.get_or_insert(now);
            now.since(since) >= STARVING_AFTER
        })
    }
}

impl core::fmt::Debug for Pool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pool").field("taken", &self.taken()).finish_non_exhaustive()
    }
}

/// What a session asks the queue for.
#[derive(Debug)]
pub struct Request {
    stay: Arc<Stay>,
    bytes: u64,
}

/// How a session stands with the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// It waits for nothing.
    None,
    /// It has to come into the queue, for so many bytes.
    Wanted(u64),
    /// It is in the queue, for so many bytes.
    Queued(u64),
}

/// What one session holds. Always: what it has been given room for is covered by the share and `taken`.
#[derive(Debug)]
pub struct Quota {
    memory: Arc<Pool>,
    taken: u64,
    stay: Arc<Stay>,
    place: Place,
}

impl Quota {
    /// A session that holds nothing yet.
    #[must_use]
    pub fn new(memory: Arc<Pool>) -> Self {
        Self { memory, taken: 0, stay: Arc::default(), place: Place::None }
    }

    /// The pool it takes from.
    #[must_use]
    pub fn memory(&self) -> &Pool {
        &self.memory
    }

    /// What it has taken from the pool, in bytes.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// True if there is room for `level` bytes in all.
    #[must_use]
    pub const fn covers(&self, level: u64) -> bool {
        level <= GUARANTEED_BYTES + self.taken
    }

    /// Makes room for `level` bytes in all; false if there is none for this session now.
    pub fn take(&mut self, level: u64, purpose: Purpose) -> bool {
        if purpose != Purpose::Unasked {
            self.collect();
        }
        if self.covers(level) {
            return true;
        }
        let own = self.taken;
        let bytes = (level - GUARANTEED_BYTES - own).div_ceil(GRANT_BYTES).saturating_mul(GRANT_BYTES);
        let fair = |left: u64, part: u64| own.saturating_add(bytes).saturating_mul(part) <= left - bytes;
        let queue = self.memory.waiting() > 0;
        let fits = match purpose {
            Purpose::Unasked => {
                let first = own == 0 && bytes == GRANT_BYTES;
                self.memory.take(bytes, POOL_BYTES_MAX, |left| first || fair(left, 1))
            }
            Purpose::Asked { alone } => {
                let most = POOL_BYTES_MAX - UNASKED_BYTES;
                !queue && self.memory.take(bytes, most, |left| alone || fair(left, FAIR_PART))
            }
        };
        if fits {
            self.taken += bytes;
            debug_assert!(self.covers(level), "what was taken is enough");
        } else if purpose == (Purpose::Asked { alone: true }) {
            self.place = match self.place {
                Place::Queued(queued) if bytes <= queued => Place::Queued(queued),
                Place::Wanted(wanted) => Place::Wanted(wanted.max(bytes)),
                Place::None | Place::Queued(_) => Place::Wanted(bytes),
            };
        }
        fits
    }

    /// What is to be asked of the queue, if anything: [`Pool::enqueue`] follows.
    pub fn request(&mut self) -> Option<Request> {
        let Place::Wanted(bytes) = self.place else {
            return None;
        };
        self.place = Place::Queued(bytes);
        Some(Request { stay: Arc::clone(&self.stay), bytes })
    }

    /// True while its turn has not come.
    #[must_use]
    pub fn awaits_turn(&self) -> bool {
        self.place != Place::None && self.stay.given.load(Ordering::SeqCst) == 0
    }

    /// It waits for its turn no more; what it was given meanwhile it has.
    pub fn leave_queue(&mut self) {
        if self.place != Place::None {
            self.taken += self.memory.leave(&self.stay);
            // A request of this stay may still be on its way into the queue.
            self.stay = Arc::default();
            self.place = Place::None;
        }
    }

    /// Counts in what the queue has given.
    fn collect(&mut self) {
        if self.place != Place::None && self.stay.given.load(Ordering::SeqCst) > 0 {
            self.leave_queue();
        }
    }

    /// No more than `level` bytes are needed: gives back the rest, but for one grant that is soon taken again.
    pub fn settle(&mut self, level: u64) {
        if self.taken > 0 {
            let spare = if self.memory.is_tight() || self.memory.waiting() > 0 { 0 } else { GRANT_BYTES };
            self.give_back(level, spare);
        }
    }

    /// Gives back everything that `level` bytes do not need.
    pub fn rest(&mut self, level: u64) {
        self.give_back(level, 0);
    }

    fn give_back(&mut self, level: u64, spare: u64) {
        let needed = level.saturating_sub(GUARANTEED_BYTES).div_ceil(GRANT_BYTES).saturating_mul(GRANT_BYTES);
        let surplus = self.taken.saturating_sub(needed.saturating_add(spare));
        self.taken -= surplus;
        debug_assert!(surplus == 0 || self.covers(level), "what is needed is kept");
        self.memory.give(surplus);
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        self.leave_queue();
        self.memory.give(self.taken);
    }
}

/// Takes all but `left` bytes of the pool.
#[cfg(test)]
pub(super) fn hog(memory: &Arc<Pool>, left: u64) -> Quota {
    let bytes = POOL_BYTES_MAX - memory.taken() - left;
    assert!(memory.take(bytes, POOL_BYTES_MAX, |_| true));
    let mut hog = Quota::new(memory.clone());
    hog.taken = bytes;
    hog
}

#[cfg(test)]
mod tests;
