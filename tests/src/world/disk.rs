//! Simulated disks. What is asked takes effect piece by piece, in any order, somewhere between its submission
//! and its completion: whoever reads beside a write sees parts of it. What is on them is in [`super::volume`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use controller::disk::flush::Flusher;
use controller::disk::{DiskError, DiskIo, DiskResult};
use controller::plan::Side;
use controller::volume::redo::{self, HEADER_BYTES};
use controller::volume::stack::VolumeId;
use controller::volume::superblock::Superblock;
use controller::world::Ticket;
use parking_lot::Mutex;
use protocol::block::{BlockRange, Lba};

use super::director::members;
use super::hub::{Event, Hub};
use super::script::Io;
use super::volume::{RECORD, Recovered, Volume};
use crate::judge::{Extent, Kind, OpId, Operation, Outcome, Seen};
use crate::workload::content::{BLOCK_BYTES, Mark};

/// Blocks of a redo record before its data.
const HEADER_BLOCKS: u64 = (HEADER_BYTES / BLOCK_BYTES) as u64;

/// Pieces of one disk I/O at most.
const PIECES_MAX: u64 = 5;

/// All volumes of one controller.
pub(super) struct Disk {
    pub(super) volumes: Vec<Volume>,
    submitted: u64,
    flights: BTreeMap<u64, Flight>,
    /// What is wrong with it.
    pub(super) trouble: Option<Trouble>,
    /// The volume that alone has it; none: all have.
    troubled: Option<usize>,
    /// The product's own memory of failed flushes, by volume.
    flushers: Vec<Flusher>,
}

/// What is wrong with a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// Reads and writes fail.
    Io,
    /// Writes fail for want of room.
    Full,
    /// Flushes fail, and what they were to make durable may be lost.
    Flush,
    /// The next flush does, and then all is well.
    FlushOnce,
    /// Reads, writes and flushes of volumes do not end.
    Silent,
}

#[derive(Debug)]
struct Flight {
    volume: VolumeId,
    io: DiskIo,
    ticket: Ticket,
    /// What a read has seen so far.
    buffer: Vec<u8>,
    /// How it is going to fail.
    error: Option<DiskError>,
    /// For a flush: what it covers.
    covers: Covers,
}

/// What a flush makes durable: what took effect before it was submitted and was complete by then.
#[derive(Clone, Debug, Default)]
pub(super) struct Covers {
    /// Effects below this number.
    pub(super) below: u64,
    /// But not of these I/Os, which were not complete.
    pub(super) not: Vec<u64>,
}

impl Disk {
    pub(super) fn new(volumes: usize, troubled: Option<usize>) -> Self {
        Self {
            volumes: vec![Volume::default(); volumes],
            submitted: 0,
            flights: BTreeMap::new(),
            trouble: None,
            troubled,
            flushers: (0..volumes).map(|_| Flusher::default()).collect(),
        }
    }

    /// Its controller is gone; so is what was in flight, and what it remembered of failures.
    pub(super) fn forget(&mut self) {
        self.flights.clear();
        self.flushers.iter_mut().for_each(|flusher| *flusher = Flusher::default());
    }

    /// What kind of I/O is in flight under a number.
    pub(super) fn kind_of(&self, number: u64) -> Option<Io> {
        Some(match self.flights.get(&number)?.io {
            DiskIo::Read(_)
            | DiskIo::Verify { .. }
            | DiskIo::Prefetch(_)
            | DiskIo::Extents { .. }
            | DiskIo::Usage => Io::Read,
            DiskIo::Flush => Io::Flush,
            DiskIo::Write { .. }
            | DiskIo::WriteSame { .. }
            | DiskIo::Unmap(_)
            | DiskIo::Record { .. }
            | DiskIo::Unrecord => Io::Change,
        })
    }

    /// Whether I/O of a kind is in flight on the first LUN.
    pub(super) fn has_in_flight(&self, io: Io) -> bool {
        self.flights.iter().any(|(number, flight)| flight.volume.0 == 0 && self.kind_of(*number) == Some(io))
    }

