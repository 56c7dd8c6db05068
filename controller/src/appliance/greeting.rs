//! Connections of the interlink: opened, greeted, lost.

use core::time::Duration;

use protocol::interlink::Message;
use protocol::interlink::frame::{VERSION_MAX, VERSION_MIN};
use protocol::interlink::hello::{Hello, Identity, Purpose};

use super::{Apart, Appliance, Effect, GREETING_MAX, Link, Peer, Phase};
use crate::link::{LinkId, LinkKind};
use crate::time::Time;

/// Why a connection of the interlink ended before a frame was exchanged, where people can do something about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkRefusal {
    /// The other end does not encrypt, this one does.
    OtherIsPlain,
    /// The other end encrypts, this one does not.
    OtherIsEncrypted,
    /// The other end has another certificate than the peer's.
    WrongCertificate,
    /// The other end does not take this controller's certificate.
    CertificateRefused,
    /// The other end greets as the release before does, which proves nothing.
    NoProof,
    /// The other end's proof was made with another secret.
    WrongProof,
    /// The other end takes the connection and says nothing.
    Mute,
}

/// How long it is remembered that the peer's machine took a connection on which nobody spoke.
const MUTE_AGE: Duration = Duration::from_secs(8);

/// Whether the peer's machine is there, but the peer says nothing: it is stopped, or hangs.
#[derive(Debug, Default)]
pub(super) struct Mute {
    /// It just was.
    pub(super) seen: bool,
    until: Time,
    /// It is.
    pub(super) holds: bool,
}

impl Mute {
    fn tick(&mut self, now: Time) {
        if core::mem::take(&mut self.seen) {
            self.until = now + MUTE_AGE;
        }
        self.holds = now < self.until;
    }
}

impl Appliance {
    /// A connection of the interlink came to nothing. Said while the two are apart; who is met does not care.
    pub fn on_refusal(&mut self, refusal: LinkRefusal) {
        if self.phase != Phase::Apart || self.apart == Apart::Stopping || self.is_unusable() {
            return;
        }
        let name = self.peer_name();
        self.apart = match refusal {
            LinkRefusal::Mute => {
                self.mute.seen = true;
                return;
            }
            LinkRefusal::OtherIsPlain => Apart::Encryption(name, false),
            LinkRefusal::OtherIsEncrypted => Apart::Encryption(name, true),
            LinkRefusal::WrongCertificate => Apart::WrongCertificate(name),
            // Where each refuses the other, both are heard in turns: what is known here is said, and only that.
            LinkRefusal::CertificateRefused if matches!(self.apart, Apart::WrongCertificate(_)) => return,
            LinkRefusal::CertificateRefused => Apart::CertificateRefused(name),
            LinkRefusal::NoProof => Apart::NoProof(name),
            LinkRefusal::WrongProof => Apart::WrongProof(name),
        };
    }

    /// A connection of the interlink is open.
    pub fn on_link_up(&mut self, link: LinkId, dialed: Option<LinkKind>, effects: &mut Vec<Effect>) {
        if self.is_unusable() {
            return effects.push(Effect::Close(link));
        }
        let purpose = dialed.map(|kind| match kind {
            LinkKind::Control => Purpose::Control,
            LinkKind::Bridge(number) => Purpose::Bridge(number),
        });
        self.links.insert(link, Link { dialed: dialed.is_some(), purpose, greeted: false, since: None });
        if let Some(purpose) = purpose {
            effects.push(Effect::Send(link, self.hello(purpose)));
        }
    }

    /// Closes what has not greeted in time.
    pub(super) fn close_mute(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.links.retain(|link, known| {
            let mute = !known.greeted && now.since(*known.since.get_or_insert(now)) >= GREETING_MAX;
            if mute {
                self.mute.seen |= known.dialed;
                effects.push(Effect::Close(*link));
            }
            !mute
        });
        self.mute.tick(now);
    }

    /// A connection of the interlink is gone.
    pub fn on_link_down(&mut self, link: LinkId, effects: &mut Vec<Effect>) {
        // One that was never greeted was nobody's yet.
        if self.links.remove(&link).is_some_and(|known| known.greeted) {
            let name = self.peer_name();
            self.lose(Apart::Lost(name), effects);
        }
    }

