//! Making a volume that has to be there: what is to be done about it, and what came of that.

use crate::disk::DiskError;
use crate::volume::superblock::Superblock;

/// What is to be done about a volume that has to be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Creation {
    /// Nothing: it is there, or cannot be made.
    Nothing,
    /// It is being made already, and waited for.
    Waited,
    /// Make it, with this superblock.
    Make(Superblock),
}

/// What came of making a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Made {
    /// Nothing that the meeting under way waits for.
    NotWaitedFor,
    /// What the meeting waits for is there, or will not be, and it goes on.
    GoesOn,
    /// The meeting cannot go on.
    Fails(DiskError),
}
