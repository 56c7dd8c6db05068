//! One controller's view of the simulated world.

use std::sync::Arc;

use controller::command::{NexusId, Outcome, TaskTag};
use controller::disk::{DiskIo, DiskResult};
use controller::link::{Frame, LinkId, Via};
use controller::plan::Side;
use controller::time::Time;
use controller::volume::stack::VolumeId;
use controller::volume::superblock::Superblock;
use controller::world::{Ticket, World};
use parking_lot::Mutex;

use super::hub::{Event, Hub};

/// What the one loop of a simulated controller runs in.
pub(super) struct SimWorld {
    pub(super) hub: Arc<Mutex<Hub>>,
    pub(super) side: Side,
    /// The run of the controller it belongs to: what an earlier one asks for never happens.
    pub(super) life: u32,
}

impl SimWorld {
    fn is_gone(&self, hub: &Hub) -> bool {
        hub.processes[self.side.index()].life != self.life
    }

    fn perform(&self, event: Event) {
        let hub = &mut *self.hub.lock();
        if !self.is_gone(hub) {
            hub.perform(event);
        }
    }
}

impl World for SimWorld {
    fn now(&self) -> Time {
        self.hub.lock().clock(self.side)
    }

    fn random(&self) -> u128 {
        let hub = &mut *self.hub.lock();
        u128::from(hub.random.next()) << 64 | u128::from(hub.random.next())
    }

    fn wake_at(&self, at: Time) {
        let hub = &mut *self.hub.lock();
        if self.is_gone(hub) {
            return;
        }
        let time = hub.time_of(self.side, at).max(hub.now());
        let late = hub.settings.action.draw(&mut hub.random);
        hub.at(time + late, Event::Wake(self.side));
    }

    fn send(&self, via: Via, frame: Frame) {
        self.perform(Event::Send(self.side, via, frame));
    }

    fn close(&self, link: LinkId) {
        self.perform(Event::Close(self.side, link));
    }

    fn submit(&self, volume: VolumeId, io: DiskIo, ticket: Ticket) -> Option<DiskResult> {
        let hub = &mut *self.hub.lock();
        if self.is_gone(hub) {
            return None;
        }
        hub.submit(self.side, volume, io, ticket)
    }

    fn persist(&self, key: &str, record: Vec<u8>, ticket: Ticket) {
        let hub = &mut *self.hub.lock();
        if !self.is_gone(hub) {
            hub.persist(self.side, key, record, ticket);
        }
    }

    fn create_volume(&self, volume: VolumeId, superblock: Superblock, ticket: Ticket) {
        self.perform(Event::VolumeMade(self.side, volume, superblock, ticket));
    }

    fn has_room(&self, _volume: VolumeId) -> bool {
        let hub = &mut *self.hub.lock();
        !self.is_gone(hub) && hub.disks[self.side.index()].trouble.is_none()
    }

    fn begin_service(&self, volume: VolumeId, superblock: Superblock, ticket: Ticket) {
        self.perform(Event::VolumeMade(self.side, volume, superblock, ticket));
    }

    fn answer(&self, nexus: NexusId, tag: TaskTag, outcome: Outcome) {
        self.perform(Event::Answer(self.side, nexus, tag, outcome));
    }
}
