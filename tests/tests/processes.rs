//! The built binary under real hosts: this crate's own initiator, QEMU's and libiscsi's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use twinlun_tests::appliance::{Appliance, IQN, Lun, Processes, Stopped};
use twinlun_tests::initiator::tcp::Session;
use twinlun_tests::initiator::{Cdb, Request, Settings, Tag};
use twinlun_tests::judge::{self, Extent, History, Kind, OpId, Outcome};
use twinlun_tests::random::Random;
use twinlun_tests::workload::{Ended, Mix, Shape, Workload, content};

const MIRRORED: [Lun; 3] = [
    Lun { number: 0, mib: 16, main: 0, mirror: true },
    Lun { number: 1, mib: 16, main: 1, mirror: true },
    Lun { number: 2, mib: 16, main: 0, mirror: false },
];

/// Blocks of each of these LUNs.
const BLOCKS: u64 = 16 * 2048;

fn start(name: &str, luns: &[Lun], processes: Processes) -> Appliance {
    Appliance::start(name, luns, processes).unwrap_or_else(|error| panic!("{error}"))
}

fn identical(stopped: &Stopped, lun: &Lun) {
    let [a, b] = [0, 1].map(|controller| stopped.volume(controller, lun.number).unwrap());
    let difference = judge::copies::first_difference(a, b, lun.mib << 20).unwrap();
    assert_eq!(difference, None, "LUN {}: both volumes differ from this byte on", lun.number);
}

/// One host: a session with one controller, and its workloads.
struct Host {
    number: u32,
    session: Session,
    workloads: Vec<Workload>,
    random: Random,
    history: Arc<Mutex<History>>,
    pending: BTreeMap<Tag, (usize, Option<OpId>)>,
}

impl Host {
    fn log_in(
        number: u32,
        appliance: &Appliance,
        shapes: &[Shape],
        seed: u64,
        history: &Arc<Mutex<History>>,
    ) -> Self {
        let mut random = Random::new(seed ^ u64::from(number) << 32);
        let name = format!("iqn.1993-08.org.debian:host{number}");
        let settings = Settings {
            initial_r2t: random.percent(30),
            immediate_data: random.percent(80),
            first_burst_bytes: *random.pick(&[262_144, 65_536, 4096]),
            max_outstanding_r2t: random.between(1, 4) as u32,
            ..Settings::linux(&name, IQN, number as u16)
        };
        let mut session = Session::connect(appliance.portals[number as usize % 2], settings).unwrap();
        for shape in shapes {
            let cdb = Cdb::test_unit_ready();
            let ready =
                session.execute(&Request { lun: shape.lun, cdb, out: Vec::new(), in_bytes: 0 }).unwrap();
            assert!(ready.is_good(), "LUN {} is not ready: {ready:?}", shape.lun);
        }
        let workloads = shapes.iter().map(|shape| Workload::new(number, *shape, random.fork())).collect();
        Self { number, session, workloads, random, history: history.clone(), pending: BTreeMap::new() }
    }

    /// Runs `commands` commands, up to `depth` at once.
    fn work(&mut self, commands: usize, depth: usize) {
        for _ in 0..commands {
            while self.pending.len() >= depth {
                self.complete();
            }
            let workload = self.random.below(self.workloads.len() as u64) as usize;
            let (request, id) = self.workloads[workload].next(&mut self.history.lock().unwrap());
            let tag = self.session.submit(request).unwrap();
            self.pending.insert(tag, (workload, id));
        }
        while !self.pending.is_empty() {
            self.complete();
        }
    }

    fn complete(&mut self) {
        let (tag, response) = self.session.completion().unwrap();
        let (workload, id) = self.pending.remove(&tag).unwrap();
        let history = &mut self.history.lock().unwrap();
        let ended = self.workloads[workload].ended(history, id, &response);
        let well = matches!(ended, Ended::Good | Ended::Miscompare | Ended::Busy);
        assert!(well, "host {}: {ended:?} {:?}", self.number, id.map(|id| history.operation(id).to_string()));
    }

