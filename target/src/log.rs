//! The log on its way to standard error, which may take nothing for as long as it likes: a terminal stopped with
//! Ctrl-S, a pager nobody reads on in, a journal whose disk hangs. No thread that logs may wait for that, least of all
//! a worker: so lines stand in a bounded queue, and one thread writes them. What finds no room there is lost, and
//! counted.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait to be written, in bytes; one more is lost.
pub(crate) const LOG_BYTES_MAX: usize = 1 << 20;

/// The way to the log; each copy leads to the same one.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is something to write, or no more will come.
    work: Condvar,
    /// Everything is written.
    written: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines that found no room since that was last told.
    lost: u64,
    /// The thread is writing.
    writes: bool,
}

impl Log {
    /// Begins to write to `out`, on a thread of its own, for ever.
    pub(crate) fn begin(out: impl Write + Send + 'static) -> io::Result<Self> {
        let log = Self::default();
        let shared = Arc::clone(&log.0);
        let _for_ever = thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_all(out))?;
        Ok(log)
    }

    /// Waits until everything is written, or for so long.
    pub(crate) fn flush(&self, within: Duration) {
        let until = Instant::now() + within;
        let mut queue = self.0.queue.lock();
        while queue.writes || !queue.lines.is_empty() {
            if self.0.written.wait_until(&mut queue, until).timed_out() {
                return;
            }
        }
    }
}

impl Shared {
    fn write_all(&self, mut out: impl Write) {
        let mut queue = self.queue.lock();
        loop {
            let Some(line) = queue.lines.pop_front() else {
                queue.writes = false;
                self.written.notify_all();
                self.work.wait(&mut queue);
                continue;
            };
            queue.bytes -= line.len();
            queue.writes = true;
            let lost = std::mem::take(&mut queue.lost);
            drop(queue);
            // Nobody hears of a line that cannot be written: there is nowhere else to say it.
            let _ = out.write_all(&line);
            if lost > 0 {
                tracing::warn!("{lost} lines of the log were lost: nobody took them");
            }
            queue = self.queue.lock();
        }
    }
}

impl Write for &Log {
    /// Takes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut queue = self.0.queue.lock();
        if queue.bytes + line.len() > LOG_BYTES_MAX {
            queue.lost += 1;
        } else {
            queue.bytes += line.len();
            queue.lines.push_back(line.to_vec());
            self.0.work.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    /// Takes a line whenever it is let.
    struct Slow {
        let_: Receiver<()>,
        took: Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            // When the other end is dropped nothing holds it back any more.
            let _over = self.let_.recv();
            self.took.send(line.to_vec()).unwrap();
            Ok(line.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whoever_logs_never_waits_and_what_is_lost_is_counted() {
        let (go, let_) = mpsc::channel();
        let (took, lines) = mpsc::channel();
        let log = Log::begin(Slow { let_, took }).unwrap();
        let line = [b'x'; 1000];
        let times = 3 * LOG_BYTES_MAX / line.len();
        (&log).write_all(&line).unwrap();
        // The thread has it in hand, and is not let: what else comes waits, or is lost.
        while !log.0.queue.lock().writes {
            thread::yield_now();
        }
        for _ in 1..times {
            (&log).write_all(&line).unwrap();
        }
        log.flush(Duration::from_millis(1));
        let queue = log.0.queue.lock();
        assert!(queue.bytes <= LOG_BYTES_MAX && queue.bytes > LOG_BYTES_MAX - line.len());
        let kept = queue.lines.len() as u64 + u64::from(queue.writes);
        assert_eq!(queue.lost + kept, times as u64);
        drop(queue);
        drop(go);
        log.flush(Duration::from_secs(60));
        assert_eq!(lines.try_iter().count() as u64, kept);
        let queue = log.0.queue.lock();
        assert_eq!((queue.bytes, queue.lost, queue.writes), (0, 0, false), "what was lost was told");
    }

    #[test]
    fn lines_are_written_whole_and_in_their_order() {
        let (took, lines) = mpsc::channel();
        let (go, let_) = mpsc::channel();
        drop(go);
        let log = Log::begin(Slow { let_, took }).unwrap();
        for number in 0..100_u8 {
            (&log).write_all(&[number, b'\n']).unwrap();
        }
        log.flush(Duration::from_secs(60));
        let expected: Vec<Vec<u8>> = (0..100).map(|number| vec![number, b'\n']).collect();
        assert_eq!(lines.try_iter().collect::<Vec<_>>(), expected);
    }
}
