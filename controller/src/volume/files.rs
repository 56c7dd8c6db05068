//! Where volumes lie: finding them when the controller starts, and making them.
//!
//! A volume in a file is made under another name and renamed when it is complete and durable, so that no crash
//! leaves half a volume behind. Nothing here ever writes to content that is not ours.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use protocol::block::BLOCK_BYTES;
use rustix::fs::Advice;

use super::redo::{self, Found};
use super::stack::{Part, Stack, VolumeId};
use super::superblock::{
    COPY_OFFSETS, SUPERBLOCK_BYTES, Superblock, SuperblockError, TAIL_BYTES, VolumeFound,
};
use super::{room, signature};
use crate::disk::DiskError;
use crate::log_limit::TimedLogLimiter;

/// Bytes at the start of a device that must read as zeros before it counts as blank.
const HEAD_BYTES: u64 = 1 << 20;

/// The largest blocks that file systems have, in bytes.
const LARGEST_FILE_BLOCK: u64 = 64 << 10;

/// What was logged of volumes that could not be used.
static LOG: LazyLock<TimedLogLimiter> = LazyLock::new(TimedLogLimiter::default);

/// Where one volume lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VolumePlace {
    /// A sparse file of ours.
    File(PathBuf),
    /// A block device that somebody made for us.
    Device(PathBuf),
}

/// What is wrong with content that is not a volume of ours.
#[derive(Debug, thiserror::Error)]
enum Foreign {
    #[error(transparent)]
    Superblock(#[from] SuperblockError),
    #[error("its superblock speaks of {0} blocks, which do not fit its size")]
    Size(u64),
}

impl VolumePlace {
    /// The volume file of a LUN in a controller's state folder.
    #[must_use]
    pub fn file(state_folder: &Path, lun_name: &str) -> Self {
        Self::File(state_folder.join(format!("{lun_name}.volume")))
    }

