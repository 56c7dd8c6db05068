//! The two processes, under the shipped `appliance.toml` with its addresses changed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::network::Network;
use super::{Failure, MAIN, NAMES, SUB};
use crate::appliance;

/// The configuration that comes with Twinlun.
const SHIPPED: &str = include_str!("../../../appliance.toml");

/// The target name in it.
pub const IQN: &str = "iqn.2026-11.com.example:demo";

/// The volume of its LUN.
const VOLUME: &str = "data0.volume";

/// Its capacity in bytes.
pub const LUN_BYTES: u64 = 1 << 30;

/// How long the pair may take to any state: a refill of the whole LUN is the longest.
const PATIENCE: Duration = Duration::from_secs(90);

/// Between two looks.
const POLL: Duration = Duration::from_millis(20);

/// Ports tried: below those the system gives to outgoing connections, so that a killed controller's stay free.
const PORTS: std::ops::Range<u32> = 20_000..32_000;

/// One screen of `twinlun status`, and how it was come by.
#[derive(Clone, Debug)]
pub struct Screen {
    /// The text.
    pub text: String,
    /// The exit code: 0 if all is well.
    pub code: i32,
    /// How long it took.
    pub took: Duration,
}

/// Both controllers' views, by controller; null for one that could not be asked.
pub type Views = [Value; 2];

/// A running pair. Whatever runs is killed when it is dropped.
#[derive(Debug)]
pub struct Pair {
    /// The folder with each controller's `appliance.toml`: one and the same without namespaces.
    machines: [PathBuf; 2],
    root: PathBuf,
    binary: PathBuf,
    network: Option<Network>,
    children: [Option<Child>; 2],
    /// The portal of each controller.
    pub portals: [SocketAddr; 2],
}

impl Pair {
    /// Starts both and waits until they are DUPLEX. With a network each is a machine of its own, with its own
    /// copy of the configuration and its own state folder, and the interlink is encrypted.
    pub fn start(name: &str, network: Option<Network>) -> Result<Self, Failure> {
        Self::start_with(name, network, "")
    }

    /// The same on one machine, with an interlink that is encrypted all the same.
    pub fn start_encrypted(name: &str) -> Result<Self, Failure> {
        Self::start_with(name, None, "\n[access]\nplain_interlink = false\n")
    }

    fn start_with(name: &str, network: Option<Network>, access: &str) -> Result<Self, Failure> {
        let root = std::env::temp_dir().join(format!("twinlun-{}-{name}", std::process::id()));
        fs::create_dir_all(&root)?;
        let (addresses, access) = match &network {
            None => (free_ports()?, access),
            Some(network) => (
                [
                    format!("{}:3260", network.portal(0)),
                    format!("{}:3261", network.portal(1)),
                    format!("{}:3270", network.interlink(0)),
                    format!("{}:3271", network.interlink(1)),
                ],
                "\n[access]\nopen = true\n",
            ),
        };
        let mut configuration = SHIPPED.to_owned();
        for (shipped, address) in
            ["127.0.0.1:3260", "127.0.0.1:3261", "127.0.0.1:3270", "127.0.0.1:3271"].iter().zip(&addresses)
        {
            configuration = configuration.replace(shipped, address);
        }
        configuration += access;
        let machine = |side: usize| if network.is_some() { root.join(NAMES[side]) } else { root.clone() };
        let machines = [machine(0), machine(1)];
        for machine in &machines {
            fs::create_dir_all(machine)?;
            fs::write(machine.join("appliance.toml"), &configuration)?;
        }
        let portal = |side: usize| addresses[side].parse().map_err(io::Error::other);
        let portals = [portal(0)?, portal(1)?];
        let binary = appliance::binary()?;
        let mut pair = Self { machines, root, binary, network, children: [None, None], portals };
        if !access.is_empty() {
            pair.make_certificates()?;
        }
        pair.spawn(MAIN)?;
        pair.spawn(SUB)?;
        pair.wait_until_duplex()?;
        Ok(pair)
    }

