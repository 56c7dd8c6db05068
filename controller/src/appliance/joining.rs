//! Meeting the peer: from the last greeting to the LUNs being served. See the states in the module above.

use protocol::interlink::hello::Purpose;
use protocol::interlink::message::Agreement;
use protocol::interlink::standing::{CopyFound, Pairing, Standing, Start, Told};
use protocol::interlink::{GenerationTag, Message};

use super::lifecycle::Event;
use super::{Apart, Appliance, Effect, Link, Pending, Phase, Step};
use crate::disk::DiskError;
use crate::group::{Question, Refusal, agree};
use crate::pair::{Breakage, PairStatus, Role};
use crate::plan::Side;
use crate::volume::superblock::Superblock;

impl Appliance {
    /// The leader goes on when the control connection and all bridges of both sides are greeted.
    pub(super) fn join_if_complete(&mut self, effects: &mut Vec<Effect>) {
        if self.leads()
            && self.phase == Phase::Apart
            && self.has_bridges(|link| link.greeted)
            && !self.ending.begun()
            && !self.is_writing_first()
        {
            self.settle(effects);
        }
    }

    /// Whether this side has every bridge that the leader has counted. It may not: one that both had greeted can have
    /// ended here alone before the two met, and the leader would send into it for ever. What the leader has greeted was
    /// greeted here first if the leader dialed it; if not, its answer may still be on the way.
    pub(super) fn has_what_the_leader_counts(&self) -> bool {
        self.has_bridges(|link| link.greeted || link.dialed)
    }

    fn has_bridges(&self, counts: impl Fn(&Link) -> bool) -> bool {
        let Some(peer) = &self.peer else {
            return false;
        };
        let bridges = |dialed: bool| {
            self.links
                .values()
                .filter(|link| {
                    counts(link) && link.dialed == dialed && matches!(link.purpose, Some(Purpose::Bridge(_)))
                })
                .count()
        };
        bridges(true) == usize::from(self.plan.bridges) && bridges(false) == usize::from(peer.bridges)
    }

    /// Both keep the same identity: both tell what they have of each LUN.
    pub(super) fn compare_if_settled(&mut self, effects: &mut Vec<Effect>) {
        let Phase::Settling { own: true, peer: true } = self.phase else {
            return;
        };
        self.made = false;
        self.tell_standings(effects);
    }

    fn tell_standings(&mut self, effects: &mut Vec<Effect>) {
        self.phase = Phase::Comparing;
        self.compared = false;
        let standings: Vec<_> = (0..self.groups.len())
            .map(|lun| (self.plan.luns[lun].name.clone(), self.own_standing(lun)))
            .collect();
        for (group, (_, standing)) in self.groups.iter_mut().zip(&standings) {
            group.told = Some(*standing);
        }
        let told = self.peer_knows_starts().then(|| self.own_told());
        if let Some(peer) = &self.peer {
            effects.extend(told.map(|told| Effect::Send(peer.control, Message::Starts(told))));
            effects.push(Effect::Send(peer.control, Message::Standings(standings)));
        }
        self.judge_if_compared(effects);
    }

    /// What the peer has. Both come to the same agreement; the leader's word makes it so.
    pub(super) fn on_standings(&mut self, theirs: Vec<(String, Standing)>, effects: &mut Vec<Effect>) {
        if let Some(peer) = &mut self.peer {
            peer.standings = Some(theirs);
        }
        self.judge_if_compared(effects);
    }

