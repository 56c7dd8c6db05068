//! The way out of a connection: what it needs of its socket.

use core::net::SocketAddr;
use std::io::{self, IoSlice};

#[cfg(doc)]
use crate::frontend::HostConnection;

/// The way out of a connection: a non-blocking socket in the product, the simulated network in the tests.
pub trait Transport: Send + Sync + 'static {
    /// Writes what fits, like a non-blocking `writev`; `WouldBlock` if nothing fits.
    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Asks for [`HostConnection::on_writable`] to be called: after `WouldBlock` once there is room again, otherwise
    /// soon. From any thread.
    fn want_writable(&self);

    /// The host's address, for people.
    fn host(&self) -> Option<SocketAddr> {
        None
    }

    /// Closes the connection in both directions; its owner then calls [`HostConnection::closed`].
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

/// The connection is over: its owner calls [`HostConnection::closed`] and drops it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the connection is over")]
pub struct Closed;
