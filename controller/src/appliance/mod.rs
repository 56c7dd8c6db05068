//! The core of one controller as part of an appliance: it meets its peer over the interlink, makes the
//! appliance's identity with it, agrees on the generation of every group, and ends cleanly. Events go in,
//! [`Effect`]s come out ([`Appliance::take_effects`]); no I/O, no clock, no lock.
//!
//! This type only coordinates; each part is a struct that never sees the others:
//!
//! ```text
//!   connections, greetings ── PeerSession ── Phase (how far the meeting is), Meeting (what belongs to it)
//!   pings, leases          ── Liveness
//!   records, volumes       ── Tickets (what is waited for)
//!   a clean end            ── Shutdown
//!   who the appliance is   ── Identities, Ids
//!   of each group          ── Group ── Stage (its life), Copies, LunCopy (what this controller has of each LUN)
//! ```
//!
//! The first controller of the configuration leads: it dials the control connection, sends the identity, the
//! agreements and the word to begin. Every step is durable on both before the next one starts, so a crash
//! anywhere leaves two states that [`crate::group::agree`] can put together.
//!
//! What always holds: each part what its own page says ([`Appliance::check`]), a LUN belongs to exactly one group, and
//! a controller whose records cannot be read writes nothing.

#[cfg(test)]
mod absence_tests;
mod comparison;
mod copies;
mod copy;
#[cfg(test)]
mod copy_tests;
#[cfg(test)]
mod device_tests;
mod effect;
#[cfg(test)]
mod ending_tests;
mod group;
#[cfg(test)]
mod grouped_tests;
mod identities;
mod ids;
mod judging;
#[cfg(test)]
mod late_tests;
mod lifecycle;
mod liveness;
#[cfg(test)]
mod mark_tests;
mod meet;
mod meeting;
#[cfg(test)]
mod memory_tests;
mod mute;
#[cfg(test)]
mod note_tests;
mod notes;
#[cfg(test)]
mod order_tests;
mod pending;
mod phase;
mod record;
mod refilling;
#[cfg(test)]
mod refusal_tests;
mod report;
mod restored;
#[cfg(test)]
mod room_tests;
mod session;
mod shutdown;
#[cfg(test)]
mod start_tests;
mod starts;
#[cfg(test)]
mod stuck_tests;
#[cfg(test)]
mod tests;
mod tickets;
mod turn;
#[cfg(test)]
mod turn_tests;
mod wish;
#[cfg(test)]
mod word_tests;

use core::time::Duration;
use std::sync::Arc;

use protocol::interlink::Message;
use protocol::interlink::hello::LunIdentity;
use protocol::interlink::standing::GroupRecord;
use protocol::interlink::word::Word;

use crate::disk::DiskError;
use crate::lease::Lease;
use crate::link::{LinkId, LinkKind};
use crate::pair::{Breakage, PairView, Quiet};
use crate::plan::Plan;
use crate::status::InterlinkStatus;
use crate::time::Time;
use crate::world::Ticket;

use copy::LunCopy;
pub use effect::{Apart, Effect, LinkRefusal, LunOrder};
use group::Group;
use identities::Identities;
use ids::Ids;
use lifecycle::{Event, Stage};
use liveness::{Beat, Liveness};
use pending::Pending;
use phase::Phase;
use protocol::interlink::GenerationTag;
pub use record::{CONTROL_KEY, ControlRecord};
pub use report::LunReport;
use report::Report;
pub use restored::Restored;
pub(crate) use restored::shared_key;
use session::{Own, PeerSession};
use shutdown::{Next, Shutdown};
use starts::Round;
use tickets::Tickets;
use wish::{Parting, Setting, Wish};

/// How often a turn looks whether nothing is in flight any more.
const TURN_POLL: Duration = Duration::from_millis(5);