    /// The peer may tell what it has before this controller's own record of the identity is durable.
    fn judge_if_compared(&mut self, effects: &mut Vec<Effect>) {
        if self.phase != Phase::Comparing {
            return;
        }
        let Some(theirs) = self.peer.as_mut().and_then(|peer| peer.standings.take()) else {
            return;
        };
        if self.make_volumes(&theirs, effects) {
            return;
        }
        self.compared = true;
        let mut agreements = Vec::new();
        for lun in 0..self.groups.len() {
            match self.judge(lun, &theirs, effects) {
                Ok(agreement) => {
                    self.groups[lun].refusal = None;
                    agreements.push(agreement);
                }
                Err(refusal) => self.refuse(lun, refusal, &theirs, effects),
            }
        }
        // It has come back since the peer was told.
        let own = Refusal::Unsettled(self.plan.names[self.plan.side.index()].clone());
        if self.groups.iter().any(|group| group.flushing.is_none() && group.refusal.as_ref() == Some(&own)) {
            return self.meet_again_settled(effects);
        }
        if self.leads() {
            let own = self.plan.side as u8;
            let mine: Vec<Agreement> =
                agreements.iter().filter(|agreement| agreement.generation.main == own).cloned().collect();
            self.agreements = agreements;
            self.carry_out(&mine, Step::LeadingOwn, effects);
        } else if let Some(early) = self.early.take() {
            self.carry_out(&early, Step::Following, effects);
        }
    }

    /// The volumes of LUNs that the two never agreed on are made on both before either writes a generation down: a LUN
    /// with a size that one of them has no room for is not half made. Both tell what they have again when theirs are
    /// there, or cannot be made. Whether that is to be waited for; both come to the same, from what both were told.
    fn make_volumes(&mut self, theirs: &[(String, Standing)], effects: &mut Vec<Effect>) -> bool {
        let mut to_be_made = Vec::new();
        for lun in 0..self.groups.len() {
            let name = &self.plan.luns[lun].name;
            let their = theirs.iter().find(|(other, _)| other == name).map(|(_, standing)| *standing);
            let (Some(told), Some(their)) = (self.groups[lun].told, their) else {
                continue;
            };
            let both = [told, their];
            let new = both.iter().all(|standing| standing.generation.number == 0);
            let absent = |standing: &Standing| matches!(standing.copy, CopyFound::Missing | CopyFound::Blank);
            if new && both.iter().any(absent) {
                to_be_made.push(lun);
            }
        }
        if to_be_made.is_empty() || !self.peer_knows_starts() || core::mem::replace(&mut self.made, true) {
            return false;
        }
        let mut waits = 0;
        let own = 1 << self.plan.side.index();
        for lun in to_be_made {
            let agreed = self.judge(lun, theirs, effects);
            let create = agreed.is_ok_and(|agreement| agreement.create & own != 0);
            waits += u32::from(create && self.create(lun, effects));
        }
        self.phase = Phase::Making { waits };
        if waits == 0 {
            self.tell_standings(effects);
        }
        true
    }

    /// The two do not agree. A main that serves alone, or is about to, goes on with that; but not if what the peer has
    /// may be newer, or is another history: whatever would be written from now on a person may have to throw away.
    fn refuse(
        &mut self,
        lun: usize,
        refusal: Refusal,
        theirs: &[(String, Standing)],
        effects: &mut Vec<Effect>,
    ) {
        let name = &self.plan.luns[lun].name;
        let newest = self.groups[lun].newest.number;
        let newer = |(other, their): &(String, Standing)| other == name && their.generation.number > newest;
        let for_good =
            matches!(refusal, Refusal::SplitBrain(..) | Refusal::PutBack { .. }) || theirs.iter().any(newer);
        self.on_group(lun, Event::Refused { for_good }, effects);
        self.groups[lun].refusal = Some(refusal);
    }

