//! Leave to come in: what a host's command has to find of the LUN before it comes to the gate, or is answered for what
//! the LUN only says of itself. Pure.
//!
//! The order is part of it: whoever has a unit attention hears that and nothing else; then whether the LUN is served,
//! whom reservations keep out, and last a sanitize operation.

use protocol::scsi::sense::{Sense, Status};

use super::copy_permits::CopyPermits;
use super::sanitizing::Sanitizing;
use super::unit_state::UnitState;
use crate::command::{Admission, NexusId, Op, Outcome, TaskTag};

/// How the LUN stands towards hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Standing {
    /// It has an identity, and so a capacity that stays.
    pub(super) known: bool,
    /// Hosts are served.
    pub(super) serves: bool,
    /// START STOP UNIT has stopped the unit.
    pub(super) stopped: bool,
    /// What a sanitize operation, under way or failed, has to say.
    pub(super) sanitize: Option<Sense>,
}

impl Standing {
    /// Leave to answer a command that only describes the LUN.
    pub(super) fn admit(
        &self,
        admission: Admission,
        nexus: NexusId,
        unit: &mut UnitState,
    ) -> Result<(), Outcome> {
        let sanitized = || self.sanitize.map_or(Ok(()), |sense| Err(Outcome::Check(sense)));
        match admission {
            Admission::Always => Ok(()),
            Admission::Attention => unit.take_attention(nexus),
            Admission::RequestSense => {
                unit.take_attention(nexus)?;
                sanitized()
            }
            Admission::Known | Admission::KnownReading => {
                unit.take_attention(nexus)?;
                if self.known { Ok(()) } else { Err(Outcome::Check(Sense::UNAVAILABLE)) }
            }
            Admission::Ready | Admission::Reading | Admission::Changing => {
                may_enter(self.serves, nexus, unit)
            }
            Admission::Medium => {
                may_enter(self.serves, nexus, unit)?;
                if self.stopped { Err(Outcome::Check(Sense::STOPPED)) } else { Ok(()) }
            }
        }?;
        if unit.keeps_out(nexus, admission.access()) {
            return Err(Outcome::Status(Status::ReservationConflict));
        }
        match admission {
            Admission::Known
            | Admission::KnownReading
            | Admission::Ready
            | Admission::Medium
            | Admission::Reading
            | Admission::Changing => sanitized(),
            Admission::Always | Admission::RequestSense | Admission::Attention => Ok(()),
        }
    }
}

/// Leave for a command to come to the gate. A piece of an EXTENDED COPY has it by the copy's permit; it neither waits
/// for unit attentions nor takes them.
pub(super) fn may_pass(
    serves: bool,
    (nexus, tag): (NexusId, TaskTag),
    permits: &CopyPermits,
    unit: &mut UnitState,
) -> Result<(), Outcome> {
    if !tag.is_piece() {
        return may_enter(serves, nexus, unit);
    }
    if !permits.allows(nexus, tag) {
        return Err(Outcome::Aborted);
    }
    served(serves)
}

/// How a command that comes through the gate ends if the shared state, or a sanitize operation, keeps it out. `blocks`:
/// the LUN's capacity.
pub(super) fn refusal(
    op: &Op,
    nexus: NexusId,
    unit: &UnitState,
    sanitizing: &Sanitizing,
    blocks: u64,
) -> Option<Outcome> {
    unit.refusal(nexus, op).or_else(|| sanitizing.refusal(op, &unit.state().sanitize, blocks))
}

fn may_enter(serves: bool, nexus: NexusId, unit: &mut UnitState) -> Result<(), Outcome> {
    unit.take_attention(nexus)?;
    served(serves)
}

const fn served(serves: bool) -> Result<(), Outcome> {
    if serves { Ok(()) } else { Err(Outcome::Check(Sense::UNAVAILABLE)) }
}

#[cfg(test)]
mod tests {
    use protocol::interlink::shared::SharedState;

    use super::*;
    use crate::command::Initiator;
    use crate::lun::LunSetup;
    use crate::lun::copy_permits::News;
    use crate::plan::Side;
    use crate::volume::stack::{Stack, VolumeId};

