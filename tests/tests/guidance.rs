//! What people are told by the log, by `twinlun status` and by a start that fails, of the built binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs::{self, DirBuilder};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use twinlun_tests::appliance::{Appliance, IQN, Lun, Processes, binary, free_ports};
use twinlun_tests::initiator::Settings;
use twinlun_tests::initiator::tcp::Session;

const PATIENCE: Duration = Duration::from_secs(30);

const MIRRORED: Lun = Lun { number: 0, mib: 16, main: 0, mirror: true };

/// Looks until there is what is waited for.
fn wait<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() > deadline => panic!("{what} never came:\n{seen}"),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn settings(name: &str) -> Settings {
    Settings::linux(&format!("iqn.1993-08.org.debian:{name}"), IQN, 1)
}

fn problems(status: &Value) -> String {
    let problems = status["problems"].as_array().map_or(&[][..], Vec::as_slice);
    problems.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

#[test]
fn who_logs_in_out_and_in_vain_is_logged_with_name_and_address() {
    let access = "[[access.host]]\nname = \"iqn.1993-08.org.debian:friend\"\n";
    let appliance = Appliance::start_with("visits", &[MIRRORED], Processes::One, access, &[]).unwrap();
    let session = Session::connect(appliance.portals[1], settings("friend")).unwrap();
    session.logout().unwrap();
    let lost = Session::connect(appliance.portals[1], settings("friend")).unwrap();
    drop(lost);
    assert!(Session::connect(appliance.portals[0], settings("Stranger")).is_err());
    let log = wait("the last line", || {
        let log = appliance.logs();
        if log.contains("ended without a logout") { Ok(log) } else { Err(log) }
    });
    let line = |parts: &[&str]| log.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    let portal = appliance.portals[1].to_string();
    assert!(line(&["INFO", "debian:friend from 127.0.0.1:", &portal, "logged in"]), "{log}");
    assert!(line(&["INFO", "debian:friend from 127.0.0.1:", "logged out"]), "{log}");
    let refused =
        ["WARN", "from 127.0.0.1", "\"iqn.1993-08.org.debian:Stranger\"", "0202h", "[access] names"];
    assert!(line(&refused), "{log}");
    appliance.stop().unwrap();
}

#[test]
fn two_machines_of_one_name_are_warned_of_and_shown_on_either_machine() {
    let appliance = Appliance::start("clones", &[MIRRORED], Processes::Two).unwrap();
    let mut sessions: Vec<Session> = Vec::new();
    for _ in 0..4 {
        // Each ends the one before, which stays connected until then.
        sessions.push(Session::connect(appliance.portals[0], settings("clone")).unwrap());
    }
    for machine in 0..2 {
        wait("the line in status", || {
            let (screen, status) = appliance.status_on(machine).unwrap();
            let told = problems(&status).contains("two machines have one InitiatorName");
            if told && status["ok"] == false { Ok(()) } else { Err(screen) }
        });
    }
    let log = appliance.logs();
    let warned: Vec<&str> = log.lines().filter(|line| line.contains("two machines have one")).collect();
    assert!(warned.len() == 1 && warned[0].contains("WARN"), "{log}");
    assert_eq!(warned[0].matches("from 127.0.0.1:").count(), 2, "both addresses: {log}");
    appliance.stop().unwrap();
}

/// A machine of its own: a configuration, a state folder, and at most one controller that runs there.
struct Machine {
    name: &'static str,
    folder: PathBuf,
    child: Option<Child>,
}

impl Machine {
    fn pair(folder: &Path) -> [Self; 2] {
        let ports = free_ports().unwrap();
        let machines = ["alpha", "beta"].map(|name| {
            let folder = folder.join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("appliance.toml"), configuration(&ports)).unwrap();
            Self { name, folder, child: None }
        });
        // Each knows the other by what was made on the first and brought to the second.
        let mut init = Command::new(binary().unwrap());
        init.args(["interlink", "init", "--config"]).arg(machines[0].config());
        assert!(init.output().unwrap().status.success());
        let file = Path::new("state/beta/interlink.pem");
        let private = |folder: &Path| DirBuilder::new().mode(0o700).recursive(true).create(folder).unwrap();
        private(&machines[1].folder.join("state/beta"));
        fs::copy(machines[0].folder.join(file), machines[1].folder.join(file)).unwrap();
        machines
    }

    fn config(&self) -> PathBuf {
        self.folder.join("appliance.toml")
    }

    fn edit(&self, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.config()).unwrap();
        fs::write(self.config(), change(text)).unwrap();
    }

    fn command(&self) -> Command {
        let log = fs::File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut command = Command::new(binary().unwrap());
        command.args(["run", "--controller", self.name, "--config"]).arg(self.config());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    fn start(&mut self, more: &[&str]) {
        self.child = Some(self.command().args(more).spawn().unwrap());
    }

    /// The log as a person reads it, however its lines are broken.
    fn said(&self) -> String {
        self.log().replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }

    /// Waits for its end; whether it was a clean one.
    fn ended(&mut self) -> bool {
        let mut child = self.child.take().unwrap();
        let ended = wait("its end", || child.try_wait().unwrap().ok_or_else(|| self.log()));
        ended.success()
    }

    /// What `twinlun status` prints here, and its exit status.
    fn status(&self) -> (bool, String) {
        let mut command = Command::new(binary().unwrap());
        let output = command.args(["status", "--config"]).arg(self.config()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        (output.status.success(), text)
    }

    fn wait_for_status(&self, well: bool, phrases: &[&str]) {
        wait("the status", || {
            let (ok, text) = self.status();
            let all = phrases.iter().all(|phrase| text.contains(phrase));
            if ok == well && all { Ok(()) } else { Err(format!("{phrases:?} in {text}\n{}", self.log())) }
        });
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn configuration(ports: &[SocketAddr; 4]) -> String {
    let controller = |at: usize, name: &str| {
        format!(
            "[[controller]]\nname = \"{name}\"\nportals = [\"{}\"]\ninterlink = \"{}\"\n",
            ports[at],
            ports[at + 2]
        )
    };
    format!(
        "[appliance]\niqn = \"{IQN}\"\n{}{}\
         [[lun]]\nnumber = 0\nname = \"data0\"\nsize = \"16 MiB\"\nmain = \"alpha\"\n",
        controller(0, "alpha"),
        controller(1, "beta")
    )
}

#[test]
fn files_that_differ_in_who_may_log_in_or_in_a_lun_are_told_on_both_machines() {
    let folder = tempfile::tempdir().unwrap();
    let mut machines = Machine::pair(folder.path());
    machines[0].edit(|text| text + "[[access.host]]\nname = \"iqn.1993-08.org.debian:a\"\nluns = [0]\n");
    machines[1].edit(|text| {
        text + "[[lun]]\nnumber = 1\nname = \"extra\"\nsize = \"1 MiB\"\nmain = \"beta\"\n\
                [[access.host]]\nname = \"iqn.1993-08.org.debian:a\"\n"
    });
    machines.iter_mut().for_each(|machine| machine.start(&[]));
    let differ = "`access.host.iqn.1993-08.org.debian:a`: without a proof, LUN 0 on alpha, \
                  without a proof, all LUNs on beta";
    for machine in &machines {
        machine.wait_for_status(false, &["data0 16 MiB alpha duplex", differ]);
    }
    machines[0].wait_for_status(
        false,
        &["LUN 1 extra: beta was started with it in its appliance.toml, alpha without it"],
    );
    machines[1].wait_for_status(
        false,
        &["LUN 1 extra: beta was started with it in its appliance.toml, alpha without it"],
    );
    machines.iter().for_each(|machine| machine.signal(Signal::TERM));
    assert!(machines.iter_mut().all(Machine::ended));
}

#[test]
fn a_size_that_is_not_the_luns_is_said_by_the_log_and_by_status() {
    let folder = tempfile::tempdir().unwrap();
    let mut machines = Machine::pair(folder.path());
    machines.iter_mut().for_each(|machine| machine.start(&[]));
    machines.iter().for_each(|machine| machine.wait_for_status(true, &["duplex", "All is well"]));
    machines.iter().for_each(|machine| machine.signal(Signal::TERM));
    assert!(machines.iter_mut().all(Machine::ended));
    for machine in &mut machines {
        machine.edit(|text| text.replace("16 MiB", "32 MiB"));
        machine.start(&[]);
    }
    let said = "appliance.toml says 33554432 bytes, and it has 16777216";
    for machine in &machines {
        machine.wait_for_status(false, &["duplex", said]);
        wait("the line", || if machine.log().contains(said) { Ok(()) } else { Err(machine.log()) });
    }
}

#[test]
fn the_end_of_its_terminal_ends_it_cleanly_unless_that_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let mut machines = Machine::pair(folder.path());
    machines[0].start(&[]);
    // As nohup does.
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(binary().unwrap());
    shell.args(["run", "--controller", "beta", "--config"]).arg(machines[1].config());
    let log = fs::File::create(machines[1].folder.join("log")).unwrap();
    machines[1].child =
        Some(shell.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    machines.iter().for_each(|machine| machine.wait_for_status(true, &["duplex"]));
    machines[1].signal(Signal::HUP);
    machines[0].signal(Signal::HUP);
    assert!(machines[0].ended(), "{}", machines[0].log());
    assert!(machines[0].log().contains("ended cleanly"), "{}", machines[0].log());
    machines[1].wait_for_status(false, &["alpha was stopped cleanly"]);
    machines[1].signal(Signal::TERM);
    machines[1].ended();
}

/// A terminal that closes sends SIGHUP to its shell only. The shell sends it on to its jobs and ends, and then the
/// kernel sends it to the job in the foreground once more.
#[test]
fn a_terminal_that_closes_says_so_twice_and_the_end_is_clean_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let mut machines = Machine::pair(folder.path());
    machines.iter_mut().for_each(|machine| machine.start(&[]));
    machines.iter().for_each(|machine| machine.wait_for_status(true, &["duplex"]));
    let text = fs::read_to_string(machines[0].config()).unwrap();
    let portal = text.split('"').find_map(|part| part.parse::<SocketAddr>().ok()).unwrap();
    // A host that is logged in is asked to leave first.
    let _host = Session::connect(portal, settings("host")).unwrap();
    machines[0].signal(Signal::HUP);
    thread::sleep(Duration::from_millis(5));
    machines[0].signal(Signal::HUP);
    let clean = machines[0].ended();
    assert!(clean && machines[0].log().contains("ended cleanly"), "{}", machines[0].log());
}

/// A terminal that was stopped with Ctrl-S, a pager that is not read on, a journal whose disk hangs.
#[test]
fn a_log_that_nobody_reads_keeps_no_host_from_being_served() {
    let folder = tempfile::tempdir().unwrap();
    let mut machines = Machine::pair(folder.path());
    machines[1].start(&[]);
    // With more lines it does not take as long until nothing fits.
    let mut command = machines[0].command();
    command.env("RUST_LOG", "debug").stderr(Stdio::piped());
    machines[0].child = Some(command.spawn().unwrap());
    machines.iter().for_each(|machine| machine.wait_for_status(true, &["duplex"]));
    let text = fs::read_to_string(machines[0].config()).unwrap();
    let portal = text.split('"').find_map(|part| part.parse::<SocketAddr>().ok()).unwrap();
    let begun = Instant::now();
    for number in 0..2000 {
        let served = Session::connect(portal, settings(&format!("host{number}"))).and_then(Session::logout);
        let ended = machines[0].child.as_mut().unwrap().try_wait().unwrap();
        assert!(served.is_ok(), "host {number}: {served:?} after {:?}; ended: {ended:?}", begun.elapsed());
    }
}

#[test]
fn a_log_in_json_has_an_object_a_line_and_outages_are_warnings_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut machines = Machine::pair(folder.path());
    machines[0].start(&["--log", "json"]);
    machines[1].child = Some(machines[1].command().env("RUST_LOG", "warn").spawn().unwrap());
    machines.iter().for_each(|machine| machine.wait_for_status(true, &["duplex"]));
    machines[1].signal(Signal::KILL);
    machines[1].ended();
    let outage = wait("the outage", || {
        let log = machines[0].log();
        let lines = log.lines().filter(|line| line.starts_with('{'));
        let objects: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        let about =
            |it: &Value| it["message"].as_str().is_some_and(|text| text.contains("serves its hosts alone"));
        objects.into_iter().find(about).ok_or(log)
    });
    assert_eq!(outage["level"], "WARN", "{outage}");
    machines[1].start(&[]);
    machines.iter().for_each(|machine| machine.wait_for_status(true, &["duplex"]));
    machines[0].signal(Signal::KILL);
    machines[0].ended();
    machines[1].signal(Signal::KILL);
    machines[1].ended();
    // Only warnings and worse were asked for, and the outage is among them.
    machines[1].child = Some(machines[1].command().env("RUST_LOG", "warn").spawn().unwrap());
    wait("the outage", || {
        let log = machines[1].log();
        if log.lines().any(|line| line.contains("ERROR") && line.contains("refusing")) {
            Ok(())
        } else {
            Err(log)
        }
    });
}

#[test]
fn a_peer_that_is_stopped_is_told_from_one_that_does_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut machines = Machine::pair(folder.path());
    machines.iter_mut().for_each(|machine| machine.start(&[]));
    machines.iter().for_each(|machine| machine.wait_for_status(true, &["duplex"]));
    machines[1].signal(Signal::STOP);
    machines[0].wait_for_status(false, &["beta says nothing", "kill -CONT"]);
    machines[1].signal(Signal::CONT);
    machines.iter().for_each(|machine| machine.wait_for_status(true, &["duplex"]));
    machines[1].signal(Signal::KILL);
    machines[1].ended();
    machines[0].wait_for_status(false, &["beta does not run. Start it"]);
}

