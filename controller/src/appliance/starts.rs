//! The beginning of a time of service: what is made durable before the first byte, so that old state which somebody puts
//! back is not taken for current.
//!
//! There are two marks, each a number and a random id ([`Start`]), in the control record of every LUN and in
//! the superblock of its volume:
//!
//! * **The volume's**, once in every run of a controller, before it meets anybody, or in the meeting in which the volume
//!   is made or refilled; and once more with a clean end, so that a backup that was made in between is older. The record names the superblock, and the superblock the record: one of the two that was put back
//!   alone does not fit the other, and is stale. A disk that does not take the mark in time has failed.
//! * **The joint one**, at every meeting that serves the LUN: each has written down that the *other* has the new
//!   generation durable. Whoever comes back without knowing of it has an older folder than it had, and is stale.
//!
//! ```text
//! record: the start that is coming; then the superblock   (once in a run)
//! record: generation, and the joint start that is coming  (A, on both; the coming main first, as for any generation)
//! record: that is the volume's start; the joint start     (B; by main once it knows that the other has A)
//! the first byte
//! ```
//!
//! **No crash point makes a healthy copy stale**: from A to B the record takes the superblock for its own whether it says
//! the old start or the coming one, and the peer's joint start for known if it is the coming one; what is coming is
//! replaced only when both have compared what they know, or when nothing was written with it. A copy that was never
//! served, made to be refilled, does not say the start that the record expects: it is no source either.
//!
//! A stale copy is never a source. It is refilled where a whole one is found, and refused with the reason where none is,
//! or where the other has gone on from the old state.

use core::time::Duration;

use protocol::interlink::standing::{CopyFound, Start, Told};

use super::lifecycle::{Event, Stage};
use super::{Apart, Appliance, Effect, Group, Pending, Phase, Step};
use crate::disk::DiskError;
use crate::pair::{Breakage, Service};
use crate::time::Time;
use crate::volume::superblock::{Superblock, VolumeFound};
use crate::world::Ticket;

/// The mark in the superblock, in this run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Marked {
    /// It is that of an earlier run.
    Not,
    /// It is chosen, and the record that says so is written or will be.
    Coming,
    /// It is durable.
    Yes,
}

/// When no disk has taken a mark for this time, those that are asked for one do not answer: well before the two give up a
/// meeting.
pub(super) const MARK_MAX: Duration = Duration::from_secs(2);

/// The version of the interlink since which the joint start is told.
const TOLD_SINCE: u16 = protocol::interlink::Version::V2 as u16;

impl Appliance {
    /// Whether the peer tells of starts, and is told.
    pub(super) fn peer_knows_starts(&self) -> bool {
        self.peer.as_ref().is_none_or(|peer| peer.version >= TOLD_SINCE)
    }

    /// What the peer is told of all LUNs beside their standings.
    pub(super) fn own_told(&self) -> Vec<(String, Told)> {
        let told = |group: &Group| Told {
            starts: group.starts,
            may_go_on: group.stage.goes_on(),
            remembers: group.kept,
        };
        self.plan.luns.iter().zip(&self.groups).map(|(lun, group)| (lun.name.clone(), told(group))).collect()
    }

    /// Whether the volume has to be marked before anything is served.
    fn needs_mark(&self, lun: usize) -> bool {
        self.groups[lun].marked != Marked::Yes
            && matches!(self.copy_found(lun), CopyFound::Whole | CopyFound::Stale)
    }

    /// Chooses the mark of a volume that needs one; it goes with the next record.
    pub(super) fn choose_mark(&mut self, lun: usize) {
        if !self.needs_mark(lun) || self.groups[lun].marked == Marked::Coming {
            return;
        }
        let whole = self.copy_found(lun) == CopyFound::Whole;
        let id = self.make_id();
        let group = &mut self.groups[lun];
        if let (true, VolumeFound::Open(found)) = (whole, group.volume) {
            group.volume_start = found.start;
        }
        group.volume_coming = Start { number: group.generation.number.max(1), id };
        group.marked = Marked::Coming;
    }

