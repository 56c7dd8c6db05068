//! What is on a simulated volume: a live image, which every read sees, and a durable one, which is all that is
//! left after a power loss but for an arbitrary part of what was written since.

use core::convert::Infallible;
use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use controller::volume::redo::{self, Found, RECORD_OFFSET};
use controller::volume::stack::{Part, Stack, VolumeId};
use controller::volume::superblock::Superblock;
use protocol::block::{BlockRange, Lba};
use protocol::scsi::provisioning::{ProvisioningStatus, lba_status_descriptor};

use super::disk::Covers;
use crate::judge::{Extent, OpId};
use crate::random::Random;
use crate::workload::content::{BLOCK_BYTES, Mark};

/// Stands in for the address of the tail's first block: behind any LUN.
const TAIL: u64 = 1 << 40;

/// Where the redo record lies, as blocks.
pub(super) const RECORD: u64 = TAIL + RECORD_OFFSET / BLOCK_BYTES as u64;

/// One volume: blocks that are not there are holes.
#[derive(Clone, Debug, Default)]
pub(super) struct Volume {
    pub(super) superblock: Option<Superblock>,
    /// There is a file, but nothing in it yet.
    pub(super) blank: bool,
    /// When it was last found, something that a failed flush took was gone.
    pub(super) lost: bool,
    blocks: BTreeMap<u64, Bytes>,
    durable: BTreeMap<u64, Bytes>,
    /// What the durable image lacks, in the order it took effect.
    log: Vec<Effect>,
    effects: u64,
    keeps_log: bool,
    /// Every (block, operation) whose mark was ever here.
    ever: HashSet<(u64, OpId)>,
}

/// What became of a volume when it was found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recovered {
    /// Something that was there before is not.
    pub(super) lost: bool,
    /// What its redo record was about.
    pub(super) replayed: Option<BlockRange>,
}

/// One block that changed.
#[derive(Clone, Debug)]
struct Effect {
    number: u64,
    /// The I/O it belongs to.
    io: u64,
    lba: u64,
    /// `None`: a hole.
    content: Option<Bytes>,
}

impl Volume {
    /// A new volume, durable with its superblock.
    pub(super) fn made(superblock: Superblock, keeps_log: bool) -> Self {
        Self { superblock: Some(superblock), keeps_log, ..Self::default() }
    }

    /// Changes so far.
    pub(super) const fn effects(&self) -> u64 {
        self.effects
    }

    pub(super) fn ever_had(&self, mark: (u64, OpId)) -> bool {
        self.ever.contains(&mark)
    }

    /// The bytes of a range, as they are now.
    pub(super) fn read(&self, range: BlockRange) -> Vec<u8> {
        let mut out = vec![0; range.bytes() as usize];
        for (lba, block) in self.blocks.range(range.start.0..range.end().0) {
            let at = (lba - range.start.0) as usize * BLOCK_BYTES;
            out[at..at + BLOCK_BYTES].copy_from_slice(block);
        }
        out
    }

    /// The extents of a range, at most `count`, as LBA status descriptors.
    pub(super) fn extents(&self, range: BlockRange, count: usize) -> Vec<u8> {
        let mapped: Vec<bool> =
            (range.start.0..range.end().0).map(|lba| self.blocks.contains_key(&lba)).collect();
        let mut start = range.start.0;
        let mut found = Vec::new();
        for run in mapped.chunk_by(|a, b| a == b).take(count) {
            let status = if run[0] { ProvisioningStatus::Mapped } else { ProvisioningStatus::Deallocated };
            let extent = BlockRange { start: Lba(start), blocks: run.len() as u64 };
            found.extend(lba_status_descriptor(extent, status));
            start = extent.end().0;
        }
        found
    }

    pub(super) fn write(&mut self, io: u64, start: u64, mut data: Bytes) {
        let mut lba = start;
        while !data.is_empty() {
            let block = data.split_to(BLOCK_BYTES);
            if self.keeps_log {
                self.note(io, lba, Some(block.clone()));
            } else if let Some(Mark::Written(id, _)) = Mark::of(&block, lba) {
                self.ever.insert((lba, id));
            }
            self.blocks.insert(lba, block);
            lba += 1;
        }
    }

    pub(super) fn unmap(&mut self, io: u64, range: BlockRange) {
        let mut gone = self.blocks.split_off(&range.start.0);
        let keep = gone.split_off(&range.end().0);
        self.blocks.extend(keep);
        if self.keeps_log {
            gone.into_keys().for_each(|lba| self.note(io, lba, None));
        }
    }

    fn note(&mut self, io: u64, lba: u64, content: Option<Bytes>) {
        self.log.push(Effect { number: self.effects, io, lba, content });
        self.effects += 1;
    }

    /// A flush is over. If it failed, what it was to make durable never will be: the kernel has forgotten it.
    pub(super) fn flushed(&mut self, covers: &Covers, good: bool) {
        let durable = &mut self.durable;
        self.log.retain(|effect| {
            let covered = effect.number < covers.below && !covers.not.contains(&effect.io);
            if covered && good {
                match &effect.content {
                    Some(block) => durable.insert(effect.lba, block.clone()),
                    None => durable.remove(&effect.lba),
                };
            }
            !covered
        });
    }

