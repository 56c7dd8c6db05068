//! Everything the one loop needs from outside, as one trait: the product implements it with sockets, files and
//! the system's clock, the simulated world with seeds.

use crate::command::{NexusId, Outcome, TaskTag};
use crate::disk::{DiskIo, DiskResult};
use crate::link::{Frame, LinkId, Via};
use crate::status::{ContestStatus, FileSystemStatus, HostStatus, LimitStatus, StuckStatus};
use crate::time::Time;
use crate::volume::stack::VolumeId;
use crate::volume::superblock::Superblock;

/// Names one submitted piece of work until its completion comes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// What the loop asks of the outside. Every method may be called from any thread, none may block, none may call
/// back into the controller: completions come by its `on_…` methods, from whoever has them.
pub trait World: Send + Sync + 'static {
    /// CLOCK_BOOTTIME.
    fn now(&self) -> Time;

    /// 128 random bits, unpredictable in the product.
    fn random(&self) -> u128;

    /// Calls [`crate::unit::Controller::on_tick`] at `at` or soon after. Ticks also come every
    /// [`crate::time::TICK`] without being asked for.
    fn wake_at(&self, at: Time);

    /// Hands a frame to the interlink. A frame for a link that is gone vanishes.
    fn send(&self, via: Via, frame: Frame);

    /// Closes a link of the interlink, after what was sent on it.
    fn close(&self, link: LinkId);

    /// Submits disk I/O. Work that can be done without blocking may be done at once and its result returned;
    /// otherwise `on_disk` brings it later.
    fn submit(&self, volume: VolumeId, io: DiskIo, ticket: Ticket) -> Option<DiskResult>;

    /// Makes `record` durable under `key` in the controller's state store, then calls `on_persisted(ticket)`.
    /// Records of one key become durable in the order they were handed over.
    fn persist(&self, key: &str, record: Vec<u8>, ticket: Ticket);

    /// Creates the volume (a sparse file, or the tail of a blank device), durable with its superblock and its
    /// folder entry before `on_volume(ticket, ..)` is called; from then on `submit` works on it.
    fn create_volume(&self, volume: VolumeId, superblock: Superblock, ticket: Ticket);

    /// Writes the superblock of a volume that is there anew, durable before `on_volume(ticket, ..)` is called.
    fn begin_service(&self, volume: VolumeId, superblock: Superblock, ticket: Ticket);

    /// Gives a command's outcome to its nexus. Vanishes if the nexus is gone.
    fn answer(&self, nexus: NexusId, tag: TaskTag, outcome: Outcome);

    /// Whether there is room on the disk of a volume for more than it has, as far as is known: nothing is looked at
    /// that could make the caller wait.
    fn has_room(&self, _volume: VolumeId) -> bool {
        false
    }

    /// What people should know of the room for a volume: a sentence, if its disk is full.
    fn want_of_room(&self, _volume: VolumeId) -> Option<String> {
        None
    }

    /// The file systems that this controller keeps something on: for people.
    fn file_systems(&self) -> Vec<FileSystemStatus> {
        Vec::new()
    }

    /// What is wrong with what surrounds the controller, in sentences: for people.
    fn troubles(&self) -> Vec<String> {
        Vec::new()
    }

    /// What of this controller does not get on, if something does not. It then grants no lease, meets no peer and does
    /// not go on alone.
    fn stuck(&self) -> Option<StuckStatus> {
        None
    }

    /// Whether connections of the interlink are encrypted: for people.
    fn encrypts(&self) -> bool {
        false
    }

    /// The hosts that are logged in, oldest first: for people.
    fn hosts(&self) -> Vec<HostStatus> {
        Vec::new()
    }

    /// Initiator names that two machines have: for people.
    fn contests(&self) -> Vec<ContestStatus> {
        Vec::new()
    }

    /// The limits of what surrounds the controller, with their use: for people.
    fn limits(&self) -> Vec<LimitStatus> {
        Vec::new()
    }
}
