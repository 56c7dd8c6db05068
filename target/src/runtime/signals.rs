//! The signals that end the appliance.

use std::fs;
use std::io;

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM, SIGINT, and SIGHUP: whose terminal has gone is to end as cleanly as who is asked to. Where SIGHUP was being
/// ignored, as under nohup, it goes on being.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    /// From here on they no longer end the process by themselves.
    pub(super) fn listen() -> io::Result<Self> {
        let ignored = fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status));
        let hangup = if ignored { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup,
        })
    }

    /// Waits for somebody who will not wait for the end that has begun: another SIGTERM or SIGINT. SIGHUP is not that:
    /// when a terminal closes, the shell sends it and then the kernel does, and systemd may send it right behind
    /// SIGTERM.
    pub(super) async fn insists(&mut self) {
        let Self { terminate, interrupt, hangup: _ } = self;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }

    /// The next of them, by its name.
    pub(super) async fn next(&mut self) -> &'static str {
        let Self { terminate, interrupt, hangup } = self;
        let hung_up = async {
            match hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            _ = hung_up => "SIGHUP",
        }
    }
}

/// Whether a process with this status (proc(5)) ignores SIGHUP.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let bit = Number::HUP.as_raw().unsigned_abs().saturating_sub(1);
    mask >> bit & 1 == 1
}

#[cfg(test)]
mod tests {
    use crate::runtime::signals::ignores_hangup;

    #[test]
    fn whether_a_hangup_is_ignored_is_read_from_the_mask_of_ignored_signals() {
        for (status, ignored) in [
            ("Name:\ttwinlun\nSigIgn:\t0000000000001000\n", false),
            ("Name:\ttwinlun\nSigIgn:\t0000000000001001\n", true),
            ("SigIgn:\tnonsense\n", false),
            ("", false),
        ] {
            assert_eq!(ignores_hangup(status), ignored, "{status}");
        }
    }
}
