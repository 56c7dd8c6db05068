//! libiscsi's conformance tests through main and through the sub. `tests/conformance/iscsi-test-cu` runs all of them,
//! by family too, and prints a table.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use twinlun_tests::appliance::{Appliance, Lun, Processes};
use twinlun_tests::conformance::{Skips, family, run, tests};

/// The LUN most tests run on; its physical blocks are of 4 KiB.
const LUN: Lun = Lun { number: 0, mib: 64, main: 0, mirror: true };

/// No host may write to it.
const READ_ONLY: Lun = Lun { number: 1, mib: 16, main: 0, mirror: true };

/// Its physical blocks are logical ones, which the tests of GET LBA STATUS take for granted.
const SMALL_BLOCKS: Lun = Lun { number: 2, mib: 64, main: 0, mirror: true };

/// Families that run in `processes.rs` (reservations, resets), need two paths, or test what is not served yet
/// (SANITIZE, EXTENDED COPY).
const NOT_HERE: [&str; 13] = [
    "iSCSITMF",
    "MultipathIO",
    "PrinReadKeys",
    "PrinReportCapabilities",
    "PrinServiceactionRange",
    "ProutClear",
    "ProutPreempt",
    "ProutRegister",
    "ProutReserve",
    "Reserve6",
    "Sanitize",
    "ExtendedCopy",
    "ReceiveCopyResults",
];

#[test]
fn every_conformance_test_of_what_is_served_passes_through_main_and_through_the_sub() {
    let keys = |number| match number {
        0 => "physical_block = \"4 KiB\"\n",
        1 => "read_only = true\n",
        _ => "",
    };
    let luns = [LUN, READ_ONLY, SMALL_BLOCKS];
    let appliance = Appliance::start_with_keys("iscsi-test-cu", &luns, Processes::One, keys);
    let appliance = appliance.unwrap_or_else(|error| panic!("{error}"));
    let skips = Skips::checked_in();
    let tests = tests().expect("iscsi-test-cu is there: tests/all installs it");
    let chosen = tests.iter().filter(|test| !NOT_HERE.contains(&family(test)));
    let mut ran = 0;
    let mut objections = Vec::new();
    for test in chosen {
        let lun = match family(test) {
            "ReadOnly" => READ_ONLY,
            "GetLBAStatus" => SMALL_BLOCKS,
            _ => LUN,
        };
        for controller in 0..2 {
            let ended = run(test, &[appliance.url(controller, lun.number)]).unwrap();
            ran += 1;
            if let Some(objection) = skips.objection(test, &ended) {
                objections.push(format!("controller {controller}: {objection}\n{}", ended.said));
            }
        }
    }
    assert!(ran > 300, "only {ran} tests ran");
    assert!(objections.is_empty(), "{}", objections.join("\n"));
    appliance.stop().unwrap_or_else(|error| panic!("{error}"));
}
