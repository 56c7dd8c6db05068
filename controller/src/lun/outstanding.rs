//! Disk I/O under way: whose it is, and since when, so that a disk that says nothing is noticed.
//!
//! A completion is known by its number: one that comes after its work was given up finds nobody.
//!
//! A disk is given only the time in which this controller ran: one that was stopped, or whose machine was, finds
//! answers waiting when it goes on, and must not take its own absence for the disk's silence.

use core::time::Duration;

use slab::Slab;

use super::task::Slot;
use crate::time::Time;
use crate::unit::TICK;
use crate::world::Ticket;

/// A mirrored copy whose disk does not answer for this long leaves the pair.
pub const DISK_SILENCE_MAX: Duration = Duration::from_secs(3);

/// Time between two ticks beyond this was spent stopped.
const RUNNING_MAX: Duration = Duration::from_millis(4 * TICK.as_millis() as u64);

const KEY_BITS: u32 = 24;
const NUMBER_BITS: u32 = 24;

/// Whose disk I/O it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Whose {
    /// A task's or an apply's.
    Of(Slot),
    /// The redo record's.
    Redo,
}

#[derive(Debug)]
struct Work {
    number: u64,
    whose: Whose,
    /// How long the controller had run.
    since: Duration,
}

/// The disk I/O of one LUN under way.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    work: Slab<Work>,
    begun: u64,
    ticked: Time,
    ran: Duration,
}

impl Outstanding {
    /// Names a piece of disk I/O: LUN in the upper 16 bits, then its number, then its place.
    pub(super) fn begin(&mut self, lun: u16, whose: Whose) -> Ticket {
        self.begun = (self.begun + 1) & ((1 << NUMBER_BITS) - 1);
        let key = self.work.insert(Work { number: self.begun, whose, since: self.ran });
        Ticket(u64::from(lun) << (KEY_BITS + NUMBER_BITS) | self.begun << KEY_BITS | key as u64)
    }

    /// Whose it was, if it was not given up.
    pub(super) fn end(&mut self, ticket: Ticket) -> Option<Whose> {
        let key = (ticket.0 & ((1 << KEY_BITS) - 1)) as usize;
        let number = (ticket.0 >> KEY_BITS) & ((1 << NUMBER_BITS) - 1);
        self.work.get(key).filter(|work| work.number == number)?;
        self.work.try_remove(key).map(|work| work.whose)
    }

    /// Time has passed: at least every [`TICK`] while the controller runs.
    pub(super) fn on_tick(&mut self, now: Time) {
        self.ran += now.since(self.ticked).min(RUNNING_MAX);
        self.ticked = now;
    }

    /// How long the controller has run.
    pub(super) const fn ran(&self) -> Duration {
        self.ran
    }

    /// Whether something has been under way for too long.
    pub(super) fn is_silent(&self) -> bool {
        self.work.iter().any(|(_, work)| self.ran.saturating_sub(work.since) >= DISK_SILENCE_MAX)
    }

    /// Gives up everything, oldest first.
    pub(super) fn give_up(&mut self) -> Vec<Whose> {
        let mut all: Vec<Work> = core::mem::take(&mut self.work).into_iter().map(|(_, work)| work).collect();
        all.sort_by_key(|work| work.since);
        all.into_iter().map(|work| work.whose).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_that_comes_after_its_work_was_given_up_is_nobodys() {
        let mut outstanding = Outstanding::default();
        let old = outstanding.begin(3, Whose::Of(Slot::Task(1)));
        assert_eq!(old.0 >> 48, 3);
        assert_eq!(outstanding.give_up(), [Whose::Of(Slot::Task(1))]);
        let new = outstanding.begin(3, Whose::Of(Slot::Apply(2)));
        assert_eq!(outstanding.end(old), None);
        assert_eq!(outstanding.end(new), Some(Whose::Of(Slot::Apply(2))));
        assert_eq!(outstanding.end(new), None);
    }

    fn run(outstanding: &mut Outstanding, now: &mut Time, time: Duration) {
        let end = *now + time;
        while *now < end {
            *now = *now + TICK;
            outstanding.on_tick(*now);
        }
    }

    #[test]
    fn a_disk_is_silent_when_its_oldest_work_is() {
        let (mut outstanding, mut now) = (Outstanding::default(), Time(0));
        outstanding.begin(0, Whose::Of(Slot::Task(1)));
        run(&mut outstanding, &mut now, DISK_SILENCE_MAX - TICK);
        outstanding.begin(0, Whose::Of(Slot::Task(2)));
        assert!(!outstanding.is_silent());
        run(&mut outstanding, &mut now, TICK);
        assert!(outstanding.is_silent());
    }

    #[test]
    fn a_controller_that_was_stopped_does_not_take_its_own_absence_for_the_disks_silence() {
        let (mut outstanding, mut now) = (Outstanding::default(), Time(0));
        run(&mut outstanding, &mut now, TICK);
        outstanding.begin(0, Whose::Of(Slot::Task(1)));
        now = now + Duration::from_secs(30);
        outstanding.on_tick(now);
        assert!(!outstanding.is_silent());
        run(&mut outstanding, &mut now, DISK_SILENCE_MAX);
        assert!(outstanding.is_silent(), "but it has to answer now");
    }
}
