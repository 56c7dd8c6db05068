//! A group: the LUNs that have one generation, one role and one life on this controller. What happens to it is an event
//! here; what is to be done comes back as a list of [`Wish`]es, which the appliance core carries out in their order.
//!
//! ```text
//!  event ──► Stage::on (lifecycle.rs) ──► stage, order ──► wishes: tell every LUN, say something to the peer,
//!              ▲                             │              write down, flush, part
//!              └── Facts: role, mirror, end  └──► PairView: role, status, service, generation ([`Group::view`])
//! ```
//!
//! **Going on alone**, as a main that loses its peer does, or starts as the only one its last generation names:
//!
//! 1. The peer is lost: nothing is admitted any more, hosts' commands wait.
//! 2. The peer's lease runs out ([`crate::lease::run_out`]); a controller that has just started waits one lease,
//!    for it cannot know what it granted before.
//! 3. A generation that names the own copy alone is durable.
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
//! What always holds: status, service and role follow from the stage and the generation and are stored nowhere else;
//! from the moment a group is agreed on until the peer is lost, and while it goes on alone, all its LUNs have one
//! generation; its newest generation is no older than the one it is at.

use core::time::Duration;

use protocol::interlink::frame::VERSION_MAX;
use protocol::interlink::standing::{CopyFound, Generation, Pairing};
use protocol::interlink::{GenerationTag, Message};

use super::copies::{Copies, GIVEN_UP};
use super::copy::{Common, LunCopy};
use super::effect::LunOrder;
use super::ids::Ids;
use super::lifecycle::{Before, Ends, Event, Facts, Order, Stage};
use super::pending::Pending;
use super::refilling::Refilling;
use super::turn::{Turn, TurnStep};
use super::wish::{Parting, Setting, Wish};
use crate::disk::DiskError;
use crate::group::{self, Refusal};
use crate::lease;
use crate::pair::{Breakage, PairStatus, PairView, Quiet, Role, Service};
use crate::plan::{LunPlan, Side};
use crate::time::Time;

/// A turn that takes longer ends the meeting: the two start over.
pub(super) const TURN_MAX: Duration = Duration::from_secs(3);

/// A group of LUNs.
#[derive(Debug)]
pub(super) struct Group {
    side: Side,
    /// The main that the files name.
    preferred: Side,
    /// Whether there is a second copy.
    mirror: bool,
    /// What this controller has of each of its LUNs, in the order of the plan. Never empty.
    copies: Copies,
    /// Where it is in its life; status and service follow from it.
    stage: Stage,
    /// The newest generation this controller ever proposed or was told of.
    newest: Generation,
    /// This incarnation has served under the generation or the one before it.
    kept: bool,
    refusal: Option<Refusal>,
    refilling: Refilling,
}

impl Group {
    /// A group at the start of its controller; nothing has happened yet. `plan` is what the file says of all its LUNs.
    pub(super) fn restored(side: Side, plan: &LunPlan, copies: Vec<LunCopy>) -> Self {
        let newest = copies.iter().map(LunCopy::generation).max_by_key(|generation| generation.number);
        Self {
            side,
            preferred: plan.main,
            mirror: plan.mirror,
            copies: Copies::new(copies),
            stage: Stage::Apart,
            newest: newest.unwrap_or_default(),
            kept: false,
            refusal: None,
            refilling: Refilling::default(),
        }
    }

    /// What this controller has of its LUNs.
    pub(super) const fn copies(&self) -> &Copies {
        &self.copies
    }

    /// The same, to be changed.
    pub(super) const fn copies_mut(&mut self) -> &mut Copies {
        &mut self.copies
    }

    /// This controller's role; before the first generation the one that the files give it.
    pub(super) fn role(&self) -> Role {
        let generation = self.copies.generation();
        let main = if generation.number == 0 { self.preferred.index() } else { usize::from(generation.main) };
        if main == self.side.index() { Role::Main } else { Role::Sub }
    }

