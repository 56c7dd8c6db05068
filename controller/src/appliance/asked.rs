//! What a person has asked of a pair and is not done yet. It is pursued until it is done: while the other is about to
//! get where this controller is already, and when a switch of something else came first. It is forgotten when the two
//! part: then the person is told so, and nothing begins later by surprise.
//!
//! ```text
//!  a split, here:      Flushing ──► Ready      what the sub has not flushed is on its disk before hosts wait for it
//!  everything else:    Ready
//! ```

use core::time::Duration;

use protocol::interlink::will::PairCommand;

use super::pair_command::{self, Answer, Change, PairRefusal, Place};
use crate::pair::PairStatus;
use crate::plan::Side;
use crate::time::Time;

/// What cannot begin within this time is forgotten. Whoever waits for it waits longer.
const ASKED_MAX: Duration = Duration::from_secs(10);

/// A split is forgotten whose copies take longer to be flushed before it.
const FLUSH_AHEAD_MAX: Duration = Duration::from_secs(45);

/// What has been asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Asked {
    command: PairCommand,
    /// Who is main when roles have been swapped.
    main: Side,
    /// By way of the peer.
    told: bool,
    /// The peer was told while this side was main.
    said: Option<Side>,
    asked: Option<Time>,
    step: Step,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// So many copies are being flushed before it begins.
    Flushing(usize),
    /// It begins as soon as it can.
    Ready { since: Option<Time>, flushed: bool },
}

/// What is to be done for it next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// It is done, or will not be.
    Forget,
    /// Nothing yet.
    Wait,
    /// The peer is told: it begins there.
    Say,
    /// The copies here are flushed first.
    Flush,
    /// It begins here.
    Begin(Change),
}

impl Asked {
    /// It was asked while `main` was main; `told`: by way of the peer.
    pub(super) const fn new(command: PairCommand, main: Side, told: bool) -> Self {
        let step = Step::Ready { since: None, flushed: false };
        Self { command, main: main.peer(), told, said: None, asked: None, step }
    }

    pub(super) const fn command(&self) -> PairCommand {
        self.command
    }

    /// Whether it is as it was asked for, or as something newer has made it.
    pub(super) fn is_done(&self, status: PairStatus, main: Side) -> bool {
        match self.command {
            PairCommand::Split => status == PairStatus::Split,
            PairCommand::Delete => status == PairStatus::Simplex,
            PairCommand::Create | PairCommand::Resync => {
                matches!(status, PairStatus::Copy | PairStatus::Duplex)
            }
            PairCommand::Swap => main == self.main,
        }
    }

    /// Whether it has waited too long: since it was asked, or could begin.
    pub(super) fn is_too_old(&mut self, now: Time) -> bool {
        let asked = *self.asked.get_or_insert(now);
        match &mut self.step {
            Step::Flushing(_) => now.since(asked) >= FLUSH_AHEAD_MAX,
            Step::Ready { since, .. } => now.since(*since.get_or_insert(now)) >= ASKED_MAX,
        }
    }

    /// Looks at it again, as the pair is placed now under that main; `copies` are here, which would be flushed before a
    /// split. What a person makes an image of is flushed first, and the peer is told once while a side is main.
    pub(super) fn next(&mut self, now: Time, main: Side, place: Place, copies: usize) -> Next {
        if !place.busy && self.is_done(place.status, main) || self.is_too_old(now) {
            return Next::Forget;
        }
        match pair_command::answer(self.command, place) {
            Answer::Refused(PairRefusal::Busy | PairRefusal::NotWhole) => Next::Wait,
            Answer::Done | Answer::Refused(_) => Next::Forget,
            Answer::Change(change) if !change.here => {
                if !self.told && self.said.replace(main) != Some(main) {
                    Next::Say
                } else {
                    Next::Wait
                }
            }
            Answer::Change(change) => match self.step {
                Step::Flushing(_) => Next::Wait,
                Step::Ready { flushed: false, .. } if self.command == PairCommand::Split && copies > 0 => {
                    self.step = Step::Flushing(copies);
                    Next::Flush
                }
                Step::Ready { .. } => Next::Begin(change),
            },
        }
    }

