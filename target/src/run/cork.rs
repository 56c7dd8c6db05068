//! Gathering what one batch of work sends, so that each socket gets one write.
//!
//! Whoever executes several PDUs or frames in a row opens a [`Batch`]. While it is open on a thread, outputs
//! that would write at once ask [`flush_at_end`] to be flushed when it ends, and own disk writes may be put
//! behind the frames that carry the same data to the peer ([`after_bridges`]), so that both copies are written
//! at the same time. At the end of the batch: first the bridges are flushed that carry data, then the disk writes
//! are done, over again while there are any; then the hosts get their answers; last the other bridges are flushed, so
//! that what the peer is told of a forwarded write before and after the own disk took it travels together. Hosts come
//! before them because a peer on the same processor that is woken first runs first: the host would wait while the
//! peer takes note of a write's end. Nothing depends on that order, as nothing can on that of two sockets.

use std::cell::RefCell;
use std::sync::Arc;

use super::patience;

/// An output that can be flushed: a bridge, or a host's connection.
pub trait Flush: Send + Sync {
    /// Writes what was appended, without blocking.
    fn flush(&self);
}

/// When an output of a batch is flushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Before own disk writes: data for the peer.
    BeforeDisk,
    /// After own disk writes that are done at once: what goes to hosts.
    AfterDisk,
    /// At the very end: anything else for the peer.
    AtEnd,
}

/// Work put behind the flush of the bridges.
type Work = Box<dyn FnOnce()>;

#[derive(Default)]
struct Gathered {
    /// Batches open on this thread, one inside the other; the outermost does the work.
    depth: usize,
    bridges: Vec<Arc<dyn Flush>>,
    quiet_bridges: Vec<Arc<dyn Flush>>,
    hosts: Vec<Arc<dyn Flush>>,
    /// Bounded by the commands in one batch.
    work: Vec<Work>,
}

thread_local! {
    static GATHERED: RefCell<Gathered> = RefCell::default();
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
        let depth = GATHERED.with_borrow_mut(|gathered| {
            gathered.depth += 1;
            gathered.depth
        });
        if depth == 1 {
            patience::on_work_begun();
        }
        Self { _thread: std::marker::PhantomData }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if GATHERED.with_borrow(|gathered| gathered.depth) == 1 && !std::thread::panicking() {
            finish();
            patience::on_work_ended();
        }
        GATHERED.with_borrow_mut(|gathered| gathered.depth = gathered.depth.saturating_sub(1));
    }
}

/// Asks for `output` to be flushed with the batch open on this thread. False if none is open: flush it now.
#[must_use]
pub fn flush_at_end(output: &Arc<dyn Flush>, due: Due) -> bool {
    GATHERED.with_borrow_mut(|gathered| {
        if gathered.depth == 0 {
            return false;
        }
        let list = match due {
            Due::BeforeDisk => &mut gathered.bridges,
            Due::AfterDisk => &mut gathered.hosts,
            Due::AtEnd => &mut gathered.quiet_bridges,
        };
        if !list.iter().any(|known| Arc::ptr_eq(known, output)) {
            list.push(Arc::clone(output));
        }
        true
    })
}

/// True if a bridge with data waits to be flushed with the batch open on this thread: then a disk write belongs behind it,
/// by [`after_bridges`].
#[must_use]
pub fn bridges_wait() -> bool {
    GATHERED.with_borrow(|gathered| gathered.depth > 0 && !gathered.bridges.is_empty())
}

/// Puts work behind the flush of the bridges, or does it now if no batch is open on this thread.
pub fn after_bridges(work: impl FnOnce() + 'static) {
    let mut work = Some(work);
    GATHERED.with_borrow_mut(|gathered| {
        if gathered.depth > 0
            && let Some(work) = work.take()
        {
            gathered.work.push(Box::new(work));
        }
    });
    if let Some(work) = work {
        work();
    }
}

/// Sends what was gathered. Nothing is borrowed while it does, because sending and writing gather more.
fn finish() {
    loop {
        let (bridges, work) = GATHERED.with_borrow_mut(|gathered| {
            (std::mem::take(&mut gathered.bridges), std::mem::take(&mut gathered.work))
        });
        if bridges.is_empty() && work.is_empty() {
            let (hosts, quiet) = GATHERED.with_borrow_mut(|gathered| {
                (std::mem::take(&mut gathered.hosts), std::mem::take(&mut gathered.quiet_bridges))
            });
            if hosts.is_empty() && quiet.is_empty() {
                return;
            }
            hosts.iter().chain(&quiet).for_each(|output| output.flush());
            continue;
        }
        bridges.iter().for_each(|bridge| bridge.flush());
        work.into_iter().for_each(|work| work());
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

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
            assert!(!bridges_wait());
            for _ in 0..3 {
                assert!(flush_at_end(&bridge, Due::BeforeDisk));
                assert!(bridges_wait());
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
            assert!(!bridges_wait(), "the disk need not wait for it");
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
        assert!(!bridges_wait());
        let at_once = log.clone();
        after_bridges(move || at_once.0.lock().push("disk"));
        assert_eq!(log.take(), ["disk"]);
    }
}
