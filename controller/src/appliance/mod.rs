//! The core of one controller as part of an appliance: it meets its peer over the interlink, makes the
//! appliance's identity with it, agrees on the generation of every group, and ends cleanly. Events go in,
//! [`Effect`]s come out; no I/O, no clock, no lock.
//!
//! ```text
//!           control connection and all bridges greeted
//!  Apart ───────────────────────────────────────────────► Settling   identity durable on both
//!    ▲                                                       │
//!    │ any connection lost, peer silent, peer refused     Comparing  what each has of every LUN
//!    │                                                       │
//!    │                                                    Making     volumes of new LUNs, then both tell again
//!    │                                                       │
//!    │                                                    Agreeing   volumes made, generations durable on both
//!    │                                                       │
//!    └──────────────────────────────────────────────────── Joined    LUNs are served
//! ```
//!
//! The first controller of the configuration leads: it dials the control connection, sends the identity, the
//! agreements and the word to begin. Every step is durable on both before the next one starts, so a crash
//! anywhere leaves two states that [`crate::group::agree`] can put together.

#[cfg(test)]
mod absence_tests;
mod alone;
#[cfg(test)]
mod copy_tests;
#[cfg(test)]
mod device_tests;
mod effect;
mod ending;
#[cfg(test)]
mod ending_tests;
mod greeting;
mod group;
mod identity;
mod joining;
#[cfg(test)]
mod late_tests;
mod lifecycle;
#[cfg(test)]
mod mark_tests;
#[cfg(test)]
mod memory_tests;
#[cfg(test)]
mod note_tests;
mod notes;
#[cfg(test)]
mod order_tests;
mod pending;
mod places;
mod record;
mod refilling;
#[cfg(test)]
mod refusal_tests;
mod report;
mod restored;
#[cfg(test)]
mod room_tests;
#[cfg(test)]
mod start_tests;
mod starts;
mod stuck;
#[cfg(test)]
mod stuck_tests;
#[cfg(test)]
mod tests;
mod turn;
#[cfg(test)]
mod turn_tests;
mod turns;
#[cfg(test)]
mod word_tests;

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::interlink::frame::VERSION_MAX;
use protocol::interlink::hello::{Identity, LunIdentity, Purpose};
use protocol::interlink::message::Agreement;
use protocol::interlink::standing::{CopyFound, GroupRecord, Standing, Told};
use protocol::interlink::word::Word;
use protocol::interlink::{GenerationTag, Message};

use crate::disk::DiskError;
use crate::lease::{self, Lease};
use crate::link::LinkId;
use crate::pair::Quiet;
use crate::plan::{Plan, Side};
use crate::time::{RunTime, Time};
use crate::volume::superblock::Superblock;
use crate::world::Ticket;

pub use effect::{Apart, Effect};
use ending::Ending;
pub use greeting::LinkRefusal;
use greeting::Mute;
use group::Group;
use lifecycle::Stage;
use pending::Pending;
pub use record::{CONTROL_KEY, ControlRecord};
pub use restored::Restored;
pub(crate) use restored::shared_key;

/// A peer that says nothing for this long on the control connection is taken for lost.
pub const PEER_SILENCE_MAX: Duration = Duration::from_secs(2);

/// While the two are in touch, each tells the other this often what it would say if it were asked.
pub const WORD_INTERVAL: Duration = Duration::from_secs(1);

/// A connection whose other end says no greeting for this long is closed, and dialed again. Its other end may have
/// died with the machine it was on, and nothing that is sent would ever find out.
pub const GREETING_MAX: Duration = Duration::from_secs(2);

/// From the greetings to the LUNs being served at most.
pub const MEETING_MAX: Duration = Duration::from_secs(3);

#[derive(Debug)]
struct Link {
    dialed: bool,
    purpose: Option<Purpose>,
    greeted: bool,
    /// Known to be open for this long.
    since: Option<Time>,
}

