//! The blocks of a LUN as one controller has them: commands that read or change blocks, from the grant of their ranges
//! to their end, on the local copy and, at main, on the peer's.
//!
//! A task's way: its ranges (stage Range) → for a READ the local copy's data (stage Read, [`reading`]), then the
//! answer; for COMPARE AND WRITE the same, then the comparison → for a change both copies at once (stage Legs), the
//! peer's message before the local write → when both have it, the ranges are free and the answer goes out. At the sub a
//! change comes in main's order ([`super::replica`]). The steps of that way are in [`execution`]; here is what the LUN
//! asks, and what becomes of tasks when the pair changes or time runs out.
//!
//! What comes of it for others (an event's flush, a chunk of a sanitize operation, a command that is to wait at the
//! gate again) is told as [`Happened`], in order; the LUN takes each of them before it takes its next event.
//!
//! What always holds ([`Blocks::check`]):
//! * A change holds its range at main until both copies have it; so two changes of one block never travel together, and
//!   the messages about them may overtake each other freely.
//! * A task that is not admitted has no place in the order and no leg.
//! * What holds of its parts, first of all of the tasks and their ranges ([`TaskSet`]).

mod execution;
mod next;
mod reading;
mod task_set;
mod terms;

use std::collections::VecDeque;
use std::sync::Arc;

use protocol::scsi::sense::{Sense, Status};

use super::budget::Budget;
use super::completion::CompletionMode;
use super::mirror::Mirror;
use super::operation::asks_durable;
use super::replica::Replica;
use super::resync::Resync;
use super::task::{Action, Leg, Origin, Stage, Task, send_back};
use super::volume::Volume;
use super::{ALONE_FLUSH_INTERVAL, LunSetup};
use crate::command::{COMMAND_AGE_MAX, Command, LunIndex, NexusId, Op, Outcome};
use crate::disk::DiskError;
use crate::lease::Lease;
use crate::pair::{PairStatus, PairView, Role};
use crate::time::{RunTime, Time};
use task_set::{Entered, TaskSet};
pub(super) use terms::Terms;

/// What came of a task for others.
#[derive(Debug)]
pub(super) enum Happened {
    /// A chunk of a sanitize operation, or the flush at the end of a segment, has ended.
    Sanitized {
        /// The run of the operation that it belongs to.
        run: u32,
        op: Op,
        outcome: Outcome,
    },
    /// The flush of this number that an event asked for has ended.
    Flushed { number: u32, outcome: Outcome },
    /// A host's command that has begun nothing is to wait at the gate again.
    Back(Command),
    /// A host's read of the local copy is to be done by main.
    ToMain(Command),
    /// The local copy is done with a change of this controller's host that main has ordered.
    Applied {
        /// The forwarded command.
        forward: u32,
        good: bool,
    },
}

/// The blocks of one LUN on one controller.
#[derive(Debug)]
pub(super) struct Blocks {
    /// Its place in the controller's table.
    index: LunIndex,
    terms: Terms,
    lease: Arc<Lease>,
    tasks: TaskSet,
    volume: Volume,
    mirror: Mirror,
    mode: CompletionMode,
    resync: Resync,
    replica: Replica,
    /// When the local copy was last flushed while there is no other.
    flushed: Time,
    happened: VecDeque<Happened>,
}

impl Blocks {
    pub(super) fn new(setup: LunSetup, caches: bool, lease: Arc<Lease>, clock: Arc<RunTime>) -> Self {
        Self {
            index: LunIndex(setup.index),
            terms: Terms::new(caches, setup.blocks),
            lease,
            tasks: TaskSet::default(),
            volume: Volume::new(setup.index, setup.stack, clock),
            mirror: Mirror::new(Budget::share_of(setup.luns)),
            mode: CompletionMode::default(),
            resync: Resync::default(),
            replica: Replica::default(),
            flushed: Time(0),
            happened: VecDeque::new(),
        }
    }

