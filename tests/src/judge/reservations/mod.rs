//! Judges what changes a logical unit other than its blocks: reservations, mode pages, resets.
//!
//! Events of several hosts are under way at once and some are never answered, so the judge knows not one state but all
//! that what was seen allows ([`Judge`]). What it demands:
//!
//! * every answer is one that SPC-4 gives in one of these states; PERSISTENT RESERVE IN tells one of them exactly;
//! * a command that all of them forbid, from its beginning to its end, never gets GOOD; one that all of them allow
//!   never gets RESERVATION CONFLICT;
//! * no write lands, for the first time on any copy, while all of them forbid it, or, where nothing fails, after it was
//!   answered or given up (a main that was cut off or stood still may carry out late what it had before, ahead of
//!   whatever could tell: that is for the judge of the blocks);
//! * while nothing changes, PERSISTENT RESERVE IN has the same bytes through both controllers;
//! * a loss of power leaves what APTPL and saved mode pages keep.
//!
//! It is written from the standard, apart from the core under test.

mod possible;
pub mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use self::possible::Possible;
use self::state::{Access, Answer, Command, Leave, Session, State};
use super::OpId;
use controller::time::Time;

/// Names an event, counted from 1.
pub type EventId = u32;

/// Names a command that asks leave, counted from 1.
pub type AskId = u32;

/// Events that may be under way or unanswered at once: what they may have come to is tried out in every order.
pub const UNDER_WAY_MAX: usize = 4;

/// Where a write may land: block and operation, and, if no copy may be late, the copy.
type Landing = (u64, OpId, usize);

/// A command under way that asks leave.
#[derive(Clone, Debug)]
struct Asking {
    who: Session,
    access: Access,
    granted: bool,
    conflict: bool,
    protected: bool,
}

/// Whose a write is, and whether it may still land.
#[derive(Clone, Copy, Debug)]
struct Writer {
    who: Session,
    over: bool,
}

/// The judge of one logical unit.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    possible: Possible,
    asking: BTreeMap<AskId, Asking>,
    asked: AskId,
    writers: BTreeMap<OpId, Writer>,
    landed: BTreeSet<Landing>,
    /// No copy is ever late: there are no faults.
    strict: bool,
    /// What PERSISTENT RESERVE IN told since the last event that may have changed something.
    told: BTreeMap<Command, Vec<u8>>,
    /// Those of its kind under way that nothing has been beside that may change something.
    quiet: BTreeSet<EventId>,
}

impl Judge {
    /// The judge of a new logical unit. `strict`: every copy takes every write before it is answered.
    #[must_use]
    pub fn new(strict: bool) -> Self {
        Self { strict, ..Self::default() }
    }

    /// One of the states it may be in.
    #[must_use]
    pub fn a_state(&self) -> &State {
        self.possible.first()
    }

