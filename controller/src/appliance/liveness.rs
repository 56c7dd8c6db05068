//! Whether the peer is alive, what it was granted, and whether this controller itself gets on.
//!
//! ```text
//!  own ping ──► pong: the own lease is renewed, as of when the ping was sent
//!  peer's ping ──► pong: a lease is granted now
//!  nothing heard for [`PEER_SILENCE_MAX`], or a meeting under way for [`MEETING_MAX`]: the peer is lost
//! ```
//!
//! A controller whose workers do not get on does not claim to live. Its control thread alone could go on for ever
//! granting leases and renewing its own, while nothing that is sent to it is ever handled. So it parts from its peer,
//! which does what it does when it loses one, and meets nobody until everything gets on again. Nothing else of the
//! appliance core happens meanwhile (it does not go on alone either): what became durable is held here.
//!
//! What always holds: a main goes on alone no earlier than the last lease it granted has run out ([`Liveness::lose`]),
//! and without a peer there is no lease.

use core::time::Duration;
use std::sync::Arc;

use protocol::interlink::Message;

use crate::disk::DiskError;
use crate::lease::{self, Lease};
use crate::time::Time;
use crate::world::Ticket;

/// A peer that says nothing for this long on the control connection is taken for lost.
pub(super) const PEER_SILENCE_MAX: Duration = Duration::from_secs(2);

/// From the greetings to the LUNs being served at most.
pub(super) const MEETING_MAX: Duration = Duration::from_secs(3);

/// Something that became durable, or could not.
type Done = (Ticket, Result<(), DiskError>);

/// The signs of life of both controllers.
#[derive(Debug)]
pub(super) struct Liveness {
    heard: Time,
    pinged: Time,
    /// When the peer was last granted a lease.
    granted: Time,
    /// When the meeting under way began.
    meeting_since: Option<Time>,
    lease: Arc<Lease>,
    /// What came of what was asked for while this controller was stuck.
    held_done: Vec<Done>,
}

/// What a peer that was greeted needs now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Beat {
    /// Nothing.
    Nothing,
    /// A ping.
    Ping,
    /// Nothing any more: it is lost.
    Silent,
}

impl Liveness {
    pub(super) const fn new(lease: Arc<Lease>) -> Self {
        let never = Time(0);
        Self {
            heard: never,
            pinged: never,
            granted: never,
            meeting_since: None,
            lease,
            held_done: Vec::new(),
        }
    }

    /// The peer's greeting has come, and is answered with a ping.
    pub(super) const fn greeted(&mut self, now: Time) {
        self.heard = now;
        self.pinged = now;
    }

    /// Anything has come by the control connection; what is answered to it.
    pub(super) fn hear(&mut self, message: &Message, now: Time) -> Option<Message> {
        self.heard = now;
        match *message {
            Message::Ping(number) => {
                self.grant(number, now);
                Some(Message::Pong(number))
            }
            Message::Pong(number) => {
                self.on_pong(number, now);
                None
            }
            _ => None,
        }
    }

    /// The peer asks for a lease: it is granted.
    fn grant(&mut self, number: u64, now: Time) {
        self.granted = now;
        self.lease.clock.heard(number, now);
    }

    /// The peer has granted what was asked for at `number`; it cannot have been asked for later than now.
    fn on_pong(&self, number: u64, now: Time) {
        if number <= now.0 {
            self.lease.renew(Time(number));
        }
    }

    /// Time has passed since a peer was greeted; whether the two have joined.
    pub(super) fn tick(&mut self, now: Time, joined: bool) -> Beat {
        if now.since(self.heard) >= PEER_SILENCE_MAX || self.meets_too_long(now, joined) {
            Beat::Silent
        } else if now.since(self.pinged) >= lease::RENEWAL {
            self.pinged = now;
            Beat::Ping
        } else {
            Beat::Nothing
        }
    }

