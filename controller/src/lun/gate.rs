//! The gate of a LUN: whether commands of this controller's hosts are judged now, wait, or find nobody who serves.
//!
//! ```text
//!   Shut ──pause──► Paused ──open──► Opening ──let in, the shared state known──► Open
//!                      ▲                │                                         │
//!                      └─────pause──────┴──────────────────pause──────────────────┘
//!   From every state: shut leads to Shut, open to Opening.
//! ```
//!
//! While the gate is paused a decision about the pair is awaited; while it is opening, main's word which shared state
//! holds: what the sub remembers may be old, so nobody is judged by it.
//!
//! What always holds ([`Gate::check`]): commands wait only at a gate that is paused or opening, in the order in which
//! they came, and [`HELD_COMMANDS_MAX`] at most.

use std::collections::VecDeque;

use protocol::scsi::sense::{Sense, Status};

use super::HELD_COMMANDS_MAX;
use super::task::Action;
use crate::command::{Command, Outcome};
use crate::pair::PairView;

/// Where the gate stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Hosts' commands are refused; those let in before finish.
    Shut,
    /// They wait for a decision about the pair.
    Paused,
    /// They wait for the shared state.
    Opening,
    /// They are judged as they come.
    Open,
}

/// What happens to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    Pause,
    Open,
    /// What the gate waits for may be there.
    LetIn,
    Shut,
}

/// The one function of transitions.
const fn transition(state: State, event: Event, state_known: bool) -> State {
    match (state, event) {
        (_, Event::Shut) => State::Shut,
        (_, Event::Pause) => State::Paused,
        (_, Event::Open) => State::Opening,
        (State::Opening, Event::LetIn) if state_known => State::Open,
        (state, Event::LetIn) => state,
    }
}

/// The gate of one LUN on one controller.
#[derive(Debug)]
pub(super) struct Gate {
    state: State,
    /// The shared state that holds is known here.
    state_known: bool,
    waiting: VecDeque<Command>,
    /// The most that ever waited at once.
    peak: usize,
}

impl Gate {
    /// A gate that nobody has opened yet.
    pub(super) const fn new() -> Self {
        Self { state: State::Shut, state_known: true, waiting: VecDeque::new(), peak: 0 }
    }

    /// Hosts' new commands wait from now on; those that wait already keep their places.
    pub(super) fn pause(&mut self) {
        self.state = transition(self.state, Event::Pause, self.state_known);
    }

    /// Whether the shared state that holds is known here.
    pub(super) const fn know(&mut self, known: bool) {
        self.state_known = known;
    }

    /// Hosts may be served: now, or as soon as the state is known. [`Gate::let_in`] follows.
    pub(super) fn open(&mut self) {
        self.state = transition(self.state, Event::Open, self.state_known);
    }

    /// If nothing is awaited any more: those that waited, to go on in this order.
    pub(super) fn let_in(&mut self) -> VecDeque<Command> {
        let before = self.state;
        self.state = transition(before, Event::LetIn, self.state_known);
        if before == self.state { VecDeque::new() } else { core::mem::take(&mut self.waiting) }
    }

    /// Hosts are served no more: those that waited are refused.
    pub(super) fn shut(&mut self, actions: &mut Vec<Action>) {
        self.state = transition(self.state, Event::Shut, self.state_known);
        self.end(&Outcome::Check(Sense::UNAVAILABLE), actions, |_| true);
    }

    /// Whether hosts' commands wait.
    pub(super) const fn waits(&self) -> bool {
        matches!(self.state, State::Paused | State::Opening)
    }

    /// Whether they are judged as they come.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Whether hosts are served: their commands are carried out, here or at main, or wait to be.
    pub(super) const fn serves(&self, view: &PairView) -> bool {
        self.waits() || (self.is_open() && view.serves())
    }

    /// A command waits; its host hears BUSY if too many do, or none is to.
    pub(super) fn keep(&mut self, command: Command, actions: &mut Vec<Action>) {
        if !self.waits() || self.waiting.len() >= HELD_COMMANDS_MAX {
            return actions.push(answer(&command, Outcome::Status(Status::Busy)));
        }
        self.waiting.push_back(command);
        self.peak = self.peak.max(self.waiting.len());
    }

    /// Those that wait and that `chosen` picks end so.
    pub(super) fn end(
        &mut self,
        outcome: &Outcome,
        actions: &mut Vec<Action>,
        chosen: impl Fn(&Command) -> bool,
    ) {
        self.waiting.retain(|command| {
            let ends = chosen(command);
            if ends {
                actions.push(answer(command, outcome.clone()));
            }
            !ends
        });
    }

    /// How many wait, and the most that ever did.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.waiting.len(), self.peak)
    }

    /// What always holds.
    pub(super) fn check(&self) {
        assert!(
            self.waits() || self.waiting.is_empty(),
            "commands wait at a gate where nobody waits: {self:?}"
        );
        assert!(self.waiting.len() <= HELD_COMMANDS_MAX, "more wait than may");
    }
}

