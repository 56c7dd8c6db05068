//! The peer, as far as this controller is in touch with it: the connections, the greetings, how far the meeting is, and
//! what the peer told.
//!
//! ```text
//!  open ──► greeted ──► all bridges and the control connection greeted ──► the meeting (phase.rs)
//!    │         │
//!    │         └─ any of them lost: the peer is, and every connection is closed
//!    └─ not greeted in [`GREETING_MAX`], or refused: closed; the others do not care
//! ```
//!
//! What always holds: there is a peer exactly while its control connection is greeted, and no meeting without a peer.

use core::time::Duration;
use std::collections::BTreeMap;

use protocol::interlink::Message;
use protocol::interlink::frame::{VERSION_MAX, VERSION_MIN};
use protocol::interlink::hello::{Hello, Identity, Purpose};
use protocol::interlink::peer_status::PeerStatus;

use super::comparison;
use super::effect::{Apart, Effect, LinkRefusal};
use super::handshake::Handshake;
use super::mute::Mute;
use super::peer::Peer;
use super::phase::Phase;
use crate::link::{LinkId, LinkKind};
use crate::plan::Plan;
use crate::status::InterlinkStatus;
use crate::time::Time;

/// While the two are in touch, each tells the other this often what it would say if it were asked.
pub(super) const WORD_INTERVAL: Duration = Duration::from_secs(1);

/// A connection whose other end says no greeting for this long is closed, and dialed again. Its other end may have
/// died with the machine it was on, and nothing that is sent would ever find out.
pub(super) const GREETING_MAX: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Link {
    dialed: bool,
    purpose: Option<Purpose>,
    greeted: bool,
    /// Known to be open for this long.
    since: Option<Time>,
}

/// What this controller greets with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own<'a> {
    pub(super) plan: &'a Plan,
    pub(super) identity: &'a Identity,
    /// Something of a LUN cannot be read, and must not be written over.
    pub(super) unreadable: bool,
}

/// What came of something on a connection.
#[derive(Debug, Default)]
pub(super) struct Came {
    /// What is to be done, in its order.
    pub(super) effects: Vec<Effect>,
    /// The peer is out of reach, and why.
    pub(super) lost: Option<Apart>,
    /// A connection of the peer was greeted; whether it is the control connection.
    pub(super) greeted: Option<bool>,
}

/// What came of a greeting.
#[derive(Debug, PartialEq, Eq)]
enum Greeted {
    /// Nothing: it was greeted already, or is not known.
    Nothing,
    /// The other end is not, or must not be, this controller's peer.
    Refused(Apart),
    /// The peer has lost a connection and made it anew, and this side has not noticed.
    Anew,
    /// It is the peer; whether it has to be greeted, and whether it is the control connection.
    Taken { answer: bool, control: bool },
}

/// The peer.
#[derive(Debug)]
pub(super) struct PeerSession {
    /// This run of this controller.
    incarnation: u128,
    /// The newest version of the interlink that it offers.
    speaks: u16,
    links: BTreeMap<LinkId, Link>,
    mute: Mute,
    peer: Option<Peer>,
    handshake: Handshake,
    apart: Apart,
    /// When the peer was last told what this controller says of itself; none since they met.
    told: Option<Time>,
    /// What the peer said of itself last. Shown, with its age; nothing is decided by it.
    word: Option<(Time, PeerStatus)>,
}

impl PeerSession {
    pub(super) fn new(incarnation: u128, apart: Apart) -> Self {
        Self {
            incarnation,
            speaks: VERSION_MAX,
            links: BTreeMap::new(),
            mute: Mute::default(),
            peer: None,
            handshake: Handshake::default(),
            apart,
            told: None,
            word: None,
        }
    }

    #[cfg(test)]
    pub(super) const fn speak_version_1(&mut self) {
        self.speaks = protocol::interlink::Version::V1 as u16;
    }

    pub(super) const fn incarnation(&self) -> u128 {
        self.incarnation
    }

    pub(super) const fn phase(&self) -> Phase {
        self.handshake.phase()
    }

    pub(super) fn is_joined(&self) -> bool {
        self.phase() == Phase::Joined
    }

    /// The meeting under way.
    pub(super) const fn handshake(&self) -> &Handshake {
        &self.handshake
    }

    /// The same, to be changed.
    pub(super) const fn handshake_mut(&mut self) -> &mut Handshake {
        &mut self.handshake
    }

    /// The meeting under way and the peer, if there is one.
    pub(super) const fn meet(&mut self) -> Option<(&mut Handshake, &mut Peer)> {
        match &mut self.peer {
            Some(peer) => Some((&mut self.handshake, peer)),
            None => None,
        }
    }