    /// Reads every region once more.
    fn look_back(&mut self) {
        for at in 0..self.workloads.len() {
            let lun = self.workloads[at].shape();
            let mut start = lun.start;
            while start < lun.start + lun.blocks {
                let blocks = (lun.start + lun.blocks - start).min(2048);
                let extent = Extent { start, blocks };
                let (request, id) = self.workloads[at].read_of(&mut self.history.lock().unwrap(), extent);
                let tag = self.session.submit(request).unwrap();
                self.pending.insert(tag, (at, Some(id)));
                self.complete();
                start += blocks;
            }
        }
    }
}

/// Few blocks at the start of each LUN, many behind them.
fn shapes() -> Vec<Shape> {
    let few = |lun| Shape { lun, start: 0, blocks: 24, blocks_min: 1, blocks_max: 16, mix: Mix::ALL };
    let many =
        |lun| Shape { lun, start: 24, blocks: BLOCKS - 24, blocks_min: 1, blocks_max: 2048, mix: Mix::ALL };
    (0..3).flat_map(|lun| [few(lun), many(lun)]).collect()
}

/// Hosts on both controllers write and read at once; everything they saw is judged, then both volumes.
fn concurrent_hosts(name: &str, processes: Processes, seed: u64) {
    println!("seed {seed}; another one: TWINLUN_SEED=N");
    let appliance = start(name, &MIRRORED, processes);
    let history = Arc::new(Mutex::new(History::new()));
    let log_in = |number| Host::log_in(number, &appliance, &shapes(), seed, &history);
    let hosts: Vec<Host> = (0..6).map(log_in).collect();
    let threads: Vec<_> = hosts
        .into_iter()
        .map(|mut host| {
            thread::spawn(move || {
                let depth = host.random.between(1, 12) as usize;
                host.work(150, depth);
                host
            })
        })
        .collect();
    let hosts: Vec<Host> = threads.into_iter().map(|thread| thread.join().expect("a host failed")).collect();
    for mut host in hosts.into_iter().take(2) {
        host.look_back();
        host.session.logout().unwrap();
    }
    let stopped = appliance.stop().unwrap_or_else(|error| panic!("{error}"));
    let mut history = Arc::into_inner(history).unwrap().into_inner().unwrap();
    for lun in MIRRORED {
        if lun.mirror {
            identical(&stopped, &lun);
        }
        let mut bytes = vec![0; (lun.mib << 20) as usize];
        stopped.volume(lun.main, lun.number).unwrap().read_exact(&mut bytes).unwrap();
        let whole = Extent { start: 0, blocks: BLOCKS };
        let id = history.invoke(u32::MAX, lun.number, Kind::Read, vec![whole]);
        history.end(id, Outcome::Read(content::pieces(&bytes, 0)));
    }
    println!("{} operations, {} overlaps", history.operations().len(), history.overlaps());
    assert!(history.overlaps() > 100, "the hosts did not meet");
    judge::check(&history).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
}

fn seed(usual: u64) -> u64 {
    std::env::var("TWINLUN_SEED").map_or(usual, |seed| seed.parse().unwrap())
}

#[test]
fn hosts_on_both_controllers_of_one_process_see_linearizable_blocks_and_leave_identical_copies() {
    for at in 0..2 {
        concurrent_hosts("one", Processes::One, seed(100 + at));
    }
}

#[test]
fn hosts_on_two_controllers_in_two_processes_see_linearizable_blocks_and_leave_identical_copies() {
    for at in 0..2 {
        concurrent_hosts("two", Processes::Two, seed(200 + at));
    }
}

/// Runs a program to its end; fails with what it said.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; tests/all installs it"));
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{said}", output.status);
    said
}

/// A filesystem with this repository's sources in it.
fn image(folder: &Path, mib: u64, name: &str, source: &str) -> String {
    let path = folder.join(name).to_str().unwrap().to_owned();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let mke2fs = if Path::new("/usr/sbin/mke2fs").exists() { "/usr/sbin/mke2fs" } else { "mke2fs" };
    run(mke2fs, &["-q", "-t", "ext4", "-d", source.to_str().unwrap(), &path, &format!("{mib}M")]);
    path
}

