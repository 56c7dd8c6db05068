//! Every command there is, one row each, and nothing about a command stands anywhere else.

use controller::command::Admission::{self, Always, Attention, Known, KnownReading, Reading};
use controller::unit::LunView;
use protocol::interlink::shared::Requester;
use protocol::scsi::cdb::{Cdb, Transfer, opcode, service_action};
use protocol::scsi::operation_codes::Supported;
use protocol::scsi::provisioning::WriteSame;
use protocol::scsi::sanitize as sanitizing;
use protocol::scsi::sense::Sense;

use super::describe::{self, Answer};
use super::medium::{self, Bounds, DataOut, Decoded, no_data};
use super::shared::{self, Asked};
use super::state::{self, Told};
use super::{checked, format, sanitize, thin, third_party};
use Run::{
    CopyResults, Describe, ExtendedCopy, Medium, PreventAllow, ReportLuns, RequestSense, Shared, Tell,
};

/// One command.
pub(super) struct Row {
    /// Its name in the standard.
    pub(super) name: &'static str,
    /// Operation code.
    pub(super) opcode: u8,
    /// Service action, for the operation codes that have them.
    pub(super) service_action: Option<u8>,
    /// CDB usage data (SPC-4 6.35.3): the operation code (and service action), then a bit for every bit we look
    /// at; as long as the CDB.
    pub(super) usage: &'static [u8],
    /// Bytes of data-out the CDB asks for.
    pub(super) data_out: fn(&Cdb) -> u64,
    /// How it is done.
    pub(super) run: Run,
}

/// How a command is done.
#[derive(Clone, Copy)]
pub(super) enum Run {
    /// Answered by the device server from the LUN's view, once admitted.
    Describe(Admission, fn(&Cdb, &LunView) -> Answer),
    /// Decoded here, done by the controller.
    Medium(fn(&Cdb, Bounds, DataOut) -> Decoded),
    /// Decoded here, done by the controller as an event.
    Shared(fn(&Cdb, &LunView, Requester, &[u8]) -> Asked),
    /// Answered by the device server or by main, once the LUN is ready.
    Tell(fn(&Cdb) -> Result<Told, Sense>),
    /// Decoded here, done by the copy manager.
    ExtendedCopy,
    /// Answered by the copy manager.
    CopyResults,
    /// Answered by the device server; what it asks leave for depends on the CDB.
    PreventAllow,
    /// Answered with the sense that admission gives.
    RequestSense,
    /// Answered for all LUNs alike.
    ReportLuns,
}

/// The row of a CDB: INVALID COMMAND OPERATION CODE if there is none, INVALID FIELD IN CDB if the operation code
/// is known but its service action is not (SPC-4 4.3.3).
pub(super) fn find(cdb: &Cdb) -> Result<&'static Row, Sense> {
    let first = usize::from(FIRST_ROW[usize::from(cdb[0])]);
    let rows = TABLE.get(first..).unwrap_or_default();
    let mut same = rows.iter().take_while(|row| row.opcode == cdb[0]).peekable();
    if same.peek().is_none() {
        return Err(Sense::INVALID_OPERATION_CODE);
    }
    same.find(|row| row.service_action.is_none_or(|action| action == service_action(cdb)))
        .ok_or(Sense::invalid_cdb_field(1))
}

/// All rows, as REPORT SUPPORTED OPERATION CODES tells them.
pub(super) fn supported() -> impl Iterator<Item = Supported<'static>> {
    TABLE.iter().map(|row| Supported {
        opcode: row.opcode,
        service_action: row.service_action,
        usage: row.usage,
    })
}

/// True if there is such an operation code.
pub(super) fn has_opcode(opcode: u8) -> bool {
    TABLE.iter().any(|row| row.opcode == opcode)
}

/// True if the operation code is known and has service actions.
pub(super) fn has_service_actions(opcode: u8) -> bool {
    TABLE.iter().any(|row| row.opcode == opcode && row.service_action.is_some())
}

