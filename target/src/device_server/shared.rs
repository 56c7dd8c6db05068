//! Commands that change what both controllers share of a LUN: MODE SELECT, RESERVE and RELEASE, PERSISTENT RESERVE IN
//! and OUT. Decoded here, done by the controller as events.

use controller::command::Admission;
use controller::unit::LunView;
use protocol::interlink::event::Event;
use protocol::interlink::shared::Requester;
use protocol::scsi::cdb::{Cdb, service_action};
use protocol::scsi::mode::ModeSelect;
use protocol::scsi::persistent_reservation::{
    self, InAction, PARAMETER_LIST_BYTES_MAX, ReserveOut, parameter_list_bytes,
};
use protocol::scsi::sense::Sense;

use super::describe::mode_parameters;

/// What one that asks for nothing, an empty MODE SELECT, asks leave for.
pub(super) const IDLE_ADMISSION: Admission = Admission::Changing;

/// The event that a command asks for, `None` if it asks for nothing, or why there is none.
pub(super) type Asked = Result<Option<Event>, Sense>;

/// MODE SELECT (6) (SPC-4 6.11).
pub(super) fn mode_select_6(cdb: &Cdb, view: &LunView, who: Requester, list: &[u8]) -> Asked {
    mode_select(ModeSelect::of_6(cdb), view, who, list)
}

/// MODE SELECT (10) (SPC-4 6.12).
pub(super) fn mode_select_10(cdb: &Cdb, view: &LunView, who: Requester, list: &[u8]) -> Asked {
    mode_select(ModeSelect::of_10(cdb), view, who, list)
}

fn mode_select(asked: ModeSelect, view: &LunView, who: Requester, list: &[u8]) -> Asked {
    let selection = asked.selection(list, &mode_parameters(view))?;
    Ok(selection.map(|select| Event::ModeSelect { who, select }))
}

/// RESERVE (6) and (10) (SPC-2 7.21, 7.22), of the whole logical unit and for the nexus that asks.
pub(super) fn reserve(cdb: &Cdb, _: &LunView, who: Requester, _: &[u8]) -> Asked {
    if asks_for_parts(cdb) { Err(Sense::INVALID_FIELD_IN_CDB) } else { Ok(Some(Event::Reserve(who))) }
}

/// RELEASE (6) and (10) (SPC-2 7.16, 7.17).
pub(super) fn release(cdb: &Cdb, _: &LunView, who: Requester, _: &[u8]) -> Asked {
    if asks_for_parts(cdb) { Err(Sense::INVALID_FIELD_IN_CDB) } else { Ok(Some(Event::Release(who))) }
}

/// Third-party reservations, extents, and identifiers of either.
const fn asks_for_parts(cdb: &Cdb) -> bool {
    cdb[1] & 0x1f != 0
}

/// PERSISTENT RESERVE IN (SPC-4 6.15).
pub(super) fn reserve_in(cdb: &Cdb, _: &LunView, who: Requester, _: &[u8]) -> Asked {
    let action = InAction::of(service_action(cdb)).ok_or(Sense::INVALID_FIELD_IN_CDB)?;
    Ok(Some(Event::ReserveIn { who, action, allocation: persistent_reservation::allocation(cdb) }))
}

/// PERSISTENT RESERVE OUT (SPC-4 6.16).
pub(super) fn reserve_out(cdb: &Cdb, _: &LunView, who: Requester, list: &[u8]) -> Asked {
    Ok(Some(Event::ReserveOut { who, out: Box::new(ReserveOut::of(cdb, list)?) }))
}

/// Bytes of data-out a PERSISTENT RESERVE OUT takes; none if it will be refused for its length.
pub(super) fn reserve_out_data(cdb: &Cdb) -> u64 {
    let bytes = parameter_list_bytes(cdb);
    if bytes > PARAMETER_LIST_BYTES_MAX { 0 } else { u64::from(bytes) }
}

/// Bytes of data-out a MODE SELECT (6) takes.
pub(super) fn mode_select_6_data(cdb: &Cdb) -> u64 {
    ModeSelect::of_6(cdb).length as u64
}

/// Bytes of data-out a MODE SELECT (10) takes.
pub(super) fn mode_select_10_data(cdb: &Cdb) -> u64 {
    ModeSelect::of_10(cdb).length as u64
}