    /// The path of the file or device.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Device(path) => path,
        }
    }

    /// A number that is the same for places whose disks hang together: files of one file system, and one device.
    #[must_use]
    pub fn disk(&self) -> u64 {
        let known = fs::metadata(self.path())
            .or_else(|_| fs::metadata(self.path().parent().unwrap_or_else(|| Path::new("."))));
        known.map_or(0, |found| if found.file_type().is_block_device() { found.rdev() } else { found.dev() })
    }

    /// A device is opened exclusively: the kernel refuses one that is mounted or otherwise in use.
    fn open(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if matches!(self, Self::Device(_)) {
            options.custom_flags(libc::O_EXCL);
        }
        options.open(self.path())
    }

    /// The largest LUN, in logical blocks, that what lies there has room for.
    pub fn room_blocks(&self) -> io::Result<u64> {
        Ok(blocks_that_fit(File::open(self.path())?.seek(SeekFrom::End(0))?))
    }

    /// What foreign content is, where that is known: for people.
    #[must_use]
    pub fn foreign_name(&self) -> Option<&'static str> {
        name_of(&File::open(self.path()).ok()?)
    }

    /// What is wrong with a volume of ours that cannot be used: for people. `None` if it is not ours, or is well.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let file = File::open(self.path()).ok()?;
        let size = (&file).seek(SeekFrom::End(0)).ok()?;
        match self.read_superblock(&file, size).ok()? {
            Ok(_) | Err(Foreign::Superblock(SuperblockError::NotOurs)) => None,
            Err(why) => Some(why.to_string()),
        }
    }

    /// What lies there; with the open file if it is a volume of ours.
    pub fn scan(&self) -> io::Result<(VolumeFound, Option<File>)> {
        let file = match self.open() {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((VolumeFound::Missing, None)),
            Err(error) => return Err(error),
        };
        let size = (&file).seek(SeekFrom::End(0))?;
        match self.read_superblock(&file, size)? {
            Ok(superblock) => Ok((VolumeFound::Open(superblock), Some(file))),
            Err(Foreign::Superblock(SuperblockError::NotOurs)) if self.is_blank(&file, size)? => {
                Ok((VolumeFound::Blank, None))
            }
            Err(why) => {
                let what = name_of(&file).unwrap_or("something else");
                let path = self.path().display();
                if let Some(suppressed) = LOG.happens("foreign", &path.to_string()) {
                    tracing::warn!("{path} holds {what} and is left alone: {why}{suppressed}");
                }
                Ok((VolumeFound::Foreign, None))
            }
        }
    }

    /// Makes what the page cache shows of a volume of ours what its disk holds, and completes what a crash has
    /// interrupted: the write that its redo record holds. To be called once, before the volume is used, with the
    /// lock of the state folder held.
    ///
    /// When a flush fails, the kernel forgets what it was to write, tells it once, and shows it on from its cache: an
    /// earlier run of the controller may have been told, or nobody at all. So everything is written first, and what was
    /// kept of the volume in the cache is dropped. Without this the next flush would call durable what no disk ever
    /// got.
    pub fn recover(&self, file: &File, superblock: &Superblock) -> io::Result<()> {
        if let Err(error) = file.sync_all() {
            tracing::error!(
                "{}: its disk did not take what was last written to it, which is lost: {error}",
                self.path().display()
            );
            // Only a disk that takes what is left can be used again.
            file.sync_all()?;
        }
        rustix::fs::fadvise(file, 0, None, Advice::DontNeed)?;
        let size = { file }.seek(SeekFrom::End(0))?;
        let tail = size.checked_sub(TAIL_BYTES).ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut header = [0; redo::HEADER_BYTES];
        file.read_exact_at(&mut header, tail + redo::RECORD_OFFSET)?;
        if redo::is_newer(&header) {
            let what = "its redo record is of a newer release, use that one";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        if matches!(self, Self::File(_)) {
            room::take_for_redo_record(file, tail);
        }
        // It is found before anything that lies beside it: the LUN's blocks are in it.
        let stack = Stack::of(VolumeId(0));
        let found = redo::replay(&mut FoundFile { file, tail }, stack, superblock.blocks)?;
        if let Some(range) = found {
            tracing::info!(%range, "{}: a write that a crash interrupted is complete", self.path().display());
        }
        Ok(())
    }

    fn read_superblock(&self, file: &File, size: u64) -> io::Result<Result<Superblock, Foreign>> {
        let Some(tail) = size.checked_sub(TAIL_BYTES) else {
            return Ok(Err(SuperblockError::NotOurs.into()));
        };
        let mut copies = [[0; SUPERBLOCK_BYTES]; 2];
        for (copy, offset) in copies.iter_mut().zip(COPY_OFFSETS) {
            file.read_exact_at(copy, tail + offset)?;
        }
        Ok(match Superblock::newest(&copies) {
            Ok((superblock, _)) if self.fits(&superblock, size) => Ok(superblock),
            Ok((superblock, _)) => Err(Foreign::Size(superblock.blocks)),
            Err(error) => Err(error.into()),
        })
    }

    /// Whether a file or device of `size` bytes is what this volume needs.
    fn fits(&self, superblock: &Superblock, size: u64) -> bool {
        let bytes = superblock.blocks.checked_mul(u64::from(BLOCK_BYTES));
        let room = size.checked_sub(superblock.tail).filter(|_| superblock.tail >= TAIL_BYTES);
        match (self, bytes, room) {
            (Self::File(_), Some(bytes), Some(room)) => bytes == room,
            (Self::Device(_), Some(bytes), Some(room)) => bytes <= room,
            _ => false,
        }
    }

    /// Whether something was ever written to a volume of ours, as far as its file system or device tells.
    fn is_written(&self, file: &File, superblock: &Superblock) -> io::Result<Option<bool>> {
        let end = superblock.blocks.saturating_mul(u64::from(BLOCK_BYTES));
        match self {
            // The file system's block in which the tail begins may hold the end of the LUN.
            Self::File(_) => {
                let whole = end - end % LARGEST_FILE_BLOCK;
                let data = rustix::fs::seek(file, rustix::fs::SeekFrom::Data(0))?;
                // There are holes in the tail of every volume.
                let knows_holes =
                    rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(0))? < file.metadata()?.len();
                Ok(match data < whole {
                    true => knows_holes.then_some(true),
                    false => Some(!is_zero(file, whole, end - whole)?),
                })
            }
            Self::Device(_) => Ok(Some(!is_zero(file, 0, end.min(HEAD_BYTES))?)),
        }
    }

    fn is_blank(&self, file: &File, size: u64) -> io::Result<bool> {
        match self {
            Self::File(_) => match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(0)) {
                Err(rustix::io::Errno::NXIO) => Ok(true),
                Err(errno) => Err(errno.into()),
                Ok(_) => Ok(false),
            },
            Self::Device(_) => Ok(is_zero(file, 0, size.min(HEAD_BYTES))?
                && is_zero(file, size.saturating_sub(TAIL_BYTES), size.min(TAIL_BYTES))?),
        }
    }

    /// Makes the volume, durable with its superblock and its folder entry, and opens it. One that is there
    /// already is opened; anything else that is not blank is refused.
    pub fn create(&self, superblock: &Superblock) -> Result<File, DiskError> {
        match self.scan().map_err(|error| self.failed("read", &error))? {
            // It was never served, and yet somebody has written to it: whose it is a person has to know.
            (VolumeFound::Open(found), Some(file))
                if !found.was_served()
                    && found.is_same_copy(superblock)
                    && self.is_written(&file, &found).map_err(|error| self.failed("read", &error))?
                        == Some(true) =>
            {
                tracing::error!(
                    "{} was never served and has content: it is left alone",
                    self.path().display()
                );
                return Err(DiskError::Absent);
            }
            (VolumeFound::Open(found), Some(file)) if found.is_same_copy(superblock) => {
                self.recover(&file, &found).map_err(|error| self.failed("recover", &error))?;
                return Ok(file);
            }
            (VolumeFound::Missing | VolumeFound::Blank, _) => {}
            // Its LUN got another size before it was ever served.
            (VolumeFound::Open(found), Some(file))
                if found.may_become(superblock)
                    && self.is_written(&file, &found).map_err(|error| self.failed("read", &error))?
                        == Some(false) => {}
            _ => return Err(DiskError::Absent),
        }
        let made = match self {
            Self::File(path) => create_file(path, superblock),
            Self::Device(_) => self.open().and_then(|file| self.claim_device(file, superblock)),
        };
        made.map_err(|error| self.failed("create", &error))
    }

    /// Writes the superblock of a volume of ours anew, durable: another time of service begins. It goes to `open`,
    /// which takes hosts' blocks. What lies at the path may be something else by now, a copy that somebody has put
    /// there: with the mark it would pass for the volume at the next start.
    pub fn begin_service(&self, open: &File, superblock: &Superblock) -> Result<(), DiskError> {
        let begun = || {
            let size = { open }.seek(SeekFrom::End(0))?;
            match self.read_superblock(open, size)? {
                Ok(found) if found.is_same_copy(superblock) => {
                    let superblock =
                        Superblock { tail: found.tail, compatible: found.compatible, ..*superblock };
                    write_superblock(open, size - TAIL_BYTES, &superblock)
                }
                _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it is not the volume that was found")),
            }
        };
        begun().map_err(|error| self.failed("write the superblock of", &error))
    }

    fn claim_device(&self, file: File, superblock: &Superblock) -> io::Result<File> {
        let size = (&file).seek(SeekFrom::End(0))?;
        let tail = size.checked_sub(TAIL_BYTES).filter(|_| self.fits(superblock, size));
        let tail = tail.ok_or_else(|| io::Error::from(io::ErrorKind::StorageFull))?;
        write_superblock(&file, tail, superblock)?;
        Ok(file)
    }

    fn failed(&self, what: &'static str, error: &io::Error) -> DiskError {
        let path = self.path().display();
        // Two that cannot make a volume meet again and again.
        if let Some(suppressed) = LOG.happens(what, &format!("{path} {:?}", error.kind())) {
            tracing::error!("cannot {what} {path}: {error}{suppressed}");
        }
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::Full,
            io::ErrorKind::FileTooLarge => DiskError::SizeLimit,
            _ => DiskError::Io,
        }
    }
}

