//! Disk I/O under way: whose it is, and since when, so that a disk that says nothing is noticed.
//!
//! A completion is known by its number: one that comes after its work was given up finds nobody.
//!
//! A disk is given only the time in which this controller ran: one that was stopped, or whose machine was, finds
//! answers waiting when it goes on, and must not take its own absence for the disk's silence.
//!
//! Nor is a disk silent that is being flushed and has much to write: it has the time in which a slow one writes that,
//! and what it was asked besides waits behind it. One that was written little hangs as soon without a flush as with
//! one.

use core::time::Duration;
use std::sync::Arc;

use slab::Slab;

use super::task::Slot;
use crate::disk::DiskIo;
use crate::time::RunTime;
use crate::world::Ticket;

/// A mirrored copy whose disk does not answer for this long leaves the pair.
pub const DISK_SILENCE_MAX: Duration = Duration::from_secs(3);

/// The same while it is being flushed, however much was written before: no host is to wait for 10 s.
pub const FLUSH_SILENCE_MAX: Duration = Duration::from_secs(8);

/// A change that one disk takes in several steps (record, flush, blocks, flush, read back) has this long for all of
/// them, however soon each ends: it is one leg to the peer, and one command to its host.
pub const CHANGE_SILENCE_MAX: Duration = FLUSH_SILENCE_MAX;

/// Bytes that any disk of an appliance writes in a second.
const FLUSH_BYTES_A_SECOND: u64 = 8 << 20;

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
    /// The same when the change began of which this is a step.
    begun: Duration,
    flush: Option<Flush>,
}

/// What is known of a flush.
#[derive(Clone, Copy, Debug)]
struct Flush {
    /// It is of everything up to this many bytes.
    of: u64,
    /// What it may take beyond [`DISK_SILENCE_MAX`].
    patience: Duration,
}

/// The disk I/O of one LUN under way.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    work: Slab<Work>,
    begun: u64,
    clock: Arc<RunTime>,
    /// Bytes written, and how many of them are flushed.
    written: u64,
    flushed: u64,
    /// That of the flushes under way, and of those over behind which somebody still waits.
    patience: Duration,
    /// Until then somebody else may be flushing the volume, as long as a flush may take.
    flushed_from_outside: Duration,
}

impl Outstanding {
    pub(super) fn new(clock: Arc<RunTime>) -> Self {
        Self { clock, ..Self::default() }
    }

    /// Names a piece of disk I/O: LUN in the upper 16 bits, then its number, then its place.
    /// `begun`: how long the controller had run when the change began of which this is a step.
    pub(super) fn begin(&mut self, lun: u16, whose: Whose, io: &DiskIo, begun: Duration) -> Ticket {
        self.begun = (self.begun + 1) & ((1 << NUMBER_BITS) - 1);
        self.written = self.written.saturating_add(bytes_written(io));
        let flush = (*io == DiskIo::Flush).then(|| {
            let seconds = self.written.saturating_sub(self.flushed) / FLUSH_BYTES_A_SECOND;
            let beyond = FLUSH_SILENCE_MAX.saturating_sub(DISK_SILENCE_MAX);
            Flush { of: self.written, patience: Duration::from_secs(seconds).min(beyond) }
        });
        self.patience = self.patience.max(flush.map_or(Duration::ZERO, |flush| flush.patience));
        let key = self.work.insert(Work { number: self.begun, whose, since: self.ran(), begun, flush });
        Ticket(u64::from(lun) << (KEY_BITS + NUMBER_BITS) | self.begun << KEY_BITS | key as u64)
    }

    /// Whose it was, and when its change began, if it was not given up.
    pub(super) fn end(&mut self, ticket: Ticket) -> Option<(Whose, Duration)> {
        let key = (ticket.0 & ((1 << KEY_BITS) - 1)) as usize;
        let number = (ticket.0 >> KEY_BITS) & ((1 << NUMBER_BITS) - 1);
        self.work.get(key).filter(|work| work.number == number)?;
        let work = self.work.try_remove(key)?;
        self.flushed = self.flushed.max(work.flush.map_or(0, |flush| flush.of));
        Some((work.whose, work.begun))
    }

    /// Time has passed: at least every [`crate::time::TICK`] while the controller runs.
    pub(super) fn on_tick(&mut self) {
        if !self.work.iter().any(|(_, work)| self.waits(work, DISK_SILENCE_MAX)) {
            let flushes = self.work.iter().filter_map(|(_, work)| work.flush);
            self.patience = flushes.map(|flush| flush.patience).max().unwrap_or_default();
        }
    }

