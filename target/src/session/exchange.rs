//! Everything in full feature phase that is not a command or its data: NOP, text, logout, task management,
//! Reject (RFC 7143 11.5, 11.6, 11.10 to 11.19).

use protocol::iscsi::{
    Bhs, CmdSn, InitiatorPdu, LogoutReason, LogoutRequest, LogoutResponse, LogoutResult, NopIn, NopOut,
    RESERVED_TAG, Reject, RejectReason, TaskManagementRequest, TaskManagementResponse, TaskManagementResult,
    TextRequest, TextResponse,
};

use super::commands::Arrival;
use super::discovery::TextError;
use super::full_feature::{Deferred, FullFeature, Received, Work};
use super::output::Output;
use super::task_management::{self, Reach};
use super::tasks::{Claim, Ending, State};
use controller::command::Outcome;
use protocol::iscsi::Lun;

/// What a task management function asks of the outside.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Managed {
    /// Tasks of this session the controller has to be asked to give up.
    pub aborts: Vec<(Lun, u32)>,
    /// Functions of other sessions that waited for tasks which ended at once.
    pub claims: Vec<Claim>,
    /// The function waits for [`FullFeature::release`]; until then other sessions may be drawn in.
    pub waits: bool,
}

impl FullFeature {
    /// Takes a PDU that is neither a command nor data.
    pub(super) fn on_other(&mut self, decoded: &InitiatorPdu, pdu: &Received, output: &mut Output) {
        if pdu.data.is_none() {
            return self.reject(&pdu.bhs, RejectReason::DataDigestError, output);
        }
        let Some((number, immediate)) = number_of(decoded) else {
            let reason = match decoded {
                InitiatorPdu::Snack(_) => RejectReason::SnackReject,
                InitiatorPdu::LoginRequest(_) => RejectReason::ProtocolError,
                _ => RejectReason::CommandNotSupported,
            };
            return self.reject(&pdu.bhs, reason, output);
        };
        let arrival = self.window.arrival(number, immediate);
        if self.is_deferred(number, arrival) {
            return;
        }
        match arrival {
            Arrival::Ignored => {}
            Arrival::Early => self.defer(number, Deferred::Other(pdu.clone())),
            Arrival::InOrder if immediate => self.run_other(decoded, pdu, output),
            Arrival::InOrder => {
                self.window.advance();
                self.run_other(decoded, pdu, output);
                self.run_deferred(output);
            }
        }
    }

    /// Performs such a PDU when its turn has come.
    pub(super) fn run_other(&mut self, decoded: &InitiatorPdu, pdu: &Received, output: &mut Output) {
        let data = pdu.data.as_deref().unwrap_or_default();
        match decoded {
            InitiatorPdu::NopOut(nop) => self.on_nop(nop, data, output),
            InitiatorPdu::TextRequest(request) => self.on_text(request, data, pdu, output),
            InitiatorPdu::LogoutRequest(request) => self.work.push_back(Work::LogOut(*request)),
            InitiatorPdu::TaskManagementRequest(request) if !self.parameters.discovery => {
                if self.functions.has_room() && !self.functions.contains(request.initiator_task_tag) {
                    self.work.push_back(Work::Manage(*request));
                } else {
                    self.reject(&pdu.bhs, RejectReason::TooManyImmediateCommands, output);
                }
            }
            _ => self.reject(&pdu.bhs, RejectReason::CommandNotSupported, output),
        }
    }

    fn on_nop(&mut self, nop: &NopOut, data: &[u8], output: &mut Output) {
        if nop.initiator_task_tag == RESERVED_TAG {
            // The answer to our own ping: that it came is all it says.
            return;
        }
        let echoed = &data[..data.len().min(self.parameters.send_segment() as usize)];
        let mut sender = self.sender(output);
        let header = NopIn {
            data_segment_length: echoed.len() as u32,
            lun: [0; 8],
            initiator_task_tag: nop.initiator_task_tag,
            target_transfer_tag: RESERVED_TAG,
            stat_sn: sender.take_stat_sn(),
            exp_cmd_sn: sender.expected,
            max_cmd_sn: sender.maximum,
        };
        sender.output.pdu(&header.encode(), echoed, sender.parameters.digests());
    }