#[derive(Debug)]
struct Peer {
    control: LinkId,
    incarnation: u128,
    bridges: u16,
    identity: Identity,
    shared: Vec<(String, String)>,
    rooms: Vec<(String, u64)>,
    standings: Option<Vec<(String, Standing)>>,
    /// The newest version that both speak.
    version: u16,
    told: Vec<(String, Told)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Apart,
    Settling { own: bool, peer: bool },
    Comparing,
    Making { waits: u32 },
    Agreeing { waits: u32, step: Step },
    Joined,
}

/// Who makes what durable while agreeing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// The leader, of the LUNs it will be main of.
    LeadingOwn,
    /// The leader waits for the other.
    LeadingPeer,
    /// The leader, of the LUNs the other will be main of.
    LeadingRest,
    /// The other.
    Following,
    /// The other has all and waits for the word to begin.
    Placed,
}

/// The LUN part of this core's tickets: no LUN's.
const TICKET_BASE: u64 = 0xffff << 48;

/// The core of one controller.
#[derive(Debug)]
pub struct Appliance {
    plan: Plan,
    incarnation: u128,
    random: u128,
    /// What this controller keeps on its disk cannot be used.
    unusable: bool,
    /// The newest version of the interlink that it offers.
    speaks: u16,
    identity: Identity,
    groups: Vec<Group>,
    links: BTreeMap<LinkId, Link>,
    mute: Mute,
    peer: Option<Peer>,
    phase: Phase,
    /// Counts meetings, so that what an earlier one waited for means nothing to a later one.
    meeting: u64,
    apart: Apart,
    ending: Ending,
    next_ticket: u64,
    pending: BTreeMap<u64, (u64, Pending)>,
    /// Of those that are marks: since when, in the time that this controller has run.
    marking_since: BTreeMap<u64, Duration>,
    /// Those that were given up, each with its LUN.
    late_marks: BTreeMap<u64, usize>,
    /// The same of volumes whose making was given up.
    late_volumes: BTreeMap<u64, (usize, Superblock)>,
    run_time: RunTime,
    /// What came of it while this controller was stuck.
    held_done: Vec<(Ticket, Result<(), DiskError>)>,
    heard: Time,
    pinged: Time,
    /// When the peer was last granted a lease.
    granted: Time,
    /// When the meeting under way began.
    meeting_since: Option<Time>,
    lease: Arc<Lease>,
    /// LUNs without a copy that are being made ready at the start; no meeting begins before they are.
    singles: Vec<usize>,
    /// What the leader said of LUNs that wait for the record that both have their generation. One a LUN at most.
    early_words: Vec<(usize, GenerationTag, Message)>,
    /// What is known of LUNs that the file does not name now: it may have left one out by a mistake.
    unnamed: Vec<GroupRecord>,
    /// The leader's, until the other has them.
    agreements: Vec<Agreement>,
    /// What the peer has was looked at in this meeting, as it was last told.
    compared: bool,
    /// The volumes of LUNs that were never agreed on were asked for in this meeting.
    made: bool,
    /// The leader's, come before what it has.
    early: Option<Vec<Agreement>>,
    /// The leader's, come while this controller was writing down that it goes alone.
    early_identity: Option<Identity>,
    /// When the peer was last told what this controller says of itself; none since they met.
    told: Option<Time>,
    /// What the peer said of itself last. Shown, with its age; nothing is decided by it.
    word: Option<(Time, Word)>,
}

