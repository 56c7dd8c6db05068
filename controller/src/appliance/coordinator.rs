//! The core of one controller: events go in, and are handed to the part that they concern; what the parts want done is
//! carried out here, in its order.
//!
//! What always holds: each part what its own page says ([`Appliance::check`]).

use std::sync::Arc;

use protocol::interlink::hello::{Hello, Identity};
use protocol::interlink::{GenerationTag, Message, Version};

use crate::disk::DiskError;
use crate::lease::Lease;
use crate::link::{LinkId, LinkKind};
use crate::pair::{PairFault, Quiet};
use crate::plan::Plan;
use crate::time::Time;
use crate::world::Ticket;

use super::deed::Deed;
use super::effect::{Apart, Effect, LinkRefusal};
use super::group::Group;
use super::handshake::{Both, Handshake};
use super::ids::Ids;
use super::lifecycle::{Event, Stage};
use super::liveness::{Beat, Liveness};
use super::local::Local;
use super::marking::Marking;
use super::pending::Pending;
use super::phase::{Phase, Progress};
use super::restored::Restored;
use super::session::{Came, PeerSession};
use super::shutdown::{Ending, Shutdown};
use super::starts::Round;
use super::view::View;
use super::wish::{Setting, Wish};

/// The core of one controller.
#[derive(Debug)]
pub struct Appliance {
    local: Local,
    session: PeerSession,
    liveness: Liveness,
    marking: Marking,
    shutdown: Shutdown,
}

impl Appliance {
    /// A controller at its start, with what it finds on disk. `random` seeds its incarnation and every id it
    /// will make.
    #[must_use]
    pub fn new(plan: Plan, restored: &Restored, random: u128, lease: Arc<Lease>) -> Self {
        let (local, apart) = Local::restored(plan, restored, random);
        Self {
            local,
            session: PeerSession::new(random, apart),
            liveness: Liveness::new(lease),
            marking: Marking::default(),
            shutdown: Shutdown::default(),
        }
    }

    #[cfg(test)]
    pub(crate) const fn speak_version_1(&mut self) {
        self.session.speak_version_1();
    }

