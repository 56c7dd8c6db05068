//! What this core waits for: each ticket stands for one thing that becomes durable or comes to nothing.

use protocol::interlink::GenerationTag;

/// What a ticket of this core stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pending {
    Identity,
    Agreements,
    Volume(usize),
    /// What names the marks of a controller's start, and each of them.
    StartMarks,
    MarkedStart(usize),
    /// The mark of a start in a volume, in a meeting.
    Marked(usize),
    /// The starts of a meeting.
    Starts,
    /// The joint ones, at main.
    Confirmed,
    /// The mark of a start in a volume, and all of them, without the peer.
    MarkedAlone(usize, u64),
    MarksAlone(u64),
    /// The same of LUNs without a copy, at the start.
    Singles,
    MarkedSingle(usize),
    MarksSingle,
    /// What says of a mark that came late that it is there.
    MarkedLate(usize),
    CopiedAtSub(usize),
    CopiedAtMain(usize),
    Flush(usize),
    /// What names the marks of a clean end, and each of them.
    EndMarks,
    MarkedEnd(usize),
    Clean,
    /// The flush after the peer was lost.
    FlushApart(usize, GenerationTag),
    /// A record on which nothing waits.
    Noted,
    Alone,
    Turn(usize),
}

impl Pending {
    /// The LUN whose volume is being made or marked: a disk that does not answer keeps nobody else waiting.
    pub(super) const fn of_volume(self) -> Option<usize> {
        if let Self::Volume(lun) = self { Some(lun) } else { self.marked() }
    }

    /// The LUN whose volume is being marked.
    pub(super) const fn marked(self) -> Option<usize> {
        match self {
            Self::Marked(lun)
            | Self::MarkedStart(lun)
            | Self::MarkedAlone(lun, _)
            | Self::MarkedSingle(lun)
            | Self::MarkedEnd(lun) => Some(lun),
            _ => None,
        }
    }
}