/// Where the rows of an operation code begin; past the end if it has none.
static FIRST_ROW: [u8; 256] = {
    let mut first = [u8::MAX; 256];
    let mut at = TABLE.len();
    while at > 0 {
        at -= 1;
        first[TABLE[at].opcode as usize] = at as u8;
    }
    first
};

/// A row of an operation code without service actions.
const fn row(name: &'static str, usage: &'static [u8], data_out: fn(&Cdb) -> u64, run: Run) -> Row {
    Row { name, opcode: usage[0], service_action: None, usage, data_out, run }
}

/// The same row for one service action, which its usage data carries in byte 1.
const fn action(row: Row) -> Row {
    Row { service_action: Some(row.usage[1] & 0x1f), ..row }
}

/// In the order of the operation codes; the last byte of the usage data is the control byte with NACA.
#[rustfmt::skip]
pub(super) const TABLE: &[Row] = &[
    row("TEST UNIT READY", &[opcode::TEST_UNIT_READY, 0, 0, 0, 0, 0x04],
        no_data, Describe(Admission::Medium, describe::test_unit_ready)),
    row("REQUEST SENSE", &[opcode::REQUEST_SENSE, 0x01, 0, 0, 0xff, 0x04], no_data, RequestSense),
    row("FORMAT UNIT", &[opcode::FORMAT_UNIT, 0xff, 0, 0, 0x03, 0x04],
        format::format_unit_data, Shared(format::format_unit)),
    row("READ (6)", &[opcode::READ_6, 0x1f, 0xff, 0xff, 0xff, 0x04],
        no_data, Medium(|cdb, lun, _| medium::read(Transfer::of_6(cdb), lun))),
    row("WRITE (6)", &[opcode::WRITE_6, 0x1f, 0xff, 0xff, 0xff, 0x04],
        |cdb| medium::write_data(Transfer::of_6(cdb)),
        Medium(|cdb, lun, data| medium::write(Transfer::of_6(cdb), lun, data))),
    row("INQUIRY", &[opcode::INQUIRY, 0x03, 0xff, 0xff, 0xff, 0x04],
        no_data, Describe(Always, describe::inquiry)),
    row("MODE SELECT (6)", &[opcode::MODE_SELECT_6, 0x11, 0, 0, 0xff, 0x04],
        shared::mode_select_6_data, Shared(shared::mode_select_6)),
    row("RESERVE (6)", &[opcode::RESERVE_6, 0x1f, 0, 0, 0, 0x04], no_data, Shared(shared::reserve)),
    row("RELEASE (6)", &[opcode::RELEASE_6, 0x1f, 0, 0, 0, 0x04], no_data, Shared(shared::release)),
    row("MODE SENSE (6)", &[opcode::MODE_SENSE_6, 0x08, 0xff, 0xff, 0xff, 0x04],
        no_data, Describe(KnownReading, describe::mode_sense_6)),
    row("START STOP UNIT", &[opcode::START_STOP_UNIT, 0x01, 0, 0, 0xf3, 0x04],
        no_data, Medium(|cdb, lun, _| state::start_stop_unit(cdb, lun))),
    row("SEND DIAGNOSTIC", &[opcode::SEND_DIAGNOSTIC, 0xf7, 0, 0xff, 0xff, 0x04],
        no_data, Medium(|cdb, lun, _| state::send_diagnostic(cdb, lun))),
    row("PREVENT ALLOW MEDIUM REMOVAL", &[opcode::PREVENT_ALLOW_MEDIUM_REMOVAL, 0, 0, 0, 0x03, 0x04],
        no_data, PreventAllow),
    row("READ CAPACITY (10)", &[opcode::READ_CAPACITY_10, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x01, 0x04],
        no_data, Describe(Known, describe::read_capacity_10)),
    row("READ (10)", &[opcode::READ_10, 0xf8, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04],
        no_data, Medium(|cdb, lun, _| medium::read(Transfer::of_10(cdb), lun))),
    row("WRITE (10)", &[opcode::WRITE_10, 0xf8, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04],
        |cdb| medium::write_data(Transfer::of_10(cdb)),
        Medium(|cdb, lun, data| medium::write(Transfer::of_10(cdb), lun, data))),
    row("WRITE AND VERIFY (10)", &[opcode::WRITE_AND_VERIFY_10, 0xf6, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04],
        |cdb| medium::write_data(Transfer::of_10(cdb)),
        Medium(|cdb, lun, data| checked::write_and_verify(cdb, Transfer::of_10(cdb), lun, data))),
    row("VERIFY (10)", &[opcode::VERIFY_10, 0xf6, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04],
        |cdb| checked::verify_data(cdb, Transfer::of_10(cdb)),
        Medium(|cdb, lun, data| checked::verify(cdb, Transfer::of_10(cdb), lun, data))),
    row("PRE-FETCH (10)", &[opcode::PRE_FETCH_10, 0x02, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04],
        no_data, Medium(|cdb, lun, _| checked::prefetch(Transfer::of_10(cdb), lun))),
    row("SYNCHRONIZE CACHE (10)", &[opcode::SYNCHRONIZE_CACHE_10, 0x02, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff,
        0x04],
        no_data, Medium(|cdb, lun, _| medium::synchronize_cache(Transfer::of_10(cdb), lun))),
    row("READ DEFECT DATA (10)", &[opcode::READ_DEFECT_DATA_10, 0, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0x04],
        no_data, Describe(Reading, describe::read_defect_data_10)),
    row("WRITE SAME (10)", &[opcode::WRITE_SAME_10, 0xfe, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04],
        |cdb| thin::write_same_data(WriteSame::of_10(cdb)),
        Medium(|cdb, lun, data| thin::write_same(WriteSame::of_10(cdb), lun, data))),
    row("UNMAP", &[opcode::UNMAP, 0x01, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04],
        thin::unmap_data, Medium(thin::unmap)),
    action(row("SANITIZE, OVERWRITE",
        &[opcode::SANITIZE, 0xa0 | sanitizing::OVERWRITE, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04],
        sanitize::overwrite_data, Shared(sanitize::overwrite))),
    action(row("SANITIZE, BLOCK ERASE", &[opcode::SANITIZE, 0xa0 | sanitizing::BLOCK_ERASE, 0, 0, 0, 0, 0, 0, 0, 0x04],
        no_data, Shared(sanitize::block_erase))),
    action(row("SANITIZE, EXIT FAILURE MODE",
        &[opcode::SANITIZE, 0xa0 | sanitizing::EXIT_FAILURE_MODE, 0, 0, 0, 0, 0, 0, 0, 0x04],
        no_data, Shared(sanitize::exit_failure_mode))),
    row("LOG SENSE", &[opcode::LOG_SENSE, 0x03, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0x04],
        no_data, Tell(state::log_sense)),
    row("MODE SELECT (10)", &[opcode::MODE_SELECT_10, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04],
        shared::mode_select_10_data, Shared(shared::mode_select_10)),
    row("RESERVE (10)", &[opcode::RESERVE_10, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0x04],
        no_data, Shared(shared::reserve)),
    row("RELEASE (10)", &[opcode::RELEASE_10, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0x04],
        no_data, Shared(shared::release)),
    row("MODE SENSE (10)", &[opcode::MODE_SENSE_10, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0x04],
        no_data, Describe(KnownReading, describe::mode_sense_10)),
    action(row("PERSISTENT RESERVE IN, READ KEYS", &[opcode::PERSISTENT_RESERVE_IN, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04],
        no_data, Shared(shared::reserve_in))),
    action(row("PERSISTENT RESERVE IN, READ RESERVATION",
        &[opcode::PERSISTENT_RESERVE_IN, 1, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04],
        no_data, Shared(shared::reserve_in))),
    action(row("PERSISTENT RESERVE IN, REPORT CAPABILITIES",
        &[opcode::PERSISTENT_RESERVE_IN, 2, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04],
        no_data, Shared(shared::reserve_in))),
    action(row("PERSISTENT RESERVE IN, READ FULL STATUS",
        &[opcode::PERSISTENT_RESERVE_IN, 3, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04],
        no_data, Shared(shared::reserve_in))),
    action(row("PERSISTENT RESERVE OUT, REGISTER", &[opcode::PERSISTENT_RESERVE_OUT, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
        0x04],
        shared::reserve_out_data, Shared(shared::reserve_out))),
    action(row("PERSISTENT RESERVE OUT, RESERVE",
        &[opcode::PERSISTENT_RESERVE_OUT, 1, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04],
        shared::reserve_out_data, Shared(shared::reserve_out))),
    action(row("PERSISTENT RESERVE OUT, RELEASE",
        &[opcode::PERSISTENT_RESERVE_OUT, 2, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04],
        shared::reserve_out_data, Shared(shared::reserve_out))),
    action(row("PERSISTENT RESERVE OUT, CLEAR", &[opcode::PERSISTENT_RESERVE_OUT, 3, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
        0x04],
        shared::reserve_out_data, Shared(shared::reserve_out))),
    action(row("PERSISTENT RESERVE OUT, PREEMPT",
        &[opcode::PERSISTENT_RESERVE_OUT, 4, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04],
        shared::reserve_out_data, Shared(shared::reserve_out))),
    action(row("PERSISTENT RESERVE OUT, PREEMPT AND ABORT",
        &[opcode::PERSISTENT_RESERVE_OUT, 5, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04],
        shared::reserve_out_data, Shared(shared::reserve_out))),
    action(row("PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY",
        &[opcode::PERSISTENT_RESERVE_OUT, 6, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04],
        shared::reserve_out_data, Shared(shared::reserve_out))),
    action(row("PERSISTENT RESERVE OUT, REGISTER AND MOVE",
        &[opcode::PERSISTENT_RESERVE_OUT, 7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04],
        shared::reserve_out_data, Shared(shared::reserve_out))),
    action(row("EXTENDED COPY (LID1)", &[opcode::EXTENDED_COPY, service_action::EXTENDED_COPY_LID1,
        0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
        third_party::extended_copy_data, ExtendedCopy)),
    action(row("RECEIVE COPY STATUS (LID1)", &[opcode::RECEIVE_COPY_RESULTS, service_action::RECEIVE_COPY_STATUS,
        0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
        no_data, CopyResults)),
    action(row("RECEIVE COPY DATA (LID1)", &[opcode::RECEIVE_COPY_RESULTS, service_action::RECEIVE_COPY_DATA,
        0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
        no_data, CopyResults)),
    action(row("RECEIVE COPY OPERATING PARAMETERS", &[opcode::RECEIVE_COPY_RESULTS,
        service_action::RECEIVE_COPY_OPERATING_PARAMETERS, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
        no_data, CopyResults)),
    action(row("RECEIVE COPY FAILURE DETAILS (LID1)", &[opcode::RECEIVE_COPY_RESULTS,
        service_action::RECEIVE_COPY_FAILURE_DETAILS, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
        no_data, CopyResults)),
    row("READ (16)", &[opcode::READ_16, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0, 0x04],
        no_data, Medium(|cdb, lun, _| medium::read(Transfer::of_16(cdb), lun))),
    row("COMPARE AND WRITE", &[opcode::COMPARE_AND_WRITE, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0, 0, 0, 0xff, 0, 0x04],
        medium::compare_and_write_data, Medium(medium::compare_and_write)),
    row("WRITE (16)", &[opcode::WRITE_16, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0, 0x04],
        |cdb| medium::write_data(Transfer::of_16(cdb)),
        Medium(|cdb, lun, data| medium::write(Transfer::of_16(cdb), lun, data))),
    row("ORWRITE (16)", &[opcode::ORWRITE_16, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0, 0x04],
        |cdb| checked::atomic_data(Transfer::of_16(cdb)),
        Medium(|cdb, lun, data| checked::or_write(Transfer::of_16(cdb), lun, data))),
    row("WRITE AND VERIFY (16)", &[opcode::WRITE_AND_VERIFY_16, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
        |cdb| medium::write_data(Transfer::of_16(cdb)),
        Medium(|cdb, lun, data| checked::write_and_verify(cdb, Transfer::of_16(cdb), lun, data))),
    row("VERIFY (16)", &[opcode::VERIFY_16, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0, 0x04],
        |cdb| checked::verify_data(cdb, Transfer::of_16(cdb)),
        Medium(|cdb, lun, data| checked::verify(cdb, Transfer::of_16(cdb), lun, data))),
    row("PRE-FETCH (16)", &[opcode::PRE_FETCH_16, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0, 0x04],
        no_data, Medium(|cdb, lun, _| checked::prefetch(Transfer::of_16(cdb), lun))),
    row("SYNCHRONIZE CACHE (16)", &[opcode::SYNCHRONIZE_CACHE_16, 0x02, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
        no_data, Medium(|cdb, lun, _| medium::synchronize_cache(Transfer::of_16(cdb), lun))),
    row("WRITE SAME (16)", &[opcode::WRITE_SAME_16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0, 0x04],
        |cdb| thin::write_same_data(WriteSame::of_16(cdb)),
        Medium(|cdb, lun, data| thin::write_same(WriteSame::of_16(cdb), lun, data))),
    row("WRITE ATOMIC (16)", &[opcode::WRITE_ATOMIC_16, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0, 0x04],
        |cdb| checked::atomic_data(Transfer::of_write_atomic(cdb)), Medium(checked::write_atomic)),
    action(row("READ CAPACITY (16)", &[opcode::SERVICE_ACTION_IN_16, service_action::READ_CAPACITY_16,
        0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
        no_data, Describe(Known, describe::read_capacity_16))),
    action(row("GET LBA STATUS", &[opcode::SERVICE_ACTION_IN_16, service_action::GET_LBA_STATUS,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
        no_data, Medium(|cdb, lun, _| thin::get_lba_status(cdb, lun)))),
    row("REPORT LUNS", &[opcode::REPORT_LUNS, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
        no_data, ReportLuns),
    action(row("REPORT TARGET PORT GROUPS", &[opcode::MAINTENANCE_IN,
        0xe0 | service_action::REPORT_TARGET_PORT_GROUPS, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
        no_data, Describe(Attention, describe::report_target_port_groups))),
    action(row("REPORT SUPPORTED OPERATION CODES", &[opcode::MAINTENANCE_IN,
        service_action::REPORT_SUPPORTED_OPERATION_CODES, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
        no_data, Describe(Attention, describe::report_operation_codes))),
    action(row("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", &[opcode::MAINTENANCE_IN,
        service_action::REPORT_SUPPORTED_TASK_MANAGEMENT_FUNCTIONS, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
        no_data, Describe(Attention, describe::report_task_management_functions))),
    row("READ (12)", &[opcode::READ_12, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
        no_data, Medium(|cdb, lun, _| medium::read(Transfer::of_12(cdb), lun))),
    row("WRITE (12)", &[opcode::WRITE_12, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
        |cdb| medium::write_data(Transfer::of_12(cdb)),
        Medium(|cdb, lun, data| medium::write(Transfer::of_12(cdb), lun, data))),
    row("WRITE AND VERIFY (12)", &[opcode::WRITE_AND_VERIFY_12, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0, 0x04],
        |cdb| medium::write_data(Transfer::of_12(cdb)),
        Medium(|cdb, lun, data| checked::write_and_verify(cdb, Transfer::of_12(cdb), lun, data))),
    row("VERIFY (12)", &[opcode::VERIFY_12, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
        |cdb| checked::verify_data(cdb, Transfer::of_12(cdb)),
        Medium(|cdb, lun, data| checked::verify(cdb, Transfer::of_12(cdb), lun, data))),
    row("READ DEFECT DATA (12)", &[opcode::READ_DEFECT_DATA_12, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0, 0x04],
        no_data, Describe(Reading, describe::read_defect_data_12)),
];
