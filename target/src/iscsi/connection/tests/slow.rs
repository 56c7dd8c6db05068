//! Slow lines and short memory: a line that moves is alive, a limit counts silence.

use super::*;
use crate::iscsi::connection::watch::FAREWELL_MAX;
use crate::iscsi::memory_pool::{POOL_BYTES_MAX, Quota, hog};
use crate::iscsi::session::data_out::DATA_OUT_SILENCE_MAX;

const SECOND: u64 = 1_000_000_000;

impl Script {
    fn at(&self, second: u64) -> Time {
        *self.now.borrow_mut() = Time(second * SECOND);
        Time(second * SECOND)
    }
}

impl Host {
    /// Its socket takes so many bytes more.
    fn takes(&mut self, script: &Script, bytes: usize) -> Result<(), Closed> {
        self.socket.state.lock().room = Some(bytes);
        self.connection.on_writable(script)
    }

    /// It answers pings, for another second.
    fn stays(&mut self, script: &Script, second: u64) -> Result<(), Closed> {
        let now = script.at(second);
        let pong = NopOut {
            immediate: true,
            data_segment_length: 0,
            lun: [0; 8],
            initiator_task_tag: RESERVED_TAG,
            target_transfer_tag: RESERVED_TAG,
            cmd_sn: CmdSn(self.cmd_sn),
            exp_stat_sn: StatSn(0),
        };
        self.queue(&pong.encode(), &[]);
        self.exchange(script)?;
        self.connection.on_tick(now)
    }

    fn takes_nothing(&self) {
        self.socket.state.lock().room = Some(0);
    }

    fn read(&mut self, blocks: u16) -> u32 {
        self.command(0x28, blocks, false, &[], true)
    }
}

fn ended(host: &mut Host) -> Vec<u32> {
    let tag = |(pdu, _)| match pdu {
        TargetPdu::DataIn(pdu) if pdu.status.is_some() => Some(pdu.initiator_task_tag),
        _ => None,
    };
    host.answers().into_iter().filter_map(tag).collect()
}

fn all_but_what_comes_unasked(script: &Script) -> Quota {
    hog(&script.sessions.memory, POOL_BYTES_MAX / 8)
}

#[test]
fn a_connection_that_waits_for_memory_is_not_woken_before_there_is_some() {
    let script = script(true);
    let hog = all_but_what_comes_unasked(&script);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    let (small, large) = (host.read(255), host.read(1024));
    host.exchange(&script).unwrap();
    assert_eq!(ended(&mut host), [small], "its own share is always there");
    for _ in 0..10 {
        if core::mem::take(&mut host.socket.state.lock().wanted) > 0 {
            host.connection.on_writable(&script).unwrap();
        }
    }
    assert_eq!(host.socket.state.lock().wanted, 0, "woken over and over");
    assert_eq!(ended(&mut host), [0_u32; 0]);
    assert_eq!(script.sessions.memory.waiting(), 1);
    drop(hog);
    script.sessions.memory.wake();
    assert!(core::mem::take(&mut host.socket.state.lock().wanted) > 0, "woken when there is");
    host.connection.on_writable(&script).unwrap();
    assert_eq!(ended(&mut host), [large]);
    assert_eq!(script.sessions.memory.waiting(), 0);
}

#[test]
fn a_host_that_stands_still_with_memory_that_others_wait_for_is_given_up() {
    let script = script(true);
    let (mut stuck, mut waiting) =
        (Host::logged_in(&script, "iqn.a", ""), Host::logged_in(&script, "iqn.b", ""));
    stuck.takes_nothing();
    for _ in 0..100 {
        stuck.read(255);
    }
    stuck.exchange(&script).unwrap();
    let _hog = all_but_what_comes_unasked(&script);
    for second in 1..=8 {
        assert_eq!(stuck.connection.on_tick(script.at(second)), Ok(()), "nobody needs what it has");
    }
    waiting.read(1024);
    waiting.exchange(&script).unwrap();
    assert_eq!(script.sessions.memory.waiting(), 1);
    assert_eq!(stuck.connection.on_tick(script.at(9)), Ok(()), "it has waited for a moment only");
    assert_eq!(waiting.connection.on_tick(script.at(10)), Ok(()));
    assert_eq!(stuck.connection.on_tick(script.at(10)), Err(Closed));
    stuck.connection.closed(&script);
    assert_eq!(script.sessions.memory.waiting(), 0, "who waited has its turn");
    assert!(waiting.socket.state.lock().wanted > 0);
}

