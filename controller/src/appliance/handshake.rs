//! Meeting the peer, step by step: from the identity to the LUNs being served ([`super::phase`] has the drawing), and
//! what is made durable on the way. Each step takes what both have told, and returns what is to be done.
//!
//! What always holds: no step is taken before what it rests on is durable on both, and what belongs to a meeting is
//! forgotten when it ends ([`Handshake::end`]).

use protocol::interlink::Message;
use protocol::interlink::copy_report::{CopyReport, Told};
use protocol::interlink::hello::Identity;
use protocol::interlink::message::Agreement;

use super::comparison;
use super::creation::Creation;
use super::deed::Deed;
use super::effect::Apart;
use super::groups::Groups;
use super::identities::{self, Identities};
use super::ids::Ids;
use super::judging::{self, Judge};
use super::lifecycle::{Ends, Event};
use super::meeting::Meeting;
use super::peer::Peer;
use super::pending::Pending;
use super::phase::{Phase, Progress, Step};
use super::starts::Round;
use crate::group::Refusal;
use crate::plan::Plan;

/// What both have for a meeting: what the peer has told, and this controller's side.
#[derive(Debug)]
pub(super) struct Both<'a> {
    pub(super) peer: &'a mut Peer,
    pub(super) plan: &'a Plan,
    pub(super) groups: &'a mut Groups,
    pub(super) identities: &'a mut Identities,
    pub(super) ids: &'a mut Ids,
    /// Whose clean end has begun.
    pub(super) ending: Option<Ends>,
}

/// The meeting under way, if there is one.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    /// Counts meetings, so that what an earlier one waited for means nothing to a later one.
    number: u64,
    phase: Phase,
    meeting: Meeting,
}

