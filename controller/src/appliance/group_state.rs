//! Where a group stands: its stage, its copies and its generation, and what follows from them: role, status, service.
//!
//! What always holds: status, service and role follow from the stage and the generation and are stored nowhere else.

use protocol::interlink::copy_report::Pairing;
use protocol::interlink::frame::VERSION_MAX;
use protocol::interlink::will::{Wanted, Will};
use protocol::interlink::{GenerationTag, Message, Version};

use super::copies::Copies;
use super::copy::{Common, LunCopy};
use super::effect::LunOrder;
use super::lifecycle::{Ends, Event, Facts, Order, Stage};
use super::pair_command::Place;
use super::pending::Pending;
use super::refilling::Refilling;
use super::wish::{Setting, Wish};
use crate::lease;
use crate::pair::{PairStatus, PairView, Quiet, Role, Service};
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
        let Setting { joined, ending, peer_leaves, leaves, version } = setting;
        Place {
            mirror: self.mirror,
            status: self.status(),
            role: self.role(),
            joined,
            knows: version >= Version::V2 as u16,
            busy: ending.is_some() || peer_leaves || leaves || self.stage.switch().is_some(),
            broken: self.copies.are_broken(),
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
        let mut wishes = vec![Wish::Begin(open)];
        if self.role() == Role::Sub && self.status() == PairStatus::Split {
            wishes.extend(
                self.copies.whole().into_iter().map(|lun| Wish::Flush(lun, Pending::FlushSplit(lun))),
            );
        }
        wishes
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
        self.copies.common(lun, self.kept, self.stage.goes_on())
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
