//! Portals: listening sockets that hand connections to workers, and the task that drives one connection.

use core::cell::RefCell;
use core::future::{Future, poll_fn};
use core::net::SocketAddr;
use core::pin::pin;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use controller::world::World;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};

use crate::frontend::{Frontend, HostConnection};
use crate::iscsi::sessions::Sessions;
use crate::transport::{Closed, Transport};

/// What one read takes at most, in bytes.
const INPUT_BYTES: usize = 256 * 1024;

/// Room that is left in the input before more is made, in bytes.
const INPUT_ROOM_BYTES: usize = 64 * 1024;

thread_local! {
    /// Where connections without a PDU under way read to, one after the other: those that are idle hold no memory
    /// for input.
    static INPUT: RefCell<BytesMut> = RefCell::default();
}

/// So much input of one connection is taken before the others of its worker come, in bytes: a host that sends faster
/// than its worker reads would keep them waiting for as long as it likes.
const INPUT_AT_A_TIME_BYTES: usize = INPUT_BYTES;

/// Connections waiting to be accepted at most.
const BACKLOG: i32 = 1024;

/// Connections of one controller at most: in their login, with a session, or saying farewell.
pub const CONNECTIONS_MAX: usize = 2048;

/// How often a connection looks at the clock.
const TICK: Duration = Duration::from_secs(1);

/// TCP keepalive: first probe after, then every, seconds.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Opens a portal.
pub fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // Each portal is its own: [::]:3260 does not take 0.0.0.0:3260 away.
        socket.set_only_v6(true)?;
    }
    send_unpaced(SockRef::from(&socket));
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Sees to it that what is sent leaves at once, on a socket that is not connected yet; what it accepts is like it.
///
/// Where BBR is the system's choice of congestion control, it would pace every connection by timers: one for
/// each segment or so, on the way of answers that go over a short path and come in bursts. Any other choice stands.
pub(crate) fn send_unpaced(socket: SockRef<'_>) {
    if !socket.tcp_congestion().is_ok_and(|control| control.starts_with(b"bbr")) {
        return;
    }
    // Who is not root may choose only from a list, on which at least Reno stands.
    let set = socket.set_tcp_congestion(b"cubic").or_else(|_| socket.set_tcp_congestion(b"reno"));
    if let Err(error) = set {
        tracing::debug!("a socket keeps BBR: {error}");
    }
}

/// A TCP connection, to write to.
#[derive(Debug)]
struct TcpTransport {
    half: OwnedWriteHalf,
    writable: Notify,
}

impl Transport for TcpTransport {
    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.half.try_write_vectored(pieces)
    }

    fn want_writable(&self) {
        self.writable.notify_one();
    }

    fn host(&self) -> Option<SocketAddr> {
        self.half.peer_addr().ok()
    }

    fn shutdown(&self) {
        // It fails only where the connection is gone already.
        let _ = SockRef::from(self.half.as_ref()).shutdown(std::net::Shutdown::Both);
    }

    fn finish(&self) {
        // As above.
        let _ = SockRef::from(self.half.as_ref()).shutdown(std::net::Shutdown::Write);
    }

    fn portal(&self) -> Option<SocketAddr> {
        self.half.local_addr().ok()
    }
}

/// Serves one connection until it ends.
pub async fn serve_connection<W: World>(frontend: Arc<Frontend<W>>, socket: TcpStream) {
    let Some(_place) = Place::take(&frontend.sessions) else {
        let now = frontend.controller.world().now();
        frontend.sessions.connection_refused(now);
        if let Some(unsaid) = frontend.sessions.said("connections", "", now) {
            let most = frontend.sessions.connections_most();
            tracing::warn!("a connection is refused: {most} are open already{unsaid}");
        }
        return;
    };
    if let Err(error) = prepare(&socket) {
        tracing::debug!(%error, "a connection ended before it began");
        return;
    }
    let (reader, half) = socket.into_split();
    let transport = Arc::new(TcpTransport { half, writable: Notify::new() });
    let mut connection = frontend.connect(transport.clone());
    let ended = drive(&frontend, &mut connection, reader, &transport).await;
    tracing::debug!(?ended, "a connection ended");
    connection.closed();
}

/// One of [`CONNECTIONS_MAX`].
struct Place<'a>(&'a Sessions);

impl<'a> Place<'a> {
    fn take(sessions: &'a Sessions) -> Option<Self> {
        let open = sessions.connections.fetch_add(1, Ordering::Relaxed);
        let place = Self(sessions);
        let most = sessions.connections_most();
        sessions.connections_peak.fetch_max((open + 1).min(most), Ordering::Relaxed);
        (open < most).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(3);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

/// Why a connection's task ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Closed(#[from] Closed),
    #[error("the connection failed")]
    Io(#[from] io::Error),
}

async fn drive<W: World>(
    frontend: &Frontend<W>,
    connection: &mut HostConnection<W>,
    mut reader: OwnedReadHalf,
    transport: &TcpTransport,
) -> Result<(), Ended> {
    let mut input = BytesMut::new();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut blocked = false;
    let mut taken = 0;
    loop {
        if taken >= INPUT_AT_A_TIME_BYTES {
            taken = 0;
            yield_now().await;
        }
        tokio::select! {
            // Output first: a host that keeps sending must not keep its answers from leaving.
            biased;
            () = transport.writable.notified(), if !blocked => blocked = true,
            writable = transport.half.writable(), if blocked => {
                writable?;
                blocked = false;
                connection.on_writable()?;
                // Whatever it is called for, and however soon again: others of this worker come first.
                yield_now().await;
            }
            read = read(&mut reader, &mut input), if connection.wants_input() => {
                let bytes = read?;
                if bytes == 0 {
                    return Ok(());
                }
                taken += bytes;
                connection.receive(&mut input)?;
                if input.is_empty() {
                    input = BytesMut::new();
                }
            }
            _ = ticks.tick() => connection.on_tick(frontend.controller.world().now())?,
        }
    }
}

/// Reads once. Behind the beginning of a PDU there is room for the rest of it; otherwise the thread's buffer is used
/// and what came is cut off it.
async fn read(reader: &mut OwnedReadHalf, input: &mut BytesMut) -> io::Result<usize> {
    poll_fn(|context| {
        if !input.is_empty() {
            if input.capacity() == input.len() {
                input.reserve(INPUT_ROOM_BYTES);
            }
            return pin!(reader.read_buf(input)).poll(context);
        }
        INPUT.with_borrow_mut(|shared| {
            if shared.capacity() < INPUT_ROOM_BYTES {
                shared.reserve(INPUT_BYTES);
            }
            let read = pin!(reader.read_buf(shared)).poll(context);
            // A connection that waits holds no part of the buffer, or it could never be used again.
            if read.is_ready() {
                *input = shared.split();
            }
            read
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portal_on_every_address_of_one_family_leaves_the_port_to_the_other() {
        let first = listen("[::]:0".parse().unwrap()).unwrap();
        let port = first.local_addr().unwrap().port();
        let second = listen(SocketAddr::from(([0, 0, 0, 0], port))).unwrap();
        assert_eq!(second.local_addr().unwrap().port(), port);
    }
}
