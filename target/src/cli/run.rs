//! `twinlun run`: starts controllers, says how hosts use them, then tells every change until it is asked to end.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use controller::plan::Side;
use controller::status::{ControllerStatus, LunStatus, Role};
use miette::Diagnostic;
use tracing_subscriber::EnvFilter;

use super::check;
use super::status::{interlink, word};
use super::supervisor::Supervisor;
use crate::config::Config;
use crate::run::{Appliance, StartError, Stopped, liveness};

/// What multipath-tools needs to join the two ways to a LUN, take the better one, and wait for main.
const MULTIPATH_CONF: &str = include_str!("multipath.conf");
/// How often changes are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The controllers are given this long to meet before their state is told for the first time.
const MEET_WITHIN: Duration = Duration::from_secs(1);
/// Different lines whose repetitions are counted at most; with more of them counting begins anew.
const COUNTED_LINES_MAX: usize = 1024;

/// Why the appliance did not start or did not end well.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(super) enum RunError {
    #[error("the appliance did not start: {0}")]
    #[diagnostic(help(
        "no volume was changed; `twinlun status` shows whether it runs already, and an address in use may be \
         another iSCSI target's"
    ))]
    Start(StartError),
    #[error("the appliance cannot listen for signals or watch itself: {0}")]
    Io(io::Error),
}

/// Runs these controllers until a signal; whether they ended cleanly.
pub(super) fn run(config: &Config, sides: &[Side]) -> Result<bool, RunError> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
    let appliance = Appliance::start(config, sides).map_err(RunError::Start)?;
    super::say(&greeting(config, sides));
    for warning in check::warnings(config) {
        tracing::warn!("{warning}");
    }
    Supervisor::ready();
    let (status, liveness) = (appliance.watch(), appliance.liveness());
    // Dropping the sender ends the thread.
    let (ended, end) = mpsc::channel::<()>();
    let watcher = thread::Builder::new().name("changes".to_owned()).spawn(move || {
        let (mut changes, mut supervisor) = (Changes::default(), Supervisor::new());
        let mut wait = MEET_WITHIN;
        while end.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            let statuses = status();
            for line in changes.of(&statuses) {
                tracing::info!("{line}");
            }
            // The one place that says whether the watchdog is fed: by what serves hosts and the peer.
            supervisor.look(liveness.alive(), &statuses);
            wait = LOOK_EVERY;
        }
    });
    let watcher = watcher.map_err(RunError::Io)?;
    let stopped = appliance.run_until_signal(Supervisor::stopping).map_err(RunError::Io)?;
    drop(ended);
    // It ends by itself; a panic in it was printed already.
    let _ = watcher.join();
    match stopped {
        Stopped::Clean => tracing::info!("ended cleanly: everything is on the disks"),
        Stopped::Unclean => {
            tracing::warn!("ended before everything was flushed: the next start treats this as a crash");
            // A disk that hangs may keep this process for long.
            liveness::shut_sockets();
        }
    }
    Ok(stopped == Stopped::Clean)
}

/// What is served, and the very commands that use it from a Linux host.
fn greeting(config: &Config, sides: &[Side]) -> String {
    let started: Vec<&str> = sides.iter().map(|side| config.controller(*side).name.as_str()).collect();
    let iqn = &config.appliance.iqn;
    let mut text = format!(
        "Twinlun {} runs {} of {}\n",
        env!("CARGO_PKG_VERSION"),
        started.join(" and "),
        check::describe(config)
    );
    text.push_str(
        "To use the LUNs from a Linux host (package open-iscsi; multipath-tools joins the two paths):\n",
    );
    let portals: Vec<String> =
        config.controllers.iter().flat_map(crate::config::Controller::addresses).collect();
    let own = sides.first().and_then(|side| config.controller(*side).addresses().into_iter().next());
    if let Some(portal) = own {
        text.push_str(&format!("  iscsiadm -m discovery -t sendtargets -p {portal}\n"));
    }
    for portal in portals {
        text.push_str(&format!("  iscsiadm -m node -T {iqn} -p {portal} --login\n"));
    }
    text.push_str("With multipath-tools, its whole /etc/multipath.conf, before the logins:\n");
    MULTIPATH_CONF.lines().for_each(|line| text.push_str(&format!("  {line}\n")));
    text.push_str("How it is: `twinlun status`. Ctrl-C or SIGTERM ends it cleanly.\n");
    text
}

/// Tells what changed between two looks, once per change, with a count of how often the same was told before.
#[derive(Default)]
struct Changes {
    /// What was told last, by what it is about.
    last: BTreeMap<String, String>,
    told: BTreeMap<String, u32>,
}

