//! Requests of a session that are neither commands nor data: NOP, text, logout and task management.

use core::net::SocketAddr;
use std::collections::VecDeque;
use std::sync::Arc;

use protocol::iscsi::{
    CmdSn, InitiatorPdu, LogoutRequest, NopOut, RESERVED_TAG, RejectReason, TaskManagementRequest,
    TaskManagementResult,
};

#[cfg(doc)]
use super::full_feature::FullFeature;
use super::nop;
use super::sender::Sender;
use super::task_management::Admission;
use super::task_manager::TaskManager;
use super::text;
use super::text::{Directory, Part, TextError, TextExchange};
use crate::device_server::Request;
use crate::iscsi::connection::framing::Received;
use crate::iscsi::directory::FrontendConfig;

/// What a request, which is not rejected, comes to.
#[derive(Debug)]
pub enum Prepared {
    /// A NOP-Out is answered.
    Nop(NopOut),
    /// A part of the answer to the text request with this tag.
    Text(u32, Part),
    /// The host wants to log out.
    LogOut(LogoutRequest),
    /// A function is performed.
    Manage(TaskManagementRequest),
    /// A function waits for the commands before it.
    Postponed(TaskManagementRequest),
    /// A function with this tag finds no room.
    Refused(u32),
}

/// What the owner of a session has to do for it.
#[derive(Debug)]
pub enum Work {
    /// Execute a command; its outcome comes back by [`FullFeature::on_outcome`].
    Execute(Request),
    /// Perform a task management function: [`FullFeature::manage`].
    Manage(TaskManagementRequest),
    /// End the session or not: [`FullFeature::log_out`].
    LogOut(LogoutRequest),
    /// Close the connection once everything is written.
    Close,
}

/// What a session's requests need.
#[derive(Debug)]
pub struct Requests {
    directory: Arc<FrontendConfig>,
    ends: Option<(SocketAddr, SocketAddr)>,
    text: TextExchange,
    work: VecDeque<Work>,
}

impl Requests {
    /// None yet, to a target that these portals are of. `ends` are the host's address and that of the portal it came
    /// to.
    #[must_use]
    pub fn new(directory: Arc<FrontendConfig>, ends: Option<(SocketAddr, SocketAddr)>) -> Self {
        Self { directory, ends, text: TextExchange::default(), work: VecDeque::new() }
    }

    /// What a PDU whose turn has come leads to, or why it is rejected.
    pub fn prepare(
        &mut self,
        (decoded, pdu): (&InitiatorPdu, &Received),
        immediate: bool,
        tasks: &TaskManager,
        sender: &mut Sender<'_>,
    ) -> Result<Prepared, RejectReason> {
        match decoded {
            InitiatorPdu::NopOut(nop) => Ok(Prepared::Nop(*nop)),
            InitiatorPdu::TextRequest(request) => {
                let data = pdu.data.as_deref().unwrap_or_default();
                let directory = Directory { config: &self.directory, ends: self.ends };
                let tag = sender.tags.take();
                let part = self.text.on_request(request, data, directory, sender.parameters, tag);
                part.map(|part| Prepared::Text(request.initiator_task_tag, part)).map_err(TextError::reason)
            }
            InitiatorPdu::LogoutRequest(request) => Ok(Prepared::LogOut(*request)),
            InitiatorPdu::TaskManagementRequest(request) if !sender.parameters.discovery => {
                prepare_function(request, immediate, tasks, sender.expected())
            }
            _ => Err(RejectReason::CommandNotSupported),
        }
    }

    /// Does what was prepared. True if a text exchange is complete: [`TextExchange::settle`] follows.
    pub fn carry_out(
        &mut self,
        prepared: Prepared,
        data: &[u8],
        tasks: &mut TaskManager,
        sender: &mut Sender<'_>,
    ) -> bool {
        match prepared {
            Prepared::Nop(nop) => nop::answer(tasks.open(sender), &nop, data),
            Prepared::Text(tag, part) => {
                text::respond(tasks.open(sender), tag, &part);
                return part.last;
            }
            Prepared::LogOut(request) => self.work.push_back(Work::LogOut(request)),
            Prepared::Manage(request) => self.work.push_back(Work::Manage(request)),
            Prepared::Postponed(request) => tasks.postpone(request),
            Prepared::Refused(tag) => tasks.respond(tag, TaskManagementResult::Rejected, sender),
        }
        false
    }

    /// The text exchange.
    pub const fn text(&mut self) -> &mut TextExchange {
        &mut self.text
    }

    /// The connection is to be closed.
    pub fn close(&mut self) {
        self.work.push_back(Work::Close);
    }

    /// The next thing to do outside. Functions that no command is awaited for any more come last.
    pub fn next_work(&mut self, tasks: &mut TaskManager, expected: CmdSn) -> Option<Work> {
        if tasks.has_postponed() {
            self.work.extend(tasks.take_due(expected).map(Work::Manage));
        }
        self.work.pop_front()
    }

    /// Gives memory back that is not needed.
    pub fn rest(&mut self) {
        self.work.shrink_to_fit();
    }
}

fn prepare_function(
    request: &TaskManagementRequest,
    immediate: bool,
    tasks: &TaskManager,
    expected: CmdSn,
) -> Result<Prepared, RejectReason> {
    let tag = request.initiator_task_tag;
    if tag == RESERVED_TAG {
        return Err(RejectReason::InvalidPduField);
    }
    if tasks.is_tag_in_use(tag) {
        return Err(RejectReason::TaskInProgress);
    }
    Ok(match tasks.admit(request, immediate, expected)? {
        Admission::Perform => Prepared::Manage(*request),
        Admission::Postpone => Prepared::Postponed(*request),
        Admission::Refuse => Prepared::Refused(tag),
    })
}

/// CmdSN and I bit of the PDUs that have them, or why such a PDU is rejected.
pub const fn number_of(pdu: &InitiatorPdu) -> Result<(CmdSn, bool), RejectReason> {
    match pdu {
        InitiatorPdu::NopOut(nop) => Ok((nop.cmd_sn, nop.immediate)),
        InitiatorPdu::TaskManagementRequest(request) => Ok((request.cmd_sn, request.immediate)),
        InitiatorPdu::TextRequest(request) => Ok((request.cmd_sn, request.immediate)),
        InitiatorPdu::LogoutRequest(request) => Ok((request.cmd_sn, request.immediate)),
        InitiatorPdu::Snack(_) => Err(RejectReason::SnackReject),
        InitiatorPdu::LoginRequest(_) => Err(RejectReason::ProtocolError),
        _ => Err(RejectReason::CommandNotSupported),
    }
}
