//! Task management functions, over all sessions they reach.

use super::*;

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
    b.connection.closed(&script);
    assert_eq!(functions_answered(&a.answers()), [TaskManagementResult::Complete]);
}
