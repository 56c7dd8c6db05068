//! The trace of a run: a hash over everything that happened and when, and on request the same as text.

use core::fmt;
use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::random::mix;

/// The last events kept at most.
const LAST_EVENTS_MAX: usize = 40;

/// The words of the last events, to be looked at when a run has failed.
#[derive(Clone, Debug, Default)]
pub struct LastEvents(Arc<Mutex<VecDeque<String>>>);

impl LastEvents {
    fn push(&self, event: String) {
        let mut events = self.0.lock();
        if events.len() == LAST_EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(event);
    }

    /// All of them, oldest first.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        core::mem::take(&mut *self.0.lock()).into()
    }
}

/// Hashes what happens, in its order.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    hash: u64,
    print: bool,
    last: Option<LastEvents>,
    events: u64,
}

impl Trace {
    pub(super) fn new(print: bool, last: Option<LastEvents>) -> Self {
        Self { hash: 0, print, last, events: 0 }
    }

    /// Takes a number into the hash.
    pub(super) fn number(&mut self, number: u64) {
        self.hash = mix(self.hash.rotate_left(7) ^ number);
    }

    /// Takes bytes into the hash.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        let mut hash = self.hash;
        for word in words {
            hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        for byte in rest {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        self.hash = mix(hash);
    }

    /// An event at a time, in words.
    pub(super) fn event(&mut self, nanos: u64, what: fmt::Arguments<'_>) {
        self.events += 1;
        self.number(nanos);
        if let Some(last) = &self.last {
            last.push(format!("{:>12.6} ms  {what}", nanos as f64 / 1e6));
        }
        if self.print {
            println!("{:>12.6} ms  {what}", nanos as f64 / 1e6);
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }
}