    /// Limits the room for data on its way to the peer to `bytes`.
    pub(super) fn set_credit(&mut self, bytes: u64) {
        self.mirror.set_room(Budget::of(bytes));
    }

    /// On what terms commands are carried out.
    pub(super) const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The same, for who decides on them.
    pub(super) const fn terms_mut(&mut self) -> &mut Terms {
        &mut self.terms
    }

    /// What is to be done for others next.
    pub(super) fn next_happened(&mut self) -> Option<Happened> {
        self.happened.pop_front()
    }

    /// Takes another place in the pair. Whatever belonged to an earlier one has ended or waits for the decision about
    /// the pair.
    pub(super) fn begin(&mut self, view: PairView, actions: &mut Vec<Action>) {
        self.on_released(u64::MAX, actions);
        // The order of changes starts anew. What is left of the one before waits for the decision about the pair: also
        // where the peer's word about its copy is still on its way, for it comes too late to be understood.
        self.mirror.begin();
        for task in self.tasks.iter_mut() {
            self.mirror.give_room(task.lose_peer());
        }
        self.resync.forget();
        self.flushed = Time(0);
        self.terms.begin(view);
    }

    /// The peer has its place too: copy, where that is due, and decide on the changes that waited.
    pub(super) fn open(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.terms.peer_is_in_place();
        let view = self.terms.view();
        if view.role == Role::Main && view.status == PairStatus::Copy {
            self.resync.begin(now);
        } else {
            self.resync.stop();
        }
        self.decide_lost(actions);
    }

    /// The pair is about to change: no more chunks are copied.
    pub(super) fn hold(&mut self) {
        self.resync.stop();
    }

    /// The place in the pair is decided on anew, under the same connections: the copy is complete and agreed on, or no
    /// new commands are served and what is under way finishes.
    pub(super) fn follow(&mut self, view: PairView) {
        self.resync.stop();
        self.terms.follow(view);
    }

    /// No host's command is under way here, not even one that main has ordered on this copy.
    pub(super) fn is_drained(&self) -> bool {
        self.replica.is_empty() && !self.tasks.has_hosts()
    }

    /// Whether nothing is under way but changes that wait for a decision about the pair, and whether there are any.
    pub(super) fn quiet(&self) -> (bool, bool) {
        let quiet = self.tasks.awaits_decision() && self.volume.is_quiet() && self.replica.is_quiet();
        (quiet, !self.tasks.is_empty())
    }

    /// The commands under way here, with their ranges.
    pub(super) const fn tasks(&self) -> &TaskSet {
        &self.tasks
    }

    /// At main, what goes to the other copy.
    pub(super) const fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// The resync, if this controller is main and one is under way.
    pub(super) const fn resync(&self) -> &Resync {
        &self.resync
    }

    /// The volume under the local copy.
    pub(super) const fn volume(&self) -> &Volume {
        &self.volume
    }

    /// Blots out a record that a failed disk left behind, if it can.
    pub(super) fn blot_stuck_record(&mut self) -> Option<Action> {
        self.volume.blot_stuck_record()
    }

    /// The volume is about to be flushed from outside.
    pub(super) fn expect_flush(&mut self) {
        self.volume.expect_flush();
    }

    /// The oldest change that only the peer can end.
    pub(super) fn oldest_at_peer(&self) -> Option<u64> {
        self.mirror.oldest(|slot| self.tasks.get(slot).is_some_and(|task| task.peer == Leg::Writing))
    }

