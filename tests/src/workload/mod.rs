//! What hosts do: commands drawn from a seed, and what their answers mean for the history.

pub mod content;
pub mod events;

use std::collections::BTreeMap;

use self::content::{ANY_LBA, BLOCK_BYTES, Mark};
use crate::initiator::response::{Response, status};
use crate::initiator::{Cdb, Request, cdb};
use controller::volume::redo::ATOMIC_BLOCKS_MAX;

use crate::judge::{Extent, History, Kind, OpId, Outcome};
use crate::random::Random;

/// Blocks of one COMPARE AND WRITE at most, here.
const COMPARED_BLOCKS_MAX: u64 = 8;

/// Where and how large the commands of a host are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// The LUN's number.
    pub lun: u16,
    /// First block of the region.
    pub start: u64,
    /// Length of the region in blocks.
    pub blocks: u64,
    /// Shortest command in blocks.
    pub blocks_min: u64,
    /// Longest command in blocks; short ones are far more frequent.
    pub blocks_max: u64,
    /// How often each kind of command is drawn.
    pub mix: Mix,
}

/// How often each kind of command is drawn, relative to the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named by their commands")]
pub struct Mix {
    pub read: u64,
    pub write: u64,
    pub write_atomic: u64,
    pub compare_and_write: u64,
    pub write_same: u64,
    pub or_write: u64,
    pub verify: u64,
    pub unmap: u64,
    pub synchronize_cache: u64,
    pub test_unit_ready: u64,
    pub inquiry: u64,
}

impl Mix {
    /// Everything.
    pub const ALL: Self = Self {
        read: 40,
        write: 30,
        write_atomic: 4,
        compare_and_write: 10,
        write_same: 4,
        or_write: 4,
        verify: 4,
        unmap: 4,
        synchronize_cache: 2,
        test_unit_ready: 1,
        inquiry: 1,
    };
    /// Nothing; for `..Mix::NONE`.
    pub const NONE: Self = Self {
        read: 0,
        write: 0,
        write_atomic: 0,
        compare_and_write: 0,
        write_same: 0,
        or_write: 0,
        verify: 0,
        unmap: 0,
        synchronize_cache: 0,
        test_unit_ready: 0,
        inquiry: 0,
    };
}

/// What an answer was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Executed.
    Good,
    /// A comparison failed, as it may.
    Miscompare,
    /// Not executed: unit attention, NOT READY.
    Refused,
    /// Not executed: BUSY, TASK SET FULL.
    Busy,
    /// Not executed: RESERVATION CONFLICT.
    Conflict,
    /// Not executed: WRITE PROTECTED.
    Protected,
    /// Given up by another host's reset: executed before this answer, or never.
    Aborted,
    /// Left open.
    Unknown,
    /// The disk failed: not executed, or executed in part.
    Failed,
    /// An answer that this command must never get.
    Unexpected(String),
}

/// One host's commands on one LUN.
#[derive(Clone, Debug)]
pub struct Workload {
    host: u32,
    shape: Shape,
    random: Random,
    /// What this host last saw or wrote, block by block: what its compare-and-writes expect.
    known: BTreeMap<u64, Mark>,
}

impl Workload {
    /// The workload of a seed.
    #[must_use]
    pub fn new(host: u32, shape: Shape, random: Random) -> Self {
        Self { host, shape, random, known: BTreeMap::new() }
    }

    /// Where this host works.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Draws the next command. One that touches blocks has begun in `history` under the id returned with it.
    pub fn next(&mut self, history: &mut History) -> (Request, Option<OpId>) {
        let mix = self.shape.mix;
        let kinds: [(u64, Draw); 11] = [
            (mix.read, Self::read),
            (mix.write, Self::write),
            (mix.write_atomic, Self::write_atomic),
            (mix.compare_and_write, Self::compare_and_write),
            (mix.write_same, Self::write_same),
            (mix.or_write, Self::or_write),
            (mix.verify, Self::verify),
            (mix.unmap, Self::unmap),
            (mix.synchronize_cache, Self::synchronize_cache),
            (mix.test_unit_ready, Self::test_unit_ready),
            (mix.inquiry, Self::inquiry),
        ];
        let mut drawn = self.random.below(kinds.iter().map(|(weight, _)| weight).sum());
        for (weight, draw) in kinds {
            if drawn < weight {
                return draw(self, history);
            }
            drawn -= weight;
        }
        self.read(history)
    }

