//! Hosts that come and go, as the log tells of them; and two machines with one initiator name, which throw each other
//! out: each login ends the session of the other (RFC 7143 6.3.5), so that neither gets far and nobody can tell why.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::VecDeque;

use controller::log_limit::LogLimiter;
use controller::status::ContestStatus;
use controller::time::Time;
use parking_lot::Mutex;
use protocol::iscsi::{Isid, LoginStatus};

/// Lines about one host within a minute that are logged at once; more are counted.
const LINES_SOON: u32 = 4;

/// A session that is ended so often by a login of its own initiator port, each within [`CONTEST_AGE`] of the one
/// before, is contested.
const CONTEST_FROM: u32 = 3;

/// A session that a login of its own initiator port ends is contested only if it was heard of so lately: open-iscsi
/// asks every 5 s whether its target is there, and logs in anew when 5 s later it has heard nothing.
pub(crate) const CONTENDER_HEARD_WITHIN: Duration = Duration::from_secs(5);

/// A contest that was not seen for this long is over.
const CONTEST_AGE: Duration = Duration::from_secs(60);

/// Initiator ports whose sessions were ended by a login of their own lately that are remembered, at most; one more
/// forgets the oldest.
pub const CONTESTS_MAX: usize = 64;

/// Who comes or goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visitor<'a> {
    /// InitiatorName.
    pub(crate) initiator: &'a str,
    /// The host's address and the portal's.
    pub(crate) ends: Option<(SocketAddr, SocketAddr)>,
}

impl fmt::Display for Visitor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ends {
            Some((host, portal)) => write!(f, "{} from {host} at portal {portal}", self.initiator),
            None => f.write_str(self.initiator),
        }
    }
}

/// How a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Parting {
    /// By a Logout.
    LoggedOut,
    /// Its connection ended without one.
    Lost,
    /// A login of the same initiator port took its place.
    Replaced,
}

/// What was told of hosts, and whose sessions are contested.
#[derive(Debug, Default)]
pub(crate) struct Visits {
    said: Mutex<LogLimiter>,
    contests: Mutex<VecDeque<Contest>>,
}

/// An initiator port whose session was ended by a login of its own.
#[derive(Debug)]
struct Contest {
    initiator: String,
    isid: Isid,
    addresses: [SocketAddr; 2],
    times: u32,
    since: Time,
    last: Time,
}

impl Contest {
    fn status(&self) -> ContestStatus {
        let [one, other] = self.addresses;
        let by_port = one.ip() == other.ip();
        let text = |address: SocketAddr| if by_port { address.to_string() } else { address.ip().to_string() };
        ContestStatus {
            initiator: self.initiator.clone(),
            addresses: [text(one), text(other)],
            times: self.times,
            seconds: self.last.since(self.since).as_secs().max(1),
        }
    }
}

impl Visits {
    /// A session began.
    pub(crate) fn came(&self, who: Visitor<'_>, now: Time) {
        if let Some(suppressed) = self.said.lock().happens_often("came", &key(who), now, LINES_SOON) {
            tracing::info!("{who} logged in{suppressed}");
        }
    }

    /// A session ended.
    pub(crate) fn went(&self, who: Visitor<'_>, how: Parting, now: Time) {
        if let Some(suppressed) = self.said.lock().happens_often("went", &key(who), now, LINES_SOON) {
            let how = match how {
                Parting::LoggedOut => "logged out",
                Parting::Lost => "is gone: its connection ended without a logout",
                Parting::Replaced => "is gone: a new login of the same initiator port took its place",
            };
            tracing::info!("{who} {how}{suppressed}");
        }
    }

    /// A login was refused; `sent` is the InitiatorName as it was sent, empty if none was.
    pub(crate) fn refused(&self, host: &str, sent: &str, status: LoginStatus, why: &str, now: Time) {
        // A host that keeps trying keeps being refused.
        let whom = format!("{host} {status:?} {sent}");
        let Some(suppressed) = self.said.lock().happens("refused", &whom, now) else {
            return;
        };
        let code = status as u16;
        let name =
            if sent.is_empty() { "without an InitiatorName".to_owned() } else { format!("as {sent:?}") };
        // What ends by itself is no reason to look after anything.
        if status == LoginStatus::ServiceUnavailable {
            tracing::info!(
                "a login from {host} {name} is refused with status {code:04x}h: {why}{suppressed}"
            );
        } else {
            tracing::warn!(
                "a login from {host} {name} is refused with status {code:04x}h: {why}{suppressed}"
            );
        }
    }

    /// A session whose connection was still there was ended by a login of the same initiator port.
    pub(crate) fn replaced(
        &self,
        initiator: &str,
        isid: Isid,
        addresses: [Option<SocketAddr>; 2],
        now: Time,
    ) {
        // A connection has no address any more when its host has given it up before it was looked at: no contender.
        let [Some(one), Some(other)] = addresses else {
            return;
        };
        let addresses = [one, other];
        let status = {
            let contests = &mut *self.contests.lock();
            contests.retain(|known| now.since(known.last) < CONTEST_AGE);
            let known = |it: &Contest| it.isid == isid && it.initiator.eq_ignore_ascii_case(initiator);
            match contests.iter_mut().find(|it| known(it)) {
                Some(contest) => {
                    contest.times = contest.times.saturating_add(1);
                    (contest.last, contest.addresses) = (now, addresses);
                    (contest.times >= CONTEST_FROM).then(|| contest.status())
                }
                None => {
                    if contests.len() >= CONTESTS_MAX {
                        contests.pop_front();
                    }
                    let initiator = initiator.to_owned();
                    debug_assert!(contests.len() < CONTESTS_MAX, "one more forgets the oldest");
                    contests.push_back(Contest {
                        initiator,
                        isid,
                        addresses,
                        times: 1,
                        since: now,
                        last: now,
                    });
                    None
                }
            }
        };
        if let Some(status) = status
            && let Some(suppressed) = self.said.lock().happens("contest", initiator, now)
        {
            tracing::warn!("{status}{suppressed}");
        }
    }

