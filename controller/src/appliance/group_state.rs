//! Where a group stands: its stage, its copies and its generation, and what follows from them: role, status, service.
//!
//! What always holds: status, service and role follow from the stage and the generation and are stored nowhere else.

use protocol::interlink::copy_report::{CopyFound, CopyReport, Pairing};
use protocol::interlink::frame::VERSION_MAX;
use protocol::interlink::will::{PairCommand, Wanted, Will};
use protocol::interlink::{GenerationTag, Message, Version};

use super::asked::{Asked, Next};
use super::copies::{Copies, GIVEN_UP};
use super::copy::{Common, LunCopy};
use super::effect::LunOrder;
use super::ids::Ids;
use super::lifecycle::{Ends, Event, Facts, Order, Stage};
use super::pair_command::{self, Answer, Change, PairRefusal, Place, Target};
use super::pending::Pending;
use super::refilling::Refilling;
use super::theirs::Theirs;
use super::wish::{Parting, Setting, Wish};
use crate::disk::DiskError;
use crate::lease;
use crate::pair::{PairFault, PairStatus, PairView, Quiet, Role, Service};
use crate::plan::{LunPlan, Side};
use crate::time::Time;

/// Where a group stands.
#[derive(Debug)]
pub(super) struct GroupState {
    side: Side,
    /// The main that the files name.
    preferred: Side,
    /// Whether there is a second copy.
    mirror: bool,
    /// What this controller has of each of its LUNs, in the order of the plan. Never empty.
    copies: Copies,
    /// Where it is in its life; status and service follow from it.
    stage: Stage,
    /// This incarnation has served under the generation or the one before it.
    kept: bool,
    refilling: Refilling,
    /// What a person has asked of the pair, and is not done yet.
    asked: Option<Asked>,
    /// What the peer has, as far as it told in this meeting.
    theirs: Option<Theirs>,
}

impl GroupState {
    /// A group at the start of its controller; nothing has happened yet. `plan` is what the file says of all its LUNs.
    pub(super) fn new(side: Side, plan: &LunPlan, copies: Copies) -> Self {
        Self {
            side,
            preferred: plan.main,
            mirror: plan.mirror,
            copies,
            stage: Stage::Apart,
            kept: false,
            refilling: Refilling::default(),
            asked: None,
            theirs: None,
        }
    }

    pub(super) const fn side(&self) -> Side {
        self.side
    }

    /// The main that a person wants, or else the files.
    pub(super) fn preferred(&self) -> Side {
        match self.copies.generation().will.main {
            Some(0) => Side::First,
            Some(_) => Side::Second,
            None => self.preferred,
        }
    }

    /// What a person wants when the one that is main is to be that side.
    pub(super) fn will(&self, wanted: Wanted, main: Option<Side>) -> Will {
        match main {
            Some(main) if main == self.preferred => Will { wanted, main: None },
            Some(main) => Will { wanted, main: Some(main as u8) },
            None => Will { wanted, ..self.copies.generation().will },
        }
    }

    pub(super) const fn mirror(&self) -> bool {
        self.mirror
    }

    /// How it stands for a command about its pair.
    pub(super) fn place(&self, setting: Setting) -> Place {
        let Setting { joined, ending, peer_leaves, leaves, version, now: _ } = setting;
        Place {
            mirror: self.mirror,
            status: self.status(),
            role: self.role(),
            joined,
            knows: version >= Version::V2 as u16,
            agreed: self.stage.is_joint(),
            busy: ending.is_some() || peer_leaves || leaves || self.stage.switch().is_some(),
            broken: self.copies.are_broken(),
            target: match (self.role(), self.theirs) {
                (Role::Sub, _) => self.own_target(),
                (Role::Main, theirs) => theirs.map_or(Target::Fit, Theirs::target),
            },
        }
    }

    /// What can be copied to here.
    pub(super) fn own_target(&self) -> Target {
        Target::worst(self.copies.iter().map(|copy| self.copies.found(copy.lun())))
    }

    /// Both have told what they have of each LUN. `old`: which of the two have something that was put back.
    pub(super) fn hear_copies(&mut self, theirs: &[CopyReport], old: [bool; 2]) {
        self.theirs = Some(Theirs::told(theirs, old, self.side));
    }

