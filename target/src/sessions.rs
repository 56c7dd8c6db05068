//! All sessions of one controller by nexus: where outcomes find their connection.
//!
//! A nexus id names its place in the table in its low bits, so that an outcome finds its session without a
//! search; the rest counts, so that no id is used twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use controller::command::{NexusId, Outcome, TaskTag};
use parking_lot::RwLock;
use protocol::iscsi::Isid;

use crate::run::cork::{self, Due, Flush};
use crate::session::link::Link;
use crate::session::tasks::Claim;

/// Normal sessions of one controller at most.
pub const SESSIONS_MAX: usize = 512;

/// Bits of a nexus id that are its place.
const PLACE_BITS: u32 = 10;

/// TSIHs from here on belong to discovery sessions.
const DISCOVERY_TSIH: u16 = 0x8000;

/// Who opened a session: with the portal group, which is the same for all sessions of a controller, this is what
/// reinstatement goes by (RFC 7143 6.3.5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// InitiatorName.
    pub initiator: String,
    /// InitiatorAlias, empty if none was given.
    pub alias: String,
    /// The initiator's part of the session id.
    pub isid: Isid,
}

/// A session that began.
#[derive(Debug)]
pub struct Begun {
    /// Its nexus.
    pub nexus: NexusId,
    /// Its handle; not zero.
    pub tsih: u16,
    /// The session it reinstates, already out of the table.
    pub replaced: Option<(NexusId, Arc<Link>)>,
}

/// A session as status shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionView {
    /// InitiatorName.
    pub initiator: String,
    /// InitiatorAlias, empty if none was given.
    pub alias: String,
    /// The session's nexus.
    pub nexus: NexusId,
    /// Commands not answered yet.
    pub tasks: usize,
}

#[derive(Debug)]
struct Entry {
    nexus: NexusId,
    identity: Identity,
    link: Arc<Link>,
}

#[derive(Debug, Default)]
struct Table {
    places: Vec<Option<Entry>>,
    begun: u64,
}

impl Table {
    fn get(&self, nexus: NexusId) -> Option<&Entry> {
        let entry = self.places.get(place_of(nexus))?.as_ref()?;
        (entry.nexus == nexus).then_some(entry)
    }

    fn free_place(&self) -> Option<usize> {
        let free = self.places.iter().position(Option::is_none).unwrap_or(self.places.len());
        (free < SESSIONS_MAX).then_some(free)
    }
}

const fn place_of(nexus: NexusId) -> usize {
    (nexus.0 & ((1 << PLACE_BITS) - 1)) as usize
}

/// The sessions in full feature phase.
#[derive(Debug, Default)]
pub struct Sessions {
    table: RwLock<Table>,
    discoveries: AtomicU16,
    /// Connections open, logged in or not.
    pub(crate) connections: AtomicUsize,
}

impl Sessions {
    /// Turns an outcome into PDUs on the nexus's connection and sends them, with the batch that is open on this
    /// thread or connection, if one is. From any thread.
    pub fn answer(&self, nexus: NexusId, tag: TaskTag, outcome: Outcome) {
        let Some(link) = self.link(nexus) else {
            return;
        };
        let claims = link.on_outcome(tag, outcome);
        let output: Arc<dyn Flush> = link;
        if !cork::flush_at_end(&output, Due::AtEnd) {
            output.flush();
        }
        self.release(&claims);
    }

    /// Every session, for status.
    #[must_use]
    pub fn list(&self) -> Vec<SessionView> {
        let table = self.table.read();
        let view = |entry: &Entry| SessionView {
            initiator: entry.identity.initiator.clone(),
            alias: entry.identity.alias.clone(),
            nexus: entry.nexus,
            tasks: entry.link.tasks(),
        };
        table.places.iter().flatten().map(view).collect()
    }

    /// Closes every session's connection: the end of a run.
    pub fn end_all(&self) {
        let links = self.table.read().places.iter().flatten().map(|e| e.link.clone()).collect::<Vec<_>>();
        for link in links {
            link.end();
        }
    }

    fn link(&self, nexus: NexusId) -> Option<Arc<Link>> {
        self.table.read().get(nexus).map(|entry| entry.link.clone())
    }

    /// A login succeeded. `None` if there are too many sessions already.
    pub(crate) fn begin(&self, identity: Identity, link: Arc<Link>) -> Option<Begun> {
        let mut table = self.table.write();
        let old = table.places.iter().position(|place| {
            place.as_ref().is_some_and(|entry| {
                entry.identity.isid == identity.isid
                    && entry.identity.initiator.eq_ignore_ascii_case(&identity.initiator)
            })
        });
        let replaced = old.and_then(|at| table.places[at].take()).map(|entry| (entry.nexus, entry.link));
        let place = table.free_place()?;
        table.begun += 1;
        let nexus = NexusId(table.begun << PLACE_BITS | place as u64);
        let entry = Some(Entry { nexus, identity, link });
        if place == table.places.len() {
            table.places.push(entry);
        } else {
            table.places[place] = entry;
        }
        Some(Begun { nexus, tsih: place as u16 + 1, replaced })
    }

    /// A session ended. False if it was out of the table already.
    pub(crate) fn remove(&self, nexus: NexusId) -> bool {
        let mut table = self.table.write();
        let known = table.get(nexus).is_some();
        if known {
            table.places[place_of(nexus)] = None;
        }
        known
    }

    /// True if one more session has room.
    pub(crate) fn has_room(&self) -> bool {
        self.table.read().free_place().is_some()
    }

    /// True if a normal session has this handle.
    pub(crate) fn is_in_use(&self, tsih: u16) -> bool {
        let place = usize::from(tsih).checked_sub(1);
        place.is_some_and(|place| self.table.read().places.get(place).is_some_and(Option::is_some))
    }

    /// A handle for a discovery session.
    pub(crate) fn discovery_tsih(&self) -> u16 {
        DISCOVERY_TSIH | self.discoveries.fetch_add(1, Ordering::Relaxed)
    }

    /// Every session but this one.
    pub(crate) fn others(&self, nexus: NexusId) -> Vec<(NexusId, Arc<Link>)> {
        let table = self.table.read();
        let entries = table.places.iter().flatten().filter(|entry| entry.nexus != nexus);
        entries.map(|entry| (entry.nexus, entry.link.clone())).collect()
    }

    /// Tells task management functions of other sessions that tasks they waited for have ended.
    pub(crate) fn release(&self, claims: &[Claim]) {
        for claim in claims {
            if let Some(link) = self.link(claim.nexus) {
                let _ = link.with(|session, output| session.release(claim.function, -1, output));
                link.flush();
            }
        }
    }
}