    /// What is wrong with a volume.
    fn trouble_of(&self, volume: VolumeId) -> Option<Trouble> {
        self.trouble.filter(|_| self.troubled.is_none_or(|only| only == usize::from(volume.0)))
    }

    /// Whether a volume answers nothing.
    pub(super) fn is_silent(&self, volume: VolumeId) -> bool {
        self.trouble_of(volume) == Some(Trouble::Silent)
    }

    /// Whether what is in flight under a number waits for a volume that answers nothing.
    pub(super) fn waits_in_silence(&self, number: u64) -> bool {
        self.flights.get(&number).is_some_and(|flight| self.is_silent(flight.volume))
    }

    fn error(&mut self, volume: VolumeId, io: &DiskIo) -> Option<DiskError> {
        match (self.trouble_of(volume), io) {
            (Some(Trouble::Flush | Trouble::Io), DiskIo::Flush) => Some(DiskError::FlushFailed),
            (Some(Trouble::FlushOnce), DiskIo::Flush) => {
                self.trouble = None;
                Some(DiskError::FlushFailed)
            }
            (Some(Trouble::Io), _) => Some(DiskError::Io),
            (
                Some(Trouble::Full),
                DiskIo::Write { .. } | DiskIo::WriteSame { .. } | DiskIo::Record { .. },
            ) => Some(DiskError::Full),
            _ => None,
        }
    }

    fn covers(&self, volume: VolumeId) -> Covers {
        let writes = self.flights.iter().filter(|(_, flight)| flight.volume == volume);
        Covers {
            below: self.volumes[usize::from(volume.0)].effects(),
            not: writes.map(|(number, _)| *number).collect(),
        }
    }
}

/// The blocks an I/O touches.
fn ranges(io: &DiskIo) -> Vec<BlockRange> {
    match io {
        DiskIo::Read(range)
        | DiskIo::Write { range, .. }
        | DiskIo::WriteSame { range, .. }
        | DiskIo::Verify { range, .. } => vec![*range],
        DiskIo::Unmap(ranges) => ranges.clone(),
        DiskIo::Record { range, .. } => record(range.blocks),
        DiskIo::Unrecord => record(0),
        DiskIo::Prefetch(_) | DiskIo::Extents { .. } | DiskIo::Usage | DiskIo::Flush => Vec::new(),
    }
}

/// The blocks of a redo record with so many blocks of data.
fn record(blocks: u64) -> Vec<BlockRange> {
    vec![BlockRange { start: Lba(RECORD), blocks: HEADER_BLOCKS + blocks }]
}

fn conflict(a: &DiskIo, b: &DiskIo) -> bool {
    let only_reads = |io: &DiskIo| matches!(io, DiskIo::Read(_) | DiskIo::Verify { .. });
    let reads = only_reads(a) && only_reads(b);
    !reads && ranges(a).iter().any(|x| ranges(b).iter().any(|y| x.overlaps(y)))
}

impl Hub {
    /// Submits disk I/O as the action of the current event.
    pub(super) fn submit(
        &mut self,
        side: Side,
        volume: VolumeId,
        io: DiskIo,
        ticket: Ticket,
    ) -> Option<DiskResult> {
        let now = self.now();
        let disk = &mut self.disks[side.index()];
        let blocks = self.settings.luns[usize::from(volume.0)].blocks;
        let recorded = matches!(io, DiskIo::Record { .. } | DiskIo::Unrecord);
        let inside = recorded || ranges(&io).iter().all(|range| range.end().0 <= blocks);
        assert!(inside, "{io:?} leaves the volume");
        if disk.volumes[usize::from(volume.0)].superblock.is_none() {
            return Some(Err(DiskError::Absent));
        }
        let beside = disk.flights.values().filter(|flight| flight.volume == volume);
        if let Some(other) = beside.into_iter().find(|flight| conflict(&flight.io, &io)) {
            self.report.disk_conflicts += 1;
            let (a, b) = (ranges(&other.io), ranges(&io));
            self.trace.event(now.0, format_args!("{side:?} disk: {b:?} beside {a:?} in flight"));
        }
        disk.submitted += 1;
        let number = disk.submitted;
        let bytes = match &io {
            DiskIo::Read(range) | DiskIo::Verify { range, .. } => range.bytes() as usize,
            _ => 0,
        };
        let (error, silent) = (disk.error(volume, &io), disk.is_silent(volume));
        let covers = if io == DiskIo::Flush { disk.covers(volume) } else { Covers::default() };
        // What fails has taken effect as a whole or not at all.
        let pieces = if error.is_some() && self.random.percent(50) { Vec::new() } else { ranges(&io) };
        let buffer = vec![0; bytes];
        disk.flights.insert(number, Flight { volume, io, ticket, buffer, error, covers });
        if !self.stalled(side) && !silent && self.random.percent(self.settings.inline_percent) {
            pieces.into_iter().for_each(|piece| self.disk_piece(side, number, piece));
            return Some(self.disk_done(side, number).1);
        }
        let start = self.perform_time();
        let mut end = start;
        for range in pieces {
            for piece in self.cut(range) {
                let at = start + self.settings.disk.draw(&mut self.random);
                end = end.max(at);
                self.at(at, Event::DiskPiece(side, number, piece));
            }
        }
        let end = end + self.settings.disk.draw(&mut self.random);
        self.at(end, Event::DiskDone(side, number));
        None
    }

