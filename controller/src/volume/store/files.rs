//! The two files that hold the records: `control.1` and `control.2`, each complete in itself. Numbers are
//! little-endian:
//!
//! | byte | what |
//! |---|---|
//! | 0 | `TWINSTAT` |
//! | 8 | format version (32 bits) |
//! | 12 | zero |
//! | 16 | sequence of this writing (64 bits) |
//! | 24 | bytes of the records (64 bits) |
//! | 32 | CRC-64/NVME of the 32 bytes before and of the records (64 bits) |
//! | 40 | zeros |
//! | 64 | the records: their count (32 bits), then of each its key (length in 16 bits) and the record (32 bits) |
//!
//! They are written in place, one after the other, each durable before the next is touched, and the one that may be
//! torn or older always first: whatever a crash tears, one of them holds together. A writing is told of when both have
//! it. So a file that is damaged at rest takes nothing away that anybody was told of, and no older state is ever taken
//! for the newest: the other file has it all.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crc_fast::{CrcAlgorithm, Digest};

use super::{Records, StoreError};
use crate::volume::files::sync_folder_of;

/// Names of the two in the state folder.
pub(super) const NAMES: [&str; 2] = ["control.1", "control.2"];

/// The format this release writes, and the newest that it reads.
const FORMAT_VERSION: u32 = 1;

/// Bytes that each file has from the start, and grows by: room that a full file system cannot take away.
pub const ROOM_BYTES: u64 = 1 << 20;

const MAGIC: [u8; 8] = *b"TWINSTAT";
const HEAD_BYTES: usize = 64;
/// The checksum comes behind what it covers of the head.
const SUM_OFFSET: usize = 32;

/// What is wrong with one of the files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FileProblem {
    /// It is not there.
    #[error("it is not there")]
    Missing,
    /// It is something else.
    #[error("it is no control state of Twinlun")]
    NotOurs,
    /// The checksum does not fit.
    #[error("it is damaged")]
    Damaged,
    /// Written by a release this one does not know.
    #[error("its format version is {0}, and this release reads up to version {FORMAT_VERSION}")]
    Version(u32),
}

/// Both files, open.
pub(super) struct Pair {
    files: [(PathBuf, File); 2],
    sequence: u64,
    /// Which of them may be torn or older: it is written first, so that the other holds together until it does, too.
    suspect: usize,
}

impl Pair {
    /// Opens what is in the folder; `None` if there is neither file. What was found is made durable in both before
    /// anybody builds on it: an earlier run may have ended between the two, or been told that a disk took nothing.
    pub(super) fn open(folder: &Path) -> Result<Option<(Self, Records)>, StoreError> {
        let Some(Newest { sequence, records, suspect, problem }) = newest(folder)? else { return Ok(None) };
        if let Some(problem) = problem {
            let path = folder.join(NAMES[suspect]);
            tracing::warn!(
                "{}: {problem}; the other file has everything, and it is written anew",
                path.display()
            );
        }
        let mut pair = Self::at(folder, sequence, suspect)?;
        pair.write(&records).map_err(|source| StoreError::Io { path: folder.to_owned(), source })?;
        Ok(Some((pair, records)))
    }

    /// Makes both files, durable, with these records.
    pub(super) fn create(folder: &Path, records: &Records) -> Result<Self, StoreError> {
        for name in NAMES {
            let path = folder.join(name);
            let made = make(&path, &encode(1, records));
            made.map_err(|source| StoreError::Io { path, source })?;
        }
        Self::at(folder, 1, 0)
    }

    fn at(folder: &Path, sequence: u64, suspect: usize) -> Result<Self, StoreError> {
        let open = |name: &str| {
            let path = folder.join(name);
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
            match file {
                Ok(file) => Ok((path, file)),
                Err(source) => Err(StoreError::Io { path, source }),
            }
        };
        Ok(Self { files: [open(NAMES[0])?, open(NAMES[1])?], sequence, suspect })
    }

