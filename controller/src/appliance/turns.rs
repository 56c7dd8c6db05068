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

use protocol::interlink::Message;
use protocol::interlink::standing::{Generation, Pairing};

use super::{Apart, Appliance, Effect, Pending, Phase};
use crate::disk::DiskError;
use crate::group;
use crate::lun::{Breakage, Quiet};
use crate::status::{PairStatus, Role};
use crate::time::Time;

/// A turn that takes longer ends the meeting: the two start over.
pub(super) const TURN_MAX: Duration = Duration::from_secs(3);

/// How often a turn looks whether nothing is in flight any more.
pub(super) const TURN_POLL: Duration = Duration::from_millis(5);

/// The own disk may still write what nobody waits for any more.
const GIVEN_UP: Breakage = Breakage::OwnDisk(DiskError::Silent);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Turn {
    generation: Generation,
    pairing: Pairing,
    proposer: bool,
    since: Option<Time>,
    /// The other has it durable.
    peer: bool,
    /// This one writes it, or has it.
    written: bool,
    durable: bool,
}

impl Appliance {
    /// Whether a LUN's pair is about to go on under another generation.
    #[must_use]
    pub fn is_turning(&self, lun: usize) -> bool {
        self.groups.get(lun).is_some_and(|group| group.turn.is_some())
    }

    /// A disk failed here: this copy leaves the pair, the peer's goes on as main.
    pub fn on_broken(&mut self, lun: usize, breakage: Breakage, effects: &mut Vec<Effect>) {
        if breakage == Breakage::Nonsense {
            let name = self.peer_name();
            return self.lose(Apart::Nonsense(name), effects);
        }
        let given_up = breakage == GIVEN_UP;
        match self.groups[lun].breakage {
            Some(GIVEN_UP) => return,
            Some(Breakage::OwnDisk(_)) if !given_up => return,
            _ => {}
        }
        self.groups[lun].breakage = Some(breakage);
        // What was given up at the moment when the peer said that its copy leaves may not stay the last one either.
        let stays = |turn: Turn| turn.pairing == Pairing::Whole || (given_up && !turn.proposer);
        if self.groups[lun].turn.is_some_and(stays) {
            let name = self.peer_name();
            return self.lose(Apart::Failed(name), effects);
        }
        if given_up {
            self.refuse_instead_of_going_alone(lun, effects);
        }
        self.leave_if_broken(lun, effects);
    }

    /// A copy whose disk has failed leaves the pair. Looked at again every tick: the disk may fail while the two are
    /// about to meet, or while another turn is under way, and then this one has to wait for its time.
    pub(super) fn leave_if_broken(&mut self, lun: usize, effects: &mut Vec<Effect>) {
        let group = &self.groups[lun];
        let leaves = match group.status {
            PairStatus::Duplex => true,
            // While it is being copied the target's is not whole: only a target can leave.
            PairStatus::Copy => self.role(lun) == Role::Sub,
            _ => false,
        };
        if leaves && matches!(group.breakage, Some(Breakage::OwnDisk(_))) {
            self.propose(lun, self.plan.side.peer().index(), Pairing::Out, effects);
        }
    }

    /// A pair that is DUPLEX under another main than the preferred one goes back to it.
    pub(super) fn prefer(&mut self, lun: usize, effects: &mut Vec<Effect>) {
        let preferred = self.plan.luns[lun].main;
        if self.role(lun) == Role::Main && preferred != self.plan.side {
            self.propose(lun, preferred.index(), Pairing::Whole, effects);
        }
    }