    pub(super) const fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// The peer's control connection.
    pub(super) fn control(&self) -> Option<LinkId> {
        self.peer.as_ref().map(|peer| peer.control)
    }

    /// The same while LUNs are served together.
    pub(super) fn joined_control(&self) -> Option<LinkId> {
        self.control().filter(|_| self.is_joined())
    }

    /// The newest version that both speak.
    pub(super) fn version(&self) -> u16 {
        self.peer.as_ref().map_or(VERSION_MAX, |peer| peer.version)
    }

    /// Why the two are apart.
    pub(super) const fn apart(&self) -> &Apart {
        &self.apart
    }

    /// Says why the two are apart. What this controller itself is, for good, stays said.
    pub(super) fn say(&mut self, apart: Apart) {
        if !matches!(self.apart, Apart::Stopping | Apart::Unusable(..)) {
            self.apart = apart;
        }
    }

    /// This controller is ending.
    pub(super) fn stop(&mut self) {
        self.apart = Apart::Stopping;
    }

    /// A connection of the interlink came to nothing. Said while the two are apart; who is met does not care. `name` is
    /// the peer's.
    pub(super) fn on_refusal(&mut self, refusal: LinkRefusal, name: String) {
        if self.phase() != Phase::Apart || matches!(self.apart, Apart::Stopping | Apart::Unusable(..)) {
            return;
        }
        match (refusal, &self.apart) {
            (LinkRefusal::Mute, _) => self.mute.see(),
            // Where each refuses the other, both are heard in turns: what is known here is said, and only that.
            (LinkRefusal::CertificateRefused, Apart::WrongCertificate(_)) => {}
            _ => self.apart = Apart::of_refusal(refusal, name),
        }
    }

    /// A connection is open; who has dialed it greets.
    pub(super) fn on_link_up(&mut self, link: LinkId, dialed: Option<LinkKind>, own: Own<'_>) -> Came {
        let purpose = self.open(link, dialed);
        let greets = purpose.map(|purpose| Effect::Send(link, self.hello(purpose, own)));
        Came { effects: greets.into_iter().collect(), ..Came::default() }
    }

    /// A connection is gone. One that was never greeted was nobody's yet.
    pub(super) fn on_link_down(&mut self, link: LinkId, own: Own<'_>) -> Came {
        let lost = self.links.remove(&link).is_some_and(|known| known.greeted);
        let name = || own.plan.peer_name().to_owned();
        Came { lost: lost.then(|| Apart::Lost(name())), ..Came::default() }
    }

    /// A frame on a connection could not be read.
    pub(super) fn on_violation(&mut self, link: LinkId, own: Own<'_>) -> Came {
        let name = own.plan.peer_name().to_owned();
        match self.is_greeted(link) {
            Some(true) => Came { lost: Some(Apart::ProtocolViolation(name)), ..Came::default() },
            Some(false) => self.refuse(link, None, Apart::NotThePeer(name), own),
            None => Came::default(),
        }
    }

    /// The workers of this controller do not get on, as `apart` says.
    pub(super) fn on_stuck(&mut self, apart: Apart) -> Came {
        if self.peer.is_some() {
            return Came { lost: Some(apart), ..Came::default() };
        }
        let effects = self.close_all().into_iter().map(Effect::Close).collect();
        self.say(apart);
        Came { effects, ..Came::default() }
    }

    /// The other end of a connection greets.
    pub(super) fn on_hello(&mut self, link: LinkId, hello: &Hello, now: Time, own: Own<'_>) -> Came {
        match self.take_hello(link, hello, own) {
            Greeted::Nothing => Came::default(),
            Greeted::Refused(apart) => self.refuse(link, Some(hello.purpose), apart, own),
            Greeted::Anew => {
                Came { lost: Some(Apart::Lost(own.plan.peer_name().to_owned())), ..Came::default() }
            }
            Greeted::Taken { answer, control } => {
                let mut came = Came { greeted: Some(control), ..Came::default() };
                if answer {
                    came.effects.push(Effect::Send(link, self.hello(hello.purpose, own)));
                }
                if control {
                    // Before anything else: what is forwarded as soon as the two have met may be late, and its age is
                    // known then.
                    came.effects.push(Effect::Send(link, Message::Ping(now.0)));
                }
                came
            }
        }
    }

    /// Closes a connection that did not become one of the peer's. Who dialed hears whom it reached, so that both can
    /// tell why.
    fn refuse(&mut self, link: LinkId, purpose: Option<Purpose>, apart: Apart, own: Own<'_>) -> Came {
        let mut came = Came::default();
        if let Some(called) = self.turn_away(link, apart) {
            let greets = purpose.filter(|_| called);
            came.effects.extend(greets.map(|purpose| Effect::Send(link, self.hello(purpose, own))));
            came.effects.push(Effect::Close(link));
        }
        came
    }