    /// What the peer has, as far as it has told in this meeting.
    pub(super) const fn theirs(&self) -> Option<Theirs> {
        self.theirs
    }

    /// While the pair is wanted split: whether the sub's copies are images of the LUNs as they were then; none if this
    /// main does not know.
    pub(super) fn image(&self) -> Option<bool> {
        match self.role() {
            _ if self.copies.generation().will.wanted != Wanted::Split => None,
            Role::Sub => Some(self.copies.are_whole() && self.copies.iter().all(LunCopy::is_flushed)),
            Role::Main => self.theirs.map(Theirs::is_image),
        }
    }

    /// A person asks something of the pair; `told`: by way of the peer. It is pursued if it can be done, or soon.
    pub(super) fn hear_command(&mut self, command: PairCommand, told: bool, setting: Setting) {
        let soon = |refusal| told && matches!(refusal, PairRefusal::Busy | PairRefusal::NotWhole);
        let pursued = match pair_command::answer(command, self.place(setting)) {
            Answer::Change(change) => change.here || !told,
            Answer::Refused(refusal) => soon(refusal),
            Answer::Done => false,
        };
        if pursued {
            self.asked = Some(Asked::new(command, self.main(), told));
        }
    }

    /// Whether something else has been asked and is not done yet.
    pub(super) fn is_asked_something_else(&self, command: PairCommand) -> bool {
        self.asked.is_some_and(|asked| asked.command() != command)
    }

    /// One of the copies is flushed that a split waits for before it begins.
    pub(super) const fn on_flushed_ahead(&mut self) {
        if let Some(asked) = &mut self.asked {
            asked.flushed();
        }
    }

    /// What a person has asked, if it is to begin here now; what has to be done before that, or by the other, is wished
    /// for.
    pub(super) fn pursue(&mut self, setting: Setting, wishes: &mut Vec<Wish>) -> Option<Change> {
        let (mut asked, main, place) = (self.asked?, self.main(), self.place(setting));
        let whole = self.copies.whole();
        let next = asked.next(setting.now, main, place, whole.len());
        self.asked = (next != Next::Forget).then_some(asked);
        match next {
            Next::Forget | Next::Wait => {}
            Next::Say => wishes.push(Wish::Say(Message::Pair(asked.command()))),
            Next::Flush => {
                wishes.extend(whole.into_iter().map(|lun| Wish::Flush(lun, Pending::FlushAhead(lun))));
            }
            Next::Begin(change) => return Some(change),
        }
        None
    }

    /// What this controller has of its LUNs.
    pub(super) const fn copies(&self) -> &Copies {
        &self.copies
    }

    /// The same, to be changed.
    pub(super) const fn copies_mut(&mut self) -> &mut Copies {
        &mut self.copies
    }

    /// Which side is main.
    fn main(&self) -> Side {
        if self.role() == Role::Main { self.side } else { self.side.peer() }
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
        self.standing().0
    }

    /// How hosts are served here.
    pub(super) fn service(&self) -> Service {
        self.standing().1
    }

    /// What follows from the stage; that only one copy is served may be what a person wants.
    fn standing(&self) -> (PairStatus, Service) {
        let (status, service) = self.stage.view(self.role(), self.mirror);
        match (status, service, self.copies.generation().will.wanted) {
            (PairStatus::Suspended, Service::Alone | Service::Forwarded, Wanted::Split) => {
                (PairStatus::Split, service)
            }
            (PairStatus::Suspended, Service::Alone | Service::Forwarded, Wanted::Simplex) => {
                (PairStatus::Simplex, service)
            }
            _ => (status, service),
        }
    }

    /// The one writer of what a LUN lives by: role, status, service and generation. The connections are added by
    /// whoever hands it down.
    pub(super) fn view(&self) -> PairView {
        let role = self.role();
        let (status, service) = self.standing();
        if service == Service::Refused {
            return PairView::suspended(role);
        }
        let generation = self.copies.generation().tag();
        PairView { role, status, service, generation, links: Vec::new(), version: VERSION_MAX }
    }

    pub(super) const fn stage(&self) -> Stage {
        self.stage
    }

    pub(super) const fn has_kept(&self) -> bool {
        self.kept
    }

