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
    /// Compares one block and writes its own mark there if it is as expected.
    CompareAndWrite {
        /// What the block must hold.
        expected: Seen,
    },
}

/// How an operation ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// No answer, or one that leaves open whether it was executed: it may take effect at any time, or never.
    Unknown,
    /// Executed.
    Done,
    /// What a read saw, over its whole extent.
    Read(Vec<Piece>),
    /// The block did not hold what was expected; nothing was written.
    Miscompare,
    /// Not executed, and never will be.
    Refused,
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
    /// Where: one extent, more only for [`Kind::Zero`]; one block for [`Kind::CompareAndWrite`].
    pub extents: Vec<Extent>,
    /// When it began, in ticks of the history.
    pub invoked: u64,
    /// When it ended; `u64::MAX` while it has not.
    pub returned: u64,
    /// How it ended.
    pub outcome: Outcome,
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
        }
        for extent in &self.extents {
            write!(f, " {}+{}", extent.start, extent.blocks)?;
        }
        match &self.outcome {
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
        });
        id
    }

    /// An operation has ended: call this after its answer came. One that ended [`Outcome::Unknown`] stays open.
    pub fn end(&mut self, id: OpId, outcome: Outcome) {
        self.ticks += 1;
        let ticks = self.ticks;
        if let Some(operation) = self.operations.get_mut(id as usize - 1) {
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
