//! Going on alone: a main that loses its peer, or starts as the only one its last generation names.
//!
//! 1. The peer is lost: nothing is admitted any more, hosts' commands wait.
//! 2. The peer's lease runs out ([`crate::lease::run_out`]); a controller that has just started waits one lease,
//!    for it cannot know what it granted before.
//! 3. A generation that names the own copy alone is durable.
//! 4. What waited goes on. From here on the peer's copy is no source for anyone.
//!
//! A disk that was given up in the moment the peer was lost never becomes the last one: what it was asked for may
//! still land, over what would be written there since. Hosts hear that the LUN is not available, and when the peer
//! comes back its copy serves.
//!
//! If the peer comes back before step 3, they meet instead, and what waited goes on then. A crash before step 3
//! leaves the old generation with both copies; no write was answered that only one of them has.

use super::turns::Turn;
use super::{Appliance, Effect, Pending, Phase, Step};
use crate::group;
use crate::lease;
use crate::lun::Breakage;
use crate::status::{PairStatus, Role};
use crate::time::Time;
use protocol::interlink::standing::CopyFound;

impl Appliance {
    /// Whether this controller goes on alone with a mirrored LUN when it loses its peer now: as the main of a
    /// generation that is durable here. In a turn the right stays with the old main until the new generation is
    /// on its disk, and comes to the new one with the word to begin; in between nobody has it.
    pub(super) fn may_go_on(&self, lun: usize) -> bool {
        let group = &self.groups[lun];
        let placed = matches!(self.phase, Phase::Joined | Phase::Agreeing { step: Step::Placed, .. });
        self.plan.luns[lun].mirror
            && placed
            && group.turn.is_none_or(Turn::leaves_the_right_here)
            && self.role(lun) == Role::Main
            && matches!(group.status, PairStatus::Duplex | PairStatus::Copy)
            && !matches!(group.breakage, Some(Breakage::OwnDisk(error)) if !error.wants_room())
    }

    /// A LUN whose only whole copy is here, by a generation on this disk, goes on without its peer.
    pub(super) fn start_alone(&mut self, lun: usize, now: Time, effects: &mut Vec<Effect>) {
        let own = 1 << self.plan.side.index();
        let group = &self.groups[lun];
        let alone = group.generation.number > 0
            && group.generation.members == own
            && self.role(lun) == Role::Main
            && self.copy_found(lun) == CopyFound::Whole;
        if alone && self.plan.luns[lun].mirror {
            self.groups[lun].alone_at = Some(lease::run_out(now));
            effects.push(Effect::LosePeer(lun));
        }
    }

    /// The LUN gave its disk up and said so while the peer was being lost.
    pub(super) fn refuse_instead_of_going_alone(&mut self, lun: usize, effects: &mut Vec<Effect>) {
        if self.groups[lun].alone_at.take().is_some() {
            effects.push(Effect::Suspend(lun));
        }
    }

    /// The leases that were granted have run out: name the own copy alone.
    pub(super) fn tick_alone(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.phase != Phase::Apart || self.ending.begun() {
            return;
        }
        let mut due = Vec::new();
        for lun in 0..self.groups.len() {
            if self.groups[lun].alone_at.is_some_and(|at| now >= at) {
                due.push(lun);
            }
        }
        if due.is_empty() {
            return;
        }
        let own = self.plan.side.index();
        for lun in &due {
            let id = self.make_id();
            let group = &mut self.groups[*lun];
            group.newest = group::next(group.newest, id, own, 1 << own);
            group.take_on(group.newest);
            group.alone_at = None;
        }
        self.alone_pending = true;
        self.persist(Pending::Alone, effects);
        self.going_alone = due;
    }

    pub(super) fn on_alone_durable(&mut self, effects: &mut Vec<Effect>) {
        self.alone_pending = false;
        for lun in core::mem::take(&mut self.going_alone) {
            self.begin(lun, protocol::interlink::standing::Pairing::Out, true, effects);
        }
        self.join_if_complete(effects);
    }
}
