//! The threads for disk I/O that would block.
//!
//! Each volume has a [`Lane`]. The threads take jobs from the lanes in turn, and one lane occupies at most
//! [`LANE_THREADS_MAX`] of them, so that a disk that hangs takes no other disk with it. Submitting never
//! blocks: a lane that is full hands the job back.
//!
//! The threads stand back behind the rest of the process ([`stand_back`]): where all share one processor, hosts that
//! are served from memory do not wait for it behind the requests of those that wait for a disk.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};

/// Threads of a pool.
pub const DISK_THREADS: usize = 32;

/// By how much less the threads weigh with the scheduler than the rest of the process: `nice`, of 19. They need the
/// processor for moments only and wait for the disk otherwise, so this costs them little: at 5, a third of the
/// weight.
const DISK_NICENESS: i32 = 5;

/// Threads that work for one volume at a time at most.
pub const LANE_THREADS_MAX: usize = 16;

/// Jobs that wait in one lane at most: above the commands a LUN may have in flight, so that a full lane means
/// a disk that has stopped answering.
pub const LANE_QUEUE_JOBS_MAX: usize = 16_384;

/// One piece of blocking work, with the delivery of its result.
pub type Job = Box<dyn FnOnce() + Send>;

/// The threads. Dropping the pool finishes what was submitted and ends them.
pub struct DiskPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    lanes: Vec<LaneState>,
    /// Lanes with a job that may start now, in turn; each at most once.
    ready: VecDeque<usize>,
    closed: bool,
}

#[derive(Default)]
struct LaneState {
    jobs: VecDeque<Job>,
    running: usize,
    ready: bool,
}

impl State {
    /// Puts a lane in line if it has a job that may start and is not in line already.
    fn line_up(&mut self, index: usize) -> bool {
        let Some(lane) = self.lanes.get_mut(index) else { return false };
        if lane.ready || lane.jobs.is_empty() || lane.running >= LANE_THREADS_MAX {
            return false;
        }
        lane.ready = true;
        self.ready.push_back(index);
        true
    }

    fn take(&mut self) -> Option<(usize, Job)> {
        let index = self.ready.pop_front()?;
        let lane = self.lanes.get_mut(index)?;
        lane.ready = false;
        let job = lane.jobs.pop_front()?;
        lane.running += 1;
        self.line_up(index);
        Some((index, job))
    }

    fn finished(&mut self, index: usize) {
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.running = lane.running.saturating_sub(1);
        }
        self.line_up(index);
    }
}

impl DiskPool {
    /// Starts [`DISK_THREADS`] threads.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::with_capacity(DISK_THREADS);
        for number in 0..DISK_THREADS {
            let shared = Arc::clone(&shared);
            let builder = thread::Builder::new().name(format!("disk-{number}"));
            let work = move || {
                stand_back();
                shared.work();
            };
            threads.push(builder.spawn(work)?);
        }
        Ok(Self { shared, threads })
    }

    /// A lane of its own for one volume.
    #[must_use]
    pub fn lane(&self) -> Lane {
        let mut state = self.shared.state.lock();
        state.lanes.push(LaneState::default());
        Lane { index: state.lanes.len() - 1, shared: Arc::clone(&self.shared) }
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
        self.shared.state.lock().closed = true;
        self.shared.work.notify_all();
        let own = thread::current().id();
        for thread in self.threads.drain(..).filter(|thread| thread.thread().id() != own) {
            if thread.join().is_err() {
                tracing::error!("a disk thread had panicked");
            }
        }
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some((lane, job)) = state.take() {
                parking_lot::MutexGuard::unlocked(&mut state, job);
                state.finished(lane);
            } else if state.closed {
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
        assert!(pool.lane().submit(Box::new(move || say.send(standing()).unwrap())).is_ok());
        let (niceness, policy): (i32, i32) = standing();
        let behind = if policy == libc::SCHED_OTHER { libc::SCHED_BATCH } else { policy };
        assert_eq!(said.recv(), Ok(((niceness + DISK_NICENESS).min(19), behind)));
    }

    #[test]
    fn a_volume_that_hangs_leaves_threads_for_the_others() {
        let pool = DiskPool::start().unwrap();
        let (hung, healthy) = (pool.lane(), pool.lane());
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

    #[test]
    fn a_full_lane_hands_the_job_back_and_still_takes_the_single_one() {
        let pool = DiskPool::start().unwrap();
        let lane = pool.lane();
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
