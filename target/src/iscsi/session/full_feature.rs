//! A session in full feature phase as a pure machine: PDUs and outcomes in, PDUs and [`Work`] out.
//!
//! The task of a command goes through these states (`tasks::State`):
//!
//! ```text
//!            CmdSN in turn        all data-out here         room for its data-in        outcome
//!   Order ─────────────────► Data ─────────────────► Ready ───────────────────► Outcome ───────► answered
//! ```
//! A task that is `Ready` also waits for those that its attribute or theirs puts before it (`task_set`).
//!
//! The machine never calls out: its owner locks it, hands an event in, takes the next [`Work`], unlocks and performs
//! it. Answers may come from any thread, even while the same thread performs [`Work::Execute`].
//!
//! Its parts know nothing of each other: [`CommandWindow`] and [`EarlyPdus`] say when a PDU's turn has come, the
//! [`TaskManager`] runs commands and task management functions, [`Requests`] takes the rest.

use std::sync::Arc;

use controller::command::{NexusId, Outcome, TaskTag};
use controller::time::Time;
use controller::unit::SenseFormats;
use protocol::iscsi::parameters::Parameters as Agreed;
use protocol::iscsi::{
    AsyncEvent, CmdSn, DataOut, InitiatorPdu, LogoutRequest, LogoutResult, Lun, Opcode, RESERVED_TAG,
    RejectReason, ScsiCommand, StatSn, TaskManagementRequest, TaskManagementResult, ahs,
};

use super::async_message;
use super::command_window::{Arrival, COMMAND_WINDOW, CommandWindow, IMMEDIATE_COMMANDS_MAX};
use super::commands::Commands;
use super::early::{Early, EarlyPdus};
use super::logout;
use super::nop;
use super::opening::Opening;
use super::reject;
use super::requests::{Requests, Work, number_of};
use super::sender::{Sender, TransferTags};
use super::task_management::{self, Managed, Reach, Waiter};
use super::task_manager::TaskManager;
use super::usage::Usage;
use crate::iscsi::connection::framing::Received;
use crate::iscsi::connection::output::Output;
use crate::iscsi::login::parameters::Parameters;
use crate::iscsi::memory_pool::Quota;

/// A session in full feature phase.
#[derive(Debug)]
pub struct FullFeature {
    nexus: Option<NexusId>,
    parameters: Parameters,
    cid: u16,
    pub(super) luns: Option<Arc<[u16]>>,
    sense_formats: SenseFormats,
    window: CommandWindow,
    early: EarlyPdus,
    stat_sn: StatSn,
    transfer_tags: TransferTags,
    pub(super) tasks: TaskManager,
    requests: Requests,
    /// The connection closes when no function waits any more.
    closing: bool,
    /// The host logs out: it is answered when nothing of it can take effect any more.
    leaving: Option<LogoutRequest>,
}

impl FullFeature {
    /// A session after its login.
    #[must_use]
    pub fn new(opening: Opening) -> Self {
        Self {
            nexus: opening.nexus,
            parameters: opening.parameters,
            cid: opening.cid,
            luns: opening.luns,
            sense_formats: opening.sense_formats,
            window: CommandWindow::new(opening.cmd_sn),
            early: EarlyPdus::default(),
            stat_sn: opening.stat_sn,
            transfer_tags: TransferTags::default(),
            tasks: TaskManager::new(opening.memory, opening.data_out_bytes),
            requests: Requests::new(opening.directory, opening.ends),
            closing: false,
            leaving: None,
        }
    }

    /// Its commands.
    #[must_use]
    pub const fn commands(&self) -> &Commands {
        self.tasks.commands()
    }

    /// Its commands.
    pub const fn commands_mut(&mut self) -> &mut Commands {
        self.tasks.commands_mut()
    }

