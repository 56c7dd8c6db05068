//! A session in full feature phase as a pure machine: PDUs and outcomes in, PDUs and [`Work`] out.
//!
//! The task of a command goes through these states (`tasks::State`):
//!
//! ```text
//!            CmdSN in turn        all data-out here        room for its data-in        outcome
//!   Order ─────────────────► Data ─────────────────► Turn ───────────────────► Outcome ───────► answered
//! ```
//! The machine never calls out: whoever holds it locks, hands an event in, takes the next [`Work`], unlocks and
//! performs it. Answers may come from any thread, even while the same thread performs [`Work::Execute`].

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use controller::command::{NexusId, Outcome, TaskTag};
use controller::time::Time;
use protocol::iscsi::{
    Bhs, CmdSn, DataOut, InitiatorPdu, LogoutRequest, Opcode, RESERVED_TAG, ReadyToTransfer, RejectReason,
    ScsiCommand, StatSn, TaskManagementRequest,
};

use super::commands::{Arrival, COMMAND_WINDOW, CommandWindow, IMMEDIATE_COMMANDS_MAX};
use super::data_in::{self, Sender};
use super::discovery::TextExchange;
use super::output::Output;
use super::parameters::Parameters;
use super::task_management::Functions;
use super::tasks::{Claim, Ending, State, Task, Tasks};
use super::transfer::{Gather, Header, Progress, Terms};
use crate::device_server::Request;
use crate::frontend::FrontendConfig;

/// Data-out of one session asked for by R2T and not yet executed at most, in bytes; a single command may exceed
/// it alone.
pub const SOLICITED_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Data-in of one session being read or waiting to be sent at most, in bytes; a single command may exceed it
/// alone.
pub const DATA_IN_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Aborted tasks whose Data-Out is still dropped without a word, at most.
const SILENCED_MAX: usize = 128;

/// A PDU as it was received.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its header.
    pub bhs: Bhs,
    /// Its data segment; none if the data digest did not match.
    pub data: Option<Bytes>,
}

/// What the session needs done outside.
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

/// Something with a CmdSN that came before its turn.
#[derive(Debug)]
pub(super) enum Deferred {
    /// The task with this tag.
    Command(u32),
    /// Any other PDU.
    Other(Received),
    /// A command that was aborted before it came (11.6.1 b).
    Nothing,
}

/// What does not change in a session.
#[derive(Debug)]
pub struct Opening {
    /// The session's nexus; none for discovery.
    pub nexus: Option<NexusId>,
    /// What was negotiated.
    pub parameters: Parameters,
    /// Connection ID.
    pub cid: u16,
    /// The next CmdSN.
    pub cmd_sn: CmdSn,
    /// The next StatSN.
    pub stat_sn: StatSn,
    /// What SendTargets lists.
    pub directory: Arc<FrontendConfig>,
    /// How many bytes of data-out a CDB takes.
    pub data_out_bytes: fn(&[u8; 16]) -> u64,
}

/// A session in full feature phase.
#[derive(Debug)]
pub struct FullFeature {
    pub(super) nexus: Option<NexusId>,
    pub(super) parameters: Parameters,
    pub(super) cid: u16,
    pub(super) directory: Arc<FrontendConfig>,
    data_out_bytes: fn(&[u8; 16]) -> u64,
    pub(super) window: CommandWindow,
    pub(super) stat_sn: StatSn,
    pub(super) tasks: Tasks,
    deferred: Vec<(CmdSn, Deferred)>,
    turn: VecDeque<u32>,
    pub(super) work: VecDeque<Work>,
    pub(super) functions: Functions,
    pub(super) claims: Vec<(u32, Claim)>,
    pub(super) text: TextExchange,
    next_transfer_tag: u32,
    solicited_bytes: u64,
    starved: VecDeque<u32>,
    data_in_bytes: u64,
    held: bool,
    silenced: VecDeque<u32>,
}

impl FullFeature {
    /// A session after its login.
    #[must_use]
    pub fn new(terms: Opening) -> Self {
        Self {
            nexus: terms.nexus,
            parameters: terms.parameters,
            cid: terms.cid,
            directory: terms.directory,
            data_out_bytes: terms.data_out_bytes,
            window: CommandWindow::new(terms.cmd_sn),
            stat_sn: terms.stat_sn,
            tasks: Tasks::default(),
            deferred: Vec::new(),
            turn: VecDeque::new(),
            work: VecDeque::new(),
            functions: Functions::default(),
            claims: Vec::new(),
            text: TextExchange::default(),
            next_transfer_tag: 1,
            solicited_bytes: 0,
            starved: VecDeque::new(),
            data_in_bytes: 0,
            held: false,
            silenced: VecDeque::new(),
        }
    }

