//! Hosts that are slow, or take nothing at all, cost only themselves: real processes, large reads, little memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use twinlun_tests::appliance::{Appliance, IQN, Lun, Processes};
use twinlun_tests::initiator::pdu::{Digests, FINAL, Header, opcode};
use twinlun_tests::initiator::raw::Raw;
use twinlun_tests::initiator::tcp::Session;
use twinlun_tests::initiator::{Cdb, Request, Settings, cdb};

const MIB: u64 = 1 << 20;

/// How many blocks one large read has, and its bytes.
const LARGE: (u32, u32) = (8192, 4 << 20);

/// A command not admitted by this age is never executed: hosts that take longer to send its data are served.
const COMMAND_AGE_MAX: Duration = Duration::from_secs(4);

fn start(name: &str, luns: &[Lun], processes: Processes) -> Appliance {
    Appliance::start(name, luns, processes).unwrap_or_else(|error| panic!("{error}"))
}

/// A SCSI Command (RFC 7143 11.3): flags R 40h, W 20h; always F and SIMPLE.
fn command(flags: u8, number: u32, cdb: &[u8], expected: u32) -> Header {
    Header::new(opcode::SCSI_COMMAND, FINAL | flags | 1)
        .with_u32(16, number)
        .with_u32(20, expected)
        .with_u32(24, number)
        .with(32, cdb)
}

