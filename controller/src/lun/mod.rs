//! The core of one LUN: reservations, ranges held, commands in flight. Events go in, [`Action`]s come out; no
//! I/O, no clock, no lock.
//!
//! At **main** a command is admitted in one step under this core's lock (its ranges granted, its sequence
//! given), then goes to both copies at once ([`main_side`]). At the **sub** a change is kept in the communication
//! volume and forwarded; main's order comes back and the own copy takes it ([`sub_side`]). Which of the two
//! happens is decided in [`crate::route`].
//!
//! What always holds:
//! * A change holds its range at main until both copies have it; so two changes of one block never travel
//!   together, and the messages about them may overtake each other freely.
//! * At the sub the range of a change is held from its arrival until main's word that both copies have it
//!   (DONE, or a later message's `released`). A read that meets it goes to main and waits there: no read, on
//!   either side, returns what is not yet on every copy.
//! * A command that was not admitted when the interlink or its nexus goes away is never executed.

mod admission;
#[cfg(test)]
mod atomic_tests;
mod attention;
mod background;
mod blocks;
mod budget;
#[cfg(test)]
mod checked_tests;
mod communication;
mod copy_permits;
#[cfg(test)]
mod description_tests;
#[cfg(test)]
mod event_tests;
mod events;
#[cfg(test)]
mod format_tests;
mod forwarder;
mod gate;
mod guard;
mod keeper;
mod legs;
#[cfg(test)]
mod legs_tests;
mod losing;
#[cfg(test)]
mod losing_tests;
mod main_side;
#[cfg(test)]
mod meeting_tests;
mod mirror;
#[cfg(test)]
mod mode_tests;
mod operation;
mod outstanding;
mod reading;
mod redo;
#[cfg(test)]
mod redo_tests;
mod replica;
#[cfg(test)]
mod reservation_tests;
mod resync;
#[cfg(test)]
mod sanitize_tests;
mod sanitizing;
mod sharing;
#[cfg(test)]
mod stamp_tests;
mod sub_side;
mod task;
#[cfg(test)]
mod tests;
mod unit_state;
mod usage;
mod volume;

use std::collections::BTreeMap;
use std::sync::Arc;

use core::time::Duration;

use protocol::interlink::shared::SharedState;
use protocol::scsi::sense::{Sense, Status};
use slab::Slab;

use crate::command::{COMMAND_AGE_MAX, Data, Initiator, NexusId, Op, Outcome, TaskTag};

use crate::disk::{DiskError, DiskResult};
use crate::exclusive::RangeLocks;
use crate::lease::Lease;
use crate::pair::{PairStatus, PairView, Quiet, Role, Service};
use crate::plan::Side;
use crate::status::ReservationStatus;
use crate::time::Time;
use crate::world::Ticket;

pub use attention::NEXUSES_MAX;
use budget::Budget;
use communication::Forward;
use copy_permits::CopyPermits;
use events::Events;
use forwarder::Forwarder;
use gate::Gate;
use keeper::Keeper;
use mirror::Mirror;
use redo::Step;
use replica::Replica;
use resync::Resync;
use sanitizing::Sanitizing;
pub use task::Action;
use task::{Origin, Slot, Stage, Task};
use unit_state::UnitState;
use usage::Peaks;
use volume::{Completion, Volume};

pub use budget::{CLASS_BYTES_MAX, LUN_CLASS_BYTES_MAX, LUN_CLASS_BYTES_MIN};
pub use communication::{COMMUNICATION_VOLUME_BYTES_MAX, COMMUNICATION_VOLUME_REQUESTS_MAX};
pub use legs::LEG_AGE_MAX;
pub use outstanding::{CHANGE_SILENCE_MAX, DISK_SILENCE_MAX, FLUSH_SILENCE_MAX};
pub use resync::COPY_PIECES_MAX;
pub use sanitizing::SANITIZE_PIECES_MAX;
pub use usage::{LunUsage, Used};

/// Commands in flight on one LUN of one controller, those of the peer's hosts among them.
pub const LUN_COMMANDS_MAX: usize = 4096;

/// Commands of hosts that wait for a decision about the pair, per LUN.
pub const HELD_COMMANDS_MAX: usize = LUN_COMMANDS_MAX;

/// While there is no other copy, the own one is flushed this often.
pub const ALONE_FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// What a LUN core is told once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LunSetup {
    /// Its place in the controller's table.
    pub index: u16,
    /// Capacity in logical blocks.
    pub blocks: u64,
    /// WCE unless a host sets it. Off: every change is durable on both disks before GOOD.
    pub write_cache: bool,
    /// How many LUNs share the classes' credits.
    pub luns: usize,
    /// Which of the two controllers this is.
    pub side: Side,
    /// Which run of it: random.
    pub incarnation: u64,
}

