//! The full feature phase: commands, Data-Out, task management, as PDUs go in and come out.

use bytes::Bytes;
use controller::unit::SenseFormats;
use protocol::iscsi::{Digests, TargetPdu, TaskAttribute};

use super::*;
use crate::iscsi::connection::framing::{Framed, take_pdu};
use crate::iscsi::directory::FrontendConfig;
use crate::iscsi::memory_pool::Pool;

mod ages;
mod attributes;
mod bounds;
mod functions;

fn session() -> FullFeature {
    session_with(Arc::default())
}

fn session_with(memory: Arc<Pool>) -> FullFeature {
    let mut parameters = Parameters::default();
    parameters.agreed.max_burst_length = BURST;
    FullFeature::new(Opening {
        nexus: Some(NexusId(1)),
        parameters,
        cid: 0,
        cmd_sn: CmdSn(1),
        stat_sn: StatSn(1),
        directory: Arc::new(FrontendConfig {
            iqn: String::new(),
            portal_groups: Vec::new(),
            own_group: 1,
            access: Default::default(),
        }),
        ends: None,
        data_out_bytes: |_| u64::from(u32::MAX),
        memory,
        luns: None,
        sense_formats: SenseFormats::default(),
    })
}

const BURST: u32 = 1 << 20;

fn command(number: u32, writes: bool, expected: u32) -> Received {
    let command = ScsiCommand {
        immediate: false,
        final_bit: true,
        read: !writes,
        write: writes,
        attribute: TaskAttribute::Simple,
        total_ahs_length: 0,
        data_segment_length: 0,
        lun: [0; 8],
        initiator_task_tag: number,
        expected_data_transfer_length: expected,
        cmd_sn: CmdSn(number),
        exp_stat_sn: StatSn(0),
        cdb: [0; 16],
    };
    Received { bhs: command.encode(), ahs: Bytes::new(), data: Some(Bytes::new()) }
}

/// Aborts a command that is not being executed.
fn forget(session: &mut FullFeature, tag: u32, output: &mut Output) -> bool {
    let (tasks, mut sender) = session.parts(output);
    tasks.forget(tag, &mut sender).is_some()
}

fn pdus(output: &mut Output) -> Vec<TargetPdu> {
    let mut bytes = output.to_bytes();
    output.clear();
    let mut pdus = Vec::new();
    while let Framed::Pdu(pdu) = take_pdu(&mut bytes, Digests::default(), u32::MAX).unwrap() {
        pdus.push(TargetPdu::decode(&pdu.bhs).unwrap());
    }
    pdus
}

#[test]
fn the_window_closes_while_commands_are_unanswered_and_opens_with_their_answers() {
    let mut session = session();
    let mut output = Output::default();
    for number in 1..=COMMAND_WINDOW + 5 {
        session.on_pdu(&command(number, false, 0), Time(0), &mut output);
    }
    assert_eq!(session.usage().tasks, u64::from(COMMAND_WINDOW), "what is outside the window is ignored");
    while session.next_work(0).0.is_some() {}
    for tag in 1..=3 {
        session.on_outcome(TaskTag::of(tag), Outcome::Good(Vec::new()), &mut output);
    }
    let maxima = pdus(&mut output).into_iter().map(|pdu| match pdu {
        TargetPdu::ScsiResponse(response) => response.max_cmd_sn.0,
        other => panic!("{other:?}"),
    });
    assert_eq!(maxima.collect::<Vec<_>>(), [COMMAND_WINDOW + 1, COMMAND_WINDOW + 2, COMMAND_WINDOW + 3]);
}

#[test]
fn r2ts_are_withheld_beyond_the_bound_and_sent_when_it_has_room() {
    let mut session = session();
    let mut output = Output::default();
    let each = 12 * 1024 * 1024;
    for number in 1..=4 {
        session.on_pdu(&command(number, true, each), Time(0), &mut output);
    }
    let asked = |output: &mut Output| {
        let tag = |pdu| match pdu {
            TargetPdu::ReadyToTransfer(r2t) => r2t.initiator_task_tag,
            other => panic!("{other:?}"),
        };
        pdus(output).into_iter().map(tag).collect::<Vec<_>>()
    };
    assert_eq!(asked(&mut output), [1, 2]);
    assert!(forget(&mut session, 1, &mut output));
    assert_eq!(asked(&mut output), [3]);
    assert!(forget(&mut session, 2, &mut output));
    assert_eq!(asked(&mut output), [4]);
}

