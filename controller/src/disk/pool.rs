//! The threads for disk I/O that would block.
//!
//! Each volume has a [`Lane`]. The threads take jobs from the lanes in turn; one lane occupies at most
//! [`LANE_THREADS_MAX`] of them, and all lanes of one disk [`THREADS_PER_DISK_MAX`], so that a disk that hangs takes no
//! other disk with it. Threads that a disk has kept for [`HUNG_AFTER`] do not count any more: others are started in
//! their place ([`DiskPool::look`]), and go when they have come back. Submitting never blocks: a lane that is full
//! hands the job back.
//!
//! The threads stand back behind the rest of the process ([`stand_back`]): where all share one processor, hosts that
//! are served from memory do not wait for it behind the requests of those that wait for a disk.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Threads of a pool whose disks answer.
pub const DISK_THREADS: usize = 32;

/// Threads of a pool at most, with those that wait for disks which do not answer.
pub const DISK_THREADS_MAX: usize = 256;

/// By how much less the threads weigh with the scheduler than the rest of the process: `nice`, of 19. They need the
/// processor for moments only and wait for the disk otherwise, so this costs them little: at 5, a third of the
/// weight.
const DISK_NICENESS: i32 = 5;

/// Threads that work for one volume at a time at most.
pub const LANE_THREADS_MAX: usize = 16;

/// Threads that work for the volumes of one disk at a time at most.
pub const THREADS_PER_DISK_MAX: usize = 24;

/// Jobs that wait in one lane at most: above the commands a LUN may have in flight, so that a full lane means
/// a disk that has stopped answering.
pub const LANE_QUEUE_JOBS_MAX: usize = 16_384;

/// A disk that has finished nothing for this long, with jobs under way, hangs.
pub const HUNG_AFTER: Duration = Duration::from_secs(1);

/// How often [`DiskPool::look`] is to be called.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long the end of a pool waits for a disk that finishes nothing.
const END_SILENCE_MAX: Duration = Duration::from_secs(10);

/// The disk of work that asks none.
pub const NO_DISK: u64 = u64::MAX;

/// One piece of blocking work, with the delivery of its result.
pub type Job = Box<dyn FnOnce() + Send>;

/// The threads. Dropping the pool finishes what was submitted and ends them, but for those that a disk keeps.
pub struct DiskPool {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    /// Told when a thread ends.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    lanes: Vec<LaneState>,
    disks: Vec<DiskState>,
    /// Lanes with a job that may start now, in turn; each at most once.
    ready: VecDeque<usize>,
    closed: bool,
    threads: usize,
    /// How many there should be.
    wanted: usize,
}

#[derive(Default)]
struct LaneState {
    /// Its place in `disks`.
    disk: usize,
    jobs: VecDeque<Job>,
    running: usize,
    ready: bool,
}

/// What the volumes of one disk have under way.
#[derive(Default)]
struct DiskState {
    id: u64,
    running: usize,
    /// Threads of others that it keeps.
    keeps: Arc<AtomicUsize>,
    /// Jobs that have ended.
    finished: u64,
    /// How many there were at the last look.
    seen: u64,
    /// Looks since one ended.
    still: u32,
}

impl DiskState {
    const fn hangs(&self) -> bool {
        self.still as u128 * LOOK_EVERY.as_millis() >= HUNG_AFTER.as_millis()
    }

    const fn look(&mut self) {
        self.still =
            if self.running > 0 && self.finished == self.seen { self.still.saturating_add(1) } else { 0 };
        self.seen = self.finished;
    }
}

impl State {
    /// Puts a lane in line if it has a job that may start and is not in line already.
    fn line_up(&mut self, index: usize) -> bool {
        let Some(lane) = self.lanes.get_mut(index) else { return false };
        let disk_busy = self.disks.get(lane.disk).is_some_and(|disk| disk.running >= THREADS_PER_DISK_MAX);
        if lane.ready || lane.jobs.is_empty() || lane.running >= LANE_THREADS_MAX || disk_busy {
            return false;
        }
        lane.ready = true;
        self.ready.push_back(index);
        true
    }

