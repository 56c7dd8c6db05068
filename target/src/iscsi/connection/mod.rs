//! One connection without its socket and without the controller: login, then a session, then the end.
//!
//! ```text
//!   Login ──last Login Response──► Full ──logout, error, reinstatement──► Ended
//!     └──────────────refused, too late, broken──────────────────────────────▲
//! ```

use core::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use controller::command::{LunIndex, NexusId, TaskTag};
use controller::log_limit::Suppressed;
use controller::time::Time;
use protocol::iscsi::{
    Digests, LogoutRequest, LogoutResult, Lun, TaskManagementFunction, TaskManagementRequest,
};
use protocol::scsi::lun::Address;

use self::framing::{Framed, Received, take_pdu};
use crate::iscsi::backend::Backend;

use self::shared::{SharedHalf, Step};
use crate::iscsi::login::parameters::SEGMENT_BYTES_DEFAULT;
use crate::iscsi::session::full_feature::FullFeature;
use crate::iscsi::session::logout;
use crate::iscsi::session::requests::Work;
use crate::iscsi::session::task_management::{Managed, Reach, Waiter, reach};

use crate::batch::{Batch, Flush};
use crate::iscsi::directory::FrontendConfig;
use crate::iscsi::sessions::{LOGINS_MAX, Sessions};
use crate::iscsi::visits::{Parting, Visitor};
use crate::transport::{Closed, Transport};

pub mod framing;
mod login_complete;
pub mod output;
mod pulse;
mod retention;
pub mod shared;
pub mod watch;

use login_complete::{Entered, LoginPhase, Progress, Surroundings};
use retention::RetentionPolicy;
use watch::{Due, Fault, Watch};

/// Where a connection stands.
#[derive(Debug)]
enum Phase {
    Login(Box<LoginPhase>),
    /// In full feature phase; without a nexus for discovery.
    Full(Option<NexusId>),
    Ended,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    shared: Arc<SharedHalf>,
    sessions: Arc<Sessions>,
    directory: Arc<FrontendConfig>,
    phase: Phase,
    digests: Digests,
    segment_max: u32,
    /// Input not taken because the host does not read what it is sent.
    kept: BytesMut,
    stalled: bool,
    watch: Watch,
    retention: RetentionPolicy,
    /// InitiatorName of the normal session, once there is one.
    initiator: String,
    /// Where it came from, kept for when the socket knows no more.
    ends: Option<(SocketAddr, SocketAddr)>,
}

impl Connection {
    /// A connection just accepted.
    #[must_use]
    pub fn new(
        transport: Arc<dyn Transport>,
        sessions: Arc<Sessions>,
        directory: Arc<FrontendConfig>,
        now: Time,
    ) -> Self {
        let shared = Arc::new(SharedHalf::new(transport, sessions.memory.clone()));
        let line = Self {
            shared,
            sessions,
            directory,
            phase: Phase::Login(Box::new(LoginPhase::new())),
            digests: Digests::default(),
            segment_max: SEGMENT_BYTES_DEFAULT,
            kept: BytesMut::new(),
            stalled: false,
            watch: Watch::new(now),
            retention: RetentionPolicy::default(),
            initiator: String::new(),
            ends: None,
        };
        line.visit(now);
        line
    }

    /// The connection is without a session: in its login, or it says farewell.
    fn visit(&self, now: Time) {
        let Some(oldest) = self.sessions.login_begins(self.shared.clone()) else {
            return;
        };
        let host = oldest.host().map_or_else(|| "the host".to_owned(), |host| host.ip().to_string());
        if let Some(unsaid) = self.sessions.said("login flood", &host, now) {
            tracing::warn!(
                "more than {LOGINS_MAX} connections are in their login or at their end, most of them of {host}: its \
                 oldest is closed{unsaid}"
            );
        }
        oldest.end();
    }

    /// False while the connection must not be read from: the host does not read what it is sent.
    #[must_use]
    pub const fn wants_input(&self) -> bool {
        !self.stalled
    }

