//! A whole connection without socket or controller, driven by bytes.

use core::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};

use bytes::Bytes;
use controller::command::{Initiator, Outcome};
use parking_lot::Mutex;
use protocol::iscsi::{
    CmdSn, DataOut, LoginRequest, LoginStage, LoginStatus, LogoutReason, NopOut, RESERVED_TAG, RejectReason,
    ScsiCommand, TargetPdu, TaskAttribute, TaskManagementResult, TextRequest,
};

use super::*;
use crate::device_server::Request;
use crate::frontend::PortalGroup;
use crate::session::output::{OUTPUT_BYTES_MAX, Output};
use controller::unit::SenseFormats;

mod departing;
mod ending;
mod entrance_tests;
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
    line: Line,
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
        let line = Line::new(socket.clone(), script.sessions.clone(), directory, Time(0));
        Self { line, socket, input: BytesMut::new(), cmd_sn: 1 }
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
            ..entrance::unreadable(&Received { bhs: [0; 48], ahs: Bytes::new(), data: None })
        };
        self.queue(&request.encode(), text.as_bytes());
        self.exchange(script).unwrap();
        self.answers()
    }

    fn queue(&mut self, bhs: &[u8; 48], data: &[u8]) {
        let mut output = Output::default();
        output.pdu(bhs, data, self.line.digests);
        self.input.unsplit(output.to_bytes());
    }

    fn exchange(&mut self, script: &Script) -> Result<(), Closed> {
        self.line.receive(&mut self.input, script)
    }

    fn answers(&mut self) -> Vec<(TargetPdu, Bytes)> {
        let mut state = self.socket.state.lock();
        let mut pdus = Vec::new();
        // Digests begin after the last Login Response.
        let login = state.written.first().is_some_and(|opcode| *opcode == 0x23);
        let digests = if login { Digests::default() } else { self.line.digests };
        while let Cut::Pdu(pdu) = cut(&mut state.written, digests, u32::MAX).unwrap() {
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
    first.line.closed(&script);
    assert_eq!(script.log.borrow().len(), 4, "a nexus is lost once");
}

#[test]
fn a_write_gathers_immediate_unsolicited_and_solicited_data() {
    let script = script(true);
    let keys =
        "InitialR2T=No|ImmediateData=Yes|FirstBurstLength=1024|MaxBurstLength=1024|MaxOutstandingR2T=2|";
    let mut host = Host::logged_in(&script, "iqn.a", keys);
    let tag = host.command(0x2a, 8, true, &[1; 512], false);
    host.data_out(tag, RESERVED_TAG, 0, 512, &[2; 512], true);
    host.exchange(&script).unwrap();
    let mut offset = 1024;
    while offset < 4096 {
        let requests = host.answers();
        assert!(!requests.is_empty() && requests.len() <= 2);
        for (pdu, _) in requests {
            let TargetPdu::ReadyToTransfer(r2t) = pdu else { panic!("{pdu:?}") };
            assert_eq!((r2t.buffer_offset, r2t.desired_data_transfer_length), (offset, 1024));
            let fill = [(offset / 1024) as u8 + 2; 512];
            host.data_out(tag, r2t.target_transfer_tag, 0, offset, &fill, false);
            host.data_out(tag, r2t.target_transfer_tag, 1, offset + 512, &fill, true);
            offset += 1024;
        }
        host.exchange(&script).unwrap();
    }
    let answers = host.answers();
    let [(TargetPdu::ScsiResponse(response), _)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((response.status, response.exp_data_sn), (0, 0), "R2Ts do not count (11.4.8)");
    let expected =
        [[1_u8; 512], [2; 512], [3; 512], [3; 512], [4; 512], [4; 512], [5; 512], [5; 512]].concat();
    assert_eq!(script.written.borrow()[&tag], expected);
}

#[test]
fn data_at_the_wrong_offset_ends_the_command_and_not_the_session() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    let tag = host.command(0x2a, 2, true, &[], true);
    host.exchange(&script).unwrap();
    let answers = host.answers();
    let [(TargetPdu::ReadyToTransfer(r2t), _)] = &answers[..] else { panic!("{answers:?}") };
    host.data_out(tag, r2t.target_transfer_tag, 0, 4, &[0; 1024], true);
    host.data_out(tag + 1, 77, 0, 0, &[0; 8], true);
    host.command(0x28, 1, false, &[], true);
    host.exchange(&script).unwrap();
    let answers = host.answers();
    let [
        (TargetPdu::ScsiResponse(failed), _),
        (TargetPdu::Reject(reject), header),
        (TargetPdu::DataIn(_), _),
    ] = &answers[..]
    else {
        panic!("{answers:?}")
    };
    assert_eq!((failed.status, reject.reason), (0x02, RejectReason::InvalidPduField));
    assert_eq!(header.len(), 48);
    assert!(script.written.borrow().is_empty());
}

#[test]
fn commands_run_in_the_order_of_their_numbers() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    host.cmd_sn = 3;
    host.command(0x28, 1, false, &[], true);
    host.cmd_sn = 2;
    host.command(0x28, 1, false, &[], true);
    host.exchange(&script).unwrap();
    assert!(host.answers().is_empty());
    host.cmd_sn = 1;
    host.command(0x28, 1, false, &[], true);
    host.cmd_sn = 1;
    host.command(0x28, 1, false, &[], true);
    host.exchange(&script).unwrap();
    let tags = host
        .answers()
        .iter()
        .map(|(pdu, _)| match pdu {
            TargetPdu::DataIn(pdu) => pdu.initiator_task_tag,
            other => panic!("{other:?}"),
        })
        .collect::<Vec<_>>();
    assert_eq!(tags, [1001, 1002, 1003], "each once");
}

