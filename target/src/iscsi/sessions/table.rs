//! The table of a controller's normal sessions, by nexus and by initiator port.
//!
//! A nexus id names its place in the table in its low bits, so that an outcome finds its session without a
//! search; the rest counts, so that no id is used twice.
//!
//! A session that is over keeps its place until its last command has ended, for nothing it sent may take effect once
//! its initiator port has a new one (RFC 7143 6.3.5: reinstatement is a logout, 11.14: which ends all commands):
//!
//! ```text
//!   active ──logout: its commands have ended already──────────────────────────► free
//!     └──connection lost, reinstated──► closing ──last outcome, or overdue──► free, or the waiting login's
//! ```

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller::command::{COMMAND_AGE_MAX, NexusId};
use controller::time::Time;
use protocol::iscsi::Isid;

use crate::iscsi::connection::shared::SharedHalf;
use crate::iscsi::sessions::hosts::host_elsewhere;

/// Normal sessions of one controller.
pub const SESSIONS_MAX: usize = 1024;

/// Normal sessions of one initiator (by its InitiatorName) on one controller: an eighth of them, so that others
/// find room whatever it does. A host that uses several paths has one for each, a virtual machine monitor perhaps one
/// for each disk.
pub const INITIATOR_SESSIONS_MAX: usize = SESSIONS_MAX / 8;

/// Normal sessions of one address, whatever it calls itself, on one controller: three quarters of them, so that
/// other hosts find room. A machine that is a gateway for many has the most of them, and loopback all.
pub const HOST_SESSIONS_MAX: usize = SESSIONS_MAX / 4 * 3;

/// How long a login waits for the commands of the session before it. What main has not admitted by then is too old
/// for it, however long it was on its way; what main has admitted comes before whatever a new session sends.
pub const DEPARTED_TIME_MAX: Duration = COMMAND_AGE_MAX.saturating_add(Duration::from_secs(1));

/// Bits of a nexus id that are its place.
const PLACE_BITS: u32 = 10;

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

/// The session a TSIH stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Existing {
    /// InitiatorName.
    pub initiator: String,
    /// The initiator's part of the session id.
    pub isid: Isid,
    /// The Connection ID of its one connection.
    pub cid: u16,
}

/// A session that began.
#[derive(Debug)]
pub struct Begun {
    /// Its nexus.
    pub nexus: NexusId,
    /// Its handle; not zero.
    pub tsih: u16,
}

/// What a login finds.
#[derive(Debug)]
pub(crate) enum LoginAdmission {
    /// A place.
    Begun(Begun),
    /// A session of the same initiator port, which is closing from now on: it has to be ended.
    Replaces(NexusId, Arc<SharedHalf>),
    /// One that is closing, with commands that have not ended: the login waits, and is woken.
    Waits,
    /// Too many sessions of this initiator, or of its host.
    Crowded(Share),
    /// Too many sessions.
    Full,
    /// The session it was to continue is gone.
    Gone,
}

/// Whose share of the sessions is used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Share {
    /// That of the initiator, by its InitiatorName: [`INITIATOR_SESSIONS_MAX`].
    Initiator,
    /// That of the host, by its address: [`HOST_SESSIONS_MAX`].
    Host,
}

/// A session in its place.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) nexus: NexusId,
    pub(super) identity: Identity,
    cid: u16,
    pub(super) shared: Arc<SharedHalf>,
    closing: Option<Closing>,
}

impl Entry {
    const fn is_active(&self) -> bool {
        self.closing.is_none()
    }

    fn is_settled(&self) -> bool {
        self.closing.is_some() && self.shared.is_settled()
    }

    /// Whether a login waits for the commands of this session.
    fn is_awaited(&self, now: Time) -> bool {
        let overdue = |closing: &Closing| now.since(closing.since) >= DEPARTED_TIME_MAX;
        !self.shared.is_settled() && !self.closing.as_ref().is_some_and(overdue)
    }
}

/// The session is over, but perhaps not its commands.
#[derive(Debug)]
struct Closing {
    since: Time,
    /// Logins that wait for its place.
    waiting: Vec<Arc<SharedHalf>>,
}

impl Closing {
    /// True if it waited.
    fn wait_no_more(&mut self, shared: &Arc<SharedHalf>) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|known| !Arc::ptr_eq(known, shared));
        self.waiting.len() < before
    }
}

/// All of them. Always: a nexus is in the place that it names, and an initiator port has one place.
#[derive(Debug, Default)]
pub(super) struct Table {
    places: Vec<Option<Entry>>,
    begun: u64,
    /// The most sessions there ever were.
    peak: usize,
}

