//! Old state that somebody puts back, state that was damaged, and that of the first release: the built binary over it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use twinlun_tests::appliance::{Appliance, IQN, Lun, Processes, Stopped};
use twinlun_tests::initiator::tcp::Session;
use twinlun_tests::initiator::{Cdb, Request, Settings};

const LUNS: [Lun; 2] =
    [Lun { number: 0, mib: 2, main: 0, mirror: true }, Lun { number: 1, mib: 2, main: 1, mirror: true }];

const PATIENCE: Duration = Duration::from_secs(30);

/// Each LUN's first 64 KiB are written with `byte`, through a controller.
fn write(appliance: &Appliance, controller: usize, byte: u8) {
    let name = format!("iqn.1993-08.org.debian:host{controller}");
    let settings = Settings::linux(&name, IQN, controller as u16);
    let mut session = Session::connect(appliance.portals[controller], settings).unwrap();
    for lun in LUNS {
        let request = Request {
            lun: lun.number,
            cdb: Cdb::write_10(0, 128, false),
            out: vec![byte; 65536],
            in_bytes: 0,
        };
        let written = session.execute(&request).unwrap();
        assert!(written.is_good(), "{written:?}");
    }
}

fn has(stopped: &Stopped, byte: u8) -> bool {
    let all = |controller: usize, lun: &Lun| {
        let mut start = vec![0; 65536];
        stopped.volume(controller, lun.number).unwrap().read_exact(&mut start).unwrap();
        start.iter().all(|found| *found == byte)
    };
    LUNS.iter().all(|lun| all(0, lun) && all(1, lun))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let copied = Command::new("cp").args(["-a", "--sparse=always"]).arg(from.join(".")).arg(to).status();
    assert!(copied.unwrap().success());
}

/// What alpha, or both, kept when 1 was written is put back after 2 was: what `which` says of a file's name.
fn put_back(name: &str, controllers: &[usize], which: impl Fn(&str) -> bool) -> Stopped {
    let appliance = Appliance::start(name, &LUNS, Processes::Two).unwrap();
    write(&appliance, 0, 1);
    let stopped = appliance.stop().unwrap();
    let kept = tempfile::tempdir().unwrap();
    for controller in controllers {
        copy(&stopped.state(*controller), &kept.path().join(controller.to_string()));
    }
    let appliance = stopped.start().unwrap();
    write(&appliance, 1, 2);
    let stopped = appliance.stop().unwrap();
    for controller in controllers {
        for entry in fs::read_dir(kept.path().join(controller.to_string())).unwrap() {
            let entry = entry.unwrap();
            if which(entry.file_name().to_str().unwrap()) {
                let place = stopped.state(*controller).join(entry.file_name());
                fs::copy(entry.path(), place).unwrap();
            }
        }
    }
    stopped
}

fn is_volume(name: &str) -> bool {
    name.ends_with(".volume")
}

fn is_control(name: &str) -> bool {
    name.starts_with("control.") && !name.ends_with("sock")
}

