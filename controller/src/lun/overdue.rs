//! The deadline of what the peer is to do: a leg that is never answered ends the meeting.
//!
//! A peer whose workers are stuck parts by itself, and a connection that brings nothing is noticed. This is for the
//! rest: a message that was taken and that nobody ever handles. Only what no disk can hold up is given a deadline: a
//! disk that is silent is given up before, and what waits for the last copy's disk may wait.

use core::time::Duration;

/// The peer's oldest leg that does not end for this long ends the meeting: more than a disk's longest silence. Behind
/// an event every command waits.
pub const LEG_AGE_MAX: Duration = Duration::from_secs(10);

/// What the peer is to do, of which each kind has its own time: commands that come and go do not hide an event.
#[derive(Debug, Default)]
pub(super) struct Overdue {
    commands: Oldest,
    events: Oldest,
}

/// The oldest of what the peer is to do, and since when it is.
#[derive(Debug, Default)]
struct Oldest {
    oldest: Option<u64>,
    /// How long the controller had run.
    since: Duration,
}

impl Oldest {
    /// `oldest` names what is the oldest now; whether it has been for too long.
    fn overdue(&mut self, oldest: Option<u64>, ran: Duration) -> bool {
        if self.oldest != oldest {
            (self.oldest, self.since) = (oldest, ran);
        }
        let overdue = oldest.is_some() && ran.saturating_sub(self.since) >= LEG_AGE_MAX;
        if overdue {
            self.oldest = None;
        }
        overdue
    }
}

impl Overdue {
    /// The peer has nothing to do.
    pub(super) const fn rests(&self) -> bool {
        self.commands.oldest.is_none() && self.events.oldest.is_none()
    }

    /// Time has passed: the oldest command and the oldest event that only the peer can end, by a name that no other has
    /// meanwhile, and how long the controller had run. True if the peer has had either for too long.
    pub(super) fn tick(&mut self, command: Option<u64>, event: Option<u64>, ran: Duration) -> bool {
        let overdue = [self.commands.overdue(command, ran), self.events.overdue(event, ran)];
        overdue.contains(&true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_time_and_a_younger_one_begins_anew() {
        let mut overdue = Overdue::default();
        let second = Duration::from_secs(1);
        assert!(!overdue.tick(Some(1), None, second));
        assert!(!overdue.tick(Some(1), Some(9), 2 * second));
        // Commands come and go; the event stays.
        assert!(!overdue.tick(Some(2), Some(9), LEG_AGE_MAX + second));
        assert!(overdue.tick(Some(3), Some(9), LEG_AGE_MAX + 2 * second));
        assert!(!overdue.tick(Some(3), Some(9), LEG_AGE_MAX + 3 * second), "it was said");
        assert!(!overdue.tick(None, None, 100 * LEG_AGE_MAX));
    }
}
