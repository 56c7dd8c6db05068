//! Workers: each runs its connections and bridges from the first byte to the last, alone.
//!
//! A worker is a runtime of its own and the thread that is in it. Waking another core costs more than executing a
//! command, so a connection stays where it was put, and sends to the peer on the bridge of its own worker.
//!
//! Nobody can say of a disk beforehand whether it will answer, and a thread that it does not answer cannot be had
//! back. So no disk is ever asked inside a runtime: what a batch wants of disks is gathered ([`crate::batch`]), the
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

use super::busy_poll;
use super::kept;
use crate::batch;

/// How often a worker proves that it gets on, even if it has nothing to do.
pub(crate) const BEAT_EVERY: Duration = Duration::from_millis(100);

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
pub(crate) fn ask_disk<R>(file: &Arc<VolumeFile>, ask: impl FnOnce() -> R) -> R {
    let call = SELF.with_borrow(|worker| worker.as_ref().map(|worker| worker.begin_call(file)));
    let answer = ask();
    let Some(call) = call else { return answer };
    let late = |worker: &Arc<Worker>| (!worker.moves_on_from(call)).then(|| worker.request(call));
    if let Some(request) = SELF.with_borrow(|worker| worker.as_ref().and_then(late)) {
        kept::threads().ends(request);
        file.answers_again();
        KIND.set(ThreadKind::Other);
        SELF.set(None);
        batch::begin_anew();
    }
    answer
}

/// Workers, or the control thread of a controller. Dropping them ends all their tasks where they wait.
pub struct Workers {
    workers: Vec<Arc<Worker>>,
    turn: AtomicUsize,
}

/// One worker: what a thread needs to be it.
pub(crate) struct Worker {
    name: String,
    kind: ThreadKind,
    /// There until the end.
    runtime: Option<Runtime>,
    /// What its batches have gathered.
    gathered: Arc<batch::Gathered>,
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
    polling: Mutex<Option<AbortHandle>>,
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
    pub(crate) fn each(&self) -> impl Iterator<Item = &Arc<Worker>> {
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
            polling: Mutex::default(),
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
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Grows as long as the worker gets on, at least every [`BEAT_EVERY`].
    pub(crate) fn beats(&self) -> u64 {
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
    pub(crate) fn asks(&self) -> Option<u64> {
        let call = self.call.load(Ordering::Acquire);
        (call % 2 == 1).then_some(call)
    }

    /// A new thread goes on as this worker, unless that request has come back.
    pub(crate) fn succeed(self: &Arc<Self>, call: u64) {
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
        batch::go_on_with(Arc::clone(&self.gathered));
        if matches!(self.kind, ThreadKind::Worker(_)) {
            let polling = runtime.spawn(busy_poll::poll_for_work()).abort_handle();
            if let Some(before) = self.polling.lock().replace(polling) {
                before.abort();
            }
        }
        // The thread that was this worker before has perhaps left something to do.
        while batch::finish_outside() && runtime.block_on(self.until_asked_to_leave()) {}
        SELF.set(None);
    }

    /// True if disks are to be asked, false if the worker ends.
    async fn until_asked_to_leave(&self) -> bool {
        let mut entered = false;
        poll_fn(|context| {
            let first = !std::mem::replace(&mut entered, true);
            if first {
                batch::on_inside_again();
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

/// What this worker's batch has gathered is to be done outside of its runtime. False if the calling thread is no
/// worker.
pub(crate) fn leave_runtime() -> bool {
    SELF.with_borrow(|worker| worker.as_ref().map(|worker| worker.call_out()).is_some())
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The last reference may be dropped in a runtime, where the end of another must not be waited for. The tasks
        // of this one end all the same.
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
mod tests;