impl Changes {
    fn of(&mut self, statuses: &[ControllerStatus]) -> Vec<String> {
        let mut lines = Vec::new();
        for status in statuses {
            let name = &status.controller;
            self.line(name.clone(), format!("{name}: interlink {}", interlink(status)), &mut lines);
            for lun in &status.luns {
                self.line(format!("{name} {}", lun.number), format!("{name}: {}", describe(lun)), &mut lines);
            }
        }
        lines
    }

    fn line(&mut self, about: String, text: String, lines: &mut Vec<String>) {
        if self.last.get(&about) == Some(&text) {
            return;
        }
        if self.told.len() >= COUNTED_LINES_MAX {
            self.told.clear();
        }
        let count = self.told.entry(text.clone()).or_default();
        *count += 1;
        lines.push(if *count == 1 { text.clone() } else { format!("{text} (time {count})") });
        self.last.insert(about, text);
    }
}

/// One LUN in one line.
fn describe(lun: &LunStatus) -> String {
    let role = match lun.role {
        Role::Main => "main",
        Role::Sub => "sub",
    };
    let serving = if lun.serving { "serving" } else { "refusing" };
    let reason = lun.reason.as_deref().map(|reason| format!("; {reason}")).unwrap_or_default();
    format!("LUN {} {}: {}, {role}, {serving}{reason}", lun.number, lun.name, word(lun.status))
}

#[cfg(test)]
mod tests {
    use controller::status::PairStatus;

    use super::super::status::tests::healthy;
    use super::*;

    #[test]
    fn the_greeting_says_what_is_served_and_how_to_log_in() {
        let config = check::tests::config("");
        let expected = format!(
            "\
Twinlun {} runs alpha and beta of iqn.2026-11.com.example:demo   state in /nowhere/state

CONTROLLER  PORTALS         INTERLINK
alpha       127.0.0.1:3260  127.0.0.1:3270
beta        127.0.0.1:3261  127.0.0.1:3271 [::1]:3271

LUN  NAME   SIZE   MAIN   COPIES            WRITE CACHE  HOSTS MAY
0    data0  1 GiB  alpha  both controllers  on           read and write

To use the LUNs from a Linux host (package open-iscsi; multipath-tools joins the two paths):
  iscsiadm -m discovery -t sendtargets -p 127.0.0.1:3260
  iscsiadm -m node -T iqn.2026-11.com.example:demo -p 127.0.0.1:3260 --login
  iscsiadm -m node -T iqn.2026-11.com.example:demo -p 127.0.0.1:3261 --login
With multipath-tools, its whole /etc/multipath.conf, before the logins:
  defaults {{
      find_multipaths yes
      user_friendly_names yes
  }}
  devices {{
      device {{
          vendor \"TWINLUN\"
          product \"VIRTUAL-DISK\"
          path_grouping_policy group_by_prio
          prio alua
          failback immediate
          no_path_retry 60
      }}
  }}
How it is: `twinlun status`. Ctrl-C or SIGTERM ends it cleanly.
",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(greeting(&config, &[Side::First, Side::Second]), expected);
        assert!(greeting(&config, &[Side::Second]).contains("sendtargets -p 127.0.0.1:3261\n"));
    }

    #[test]
    fn the_readme_has_the_same_multipath_conf_as_the_greeting() {
        let readme = include_str!("../../../README.md");
        assert!(readme.contains(&format!("\n```\n{MULTIPATH_CONF}```\n")));
    }

    #[test]
    fn every_change_is_told_once_and_what_comes_again_is_counted() {
        let [alpha, _] = healthy();
        let mut broken = alpha.clone();
        broken.luns[0].status = PairStatus::Suspended;
        broken.luns[0].reason = Some("beta is away".to_owned());
        let mut changes = Changes::default();
        let up = "alpha: interlink up, 4 bridges";
        let good = "alpha: LUN 0 data0: duplex, main, serving";
        let bad = "alpha: LUN 0 data0: suspended, main, serving; beta is away";
        assert_eq!(changes.of(core::slice::from_ref(&alpha)), [up, good]);
        assert_eq!(changes.of(core::slice::from_ref(&alpha)), Vec::<String>::new());
        assert_eq!(changes.of(core::slice::from_ref(&broken)), [bad]);
        assert_eq!(changes.of(core::slice::from_ref(&alpha)), [format!("{good} (time 2)")]);
        assert_eq!(changes.of(core::slice::from_ref(&broken)), [format!("{bad} (time 2)")]);
    }
}
