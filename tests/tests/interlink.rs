//! Two machines whose interlinks do not fit together: each end refuses the other and says why, and what helps.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use twinlun_tests::appliance::binary;

const NAMES: [&str; 2] = ["alpha", "beta"];

/// What is waited for has come by then, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two folders in the place of two machines, each with its own configuration and state.
struct Machines {
    folder: tempfile::TempDir,
    ports: [SocketAddr; 4],
    children: Vec<Child>,
}

impl Machines {
    /// Each with this `[access]`.
    fn new(access: [&str; 2]) -> Self {
        let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = listeners.map(|listener| listener.local_addr().unwrap());
        let machines = Self { folder: tempfile::tempdir().unwrap(), ports, children: Vec::new() };
        for (side, access) in access.into_iter().enumerate() {
            machines.configure(side, access);
        }
        machines
    }

    fn machine(&self, side: usize) -> PathBuf {
        self.folder.path().join(NAMES[side])
    }

    fn certificates(&self, machine: usize, of: usize) -> PathBuf {
        self.machine(machine).join("state").join(NAMES[of]).join("interlink.pem")
    }

    fn configure(&self, side: usize, access: &str) {
        let [alpha, beta, alpha_link, beta_link] = &self.ports;
        let text = format!(
            "[appliance]\niqn = \"iqn.2026-11.com.example:tested\"\n\
             [[controller]]\nname = \"alpha\"\nportals = [\"{alpha}\"]\ninterlink = \"{alpha_link}\"\n\
             [[controller]]\nname = \"beta\"\nportals = [\"{beta}\"]\ninterlink = \"{beta_link}\"\n\
             [[lun]]\nnumber = 0\nname = \"data0\"\nsize = \"8 MiB\"\nmain = \"alpha\"\n[access]\n{access}\n"
        );
        fs::create_dir_all(self.machine(side)).unwrap();
        fs::write(self.machine(side).join("appliance.toml"), text).unwrap();
    }

