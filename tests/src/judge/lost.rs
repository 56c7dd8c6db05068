//! What a LUN may lose when no copy is left in anyone's memory: what its write cache held. Every block holds what
//! it held at some moment since the last word that it was durable.

use super::Violation;
use super::history::{History, Loss, OpId, Operation, Outcome, Piece, Seen};
use super::segments::{Act, segments};

/// Judges what a LUN held after a loss, by the history up to it.
pub(super) fn judge(history: &History, loss: &Loss) -> Result<(), Violation> {
    let Some(restored) = &loss.restored else { return Ok(()) };
    let begins =
        history.operations().iter().any(|operation| matches!(operation.outcome, Outcome::Restored(_)));
    let mut segments = segments(history, loss.lun).into_iter().peekable();
    let mut lba = 0;
    for Piece { blocks, seen } in restored {
        let end = lba + blocks;
        while lba < end {
            while segments.next_if(|segment| segment.extent.end() <= lba).is_some() {}
            let (acts, until) = match segments.peek() {
                Some(segment) if segment.extent.start <= lba => (segment.acts.clone(), segment.extent.end()),
                Some(segment) => (Vec::new(), segment.extent.start),
                None => (Vec::new(), u64::MAX),
            };
            judge_block(history, loss, lba, &acts, *seen, begins)?;
            lba = until.min(end);
        }
    }
    Ok(())
}

fn judge_block(
    history: &History,
    loss: &Loss,
    lba: u64,
    acts: &[(OpId, Act)],
    held: Seen,
    begins: bool,
) -> Result<(), Violation> {
    let writes: Vec<(&Operation, Seen)> = acts
        .iter()
        .filter_map(|(id, act)| match act {
            Act::Write(value) => Some((history.operation(*id), *value)),
            Act::Exchange(_) => Some((history.operation(*id), Seen::Written(*id))),
            Act::Read(_) | Act::Differ(_) => None,
        })
        .collect();
    // What the last durable write followed can be gone; it and what came later or beside it can be held.
    let newest = writes.iter().filter(|(operation, _)| is_durable(history, loss, operation));
    let newest = newest.map(|(operation, _)| *operation).max_by_key(|operation| operation.invoked);
    let since = newest.map_or(0, |operation| operation.invoked);
    let explained = writes.iter().any(|(operation, value)| *value == held && operation.returned >= since);
    let at_first = held == Seen::Zeros && newest.is_none() && !begins;
    if explained || at_first {
        return Ok(());
    }
    let what = format!(
        "LUN {} block {lba}: after its copies lost their memory at tick {} it held {held:?}, \
         though something later was durable",
        loss.lun, loss.tick
    );
    let operations = writes.iter().map(|(operation, _)| *operation).chain(newest).map(ToString::to_string);
    Err(Violation { what, operations: operations.collect() })
}

fn is_durable(history: &History, loss: &Loss, operation: &Operation) -> bool {
    let flushed = |operation: &Operation| {
        history.flushes().iter().any(|flush| {
            flush.lun == loss.lun && flush.invoked > operation.returned && flush.returned < loss.tick
        })
    };
    operation.outcome == Outcome::Done
        && operation.returned < loss.tick
        && (operation.durable || flushed(operation))
}
