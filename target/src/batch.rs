//! Gathering what one batch of work sends and asks of disks, so that each socket gets one write, and no disk is waited
//! for where others would wait too.
//!
//! Code that executes several PDUs or frames in a row opens a [`Batch`]. While it is open on a thread, outputs
//! that would write at once ask [`flush_at_end`] to be flushed when it ends, and what disks are asked for is put
//! behind the frames that carry the same data to the peer ([`ask_after_bridges`]), so that both copies are written
//! at the same time. At the end of the batch: first the bridges are flushed that carry data, then the disks are
//! asked, over again while there is something to ask; then the hosts get their answers; bridges without data are
//! flushed last, so that ORDER and DONE of a forwarded write, sent before and after the local write, travel together.
//! Hosts come before them because a peer on the same processor that is woken first runs first: the host would wait
//! while the peer takes note of a write's end. Nothing depends on that order, as nothing can on that of two sockets.
//!
//! On a worker a batch that asks disks ends outside of the runtime ([`crate::runtime::workers`]), with what other
//! batches have left there. What is gathered belongs to the worker, not to its thread: if a disk keeps the thread, the
//! next one goes on with all that is left.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::runtime::busy_poll;
use crate::runtime::requests::{Answer, DiskRequest, tell_all};
use crate::runtime::workers::leave_runtime;

/// An output that can be flushed: a bridge, or a host's connection.
pub trait Flush: Send + Sync {
    /// Writes what was appended, without blocking.
    fn flush(&self);
}

/// When an output of a batch is flushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Before disks are asked: data for the peer.
    BeforeDisk,
    /// After disks were asked that answer at once: what goes to hosts.
    AfterDisk,
    /// At the very end: anything else for the peer.
    AtEnd,
}

/// So many requests to disks are done outside of the runtime before others have their turn inside.
const REQUESTS_AT_A_TIME: usize = 256;

/// Work put behind the flush of the bridges. A request needs no memory of its own: of many in flight, each would cost
/// the allocator's long way.
enum Work {
    Request(DiskRequest),
    /// Something that counts as a request to the volume of that address.
    #[cfg(test)]
    Other(usize, Box<dyn FnOnce() -> Option<Answer> + Send>),
}

impl Work {
    fn carry_out(self) -> Option<Answer> {
        match self {
            Self::Request(request) => request.carry_out(),
            #[cfg(test)]
            Self::Other(_, work) => work(),
        }
    }

    /// The address of the volume that is asked.
    fn volume(&self) -> usize {
        match self {
            Self::Request(request) => Arc::as_ptr(&request.file).addr(),
            #[cfg(test)]
            Self::Other(volume, _) => *volume,
        }
    }
}

/// What the batches of a worker, or of another thread, have gathered.
#[derive(Default)]
pub(crate) struct Gathered {
    lists: Mutex<Lists>,
    /// A batch has ended that goes on outside of the runtime.
    left: AtomicBool,
}

#[derive(Default)]
struct Lists {
    bridges: Vec<Arc<dyn Flush>>,
    quiet_bridges: Vec<Arc<dyn Flush>>,
    hosts: Vec<Arc<dyn Flush>>,
    /// Bounded by the commands in flight.
    work: VecDeque<Work>,
    /// What disks have answered to it.
    answers: Vec<Answer>,
}

impl Lists {
    /// The next to be asked for, and what is to be told before: what other volumes than its own have answered.
    fn go_on(&mut self, asked: usize) -> Option<(Work, Vec<Answer>)> {
        let next = self.work.pop_front()?;
        let answers = if next.volume() == asked { Vec::new() } else { self.take_answers() };
        Some((next, answers))
    }

    /// All answers there are.
    fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers)
    }

    /// Room for the next answers, so that no batch has to ask the allocator for it.
    fn keep_space(&mut self, space: Vec<Answer>) {
        if self.answers.is_empty() && space.capacity() <= REQUESTS_AT_A_TIME {
            self.answers = space;
        }
    }
}

