//! The order of the redo record against a disk that keeps an arbitrary part of what was not flushed, and a machine
//! that may stop between any two sectors.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use protocol::block::BlockRange;

use super::redo::{Change, Go, Redo, Step};
use super::task::Slot;
use crate::disk::{DiskError, DiskIo};
use crate::volume::redo::{self, Found, HEADER_BYTES, RECORD_OFFSET};
use crate::volume::stack::{Part, Stack, VolumeId};

const BLOCKS: u64 = 4;
const SECTOR: usize = 512;
/// Where the tail begins, in sectors.
const TAIL: u64 = 100;
const RECORD: u64 = TAIL + RECORD_OFFSET / SECTOR as u64;
const HEADER_SECTORS: u64 = (HEADER_BYTES / SECTOR) as u64;

/// A disk of sectors: what reads see, and what is left without power.
#[derive(Clone, Default)]
struct Disk {
    live: BTreeMap<u64, Bytes>,
    durable: BTreeMap<u64, Bytes>,
    /// Not durable yet, in its order; with the I/O it belongs to.
    log: Vec<(u64, u64, Bytes)>,
    /// Sectors written until the machine stops; for replays that are interrupted.
    left: Option<u64>,
}

struct Stopped;

impl Disk {
    fn put(&mut self, io: u64, sector: u64, content: Bytes) {
        self.log.push((io, sector, content.clone()));
        self.live.insert(sector, content);
    }

    /// What was written by I/O that was complete becomes durable.
    fn flush(&mut self, covered: impl Fn(u64) -> bool) {
        let durable = &mut self.durable;
        self.log.retain(|(io, sector, content)| {
            if covered(*io) {
                durable.insert(*sector, content.clone());
            }
            !covered(*io)
        });
    }

    /// Of every sector any of its contents since the last flush survives.
    fn lose_power(&mut self, choose: &mut impl FnMut(usize) -> usize) {
        let mut contents: BTreeMap<u64, Vec<Bytes>> = BTreeMap::new();
        for (_, sector, content) in core::mem::take(&mut self.log) {
            contents.entry(sector).or_default().push(content);
        }
        for (sector, contents) in contents {
            if let Some(survivor) = choose(contents.len() + 1).checked_sub(1) {
                self.durable.insert(sector, contents[survivor].clone());
            }
        }
        self.live = self.durable.clone();
    }

    fn read(&self, sector: u64) -> Bytes {
        self.live.get(&sector).cloned().unwrap_or_else(|| Bytes::from(vec![0; SECTOR]))
    }

    /// Which change a block holds; zero for none.
    fn holds(&self, block: u64) -> u32 {
        let content = self.read(block);
        u32::from_le_bytes(content[..4].try_into().unwrap())
    }

    fn write_bytes(&mut self, sector: u64, bytes: &[u8]) -> Result<(), Stopped> {
        for (at, content) in (sector..).zip(bytes.chunks(SECTOR)) {
            match &mut self.left {
                Some(0) => return Err(Stopped),
                left => *left = left.map(|left| left - 1),
            }
            self.put(0, at, Bytes::copy_from_slice(content));
        }
        Ok(())
    }
}

