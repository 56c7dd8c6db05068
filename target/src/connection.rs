//! One iSCSI connection without its socket: bytes in, PDUs executed, bytes out through a [`Transport`].

use core::net::SocketAddr;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::BytesMut;
use controller::time::Time;
use controller::unit::Controller;
use controller::world::World;

use crate::frontend::Frontend;
use crate::session::line::Line;

/// The way out of a connection: a non-blocking socket in the product, the simulated network in the tests.
pub trait Transport: Send + Sync + 'static {
    /// Writes what fits, like a non-blocking `writev`; `WouldBlock` if nothing fits.
    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Asks for `Connection::on_writable` to be called: after `WouldBlock` once there is room again, otherwise
    /// soon. From any thread.
    fn want_writable(&self);

    /// The host's address, for people.
    fn host(&self) -> Option<SocketAddr> {
        None
    }

    /// Closes the connection in both directions; its owner then calls `Connection::closed`.
    fn shutdown(&self);

    /// Nothing more will be written; what was written still arrives, and the other side is to close.
    fn finish(&self) {
        self.shutdown();
    }

    /// The portal the connection came in by, where there are several.
    fn portal(&self) -> Option<SocketAddr> {
        None
    }
}

/// The connection is over: its owner calls `Connection::closed` and drops it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the connection is over")]
pub struct Closed;

/// One iSCSI connection. Owned by one task; answers go out from any thread.
pub struct Connection<W: World> {
    controller: Arc<Controller<W>>,
    line: Line,
}

impl<W: World> Connection<W> {
    pub(crate) fn new(frontend: &Frontend<W>, transport: Arc<dyn Transport>) -> Self {
        let now = frontend.controller.world().now();
        let line = Line::new(transport, frontend.sessions.clone(), frontend.config.clone(), now);
        Self { controller: frontend.controller.clone(), line }
    }

    /// Takes every whole PDU out of `input`, executes them, and writes their answers together. The beginning of
    /// a PDU stays in `input`, which then has room for the rest of it.
    pub fn receive(&mut self, input: &mut BytesMut) -> Result<(), Closed> {
        self.line.receive(input, &*self.controller)
    }

    /// False while nothing should be read: the host does not read what it is sent. True again at the latest
    /// after the next [`Connection::on_writable`] that finds room.
    #[must_use]
    pub const fn wants_input(&self) -> bool {
        self.line.wants_input()
    }

    /// What [`Transport::want_writable`] asked for.
    pub fn on_writable(&mut self) -> Result<(), Closed> {
        self.line.on_writable(&*self.controller)
    }

    /// Time has passed: at least once a second.
    pub fn on_tick(&mut self, now: Time) -> Result<(), Closed> {
        self.line.on_tick(now)
    }

    /// The socket is gone; the session ends with it.
    pub fn closed(&mut self) {
        self.line.closed(&*self.controller);
    }
}
