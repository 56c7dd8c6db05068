//! What this core waits for: each ticket stands for one thing that becomes durable or comes to nothing.
//!
//! ```text
//!  a round of marks:  a record that names the marks ──► each volume's mark ──► a record that says they are there
//!                     Pending::Named                    Pending::Marked        Pending::Over
//! ```

use protocol::interlink::GenerationTag;

use super::starts::Round;
use crate::volume::superblock::Superblock;

/// What a ticket of this core stands for. A group is named by its place, a LUN by its place in the plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pending {
    /// The identity.
    Identity,
    /// The generations that were agreed on; the marks they name come next, where this controller serves then.
    Agreements,
    /// The volume of a LUN, to be made with this superblock.
    Volume(usize, Superblock),
    /// The record that names the copies of groups that go on alone, and their marks.
    Alone,
    /// The record that names the marks of a round.
    Named(Round),
    /// The mark of a LUN.
    Marked(usize, Round),
    /// The record that says that the marks of a round are there.
    Over(Round),
    /// The joint starts, at main.
    Confirmed,
    /// What says of a LUN's mark that came late that it is there.
    MarkedLate(usize),
    /// A group's copy is whole: what says so, at the sub, and then at main.
    CopiedAtSub(usize),
    CopiedAtMain(usize),
    /// A LUN's flush at a clean end.
    Flush(usize),
    /// A LUN's flush before a clean end, while hosts go on.
    FlushEarly(usize),
    /// A LUN's flush before its pair is split, while hosts go on.
    FlushAhead(usize),
    /// A LUN's flush in the switch that splits its pair: its copy is an image of the LUN as it is now.
    FlushSplit(usize),
    /// The mark of a clean end.
    Clean,
    /// A LUN's flush after the peer was lost, of what was served under a generation.
    FlushApart(usize, GenerationTag),
    /// A record on which nothing waits.
    Noted,
    /// The generation of a group's switch.
    Switch(usize),
}

impl Pending {
    /// Whether a volume is being made or marked: a disk that does not answer keeps nobody else waiting.
    pub(super) const fn is_of_volume(self) -> bool {
        if let Self::Volume(..) = self { true } else { matches!(self, Self::Marked(..)) }
    }

    /// Whether it is what it is, whatever became of the meeting in which it was asked for.
    pub(super) const fn outlives_meetings(self) -> bool {
        match self {
            Self::Volume(..) | Self::Alone | Self::MarkedLate(_) | Self::FlushApart(..) => true,
            Self::Named(round) => matches!(round, Round::Start | Round::Single),
            Self::Marked(_, round) => !matches!(round, Round::End),
            Self::Over(round) => matches!(round, Round::Single | Round::Alone(_)),
            Self::Identity
            | Self::Agreements
            | Self::Confirmed
            | Self::CopiedAtSub(_)
            | Self::CopiedAtMain(_)
            | Self::Flush(_)
            | Self::FlushEarly(_)
            | Self::FlushAhead(_)
            | Self::FlushSplit(_)
            | Self::Clean
            | Self::Noted
            | Self::Switch(_) => false,
        }
    }

    /// Whether it is of the marks of this controller's start.
    pub(super) const fn is_of_start(self) -> bool {
        matches!(self, Self::Named(Round::Start) | Self::Marked(_, Round::Start))
    }

    /// Whether it is a flush before a clean end.
    pub(super) const fn is_early_flush(self) -> bool {
        matches!(self, Self::FlushEarly(_))
    }

    /// Whether it is a mark of that round.
    pub(super) fn is_mark_of(self, round: Round) -> bool {
        matches!(self, Self::Marked(_, of) if of == round)
    }
}
