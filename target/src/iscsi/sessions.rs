//! All sessions of one controller: where outcomes find their connection, and who may log in.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use controller::command::{NexusId, Outcome, TaskTag};
use controller::log_limit::{LogLimiter, Suppressed};
use controller::time::Time;
use parking_lot::{Mutex, RwLock};
use protocol::iscsi::{AsyncEvent, Isid};

use self::discoveries::Discoveries;
use self::half_open::HalfOpen;
use self::table::{Entry, Table, order_of};
use crate::batch::{self, Due, Flush};
use crate::iscsi::connection::shared::SharedHalf;
use crate::iscsi::memory_pool::Pool;
use crate::iscsi::session::task_management::Waiter;
use crate::iscsi::session::usage::Usage;
use crate::iscsi::visits::Visits;
use crate::portal::CONNECTIONS_MAX;

mod discoveries;
mod half_open;
mod hosts;
mod table;

pub use self::discoveries::{DISCOVERIES_MAX, Discovering};
pub use self::half_open::LOGINS_MAX;
pub use self::table::{
    Begun, DEPARTED_TIME_MAX, Existing, HOST_SESSIONS_MAX, INITIATOR_SESSIONS_MAX, Identity, SESSIONS_MAX,
};
pub(crate) use self::table::{LoginAdmission, Share};

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

