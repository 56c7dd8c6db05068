//! Whom the shared state keeps out: reservations (SPC-2 5.5.1, SPC-4 5.13.1) and software write protection (SPC-4
//! 7.5.8), and a sanitize operation, which has its own way to say so (`lun/sanitizing.rs`); worked out once for all
//! nexuses of this controller whenever the state or the nexuses change.

use std::collections::BTreeSet;

use protocol::interlink::sanitize::Sanitize;
use protocol::interlink::shared::{NexusHandle, NexusName, SharedState};
use protocol::scsi::sense::{Sense, Status};

use crate::command::{Access, NexusId, Op, Outcome};
use crate::reservation::passes;

/// Nothing at all is kept out: the usual case, and one comparison.
pub(super) type Guarded = Option<Box<Guard>>;

/// Who is kept out of what.
#[derive(PartialEq, Eq, Debug, Default)]
pub(super) struct Guard {
    /// RESERVE: everybody but this nexus of this controller, if it is one.
    reserved: Option<Option<NexusId>>,
    /// A persistent reservation that keeps writes out, and reads too.
    writes: bool,
    reads: bool,
    /// Those who pass it.
    pass: BTreeSet<NexusId>,
    write_protected: bool,
}

impl Guard {
    /// What a state means for these nexuses, if RESERVE is in force for `reserver`.
    pub(super) fn of<'a>(
        state: &SharedState,
        reserver: Option<NexusHandle>,
        nexuses: impl Iterator<Item = (NexusId, &'a NexusName)>,
        handle: impl Fn(NexusId) -> NexusHandle,
    ) -> Guarded {
        let held = state.reservations.reservation.is_some();
        let idle = state.sanitize == Sanitize::Idle;
        if !held && reserver.is_none() && !state.current.write_protect && idle {
            return None;
        }
        let nobody = NexusName { initiator: String::new(), isid: [0; 6], port: 0 };
        let keeps_out = |access| held && !passes(&state.reservations, &nobody, access);
        let mut guard = Self {
            reserved: reserver.map(|_| None),
            writes: keeps_out(Access::Write),
            reads: keeps_out(Access::Read),
            pass: BTreeSet::new(),
            write_protected: state.current.write_protect,
        };
        for (nexus, name) in nexuses {
            if reserver == Some(handle(nexus)) {
                guard.reserved = Some(Some(nexus));
            }
            if held && passes(&state.reservations, name, Access::Write) {
                guard.pass.insert(nexus);
            }
        }
        Some(Box::new(guard))
    }

    /// Whether a nexus is kept out.
    pub(super) fn keeps_out(&self, nexus: NexusId, access: Access) -> bool {
        let reserved = match access {
            Access::Always | Access::Own => false,
            Access::Describe | Access::Read | Access::Write => {
                self.reserved.is_some_and(|holder| holder != Some(nexus))
            }
        };
        let asks = match access {
            Access::Always | Access::Own | Access::Describe => false,
            Access::Read => self.reads,
            Access::Write => self.writes,
        };
        reserved || (asks && !self.pass.contains(&nexus))
    }

    /// How a command of a nexus ends that is kept out.
    pub(super) fn refusal(&self, nexus: NexusId, op: &Op) -> Option<Outcome> {
        if self.keeps_out(nexus, op.access()) {
            Some(Outcome::Status(Status::ReservationConflict))
        } else if self.write_protected && op.changes_blocks() {
            Some(Outcome::Check(Sense::WRITE_PROTECTED))
        } else {
            None
        }
    }
}
