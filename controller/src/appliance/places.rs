//! Each LUN's place in the pair: taken when the two agree, given up when they lose each other.

use protocol::interlink::GenerationTag;
use protocol::interlink::frame::VERSION_MAX;
use protocol::interlink::hello::Purpose;
use protocol::interlink::standing::{CopyFound, Pairing, Standing};

use super::lifecycle::{Event, Facts, Order, Stage};
use super::refilling::Refilling;
use super::{Apart, Appliance, Effect, Pending, Phase};
use crate::disk::DiskError;
use crate::group::Refusal;
use crate::lease;
use crate::pair::{Breakage, PairStatus, PairView, Role, Service};
use crate::volume::superblock::{Owner, Superblock, VolumeFound};

impl Appliance {
    /// Closes every connection and stops serving what needs the peer.
    pub(super) fn lose(&mut self, apart: Apart, effects: &mut Vec<Effect>) {
        for link in core::mem::take(&mut self.links).into_keys() {
            effects.push(Effect::Close(link));
        }
        let right: Vec<bool> = (0..self.groups.len()).map(|lun| self.may_go_on(lun)).collect();
        self.peer = None;
        self.phase = Phase::Apart;
        self.meeting += 1;
        self.meeting_since = None;
        self.early = None;
        self.early_identity = None;
        self.early_words.clear();
        let ended_cleanly = self.ending.farewell && matches!(apart, Apart::Lost(_));
        if !ended_cleanly && self.apart != Apart::Stopping && !self.is_unusable() {
            self.apart = apart;
        }
        let until = lease::run_out(self.granted);
        self.lease.end();
        for (lun, right) in right.into_iter().enumerate() {
            (self.groups[lun].agreed, self.groups[lun].told) = (None, None);
            self.on_group(lun, Event::Lost { right, until }, effects);
        }
        self.ending.on_lost();
    }

    /// An event of a group: its stage changes, and its LUN is told.
    pub(super) fn on_group(&mut self, lun: usize, event: Event, effects: &mut Vec<Effect>) {
        let before = self.status(lun);
        let (stage, order) = self.groups[lun].stage.on(event, self.facts(lun));
        self.groups[lun].stage = stage;
        match order {
            // What is written down is gathered by whoever brings the event.
            Order::Nothing | Order::WriteAlone => {}
            Order::LosePeer => effects.push(Effect::LosePeer(lun)),
            Order::PeerGone => effects.push(Effect::PeerGone(lun)),
            Order::Suspend => {
                self.flush_apart(lun, before, effects);
                effects.push(Effect::Suspend(lun));
            }
            Order::Place(pairing) => self.begin(lun, pairing, false, effects),
            Order::Begin(pairing) => self.begin(lun, pairing, true, effects),
            Order::PlaceClosed(pairing) => {
                self.begin(lun, pairing, false, effects);
                effects.push(Effect::CloseLun(lun));
            }
            Order::Open => effects.push(Effect::Open(lun)),
            Order::Hold => effects.push(Effect::Hold(lun)),
            Order::Close => effects.push(Effect::CloseLun(lun)),
            Order::Copied => {
                self.groups[lun].refilling = Refilling::default();
                effects.push(Effect::Copied(lun));
            }
        }
    }

    /// What the stages' transitions look at.
    pub(super) fn facts(&self, lun: usize) -> Facts {
        Facts { role: self.role(lun), mirror: self.plan.luns[lun].mirror, ending: self.ending.whose() }
    }

    fn view(&self, lun: usize) -> (PairStatus, Service) {
        self.groups[lun].stage.view(self.role(lun), self.plan.luns[lun].mirror)
    }

    /// The pair's status.
    pub(super) fn status(&self, lun: usize) -> PairStatus {
        self.view(lun).0
    }

    /// How hosts are served here.
    pub(super) fn service(&self, lun: usize) -> Service {
        self.view(lun).1
    }

    /// A whole copy without its peer gets everything onto its disk and notes that: it stays a source although this
    /// controller be restarted before the other, which may have lost its memory, is back.
    fn flush_apart(&mut self, lun: usize, before: PairStatus, effects: &mut Vec<Effect>) {
        if before == PairStatus::Duplex && self.copy_found(lun) == CopyFound::Whole {
            let as_of = self.groups[lun].generation.tag();
            self.groups[lun].flushing = Some(as_of);
            let ticket = self.ticket(Pending::FlushApart(lun, as_of));
            effects.push(Effect::Flush(lun, ticket));
        }
    }

    /// The flush is over, however many connections came to nothing meanwhile. It says nothing of what is served under
    /// another generation.
    pub(super) fn on_flushed_apart(
        &mut self,
        lun: usize,
        as_of: GenerationTag,
        good: bool,
        effects: &mut Vec<Effect>,
    ) {
        let group = &mut self.groups[lun];
        if group.flushing == Some(as_of) {
            group.flushing = None;
        }
        if group.stage != Stage::Apart || group.generation.tag() != as_of {
            return;
        }
        let name = self.plan.names[self.plan.side.index()].clone();
        let awaited = group.refusal == Some(Refusal::Unsettled(name.clone()));
        if good {
            group.flushed = true;
            self.persist(Pending::Noted, effects);
            if awaited {
                self.meet_again_settled(effects);
            }
            return;
        }
        // What was answered and not flushed before may be gone from this copy: it is no better than one whose controller
        // has lost its memory. Where the two are just meeting, the peer has been told otherwise.
        group.kept = false;
        if self.peer.is_some() && (awaited || self.phase != Phase::Joined) {
            self.lose(Apart::Failed(name), effects);
        }
    }

