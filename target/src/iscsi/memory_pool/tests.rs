//! Who gets what of the pool, and in which order.

use std::io::{self, IoSlice};
use std::thread;

use parking_lot::Condvar;
use proptest::prelude::*;

use super::*;

const ALONE: Purpose = Purpose::Asked { alone: true };
const MORE: Purpose = Purpose::Asked { alone: false };

/// Of the pool, what can be made to wait may use so much.
const ASKED_BYTES: u64 = POOL_BYTES_MAX - UNASKED_BYTES;

/// A connection that counts how often it is woken.
#[derive(Default)]
struct Woken {
    times: Mutex<usize>,
    changed: Condvar,
}

impl Transport for Woken {
    fn try_write(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    fn want_writable(&self) {
        *self.times.lock() += 1;
        self.changed.notify_one();
    }
    fn shutdown(&self) {}
}

impl Woken {
    fn take(&self) -> usize {
        core::mem::take(&mut *self.times.lock())
    }

    fn wait(&self) {
        let mut times = self.times.lock();
        while *times == 0 {
            let waited = self.changed.wait_for(&mut times, Duration::from_secs(60));
            assert!(!waited.timed_out(), "nobody wakes it");
        }
        *times = 0;
    }
}

struct Session {
    quota: Quota,
    woken: Arc<Woken>,
}

impl Session {
    fn new(memory: &Arc<Pool>) -> Self {
        Self { quota: Quota::new(memory.clone()), woken: Arc::default() }
    }

    fn take(&mut self, bytes: u64, purpose: Purpose) -> bool {
        let taken = self.quota.take(GUARANTEED_BYTES + bytes, purpose);
        if let Some(request) = self.quota.request() {
            let transport: Arc<dyn Transport> = self.woken.clone();
            self.quota.memory().enqueue(request, &transport);
        }
        self.quota.memory().wake();
        taken
    }