impl Handshake {
    /// Which meeting this is.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    pub(super) const fn phase(&self) -> Phase {
        self.phase
    }

    /// The meeting goes on.
    pub(super) const fn advance(&mut self, progress: Progress) -> Phase {
        self.phase = self.phase.on(progress);
        self.phase
    }

    /// The peer is out of reach.
    pub(super) fn end(&mut self) {
        let phase = self.phase.on(Progress::Lost);
        *self = Self { number: self.number + 1, phase, meeting: Meeting::default() };
    }

    /// Whether nothing of a meeting waits for its time.
    pub(super) fn is_idle(&self) -> bool {
        self.meeting.is_empty()
    }

    /// What came before its time, and what the leader has yet to send.
    pub(super) const fn meeting_mut(&mut self) -> &mut Meeting {
        &mut self.meeting
    }

    /// The leader begins, all connections being there: it sends the identity and keeps it.
    pub(super) fn lead(&mut self, both: &mut Both<'_>) -> Vec<Deed> {
        if !both.plan.leads() || self.phase != Phase::Apart || both.ending.is_some() {
            return Vec::new();
        }
        let blocks = |lun| comparison::first_blocks(both.plan, &both.peer.rooms, lun);
        let identity = both.identities.complete(&both.peer.identity, both.plan, blocks, both.ids);
        self.advance(Progress::Identity { peer: false });
        let mut deeds = vec![Deed::Send(Message::Identity(identity.clone()))];
        deeds.extend(keep_identity(identity, both));
        deeds
    }

    /// The other keeps what it gets; `complete`: it has every bridge that the leader has counted; `writes_first`:
    /// something is being written that comes first.
    pub(super) fn follow(
        &mut self,
        identity: Identity,
        complete: bool,
        writes_first: bool,
        both: &mut Both<'_>,
    ) -> Vec<Deed> {
        if both.plan.leads() || self.phase != Phase::Apart || both.ending.is_some() {
            return Vec::new();
        }
        if writes_first {
            self.meeting.keep_identity(identity);
            return Vec::new();
        }
        if !complete {
            return vec![Deed::Part(Apart::Lost(both.plan.peer_name().to_owned()))];
        }
        self.advance(Progress::Identity { peer: true });
        keep_identity(identity, both)
    }

    /// The identity is durable here or at the peer. On both: both tell what they have of each LUN.
    pub(super) fn on_settled(&mut self, progress: Progress, both: &mut Both<'_>) -> Vec<Deed> {
        if !self.advance(progress).is_settled() {
            return Vec::new();
        }
        self.meeting.settle();
        self.tell(both)
    }

    fn tell(&mut self, both: &mut Both<'_>) -> Vec<Deed> {
        self.advance(Progress::Tells);
        self.meeting.tell();
        let (reports, told) = both.groups.tell(both.peer.knows_starts());
        let mut deeds = Vec::new();
        if both.peer.knows_starts() {
            deeds.push(Deed::Send(Message::Starts(told)));
        }
        deeds.push(Deed::Send(Message::CopyReports(reports)));
        deeds.extend(self.compare(both));
        deeds
    }

    /// The peer tells of copies.
    pub(super) fn on_reports(
        &mut self,
        reports: Vec<(String, CopyReport)>,
        both: &mut Both<'_>,
    ) -> Vec<Deed> {
        both.peer.hear_reports(reports);
        self.compare(both)
    }

    /// And beside that of times in which both served.
    pub(super) fn on_told(&self, told: Vec<(String, Told)>, both: &mut Both<'_>) -> Vec<Deed> {
        both.peer.hear_told(told);
        Vec::new()
    }

    /// What the peer has, if it has told. Both come to the same agreement; the leader's word makes it so. The peer may
    /// tell what it has before this controller's own record of the identity is durable.
    pub(super) fn compare(&mut self, both: &mut Both<'_>) -> Vec<Deed> {
        if self.phase != Phase::Comparing {
            return Vec::new();
        }
        let Some(theirs) = both.peer.take_reports() else {
            return Vec::new();
        };
        if let Some(deeds) = self.make_volumes(&theirs, both) {
            return deeds;
        }
        let early = self.meeting.compare();
        let (mut deeds, mut agreements) = (Vec::new(), Vec::new());
        for at in 0..both.groups.len() {
            match judge(at, &theirs, both, &mut deeds) {
                Ok(agreed) => {
                    both.groups.at_mut(at).accept();
                    agreements.extend(agreed);
                }
                Err(refusal) => {
                    let newer = judging::is_newer(&theirs, both.groups.at(at));
                    let wishes = both.groups.at_mut(at).refuse(refusal, newer, both.ending);
                    deeds.push(Deed::Group(at, wishes));
                }
            }
        }
        // It has come back since the peer was told.
        let own = both.plan.own_name();
        if both.groups.iter().any(|group| group.is_settled_since(own)) {
            deeds.push(Deed::Part(Apart::Answers(own.to_owned())));
        } else if both.plan.leads() {
            let own = both.plan.side as u8;
            let mine = agreements.iter().filter(|agreement| agreement.generation.main == own);
            let mine: Vec<Agreement> = mine.cloned().collect();
            self.meeting.keep(agreements);
            deeds.extend(self.carry_out(&mine, Step::LeadingOwn, both));
        } else if let Some(early) = early {
            deeds.extend(self.carry_out(&early, Step::Following, both));
        }
        deeds
    }

    /// The volumes of LUNs that the two never agreed on are made on both before either writes a generation down: a LUN
    /// with a size that one of them has no room for is not half made. Both tell what they have again when theirs are
    /// there, or cannot be made. Nothing if that is not to be waited for; both come to the same, from what both were
    /// told.
    fn make_volumes(&mut self, theirs: &[(String, CopyReport)], both: &mut Both<'_>) -> Option<Vec<Deed>> {
        let to_be_made: Vec<(usize, Vec<usize>)> = {
            let judge = Judge { plan: both.plan, peer: both.peer, theirs };
            let groups = both.groups.iter().map(|group| judge.to_be_made(group)).enumerate();
            groups.filter(|(_, luns)| !luns.is_empty()).collect()
        };
        if to_be_made.is_empty() || !both.peer.knows_starts() || !self.meeting.make() {
            return None;
        }
        let (mut deeds, mut waits) = (Vec::new(), 0);
        for (at, luns) in to_be_made {
            for agreement in judge(at, theirs, both, &mut deeds).unwrap_or_default() {
                let lun = lun_to_create(both.plan, &agreement).filter(|lun| luns.contains(lun));
                waits += u32::from(lun.is_some_and(|lun| self.create(lun, both, &mut deeds)));
            }
        }
        self.advance(Progress::Makes(waits));
        if waits == 0 {
            deeds.extend(self.tell(both));
        }
        Some(deeds)
    }

    /// The leader's agreements have come.
    pub(super) fn on_agreements(&mut self, agreements: Vec<Agreement>, both: &mut Both<'_>) -> Vec<Deed> {
        if both.plan.leads() || self.phase != Phase::Comparing {
            return Vec::new();
        }
        let heard = self.meeting.hear(agreements);
        heard.map_or_else(Vec::new, |agreements| self.carry_out(&agreements, Step::Following, both))
    }

    /// Volumes first, then the generations, both durable. Whoever will be main of a LUN writes it down first: the
    /// leader those it will be main of, then the other all of them, then the leader the rest.
    fn carry_out(&mut self, agreements: &[Agreement], step: Step, both: &mut Both<'_>) -> Vec<Deed> {
        let (mut deeds, mut waits) = (Vec::new(), 0);
        for agreement in agreements {
            let Some(lun) = both.plan.luns.iter().position(|lun| lun.name == agreement.lun) else {
                continue;
            };
            let group = both.groups.of_mut(lun);
            let wishes = group.agree(lun, agreement.generation, agreement.pairing);
            deeds.push(Deed::Group(both.groups.place(lun), wishes));
            let creates = lun_to_create(both.plan, agreement);
            waits += u32::from(creates.is_some_and(|lun| self.create(lun, both, &mut deeds)));
        }
        self.advance(Progress::CarriesOut(step, waits));
        if waits == 0 {
            deeds.extend(write_agreements(both));
        }
        deeds
    }

    /// Has a LUN's volume made. Whether there is anything to wait for.
    fn create(&self, lun: usize, both: &mut Both<'_>, deeds: &mut Vec<Deed>) -> bool {
        match both.groups.of_mut(lun).copies_mut().create(lun, self.number) {
            Creation::Nothing => return false,
            Creation::Waited => {}
            Creation::Make(superblock) => deeds.push(Deed::Create(lun, superblock)),
        }
        true
    }

    /// A volume that was waited for is made, or will not be.
    pub(super) fn on_volume(&mut self, both: &mut Both<'_>) -> Vec<Deed> {
        match self.advance(Progress::OneLess) {
            Phase::Making { waits: 0 } => self.tell(both),
            Phase::Agreeing { waits: 0, .. } => write_agreements(both),
            _ => Vec::new(),
        }
    }

    /// The generations of a step are durable here.
    pub(super) fn on_own_agreements_durable(&mut self) -> Vec<Deed> {
        let Phase::Agreeing { step, .. } = self.phase else {
            return Vec::new();
        };
        match step {
            Step::LeadingOwn => {
                self.advance(Progress::SendsAgreements);
                vec![Deed::Send(Message::Agreements(self.meeting.agreements()))]
            }
            Step::LeadingRest | Step::Following => vec![Deed::Named(Round::Agreed)],
            Step::LeadingPeer | Step::Placed => Vec::new(),
        }
    }

    /// The other has all of them durable.
    pub(super) fn on_agreements_durable(&mut self, both: &mut Both<'_>) -> Vec<Deed> {
        if !matches!(self.phase, Phase::Agreeing { step: Step::LeadingPeer, .. }) {
            return Vec::new();
        }
        let own = both.plan.side as u8;
        let agreements = self.meeting.take_agreements().into_iter();
        let rest: Vec<Agreement> = agreements.filter(|agreement| agreement.generation.main != own).collect();
        self.carry_out(&rest, Step::LeadingRest, both)
    }

    /// What names the marks is durable: so many volumes have to be marked.
    pub(super) fn on_marks_named(&mut self, waits: u32, both: &mut Both<'_>) -> Vec<Deed> {
        self.advance(Progress::Marks(waits));
        if waits == 0 { self.write_starts(both) } else { Vec::new() }
    }

    /// One of them is marked.
    pub(super) fn on_marked(&mut self, both: &mut Both<'_>) -> Vec<Deed> {
        let last = matches!(self.advance(Progress::OneLess), Phase::Agreeing { waits: 0, .. });
        if last { self.write_starts(both) } else { Vec::new() }
    }

    /// All marks of a meeting are durable; so is the generation on both of every LUN whose main has told or been told.
    fn write_starts(&self, both: &mut Both<'_>) -> Vec<Deed> {
        let all = matches!(self.phase, Phase::Agreeing { step: Step::LeadingRest, .. });
        know_as_joint(all, both);
        vec![Deed::Write(Pending::Over(Round::Agreed))]
    }

    /// Nothing that was put back later can have what both have now.
    pub(super) fn on_starts_durable(&mut self) -> Vec<Deed> {
        let Phase::Agreeing { step, .. } = self.phase else {
            return Vec::new();
        };
        self.advance(Progress::StartsDurable);
        match step {
            Step::LeadingRest => vec![
                Deed::Send(Message::Begin),
                // What this controller says then is heard: the other has begun.
                Deed::Joined,
                Deed::EveryGroup(Event::TakesPlace { open: true }),
            ],
            // From here on the leader may begin at any time, and its first message may come by a bridge before its word
            // to begin: take the place now, serve hosts with that word.
            Step::Following => vec![
                Deed::EveryGroup(Event::TakesPlace { open: false }),
                Deed::Send(Message::AgreementsDurable),
            ],
            Step::LeadingOwn | Step::LeadingPeer | Step::Placed => Vec::new(),
        }
    }

    /// The leader's word to begin: it has everything durable.
    pub(super) fn on_begin(&mut self, both: &mut Both<'_>) -> Vec<Deed> {
        if !matches!(self.phase, Phase::Agreeing { step: Step::Placed, .. }) {
            return Vec::new();
        }
        self.advance(Progress::Begin);
        // Of what this controller is main of, that is written down first.
        let news = know_as_joint(true, both);
        vec![Deed::Joined, if news { Deed::Write(Pending::Confirmed) } else { Deed::BeginPlaced }]
    }
}

