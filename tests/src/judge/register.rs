//! Linearizability of one block (Herlihy and Wing): is there an order of the operations that keeps to real time
//! and in which every read sees the last write before it?
//!
//! The search is Wing and Gong's with Lowe's memory of states already refuted. Two observations keep it short:
//! an operation that changes nothing is placed as soon as it may be, and a write that nobody ever saw is placed
//! right before whatever overwrites it.

use std::collections::HashSet;

use super::history::{History, Operation, Outcome, Seen};
use super::segments::{Act, Segment};

/// States looked at for one block at most; a history that needs more is reported, not passed.
pub(super) const STATES_MAX: usize = 1_000_000;

/// What the search found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Finding {
    /// There is such an order.
    Linearizable,
    /// There is none.
    Contradiction,
    /// More than [`STATES_MAX`] states were looked at.
    TooHard,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    invoked: u64,
    returned: u64,
    act: Act,
    own: Seen,
    /// An operation without an answer, and one that was given up, may be left out.
    optional: bool,
    /// No read ever saw what it wrote.
    unseen: bool,
}

/// Judges the history of a segment's blocks, as far as it was known at tick `until`.
pub(super) fn judge(history: &History, segment: &Segment, until: u64) -> Finding {
    let steps = steps(history, segment, until);
    Search { steps: &steps, refuted: HashSet::new() }.run()
}

fn steps(history: &History, segment: &Segment, until: u64) -> Vec<Step> {
    let known = |operation: &&(&Operation, Act)| operation.0.invoked <= until;
    let acts: Vec<(&Operation, Act)> =
        segment.acts.iter().map(|(id, act)| (history.operation(*id), *act)).collect();
    let seen: Vec<Seen> = acts
        .iter()
        .filter_map(|(_, act)| match act {
            Act::Read(seen) | Act::Exchange(seen) => Some(*seen),
            Act::Write(_) | Act::Differ(_) => None,
        })
        .collect();
    let differs = acts.iter().any(|(_, act)| matches!(act, Act::Differ(_)));
    acts.iter()
        .filter(known)
        .filter_map(|(operation, act)| {
            let open = operation.outcome == Outcome::Unknown || operation.returned > until;
            let optional = open || operation.outcome == Outcome::Aborted;
            let own = match act {
                Act::Write(value) => *value,
                _ => Seen::Written(operation.id),
            };
            let unseen = !differs && matches!(act, Act::Write(_)) && !seen.contains(&own);
            let changes_nothing = matches!(act, Act::Read(_) | Act::Differ(_));
            let idle = optional && (unseen || changes_nothing);
            let returned = if open { u64::MAX } else { operation.returned };
            (!idle).then_some(Step { invoked: operation.invoked, returned, act: *act, own, optional, unseen })
        })
        .collect()
}

/// Which steps are placed, and what the block holds after them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    placed: Vec<u64>,
    value: u32,
}

impl State {
    fn has(&self, step: usize) -> bool {
        self.placed[step / 64] >> (step % 64) & 1 == 1
    }

    fn place(&mut self, step: usize) {
        self.placed[step / 64] |= 1 << (step % 64);
    }
}

/// Zeros are 0; nobody's content equals nothing.
fn number(seen: Seen) -> u32 {
    match seen {
        Seen::Zeros => 0,
        Seen::Written(id) => id,
        Seen::Nobody => u32::MAX,
    }
}

struct Search<'a> {
    steps: &'a [Step],
    refuted: HashSet<State>,
}

impl Search<'_> {
    fn run(&mut self) -> Finding {
        let words = self.steps.len().div_ceil(64);
        let mut open = vec![State { placed: vec![0; words], value: 0 }];
        while let Some(mut state) = open.pop() {
            let next = self.settle(&mut state);
            if next.done {
                return Finding::Linearizable;
            }
            if self.refuted.len() > STATES_MAX {
                return Finding::TooHard;
            }
            if !self.refuted.insert(state.clone()) {
                continue;
            }
            // What was given up took effect before the next thing begins, or it is left out.
            open.extend(next.drop.map(|at| {
                let mut without = state.clone();
                without.place(at);
                without
            }));
            open.extend(next.writes.iter().rev().filter_map(|write| self.apply(&state, &next, *write)));
        }
        Finding::Contradiction
    }

    /// Places everything that may be placed and changes nothing; then says what may come next.
    fn settle(&self, state: &mut State) -> Next {
        loop {
            let mut settled = true;
            let mut next = Next { horizon: u64::MAX, done: true, writes: Vec::new(), drop: None };
            for (at, step) in self.steps.iter().enumerate().filter(|(at, _)| !state.has(*at)) {
                if step.returned < next.horizon {
                    next.horizon = step.returned;
                    next.drop = step.optional.then_some(at);
                }
                next.done &= step.optional;
            }
            for (at, step) in self.steps.iter().enumerate() {
                if step.invoked > next.horizon {
                    break;
                }
                if state.has(at) {
                    continue;
                }
                match step.act {
                    Act::Read(seen) if number(seen) == state.value => {
                        state.place(at);
                        settled = false;
                    }
                    Act::Differ(seen) if number(seen) != state.value => {
                        state.place(at);
                        settled = false;
                    }
                    Act::Write(_) => next.writes.push(at),
                    Act::Exchange(seen) if number(seen) == state.value => next.writes.push(at),
                    _ => {}
                }
            }
            if settled {
                next.writes.sort_by_key(|at| self.steps[*at].returned);
                return next;
            }
        }
    }

    /// The state after `write`, unless what the block holds now is still to be seen and can never come back.
    fn apply(&self, state: &State, next: &Next, write: usize) -> Option<State> {
        let value = state.value;
        let still_wanted = |(at, step): (usize, &Step)| {
            let wants = match step.act {
                Act::Read(seen) | Act::Exchange(seen) => number(seen) == value,
                _ => false,
            };
            wants && at != write && !step.optional && !state.has(at)
        };
        if value != 0 && self.steps.iter().enumerate().any(still_wanted) {
            return None;
        }
        let mut after = state.clone();
        // They come before it, which they cannot if it was given up before they began.
        let until = self.steps[write].returned;
        let before = |at: &&usize| self.steps[**at].unseen && self.steps[**at].invoked <= until;
        next.writes.iter().filter(before).for_each(|at| after.place(*at));
        after.place(write);
        after.value = number(self.steps[write].own);
        Some(after)
    }
}

struct Next {
    /// The first return of a step that must still be placed, or left out.
    horizon: u64,
    done: bool,
    writes: Vec<usize>,
    /// The step of the horizon, if it may be left out.
    drop: Option<usize>,
}
