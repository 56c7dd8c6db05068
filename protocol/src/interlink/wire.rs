//! Reading and writing bodies: big-endian numbers, counted lists and strings, every length checked.

use bytes::{BufMut, BytesMut};

use super::frame::FrameError;
use crate::block::BlockRange;

/// Reads a body from its beginning.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or(FrameError::Content)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn u8(&mut self) -> Result<u8, FrameError> {
        Ok(u8::from_be_bytes(self.take()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, FrameError> {
        Ok(u16::from_be_bytes(self.take()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, FrameError> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, FrameError> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    pub(super) fn u128(&mut self) -> Result<u128, FrameError> {
        Ok(u128::from_be_bytes(self.take()?))
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        self.take()
    }

    pub(super) fn bool(&mut self) -> Result<bool, FrameError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(FrameError::Content),
        }
    }

    pub(super) fn string(&mut self) -> Result<String, FrameError> {
        let length = usize::from(self.u16()?);
        let (text, rest) = self.0.split_at_checked(length).ok_or(FrameError::Content)?;
        self.0 = rest;
        Ok(core::str::from_utf8(text).map_err(|_| FrameError::Content)?.to_owned())
    }

    pub(super) fn range(&mut self) -> Result<BlockRange, FrameError> {
        let (start, blocks) = (self.u64()?, self.u64()?);
        BlockRange::new(start, blocks).ok_or(FrameError::Content)
    }

    /// A counted list of at most `most` elements.
    pub(super) fn list<T>(
        &mut self,
        most: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, FrameError>,
    ) -> Result<Vec<T>, FrameError> {
        let count = usize::from(self.u16()?);
        if count > most {
            return Err(FrameError::Content);
        }
        let mut list = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            list.push(element(self)?);
        }
        Ok(list)
    }

    /// The body must end here.
    pub(super) fn end(&self) -> Result<(), FrameError> {
        if self.0.is_empty() { Ok(()) } else { Err(FrameError::Content) }
    }
}

pub(super) fn put_string(body: &mut BytesMut, text: &str) {
    debug_assert!(text.len() <= usize::from(u16::MAX), "a text of {} bytes is cut", text.len());
    let mut length = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    body.put_u16(length as u16);
    body.put_slice(&text.as_bytes()[..length]);
}

pub(super) fn put_range(body: &mut BytesMut, range: BlockRange) {
    debug_assert!(BlockRange::new(range.start.0, range.blocks).is_some(), "the reader refuses {range}");
    body.put_u64(range.start.0);
    body.put_u64(range.blocks);
}

/// Writes a counted list of at most `most` elements, which is what its reader takes. What exceeds a 16-bit count is
/// left out, which no caller's bound allows.
pub(super) fn put_list<T>(
    body: &mut BytesMut,
    most: usize,
    list: &[T],
    mut element: impl FnMut(&mut BytesMut, &T),
) {
    debug_assert!(list.len() <= most, "the reader refuses {} elements, {most} at most", list.len());
    let count = list.len().min(usize::from(u16::MAX));
    body.put_u16(count as u16);
    for item in &list[..count] {
        element(body, item);
    }
}
