//! Task management functions that have to wait: for commands before them, for data that was asked for.

use protocol::iscsi::{TaskManagementFunction, TaskManagementResult};

use super::*;

fn function(function: TaskManagementFunction, number: u32, tag: u32) -> Received {
    let request = TaskManagementRequest {
        immediate: true,
        function,
        lun: [0; 8],
        initiator_task_tag: tag,
        referenced_task_tag: RESERVED_TAG,
        cmd_sn: CmdSn(number),
        exp_stat_sn: StatSn(0),
        ref_cmd_sn: CmdSn(0),
        exp_data_sn: 0,
    };
    Received { bhs: request.encode(), ahs: Bytes::new(), data: Some(Bytes::new()) }
}

/// Performs the next function, if one is due. There are no other sessions.
fn manage(session: &mut FullFeature, output: &mut Output) -> bool {
    let (Some(Work::Manage(request)), _) = session.next_work(0) else {
        return false;
    };
    if session.manage(&request, true, output).waits {
        session.release(request.initiator_task_tag, -1, output);
    }
    true
}

fn data_out(tag: u32, transfer_tag: u32, offset: u32, length: u32, last: bool) -> Received {
    let header = DataOut {
        final_bit: last,
        data_segment_length: length,
        lun: [0; 8],
        initiator_task_tag: tag,
        target_transfer_tag: transfer_tag,
        exp_stat_sn: StatSn(0),
        data_sn: 0,
        buffer_offset: offset,
    };
    let data = Bytes::from(vec![0; length as usize]);
    Received { bhs: header.encode(), ahs: Bytes::new(), data: Some(data) }
}

#[test]
fn an_immediate_abort_task_set_waits_for_the_commands_before_it() {
    for kind in [
        TaskManagementFunction::AbortTaskSet,
        TaskManagementFunction::ClearTaskSet,
        TaskManagementFunction::LogicalUnitReset,
    ] {
        let mut session = session();
        let mut output = Output::default();
        session.on_pdu(&function(kind, 3, 900), Time(0), &mut output);
        assert!(!manage(&mut session, &mut output));
        session.on_pdu(&with_tag(900, 1), Time(0), &mut output);
        let [TargetPdu::Reject(reject)] = pdus(&mut output)[..] else { panic!() };
        assert_eq!(reject.reason, RejectReason::TaskInProgress, "its tag is in use");
        session.on_pdu(&with_tag(2, 2), Time(0), &mut output);
        session.on_pdu(&with_tag(1, 1), Time(0), &mut output);
        assert!(manage(&mut session, &mut output));
        assert_eq!(executed(&mut session), [0_u32; 0], "both commands were covered by it");
        let [TargetPdu::TaskManagementResponse(response)] = pdus(&mut output)[..] else { panic!() };
        assert_eq!(response.response, TaskManagementResult::Complete);
    }
}

#[test]
fn abort_task_set_waits_for_the_answers_to_its_tasks_r2ts() {
    for (kind, waits) in [
        (TaskManagementFunction::AbortTaskSet, true),
        (TaskManagementFunction::ClearTaskSet, true),
        (TaskManagementFunction::LogicalUnitReset, false),
    ] {
        let mut session = session();
        let mut output = Output::default();
        session.on_pdu(&command(1, true, 8192), Time(0), &mut output);
        let [TargetPdu::ReadyToTransfer(r2t)] = pdus(&mut output)[..] else { panic!() };
        session.on_pdu(&function(kind, 2, 900), Time(0), &mut output);
        assert!(manage(&mut session, &mut output));
        assert_eq!(pdus(&mut output).is_empty(), waits, "{kind:?}");
        session.on_pdu(&data_out(1, r2t.target_transfer_tag, 0, 4096, true), Time(0), &mut output);
        let answers = pdus(&mut output);
        assert_eq!(answers.len(), usize::from(waits), "{answers:?}");
        assert!(answers.iter().all(|pdu| matches!(pdu, TargetPdu::TaskManagementResponse(_))));
        assert_eq!((session.usage().tasks, executed(&mut session)), (0, vec![]));
    }
}

#[test]
fn a_host_that_leaves_an_r2t_unanswered_owes_data() {
    let mut session = session();
    let mut output = Output::default();
    let second = |n: u64| Time(n * 1_000_000_000);
    session.on_pdu(&command(1, true, 8192), second(0), &mut output);
    let [TargetPdu::ReadyToTransfer(r2t)] = pdus(&mut output)[..] else { panic!() };
    assert!(!session.commands().owes_data(second(30)));
    assert!(session.commands().owes_data(second(31)));
    session.on_pdu(&data_out(1, r2t.target_transfer_tag, 0, 4096, false), second(31), &mut output);
    assert!(!session.commands().owes_data(second(61)));
    assert!(session.commands().owes_data(second(62)));
}