#[test]
fn a_refill_is_never_called_well() {
    let folder = tempfile::tempdir().unwrap();
    let mut machines = Machine::pair(folder.path());
    machines.iter().for_each(|machine| machine.edit(|text| text.replace("16 MiB", "512 MiB")));
    machines.iter_mut().for_each(|machine| machine.start(&[]));
    machines.iter().for_each(|machine| machine.wait_for_status(true, &["duplex"]));
    machines[1].signal(Signal::KILL);
    machines[1].ended();
    machines[0].wait_for_status(false, &["suspended", "serves its hosts alone"]);
    // Content that takes a moment to copy, and is not there to be kept.
    let volume =
        fs::File::options().write(true).open(machines[0].folder.join("state/alpha/data0.volume")).unwrap();
    let piece = vec![7; 1 << 20];
    for at in 0..448 {
        std::os::unix::fs::FileExt::write_all_at(&volume, &piece, at << 20).unwrap();
    }
    machines[1].start(&[]);
    let mut copying = 0;
    wait("the end of the copy", || {
        let seen = machines.each_ref().map(Machine::status);
        // Main's own view: what the other heard of it is up to a second old, when both are whole already.
        for (ok, text) in &seen[..1] {
            let copy = text.contains(" alpha copy ");
            copying += usize::from(copy);
            assert!(!copy || (!ok && text.contains("is being refilled")), "{text}");
        }
        if seen.iter().all(|(ok, _)| *ok) { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    assert!(copying > 0, "the copy was too fast to be seen");
}

#[test]
fn a_start_that_fails_says_what_to_do_next_about_its_cause() {
    let folder = tempfile::tempdir().unwrap();
    let [mut alpha, mut beta] = Machine::pair(folder.path());
    // A pipe in the place of a secret: nobody waits for what never comes.
    let pipe = alpha.folder.join("secret");
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(&pipe).status().unwrap().success());
    let host = "[[access.host]]\nname = \"iqn.1993-08.org.debian:a\"\nsecret_file = \"secret\"\n";
    alpha.edit(|text| text + host);
    alpha.start(&[]);
    assert!(!alpha.ended());
    assert!(alpha.said().contains("it is not a file"), "{}", alpha.log());
    fs::remove_file(&pipe).unwrap();
    // A link in the place of the lock file.
    alpha.edit(|text| text.replace(host, ""));
    let (state, precious) = (alpha.folder.join("state/alpha"), alpha.folder.join("precious"));
    fs::create_dir_all(&state).unwrap();
    fs::write(&precious, "precious").unwrap();
    let _ = fs::remove_file(state.join("lock"));
    std::os::unix::fs::symlink(&precious, state.join("lock")).unwrap();
    alpha.start(&[]);
    assert!(!alpha.ended());
    assert!(alpha.said().contains("a symbolic link"), "{}", alpha.log());
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    fs::remove_file(state.join("lock")).unwrap();
    // A folder of another user, which root could use all the same.
    if std::os::unix::fs::chown(&state, Some(12_345), None).is_ok() {
        alpha.start(&[]);
        assert!(!alpha.ended());
        assert!(alpha.said().contains("belongs to the user with the number 12345"), "{}", alpha.log());
    }
    // An address that is taken, and one file for two LUNs.
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    beta.edit(|text| {
        let portals = text.rfind("portals = [").unwrap();
        let end = portals + text[portals..].find('\n').unwrap();
        format!("{}portals = [\"127.0.0.1:{port}\"]{}", &text[..portals], &text[end..])
    });
    beta.start(&[]);
    assert!(!beta.ended());
    assert!(
        beta.said().contains("`ss -ltnp` names it") || beta.said().contains("something else listens"),
        "{}",
        beta.log()
    );
}
