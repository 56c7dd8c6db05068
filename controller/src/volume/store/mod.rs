//! The control state of one controller: small records by key, each durable before anything builds on it.
//!
//! All records lie in two files, each complete in itself ([`files`]). One thread writes. What gathers while a writing
//! is in flight becomes durable with the next one. A writing that fails is tried again until it succeeds: nobody hears
//! of a record that is not durable. What cannot be read is refused and left as it is.

pub mod files;
pub mod previous;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use self::files::{FileProblem, Pair};

/// Records by key.
pub type Records = BTreeMap<String, Vec<u8>>;

/// How long a writing that failed rests before it is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// A writing that has taken this long is told of: the disk below the state folder may not answer at all.
const SLOW_AFTER: Duration = Duration::from_secs(2);

/// How long the end of a store waits for a disk that does not answer.
const END_SILENCE_MAX: Duration = Duration::from_secs(10);

/// How often somebody who only looks reads again what cannot be read.
const LOOKS: usize = 3;

/// Called once the record is durable, on the store's thread.
pub type Durable = Box<dyn FnOnce() + Send>;

/// Why the store cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or its folder cannot be opened, read or written.
    #[error("the control state in {} cannot be used: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Neither file can be read.
    #[error(
        "the control state in {folder} cannot be read: of control.1 {first}, of control.2 {second}. Nothing was \
         changed and no LUN is served from here. If this machine's disk was changed or a file is missing, put both \
         files back as they were last; an older copy of them is told apart and refilled. Else keep the folder, and \
         let the other controller serve", folder = folder.display()
    )]
    Unreadable {
        /// The state folder.
        folder: PathBuf,
        /// What is wrong with the first.
        first: FileProblem,
        /// What is wrong with the second.
        second: FileProblem,
    },
    /// A newer release wrote it.
    #[error(
        "the control state in {folder} is of a newer release: {problem}. Nothing was changed. Run that release again",
        folder = folder.display()
    )]
    Newer {
        /// The state folder.
        folder: PathBuf,
        /// Its version.
        problem: FileProblem,
    },
    /// The database of the first release cannot be read.
    #[error(
        "the control state of the previous release in {} cannot be read: {problem}. Nothing was changed and no LUN is \
         served from here. Put the file back as it was last, or run the previous release once more to see whether it \
         can read it", path.display()
    )]
    Previous {
        /// The database's file.
        path: PathBuf,
        /// What the database says.
        problem: String,
    },
    /// The thread cannot be started.
    #[error("no thread for the control state: {0}")]
    Thread(#[from] std::io::Error),
}

/// The records of one controller. Dropping it makes everything handed over durable first.
pub struct Store {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    /// Told when the thread ends.
    ended: Condvar,
    /// Why the records cannot be written, while they cannot.
    trouble: Mutex<Option<String>>,
    /// When the writing under way began.
    writing: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Queue {
    waiting: Batch,
    closed: bool,
    ended: bool,
}

/// What becomes durable with one commit: the last record of each key, and who waits for it. Bounded by the
/// records the controller has in flight.
#[derive(Default)]
struct Batch {
    records: BTreeMap<String, Vec<u8>>,
    waiting: Vec<Durable>,
}

impl Store {
    /// Opens or makes the files in the state folder and reads all records. Those of the first release are taken over.
    pub fn open(folder: &Path) -> Result<(Self, Records), StoreError> {
        let (pair, records) = match Pair::open(folder)? {
            Some(found) => found,
            None => {
                let records = previous::read(folder)?.unwrap_or_default();
                (Pair::create(folder, &records)?, records)
            }
        };
        previous::remove(folder)?;
        let shared = Arc::new(Shared::default());
        let writer = Writer {
            shared: Arc::clone(&shared),
            folder: folder.to_owned(),
            records: records.clone(),
            pair: Box::new(pair),
        };
        let thread = thread::Builder::new().name("store".to_owned()).spawn(move || writer.run())?;
        Ok((Self { shared, thread: Some(thread) }, records))
    }

    /// The records in a state folder, for people: changes nothing, and needs no lock. `None` if there are none yet, or
    /// only those of the first release.
    pub fn look(folder: &Path) -> Result<Option<Records>, StoreError> {
        let mut found = files::newest(folder);
        // A controller that runs may have been between its two files.
        for _ in 0..LOOKS {
            if !matches!(found, Err(StoreError::Unreadable { .. })) {
                break;
            }
            found = files::newest(folder);
        }
        Ok(found?.map(|newest| newest.records))
    }

    /// Makes `record` durable under `key`, then calls `durable`. Records of one key become durable in the order
    /// they were handed over; one that a newer replaced before its commit is not written, and both are told.
    pub fn persist(&self, key: &str, record: Vec<u8>, durable: Durable) {
        let mut queue = self.shared.queue.lock();
        queue.waiting.records.insert(key.to_owned(), record);
        queue.waiting.waiting.push(durable);
        self.shared.work.notify_one();
    }
}

impl Store {
    /// Why the records cannot be written, while they cannot: nothing that builds on them is answered then.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let silent = self.shared.writing.lock().map(|since| since.elapsed());
        match silent.filter(|silent| *silent >= SLOW_AFTER) {
            Some(silent) => Some(format!("its disk has not answered for {} s", silent.as_secs())),
            None => self.shared.trouble.lock().clone(),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let thread = self.thread.take().filter(|thread| thread.thread().id() != thread::current().id());
        let mut queue = self.shared.queue.lock();
        queue.closed = true;
        self.shared.work.notify_one();
        while !queue.ended && thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            if self.shared.ended.wait_for(&mut queue, END_SILENCE_MAX).timed_out() {
                return tracing::error!(
                    "the disk below the state folder does not answer: what was last decided is not kept"
                );
            }
        }
        drop(queue);
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the control state had panicked");
        }
    }
}

