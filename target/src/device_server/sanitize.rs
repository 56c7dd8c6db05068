//! SANITIZE (SBC-4 5.30): decoded here, done by the controller as an event.

use controller::unit::LunView;
use protocol::interlink::event::Event;
use protocol::interlink::sanitize::Order;
use protocol::interlink::shared::Requester;
use protocol::scsi::cdb::Cdb;
use protocol::scsi::sanitize::{Method, Sanitize};
use protocol::scsi::sense::Sense;

use super::shared::Asked;

/// OVERWRITE.
pub(super) fn overwrite(cdb: &Cdb, view: &LunView, who: Requester, list: &[u8]) -> Asked {
    let asked = checked(cdb)?;
    if !asked.overwrite_length_is_right() {
        return Err(Sense::invalid_cdb_field(7));
    }
    refuse_write_protected(view)?;
    if list.len() < usize::from(asked.list_bytes) {
        return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
    }
    begin(asked, Method::overwrite(list)?, who)
}

/// BLOCK ERASE.
pub(super) fn block_erase(cdb: &Cdb, view: &LunView, who: Requester, _: &[u8]) -> Asked {
    let asked = without_list(cdb)?;
    refuse_write_protected(view)?;
    begin(asked, Method::BlockErase, who)
}

/// EXIT FAILURE MODE.
pub(super) fn exit_failure_mode(cdb: &Cdb, _: &LunView, who: Requester, _: &[u8]) -> Asked {
    let Sanitize { immed, .. } = without_list(cdb)?;
    Ok(Some(Event::Sanitize { who, order: None, immed }))
}

/// Data-out of OVERWRITE: its parameter list; none if it will be refused for its length.
pub(super) fn overwrite_data(cdb: &Cdb) -> u64 {
    let asked = Sanitize::of(cdb);
    if asked.overwrite_length_is_right() { u64::from(asked.list_bytes) } else { 0 }
}

fn begin(asked: Sanitize, method: Method, who: Requester) -> Asked {
    let order = Some(Box::new(Order { method, ause: asked.ause }));
    Ok(Some(Event::Sanitize { who, order, immed: asked.immed }))
}

/// What destroys everything is looked at more closely than the standard asks for: no reserved bit may be set.
fn checked(cdb: &Cdb) -> Result<Sanitize, Sense> {
    let asked = Sanitize::of(cdb);
    asked.reserved.map_or(Ok(asked), |byte| Err(Sense::invalid_cdb_field(byte)))
}

fn without_list(cdb: &Cdb) -> Result<Sanitize, Sense> {
    let asked = checked(cdb)?;
    if asked.list_bytes == 0 { Ok(asked) } else { Err(Sense::invalid_cdb_field(7)) }
}

fn refuse_write_protected(view: &LunView) -> Result<(), Sense> {
    if view.read_only { Err(Sense::WRITE_PROTECTED) } else { Ok(()) }
}
