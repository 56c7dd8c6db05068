//! One connection without its socket and without the controller: login, then a session, then the end.
//!
//! ```text
//!   Login ──last Login Response──► Full ──logout, error, reinstatement──► Ended
//!     └──────────────refused, too late, broken──────────────────────────────▲
//! ```

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use controller::command::{LunIndex, NexusId, TaskTag};
use controller::time::Time;
use protocol::iscsi::{
    Digests, LogoutRequest, LogoutResult, Lun, Opcode, StatSn, TaskManagementFunction, TaskManagementRequest,
};
use protocol::scsi::lun::Address;

use super::backend::Backend;
use super::cut::{Cut, Received, cut};

use super::full_feature::FullFeature;
use super::link::{Link, Step};
use super::login::Login;
use super::logout;
use super::parameters::SEGMENT_BYTES_DEFAULT;
use super::requests::Work;
use super::task_management::{Managed, Reach, Waiter, reach};

use crate::connection::{Closed, Transport};
use crate::frontend::FrontendConfig;
use crate::run::cork::{Batch, Flush};
use crate::sessions::{LOGINS_MAX, Sessions};
use crate::visits::{Parting, Visitor};

mod entrance;
mod pulse;
mod watching;

use entrance::Waiting;
use pulse::Pulse;

/// How long a login may take.
pub const LOGIN_TIME_MAX: Duration = Duration::from_secs(15);

/// A host not heard from for this long has its connection's spare memory taken.
const REST_AFTER: Duration = Duration::from_secs(3);

/// A host not heard from for this long is asked whether it is there.
pub const PING_AFTER: Duration = Duration::from_secs(10);

/// A host that does not answer for this long is given up. One that waits for a long operation may let a minute pass
/// between two looks at its connection.
pub const PING_ANSWER_MAX: Duration = Duration::from_secs(60);

/// A discovery session not heard from for this long is ended: on it nothing is asked (RFC 7143 7.4.3).
pub const DISCOVERY_SILENCE_MAX: Duration = Duration::from_secs(300);

/// Data that stays may keep this many times its length alive of what came with it; what would keep more is copied.
const WASTE_MAX: u64 = 4;

/// After so many bytes what came before is forgotten in that reckoning.
const RECKONED_BYTES: u64 = 4 * 1024 * 1024;

/// How long a Logout waits for the commands of its session; then the connection ends without an answer.
pub const LOGOUT_TIME_MAX: Duration = Duration::from_secs(10);

/// How long nothing of what a connection said last may leave, or how long its host may take to close it, before it is
/// closed anyway.
pub const FAREWELL_MAX: Duration = Duration::from_secs(5);

/// Where a connection stands.
#[derive(Debug)]
enum Phase {
    Login(Box<Login>),
    /// In full feature phase; without a nexus for discovery.
    Full(Option<NexusId>),
    Ended,
}

/// One connection.
#[derive(Debug)]
pub struct Line {
    link: Arc<Link>,
    sessions: Arc<Sessions>,
    directory: Arc<FrontendConfig>,
    phase: Phase,
    stat_sn: StatSn,
    digests: Digests,
    segment_max: u32,
    /// Input not taken because the host does not read what it is sent.
    kept: BytesMut,
    stalled: bool,
    phase_since: Time,
    /// When the last whole PDU came, or enough of one.
    heard: Time,
    pinged: Option<Time>,
    pulse: Pulse,
    /// A Logout waits to be answered.
    leaving: Option<Time>,
    /// A login waits for the commands of the session before it.
    waiting: Option<Box<Waiting>>,
    thrift: Thrift,
    /// InitiatorName of the normal session, once there is one.
    initiator: String,
    /// Where it came from, kept for when the socket knows no more.
    ends: Option<(SocketAddr, SocketAddr)>,
}

/// What a connection brought lately: data that stays in memory until its command is done shares that memory with
/// what came beside it.
#[derive(Clone, Copy, Debug, Default)]
struct Thrift {
    kept: u64,
    passed: u64,
}

