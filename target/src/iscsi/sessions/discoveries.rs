//! The discovery sessions of a controller, in the order in which they began.

use core::net::SocketAddr;
use std::collections::VecDeque;
use std::sync::Arc;

use protocol::iscsi::Isid;

use crate::iscsi::connection::shared::SharedHalf;
use crate::iscsi::sessions::hosts::{host_of, oldest_of_the_most};

/// Discovery sessions of one controller; one more ends the oldest of the host that has most of them.
pub const DISCOVERIES_MAX: usize = 128;

/// TSIHs from here on belong to discovery sessions.
const DISCOVERY_TSIH: u16 = 0x8000;

/// A discovery session that is to begin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Discovering {
    /// InitiatorName.
    pub initiator: String,
    /// The initiator's part of the session id.
    pub isid: Isid,
    /// Whether it named the target (RFC 7143 7.4.2).
    pub named: bool,
    /// The portal it came in by.
    pub portal: Option<SocketAddr>,
}

impl Discovering {
    /// The rule for unnamed sessions goes by the portal, that for named ones by the target (7.4.2.1, 7.4.2.2).
    fn reinstates(&self, old: &Self) -> bool {
        let same = self.isid == old.isid && self.initiator.eq_ignore_ascii_case(&old.initiator);
        same && self.named == old.named && (self.named || self.portal == old.portal)
    }
}

/// All of them. Always: at most [`DISCOVERIES_MAX`].
#[derive(Debug, Default)]
pub(super) struct Discoveries {
    sessions: VecDeque<(Discovering, Arc<SharedHalf>)>,
    begun: u16,
}

impl Discoveries {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.sessions.len()
    }

    /// One begins: its handle, and the connections of those that end for it.
    pub(super) fn begin(&mut self, new: Discovering, shared: Arc<SharedHalf>) -> (u16, Vec<Arc<SharedHalf>>) {
        let mut ended = Vec::new();
        self.sessions.retain(|(old, shared)| {
            let stays = !new.reinstates(old);
            if !stays {
                ended.push(Arc::clone(shared));
            }
            stays
        });
        if self.sessions.len() >= DISCOVERIES_MAX {
            let hosts = self.sessions.iter().map(|(_, shared)| host_of(shared));
            let oldest = oldest_of_the_most(hosts).and_then(|oldest| self.sessions.remove(oldest));
            ended.extend(oldest.map(|(_, shared)| shared));
        }
        self.sessions.push_back((new, shared));
        debug_assert!(self.sessions.len() <= DISCOVERIES_MAX, "one more ends another");
        let tsih = DISCOVERY_TSIH | self.begun;
        self.begun = self.begun.wrapping_add(1);
        (tsih, ended)
    }

    /// Takes out a named one of this initiator port, which a normal session takes the place of (7.4.2.2).
    pub(super) fn take_named(&mut self, initiator: &str, isid: Isid) -> Option<Arc<SharedHalf>> {
        let at = self.sessions.iter().position(|(old, _)| {
            old.named && old.isid == isid && old.initiator.eq_ignore_ascii_case(initiator)
        })?;
        self.sessions.remove(at).map(|(_, shared)| shared)
    }

    /// One has ended.
    pub(super) fn end(&mut self, shared: &Arc<SharedHalf>) {
        self.sessions.retain(|(_, known)| !Arc::ptr_eq(known, shared));
    }
}
