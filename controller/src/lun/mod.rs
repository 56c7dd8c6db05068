//! The core of one LUN: reservations, ranges held, commands in flight. Events go in, [`Action`]s come out; no
//! I/O, no clock, no lock.
//!
//! [`Lun`] is the coordinator of parts that know nothing of each other:
//!
//! | part | what it is |
//! |---|---|
//! | [`leave`] | what a host's command has to find of the LUN before it comes to the gate |
//! | [`gate`] | whether commands of this controller's hosts are judged now, wait, or are refused |
//! | [`unit_state`] | what both controllers share other than the blocks; whom it keeps out |
//! | [`events`] | how that state changes: one event after the other, each a barrier |
//! | [`blocks`] | commands on the blocks, and what goes to this copy and to the peer's |
//! | [`mirror`], [`resync`], [`replica`] | at main what the peer's copy gets, at the sub what main orders |
//! | [`forwarder`] | at the sub: commands on their way to main |
//! | [`copy_permits`], [`sanitizing`] | which EXTENDED COPYs pass; the sanitize operation |
//! | [`overdue`] | the deadline of what only the peer can end |
//!
//! At **main** a command is admitted in one step under this core's lock (its ranges granted, its sequence
//! given), then goes to both copies at once. At the **sub** a change is kept in the communication
//! volume and forwarded; main's order comes back and the local copy takes it. Which of the two
//! happens is decided in [`crate::route`].
//!
//! What always holds:
//! * At the sub the range of a change is held from its arrival until main's word that both copies have it
//!   (DONE, or a later message's `released`). A read that meets it goes to main and waits there: no read, on
//!   either side, returns what is not yet on every copy.
//! * A command that was not admitted when the interlink or its nexus goes away is never executed.
//! * When an event of the controller has been handled, nothing that came of it is left undone ([`Lun::run`]).

#[cfg(test)]
mod atomic_tests;
mod attention;
mod blocks;
mod budget;
#[cfg(test)]
mod checked_tests;
mod commands;
mod communication;
mod compare;
mod completion;
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
mod leave;
#[cfg(test)]
mod losing_tests;
#[cfg(test)]
mod meeting_tests;
mod mirror;
#[cfg(test)]
mod mode_tests;
mod operation;
mod outstanding;
mod overdue;
#[cfg(test)]
mod overdue_tests;
mod redo;
#[cfg(test)]
mod redo_tests;
mod replica;
mod report;
#[cfg(test)]
mod reservation_tests;
mod resync;
#[cfg(test)]
mod sanitize_tests;
mod sanitizing;
#[cfg(test)]
mod stamp_tests;
mod steps;
mod task;
#[cfg(test)]
mod tests;
mod unit_state;
mod usage;
mod volume;

use std::sync::Arc;

use core::time::Duration;

use protocol::interlink::shared::SharedState;
use protocol::scsi::sense::Sense;

use crate::background::Place;
use crate::command::{LunIndex, Op, Outcome};
use crate::disk::DiskResult;
use crate::lease::Lease;
use crate::pair::{PairView, Quiet, Role, Service};
use crate::plan::Side;
use crate::time::{RunTime, Time};
use crate::volume::stack::Stack;
use crate::world::Ticket;

pub use attention::NEXUSES_MAX;
use blocks::Blocks;
use budget::Budget;
use copy_permits::CopyPermits;
pub use copy_permits::News as CopyNews;
use events::Events;
use forwarder::Forwarder;
use gate::Gate;
use overdue::Overdue;
use sanitizing::Sanitizing;
pub use task::Action;
use task::Origin;

