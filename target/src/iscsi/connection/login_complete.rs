//! The login of a connection: requests to the [`Login`] machine, answers back, and at its end a session.
//!
//! Whom a new session replaces is decided here, in this order (RFC 7143 6.3.4, 6.3.5): the old session departs;
//! nothing of it reaches the controller any more; the controller gives its tasks up; when all of them have ended, or
//! are too old to begin ([`DEPARTED_TIME_MAX`](crate::iscsi::sessions::DEPARTED_TIME_MAX)), the new one begins. Until
//! then the last answer of the login waits. It is the same after a connection that was lost: a write of the old session
//! that is still on its way to main must not land on what the new one has written.

use std::sync::Arc;

use controller::command::{Initiator, NexusId};
use controller::time::Time;
use protocol::iscsi::parameters::Parameters as Agreed;
use protocol::iscsi::{
    CmdSn, Digests, Isid, LoginRequest, LoginResponse, LoginStage, LoginStatus, Opcode, StatSn,
};

use super::framing::Received;
use super::shared::SharedHalf;
use crate::iscsi::backend::Backend;
use crate::iscsi::directory::FrontendConfig;
use crate::iscsi::login::parameters::Parameters;
use crate::iscsi::login::refused::Refused;
use crate::iscsi::login::{Circumstances, Login, Reply, Verdict};
use crate::iscsi::session::command_window::COMMAND_WINDOW;
use crate::iscsi::session::full_feature::FullFeature;
use crate::iscsi::session::opening::Opening;
use crate::iscsi::sessions::{
    Begun, Discovering, HOST_SESSIONS_MAX, INITIATOR_SESSIONS_MAX, Identity, LoginAdmission, Sessions, Share,
};
use crate::iscsi::visits::CONTENDER_HEARD_WITHIN;

/// What a login is part of.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    /// The connection.
    pub(super) shared: &'a Arc<SharedHalf>,
    /// All sessions of the controller.
    pub(super) sessions: &'a Arc<Sessions>,
    /// The target and its portals.
    pub(super) directory: &'a Arc<FrontendConfig>,
}

/// Where a login stands after an event.
#[derive(Debug)]
pub(super) enum Progress {
    /// It goes on.
    GoesOn,
    /// It was refused: the connection closes when that is written.
    Refused,
    /// The session has begun.
    Entered(Entered),
}

/// A session that has begun on this connection.
#[derive(Debug)]
pub(super) struct Entered {
    /// Its nexus; none for discovery.
    pub(super) nexus: Option<NexusId>,
    /// InitiatorName.
    pub(super) initiator: String,
    /// The digests of all PDUs from here on.
    pub(super) digests: Digests,
    /// MaxRecvDataSegmentLength, in bytes.
    pub(super) segment_max: u32,
}

/// The login of one connection.
#[derive(Debug)]
pub(super) struct LoginPhase {
    login: Login,
    stat_sn: StatSn,
    /// Its last answer waits for the commands of the session before.
    waiting: Option<Waiting>,
}

/// A login whose last answer waits for the commands of the session before it.
#[derive(Debug)]
struct Waiting {
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

impl LoginPhase {
    /// Before the first request.
    pub(super) fn new() -> Self {
        Self { login: Login::new(), stat_sn: StatSn(0), waiting: None }
    }

