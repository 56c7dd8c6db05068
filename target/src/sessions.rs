//! All sessions of one controller by nexus: where outcomes find their connection.
//!
//! A nexus id names its place in the table in its low bits, so that an outcome finds its session without a
//! search; the rest counts, so that no id is used twice.
//!
//! A session that is over keeps its place until its last command has ended, for nothing it sent may take effect once
//! its initiator port has a new one (RFC 7143 6.3.5: reinstatement is a logout, 11.14: which ends all commands):
//!
//! ```text
//!   there ──logout: its commands have ended already─────────────────────────► free
//!     └──connection lost, reinstated──► departed ──last outcome, or overdue──► free, or the waiting login's
//! ```

use core::cmp::Reverse;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};

use controller::command::{COMMAND_AGE_MAX, NexusId, Outcome, TaskTag};
use controller::log_limit::{LogLimiter, Suppressed};
use controller::time::Time;
use parking_lot::{Mutex, RwLock};
use protocol::iscsi::{AsyncEvent, Isid};

use crate::portal::CONNECTIONS_MAX;
use crate::run::cork::{self, Due, Flush};

use crate::session::link::Link;
use crate::session::memory::Memory;
use crate::session::task_management::Waiter;
use crate::session::usage::Usage;
use crate::visits::Visits;

/// Normal sessions of one controller at most.
pub const SESSIONS_MAX: usize = 1024;

/// Normal sessions of one initiator (by its InitiatorName) on one controller at most: an eighth of them, so that others
/// find room whatever it does. A host that uses several paths has one for each, a virtual machine monitor perhaps one for
/// each disk.
pub const INITIATOR_SESSIONS_MAX: usize = SESSIONS_MAX / 8;

/// Normal sessions of one address, whatever it calls itself, on one controller at most: three quarters of them, so that
/// other hosts find room. A machine that is a gateway for many has the most of them, and loopback all.
pub const HOST_SESSIONS_MAX: usize = SESSIONS_MAX / 4 * 3;

/// Discovery sessions of one controller at most; one more ends the oldest of the host that has most of them.
pub const DISCOVERIES_MAX: usize = 128;

/// Connections without a session at most, in their login or saying farewell; one more ends the oldest of the host that
/// has most of them, so that a flood of half-open logins keeps nobody out but itself.
pub const LOGINS_MAX: usize = 256;

/// How long a login waits for the commands of the session before it. What main has not admitted by then is too old
/// for it, however long it was on its way; what main has admitted comes before whatever a new session sends.
pub const DEPARTED_TIME_MAX: Duration = COMMAND_AGE_MAX.saturating_add(Duration::from_secs(1));

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
pub(crate) enum Beginning {
    /// A place.
    Begun(Begun),
    /// A session of the same initiator port, which has departed with this: it has to be ended.
    Replaces(NexusId, Arc<Link>),
    /// One that has departed, with commands that have not ended: the login waits, and is woken.
    Waits,
    /// Too many sessions of this initiator, or of its host.
    Crowded(Share),
    /// Too many sessions.
    Full,
    /// The session it was to continue is not there any more.
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

/// A session as status shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionView {
    /// InitiatorName.
    pub initiator: String,
    /// InitiatorAlias, empty if none was given.
    pub alias: String,
    /// The session's nexus.
    pub nexus: NexusId,
    /// When it began.
    pub since: Time,
    /// The host's address and the portal's.
    pub ends: Option<(SocketAddr, SocketAddr)>,
    /// What it uses of its bounds.
    pub usage: Usage,
}

#[derive(Debug)]
struct Entry {
    nexus: NexusId,
    identity: Identity,
    cid: u16,
    link: Arc<Link>,
    departed: Option<Departed>,
}

impl Entry {
    const fn is_there(&self) -> bool {
        self.departed.is_none()
    }

    fn is_settled(&self) -> bool {
        self.departed.is_some() && self.link.is_settled()
    }

    /// Whether a login waits for the commands of this session.
    fn is_awaited(&self, now: Time) -> bool {
        let overdue = |departed: &Departed| now.since(departed.since) >= DEPARTED_TIME_MAX;
        !self.link.is_settled() && !self.departed.as_ref().is_some_and(overdue)
    }
}

/// The session is over, but perhaps not its commands.
#[derive(Debug)]
struct Departed {
    since: Time,
    /// Logins that wait for its place.
    waiting: Vec<Arc<Link>>,
}