thread_local! {
    static GATHERED: RefCell<Arc<Gathered>> = RefCell::default();
    /// Batches open on this thread, one inside the other; the outermost does the work.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// Work has ended outside of the runtime since the thread was inside.
    static ENDED_OUTSIDE: Cell<bool> = const { Cell::new(false) };
}

impl Gathered {
    /// Whether something is to be done outside of the runtime.
    pub(crate) fn is_left_for_outside(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// Leaves what was gathered for the worker's thread, once it is outside of the runtime. False if this thread is no
    /// worker's.
    fn leave(&self) -> bool {
        self.left.store(true, Ordering::Release);
        let leaves = leave_runtime();
        if leaves {
            busy_poll::on_work_left();
        } else {
            self.left.store(false, Ordering::Release);
        }
        leaves
    }
}

/// A batch of work on this thread; what it gathered is sent when it is dropped.
#[must_use]
pub struct Batch {
    /// Not to be sent to another thread.
    _thread: std::marker::PhantomData<*const ()>,
}

impl Batch {
    /// Opens a batch. A batch inside another is part of it.
    pub fn begin() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        if DEPTH.get() == 1 {
            busy_poll::on_work_begun();
        }
        Self { _thread: std::marker::PhantomData }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if DEPTH.get() == 1 && !std::thread::panicking() {
            let gathered = GATHERED.with_borrow(Arc::clone);
            let asks = !gathered.lists.lock().work.is_empty();
            if !(asks && gathered.leave()) {
                finish(&gathered, usize::MAX);
                busy_poll::on_work_ended();
            }
        }
        debug_assert!(DEPTH.get() > 0 || std::thread::panicking(), "a batch that ends was opened");
        DEPTH.set(DEPTH.get().saturating_sub(1));
    }
}

/// Asks for `output` to be flushed with the batch open on this thread. False if none is open: flush it now.
#[must_use]
pub fn flush_at_end(output: &Arc<dyn Flush>, due: Due) -> bool {
    if DEPTH.get() == 0 {
        return false;
    }
    GATHERED.with_borrow(|gathered| {
        let mut lists = gathered.lists.lock();
        let list = match due {
            Due::BeforeDisk => &mut lists.bridges,
            Due::AfterDisk => &mut lists.hosts,
            Due::AtEnd => &mut lists.quiet_bridges,
        };
        if !list.iter().any(|known| Arc::ptr_eq(known, output)) {
            list.push(Arc::clone(output));
        }
    });
    true
}

/// Puts a request behind the flush of the bridges of the batch open on this thread. Where none is open a worker carries
/// it out as soon as it is outside of its runtime, and any other thread now.
pub(crate) fn ask_after_bridges(request: DiskRequest) {
    put(Work::Request(request));
}

/// The same for anything else.
#[cfg(test)]
pub(crate) fn after_bridges(work: impl FnOnce() + Send + 'static) {
    let work = move || {
        work();
        None
    };
    put(Work::Other(0, Box::new(work)));
}

/// The same for a request that the volume of that address answers with this.
#[cfg(test)]
pub(crate) fn answer_after_bridges(volume: usize, answer: Answer) {
    answer_late_after_bridges(volume, || (), answer);
}

/// Whether a batch is open on this thread.
#[cfg(test)]
pub(crate) fn is_batch_open() -> bool {
    DEPTH.get() > 0
}

/// The same for one that takes its time.
#[cfg(test)]
pub(crate) fn answer_late_after_bridges(volume: usize, work: impl FnOnce() + Send + 'static, answer: Answer) {
    let work = move || {
        work();
        Some(answer)
    };
    put(Work::Other(volume, Box::new(work)));
}

fn put(work: Work) {
    GATHERED.with_borrow(|gathered| gathered.lists.lock().work.push_back(work));
    if DEPTH.get() == 0 {
        let gathered = GATHERED.with_borrow(Arc::clone);
        if !gathered.leave() {
            finish(&gathered, usize::MAX);
        }
    }
}

