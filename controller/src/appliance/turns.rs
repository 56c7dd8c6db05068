//! Turns: a pair that is in touch goes on under another generation, hosts hardly noticing: back to the preferred
//! main when a copy is complete; without a copy whose disk failed.
//!
//! ```text
//!  proposer (will not be main)        the other (will be main)
//!   │ hosts' commands wait               │
//!   │ TURN{generation} ─────────────────►│ hosts' commands wait
//!   │                                    │ none of them in flight: generation durable
//!   │◄──────────────────── TURN DURABLE  │ still in its old place: changes in flight may come
//!   │ nothing in flight: durable         │
//!   │ takes its new place                │
//!   │ TURN BEGIN ───────────────────────►│ takes its new place; what waited goes on
//!   │◄────────────────────── TURN BEGUN  │
//!   │ what waited goes on                │
//! ```
//!
//! Nobody sends a message of the new generation before the other has its place, and nobody leaves the old one while
//! the other may send one of it: no message meets a generation that does not know it. One kind may, and is passed over:
//! what a copy that leaves the pair says of its last changes (APPLIED), which TURN BEGIN overtakes on another
//! connection. Main goes on without that copy, so those changes are decided like any other that it may lack.
//!
//! Whoever will be main has the generation on disk first, so nobody else can go on from the one before. Nothing is
//! served under the new one before it is durable on both: a crash in between leaves two copies that are both
//! still whole, or the failed one, which the new generation does not name.
//!
//! A disk that fails in the middle of a turn to the preferred main ends the meeting: at the next one its copy is known
//! to have failed. Until then the range of what it could not take belongs to nobody ([`Quiet::Undecided`]), on neither
//! side: the other copy may be the one that leaves. Commands that wait for such a range go back to the door, for they
//! would be in flight until the turn is over, and the turn would wait for them.
//!
//! A disk that says nothing is given up only while another copy stays: what it was asked it may still write, at any
//! time. From the peer's word that its copy leaves, the own disk is waited for; the turn, which waits for what is in
//! flight, may then end in another meeting. A copy whose disk was given up before that word never becomes the last one:
//! no turn makes it so, and at the next meeting it has failed.

use core::time::Duration;

use protocol::interlink::standing::{Generation, Pairing};
use protocol::interlink::{GenerationTag, Message};

use super::lifecycle::{Before, Event, Stage};
use super::turn::{Turn, TurnStep};
use super::{Apart, Appliance, Effect, Pending, Phase};
use crate::disk::DiskError;
use crate::group;
use crate::pair::{Breakage, PairStatus, Quiet, Role, Service};
use crate::time::Time;

/// A turn that takes longer ends the meeting: the two start over.
pub(super) const TURN_MAX: Duration = Duration::from_secs(3);

/// How often a turn looks whether nothing is in flight any more.
pub(super) const TURN_POLL: Duration = Duration::from_millis(5);

/// The own disk may still write what nobody waits for any more.
const GIVEN_UP: Breakage = Breakage::OwnDisk(DiskError::Silent);

impl Appliance {
    /// Whether the own copy is out of the pair for want of room, and the peer is there to refill it.
    #[must_use]
    pub fn wants_room(&self, lun: usize) -> bool {
        let group = &self.groups[lun];
        self.phase == Phase::Joined
            && group.breakage == Some(Breakage::OwnDisk(DiskError::Full))
            && self.role(lun) == Role::Sub
            && self.service(lun) == Service::Forwarded
            && !self.is_turning(lun)
    }

    /// There is room for a copy that wants it.
    pub fn on_room(&mut self, lun: usize, now: Time, effects: &mut Vec<Effect>) {
        if self.wants_room(lun) && self.groups[lun].refilling.is_due(now) {
            self.groups[lun].refilling.tried();
            self.propose(lun, self.plan.side.peer().index(), Pairing::Copy, effects);
        }
    }

    /// Whether a LUN's pair is about to go on under another generation.
    #[must_use]
    pub fn is_turning(&self, lun: usize) -> bool {
        self.turn(lun).is_some()
    }

    pub(super) fn turn(&self, lun: usize) -> Option<Turn> {
        self.groups.get(lun).and_then(|group| group.stage.turn())
    }