impl Table {
    /// The session of this nexus, active or closing.
    pub(super) fn get(&self, nexus: NexusId) -> Option<&Entry> {
        let entry = self.places.get(place_of(nexus))?.as_ref()?;
        (entry.nexus == nexus).then_some(entry)
    }

    /// The sessions that are not closing, in the order of their places.
    pub(super) fn active(&self) -> impl Iterator<Item = &Entry> {
        self.places.iter().flatten().filter(|entry| entry.is_active())
    }

    /// The most active sessions there ever were at once.
    pub(super) const fn peak(&self) -> usize {
        self.peak
    }

    fn find(&self, initiator: &str, isid: Isid) -> Option<usize> {
        self.places.iter().position(|place| {
            place.as_ref().is_some_and(|entry| {
                entry.identity.isid == isid && entry.identity.initiator.eq_ignore_ascii_case(initiator)
            })
        })
    }

    /// A login succeeded: the session begins, by itself or, with its handle in `continues`, on a new connection
    /// (RFC 7143 6.3.4). Not before those of the same initiator port have ended: what is to be done first, if anything,
    /// is in the answer; then it is asked again.
    pub(super) fn begin(
        &mut self,
        identity: &Identity,
        cid: u16,
        shared: &Arc<SharedHalf>,
        continues: Option<u16>,
        now: Time,
    ) -> LoginAdmission {
        let old = self.find(&identity.initiator, identity.isid);
        let same = |at: usize| continues.is_none_or(|tsih| at + 1 == usize::from(tsih));
        if let Some(at) = old {
            if !same(at) {
                return LoginAdmission::Gone;
            }
            if let Some((nexus, replaced)) = self.close_at(at, now) {
                self.wait_for_slot(at, shared);
                return LoginAdmission::Replaces(nexus, replaced);
            }
            if self.places[at].as_ref().is_some_and(|entry| entry.is_awaited(now)) {
                self.wait_for_slot(at, shared);
                return LoginAdmission::Waits;
            }
            self.places[at] = None;
        }
        let place = match (old, continues) {
            (None, Some(_)) => return LoginAdmission::Gone,
            (Some(at), Some(_)) => at,
            (_, None) => match (self.crowded(&identity.initiator, shared), self.free_place()) {
                (Some(share), _) => return LoginAdmission::Crowded(share),
                (None, None) => return LoginAdmission::Full,
                (None, Some(at)) => at,
            },
        };
        LoginAdmission::Begun(self.occupy(place, identity.clone(), cid, Arc::clone(shared)))
    }

    fn occupy(&mut self, place: usize, identity: Identity, cid: u16, shared: Arc<SharedHalf>) -> Begun {
        debug_assert!(place < SESSIONS_MAX, "there are no more places");
        debug_assert!(self.places.get(place).is_none_or(Option::is_none), "the place is free");
        self.begun += 1;
        let nexus = NexusId(self.begun << PLACE_BITS | place as u64);
        let entry = Some(Entry { nexus, identity, cid, shared, closing: None });
        if place == self.places.len() {
            self.places.push(entry);
        } else {
            self.places[place] = entry;
        }
        self.check();
        self.peak = self.peak.max(self.active().count());
        Begun { nexus, tsih: place as u16 + 1 }
    }

    /// The active session of an initiator port is over.
    pub(super) fn close_port(
        &mut self,
        initiator: &str,
        isid: Isid,
        now: Time,
    ) -> Option<(NexusId, Arc<SharedHalf>)> {
        self.find(initiator, isid).and_then(|at| self.close_at(at, now))
    }

    /// The session of this nexus is over. False if it is closing already.
    pub(super) fn close(&mut self, nexus: NexusId, now: Time) -> bool {
        self.get(nexus).is_some() && self.close_at(place_of(nexus), now).is_some()
    }

    fn close_at(&mut self, at: usize, now: Time) -> Option<(NexusId, Arc<SharedHalf>)> {
        let entry = self.places.get_mut(at)?.as_mut().filter(|entry| entry.is_active())?;
        entry.closing = Some(Closing { since: now, waiting: Vec::new() });
        let closed = (entry.nexus, entry.shared.clone());
        self.check();
        Some(closed)
    }

    /// A login waits for the place of a closing session.
    fn wait_for_slot(&mut self, at: usize, shared: &Arc<SharedHalf>) {
        let closing = self.places[at].as_mut().and_then(|entry| entry.closing.as_mut());
        debug_assert!(closing.is_some(), "the place is taken by a session that is over");
        if let Some(closing) = closing
            && !closing.waiting.iter().any(|known| Arc::ptr_eq(known, shared))
        {
            closing.waiting.push(Arc::clone(shared));
        }
    }

