//! What both controllers share of a LUN other than its blocks, as it holds on this one: the state itself, the nexuses
//! of this controller with what each has yet to be told, and whom the state keeps out.
//!
//! What always holds ([`UnitState::check`]): the guard is what the state means for the nexuses there are, and D_SENSE
//! is shown as the state has it. Whoever changes one of them works the others out anew, here and nowhere else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use protocol::interlink::shared::{
    Attention, Modes, NexusHandle, NexusName, Recipients, Requester, Reservations, SharedState,
};
use protocol::scsi::sense::Sense;

use super::LunSetup;
use super::attention::Attentions;
use super::guard::{Guard, Guarded};
use crate::command::{Access, Initiator, NexusId, Op, Outcome};
use crate::plan::Side;
use crate::status::ReservationStatus;

/// The shared state of one LUN on one controller.
#[derive(Debug)]
pub struct UnitState {
    side: Side,
    incarnation: u64,
    /// WCE where no host has set it.
    write_cache: bool,
    nexuses: Attentions,
    state: SharedState,
    guard: Guarded,
    /// D_SENSE, for those who encode sense data.
    descriptor_sense: Arc<AtomicBool>,
}

impl UnitState {
    /// What was on disk, and no nexus.
    pub(super) fn new(setup: &LunSetup, restored: SharedState) -> Self {
        let mut unit = Self {
            side: setup.side,
            incarnation: setup.incarnation,
            write_cache: setup.write_cache,
            nexuses: Attentions::default(),
            state: restored,
            guard: None,
            descriptor_sense: Arc::default(),
        };
        unit.settle();
        unit
    }

    /// The state that both controllers share, as it is here.
    #[must_use]
    pub const fn state(&self) -> &SharedState {
        &self.state
    }

    /// The version of the state.
    pub(super) const fn version(&self) -> u64 {
        self.state.stamp.version
    }

    /// Stamps the state as made under a generation.
    pub(super) const fn stamp_generation(&mut self, generation: u64) {
        self.state.stamp.generation = generation;
    }

    /// Whether GOOD means in memory.
    pub(super) const fn caches(&self) -> bool {
        self.state.current.caches(self.write_cache)
    }

    /// The name of a session of this controller, which tells it from every other there ever was.
    pub(super) const fn handle(&self, nexus: NexusId) -> NexusHandle {
        NexusHandle { side: self.side.index() as u8, incarnation: self.incarnation, nexus: nexus.0 }
    }

    /// Who a nexus of this controller is, if it is known.
    #[must_use]
    pub fn who(&self, nexus: NexusId) -> Option<Requester> {
        let name = self.nexuses.name(nexus)?;
        Some(Requester { handle: self.handle(nexus), name: NexusName::clone(name) })
    }

    /// The name of a nexus of this controller that a handle means, if it is alive.
    pub(super) fn name_of(&self, handle: NexusHandle) -> Option<&NexusName> {
        let nexus = NexusId(handle.nexus);
        (self.handle(nexus) == handle).then(|| self.nexuses.name(nexus).map(|name| &**name))?
    }

    /// Whether a handle means a session of this controller that has ended. What it reserved keeps nobody of this
    /// controller out, though the event that ends it may still be on its way.
    pub(super) fn is_of_lost_session(&self, handle: NexusHandle) -> bool {
        handle.side == self.side.index() as u8 && self.name_of(handle).is_none()
    }

    /// RESERVE was by a session of this controller that has ended: main does not know yet.
    pub(super) fn has_lost_reserver(&self) -> bool {
        self.state().reserver.is_some_and(|reserver| self.is_of_lost_session(reserver))
    }

    /// Whether a handle means a session of the peer.
    pub(super) const fn is_of_peer(&self, handle: NexusHandle) -> bool {
        handle.side != self.side.index() as u8
    }

    /// A new I_T nexus.
    pub(super) fn add(&mut self, nexus: NexusId, initiator: &Initiator) {
        let Initiator { name, isid } = initiator.clone();
        let port = self.side.port();
        self.nexuses.nexus_added(nexus, Arc::new(NexusName { initiator: name, isid, port }));
        self.settle();
    }

    /// An I_T nexus is gone.
    pub(super) fn remove(&mut self, nexus: NexusId) {
        self.nexuses.nexus_lost(nexus);
        self.settle();
    }

    /// How many nexuses are known.
    pub(super) fn nexuses(&self) -> usize {
        self.nexuses.count()
    }

    /// Who has reserved the LUN, for people. `peer`: the name of the other controller, whose hosts RESERVE (6) names
    /// only there.
    #[must_use]
    pub fn reservation(&self, peer: &str) -> Option<ReservationStatus> {
        if let Some(handle) = self.state.reserver {
            let own = self.name_of(handle);
            let holder = own.map_or_else(|| format!("a host of {peer}"), |name| name.initiator.clone());
            return Some(ReservationStatus { kind: "reserve(6)".to_owned(), holders: vec![holder] });
        }
        let reservations = &self.state.reservations;
        let reservation = reservations.reservation.as_ref()?;
        let holders = match reservation.kind {
            7 | 8 => reservations.registrants.iter().map(|one| one.nexus.initiator.clone()).collect(),
            _ => vec![reservation.holder.initiator.clone()],
        };
        Some(ReservationStatus { kind: kind_of(reservation.kind).to_owned(), holders })
    }

