//! What a service manager hears of a controller: systemd's protocol (sd_notify(3)), spoken by the built binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use twinlun_tests::appliance::binary;

/// What is waited for has come by then, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

struct Supervised(Child);

impl Drop for Supervised {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _gone_already = self.0.wait();
    }
}

#[test]
fn a_service_manager_hears_that_it_is_ready_that_it_gets_on_and_that_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [alpha, beta, alpha_link, beta_link] = listeners.map(|it| it.local_addr().unwrap());
    let config = folder.path().join("appliance.toml");
    let text = format!(
        "[appliance]\niqn = \"iqn.2026-11.com.example:tested\"\n\
         [[controller]]\nname = \"alpha\"\nportals = [\"{alpha}\"]\ninterlink = \"{alpha_link}\"\n\
         [[controller]]\nname = \"beta\"\nportals = [\"{beta}\"]\ninterlink = \"{beta_link}\"\n\
         [[lun]]\nnumber = 0\nname = \"data0\"\nsize = \"8 MiB\"\nmain = \"alpha\"\n"
    );
    fs::write(&config, text).unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut running = Supervised(
        Command::new(binary().unwrap())
            .args(["run", "--config"])
            .arg(&config)
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "1000000")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let hears = |what: &str| {
        let mut message = [0; 4096];
        loop {
            let bytes =
                manager.recv(&mut message).unwrap_or_else(|error| panic!("waiting for {what}: {error}"));
            let said = String::from_utf8_lossy(&message[..bytes]).into_owned();
            if said.lines().any(|line| line == what) {
                return;
            }
        }
    };
    hears("READY=1");
    hears("STATUS=alpha: 1 of 1 LUNs served, interlink up; beta: 1 of 1 LUNs served, interlink up");
    for _ in 0..3 {
        hears("WATCHDOG=1");
    }
    kill_process(Pid::from_child(&running.0), Signal::TERM).unwrap();
    hears("STOPPING=1");
    assert!(running.0.wait().unwrap().success());
}
