//! All groups of this controller: what is done to each of them, or to the group of a LUN.
//!
//! **Going on alone**, as a main that loses its peer does, or starts as the only one its last generation names:
//!
//! 1. The peer is lost: nothing is admitted any more, hosts' commands wait.
//! 2. The peer's lease runs out ([`crate::lease::run_out`]); a controller that has just started waits one lease,
//!    for it cannot know what it granted before.
//! 3. A generation that names its own copy alone is durable.
//! 4. What waited goes on. From here on the peer's copy is no source for anyone.
//!
//! A disk that was given up in the moment the peer was lost never becomes the last one: what it was asked for may
//! still land, over what would be written there since. The LUN says so in the same step in which it is told of the
//! loss. Hosts hear that the LUN is not available, and when the peer comes back its copy serves.
//!
//! If the peer comes back before step 3 and the two agree, they go on together, and so does what waited. If they do not
//! agree, the wait goes on, and so does this main afterwards: a peer that is refused has no part in the LUN. Only if
//! what that peer has may be newer, or is another history, nobody is served. A crash before step 3 leaves the old
//! generation with both copies; no write was answered that only one of them has.
//!
//! What always holds: every LUN of the plan belongs to exactly one group.

use core::time::Duration;

use protocol::interlink::copy_report::{CopyReport, GroupRecord, Told};

use super::copy::LunCopy;
use super::group::Group;
use super::identities::Identities;
use super::ids::Ids;
use super::lifecycle::Stage;
use super::record::ControlRecord;
use super::restored::Restored;
use crate::pair::{PairStatus, Quiet};
use crate::plan::{Plan, Side};
use crate::time::Time;

/// How often a switch, or a clean end, looks whether nothing is in flight any more.
const SWITCH_POLL: Duration = Duration::from_millis(5);

/// The groups, each known by its place.
#[derive(Debug)]
pub(super) struct Groups {
    each: Vec<Group>,
    /// By LUN the place of its group.
    places: Vec<usize>,
}

/// What the peer is told of every LUN, by name: what this controller has, and what a peer that knows of starts is told
/// beside.
pub(super) type Tells = (Vec<(String, CopyReport)>, Vec<(String, Told)>);

impl Groups {
    /// The groups of the plan, with what was found of them.
    pub(super) fn restored(
        plan: &Plan,
        restored: &Restored,
        record: &ControlRecord,
        identities: &Identities,
    ) -> Self {
        let own = plan.own_name();
        let volumes = restored.volumes_that_count(plan);
        let copy = |lun: usize| {
            let of = &plan.luns[lun];
            let record = record.groups.iter().find(|record| record.lun == of.name);
            let wanted = identities.superblock(&of.name, own);
            let unreadable = restored.shared(own, &of.name).is_err();
            LunCopy::restored(lun, of, record, volumes[lun], wanted, unreadable)
        };
        let luns = plan.groups();
        let group = |luns: &Vec<usize>| {
            Group::restored(plan.side, &plan.luns[luns[0]], luns.iter().map(|lun| copy(*lun)).collect())
        };
        let place = |lun: usize| luns.iter().position(|group| group.contains(&lun)).unwrap_or_default();
        Self { each: luns.iter().map(group).collect(), places: (0..plan.luns.len()).map(place).collect() }
    }