    /// Cuts a range into a few pieces.
    fn cut(&mut self, range: BlockRange) -> Vec<BlockRange> {
        let mut pieces = Vec::new();
        let mut start = range.start.0;
        let end = range.end().0;
        while start < end {
            let left = end - start;
            let last = pieces.len() as u64 + 1 >= PIECES_MAX;
            let blocks = if last { left } else { self.random.between(1, left) };
            pieces.extend(BlockRange::new(start, blocks));
            start += blocks;
        }
        pieces
    }

    /// A piece takes effect.
    pub(super) fn disk_piece(&mut self, side: Side, number: u64, piece: BlockRange) {
        let disk = &mut self.disks[side.index()];
        let Some(flight) = disk.flights.get_mut(&number) else { return };
        let volume = &mut disk.volumes[usize::from(flight.volume.0)];
        match &flight.io {
            DiskIo::Read(range) | DiskIo::Verify { range, .. } => {
                let at = (piece.start.0 - range.start.0) as usize * BLOCK_BYTES;
                let data = volume.read(piece);
                flight.buffer[at..at + data.len()].copy_from_slice(&data);
            }
            DiskIo::Write { range, data } => {
                let skip = (piece.start.0 - range.start.0) as usize * BLOCK_BYTES;
                let data = gather(data, skip, piece.bytes() as usize);
                let before = volume.read(piece);
                volume.write(number, piece.start.0, data.clone());
                let at = flight.volume;
                self.lands(side, at, piece.start.0, &data, &before);
            }
            DiskIo::WriteSame { block, .. } => {
                (piece.start.0..piece.end().0).for_each(|lba| volume.write(number, lba, block.clone()));
                let (at, block) = (flight.volume, block.clone());
                (piece.start.0..piece.end().0).for_each(|lba| self.lands(side, at, lba, &block, &[]));
            }
            DiskIo::Unmap(_) => volume.unmap(number, piece),
            DiskIo::Record { range, data } => {
                let header = redo::header(*range, data.iter().map(|piece| &piece[..]));
                let mut record = vec![Bytes::copy_from_slice(&header)];
                record.extend(data.iter().cloned());
                let skip = (piece.start.0 - RECORD) as usize * BLOCK_BYTES;
                volume.write(number, piece.start.0, gather(&record, skip, piece.bytes() as usize));
            }
            DiskIo::Unrecord => volume.write(number, piece.start.0, vec![0; piece.bytes() as usize].into()),
            DiskIo::Prefetch(_) | DiskIo::Extents { .. } | DiskIo::Usage | DiskIo::Flush => {}
        }
    }

    /// The volumes of a controller are found at its start.
    pub(super) fn recover_volumes(&mut self, side: Side) {
        for at in 0..self.disks[side.index()].volumes.len() {
            let volume = &mut self.disks[side.index()].volumes[at];
            let Recovered { lost, replayed } = volume.recover();
            volume.lost = lost;
            let Some(range) = replayed else { continue };
            self.report.replays += 1;
            let data = volume.read(range);
            let marks =
                data.chunks(BLOCK_BYTES).zip(range.start.0..).filter_map(|(block, lba)| Mark::of(block, lba));
            let Some(judge) = self.judges.get_mut(at) else { continue };
            for mark in marks {
                if let Mark::Written(op, lba) = mark {
                    judge.replayed(op, lba, side.index());
                }
            }
        }
    }

