//! Block devices as volumes: loop devices under the built binary. Skipped where there are none to be had.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use serde_json::Value;
use twinlun_tests::appliance::{Appliance, IQN, Lun, Processes};
use twinlun_tests::initiator::tcp::Session;
use twinlun_tests::initiator::{Cdb, Request, Settings, cdb};
use twinlun_tests::judge;

const LUN: Lun = Lun { number: 0, mib: 16, main: 0, mirror: true };

const MIB: u64 = 1 << 20;

const PATIENCE: Duration = Duration::from_secs(20);

/// A loop device over a sparse file, gone when the last who has it open closes it, even after a crash.
struct Loop {
    path: String,
    open: File,
}

impl Loop {
    /// `None`, with the reason printed, where this process cannot have one.
    fn of(mib: u64) -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("twinlun-loop-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let file = std::env::temp_dir().join(name);
        File::create(&file).unwrap().set_len(mib * MIB).unwrap();
        let made = Command::new("losetup").args(["--find", "--show"]).arg(&file).output();
        // The device has it open, or nobody needs it.
        fs::remove_file(&file).unwrap();
        let made = match made {
            Ok(made) if made.status.success() => made,
            Ok(made) => return skipped(&String::from_utf8_lossy(&made.stderr)),
            Err(error) => return skipped(&error.to_string()),
        };
        let path = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        let open = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        // Takes effect when it is closed.
        assert!(Command::new("losetup").args(["--detach", &path]).status().unwrap().success());
        Some(Self { path, open })
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.open.write_all_at(bytes, at).unwrap();
        self.open.sync_all().unwrap();
    }

    fn read(&self, at: u64, bytes: usize) -> Vec<u8> {
        let mut there = vec![0; bytes];
        self.open.read_exact_at(&mut there, at).unwrap();
        there
    }
}

fn skipped(why: &str) -> Option<Loop> {
    eprintln!("skipped: no loop device is to be had here: {}", why.trim());
    None
}

/// The line of the configuration that names the devices of the LUN.
fn device_key(devices: &[Loop; 2]) -> &'static str {
    let [alpha, beta] = devices.each_ref().map(|device| &device.path);
    format!("device = {{ alpha = \"{alpha}\", beta = \"{beta}\" }}\n").leak()
}

fn host(appliance: &Appliance, controller: usize) -> Session {
    let name = format!("iqn.1993-08.org.debian:host{controller}");
    let mut session =
        Session::connect(appliance.portals[controller], Settings::linux(&name, IQN, 1)).unwrap();
    execute(&mut session, Cdb::test_unit_ready(), Vec::new(), 0);
    session
}

/// Executes what must end with GOOD.
fn execute(session: &mut Session, cdb: Cdb, out: Vec<u8>, in_bytes: u32) -> Vec<u8> {
    let response = session.execute(&Request { lun: LUN.number, cdb, out, in_bytes }).unwrap();
    assert!(response.is_good(), "{response:?}");
    response.data.to_vec()
}

/// Both devices hold the same bytes as far as the LUN goes.
fn identical(devices: &[Loop; 2]) {
    let [a, b] = devices.each_ref().map(|device| File::open(&device.path).unwrap());
    assert_eq!(judge::copies::first_difference(a, b, LUN.mib * MIB).unwrap(), None);
}

fn reason(appliance: &Appliance) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = appliance.status().unwrap_or(Value::Null);
        if let Some(reason) = status["controllers"][0]["status"]["luns"][0]["reason"].as_str()
            && !reason.contains("when the two meet")
        {
            return reason.to_owned();
        }
        assert!(Instant::now() < deadline, "nothing is refused: {status:#}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn two_devices_become_a_pair_that_serves_and_holds_the_same() {
    let (Some(alpha), Some(beta)) = (Loop::of(17), Loop::of(20)) else { return };
    let devices = [alpha, beta];
    // Neither the head nor the tail: both count as blank, and main's is copied over the other.
    devices[1].write(5 * MIB, &[0x5a; 4096]);
    let key = device_key(&devices);
    let appliance = Appliance::start_with_keys("devices", &[LUN], Processes::One, |_| key).unwrap();
    let mut hosts = [host(&appliance, 0), host(&appliance, 1)];
    assert_eq!(execute(&mut hosts[1], Cdb::read_16(5 * 2048, 8), Vec::new(), 4096), [0; 4096]);
    for (at, session) in hosts.iter_mut().enumerate() {
        let lba = at as u64 * 8192;
        execute(session, Cdb::write_16(lba, 256, false), vec![1 + at as u8; 256 * 512], 0);
        execute(session, Cdb::write_same_16(lba + 1024, 2048, false), vec![7; 512], 0);
        execute(session, Cdb::write_zeros_16(lba + 1100, 8, true), Vec::new(), 0);
        execute(session, Cdb::write_same_16(lba + 1200, 400, false), vec![0; 512], 0);
        // An edge that is no multiple of what the page cache keeps together.
        let list = cdb::unmap_list(&[(lba + 3, 5), (lba + 1999, 7)]);
        execute(session, Cdb::unmap(list.len() as u16), list, 0);
    }
    for (at, session) in hosts.iter_mut().enumerate() {
        let lba = (1 - at) as u64 * 8192;
        let own = 2 - at as u8;
        let start = execute(session, Cdb::read_16(lba, 16), Vec::new(), 16 * 512);
        let expected: Vec<u8> =
            (0..16).flat_map(|block| [if (3..8).contains(&block) { 0 } else { own }; 512]).collect();
        assert_eq!(start, expected);
        let same = execute(session, Cdb::read_16(lba + 1024, 2048), Vec::new(), 2048 * 512);
        for (block, bytes) in (1024..).zip(same.chunks(512)) {
            let zero = (1100..1108).contains(&block)
                || (1200..1600).contains(&block)
                || (1999..2006).contains(&block);
            assert_eq!(bytes, [if zero { 0 } else { 7 }; 512], "block {block}");
        }
        // GET LBA STATUS: nobody knows of holes in a device, so all of it is mapped.
        let status = execute(session, get_lba_status(0), Vec::new(), 24);
        assert_eq!(status[8..24], [&[0; 8][..], &(LUN.mib as u32 * 2048).to_be_bytes(), &[0; 4]].concat());
    }
    // Nobody else gets a device that is in use.
    drop(hosts);
    taken(&devices, true);
    appliance.stop().unwrap();
    taken(&devices, false);
    identical(&devices);
    assert_eq!(devices[1].read(0, 512), [1; 512]);
}

