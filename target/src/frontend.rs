//! The front end of one controller: what its connections share.

use std::sync::Arc;

use controller::unit::Controller;
use controller::world::World;

use crate::connection::{Connection, Transport};
use crate::session::access::Access;
use crate::sessions::Sessions;

/// One group of portals, as SendTargets lists it: the portals of one controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortalGroup {
    /// Target portal group tag: 1 for the first controller, 2 for the second.
    pub tag: u16,
    /// Addresses with ports, for instance `127.0.0.1:3260` or `[::1]:3260`.
    pub addresses: Vec<String>,
}

/// What the front end is told at its start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrontendConfig {
    /// The iSCSI target name, the same on both controllers.
    pub iqn: String,
    /// The portals of both controllers; SendTargets on either lists all of them.
    pub portal_groups: Vec<PortalGroup>,
    /// The tag of this controller's own group.
    pub own_group: u16,
    /// Who may log in.
    pub access: Access,
}

/// The front end of one controller.
pub struct Frontend<W: World> {
    /// As configured.
    pub config: Arc<FrontendConfig>,
    /// The controller behind it.
    pub controller: Arc<Controller<W>>,
    /// Its sessions.
    pub sessions: Arc<Sessions>,
}

impl<W: World> Frontend<W> {
    /// A front end for a controller whose world answers through `sessions`.
    pub fn new(config: FrontendConfig, controller: Arc<Controller<W>>, sessions: Arc<Sessions>) -> Self {
        Self { config: Arc::new(config), controller, sessions }
    }

    /// A connection was accepted.
    pub fn connect(&self, transport: Arc<dyn Transport>) -> Connection<W> {
        Connection::new(self, transport)
    }
}