    /// What is to be done since it was last asked for, in its order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        self.local.take_effects()
    }

    /// The core as it is now, to be read.
    #[must_use]
    pub const fn view(&self) -> View<'_> {
        View { local: &self.local, session: &self.session, shutdown: &self.shutdown }
    }

    /// Begins: what may be served without the peer is.
    pub fn start(&mut self, now: Time) {
        if self.local.is_unusable() {
            return;
        }
        let groups = self.local.groups().iter().enumerate();
        groups
            .filter(|(_, group)| group.state().starts_single())
            .for_each(|(at, _)| self.marking.add_single(at));
        self.each(|_, group, setting, _| group.state_mut().start_alone(now, setting.ending));
        // Whole copies are marked when their controller starts, before it meets anybody: a disk that does not take the
        // mark has failed before the two agree on whose copies count, and takes no part in that.
        self.local.mark_at_start(&self.marking, &self.session);
    }

    /// A connection of the interlink came to nothing.
    pub fn on_refusal(&mut self, refusal: LinkRefusal) {
        self.session.on_refusal(refusal, self.local.peer_name());
    }

    /// A connection of the interlink is open.
    pub fn on_link_up(&mut self, link: LinkId, dialed: Option<LinkKind>) {
        if self.local.is_unusable() {
            return self.local.push(Effect::Close(link));
        }
        let came = self.session.on_link_up(link, dialed, self.local.own());
        self.take(came);
    }

    /// A connection of the interlink is gone.
    pub fn on_link_down(&mut self, link: LinkId) {
        let came = self.session.on_link_down(link, self.local.own());
        self.take(came);
    }

    /// A frame of the peer could not be read.
    pub fn on_violation(&mut self, link: LinkId) {
        let came = self.session.on_violation(link, self.local.own());
        self.take(came);
    }

    /// The workers do not get on: to be called as long as that lasts, instead of everything else.
    pub fn on_stuck(&mut self) {
        if !self.local.is_unusable() {
            let came = self.session.on_stuck(Apart::Stuck(self.local.own_name()));
            self.take(came);
        }
    }

    /// Something is durable while the workers do not get on: what follows from it comes when they do.
    pub fn hold_done(&mut self, ticket: Ticket, result: Result<(), DiskError>) {
        self.liveness.hold(ticket, result);
    }

    /// A disk failed here, or the peer, as a LUN says under a generation.
    pub fn on_broken(&mut self, lun: usize, breakage: PairFault, as_of: GenerationTag) {
        let at = self.local.groups().place(lun);
        self.ask(at, |group, setting, ids| group.on_broken(breakage, as_of, setting, ids));
    }

    /// Main's copy of a LUN is complete on both sides and flushed, as of a generation.
    pub fn on_copy_complete(&mut self, lun: usize, as_of: GenerationTag) {
        let at = self.local.groups().place(lun);
        self.ask(at, |group, setting, _| group.state_mut().on_copy_complete(lun, as_of, setting.joined));
    }

    /// Time has passed. `quiet(lun)`: whether no command is in flight there; `has_room(lun)`: whether a copy that is
    /// out of the pair for want of room finds some.
    pub fn on_tick(&mut self, now: Time, quiet: impl Fn(usize) -> Quiet, has_room: impl Fn(usize) -> bool) {
        self.liveness.release().into_iter().for_each(|(ticket, result)| self.on_done(ticket, result, now));
        let silent = self.local.tickets_mut().tick(now);
        silent.into_iter().for_each(|ticket| self.on_done(ticket, Err(DiskError::Silent), now));
        // The leases that were granted have run out: name the own copies alone. Not while the two are about to agree:
        // what this controller has is being looked at. A peer that was met and refused has no part in it. If the two
        // part in this tick, the LUNs are told first, and say whether they have given their disks up.
        let joined = self.session.is_joined();
        if matches!(self.session.phase(), Phase::Apart | Phase::Joined) && !self.shutdown.begun() {
            self.local.go_alone(now, &self.marking, &self.session);
        }
        if let Some(control) = self.session.control() {
            match self.liveness.tick(now, self.session.is_joined()) {
                Beat::Silent => self.lose(Apart::Silent(self.local.peer_name())),
                Beat::Ping => self.local.send(Some(control), Message::Ping(now.0)),
                Beat::Nothing => {}
            }
        }
        self.local.extend(self.session.tick(now));
        self.each(|_, group, setting, ids| group.tick(setting, ids));
        self.each(|at, group, setting, _| group.tick_switch(at, &quiet, setting));
        let parted = joined && !self.session.is_joined();
        let wake = self.local.groups().next_wake(now, parted, self.shutdown.drains());
        self.local.extend(wake.map(Effect::Wake).into_iter().collect());
        let quiet = !self.shutdown.begun() || self.local.groups().are_closed_ones_quiet(&quiet);
        self.end(|end, on| end.tick(now, quiet, on));
        self.each(|_, group, setting, ids| group.refill(&has_room, setting, ids));
    }

    /// A clean end is to come when hosts have left.
    pub fn announce_stop(&mut self) {
        let now = self.local.tickets().ticked();
        self.end(|end, on| end.announce(now, on));
    }

    /// Begins a clean end; before it this controller hands over what it is main of.
    pub fn stop(&mut self, now: Time) {
        self.end(|end, on| end.stop(now, on));
    }

    fn begin_own_end(&mut self) {
        self.session.stop();
        if self.local.is_unusable() {
            return self.shutdown.is_over();
        }
        if !matches!(self.session.phase(), Phase::Apart | Phase::Joined) {
            // Nothing is to begin any more: what the two are about to agree on comes to nothing.
            self.lose(Apart::Stopping);
        }
        self.local.send(self.session.joined_control(), Message::Goodbye);
        self.each(|_, group, setting, _| group.begin_ending(true, setting.ending));
    }

    /// A message that is not about data.
    pub fn on_message(
        &mut self,
        link: LinkId,
        lun: Option<usize>,
        generation: GenerationTag,
        message: Message,
        now: Time,
    ) {
        if let Message::Hello(hello) = message {
            return self.on_hello(link, &hello, now);
        }
        if self.session.control() != Some(link) {
            return;
        }
        if let Some(answer) = self.liveness.hear(&message, now) {
            self.local.send(Some(link), answer);
        }
        match message {
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Identity(identity) => self.on_identity(identity),
            Message::IdentityDurable => {
                self.meet(|meeting, both| meeting.on_settled(Progress::PeerIdentity, both));
            }
            Message::Starts(told) => self.meet(|meeting, both| meeting.on_told(told, both)),
            Message::CopyReports(reports) => self.meet(|meeting, both| meeting.on_reports(reports, both)),
            Message::Agreements(agreements) => {
                self.meet(|meeting, both| meeting.on_agreements(agreements, both));
            }
            Message::AgreementsDurable => self.meet(Handshake::on_agreements_durable),
            Message::Begin => self.meet(Handshake::on_begin),
            Message::Leaving if self.session.is_joined() => self.end(|end, on| end.on_leaving(now, on)),
            Message::Ready => self.end(|end, on| end.on_ready(now, on)),
            Message::Goodbye if self.session.is_joined() => {
                self.shutdown.begin(now);
                self.each(|_, group, setting, _| group.begin_ending(false, setting.ending));
            }
            Message::Drained => self.end(Shutdown::on_peer_drained),
            Message::Farewell => self.end(|end, _| end.on_farewell()),
            Message::PeerStatus(word) => self.session.hear_status(now, *word),
            other => self.on_message_about(lun, generation, other),
        }
    }

    /// A message about a group, by one of its LUNs, that is not data.
    fn on_message_about(&mut self, lun: Option<usize>, generation: GenerationTag, message: Message) {
        let Some(lun) = lun.filter(|_| self.session.is_joined()) else {
            return;
        };
        let (at, plan) = (self.local.groups().place(lun), self.local.plan());
        if matches!(self.local.groups().at(at).stage(), Stage::Placed(_)) {
            let meeting = self.session.handshake_mut().meeting_mut();
            return meeting.keep_early((lun, generation, message), plan.luns.len());
        }
        let leads = plan.leads();
        self.ask(at, |group, setting, ids| group.on_message(at, generation, &message, leads, setting, ids));
    }

    /// A record is durable, a volume made, a volume flushed.
    pub fn on_done(&mut self, ticket: Ticket, result: Result<(), DiskError>, now: Time) {
        let Some((asked_in, pending)) = self.local.tickets_mut().take(ticket) else {
            if self.local.on_late(ticket, result.is_ok(), self.shutdown.begun(), &self.session) {
                self.meet_again_if_idle();
            }
            return;
        };
        let current = asked_in == self.session.handshake().number();
        match pending {
            _ if !current && !pending.outlives_meetings() => {}
            Pending::Volume(lun, _) => {
                let deeds = self.local.on_made(lun, result, &self.session);
                self.perform(deeds);
            }
            Pending::Alone => self.on_named(Round::Alone(ticket.0)),
            Pending::Named(round) => self.on_named(round),
            Pending::Marked(lun, round) => self.on_marked(lun, round, result, current),
            Pending::Over(Round::Agreed) => self.meet(|meeting, _| meeting.on_starts_durable()),
            Pending::Over(round) => {
                let deeds = self.marking.on_over(round);
                self.perform(deeds);
            }
            Pending::MarkedLate(lun) => self.on_late_mark_durable(lun),
            Pending::FlushApart(lun, as_of) => {
                let (at, own) = (self.local.groups().place(lun), self.local.own_name());
                self.ask(at, |group, setting, _| {
                    group.on_flushed_apart(lun, as_of, result.is_ok(), &own, setting.joined)
                });
            }
            Pending::Identity => {
                let control = self.session.control().filter(|_| !self.local.plan().leads());
                self.local.send(control, Message::IdentityDurable);
                self.meet(|meeting, both| meeting.on_settled(Progress::OwnIdentity, both));
            }
            Pending::Agreements => self.meet(|meeting, _| meeting.on_own_agreements_durable()),
            Pending::Confirmed => self.begin_placed(),
            Pending::CopiedAtSub(at) => {
                self.ask(at, |group, setting, _| group.state_mut().on_copied_at_sub(setting.ending));
            }
            Pending::CopiedAtMain(at) => self.ask(at, Group::on_copied_at_main),
            Pending::Switch(at) => {
                self.ask(at, |group, setting, _| group.on_own_switch_durable(setting.ending))
            }
            Pending::FlushAhead(lun) | Pending::FlushSplit(lun) => {
                let (at, ahead) = (self.local.groups().place(lun), pending == Pending::FlushAhead(lun));
                self.ask(at, |group, setting, ids| group.on_flushed_to_split(ahead, result, setting, ids));
            }
            Pending::Flush(lun) | Pending::FlushEarly(lun) => {
                // What was acknowledged may be gone from that copy: it does not become the only one.
                if let Err(error) = result {
                    let as_of = self.local.groups().of(lun).copies().generation().tag();
                    self.on_broken(lun, PairFault::OwnDisk(error), as_of);
                }
                self.end(|end, on| end.on_flushed_volume(pending, result.is_ok(), now, on));
            }
            Pending::Clean => self.end(|end, on| end.on_clean(now, on.joined)),
            Pending::Noted => {}
        }
    }

    /// That is written down: the copy has the part that it would have had at the start, alone or in a new meeting.
    fn on_late_mark_durable(&mut self, lun: usize) {
        let at = self.local.groups().place(lun);
        if self.local.groups().at(at).stage() == Stage::Apart {
            self.meet_again_if_idle();
            let now = self.local.tickets().ticked();
            self.ask(at, |group, setting, _| group.state_mut().start(now, setting.ending));
        }
    }

    /// What was given up can have a part in a new meeting, which has whole LUNs copied: not where others are served.
    fn meet_again_if_idle(&mut self) {
        let served = self.local.groups().is_any_joint();
        if self.session.peer().is_some() && !served && !self.shutdown.begun() {
            self.lose(Apart::Answers(self.local.own_name()));
        }
    }

    /// What came of something on a connection.
    fn take(&mut self, came: Came) {
        self.local.extend(came.effects);
        if let Some(apart) = came.lost {
            self.lose(apart);
        }
        if came.greeted.is_some() {
            self.join_if_complete();
        }
    }

    /// The other end of a connection greets.
    fn on_hello(&mut self, link: LinkId, hello: &Hello, now: Time) {
        let came = self.session.on_hello(link, hello, now, self.local.own());
        if came.greeted == Some(true) {
            self.liveness.greeted(now);
        }
        self.take(came);
    }

    /// The leader goes on when the control connection and all bridges of both sides are greeted: it sends the identity
    /// and keeps it; the other keeps what it gets.
    fn join_if_complete(&mut self) {
        if self.session.is_complete(self.local.plan().bridges) && !self.is_writing_first() {
            self.meet(Handshake::lead);
        }
    }

    fn on_identity(&mut self, identity: Identity) {
        let complete = self.session.has_what_the_leader_counts(self.local.plan().bridges);
        let first = self.is_writing_first();
        self.meet(|meeting, both| meeting.follow(identity, complete, first, both));
    }

    /// A volume has its mark, or its disk did not take it; `current`: the meeting that asked for it is still under way.
    fn on_marked(&mut self, lun: usize, round: Round, result: Result<(), DiskError>, current: bool) {
        let more = self.local.tickets().any(|pending| pending.is_mark_of(round));
        let deeds = self.marking.on_marked(lun, round, result, more, self.local.groups_mut());
        if current || round != Round::Agreed {
            self.perform(deeds);
        }
    }

    fn on_named(&mut self, round: Round) {
        let deeds = self.marking.on_named(round, self.local.groups());
        self.perform(deeds);
    }

    fn begin_placed(&mut self) {
        self.each(|_, group, setting, _| group.on(Event::Begins, setting.ending));
        // What the leader said of them meanwhile.
        for (lun, generation, message) in self.session.handshake_mut().meeting_mut().take_early() {
            self.on_message_about(Some(lun), generation, message);
        }
    }

    /// Whether what names a copy alone, or the marks of a start, are being written: no meeting begins before they are.
    fn is_writing_first(&self) -> bool {
        self.marking.is_making_ready()
            || self.local.tickets().any(Pending::is_of_start)
            || self.local.groups().is_any_going_alone()
    }

    /// What waited for that to be written down.
    fn meet_now(&mut self) {
        if !self.is_writing_first() {
            self.join_if_complete();
            if let Some(identity) = self.session.handshake_mut().meeting_mut().take_identity() {
                self.on_identity(identity);
            }
        }
    }

    /// A step of the meeting with the peer, if there is one.
    fn meet(&mut self, step: impl FnOnce(&mut Handshake, &mut Both<'_>) -> Vec<Deed>) {
        let ending = self.shutdown.whose();
        if let Some((meeting, peer)) = self.session.meet() {
            let deeds = step(meeting, &mut self.local.both(peer, ending));
            self.perform(deeds);
        }
    }

    /// A step of a clean end.
    fn end(&mut self, step: impl FnOnce(&mut Shutdown, &mut Ending<'_>) -> Vec<Deed>) {
        let (groups, ids) = self.local.groups_and_ids();
        let knows_hand_over = self.session.version() >= Version::V2 as u16;
        let on = &mut Ending { joined: self.session.is_joined(), knows_hand_over, groups, ids };
        let deeds = step(&mut self.shutdown, on);
        self.perform(deeds);
    }

    /// Carries out what a meeting or the marking of volumes wants, in its order.
    fn perform(&mut self, deeds: Vec<Deed>) {
        let now = self.local.tickets().ticked();
        for deed in deeds {
            match self.local.perform(deed, &self.session) {
                Some(Deed::Group(at, wishes)) => self.ask(at, |_, _, _| wishes),
                Some(Deed::Happens(at, event)) => {
                    self.ask(at, |group, setting, _| group.on(event, setting.ending));
                }
                Some(Deed::EveryGroup(event)) => {
                    self.each(|_, group, setting, _| group.on(event, setting.ending));
                }
                Some(Deed::Named(round)) => self.on_named(round),
                Some(Deed::VolumeDone) => self.meet(Handshake::on_volume),
                Some(Deed::Marks(Round::End, waits)) => self.end(|end, on| end.on_marks_named(waits, on)),
                Some(Deed::Marks(_, waits)) => self.meet(|meeting, both| meeting.on_marks_named(waits, both)),
                Some(Deed::Marked(Round::End, good)) => self.end(|end, on| end.on_volume(good, on)),
                Some(Deed::Marked(_, true)) => self.meet(Handshake::on_marked),
                // The two meet again without that copy.
                Some(Deed::Marked(_, false)) => self.lose(Apart::Failed(self.local.own_name())),
                Some(Deed::Joined) => self.end(|end, on| end.on_joined(now, on)),
                Some(Deed::FlushesHang) => {
                    let hung = self.local.tickets().of(Pending::is_early_flush);
                    hung.into_iter().for_each(|ticket| self.on_done(ticket, Err(DiskError::Silent), now));
                }
                Some(Deed::EndBegins) => self.begin_own_end(),
                Some(Deed::PeerStops) => self.session.say(Apart::Stopped(self.local.peer_name())),
                Some(Deed::BeginPlaced) => self.begin_placed(),
                Some(Deed::GoOn) => self.meet_now(),
                Some(Deed::Part(apart)) => self.lose(apart),
                _ => {}
            }
        }
    }

    /// A group is asked what it wants, and that is carried out.
    pub(super) fn ask(&mut self, at: usize, ask: impl FnOnce(&mut Group, Setting, &mut Ids) -> Vec<Wish>) {
        let setting = self.view().setting();
        let parts = self.local.ask(at, &self.session, |group, ids| ask(group, setting, ids));
        let whole = || self.local.groups().is_any_whole();
        if let Some(parting) = parts.filter(|it| it.is_due(self.session.peer().is_some(), whole)) {
            self.lose(parting.apart(self.local.plan()));
        }
    }

    /// Every group is asked in turn: what one wants is carried out before the next is asked.
    fn each(&mut self, mut ask: impl FnMut(usize, &mut Group, Setting, &mut Ids) -> Vec<Wish>) {
        for at in 0..self.local.groups().len() {
            self.ask(at, |group, setting, ids| ask(at, group, setting, ids));
        }
    }

    /// Closes every connection and stops serving what needs the peer.
    fn lose(&mut self, apart: Apart) {
        let ended = self.shutdown.peer_ended();
        self.local.close(self.session.lose(apart, ended));
        let until = self.liveness.lose(ended);
        self.local.extend(ended.then_some(Effect::Wake(until)).into_iter().collect());
        self.each(|_, group, setting, _| group.lose(until, setting.ending));
        self.shutdown.on_lost();
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
        self.local.check();
    }
}