    /// A meeting that gets nowhere ends, so that a main that may go on alone does.
    fn meets_too_long(&mut self, now: Time, joined: bool) -> bool {
        if joined {
            self.meeting_since = None;
            return false;
        }
        now.since(*self.meeting_since.get_or_insert(now)) >= MEETING_MAX
    }

    /// The peer is lost: when a main may go on without it. `ended`: the peer has ended, and answers no reads any more.
    pub(super) fn lose(&mut self, ended: bool) -> Time {
        self.meeting_since = None;
        let until = if ended { Time(0) } else { lease::run_out(self.granted) };
        self.lease.end();
        until
    }

    /// Something is durable while the workers do not get on: what follows from it comes when they do.
    pub(super) fn hold(&mut self, ticket: Ticket, result: Result<(), DiskError>) {
        self.held_done.push((ticket, result));
    }

    /// Everything gets on: what was held.
    pub(super) fn release(&mut self) -> Vec<Done> {
        core::mem::take(&mut self.held_done)
    }

    /// Asserts what always holds.
    pub(super) fn check(&self, has_peer: bool, joined: bool) {
        assert!(has_peer || !joined, "joined with nobody");
        assert!(has_peer || self.meeting_since.is_none(), "a meeting with nobody");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time(0) + Duration::from_millis(ms)
    }

    fn live() -> (Liveness, Arc<Lease>) {
        let lease = Arc::new(Lease::default());
        let mut liveness = Liveness::new(Arc::clone(&lease));
        liveness.greeted(at(10_000));
        (liveness, lease)
    }

    #[test]
    fn a_peer_is_pinged_in_time_and_lost_when_it_is_silent() {
        let (mut liveness, _) = live();
        assert_eq!(liveness.tick(at(10_050), true), Beat::Nothing);
        assert_eq!(liveness.tick(at(10_100), true), Beat::Ping);
        assert_eq!(liveness.tick(at(10_150), true), Beat::Nothing, "it was pinged");
        liveness.hear(&Message::Begin, at(10_200));
        assert_ne!(liveness.tick(at(12_199), true), Beat::Silent);
        assert_eq!(liveness.tick(at(12_200), true), Beat::Silent);
    }

    #[test]
    fn a_meeting_that_gets_nowhere_is_a_loss_however_much_the_peer_says() {
        let (mut liveness, _) = live();
        for ms in (10_000..13_000).step_by(50) {
            liveness.hear(&Message::Begin, at(ms));
            assert_ne!(liveness.tick(at(ms), false), Beat::Silent, "{ms}");
        }
        liveness.hear(&Message::Begin, at(13_000));
        assert_eq!(liveness.tick(at(13_000), false), Beat::Silent);
        liveness.lose(false);
        liveness.check(false, false);
        liveness.greeted(at(13_000));
        assert_ne!(liveness.tick(at(13_000), false), Beat::Silent, "the next one has its own time");
    }

    #[test]
    fn main_waits_for_the_lease_it_granted_last_and_the_own_one_is_over_at_once() {
        let (mut liveness, lease) = live();
        liveness.grant(0, at(10_300));
        liveness.on_pong(at(10_300).0, at(10_350));
        assert!(lease.proof(at(10_400)).is_some());
        assert_eq!(liveness.lose(false), lease::run_out(at(10_300)));
        assert_eq!(liveness.lose(true), Time(0), "who has ended reads by no lease");
        assert!(lease.proof(at(10_400)).is_none());
    }

    #[test]
    fn a_pong_for_what_was_not_asked_yet_renews_nothing() {
        let (liveness, lease) = live();
        liveness.on_pong(at(20_000).0, at(10_050));
        assert!(lease.proof(at(10_050)).is_none());
    }

    #[test]
    fn what_is_durable_while_it_is_stuck_is_told_once_afterwards() {
        let (mut liveness, _) = live();
        liveness.hold(Ticket(7), Ok(()));
        liveness.hold(Ticket(8), Err(DiskError::Io));
        assert_eq!(liveness.release(), [(Ticket(7), Ok(())), (Ticket(8), Err(DiskError::Io))]);
        assert_eq!(liveness.release(), []);
    }
}
