//! What comes of a LUN's parts for each other, taken one after the other until nothing is left: no part calls another,
//! and nothing is handled in the middle of something else.

use protocol::interlink::sanitize::Sanitize;
use protocol::scsi::sense::{Sense, Status};

use super::Lun;
use super::blocks::Happened;
use super::commands::Turn;
use super::events::{Events, Facts, Here, Step, Waiting};
use super::forwarder::Way;
use super::leave::refusal;
use super::overdue::Oldest;
use super::sanitizing::Started;
use super::task::{Action, Origin, end};
use crate::background::{Place, Work};
use crate::command::{COMMAND_AGE_MAX, Command, LunIndex, Op, Outcome};
use crate::pair::Role;
use crate::time::Time;

/// The pair changes: a host cannot know how its command ended, and will ask again.
pub(super) const ABORTED: Outcome = Outcome::Check(Sense::ABORTED_COMMAND);

impl Lun {
    /// Takes what came of the parts until nothing is left, and starts what may run in the background.
    pub(super) fn run(&mut self, now: Time, actions: &mut Vec<Action>) {
        loop {
            self.settle(now, actions);
            if self.place.on_work(self.background_work()) {
                actions.push(Action::Background);
            }
            if !self.place.may_start() || !self.blocks.pump_resync(actions) {
                return;
            }
        }
    }

    fn settle(&mut self, now: Time, actions: &mut Vec<Action>) {
        let mut stepped = false;
        loop {
            while let Some(happened) = self.blocks.next_happened() {
                self.on_happened(happened, now, actions);
            }
            if !self.events.is_quiet() && self.step_events(now, actions) {
                stepped = true;
            } else if core::mem::take(&mut stepped) {
                self.pump_sanitize(actions);
            } else {
                return;
            }
        }
    }

    fn on_happened(&mut self, happened: Happened, now: Time, actions: &mut Vec<Action>) {
        match happened {
            Happened::Sanitized { run, op, outcome } => {
                let (state, blocks) = (&self.unit.state().sanitize, self.setup.blocks);
                if let Some(event) = self.sanitizing.on_step(run, &op, &outcome, state, blocks) {
                    let op = Op::Event(Box::new(event));
                    let waiting = Waiting::of_this_controller(Origin::Nobody, op, Time(0), &self.unit);
                    self.take_turn(waiting, Turn::Comes, actions);
                }
                self.pump_sanitize(actions);
            }
            Happened::Flushed { number, outcome } => {
                let (events, mut here) = self.here(actions);
                events.on_flushed(number, outcome, &mut here);
            }
            Happened::Back(command) if self.gate.waits() => self.gate.keep(command, actions),
            Happened::Back(Command { nexus, tag, .. }) => {
                actions.push(Action::Answer { nexus, tag, outcome: Outcome::Check(Sense::UNAVAILABLE) });
            }
            Happened::ToMain(command) => {
                self.forwarder.forward(
                    command,
                    &self.unit,
                    Way::of(self.blocks.terms().view()),
                    now,
                    actions,
                );
            }
            Happened::Applied { forward, good: true } => {
                self.forwarder.on_applied_here(forward);
                self.answer_if_both(forward, now, actions);
            }
            Happened::Applied { forward, good: false } => {
                self.forwarder.end(forward, ABORTED, Way::of(self.blocks.terms().view()), now, actions);
            }
        }
    }

