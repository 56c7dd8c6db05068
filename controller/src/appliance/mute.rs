//! Whether the peer's machine is there, but the peer says nothing: it is stopped, or hangs.

use core::time::Duration;

use crate::time::Time;

/// How long it is remembered that the peer's machine took a connection on which nobody spoke.
const MUTE_AGE: Duration = Duration::from_secs(8);

/// The peer's machine takes connections, and nobody speaks on them.
#[derive(Debug, Default)]
pub(super) struct Mute {
    /// It just was.
    seen: bool,
    until: Time,
    /// It is.
    holds: bool,
}

impl Mute {
    /// A connection was taken, and nobody spoke on it.
    pub(super) const fn see(&mut self) {
        self.seen = true;
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Time) {
        if core::mem::take(&mut self.seen) {
            self.until = now + MUTE_AGE;
        }
        self.holds = now < self.until;
    }

    pub(super) const fn holds(&self) -> bool {
        self.holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mute_peer_is_remembered_for_some_seconds() {
        let at = |ms| Time(0) + Duration::from_millis(ms);
        let mut mute = Mute::default();
        mute.tick(at(100));
        assert!(!mute.holds());
        mute.see();
        mute.tick(at(150));
        assert!(mute.holds());
        mute.tick(at(150) + MUTE_AGE);
        assert!(!mute.holds());
    }
}