    /// The record that names it is durable: marks the volume, if it needs that.
    pub(super) fn mark(&mut self, lun: usize, pending: Pending, effects: &mut Vec<Effect>) -> bool {
        if !self.needs_mark(lun) || self.groups[lun].marked != Marked::Coming {
            return false;
        }
        let Some(superblock) = self.superblock(lun) else {
            return false;
        };
        let superblock = Superblock { start: self.groups[lun].volume_coming, ..superblock };
        let ticket = self.ticket(pending);
        effects.push(Effect::BeginService(lun, superblock, ticket));
        true
    }

    /// A volume has its mark. True unless its disk did not take it.
    pub(super) fn on_marked(&mut self, lun: usize, result: Result<(), DiskError>) -> bool {
        match result {
            // Asked for again in another meeting, and there already.
            Ok(()) if self.groups[lun].marked != Marked::Coming => {}
            Ok(()) => {
                let superblock = self.superblock(lun);
                let group = &mut self.groups[lun];
                group.volume_start = group.volume_coming;
                group.volume_coming = Start::default();
                group.marked = Marked::Yes;
                // Its disk was given up for an earlier try.
                group.breakage.take_if(|breakage| *breakage == Breakage::OwnDisk(DiskError::Silent));
                if let Some(superblock) = superblock {
                    group.volume = VolumeFound::Open(Superblock { start: group.volume_start, ..superblock });
                }
            }
            Err(error) => self.groups[lun].fail_to_be_marked(error),
        }
        result.is_ok()
    }

    /// At a clean end the volumes that were served are marked once more.
    pub(super) fn write_end_marks(&mut self, effects: &mut Vec<Effect>) {
        for lun in 0..self.groups.len() {
            if self.service(lun) != Service::Refused && self.groups[lun].marked == Marked::Yes {
                self.groups[lun].marked = Marked::Not;
                self.choose_mark(lun);
            }
        }
        self.persist(Pending::EndMarks, effects);
    }

    /// Whole copies are marked when their controller starts, before it meets anybody: a disk that does not take the mark
    /// has failed before the two agree on whose copies count, and takes no part in that.
    pub(super) fn write_start_marks(&mut self, luns: &[usize], effects: &mut Vec<Effect>) {
        luns.iter().for_each(|lun| self.choose_mark(*lun));
        if !luns.is_empty() {
            self.persist(Pending::StartMarks, effects);
        }
    }

    pub(super) fn on_start_marks_durable(&mut self, effects: &mut Vec<Effect>) {
        // Those without a copy are marked by themselves.
        for lun in (0..self.groups.len()).filter(|lun| !self.singles.contains(lun)).collect::<Vec<_>>() {
            self.mark(lun, Pending::MarkedStart(lun), effects);
        }
        self.meet_now(effects);
    }

    pub(super) fn on_marked_start(
        &mut self,
        lun: usize,
        result: Result<(), DiskError>,
        effects: &mut Vec<Effect>,
    ) {
        if !self.on_marked(lun, result) {
            self.on_group(lun, Event::DiskLost, effects);
        }
        self.meet_now(effects);
    }

    /// Whether the marks of this start are still being written.
    pub(super) fn is_marking_start(&self) -> bool {
        self.pending.values().any(|(_, it)| matches!(it, Pending::StartMarks | Pending::MarkedStart(_)))
    }

    /// A disk that does not take a mark for long keeps nobody else from being served: its copy has failed.
    pub(super) fn tick_marks(&mut self, now: Time, effects: &mut Vec<Effect>) {
        // A controller that was stopped finds what its disks have done meanwhile when it goes on.
        self.run_time.tick(now);
        let now = self.run_time.ran();
        let marking = self
            .pending
            .iter()
            .filter(|(_, (_, pending))| pending.of_volume().is_some())
            .map(|(ticket, _)| *ticket);
        let marking: Vec<u64> = marking.collect();
        let before = core::mem::take(&mut self.marking_since);
        // Many volumes may share a slow disk: as long as it takes one mark after the other it answers.
        let gets_on = before.keys().any(|ticket| !marking.contains(ticket));
        let since = |ticket: &u64| before.get(ticket).copied().filter(|_| !gets_on).unwrap_or(now);
        self.marking_since = marking.iter().map(|ticket| (*ticket, since(ticket))).collect();
        let silent = |(_, since): &(&u64, &Duration)| now.saturating_sub(**since) >= MARK_MAX;
        let silent: Vec<u64> = self.marking_since.iter().filter(silent).map(|(ticket, _)| *ticket).collect();
        for ticket in silent {
            match self.pending.get(&ticket).map(|(_, pending)| *pending) {
                Some(Pending::Volume(lun)) => {
                    let asked = self.groups[lun].creation.map(|(_, superblock)| (lun, superblock));
                    self.late_volumes.extend(asked.map(|asked| (ticket, asked)));
                }
                Some(pending) => self.late_marks.extend(pending.marked().map(|lun| (ticket, lun))),
                None => {}
            }
            self.on_done(Ticket(ticket), Err(DiskError::Silent), effects);
        }
    }