/// Where the records are written: the files, but for tests.
trait Files: Send {
    fn write(&mut self, records: &Records) -> std::io::Result<()>;
}

impl Files for Pair {
    fn write(&mut self, records: &Records) -> std::io::Result<()> {
        Self::write(self, records)
    }
}

struct Writer {
    shared: Arc<Shared>,
    folder: PathBuf,
    /// All of them, as they are to be.
    records: Records,
    pair: Box<dyn Files>,
}

impl Writer {
    fn run(mut self) {
        self.write_until_closed();
        self.shared.queue.lock().ended = true;
        self.shared.ended.notify_all();
    }

    fn write_until_closed(&mut self) {
        while let Some(batch) = self.next() {
            self.records.extend(batch.records);
            let mut told = false;
            while let Err(error) = self.write() {
                *self.shared.trouble.lock() = Some(error.to_string());
                let folder = self.folder.display();
                if !told {
                    tracing::error!("cannot write the control state in {folder}: {error}; trying on");
                    told = true;
                }
                if self.rest() {
                    return;
                }
            }
            if told {
                *self.shared.trouble.lock() = None;
                tracing::info!("the control state in {} is written again", self.folder.display());
            }
            for durable in batch.waiting {
                durable();
            }
        }
    }

    fn write(&mut self) -> std::io::Result<()> {
        *self.shared.writing.lock() = Some(Instant::now());
        let written = self.pair.write(&self.records);
        *self.shared.writing.lock() = None;
        written
    }

    fn next(&self) -> Option<Batch> {
        let mut queue = self.shared.queue.lock();
        while queue.waiting.records.is_empty() {
            if queue.closed {
                return None;
            }
            self.shared.work.wait(&mut queue);
        }
        Some(std::mem::take(&mut queue.waiting))
    }

    /// Rests before another try; true if the store is being closed, which ends the tries.
    fn rest(&self) -> bool {
        let mut queue = self.shared.queue.lock();
        if !queue.closed {
            let _woken_early = self.shared.work.wait_for(&mut queue, RETRY_AFTER);
        }
        queue.closed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_durable_record_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let (store, records) = Store::open(folder.path()).unwrap();
        assert!(records.is_empty());
        let (done, durable) = mpsc::channel();
        for number in 0..100_u8 {
            let done = done.clone();
            store.persist("generation", vec![number], Box::new(move || done.send(number).unwrap()));
        }
        store.persist("identity", vec![1, 2], Box::new(|| ()));
        let order: Vec<u8> = (0..100).map(|_| durable.recv().unwrap()).collect();
        assert!(order.is_sorted());
        drop(store);
        let (_store, records) = Store::open(folder.path()).unwrap();
        let expected = [("generation".to_owned(), vec![99]), ("identity".to_owned(), vec![1, 2])];
        assert_eq!(records, BTreeMap::from(expected));
    }

    /// Takes nothing.
    struct Broken;

    impl Files for Broken {
        fn write(&mut self, _: &Records) -> std::io::Result<()> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn nobody_hears_of_a_record_that_could_not_be_written() {
        let shared = Arc::new(Shared::default());
        let writer = Writer {
            shared: Arc::clone(&shared),
            folder: PathBuf::new(),
            records: Records::new(),
            pair: Box::new(Broken),
        };
        let thread = thread::spawn(move || writer.run());
        let (done, durable) = mpsc::channel::<()>();
        let store = Store { shared, thread: Some(thread) };
        assert_eq!(store.trouble(), None);
        store.persist("generation", vec![1], Box::new(move || done.send(()).unwrap()));
        while store.trouble().is_none() {
            thread::yield_now();
        }
        drop(store);
        assert!(durable.recv().is_err());
    }

    /// Does not come back before it is released.
    struct Silent(mpsc::Receiver<()>);

    impl Files for Silent {
        fn write(&mut self, _: &Records) -> std::io::Result<()> {
            assert!(self.0.recv().is_err());
            Ok(())
        }
    }

    #[test]
    fn a_disk_below_the_records_that_does_not_answer_is_told_of_and_ends_the_store_late_but_not_never() {
        let shared = Arc::new(Shared::default());
        let (release, gate) = mpsc::channel();
        let (folder, records) = (PathBuf::new(), Records::new());
        let writer = Writer { shared: Arc::clone(&shared), folder, records, pair: Box::new(Silent(gate)) };
        let thread = thread::spawn(move || writer.run());
        let store = Store { shared, thread: Some(thread) };
        let (done, durable) = mpsc::channel();
        store.persist("generation", vec![1], Box::new(move || done.send(()).unwrap()));
        let trouble = loop {
            match store.trouble() {
                Some(trouble) => break trouble,
                None => thread::yield_now(),
            }
        };
        assert!(trouble.starts_with("its disk has not answered for 2 s"), "{trouble}");
        drop(store);
        assert!(durable.try_recv().is_err());
        drop(release);
        assert_eq!(durable.recv(), Ok(()), "what came late is told");
    }

    #[test]
    fn an_empty_folder_is_known_to_be_new_only_if_both_files_are_not_there() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(files::NAMES[0]), b"").unwrap();
        assert!(matches!(Store::open(folder.path()), Err(StoreError::Unreadable { .. })));
        assert_eq!(std::fs::read(folder.path().join(files::NAMES[0])).unwrap(), b"");
    }
}
