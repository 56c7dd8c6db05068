//! Each LUN's place in the pair: taken when the two agree, given up when they lose each other.

use protocol::interlink::hello::Purpose;
use protocol::interlink::standing::{CopyFound, Generation, Pairing, Standing};

use super::{Apart, Appliance, Effect, Group, Pending, Phase};
use crate::lease;
use crate::lun::{self, Breakage};
use crate::route::Service;
use crate::status::{PairStatus, Role};
use crate::volume::superblock::{Superblock, VolumeFound};

impl Group {
    /// The generation to be written down next, under which something may be served then.
    pub(super) fn take_on(&mut self, generation: Generation) {
        self.generation = generation;
        self.clean = false;
        self.flushed = false;
    }
}

impl Appliance {
    /// Closes every connection and stops serving what needs the peer.
    pub(super) fn lose(&mut self, apart: Apart, effects: &mut Vec<Effect>) {
        for link in core::mem::take(&mut self.links).into_keys() {
            effects.push(Effect::Close(link));
        }
        let goes_on: Vec<bool> = (0..self.groups.len()).map(|lun| self.may_go_on(lun)).collect();
        self.peer = None;
        self.phase = Phase::Apart;
        self.meeting += 1;
        self.meeting_since = None;
        self.early = None;
        let ended_cleanly = self.ending.farewell && matches!(apart, Apart::Lost(_));
        if !ended_cleanly && self.apart != Apart::Stopping {
            self.apart = apart;
        }
        self.ending.on_lost();
        self.lease.end();
        for (lun, goes_on) in goes_on.into_iter().enumerate() {
            let group = &mut self.groups[lun];
            group.agreed = None;
            // In a turn that would have let the peer's copy be refilled nothing is known of the generation it has.
            let turning = group.turn.take().is_some();
            let alone = self.serves_alone(lun);
            if alone && !turning {
                effects.push(Effect::PeerGone(lun));
            } else if goes_on || alone {
                self.groups[lun].status = PairStatus::Suspended;
                self.groups[lun].service = Service::Refused;
                self.groups[lun].alone_at = Some(lease::run_out(self.granted));
                effects.push(Effect::LosePeer(lun));
            } else if self.groups[lun].alone_at.is_none() {
                self.flush_apart(lun, effects);
                self.groups[lun].status = PairStatus::Suspended;
                self.groups[lun].service = Service::Refused;
                effects.push(Effect::Suspend(lun));
            }
        }
    }

    /// A whole copy without its peer gets everything onto its disk and notes that: it stays a source although this
    /// controller be restarted before the other, which may have lost its memory, is back.
    fn flush_apart(&mut self, lun: usize, effects: &mut Vec<Effect>) {
        if self.groups[lun].status == PairStatus::Duplex && self.copy_found(lun) == CopyFound::Whole {
            let ticket = self.ticket(Pending::FlushApart(lun));
            effects.push(Effect::Flush(lun, ticket));
        }
    }

    pub(super) fn on_flushed_apart(&mut self, lun: usize, good: bool, effects: &mut Vec<Effect>) {
        // When the two are about to meet, the next record is that of what they agree on.
        if good && self.phase == Phase::Apart {
            self.groups[lun].flushed = true;
            self.persist(Pending::Noted, effects);
        }
    }

    /// A LUN whose only whole copy is here, being served.
    pub(super) fn serves_alone(&self, lun: usize) -> bool {
        let group = &self.groups[lun];
        self.role(lun) == Role::Main && group.service == Service::Alone
    }

    /// Takes the place in the pair that the group's generation gives.
    pub(super) fn begin(&mut self, lun: usize, pairing: Pairing, open: bool, effects: &mut Vec<Effect>) {
        let blocks = self.lun_identity(lun).map_or(0, |identity| identity.blocks);
        let mirror = self.plan.luns[lun].mirror;
        let role = self.role(lun);
        let group = &mut self.groups[lun];
        (group.status, group.service) = match (mirror, pairing, role) {
            (false, _, Role::Main) => (PairStatus::Simplex, Service::Alone),
            (false, _, Role::Sub) => (PairStatus::Simplex, Service::Forwarded),
            (true, Pairing::Whole, _) => (PairStatus::Duplex, Service::Mirrored),
            (true, Pairing::Copy, Role::Main) => (PairStatus::Copy, Service::Mirrored),
            (true, Pairing::Copy, Role::Sub) => (PairStatus::Copy, Service::Forwarded),
            (true, Pairing::Out, Role::Main) => (PairStatus::Suspended, Service::Alone),
            (true, Pairing::Out, Role::Sub) => (PairStatus::Suspended, Service::Forwarded),
        };
        group.kept = true;
        group.known = true;
        group.alone_at = None;
        // The peer's copy is back.
        group.breakage.take_if(|breakage| *breakage == Breakage::PeerDisk && pairing != Pairing::Out);
        // The only whole copy and one that is refilled try again: a disk that found no room may have some.
        let tries = pairing == Pairing::Copy || (pairing == Pairing::Out && role == Role::Main);
        group
            .breakage
            .take_if(|breakage| tries && matches!(breakage, Breakage::OwnDisk(error) if error.wants_room()));
        // Connections of a peer that was not met yet are nothing to this LUN.
        let met = self.phase != Phase::Apart;
        let links = self
            .links
            .iter()
            .filter(|(_, link)| met && matches!(link.purpose, Some(Purpose::Bridge(_))))
            .map(|(link, _)| *link)
            .collect();
        let standing = lun::Standing {
            role,
            status: group.status,
            service: group.service,
            generation: group.generation.tag(),
            links,
        };
        effects.push(Effect::Begin { lun, standing, blocks, open });
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
        Some(Superblock {
            appliance: self.identity.appliance,
            volume: identity.volume,
            blocks: identity.blocks,
        })
    }

    pub(super) fn copy_found(&self, lun: usize) -> CopyFound {
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
            VolumeFound::Open(found) if Some(found) == self.superblock(lun) => CopyFound::Whole,
            VolumeFound::Open(_) | VolumeFound::Foreign => CopyFound::Foreign,
        }
    }

    pub(super) fn own_standing(&self, lun: usize) -> Standing {
        let group = &self.groups[lun];
        Standing {
            generation: group.generation,
            clean: group.clean,
            kept: group.kept || group.flushed,
            copy: self.copy_found(lun),
            known: group.known,
            device: self.plan.luns[lun].device,
        }
    }
}