    fn judge(
        &mut self,
        lun: usize,
        theirs: &[(String, Standing)],
        effects: &mut Vec<Effect>,
    ) -> Result<Agreement, Refusal> {
        let plan = self.plan.luns[lun].clone();
        let shared = self.peer.as_ref().map(|peer| peer.shared.clone()).unwrap_or_default();
        let Some((_, their)) = theirs.iter().find(|(name, _)| *name == plan.name) else {
            return Err(Refusal::UnknownToPeer(self.peer_name()));
        };
        if let Some((_, refusal)) = self.differing(&shared, &format!("lun.{}.", plan.name)) {
            return Err(refusal);
        }
        if self.lun_identity(lun).is_none() {
            return Err(self.first_blocks(lun).err().unwrap_or(Refusal::TooMany));
        }
        self.resize_unmade(lun, their, effects);
        let mut own = self.own_standing(lun);
        // The peer judges by what it was told: that this copy was not settled then must mean the same to both.
        let unsettled = |told: Standing| told.copy == CopyFound::Unsettled && own.copy == CopyFound::Whole;
        if self.groups[lun].told.is_some_and(unsettled) {
            own.copy = CopyFound::Unsettled;
        }
        let told =
            self.peer.as_ref().filter(|_| own.starts.is_some()).and_then(|peer| {
                peer.told.iter().find(|(name, _)| *name == plan.name).map(|(_, told)| *told)
            });
        let starts = told.map(|told| told.starts);
        let Told { may_go_on, remembers, .. } = told.unwrap_or_default();
        let their = &Standing { starts, may_go_on, remembers, ..*their };
        let standings = match self.plan.side {
            Side::First => [&own, their],
            Side::Second => [their, &own],
        };
        let id = self.make_id();
        let question = Question { names: &self.plan.names, main: plan.main, mirror: plan.mirror, id };
        let agreed = agree(question, standings)?;
        self.groups[lun].hear(starts.unwrap_or_default());
        Ok(Agreement {
            lun: plan.name,
            generation: agreed.generation,
            pairing: agreed.pairing,
            create: agreed.create,
        })
    }

    pub(super) fn on_agreements(&mut self, agreements: &[Agreement], effects: &mut Vec<Effect>) {
        if self.leads() || self.phase != Phase::Comparing {
            return;
        }
        if self.compared {
            self.carry_out(agreements, Step::Following, effects);
        } else {
            // What the leader has is still on its way; this controller must know it too.
            self.early = Some(agreements.to_vec());
        }
    }

    /// Volumes first, then the generations, both durable. Whoever will be main of a LUN writes it down first: the
    /// leader those it will be main of, then the other all of them, then the leader the rest.
    fn carry_out(&mut self, agreements: &[Agreement], step: Step, effects: &mut Vec<Effect>) {
        let mut waits = 0;
        for agreement in agreements {
            let Some(lun) = self.plan.luns.iter().position(|lun| lun.name == agreement.lun) else {
                continue;
            };
            self.on_group(lun, Event::Agreed(agreement.pairing), effects);
            self.groups[lun].newest = agreement.generation;
            self.groups[lun].agreed = Some(agreement.generation);
            let create = agreement.create & (1 << self.plan.side.index()) != 0;
            waits += u32::from(create && self.create(lun, effects));
        }
        self.phase = Phase::Agreeing { waits, step };
        if waits == 0 {
            self.write_agreements(effects);
        }
    }

    /// All volumes are there: the generations come next, and only now are this controller's. A meeting that ends before
    /// leaves it with what it had.
    fn write_agreements(&mut self, effects: &mut Vec<Effect>) {
        let knows_starts = self.peer_knows_starts();
        for group in &mut self.groups {
            if let Some(generation) = group.agreed.take() {
                group.take_on(generation);
                group.known = true;
                if knows_starts {
                    group.starts.coming = Start::of(generation);
                }
            }
        }
        self.choose_starts();
        self.persist(Pending::Agreements, effects);
    }

    /// Has a LUN's volume made, once at a time: one that an earlier meeting asked for and that is still being made is
    /// waited for. Whether there is anything to wait for.
    fn create(&mut self, lun: usize, effects: &mut Vec<Effect>) -> bool {
        let wanted = !self.groups[lun].unmade && self.copy_found(lun) != CopyFound::Whole;
        let Some(superblock) = self.superblock(lun).filter(|_| wanted) else {
            return false;
        };
        let asked = self.groups[lun].creation.map(|(_, superblock)| superblock);
        self.groups[lun].creation = Some((self.meeting, asked.unwrap_or(superblock)));
        if asked.is_none() {
            let ticket = self.ticket(Pending::Volume(lun));
            effects.push(Effect::Create(lun, superblock, ticket));
        }
        true
    }

