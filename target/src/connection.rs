//! One iSCSI connection without its socket: bytes in, PDUs executed, bytes out through a [`Transport`].

use std::io::{self, IoSlice};

/// The way out of a connection: a non-blocking socket in the product, the simulated network in the tests.
pub trait Transport: Send + Sync + 'static {
    /// Writes what fits, like a non-blocking `writev`; `WouldBlock` if nothing fits.
    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;

    /// After `WouldBlock`: asks for `Connection::on_writable` to be called once there is room again.
    fn want_writable(&self);

    /// Closes the connection in both directions; its owner then calls `Connection::closed`.
    fn shutdown(&self);
}
