//! The terms on which commands are carried out on a copy: its place in the pair, and what hosts have set of the unit.
//! What follows from them for a command is asked here, and nowhere else made out of the parts.
//!
//! What always holds: who takes another place in the pair knows nothing any more of what went with the last one.

use crate::pair::{PairStatus, PairView, Role, Service};

/// What becomes of a change that the local copy has and the peer's may lack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// What the local copy has is kept.
    Good,
    /// It is decided with the pair.
    Undecided,
    /// Nobody can know.
    Unknown,
}

/// The terms at present.
#[derive(Debug)]
pub(in crate::lun) struct Terms {
    view: PairView,
    /// The peer has its place in the pair too: before that it would not know a message of this generation.
    peer_in_place: bool,
    /// A change may be answered before it is durable.
    caches: bool,
    /// START STOP UNIT has stopped the unit.
    stopped: bool,
    /// The peer's copy is about to leave the pair.
    last_copy: bool,
    /// Capacity in logical blocks.
    capacity: u64,
}

impl Terms {
    /// Of a LUN that serves nothing yet.
    pub(super) const fn new(caches: bool, capacity: u64) -> Self {
        let view = PairView::suspended(Role::Sub);
        Self { view, peer_in_place: false, caches, stopped: false, last_copy: false, capacity }
    }

    /// The place in the pair, as the group has decided on it.
    pub(in crate::lun) const fn view(&self) -> &PairView {
        &self.view
    }

    /// Whether changes may be answered before they are durable.
    pub(in crate::lun) const fn caches(&self) -> bool {
        self.caches
    }

    /// The same, from now on.
    pub(in crate::lun) const fn set_caches(&mut self, caches: bool) {
        self.caches = caches;
    }

    /// Capacity in logical blocks.
    pub(super) const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The LUN has so many blocks.
    pub(in crate::lun) const fn resize(&mut self, capacity: u64) {
        self.capacity = capacity;
    }

    /// Whether START STOP UNIT has stopped the unit.
    pub(in crate::lun) const fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// START STOP UNIT has been carried out.
    pub(in crate::lun) const fn on_start_stop(&mut self, start: bool) {
        self.stopped = !start;
    }

    /// The peer's copy is about to leave the pair: from now on the local disk is waited for. A write that is given up
    /// could still land over a later one, in the only copy left.
    pub(in crate::lun) const fn stay_as_last_copy(&mut self) {
        self.last_copy = true;
    }

    /// The peer has its place, or has sent something of this generation, which says the same.
    pub(in crate::lun) const fn peer_is_in_place(&mut self) {
        self.peer_in_place = true;
    }

    /// Whether it has.
    pub(in crate::lun) const fn has_peer_in_place(&self) -> bool {
        self.peer_in_place
    }

    /// Another place in the pair.
    pub(super) fn begin(&mut self, view: PairView) {
        let (caches, capacity) = (self.caches, self.capacity);
        *self = Self { view, ..Self::new(caches, capacity) };
    }

    /// The place in the pair is decided on anew, under the same connections.
    pub(super) fn follow(&mut self, view: PairView) {
        self.view = self.view.followed_by(view);
    }

    /// The peer is gone from the place in the pair, and the connections with it.
    pub(super) fn lose_peer(&mut self, view: PairView) {
        self.view = view;
    }

    /// Whether nothing may be admitted now: a pair that is not decided on, or a peer that could not take a change yet.
    pub(super) const fn may_not_admit(&self) -> bool {
        !self.view.serves() || (self.view.is_mirrored() && !self.peer_in_place)
    }

    /// Whether there is another copy that may be whole.
    pub(super) const fn has_other_copy(&self) -> bool {
        matches!(
            (self.view.role, self.view.service),
            (Role::Main, Service::Mirrored) | (Role::Sub, Service::Mirrored | Service::Forwarded)
        )
    }

    /// What is in memory may be the only one there is.
    pub(super) const fn flushes_alone(&self) -> bool {
        let PairView { service, status, .. } = &self.view;
        matches!((service, status), (Service::Alone, PairStatus::Suspended | PairStatus::Split))
            && self.caches
    }

    /// A disk that says nothing has failed, as long as there is another copy: its work is given up, and what it still
    /// writes is never read, for this copy leaves the pair.
    pub(super) const fn may_give_disk_up(&self) -> bool {
        let other_copy = match (self.view.role, self.view.service, self.view.status) {
            (Role::Main, Service::Mirrored, status) => matches!(status, PairStatus::Duplex),
            (Role::Sub, Service::Mirrored | Service::Forwarded, status) => {
                !matches!(status, PairStatus::Simplex)
            }
            _ => false,
        };
        other_copy && !self.last_copy
    }