/// The core of one controller.
#[derive(Debug)]
pub struct Appliance {
    plan: Plan,
    /// What this controller keeps on its disk cannot be used: it serves nothing, meets nobody, and writes nothing down.
    unusable: bool,
    ids: Ids,
    identities: Identities,
    groups: Vec<Group>,
    /// By LUN the place of its group.
    group_of: Vec<usize>,
    session: PeerSession,
    liveness: Liveness,
    shutdown: Shutdown,
    tickets: Tickets,
    /// Groups without a copy that are being made ready at the start; no meeting begins before they are.
    singles: Vec<usize>,
    /// What is to be done, in its order.
    out: Vec<Effect>,
}

/// What the core says of itself and of the peer, for people.
#[derive(Debug)]
pub struct About<'a> {
    /// The appliance's id, once made.
    pub appliance: Option<u128>,
    /// This run of this controller.
    pub incarnation: u128,
    /// It is ending.
    pub stopping: bool,
    /// The interlink; whether it is encrypted is not this core's to know.
    pub interlink: InterlinkStatus,
    /// What is wrong with the appliance as a whole, and what to do. Known while the peer is.
    pub notes: Vec<String>,
    /// What the peer said of itself last, and whether it still says so.
    pub peer_said: Option<(Time, &'a Word, bool)>,
}

impl Appliance {
    /// A controller at its start, with what it finds on disk. `random` seeds its incarnation and every id it
    /// will make.
    #[must_use]
    pub fn new(plan: Plan, restored: &Restored, random: u128, lease: Arc<Lease>) -> Self {
        let own = plan.own_name();
        let (record, unusable) = match restored.control(own) {
            Ok(record) => (record, None),
            Err(reason) => (ControlRecord::default(), Some(Apart::Unusable(own.to_owned(), reason))),
        };
        let identities = Identities::restored(&record, &plan);
        let volumes = restored.volumes_that_count(&plan);
        let copy = |lun: usize| {
            let of = &plan.luns[lun];
            let record = record.groups.iter().find(|record| record.lun == of.name);
            let wanted = identities.superblock(&of.name, own);
            let unreadable = restored.shared(own, &of.name).is_err();
            LunCopy::restored(lun, of, record, volumes[lun], wanted, unreadable)
        };
        let group = |luns: &Vec<usize>| {
            Group::restored(plan.side, &plan.luns[luns[0]], luns.iter().map(|lun| copy(*lun)).collect())
        };
        let luns = plan.groups();
        let groups = luns.iter().map(group).collect();
        let place = |lun: usize| luns.iter().position(|group| group.contains(&lun)).unwrap_or_default();
        let group_of = (0..plan.luns.len()).map(place).collect();
        let is_unusable = unusable.is_some();
        let apart = unusable.unwrap_or_else(|| Apart::NeverMet(plan.peer_name().to_owned()));
        Self {
            plan,
            unusable: is_unusable,
            ids: Ids::new(random),
            identities,
            groups,
            group_of,
            session: PeerSession::new(random, apart),
            liveness: Liveness::new(lease),
            shutdown: Shutdown::default(),
            tickets: Tickets::default(),
            singles: Vec::new(),
            out: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(crate) const fn speak_version_1(&mut self) {
        self.session.speak_version_1();
    }

    /// What is to be done since it was last asked for, in its order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        core::mem::take(&mut self.out)
    }

    /// Begins: what may be served without the peer is.
    pub fn start(&mut self, now: Time) {
        if self.unusable {
            return;
        }
        for at in 0..self.groups.len() {
            if self.groups[at].starts_single() {
                self.singles.push(at);
            }
            let ending = self.shutdown.whose();
            let wishes = self.groups[at].start_alone(now, ending);
            self.carry(at, wishes);
        }
        // Whole copies are marked when their controller starts, before it meets anybody: a disk that does not take the
        // mark has failed before the two agree on whose copies count, and takes no part in that.
        let mut any = false;
        for (at, group) in self.groups.iter_mut().enumerate() {
            any |= !self.singles.contains(&at) && group.copies_mut().choose_start_marks(&mut self.ids);
        }
        if any {
            self.persist(Pending::Named(Round::Start));
        }
        if !self.singles.is_empty() {
            self.singles.iter().for_each(|at| self.groups[*at].copies_mut().choose_marks(&mut self.ids));
            self.persist(Pending::Named(Round::Single));
        }
    }

    /// Whether identities exist: before that, no portal serves anything.
    #[must_use]
    pub const fn has_identity(&self) -> bool {
        self.identities.appliance().is_some()
    }

    /// The identity of a LUN of the plan, once made.
    #[must_use]
    pub fn lun_identity(&self, lun: usize) -> Option<&LunIdentity> {
        self.identities.of(&self.plan.luns.get(lun)?.name)
    }

    /// What it says of itself and of the peer.
    #[must_use]
    pub fn about(&self) -> About<'_> {
        let notes = |peer: &session::Peer| notes::notes(&self.plan, &peer.shared);
        About {
            appliance: self.identities.appliance(),
            incarnation: self.session.incarnation(),
            stopping: *self.session.apart() == Apart::Stopping,
            interlink: self.session.interlink(),
            notes: self.session.peer().map_or_else(Vec::new, notes),
            peer_said: self.session.word(),
        }
    }

