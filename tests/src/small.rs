//! A small file system for tests: it is full when they want it to be.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory, gone when this is dropped.
#[derive(Debug)]
pub struct Small {
    folder: PathBuf,
}

impl Small {
    /// One of so many bytes at `folder`, which is made. `None`, with the reason printed, where this process cannot
    /// mount one.
    #[must_use]
    pub fn mount(folder: &Path, bytes: u64) -> Option<Self> {
        let size = format!("size={bytes},mode=700");
        let mounted = fs::create_dir_all(folder).and_then(|()| {
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).output()
        });
        let why = match mounted {
            Ok(output) if output.status.success() => return Some(Self { folder: folder.to_owned() }),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        eprintln!("skipped: no small file system can be mounted here: {}", why.trim());
        None
    }

    /// A neighbour takes all that is left.
    pub fn fill(&self) -> io::Result<()> {
        let mut file = File::options().create(true).append(true).open(self.filler())?;
        for bytes in [1 << 20, 4096, 1] {
            let piece = vec![7; bytes];
            loop {
                match file.write_all(&piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// The neighbour gives it back.
    pub fn free(&self) -> io::Result<()> {
        fs::remove_file(self.filler())
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // It goes as soon as nobody has a file of it open.
        let _ = Command::new("umount").arg("--lazy").arg(&self.folder).status();
    }
}