    /// Makes the certificates on the first machine and moves the other controller's to its own.
    fn make_certificates(&self) -> io::Result<()> {
        let config = self.machines[0].join("appliance.toml");
        let made = Command::new(&self.binary).args(["interlink", "init", "--config"]).arg(config).output()?;
        if !made.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&made.stderr).into_owned()));
        }
        let [from, to] = self.machines.each_ref().map(|machine| machine.join("state").join(NAMES[SUB]));
        if from == to {
            return Ok(());
        }
        fs::create_dir_all(&to)?;
        fs::rename(from.join("interlink.pem"), to.join("interlink.pem"))
    }

    /// The namespaces it runs in.
    #[must_use]
    pub const fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// Starts one controller.
    pub fn spawn(&mut self, side: usize) -> io::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.log(side))?;
        let mut command = match &self.network {
            None => Command::new(&self.binary),
            Some(network) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &network.namespaces[side]]).arg(&self.binary);
                command
            }
        };
        let child = command
            .args(["run", "--controller", NAMES[side], "--config"])
            .arg(self.machines[side].join("appliance.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.children[side] = Some(child);
        Ok(())
    }

    fn log(&self, side: usize) -> PathBuf {
        self.root.join(format!("{}.log", NAMES[side]))
    }

    /// Sends a signal to one controller.
    pub fn signal(&self, side: usize, signal: Signal) -> io::Result<()> {
        let child = self.children[side].as_ref().ok_or_else(|| io::Error::other("it does not run"))?;
        kill_process(Pid::from_child(child), signal)?;
        Ok(())
    }

    /// SIGKILL; it is gone when this returns.
    pub fn kill(&mut self, side: usize) -> io::Result<()> {
        if let Some(mut child) = self.children[side].take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM; it has ended, cleanly, when this returns.
    pub fn end(&mut self, side: usize) -> Result<(), Failure> {
        self.signal(side, Signal::TERM)?;
        self.wait_for_end(side)
    }

    fn wait_for_end(&mut self, side: usize) -> Result<(), Failure> {
        let Some(mut child) = self.children[side].take() else { return Ok(()) };
        let begun = Instant::now();
        loop {
            match child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    let what = format!("{} ended with {status}\n{}", NAMES[side], self.logs());
                    return Err(io::Error::other(what).into());
                }
                None if begun.elapsed() > PATIENCE => {
                    self.children[side] = Some(child);
                    return Err(self.never(format!("{} to end after SIGTERM", NAMES[side]), begun));
                }
                None => std::thread::sleep(POLL),
            }
        }
    }

    /// Takes a killed controller's volume away.
    pub fn remove_volume(&self, side: usize) -> io::Result<()> {
        fs::remove_file(self.volume(side))
    }

    /// Where a controller's volume is.
    #[must_use]
    pub fn volume(&self, side: usize) -> PathBuf {
        self.machines[side].join("state").join(NAMES[side]).join(VOLUME)
    }

    /// `twinlun status` as a person on one machine sees it.
    pub fn screen(&self, side: usize) -> io::Result<Screen> {
        let begun = Instant::now();
        let output = self.status(side, &[]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(Screen { text, code: output.status.code().unwrap_or(-1), took: begun.elapsed() })
    }

    fn status(&self, side: usize, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("status").args(arguments).arg("--config").arg(self.machines[side].join("appliance.toml"));
        command
    }

    fn json(&self, side: usize) -> io::Result<Value> {
        let output = self.status(side, &["--json"]).output()?;
        serde_json::from_slice(&output.stdout).map_err(io::Error::other)
    }

    /// What each says of itself.
    pub fn views(&self) -> io::Result<Views> {
        let first = self.json(0)?;
        let second = if self.network.is_some() { self.json(1)? } else { first.clone() };
        Ok([first["controllers"][0]["status"].clone(), second["controllers"][1]["status"].clone()])
    }

    /// Waits until both say so.
    pub fn wait_until(&self, what: &str, is: impl Fn(&Views) -> bool) -> Result<Duration, Failure> {
        let begun = Instant::now();
        loop {
            if self.views().is_ok_and(|views| is(&views)) {
                return Ok(begun.elapsed());
            }
            if begun.elapsed() > PATIENCE {
                return Err(self.never(what.to_owned(), begun));
            }
            std::thread::sleep(POLL);
        }
    }

    fn never(&self, what: String, begun: Instant) -> Failure {
        let screen = self.screen(0).map(|screen| screen.text).unwrap_or_default();
        Failure::Never { what, waited: begun.elapsed(), seen: screen + &self.logs() }
    }

    /// Waits until both are DUPLEX under the preferred main and serve.
    pub fn wait_until_duplex(&self) -> Result<Duration, Failure> {
        self.wait_until("both controllers say DUPLEX, and the preferred main is main", is_duplex)
    }

    /// What the processes said lately.
    #[must_use]
    pub fn logs(&self) -> String {
        let lines = |side: usize| {
            let log = fs::read_to_string(self.log(side)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
            format!("--- {}\n{}\n", NAMES[side], last.join("\n"))
        };
        lines(0) + &lines(1)
    }

    /// Ends both cleanly at once; the volumes may be looked at until this is dropped.
    pub fn stop(&mut self) -> Result<(), Failure> {
        self.signal(MAIN, Signal::TERM)?;
        self.signal(SUB, Signal::TERM)?;
        self.wait_for_end(MAIN)?;
        self.wait_for_end(SUB)
    }

    /// The volume of a controller.
    pub fn open_volume(&self, side: usize) -> io::Result<File> {
        File::open(self.volume(side))
    }

    /// Its folder, gone with it unless something failed.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.root
    }
}

/// Lines of each log shown with a failure.
const LOG_LINES: usize = 40;

/// The LUN as a controller sees it.
#[must_use]
pub fn lun(view: &Value) -> &Value {
    &view["luns"][0]
}

/// Both are DUPLEX under the preferred main and serve.
#[must_use]
pub fn is_duplex(views: &Views) -> bool {
    views.iter().all(|view| {
        let lun = lun(view);
        lun["status"] == "duplex" && lun["serving"] == true && lun["main"] == NAMES[MAIN]
    })
}

impl Drop for Pair {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn free_ports() -> io::Result<[String; 4]> {
    let mut ports = PORTS.cycle().skip((std::process::id() * 7 % 12_000) as usize).take(12_000);
    let mut free = || {
        let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        let port = ports.by_ref().map(|port| port as u16).find(is_free);
        port.map(|port| format!("127.0.0.1:{port}")).ok_or_else(|| io::Error::other("no port is free"))
    };
    Ok([free()?, free()?, free()?, free()?])
}
