//! What this controller has of one LUN: its volume as it was found and made, its mark, and the record of it.
//!
//! ```text
//!  the mark, in this run:   Not ──► Coming ──► Yes      (and Not again, at a clean end)
//!                            chosen,    the superblock
//!                            in the     says it
//!                            record
//! ```
//!
//! What always holds: while a mark is coming, the record takes the superblock for its own with the old start and with
//! the coming one ([`LunCopy::expects`]); a volume is made once at a time.

use protocol::interlink::GenerationTag;
use protocol::interlink::copy_report::{CopyFound, CopyReport, Generation, GroupRecord, Start, Starts, Told};

use super::creation::{Creation, Made};
use super::ids::Ids;
use crate::disk::DiskError;
use crate::plan::LunPlan;
use crate::volume::superblock::{Superblock, VolumeFound};

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

/// What all LUNs of a group have in common when the peer is told of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Common {
    /// [`CopyReport::clean`].
    pub(super) clean: bool,
    /// This incarnation has served under the generation or the one before it.
    pub(super) kept: bool,
    /// Its generation names the copy here: what this incarnation has served since is in it.
    pub(super) member: bool,
    /// All that was acknowledged is on the disks.
    pub(super) flushed: bool,
    /// [`CopyReport::may_go_on`].
    pub(super) may_go_on: bool,
    /// The disk of one of them has failed.
    pub(super) failed: bool,
}

/// What this controller has of one LUN.
#[derive(Debug)]
pub(super) struct LunCopy {
    /// Its place in the plan.
    lun: usize,
    device: bool,
    /// The largest LUN that the device has room for, in logical blocks.
    room: Option<u64>,
    /// What is kept of it on disk, as it will be written next.
    record: GroupRecord,
    /// The generation before, in this run.
    before: Generation,
    /// It was clean, and nothing was served since, whatever was written down: a meeting that came to nothing.
    untouched: bool,
    /// The flush after the peer was lost is under way, of what was served under this generation.
    flushing: Option<GenerationTag>,
    /// This controller has had a part in the LUN: what it only learnt of from its peer it does not keep.
    known: bool,
    volume: VolumeFound,
    marked: Marked,
    /// What is kept of the LUN beside its volume cannot be read: it is refused, and nothing is written over it.
    unreadable: bool,
    /// Its volume could not be made in this run.
    unmade: bool,
    /// Agreed on in this meeting, to be written down when the volumes are there; whether this copy is left complete.
    agreed: Option<(Generation, bool)>,
    /// Its volume is being made, for this meeting.
    creation: Option<(u64, Superblock)>,
    /// What the peer was told of it in this meeting.
    told: Option<CopyReport>,
    /// What its superblock must say, but for the start; none before it has an identity.
    wanted: Option<Superblock>,
    /// Both copies are whole as of this generation, as its LUN says.
    copied: Option<GenerationTag>,
}

impl LunCopy {
    /// What a record says, and what was found of the volume; nothing has happened yet.
    pub(super) fn restored(
        lun: usize,
        plan: &LunPlan,
        record: Option<&GroupRecord>,
        volume: VolumeFound,
        wanted: Option<Superblock>,
        unreadable: bool,
    ) -> Self {
        let none = || GroupRecord {
            lun: plan.name.clone(),
            generation: Generation::default(),
            clean: false,
            flushed: false,
            volume: Start::default(),
            volume_coming: Start::default(),
            starts: Starts::default(),
        };
        Self {
            lun,
            device: plan.device,
            room: plan.room,
            before: Generation::default(),
            record: record.cloned().unwrap_or_else(none),
            untouched: false,
            flushing: None,
            known: wanted.is_some(),
            volume,
            marked: Marked::Not,
            unreadable,
            unmade: false,
            agreed: None,
            creation: None,
            told: None,
            wanted,
            copied: None,
        }
    }

    pub(super) const fn lun(&self) -> usize {
        self.lun
    }

    pub(super) fn name(&self) -> &str {
        &self.record.lun
    }

    pub(super) const fn generation(&self) -> Generation {
        self.record.generation
    }

    /// Capacity in logical blocks; zero before it has an identity.
    pub(super) fn blocks(&self) -> u64 {
        self.wanted.map_or(0, |wanted| wanted.blocks)
    }

    /// The record to be kept, and whether this controller has had a part in the LUN.
    pub(super) fn to_record(&self) -> (GroupRecord, bool) {
        (self.record.clone(), self.known)
    }