/// Opens a device as one does who wants it for himself.
fn open_exclusively(path: &str) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlags::EXCL.bits() as i32).open(path)
}

fn taken(devices: &[Loop; 2], expected: bool) {
    for device in devices {
        let busy =
            open_exclusively(&device.path).is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy);
        assert_eq!(busy, expected, "{}", device.path);
    }
}

fn get_lba_status(lba: u64) -> Cdb {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (0x9e, 0x12);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[13] = 24;
    Cdb(cdb)
}

#[test]
fn an_emptied_device_is_refilled_from_the_other_whichever_it_is() {
    let (Some(alpha), Some(beta)) = (Loop::of(17), Loop::of(17)) else { return };
    let devices = [alpha, beta];
    let key = device_key(&devices);
    let mut appliance = Appliance::start_with_keys("refilled", &[LUN], Processes::One, |_| key).unwrap();
    let mut session = host(&appliance, 0);
    execute(&mut session, Cdb::write_16(64, 256, false), vec![3; 256 * 512], 0);
    drop(session);
    for device in &devices {
        let stopped = appliance.stop().unwrap();
        device.write(0, &vec![0; 17 << 20]);
        appliance = stopped.start().unwrap();
        identical(&devices);
        assert_eq!(device.read(64 * 512, 256 * 512), vec![3; 256 * 512]);
    }
}

#[test]
fn a_device_with_a_file_system_is_named_refused_and_left_alone() {
    let (Some(alpha), Some(beta)) = (Loop::of(17), Loop::of(17)) else { return };
    let devices = [alpha, beta];
    devices[1].write(1080, &[0x53, 0xef]);
    let before = devices[1].read(0, 17 << 20);
    let key = device_key(&devices);
    let appliance = Appliance::start_unserved("foreign", &[LUN], Processes::One, |_| key).unwrap();
    let reason = reason(&appliance);
    assert!(reason.contains("the volume of beta holds something that is not this LUN"), "{reason}");
    appliance.stop().unwrap();
    assert_eq!(devices[1].read(0, 17 << 20), before);
    assert_eq!(devices[0].read(0, 17 << 20), vec![0; 17 << 20]);
}

#[test]
fn a_device_that_is_too_small_is_named_and_check_says_what_fits() {
    let (Some(alpha), Some(beta)) = (Loop::of(17), Loop::of(16)) else { return };
    let devices = [alpha, beta];
    let key = device_key(&devices);
    let appliance = Appliance::start_unserved("small", &[LUN], Processes::One, |_| key).unwrap();
    let said = reason(&appliance);
    assert!(said.contains("the device of beta is too small"), "{said}");
    let check = appliance.check().unwrap();
    let beta = &devices[1].path;
    assert!(check.contains(&format!("{beta} has 16 MiB, too small for LUN lun0")), "{check}");
    assert!(check.contains("the largest `size` is 15 MiB"), "{check}");
}

#[test]
fn a_device_that_somebody_else_uses_is_named_and_left_alone() {
    let (Some(alpha), Some(beta)) = (Loop::of(17), Loop::of(17)) else { return };
    let devices = [alpha, beta];
    let _holder = open_exclusively(&devices[1].path).unwrap();
    let key = device_key(&devices);
    let appliance = Appliance::start_unserved("taken", &[LUN], Processes::One, |_| key).unwrap();
    let said = reason(&appliance);
    assert!(
        said.contains(
            "the volume of beta cannot be opened or made: its device is not there or used by somebody else"
        ),
        "{said}"
    );
    assert!(appliance.check().unwrap().contains("in use or not to be opened"));
}
