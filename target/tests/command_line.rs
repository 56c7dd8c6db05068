//! The binary `twinlun` as a person uses it: starting, asking, ending, mistakes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// An appliance in a folder of its own, on ports nobody uses.
struct Appliance {
    folder: PathBuf,
    ports: [u16; 4],
    running: Vec<Child>,
}

impl Appliance {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("twinlun-cli-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = listeners.map(|listener| listener.local_addr().unwrap().port());
        let appliance = Self { folder, ports, running: Vec::new() };
        appliance.write_config("4 MiB");
        appliance
    }

    fn write_config(&self, size: &str) {
        let [a, b, c, d] = self.ports;
        let text = format!(
            r#"[appliance]
iqn = "iqn.2026-11.com.example:cli"
[[controller]]
name = "alpha"
portals = ["127.0.0.1:{a}"]
interlink = "127.0.0.1:{b}"
[[controller]]
name = "beta"
portals = ["127.0.0.1:{c}"]
interlink = "127.0.0.1:{d}"
[[lun]]
number = 0
name = "data0"
size = "{size}"
main = "alpha"
"#
        );
        fs::write(self.config(), text).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.folder.join("appliance.toml")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twinlun"));
        command.args(arguments).arg("--config").arg(self.config()).stdin(Stdio::null());
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Starts `twinlun run`, its output kept for [`Appliance::end`].
    fn run(&mut self, arguments: &[&str]) {
        let arguments: Vec<&str> = ["run"].iter().chain(arguments).copied().collect();
        let child = self.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        self.running.push(child);
    }

    /// Asks for the status until it is what is waited for.
    fn wait_for_status(&self, good: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let output = self.output(&["status", "--json"]);
            let status: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(output.status.success(), status["ok"] == true);
            if good(&status) {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "{status:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGTERM to the process started first; gives back whether it ended well, and what it printed.
    fn end(&mut self) -> (bool, String) {
        let mut child = self.running.remove(0);
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let mut printed = String::new();
        child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        (child.wait().unwrap().success(), printed)
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn both_controllers_start_meet_tell_how_to_log_in_and_end_cleanly() {
    let mut appliance = Appliance::new("both");
    appliance.run(&[]);
    let status = appliance.wait_for_status(|status| status["ok"] == true);
    for (controller, role) in [(0, "main"), (1, "sub")] {
        let lun = &status["controllers"][controller]["status"]["luns"][0];
        assert_eq!((&lun["status"], &lun["role"]), (&Value::from("duplex"), &Value::from(role)));
    }
    assert!(text(&appliance.output(&["status"]).stdout).ends_with("All is well.\n"));
    let (ended_well, printed) = appliance.end();
    assert!(ended_well);
    let [alpha, _, beta, _] = appliance.ports;
    for line in [
        format!("iscsiadm -m discovery -t sendtargets -p 127.0.0.1:{alpha}\n"),
        format!("iscsiadm -m node -T iqn.2026-11.com.example:cli -p 127.0.0.1:{alpha} --login\n"),
        format!("iscsiadm -m node -T iqn.2026-11.com.example:cli -p 127.0.0.1:{beta} --login\n"),
    ] {
        assert!(printed.contains(&line), "{line} in\n{printed}");
    }
    let after = appliance.output(&["status"]);
    assert_eq!(after.status.code(), Some(1));
    assert!(text(&after.stdout).contains("No controller runs on this machine"));
}

#[test]
fn the_controllers_meet_across_two_processes() {
    let mut appliance = Appliance::new("apart");
    appliance.run(&["--controller", "alpha"]);
    let alone = appliance.wait_for_status(|status| status["controllers"][0]["status"].is_object());
    assert_eq!(alone["ok"], false);
    appliance.run(&["--controller", "beta"]);
    appliance.wait_for_status(|status| status["ok"] == true);
    assert!(appliance.end().0);
    assert!(appliance.end().0);
}

#[test]
fn a_controller_that_runs_already_is_not_started_again() {
    let mut appliance = Appliance::new("twice");
    appliance.run(&[]);
    appliance.wait_for_status(|status| status["ok"] == true);
    let second = appliance.output(&["run"]);
    assert_eq!(second.status.code(), Some(1));
    let said = text(&second.stderr);
    assert_eq!(said.matches("runs this").count(), 1, "{said}");
    assert!(said.contains("runs this controller already"), "{said}");
    assert!(said.contains(&appliance.running[0].id().to_string()), "{said}");
    appliance.wait_for_status(|status| status["ok"] == true);
}

#[test]
fn check_says_what_would_be_served_and_touches_nothing() {
    let appliance = Appliance::new("check");
    let output = appliance.output(&["check"]);
    assert!(output.status.success());
    assert!(text(&output.stdout).ends_with("The file is right.\n"));
    let json: Value = serde_json::from_slice(&appliance.output(&["check", "--json"]).stdout).unwrap();
    assert_eq!(json["volumes"].as_array().unwrap().len(), 2);
    assert!(!appliance.folder.join("state").exists());
}

#[test]
fn a_mistake_is_answered_with_its_place_and_starts_nothing() {
    let appliance = Appliance::new("mistake");
    appliance.write_config("4 MB");
    // Starting again does not mend it: a service manager is told so by the status of `run`.
    for (command, status) in [("check", 1), ("run", 2), ("status", 1)] {
        let output = appliance.output(&[command]);
        assert_eq!(output.status.code(), Some(status), "{command}");
        let said = text(&output.stderr);
        assert!(said.contains("appliance.toml:14:8") && said.contains("the units are"), "{command}: {said}");
    }
    assert!(!appliance.folder.join("state").exists());
}

/// What a command wrote to standard error, which is to be JSON line by line.
fn json_lines(output: &Output) -> Vec<Value> {
    let said = text(&output.stderr);
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {said}")))
        .collect()
}

#[test]
fn a_start_that_fails_for_its_file_or_a_name_is_told_in_the_log_where_that_is_json() {
    let appliance = Appliance::new("mistake-json");
    let json = ["run", "--log", "json"];
    let output = appliance.output(&[&json[..], &["--controller", "gamma"]].concat());
    assert_eq!(output.status.code(), Some(2));
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let told = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    assert_eq!(lines[0]["level"], "ERROR");
    assert!(told(&lines[0], "message").contains("there is no controller \"gamma\""), "{lines:?}");
    assert!(told(&lines[0], "next").contains("`alpha` and `beta`"), "{lines:?}");
    appliance.write_config("4 MB");
    let output = appliance.output(&json);
    assert_eq!(output.status.code(), Some(2));
    let lines = json_lines(&output);
    let message = told(&lines[0], "message");
    assert!(
        message.contains("appliance.toml:14:8: lun[0].size") && message.contains("the units are"),
        "{lines:?}"
    );
    assert!(told(&lines[1], "message").contains("a mistake in"), "{lines:?}");
    assert!(lines.len() == 2 && told(&lines[1], "next").contains("twinlun check"), "{lines:?}");
    fs::remove_file(appliance.config()).unwrap();
    let output = appliance.output(&json);
    assert_eq!(output.status.code(), Some(2));
    let lines = json_lines(&output);
    assert!(lines.len() == 1 && told(&lines[0], "message").contains("cannot read"), "{lines:?}");
    assert!(told(&lines[0], "next").contains("--config"), "{lines:?}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_twinlun"))
        .args(["check", "--config", "/nowhere/appliance.toml"])
        .current_dir(Path::new("/"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("cannot read /nowhere/appliance.toml") && said.contains("--config"), "{said}");
}

#[test]
fn every_command_has_help_that_explains_each_option_and_how_it_ends() {
    let commands: [(&[&str], &[&str]); 6] = [
        (&[], &["--version", "run", "check", "status", "interlink"]),
        (&["run"], &["--config <FILE>", "--controller <NAME>", "SIGTERM", "RUST_LOG"]),
        (&["check"], &["--config <FILE>", "--json"]),
        (&["status"], &["--config <FILE>", "--json"]),
        (&["interlink"], &["init"]),
        (&["interlink", "init"], &["--config <FILE>", "--json", "--renew", "interlink.pem"]),
    ];
    for (command, told) in commands {
        let output =
            Command::new(env!("CARGO_BIN_EXE_twinlun")).args(command).arg("--help").output().unwrap();
        let help = text(&output.stdout);
        assert!(output.status.success(), "{command:?}");
        for word in told.iter().chain(&["Usage: twinlun", "Exit status: 0 if"]) {
            assert!(help.contains(word), "{command:?} does not tell of {word}:\n{help}");
        }
        assert!(
            help.lines().all(|line| line.chars().count() <= 120 || command.ends_with(&["init"])),
            "{help}"
        );
        // What an option does stands beside or below it.
        let lines: Vec<&str> = help.lines().map(str::trim).collect();
        let option = |line: &str| line.starts_with('-') && !line.starts_with("- ");
        for (line, below) in lines.iter().zip(&lines[1..]).filter(|(line, _)| option(line)) {
            let explained = line.split_once("  ").map_or(*below, |(_, text)| text.trim());
            assert!(explained.len() > 5 && !explained.starts_with('-'), "{command:?}: {line}");
        }
    }
    let mistake = Command::new(env!("CARGO_BIN_EXE_twinlun")).arg("--nonsense").output().unwrap();
    assert_eq!(mistake.status.code(), Some(2));
}