    fn facts(&self, ending: Option<Ends>) -> Facts {
        Facts { role: self.role(), mirror: self.mirror, ending }
    }

    /// The pair's status.
    pub(super) fn status(&self) -> PairStatus {
        self.stage.view(self.role(), self.mirror).0
    }

    /// How hosts are served here.
    pub(super) fn service(&self) -> Service {
        self.stage.view(self.role(), self.mirror).1
    }

    /// The one writer of what a LUN lives by: role, status, service and generation. The connections are added by
    /// whoever hands it down.
    pub(super) fn view(&self) -> PairView {
        let role = self.role();
        let (status, service) = self.stage.view(role, self.mirror);
        if service == Service::Refused {
            return PairView::suspended(role);
        }
        let generation = self.copies.generation().tag();
        PairView { role, status, service, generation, links: Vec::new(), version: VERSION_MAX }
    }

    pub(super) const fn stage(&self) -> Stage {
        self.stage
    }

    pub(super) const fn newest(&self) -> Generation {
        self.newest
    }

    pub(super) const fn has_kept(&self) -> bool {
        self.kept
    }

    pub(super) const fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// An event: the stage changes, and the LUNs are told.
    pub(super) fn on(&mut self, event: Event, ending: Option<Ends>) -> Vec<Wish> {
        let before = self.status();
        let (stage, order) = self.stage.on(event, self.facts(ending));
        self.stage = stage;
        match order {
            // What is written down is gathered by whoever brings the event.
            Order::Nothing | Order::WriteAlone => Vec::new(),
            Order::LosePeer => vec![Wish::Tell(LunOrder::LosePeer)],
            Order::PeerGone => vec![Wish::Tell(LunOrder::PeerGone)],
            Order::Suspend => {
                let mut wishes = Vec::new();
                self.flush_apart(before, &mut wishes);
                wishes.push(Wish::Tell(LunOrder::Suspend));
                wishes
            }
            Order::Place(pairing) => self.take_place(pairing, false),
            Order::Begin(pairing) => self.take_place(pairing, true),
            Order::PlaceClosed(pairing) => {
                let mut wishes = self.take_place(pairing, false);
                wishes.push(Wish::Tell(LunOrder::Close));
                wishes
            }
            Order::Open => vec![Wish::Tell(LunOrder::Open)],
            Order::Hold => vec![Wish::Tell(LunOrder::Hold)],
            Order::Close => vec![Wish::Tell(LunOrder::Close)],
            Order::Copied => {
                self.refilling = Refilling::default();
                vec![Wish::Tell(LunOrder::Copied)]
            }
        }
    }

    /// Takes the place in the pair that the generation gives.
    fn take_place(&mut self, pairing: Pairing, open: bool) -> Vec<Wish> {
        self.kept = true;
        self.copies.begin(pairing, self.role() == Role::Main);
        vec![Wish::Begin(open)]
    }

    /// A whole copy without its peer gets everything onto its disk and notes that: it stays a source although this
    /// controller be restarted before the other, which may have lost its memory, is back.
    fn flush_apart(&mut self, before: PairStatus, wishes: &mut Vec<Wish>) {
        if before == PairStatus::Duplex {
            let flush = |(lun, as_of)| Wish::Flush(lun, Pending::FlushApart(lun, as_of));
            wishes.extend(self.copies.flush_apart().into_iter().map(flush));
        }
    }

    /// The flush of a LUN is over, however many connections came to nothing meanwhile. It says nothing of what is
    /// served under another generation. `own` is this controller's name.
    pub(super) fn on_flushed_apart(
        &mut self,
        lun: usize,
        as_of: GenerationTag,
        good: bool,
        own: &str,
        joined: bool,
    ) -> Vec<Wish> {
        let current = self.copies.of_mut(lun).on_flushed(as_of);
        if self.stage != Stage::Apart || !current {
            return Vec::new();
        }
        let awaited = self.is_refused_unsettled(own);
        if good {
            self.copies.of_mut(lun).note_flushed();
            let mut wishes = vec![Wish::Write(Pending::Noted)];
            if awaited && self.copies.are_settled() {
                wishes.push(Wish::Part(Parting::OwnDiskAnswers));
            }
            return wishes;
        }
        // What was answered and not flushed before may be gone from this copy: it is no better than one whose
        // controller has lost its memory. Where the two are just meeting, the peer has been told otherwise.
        self.kept = false;
        if awaited || !joined { vec![Wish::Part(Parting::OwnDisk)] } else { Vec::new() }
    }