    /// Takes events one step further. False if they rest.
    fn step_events(&mut self, now: Time, actions: &mut Vec<Action>) -> bool {
        let drains = self.events.drains();
        let facts = Facts {
            drained: self.blocks.is_drained(),
            record_left: self.blocks.volume().has_record_left(),
            copies_end: self.permits.awaits(),
            hosts_ended: drains.is_none_or(|entered| !self.blocks.tasks().has_host_since_before(entered)),
        };
        let (events, mut here) = self.here(actions);
        match events.step(&facts, &mut here) {
            Step::Rests => return false,
            Step::Goes => {}
            Step::Reset => self.give_up_waiting(actions),
            Step::Turn(waiting @ Waiting { origin: Origin::Peer { .. }, .. }) => {
                self.take_turn(waiting, Turn::Has, actions);
            }
            Step::Turn(waiting) => {
                if let Some(command) = waiting.into_command(LunIndex(self.setup.index)) {
                    self.judge(command, Turn::Has, now, actions);
                }
            }
            Step::Flush(number) => {
                self.blocks.enter(Origin::Event(number), Op::SynchronizeCache, true, Time(0), actions);
            }
            Step::Revoke { reset, attentions } => {
                self.permits.revoke_for(reset, &attentions, &self.unit, actions)
            }
            Step::Holds { origin, outcome, sanitizes, resanitized } => {
                self.on_installed(resanitized);
                self.sanitizing.answer(&self.unit.state().sanitize, self.blocks.terms().view(), actions);
                if sanitizes {
                    self.sanitizing.end_wait(&ABORTED, self.blocks.terms().view(), actions, |_| true);
                    self.sanitizing.wait(origin);
                } else {
                    actions.extend(end(origin, outcome, self.view().generation));
                }
            }
            Step::Taken { message, met, resanitized } => {
                self.on_installed(resanitized);
                let (unit, sanitizing, blocks) = (&self.unit, &self.sanitizing, self.setup.blocks);
                self.blocks.refuse_waiting(actions, |nexus, op| refusal(op, nexus, unit, sanitizing, blocks));
                if met {
                    self.gate.know(true);
                }
                actions.push(message);
                self.let_in(now, actions);
            }
        }
        true
    }