    /// A LUN was refused for what this copy's disk had not flushed, and that has come back.
    pub(super) fn meet_again_settled(&mut self, effects: &mut Vec<Effect>) {
        if self.peer.is_some() {
            self.lose(Apart::Answers(self.plan.names[self.plan.side.index()].clone()), effects);
        }
    }

    /// Takes the place in the pair that the group's generation gives.
    pub(super) fn begin(&mut self, lun: usize, pairing: Pairing, open: bool, effects: &mut Vec<Effect>) {
        let blocks = self.lun_identity(lun).map_or(0, |identity| identity.blocks);
        let role = self.role(lun);
        let (status, service) = self.view(lun);
        let group = &mut self.groups[lun];
        group.kept = true;
        group.untouched = false;
        group.known = true;
        // The peer's copy is back.
        group.breakage.take_if(|breakage| *breakage == Breakage::PeerDisk && pairing != Pairing::Out);
        // The only whole copy and one that is refilled try again: a disk that found no room may have some. Nor is the only
        // whole copy a failed one: its hosts hear what its disk says.
        let only = pairing == Pairing::Out && role == Role::Main;
        let forgotten = |error: DiskError| match error {
            DiskError::Silent => false,
            error if error.wants_room() => only || pairing == Pairing::Copy,
            _ => only,
        };
        group.breakage.take_if(|breakage| matches!(breakage, Breakage::OwnDisk(error) if forgotten(*error)));
        // Connections of a peer that was not met yet, or has no part in it, are nothing to this LUN.
        let met = self.phase != Phase::Apart && group.stage != Stage::Alone;
        let links = self
            .links
            .iter()
            .filter(|(_, link)| met && matches!(link.purpose, Some(Purpose::Bridge(_))))
            .map(|(link, _)| *link)
            .collect();
        let generation = group.generation.tag();
        let version = self.peer.as_ref().map_or(VERSION_MAX, |peer| peer.version);
        let view = PairView { role, status, service, generation, links, version };
        effects.push(Effect::Begin { lun, view, blocks, open });
    }

    pub(super) fn role(&self, lun: usize) -> Role {
        let group = &self.groups[lun];
        let main = if group.generation.number == 0 {
            self.plan.luns[lun].main.index()
        } else {
            usize::from(group.generation.main)
        };
        if main == self.plan.side.index() { Role::Main } else { Role::Sub }
    }

    pub(super) fn superblock(&self, lun: usize) -> Option<Superblock> {
        let identity = self.lun_identity(lun)?;
        let owner = Owner::of(&self.plan.names[self.plan.side.index()]);
        Some(Superblock::new(self.identity.appliance, identity.volume, identity.blocks, owner))
    }

    pub(super) fn copy_found(&self, lun: usize) -> CopyFound {
        if self.groups[lun].unreadable {
            return CopyFound::Unreadable;
        }
        if self.groups[lun].unmade {
            return CopyFound::Failed;
        }
        // One that found no room has all that was acknowledged while it was in the pair, and can be refilled.
        if matches!(self.groups[lun].breakage, Some(Breakage::OwnDisk(error)) if !error.wants_room()) {
            return CopyFound::Failed;
        }
        // A device that is gone, or cannot hold the LUN, is not made by us.
        let blocks = self.lun_identity(lun).map_or(0, |identity| identity.blocks);
        let too_small = self.plan.luns[lun].room.is_some_and(|room| room < blocks);
        match self.groups[lun].volume {
            VolumeFound::Missing | VolumeFound::Blank if too_small => CopyFound::Failed,
            VolumeFound::Missing => CopyFound::Missing,
            VolumeFound::Blank => CopyFound::Blank,
            VolumeFound::Open(found) => self.copy_of(lun, &found),
            VolumeFound::Foreign => CopyFound::Foreign,
            VolumeFound::Silent => CopyFound::Failed,
        }
    }

    fn copy_of(&self, lun: usize, found: &Superblock) -> CopyFound {
        let Some(own) = self.superblock(lun) else {
            return CopyFound::Foreign;
        };
        if found.is_same_copy(&own) {
            let current = self.groups[lun].expects(found.start);
            return if current { CopyFound::Whole } else { CopyFound::Stale };
        }
        let others = Superblock { owner: own.owner, ..*found };
        if others.is_same_copy(&own) { CopyFound::Others } else { CopyFound::Foreign }
    }

    pub(super) fn own_standing(&self, lun: usize) -> Standing {
        let group = &self.groups[lun];
        let told = self.peer_knows_starts();
        let copy = match self.copy_found(lun) {
            CopyFound::Whole if group.kept && group.flushing == Some(group.generation.tag()) => {
                CopyFound::Unsettled
            }
            other => other,
        };
        Standing {
            generation: group.generation,
            clean: group.clean || group.untouched,
            kept: group.kept || group.flushed,
            copy: if told { copy } else { copy.in_version_1() },
            known: group.known,
            device: self.plan.luns[lun].device,
            starts: told.then_some(group.starts),
            may_go_on: told && group.stage.goes_on(),
            remembers: told && group.kept,
        }
    }
}