impl Departed {
    /// True if it was enlisted.
    fn leave_out(&mut self, link: &Arc<Link>) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|known| !Arc::ptr_eq(known, link));
        self.waiting.len() < before
    }
}

#[derive(Debug, Default)]
struct Table {
    places: Vec<Option<Entry>>,
    begun: u64,
    /// The most sessions there ever were.
    peak: usize,
}

impl Table {
    fn get(&self, nexus: NexusId) -> Option<&Entry> {
        let entry = self.places.get(place_of(nexus))?.as_ref()?;
        (entry.nexus == nexus).then_some(entry)
    }

    fn get_mut(&mut self, nexus: NexusId) -> Option<&mut Entry> {
        let entry = self.places.get_mut(place_of(nexus))?.as_mut()?;
        (entry.nexus == nexus).then_some(entry)
    }

    fn there(&self) -> impl Iterator<Item = &Entry> {
        self.places.iter().flatten().filter(|entry| entry.is_there())
    }

    fn find(&self, initiator: &str, isid: Isid) -> Option<usize> {
        self.places.iter().position(|place| {
            place.as_ref().is_some_and(|entry| {
                entry.identity.isid == isid && entry.identity.initiator.eq_ignore_ascii_case(initiator)
            })
        })
    }

    /// A session that is there departs.
    fn depart(&mut self, at: usize, now: Time) -> Option<(NexusId, Arc<Link>)> {
        let entry = self.places.get_mut(at)?.as_mut().filter(|entry| entry.is_there())?;
        entry.departed = Some(Departed { since: now, waiting: Vec::new() });
        Some((entry.nexus, entry.link.clone()))
    }

    /// A login waits for the place of a departed session.
    fn enlist(&mut self, at: usize, link: &Arc<Link>) {
        let departed = self.places[at].as_mut().and_then(|entry| entry.departed.as_mut());
        if let Some(departed) = departed
            && !departed.waiting.iter().any(|known| Arc::ptr_eq(known, link))
        {
            departed.waiting.push(Arc::clone(link));
        }
    }

    /// A departed session gives up its place, if nothing of it is awaited and no login waits for it.
    fn forget_settled(&mut self, at: usize) {
        if let Some(place) = self.places.get_mut(at) {
            let over = |entry: &mut Entry| {
                entry.is_settled()
                    && entry.departed.as_ref().is_some_and(|departed| departed.waiting.is_empty())
            };
            let _ = place.take_if(over);
        }
    }

    /// Places that sessions of an initiator have, those that have departed among them.
    fn places_of(&self, initiator: &str) -> usize {
        let own = |entry: &&Entry| entry.identity.initiator.eq_ignore_ascii_case(initiator);
        self.places.iter().flatten().filter(own).count()
    }

    /// The share that one more session of this initiator on this connection would go beyond. Hosts are counted only
    /// when so many places are taken that one of them may have all of them.
    fn crowded(&self, initiator: &str, link: &Link) -> Option<Share> {
        if self.places_of(initiator) >= INITIATOR_SESSIONS_MAX {
            return Some(Share::Initiator);
        }
        let taken = || self.places.iter().flatten();
        let host = host_elsewhere(link)?;
        let of_host = || taken().filter(|entry| host_elsewhere(&entry.link) == Some(host)).count();
        let full = taken().count() >= HOST_SESSIONS_MAX && of_host() >= HOST_SESSIONS_MAX;
        full.then_some(Share::Host)
    }

    fn free_place(&self) -> Option<usize> {
        let free = self.places.iter().position(Option::is_none).unwrap_or(self.places.len());
        (free < SESSIONS_MAX).then_some(free)
    }
}

fn host_of(link: &Link) -> Option<IpAddr> {
    link.host().map(|host| host.ip())
}

/// The same where it is another machine, in its one form (RFC 4291 2.5.5.2).
fn host_elsewhere(link: &Link) -> Option<IpAddr> {
    host_of(link).map(|host| host.to_canonical()).filter(|host| !host.is_loopback())
}

/// The first of the host that occurs most often, and of several such hosts of the one that comes first.
fn oldest_of_the_most(hosts: impl Iterator<Item = Option<IpAddr>>) -> Option<usize> {
    let mut counts: BTreeMap<Option<IpAddr>, (usize, usize)> = BTreeMap::new();
    for (at, host) in hosts.enumerate() {
        counts.entry(host).or_insert((0, at)).0 += 1;
    }
    counts.into_values().max_by_key(|(count, oldest)| (*count, Reverse(*oldest))).map(|(_, oldest)| oldest)
}

