//! `twinlun pair` against two running controllers with hosts that write: split, resync, swap, delete and create, each
//! through the command line, and what it says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use serde_json::Value;
use twinlun_tests::appliance::{Appliance, IQN, Lun, Processes};
use twinlun_tests::initiator::tcp::Session;
use twinlun_tests::initiator::{Cdb, Request, Settings};
use twinlun_tests::judge;

const LUNS: [Lun; 2] =
    [Lun { number: 0, mib: 16, main: 0, mirror: true }, Lun { number: 1, mib: 16, main: 1, mirror: true }];

/// Bytes of a block.
const BLOCK: usize = 512;

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

fn write(session: &mut Session, lun: u16, byte: u8) {
    let request = Request { lun, cdb: Cdb::write_16(0, 1, false), out: vec![byte; BLOCK], in_bytes: 0 };
    let response = session.execute(&request).unwrap();
    assert!(response.is_good(), "{response:?}");
}

fn read(session: &mut Session, lun: u16) -> u8 {
    let request = Request { lun, cdb: Cdb::read_16(0, 1), out: Vec::new(), in_bytes: BLOCK as u32 };
    let response = session.execute(&request).unwrap();
    assert!(response.is_good(), "{response:?}");
    response.data[0]
}

/// What a command about pairs printed as JSON, and whether it said that it was done.
fn pair(appliance: &Appliance, arguments: &[&str]) -> (bool, Value) {
    let output = appliance.twinlun(&[&["pair"], arguments, &["--json"]].concat()).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text} {errors}")))
}

/// The statuses of all pairs, as `pair list` has them.
fn statuses(appliance: &Appliance) -> Vec<(String, String, String)> {
    let (_, list) = pair(appliance, &["list"]);
    let text = |pair: &Value, key: &str| pair[key].as_str().unwrap_or_default().to_owned();
    let pairs = list["pairs"].as_array().unwrap();
    pairs.iter().map(|pair| (text(pair, "name"), text(pair, "status"), text(pair, "main"))).collect()
}

fn is(appliance: &Appliance, expected: [(&str, &str, &str); 2]) {
    let expected = expected.map(|(name, status, main)| (name.to_owned(), status.to_owned(), main.to_owned()));
    assert_eq!(statuses(appliance), expected);
}

#[test]
fn pairs_are_split_resynchronized_swapped_deleted_and_created_while_hosts_write() {
    let appliance = Appliance::start("pair", &LUNS, Processes::Two).unwrap();
    let [first, second] = ["lun0", "lun1"];
    let mut hosts = [0, 1].map(|controller| log_in(&appliance, controller));
    write(&mut hosts[1], 0, 1);
    is(&appliance, [(first, "duplex", "alpha"), (second, "duplex", "beta")]);

    let (done, split) = pair(&appliance, &["split", first]);
    assert!(done, "{split}");
    assert_eq!(
        (&split["pairs"][0]["answer"], &split["pairs"][0]["status"]),
        (&"done".into(), &"split".into())
    );
    write(&mut hosts[1], 0, 2);
    assert_eq!(read(&mut hosts[0], 0), 2, "both serve it");
    is(&appliance, [(first, "split", "alpha"), (second, "duplex", "beta")]);
    let (done, again) = pair(&appliance, &["split", first]);
    assert!(done && again["pairs"][0]["answer"] == "already", "{again}");

    // All or none.
    let (done, refused) = pair(&appliance, &["swap", first, second]);
    let answers: Vec<&Value> =
        refused["pairs"].as_array().unwrap().iter().map(|pair| &pair["answer"]).collect();
    assert_eq!((done, answers), (false, vec![&"refused".into(), &"untouched".into()]), "{refused}");
    assert!(refused["pairs"][0]["why"].as_str().unwrap().contains("pair resync"), "{refused}");

    let (done, resync) = pair(&appliance, &["resync", first]);
    assert!(done && resync["pairs"][0]["status"] == "duplex", "{resync}");
    let (done, swap) = pair(&appliance, &["swap", "--all"]);
    assert!(done, "{swap}");
    is(&appliance, [(first, "duplex", "beta"), (second, "duplex", "alpha")]);
    for (controller, host) in hosts.iter_mut().enumerate() {
        for lun in 0..2 {
            write(host, lun, 10 + controller as u8);
            assert_eq!(read(host, lun), 10 + controller as u8);
        }
    }
    let (done, deleted) = pair(&appliance, &["delete", second]);
    assert!(done && deleted["pairs"][0]["status"] == "simplex", "{deleted}");
    write(&mut hosts[1], 1, 20);
    assert_eq!(read(&mut hosts[0], 1), 20);
    let (done, created) = pair(&appliance, &["create", second]);
    assert!(done && created["pairs"][0]["status"] == "duplex", "{created}");
    drop(hosts);
    let stopped = appliance.stop().unwrap();
    for lun in &LUNS {
        let [a, b] = [0, 1].map(|controller| stopped.volume(controller, lun.number).unwrap());
        assert_eq!(judge::copies::first_difference(a, b, lun.mib << 20).unwrap(), None);
    }
}

#[test]
fn what_cannot_be_done_is_said_with_what_to_do() {
    let appliance = Appliance::start("pair-refused", &LUNS, Processes::Two).unwrap();
    let text = |arguments: &[&str]| {
        let output = appliance.twinlun(&[&["pair"], arguments].concat()).unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (output.status.code(), text.concat())
    };
    let (code, unknown) = text(&["split", "nothing"]);
    assert!(code == Some(1) && unknown.contains("lun0, lun1"), "{unknown}");
    let (code, none) = text(&["split"]);
    assert_eq!(code, Some(2), "{none}");
    let (code, created) = text(&["create", "lun0"]);
    assert_eq!((code, created.as_str()), (Some(0), "lun0: nothing to do, it is duplex.\n"));
    appliance.end(1).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let (code, apart) = text(&["split", "lun0"]);
        if code == Some(1) && apart.contains("not in touch") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{apart}");
    }
}
