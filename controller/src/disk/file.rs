//! The I/O of one volume on a file or block device.
//!
//! What will hardly block is done at once, on the caller's thread: reads of what the page cache holds
//! (`RWF_NOWAIT`), and writes into the page cache while the disk answers promptly. Hardly: no file system promises it
//! for what is buffered, so the caller must be a thread that can be done without. Everything else goes to the
//! volume's [`Lane`] of the pool and its result comes by the callback. Byte n of the LUN is byte n of
//! the file; of the reserved tail behind the LUN nothing here can reach more than the redo record.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use bytes::{Buf, Bytes};
use protocol::block::{BLOCK_BYTES, BlockRange};
use rustix::fs::{Advice, FallocateFlags};
use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};

use super::buffers::{BUFFER_BYTES_MAX, Buffer, BufferPool};
use super::flush::{Completion, Flusher};
use super::pool::Lane;
use super::promptness::Promptness;
use super::warmth::Warmth;
use super::{DiskError, DiskIo, DiskResult, extents};
use crate::said::Seldom;
use crate::volume::files::VolumePlace;
use crate::volume::redo::{self, HEADER_BYTES, RECORD_OFFSET};
use crate::volume::superblock::{Superblock, TAIL_BYTES};

/// Bytes read or written on the caller's thread at most; copying more would keep its neighbours waiting.
pub const INLINE_BYTES_MAX: u64 = BUFFER_BYTES_MAX as u64;

/// Pieces in one vectored write at most (IOV_MAX of Linux).
const WRITE_PIECES_MAX: usize = 1024;

/// Bytes of a WRITE SAME that are written on the caller's thread at most.
const WRITE_SAME_INLINE_BYTES_MAX: u64 = 64 << 10;

