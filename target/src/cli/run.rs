//! `twinlun run`: starts controllers, says how hosts use them, then tells every change until it is asked to end.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use controller::plan::Side;
use controller::time::Time;
use miette::Diagnostic;
use tracing_subscriber::EnvFilter;

use super::changes::{Changes, Line};
use super::left_behind;
use super::supervisor::Supervisor;
use super::{CliError, check, promises};
use crate::config::{Config, ConfigError};
use crate::log::Log;
use crate::runtime::advice::next_step;
use crate::runtime::{Appliance, StartError, Stopped, liveness};

/// What multipath-tools needs to join the two ways to a LUN, take the better one, and wait for main.
const MULTIPATH_CONF: &str = include_str!("multipath.conf");
/// How often changes are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The controllers are given this long to meet before their state is told for the first time.
const MEET_WITHIN: Duration = Duration::from_secs(1);

/// How long the start waits for a look at the volumes' file systems.
const WARN_WITHIN: Duration = Duration::from_secs(1);

/// How long the end waits for somebody to take the last lines of the log.
const LOG_WITHIN: Duration = Duration::from_secs(1);

/// Why the appliance did not start or did not end well.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(super) enum RunError {
    #[error("the appliance did not start: {0}")]
    #[diagnostic(help("no volume was changed; {}", next_step(_0)))]
    Start(StartError),
    #[error("the appliance cannot listen for signals or watch itself: {0}")]
    Io(io::Error),
}

/// How log lines are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

fn begin_log(format: LogFormat) -> io::Result<Log> {
    let log = Log::begin(io::stderr())?;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // Nobody hears of a line that cannot be written: the terminal may be gone, and complaining there would panic.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(log.clone())
        .log_internal_errors(false);
    match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(log)
}

/// Runs these controllers until a signal; whether they ended cleanly.
pub(super) fn run(config: &Config, sides: &[Side], format: LogFormat) -> Result<bool, RunError> {
    let log = begin_log(format).map_err(RunError::Io)?;
    liveness::say_last_to(log.clone());
    let ended = match run_until_signal(config, sides) {
        Err(error) if format == LogFormat::Json => {
            log_error(&error);
            Ok(false)
        }
        ended => ended,
    };
    log.flush(LOG_WITHIN);
    ended
}

/// Why nothing was started at all, as lines of a JSON log: every mistake in the file has its own.
pub(super) fn log_mistake(mistake: &CliError) -> Result<(), RunError> {
    let log = begin_log(LogFormat::Json).map_err(RunError::Io)?;
    if let CliError::Config(ConfigError::Mistakes(mistakes)) = mistake {
        mistakes.lines().for_each(|line| tracing::error!("{line}"));
        let next = "correct the file; `twinlun check` looks at it without starting anything";
        tracing::error!(next, "the appliance did not start: {mistake}");
    } else {
        log_error(mistake);
    }
    log.flush(LOG_WITHIN);
    Ok(())
}

fn log_error(error: &dyn Diagnostic) {
    match error.help() {
        Some(next) => tracing::error!(next = %next, "{error}"),
        None => tracing::error!("{error}"),
    }
}

fn run_until_signal(config: &Config, sides: &[Side]) -> Result<bool, RunError> {
    let appliance = Appliance::start(config, sides).map_err(RunError::Start)?;
    super::say(&greeting(config, sides));
    warn_of(config);
    Supervisor::ready();
    let (status, liveness) = (appliance.watch(), appliance.liveness());
    let (look, mut before) = (appliance.watch(), Vec::new());
    // Dropping the sender ends the thread.
    let (ended, end) = mpsc::channel::<()>();
    let watcher = thread::Builder::new().name("changes".to_owned()).spawn(move || {
        let (mut changes, mut supervisor) = (Changes::default(), Supervisor::new());
        let (begun, mut wait) = (Instant::now(), MEET_WITHIN);
        while end.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            let now = Time(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
            let statuses = status();
            for line in changes.of(&statuses, now) {
                line.log();
            }
            // The one place that says whether the watchdog is fed: by what serves hosts and the peer.
            supervisor.look(liveness.alive(), &statuses);
            wait = LOOK_EVERY;
        }
    });
    let watcher = watcher.map_err(RunError::Io)?;
    let ending = || {
        before = look();
        Supervisor::stopping();
    };
    let stopped = appliance.run_until_signal(ending, liveness::shut_sockets).map_err(RunError::Io)?;
    drop(ended);
    // It ends by itself; a panic in it was printed already.
    let _ = watcher.join();
    left_behind::lines(&before, &look()).iter().for_each(Line::log);
    match stopped {
        Stopped::Clean => tracing::info!("ended cleanly: everything is on the disks"),
        Stopped::Unclean => {
            tracing::warn!("ended before everything was flushed: the next start treats this as a crash");
            // What was opened since: a disk that hangs may keep this process for long.
            liveness::shut_sockets();
        }
    }
    Ok(stopped == Stopped::Clean)
}

/// Warns of what should be meant. A thread of its own looks at the file systems: one that hangs keeps nobody waiting.
fn warn_of(config: &Config) {
    let warn = |warnings: Vec<String>| warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    warn(check::of_file_alone(config));
    let (looked, looks) = mpsc::channel::<()>();
    let config = config.clone();
    let look = move || {
        warn(promises::of_file(&config));
        drop(looked);
    };
    match thread::Builder::new().name("promises".to_owned()).spawn(look) {
        Ok(_waits_for_its_disks) => {
            let _looked_or_not = looks.recv_timeout(WARN_WITHIN);
        }
        Err(error) => tracing::warn!("nobody has looked whether the volumes have room to grow: {error}"),
    }
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

#[cfg(test)]
mod tests {
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

The interlink is not encrypted.

LUN  NAME   SIZE   MAIN   COPIES            WRITE CACHE  HOSTS MAY       PHYSICAL BLOCK
0    data0  1 GiB  alpha  both controllers  on           read and write  512 B

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
}