/// The sessions in full feature phase.
#[derive(Debug, Default)]
pub struct Sessions {
    table: RwLock<Table>,
    /// What they hold together.
    pub(crate) memory: Arc<Pool>,
    discoveries: Mutex<Discoveries>,
    half_open: Mutex<HalfOpen>,
    /// The controller is ending: no host may log in any more.
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
        let Some(shared) = self.shared(nexus) else {
            return;
        };
        let Some(waiters) = shared.on_outcome(tag, outcome) else {
            return self.settle(nexus);
        };
        let output: Arc<dyn Flush> = shared;
        if !batch::flush_at_end(&output, Due::AfterDisk) {
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
            since: entry.shared.since(),
            ends: entry.shared.ends(),
            usage: entry.shared.usage(),
        };
        let mut views: Vec<SessionView> = table.active().map(view).collect();
        views.sort_by_key(|view| order_of(view.nexus));
        views
    }

    /// Connections without a session.
    #[must_use]
    pub fn half_open(&self) -> usize {
        self.half_open.lock().count()
    }

    /// Discovery sessions.
    #[must_use]
    pub fn discoveries(&self) -> usize {
        self.discoveries.lock().count()
    }

    /// The most sessions there ever were at once.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.table.read().peak()
    }

    /// The most sessions that one initiator has.
    #[must_use]
    pub fn most_of_one_initiator(&self) -> usize {
        self.table.read().most_of_one_initiator()
    }

    /// The most sessions that one address has, loopback aside.
    #[must_use]
    pub fn most_of_one_host(&self) -> usize {
        self.table.read().most_of_one_host()
    }

    fn shared(&self, nexus: NexusId) -> Option<Arc<SharedHalf>> {
        self.table.read().get(nexus).map(|entry| entry.shared.clone())
    }

    /// A login succeeded: the session begins, by itself or, with its handle in `continues`, on a new connection. What
    /// is to be done first, if anything, is in the answer; then it is asked again.
    pub(crate) fn begin(
        &self,
        identity: &Identity,
        cid: u16,
        shared: &Arc<SharedHalf>,
        continues: Option<u16>,
        now: Time,
    ) -> LoginAdmission {
        self.table.write().begin(identity, cid, shared, continues, now)
    }

    /// The normal session of an initiator port is over: a discovery session takes its place.
    pub(crate) fn close_port(
        &self,
        initiator: &str,
        isid: Isid,
        now: Time,
    ) -> Option<(NexusId, Arc<SharedHalf>)> {
        self.table.write().close_port(initiator, isid, now)
    }

    /// A session is over. False if it is closing already. When the controller knows of it, and the shared holds no
    /// session any more, [`Sessions::settle`] follows.
    pub(crate) fn close(&self, nexus: NexusId, now: Time) -> bool {
        self.table.write().close(nexus, now)
    }

    /// The place of a closing session is free, or that of a login that waits for it, if its last command has ended.
    pub(crate) fn settle(&self, nexus: NexusId) {
        let waiting = self.table.write().settle(nexus);
        waiting.iter().for_each(|shared| shared.wake());
    }

    /// The normal session that has this handle.
    pub(crate) fn existing(&self, tsih: u16) -> Option<Existing> {
        self.table.read().existing(tsih)
    }

    /// A discovery session begins: its handle, and the connections of those that end for it.
    pub(crate) fn begin_discovery(
        &self,
        new: Discovering,
        shared: Arc<SharedHalf>,
    ) -> (u16, Vec<Arc<SharedHalf>>) {
        self.discoveries.lock().begin(new, shared)
    }

    /// Takes out a named discovery session of this initiator port, which a normal session takes the place of.
    pub(crate) fn take_named_discovery(&self, initiator: &str, isid: Isid) -> Option<Arc<SharedHalf>> {
        self.discoveries.lock().take_named(initiator, isid)
    }

    /// A discovery session ended.
    pub(crate) fn discovery_ended(&self, shared: &Arc<SharedHalf>) {
        self.discoveries.lock().end(shared);
    }

    /// A connection begins its login, or its farewell. Gives the one that has to end for it, if there are too many.
    pub(crate) fn login_begins(&self, shared: Arc<SharedHalf>) -> Option<Arc<SharedHalf>> {
        self.half_open.lock().begin(shared)
    }

    /// A connection's login is over, or its farewell.
    pub(crate) fn login_ends(&self, shared: &Arc<SharedHalf>) {
        self.half_open.lock().end(shared);
        self.wait_no_more(shared);
    }

    /// A login does not wait for the place of a closing session any more.
    pub(crate) fn wait_no_more(&self, shared: &Arc<SharedHalf>) {
        self.table.write().wait_no_more(shared);
    }

    /// No host may log in any more, and every host is asked to log out (RFC 7143 11.9.1).
    pub fn ask_to_leave(&self, within: Duration) {
        self.ending.store(true, Ordering::Release);
        let within = u16::try_from(within.as_secs()).unwrap_or(u16::MAX);
        for shared in self.links() {
            let asked = AsyncEvent::LogoutRequest { within };
            let _ = shared.with(|session, output| session.announce(asked, output));
            shared.flush();
        }
    }

    /// True once the controller is ending.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Tells every host that is still there that its connection ends, and ends it.
    pub fn dismiss_all(&self) {
        for shared in self.links() {
            let _ = shared.with(|session, output| {
                let dropped =
                    AsyncEvent::ConnectionDrop { cid: session.cid(), time_2_wait: 0, time_2_retain: 0 };
                session.announce(dropped, output);
            });
            shared.close_when_written();
            shared.flush();
        }
    }

    /// How many normal sessions there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.table.read().active().count()
    }

    fn links(&self) -> Vec<Arc<SharedHalf>> {
        self.table.read().active().map(|entry| entry.shared.clone()).collect()
    }

    /// Every session but this one.
    pub(crate) fn others(&self, nexus: NexusId) -> Vec<(NexusId, Arc<SharedHalf>)> {
        let table = self.table.read();
        let entries = table.active().filter(|entry| entry.nexus != nexus);
        entries.map(|entry| (entry.nexus, entry.shared.clone())).collect()
    }

    /// Tells task management functions of other sessions that tasks they waited for have ended.
    pub(crate) fn release(&self, waiters: &[Waiter]) {
        for waiter in waiters {
            if let Some(shared) = self.shared(waiter.nexus) {
                let _ = shared.with(|session, output| session.release(waiter.function, -1, output));
                shared.flush();
            }
        }
    }
}