    /// A volume was made, or could not be.
    pub(super) fn on_own_volume(
        &mut self,
        lun: usize,
        result: Result<(), DiskError>,
        effects: &mut Vec<Effect>,
    ) {
        let Some((meeting, superblock)) = self.groups[lun].creation.take() else {
            return;
        };
        let awaited = meeting == self.meeting;
        let silent = result == Err(DiskError::Silent);
        match result {
            Ok(()) => {
                // Asked for by an earlier meeting, before the LUN got its size: made anew at the next start.
                if !self.is_wanted(lun, &superblock) {
                    self.groups[lun].unmade = true;
                    let name = self.plan.names[self.plan.side.index()].clone();
                    if awaited {
                        self.lose(Apart::NoVolume(name, DiskError::Absent), effects);
                    }
                    return;
                }
                self.groups[lun].has_made(superblock);
                if awaited {
                    self.on_awaited_volume(effects);
                }
            }
            // The two meet again without it, and serve the rest.
            Err(_) if awaited && matches!(self.phase, Phase::Making { .. }) => {
                self.groups[lun].unmade = true;
                self.on_awaited_volume(effects);
            }
            Err(error) if awaited => {
                self.groups[lun].unmade = true;
                let name = self.plan.names[self.plan.side.index()].clone();
                self.lose(Apart::NoVolume(name, error), effects);
            }
            // What its disk may still do is not asked for again.
            Err(_) => self.groups[lun].unmade |= silent,
        }
    }

    /// A volume whose making was given up is there after all.
    pub(super) fn on_late_volume(
        &mut self,
        (lun, superblock): (usize, Superblock),
        result: Result<(), DiskError>,
        effects: &mut Vec<Effect>,
    ) {
        if result.is_ok() && self.is_wanted(lun, &superblock) {
            self.groups[lun].has_made(superblock);
            self.meet_again_if_idle(effects);
        }
    }

    fn is_wanted(&self, lun: usize, made: &Superblock) -> bool {
        self.superblock(lun).is_some_and(|wanted| made.is_same_copy(&wanted))
    }

    fn on_awaited_volume(&mut self, effects: &mut Vec<Effect>) {
        let (Phase::Making { waits } | Phase::Agreeing { waits, .. }) = &mut self.phase else {
            return;
        };
        *waits -= 1;
        match self.phase {
            Phase::Making { waits: 0 } => self.tell_standings(effects),
            Phase::Agreeing { waits: 0, .. } => self.write_agreements(effects),
            _ => {}
        }
    }

    pub(super) fn on_own_agreements_durable(&mut self, effects: &mut Vec<Effect>) {
        let Phase::Agreeing { step, .. } = self.phase else {
            return;
        };
        let Some(control) = self.peer.as_ref().map(|peer| peer.control) else {
            return;
        };
        match step {
            Step::LeadingOwn => {
                self.phase = Phase::Agreeing { waits: 0, step: Step::LeadingPeer };
                effects.push(Effect::Send(control, Message::Agreements(self.agreements.clone())));
            }
            Step::LeadingRest | Step::Following => self.mark_agreed(step, effects),
            Step::LeadingPeer | Step::Placed => {}
        }
    }

    /// Nothing that was put back later can have what both have now.
    pub(super) fn on_own_starts_durable(&mut self, effects: &mut Vec<Effect>) {
        let (Phase::Agreeing { step, .. }, Some(peer)) = (self.phase, &self.peer) else {
            return;
        };
        let control = peer.control;
        match step {
            Step::LeadingRest => {
                self.joined();
                effects.push(Effect::Send(control, Message::Begin));
                self.begin_agreed(true, effects);
            }
            Step::Following => {
                // From here on the leader may begin at any time, and its first message may come by a bridge before
                // its word to begin: take the place now, serve hosts with that word.
                self.phase = Phase::Agreeing { waits: 0, step: Step::Placed };
                self.begin_agreed(false, effects);
                effects.push(Effect::Send(control, Message::AgreementsDurable));
            }
            Step::LeadingOwn | Step::LeadingPeer | Step::Placed => {}
        }
    }

