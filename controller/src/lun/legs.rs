//! The deadline of what the peer is to do: a leg that is never answered ends the meeting.
//!
//! A peer whose workers are stuck parts by itself, and a connection that brings nothing is noticed. This is for the rest:
//! a message that was taken and that nobody ever handles. Only what no disk can hold up is given a deadline: a disk that
//! is silent is given up before, and what waits for the last copy's disk may wait.

use core::time::Duration;

use super::Lun;
use super::task::{Action, Leg};
use crate::pair::{Breakage, Role, Service};

/// The peer's oldest leg that does not end for this long ends the meeting: more than a disk's longest silence. Behind an
/// event every command waits.
pub const LEG_AGE_MAX: Duration = Duration::from_secs(10);

/// What the peer is to do, of which each kind has its own time: commands that come and go do not hide an event.
#[derive(Debug, Default)]
pub(super) struct Legs {
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

impl Lun {
    /// The oldest leg that only the peer can end.
    fn oldest_leg(&self) -> Option<u64> {
        match (self.view.role, self.view.service) {
            (Role::Main, Service::Mirrored) => {
                let waits =
                    |slot: u32| self.tasks.get(slot as usize).is_some_and(|task| task.peer == Leg::Writing);
                self.mirror.oldest(waits)
            }
            (Role::Sub, Service::Mirrored) => self.forwarder.oldest_change(),
            _ => None,
        }
    }

    /// The oldest event that only the peer can end.
    fn oldest_event(&self) -> Option<u64> {
        match self.view.role {
            Role::Main => self.event_at_sub(),
            Role::Sub => self.forwarder.oldest_event(),
        }
    }

    /// Ends the meeting over a leg that the peer does not end.
    pub(super) fn tick_legs(&mut self, actions: &mut Vec<Action>) {
        let (command, event, ran) = (self.oldest_leg(), self.oldest_event(), self.volume.ran());
        let overdue = [self.legs.commands.overdue(command, ran), self.legs.events.overdue(event, ran)];
        if overdue.contains(&true) {
            actions.push(Action::Broken(Breakage::Overdue, self.view.generation));
        }
    }
}