    /// Raises an attention for those of this controller's nexuses that it is for.
    pub(super) fn raise(&mut self, attention: &Attention) {
        let (side, incarnation) = (self.side.index() as u8, self.incarnation);
        let handle = |nexus: NexusId| NexusHandle { side, incarnation, nexus: nexus.0 };
        self.nexuses.raise(attention, handle);
    }

    /// Raises an attention for all of them.
    pub(super) fn raise_for_all(&mut self, sense: Sense) {
        self.raise(&Attention { whom: Recipients::All, code: sense.code });
    }

    /// Takes the first attention of a nexus.
    pub(super) fn take_attention(&mut self, nexus: NexusId) -> Result<(), Outcome> {
        self.nexuses.take(nexus).map_or(Ok(()), |sense| Err(Outcome::Check(sense)))
    }

    /// Whether an attention is for a nexus of this controller.
    pub(super) fn is_meant(&self, attention: &Attention, nexus: NexusId) -> bool {
        self.nexuses.is_meant(attention, nexus, self.handle(nexus))
    }

    /// Whether reservations keep a nexus out.
    pub(super) fn keeps_out(&self, nexus: NexusId, access: Access) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.keeps_out(nexus, access))
    }

    /// How a command ends that reservations or write protection keep out.
    pub(super) fn refusal(&self, nexus: NexusId, op: &Op) -> Option<Outcome> {
        self.guard.as_ref()?.refusal(nexus, op)
    }

    /// The state holds here from now on, and the nexuses of this controller are told of it. `met`: events that this
    /// controller did not take part in may have changed it. The state before.
    pub(super) fn install(&mut self, next: SharedState, attentions: &[Attention], met: bool) -> SharedState {
        let before = core::mem::replace(&mut self.state, next);
        self.settle();
        for attention in attentions {
            self.raise(attention);
        }
        if met {
            self.tell_difference(&before);
        }
        before
    }

    /// Where whoever encodes sense data of this LUN finds its format.
    #[must_use]
    pub fn sense_format(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.descriptor_sense)
    }

    /// Works out anew whom the state keeps out, and shows its format of sense data.
    fn settle(&mut self) {
        let reserver = self.state.reserver.filter(|reserver| !self.is_of_lost_session(*reserver));
        let guard = Guard::of(&self.state, reserver, self.nexuses.nexuses(), |nexus| self.handle(nexus));
        self.guard = guard;
        self.descriptor_sense.store(self.state.current.descriptor_sense, Ordering::Relaxed);
    }

    /// Nexuses hear what they would have been told of the events that made this of the state before.
    fn tell_difference(&mut self, before: &SharedState) {
        self.tell_reservations(before);
        let told = |modes: Modes| modes.with_configured(self.write_cache);
        if told(before.current) != told(self.state.current) {
            self.raise_for_all(Sense::MODE_PARAMETERS_CHANGED);
        }
        if let Some(reserver) = before.reserver
            && self.state.reserver != before.reserver
            && let Some(name) = self.name_of(reserver)
        {
            let whom = Recipients::One(name.clone());
            self.raise(&Attention { whom, code: Sense::NEXUS_LOSS.code });
        }
    }

    /// SPC-4 5.13: whose registration is gone, or whose reservation another has taken or ended.
    fn tell_reservations(&mut self, before: &SharedState) {
        let (old, new) = (&before.reservations, &self.state.reservations);
        let is_in = |state: &Reservations, name: &NexusName| {
            state.registrants.iter().any(|registrant| registrant.nexus == *name)
        };
        let mut told = Vec::new();
        for (_, name) in self.nexuses.nexuses() {
            let sense = match (is_in(old, name), is_in(new, name)) {
                (true, false) => Sense::REGISTRATIONS_PREEMPTED,
                (true, true) if old.reservation.is_some() && old.reservation != new.reservation => {
                    Sense::RESERVATIONS_RELEASED
                }
                _ => continue,
            };
            told.push(Attention { whom: Recipients::One(name.clone()), code: sense.code });
        }
        for attention in told {
            self.raise(&attention);
        }
    }

    /// What always holds.
    pub(super) fn check(&self) {
        let reserver = self.state.reserver.filter(|reserver| !self.is_of_lost_session(*reserver));
        let guard = Guard::of(&self.state, reserver, self.nexuses.nexuses(), |nexus| self.handle(nexus));
        assert_eq!(self.guard, guard, "the guard is that of another state or of other nexuses");
        let shown = self.descriptor_sense.load(Ordering::Relaxed);
        assert_eq!(shown, self.state.current.descriptor_sense, "D_SENSE is shown as another state has it");
    }
}

/// The TYPE of a persistent reservation (SPC-4 6.13.3.4) in words.
const fn kind_of(kind: u8) -> &'static str {
    match kind {
        1 => "write exclusive",
        3 => "exclusive access",
        5 => "write exclusive, registrants only",
        6 => "exclusive access, registrants only",
        7 => "write exclusive, all registrants",
        8 => "exclusive access, all registrants",
        _ => "persistent",
    }
}
