//! What a connection looks at as time passes: is its host still there, and does it do what it owes?

use core::time::Duration;

use controller::log_limit::Suppressed;
use controller::time::Time;

use super::framing::Received;
use super::pulse::{Felt, Pulse};
use super::shared::Outflow;

/// How long a login may take.
pub const LOGIN_TIME_MAX: Duration = Duration::from_secs(15);

/// A host not heard from for this long has its connection's spare memory taken.
const REST_AFTER: Duration = Duration::from_secs(3);

/// A host not heard from for this long is asked whether it is there.
pub const PING_AFTER: Duration = Duration::from_secs(10);

/// A host that does not answer for this long is given up. One that waits for a long operation may let a minute pass
/// between two looks at its connection.
pub const PING_ANSWER_MAX: Duration = Duration::from_secs(60);

/// A discovery session not heard from for this long is ended: on it nothing is asked (RFC 7143 7.4.3).
pub const DISCOVERY_SILENCE_MAX: Duration = Duration::from_secs(300);

/// How long a Logout waits for the commands of its session; then the connection ends without an answer.
pub const LOGOUT_TIME_MAX: Duration = Duration::from_secs(10);

/// How long nothing of what a connection said last may leave, or how long its host may take to close it, before it is
/// closed anyway.
pub const FAREWELL_MAX: Duration = Duration::from_secs(5);

/// Why a connection is closed that its host did not end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// It does not move, and its host holds memory that others wait for.
    Standstill,
    /// Its host logs out, and its commands do not end.
    SlowLogout,
    /// Its host was asked for data and does not send it.
    OwesData,
    /// Its host answers nothing.
    Silent,
}

impl Fault {
    /// What is counted together when such a fault is logged.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::Standstill => "standstill",
            Self::SlowLogout => "slow logout",
            Self::OwesData => "owes data",
            Self::Silent => "silent",
        }
    }

    /// Says it in the log.
    pub(super) fn log(self, host: &str, unsaid: &Suppressed) {
        match self {
            Self::Standstill => tracing::warn!(
                "{host} neither takes its data nor sends what it was asked for, and others wait for the memory \
                 that it holds; its connection is closed{unsaid}"
            ),
            Self::SlowLogout => tracing::warn!(
                "{host} logs out and has commands that do not end; its connection is closed{unsaid}"
            ),
            Self::OwesData => {
                tracing::info!(
                    "{host} leaves data it was asked for unsent; its connection is closed{unsaid}"
                );
            }
            Self::Silent => {
                tracing::info!("{host} does not answer any more; its connection is closed{unsaid}");
            }
        }
    }
}

/// What is due for a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// The connection is to be closed.
    End(Fault),
    /// Its Logout waits: nothing else is looked at.
    Leaving,
    /// It goes on.
    GoesOn {
        /// Spare memory is to be given back.
        rest: bool,
        /// Its host is to be asked whether it is there.
        ping: bool,
    },
}

/// When what last happened on a connection.
#[derive(Debug)]
pub(super) struct Watch {
    phase_since: Time,
    /// When the last whole PDU came, or enough of one.
    heard: Time,
    pinged: Option<Time>,
    pulse: Pulse,
    /// Since when a Logout waits to be answered.
    leaving: Option<Time>,
}

impl Watch {
    /// A connection that was just accepted.
    pub(super) const fn new(now: Time) -> Self {
        Self { phase_since: now, heard: now, pinged: None, pulse: Pulse::new(now), leaving: None }
    }

    /// The next phase begins.
    pub(super) const fn on_phase(&mut self, now: Time) {
        self.phase_since = now;
    }

    /// A whole PDU has come.
    pub(super) fn on_pdu(&mut self, pdu: &Received, now: Time) {
        self.heard = now;
        self.pinged = None;
        self.pulse.on_pdu(pdu);
    }

    /// So much of the next PDU is here.
    pub(super) fn on_part(&mut self, input: &[u8]) {
        self.pulse.on_part(input);
    }

    /// A Logout waits for the commands of the session.
    pub(super) const fn on_leaving(&mut self, now: Time) {
        self.leaving = Some(now);
    }

    /// Looks at what has moved since the last time.
    pub(super) fn feel(&mut self, outflow: &Outflow, now: Time) -> Felt {
        let felt = self.pulse.feel(outflow, now);
        if felt.came {
            self.heard = now;
            self.pinged = None;
        }
        felt
    }

    /// True if a login takes too long.
    pub(super) fn is_login_overdue(&self, now: Time) -> bool {
        now.since(self.phase_since) > LOGIN_TIME_MAX
    }

    /// True if a connection that has said everything stays for too long.
    pub(super) fn is_farewell_overdue(&self, now: Time) -> bool {
        now.since(self.phase_since.max(self.pulse.sent_at())) > FAREWELL_MAX
    }

    /// True if a discovery session has been silent for too long.
    pub(super) fn is_discovery_silent(&self, now: Time) -> bool {
        now.since(self.heard) > DISCOVERY_SILENCE_MAX
    }

    /// What is due for a session, whose host `owes` data for too long or not.
    pub(super) fn session(&mut self, owes: bool, now: Time) -> Due {
        debug_assert!(
            self.pinged.is_none_or(|pinged| pinged >= self.heard),
            "a host that is heard has answered"
        );
        if let Some(since) = self.leaving {
            let overdue = now.since(since) > LOGOUT_TIME_MAX;
            return if overdue { Due::End(Fault::SlowLogout) } else { Due::Leaving };
        }
        if owes {
            return Due::End(Fault::OwesData);
        }
        let silence = now.since(self.heard);
        let ping = match self.pinged {
            // What the ping stands behind may take its time, as long as it moves.
            Some(pinged) if now.since(pinged.max(self.pulse.sent_at())) > PING_ANSWER_MAX => {
                return Due::End(Fault::Silent);
            }
            Some(_) => false,
            None => silence > PING_AFTER,
        };
        if ping {
            self.pinged = Some(now);
        }
        Due::GoesOn { rest: silence > REST_AFTER, ping }
    }
}
