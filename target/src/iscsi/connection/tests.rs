//! A whole connection without socket or controller, driven by bytes.

use core::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};

use bytes::Bytes;
use controller::command::{Initiator, Outcome};
use parking_lot::Mutex;
use protocol::iscsi::{
    CmdSn, DataOut, LoginRequest, LoginStage, LoginStatus, LogoutReason, NopOut, RESERVED_TAG, RejectReason,
    ScsiCommand, StatSn, TargetPdu, TaskAttribute, TaskManagementResult, TextRequest,
};

use super::output::{OUTPUT_BYTES_MAX, Output};
use super::watch::LOGIN_TIME_MAX;
use super::*;
use crate::device_server::Request;
use crate::iscsi::directory::PortalGroup;
use controller::unit::SenseFormats;

mod commands;
mod departing;
mod ending;
mod functions;
mod input;
mod login;
mod rejects;
mod slow;
mod threads;

const IQN: &str = "iqn.2026-11.com.example:demo";

/// A socket that keeps what is written and may be full.
#[derive(Default)]
struct Socket {
    state: Mutex<SocketState>,
}

#[derive(Default)]
struct SocketState {
    written: BytesMut,
    full: bool,
    /// How many bytes it takes until it is full, if that is so.
    room: Option<usize>,
    writes: usize,
    wanted: usize,
    shut: bool,
    host: Option<core::net::SocketAddr>,
}

impl Transport for Socket {
    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.state.lock();
        let room = state.room.unwrap_or(usize::MAX);
        if state.full || room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.writes += 1;
        let mut left = room;
        for piece in pieces {
            let length = left.min(piece.len());
            state.written.extend_from_slice(&piece[..length]);
            left -= length;
        }
        state.room = state.room.map(|_| left);
        Ok(room - left)
    }
    fn want_writable(&self) {
        self.state.lock().wanted += 1;
    }
    fn shutdown(&self) {
        self.state.lock().shut = true;
    }
    fn host(&self) -> Option<core::net::SocketAddr> {
        self.state.lock().host
    }
}

/// A controller that answers reads (opcode 28h) at once with bytes of the LUN's number, takes writes (2Ah), and
/// keeps everything with opcode FFh until it is asked to give it up.
struct Script {
    serving: bool,
    /// Resets are done at once.
    resets: bool,
    /// What a lost nexus leaves behind is given up at once.
    gives_up: bool,
    kept: RefCell<Vec<(NexusId, TaskTag)>>,
    now: RefCell<Time>,
    sessions: Arc<Sessions>,
    log: RefCell<Vec<String>>,
    written: RefCell<BTreeMap<u32, Vec<u8>>>,
}

impl Backend for Script {
    fn sense_formats(&self) -> SenseFormats {
        SenseFormats::default()
    }
    fn now(&self) -> Time {
        *self.now.borrow()
    }
    fn serving(&self) -> bool {
        self.serving
    }
    fn nexus_added(&self, nexus: NexusId, _: &Initiator) {
        self.log.borrow_mut().push(format!("added {}", nexus.0 >> 10));
    }
    fn nexus_lost(&self, nexus: NexusId) {
        self.log.borrow_mut().push(format!("lost {}", nexus.0 >> 10));
        let kept = self.kept.take();
        for (owner, tag) in kept {
            if self.gives_up && owner == nexus {
                self.sessions.answer(owner, tag, Outcome::Aborted);
            } else {
                self.kept.borrow_mut().push((owner, tag));
            }
        }
    }
    fn lun(&self, number: u16) -> Option<LunIndex> {
        (number < 2).then_some(LunIndex(number))
    }
    fn abort(&self, _: LunIndex, _: NexusId, tag: TaskTag) {
        self.log.borrow_mut().push(format!("abort {}", tag.task()));
    }
    fn luns(&self) -> Vec<LunIndex> {
        vec![LunIndex(0), LunIndex(1)]
    }
    fn reset(&self, lun: LunIndex, nexus: NexusId, tag: TaskTag) {
        self.log.borrow_mut().push(format!("reset {}", lun.0));
        if self.resets {
            self.sessions.answer(nexus, tag, Outcome::Good(Vec::new()));
        }
    }
    fn execute(&self, request: Request) -> Option<Outcome> {
        let blocks = usize::from(blocks_of(&request.cdb));
        match request.cdb[0] {
            0x28 if request.cdb[1] == 1 => {
                let data = Bytes::from(vec![request.lun[1]; blocks * 512]);
                self.sessions.answer(request.nexus, request.tag, Outcome::Good(vec![data]));
                None
            }
            0x28 => Some(Outcome::Good(vec![Bytes::from(vec![request.lun[1]; blocks * 512])])),
            0x2a => {
                self.written.borrow_mut().insert(request.tag.task(), request.data.concat());
                Some(Outcome::Good(Vec::new()))
            }
            _ => {
                self.kept.borrow_mut().push((request.nexus, request.tag));
                None
            }
        }
    }
    fn data_out_bytes(&self) -> fn(&[u8; 16]) -> u64 {
        |cdb| if cdb[0] == 0x2a { u64::from(blocks_of(cdb)) * 512 } else { 0 }
    }
}

