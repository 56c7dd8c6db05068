//! The device server (SAM-5 4.6): finds the opcode's row in [`table`] and does what the row says.
//!
//! What only describes the LUN is answered here ([`describe`]), once the controller has admitted it. What
//! touches blocks is checked and decoded ([`medium`]) and goes to `Controller::command`, where the command's
//! journey continues; [`limits`] bounds how much one command may ask for.

mod checked;
#[cfg(test)]
mod checked_tests;
#[cfg(test)]
mod decode_any_tests;
#[cfg(test)]
mod decode_tests;
mod describe;
#[cfg(test)]
mod execute_tests;
mod format;
#[cfg(test)]
mod format_tests;
pub mod limits;
mod medium;
#[cfg(test)]
mod reservation_tests;
mod sanitize;
mod shared;
mod state;
mod table;
mod thin;
mod third_party;
#[cfg(test)]
mod third_party_tests;

use std::sync::Arc;

use bytes::Bytes;
use controller::command::{Admission, Command, LunIndex, NexusId, Op, Outcome, TaskTag};
use controller::time::Time;
use controller::unit::Controller;
use controller::world::World;
use protocol::scsi::cdb::{CONTROL_NACA, Cdb, RequestSense, opcode};
use protocol::scsi::inquiry::{self, Inquiry, Peripheral};
use protocol::scsi::lun::Address;
use protocol::scsi::report_luns::{self, ReportLuns};
use protocol::scsi::sense::{Sense, Status};

use self::describe::cut;
use self::medium::{Bounds, DataOut};
use self::state::Told;
use self::table::{Row, Run};

/// A SCSI command as the session layer hands it over: complete, with its data.
#[derive(Clone, Debug)]
pub struct Request {
    /// The nexus it came by.
    pub nexus: NexusId,
    /// The initiator task tag.
    pub tag: TaskTag,
    /// The 8-byte LUN field of the PDU (SAM-5 4.7).
    pub lun: [u8; 8],
    /// The numbers of the LUNs this nexus may see, ascending; all if none.
    pub luns: Option<Arc<[u16]>>,
    /// The command descriptor block.
    pub cdb: [u8; 16],
    /// The data-out buffer as far as the initiator sent it: at most what [`data_out_bytes`] asked for.
    pub data: Vec<Bytes>,
    /// Bytes of data-out the initiator announced: the Expected Data Transfer Length of a PDU with the W bit
    /// (RFC 7143 11.3.4), else zero.
    pub announced: u32,
    /// When the command PDU arrived.
    pub received: Time,
}

/// How many bytes of data-out the command of this CDB takes, at most [`limits::DATA_OUT_BYTES_MAX`]; zero for
/// one that takes none, is not known, or will be refused because it asks for more than the limits allow.
#[must_use]
pub fn data_out_bytes(cdb: &[u8; 16]) -> u64 {
    table::find(cdb).map_or(0, |row| (row.data_out)(cdb))
}

/// The standard's name for the command of this CDB, for logs.
#[must_use]
pub fn command_name(cdb: &[u8; 16]) -> Option<&'static str> {
    table::find(cdb).ok().map(|row| row.name)
}

/// Executes a command. `Some` is its outcome, already decided; with `None` it has been handed to
/// `Controller::command` and the outcome comes (or came) through [`World::answer`].
pub fn execute<W: World>(controller: &Controller<W>, request: Request) -> Option<Outcome> {
    let number = match Address::decode(&request.lun) {
        Address::Unit(number) => number,
        Address::ReportLuns => return Some(well_known(&visible(controller, &request), &request.cdb)),
        Address::Other => return Some(absent(&visible(controller, &request), &request.cdb)),
    };
    let hidden = request.luns.as_ref().is_some_and(|luns| !luns.contains(&number));
    let Some(lun) = controller.lun(u64::from(number)).filter(|_| !hidden) else {
        return Some(absent(&visible(controller, &request), &request.cdb));
    };
    match checked_row(&request.cdb) {
        Ok(row) => run(controller, lun, row, request),
        Err(sense) => Some(refuse(controller, lun, request.nexus, Admission::Attention, sense)),
    }
}

