//! The one loop: lock, handle, take the actions, unlock, perform them. Generic over its [`World`].

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;

use crate::command::{Admission, Command, LunIndex, NexusId, Outcome, TaskTag};
use crate::disk::{DiskError, DiskResult};
use crate::plan::Plan;
use crate::status::{ControllerStatus, PairStatus, Role};
use crate::volume::superblock::VolumeFound;
use crate::world::{LinkId, Ticket, World};

/// [`Controller::on_tick`] comes at least this often.
pub const TICK: Duration = Duration::from_millis(50);

/// What the controller finds when it starts.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// The records of the state store, by key.
    pub records: BTreeMap<String, Vec<u8>>,
    /// The volume of every LUN of the plan, in its order.
    pub volumes: Vec<VolumeFound>,
}

/// What kind of connection of the interlink a link is, told to the one who dials and learned by the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkKind {
    /// The control connection; dialed by the first controller only.
    Control,
    /// A bridge of the given number; each controller dials its own.
    Bridge(u16),
}

/// What the device server must know of a LUN to describe it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LunView {
    /// The number hosts use.
    pub number: u16,
    /// Capacity in logical blocks.
    pub blocks: u64,
    /// NAA identifier, type 3 (locally assigned), the same on both controllers.
    pub naa: u64,
    /// Unit serial number, the same on both controllers.
    pub serial: String,
    /// This controller's role.
    pub role: Role,
    /// The pair.
    pub status: PairStatus,
    /// Whether this controller can serve the LUN now.
    pub serving: bool,
    /// Write cache on.
    pub write_cache: bool,
    /// No host may write.
    pub read_only: bool,
    /// Which controller this is: relative target port and target port group are this index + 1.
    pub controller_index: usize,
    /// Whether the peer can serve the LUN, as far as known.
    pub peer_serving: bool,
}

/// One storage control unit.
pub struct Controller<W: World> {
    world: W,
}

impl<W: World> Controller<W> {
    /// A controller at its start. Nothing is served before its peer was met, unless the plan says so.
    pub fn new(world: W, plan: Plan, restored: Restored) -> Self {
        let _ = (plan, restored);
        Self { world }
    }

    /// The world it lives in.
    pub fn world(&self) -> &W {
        &self.world
    }

    /// The one door. The outcome comes through [`World::answer`], perhaps before this returns.
    pub fn command(&self, command: Command) {
        self.world.answer(command.nexus, command.tag, Outcome::Aborted);
    }

    /// Asks for a task to be given up. One that was not admitted ends with [`Outcome::Aborted`]; one that was
    /// ends as it would have; one that is not known here has ended already. Only its outcome says it is over.
    pub fn abort(&self, lun: LunIndex, nexus: NexusId, tag: TaskTag) {
        let _ = (lun, nexus, tag);
    }

    /// A new I_T nexus: every LUN owes it the unit attention POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
    pub fn nexus_added(&self, nexus: NexusId) {
        let _ = nexus;
    }

    /// An I_T nexus is gone. What was not admitted is never executed; the rest runs to its end unanswered.
    pub fn nexus_lost(&self, nexus: NexusId) {
        let _ = nexus;
    }

    /// The LUN of that number, if there is one.
    pub fn lun(&self, number: u64) -> Option<LunIndex> {
        let _ = number;
        None
    }

    /// The numbers of all LUNs that exist, ascending (REPORT LUNS).
    pub fn lun_numbers(&self) -> Vec<u16> {
        Vec::new()
    }

    /// Asks for leave to answer a command that only describes the LUN, and for what to say. An `Err` is the
    /// command's outcome: a unit attention, not ready.
    pub fn admit(&self, lun: LunIndex, nexus: NexusId, admission: Admission) -> Result<LunView, Outcome> {
        let _ = (lun, nexus, admission);
        Err(Outcome::Aborted)
    }

    /// False until the appliance's identity exists: logins are answered with status 0301h (RFC 7143 11.13.5).
    pub fn serving(&self) -> bool {
        false
    }

    /// What this controller says of itself.
    pub fn status(&self) -> ControllerStatus {
        unimplemented_status()
    }

    /// Begins a clean end: new commands are refused, those in flight finish, everything is flushed and the
    /// clean mark is made durable; then [`Controller::stopped`] turns true.
    pub fn stop(&self) {}

    /// True when a clean end is complete.
    pub fn stopped(&self) -> bool {
        true
    }

    /// A connection of the interlink is open. The one who dialed tells its kind; the one who accepted passes
    /// `None` and learns it from the first frame.
    pub fn on_link_up(&self, link: LinkId, dialed: Option<LinkKind>) {
        let _ = (link, dialed);
    }

    /// Bytes of a whole frame came in on a link: `head` is prefix and body, `payload` the data.
    pub fn on_frame(&self, link: LinkId, head: Bytes, payload: Bytes) {
        let _ = (link, head, payload);
    }

    /// A connection of the interlink is gone.
    pub fn on_link_down(&self, link: LinkId) {
        let _ = link;
    }

    /// Disk I/O that [`World::submit`] did not finish at once is complete.
    pub fn on_disk(&self, ticket: Ticket, result: DiskResult) {
        let _ = (ticket, result);
    }

    /// A record is durable.
    pub fn on_persisted(&self, ticket: Ticket) {
        let _ = ticket;
    }

    /// A volume asked for by [`World::create_volume`] exists, open and durable, or could not be made.
    pub fn on_volume(&self, ticket: Ticket, result: Result<(), DiskError>) {
        let _ = (ticket, result);
    }

    /// Time has passed: at least every [`TICK`].
    pub fn on_tick(&self) {}
}

fn unimplemented_status() -> ControllerStatus {
    ControllerStatus {
        controller: String::new(),
        peer: String::new(),
        appliance: None,
        incarnation: String::new(),
        interlink: crate::status::InterlinkStatus { up: false, bridges: 0, reason: None },
        luns: Vec::new(),
    }
}