fn write_16(block: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = 0x8a;
    cdb[2..10].copy_from_slice(&block.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

fn log_in(portal: SocketAddr, name: &str) -> Raw {
    let keys = format!("InitiatorName=iqn.{name}|TargetName={IQN}|ImmediateData=No|MaxBurstLength=1048576|");
    let mut raw = Raw::log_in(portal, &keys, Digests::default()).unwrap();
    // The unit attention of a new nexus.
    raw.send(command(0x40, 1, &[0; 16], 0), &[]).unwrap();
    assert_eq!(raw.receive().unwrap().unwrap().header.opcode(), opcode::SCSI_RESPONSE);
    raw
}

/// Hosts that ask for large reads and take nothing of them.
fn take_nothing(portal: SocketAddr, hosts: usize) -> Vec<Raw> {
    let mut stuck = Vec::new();
    for host in 0..hosts {
        let mut raw = log_in(portal, &format!("stuck{host}"));
        for number in 2..22 {
            let mut cdb = write_16(0, LARGE.0);
            cdb[0] = 0x88;
            raw.send(command(0x40, number, &cdb, LARGE.1), &[]).unwrap();
        }
        stuck.push(raw);
    }
    stuck
}

fn large_reads(portal: SocketAddr, host: u16, depth: u64, all: u64) {
    let settings = Settings::linux(&format!("iqn.1993-08.org.debian:large{host}"), IQN, host);
    let mut session = Session::connect(portal, settings).unwrap();
    let read = |n: u64| {
        let cdb = Cdb::read_16((u64::from(host) + n) % 16 * u64::from(LARGE.0), LARGE.0);
        Request { lun: 0, cdb, out: Vec::new(), in_bytes: LARGE.1 }
    };
    let _unit_attention = session.execute(&read(0)).unwrap();
    for n in 0..depth {
        session.submit(read(n)).unwrap();
    }
    for n in depth..all + depth {
        let (_, response) = session.completion().unwrap();
        assert!(response.is_good() && response.data.len() == LARGE.1 as usize, "{response:?}");
        if n < all {
            session.submit(read(n)).unwrap();
        }
    }
    session.logout().unwrap();
}

/// Reads of many sizes, of which many wait for their hosts at once.
fn reads_of_many_sizes(portal: SocketAddr) {
    let session = |host: u16| {
        let settings = Settings::linux(&format!("iqn.1993-08.org.debian:sizes{host}"), IQN, host);
        Session::connect(portal, settings).unwrap()
    };
    let mut sessions: Vec<Session> = (0..8).map(session).collect();
    for bytes in (16..=20).map(|power| 1_u32 << power) {
        let read = Request { lun: 0, cdb: Cdb::read_16(0, bytes / 512), out: Vec::new(), in_bytes: bytes };
        let depth = (12 << 20) / bytes.max(128 << 10);
        for session in &mut sessions {
            session.execute(&read).unwrap();
            for _ in 0..depth {
                session.submit(read.clone()).unwrap();
            }
        }
        for session in &mut sessions {
            (0..depth).for_each(|_| assert!(session.completion().unwrap().1.is_good()));
        }
    }
    sessions.into_iter().for_each(|session| session.logout().unwrap());
}

/// Waits until the appliance has given back all but 32 MiB of what it holds more than `idle`, for at most ten seconds.
fn gives_back(appliance: &Appliance, idle: u64, after: &str) {
    let begun = Instant::now();
    let most = appliance.memory().unwrap();
    loop {
        let now = appliance.memory().unwrap();
        if now <= idle + 32 * MIB {
            return;
        }
        let (before, held) = (most.saturating_sub(idle) / MIB, now.saturating_sub(idle) / MIB);
        assert!(
            begun.elapsed() <= Duration::from_secs(10),
            "after {after}: {held} MiB more than idle, of {before}"
        );
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn large_reads_of_many_connections_are_served_beside_hosts_that_take_nothing() {
    let appliance =
        start("large-reads", &[Lun { number: 0, mib: 64, main: 0, mirror: false }], Processes::One);
    let portal = appliance.portals[0];
    let idle = appliance.memory().unwrap();
    let stuck = take_nothing(portal, 20);
    thread::scope(|scope| {
        for host in 0..24 {
            scope.spawn(move || large_reads(portal, host, 20, 20));
        }
    });
    let held = appliance.memory().unwrap().saturating_sub(idle) / MIB;
    assert!(held < 700, "{held} MiB");
    // One by one and with nothing else under way, too.
    large_reads(portal, 99, 1, 5);
    drop(stuck);
    gives_back(&appliance, idle, "large reads");
    let _stuck = take_nothing(portal, 20);
    appliance.stop().unwrap();
}

#[test]
fn memory_goes_back_after_bursts_that_nobody_finishes() {
    let appliance =
        start("unfinished", &[Lun { number: 0, mib: 64, main: 0, mirror: false }], Processes::One);
    let portal = appliance.portals[0];
    let idle = appliance.memory().unwrap();
    reads_of_many_sizes(portal);
    gives_back(&appliance, idle, "reads of many sizes");
    for round in 0..2 {
        let mut hosts = Vec::new();
        for host in 0..16 {
            let mut raw = log_in(portal, &format!("unfinished{host}"));
            for number in 2..34 {
                raw.send(command(0x20, number, &write_16(u64::from(number), 2048), 1 << 20), &[]).unwrap();
            }
            let mut asked = Vec::new();
            for _ in 0..8 {
                asked.push(raw.receive().unwrap().unwrap().header);
            }
            // Each is answered to its half, some of it in small pieces.
            for (r2t, bytes) in asked.iter().zip([8192, 512, 8192, 4096].into_iter().cycle()) {
                for at in (0..512 << 10).step_by(bytes).take(64) {
                    let data_out = Header::new(opcode::DATA_OUT, 0)
                        .with_u32(16, r2t.tag())
                        .with(20, &r2t.0[20..24])
                        .with_u32(36, (at / bytes) as u32)
                        .with_u32(40, at as u32);
                    raw.send(data_out, &vec![host; bytes]).unwrap();
                }
            }
            hosts.push(raw);
        }
        let begun = Instant::now();
        while appliance.memory().unwrap() < idle + 36 * MIB {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "it holds too little for this to show anything"
            );
            thread::sleep(Duration::from_millis(20));
        }
        drop(hosts);
        gives_back(&appliance, idle, &format!("unfinished bursts, round {round}"));
    }
    appliance.stop().unwrap();
}

/// Sends the data-out of a command later than a command may wait. Gives its status and what comes with it.
fn slowly(raw: &mut Raw, number: u32, cdb: &[u8], data: &[u8]) -> (u8, Vec<u8>) {
    raw.send(command(0x20, number, cdb, data.len() as u32), &[]).unwrap();
    let r2t = raw.receive().unwrap().unwrap().header;
    assert_eq!(r2t.opcode(), opcode::R2T);
    thread::sleep(COMMAND_AGE_MAX + Duration::from_millis(500));
    for (at, part) in (0..).zip(data.chunks(8192)) {
        let last = at == data.len().div_ceil(8192) - 1;
        let data_out = Header::new(opcode::DATA_OUT, if last { FINAL } else { 0 })
            .with_u32(16, number)
            .with(20, &r2t.0[20..24])
            .with_u32(36, at as u32)
            .with_u32(40, at as u32 * 8192);
        raw.send(data_out, part).unwrap();
    }
    let answer = raw.receive().unwrap().unwrap();
    assert_eq!(answer.header.opcode(), opcode::SCSI_RESPONSE);
    (answer.header.0[3], answer.data)
}

/// The NAA designator of a LUN (SPC-4 7.8.6).
fn naa(appliance: &Appliance, lun: u16) -> u64 {
    let settings = Settings::linux(&format!("iqn.1993-08.org.debian:naa{lun}"), IQN, 1);
    let mut session = Session::connect(appliance.portals[0], settings).unwrap();
    let inquiry = Request { lun, cdb: Cdb::inquiry(Some(0x83), 255), out: Vec::new(), in_bytes: 255 };
    let page = session.execute(&inquiry).unwrap().data;
    session.logout().unwrap();
    let mut designators = &page[4..];
    while designators[1] & 0x3f != 0x03 {
        designators = &designators[4 + usize::from(designators[3])..];
    }
    u64::from_be_bytes(*designators[4..].first_chunk().unwrap())
}

#[test]
fn hosts_that_are_slow_to_send_what_a_command_takes_are_served_through_either_controller() {
    let luns = [
        Lun { number: 0, mib: 16, main: 0, mirror: true },
        Lun { number: 1, mib: 16, main: 1, mirror: true },
    ];
    let appliance = start("slow-data", &luns, Processes::Two);
    let ends = [0, 1].map(|lun| cdb::copy_end(naa(&appliance, lun)));
    let portals = appliance.portals;
    thread::scope(|scope| {
        for (controller, portal) in (0..).zip(portals) {
            scope.spawn(move || {
                let mut raw = log_in(portal, &format!("writes{controller}"));
                let answer = slowly(&mut raw, 2, &write_16(64 * u64::from(controller), 64), &[7; 64 * 512]);
                assert_eq!(answer.0, 0, "WRITE of LUN 0 through controller {controller}: {answer:?}");
            });
            scope.spawn(move || {
                let mut raw = log_in(portal, &format!("copies{controller}"));
                let segments = [cdb::copy_segment((0, 1), 64, (0, 1000 + 100 * u64::from(controller)))];
                let list = cdb::copy_list(controller, &ends, &segments);
                let mut asked = [0; 16];
                asked[0] = 0x83;
                asked[10..14].copy_from_slice(&(list.len() as u32).to_be_bytes());
                let answer = slowly(&mut raw, 2, &asked, &list);
                assert_eq!(answer.0, 0, "EXTENDED COPY through controller {controller}: {answer:?}");
            });
        }
    });
    appliance.stop().unwrap();
}

#[test]
fn one_initiator_with_all_the_sessions_it_gets_keeps_nobody_out() {
    let appliance = start("greedy", &[Lun { number: 0, mib: 16, main: 0, mirror: false }], Processes::One);
    let connect = |name: &str, number: u16| {
        Session::connect(
            appliance.portals[0],
            Settings::linux(&format!("iqn.1993-08.org.debian:{name}"), IQN, number),
        )
    };
    let mut greedy = Vec::new();
    let refused = (0..2000).find_map(|number| match connect("greedy", number) {
        Ok(session) => {
            greedy.push(session);
            None
        }
        Err(error) => Some(error.to_string()),
    });
    let refused = refused.expect("it gets as many as it asks for");
    assert!(refused.contains("class: 3, detail: 2"), "out of resources: {refused}");
    assert!(greedy.len() <= 256, "{}", greedy.len());
    for number in 0..10 {
        connect(&format!("other{number}"), 1).unwrap().logout().unwrap();
    }
    assert!(appliance.logs().contains("debian:greedy"), "{}", appliance.logs());
    drop(greedy);
    appliance.stop().unwrap();
}