    /// Time has passed. `gate_waits`, `gate_is_open`: what becomes of hosts' new commands now.
    pub(super) fn tick(
        &mut self,
        gate_waits: bool,
        gate_is_open: bool,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        self.volume.on_tick();
        if self.terms.may_give_disk_up() {
            for whose in self.volume.give_up_if_silent() {
                let completion = self.volume.completed(whose, Err(DiskError::Silent));
                self.on_completion(completion, now, actions);
            }
        }
        self.make_way(gate_is_open, actions);
        // What waited too long is never executed.
        self.withdraw_those(&Outcome::Status(Status::Busy), actions, |task| {
            matches!(task.origin, Origin::Host { .. } | Origin::Peer { .. })
                && now.since(task.received) >= COMMAND_AGE_MAX
        });
        for (slot, data) in self.tasks.take_leased() {
            self.on_data(slot, data, now, actions);
        }
        // While there is no other copy, what is in memory goes to the disk every second. But a switch waits for what is
        // in flight.
        let due = self.terms.flushes_alone() && now.since(self.flushed) >= ALONE_FLUSH_INTERVAL;
        if due && !gate_waits && self.enter(Origin::Nobody, Op::SynchronizeCache, true, now, actions) {
            self.flushed = now;
        }
    }

    /// Time has passed, for the other copy.
    pub(super) fn tick_pair(&mut self, actions: &mut Vec<Action>) {
        let view = self.terms.view();
        if view.is_mirrored() {
            actions.extend(self.mirror.news(view.generation));
        }
        self.resync.tick();
    }

    /// When time is going to change something next, if nothing else does; [`Time::NEVER`] if it is not.
    pub(super) fn next_tick(&self) -> Time {
        let rests = self.tasks.is_empty()
            && self.replica.is_empty()
            && self.volume.rests()
            && !self.resync.has_run()
            && !(self.terms.view().is_mirrored() && self.mirror.has_news());
        let flush =
            if self.terms.flushes_alone() { self.flushed + ALONE_FLUSH_INTERVAL } else { Time::NEVER };
        if rests { flush } else { Time(0) }
    }

    /// What always holds of its parts and between them.
    pub(super) fn check(&self) {
        self.resync.check();
        self.tasks.check();
        assert!(self.happened.is_empty(), "what came of tasks was not taken: {:?}", self.happened);
    }

    /// Admits a command as soon as its ranges are free: reservation, range and order in one step. False if there is no
    /// place for it, to wait or to go on: then it is not under way, and whoever counts it must not.
    pub(super) fn enter(
        &mut self,
        origin: Origin,
        op: Op,
        durable: bool,
        received: Time,
        actions: &mut Vec<Action>,
    ) -> bool {
        let durable = durable || !self.terms.caches() || asks_durable(&op);
        match self.tasks.enter(origin, op, durable, received) {
            Entered::Granted(slot) => self.admitted(slot, actions),
            Entered::Waits => {}
            Entered::NoPlace(outcome) => {
                self.hear(origin, outcome, actions);
                return false;
            }
        }
        true
    }

    /// The peer is out of reach: nothing is admitted, no write answered until it is decided how this controller goes
    /// on. Which forwarded commands the local disk still has, of this role or an earlier one. [`Blocks::hold_tasks`]
    /// follows where this is a main that will go on, else [`Blocks::suspend_tasks`].
    pub(super) fn lose_peer(&mut self, view: PairView, actions: &mut Vec<Action>) -> Vec<u32> {
        self.terms.lose_peer(view);
        self.resync.stop();
        self.mirror.lose();
        let (writing, granted) = self.replica.lose(self.tasks.locks());
        self.granted(granted, actions);
        writing
    }

    /// The peer is gone from a LUN whose only whole copy is here: what it forwarded and was not admitted is never
    /// executed.
    pub(super) fn peer_gone(&mut self, view: PairView, actions: &mut Vec<Action>) {
        self.terms.lose_peer(view);
        self.withdraw_those(&Outcome::Aborted, actions, |task| matches!(task.origin, Origin::Peer { .. }));
    }

