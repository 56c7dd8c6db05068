//! The communication volume: where the sub keeps a host's request and its data on the way to main.
//!
//! A request is put in, and taken out when main and the local copy are done with it. Kept in memory it is lost with
//! the controller, together with every host's connection to it; no request in it was answered yet, so nothing is
//! lost that anyone was promised.

use protocol::scsi::sense::Sense;
use slab::Slab;

use crate::command::{Command, LunIndex, NexusId, Op, TaskTag};
use crate::time::Time;

/// Bytes of data that one LUN keeps here at most.
pub const COMMUNICATION_VOLUME_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Requests that one LUN keeps here at most.
pub const COMMUNICATION_VOLUME_REQUESTS_MAX: usize = 4096;

/// A command of a host of the sub, kept until main and the local copy are done with it.
#[derive(Debug)]
pub(super) struct Forward {
    /// Its name for main; given by [`CommunicationVolume::put`].
    pub(super) id: u64,
    pub(super) nexus: NexusId,
    pub(super) tag: TaskTag,
    pub(super) op: Op,
    pub(super) durable: bool,
    /// The version of the shared state by which it was let pass.
    pub(super) version: u64,
    pub(super) received: Time,
    /// Bytes it takes of the communication volume and of main's buffers.
    pub(super) bytes: u64,
    pub(super) progress: Progress,
    /// A reset has come: if main has not admitted it, it never does.
    pub(super) given_up: bool,
}

impl Forward {
    /// The host's command that it is, to be judged anew.
    pub(super) fn into_command(self, lun: LunIndex) -> Command {
        let Self { nexus, tag, op, received, .. } = self;
        Command { lun, nexus, tag, op, received }
    }
}

/// How far a forwarded command is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// Kept here; main has no room for it yet.
    Queued,
    /// Main has it.
    AtMain {
        /// Main's copy has the change: its word has overtaken the order.
        done: bool,
    },
    /// Main has admitted it: both copies take it.
    Ordered {
        /// Its place in the order.
        sequence: u64,
        /// The local copy has it.
        here: bool,
        /// What main's copy makes of it.
        main: MainsCopy,
    },
    /// The interlink went away while the local copy was taking it.
    Lost,
    /// The interlink went away, and main, which has the only good copy, may admit it until it is too old.
    Adrift,
}

/// What main's copy makes of a change that main has ordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MainsCopy {
    /// Nothing is known yet.
    Writing,
    /// It has the change.
    Has,
    /// It could not take it.
    Lacks(Sense),
}

impl Progress {
    /// Main has it and has not said that it admits it.
    pub(super) const fn is_at_main(self) -> bool {
        matches!(self, Self::AtMain { .. })
    }

    /// Whether it takes up some of the room that the main of this meeting has for forwarded commands.
    pub(super) const fn holds_room(self) -> bool {
        match self {
            Self::AtMain { .. } | Self::Ordered { .. } => true,
            Self::Queued | Self::Lost | Self::Adrift => false,
        }
    }
}

/// The communication volume of one LUN.
#[derive(Debug, Default)]
pub(super) struct CommunicationVolume {
    kept: Slab<Forward>,
    bytes: u64,
    /// The most bytes there ever were.
    bytes_peak: u64,
    requests_made: u64,
}

/// A request's name for main: its slot and how many were made before it, so that a late answer to an earlier
/// request of the slot is not taken for this one's.
const SLOT_BITS: u32 = 16;

impl CommunicationVolume {
    /// Puts a request in, and says in which slot; `None` if there is no room. Its `id` is set here.
    pub(super) fn put(&mut self, mut request: Forward) -> Option<u32> {
        let room = self.bytes == 0 || self.bytes + request.bytes <= COMMUNICATION_VOLUME_BYTES_MAX;
        if !room || self.kept.len() >= COMMUNICATION_VOLUME_REQUESTS_MAX {
            return None;
        }
        self.bytes += request.bytes;
        self.bytes_peak = self.bytes_peak.max(self.bytes);
        self.requests_made += 1;
        let entry = self.kept.vacant_entry();
        let slot = entry.key() as u32;
        request.id = self.requests_made << SLOT_BITS | u64::from(slot);
        entry.insert(request);
        Some(slot)
    }

    /// The slot of a request by its name, if it is still kept.
    pub(super) fn slot_of(&self, id: u64) -> Option<u32> {
        let slot = (id & ((1 << SLOT_BITS) - 1)) as u32;
        self.kept.get(slot as usize).filter(|request| request.id == id).map(|_| slot)
    }

    /// A request.
    pub(super) fn get(&mut self, slot: u32) -> Option<&mut Forward> {
        self.kept.get_mut(slot as usize)
    }

    /// Takes a request out.
    pub(super) fn take(&mut self, slot: u32) -> Option<Forward> {
        let request = self.kept.try_remove(slot as usize)?;
        self.bytes -= request.bytes;
        Some(request)
    }

    /// Slots of the requests that `chosen` picks, oldest first.
    pub(super) fn slots(&self, chosen: impl Fn(&Forward) -> bool) -> Vec<u32> {
        let mut slots: Vec<_> = self.kept.iter().filter(|(_, request)| chosen(request)).collect();
        slots.sort_unstable_by_key(|(_, request)| request.id);
        slots.into_iter().map(|(slot, _)| slot as u32).collect()
    }

    /// The name of the oldest request that `chosen` picks.
    pub(super) fn oldest(&self, chosen: impl Fn(&Forward) -> bool) -> Option<u64> {
        self.kept.iter().filter(|(_, request)| chosen(request)).map(|(_, request)| request.id).min()
    }

    /// Requests kept.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// The most bytes that were ever kept.
    pub(super) const fn bytes_peak(&self) -> u64 {
        self.bytes_peak
    }

    /// Bytes kept.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(bytes: u64) -> Forward {
        Forward {
            id: 0,
            nexus: NexusId(1),
            tag: TaskTag(1),
            op: Op::SynchronizeCache,
            durable: true,
            version: 0,
            received: Time(0),
            bytes,
            progress: Progress::Queued,
            given_up: false,
        }
    }

    #[test]
    fn what_does_not_fit_is_not_kept() {
        let mut volume = CommunicationVolume::default();
        assert!(volume.put(request(COMMUNICATION_VOLUME_BYTES_MAX)).is_some());
        assert!(volume.put(request(1)).is_none());
        volume.take(0).unwrap();
        assert!(volume.put(request(1)).is_some());
    }

    #[test]
    fn the_answer_to_an_earlier_request_of_the_same_slot_is_nobodys() {
        let mut volume = CommunicationVolume::default();
        let first = volume.put(request(0)).unwrap();
        let id = volume.get(first).unwrap().id;
        volume.take(first).unwrap();
        let second = volume.put(request(0)).unwrap();
        assert_eq!(first, second);
        assert_eq!(volume.slot_of(id), None);
    }
}
