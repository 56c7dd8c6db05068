//! When data that stays in memory is copied out of the input it came in.

use bytes::Bytes;
use protocol::iscsi::Opcode;

use super::framing::Received;

/// Data that stays may keep this many times its length alive of what came with it; what would keep more is copied.
const WASTE_MAX: u64 = 4;

/// After so many bytes what came before is forgotten in that reckoning.
const RECKONED_BYTES: u64 = 4 * 1024 * 1024;

/// What a connection brought lately, in bytes: data that stays in memory until its command is done shares that memory
/// with what came beside it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RetentionPolicy {
    kept: u64,
    passed: u64,
}

impl RetentionPolicy {
    /// Counts a PDU in, and copies its data if that saves memory out of proportion.
    pub(super) fn apply(&mut self, pdu: &mut Received) {
        const COMMAND: u8 = Opcode::ScsiCommand as u8;
        const DATA_OUT: u8 = Opcode::DataOut as u8;
        let length = pdu.data.as_ref().map_or(0, |data| data.len() as u64);
        self.passed += pdu.bhs.len() as u64;
        if length == 0 {
            return;
        }
        if !matches!(Opcode::value_of(&pdu.bhs), COMMAND | DATA_OUT) {
            self.passed += length;
            return;
        }
        self.kept += length;
        if self.passed > WASTE_MAX * self.kept {
            pdu.data = pdu.data.as_deref().map(Bytes::copy_from_slice);
        }
        if self.kept + self.passed > RECKONED_BYTES {
            self.kept /= 2;
            self.passed /= 2;
        }
    }
}
