//! The volume under one copy: what its disk is asked, by way of the redo record where a change is all or nothing, and
//! whether it answers.
//!
//! What always holds:
//! * Every piece of disk I/O that was asked for ends once: by its completion, or by being given up.
//! * No change passes a redo record of the same blocks ([`super::redo`]).
//! * A disk that was given up stays so: what it was asked it may still write.

use core::time::Duration;
use std::sync::Arc;

use super::outstanding::{Outstanding, Whose};
use super::redo::{Change, Go, Redo, Step};
use super::task::{Action, Slot};
use crate::disk::{DiskIo, DiskResult};
use crate::time::RunTime;
use crate::volume::stack::Stack;
use crate::world::Ticket;

/// One copy's volume.
#[derive(Debug)]
pub(super) struct Volume {
    /// What its completions are called by: the LUN's place in the controller's table.
    index: u16,
    /// Where the copy's blocks lie.
    stack: Stack,
    outstanding: Outstanding,
    redo: Redo,
    /// It was given up.
    silent: bool,
    /// Whose step has ended last, and how long the controller had run when that change began.
    latest: Option<(Slot, Duration)>,
    /// The same of the write for which a redo record is there or being made.
    recording: Option<Duration>,
}

/// What a completion belongs to.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Completion {
    /// Nothing any more: it was given up.
    GivenUp,
    /// One piece of disk I/O.
    Of(Slot, DiskResult),
    /// The redo record: these in their order.
    Redo(Vec<Step>),
}

impl Volume {
    pub(super) fn new(index: u16, stack: Stack, clock: Arc<RunTime>) -> Self {
        Self {
            index,
            stack,
            outstanding: Outstanding::new(clock),
            redo: Redo::default(),
            silent: false,
            latest: None,
            recording: None,
        }
    }

    /// Disk I/O that no redo record concerns: reads and flushes.
    pub(super) fn submit(&mut self, slot: Slot, io: DiskIo) -> Action {
        self.begin(Whose::Of(slot), io, self.outstanding.ran())
    }

    /// The next step of what has just ended: both have one time.
    pub(super) fn go_on(&mut self, slot: Slot, io: DiskIo) -> Action {
        let begun = self.latest.filter(|(latest, _)| *latest == slot).map(|(_, begun)| begun);
        self.begin(Whose::Of(slot), io, begun.unwrap_or(self.outstanding.ran()))
    }

    /// A change of the copy, by way of the redo record where there must be or is one. `None` while it waits for that.
    pub(super) fn change(&mut self, slot: Slot, io: DiskIo, atomic: bool) -> Option<Action> {
        if self.redo.is_idle() && !atomic {
            return Some(self.submit(slot, io));
        }
        self.redo.ask(Change { slot, io, atomic }).map(|go| self.go(go))
    }

    /// Carries out what a [`Completion::Redo`] says is next for the disk.
    pub(super) fn go(&mut self, go: Go) -> Action {
        match go {
            Go::Own(io) => {
                if matches!(io, DiskIo::Record { .. }) {
                    self.recording = Some(self.outstanding.ran());
                }
                let begun = self.recording.unwrap_or(self.outstanding.ran());
                self.begin(Whose::Redo, io, begun)
            }
            Go::Pass(slot, io) => self.submit(slot, io),
        }
    }

    /// Disk I/O is complete.
    pub(super) fn on_disk(&mut self, ticket: Ticket, result: DiskResult) -> Completion {
        match self.outstanding.end(ticket) {
            Some((whose, begun)) => {
                if let Whose::Of(slot) = whose {
                    self.latest = Some((slot, begun));
                }
                self.completed(whose, result)
            }
            None => Completion::GivenUp,
        }
    }

    /// What was given up ends so.
    pub(super) fn completed(&mut self, whose: Whose, result: DiskResult) -> Completion {
        match whose {
            Whose::Of(slot) => Completion::Of(slot, result),
            Whose::Redo => {
                let mut steps = Vec::new();
                self.redo.on_disk(result, &mut steps);
                // Who waited for the write has it; nobody waits for what the record still needs.
                let done = steps.iter().find_map(|step| match step {
                    Step::Done(slot, _) => Some(*slot),
                    Step::Go(_) | Step::Failed(_) => None,
                });
                if let (Some(slot), Some(begun)) = (done, self.recording) {
                    (self.latest, self.recording) = (Some((slot, begun)), None);
                }
                Completion::Redo(steps)
            }
        }
    }

    /// Blots out a record that a failed disk left behind, if it can.
    pub(super) fn blot_stuck_record(&mut self) -> Option<Action> {
        self.redo.blot_if_stuck().map(|go| self.go(go))
    }

    /// Nothing is under way that belongs to no task: the redo record is in nobody's way.
    pub(super) const fn is_quiet(&self) -> bool {
        self.redo.is_quiet()
    }

    /// Nothing at all is under way: time changes nothing.
    pub(super) fn rests(&self) -> bool {
        self.outstanding.is_empty() && self.redo.is_quiet()
    }

    /// A failed disk left a redo record behind, which the next start would carry out.
    pub(super) const fn has_record_left(&self) -> bool {
        self.redo.is_left()
    }

    /// Time has passed: at least every [`crate::time::TICK`] while the controller runs.
    pub(super) fn on_tick(&mut self) {
        self.outstanding.on_tick();
    }

    /// The volume is about to be flushed from outside.
    pub(super) fn expect_flush(&mut self) {
        self.outstanding.expect_flush();
    }

    /// How long the controller has run.
    pub(super) fn ran(&self) -> Duration {
        self.outstanding.ran()
    }

    /// Whether its disk was given up.
    pub(super) const fn is_given_up(&self) -> bool {
        self.silent
    }

    /// Gives up what a disk that does not answer was asked, and everything that it is asked from then on; oldest first.
    /// Each is then to be [`Volume::completed`] with [`crate::disk::DiskError::Silent`].
    pub(super) fn give_up_if_silent(&mut self) -> Vec<Whose> {
        self.silent |= self.outstanding.is_silent();
        if self.silent { self.outstanding.give_up() } else { Vec::new() }
    }

    fn begin(&mut self, whose: Whose, io: DiskIo, begun: Duration) -> Action {
        let ticket = self.outstanding.begin(self.index, whose, &io, begun);
        Action::Disk { volume: self.stack.volume_of(&io), io, ticket }
    }
}
