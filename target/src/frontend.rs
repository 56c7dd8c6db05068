//! The front end of one controller: what its connections share, and each of them with the controller behind it.

use std::sync::Arc;

use bytes::BytesMut;
use controller::time::Time;
use controller::unit::Controller;
use controller::world::World;

use crate::iscsi::connection::Connection;
use crate::iscsi::directory::FrontendConfig;
use crate::iscsi::sessions::Sessions;
use crate::transport::{Closed, Transport};

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
    pub fn connect(&self, transport: Arc<dyn Transport>) -> HostConnection<W> {
        HostConnection::new(self, transport)
    }
}

/// One iSCSI connection to this controller. Owned by one task; answers go out from any thread.
pub struct HostConnection<W: World> {
    controller: Arc<Controller<W>>,
    connection: Connection,
}

impl<W: World> HostConnection<W> {
    pub(crate) fn new(frontend: &Frontend<W>, transport: Arc<dyn Transport>) -> Self {
        let now = frontend.controller.world().now();
        let connection = Connection::new(transport, frontend.sessions.clone(), frontend.config.clone(), now);
        Self { controller: frontend.controller.clone(), connection }
    }

    /// Takes every whole PDU out of `input`, executes them, and writes their answers together. The beginning of
    /// a PDU stays in `input`, which then has room for the rest of it.
    pub fn receive(&mut self, input: &mut BytesMut) -> Result<(), Closed> {
        self.connection.receive(input, &*self.controller)
    }

    /// False while nothing should be read: the host does not read what it is sent. True again at the latest
    /// after the next [`HostConnection::on_writable`] that finds room.
    #[must_use]
    pub const fn wants_input(&self) -> bool {
        self.connection.wants_input()
    }

    /// What [`Transport::want_writable`] asked for.
    pub fn on_writable(&mut self) -> Result<(), Closed> {
        self.connection.on_writable(&*self.controller)
    }

    /// Time has passed: at least once a second.
    pub fn on_tick(&mut self, now: Time) -> Result<(), Closed> {
        self.connection.on_tick(now)
    }

    /// The socket is gone; the session ends with it.
    pub fn closed(&mut self) {
        self.connection.closed(&*self.controller);
    }
}