impl Appliance {
    /// A controller at its start, with what it finds on disk. `random` seeds its incarnation and every id it
    /// will make.
    #[must_use]
    pub fn new(plan: Plan, restored: &Restored, random: u128, lease: Arc<Lease>) -> Self {
        let own = plan.names[plan.side.index()].clone();
        let (record, unusable) = match restored.control(&own) {
            Ok(record) => (record, None),
            Err(reason) => (ControlRecord::default(), Some(Apart::Unusable(own.clone(), reason))),
        };
        let ControlRecord { identity, groups: records } = record;
        let volumes = restored.volumes_that_count(&plan);
        let planned = |record: &&GroupRecord| plan.luns.iter().any(|lun| lun.name == record.lun);
        let unnamed = records.iter().filter(|record| !planned(record)).cloned().collect();
        let groups = plan
            .luns
            .iter()
            .enumerate()
            .map(|(index, lun)| {
                let record = records.iter().find(|record| record.lun == lun.name);
                Group {
                    known: identity.luns.iter().any(|known| known.name == lun.name),
                    unreadable: restored.shared(&own, &lun.name).is_err(),
                    ..Group::restored(record, volumes[index])
                }
            })
            .collect();
        let is_unusable = unusable.is_some();
        let apart = unusable.unwrap_or_else(|| Apart::NeverMet(plan.names[plan.side.peer().index()].clone()));
        Self {
            plan,
            incarnation: random,
            random,
            unusable: is_unusable,
            speaks: VERSION_MAX,
            identity,
            groups,
            links: BTreeMap::new(),
            mute: Mute::default(),
            peer: None,
            phase: Phase::Apart,
            meeting: 0,
            apart,
            ending: Ending::default(),
            next_ticket: 0,
            pending: BTreeMap::new(),
            marking_since: BTreeMap::new(),
            late_marks: BTreeMap::new(),
            late_volumes: BTreeMap::new(),
            run_time: RunTime::default(),
            held_done: Vec::new(),
            heard: Time(0),
            pinged: Time(0),
            granted: Time(0),
            meeting_since: None,
            lease,
            singles: Vec::new(),
            early_words: Vec::new(),
            unnamed,
            agreements: Vec::new(),
            compared: false,
            made: false,
            early: None,
            early_identity: None,
            told: None,
            word: None,
        }
    }

    #[cfg(test)]
    pub(crate) const fn speak_version_1(&mut self) {
        self.speaks = protocol::interlink::Version::V1 as u16;
    }

    /// Begins: what may be served without the peer is.
    pub fn start(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.is_unusable() {
            return;
        }
        let mut single = Vec::new();
        for lun in 0..self.groups.len() {
            if self.starts_single(lun) {
                single.push(lun);
            }
            self.start_alone(lun, now, effects);
        }
        let whole = |lun: &usize| self.copy_found(*lun) == CopyFound::Whole && !single.contains(lun);
        let whole: Vec<usize> = (0..self.groups.len()).filter(whole).collect();
        self.write_start_marks(&whole, effects);
        if !single.is_empty() {
            self.write_singles(single, effects);
        }
    }

    /// Whether identities exist: before that, no portal serves anything.
    #[must_use]
    pub fn has_identity(&self) -> bool {
        self.identity.appliance != 0
    }

    /// The identity of a LUN of the plan, once made.
    #[must_use]
    pub fn lun_identity(&self, lun: usize) -> Option<&LunIdentity> {
        let name = &self.plan.luns.get(lun)?.name;
        self.identity.luns.iter().find(|known| known.name == *name)
    }

    /// A message that is not about data.
    pub fn on_message(
        &mut self,
        link: LinkId,
        lun: Option<usize>,
        generation: protocol::interlink::GenerationTag,
        message: Message,
        now: Time,
        effects: &mut Vec<Effect>,
    ) {
        if let Message::Hello(hello) = message {
            return self.on_hello(link, &hello, now, effects);
        }
        if self.peer.as_ref().is_none_or(|peer| peer.control != link) {
            return;
        }
        self.heard = now;
        match message {
            Message::Ping(number) => {
                self.granted = now;
                self.lease.clock.heard(number, now);
                effects.push(Effect::Send(link, Message::Pong(number)));
            }
            Message::Pong(number) if number <= now.0 => self.lease.renew(Time(number)),
            Message::Identity(identity) => self.on_identity(identity, effects),
            Message::IdentityDurable => self.on_identity_durable(effects),
            Message::Starts(told) => {
                if let Some(peer) = &mut self.peer {
                    peer.told = told;
                }
            }
            Message::Standings(standings) => self.on_standings(standings, effects),
            Message::Agreements(agreements) => self.on_agreements(&agreements, effects),
            Message::AgreementsDurable => self.on_agreements_durable(effects),
            Message::Begin => self.on_begin(effects),
            Message::Goodbye => self.on_goodbye(now, effects),
            Message::Drained => self.on_peer_drained(effects),
            Message::Farewell => self.on_farewell(),
            Message::Word(word) => self.word = Some((now, *word)),
            other => self.on_message_about(lun, generation, other, effects),
        }
    }

