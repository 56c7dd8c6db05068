//! What one controller knows of a LUN's group: its generation, its copy, and where it is in its life.

use protocol::interlink::GenerationTag;
use protocol::interlink::standing::{Generation, GroupRecord, Standing, Start, Starts};

use super::lifecycle::Stage;
use super::refilling::Refilling;
use super::starts::Marked;
use crate::disk::DiskError;
use crate::group::Refusal;
use crate::pair::Breakage;
use crate::volume::superblock::{Superblock, VolumeFound};

/// What is known of one LUN's group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) generation: Generation,
    pub(super) clean: bool,
    /// It was clean, and nothing was served since, whatever was written down: a meeting that came to nothing.
    pub(super) untouched: bool,
    /// The own copy was flushed after the peer was lost: it has everything that was acknowledged.
    pub(super) flushed: bool,
    /// That flush is under way, of what was served under this generation.
    pub(super) flushing: Option<GenerationTag>,
    /// This incarnation has served under `generation` or the one before it.
    pub(super) kept: bool,
    /// This controller has had a part in the LUN: what it only learnt of from its peer it does not keep.
    pub(super) known: bool,
    pub(super) volume: VolumeFound,
    /// What its superblock says, and what it may say already.
    pub(super) volume_start: Start,
    pub(super) volume_coming: Start,
    pub(super) marked: Marked,
    pub(super) starts: Starts,
    /// What is kept of the LUN beside its volume cannot be read: it is refused, and nothing is written over it.
    pub(super) unreadable: bool,
    pub(super) refusal: Option<Refusal>,
    pub(super) breakage: Option<Breakage>,
    /// Its volume could not be made in this run.
    pub(super) unmade: bool,
    /// Where it is in its life; status and service follow from it.
    pub(super) stage: Stage,
    /// The newest generation this controller ever proposed or was told of.
    pub(super) newest: Generation,
    pub(super) refilling: Refilling,
    /// Agreed on in this meeting, to be written down when the volumes are there.
    pub(super) agreed: Option<Generation>,
    /// Its volume is being made, for this meeting.
    pub(super) creation: Option<(u64, Superblock)>,
    /// What the peer was told of it in this meeting.
    pub(super) told: Option<Standing>,
}

impl Group {
    /// What a record says, and what was found of the volume; nothing has happened yet.
    pub(super) fn restored(record: Option<&GroupRecord>, volume: VolumeFound) -> Self {
        Self {
            generation: record.map(|record| record.generation).unwrap_or_default(),
            clean: record.is_some_and(|record| record.clean),
            flushed: record.is_some_and(|record| record.flushed),
            kept: false,
            flushing: None,
            untouched: false,
            known: false,
            volume,
            volume_start: record.map(|record| record.volume).unwrap_or_default(),
            volume_coming: record.map(|record| record.volume_coming).unwrap_or_default(),
            marked: Marked::Not,
            starts: record.map(|record| record.starts).unwrap_or_default(),
            unreadable: false,
            refusal: None,
            breakage: None,
            unmade: false,
            stage: Stage::Apart,
            newest: record.map(|record| record.generation).unwrap_or_default(),
            refilling: Refilling::default(),
            agreed: None,
            creation: None,
            told: None,
        }
    }

    /// Whether the record takes a superblock that says this for its own.
    pub(super) fn expects(&self, start: Start) -> bool {
        start == self.volume_start || (self.volume_coming.number > 0 && start == self.volume_coming)
    }

    /// Whether it has a part in the meeting under way, and is not served yet.
    pub(super) fn is_agreed(&self) -> bool {
        matches!(self.stage, Stage::Agreed { .. } | Stage::Placed(_))
    }

    /// Its volume's disk did not take the mark. Whatever the reason: without it the copy is not told from an older one.
    pub(super) fn fail_to_be_marked(&mut self, error: DiskError) {
        let error = if error.wants_room() { DiskError::Io } else { error };
        if !matches!(self.breakage, Some(Breakage::OwnDisk(known)) if !known.wants_room()) {
            self.breakage = Some(Breakage::OwnDisk(error));
        }
    }

    /// What the peer knows as joint was coming here: it has begun.
    pub(super) fn hear(&mut self, theirs: Starts) {
        if theirs.joint.number > 0 && theirs.joint == self.starts.coming {
            self.starts.joint = theirs.joint;
        }
    }

    /// Its volume is there, and new; one that has been in use since is what it is.
    pub(super) fn has_made(&mut self, superblock: Superblock) {
        self.unmade = false;
        if !matches!(self.volume, VolumeFound::Open(found) if found.is_same_copy(&superblock)) {
            self.volume = VolumeFound::Open(superblock);
        }
    }

    /// The generation to be written down next, under which something may be served then.
    pub(super) fn take_on(&mut self, generation: Generation) {
        self.generation = generation;
        self.untouched |= self.clean;
        self.clean = false;
        self.flushed = false;
    }
}