    /// What becomes of a change that the local copy has and the peer's may lack. `resync_ends`: nothing that only the
    /// peer's copy has will be copied over any more.
    pub(super) const fn fate(&self, resync_ends: bool) -> Fate {
        match (self.view.role, self.view.service, self.view.status) {
            // The generation names the local copy as the only whole one: what it has is kept.
            (Role::Main, Service::Alone, _) => Fate::Good,
            (Role::Main, Service::Mirrored, PairStatus::Copy) if !resync_ends => Fate::Good,
            // One of the copies failed; it leaves the pair first. When the copy is complete the sub may already read
            // its own.
            (Role::Main, Service::Mirrored, _) => Fate::Undecided,
            (Role::Main, Service::Undecided, _) => Fate::Undecided,
            _ => Fate::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUSES: [PairStatus; 5] =
        [PairStatus::Simplex, PairStatus::Copy, PairStatus::Duplex, PairStatus::Split, PairStatus::Suspended];

    const SERVICES: [Service; 5] =
        [Service::Refused, Service::Undecided, Service::Mirrored, Service::Alone, Service::Forwarded];

    /// Every place in the pair there is, taken by a LUN that caches.
    fn places() -> impl Iterator<Item = (Terms, (Role, Service, PairStatus))> {
        let roles = [Role::Main, Role::Sub].into_iter();
        let services = roles.flat_map(|role| SERVICES.map(|service| (role, service)));
        let all = services.flat_map(|(role, service)| STATUSES.map(|status| (role, service, status)));
        all.map(|(role, service, status)| {
            let mut terms = Terms::new(true, 8);
            terms.begin(PairView { service, status, ..PairView::suspended(role) });
            (terms, (role, service, status))
        })
    }

    #[test]
    fn the_fate_of_a_change_that_the_peer_may_lack_in_every_place() {
        for (terms, place) in places() {
            let fates = [false, true].map(|ends| terms.fate(ends));
            let expected = match place {
                (Role::Main, Service::Alone, _) => [Fate::Good; 2],
                (Role::Main, Service::Mirrored, PairStatus::Copy) => [Fate::Good, Fate::Undecided],
                (Role::Main, Service::Mirrored | Service::Undecided, _) => [Fate::Undecided; 2],
                (Role::Main, Service::Refused | Service::Forwarded, _) | (Role::Sub, _, _) => {
                    [Fate::Unknown; 2]
                }
            };
            assert_eq!(fates, expected, "{place:?}");
        }
    }

    #[test]
    fn a_silent_disk_is_given_up_only_beside_a_whole_copy_that_stays() {
        for (mut terms, place) in places() {
            let expected = match place {
                (Role::Main, Service::Mirrored, status) => status == PairStatus::Duplex,
                (Role::Sub, Service::Mirrored | Service::Forwarded, status) => status != PairStatus::Simplex,
                (Role::Main | Role::Sub, _, _) => false,
            };
            assert_eq!(terms.may_give_disk_up(), expected, "{place:?}");
            assert!(!expected || terms.has_other_copy(), "{place:?}");
            terms.stay_as_last_copy();
            assert!(!terms.may_give_disk_up(), "{place:?}");
        }
    }

    #[test]
    fn main_admits_nothing_that_a_peer_without_its_place_would_have_to_take() {
        for (mut terms, place) in places() {
            let serves = matches!(place.1, Service::Mirrored | Service::Alone | Service::Forwarded);
            let mirrored = matches!(place, (Role::Main, Service::Mirrored, _));
            assert_eq!(terms.may_not_admit(), !serves || mirrored, "{place:?}");
            terms.peer_is_in_place();
            assert_eq!(terms.may_not_admit(), !serves, "{place:?}");
        }
    }

    #[test]
    fn another_place_in_the_pair_leaves_only_what_hosts_and_the_identity_say() {
        for (mut terms, place) in places() {
            let alone = matches!(place, (_, Service::Alone, PairStatus::Suspended | PairStatus::Split));
            assert_eq!(terms.flushes_alone(), alone, "{place:?}");
            terms.peer_is_in_place();
            terms.stay_as_last_copy();
            terms.on_start_stop(false);
            terms.set_caches(false);
            assert!(!terms.flushes_alone(), "{place:?}");
            terms.begin(PairView::suspended(Role::Main));
            assert_eq!((terms.has_peer_in_place(), terms.is_stopped()), (false, false));
            assert_eq!((terms.caches(), terms.capacity()), (false, 8));
        }
    }
}
