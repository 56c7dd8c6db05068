//! All that the state of a logical unit may be, by what was seen of its events.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use controller::time::Time;

use super::EventId;
use super::state::{Answer, Command, Session, State};

/// A command that has no answer by then, though all is well, has happened or never will: four seconds is the longest it
/// waits for its turn.
const LOST_MAX: Duration = Duration::from_secs(5);

/// One way in which it may all have come about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
struct Way {
    state: State,
    /// Events that have happened and were not answered yet, with their answers.
    happened: Vec<(EventId, Answer)>,
}

impl Way {
    fn answer(&self, id: EventId) -> Option<&Answer> {
        self.happened.iter().find(|(other, _)| *other == id).map(|(_, answer)| answer)
    }
}

#[derive(Clone, Debug)]
struct Event {
    who: Session,
    command: Command,
    /// Since when it is known that it will never be answered.
    lost: Option<Time>,
}

/// The ways that are left. At first there is one: nothing has happened.
#[derive(Clone, Debug)]
pub(super) struct Possible {
    begun: EventId,
    events: BTreeMap<EventId, Event>,
    /// With every event under way having happened or not, in every order.
    ways: BTreeSet<Way>,
}

impl Default for Possible {
    fn default() -> Self {
        Self { begun: 0, events: BTreeMap::new(), ways: BTreeSet::from([Way::default()]) }
    }
}

impl Possible {
    pub(super) fn first(&self) -> &State {
        &self.ways.first().expect("a way is always left").state
    }

    pub(super) fn states(&self) -> impl Iterator<Item = &State> {
        self.ways.iter().map(|way| &way.state)
    }

    pub(super) fn under_way(&self) -> usize {
        self.events.len()
    }

    pub(super) fn changes_under_way(&self) -> Vec<&Command> {
        self.events.values().map(|event| &event.command).filter(|command| !command.only_reads()).collect()
    }

    pub(super) fn begin(&mut self, who: Session, command: Command) -> EventId {
        self.begun += 1;
        self.events.insert(self.begun, Event { who, command, lost: None });
        self.spread();
        self.begun
    }

    /// Every event under way may happen next.
    fn spread(&mut self) {
        let mut new: Vec<Way> = self.ways.iter().cloned().collect();
        while let Some(way) = new.pop() {
            for (id, event) in &self.events {
                let at = way.happened.partition_point(|(other, _)| other < id);
                if way.happened.get(at).is_some_and(|(other, _)| other == id) {
                    continue;
                }
                let (state, answer) = way.state.after(event.who, &event.command);
                let mut next = Way { state, happened: way.happened.clone() };
                next.happened.insert(at, (*id, answer));
                if self.ways.insert(next.clone()) {
                    new.push(next);
                }
            }
        }
    }

    /// Keeps the ways in which an event has ended like this; what it was.
    pub(super) fn answered(&mut self, id: EventId, answer: &Answer) -> Result<Option<Command>, String> {
        let fits = |way: &Way| way.answer(id).is_some_and(|happened| happened.fits(answer));
        self.keep(id, fits).map_err(|before| format!("{answer:?} to {before}"))
    }

    /// Keeps those in which it has not happened.
    pub(super) fn refused(&mut self, id: EventId) -> Result<(), String> {
        self.keep(id, |way| way.answer(id).is_none()).map(|_| ())
    }

    fn keep(&mut self, id: EventId, fits: impl Fn(&Way) -> bool) -> Result<Option<Command>, String> {
        // Of what a loss of all memory met nothing is awaited any more.
        let Some(event) = self.events.remove(&id) else { return Ok(None) };
        let left: BTreeSet<Way> = self.ways.iter().filter(|way| fits(way)).cloned().collect();
        if left.is_empty() {
            return Err(format!("{:?} of {:?} in {self}", event.command, event.who));
        }
        self.ways = left;
        self.forget(|other| other == id);
        Ok(Some(event.command))
    }

    /// Nothing is told of these any more.
    fn forget(&mut self, these: impl Fn(EventId) -> bool) {
        let forgets = |mut way: Way| {
            way.happened.retain(|(id, _)| !these(*id));
            way
        };
        self.ways = core::mem::take(&mut self.ways).into_iter().map(forgets).collect();
    }

    pub(super) fn lost(&mut self, id: EventId, now: Time) {
        if let Some(event) = self.events.get_mut(&id) {
            event.lost.get_or_insert(now);
        }
    }

    pub(super) fn settle(&mut self, now: Time) {
        let old = |event: &Event| event.lost.is_some_and(|lost| now.since(lost) >= LOST_MAX);
        let gone: BTreeSet<EventId> =
            self.events.iter().filter(|(_, event)| old(event)).map(|(id, _)| *id).collect();
        for id in &gone {
            if self.events[id].command == Command::SessionLost {
                self.ways.retain(|way| way.answer(*id).is_some());
            }
        }
        self.give_up(&gone);
    }

    /// These have happened by now or never will.
    fn give_up(&mut self, gone: &BTreeSet<EventId>) {
        if !gone.is_empty() {
            self.events.retain(|id, _| !gone.contains(id));
            self.forget(|id| gone.contains(&id));
        }
    }

    /// Whatever had not happened when all memory was lost never does.
    pub(super) fn lose_power(&mut self, certain: bool) {
        let lost = |way: &Way| Way { state: way.state.after_power_loss(), happened: way.happened.clone() };
        let after: BTreeSet<Way> = self.ways.iter().map(lost).collect();
        if certain {
            self.ways = after;
            let gone = self.events.keys().copied().collect();
            self.give_up(&gone);
        } else {
            self.ways.extend(after);
            self.spread();
        }
    }
}

impl fmt::Display for Possible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "any of:")?;
        self.ways
            .iter()
            .take(6)
            .try_for_each(|way| write!(f, "\n      {:?} {:?}", way.state, way.happened))?;
        write!(f, "\n    under way:")?;
        self.events.values().try_for_each(|event| {
            let lost = if event.lost.is_some() { " (lost)" } else { "" };
            write!(f, "\n      {:?}{lost} of {:?}", event.command, event.who)
        })
    }
}