    /// A disk failed here: this copy leaves the pair, the peer's goes on as main. `as_of`: the generation under which the
    /// LUN says so. What it says of its disk is true later as well; what it says of the peer is not.
    pub fn on_broken(
        &mut self,
        lun: usize,
        breakage: Breakage,
        as_of: GenerationTag,
        effects: &mut Vec<Effect>,
    ) {
        let current = self.groups[lun].generation.tag() == as_of;
        let parts = match breakage {
            Breakage::Nonsense => Some(Apart::Nonsense(self.peer_name())),
            Breakage::Overdue => Some(Apart::Silent(self.peer_name())),
            Breakage::OwnDisk(_) | Breakage::PeerDisk => None,
        };
        if let Some(apart) = parts {
            if current {
                self.lose(apart, effects);
            }
            return;
        }
        let given_up = breakage == GIVEN_UP;
        match self.groups[lun].breakage {
            Some(GIVEN_UP) => return,
            // What has failed after it found no room is more than full: it may have lost what was answered.
            Some(Breakage::OwnDisk(known)) if !given_up && !breakage.is_worse_than(known) => return,
            _ => {}
        }
        if !given_up && self.goes_on_with(lun, breakage) {
            return;
        }
        self.groups[lun].breakage = Some(breakage);
        // What was given up at the moment when the peer said that its copy leaves may not stay the last one either.
        let stays = |turn: Turn| turn.pairing == Pairing::Whole || (given_up && !turn.is_proposer());
        if self.turn(lun).is_some_and(stays) {
            let name = self.peer_name();
            return self.lose(Apart::Failed(name), effects);
        }
        self.on_group(lun, Event::DiskLost, effects);
        self.leave_if_broken(lun, effects);
    }

    /// A copy whose controller has lost its peer is the last one: what its disk could not take its host has heard of, and
    /// nothing that was answered is lost by it. Only a flush that failed may have lost some of that: the peer's copy has
    /// it, as long as that one is a member.
    fn goes_on_with(&self, lun: usize, breakage: Breakage) -> bool {
        match self.groups[lun].stage {
            Stage::WaitingOut { .. } | Stage::Agreed { before: Before::WaitingOut, .. } => {
                breakage != Breakage::OwnDisk(DiskError::FlushFailed)
            }
            Stage::GoingAlone { .. } | Stage::Alone | Stage::Agreed { before: Before::Alone, .. } => true,
            _ => false,
        }
    }

    /// A copy whose disk has failed leaves the pair. Looked at again every tick: the disk may fail while the two are
    /// about to meet, or while another turn is under way, and then this one has to wait for its time.
    pub(super) fn leave_if_broken(&mut self, lun: usize, effects: &mut Vec<Effect>) {
        let leaves = match self.status(lun) {
            PairStatus::Duplex => true,
            // While it is being copied the target's is not whole: only a target can leave.
            PairStatus::Copy => self.role(lun) == Role::Sub,
            _ => false,
        };
        if leaves && matches!(self.groups[lun].breakage, Some(Breakage::OwnDisk(_))) {
            self.propose(lun, self.plan.side.peer().index(), Pairing::Out, effects);
        }
    }

    /// A pair that is DUPLEX under another main than the preferred one goes back to it. Looked at again every tick: another
    /// turn may be under way, or an end that comes to nothing.
    pub(super) fn prefer(&mut self, lun: usize, effects: &mut Vec<Effect>) {
        let preferred = self.plan.luns[lun].main;
        let whole = self.groups[lun].stage == Stage::Served(Pairing::Whole) && self.plan.luns[lun].mirror;
        if whole && self.role(lun) == Role::Main && preferred != self.plan.side {
            self.propose(lun, preferred.index(), Pairing::Whole, effects);
        }
    }

    pub(super) fn propose(&mut self, lun: usize, main: usize, pairing: Pairing, effects: &mut Vec<Effect>) {
        if self.phase != Phase::Joined || self.ending.begun() || self.is_turning(lun) {
            return;
        }
        let id = self.make_id();
        let members = if pairing == Pairing::Whole { 0b11 } else { 1 << main };
        let was_main = self.role(lun) == Role::Main;
        let group = &mut self.groups[lun];
        let generation = group::next(group.newest, id, main, members);
        group.newest = generation;
        let current = group.generation;
        let turn = Turn { generation, pairing, since: None, step: TurnStep::Proposed, was_main };
        self.on_group(lun, Event::Turns(turn), effects);
        if let (Some(peer), true) = (&self.peer, self.is_turning(lun)) {
            let message = Message::Turn { generation, pairing };
            effects.push(Effect::SendAbout(peer.control, lun, current, message));
        }
    }