    /// One of the copies is flushed.
    pub(super) const fn flushed(&mut self) {
        if let Step::Flushing(left) = self.step {
            self.step = match left {
                0 | 1 => Step::Ready { since: None, flushed: true },
                _ => Step::Flushing(left - 1),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appliance::pair_command::tests::PLACE;
    use crate::pair::Role;

    const STATUSES: [PairStatus; 5] =
        [PairStatus::Simplex, PairStatus::Copy, PairStatus::Duplex, PairStatus::Split, PairStatus::Suspended];

    #[test]
    fn every_command_is_done_in_the_statuses_that_it_is_for() {
        use {PairCommand as C, PairStatus as S};
        for (command, done) in [
            (C::Create, &[S::Copy, S::Duplex][..]),
            (C::Split, &[S::Split]),
            (C::Resync, &[S::Copy, S::Duplex]),
            (C::Delete, &[S::Simplex]),
        ] {
            let asked = Asked::new(command, Side::First, false);
            for status in STATUSES {
                assert_eq!(
                    asked.is_done(status, Side::First),
                    done.contains(&status),
                    "{command:?} {status:?}"
                );
            }
        }
        let swap = Asked::new(C::Swap, Side::First, false);
        assert!(swap.is_done(S::Duplex, Side::Second) && !swap.is_done(S::Duplex, Side::First));
    }

    const NOW: Time = Time(1);

    /// A pair that is DUPLEX, as its side of that role sees it.
    fn place(role: Role) -> Place {
        Place { role, ..PLACE }
    }

    #[test]
    fn a_split_flushes_every_copy_before_it_begins_and_all_else_begins_at_once() {
        let mut split = Asked::new(PairCommand::Split, Side::First, false);
        let mut next = |flushed: u32| {
            (0..flushed).for_each(|_| split.flushed());
            split.next(NOW, Side::First, place(Role::Sub), 2)
        };
        assert_eq!((next(0), next(0)), (Next::Flush, Next::Wait));
        assert_eq!(next(1), Next::Wait, "one is left");
        assert!(matches!((next(1), next(0)), (Next::Begin(_), Next::Begin(_))), "once");
        let mut swap = Asked::new(PairCommand::Swap, Side::First, false);
        assert!(matches!(swap.next(NOW, Side::First, place(Role::Main), 2), Next::Begin(_)));
    }

    #[test]
    fn the_peer_is_told_once_for_each_main_by_who_was_asked() {
        let next = |asked: &mut Asked, main| asked.next(NOW, main, place(Role::Main), 1);
        let mut asked = Asked::new(PairCommand::Split, Side::First, false);
        let mains = [Side::First, Side::First, Side::Second, Side::Second];
        assert_eq!(mains.map(|main| next(&mut asked, main)), [Next::Say, Next::Wait, Next::Say, Next::Wait]);
        let mut told = Asked::new(PairCommand::Split, Side::First, true);
        assert_eq!(next(&mut told, Side::First), Next::Wait);
    }

    #[test]
    fn it_waits_for_what_is_under_way_and_is_forgotten_when_it_can_not_be() {
        let next = |place| Asked::new(PairCommand::Swap, Side::First, true).next(NOW, Side::First, place, 1);
        let here = place(Role::Main);
        assert_eq!(next(Place { busy: true, ..here }), Next::Wait);
        assert_eq!(next(Place { status: PairStatus::Copy, ..here }), Next::Wait);
        assert_eq!(next(Place { status: PairStatus::Split, ..here }), Next::Forget);
        assert_eq!(next(Place { joined: false, ..here }), Next::Forget);
        let done = Asked::new(PairCommand::Swap, Side::First, true).next(NOW, Side::Second, here, 1);
        assert_eq!(done, Next::Forget, "the other is main");
    }

    #[test]
    fn what_cannot_begin_is_forgotten_but_not_while_it_is_flushed() {
        let mut asked = Asked::new(PairCommand::Split, Side::First, false);
        assert!(!asked.is_too_old(Time(1)));
        assert!(asked.is_too_old(Time(1) + ASKED_MAX));
        asked.step = Step::Flushing(1);
        assert!(!asked.is_too_old(Time(1) + ASKED_MAX * 2));
        assert!(asked.is_too_old(Time(1) + FLUSH_AHEAD_MAX), "whoever asked has been told so");
        asked.flushed();
        let later = Time(1) + ASKED_MAX * 2;
        assert!(!asked.is_too_old(later) && asked.is_too_old(later + ASKED_MAX), "from then on");
    }
}