    /// Closes a connection that did not become one of the peer's; the others do not care. Who dialed hears whom it
    /// reached, so that both can tell why.
    fn turn_away(&mut self, link: LinkId, purpose: Option<Purpose>, apart: Apart, effects: &mut Vec<Effect>) {
        let Some(known) = self.links.remove(&link) else {
            return;
        };
        if let (false, Some(purpose)) = (known.dialed, purpose) {
            effects.push(Effect::Send(link, self.hello(purpose)));
        }
        effects.push(Effect::Close(link));
        if self.phase == Phase::Apart && self.apart != Apart::Stopping {
            self.apart = apart;
        }
    }

    /// A frame of the peer could not be read.
    pub fn on_nonsense(&mut self, link: LinkId, effects: &mut Vec<Effect>) {
        let name = self.peer_name();
        match self.links.get(&link) {
            Some(known) if known.greeted => self.lose(Apart::Nonsense(name), effects),
            Some(_) => self.turn_away(link, None, Apart::NotThePeer(name), effects),
            None => {}
        }
    }

    pub(super) fn hello(&self, purpose: Purpose) -> Message {
        let control = purpose == Purpose::Control;
        Message::Hello(Box::new(Hello {
            versions: (VERSION_MIN, self.speaks),
            purpose,
            side: self.plan.side as u8,
            appliance: self.identity.appliance,
            incarnation: self.incarnation,
            bridges: self.plan.bridges,
            shared: if control { self.plan.shared.clone() } else { Vec::new() },
            rooms: if control { self.rooms() } else { Vec::new() },
            identity: if control { self.identity.clone() } else { Identity::default() },
        }))
    }

    pub(super) fn on_hello(&mut self, link: LinkId, hello: &Hello, now: Time, effects: &mut Vec<Effect>) {
        if self.links.get(&link).is_none_or(|known| known.greeted) {
            return;
        }
        if let Err(apart) = self.check_hello(hello) {
            return self.turn_away(link, Some(hello.purpose), apart, effects);
        }
        // Each side dials bridges of its own.
        let dialed = self.links.get(&link).is_some_and(|known| known.dialed);
        let purpose = (dialed, Some(hello.purpose));
        let known = |known: &Link| known.greeted && (known.dialed, known.purpose) == purpose;
        if self.links.values().any(known) {
            // The peer has lost a connection and made it anew, and this side has not noticed: what it sends by the old
            // one goes nowhere. Both start over. Nobody else can say so: whoever greets has proven to be the peer.
            let name = self.peer_name();
            return self.lose(Apart::Lost(name), effects);
        }
        let Some(known) = self.links.get_mut(&link) else {
            return;
        };
        known.greeted = true;
        self.mute = Mute::default();
        known.purpose = Some(hello.purpose);
        if !known.dialed {
            effects.push(Effect::Send(link, self.hello(hello.purpose)));
        }
        if hello.purpose == Purpose::Control {
            self.heard = now;
            self.peer = Some(Peer {
                control: link,
                incarnation: hello.incarnation,
                bridges: hello.bridges,
                identity: hello.identity.clone(),
                shared: hello.shared.clone(),
                rooms: hello.rooms.clone(),
                standings: None,
                version: hello.versions.1.min(self.speaks),
                told: Vec::new(),
            });
            // Before anything else: what is forwarded as soon as the two have met may be late, and its age is known then.
            self.pinged = now;
            effects.push(Effect::Send(link, Message::Ping(now.0)));
        }
        self.join_if_complete(effects);
    }

    pub(super) fn check_hello(&self, hello: &Hello) -> Result<(), Apart> {
        let name = self.peer_name();
        if hello.versions.0 > VERSION_MAX || hello.versions.1 < VERSION_MIN {
            return Err(Apart::Version(name));
        }
        // It has no word for what it must not make this controller write over.
        let refuses = self.groups.iter().any(|group| group.unreadable);
        if refuses && hello.versions.1 < protocol::interlink::Version::V2 as u16 {
            return Err(Apart::Version(name));
        }
        if hello.side != self.plan.side.peer() as u8 {
            return Err(Apart::NotThePeer(name));
        }
        let own = self.identity.appliance;
        if own != 0 && hello.appliance != 0 && own != hello.appliance {
            return Err(Apart::OtherAppliance(name));
        }
        if hello.purpose == Purpose::Control {
            if let Some(refusal) =
                self.differing(&hello.shared, "").filter(|(key, _)| !key.starts_with("lun."))
            {
                return Err(Apart::Differs(refusal.1));
            }
        } else if self.peer.as_ref().is_some_and(|peer| peer.incarnation != hello.incarnation) {
            return Err(Apart::Lost(name));
        }
        Ok(())
    }
}
