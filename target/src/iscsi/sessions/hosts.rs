//! Connections by the host they come from: who has most of them, and which of those is the oldest.

use core::cmp::Reverse;
use core::net::IpAddr;
use std::collections::BTreeMap;

use crate::iscsi::connection::shared::SharedHalf;

/// The host a connection comes from.
pub(super) fn host_of(shared: &SharedHalf) -> Option<IpAddr> {
    shared.host().map(|host| host.ip())
}

/// The same where it is another machine, in its one form (RFC 4291 2.5.5.2).
pub(super) fn host_elsewhere(shared: &SharedHalf) -> Option<IpAddr> {
    host_of(shared).map(|host| host.to_canonical()).filter(|host| !host.is_loopback())
}

/// The first of the host that occurs most often, and of several such hosts of the one that comes first.
pub(super) fn oldest_of_the_most(hosts: impl Iterator<Item = Option<IpAddr>>) -> Option<usize> {
    let mut counts: BTreeMap<Option<IpAddr>, (usize, usize)> = BTreeMap::new();
    for (at, host) in hosts.enumerate() {
        counts.entry(host).or_insert((0, at)).0 += 1;
    }
    counts.into_values().max_by_key(|(count, oldest)| (*count, Reverse(*oldest))).map(|(_, oldest)| oldest)
}