    /// Whether it was refused for what this copy's disk had not flushed, and that has come back. `own` is this
    /// controller's name.
    pub(super) fn is_settled_since(&self, own: &str) -> bool {
        self.copies.are_settled() && self.is_refused_unsettled(own)
    }

    fn is_refused_unsettled(&self, own: &str) -> bool {
        let reason = self.refusal.as_ref().map(Refusal::reason);
        matches!(reason, Some(Refusal::Unsettled(name)) if name == own)
    }

    /// Whether this controller goes on alone with it when it loses its peer now. Not with a copy whose disk failed
    /// while another was whole; the only whole one goes on, and its hosts hear what its disk says.
    pub(super) fn may_go_on(&self, ending: Option<Ends>) -> bool {
        let failed = self.copies.have_failed();
        let only = self.status() == PairStatus::Copy;
        self.stage.has_right(self.facts(ending)) && (only || !failed)
    }

    /// The peer is out of reach. `until`: when the last lease has run out.
    pub(super) fn lose(&mut self, until: Time, ending: Option<Ends>) -> Vec<Wish> {
        let right = self.may_go_on(ending);
        self.copies.iter_mut().for_each(LunCopy::forget_meeting);
        self.on(Event::Lost { right, until }, ending)
    }

    /// A clean end begins, of this controller or of the peer.
    pub(super) fn begin_ending(&mut self, own: bool, ending: Option<Ends>) -> Vec<Wish> {
        let event = if own { Event::OwnEnd } else { Event::PeerEnds { right: self.may_go_on(ending) } };
        self.on(event, ending)
    }

    /// Whether a clean end is known to be one: a copy that is not complete is not clean, it starts again.
    pub(super) fn end_cleanly(&mut self) {
        let whole = matches!(self.status(), PairStatus::Duplex | PairStatus::Simplex);
        let served = self.service().serves() && whole;
        if !self.copies.are_broken() {
            self.copies.iter_mut().for_each(|copy| copy.end_cleanly(served));
        }
    }

    /// The LUNs that a clean end flushes.
    pub(super) fn to_be_flushed(&self) -> Vec<usize> {
        let failed = self.copies.have_failed();
        let counts = |copy: &&LunCopy| copy.found(failed) == CopyFound::Whole;
        let copies = self.copies.iter().filter(|_| self.service().serves());
        copies.filter(counts).map(LunCopy::lun).collect()
    }

    /// A group whose only whole copies are here, by a generation on this disk, goes on without its peer.
    pub(super) fn start_alone(&mut self, now: Time, ending: Option<Ends>) -> Vec<Wish> {
        let own = 1 << self.side.index();
        let generation = self.copies.generation();
        let alone = generation.number > 0
            && generation.members == own
            && self.role() == Role::Main
            && self.copies.are_one()
            && self.copies.are_whole();
        if alone && self.mirror {
            return self.on(Event::StartsAlone { until: lease::run_out(now) }, ending);
        }
        Vec::new()
    }

    /// Whether this controller has the only copies that its LUNs are to have.
    pub(super) fn starts_single(&self) -> bool {
        let generation = self.copies.generation();
        let own = usize::from(generation.main) == self.side.index();
        !self.mirror && generation.number > 0 && own && self.copies.are_one() && self.copies.are_whole()
    }

