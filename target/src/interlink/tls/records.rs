//! One connection under TLS without its socket: what is sent is sealed into records, what was received is opened.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use rustls::Connection;

/// Bytes sealed at once at most; what is left over waits unsealed.
pub(crate) const SEALED_AT_ONCE_BYTES_MAX: usize = 256 * 1024;

/// Bytes read of a socket at once at most.
const SEALED_READ_BYTES_MAX: usize = 128 * 1024;

/// Pieces sealed in one step at most.
const SEALED_PIECES_MAX: usize = 64;

/// What a record may add to its content: header, content type, tag (RFC 8446 5.2), rounded up.
const RECORD_OVERHEAD_BYTES: usize = 32;

/// Bytes of the content of one record at most (RFC 8446 5.1).
const RECORD_BYTES: usize = 1 << 14;

/// Both directions of a connection whose handshake is done.
pub(crate) struct Tls(Mutex<Connection>);

impl Tls {
    pub(super) fn new(connection: Connection) -> Self {
        Self(Mutex::new(connection))
    }

    /// Seals all of `pieces`, which are [`SEALED_AT_ONCE_BYTES_MAX`] bytes at most. What is sealed first must be sent
    /// first.
    pub(in crate::interlink) fn seal(&self, pieces: &mut VecDeque<Bytes>) -> io::Result<Bytes> {
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        let mut sealed = Vec::with_capacity(bytes + (bytes / RECORD_BYTES + 2) * RECORD_OVERHEAD_BYTES);
        let mut connection = self.0.lock();
        while !pieces.is_empty() {
            let mut slices = [IoSlice::new(&[]); SEALED_PIECES_MAX];
            let count = slices
                .iter_mut()
                .zip(pieces.iter())
                .map(|(slice, piece)| *slice = IoSlice::new(piece))
                .count();
            let taken = connection.writer().write_vectored(slices.get(..count).unwrap_or_default())?;
            while connection.wants_write() {
                connection.write_tls(&mut sealed)?;
            }
            if taken == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            take_front(pieces, taken);
        }
        Ok(sealed.into())
    }
}

/// Takes the first `bytes` bytes off.
pub(in crate::interlink) fn take_front(pieces: &mut VecDeque<Bytes>, mut bytes: usize) {
    while let Some(piece) = pieces.front_mut() {
        if piece.len() > bytes {
            piece.advance(bytes);
            return;
        }
        bytes -= piece.len();
        pieces.pop_front();
    }
}

/// Moves the first bytes of `from` to the end of `to`: [`SEALED_AT_ONCE_BYTES_MAX`] at most, all if they are no more.
pub(in crate::interlink) fn move_front(from: &mut VecDeque<Bytes>, to: &mut VecDeque<Bytes>) {
    let mut room = SEALED_AT_ONCE_BYTES_MAX;
    while let Some(piece) = from.front_mut() {
        if piece.len() > room {
            if room > 0 {
                to.push_back(piece.split_to(room));
            }
            return;
        }
        room -= piece.len();
        to.extend(from.pop_front());
    }
}

/// What was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Opened {
    /// So many bytes.
    Bytes(usize),
    /// Nothing: more must be received first.
    Wants,
    /// The peer sends nothing any more.
    Closed,
}

/// The receiving side: sealed bytes that were read of the socket and not opened yet.
pub(super) struct Inbox {
    sealed: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { sealed: vec![0; SEALED_READ_BYTES_MAX], start: 0, end: 0 }
    }

    /// Where the next bytes of the socket go, once [`Inbox::open`] wants more; never empty then.
    pub(super) fn space(&mut self) -> &mut [u8] {
        (self.start, self.end) = (0, 0);
        &mut self.sealed
    }

    /// The first `bytes` of [`Inbox::space`] were filled.
    pub(super) fn received(&mut self, bytes: usize) {
        self.end = self.sealed.len().min(bytes);
    }

    /// What was received and not used yet.
    pub(super) fn rest(&self) -> &[u8] {
        self.sealed.get(self.start..self.end).unwrap_or_default()
    }

    /// Fills `space`, which is not empty, as far as what was received goes. The lock is held for one record at a time.
    pub(super) fn open(&mut self, tls: &Tls, space: &mut [u8]) -> Result<Opened, rustls::Error> {
        let mut filled = 0;
        loop {
            let mut connection = tls.0.lock();
            while let Some(rest) = space.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                match connection.reader().read(rest) {
                    Ok(0) if filled == 0 => return Ok(Opened::Closed),
                    Ok(0) | Err(_) => break,
                    Ok(bytes) => filled += bytes,
                }
            }
            if filled == space.len() || self.start == self.end {
                return Ok(if filled == 0 { Opened::Wants } else { Opened::Bytes(filled) });
            }
            self.feed(&mut connection)?;
        }
    }

    /// Gives the connection the next part of what was received.
    pub(super) fn feed(&mut self, connection: &mut Connection) -> Result<(), rustls::Error> {
        let mut sealed = self.rest();
        // An error of it is its own: the slice has none. It has no room for more than a record may have.
        let used =
            connection.read_tls(&mut sealed).map_err(|error| rustls::Error::General(error.to_string()))?;
        if used == 0 {
            return Err(rustls::Error::General("a record is too long".to_owned()));
        }
        self.start += used;
        connection.process_new_packets().map(|_| ())
    }
}