/// From now on this thread goes on with what was gathered there.
pub(crate) fn go_on_with(gathered: Arc<Gathered>) {
    GATHERED.set(gathered);
    DEPTH.set(0);
}

/// Somebody else goes on with what this thread had gathered.
pub(crate) fn begin_anew() {
    go_on_with(Arc::default());
}

/// Ends the batches that have left something for outside of the runtime; for the worker's thread, there. False if that
/// took so long that somebody else is the worker now.
pub(crate) fn finish_outside() -> bool {
    let gathered = GATHERED.with_borrow(Arc::clone);
    gathered.left.store(false, Ordering::Release);
    DEPTH.set(1);
    match finish(&gathered, REQUESTS_AT_A_TIME) {
        Finished::All => {}
        Finished::Part => gathered.left.store(true, Ordering::Release),
        Finished::ByAnother => return false,
    }
    DEPTH.set(0);
    ENDED_OUTSIDE.set(true);
    true
}

/// The worker's thread is inside its runtime again.
pub(crate) fn on_inside_again() {
    if ENDED_OUTSIDE.take() {
        busy_poll::on_work_ended();
    }
}

/// How the end of a batch went.
enum Finished {
    /// Nothing is left.
    All,
    /// There is more to ask of disks.
    Part,
    /// This thread goes on with something else since: what is left is somebody else's.
    ByAnother,
}

/// Sends what was gathered, and asks disks, for at most so many requests. Nothing is locked while it does, because
/// sending and asking gather more.
fn finish(gathered: &Arc<Gathered>, requests: usize) -> Finished {
    let mut requests = requests;
    loop {
        let (bridges, asks, answered) = {
            let mut lists = gathered.lists.lock();
            let answered = !lists.answers.is_empty();
            // What a thread before this one has left is told before anything is asked that may hang as well.
            let asks = if answered { 0 } else { lists.work.len().min(requests) };
            (std::mem::take(&mut lists.bridges), asks, answered)
        };
        if bridges.is_empty() && asks == 0 && !answered {
            let (hosts, quiet, more) = {
                let mut lists = gathered.lists.lock();
                let (hosts, quiet) =
                    (std::mem::take(&mut lists.hosts), std::mem::take(&mut lists.quiet_bridges));
                (hosts, quiet, !lists.work.is_empty())
            };
            if hosts.is_empty() && quiet.is_empty() {
                debug_assert!(!more || requests == 0, "nothing is left that may be asked");
                return if more { Finished::Part } else { Finished::All };
            }
            hosts.iter().chain(&quiet).for_each(|output| output.flush());
            continue;
        }
        bridges.iter().for_each(|bridge| bridge.flush());
        requests -= asks;
        if !ask(gathered, asks) {
            return Finished::ByAnother;
        }
    }
}

/// Asks disks for the first `asks` things that were gathered, and tells their answers: those of one volume together,
/// and before another is asked, which may hang. False if this thread goes on with something else since.
fn ask(gathered: &Arc<Gathered>, asks: usize) -> bool {
    let mut asked = 0;
    for _ in 0..asks {
        // One by one: what comes behind one that hangs is somebody else's to do.
        let Some((work, answers)) = gathered.lists.lock().go_on(asked) else { break };
        tell(gathered, answers);
        asked = work.volume();
        let answer = work.carry_out();
        if !GATHERED.with_borrow(|current| Arc::ptr_eq(current, gathered)) {
            tell_all(&mut answer.into_iter().collect());
            return false;
        }
        // Where somebody else finds it, if the next one hangs.
        gathered.lists.lock().answers.extend(answer);
    }
    let answers = gathered.lists.lock().take_answers();
    tell(gathered, answers);
    true
}

