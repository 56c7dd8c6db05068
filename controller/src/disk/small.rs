//! A small file system for tests: it is full when they want it to be.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

/// A folder on a file system in memory, which goes with it.
pub(crate) struct Small(tempfile::TempDir);

impl Small {
    /// One with room for so many bytes. `None`, with the reason printed, where this process cannot mount one.
    pub(crate) fn mount(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path());
        let why = match mount.output() {
            Ok(output) if output.status.success() => return Some(Self(folder)),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        eprintln!("skipped: no small file system can be mounted here: {}", why.trim());
        None
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A new file on it.
    pub(crate) fn file(&self, name: &str) -> File {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).open(self.path().join(name)).unwrap()
    }

    /// Takes all that is left.
    pub(crate) fn fill(&self) {
        let mut filler = self.file("filler");
        let full = loop {
            if let Err(error) = filler.write_all(&[7; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Out of sight at once, and gone when the last process that has a file of it open closes it.
        Command::new("umount").arg("--lazy").arg(self.path()).status().unwrap();
    }
}