#[test]
fn an_image_written_through_one_controller_is_read_back_through_the_other() {
    let lun = Lun { number: 0, mib: 32, main: 0, mirror: true };
    let appliance = start("image", &[lun], Processes::One);
    let folder = appliance.folder().to_owned();
    // Through the sub and back through main; then the reverse with another image.
    for (written_by, read_by, source) in [(1, 0, "src"), (0, 1, "../protocol")] {
        let image = image(&folder, lun.mib, &format!("image{written_by}"), source);
        let back = folder.join("back").to_str().unwrap().to_owned();
        let [to, from] = [appliance.url(written_by, 0), appliance.url(read_by, 0)];
        run("qemu-img", &["convert", "-n", "-f", "raw", "-O", "raw", &image, &to]);
        run("qemu-img", &["convert", "-f", "raw", "-O", "raw", &from, &back]);
        let same = fs::read(&image).unwrap() == fs::read(&back).unwrap();
        assert!(same, "what controller {read_by} gives back is not the image");
    }
    let stopped = appliance.stop().unwrap_or_else(|error| panic!("{error}"));
    identical(&stopped, &lun);
    let mut volume = vec![0; (lun.mib << 20) as usize];
    stopped.volume(0, 0).unwrap().read_exact(&mut volume).unwrap();
    assert!(volume == fs::read(folder.join("image0")).unwrap(), "the volume is not the image");
}

/// Families of libiscsi's conformance tests for what is served so far.
const FAMILIES: [&str; 29] = [
    "SCSI.CompareAndWrite",
    "SCSI.GetLBAStatus",
    "SCSI.Inquiry",
    "SCSI.Mandatory",
    "SCSI.ModeSense6",
    "SCSI.PrinReadKeys",
    "SCSI.PrinReportCapabilities",
    "SCSI.PrinServiceactionRange",
    "SCSI.ProutClear",
    "SCSI.ProutPreempt",
    "SCSI.ProutRegister",
    "SCSI.ProutReserve",
    "SCSI.Read6",
    "SCSI.Read10",
    "SCSI.Read12",
    "SCSI.Read16",
    "SCSI.ReadCapacity10",
    "SCSI.ReadCapacity16",
    "SCSI.Reserve6",
    "SCSI.TestUnitReady",
    "SCSI.Unmap",
    "SCSI.Write10",
    "SCSI.Write12",
    "SCSI.Write16",
    "SCSI.WriteSame10",
    "SCSI.WriteSame16",
    "iSCSI.iSCSIcmdsn",
    "iSCSI.iSCSIdatasn",
    "iSCSI.iSCSITMF",
];

#[test]
fn the_conformance_tests_of_libiscsi_pass_through_either_controller() {
    let lun = Lun { number: 0, mib: 64, main: 0, mirror: true };
    let appliance = start("conformance", &[lun], Processes::One);
    for controller in 0..2 {
        for family in FAMILIES {
            let url = appliance.url(controller, 0);
            let said = run("iscsi-test-cu", &["--dataloss", "--normal", "--test", family, &url]);
            let summary = said.lines().find_map(|line| line.trim_start().strip_prefix("tests "));
            let counts: Vec<u64> =
                summary.unwrap_or("").split_whitespace().map_while(|count| count.parse().ok()).collect();
            // Total, ran, passed, failed.
            let [_, ran, passed, 0, ..] = counts[..] else { panic!("{family} failed:\n{said}") };
            assert!(ran > 0 && passed == ran, "{family} through controller {controller}:\n{said}");
        }
    }
    let stopped = appliance.stop().unwrap_or_else(|error| panic!("{error}"));
    identical(&stopped, &lun);
}

#[test]
fn discovery_on_either_controller_lists_the_portals_of_both() {
    let lun = Lun { number: 0, mib: 1, main: 0, mirror: true };
    let appliance = start("discovery", &[lun], Processes::Two);
    for portal in appliance.portals {
        let settings = Settings { target_name: None, ..Settings::linux("iqn.1993-08.org.debian:d", "", 9) };
        let mut session = Session::connect(portal, settings).unwrap();
        let targets = session.send_targets().unwrap();
        assert!(targets.contains(&format!("TargetName={IQN}\0")), "{targets:?}");
        for (at, portal) in appliance.portals.iter().enumerate() {
            assert!(targets.contains(&format!("TargetAddress={portal},{}\0", at + 1)), "{targets:?}");
        }
    }
    appliance.stop().unwrap_or_else(|error| panic!("{error}"));
}
