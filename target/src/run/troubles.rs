//! A listener that cannot accept, for instance because no file descriptor is left, tries again and again. It says so
//! once, and then once a minute with how often it happened.

use std::io;

use controller::said::Seldom;

/// What one listener had to say.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    who: &'static str,
    said: Seldom,
}

impl Troubles {
    /// Of a listener with this name.
    pub(super) fn of(who: &'static str) -> Self {
        Self { who, said: Seldom::default() }
    }

    /// It cannot accept a connection.
    pub(super) fn tell(&self, error: &io::Error) {
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
            let (interlink, portal) = (Troubles::of("the interlink"), Troubles::of("a portal"));
            for _ in 0..1000 {
                interlink.tell(&io::Error::from_raw_os_error(24));
                portal.tell(&io::Error::from_raw_os_error(24));
            }
            interlink.tell(&io::Error::from_raw_os_error(103));
        });
        (&*log).rewind().unwrap();
        let log = io::read_to_string(&*log).unwrap();
        let said: Vec<_> = log.lines().filter_map(|line| line.split(": ").nth(1)).collect();
        let interlink = "the interlink cannot accept a connection";
        assert_eq!(said, [interlink, "a portal cannot accept a connection", interlink], "{log}");
    }
}
