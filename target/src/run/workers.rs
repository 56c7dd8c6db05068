//! Workers: each runs its connections and bridges from the first byte to the last, alone.
//!
//! A worker is a runtime of its own and the thread that is in it. Waking another core costs more than executing a
//! command, so a connection stays where it was put, and sends to the peer on the bridge of its own worker.
//!
//! Nobody can say of a disk beforehand whether it will answer, and a thread that it does not answer cannot be had
//! back. So no disk is ever asked inside a runtime: what a batch wants of disks is gathered ([`super::cork`]), the
//! thread leaves the runtime and asks there ([`ask_disk`]), one request at a time. If one does not come back, a new
//! thread goes on as the worker, with everything that was gathered ([`Worker::succeed`]). The old one delivers what it
//! has got when its disk answers, like a thread of the disk pool, and ends.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use controller::disk::file::VolumeFile;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;

use super::{cork, kept, patience};

/// How often a worker proves that it gets on, even if it has nothing to do.
pub(super) const BEAT_EVERY: Duration = Duration::from_millis(100);

/// Threads of workers that wait for disks which do not answer, at most; beyond, a worker waits with its thread.
pub(crate) const HUNG_THREADS_MAX: usize = 64;

/// What the calling thread is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ThreadKind {
    /// The worker of that index.
    Worker(usize),
    /// A control thread, on which nothing may wait for a disk.
    Control,
    /// Any other: a thread of the disk pool or of the state store.
    Other,
}

thread_local! {
    static KIND: Cell<ThreadKind> = const { Cell::new(ThreadKind::Other) };
    /// The worker that this thread is.
    static SELF: RefCell<Option<Arc<Worker>>> = const { RefCell::new(None) };
    /// What this thread has put into [`Worker::asked`] last, which keeps it.
    static ASKED: Cell<*const VolumeFile> = const { Cell::new(std::ptr::null()) };
}

/// How many threads that were workers wait for disks which do not answer.
pub(crate) fn hung_threads() -> usize {
    kept::threads().count()
}

/// What the calling thread is.
#[must_use]
pub fn thread_kind() -> ThreadKind {
    KIND.get()
}

/// Asks a disk, from a worker's thread outside of its runtime. If it takes long, somebody else may go on as the worker:
/// then the caller is on a thread of the kind [`ThreadKind::Other`] afterwards.
pub(super) fn ask_disk<R>(file: &Arc<VolumeFile>, ask: impl FnOnce() -> R) -> R {
    let call = SELF.with_borrow(|worker| worker.as_ref().map(|worker| worker.begin_call(file)));
    let answer = ask();
    let Some(call) = call else { return answer };
    let late = |worker: &Arc<Worker>| (!worker.moves_on_from(call)).then(|| worker.request(call));
    if let Some(request) = SELF.with_borrow(|worker| worker.as_ref().and_then(late)) {
        kept::threads().ends(request);
        file.answers_again();
        KIND.set(ThreadKind::Other);
        SELF.set(None);
        cork::begin_anew();
    }
    answer
}

/// Workers, or the control thread of a controller. Dropping them ends all their tasks where they wait.
pub struct Workers {
    workers: Vec<Arc<Worker>>,
    turn: AtomicUsize,
}

/// One worker: what a thread needs to be it.
pub(super) struct Worker {
    name: String,
    kind: ThreadKind,
    /// There until the end.
    runtime: Option<Runtime>,
    /// What its batches have gathered.
    gathered: Arc<cork::Gathered>,
    /// Odd while its thread asks a disk. Who moves it on to the next number, which is even, is the worker from then on.
    call: AtomicU64,
    /// Which disk.
    asked: Mutex<Option<Arc<VolumeFile>>>,
    /// Grows as long as it gets on.
    beats: AtomicU64,
    ending: AtomicBool,
    /// Calls its thread out of the runtime.
    leave: Mutex<Option<Waker>>,
    /// Looks for work.
    looking: Mutex<Option<AbortHandle>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Workers {
    /// Starts `count` workers, at least one.
    pub fn start(count: usize) -> io::Result<Self> {
        let kinds = (0..count.max(1)).map(|index| (format!("worker-{index}"), ThreadKind::Worker(index)));
        Self::start_kinds(kinds)
    }

    /// Starts the one control thread of a controller.
    pub fn start_control(controller: &str) -> io::Result<Self> {
        Self::start_kinds(std::iter::once((format!("control-{controller}"), ThreadKind::Control)))
    }

    fn start_kinds(kinds: impl Iterator<Item = (String, ThreadKind)>) -> io::Result<Self> {
        let workers = kinds.map(|(name, kind)| Worker::start(name, kind)).collect::<io::Result<_>>()?;
        Ok(Self { workers, turn: AtomicUsize::new(0) })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.workers.len()
    }

    /// Each of them, to watch it.
    pub(super) fn each(&self) -> impl Iterator<Item = &Arc<Worker>> {
        self.workers.iter()
    }

    /// Each worker in turn.
    #[must_use]
    pub fn next(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % self.workers.len().max(1)
    }

    /// Runs the task that `start` makes on the worker of that index, counted round.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(
        &self,
        index: usize,
        start: impl FnOnce() -> F + Send + 'static,
    ) {
        let worker = self.workers.get(index % self.workers.len().max(1));
        if let Some(runtime) = worker.and_then(|worker| worker.runtime.as_ref()) {
            // The task lives on by itself; nobody waits for it.
            let _handle = runtime.spawn(async move { start().await });
        }
    }
}

