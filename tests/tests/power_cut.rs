//! A host of the first controller that is up again after a power cut: it is told what the LUNs are, that they cannot be
//! used yet, and when they can.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::{Duration, Instant};

use twinlun_tests::appliance::{Appliance, IQN, Lun, Processes};
use twinlun_tests::initiator::tcp::Session;
use twinlun_tests::initiator::{Cdb, Request, Response, Settings};

/// Each controller is main for one.
const LUNS: [Lun; 2] =
    [Lun { number: 0, mib: 16, main: 0, mirror: true }, Lun { number: 1, mib: 24, main: 1, mirror: true }];

/// NOT READY, LOGICAL UNIT NOT ACCESSIBLE, TARGET PORT IN UNAVAILABLE STATE.
const UNAVAILABLE: (u8, u8, u8) = (0x02, 0x04, 0x0c);
/// UNIT ATTENTION, ASYMMETRIC ACCESS STATE CHANGED.
const ACCESS_CHANGED: (u8, u8, u8) = (0x06, 0x2a, 0x06);

const PATIENCE: Duration = Duration::from_secs(30);

/// What a host of an appliance knows of its LUNs without reading a block.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Known {
    luns: Vec<u8>,
    names: [Vec<u8>; 2],
    capacities: [Vec<u8>; 2],
    caching: [Vec<u8>; 2],
}

/// As soon as it is let in.
fn log_in(appliance: &Appliance, controller: usize) -> Session {
    let settings = || Settings::linux("iqn.1993-08.org.debian:early", IQN, 1);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Session::connect(appliance.portals[controller], settings()) {
            Ok(session) => return session,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::yield_now();
    }
}

/// Once: a unit attention is told, too.
fn once(session: &mut Session, lun: u16, cdb: Cdb, in_bytes: u32) -> Response {
    session.submit(Request { lun, cdb, out: Vec::new(), in_bytes }).unwrap();
    session.completion().unwrap().1
}

fn ask(session: &mut Session, lun: u16, cdb: Cdb, in_bytes: u32) -> Vec<u8> {
    let response = session.execute(&Request { lun, cdb, out: Vec::new(), in_bytes }).unwrap();
    assert!(response.is_good(), "LUN {lun}: {response:?}");
    response.data
}

fn known(session: &mut Session) -> Known {
    Known {
        luns: ask(session, 0, Cdb::report_luns(64), 64),
        names: [0, 1].map(|lun| ask(session, lun, Cdb::inquiry(Some(0x83), 255), 255)),
        capacities: [0, 1].map(|lun| ask(session, lun, Cdb::read_capacity_16(), 32)),
        caching: [0, 1].map(|lun| ask(session, lun, Cdb::mode_sense_6(0, 0x08, 255), 255)),
    }
}

#[test]
fn a_host_that_comes_before_the_two_have_met_needs_no_rescan() {
    for first in 0..2 {
        let appliance = Appliance::start(&format!("power{first}"), &LUNS, Processes::Two).unwrap();
        let before = known(&mut log_in(&appliance, first));
        assert_eq!(before.capacities[1][..8], (24_u64 * 2048 - 1).to_be_bytes());

        let mut appliance = appliance.crash_and_start_one(first).unwrap();
        let mut session = log_in(&appliance, first);
        assert_eq!(known(&mut session), before, "the disks are there with their sizes and names");
        for lun in 0..2 {
            let ready = once(&mut session, lun, Cdb::test_unit_ready(), 0);
            assert_eq!(ready.code(), UNAVAILABLE, "LUN {lun}");
        }

        appliance.start_other(1 - first).unwrap();
        for lun in 0..2 {
            let heard = once(&mut session, lun, Cdb::test_unit_ready(), 0);
            assert_eq!(heard.code(), ACCESS_CHANGED, "LUN {lun}: its hosts hear that it is served");
            ask(&mut session, lun, Cdb::test_unit_ready(), 0);
            ask(&mut session, lun, Cdb::read_10(0, 1), 512);
        }
        assert_eq!(known(&mut session), before);
        session.logout().unwrap();
        appliance.stop().unwrap();
    }
}
