//! A clean end. What this controller is main of is handed over first ([`HandOver`]); then hosts' new commands are
//! refused on both sides, those in flight finish, both flush, and only then do both mark their generations clean. Cut
//! short anywhere, the mark is missing and the next meeting copies.
//!
//! ```text
//!  begun ──► drained ──► flushing ──► marks ──► clean ──► over
//!            here and    every LUN    every     durable   the peer has said farewell, or was waited for
//!            at the peer that serves  volume
//! ```
//!
//! What always holds: the mark of a clean end is asked for only when nothing is being flushed any more and every flush
//! was good ([`Shutdown::next`]), and a peer's end is forgotten when the two lose each other.

use core::time::Duration;

use protocol::interlink::Message;
use protocol::interlink::frame::VERSION_MAX;

use super::deed::Deed;
use super::groups::Groups;
use super::hand_over::HandOver;
use super::ids::Ids;
use super::lifecycle::Ends;
use super::pending::Pending;
use super::starts::Round;
use super::wish::Setting;
use crate::time::Time;

/// A clean end that is not complete by then goes on without its mark.
pub(super) const ENDING_MAX: Duration = Duration::from_secs(8);

/// How long the one who ends waits for the other's farewell after its own.
pub(super) const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// How far a clean end of either side has come.
#[derive(Debug, Default)]
pub(super) struct Shutdown {
    /// What comes before.
    hand_over: HandOver,
    /// This controller ends.
    own: bool,
    /// When it began, on either side.
    since: Option<Time>,
    drained: bool,
    peer_drained: bool,
    /// Volumes that are being flushed or marked.
    flushes: u32,
    flush_failed: bool,
    flushing: bool,
    /// All is flushed, and the volumes are marked.
    marks: bool,
    /// Since when the clean mark is durable here.
    clean: Option<Time>,
    /// The peer said so of itself.
    farewell: bool,
    /// Nothing more to do.
    over: bool,
}

/// What an end works on.
#[derive(Debug)]
pub(super) struct Ending<'a> {
    /// There is a peer, and the two have joined.
    pub(super) joined: bool,
    /// The peer's release knows of hand-overs.
    pub(super) knows_hand_over: bool,
    pub(super) groups: &'a mut Groups,
    pub(super) ids: &'a mut Ids,
}

/// What an end does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// Volumes are still being flushed or marked.
    Waits,
    /// Nothing: a flush has failed, and no mark says that this end was clean.
    Unclean,
    /// Every volume was flushed: mark them.
    Mark,
    /// Every volume is marked: write down that the end was clean.
    WriteClean,
}

impl Shutdown {
    /// This controller is to end when its hosts have left: the peer is told, and both flush meanwhile.
    pub(super) fn announce(&mut self, now: Time, on: &Ending<'_>) -> Vec<Deed> {
        let tells = on.joined && on.knows_hand_over && self.since.is_none() && !self.own;
        if !tells || !self.hand_over.announce() {
            return Vec::new();
        }
        let mut deeds = vec![Deed::Send(Message::Leaving)];
        deeds.extend(self.flush_early(now, on));
        deeds
    }

    /// This controller is to end: what it is main of is handed over first, if there is somebody to hand it to.
    pub(super) fn stop(&mut self, now: Time, on: &mut Ending<'_>) -> Vec<Deed> {
        if self.own || self.hand_over.is_under_way() {
            return Vec::new();
        }
        let mut deeds = self.announce(now, on);
        if !self.hand_over.is_own() {
            return self.begin_own(now);
        }
        self.hand_over.leave(now);
        deeds.extend(self.go_on_handing_over(now, on));
        deeds
    }

    fn begin_own(&mut self, now: Time) -> Vec<Deed> {
        self.own = true;
        self.begin(now);
        vec![Deed::EndBegins]
    }

    fn flush_early(&mut self, now: Time, on: &Ending<'_>) -> impl Iterator<Item = Deed> + use<> {
        let luns = on.groups.to_be_flushed();
        self.hand_over.expect(luns.len() as u32, now);
        luns.into_iter().map(Deed::FlushEarly)
    }