fn blocks_of(cdb: &[u8; 16]) -> u16 {
    u16::from_be_bytes([cdb[7], cdb[8]])
}

/// One host's connection to the script.
struct Host {
    connection: Connection,
    socket: Arc<Socket>,
    input: BytesMut,
    cmd_sn: u32,
}

fn script(serving: bool) -> Script {
    Script {
        serving,
        resets: true,
        gives_up: true,
        kept: RefCell::default(),
        now: RefCell::new(Time(0)),
        sessions: Arc::default(),
        log: RefCell::default(),
        written: RefCell::default(),
    }
}

impl Host {
    fn connect(script: &Script) -> Self {
        Self::connect_from(script, None)
    }

    fn connect_from(script: &Script, host: Option<&str>) -> Self {
        let socket = Arc::new(Socket::default());
        socket.state.lock().host = host.map(|host| core::net::SocketAddr::new(host.parse().unwrap(), 40_000));
        let group = PortalGroup { tag: 1, addresses: vec!["127.0.0.1:3260".to_owned()] };
        let directory = Arc::new(FrontendConfig {
            iqn: IQN.to_owned(),
            portal_groups: vec![group],
            own_group: 1,
            access: Default::default(),
        });
        let connection = Connection::new(socket.clone(), script.sessions.clone(), directory, Time(0));
        Self { connection, socket, input: BytesMut::new(), cmd_sn: 1 }
    }

    fn logged_in(script: &Script, initiator: &str, keys: &str) -> Self {
        let mut host = Self::connect(script);
        let answers = host.log_in(script, initiator, keys);
        let [(TargetPdu::LoginResponse(response), _)] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!(response.status, LoginStatus::Success);
        assert_ne!(response.tsih, 0);
        host
    }

    fn log_in(&mut self, script: &Script, initiator: &str, keys: &str) -> Vec<(TargetPdu, Bytes)> {
        let text = format!("InitiatorName={initiator}|TargetName={IQN}|{keys}").replace('|', "\0");
        let request = LoginRequest {
            current_stage: LoginStage::OperationalNegotiation,
            next_stage: Some(LoginStage::FullFeaturePhase),
            data_segment_length: text.len() as u32,
            cmd_sn: CmdSn(1),
            initiator_task_tag: 1,
            ..login_complete::unreadable(&Received { bhs: [0; 48], ahs: Bytes::new(), data: None })
        };
        self.queue(&request.encode(), text.as_bytes());
        self.exchange(script).unwrap();
        self.answers()
    }

    fn queue(&mut self, bhs: &[u8; 48], data: &[u8]) {
        let mut output = Output::default();
        output.pdu(bhs, data, self.connection.digests);
        self.input.unsplit(output.to_bytes());
    }

    fn exchange(&mut self, script: &Script) -> Result<(), Closed> {
        self.connection.receive(&mut self.input, script)
    }

    fn answers(&mut self) -> Vec<(TargetPdu, Bytes)> {
        let mut state = self.socket.state.lock();
        let mut pdus = Vec::new();
        // Digests begin after the last Login Response.
        let login = state.written.first().is_some_and(|opcode| *opcode == 0x23);
        let digests = if login { Digests::default() } else { self.connection.digests };
        while let Framed::Pdu(pdu) = take_pdu(&mut state.written, digests, u32::MAX).unwrap() {
            pdus.push((TargetPdu::decode(&pdu.bhs).unwrap(), pdu.data.unwrap()));
        }
        pdus
    }

