//! Whether this process gets on: what it may claim to the peer and to its supervisor, and what is done if it does not.
//!
//! One thread looks, and nothing it does can wait for anybody. Every worker and control thread proves that it gets on
//! by a count that grows ([`crate::runtime::workers::BEAT_EVERY`]). One that has not for [`BEAT_SILENCE_MAX`] is stuck:
//! the process does not claim any more to live ([`Liveness::alive`]), so its controllers grant no lease, end their
//! meetings and say so in their status. If that lasts for [`STUCK_MAX`], the process ends, its sockets first, so that
//! hosts and the peer notice at once and a supervisor starts it anew.
//!
//! The same thread sees to it that disks which hang keep neither a worker nor the disk pool's threads from others.
//!
//! Only time in which the process ran counts: one that was stopped finds everybody silent when it goes on.

use std::fs;
use std::io;
use std::net::Shutdown;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use controller::disk::pool::LOOK_EVERY;
use controller::status::StuckStatus;
use parking_lot::Mutex;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::SockRef;

use super::kept;
use super::workers::{Worker, Workers};
use crate::log::Log;

/// A worker that has not proved for this long that it gets on is stuck.
pub const BEAT_SILENCE_MAX: Duration = Duration::from_secs(2);

/// A process that has been stuck for this long ends.
pub const STUCK_MAX: Duration = Duration::from_secs(10);

/// Time between two looks beyond this was spent stopped.
const RUNNING_MAX: Duration = Duration::from_millis(4 * LOOK_EVERY.as_millis() as u64);

/// Whether this process gets on; may be asked from any thread, at any time.
#[derive(Clone, Debug, Default)]
pub struct Liveness(Arc<Mutex<Option<StuckStatus>>>);

impl Liveness {
    /// Whether everything that serves hosts and the peer gets on: a supervisor's watchdog is to be fed only then.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.0.lock().is_none()
    }

    /// What does not get on, if something does not.
    #[must_use]
    pub fn stuck(&self) -> Option<StuckStatus> {
        self.0.lock().clone()
    }
}

/// The thread that looks. Dropping it ends it.
pub(super) struct Watch {
    watched: Arc<Mutex<Watched>>,
    liveness: Liveness,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches nobody yet. Calls `look` every time it looks itself.
    pub(super) fn start(mut look: impl FnMut() + Send + 'static) -> io::Result<Self> {
        let liveness = Liveness::default();
        let (end, ended) = mpsc::channel();
        let watched = Arc::new(Mutex::new(Watched { each: Vec::new(), liveness: liveness.clone() }));
        let own = Arc::clone(&watched);
        let watching = move || {
            let mut looked = Instant::now();
            while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                let now = Instant::now();
                let silence = own.lock().look(now.saturating_duration_since(looked).min(RUNNING_MAX));
                look();
                kept::threads().look(now);
                looked = now;
                if silence >= BEAT_SILENCE_MAX + STUCK_MAX {
                    give_up();
                }
            }
        };
        let thread = thread::Builder::new().name("watch".to_owned()).spawn(watching)?;
        Ok(Self { watched, liveness, end: Some(end), thread: Some(thread) })
    }

    /// Watches these workers too.
    pub(super) fn over(&self, workers: &Workers) {
        let seen = |worker: &Arc<Worker>| Seen {
            worker: Arc::downgrade(worker),
            name: worker.name().to_owned(),
            beats: worker.beats(),
            silence: Duration::ZERO,
            asks: None,
        };
        self.watched.lock().each.extend(workers.each().map(seen));
    }

    pub(super) fn liveness(&self) -> Liveness {
        self.liveness.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end = None;
        let thread = self.thread.take().filter(|thread| thread.thread().id() != thread::current().id());
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the watch had panicked");
        }
    }
}

/// What the watch knows.
struct Watched {
    each: Vec<Seen>,
    liveness: Liveness,
}

/// One worker, as it was at the last look.
struct Seen {
    /// It ends with its controllers, not with the watch.
    worker: Weak<Worker>,
    name: String,
    beats: u64,
    silence: Duration,
    /// What it asked a disk.
    asks: Option<u64>,
}

impl Watched {
    /// `ran`: the time since the last look. For how long the one that is silent longest has been.
    fn look(&mut self, ran: Duration) -> Duration {
        self.each.retain(|seen| seen.worker.strong_count() > 0);
        for seen in &mut self.each {
            let Some(worker) = seen.worker.upgrade() else { continue };
            let beats = worker.beats();
            seen.silence = if seen.beats == beats { seen.silence + ran } else { Duration::ZERO };
            seen.beats = beats;
            let asks = worker.asks();
            if let Some(call) = asks.filter(|_| asks == seen.asks) {
                worker.succeed(call);
            }
            seen.asks = asks;
        }
        let silent = self.each.iter().max_by_key(|seen| seen.silence);
        let silence = silent.map_or(Duration::ZERO, |seen| seen.silence);
        let stuck = silent.filter(|seen| seen.silence >= BEAT_SILENCE_MAX).map(|seen| StuckStatus {
            what: seen.name.clone(),
            seconds: seen.silence.as_secs(),
            ends_in_seconds: (BEAT_SILENCE_MAX + STUCK_MAX).saturating_sub(seen.silence).as_secs(),
        });
        let before = std::mem::replace(&mut *self.liveness.0.lock(), stuck.clone());
        match (before, stuck) {
            (None, Some(stuck)) => {
                tracing::error!(
                    "{} does not get on: this process does not claim to live any more, and parts from the other \
                     controller; if nothing changes it ends in {} s",
                    stuck.what,
                    stuck.ends_in_seconds
                );
            }
            (Some(was), None) => tracing::warn!("{} gets on again", was.what),
            _ => {}
        }
        silence
    }
}

