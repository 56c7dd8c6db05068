//! Connections without a session: in their login, or saying farewell.

use core::net::IpAddr;
use std::collections::VecDeque;
use std::sync::Arc;

use super::hosts::{host_of, oldest_of_the_most};
use crate::session::link::Link;

/// Connections in their login or saying farewell; one more ends the oldest of the host that
/// has most of them, so that a flood of half-open logins keeps nobody out but itself.
pub const LOGINS_MAX: usize = 256;

/// All of them with their hosts, in the order in which they came. Always: at most [`LOGINS_MAX`].
#[derive(Debug, Default)]
pub(super) struct HalfOpen {
    connections: VecDeque<(Option<IpAddr>, Arc<Link>)>,
}

impl HalfOpen {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.connections.len()
    }

    /// One begins. Gives the one that has to end for it, if there are too many.
    pub(super) fn begin(&mut self, link: Arc<Link>) -> Option<Arc<Link>> {
        let oldest = if self.connections.len() >= LOGINS_MAX {
            let hosts = self.connections.iter().map(|(host, _)| *host);
            oldest_of_the_most(hosts).and_then(|oldest| self.connections.remove(oldest))
        } else {
            None
        };
        self.connections.push_back((host_of(&link), link));
        debug_assert!(self.connections.len() <= LOGINS_MAX, "one more ends another");
        oldest.map(|(_, link)| link)
    }

    /// One has a session, or is over.
    pub(super) fn end(&mut self, link: &Arc<Link>) {
        self.connections.retain(|(_, known)| !Arc::ptr_eq(known, link));
    }
}
