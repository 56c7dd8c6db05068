//! One connection without its socket and without the controller: login, then a session, then the end.
//!
//! ```text
//!   Login ──last Login Response──► Full ──logout, error, reinstatement──► Ended
//!     └──────────────refused, too late, broken──────────────────────────────▲
//! ```

use core::time::Duration;
use std::sync::Arc;

use bytes::BytesMut;
use controller::command::{LunIndex, NexusId, TaskTag};
use controller::time::Time;
use protocol::iscsi::{
    CmdSn, Digests, Isid, LoginRequest, LoginResponse, LoginStage, LoginStatus, LogoutRequest, LogoutResult,
    Lun, Opcode, StatSn, TaskManagementFunction, TaskManagementRequest,
};
use protocol::scsi::lun::Address;

use super::backend::Backend;
use super::commands::COMMAND_WINDOW;
use super::cut::{Cut, cut};
use super::full_feature::{FullFeature, Opening, Received, Work};
use super::link::{Link, Step};
use super::login::{Circumstances, Login, Reply, Verdict};
use super::parameters::SEGMENT_BYTES_DEFAULT;
use super::task_management::{Reach, reach};
use super::tasks::Claim;
use crate::connection::{Closed, Transport};
use crate::frontend::FrontendConfig;
use crate::run::cork::{Batch, Flush};
use crate::sessions::{Identity, Sessions};

/// How long a login may take.
pub const LOGIN_TIME_MAX: Duration = Duration::from_secs(15);

/// A host not heard from for this long is asked whether it is there.
pub const PING_AFTER: Duration = Duration::from_secs(10);

/// A host that does not answer for this long is given up.
pub const PING_ANSWER_MAX: Duration = Duration::from_secs(20);