    /// What is said of one LUN.
    #[must_use]
    pub fn lun_report(&self, lun: usize) -> LunReport {
        let report = Report {
            plan: &self.plan,
            lun,
            group: &self.groups[self.group_of[lun]],
            apart: self.session.apart(),
            joined: self.session.is_joined(),
            ends: self.shutdown.begun() || self.unusable,
        };
        report.make()
    }

    /// Whether the peer can serve a LUN, as far as this controller knows.
    #[must_use]
    pub fn peer_serves(&self, lun: usize) -> bool {
        let group = &self.groups[self.group_of[lun]];
        let paired = group.stage() != Stage::Alone;
        self.session.is_joined() && paired && group.service().serves()
    }

    /// Whether a LUN's pair is about to go on under another generation.
    #[must_use]
    pub fn is_turning(&self, lun: usize) -> bool {
        self.group_of.get(lun).is_some_and(|at| self.groups[*at].stage().turn().is_some())
    }

    /// Whether a ticket is one of this core's.
    #[must_use]
    pub const fn owns(ticket: Ticket) -> bool {
        Tickets::owns(ticket)
    }

    /// True when nothing more needs to be done before the process ends.
    #[must_use]
    pub const fn stopped(&self) -> bool {
        self.shutdown.stopped()
    }

    /// A connection of the interlink came to nothing.
    pub fn on_refusal(&mut self, refusal: LinkRefusal) {
        self.session.on_refusal(refusal, self.plan.peer_name().to_owned());
    }

    /// A connection of the interlink is open.
    pub fn on_link_up(&mut self, link: LinkId, dialed: Option<LinkKind>) {
        if self.unusable {
            return self.out.push(Effect::Close(link));
        }
        if let Some(purpose) = self.session.on_link_up(link, dialed) {
            let own = own(&self.plan, &self.identities, &self.groups);
            let hello = self.session.hello(purpose, own);
            self.out.push(Effect::Send(link, hello));
        }
    }

    /// A connection of the interlink is gone.
    pub fn on_link_down(&mut self, link: LinkId) {
        if self.session.on_link_down(link) {
            self.lose(Apart::Lost(self.plan.peer_name().to_owned()));
        }
    }

    /// A frame of the peer could not be read.
    pub fn on_nonsense(&mut self, link: LinkId) {
        let name = self.plan.peer_name().to_owned();
        match self.session.is_greeted(link) {
            Some(true) => self.lose(Apart::Nonsense(name)),
            Some(false) => self.turn_away(link, None, Apart::NotThePeer(name)),
            None => {}
        }
    }

    /// The workers do not get on: to be called as long as that lasts, instead of everything else.
    pub fn on_stuck(&mut self) {
        if self.unusable {
            return;
        }
        let stuck = Apart::Stuck(self.plan.own_name().to_owned());
        if self.session.peer().is_some() {
            return self.lose(stuck);
        }
        self.out.extend(self.session.close_all().into_iter().map(Effect::Close));
        self.session.say(stuck);
    }

