//! Meeting the peer, step by step: from the greetings to the LUNs being served ([`super::phase`] has the drawing), and
//! what is made durable on the way. Every message and every completion of the appliance core enters here.

use protocol::interlink::hello::{Hello, Identity, Purpose};
use protocol::interlink::message::Agreement;
use protocol::interlink::standing::Standing;
use protocol::interlink::{GenerationTag, Message};

use super::copy::{Creation, LunCopy, Made};
use super::effect::{Apart, Effect};
use super::group::Group;
use super::identities;
use super::judging::Judge;
use super::lifecycle::{Event, Stage};
use super::pending::Pending;
use super::phase::{Phase, Progress, Step};
use super::session::Greeted;
use super::starts::Round;
use super::{Appliance, comparison, judging};
use crate::disk::DiskError;
use crate::group::Refusal;
use crate::link::LinkId;
use crate::time::Time;
use crate::world::Ticket;

impl Appliance {
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
        self.liveness.heard(now);
        match message {
            Message::Ping(number) => {
                self.liveness.grant(number, now);
                self.out.push(Effect::Send(link, Message::Pong(number)));
            }
            Message::Pong(number) => self.liveness.on_pong(number, now),
            Message::Identity(identity) => self.on_identity(identity),
            Message::IdentityDurable => self.on_settled(Progress::PeerIdentity),
            Message::Starts(told) => self.session.hear_told(told),
            Message::Standings(standings) => {
                self.session.hear_standings(standings);
                self.judge_if_compared();
            }
            Message::Agreements(agreements) => self.on_agreements(agreements),
            Message::AgreementsDurable => self.on_agreements_durable(),
            Message::Begin => self.on_begin(),
            Message::Goodbye if self.session.is_joined() => self.begin_ending(now, false),
            Message::Drained => {
                self.shutdown.on_peer_drained();
                self.flush_if_drained();
            }
            Message::Farewell => {
                if self.shutdown.on_farewell() {
                    self.session.say(Apart::Stopped(self.plan.peer_name().to_owned()));
                }
            }
            Message::Word(word) => self.session.hear_word(now, *word),
            other => self.on_message_about(lun, generation, other),
        }
    }

    /// A message about a group, by one of its LUNs, that is not data.
    fn on_message_about(&mut self, lun: Option<usize>, generation: GenerationTag, message: Message) {
        let Some(lun) = lun.filter(|_| self.session.is_joined()) else {
            return;
        };
        let (at, luns, leads) = (self.group_of[lun], self.plan.luns.len(), self.plan.leads());
        let group = &mut self.groups[at];
        if matches!(group.stage(), Stage::Placed(_)) {
            return self.session.meeting_mut().keep_word((lun, generation, message), luns);
        }
        let current = group.copies().generation().tag() == generation;
        let ending = self.shutdown.whose();
        let wishes = match message {
            Message::Turn { generation, pairing } if current => {
                group.on_turn(generation, pairing, leads, ending)
            }
            word @ (Message::TurnDurable(_) | Message::TurnBegin(_) | Message::TurnBegun(_)) => {
                group.on_turn_word(&word, ending)
            }
            Message::Copied if current => group.on_copied(at),
            Message::CopiedDurable if current => group.on_copied_durable(at),
            _ => return,
        };
        self.carry(at, wishes);
    }

    /// A record is durable, a volume made, a volume flushed.
    pub fn on_done(&mut self, ticket: Ticket, result: Result<(), DiskError>) {
        let Some((meeting, pending)) = self.tickets.take(ticket) else {
            return self.on_late(ticket, result);
        };
        if meeting != self.session.number() && !pending.outlives_meetings() {
            return;
        }
        match pending {
            Pending::Volume(lun, _) => self.on_own_volume(lun, result),
            Pending::Alone => self.on_named(Round::Alone(ticket.0)),
            Pending::Named(round) => self.on_named(round),
            Pending::Marked(lun, round) => {
                self.on_marked(lun, round, result, meeting == self.session.number());
            }
            Pending::Over(round) => self.on_round_over(round),
            Pending::MarkedLate(lun) => self.on_late_mark_durable(lun),
            Pending::FlushApart(lun, as_of) => {
                let (at, joined) = (self.group_of[lun], self.session.is_joined());
                let own = self.plan.own_name();
                let wishes = self.groups[at].on_flushed_apart(lun, as_of, result.is_ok(), own, joined);
                self.carry(at, wishes);
            }
            Pending::Identity => {
                if let Some(control) = self.session.control().filter(|_| !self.plan.leads()) {
                    self.out.push(Effect::Send(control, Message::IdentityDurable));
                }
                self.on_settled(Progress::OwnIdentity);
            }
            Pending::Agreements => self.on_own_agreements_durable(),
            Pending::Confirmed => self.begin_placed(),
            Pending::CopiedAtSub(at) => {
                let wishes = self.groups[at].on_copied_at_sub(self.shutdown.whose());
                self.carry(at, wishes);
            }
            Pending::CopiedAtMain(at) => {
                let setting = self.setting();
                let wishes = self.groups[at].on_copied_at_main(setting, &mut self.ids);
                self.carry(at, wishes);
            }
            Pending::Turn(at) => {
                let wishes = self.groups[at].on_own_turn_durable(self.shutdown.whose());
                self.carry(at, wishes);
            }
            Pending::Flush(_) => {
                self.shutdown.on_flushed(result.is_ok());
                self.go_on_ending();
            }
            Pending::Clean => {
                let control = self.session.joined_control();
                self.out.extend(control.map(|control| Effect::Send(control, Message::Farewell)));
                self.shutdown.on_clean(control.is_some());
            }
            Pending::Noted => {}
        }
    }

    fn copy_mut(&mut self, lun: usize) -> &mut LunCopy {
        self.groups[self.group_of[lun]].copies_mut().of_mut(lun)
    }

    /// A disk has done after all what it was given up for.
    fn on_late(&mut self, ticket: Ticket, result: Result<(), DiskError>) {
        match self.tickets.take_late(ticket) {
            Some(Pending::Volume(lun, superblock))
                if result.is_ok() && self.copy_mut(lun).on_made_late(superblock) =>
            {
                self.meet_again_if_idle();
            }
            Some(Pending::Marked(lun, _))
                if result.is_ok()
                    && !self.shutdown.begun()
                    && self.groups[self.group_of[lun]].on_late_mark(lun) =>
            {
                self.persist(Pending::MarkedLate(lun));
            }
            _ => {}
        }
    }

    /// That is written down: the copy has the part that it would have had at the start, alone or in a new meeting.
    fn on_late_mark_durable(&mut self, lun: usize) {
        let at = self.group_of[lun];
        if self.groups[at].stage() != Stage::Apart {
            return;
        }
        self.meet_again_if_idle();
        if self.groups[at].starts_single() {
            self.on_group(at, Event::StartsSimplex);
        } else {
            let (now, ending) = (self.tickets.ticked(), self.shutdown.whose());
            let wishes = self.groups[at].start_alone(now, ending);
            self.carry(at, wishes);
        }
    }

    /// What was given up for its disk's silence can have a part again, in a new meeting. That makes whole LUNs be
    /// copied: where others are served it is not worth it.
    fn meet_again_if_idle(&mut self) {
        let served = self.groups.iter().any(|group| group.stage().is_joint());
        if self.session.peer().is_some() && !served && !self.shutdown.begun() {
            self.lose(Apart::Answers(self.plan.own_name().to_owned()));
        }
    }

    /// The other end of a connection greets.
    fn on_hello(&mut self, link: LinkId, hello: &Hello, now: Time) {
        let own = super::own(&self.plan, &self.identities, &self.groups);
        match self.session.on_hello(link, hello, own) {
            Greeted::Nothing => {}
            Greeted::Refused(apart) => self.turn_away(link, Some(hello.purpose), apart),
            Greeted::Anew => self.lose(Apart::Lost(self.plan.peer_name().to_owned())),
            Greeted::Taken { answer, control } => {
                if answer {
                    self.out.push(Effect::Send(link, self.session.hello(hello.purpose, own)));
                }
                if control {
                    self.liveness.greeted(now);
                    // Before anything else: what is forwarded as soon as the two have met may be late, and its age is
                    // known then.
                    self.out.push(Effect::Send(link, Message::Ping(now.0)));
                }
                self.join_if_complete();
            }
        }
    }

    /// Closes a connection that did not become one of the peer's; the others do not care. Who dialed hears whom it
    /// reached, so that both can tell why.
    pub(super) fn turn_away(&mut self, link: LinkId, purpose: Option<Purpose>, apart: Apart) {
        let Some(called) = self.session.turn_away(link, apart) else {
            return;
        };
        if let Some(purpose) = purpose.filter(|_| called) {
            let own = super::own(&self.plan, &self.identities, &self.groups);
            self.out.push(Effect::Send(link, self.session.hello(purpose, own)));
        }
        self.out.push(Effect::Close(link));
    }

    /// The leader goes on when the control connection and all bridges of both sides are greeted: it sends the identity
    /// and keeps it; the other keeps what it gets.
    fn join_if_complete(&mut self) {
        let goes_on = self.plan.leads()
            && self.session.phase() == Phase::Apart
            && self.session.is_complete(self.plan.bridges)
            && !self.shutdown.begun()
            && !self.is_writing_first();
        let (Some(control), Some(peer)) = (self.session.control(), self.session.peer()) else {
            return;
        };
        if goes_on {
            let blocks = |lun| comparison::first_blocks(&self.plan, &peer.rooms, lun);
            let identity = self.identities.complete(&peer.identity, &self.plan, blocks, &mut self.ids);
            self.out.push(Effect::Send(control, Message::Identity(identity.clone())));
            self.session.advance(Progress::Identity { peer: false });
            self.keep_identity(identity);
        }
    }

    fn on_identity(&mut self, identity: Identity) {
        if self.plan.leads() || self.session.phase() != Phase::Apart || self.shutdown.begun() {
            return;
        }
        if self.is_writing_first() {
            // What is being written comes first.
            return self.session.meeting_mut().keep_identity(identity);
        }
        if !self.session.has_what_the_leader_counts(self.plan.bridges) {
            return self.lose(Apart::Lost(self.plan.peer_name().to_owned()));
        }
        self.session.advance(Progress::Identity { peer: true });
        self.keep_identity(identity);
    }

    fn keep_identity(&mut self, identity: Identity) {
        // A LUN that neither knew is known to both from here on, even if this meeting is cut before it is served. One
        // that only the peer knew is not before the two have agreed on it: this controller may have lost its state.
        let peer_had =
            |name: &str| self.session.peer().is_some_and(|peer| identities::has(&peer.identity, name));
        let knew = |name: &str| self.identities.of(name).is_some() || peer_had(name);
        let new: Vec<bool> = self
            .plan
            .luns
            .iter()
            .map(|lun| identities::has(&identity, &lun.name) && !knew(&lun.name))
            .collect();
        let news = self.identities.take_on(identity, &self.plan);
        for copy in self.groups.iter_mut().flat_map(|group| group.copies_mut().iter_mut()) {
            let wanted = self.identities.superblock(copy.name(), self.plan.own_name());
            copy.identify(wanted, new[copy.lun()]);
        }
        self.out.extend(news.identified.into_iter().map(|(lun, blocks)| Effect::Identified(lun, blocks)));
        if news.added {
            self.out.push(Effect::LunsChanged);
        }
        self.persist(Pending::Identity);
    }

    /// The identity is durable here or at the peer. On both: both tell what they have of each LUN.
    fn on_settled(&mut self, progress: Progress) {
        if self.session.advance(progress).is_settled() {
            self.session.meeting_mut().settle();
            self.tell_standings();
        }
    }

    fn tell_standings(&mut self) {
        self.session.advance(Progress::Tells);
        self.session.meeting_mut().tell();
        let starts = self.session.knows_starts();
        let (mut standings, mut told) = (Vec::new(), Vec::new());
        for (lun, plan) in self.plan.luns.iter().enumerate() {
            let group = &mut self.groups[self.group_of[lun]];
            let common = group.common();
            let copy = group.copies_mut().of_mut(lun);
            standings.push((plan.name.clone(), copy.tell(common, starts)));
            told.push((plan.name.clone(), copy.told_beside(common)));
        }
        if let Some(control) = self.session.control() {
            if starts {
                self.out.push(Effect::Send(control, Message::Starts(told)));
            }
            self.out.push(Effect::Send(control, Message::Standings(standings)));
        }
        self.judge_if_compared();
    }

    /// What the peer has. Both come to the same agreement; the leader's word makes it so. The peer may tell what it has
    /// before this controller's own record of the identity is durable.
    fn judge_if_compared(&mut self) {
        if self.session.phase() != Phase::Comparing {
            return;
        }
        let Some(theirs) = self.session.take_standings() else {
            return;
        };
        if self.make_volumes(&theirs) {
            return;
        }
        let early = self.session.meeting_mut().compare();
        let mut agreements = Vec::new();
        for at in 0..self.groups.len() {
            match self.judge(at, &theirs) {
                Ok(agreed) => {
                    self.groups[at].accept();
                    agreements.extend(agreed);
                }
                Err(refusal) => {
                    let newer = judging::is_newer(&theirs, &self.groups[at]);
                    let wishes = self.groups[at].refuse(refusal, newer, self.shutdown.whose());
                    self.carry(at, wishes);
                }
            }
        }
        // It has come back since the peer was told.
        let own = self.plan.own_name().to_owned();
        if self.groups.iter().any(|group| group.is_settled_since(&own)) {
            return self.lose(Apart::Answers(own));
        }
        if self.plan.leads() {
            let own = self.plan.side as u8;
            let mine = agreements.iter().filter(|agreement| agreement.generation.main == own);
            let mine: Vec<Agreement> = mine.cloned().collect();
            self.session.meeting_mut().keep(agreements);
            self.carry_out(&mine, Step::LeadingOwn);
        } else if let Some(early) = early {
            self.carry_out(&early, Step::Following);
        }
    }

    /// Whether the two agree on a group, and on what.
    fn judge(&mut self, at: usize, theirs: &[(String, Standing)]) -> Result<Vec<Agreement>, Refusal> {
        let Some(peer) = self.session.peer() else {
            return Ok(Vec::new());
        };
        let judge = Judge { plan: &self.plan, peer, theirs };
        let mut resized = Vec::new();
        let group = &mut self.groups[at];
        let agreed = judge.judge(group, &mut self.identities, &mut self.ids, &mut resized);
        self.out.extend(resized.into_iter().map(|(lun, blocks)| Effect::Identified(lun, blocks)));
        agreed
    }

    /// The volumes of LUNs that the two never agreed on are made on both before either writes a generation down: a LUN
    /// with a size that one of them has no room for is not half made. Both tell what they have again when theirs are
    /// there, or cannot be made. Whether that is to be waited for; both come to the same, from what both were told.
    fn make_volumes(&mut self, theirs: &[(String, Standing)]) -> bool {
        let Some(peer) = self.session.peer() else {
            return false;
        };
        let judge = Judge { plan: &self.plan, peer, theirs };
        let groups = self.groups.iter().map(|group| judge.to_be_made(group)).enumerate();
        let to_be_made: Vec<(usize, Vec<usize>)> = groups.filter(|(_, luns)| !luns.is_empty()).collect();
        if to_be_made.is_empty() || !self.session.knows_starts() || !self.session.meeting_mut().make() {
            return false;
        }
        let mut waits = 0;
        for (at, luns) in to_be_made {
            for agreement in self.judge(at, theirs).unwrap_or_default() {
                let lun = self.lun_to_create(&agreement).filter(|lun| luns.contains(lun));
                waits += u32::from(lun.is_some_and(|lun| self.create(lun)));
            }
        }
        self.session.advance(Progress::Makes(waits));
        if waits == 0 {
            self.tell_standings();
        }
        true
    }

    /// The LUN of which an agreement wants a volume made here.
    fn lun_to_create(&self, agreement: &Agreement) -> Option<usize> {
        let wanted = agreement.create & (1 << self.plan.side.index()) != 0;
        self.plan.luns.iter().position(|lun| lun.name == agreement.lun).filter(|_| wanted)
    }

    fn on_agreements(&mut self, agreements: Vec<Agreement>) {
        if self.plan.leads() || self.session.phase() != Phase::Comparing {
            return;
        }
        if let Some(agreements) = self.session.meeting_mut().hear(agreements) {
            self.carry_out(&agreements, Step::Following);
        }
    }

    /// Volumes first, then the generations, both durable. Whoever will be main of a LUN writes it down first: the
    /// leader those it will be main of, then the other all of them, then the leader the rest.
    fn carry_out(&mut self, agreements: &[Agreement], step: Step) {
        let mut waits = 0;
        for agreement in agreements {
            let Some(lun) = self.plan.luns.iter().position(|lun| lun.name == agreement.lun) else {
                continue;
            };
            let at = self.group_of[lun];
            let wishes = self.groups[at].agree(lun, agreement.generation, agreement.pairing);
            self.carry(at, wishes);
            waits += u32::from(self.lun_to_create(agreement).is_some_and(|lun| self.create(lun)));
        }
        self.session.advance(Progress::CarriesOut(step, waits));
        if waits == 0 {
            self.write_agreements();
        }
    }

    /// All volumes are there: the generations come next, and only now are this controller's. A meeting that ends before
    /// leaves it with what it had.
    fn write_agreements(&mut self) {
        let starts = self.session.knows_starts();
        self.groups.iter_mut().for_each(|group| group.copies_mut().take_on_agreed(starts));
        for group in self.groups.iter_mut().filter(|group| group.stage().is_agreed()) {
            group.copies_mut().choose_marks(&mut self.ids);
        }
        self.persist(Pending::Agreements);
    }

    /// Has a LUN's volume made. Whether there is anything to wait for.
    fn create(&mut self, lun: usize) -> bool {
        let meeting = self.session.number();
        match self.groups[self.group_of[lun]].copies_mut().create(lun, meeting) {
            Creation::Nothing => return false,
            Creation::Waited => {}
            Creation::Make(superblock) => {
                let ticket = self.tickets.issue(meeting, Pending::Volume(lun, superblock));
                self.out.push(Effect::Create(lun, superblock, ticket));
            }
        }
        true
    }

    /// A volume was made, or could not be.
    fn on_own_volume(&mut self, lun: usize, result: Result<(), DiskError>) {
        let making = matches!(self.session.phase(), Phase::Making { .. });
        let meeting = self.session.number();
        match self.copy_mut(lun).on_made(result, meeting, making) {
            Made::NotWaitedFor => {}
            Made::GoesOn => match self.session.advance(Progress::OneLess) {
                Phase::Making { waits: 0 } => self.tell_standings(),
                Phase::Agreeing { waits: 0, .. } => self.write_agreements(),
                _ => {}
            },
            Made::Fails(error) => self.lose(Apart::NoVolume(self.plan.own_name().to_owned(), error)),
        }
    }

    fn on_own_agreements_durable(&mut self) {
        let (Phase::Agreeing { step, .. }, Some(control)) = (self.session.phase(), self.session.control())
        else {
            return;
        };
        match step {
            Step::LeadingOwn => {
                self.session.advance(Progress::SendsAgreements);
                let agreements = self.session.meeting_mut().agreements();
                self.out.push(Effect::Send(control, Message::Agreements(agreements)));
            }
            Step::LeadingRest | Step::Following => self.on_named(Round::Agreed),
            Step::LeadingPeer | Step::Placed => {}
        }
    }

    fn on_agreements_durable(&mut self) {
        if !matches!(self.session.phase(), Phase::Agreeing { step: Step::LeadingPeer, .. }) {
            return;
        }
        let own = self.plan.side as u8;
        let agreements = self.session.meeting_mut().take_agreements().into_iter();
        let rest: Vec<Agreement> = agreements.filter(|agreement| agreement.generation.main != own).collect();
        self.carry_out(&rest, Step::LeadingRest);
    }

    /// Whether a group's volumes are marked in a round.
    fn is_in(&self, at: usize, round: Round) -> bool {
        match round {
            // Those without a copy are marked by themselves.
            Round::Start => !self.singles.contains(&at),
            Round::Single => self.singles.contains(&at),
            Round::Alone(ticket) => self.groups[at].stage() == Stage::GoingAlone { ticket },
            Round::Agreed => self.groups[at].stage().is_agreed(),
            Round::End => true,
        }
    }

    /// The record that names the marks of a round is durable: they are written.
    fn on_named(&mut self, round: Round) {
        let mut waits = 0;
        for at in (0..self.groups.len()).filter(|at| self.is_in(*at, round)).collect::<Vec<_>>() {
            for (lun, superblock) in self.groups[at].copies().to_mark() {
                let ticket = self.tickets.issue(self.session.number(), Pending::Marked(lun, round));
                self.out.push(Effect::BeginService(lun, superblock, ticket));
                waits += 1;
            }
        }
        match round {
            Round::Start => self.meet_now(),
            Round::Single if waits == 0 => self.persist(Pending::Over(round)),
            Round::Alone(_) if waits == 0 => self.on_round_over(round),
            Round::Single | Round::Alone(_) => {}
            Round::Agreed => {
                self.session.advance(Progress::Marks(waits));
                if waits == 0 {
                    self.write_starts();
                }
            }
            Round::End => {
                (0..waits).for_each(|_| self.shutdown.expect());
                self.go_on_ending();
            }
        }
    }

    /// A volume has its mark, or its disk did not take it; `current`: the meeting that asked for it is still under way.
    fn on_marked(&mut self, lun: usize, round: Round, result: Result<(), DiskError>, current: bool) {
        let at = self.group_of[lun];
        if round == Round::End {
            // Without the mark nothing says that this end was clean, and no more: the copy has all that was answered,
            // and is marked again before it serves alone.
            let good = result.is_ok() && self.groups[at].copies_mut().on_marked(lun, result);
            self.shutdown.on_flushed(good);
            return self.go_on_ending();
        }
        let good = self.groups[at].copies_mut().on_marked(lun, result);
        match round {
            Round::Start => {
                if !good {
                    self.on_group(at, Event::DiskLost);
                }
                self.meet_now();
            }
            Round::Single | Round::Alone(_) => {
                if !good {
                    self.singles.retain(|single| *single != at);
                    self.on_group(at, Event::Refused { for_good: true });
                }
                if !self.tickets.any(|pending| pending.is_mark_of(round)) {
                    self.persist(Pending::Over(round));
                }
            }
            Round::Agreed if !current => {}
            // The two meet again without that copy.
            Round::Agreed if !good => self.lose(Apart::Failed(self.plan.own_name().to_owned())),
            Round::Agreed => {
                if matches!(self.session.advance(Progress::OneLess), Phase::Agreeing { waits: 0, .. }) {
                    self.write_starts();
                }
            }
            Round::End => {}
        }
    }

    /// All marks of a meeting are durable; so is the generation on both of every LUN whose main has told or been told.
    fn write_starts(&mut self) {
        let all = matches!(self.session.phase(), Phase::Agreeing { step: Step::LeadingRest, .. });
        self.know_as_joint(all);
        self.persist(Pending::Over(Round::Agreed));
    }

    /// The generation of all groups that were agreed on is durable on both, or of those that the peer is main of.
    /// Whether that is new of any.
    fn know_as_joint(&mut self, all: bool) -> bool {
        let peer = self.plan.side.peer() as u8;
        let mut news = false;
        if self.session.knows_starts() {
            let told = |group: &&mut Group| all || group.copies().generation().main == peer;
            self.groups.iter_mut().filter(told).for_each(|group| news |= group.know_as_joint());
        }
        news
    }

    /// What says that the marks of a round are there is durable.
    fn on_round_over(&mut self, round: Round) {
        match round {
            Round::Single => {
                for at in core::mem::take(&mut self.singles) {
                    self.on_group(at, Event::StartsSimplex);
                }
            }
            Round::Alone(ticket) => {
                (0..self.groups.len()).for_each(|at| self.on_group(at, Event::AloneDurable(ticket)));
            }
            Round::Agreed => return self.on_own_starts_durable(),
            Round::Start | Round::End => return,
        }
        self.meet_now();
    }

    /// Nothing that was put back later can have what both have now.
    fn on_own_starts_durable(&mut self) {
        let (Phase::Agreeing { step, .. }, Some(control)) = (self.session.phase(), self.session.control())
        else {
            return;
        };
        self.session.advance(Progress::StartsDurable);
        match step {
            Step::LeadingRest => {
                self.shutdown.on_joined();
                self.out.push(Effect::Send(control, Message::Begin));
                (0..self.groups.len()).for_each(|at| self.on_group(at, Event::TakesPlace { open: true }));
            }
            Step::Following => {
                // From here on the leader may begin at any time, and its first message may come by a bridge before
                // its word to begin: take the place now, serve hosts with that word.
                (0..self.groups.len()).for_each(|at| self.on_group(at, Event::TakesPlace { open: false }));
                self.out.push(Effect::Send(control, Message::AgreementsDurable));
            }
            Step::LeadingOwn | Step::LeadingPeer | Step::Placed => {}
        }
    }

    fn on_begin(&mut self) {
        if !matches!(self.session.phase(), Phase::Agreeing { step: Step::Placed, .. }) {
            return;
        }
        self.session.advance(Progress::Begin);
        self.shutdown.on_joined();
        // The leader has everything durable: of what this controller is main of, that is written down first.
        if self.know_as_joint(true) {
            self.persist(Pending::Confirmed);
        } else {
            self.begin_placed();
        }
    }

    fn begin_placed(&mut self) {
        (0..self.groups.len()).for_each(|at| self.on_group(at, Event::Begins));
        // What the leader said of them meanwhile.
        for (lun, generation, message) in self.session.meeting_mut().take_words() {
            self.on_message_about(Some(lun), generation, message);
        }
    }

    /// Whether a generation that names a copy alone is being written, or the marks of a start are: no meeting begins
    /// before they are.
    fn is_writing_first(&self) -> bool {
        !self.singles.is_empty()
            || self.tickets.any(Pending::is_of_start)
            || self.groups.iter().any(|group| matches!(group.stage(), Stage::GoingAlone { .. }))
    }

    /// What waited for that to be written down.
    fn meet_now(&mut self) {
        if self.is_writing_first() {
            return;
        }
        self.join_if_complete();
        if let Some(identity) = self.session.meeting_mut().take_identity() {
            self.on_identity(identity);
        }
    }
}
