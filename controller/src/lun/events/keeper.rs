//! The durable part of a LUN's shared state on its way to this controller's disk: one record at a time, and behind it
//! the newest that was handed over meanwhile. Records have numbers, in their order.

use bytes::Bytes;
use protocol::interlink::shared::SharedState;

use crate::lun::task::Action;
use crate::world::Ticket;

/// Bits of a ticket that name the record of a LUN.
const RECORD_BITS: u32 = 48;

/// What is on the disk of this controller, or on its way there.
#[derive(Debug)]
pub(super) struct Keeper {
    /// The LUN's place in the controller's table.
    index: u16,
    newest: SharedState,
    /// Records handed over, and the last of them that is durable.
    asked: u64,
    kept: u64,
    /// One is on its way; what is to follow it.
    writes: bool,
    next: Option<Bytes>,
}

impl Keeper {
    /// What is on the disk.
    pub(super) const fn new(index: u16, restored: SharedState) -> Self {
        Self { index, newest: restored, asked: 0, kept: 0, writes: false, next: None }
    }

    /// The generation in the stamp of the newest record.
    pub(super) const fn generation(&self) -> u64 {
        self.newest.stamp.generation
    }

    /// Hands over the durable part of a state, if it changes: the number of the record that has to be durable, if one
    /// is not yet.
    pub(super) fn keep(&mut self, next: &SharedState, actions: &mut Vec<Action>) -> Option<u64> {
        if next.survives_as(&self.newest) {
            return (self.kept < self.asked).then_some(self.asked);
        }
        Some(self.record(next, actions))
    }

    /// Hands over the durable part of a state: the number of its record.
    pub(super) fn record(&mut self, next: &SharedState, actions: &mut Vec<Action>) -> u64 {
        self.newest = next.after_power_loss();
        let content = self.newest.encode();
        self.asked += 1;
        let number = self.asked;
        if self.writes {
            self.next = Some(content);
        } else {
            self.writes = true;
            actions.push(self.persist(number, &content));
        }
        number
    }

    fn persist(&self, number: u64, content: &Bytes) -> Action {
        let ticket = Ticket(u64::from(self.index) << RECORD_BITS | number);
        Action::Persist { record: content.to_vec(), ticket }
    }

    /// A record is durable; what follows it is written now.
    pub(super) fn on_durable(&mut self, ticket: Ticket, actions: &mut Vec<Action>) {
        let number = ticket.0 & ((1 << RECORD_BITS) - 1);
        assert!(
            number <= self.asked && number > self.kept,
            "a record that nobody has handed over is durable"
        );
        self.kept = number;
        self.writes = false;
        if let Some(content) = self.next.take() {
            self.writes = true;
            actions.push(self.persist(self.asked, &content));
        }
    }

    /// Whether a record is durable, or one that came after it.
    pub(super) const fn has(&self, number: u64) -> bool {
        self.kept >= number
    }

    /// What always holds.
    pub(super) fn check(&self) {
        assert!(self.kept <= self.asked, "more is durable than was handed over");
        assert_eq!(
            self.writes,
            self.kept < self.asked,
            "a record is on its way exactly while one is awaited"
        );
        assert!(self.writes || self.next.is_none(), "what is to follow follows nothing");
    }
}
