//! Where a group stands: its stage, its copies and its generation, and what follows from them: role, status, service.
//!
//! What always holds: status, service and role follow from the stage and the generation and are stored nowhere else.

use protocol::interlink::copy_report::Pairing;
use protocol::interlink::frame::VERSION_MAX;

use super::copies::Copies;
use super::copy::Common;
use super::effect::LunOrder;
use super::lifecycle::{Ends, Event, Facts, Order, Stage};
use super::pending::Pending;
use super::refilling::Refilling;
use super::wish::Wish;
use crate::pair::{PairStatus, PairView, Quiet, Role, Service};
use crate::plan::{LunPlan, Side};

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

    pub(super) const fn preferred(&self) -> Side {
        self.preferred
    }

    pub(super) const fn mirror(&self) -> bool {
        self.mirror
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

    /// Whether this controller goes on alone with it when it loses its peer now. Not with a copy whose disk failed
    /// while another was whole; the only whole one goes on, and its hosts hear what its disk says.
    pub(super) fn may_go_on(&self, ending: Option<Ends>) -> bool {
        let failed = self.copies.have_failed();
        let only = self.status() == PairStatus::Copy;
        self.stage.has_right(self.facts(ending)) && (only || !failed)
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
