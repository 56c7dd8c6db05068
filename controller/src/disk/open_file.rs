//! The system calls on one open volume: reads and writes, holes, its redo record, flushes. Each but
//! [`OpenFile::read_now`] takes as long as its disk takes; [`super::file`] decides which thread may wait for it. Byte n
//! of the LUN is byte n of the file; of the reserved tail behind the LUN nothing here can reach more than the redo
//! record.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::{Buf, Bytes};
use protocol::block::{BLOCK_BYTES, BlockRange};
use rustix::fs::{Advice, FallocateFlags};
use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};

use super::buffers::{BUFFER_BYTES_MAX, Buffer, BufferPool};
use super::{DiskError, DiskIo, DiskResult, extents};
use crate::log_limit::{Suppressed, TimedLogLimiter};
use crate::volume::redo::{self, HEADER_BYTES, RECORD_OFFSET};
use crate::volume::superblock::TAIL_BYTES;

/// Pieces in one vectored write at most (IOV_MAX of Linux).
pub(super) const WRITE_PIECES_MAX: usize = 1024;

/// Bytes of a WRITE SAME that are written on the caller's thread at most; the file system is asked for more zeros.
pub(super) const WRITE_SAME_INLINE_BYTES_MAX: u64 = 64 << 10;

/// An open volume.
pub(super) struct OpenFile {
    file: File,
    /// What people know it by.
    path: Box<Path>,
    lun_bytes: u64,
    /// Where the redo record lies; `None` if there is no tail.
    record: Option<u64>,
    device: bool,
    pub(super) memory: bool,
    buffers: BufferPool,
    /// It wanted to grow, found no room, and none was seen since: why, as [`Room`] numbers it.
    no_room: AtomicU8,
    log: TimedLogLimiter,
}

/// [`OpenFile::no_room`] as a number.
struct Room;

impl Room {
    const SEEN: u8 = 0;
    const FULL: u8 = 1;
    const SIZE_LIMIT: u8 = 2;
}

impl OpenFile {
    /// The volume of `blocks` logical blocks at the start of `file`, which is open for reading and writing; the log
    /// names it by `path`.
    pub(super) fn new(file: File, path: &Path, blocks: u64, buffers: BufferPool) -> Self {
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
            no_room: AtomicU8::new(Room::SEEN),
            log: TimedLogLimiter::default(),
        }
    }

    /// The file itself.
    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    /// What people know it by.
    pub(super) const fn path(&self) -> &Path {
        &self.path
    }

    /// `what` happened with this volume. `Some` if it is to be logged now.
    pub(super) fn may_log(&self, what: &'static str) -> Option<Suppressed> {
        self.log.happens(what, "")
    }

    /// Why the volume could not grow, if that is the last that is known of its room.
    pub(super) fn no_room(&self) -> Option<DiskError> {
        match self.no_room.load(Ordering::Relaxed) {
            Room::SEEN => None,
            Room::SIZE_LIMIT => Some(DiskError::SizeLimit),
            _ => Some(DiskError::Full),
        }
    }

    /// Somebody has seen that its file system has room. A limit of the process stays as long as the process.
    pub(super) fn found_room(&self) {
        let (full, seen) = (Room::FULL, Room::SEEN);
        // Anything else is to stay.
        let _other = self.no_room.compare_exchange(full, seen, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The controller keeps ranges inside the LUN and data the size of its range; here it is checked again,
    /// because behind the LUN lies the superblock.
    pub(super) fn check(&self, io: &DiskIo) -> Result<(), DiskError> {
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
        if let Some(suppressed) = self.may_log("outside") {
            tracing::error!("{}: disk I/O outside the volume was refused{suppressed}", self.path.display());
        }
        Err(DiskError::Io)
    }

    /// Does anything, taking as long as it takes.
    pub(super) fn perform(&self, io: DiskIo) -> DiskResult {
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
            // Flushes are gathered, see `flush.rs`, and end in [`Self::sync`].
            DiskIo::Flush => Err(DiskError::Io),
        }
    }

    /// Reads what the page cache has; `None` if that is not all, or more than one buffer.
    pub(super) fn read_now(&self, range: BlockRange) -> Option<DiskResult> {
        let bytes = usize::try_from(range.bytes()).ok()?;
        let mut buffer = self.buffers.take(bytes);
        let flags = if self.memory { ReadWriteFlags::empty() } else { ReadWriteFlags::NOWAIT };
        let mut space = [IoSliceMut::new(buffer.space().get_mut(..bytes)?)];
        let read = rustix::io::preadv2(&self.file, &mut space, range.start.byte_offset(), flags);
        (read == Ok(bytes)).then(|| Ok(vec![buffer.freeze(bytes)]))
    }

    pub(super) fn read(&self, range: BlockRange) -> DiskResult {
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

    pub(super) fn write(&self, offset: u64, data: &[Bytes]) -> Result<(), DiskError> {
        if let [piece] = data {
            return self.write_piece(offset, piece);
        }
        let mut offset = offset;
        for pieces in data.chunks(WRITE_PIECES_MAX) {
            let bytes = pieces.iter().map(Bytes::len).sum::<usize>();
            debug_assert!(self.may_write(offset, bytes), "a write to the superblock, or beyond the file");
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

    /// Whether these bytes are the LUN's, or the redo record's.
    fn may_write(&self, offset: u64, bytes: usize) -> bool {
        let end = offset.saturating_add(bytes as u64);
        let in_record = |record: u64| record <= offset && end <= record + redo::RECORD_BYTES;
        end <= self.lun_bytes || self.record.is_some_and(in_record)
    }

    /// The disk took only the first `written` bytes of `pieces`: the rest piece by piece, to learn why.
    pub(super) fn write_rest(&self, offset: u64, pieces: &[Bytes], written: usize) -> Result<(), DiskError> {
        let mut at = 0;
        for piece in pieces {
            let skip = written.saturating_sub(at).min(piece.len());
            self.write_piece(offset + (at + skip) as u64, piece.get(skip..).unwrap_or_default())?;
            at += piece.len();
        }
        Ok(())
    }

    fn write_piece(&self, offset: u64, piece: &[u8]) -> Result<(), DiskError> {
        debug_assert!(self.may_write(offset, piece.len()), "a write to the superblock, or beyond the file");
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
        if let Some(suppressed) = self.may_log("verify") {
            let path = self.path.display();
            tracing::error!(%range, "{path}: the disk does not hold what was written to it{suppressed}");
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

    /// Makes everything that was written durable.
    pub(super) fn sync(&self) -> Result<(), DiskError> {
        rustix::fs::fdatasync(&self.file).map_err(|errno| self.failed("flush", errno))
    }

    /// Logs that the disk could not do something, if it did not say so within the last minute, and gives the error.
    fn failed(&self, what: &'static str, errno: Errno) -> DiskError {
        if let Some(suppressed) = self.log.happens(what, &errno.raw_os_error().to_string()) {
            tracing::error!("{}: the disk failed to {what}: {errno}{suppressed}", self.path.display());
        }
        let error = DiskError::from(errno);
        match error {
            DiskError::Full => self.no_room.store(Room::FULL, Ordering::Relaxed),
            DiskError::SizeLimit => self.no_room.store(Room::SIZE_LIMIT, Ordering::Relaxed),
            _ => {}
        }
        error
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
