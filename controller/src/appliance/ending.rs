//! A clean end: hosts' new commands are refused on both sides, those in flight finish, both flush, and only then
//! do both mark their generations clean. Cut short anywhere, the mark is missing and the next meeting copies.

use core::time::Duration;

use protocol::interlink::Message;
use protocol::interlink::standing::CopyFound;

use super::lifecycle::{Ends, Event};
use super::{Apart, Appliance, Effect, Pending, Phase};
use crate::disk::DiskError;
use crate::pair::{Breakage, PairStatus, Service};
use crate::time::Time;

/// A clean end that is not complete by then goes on without its mark.
pub(super) const ENDING_MAX: Duration = Duration::from_secs(8);

/// How long the one who ends waits for the other's farewell after its own.
pub(super) const FAREWELL_MAX: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct Ending {
    /// This controller shall end.
    own: bool,
    /// When it began, on either side.
    since: Option<Time>,
    drained: bool,
    peer_drained: bool,
    flushes: u32,
    flush_failed: bool,
    flushing: bool,
    /// All is flushed, and the volumes are marked.
    marks: bool,
    /// The clean mark is durable here.
    clean: Option<Time>,
    /// The peer said so of itself.
    pub(super) farewell: bool,
    /// Nothing more to do.
    over: bool,
}

impl Ending {
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

    /// The two have met (again): an earlier end of the peer is history.
    pub(super) fn on_joined(&mut self) {
        if !self.own {
            *self = Self::default();
        }
    }

    /// The interlink is gone. A peer's end is over; an own one goes on without the mark.
    pub(super) fn on_lost(&mut self) {
        if self.own {
            self.over = true;
        } else {
            *self = Self { farewell: self.farewell && self.clean.is_some(), ..Self::default() };
        }
    }
}

impl Appliance {
    /// Begins a clean end.
    pub fn stop(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.ending.own {
            return;
        }
        self.ending.own = true;
        self.apart = Apart::Stopping;
        if self.is_unusable() {
            self.ending.over = true;
            return;
        }
        if !matches!(self.phase, Phase::Apart | Phase::Joined) {
            // Nothing is to begin any more: what the two are about to agree on comes to nothing.
            self.lose(Apart::Stopping, effects);
        }
        if let (Some(peer), Phase::Joined) = (&self.peer, self.phase) {
            effects.push(Effect::Send(peer.control, Message::Goodbye));
        }
        self.begin_ending(now, true, effects);
    }

    /// True when nothing more needs to be done before the process ends.
    #[must_use]
    pub const fn stopped(&self) -> bool {
        self.ending.own && self.ending.over
    }

    /// Whether a LUN has to fall quiet before the end goes on.
    #[must_use]
    pub fn is_closing(&self, lun: usize) -> bool {
        self.ending.begun() && self.groups[lun].stage.closes()
    }

    pub(super) fn on_goodbye(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Joined {
            self.begin_ending(now, false, effects);
        }
    }

    fn begin_ending(&mut self, now: Time, own: bool, effects: &mut Vec<Effect>) {
        self.ending.since.get_or_insert(now);
        for lun in 0..self.groups.len() {
            let event = if own { Event::OwnEnd } else { Event::PeerEnds { right: self.may_go_on(lun) } };
            self.on_group(lun, event, effects);
        }
    }

    pub(super) fn on_peer_drained(&mut self, effects: &mut Vec<Effect>) {
        self.ending.peer_drained = true;
        self.flush_if_drained(effects);
    }

    pub(super) fn on_farewell(&mut self) {
        self.ending.farewell = true;
        if !self.ending.own {
            self.apart = Apart::Stopped(self.peer_name());
        }
        self.end_if_over();
    }