pub use budget::{CLASS_BYTES_MAX, LUN_CLASS_BYTES_MAX, LUN_CLASS_BYTES_MIN};
pub use communication::{COMMUNICATION_VOLUME_BYTES_MAX, COMMUNICATION_VOLUME_REQUESTS_MAX};
pub use outstanding::{CHANGE_SILENCE_MAX, DISK_SILENCE_MAX, FLUSH_SILENCE_MAX};
pub use overdue::LEG_AGE_MAX;
pub use resync::COPY_CHUNKS_MAX;
pub use sanitizing::SANITIZE_CHUNKS_MAX;
use steps::ABORTED;
pub use unit_state::UnitState;
pub use usage::{LunUsage, LunWork, Used};

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
    /// Where its blocks lie.
    pub stack: Stack,
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
    lease: Arc<Lease>,
    gate: Gate,
    /// What both controllers share of the LUN other than its blocks, and how it changes.
    unit: UnitState,
    events: Events,
    blocks: Blocks,
    /// At the sub: commands on their way to main.
    forwarder: Forwarder,
    permits: CopyPermits,
    sanitizing: Sanitizing,
    /// Where it stands in the queue for background work.
    place: Place,
    /// What only the peer can end.
    overdue: Overdue,
}

impl Lun {
    /// A LUN that serves nothing yet, with what is on disk of its shared state.
    #[must_use]
    pub fn new(setup: LunSetup, restored: SharedState, lease: Arc<Lease>, clock: Arc<RunTime>) -> Self {
        let events = Events::new(setup.index, setup.write_cache, restored.clone());
        let unit = UnitState::new(&setup, restored);
        Self {
            setup,
            known: false,
            gate: Gate::new(),
            events,
            blocks: Blocks::new(setup, unit.caches(), Arc::clone(&lease), clock),
            lease,
            unit,
            forwarder: Forwarder::new(Budget::share_of(setup.luns)),
            permits: CopyPermits::default(),
            sanitizing: Sanitizing::new(),
            place: Place::default(),
            overdue: Overdue::default(),
        }
    }

    /// Limits every class's credit to `bytes`, to see how the LUN fares with little.
    pub fn set_credit(&mut self, bytes: u64) {
        self.blocks.set_credit(bytes);
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
        self.events.check();
        self.blocks.check();
        self.sanitizing.check();
        assert_eq!(
            self.blocks.terms().caches(),
            self.unit.caches(),
            "the blocks go by another WCE than the state"
        );
    }

    /// Its place in the pair.
    #[must_use]
    pub const fn view(&self) -> &PairView {
        self.blocks.terms().view()
    }

    /// What the run met so far.
    #[must_use]
    pub const fn counters(&self) -> LunCounters {
        let (range_waits, credit_waits) = (self.blocks.tasks().range_waits(), self.blocks.mirror().waits());
        let forwarded = self.forwarder.counters();
        let credit_waits = forwarded.credit_waits + credit_waits;
        LunCounters { range_waits, credit_waits, ..forwarded }
    }

    /// Whether anything is in flight here, for a host or for the peer.
    #[must_use]
    pub fn quiet(&self) -> Quiet {
        let (quiet, undecided) = self.blocks.quiet();
        match quiet && self.forwarder.is_quiet() && self.events.is_quiet() {
            false => Quiet::No,
            true if undecided => Quiet::Undecided,
            true => Quiet::Yes,
        }
    }

