//! The room on file systems: how much is free where a volume lies, and how much its volumes may still ask for.
//!
//! Volumes are sparse: they promise more than they take. Nothing here decides anything; people are told in time, and a
//! copy that left its pair for want of room comes back when there is some.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use super::redo::{RECORD_BYTES, RECORD_OFFSET};
use super::superblock::TAIL_BYTES;

/// A file system as it is at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileSystem {
    /// Which it is: the device number of what lies on it.
    pub device: u64,
    /// Where it is mounted, as far as can be seen from what lies on it.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// What is free for everybody, in bytes: what people see as available.
    pub free: u64,
    /// What this process can still use of it, in bytes: what the system keeps back for root is there for root.
    pub usable: u64,
}

/// What one volume in a file has, and may still ask for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeRoom {
    /// Where it lies, or is going to.
    pub file_system: FileSystem,
    /// What is left to be written for the first time, in bytes.
    pub promised: u64,
}

impl FileSystem {
    /// The file system of a path, or of the nearest folder above it that is there.
    pub fn of(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let there = path.ancestors().find(|path| path.exists()).ok_or(io::ErrorKind::NotFound)?;
        let device = there.metadata()?.dev();
        let on_it = |path: &&Path| path.metadata().is_ok_and(|metadata| metadata.dev() == device);
        let top = there.ancestors().take_while(on_it).last().unwrap_or(there);
        let system = rustix::fs::statvfs(there)?;
        let usable = if rustix::process::geteuid().is_root() { system.f_bfree } else { system.f_bavail };
        Ok(Self {
            device,
            path: top.to_owned(),
            bytes: system.f_blocks.saturating_mul(system.f_frsize),
            free: system.f_bavail.saturating_mul(system.f_frsize),
            usable: usable.saturating_mul(system.f_frsize),
        })
    }
}

impl VolumeRoom {
    /// The room for a volume of `bytes` (without its tail) in a file at `path`, which may not be there yet. `None` if a
    /// device lies there: it has all it will ever have.
    pub fn of(path: &Path, bytes: u64) -> io::Result<Option<Self>> {
        let has = match path.metadata() {
            Ok(found) if found.file_type().is_block_device() => return Ok(None),
            // st_blocks counts 512 bytes, whatever the disk's blocks are.
            Ok(found) => found.blocks().saturating_mul(512),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let promised = bytes.saturating_add(TAIL_BYTES).saturating_sub(has);
        Ok(Some(Self { file_system: FileSystem::of(path)?, promised }))
    }
}

/// Takes the room for the redo record in the tail of a volume's file, which begins at `tail`: then a file system that a
/// neighbour fills cannot keep a write from being all or nothing whose blocks have their place. Where the file system
/// cannot do that, or is full already, the record finds its room when it is first written, or does not.
pub fn take_for_redo_record(file: &File, tail: u64) {
    let (from, bytes) = (tail.saturating_add(RECORD_OFFSET), RECORD_BYTES);
    if let Err(errno) = rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, from, bytes) {
        tracing::debug!("no room is taken beforehand for a redo record: {errno}");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_sparse_volume_promises_what_it_has_not_taken_and_a_file_that_is_not_there_everything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/in/it/data0.volume");
        let room = VolumeRoom::of(&path, 8 << 20).unwrap().unwrap();
        assert_eq!(room.promised, (8 << 20) + TAIL_BYTES);
        assert_eq!(room.file_system.device, folder.path().metadata().unwrap().dev());
        assert!(folder.path().starts_with(&room.file_system.path), "{:?}", room.file_system);
        let path = folder.path().join("data0.volume");
        let file = File::create(&path).unwrap();
        file.set_len((8 << 20) + TAIL_BYTES).unwrap();
        file.write_all_at(&[7; 1 << 20], 0).unwrap();
        file.sync_all().unwrap();
        let room = VolumeRoom::of(&path, 8 << 20).unwrap().unwrap();
        let taken = (8 << 20) + TAIL_BYTES - room.promised;
        assert!((1 << 20..2 << 20).contains(&taken), "{taken}");
    }
}
