//! Switches: a pair that is in touch goes on under another generation, hosts hardly noticing: back to the preferred
//! main when a copy is complete; without a copy whose disk failed.
//!
//! ```text
//!  proposer (will not be main)        the other (will be main)
//!   │ hosts' commands wait               │
//!   │ SWITCH{generation} ───────────────►│ hosts' commands wait
//!   │                                    │ none of them in flight: generation durable
//!   │◄────────────────── SWITCH DURABLE  │ still in its old place: changes in flight may come
//!   │ nothing in flight: durable         │    (before that, what is split off: its copies are flushed)
//!   │ takes its new place                │
//!   │ SWITCH BEGIN ─────────────────────►│ takes its new place; what waited goes on
//!   │◄──────────────────── SWITCH BEGUN  │
//!   │ what waited goes on                │
//! ```
//!
//! Nobody sends a message of the new generation before the other has its place, and nobody leaves the old one while
//! the other may send one of it: no message meets a generation that does not know it. One kind may, and is passed over:
//! what a copy that leaves the pair says of its last changes (APPLIED), which SWITCH BEGIN overtakes on another
//! connection. Main goes on without that copy, so those changes are decided like any other that it may lack.
//!
//! Whoever will be main has the generation on disk first, so nobody else can go on from the one before. Nothing is
//! served under the new one before it is durable on both: a crash in between leaves two copies that are both
//! still whole, or the failed one, which the new generation does not name.
//!
//! A disk that fails in the middle of a switch to the preferred main ends the meeting: at the next one its copy is
//! known to have failed. Until then the range of what it could not take belongs to nobody ([`Quiet::Undecided`]), on
//! neither side: the other copy may be the one that leaves. Commands that wait for such a range go back to the door,
//! for they would be in flight until the switch is over, and the switch would wait for them.
//!
//! A disk that says nothing is given up only while another copy stays: what it was asked it may still write, at any
//! time. From the peer's word that its copy leaves, the local disk is waited for; the switch, which waits for what is
//! in flight, may then end in another meeting. A copy whose disk was given up before that word never becomes the last
//! one: no switch makes it so, and at the next meeting it has failed.

use core::time::Duration;

use protocol::interlink::Message;
use protocol::interlink::copy_report::{Generation, Pairing};
use protocol::interlink::will::Wanted;

use crate::pair::Quiet;
use crate::time::Time;

/// A switch that takes longer ends the meeting: the two start over.
pub(super) const SWITCH_MAX: Duration = Duration::from_secs(3);

/// The same of a split, in which the copies are flushed.
const SPLIT_MAX: Duration = Duration::from_secs(10);

/// A switch under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Switch {
    pub(super) generation: Generation,
    pub(super) pairing: Pairing,
    pub(super) since: Option<Time>,
    pub(super) step: SwitchStep,
    /// This controller is main of the generation before, too.
    pub(super) was_main: bool,
}

/// What a switch waits for on this controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SwitchStep {
    /// Proposed here: the other writes it down first.
    Proposed,
    /// The other has it: nothing may be in flight here.
    Draining,
    /// Nothing is: so many copies are being flushed, which become images of their LUNs.
    Flushing(usize),
    /// It is being written here, last.
    WritesLast,
    /// This controller has its new place, and waits for the other's.
    AwaitsPeersPlace,
    /// Asked for by the other: nothing may be in flight here.
    Asked,
    /// It is being written here, first.
    WritesFirst,
    /// It is durable here: changes of the old order may come until the word to begin.
    AwaitsBegin,
}

/// What the peer's word makes of a switch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// It goes on.
    Steps(Switch),
    /// It is over; what the peer is told then.
    Over(Option<Message>),
}

impl Switch {
    /// The generation is durable here: how the switch goes on, and what the peer is told.
    pub(super) const fn on_durable(self) -> Option<(Self, Message)> {
        let number = self.generation.number;
        match self.step {
            SwitchStep::WritesLast => {
                Some((Self { step: SwitchStep::AwaitsPeersPlace, ..self }, Message::SwitchBegin(number)))
            }
            // Its place it takes later: until nothing is in flight over there, changes of the old order may come.
            SwitchStep::WritesFirst => {
                Some((Self { step: SwitchStep::AwaitsBegin, ..self }, Message::SwitchDurable(number)))
            }
            _ => None,
        }
    }

    /// The peer has the generation durable, or its new place, or knows that both have.
    pub(super) fn on_word(self, word: &Message) -> Option<Heard> {
        match *word {
            Message::SwitchDurable(number) if self.waits(SwitchStep::Proposed, number) => {
                Some(Heard::Steps(Self { step: SwitchStep::Draining, ..self }))
            }
            Message::SwitchBegin(number) if self.waits(SwitchStep::AwaitsBegin, number) => {
                Some(Heard::Over(Some(Message::SwitchBegun(number))))
            }
            Message::SwitchBegun(number) if self.waits(SwitchStep::AwaitsPeersPlace, number) => {
                Some(Heard::Over(None))
            }
            _ => None,
        }
    }

    /// Whether it waits at that step for the peer's word about the generation of that number.
    fn waits(self, step: SwitchStep, number: u64) -> bool {
        self.step == step && self.generation.number == number
    }