#[test]
fn an_abort_is_answered_when_the_task_has_ended_and_the_task_never() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    let tag = host.command(0xff, 0, false, &[], true);
    host.manage(TaskManagementFunction::AbortTask, 0, tag);
    host.exchange(&script).unwrap();
    assert_eq!(script.log.borrow().last().unwrap(), &format!("abort {tag}"));
    assert!(host.answers().is_empty());
    let nexus = script.sessions.list()[0].nexus;
    script.sessions.answer(nexus, TaskTag::of(tag), Outcome::Aborted);
    let answers = host.answers();
    assert_eq!((functions_answered(&answers), answers.len()), (vec![TaskManagementResult::Complete], 1));
}

#[test]
fn functions_without_an_object_say_so() {
    use TaskManagementFunction as F;
    use TaskManagementResult as R;
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    host.command(0x28, 1, false, &[], true);
    host.exchange(&script).unwrap();
    host.answers();
    let cases = [
        (F::AbortTask, 0, 1001, R::TaskDoesNotExist),
        (F::AbortTaskSet, 5, RESERVED_TAG, R::LunDoesNotExist),
        (F::LogicalUnitReset, 1, RESERVED_TAG, R::Complete),
        (F::TargetWarmReset, 5, RESERVED_TAG, R::Complete),
        (F::ClearAca, 0, RESERVED_TAG, R::NotSupported),
        (F::TaskReassign, 0, 1001, R::ReassignmentNotSupported),
        (F::Other(12), 0, RESERVED_TAG, R::NotSupported),
    ];
    for (function, lun, referenced, result) in cases {
        host.manage(function, lun, referenced);
        host.exchange(&script).unwrap();
        assert_eq!(functions_answered(&host.answers()), [result], "{function:?}");
    }
}