/// How long what a connection said last may take to leave before it is closed anyway.
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
    heard: Time,
    pinged: Option<Time>,
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
        Self {
            link: Arc::new(Link::new(transport)),
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
        }
    }

    /// False while the connection must not be read from: the host does not read what it is sent.
    #[must_use]
    pub const fn wants_input(&self) -> bool {
        !self.stalled
    }

    /// Takes every whole PDU out of `input`, runs them, and writes all answers together.
    pub fn receive(&mut self, input: &mut BytesMut, backend: &impl Backend) -> Result<(), Closed> {
        let now = backend.now();
        self.heard = now;
        self.pinged = None;
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
                Ok(Cut::Pdu(pdu)) => self.on_pdu(&pdu, backend, now),
                Ok(Cut::Incomplete(bytes)) => {
                    input.reserve(bytes.saturating_sub(input.len()));
                    return Ok(());
                }
                Err(error) => {
                    tracing::info!(%error, "a connection is closed");
                    self.leave(backend);
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
                    let claims = self.link.on_outcome(tag, outcome);
                    self.sessions.release(&claims);
                }
            }
            Work::Manage(request) => self.manage(&request, backend),
            Work::LogOut(request) => self.log_out(&request, backend),
            Work::Close => {
                self.leave(backend);
                self.link.close_when_written();
            }
        }
    }

    /// The nexus is lost and the session forgotten; the connection itself may still have something to say.
    fn leave(&mut self, backend: &impl Backend) {
        if let Phase::Full(nexus) = core::mem::replace(&mut self.phase, Phase::Ended) {
            self.phase_since = backend.now();
            let claims = self.link.leave();
            self.sessions.release(&claims);
            if let Some(nexus) = nexus
                && self.sessions.remove(nexus)
            {
                backend.nexus_lost(nexus);
            }
        }
    }

    /// The socket is gone.
    pub fn closed(&mut self, backend: &impl Backend) {
        self.leave(backend);
        self.link.end();
    }

    /// Time has passed.
    pub fn on_tick(&mut self, now: Time) -> Result<(), Closed> {
        match self.phase {
            Phase::Login(_) if now.since(self.phase_since) > LOGIN_TIME_MAX => self.link.end(),
            Phase::Ended if now.since(self.phase_since) > FAREWELL_MAX => self.link.end(),
            Phase::Login(_) | Phase::Ended => {}
            Phase::Full(_) => match self.pinged {
                Some(pinged) if now.since(pinged) > PING_ANSWER_MAX => {
                    tracing::info!("a host does not answer any more; its connection is closed");
                    self.link.end();
                }
                None if now.since(self.heard) > PING_AFTER => {
                    self.pinged = Some(now);
                    if self.link.with(FullFeature::ping).is_some() {
                        self.link.flush();
                    }
                }
                _ => {}
            },
        }
        if self.link.has_ended() { Err(Closed) } else { Ok(()) }
    }

    fn on_login_pdu(&mut self, pdu: &Received, backend: &impl Backend, now: Time) {
        let Phase::Login(login) = &mut self.phase else {
            return;
        };
        let data = pdu.data.clone().unwrap_or_default();
        let request = match LoginRequest::decode(&pdu.bhs) {
            Ok(request) => request,
            Err(_) if Opcode::of(&pdu.bhs) == Some(Opcode::LoginRequest) => {
                return self.refuse(&unreadable(pdu), LoginStatus::InitiatorError, now);
            }
            Err(_) => return self.refuse(&unreadable(pdu), LoginStatus::InvalidDuringLogin, now),
        };
        if login.is_untouched() {
            self.stat_sn = request.exp_stat_sn;
        }
        let around = Circumstances {
            target: &self.directory.iqn,
            portal_group: self.directory.own_group,
            serving: backend.serving(),
            tsih_in_use: self.sessions.is_in_use(request.tsih),
            room: self.sessions.has_room(),
        };
        match login.on_request(&request, &data, &around) {
            Verdict::Go(reply) => {
                let response = self.response(&request, LoginStatus::Success, &reply, 0);
                self.link.put(&response.encode(), &reply.text);
            }
            Verdict::Enter(reply) => self.enter(&request, &reply, backend, now),
            Verdict::Refuse(status) => self.refuse(&request, status, now),
        }
    }

    fn response(
        &mut self,
        request: &LoginRequest,
        status: LoginStatus,
        reply: &Reply,
        tsih: u16,
    ) -> LoginResponse {
        let stat_sn = self.stat_sn;
        self.stat_sn = stat_sn.next();
        LoginResponse {
            continue_bit: false,
            current_stage: reply.current,
            next_stage: reply.next,
            version_max: 0,
            version_active: 0,
            data_segment_length: reply.text.len() as u32,
            isid: request.isid,
            tsih: if tsih == 0 { request.tsih } else { tsih },
            initiator_task_tag: request.initiator_task_tag,
            stat_sn,
            exp_cmd_sn: request.cmd_sn,
            max_cmd_sn: request.cmd_sn.plus(COMMAND_WINDOW).minus(1),
            status,
        }
    }

    fn refuse(&mut self, request: &LoginRequest, status: LoginStatus, now: Time) {
        if let Phase::Login(login) = &self.phase {
            tracing::info!(initiator = login.initiator(), ?status, "a login is refused");
        }
        let reply = Reply { current: LoginStage::SecurityNegotiation, next: None, text: Vec::new() };
        let response = self.response(request, status, &reply, 0);
        self.link.put(&response.encode(), &[]);
        self.link.close_when_written();
        self.phase = Phase::Ended;
        self.phase_since = now;
    }

    /// The last answer of a login: the session begins, and ends the one it reinstates (6.3.5).
    fn enter(&mut self, request: &LoginRequest, reply: &Reply, backend: &impl Backend, now: Time) {
        let Phase::Login(login) = &self.phase else {
            return;
        };
        let parameters = *login.parameters();
        let identity = Identity {
            initiator: login.initiator().to_owned(),
            alias: login.initiator_alias().to_owned(),
            isid: request.isid,
        };
        let (nexus, tsih) = if parameters.discovery {
            (None, self.sessions.discovery_tsih())
        } else {
            let Some(begun) = self.sessions.begin(identity, self.link.clone()) else {
                return self.refuse(request, LoginStatus::OutOfResources, now);
            };
            if let Some((old, link)) = begun.replaced {
                // Nothing of the old session may reach the controller once its nexus is lost.
                let quiet = link.quiesce();
                self.sessions.release(&link.leave());
                drop(quiet);
                link.end();
                backend.nexus_lost(old);
            }
            backend.nexus_added(begun.nexus);
            (Some(begun.nexus), begun.tsih)
        };
        let response = self.response(request, LoginStatus::Success, reply, tsih);
        self.link.put(&response.encode(), &reply.text);
        self.digests = parameters.digests();
        self.segment_max = parameters.receive_segment;
        self.link.enter(FullFeature::new(Opening {
            nexus,
            parameters,
            cid: request.cid,
            cmd_sn: request.cmd_sn,
            stat_sn: self.stat_sn,
            directory: self.directory.clone(),
            data_out_bytes: backend.data_out_bytes(),
        }));
        self.phase = Phase::Full(nexus);
        self.phase_since = now;
    }

    fn log_out(&mut self, request: &LogoutRequest, backend: &impl Backend) {
        let Some(result) = self.link.with(|session, _| session.judge_logout(request)) else {
            return;
        };
        // The answer is made while there is a session to number it, and the session ends before it is written.
        let _ = self.link.with(|session, output| session.log_out(request, result, output));
        if result == LogoutResult::Closed {
            self.leave(backend);
            self.link.close_when_written();
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
        self.sessions.release(&managed.claims);
        abort_all(nexus, &managed.aborts, backend);
        if !managed.waits {
            return;
        }
        if let Ok(reach @ (Reach::Unit | Reach::Target)) = reach(request.function) {
            let claim = Claim { nexus, function: tag };
            for (other, link) in self.sessions.others(nexus) {
                let drawn = link.with(|session, output| session.draw_in(&request.lun, reach, claim, output));
                let drawn = drawn.unwrap_or_default();
                let count = drawn.aborts.len() as i64;
                let _ = self.link.with(|session, output| session.release(tag, count, output));
                self.sessions.release(&drawn.claims);
                abort_all(other, &drawn.aborts, backend);
                link.flush();
            }
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
        self.link.close_when_written();
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
            backend.abort(lun, nexus, TaskTag(*tag));
        }
    }
}

/// As much of a Login Request as the answer to an unreadable one repeats.
fn unreadable(pdu: &Received) -> LoginRequest {
    let mut isid = [0; 6];
    isid.copy_from_slice(&pdu.bhs[8..14]);
    LoginRequest {
        continue_bit: false,
        current_stage: LoginStage::SecurityNegotiation,
        next_stage: None,
        version_max: 0,
        version_min: 0,
        data_segment_length: 0,
        isid: Isid(isid),
        tsih: 0,
        initiator_task_tag: u32::from_be_bytes([pdu.bhs[16], pdu.bhs[17], pdu.bhs[18], pdu.bhs[19]]),
        cid: 0,
        cmd_sn: CmdSn(0),
        exp_stat_sn: StatSn(0),
    }
}

#[cfg(test)]
mod tests;