    pub(super) fn propose(&mut self, lun: usize, main: usize, pairing: Pairing, effects: &mut Vec<Effect>) {
        if self.phase != Phase::Joined || self.ending.begun() || self.groups[lun].turn.is_some() {
            return;
        }
        let id = self.make_id();
        let members = if pairing == Pairing::Whole { 0b11 } else { 1 << main };
        let group = &mut self.groups[lun];
        let generation = group::next(group.newest, id, main, members);
        group.newest = generation;
        group.turn = Some(Turn::new(generation, pairing, true));
        let current = group.generation;
        effects.push(Effect::Hold(lun));
        if let Some(peer) = &self.peer {
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
        let group = &mut self.groups[lun];
        // Two proposals that cross: the leader's stands.
        if group.turn.is_some_and(|turn| turn.proposer && leads) || usize::from(generation.main) != own {
            return;
        }
        if pairing == Pairing::Out {
            if group.breakage == Some(GIVEN_UP) {
                let name = self.peer_name();
                return self.lose(Apart::Failed(name), effects);
            }
            group.breakage.get_or_insert(Breakage::PeerDisk);
            effects.push(Effect::LastCopy(lun));
        }
        group.newest = generation;
        group.turn = Some(Turn::new(generation, pairing, false));
        effects.push(Effect::Hold(lun));
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
        let mut written = Vec::new();
        for (lun, group) in self.groups.iter_mut().enumerate() {
            let Some(turn) = &mut group.turn else {
                continue;
            };
            late |= now.since(*turn.since.get_or_insert(now)) >= TURN_MAX;
            let in_order = !turn.proposer || turn.peer;
            let ready = || match quiet(lun) {
                Quiet::Yes => true,
                Quiet::Undecided => turn.pairing == Pairing::Out,
                Quiet::No => false,
            };
            if in_order && !turn.written && ready() {
                turn.written = true;
                let generation = turn.generation;
                group.take_on(generation);
                written.push(lun);
            }
        }
        for lun in written {
            self.persist(Pending::Turn(lun), effects);
        }
        if late {
            let name = self.peer_name();
            self.lose(Apart::Silent(name), effects);
        }
    }

    pub(super) fn on_own_turn_durable(&mut self, lun: usize, effects: &mut Vec<Effect>) {
        let Some(turn) = &mut self.groups[lun].turn else {
            return;
        };
        turn.durable = true;
        let turn = *turn;
        let number = turn.generation.number;
        if turn.proposer {
            self.begin(lun, turn.pairing, false, effects);
            self.tell_turn(lun, Message::TurnBegin(number), effects);
        } else {
            // Its place it takes later: until nothing is in flight over there, changes of the old order may come.
            self.tell_turn(lun, Message::TurnDurable(number), effects);
        }
    }

    pub(super) fn on_turn_durable(&mut self, lun: usize, number: u64) {
        if let Some(turn) = &mut self.groups[lun].turn
            && turn.proposer
            && turn.generation.number == number
        {
            turn.peer = true;
        }
    }

    pub(super) fn on_turn_begin(&mut self, lun: usize, number: u64, effects: &mut Vec<Effect>) {
        let Some(turn) = self.groups[lun].turn else {
            return;
        };
        if !turn.proposer && turn.durable && turn.generation.number == number {
            self.groups[lun].turn = None;
            self.begin(lun, turn.pairing, true, effects);
            self.tell_turn(lun, Message::TurnBegun(number), effects);
        }
    }

    pub(super) fn on_turn_begun(&mut self, lun: usize, number: u64, effects: &mut Vec<Effect>) {
        let group = &mut self.groups[lun];
        if group.turn.is_some_and(|turn| turn.proposer && turn.durable && turn.generation.number == number) {
            group.turn = None;
            effects.push(Effect::Open(lun));
        }
    }

    fn tell_turn(&self, lun: usize, message: Message, effects: &mut Vec<Effect>) {
        if let Some(peer) = &self.peer {
            effects.push(Effect::SendAbout(peer.control, lun, self.groups[lun].generation, message));
        }
    }
}

impl Turn {
    /// Whether a main may go on without the other in the middle of it: the old one while it has not written the
    /// new generation; the new one if the other's copy has left for good. Who proposed that never goes on: the other
    /// may have it already.
    pub(super) const fn leaves_the_right_here(self) -> bool {
        let out = matches!(self.pairing, Pairing::Out);
        if self.proposer { !self.written && !out } else { !self.written || (self.durable && out) }
    }

    const fn new(generation: Generation, pairing: Pairing, proposer: bool) -> Self {
        Self { generation, pairing, proposer, since: None, peer: false, written: false, durable: false }
    }
}