    fn take(&mut self) -> Option<(usize, Job)> {
        loop {
            let index = self.ready.pop_front()?;
            let lane = self.lanes.get_mut(index)?;
            lane.ready = false;
            let disk = self.disks.get_mut(lane.disk)?;
            if disk.running >= THREADS_PER_DISK_MAX {
                // Other lanes of its disk were quicker: it comes in line again when one of their jobs ends.
                continue;
            }
            let job = lane.jobs.pop_front()?;
            lane.running += 1;
            disk.running += 1;
            self.line_up(index);
            return Some((index, job));
        }
    }

    fn finished(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        lane.running = lane.running.saturating_sub(1);
        let of = lane.disk;
        let Some(disk) = self.disks.get_mut(of) else { return };
        disk.finished += 1;
        let was_busy = disk.running >= THREADS_PER_DISK_MAX;
        disk.running = disk.running.saturating_sub(1);
        self.line_up(index);
        if was_busy {
            for other in 0..self.lanes.len() {
                if self.lanes.get(other).is_some_and(|lane| lane.disk == of) {
                    self.line_up(other);
                }
            }
        }
    }

    /// What always holds of the lanes and their disks, seen by a thread that has taken a job or given one back.
    fn check(&self) {
        for (index, disk) in self.disks.iter().enumerate() {
            let running = self.lanes.iter().filter(|lane| lane.disk == index).map(|lane| lane.running).sum();
            debug_assert_eq!(disk.running, running, "a disk and its lanes count differently");
            debug_assert!(disk.running <= THREADS_PER_DISK_MAX, "{} threads for one disk", disk.running);
        }
        for (index, lane) in self.lanes.iter().enumerate() {
            debug_assert!(lane.running <= LANE_THREADS_MAX, "{} threads for one volume", lane.running);
            let in_line = self.ready.iter().filter(|ready| **ready == index).count();
            debug_assert_eq!(in_line, usize::from(lane.ready), "a lane is in line once or not at all");
        }
    }

    fn finished_jobs(&self) -> u64 {
        self.disks.iter().map(|disk| disk.finished).sum()
    }

    /// Threads that wait for disks which hang.
    fn hung(&self) -> usize {
        self.disks.iter().filter(|disk| disk.hangs()).map(|disk| disk.running).sum()
    }
}

impl DiskPool {
    /// Starts [`DISK_THREADS`] threads.
    pub fn start() -> io::Result<Self> {
        let pool = Self { shared: Arc::default() };
        pool.shared.state.lock().wanted = DISK_THREADS;
        pool.shared.start_threads()?;
        Ok(pool)
    }

    /// A lane of its own for one volume on the disk of this number: volumes of one number share their fate.
    #[must_use]
    pub fn lane(&self, disk: u64) -> Lane {
        let mut state = self.shared.state.lock();
        let known = state.disks.iter().position(|known| known.id == disk);
        let place = known.unwrap_or_else(|| {
            state.disks.push(DiskState { id: disk, ..DiskState::default() });
            state.disks.len() - 1
        });
        state.lanes.push(LaneState { disk: place, ..LaneState::default() });
        let keeps = state.disks.get(place).map(|disk| Arc::clone(&disk.keeps)).unwrap_or_default();
        Lane { index: state.lanes.len() - 1, shared: Arc::clone(&self.shared), keeps }
    }

    /// Something that sees to it that a disk which hangs keeps no threads from the others: to be called every
    /// [`LOOK_EVERY`], on any thread.
    pub fn look(&self) -> impl FnMut() + Send + 'static {
        let shared = Arc::downgrade(&self.shared);
        move || {
            if let Some(shared) = shared.upgrade() {
                shared.look();
            }
        }
    }
}

/// Lets the calling thread weigh [`DISK_NICENESS`] less with the scheduler, and not take the processor at once from a
/// worker that wakes it in the middle of a batch (SCHED_BATCH, sched(7)). Both are a thread's own on Linux. Where they
/// cannot be had nothing is lost but order; a process that was given another policy keeps it.
fn stand_back() {
    rustix::process::nice(DISK_NICENESS).ok();
    #[expect(unsafe_code, reason = "scheduling policies have no safe binding")]
    // SAFETY: 0 is the calling thread, and the parameters outlive the call that reads them.
    unsafe {
        if libc::sched_getscheduler(0) == libc::SCHED_OTHER {
            let parameters = libc::sched_param { sched_priority: 0 };
            libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters);
        }
    }
}

