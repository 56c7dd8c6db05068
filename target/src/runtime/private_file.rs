//! Reading a file that holds a secret: only its owner may read or change it, its owner is this user (or root, who may
//! read it anyway), and it is a file. What is opened is what is looked at, so that nobody can change it in between; and
//! nothing that lies there makes the reader wait, as a pipe that nobody writes to would.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Why such a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    /// A folder, a pipe, a device.
    #[error("it is not a file")]
    NotAFile,
    /// Others may read or change it.
    #[error("others may read or change it")]
    Exposed,
    /// It belongs to somebody else, who can change it at any time.
    #[error("it belongs to the user with the number {owner}, and this process runs as {user}")]
    Foreign {
        /// Whose it is.
        owner: u32,
        /// Who reads it.
        user: u32,
    },
    /// It is longer than such a file ever is.
    #[error("it has more than {0} bytes")]
    TooLong(u64),
}

/// Reads the whole file, of `bytes_max` bytes at most.
pub fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, PrivateFileError> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let flags = i32::try_from(flags).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut file = File::options().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(PrivateFileError::NotAFile);
    }
    let (owner, user) = (found.uid(), rustix::process::geteuid().as_raw());
    if owner != user && owner != 0 {
        return Err(PrivateFileError::Foreign { owner, user });
    }
    if found.mode() & 0o077 != 0 {
        return Err(PrivateFileError::Exposed);
    }
    let mut bytes = Vec::new();
    Read::take(&mut file, bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(PrivateFileError::TooLong(bytes_max));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    fn write(path: &Path, mode: u32) {
        fs::write(path, "some secret").unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_a_file_of_its_owner_alone_is_read_and_no_more_of_it_than_there_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write(&path, 0o600);
        assert_eq!(read(&path, 11).unwrap(), b"some secret");
        assert!(matches!(read(&path, 10), Err(PrivateFileError::TooLong(10))));
        write(&path, 0o604);
        assert!(matches!(read(&path, 11), Err(PrivateFileError::Exposed)));
        assert!(matches!(read(folder.path(), 11), Err(PrivateFileError::NotAFile)));
        assert!(matches!(read(Path::new("/dev/zero"), 11), Err(PrivateFileError::NotAFile)));
        let missing = read(&folder.path().join("none"), 11);
        assert!(
            matches!(missing, Err(PrivateFileError::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound)
        );
    }

    #[test]
    fn a_pipe_that_nobody_writes_to_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        assert!(matches!(read(&path, 11), Err(PrivateFileError::NotAFile)));
    }

    #[test]
    fn a_file_of_another_user_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write(&path, 0o600);
        if chown(&path, Some(12_345), None).is_err() {
            println!("skipped: only root can give a file away");
            return;
        }
        assert!(matches!(read(&path, 11), Err(PrivateFileError::Foreign { owner: 12_345, user: 0 })));
    }
}
