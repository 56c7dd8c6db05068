//! Linearizability of one block (Herlihy and Wing): is there an order of the operations that keeps to real time
//! and in which every read sees the last write before it?
//!
//! The search is Wing and Gong's with Lowe's memory of states already refuted. These observations keep it short: an
//! operation that changes nothing is placed as soon as it may be; a write that nobody ever saw is placed right before
//! whatever overwrites it; of writes that do the same only the one that must come first is tried, and what has no
//! answer and was never seen does the same as its like; what somebody saw was not left out.

use std::collections::{HashMap, HashSet};

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
    /// An operation without an answer, and one that was given up, may be left out, unless somebody saw what it wrote.
    optional: bool,
    /// No read ever saw what it wrote.
    unseen: bool,
    /// It has no answer, and nobody can tell what it wrote from what another such write did.
    anonymous: bool,
}

impl Step {
    fn is_anonymous(&self, told_apart: &HashSet<u32>) -> bool {
        let write = matches!(self.act, Act::Write(Seen::Written(_)));
        write && self.optional && self.returned == u64::MAX && !told_apart.contains(&number(self.own))
    }

    /// What the block holds after it.
    fn content(&self) -> u32 {
        if self.anonymous { ANONYMOUS } else { number(self.own) }
    }
}

/// The content that an anonymous write leaves.
const ANONYMOUS: u32 = u32::MAX - 1;

/// Judges the history of a segment's blocks, as far as it was known at tick `until`.
pub(super) fn judge(history: &History, segment: &Segment, until: u64) -> Finding {
    let mut steps: Vec<Step> = segment
        .acts
        .iter()
        .map(|(id, act)| (history.operation(*id), *act))
        .filter(|(operation, _)| operation.invoked <= until)
        .map(|(operation, act)| step(operation, act, until))
        .collect();
    require_what_was_seen(&mut steps);
    leave_out_sure_miscompares(&mut steps);
    leave_out_what_nobody_saw(&mut steps);
    // Mostly what was not answered is not needed to explain what was; all of it makes the search long. Zeros look like
    // anyone's, so it is not known whether they were seen.
    let needed = |step: &&Step| !step.optional || step.own == Seen::Zeros;
    let few: Vec<Step> = steps.iter().filter(needed).copied().collect();
    if few.len() < steps.len() && search(&few) == Finding::Linearizable {
        return Finding::Linearizable;
    }
    search(&steps)
}

fn search(steps: &[Step]) -> Finding {
    Search { steps, refuted: HashSet::new() }.run()
}

fn step(operation: &Operation, act: Act, until: u64) -> Step {
    let open = operation.outcome == Outcome::Unknown || operation.returned > until;
    let own = match act {
        Act::Write(value) => value,
        _ => Seen::Written(operation.id),
    };
    Step {
        invoked: operation.invoked,
        returned: if open { u64::MAX } else { operation.returned },
        act,
        own,
        optional: open || operation.outcome == Outcome::Aborted,
        unseen: false,
        anonymous: false,
    }
}

/// What an operation that must be placed has seen was written: whoever wrote it cannot be left out either.
fn require_what_was_seen(steps: &mut [Step]) {
    let writers: HashMap<u32, usize> = (0..).zip(&*steps).map(|(at, step)| (number(step.own), at)).collect();
    let mut required: Vec<usize> = (0..steps.len()).filter(|at| !steps[*at].optional).collect();
    while let Some(at) = required.pop() {
        let (Act::Read(seen @ Seen::Written(_)) | Act::Exchange(seen @ Seen::Written(_))) = steps[at].act
        else {
            continue;
        };
        if let Some(writer) = writers.get(&number(seen))
            && core::mem::take(&mut steps[*writer].optional)
        {
            required.push(*writer);
        }
    }
}

/// A miscompare says nothing where what it compared with cannot have been there: never written, not yet, or overwritten
/// for sure.
fn leave_out_sure_miscompares(steps: &mut Vec<Step>) {
    let changes = |step: &&Step| matches!(step.act, Act::Write(_) | Act::Exchange(_));
    let all = steps.clone();
    steps.retain(|step| {
        let Act::Differ(content @ Seen::Written(_)) = step.act else {
            return true;
        };
        let writer = all.iter().filter(changes).find(|other| other.own == content);
        writer.is_some_and(|writer| {
            writer.invoked < step.returned && !all.iter().any(|other| is_between(writer, other, step))
        })
    });
}

/// An operation that need not be placed is left out where that makes no difference, and what nobody saw is marked.
fn leave_out_what_nobody_saw(steps: &mut Vec<Step>) {
    steps.retain(|step| !(step.optional && matches!(step.act, Act::Read(_) | Act::Differ(_))));
    let seen: HashSet<u32> = steps
        .iter()
        .filter_map(|step| match step.act {
            Act::Read(seen) | Act::Exchange(seen) => Some(number(seen)),
            Act::Write(_) | Act::Differ(_) => None,
        })
        .collect();
    let all = steps.clone();
    let miscompares = || all.iter().filter(|step| matches!(step.act, Act::Differ(_)));
    for step in steps.iter_mut().filter(|step| matches!(step.act, Act::Write(_))) {
        // One may have seen what nobody else did.
        let may_show = miscompares().any(|differ| {
            step.invoked < differ.returned && !all.iter().any(|other| is_between(step, other, differ))
        });
        step.unseen = !may_show && !seen.contains(&number(step.own));
    }
    steps.retain(|step| !(step.optional && step.unseen));
    let compared = miscompares().filter_map(|step| match step.act {
        Act::Differ(content) => Some(number(content)),
        _ => None,
    });
    let told_apart: HashSet<u32> = seen.iter().copied().chain(compared).collect();
    steps.iter_mut().for_each(|step| step.anonymous = step.is_anonymous(&told_apart));
}

/// Whether a change surely came after one and before another.
fn is_between(before: &Step, change: &Step, after: &Step) -> bool {
    let changes = matches!(change.act, Act::Write(_) | Act::Exchange(_));
    changes && !change.optional && change.invoked > before.returned && change.returned < after.invoked
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
            open.extend(next.tries.iter().rev().filter_map(|write| self.apply(&state, &next, *write)));
        }
        Finding::Contradiction
    }

    /// Places everything that may be placed and changes nothing; then says what may come next.
    fn settle(&self, state: &mut State) -> Next {
        loop {
            let mut settled = true;
            let mut next = Next::default();
            (next.horizon, next.done) = (u64::MAX, true);
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
                next.tries = self.first_of_its_like(&next.writes);
                return next;
            }
        }
    }

    /// Of writes that leave the block with the same content, the one that has to come first. In an order that begins
    /// with another of them, the two can change places.
    fn first_of_its_like(&self, writes: &[usize]) -> Vec<usize> {
        let mut likes = HashSet::new();
        let like = |at: &usize| {
            let step = &self.steps[*at];
            (step.optional, if step.unseen { None } else { Some(step.content()) })
        };
        writes.iter().copied().filter(|at| likes.insert(like(at))).collect()
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
        after.value = self.steps[write].content();
        Some(after)
    }
}

#[derive(Default)]
struct Next {
    /// The first return of a step that must still be placed, or left out.
    horizon: u64,
    done: bool,
    /// What may come next and changes the block, by when it must have come.
    writes: Vec<usize>,
    /// Those of them that are worth trying.
    tries: Vec<usize>,
    /// The step of the horizon, if it may be left out.
    drop: Option<usize>,
}