    fn command(&mut self, opcode: u8, blocks: u16, writes: bool, immediate_data: &[u8], last: bool) -> u32 {
        let tag = 1000 + self.cmd_sn;
        let mut cdb = [0; 16];
        cdb[0] = opcode;
        cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
        let command = ScsiCommand {
            immediate: false,
            final_bit: last,
            read: !writes,
            write: writes,
            attribute: TaskAttribute::Simple,
            total_ahs_length: 0,
            data_segment_length: immediate_data.len() as u32,
            lun: [0; 8],
            initiator_task_tag: tag,
            expected_data_transfer_length: u32::from(blocks) * 512,
            cmd_sn: CmdSn(self.cmd_sn),
            exp_stat_sn: StatSn(0),
            cdb,
        };
        self.cmd_sn += 1;
        self.queue(&command.encode(), immediate_data);
        tag
    }

    fn data_out(&mut self, tag: u32, transfer_tag: u32, data_sn: u32, offset: u32, data: &[u8], last: bool) {
        let header = DataOut {
            final_bit: last,
            data_segment_length: data.len() as u32,
            lun: [0; 8],
            initiator_task_tag: tag,
            target_transfer_tag: transfer_tag,
            exp_stat_sn: StatSn(0),
            data_sn,
            buffer_offset: offset,
        };
        self.queue(&header.encode(), data);
    }

    fn manage(&mut self, function: TaskManagementFunction, lun: u8, referenced: u32) -> u32 {
        self.manage_as(9000, function, lun, referenced)
    }

    fn manage_as(&mut self, tag: u32, function: TaskManagementFunction, lun: u8, referenced: u32) -> u32 {
        let request = TaskManagementRequest {
            immediate: true,
            function,
            lun: [0, lun, 0, 0, 0, 0, 0, 0],
            initiator_task_tag: tag,
            referenced_task_tag: referenced,
            cmd_sn: CmdSn(self.cmd_sn),
            exp_stat_sn: StatSn(0),
            ref_cmd_sn: CmdSn(referenced.wrapping_sub(1000)),
            exp_data_sn: 0,
        };
        self.queue(&request.encode(), &[]);
        tag
    }
}

fn functions_answered(answers: &[(TargetPdu, Bytes)]) -> Vec<TaskManagementResult> {
    let response = |(pdu, _): &(TargetPdu, Bytes)| match pdu {
        TargetPdu::TaskManagementResponse(response) => Some(response.response),
        _ => None,
    };
    answers.iter().filter_map(response).collect()
}

#[test]
fn a_batch_of_reads_is_answered_by_one_write() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    let writes = host.socket.state.lock().writes;
    for _ in 0..32 {
        host.command(0x28, 8, false, &[], true);
    }
    host.exchange(&script).unwrap();
    assert_eq!(host.socket.state.lock().writes, writes + 1);
    let answers = host.answers();
    assert_eq!(answers.len(), 32);
    for (n, (pdu, data)) in answers.iter().enumerate() {
        let TargetPdu::DataIn(pdu) = pdu else { panic!("{pdu:?}") };
        assert_eq!((data.len(), pdu.status), (4096, Some(0)));
        assert_eq!(pdu.stat_sn, StatSn(1 + n as u32));
        assert_eq!(pdu.exp_cmd_sn, CmdSn(2 + n as u32));
    }
}

#[test]
fn an_outcome_that_comes_during_execution_is_answered() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[8]) = (0x28, 1, 1);
    host.command(0x28, 1, false, &[], true);
    let at = host.input.len() - 16;
    host.input[at..].copy_from_slice(&cdb);
    host.exchange(&script).unwrap();
    assert_eq!(host.answers().len(), 1);
}