    fn twinlun(&self, side: usize, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary().unwrap());
        command.args(arguments).arg("--config").arg(self.machine(side).join("appliance.toml"));
        command
    }

    /// What a command says on one machine, and whether it succeeded.
    fn says(&self, side: usize, arguments: &[&str]) -> (bool, String) {
        let output = self.twinlun(side, arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).split_whitespace().collect::<Vec<_>>().join(" "),
        )
    }

    /// `interlink init` on the machine of alpha, and what the operator then does.
    fn make_certificates(&self, more: &[&str]) {
        let (made, said) = self.says(0, &[&["interlink", "init"], more].concat());
        assert!(made, "{said}");
        fs::create_dir_all(self.certificates(1, 1).parent().unwrap()).unwrap();
        fs::rename(self.certificates(0, 1), self.certificates(1, 1)).unwrap();
    }

    /// Both controllers on one machine: they share the folder of their state.
    fn share_state(&self) {
        fs::create_dir(self.machine(0).join("state")).unwrap();
        std::os::unix::fs::symlink(self.machine(0).join("state"), self.machine(1).join("state")).unwrap();
    }

    fn start(&mut self) {
        for side in [0, 1] {
            let child = self.spawn(side);
            self.children.push(child);
        }
    }

    fn spawn(&self, side: usize) -> Child {
        let log = File::create(self.machine(side).join("log")).unwrap();
        self.twinlun(side, &["run", "--controller", NAMES[side]])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn end(&mut self) {
        for mut child in self.children.drain(..) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// What a controller says of its interlink, asked on its own machine.
    fn interlink(&self, side: usize) -> Value {
        let output = self.twinlun(side, &["status", "--json"]).output().unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        status["controllers"][side]["status"]["interlink"].clone()
    }

    fn wait_for(&self, side: usize, is: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let interlink = self.interlink(side);
            if is(&interlink) {
                return interlink;
            }
            let log = || fs::read_to_string(self.machine(side).join("log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "{} says {interlink}\n{}", NAMES[side], log());
        }
    }

    /// Waits until a controller refuses the other for this reason.
    fn wait_for_refusal(&self, side: usize, reason: &str) {
        self.wait_for(side, |interlink| {
            let said = interlink["reason"].as_str().unwrap_or_default();
            interlink["up"] == false && interlink["refused"] == true && said.contains(reason)
        });
    }

    fn wait_until_met(&self) {
        self.wait_until_met_as(true);
    }

    fn wait_until_met_as(&self, encrypted: bool) {
        for side in [0, 1] {
            self.wait_for(side, |interlink| interlink["up"] == true && interlink["encrypted"] == encrypted);
        }
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _gone_already = child.kill();
            let _gone_already = child.wait();
        }
    }
}

const ENCRYPTED: &str = "plain_interlink = false";

#[test]
fn certificates_of_two_runs_of_init_refuse_each_other_and_those_of_one_run_meet() {
    let mut machines = Machines::new([ENCRYPTED; 2]);
    for side in [0, 1] {
        let (right, said) = machines.says(side, &["check"]);
        assert!(!right && said.contains("run it on one of the two"), "{said}");
        let (started, said) = machines.says(side, &["run", "--controller", NAMES[side]]);
        assert!(!started && said.contains("interlink.pem is not there"), "{said}");
        let (made, said) = machines.says(side, &["interlink", "init"]);
        assert!(made, "{said}");
    }
    machines.start();
    // Who dialed saw the other's certificate, who was dialed the other's refusal, and each dials.
    machines.wait_for_refusal(0, "has another certificate than the one kept here for beta");
    machines.wait_for_refusal(1, "has another certificate than the one kept here for alpha");
    machines.end();
    machines.make_certificates(&["--renew"]);
    // Alpha's file of the run on beta's machine is of no use there.
    let (right, said) = machines.says(1, &["check"]);
    assert!(!right && said.contains("remove the other's file here"), "{said}");
    fs::remove_file(machines.certificates(1, 0)).unwrap();
    assert!(machines.says(1, &["check"]).0);
    machines.start();
    machines.wait_until_met();
    machines.end();
}

#[test]
fn a_controller_whose_certificate_is_out_of_date_hears_that_it_is_refused() {
    let mut machines = Machines::new([ENCRYPTED; 2]);
    machines.make_certificates(&[]);
    let kept = fs::read_to_string(machines.certificates(1, 1)).unwrap();
    machines.make_certificates(&["--renew"]);
    // Beta's old key and certificate, and alpha's new certificate: what beta takes is right, what it shows is not.
    let new = fs::read_to_string(machines.certificates(1, 1)).unwrap();
    let last = |text: &str| text.rfind("-----BEGIN CERTIFICATE").unwrap();
    let mixed = format!("{}{}", &kept[..last(&kept)], &new[last(&new)..]);
    fs::write(machines.certificates(1, 1), mixed).unwrap();
    machines.start();
    machines.wait_for_refusal(0, "has another certificate than the one kept here for beta");
    machines.wait_for_refusal(1, "alpha keeps another certificate for this controller");
}

#[test]
fn a_plain_interlink_and_an_encrypted_one_say_which_is_which() {
    let mut machines = Machines::new([ENCRYPTED; 2]);
    machines.make_certificates(&[]);
    for plain in [0, 1] {
        machines.configure(plain, "plain_interlink = true");
        machines.configure(1 - plain, ENCRYPTED);
        machines.start();
        machines.wait_for_refusal(plain, "encrypts the interlink and this controller does not");
        machines.wait_for_refusal(1 - plain, "does not encrypt the interlink and this controller encrypts");
        machines.end();
    }
    machines.configure(1, ENCRYPTED);
    machines.configure(0, ENCRYPTED);
    machines.start();
    machines.wait_until_met();
}

#[test]
fn without_encryption_two_machines_know_each_other_by_the_secret_of_init() {
    let mut machines = Machines::new(["plain_interlink = true"; 2]);
    // On loopback each makes its own, as two controllers on one machine make one together.
    machines.start();
    for side in [0, 1] {
        machines.wait_for_refusal(side, "proves itself with another secret than the one kept here");
    }
    machines.end();
    machines.make_certificates(&[]);
    machines.start();
    machines.wait_until_met_as(false);
    machines.end();
}

#[test]
fn off_loopback_nothing_starts_without_a_secret_and_check_says_so() {
    let mut machines = Machines::new(["plain_interlink = true"; 2]);
    // Addresses of no machine: the secret is missed before anything is listened on.
    for port in [2, 3] {
        machines.ports[port] = SocketAddr::from(([192, 0, 2, port as u8], 3270));
    }
    machines.configure(0, "plain_interlink = true");
    for arguments in [&["check"][..], &["run", "--controller", "alpha"]] {
        let (right, said) = machines.says(0, arguments);
        assert!(!right && said.contains("not the proof of who is at its other end"), "{said}");
    }
    machines.make_certificates(&[]);
    let (right, said) = machines.says(0, &["check"]);
    assert!(right && said.contains("crosses the interlink unencrypted"), "{said}");
}

/// Connections to one address that say nothing. Those that are closed are made anew at once.
struct Silence {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Silence {
    /// Begins it, and waits until every one of them is there.
    fn begin(address: SocketAddr, connections: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (connected, all) = mpsc::channel();
        let silent = || {
            let (over, connected) = (Arc::clone(&over), connected.clone());
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    if let Ok(mut socket) = TcpStream::connect(address) {
                        let _nobody_listens = connected.send(());
                        let _closed = socket.read(&mut [0; 64]);
                    }
                }
            })
        };
        let threads: Vec<_> = (0..connections).map(|_| silent()).collect();
        for _ in 0..connections {
            all.recv_timeout(PATIENCE).unwrap();
        }
        Self { over, threads }
    }

    /// Ends it. Every one of them has been closed by then, in its time.
    fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