    pub(super) const fn len(&self) -> usize {
        self.each.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.each.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Group> {
        self.each.iter_mut()
    }

    /// The group at a place.
    pub(super) fn at(&self, place: usize) -> &Group {
        &self.each[place]
    }

    /// The same, to be changed.
    pub(super) fn at_mut(&mut self, place: usize) -> &mut Group {
        &mut self.each[place]
    }

    /// The place of a LUN's group.
    pub(super) fn place(&self, lun: usize) -> usize {
        self.places[lun]
    }

    /// A LUN's group.
    pub(super) fn of(&self, lun: usize) -> &Group {
        self.at(self.place(lun))
    }

    /// The same, to be changed.
    pub(super) fn of_mut(&mut self, lun: usize) -> &mut Group {
        self.at_mut(self.place(lun))
    }

    /// What this controller has of a LUN, to be changed.
    pub(super) fn copy_mut(&mut self, lun: usize) -> &mut LunCopy {
        self.of_mut(lun).copies_mut().of_mut(lun)
    }

    fn copies(&self) -> impl Iterator<Item = &LunCopy> {
        self.each.iter().flat_map(|group| group.copies().iter())
    }

    /// Of every LUN the record to be kept, and whether this controller has had a part in it.
    pub(super) fn records(&self) -> Vec<(GroupRecord, bool)> {
        (0..self.places.len()).map(|lun| self.of(lun).copies().of(lun).to_record()).collect()
    }

    /// Whether something of a LUN cannot be read, and must not be written over.
    pub(super) fn is_any_unreadable(&self) -> bool {
        self.copies().any(LunCopy::is_unreadable)
    }

    pub(super) fn is_any_switching(&self) -> bool {
        self.each.iter().any(|group| group.stage().switch().is_some())
    }

    /// Whether any pair is whole.
    pub(super) fn is_any_whole(&self) -> bool {
        self.each.iter().any(|group| group.state().status() == PairStatus::Duplex)
    }

    /// Whether any is served together with the peer.
    pub(super) fn is_any_joint(&self) -> bool {
        self.each.iter().any(|group| group.stage().is_joint())
    }

    /// Whether a generation that names a copy alone is being written.
    pub(super) fn is_any_going_alone(&self) -> bool {
        self.each.iter().any(|group| matches!(group.stage(), Stage::GoingAlone { .. }))
    }

    /// When the next thing comes that hosts wait for: they shall not wait for the next tick as well. `parted`: the two
    /// have just now, and nobody has looked since whether a lease has run out. `drains`: a clean end waits for what is
    /// in flight.
    pub(super) fn next_wake(&self, now: Time, parted: bool, drains: bool) -> Option<Time> {
        let switching = (drains || self.is_any_switching()).then_some(now + SWITCH_POLL);
        let leases = self.each.iter().filter_map(|group| group.stage().waits_until());
        let leases = leases.map(|at| at.max(now)).filter(|at| parted || *at > now);
        switching.into_iter().chain(leases).min()
    }

    /// Whether a group's lease has run out.
    pub(super) fn is_any_lease_out(&self, now: Time) -> bool {
        self.each.iter().any(|group| is_lease_out(group, now))
    }

    /// Those whose leases have run out name their own copies alone, in the record that is written by this ticket.
    pub(super) fn go_alone(&mut self, now: Time, ticket: u64, ids: &mut Ids) {
        for group in self.each.iter_mut().filter(|group| is_lease_out(group, now)) {
            group.go_alone(ticket, ids);
        }
    }

    /// Chooses the marks of the volumes of such groups.
    pub(super) fn choose_marks(&mut self, of: impl Fn(&Group) -> bool, ids: &mut Ids) {
        let those = self.each.iter_mut().filter(|group| of(group));
        those.for_each(|group| group.copies_mut().choose_marks(ids));
    }

    /// Whether nothing is in flight on the groups that an end has closed.
    pub(super) fn are_closed_ones_quiet(&self, quiet: &impl Fn(usize) -> Quiet) -> bool {
        let mut closed = self.each.iter().filter(|group| group.stage().closes());
        closed.all(|group| group.state().quiet(quiet) == Quiet::Yes)
    }

    /// The LUNs that a clean end flushes.
    pub(super) fn to_be_flushed(&self) -> Vec<usize> {
        self.each.iter().flat_map(|group| group.state().to_be_flushed()).collect()
    }

    /// LUNs have an identity, or another than before; `new`: of which of them neither controller knew.
    pub(super) fn identify(&mut self, identities: &Identities, own: &str, new: &[bool]) {
        for copy in self.each.iter_mut().flat_map(|group| group.copies_mut().iter_mut()) {
            let wanted = identities.superblock(copy.name(), own);
            copy.identify(wanted, new[copy.lun()]);
        }
    }

    /// What the peer is told; `starts`: it knows of starts.
    pub(super) fn tell(&mut self, starts: bool) -> Tells {
        let (mut reports, mut told) = (Vec::new(), Vec::new());
        for lun in 0..self.places.len() {
            let group = self.of_mut(lun);
            let common = group.state().common(lun);
            let copy = group.copies_mut().of_mut(lun);
            let name = copy.name().to_owned();
            reports.push((name.clone(), copy.tell(common, starts)));
            told.push((name, copy.told_beside(common)));
        }
        (reports, told)
    }

    /// What both agreed on is about to be written down; `starts`: the peer knows of starts.
    pub(super) fn take_on_agreed(&mut self, starts: bool) {
        self.each.iter_mut().for_each(|group| group.copies_mut().take_on_agreed(starts));
    }

    /// The generation of all groups that were agreed on is durable on both; or, if a main is given, of those that are
    /// its. Whether that is new of any.
    pub(super) fn know_as_joint(&mut self, main: Option<Side>) -> bool {
        let mut news = false;
        let told =
            |group: &&mut Group| main.is_none_or(|side| group.copies().generation().main == side as u8);
        self.each.iter_mut().filter(told).for_each(|group| news |= group.know_as_joint());
        news
    }

    /// Asserts what always holds.
    pub(super) fn check(&self) {
        for (at, group) in self.each.iter().enumerate() {
            group.check();
            assert!(group.copies().iter().all(|copy| self.place(copy.lun()) == at), "a LUN of two groups");
        }
    }
}

fn is_lease_out(group: &Group, now: Time) -> bool {
    group.stage().waits_until().is_some_and(|at| now >= at)
}