    const HOST: NexusId = NexusId(1);
    const KINDS: [Admission; 9] = [
        Admission::Always,
        Admission::RequestSense,
        Admission::Attention,
        Admission::Known,
        Admission::KnownReading,
        Admission::Ready,
        Admission::Medium,
        Admission::Reading,
        Admission::Changing,
    ];

    /// A LUN's state with one nexus of a host, which has a unit attention.
    fn unit() -> UnitState {
        let setup = LunSetup {
            index: 0,
            stack: Stack::of(VolumeId(0)),
            blocks: 8,
            write_cache: true,
            luns: 1,
            side: Side::First,
            incarnation: 1,
        };
        let mut unit = UnitState::new(&setup, SharedState::default());
        unit.add(HOST, &Initiator { name: "host".to_owned(), isid: [0; 6] });
        unit
    }

    /// A word for how each kind ends.
    fn ends(standing: Standing, unit: impl Fn() -> UnitState) -> [&'static str; 9] {
        KINDS.map(|kind| match standing.admit(kind, HOST, &mut unit()) {
            Ok(()) => "-",
            Err(Outcome::Check(Sense::POWER_ON)) => "attention",
            Err(Outcome::Check(Sense::UNAVAILABLE)) => "refused",
            Err(Outcome::Check(Sense::STOPPED)) => "stopped",
            Err(Outcome::Check(Sense::SANITIZE_FAILED)) => "sanitize",
            Err(other) => panic!("{kind:?}: {other:?}"),
        })
    }

    #[test]
    fn the_table_as_a_whole() {
        let quiet = || {
            let mut unit = unit();
            unit.take_attention(HOST).unwrap_err();
            unit
        };
        let sanitize = Some(Sense::SANITIZE_FAILED);
        let at = |known, serves, stopped, sanitize| Standing { known, serves, stopped, sanitize };
        let (none, some, all) = ("-", "sanitize", "attention");
        let table = [
            // ALWAYS, REQUEST SENSE, ATTENTION, KNOWN twice, READY, MEDIUM, READING, CHANGING.
            (at(true, true, false, None), [none; 9]),
            (at(true, true, true, None), [none, none, none, none, none, none, "stopped", none, none]),
            (at(true, true, false, sanitize), [none, some, none, some, some, some, some, some, some]),
            (at(true, true, true, sanitize), [none, some, none, some, some, some, "stopped", some, some]),
            (
                at(true, false, true, sanitize),
                [none, some, none, some, some, "refused", "refused", "refused", "refused"],
            ),
            (
                at(false, false, false, None),
                [none, none, none, "refused", "refused", "refused", "refused", "refused", "refused"],
            ),
            (at(false, true, false, None), [none, none, none, "refused", "refused", none, none, none, none]),
        ];
        for (standing, expected) in table {
            assert_eq!(ends(standing, quiet), expected, "{standing:?}");
            let told = [none, all, all, all, all, all, all, all, all];
            assert_eq!(ends(standing, unit), told, "a unit attention comes before everything: {standing:?}");
        }
    }

    #[test]
    fn a_piece_of_a_copy_passes_by_its_permit_and_leaves_unit_attentions_alone() {
        let refused = Err(Outcome::Check(Sense::UNAVAILABLE));
        let (piece, plain) = ((HOST, TaskTag::piece(7, 1)), (HOST, TaskTag::of(7)));
        let (mut unit, mut permits) = (unit(), CopyPermits::default());
        assert_eq!(may_pass(true, piece, &permits, &mut unit), Err(Outcome::Aborted), "it has no permit");
        permits.on(HOST, 7, News::Begins);
        assert_eq!(may_pass(true, piece, &permits, &mut unit), Ok(()));
        assert_eq!(may_pass(false, piece, &permits, &mut unit), refused);
        assert_eq!(may_pass(true, plain, &permits, &mut unit), Err(Outcome::Check(Sense::POWER_ON)));
        assert_eq!(may_pass(true, plain, &permits, &mut unit), Ok(()));
        assert_eq!(may_pass(false, plain, &permits, &mut unit), refused);
        permits.on(HOST, 7, News::Revoked);
        assert_eq!(may_pass(true, piece, &permits, &mut unit), Err(Outcome::Aborted), "it was revoked");
    }
}