    fn waits(&self, work: &Work, time: Duration) -> bool {
        self.ran().saturating_sub(work.since) >= time
    }

    /// How long the controller has run.
    pub(super) fn ran(&self) -> Duration {
        self.clock.ran()
    }

    /// The volume is about to be flushed by somebody else: who waits behind that has its time.
    pub(super) fn expect_flush(&mut self) {
        self.flushed_from_outside = self.ran() + FLUSH_SILENCE_MAX;
    }

    fn patience(&self) -> Duration {
        let outside = self.ran() < self.flushed_from_outside;
        let outsides =
            if outside { FLUSH_SILENCE_MAX.saturating_sub(DISK_SILENCE_MAX) } else { Duration::ZERO };
        self.patience.max(outsides)
    }

    /// Nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.work.is_empty()
    }

    /// Whether something has been under way for too long.
    pub(super) fn is_silent(&self) -> bool {
        let too_long = |work: &Work| self.ran().saturating_sub(work.begun) >= CHANGE_SILENCE_MAX;
        self.work
            .iter()
            .any(|(_, work)| self.waits(work, DISK_SILENCE_MAX + self.patience()) || too_long(work))
    }

    /// Gives up everything, oldest first.
    pub(super) fn give_up(&mut self) -> Vec<Whose> {
        let mut all: Vec<Work> = core::mem::take(&mut self.work).into_iter().map(|(_, work)| work).collect();
        all.sort_by_key(|work| work.since);
        self.patience = Duration::ZERO;
        all.into_iter().map(|work| work.whose).collect()
    }
}