/// The numbers of the LUNs that are there for a nexus, ascending.
fn visible<W: World>(controller: &Controller<W>, request: &Request) -> Vec<u16> {
    let mut numbers = controller.known_lun_numbers();
    if let Some(luns) = &request.luns {
        numbers.retain(|number| luns.contains(number));
    }
    numbers
}

/// The row of a CDB whose control byte asks for nothing we do not have.
fn checked_row(cdb: &Cdb) -> Result<&'static Row, Sense> {
    let row = table::find(cdb)?;
    let control = row.usage.len() - 1;
    if cdb[control] & CONTROL_NACA == 0 {
        return Ok(row);
    }
    // A CDB is at most 16 bytes long.
    Err(Sense::invalid_cdb_field(control as u16))
}

/// Does what the row says.
fn run<W: World>(
    controller: &Controller<W>,
    lun: LunIndex,
    row: &'static Row,
    request: Request,
) -> Option<Outcome> {
    let Request { nexus, tag, cdb, announced, received, .. } = request;
    match row.run {
        Run::Describe(admission, answer) => Some(match controller.admit(lun, nexus, admission) {
            Ok(view) => outcome(answer(&cdb, &view)),
            Err(refused) => refused,
        }),
        Run::Medium(decode) => {
            let Some((blocks, read_only, physical_block_exponent)) = controller.capacity(lun) else {
                return Some(Outcome::Check(Sense::LUN_NOT_SUPPORTED));
            };
            let bounds = Bounds { blocks, read_only, physical_block_exponent };
            match decode(&cdb, bounds, DataOut { pieces: request.data, announced: u64::from(announced) }) {
                Ok(Some(op)) => {
                    controller.command(Command { lun, nexus, tag, op, received });
                    None
                }
                Ok(None) => {
                    Some(idle(controller, lun, nexus, &[medium::idle_admission(&cdb), Admission::Medium]))
                }
                Err(sense) => Some(refuse(controller, lun, nexus, Admission::Ready, sense)),
            }
        }
        Run::Shared(decode) => {
            let view = controller.admit(lun, nexus, Admission::Always);
            let asked = match (view, controller.who(lun, nexus)) {
                (Ok(view), Some(who)) => decode(&cdb, &view, who, &request.data.concat()),
                // More nexuses than a LUN keeps the names of.
                _ => return Some(Outcome::Status(Status::Busy)),
            };
            match asked {
                Ok(Some(event)) => {
                    let op = Op::Event(Box::new(event));
                    controller.command(Command { lun, nexus, tag, op, received });
                    None
                }
                Ok(None) => Some(idle(controller, lun, nexus, &[shared::IDLE_ADMISSION])),
                Err(sense) => Some(refuse(controller, lun, nexus, Admission::Ready, sense)),
            }
        }
        Run::Tell(told) => match told(&cdb) {
            Ok(Told::ByMain(op)) => {
                controller.command(Command { lun, nexus, tag, op, received });
                None
            }
            Ok(Told::Here(data)) => Some(match controller.admit(lun, nexus, Admission::Ready) {
                Ok(_) => outcome(Ok(data)),
                Err(refused) => refused,
            }),
            Err(sense) => Some(refuse(controller, lun, nexus, Admission::Ready, sense)),
        },
        Run::PreventAllow => Some(match controller.admit(lun, nexus, state::prevent_allow_admission(&cdb)) {
            Ok(_) => outcome(state::prevent_allow(&cdb)),
            Err(refused) => refused,
        }),
        Run::ExtendedCopy => third_party::extended_copy(controller, lun, &request),
        Run::CopyResults => Some(third_party::copy_results(controller, lun, &request)),
        Run::RequestSense => Some(match controller.admit(lun, nexus, Admission::RequestSense) {
            Ok(_) => sense_data(&cdb, &Sense::NO_SENSE),
            Err(Outcome::Check(sense)) => sense_data(&cdb, &sense),
            Err(refused) => refused,
        }),
        Run::ReportLuns => Some(outcome(report_luns(&visible(controller, &request), &cdb))),
    }
}

