//! Worker threads: each runs its connections and bridges from the first byte to the last, alone.
//!
//! A worker is a thread with a runtime of its own. Waking another core costs more than executing a command, so
//! a connection stays where it was put, and sends to the peer on the bridge of its own worker.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;

use super::patience;

/// Makes a task on the thread that will run it.
type Start = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

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
}

/// What the calling thread is.
#[must_use]
pub fn thread_kind() -> ThreadKind {
    KIND.get()
}

/// Threads that run tasks. Dropping them ends all their tasks where they wait.
pub struct Workers {
    threads: Vec<Worker>,
    turn: AtomicUsize,
}

struct Worker {
    /// Bounded by the connections that are accepted.
    tasks: Option<UnboundedSender<Start>>,
    thread: Option<JoinHandle<()>>,
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
        let threads = kinds.map(|(name, kind)| Worker::start(name, kind)).collect::<io::Result<_>>()?;
        Ok(Self { threads, turn: AtomicUsize::new(0) })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// Each worker in turn.
    #[must_use]
    pub fn next(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % self.threads.len().max(1)
    }

    /// Runs the task that `start` makes on the worker of that index, counted round.
    pub fn spawn<F: Future<Output = ()> + 'static>(
        &self,
        index: usize,
        start: impl FnOnce() -> F + Send + 'static,
    ) {
        let worker = self.threads.get(index % self.threads.len().max(1));
        if let Some(tasks) = worker.and_then(|worker| worker.tasks.as_ref()) {
            // A worker that has ended runs nothing any more: the process is ending.
            let _ended = tasks.send(Box::new(move || Box::pin(start())));
        }
    }
}

impl Worker {
    fn start(name: String, kind: ThreadKind) -> io::Result<Self> {
        let (tasks, started) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name(name).spawn(move || {
            KIND.set(kind);
            let tasks = LocalSet::new();
            if matches!(kind, ThreadKind::Worker(_)) {
                let _handle = tasks.spawn_local(patience::look_for_work());
            }
            tasks.block_on(&runtime, run(started));
        })?;
        Ok(Self { tasks: Some(tasks), thread: Some(thread) })
    }
}

async fn run(mut started: UnboundedReceiver<Start>) {
    while let Some(start) = started.recv().await {
        // The task lives on by itself; nobody waits for it.
        let _handle = tokio::task::spawn_local(start());
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.threads {
            worker.tasks = None;
        }
        let own = thread::current().id();
        for thread in self.threads.iter_mut().filter_map(|worker| worker.thread.take()) {
            if thread.thread().id() != own && thread.join().is_err() {
                tracing::error!("a worker had panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

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
}