#[test]
fn a_ping_behind_what_its_host_takes_slowly_does_not_end_the_connection() {
    for (each_second, alive) in [(64 * 1024, true), (0, false)] {
        let script = script(true);
        let mut host = Host::logged_in(&script, "iqn.a", "");
        host.takes_nothing();
        for _ in 0..100 {
            host.read(255);
        }
        host.exchange(&script).unwrap();
        for second in 1..=150 {
            let now = script.at(second);
            let there = host.takes(&script, each_second).and_then(|()| host.connection.on_tick(now)).is_ok();
            assert_eq!(there, alive || second < 73, "{each_second} bytes a second, second {second}");
            if !there {
                break;
            }
        }
    }
}

#[test]
fn what_a_host_takes_slowly_after_its_logout_is_all_sent() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    host.takes_nothing();
    for _ in 0..60 {
        host.read(255);
    }
    host.ask_to_log_out(&script);
    let held = script.sessions.memory.taken();
    assert!(held > 0, "what waits for a host is counted after its session");
    let mut seconds = 0;
    while !host.socket.state.lock().shut {
        seconds += 1;
        assert_eq!(host.connection.on_tick(script.at(seconds)), Ok(()), "second {seconds}");
        let _ = host.takes(&script, 400_000);
    }
    assert!(seconds > 3 * FAREWELL_MAX.as_secs(), "{seconds}");
    assert!(matches!(host.answers().last(), Some((TargetPdu::LogoutResponse(_), _))));
    assert_eq!(script.sessions.memory.taken(), 0);
}

#[test]
fn what_a_host_does_not_take_after_its_logout_is_given_up() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    host.takes_nothing();
    for _ in 0..60 {
        host.read(255);
    }
    host.ask_to_log_out(&script);
    assert_eq!(host.connection.on_tick(script.at(5)), Ok(()));
    assert_eq!(host.connection.on_tick(script.at(6)), Err(Closed));
    assert_eq!(script.sessions.memory.taken(), 0);
}

fn r2ts(host: &mut Host) -> Vec<protocol::iscsi::ReadyToTransfer> {
    let r2t = |(pdu, _)| if let TargetPdu::ReadyToTransfer(r2t) = pdu { Some(r2t) } else { None };
    host.answers().into_iter().filter_map(r2t).collect()
}

#[test]
fn the_time_for_which_an_r2t_was_withheld_is_not_the_hosts() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    let hog = all_but_what_comes_unasked(&script);
    let silence = DATA_OUT_SILENCE_MAX.as_secs();
    host.command(0x2a, 1024, true, &[], true);
    host.exchange(&script).unwrap();
    assert!(r2ts(&mut host).is_empty(), "it is withheld");
    // Others take what memory there is for longer than a host may be silent.
    let withheld = 2 * silence;
    for second in 1..=withheld {
        assert_eq!(host.stays(&script, second), Ok(()), "second {second}");
    }
    drop(hog);
    script.sessions.memory.wake();
    host.connection.on_writable(&script).unwrap();
    assert!(!r2ts(&mut host).is_empty());
    for second in withheld + 1..=withheld + silence {
        assert_eq!(host.stays(&script, second), Ok(()), "second {second}");
    }
    assert_eq!(host.stays(&script, withheld + silence + 2), Err(Closed), "now it is");
}

#[test]
fn writes_that_a_slow_line_brings_one_after_the_other_are_waited_for() {
    // A burst of 128 KiB each ten seconds, of eight that were asked for at once.
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    for _ in 0..8 {
        host.command(0x2a, 255, true, &[], true);
    }
    host.exchange(&script).unwrap();
    let asked = r2ts(&mut host);
    assert_eq!(asked.len(), 8);
    let mut second = 0;
    for r2t in asked {
        for _ in 0..10 {
            second += 1;
            assert_eq!(host.connection.on_tick(script.at(second)), Ok(()), "second {second}");
        }
        let data = vec![0; r2t.desired_data_transfer_length as usize];
        host.data_out(r2t.initiator_task_tag, r2t.target_transfer_tag, 0, r2t.buffer_offset, &data, true);
        host.exchange(&script).unwrap();
    }
    assert_eq!(script.written.borrow().len(), 8);
}

#[test]
fn a_pdu_that_comes_slowly_is_waited_for() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    host.command(0x2a, 255, true, &[], true);
    host.exchange(&script).unwrap();
    let r2t = r2ts(&mut host)[0];
    let data = vec![0; r2t.desired_data_transfer_length as usize];
    host.data_out(r2t.initiator_task_tag, r2t.target_transfer_tag, 0, 0, &data, true);
    let mut coming = host.input.split();
    let mut second = 0;
    while !coming.is_empty() {
        second += 1;
        let now = script.at(second);
        let piece = coming.split_to(coming.len().min(1024));
        host.input.unsplit(piece);
        host.exchange(&script).unwrap();
        assert_eq!(host.connection.on_tick(now), Ok(()), "second {second}");
    }
    assert!(second > 100);
    assert_eq!(script.written.borrow().len(), 1);
}