/// Counters for those who want to know what a run met.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LunCounters {
    /// Commands that had to wait for a range.
    pub range_waits: u64,
    /// Reads the sub left to main because something in flight overlapped them.
    pub contended_reads: u64,
    /// Commands forwarded to main.
    pub forwards: u64,
    /// Commands that had to wait for credit.
    pub credit_waits: u64,
}

/// The core of one LUN.
#[derive(Debug)]
pub struct Lun {
    setup: LunSetup,
    /// The LUN has an identity, and so a capacity that stays.
    known: bool,
    view: PairView,
    gate: Gate,
    /// The peer has its place in the pair too: before that it would not know a message of this generation.
    peer_in_place: bool,
    lease: Arc<Lease>,
    /// Data of the sub's own reads that waits for the lease to be renewed.
    awaiting_lease: BTreeMap<u32, Data>,
    /// When the own copy was last flushed while there is no other.
    flushed: Time,
    locks: RangeLocks,
    /// What both controllers share of the LUN other than its blocks.
    unit: UnitState,
    /// The part of it that is on this controller's disk, or on its way there.
    keeper: Keeper,
    events: Events,
    permits: CopyPermits,
    tasks: Slab<Task>,
    volume: Volume,
    /// What the peer is to do.
    legs: legs::Legs,
    /// The peer's copy is about to leave the pair.
    last_copy: bool,
    /// START STOP UNIT has stopped the unit: what needs the medium is refused. It starts again with every new
    /// standing of the pair, so both controllers always agree.
    stopped: bool,
    // At main.
    mirror: Mirror,
    resync: Resync,
    sanitizing: Sanitizing,
    // At the sub.
    forwarder: Forwarder,
    replica: Replica,
    counters: LunCounters,
    peaks: Peaks,
}

impl Lun {
    /// A LUN that serves nothing yet, with what is on disk of its shared state.
    #[must_use]
    pub fn new(setup: LunSetup, restored: SharedState, lease: Arc<Lease>) -> Self {
        Self {
            setup,
            known: false,
            view: PairView::suspended(Role::Sub),
            gate: Gate::new(),
            peer_in_place: false,
            lease,
            awaiting_lease: BTreeMap::new(),
            flushed: Time(0),
            locks: RangeLocks::default(),
            keeper: Keeper::new(restored.clone()),
            unit: UnitState::new(&setup, restored),
            events: Events::default(),
            permits: CopyPermits::default(),
            tasks: Slab::new(),
            volume: Volume::new(setup.index),
            legs: legs::Legs::default(),
            last_copy: false,
            stopped: false,
            mirror: Mirror::new(Budget::share_of(setup.luns)),
            resync: Resync::default(),
            sanitizing: Sanitizing::new(),
            forwarder: Forwarder::new(Budget::share_of(setup.luns)),
            replica: Replica::default(),
            counters: LunCounters::default(),
            peaks: Peaks::default(),
        }
    }

    /// Limits every class's credit to `bytes`, to see how the LUN fares with little.
    pub fn set_credit(&mut self, bytes: u64) {
        self.mirror.set_room(Budget::of(bytes));
        self.forwarder.set_room(Budget::of(bytes));
    }

    /// Looks whether what always holds of its parts does.
    ///
    /// # Panics
    ///
    /// If something does not hold.
    pub fn check(&self) {
        self.gate.check();
        self.unit.check();
        self.keeper.check();
        self.resync.check();
        self.sanitizing.check();
    }

    /// Its place in the pair.
    #[must_use]
    pub const fn view(&self) -> &PairView {
        &self.view
    }

    /// What the run met so far.
    #[must_use]
    pub fn counters(&self) -> LunCounters {
        LunCounters { range_waits: self.locks.waits(), ..self.counters }
    }

    /// Commands of hosts in flight here, and bytes in the communication volume.
    #[must_use]
    pub fn load(&self) -> (u32, u64) {
        let hosts = self.tasks.iter().filter(|(_, task)| matches!(task.origin, Origin::Host { .. })).count();
        let forwarded = self.forwarder.volume();
        ((hosts + forwarded.len()) as u32, forwarded.bytes())
    }

