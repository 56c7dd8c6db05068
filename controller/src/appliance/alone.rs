//! Going on alone: a main that loses its peer, or starts as the only one its last generation names.
//!
//! 1. The peer is lost: nothing is admitted any more, hosts' commands wait.
//! 2. The peer's lease runs out ([`crate::lease::run_out`]); a controller that has just started waits one lease,
//!    for it cannot know what it granted before.
//! 3. A generation that names the own copy alone is durable.
//! 4. What waited goes on. From here on the peer's copy is no source for anyone.
//!
//! A disk that was given up in the moment the peer was lost never becomes the last one: what it was asked for may
//! still land, over what would be written there since. The LUN says so in the same step in which it is told of the loss.
//! Hosts hear that the LUN is not available, and when the peer comes back its copy serves.
//!
//! If the peer comes back before step 3 and the two agree, they go on together, and so does what waited. If they do not
//! agree, the wait goes on, and so does this main afterwards: a peer that is refused has no part in the LUN. Only if what
//! that peer has may be newer, or is another history, nobody is served. A crash before step 3 leaves the old
//! generation with both copies; no write was answered that only one of them has.

use super::lifecycle::{Event, Order};
use super::{Appliance, Effect, Pending, Phase};
use crate::pair::{Breakage, PairStatus, Role};
use crate::time::Time;
use crate::{group, lease};
use protocol::interlink::standing::CopyFound;

impl Appliance {
    /// Whether this controller goes on alone with a mirrored LUN when it loses its peer now. Not with a copy whose disk
    /// failed while another was whole; the only whole one goes on, and its hosts hear what its disk says.
    pub(super) fn may_go_on(&self, lun: usize) -> bool {
        let group = &self.groups[lun];
        let failed = matches!(group.breakage, Some(Breakage::OwnDisk(error)) if !error.wants_room());
        let only = self.status(lun) == PairStatus::Copy;
        group.stage.has_right(self.facts(lun)) && (only || !failed)
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
            self.on_group(lun, Event::StartsAlone { until: lease::run_out(now) }, effects);
        }
    }

    /// The leases that were granted have run out: name the own copy alone. Not while the two are about to agree: what
    /// this controller has is being looked at. A peer that was met and refused has no part in it.
    pub(super) fn tick_alone(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Apart | Phase::Joined) {
            return;
        }
        let due: Vec<usize> =
            (0..self.groups.len()).filter(|lun| self.waits_until(*lun).is_some_and(|at| now >= at)).collect();
        if due.is_empty() {
            return;
        }
        let own = self.plan.side.index();
        let ticket = self.ticket(Pending::Alone);
        let mut write = false;
        for lun in due {
            let facts = self.facts(lun);
            let (stage, order) = self.groups[lun].stage.on(Event::LeaseOut(ticket.0), facts);
            if order == Order::WriteAlone {
                let id = self.make_id();
                let group = &mut self.groups[lun];
                group.stage = stage;
                group.newest = group::next(group.newest, id, own, 1 << own);
                group.take_on(group.newest);
                write = true;
            }
        }
        if write {
            self.choose_marks_alone(ticket.0);
            self.persist_as(ticket, effects);
        }
    }

    /// When the last lease has run out that this main waits for.
    pub(super) fn waits_until(&self, lun: usize) -> Option<Time> {
        match self.groups[lun].stage {
            super::lifecycle::Stage::WaitingOut { until } => Some(until),
            _ => None,
        }
    }

    /// Whether a generation that names a copy alone is being written, or the marks of a start are: no meeting begins
    /// before they are.
    pub(super) fn is_writing_first(&self) -> bool {
        !self.singles.is_empty()
            || self.is_marking_start()
            || self
                .groups
                .iter()
                .any(|group| matches!(group.stage, super::lifecycle::Stage::GoingAlone { .. }))
    }

    pub(super) fn on_alone_durable(&mut self, ticket: u64, effects: &mut Vec<Effect>) {
        for lun in 0..self.groups.len() {
            self.on_group(lun, Event::AloneDurable(ticket), effects);
        }
        self.meet_now(effects);
    }

    /// What waited for going alone to be written down.
    pub(super) fn meet_now(&mut self, effects: &mut Vec<Effect>) {
        if self.is_writing_first() {
            return;
        }
        self.join_if_complete(effects);
        if let Some(identity) = self.early_identity.take() {
            self.on_identity(identity, effects);
        }
    }
}