#[test]
fn a_folder_a_volume_or_both_put_back_are_refilled_with_what_was_written_since() {
    let all = |name: &str| is_volume(name) || is_control(name);
    type Picks<'a> = &'a dyn Fn(&str) -> bool;
    let kinds: [(&str, Picks<'_>); 4] = [
        ("volumes", &is_volume),
        ("one-volume", &|name| name == "lun0.volume"),
        ("records", &is_control),
        ("folder", &all),
    ];
    for (name, which) in kinds {
        for controller in 0..2 {
            let stopped = put_back(&format!("{name}{controller}"), &[controller], which);
            let stopped = stopped.start().unwrap().stop().unwrap();
            assert!(has(&stopped, 2), "{name} of {controller}");
        }
    }
}

#[test]
fn both_put_back_whole_are_served_as_they_were_and_without_their_folders_they_are_refused() {
    let stopped = put_back("both-whole", &[0, 1], |name| is_volume(name) || is_control(name));
    assert!(has(&stopped.start().unwrap().stop().unwrap(), 1));

    let stopped = put_back("both-volumes", &[0, 1], is_volume);
    let appliance = stopped.start_unserved().unwrap();
    for controller in 0..2 {
        let reason = reason_of(&appliance, controller, "older than what");
        assert!(reason.contains("not served"), "{reason}");
    }
    assert!(has(&appliance.stop().unwrap(), 1), "they were touched");
}

/// Waits for a reason of LUN 0 at a controller in which `part` is.
fn reason_of(appliance: &Appliance, controller: usize, part: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = appliance.status().unwrap_or(Value::Null);
        let lun = &status["controllers"][controller]["status"]["luns"][0];
        let reason = lun["reason"].as_str().unwrap_or_default();
        if reason.contains(part) {
            assert_eq!(lun["serving"], false);
            return reason.to_owned();
        }
        assert!(Instant::now() < deadline, "no reason has {part:?}: {status:#}\n{}", appliance.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn control_files(folder: &Path) -> [PathBuf; 2] {
    ["control.1", "control.2"].map(|name| folder.join(name))
}

#[test]
fn one_damaged_file_of_records_does_no_harm_and_two_are_refused_by_name_and_not_touched() {
    let appliance = Appliance::start("damaged", &LUNS, Processes::Two).unwrap();
    write(&appliance, 0, 1);
    let stopped = appliance.stop().unwrap();
    let [first, second] = control_files(&stopped.state(0));
    fs::write(&first, vec![0; 4096]).unwrap();
    let stopped = stopped.start().unwrap().stop().unwrap();
    let damage = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[100] ^= 1;
        fs::write(path, &bytes).unwrap();
        bytes
    };
    let damaged = [damage(&first), damage(&second)];
    let appliance = stopped.start_unserved().unwrap();
    let reason = reason_of(&appliance, 0, "it is damaged");
    assert!(reason.contains("alpha serves nothing") && reason.contains("Nothing was changed"), "{reason}");
    assert!(!appliance.logs().contains("panicked"));
    let stopped = appliance.stop().unwrap();
    assert_eq!([fs::read(first).unwrap(), fs::read(second).unwrap()], damaged);
    assert!(has(&stopped, 1));
}

#[test]
fn the_folder_of_the_other_controller_is_refused_by_name() {
    let appliance = Appliance::start("exchanged", &LUNS, Processes::Two).unwrap();
    let stopped = appliance.stop().unwrap();
    let alphas = control_files(&stopped.state(0));
    for (alpha, beta) in alphas.iter().zip(control_files(&stopped.state(1))) {
        fs::copy(alpha, beta).unwrap();
    }
    let appliance = stopped.start_unserved().unwrap();
    let reason = reason_of(&appliance, 1, "its state folder is that of alpha");
    assert!(reason.starts_with("beta serves nothing"), "{reason}");
}

/// What the first release left behind, after a clean end and after a kill -9: its LUNs are served, what was written is
/// there, and the reservation that persists holds.
#[test]
fn the_state_of_the_first_release_is_taken_over() {
    let luns = "[[lun]]\nnumber = 0\nname = \"data0\"\nsize = \"64 KiB\"\nmain = \"alpha\"\n\
                [[lun]]\nnumber = 1\nname = \"data1\"\nsize = \"64 KiB\"\nmain = \"beta\"\n";
    for end in ["clean", "killed"] {
        let unpack = |folder: &Path| {
            let archive = concat!(env!("CARGO_MANIFEST_DIR"), "/data/first_release.tar.gz");
            let unpacked = Command::new("tar").arg("xzf").arg(archive).arg("-C").arg(folder).status();
            assert!(unpacked.unwrap().success());
            fs::rename(folder.join(end), folder.join("state")).unwrap();
        };
        let appliance = Appliance::start_over(&format!("first-{end}"), &LUNS, luns, unpack).unwrap();
        let status = appliance.status().unwrap();
        assert!(status.to_string().contains("iqn.1993-08.org.debian:host1"), "{end}: {status:#}");
        let settings = Settings::linux("iqn.1993-08.org.debian:host2", IQN, 9);
        let mut session = Session::connect(appliance.portals[1], settings).unwrap();
        let read = Request { lun: 0, cdb: Cdb::read_10(8, 1), out: Vec::new(), in_bytes: 512 };
        let read = session.execute(&read).unwrap();
        assert!(read.is_good() && read.data.starts_with(b"written by the first release"), "{end}: {read:?}");
        let write = Request { lun: 0, cdb: Cdb::write_10(8, 1, false), out: vec![1; 512], in_bytes: 0 };
        let conflict = session.execute(&write).unwrap();
        assert!(!conflict.is_good(), "{end}: the reservation is gone");
        drop(session);
        let stopped = appliance.stop().unwrap();
        assert!(!stopped.state(0).join("control.redb").exists());
        stopped.start().unwrap();
    }
}
