//! Which unit attentions tell hosts that the ways to a LUN have changed.

use protocol::scsi::sense::Sense;

use super::step::Here;
use crate::pair::Role;

/// Who reaches the LUN how, as unit attentions tell it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Access {
    role: Role,
    serving: bool,
    peer: bool,
}

/// What hosts were told last.
#[derive(Debug, Default)]
pub(super) struct AccessNotes {
    told: Option<Access>,
}

impl AccessNotes {
    /// Hosts are told when the ways to the LUN have changed (SPC-4 5.15.2): main has moved, or this controller or
    /// the other does or does not serve it any more.
    pub(super) fn note(&mut self, here: &mut Here<'_>) {
        let access = Access { role: here.view.role, serving: here.view.serves(), peer: here.has_peer() };
        // A controller begins by serving nobody: hosts may have been told so already.
        let before = self.told.replace(access).unwrap_or(Access { serving: false, ..access });
        if before != access {
            here.unit.raise_for_all(Sense::ASYMMETRIC_ACCESS_STATE_CHANGED);
        }
    }
}