impl Thrift {
    /// Counts a PDU in, and copies its data if that saves memory out of proportion.
    fn keep(&mut self, pdu: &mut Received) {
        const COMMAND: u8 = Opcode::ScsiCommand as u8;
        const DATA_OUT: u8 = Opcode::DataOut as u8;
        let length = pdu.data.as_ref().map_or(0, |data| data.len() as u64);
        self.passed += pdu.bhs.len() as u64;
        if length == 0 {
            return;
        }
        if !matches!(Opcode::value_of(&pdu.bhs), COMMAND | DATA_OUT) {
            self.passed += length;
            return;
        }
        self.kept += length;
        if self.passed > WASTE_MAX * self.kept {
            pdu.data = pdu.data.as_deref().map(Bytes::copy_from_slice);
        }
        if self.kept + self.passed > RECKONED_BYTES {
            self.kept /= 2;
            self.passed /= 2;
        }
    }
}

impl Line {
    /// A connection just accepted.
    #[must_use]
    pub fn new(
        transport: Arc<dyn Transport>,
        sessions: Arc<Sessions>,
        directory: Arc<FrontendConfig>,
        now: Time,
    ) -> Self {
        let link = Arc::new(Link::new(transport, sessions.memory.clone()));
        let line = Self {
            link,
            sessions,
            directory,
            phase: Phase::Login(Box::new(Login::new())),
            stat_sn: StatSn(0),
            digests: Digests::default(),
            segment_max: SEGMENT_BYTES_DEFAULT,
            kept: BytesMut::new(),
            stalled: false,
            phase_since: now,
            heard: now,
            pinged: None,
            pulse: Pulse::new(now),
            leaving: None,
            waiting: None,
            thrift: Thrift::default(),
            initiator: String::new(),
            ends: None,
        };
        line.visit(now);
        line
    }