    /// A read of blocks of the host's choice.
    pub fn read_of(&mut self, history: &mut History, extent: Extent) -> (Request, OpId) {
        let id = self.begin(history, Kind::Read, vec![extent]);
        let ten = u32::try_from(extent.start).ok().zip(u16::try_from(extent.blocks).ok());
        let cdb = match ten {
            Some((lba, blocks)) if self.random.percent(50) => Cdb::read_10(lba, blocks),
            _ => Cdb::read_16(extent.start, extent.blocks as u32),
        };
        let in_bytes = extent.blocks as u32 * BLOCK_BYTES as u32;
        (Request { lun: self.shape.lun, cdb, out: Vec::new(), in_bytes }, id)
    }

    /// A write of blocks of the host's choice.
    pub fn write_of(&mut self, history: &mut History, extent: Extent) -> (Request, OpId) {
        let fua = self.random.percent(5);
        self.write_through(history, extent, fua)
    }

    /// The same, with Force Unit Access or without.
    pub fn write_through(&mut self, history: &mut History, extent: Extent, fua: bool) -> (Request, OpId) {
        let id = self.begin(history, Kind::Write, vec![extent]);
        if fua {
            history.ask_durable(id);
        }
        let ten = u32::try_from(extent.start).ok().zip(u16::try_from(extent.blocks).ok());
        let cdb = match ten {
            Some((lba, blocks)) if self.random.percent(50) => Cdb::write_10(lba, blocks, fua),
            _ if fua && self.random.percent(50) => {
                Cdb::write_and_verify_16(extent.start, extent.blocks as u32)
            }
            _ => Cdb::write_16(extent.start, extent.blocks as u32, fua),
        };
        (self.request(cdb, content::written(id, extent.start, extent.blocks)), id)
    }

    /// UNMAP of blocks of the host's choice.
    pub fn zero_of(&mut self, history: &mut History, extent: Extent) -> (Request, OpId) {
        let id = self.begin(history, Kind::Zero, vec![extent]);
        let list = cdb::unmap_list(&[(extent.start, extent.blocks as u32)]);
        (self.request(Cdb::unmap(list.len() as u16), list), id)
    }

    /// Says what the answer to a command means, and ends its operation.
    pub fn ended(&mut self, history: &mut History, id: Option<OpId>, response: &Response) -> Ended {
        let ended = meaning(response);
        let Some(id) = id else { return ended };
        let operation = history.operation(id);
        let extent = operation.extents[0];
        let (ended, outcome) = match (ended, operation.kind) {
            (Ended::Good, Kind::Read) if response.data.len() as u64 != extent.blocks * BLOCK_BYTES as u64 => {
                (Ended::Unexpected(format!("a read of {} bytes", response.data.len())), Outcome::Unknown)
            }
            (Ended::Good, Kind::Read) => {
                self.learn(&response.data, extent.start);
                (Ended::Good, Outcome::Read(content::pieces(&response.data, extent.start)))
            }
            (Ended::Good, kind) => {
                if matches!(kind, Kind::CompareAndWrite { .. }) {
                    for lba in extent.start..extent.end() {
                        self.known.insert(lba, Mark::Written(id, lba));
                    }
                }
                (Ended::Good, Outcome::Done)
            }
            // Of several blocks at least one, nobody knows which.
            (Ended::Miscompare, Kind::CompareAndWrite { .. }) if extent.blocks > 1 => {
                self.known.retain(|lba, _| !(extent.start..extent.end()).contains(lba));
                (Ended::Miscompare, Outcome::Refused)
            }
            (Ended::Miscompare, Kind::CompareAndWrite { .. } | Kind::Verify { .. }) => {
                self.known.remove(&extent.start);
                (Ended::Miscompare, Outcome::Miscompare)
            }
            (Ended::Miscompare, _) => (Ended::Unexpected("MISCOMPARE".to_owned()), Outcome::Unknown),
            (refused @ (Ended::Refused | Ended::Busy | Ended::Conflict | Ended::Protected), _) => {
                (refused, Outcome::Refused)
            }
            (Ended::Aborted, _) => (Ended::Aborted, Outcome::Aborted),
            (other, _) => (other, Outcome::Unknown),
        };
        history.end(id, outcome);
        ended
    }

