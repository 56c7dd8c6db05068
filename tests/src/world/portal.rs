//! The simulated TCP between a host and its controller: bytes in order, in pieces of any size, and now and then
//! no room.

use std::io::{self, IoSlice};
use std::sync::Arc;

use controller::plan::Side;
use parking_lot::Mutex;
use target::transport::Transport;

use super::hub::{Event, Hub};

/// What the socket of a controller holds for its host at most, in bytes.
const SOCKET_BYTES_MAX: usize = 256 * 1024;

/// Both directions of a host's connection.
#[derive(Debug)]
pub(super) struct Wire {
    /// Counts connections, so that what belongs to an old one is told apart.
    pub(super) epoch: u32,
    /// The controller at its other end.
    pub(super) side: Side,
    open: bool,
    to_host: Vec<u8>,
    to_target: Vec<u8>,
    delivering_to_host: bool,
    delivering_to_target: bool,
    /// What has arrived at the controller is not taken yet.
    untaken: bool,
    wants_room: bool,
}

impl Wire {
    pub(super) fn new(epoch: u32, side: Side, open: bool) -> Self {
        Self {
            epoch,
            side,
            open,
            to_host: Vec::new(),
            to_target: Vec::new(),
            delivering_to_host: false,
            delivering_to_target: false,
            untaken: false,
            wants_room: false,
        }
    }
}

impl Hub {
    /// A host connects: the number of the new connection.
    pub(super) fn connect(&mut self, host: usize, side: Side) -> u32 {
        let epoch = self.wires[host].epoch + 1;
        self.wires[host] = Wire::new(epoch, side, true);
        epoch
    }

    /// True for the connection that is open.
    pub(super) fn connected(&self, host: usize, epoch: u32) -> bool {
        self.wires[host].epoch == epoch && self.wires[host].open
    }

    /// The connection is gone.
    pub(super) fn disconnect(&mut self, host: usize) {
        self.wires[host].open = false;
    }

    /// A host sends.
    pub(super) fn send_to_target(&mut self, host: usize, bytes: &[u8]) {
        self.wires[host].to_target.extend_from_slice(bytes);
        self.deliver_to_target(host);
    }

    fn deliver_to_target(&mut self, host: usize) {
        let wire = &mut self.wires[host];
        if wire.delivering_to_target || wire.to_target.is_empty() {
            return;
        }
        wire.delivering_to_target = true;
        let length = piece(&mut self.random, self.wires[host].to_target.len());
        let bytes = self.wires[host].to_target.drain(..length).collect();
        let delay = self.settings.host_latency.draw(&mut self.random);
        self.after(delay, Event::ToTarget(host, self.wires[host].epoch, bytes));
    }

    /// Bytes have arrived at a controller.
    pub(super) fn arrived_at_target(&mut self, host: usize) {
        self.wires[host].untaken = true;
    }

    /// A controller took what had arrived; the next may follow.
    pub(super) fn taken_by_target(&mut self, host: usize) {
        if std::mem::take(&mut self.wires[host].untaken) {
            self.wires[host].delivering_to_target = false;
            self.deliver_to_target(host);
        }
    }

    fn deliver_to_host(&mut self, host: usize) {
        let wire = &mut self.wires[host];
        if wire.delivering_to_host || wire.to_host.is_empty() {
            return;
        }
        wire.delivering_to_host = true;
        let length = piece(&mut self.random, self.wires[host].to_host.len());
        let bytes = self.wires[host].to_host.drain(..length).collect();
        let delay = self.settings.host_latency.draw(&mut self.random);
        self.after(delay, Event::ToHost(host, self.wires[host].epoch, bytes));
    }

    /// Bytes have arrived at a host; the next may follow, and there is room.
    pub(super) fn delivered_to_host(&mut self, host: usize) {
        let wire = &mut self.wires[host];
        wire.delivering_to_host = false;
        if std::mem::take(&mut wire.wants_room) {
            let epoch = wire.epoch;
            let delay = self.settings.action.draw(&mut self.random);
            self.after(delay, Event::Writable(host, epoch));
        }
        self.deliver_to_host(host);
    }
}

/// All that waits, or any part of it.
fn piece(random: &mut crate::random::Random, waiting: usize) -> usize {
    if random.percent(70) { waiting } else { random.skewed(1, waiting as u64) as usize }
}

/// The controller's end of a host's connection.
pub(super) struct Socket {
    pub(super) hub: Arc<Mutex<Hub>>,
    pub(super) host: usize,
    pub(super) epoch: u32,
}

impl Transport for Socket {
    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let hub = &mut *self.hub.lock();
        if !hub.connected(self.host, self.epoch) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let room = SOCKET_BYTES_MAX - hub.wires[self.host].to_host.len();
        let room = if hub.random.percent(10) { piece(&mut hub.random, room.max(1)).min(room) } else { room };
        if room == 0 || hub.random.percent(2) {
            hub.report.blocked += 1;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut left = room.min(total);
        let written = left;
        for piece in pieces {
            let length = left.min(piece.len());
            hub.wires[self.host].to_host.extend_from_slice(&piece[..length]);
            left -= length;
        }
        hub.deliver_to_host(self.host);
        Ok(written)
    }

    fn want_writable(&self) {
        let hub = &mut *self.hub.lock();
        let delay = hub.settings.action.draw(&mut hub.random);
        let full = hub.wires[self.host].to_host.len() >= SOCKET_BYTES_MAX;
        if full {
            hub.wires[self.host].wants_room = true;
        } else {
            hub.after(delay, Event::Writable(self.host, self.epoch));
        }
    }

    fn shutdown(&self) {
        let hub = &mut *self.hub.lock();
        if hub.connected(self.host, self.epoch) {
            let delay = hub.settings.host_latency.longest;
            hub.after(delay, Event::Closed(self.host, self.epoch));
        }
    }
}
