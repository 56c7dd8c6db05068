//! The lock that keeps two processes from running the same controller.
//!
//! What is opened is what is locked and written to: never what a link leads to, never anything but a file of this user
//! that has no other name. So nothing that somebody else put there is emptied.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
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
    /// What lies in its place is not a lock file of this user.
    #[error(
        "{} is {what}, not the lock file of this controller; it was not touched. Find out who put it there, remove it, \
         then start again", path.display()
    )]
    Strange {
        /// The lock file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
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
        // A pipe in its place shall not make anybody wait.
        let options = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let strange = |what| LockError::Strange { path: path.clone(), what };
        let mut file = options.open(&path).map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => strange("a symbolic link"),
            Some(libc::EISDIR | libc::ENXIO | libc::ENODEV) => strange("no file"),
            _ => failed(error),
        })?;
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            return Err(strange("no file"));
        }
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(strange("a file of another user"));
        }
        if found.nlink() != 1 {
            return Err(strange("a file with another name elsewhere"));
        }
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

    #[test]
    fn what_is_not_a_lock_file_of_this_user_is_neither_locked_nor_emptied() {
        use std::fs;
        let folder = tempfile::tempdir().unwrap();
        let (lock, other) = (folder.path().join("lock"), folder.path().join("precious"));
        fs::write(&other, "precious").unwrap();
        let place: [&dyn Fn(); 4] = [
            &|| std::os::unix::fs::symlink(&other, &lock).unwrap(),
            &|| fs::hard_link(&other, &lock).unwrap(),
            &|| {
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                rustix::fs::mkfifoat(rustix::fs::CWD, &lock, mode).unwrap();
            },
            &|| std::os::unix::fs::symlink(folder.path().join("not there yet"), &lock).unwrap(),
        ];
        for put in place {
            put();
            assert!(matches!(StateLock::take(folder.path()), Err(LockError::Strange { .. })));
            fs::remove_file(&lock).unwrap();
        }
        assert_eq!(fs::read_to_string(&other).unwrap(), "precious");
        assert!(!folder.path().join("not there yet").exists());
        fs::create_dir(&lock).unwrap();
        assert!(matches!(StateLock::take(folder.path()), Err(LockError::Strange { .. })));
        fs::remove_dir(&lock).unwrap();
        fs::write(&lock, "somebody's").unwrap();
        if std::os::unix::fs::chown(&lock, Some(12_345), None).is_ok() {
            assert!(matches!(StateLock::take(folder.path()), Err(LockError::Strange { .. })));
            assert_eq!(fs::read_to_string(&lock).unwrap(), "somebody's");
        }
    }
}
