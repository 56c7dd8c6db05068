//! A real appliance for tests: the built binary under a configuration of its own on free loopback ports.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The target name of every appliance of the tests.
pub const IQN: &str = "iqn.2026-11.com.example:tested";

/// How long an appliance may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at its state.
const POLL: Duration = Duration::from_millis(20);

/// How the controllers run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Processes {
    /// Both in one process.
    One,
    /// Each in its own.
    Two,
}

/// A LUN of a tested appliance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lun {
    /// Its number; its name is `lun` and the number.
    pub number: u16,
    /// Size in MiB.
    pub mib: u64,
    /// 0 or 1: which controller is main.
    pub main: usize,
    /// Whether both keep a copy.
    pub mirror: bool,
}

/// A running appliance. It is killed when it is dropped without [`Appliance::stop`].
#[derive(Debug)]
pub struct Appliance {
    folder: PathBuf,
    binary: PathBuf,
    luns: Vec<Lun>,
    processes: Processes,
    children: Vec<Child>,
    /// How many files each process may have open, if that is less than the system gives.
    files: Option<u32>,
    /// The portal of each controller.
    pub portals: [SocketAddr; 2],
}

/// The names of the two controllers.
const NAMES: [&str; 2] = ["alpha", "beta"];

impl Appliance {
    /// Starts an appliance in a fresh folder and waits until every LUN is served on both sides.
    pub fn start(name: &str, luns: &[Lun], processes: Processes) -> io::Result<Self> {
        Self::start_with(name, luns, processes, "", &[])
    }

    /// The same with more keys for the LUN of a number: whole lines of its section.
    pub fn start_with_keys(
        name: &str,
        luns: &[Lun],
        processes: Processes,
        keys: impl Fn(u16) -> &'static str,
    ) -> io::Result<Self> {
        Self::start_all(name, luns, processes, "", &[], keys)
    }

    /// The same with more at the end of its configuration, and secrets in its folder: names and contents.
    pub fn start_with(
        name: &str,
        luns: &[Lun],
        processes: Processes,
        more: &str,
        secrets: &[(&str, &str)],
    ) -> io::Result<Self> {
        Self::start_all(name, luns, processes, more, secrets, |_| "")
    }

    /// As [`Appliance::start_with_keys`], without waiting for LUNs: some will be refused.
    pub fn start_unserved(
        name: &str,
        luns: &[Lun],
        processes: Processes,
        keys: impl Fn(u16) -> &'static str,
    ) -> io::Result<Self> {
        Self::prepare(name, luns, processes, "", &[], keys)?.spawned()
    }

