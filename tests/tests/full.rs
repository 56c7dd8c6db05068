//! Full file systems, and the limits of a process, under the built binary: an error like any other, told truthfully,
//! and over as soon as there is room. Each controller's state folder is a small file system of its own; skipped where
//! none can be mounted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::cell::RefCell;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use twinlun_tests::appliance::{Appliance, IQN, Lun, Processes};
use twinlun_tests::initiator::tcp::Session;
use twinlun_tests::initiator::{Cdb, Request, Response, Settings, cdb};
use twinlun_tests::small::Small;

const MIB: u64 = 1 << 20;

/// Each controller is main of one.
const LUNS: [Lun; 2] =
    [Lun { number: 0, mib: 32, main: 0, mirror: true }, Lun { number: 1, mib: 32, main: 1, mirror: true }];

/// For a state that should come in a moment, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// DATA PROTECT, SPACE ALLOCATION FAILED WRITE PROTECT.
const NO_ROOM: (u8, u8, u8) = (7, 0x27, 7);

/// A command that waits longer than this is never executed.
const COMMAND_AGE: Duration = Duration::from_secs(4);

/// An appliance whose controllers' folders are file systems of 48 MiB, too small for all of their volumes. The first
/// 2048 blocks of every LUN have their place.
fn start(name: &str) -> Option<(Appliance, [Small; 2])> {
    let mounted = RefCell::new(Vec::new());
    let appliance = Appliance::start_prepared(name, &LUNS, |folder| {
        for name in ["alpha", "beta"] {
            mounted.borrow_mut().extend(Small::mount(&folder.join("state").join(name), 48 * MIB));
        }
        Ok(())
    });
    let small: [Small; 2] = mounted.into_inner().try_into().ok()?;
    let appliance = appliance.unwrap();
    for lun in 0..2 {
        let mut host = Host::log_in(&appliance, 0, lun);
        assert!(host.write(0, 2048, 5).is_good());
    }
    Some((appliance, small))
}

/// A session that uses one LUN.
struct Host {
    session: Session,
    lun: u16,
}

impl Host {
    fn log_in(appliance: &Appliance, controller: usize, lun: u16) -> Self {
        let name = format!("iqn.1993-08.org.debian:host{controller}{lun}");
        let settings = Settings::linux(&name, IQN, 1 + controller as u16);
        let session = Session::connect(appliance.portals[controller], settings).unwrap();
        let mut host = Self { session, lun };
        while host.ask(Cdb::test_unit_ready(), Vec::new(), 0).code().0 == 6 {}
        host
    }

    fn ask(&mut self, cdb: Cdb, out: Vec<u8>, in_bytes: u32) -> Response {
        self.session.execute(&Request { lun: self.lun, cdb, out, in_bytes }).unwrap()
    }

    fn write(&mut self, lba: u64, blocks: u32, byte: u8) -> Response {
        self.ask(Cdb::write_16(lba, blocks, false), vec![byte; blocks as usize * 512], 0)
    }

    fn reads(&mut self, lba: u64, blocks: u32, byte: u8) -> bool {
        let read = self.ask(Cdb::read_16(lba, blocks), Vec::new(), blocks * 512);
        read.is_good() && read.data == vec![byte; blocks as usize * 512]
    }

    /// Writes again, as a host does, while the pair is being decided on and while it is told that something changed.
    fn write_decided(&mut self, lba: u64, blocks: u32, byte: u8) -> Response {
        let begun = Instant::now();
        loop {
            let response = self.write(lba, blocks, byte);
            let undecided = response.status == 8 || matches!(response.code().0, 6 | 0xb);
            if !undecided || begun.elapsed() > PATIENCE {
                return response;
            }
        }
    }

    /// REGISTER with APTPL of a key.
    fn register(&mut self, key: u8) -> Response {
        let mut list = vec![0; 24];
        list[15] = key;
        list[20] = 1;
        let mut bytes = [0; 16];
        bytes[..9].copy_from_slice(&[0x5f, 6, 0, 0, 0, 0, 0, 0, 24]);
        self.ask(Cdb(bytes), list, 0)
    }

