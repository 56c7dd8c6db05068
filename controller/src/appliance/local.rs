//! This controller's side: who the appliance is, its groups, what it keeps on its disk, and what it has asked of the
//! world and waits for. What groups and meetings want done becomes [`Effect`]s here, in their order.
//!
//! What always holds: a controller whose records cannot be read writes nothing.

use protocol::interlink::Message;

use super::copy::LunCopy;
use super::creation::Made;
use super::deed::Deed;
use super::effect::{Apart, Effect, LunOrder};
use super::group::Group;
use super::groups::Groups;
use super::handshake::Both;
use super::identities::Identities;
use super::ids::Ids;
use super::lifecycle::{Ends, Stage};
use super::marking::Marking;
use super::peer::Peer;
use super::pending::Pending;
use super::phase::Phase;
use super::record::{CONTROL_KEY, ControlRecord};
use super::restored::Restored;
use super::session::{Own, PeerSession};
use super::starts::Round;
use super::tickets::Tickets;
use super::wish::{Parting, Wish};
use crate::disk::DiskError;
use crate::link::LinkId;
use crate::pair::PairView;
use crate::plan::Plan;
use crate::time::Time;
use crate::world::Ticket;

/// What this controller has and waits for.
#[derive(Debug)]
pub(super) struct Local {
    plan: Plan,
    /// What this controller keeps on its disk cannot be used: it serves nothing, meets nobody, and writes nothing down.
    unusable: bool,
    ids: Ids,
    identities: Identities,
    groups: Groups,
    tickets: Tickets,
    /// What is to be done, in its order.
    out: Vec<Effect>,
}

impl Local {
    /// What was found on disk; and why the two are apart.
    pub(super) fn restored(plan: Plan, restored: &Restored, random: u128) -> (Self, Apart) {
        let own = plan.own_name();
        let (record, unusable) = match restored.control(own) {
            Ok(record) => (record, None),
            Err(reason) => (ControlRecord::default(), Some(Apart::Unusable(own.to_owned(), reason))),
        };
        let identities = Identities::restored(&record, &plan);
        let local = Self {
            unusable: unusable.is_some(),
            ids: Ids::new(random),
            groups: Groups::restored(&plan, restored, &record, &identities),
            identities,
            tickets: Tickets::default(),
            out: Vec::new(),
            plan,
        };
        let apart = unusable.unwrap_or_else(|| Apart::NeverMet(local.plan.peer_name().to_owned()));
        (local, apart)
    }

    pub(super) const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// This controller's name.
    pub(super) fn own_name(&self) -> String {
        self.plan.own_name().to_owned()
    }

    /// The name of the other controller.
    pub(super) fn peer_name(&self) -> String {
        self.plan.peer_name().to_owned()
    }

    pub(super) const fn is_unusable(&self) -> bool {
        self.unusable
    }

    pub(super) const fn identities(&self) -> &Identities {
        &self.identities
    }

    pub(super) const fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The same, to be changed.
    pub(super) const fn groups_mut(&mut self) -> &mut Groups {
        &mut self.groups
    }

    /// The groups, and where new ids come from.
    pub(super) const fn groups_and_ids(&mut self) -> (&mut Groups, &mut Ids) {
        (&mut self.groups, &mut self.ids)
    }

