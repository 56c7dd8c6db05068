//! A controller with its front end, as a process of the product has them.

use std::sync::Arc;

use controller::appliance::Restored;
use controller::plan::{Plan, Side};
use controller::unit::Controller;
use controller::volume::superblock::VolumeFound;
use parking_lot::Mutex;
use target::frontend::Frontend;
use target::iscsi::directory::{FrontendConfig, PortalGroup};
use target::iscsi::sessions::Sessions;

use super::hub::Hub;
use super::side::SimWorld;
use super::{settings, volume};

/// A controller with its front end and its sessions.
pub(super) struct Unit {
    pub(super) controller: Arc<Controller<SimWorld>>,
    pub(super) frontend: Frontend<SimWorld>,
    pub(super) sessions: Arc<Sessions>,
}

/// Starts one on what its disks and its state folder hold.
pub(super) fn unit(plan: Plan, hub: &Arc<Mutex<Hub>>, side: Side) -> Unit {
    let (life, restored) = {
        let hub = &mut *hub.lock();
        // As the product does before anyone asks what was found.
        hub.recover_volumes(side);
        let found = |volume: &volume::Volume| match volume.superblock {
            Some(superblock) => VolumeFound::Open(superblock),
            None if volume.blank => VolumeFound::Blank,
            None => VolumeFound::Missing,
        };
        let records = &hub.records[side.index()];
        let restored = Restored {
            records: records.iter().map(|(key, record)| ((*key).to_owned(), record.clone())).collect(),
            unusable: None,
            volumes: hub.disks[side.index()].volumes.iter().map(found).collect(),
        };
        (hub.processes[side.index()].life, restored)
    };
    let world = SimWorld { hub: hub.clone(), side, life };
    let controller = Arc::new(Controller::new(world, plan, restored));
    let sessions = Arc::new(Sessions::default());
    let group = |tag: u16| PortalGroup { tag, addresses: vec![format!("192.0.2.{tag}:3260")] };
    let config = FrontendConfig {
        iqn: settings::IQN.to_owned(),
        portal_groups: vec![group(1), group(2)],
        own_group: side.index() as u16 + 1,
        access: Default::default(),
    };
    let frontend = Frontend::new(config, controller.clone(), sessions.clone());
    Unit { controller, frontend, sessions }
}