    /// The contests that go on.
    pub(crate) fn contests(&self, now: Time) -> Vec<ContestStatus> {
        let contests = self.contests.lock();
        let goes_on = |it: &&Contest| it.times >= CONTEST_FROM && now.since(it.last) < CONTEST_AGE;
        contests.iter().filter(goes_on).map(Contest::status).collect()
    }

    /// Things said, and initiator ports remembered.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.said.lock().count(), self.contests.lock().len())
    }
}

/// By name and address: many hosts may come by one address, and a name costs a host nothing.
fn key(who: Visitor<'_>) -> String {
    let host = who.ends.map(|(host, _)| host.ip().to_string()).unwrap_or_default();
    format!("{host} {}", who.initiator)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Seek};
    use std::sync::Arc;

    use super::*;

    const ISID: Isid = Isid([0, 2, 0x3d, 0, 0, 0]);
    const NAME: &str = "iqn.1993-08.org.debian:clone";

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000_000)
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// The lines that `run` logs at warnings' level or above, or all of them.
    fn logged(level: tracing::Level, run: impl FnOnce()) -> Vec<String> {
        let log = Arc::new(tempfile::tempfile().unwrap());
        let lines = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .with_max_level(level)
            .with_writer(log.clone());
        tracing::subscriber::with_default(lines.finish(), run);
        (&*log).rewind().unwrap();
        io::read_to_string(&*log).unwrap().lines().map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn two_machines_of_one_name_are_warned_of_with_both_addresses() {
        let visits = Visits::default();
        let ends = [address("192.0.2.21:51000"), address("192.0.2.22:40000")];
        let lines = logged(tracing::Level::WARN, || {
            for turn in 0..14 {
                let (old, new) = (ends[turn % 2], ends[(turn + 1) % 2]);
                visits.replaced(NAME, ISID, [Some(old), Some(new)], at(100 + turn as u64));
                assert_eq!(visits.contests(at(100 + turn as u64)).len(), usize::from(turn >= 2));
            }
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        for part in [NAME, "192.0.2.21", "192.0.2.22", "initiatorname.iscsi"] {
            assert!(lines[0].contains(part) && lines[0].starts_with("WARN"), "{lines:?}");
        }
        let contest = &visits.contests(at(120))[0];
        assert_eq!((contest.times, contest.seconds), (14, 13));
        assert_eq!(visits.contests(at(180)), [], "it is over");
    }

    #[test]
    fn a_connection_that_its_host_had_given_up_contests_nothing() {
        let visits = Visits::default();
        let port = |port: u16| Some(SocketAddr::new([192, 0, 2, 21].into(), port));
        for seconds in 200..220 {
            visits.replaced(NAME, ISID, [None, port(51_000)], at(seconds));
            assert_eq!(visits.contests(at(seconds)), [], "that one was given up by its host");
        }
    }

    #[test]
    fn a_host_that_comes_back_now_and_then_contests_nothing() {
        let visits = Visits::default();
        let host = address("192.0.2.21:51000");
        for turn in 0..10 {
            visits.replaced(NAME, ISID, [Some(host), Some(host)], at(100 + 61 * turn));
            assert_eq!(visits.contests(at(100 + 61 * turn)), []);
        }
        for n in 0..2 * CONTESTS_MAX {
            visits.replaced(&format!("iqn.{n}"), ISID, [Some(host), Some(host)], at(1000));
        }
        assert_eq!(visits.counts().1, CONTESTS_MAX);
    }

    #[test]
    fn who_comes_and_goes_is_told_with_name_and_address_and_counted_if_it_does_so_too_often() {
        let visits = Visits::default();
        let ends = Some((address("192.0.2.21:51000"), address("192.0.2.1:3260")));
        let who = Visitor { initiator: NAME, ends };
        let lines = logged(tracing::Level::INFO, || {
            visits.came(who, at(1));
            visits.went(who, Parting::LoggedOut, at(2));
            for second in 3..63 {
                visits.came(who, at(second));
            }
        });
        let from = "from 192.0.2.21:51000 at portal 192.0.2.1:3260";
        let (came, went) =
            (format!("INFO {NAME} {from} logged in"), format!("INFO {NAME} {from} logged out"));
        let again = format!("{came} (and 55 times more since this was last said)");
        assert_eq!(lines, [&came, &went, &came, &came, &came, &again].map(|line| line.to_owned()));
    }

    #[test]
    fn a_refused_login_is_told_with_the_name_that_was_sent_and_why() {
        let visits = Visits::default();
        let lines = logged(tracing::Level::WARN, || {
            for second in 0..30 {
                let status = LoginStatus::AuthenticationFailure;
                visits.refused("192.0.2.9", "iqn.\u{1b}x", status, "it proves nothing", at(second));
            }
            visits.refused("192.0.2.9", "", LoginStatus::MissingParameter, "it says no name", at(31));
        });
        let sent =
            r#"WARN a login from 192.0.2.9 as "iqn.\u{1b}x" is refused with status 0201h: it proves nothing"#;
        let unsent = "WARN a login from 192.0.2.9 without an InitiatorName is refused with status 0207h: it says \
                      no name";
        assert_eq!(lines, [sent, unsent]);
    }
}
