//! The judges: from what hosts did and saw they decide whether the appliance told the truth.
//!
//! * every block's history is linearizable ([`check`], per block);
//! * every command took effect as one ([`check`], across blocks);
//! * what a LUN lost after its copies lost their memory was not durable ([`check`], between two losses);
//! * both copies hold the same bytes ([`copies`]).
//!
//! They know nothing of the code under test. Marks in the blocks tell who wrote them, and no two operations
//! write the same mark; only zeros can be anyone's.

mod atomic;
pub mod caching;
pub mod copies;
pub mod history;
mod lost;
mod register;
pub mod reservations;
mod segments;
#[cfg(test)]
mod tests;
pub mod whole;

use std::fmt::{self, Write as _};

pub use self::history::{Extent, Flush, History, Kind, Loss, OpId, Operation, Outcome, Piece, Seen};
use self::register::Finding;
use self::segments::{Act, Segment};

/// What the judges found, with the operations that show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// In one line.
    pub what: String,
    /// The operations concerned, in the order they were invoked.
    pub operations: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.what.clone();
        self.operations.iter().try_for_each(|operation| write!(text, "\n    {operation}"))?;
        f.write_str(&text)
    }
}

impl std::error::Error for Violation {}

/// Operations printed with a violation at most.
const SHOWN_MAX: usize = 40;

/// Judges a whole history; the first violation of the lowest LUN.
pub fn check(history: &History) -> Result<(), Violation> {
    for lun in history.luns() {
        let losses = history.losses(lun);
        if losses.is_empty() {
            check_epoch(history, lun)?;
            continue;
        }
        for at in 0..=losses.len() {
            let from = at.checked_sub(1).and_then(|at| losses.get(at)).copied();
            let epoch = history.epoch(lun, from, losses.get(at).copied());
            check_epoch(&epoch, lun)?;
            if let Some(loss) = losses.get(at) {
                lost::judge(&epoch, loss)?;
            }
        }
    }
    Ok(())
}

fn check_epoch(history: &History, lun: u16) -> Result<(), Violation> {
    let segments = segments::segments(history, lun);
    for segment in &segments {
        check_marks(history, segment, lun)?;
        check_register(history, segment, lun)?;
    }
    if let Err(torn) = atomic::judge(history, &segments, lun) {
        let seen = torn.seen.map_or("zeros".to_owned(), |id| format!("blocks of op {id}"));
        let what = format!(
            "LUN {lun}: op {} saw {seen} where op {} had already written: a command took effect in parts",
            torn.reader, torn.write
        );
        let ids = [torn.seen, Some(torn.write), Some(torn.reader)];
        let operations = ids.iter().flatten().map(|id| history.operation(*id).to_string()).collect();
        return Err(Violation { what, operations });
    }
    Ok(())
}

/// Every mark that was seen is of an operation that wrote, or may have written, that block.
fn check_marks(history: &History, segment: &Segment, lun: u16) -> Result<(), Violation> {
    for (id, act) in &segment.acts {
        let Act::Read(seen) = act else { continue };
        let wrote = |id: OpId| segment.acts.iter().any(|(writer, act)| wrote(*writer, act, id));
        let what = match seen {
            Seen::Nobody => "content that nobody wrote there".to_owned(),
            Seen::Written(writer) if !wrote(*writer) => {
                format!("the mark of op {writer}, which did not write it")
            }
            _ => continue,
        };
        let what = format!("LUN {lun} block {}: op {id} saw {what}", segment.extent.start);
        return Err(Violation { what, operations: vec![history.operation(*id).to_string()] });
    }
    Ok(())
}

/// Whether an act left the mark of operation `id`.
fn wrote(writer: OpId, act: &Act, id: OpId) -> bool {
    match act {
        Act::Write(value) => *value == Seen::Written(id),
        Act::Exchange(_) => writer == id,
        Act::Read(_) | Act::Differ(_) => false,
    }
}

fn check_register(history: &History, segment: &Segment, lun: u16) -> Result<(), Violation> {
    let block = segment.extent.start;
    let what = match register::judge(history, segment, u64::MAX - 1) {
        Finding::Linearizable => return Ok(()),
        Finding::Contradiction => format!("LUN {lun} block {block}: its history is not linearizable"),
        Finding::TooHard => format!("LUN {lun} block {block}: its history is too hard to judge"),
    };
    Err(Violation { what, operations: shortest(history, segment) })
}

/// The operations up to the first return that cannot be explained.
fn shortest(history: &History, segment: &Segment) -> Vec<String> {
    let acts: Vec<&Operation> = segment.acts.iter().map(|(id, _)| history.operation(*id)).collect();
    let mut returns: Vec<u64> = acts.iter().map(|operation| operation.returned).collect();
    returns.sort_unstable();
    let fails = |until: &u64| register::judge(history, segment, *until) == Finding::Linearizable;
    let first = returns.get(returns.partition_point(fails)).copied().unwrap_or(u64::MAX);
    let shown: Vec<String> = acts
        .iter()
        .filter(|operation| operation.invoked <= first)
        .map(|operation| operation.to_string())
        .collect();
    let mut last = shown[shown.len().saturating_sub(SHOWN_MAX)..].to_vec();
    last.push(format!("the answer at tick {first} has no explanation"));
    last
}
