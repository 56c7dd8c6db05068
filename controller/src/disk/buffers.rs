//! Buffers that reads fill and hosts get: pooled by size, so that a read neither allocates nor zeroes.
//!
//! A [`Buffer`] becomes [`Bytes`] by [`Buffer::freeze`] and comes back to its pool when the last of those
//! `Bytes` is dropped. Its memory was zeroed once, when it was made; what an earlier read left in it is never
//! shown, because `freeze` shows only as many bytes as the new read filled.
//!
//! A buffer begins at a multiple of [`ALIGNMENT`]. An allocator puts a large one 16 bytes behind a page, and the
//! kernel then copies a page of its cache to 16 bytes behind the same offset of another: what the copy reads looks,
//! by the low bits of the address, like what it has just written, and processors (AMD's Zen 3 and 4) take four
//! times as long for it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// Bytes of the smallest size class.
const SMALLEST_BYTES: usize = 4096;

/// Size classes: 4 KiB, 8 KiB, ... 1 MiB.
const CLASSES: usize = 9;

/// Bytes of the largest pooled buffer; larger ones are made for the occasion.
pub const BUFFER_BYTES_MAX: usize = SMALLEST_BYTES << (CLASSES - 1);

/// A buffer's address is a multiple of this: a cache line.
const ALIGNMENT: usize = 64;

/// Bytes that lie idle in one size class at most; what comes back beyond is freed.
const CLASS_IDLE_BYTES_MAX: usize = 8 << 20;

/// A pool of buffers, shared by all volumes of a process. A clone is the same pool.
#[derive(Clone, Default)]
pub struct BufferPool {
    classes: Arc<[Mutex<Idle>; CLASSES]>,
}

/// What lies idle in one size class.
#[derive(Default)]
struct Idle {
    spaces: Vec<Space>,
    /// The fewest there were since [`BufferPool::rest`] last looked.
    fewest: usize,
}

impl Idle {
    fn pop(&mut self) -> Option<Space> {
        let space = self.spaces.pop();
        self.fewest = self.fewest.min(self.spaces.len());
        space
    }
}

/// Memory of which the aligned part is used.
#[derive(Default)]
struct Space {
    memory: Box<[u8]>,
    used: Range<usize>,
}

impl Space {
    fn zeroed(bytes: usize) -> Self {
        let memory = vec![0; bytes + ALIGNMENT - 1].into_boxed_slice();
        let first = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT - 1);
        Self { memory, used: first..first + bytes }
    }
}

impl BufferPool {
    /// A buffer with room for at least `bytes`. Its contents are unspecified.
    #[must_use]
    pub fn take(&self, bytes: usize) -> Buffer {
        let class = class_of(bytes);
        let pooled = class.and_then(|class| self.classes.get(class)).and_then(|idle| idle.lock().pop());
        let size = class.map_or(bytes, |class| SMALLEST_BYTES << class);
        let space = pooled.unwrap_or_else(|| Space::zeroed(size));
        Buffer { space, filled: 0, pool: self.clone() }
    }

    fn give_back(&self, space: Space) {
        let bytes = space.used.len();
        let Some(class) = class_of(bytes).filter(|class| SMALLEST_BYTES << class == bytes) else {
            return;
        };
        let Some(idle) = self.classes.get(class) else { return };
        let mut idle = idle.lock();
        if idle.spaces.len() < CLASS_IDLE_BYTES_MAX / (SMALLEST_BYTES << class) {
            idle.spaces.push(space);
        }
    }

    /// Frees the buffers that nobody has needed since the last time.
    pub fn rest(&self) {
        for class in self.classes.iter() {
            let mut idle = class.lock();
            let fewest = idle.fewest;
            let unneeded = idle.spaces.drain(..fewest).collect::<Vec<_>>();
            idle.fewest = idle.spaces.len();
            drop(idle);
            drop(unneeded);
        }
    }

    #[cfg(test)]
    fn idle(&self) -> usize {
        self.classes.iter().map(|idle| idle.lock().spaces.len()).sum()
    }
}

/// The smallest class with room for `bytes`.
fn class_of(bytes: usize) -> Option<usize> {
    (0..CLASSES).find(|class| bytes <= SMALLEST_BYTES << class)
}

/// A buffer of a [`BufferPool`].
pub struct Buffer {
    space: Space,
    filled: usize,
    pool: BufferPool,
}

impl Buffer {
    /// The room to fill, perhaps more than was asked for.
    pub fn space(&mut self) -> &mut [u8] {
        self.space.memory.get_mut(self.space.used.clone()).unwrap_or_default()
    }

    /// Shows the first `filled` bytes (at most all of them) and nothing else.
    #[must_use]
    pub fn freeze(mut self, filled: usize) -> Bytes {
        debug_assert!(filled <= self.space.used.len(), "more than there is room for");
        self.filled = filled.min(self.space.used.len());
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        let used = self.space.memory.get(self.space.used.clone()).unwrap_or_default();
        used.get(..self.filled).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.space));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_bytes_are_dropped() {
        let pool = BufferPool::default();
        let bytes = pool.take(4096).freeze(4096);
        let part = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(pool.idle(), 0);
        drop(part);
        assert_eq!(pool.idle(), 1);
        let _again = pool.take(100);
        assert_eq!(pool.idle(), 0);
    }

    #[test]
    fn every_buffer_begins_at_a_cache_line_and_has_its_size() {
        let pool = BufferPool::default();
        let sizes = (0..CLASSES).map(|class| SMALLEST_BYTES << class).chain([BUFFER_BYTES_MAX + 4096]);
        let mut buffers: Vec<Buffer> =
            sizes.clone().flat_map(|bytes| [pool.take(bytes), pool.take(bytes)]).collect();
        for (buffer, bytes) in buffers.iter_mut().zip(sizes.flat_map(|bytes| [bytes, bytes])) {
            assert_eq!(buffer.space().len(), bytes);
            assert_eq!(buffer.space().as_ptr().align_offset(ALIGNMENT), 0, "{bytes} bytes");
        }
    }

    #[test]
    fn what_an_earlier_read_left_is_not_shown() {
        let pool = BufferPool::default();
        let mut first = pool.take(4096);
        first.space().fill(7);
        drop(first);
        let mut second = pool.take(512);
        second.space()[..4].copy_from_slice(b"abcd");
        assert_eq!(second.freeze(4), Bytes::from_static(b"abcd"));
    }

    #[test]
    fn what_nobody_has_needed_for_a_while_is_freed() {
        let pool = BufferPool::default();
        drop([pool.take(4096), pool.take(4096), pool.take(4096)]);
        pool.rest();
        assert_eq!(pool.idle(), 3, "they were in use");
        drop(pool.take(4096));
        pool.rest();
        assert_eq!(pool.idle(), 1, "one is needed");
        pool.rest();
        assert_eq!(pool.idle(), 0);
    }

    #[test]
    fn a_class_keeps_no_more_than_its_bound() {
        let pool = BufferPool::default();
        let many: Vec<Buffer> = (0..20).map(|_| pool.take(BUFFER_BYTES_MAX)).collect();
        drop(many);
        assert_eq!(pool.idle(), CLASS_IDLE_BYTES_MAX / BUFFER_BYTES_MAX);
        drop(pool.take(BUFFER_BYTES_MAX + 1).freeze(BUFFER_BYTES_MAX + 1));
        assert_eq!(pool.idle(), CLASS_IDLE_BYTES_MAX / BUFFER_BYTES_MAX);
    }
}
