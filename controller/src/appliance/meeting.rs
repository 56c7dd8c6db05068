//! What belongs to one meeting of the two controllers, and is forgotten with it: what came before its time, and what
//! the leader has yet to send.
//!
//! What always holds: each thing that is early is taken up once, and there is no more of it than the peer can say once.

use protocol::interlink::hello::Identity;
use protocol::interlink::message::Agreement;
use protocol::interlink::{GenerationTag, Message};

/// A word about a group, by one of its LUNs, under a generation.
pub(super) type EarlyMessage = (usize, GenerationTag, Message);

/// Words that the peer can say early of each LUN: a switch, and what a person has asked.
const EARLY_WORDS_MAX: usize = 4;

/// A meeting under way.
#[derive(Debug, Default)]
pub(super) struct Meeting {
    /// The leader's, until the other has them.
    agreements: Vec<Agreement>,
    /// What the peer has was looked at, as it was last told.
    compared: bool,
    /// The volumes of LUNs that were never agreed on were asked for.
    made: bool,
    /// The leader's agreements, come before what it has.
    early: Option<Vec<Agreement>>,
    /// The leader's identity, come while this controller was writing down that it goes alone.
    early_identity: Option<Identity>,
    /// What the leader said of LUNs that wait for the record that both have their generation.
    early_messages: Vec<EarlyMessage>,
}

impl Meeting {
    /// The identity is durable on both.
    pub(super) const fn settle(&mut self) {
        self.made = false;
    }

    /// This controller tells what it has, and looks at what the peer has anew.
    pub(super) const fn tell(&mut self) {
        self.compared = false;
    }

    /// Volumes are asked for. False if they were before.
    pub(super) const fn make(&mut self) -> bool {
        !core::mem::replace(&mut self.made, true)
    }

    /// What the peer has was looked at: the agreements that the leader has already sent.
    pub(super) const fn compare(&mut self) -> Option<Vec<Agreement>> {
        self.compared = true;
        self.early.take()
    }

    /// The leader's agreements have come: back if it is their time. If not, what the leader has is still on its way;
    /// this controller must know it too.
    pub(super) fn hear(&mut self, agreements: Vec<Agreement>) -> Option<Vec<Agreement>> {
        if self.compared {
            return Some(agreements);
        }
        self.early = Some(agreements);
        None
    }

    /// The leader keeps what it will send.
    pub(super) fn keep(&mut self, agreements: Vec<Agreement>) {
        self.agreements = agreements;
    }

    /// The leader sends it.
    pub(super) fn agreements(&self) -> Vec<Agreement> {
        self.agreements.clone()
    }

    /// The other has them.
    pub(super) fn take_agreements(&mut self) -> Vec<Agreement> {
        core::mem::take(&mut self.agreements)
    }

    /// The leader's identity comes while something else is being written, which comes first.
    pub(super) fn keep_identity(&mut self, identity: Identity) {
        self.early_identity = Some(identity);
    }

    pub(super) const fn take_identity(&mut self) -> Option<Identity> {
        self.early_identity.take()
    }

    /// A word comes about a LUN that waits for the record that both have its generation: a switch, once, or what a
    /// person has asked; of these no more than there is room for.
    pub(super) fn keep_early(&mut self, word: EarlyMessage, luns: usize) {
        if self.early_messages.len() < EARLY_WORDS_MAX * luns {
            self.early_messages.push(word);
        }
    }

    pub(super) fn take_early(&mut self) -> Vec<EarlyMessage> {
        core::mem::take(&mut self.early_messages)
    }

    /// Whether nothing waits for its time.
    pub(super) fn is_empty(&self) -> bool {
        self.agreements.is_empty()
            && self.early.is_none()
            && self.early_identity.is_none()
            && self.early_messages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreements_that_come_before_what_the_leader_has_wait_for_it() {
        let mut meeting = Meeting::default();
        meeting.tell();
        assert_eq!(meeting.hear(Vec::new()), None);
        assert!(!meeting.is_empty());
        assert_eq!(meeting.compare(), Some(Vec::new()));
        assert_eq!(meeting.compare(), None, "once");
        assert_eq!(meeting.hear(Vec::new()), Some(Vec::new()));
        meeting.tell();
        assert_eq!(meeting.hear(Vec::new()), None, "the two tell again");
    }

    #[test]
    fn volumes_are_asked_for_once_after_the_identity_is_settled() {
        let mut meeting = Meeting::default();
        meeting.settle();
        assert!(meeting.make() && !meeting.make());
        meeting.settle();
        assert!(meeting.make());
    }

    #[test]
    fn early_words_have_a_bound() {
        let mut meeting = Meeting::default();
        let word = || (0, GenerationTag { number: 1, id: 1 }, Message::SwitchBegin(1));
        (0..9).for_each(|_| meeting.keep_early(word(), 2));
        assert_eq!(meeting.take_early().len(), 2 * EARLY_WORDS_MAX);
        assert!(meeting.is_empty());
    }
}