    /// The leases that were granted have run out: name the own copies alone, in the record that is written by this
    /// ticket.
    pub(super) fn go_alone(&mut self, ticket: u64, ids: &mut Ids) {
        let own = self.side.index();
        let (stage, order) = self.stage.on(Event::LeaseOut(ticket), self.facts(None));
        if order != Order::WriteAlone {
            return;
        }
        self.stage = stage;
        self.newest = group::next(self.newest, ids.make(), own, 1 << own);
        self.copies.take_on(self.newest);
    }

    /// What all its LUNs have in common when the peer is told of one.
    pub(super) fn common(&self) -> Common {
        Common {
            clean: self.copies.iter().all(LunCopy::is_clean),
            kept: self.kept,
            flushed: self.copies.iter().all(LunCopy::is_flushed),
            may_go_on: self.stage.goes_on(),
            failed: self.copies.have_failed(),
        }
    }

    /// The two have agreed on it; of each LUN the generation is its own, as it names what the LUN was at before.
    pub(super) fn agree(&mut self, lun: usize, generation: Generation, pairing: Pairing) -> Vec<Wish> {
        let wishes = self.on(Event::Agreed(pairing), None);
        self.newest = generation;
        self.copies.of_mut(lun).agree(generation);
        wishes
    }

    /// Nothing keeps it from being served.
    pub(super) fn accept(&mut self) {
        self.refusal = None;
    }

    /// The two do not agree. A main that serves alone, or is about to, goes on with that; but not if what the peer has
    /// may be newer, or is another history: whatever would be written from now on a person may have to throw away.
    pub(super) fn refuse(&mut self, refusal: Refusal, newer: bool, ending: Option<Ends>) -> Vec<Wish> {
        let for_good = matches!(refusal.reason(), Refusal::SplitBrain(..) | Refusal::PutBack { .. }) || newer;
        let wishes = self.on(Event::Refused { for_good }, ending);
        self.refusal = Some(refusal);
        wishes
    }

    /// The generation of a group that has a part in the meeting is durable on both. Whether that is new.
    pub(super) fn know_as_joint(&mut self) -> bool {
        self.stage.is_agreed() && self.copies.know_as_joint()
    }

    /// At a clean end what was served is marked once more.
    pub(super) fn choose_end_marks(&mut self, ids: &mut Ids) {
        if self.service().serves() {
            self.copies.choose_end_marks(ids);
        }
    }

    /// A mark has come late: of a copy of which nothing was made meanwhile it counts. One without which the peer has
    /// gone on does not. Whether it has to be written down.
    pub(super) fn on_late_mark(&mut self, lun: usize) -> bool {
        self.stage == Stage::Apart && self.copies.on_late_mark(lun)
    }

    /// Whether the own copies are out of the pair for want of room, and the peer is there to refill them.
    fn wants_room(&self, joined: bool) -> bool {
        joined
            && self.copies.breakage() == Some(Breakage::OwnDisk(DiskError::Full))
            && self.role() == Role::Sub
            && self.service() == Service::Forwarded
            && self.stage.turn().is_none()
    }

    /// There may be room for copies that want it: they are refilled when there is for each of them. How much they need
    /// is not known before.
    pub(super) fn refill(
        &mut self,
        now: Time,
        has_room: impl Fn(usize) -> bool,
        setting: Setting,
        ids: &mut Ids,
    ) -> Vec<Wish> {
        let wants = self.wants_room(setting.joined) && self.copies.iter().all(|copy| has_room(copy.lun()));
        if wants && self.refilling.is_due(now) {
            self.refilling.tried();
            return self.propose(self.side.peer(), Pairing::Copy, setting, ids);
        }
        Vec::new()
    }

