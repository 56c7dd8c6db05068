//! A session in full feature phase as a pure machine: PDUs and outcomes in, PDUs and [`Work`] out.
//!
//! The task of a command goes through these states (`tasks::State`):
//!
//! ```text
//!            CmdSN in turn        all data-out here        room for its data-in        outcome
//!   Order ─────────────────► Data ─────────────────► Turn ───────────────────► Outcome ───────► answered
//! ```
//! A task in `Turn` also waits for those its attribute or theirs puts before it (`task_set`).
//!
//! The machine never calls out: whoever holds it locks, hands an event in, takes the next [`Work`], unlocks and
//! performs it. Answers may come from any thread, even while the same thread performs [`Work::Execute`].

use core::net::SocketAddr;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use controller::command::{NexusId, Outcome, TaskTag};
use controller::time::Time;
use controller::unit::SenseFormats;
use protocol::iscsi::parameters::Parameters as Agreed;
use protocol::iscsi::{
    Bhs, CmdSn, DataOut, InitiatorPdu, LogoutRequest, Opcode, RESERVED_TAG, RejectReason, ScsiCommand,
    StatSn, TaskAttribute, TaskManagementRequest, ahs,
};

use super::commands::{Arrival, COMMAND_WINDOW, CommandWindow, IMMEDIATE_COMMANDS_MAX};
use super::data_in::{self, Sender};
use super::discovery::TextExchange;
use super::memory::{self, Holding, Memory};
use super::output::Output;
use super::parameters::Parameters;
use super::task_management::Functions;
use super::task_set;
use super::tasks::{Claim, Ending, State, Task, Tasks};
use super::transfer::{Gather, Refusal, Terms};
use super::writing::Flow;
use crate::device_server::Request;
use crate::frontend::FrontendConfig;

/// Data-in of one session being read or waiting to be sent at most, in bytes; a single command may exceed it
/// alone.
pub const DATA_IN_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// A PDU as it was received.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its header.
    pub bhs: Bhs,
    /// Its additional header segments; mostly empty.
    pub ahs: Bytes,
    /// Its data segment; none if the data digest did not match.
    pub data: Option<Bytes>,
}

/// What a session uses of its bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Commands not answered yet.
    pub tasks: u64,
    /// Task management functions that wait for tasks to end.
    pub functions: u64,
    /// Bytes of data-out gathered or asked for and not yet executed.
    pub solicited_bytes: u64,
    /// Bytes of data-in being read or waiting to be sent.
    pub data_in_bytes: u64,
    /// Aborted tasks whose Data-Out is still dropped.
    pub silenced: u64,
    /// Bytes of output that wait for the host to take them.
    pub output_bytes: u64,
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
    /// The host's address and that of the portal it came to.
    pub ends: Option<(SocketAddr, SocketAddr)>,
    /// How many bytes of data-out a CDB takes.
    pub data_out_bytes: fn(&[u8; 16]) -> u64,
    /// What all sessions of the controller share.
    pub memory: Arc<Memory>,
    /// The numbers of the LUNs the initiator may see, ascending; all if none.
    pub luns: Option<Arc<[u16]>>,
    /// In which format sense data of the LUNs is sent.
    pub sense_formats: SenseFormats,
}