/// One open volume.
pub struct VolumeFile {
    file: File,
    /// What people know it by.
    path: Box<Path>,
    lun_bytes: u64,
    /// Where the redo record lies; `None` if there is no tail.
    record: Option<u64>,
    device: bool,
    memory: bool,
    buffers: BufferPool,
    lane: Lane,
    promptness: Promptness,
    warmth: Warmth,
    flusher: Flusher,
    /// It wanted to grow, found no room, and none was seen since: why, as [`Room`] numbers it.
    no_room: AtomicU8,
    /// What was logged of its disk.
    said: Seldom,
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

/// [`VolumeFile::no_room`] as a number.
struct Room;

impl Room {
    const SEEN: u8 = 0;
    const FULL: u8 = 1;
    const SIZE_LIMIT: u8 = 2;
}

impl VolumeFile {
    /// The volume of `blocks` logical blocks at the start of `file`, which is open for reading and writing; the log
    /// names it by `path`.
    #[must_use]
    pub fn new(file: File, path: &Path, blocks: u64, buffers: BufferPool, lane: Lane) -> Self {
        let device = file.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device());
        let memory = rustix::fs::fstatfs(&file).is_ok_and(|fs| fs.f_type == libc::TMPFS_MAGIC) && !device;
        let lun_bytes = blocks.saturating_mul(u64::from(BLOCK_BYTES));
        let end = rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0)).ok();
        let tail = end.and_then(|end| end.checked_sub(TAIL_BYTES)).filter(|tail| *tail >= lun_bytes);
        Self {
            file,
            path: path.into(),
            lun_bytes,
            record: tail.map(|tail| tail + RECORD_OFFSET),
            device,
            memory,
            buffers,
            lane,
            promptness: Promptness::default(),
            warmth: Warmth::default(),
            flusher: Flusher::default(),
            no_room: AtomicU8::new(Room::SEEN),
            said: Seldom::default(),
        }
    }

    /// Does disk I/O at once if it will hardly block. What was not done is for [`VolumeFile::submit`].
    pub fn try_at_once(&self, io: &DiskIo) -> AtOnce {
        if let Err(error) = self.check(io) {
            return AtOnce::Done(Err(error));
        }
        let cold =
            matches!(io, DiskIo::Read(range) if range.bytes() <= INLINE_BYTES_MAX) && self.warmth.is_cold();
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
        if let Err(error) = self.check(&io) {
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
            self.promptness.write_pooled();
        }
        let volume = Arc::clone(self);
        let job = move || {
            let begun = Instant::now();
            let result = match io {
                DiskIo::Read(range) if cold => volume.read_thought_cold(range),
                io => volume.perform(io),
            };
            if writes {
                volume.promptness.pooled_write_ended(begun.elapsed());
            }
            done(result);
        };
        match self.lane.submit(Box::new(job)) {
            Ok(()) => None,
            Err(_) => {
                if writes {
                    self.promptness.write_refused();
                }
                if let Some(unsaid) = self.said.happens("full", "") {
                    tracing::error!(
                        "{}: the disk does not answer, its queue is full{unsaid}",
                        self.path.display()
                    );
                }
                Some(Err(DiskError::Io))
            }
        }
    }

    /// Why the volume could not grow, if that is the last that is known of its room.
    #[must_use]
    pub fn no_room(&self) -> Option<DiskError> {
        match self.no_room.load(Ordering::Relaxed) {
            Room::SEEN => None,
            Room::SIZE_LIMIT => Some(DiskError::SizeLimit),
            _ => Some(DiskError::Full),
        }
    }

    /// Somebody has seen that its file system has room. A limit of the process stays as long as the process.
    pub fn found_room(&self) {
        let (full, seen) = (Room::FULL, Room::SEEN);
        // Anything else is to stay.
        let _other = self.no_room.compare_exchange(full, seen, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// What people know it by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Marks the volume, which lies at `place`, as another time of service begins; see [`VolumePlace::begin_service`].
    /// Waits for the disk.
    pub fn begin_service(&self, place: &VolumePlace, superblock: &Superblock) -> Result<(), DiskError> {
        place.begin_service(&self.file, superblock)
    }

    /// Whether [`VolumeFile::try_at_once`] would try this; asks no disk.
    #[must_use]
    pub fn may_be_done_at_once(&self, io: &DiskIo) -> bool {
        !self.lane.hangs()
            && match io {
                DiskIo::Read(range) => range.bytes() <= INLINE_BYTES_MAX,
                DiskIo::Write { range, .. } => range.bytes() <= INLINE_BYTES_MAX && self.promptness.prompt(),
                DiskIo::WriteSame { range, .. } => {
                    range.bytes() <= WRITE_SAME_INLINE_BYTES_MAX && self.promptness.prompt()
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
        self.promptness.not_prompt();
        self.lane.gives_the_thread_back();
    }

    /// True once a flush has failed: nothing on this volume can be called durable again.
    #[must_use]
    pub fn flush_failed(&self) -> bool {
        self.flusher.failed()
    }

    /// The controller keeps ranges inside the LUN and data the size of its range; here it is checked again,
    /// because behind the LUN lies the superblock.
    fn check(&self, io: &DiskIo) -> Result<(), DiskError> {
        let inside = |range: &BlockRange| range.end().byte_offset() <= self.lun_bytes;
        let sound = match io {
            DiskIo::Read(range) | DiskIo::Prefetch(range) | DiskIo::Extents { range, .. } => inside(range),
            DiskIo::Write { range, data }
            | DiskIo::Verify { range, data }
            | DiskIo::Record { range, data } => {
                inside(range) && data.iter().map(|piece| piece.len() as u64).sum::<u64>() == range.bytes()
            }
            DiskIo::WriteSame { range, block } => inside(range) && block.len() == BLOCK_BYTES as usize,
            DiskIo::Unmap(ranges) => ranges.iter().all(inside),
            DiskIo::Usage | DiskIo::Unrecord | DiskIo::Flush => true,
        };
        if sound {
            return Ok(());
        }
        if let Some(unsaid) = self.said.happens("outside", "") {
            tracing::error!("{}: disk I/O outside the volume was refused{unsaid}", self.path.display());
        }
        Err(DiskError::Io)
    }

    /// Does what will hardly block.
    fn do_now(&self, io: &DiskIo) -> Option<DiskResult> {
        if !self.may_be_done_at_once(io) {
            return None;
        }
        match io {
            DiskIo::Read(range) => {
                let result = self.read_now(*range);
                self.warmth.tried(result.is_some());
                result
            }
            DiskIo::Write { range, data } => {
                let begun = Instant::now();
                let result = self.write(range.start.byte_offset(), data);
                self.promptness.written(begun.elapsed());
                Some(result.map(|()| Vec::new()))
            }
            DiskIo::WriteSame { .. } => Some(self.perform(io.clone())),
            _ => None,
        }
    }

    /// Does anything, taking as long as it takes.
    fn perform(&self, io: DiskIo) -> DiskResult {
        match io {
            DiskIo::Read(range) => self.read(range),
            DiskIo::Write { range, data } => {
                self.write(range.start.byte_offset(), &data).map(|()| Vec::new())
            }
            DiskIo::WriteSame { range, block } => self.write_same(range, &block).map(|()| Vec::new()),
            DiskIo::Unmap(ranges) => {
                ranges.iter().try_for_each(|range| self.unmap(*range)).map(|()| Vec::new())
            }
            DiskIo::Verify { range, data } => self.verify(range, &data).map(|()| Vec::new()),
            DiskIo::Prefetch(range) => {
                self.advise(range, Advice::WillNeed);
                Ok(Vec::new())
            }
            DiskIo::Extents { range, descriptors } => {
                Ok(vec![extents::descriptors(&self.file, range, descriptors)])
            }
            DiskIo::Usage => Ok(vec![extents::usage(&self.file, self.lun_bytes)]),
            DiskIo::Record { range, data } => self.keep_record(range, &data).map(|()| Vec::new()),
            DiskIo::Unrecord => self.blot_record().map(|()| Vec::new()),
            DiskIo::Flush => Err(DiskError::Io),
        }
    }

    fn read_now(&self, range: BlockRange) -> Option<DiskResult> {
        let bytes = usize::try_from(range.bytes()).ok()?;
        let mut buffer = self.buffers.take(bytes);
        let flags = if self.memory { ReadWriteFlags::empty() } else { ReadWriteFlags::NOWAIT };
        let mut space = [IoSliceMut::new(buffer.space().get_mut(..bytes)?)];
        let read = rustix::io::preadv2(&self.file, &mut space, range.start.byte_offset(), flags);
        (read == Ok(bytes)).then(|| Ok(vec![buffer.freeze(bytes)]))
    }

    /// A read of the pool that was not tried at once: perhaps its data is in memory after all.
    fn read_thought_cold(&self, range: BlockRange) -> DiskResult {
        let Some(result) = self.read_now(range) else { return self.read(range) };
        self.warmth.found_by_the_pool();
        result
    }

    fn read(&self, range: BlockRange) -> DiskResult {
        let mut pieces = Vec::new();
        let (mut offset, mut left) = (range.start.byte_offset(), range.bytes());
        while left > 0 {
            let bytes = left.min(BUFFER_BYTES_MAX as u64) as usize;
            let mut buffer = self.buffers.take(bytes);
            self.read_exact(&mut buffer, bytes, offset)?;
            pieces.push(buffer.freeze(bytes));
            offset += bytes as u64;
            left -= bytes as u64;
        }
        Ok(pieces)
    }

    fn read_exact(&self, buffer: &mut Buffer, bytes: usize, offset: u64) -> Result<(), DiskError> {
        let mut filled = 0;
        while filled < bytes {
            let space = buffer.space().get_mut(filled..bytes).ok_or(DiskError::Io)?;
            match retry_on_intr(|| rustix::io::pread(&self.file, &mut *space, offset + filled as u64)) {
                Ok(0) => return Err(self.failed("read", Errno::NODATA)),
                Ok(read) => filled += read,
                Err(errno) => return Err(self.failed("read", errno)),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[Bytes]) -> Result<(), DiskError> {
        if let [piece] = data {
            return self.write_piece(offset, piece);
        }
        let mut offset = offset;
        for pieces in data.chunks(WRITE_PIECES_MAX) {
            let bytes = pieces.iter().map(Bytes::len).sum::<usize>();
            let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let written = retry_on_intr(|| rustix::io::pwritev(&self.file, &slices, offset))
                .map_err(|errno| self.failed("write", errno))?;
            if written < bytes {
                self.write_rest(offset, pieces, written)?;
            }
            offset += bytes as u64;
        }
        Ok(())
    }

    /// The disk took only the first `written` bytes of `pieces`: the rest piece by piece, to learn why.
    fn write_rest(&self, offset: u64, pieces: &[Bytes], written: usize) -> Result<(), DiskError> {
        let mut at = 0;
        for piece in pieces {
            let skip = written.saturating_sub(at).min(piece.len());
            self.write_piece(offset + (at + skip) as u64, piece.get(skip..).unwrap_or_default())?;
            at += piece.len();
        }
        Ok(())
    }

    fn write_piece(&self, offset: u64, piece: &[u8]) -> Result<(), DiskError> {
        let (mut offset, mut left) = (offset, piece);
        while left.has_remaining() {
            match retry_on_intr(|| rustix::io::pwrite(&self.file, left, offset)) {
                Ok(0) => return Err(self.failed("write", Errno::IO)),
                Ok(written) => {
                    left.advance(written.min(left.len()));
                    offset += written as u64;
                }
                Err(errno) => return Err(self.failed("write", errno)),
            }
        }
        Ok(())
    }

    /// Writes the redo record. Room for the blocks themselves is made first: a full disk must be noticed before one of
    /// them changes. Where room cannot be made ahead (a device has it, some file systems do not know how) nothing is
    /// lost but that.
    fn keep_record(&self, range: BlockRange, data: &[Bytes]) -> Result<(), DiskError> {
        let place = self.record.filter(|_| range.blocks <= u64::from(redo::ATOMIC_BLOCKS_MAX));
        let place = place.ok_or(DiskError::Io)?;
        let (offset, bytes) = (range.start.byte_offset(), range.bytes());
        let room = rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, offset, bytes);
        if let Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) = room {
            return Err(self.failed("make room", errno));
        }
        let header = redo::header(range, data.iter().map(|piece| &piece[..]));
        let mut record = Vec::with_capacity(data.len() + 1);
        record.push(Bytes::copy_from_slice(&header));
        record.extend(data.iter().cloned());
        self.write(place, &record)
    }

    /// Blots out the redo record. Where there is none nothing is written, for which a full disk may have no room.
    fn blot_record(&self) -> Result<(), DiskError> {
        let place = self.record.ok_or(DiskError::Io)?;
        let mut buffer = self.buffers.take(HEADER_BYTES);
        self.read_exact(&mut buffer, HEADER_BYTES, place)?;
        let there = buffer.freeze(HEADER_BYTES);
        if there.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        self.write_piece(place, &[0; HEADER_BYTES])
    }

    /// Reads back what was written and made durable. Clean pages are dropped first, so that it comes from the disk.
    fn verify(&self, range: BlockRange, data: &[Bytes]) -> Result<(), DiskError> {
        self.advise(range, Advice::DontNeed);
        let mut expected = data.iter().flat_map(|piece| piece.iter());
        let there = self.read(range)?;
        let same = there.iter().flat_map(|piece| piece.iter()).all(|byte| expected.next() == Some(byte));
        if same {
            return Ok(());
        }
        if let Some(unsaid) = self.said.happens("verify", "") {
            let path = self.path.display();
            tracing::error!(%range, "{path}: the disk does not hold what was written to it{unsaid}");
        }
        Err(DiskError::Io)
    }

    /// Tells the kernel what is going to be done with a range; a hint, which may have no effect.
    fn advise(&self, range: BlockRange, advice: Advice) {
        let length = core::num::NonZeroU64::new(range.bytes());
        if let Err(errno) = rustix::fs::fadvise(&self.file, range.start.byte_offset(), length, advice) {
            tracing::debug!("{}: the kernel takes no advice: {errno}", self.path.display());
        }
    }

    fn write_same(&self, range: BlockRange, block: &[u8]) -> Result<(), DiskError> {
        let large = range.bytes() > WRITE_SAME_INLINE_BYTES_MAX;
        if large && block.iter().all(|byte| *byte == 0) && self.allocate(FallocateFlags::ZERO_RANGE, range) {
            return Ok(());
        }
        self.fill(range, block)
    }

    /// Writes one block all over the range.
    fn fill(&self, range: BlockRange, block: &[u8]) -> Result<(), DiskError> {
        let chunk_bytes = range.bytes().min(BUFFER_BYTES_MAX as u64) as usize;
        let mut buffer = self.buffers.take(chunk_bytes);
        for place in buffer.space().chunks_exact_mut(block.len().max(1)) {
            place.copy_from_slice(block);
        }
        let chunk = buffer.freeze(chunk_bytes);
        let (mut offset, mut left) = (range.start.byte_offset(), range.bytes());
        while left > 0 {
            let bytes = left.min(chunk.len() as u64);
            self.write_piece(offset, chunk.get(..bytes as usize).unwrap_or_default())?;
            offset += bytes;
            left -= bytes;
        }
        Ok(())
    }

    fn unmap(&self, range: BlockRange) -> Result<(), DiskError> {
        if range.is_empty() || self.allocate(FallocateFlags::PUNCH_HOLE, range) {
            return Ok(());
        }
        // A device whose discards do not promise zeros, a file system without holes, a range that is not
        // aligned to the device's blocks.
        if self.device && self.allocate(FallocateFlags::ZERO_RANGE, range) {
            return Ok(());
        }
        self.fill(range, &[0; BLOCK_BYTES as usize])
    }

    /// True if the kernel did it. On block devices too, both modes promise that the range reads as zeros.
    fn allocate(&self, mode: FallocateFlags, range: BlockRange) -> bool {
        let mode = mode | FallocateFlags::KEEP_SIZE;
        let (offset, bytes) = (range.start.byte_offset(), range.bytes());
        retry_on_intr(|| rustix::fs::fallocate(&self.file, mode, offset, bytes)).is_ok()
    }

    /// Logs that the disk could not do something, if it did not say so within the last minute, and gives the error.
    fn failed(&self, what: &'static str, errno: Errno) -> DiskError {
        if let Some(unsaid) = self.said.happens(what, &errno.raw_os_error().to_string()) {
            tracing::error!("{}: the disk failed to {what}: {errno}{unsaid}", self.path.display());
        }
        let error = DiskError::from(errno);
        match error {
            DiskError::Full => self.no_room.store(Room::FULL, Ordering::Relaxed),
            DiskError::SizeLimit => self.no_room.store(Room::SIZE_LIMIT, Ordering::Relaxed),
            _ => {}
        }
        error
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
                rustix::fs::fdatasync(&volume.file).map_err(|errno| match volume.failed("flush", errno) {
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

impl From<Errno> for DiskError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOSPC | Errno::DQUOT => Self::Full,
            Errno::FBIG => Self::SizeLimit,
            _ => Self::Io,
        }
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
