//! A controller that is ended by a signal hands over what it is main of: hosts of the other see no error, and the other
//! is main until the first is back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::{Duration, Instant};

use twinlun_tests::appliance::{Appliance, IQN, Lun, Processes};
use twinlun_tests::initiator::tcp::Session;
use twinlun_tests::initiator::{Cdb, Request, Settings};
use twinlun_tests::judge;

/// One of which each controller is main.
const LUNS: [Lun; 2] =
    [Lun { number: 0, mib: 16, main: 0, mirror: true }, Lun { number: 1, mib: 16, main: 1, mirror: true }];

const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of a block.
const BLOCK: usize = 512;

/// The answer to a write of one block, filled with `byte`.
fn write(session: &mut Session, lun: u16, lba: u64, byte: u8) -> bool {
    let request = Request { lun, cdb: Cdb::write_16(lba, 1, false), out: vec![byte; BLOCK], in_bytes: 0 };
    session.execute(&request).unwrap().is_good()
}

fn read(session: &mut Session, lun: u16, lba: u64) -> Vec<u8> {
    let request = Request { lun, cdb: Cdb::read_16(lba, 1), out: Vec::new(), in_bytes: BLOCK as u32 };
    let response = session.execute(&request).unwrap();
    assert!(response.is_good(), "{response:?}");
    response.data
}

fn log_in(appliance: &Appliance, controller: usize) -> Session {
    let settings = Settings::linux("iqn.1993-08.org.debian:host", IQN, controller as u16);
    let mut session = Session::connect(appliance.portals[controller], settings).unwrap();
    for lun in &LUNS {
        // Takes the unit attention of a new session.
        let cdb = Cdb::test_unit_ready();
        session.execute(&Request { lun: lun.number, cdb, out: Vec::new(), in_bytes: 0 }).unwrap();
    }
    session
}

/// Whether `status` says that a controller serves all LUNs, as their main.
fn is_main_of_all(appliance: &Appliance, controller: usize) -> bool {
    let status = appliance.status().unwrap();
    let luns = status["controllers"][controller]["status"]["luns"].as_array().expect("LUNs");
    luns.iter().all(|lun| lun["role"] == "main" && lun["serving"] == true)
}

#[test]
fn hosts_of_the_one_that_stays_are_served_through_the_end_of_the_other_and_its_return() {
    let mut appliance = Appliance::start("hand-over", &LUNS, Processes::Two).unwrap();
    let mut session = log_in(&appliance, 1);
    let (mut byte, mut stopped) = (0_u8, false);
    let begun = Instant::now();
    // Writes until alpha has ended and beta is main of everything.
    loop {
        byte = byte.wrapping_add(1);
        for lun in &LUNS {
            let lba = u64::from(byte) * 8;
            assert!(write(&mut session, lun.number, lba, byte), "LUN {}, write {byte}", lun.number);
            assert_eq!(read(&mut session, lun.number, lba), [byte; BLOCK]);
        }
        if byte == 20 {
            appliance.end(0).unwrap();
        }
        if byte > 20 && !stopped {
            stopped = appliance.wait_for_end(0, Duration::ZERO).is_ok_and(|status| status.success());
        }
        if stopped && is_main_of_all(&appliance, 1) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "alpha does not end: {}", appliance.logs());
    }
    appliance.come_back(0).unwrap();
    for lun in &LUNS {
        assert!(write(&mut session, lun.number, 4, 0xee), "LUN {}", lun.number);
    }
    drop(session);
    let mut other = log_in(&appliance, 0);
    for lun in &LUNS {
        assert_eq!(read(&mut other, lun.number, 4), [0xee; BLOCK]);
    }
    drop(other);
    let stopped = appliance.stop().unwrap();
    for lun in &LUNS {
        let [a, b] = [0, 1].map(|controller| stopped.volume(controller, lun.number).unwrap());
        assert_eq!(judge::copies::first_difference(a, b, lun.mib << 20).unwrap(), None);
    }
}