    /// A disk failed here: these copies leave the pair, the peer's go on as main. `as_of`: the generation under which
    /// the LUN says so. What it says of its disk is true later as well; what it says of the peer is not.
    pub(super) fn on_broken(
        &mut self,
        breakage: Breakage,
        as_of: GenerationTag,
        setting: Setting,
        ids: &mut Ids,
    ) -> Vec<Wish> {
        let current = self.copies.generation().tag() == as_of;
        let parts = match breakage {
            Breakage::Nonsense => Some(Parting::Nonsense),
            Breakage::Overdue => Some(Parting::Overdue),
            Breakage::OwnDisk(_) | Breakage::PeerDisk => None,
        };
        if let Some(parting) = parts {
            return if current { vec![Wish::Part(parting)] } else { Vec::new() };
        }
        let given_up = breakage == GIVEN_UP;
        match self.copies.breakage() {
            Some(GIVEN_UP) => return Vec::new(),
            // What has failed after it found no room is more than full: it may have lost what was answered.
            Some(Breakage::OwnDisk(known)) if !given_up && !breakage.is_worse_than(known) => {
                return Vec::new();
            }
            _ => {}
        }
        if !given_up && self.goes_on_with(breakage) {
            return Vec::new();
        }
        self.copies.break_by(breakage);
        // What was given up at the moment when the peer said that its copy leaves may not stay the last one either.
        let stays = |turn: Turn| turn.pairing == Pairing::Whole || (given_up && !turn.is_proposer());
        if self.stage.turn().is_some_and(stays) {
            return vec![Wish::Part(Parting::InATurn)];
        }
        let mut wishes = self.on(Event::DiskLost, setting.ending);
        wishes.extend(self.leave_if_broken(setting, ids));
        wishes
    }

    /// A copy whose controller has lost its peer is the last one: what its disk could not take its host has heard of,
    /// and nothing that was answered is lost by it. Only a flush that failed may have lost some of that: the peer's
    /// copy has it, as long as that one is a member.
    fn goes_on_with(&self, breakage: Breakage) -> bool {
        match self.stage {
            Stage::WaitingOut { .. } | Stage::Agreed { before: Before::WaitingOut, .. } => {
                breakage != Breakage::OwnDisk(DiskError::FlushFailed)
            }
            Stage::GoingAlone { .. } | Stage::Alone | Stage::Agreed { before: Before::Alone, .. } => true,
            _ => false,
        }
    }

    /// A copy whose disk has failed leaves the pair. Looked at again every tick: the disk may fail while the two are
    /// about to meet, or while another turn is under way, and then this one has to wait for its time.
    pub(super) fn leave_if_broken(&mut self, setting: Setting, ids: &mut Ids) -> Vec<Wish> {
        let leaves = match self.status() {
            PairStatus::Duplex => true,
            // While it is being copied the target's is not whole: only a target can leave.
            PairStatus::Copy => self.role() == Role::Sub,
            _ => false,
        };
        if leaves && self.copies.are_broken() {
            return self.propose(self.side.peer(), Pairing::Out, setting, ids);
        }
        Vec::new()
    }

    /// A pair that is DUPLEX under another main than the preferred one goes back to it. Looked at again every tick:
    /// another turn may be under way, or an end that comes to nothing.
    pub(super) fn prefer(&mut self, setting: Setting, ids: &mut Ids) -> Vec<Wish> {
        let whole = self.stage == Stage::Served(Pairing::Whole) && self.mirror;
        if whole && self.role() == Role::Main && self.preferred != self.side {
            return self.propose(self.preferred, Pairing::Whole, setting, ids);
        }
        Vec::new()
    }

    fn propose(&mut self, main: Side, pairing: Pairing, setting: Setting, ids: &mut Ids) -> Vec<Wish> {
        if !setting.joined || setting.ending.is_some() || self.stage.turn().is_some() {
            return Vec::new();
        }
        let members = if pairing == Pairing::Whole { 0b11 } else { 1 << main.index() };
        let was_main = self.role() == Role::Main;
        let generation = group::next(self.newest, ids.make(), main.index(), members);
        self.newest = generation;
        let turn = Turn { generation, pairing, since: None, step: TurnStep::Proposed, was_main };
        let mut wishes = self.on(Event::Turns(turn), setting.ending);
        if self.stage.turn().is_some() {
            wishes.push(Wish::Say(Message::Turn { generation, pairing }));
        }
        wishes
    }