fn name_of(file: &File) -> Option<&'static str> {
    let mut head = Vec::with_capacity(signature::HEAD_BYTES);
    // Another's file may be shorter than what is looked at.
    (&*file).rewind().ok()?;
    file.take(signature::HEAD_BYTES as u64).read_to_end(&mut head).ok()?;
    signature::name(&head)
}

/// A volume as its replay sees it.
struct FoundFile<'a> {
    file: &'a File,
    tail: u64,
}

impl Found for FoundFile<'_> {
    type Error = io::Error;

    fn read_tail(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, self.tail + offset)
    }

    fn write_tail(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.tail + offset)
    }

    fn write(&mut self, part: Part, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, part.range.start.byte_offset())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// The largest LUN, in logical blocks, that fits a file or device of `bytes`.
#[must_use]
pub const fn blocks_that_fit(bytes: u64) -> u64 {
    bytes.saturating_sub(TAIL_BYTES) / BLOCK_BYTES as u64
}

fn create_file(path: &Path, superblock: &Superblock) -> io::Result<File> {
    let size = superblock.blocks.checked_mul(u64::from(BLOCK_BYTES));
    let tail = size.ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let unfinished = path.with_extension("volume-unfinished");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(&unfinished)?;
    let finish = || {
        let size = tail.checked_add(TAIL_BYTES);
        file.set_len(size.ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?)?;
        room::take_for_redo_record(&file, tail);
        write_superblock(&file, tail, superblock)?;
        fs::rename(&unfinished, path)
    };
    if let Err(error) = finish() {
        let _what_is_left_is_made_over = fs::remove_file(&unfinished);
        return Err(error);
    }
    sync_folder_of(path)?;
    Ok(file)
}