    /// Makes the records durable in both files. After an error they may be there or not, until they are written again.
    pub(super) fn write(&mut self, records: &Records) -> io::Result<()> {
        let bytes = encode(self.sequence + 1, records);
        for index in [self.suspect, 1 - self.suspect] {
            // Should this one fail, the next try begins with it.
            self.suspect = index;
            let (path, file) = &self.files[index];
            let grows = file.metadata()?.len() < room(bytes.len());
            if grows {
                grow(file, room(bytes.len()))?;
            }
            file.write_all_at(&bytes, 0)?;
            file.sync_data()?;
            if grows {
                sync_folder_of(path)?;
            }
        }
        self.sequence += 1;
        Ok(())
    }
}

/// The newest of what the two files hold.
pub(super) struct Newest {
    sequence: u64,
    pub(super) records: Records,
    /// The file that holds nothing, or what is older, or as new.
    suspect: usize,
    /// Why it holds nothing.
    problem: Option<FileProblem>,
}

/// Reads both files and changes nothing; `None` if there is neither.
pub(super) fn newest(folder: &Path) -> Result<Option<Newest>, StoreError> {
    let [first, second] = NAMES.map(|name| read(&folder.join(name)));
    let ((sequence, records), suspect, problem) = match (first?, second?) {
        (Err(FileProblem::Missing), Err(FileProblem::Missing)) => return Ok(None),
        // What a newer release has written is not this one's to judge by the other file.
        (Err(newer @ FileProblem::Version(_)), _) | (_, Err(newer @ FileProblem::Version(_))) => {
            return Err(StoreError::Newer { folder: folder.to_owned(), problem: newer });
        }
        (Ok(one), Ok(other)) if other.0 > one.0 => (other, 0, None),
        (Ok(one), Ok(_)) => (one, 1, None),
        (Ok(found), Err(problem)) => (found, 1, Some(problem)),
        (Err(problem), Ok(found)) => (found, 0, Some(problem)),
        (Err(first), Err(second)) => {
            return Err(StoreError::Unreadable { folder: folder.to_owned(), first, second });
        }
    };
    Ok(Some(Newest { sequence, records, suspect, problem }))
}

/// What a file holds: its sequence and the records.
fn read(path: &Path) -> Result<Result<(u64, Records), FileProblem>, StoreError> {
    let failed = |source| StoreError::Io { path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(FileProblem::Missing)),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(decode(&bytes))
}

/// A file that is complete under its name, or not there.
fn make(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_added_extension("unfinished");
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    grow(&file, room(bytes.len()))?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    sync_folder_of(path)
}

const fn room(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(ROOM_BYTES) * ROOM_BYTES
}

/// Zeros to the end, so that the blocks are there and what is written later needs no room.
fn grow(file: &File, bytes: u64) -> io::Result<()> {
    let zeros = [0; 64 << 10];
    let mut at = file.metadata()?.len();
    while at < bytes {
        let piece = usize::try_from(bytes - at).unwrap_or(zeros.len()).min(zeros.len());
        file.write_all_at(&zeros[..piece], at)?;
        at += piece as u64;
    }
    Ok(())
}

fn encode(sequence: u64, records: &Records) -> Vec<u8> {
    let mut bytes = vec![0; HEAD_BYTES];
    bytes.extend_from_slice(&(records.len() as u32).to_le_bytes());
    for (key, record) in records {
        bytes.extend_from_slice(&(key.len() as u16).to_le_bytes());
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
        bytes.extend_from_slice(record);
    }
    let length = (bytes.len() - HEAD_BYTES) as u64;
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
    bytes[24..32].copy_from_slice(&length.to_le_bytes());
    let sum = checksum(&bytes[..SUM_OFFSET], &bytes[HEAD_BYTES..]);
    bytes[SUM_OFFSET..SUM_OFFSET + 8].copy_from_slice(&sum.to_le_bytes());
    debug_assert!(
        decode(&bytes).is_ok_and(|(read, found)| read == sequence && found == *records),
        "what is written is not what will be read"
    );
    bytes
}