    /// Time has passed: whom this controller tells of itself, and what has not greeted in time.
    pub(super) fn tick(&mut self, now: Time) -> Vec<Effect> {
        let told = self.word_due(now).map(Effect::Tell);
        told.into_iter().chain(self.close_mute(now).into_iter().map(Effect::Close)).collect()
    }

    /// A connection is open; what it is for, if this side dialed it.
    fn open(&mut self, link: LinkId, dialed: Option<LinkKind>) -> Option<Purpose> {
        let purpose = dialed.map(|kind| match kind {
            LinkKind::Control => Purpose::Control,
            LinkKind::Bridge(number) => Purpose::Bridge(number),
        });
        self.links.insert(link, Link { dialed: dialed.is_some(), purpose, greeted: false, since: None });
        purpose
    }

    /// Whether a connection is known, and has been greeted.
    fn is_greeted(&self, link: LinkId) -> Option<bool> {
        self.links.get(&link).map(|known| known.greeted)
    }

    /// What has not greeted in time, to be closed.
    fn close_mute(&mut self, now: Time) -> Vec<LinkId> {
        let mut closed = Vec::new();
        self.links.retain(|link, known| {
            let mute = !known.greeted && now.since(*known.since.get_or_insert(now)) >= GREETING_MAX;
            if mute {
                if known.dialed {
                    self.mute.see();
                }
                closed.push(*link);
            }
            !mute
        });
        self.mute.tick(now);
        closed
    }

    /// A connection did not become one of the peer's; the others do not care. Whether it was known, and if this side
    /// was called, so that the caller is to hear whom it has reached.
    fn turn_away(&mut self, link: LinkId, apart: Apart) -> Option<bool> {
        let known = self.links.remove(&link)?;
        if self.phase() == Phase::Apart {
            self.say(apart);
        }
        Some(!known.dialed)
    }

    /// This controller's greeting.
    fn hello(&self, purpose: Purpose, own: Own<'_>) -> Message {
        let control = purpose == Purpose::Control;
        Message::Hello(Box::new(Hello {
            versions: (VERSION_MIN, self.speaks),
            purpose,
            side: own.plan.side as u8,
            appliance: own.identity.appliance,
            incarnation: self.incarnation,
            bridges: own.plan.bridges,
            shared: if control { own.plan.shared.clone() } else { Vec::new() },
            rooms: if control { comparison::rooms(own.plan) } else { Vec::new() },
            identity: if control { own.identity.clone() } else { Identity::default() },
        }))
    }

    /// The other end of a connection greets: whether it is the peer.
    fn take_hello(&mut self, link: LinkId, hello: &Hello, own: Own<'_>) -> Greeted {
        let Some(dialed) = self.links.get(&link).filter(|known| !known.greeted).map(|known| known.dialed)
        else {
            return Greeted::Nothing;
        };
        if let Err(apart) = self.check_hello(hello, own) {
            return Greeted::Refused(apart);
        }
        // Each side dials bridges of its own.
        let purpose = (dialed, Some(hello.purpose));
        let known = |known: &Link| known.greeted && (known.dialed, known.purpose) == purpose;
        if self.links.values().any(known) {
            // What it sends by the old one goes nowhere. Both start over. Nobody else can say so: whoever greets has
            // proven to be the peer.
            return Greeted::Anew;
        }
        if let Some(known) = self.links.get_mut(&link) {
            known.greeted = true;
            known.purpose = Some(hello.purpose);
        }
        self.mute = Mute::default();
        let control = hello.purpose == Purpose::Control;
        if control {
            self.peer = Some(Peer::greeted(link, hello, self.speaks));
        }
        Greeted::Taken { answer: !dialed, control }
    }

    fn check_hello(&self, hello: &Hello, own: Own<'_>) -> Result<(), Apart> {
        let name = own.plan.names[own.plan.side.peer().index()].clone();
        if hello.versions.0 > VERSION_MAX || hello.versions.1 < VERSION_MIN {
            return Err(Apart::Version(name));
        }
        // It has no word for what it must not make this controller write over.
        if own.unreadable && hello.versions.1 < protocol::interlink::Version::V2 as u16 {
            return Err(Apart::Version(name));
        }
        if hello.side != own.plan.side.peer() as u8 {
            return Err(Apart::NotThePeer(name));
        }
        let appliance = own.identity.appliance;
        if appliance != 0 && hello.appliance != 0 && appliance != hello.appliance {
            return Err(Apart::OtherAppliance(name));
        }
        if hello.purpose == Purpose::Control {
            let differs = comparison::differing(own.plan, &hello.shared, "");
            if let Some((_, refusal)) = differs.filter(|(key, _)| !key.starts_with("lun.")) {
                return Err(Apart::Differs(refusal));
            }
        } else if self.peer.as_ref().is_some_and(|peer| peer.incarnation != hello.incarnation) {
            return Err(Apart::Lost(name));
        }
        Ok(())
    }