    pub(super) const fn is_unreadable(&self) -> bool {
        self.unreadable
    }

    /// Its identity is known, or another than before; `learnt`: from a peer that had a part in it, and this controller
    /// had none.
    pub(super) const fn identify(&mut self, wanted: Option<Superblock>, new_to_both: bool) {
        self.known |= new_to_both;
        self.wanted = wanted;
    }

    /// It was never served, and gets another size. A volume of another size that this run has made, or is making, is in
    /// use: it is made anew at the next start.
    pub(super) fn resize(&mut self, blocks: u64) {
        if let Some(wanted) = &mut self.wanted {
            wanted.blocks = blocks;
        }
        let asked = self.creation.map(|(_, superblock)| superblock);
        let made = if let VolumeFound::Open(found) = self.volume { Some(found) } else { None };
        self.unmade |= asked.into_iter().chain(made).any(|volume| volume.blocks != blocks);
    }

    /// What was found where its volume should be. `failed`: its disk has.
    pub(super) fn found(&self, failed: bool) -> CopyFound {
        if self.unreadable {
            return CopyFound::Unreadable;
        }
        if self.unmade || failed {
            return CopyFound::Failed;
        }
        // A device that is gone, or cannot hold the LUN, is not made by us.
        let too_small = self.room.is_some_and(|room| room < self.blocks());
        match self.volume {
            VolumeFound::Missing | VolumeFound::Blank if too_small => CopyFound::Failed,
            VolumeFound::Missing => CopyFound::Missing,
            VolumeFound::Blank => CopyFound::Blank,
            VolumeFound::Open(found) => self.copy_of(&found),
            VolumeFound::Foreign => CopyFound::Foreign,
            VolumeFound::Silent => CopyFound::Failed,
        }
    }

    fn copy_of(&self, found: &Superblock) -> CopyFound {
        let Some(own) = self.wanted else {
            return CopyFound::Foreign;
        };
        if found.is_same_copy(&own) {
            let current = self.expects(found.start);
            return if current { CopyFound::Whole } else { CopyFound::Stale };
        }
        let others = Superblock { owner: own.owner, ..*found };
        if others.is_same_copy(&own) { CopyFound::Others } else { CopyFound::Foreign }
    }

    /// Whether the record takes a superblock that says this for its own.
    fn expects(&self, start: Start) -> bool {
        let GroupRecord { volume, volume_coming, .. } = self.record;
        start == volume || (volume_coming.number > 0 && start == volume_coming)
    }

    /// What the peer is told of it. `starts`: it knows of starts.
    pub(super) fn tell(&mut self, common: Common, starts: bool) -> CopyReport {
        let report = self.report(common, starts);
        self.told = Some(report);
        report
    }

    /// What it was told in this meeting.
    pub(super) const fn told(&self) -> Option<CopyReport> {
        self.told
    }

    /// What is to be judged by: the peer judges by what it was told, and that this copy was not settled then must mean
    /// the same to both.
    pub(super) fn judged(&self, common: Common, starts: bool) -> CopyReport {
        let mut own = self.report(common, starts);
        let unsettled = |told: CopyReport| told.copy == CopyFound::Unsettled && own.copy == CopyFound::Whole;
        if self.told.is_some_and(unsettled) {
            own.copy = CopyFound::Unsettled;
        }
        own
    }

    fn report(&self, common: Common, starts: bool) -> CopyReport {
        let copy = match self.found(common.failed) {
            CopyFound::Whole if common.kept && self.flushing == Some(self.record.generation.tag()) => {
                CopyFound::Unsettled
            }
            other => other,
        };
        CopyReport {
            generation: self.record.generation,
            clean: common.clean,
            kept: (common.kept && common.member) || common.flushed,
            copy: if starts { copy } else { copy.in_version_1() },
            known: self.known,
            device: self.device,
            starts: starts.then_some(self.record.starts),
            may_go_on: starts && common.may_go_on,
            remembers: starts && common.kept,
        }
    }

    /// What a peer that knows of starts is told beside.
    pub(super) const fn told_beside(&self, common: Common) -> Told {
        Told { starts: self.record.starts, may_go_on: common.may_go_on, remembers: common.kept }
    }

    pub(super) const fn is_clean(&self) -> bool {
        self.record.clean || self.untouched
    }