/// Writes both copies, one after the other: at any moment one that was valid stays valid, and the newer one counts.
fn write_superblock(file: &File, tail: u64, superblock: &Superblock) -> io::Result<()> {
    let mut places = [(0, 0); 2];
    for (place, offset) in places.iter_mut().zip(COPY_OFFSETS) {
        let mut copy = [0; SUPERBLOCK_BYTES];
        file.read_exact_at(&mut copy, tail + offset)?;
        *place = (Superblock::decode(&copy).map_or(0, |(_, sequence)| sequence), offset);
    }
    // The newest that is valid is the last to be touched.
    places.sort_unstable();
    for (sequence, (_, offset)) in (places[1].0 + 1..).zip(places) {
        file.write_all_at(&superblock.encode(sequence), tail + offset)?;
        file.sync_all()?;
    }
    Ok(())
}

/// Makes the entry of `path` in its folder durable.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Makes a controller's state folder if it is not there, durable, and open to its owner alone (0700). One that is there
/// has to be this user's: its owner can put anything into it, also where this user is root.
pub fn make_state_folder(folder: &Path) -> io::Result<()> {
    let mut missing: Vec<&Path> = folder.ancestors().take_while(|path| !path.exists()).collect();
    missing.retain(|path| !path.as_os_str().is_empty());
    for path in missing.iter().rev() {
        DirBuilder::new().mode(0o700).recursive(true).create(path)?;
        sync_folder_of(path)?;
    }
    let mut options = OpenOptions::new();
    let opened = options.read(true).custom_flags(libc::O_DIRECTORY).open(folder)?;
    let (owner, user) = (opened.metadata()?.uid(), rustix::process::geteuid().as_raw());
    if owner != user {
        let why = format!(
            "it belongs to the user with the number {owner}, and this process runs as {user}. Run it as {owner}, \
             or, if all in it is to be {user}'s, `chown -R {user}` it"
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    opened.set_permissions(Permissions::from_mode(0o700))
}

fn is_zero(file: &File, offset: u64, bytes: u64) -> io::Result<bool> {
    let mut chunk = [0; 65536];
    let (mut offset, mut left) = (offset, bytes);
    while left > 0 {
        let want = left.min(chunk.len() as u64) as usize;
        let piece = chunk.get_mut(..want).unwrap_or_default();
        file.read_exact_at(piece, offset)?;
        if piece.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        offset += want as u64;
        left -= want as u64;
    }
    Ok(true)
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