    /// SANITIZE, OVERWRITE with zeros of a LUN of so many blocks, with IMMED: its answer says only that it has begun,
    /// so blocks may become zeros at any time, also after a loss of power that took back what was there before.
    pub fn sanitize_of(&mut self, history: &mut History, blocks: u64) -> Request {
        let id = self.begin(history, Kind::Zero, vec![Extent { start: 0, blocks }]);
        history.end(id, Outcome::Unknown);
        let list = cdb::overwrite_list(&[0; 4]);
        self.known.clear();
        self.request(Cdb::sanitize_overwrite(list.len() as u16, true), list)
    }

    /// EXTENDED COPY between two LUNs, of which the first holds zeros there, and the second is this workload's.
    pub fn copy_of_zeros(
        &mut self,
        history: &mut History,
        extent: Extent,
        naas: [u64; 2],
    ) -> (Request, OpId) {
        let id = self.begin(history, Kind::Zero, vec![extent]);
        let segment = cdb::copy_segment((0, 1), extent.blocks as u16, (extent.start, extent.start));
        let list = cdb::copy_list(1, &naas.map(cdb::copy_end), &[segment]);
        self.known.clear();
        (self.request(Cdb::extended_copy(list.len() as u32), list), id)
    }

    fn learn(&mut self, data: &[u8], start: u64) {
        // A few blocks are enough to compare with.
        for (block, lba) in data.chunks(BLOCK_BYTES).zip(start..).take(8) {
            if let Some(mark) = Mark::of(block, lba) {
                self.known.insert(lba, mark);
            }
        }
    }

    fn begin(&self, history: &mut History, kind: Kind, extents: Vec<Extent>) -> OpId {
        history.invoke(self.host, self.shape.lun, kind, extents)
    }

    fn request(&self, cdb: Cdb, out: Vec<u8>) -> Request {
        Request { lun: self.shape.lun, cdb, out, in_bytes: 0 }
    }

    /// Short extents are as likely as long ones; half of them lie on a multiple of 4 KiB.
    fn extent(&mut self) -> Extent {
        let shape = self.shape;
        let blocks = self.random.skewed(shape.blocks_min, shape.blocks_max.min(shape.blocks));
        let within = self.random.below(shape.blocks - blocks + 1);
        let within = if self.random.percent(50) { within & !7 } else { within };
        Extent { start: shape.start + within, blocks }
    }

    fn read(&mut self, history: &mut History) -> (Request, Option<OpId>) {
        let extent = self.extent();
        let (request, id) = self.read_of(history, extent);
        (request, Some(id))
    }

    fn write(&mut self, history: &mut History) -> (Request, Option<OpId>) {
        let extent = self.extent();
        let (request, id) = self.write_of(history, extent);
        (request, Some(id))
    }

    /// Compares with what this host last knew of a block; one it knows nothing of is taken for zeros.
    fn compare_and_write(&mut self, history: &mut History) -> (Request, Option<OpId>) {
        let mut lba = self.extent().start;
        if self.random.percent(80)
            && let Some((known, _)) = self.known.range(lba..).next().or_else(|| self.known.iter().next_back())
        {
            lba = *known;
        }
        let mark = self.known.get(&lba).copied().unwrap_or(Mark::Zeros);
        let alike = |lba: u64| self.known.get(&lba).is_some_and(|other| other.seen() == mark.seen());
        let more = (lba + 1..lba + COMPARED_BLOCKS_MAX).take_while(|lba| alike(*lba)).count() as u64;
        let extent = Extent { start: lba, blocks: 1 + self.random.below(more + 1) };
        let (request, id) = self.compare_and_write_of_several(history, extent, mark);
        (request, Some(id))
    }

    /// COMPARE AND WRITE of a block that is thought to hold `mark`.
    pub fn compare_and_write_of(&mut self, history: &mut History, lba: u64, mark: Mark) -> (Request, OpId) {
        self.compare_and_write_of_several(history, Extent { start: lba, blocks: 1 }, mark)
    }