const fn place_of(nexus: NexusId) -> usize {
    (nexus.0 & ((1 << PLACE_BITS) - 1)) as usize
}

/// The sessions in full feature phase.
#[derive(Debug, Default)]
pub struct Sessions {
    table: RwLock<Table>,
    /// What they hold together.
    pub(crate) memory: Arc<Memory>,
    /// In the order in which they began.
    discoveries: Mutex<VecDeque<(Discovering, Arc<Link>)>>,
    discoveries_begun: AtomicU16,
    /// Connections without a session, with their hosts, in the order in which they came.
    logins: Mutex<VecDeque<(Option<IpAddr>, Arc<Link>)>>,
    /// The controller is ending: nobody logs in any more.
    ending: AtomicBool,
    /// Connections open, logged in or not.
    pub(crate) connections: AtomicUsize,
    /// The most there ever were.
    pub(crate) connections_peak: AtomicUsize,
    /// For so many of [`CONNECTIONS_MAX`] there are no file descriptors.
    connections_without: usize,
    /// When one was last refused for its number, in nanoseconds; zero: never.
    connection_refused: AtomicU64,
    /// What was logged of hosts.
    said: Mutex<LogLimiter>,
    /// Who came and went.
    pub(crate) visits: Visits,
}

impl Sessions {
    /// A table for as many connections as there are file descriptors for.
    #[must_use]
    pub fn for_at_most(connections: usize) -> Self {
        Self { connections_without: CONNECTIONS_MAX.saturating_sub(connections), ..Self::default() }
    }

    /// Connections at most.
    pub(crate) const fn connections_most(&self) -> usize {
        CONNECTIONS_MAX - self.connections_without
    }

    /// A connection was refused because there are too many.
    pub(crate) fn connection_refused(&self, now: Time) {
        self.connection_refused.store(now.0.max(1), Ordering::Relaxed);
    }

    /// When one was last refused for that.
    pub(crate) fn last_refused(&self) -> Option<Time> {
        Some(self.connection_refused.load(Ordering::Relaxed)).filter(|at| *at > 0).map(Time)
    }

    /// `what` happened with `whom`, a host. `Some` if it is to be logged now.
    pub(crate) fn said(&self, what: &'static str, whom: &str, now: Time) -> Option<Suppressed> {
        self.said.lock().happens(what, whom, now)
    }

    /// Different things that are remembered to have been logged.
    pub(crate) fn things_said(&self) -> usize {
        self.said.lock().count()
    }

    /// Turns an outcome into PDUs on the nexus's connection and sends them, with the batch that is open on this
    /// thread or connection, if one is. From any thread.
    pub fn answer(&self, nexus: NexusId, tag: TaskTag, outcome: Outcome) {
        let Some(link) = self.link(nexus) else {
            return;
        };
        let Some(waiters) = link.on_outcome(tag, outcome) else {
            return self.settle(nexus);
        };
        let output: Arc<dyn Flush> = link;
        if !cork::flush_at_end(&output, Due::AfterDisk) {
            output.flush();
        }
        self.release(&waiters);
    }

    /// Every session, oldest first, for status.
    #[must_use]
    pub fn list(&self) -> Vec<SessionView> {
        let table = self.table.read();
        let view = |entry: &Entry| SessionView {
            initiator: entry.identity.initiator.clone(),
            alias: entry.identity.alias.clone(),
            nexus: entry.nexus,
            since: entry.link.since(),
            ends: entry.link.ends(),
            usage: entry.link.usage(),
        };
        let mut views: Vec<SessionView> = table.there().map(view).collect();
        views.sort_by_key(|view| view.nexus.0 >> PLACE_BITS);
        views
    }

    /// Connections in their login, and discovery sessions.
    #[must_use]
    pub fn visitors(&self) -> (usize, usize) {
        (self.logins.lock().len(), self.discoveries.lock().len())
    }