impl Drop for DiskPool {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.closed = true;
        self.shared.work.notify_all();
        while state.threads > 0 {
            let before = state.finished_jobs();
            let timed_out = self.shared.ended.wait_for(&mut state, END_SILENCE_MAX).timed_out();
            if timed_out && state.finished_jobs() == before {
                return tracing::error!("{} threads still wait for disks that do not answer", state.threads);
            }
        }
    }
}

impl Shared {
    fn start_threads(self: &Arc<Self>) -> io::Result<()> {
        let mut state = self.state.lock();
        while !state.closed && state.threads < state.wanted {
            let shared = Arc::clone(self);
            let name = format!("disk-{}", state.threads);
            let work = move || {
                stand_back();
                shared.work();
            };
            thread::Builder::new().name(name).spawn(work)?;
            state.threads += 1;
        }
        Ok(())
    }

    fn look(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.disks.iter_mut().for_each(DiskState::look);
        state.wanted = (DISK_THREADS + state.hung()).min(DISK_THREADS_MAX);
        let (missing, many) = (state.threads < state.wanted, state.threads > state.wanted);
        drop(state);
        if missing && let Err(error) = self.start_threads() {
            tracing::error!("no thread can be started in the place of those whose disks hang: {error}");
        }
        if many {
            self.work.notify_one();
        }
    }

    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some((lane, job)) = state.take() {
                if cfg!(debug_assertions) {
                    state.check();
                }
                parking_lot::MutexGuard::unlocked(&mut state, job);
                state.finished(lane);
            } else if state.closed || state.threads > state.wanted {
                state.threads -= 1;
                self.ended.notify_all();
                return;
            } else {
                self.work.wait(&mut state);
            }
        }
    }
}

/// One volume's way into the pool.
#[derive(Clone)]
pub struct Lane {
    index: usize,
    shared: Arc<Shared>,
    /// Threads that are none of the pool's and wait for the disk.
    keeps: Arc<AtomicUsize>,
}

impl Lane {
    /// Submits a job; hands it back if the lane is full or the pool has ended.
    pub fn submit(&self, job: Job) -> Result<(), Job> {
        self.submit_bounded(job, LANE_QUEUE_JOBS_MAX)
    }

    /// Submits a job of which there is at most one per volume: it finds room even in a full lane.
    pub fn submit_single(&self, job: Job) -> Result<(), Job> {
        self.submit_bounded(job, LANE_QUEUE_JOBS_MAX + 1)
    }

    /// Whether the volume's disk keeps a thread that is none of the pool's.
    pub(super) fn hangs(&self) -> bool {
        self.keeps.load(Ordering::Acquire) > 0
    }

    /// The volume's disk keeps a thread that is none of the pool's.
    pub(super) fn keeps_a_thread(&self) {
        self.keeps.fetch_add(1, Ordering::AcqRel);
    }

    /// It has come back.
    pub(super) fn gives_the_thread_back(&self) {
        self.keeps.fetch_sub(1, Ordering::AcqRel);
    }

