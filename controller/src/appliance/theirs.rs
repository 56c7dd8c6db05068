//! What the peer told of its copies of a group in a meeting, as far as it matters after it: whether they can be copied
//! to, and whether they are images of their LUNs while the pair is split.

use protocol::interlink::copy_report::CopyReport;

use super::pair_command::Target;
use crate::plan::Side;

/// What the peer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Theirs {
    target: Target,
    /// They hold all that was acknowledged under their generation, on their disks.
    complete: bool,
    /// What this controller has was put back from an earlier time.
    own_old: bool,
}

impl Theirs {
    /// It has split its copies off: they were on its disk before it wrote that down.
    pub(super) const IMAGE: Self = Self { target: Target::Fit, complete: true, own_old: false };

    /// It has told this. `old`: which of the two have something that was put back; `side`: this controller.
    pub(super) fn told(theirs: &[CopyReport], old: [bool; 2], side: Side) -> Self {
        Self {
            target: Target::worst(theirs.iter().map(|their| their.copy)),
            complete: theirs.iter().all(CopyReport::is_complete) && !old[side.peer().index()],
            own_old: old[side.index()],
        }
    }

    /// Whether its volumes can be copied to.
    pub(super) const fn target(self) -> Target {
        self.target
    }

    /// Whether its copies are images, if they are split off.
    pub(super) fn is_image(self) -> bool {
        self.complete && self.target == Target::Fit
    }

    /// Whether what this controller has was put back from an earlier time.
    pub(super) const fn knows_own_as_old(self) -> bool {
        self.own_old
    }
}
