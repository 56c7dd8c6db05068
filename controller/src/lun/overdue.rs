//! The deadline of what the peer is to do: a leg that is never answered ends the meeting.
//!
//! A peer whose workers are stuck parts by itself, and a connection that brings nothing is noticed. This is for the
//! rest: a message that was taken and that nobody ever handles. Only what no disk can hold up is given a deadline: a
//! disk that is silent is given up before, and what waits for the last copy's disk may wait.

use core::time::Duration;

use super::task::Action;
use crate::pair::{PairFault, PairView, Service};

/// The peer's oldest leg that does not end for this long ends the meeting: more than a disk's longest silence. Behind
/// an event every command waits.
pub const LEG_AGE_MAX: Duration = Duration::from_secs(10);

/// The oldest of what only the peer can end, each by a name that no other of its kind has meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Oldest {
    /// A command that changes blocks.
    pub(super) command: Option<u64>,
    pub(super) event: Option<u64>,
}

impl Oldest {
    /// What has a deadline in such a place in the pair. Where the only whole copy is main's, a command waits for its
    /// disk.
    const fn with_deadline(self, service: Service) -> Self {
        match service {
            Service::Mirrored => self,
            Service::Refused | Service::Undecided | Service::Alone | Service::Forwarded => {
                Self { command: None, ..self }
            }
        }
    }
}

/// What the peer is to do, of which each kind has its own time: commands that come and go do not hide an event.
#[derive(Debug, Default)]
pub(super) struct Overdue {
    commands: Since,
    events: Since,
}

/// The oldest of what the peer is to do, and since when it is.
#[derive(Debug, Default)]
struct Since {
    oldest: Option<u64>,
    /// How long the controller had run.
    since: Duration,
}

impl Since {
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

    /// Time has passed: what the oldest is that only the peer can end, and how long the controller had run. Ends the
    /// meeting if the peer has had either for too long.
    pub(super) fn tick(&mut self, oldest: Oldest, view: &PairView, ran: Duration, actions: &mut Vec<Action>) {
        let Oldest { command, event } = oldest.with_deadline(view.service);
        let overdue = [self.commands.overdue(command, ran), self.events.overdue(event, ran)];
        if overdue.contains(&true) {
            actions.push(Action::Broken(PairFault::Overdue, view.generation));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::Role;

    #[test]
    fn a_command_has_a_deadline_where_both_have_the_blocks_and_an_event_everywhere() {
        let (both, event) =
            (Oldest { command: Some(1), event: Some(2) }, Oldest { command: None, event: Some(2) });
        for (service, expected) in [
            (Service::Mirrored, both),
            (Service::Refused, event),
            (Service::Undecided, event),
            (Service::Alone, event),
            (Service::Forwarded, event),
        ] {
            assert_eq!(both.with_deadline(service), expected, "{service:?}");
        }
    }

    #[test]
    fn each_kind_has_its_own_time_and_a_younger_one_begins_anew() {
        let view = PairView { service: Service::Mirrored, ..PairView::suspended(Role::Sub) };
        let mut overdue = Overdue::default();
        let mut tick = |command, event, ran| {
            let mut actions = Vec::new();
            overdue.tick(Oldest { command, event }, &view, ran, &mut actions);
            !actions.is_empty()
        };
        let second = Duration::from_secs(1);
        assert!(!tick(Some(1), None, second));
        assert!(!tick(Some(1), Some(9), 2 * second));
        // Commands come and go; the event stays.
        assert!(!tick(Some(2), Some(9), LEG_AGE_MAX + second));
        assert!(tick(Some(3), Some(9), LEG_AGE_MAX + 2 * second));
        assert!(!tick(Some(3), Some(9), LEG_AGE_MAX + 3 * second), "it was said");
        assert!(!tick(None, None, 100 * LEG_AGE_MAX));
    }
}
