//! What a connection looks at as time passes: is its host still there, and does it do what it owes?

use controller::log_limit::Suppressed;
use controller::time::Time;

use super::{
    DISCOVERY_SILENCE_MAX, FAREWELL_MAX, LOGIN_TIME_MAX, LOGOUT_TIME_MAX, Line, PING_AFTER, PING_ANSWER_MAX,
    Phase, REST_AFTER,
};
use crate::connection::Closed;
use crate::run::cork::Flush;
use crate::session::full_feature::FullFeature;

impl Line {
    /// Time has passed.
    pub fn on_tick(&mut self, now: Time) -> Result<(), Closed> {
        let moved = self.feel_pulse(now);
        match self.phase {
            Phase::Login(_) if now.since(self.phase_since) > LOGIN_TIME_MAX => self.link.end(),
            // What it waits for may be overdue.
            Phase::Login(_) if self.waiting.is_some() => self.link.wake(),
            Phase::Ended if now.since(self.phase_since.max(self.pulse.sent_at())) > FAREWELL_MAX => {
                self.link.end();
            }
            Phase::Login(_) | Phase::Ended => {}
            Phase::Full(None) if now.since(self.heard) > DISCOVERY_SILENCE_MAX => self.link.end(),
            Phase::Full(None) => {}
            Phase::Full(Some(_)) => self.watch(moved, now),
        }
        let over = match self.phase {
            Phase::Ended => self.link.has_ended(),
            // Ended from elsewhere: nothing more will be answered.
            Phase::Login(_) | Phase::Full(_) => self.link.has_finished(),
        };
        if over { Err(Closed) } else { Ok(()) }
    }

    /// Looks at what has moved since the last time, and ends a connection that stands still with memory that others wait
    /// for. Gives the bytes for which a host's R2Ts had to wait.
    fn feel_pulse(&mut self, now: Time) -> u64 {
        let outflow = self.link.outflow();
        let felt = self.pulse.feel(&outflow, now);
        if felt.came {
            self.heard = now;
            self.pinged = None;
        }
        if felt.stands_still && outflow.holds_memory && self.sessions.memory.is_starved(now) {
            if let Some((host, unsaid)) = self.says("standstill", now) {
                tracing::warn!(
                    "{host} neither takes its data nor sends what it was asked for, and others wait for the memory \
                     that it holds; its connection is closed{unsaid}"
                );
            }
            self.link.end();
        }
        felt.before_r2ts
    }

    /// `what` happens to this connection: its host's address if that is to be logged now. By address, because names
    /// cost a host nothing.
    pub(super) fn says(&self, what: &'static str, now: Time) -> Option<(String, Suppressed)> {
        let host = self.host();
        let unsaid = self.sessions.said(what, &host, now)?;
        Some((host, unsaid))
    }

    pub(super) fn host(&self) -> String {
        self.link.host().map_or_else(|| "a host".to_owned(), |host| host.ip().to_string())
    }

    /// Is the host still there, and does it do what it owes?
    fn watch(&mut self, moved: u64, now: Time) {
        let _ = self.link.with(|session, _| session.commands_mut().on_tick(moved, now));
        if let Some(since) = self.leaving {
            if now.since(since) > LOGOUT_TIME_MAX {
                if let Some((host, unsaid)) = self.says("slow logout", now) {
                    tracing::warn!(
                        "{host} logs out and has commands that do not end; its connection is closed{unsaid}"
                    );
                }
                self.link.end();
            }
            return;
        }
        if self.link.with(|session, _| session.commands().owes_data(now)) == Some(true) {
            if let Some((host, unsaid)) = self.says("owes data", now) {
                tracing::info!(
                    "{host} leaves data it was asked for unsent; its connection is closed{unsaid}"
                );
            }
            return self.link.end();
        }
        if now.since(self.heard) > REST_AFTER {
            self.link.rest();
        }
        match self.pinged {
            // What the ping stands behind may take its time, as long as it moves.
            Some(pinged) if now.since(pinged.max(self.pulse.sent_at())) > PING_ANSWER_MAX => {
                if let Some((host, unsaid)) = self.says("silent", now) {
                    tracing::info!("{host} does not answer any more; its connection is closed{unsaid}");
                }
                self.link.end();
            }
            None if now.since(self.heard) > PING_AFTER => {
                self.pinged = Some(now);
                if self.link.with(FullFeature::ping).is_some() {
                    self.link.flush();
                }
            }
            _ => {}
        }
        self.link.look_again();
    }
}