#[test]
fn reads_are_held_beyond_the_bound_and_go_on_when_it_has_room() {
    let mut session = session();
    let mut output = Output::default();
    // No command yields more than 8 MiB, whatever is expected.
    let each = 20 * 1024 * 1024;
    for number in 1..=5 {
        session.on_pdu(&command(number, false, each), Time(0), &mut output);
    }
    assert_eq!(executed(&mut session), [1, 2, 3, 4]);
    assert!(!session.take_room(0));
    for tag in 1..=3 {
        session.on_outcome(TaskTag::of(tag), Outcome::Good(Vec::new()), &mut output);
    }
    assert!(!session.take_room(16 << 20), "what was read still waits to be written");
    assert!(session.take_room(0));
    assert_eq!(executed(&mut session), [5]);
}

#[test]
fn an_outcome_nobody_waits_for_is_ignored() {
    let mut session = session();
    let mut output = Output::default();
    session.on_pdu(&command(1, false, 0), Time(0), &mut output);
    session.on_outcome(TaskTag::of(1), Outcome::Good(Vec::new()), &mut output);
    assert!(output.is_empty(), "it was not begun");
    assert!(session.next_work(0).0.is_some());
    session.on_outcome(TaskTag::of(1), Outcome::Good(Vec::new()), &mut output);
    session.on_outcome(TaskTag::of(1), Outcome::Good(Vec::new()), &mut output);
    assert_eq!(pdus(&mut output).len(), 1);
}

#[test]
fn a_task_tag_in_use_is_rejected_and_its_number_not_used_up() {
    let mut session = session();
    let mut output = Output::default();
    session.on_pdu(&command(1, false, 0), Time(0), &mut output);
    let mut again = command(1, false, 0);
    again.bhs[27] = 2;
    session.on_pdu(&again, Time(0), &mut output);
    let answers = pdus(&mut output);
    let [TargetPdu::Reject(reject)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((reject.reason, reject.exp_cmd_sn), (RejectReason::TaskInProgress, CmdSn(2)));
    session.on_pdu(&with_tag(3, 2), Time(0), &mut output);
    assert_eq!(executed(&mut session), [1, 3], "another command may have the number");
}

fn with_tag(tag: u32, number: u32) -> Received {
    let mut pdu = command(number, false, 0);
    pdu.bhs[16..20].copy_from_slice(&tag.to_be_bytes());
    pdu
}

fn executed(session: &mut FullFeature) -> Vec<u32> {
    let mut tags = Vec::new();
    while let (Some(Work::Execute(request)), _) = session.next_work(0) {
        tags.push(request.tag.task());
    }
    tags
}

#[test]
fn a_number_of_an_aborted_command_does_not_run_the_next_command_with_its_tag_twice() {
    let mut session = session();
    let mut output = Output::default();
    session.on_pdu(&with_tag(77, 3), Time(0), &mut output);
    assert!(forget(&mut session, 77, &mut output));
    session.on_pdu(&with_tag(77, 1), Time(0), &mut output);
    assert_eq!(executed(&mut session), [77]);
    session.on_pdu(&with_tag(5, 2), Time(0), &mut output);
    assert_eq!(executed(&mut session), [5]);
    session.on_pdu(&with_tag(6, 4), Time(0), &mut output);
    assert_eq!(executed(&mut session), [6], "number 3 counts as received");
}

#[test]
fn an_early_command_with_a_tag_in_use_leaves_its_number_to_another() {
    let mut session = session();
    let mut output = Output::default();
    session.on_pdu(&with_tag(1, 1), Time(0), &mut output);
    session.on_pdu(&with_tag(1, 3), Time(0), &mut output);
    session.on_pdu(&with_tag(2, 2), Time(0), &mut output);
    session.on_pdu(&with_tag(4, 4), Time(0), &mut output);
    assert_eq!(executed(&mut session), [1, 2]);
    session.on_pdu(&with_tag(3, 3), Time(0), &mut output);
    assert_eq!(executed(&mut session), [3, 4]);
}