    /// What this controller greets with.
    pub(super) fn own(&self) -> Own<'_> {
        Own {
            plan: &self.plan,
            identity: self.identities.whole(),
            unreadable: self.groups.is_any_unreadable(),
        }
    }

    /// What both have for a meeting with this peer.
    pub(super) const fn both<'a>(&'a mut self, peer: &'a mut Peer, ending: Option<Ends>) -> Both<'a> {
        Both {
            peer,
            plan: &self.plan,
            groups: &mut self.groups,
            identities: &mut self.identities,
            ids: &mut self.ids,
            ending,
        }
    }

    /// What is waited for.
    pub(super) const fn tickets(&self) -> &Tickets {
        &self.tickets
    }

    /// The same, to be changed.
    pub(super) const fn tickets_mut(&mut self) -> &mut Tickets {
        &mut self.tickets
    }

    /// Something is to be done.
    pub(super) fn push(&mut self, effect: Effect) {
        self.out.push(effect);
    }

    /// This is to be done, in its order.
    pub(super) fn extend(&mut self, effects: Vec<Effect>) {
        self.out.extend(effects);
    }

    /// These connections are to be closed.
    pub(super) fn close(&mut self, links: Vec<LinkId>) {
        self.out.extend(links.into_iter().map(Effect::Close));
    }

    /// A message is to be sent, if there is a connection for it.
    pub(super) fn send(&mut self, link: Option<LinkId>, message: Message) {
        self.out.extend(link.map(|link| Effect::Send(link, message)));
    }

    /// What is to be done since it was last asked for, in its order.
    pub(super) fn take_effects(&mut self) -> Vec<Effect> {
        core::mem::take(&mut self.out)
    }

    /// A group is asked what it wants, and that is carried out. Whether it wants the two to part.
    pub(super) fn ask(
        &mut self,
        at: usize,
        session: &PeerSession,
        ask: impl FnOnce(&mut Group, &mut Ids) -> Vec<Wish>,
    ) -> Option<Parting> {
        let wishes = ask(self.groups.at_mut(at), &mut self.ids);
        self.carry(at, wishes, session)
    }

    /// Carries out what a group wants, in its order. Whether it wants the two to part, which is the last thing that it
    /// wants.
    fn carry(&mut self, at: usize, wishes: Vec<Wish>, session: &PeerSession) -> Option<Parting> {
        let mut parts = None;
        for wish in wishes {
            let group = self.groups.at(at);
            match wish {
                Wish::Begin(open) => {
                    // A peer that has no part in it is nothing to these LUNs.
                    let alone = group.stage() == Stage::Alone;
                    let links = if alone { Vec::new() } else { session.bridges() };
                    let view = PairView { links, version: session.version(), ..group.state().view() };
                    let begin = |copy: &LunCopy| {
                        let (lun, blocks, view) = (copy.lun(), copy.blocks(), view.clone());
                        Effect::Begin { lun, view, blocks, open }
                    };
                    self.out.extend(group.copies().iter().map(begin));
                }
                Wish::Tell(order) => {
                    let view = group.state().view();
                    let orders = group.copies().iter().map(|copy| (copy.lun(), view.clone()));
                    self.out.extend(orders.map(|(lun, view)| Effect::Order { lun, order, view }));
                }
                Wish::Say(message) => {
                    let about = |control| {
                        let (lun, generation) = (group.copies().first_lun(), group.copies().generation());
                        Effect::SendAbout(control, lun, generation, message)
                    };
                    self.out.extend(session.control().map(about));
                }
                Wish::Write(pending) => self.persist(pending, session),
                Wish::Flush(lun, pending) => self.flush(lun, pending, session),
                Wish::Part(parting) => parts = Some(parting),
            }
        }
        parts
    }

    /// Carries out what a meeting or the marking of volumes wants; back if that is not this controller's side alone.
    pub(super) fn perform(&mut self, deed: Deed, session: &PeerSession) -> Option<Deed> {
        match deed {
            Deed::Send(message) => self.send(session.control(), message),
            Deed::Identified(lun, blocks) => self.out.push(Effect::Identified(lun, blocks)),
            Deed::LunsChanged => self.out.push(Effect::LunsChanged),
            Deed::Write(pending) => self.persist(pending, session),
            Deed::Create(lun, superblock) => {
                let ticket = self.issue(Pending::Volume(lun, superblock), session);
                self.out.push(Effect::Create(lun, superblock, ticket));
            }
            Deed::Flush(lun) => self.flush(lun, Pending::Flush(lun), session),
            Deed::FlushEarly(lun) => {
                let view = self.groups.of(lun).state().view();
                self.out.push(Effect::Order { lun, order: LunOrder::Flushes, view });
                self.flush(lun, Pending::FlushEarly(lun), session);
            }
            Deed::Mark(lun, superblock, round) => {
                let ticket = self.issue(Pending::Marked(lun, round), session);
                self.out.push(Effect::BeginService(lun, superblock, ticket));
            }
            other => return Some(other),
        }
        None
    }

    /// A volume was made, or could not be.
    pub(super) fn on_made(
        &mut self,
        lun: usize,
        result: Result<(), DiskError>,
        session: &PeerSession,
    ) -> Vec<Deed> {
        let making = matches!(session.phase(), Phase::Making { .. });
        match self.groups.copy_mut(lun).on_made(result, session.handshake().number(), making) {
            Made::NotWaitedFor => Vec::new(),
            Made::GoesOn => vec![Deed::VolumeDone],
            Made::Fails(error) => vec![Deed::Part(Apart::NoVolume(self.own_name(), error))],
        }
    }

    /// The leases that were granted have run out, of some groups: they name their own copies alone.
    pub(super) fn go_alone(&mut self, now: Time, marking: &Marking, session: &PeerSession) {
        if !self.groups.is_any_lease_out(now) {
            return;
        }
        let ticket = self.issue(Pending::Alone, session);
        self.groups.go_alone(now, ticket.0, &mut self.ids);
        marking.choose(Round::Alone(ticket.0), &mut self.groups, &mut self.ids);
        self.persist_as(ticket);
    }

    /// This controller has started: its copies are marked, as far as they are.
    pub(super) fn mark_at_start(&mut self, marking: &Marking, session: &PeerSession) {
        for round in [Round::Start, Round::Single] {
            if marking.choose(round, &mut self.groups, &mut self.ids) {
                self.persist(Pending::Named(round), session);
            }
        }
    }

    /// A disk has done after all what it was given up for. Whether that is worth another meeting. `ends`: a clean end
    /// has begun.
    pub(super) fn on_late(&mut self, ticket: Ticket, good: bool, ends: bool, session: &PeerSession) -> bool {
        match self.tickets.take_late(ticket) {
            Some(Pending::Volume(lun, superblock)) if good => {
                self.groups.copy_mut(lun).on_made_late(superblock)
            }
            Some(Pending::Marked(lun, _))
                if good && !ends && self.groups.of_mut(lun).state_mut().on_late_mark(lun) =>
            {
                self.persist(Pending::MarkedLate(lun), session);
                false
            }
            _ => false,
        }
    }

    /// A ticket for what is asked for in this meeting.
    fn issue(&mut self, pending: Pending, session: &PeerSession) -> Ticket {
        self.tickets.issue(session.handshake().number(), pending)
    }

    /// A volume is flushed.
    fn flush(&mut self, lun: usize, pending: Pending, session: &PeerSession) {
        let ticket = self.issue(pending, session);
        self.out.push(Effect::Flush(lun, ticket));
    }

    /// Keeps the identity and all generations as they are now.
    fn persist(&mut self, pending: Pending, session: &PeerSession) {
        let ticket = self.issue(pending, session);
        self.persist_as(ticket);
    }

    /// The same, under a ticket that was issued for it.
    fn persist_as(&mut self, ticket: Ticket) {
        if self.unusable {
            // What could not be read is never written over.
            return;
        }
        let record = self.identities.record(self.groups.records()).write(self.plan.own_name());
        self.out.push(Effect::Persist(CONTROL_KEY, record, ticket));
    }

    /// Asserts what always holds.
    pub(super) fn check(&self) {
        self.tickets.check();
        self.identities.check();
        self.groups.check();
        assert!(self.out.is_empty(), "something was not carried out: {:?}", self.out);
    }
}
