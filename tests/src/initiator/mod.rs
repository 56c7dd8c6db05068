//! An iSCSI initiator of the tests' own (RFC 7143): bytes in, bytes out, no socket and no clock.
//!
//! It shares no code with the target it tests, and it is strict: whatever the target sends that the RFC does not
//! allow is a [`Fault`]. It keeps any number of commands in flight, as far as the command window allows.

pub mod cdb;
pub mod login;
pub mod pdu;
pub mod raw;
pub mod reservation;
pub mod response;
mod task;
pub mod tcp;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

pub use self::cdb::Cdb;
use self::login::Agreed;
pub use self::login::Settings;
use self::pdu::{Digests, FINAL, Header, IMMEDIATE, Pdu, RESERVED_TAG, opcode};
pub use self::response::{Residual, Response, Sense};
use self::task::Task;

/// An initiator task tag (RFC 7143 11.2.1.8).
pub type Tag = u32;

/// What the target did that RFC 7143 does not allow.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each says itself")]
pub enum Fault {
    #[error("a digest does not fit its PDU")]
    Digest,
    #[error("opcode {0:#04x} is not expected here")]
    Opcode(u8),
    #[error("StatSN {found:#x} instead of {expected:#x}")]
    StatSn { expected: u32, found: u32 },
    #[error("the answer names task {0:#x}, which is not outstanding")]
    UnknownTask(u32),
    #[error("task {tag:#x}: {what}")]
    Task { tag: u32, what: &'static str },
    #[error("the target answered {0:?} at login")]
    Login(String),
    #[error("a data segment of {0} bytes is longer than this initiator takes")]
    SegmentTooLong(usize),
    #[error("MaxCmdSN {max:#x} is more than one below ExpCmdSN {expected:#x}")]
    Window { expected: u32, max: u32 },
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Full feature phase: commands may be sent.
    LoggedIn,
    /// The login was refused (RFC 7143 11.13.5).
    LoginFailed {
        /// Status-Class.
        class: u8,
        /// Status-Detail.
        detail: u8,
    },
    /// A command ended.
    Completed {
        /// The command's tag.
        tag: Tag,
        /// How it ended.
        response: Response,
    },
    /// A task management function ended with a response code (RFC 7143 11.6.1).
    TaskManagement {
        /// Which request.
        tag: Tag,
        /// Response.
        response: u8,
    },
    /// The answer to a text request.
    Text(String),
    /// The target refused a PDU (RFC 7143 11.17.1).
    Rejected {
        /// Reason.
        reason: u8,
        /// The header of the refused PDU.
        header: Vec<u8>,
    },
    /// An asynchronous message (RFC 7143 11.9.1).
    Asynchronous {
        /// AsyncEvent.
        event: u8,
    },
    /// The logout was answered.
    LoggedOut,
}

/// A command to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// The LUN's number.
    pub lun: u16,
    /// What to do.
    pub cdb: Cdb,
    /// The data-out buffer.
    pub out: Vec<u8>,
    /// Length of the data-in buffer, in bytes.
    pub in_bytes: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    LoggingIn,
    FullFeature,
    Over,
}

/// An initiator with one session of one connection.
#[derive(Debug)]
pub struct Initiator {
    settings: Settings,
    agreed: Agreed,
    phase: Phase,
    next_tag: Tag,
    cmd_sn: u32,
    max_cmd_sn: u32,
    exp_stat_sn: Option<u32>,
    waiting: VecDeque<Tag>,
    tasks: BTreeMap<Tag, Task>,
    text: String,
    /// The target requested logout: it follows when nothing is outstanding (RFC 7143 11.9.1).
    leaving: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    events: VecDeque<Event>,
}

