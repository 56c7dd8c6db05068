//! Whether a line moves: limits count silence, not slowness.
//!
//! Bytes are counted where they come and go, and looked at once a second.

use core::time::Duration;

use controller::time::Time;
use protocol::iscsi::Opcode;

use super::framing::Received;
use super::shared::Outflow;

/// A line on which fewer bytes have moved than this has not moved: what comes a byte at a time is no sign of life.
const MOVED_BYTES: u64 = 4096;

/// So often it is looked whether a line stands still.
const STANDSTILL_AFTER: Duration = Duration::from_secs(5);

/// A line over which fewer bytes went in that time stands still, where others wait for the memory that its host holds.
const STANDSTILL_BYTES: u64 = 64 * 1024;

/// What moves on a line, in bytes.
#[derive(Debug)]
pub(super) struct Pulse {
    /// Came in whole PDUs since the connection began.
    whole: u64,
    /// Waits at the front of the input as a part of the next, and whether that is a Data-Out PDU.
    part: u64,
    data_out: bool,
    /// Had come and gone out when it was last seen that enough had.
    came_before: u64,
    sent_before: u64,
    /// When enough was last seen to have gone out.
    sent_at: Time,
    /// The time in which it is seen whether the line stands still: its beginning, and what had moved by then.
    since: Time,
    moved: u64,
    stands_still: bool,
}

/// What was felt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Felt {
    /// Enough has come: its host is there.
    pub(super) came: bool,
    /// Bytes for which a host's R2Ts had to wait.
    pub(super) before_r2ts: u64,
    /// The line stands still.
    pub(super) stands_still: bool,
}

impl Pulse {
    pub(super) const fn new(now: Time) -> Self {
        Self {
            whole: 0,
            part: 0,
            data_out: false,
            came_before: 0,
            sent_before: 0,
            sent_at: now,
            since: now,
            moved: 0,
            stands_still: false,
        }
    }

    /// A whole PDU has come.
    pub(super) fn on_pdu(&mut self, pdu: &Received) {
        self.whole += (pdu.bhs.len() + pdu.data.as_ref().map_or(0, |data| data.len())) as u64;
        self.part = 0;
    }

    /// So much of the next PDU is here.
    pub(super) fn on_part(&mut self, input: &[u8]) {
        const DATA_OUT: u8 = Opcode::DataOut as u8;
        self.part = input.len() as u64;
        self.data_out = input.first().is_some_and(|first| first & 0x3f == DATA_OUT);
    }

    /// When enough last went out.
    pub(super) const fn sent_at(&self) -> Time {
        self.sent_at
    }

    /// Looks at what has moved.
    pub(super) fn feel(&mut self, outflow: &Outflow, now: Time) -> Felt {
        let came = self.whole + self.part;
        let (comes, goes) =
            (came.saturating_sub(self.came_before), outflow.sent.saturating_sub(self.sent_before));
        let mut felt = Felt { came: comes >= MOVED_BYTES, before_r2ts: 0, stands_still: false };
        if felt.came {
            self.came_before = came;
            // Those of whole PDUs are counted when they come.
            if self.part > 0 && self.data_out {
                felt.before_r2ts += comes.min(self.part);
            }
        }
        if goes >= MOVED_BYTES {
            (self.sent_before, self.sent_at) = (outflow.sent, now);
            if outflow.waiting > 0 {
                felt.before_r2ts += goes;
            }
        }
        felt.stands_still = self.is_still(came + outflow.sent, now);
        felt
    }

    fn is_still(&mut self, all: u64, now: Time) -> bool {
        let moved = all.saturating_sub(self.moved);
        if moved >= STANDSTILL_BYTES || now.since(self.since) >= STANDSTILL_AFTER {
            self.stands_still = moved < STANDSTILL_BYTES;
            (self.since, self.moved) = (now, all);
        }
        self.stands_still
    }
}
