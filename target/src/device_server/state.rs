//! Commands about the state of the unit: START STOP UNIT, SEND DIAGNOSTIC, PREVENT ALLOW MEDIUM REMOVAL, LOG SENSE.

use controller::command::{Admission, Op};
use protocol::interlink::Report;
use protocol::scsi::cdb::{Cdb, SendDiagnostic, StartStopUnit};
use protocol::scsi::log::{self, LogSense};
use protocol::scsi::sense::Sense;

use super::describe::{Answer, cut};
use super::medium::{Bounds, Decoded};

/// START STOP UNIT (SBC-3 5.25) of a medium that stays where it is and knows no power conditions but started and
/// stopped.
pub(super) fn start_stop_unit(cdb: &Cdb, _: Bounds) -> Decoded {
    let asked = StartStopUnit::of(cdb);
    if asked.power_condition != 0 || asked.load_eject {
        return Err(Sense::invalid_cdb_field(4));
    }
    Ok(Some(Op::StartStop { start: asked.start }))
}

/// SEND DIAGNOSTIC (SPC-4 6.42): the default self-test is that both copies take a flush. No diagnostic pages, and no
/// other self-test.
pub(super) fn send_diagnostic(cdb: &Cdb, _: Bounds) -> Decoded {
    let asked = SendDiagnostic::of(cdb);
    if asked.code != 0 {
        return Err(Sense::invalid_cdb_field(1));
    }
    if asked.list_bytes != 0 {
        return Err(Sense::invalid_cdb_field(3));
    }
    Ok(asked.self_test.then_some(Op::SynchronizeCache))
}

/// PREVENT ALLOW MEDIUM REMOVAL (SPC-4 6.18): the medium cannot be removed, so to prevent it is done and to allow it
/// changes nothing.
pub(super) fn prevent_allow(cdb: &Cdb) -> Answer {
    const OBSOLETE: u8 = 0x02;
    if cdb[4] & OBSOLETE != 0 { Err(Sense::invalid_cdb_field(4)) } else { Ok(Vec::new()) }
}

/// To prevent asks for more than to allow (SBC-3 4.17).
pub(super) const fn prevent_allow_admission(cdb: &Cdb) -> Admission {
    if cdb[4] & 0x03 == 0 { Admission::Ready } else { Admission::Changing }
}

/// LOG SENSE (SPC-4 6.8): the lists of pages here, what changes by main.
pub(super) fn log_sense(cdb: &Cdb) -> Result<Told, Sense> {
    let asked = LogSense::of(cdb);
    let allocation = usize::from(asked.allocation);
    if asked.save || asked.changed_only {
        return Err(Sense::invalid_cdb_field(1));
    }
    let subpages = asked.subpage == log::ALL_SUBPAGES;
    match (asked.page, asked.subpage) {
        (log::SUPPORTED_PAGES, 0 | log::ALL_SUBPAGES) if asked.pointer == 0 => {
            Ok(Told::Here(cut(log::supported_pages(subpages), allocation)))
        }
        (log::LOGICAL_BLOCK_PROVISIONING, 0 | log::ALL_SUBPAGES)
            if asked.pointer <= log::PROVISIONING_POINTER_MAX =>
        {
            if allocation == 0 {
                return Ok(Told::Here(Vec::new()));
            }
            let what = Report::Provisioning { pointer: asked.pointer };
            Ok(Told::ByMain(Op::Report { what, allocation: u32::from(asked.allocation) }))
        }
        (log::SUPPORTED_PAGES | log::LOGICAL_BLOCK_PROVISIONING, 0 | log::ALL_SUBPAGES) => {
            Err(Sense::invalid_cdb_field(5))
        }
        (log::SUPPORTED_PAGES | log::LOGICAL_BLOCK_PROVISIONING, _) => Err(Sense::invalid_cdb_field(3)),
        _ => Err(Sense::invalid_cdb_field(2)),
    }
}

/// Who answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Told {
    /// The device server, with this.
    Here(Vec<u8>),
    /// Main, asked for this.
    ByMain(Op),
}
