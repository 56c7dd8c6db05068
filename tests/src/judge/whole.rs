//! Writes that are all or nothing: what a crash has left of one on a copy is all of it, or nothing.
//!
//! Judged by what one copy holds. A block that holds the mark of such a write tells that it took place; a block of the
//! same write that holds something surely older, or zeros that nobody can have made since, tells that it did so in
//! part.

use super::Violation;
use super::history::{History, Kind, Operation, Outcome, Piece, Seen};

/// Judges what a copy of a LUN holds, from its first block on.
pub fn check(history: &History, lun: u16, held: &[Piece]) -> Result<(), Violation> {
    let blocks: Vec<Seen> =
        held.iter().flat_map(|piece| core::iter::repeat_n(piece.seen, piece.blocks as usize)).collect();
    let of_lun = || history.operations().iter().filter(|operation| operation.lun == lun);
    for whole in of_lun().filter(|operation| operation.atomic) {
        let extent = whole.extents[0];
        let its = &blocks[extent.start as usize..extent.end() as usize];
        if !its.contains(&Seen::Written(whole.id)) {
            continue;
        }
        let zeroed = |lba: u64| {
            of_lun().any(|operation| {
                operation.kind == Kind::Zero
                    && operation.outcome != Outcome::Refused
                    && operation.returned >= whole.invoked
                    && operation.extents.iter().any(|extent| (extent.start..extent.end()).contains(&lba))
            })
        };
        for (seen, lba) in its.iter().zip(extent.start..) {
            let (older, by): (bool, Option<&Operation>) = match seen {
                Seen::Written(id) => {
                    let writer = history.operation(*id);
                    (writer.returned < whole.invoked, Some(writer))
                }
                Seen::Zeros => (!zeroed(lba), None),
                Seen::Nobody => (true, None),
            };
            if older {
                let what =
                    format!("LUN {lun} block {lba}: op {} is torn on a copy, which holds {seen:?}", whole.id);
                let operations = [Some(whole), by].into_iter().flatten().map(ToString::to_string).collect();
                return Err(Violation { what, operations });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{Extent, OpId};

    /// An old write of blocks 0 to 3, an atomic one of blocks 1 and 2, then a write of block 1 and zeros in block 2.
    fn verdict(held: [OpId; 4]) -> bool {
        let mut history = History::new();
        let mut write = |kind, start, blocks| {
            let id = history.invoke(0, 0, kind, vec![Extent { start, blocks }]);
            if id == 2 {
                history.ask_atomic(id);
            }
            history.end(id, Outcome::Done);
        };
        write(Kind::Write, 0, 4);
        write(Kind::Write, 1, 2);
        write(Kind::Write, 1, 1);
        write(Kind::Zero, 2, 1);
        let seen = |id| if id == 0 { Seen::Zeros } else { Seen::Written(id) };
        let held: Vec<Piece> = held.iter().map(|id| Piece { blocks: 1, seen: seen(*id) }).collect();
        check(&history, 0, &held).is_ok()
    }

    #[test]
    fn a_part_of_an_atomic_write_beside_something_older_is_found() {
        for held in [[1, 1, 1, 1], [1, 2, 2, 1], [1, 3, 2, 1], [1, 2, 0, 1], [1, 3, 0, 1], [0, 0, 0, 0]] {
            assert!(verdict(held), "{held:?}");
        }
        for held in [[1, 2, 1, 1], [1, 1, 2, 1], [1, 0, 2, 1]] {
            assert!(!verdict(held), "{held:?}");
        }
    }
}
