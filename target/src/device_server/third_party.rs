//! EXTENDED COPY and RECEIVE COPY RESULTS: from the parameter list to the copy manager's order, and what is told of
//! copies.
//!
//! A segment that cannot be is no error of the command before its turn has come (SPC-4 6.4): it becomes the sense with
//! which the copy then ends. Copied is only between LUNs that the asking host may see.

use controller::command::{Admission, LunIndex, Outcome};
use controller::copy_manager::{CopyOrder, ListName, Progress, Segment};
use controller::unit::Controller;
use controller::world::World;
use protocol::block::{BLOCK_BYTES, BlockRange};
use protocol::scsi::cdb::{self, Cdb, service_action as action};
use protocol::scsi::extended_copy::{
    self, BlockToBlock, Cscd, ListUsage, OWN_UNIT, ParameterList, cscd_field, segment_field,
};
use protocol::scsi::sense::{Asc, CopyDetails, CopyEnd, Forwarded, Sense, SenseKey, Status};

use super::describe::cut;
use super::limits::{COPY_LIMITS, EXTENDED_COPY_LIST_BYTES_MAX};
use super::{Request, outcome};

/// Bytes of data-out an EXTENDED COPY takes; none if it will be refused for its length.
pub(super) fn extended_copy_data(cdb: &Cdb) -> u64 {
    let bytes = extended_copy::parameter_list_bytes(cdb);
    if bytes > EXTENDED_COPY_LIST_BYTES_MAX { 0 } else { u64::from(bytes) }
}

/// EXTENDED COPY (LID1).
pub(super) fn extended_copy<W: World>(
    controller: &Controller<W>,
    lun: LunIndex,
    request: &Request,
) -> Option<Outcome> {
    let nexus = request.nexus;
    if let Err(refused) = controller.admit(lun, nexus, Admission::Changing) {
        return Some(refused);
    }
    let list = match parameter_list(request) {
        Ok(Some(list)) => list,
        // "Not an error": nothing is copied.
        Ok(None) => return Some(Outcome::Good(Vec::new())),
        Err(sense) => return Some(Outcome::Check(sense)),
    };
    let plan = Plan { controller, request, own: lun, cscds: &list.cscds };
    let segments = list.segments.iter().zip(0..).map(|(segment, number)| plan.segment(number, segment));
    controller.extended_copy(CopyOrder {
        lun,
        nexus,
        task: request.tag.task(),
        list: match list.usage {
            ListUsage::Hold => Some(ListName { id: list.list, hold: true }),
            ListUsage::Discard => Some(ListName { id: list.list, hold: false }),
            ListUsage::None => None,
        },
        segments: segments.collect(),
        received: request.received,
    });
    None
}

fn parameter_list(request: &Request) -> Result<Option<ParameterList>, Sense> {
    let bytes = extended_copy::parameter_list_bytes(&request.cdb);
    if bytes == 0 {
        return Ok(None);
    }
    if bytes > EXTENDED_COPY_LIST_BYTES_MAX {
        return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
    }
    let list = request.data.concat();
    if list.len() as u64 != u64::from(bytes) {
        return Err(Sense::INVALID_FIELD_IN_INFORMATION_UNIT);
    }
    ParameterList::of(&list, &COPY_LIMITS).map(Some)
}

/// What segments are checked against.
struct Plan<'a, W: World> {
    controller: &'a Controller<W>,
    request: &'a Request,
    own: LunIndex,
    cscds: &'a [Cscd],
}

