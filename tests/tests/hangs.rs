//! What hangs harms only what is on it: a disk that stops answering, and workers that do not get on, under the built
//! binary. Skipped, with the reason printed, where the one or the other cannot be made.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use twinlun_tests::appliance::{Appliance, IQN, Lun, Processes};
use twinlun_tests::initiator::tcp::Session;
use twinlun_tests::initiator::{Cdb, Request, Settings};

/// On healthy disks.
const HEALTHY: Lun = Lun { number: 0, mib: 16, main: 0, mirror: true };

/// On the disk that hangs, at alpha.
const HUNG: Lun = Lun { number: 1, mib: 16, main: 0, mirror: true };

/// Beta is its main.
const OTHERS: Lun = Lun { number: 2, mib: 16, main: 1, mirror: true };

/// Within this time everything that a hung disk does not concern is served.
const SERVED_WITHIN: Duration = Duration::from_secs(3);

const PATIENCE: Duration = Duration::from_secs(30);

fn skipped<T>(why: &str) -> Option<T> {
    eprintln!("skipped: {}", why.trim());
    None
}

fn run(command: &str, arguments: &[&str]) -> Result<(), String> {
    match Command::new(command).args(arguments).output() {
        Ok(ended) if ended.status.success() => Ok(()),
        Ok(ended) => Err(format!("{command}: {}", String::from_utf8_lossy(&ended.stderr))),
        Err(error) => Err(format!("{command}: {error}")),
    }
}

/// A file system of its own that can be made to hang.
struct FileSystem {
    image: PathBuf,
    place: PathBuf,
}

impl FileSystem {
    fn mounted(name: &str) -> Option<Self> {
        let base = std::env::temp_dir().join(format!("twinlun-{}-{name}", std::process::id()));
        let (image, place) = (base.with_extension("image"), base.with_extension("mounted"));
        fs::create_dir_all(&place).unwrap();
        fs::File::create(&image).unwrap().set_len(96 << 20).unwrap();
        let made = Self { image, place };
        let [image, place] = [&made.image, &made.place].map(|path| path.to_str().unwrap());
        let mounted =
            run("mkfs.ext4", &["-q", image]).and_then(|()| run("mount", &["-o", "loop", image, place]));
        match mounted {
            Ok(()) => Some(made),
            Err(why) => skipped(&format!("no file system can be mounted here: {why}")),
        }
    }

    fn freeze(&self) -> Option<Frozen<'_>> {
        match run("fsfreeze", &["--freeze", self.place.to_str().unwrap()]) {
            Ok(()) => Some(Frozen(&self.place)),
            Err(why) => skipped(&format!("no file system can be frozen here: {why}")),
        }
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        // It was perhaps never mounted.
        let _ = run("umount", &["--lazy", self.place.to_str().unwrap()]);
        let _ = fs::remove_dir(&self.place);
        let _ = fs::remove_file(&self.image);
    }
}

/// It answers nothing that writes, until this is dropped.
struct Frozen<'f>(&'f Path);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        run("fsfreeze", &["--unfreeze", self.0.to_str().unwrap()]).unwrap();
    }
}

fn host(appliance: &Appliance, controller: usize, number: usize, luns: &[Lun]) -> Session {
    let name = format!("iqn.1993-08.org.debian:host{number}");
    let mut session =
        Session::connect(appliance.portals[controller], Settings::linux(&name, IQN, 1)).unwrap();
    for lun in luns {
        // Takes the unit attention.
        session.execute(&request(lun, Cdb::test_unit_ready(), Vec::new(), 0)).unwrap();
    }
    session
}

fn request(lun: &Lun, cdb: Cdb, out: Vec<u8>, in_bytes: u32) -> Request {
    Request { lun: lun.number, cdb, out, in_bytes }
}

fn write(lun: &Lun, lba: u32, byte: u8) -> Request {
    request(lun, Cdb::write_10(lba, 8, false), vec![byte; 4096], 0)
}

/// Writes and reads through an idle session; true if both ended with GOOD.
fn serves(session: &mut Session, lun: &Lun, lba: u32) -> bool {
    let wrote = session.execute(&write(lun, lba, 0x5a)).unwrap();
    let read = session.execute(&request(lun, Cdb::read_10(lba, 8), Vec::new(), 4096)).unwrap();
    wrote.is_good() && read.is_good() && read.data[..] == [0x5a; 4096]
}

fn wait_for(what: &str, appliance: &Appliance, mut look: impl FnMut(&Value) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = appliance.status().unwrap_or(Value::Null);
        if look(&status) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {status:#}");
    }
}

