//! What waits to be written to one connection: headers in a reused arena, data by reference, written together.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::Bytes;
use controller::disk::crc32c::{crc32c, crc32c_of, crc32c_of_both};
use protocol::iscsi::digest::{self, Crc32c};
use protocol::iscsi::frame::{DIGEST_BYTES, padding_bytes};
use protocol::iscsi::{BHS_BYTES, Bhs, Digests};

use crate::transport::Transport;

/// Output of one connection, in bytes, above which no further input of it is taken and no read is begun.
pub const OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Data segments up to this many bytes are copied behind their header instead of being referred to.
const COPIED_BYTES_MAX: usize = 256;

/// Pieces of one write call at most (Linux takes 1024).
const PIECES_MAX: usize = 128;

/// The arena is given back to the allocator when it had to grow beyond this many bytes.
const ARENA_KEPT_BYTES_MAX: usize = 256 * 1024;

/// A run of bytes to write.
#[derive(Debug)]
enum Piece {
    /// From the arena.
    Arena(core::ops::Range<usize>),
    /// Data of a command.
    Data(Bytes),
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Arena(range) => range.len(),
            Self::Data(data) => data.len(),
        }
    }
}

/// PDUs in the order they are to be sent. Always: `bytes` is what the pieces hold beyond `written`, and what the arena
/// holds from `open` on.
#[derive(Debug, Default)]
pub struct Output {
    arena: Vec<u8>,
    pieces: VecDeque<Piece>,
    /// Where the part of the arena begins that comes behind all pieces and is none yet: it may grow.
    open: usize,
    /// Bytes of the first piece that were written already.
    written: usize,
    bytes: usize,
}