    /// A message about one LUN that is not data.
    fn on_message_about(
        &mut self,
        lun: Option<usize>,
        generation: protocol::interlink::GenerationTag,
        message: Message,
        effects: &mut Vec<Effect>,
    ) {
        let Some(lun) = lun.filter(|_| self.phase == Phase::Joined) else {
            return;
        };
        if matches!(self.groups[lun].stage, Stage::Placed(_)) {
            // It waits for the record that both have its generation. Nothing but a turn can be said of it, once.
            if self.early_words.len() < self.groups.len() {
                self.early_words.push((lun, generation, message));
            }
            return;
        }
        let current = self.groups[lun].generation.tag() == generation;
        match message {
            Message::Turn { generation, pairing } if current => {
                self.on_turn(lun, generation, pairing, effects);
            }
            Message::TurnDurable(number) => self.on_turn_durable(lun, number, effects),
            Message::TurnBegin(number) => self.on_turn_begin(lun, number, effects),
            Message::TurnBegun(number) => self.on_turn_begun(lun, number, effects),
            Message::Copied if current => self.on_copied(lun, effects),
            Message::CopiedDurable if current => self.on_copied_durable(lun, effects),
            _ => {}
        }
    }

    /// A record is durable, a volume made, a volume flushed.
    pub fn on_done(&mut self, ticket: Ticket, result: Result<(), DiskError>, effects: &mut Vec<Effect>) {
        let Some((meeting, pending)) = self.pending.remove(&ticket.0) else {
            return self.on_late_mark(ticket, result, effects);
        };
        match pending {
            // These are what they are, whatever became of the meeting in which they were asked for.
            Pending::Volume(lun) => return self.on_own_volume(lun, result, effects),
            Pending::Alone => return self.mark_alone(ticket.0, effects),
            Pending::MarkedAlone(lun, alone) => return self.on_marked_alone(lun, alone, result, effects),
            Pending::MarksAlone(alone) => return self.on_alone_durable(alone, effects),
            Pending::Singles | Pending::MarkedSingle(_) | Pending::MarksSingle => {
                return self.on_singles(pending, result, effects);
            }
            Pending::StartMarks => return self.on_start_marks_durable(effects),
            Pending::MarkedLate(lun) => return self.on_late_mark_durable(lun, effects),
            Pending::MarkedStart(lun) => return self.on_marked_start(lun, result, effects),
            Pending::Marked(lun) => {
                let good = self.on_marked(lun, result);
                if meeting == self.meeting {
                    self.on_agreed_marked(good, effects);
                }
                return;
            }
            Pending::FlushApart(lun, as_of) => {
                return self.on_flushed_apart(lun, as_of, result.is_ok(), effects);
            }
            _ if meeting != self.meeting => return,
            _ => {}
        }
        match pending {
            Pending::Identity => self.on_own_identity_durable(effects),
            Pending::Agreements => self.on_own_agreements_durable(effects),
            Pending::Starts => self.on_own_starts_durable(effects),
            Pending::Confirmed => self.begin_placed(effects),
            Pending::CopiedAtSub(lun) => self.on_copied_at_sub(lun, effects),
            Pending::CopiedAtMain(lun) => self.on_copied_at_main(lun, effects),
            Pending::Flush(lun) => self.on_flushed(lun, result.is_ok(), effects),
            Pending::EndMarks => self.on_end_marks_durable(effects),
            Pending::MarkedEnd(lun) => self.on_marked_end(lun, result, effects),
            Pending::Clean => self.on_clean(effects),
            Pending::Turn(lun) => self.on_own_turn_durable(lun, effects),
            _ => {}
        }
    }

    /// Whether a ticket is one of this core's.
    #[must_use]
    pub const fn owns(ticket: Ticket) -> bool {
        ticket.0 >= TICKET_BASE
    }