#[test]
fn a_reset_waits_for_the_tasks_of_other_sessions_too() {
    let script = script(true);
    let mut a = Host::logged_in(&script, "iqn.a", "");
    let mut b = Host::logged_in(&script, "iqn.b", "");
    let tag = b.command(0xff, 0, false, &[], true);
    b.exchange(&script).unwrap();
    a.manage(TaskManagementFunction::LogicalUnitReset, 0, RESERVED_TAG);
    a.exchange(&script).unwrap();
    let log = script.log.borrow().clone();
    assert_eq!(log[log.len() - 2..], [format!("abort {tag}"), "reset 0".to_owned()]);
    assert!(a.answers().is_empty());
    let nexus = script.sessions.list().iter().find(|s| s.initiator == "iqn.b").unwrap().nexus;
    script.sessions.answer(nexus, TaskTag::of(tag), Outcome::Aborted);
    assert_eq!(functions_answered(&a.answers()), [TaskManagementResult::Complete]);
    let answers = b.answers();
    let [(TargetPdu::ScsiResponse(response), _)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(response.status, 0x40, "TASK ABORTED");
}

#[test]
fn a_function_that_waits_for_data_is_answered_when_a_reset_of_another_session_takes_the_task() {
    let script = script(true);
    let mut a = Host::logged_in(&script, "iqn.a", "");
    let mut b = Host::logged_in(&script, "iqn.b", "");
    b.command(0x2a, 8, true, &[], true);
    b.exchange(&script).unwrap();
    assert!(matches!(b.answers()[..], [(TargetPdu::ReadyToTransfer(_), _)]));
    b.manage(TaskManagementFunction::AbortTaskSet, 0, RESERVED_TAG);
    b.exchange(&script).unwrap();
    assert!(b.answers().is_empty(), "the data it asked for may still come (11.5.1)");
    a.manage(TaskManagementFunction::LogicalUnitReset, 0, RESERVED_TAG);
    a.exchange(&script).unwrap();
    assert_eq!(functions_answered(&a.answers()), [TaskManagementResult::Complete]);
    let answers = b.answers();
    assert_eq!(functions_answered(&answers), [TaskManagementResult::Complete]);
    assert_eq!(answers.len(), 1, "the task itself is not answered: {answers:?}");
}

#[test]
fn a_function_that_waits_for_data_is_answered_when_a_later_one_takes_the_task() {
    use TaskManagementFunction as F;
    for later in [F::AbortTask, F::LogicalUnitReset, F::TargetWarmReset] {
        let script = script(true);
        let mut host = Host::logged_in(&script, "iqn.a", "");
        let tag = host.command(0x2a, 8, true, &[], true);
        host.exchange(&script).unwrap();
        assert!(matches!(host.answers()[..], [(TargetPdu::ReadyToTransfer(_), _)]));
        host.manage(F::AbortTaskSet, 0, RESERVED_TAG);
        host.exchange(&script).unwrap();
        assert!(host.answers().is_empty());
        host.manage_as(9001, later, 0, if later == F::AbortTask { tag } else { RESERVED_TAG });
        host.exchange(&script).unwrap();
        let complete = TaskManagementResult::Complete;
        assert_eq!(functions_answered(&host.answers()), [complete, complete], "{later:?}");
    }
}

#[test]
fn a_reset_is_answered_when_the_controller_has_reset_every_lun() {
    let script = Script { resets: false, ..script(true) };
    let mut a = Host::logged_in(&script, "iqn.a", "");
    let nexus = script.sessions.list()[0].nexus;
    for (function, luns) in
        [(TaskManagementFunction::LogicalUnitReset, 1), (TaskManagementFunction::TargetWarmReset, 2)]
    {
        let tag = a.manage(function, 0, RESERVED_TAG);
        a.exchange(&script).unwrap();
        for _ in 0..luns {
            assert!(a.answers().is_empty());
            script.sessions.answer(nexus, TaskTag::of(tag), Outcome::Good(Vec::new()));
        }
        assert_eq!(functions_answered(&a.answers()), [TaskManagementResult::Complete]);
    }
    let tag = a.manage(TaskManagementFunction::LogicalUnitReset, 0, RESERVED_TAG);
    a.exchange(&script).unwrap();
    script.sessions.answer(nexus, TaskTag::of(tag), Outcome::Aborted);
    assert_eq!(functions_answered(&a.answers()), [TaskManagementResult::Rejected]);
}

#[test]
fn a_cold_reset_closes_the_connection_when_it_is_answered() {
    let script = Script { resets: false, ..script(true) };
    let mut a = Host::logged_in(&script, "iqn.a", "");
    let nexus = script.sessions.list()[0].nexus;
    let tag = a.manage(TaskManagementFunction::TargetColdReset, 0, RESERVED_TAG);
    a.exchange(&script).unwrap();
    for _ in 0..2 {
        assert!(a.answers().is_empty());
        assert!(!a.socket.state.lock().shut);
        script.sessions.answer(nexus, TaskTag::of(tag), Outcome::Good(Vec::new()));
    }
    assert_eq!(functions_answered(&a.answers()), [TaskManagementResult::Complete]);
    assert!(a.socket.state.lock().shut);
}

#[test]
fn a_reset_does_not_wait_for_a_session_that_is_gone() {
    let script = script(true);
    let mut a = Host::logged_in(&script, "iqn.a", "");
    let mut b = Host::logged_in(&script, "iqn.b", "");
    b.command(0xff, 0, false, &[], true);
    b.exchange(&script).unwrap();
    a.manage(TaskManagementFunction::LogicalUnitReset, 0, RESERVED_TAG);
    a.exchange(&script).unwrap();
    b.line.closed(&script);
    assert_eq!(functions_answered(&a.answers()), [TaskManagementResult::Complete]);
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
    assert_eq!(host.line.on_tick(at(10)), Ok(()));
    assert!(host.answers().is_empty());
    assert_eq!(host.line.on_tick(at(11)), Ok(()));
    assert!(matches!(host.answers()[..], [(TargetPdu::NopIn(_), _)]));
    assert_eq!(host.line.on_tick(at(71)), Ok(()));
    assert_eq!(host.line.on_tick(at(72)), Err(Closed));
    assert!(host.socket.state.lock().shut);
}

#[test]
fn a_login_that_takes_too_long_is_given_up() {
    let script = script(true);
    let mut host = Host::connect(&script);
    assert_eq!(host.line.on_tick(Time(0) + LOGIN_TIME_MAX), Ok(()));
    assert_eq!(host.line.on_tick(Time(1) + LOGIN_TIME_MAX), Err(Closed));
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

#[test]
fn digests_hold_from_the_first_pdu_after_the_login() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "HeaderDigest=CRC32C|DataDigest=CRC32C|");
    let tag = host.command(0x2a, 1, true, &[7; 512], true);
    host.command(0x28, 1, false, &[], true);
    host.exchange(&script).unwrap();
    assert_eq!(host.answers().len(), 2);
    assert_eq!(script.written.borrow()[&tag], [7; 512]);
    host.command(0x2a, 1, true, &[7; 512], true);
    let last = host.input.len() - 1;
    host.input[last] ^= 1;
    host.exchange(&script).unwrap();
    let answers = host.answers();
    let [(TargetPdu::Reject(reject), _)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(reject.reason, RejectReason::DataDigestError);
    host.command(0x28, 1, false, &[], true);
    host.input[3] ^= 1;
    assert_eq!(host.exchange(&script), Err(Closed));
}

#[test]
fn a_host_that_does_not_read_is_not_read_from() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    host.socket.state.lock().full = true;
    let mut sent = 0;
    while host.line.wants_input() {
        for _ in 0..100 {
            host.command(0x28, 255, false, &[], true);
            sent += 1;
        }
        host.exchange(&script).unwrap();
        assert!(sent < 10_000, "output grows without bound");
    }
    assert!(host.line.link.with(|_, output| output.bytes()).unwrap() <= OUTPUT_BYTES_MAX + 255 * 512 + 48);
    host.socket.state.lock().full = false;
    let mut answered = 0;
    for _ in 0..100 {
        host.line.on_writable(&script).unwrap();
        answered += host
            .answers()
            .iter()
            .filter(|(p, _)| matches!(p, TargetPdu::DataIn(p) if p.status.is_some()))
            .count();
    }
    assert!(host.line.wants_input());
    assert_eq!(answered, sent);
}