    /// Tells the judge of a LUN what gets to a copy. One that has left the pair does not count: its disk may carry out
    /// late what it was asked before, and nobody reads it until it is refilled. Nor does what was there `before`: an
    /// ORWRITE that sets no bit writes back what another has written.
    fn lands(&mut self, side: Side, volume: VolumeId, start: u64, data: &[u8], before: &[u8]) {
        let at = usize::from(volume.0);
        if self.judges.len() <= at {
            return;
        }
        let plan = &self.settings.luns[at];
        let counts = !plan.mirror || members(self, &plan.name)[side.index()];
        let judge = &mut self.judges[at];
        let before = before.chunks(BLOCK_BYTES).map(Some).chain(core::iter::repeat(None));
        let changed = data.chunks(BLOCK_BYTES).zip(before).zip(start..);
        let mut marks = changed
            .filter(|((block, before), _)| Some(*block) != *before)
            .filter_map(|((block, _), lba)| Some((Mark::of(block, lba)?, lba)));
        let landed = marks.try_for_each(|(mark, lba)| match mark {
            Mark::Written(op, _) if counts => judge.lands(op, lba, side.index()),
            _ => Ok(()),
        });
        let lun = self.settings.luns[at].number;
        self.found(lun, landed);
    }

    /// An I/O is complete: its ticket and its result.
    pub(super) fn disk_done(&mut self, side: Side, number: u64) -> (Ticket, DiskResult) {
        let disk = &mut self.disks[side.index()];
        let flight = disk.flights.remove(&number).expect("completed once");
        if disk.flights.first_key_value().is_some_and(|(first, _)| *first < number) {
            self.report.disk_reordered += 1;
        }
        let at = usize::from(flight.volume.0);
        let mut failed = flight.error;
        if flight.io == DiskIo::Flush {
            let (volume, flusher) = (&mut disk.volumes[at], &disk.flushers[at]);
            let result = Arc::new(Mutex::new(Ok(Vec::new())));
            let told = Arc::clone(&result);
            flusher.gather(Box::new(move |result| *told.lock() = result));
            flusher.flush(|| {
                volume.flushed(&flight.covers, failed.is_none());
                failed.map_or(Ok(()), Err)
            });
            failed = result.lock().clone().err();
        }
        if let Some(error) = failed {
            self.report.disk_errors += 1;
            return (flight.ticket, Err(error));
        }
        match &flight.io {
            DiskIo::Read(_) => {}
            DiskIo::Verify { data, .. } => {
                assert_eq!(flight.buffer, data.concat(), "a disk that lost what it was told to keep");
                return (flight.ticket, Ok(Vec::new()));
            }
            DiskIo::Extents { range, descriptors } => {
                let found = disk.volumes[at].extents(*range, usize::from(*descriptors));
                return (flight.ticket, Ok(vec![Bytes::from(found)]));
            }
            DiskIo::Usage => return (flight.ticket, Ok(vec![Bytes::from(vec![0; 16])])),
            _ => return (flight.ticket, Ok(Vec::new())),
        }
        // What was read comes in one piece or in two, cut anywhere.
        let mut data = Bytes::from(flight.buffer);
        let cut = if self.random.percent(30) { self.random.below(data.len() as u64) as usize } else { 0 };
        let head = data.split_to(cut);
        let pieces = if head.is_empty() { vec![data] } else { vec![head, data] };
        (flight.ticket, Ok(pieces))
    }

    /// A volume is made.
    pub(super) fn volume_made(&mut self, side: Side, volume: VolumeId, superblock: Superblock) {
        let keeps_log = self.settings.has_trouble();
        let place = &mut self.disks[side.index()].volumes[usize::from(volume.0)];
        match &mut place.superblock {
            Some(found) if found.is_same_copy(&superblock) => *found = superblock,
            _ => *place = Volume::made(superblock, keeps_log),
        }
    }