/// A command with nothing to do: GOOD, unless one that has would be refused.
fn idle<W: World>(
    controller: &Controller<W>,
    lun: LunIndex,
    nexus: NexusId,
    admissions: &[Admission],
) -> Outcome {
    let refused = admissions.iter().find_map(|admission| controller.admit(lun, nexus, *admission).err());
    refused.unwrap_or(Outcome::Good(Vec::new()))
}

/// Ends a command with `sense`, unless a unit attention or the LUN's state comes first (SAM-5 5.14).
fn refuse<W: World>(
    controller: &Controller<W>,
    lun: LunIndex,
    nexus: NexusId,
    admission: Admission,
    sense: Sense,
) -> Outcome {
    match controller.admit(lun, nexus, admission) {
        Ok(_) => Outcome::Check(sense),
        Err(refused) => refused,
    }
}

/// A logical unit that does not exist (SPC-4 5.12): INQUIRY, REPORT LUNS and REQUEST SENSE are answered.
fn absent(numbers: &[u16], cdb: &Cdb) -> Outcome {
    match cdb[0] {
        opcode::INQUIRY => outcome(standard_inquiry_only(cdb, Peripheral::Absent)),
        opcode::REPORT_LUNS => outcome(report_luns(numbers, cdb)),
        opcode::REQUEST_SENSE => sense_data(cdb, &Sense::LUN_NOT_SUPPORTED),
        _ => Outcome::Check(Sense::LUN_NOT_SUPPORTED),
    }
}

/// The REPORT LUNS well known logical unit (SPC-4 8.2).
fn well_known(numbers: &[u16], cdb: &Cdb) -> Outcome {
    match cdb[0] {
        opcode::INQUIRY => outcome(standard_inquiry_only(cdb, Peripheral::WellKnown)),
        opcode::REPORT_LUNS => outcome(report_luns(numbers, cdb)),
        opcode::REQUEST_SENSE => sense_data(cdb, &Sense::NO_SENSE),
        opcode::TEST_UNIT_READY => Outcome::Good(Vec::new()),
        _ => Outcome::Check(Sense::INVALID_OPERATION_CODE),
    }
}

/// Standard INQUIRY data of something that has no vital product data.
fn standard_inquiry_only(cdb: &Cdb, peripheral: Peripheral) -> Result<Vec<u8>, Sense> {
    let asked = Inquiry::of(cdb);
    if asked.evpd || asked.cmddt || asked.page != 0 {
        return Err(Sense::INVALID_FIELD_IN_CDB);
    }
    Ok(cut(inquiry::standard(peripheral).to_vec(), asked.allocation))
}

/// REPORT LUNS: the same whichever logical unit is asked.
fn report_luns(numbers: &[u16], cdb: &Cdb) -> Result<Vec<u8>, Sense> {
    let asked = ReportLuns::of(cdb);
    match asked.select {
        Some(select) if asked.allocation >= report_luns::ALLOCATION_MIN => {
            Ok(cut(report_luns::parameter_data(select, numbers), asked.allocation))
        }
        _ => Err(Sense::INVALID_FIELD_IN_CDB),
    }
}

/// The answer to REQUEST SENSE: sense as parameter data, in the format asked for.
fn sense_data(cdb: &Cdb, sense: &Sense) -> Outcome {
    let asked = RequestSense::of(cdb);
    let data = if asked.descriptor { sense.to_descriptor() } else { sense.to_fixed() };
    outcome(Ok(cut(data, asked.allocation)))
}

/// Parameter data or sense as a command's outcome.
fn outcome(answer: Result<Vec<u8>, Sense>) -> Outcome {
    match answer {
        Ok(data) if data.is_empty() => Outcome::Good(Vec::new()),
        Ok(data) => Outcome::Good(vec![Bytes::from(data)]),
        Err(sense) => Outcome::Check(sense),
    }
}
