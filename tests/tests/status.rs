//! `twinlun status` of the built binary while hosts are logged in at both controllers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs::File;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use twinlun_tests::appliance::{Appliance, IQN, Lun, Processes, binary};
use twinlun_tests::initiator::Settings;
use twinlun_tests::initiator::tcp::Session;

const PATIENCE: Duration = Duration::from_secs(20);

/// Asks on one controller's machine until what it says is as wanted.
fn wait(appliance: &Appliance, machine: usize, wanted: impl Fn(&Value) -> bool) -> (String, Value) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (screen, json) = appliance.status_on(machine).unwrap();
        if wanted(&json) {
            return (screen, json);
        }
        assert!(Instant::now() < deadline, "it never became so:\n{screen}\n{json:#}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn who_is_logged_in_where_is_told_on_either_machine() {
    let lun = Lun { number: 0, mib: 16, main: 0, mirror: true };
    let appliance = Appliance::start("told", &[lun], Processes::Two).unwrap();
    let log_in = |controller: usize, name: &str| {
        let settings = Settings::linux(&format!("iqn.1993-08.org.debian:{name}"), IQN, 1);
        Session::connect(appliance.portals[controller], settings).unwrap()
    };
    let sessions = [log_in(0, "west"), log_in(1, "east")];
    for machine in 0..2 {
        let (own, other) = (machine, 1 - machine);
        let told = |json: &Value| json["controllers"][other]["said"]["hosts_count"] == 1;
        let (screen, json) = wait(&appliance, machine, told);
        let names = ["alpha", "beta"];
        let hosts = [&json["controllers"][0], &json["controllers"][1]]
            .map(|view| [&view["status"], &view["said"]].into_iter().find(|said| said.is_object()).unwrap())
            .map(|said| said["hosts"][0].clone());
        for (controller, name) in ["west", "east"].iter().enumerate() {
            assert_eq!(hosts[controller]["initiator"], format!("iqn.1993-08.org.debian:{name}"));
            assert_eq!(hosts[controller]["portal"], appliance.portals[controller].to_string());
        }
        assert_eq!(json["ok"], true);
        assert!(screen.contains(&format!("running, as {} heard", names[own])), "{screen}");
        assert!(
            screen.contains("debian:west  alpha  ") && screen.contains("debian:east  beta   "),
            "{screen}"
        );
        assert!(screen.lines().count() <= 24 && screen.ends_with("All is well.\n"), "{screen}");
    }
    drop(sessions);
    wait(&appliance, 0, |json| {
        let hosts = &json["controllers"][0]["status"]["hosts"];
        hosts.as_array().is_some_and(Vec::is_empty)
    });
    appliance.stop().unwrap();
}

#[test]
fn every_limit_is_told_with_its_use() {
    let lun = Lun { number: 0, mib: 16, main: 0, mirror: true };
    let appliance = Appliance::start("limits", &[lun], Processes::One).unwrap();
    let settings = Settings::linux("iqn.1993-08.org.debian:west", IQN, 1);
    let _session = Session::connect(appliance.portals[0], settings).unwrap();
    let (_, json) = wait(&appliance, 0, |json| {
        json["controllers"][0]["status"]["hosts"].as_array().is_some_and(|hosts| hosts.len() == 1)
    });
    let limits = json["controllers"][0]["status"]["limits"].as_array().unwrap();
    let find = |name: &str| limits.iter().find(|limit| limit["name"] == name).unwrap();
    assert_eq!(find("SESSIONS_MAX")["used"], 1);
    assert_eq!(find("CONNECTIONS_MAX")["peak"], 1);
    assert_eq!(find("LUNS_MAX")["used"], 1);
    for limit in limits {
        let (max, used) = (limit["max"].as_u64().unwrap(), limit["used"].as_u64());
        assert!(used.is_none_or(|used| used <= max), "{limit}");
        assert!(limit["unit"].as_str().is_some_and(|unit| !unit.is_empty()), "{limit}");
    }
    appliance.stop().unwrap();
}

#[test]
fn who_stops_reading_ends_nothing_and_a_full_disk_is_told() {
    let lun = Lun { number: 0, mib: 16, main: 0, mirror: true };
    let appliance = Appliance::start("unread", &[lun], Processes::Two).unwrap();
    let config = appliance.folder().join("appliance.toml");
    for arguments in [&["status"][..], &["status", "--json"], &["check"]] {
        let say = |to: Stdio| {
            let mut command = Command::new(binary().unwrap());
            let said = command.args(arguments).arg("--config").arg(&config).stdout(to).output().unwrap();
            assert!(said.status.success(), "{arguments:?}: {said:?}");
            String::from_utf8(said.stderr).unwrap()
        };
        let (unread, pipe) = std::io::pipe().unwrap();
        drop(unread);
        assert_eq!(say(pipe.into()), "");
        let full = File::options().write(true).open("/dev/full").unwrap();
        assert!(say(full.into()).starts_with("this cannot be written to standard output: "));
    }
    appliance.stop().unwrap();
}
