//! How connections end: asked for, too slow, owing something.

use protocol::iscsi::{AsyncEvent, TargetPdu};

use core::time::Duration;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn events(host: &Host) -> Vec<AsyncEvent> {
    let event = |(pdu, _): &(TargetPdu, Bytes)| match pdu {
        TargetPdu::AsyncMessage(message) => Some(message.event),
        _ => None,
    };
    let mut state = host.socket.state.lock();
    let mut events = Vec::new();
    while let Framed::Pdu(pdu) = take_pdu(&mut state.written, Digests::default(), u32::MAX).unwrap() {
        events.extend(event(&(TargetPdu::decode(&pdu.bhs).unwrap(), Bytes::new())));
    }
    events
}

#[test]
fn a_controller_that_ends_asks_for_logout_and_drops_who_stays() {
    let script = script(true);
    let polite = Host::logged_in(&script, "iqn.a", "");
    let deaf = Host::logged_in(&script, "iqn.b", "");
    script.sessions.ask_to_leave(Duration::from_secs(3));
    for host in [&polite, &deaf] {
        assert_eq!(events(host), [AsyncEvent::LogoutRequest { within: 3 }]);
        assert!(!host.socket.state.lock().shut);
    }
    let mut polite = polite;
    let request = LogoutRequest {
        immediate: true,
        reason: LogoutReason::CloseSession,
        initiator_task_tag: 5,
        cid: 0,
        cmd_sn: CmdSn(1),
        exp_stat_sn: StatSn(0),
    };
    polite.queue(&request.encode(), &[]);
    polite.exchange(&script).unwrap();
    assert_eq!(script.sessions.count(), 1);
    script.sessions.dismiss_all();
    let dropped = AsyncEvent::ConnectionDrop { cid: 0, time_2_wait: 0, time_2_retain: 0 };
    assert_eq!(events(&deaf), [dropped]);
    assert!(deaf.socket.state.lock().shut);

    let mut late = Host::connect(&script);
    let (TargetPdu::LoginResponse(refused), _) = late.log_in(&script, "iqn.c", "").remove(0) else {
        panic!()
    };
    assert_eq!(refused.status, LoginStatus::ServiceUnavailable);
}

#[test]
fn a_pdu_that_comes_a_byte_a_second_does_not_keep_its_connection_alive() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    let mut ended = None;
    for second in 1..100 {
        *script.now.borrow_mut() = Time(second * SECOND);
        // A NOP-Out with 200 bytes of data: byte 7 is the last of its DataSegmentLength.
        host.input.extend_from_slice(&[if second == 8 { 200 } else { 0 }]);
        let result = host.exchange(&script).and_then(|()| host.connection.on_tick(Time(second * SECOND)));
        if result.is_err() {
            ended = Some(second);
            break;
        }
    }
    assert_eq!(ended, Some(72), "asked after ten seconds, given up a minute later");
}

#[test]
fn a_host_that_keeps_an_r2t_waiting_is_given_up() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    host.command(0x2a, 1, true, &[], true);
    host.exchange(&script).unwrap();
    for second in 1..=40 {
        *script.now.borrow_mut() = Time(second * SECOND);
        let ping = NopOut {
            immediate: true,
            data_segment_length: 0,
            lun: [0; 8],
            initiator_task_tag: RESERVED_TAG,
            target_transfer_tag: RESERVED_TAG,
            cmd_sn: CmdSn(1),
            exp_stat_sn: StatSn(0),
        };
        host.queue(&ping.encode(), &[]);
        host.exchange(&script).unwrap();
        let given_up = host.connection.on_tick(Time(second * SECOND)).is_err();
        assert_eq!(given_up, second > 30, "{second}");
        if given_up {
            return;
        }
    }
}

#[test]
fn nothing_is_asked_on_a_discovery_session() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "SessionType=Discovery|");
    for second in 1..=300 {
        assert_eq!(host.connection.on_tick(Time(second * SECOND)), Ok(()));
    }
    assert!(host.answers().is_empty());
    assert_eq!(host.connection.on_tick(Time(301 * SECOND)), Err(Closed));
}

#[test]
fn small_data_among_much_else_is_copied_out_of_the_input() {
    let script = script(true);
    let mut policy = RetentionPolicy::default();
    let mut host = Host::logged_in(&script, "iqn.a", "");
    host.command(0x2a, 1, true, &[7; 512], true);
    let Ok(Framed::Pdu(write)) = take_pdu(&mut host.input, Digests::default(), 8192) else { panic!() };
    let shares = |policy: &mut RetentionPolicy| {
        let mut pdu = write.clone();
        policy.apply(&mut pdu);
        assert_eq!(pdu.data, write.data);
        pdu.data.unwrap().as_ptr() == write.data.as_ref().unwrap().as_ptr()
    };
    assert!(shares(&mut policy));
    let ping = Received { bhs: [0; 48], ahs: Bytes::new(), data: Some(Bytes::from(vec![0; 8192])) };
    policy.apply(&mut ping.clone());
    assert!(!shares(&mut policy));
}

#[test]
fn a_cold_reset_closes_every_connection() {
    let script = script(true);
    let mut asking = Host::logged_in(&script, "iqn.a", "");
    let other = Host::logged_in(&script, "iqn.b", "");
    asking.manage(TaskManagementFunction::TargetColdReset, 0, RESERVED_TAG);
    let _ = asking.exchange(&script);
    assert!(asking.socket.state.lock().shut && other.socket.state.lock().shut);
}