fn decode(bytes: &[u8]) -> Result<(u64, Records), FileProblem> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        return Err(FileProblem::NotOurs);
    };
    if head[..8] != MAGIC {
        return Err(FileProblem::NotOurs);
    }
    let length = usize::try_from(number(&head[24..32])).ok();
    let payload = length.and_then(|length| rest.get(..length)).ok_or(FileProblem::Damaged)?;
    if checksum(&head[..SUM_OFFSET], payload) != number(&head[SUM_OFFSET..SUM_OFFSET + 8]) {
        return Err(FileProblem::Damaged);
    }
    let version = number(&head[8..12]) as u32;
    if version != FORMAT_VERSION {
        return Err(FileProblem::Version(version));
    }
    let records = records(payload).ok_or(FileProblem::Damaged)?;
    Ok((number(&head[16..24]), records))
}

fn records(payload: &[u8]) -> Option<Records> {
    let (count, mut rest) = payload.split_first_chunk::<4>()?;
    let mut records = BTreeMap::new();
    for _ in 0..u32::from_le_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (key, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let (record, after) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        records.insert(core::str::from_utf8(key).ok()?.to_owned(), record.to_vec());
        rest = after;
    }
    rest.is_empty().then_some(records)
}

fn checksum(head: &[u8], payload: &[u8]) -> u64 {
    let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    digest.update(head);
    digest.update(payload);
    digest.finalize()
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Records {
        let record = |byte: u8| (0..200).map(|at| byte.wrapping_mul(at)).collect::<Vec<u8>>();
        BTreeMap::from([("control".to_owned(), record(3)), ("shared.data0".to_owned(), record(7))])
    }

    fn older() -> Records {
        BTreeMap::from([("control".to_owned(), vec![1; 30])])
    }

    /// A folder in which `older`, then `example` became durable.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut pair = Pair::create(folder.path(), &older()).unwrap();
        pair.write(&example()).unwrap();
        folder
    }

    type Damage = Box<dyn Fn(&mut Vec<u8>)>;

    /// Every kind of damage at rest, at many places of a file of `length` bytes.
    fn damages(length: usize) -> Vec<Damage> {
        let places: Vec<usize> = (0..560).step_by(3).chain((560..length).step_by(9973)).collect();
        let mut damages: Vec<Damage> = Vec::new();
        for at in places {
            damages.push(Box::new(move |bytes| bytes[at] ^= 0x10));
            damages.push(Box::new(move |bytes| bytes[at..].iter_mut().take(512).for_each(|byte| *byte = 0)));
            damages
                .push(Box::new(move |bytes| bytes[at..].iter_mut().take(64).for_each(|byte| *byte = 0xff)));
            damages.push(Box::new(move |bytes| bytes.truncate(at)));
        }
        damages
    }

    #[test]
    fn a_file_that_is_damaged_at_rest_takes_nothing_away() {
        let folder = folder();
        let whole = fs::read(folder.path().join(NAMES[0])).unwrap();
        for name in NAMES {
            let path = folder.path().join(name);
            for (number, damage) in damages(whole.len()).iter().enumerate() {
                let mut bytes = fs::read(&path).unwrap();
                damage(&mut bytes);
                fs::write(&path, &bytes).unwrap();
                let (_, records) = Pair::open(folder.path()).unwrap().unwrap();
                assert_eq!(records, example(), "damage {number} of {name}");
            }
            fs::remove_file(&path).unwrap();
            assert_eq!(Pair::open(folder.path()).unwrap().unwrap().1, example());
        }
    }

    #[test]
    fn two_damaged_files_are_refused_and_left_as_they_are_or_still_say_everything() {
        let folder = folder();
        let paths = NAMES.map(|name| folder.path().join(name));
        let whole = fs::read(&paths[0]).unwrap();
        let mut refused = 0;
        for (number, damage) in damages(whole.len()).iter().enumerate() {
            let mut bytes = whole.clone();
            damage(&mut bytes);
            paths.iter().for_each(|path| fs::write(path, &bytes).unwrap());
            match Pair::open(folder.path()) {
                // What lies behind the records is nobody's.
                Ok(found) => assert_eq!(found.unwrap().1, example(), "damage {number}"),
                Err(StoreError::Unreadable { .. }) => {
                    refused += 1;
                    assert!(paths.iter().all(|path| fs::read(path).unwrap() == bytes), "damage {number}");
                }
                Err(error) => panic!("damage {number}: {error}"),
            }
        }
        assert!(refused > 600, "{refused}");
    }

    #[test]
    fn a_writing_that_a_crash_tears_leaves_the_one_before() {
        let folder = folder();
        let torn = &encode(9, &older())[..70];
        let path = folder.path().join(NAMES[0]);
        OpenOptions::new().write(true).open(path).unwrap().write_all_at(torn, 0).unwrap();
        assert_eq!(Pair::open(folder.path()).unwrap().unwrap().1, example());
    }

    #[test]
    fn of_two_files_the_newer_counts_and_both_have_it_then() {
        let folder = folder();
        let path = folder.path().join(NAMES[0]);
        OpenOptions::new().write(true).open(path).unwrap().write_all_at(&encode(9, &older()), 0).unwrap();
        assert_eq!(Pair::open(folder.path()).unwrap().unwrap().1, older());
        for name in NAMES {
            let found = decode(&fs::read(folder.path().join(name)).unwrap());
            assert_eq!(found, Ok((10, older())));
        }
    }

    #[test]
    fn what_a_newer_release_wrote_is_refused_although_the_other_file_can_be_read() {
        let folder = folder();
        let mut newer = encode(9, &older());
        newer[8] = 2;
        let sum = checksum(&newer[..SUM_OFFSET], &newer[HEAD_BYTES..]);
        newer[SUM_OFFSET..SUM_OFFSET + 8].copy_from_slice(&sum.to_le_bytes());
        fs::write(folder.path().join(NAMES[1]), &newer).unwrap();
        let before = NAMES.map(|name| fs::read(folder.path().join(name)).unwrap());
        assert!(matches!(Pair::open(folder.path()), Err(StoreError::Newer { .. })));
        assert_eq!(NAMES.map(|name| fs::read(folder.path().join(name)).unwrap()), before);
    }

    #[test]
    fn the_only_file_that_holds_together_is_not_touched_before_the_other_does_again() {
        use rustix::fs::inotify;
        // The power failed while the second file was being written: it is torn, the first has everything.
        let folder = folder();
        let second = folder.path().join(NAMES[1]);
        let torn = &encode(3, &older())[..70];
        OpenOptions::new().write(true).open(&second).unwrap().write_all_at(torn, 0).unwrap();
        let seen = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&seen, folder.path(), inotify::WatchFlags::MODIFY).unwrap();
        assert_eq!(Pair::open(folder.path()).unwrap().unwrap().1, example());
        // Should the power fail again in the middle of the first writing, nothing is left of the control state if that
        // is to the one file that holds together.
        let mut buffer = [core::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&seen, &mut buffer);
        let first = reader.next().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(first, NAMES[1], "the good file is written over first");
    }

    #[test]
    fn the_encoding_is_the_golden_one() {
        let records = BTreeMap::from([("k".to_owned(), vec![1, 2])]);
        let hex: String = encode(5, &records).iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = concat!(
            "5457494e5354415401000000000000000500000000000000",
            "0d00000000000000",
            "SUM",
            "000000000000000000000000000000000000000000000000",
            "0100000001006b020000000102"
        );
        let sum = &hex[64..80];
        assert_eq!(hex, golden.replace("SUM", sum));
        assert_eq!(sum, "9fba18ee4c2dc7da");
    }

    #[test]
    fn records_that_outgrow_their_room_get_more() {
        let folder = folder();
        let large = BTreeMap::from([("shared.data0".to_owned(), vec![9; 3 * ROOM_BYTES as usize])]);
        let (mut pair, _) = Pair::open(folder.path()).unwrap().unwrap();
        pair.write(&large).unwrap();
        let length = fs::metadata(folder.path().join(NAMES[1])).unwrap().len();
        assert_eq!(length, 4 * ROOM_BYTES);
        assert_eq!(Pair::open(folder.path()).unwrap().unwrap().1, large);
    }
}