impl Found for Disk {
    type Error = Stopped;
    fn read_tail(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Stopped> {
        let first = TAIL + offset / SECTOR as u64;
        (first..).zip(into.chunks_mut(SECTOR)).for_each(|(at, into)| into.copy_from_slice(&self.read(at)));
        Ok(())
    }
    fn write_tail(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Stopped> {
        self.write_bytes(TAIL + offset / SECTOR as u64, bytes)
    }
    fn write(&mut self, part: Part, data: &[u8]) -> Result<(), Stopped> {
        self.write_bytes(part.range.start.0, data)
    }
    fn flush(&mut self) -> Result<(), Stopped> {
        if self.left == Some(0) {
            return Err(Stopped);
        }
        Self::flush(self, |_| true);
        Ok(())
    }
}

/// Nothing lies beside the base.
const ALONE: Stack = Stack::of(VolumeId(0));

/// What a host asked for.
#[derive(Clone, Debug)]
struct Asked {
    range: BlockRange,
    /// Where it wrote, also when nothing follows from it any more.
    wrote: BlockRange,
    atomic: bool,
    done: bool,
}

/// Disk I/O under way.
struct Flight {
    number: u64,
    whose: Option<Slot>,
    io: DiskIo,
    /// Sectors still to be written.
    sectors: Vec<(u64, Bytes)>,
    /// For a flush: the I/O that was not complete when it was asked for.
    not: Vec<u64>,
}

/// One copy, its disk, and hosts that hold their ranges.
struct Copy {
    redo: Redo,
    disk: Disk,
    flights: Vec<Flight>,
    submitted: u64,
    asked: Vec<Asked>,
    /// Per block, the last change that was done when a flush was asked for that has ended.
    durable: Newest,
    /// What was there when the controller started.
    begun: Newest,
    /// By flush of a host: what was done when it was asked for.
    floors: Vec<Newest>,
}

/// Where a change of an earlier run is, of which nothing follows any more.
const NOWHERE: BlockRange = BlockRange { start: protocol::block::Lba(BLOCKS), blocks: 0 };

/// The newest change of each block.
type Newest = [u32; BLOCKS as usize];

fn block(id: u32) -> Bytes {
    let mut content = vec![0; SECTOR];
    content[..4].copy_from_slice(&id.to_le_bytes());
    Bytes::from(content)
}

fn range(start: u64, blocks: u64) -> BlockRange {
    BlockRange::new(start, blocks).unwrap()
}

fn sectors(io: &DiskIo) -> Vec<(u64, Bytes)> {
    let cut = |start: u64, bytes: Vec<u8>| {
        let pieces = bytes.chunks(SECTOR).map(Bytes::copy_from_slice).collect::<Vec<_>>();
        (start..).zip(pieces).collect::<Vec<_>>()
    };
    match io {
        DiskIo::Write { range, data } => cut(range.start.0, data.concat()),
        DiskIo::Record { range, data } => {
            let header = redo::header(*range, data.iter().map(|piece| &piece[..]));
            // Of the header only its first sector says anything.
            [cut(RECORD, header[..SECTOR].to_vec()), cut(RECORD + HEADER_SECTORS, data.concat())].concat()
        }
        DiskIo::Unrecord => cut(RECORD, vec![0; SECTOR]),
        DiskIo::Unmap(ranges) => cut(ranges[0].start.0, vec![0; ranges[0].bytes() as usize]),
        _ => Vec::new(),
    }
}

impl Copy {
    fn new(disk: Disk, asked: Vec<Asked>, durable: Newest) -> Self {
        Self {
            redo: Redo::default(),
            disk,
            flights: Vec::new(),
            submitted: 0,
            asked,
            durable,
            begun: [0; BLOCKS as usize],
            floors: Vec::new(),
        }
    }

    /// The newest change of each block that is done.
    fn newest_done(&self) -> Newest {
        core::array::from_fn(|at| {
            let on_it = |asked: &Asked| asked.done && asked.range.overlaps(&range(at as u64, 1));
            let ids = self.asked.iter().zip(1..).filter(|(asked, _)| on_it(asked)).map(|(_, id)| id);
            ids.max().unwrap_or(0).max(self.begun[at])
        })
    }

    /// A host makes everything done so far durable.
    fn flush(&mut self) {
        let floor = self.newest_done();
        self.floors.push(floor);
        self.submit(Some(Slot::Apply(self.floors.len() as u32 - 1)), DiskIo::Flush);
    }

    fn submit(&mut self, whose: Option<Slot>, io: DiskIo) {
        self.submitted += 1;
        let not = self.flights.iter().map(|flight| flight.number).collect();
        let sectors = sectors(&io);
        self.flights.push(Flight { number: self.submitted, whose, io, sectors, not });
    }

    fn go(&mut self, go: Go) {
        match go {
            Go::Own(io) => self.submit(None, io),
            Go::Pass(slot, io) => self.submit(Some(slot), io),
        }
    }

    /// A host changes blocks, if nobody else does: every change holds its range until it is done. One that is atomic
    /// is alone among its kind.
    fn change(&mut self, range: BlockRange, atomic: bool) {
        let atomic = atomic && range.blocks > 1;
        let busy = |other: &Asked| !other.done && (other.range.overlaps(&range) || (atomic && other.atomic));
        if self.asked.iter().any(busy) {
            return;
        }
        self.asked.push(Asked { range, wrote: range, atomic, done: false });
        let id = self.asked.len() as u32;
        let data = (0..range.blocks).map(|_| block(id)).collect();
        let change = Change { slot: Slot::Task(id), io: DiskIo::Write { range, data }, atomic };
        if let Some(go) = self.redo.ask(change) {
            self.go(go);
        }
    }

    fn change_over(&mut self, choose: &mut impl FnMut(usize) -> usize) {
        let Some(last) = self.asked.iter().rposition(|asked| asked.atomic) else {
            return;
        };
        while !self.asked[last].done {
            self.happen(choose);
        }
        self.change(range(self.asked[last].range.start.0, 1), false);
        let id = self.asked.len() - 1;
        while !self.asked[id].done {
            self.happen(choose);
        }
    }

    /// A little of what is under way happens: a sector, or an end.
    fn happen(&mut self, choose: &mut impl FnMut(usize) -> usize) {
        if self.flights.is_empty() {
            return;
        }
        let at = choose(self.flights.len());
        let flight = &mut self.flights[at];
        if !flight.sectors.is_empty() {
            let (sector, content) = flight.sectors.swap_remove(choose(flight.sectors.len()));
            let number = flight.number;
            return self.disk.put(number, sector, content);
        }
        let flight = self.flights.remove(at);
        if flight.io == DiskIo::Flush {
            self.disk.flush(|io| io < flight.number && !flight.not.contains(&io));
        }
        match flight.whose {
            Some(Slot::Apply(flush)) => {
                let floor = self.floors[flush as usize];
                self.durable.iter_mut().zip(floor).for_each(|(last, new)| *last = new.max(*last));
            }
            Some(Slot::Task(id)) => self.asked[id as usize - 1].done = true,
            _ => {
                let mut steps = Vec::new();
                self.redo.on_disk(Ok(Vec::new()), &mut steps);
                for step in steps {
                    match step {
                        Step::Go(go) => self.go(go),
                        Step::Done(Slot::Task(id), result) => {
                            assert_eq!(result, Ok(Vec::new()));
                            self.asked[id as usize - 1].done = true;
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
    }

    /// The controller ends, or the machine loses power; then it starts again, perhaps after stopping once more in the
    /// middle of the replay. What is on the disk must be what was promised.
    fn crash(self, power: bool, again: Option<u64>, choose: &mut impl FnMut(usize) -> usize) -> Self {
        let floor = if power { self.durable } else { self.newest_done() };
        let kept = self.durable;
        let Self { mut disk, mut asked, .. } = self;
        let mut floor = floor;
        if power {
            disk.lose_power(choose);
        }
        disk.left = again;
        if redo::replay(&mut disk, ALONE, BLOCKS).is_err() {
            if choose(2) == 0 {
                disk.lose_power(choose);
                floor = kept;
            }
            disk.left = None;
            assert!(redo::replay(&mut disk, ALONE, BLOCKS).is_ok());
        }
        disk.left = None;
        for at in 0..BLOCKS {
            let held = disk.holds(at);
            let touched = held == 0 || asked[held as usize - 1].wrote.overlaps(&range(at, 1));
            assert!(touched, "block {at} holds change {held}, which is not of it");
            let floor = floor[at as usize];
            assert!(held >= floor, "block {at} holds change {held}, and {floor} was there to stay");
        }
        for (change, id) in asked.iter().zip(1_u32..).filter(|(change, _)| change.atomic) {
            let new = |at: &u64| disk.holds(*at) >= id;
            let blocks = (change.range.start.0..change.range.end().0).collect::<Vec<_>>();
            let whole = blocks.iter().all(new) || !blocks.iter().any(new);
            assert!(
                whole,
                "change {id} is torn: {:?}",
                blocks.iter().map(|at| disk.holds(*at)).collect::<Vec<_>>()
            );
        }
        // What the hosts find now is where they begin.
        let there = core::array::from_fn(|at| disk.holds(at as u64));
        for (change, id) in asked.iter_mut().zip(1_u32..) {
            change.atomic &= (change.range.start.0..change.range.end().0).all(|at| there[at as usize] >= id);
            (change.done, change.range) = (true, if change.atomic { change.range } else { NOWHERE });
        }
        disk.log.iter_mut().for_each(|(io, ..)| *io = 0);
        let durable = if disk.log.is_empty() { there } else { floor.map(|_| 0) };
        let durable =
            if power { there } else { core::array::from_fn(|at| durable[at].max(kept[at]).min(there[at])) };
        Self { begun: there, ..Self::new(disk, asked, durable) }
    }
}

/// Choices out of a list, again and again.
fn chooser(seed: u64) -> impl FnMut(usize) -> usize {
    let mut word = seed | 1;
    move |below| {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        (word.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below.max(1)
    }
}

#[derive(Clone, Debug)]
enum Move {
    Change(BlockRange, bool),
    /// A change of one block of the last atomic write, as soon as that is done, and all its way.
    Over,
    Flush,
    Happen(u8),
    Crash {
        power: bool,
        again: Option<u64>,
    },
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let change = (0..BLOCKS, 1..=BLOCKS, any::<bool>())
        .prop_map(|(start, blocks, atomic)| Move::Change(range(start, blocks.min(BLOCKS - start)), atomic));
    let crash =
        (any::<bool>(), prop::option::of(0_u64..6)).prop_map(|(power, again)| Move::Crash { power, again });
    let one = prop_oneof![
        4 => change,
        2 => Just(Move::Over),
        1 => Just(Move::Flush),
        8 => (1_u8..12).prop_map(Move::Happen),
        1 => crash,
    ];
    prop::collection::vec(one, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn an_atomic_write_is_all_or_nothing_through_any_crash_and_no_replay_undoes_what_came_later(
        moves in moves(), seed: u64, power: bool,
    ) {
        let mut choose = chooser(seed);
        let mut copy = Copy::new(Disk::default(), Vec::new(), [0; BLOCKS as usize]);
        for step in moves {
            match step {
                Move::Change(range, atomic) => copy.change(range, atomic),
                Move::Over => copy.change_over(&mut choose),
                Move::Flush => copy.flush(),
                Move::Happen(times) => (0..times).for_each(|_| copy.happen(&mut choose)),
                Move::Crash { power, again } => copy = copy.crash(power, again, &mut choose),
            }
        }
        copy.crash(power, None, &mut choose);
    }
}

/// The controller ends when its record is only in the page cache, and the power goes in the middle of the replay.
#[test]
fn a_record_that_was_only_in_memory_is_replayed_whole_or_not_at_all_though_the_power_goes_then() {
    for (seed, after, left) in
        (0..40).flat_map(|seed| (0..3).flat_map(move |after| (0..12).map(move |left| (seed, after, left))))
    {
        let mut choose = chooser(seed * 7919 + 1);
        let mut copy = Copy::new(Disk::default(), Vec::new(), [0; BLOCKS as usize]);
        copy.change(range(0, BLOCKS), true);
        (0..after).for_each(|_| copy.happen(&mut choose));
        copy.crash(false, Some(left), &mut choose).crash(true, None, &mut choose);
    }
}

fn write(id: u32, start: u64, blocks: u64, atomic: bool) -> Change {
    let data = (0..blocks).map(|_| block(id)).collect();
    Change { slot: Slot::Task(id), io: DiskIo::Write { range: range(start, blocks), data }, atomic }
}

fn go(io: DiskIo) -> Vec<Step> {
    vec![Step::Go(Go::Own(io))]
}

fn on_disk(redo: &mut Redo, good: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    redo.on_disk(if good { Ok(Vec::new()) } else { Err(DiskError::Io) }, &mut steps);
    steps
}

#[test]
fn the_record_is_kept_before_the_blocks_and_goes_after_them() {
    let mut redo = Redo::default();
    let Change { io: placed, .. } = write(1, 0, 2, true);
    let DiskIo::Write { range: blocks, data } = placed.clone() else { unreachable!() };
    assert_eq!(redo.ask(write(1, 0, 2, true)), Some(Go::Own(DiskIo::Record { range: blocks, data })));
    let beside = write(2, 2, 1, false);
    assert_eq!(redo.ask(beside), Some(Go::Pass(Slot::Task(2), write(2, 2, 1, false).io)), "others pass");
    assert_eq!(on_disk(&mut redo, true), go(DiskIo::Flush));
    assert_eq!(on_disk(&mut redo, true), go(placed));
    let done = Step::Done(Slot::Task(1), Ok(Vec::new()));
    assert_eq!(on_disk(&mut redo, true), [done, Step::Go(Go::Own(DiskIo::Flush))]);
    assert_eq!(redo.ask(write(3, 1, 1, false)), None, "it waits for the record to go");
    assert_eq!(redo.ask(write(4, 4, 2, true)), None, "there is one record");
    assert_eq!(on_disk(&mut redo, true), go(DiskIo::Unrecord));
    assert!(!redo.is_quiet());
    let Change { io: DiskIo::Write { range, data }, .. } = write(4, 4, 2, true) else { unreachable!() };
    let after = [Go::Pass(Slot::Task(3), write(3, 1, 1, false).io), Go::Own(DiskIo::Record { range, data })];
    assert_eq!(on_disk(&mut redo, true), after.map(Step::Go));
}

#[test]
fn a_disk_that_fails_is_told_and_no_later_change_passes_a_record() {
    // By the stage in which the disk fails: whether the write's host hears of it, and whether the record goes at once.
    for (before, host, goes) in [(0, true, true), (1, true, true), (2, true, false), (3, false, false)] {
        let mut redo = Redo::default();
        redo.ask(write(1, 0, 2, true));
        (0..before).for_each(|_| drop(on_disk(&mut redo, true)));
        let mut steps = on_disk(&mut redo, false);
        let told = steps.remove(0);
        let failed = Step::Done(Slot::Task(1), Err(DiskError::Io));
        assert_eq!(told, if host { failed } else { Step::Failed(DiskError::Io) }, "{before}");
        assert_eq!(steps, if goes { go(DiskIo::Unrecord) } else { Vec::new() }, "{before}");
        assert_eq!(redo.is_quiet(), !goes, "{before}");
        let asked = redo.ask(write(2, 1, 1, false));
        assert_eq!(asked, if goes { None } else { Some(Go::Own(DiskIo::Unrecord)) }, "{before}");
        // The record cannot go: the change that needs it gone fails, and the next one tries again.
        let failed = Step::Done(Slot::Task(2), Err(DiskError::Io));
        assert_eq!(on_disk(&mut redo, false), [Step::Failed(DiskError::Io), failed], "{before}");
        assert_eq!(redo.ask(write(3, 1, 1, false)), Some(Go::Own(DiskIo::Unrecord)), "{before}");
        let passes = Step::Go(Go::Pass(Slot::Task(3), write(3, 1, 1, false).io));
        assert_eq!(on_disk(&mut redo, true), [passes], "{before}");
        assert!(redo.is_idle(), "{before}");
    }
}