    /// The same of blocks that are thought to hold the marks of one operation.
    fn compare_and_write_of_several(
        &mut self,
        history: &mut History,
        extent: Extent,
        mark: Mark,
    ) -> (Request, OpId) {
        let kind = Kind::CompareAndWrite { expected: mark.seen() };
        let id = self.begin(history, kind, vec![extent]);
        history.ask_atomic(id);
        let mut out = Vec::new();
        for lba in extent.start..extent.end() {
            let expected = self.known.get(&lba).copied().filter(|_| extent.blocks > 1).unwrap_or(mark);
            expected.append_to(&mut out);
        }
        out.extend(content::written(id, extent.start, extent.blocks));
        (self.request(Cdb::compare_and_write(extent.start, extent.blocks as u8), out), id)
    }

    fn write_atomic(&mut self, history: &mut History) -> (Request, Option<OpId>) {
        let extent = self.extent();
        let extent = Extent { blocks: extent.blocks.min(u64::from(ATOMIC_BLOCKS_MAX)), ..extent };
        let id = self.begin(history, Kind::Write, vec![extent]);
        history.ask_atomic(id);
        let fua = self.random.percent(10);
        if fua {
            history.ask_durable(id);
        }
        for lba in (extent.start..extent.end()).take(8) {
            self.known.insert(lba, Mark::Written(id, lba));
        }
        let cdb = Cdb::write_atomic_16(extent.start, extent.blocks as u16, fua);
        (self.request(cdb, content::written(id, extent.start, extent.blocks)), Some(id))
    }

    fn write_same(&mut self, history: &mut History) -> (Request, Option<OpId>) {
        let extent = self.extent();
        let zeros = self.random.percent(40);
        let kind = if zeros { Kind::Zero } else { Kind::Write };
        let id = self.begin(history, kind, vec![extent]);
        let mut block = Vec::new();
        if zeros { Mark::Zeros } else { Mark::Written(id, ANY_LBA) }.append_to(&mut block);
        let unmap = zeros && self.random.percent(50);
        if zeros && self.random.percent(30) {
            let cdb = Cdb::write_zeros_16(extent.start, extent.blocks as u32, unmap);
            return (self.request(cdb, Vec::new()), Some(id));
        }
        let ten = u32::try_from(extent.start).ok().zip(u16::try_from(extent.blocks).ok());
        let cdb = match ten {
            Some((lba, blocks)) if self.random.percent(50) => Cdb::write_same_10(lba, blocks, unmap),
            _ => Cdb::write_same_16(extent.start, extent.blocks as u32, unmap),
        };
        (self.request(cdb, block), Some(id))
    }

    /// Adds no bit to blocks: they stay what they are, and whoever judges sees if an ORWRITE brings back what
    /// another command has overwritten meanwhile.
    fn or_write(&mut self, _: &mut History) -> (Request, Option<OpId>) {
        let extent = self.extent();
        let extent = Extent { blocks: extent.blocks.min(u64::from(ATOMIC_BLOCKS_MAX)), ..extent };
        let cdb = Cdb::or_write_16(extent.start, extent.blocks as u32, self.random.percent(10));
        (self.request(cdb, vec![0; extent.blocks as usize * BLOCK_BYTES]), None)
    }

    /// Compares a block with what this host last knew of it, or with zeros.
    fn verify(&mut self, history: &mut History) -> (Request, Option<OpId>) {
        let mut lba = self.extent().start;
        if self.random.percent(80)
            && let Some((known, _)) = self.known.range(lba..).next().or_else(|| self.known.iter().next_back())
        {
            lba = *known;
        }
        let mark = self.known.get(&lba).copied().unwrap_or(Mark::Zeros);
        let kind = Kind::Verify { expected: mark.seen() };
        let id = self.begin(history, kind, vec![Extent { start: lba, blocks: 1 }]);
        let mut out = Vec::new();
        mark.append_to(&mut out);
        (self.request(Cdb::verify_16(lba, 1), out), Some(id))
    }