    /// The most sessions there ever were at once.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.table.read().peak
    }

    /// The most sessions that one initiator has.
    #[must_use]
    pub fn most_of_one_initiator(&self) -> usize {
        let table = self.table.read();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for entry in table.there() {
            *counts.entry(entry.identity.initiator.to_ascii_lowercase()).or_default() += 1;
        }
        counts.into_values().max().unwrap_or(0)
    }

    /// The most sessions that one address has, loopback aside.
    #[must_use]
    pub fn most_of_one_host(&self) -> usize {
        let table = self.table.read();
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for host in table.there().filter_map(|entry| host_elsewhere(&entry.link)) {
            *counts.entry(host).or_default() += 1;
        }
        counts.into_values().max().unwrap_or(0)
    }

    fn link(&self, nexus: NexusId) -> Option<Arc<Link>> {
        self.table.read().get(nexus).map(|entry| entry.link.clone())
    }

    /// A login succeeded: the session begins, by itself or, with its handle in `continues`, on a new connection
    /// (RFC 7143 6.3.4). Not before those of the same initiator port have ended: what is to be done first, if anything,
    /// is in the answer; then it is asked again.
    pub(crate) fn begin(
        &self,
        identity: &Identity,
        cid: u16,
        link: &Arc<Link>,
        continues: Option<u16>,
        now: Time,
    ) -> Beginning {
        let mut table = self.table.write();
        let old = table.find(&identity.initiator, identity.isid);
        let same = |at: usize| continues.is_none_or(|tsih| at + 1 == usize::from(tsih));
        if let Some(at) = old {
            if !same(at) {
                return Beginning::Gone;
            }
            if let Some((nexus, replaced)) = table.depart(at, now) {
                table.enlist(at, link);
                return Beginning::Replaces(nexus, replaced);
            }
            if table.places[at].as_ref().is_some_and(|entry| entry.is_awaited(now)) {
                table.enlist(at, link);
                return Beginning::Waits;
            }
            table.places[at] = None;
        }
        let place = match (old, continues) {
            (None, Some(_)) => return Beginning::Gone,
            (Some(at), Some(_)) => at,
            (_, None) => match (table.crowded(&identity.initiator, link), table.free_place()) {
                (Some(share), _) => return Beginning::Crowded(share),
                (None, None) => return Beginning::Full,
                (None, Some(at)) => at,
            },
        };
        let (identity, link) = (identity.clone(), Arc::clone(link));
        Beginning::Begun(Self::occupy(&mut table, place, identity, cid, link))
    }

    fn occupy(table: &mut Table, place: usize, identity: Identity, cid: u16, link: Arc<Link>) -> Begun {
        table.begun += 1;
        let nexus = NexusId(table.begun << PLACE_BITS | place as u64);
        let entry = Some(Entry { nexus, identity, cid, link, departed: None });
        if place == table.places.len() {
            table.places.push(entry);
        } else {
            table.places[place] = entry;
        }
        table.peak = table.peak.max(table.there().count());
        Begun { nexus, tsih: place as u16 + 1 }
    }

    /// The normal session of an initiator port departs: a discovery session takes its place.
    pub(crate) fn take(&self, initiator: &str, isid: Isid, now: Time) -> Option<(NexusId, Arc<Link>)> {
        let mut table = self.table.write();
        table.find(initiator, isid).and_then(|at| table.depart(at, now))
    }

    /// A session is over. False if it has departed already. When the controller knows of it, and the link holds no
    /// session any more, [`Sessions::settle`] follows.
    pub(crate) fn depart(&self, nexus: NexusId, now: Time) -> bool {
        let mut table = self.table.write();
        table.get(nexus).is_some() && table.depart(place_of(nexus), now).is_some()
    }

    /// The place of a departed session is free, or that of a login that waits for it, if its last command has ended.
    pub(crate) fn settle(&self, nexus: NexusId) {
        let mut table = self.table.write();
        let Some(entry) = table.get_mut(nexus).filter(|entry| entry.is_settled()) else {
            return;
        };
        let waiting = entry.departed.as_ref().map(|departed| departed.waiting.clone()).unwrap_or_default();
        table.forget_settled(place_of(nexus));
        drop(table);
        waiting.iter().for_each(|link| link.wake());
    }

    /// The normal session that has this handle.
    pub(crate) fn existing(&self, tsih: u16) -> Option<Existing> {
        let table = self.table.read();
        let entry = table.places.get(usize::from(tsih).checked_sub(1)?)?.as_ref()?;
        let entry = Some(entry).filter(|entry| entry.is_there())?;
        let Identity { initiator, isid, .. } = entry.identity.clone();
        Some(Existing { initiator, isid, cid: entry.cid })
    }

    /// A discovery session begins: its handle, and the connections of those that end for it.
    pub(crate) fn begin_discovery(&self, new: Discovering, link: Arc<Link>) -> (u16, Vec<Arc<Link>>) {
        let discoveries = &mut *self.discoveries.lock();
        let mut ended = Vec::new();
        discoveries.retain(|(old, link)| {
            let stays = !new.reinstates(old);
            if !stays {
                ended.push(Arc::clone(link));
            }
            stays
        });
        if discoveries.len() >= DISCOVERIES_MAX {
            let hosts = discoveries.iter().map(|(_, link)| host_of(link));
            let oldest = oldest_of_the_most(hosts).and_then(|oldest| discoveries.remove(oldest));
            ended.extend(oldest.map(|(_, link)| link));
        }
        discoveries.push_back((new, link));
        let count = self.discoveries_begun.fetch_add(1, Ordering::Relaxed);
        (DISCOVERY_TSIH | count, ended)
    }

    /// A named discovery session of this initiator port, which a normal session takes the place of (7.4.2.2).
    pub(crate) fn end_named_discovery(&self, initiator: &str, isid: Isid) -> Option<Arc<Link>> {
        let discoveries = &mut *self.discoveries.lock();
        let at = discoveries.iter().position(|(old, _)| {
            old.named && old.isid == isid && old.initiator.eq_ignore_ascii_case(initiator)
        })?;
        discoveries.remove(at).map(|(_, link)| link)
    }

    /// A discovery session ended.
    pub(crate) fn discovery_ended(&self, link: &Arc<Link>) {
        self.discoveries.lock().retain(|(_, known)| !Arc::ptr_eq(known, link));
    }

    /// A connection begins its login, or its farewell. Gives the one that has to end for it, if there are too many.
    pub(crate) fn login_begins(&self, link: Arc<Link>) -> Option<Arc<Link>> {
        let logins = &mut *self.logins.lock();
        let oldest = if logins.len() >= LOGINS_MAX {
            oldest_of_the_most(logins.iter().map(|(host, _)| *host)).and_then(|oldest| logins.remove(oldest))
        } else {
            None
        };
        logins.push_back((host_of(&link), link));
        oldest.map(|(_, link)| link)
    }

    /// A connection's login is over, or its farewell.
    pub(crate) fn login_ends(&self, link: &Arc<Link>) {
        self.logins.lock().retain(|(_, known)| !Arc::ptr_eq(known, link));
        self.wants_no_place(link);
    }

    /// A login does not wait for the place of a session that has departed any more.
    pub(crate) fn wants_no_place(&self, link: &Arc<Link>) {
        let mut table = self.table.write();
        for at in 0..table.places.len() {
            let departed = table.places[at].as_mut().and_then(|entry| entry.departed.as_mut());
            let waited = departed.is_some_and(|departed| departed.leave_out(link));
            if waited {
                table.forget_settled(at);
            }
        }
    }

    /// Nobody logs in any more, and every host is asked to log out (RFC 7143 11.9.1).
    pub fn ask_to_leave(&self, within: Duration) {
        self.ending.store(true, Ordering::Release);
        let within = u16::try_from(within.as_secs()).unwrap_or(u16::MAX);
        for link in self.links() {
            let asked = AsyncEvent::LogoutRequest { within };
            let _ = link.with(|session, output| session.announce(asked, output));
            link.flush();
        }
    }

    /// True once the controller is ending.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Tells every host that is still there that its connection ends, and ends it.
    pub fn dismiss_all(&self) {
        for link in self.links() {
            let _ = link.with(|session, output| {
                let dropped =
                    AsyncEvent::ConnectionDrop { cid: session.cid(), time_2_wait: 0, time_2_retain: 0 };
                session.announce(dropped, output);
            });
            link.close_when_written();
            link.flush();
        }
    }

    /// How many normal sessions there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.table.read().there().count()
    }

    fn links(&self) -> Vec<Arc<Link>> {
        self.table.read().there().map(|entry| entry.link.clone()).collect()
    }

    /// Every session but this one.
    pub(crate) fn others(&self, nexus: NexusId) -> Vec<(NexusId, Arc<Link>)> {
        let table = self.table.read();
        let entries = table.there().filter(|entry| entry.nexus != nexus);
        entries.map(|entry| (entry.nexus, entry.link.clone())).collect()
    }

    /// Tells task management functions of other sessions that tasks they waited for have ended.
    pub(crate) fn release(&self, waiters: &[Waiter]) {
        for waiter in waiters {
            if let Some(link) = self.link(waiter.nexus) {
                let _ = link.with(|session, output| session.release(waiter.function, -1, output));
                link.flush();
            }
        }
    }
}
