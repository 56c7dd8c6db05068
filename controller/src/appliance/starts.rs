//! The beginning of a time of service: what is made durable before the first byte, so that old state which somebody
//! puts back is not taken for current.
//!
//! There are two marks, each a number and a random id (`Start`), in the control record of every LUN and in
//! the superblock of its volume:
//!
//! * **The volume's**, once in every run of a controller, before it meets anybody, or in the meeting in which the
//!   volume is made or refilled; and once more with a clean end, so that a backup that was made in between is older.
//!   The record names the superblock, and the superblock the record: one of the two that was put back alone does not
//!   fit the other, and is stale. A disk that does not take the mark in time has failed.
//! * **The joint one**, at every meeting that serves the LUN: each has written down that the *other* has the new
//!   generation durable. Whoever comes back without knowing of it has an older folder than it had, and is stale.
//!
//! ```text
//! record: the start that is coming; then the superblock   (once in a run)
//! record: generation, and the joint start that is coming  (A, on both; the coming main first, as for any generation)
//! record: that is the volume's start; the joint start     (B; by main once it knows that the other has A)
//! the first byte
//! ```
//!
//! **No crash point makes a healthy copy stale**: from A to B the record takes the superblock for its own whether it
//! says the old start or the coming one, and the peer's joint start for known if it is the coming one; what is coming
//! is replaced only when both have compared what they know, or when nothing was written with it. A copy that was never
//! served, made to be refilled, does not say the start that the record expects: it is no source either.
//!
//! A stale copy is never a source. It is refilled where a whole one is found, and refused with the reason where none
//! is, or where the other has gone on from the old state.

/// Why volumes are marked. Each round goes the same way: a record that names the marks is durable, then each volume's
/// mark, and then a record that says that they are there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Round {
    /// This controller has started and has whole copies.
    Start,
    /// It has started, and these LUNs have no other copy.
    Single,
    /// It goes on alone; the ticket of the record that names its copies alone.
    Alone(u64),
    /// The two have agreed.
    Agreed,
    /// It ends cleanly.
    End,
}