    /// One to three ranges that do not overlap.
    fn unmap(&mut self, history: &mut History) -> (Request, Option<OpId>) {
        let mut extents: Vec<Extent> = Vec::new();
        for _ in 0..self.random.between(1, 3) {
            let extent = self.extent();
            if extents.iter().all(|other| extent.end() <= other.start || other.end() <= extent.start) {
                extents.push(extent);
            }
        }
        let ranges: Vec<(u64, u32)> =
            extents.iter().map(|extent| (extent.start, extent.blocks as u32)).collect();
        let id = self.begin(history, Kind::Zero, extents);
        let list = cdb::unmap_list(&ranges);
        (self.request(Cdb::unmap(list.len() as u16), list), Some(id))
    }

    fn synchronize_cache(&mut self, _: &mut History) -> (Request, Option<OpId>) {
        let ten = self.random.percent(50);
        let cdb = if ten { Cdb::synchronize_cache_10() } else { Cdb::synchronize_cache_16() };
        (self.request(cdb, Vec::new()), None)
    }

    fn test_unit_ready(&mut self, _: &mut History) -> (Request, Option<OpId>) {
        (self.request(Cdb::test_unit_ready(), Vec::new()), None)
    }

    fn inquiry(&mut self, _: &mut History) -> (Request, Option<OpId>) {
        let page = *self.random.pick(&[None, Some(0x00), Some(0x80), Some(0x83), Some(0xb0), Some(0xb2)]);
        (Request { in_bytes: 255, ..self.request(Cdb::inquiry(page, 255), Vec::new()) }, None)
    }
}

type Draw = fn(&mut Workload, &mut History) -> (Request, Option<OpId>);

/// What a status means for a command of a workload that never asks for what is not there.
fn meaning(response: &Response) -> Ended {
    match (response.status, response.code()) {
        (status::GOOD, _) => Ended::Good,
        (status::BUSY | status::TASK_SET_FULL, _) => Ended::Busy,
        (status::RESERVATION_CONFLICT, _) => Ended::Conflict,
        (status::TASK_ABORTED, _) => Ended::Aborted,
        (status::CHECK_CONDITION, (0x07, 0x27, 0x00)) => Ended::Protected,
        (status::CHECK_CONDITION, (0x0e, 0x1d, 0x00)) => Ended::Miscompare,
        (status::CHECK_CONDITION, (0x02 | 0x06, ..)) => Ended::Refused,
        (status::CHECK_CONDITION, (0x0b, ..)) => Ended::Unknown,
        (status::CHECK_CONDITION, (0x03, ..) | (0x07, 0x27, 0x07)) => Ended::Failed,
        (status, code) => Ended::Unexpected(format!("status {status:#04x}, sense {code:02x?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape =
        Shape { lun: 0, start: 100, blocks: 5000, blocks_min: 1, blocks_max: 2048, mix: Mix::ALL };

    #[test]
    fn commands_stay_in_their_region_and_reach_from_one_block_to_a_mebibyte() {
        let mut history = History::new();
        let mut workload = Workload::new(0, SHAPE, Random::new(3));
        for _ in 0..2000 {
            workload.next(&mut history);
        }
        let extents: Vec<Extent> =
            history.operations().iter().flat_map(|operation| operation.extents.clone()).collect();
        assert!(
            extents.iter().all(|extent| extent.start >= 100 && extent.end() <= 5100 && extent.blocks > 0)
        );
        assert!(extents.iter().any(|extent| extent.blocks == 1));
        assert!(extents.iter().any(|extent| extent.blocks > 1900));
    }

    #[test]
    fn a_write_that_is_read_back_is_recognized() {
        let mut history = History::new();
        let mut workload = Workload::new(0, SHAPE, Random::new(3));
        let extent = Extent { start: 200, blocks: 9 };
        let (write, id) = workload.write_of(&mut history, extent);
        let good =
            |data| Response { status: 0, sense: None, data, residual: crate::initiator::Residual::None };
        assert_eq!(workload.ended(&mut history, Some(id), &good(Vec::new())), Ended::Good);
        let (_, read) = workload.read_of(&mut history, extent);
        assert_eq!(workload.ended(&mut history, Some(read), &good(write.out)), Ended::Good);
        crate::judge::check(&history).unwrap();
        assert!(matches!(&history.operation(read).outcome, Outcome::Read(pieces) if pieces.len() == 1));
    }
}