/// Where what this process says last is to come before it ends.
static LAST: OnceLock<Log> = OnceLock::new();

/// What this process says last is written to this log before it ends.
pub(crate) fn say_last_to(log: Log) {
    // One process has one log.
    let _known = LAST.set(log);
}

/// Ends this process, which cannot get on: what is on its way is not answered, as after a crash.
fn give_up() {
    tracing::error!(
        "this process has not got on for {} s: it ends. The next start treats this as a crash",
        (BEAT_SILENCE_MAX + STUCK_MAX).as_secs()
    );
    shut_sockets();
    // Nobody may be there to take it.
    if let Some(log) = LAST.get() {
        log.flush(LOOK_EVERY);
    }
    std::process::exit(1);
}

/// Shuts every connection and listener of this process: a thread that a disk keeps would keep them open beyond the end
/// of the process.
pub(crate) fn shut_sockets() {
    if let Err(error) = try_to_shut_sockets() {
        tracing::error!("not every socket could be shut: {error}");
    }
}

fn try_to_shut_sockets() -> io::Result<()> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let number =
            entry.file_name().to_str().and_then(|name| name.parse().ok()).filter(|number| *number > 2);
        let target = fs::read_link(entry.path()).unwrap_or_default();
        if let Some(number) = number
            && target.to_string_lossy().starts_with("socket:")
            && let Ok(socket) = pidfd_getfd(&own, number, PidfdGetfdFlags::empty())
        {
            let socket = SockRef::from(&socket);
            // Those of this machine alone are the process's own affair, and gone with it.
            if socket.local_addr().is_ok_and(|own| own.is_ipv4() || own.is_ipv6()) {
                // It fails for what is not connected, and needs no shutting then.
                let _not_connected = socket.shutdown(Shutdown::Both);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use controller::disk::buffers::BufferPool;
    use controller::disk::file::VolumeFile;
    use controller::disk::pool::DiskPool;

    use super::*;
    use crate::batch;
    use crate::runtime::workers;

    #[test]
    fn a_request_to_a_disk_that_does_not_come_back_is_left_to_its_thread() {
        let pool = DiskPool::start().unwrap();
        let file = tempfile::tempfile().unwrap();
        let volume = VolumeFile::new(file, "lun.volume".as_ref(), 8, BufferPool::default(), pool.lane(1));
        let workers = Workers::start(1).unwrap();
        let watch = Watch::start(|| ()).unwrap();
        watch.over(&workers);
        let (release, gate) = mpsc::channel::<()>();
        let (asked, asks) = mpsc::channel();
        workers.spawn(0, move || async move {
            let volume = Arc::new(volume);
            batch::after_bridges(move || {
                workers::ask_disk(&volume, || {
                    asked.send(()).unwrap();
                    assert!(gate.recv().is_err());
                });
            });
        });
        asks.recv().unwrap();
        let (done, later) = mpsc::channel();
        workers.spawn(0, move || async move { done.send(()).unwrap() });
        assert_eq!(later.recv_timeout(BEAT_SILENCE_MAX * 5), Ok(()));
        assert!(watch.liveness().alive());
        drop(release);
    }

    #[test]
    fn a_worker_that_does_not_get_on_takes_the_process_life_until_it_does_again() {
        let workers = Workers::start(2).unwrap();
        let watch = Watch::start(|| ()).unwrap();
        watch.over(&workers);
        let liveness = watch.liveness();
        assert!(liveness.alive());
        let (release, gate) = mpsc::channel::<()>();
        workers.spawn(1, move || async move { assert!(gate.recv().is_err()) });
        let begun = Instant::now();
        let stuck = loop {
            if let Some(stuck) = liveness.stuck() {
                break stuck;
            }
            thread::yield_now();
        };
        assert!(begun.elapsed() >= BEAT_SILENCE_MAX - crate::runtime::workers::BEAT_EVERY);
        assert_eq!(stuck.what, "worker-1");
        assert!(!liveness.alive() && stuck.ends_in_seconds <= STUCK_MAX.as_secs());
        drop(release);
        while !liveness.alive() {
            thread::yield_now();
        }
    }

    #[test]
    fn time_in_which_the_process_was_stopped_is_nobodys_silence() {
        let workers = Workers::start(1).unwrap();
        let watch = Watch::start(|| ()).unwrap();
        watch.over(&workers);
        let mut watched = watch.watched.lock();
        // The clock has gone on, no worker had the processor: what passed is cut before it comes here.
        assert!(RUNNING_MAX < BEAT_SILENCE_MAX);
        assert!(watched.look(RUNNING_MAX) < BEAT_SILENCE_MAX);
        assert!(watch.liveness.alive());
    }
}
