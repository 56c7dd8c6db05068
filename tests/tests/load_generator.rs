//! The load generator against a target that shares no line with Twinlun: tgt. What it writes must lie in tgt's file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
const LUN_BYTES: u64 = 4 << 20;
const TARGET: &str = "iqn.2026-11.com.example:tgt";

/// tgtd with one LUN in a file, on a port and a control socket of its own.
struct Tgt {
    folder: PathBuf,
    port: u16,
    daemon: Child,
}

impl Tgt {
    fn start(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("twinlun-tgt-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        File::create(folder.join("lun")).unwrap().set_len(LUN_BYTES).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let daemon = Command::new("tgtd")
            .args(["-f", "-C", "1", "--iscsi", &format!("portal=127.0.0.1:{port}")])
            .env("TGT_IPC_SOCKET", folder.join("ipc"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("tgtd starts: Debian's package tgt has it");
        let tgt = Self { folder, port, daemon };
        let begin = Instant::now();
        while !tgt.admin(&["--mode", "target", "--op", "new", "--tid", "1", "--targetname", TARGET]) {
            assert!(begin.elapsed() < PATIENCE, "tgtd does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        let file = tgt.folder.join("lun").display().to_string();
        let lun =
            ["--mode", "logicalunit", "--op", "new", "--tid", "1", "--lun", "1", "--backing-store", &file];
        assert!(tgt.admin(&lun));
        assert!(tgt.admin(&["--mode", "target", "--op", "bind", "--tid", "1", "-I", "ALL"]));
        tgt
    }

    fn admin(&self, arguments: &[&str]) -> bool {
        let status = Command::new("tgtadm")
            .args(["-C", "1", "--lld", "iscsi"])
            .args(arguments)
            .env("TGT_IPC_SOCKET", self.folder.join("ipc"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.unwrap().success()
    }

    fn load(&self, arguments: &[&str]) -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_load"))
            .arg(format!("iscsi://127.0.0.1:{}/{TARGET}/1", self.port))
            .args(["--json", "--pid", &self.daemon.id().to_string()])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Whether every block of 512 bytes from `begin` on holds something.
    fn is_full_from(&self, begin: usize) -> bool {
        let bytes = fs::read(self.folder.join("lun")).unwrap();
        bytes[begin..].chunks(512).all(|block| block.iter().any(|byte| *byte != 0))
    }
}

impl Drop for Tgt {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn filling_a_lun_writes_every_block_of_it_once() {
    let tgt = Tgt::start("fill");
    assert!(!tgt.is_full_from(0));
    let run = tgt.load(&["--fill", "--bytes", "4096", "--depth", "8"]);
    assert_eq!(run["commands"], LUN_BYTES / 4096);
    assert!(tgt.is_full_from(0));
}

#[test]
fn large_writes_are_sent_as_the_target_asks_for_them() {
    let tgt = Tgt::start("large");
    let run = tgt.load(&["--fill", "--bytes", "1048576", "--depth", "2"]);
    assert_eq!(run["commands"], LUN_BYTES >> 20);
    assert!(tgt.is_full_from(0));
}

#[test]
fn a_run_counts_its_commands_and_measures_both_sides() {
    let tgt = Tgt::start("run");
    for pattern in ["randread", "read", "randwrite", "write"] {
        let run =
            tgt.load(&["--pattern", pattern, "--seconds", "0.3", "--connections", "2", "--bytes", "65536"]);
        let [commands, iops] = ["commands", "iops"].map(|key| run[key].as_f64().unwrap());
        let [p50, p99] = ["p50_us", "p99_us"].map(|key| run[key].as_f64().unwrap());
        assert!(commands > 0.0 && iops > 0.0 && p50 > 0.0 && p99 >= p50, "{pattern}: {run}");
        assert!(run["target_cpu_us"].is_f64() && run["own_cpu_us"].is_f64(), "{pattern}: {run}");
    }
}

#[test]
fn two_targets_are_compared_in_pairs() {
    let (a, b) = (Tgt::start("a"), Tgt::start("b"));
    let versus = format!("iscsi://127.0.0.1:{}/{TARGET}/1", b.port);
    let run = a.load(&["--versus", &versus, "--pairs", "2", "--seconds", "0.1", "--depth", "4"]);
    assert_eq!(run["pairs"], 2);
    let ratio = run["ratio"]["iops"].as_f64().unwrap();
    assert!(ratio > 0.01 && ratio < 100.0, "{run}");
}