    /// Whether anything is in flight here, for a host or for the peer.
    #[must_use]
    pub fn quiet(&self) -> Quiet {
        let quiet = self.tasks.iter().all(|(_, task)| task.awaits_decision())
            && self.forwarder.is_quiet()
            && self.events.is_quiet()
            && self.volume.is_quiet()
            && self.replica.is_quiet();
        match quiet {
            false => Quiet::No,
            true if self.tasks.is_empty() => Quiet::Yes,
            true => Quiet::Undecided,
        }
    }

    /// While COPY, at main: how much is done, in percent, and what the rest takes at the pace so far, in seconds.
    #[must_use]
    pub fn copied(&self, now: Time) -> Option<(u8, Option<u64>)> {
        self.resync.progress(self.setup.blocks, now)
    }

    /// Capacity in logical blocks.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        self.setup.blocks
    }

    /// Who has reserved the LUN, for people. `peer`: the name of the other controller, whose hosts RESERVE (6) names
    /// only there.
    #[must_use]
    pub fn reservation(&self, peer: &str) -> Option<ReservationStatus> {
        self.unit.reservation(peer)
    }

    /// What this LUN uses of its bounds.
    #[must_use]
    pub fn usage(&self) -> LunUsage {
        let used = |now: usize, peak: usize| Used { now: now as u64, peak: peak as u64 };
        let (class_bytes, now, peak) = self.mirror.usage();
        let apply_bytes = Used { now, peak };
        let (_, now, peak) = self.forwarder.usage();
        let (waiting, waiting_peak) = self.locks.waiting();
        let (held, held_peak) = self.gate.waiting();
        LunUsage {
            commands: used(self.tasks.len(), self.peaks.commands),
            held: used(held, held_peak),
            waiters: used(waiting, waiting_peak),
            requests: self.forwarder.volume().len() as u64,
            communication_bytes: Used {
                now: self.forwarder.volume().bytes(),
                peak: self.forwarder.volume().bytes_peak(),
            },
            apply_bytes,
            forward_bytes: Used { now, peak },
            class_bytes,
            nexuses: self.unit.nexuses() as u64,
            sanitize_pieces: u64::from(self.sanitizing.running()),
            copy_pieces: u64::from(self.resync.running()),
        }
    }

    /// The pair is agreed on: take the place in it that `view` gives, hosts not yet served. Whatever belonged to an
    /// earlier one has ended, was given up by [`Lun::suspend`], or waits for this ([`Lun::lose_peer`]).
    pub fn begin(&mut self, view: PairView, blocks: u64, actions: &mut Vec<Action>) {
        self.on_released(u64::MAX, actions);
        self.end_order();
        // What still waits for a range, and what comes now, goes on when the peer has its place as well.
        self.gate.pause();
        self.peer_in_place = false;
        self.resync.forget();
        self.last_copy = false;
        self.sanitizing.forget();
        self.stopped = false;
        self.legs = legs::Legs::default();
        self.flushed = Time(0);
        self.learn(blocks);
        self.view = view;
        self.begin_events(actions);
    }

    /// Serve hosts: what waited for the decision goes on. Begin to copy, where that is due.
    pub fn open(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.peer_in_place = true;
        let copies = self.view.role == Role::Main && self.view.status == PairStatus::Copy;
        if copies {
            self.resync.begin(now);
        } else {
            self.resync.stop();
        }
        self.decide_lost(actions);
        self.open_events(actions);
        self.gate.open();
        self.let_in(now, actions);
        self.pump_resync(actions);
        self.pump_sanitize(actions);
    }

    /// Whether nothing may be admitted now: main without its pair, or before the peer can take a change.
    fn may_not_admit(&self) -> bool {
        self.view.service == Service::Refused || (self.is_mirrored() && !self.peer_in_place)
    }

    /// Hosts' new commands wait until [`Lun::open`] or [`Lun::suspend`]; those in flight go on.
    pub fn hold(&mut self, actions: &mut Vec<Action>) {
        self.gate.pause();
        self.resync.stop();
        self.sanitizing.forget();
        // A host of the sub that waits for the end would keep both from being quiet.
        let aborted = Outcome::Check(Sense::ABORTED_COMMAND);
        self.end_sanitize_wait(&aborted, actions, |origin| matches!(origin, Origin::Peer { .. }));
    }

    /// The peer is out of reach, and this main will go on: alone when the peer's lease has run out, or with it if
    /// it comes back before. Until then nothing is admitted and no write is answered.
    pub fn lose_peer(&mut self, actions: &mut Vec<Action>) {
        self.stop_events();
        self.hold(actions);
        self.view.service = Service::Refused;
        self.view.status = PairStatus::Suspended;
        self.view.links.clear();
        self.mirror.lose();
        self.suspend_sub_side(false, actions);
        self.hold_main_side(actions);
        self.hold_events(actions);
    }

    /// The peer is gone from a LUN whose only whole copy is here: what it forwarded and was not admitted is never
    /// executed; own hosts go on.
    pub fn peer_gone(&mut self, actions: &mut Vec<Action>) {
        self.view.links.clear();
        self.withdraw_those(&Outcome::Aborted, actions, |task| matches!(task.origin, Origin::Peer { .. }));
        self.events_without_peer(actions);
    }

    /// The copy is complete and agreed on: both copies are whole.
    pub fn on_copied(&mut self) {
        if self.view.status == PairStatus::Copy {
            self.view.status = PairStatus::Duplex;
            self.view.service = Service::Mirrored;
            self.resync.stop();
        }
    }

    /// Refuses new commands of hosts, and those that wait at the gate; those in flight finish.
    pub fn close(&mut self, actions: &mut Vec<Action>) {
        self.shut_gate(actions);
        self.resync.stop();
        self.sanitizing.forget();
        self.end_sanitize_wait(&Outcome::Check(Sense::ABORTED_COMMAND), actions, |_| true);
    }

    /// The pair is broken, the peer out of reach: what was not admitted is refused, what was is given up with
    /// ABORTED COMMAND as soon as the own copy has it (the host cannot know, and will ask again).
    pub fn suspend(&mut self, actions: &mut Vec<Action>) {
        self.stop_events();
        let before = self.view.service;
        self.view = PairView::suspended(self.view.role);
        self.resync.stop();
        self.sanitizing.forget();
        self.mirror.lose();
        self.shut_gate(actions);
        self.suspend_sub_side(before == Service::Forwarded, actions);
        self.suspend_main_side(actions);
        self.suspend_events(actions);
        if before != Service::Refused {
            // What this copy's memory holds is on its disk as soon as can be: it may be the only one for long.
            self.enter(Origin::Nobody, Op::SynchronizeCache, true, Time(0), actions);
        }
    }

    /// What the LUN is, as its identity says: from now on hosts are told it, served or not.
    pub fn learn(&mut self, blocks: u64) {
        if self.known && self.setup.blocks != blocks {
            self.unit.raise_for_all(Sense::CAPACITY_CHANGED);
        }
        self.known = true;
        self.setup.blocks = blocks;
    }

    /// LUNs have been added to those that hosts see.
    pub fn luns_changed(&mut self) {
        self.unit.raise_for_all(Sense::REPORTED_LUNS_CHANGED);
    }

    /// A new I_T nexus.
    pub fn nexus_added(&mut self, nexus: NexusId, initiator: &Initiator) {
        self.unit.add(nexus, initiator);
    }

    /// An I_T nexus is gone: what it had not got admitted is never executed.
    pub fn nexus_lost(&mut self, nexus: NexusId, now: Time, actions: &mut Vec<Action>) {
        self.unit.remove(nexus);
        self.permits.nexus_lost(nexus);
        self.give_up(now, actions, |owner, _| owner == nexus);
        self.end_lost_reservation(now, actions);
    }

    /// A task shall be given up, if it was not admitted.
    pub fn abort(&mut self, nexus: NexusId, tag: TaskTag, now: Time, actions: &mut Vec<Action>) {
        self.give_up(now, actions, |owner, which| owner == nexus && which == tag);
    }

    /// Disk I/O is complete.
    pub fn on_disk(&mut self, ticket: Ticket, result: DiskResult, now: Time, actions: &mut Vec<Action>) {
        let completion = self.volume.on_disk(ticket, result);
        self.on_completion(completion, now, actions);
    }

    fn on_completion(&mut self, completion: Completion, now: Time, actions: &mut Vec<Action>) {
        match completion {
            Completion::GivenUp => {}
            Completion::Of(slot, result) => self.on_disk_of(slot, result, now, actions),
            Completion::Redo(steps) => {
                for step in steps {
                    match step {
                        Step::Go(go) => actions.push(self.volume.go(go)),
                        Step::Done(slot, result) => self.on_disk_of(slot, result, now, actions),
                        Step::Failed(error) => self.on_idle_disk_failed(error, actions),
                    }
                }
                if self.events.is_waiting() {
                    self.pump_events(actions);
                }
            }
        }
    }

    fn on_disk_of(&mut self, slot: Slot, result: DiskResult, now: Time, actions: &mut Vec<Action>) {
        match slot {
            Slot::Task(slot) => self.on_task_disk(slot, result, now, actions),
            Slot::Apply(slot) => self.on_apply_disk(slot, result, now, actions),
        }
    }

    /// The disk failed while nobody waited for it.
    fn on_idle_disk_failed(&self, error: DiskError, actions: &mut Vec<Action>) {
        let other_copy = matches!(
            (self.view.role, self.view.service),
            (Role::Main, Service::Mirrored) | (Role::Sub, Service::Mirrored | Service::Forwarded)
        );
        if other_copy {
            self.report_own_disk(error, actions);
        }
    }

    /// The peer's copy is about to leave the pair: from now on the own disk is waited for. What is given up it may still
    /// write, over what comes later, in a copy that everyone reads.
    pub const fn stay_as_last_copy(&mut self) {
        self.last_copy = true;
    }

    /// Whether its disk was given up: what it was asked it may still write.
    #[must_use]
    pub const fn gave_disk_up(&self) -> bool {
        self.volume.is_given_up()
    }

    /// A disk that says nothing has failed, as long as there is another copy: its work is given up, and what it
    /// still writes is never read, for this copy leaves the pair.
    fn give_up_silent_disk(&mut self, now: Time, actions: &mut Vec<Action>) {
        let other_copy = match (self.view.role, self.view.service, self.view.status) {
            (Role::Main, Service::Mirrored, status) => status == PairStatus::Duplex,
            (Role::Sub, Service::Mirrored | Service::Forwarded, status) => status != PairStatus::Simplex,
            _ => false,
        };
        let other_copy = other_copy && !self.last_copy;
        if other_copy {
            for whose in self.volume.give_up_if_silent() {
                let completion = self.volume.completed(whose, Err(DiskError::Silent));
                self.on_completion(completion, now, actions);
            }
        }
    }

    /// Time has passed.
    pub fn on_tick(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.volume.on_tick(now);
        let busy = Outcome::Status(Status::Busy);
        self.end_waiting(&busy, actions, |command| now.since(command.received) >= COMMAND_AGE_MAX);
        self.give_up_silent_disk(now, actions);
        self.make_way(actions);
        self.expire_tasks(now, actions);
        self.answer_leased(now, actions);
        self.flush_alone(now, actions);
        let way = self.way();
        self.forwarder.expire(way, now, actions);
        if self.permits.tick() {
            self.pump_events(actions);
            self.let_in(now, actions);
        }
        self.tick_events(now, actions);
        self.tell_released(actions);
        self.tick_background(now, actions);
        self.tick_legs(actions);
    }

    /// TASK SET FULL tells a host to wait for its own commands; one that has none in the task set would wait
    /// for ever, and is told BUSY instead (SAM-5 5.3.1).
    fn full_status(&self, origin: Origin) -> Status {
        let has_tasks = match origin {
            Origin::Host { nexus, .. } => self
                .tasks
                .iter()
                .any(|(_, task)| matches!(task.origin, Origin::Host { nexus: other, .. } if other == nexus)),
            Origin::Peer { .. } | Origin::Copy | Origin::Sanitize(_) | Origin::Event(_) | Origin::Nobody => {
                false
            }
        };
        if has_tasks { Status::TaskSetFull } else { Status::Busy }
    }

    /// Ends every command of a host that `chosen` picks and that was not admitted.
    fn give_up(&mut self, now: Time, actions: &mut Vec<Action>, chosen: impl Fn(NexusId, TaskTag) -> bool) {
        self.end_waiting(&Outcome::Aborted, actions, |command| chosen(command.nexus, command.tag));
        self.give_up_behind(&Outcome::Aborted, actions, |origin, _| match origin {
            Origin::Host { nexus, tag } => chosen(nexus, tag),
            Origin::Peer { .. } | Origin::Copy | Origin::Sanitize(_) | Origin::Event(_) | Origin::Nobody => {
                false
            }
        });
        self.end_sanitize_wait(
            &Outcome::Aborted,
            actions,
            |origin| matches!(origin, Origin::Host { nexus, tag } if chosen(nexus, tag)),
        );
        self.withdraw_those(
            &Outcome::Aborted,
            actions,
            |task| matches!(task.origin, Origin::Host { nexus, tag } if chosen(nexus, tag)),
        );
        let way = self.way();
        let gone = |request: &Forward| chosen(request.nexus, request.tag);
        self.forwarder.withdraw(gone, &Outcome::Aborted, way, now, actions);
        self.forwarder.cancel(chosen, way.generation, actions);
    }
}