impl<W: World> Plan<'_, W> {
    fn segment(&self, number: u16, asked: &BlockToBlock) -> Result<Segment, Sense> {
        let at = |sense: Sense| sense.at_segment(number);
        let ends = [(asked.source, segment_field::SOURCE), (asked.destination, segment_field::DESTINATION)];
        let [source, destination] =
            ends.map(|(id, field)| self.unit(id, field).map_err(|error| error.at(number)));
        let (source, destination) = (source?, destination?);
        for (unit, lba, field) in [
            (source, asked.source_lba, segment_field::SOURCE_LBA),
            (destination, asked.destination_lba, segment_field::DESTINATION_LBA),
        ] {
            let range = BlockRange::new(lba, u64::from(asked.blocks));
            let blocks = self.controller.capacity(unit).map_or(0, |(blocks, ..)| blocks);
            if range.is_none_or(|range| range.end().0 > blocks) {
                return Err(Refusal::Segment(Sense::COPY_ABORTED, field).at(number));
            }
        }
        if self.controller.capacity(destination).is_some_and(|(_, read_only, _)| read_only) {
            let sense = Some((SenseKey::DataProtect, Asc(0x27, 0x00)));
            let forwarded = Forwarded { end: CopyEnd::Destination, status: Status::CheckCondition, sense };
            let copy = CopyDetails { segment: number, in_segment: None, forwarded: Some(forwarded) };
            return Err(Sense { copy: Some(copy), ..at(Sense::THIRD_PARTY_DEVICE_FAILURE) });
        }
        Ok(Segment {
            source: (source, asked.source_lba),
            destination: (destination, asked.destination_lba),
            blocks: u32::from(asked.blocks),
        })
    }

    /// The LUN that a CSCD descriptor ID means, which stands in this field of the segment descriptor.
    fn unit(&self, id: u16, field: u16) -> Result<LunIndex, Refusal> {
        if id == OWN_UNIT {
            return Ok(self.own);
        }
        let Some(cscd) = self.cscds.get(usize::from(id)) else {
            return Err(Refusal::Segment(Sense::UNREACHABLE_COPY_TARGET, field));
        };
        let wrong = |sense, field: u16| Err(Refusal::List(sense, cscd.at.saturating_add(field)));
        match cscd.device_type {
            DISK => {}
            WRITE_ONCE | CD_DVD | OPTICAL_MEMORY | SIMPLIFIED_DISK => {
                return wrong(Sense::INCORRECT_COPY_TARGET_TYPE, cscd_field::DEVICE_TYPE);
            }
            _ => return wrong(Sense::INVALID_COPY_OPERATION, cscd_field::DEVICE_TYPE),
        }
        // A device that takes everything is not there to be copied to, nor anything that is not there to be seen.
        if cscd.null {
            return wrong(Sense::COPY_TARGET_NOT_REACHABLE, cscd_field::DEVICE_TYPE);
        }
        let found = cscd.naa.and_then(|naa| self.controller.lun_of_naa(naa));
        let hidden = |number| self.request.luns.as_ref().is_some_and(|luns| !luns.contains(&number));
        let Some((lun, _)) = found.filter(|(_, number)| !hidden(*number)) else {
            return wrong(Sense::COPY_TARGET_NOT_REACHABLE, cscd_field::DESIGNATION);
        };
        // Some hosts do not tell it; those who tell another would name other blocks than they mean.
        if ![0, BLOCK_BYTES].contains(&cscd.block_bytes) {
            return wrong(Sense::COPY_ABORTED_BY_PARAMETER, cscd_field::BLOCK_LENGTH);
        }
        Ok(lun)
    }
}

/// PERIPHERAL DEVICE TYPEs of what has blocks (SPC-4 table 143).
const DISK: u8 = 0x00;
const WRITE_ONCE: u8 = 0x04;
const CD_DVD: u8 = 0x05;
const OPTICAL_MEMORY: u8 = 0x07;
const SIMPLIFIED_DISK: u8 = 0x0e;

/// Why a segment cannot be.
enum Refusal {
    /// A field of its descriptor.
    Segment(Sense, u16),
    /// A field elsewhere in the parameter list.
    List(Sense, u16),
}

impl Refusal {
    fn at(self, segment: u16) -> Sense {
        match self {
            Self::Segment(sense, field) => {
                let copy = CopyDetails { segment, in_segment: Some(field), forwarded: None };
                Sense { copy: Some(copy), ..sense }
            }
            Self::List(sense, field) => sense.in_list(field).at_segment(segment),
        }
    }
}

/// RECEIVE COPY RESULTS, by its service action.
pub(super) fn copy_results<W: World>(
    controller: &Controller<W>,
    lun: LunIndex,
    request: &Request,
) -> Outcome {
    if let Err(refused) = controller.admit(lun, request.nexus, Admission::Changing) {
        return refused;
    }
    let (copies, nexus, cdb) = (controller.copies(), request.nexus, &request.cdb);
    let (list, allocation) = (extended_copy::list_identifier(cdb), extended_copy::allocation(cdb));
    let data = match cdb::service_action(cdb) {
        action::RECEIVE_COPY_STATUS => copies
            .progress(nexus, lun, list)
            .map(|Progress { status, segments, bytes }| extended_copy::copy_status(status, segments, bytes)),
        action::RECEIVE_COPY_DATA => copies.failure(nexus, lun, list).map(|_| extended_copy::held_data()),
        action::RECEIVE_COPY_FAILURE_DETAILS => copies.failure(nexus, lun, list).map(|failure| {
            let details = extended_copy::failure_details(failure.as_ref());
            if allocation >= details.len() {
                copies.failure_told(nexus, lun, list);
            }
            details
        }),
        _ => Some(extended_copy::operating_parameters(&COPY_LIMITS)),
    };
    match data {
        Some(data) => outcome(Ok(cut(data, allocation))),
        None => Outcome::Check(Sense::invalid_cdb_field(2)),
    }
}