    /// The peer proposes a turn; `leads`: this controller leads.
    pub(super) fn on_turn(
        &mut self,
        generation: Generation,
        pairing: Pairing,
        leads: bool,
        ending: Option<Ends>,
    ) -> Vec<Wish> {
        // Two proposals that cross: the leader's stands.
        if self.stage.turn().is_some_and(|turn| turn.is_proposer() && leads)
            || usize::from(generation.main) != self.side.index()
        {
            return Vec::new();
        }
        let mut wishes = Vec::new();
        if pairing == Pairing::Out {
            if self.copies.breakage() == Some(GIVEN_UP) {
                return vec![Wish::Part(Parting::InATurn)];
            }
            self.copies.peer_leaves();
            wishes.push(Wish::Tell(LunOrder::LastCopy));
        }
        self.newest = generation;
        let was_main = self.role() == Role::Main;
        let turn = Turn { generation, pairing, since: None, step: TurnStep::Asked, was_main };
        wishes.extend(self.on(Event::Turns(turn), ending));
        wishes
    }

    /// Whether anything is in flight on its LUNs.
    pub(super) fn quiet(&self, quiet: &impl Fn(usize) -> Quiet) -> Quiet {
        self.copies.iter().map(|copy| quiet(copy.lun())).fold(Quiet::Yes, Quiet::and)
    }

    /// Time has passed; `quiet(lun)` tells whether anything is in flight there, `at` names the group when its
    /// generation is durable. Also whether the turn takes too long.
    pub(super) fn tick_turn(
        &mut self,
        now: Time,
        at: usize,
        quiet: &impl Fn(usize) -> Quiet,
        ending: Option<Ends>,
    ) -> (Vec<Wish>, bool) {
        let Some(mut turn) = self.stage.turn() else {
            return (Vec::new(), false);
        };
        let late = now.since(*turn.since.get_or_insert(now)) >= TURN_MAX;
        let next = turn.step_when(|| self.quiet(quiet));
        turn.step = next.unwrap_or(turn.step);
        let mut wishes = self.on(Event::TurnSteps(turn), ending);
        if next.is_some() {
            self.copies.take_on(turn.generation);
            wishes.push(Wish::Write(Pending::Turn(at)));
        }
        (wishes, late)
    }

    /// The generation of the turn is durable here.
    pub(super) fn on_own_turn_durable(&mut self, ending: Option<Ends>) -> Vec<Wish> {
        let Some(turn) = self.stage.turn() else {
            return Vec::new();
        };
        let number = turn.generation.number;
        let mut wishes = Vec::new();
        match turn.step {
            TurnStep::WritesLast => {
                let turn = Turn { step: TurnStep::AwaitsPeersPlace, ..turn };
                wishes.extend(self.on(Event::TurnSteps(turn), ending));
                wishes.extend(self.on(Event::TurnPlaces(turn.pairing), ending));
                wishes.push(Wish::Say(Message::TurnBegin(number)));
            }
            TurnStep::WritesFirst => {
                // Its place it takes later: until nothing is in flight over there, changes of the old order may come.
                let turn = Turn { step: TurnStep::AwaitsBegin, ..turn };
                wishes.extend(self.on(Event::TurnSteps(turn), ending));
                wishes.push(Wish::Say(Message::TurnDurable(number)));
            }
            _ => {}
        }
        wishes
    }

    /// The peer says something of it, under the generation `as_of`; `at` names the group when something is durable,
    /// `leads`: this controller leads.
    pub(super) fn on_message(
        &mut self,
        at: usize,
        as_of: GenerationTag,
        message: &Message,
        leads: bool,
        ending: Option<Ends>,
    ) -> Vec<Wish> {
        let current = self.copies.generation().tag() == as_of;
        match *message {
            Message::Turn { generation, pairing } if current => {
                self.on_turn(generation, pairing, leads, ending)
            }
            Message::TurnDurable(_) | Message::TurnBegin(_) | Message::TurnBegun(_) => {
                self.on_turn_word(message, ending)
            }
            Message::Copied if current => self.on_copied(at),
            Message::CopiedDurable if current => self.on_copied_durable(at),
            _ => Vec::new(),
        }
    }