    /// It ends cleanly, if everything it has served is whole, or nothing was served.
    pub(super) const fn end_cleanly(&mut self, whole: bool) {
        self.record.clean |= self.untouched || whole;
    }

    /// It takes its place: from now on it is served.
    pub(super) const fn begin(&mut self) {
        self.untouched = false;
        self.known = true;
        self.copied = None;
    }

    /// What both agreed on. `left`: it is not written under it.
    pub(super) fn agree(&mut self, generation: Generation, left: bool) {
        self.agreed = Some((generation, left && self.told.is_some_and(|told| told.is_complete())));
    }

    /// The meeting has ended.
    pub(super) const fn forget_meeting(&mut self) {
        (self.agreed, self.told) = (None, None);
    }

    /// What both agreed on is about to be written down, and is this controller's now. A meeting that ends before leaves
    /// it with what it had.
    pub(super) fn take_on_agreed(&mut self, starts: bool) {
        if let Some((generation, flushed)) = self.agreed.take() {
            self.take_on(generation, flushed);
            self.known = true;
            if starts {
                self.record.starts.coming = Start::of(generation);
            }
        }
    }

    /// The generation to be written down next, under which something may be served then. `flushed`: not from this copy,
    /// and all it has is on its disk.
    pub(super) fn take_on(&mut self, generation: Generation, flushed: bool) {
        self.before = core::mem::replace(&mut self.record.generation, generation);
        self.untouched |= self.record.clean;
        self.record.clean = false;
        self.record.flushed = flushed;
    }

    /// What was taken on came to nothing: the one before goes on, under a new number and id.
    pub(super) fn take_back(&mut self, id: u128) {
        let (number, parent) = (self.record.generation.number + 1, self.before.id);
        self.take_on(Generation { number, id, parent, ..self.before }, false);
    }

    /// Both copies are whole.
    pub(super) const fn name_both(&mut self) {
        self.record.generation.members = 0b11;
    }

    /// What the peer knows as joint was coming here: it has begun.
    pub(super) fn hear(&mut self, theirs: Starts) {
        if theirs.joint.number > 0 && theirs.joint == self.record.starts.coming {
            self.record.starts.joint = theirs.joint;
        }
    }

    /// The peer has the generation durable, too. Whether that is new.
    pub(super) fn know_as_joint(&mut self) -> bool {
        let starts = &mut self.record.starts;
        core::mem::replace(&mut starts.joint, starts.coming) != starts.coming
    }

    /// Whether it has to be marked before anything is served.
    fn needs_mark(&self, failed: bool) -> bool {
        self.marked != Marked::Yes && matches!(self.found(failed), CopyFound::Whole | CopyFound::Stale)
    }

    /// Chooses the mark if it needs one; it goes with the next record.
    pub(super) fn choose_mark(&mut self, failed: bool, ids: &mut Ids) {
        if !self.needs_mark(failed) || self.marked == Marked::Coming {
            return;
        }
        let id = ids.make();
        if let (CopyFound::Whole, VolumeFound::Open(found)) = (self.found(failed), self.volume) {
            self.record.volume = found.start;
        }
        self.record.volume_coming = Start { number: self.record.generation.number.max(1), id };
        self.marked = Marked::Coming;
    }

    /// At a clean end it is marked once more.
    pub(super) fn choose_end_mark(&mut self, failed: bool, ids: &mut Ids) {
        if self.marked == Marked::Yes {
            self.marked = Marked::Not;
            self.choose_mark(failed, ids);
        }
    }

    /// The record that names the mark is durable: the superblock to be written, if it needs that.
    pub(super) fn to_mark(&self, failed: bool) -> Option<Superblock> {
        let wanted = self.wanted.filter(|_| self.needs_mark(failed) && self.waits_for_mark())?;
        Some(Superblock { start: self.record.volume_coming, ..wanted })
    }

    /// Whether its mark is chosen, and not there.
    pub(super) fn waits_for_mark(&self) -> bool {
        self.marked == Marked::Coming
    }

    /// It has its mark. Whether that is new: it may have been asked for in another meeting, and be there already.
    pub(super) fn has_mark(&mut self) -> bool {
        if !self.waits_for_mark() {
            return false;
        }
        self.record.volume = self.record.volume_coming;
        self.record.volume_coming = Start::default();
        self.marked = Marked::Yes;
        if let Some(wanted) = self.wanted {
            self.volume = VolumeFound::Open(Superblock { start: self.record.volume, ..wanted });
        }
        true
    }