    /// The next step, if this one waits for commands in flight and there are none. A copy that lacks a change, or has
    /// one that the other lacks, may leave by a switch, but not go on as a whole one: then nothing may wait for a
    /// decision about the pair. One that is left by a person's word is whole. `copies`: how many there are to be
    /// flushed if the pair is split.
    pub(super) fn step_when(self, quiet: impl Fn() -> Quiet, copies: usize) -> Option<SwitchStep> {
        let ready = || match quiet() {
            Quiet::Yes => true,
            Quiet::Undecided => self.pairing == Pairing::Out && !self.is_of_a_person(),
            Quiet::No => false,
        };
        match self.step {
            SwitchStep::Draining if ready() && self.splits() => Some(SwitchStep::Flushing(copies)),
            SwitchStep::Draining if ready() => Some(SwitchStep::WritesLast),
            SwitchStep::Flushing(0) => Some(SwitchStep::WritesLast),
            SwitchStep::Asked if ready() => Some(SwitchStep::WritesFirst),
            _ => None,
        }
    }

    /// Whether a person wants it of a pair, not a copy that has failed.
    pub(super) fn is_of_a_person(self) -> bool {
        self.generation.will.wanted != Wanted::Pair
    }

    /// Whether it takes too long; it is looked at at every tick.
    pub(super) fn is_late(&mut self, now: Time) -> bool {
        let max = if self.splits() { SPLIT_MAX } else { SWITCH_MAX };
        now.since(*self.since.get_or_insert(now)) >= max
    }

    /// Whether it makes images of the copies that are left.
    pub(super) fn splits(self) -> bool {
        self.pairing == Pairing::Out && self.generation.will.wanted == Wanted::Split
    }

    /// One of the copies is flushed.
    #[must_use]
    pub(super) const fn flushed(self) -> Self {
        match self.step {
            SwitchStep::Flushing(left) => Self { step: SwitchStep::Flushing(left.saturating_sub(1)), ..self },
            _ => self,
        }
    }

    /// Whether it can still come to nothing for a disk that fails here: a person wants to be left with the copies here
    /// alone, and nobody lives by that yet.
    pub(super) fn can_be_undone_here(self) -> bool {
        let first = matches!(self.step, SwitchStep::Asked | SwitchStep::WritesFirst);
        first && self.pairing == Pairing::Out && self.is_of_a_person()
    }

    pub(super) const fn is_proposer(self) -> bool {
        match self.step {
            SwitchStep::Proposed
            | SwitchStep::Draining
            | SwitchStep::Flushing(_)
            | SwitchStep::WritesLast
            | SwitchStep::AwaitsPeersPlace => true,
            SwitchStep::Asked | SwitchStep::WritesFirst | SwitchStep::AwaitsBegin => false,
        }
    }

    /// Whether this controller has its new place already.
    pub(super) const fn has_own_place(self) -> bool {
        matches!(self.step, SwitchStep::AwaitsPeersPlace)
    }

    /// Whether a main may go on without the other in the middle of it. The old main while it has not written the new
    /// generation, but not if its own copy leaves: the other may have that already. The new one if the other's copy
    /// has left, as soon as that is durable here. Who is main of both at any time: nobody else could ever go on.
    pub(super) const fn leaves_the_right_here(self) -> bool {
        let out = matches!(self.pairing, Pairing::Out);
        match self.step {
            SwitchStep::Proposed | SwitchStep::Draining => !out,
            SwitchStep::Flushing(_) | SwitchStep::WritesLast | SwitchStep::AwaitsPeersPlace => false,
            SwitchStep::Asked | SwitchStep::WritesFirst => self.was_main,
            SwitchStep::AwaitsBegin => self.was_main || out,
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::interlink::will::Will;

    use super::*;

    /// Whether a switch of that kind goes on while something is in flight as `quiet` says, at both of its waits.
    fn goes_on(pairing: Pairing, wanted: Wanted, quiet: Quiet) -> bool {
        let generation = Generation { will: Will { wanted, main: None }, ..Generation::default() };
        let [first, last] = [SwitchStep::Asked, SwitchStep::Draining].map(|step| {
            let switch = Switch { generation, pairing, since: None, step, was_main: false };
            switch.step_when(|| quiet, 1).is_some()
        });
        assert_eq!(first, last, "{pairing:?} {wanted:?} {quiet:?}");
        first
    }

    #[test]
    fn a_copy_that_has_failed_leaves_with_what_is_undecided_and_who_is_left_by_a_persons_word_waits_for_it() {
        for pairing in [Pairing::Whole, Pairing::Copy, Pairing::Out] {
            for wanted in [Wanted::Pair, Wanted::Split, Wanted::Simplex] {
                assert!(goes_on(pairing, wanted, Quiet::Yes) && !goes_on(pairing, wanted, Quiet::No));
                let failed = pairing == Pairing::Out && wanted == Wanted::Pair;
                assert_eq!(goes_on(pairing, wanted, Quiet::Undecided), failed, "{pairing:?} {wanted:?}");
            }
        }
    }
}
