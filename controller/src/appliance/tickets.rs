//! The core's tickets: which are out, since when those of volumes are, and which were given up.
//!
//! ```text
//!  issue ──► out ──► take: what it stands for, and the meeting that asked for it
//!             │
//!             └─ a volume's, and no disk has done one for [`MARK_MAX`]: given up ──► take_late, once it is done
//! ```
//!
//! What always holds: a ticket is taken once, and taken late at most once after it was given up; a time is kept of
//! exactly those tickets that are of volumes.

use core::time::Duration;
use std::collections::BTreeMap;

use super::pending::Pending;
use crate::time::{RunTime, Time};
use crate::world::Ticket;

/// When no disk has taken a mark for this time, those that are asked for one do not answer: well before the two give up
/// a meeting.
pub(super) const MARK_MAX: Duration = Duration::from_secs(2);

/// The LUN part of this core's tickets: no LUN's.
const TICKET_BASE: u64 = 0xffff << 48;

/// Whether a ticket is one of the appliance core's.
pub(crate) const fn owns(ticket: Ticket) -> bool {
    ticket.0 >= TICKET_BASE
}

/// The tickets.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    next: u64,
    /// What is waited for, with the meeting in which it was asked for.
    pending: BTreeMap<u64, (u64, Pending)>,
    /// Of those that are of volumes: since when, in the time that this controller has run.
    marking_since: BTreeMap<u64, Duration>,
    /// Those of volumes that were given up.
    late: BTreeMap<u64, Pending>,
    run_time: RunTime,
}

impl Tickets {
    /// A new ticket, for what is asked for in this meeting.
    pub(super) fn issue(&mut self, meeting: u64, pending: Pending) -> Ticket {
        let ticket = TICKET_BASE + self.next;
        self.next += 1;
        self.pending.insert(ticket, (meeting, pending));
        Ticket(ticket)
    }

    /// What a ticket stands for, and the meeting in which it was issued: it is done.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<(u64, Pending)> {
        self.pending.remove(&ticket.0)
    }

    /// What a ticket stood for that was given up: it is done after all.
    pub(super) fn take_late(&mut self, ticket: Ticket) -> Option<Pending> {
        self.late.remove(&ticket.0)
    }

    /// Whether something of the kind is waited for.
    pub(super) fn any(&self, of: impl Fn(Pending) -> bool) -> bool {
        self.pending.values().any(|(_, pending)| of(*pending))
    }

    /// The tickets of the kind that are out, in their order.
    pub(super) fn of(&self, of: impl Fn(Pending) -> bool) -> Vec<Ticket> {
        let those = self.pending.iter().filter(|(_, (_, pending))| of(*pending));
        those.map(|(ticket, _)| Ticket(*ticket)).collect()
    }

    /// The time of the last tick.
    pub(super) fn ticked(&self) -> Time {
        self.run_time.ticked()
    }

    /// Time has passed. A disk that does not make or mark a volume for long keeps nobody else from being served: those
    /// tickets are given up now, in their order.
    pub(super) fn tick(&mut self, now: Time) -> Vec<Ticket> {
        // A controller that was stopped finds what its disks have done meanwhile when it goes on.
        self.run_time.tick(now);
        let now = self.run_time.ran();
        let marking = self.pending.iter().filter(|(_, (_, pending))| pending.is_of_volume());
        let marking: Vec<u64> = marking.map(|(ticket, _)| *ticket).collect();
        let before = core::mem::take(&mut self.marking_since);
        // Many volumes may share a slow disk: as long as it takes one mark after the other it answers.
        let gets_on = before.keys().any(|ticket| !marking.contains(ticket));
        let since = |ticket: &u64| before.get(ticket).copied().filter(|_| !gets_on).unwrap_or(now);
        self.marking_since = marking.iter().map(|ticket| (*ticket, since(ticket))).collect();
        let silent = |(_, since): &(&u64, &Duration)| now.saturating_sub(**since) >= MARK_MAX;
        let silent: Vec<u64> = self.marking_since.iter().filter(silent).map(|(ticket, _)| *ticket).collect();
        for ticket in &silent {
            self.late.extend(self.pending.get(ticket).map(|(_, pending)| (*ticket, *pending)));
        }
        silent.into_iter().map(Ticket).collect()
    }

    /// Asserts what always holds.
    pub(super) fn check(&self) {
        let newest = TICKET_BASE + self.next;
        assert!(self.pending.keys().chain(self.late.keys()).all(|ticket| *ticket < newest));
        assert!(self.late.values().all(|late| late.is_of_volume()), "only a volume is waited for late");
        assert!(self.late.keys().all(|late| !self.pending.contains_key(late)), "given up and waited for");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appliance::starts::Round;
    use crate::time::TICK;

    const MARK: Pending = Pending::Marked(0, Round::Start);

    /// Ticks until the given number of milliseconds; what was given up.
    fn run(tickets: &mut Tickets, from: u64, to: u64) -> Vec<Ticket> {
        let step = TICK.as_millis() as u64;
        let ticks = (from..=to).step_by(step as usize);
        ticks.flat_map(|ms| tickets.tick(Time(0) + Duration::from_millis(ms))).collect()
    }

    #[test]
    fn a_ticket_is_taken_once_with_its_meeting() {
        let mut tickets = Tickets::default();
        let [one, two] = [tickets.issue(3, Pending::Identity), tickets.issue(4, Pending::Clean)];
        assert!(owns(one) && one != two);
        assert_eq!(tickets.take(one), Some((3, Pending::Identity)));
        assert_eq!(tickets.take(one), None);
        assert_eq!(tickets.take(two), Some((4, Pending::Clean)));
        tickets.check();
    }

    #[test]
    fn a_mark_that_is_not_taken_in_time_is_given_up_and_comes_late_once() {
        let mut tickets = Tickets::default();
        run(&mut tickets, 0, 1_000);
        let mark = tickets.issue(1, MARK);
        let record = tickets.issue(1, Pending::Noted);
        assert_eq!(run(&mut tickets, 1_050, 3_000), []);
        assert_eq!(run(&mut tickets, 3_050, 3_050), [mark], "a record is waited for as long as it takes");
        assert_eq!(tickets.take(mark), Some((1, MARK)));
        tickets.check();
        assert_eq!(tickets.take_late(mark), Some(MARK));
        assert_eq!(tickets.take_late(mark), None);
        assert_eq!(tickets.take_late(record), None);
    }

    #[test]
    fn as_long_as_a_disk_takes_one_mark_after_the_other_none_is_given_up() {
        let mut tickets = Tickets::default();
        let mut last = Vec::new();
        let marks: Vec<Ticket> = (0..4).map(|_| tickets.issue(1, MARK)).collect();
        for (index, mark) in marks.into_iter().enumerate() {
            let from = 1_500 * index as u64;
            last = run(&mut tickets, from, from + 1_450);
            assert_eq!(last, [], "{index}");
            assert!(tickets.take(mark).is_some());
        }
        assert_eq!(last, []);
    }

    #[test]
    fn time_in_which_the_controller_was_stopped_gives_nothing_up() {
        let mut tickets = Tickets::default();
        run(&mut tickets, 0, 100);
        tickets.issue(1, MARK);
        run(&mut tickets, 150, 150);
        assert_eq!(run(&mut tickets, 30_000, 30_000), []);
    }
}