    /// Tasks that were not answered yet.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.tasks.count()
    }

    pub(super) fn sender<'a>(&'a mut self, output: &'a mut Output) -> Sender<'a> {
        self.window.open(self.tasks.count() as u32);
        Sender {
            output,
            stat_sn: &mut self.stat_sn,
            expected: self.window.expected(),
            maximum: self.window.maximum(),
            parameters: &self.parameters,
        }
    }

    pub(super) fn fresh_transfer_tag(&mut self) -> u32 {
        let tag = self.next_transfer_tag;
        self.next_transfer_tag = if tag + 1 == RESERVED_TAG { 1 } else { tag + 1 };
        tag
    }

    /// Takes a PDU.
    pub fn on_pdu(&mut self, pdu: &Received, now: Time, output: &mut Output) {
        const COMMAND: u8 = Opcode::ScsiCommand as u8;
        const DATA_OUT: u8 = Opcode::DataOut as u8;
        let decoded = match Opcode::value_of(&pdu.bhs) {
            COMMAND => ScsiCommand::decode(&pdu.bhs).map(InitiatorPdu::ScsiCommand),
            DATA_OUT => DataOut::decode(&pdu.bhs).map(InitiatorPdu::DataOut),
            _ => InitiatorPdu::decode(&pdu.bhs),
        };
        match decoded {
            Ok(InitiatorPdu::ScsiCommand(command)) if !self.parameters.discovery => {
                self.on_command(&command, pdu, now, output);
            }
            Ok(InitiatorPdu::DataOut(data)) if !self.parameters.discovery => {
                self.on_data_out(&data, pdu, output)
            }
            Ok(other) => self.on_other(&other, pdu, output),
            Err(error) => {
                self.reject(&pdu.bhs, error.reject_reason(), output);
                if error.is_format_error() {
                    self.work.push_back(Work::Close);
                }
            }
        }
    }

    fn on_command(&mut self, command: &ScsiCommand, pdu: &Received, now: Time, output: &mut Output) {
        let tag = command.initiator_task_tag;
        let arrival = self.window.arrival(command.cmd_sn, command.immediate);
        if arrival == Arrival::Ignored || self.is_deferred(command.cmd_sn, arrival) {
            return;
        }
        let Some(data) = &pdu.data else {
            return self.reject(&pdu.bhs, RejectReason::DataDigestError, output);
        };
        if command.immediate && self.tasks.count() >= (COMMAND_WINDOW + IMMEDIATE_COMMANDS_MAX) as usize {
            return self.reject(&pdu.bhs, RejectReason::TooManyImmediateCommands, output);
        }
        let known = self.tasks.find(tag).is_some() || self.functions.contains(tag);
        if known || tag == RESERVED_TAG {
            let reason = if known { RejectReason::TaskInProgress } else { RejectReason::InvalidPduField };
            self.reject(&pdu.bhs, reason, output);
            return self.use_up(command.cmd_sn, arrival, command.immediate, output);
        }
        self.silenced.retain(|silenced| *silenced != tag);
        let task = self.new_task(command, data.clone(), now);
        self.tasks.insert(task);
        match arrival {
            Arrival::InOrder if command.immediate => self.deliver(tag, output),
            Arrival::InOrder => {
                self.window.advance();
                self.deliver(tag, output);
                self.run_deferred(output);
            }
            Arrival::Early | Arrival::Ignored => self.deferred.push((command.cmd_sn, Deferred::Command(tag))),
        }
    }

    fn new_task(&self, command: &ScsiCommand, data: Bytes, now: Time) -> Task {
        let expected = command.expected_data_transfer_length;
        let takes = (self.data_out_bytes)(&command.cdb);
        let out = if command.write { expected } else { 0 };
        let terms = Terms {
            wanted: u32::try_from(takes).unwrap_or(u32::MAX).min(out),
            expected: out,
            more: !command.final_bit,
            immediate_allowed: self.parameters.agreed.immediate_data,
            unsolicited_allowed: !self.parameters.agreed.initial_r2t,
            first_burst: self.parameters.agreed.first_burst_bytes(),
        };
        Task {
            tag: command.initiator_task_tag,
            lun: command.lun,
            cdb: command.cdb,
            number: command.cmd_sn,
            expected,
            reads: command.read,
            writes: command.write,
            takes,
            counted_out: 0,
            received: now,
            state: State::Order,
            ending: Ending::Answered,
            gather: Gather::begin(&terms, data),
        }
    }

    /// True if something with this number already waits for its turn.
    pub(super) fn is_deferred(&self, number: CmdSn, arrival: Arrival) -> bool {
        arrival == Arrival::Early && self.deferred.iter().any(|(deferred, _)| *deferred == number)
    }

    /// Keeps something until its turn comes. Bounded by the command window.
    pub(super) fn defer(&mut self, number: CmdSn, what: Deferred) {
        debug_assert!(self.deferred.len() < COMMAND_WINDOW as usize);
        self.deferred.push((number, what));
    }

    /// The number of something that is not performed counts as received.
    pub(super) fn use_up(&mut self, number: CmdSn, arrival: Arrival, immediate: bool, output: &mut Output) {
        match arrival {
            Arrival::InOrder if !immediate => {
                self.window.advance();
                self.run_deferred(output);
            }
            Arrival::Early if !self.is_deferred(number, arrival) => self.defer(number, Deferred::Nothing),
            _ => {}
        }
    }

    pub(super) fn run_deferred(&mut self, output: &mut Output) {
        while let Some(at) = self.deferred.iter().position(|(number, _)| *number == self.window.expected()) {
            let (number, what) = self.deferred.swap_remove(at);
            self.window.advance();
            match what {
                Deferred::Command(tag) => {
                    // It may have been aborted since, and its tag used again.
                    if self.tasks.get_mut(tag).is_some_and(|task| task.number == number) {
                        self.deliver(tag, output);
                    }
                }
                Deferred::Other(pdu) => {
                    if let Ok(decoded) = InitiatorPdu::decode(&pdu.bhs) {
                        self.run_other(&decoded, &pdu, output);
                    }
                }
                Deferred::Nothing => {}
            }
        }
    }

    fn deliver(&mut self, tag: u32, output: &mut Output) {
        if let Some(task) = self.tasks.get_mut(tag).filter(|task| task.state == State::Order) {
            task.state = State::Data;
            self.proceed(tag, output);
        }
    }

    /// Takes a task as far as its data-out allows.
    fn proceed(&mut self, tag: u32, output: &mut Output) {
        let Some(task) = self.tasks.get_mut(tag) else {
            return;
        };
        if task.state != State::Data {
            return;
        }
        match task.gather.progress() {
            Progress::Complete => {
                task.state = State::Turn;
                self.turn.push_back(tag);
            }
            Progress::Failed(sense) => {
                if let Some(task) = self.remove(tag, output) {
                    data_in::answer(&mut self.sender(output), &task, Outcome::Check(sense));
                }
            }
            Progress::Waiting => self.solicit(tag, output),
        }
    }

    /// Sends the R2Ts that are due for a task, if the session's bound leaves room for the whole of it.
    fn solicit(&mut self, tag: u32, output: &mut Output) {
        let (max_burst, outstanding) =
            (self.parameters.agreed.max_burst_length, self.parameters.agreed.max_outstanding_r2t);
        loop {
            let Some(task) = self.tasks.get_mut(tag) else {
                return;
            };
            let Some(solicitation) = task.gather.next_solicitation(max_burst, outstanding) else {
                return;
            };
            if task.counted_out == 0 {
                let bytes = task.expected - solicitation.offset;
                if self.solicited_bytes > 0 && self.solicited_bytes + u64::from(bytes) > SOLICITED_BYTES_MAX {
                    return self.starved.push_back(tag);
                }
                task.counted_out = bytes;
                self.solicited_bytes += u64::from(bytes);
            }
            let transfer_tag = self.next_transfer_tag;
            task.gather.on_solicited(solicitation, transfer_tag);
            let lun = task.lun;
            let _ = self.fresh_transfer_tag();
            let sender = self.sender(output);
            let header = ReadyToTransfer {
                lun,
                initiator_task_tag: tag,
                target_transfer_tag: transfer_tag,
                stat_sn: *sender.stat_sn,
                exp_cmd_sn: sender.expected,
                max_cmd_sn: sender.maximum,
                r2t_sn: solicitation.number,
                buffer_offset: solicitation.offset,
                desired_data_transfer_length: solicitation.length,
            };
            sender.output.pdu(&header.encode(), &[], sender.parameters.digests());
        }
    }

    fn on_data_out(&mut self, data: &DataOut, pdu: &Received, output: &mut Output) {
        let tag = data.initiator_task_tag;
        if pdu.data.is_none() {
            self.reject(&pdu.bhs, RejectReason::DataDigestError, output);
        }
        let header = Header {
            transfer_tag: data.target_transfer_tag,
            data_sn: data.data_sn,
            offset: data.buffer_offset,
            last: data.final_bit,
        };
        let taken = self
            .tasks
            .get_mut(tag)
            .map(|task| task.gather.on_data(header, data.data_segment_length, pdu.data.clone()));
        match taken {
            Some(Ok(())) => self.proceed(tag, output),
            None if self.silenced.contains(&tag) => {}
            Some(Err(_)) | None => self.reject(&pdu.bhs, RejectReason::InvalidPduField, output),
        }
    }

    /// Removes a task and gives back what it held; tasks that waited for that go on.
    pub(super) fn remove(&mut self, tag: u32, output: &mut Output) -> Option<Task> {
        let task = self.tasks.remove(tag)?;
        if task.state == State::Outcome {
            self.data_in_bytes = self.data_in_bytes.saturating_sub(u64::from(task.expected_in()));
        }
        self.solicited_bytes = self.solicited_bytes.saturating_sub(u64::from(task.counted_out));
        if !self.starved.is_empty() {
            for starved in core::mem::take(&mut self.starved) {
                self.solicit(starved, output);
            }
        }
        Some(task)
    }

    /// Removes a task that is not being executed and forgets it; its Data-Out may still come.
    pub(super) fn forget(&mut self, tag: u32, output: &mut Output) -> Option<Task> {
        let task = self.remove(tag, output)?;
        if task.writes {
            if self.silenced.len() >= SILENCED_MAX {
                self.silenced.pop_front();
            }
            self.silenced.push_back(tag);
        }
        Some(task)
    }

    /// The next thing to do outside, and whether there may be more. `backlog` is what waits to be written, in
    /// bytes.
    pub fn next_work(&mut self, backlog: usize) -> (Option<Work>, bool) {
        if let Some(work) = self.work.pop_front() {
            return (Some(work), true);
        }
        let Some(nexus) = self.nexus else {
            return (None, false);
        };
        while let Some(tag) = self.turn.front().copied() {
            let Some(task) = self.tasks.get_mut(tag).filter(|task| task.state == State::Turn) else {
                self.turn.pop_front();
                continue;
            };
            let busy = self.data_in_bytes + backlog as u64;
            if busy > 0 && busy + u64::from(task.expected_in()) > DATA_IN_BYTES_MAX {
                self.held = true;
                return (None, false);
            }
            self.turn.pop_front();
            task.state = State::Outcome;
            self.data_in_bytes += u64::from(task.expected_in());
            let request = Request {
                nexus,
                tag: TaskTag(tag),
                lun: task.lun,
                cdb: task.cdb,
                data: task.gather.take(),
                announced: if task.writes { task.expected } else { 0 },
                received: task.received,
            };
            return (Some(Work::Execute(request)), !self.turn.is_empty());
        }
        (None, false)
    }

    /// True once if commands were held for want of room and there is room again.
    pub fn take_room(&mut self, backlog: usize) -> bool {
        let room = self.data_in_bytes + backlog as u64 <= DATA_IN_BYTES_MAX / 2;
        let resume = self.held && room;
        self.held &= !room;
        resume
    }

    /// Takes the outcome of a command. Gives the functions of other sessions that waited for it.
    pub fn on_outcome(&mut self, tag: TaskTag, outcome: Outcome, output: &mut Output) -> Vec<Claim> {
        let executing = self.tasks.get_mut(tag.0).is_some_and(|task| task.state == State::Outcome);
        if !executing {
            return Vec::new();
        }
        let Some(task) = self.remove(tag.0, output) else {
            return Vec::new();
        };
        if task.ending == Ending::Unheard {
            self.after_unheard(tag.0, output);
        } else {
            data_in::answer(&mut self.sender(output), &task, outcome);
        }
        self.take_claims(tag.0)
    }

    /// The functions of other sessions that waited for a task.
    pub(super) fn take_claims(&mut self, tag: u32) -> Vec<Claim> {
        if self.claims.is_empty() {
            return Vec::new();
        }
        self.claims.extract_if(.., |(claimed, _)| *claimed == tag).map(|(_, claim)| claim).collect()
    }

    /// The functions of other sessions that wait for any task: the session ends, nobody hears of its tasks.
    pub fn take_all_claims(&mut self) -> Vec<Claim> {
        core::mem::take(&mut self.claims).into_iter().map(|(_, claim)| claim).collect()
    }
}

#[cfg(test)]
mod tests;
