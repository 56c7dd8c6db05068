//! The I/O of one volume on a file or block device.
//!
//! What will hardly block is done at once, on the caller's thread: reads of what the page cache holds
//! (`RWF_NOWAIT`), and writes into the page cache while the disk answers promptly. Hardly: no file system promises it
//! for what is buffered, so the caller must be a thread that can be done without. Everything else goes to the volume's
//! [`Lane`] of the pool and its result comes by the callback.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use protocol::block::BlockRange;

use super::buffers::{BUFFER_BYTES_MAX, BufferPool};
use super::cache_predictor::CachePredictor;
use super::flush::{Completion, Flusher};
use super::open_file::{OpenFile, WRITE_SAME_INLINE_BYTES_MAX};
use super::pool::Lane;
use super::stall_detector::StallDetector;
use super::{DiskError, DiskIo, DiskResult};
use crate::volume::files::VolumePlace;
use crate::volume::superblock::Superblock;

/// Bytes read or written on the caller's thread at most; copying more would keep its neighbours waiting.
pub const INLINE_BYTES_MAX: u64 = BUFFER_BYTES_MAX as u64;

/// One open volume.
pub struct VolumeFile {
    open: OpenFile,
    lane: Lane,
    stalls: StallDetector,
    cache: CachePredictor,
    flusher: Flusher,
}

/// What came of trying disk I/O at once.
#[derive(Debug)]
pub enum AtOnce {
    /// Its result.
    Done(DiskResult),
    /// It may have to wait for the disk.
    NotDone {
        /// A read that was not even tried: nothing of late was in memory.
        cold: bool,
    },
}

impl VolumeFile {
    /// The volume of `blocks` logical blocks at the start of `file`, which is open for reading and writing; the log
    /// names it by `path`.
    #[must_use]
    pub fn new(file: File, path: &Path, blocks: u64, buffers: BufferPool, lane: Lane) -> Self {
        Self {
            open: OpenFile::new(file, path, blocks, buffers),
            lane,
            stalls: StallDetector::default(),
            cache: CachePredictor::default(),
            flusher: Flusher::default(),
        }
    }

    /// Does disk I/O at once if it will hardly block. What was not done is for [`VolumeFile::submit`].
    pub fn try_at_once(&self, io: &DiskIo) -> AtOnce {
        if let Err(error) = self.open.check(io) {
            return AtOnce::Done(Err(error));
        }
        let cold =
            matches!(io, DiskIo::Read(range) if range.bytes() <= INLINE_BYTES_MAX) && self.cache.is_cold();
        if !cold && let Some(result) = self.do_now(io) {
            return AtOnce::Done(result);
        }
        AtOnce::NotDone { cold }
    }

    /// Submits disk I/O to the pool: the calling thread waits for no disk. `Some` is its result; with `None` the result
    /// comes by `done`, on another thread. `cold` is what [`VolumeFile::try_at_once`] said, false if it was not asked.
    pub fn submit(
        self: &Arc<Self>,
        io: DiskIo,
        cold: bool,
        done: impl FnOnce(DiskResult) + Send + 'static,
    ) -> Option<DiskResult> {
        if let Err(error) = self.open.check(&io) {
            return Some(Err(error));
        }
        if matches!(io, DiskIo::Flush) {
            return self.submit_flush(Box::new(done));
        }
        self.submit_to_pool(io, cold, done)
    }

    /// `cold`: a read that was not tried at once.
    fn submit_to_pool(
        self: &Arc<Self>,
        io: DiskIo,
        cold: bool,
        done: impl FnOnce(DiskResult) + Send + 'static,
    ) -> Option<DiskResult> {
        let writes = matches!(io, DiskIo::Write { .. });
        if writes {
            self.stalls.write_pooled();
        }
        let volume = Arc::clone(self);
        let job = move || {
            let begun = Instant::now();
            let result = match io {
                DiskIo::Read(range) if cold => volume.read_thought_cold(range),
                io => volume.open.perform(io),
            };
            if writes {
                volume.stalls.pooled_write_ended(begun.elapsed());
            }
            done(result);
        };
        match self.lane.submit(Box::new(job)) {
            Ok(()) => None,
            Err(_) => {
                if writes {
                    self.stalls.write_refused();
                }
                if let Some(suppressed) = self.open.may_log("full") {
                    tracing::error!(
                        "{}: the disk does not answer, its queue is full{suppressed}",
                        self.path().display()
                    );
                }
                Some(Err(DiskError::Io))
            }
        }
    }