    /// MODE SELECT of the caching page, saved.
    fn save_write_cache(&mut self, on: bool) -> Response {
        let page = self.ask(Cdb::mode_sense_6(0, 8, 255), Vec::new(), 255);
        let mut list = page.data;
        (list[0], list[2]) = (0, 0);
        list[4 + 2] = if on { list[4 + 2] | 4 } else { list[4 + 2] & !4 };
        let length = list.len() as u8;
        self.ask(Cdb::mode_select_6(true, length), list, 0)
    }
}

fn wait_for(appliance: &Appliance, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let status = appliance.status().unwrap_or(Value::Null);
        if is(&status) {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: {status:#}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn lun(status: &Value, controller: usize, lun: usize) -> &Value {
    &status["controllers"][controller]["status"]["luns"][lun]
}

fn problems(status: &Value) -> String {
    let problems = status["problems"].as_array().into_iter().flatten();
    problems.filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

/// The two are in touch and every LUN is served by both.
fn is_together(status: &Value) -> bool {
    (0..2).all(|controller| {
        status["controllers"][controller]["status"]["interlink"]["up"] == true
            && (0..2).all(|at| lun(status, controller, at)["serving"] == true)
    })
}

fn is_duplex(status: &Value) -> bool {
    let both = |at: usize| (0..2).all(|controller| lun(status, controller, at)["status"] == "duplex");
    is_together(status) && status["ok"] == true && both(0) && both(1)
}

/// The runs of both that met: another one means that they lost each other, or that one was started again.
fn generation(status: &Value) -> Vec<Value> {
    let of = |at: usize| status["controllers"][at]["status"]["incarnation"].clone();
    vec![of(0), of(1)]
}

#[test]
fn a_neighbour_that_fills_both_file_systems_costs_only_what_needs_room_and_room_is_noticed() {
    let Some((appliance, small)) = start("full-both") else { return };
    let before = wait_for(&appliance, "duplex", is_duplex);
    assert!(before["warnings"].to_string().contains("may still grow by"), "{before:#}");
    small.iter().for_each(|small| small.fill().unwrap());
    let mut hosts = [0, 1].map(|controller| Host::log_in(&appliance, controller, 0));
    let mut others = [0, 1].map(|controller| Host::log_in(&appliance, controller, 1));
    // What has its place: every kind of command, through both.
    for (at, host) in hosts.iter_mut().chain(&mut others).enumerate() {
        let lba = 64 * at as u64;
        assert!(host.write(lba, 16, 6).is_good());
        let both = [vec![6; 512], vec![7; 512]].concat();
        let swapped = host.ask(Cdb::compare_and_write(lba, 1), both, 0);
        assert!(swapped.is_good(), "{swapped:?}");
        assert!(host.reads(lba, 1, 7));
        let registered = host.register(at as u8 + 1);
        assert!(registered.is_good(), "{registered:?}");
        let saved = host.save_write_cache(at % 2 == 1);
        assert!(saved.is_good(), "{saved:?}");
    }
    let status = appliance.status().unwrap();
    assert!(is_duplex(&status), "{status:#}");
    // What has none.
    for (controller, host) in hosts.iter_mut().enumerate() {
        let lba = 20_000 + 5000 * controller as u64;
        assert_eq!(host.write_decided(lba, 64, 9).code(), NO_ROOM, "through {controller}");
        assert!(host.reads(1024, 8, 5), "reads go on through {controller}");
        assert!(host.write_decided(1024, 8, 5).is_good(), "and so do writes of what has its place");
    }
    let status = wait_for(&appliance, "told", |status| problems(status).contains("is full"));
    assert!(is_together(&status), "{status:#}");
    let told = problems(&status);
    assert!(told.contains("full-both/state/") && told.contains("are missing"), "{told}");
    let systems = &status["controllers"][0]["status"]["file_systems"];
    assert!(systems[0]["missing_bytes"].as_u64().unwrap() > 8 * MIB, "{systems:#}");
    // The other LUN needed nothing.
    assert!((0..2).all(|controller| lun(&status, controller, 1)["status"] == "duplex"), "{status:#}");
    small.iter().for_each(|small| small.free().unwrap());
    for (controller, host) in hosts.iter_mut().enumerate() {
        assert!(host.write_decided(20_000 + 5000 * controller as u64, 64, 9).is_good(), "{controller}");
    }
    let status = wait_for(&appliance, "duplex by itself", is_duplex);
    assert_eq!(generation(&status), generation(&before));
    let stopped = appliance.stop().unwrap();
    same(&stopped);
}

fn same(stopped: &twinlun_tests::appliance::Stopped) {
    for Lun { number, mib, .. } in LUNS {
        let [a, b] = [0, 1].map(|controller| stopped.volume(controller, number).unwrap());
        assert_eq!(twinlun_tests::judge::copies::first_difference(a, b, mib * MIB).unwrap(), None);
    }
}

#[test]
fn with_one_full_file_system_the_other_copy_serves_and_state_changes_are_answered_in_time() {
    for full in 0..2 {
        let Some((appliance, small)) = start(&format!("full-one{full}")) else { return };
        let before = wait_for(&appliance, "duplex", is_duplex);
        small[full].fill().unwrap();
        let mut hosts = [0, 1].map(|controller| Host::log_in(&appliance, controller, 0));
        for (controller, host) in hosts.iter_mut().enumerate() {
            let written = host.write_decided(20_000 + 5000 * controller as u64, 64, 9);
            assert!(written.is_good(), "full {full}, through {controller}: {written:?}");
        }
        for (controller, host) in hosts.iter_mut().enumerate() {
            while host.ask(Cdb::test_unit_ready(), Vec::new(), 0).code().0 == 6 {}
            let begun = Instant::now();
            let registered = host.register(controller as u8 + 1);
            assert!(registered.is_good(), "{registered:?}");
            assert!(begun.elapsed() < COMMAND_AGE, "{:?}", begun.elapsed());
            assert!(host.write(1024, 8, 5).is_good(), "I/O goes on");
        }
        let status = wait_for(&appliance, "told", |status| problems(status).contains("is full"));
        assert!(is_together(&status), "{status:#}");
        let name = ["alpha", "beta"][full];
        assert!(
            problems(&status).contains(&format!("On {name} the file system at")),
            "{}",
            problems(&status)
        );
        assert!((0..2).all(|controller| lun(&status, controller, 1)["status"] == "duplex"), "{status:#}");
        // The other machine knows it too.
        let (screen, _) = appliance.status_on(1 - full).unwrap();
        assert!(screen.contains("is full"), "{screen}");
        small[full].free().unwrap();
        let status = wait_for(&appliance, "duplex by itself", is_duplex);
        assert_eq!(generation(&status), generation(&before));
        same(&appliance.stop().unwrap());
    }
}

#[test]
fn a_main_that_is_full_and_has_lost_its_peer_says_both_and_is_refilled_to_a_pair_when_that_is_mended() {
    let Some((mut appliance, small)) = start("full-alone") else { return };
    small.iter().for_each(|small| small.fill().unwrap());
    let mut host = Host::log_in(&appliance, 0, 0);
    appliance.kill(1).unwrap();
    assert_eq!(host.write_decided(20_000, 64, 9).code(), NO_ROOM);
    assert!(host.reads(1024, 8, 5));
    let status =
        wait_for(&appliance, "told", |status| problems(status).contains("On alpha the file system at"));
    assert!(problems(&status).contains("beta"), "{}", problems(&status));
    appliance.start_again(1).unwrap();
    wait_for(&appliance, "the two meet", is_together);
    small.iter().for_each(|small| small.free().unwrap());
    assert!(host.write_decided(20_000, 64, 9).is_good());
    wait_for(&appliance, "duplex", is_duplex);
    same(&appliance.stop().unwrap());
}

#[test]
fn a_sanitize_that_finds_no_room_fails_and_can_be_done_when_there_is_some() {
    let Some((appliance, small)) = start("full-sanitize") else { return };
    small.iter().for_each(|small| small.fill().unwrap());
    let mut host = Host::log_in(&appliance, 0, 0);
    let list = cdb::overwrite_list(&[0x5a]);
    let sanitize = |host: &mut Host| {
        let begun = Instant::now();
        loop {
            let ended = host.ask(Cdb::sanitize_overwrite(list.len() as u16, false), list.clone(), 0);
            // While the pair is being decided on its end is not known; then it is under way, or was asked for again.
            let undecided = ended.status == 8 || matches!(ended.code(), (6 | 0xb, ..) | (2, 4, 0x1b));
            if !undecided || begun.elapsed() > PATIENCE {
                return ended;
            }
        }
    };
    let failed = sanitize(&mut host);
    assert_eq!(failed.code(), (3, 0x31, 3), "SANITIZE COMMAND FAILED: {failed:?}");
    let status = appliance.status().unwrap();
    assert!(problems(&status).contains("is full"), "{status:#}");
    small.iter().for_each(|small| small.free().unwrap());
    let done = sanitize(&mut host);
    assert!(done.is_good(), "{done:?}");
    assert!(host.reads(20_000, 8, 0x5a));
    wait_for(&appliance, "duplex", is_duplex);
    same(&appliance.stop().unwrap());
}

#[test]
fn a_file_size_limit_takes_one_copy_out_and_ends_no_process() {
    let appliance = Appliance::start("size-limit", &LUNS, Processes::Two).unwrap();
    let process = appliance.processes()[0];
    let limit = Rlimit { current: Some(16 * MIB), maximum: Some(16 * MIB) };
    let pid = Pid::from_raw(i32::try_from(process).unwrap());
    prlimit(pid, Resource::Fsize, limit).unwrap();
    let mut hosts = [0, 1].map(|controller| Host::log_in(&appliance, controller, 0));
    for (controller, host) in hosts.iter_mut().enumerate() {
        let written = host.write_decided(40_000 + 5000 * controller as u64, 64, 9);
        assert!(written.is_good(), "through {controller}: {written:?}");
    }
    let status = wait_for(&appliance, "told", |status| problems(status).contains("file size limit"));
    assert!(is_together(&status), "{status:#}");
    assert_eq!(lun(&status, 0, 1)["status"], "duplex", "{status:#}");
    assert_eq!(appliance.processes()[0], process);
    appliance.stop().unwrap();
}

#[test]
fn hosts_that_use_up_the_file_descriptors_leave_those_of_status_and_disks() {
    let appliance = Appliance::start_with_files("descriptors", &LUNS, 200).unwrap();
    let mut host = Host::log_in(&appliance, 0, 0);
    let mut open = Vec::new();
    for _ in 0..400 {
        open.extend(std::net::TcpStream::connect(appliance.portals[0]));
    }
    let status = wait_for(&appliance, "told", |status| problems(status).contains("LimitNOFILE"));
    assert!(is_together(&status), "{status:#}");
    assert_eq!(status["ok"], false);
    assert!(host.write(0, 8, 3).is_good(), "who is there goes on");
    assert!(host.reads(0, 8, 3));
    drop(open);
    let begun = Instant::now();
    let name = "iqn.1993-08.org.debian:later";
    while Session::connect(appliance.portals[0], Settings::linux(name, IQN, 7)).is_err() {
        assert!(begun.elapsed() < PATIENCE, "nobody is let in any more");
        thread::sleep(Duration::from_millis(20));
    }
    appliance.stop().unwrap();
}
