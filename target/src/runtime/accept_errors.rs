//! A listener that cannot accept, for instance because no file descriptor is left, tries again and again. It says so
//! once, and then once a minute with how often it happened.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use controller::log_limit::TimedLogLimiter;
use parking_lot::Mutex;

/// What has happened lately is told for so long.
pub(crate) const LATELY: Duration = Duration::from_secs(60);

/// What went wrong around a controller lately, for people who ask.
#[derive(Debug, Default)]
pub(crate) struct AcceptErrors(Mutex<BTreeMap<&'static str, Trouble>>);

#[derive(Debug)]
struct Trouble {
    last: Instant,
    times: u64,
    error: String,
}

impl AcceptErrors {
    /// A listener of this name could not accept a connection.
    pub(crate) fn note(&self, who: &'static str, error: String) {
        let mut book = self.0.lock();
        let trouble =
            book.entry(who).or_insert(Trouble { last: Instant::now(), times: 0, error: String::new() });
        if trouble.last.elapsed() >= LATELY {
            trouble.times = 0;
        }
        (trouble.last, trouble.error) = (Instant::now(), error);
        trouble.times += 1;
    }

    /// What went wrong lately at the controller of this name, in sentences.
    pub(crate) fn tell(&self, name: &str) -> Vec<String> {
        let book = self.0.lock();
        let lately = book.iter().filter(|(_, trouble)| trouble.last.elapsed() < LATELY);
        lately
            .map(|(who, Trouble { last, times, error })| {
                let (ago, often) = (last.elapsed().as_secs(), if *times == 1 { "once" } else { "again and again" });
                format!(
                    "{who} of {name} could not take a connection {often}, the last time {ago} s ago: {error}. The \
                     connections that are open go on"
                )
            })
            .collect()
    }
}

/// What one listener had to say.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    who: &'static str,
    said: TimedLogLimiter,
}

impl Troubles {
    /// Of a listener with this name.
    pub(crate) fn of(who: &'static str) -> Self {
        Self { who, said: TimedLogLimiter::default() }
    }

    /// It cannot accept a connection.
    pub(crate) fn tell(&self, error: &io::Error, book: &AcceptErrors) {
        book.note(self.who, error.to_string());
        if let Some(unsaid) = self.said.happens("accept", &error.kind().to_string()) {
            tracing::warn!("{} cannot accept a connection: {error}{unsaid}", self.who);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Seek;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_listener_that_cannot_accept_again_and_again_says_so_once_for_each_reason() {
        let log = Arc::new(tempfile::tempfile().unwrap());
        let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
        tracing::subscriber::with_default(lines, || {
            let book = AcceptErrors::default();
            let (interlink, portal) = (Troubles::of("the interlink"), Troubles::of("a portal"));
            for _ in 0..1000 {
                interlink.tell(&io::Error::from_raw_os_error(24), &book);
                portal.tell(&io::Error::from_raw_os_error(24), &book);
            }
            interlink.tell(&io::Error::from_raw_os_error(103), &book);
            let told = book.tell("alpha");
            assert!(
                told[0].starts_with("a portal of alpha could not take a connection again and again"),
                "{told:?}"
            );
            assert!(told[1].contains("(os error 103)"), "{told:?}");
            assert_eq!(told.len(), 2);
        });
        (&*log).rewind().unwrap();
        let log = io::read_to_string(&*log).unwrap();
        let said: Vec<_> = log.lines().filter_map(|line| line.split(": ").nth(1)).collect();
        let interlink = "the interlink cannot accept a connection";
        assert_eq!(said, [interlink, "a portal cannot accept a connection", interlink], "{log}");
    }
}
