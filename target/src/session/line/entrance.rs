//! The login of a connection: requests to the [`Login`] machine, answers back, and at its end a session.
//!
//! Whom a new session replaces is decided here, in this order (RFC 7143 6.3.4, 6.3.5): the old session departs;
//! nothing of it reaches the controller any more; the controller gives its tasks up; when all of them have ended, or are
//! too old to begin ([`DEPARTED_TIME_MAX`](crate::sessions::DEPARTED_TIME_MAX)), the new one begins. Until then the last
//! answer of the login waits. It is the same after a connection that was lost: a write of the old session that is still
//! on its way to main must not land on what the new one has written.

use std::sync::Arc;

use controller::command::{Initiator, NexusId};
use controller::time::Time;
use protocol::iscsi::parameters::Parameters as Agreed;
use protocol::iscsi::{CmdSn, Isid, LoginRequest, LoginResponse, LoginStage, LoginStatus, Opcode, StatSn};

use super::{Line, Phase};
use crate::session::backend::Backend;
use crate::session::command_window::COMMAND_WINDOW;
use crate::session::cut::Received;
use crate::session::full_feature::FullFeature;
use crate::session::link::Link;
use crate::session::login::{Circumstances, Login, Reply, Verdict};
use crate::session::opening::Opening;
use crate::session::parameters::Parameters;
use crate::session::refused::Refused;
use crate::sessions::{
    Beginning, Begun, Discovering, HOST_SESSIONS_MAX, INITIATOR_SESSIONS_MAX, Identity, Share,
};
use crate::visits::CONTENDER_HEARD_WITHIN;

/// A login whose last answer waits for the commands of the session before it.
#[derive(Debug)]
pub(super) struct Waiting {
    request: LoginRequest,
    reply: Reply,
    continued: Option<Continued>,
}

/// What a session goes on with when its connection is replaced.
#[derive(Clone, Copy, Debug)]
struct Continued {
    agreed: Agreed,
    expected: CmdSn,
}