/// Tells these answers, and keeps their room.
fn tell(gathered: &Gathered, mut answers: Vec<Answer>) {
    if !answers.is_empty() {
        tell_all(&mut answers);
        gathered.lists.lock().keep_space(answers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<&'static str>>>);

    impl Log {
        fn output(&self, name: &'static str) -> Arc<dyn Flush> {
            Arc::new(Output { name, log: self.clone() })
        }
        fn take(&self) -> Vec<&'static str> {
            std::mem::take(&mut self.0.lock())
        }
    }

    struct Output {
        name: &'static str,
        log: Log,
    }

    impl Flush for Output {
        fn flush(&self) {
            self.log.0.lock().push(self.name);
        }
    }

    #[test]
    fn the_peer_is_sent_to_before_the_own_disk_and_hosts_after_it_and_each_once() {
        let log = Log::default();
        let (bridge, host) = (log.output("bridge"), log.output("host"));
        {
            let _outer = Batch::begin();
            let _inner = Batch::begin();
            assert!(flush_at_end(&host, Due::AfterDisk));
            for _ in 0..3 {
                assert!(flush_at_end(&bridge, Due::BeforeDisk));
                let (log, host) = (log.clone(), Arc::clone(&host));
                after_bridges(move || {
                    log.0.lock().push("disk");
                    assert!(flush_at_end(&host, Due::AfterDisk));
                });
            }
            drop(_inner);
            assert!(log.take().is_empty());
        }
        assert_eq!(log.take(), ["bridge", "disk", "disk", "disk", "host"]);
    }

    #[test]
    fn what_carries_no_data_to_the_peer_goes_with_what_the_own_disk_answered_behind_the_hosts() {
        let log = Log::default();
        let (order, data, host) = (log.output("order"), log.output("data"), log.output("host"));
        {
            let _batch = Batch::begin();
            assert!(flush_at_end(&host, Due::AfterDisk));
            assert!(flush_at_end(&order, Due::AtEnd));
            assert!(flush_at_end(&data, Due::BeforeDisk));
            let (log, order) = (log.clone(), Arc::clone(&order));
            after_bridges(move || {
                log.0.lock().push("disk");
                assert!(flush_at_end(&order, Due::AtEnd));
            });
        }
        assert_eq!(log.take(), ["data", "disk", "host", "order"]);
    }

    #[test]
    fn what_the_end_of_a_batch_brings_up_is_sent_with_it() {
        let log = Log::default();
        let (bridge, host) = (log.output("bridge"), log.output("host"));
        {
            let _batch = Batch::begin();
            after_bridges(move || {
                assert!(flush_at_end(&bridge, Due::BeforeDisk));
                after_bridges(move || assert!(flush_at_end(&host, Due::AfterDisk)));
            });
        }
        assert_eq!(log.take(), ["bridge", "host"]);
    }

    #[test]
    fn without_a_batch_nothing_waits() {
        let log = Log::default();
        let output = log.output("host");
        assert!(!flush_at_end(&output, Due::AfterDisk));
        let at_once = log.clone();
        after_bridges(move || at_once.0.lock().push("disk"));
        assert_eq!(log.take(), ["disk"]);
    }

    #[test]
    fn work_that_makes_work_leaves_others_their_turn() {
        fn again(done: Arc<Mutex<usize>>) {
            *done.lock() += 1;
            if *done.lock() < 10 * REQUESTS_AT_A_TIME {
                after_bridges(move || again(done));
            }
        }
        let done = Arc::<Mutex<usize>>::default();
        {
            let _batch = Batch::begin();
            let first = Arc::clone(&done);
            after_bridges(move || again(first));
            let gathered = GATHERED.with_borrow(Arc::clone);
            assert!(matches!(finish(&gathered, REQUESTS_AT_A_TIME), Finished::Part));
            assert_eq!(*done.lock(), REQUESTS_AT_A_TIME);
        }
        assert_eq!(*done.lock(), 10 * REQUESTS_AT_A_TIME, "who is no worker does all of it");
    }
}
