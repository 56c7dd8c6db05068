//! What this controller has of all LUNs of a group, and what is broken about it. A disk that fails takes the copies of
//! the whole group out of the pair: hosts that use several LUNs together find them together.
//!
//! What always holds: there is at least one LUN; a disk that was given up is forgotten only when no mark is waited for
//! any more ([`Copies::on_marked`]), or when what it holds is copied anew.

use protocol::interlink::GenerationTag;
use protocol::interlink::copy_report::{CopyFound, Generation, Pairing};

use super::copy::{Common, LunCopy};
use super::creation::Creation;
use super::ids::Ids;
use crate::disk::DiskError;
use crate::pair::PairFault;
use crate::plan::Side;
use crate::volume::superblock::Superblock;

/// The local disk may still write what nobody waits for any more.
pub(super) const GIVEN_UP: PairFault = PairFault::OwnDisk(DiskError::Silent);

/// The copies of a group's LUNs on this controller.
#[derive(Debug)]
pub(super) struct Copies {
    /// In the order of the plan. Never empty.
    each: Vec<LunCopy>,
    breakage: Option<PairFault>,
}

impl Copies {
    pub(super) const fn new(each: Vec<LunCopy>) -> Self {
        Self { each, breakage: None }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &LunCopy> {
        self.each.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut LunCopy> {
        self.each.iter_mut()
    }

    /// That of a LUN of the group.
    pub(super) fn of(&self, lun: usize) -> &LunCopy {
        self.each.iter().find(|copy| copy.lun() == lun).unwrap_or(&self.each[0])
    }

    /// The same, to be changed.
    pub(super) fn of_mut(&mut self, lun: usize) -> &mut LunCopy {
        let at = self.each.iter().position(|copy| copy.lun() == lun).unwrap_or(0);
        &mut self.each[at]
    }

    /// The LUN by whose number the two speak of the group.
    pub(super) fn first_lun(&self) -> usize {
        self.each[0].lun()
    }

    /// The generation they are at. LUNs that were groups of their own until the files joined them have different ones
    /// until the two have agreed: then it is the newest.
    pub(super) fn generation(&self) -> Generation {
        let mut newest = self.each[0].generation();
        for copy in &self.each[1..] {
            if copy.generation().number > newest.number {
                newest = copy.generation();
            }
        }
        newest
    }

    /// Whether all are at one generation. What each was at before may differ.
    pub(super) fn are_one(&self) -> bool {
        let told = |generation: Generation| (generation.tag(), generation.main, generation.members);
        let first = told(self.each[0].generation());
        self.each.iter().all(|copy| told(copy.generation()) == first)
    }

    /// What is broken.
    pub(super) const fn breakage(&self) -> Option<PairFault> {
        self.breakage
    }

    pub(super) const fn break_by(&mut self, breakage: PairFault) {
        self.breakage = Some(breakage);
    }

    /// The peer says that its copy leaves, and why is not known here.
    pub(super) fn peer_leaves(&mut self) {
        self.breakage.get_or_insert(PairFault::PeerDisk);
    }

    /// Whether a disk here has failed or is full.
    pub(super) const fn are_broken(&self) -> bool {
        matches!(self.breakage, Some(PairFault::OwnDisk(_)))
    }

    /// Whether a disk here has failed. A copy that found no room has all that was acknowledged while it was in the
    /// pair, and can be refilled.
    pub(super) fn have_failed(&self) -> bool {
        matches!(self.breakage, Some(PairFault::OwnDisk(error)) if !error.wants_room())
    }

    /// What was found of a LUN's volume.
    pub(super) fn found(&self, lun: usize) -> CopyFound {
        self.of(lun).found(self.have_failed())
    }

    /// Whether every copy is whole.
    pub(super) fn are_whole(&self) -> bool {
        let failed = self.have_failed();
        self.each.iter().all(|copy| copy.found(failed) == CopyFound::Whole)
    }

    /// The LUNs whose copies are whole.
    pub(super) fn whole(&self) -> Vec<usize> {
        let failed = self.have_failed();
        let whole = self.each.iter().filter(|copy| copy.found(failed) == CopyFound::Whole);
        whole.map(LunCopy::lun).collect()
    }

    /// Whether all are at one generation under which this side is main, and whole.
    pub(super) fn are_whole_at_main(&self, side: Side) -> bool {
        let generation = self.generation();
        let main = generation.number > 0 && usize::from(generation.main) == side.index();
        main && self.are_one() && self.are_whole()
    }

    /// What all have in common when the peer is told of one. Of LUNs that were not in one group before, each has its
    /// own past: that one of them was not flushed says nothing of what another has. `kept`: this incarnation has served
    /// under the generation or the one before it.
    pub(super) fn common(&self, lun: usize, side: Side, kept: bool, may_go_on: bool) -> Common {
        let one = self.are_one();
        let all = |of: fn(&LunCopy) -> bool| self.each.iter().filter(|copy| one || copy.lun() == lun).all(of);
        Common {
            clean: all(LunCopy::is_clean),
            kept,
            member: self.of(lun).generation().has_member(side as u8),
            flushed: all(LunCopy::is_flushed),
            may_go_on,
            failed: self.have_failed(),
        }
    }

    /// They take their place in the pair.
    pub(super) fn begin(&mut self, pairing: Pairing, is_main: bool) {
        self.each.iter_mut().for_each(LunCopy::begin);
        // The peer's copy is back.
        self.breakage.take_if(|breakage| *breakage == PairFault::PeerDisk && pairing != Pairing::Out);
        // The only whole copy and one that is refilled try again: a disk that found no room may have some. Nor is the
        // only whole copy a failed one: its hosts hear what its disk says.
        let only = pairing == Pairing::Out && is_main;
        let forgotten = |error: DiskError| match error {
            DiskError::Silent => false,
            error if error.wants_room() => only || pairing == Pairing::Copy,
            _ => only,
        };
        self.breakage.take_if(|breakage| matches!(breakage, PairFault::OwnDisk(error) if forgotten(*error)));
    }

    /// The generation to be written down next.
    /// `flushed`: what they have is on their disks, and stays as it is.
    pub(super) fn take_on(&mut self, generation: Generation, flushed: bool) {
        self.each.iter_mut().for_each(|copy| copy.take_on(generation, flushed));
    }

    /// What was taken on came to nothing.
    pub(super) fn take_back(&mut self, ids: &mut Ids) {
        let id = ids.make();
        self.each.iter_mut().for_each(|copy| copy.take_back(id));
    }

    /// What both agreed on is about to be written down; `starts`: the peer knows of starts.
    pub(super) fn take_on_agreed(&mut self, starts: bool) {
        self.each.iter_mut().for_each(|copy| copy.take_on_agreed(starts));
    }

    /// The peer has the generation durable, too. Whether that is new.
    pub(super) fn know_as_joint(&mut self) -> bool {
        let mut news = false;
        self.each.iter_mut().for_each(|copy| news |= copy.know_as_joint());
        news
    }

    /// Whole copies are to be flushed: which, and of what generation.
    pub(super) fn flush_apart(&mut self) -> Vec<(usize, GenerationTag)> {
        let failed = self.have_failed();
        let whole = |copy: &&mut LunCopy| copy.found(failed) == CopyFound::Whole;
        self.each.iter_mut().filter(whole).map(|copy| (copy.lun(), copy.flush_apart())).collect()
    }

    /// Whether nothing is being flushed that was asked for when the peer was lost.
    pub(super) fn are_settled(&self) -> bool {
        !self.each.iter().any(LunCopy::is_flushing)
    }

    /// Chooses the marks of volumes that need one; they go with the next record.
    pub(super) fn choose_marks(&mut self, ids: &mut Ids) {
        let failed = self.have_failed();
        self.each.iter_mut().for_each(|copy| copy.choose_mark(failed, ids));
    }

    /// The same when this controller starts: of whole copies only. Whether there are any.
    pub(super) fn choose_start_marks(&mut self, ids: &mut Ids) -> bool {
        let failed = self.have_failed();
        let mut any = false;
        for copy in self.each.iter_mut().filter(|copy| copy.found(failed) == CopyFound::Whole) {
            copy.choose_mark(failed, ids);
            any = true;
        }
        any
    }

    /// The same at a clean end, of what was served.
    pub(super) fn choose_end_marks(&mut self, ids: &mut Ids) {
        let failed = self.have_failed();
        self.each.iter_mut().for_each(|copy| copy.choose_end_mark(failed, ids));
    }

    /// The record that names the marks is durable: the superblocks to be written.
    pub(super) fn to_mark(&self) -> Vec<(usize, Superblock)> {
        let failed = self.have_failed();
        self.each.iter().filter_map(|copy| Some((copy.lun(), copy.to_mark(failed)?))).collect()
    }

    /// The mark of a LUN's volume is there, or its disk did not take it. True unless it did not.
    pub(super) fn on_marked(&mut self, lun: usize, result: Result<(), DiskError>) -> bool {
        match result {
            Ok(()) => {
                // Its disk was given up for an earlier try.
                if self.of_mut(lun).has_mark() && self.none_waits() {
                    self.breakage.take_if(|breakage| *breakage == PairFault::OwnDisk(DiskError::Silent));
                }
            }
            Err(error) => self.fail_to_be_marked(error),
        }
        result.is_ok()
    }

    fn none_waits(&self) -> bool {
        !self.each.iter().any(LunCopy::waits_for_mark)
    }

    /// A disk did not take the mark. Whatever the reason: without it the copy is not told from an older one.
    fn fail_to_be_marked(&mut self, error: DiskError) {
        let error = if error.wants_room() { DiskError::Io } else { error };
        if !matches!(self.breakage, Some(PairFault::OwnDisk(known)) if !known.wants_room()) {
            self.breakage = Some(PairFault::OwnDisk(error));
        }
    }

    /// A disk has taken a mark after all, when the copy was given up for that. Whether it was.
    pub(super) fn on_late_mark(&mut self, lun: usize) -> bool {
        let waits = self.of(lun).waits_for_mark() && self.breakage == Some(GIVEN_UP);
        if waits {
            self.of_mut(lun).has_mark();
            if self.none_waits() {
                self.breakage = None;
            }
        }
        waits
    }

    /// Has a LUN's volume made, once at a time, for this meeting.
    pub(super) fn create(&mut self, lun: usize, meeting: u64) -> Creation {
        let failed = self.have_failed();
        self.of_mut(lun).create(failed, meeting)
    }

    /// Asserts what always holds.
    pub(super) fn check(&self) {
        assert!(!self.each.is_empty(), "a group without a LUN");
        self.each.iter().for_each(LunCopy::check);
    }
}

#[cfg(test)]
#[path = "copies_tests.rs"]
mod tests;