    /// The peer is out of reach, and what becomes of the pair is undecided: waiting commands of this controller's hosts
    /// go back to the gate in the order in which they came.
    pub(super) fn hold_tasks(&mut self, actions: &mut Vec<Action>) {
        for task in self.tasks.iter_mut() {
            self.mirror.give_room(task.lose_peer());
            task.forget_copy();
        }
        let is_host = |task: &Task| matches!(task.origin, Origin::Host { .. });
        let back = self.tasks.in_turn(|task| task.has_begun_nothing() && is_host(task));
        let gone = self.tasks.chosen(|task| task.has_begun_nothing() && !is_host(task));
        let decide = self.tasks.chosen(|task| task.stage == Stage::Legs);
        // Remove all of them first: removing one would otherwise admit the next.
        for slot in gone {
            self.withdraw(slot, Outcome::Aborted, actions);
        }
        for slot in back {
            self.put_back(slot, actions);
        }
        for slot in decide {
            self.finish_if_whole(slot, actions);
        }
    }

    /// A turn waits for what is in flight. What waits for the range of a change that in turn waits for the decision
    /// about the pair would be in flight for ever: when nothing else is left it goes back to the gate that it came in
    /// by.
    fn make_way(&mut self, gate_is_open: bool, actions: &mut Vec<Action>) {
        if gate_is_open || !self.terms.view().is_mirrored() {
            return;
        }
        for slot in self.tasks.stuck() {
            // The going of another may have let it in.
            let Some(task) = self.tasks.get_mut(slot).filter(|task| task.can_make_way()) else {
                continue;
            };
            let Origin::Peer { link, id } = task.origin else {
                self.put_back(slot, actions);
                continue;
            };
            task.origin = Origin::Nobody;
            self.finish(slot, Outcome::Aborted, actions);
            actions.push(send_back(link, id, self.terms.view().generation));
        }
    }

    /// Nothing is served any more: what was not admitted is refused, what was ends with the local copy.
    pub(super) fn suspend_tasks(&mut self, actions: &mut Vec<Action>) {
        for slot in self.tasks.chosen(|_| true) {
            let Some(task) = self.tasks.get_mut(slot) else {
                continue;
            };
            self.mirror.give_room(task.lose_peer());
            task.forget_copy();
            match task.stage {
                Stage::Range | Stage::Credit | Stage::Lease => {
                    self.finish(slot, Outcome::Check(Sense::UNAVAILABLE), actions);
                }
                Stage::Legs => self.finish_if_whole(slot, actions),
                Stage::Read => {}
            }
        }
    }

    /// Takes back a task that was not admitted, or holds its ranges but has begun nothing.
    fn withdraw(&mut self, slot: u32, outcome: Outcome, actions: &mut Vec<Action>) {
        if self.tasks.get(slot).is_some_and(Task::has_begun_nothing) {
            self.finish(slot, outcome, actions);
        }
    }

    /// Takes back those of the tasks which have begun nothing that `chosen` picks. The end of one may let another have
    /// its slot: whoever is in it then is looked at anew.
    pub(super) fn withdraw_those(
        &mut self,
        outcome: &Outcome,
        actions: &mut Vec<Action>,
        chosen: impl Fn(&Task) -> bool,
    ) {
        let chosen = |task: &Task| task.has_begun_nothing() && chosen(task);
        for slot in self.tasks.chosen(chosen) {
            if self.tasks.get(slot).is_some_and(chosen) {
                self.finish(slot, outcome.clone(), actions);
            }
        }
    }

    /// Ends those of hosts' commands that wait for a range and that `refusal` keeps out.
    pub(super) fn refuse_waiting(
        &mut self,
        actions: &mut Vec<Action>,
        refusal: impl Fn(NexusId, &Op) -> Option<Outcome>,
    ) {
        let mut refused = Vec::new();
        for (slot, task) in self.tasks.iter() {
            if let (Stage::Range, Origin::Host { nexus, .. }) = (task.stage, task.origin)
                && let Some(outcome) = refusal(nexus, &task.op)
            {
                refused.push((slot, outcome));
            }
        }
        for (slot, outcome) in refused {
            self.withdraw(slot, outcome, actions);
        }
    }
}