    /// Time has passed, or something has got on: what is to be handed over is, or the end begins.
    fn go_on_handing_over(&mut self, now: Time, on: &mut Ending<'_>) -> Vec<Deed> {
        let mut deeds = self.say_ready();
        deeds.extend(self.hand_over.hangs(now).then_some(Deed::FlushesHang));
        if self.own || !self.hand_over.is_under_way() {
            return deeds;
        }
        if self.hand_over.hands_over() {
            let setting = Setting { leaves: false, ..self.setting(on.joined, VERSION_MAX, Time(0)) };
            let groups = on.groups.iter_mut().enumerate();
            deeds.extend(groups.map(|(at, group)| Deed::Group(at, group.hand_over(setting, on.ids))));
        }
        let main =
            on.groups.iter().any(|group| group.state().is_main_of_two()) || on.groups.is_any_switching();
        if !on.joined || self.since.is_some() || self.hand_over.is_over(now, main) {
            deeds.extend(self.begin_own(now));
        }
        deeds
    }

    fn say_ready(&mut self) -> Vec<Deed> {
        let says = !self.own && self.hand_over.says_ready();
        says.then_some(Deed::Send(Message::Ready)).into_iter().collect()
    }

    /// The peer is to end: nothing is given back to it, and what is here goes to the disk.
    pub(super) fn on_leaving(&mut self, now: Time, on: &mut Ending<'_>) -> Vec<Deed> {
        let mut deeds = Vec::new();
        if self.hand_over.on_leaving() {
            deeds.extend(self.flush_early(now, on));
        }
        deeds.extend(self.go_on_handing_over(now, on));
        deeds
    }

    /// A volume was flushed, before the end or for it, or could not be.
    pub(super) fn on_flushed_volume(
        &mut self,
        pending: Pending,
        good: bool,
        now: Time,
        on: &mut Ending<'_>,
    ) -> Vec<Deed> {
        match pending {
            Pending::Flush(_) => self.on_volume(good, on),
            Pending::FlushEarly(_) => {
                self.hand_over.on_flushed();
                self.go_on_handing_over(now, on)
            }
            _ => Vec::new(),
        }
    }

    /// The peer has flushed what it had when it heard that this controller is to end; or may end itself.
    pub(super) fn on_ready(&mut self, now: Time, on: &mut Ending<'_>) -> Vec<Deed> {
        self.hand_over.on_ready();
        self.go_on_handing_over(now, on)
    }

    /// How the controller stands when something happens to a group.
    pub(super) fn setting(&self, joined: bool, version: u16, now: Time) -> Setting {
        let (ending, peer_leaves, leaves) = (self.whose(), self.hand_over.is_of_peer(), self.is_announced());
        Setting { joined, ending, peer_leaves, leaves, version, now }
    }

    /// Whether this controller is about to end.
    pub(super) fn is_announced(&self) -> bool {
        self.hand_over.is_own() && !self.own
    }