    /// What was answered is being flushed, after the peer was lost: of what generation.
    pub(super) const fn flush_apart(&mut self) -> GenerationTag {
        let as_of = self.record.generation.tag();
        self.flushing = Some(as_of);
        as_of
    }

    /// Such a flush is over. Whether it says something of what is served now.
    pub(super) fn on_flushed(&mut self, as_of: GenerationTag) -> bool {
        self.flushing.take_if(|flushing| *flushing == as_of);
        self.record.generation.tag() == as_of
    }

    pub(super) const fn is_flushing(&self) -> bool {
        self.flushing.is_some()
    }

    /// All it has was on its disk after the peer was lost.
    pub(super) const fn note_flushed(&mut self) {
        self.record.flushed = true;
    }

    pub(super) const fn is_flushed(&self) -> bool {
        self.record.flushed
    }

    /// Has its volume made, once at a time: one that an earlier meeting asked for and that is still being made is
    /// waited for.
    pub(super) fn create(&mut self, failed: bool, meeting: u64) -> Creation {
        let wanted = !self.unmade && self.found(failed) != CopyFound::Whole;
        let Some(superblock) = self.wanted.filter(|_| wanted) else {
            return Creation::Nothing;
        };
        let asked = self.creation.map(|(_, superblock)| superblock);
        self.creation = Some((meeting, asked.unwrap_or(superblock)));
        if asked.is_none() { Creation::Make(superblock) } else { Creation::Waited }
    }

    /// Its volume was made, or could not be. `meeting` is the one under way, `making` whether it goes on without
    /// volumes that cannot be made.
    pub(super) fn on_made(&mut self, result: Result<(), DiskError>, meeting: u64, making: bool) -> Made {
        let Some((asked_in, superblock)) = self.creation.take() else {
            return Made::NotWaitedFor;
        };
        let awaited = asked_in == meeting;
        let silent = result == Err(DiskError::Silent);
        match result {
            // Asked for by an earlier meeting, before the LUN got its size: made anew at the next start.
            Ok(()) if !self.wants(&superblock) => {
                self.unmade = true;
                if awaited { Made::Fails(DiskError::Absent) } else { Made::NotWaitedFor }
            }
            Ok(()) => {
                self.has_made(superblock);
                if awaited { Made::GoesOn } else { Made::NotWaitedFor }
            }
            Err(error) if awaited => {
                self.unmade = true;
                // The two meet again without it, and serve the rest.
                if making { Made::GoesOn } else { Made::Fails(error) }
            }
            // What its disk may still do is not asked for again.
            Err(_) => {
                self.unmade |= silent;
                Made::NotWaitedFor
            }
        }
    }

    /// Its volume, whose making was given up, is there after all. Whether it is of any use.
    pub(super) fn on_made_late(&mut self, superblock: Superblock) -> bool {
        let wants = self.wants(&superblock);
        if wants {
            self.has_made(superblock);
        }
        wants
    }

    fn wants(&self, made: &Superblock) -> bool {
        self.wanted.is_some_and(|wanted| made.is_same_copy(&wanted))
    }

    /// Its volume is there, and new; one that has been in use since is what it is.
    fn has_made(&mut self, superblock: Superblock) {
        self.unmade = false;
        if !matches!(self.volume, VolumeFound::Open(found) if found.is_same_copy(&superblock)) {
            self.volume = VolumeFound::Open(superblock);
        }
    }

    /// Both copies are whole as of a generation, as its LUN says.
    pub(super) const fn note_copied(&mut self, as_of: GenerationTag) {
        self.copied = Some(as_of);
    }

    pub(super) fn is_copied(&self) -> bool {
        self.copied == Some(self.record.generation.tag())
    }

    /// Asserts what always holds.
    pub(super) fn check(&self) {
        let coming = self.record.volume_coming.number > 0;
        assert!(self.marked != Marked::Coming || coming, "a mark that is coming and has no name");
        assert!(self.marked != Marked::Yes || !coming, "a mark that is there and still coming");
        if let Some((_, superblock)) = self.creation {
            assert!(superblock.start.number == 0, "a volume is made that was served");
        }
    }
}

#[cfg(test)]
#[path = "copy_unit_tests.rs"]
pub(super) mod tests;