    /// Jobs that wait, and jobs that a thread works on.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let state = self.shared.state.lock();
        state.lanes.get(self.index).map_or((0, 0), |lane| (lane.jobs.len(), lane.running))
    }

    fn submit_bounded(&self, job: Job, jobs_max: usize) -> Result<(), Job> {
        let mut state = self.shared.state.lock();
        let closed = state.closed;
        match state.lanes.get_mut(self.index) {
            Some(lane) if !closed && lane.jobs.len() < jobs_max => lane.jobs.push_back(job),
            _ => return Err(job),
        }
        if state.line_up(self.index) || !state.ready.is_empty() {
            self.shared.work.notify_one();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn disk_threads_stand_behind_the_rest_of_the_process() {
        let pool = DiskPool::start().unwrap();
        let (say, said) = mpsc::channel();
        // proc_pid_stat(5): the policy is field 41; the second, in brackets, may hold blanks.
        let standing = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let policy =
                stat.rsplit(')').next().unwrap().split_whitespace().nth(41 - 3).unwrap().parse().unwrap();
            (rustix::process::nice(0).unwrap(), policy)
        };
        assert!(pool.lane(0).submit(Box::new(move || say.send(standing()).unwrap())).is_ok());
        let (niceness, policy): (i32, i32) = standing();
        let behind = if policy == libc::SCHED_OTHER { libc::SCHED_BATCH } else { policy };
        assert_eq!(said.recv(), Ok(((niceness + DISK_NICENESS).min(19), behind)));
    }

    #[test]
    fn a_volume_that_hangs_leaves_threads_for_the_others() {
        let pool = DiskPool::start().unwrap();
        let (hung, healthy) = (pool.lane(1), pool.lane(2));
        let (release, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        for _ in 0..DISK_THREADS * 2 {
            let gate = Arc::clone(&gate);
            let waits = move || assert!(gate.lock().recv().is_err());
            assert!(hung.submit(Box::new(waits)).is_ok());
        }
        let (done, finished) = mpsc::channel();
        assert!(healthy.submit(Box::new(move || done.send(7).unwrap())).is_ok());
        assert_eq!(finished.recv(), Ok(7));
        drop(release);
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    fn look_until(look: &mut impl FnMut(), mut there: impl FnMut() -> bool) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !there() {
            assert!(std::time::Instant::now() < deadline);
            look();
            thread::yield_now();
        }
    }

    /// Fills the lanes with jobs that end when what is given back is dropped.
    fn hang(lanes: &[Lane]) -> mpsc::Sender<()> {
        let (release, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        for lane in lanes {
            for _ in 0..DISK_THREADS_MAX {
                let gate = Arc::clone(&gate);
                assert!(lane.submit(Box::new(move || assert!(gate.lock().recv().is_err()))).is_ok());
            }
        }
        release
    }

    #[test]
    fn all_volumes_of_a_disk_that_hangs_leave_threads_for_other_disks() {
        let pool = DiskPool::start().unwrap();
        let lanes = [pool.lane(7), pool.lane(7), pool.lane(7)];
        let release = hang(&lanes);
        // All the threads that it may have.
        let taken = || lanes.iter().map(|lane| lane.load().1).sum::<usize>();
        while taken() < THREADS_PER_DISK_MAX.min(DISK_THREADS) {
            std::thread::yield_now();
        }
        let (done, finished) = mpsc::channel();
        assert!(pool.lane(8).submit(Box::new(move || done.send(7).unwrap())).is_ok());
        assert_eq!(finished.recv_timeout(PATIENCE), Ok(7));
        drop(release);
    }

    #[test]
    fn threads_that_hang_are_replaced_whichever_disks_keep_them_and_go_when_they_are_back() {
        let pool = DiskPool::start().unwrap();
        let mut look = pool.look();
        let lanes: Vec<Lane> = (0..5).map(|disk| pool.lane(disk)).collect();
        let release = hang(&lanes);
        let (done, finished) = mpsc::channel();
        assert!(pool.lane(9).submit(Box::new(move || done.send(7).unwrap())).is_ok());
        let threads = || pool.shared.state.lock().threads;
        // It is looked as often as a second has looks, until all that hang have been noticed.
        look_until(&mut look, || finished.try_recv().is_ok());
        look_until(&mut look, || threads() == DISK_THREADS + lanes.len() * LANE_THREADS_MAX);
        assert!(threads() <= DISK_THREADS_MAX);
        drop(release);
        look_until(&mut look, || threads() == DISK_THREADS);
    }

    #[test]
    fn a_full_lane_hands_the_job_back_and_still_takes_the_single_one() {
        let pool = DiskPool::start().unwrap();
        let lane = pool.lane(0);
        let (release, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let (started, running) = mpsc::channel();
        for _ in 0..LANE_THREADS_MAX {
            let (gate, started) = (Arc::clone(&gate), started.clone());
            let waits = move || {
                started.send(()).unwrap();
                assert!(gate.lock().recv().is_err());
            };
            assert!(lane.submit(Box::new(waits)).is_ok());
        }
        for _ in 0..LANE_THREADS_MAX {
            running.recv().unwrap();
        }
        for _ in 0..LANE_QUEUE_JOBS_MAX {
            assert!(lane.submit(Box::new(|| ())).is_ok());
        }
        assert!(lane.submit(Box::new(|| ())).is_err());
        let (done, finished) = mpsc::channel();
        assert!(lane.submit_single(Box::new(move || done.send(()).unwrap())).is_ok());
        drop(release);
        drop(pool);
        assert_eq!(finished.recv(), Ok(()));
        assert!(lane.submit(Box::new(|| ())).is_err());
    }
}