    /// The events, and what they need of the rest.
    pub(super) fn here<'a>(&'a mut self, actions: &'a mut Vec<Action>) -> (&'a mut Events, Here<'a>) {
        (&mut self.events, Here { view: self.blocks.terms().view(), unit: &mut self.unit, actions })
    }

    /// The shared state is another one now. `resanitized`: another sanitize operation, or another position of it.
    pub(super) fn on_installed(&mut self, resanitized: bool) {
        if resanitized {
            // What is under way belongs to another position.
            self.sanitizing.forget();
        }
        self.blocks.terms_mut().set_caches(self.unit.caches());
    }

    /// A reset: what hosts asked for and was not admitted never is.
    pub(super) fn give_up_waiting(&mut self, actions: &mut Vec<Action>) {
        self.blocks.withdraw_those(&Outcome::Aborted, actions, |task| {
            matches!(task.origin, Origin::Host { .. } | Origin::Peer { .. })
        });
        self.sanitizing.end_wait(&Outcome::Aborted, self.blocks.terms().view(), actions, |_| true);
    }

    /// What it has to do in the background, if anything.
    #[must_use]
    pub fn background_work(&self) -> Option<Work> {
        let copies = self.blocks.resync().has_work(self.setup.blocks);
        let sanitizes =
            matches!(self.unit.state().sanitize, Sanitize::UnderWay { .. }) && self.may_sanitize();
        if copies { Some(Work::Copy) } else { sanitizes.then_some(Work::Sanitize) }
    }

    /// Where it takes itself to stand in the queue for background work.
    #[must_use]
    pub const fn background_place(&self) -> Place {
        self.place
    }

    /// Its turn to do this in the background has come.
    pub fn on_background_turn(&mut self, work: Work, now: Time, actions: &mut Vec<Action>) {
        self.place.on_turn(work);
        self.pump_sanitize(actions);
        self.run(now, actions);
    }

    /// Main may change blocks for the operation that the state names.
    pub(super) fn may_sanitize(&self) -> bool {
        let view = self.view();
        view.role == Role::Main && view.serves() && self.gate.is_open() && self.events.knows_the_state()
    }

    /// Starts as many chunks of a sanitize operation as may run; after the last of a segment, a flush of both copies.
    pub(super) fn pump_sanitize(&mut self, actions: &mut Vec<Action>) {
        let Sanitize::UnderWay { order, at } = &self.unit.state().sanitize else {
            return;
        };
        if !self.may_sanitize() || !self.place.may_start() {
            return;
        }
        let (order, at, blocks) = (order.clone(), *at, self.setup.blocks);
        while let Some(Started { run, op, before }) = self.sanitizing.next(&order, at, blocks) {
            if !self.blocks.enter(Origin::Sanitize(run), op, false, Time(0), actions) {
                // Asked for again with the next tick, or when another chunk is over.
                return self.sanitizing.take_back(before);
            }
        }
    }

    /// Time has passed.
    pub fn on_tick(&mut self, now: Time, actions: &mut Vec<Action>) {
        let busy = Outcome::Status(Status::Busy);
        self.gate.end(&busy, actions, |command| now.since(command.received) >= COMMAND_AGE_MAX);
        self.blocks.tick(self.gate.waits(), self.gate.is_open(), now, actions);
        self.forwarder.expire(Way::of(self.blocks.terms().view()), now, actions);
        self.run(now, actions);
        if self.permits.tick() {
            self.run(now, actions);
        }
        self.tick_events(now, actions);
        self.run(now, actions);
        self.blocks.tick_pair(actions);
        if matches!(self.unit.state().sanitize, Sanitize::UnderWay { .. }) {
            self.sanitizing.tick(now);
            self.pump_sanitize(actions);
        }
        self.run(now, actions);
        let oldest = match self.view().role {
            Role::Main => Oldest { command: self.blocks.oldest_at_peer(), event: self.events.at_sub() },
            Role::Sub => self.forwarder.oldest(),
        };
        self.overdue.tick(oldest, self.blocks.terms().view(), self.blocks.volume().ran(), actions);
    }

    /// When the next tick is due, if nothing else happens to the LUN before ([`Time::NEVER`]: none is). Any other would
    /// change nothing. What looks for time itself, or counts ticks, is due with the next.
    #[must_use]
    pub fn next_tick(&self) -> Time {
        let rests = self.gate.waiting().0 == 0
            && self.forwarder.is_empty()
            && self.events.is_quiet()
            && !self.permits.counts()
            && !matches!(self.unit.state().sanitize, Sanitize::UnderWay { .. })
            && !self.unit.has_lost_reserver()
            && self.overdue.rests();
        if rests { self.blocks.next_tick() } else { Time(0) }
    }

    fn tick_events(&mut self, now: Time, actions: &mut Vec<Action>) {
        let busy = Outcome::Status(Status::Busy);
        let (events, mut here) = self.here(actions);
        events.give_up(&busy, &mut here, |origin, received| {
            matches!(origin, Origin::Host { .. } | Origin::Peer { .. })
                && now.since(received) >= COMMAND_AGE_MAX
        });
        if self.events.forbids_writes() && self.blocks.volume().has_record_left() {
            if self.blocks.volume().is_given_up() {
                // It will not be blotted out here. This copy leaves, and the event shall not keep it from that.
                let (events, mut here) = self.here(actions);
                events.give_up_running(&busy, &mut here);
            } else {
                actions.extend(self.blocks.blot_stuck_record());
            }
        }
        self.end_lost_reservation(now, actions);
    }

    /// Answers a forwarded change that both copies are done with.
    pub(super) fn answer_if_both(&mut self, slot: u32, now: Time, actions: &mut Vec<Action>) {
        let Some((free, outcome)) = self.forwarder.both(slot) else {
            return;
        };
        if let Some(sequence) = free {
            self.blocks.release_apply(sequence, actions);
        }
        self.forwarder.end(slot, outcome, Way::of(self.blocks.terms().view()), now, actions);
    }
}