    pub(super) fn on_turn(
        &mut self,
        lun: usize,
        generation: Generation,
        pairing: Pairing,
        effects: &mut Vec<Effect>,
    ) {
        let leads = self.leads();
        let own = self.plan.side.index();
        // Two proposals that cross: the leader's stands.
        if self.turn(lun).is_some_and(|turn| turn.is_proposer() && leads)
            || usize::from(generation.main) != own
        {
            return;
        }
        if pairing == Pairing::Out {
            let group = &mut self.groups[lun];
            if group.breakage == Some(GIVEN_UP) {
                let name = self.peer_name();
                return self.lose(Apart::Failed(name), effects);
            }
            group.breakage.get_or_insert(Breakage::PeerDisk);
            effects.push(Effect::LastCopy(lun));
        }
        self.groups[lun].newest = generation;
        let was_main = self.role(lun) == Role::Main;
        let turn = Turn { generation, pairing, since: None, step: TurnStep::Asked, was_main };
        self.on_group(lun, Event::Turns(turn), effects);
    }

    /// A copy that lacks a change, or has one that the other lacks, may leave by a turn, but not go on as a whole one:
    /// then nothing may wait for a decision about the pair.
    pub(super) fn tick_turns(
        &mut self,
        now: Time,
        quiet: impl Fn(usize) -> Quiet,
        effects: &mut Vec<Effect>,
    ) {
        let mut late = false;
        for lun in 0..self.groups.len() {
            let Some(mut turn) = self.turn(lun) else {
                continue;
            };
            late |= now.since(*turn.since.get_or_insert(now)) >= TURN_MAX;
            let ready = || match quiet(lun) {
                Quiet::Yes => true,
                Quiet::Undecided => turn.pairing == Pairing::Out,
                Quiet::No => false,
            };
            let next = match turn.step {
                TurnStep::Draining if ready() => Some(TurnStep::WritesLast),
                TurnStep::Asked if ready() => Some(TurnStep::WritesFirst),
                _ => None,
            };
            turn.step = next.unwrap_or(turn.step);
            self.on_group(lun, Event::TurnSteps(turn), effects);
            if next.is_some() {
                self.groups[lun].take_on(turn.generation);
                self.persist(Pending::Turn(lun), effects);
            }
        }
        if late {
            let name = self.peer_name();
            self.lose(Apart::Silent(name), effects);
        }
    }

    pub(super) fn on_own_turn_durable(&mut self, lun: usize, effects: &mut Vec<Effect>) {
        let Some(turn) = self.turn(lun) else {
            return;
        };
        let number = turn.generation.number;
        match turn.step {
            TurnStep::WritesLast => {
                let turn = Turn { step: TurnStep::AwaitsPeersPlace, ..turn };
                self.on_group(lun, Event::TurnSteps(turn), effects);
                self.on_group(lun, Event::TurnPlaces(turn.pairing), effects);
                self.tell_turn(lun, Message::TurnBegin(number), effects);
            }
            TurnStep::WritesFirst => {
                // Its place it takes later: until nothing is in flight over there, changes of the old order may come.
                let turn = Turn { step: TurnStep::AwaitsBegin, ..turn };
                self.on_group(lun, Event::TurnSteps(turn), effects);
                self.tell_turn(lun, Message::TurnDurable(number), effects);
            }
            _ => {}
        }
    }

    pub(super) fn on_turn_durable(&mut self, lun: usize, number: u64, effects: &mut Vec<Effect>) {
        let proposed = |turn: &Turn| turn.step == TurnStep::Proposed && turn.generation.number == number;
        if let Some(turn) = self.turn(lun).filter(proposed) {
            let turn = Turn { step: TurnStep::Draining, ..turn };
            self.on_group(lun, Event::TurnSteps(turn), effects);
        }
    }

    pub(super) fn on_turn_begin(&mut self, lun: usize, number: u64, effects: &mut Vec<Effect>) {
        let waits = |turn: &Turn| turn.step == TurnStep::AwaitsBegin && turn.generation.number == number;
        if let Some(turn) = self.turn(lun).filter(waits) {
            self.on_group(lun, Event::TurnOver(turn.pairing), effects);
            self.tell_turn(lun, Message::TurnBegun(number), effects);
        }
    }

    pub(super) fn on_turn_begun(&mut self, lun: usize, number: u64, effects: &mut Vec<Effect>) {
        let waits = |turn: &Turn| turn.step == TurnStep::AwaitsPeersPlace && turn.generation.number == number;
        if let Some(turn) = self.turn(lun).filter(waits) {
            self.on_group(lun, Event::TurnOver(turn.pairing), effects);
        }
    }

    fn tell_turn(&self, lun: usize, message: Message, effects: &mut Vec<Effect>) {
        if let Some(peer) = &self.peer {
            effects.push(Effect::SendAbout(peer.control, lun, self.groups[lun].generation, message));
        }
    }
}
