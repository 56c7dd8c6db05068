//! Sessions that are over before their commands are: the answer to a Logout, and the login of a session in the same
//! place, wait for them.

use super::*;
use crate::iscsi::connection::watch::LOGOUT_TIME_MAX;
use crate::iscsi::sessions::DEPARTED_TIME_MAX;

/// A controller that still has what a lost nexus left behind.
fn slow() -> Script {
    Script { gives_up: false, resets: false, ..script(true) }
}

impl Script {
    /// The oldest of the commands that were kept ends.
    fn end_one(&self, outcome: Outcome) {
        let (nexus, tag) = self.kept.borrow_mut().remove(0);
        self.sessions.answer(nexus, tag, outcome);
    }
}

impl Host {
    pub(super) fn ask_to_log_out(&mut self, script: &Script) {
        let request = LogoutRequest {
            immediate: true,
            reason: LogoutReason::CloseSession,
            initiator_task_tag: 5,
            cid: 0,
            cmd_sn: CmdSn(self.cmd_sn),
            exp_stat_sn: StatSn(0),
        };
        self.queue(&request.encode(), &[]);
        let _ = self.exchange(script);
    }

    /// What it has to say now that it was woken.
    fn woken(&mut self, script: &Script) -> Vec<(TargetPdu, Bytes)> {
        assert!(core::mem::take(&mut self.socket.state.lock().wanted) > 0, "nobody woke it");
        let _ = self.connection.on_writable(script);
        self.answers()
    }
}

fn is_logged_in(answers: &[(TargetPdu, Bytes)]) -> bool {
    matches!(answers, [(TargetPdu::LoginResponse(response), _)] if response.status == LoginStatus::Success)
}

#[test]
fn a_logout_is_answered_when_the_last_command_has_ended_and_not_before() {
    let script = slow();
    let mut host = Host::logged_in(&script, "iqn.a", "");
    let first = host.command(0xff, 0, false, &[], true);
    let second = host.command(0xff, 0, false, &[], true);
    let unsent = host.command(0x2a, 2, true, &[], true);
    host.exchange(&script).unwrap();
    assert!(matches!(host.answers()[..], [(TargetPdu::ReadyToTransfer(_), _)]));
    host.ask_to_log_out(&script);
    let log = script.log.borrow().clone();
    assert_eq!(
        log[1..],
        [format!("abort {first}"), format!("abort {second}")],
        "{unsent} was never executed"
    );
    // Nothing more is taken from it.
    host.command(0x28, 1, false, &[], true);
    host.exchange(&script).unwrap();
    script.end_one(Outcome::Good(Vec::new()));
    assert!(host.answers().is_empty());
    script.end_one(Outcome::Aborted);
    let answers = host.woken(&script);
    let [(TargetPdu::LogoutResponse(response), _)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(response.response, LogoutResult::Closed);
    assert!(host.socket.state.lock().shut);
    assert_eq!(script.log.borrow().last().map(String::as_str), Some("lost 1"));
    assert_eq!(script.sessions.count(), 0);
}

#[test]
fn a_logout_is_answered_after_the_functions_that_were_asked_for_before_it() {
    let script = slow();
    let mut host = Host::logged_in(&script, "iqn.a", "");
    let nexus = script.sessions.list()[0].nexus;
    let tag = host.manage(TaskManagementFunction::LogicalUnitReset, 0, RESERVED_TAG);
    host.ask_to_log_out(&script);
    assert!(host.answers().is_empty());
    script.sessions.answer(nexus, TaskTag::of(tag), Outcome::Good(Vec::new()));
    assert_eq!(functions_answered(&host.answers()), [TaskManagementResult::Complete]);
    let answers = host.woken(&script);
    assert!(matches!(answers[..], [(TargetPdu::LogoutResponse(_), _)]), "{answers:?}");
}

#[test]
fn a_logout_whose_commands_do_not_end_closes_the_connection_without_an_answer() {
    let script = slow();
    let mut host = Host::logged_in(&script, "iqn.a", "");
    host.command(0xff, 0, false, &[], true);
    host.ask_to_log_out(&script);
    assert_eq!(host.connection.on_tick(Time(0) + LOGOUT_TIME_MAX), Ok(()));
    assert_eq!(host.connection.on_tick(Time(1) + LOGOUT_TIME_MAX), Err(Closed));
    assert!(host.answers().is_empty());
    assert!(host.socket.state.lock().shut);
}

#[test]
fn a_login_waits_for_the_commands_of_the_connection_that_was_lost() {
    let script = slow();
    let mut lost = Host::logged_in(&script, "iqn.a", "");
    lost.command(0xff, 0, false, &[], true);
    lost.exchange(&script).unwrap();
    lost.connection.closed(&script);
    assert_eq!(script.sessions.count(), 0);
    Host::logged_in(&script, "iqn.b", "");
    let mut again = Host::connect(&script);
    assert!(again.log_in(&script, "iqn.a", "").is_empty());
    script.end_one(Outcome::Aborted);
    assert!(is_logged_in(&again.woken(&script)));
    assert_eq!(*script.log.borrow(), ["added 1", "lost 1", "added 2", "added 3"]);
}

#[test]
fn a_login_waits_for_the_commands_of_the_session_it_reinstates() {
    let script = slow();
    let mut old = Host::logged_in(&script, "iqn.a", "");
    old.command(0xff, 0, false, &[], true);
    old.exchange(&script).unwrap();
    let mut again = Host::connect(&script);
    assert!(again.log_in(&script, "iqn.a", "").is_empty());
    assert!(old.socket.state.lock().shut, "the old connection ends at once");
    let mut third = Host::connect(&script);
    assert!(third.log_in(&script, "iqn.a", "").is_empty());
    script.end_one(Outcome::Aborted);
    assert!(is_logged_in(&again.woken(&script)));
    assert!(is_logged_in(&third.woken(&script)));
    assert!(again.socket.state.lock().shut, "the last one holds");
    assert_eq!(script.sessions.count(), 1);
}

#[test]
fn a_login_waits_no_longer_than_a_command_can_be_too_old() {
    let script = slow();
    let mut lost = Host::logged_in(&script, "iqn.a", "");
    lost.command(0xff, 0, false, &[], true);
    lost.exchange(&script).unwrap();
    lost.connection.closed(&script);
    let mut again = Host::connect(&script);
    assert!(again.log_in(&script, "iqn.a", "").is_empty());
    let almost = Time(0) + DEPARTED_TIME_MAX - core::time::Duration::from_nanos(1);
    for (now, in_time) in [(almost, false), (Time(0) + DEPARTED_TIME_MAX, true)] {
        script.now.replace(now);
        assert_eq!(again.connection.on_tick(now), Ok(()));
        assert_eq!(is_logged_in(&again.woken(&script)), in_time);
    }
}

#[test]
fn a_login_that_does_not_want_to_wait_leaves_the_place_to_others() {
    let script = slow();
    let mut lost = Host::logged_in(&script, "iqn.a", "");
    lost.command(0xff, 0, false, &[], true);
    lost.exchange(&script).unwrap();
    lost.connection.closed(&script);
    let mut impatient = Host::connect(&script);
    assert!(impatient.log_in(&script, "iqn.a", "").is_empty());
    impatient.connection.closed(&script);
    script.end_one(Outcome::Aborted);
    let mut again = Host::connect(&script);
    assert!(is_logged_in(&again.log_in(&script, "iqn.a", "")));
    assert_eq!(script.sessions.count(), 1);
}