/// Bytes that a flush after it has to write.
fn bytes_written(io: &DiskIo) -> u64 {
    match io {
        DiskIo::Write { range, .. } | DiskIo::WriteSame { range, .. } | DiskIo::Record { range, .. } => {
            range.bytes()
        }
        DiskIo::Read(_)
        | DiskIo::Verify { .. }
        | DiskIo::Prefetch(_)
        | DiskIo::Extents { .. }
        | DiskIo::Usage
        | DiskIo::Unmap(_)
        | DiskIo::Unrecord
        | DiskIo::Flush => 0,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use protocol::block::BlockRange;

    use super::*;
    use crate::time::{TICK, Time};

    fn begin(outstanding: &mut Outstanding, lun: u16, whose: Whose, io: &DiskIo) -> Ticket {
        outstanding.begin(lun, whose, io, outstanding.ran())
    }

    fn read() -> DiskIo {
        DiskIo::Read(BlockRange::new(0, 1).unwrap())
    }

    /// Writes so many MiB.
    fn wrote(outstanding: &mut Outstanding, mib: u64) {
        let range = BlockRange::new(0, mib << 11).unwrap();
        let io = DiskIo::WriteSame { range, block: Bytes::new() };
        let ticket = begin(outstanding, 0, Whose::Of(Slot::Task(9)), &io);
        outstanding.end(ticket).unwrap();
    }

    /// How long one may wait for a disk that says nothing.
    fn silent_after(outstanding: &mut Outstanding, now: &mut Time) -> Duration {
        let begun = *now;
        while !outstanding.is_silent() {
            assert!(now.since(begun) < 2 * FLUSH_SILENCE_MAX);
            run(outstanding, now, TICK);
        }
        now.since(begun)
    }

    #[test]
    fn a_flush_has_the_time_in_which_a_slow_disk_writes_what_was_written_and_no_more() {
        for (mib, seconds) in [(0, 3), (7, 3), (32, 7), (100_000, 8)] {
            let (mut outstanding, mut now) = (Outstanding::default(), Time(0));
            wrote(&mut outstanding, mib);
            begin(&mut outstanding, 0, Whose::Redo, &DiskIo::Flush);
            assert_eq!(silent_after(&mut outstanding, &mut now), Duration::from_secs(seconds), "{mib} MiB");
        }
    }

    #[test]
    fn who_waits_behind_a_flush_has_its_time_and_who_comes_after_it_has_not() {
        let (mut outstanding, mut now) = (Outstanding::default(), Time(0));
        wrote(&mut outstanding, 80);
        let behind = begin(&mut outstanding, 0, Whose::Of(Slot::Task(1)), &read());
        let flush = begin(&mut outstanding, 0, Whose::Of(Slot::Task(2)), &DiskIo::Flush);
        run(&mut outstanding, &mut now, Duration::from_secs(6));
        outstanding.end(flush).unwrap();
        run(&mut outstanding, &mut now, TICK);
        assert!(!outstanding.is_silent(), "it has only just become its turn");
        outstanding.end(behind).unwrap();
        run(&mut outstanding, &mut now, TICK);
        begin(&mut outstanding, 0, Whose::Of(Slot::Task(3)), &read());
        assert_eq!(silent_after(&mut outstanding, &mut now), DISK_SILENCE_MAX);
    }

    #[test]
    fn what_was_flushed_gives_no_later_flush_time() {
        let (mut outstanding, mut now) = (Outstanding::default(), Time(0));
        wrote(&mut outstanding, 80);
        let first = begin(&mut outstanding, 0, Whose::Of(Slot::Task(1)), &DiskIo::Flush);
        let second = begin(&mut outstanding, 0, Whose::Of(Slot::Task(2)), &DiskIo::Flush);
        outstanding.end(first).unwrap();
        wrote(&mut outstanding, 24);
        outstanding.end(second).unwrap();
        run(&mut outstanding, &mut now, TICK);
        begin(&mut outstanding, 0, Whose::Of(Slot::Task(3)), &DiskIo::Flush);
        assert_eq!(silent_after(&mut outstanding, &mut now), Duration::from_secs(6));
    }

    #[test]
    fn a_completion_that_comes_after_its_work_was_given_up_is_nobodys() {
        let mut outstanding = Outstanding::default();
        let old = begin(&mut outstanding, 3, Whose::Of(Slot::Task(1)), &read());
        assert_eq!(old.0 >> 48, 3);
        assert_eq!(outstanding.give_up(), [Whose::Of(Slot::Task(1))]);
        let new = begin(&mut outstanding, 3, Whose::Of(Slot::Apply(2)), &read());
        assert_eq!(outstanding.end(old), None);
        assert_eq!(outstanding.end(new).map(|(whose, _)| whose), Some(Whose::Of(Slot::Apply(2))));
        assert_eq!(outstanding.end(new), None);
    }

    fn tick(outstanding: &mut Outstanding, now: Time) {
        outstanding.clock.tick(now);
        outstanding.on_tick();
    }

    fn run(outstanding: &mut Outstanding, now: &mut Time, time: Duration) {
        let end = *now + time;
        while *now < end {
            *now = *now + TICK;
            tick(outstanding, *now);
        }
    }

    #[test]
    fn a_disk_is_silent_when_its_oldest_work_is() {
        let (mut outstanding, mut now) = (Outstanding::default(), Time(0));
        begin(&mut outstanding, 0, Whose::Of(Slot::Task(1)), &read());
        run(&mut outstanding, &mut now, DISK_SILENCE_MAX - TICK);
        begin(&mut outstanding, 0, Whose::Of(Slot::Task(2)), &read());
        assert!(!outstanding.is_silent());
        run(&mut outstanding, &mut now, TICK);
        assert!(outstanding.is_silent());
    }

    #[test]
    fn a_controller_that_was_stopped_does_not_take_its_own_absence_for_the_disks_silence() {
        let (mut outstanding, mut now) = (Outstanding::default(), Time(0));
        run(&mut outstanding, &mut now, TICK);
        begin(&mut outstanding, 0, Whose::Of(Slot::Task(1)), &read());
        now = now + Duration::from_secs(30);
        tick(&mut outstanding, now);
        assert!(!outstanding.is_silent());
        run(&mut outstanding, &mut now, DISK_SILENCE_MAX);
        assert!(outstanding.is_silent(), "but it has to answer now");
    }

    #[test]
    fn a_change_of_many_steps_has_one_time_for_all_of_them() {
        let (mut outstanding, mut now) = (Outstanding::default(), Time(0));
        let begun = outstanding.ran();
        let begin = now;
        while now.since(begin) < CHANGE_SILENCE_MAX {
            assert!(!outstanding.is_silent(), "after {:?}", now.since(begin));
            let step = outstanding.begin(0, Whose::Of(Slot::Task(1)), &read(), begun);
            run(&mut outstanding, &mut now, DISK_SILENCE_MAX - TICK);
            outstanding.end(step);
        }
        outstanding.begin(0, Whose::Of(Slot::Task(1)), &read(), begun);
        assert!(outstanding.is_silent());
    }
}