    /// Asks the initiator whether it is there (11.19.1).
    pub fn ping(&mut self, output: &mut Output) {
        let transfer_tag = self.fresh_transfer_tag();
        let sender = self.sender(output);
        let header = NopIn {
            data_segment_length: 0,
            lun: [0; 8],
            initiator_task_tag: RESERVED_TAG,
            target_transfer_tag: transfer_tag,
            stat_sn: *sender.stat_sn,
            exp_cmd_sn: sender.expected,
            max_cmd_sn: sender.maximum,
        };
        sender.output.pdu(&header.encode(), &[], sender.parameters.digests());
    }

    fn on_text(&mut self, request: &TextRequest, data: &[u8], pdu: &Received, output: &mut Output) {
        let fresh_tag = self.fresh_transfer_tag();
        let directory = self.directory.clone();
        let part = self.text.on_request(request, data, &directory, &mut self.parameters, fresh_tag);
        let part = match part {
            Ok(part) => part,
            Err(TextError::NoExchange) => {
                return self.reject(&pdu.bhs, RejectReason::InvalidPduField, output);
            }
            Err(TextError::Malformed) => return self.reject(&pdu.bhs, RejectReason::ProtocolError, output),
        };
        let mut sender = self.sender(output);
        let header = TextResponse {
            final_bit: part.last,
            continue_bit: part.continues,
            data_segment_length: part.text.len() as u32,
            lun: [0; 8],
            initiator_task_tag: request.initiator_task_tag,
            target_transfer_tag: part.transfer_tag,
            stat_sn: sender.take_stat_sn(),
            exp_cmd_sn: sender.expected,
            max_cmd_sn: sender.maximum,
        };
        sender.output.pdu(&header.encode(), &part.text, sender.parameters.digests());
    }

    /// What a Logout Request comes to (11.15.1): only with [`LogoutResult::Closed`] the session ends.
    #[must_use]
    pub fn judge_logout(&self, request: &LogoutRequest) -> LogoutResult {
        match request.reason {
            LogoutReason::CloseSession => LogoutResult::Closed,
            LogoutReason::CloseConnection if request.cid == self.cid => LogoutResult::Closed,
            LogoutReason::CloseConnection => LogoutResult::CidNotFound,
            LogoutReason::RemoveForRecovery => LogoutResult::RecoveryNotSupported,
        }
    }

    /// Answers a Logout Request.
    pub fn log_out(&mut self, request: &LogoutRequest, result: LogoutResult, output: &mut Output) {
        let (time_2_wait, time_2_retain) = self.times();
        let mut sender = self.sender(output);
        let header = LogoutResponse {
            response: result,
            initiator_task_tag: request.initiator_task_tag,
            stat_sn: sender.take_stat_sn(),
            exp_cmd_sn: sender.expected,
            max_cmd_sn: sender.maximum,
            time_2_wait,
            time_2_retain,
        };
        sender.output.pdu(&header.encode(), &[], sender.parameters.digests());
    }

    /// DefaultTime2Wait and DefaultTime2Retain, in seconds; at most 3600 by their rule.
    fn times(&self) -> (u16, u16) {
        let seconds = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
        (
            seconds(self.parameters.agreed.default_time_2_wait),
            seconds(self.parameters.agreed.default_time_2_retain),
        )
    }

    /// Says that a PDU was not served, and returns its header (11.17).
    pub(super) fn reject(&mut self, bhs: &Bhs, reason: RejectReason, output: &mut Output) {
        let mut sender = self.sender(output);
        let header = Reject {
            reason,
            data_segment_length: bhs.len() as u32,
            stat_sn: sender.take_stat_sn(),
            exp_cmd_sn: sender.expected,
            max_cmd_sn: sender.maximum,
            data_sn: 0,
        };
        sender.output.pdu(&header.encode(), bhs, sender.parameters.digests());
    }

