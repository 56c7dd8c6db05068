//! Cuts a LUN at every border of an operation or of what a read saw: the blocks between two cuts have one and the
//! same history, so each is judged once.

use super::history::{Extent, History, Kind, OpId, Operation, Outcome, Piece, Seen};

/// What an operation did to, or saw of, every block of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Act {
    /// Saw this.
    Read(Seen),
    /// Left this.
    Write(Seen),
    /// Saw the first and left its own mark.
    Exchange(Seen),
    /// Saw something else than this.
    Differ(Seen),
}

/// Blocks with one history.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) extent: Extent,
    /// Who touched it and how, in the order of invocation.
    pub(super) acts: Vec<(OpId, Act)>,
}

/// The segments of a LUN that anything touched, ascending.
pub(super) fn segments(history: &History, lun: u16) -> Vec<Segment> {
    let mut operations: Vec<&Operation> =
        history.operations().iter().filter(|operation| operation.lun == lun).collect();
    operations.sort_by_key(|operation| operation.invoked);
    let touches: Vec<(Extent, OpId, Act)> =
        operations.iter().flat_map(|operation| touches(operation)).collect();
    let mut cuts: Vec<u64> = touches.iter().flat_map(|(extent, ..)| [extent.start, extent.end()]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let mut segments: Vec<Segment> = cuts
        .windows(2)
        .map(|cut| Segment { extent: Extent { start: cut[0], blocks: cut[1] - cut[0] }, acts: Vec::new() })
        .collect();
    for (extent, id, act) in touches {
        let first = cuts.partition_point(|cut| *cut < extent.start);
        let last = cuts.partition_point(|cut| *cut < extent.end());
        segments[first..last].iter_mut().for_each(|segment| segment.acts.push((id, act)));
    }
    segments.retain(|segment| !segment.acts.is_empty());
    segments
}

/// What one operation did, extent by extent. A refused operation did nothing, a read without answer saw nothing.
fn touches(operation: &Operation) -> Vec<(Extent, OpId, Act)> {
    let own = Seen::Written(operation.id);
    let everywhere = |act| operation.extents.iter().map(|extent| (*extent, operation.id, act)).collect();
    let pieces = |pieces: &[Piece], act: fn(Seen) -> Act| {
        let mut start = operation.extents[0].start;
        let mut place = |blocks| {
            start += blocks;
            Extent { start: start - blocks, blocks }
        };
        pieces.iter().map(|piece| (place(piece.blocks), operation.id, act(piece.seen))).collect()
    };
    match (operation.kind, &operation.outcome) {
        (Kind::Read, Outcome::Read(seen)) => pieces(seen, Act::Read),
        (Kind::Write, Outcome::Restored(restored)) => pieces(restored, Act::Write),
        (Kind::Verify { expected }, Outcome::Done) => everywhere(Act::Read(expected)),
        (Kind::Verify { expected }, Outcome::Miscompare) => everywhere(Act::Differ(expected)),
        (Kind::Read | Kind::Verify { .. }, _) | (_, Outcome::Refused) => Vec::new(),
        (Kind::Write, _) => everywhere(Act::Write(own)),
        (Kind::Zero, _) => everywhere(Act::Write(Seen::Zeros)),
        (Kind::CompareAndWrite { expected }, Outcome::Miscompare) => everywhere(Act::Differ(expected)),
        (Kind::CompareAndWrite { expected }, _) => everywhere(Act::Exchange(expected)),
    }
}