    /// Something is durable while the workers do not get on: what follows from it comes when they do.
    pub fn hold_done(&mut self, ticket: Ticket, result: Result<(), DiskError>) {
        self.liveness.hold(ticket, result);
    }

    /// A disk failed here, or the peer, as a LUN says under a generation.
    pub fn on_broken(&mut self, lun: usize, breakage: Breakage, as_of: GenerationTag) {
        let (at, setting) = (self.group_of[lun], self.setting());
        let wishes = self.groups[at].on_broken(breakage, as_of, setting, &mut self.ids);
        self.carry(at, wishes);
    }

    /// Main's copy of a LUN is complete on both sides and flushed, as of a generation.
    pub fn on_copy_complete(&mut self, lun: usize, as_of: GenerationTag) {
        let (at, joined) = (self.group_of[lun], self.session.is_joined());
        let wishes = self.groups[at].on_copy_complete(lun, as_of, joined);
        self.carry(at, wishes);
    }

    /// Copies that are out of the pair for want of room are refilled, where there is some: `has_room(lun)`.
    pub fn refill(&mut self, now: Time, has_room: impl Fn(usize) -> bool) {
        for at in 0..self.groups.len() {
            let setting = self.setting();
            let wishes = self.groups[at].refill(now, &has_room, setting, &mut self.ids);
            self.carry(at, wishes);
        }
    }

    /// Time has passed. `quiet(lun)`: whether no command is in flight there.
    pub fn on_tick(&mut self, now: Time, quiet: impl Fn(usize) -> Quiet) {
        for (ticket, result) in self.liveness.release() {
            self.on_done(ticket, result);
        }
        for ticket in self.tickets.tick(now) {
            self.on_done(ticket, Err(DiskError::Silent));
        }
        if let Some(control) = self.session.control() {
            match self.liveness.tick(now, self.session.is_joined()) {
                Beat::Silent => self.lose(Apart::Silent(self.plan.peer_name().to_owned())),
                Beat::Ping => self.out.push(Effect::Send(control, Message::Ping(now.0))),
                Beat::Nothing => {}
            }
        }
        self.out.extend(self.session.word_due(now).map(Effect::Tell));
        self.out.extend(self.session.close_mute(now).into_iter().map(Effect::Close));
        for at in 0..self.groups.len() {
            let setting = self.setting();
            let wishes = self.groups[at].leave_if_broken(setting, &mut self.ids);
            self.carry(at, wishes);
        }
        for at in 0..self.groups.len() {
            let setting = self.setting();
            let wishes = self.groups[at].prefer(setting, &mut self.ids);
            self.carry(at, wishes);
        }
        self.tick_turns(now, &quiet);
        self.tick_alone(now);
        // Hosts wait for these: they shall not wait for the next tick as well.
        let turning =
            self.groups.iter().any(|group| group.stage().turn().is_some()).then_some(now + TURN_POLL);
        let alone_at = self.groups.iter().filter_map(|group| group.stage().waits_until());
        let alone_at = alone_at.filter(|at| *at > now).min();
        self.out.extend(turning.into_iter().chain(alone_at).min().map(Effect::Wake));
        let closing = |group: &&Group| self.shutdown.begun() && group.stage().closes();
        let all_quiet = self.groups.iter().filter(closing).all(|group| group.quiet(&quiet) == Quiet::Yes);
        self.tick_ending(now, all_quiet);
    }

    fn tick_turns(&mut self, now: Time, quiet: &impl Fn(usize) -> Quiet) {
        let mut any_late = false;
        for at in 0..self.groups.len() {
            let ending = self.shutdown.whose();
            let (wishes, late) = self.groups[at].tick_turn(now, at, quiet, ending);
            any_late |= late;
            self.carry(at, wishes);
        }
        if any_late {
            self.lose(Apart::Silent(self.plan.peer_name().to_owned()));
        }
    }

