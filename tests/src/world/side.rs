//! One controller's view of the simulated world.

use core::time::Duration;
use std::sync::Arc;

use controller::command::{NexusId, Outcome, TaskTag};
use controller::disk::{DiskIo, DiskResult};
use controller::plan::Side;
use controller::time::Time;
use controller::volume::superblock::Superblock;
use controller::world::{Frame, LinkId, Ticket, Via, VolumeIndex, World};
use parking_lot::Mutex;

use super::hub::{Event, Hub};

/// The second controller's machine started this much earlier: clocks of two machines have nothing in common.
const BOOTED_EARLIER: [Duration; 2] = [Duration::from_secs(1_000), Duration::from_secs(777_777)];

/// What the one loop of a simulated controller runs in.
pub(super) struct SimWorld {
    pub(super) hub: Arc<Mutex<Hub>>,
    pub(super) side: Side,
}

impl World for SimWorld {
    fn now(&self) -> Time {
        self.hub.lock().now() + BOOTED_EARLIER[self.side.index()]
    }

    fn random(&self) -> u128 {
        let hub = &mut *self.hub.lock();
        u128::from(hub.random.next()) << 64 | u128::from(hub.random.next())
    }

    fn wake_at(&self, at: Time) {
        let hub = &mut *self.hub.lock();
        let time = (at - BOOTED_EARLIER[self.side.index()]).max(hub.now());
        let late = hub.settings.action.draw(&mut hub.random);
        hub.at(time + late, Event::Wake(self.side));
    }

    fn send(&self, via: Via, frame: Frame) {
        self.hub.lock().perform(Event::Send(self.side, via, frame));
    }

    fn close(&self, link: LinkId) {
        self.hub.lock().perform(Event::Close(self.side, link));
    }

    fn submit(&self, volume: VolumeIndex, io: DiskIo, ticket: Ticket) -> Option<DiskResult> {
        self.hub.lock().submit(self.side, volume, io, ticket)
    }

    fn persist(&self, key: &'static str, record: Vec<u8>, ticket: Ticket) {
        self.hub.lock().persist(self.side, key, record, ticket);
    }

    fn create_volume(&self, volume: VolumeIndex, superblock: Superblock, ticket: Ticket) {
        self.hub.lock().perform(Event::VolumeMade(self.side, volume, superblock, ticket));
    }

    fn answer(&self, nexus: NexusId, tag: TaskTag, outcome: Outcome) {
        self.hub.lock().perform(Event::Answer(self.side, nexus, tag, outcome));
    }
}