impl Initiator {
    /// A new initiator; its login request waits in [`Initiator::output`].
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let mut initiator = Self {
            agreed: Agreed::new(),
            phase: Phase::LoggingIn,
            next_tag: 1,
            cmd_sn: settings.first_cmd_sn,
            max_cmd_sn: settings.first_cmd_sn,
            exp_stat_sn: None,
            waiting: VecDeque::new(),
            tasks: BTreeMap::new(),
            text: String::new(),
            leaving: false,
            input: Vec::new(),
            output: Vec::new(),
            events: VecDeque::new(),
            settings,
        };
        let text = initiator.settings.text();
        initiator.send_login(&text);
        initiator
    }

    /// Takes bytes from the target, in whatever pieces they came.
    pub fn input(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.input.extend_from_slice(bytes);
        let mut used = 0;
        loop {
            let digests =
                if self.phase == Phase::LoggingIn { Digests::default() } else { self.agreed.digests };
            match pdu::decode(&self.input[used..], digests).map_err(|_| Fault::Digest)? {
                None => break,
                Some((pdu, length)) => {
                    used += length;
                    self.on_pdu(pdu)?;
                }
            }
        }
        self.input.drain(..used);
        Ok(())
    }

    /// Bytes for the target since the last call.
    pub fn output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// The next thing that happened.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// True in the full feature phase.
    #[must_use]
    pub fn logged_in(&self) -> bool {
        self.phase == Phase::FullFeature
    }

    /// Commands neither answered nor given up.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.tasks.len()
    }

    /// Queues a command: it is sent as soon as the command window allows.
    pub fn command(&mut self, request: Request) -> Tag {
        let tag = self.tag();
        self.tasks.insert(tag, Task::new(request));
        self.waiting.push_back(tag);
        self.send_waiting();
        tag
    }

    /// Sends ABORT TASK (RFC 7143 11.5.1) for a command that was sent; its answer is [`Event::TaskManagement`].
    pub fn abort_task(&mut self, lun: u16, referenced: Tag) -> Tag {
        self.manage(1, lun, referenced)
    }

    /// Sends a task management function by its code; `referenced` is [`RESERVED_TAG`] for all but ABORT TASK.
    pub fn manage(&mut self, function: u8, lun: u16, referenced: Tag) -> Tag {
        let tag = self.tag();
        let sent = self.tasks.get(&referenced).and_then(|task| task.cmd_sn);
        let header = Header::new(opcode::TASK_MANAGEMENT_REQUEST | IMMEDIATE, FINAL | function)
            .with(8, &cdb::lun_field(lun))
            .with_u32(20, referenced)
            .with_u32(32, sent.unwrap_or(self.cmd_sn));
        self.send_request(header, tag, &[]);
        tag
    }

    /// Whether a command has left for the target and is not answered.
    #[must_use]
    pub fn is_sent(&self, tag: Tag) -> bool {
        self.tasks.get(&tag).is_some_and(|task| task.cmd_sn.is_some())
    }

    /// A command was given up: it will not be answered.
    pub fn forget(&mut self, tag: Tag) {
        self.tasks.remove(&tag);
    }

    /// Asks a discovery session for all targets (RFC 7143 appendix C).
    pub fn send_targets(&mut self) {
        let tag = self.tag();
        let header = Header::new(opcode::TEXT_REQUEST | IMMEDIATE, FINAL).with_u32(20, RESERVED_TAG);
        self.send_request(header, tag, b"SendTargets=All\0");
    }

    /// Asks the target for a sign of life.
    pub fn ping(&mut self) {
        let tag = self.tag();
        let header = Header::new(opcode::NOP_OUT | IMMEDIATE, FINAL).with_u32(20, RESERVED_TAG);
        self.send_request(header, tag, &[]);
    }

    /// Ends the session (RFC 7143 11.14).
    pub fn logout(&mut self) {
        let tag = self.tag();
        self.send_request(Header::new(opcode::LOGOUT_REQUEST | IMMEDIATE, FINAL), tag, &[]);
    }

    fn tag(&mut self) -> Tag {
        self.next_tag += 1;
        self.next_tag - 1
    }

    fn send(&mut self, header: Header, data: &[u8]) {
        let header = header.with_u32(28, self.exp_stat_sn.unwrap_or(0));
        pdu::encode(&mut self.output, header, data, self.agreed.digests);
    }

    /// Sends an immediate request: it carries CmdSN without using it up (RFC 7143 4.2.2.1).
    fn send_request(&mut self, header: Header, tag: Tag, data: &[u8]) {
        self.send(header.with_u32(16, tag).with_u32(24, self.cmd_sn), data);
    }

    fn send_login(&mut self, text: &[u8]) {
        // From the operational stage (CSG 1) to the full feature phase (NSG 3), as Linux does without CHAP.
        let header = Header::new(opcode::LOGIN_REQUEST | IMMEDIATE, 0x80 | 1 << 2 | 3)
            .with(8, &self.settings.isid)
            .with_u32(24, self.cmd_sn)
            .with_u32(28, self.exp_stat_sn.unwrap_or(0));
        pdu::encode(&mut self.output, header, text, Digests::default());
    }

    fn send_waiting(&mut self) {
        while self.phase == Phase::FullFeature
            && self.max_cmd_sn.wrapping_sub(self.cmd_sn) < 1 << 31
            && let Some(tag) = self.waiting.pop_front()
        {
            let cmd_sn = self.cmd_sn;
            self.cmd_sn = self.cmd_sn.wrapping_add(1);
            let Some(task) = self.tasks.get_mut(&tag) else { continue };
            let exp_stat_sn = self.exp_stat_sn.unwrap_or(0);
            task.send_command(tag, cmd_sn, exp_stat_sn, &self.agreed, &mut self.output);
        }
    }

    fn on_pdu(&mut self, pdu: Pdu) -> Result<(), Fault> {
        let header = pdu.header;
        if pdu.data.len() > self.settings.receive_segment_bytes as usize {
            return Err(Fault::SegmentTooLong(pdu.data.len()));
        }
        let login = header.opcode() == opcode::LOGIN_RESPONSE;
        if login != (self.phase == Phase::LoggingIn) || self.phase == Phase::Over {
            return Err(Fault::Opcode(header.opcode()));
        }
        self.check_stat_sn(&header)?;
        let refused_login = login && header.0[36] != 0; // its ExpCmdSN and MaxCmdSN say nothing
        if !refused_login {
            self.update_window(header.u32(28), header.u32(32))?;
        }
        match header.opcode() {
            opcode::LOGIN_RESPONSE => self.on_login(&pdu)?,
            opcode::SCSI_RESPONSE | opcode::DATA_IN | opcode::R2T => self.on_task(&pdu)?,
            opcode::NOP_IN => self.on_nop(&header),
            opcode::TASK_MANAGEMENT_RESPONSE => {
                let event = Event::TaskManagement { tag: header.tag(), response: header.0[2] };
                self.events.push_back(event);
            }
            opcode::TEXT_RESPONSE => self.on_text(&pdu),
            opcode::LOGOUT_RESPONSE => {
                self.phase = Phase::Over;
                self.events.push_back(Event::LoggedOut);
            }
            opcode::ASYNC_MESSAGE => {
                self.leaving |= header.0[36] == 1;
                self.events.push_back(Event::Asynchronous { event: header.0[36] });
            }
            opcode::REJECT => {
                self.events.push_back(Event::Rejected { reason: header.0[2], header: pdu.data });
            }
            other => return Err(Fault::Opcode(other)),
        }
        self.send_waiting();
        if self.leaving && self.tasks.is_empty() && self.phase == Phase::FullFeature {
            self.leaving = false;
            self.logout();
        }
        Ok(())
    }

    /// StatSN rises by one with every response (RFC 7143 4.2.2.2); what carries no status shows the next one.
    fn check_stat_sn(&mut self, header: &Header) -> Result<(), Fault> {
        let found = header.u32(24);
        let counts = match header.opcode() {
            opcode::DATA_IN if header.0[1] & 1 == 0 => return Ok(()),
            opcode::R2T => false,
            opcode::NOP_IN => header.tag() != RESERVED_TAG,
            _ => true,
        };
        match self.exp_stat_sn {
            Some(expected) if expected != found => return Err(Fault::StatSn { expected, found }),
            _ => {}
        }
        self.exp_stat_sn = Some(if counts { found.wrapping_add(1) } else { found });
        Ok(())
    }

    /// RFC 7143 4.2.2.1: MaxCmdSN below ExpCmdSN - 1 is to be ignored, and no sane target sends it.
    fn update_window(&mut self, expected: u32, max: u32) -> Result<(), Fault> {
        if max.wrapping_sub(expected.wrapping_sub(1)) >= 1 << 31 {
            return Err(Fault::Window { expected, max });
        }
        if max.wrapping_sub(self.max_cmd_sn) < 1 << 31 {
            self.max_cmd_sn = max;
        }
        Ok(())
    }

    fn on_login(&mut self, pdu: &Pdu) -> Result<(), Fault> {
        let [class, detail] = [pdu.header.0[36], pdu.header.0[37]];
        if class != 0 {
            self.phase = Phase::Over;
            self.events.push_back(Event::LoginFailed { class, detail });
            return Ok(());
        }
        let text = String::from_utf8_lossy(&pdu.data);
        let mut agreed = self.agreed.clone();
        agreed.take(&self.settings, &text).map_err(Fault::Login)?;
        let full_feature = pdu.header.0[1] & 0x83 == 0x83;
        if full_feature && pdu.header.0[14..16] == [0, 0] {
            return Err(Fault::Login("TSIH 0".to_owned()));
        }
        self.agreed = agreed;
        if full_feature {
            self.phase = Phase::FullFeature;
            self.events.push_back(Event::LoggedIn);
        } else {
            self.send_login(&[]);
        }
        Ok(())
    }

    fn on_task(&mut self, pdu: &Pdu) -> Result<(), Fault> {
        let tag = pdu.header.tag();
        let exp_stat_sn = self.exp_stat_sn.unwrap_or(0);
        let task = self.tasks.get_mut(&tag).ok_or(Fault::UnknownTask(tag))?;
        let fault = |what| Fault::Task { tag, what };
        let response = match pdu.header.opcode() {
            opcode::R2T => {
                task.on_r2t(&pdu.header, exp_stat_sn, &self.agreed, &mut self.output).map_err(fault)?;
                None
            }
            opcode::DATA_IN => task.on_data_in(pdu).map_err(fault)?,
            _ => Some(task.on_response(pdu).map_err(fault)?),
        };
        if let Some(response) = response {
            self.tasks.remove(&tag);
            self.events.push_back(Event::Completed { tag, response });
        }
        Ok(())
    }

    /// A NOP-In with a target transfer tag wants an answer (RFC 7143 11.19).
    fn on_nop(&mut self, header: &Header) {
        let transfer_tag = header.u32(20);
        if transfer_tag != RESERVED_TAG {
            let answer = Header::new(opcode::NOP_OUT | IMMEDIATE, FINAL)
                .with(8, &header.0[8..16])
                .with_u32(20, transfer_tag);
            self.send_request(answer, RESERVED_TAG, &[]);
        }
    }

    fn on_text(&mut self, pdu: &Pdu) {
        self.text.push_str(&String::from_utf8_lossy(&pdu.data));
        if pdu.header.0[1] & FINAL != 0 {
            let text = std::mem::take(&mut self.text);
            self.events.push_back(Event::Text(text));
        } else {
            let more = Header::new(opcode::TEXT_REQUEST | IMMEDIATE, FINAL).with(20, &pdu.header.0[20..24]);
            self.send_request(more, pdu.header.tag(), &[]);
        }
    }
}