    /// The connection is without a session: in its login, or it says farewell.
    fn visit(&self, now: Time) {
        let Some(oldest) = self.sessions.login_begins(self.link.clone()) else {
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
        let link = self.link.clone();
        let running = link.begin_batch();
        let batch = Batch::begin();
        let result = self.run_batch(input, backend, now);
        // First the peer and the own disk, then the host, with what they answered at once.
        drop(batch);
        link.end_batch();
        drop(running);
        if self.stalled {
            self.kept = input.split();
        }
        result
    }

    /// The transport takes bytes again, or there is room again for work that was held.
    pub fn on_writable(&mut self, backend: &impl Backend) -> Result<(), Closed> {
        self.link.on_writable();
        let now = backend.now();
        let link = self.link.clone();
        let running = link.begin_batch();
        let batch = Batch::begin();
        self.enter_at_last(backend, now);
        link.on_memory();
        let step = link.next_work();
        self.run_work(step, backend);
        let mut input = core::mem::take(&mut self.kept);
        let result = self.run_batch(&mut input, backend, now);
        drop(batch);
        link.end_batch();
        drop(running);
        self.kept = input;
        result
    }

    fn run_batch(&mut self, input: &mut BytesMut, backend: &impl Backend, now: Time) -> Result<(), Closed> {
        loop {
            self.stalled = self.link.is_stalled();
            if self.stalled {
                return Ok(());
            }
            if matches!(self.phase, Phase::Ended) {
                // Whatever the host still says after the last answer is not heard.
                input.clear();
                return if self.link.has_ended() { Err(Closed) } else { Ok(()) };
            }
            match cut(input, self.digests, self.segment_max) {
                Ok(Cut::Pdu(mut pdu)) => {
                    self.heard = now;
                    self.pinged = None;
                    self.pulse.on_pdu(&pdu);
                    self.thrift.keep(&mut pdu);
                    self.on_pdu(&pdu, backend, now);
                }
                Ok(Cut::Incomplete(bytes)) => {
                    self.pulse.on_part(input);
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
        if matches!(self.phase, Phase::Full(_)) {
            let step = self.link.on_pdu(pdu, now);
            self.run_work(step, backend);
        } else {
            self.on_login_pdu(pdu, backend, now);
        }
    }

    fn run_work(&mut self, mut step: Step, backend: &impl Backend) {
        loop {
            if step.plenty {
                self.link.write_now();
            }
            let Some(work) = step.work else {
                return;
            };
            self.perform(work, backend);
            if !step.more {
                return;
            }
            step = self.link.next_work();
        }
    }

    fn perform(&mut self, work: Work, backend: &impl Backend) {
        match work {
            Work::Execute(request) => {
                let tag = request.tag;
                if let Some(outcome) = backend.execute(request) {
                    let waiters = self.link.on_outcome(tag, outcome);
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
                let waiters = self.link.leave();
                self.sessions.release(&waiters);
                match nexus {
                    Some(nexus) if self.sessions.depart(nexus, backend.now()) => {
                        backend.nexus_lost(nexus);
                        self.sessions.settle(nexus);
                        self.sessions.visits.went(self.visitor(), how, backend.now());
                    }
                    Some(_) => self.sessions.visits.went(self.visitor(), Parting::Replaced, backend.now()),
                    None => self.sessions.discovery_ended(&self.link),
                }
            }
        }
        self.phase_since = backend.now();
    }

    /// The socket is gone.
    pub fn closed(&mut self, backend: &impl Backend) {
        self.leave(Parting::Lost, backend);
        self.sessions.login_ends(&self.link);
        self.link.end();
    }

    fn log_out(&mut self, request: &LogoutRequest, backend: &impl Backend) {
        let Some(result) = self.link.with(|session, _| logout::judge(request, session.cid())) else {
            return;
        };
        if result == LogoutResult::Closed {
            let busy = |session: &mut FullFeature, output: &mut _| {
                (!session.is_idle()).then(|| session.end_all(request, output))
            };
            if let Some(ended) = self.link.with(busy).flatten() {
                return self.log_out_later(&ended, backend);
            }
        }
        // The answer is made while there is a session to number it, and the session ends before it is written.
        let _ = self.link.with(|session, output| session.log_out(request, result, output));
        if result == LogoutResult::Closed {
            self.say_farewell(Parting::LoggedOut, backend);
        }
    }

    /// The session ends, and the connection when what it had to say is written.
    fn say_farewell(&mut self, how: Parting, backend: &impl Backend) {
        self.leave(how, backend);
        self.visit(backend.now());
        self.link.close_when_written();
    }

    /// The session's tasks are given up first.
    fn log_out_later(&mut self, ended: &Managed, backend: &impl Backend) {
        self.leaving = Some(backend.now());
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
        let Some(managed) = self.link.with(|session, output| session.manage(request, exists, output)) else {
            return;
        };
        self.sessions.release(&managed.waiters);
        abort_all(nexus, &managed.aborts, backend);
        if !managed.waits {
            return;
        }
        if let Ok(reach @ (Reach::Unit | Reach::Target)) = reach(request.function) {
            let waiter = Waiter { nexus, function: tag };
            for (other, link) in self.sessions.others(nexus) {
                let reached =
                    link.with(|session, output| session.abort_for(&request.lun, reach, waiter, output));
                let reached = reached.unwrap_or_default();
                let count = reached.aborts.len() as i64;
                let _ = self.link.with(|session, output| session.release(tag, count, output));
                self.sessions.release(&reached.waiters);
                abort_all(other, &reached.aborts, backend);
                link.flush();
            }
        }
        for lun in resets(request, backend) {
            let _ = self.link.with(|session, output| session.release(tag, 1, output));
            backend.reset(lun, nexus, TaskTag::of(tag));
        }
        let _ = self.link.with(|session, output| session.release(tag, -1, output));
        if request.function == TaskManagementFunction::TargetColdReset {
            self.cold_reset(nexus);
        }
    }

    /// TARGET COLD RESET is "a power-on event, thus terminating all of its TCP connections" (11.5.1).
    fn cold_reset(&self, nexus: NexusId) {
        for (_, link) in self.sessions.others(nexus) {
            link.end();
        }
        let _ = self.link.with(|session, _| session.close_when_answered());
    }
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