    /// Why the volume could not grow, if that is the last that is known of its room.
    #[must_use]
    pub fn no_room(&self) -> Option<DiskError> {
        self.open.no_room()
    }

    /// Somebody has seen that its file system has room. A limit of the process stays as long as the process.
    pub fn found_room(&self) {
        self.open.found_room();
    }

    /// What people know it by.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.open.path()
    }

    /// Marks the volume, which lies at `place`, as another time of service begins; see [`VolumePlace::begin_service`].
    /// Waits for the disk.
    pub fn begin_service(&self, place: &VolumePlace, superblock: &Superblock) -> Result<(), DiskError> {
        place.begin_service(self.open.file(), superblock)
    }

    /// Whether [`VolumeFile::try_at_once`] would try this; asks no disk.
    #[must_use]
    pub fn may_be_done_at_once(&self, io: &DiskIo) -> bool {
        !self.lane.hangs()
            && match io {
                DiskIo::Read(range) => range.bytes() <= INLINE_BYTES_MAX,
                DiskIo::Write { range, .. } => range.bytes() <= INLINE_BYTES_MAX && self.stalls.is_prompt(),
                DiskIo::WriteSame { range, .. } => {
                    range.bytes() <= WRITE_SAME_INLINE_BYTES_MAX && self.stalls.is_prompt()
                }
                _ => false,
            }
    }

    /// A thread that tried something at once waits for this disk. Until it has come back, nothing is tried at once on
    /// any volume of this disk.
    pub fn hangs(&self) {
        self.lane.keeps_a_thread();
    }

    /// That thread has come back.
    pub fn answers_again(&self) {
        self.stalls.stalled();
        self.lane.gives_the_thread_back();
    }

    /// True once a flush has failed: nothing on this volume can be called durable again.
    #[must_use]
    pub fn flush_failed(&self) -> bool {
        self.flusher.failed()
    }

    /// Does what will hardly block.
    fn do_now(&self, io: &DiskIo) -> Option<DiskResult> {
        if !self.may_be_done_at_once(io) {
            return None;
        }
        match io {
            DiskIo::Read(range) => {
                let result = self.open.read_now(*range);
                self.cache.tried(result.is_some());
                result
            }
            DiskIo::Write { range, data } => {
                let begun = Instant::now();
                let result = self.open.write(range.start.byte_offset(), data);
                self.stalls.written(begun.elapsed());
                Some(result.map(|()| Vec::new()))
            }
            DiskIo::WriteSame { .. } => Some(self.open.perform(io.clone())),
            _ => None,
        }
    }

    /// A read of the pool that was not tried at once: perhaps its data is in memory after all.
    fn read_thought_cold(&self, range: BlockRange) -> DiskResult {
        let Some(result) = self.open.read_now(range) else { return self.open.read(range) };
        self.cache.found_by_the_pool();
        result
    }

    fn submit_flush(self: &Arc<Self>, done: Completion) -> Option<DiskResult> {
        if self.flusher.failed() {
            return Some(Err(DiskError::FlushFailed));
        }
        if self.flusher.gather(done) {
            self.start_flush();
        }
        None
    }

    fn start_flush(self: &Arc<Self>) {
        let volume = Arc::clone(self);
        let flush = move || {
            // Whatever the reason: what was written before may be lost, and room does not bring it back.
            let sync = || {
                volume.open.sync().map_err(|error| match error {
                    error if error.wants_room() => DiskError::FlushFailed,
                    error => error,
                })
            };
            if volume.flusher.flush(sync) {
                volume.start_flush();
            }
        };
        if self.lane.submit_single(Box::new(flush)).is_err() {
            // Only at the end of the process: nobody is told that anything became durable.
            tracing::debug!("a flush came after the end of the disk threads");
        }
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