#[test]
fn a_login_is_refused_while_nothing_is_served() {
    let script = script(false);
    let mut host = Host::connect(&script);
    let answers = host.log_in(&script, "iqn.a", "");
    let [(TargetPdu::LoginResponse(response), _)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(response.status, LoginStatus::ServiceUnavailable);
    assert!(host.socket.state.lock().shut, "closed once the answer is written");
}

#[test]
fn a_login_again_ends_the_session_it_reinstates() {
    let script = script(true);
    let first = Host::logged_in(&script, "iqn.a", "");
    let _other = Host::logged_in(&script, "iqn.b", "");
    let _second = Host::logged_in(&script, "IQN.A", "");
    assert!(first.socket.state.lock().shut);
    assert_eq!(*script.log.borrow(), ["added 1", "added 2", "lost 1", "added 3"]);
    assert_eq!(script.sessions.list().len(), 2);
    let mut first = first;
    first.connection.closed(&script);
    assert_eq!(script.log.borrow().len(), 4, "a nexus is lost once");
}

#[test]
fn pings_are_answered_with_their_data() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    let ping = NopOut {
        immediate: true,
        data_segment_length: 5,
        lun: [0; 8],
        initiator_task_tag: 5,
        target_transfer_tag: RESERVED_TAG,
        cmd_sn: CmdSn(1),
        exp_stat_sn: StatSn(0),
    };
    host.queue(&ping.encode(), b"hello");
    host.exchange(&script).unwrap();
    let answers = host.answers();
    let [(TargetPdu::NopIn(answer), data)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((answer.initiator_task_tag, &data[..]), (5, &b"hello"[..]));
}

#[test]
fn a_silent_host_is_asked_and_then_given_up() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    let at = |seconds: u64| Time(seconds * 1_000_000_000);
    assert_eq!(host.connection.on_tick(at(10)), Ok(()));
    assert!(host.answers().is_empty());
    assert_eq!(host.connection.on_tick(at(11)), Ok(()));
    assert!(matches!(host.answers()[..], [(TargetPdu::NopIn(_), _)]));
    assert_eq!(host.connection.on_tick(at(71)), Ok(()));
    assert_eq!(host.connection.on_tick(at(72)), Err(Closed));
    assert!(host.socket.state.lock().shut);
}

#[test]
fn a_login_that_takes_too_long_is_given_up() {
    let script = script(true);
    let mut host = Host::connect(&script);
    assert_eq!(host.connection.on_tick(Time(0) + LOGIN_TIME_MAX), Ok(()));
    assert_eq!(host.connection.on_tick(Time(1) + LOGIN_TIME_MAX), Err(Closed));
}

#[test]
fn a_logout_ends_the_session_after_its_answer() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    let request = |reason, cid| LogoutRequest {
        immediate: true,
        reason,
        initiator_task_tag: 5,
        cid,
        cmd_sn: CmdSn(1),
        exp_stat_sn: StatSn(0),
    };
    for (reason, cid, result) in [
        (LogoutReason::RemoveForRecovery, 0, LogoutResult::RecoveryNotSupported),
        (LogoutReason::CloseConnection, 3, LogoutResult::CidNotFound),
        (LogoutReason::CloseSession, 0, LogoutResult::Closed),
    ] {
        assert!(!host.socket.state.lock().shut);
        host.queue(&request(reason, cid).encode(), &[]);
        let _ = host.exchange(&script);
        let answers = host.answers();
        let [(TargetPdu::LogoutResponse(response), _)] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!(response.response, result);
    }
    assert!(host.socket.state.lock().shut);
    assert_eq!(*script.log.borrow(), ["added 1", "lost 1"]);
}

#[test]
fn discovery_lists_targets_and_runs_no_commands() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "SessionType=Discovery|");
    host.command(0x28, 1, false, &[], true);
    let text = b"SendTargets=All\0";
    let request = TextRequest {
        immediate: true,
        final_bit: true,
        continue_bit: false,
        data_segment_length: text.len() as u32,
        lun: [0; 8],
        initiator_task_tag: 6,
        target_transfer_tag: RESERVED_TAG,
        cmd_sn: CmdSn(1),
        exp_stat_sn: StatSn(0),
    };
    host.queue(&request.encode(), text);
    host.exchange(&script).unwrap();
    let answers = host.answers();
    let [(TargetPdu::Reject(_), _), (TargetPdu::TextResponse(_), list)] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(list, format!("TargetName={IQN}\0TargetAddress=127.0.0.1:3260,1\0").as_bytes());
    assert!(script.log.borrow().is_empty(), "no nexus");
}