#[test]
fn a_disk_that_hangs_harms_only_the_luns_on_it() {
    let Some(file_system) = FileSystem::mounted("hung-disk") else { return };
    let luns = [HEALTHY, HUNG];
    let stopped = Appliance::start("hung-disk", &luns, Processes::Two).unwrap().stop().unwrap();
    let moved = file_system.place.join("lun1.volume");
    let own = stopped.folder().join("state/alpha/lun1.volume");
    fs::copy(&own, &moved).unwrap();
    fs::remove_file(&own).unwrap();
    std::os::unix::fs::symlink(&moved, &own).unwrap();
    let appliance = stopped.start().unwrap();
    // More sessions than workers: each worker has some, each session uses both LUNs.
    let mut hosts: Vec<Session> = (0..6).map(|number| host(&appliance, 0, number, &luns)).collect();
    let mut elsewhere = host(&appliance, 1, 9, &luns);
    for (lba, host) in (0..).step_by(8).zip(&mut hosts) {
        assert!(serves(host, &HEALTHY, lba) && serves(host, &HUNG, lba));
    }
    let Some(frozen) = file_system.freeze() else { return };
    for (lba, host) in (0..).step_by(8).zip(&mut hosts) {
        host.submit(write(&HUNG, lba, 0x77)).unwrap();
    }
    let begun = Instant::now();
    let mut answered = vec![0; hosts.len()];
    for (at, host) in hosts.iter_mut().enumerate() {
        let healthy = host.submit(write(&HEALTHY, 512 + 8 * at as u32, 0x5b)).unwrap();
        loop {
            let (tag, response) = host.completion().unwrap();
            if tag == healthy {
                assert!(response.is_good(), "{response:?}");
                break;
            }
            answered[at] += 1;
        }
    }
    assert!(serves(&mut elsewhere, &HEALTHY, 2048), "through the other controller");
    let took = begun.elapsed();
    assert!(took < SERVED_WITHIN, "a LUN on a healthy disk waited {took:?} for another one's");
    // What is on it is answered too, and goes on from the copy of the other controller.
    for (host, answered) in hosts.iter_mut().zip(answered) {
        if answered == 0 {
            host.completion().unwrap();
        }
    }
    for host in hosts.iter_mut().chain([&mut elsewhere]) {
        while !serves(host, &HUNG, 4096) {
            assert!(begun.elapsed() < Duration::from_secs(10), "the LUN whose disk hangs is not served");
        }
        assert!(serves(host, &HEALTHY, 4104));
    }
    let problems = appliance.status().unwrap()["problems"].to_string();
    assert!(problems.contains("LUN 1") && !problems.contains("LUN 0"), "{problems}");
    drop(frozen);
    drop(appliance);
}

/// Keeps one thread of a process from getting on, as a page that never comes would.
struct Stopped(Child);

impl Stopped {
    fn thread(process: u32, name: &str) -> Option<Self> {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let thread = tasks
            .map(|task| task.unwrap().path())
            .find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name))
            .unwrap();
        let mut tracer = Command::new("strace");
        tracer.args(["-qq", "-e", "inject=all:delay_enter=100s", "-p"]).arg(thread.file_name().unwrap());
        match tracer.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn() {
            Ok(tracer) => Some(Self(tracer)),
            Err(error) => skipped(&format!("no thread can be stopped here: strace: {error}")),
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn stuck(status: &Value) -> bool {
    status["controllers"][0]["status"]["stuck"].is_object()
}

#[test]
fn a_controller_whose_worker_is_stuck_parts_from_its_peer_says_so_and_meets_it_again_when_it_gets_on() {
    let luns = [HEALTHY, OTHERS];
    let appliance = Appliance::start("stuck-worker", &luns, Processes::Two).unwrap();
    let mut elsewhere = host(&appliance, 1, 1, &luns);
    assert!(serves(&mut elsewhere, &OTHERS, 0));
    let begun = Instant::now();
    let Some(stopped) = Stopped::thread(appliance.processes()[0], "worker-0") else { return };
    // Beta is its main, alpha has a copy: whether beta's hosts hear of it decides the peer, not alpha's workers.
    while !serves(&mut elsewhere, &OTHERS, 8) {}
    wait_for("it does not say that it is stuck", &appliance, stuck);
    while !serves(&mut elsewhere, &OTHERS, 16) {
        assert!(begun.elapsed() < Duration::from_secs(10), "the peer goes on with one that does not get on");
    }
    let (screen, json) = appliance.status_on(0).unwrap();
    assert_eq!(json["ok"], false);
    assert!(screen.contains("alpha does not get on (worker-0 for"), "{screen}");
    drop(stopped);
    wait_for("they do not meet again", &appliance, |status| {
        (0..2).all(|controller| {
            let seen = &status["controllers"][controller]["status"];
            seen["stuck"].is_null() && (0..2).all(|lun| seen["luns"][lun]["status"] == "duplex")
        })
    });
    appliance.stop().unwrap();
}

#[test]
fn a_controller_that_stays_stuck_ends_with_its_sockets_shut() {
    let mut appliance = Appliance::start("stays-stuck", &[HEALTHY], Processes::Two).unwrap();
    let mut caught = host(&appliance, 0, 1, &[HEALTHY]);
    let Some(stopped) = Stopped::thread(appliance.processes()[0], "worker-1") else { return };
    // Though the thread that hangs keeps the process, and all that it has open, beyond its end.
    let silent = |error: &io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    let ended = loop {
        if let Err(error) = caught.event()
            && !silent(&error)
        {
            break error;
        }
    };
    assert!(appliance.logs().contains("does not get on"), "{}", appliance.logs());
    assert!(TcpStream::connect(appliance.portals[0]).is_err(), "its portal is shut too ({ended})");
    drop(stopped);
    let ended = appliance.wait_for_end(0, PATIENCE).unwrap();
    assert_eq!(ended.code(), Some(1), "{}", appliance.logs());
}
