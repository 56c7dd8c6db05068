//! All sessions of one controller by nexus: where outcomes find their connection.

use controller::command::{NexusId, Outcome, TaskTag};

/// The sessions in full feature phase.
#[derive(Default)]
pub struct Sessions {}

impl Sessions {
    /// Turns an outcome into PDUs on the nexus's connection and sends them, unless that connection is gathering
    /// a batch. From any thread.
    pub fn answer(&self, nexus: NexusId, tag: TaskTag, outcome: Outcome) {
        let _ = (nexus, tag, outcome);
    }
}