    /// Takes every whole PDU out of `input`, runs them, and writes all answers together.
    pub fn receive(&mut self, input: &mut BytesMut, backend: &impl Backend) -> Result<(), Closed> {
        let now = backend.now();
        if !self.kept.is_empty() {
            self.kept.unsplit(input.split());
            core::mem::swap(input, &mut self.kept);
        }
        let shared = self.shared.clone();
        let running = shared.begin_batch();
        let batch = Batch::begin();
        let result = self.run_batch(input, backend, now);
        // First the peer and our own disk, then the host, with what they answered at once.
        drop(batch);
        shared.end_batch();
        drop(running);
        if self.stalled {
            self.kept = input.split();
        }
        result
    }

    /// The transport takes bytes again, or there is room again for work that was held.
    pub fn on_writable(&mut self, backend: &impl Backend) -> Result<(), Closed> {
        self.shared.on_writable();
        let now = backend.now();
        let shared = self.shared.clone();
        let running = shared.begin_batch();
        let batch = Batch::begin();
        if let Phase::Login(login) = &mut self.phase {
            let progress = login.retry(surroundings(&shared, &self.sessions, &self.directory), backend);
            self.after_login(progress, now);
        }
        shared.on_memory();
        let step = shared.next_work();
        self.run_work(step, backend);
        let mut input = core::mem::take(&mut self.kept);
        let result = self.run_batch(&mut input, backend, now);
        drop(batch);
        shared.end_batch();
        drop(running);
        self.kept = input;
        result
    }

    fn run_batch(&mut self, input: &mut BytesMut, backend: &impl Backend, now: Time) -> Result<(), Closed> {
        loop {
            self.stalled = self.shared.is_stalled();
            if self.stalled {
                return Ok(());
            }
            if matches!(self.phase, Phase::Ended) {
                // Whatever the host still says after the last answer is not heard.
                input.clear();
                return if self.shared.has_ended() { Err(Closed) } else { Ok(()) };
            }
            match take_pdu(input, self.digests, self.segment_max) {
                Ok(Framed::Pdu(mut pdu)) => {
                    self.watch.on_pdu(&pdu, now);
                    self.retention.apply(&mut pdu);
                    self.on_pdu(&pdu, backend, now);
                }
                Ok(Framed::Incomplete(bytes)) => {
                    self.watch.on_part(input);
                    input.reserve(bytes.saturating_sub(input.len()));
                    return Ok(());
                }
                Err(error) => {
                    if let Some((host, unsaid)) = self.says("unreadable", now) {
                        tracing::info!(
                            "what {host} sends cannot be read, its connection is closed: {error}{unsaid}"
                        );
                    }
                    self.leave(Parting::Lost, backend);
                    return Err(Closed);
                }
            }
        }
    }

    fn on_pdu(&mut self, pdu: &Received, backend: &impl Backend, now: Time) {
        match &mut self.phase {
            Phase::Full(_) => {
                let step = self.shared.on_pdu(pdu, now);
                self.run_work(step, backend);
            }
            Phase::Login(login) => {
                let around = surroundings(&self.shared, &self.sessions, &self.directory);
                let progress = login.on_pdu(pdu, around, backend);
                self.after_login(progress, now);
            }
            Phase::Ended => {}
        }
    }

    fn after_login(&mut self, progress: Progress, now: Time) {
        self.phase = match progress {
            Progress::GoesOn => return,
            Progress::Refused => Phase::Ended,
            Progress::Entered(Entered { nexus, initiator, digests, segment_max }) => {
                (self.digests, self.segment_max) = (digests, segment_max);
                if nexus.is_some() {
                    (self.initiator, self.ends) = (initiator, self.shared.ends());
                    self.sessions.visits.came(self.visitor(), now);
                }
                Phase::Full(nexus)
            }
        };
        self.watch.on_phase(now);
    }

    fn run_work(&mut self, mut step: Step, backend: &impl Backend) {
        loop {
            if step.plenty {
                self.shared.write_now();
            }
            let Some(work) = step.work else {
                return;
            };
            self.perform(work, backend);
            if !step.more {
                return;
            }
            step = self.shared.next_work();
        }
    }

