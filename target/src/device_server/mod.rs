//! The device server (SAM-5 4.6): a table with a row per opcode.

use bytes::Bytes;
use controller::command::{NexusId, Outcome, TaskTag};
use controller::time::Time;
use controller::unit::Controller;
use controller::world::World;

/// A SCSI command as the session layer hands it over: complete, with its data.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whose.
    pub nexus: NexusId,
    /// The initiator task tag.
    pub tag: TaskTag,
    /// The 8-byte LUN field of the PDU (SAM-5 4.7).
    pub lun: [u8; 8],
    /// The command descriptor block.
    pub cdb: [u8; 16],
    /// The data-out buffer as far as the initiator sent it: at most what [`data_out_bytes`] asked for.
    pub data: Vec<Bytes>,
    /// When the command PDU arrived.
    pub received: Time,
}

/// How many bytes of data-out the command of this CDB takes; zero for one that takes none or is not known.
#[must_use]
pub fn data_out_bytes(cdb: &[u8; 16]) -> u64 {
    let _ = cdb;
    0
}

/// Executes a command. `Some` is its outcome, already decided; with `None` the command is at the controller's
/// door and the outcome comes (or came) through [`World::answer`].
pub fn execute<W: World>(controller: &Controller<W>, request: Request) -> Option<Outcome> {
    let _ = (controller, request);
    Some(Outcome::Aborted)
}
