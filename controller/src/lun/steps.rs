//! What comes of a LUN's parts for each other, taken one after the other until nothing is left: no part calls another,
//! and nothing is handled in the middle of something else.

use bytes::Bytes;
use protocol::interlink::Ending;
use protocol::interlink::sanitize::Sanitize;
use protocol::scsi::sense::{Sense, Status};

use super::Lun;
use super::blocks::Happened;
use super::commands::Turn;
use super::communication::{Forward, Progress};
use super::events::{Events, Facts, Here, Step};
use super::forwarder::{AtMain, Order, Submitted, Way};
use super::operation::{asks_durable, payload_bytes};
use super::replica::Ordered;
use super::sanitizing::{Sanitizing, Started};
use super::task::{Action, Origin, end};
use super::unit_state::UnitState;
use crate::background::{Place, Work};
use crate::command::{COMMAND_AGE_MAX, Command, Data, LunIndex, NexusId, Op, Outcome, TaskTag};
use crate::link::LinkId;
use crate::pair::{Breakage, Role, Service};
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
            Happened::Sanitized { run, op, outcome } => self.on_sanitized(run, &op, &outcome, actions),
            Happened::Flushed { number, outcome } => {
                let (events, mut here) = self.here(actions);
                events.on_flushed(number, outcome, &mut here);
            }
            Happened::Back(command) if self.gate.waits() => self.keep_waiting(command, actions),
            Happened::Back(Command { nexus, tag, .. }) => {
                actions.push(Action::Answer { nexus, tag, outcome: Outcome::Check(Sense::UNAVAILABLE) });
            }
            Happened::ToMain(Command { nexus, tag, op, received, .. }) => {
                self.forward(nexus, tag, op, received, now, actions);
            }
            Happened::Applied { forward, good: true } => {
                self.forwarder.on_applied_here(forward);
                self.answer_if_both(forward, now, actions);
            }
            Happened::Applied { forward, good: false } => self.end_forward(forward, ABORTED, now, actions),
        }
    }

    /// Takes events one step further. False if they rest.
    fn step_events(&mut self, now: Time, actions: &mut Vec<Action>) -> bool {
        let facts = self.facts();
        let (events, mut here) = self.here(actions);
        match events.step(&facts, &mut here) {
            Step::Rests => return false,
            Step::Goes => {}
            Step::Reset => self.give_up_waiting(actions),
            Step::Turn(waiting) => match waiting.origin {
                Origin::Host { nexus, tag } => {
                    let lun = LunIndex(self.setup.index);
                    let (op, received) = (waiting.op, waiting.received);
                    self.judge(Command { lun, nexus, tag, op, received }, Turn::Has, now, actions);
                }
                Origin::Peer { .. } => self.take_forwarded(waiting, Turn::Has, actions),
                Origin::Copy | Origin::Sanitize(_) | Origin::Event(_) | Origin::Nobody => {}
            },
            Step::Flush(number) => {
                self.blocks.enter(Origin::Event(number), Op::SynchronizeCache, true, Time(0), actions);
            }
            Step::Revoke { reset, attentions } => self.revoke_for(reset, &attentions, actions),
            Step::Holds { origin, outcome, sanitizes, resanitized } => {
                self.on_installed(resanitized);
                self.answer_sanitize(actions);
                if sanitizes {
                    self.end_sanitize_wait(&ABORTED, actions, |_| true);
                    self.sanitizing.wait(origin);
                } else {
                    actions.extend(end(origin, outcome, self.view().generation));
                }
            }
            Step::Taken { message, met, resanitized } => {
                self.on_installed(resanitized);
                let (unit, sanitizing, blocks) = (&self.unit, &self.sanitizing, self.setup.blocks);
                self.blocks.refuse_waiting(actions, |nexus, op| refusal(unit, sanitizing, blocks, nexus, op));
                if met {
                    self.gate.know(true);
                }
                actions.push(message);
                self.let_in(now, actions);
            }
        }
        true
    }

    /// What events may have waited for.
    fn facts(&self) -> Facts {
        let drains = self.events.drains();
        Facts {
            drained: self.blocks.is_drained(),
            record_left: self.blocks.volume().has_record_left(),
            copies_end: self.permits.awaits(),
            hosts_ended: drains.is_none_or(|entered| !self.blocks.tasks().has_host_since_before(entered)),
        }
    }

    /// The events, and what they need of the rest.
    pub(super) fn here<'a>(&'a mut self, actions: &'a mut Vec<Action>) -> (&'a mut Events, Here<'a>) {
        (&mut self.events, Here { view: self.blocks.terms().view(), unit: &mut self.unit, actions })
    }

    /// How commands leave for main now.
    pub(super) fn way(&self) -> Way {
        let view = self.view();
        Way { generation: view.generation, formats: view.peer_reads_formats() }
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
        self.end_sanitize_wait(&Outcome::Aborted, actions, |_| true);
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

    /// A chunk of a sanitize operation, or the flush at the end of a segment, is over.
    fn on_sanitized(&mut self, run: u32, op: &Op, outcome: &Outcome, actions: &mut Vec<Action>) {
        let (state, blocks) = (&self.unit.state().sanitize, self.setup.blocks);
        if let Some(event) = self.sanitizing.on_step(run, op, outcome, state, blocks) {
            self.admit_here(Origin::Nobody, Op::Event(Box::new(event)), Time(0), Turn::Comes, actions);
        }
        self.pump_sanitize(actions);
    }

    /// Answers the host that waits for the end of a sanitize operation, if it has come.
    fn answer_sanitize(&mut self, actions: &mut Vec<Action>) {
        if matches!(self.unit.state().sanitize, Sanitize::UnderWay { .. }) {
            return;
        }
        let outcome = self.unit.state().sanitize.sense(0).map_or(Outcome::Good(Data::new()), Outcome::Check);
        self.end_sanitize_wait(&outcome, actions, |_| true);
    }

    /// Ends the waiting for a sanitize operation, if `chosen` picks the host that waits. The operation goes on.
    pub(super) fn end_sanitize_wait(
        &mut self,
        outcome: &Outcome,
        actions: &mut Vec<Action>,
        chosen: impl Fn(Origin) -> bool,
    ) {
        if let Some(origin) = self.sanitizing.wait_no_more(chosen) {
            actions.extend(end(origin, outcome.clone(), self.view().generation));
        }
    }

    /// Time has passed.
    pub fn on_tick(&mut self, now: Time, actions: &mut Vec<Action>) {
        let busy = Outcome::Status(Status::Busy);
        self.end_waiting(&busy, actions, |command| now.since(command.received) >= COMMAND_AGE_MAX);
        self.blocks.tick(self.gate.waits(), self.gate.is_open(), now, actions);
        let way = self.way();
        self.forwarder.expire(way, now, actions);
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
        self.tick_overdue(actions);
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

    /// Ends the meeting over a leg that only the peer can end, and does not.
    fn tick_overdue(&mut self, actions: &mut Vec<Action>) {
        let view = self.view();
        let command = match (view.role, view.service) {
            (Role::Main, Service::Mirrored) => self.blocks.oldest_at_peer(),
            (Role::Sub, Service::Mirrored) => self.forwarder.oldest_change(),
            _ => None,
        };
        let event = match view.role {
            Role::Main => self.events.at_sub(),
            Role::Sub => self.forwarder.oldest_event(),
        };
        let generation = view.generation;
        if self.overdue.tick(command, event, self.blocks.volume().ran()) {
            actions.push(Action::Broken(Breakage::Overdue, generation));
        }
    }

    /// Keeps a host's command in the communication volume and sends it to main.
    pub(super) fn forward(
        &mut self,
        nexus: NexusId,
        tag: TaskTag,
        op: Op,
        received: Time,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        if matches!(op, Op::Read { .. } | Op::Verify { .. }) {
            self.counters.contended_reads += 1;
        }
        let request = Forward {
            id: 0,
            nexus,
            tag,
            bytes: payload_bytes(&op),
            durable: !self.unit.caches() || asks_durable(&op),
            op,
            version: self.unit.version(),
            received,
            progress: Progress::Queued,
            given_up: false,
        };
        let way = self.way();
        match self.forwarder.submit(request, way, now) {
            Submitted::Leaves(action) => {
                self.counters.forwards += 1;
                actions.push(action);
            }
            Submitted::Queued => {
                self.counters.forwards += 1;
                self.counters.credit_waits += 1;
            }
            Submitted::Full(status) => {
                actions.push(Action::Answer { nexus, tag, outcome: Outcome::Status(status) });
            }
        }
    }

    /// Main has admitted a forwarded change: the local copy takes what is kept for it.
    pub(super) fn on_order(
        &mut self,
        link: LinkId,
        id: u64,
        sequence: u64,
        result: &Bytes,
        actions: &mut Vec<Action>,
    ) {
        match self.forwarder.on_order(id, sequence, result) {
            Some(Order { slot, op, durable }) => {
                let forward = Some(slot);
                self.blocks.apply(&Ordered { link, sequence, op: &op, durable, forward }, actions);
            }
            None => self.break_over_nonsense(actions),
        }
    }

    /// Main's copy has a forwarded change.
    pub(super) fn on_done(&mut self, id: u64, now: Time, actions: &mut Vec<Action>) {
        if let Some(slot) = self.forwarder.on_done(id) {
            self.answer_if_both(slot, now, actions);
        }
    }

    /// Answers a forwarded change that both copies are done with.
    pub(super) fn answer_if_both(&mut self, slot: u32, now: Time, actions: &mut Vec<Action>) {
        let Some((free, outcome)) = self.forwarder.both(slot) else {
            return;
        };
        if let Some(sequence) = free {
            self.blocks.release_apply(sequence, actions);
        }
        self.end_forward(slot, outcome, now, actions);
    }

    /// A forwarded command ended at main without a change.
    pub(super) fn on_ended(
        &mut self,
        id: u64,
        ending: Ending,
        payload: &Bytes,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        match self.forwarder.on_ended(id, ending, payload) {
            AtMain::Unknown => {}
            AtMain::Over(slot, outcome) => self.end_forward(slot, outcome, now, actions),
            AtMain::Lacks(slot) => self.answer_if_both(slot, now, actions),
            AtMain::Again(slot) => self.check_again(slot, now, actions),
            AtMain::Nonsense => self.break_over_nonsense(actions),
        }
    }

    /// Main did not admit a command that an older shared state let pass: back to the gate with it.
    pub(super) fn check_again(&mut self, slot: u32, now: Time, actions: &mut Vec<Action>) {
        if let Some(request) = self.forwarder.take(slot) {
            let Forward { nexus, tag, op, received, .. } = request;
            let lun = LunIndex(self.setup.index);
            self.judge(Command { lun, nexus, tag, op, received }, Turn::Comes, now, actions);
            let way = self.way();
            self.forwarder.resume(way, now, actions);
        }
    }

    pub(super) fn end_forward(&mut self, slot: u32, outcome: Outcome, now: Time, actions: &mut Vec<Action>) {
        let way = self.way();
        self.forwarder.end(slot, outcome, way, now, actions);
    }
}

/// How a command ends that the shared state, or a sanitize operation under way, keeps out.
pub(super) fn refusal(
    unit: &UnitState,
    sanitizing: &Sanitizing,
    blocks: u64,
    nexus: NexusId,
    op: &Op,
) -> Option<Outcome> {
    unit.refusal(nexus, op).or_else(|| sanitizing.refusal(op, &unit.state().sanitize, blocks))
}
