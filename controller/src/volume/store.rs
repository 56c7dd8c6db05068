//! The control state of one controller: small records by key, each durable before anything builds on it.
//!
//! One thread writes. What gathers while a commit is in flight becomes durable with the next one. A commit that
//! fails is tried again until it succeeds: nobody hears of a record that is not durable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("control");

/// Bytes of the database kept in memory at most.
const CACHE_BYTES_MAX: usize = 4 << 20;

/// How long a commit that failed rests before it is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Called once the record is durable, on the store's thread.
pub type Durable = Box<dyn FnOnce() + Send>;

/// Why the store cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be used.
    #[error("the control state in {path} cannot be used: {source}")]
    Database {
        /// The database's file.
        path: PathBuf,
        /// What the database says.
        source: Box<redb::Error>,
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
}

#[derive(Default)]
struct Queue {
    waiting: Batch,
    closed: bool,
}

/// What becomes durable with one commit: the last record of each key, and who waits for it. Bounded by the
/// records the controller has in flight.
#[derive(Default)]
struct Batch {
    records: BTreeMap<String, Vec<u8>>,
    waiting: Vec<Durable>,
}

impl Store {
    /// Opens or makes the database at `path` and reads all its records.
    pub fn open(path: &Path) -> Result<(Self, BTreeMap<String, Vec<u8>>), StoreError> {
        let failed = |source| StoreError::Database { path: path.to_owned(), source: Box::new(source) };
        let database = open(path).map_err(failed)?;
        let records = read_all(&database).map_err(failed)?;
        let shared = Arc::new(Shared::default());
        let writer = Writer { shared: Arc::clone(&shared), path: path.to_owned(), database: Some(database) };
        let thread = thread::Builder::new().name("store".to_owned()).spawn(move || writer.run())?;
        Ok((Self { shared, thread: Some(thread) }, records))
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

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.work.notify_one();
        let thread = self.thread.take().filter(|thread| thread.thread().id() != thread::current().id());
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the control state had panicked");
        }
    }
}

struct Writer {
    shared: Arc<Shared>,
    path: PathBuf,
    /// `None` after a commit failed: the database is opened again, which repairs it.
    database: Option<Database>,
}

impl Writer {
    fn run(mut self) {
        while let Some(batch) = self.next() {
            let mut told = false;
            while let Err(error) = self.commit(&batch.records) {
                self.database = None;
                if !told {
                    let path = self.path.display();
                    tracing::error!("cannot write the control state in {path}: {error}; trying on");
                    told = true;
                }
                if self.rest() {
                    return;
                }
            }
            if told {
                tracing::info!("the control state in {} is written again", self.path.display());
            }
            for durable in batch.waiting {
                durable();
            }
        }
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

    fn commit(&mut self, records: &BTreeMap<String, Vec<u8>>) -> Result<(), redb::Error> {
        let database = match self.database.take() {
            Some(database) => self.database.insert(database),
            None => self.database.insert(open(&self.path)?),
        };
        let transaction = database.begin_write()?;
        {
            let mut table = transaction.open_table(RECORDS)?;
            for (key, record) in records {
                table.insert(key.as_str(), record.as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

fn open(path: &Path) -> Result<Database, redb::Error> {
    Ok(Database::builder().set_cache_size(CACHE_BYTES_MAX).create(path)?)
}

fn read_all(database: &Database) -> Result<BTreeMap<String, Vec<u8>>, redb::Error> {
    let table = match database.begin_read()?.open_table(RECORDS) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut records = BTreeMap::new();
    for entry in table.iter()? {
        let (key, record) = entry?;
        records.insert(key.value().to_owned(), record.value().to_vec());
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_durable_record_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.redb");
        let (store, records) = Store::open(&path).unwrap();
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
        let (_store, records) = Store::open(&path).unwrap();
        let expected = [("generation".to_owned(), vec![99]), ("identity".to_owned(), vec![1, 2])];
        assert_eq!(records, BTreeMap::from(expected));
    }

    #[test]
    fn nobody_hears_of_a_record_that_could_not_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.redb");
        let (store, _) = Store::open(&path).unwrap();
        drop(store);
        let shared = Arc::new(Shared::default());
        let beyond = folder.path().join("no such folder/control.redb");
        let writer = Writer { shared: Arc::clone(&shared), path: beyond, database: None };
        let thread = thread::spawn(move || writer.run());
        let (done, durable) = mpsc::channel::<()>();
        let store = Store { shared, thread: Some(thread) };
        store.persist("generation", vec![1], Box::new(move || done.send(()).unwrap()));
        drop(store);
        assert!(durable.recv().is_err());
    }

    #[test]
    fn a_file_that_is_no_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.redb");
        std::fs::write(&path, vec![7; 8192]).unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Database { .. })));
    }
}