#[test]
fn an_r2t_that_is_passed_over_ends_the_connection() {
    let script = script(true);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    host.command(0x2a, 255, true, &[], true);
    host.exchange(&script).unwrap();
    assert_eq!(r2ts(&mut host).len(), 1);
    let mut given_up = None;
    for second in 1..=100 {
        let now = script.at(second);
        for _ in 0..40 {
            let length = 255 * 512;
            let tag = host.command(0x2a, 255, true, &[], true);
            host.exchange(&script).unwrap();
            let r2t = r2ts(&mut host)[0];
            host.data_out(tag, r2t.target_transfer_tag, 0, 0, &vec![0; length], true);
            host.exchange(&script).unwrap();
        }
        host.answers();
        if host.connection.on_tick(now).is_err() {
            given_up = Some(second);
            break;
        }
    }
    assert_eq!(given_up, Some(31), "others are answered, at 5 MiB a second");
}

#[test]
fn memory_that_came_in_its_turn_when_it_was_not_wanted_any_more_is_given_back() {
    let script = script(true);
    let hog = all_but_what_comes_unasked(&script);
    let mut host = Host::logged_in(&script, "iqn.a", "");
    let large = host.read(16_384);
    host.exchange(&script).unwrap();
    assert_eq!(script.sessions.memory.waiting(), 1);
    // Its host has waited long enough, as Linux does after 30 s.
    host.manage(TaskManagementFunction::AbortTask, 0, large);
    host.exchange(&script).unwrap();
    assert_eq!(functions_answered(&host.answers()), [TaskManagementResult::Complete]);
    drop(hog);
    script.sessions.memory.wake();
    for second in 1..=20 {
        if core::mem::take(&mut host.socket.state.lock().wanted) > 0 {
            host.connection.on_writable(&script).unwrap();
        }
        // It is well, and does what its own share is enough for.
        let small = host.read(8);
        host.exchange(&script).unwrap();
        assert_eq!(ended(&mut host), [small]);
        assert_eq!(host.connection.on_tick(script.at(second)), Ok(()));
    }
    // Nor does it come back while the host is idle.
    for second in 21..=25 {
        assert_eq!(host.connection.on_tick(script.at(second)), Ok(()));
    }
    assert_eq!(script.sessions.memory.taken(), 0, "nobody uses any of it");
}

#[test]
fn hosts_that_gave_up_their_large_reads_keep_nobody_else_from_reading() {
    let script = script(true);
    let hog = all_but_what_comes_unasked(&script);
    // 8 MiB each: as much as can be made to wait for.
    let mut gave_up = Vec::new();
    for number in 0..56 {
        let mut host = Host::logged_in(&script, &format!("iqn.{number}"), "");
        let large = host.read(16_384);
        host.exchange(&script).unwrap();
        host.manage(TaskManagementFunction::AbortTask, 0, large);
        host.exchange(&script).unwrap();
        gave_up.push(host);
    }
    drop(hog);
    script.sessions.memory.wake();
    let mut other = Host::logged_in(&script, "iqn.other", "");
    let large = other.read(1024);
    other.exchange(&script).unwrap();
    let mut answered = ended(&mut other);
    for second in 1..=60 {
        let now = script.at(second);
        for host in gave_up.iter_mut().chain([&mut other]) {
            if core::mem::take(&mut host.socket.state.lock().wanted) > 0 {
                host.connection.on_writable(&script).unwrap();
            }
            let _alive = host.stays(&script, second);
            assert_eq!(host.connection.on_tick(now), Ok(()));
        }
        answered.extend(ended(&mut other));
    }
    let memory = &script.sessions.memory;
    assert_eq!(answered, [large], "{} MiB are taken, {} waits", memory.taken() >> 20, memory.waiting());
}

#[test]
fn a_host_whose_line_fails_now_and_then_is_not_taken_for_two_machines() {
    let script = script(true);
    let mut before: Option<Host> = None;
    for login in 0..5 {
        // The line was down for twenty seconds: nothing of the old connection came through, not even its end.
        let second = 1 + 30 * login;
        script.at(second);
        let mut host = Host::connect_from(&script, Some("192.0.2.21"));
        host.log_in(&script, "iqn.a", "");
        for healthy in second + 1..second + 10 {
            assert_eq!(host.stays(&script, healthy), Ok(()));
        }
        if let Some(mut replaced) = before.replace(host) {
            replaced.connection.closed(&script);
        }
        let contests = script.sessions.visits.contests(script.at(second + 10));
        let said: Vec<String> = contests.iter().map(ToString::to_string).collect();
        assert_eq!(said, Vec::<String>::new());
    }
}