    /// Time has passed. `quiet(lun)`: whether no command is in flight there.
    pub fn on_tick(&mut self, now: Time, quiet: impl Fn(usize) -> Quiet, effects: &mut Vec<Effect>) {
        self.on_getting_on(effects);
        self.tick_marks(now, effects);
        if let Some(peer) = &self.peer {
            let control = peer.control;
            if now.since(self.heard) >= PEER_SILENCE_MAX || self.meets_too_long(now) {
                let name = self.peer_name();
                self.lose(Apart::Silent(name), effects);
            } else if now.since(self.pinged) >= lease::RENEWAL {
                self.pinged = now;
                effects.push(Effect::Send(control, Message::Ping(now.0)));
            }
        }
        self.tell_peer(now, effects);
        self.close_mute(now, effects);
        (0..self.groups.len()).for_each(|lun| self.leave_if_broken(lun, effects));
        (0..self.groups.len()).for_each(|lun| self.prefer(lun, effects));
        self.tick_turns(now, &quiet, effects);
        self.tick_alone(now, effects);
        // Hosts wait for these: they shall not wait for the next tick as well.
        let lun_count = self.groups.len();
        let turning = (0..lun_count).any(|lun| self.is_turning(lun)).then_some(now + turns::TURN_POLL);
        let alone_at = (0..lun_count).filter_map(|lun| self.waits_until(lun)).filter(|at| *at > now).min();
        effects.extend(turning.into_iter().chain(alone_at).min().map(Effect::Wake));
        let all_quiet = (0..self.groups.len()).all(|lun| !self.is_closing(lun) || quiet(lun) == Quiet::Yes);
        self.tick_ending(now, all_quiet, effects);
    }

    /// A meeting that gets nowhere ends, so that a main that may go on alone does.
    fn meets_too_long(&mut self, now: Time) -> bool {
        if self.phase == Phase::Joined {
            self.meeting_since = None;
            return false;
        }
        now.since(*self.meeting_since.get_or_insert(now)) >= MEETING_MAX
    }

    /// Its own state cannot be used: it serves nothing, meets nobody, and writes nothing down.
    const fn is_unusable(&self) -> bool {
        self.unusable
    }

    fn peer_name(&self) -> String {
        self.plan.names[self.plan.side.peer().index()].clone()
    }

    const fn leads(&self) -> bool {
        matches!(self.plan.side, Side::First)
    }

    fn ticket(&mut self, pending: Pending) -> Ticket {
        let ticket = TICKET_BASE + self.next_ticket;
        self.next_ticket += 1;
        self.pending.insert(ticket, (self.meeting, pending));
        Ticket(ticket)
    }

    /// Keeps the identity and all generations as they are now.
    fn persist(&mut self, pending: Pending, effects: &mut Vec<Effect>) {
        let ticket = self.ticket(pending);
        self.persist_as(ticket, effects);
    }

    fn persist_as(&self, ticket: Ticket, effects: &mut Vec<Effect>) {
        if self.is_unusable() {
            // What could not be read is never written over.
            return;
        }
        let groups: Vec<GroupRecord> = self
            .plan
            .luns
            .iter()
            .zip(&self.groups)
            // Of one without an identity there is nothing to be said; so there are no more than can be read again.
            .filter(|(lun, group)| {
                group.generation.number > 0 || self.identity.luns.iter().any(|known| known.name == lun.name)
            })
            .map(|(lun, group)| GroupRecord {
                lun: lun.name.clone(),
                generation: group.generation,
                clean: group.clean,
                flushed: group.flushed,
                volume: group.volume_start,
                volume_coming: group.volume_coming,
                starts: group.starts,
            })
            .chain(self.unnamed.iter().cloned())
            .collect();
        let mut identity = self.identity.clone();
        identity.luns.retain(|known| {
            let mut planned = self.plan.luns.iter().zip(&self.groups);
            planned.all(|(lun, group)| lun.name != known.name || group.known)
        });
        let record = ControlRecord { identity, groups }.write(&self.plan.names[self.plan.side.index()]);
        effects.push(Effect::Persist(CONTROL_KEY, record, ticket));
    }

    /// A new random id: the seed this core was given, stirred (SplitMix64 on both halves).
    fn make_id(&mut self) -> u128 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let stir = |mut word: u64| {
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ (word >> 31)
        };
        let (high, low) = ((self.random >> 64) as u64, self.random as u64);
        u128::from(stir(high ^ low.rotate_left(32))) << 64 | u128::from(stir(low))
    }
}
