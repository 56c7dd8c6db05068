//! What a service manager is told: that this process is ready, how it is, that it gets on, that it ends (systemd's
//! protocol, sd_notify(3)). Where none asked to be told, nothing happens.

use std::time::{Duration, Instant};

use controller::status::ControllerStatus;
use sd_notify::NotifyState;

/// The service manager of this process, if there is one.
#[derive(Debug)]
pub(super) struct Supervisor {
    /// How often it wants to hear that this process gets on.
    feed_every: Option<Duration>,
    fed: Option<Instant>,
    said: String,
}

impl Supervisor {
    /// From the environment.
    pub(super) fn new() -> Self {
        // Twice in its time: one that comes late is not taken for missing.
        let feed_every = sd_notify::watchdog_enabled().map(|within| within / 2);
        Self { feed_every, fed: None, said: String::new() }
    }

    /// Hosts are served as soon as the controllers have met.
    pub(super) fn ready() {
        tell(&[NotifyState::Ready]);
    }

    /// The clean end has begun.
    pub(super) fn stopping() {
        tell(&[NotifyState::Stopping, NotifyState::Status("ending: everything is being flushed")]);
    }

    /// To be called again and again, with what was found. The watchdog is fed only while everything gets on.
    pub(super) fn look(&mut self, alive: bool, statuses: &[ControllerStatus]) {
        let now = Instant::now();
        let due = |every| self.fed.is_none_or(|fed| now.duration_since(fed) >= every);
        if alive && self.feed_every.is_some_and(due) {
            self.fed = Some(now);
            tell(&[NotifyState::Watchdog]);
        }
        let says = summary(statuses);
        if says != self.said {
            tell(&[NotifyState::Status(&says)]);
            self.said = says;
        }
    }
}

/// All controllers of this process in a line.
fn summary(statuses: &[ControllerStatus]) -> String {
    let one = |status: &ControllerStatus| {
        let serving = status.luns.iter().filter(|lun| lun.serving).count();
        let interlink = if status.interlink.up { "up" } else { "down" };
        format!(
            "{}: {serving} of {} LUNs served, interlink {interlink}",
            status.controller,
            status.luns.len()
        )
    };
    statuses.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::debug!("the service manager was not told: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::healthy;
    use super::*;

    #[test]
    fn the_summary_says_what_is_served() {
        let mut statuses = healthy();
        statuses[1].luns[0].serving = false;
        statuses[1].interlink.up = false;
        let luns = statuses[0].luns.len();
        let expected = format!(
            "alpha: {luns} of {luns} LUNs served, interlink up; beta: {} of {luns} LUNs served, interlink down",
            luns - 1
        );
        assert_eq!(summary(&statuses), expected);
    }
}