    /// Hosts' commands end from now on, for this controller's end or for the peer's.
    pub(super) const fn begin(&mut self, now: Time) {
        if self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// There is nothing that would have to be ended.
    pub(super) const fn is_over(&mut self) {
        self.over = true;
    }

    /// This controller shall end, and nothing more needs to be done before.
    pub(super) const fn stopped(&self) -> bool {
        self.own && self.over
    }

    pub(super) const fn begun(&self) -> bool {
        self.since.is_some() || self.own
    }

    /// Whose end it is.
    pub(super) const fn whose(&self) -> Option<Ends> {
        match (self.own, self.since) {
            (true, _) => Some(Ends::Own),
            (false, Some(_)) => Some(Ends::Peer),
            (false, None) => None,
        }
    }

    /// The two have met (again): one that is to end says so. What the peer has said of its end since they lost each
    /// other is of this meeting, in which it may have joined before.
    pub(super) fn on_joined(&mut self, now: Time, on: &Ending<'_>) -> Vec<Deed> {
        self.forget_farewell();
        if self.hand_over.is_announced() { self.announce(now, on) } else { Vec::new() }
    }

    const fn forget_farewell(&mut self) {
        self.farewell &= self.own;
    }

    /// The interlink is gone. A peer's end is over; an own one goes on without the mark.
    pub(super) fn on_lost(&mut self) {
        if self.own {
            self.over = true;
        } else {
            let farewell = self.farewell && self.clean.is_some();
            self.hand_over.on_lost();
            *self = Self { farewell, hand_over: self.hand_over, ..Self::default() };
        }
    }

    /// The peer has ended cleanly, and said so.
    pub(super) const fn peer_ended(&self) -> bool {
        self.farewell
    }

    /// Time has passed. `quiet`: nothing of a host is in flight here.
    pub(super) fn tick(&mut self, now: Time, quiet: bool, on: &mut Ending<'_>) -> Vec<Deed> {
        // Of an end that begins only now it was not looked whether anything is in flight.
        let begun = self.since.is_some();
        let mut deeds = self.go_on_handing_over(now, on);
        if begun && quiet && !on.groups.is_any_switching() {
            if self.drain() && on.joined {
                deeds.push(Deed::Send(Message::Drained));
            }
            deeds.extend(self.flush_if_drained(on));
        }
        self.expire(now);
        deeds
    }

    /// Whether it waits until nothing of a host is in flight here.
    pub(super) const fn drains(&self) -> bool {
        self.since.is_some() && !self.drained
    }

    /// Nothing of a host is in flight here. True the first time: the peer is to know.
    const fn drain(&mut self) -> bool {
        !core::mem::replace(&mut self.drained, true)
    }

    /// The same at the peer.
    pub(super) fn on_peer_drained(&mut self, on: &mut Ending<'_>) -> Vec<Deed> {
        self.peer_drained = true;
        self.flush_if_drained(on)
    }

    /// Both sides are quiet (or there is no other side): flush, so that the mark may be made.
    fn flush_if_drained(&mut self, on: &mut Ending<'_>) -> Vec<Deed> {
        if !self.begins_to_flush(!on.joined, on.groups.is_any_switching()) {
            return Vec::new();
        }
        let luns = on.groups.to_be_flushed();
        self.expect(luns.len() as u32);
        let mut deeds: Vec<Deed> = luns.into_iter().map(Deed::Flush).collect();
        deeds.extend(self.go_on(on));
        deeds
    }

    /// A volume was flushed or marked, or could not be.
    pub(super) fn on_volume(&mut self, good: bool, on: &mut Ending<'_>) -> Vec<Deed> {
        self.on_flushed(good);
        self.go_on(on)
    }

    /// So many volumes are being marked.
    pub(super) fn on_marks_named(&mut self, waits: u32, on: &mut Ending<'_>) -> Vec<Deed> {
        self.expect(waits);
        self.go_on(on)
    }

    /// What comes next.
    fn go_on(&mut self, on: &mut Ending<'_>) -> Vec<Deed> {
        match self.next() {
            Next::Waits | Next::Unclean => Vec::new(),
            Next::Mark => {
                on.groups.iter_mut().for_each(|group| group.state_mut().choose_end_marks(on.ids));
                vec![Deed::Write(Pending::Named(Round::End))]
            }
            Next::WriteClean => {
                on.groups.iter_mut().for_each(|group| group.state_mut().end_cleanly());
                vec![Deed::Write(Pending::Clean)]
            }
        }
    }

    /// Whether the flush begins: both sides are quiet (or there is no other side). A switch may come upon one that has
    /// said already that nothing is in flight.
    fn begins_to_flush(&mut self, alone: bool, switching: bool) -> bool {
        let drained = self.drained && (self.peer_drained || alone) && !switching;
        if !drained || self.flushing {
            return false;
        }
        self.flushing = true;
        true
    }

    /// So many volumes are being flushed or marked.
    const fn expect(&mut self, volumes: u32) {
        self.flushes += volumes;
    }

    /// One is, or could not be.
    const fn on_flushed(&mut self, good: bool) {
        self.flushes = self.flushes.saturating_sub(1);
        self.flush_failed |= !good;
    }

    /// What comes next, when a volume was flushed or marked.
    fn next(&mut self) -> Next {
        if self.flushes > 0 {
            return Next::Waits;
        }
        if self.flush_failed {
            self.over = true;
            return Next::Unclean;
        }
        if core::mem::replace(&mut self.marks, true) { Next::WriteClean } else { Next::Mark }
    }

    /// The clean mark is durable: a peer, with which the two have `joined`, is to hear so.
    pub(super) fn on_clean(&mut self, now: Time, joined: bool) -> Vec<Deed> {
        self.clean = Some(now);
        self.over |= !joined;
        self.end_if_over();
        joined.then_some(Deed::Send(Message::Farewell)).into_iter().collect()
    }

    /// The peer's clean mark is.
    pub(super) fn on_farewell(&mut self) -> Vec<Deed> {
        self.farewell = true;
        self.end_if_over();
        (!self.own).then_some(Deed::PeerStops).into_iter().collect()
    }

    const fn end_if_over(&mut self) {
        self.over |= self.clean.is_some() && self.farewell;
    }

    /// No end waits for ever.
    fn expire(&mut self, now: Time) {
        let Some(since) = self.since else {
            return;
        };
        let waited = self.clean.is_some_and(|clean| now.since(clean) >= FAREWELL_MAX);
        if self.own && (waited || now.since(since) >= ENDING_MAX) {
            self.over = true;
        }
    }

    /// Asserts what always holds.
    pub(super) fn check(&self) {
        assert!(self.flushing || !self.marks, "marked without a flush");
        assert!(
            self.clean.is_none() || (self.marks && self.flushes == 0 && !self.flush_failed),
            "clean before everything is on its disk"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time(0) + Duration::from_millis(ms)
    }

    fn stopped(at: Time) -> Shutdown {
        let mut shutdown = Shutdown::default();
        assert!(matches!(shutdown.begin_own(at)[..], [Deed::EndBegins]));
        shutdown
    }

    fn drained() -> Shutdown {
        let mut shutdown = stopped(at(1_000));
        assert!(shutdown.drain());
        shutdown
    }

    #[test]
    fn an_end_flushes_when_both_are_quiet_and_no_switch_is_under_way() {
        let mut shutdown = drained();
        assert!(!shutdown.drain(), "it is said once");
        assert!(!shutdown.begins_to_flush(false, false), "the peer is not quiet yet");
        shutdown.peer_drained = true;
        assert!(!shutdown.begins_to_flush(false, true), "a switch is under way");
        assert!(shutdown.begins_to_flush(false, false));
        assert!(!shutdown.begins_to_flush(false, false), "once");
    }

    #[test]
    fn the_mark_comes_after_every_flush_and_every_mark_of_a_volume() {
        let mut shutdown = drained();
        assert!(shutdown.begins_to_flush(true, false));
        shutdown.expect(2);
        shutdown.on_flushed(true);
        assert_eq!(shutdown.next(), Next::Waits);
        shutdown.on_flushed(true);
        assert_eq!(shutdown.next(), Next::Mark);
        shutdown.expect(1);
        assert_eq!(shutdown.next(), Next::Waits);
        shutdown.on_flushed(true);
        assert_eq!(shutdown.next(), Next::WriteClean);
        assert!(matches!(shutdown.on_clean(at(2_000), true)[..], [Deed::Send(Message::Farewell)]));
        shutdown.check();
        assert!(!shutdown.stopped(), "the peer's farewell is waited for");
        assert!(shutdown.on_farewell().is_empty(), "it is this controller that ends");
        assert!(shutdown.stopped());
    }

    #[test]
    fn a_failed_flush_ends_it_without_a_mark() {
        let mut shutdown = drained();
        assert!(shutdown.begins_to_flush(true, false));
        shutdown.expect(1);
        shutdown.on_flushed(false);
        assert_eq!(shutdown.next(), Next::Unclean);
        assert!(shutdown.stopped());
        shutdown.check();
    }

    #[test]
    fn no_end_waits_for_ever() {
        let mut shutdown = drained();
        shutdown.expire(at(1_000) + ENDING_MAX - Duration::from_millis(1));
        assert!(!shutdown.stopped());
        shutdown.expire(at(1_000) + ENDING_MAX);
        assert!(shutdown.stopped());
    }

    #[test]
    fn the_peers_farewell_is_waited_for_so_long_after_the_own_clean_mark() {
        let mut shutdown = drained();
        assert!(shutdown.begins_to_flush(true, false));
        assert_eq!([shutdown.next(), shutdown.next()], [Next::Mark, Next::WriteClean]);
        shutdown.on_clean(at(3_000), true);
        shutdown.expire(at(3_000));
        assert!(!shutdown.stopped());
        shutdown.expire(at(3_000) + FAREWELL_MAX - Duration::from_millis(1));
        assert!(!shutdown.stopped(), "the peer may still write down its own");
        shutdown.expire(at(3_000) + FAREWELL_MAX);
        assert!(shutdown.stopped());
    }

    #[test]
    fn a_peers_end_is_forgotten_when_the_two_lose_each_other_and_an_own_one_is_not() {
        let mut shutdown = Shutdown::default();
        shutdown.begin(at(1_000));
        assert_eq!(shutdown.whose(), Some(Ends::Peer));
        shutdown.forget_farewell();
        assert_eq!(shutdown.whose(), Some(Ends::Peer), "it may have joined before");
        shutdown.on_lost();
        assert_eq!(shutdown.whose(), None);
        shutdown = stopped(at(1_000));
        shutdown.forget_farewell();
        assert_eq!(shutdown.whose(), Some(Ends::Own));
        shutdown.on_lost();
        assert!(shutdown.stopped(), "without a peer there is nobody to wait for");
    }
}