    fn perform(&mut self, work: Work, backend: &impl Backend) {
        match work {
            Work::Execute(request) => {
                let tag = request.tag;
                if let Some(outcome) = backend.execute(request) {
                    let waiters = self.shared.on_outcome(tag, outcome);
                    self.sessions.release(&waiters.unwrap_or_default());
                }
            }
            Work::Manage(request) => self.manage(&request, backend),
            Work::LogOut(request) => self.log_out(&request, backend),
            Work::Close => self.say_farewell(Parting::Lost, backend),
        }
    }

    fn visitor(&self) -> Visitor<'_> {
        Visitor { initiator: &self.initiator, ends: self.ends }
    }

    /// The nexus is lost and the session forgotten; the connection itself may still have something to say.
    fn leave(&mut self, how: Parting, backend: &impl Backend) {
        match core::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Ended => return,
            Phase::Login(_) => {}
            Phase::Full(nexus) => {
                let waiters = self.shared.leave();
                self.sessions.release(&waiters);
                match nexus {
                    Some(nexus) if self.sessions.close(nexus, backend.now()) => {
                        backend.nexus_lost(nexus);
                        self.sessions.settle(nexus);
                        self.sessions.visits.went(self.visitor(), how, backend.now());
                    }
                    Some(_) => self.sessions.visits.went(self.visitor(), Parting::Replaced, backend.now()),
                    None => self.sessions.discovery_ended(&self.shared),
                }
            }
        }
        self.watch.on_phase(backend.now());
    }

    /// Time has passed.
    pub fn on_tick(&mut self, now: Time) -> Result<(), Closed> {
        let outflow = self.shared.outflow();
        let felt = self.watch.feel(&outflow, now);
        if felt.stands_still && outflow.holds_memory && self.sessions.memory.is_starved(now) {
            self.end_for(Fault::Standstill, now);
        }
        match &self.phase {
            Phase::Login(_) if self.watch.is_login_overdue(now) => self.shared.end(),
            // What it waits for may be overdue.
            Phase::Login(login) if login.is_waiting() => self.shared.wake(),
            Phase::Ended if self.watch.is_farewell_overdue(now) => self.shared.end(),
            Phase::Login(_) | Phase::Ended => {}
            Phase::Full(None) if self.watch.is_discovery_silent(now) => self.shared.end(),
            Phase::Full(None) => {}
            Phase::Full(Some(_)) => self.watch_session(felt.before_r2ts, now),
        }
        let over = match self.phase {
            Phase::Ended => self.shared.has_ended(),
            // Ended from elsewhere: nothing more will be answered.
            Phase::Login(_) | Phase::Full(_) => self.shared.has_finished(),
        };
        if over { Err(Closed) } else { Ok(()) }
    }

    /// Is the host still there, and does it do what it owes? Its R2Ts had to wait for so many bytes.
    fn watch_session(&mut self, moved: u64, now: Time) {
        let owes = self.shared.with(|session, _| {
            session.commands_mut().on_tick(moved, now);
            session.commands().owes_data(now)
        });
        match self.watch.session(owes == Some(true), now) {
            Due::End(fault) => self.end_for(fault, now),
            Due::Leaving => {}
            Due::GoesOn { rest, ping } => {
                if rest {
                    self.shared.rest();
                }
                if ping && self.shared.with(FullFeature::ping).is_some() {
                    self.shared.flush();
                }
                self.shared.look_again();
            }
        }
    }

    fn end_for(&self, fault: Fault, now: Time) {
        if let Some((host, unsaid)) = self.says(fault.kind(), now) {
            fault.log(&host, &unsaid);
        }
        self.shared.end();
    }

    /// `what` happens to this connection: its host's address if that is to be logged now. By address, because names
    /// cost a host nothing.
    fn says(&self, what: &'static str, now: Time) -> Option<(String, Suppressed)> {
        let host = self.shared.host_name();
        let unsaid = self.sessions.said(what, &host, now)?;
        Some((host, unsaid))
    }

    /// The socket is gone.
    pub fn closed(&mut self, backend: &impl Backend) {
        self.leave(Parting::Lost, backend);
        self.sessions.login_ends(&self.shared);
        self.shared.end();
    }

    fn log_out(&mut self, request: &LogoutRequest, backend: &impl Backend) {
        let Some(result) = self.shared.with(|session, _| logout::judge(request, session.cid())) else {
            return;
        };
        if result == LogoutResult::Closed {
            let busy = |session: &mut FullFeature, output: &mut _| {
                (!session.is_idle()).then(|| session.end_all(request, output))
            };
            if let Some(ended) = self.shared.with(busy).flatten() {
                return self.log_out_later(&ended, backend);
            }
        }
        // The answer is made while there is a session to number it, and the session ends before it is written.
        let _ = self.shared.with(|session, output| session.log_out(request, result, output));
        if result == LogoutResult::Closed {
            self.say_farewell(Parting::LoggedOut, backend);
        }
    }

    /// The session ends, and the connection when what it had to say is written.
    fn say_farewell(&mut self, how: Parting, backend: &impl Backend) {
        self.leave(how, backend);
        self.visit(backend.now());
        self.shared.close_when_written();
    }

    /// The session's tasks are given up first.
    fn log_out_later(&mut self, ended: &Managed, backend: &impl Backend) {
        self.watch.on_leaving(backend.now());
        self.sessions.release(&ended.waiters);
        if let Phase::Full(Some(nexus)) = self.phase {
            abort_all(nexus, &ended.aborts, backend);
        }
    }

    fn manage(&mut self, request: &TaskManagementRequest, backend: &impl Backend) {
        let Phase::Full(Some(nexus)) = self.phase else {
            return;
        };
        let tag = request.initiator_task_tag;
        let exists = unit_of(&request.lun, backend).is_some();
        let Some(managed) = self.shared.with(|session, output| session.manage(request, exists, output))
        else {
            return;
        };
        self.sessions.release(&managed.waiters);
        abort_all(nexus, &managed.aborts, backend);
        if !managed.waits {
            return;
        }
        if let Ok(reach @ (Reach::Unit | Reach::Target)) = reach(request.function) {
            let waiter = Waiter { nexus, function: tag };
            for (other, shared) in self.sessions.others(nexus) {
                let reached =
                    shared.with(|session, output| session.abort_for(&request.lun, reach, waiter, output));
                let reached = reached.unwrap_or_default();
                let count = reached.aborts.len() as i64;
                let _ = self.shared.with(|session, output| session.release(tag, count, output));
                self.sessions.release(&reached.waiters);
                abort_all(other, &reached.aborts, backend);
                shared.flush();
            }
        }
        for lun in resets(request, backend) {
            let _ = self.shared.with(|session, output| session.release(tag, 1, output));
            backend.reset(lun, nexus, TaskTag::of(tag));
        }
        let _ = self.shared.with(|session, output| session.release(tag, -1, output));
        if request.function == TaskManagementFunction::TargetColdReset {
            self.cold_reset(nexus);
        }
    }

    /// TARGET COLD RESET is "a power-on event, thus terminating all of its TCP connections" (11.5.1).
    fn cold_reset(&self, nexus: NexusId) {
        for (_, shared) in self.sessions.others(nexus) {
            shared.end();
        }
        let _ = self.shared.with(|session, _| session.close_when_answered());
    }
}

const fn surroundings<'a>(
    shared: &'a Arc<SharedHalf>,
    sessions: &'a Arc<Sessions>,
    directory: &'a Arc<FrontendConfig>,
) -> Surroundings<'a> {
    Surroundings { shared, sessions, directory }
}

/// The LUNs that a function resets.
fn resets(request: &TaskManagementRequest, backend: &impl Backend) -> Vec<LunIndex> {
    use TaskManagementFunction as F;
    match request.function {
        F::LogicalUnitReset => unit_of(&request.lun, backend).into_iter().collect(),
        F::TargetWarmReset | F::TargetColdReset => backend.luns(),
        _ => Vec::new(),
    }
}

fn unit_of(lun: &Lun, backend: &impl Backend) -> Option<LunIndex> {
    match Address::decode(lun) {
        Address::Unit(number) => backend.lun(number),
        Address::ReportLuns | Address::Other => None,
    }
}

fn abort_all(nexus: NexusId, tasks: &[(Lun, u32)], backend: &impl Backend) {
    for (lun, tag) in tasks {
        if let Some(lun) = unit_of(lun, backend) {
            backend.abort(lun, nexus, TaskTag::of(*tag));
        }
    }
}

#[cfg(test)]
mod tests;
