//! Everything in full feature phase that is not a command or its data: NOP, text, logout, task management,
//! Reject (RFC 7143 11.5, 11.6, 11.10 to 11.19).

use protocol::iscsi::{
    AsyncEvent, AsyncMessage, CmdSn, InitiatorPdu, LogoutReason, LogoutRequest, LogoutResponse, LogoutResult,
    NopIn, NopOut, RESERVED_TAG, Reject, RejectReason, TaskManagementRequest, TaskManagementResponse,
    TaskManagementResult, TextResponse,
};

use super::commands::Arrival;
use super::discovery::{Directory, Part, TextError};
use super::full_feature::{Deferred, FullFeature, Received, Work};
use super::output::Output;
use super::task_management::{self, Reach};
use super::tasks::{Claim, Ending, State};
use controller::command::Outcome;
use protocol::iscsi::Lun;
use protocol::scsi::lun::Address;
use std::sync::Arc;

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
            return self.reject(pdu, RejectReason::DataDigestError, output);
        }
        let Some((number, immediate)) = number_of(decoded) else {
            let reason = match decoded {
                InitiatorPdu::Snack(_) => RejectReason::SnackReject,
                InitiatorPdu::LoginRequest(_) => RejectReason::ProtocolError,
                _ => RejectReason::CommandNotSupported,
            };
            return self.reject(pdu, reason, output);
        };
        let arrival = self.window.arrival(number, immediate);
        if self.is_deferred(number, arrival) {
            return;
        }
        match arrival {
            Arrival::Ignored => {}
            Arrival::Early => self.defer(number, Deferred::Other(pdu.clone())),
            Arrival::InOrder => {
                if self.run_other(decoded, pdu, !immediate, output) && !immediate {
                    self.run_deferred(output);
                }
            }
        }
    }

    /// Performs such a PDU when its turn has come; one that is `numbered` uses its CmdSN up. False if it was
    /// rejected: then its CmdSN "MUST NOT be considered received" (7.3).
    pub(super) fn run_other(
        &mut self,
        decoded: &InitiatorPdu,
        pdu: &Received,
        numbered: bool,
        output: &mut Output,
    ) -> bool {
        let prepared = self.prepare(decoded, pdu, !numbered);
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(reason) => {
                self.reject(pdu, reason, output);
                return false;
            }
        };
        // "A target command response [...] MUST NOT precede the command acknowledgment" (4.2.2.1).
        if numbered {
            self.window.advance();
        }
        match prepared {
            Prepared::Nop(nop) => self.on_nop(&nop, pdu.data.as_deref().unwrap_or_default(), output),
            Prepared::Text(tag, part) => self.on_text(tag, &part, output),
            Prepared::Work(work) => self.work.push_back(work),
            Prepared::Postponed(request) => self.postpone(request),
            Prepared::Refused(tag) => self.respond_function(tag, TaskManagementResult::Rejected, output),
        }
        true
    }

    /// What a PDU comes to, or why it is rejected.
    fn prepare(
        &mut self,
        decoded: &InitiatorPdu,
        pdu: &Received,
        immediate: bool,
    ) -> Result<Prepared, RejectReason> {
        match decoded {
            InitiatorPdu::NopOut(nop) => Ok(Prepared::Nop(*nop)),
            InitiatorPdu::TextRequest(request) => {
                let data = pdu.data.as_deref().unwrap_or_default();
                let fresh_tag = self.fresh_transfer_tag();
                let config = self.directory.clone();
                let directory = Directory { config: &config, ends: self.ends };
                let part = self.text.on_request(request, data, directory, &self.parameters, fresh_tag);
                part.map(|part| Prepared::Text(request.initiator_task_tag, part)).map_err(TextError::reason)
            }
            InitiatorPdu::LogoutRequest(request) => Ok(Prepared::Work(Work::LogOut(*request))),
            InitiatorPdu::TaskManagementRequest(request) if !self.parameters.discovery => {
                self.prepare_function(request, immediate)
            }
            _ => Err(RejectReason::CommandNotSupported),
        }
    }

    fn prepare_function(
        &self,
        request: &TaskManagementRequest,
        immediate: bool,
    ) -> Result<Prepared, RejectReason> {
        let tag = request.initiator_task_tag;
        if tag == RESERVED_TAG {
            return Err(RejectReason::InvalidPduField);
        }
        if self.is_tag_in_use(tag) {
            return Err(RejectReason::TaskInProgress);
        }
        if !self.functions.has_room(self.postponed()) {
            let refused = Prepared::Refused(tag);
            return if immediate { Err(RejectReason::TooManyImmediateCommands) } else { Ok(refused) };
        }
        let early = immediate && request.cmd_sn.follows(self.window.expected());
        if early && task_management::waits_for_commands(request.function) {
            return Ok(Prepared::Postponed(*request));
        }
        Ok(Prepared::Work(Work::Manage(*request)))
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

    fn on_text(&mut self, tag: u32, part: &Part, output: &mut Output) {
        let mut sender = self.sender(output);
        let header = TextResponse {
            final_bit: part.last,
            continue_bit: part.continues,
            data_segment_length: part.text.len() as u32,
            lun: [0; 8],
            initiator_task_tag: tag,
            target_transfer_tag: part.transfer_tag,
            stat_sn: sender.take_stat_sn(),
            exp_cmd_sn: sender.expected,
            max_cmd_sn: sender.maximum,
        };
        sender.output.pdu(&header.encode(), &part.text, sender.parameters.digests());
        if part.last {
            // "Parameters [...] only become effective after the negotiation sequence is completed" (6.4).
            self.text.settle(&mut self.parameters);
        }
    }

    /// Speaks unasked (11.9).
    pub fn announce(&mut self, event: AsyncEvent, output: &mut Output) {
        let mut sender = self.sender(output);
        let header = AsyncMessage {
            event,
            data_segment_length: 0,
            lun: [0; 8],
            stat_sn: sender.take_stat_sn(),
            exp_cmd_sn: sender.expected,
            max_cmd_sn: sender.maximum,
        };
        sender.output.pdu(&header.encode(), &[], sender.parameters.digests());
    }

    /// True for a discovery session, on which nothing but answers is sent (7.4.3).
    #[must_use]
    pub const fn is_discovery(&self) -> bool {
        self.parameters.discovery
    }

    /// Connection ID.
    #[must_use]
    pub const fn cid(&self) -> u16 {
        self.cid
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

    /// The host leaves: "the target MUST terminate all pending commands" (11.14). Gives the tasks the controller has
    /// to be asked to give up. [`Work::LogOut`] comes again when they have ended and every function is answered.
    pub fn end_all(&mut self, request: &LogoutRequest, output: &mut Output) -> Managed {
        let mut managed = Managed::default();
        self.leaving = Some(*request);
        self.deferred.clear();
        self.postponed.clear();
        self.starved.clear();
        let tasks: Vec<_> = self
            .tasks
            .iter_mut()
            .map(|task| {
                task.ending = Ending::Unheard;
                (task.tag, task.lun, task.state == State::Outcome)
            })
            .collect();
        for (tag, lun, executing) in tasks {
            if executing {
                managed.aborts.push((lun, tag));
            } else {
                self.forget(tag, output);
                self.after_unheard(tag, output);
                managed.claims.extend(self.take_claims(tag));
            }
        }
        managed
    }

    /// True if the host may hear that it is logged out: nothing it sent can take effect any more, and what it asked
    /// about that is answered.
    pub(super) fn may_leave(&self) -> bool {
        self.leaving.is_some() && self.is_idle()
    }

    /// True if no command and no task management function is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.tasks.count() == 0 && self.functions.is_idle()
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

    /// Says that a PDU was not served, and returns its complete header (11.17), as far as the initiator takes it.
    pub(super) fn reject(&mut self, pdu: &Received, reason: RejectReason, output: &mut Output) {
        let mut header = pdu.bhs.to_vec();
        header.extend_from_slice(&pdu.ahs);
        header.truncate(self.parameters.send_segment() as usize);
        let mut sender = self.sender(output);
        let reject = Reject {
            reason,
            data_segment_length: header.len() as u32,
            stat_sn: sender.take_stat_sn(),
            exp_cmd_sn: sender.expected,
            max_cmd_sn: sender.maximum,
            data_sn: 0,
        };
        sender.output.pdu(&reject.encode(), &header, sender.parameters.digests());
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
        // What others have under way on LUNs this host must not see is none of its business (11.5.1, 11.6.1).
        if reach == Reach::Target && self.luns.is_some() {
            self.respond_function(tag, TaskManagementResult::AuthorizationFailed, output);
            return managed;
        }
        if reach != Reach::Target && !(unit_exists && self.sees(&request.lun)) {
            self.respond_function(tag, TaskManagementResult::LunDoesNotExist, output);
            return managed;
        }
        let mut affected = Vec::new();
        let waits = task_management::waits_for_data(request.function);
        for task in self.tasks.iter_mut().filter(|task| task_management::reaches_own(request, reach, task)) {
            let fate = match task.state {
                State::Outcome => Fate::Executing,
                State::Data if waits && task.gather.is_open() => Fate::OwedData,
                _ => Fate::Gone,
            };
            affected.push((task.tag, task.lun, fate));
            task.ending = Ending::Unheard;
        }
        if reach == Reach::Task && affected.is_empty() {
            let result = self.abort_unknown(request, output);
            self.respond_function(tag, result, output);
            return managed;
        }
        let awaited = affected.iter().filter(|(.., fate)| *fate != Fate::Gone).map(|(task, ..)| *task);
        self.functions.begin(tag, awaited.collect());
        managed.waits = true;
        for (task, lun, fate) in affected {
            match fate {
                Fate::Executing => managed.aborts.push((lun, task)),
                Fate::OwedData => {}
                Fate::Gone => {
                    self.forget(task, output);
                    // One before this may wait for its data.
                    self.after_unheard(task, output);
                    managed.claims.extend(self.take_claims(task));
                }
            }
        }
        managed
    }

    fn sees(&self, lun: &Lun) -> bool {
        let seen = |luns: &Arc<[u16]>| match Address::decode(lun) {
            Address::Unit(number) => luns.contains(&number),
            Address::ReportLuns | Address::Other => false,
        };
        self.luns.as_ref().is_none_or(seen)
    }

    /// ABORT TASK for a task that is not here (11.6.1).
    fn abort_unknown(
        &mut self,
        request: &TaskManagementRequest,
        output: &mut Output,
    ) -> TaskManagementResult {
        let referenced = request.referenced_task_tag;
        if self.functions.contains(referenced) || self.is_postponed(referenced) {
            return TaskManagementResult::Rejected;
        }
        if self.text.abort(referenced) {
            return TaskManagementResult::Complete;
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
                // A function of its own may have given it up before, and waits for data that it owes no more.
                if task.ending == Ending::Unheard {
                    self.after_unheard(tag, output);
                } else {
                    super::data_in::answer(&mut self.sender(output), &task, Outcome::Aborted);
                }
                managed.claims.extend(self.take_claims(tag));
            }
        }
        managed
    }

    /// Counts tasks of other sessions that a function waits for in or out, and answers it if it was the last.
    pub fn release(&mut self, function: u32, change: i64, output: &mut Output) {
        for tag in self.functions.elsewhere(function, change) {
            let result = self.functions.result(tag);
            self.respond_function(tag, result, output);
        }
    }

    /// A LUN that a function of this session resets has been, or nobody knows.
    pub(super) fn on_reset(&mut self, function: u32, outcome: &Outcome, output: &mut Output) {
        if !matches!(outcome, Outcome::Good(_)) {
            self.functions.fail(function);
        }
        self.release(function, -1, output);
    }

    /// An aborted task has ended: so have perhaps the functions that waited for it.
    pub(super) fn after_unheard(&mut self, task: u32, output: &mut Output) {
        for tag in self.functions.on_ended(task) {
            let result = self.functions.result(tag);
            self.respond_function(tag, result, output);
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

/// What a PDU that is not rejected comes to.
enum Prepared {
    Nop(NopOut),
    Text(u32, Part),
    Work(Work),
    /// It waits for the commands before it.
    Postponed(TaskManagementRequest),
    /// A function with this tag that finds no room.
    Refused(u32),
}

/// What happens to a task that a function of its own session reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// The controller is asked to give it up; its outcome is awaited.
    Executing,
    /// The initiator answers its R2Ts to the end first (4.2.3.3 a).
    OwedData,
    /// It ends at once.
    Gone,
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