#[test]
fn an_unknown_opcode_is_rejected_and_a_format_error_ends_the_session() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    let mut bhs = [0; 48];
    bhs[0] = 0x1c;
    host.queue(&bhs, &[]);
    host.exchange(&script).unwrap();
    assert!(matches!(host.answers()[..], [(TargetPdu::Reject(_), _)]));
    // R, W and F all clear, but a length is expected.
    bhs = [0; 48];
    (bhs[0], bhs[20]) = (0x01, 1);
    host.queue(&bhs, &[]);
    let _ = host.exchange(&script);
    assert!(matches!(host.answers()[..], [(TargetPdu::Reject(_), _)]));
    assert!(host.socket.state.lock().shut);
    assert_eq!(*script.log.borrow(), ["added 1", "lost 1"]);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>, full: bool) {
        let script = script(true);
        let mut host = if full { Host::logged_in(&script, "iqn.a", "") } else { Host::connect(&script) };
        host.input.extend_from_slice(&bytes);
        let _ = host.exchange(&script);
        host.line.closed(&script);
    }

    #[test]
    fn any_headers_are_survived(
        headers in proptest::collection::vec((proptest::sample::select(vec![0_u8, 1, 2, 4, 5, 6, 0x10, 0x41, 0x40, 0x42]), proptest::prelude::any::<[u8; 24]>(), 0_u32..4, 0_u32..600), 0..40),
    ) {
        let script = script(true);
        let mut host = Host::logged_in(&script, "iqn.a", "InitialR2T=No|");
        for (opcode, rest, small, length) in headers {
            let mut bhs = [0; 48];
            bhs[24..].copy_from_slice(&rest);
            (bhs[0], bhs[1]) = (opcode, rest[0]);
            bhs[5..8].copy_from_slice(&length.to_be_bytes()[1..]);
            bhs[16..20].copy_from_slice(&small.to_be_bytes());
            bhs[20..24].copy_from_slice(&(small * 300).to_be_bytes());
            bhs[24..28].copy_from_slice(&(host.cmd_sn + u32::from(rest[1] % 3)).to_be_bytes());
            host.cmd_sn += u32::from(rest[2] % 2);
            host.queue(&bhs, &vec![0; length as usize]);
        }
        let _ = host.exchange(&script);
        host.line.closed(&script);
        proptest::prop_assert_eq!(script.sessions.list().len(), 0);
    }
}
