//! Commands over several blocks are one: as every command holds its whole range, a read that runs beside a write
//! sees all of it or nothing.
//!
//! The judge collects what must have come before what: real time, who saw whose mark, and what follows from a
//! mark that another write would have covered. A circle among these is a contradiction. It finds no circle in
//! a history whose commands took effect each at one instant.

use super::history::{History, OpId, Operation, Outcome, Seen};
use super::segments::{Act, Segment};

/// A circle: `reader` saw `seen` on blocks that `write`, before it, had overwritten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Torn {
    pub(super) reader: OpId,
    /// `None`: the zeros of the beginning.
    pub(super) seen: Option<OpId>,
    pub(super) write: OpId,
}

/// `reader` saw `seen` on a block that `write` writes as well.
type Observation = (usize, Option<usize>, usize);

/// Judges all of one LUN.
pub(super) fn judge(history: &History, segments: &[Segment], lun: u16) -> Result<(), Torn> {
    let operations: Vec<&Operation> =
        history.operations().iter().filter(|operation| operation.lun == lun).collect();
    let place = |id: OpId| operations.binary_search_by_key(&id, |operation| operation.id).ok();
    let mut before = Before::new(&operations);
    let observations = observations(history, segments, place);
    for (reader, seen, _) in &observations {
        if let Some(seen) = seen {
            before.add(*seen, *reader);
        }
    }
    loop {
        let mut changed = false;
        for &(reader, seen, write) in &observations {
            let torn = Torn {
                reader: operations[reader].id,
                seen: seen.map(|seen| operations[seen].id),
                write: operations[write].id,
            };
            if before.has(write, reader) {
                // The write came before the read, which saw another's mark: that other came after the write.
                let seen = seen.ok_or(torn)?;
                changed |= before.add(write, seen);
            } else if seen.is_none_or(|seen| before.has(seen, write)) {
                // The write came after what was seen, so the read came before the write.
                changed |= before.add(reader, write);
            }
            if before.has(reader, reader) || before.has(write, write) {
                return Err(torn);
            }
        }
        if !changed {
            return Ok(());
        }
    }
}

/// Every (reader, what it saw, other writer of the same block), once. Zeros that may be anyone's tell nothing,
/// nor does a command without an answer: what a crash leaves of it need not be the whole. Marks of earlier than
/// the history are its beginning, like zeros.
fn observations(
    history: &History,
    segments: &[Segment],
    place: impl Fn(OpId) -> Option<usize>,
) -> Vec<Observation> {
    let mut all = Vec::new();
    let whole = |id: OpId| {
        let outcome = &history.operation(id).outcome;
        !matches!(outcome, Outcome::Unknown | Outcome::Aborted | Outcome::Restored(_))
    };
    for segment in segments {
        let zeroed = segment.acts.iter().any(|(_, act)| *act == Act::Write(Seen::Zeros));
        let writers: Vec<OpId> = segment
            .acts
            .iter()
            .filter(|(_, act)| matches!(act, Act::Write(_) | Act::Exchange(_)))
            .map(|(id, _)| *id)
            .filter(|id| whole(*id))
            .collect();
        for (reader, act) in &segment.acts {
            let seen = match act {
                Act::Read(Seen::Written(id)) | Act::Exchange(Seen::Written(id)) => match place(*id) {
                    Some(_) if !whole(*id) => continue,
                    found => found.map(|_| *id),
                },
                Act::Read(Seen::Zeros) | Act::Exchange(Seen::Zeros) if !zeroed => None,
                _ => continue,
            };
            let Some(reader) = place(*reader).filter(|_| whole(*reader)) else { continue };
            let seen_at = seen.and_then(&place);
            let others =
                writers.iter().filter(|write| Some(**write) != seen).filter_map(|write| place(*write));
            all.extend(others.filter(|write| *write != reader).map(|write| (reader, seen_at, write)));
            // A sole writer that was seen has no other beside it; it still came before its reader.
            if let (Some(seen), Some(at)) = (seen, seen_at)
                && writers == [seen]
            {
                all.push((reader, Some(at), at));
            }
        }
    }
    all.sort_unstable();
    all.dedup();
    all.retain(|(reader, seen, write)| Some(*write) != *seen || reader != write);
    all
}

/// What came before what, closed under transitivity.
struct Before {
    words: usize,
    rows: Vec<Vec<u64>>,
}

impl Before {
    /// Begins with real time: what had returned before another was invoked came before it.
    fn new(operations: &[&Operation]) -> Self {
        let words = operations.len().div_ceil(64);
        let row = |a: &&Operation| {
            let mut row = vec![0; words];
            for (at, b) in operations.iter().enumerate() {
                if a.returned < b.invoked {
                    row[at / 64] |= 1 << (at % 64);
                }
            }
            row
        };
        Self { words, rows: operations.iter().map(row).collect() }
    }

    fn has(&self, a: usize, b: usize) -> bool {
        self.rows[a][b / 64] >> (b % 64) & 1 == 1
    }

    /// Adds that `a` came before `b`, with all that follows. False if it was known.
    fn add(&mut self, a: usize, b: usize) -> bool {
        if a == b || self.has(a, b) {
            return false;
        }
        let mut after = self.rows[b].clone();
        after[b / 64] |= 1 << (b % 64);
        for at in 0..self.rows.len() {
            if at == a || self.has(at, a) {
                (0..self.words).for_each(|word| self.rows[at][word] |= after[word]);
            }
        }
        true
    }
}