    pub(super) fn on_agreements_durable(&mut self, effects: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Agreeing { step: Step::LeadingPeer, .. }) {
            return;
        }
        let own = self.plan.side as u8;
        let rest: Vec<Agreement> = core::mem::take(&mut self.agreements)
            .into_iter()
            .filter(|agreement| agreement.generation.main != own)
            .collect();
        self.carry_out(&rest, Step::LeadingRest, effects);
    }

    pub(super) fn on_begin(&mut self, effects: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Agreeing { step: Step::Placed, .. }) {
            return;
        }
        self.joined();
        // The leader has everything durable: of what this controller is main of, that is written down first.
        if !self.confirm(effects) {
            self.begin_placed(effects);
        }
    }

    pub(super) fn begin_placed(&mut self, effects: &mut Vec<Effect>) {
        (0..self.groups.len()).for_each(|lun| self.on_group(lun, Event::Begins, effects));
        // What the leader said of them meanwhile.
        for (lun, generation, message) in core::mem::take(&mut self.early_words) {
            self.on_message_about(Some(lun), generation, message, effects);
        }
    }

    fn joined(&mut self) {
        self.phase = Phase::Joined;
        self.ending.on_joined();
    }

    fn begin_agreed(&mut self, open: bool, effects: &mut Vec<Effect>) {
        (0..self.groups.len()).for_each(|lun| self.on_group(lun, Event::TakesPlace { open }, effects));
    }

    /// Main's copy of a LUN is complete on both sides and flushed, as of a generation: the sub makes that durable first.
    /// Said late, under another generation, it means nothing: another copy may be under way.
    pub fn on_copy_complete(&mut self, lun: usize, as_of: GenerationTag, effects: &mut Vec<Effect>) {
        let generation = self.groups[lun].generation;
        let current = generation.tag() == as_of && self.status(lun) == PairStatus::Copy;
        if let (Some(peer), Phase::Joined, true) = (&self.peer, self.phase, current) {
            effects.push(Effect::SendAbout(peer.control, lun, generation, Message::Copied));
        }
    }

    pub(super) fn on_copied(&mut self, lun: usize, effects: &mut Vec<Effect>) {
        let whole = !matches!(self.groups[lun].breakage, Some(Breakage::OwnDisk(_)));
        if self.role(lun) == Role::Sub && self.status(lun) == PairStatus::Copy && whole {
            self.groups[lun].generation.members = 0b11;
            self.persist(Pending::CopiedAtSub(lun), effects);
        }
    }

    pub(super) fn on_copied_at_sub(&mut self, lun: usize, effects: &mut Vec<Effect>) {
        let generation = self.groups[lun].generation;
        self.on_group(lun, Event::CopyWhole, effects);
        if let Some(peer) = &self.peer {
            effects.push(Effect::SendAbout(peer.control, lun, generation, Message::CopiedDurable));
        }
    }

    pub(super) fn on_copied_durable(&mut self, lun: usize, effects: &mut Vec<Effect>) {
        if self.role(lun) == Role::Main && self.status(lun) == PairStatus::Copy {
            self.groups[lun].generation.members = 0b11;
            self.persist(Pending::CopiedAtMain(lun), effects);
        }
    }

    pub(super) fn on_copied_at_main(&mut self, lun: usize, effects: &mut Vec<Effect>) {
        self.on_group(lun, Event::CopyWhole, effects);
        if matches!(self.groups[lun].breakage, Some(Breakage::OwnDisk(_))) {
            // The disk it was copied from has failed meanwhile: there is another copy now.
            self.propose(lun, self.plan.side.peer().index(), Pairing::Out, effects);
        } else {
            self.prefer(lun, effects);
        }
    }
}