    /// A login waits for no place any more.
    pub(super) fn wait_no_more(&mut self, shared: &Arc<SharedHalf>) {
        for at in 0..self.places.len() {
            let closing = self.places[at].as_mut().and_then(|entry| entry.closing.as_mut());
            if closing.is_some_and(|closing| closing.wait_no_more(shared)) {
                self.free_settled(at);
            }
        }
    }

    /// If the last command of a closing session has ended, its place is free, or that of a login that waits for it:
    /// gives the connections to wake.
    pub(super) fn settle(&mut self, nexus: NexusId) -> Vec<Arc<SharedHalf>> {
        let Some(entry) = self.get(nexus).filter(|entry| entry.is_settled()) else {
            return Vec::new();
        };
        let waiting = entry.closing.as_ref().map(|closing| closing.waiting.clone()).unwrap_or_default();
        self.free_settled(place_of(nexus));
        waiting
    }

    /// A closing session gives up its place, if nothing of it is awaited and no login waits for it.
    fn free_settled(&mut self, at: usize) {
        if let Some(place) = self.places.get_mut(at) {
            let over = |entry: &mut Entry| {
                entry.is_settled() && entry.closing.as_ref().is_some_and(|closing| closing.waiting.is_empty())
            };
            let _ = place.take_if(over);
        }
    }

    /// The active session that has this handle.
    pub(super) fn existing(&self, tsih: u16) -> Option<Existing> {
        let entry = self.places.get(usize::from(tsih).checked_sub(1)?)?.as_ref()?;
        let entry = Some(entry).filter(|entry| entry.is_active())?;
        let Identity { initiator, isid, .. } = entry.identity.clone();
        Some(Existing { initiator, isid, cid: entry.cid })
    }

    /// Places that sessions of an initiator have, closing ones among them.
    fn places_of(&self, initiator: &str) -> usize {
        let own = |entry: &&Entry| entry.identity.initiator.eq_ignore_ascii_case(initiator);
        self.places.iter().flatten().filter(own).count()
    }

    /// The share that one more session of this initiator on this connection would go beyond. Hosts are counted only
    /// when so many places are taken that one of them may have all of them.
    fn crowded(&self, initiator: &str, shared: &SharedHalf) -> Option<Share> {
        if self.places_of(initiator) >= INITIATOR_SESSIONS_MAX {
            return Some(Share::Initiator);
        }
        let taken = || self.places.iter().flatten();
        let host = host_elsewhere(shared)?;
        let of_host = || taken().filter(|entry| host_elsewhere(&entry.shared) == Some(host)).count();
        let full = taken().count() >= HOST_SESSIONS_MAX && of_host() >= HOST_SESSIONS_MAX;
        full.then_some(Share::Host)
    }

    /// What always holds, looked at when a session begins or ends, in debug builds only.
    fn check(&self) {
        if cfg!(debug_assertions) {
            debug_assert!(self.places.len() <= SESSIONS_MAX, "there are no more places");
            let mut ports = BTreeSet::new();
            for (place, entry) in self.places.iter().enumerate() {
                let Some(entry) = entry else { continue };
                debug_assert_eq!(place_of(entry.nexus), place, "a nexus names its place");
                debug_assert!(order_of(entry.nexus) <= self.begun, "its nexus was given out");
                let Identity { initiator, isid, .. } = &entry.identity;
                let port = (initiator.to_ascii_lowercase(), isid.0);
                debug_assert!(ports.insert(port), "an initiator port has one place");
            }
        }
    }

    fn free_place(&self) -> Option<usize> {
        let free = self.places.iter().position(Option::is_none).unwrap_or(self.places.len());
        (free < SESSIONS_MAX).then_some(free)
    }

    /// The most active sessions that one initiator has.
    pub(super) fn most_of_one_initiator(&self) -> usize {
        most_often(self.active().map(|entry| entry.identity.initiator.to_ascii_lowercase()))
    }

    /// The most active sessions that one address has, loopback aside.
    pub(super) fn most_of_one_host(&self) -> usize {
        most_often(self.active().filter_map(|entry| host_elsewhere(&entry.shared)))
    }
}

/// How often the one that comes most often does.
fn most_often<T: Ord>(all: impl Iterator<Item = T>) -> usize {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    for one in all {
        *counts.entry(one).or_default() += 1;
    }
    counts.into_values().max().unwrap_or(0)
}

const fn place_of(nexus: NexusId) -> usize {
    (nexus.0 & ((1 << PLACE_BITS) - 1)) as usize
}

/// Where a nexus stands in the order in which sessions began.
pub(super) const fn order_of(nexus: NexusId) -> u64 {
    nexus.0 >> PLACE_BITS
}