    /// Two processes whose folder is made ready by `prepare` before they start.
    pub fn start_prepared(
        name: &str,
        luns: &[Lun],
        prepare: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<Self> {
        let appliance = Self::prepare(name, luns, Processes::Two, "", &[], |_| "")?;
        prepare(&appliance.folder)?;
        let mut appliance = appliance.spawned()?;
        appliance.wait_until_served()?;
        Ok(appliance)
    }

    /// Two processes that may have so many files open each.
    pub fn start_with_files(name: &str, luns: &[Lun], files: u32) -> io::Result<Self> {
        let mut appliance = Self::prepare(name, luns, Processes::Two, "", &[], |_| "")?;
        appliance.files = Some(files);
        let mut appliance = appliance.spawned()?;
        appliance.wait_until_served()?;
        Ok(appliance)
    }

    /// One whose configuration `more` completes with LUNs, over a state folder that `prepare` makes in the folder it is
    /// given. `luns` tells their order, and which are mirrored.
    pub fn start_over(name: &str, luns: &[Lun], more: &str, prepare: impl FnOnce(&Path)) -> io::Result<Self> {
        let mut appliance = Self::prepare(name, &[], Processes::Two, more, &[], |_| "")?;
        appliance.luns = luns.to_vec();
        prepare(&appliance.folder);
        let mut appliance = appliance.spawned()?;
        appliance.wait_until_served()?;
        Ok(appliance)
    }

    fn start_all(
        name: &str,
        luns: &[Lun],
        processes: Processes,
        more: &str,
        secrets: &[(&str, &str)],
        keys: impl Fn(u16) -> &'static str,
    ) -> io::Result<Self> {
        let mut appliance = Self::prepare(name, luns, processes, more, secrets, keys)?.spawned()?;
        appliance.wait_until_served()?;
        Ok(appliance)
    }

    fn prepare(
        name: &str,
        luns: &[Lun],
        processes: Processes,
        more: &str,
        secrets: &[(&str, &str)],
        keys: impl Fn(u16) -> &'static str,
    ) -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("twinlun-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let ports = free_ports()?;
        let portals = [ports[0], ports[1]];
        fs::write(folder.join("appliance.toml"), configuration(luns, &ports, keys) + more)?;
        for (name, secret) in secrets {
            fs::write(folder.join(name), secret)?;
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600))?;
        }
        let luns = luns.to_vec();
        Ok(Self { folder, binary: binary()?, luns, processes, children: Vec::new(), files: None, portals })
    }

    fn spawned(mut self) -> io::Result<Self> {
        match self.processes {
            Processes::One => self.spawn(&[])?,
            Processes::Two => {
                for name in NAMES {
                    self.spawn(&["--controller", name])?;
                }
            }
        }
        Ok(self)
    }

    fn spawn(&mut self, arguments: &[&str]) -> io::Result<()> {
        let log = File::create(self.log(self.children.len()))?;
        let mut command = match self.files {
            None => Command::new(&self.binary),
            Some(files) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")]).arg(&self.binary);
                shell
            }
        };
        let child = command
            .arg("run")
            .args(arguments)
            .arg("--config")
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.children.push(child);
        Ok(())
    }

    fn config(&self) -> PathBuf {
        self.folder.join("appliance.toml")
    }

    fn log(&self, process: usize) -> PathBuf {
        self.folder.join(format!("log{process}"))
    }

    /// The processes it runs in.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    /// Memory of all its processes that is neither shared nor in files, in bytes.
    pub fn memory(&self) -> io::Result<u64> {
        let mut bytes = 0;
        for process in self.processes() {
            let status = fs::read_to_string(format!("/proc/{process}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
            let kib =
                line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
            bytes += 1024 * kib.ok_or_else(|| io::Error::other("no RssAnon in /proc"))?;
        }
        Ok(bytes)
    }

    /// A folder for the test's own files, gone with the appliance.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The URL of a LUN through one of the controllers, as libiscsi and QEMU take it.
    #[must_use]
    pub fn url(&self, controller: usize, lun: u16) -> String {
        format!("iscsi://{}/{IQN}/{lun}", self.portals[controller])
    }

    /// `twinlun status` as it is here: whether all is well by its exit status, and parsed.
    pub fn judged(&self) -> io::Result<(bool, serde_json::Value)> {
        let output = self.twinlun(&["status", "--json"])?;
        Ok((output.status.success(), serde_json::from_slice(&output.stdout).map_err(io::Error::other)?))
    }

    /// A command of `twinlun`.
    pub fn twinlun(&self, arguments: &[&str]) -> io::Result<Output> {
        Command::new(&self.binary).args(arguments).arg("--config").arg(self.config()).output()
    }

    /// `twinlun status --json`, parsed.
    pub fn status(&self) -> io::Result<serde_json::Value> {
        Ok(self.judged()?.1)
    }

    /// What `twinlun check` prints, for people.
    pub fn check(&self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.twinlun(&["check"])?.stdout).into_owned())
    }

    /// `twinlun status` as it is on the machine of one controller, where the other's control socket is not: for
    /// people, and as JSON.
    pub fn status_on(&self, controller: usize) -> io::Result<(String, serde_json::Value)> {
        let machine = self.folder.join(format!("machine{controller}"));
        let state = machine.join("state");
        if !state.exists() {
            fs::create_dir_all(&state)?;
            fs::copy(self.config(), machine.join("appliance.toml"))?;
            let name = NAMES[controller];
            std::os::unix::fs::symlink(self.folder.join("state").join(name), state.join(name))?;
        }
        let ask = |arguments: &[&str]| {
            let mut command = Command::new(&self.binary);
            command.arg("status").args(arguments).arg("--config").arg(machine.join("appliance.toml")).output()
        };
        // The screen comes second: what the JSON says to have come about it shows too.
        let json = serde_json::from_slice(&ask(&["--json"])?.stdout).map_err(io::Error::other)?;
        Ok((String::from_utf8_lossy(&ask(&[])?.stdout).into_owned(), json))
    }

    fn wait_until_served(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if status.as_ref().is_ok_and(|status| self.served(status)) {
                return Ok(());
            }
            let ended = self.children.iter_mut().any(|child| !matches!(child.try_wait(), Ok(None)));
            if ended || Instant::now() > deadline {
                return Err(io::Error::other(format!("not served: {status:?}\n{}", self.logs())));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Every LUN serves on both sides, and a mirrored one is DUPLEX on both.
    fn served(&self, status: &serde_json::Value) -> bool {
        (0..2).all(|controller| {
            self.luns.iter().enumerate().all(|(at, lun)| {
                let seen = &status["controllers"][controller]["status"]["luns"][at];
                seen["serving"] == true && (!lun.mirror || seen["status"] == "duplex")
            })
        })
    }

    /// What the processes said.
    #[must_use]
    pub fn logs(&self) -> String {
        let log = |process| fs::read_to_string(self.log(process)).unwrap_or_default();
        (0..self.children.len()).map(log).collect::<Vec<_>>().join("\n")
    }

    /// Kills one of its processes.
    pub fn kill(&mut self, process: usize) -> io::Result<()> {
        self.children[process].kill()?;
        self.children[process].wait().map(|_| ())
    }

    /// Asks one of its processes to end cleanly: SIGTERM.
    pub fn end(&self, process: usize) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.children[process]), Signal::TERM)?)
    }

    /// Starts a process that has ended again, and waits until every LUN is served on both sides.
    pub fn come_back(&mut self, process: usize) -> io::Result<()> {
        self.start_again(process).and_then(|()| self.wait_until_served())
    }

    /// Starts a process that was killed again.
    pub fn start_again(&mut self, process: usize) -> io::Result<()> {
        let children = std::mem::take(&mut self.children);
        let arguments =
            if self.processes == Processes::One { vec![] } else { vec!["--controller", NAMES[process]] };
        let spawned = self.spawn(&arguments);
        let started = std::mem::replace(&mut self.children, children);
        spawned?;
        self.children.splice(process..=process, started);
        Ok(())
    }

    /// Kills all of its processes, starts it again, and waits until every LUN is served on both sides.
    pub fn crash(mut self) -> io::Result<Self> {
        for mut child in std::mem::take(&mut self.children) {
            child.kill()?;
            child.wait()?;
        }
        let mut appliance = self.spawned()?;
        appliance.wait_until_served()?;
        Ok(appliance)
    }

    /// As after a power cut: all of its processes are killed, and one of its controllers is started again.
    pub fn crash_and_start_one(mut self, controller: usize) -> io::Result<Self> {
        for mut child in std::mem::take(&mut self.children) {
            child.kill()?;
            child.wait()?;
        }
        self.spawn(&["--controller", NAMES[controller]])?;
        Ok(self)
    }

    /// Starts the other one, and waits until every LUN is served on both sides.
    pub fn start_other(&mut self, controller: usize) -> io::Result<()> {
        self.spawn(&["--controller", NAMES[controller]])?;
        self.wait_until_served()
    }

    /// Waits until one of its processes ends by itself, and tells how.
    pub fn wait_for_end(
        &mut self,
        process: usize,
        patience: Duration,
    ) -> io::Result<std::process::ExitStatus> {
        let deadline = Instant::now() + patience;
        let child = self.children.get_mut(process).ok_or(io::ErrorKind::NotFound)?;
        loop {
            match child.try_wait()? {
                Some(status) => return Ok(status),
                None if Instant::now() > deadline => return Err(io::Error::other("it did not end")),
                None => std::thread::sleep(POLL),
            }
        }
    }

    /// Ends it with SIGTERM, waits for the clean end, and gives the volumes a caller may look at.
    pub fn stop(mut self) -> io::Result<Stopped> {
        (0..self.children.len()).try_for_each(|process| self.end(process))?;
        let deadline = Instant::now() + PATIENCE;
        let mut children = std::mem::take(&mut self.children);
        for child in &mut children {
            loop {
                match child.try_wait()? {
                    Some(status) if status.success() => break,
                    Some(status) => return Err(io::Error::other(format!("it ended with {status}"))),
                    None if Instant::now() > deadline => {
                        child.kill()?;
                        child.wait()?;
                        return Err(io::Error::other("it did not end after SIGTERM"));
                    }
                    None => std::thread::sleep(POLL),
                }
            }
        }
        Ok(Stopped(self))
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the appliance in {} said:\n{}", self.folder.display(), self.logs());
        }
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// An appliance that ended cleanly.
#[derive(Debug)]
pub struct Stopped(Appliance);

