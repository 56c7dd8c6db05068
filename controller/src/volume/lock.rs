//! The lock that keeps two processes from running the same controller.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Holds the lock of a controller's state folder until it is dropped or the process ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

/// Why the lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process runs this controller.
    #[error("{}: process {process} runs this controller already; stop it first", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// The id of the process that holds it, as it wrote it there.
        process: String,
    },
    /// The lock file cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StateLock {
    /// Takes the lock in `folder`, and writes this process's id into it.
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join("lock");
        let failed = |source| LockError::Io { path: path.clone(), source };
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                let read = (&file).take(32).read_to_string(&mut process);
                let known = read.is_ok() && !process.trim().is_empty();
                let process = if known { process.trim().to_owned() } else { "unknown".to_owned() };
                return Err(LockError::Held { path, process });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_told_which_process_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateLock::take(folder.path()).unwrap();
        let error = StateLock::take(folder.path()).unwrap_err();
        assert!(
            matches!(&error, LockError::Held { process, .. } if *process == std::process::id().to_string())
        );
        drop(first);
        StateLock::take(folder.path()).unwrap();
    }
}
