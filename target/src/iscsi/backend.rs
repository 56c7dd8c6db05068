//! What a connection needs of the controller, as a trait: tests put a script in its place.

use controller::command::{Initiator, LunIndex, NexusId, Outcome, TaskTag};
use controller::time::Time;
use controller::unit::{Controller, SenseFormats};
use controller::world::World;

use crate::device_server::{self, Request};

/// The controller, as connections see it.
pub trait Backend {
    /// The time.
    fn now(&self) -> Time;
    /// Whether logins are accepted.
    fn serving(&self) -> bool;
    /// A nexus begins.
    fn nexus_added(&self, nexus: NexusId, initiator: &Initiator);
    /// A nexus is gone.
    fn nexus_lost(&self, nexus: NexusId);
    /// The LUN of a number.
    fn lun(&self, number: u16) -> Option<LunIndex>;
    /// Every LUN.
    fn luns(&self) -> Vec<LunIndex>;
    /// Asks for a task to be given up.
    fn abort(&self, lun: LunIndex, nexus: NexusId, tag: TaskTag);
    /// Resets a LUN for the task management function of this tag, which `Sessions::answer` ends.
    fn reset(&self, lun: LunIndex, nexus: NexusId, tag: TaskTag);
    /// Executes a command; with `None` its outcome comes, or came, by `Sessions::answer`.
    fn execute(&self, request: Request) -> Option<Outcome>;
    /// How many bytes of data-out a CDB takes.
    fn data_out_bytes(&self) -> fn(&[u8; 16]) -> u64;
    /// In which format sense data goes to hosts.
    fn sense_formats(&self) -> SenseFormats;
}

impl<W: World> Backend for Controller<W> {
    fn now(&self) -> Time {
        self.world().now()
    }

    fn serving(&self) -> bool {
        Self::serving(self)
    }

    fn nexus_added(&self, nexus: NexusId, initiator: &Initiator) {
        Self::nexus_added(self, nexus, initiator);
    }

    fn nexus_lost(&self, nexus: NexusId) {
        Self::nexus_lost(self, nexus);
    }

    fn lun(&self, number: u16) -> Option<LunIndex> {
        Self::lun(self, u64::from(number))
    }

    fn abort(&self, lun: LunIndex, nexus: NexusId, tag: TaskTag) {
        Self::abort(self, lun, nexus, tag);
    }

    fn luns(&self) -> Vec<LunIndex> {
        self.lun_numbers().into_iter().filter_map(|number| Self::lun(self, u64::from(number))).collect()
    }

    fn reset(&self, lun: LunIndex, nexus: NexusId, tag: TaskTag) {
        Self::reset(self, lun, nexus, tag);
    }

    fn execute(&self, request: Request) -> Option<Outcome> {
        device_server::execute(self, request)
    }

    fn data_out_bytes(&self) -> fn(&[u8; 16]) -> u64 {
        device_server::data_out_bytes
    }

    fn sense_formats(&self) -> SenseFormats {
        Self::sense_formats(self)
    }
}