/// The end of a command that waited, or was to.
const fn answer(command: &Command, outcome: Outcome) -> Action {
    Action::Answer { nexus: command.nexus, tag: command.tag, outcome }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{LunIndex, NexusId, Op, TaskTag};
    use crate::pair::{Role, Service};
    use crate::time::Time;

    fn command(tag: u32) -> Command {
        let op = Op::SynchronizeCache;
        Command { lun: LunIndex(0), nexus: NexusId(1), tag: TaskTag::of(tag), op, received: Time(0) }
    }

    /// Keeps these commands; how each of them ended that was not kept.
    fn kept(gate: &mut Gate, tags: impl IntoIterator<Item = u32>) -> Vec<(TaskTag, Outcome)> {
        let mut actions = Vec::new();
        tags.into_iter().for_each(|tag| gate.keep(command(tag), &mut actions));
        ends(actions)
    }

    fn ends(actions: Vec<Action>) -> Vec<(TaskTag, Outcome)> {
        let end = |action| match action {
            Action::Answer { tag, outcome, .. } => (tag, outcome),
            other => panic!("{other:?}"),
        };
        actions.into_iter().map(end).collect()
    }

    #[test]
    fn every_state_and_every_event() {
        use State::{Open, Opening, Paused, Shut};
        // Pause, open, let in where the state is not known, let in where it is, shut.
        let table = [
            (Shut, [Paused, Opening, Shut, Shut, Shut]),
            (Paused, [Paused, Opening, Paused, Paused, Shut]),
            (Opening, [Paused, Opening, Opening, Open, Shut]),
            (Open, [Paused, Opening, Open, Open, Shut]),
        ];
        let events = [
            (Event::Pause, true),
            (Event::Open, true),
            (Event::LetIn, false),
            (Event::LetIn, true),
            (Event::Shut, true),
        ];
        for (state, next) in table {
            for ((event, known), next) in events.into_iter().zip(next) {
                assert_eq!(transition(state, event, known), next, "{state:?}, {event:?}, {known}");
            }
        }
    }

    #[test]
    fn who_waits_goes_on_in_the_order_of_coming_and_only_when_the_state_is_known() {
        let mut gate = Gate::new();
        let busy = Outcome::Status(Status::Busy);
        assert_eq!(kept(&mut gate, [1]), [(TaskTag::of(1), busy)], "nobody waits at a gate that is shut");
        gate.pause();
        gate.know(false);
        assert_eq!(kept(&mut gate, 1..4), []);
        assert!(gate.let_in().is_empty(), "the pair is not decided on");
        gate.open();
        assert!(gate.let_in().is_empty() && gate.waits(), "the state is not known");
        assert_eq!(kept(&mut gate, [4]), []);
        let mut actions = Vec::new();
        gate.end(&Outcome::Aborted, &mut actions, |command| command.tag == TaskTag::of(2));
        assert_eq!(ends(actions), [(TaskTag::of(2), Outcome::Aborted)]);
        gate.know(true);
        assert!(gate.waits(), "nobody was let in yet");
        assert_eq!(gate.let_in(), [command(1), command(3), command(4)]);
        assert!(gate.is_open() && gate.let_in().is_empty());
        assert_eq!(gate.waiting(), (0, 4));
        gate.check();
    }

    #[test]
    fn who_waits_is_refused_when_the_gate_is_shut_and_nobody_waits_beyond_the_bound() {
        let mut gate = Gate::new();
        gate.pause();
        let all = 0..HELD_COMMANDS_MAX as u32;
        assert_eq!(kept(&mut gate, all.clone()), []);
        assert_eq!(kept(&mut gate, [9999]), [(TaskTag::of(9999), Outcome::Status(Status::Busy))]);
        gate.pause();
        let mut actions = Vec::new();
        gate.shut(&mut actions);
        let refused = Outcome::Check(Sense::UNAVAILABLE);
        let expected: Vec<_> = all.map(|tag| (TaskTag::of(tag), refused.clone())).collect();
        assert_eq!(ends(actions), expected, "pausing again changes no place");
        assert!(!gate.waits() && !gate.is_open());
        gate.check();
    }

    #[test]
    fn hosts_are_served_who_wait_and_who_come_through_an_open_gate_to_a_pair_that_serves() {
        for service in [Service::Refused, Service::Mirrored] {
            let view = PairView { service, ..PairView::suspended(Role::Main) };
            let mut gate = Gate::new();
            let mut seen = vec![gate.serves(&view)];
            gate.pause();
            seen.push(gate.serves(&view));
            gate.open();
            seen.push(gate.serves(&view));
            gate.let_in();
            seen.push(gate.serves(&view));
            assert_eq!(seen, [false, true, true, view.serves()], "{service:?}");
        }
    }
}