impl Worker {
    fn start(name: String, kind: ThreadKind) -> io::Result<Arc<Self>> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let worker = Arc::new(Self {
            name: name.clone(),
            kind,
            runtime: Some(runtime),
            gathered: Arc::default(),
            call: AtomicU64::new(0),
            asked: Mutex::default(),
            beats: AtomicU64::new(0),
            ending: AtomicBool::new(false),
            leave: Mutex::default(),
            looking: Mutex::default(),
            thread: Mutex::default(),
        });
        let beating = Arc::downgrade(&worker);
        let _for_ever = handle.spawn(async move {
            while let Some(worker) = beating.upgrade() {
                worker.beats.fetch_add(1, Ordering::Relaxed);
                drop(worker);
                tokio::time::sleep(BEAT_EVERY).await;
            }
        });
        let works = Arc::clone(&worker);
        *worker.thread.lock() = Some(thread::Builder::new().name(name).spawn(move || works.work())?);
        Ok(worker)
    }

    /// What its thread is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Grows as long as the worker gets on, at least every [`BEAT_EVERY`].
    pub(super) fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Its thread is about to ask a disk. Gives the request its name.
    fn begin_call(&self, file: &Arc<VolumeFile>) -> u64 {
        if ASKED.get() != Arc::as_ptr(file) {
            ASKED.set(Arc::as_ptr(file));
            *self.asked.lock() = Some(Arc::clone(file));
        }
        let call = self.call.load(Ordering::Relaxed) + 1;
        self.call.store(call, Ordering::Release);
        call
    }

    /// True for the one who moves it on from that request.
    fn moves_on_from(&self, call: u64) -> bool {
        self.call.compare_exchange(call, call + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The name of that request among those of all workers.
    fn request(self: &Arc<Self>, call: u64) -> kept::Request {
        (Arc::as_ptr(self).addr(), call)
    }

    /// Names the request to a disk that the worker waits for now.
    pub(super) fn asks(&self) -> Option<u64> {
        let call = self.call.load(Ordering::Acquire);
        (call % 2 == 1).then_some(call)
    }

    /// A new thread goes on as this worker, unless that request has come back.
    pub(super) fn succeed(self: &Arc<Self>, call: u64) {
        let Some(file) = self.asked.lock().clone() else { return };
        if hung_threads() >= HUNG_THREADS_MAX {
            return;
        }
        let worker = Arc::clone(self);
        // It is there before the worker is taken from the one that has it, and is the worker only then.
        let (go, goes) = mpsc::sync_channel::<()>(1);
        let started = thread::Builder::new().name(self.name.clone()).spawn(move || {
            if goes.recv().is_err() {
                return;
            }
            worker.work();
        });
        let thread = match started {
            Ok(thread) => thread,
            Err(error) => {
                return tracing::error!(
                    "no thread can be started in the place of one whose disk hangs: {error}"
                );
            }
        };
        // Nobody asks this disk on a worker from now on.
        file.hangs();
        let request = self.request(call);
        kept::threads().begins(request, file.path(), Instant::now());
        if !self.moves_on_from(call) {
            file.answers_again();
            kept::threads().never_was(request);
            return;
        }
        tracing::debug!("{}: {} goes on without waiting for its disk", file.path().display(), self.name);
        // The one before waits for its disk: nobody waits for it.
        *self.thread.lock() = Some(thread);
        if go.send(()).is_err() {
            tracing::error!("the thread in the place of one whose disk hangs has ended");
        }
    }

    /// The calling thread is this worker until it ends, or until a disk keeps it.
    fn work(self: Arc<Self>) {
        let Some(runtime) = &self.runtime else { return };
        KIND.set(self.kind);
        SELF.set(Some(Arc::clone(&self)));
        cork::go_on_with(Arc::clone(&self.gathered));
        if matches!(self.kind, ThreadKind::Worker(_)) {
            let looking = runtime.spawn(patience::look_for_work()).abort_handle();
            if let Some(before) = self.looking.lock().replace(looking) {
                before.abort();
            }
        }
        // Whoever was this worker before has perhaps left something to do.
        while cork::finish_outside() && runtime.block_on(self.until_asked_to_leave()) {}
        SELF.set(None);
    }

    /// True if disks are to be asked, false if the worker ends.
    async fn until_asked_to_leave(&self) -> bool {
        let mut entered = false;
        poll_fn(|context| {
            let first = !std::mem::replace(&mut entered, true);
            if first {
                cork::on_inside_again();
            }
            if self.ending.load(Ordering::Acquire) {
                return Poll::Ready(false);
            }
            if self.gathered.is_left_for_outside() {
                if !first {
                    return Poll::Ready(true);
                }
                // There was too much for one time outside: others have their turn first.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut leave = self.leave.lock();
            if !leave.as_ref().is_some_and(|leave| leave.will_wake(context.waker())) {
                *leave = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    fn call_out(&self) {
        if let Some(leave) = &*self.leave.lock() {
            leave.wake_by_ref();
        }
    }
}

/// What this worker's batch has gathered is to be done outside of its runtime. False if the calling thread is no worker.
pub(super) fn leave_runtime() -> bool {
    SELF.with_borrow(|worker| worker.as_ref().map(|worker| worker.call_out()).is_some())
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Whoever is the last to know it may be in a runtime, where the end of another must not be waited for. Its tasks
        // end here all the same.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.ending.store(true, Ordering::Release);
            worker.call_out();
        }
        let own = thread::current().id();
        for worker in &self.workers {
            let thread = worker.thread.lock().take();
            if let Some(thread) = thread.filter(|thread| thread.thread().id() != own)
                && thread.join().is_err()
            {
                tracing::error!("a worker had panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use controller::disk::DiskIo;
    use controller::disk::buffers::BufferPool;
    use controller::disk::pool::DiskPool;
    use protocol::block::BlockRange;

    use super::super::cork::Batch;
    use super::super::requests::Answer;
    use super::*;

    #[test]
    fn a_task_runs_on_the_worker_it_was_given_to() {
        let workers = Workers::start(3).unwrap();
        let control = Workers::start_control("alpha").unwrap();
        let (done, kinds) = mpsc::channel();
        for index in [0, 1, 2, 4] {
            let done = done.clone();
            workers.spawn(index, move || async move { done.send((index, thread_kind())).unwrap() });
        }
        control.spawn(0, move || async move { done.send((9, thread_kind())).unwrap() });
        let mut kinds: Vec<_> = kinds.iter().collect();
        kinds.sort_by_key(|(index, _)| *index);
        let expected = [
            (0, ThreadKind::Worker(0)),
            (1, ThreadKind::Worker(1)),
            (2, ThreadKind::Worker(2)),
            (4, ThreadKind::Worker(1)),
            (9, ThreadKind::Control),
        ];
        assert_eq!(kinds, expected);
        assert_eq!(thread_kind(), ThreadKind::Other);
    }

    fn volume(pool: &DiskPool, disk: u64) -> Arc<VolumeFile> {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        Arc::new(VolumeFile::new(file, "lun.volume".as_ref(), 8, BufferPool::default(), pool.lane(disk)))
    }

    #[test]
    fn a_disk_that_keeps_a_workers_thread_keeps_nothing_else_from_getting_on() {
        let pool = DiskPool::start().unwrap();
        let (hung, neighbour, other) = (volume(&pool, 1), volume(&pool, 1), volume(&pool, 2));
        let read = DiskIo::Read(BlockRange::new(0, 8).unwrap());
        let workers = Workers::start(1).unwrap();
        let (release, gate) = mpsc::channel::<()>();
        let ((asked, asks), (done, what)) = (mpsc::channel(), mpsc::channel());
        let (hangs, behind, later) = (done.clone(), done.clone(), done);
        let (first, second) = (Arc::clone(&hung), Arc::clone(&other));
        workers.spawn(0, move || async move {
            let _batch = Batch::begin();
            cork::after_bridges(move || {
                ask_disk(&first, || {
                    asked.send(()).unwrap();
                    assert!(gate.recv().is_err());
                });
                hangs.send(("hung", thread_kind())).unwrap();
            });
            cork::after_bridges(move || {
                ask_disk(&second, || ());
                behind.send(("behind it in the batch", thread_kind())).unwrap();
            });
        });
        asks.recv().unwrap();
        workers.spawn(0, move || async move { later.send(("later", thread_kind())).unwrap() });
        let worker = workers.each().next().unwrap();
        let call = worker.asks().unwrap();
        assert!(what.try_recv().is_err(), "the only thread of the worker waits for the disk");
        worker.succeed(call);
        assert_eq!(what.recv(), Ok(("behind it in the batch", ThreadKind::Worker(0))));
        assert_eq!(what.recv(), Ok(("later", ThreadKind::Worker(0))));
        let at_once = [&hung, &neighbour, &other].map(|volume| volume.may_be_done_at_once(&read));
        assert_eq!(at_once, [false, false, true], "no other thread is to wait for that disk");
        drop(release);
        assert_eq!(what.recv(), Ok(("hung", ThreadKind::Other)), "it is no worker any more");
        assert!(hung.may_be_done_at_once(&read) && neighbour.may_be_done_at_once(&read));
    }

    /// Says so when it is dropped in a batch, as whoever is told an answer does.
    struct Told(mpsc::Sender<()>);

    impl AsRef<[u8]> for Told {
        fn as_ref(&self) -> &[u8] {
            b"read"
        }
    }

    impl Drop for Told {
        fn drop(&mut self) {
            if cork::is_batch_open() {
                self.0.send(()).unwrap();
            }
        }
    }

    #[test]
    fn what_one_volume_has_answered_is_told_before_another_is_asked() {
        let pool = DiskPool::start().unwrap();
        let hung = volume(&pool, 1);
        let workers = Workers::start(1).unwrap();
        let (release, gate) = mpsc::channel::<()>();
        let (told, tells) = mpsc::channel();
        workers.spawn(0, move || async move {
            let _batch = Batch::begin();
            cork::answer_after_bridges(1, Answer::to_nobody(Ok(vec![Bytes::from_owner(Told(told))])));
            cork::after_bridges(move || ask_disk(&hung, || assert!(gate.recv().is_err())));
        });
        // Nobody goes on in the place of the thread that waits.
        tells
            .recv_timeout(Duration::from_secs(20))
            .expect("a host waits for a disk that its command never asked");
        drop(release);
    }

    #[test]
    fn what_a_disk_answers_when_somebody_else_is_the_worker_is_told_too() {
        let pool = DiskPool::start().unwrap();
        let slow = volume(&pool, 1);
        let workers = Workers::start(1).unwrap();
        let ((release, gate), (asked, asks)) = (mpsc::channel::<()>(), mpsc::channel());
        let (told, tells) = mpsc::channel();
        let (kept, keeps) = mpsc::channel();
        workers.spawn(0, move || async move {
            let _batch = Batch::begin();
            let ask = move || {
                ask_disk(&slow, || {
                    asked.send(()).unwrap();
                    assert!(gate.recv().is_err());
                });
                kept.send(thread_kind()).unwrap();
            };
            let answer = Answer::to_nobody(Ok(vec![Bytes::from_owner(Told(told))]));
            cork::answer_late_after_bridges(0, ask, answer);
        });
        asks.recv().unwrap();
        let worker = workers.each().next().unwrap();
        worker.succeed(worker.asks().unwrap());
        assert!(tells.try_recv().is_err(), "the disk has not answered");
        drop(release);
        assert_eq!(keeps.recv(), Ok(ThreadKind::Other));
        tells.recv_timeout(Duration::from_secs(20)).expect("a host waits for what its disk has answered");
    }

    #[test]
    fn what_one_disk_has_answered_is_told_though_the_next_hangs() {
        let pool = DiskPool::start().unwrap();
        let hung = volume(&pool, 1);
        let workers = Workers::start(1).unwrap();
        let ((release, gate), (asked, asks)) = (mpsc::channel::<()>(), mpsc::channel());
        let (told, tells) = mpsc::channel();
        workers.spawn(0, move || async move {
            let _batch = Batch::begin();
            cork::answer_after_bridges(0, Answer::to_nobody(Ok(vec![Bytes::from_owner(Told(told))])));
            cork::after_bridges(move || {
                ask_disk(&hung, || {
                    asked.send(()).unwrap();
                    assert!(gate.recv().is_err());
                });
            });
        });
        asks.recv().unwrap();
        let worker = workers.each().next().unwrap();
        worker.succeed(worker.asks().unwrap());
        tells
            .recv_timeout(Duration::from_secs(20))
            .expect("a host waits for a disk that its command never asked");
        drop(release);
    }

    #[test]
    fn what_one_disk_has_answered_is_told_before_the_next_worker_asks_another() {
        let pool = DiskPool::start().unwrap();
        let workers = Workers::start(1).unwrap();
        let (asked, asks) = mpsc::channel();
        let (told, tells) = mpsc::channel();
        let ((release, gate), (release_too, gate_too)) = (mpsc::channel::<()>(), mpsc::channel::<()>());
        let hangs = [(volume(&pool, 1), gate), (volume(&pool, 2), gate_too)];
        workers.spawn(0, move || async move {
            let _batch = Batch::begin();
            cork::answer_after_bridges(0, Answer::to_nobody(Ok(vec![Bytes::from_owner(Told(told))])));
            for (hung, gate) in hangs {
                let asked = asked.clone();
                cork::after_bridges(move || {
                    ask_disk(&hung, || {
                        asked.send(()).unwrap();
                        assert!(gate.recv().is_err());
                    });
                });
            }
        });
        asks.recv().unwrap();
        let worker = workers.each().next().unwrap();
        worker.succeed(worker.asks().unwrap());
        asks.recv().unwrap();
        let told = tells.recv_timeout(Duration::from_secs(3));
        worker.succeed(worker.asks().unwrap());
        drop((release, release_too));
        told.expect("a second disk that hangs keeps the answer of a third");
    }

    #[test]
    fn a_disk_that_stalls_for_a_moment_is_no_news() {
        let pool = DiskPool::start().unwrap();
        let volume = volume(&pool, 1);
        let workers = Workers::start(1).unwrap();
        let worker = Arc::clone(workers.each().next().unwrap());
        let ((release, gate), (asked, asks)) = (mpsc::channel::<()>(), mpsc::channel());
        let (logged, lines) = mpsc::channel();
        workers.spawn(0, move || async move {
            cork::after_bridges(move || {
                let log = tempfile::NamedTempFile::new().unwrap();
                let lines = std::sync::Mutex::new(log.reopen().unwrap());
                let subscriber = tracing_subscriber::fmt().with_writer(lines).finish();
                tracing::subscriber::with_default(subscriber, || {
                    ask_disk(&volume, || {
                        asked.send(()).unwrap();
                        assert!(gate.recv().is_err());
                    });
                });
                logged.send(std::fs::read_to_string(log.path()).unwrap()).unwrap();
            });
        });
        asks.recv().unwrap();
        worker.succeed(worker.asks().unwrap());
        drop(release);
        assert_eq!(lines.recv(), Ok(String::new()));
    }

    #[test]
    fn the_thread_that_is_the_worker_is_the_one_whose_end_is_waited_for() {
        let pool = DiskPool::start().unwrap();
        let volume = volume(&pool, 1);
        let workers = Workers::start(1).unwrap();
        let worker = Arc::clone(workers.each().next().unwrap());
        let (done, what) = mpsc::channel();
        workers.spawn(0, move || async move {
            cork::after_bridges(move || {
                ask_disk(&volume, || ());
                done.send(()).unwrap();
            });
        });
        what.recv().unwrap();
        // The watch has seen that request twice; it has come back before a thread was there to go on in its place.
        worker.succeed(worker.call.load(Ordering::Acquire) - 1);
        let ended = Arc::new(AtomicBool::new(false));
        let (works, (begun, begins)) = (Arc::clone(&ended), mpsc::channel());
        workers.spawn(0, move || async move {
            begun.send(()).unwrap();
            thread::sleep(Duration::from_millis(300));
            works.store(true, Ordering::Release);
        });
        begins.recv().unwrap();
        drop(workers);
        assert!(ended.load(Ordering::Acquire), "it still works, and what it works with is taken away");
    }

    #[test]
    fn a_disk_that_answers_in_time_keeps_its_thread_the_worker() {
        let pool = DiskPool::start().unwrap();
        let volume = volume(&pool, 1);
        let workers = Workers::start(1).unwrap();
        let worker = workers.each().next().unwrap();
        let (done, what) = mpsc::channel();
        for _ in 0..100 {
            let (volume, done) = (Arc::clone(&volume), done.clone());
            workers.spawn(0, move || async move {
                // No batch is open.
                cork::after_bridges(move || {
                    ask_disk(&volume, || ());
                    done.send(thread_kind()).unwrap();
                });
            });
            // One that has come back meanwhile.
            let call = worker.call.load(Ordering::Acquire);
            if call > 0 && call.is_multiple_of(2) {
                worker.succeed(call - 1);
            }
            assert_eq!(what.recv(), Ok(ThreadKind::Worker(0)));
        }
        while !volume.may_be_done_at_once(&DiskIo::Read(BlockRange::new(0, 8).unwrap())) {
            thread::yield_now();
        }
        assert_eq!(worker.asks(), None);
    }
}