    /// Events without an answer.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.possible.under_way()
    }

    /// Events without an answer that may change something.
    #[must_use]
    pub fn changes_under_way(&self) -> Vec<&Command> {
        self.possible.changes_under_way()
    }

    /// An event begins.
    pub fn begin(&mut self, who: Session, command: Command) -> EventId {
        let reads = command.only_reads();
        let quiet = reads && self.possible.changes_under_way().is_empty();
        let id = self.possible.begin(who, command);
        if !reads {
            self.told.clear();
            self.quiet.clear();
        } else if quiet {
            self.quiet.insert(id);
        }
        self.look();
        id
    }

    /// An event was answered; `bytes` is what PERSISTENT RESERVE IN told.
    pub fn answered(&mut self, id: EventId, answer: &Answer, bytes: &[u8]) -> Result<(), String> {
        let Some(command) = self.possible.answered(id, answer)? else { return Ok(()) };
        if self.quiet.remove(&id) && *answer != Answer::Conflict {
            let before = self.told.entry(command).or_insert_with(|| bytes.to_vec());
            if before[..] != *bytes {
                return Err(format!("PERSISTENT RESERVE IN told {before:02x?}, and now {bytes:02x?}"));
            }
        }
        Ok(())
    }

    /// An event was not carried out.
    pub fn refused(&mut self, id: EventId) -> Result<(), String> {
        self.possible.refused(id)
    }

    /// An event will never be answered: it may have happened, or may still happen.
    pub fn lost(&mut self, id: EventId, now: Time) {
        self.possible.lost(id, now);
    }

    /// All is well: what was lost long ago has happened by now or never will.
    pub fn settle(&mut self, now: Time) {
        self.possible.settle(now);
    }

    /// Whether a session may hold the unit by RESERVE, now or soon.
    #[must_use]
    pub fn may_be_reserved_by(&self, who: Session) -> bool {
        self.possible.states().any(|state| state.reserver == Some(who))
    }

    /// Both controllers have lost their memory, or may have.
    pub fn lose_power(&mut self, certain: bool) {
        self.told.clear();
        self.quiet.clear();
        self.possible.lose_power(certain);
        self.look();
    }

    /// A command begins that asks leave; `writes` is what its blocks are marked with.
    pub fn ask(&mut self, who: Session, access: Access, writes: Option<OpId>) -> AskId {
        self.asked += 1;
        let asking = Asking { who, access, granted: false, conflict: false, protected: false };
        self.asking.insert(self.asked, asking);
        writes.iter().for_each(|op| {
            self.writers.insert(*op, Writer { who, over: false });
        });
        self.look();
        self.asked
    }

    /// Commands under way hear what any of the states lets them hear.
    fn look(&mut self) {
        for asking in self.asking.values_mut() {
            for state in self.possible.states() {
                match state.leave(asking.who, asking.access) {
                    Leave::Granted => asking.granted = true,
                    Leave::Conflict => asking.conflict = true,
                    Leave::Protected => asking.protected = true,
                }
            }
        }
    }

    /// It ended: `leave` as its status tells, if it tells.
    pub fn ended(&mut self, id: AskId, op: Option<OpId>, leave: Option<Leave>) -> Result<(), String> {
        if let Some(writer) = op.and_then(|op| self.writers.get_mut(&op)) {
            writer.over |= leave.is_some();
        }
        let Some(asking) = self.asking.remove(&id) else { return Ok(()) };
        let possible = match leave {
            None => true,
            Some(Leave::Granted) => asking.granted,
            Some(Leave::Conflict) => asking.conflict,
            Some(Leave::Protected) => asking.protected,
        };
        if possible { Ok(()) } else { Err(format!("{leave:?} for {asking:?} in {}", self.possible)) }
    }

    /// It was not carried out, and never will be: given up, or refused for another reason.
    pub fn over(&mut self, id: AskId, op: Option<OpId>) {
        self.asking.remove(&id);
        if let Some(writer) = op.and_then(|op| self.writers.get_mut(&op)) {
            writer.over = true;
        }
    }

    /// A write that a crash met is completed on a copy when its controller starts. No harm is done where its writer has
    /// no leave any more, unless hosts come to see it: then it lands.
    pub fn replayed(&mut self, op: OpId, block: u64, copy: usize) {
        let _ahead = self.lands(op, block, copy).inspect_err(|_| {
            self.landed.remove(&(block, op, if self.strict { copy } else { 0 }));
        });
    }

    /// A block of a write gets to a copy.
    pub fn lands(&mut self, op: OpId, block: u64, copy: usize) -> Result<(), String> {
        let Some(writer) = self.writers.get(&op).copied() else { return Ok(()) };
        if !self.landed.insert((block, op, if self.strict { copy } else { 0 })) {
            return Ok(());
        }
        if writer.over && self.strict {
            return Err(format!("op {op} gets to block {block} after it was answered or given up"));
        }
        let granted = |state: &State| state.leave(writer.who, Access::Change) == Leave::Granted;
        if self.possible.states().any(granted) {
            Ok(())
        } else {
            Err(format!("op {op} of {:?} gets to block {block} in {}", writer.who, self.possible))
        }
    }
}