    pub(super) fn tick_ending(&mut self, now: Time, quiet: bool, effects: &mut Vec<Effect>) {
        let Some(since) = self.ending.since else {
            return;
        };
        if quiet && !self.is_any_turning() {
            if !core::mem::replace(&mut self.ending.drained, true)
                && let (Some(peer), Phase::Joined) = (&self.peer, self.phase)
            {
                effects.push(Effect::Send(peer.control, Message::Drained));
            }
            self.flush_if_drained(effects);
        }
        let waited = self.ending.clean.is_some_and(|clean| now.since(clean) >= FAREWELL_MAX);
        if self.ending.own && (waited || now.since(since) >= ENDING_MAX) {
            self.ending.over = true;
        }
        if let Some(clean) = &mut self.ending.clean
            && *clean == Time(0)
        {
            *clean = now;
        }
    }

    fn is_any_turning(&self) -> bool {
        (0..self.groups.len()).any(|lun| self.is_turning(lun))
    }

    /// Both sides are quiet (or there is no other side): flush, so that the mark may be made.
    fn flush_if_drained(&mut self, effects: &mut Vec<Effect>) {
        let alone = self.phase != Phase::Joined;
        // A turn may come upon who has said already that nothing is in flight.
        let drained = self.ending.drained && (self.ending.peer_drained || alone) && !self.is_any_turning();
        if !drained || self.ending.flushing {
            return;
        }
        self.ending.flushing = true;
        for lun in 0..self.groups.len() {
            if self.service(lun) != Service::Refused && self.copy_found(lun) == CopyFound::Whole {
                self.ending.flushes += 1;
                let ticket = self.ticket(Pending::Flush(lun));
                effects.push(Effect::Flush(lun, ticket));
            }
        }
        self.mark_if_flushed(effects);
    }

    pub(super) fn on_flushed(&mut self, _lun: usize, good: bool, effects: &mut Vec<Effect>) {
        self.ending.flushes = self.ending.flushes.saturating_sub(1);
        self.ending.flush_failed |= !good;
        self.mark_if_flushed(effects);
    }

    /// The mark of an end is in a volume, or its disk did not take it. Then nothing says that this end was clean, and no
    /// more: the copy has all that was answered, and is marked again before it serves alone.
    pub(super) fn on_marked_end(
        &mut self,
        lun: usize,
        result: Result<(), DiskError>,
        effects: &mut Vec<Effect>,
    ) {
        let good = result.is_ok() && self.on_marked(lun, result);
        self.on_flushed(lun, good, effects);
    }

    /// What names the marks of an end is durable.
    pub(super) fn on_end_marks_durable(&mut self, effects: &mut Vec<Effect>) {
        for lun in 0..self.groups.len() {
            if self.mark(lun, Pending::MarkedEnd(lun), effects) {
                self.ending.flushes += 1;
            }
        }
        self.mark_if_flushed(effects);
    }

    fn mark_if_flushed(&mut self, effects: &mut Vec<Effect>) {
        if self.ending.flushes > 0 {
            return;
        }
        if self.ending.flush_failed {
            self.ending.over = true;
            return;
        }
        if !core::mem::replace(&mut self.ending.marks, true) {
            return self.write_end_marks(effects);
        }
        for lun in 0..self.groups.len() {
            // A copy that is not complete is not clean: it starts again.
            let (status, service) = (self.status(lun), self.service(lun));
            let failed = matches!(self.groups[lun].breakage, Some(Breakage::OwnDisk(_)));
            let whole = matches!(status, PairStatus::Duplex | PairStatus::Simplex);
            let untouched = self.groups[lun].untouched;
            self.groups[lun].clean |= !failed && (untouched || service != Service::Refused && whole);
        }
        self.persist(Pending::Clean, effects);
    }

    pub(super) fn on_clean(&mut self, effects: &mut Vec<Effect>) {
        self.ending.clean = Some(Time(0));
        match (&self.peer, self.phase) {
            (Some(peer), Phase::Joined) => effects.push(Effect::Send(peer.control, Message::Farewell)),
            _ => self.ending.over = true,
        }
        self.end_if_over();
    }

    fn end_if_over(&mut self) {
        if self.ending.clean.is_some() && self.ending.farewell {
            self.ending.over = true;
        }
    }
}
