//! The control state as the first release kept it: a redb database, `control.redb`. It is read once, from a copy in
//! memory, and the file is removed when its records are durable in the files of today.
//!
//! The library panics at some databases that were damaged at rest, and takes an emptied one for a new one. So
//! everything is read behind one wall ([`std::panic::catch_unwind`]), and only from a database that passes its own
//! check.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::Path;
use std::thread;

use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::{Records, StoreError};

/// Its name in the state folder.
pub(super) const NAME: &str = "control.redb";

const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("control");

/// Bytes of the database at most: a file that is longer was not made by us. A hundred times what 256 LUNs need.
pub const DATABASE_BYTES_MAX: u64 = 1 << 30;

/// The thread behind the wall: of its panics nobody is told but by the error.
const READER: &str = "control.redb";

/// The records of the database in the folder; `None` if there is none.
pub(super) fn read(folder: &Path) -> Result<Option<Records>, StoreError> {
    let path = folder.join(NAME);
    let bytes = match fs::metadata(&path).and_then(|found| {
        if found.len() > DATABASE_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        fs::read(&path)
    }) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::Io { path, source }),
    };
    if bytes.is_empty() {
        // The library would make a new one.
        return Err(StoreError::Previous { path, problem: "it is empty".to_owned() });
    }
    silence_the_reader();
    let reader = thread::Builder::new()
        .name(READER.to_owned())
        .spawn(move || catch_unwind(AssertUnwindSafe(|| records(&bytes))))?;
    match reader.join() {
        Ok(Ok(Ok(records))) => Ok(Some(records)),
        Ok(Ok(Err(error))) => Err(StoreError::Previous { path, problem: error.to_string() }),
        Ok(Err(_)) | Err(_) => Err(StoreError::Previous { path, problem: "it is damaged".to_owned() }),
    }
}

fn records(bytes: &[u8]) -> Result<Records, redb::Error> {
    let memory = InMemoryBackend::new();
    memory.set_len(bytes.len() as u64)?;
    memory.write(0, bytes)?;
    let mut database = Database::builder().create_with_backend(memory)?;
    if !database.check_integrity()? {
        return Err(redb::Error::Corrupted("it is damaged".to_owned()));
    }
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

/// Its records are durable elsewhere.
pub(super) fn remove(folder: &Path) -> Result<(), StoreError> {
    let path = folder.join(NAME);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StoreError::Io { path, source }),
        _ => Ok(()),
    }
}

fn silence_the_reader() {
    let others = take_hook();
    set_hook(Box::new(move |panic| {
        if thread::current().name() != Some(READER) {
            others(panic);
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::{Store, files};
    use super::*;

    /// What the first release left behind: `clean` after a clean end, `killed` after a kill -9.
    fn left_behind() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let archive = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/first_release.tar.gz");
        let unpacked = Command::new("tar").arg("xzf").arg(archive).arg("-C").arg(folder.path()).status();
        assert!(unpacked.unwrap().success());
        folder
    }

    #[test]
    fn the_records_of_the_first_release_are_taken_over() {
        let folder = left_behind();
        for place in ["clean/alpha", "clean/beta", "killed/alpha", "killed/beta"] {
            let folder = folder.path().join(place);
            let (store, records) = Store::open(&folder).unwrap();
            let keys: Vec<&str> = records.keys().map(String::as_str).collect();
            assert_eq!(keys, ["control", "shared.data0"], "{place}");
            drop(store);
            assert!(
                !folder.join(NAME).exists() && files::NAMES.iter().all(|name| folder.join(name).exists())
            );
            assert_eq!(Store::open(&folder).unwrap().1, records);
        }
    }

    #[test]
    fn a_damaged_database_of_the_first_release_is_refused_or_says_the_same_and_is_left_as_it_is() {
        let folder = left_behind();
        let folder = folder.path().join("clean/alpha");
        let path = folder.join(NAME);
        let whole = fs::read(&path).unwrap();
        let records = read(&folder).unwrap();
        let mut refused = 0;
        let places = (0..512).step_by(16).chain((512..whole.len()).step_by(4096 + 512));
        for at in places {
            for kind in 0..3 {
                let mut bytes = whole.clone();
                match kind {
                    0 => bytes[at] ^= 0x10,
                    1 => bytes[at..].iter_mut().take(512).for_each(|byte| *byte = 0),
                    _ => bytes.truncate(at),
                }
                fs::write(&path, &bytes).unwrap();
                match read(&folder) {
                    Ok(found) => assert_eq!(found, records, "damage {kind} at {at}"),
                    Err(StoreError::Previous { .. }) => refused += 1,
                    Err(error) => panic!("damage {kind} at {at}: {error}"),
                }
                assert_eq!(fs::read(&path).unwrap(), bytes);
            }
        }
        assert!(refused > 100, "{refused}");
    }
}
