//! Many at once, slow ones and fast ones: they keep nobody waiting, and memory is bounded.

use twinlun_tests::appliance::{Appliance, IQN, Lun, Processes};
use twinlun_tests::initiator::pdu::{Digests, FINAL, Header, IMMEDIATE, RESERVED_TAG, opcode};
use twinlun_tests::initiator::raw::Raw;
use twinlun_tests::initiator::tcp::Session;
use twinlun_tests::initiator::{Cdb, Request, Settings};

use crate::{Beside, Expected, KEYS, cdb, command, judge, log_in, write_10};

#[test]
fn a_host_that_sends_a_byte_at_a_time_is_served_and_disturbs_nobody() {
    let mut beside = Beside::start("abuse-drip");
    let keys = format!("{KEYS}ImmediateData=Yes|").replace('|', "\0");
    let login = Header::new(opcode::LOGIN_REQUEST | IMMEDIATE, 0x87).with(8, &[0x80, 0, 0, 1, 2, 3]);
    let drip = |raw: &mut Raw, beside: &mut Beside, header: Header, data: &[u8]| {
        let mut bytes = Vec::new();
        twinlun_tests::initiator::pdu::encode(&mut bytes, header, data, Digests::default());
        for (at, byte) in bytes.iter().enumerate() {
            raw.send_bytes(&[*byte]).unwrap();
            // The target sees each part alone: whatever it does for it is done when the other host has its answer.
            if at < 64 || at % 16 == 0 {
                beside.is_undisturbed("a byte of many");
            }
        }
    };
    let mut raw = Raw::connect(beside.portal()).unwrap();
    drip(&mut raw, &mut beside, login.with_u32(24, 1), keys.as_bytes());
    let answer = raw.receive().unwrap().unwrap();
    assert_eq!((answer.header.opcode(), answer.header.0[36]), (opcode::LOGIN_RESPONSE, 0));
    drip(&mut raw, &mut beside, command(0x40, 900, 1, &[0; 16], 0), &[]);
    raw.receive().unwrap().unwrap();
    drip(&mut raw, &mut beside, command(0x20, 1, 2, &write_10(1), 512), &[9; 512]);
    judge(&mut raw, Expected::Good(0), "a write, a byte at a time");
    let read_10 = cdb(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1]);
    raw.send(command(0x40, 1, 3, &read_10, 512), &[]).unwrap();
    assert_eq!(raw.receive().unwrap().unwrap().data, [9; 512]);
    beside.end();
}

#[test]
fn floods_of_half_open_logins_and_slow_hosts_keep_nobody_out_and_memory_is_bounded() {
    let mut beside = Beside::start("abuse-floods");
    let before = beside.appliance.memory().unwrap();
    let mut flood = Vec::new();
    for n in 0..600_usize {
        let mut raw = Raw::connect(beside.portal()).unwrap();
        // Some say nothing, some a part of a header, some a part of a long login.
        let login = Header::new(opcode::LOGIN_REQUEST | IMMEDIATE, 0x40 | 1 << 2).with(5, &[0, 0x20, 0]);
        let _closed_already = raw.send_bytes(&login.0[..[0, 13, 48][n % 3]]);
        flood.push(raw);
        if n % 100 == 99 {
            beside.is_undisturbed("half-open logins");
            drop(log_in(beside.portal(), ""));
        }
    }
    // Hosts that ask to write and never send: each gets R2Ts for its own share, and more from what all share.
    let mut hoarders = Vec::new();
    for n in 0..16_u8 {
        let keys = format!("InitiatorName=iqn.hoarder{n}|TargetName={IQN}|");
        let mut raw = Raw::log_in(beside.portal(), &keys, Digests::default()).unwrap();
        for number in 1..=100 {
            let write = cdb(&[0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0]);
            raw.send(command(0x20, number, number, &write, 0x4000 * 512), &[]).unwrap();
        }
        hoarders.push(raw);
        beside.is_undisturbed("R2Ts that are not answered");
    }
    let each = beside.appliance.memory().unwrap().saturating_sub(before) / 616;
    assert!(each < 256 * 1024, "{each} bytes for each that does not pay");
    drop((flood, hoarders));
    beside.is_undisturbed("floods");
    beside.end();
}

#[test]
fn idle_sessions_cost_less_than_64_kib_each() {
    const SESSIONS: u16 = 300;
    let mut beside = Beside::start("abuse-idle");
    let log_in = |number: u16| {
        let settings = Settings::linux(&format!("iqn.1993-08.org.debian:idle{number}"), IQN, number);
        let mut session = Session::connect(beside.appliance.portals[0], settings).unwrap();
        let read = Request { lun: 0, cdb: Cdb::read_16(0, 8), out: Vec::new(), in_bytes: 4096 };
        assert!(session.execute(&read).unwrap().is_good());
        session
    };
    let first = log_in(1000);
    let before = beside.appliance.memory().unwrap();
    let sessions = (0..SESSIONS).map(log_in).collect::<Vec<_>>();
    let each = beside.appliance.memory().unwrap().saturating_sub(before) / u64::from(SESSIONS);
    assert!(each < 64 * 1024, "{each} bytes each");
    beside.is_undisturbed("many sessions");
    drop((first, sessions));
    beside.end();
}

/// NOP-Outs that answer pings nobody sent: nothing is to be done for them but to read them.
#[test]
fn hosts_that_send_as_fast_as_they_can_keep_no_other_host_and_not_the_peer_waiting() {
    use std::sync::Arc;
    use std::thread;
    use std::time::{Duration, Instant};

    let lun = Lun { number: 0, mib: 16, main: 0, mirror: true };
    let appliance = Appliance::start("fast-hosts", &[lun], Processes::Two).unwrap();
    let settings = Settings::linux("iqn.1993-08.org.debian:beside", IQN, 1);
    let mut session = Session::connect(appliance.portals[0], settings).unwrap();
    let read = Request { lun: 0, cdb: Cdb::read_16(64, 8), out: Vec::new(), in_bytes: 4096 };
    let _unit_attention = session.execute(&read).unwrap();
    let nop = Header::new(opcode::NOP_OUT | IMMEDIATE, FINAL)
        .with_u32(16, RESERVED_TAG)
        .with_u32(20, RESERVED_TAG)
        .with_u32(24, 1);
    let nops: Arc<[u8]> = nop.0.repeat(20_000).into();
    let log_in = |host: usize| {
        let keys = format!("InitiatorName=iqn.fast{host}|TargetName={IQN}|");
        Raw::log_in(appliance.portals[0], &keys, Digests::default()).unwrap()
    };
    for mut raw in (0..40).map(log_in).collect::<Vec<_>>() {
        let nops = Arc::clone(&nops);
        // Until the appliance is gone: nobody waits for it.
        thread::spawn(move || while raw.send_bytes(&nops).is_ok() {});
    }
    let (begun, mut worst) = (Instant::now(), Duration::ZERO);
    while begun.elapsed() < Duration::from_secs(15) {
        let asked = Instant::now();
        let answered = session.execute(&read).is_ok_and(|response| response.is_good());
        worst = worst.max(asked.elapsed());
        assert!(answered && worst < Duration::from_secs(1), "a read of 4 KiB took {worst:?}");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(!appliance.logs().contains("does not get on"), "{}", appliance.logs());
}