    /// Before it is used again after a crash, as the product does it: everything is flushed and read anew from the
    /// disk, so that what a failed flush took is seen no more; then the write that its redo record holds is completed.
    pub(super) fn recover(&mut self) -> Recovered {
        let Some(superblock) = self.superblock else { return Recovered::default() };
        let mut lost = false;
        if self.keeps_log {
            let all = Covers { below: self.effects, not: Vec::new() };
            self.flushed(&all, true);
            lost = self.blocks != self.durable;
            self.blocks = self.durable.clone();
        }
        Recovered {
            lost,
            replayed: redo::replay(self, Stack::of(VolumeId(0)), superblock.blocks).unwrap_or_default(),
        }
    }

    /// Whether all of these blocks hold what an operation wrote there, or zeros if it is none.
    pub(super) fn holds(&self, extent: Extent, by: Option<OpId>) -> bool {
        (extent.start..extent.end()).all(|lba| {
            let mark = self.blocks.get(&lba).map_or(Some(Mark::Zeros), |block| Mark::of(block, lba));
            mark == Some(by.map_or(Mark::Zeros, |id| Mark::Written(id, lba)))
        })
    }

    /// Of what was not durable an arbitrary part survives: all, nothing, or any of the contents of each block; in
    /// the worst case, nothing.
    pub(super) fn lose_power(&mut self, random: &mut Random, worst: bool) {
        let mode = if worst { 0 } else { random.below(4) };
        let mut last: BTreeMap<u64, Vec<Option<Bytes>>> = BTreeMap::new();
        for effect in std::mem::take(&mut self.log) {
            last.entry(effect.lba).or_default().push(effect.content);
        }
        for (lba, mut contents) in last {
            let survives = match mode {
                0 => 0,
                1 => contents.len() as u64,
                _ => random.below(contents.len() as u64 + 1),
            };
            if survives == 0 {
                continue;
            }
            match contents.swap_remove(survives as usize - 1) {
                Some(block) => self.durable.insert(lba, block),
                None => self.durable.remove(&lba),
            };
        }
        self.blocks = self.durable.clone();
    }
}

impl Found for Volume {
    type Error = Infallible;

    fn read_tail(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Infallible> {
        let blocks = (into.len() / BLOCK_BYTES) as u64;
        let range = BlockRange { start: Lba(TAIL + offset / BLOCK_BYTES as u64), blocks };
        into.copy_from_slice(&self.read(range));
        Ok(())
    }

    fn write_tail(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Infallible> {
        Self::write(self, 0, TAIL + offset / BLOCK_BYTES as u64, Bytes::copy_from_slice(bytes));
        Ok(())
    }

    fn write(&mut self, part: Part, data: &[u8]) -> Result<(), Infallible> {
        Self::write(self, 0, part.range.start.0, Bytes::copy_from_slice(data));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        let all = Covers { below: self.effects, not: Vec::new() };
        self.flushed(&all, true);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use controller::volume::superblock::Owner;

    use super::*;

    fn block(byte: u8) -> Bytes {
        Bytes::from(vec![byte; BLOCK_BYTES])
    }

    fn first_byte(volume: &Volume, lba: u64) -> u8 {
        volume.read(BlockRange::new(lba, 1).unwrap())[0]
    }

    #[test]
    fn what_was_flushed_survives_a_power_loss_and_of_the_rest_an_arbitrary_part() {
        let superblock = Superblock::new(1, 1, 8, Owner::NOBODY);
        let mut seen = HashSet::new();
        for seed in 0..200 {
            let mut volume = Volume::made(superblock, true);
            volume.write(1, 0, block(1));
            volume.flushed(&Covers { below: volume.effects(), not: Vec::new() }, true);
            volume.write(2, 0, block(2));
            volume.write(3, 1, block(3));
            volume.unmap(4, BlockRange::new(0, 1).unwrap());
            volume.lose_power(&mut Random::new(seed), false);
            seen.insert((first_byte(&volume, 0), first_byte(&volume, 1)));
        }
        let all: HashSet<(u8, u8)> = [0, 1, 2].into_iter().flat_map(|a| [(a, 0), (a, 3)]).collect();
        assert_eq!(seen, all);
    }

    #[test]
    fn what_was_not_complete_when_a_flush_was_submitted_is_not_covered_by_it() {
        let mut volume = Volume::made(Superblock::new(1, 1, 8, Owner::NOBODY), true);
        volume.write(7, 0, block(1));
        volume.flushed(&Covers { below: volume.effects(), not: vec![7] }, true);
        let survives = |seed| {
            let mut volume = volume.clone();
            volume.lose_power(&mut Random::new(seed), false);
            first_byte(&volume, 0) == 1
        };
        assert!((0..50).any(survives) && !(0..50).all(survives));
    }
}
