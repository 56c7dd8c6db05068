//! FORMAT UNIT (SBC-3 5.4): decoded here, done by the controller as a SANITIZE that makes every block a hole.

use controller::unit::LunView;
use protocol::interlink::event::Event;
use protocol::interlink::sanitize::Order;
use protocol::interlink::shared::Requester;
use protocol::scsi::cdb::Cdb;
use protocol::scsi::format::FormatUnit;
use protocol::scsi::sanitize::Method;
use protocol::scsi::sense::Sense;

use super::shared::Asked;

/// FORMAT UNIT.
pub(super) fn format_unit(cdb: &Cdb, view: &LunView, who: Requester, list: &[u8]) -> Asked {
    let asked = FormatUnit::of(cdb);
    if let Some(byte) = asked.unknown {
        return Err(Sense::invalid_cdb_field(byte));
    }
    if view.read_only {
        return Err(Sense::WRITE_PROTECTED);
    }
    let immed = asked.immed(list)?;
    let order = Some(Box::new(Order { method: Method::Format, ause: true }));
    Ok(Some(Event::Sanitize { who, order, immed }))
}

/// Data-out of FORMAT UNIT: the header of its parameter list; a defect list behind it is refused unread.
pub(super) fn format_unit_data(cdb: &Cdb) -> u64 {
    FormatUnit::of(cdb).header_bytes() as u64
}