impl Output {
    /// Bytes that wait.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// True if nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Forgets everything that waits and keeps the memory.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.open = 0;
        self.written = 0;
        self.bytes = 0;
        if self.arena.capacity() > ARENA_KEPT_BYTES_MAX {
            self.arena = Vec::new();
        } else {
            self.arena.clear();
        }
    }

    /// Gives back memory that nothing waits in.
    pub fn rest(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Inlined, because what is copied has a known length as a rule.
    #[inline]
    fn copy(&mut self, bytes: &[u8]) {
        self.arena.extend_from_slice(bytes);
        self.bytes += bytes.len();
    }

    /// Appends data, by reference unless it is short. Of what is referred to, the last `behind` bytes of the arena come
    /// after it.
    fn refer(&mut self, piece: Bytes, behind: usize) {
        if piece.len() <= COPIED_BYTES_MAX {
            self.copy(&piece);
        } else {
            self.close(self.arena.len() - behind);
            self.bytes += piece.len();
            self.pieces.push_back(Piece::Data(piece));
        }
    }

    /// What the arena holds before `end` and is no piece yet becomes one.
    #[inline]
    fn close(&mut self, end: usize) {
        if self.open < end {
            self.pieces.push_back(Piece::Arena(self.open..end));
            self.open = end;
        }
    }

    /// Appends the header of a PDU, with its digest. DataSegmentLength is in it already.
    fn header(&mut self, bhs: &Bhs, digests: Digests) {
        if !digests.header {
            return self.copy(bhs);
        }
        let mut with_digest = [0; BHS_BYTES + DIGEST_BYTES];
        let (header, digest) = with_digest.split_at_mut(BHS_BYTES);
        header.copy_from_slice(bhs);
        digest.copy_from_slice(&crc32c_of(bhs).to_le_bytes());
        self.copy(&with_digest);
    }

    /// Appends a PDU whose data segment, if any, is short enough to be copied.
    pub fn pdu(&mut self, bhs: &Bhs, data: &[u8], digests: Digests) {
        self.header(bhs, digests);
        if data.is_empty() {
            return;
        }
        self.copy(data);
        let padding = &[0; 4][..padding_bytes(data.len())];
        self.copy(padding);
        if digests.data {
            self.copy(&digest::data_digest([data]));
        }
    }

    /// Appends a PDU whose data segment is the next `length` bytes of `data`.
    pub fn pdu_with(&mut self, bhs: &Bhs, data: &mut Pieces, length: usize, digests: Digests) {
        if let Some(piece) = data.take_whole(length) {
            // What a command of a few KiB has as a rule: one piece, which needs no padding.
            if digests.header && digests.data && length > COPIED_BYTES_MAX {
                return self.digested(bhs, piece);
            }
            self.header(bhs, digests);
            let digest = digests.data.then(|| crc32c(&piece).to_le_bytes());
            self.refer(piece, 0);
            if let Some(digest) = digest {
                self.copy(&digest);
            }
            return;
        }
        self.header(bhs, digests);
        let mut digest = digests.data.then(Crc32c::default);
        let mut left = length;
        while left > 0 {
            let Some(piece) = data.take(left) else {
                debug_assert!(false, "a data segment is longer than its data");
                break;
            };
            left -= piece.len();
            if let Some(digest) = &mut digest {
                digest.update(&piece);
            }
            self.refer(piece, 0);
        }
        let padding = &[0; 4][..padding_bytes(length)];
        if !padding.is_empty() {
            self.copy(padding);
        }
        if let Some(mut digest) = digest
            && length > 0
        {
            digest.update(padding);
            self.copy(&digest.finish());
        }
    }

    /// Appends a PDU with both digests, whose data is one piece that is referred to. What stands before it and what
    /// stands behind it goes into the arena together; the next header lies behind that.
    fn digested(&mut self, bhs: &Bhs, piece: Bytes) {
        const HEADER: usize = BHS_BYTES + DIGEST_BYTES;
        const ALL: usize = HEADER + DIGEST_BYTES;
        let mut bytes = [0; ALL];
        let (header, digests) = bytes.split_at_mut(BHS_BYTES);
        header.copy_from_slice(bhs);
        let (of_header, of_data) = digests.split_at_mut(DIGEST_BYTES);
        let (header_crc, data_crc) = crc32c_of_both(bhs, &piece);
        of_header.copy_from_slice(&header_crc.to_le_bytes());
        of_data.copy_from_slice(&data_crc.to_le_bytes());
        self.arena.extend_from_slice(&bytes);
        self.bytes += ALL;
        self.refer(piece, DIGEST_BYTES);
    }

    /// Writes until nothing is left (`Ok(true)`) or the transport takes no more (`Ok(false)`).
    pub fn write_to(&mut self, transport: &dyn Transport) -> io::Result<bool> {
        self.close(self.arena.len());
        self.check();
        while self.bytes > 0 {
            let mut slices = [IoSlice::new(&[]); PIECES_MAX];
            let mut count = 0;
            let mut skip = self.written;
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                let whole = match piece {
                    Piece::Arena(range) => &self.arena[range.clone()],
                    Piece::Data(data) => data,
                };
                *slice = IoSlice::new(&whole[skip..]);
                skip = 0;
                count += 1;
            }
            match transport.try_write(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.clear();
        Ok(true)
    }

    /// All that waits, as one run of bytes.
    #[cfg(test)]
    pub(crate) fn to_bytes(&self) -> bytes::BytesMut {
        let mut all = bytes::BytesMut::new();
        for piece in &self.pieces {
            match piece {
                Piece::Arena(range) => all.extend_from_slice(&self.arena[range.clone()]),
                Piece::Data(data) => all.extend_from_slice(data),
            }
        }
        all.extend_from_slice(&self.arena[self.open..]);
        all.split_off(self.written)
    }

    fn advance(&mut self, written: usize) {
        debug_assert!(written <= self.bytes, "no transport takes more than it is given");
        self.bytes = self.bytes.saturating_sub(written);
        let mut left = self.written + written;
        while let Some(first) = self.pieces.front() {
            if left < first.len() {
                break;
            }
            left -= first.len();
            self.pieces.pop_front();
        }
        self.written = left;
        debug_assert!(left == 0 || !self.pieces.is_empty(), "what was written belongs to a piece");
    }

    /// What always holds, looked at before each write, in debug builds only.
    fn check(&self) {
        if cfg!(debug_assertions) {
            let pieces: usize = self.pieces.iter().map(Piece::len).sum();
            let open = self.arena.len().saturating_sub(self.open);
            debug_assert_eq!(self.bytes + self.written, pieces + open, "what waits is counted");
            debug_assert!(self.open <= self.arena.len(), "what is open lies in the arena");
            let first = self.pieces.front().map_or(0, Piece::len);
            debug_assert!(self.written == 0 || self.written < first, "what is written is given up");
        }
    }
}

/// The data of a command, taken piece by piece from the front without copying.
#[derive(Debug)]
pub struct Pieces {
    pieces: Vec<Bytes>,
    next: usize,
}

impl Pieces {
    /// All of `pieces`.
    #[must_use]
    pub const fn new(pieces: Vec<Bytes>) -> Self {
        Self { pieces, next: 0 }
    }

    /// The first `length` bytes, if they are a piece of their own that needs no padding.
    pub fn take_whole(&mut self, length: usize) -> Option<Bytes> {
        let first = self.pieces.get_mut(self.next)?;
        let whole = length > 0 && first.len() == length && padding_bytes(length) == 0;
        whole.then(|| {
            self.next += 1;
            core::mem::take(first)
        })
    }

    /// Up to `most` bytes from the front, as far as they lie together.
    pub fn take(&mut self, most: usize) -> Option<Bytes> {
        let first = self.pieces.get_mut(self.next)?;
        if first.len() <= most {
            self.next += 1;
            return Some(core::mem::take(first));
        }
        Some(first.split_to(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use proptest::prelude::*;

    /// Takes at most `room` bytes a call and blocks every second time.
    struct Narrow {
        room: usize,
        taken: Mutex<(Vec<u8>, bool)>,
    }

    impl Transport for Narrow {
        fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
            let (taken, blocked) = &mut *self.taken.lock();
            *blocked = !*blocked;
            if *blocked {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let all = pieces.iter().flat_map(|piece| piece.iter().copied()).take(self.room);
            let before = taken.len();
            taken.extend(all);
            Ok(taken.len() - before)
        }
        fn want_writable(&self) {}
        fn shutdown(&self) {}
    }

    proptest! {
        #[test]
        fn every_byte_leaves_in_order_however_little_fits(
            segments in proptest::collection::vec(0_usize..1500, 1..12),
            room in 1_usize..4000,
            header: bool,
            data: bool,
        ) {
            let digests = Digests { header, data };
            let transport = Narrow { room, taken: Mutex::default() };
            let mut output = Output::default();
            let mut expected = Vec::new();
            for (n, length) in segments.iter().enumerate() {
                let bhs = [n as u8; 48];
                let body = vec![0xa0 | n as u8; *length];
                expected.extend_from_slice(&bhs);
                if header { expected.extend_from_slice(&digest::digest([&bhs[..]])); }
                let mut padded = body.clone();
                padded.resize(length.next_multiple_of(4), 0);
                expected.extend_from_slice(&padded);
                if data && *length > 0 { expected.extend_from_slice(&digest::digest([&padded[..]])); }
                if n % 3 == 0 {
                    output.pdu(&bhs, &body, digests);
                } else if n % 3 == 1 {
                    let mut whole = Pieces::new(vec![Bytes::from(body)]);
                    output.pdu_with(&bhs, &mut whole, *length, digests);
                } else {
                    let (a, b) = body.split_at(length / 3);
                    let mut pieces = Pieces::new(vec![Bytes::copy_from_slice(a), Bytes::copy_from_slice(b)]);
                    output.pdu_with(&bhs, &mut pieces, *length, digests);
                }
            }
            prop_assert_eq!(output.bytes(), expected.len());
            while !output.write_to(&transport).unwrap() {}
            prop_assert!(output.is_empty());
            prop_assert_eq!(&transport.taken.lock().0, &expected);
        }
    }
}
