//! PDUs that came before their turn: with a CmdSN in the command window but beyond ExpCmdSN (RFC 7143 4.2.2.1).

use protocol::iscsi::CmdSn;

use super::command_window::{Arrival, COMMAND_WINDOW, CommandWindow};
use crate::iscsi::connection::framing::Received;

/// What came early.
#[derive(Debug)]
pub enum Early {
    /// The task with this tag.
    Command(u32),
    /// Any other PDU.
    Other(Received),
    /// A command that was aborted before it came, whose number counts as received (11.6.1 b).
    Aborted,
}

/// All that came early, in no particular order. Always: no two have the same number, so that there are fewer than
/// [`COMMAND_WINDOW`].
#[derive(Debug, Default)]
pub struct EarlyPdus {
    pdus: Vec<(CmdSn, Early)>,
}

impl EarlyPdus {
    /// True if what has just arrived with this number repeats something that waits already.
    #[must_use]
    pub fn repeats(&self, number: CmdSn, arrival: Arrival) -> bool {
        arrival == Arrival::Early && self.pdus.iter().any(|(known, _)| *known == number)
    }

    /// Keeps something until every number before its own has come.
    pub fn keep(&mut self, number: CmdSn, what: Early) {
        debug_assert!(!self.repeats(number, Arrival::Early), "a number is kept once");
        debug_assert!(self.pdus.len() < COMMAND_WINDOW as usize, "no number is kept from outside the window");
        self.pdus.push((number, what));
    }

    /// Takes out what has this number: its turn has come.
    pub fn take(&mut self, number: CmdSn) -> Option<Early> {
        let at = self.pdus.iter().position(|(known, _)| *known == number)?;
        Some(self.pdus.swap_remove(at).1)
    }

    /// The session takes nothing any more.
    pub fn clear(&mut self) {
        self.pdus.clear();
    }

    /// Gives memory back that is not needed.
    pub fn rest(&mut self) {
        self.pdus.shrink_to_fit();
    }

    /// What always holds, looked at in debug builds only.
    pub fn check(&self, window: &CommandWindow) {
        debug_assert!(
            self.pdus.iter().all(|(number, _)| window.arrival(*number, false) == Arrival::Early),
            "what waits is beyond ExpCmdSN and within the window"
        );
    }
}