    /// Capacity in logical blocks.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        self.setup.blocks
    }

    /// What both controllers share of it other than its blocks, as it is here.
    #[must_use]
    pub const fn unit(&self) -> &UnitState {
        &self.unit
    }

    /// What people are told of its work.
    #[must_use]
    pub fn work(&self, now: Time) -> LunWork {
        let forwarded = self.forwarder.volume();
        LunWork {
            commands: (self.blocks.tasks().hosts() + forwarded.len()) as u32,
            communication_bytes: forwarded.bytes(),
            copied: self.blocks.resync().progress(self.setup.blocks, now),
            sanitize: self.sanitizing.status(&self.unit.state().sanitize, self.setup.blocks),
        }
    }

    /// What this LUN uses of its bounds.
    #[must_use]
    pub fn usage(&self) -> LunUsage {
        let (commands, waiters) = self.blocks.tasks().usage();
        let (class_bytes, now, peak) = self.blocks.mirror().usage();
        let apply_bytes = Used { now, peak };
        let (_, now, peak) = self.forwarder.usage();
        let forward_bytes = Used { now, peak };
        let (held, held_peak) = self.gate.waiting();
        let kept = self.forwarder.volume();
        LunUsage {
            commands,
            held: Used { now: held as u64, peak: held_peak as u64 },
            waiters,
            requests: kept.len() as u64,
            communication_bytes: Used { now: kept.bytes(), peak: kept.bytes_peak() },
            apply_bytes,
            forward_bytes,
            class_bytes,
            nexuses: self.unit.nexuses() as u64,
            sanitize_chunks: u64::from(self.sanitizing.running()),
            copy_chunks: u64::from(self.blocks.resync().running()),
        }
    }

    /// The pair is agreed on: take the place in it that `view` gives, hosts not yet served. Whatever belonged to an
    /// earlier one has ended, was given up by [`Lun::suspend`], or waits for this ([`Lun::lose_peer`]).
    pub fn begin(&mut self, view: PairView, blocks: u64, now: Time, actions: &mut Vec<Action>) {
        // What still waits for a range, and what comes now, goes on when the peer has its place as well.
        self.gate.pause();
        self.sanitizing.forget();
        self.overdue = Overdue::default();
        self.learn(blocks);
        // What the sub remembers may be old: nobody is judged by it before main's word.
        self.gate.know(view.role == Role::Main || view.links.is_empty());
        let role = view.role;
        self.blocks.begin(view, actions);
        self.hold_events(actions);
        if role == Role::Sub {
            self.sanitizing.end_wait(&ABORTED, self.blocks.terms().view(), actions, |_| true);
            let (events, mut here) = self.here(actions);
            let resanitized = events.give_up_legs(&mut here);
            self.on_installed(resanitized);
        }
        self.run(now, actions);
    }

    /// Serve hosts: what waited for the decision goes on. Begin to copy, where that is due.
    pub fn open(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.blocks.open(now, actions);
        let (events, mut here) = self.here(actions);
        events.open(&mut here);
        self.gate.open();
        self.run(now, actions);
        self.let_in(now, actions);
        self.run(now, actions);
    }

    /// Hosts' new commands wait until [`Lun::open`] or [`Lun::suspend`]; those in flight go on.
    pub fn hold(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.pause(actions);
        self.run(now, actions);
    }

    fn pause(&mut self, actions: &mut Vec<Action>) {
        self.gate.pause();
        self.blocks.hold();
        self.sanitizing.forget();
        // A host of the sub that waits for the end would keep both from being quiet.
        self.sanitizing.end_wait(&ABORTED, self.blocks.terms().view(), actions, |origin| {
            matches!(origin, Origin::Peer { .. })
        });
    }

    /// The peer is out of reach, and this main will go on: alone when the peer's lease has run out, or with it if
    /// it comes back before. Until then nothing is admitted and no write is answered.
    pub fn lose_peer(&mut self, view: PairView, now: Time, actions: &mut Vec<Action>) {
        self.events.stop();
        self.pause(actions);
        let writing = self.blocks.lose_peer(view, actions);
        self.forwarder.lose(&writing, false, actions);
        self.blocks.hold_tasks(actions);
        self.run(now, actions);
        self.hold_events(actions);
        self.run(now, actions);
    }

    /// What events have not begun goes back to the gate.
    fn hold_events(&mut self, actions: &mut Vec<Action>) {
        let lun = LunIndex(self.setup.index);
        let back = self.events.hold(&self.unit).into_iter().filter_map(|waiting| waiting.into_command(lun));
        back.for_each(|command| self.gate.keep(command, actions));
    }

    /// The peer is gone from a LUN whose only whole copy is here: what it forwarded and was not admitted is never
    /// executed; this controller's hosts go on.
    pub fn peer_gone(&mut self, view: PairView, now: Time, actions: &mut Vec<Action>) {
        self.blocks.peer_gone(view, actions);
        self.sanitizing.end_wait(&Outcome::Aborted, self.blocks.terms().view(), actions, |origin| {
            matches!(origin, Origin::Peer { .. })
        });
        let (events, mut here) = self.here(actions);
        events.peer_gone(&mut here);
        self.run(now, actions);
    }

    /// The copy is complete and agreed on: both copies are whole.
    pub fn on_copied(&mut self, view: PairView, now: Time, actions: &mut Vec<Action>) {
        self.blocks.follow(view);
        self.run(now, actions);
    }

    /// Refuses new commands of hosts, and those that wait at the gate; those in flight finish.
    pub fn close(&mut self, view: PairView, now: Time, actions: &mut Vec<Action>) {
        self.gate.shut(actions);
        self.blocks.follow(view);
        self.sanitizing.forget();
        self.sanitizing.end_wait(&ABORTED, self.blocks.terms().view(), actions, |_| true);
        self.run(now, actions);
    }

    /// The pair is broken, the peer out of reach: what was not admitted is refused, what was is given up with
    /// ABORTED COMMAND as soon as the local copy has it (the host cannot know, and will ask again).
    pub fn suspend(&mut self, view: PairView, now: Time, actions: &mut Vec<Action>) {
        self.events.stop();
        let before = self.view().service;
        self.sanitizing.forget();
        let writing = self.blocks.lose_peer(view, actions);
        self.gate.shut(actions);
        self.forwarder.lose(&writing, before == Service::Forwarded, actions);
        self.blocks.suspend_tasks(actions);
        self.run(now, actions);
        self.sanitizing.end_wait(&ABORTED, self.blocks.terms().view(), actions, |_| true);
        let (events, mut here) = self.here(actions);
        let resanitized = events.suspend(&mut here);
        self.on_installed(resanitized);
        if before.serves() {
            // What this copy's memory holds is on its disk as soon as can be: it may be the only one for long.
            self.blocks.enter(Origin::Nobody, Op::SynchronizeCache, true, Time(0), actions);
        }
        self.run(now, actions);
    }

    /// What the LUN is, as its identity says: from now on hosts are told it, served or not.
    pub fn learn(&mut self, blocks: u64) {
        if self.known && self.setup.blocks != blocks {
            self.unit.raise_for_all(Sense::CAPACITY_CHANGED);
        }
        self.known = true;
        self.setup.blocks = blocks;
        self.blocks.terms_mut().resize(blocks);
    }

    /// LUNs have been added to those that hosts see.
    pub fn luns_changed(&mut self) {
        self.unit.raise_for_all(Sense::REPORTED_LUNS_CHANGED);
    }

    /// Disk I/O is complete.
    pub fn on_disk(&mut self, ticket: Ticket, result: DiskResult, now: Time, actions: &mut Vec<Action>) {
        self.blocks.on_disk(ticket, result, now, actions);
        self.run(now, actions);
    }

    /// A record is durable.
    pub fn on_persisted(&mut self, ticket: Ticket, now: Time, actions: &mut Vec<Action>) {
        self.events.on_persisted(ticket, actions);
        self.run(now, actions);
    }

    /// The peer's copy is about to leave the pair: from now on the local disk is waited for.
    pub const fn stay_as_last_copy(&mut self) {
        self.blocks.terms_mut().stay_as_last_copy();
    }

    /// Its volume is about to be flushed from outside.
    pub fn flushes(&mut self) {
        self.blocks.expect_flush();
    }

    /// Whether its disk was given up: what it was asked it may still write.
    #[must_use]
    pub const fn gave_disk_up(&self) -> bool {
        self.blocks.volume().is_given_up()
    }
}