    /// The leases that were granted have run out: name the own copies alone. Not while the two are about to agree: what
    /// this controller has is being looked at. A peer that was met and refused has no part in it.
    fn tick_alone(&mut self, now: Time) {
        if !matches!(self.session.phase(), Phase::Apart | Phase::Joined) {
            return;
        }
        let due = |group: &Group| group.stage().waits_until().is_some_and(|at| now >= at);
        if self.shutdown.begun() || !self.groups.iter().any(due) {
            return;
        }
        let ticket = self.tickets.issue(self.session.number(), Pending::Alone);
        for group in self.groups.iter_mut().filter(|group| due(group)) {
            group.go_alone(ticket.0, &mut self.ids);
        }
        let goes = Stage::GoingAlone { ticket: ticket.0 };
        for group in self.groups.iter_mut().filter(|group| group.stage() == goes) {
            group.copies_mut().choose_marks(&mut self.ids);
        }
        self.persist_as(ticket);
    }

    /// Begins a clean end.
    pub fn stop(&mut self, now: Time) {
        if !self.shutdown.stop() {
            return;
        }
        self.session.stop();
        if self.unusable {
            return self.shutdown.is_over();
        }
        if !matches!(self.session.phase(), Phase::Apart | Phase::Joined) {
            // Nothing is to begin any more: what the two are about to agree on comes to nothing.
            self.lose(Apart::Stopping);
        }
        if let Some(control) = self.session.joined_control() {
            self.out.push(Effect::Send(control, Message::Goodbye));
        }
        self.begin_ending(now, true);
    }

    fn begin_ending(&mut self, now: Time, own: bool) {
        self.shutdown.begin(now);
        for at in 0..self.groups.len() {
            let ending = self.shutdown.whose();
            let wishes = self.groups[at].begin_ending(own, ending);
            self.carry(at, wishes);
        }
    }

    fn tick_ending(&mut self, now: Time, quiet: bool) {
        if self.shutdown.is_draining() && quiet && !self.is_any_turning() {
            if self.shutdown.drain()
                && let Some(control) = self.session.joined_control()
            {
                self.out.push(Effect::Send(control, Message::Drained));
            }
            self.flush_if_drained();
        }
        self.shutdown.tick(now);
    }

    fn is_any_turning(&self) -> bool {
        self.groups.iter().any(|group| group.stage().turn().is_some())
    }

    /// Both sides are quiet (or there is no other side): flush, so that the mark may be made.
    fn flush_if_drained(&mut self) {
        let turning = self.is_any_turning();
        if !self.shutdown.begins_to_flush(!self.session.is_joined(), turning) {
            return;
        }
        for lun in self.groups.iter().flat_map(Group::to_be_flushed).collect::<Vec<_>>() {
            self.shutdown.expect();
            let ticket = self.tickets.issue(self.session.number(), Pending::Flush(lun));
            self.out.push(Effect::Flush(lun, ticket));
        }
        self.go_on_ending();
    }

    /// A volume was flushed or marked: what comes next in an end.
    fn go_on_ending(&mut self) {
        match self.shutdown.next() {
            Next::Waits | Next::Unclean => {}
            Next::Mark => {
                self.groups.iter_mut().for_each(|group| group.choose_end_marks(&mut self.ids));
                self.persist(Pending::Named(Round::End));
            }
            Next::WriteClean => {
                self.groups.iter_mut().for_each(Group::end_cleanly);
                self.persist(Pending::Clean);
            }
        }
    }

    fn setting(&self) -> Setting {
        Setting { joined: self.session.is_joined(), ending: self.shutdown.whose() }
    }

    /// Closes every connection and stops serving what needs the peer.
    fn lose(&mut self, apart: Apart) {
        let closed = self.session.lose(apart, self.shutdown.peer_ended());
        self.out.extend(closed.into_iter().map(Effect::Close));
        let until = self.liveness.lose();
        let ending = self.shutdown.whose();
        for at in 0..self.groups.len() {
            let wishes = self.groups[at].lose(until, ending);
            self.carry(at, wishes);
        }
        self.shutdown.on_lost();
    }

    /// An event of a group.
    fn on_group(&mut self, at: usize, event: Event) {
        let ending = self.shutdown.whose();
        let wishes = self.groups[at].on(event, ending);
        self.carry(at, wishes);
    }

