//! What hosts did and saw: the only thing the judges judge.

use std::fmt;

/// Names an operation, counted from 1; its number stands in every block it wrote.
pub type OpId = u32;

/// What a block's content says about who wrote it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Seen {
    /// Zeros: never written, unmapped, or written as zeros.
    Zeros,
    /// The whole block is what this operation wrote there.
    Written(OpId),
    /// Nothing that any operation wrote there: mixed, misplaced or corrupt.
    Nobody,
}

/// A run of blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// First block.
    pub start: u64,
    /// How many.
    pub blocks: u64,
}

impl Extent {
    /// The first block after it.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.start + self.blocks
    }
}

/// Neighbouring blocks of a read that saw the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// How many blocks.
    pub blocks: u64,
    /// What they hold.
    pub seen: Seen,
}

/// What an operation does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Reads its extent.
    Read,
    /// Writes its own mark to every block.
    Write,
    /// Makes zeros of its extents.
    Zero,
    /// Compares blocks and writes its own mark there if all are as expected.
    CompareAndWrite {
        /// What each block must hold.
        expected: Seen,
    },
    /// Compares one block.
    Verify {
        /// What the block must hold.
        expected: Seen,
    },
}

/// How an operation ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// No answer, or one that leaves open whether it was executed: it may take effect at any time, or never.
    Unknown,
    /// Given up, and that was answered: it took effect before the answer, or never will.
    Aborted,
    /// Executed.
    Done,
    /// What a read saw, over its whole extent.
    Read(Vec<Piece>),
    /// The one block did not hold what was expected; nothing was written.
    Miscompare,
    /// Not executed, and never will be.
    Refused,
    /// What a LUN held after its copies had lost what was not durable.
    Restored(Vec<Piece>),
}

/// One operation of one host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Its name.
    pub id: OpId,
    /// Whose it is, by any number.
    pub host: u32,
    /// Which LUN.
    pub lun: u16,
    /// What it does.
    pub kind: Kind,
    /// Where: one extent, more only for [`Kind::Zero`]; one block for [`Kind::Verify`].
    pub extents: Vec<Extent>,
    /// When it began, in ticks of the history.
    pub invoked: u64,
    /// When it ended; `u64::MAX` while it has not.
    pub returned: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Its answer also says that it is durable.
    pub durable: bool,
    /// It is all or nothing through any crash.
    pub atomic: bool,
}

/// A LUN lost what was not durable: no copy of it was left in anyone's memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loss {
    /// Which LUN.
    pub lun: u16,
    /// When, in ticks of the history.
    pub tick: u64,
    /// What it held when it was next served, from the first block on.
    pub restored: Option<Vec<Piece>>,
}

/// A SYNCHRONIZE CACHE of a whole LUN that was answered GOOD.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flush {
    /// Which LUN.
    pub lun: u16,
    /// When it began, in ticks of the history.
    pub invoked: u64,
    /// When it ended.
    pub returned: u64,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op {} host {} [{}..", self.id, self.host, self.invoked)?;
        match self.returned {
            u64::MAX => f.write_str("] ")?,
            returned => write!(f, "{returned}] ")?,
        }
        match self.kind {
            Kind::Read => f.write_str("READ")?,
            Kind::Write => f.write_str("WRITE")?,
            Kind::Zero => f.write_str("ZERO")?,
            Kind::CompareAndWrite { expected } => write!(f, "COMPARE {expected:?} AND WRITE")?,
            Kind::Verify { expected } => write!(f, "VERIFY {expected:?}")?,
        }
        for extent in &self.extents {
            write!(f, " {}+{}", extent.start, extent.blocks)?;
        }
        match &self.outcome {
            Outcome::Restored(pieces) => write!(f, " restored, {} pieces", pieces.len()),
            Outcome::Read(pieces) if pieces.len() > 8 => write!(f, " saw {:?} ...", &pieces[..8]),
            Outcome::Read(pieces) => {
                f.write_str(" saw")?;
                pieces.iter().try_for_each(|piece| write!(f, " {}x{:?}", piece.blocks, piece.seen))
            }
            other => write!(f, " {other:?}"),
        }
    }
}

/// All operations, with a clock of its own that only tells before from after.
#[derive(Clone, Debug, Default)]
pub struct History {
    ticks: u64,
    operations: Vec<Operation>,
    losses: Vec<Loss>,
    flushes: Vec<Flush>,
}

impl History {
    /// An empty history of zeroed LUNs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An operation begins: call this before its first byte is sent.
    pub fn invoke(&mut self, host: u32, lun: u16, kind: Kind, extents: Vec<Extent>) -> OpId {
        self.ticks += 1;
        let id = self.operations.len() as OpId + 1;
        self.operations.push(Operation {
            id,
            host,
            lun,
            kind,
            extents,
            invoked: self.ticks,
            returned: u64::MAX,
            outcome: Outcome::Unknown,
            durable: false,
            atomic: false,
        });
        id
    }