#[test]
fn silent_connections_do_not_keep_a_restarted_pair_apart() {
    for encrypted in [false, true] {
        let access = if encrypted { ENCRYPTED } else { "" };
        let mut machines = Machines::new([access; 2]);
        if encrypted {
            machines.make_certificates(&[]);
        } else {
            machines.share_state();
        }
        machines.start();
        machines.wait_until_met_as(encrypted);
        let silence = Silence::begin(machines.ports[2], 64);
        let mut beta = machines.children.pop().unwrap();
        beta.kill().unwrap();
        beta.wait().unwrap();
        machines.wait_for(0, |interlink| interlink["up"] == false);
        let beta = machines.spawn(1);
        machines.children.push(beta);
        machines.wait_until_met_as(encrypted);
        silence.end();
        machines.wait_until_met_as(encrypted);
        machines.end();
    }
}

#[test]
fn strangers_keep_nobody_out_of_an_encrypted_interlink_and_get_nothing_in() {
    let mut machines = Machines::new([ENCRYPTED; 2]);
    machines.make_certificates(&[]);
    machines.start();
    machines.wait_until_met();
    let before = [0, 1].map(|side| machines.interlink(side));
    // A handshake that is cut anywhere, garbage instead of it, silence; several at a time.
    let hello = client_hello();
    let mut open = Vec::new();
    for round in 0..60_usize {
        let mut stranger = TcpStream::connect(machines.ports[2 + round % 2]).unwrap();
        let said = match round % 4 {
            0 => hello[..hello.len() * (round + 4) / 64].to_vec(),
            1 => (0..round * 40).map(|n| (n * 7919 % 251) as u8).collect(),
            2 => [hello.clone(), vec![22, 3, 3, 0xff, 0xff], vec![round as u8; 4000]].concat(),
            _ => Vec::new(),
        };
        // It may be closed at once.
        let _closed = stranger.write_all(&said);
        open.push(stranger);
    }
    for mut stranger in open {
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut heard = Vec::new();
        // By its end or by a reset: no stranger is kept.
        if let Err(error) = stranger.read_to_end(&mut heard) {
            assert!(error.kind() != std::io::ErrorKind::WouldBlock, "a stranger is still connected");
        }
        assert!(!heard.windows(4).any(|bytes| bytes == b"TWLI"));
    }
    assert_eq!([0, 1].map(|side| machines.interlink(side)), before);
    machines.end();
}

/// A ClientHello (RFC 8446 4.1.2) that goes on to be answered: TLS 1.3, x25519, ECDSA.
fn client_hello() -> Vec<u8> {
    let mut extensions: Vec<u8> = vec![0, 43, 0, 3, 2, 3, 4];
    extensions.extend([0, 10, 0, 4, 0, 2, 0, 29]);
    extensions.extend([0, 13, 0, 4, 0, 2, 4, 3]);
    extensions.extend([0, 51, 0, 38, 0, 36, 0, 29, 0, 32]);
    extensions.extend([9; 32]);
    let mut hello = vec![3, 3];
    hello.extend([5; 32]);
    hello.extend([0, 0, 2, 0x13, 1, 1, 0]);
    hello.extend((extensions.len() as u16).to_be_bytes());
    hello.extend(extensions);
    let mut record = vec![22, 3, 1];
    record.extend((hello.len() as u16 + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend((hello.len() as u16).to_be_bytes());
    record.extend(hello);
    record
}
