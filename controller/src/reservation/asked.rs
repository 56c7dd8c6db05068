//! PERSISTENT RESERVE OUT as tests ask for it.

use protocol::interlink::event::Event;
use protocol::interlink::shared::Requester;
use protocol::scsi::persistent_reservation::{Kind, OutAction, ReserveOut};

/// A service action with a reservation key and a service action reservation key, without APTPL, for the own port alone.
pub(crate) fn out(action: OutAction, (key, action_key): (u64, u64), kind: Kind) -> ReserveOut {
    ReserveOut {
        action,
        kind: kind.code(),
        key,
        action_key,
        aptpl: false,
        all_target_ports: false,
        others: Vec::new(),
        moved: None,
    }
}

/// The event that a host's service action is.
pub(crate) fn event(out: ReserveOut) -> impl Fn(Requester) -> Event {
    move |who| Event::ReserveOut { who, out: Box::new(out.clone()) }
}