    /// An operation's answer will also say that it is durable.
    pub fn ask_durable(&mut self, id: OpId) {
        if let Some(operation) = self.operations.get_mut(id as usize - 1) {
            operation.durable = true;
        }
    }

    /// An operation is all or nothing through any crash.
    pub fn ask_atomic(&mut self, id: OpId) {
        if let Some(operation) = self.operations.get_mut(id as usize - 1) {
            operation.atomic = true;
        }
    }

    /// The tick at which a SYNCHRONIZE CACHE begins.
    pub fn begin_flush(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    /// It was answered GOOD.
    pub fn end_flush(&mut self, lun: u16, invoked: u64) {
        self.ticks += 1;
        self.flushes.push(Flush { lun, invoked, returned: self.ticks });
    }

    /// A LUN has lost what was not durable.
    pub fn lose(&mut self, lun: u16) {
        self.ticks += 1;
        if !self.losses.iter().any(|loss| loss.lun == lun && loss.restored.is_none()) {
            self.losses.push(Loss { lun, tick: self.ticks, restored: None });
        }
    }

    /// It is served again, and this is what it holds.
    pub fn restore(&mut self, lun: u16, pieces: Vec<Piece>) {
        let open = self.losses.iter_mut().find(|loss| loss.lun == lun && loss.restored.is_none());
        if let Some(loss) = open {
            loss.restored = Some(pieces);
        }
    }

    /// The losses of a LUN, in their order.
    #[must_use]
    pub fn losses(&self, lun: u16) -> Vec<&Loss> {
        self.losses.iter().filter(|loss| loss.lun == lun).collect()
    }

    /// All flushes that were answered GOOD.
    #[must_use]
    pub fn flushes(&self) -> &[Flush] {
        &self.flushes
    }

    /// What happened to a LUN between two losses: from the first it has what was restored, of what the second
    /// met in flight, like of what the first did, only that it may have taken effect.
    #[must_use]
    pub fn epoch(&self, lun: u16, from: Option<&Loss>, until: Option<&Loss>) -> Self {
        let start = from.map_or(0, |loss| loss.tick);
        let end = until.map_or(u64::MAX, |loss| loss.tick);
        let mut epoch = Self { ticks: self.ticks, flushes: self.flushes.clone(), ..Self::default() };
        for operation in &self.operations {
            let mut operation = operation.clone();
            if operation.returned < start || operation.invoked > end || operation.lun != lun {
                operation.lun = u16::MAX;
            } else if operation.invoked < start || (operation.returned > end && end != u64::MAX) {
                operation.outcome =
                    if operation.outcome == Outcome::Refused { Outcome::Refused } else { Outcome::Unknown };
                operation.returned = u64::MAX;
            }
            epoch.operations.push(operation);
        }
        if let Some(Loss { restored: Some(pieces), .. }) = from {
            let blocks = pieces.iter().map(|piece| piece.blocks).sum();
            let id = epoch.invoke(u32::MAX, lun, Kind::Write, vec![Extent { start: 0, blocks }]);
            let restored = &mut epoch.operations[id as usize - 1];
            (restored.invoked, restored.returned) = (start, start);
            restored.outcome = Outcome::Restored(pieces.clone());
        }
        epoch
    }

    /// An operation has ended: call this after its answer came. One that ended [`Outcome::Unknown`] stays open. What is
    /// answered after it was given up has taken effect before that, if at all.
    pub fn end(&mut self, id: OpId, outcome: Outcome) {
        self.ticks += 1;
        let ticks = self.ticks;
        if let Some(operation) = self.operations.get_mut(id as usize - 1) {
            if operation.outcome == Outcome::Aborted {
                if outcome == Outcome::Done {
                    operation.outcome = outcome;
                }
                return;
            }
            operation.returned = if outcome == Outcome::Unknown { u64::MAX } else { ticks };
            operation.outcome = outcome;
        }
    }

    /// All of it, in the order of [`History::invoke`].
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// One of them.
    #[must_use]
    pub fn operation(&self, id: OpId) -> &Operation {
        &self.operations[id as usize - 1]
    }

    /// The LUNs it speaks of, ascending.
    #[must_use]
    pub fn luns(&self) -> Vec<u16> {
        let mut luns: Vec<u16> = self.operations.iter().map(|operation| operation.lun).collect();
        luns.sort_unstable();
        luns.dedup();
        luns
    }

    /// How many pairs of operations were in flight together on common blocks, at least one of them writing.
    #[must_use]
    pub fn overlaps(&self) -> u64 {
        let pairs = |(at, a): (usize, &Operation)| {
            let later = self.operations[at + 1..].iter().take_while(|b| b.invoked < a.returned);
            later.filter(|b| overlap(a, b)).count() as u64
        };
        self.operations.iter().enumerate().map(pairs).sum()
    }
}

fn overlap(a: &Operation, b: &Operation) -> bool {
    let touch = |x: &Extent| b.extents.iter().any(|y| x.start < y.end() && y.start < x.end());
    a.lun == b.lun && (a.kind != Kind::Read || b.kind != Kind::Read) && a.extents.iter().any(touch)
}