impl Stopped {
    /// Its folder, with the file that describes it and its state.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// Starts it again and waits until every LUN is served on both sides.
    pub fn start(self) -> io::Result<Appliance> {
        let mut appliance = self.0.spawned()?;
        appliance.wait_until_served()?;
        Ok(appliance)
    }

    /// Starts it again, without waiting for LUNs: some will be refused.
    pub fn start_unserved(self) -> io::Result<Appliance> {
        self.0.spawned()
    }

    /// The state folder of one of the controllers.
    #[must_use]
    pub fn state(&self, controller: usize) -> PathBuf {
        self.0.folder.join("state").join(NAMES[controller])
    }

    /// The volume of a LUN at one of the controllers: byte n of the LUN is byte n of the file.
    pub fn volume(&self, controller: usize, lun: u16) -> io::Result<File> {
        File::open(self.state(controller).join(format!("lun{lun}.volume")))
    }
}

fn configuration(luns: &[Lun], ports: &[SocketAddr; 4], keys: impl Fn(u16) -> &'static str) -> String {
    let mut text = format!("[appliance]\niqn = \"{IQN}\"\nstate = \"state\"\n");
    for (at, name) in NAMES.iter().enumerate() {
        text += &format!(
            "[[controller]]\nname = \"{name}\"\nportals = [\"{}\"]\ninterlink = \"{}\"\n",
            ports[at],
            ports[at + 2]
        );
    }
    for lun in luns {
        text += &format!(
            "[[lun]]\nnumber = {}\nname = \"lun{}\"\nsize = \"{} MiB\"\nmain = \"{}\"\nmirror = {}\n",
            lun.number, lun.number, lun.mib, NAMES[lun.main], lun.mirror
        );
        text += keys(lun.number);
    }
    text
}

/// Four loopback addresses that were free a moment ago.
pub fn free_ports() -> io::Result<[SocketAddr; 4]> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners = [listen()?, listen()?, listen()?, listen()?];
    let address = |listener: &TcpListener| listener.local_addr();
    Ok([address(&listeners[0])?, address(&listeners[1])?, address(&listeners[2])?, address(&listeners[3])?])
}

/// The newest `twinlun` among the build profiles beside the running test, or what `TWINLUN` names.
pub fn binary() -> io::Result<PathBuf> {
    if let Some(path) = std::env::var_os("TWINLUN") {
        return Ok(path.into());
    }
    // build/PROFILE/deps/TEST or build/PROFILE/COMMAND
    let test = std::env::current_exe()?;
    let age = |path: &PathBuf| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let builds = test.ancestors().skip(2).take(2);
    let candidates = builds.flat_map(|build| ["debug", "release"].map(|it| build.join(it).join("twinlun")));
    candidates.filter(|path| path.exists()).max_by_key(age).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "the tests start the binary twinlun: build it first, with `cargo build --bins`",
        )
    })
}