    /// The peer has the generation of the turn durable, or its new place, or knows that both have.
    pub(super) fn on_turn_word(&mut self, word: &Message, ending: Option<Ends>) -> Vec<Wish> {
        let Some(turn) = self.stage.turn() else {
            return Vec::new();
        };
        match *word {
            Message::TurnDurable(number) if turn.waits(TurnStep::Proposed, number) => {
                self.on(Event::TurnSteps(Turn { step: TurnStep::Draining, ..turn }), ending)
            }
            Message::TurnBegin(number) if turn.waits(TurnStep::AwaitsBegin, number) => {
                let mut wishes = self.on(Event::TurnOver(turn.pairing), ending);
                wishes.push(Wish::Say(Message::TurnBegun(number)));
                wishes
            }
            Message::TurnBegun(number) if turn.waits(TurnStep::AwaitsPeersPlace, number) => {
                self.on(Event::TurnOver(turn.pairing), ending)
            }
            _ => Vec::new(),
        }
    }

    /// Main's copy of a LUN is complete on both sides and flushed, as of a generation: the sub makes that durable
    /// first. Said late, under another generation, it means nothing: another copy may be under way. A group's copy is
    /// complete when that of its last LUN is.
    pub(super) fn on_copy_complete(&mut self, lun: usize, as_of: GenerationTag, joined: bool) -> Vec<Wish> {
        let generation = self.copies.generation();
        self.copies.of_mut(lun).note_copied(as_of);
        let current = generation.tag() == as_of && self.status() == PairStatus::Copy;
        if current && joined && self.copies.iter().all(LunCopy::is_copied) {
            return vec![Wish::Say(Message::Copied)];
        }
        Vec::new()
    }

    /// Main says so; `at` names the group when what says so here is durable.
    pub(super) fn on_copied(&mut self, at: usize) -> Vec<Wish> {
        let whole = !self.copies.are_broken();
        if self.role() == Role::Sub && self.status() == PairStatus::Copy && whole {
            self.copies.iter_mut().for_each(LunCopy::name_both);
            return vec![Wish::Write(Pending::CopiedAtSub(at))];
        }
        Vec::new()
    }

    /// The sub has that durable.
    pub(super) fn on_copied_at_sub(&mut self, ending: Option<Ends>) -> Vec<Wish> {
        let mut wishes = self.on(Event::CopyWhole, ending);
        wishes.push(Wish::Say(Message::CopiedDurable));
        wishes
    }

    /// The sub has it durable: now main writes it down.
    pub(super) fn on_copied_durable(&mut self, at: usize) -> Vec<Wish> {
        if self.role() == Role::Main && self.status() == PairStatus::Copy {
            self.copies.iter_mut().for_each(LunCopy::name_both);
            return vec![Wish::Write(Pending::CopiedAtMain(at))];
        }
        Vec::new()
    }

    /// Both have it durable.
    pub(super) fn on_copied_at_main(&mut self, setting: Setting, ids: &mut Ids) -> Vec<Wish> {
        let mut wishes = self.on(Event::CopyWhole, setting.ending);
        wishes.extend(if self.copies.are_broken() {
            // The disk it was copied from has failed meanwhile: there is another copy now.
            self.propose(self.side.peer(), Pairing::Out, setting, ids)
        } else {
            self.prefer(setting, ids)
        });
        wishes
    }

    /// Asserts what always holds.
    pub(super) fn check(&self) {
        self.copies.check();
        assert!(self.newest.number >= self.copies.generation().number, "a generation newer than the newest");
        let placed = !matches!(self.stage, Stage::Apart | Stage::Agreed { .. });
        assert!(
            !placed || self.copies.are_one(),
            "LUNs of one group at different generations: {:?}",
            self.copies
        );
        assert!(self.mirror || self.stage.turn().is_none(), "a turn without a second copy");
    }
}

#[cfg(test)]
#[path = "group_unit_tests.rs"]
mod tests;