    /// What was answered may be gone: this controller is as one that has lost its memory.
    pub(super) const fn forget(&mut self) {
        self.kept = false;
    }

    /// When its copies may be refilled next.
    pub(super) const fn refilling_mut(&mut self) -> &mut Refilling {
        &mut self.refilling
    }

    /// An event: the stage changes, and the LUNs are told.
    pub(super) fn on(&mut self, event: Event, ending: Option<Ends>) -> Vec<Wish> {
        let before = self.status();
        let (stage, order) = self.stage.on(event, self.facts(ending));
        self.stage = stage;
        self.settle_asked();
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

    /// What a person has asked is done as soon as it was once: nobody undoes what comes after it.
    fn settle_asked(&mut self) {
        let (status, main, still) = (self.status(), self.main(), self.stage.switch().is_none());
        self.asked.take_if(|asked| still && asked.is_done(status, main));
    }

    /// Takes the place in the pair that the generation gives.
    fn take_place(&mut self, pairing: Pairing, open: bool) -> Vec<Wish> {
        self.kept = true;
        self.copies.begin(pairing, self.role() == Role::Main);
        vec![Wish::Begin(open)]
    }

    /// The sub has written down that the pair is split, and before that its copies were on its disk.
    pub(super) fn hear_of_image(&mut self) {
        if self.copies.generation().will.wanted == Wanted::Split {
            self.theirs = Some(Theirs::IMAGE);
        }
    }

    /// The two have parted.
    pub(super) const fn part(&mut self) {
        (self.asked, self.theirs) = (None, None);
    }

    /// A whole copy without its peer gets everything onto its disk and notes that: it stays a source although this
    /// controller be restarted before the other, which may have lost its memory, is back.
    fn flush_apart(&mut self, before: PairStatus, wishes: &mut Vec<Wish>) {
        if before == PairStatus::Duplex {
            let flush = |(lun, as_of)| Wish::Flush(lun, Pending::FlushApart(lun, as_of));
            wishes.extend(self.copies.flush_apart().into_iter().map(flush));
        }
    }

    /// Whether this controller goes on alone with it when it loses its peer now. Not with a copy whose disk failed
    /// while another was whole; the only whole one goes on, and its hosts hear what its disk says.
    pub(super) fn may_go_on(&self, ending: Option<Ends>) -> bool {
        let failed = self.copies.have_failed();
        let only = self.status() == PairStatus::Copy;
        self.stage.has_right(self.facts(ending)) && (only || !failed)
    }

    /// A group whose only whole copies are here, by a generation on this disk, goes on without its peer.
    pub(super) fn start_alone(&mut self, now: Time, ending: Option<Ends>) -> Vec<Wish> {
        let alone = self.copies.generation().members == 1 << self.side.index();
        if alone && self.mirror && self.copies.are_whole_at_main(self.side) {
            return self.on(Event::StartsAlone { until: lease::run_out(now) }, ending);
        }
        Vec::new()
    }

    /// It starts without its peer, alone or as the one that has the only copies, if it may.
    pub(super) fn start(&mut self, now: Time, ending: Option<Ends>) -> Vec<Wish> {
        if self.starts_single() {
            self.on(Event::StartsSimplex, ending)
        } else {
            self.start_alone(now, ending)
        }
    }

    /// Whether this controller has the only copies that its LUNs are to have.
    pub(super) fn starts_single(&self) -> bool {
        !self.mirror && self.copies.are_whole_at_main(self.side)
    }

    /// The leases that were granted have run out. Whether it names its copies alone, in the record that is written by
    /// this ticket.
    pub(super) fn goes_alone(&mut self, ticket: u64) -> bool {
        let (stage, order) = self.stage.on(Event::LeaseOut(ticket), self.facts(None));
        let goes = order == Order::WriteAlone;
        if goes {
            self.stage = stage;
        }
        goes
    }

    /// Whether a copy here whose disk has failed, or is full, leaves the pair.
    pub(super) fn leaves_broken(&self) -> bool {
        let pair = match self.status() {
            PairStatus::Duplex => true,
            // While it is being copied the target's is not whole: only a target can leave.
            PairStatus::Copy => self.role() == Role::Sub,
            _ => false,
        };
        pair && self.copies.are_broken()
    }

    /// Whether the peer's copy cannot leave now by a generation that wants this: the one here can not become the only
    /// one; and not by a person's word while the other is whole.
    pub(super) fn cannot_be_the_only_one(&self, wanted: Wanted) -> bool {
        let by_a_person = wanted != Wanted::Pair && self.status() == PairStatus::Duplex;
        self.copies.breakage() == Some(GIVEN_UP) || by_a_person && self.copies.are_broken()
    }

    /// Whether the copies here are out of the pair, served by the other, while that is wanted of the pair.
    fn is_left(&self, wanted: impl Fn(Wanted) -> bool) -> bool {
        let out = self.stage == Stage::Served(Pairing::Out) && self.role() == Role::Sub;
        out && wanted(self.copies.generation().will.wanted)
    }

    /// Whether the peer's copies are out of the pair by a person's word.
    pub(super) fn is_left_apart(&self) -> bool {
        matches!(self.status(), PairStatus::Split | PairStatus::Simplex)
    }

    /// A pair is wanted whose second copy is not there: it is made when the two meet. And of a copy that is out of the
    /// pair by a person's word, and has failed, the other hears then.
    pub(super) fn part_for_left_copy(&self, setting: Setting) -> Vec<Wish> {
        if !setting.joined || setting.ending.is_some() {
            return Vec::new();
        }
        let absent = self.is_left(|wanted| wanted == Wanted::Pair) && self.own_target() == Target::Absent;
        let told = |copy: &LunCopy| copy.told().is_some_and(|told| told.copy == CopyFound::Failed);
        let failed = self.is_left(|wanted| wanted != Wanted::Pair)
            && self.copies.have_failed()
            && !self.copies.iter().any(told);
        let parting = if absent { Some(Parting::Absent) } else { failed.then_some(Parting::LeftCopy) };
        parting.map(Wish::Part).into_iter().collect()
    }

    /// Whether copies that are out for want of room are to be refilled when there is some.
    pub(super) fn wants_room(&self) -> bool {
        let full = self.copies.breakage() == Some(PairFault::OwnDisk(DiskError::Full));
        let forwards = (self.role(), self.service()) == (Role::Sub, Service::Forwarded);
        full && forwards
            && self.stage.switch().is_none()
            && self.copies.generation().will.wanted == Wanted::Pair
    }

    /// Whether this controller is main of a pair that is DUPLEX, and served.
    pub(super) fn is_main_of_two(&self) -> bool {
        self.mirror && self.stage == Stage::Served(Pairing::Whole) && self.role() == Role::Main
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

    /// Main says so to the sub, or the sub that it has it durable: that both are whole is written down.
    pub(super) fn name_both(&mut self, role: Role, then: Pending) -> Vec<Wish> {
        if self.role() != role || self.status() != PairStatus::Copy {
            return Vec::new();
        }
        self.copies.iter_mut().for_each(LunCopy::name_both);
        vec![Wish::Write(then)]
    }

    /// The sub has that durable.
    pub(super) fn on_copied_at_sub(&mut self, ending: Option<Ends>) -> Vec<Wish> {
        let mut wishes = self.on(Event::CopyWhole, ending);
        wishes.push(Wish::Say(Message::CopiedDurable));
        wishes
    }

    /// What all its LUNs have in common when the peer is told of one.
    pub(super) fn common(&self, lun: usize) -> Common {
        self.copies.common(lun, self.side, self.kept, self.stage.goes_on())
    }

    /// Whether a clean end is known to be one: a copy that is not complete is not clean, it starts again.
    pub(super) fn end_cleanly(&mut self) {
        let whole = self.status() == PairStatus::Duplex || !self.mirror;
        let served = self.service().serves() && whole;
        if !self.copies.are_broken() {
            self.copies.iter_mut().for_each(|copy| copy.end_cleanly(served));
        }
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

    /// The LUNs that a clean end flushes.
    pub(super) fn to_be_flushed(&self) -> Vec<usize> {
        if self.service().serves() { self.copies.whole() } else { Vec::new() }
    }

    /// Whether anything is in flight on its LUNs.
    pub(super) fn quiet(&self, quiet: &impl Fn(usize) -> Quiet) -> Quiet {
        self.copies.iter().map(|copy| quiet(copy.lun())).fold(Quiet::Yes, Quiet::and)
    }
}