    /// Whether this side has greeted every bridge of both; `bridges` is how many it dials.
    pub(super) fn is_complete(&self, bridges: u16) -> bool {
        self.has_bridges(bridges, |link| link.greeted)
    }

    /// Whether this side has every bridge that the leader has counted. It may not: one that both had greeted can have
    /// ended here alone before the two met, and the leader would send into it for ever. What the leader has greeted was
    /// greeted here first if the leader dialed it; if not, its answer may still be on the way.
    pub(super) fn has_what_the_leader_counts(&self, bridges: u16) -> bool {
        self.has_bridges(bridges, |link| link.greeted || link.dialed)
    }

    fn has_bridges(&self, own: u16, counts: impl Fn(&Link) -> bool) -> bool {
        let Some(peer) = &self.peer else {
            return false;
        };
        let bridges = |dialed: bool| {
            let counted = |link: &&Link| {
                counts(link) && link.dialed == dialed && matches!(link.purpose, Some(Purpose::Bridge(_)))
            };
            self.links.values().filter(counted).count()
        };
        bridges(true) == usize::from(own) && bridges(false) == usize::from(peer.bridges)
    }

    /// The bridges by which messages about a LUN may come. Those of a peer that was not met yet are nothing to it.
    pub(super) fn bridges(&self) -> Vec<LinkId> {
        if self.phase() == Phase::Apart {
            return Vec::new();
        }
        let bridge = |link: &Link| matches!(link.purpose, Some(Purpose::Bridge(_)));
        self.links.iter().filter(|(_, link)| bridge(link)).map(|(link, _)| *link).collect()
    }

    /// The peer is out of reach: what is to be closed. `ended`: it had said farewell.
    pub(super) fn lose(&mut self, apart: Apart, ended: bool) -> Vec<LinkId> {
        self.peer = None;
        self.handshake.end();
        if !(ended && matches!(apart, Apart::Lost(_))) {
            self.say(apart);
        }
        self.close_all()
    }

    /// Closes every connection.
    fn close_all(&mut self) -> Vec<LinkId> {
        core::mem::take(&mut self.links).into_keys().collect()
    }

    /// The interlink; whether it is encrypted is not this core's to know.
    pub(super) fn interlink(&self) -> InterlinkStatus {
        let up = self.is_joined();
        let bridge = |link: &&Link| link.greeted && matches!(link.purpose, Some(Purpose::Bridge(_)));
        InterlinkStatus {
            up,
            encrypted: false,
            bridges: self.links.values().filter(bridge).count() as u32,
            refused: !up && self.apart.is_refusal(),
            mute: !up && self.mute.holds(),
            reason: if up { None } else { Some(self.apart.to_string()) },
        }
    }

    /// The peer says something of itself.
    pub(super) fn hear_status(&mut self, now: Time, word: PeerStatus) {
        self.word = Some((now, word));
    }

    /// What the peer said of itself last, and whether it still says so.
    pub(super) fn word(&self) -> Option<(Time, &PeerStatus, bool)> {
        self.word.as_ref().map(|(at, word)| (*at, word, self.is_joined()))
    }

    /// In touch, the peer is told at once and then every [`WORD_INTERVAL`] what this controller says of itself: where
    /// to, if it is due.
    fn word_due(&mut self, now: Time) -> Option<LinkId> {
        let control = self.joined_control();
        if control.is_none() {
            self.told = None;
            return None;
        }
        let due = self.told.is_none_or(|told| now.since(told) >= WORD_INTERVAL);
        if due {
            self.told = Some(now);
        }
        control.filter(|_| due)
    }

    /// Asserts what always holds.
    pub(super) fn check(&self) {
        let greeted = |link: LinkId| self.is_greeted(link) == Some(true);
        assert!(self.control().is_none_or(greeted), "a peer without its control connection");
        assert!(self.peer.is_some() || self.phase() == Phase::Apart, "{:?} with nobody", self.phase());
        let idle = self.handshake.is_idle();
        assert!(self.peer.is_some() || idle, "a meeting with nobody: {:?}", self.handshake);
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