    /// What an operation that ended well wrote or saw is, or was, on every copy. The block and the controller
    /// whose copy never had it.
    pub(super) fn missing_on_a_copy(&self, operation: &Operation) -> Option<(u64, Side)> {
        if self.settings.has_trouble() {
            // One copy may be out: then the other judges decide.
            return None;
        }
        let lun = self.settings.luns.iter().position(|lun| lun.number == operation.lun && lun.mirror)?;
        let marks: Vec<(Extent, OpId)> = match &operation.outcome {
            Outcome::Read(pieces) => {
                let mut start = operation.extents[0].start;
                let mut marks = Vec::new();
                for piece in pieces {
                    if let Seen::Written(id) = piece.seen {
                        marks.push((Extent { start, blocks: piece.blocks }, id));
                    }
                    start += piece.blocks;
                }
                marks
            }
            Outcome::Done => match operation.kind {
                Kind::Zero => Vec::new(),
                Kind::Verify { expected: Seen::Written(id) } => vec![(operation.extents[0], id)],
                Kind::Verify { .. } => Vec::new(),
                _ => vec![(operation.extents[0], operation.id)],
            },
            _ => Vec::new(),
        };
        let blocks = marks.iter().flat_map(|(extent, id)| (extent.start..extent.end()).map(|lba| (lba, *id)));
        let sides = [Side::First, Side::Second];
        let had = |side: Side, mark| self.disks[side.index()].volumes[lun].ever_had(mark);
        blocks
            .flat_map(|mark| sides.map(|side| (mark, side)))
            .find_map(|(mark, side)| (!had(side, mark)).then_some((mark.0, side)))
    }

    /// True while disk I/O is in flight.
    pub(super) fn disk_busy(&self) -> bool {
        self.disks.iter().any(|disk| !disk.flights.is_empty())
    }
}

/// `length` bytes from `skip` on, joined.
fn gather(data: &[Bytes], mut skip: usize, length: usize) -> Bytes {
    let mut out = Vec::with_capacity(length);
    for piece in data {
        let from = skip.min(piece.len());
        let to = piece.len().min(from + length - out.len());
        out.extend_from_slice(&piece[from..to]);
        skip -= from;
    }
    assert_eq!(out.len(), length, "a write shorter than its range");
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use controller::volume::superblock::Owner;

    use super::*;
    use crate::world::Settings;

    /// What a read beside a write of the same 64 blocks saw: how many of its blocks were the new ones.
    fn new_blocks_seen(seed: u64) -> usize {
        let mut hub = Hub::new(Settings { inline_percent: 0, ..Settings::of_seed(seed) });
        let volume = VolumeId(0);
        hub.volume_made(Side::First, volume, Superblock::new(1, 1, 64, Owner::NOBODY));
        let range = BlockRange::new(0, 64).unwrap();
        let data = vec![Bytes::from(vec![1; 64 * BLOCK_BYTES])];
        assert_eq!(hub.submit(Side::First, volume, DiskIo::Write { range, data }, Ticket(1)), None);
        assert_eq!(hub.submit(Side::First, volume, DiskIo::Read(range), Ticket(2)), None);
        assert_eq!(hub.report.disk_conflicts, 1);
        let mut seen = Vec::new();
        while let Some(event) = hub.pop() {
            match event {
                Event::DiskPiece(side, number, piece) => hub.disk_piece(side, number, piece),
                Event::DiskDone(side, number) => {
                    let (ticket, result) = hub.disk_done(side, number);
                    if ticket == Ticket(2) {
                        seen = result.unwrap().concat();
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(hub.disks[0].volumes[0].read(range), vec![1; 64 * BLOCK_BYTES]);
        seen.chunks(BLOCK_BYTES).filter(|block| block[0] == 1).count()
    }

    #[test]
    fn a_read_beside_a_write_may_see_nothing_parts_or_all_of_it() {
        let seen: Vec<usize> = (0..400).map(new_blocks_seen).collect();
        assert!(
            seen.contains(&0) && seen.contains(&64) && seen.iter().any(|blocks| (1..64).contains(blocks))
        );
    }
}