    /// A disk has taken a mark after all, when its copy was given up for that: a copy of which nothing was made meanwhile
    /// counts again. One without which the peer has gone on does not.
    pub(super) fn on_late_mark(
        &mut self,
        ticket: Ticket,
        result: Result<(), DiskError>,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(asked) = self.late_volumes.remove(&ticket.0) {
            return self.on_late_volume(asked, result, effects);
        }
        let Some(lun) = self.late_marks.remove(&ticket.0) else {
            return;
        };
        let group = &mut self.groups[lun];
        let waits = group.marked == Marked::Coming
            && group.breakage == Some(Breakage::OwnDisk(DiskError::Silent))
            && group.stage == Stage::Apart;
        if waits && result.is_ok() && !self.ending.begun() {
            group.breakage = None;
            self.on_marked(lun, result);
            self.persist(Pending::MarkedLate(lun), effects);
        }
    }

    /// That is written down: the copy has the part that it would have had at the start, alone or in a new meeting.
    pub(super) fn on_late_mark_durable(&mut self, lun: usize, effects: &mut Vec<Effect>) {
        if self.groups[lun].stage != Stage::Apart {
            return;
        }
        self.meet_again_if_idle(effects);
        if self.starts_single(lun) {
            self.on_group(lun, Event::StartsSimplex, effects);
        } else {
            self.start_alone(lun, self.run_time.ticked(), effects);
        }
    }

    /// What was given up for its disk's silence can have a part again, in a new meeting. That makes whole LUNs be copied:
    /// where others are served it is not worth it.
    pub(super) fn meet_again_if_idle(&mut self, effects: &mut Vec<Effect>) {
        let served = self.groups.iter().any(|group| {
            matches!(
                group.stage,
                Stage::Served(_) | Stage::Turning { .. } | Stage::Closed(_) | Stage::Yielding(_)
            )
        });
        if self.peer.is_some() && !served && !self.ending.begun() {
            self.lose(Apart::Answers(self.plan.names[self.plan.side.index()].clone()), effects);
        }
    }

    /// Whether this controller has the only copy that the LUN is to have.
    pub(super) fn starts_single(&self, lun: usize) -> bool {
        let generation = self.groups[lun].generation;
        let own = usize::from(generation.main) == self.plan.side.index();
        let whole = self.copy_found(lun) == CopyFound::Whole;
        !self.plan.luns[lun].mirror && generation.number > 0 && own && whole
    }

    /// What both agreed on is about to be written down: with it goes what is coming.
    pub(super) fn choose_starts(&mut self) {
        for lun in 0..self.groups.len() {
            if self.is_agreed(lun) {
                self.choose_mark(lun);
            }
        }
    }

    /// What both agreed on is durable here: the volumes are marked next.
    pub(super) fn mark_agreed(&mut self, step: Step, effects: &mut Vec<Effect>) {
        let mut waits = 0;
        for lun in 0..self.groups.len() {
            if self.is_agreed(lun) && self.mark(lun, Pending::Marked(lun), effects) {
                waits += 1;
            }
        }
        self.phase = Phase::Agreeing { waits, step };
        if waits == 0 {
            self.write_starts(step, effects);
        }
    }

    /// In this meeting a volume was marked, or its disk did not take it: then the two meet again without that copy.
    pub(super) fn on_agreed_marked(&mut self, good: bool, effects: &mut Vec<Effect>) {
        if !good {
            let name = self.plan.names[self.plan.side.index()].clone();
            return self.lose(Apart::Failed(name), effects);
        }
        if let Phase::Agreeing { waits, step } = &mut self.phase {
            *waits -= 1;
            if *waits == 0 {
                let step = *step;
                self.write_starts(step, effects);
            }
        }
    }

