//! Connections without a session: in their login, or saying farewell.

use core::net::IpAddr;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::iscsi::connection::shared::SharedHalf;
use crate::iscsi::sessions::hosts::{host_of, oldest_of_the_most};

/// Connections in their login or saying farewell; one more ends the oldest of the host that
/// has most of them, so that a flood of half-open logins keeps nobody out but itself.
pub const LOGINS_MAX: usize = 256;

/// All of them with their hosts, in the order in which they came. Always: at most [`LOGINS_MAX`].
#[derive(Debug, Default)]
pub(super) struct HalfOpen {
    connections: VecDeque<(Option<IpAddr>, Arc<SharedHalf>)>,
}

impl HalfOpen {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.connections.len()
    }

    /// One begins. Gives the one that has to end for it, if there are too many.
    pub(super) fn begin(&mut self, shared: Arc<SharedHalf>) -> Option<Arc<SharedHalf>> {
        let oldest = if self.connections.len() >= LOGINS_MAX {
            let hosts = self.connections.iter().map(|(host, _)| *host);
            oldest_of_the_most(hosts).and_then(|oldest| self.connections.remove(oldest))
        } else {
            None
        };
        self.connections.push_back((host_of(&shared), shared));
        debug_assert!(self.connections.len() <= LOGINS_MAX, "one more ends another");
        oldest.map(|(_, shared)| shared)
    }

    /// One has a session, or is over.
    pub(super) fn end(&mut self, shared: &Arc<SharedHalf>) {
        self.connections.retain(|(_, known)| !Arc::ptr_eq(known, shared));
    }
}