    /// What it uses of its bounds.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let commands = self.commands();
        Usage {
            tasks: commands.count() as u64,
            functions: self.tasks.functions() as u64,
            solicited_bytes: commands.budget().data_out(),
            data_in_bytes: commands.budget().data_in(),
            aborted_writes: commands.aborted_writes() as u64,
            output_bytes: 0,
        }
    }

    /// The task manager, and what it sends with.
    pub(super) fn parts<'a>(&'a mut self, output: &'a mut Output) -> (&'a mut TaskManager, Sender<'a>) {
        let (_, tasks, sender) = self.all_parts(output);
        (tasks, sender)
    }

    fn all_parts<'a>(
        &'a mut self,
        output: &'a mut Output,
    ) -> (&'a mut Requests, &'a mut TaskManager, Sender<'a>) {
        let sender = Sender {
            output,
            stat_sn: &mut self.stat_sn,
            window: &mut self.window,
            tags: &mut self.transfer_tags,
            parameters: &self.parameters,
            luns: self.luns.as_deref(),
            sense_formats: &self.sense_formats,
        };
        (&mut self.requests, &mut self.tasks, sender)
    }

    /// What one PDU is sent with now.
    fn sender<'a>(&'a mut self, output: &'a mut Output) -> Sender<'a> {
        let (tasks, mut sender) = self.parts(output);
        tasks.open(&mut sender);
        sender
    }

    /// Takes a PDU.
    pub fn on_pdu(&mut self, pdu: &Received, now: Time, output: &mut Output) {
        self.commands_mut().set_time(now);
        // "No other request may follow it" (4.6.3.3).
        if self.leaving.is_some() {
            return;
        }
        const COMMAND: u8 = Opcode::ScsiCommand as u8;
        const DATA_OUT: u8 = Opcode::DataOut as u8;
        let decoded = match Opcode::value_of(&pdu.bhs) {
            COMMAND => ScsiCommand::decode(&pdu.bhs).map(InitiatorPdu::ScsiCommand),
            DATA_OUT => DataOut::decode(&pdu.bhs).map(InitiatorPdu::DataOut),
            _ => InitiatorPdu::decode(&pdu.bhs),
        };
        match decoded {
            Ok(InitiatorPdu::ScsiCommand(command)) if !self.parameters.discovery => {
                if command.total_ahs_length > 0 && ahs::decode(&pdu.ahs).is_err() {
                    return self.format_error(pdu, RejectReason::ProtocolError, output);
                }
                self.on_command(&command, pdu, output);
            }
            Ok(InitiatorPdu::DataOut(data)) if !self.parameters.discovery => {
                self.on_data_out(&data, pdu, output);
            }
            Ok(other) => self.on_other(&other, pdu, output),
            Err(error) if error.is_format_error() => self.format_error(pdu, error.reject_reason(), output),
            Err(error) => self.reject(pdu, error.reject_reason(), output),
        }
        self.check();
    }

    fn reject(&mut self, pdu: &Received, reason: RejectReason, output: &mut Output) {
        reject::send(&mut self.sender(output), pdu, reason);
    }

    /// The connection ends (7.7) when its host has been told why.
    fn format_error(&mut self, pdu: &Received, reason: RejectReason, output: &mut Output) {
        self.reject(pdu, reason, output);
        self.requests.close();
    }

    fn on_command(&mut self, command: &ScsiCommand, pdu: &Received, output: &mut Output) {
        let tag = command.initiator_task_tag;
        let arrival = self.window.arrival(command.cmd_sn, command.immediate);
        if arrival == Arrival::Ignored || self.early.repeats(command.cmd_sn, arrival) {
            return;
        }
        let Some(data) = &pdu.data else {
            return self.reject(pdu, RejectReason::DataDigestError, output);
        };
        if command.immediate && self.commands().count() >= (COMMAND_WINDOW + IMMEDIATE_COMMANDS_MAX) as usize
        {
            return self.reject(pdu, RejectReason::TooManyImmediateCommands, output);
        }
        // "The CmdSN of the rejected command PDU [...] MUST NOT be considered received" (7.3).
        if self.tasks.is_tag_in_use(tag) {
            return self.reject(pdu, RejectReason::TaskInProgress, output);
        }
        if tag == RESERVED_TAG {
            return self.reject(pdu, RejectReason::InvalidPduField, output);
        }
        let (tasks, mut sender) = self.parts(output);
        let at = tasks.begin(command, data.clone(), &sender);
        match arrival {
            Arrival::InOrder if command.immediate => tasks.deliver(at, &mut sender),
            Arrival::InOrder => {
                sender.window.advance();
                tasks.deliver(at, &mut sender);
                self.run_early(output);
            }
            Arrival::Early | Arrival::Ignored => self.early.keep(command.cmd_sn, Early::Command(tag)),
        }
    }

    fn on_data_out(&mut self, data: &DataOut, pdu: &Received, output: &mut Output) {
        if pdu.data.is_none() {
            // Its task, if there is one, is told below.
            self.reject(pdu, RejectReason::DataDigestError, output);
        }
        let (tasks, mut sender) = self.parts(output);
        if !tasks.on_data_out(data, pdu, &mut sender) {
            self.reject(pdu, RejectReason::InvalidPduField, output);
        }
    }

    /// Takes a PDU that is neither a command nor data.
    fn on_other(&mut self, decoded: &InitiatorPdu, pdu: &Received, output: &mut Output) {
        if pdu.data.is_none() {
            return self.reject(pdu, RejectReason::DataDigestError, output);
        }
        let (number, immediate) = match number_of(decoded) {
            Ok(numbered) => numbered,
            Err(reason) => return self.reject(pdu, reason, output),
        };
        let arrival = self.window.arrival(number, immediate);
        if self.early.repeats(number, arrival) {
            return;
        }
        match arrival {
            Arrival::Ignored => {}
            Arrival::Early => self.early.keep(number, Early::Other(pdu.clone())),
            Arrival::InOrder => {
                if self.run_other(decoded, pdu, !immediate, output) && !immediate {
                    self.run_early(output);
                }
            }
        }
    }

    /// Performs such a PDU when its turn has come; one that is `numbered` uses its CmdSN up. False if it was
    /// rejected: then its CmdSN "MUST NOT be considered received" (7.3).
    fn run_other(
        &mut self,
        decoded: &InitiatorPdu,
        pdu: &Received,
        numbered: bool,
        output: &mut Output,
    ) -> bool {
        let (requests, tasks, mut sender) = self.all_parts(output);
        let prepared = match requests.prepare((decoded, pdu), !numbered, tasks, &mut sender) {
            Ok(prepared) => prepared,
            Err(reason) => {
                self.reject(pdu, reason, output);
                return false;
            }
        };
        // "A target command response [...] MUST NOT precede the command acknowledgment" (4.2.2.1).
        if numbered {
            sender.window.advance();
        }
        let data = pdu.data.as_deref().unwrap_or_default();
        if requests.carry_out(prepared, data, tasks, &mut sender) {
            // "Parameters [...] only become effective after the negotiation sequence is completed" (6.4).
            self.requests.text().settle(&mut self.parameters);
        }
        true
    }

    /// Runs what came early and has its turn now.
    fn run_early(&mut self, output: &mut Output) {
        while let Some(early) = self.early.take(self.window.expected()) {
            let number = self.window.expected();
            match early {
                Early::Command(tag) => {
                    self.window.advance();
                    let (tasks, mut sender) = self.parts(output);
                    tasks.deliver_early(tag, number, &mut sender);
                }
                Early::Other(pdu) => {
                    // What is rejected leaves its number to another (7.3).
                    let decoded = InitiatorPdu::decode(&pdu.bhs);
                    if !decoded.is_ok_and(|decoded| self.run_other(&decoded, &pdu, true, output)) {
                        return;
                    }
                }
                Early::Aborted => self.window.advance(),
            }
        }
    }

    /// Asks the initiator whether it is there.
    pub fn ping(&mut self, output: &mut Output) {
        nop::ping(&mut self.sender(output));
    }

    /// Tells the initiator of an event.
    pub fn announce(&mut self, event: AsyncEvent, output: &mut Output) {
        async_message::send(&mut self.sender(output), event);
    }

    /// Connection ID.
    #[must_use]
    pub const fn cid(&self) -> u16 {
        self.cid
    }

    /// What a new connection of this session goes on with: what was agreed, and ExpCmdSN.
    #[must_use]
    pub const fn standing(&self) -> (Agreed, CmdSn) {
        (self.parameters.agreed, self.window.expected())
    }

    /// Takes the outcome of a command, or of a reset for one of its functions. Gives the functions of other sessions
    /// that waited for it.
    pub fn on_outcome(&mut self, tag: TaskTag, outcome: Outcome, output: &mut Output) -> Vec<Waiter> {
        let (tasks, mut sender) = self.parts(output);
        let waiters = tasks.on_outcome(tag, outcome, &mut sender);
        self.check();
        waiters
    }

    fn respond_function(&mut self, tag: u32, result: TaskManagementResult, output: &mut Output) {
        let (tasks, mut sender) = self.parts(output);
        tasks.respond(tag, result, &mut sender);
    }

    /// Performs a task management function as far as it concerns this session. `unit_exists` says whether its
    /// LUN field names a logical unit.
    pub fn manage(
        &mut self,
        request: &TaskManagementRequest,
        unit_exists: bool,
        output: &mut Output,
    ) -> Managed {
        let (tasks, mut sender) = self.parts(output);
        let exists = unit_exists && sender.sees(&request.lun);
        let result = match task_management::judge(request, exists, sender.luns.is_some()) {
            Ok(reach) => {
                if let Some(managed) = tasks.manage(request, reach, &mut sender) {
                    self.check();
                    return managed;
                }
                self.abort_unknown(request, output)
            }
            Err(result) => result,
        };
        self.respond_function(request.initiator_task_tag, result, output);
        Managed::default()
    }

    /// ABORT TASK for a task that is not here (11.6.1).
    fn abort_unknown(
        &mut self,
        request: &TaskManagementRequest,
        output: &mut Output,
    ) -> TaskManagementResult {
        let referenced = request.referenced_task_tag;
        if self.tasks.has_function(referenced) {
            return TaskManagementResult::Rejected;
        }
        if self.requests.text().abort(referenced) {
            return TaskManagementResult::Complete;
        }
        let number = request.ref_cmd_sn;
        let arrival = self.window.arrival(number, false);
        if arrival == Arrival::Ignored || !number.precedes(request.cmd_sn) {
            return TaskManagementResult::TaskDoesNotExist;
        }
        // 11.6.1 b): "targets must consider the CmdSN as received".
        if arrival == Arrival::InOrder {
            self.window.advance();
            self.run_early(output);
        } else if !self.early.repeats(number, arrival) {
            self.early.keep(number, Early::Aborted);
        }
        TaskManagementResult::Complete
    }

    /// A function of another session reaches into this one: gives the tasks the controller has to be asked to
    /// give up. Each will be reported to the [`Waiter`] when it has ended.
    pub fn abort_for(&mut self, lun: &Lun, reach: Reach, waiter: Waiter, output: &mut Output) -> Managed {
        let (tasks, mut sender) = self.parts(output);
        let managed = tasks.abort_for(lun, reach, waiter, &mut sender);
        self.check();
        managed
    }

    /// Counts tasks of other sessions that a function waits for in or out, and answers it if it was the last.
    pub fn release(&mut self, function: u32, change: i64, output: &mut Output) {
        let (tasks, mut sender) = self.parts(output);
        tasks.release(function, change, &mut sender);
    }

    /// The host leaves: "the target MUST terminate all pending commands" (11.14). Gives the tasks the controller has
    /// to be asked to give up. [`Work::LogOut`] comes again when they have ended and every function is answered.
    pub fn end_all(&mut self, request: &LogoutRequest, output: &mut Output) -> Managed {
        self.leaving = Some(*request);
        self.early.clear();
        let (tasks, mut sender) = self.parts(output);
        let managed = tasks.end_all(&mut sender);
        self.check();
        managed
    }

    /// Answers a Logout Request.
    pub fn log_out(&mut self, request: &LogoutRequest, result: LogoutResult, output: &mut Output) {
        logout::respond(&mut self.sender(output), request, result);
    }

    /// True if the host may hear that it is logged out: nothing it sent can take effect any more, and what it asked
    /// about that is answered.
    fn may_leave(&self) -> bool {
        self.leaving.is_some() && self.is_idle()
    }

    /// True if no command and no task management function is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.tasks.is_idle()
    }

    /// A cold reset: the connection closes when the function is answered.
    pub fn close_when_answered(&mut self) {
        self.closing = true;
    }

    /// True if the connection is to be closed.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.closing && self.tasks.has_no_functions()
    }

    /// The next thing to do outside, and whether there may be more. `backlog` is what waits to be written, in
    /// bytes.
    pub fn next_work(&mut self, backlog: usize) -> (Option<Work>, bool) {
        let work = self.requests.next_work(&mut self.tasks, self.window.expected());
        if work.is_some() {
            return (work, true);
        }
        if self.may_leave() {
            return (self.leaving.take().map(Work::LogOut), true);
        }
        let commands = self.tasks.commands_mut();
        commands.see_backlog(backlog as u64);
        let request = self.nexus.and_then(|nexus| commands.next_request(nexus, self.luns.as_ref()));
        let more = request.is_some() && commands.has_ready();
        (request.map(Work::Execute), more)
    }

    /// True once if commands were held for want of room, or because of other tasks, and may go on now. Only what has
    /// changed since counts: the owner that is told looks again, and must not be told again for having looked.
    pub fn take_room(&mut self, backlog: usize) -> bool {
        let commands = self.commands_mut();
        commands.see_backlog(backlog as u64);
        commands.take_room() || self.may_leave()
    }
    /// There may be memory again: what waits for it is tried once more. [`FullFeature::next_work`] follows.
    pub fn on_memory(&mut self, output: &mut Output) {
        let (tasks, mut sender) = self.parts(output);
        tasks.on_memory(&mut sender);
    }

    /// Nothing has happened for a while: memory that is not needed is given back.
    pub fn rest(&mut self) {
        self.commands_mut().rest();
        if self.commands().count() == 0 {
            self.requests.rest();
            self.early.rest();
        }
    }

    /// The session ends without answering its tasks: the functions of other sessions that wait for any of them, and
    /// what covers its output.
    #[must_use]
    pub fn end(self) -> (Vec<Waiter>, Quota) {
        self.tasks.end()
    }

    /// What always holds, looked at after each event, in debug builds only.
    fn check(&self) {
        if cfg!(debug_assertions) {
            self.window.check();
            self.early.check(&self.window);
            self.tasks.check();
        }
    }
}

#[cfg(test)]
mod tests;