fn keep_identity(identity: Identity, both: &mut Both<'_>) -> Vec<Deed> {
    // A LUN that neither knew is known to both from here on, even if this meeting is cut before it is served. One
    // that only the peer knew is not before the two have agreed on it: this controller may have lost its state.
    let knew = |name: &str| both.identities.of(name).is_some() || identities::has(&both.peer.identity, name);
    let is_new = |name: &str| identities::has(&identity, name) && !knew(name);
    let new: Vec<bool> = both.plan.luns.iter().map(|lun| is_new(&lun.name)).collect();
    let news = both.identities.take_on(identity, both.plan);
    both.groups.identify(both.identities, both.plan.own_name(), &new);
    let identified = news.identified.into_iter().map(|(lun, blocks)| Deed::Identified(lun, blocks));
    let mut deeds: Vec<Deed> = identified.collect();
    if news.added {
        deeds.push(Deed::LunsChanged);
    }
    deeds.push(Deed::Write(Pending::Identity));
    deeds
}

/// Whether the two agree on a group, and on what.
fn judge(
    at: usize,
    theirs: &[(String, CopyReport)],
    both: &mut Both<'_>,
    deeds: &mut Vec<Deed>,
) -> Result<Vec<Agreement>, Refusal> {
    let judge = Judge { plan: both.plan, peer: both.peer, theirs };
    let mut resized = Vec::new();
    let agreed = judge.judge(both.groups.at_mut(at), both.identities, both.ids, &mut resized);
    deeds.extend(resized.into_iter().map(|(lun, blocks)| Deed::Identified(lun, blocks)));
    agreed
}

/// The LUN of which an agreement wants a volume made here.
fn lun_to_create(plan: &Plan, agreement: &Agreement) -> Option<usize> {
    let wanted = agreement.create & (1 << plan.side.index()) != 0;
    plan.luns.iter().position(|lun| lun.name == agreement.lun).filter(|_| wanted)
}

/// All volumes are there: the generations come next, and only now are this controller's. A meeting that ends before
/// leaves it with what it had.
fn write_agreements(both: &mut Both<'_>) -> Vec<Deed> {
    both.groups.take_on_agreed(both.peer.knows_starts());
    both.groups.choose_marks(|group| group.stage().is_agreed(), both.ids);
    vec![Deed::Write(Pending::Agreements)]
}

/// The generation of all groups that were agreed on is durable on both, or of those that the peer is main of. Whether
/// that is new of any.
fn know_as_joint(all: bool, both: &mut Both<'_>) -> bool {
    let main = if all { None } else { Some(both.plan.side.peer()) };
    both.peer.knows_starts() && both.groups.know_as_joint(main)
}