    /// All marks are durable; so is the generation on both of every LUN whose main has told or been told.
    fn write_starts(&mut self, step: Step, effects: &mut Vec<Effect>) {
        let peer = self.plan.side.peer() as u8;
        let told = |group: &Group| step == Step::LeadingRest || group.generation.main == peer;
        self.know_as_joint(told);
        self.persist(Pending::Starts, effects);
    }

    /// Whether this controller, as main, still has to write down that the other has the generation too.
    pub(super) fn confirm(&mut self, effects: &mut Vec<Effect>) -> bool {
        let confirms = self.know_as_joint(|_| true);
        if confirms {
            self.persist(Pending::Confirmed, effects);
        }
        confirms
    }

    fn know_as_joint(&mut self, told: impl Fn(&Group) -> bool) -> bool {
        let mut news = false;
        if self.peer_knows_starts() {
            for group in self.groups.iter_mut().filter(|group| group.is_agreed() && told(group)) {
                news |= group.starts.joint != group.starts.coming;
                group.starts.joint = group.starts.coming;
            }
        }
        news
    }

    /// What names copies alone is about to be written by this ticket: with it go the marks that this run has not made.
    pub(super) fn choose_marks_alone(&mut self, alone: u64) {
        for lun in 0..self.groups.len() {
            if self.groups[lun].stage == (Stage::GoingAlone { ticket: alone }) {
                self.choose_mark(lun);
            }
        }
    }

    /// That is durable: the volumes that this run has not marked yet are next.
    pub(super) fn mark_alone(&mut self, alone: u64, effects: &mut Vec<Effect>) {
        let mut waits = false;
        for lun in 0..self.groups.len() {
            if self.groups[lun].stage == (Stage::GoingAlone { ticket: alone }) {
                waits |= self.mark(lun, Pending::MarkedAlone(lun, alone), effects);
            }
        }
        if !waits {
            self.on_alone_durable(alone, effects);
        }
    }

    pub(super) fn on_marked_alone(
        &mut self,
        lun: usize,
        alone: u64,
        result: Result<(), DiskError>,
        effects: &mut Vec<Effect>,
    ) {
        if !self.on_marked(lun, result) {
            self.on_group(lun, Event::Refused { for_good: true }, effects);
        }
        let others = |pending: &Pending| matches!(pending, Pending::MarkedAlone(_, of) if *of == alone);
        if !self.pending.values().any(|(_, pending)| others(pending)) {
            self.persist(Pending::MarksAlone(alone), effects);
        }
    }

    /// LUNs without a copy, at the start of their main.
    pub(super) fn write_singles(&mut self, luns: Vec<usize>, effects: &mut Vec<Effect>) {
        luns.iter().for_each(|lun| self.choose_mark(*lun));
        self.singles = luns;
        self.persist(Pending::Singles, effects);
    }

    pub(super) fn on_singles(
        &mut self,
        pending: Pending,
        result: Result<(), DiskError>,
        effects: &mut Vec<Effect>,
    ) {
        match pending {
            Pending::Singles => {
                let mut waits = false;
                for lun in self.singles.clone() {
                    waits |= self.mark(lun, Pending::MarkedSingle(lun), effects);
                }
                if !waits {
                    self.persist(Pending::MarksSingle, effects);
                }
            }
            Pending::MarkedSingle(lun) => {
                if !self.on_marked(lun, result) {
                    self.singles.retain(|single| *single != lun);
                }
                let others = |pending: &Pending| matches!(pending, Pending::MarkedSingle(_));
                if !self.pending.values().any(|(_, pending)| others(pending)) {
                    self.persist(Pending::MarksSingle, effects);
                }
            }
            _ => {
                for lun in core::mem::take(&mut self.singles) {
                    self.on_group(lun, Event::StartsSimplex, effects);
                }
                self.meet_now(effects);
            }
        }
    }

    fn is_agreed(&self, lun: usize) -> bool {
        self.groups[lun].is_agreed()
    }
}
