//! File descriptors: every connection is one, and so is every volume. Hosts get what is left when everything else that
//! a controller needs has its own, so that they can use up neither the disks', nor the interlink's, nor those of people
//! who ask how it is.

use controller::plan::Side;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::admin::control::CLIENTS_MAX;
use crate::config::Config;
use crate::interlink::entrance::UNPROVEN_MAX;
use crate::portal::CONNECTIONS_MAX;

/// Standard streams, the log, what the libraries open for a moment, and some to spare.
const OTHERS: usize = 24;

/// Of each worker's runtime.
const OF_A_WORKER: usize = 4;

/// Of one controller beside its volumes, listeners and connections: lock, records, folders while they are synced.
const OF_A_CONTROLLER: usize = 8;

/// Raises the limit of open files as far as it goes (what a service is given at first is often enough for a thousand
/// only) and says how many connections of hosts each controller of this process has descriptors for.
pub(super) fn for_hosts(config: &Config, sides: &[Side], workers: usize) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files cannot be raised: fewer hosts may be able to connect");
    }
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
    let Some(files) = files else { return CONNECTIONS_MAX };
    let own = |side: &Side| {
        let listeners = config.controller(*side).portals.len() + config.controller(*side).interlink.len() + 1;
        let links = 2 * (workers + 1);
        OF_A_CONTROLLER + listeners + links + UNPROVEN_MAX + CLIENTS_MAX + config.luns.len()
    };
    let needed = OTHERS + OF_A_WORKER * (workers + 1 + sides.len()) + sides.iter().map(own).sum::<usize>();
    let each = share(files, needed, sides.len());
    if each < CONNECTIONS_MAX {
        tracing::warn!(
            "this process may have {files} files open (`ulimit -n`, LimitNOFILE= of its service): {each} connections \
             of hosts to each of its controllers have room, not {CONNECTIONS_MAX}"
        );
    }
    each
}

/// What each controller has for hosts: at least one connection, so that it is of some use.
fn share(files: usize, needed: usize, controllers: usize) -> usize {
    (files.saturating_sub(needed) / controllers.max(1)).clamp(1, CONNECTIONS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_get_what_is_left_and_never_more_than_the_bound() {
        assert_eq!(share(1024, 100, 1), 924);
        assert_eq!(share(1024, 200, 2), 412);
        assert_eq!(share(1 << 20, 200, 2), CONNECTIONS_MAX);
        assert_eq!(share(64, 100, 1), 1);
    }
}
