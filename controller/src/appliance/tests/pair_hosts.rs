//! Hosts that write and read some blocks of a LUN through both controllers, and know what a read may give.

use std::collections::BTreeMap;

use crate::command::{Command, LunIndex, NexusId, Op, Outcome, TaskTag};
use crate::testing::{TwoControllers, range, write};

pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below.max(1)
    }
}

pub(super) const BLOCKS: u64 = 6;

/// A write of a block: its byte, when it was asked for and answered.
#[derive(Clone, Copy, Debug)]
struct Written {
    byte: u8,
    asked: u64,
    answered: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    side: usize,
    block: u64,
    byte: Option<u8>,
    at: u64,
}

pub(super) struct Hosts {
    tag: u32,
    pub(super) now: u64,
    asked: BTreeMap<u32, Asked>,
    /// By block, in the order in which they were asked for: one at a time.
    written: BTreeMap<u64, Vec<Written>>,
    busy: BTreeMap<u64, bool>,
    pub(super) errors: Vec<String>,
}

impl Hosts {
    pub(super) fn new() -> Self {
        let (tag, now) = (0, 0);
        let (asked, busy) = (BTreeMap::new(), BTreeMap::new());
        let written = (0..BLOCKS).map(|block| (block, Vec::new())).collect();
        Self { tag, now, asked, written, busy, errors: Vec::new() }
    }

    pub(super) fn ask(&mut self, duo: &TwoControllers, random: &mut Random) {
        let side = random.below(2) as usize;
        if self.asked.values().filter(|asked| asked.side == side).count() > 4 {
            return;
        }
        let block = random.below(BLOCKS);
        self.now += 1;
        self.tag += 1;
        let reads = random.below(3) == 0;
        if !reads && self.busy.get(&block).copied().unwrap_or_default() {
            return;
        }
        let byte = (!reads).then_some((self.tag % 255) as u8 + 1);
        self.asked.insert(self.tag, Asked { side, block, byte, at: self.now });
        let op = match byte {
            None => Op::Read { range: range(block, 1) },
            Some(byte) => {
                self.busy.insert(block, true);
                let written = Written { byte, asked: self.now, answered: None };
                self.written.entry(block).or_default().push(written);
                write(block, 1, byte)
            }
        };
        duo.controllers[side].command(Command {
            lun: LunIndex(0),
            nexus: NexusId(1),
            tag: TaskTag::of(self.tag),
            op,
            received: duo.now(),
        });
    }

    /// The bytes that a look at a block may show which began at `from` and ends now.
    pub(super) fn may(&self, block: u64, from: u64) -> Vec<u8> {
        let Some(all) = self.written.get(&block) else { return vec![0] };
        let last = all.iter().rposition(|it| it.answered.is_some_and(|at| at < from));
        let mut may: Vec<u8> = all[last.unwrap_or(0)..].iter().map(|it| it.byte).collect();
        if last.is_none() {
            may.push(0);
        }
        // What was never answered may come to be there, or not, until something newer is.
        may
    }

    pub(super) fn hear(&mut self, duo: &TwoControllers, case: &str) -> Result<(), String> {
        self.now += 1;
        for side in 0..2 {
            for (tag, outcome) in duo.answers(side) {
                let Some(asked) = self.asked.remove(&tag) else { continue };
                match (asked.byte, &outcome) {
                    (Some(byte), Outcome::Good(_)) => {
                        let now = self.now;
                        let all = self.written.get_mut(&asked.block).unwrap();
                        all.iter_mut().filter(|it| it.byte == byte).for_each(|it| it.answered = Some(now));
                        self.busy.insert(asked.block, false);
                    }
                    (Some(_), _) => {
                        self.busy.insert(asked.block, false);
                    }
                    (None, Outcome::Good(data)) => {
                        let (read, may) = (data[0][0], self.may(asked.block, asked.at));
                        if !may.contains(&read) {
                            return Err(format!("{case}: STALE: {asked:?} gave {read}, may {may:?}"));
                        }
                    }
                    _ => {}
                }
                if !matches!(outcome, Outcome::Good(_)) {
                    self.errors.push(format!("{asked:?}: {outcome:?}"));
                }
            }
        }
        Ok(())
    }

    /// Its process is gone: what it was asked is nobody's any more.
    pub(super) fn forget(&mut self, sides: &[usize]) {
        let gone: Vec<u64> = self
            .asked
            .values()
            .filter(|asked| sides.contains(&asked.side) && asked.byte.is_some())
            .map(|asked| asked.block)
            .collect();
        for block in gone {
            self.busy.insert(block, false);
        }
        self.asked.retain(|_, asked| !sides.contains(&asked.side));
    }

    /// Whether a copy is the LUN as it was at one point of the order of writes: whatever was answered before something
    /// was asked for that is in the copy, is in it too, or something newer.
    pub(super) fn is_image(&self, copy: &[u8]) -> Result<(), String> {
        let at = |block: u64| copy[block as usize * 512];
        let place = |block: u64| {
            let all = self.written.get(&block)?;
            all.iter().rposition(|it| it.byte == at(block))
        };
        let newest = (0..BLOCKS).filter_map(|block| Some(self.written[&block][place(block)?].asked)).max();
        let newest = newest.unwrap_or(0);
        for block in 0..BLOCKS {
            let Some(all) = self.written.get(&block) else { continue };
            let lacks = all
                .iter()
                .enumerate()
                .filter(|(_, it)| it.answered.is_some_and(|answered| answered < newest))
                .any(|(older, _)| place(block).is_none_or(|found| found < older));
            if lacks {
                return Err(format!("block {block} is {} beside {newest}: {all:?}", at(block)));
            }
        }
        Ok(())
    }
}