impl Line {
    pub(super) fn on_login_pdu(&mut self, pdu: &Received, backend: &impl Backend, now: Time) {
        let Phase::Login(login) = &mut self.phase else {
            return;
        };
        if self.waiting.take().is_some() {
            return self.refuse(&unreadable(pdu), LoginStatus::InvalidDuringLogin, now);
        }
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
        let existing = if request.tsih == 0 { None } else { self.sessions.existing(request.tsih) };
        let around = Circumstances {
            target: &self.directory.iqn,
            portal_group: self.directory.own_group,
            serving: backend.serving() && !self.sessions.is_ending(),
            existing: existing.as_ref(),
            access: &self.directory.access,
            random: |bytes| getrandom::fill(bytes).is_ok(),
        };
        match login.on_request(&request, &data, &around) {
            Verdict::Go(reply) => {
                let response = self.response(&request, LoginStatus::Success, &reply, request.tsih);
                self.link.put(&response.encode(), &reply.text);
            }
            Verdict::Enter(reply) => self.enter(Waiting { request, reply, continued: None }, backend, now),
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
        let expected = match &self.phase {
            Phase::Login(login) if !login.is_untouched() => login.first_cmd_sn(),
            _ => request.cmd_sn,
        };
        LoginResponse {
            continue_bit: false,
            current_stage: reply.current,
            next_stage: reply.next,
            version_max: 0,
            version_active: 0,
            data_segment_length: reply.text.len() as u32,
            isid: request.isid,
            tsih,
            initiator_task_tag: request.initiator_task_tag,
            stat_sn,
            exp_cmd_sn: expected,
            max_cmd_sn: expected.plus(COMMAND_WINDOW).minus(1),
            status,
        }
    }

    fn refuse(&mut self, request: &LoginRequest, status: LoginStatus, now: Time) {
        if let Phase::Login(login) = &self.phase {
            let refused = Refused::from(status);
            let why = if login.why().is_empty() { &*refused.why } else { login.why() };
            self.sessions.visits.refused(&self.host(), login.sent_name(), status, why, now);
        }
        let reply = Reply { current: LoginStage::SecurityNegotiation, next: None, text: Vec::new() };
        let response = self.response(request, status, &reply, request.tsih);
        self.link.put(&response.encode(), &[]);
        self.link.close_when_written();
        self.sessions.wants_no_place(&self.link);
        self.phase = Phase::Ended;
        self.phase_since = now;
    }

    /// A login that waited may have its place by now.
    pub(super) fn enter_at_last(&mut self, backend: &impl Backend, now: Time) {
        if let Some(waiting) = self.waiting.take() {
            self.enter(*waiting, backend, now);
        }
    }

    /// The last answer of a login: the session begins, or waits.
    fn enter(&mut self, mut waiting: Waiting, backend: &impl Backend, now: Time) {
        let Phase::Login(login) = &self.phase else {
            return;
        };
        let entered = if login.parameters().discovery {
            Ok(Some(self.enter_discovery(login, &waiting.request, backend)))
        } else {
            self.enter_normal(login, &mut waiting, backend)
        };
        let luns = self.directory.access.luns(login.initiator());
        let initiator = login.initiator().to_owned();
        let Waiting { request, reply, continued } = &waiting;
        let (nexus, tsih) = match entered {
            Ok(Some(entered)) => entered,
            Ok(None) => {
                self.waiting = Some(Box::new(waiting));
                return;
            }
            Err(status) => return self.refuse(request, status, now),
        };
        let continued = *continued;
        let mut parameters = *login.parameters();
        let mut response = self.response(request, LoginStatus::Success, reply, tsih);
        if let Some(Continued { agreed, expected }) = continued {
            parameters = continue_with(parameters, agreed);
            response.exp_cmd_sn = expected;
            response.max_cmd_sn = expected.plus(COMMAND_WINDOW).minus(1);
        }
        self.link.put(&response.encode(), &reply.text);
        self.digests = parameters.digests();
        self.segment_max = parameters.receive_segment;
        let session = FullFeature::new(Opening {
            nexus,
            parameters,
            cid: request.cid,
            cmd_sn: response.exp_cmd_sn,
            stat_sn: self.stat_sn,
            directory: self.directory.clone(),
            ends: self.link.ends(),
            data_out_bytes: backend.data_out_bytes(),
            memory: self.sessions.memory.clone(),
            luns,
            sense_formats: backend.sense_formats(),
        });
        self.link.enter(session, now);
        self.sessions.login_ends(&self.link);
        if nexus.is_some() {
            (self.initiator, self.ends) = (initiator, self.link.ends());
            self.sessions.visits.came(self.visitor(), now);
        }
        self.phase = Phase::Full(nexus);
        self.phase_since = now;
    }

    /// A normal session: by itself, in the place of an older one of the same initiator port, or on a new connection.
    /// Its nexus and TSIH; `None` if it waits.
    fn enter_normal(
        &self,
        login: &Login,
        waiting: &mut Waiting,
        backend: &impl Backend,
    ) -> Result<Option<(Option<NexusId>, u16)>, LoginStatus> {
        let request = &waiting.request;
        let name = login.initiator().to_ascii_lowercase();
        let initiator = Initiator { name, isid: request.isid.0 };
        let identity = Identity {
            initiator: login.initiator().to_owned(),
            alias: login.initiator_alias().to_owned(),
            isid: request.isid,
        };
        if let Some(link) = self.sessions.end_named_discovery(&identity.initiator, identity.isid) {
            link.end();
        }
        let continues = login.reinstates();
        loop {
            match self.sessions.begin(&identity, request.cid, &self.link, continues, backend.now()) {
                Beginning::Begun(Begun { nexus, tsih }) => {
                    backend.nexus_added(nexus, &initiator);
                    return Ok(Some((Some(nexus), tsih)));
                }
                Beginning::Replaces(old, link) => {
                    let (addresses, now) = ([link.host(), self.link.host()], backend.now());
                    // One that was silent before has lost its line, and is the same host's.
                    if now.since(link.heard()) <= CONTENDER_HEARD_WITHIN {
                        self.sessions.visits.replaced(&identity.initiator, identity.isid, addresses, now);
                    }
                    let old = self.end_session(old, &link, backend);
                    waiting.continued = old.filter(|_| continues.is_some());
                }
                Beginning::Waits => return Ok(None),
                Beginning::Crowded(share) => {
                    self.say_crowded(login.initiator(), share, backend.now());
                    return Err(LoginStatus::OutOfResources);
                }
                Beginning::Full => return Err(LoginStatus::OutOfResources),
                Beginning::Gone => return Err(LoginStatus::SessionDoesNotExist),
            }
        }
    }

    fn say_crowded(&self, initiator: &str, share: Share, now: Time) {
        let host = self.host();
        match share {
            Share::Initiator => {
                if let Some(unsaid) = self.sessions.said("crowded", &host, now) {
                    tracing::warn!(
                        "{initiator} at {host} has {INITIATOR_SESSIONS_MAX} sessions here already: it gets no more, so \
                         that other hosts find room. End those that it does not need, or give each host an \
                         InitiatorName of its own{unsaid}"
                    );
                }
            }
            Share::Host => {
                if let Some(unsaid) = self.sessions.said("crowded by one host", &host, now) {
                    tracing::warn!(
                        "{host} has {HOST_SESSIONS_MAX} sessions here already, under whatever names: it gets no more, \
                         {initiator} among them, so that other hosts find room. What it has goes on. End the sessions \
                         that it does not need; if it is a gateway, let hosts behind it come by the other controller \
                         too{unsaid}"
                    );
                }
            }
        }
    }

    fn enter_discovery(
        &self,
        login: &Login,
        request: &LoginRequest,
        backend: &impl Backend,
    ) -> (Option<NexusId>, u16) {
        let discovering = Discovering {
            initiator: login.initiator().to_owned(),
            isid: request.isid,
            named: login.is_named(),
            portal: self.link.portal(),
        };
        // Who has proved no more than any discovery session has to is not known to be this initiator.
        let (name, access) = (login.initiator().to_ascii_lowercase(), &self.directory.access);
        let is_known = access.demand(&name, true) == access.demand(&name, false);
        if discovering.named
            && is_known
            && let Some((old, link)) =
                self.sessions.take(&discovering.initiator, discovering.isid, backend.now())
        {
            self.end_session(old, &link, backend);
        }
        let (tsih, ended) = self.sessions.begin_discovery(discovering, self.link.clone());
        ended.iter().for_each(|link| link.end());
        (None, tsih)
    }

    /// Ends a session that has departed.
    fn end_session(&self, old: NexusId, link: &Arc<Link>, backend: &impl Backend) -> Option<Continued> {
        // Nothing of the old session may reach the controller once its nexus is lost.
        let quiet = link.quiesce();
        let continued = link.with(|session, _| {
            let (agreed, expected) = session.standing();
            Continued { agreed, expected }
        });
        self.sessions.release(&link.leave());
        drop(quiet);
        link.end();
        backend.nexus_lost(old);
        self.sessions.settle(old);
        continued
    }
}

/// The session's own parameters stay what they were; those of the connection are new (13: CO).
fn continue_with(connection: Parameters, session: Agreed) -> Parameters {
    let agreed = Agreed {
        header_digest: connection.agreed.header_digest,
        data_digest: connection.agreed.data_digest,
        max_recv_data_segment_length: connection.agreed.max_recv_data_segment_length,
        ..session
    };
    Parameters { agreed, ..connection }
}

/// As much of a Login Request as the answer to an unreadable one repeats.
pub(super) fn unreadable(pdu: &Received) -> LoginRequest {
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