/// A session in full feature phase.
#[derive(Debug)]
pub struct FullFeature {
    pub(super) nexus: Option<NexusId>,
    pub(super) parameters: Parameters,
    pub(super) cid: u16,
    pub(super) directory: Arc<FrontendConfig>,
    pub(super) ends: Option<(SocketAddr, SocketAddr)>,
    data_out_bytes: fn(&[u8; 16]) -> u64,
    pub(super) luns: Option<Arc<[u16]>>,
    sense_formats: SenseFormats,
    pub(super) window: CommandWindow,
    pub(super) stat_sn: StatSn,
    pub(super) tasks: Tasks,
    pub(super) deferred: Vec<(CmdSn, Deferred)>,
    /// Functions that came before commands they reach.
    pub(super) postponed: Vec<TaskManagementRequest>,
    pub(super) turn: VecDeque<u32>,
    pub(super) work: VecDeque<Work>,
    pub(super) functions: Functions,
    pub(super) claims: Vec<(u32, Claim)>,
    pub(super) text: TextExchange,
    next_transfer_tag: u32,
    /// Tasks whose R2Ts are withheld, in their order.
    pub(super) starved: VecDeque<u32>,
    pub(super) out_bytes: u64,
    pub(super) data_in_bytes: u64,
    /// Output that waited when it was last looked at, in bytes.
    pub(super) backlog: u64,
    pub(super) holding: Holding,
    /// Something waits for room in the purse: what was on its way when there was none, in bytes.
    pub(super) short: Option<u64>,
    /// When there is room again, reads are tried before R2Ts.
    pub(super) reads_first: bool,
    /// Reads wait until less of this session is on its way.
    pub(super) held: bool,
    /// When it last was told the time.
    pub(super) clock: Time,
    pub(super) flow: Flow,
    /// Tasks that are ORDERED or HEAD OF QUEUE.
    pub(super) special: u32,
    /// Tasks that wait for others because of their attributes were met.
    pub(super) gated: bool,
    entered: u64,
    pub(super) silenced: VecDeque<u32>,
    /// The connection closes when no function waits any more.
    closing: bool,
    /// The host logs out: it is answered when nothing of it can take effect any more.
    pub(super) leaving: Option<LogoutRequest>,
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
            ends: terms.ends,
            data_out_bytes: terms.data_out_bytes,
            luns: terms.luns,
            sense_formats: terms.sense_formats,
            window: CommandWindow::new(terms.cmd_sn),
            stat_sn: terms.stat_sn,
            tasks: Tasks::default(),
            deferred: Vec::new(),
            postponed: Vec::new(),
            turn: VecDeque::new(),
            work: VecDeque::new(),
            functions: Functions::default(),
            claims: Vec::new(),
            text: TextExchange::default(),
            next_transfer_tag: 1,
            starved: VecDeque::new(),
            out_bytes: 0,
            data_in_bytes: 0,
            backlog: 0,
            holding: Holding::new(terms.memory),
            short: None,
            reads_first: false,
            held: false,
            clock: Time(0),
            flow: Flow::default(),
            special: 0,
            gated: false,
            entered: 0,
            silenced: VecDeque::new(),
            closing: false,
            leaving: None,
        }
    }

    /// What it uses of its bounds.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            tasks: self.tasks.count() as u64,
            functions: self.functions.count() as u64,
            solicited_bytes: self.out_bytes,
            data_in_bytes: self.data_in_bytes,
            silenced: self.silenced.len() as u64,
            output_bytes: 0,
        }
    }

    pub(super) fn sender<'a>(&'a mut self, output: &'a mut Output) -> Sender<'a> {
        let tasks = self.tasks.count() as u32;
        self.window.open(tasks, self.holding.memory().is_tight());
        Sender {
            output,
            stat_sn: &mut self.stat_sn,
            expected: self.window.expected(),
            maximum: self.window.maximum(),
            parameters: &self.parameters,
            luns: self.luns.as_deref(),
            sense_formats: &self.sense_formats,
        }
    }

    /// Bytes of data this session holds or has promised room for.
    pub(super) const fn level(&self) -> u64 {
        self.out_bytes + self.data_in_bytes + self.backlog
    }

    /// Unsolicited data of one command at most, immediate data included, in bytes.
    pub(super) fn first_burst(&self) -> u32 {
        self.parameters.agreed.first_burst_bytes()
    }

    pub(super) fn fresh_transfer_tag(&mut self) -> u32 {
        let tag = self.next_transfer_tag;
        self.next_transfer_tag = if tag + 1 == RESERVED_TAG { 1 } else { tag + 1 };
        tag
    }

    /// Takes a PDU.
    pub fn on_pdu(&mut self, pdu: &Received, now: Time, output: &mut Output) {
        self.clock = now;
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
                self.on_command(&command, pdu, now, output);
            }
            Ok(InitiatorPdu::DataOut(data)) if !self.parameters.discovery => {
                self.on_data_out(&data, pdu, now, output);
            }
            Ok(other) => self.on_other(&other, pdu, output),
            Err(error) if error.is_format_error() => self.format_error(pdu, error.reject_reason(), output),
            Err(error) => self.reject(pdu, error.reject_reason(), output),
        }
    }

    /// The connection ends (7.7), but not without a word.
    fn format_error(&mut self, pdu: &Received, reason: RejectReason, output: &mut Output) {
        self.reject(pdu, reason, output);
        self.work.push_back(Work::Close);
    }

    fn on_command(&mut self, command: &ScsiCommand, pdu: &Received, now: Time, output: &mut Output) {
        let tag = command.initiator_task_tag;
        let arrival = self.window.arrival(command.cmd_sn, command.immediate);
        if arrival == Arrival::Ignored || self.is_deferred(command.cmd_sn, arrival) {
            return;
        }
        let Some(data) = &pdu.data else {
            return self.reject(pdu, RejectReason::DataDigestError, output);
        };
        if command.immediate && self.tasks.count() >= (COMMAND_WINDOW + IMMEDIATE_COMMANDS_MAX) as usize {
            return self.reject(pdu, RejectReason::TooManyImmediateCommands, output);
        }
        // "The CmdSN of the rejected command PDU [...] MUST NOT be considered received" (7.3).
        if self.is_tag_in_use(tag) {
            return self.reject(pdu, RejectReason::TaskInProgress, output);
        }
        if tag == RESERVED_TAG {
            return self.reject(pdu, RejectReason::InvalidPduField, output);
        }
        if !self.silenced.is_empty() {
            self.silenced.retain(|silenced| *silenced != tag);
        }
        let task = self.new_task(command, data.clone(), now);
        if task_set::is_special(task.attribute) {
            self.special += 1;
        }
        let at = self.tasks.insert(task);
        match arrival {
            Arrival::InOrder if command.immediate => self.deliver(at, output),
            Arrival::InOrder => {
                self.window.advance();
                self.deliver(at, output);
                self.run_deferred(output);
            }
            Arrival::Early | Arrival::Ignored => self.deferred.push((command.cmd_sn, Deferred::Command(tag))),
        }
    }

    /// True while a task with this tag lives.
    pub(super) fn is_tag_in_use(&self, tag: u32) -> bool {
        self.tasks.find(tag).is_some() || self.functions.contains(tag) || self.is_postponed(tag)
    }

    fn new_task(&mut self, command: &ScsiCommand, data: Bytes, now: Time) -> Task {
        let expected = command.expected_data_transfer_length;
        let takes = (self.data_out_bytes)(&command.cdb);
        let out = if command.write { expected } else { 0 };
        let terms = Terms {
            wanted: u32::try_from(takes).unwrap_or(u32::MAX).min(out),
            expected: out,
            more: !command.final_bit,
            immediate_allowed: self.parameters.agreed.immediate_data,
            unsolicited_allowed: !self.parameters.agreed.initial_r2t,
            first_burst: self.first_burst(),
        };
        let mut task = Task {
            tag: command.initiator_task_tag,
            lun: command.lun,
            cdb: command.cdb,
            number: command.cmd_sn,
            expected,
            reads: command.read,
            writes: command.write,
            takes,
            counted_out: 0,
            solicited: false,
            received: now,
            owed: self.flow.mark(now),
            attribute: command.attribute,
            entered: 0,
            state: State::Order,
            ending: Ending::Answered,
            gather: Gather::begin(&terms, data),
        };
        if command.attribute == TaskAttribute::Aca {
            task.gather.refuse(Refusal::Check(task_set::INVALID_MESSAGE_ERROR));
        }
        if terms.wanted > 0 {
            self.admit_unasked(&mut task, command);
        }
        task
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
            match what {
                Deferred::Command(tag) => {
                    self.window.advance();
                    // It may have been aborted since, and its tag used again.
                    let at = self.tasks.find(tag);
                    let it = |at: &usize| self.tasks.at(*at).is_some_and(|task| task.number == number);
                    if let Some(at) = at.filter(it) {
                        self.deliver(at, output);
                    }
                }
                Deferred::Other(pdu) => {
                    // What is rejected leaves its number to another (7.3).
                    let decoded = InitiatorPdu::decode(&pdu.bhs);
                    if !decoded.is_ok_and(|decoded| self.run_other(&decoded, &pdu, true, output)) {
                        return;
                    }
                }
                Deferred::Nothing => self.window.advance(),
            }
        }
    }

    /// The turn of the task at this place has come.
    fn deliver(&mut self, at: usize, output: &mut Output) {
        if let Some(task) = self.tasks.at_mut(at).filter(|task| task.state == State::Order) {
            task.state = State::Data;
            task.entered = self.entered;
            self.entered += 1;
            self.proceed_at(at, output);
        }
    }

    /// What a new connection of this session goes on with: what was agreed, and ExpCmdSN.
    #[must_use]
    pub const fn standing(&self) -> (Agreed, CmdSn) {
        (self.parameters.agreed, self.window.expected())
    }

    /// A function waits until the commands before it have come (4.2.3.3 b).
    pub(super) fn postpone(&mut self, request: TaskManagementRequest) {
        self.postponed.push(request);
    }

    /// True for the tag of a function that waits for commands before it.
    pub(super) fn is_postponed(&self, tag: u32) -> bool {
        self.postponed.iter().any(|request| request.initiator_task_tag == tag)
    }

    /// Functions that wait for commands before them.
    pub(super) fn postponed(&self) -> usize {
        self.postponed.len()
    }

    /// Takes the outcome of a command. Gives the functions of other sessions that waited for it.
    pub fn on_outcome(&mut self, tag: TaskTag, outcome: Outcome, output: &mut Output) -> Vec<Claim> {
        let executes = |at: &usize| self.tasks.at(*at).is_some_and(|task| task.state == State::Outcome);
        let executing = self.tasks.find(tag.task()).filter(executes);
        let Some(task) = executing.and_then(|at| self.remove_at(at, output)) else {
            self.on_reset(tag.task(), &outcome, output);
            return Vec::new();
        };
        if task.ending == Ending::Unheard {
            self.after_unheard(tag.task(), output);
        } else {
            data_in::answer(&mut self.sender(output), &task, outcome);
        }
        self.take_claims(tag.task())
    }

    /// A cold reset: the connection closes when the function is answered.
    pub fn close_when_answered(&mut self) {
        self.closing = true;
    }

    /// True if the connection is to be closed.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.closing && self.functions.is_idle()
    }

    /// Tags of the commands the controller has.
    pub fn executing(&self) -> impl Iterator<Item = u32> {
        self.tasks.iter().filter(|task| task.state == State::Outcome).map(|task| task.tag)
    }

    /// The functions of other sessions that waited for a task.
    pub(super) fn take_claims(&mut self, tag: u32) -> Vec<Claim> {
        if self.claims.is_empty() {
            return Vec::new();
        }
        self.claims.extract_if(.., |(claimed, _)| *claimed == tag).map(|(_, claim)| claim).collect()
    }

    /// What is to be asked of the memory that all sessions share, if anything.
    pub fn memory_request(&mut self) -> Option<memory::Request> {
        self.holding.request()
    }

    /// The session ends, nobody hears of its tasks: the functions of other sessions that wait for any of them, and what
    /// covers its output.
    #[must_use]
    pub fn end(mut self) -> (Vec<Claim>, Holding) {
        self.holding.leave_queue();
        (self.claims.into_iter().map(|(_, claim)| claim).collect(), self.holding)
    }
}

#[cfg(test)]
mod tests;