    /// True while the last answer waits for the commands of the session before.
    pub(super) const fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Takes a PDU.
    pub(super) fn on_pdu(
        &mut self,
        pdu: &Received,
        around: Surroundings<'_>,
        backend: &impl Backend,
    ) -> Progress {
        let now = backend.now();
        if self.waiting.take().is_some() {
            return self.refuse(&unreadable(pdu), LoginStatus::InvalidDuringLogin, around, now);
        }
        let data = pdu.data.clone().unwrap_or_default();
        let request = match LoginRequest::decode(&pdu.bhs) {
            Ok(request) => request,
            Err(_) => {
                let is_login = Opcode::of(&pdu.bhs) == Some(Opcode::LoginRequest);
                let status =
                    if is_login { LoginStatus::InitiatorError } else { LoginStatus::InvalidDuringLogin };
                return self.refuse(&unreadable(pdu), status, around, now);
            }
        };
        if self.login.is_untouched() {
            self.stat_sn = request.exp_stat_sn;
        }
        let Surroundings { shared, sessions, directory } = around;
        let existing = if request.tsih == 0 { None } else { sessions.existing(request.tsih) };
        let circumstances = Circumstances {
            target: &directory.iqn,
            portal_group: directory.own_group,
            serving: backend.serving() && !sessions.is_ending(),
            existing: existing.as_ref(),
            access: &directory.access,
            random: |bytes| getrandom::fill(bytes).is_ok(),
        };
        match self.login.on_request(&request, &data, &circumstances) {
            Verdict::Go(reply) => {
                let response = self.response(&request, LoginStatus::Success, &reply, request.tsih);
                shared.put(&response.encode(), &reply.text);
                Progress::GoesOn
            }
            Verdict::Enter(reply) => self.enter(Waiting { request, reply, continued: None }, around, backend),
            Verdict::Refuse(status) => self.refuse(&request, status, around, now),
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
        let expected = if self.login.is_untouched() { request.cmd_sn } else { self.login.first_cmd_sn() };
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

    fn refuse(
        &mut self,
        request: &LoginRequest,
        status: LoginStatus,
        around: Surroundings<'_>,
        now: Time,
    ) -> Progress {
        let Surroundings { shared, sessions, .. } = around;
        let refused = Refused::from(status);
        let why = if self.login.why().is_empty() { &*refused.why } else { self.login.why() };
        sessions.visits.refused(&shared.host_name(), self.login.sent_name(), status, why, now);
        let reply = Reply { current: LoginStage::SecurityNegotiation, next: None, text: Vec::new() };
        let response = self.response(request, status, &reply, request.tsih);
        shared.put(&response.encode(), &[]);
        shared.close_when_written();
        sessions.wait_no_more(shared);
        Progress::Refused
    }

    /// A login that waited may have its place by now.
    pub(super) fn retry(&mut self, around: Surroundings<'_>, backend: &impl Backend) -> Progress {
        match self.waiting.take() {
            Some(waiting) => self.enter(waiting, around, backend),
            None => Progress::GoesOn,
        }
    }

    /// The last answer of a login: the session begins, or waits.
    fn enter(&mut self, mut waiting: Waiting, around: Surroundings<'_>, backend: &impl Backend) -> Progress {
        let (Surroundings { shared, sessions, directory }, now) = (around, backend.now());
        let entered = if self.login.parameters().discovery {
            Ok(Some(self.enter_discovery(&waiting.request, around, backend)))
        } else {
            self.enter_normal(&mut waiting, around, backend)
        };
        let Waiting { request, reply, continued } = &waiting;
        let (nexus, tsih) = match entered {
            Ok(Some(entered)) => entered,
            Ok(None) => {
                self.waiting = Some(waiting);
                return Progress::GoesOn;
            }
            Err(status) => return self.refuse(request, status, around, now),
        };
        let mut parameters = *self.login.parameters();
        let mut response = self.response(request, LoginStatus::Success, reply, tsih);
        if let Some(Continued { agreed, expected }) = *continued {
            parameters = continue_with(parameters, agreed);
            response.exp_cmd_sn = expected;
            response.max_cmd_sn = expected.plus(COMMAND_WINDOW).minus(1);
        }
        shared.put(&response.encode(), &reply.text);
        let session = FullFeature::new(Opening {
            nexus,
            parameters,
            cid: request.cid,
            cmd_sn: response.exp_cmd_sn,
            stat_sn: self.stat_sn,
            directory: directory.clone(),
            ends: shared.ends(),
            data_out_bytes: backend.data_out_bytes(),
            memory: sessions.memory.clone(),
            luns: directory.access.luns(self.login.initiator()),
            sense_formats: backend.sense_formats(),
        });
        shared.enter(session, now);
        sessions.login_ends(shared);
        Progress::Entered(Entered {
            nexus,
            initiator: self.login.initiator().to_owned(),
            digests: parameters.digests(),
            segment_max: parameters.receive_segment,
        })
    }

    /// A normal session: by itself, in the place of an older one of the same initiator port, or on a new connection.
    /// Its nexus and TSIH; `None` if it waits.
    fn enter_normal(
        &self,
        waiting: &mut Waiting,
        around: Surroundings<'_>,
        backend: &impl Backend,
    ) -> Result<Option<(Option<NexusId>, u16)>, LoginStatus> {
        let (login, request) = (&self.login, &waiting.request);
        let Surroundings { shared, sessions, .. } = around;
        let name = login.initiator().to_ascii_lowercase();
        let initiator = Initiator { name, isid: request.isid.0 };
        let identity = Identity {
            initiator: login.initiator().to_owned(),
            alias: login.initiator_alias().to_owned(),
            isid: request.isid,
        };
        if let Some(discovery) = sessions.take_named_discovery(&identity.initiator, identity.isid) {
            discovery.end();
        }
        let continues = login.reinstates();
        loop {
            match sessions.begin(&identity, request.cid, shared, continues, backend.now()) {
                LoginAdmission::Begun(Begun { nexus, tsih }) => {
                    backend.nexus_added(nexus, &initiator);
                    return Ok(Some((Some(nexus), tsih)));
                }
                LoginAdmission::Replaces(old, old_shared) => {
                    let (addresses, now) = ([old_shared.host(), shared.host()], backend.now());
                    // One that was silent before has lost its line, and is the same host's.
                    if now.since(old_shared.heard()) <= CONTENDER_HEARD_WITHIN {
                        sessions.visits.replaced(&identity.initiator, identity.isid, addresses, now);
                    }
                    let old = end_session(old, &old_shared, sessions, backend);
                    waiting.continued = old.filter(|_| continues.is_some());
                }
                LoginAdmission::Waits => return Ok(None),
                LoginAdmission::Crowded(share) => {
                    say_crowded(login.initiator(), share, around, backend.now());
                    return Err(LoginStatus::OutOfResources);
                }
                LoginAdmission::Full => return Err(LoginStatus::OutOfResources),
                LoginAdmission::Gone => return Err(LoginStatus::SessionDoesNotExist),
            }
        }
    }

    fn enter_discovery(
        &self,
        request: &LoginRequest,
        around: Surroundings<'_>,
        backend: &impl Backend,
    ) -> (Option<NexusId>, u16) {
        let (login, Surroundings { shared, sessions, directory }) = (&self.login, around);
        let discovering = Discovering {
            initiator: login.initiator().to_owned(),
            isid: request.isid,
            named: login.is_named(),
            portal: shared.portal(),
        };
        // A host that has proved no more than any discovery session has to is not known to be this initiator.
        let (name, access) = (login.initiator().to_ascii_lowercase(), &directory.access);
        let is_known = access.demand(&name, true) == access.demand(&name, false);
        if discovering.named
            && is_known
            && let Some((old, old_shared)) =
                sessions.close_port(&discovering.initiator, discovering.isid, backend.now())
        {
            end_session(old, &old_shared, sessions, backend);
        }
        let (tsih, ended) = sessions.begin_discovery(discovering, shared.clone());
        ended.iter().for_each(|shared| shared.end());
        (None, tsih)
    }
}

fn say_crowded(initiator: &str, share: Share, around: Surroundings<'_>, now: Time) {
    let host = around.shared.host_name();
    match share {
        Share::Initiator => {
            if let Some(unsaid) = around.sessions.said("crowded", &host, now) {
                tracing::warn!(
                    "{initiator} at {host} has {INITIATOR_SESSIONS_MAX} sessions here already: it gets no more, so \
                     that other hosts find room. End those that it does not need, or give each host an \
                     InitiatorName of its own{unsaid}"
                );
            }
        }
        Share::Host => {
            if let Some(unsaid) = around.sessions.said("crowded by one host", &host, now) {
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

/// Ends a session that has departed.
fn end_session(
    old: NexusId,
    shared: &SharedHalf,
    sessions: &Sessions,
    backend: &impl Backend,
) -> Option<Continued> {
    // Nothing of the old session may reach the controller once its nexus is lost.
    let quiet = shared.quiesce();
    let continued = shared.with(|session, _| {
        let (agreed, expected) = session.standing();
        Continued { agreed, expected }
    });
    sessions.release(&shared.leave());
    drop(quiet);
    shared.end();
    backend.nexus_lost(old);
    sessions.settle(old);
    continued
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