    /// Carries out what a group wants, in its order.
    fn carry(&mut self, at: usize, wishes: Vec<Wish>) {
        for wish in wishes {
            let group = &self.groups[at];
            match wish {
                Wish::Begin(open) => {
                    // A peer that has no part in it is nothing to these LUNs.
                    let alone = group.stage() == Stage::Alone;
                    let links = if alone { Vec::new() } else { self.session.bridges() };
                    let view = PairView { links, version: self.session.version(), ..group.view() };
                    for copy in group.copies().iter() {
                        let (lun, blocks, view) = (copy.lun(), copy.blocks(), view.clone());
                        self.out.push(Effect::Begin { lun, view, blocks, open });
                    }
                }
                Wish::Tell(order) => {
                    let view = group.view();
                    let orders = group.copies().iter().map(|copy| (copy.lun(), view.clone()));
                    self.out.extend(orders.map(|(lun, view)| Effect::Order { lun, order, view }));
                }
                Wish::Say(message) => {
                    let about = |control| {
                        let (lun, generation) = (group.copies().first_lun(), group.copies().generation());
                        Effect::SendAbout(control, lun, generation, message)
                    };
                    self.out.extend(self.session.control().map(about));
                }
                Wish::Write(pending) => self.persist(pending),
                Wish::Flush(lun, pending) => {
                    let ticket = self.tickets.issue(self.session.number(), pending);
                    self.out.push(Effect::Flush(lun, ticket));
                }
                Wish::Part(parting) => self.part(parting),
            }
        }
    }

    /// The two part, for a reason that a group has.
    fn part(&mut self, parting: Parting) {
        let own = || self.plan.own_name().to_owned();
        let peer = || self.plan.peer_name().to_owned();
        let apart = match parting {
            Parting::Nonsense => Apart::Nonsense(peer()),
            Parting::Overdue => Apart::Silent(peer()),
            Parting::InATurn => Apart::Failed(peer()),
            Parting::OwnDisk => Apart::Failed(own()),
            Parting::OwnDiskAnswers => Apart::Answers(own()),
        };
        let needs_peer = matches!(parting, Parting::OwnDisk | Parting::OwnDiskAnswers);
        if !needs_peer || self.session.peer().is_some() {
            self.lose(apart);
        }
    }

    /// Keeps the identity and all generations as they are now.
    fn persist(&mut self, pending: Pending) {
        let ticket = self.tickets.issue(self.session.number(), pending);
        self.persist_as(ticket);
    }

    fn persist_as(&mut self, ticket: Ticket) {
        if self.unusable {
            // What could not be read is never written over.
            return;
        }
        let record = |lun: usize| self.groups[self.group_of[lun]].copies().of(lun).to_record();
        let groups: Vec<(GroupRecord, bool)> = (0..self.plan.luns.len()).map(record).collect();
        let record = self.identities.record(groups).write(self.plan.own_name());
        self.out.push(Effect::Persist(CONTROL_KEY, record, ticket));
    }

    /// Asserts what always holds, of every part and between them; for simulated worlds, after every event.
    ///
    /// # Panics
    ///
    /// If something does not hold.
    pub fn check(&self) {
        self.session.check();
        self.liveness.check(self.session.peer().is_some(), self.session.is_joined());
        self.shutdown.check();
        self.tickets.check();
        self.identities.check();
        for (at, group) in self.groups.iter().enumerate() {
            group.check();
            assert!(group.copies().iter().all(|copy| self.group_of[copy.lun()] == at), "a LUN of two groups");
        }
        assert!(self.out.is_empty(), "something was not carried out: {:?}", self.out);
    }
}

/// What this controller greets with.
fn own<'a>(plan: &'a Plan, identities: &'a Identities, groups: &[Group]) -> Own<'a> {
    let unreadable = groups.iter().any(|group| group.copies().iter().any(LunCopy::is_unreadable));
    Own { plan, identity: identities.whole(), unreadable }
}
