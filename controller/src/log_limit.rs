//! What hosts, disks and the system can make happen again and again is logged once, and then once a minute with how
//! often it happened: none of them can fill a disk with log lines, and none hides behind another's.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::time::Time;

/// Until the same is logged again.
const INTERVAL: Duration = Duration::from_secs(60);

/// Different lines that are remembered, at most. All beyond these count as one.
pub const LOG_SUBJECTS_MAX: usize = 256;

/// What was logged of whom, and how often it was left out since.
#[derive(Debug, Default)]
pub struct LogLimiter {
    entries: BTreeMap<(&'static str, String), Entry>,
}

#[derive(Debug)]
struct Entry {
    /// When it was first logged in this interval.
    at: Time,
    /// How often it was logged in this interval.
    logged: u32,
    suppressed: u64,
}

impl LogLimiter {
    /// `what` happened with `whom`. `Some` if it is to be logged now.
    pub fn happens(&mut self, what: &'static str, whom: &str, now: Time) -> Option<Suppressed> {
        self.happens_often(what, whom, now, 1)
    }

    /// The same of something that may well come a few times a minute: up to `often` times it is logged at once.
    pub fn happens_often(
        &mut self,
        what: &'static str,
        whom: &str,
        now: Time,
        often: u32,
    ) -> Option<Suppressed> {
        let mut key = (what, whom.to_owned());
        if !self.entries.contains_key(&key) && self.entries.len() >= LOG_SUBJECTS_MAX - 1 {
            self.entries.retain(|_, entry| now.since(entry.at) < INTERVAL);
            if self.entries.len() >= LOG_SUBJECTS_MAX - 1 {
                key = ("", String::new());
            }
        }
        match self.entries.get_mut(&key) {
            Some(entry) if now.since(entry.at) < INTERVAL => {
                if entry.logged < often {
                    entry.logged += 1;
                    return Some(Suppressed(0));
                }
                entry.suppressed += 1;
                None
            }
            Some(entry) => {
                let suppressed = core::mem::take(&mut entry.suppressed);
                // What exceeds the limit is logged once in an interval as long as it goes on.
                let logged = if suppressed > 0 { often } else { 1 };
                (entry.at, entry.logged) = (now, logged);
                Some(Suppressed(suppressed))
            }
            None => {
                self.entries.insert(key, Entry { at: now, logged: 1, suppressed: 0 });
                Some(Suppressed(0))
            }
        }
    }

    /// Different things that are remembered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries.len()
    }
}

/// The same for callers that have no clock of their own.
#[derive(Debug)]
pub struct TimedLogLimiter {
    begun: Instant,
    limiter: Mutex<LogLimiter>,
}

impl Default for TimedLogLimiter {
    fn default() -> Self {
        Self { begun: Instant::now(), limiter: Mutex::default() }
    }
}

impl TimedLogLimiter {
    /// `what` happened for the reason `why`. `Some` if it is to be logged now.
    pub fn happens(&self, what: &'static str, why: &str) -> Option<Suppressed> {
        let passed = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.limiter.lock().happens(what, why, Time(passed))
    }
}

/// How often something was left out since it was last logged: the end of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Suppressed(u64);

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            1 => f.write_str(" (and once more since this was last said)"),
            times => write!(f, " (and {times} times more since this was last said)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time(7);

    #[test]
    fn the_same_is_said_once_a_minute_with_how_often_it_came_meanwhile() {
        let mut limiter = LogLimiter::default();
        assert_eq!(limiter.happens("refused", "a", START), Some(Suppressed(0)));
        for _ in 0..3 {
            assert_eq!(limiter.happens("refused", "a", START + Duration::from_secs(59)), None);
        }
        let line = limiter.happens("refused", "a", START + INTERVAL).unwrap();
        assert_eq!(line.to_string(), " (and 3 times more since this was last said)");
        assert_eq!(limiter.happens("refused", "a", START + INTERVAL * 2), Some(Suppressed(0)));
        assert_eq!(Suppressed(0).to_string(), "");
        assert_eq!(Suppressed(1).to_string(), " (and once more since this was last said)");
    }

    #[test]
    fn what_may_come_often_is_said_at_once_until_it_comes_too_often() {
        let mut limiter = LogLimiter::default();
        let mut often = |seconds| limiter.happens_often("came", "a", START + Duration::from_secs(seconds), 3);
        let lines: Vec<_> = (0..125).filter_map(|second| Some((second, often(second)?.0))).collect();
        assert_eq!(lines, [(0, 0), (1, 0), (2, 0), (60, 57), (120, 59)]);
        assert_eq!(often(300), Some(Suppressed(4)));
        assert_eq!(often(361), Some(Suppressed(0)));
        assert_eq!(often(362), Some(Suppressed(0)));
    }

    #[test]
    fn one_host_does_not_hide_another_nor_one_event_another() {
        let mut limiter = LogLimiter::default();
        for (what, whom) in [("refused", "a"), ("refused", "b"), ("closed", "a")] {
            assert_eq!(limiter.happens(what, whom, START), Some(Suppressed(0)));
        }
        assert_eq!(limiter.happens("closed", "a", START), None);
    }

    #[test]
    fn however_many_hosts_there_are_memory_and_lines_are_bounded() {
        let mut limiter = LogLimiter::default();
        let lines = |limiter: &mut LogLimiter, now| {
            (0..10 * LOG_SUBJECTS_MAX)
                .filter(|n| limiter.happens("refused", &n.to_string(), now).is_some())
                .count()
        };
        assert_eq!(lines(&mut limiter, START), LOG_SUBJECTS_MAX);
        assert_eq!(limiter.count(), LOG_SUBJECTS_MAX);
        assert_eq!(lines(&mut limiter, START), 0);
        // What is old is forgotten.
        assert!(lines(&mut limiter, START + INTERVAL) <= LOG_SUBJECTS_MAX);
        assert!(limiter.count() <= LOG_SUBJECTS_MAX);
    }
}
