//! Cutting the stream of an interlink connection into frames: bytes in, whole frames out, no socket.
//!
//! Small frames are received in bulk and copied out, which is cheaper than a system call each; a large payload
//! that has only begun to arrive is read straight into its place.

use bytes::Bytes;
use controller::disk::buffers::{Buffer, BufferPool};
use protocol::interlink::frame::{BODY_BYTES_MAX, PREFIX_BYTES};
use protocol::interlink::{FrameError, frame_lengths};

/// Bytes received at once at most.
const READ_BYTES_MAX: usize = 128 * 1024;

/// Room for the longest head behind what else was received.
const RECEIVED_BYTES_MAX: usize = PREFIX_BYTES + BODY_BYTES_MAX as usize + READ_BYTES_MAX;

/// From how many missing bytes on a payload is read straight into its place.
const IN_PLACE_BYTES_MIN: usize = 32 * 1024;

/// The receiving side of one connection.
pub(super) struct FrameReader {
    received: Vec<u8>,
    start: usize,
    end: usize,
    in_place: Option<InPlace>,
    buffers: BufferPool,
}

/// A frame whose payload is being read straight into its place.
struct InPlace {
    head: Bytes,
    payload: Buffer,
    filled: usize,
    bytes: usize,
}

impl FrameReader {
    /// A connection of which nothing was received but `greeting`, the start of its stream.
    pub(super) fn new(buffers: BufferPool, greeting: &[u8]) -> Self {
        let mut received = vec![0; RECEIVED_BYTES_MAX.max(greeting.len())];
        if let Some(start) = received.get_mut(..greeting.len()) {
            start.copy_from_slice(greeting);
        }
        Self { received, start: 0, end: greeting.len(), in_place: None, buffers }
    }

    /// Where the next bytes of the stream go; never empty once [`FrameReader::next`] has given `None`.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if let Some(in_place) = &mut self.in_place {
            return in_place.payload.space().get_mut(in_place.filled..in_place.bytes).unwrap_or_default();
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.received.len() - self.end < READ_BYTES_MAX {
            self.received.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let until = self.received.len().min(self.end + READ_BYTES_MAX);
        self.received.get_mut(self.end..until).unwrap_or_default()
    }

    /// The first `bytes` of [`FrameReader::space`] were filled.
    pub(super) fn received(&mut self, bytes: usize) {
        match &mut self.in_place {
            Some(in_place) => in_place.filled = in_place.bytes.min(in_place.filled + bytes),
            None => self.end = self.received.len().min(self.end + bytes),
        }
    }

    /// The next whole frame, as prefix with body, and payload.
    pub(super) fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, FrameError> {
        if let Some(in_place) = self.in_place.take_if(|in_place| in_place.filled == in_place.bytes) {
            return Ok(Some((in_place.head, in_place.payload.freeze(in_place.bytes))));
        }
        if self.in_place.is_some() {
            return Ok(None);
        }
        let there = self.received.get(self.start..self.end).unwrap_or_default();
        let Some(prefix) = there.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let lengths = frame_lengths(prefix)?;
        let Some((head, rest)) = there.split_at_checked(lengths.head) else { return Ok(None) };
        let missing = lengths.payload.saturating_sub(rest.len());
        if missing > 0 && missing < IN_PLACE_BYTES_MIN && there.len() + missing <= READ_BYTES_MAX {
            return Ok(None);
        }
        let head = Bytes::copy_from_slice(head);
        let filled = lengths.payload - missing;
        self.start += lengths.head + filled;
        if lengths.payload == 0 {
            return Ok(Some((head, Bytes::new())));
        }
        let mut payload = self.buffers.take(lengths.payload);
        if let (Some(place), Some(part)) = (payload.space().get_mut(..filled), rest.get(..filled)) {
            place.copy_from_slice(part);
        }
        if missing == 0 {
            return Ok(Some((head, payload.freeze(lengths.payload))));
        }
        self.in_place = Some(InPlace { head, payload, filled, bytes: lengths.payload });
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::interlink::frame::{self, GenerationTag, Prefix};

    use super::*;

    const PREFIX: Prefix =
        Prefix { version: 1, kind: 16, lun: 3, generation: GenerationTag { number: 7, id: 1 } };

    fn encoded(body: usize, payload: usize) -> (Bytes, Bytes) {
        let payload: Bytes = (0..payload).map(|n| (n % 253) as u8).collect();
        (frame::encode(PREFIX, &vec![9; body], std::slice::from_ref(&payload)), payload)
    }

    /// Feeds a stream, at most `chunk` bytes at a time.
    fn cut(stream: &[u8], greeting: usize, chunk: usize) -> Result<Vec<(Bytes, Bytes)>, FrameError> {
        let (greeting, mut rest) = stream.split_at(greeting);
        let mut reader = FrameReader::new(BufferPool::default(), greeting);
        let mut frames = Vec::new();
        loop {
            while let Some(frame) = reader.next()? {
                frames.push(frame);
            }
            if rest.is_empty() {
                return Ok(frames);
            }
            let space = reader.space();
            assert!(!space.is_empty(), "no room for the rest of a frame");
            let bytes = space.len().min(chunk).min(rest.len());
            space[..bytes].copy_from_slice(&rest[..bytes]);
            rest = &rest[bytes..];
            reader.received(bytes);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]
        #[test]
        fn frames_come_out_as_they_went_in(
            sizes in proptest::collection::vec((0..300_usize, prop_oneof![0..5000_usize, 0..400_000_usize]), 1..12),
            chunk in prop_oneof![1..100_usize, 1000..300_000_usize],
            greeting in 0..48_usize,
        ) {
            let frames: Vec<_> = sizes.iter().map(|(body, payload)| encoded(*body, *payload)).collect();
            let stream: Vec<u8> = frames.iter().flat_map(|(head, payload)| [&head[..], payload].concat()).collect();
            prop_assert_eq!(cut(&stream, greeting, chunk), Ok(frames));
        }
    }

    #[test]
    fn the_longest_head_and_payload_are_taken() {
        let frames = [encoded(BODY_BYTES_MAX as usize, 16 << 20), encoded(BODY_BYTES_MAX as usize, 100)];
        let stream: Vec<u8> =
            frames.iter().flat_map(|(head, payload)| [&head[..], payload].concat()).collect();
        for (greeting, chunk) in [(0, usize::MAX), (BODY_BYTES_MAX as usize, 100_000)] {
            assert!(cut(&stream, greeting, chunk) == Ok(frames.to_vec()));
        }
    }

    #[test]
    fn a_stream_of_something_else_is_refused() {
        assert_eq!(cut(&[b'x'; 100], 0, 100), Err(FrameError::Magic));
    }
}