    fn rest(&mut self, bytes: u64) {
        self.quota.rest(GUARANTEED_BYTES + bytes);
        self.quota.memory().wake();
    }
}

#[test]
fn the_share_of_a_session_costs_the_pool_nothing() {
    let memory = Arc::new(Pool::default());
    let mut quota = Quota::new(memory.clone());
    assert!(quota.take(GUARANTEED_BYTES, Purpose::Unasked));
    assert_eq!(memory.taken(), 0);
    assert!(quota.take(GUARANTEED_BYTES + 1, Purpose::Unasked));
    assert_eq!(memory.taken(), GRANT_BYTES);
    drop(quota);
    assert_eq!(memory.taken(), 0);
}

#[test]
fn what_can_wait_is_refused_before_what_comes_unasked() {
    let memory = Arc::new(Pool::default());
    assert!(!memory.is_tight());
    let _large = hog(&memory, UNASKED_BYTES);
    assert!(memory.is_tight());
    let mut small = Session::new(&memory);
    assert!(!small.take(1, MORE) && !small.take(1, ALONE));
    assert!(small.take(UNASKED_BYTES / 2, Purpose::Unasked));
    assert!(!small.take(UNASKED_BYTES / 2 + GRANT_BYTES, Purpose::Unasked), "a half is left for the others");
    small.rest(0);
    assert!(small.quota.take(GUARANTEED_BYTES, MORE), "its own share is always there");
}

#[test]
fn a_session_at_rest_keeps_nothing() {
    let memory = Arc::new(Pool::default());
    let mut quota = Quota::new(memory.clone());
    assert!(quota.take(5 * GRANT_BYTES, ALONE));
    quota.settle(0);
    assert_eq!(memory.taken(), GRANT_BYTES);
    quota.rest(0);
    assert_eq!(memory.taken(), 0);
}

#[test]
fn dozens_that_take_what_they_get_and_keep_it_leave_room_for_others() {
    let memory = Arc::new(Pool::default());
    let mut greedy = Vec::new();
    for sessions in 1..=32 {
        let mut session = Session::new(&memory);
        let mut level = 0;
        while session.take(level + 4 * GRANT_BYTES, if level == 0 { ALONE } else { MORE }) {
            level += 4 * GRANT_BYTES;
        }
        assert!(level >= 4 * GRANT_BYTES && level * FAIR_PART <= ASKED_BYTES, "{level}");
        assert!(sessions > 1 || level >= 24 * GRANT_BYTES, "one alone gets enough: {level}");
        greedy.push(session);
        assert!(Session::new(&memory).take(8 * GRANT_BYTES, ALONE), "after {sessions}");
    }
}

#[test]
fn those_with_nothing_under_way_are_served_in_turn_and_nobody_takes_past_them() {
    let memory = Arc::new(Pool::default());
    let mut full = hog(&memory, UNASKED_BYTES);
    let mut busy = Session::new(&memory);
    let (mut first, mut second) = (Session::new(&memory), Session::new(&memory));
    assert!(!first.take(8 * GRANT_BYTES, ALONE));
    assert!(!second.take(GRANT_BYTES, ALONE));
    assert_eq!(memory.waiting(), 2);
    // Room for the second is none for the first: it waits.
    full.taken -= 4 * GRANT_BYTES;
    memory.give(4 * GRANT_BYTES);
    memory.wake();
    assert!(!second.take(GRANT_BYTES, ALONE) && !busy.take(GRANT_BYTES, MORE));
    assert_eq!((first.woken.take(), second.woken.take()), (0, 0));
    full.taken -= 4 * GRANT_BYTES;
    memory.give(4 * GRANT_BYTES);
    memory.wake();
    assert_eq!((first.woken.take(), second.woken.take()), (1, 0));
    assert!(
        first.quota.taken() == 0 && first.take(8 * GRANT_BYTES, ALONE),
        "it was given before it was woken"
    );
    drop(first);
    memory.wake();
    assert_eq!(second.woken.take(), 1);
    assert!(second.take(GRANT_BYTES, ALONE));
    assert_eq!(memory.waiting(), 0);
    drop(full);
    assert!(busy.take(GRANT_BYTES, MORE));
}

#[test]
fn whoever_leaves_leaves_the_queue_and_what_it_was_given() {
    let memory = Arc::new(Pool::default());
    let full = hog(&memory, UNASKED_BYTES);
    let (mut first, mut second) = (Session::new(&memory), Session::new(&memory));
    assert!(!first.take(GRANT_BYTES, ALONE) && !second.take(GRANT_BYTES, ALONE));
    drop(full);
    memory.wake();
    assert_eq!(memory.taken(), 2 * GRANT_BYTES);
    drop(first);
    assert_eq!(memory.taken(), GRANT_BYTES);
    let full = hog(&memory, UNASKED_BYTES);
    let mut third = Session::new(&memory);
    assert!(!third.take(GRANT_BYTES, ALONE));
    drop(third);
    assert_eq!(memory.waiting(), 0);
    drop((full, second));
    assert_eq!(memory.taken(), 0);
}

/// `SharedHalf::write` takes the request under the session's lock, and hands it over when it has let go of it: a
/// session may end in between, on another thread.
#[test]
fn a_session_that_ends_before_its_request_is_in_the_queue_leaves_nothing_there() {
    let memory = Arc::new(Pool::default());
    let full = hog(&memory, UNASKED_BYTES);
    let transport: Arc<dyn Transport> = Arc::new(Woken::default());
    let mut quota = Quota::new(memory.clone());
    assert!(!quota.take(GUARANTEED_BYTES + 8 * GRANT_BYTES, ALONE));
    let request = quota.request().unwrap();
    drop(quota);
    memory.enqueue(request, &transport);
    drop(full);
    memory.wake();
    assert_eq!((memory.waiting(), memory.taken() / GRANT_BYTES), (0, 0), "nobody is left");
}

/// In the same moment another thread may serve the queue, in which the session stands for less.
#[test]
fn a_session_that_is_given_what_it_asked_for_before_while_it_asks_for_more_is_not_given_both_for_ever() {
    let memory = Arc::new(Pool::default());
    let mut full = hog(&memory, UNASKED_BYTES);
    let transport: Arc<dyn Transport> = Arc::new(Woken::default());
    let mut quota = Quota::new(memory.clone());
    assert!(!quota.take(GUARANTEED_BYTES + GRANT_BYTES, ALONE));
    memory.enqueue(quota.request().unwrap(), &transport);
    // What it waited for was aborted; the next one needs more.
    assert!(!quota.take(GUARANTEED_BYTES + 2 * GRANT_BYTES, ALONE));
    let request = quota.request().unwrap();
    full.taken -= GRANT_BYTES;
    memory.give(GRANT_BYTES);
    memory.wake();
    memory.enqueue(request, &transport);
    // That was aborted too: what it has been given is enough for what comes.
    assert!(quota.take(GUARANTEED_BYTES + GRANT_BYTES, ALONE));
    drop(full);
    memory.wake();
    quota.rest(0);
    drop(quota);
    memory.wake();
    assert_eq!((memory.waiting(), memory.taken() / GRANT_BYTES), (0, 0), "nobody is left");
}

#[test]
fn somebody_starves_who_is_first_in_the_queue_for_too_long() {
    let memory = Arc::new(Pool::default());
    let full = hog(&memory, UNASKED_BYTES);
    assert!(!memory.is_starved(Time(0) + STARVING_AFTER * 9));
    let mut first = Session::new(&memory);
    assert!(!first.take(GRANT_BYTES, ALONE));
    let seen = Time(0) + STARVING_AFTER * 9;
    assert!(!memory.is_starved(seen));
    assert!(!memory.is_starved(seen + STARVING_AFTER - Duration::from_nanos(1)));
    assert!(memory.is_starved(seen + STARVING_AFTER));
    drop(full);
    memory.wake();
    assert!(!memory.is_starved(seen + STARVING_AFTER * 9));
}

#[test]
fn many_threads_with_little_memory_all_come_to_an_end() {
    let memory = Arc::new(Pool::default());
    let _full = hog(&memory, UNASKED_BYTES + 10 * GRANT_BYTES);
    let threads: Vec<_> = (0..8_u64)
        .map(|thread| {
            let memory = memory.clone();
            thread::spawn(move || {
                let mut session = Session::new(&memory);
                for round in 0..2000 {
                    let bytes = (1 + (thread + round) % 8) * GRANT_BYTES;
                    while !session.take(bytes, ALONE) {
                        session.woken.wait();
                    }
                    assert!(memory.taken() <= ASKED_BYTES);
                    session.rest(0);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(memory.waiting(), 0);
}

proptest! {
    #[test]
    fn the_pool_is_never_overdrawn_and_every_byte_comes_back(
        steps in prop::collection::vec((0_usize..4, 0_u64..400 << 20, 0_u8..4), 0..100),
    ) {
        let memory = Arc::new(Pool::default());
        let mut sessions: Vec<(Session, u64)> = (0..4).map(|_| (Session::new(&memory), 0)).collect();
        for (who, level, what) in steps {
            let (session, held) = &mut sessions[who];
            let purpose = match what {
                0 => {
                    *held = level.min(*held);
                    session.rest(*held);
                    continue;
                }
                1 => Purpose::Unasked,
                2 => MORE,
                _ => ALONE,
            };
            if session.take(level, purpose) {
                *held = (*held).max(level);
            }
            prop_assert!(memory.taken() <= POOL_BYTES_MAX);
            for (session, held) in &sessions {
                prop_assert!(session.quota.covers(GUARANTEED_BYTES + *held));
            }
        }
        for (session, _) in &mut sessions {
            session.rest(0);
        }
        prop_assert!(memory.waiting() == 0 || memory.taken() > 0, "nobody waits where there is room");
        drop(sessions);
        prop_assert_eq!(memory.taken(), 0);
        prop_assert_eq!(memory.waiting(), 0);
    }
}