fn answered(session: &mut FullFeature, output: &mut Output) -> Vec<TaskManagementResult> {
    while manage(session, output) {}
    let response = |pdu| match pdu {
        TargetPdu::TaskManagementResponse(response) => Some(response.response),
        _ => None,
    };
    pdus(output).into_iter().filter_map(response).collect()
}

fn abort(referenced: u32, ref_number: u32, number: u32, tag: u32) -> Received {
    let mut pdu = function(TaskManagementFunction::AbortTask, number, tag);
    pdu.bhs[20..24].copy_from_slice(&referenced.to_be_bytes());
    pdu.bhs[32..36].copy_from_slice(&ref_number.to_be_bytes());
    pdu
}

#[test]
fn an_abort_of_a_command_that_has_not_come_counts_it_as_received() {
    let mut session = session();
    let mut output = Output::default();
    session.on_pdu(&abort(55, 1, 2, 900), Time(0), &mut output);
    assert_eq!(answered(&mut session, &mut output), [TaskManagementResult::Complete]);
    session.on_pdu(&with_tag(55, 1), Time(0), &mut output);
    assert_eq!(executed(&mut session), [0_u32; 0], "it came too late");
    session.on_pdu(&with_tag(56, 2), Time(0), &mut output);
    assert_eq!(executed(&mut session), [56]);
    session.on_pdu(&abort(57, 1, 3, 901), Time(0), &mut output);
    assert_eq!(answered(&mut session, &mut output), [TaskManagementResult::TaskDoesNotExist]);
}

#[test]
fn an_abort_of_a_function_is_rejected() {
    let mut session = session();
    let mut output = Output::default();
    session.on_pdu(&with_tag(1, 1), Time(0), &mut output);
    assert_eq!(executed(&mut session), [1]);
    session.on_pdu(&function(TaskManagementFunction::AbortTaskSet, 2, 900), Time(0), &mut output);
    assert!(manage(&mut session, &mut output), "it waits for the task");
    session.on_pdu(&function(TaskManagementFunction::AbortTaskSet, 3, 901), Time(0), &mut output);
    for waiting in [900, 901] {
        session.on_pdu(&abort(waiting, 2, 2, 902), Time(0), &mut output);
        assert_eq!(answered(&mut session, &mut output), [TaskManagementResult::Rejected], "{waiting}");
    }
}

#[test]
fn functions_reach_no_further_than_what_a_host_may_see() {
    use TaskManagementFunction as F;
    use TaskManagementResult as R;
    for (kind, lun, result) in [
        (F::AbortTaskSet, 0, R::Complete),
        (F::LogicalUnitReset, 0, R::Complete),
        (F::AbortTaskSet, 1, R::LunDoesNotExist),
        (F::LogicalUnitReset, 1, R::LunDoesNotExist),
        (F::TargetWarmReset, 0, R::AuthorizationFailed),
        (F::TargetColdReset, 0, R::AuthorizationFailed),
    ] {
        let mut session = session();
        session.luns = Some([0].into());
        let mut output = Output::default();
        let mut request = function(kind, 1, 900);
        request.bhs[9] = lun;
        session.on_pdu(&request, Time(0), &mut output);
        assert_eq!(answered(&mut session, &mut output), [result], "{kind:?} {lun}");
    }
}

#[test]
fn what_was_aborted_in_its_turn_leaves_nothing_behind() {
    let mut session = session();
    let mut output = Output::default();
    // Its data never comes.
    session.on_pdu(&command(1, true, 8192), Time(0), &mut output);
    let mut ordered = command(2, false, 0);
    ordered.bhs[1] = ordered.bhs[1] & !7 | TaskAttribute::Ordered as u8;
    session.on_pdu(&ordered, Time(0), &mut output);
    let rounds = 2_000_u32;
    for round in 0..rounds {
        session.on_pdu(&with_tag(77, 3 + round), Time(0), &mut output);
        assert!(session.next_work(0).0.is_none(), "it waits for the ordered one");
        session.on_pdu(&abort(77, 3 + round, 4 + round, 900), Time(0), &mut output);
        assert_eq!(answered(&mut session, &mut output), [TaskManagementResult::Complete]);
    }
    assert_eq!(session.usage().tasks, 2);
    assert!(
        session.commands().ready() <= 2,
        "{} stand in the queue, every PDU looks at each",
        session.commands().ready()
    );
}