    /// Performs a task management function as far as it concerns this session. `unit_exists` says whether its
    /// LUN field names a logical unit.
    pub fn manage(
        &mut self,
        request: &TaskManagementRequest,
        unit_exists: bool,
        output: &mut Output,
    ) -> Managed {
        let tag = request.initiator_task_tag;
        let mut managed = Managed::default();
        let reach = match task_management::reach(request.function) {
            Ok(reach) => reach,
            Err(result) => {
                self.respond_function(tag, result, output);
                return managed;
            }
        };
        if reach != Reach::Target && !unit_exists {
            self.respond_function(tag, TaskManagementResult::LunDoesNotExist, output);
            return managed;
        }
        let mut affected = Vec::new();
        for task in self.tasks.iter_mut().filter(|task| task_management::reaches_own(request, reach, task)) {
            affected.push((task.tag, task.lun, task.state == State::Outcome));
            task.ending = Ending::Unheard;
        }
        if reach == Reach::Task && affected.is_empty() {
            let result = self.abort_unknown(request, output);
            self.respond_function(tag, result, output);
            return managed;
        }
        for (task, lun, executing) in &affected {
            if *executing {
                managed.aborts.push((*lun, *task));
            } else {
                self.forget(*task, output);
                managed.claims.extend(self.take_claims(*task));
            }
        }
        self.functions.begin(tag, managed.aborts.iter().map(|(_, task)| *task).collect());
        managed.waits = true;
        managed
    }

    /// ABORT TASK for a task that is not here (11.6.1).
    fn abort_unknown(
        &mut self,
        request: &TaskManagementRequest,
        output: &mut Output,
    ) -> TaskManagementResult {
        if self.functions.contains(request.referenced_task_tag) {
            return TaskManagementResult::Rejected;
        }
        let number = request.ref_cmd_sn;
        let arrival = self.window.arrival(number, false);
        if arrival == Arrival::Ignored || !number.precedes(request.cmd_sn) {
            return TaskManagementResult::TaskDoesNotExist;
        }
        // 11.6.1 b): "targets must consider the CmdSN as received".
        self.use_up(number, arrival, false, output);
        TaskManagementResult::Complete
    }

    /// A function of another session reaches into this one: gives the tasks the controller has to be asked to
    /// give up. Each will be reported as a [`Claim`] when it has ended.
    pub fn draw_in(&mut self, lun: &Lun, reach: Reach, claim: Claim, output: &mut Output) -> Managed {
        let mut managed = Managed::default();
        let mut affected = Vec::new();
        for task in self.tasks.iter_mut().filter(|task| task_management::reaches_foreign(lun, reach, task)) {
            affected.push((task.tag, task.lun, task.state == State::Outcome));
            if task.ending == Ending::Answered {
                task.ending = Ending::TaskAborted;
            }
        }
        for (tag, lun, executing) in affected {
            if executing {
                self.claims.push((tag, claim));
                managed.aborts.push((lun, tag));
            } else if let Some(task) = self.forget(tag, output) {
                super::data_in::answer(&mut self.sender(output), &task, Outcome::Aborted);
                managed.claims.extend(self.take_claims(tag));
            }
        }
        managed
    }

    /// Counts tasks of other sessions that a function waits for in or out, and answers it if it was the last.
    pub fn release(&mut self, function: u32, change: i64, output: &mut Output) {
        for tag in self.functions.elsewhere(function, change) {
            self.respond_function(tag, TaskManagementResult::Complete, output);
        }
    }

    /// An aborted task has ended: so have perhaps the functions that waited for it.
    pub(super) fn after_unheard(&mut self, task: u32, output: &mut Output) {
        for tag in self.functions.on_ended(task) {
            self.respond_function(tag, TaskManagementResult::Complete, output);
        }
    }

    fn respond_function(&mut self, tag: u32, response: TaskManagementResult, output: &mut Output) {
        let mut sender = self.sender(output);
        let header = TaskManagementResponse {
            response,
            initiator_task_tag: tag,
            stat_sn: sender.take_stat_sn(),
            exp_cmd_sn: sender.expected,
            max_cmd_sn: sender.maximum,
        };
        sender.output.pdu(&header.encode(), &[], sender.parameters.digests());
    }
}

/// CmdSN and I bit of the PDUs that have them.
const fn number_of(pdu: &InitiatorPdu) -> Option<(CmdSn, bool)> {
    match pdu {
        InitiatorPdu::NopOut(nop) => Some((nop.cmd_sn, nop.immediate)),
        InitiatorPdu::TaskManagementRequest(request) => Some((request.cmd_sn, request.immediate)),
        InitiatorPdu::TextRequest(request) => Some((request.cmd_sn, request.immediate)),
        InitiatorPdu::LogoutRequest(request) => Some((request.cmd_sn, request.immediate)),
        _ => None,
    }
}
