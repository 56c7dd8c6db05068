//! The sockets of the interlink: dialing, accepting, and carrying frames between them and the controller.
//!
//! Each controller dials one bridge per worker; the first controller dials the control connection too, and
//! keeps it on its control thread. What is accepted is read up to its greeting, which tells where it belongs.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use controller::disk::buffers::BufferPool;
use controller::unit::{Controller, LinkKind};
use protocol::interlink::frame::PREFIX_BYTES;
use protocol::interlink::hello::Purpose;
use protocol::interlink::{FrameError, Message, frame_lengths};
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::cork::Batch;
use super::frames::FrameReader;
use super::link::LinkTable;
use super::workers::{ThreadKind, Workers, thread_kind};
use super::world::ProductWorld;
use crate::portal::send_unpaced;

/// A connection that is not made within this time has failed.
const DIAL_WITHIN: Duration = Duration::from_secs(1);

/// The first rest after a failed connection; it doubles up to [`REDIAL_AFTER_MAX`].
const REDIAL_AFTER_MIN: Duration = Duration::from_millis(100);

/// The longest rest after a failed connection.
const REDIAL_AFTER_MAX: Duration = Duration::from_secs(1);

/// An accepted connection greets within this time, or is closed.
const GREETING_WITHIN: Duration = Duration::from_secs(2);

/// Accepted connections that have not greeted yet, at most; more are closed.
pub(crate) const GREETINGS_MAX: usize = 32;

/// Links of one controller at most; more are closed.
pub(crate) const LINKS_MAX: usize = 2 * (controller::plan::BRIDGES_MAX as usize + 1);

/// Data that the peer has not acknowledged for this time ends the connection.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(5);

/// The interlink of one controller.
pub(super) struct Interlink {
    /// The controller it serves.
    pub(super) controller: Arc<Controller<ProductWorld>>,
    /// Its links.
    pub(super) links: Arc<LinkTable>,
    /// Where its bridges run.
    pub(super) workers: Weak<Workers>,
    /// Buffers for payloads.
    pub(super) buffers: BufferPool,
    /// Where the peer listens; tried in turn.
    pub(super) peer: Vec<SocketAddr>,
}

impl Interlink {
    /// Keeps one connection to the peer, for ever.
    pub(super) async fn keep_dialed(self: Arc<Self>, kind: LinkKind) {
        let mut rest = REDIAL_AFTER_MIN;
        for address in self.peer.iter().cycle() {
            let begun = Instant::now();
            match timeout(DIAL_WITHIN, connect(*address)).await {
                Ok(Ok(socket)) => self.run(socket, Some(kind), Bytes::new()).await,
                Ok(Err(error)) => tracing::debug!(%address, %error, "the peer was not reached"),
                Err(_) => tracing::debug!(%address, "the peer was not reached in time"),
            }
            if begun.elapsed() > REDIAL_AFTER_MAX {
                rest = REDIAL_AFTER_MIN;
            }
            sleep(rest).await;
            rest = REDIAL_AFTER_MAX.min(rest * 2);
        }
    }

    /// Accepts connections of the peer, for ever. Runs on the control thread.
    pub(super) async fn accept(self: Arc<Self>, listener: std::net::TcpListener) {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!("the interlink cannot be served: {error}"),
        };
        let greetings = Rc::new(Cell::new(0));
        loop {
            let socket = match listener.accept().await {
                Ok((socket, _)) => socket,
                Err(error) => {
                    // For instance no file descriptor is left: it will not be better at once.
                    tracing::warn!("the interlink cannot accept a connection: {error}");
                    sleep(REDIAL_AFTER_MIN).await;
                    continue;
                }
            };
            if greetings.get() >= GREETINGS_MAX || self.links.count() >= LINKS_MAX {
                tracing::debug!("a connection too many was closed");
                continue;
            }
            greetings.set(greetings.get() + 1);
            let (interlink, greetings) = (Arc::clone(&self), Rc::clone(&greetings));
            tokio::task::spawn_local(async move {
                let greeted = interlink.greet(socket).await;
                greetings.set(greetings.get() - 1);
                if let Some((socket, greeting)) = greeted {
                    interlink.run(socket, None, greeting).await;
                }
            });
        }
    }

    /// Reads the greeting. A bridge goes on to its worker; the control connection comes back.
    async fn greet(self: &Arc<Self>, mut socket: TcpStream) -> Option<(TcpStream, Bytes)> {
        let (greeting, purpose) = match timeout(GREETING_WITHIN, read_greeting(&mut socket)).await {
            Ok(Ok(greeted)) => greeted,
            Ok(Err(error)) => {
                tracing::debug!("a connection did not greet as the peer does: {error}");
                return None;
            }
            Err(_) => {
                tracing::debug!("a connection did not greet in time");
                return None;
            }
        };
        let Purpose::Bridge(number) = purpose else { return Some((socket, greeting)) };
        let workers = self.workers.upgrade()?;
        let socket = socket.into_std().ok()?;
        let interlink = Arc::clone(self);
        workers.spawn(usize::from(number), move || async move {
            match TcpStream::from_std(socket) {
                Ok(socket) => interlink.run(socket, None, greeting).await,
                Err(error) => tracing::warn!("a bridge could not be moved to its worker: {error}"),
            }
        });
        None
    }

    /// Carries frames between a socket and the controller until the connection ends. `received` is what was
    /// read of it already.
    async fn run(&self, socket: TcpStream, kind: Option<LinkKind>, received: Bytes) {
        prepare(&socket);
        let (mut socket, writer) = socket.into_split();
        let link = self.links.add(writer);
        let sender = tokio::task::spawn_local(Arc::clone(&link).keep_sending());
        {
            let _batch = Batch::begin();
            self.controller.on_link_up(link.id, kind);
        }
        if let (Some(LinkKind::Bridge(_)), ThreadKind::Worker(index)) = (kind, thread_kind()) {
            self.links.bridge_up(index, &link);
        }
        let mut reader = FrameReader::new(self.buffers.clone(), &received);
        let why = loop {
            if let Err(error) = self.pass_on(&link.id, &mut reader) {
                break error.to_string();
            }
            match socket.read(reader.space()).await {
                Ok(0) => break "closed".to_owned(),
                Ok(bytes) => reader.received(bytes),
                Err(error) => break error.to_string(),
            }
        };
        tracing::debug!(link = link.id.0, "an interlink connection ended: {why}");
        self.links.remove(&link);
        sender.abort();
        let _batch = Batch::begin();
        self.controller.on_link_down(link.id);
    }

    /// Gives the controller every whole frame that was received, as one batch.
    fn pass_on(&self, link: &controller::world::LinkId, reader: &mut FrameReader) -> Result<(), FrameError> {
        let _batch = Batch::begin();
        while let Some((head, payload)) = reader.next()? {
            self.controller.on_frame(*link, head, payload);
        }
        Ok(())
    }
}

/// Connects to the peer.
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    send_unpaced(SockRef::from(&socket));
    socket.connect(address).await
}

/// Sets what every connection of the interlink needs. Without it the connection works, only worse.
fn prepare(socket: &TcpStream) {
    let socket = SockRef::from(socket);
    let set = [
        socket.set_tcp_nodelay(true),
        socket.set_keepalive(true),
        socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX)),
    ];
    if let Some(error) = set.into_iter().find_map(Result::err) {
        tracing::debug!("an option of an interlink socket could not be set: {error}");
    }
}

/// Why a connection's first frame is not a greeting.
#[derive(Debug, thiserror::Error)]
enum NotGreeted {
    #[error(transparent)]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("its first frame is another message")]
    Other,
}

/// Reads the first frame, which must be a greeting, and tells what the connection is for.
async fn read_greeting(socket: &mut TcpStream) -> Result<(Bytes, Purpose), NotGreeted> {
    let mut head = vec![0; PREFIX_BYTES];
    socket.read_exact(&mut head).await?;
    let prefix = head.first_chunk().ok_or(FrameError::Length)?;
    let lengths = frame_lengths(prefix)?;
    if lengths.payload != 0 {
        return Err(NotGreeted::Other);
    }
    head.resize(lengths.head, 0);
    socket.read_exact(head.get_mut(PREFIX_BYTES..).unwrap_or_default()).await?;
    match Message::decode(&head, &[])? {
        (_, Message::Hello(hello)) => Ok((head.into(), hello.purpose)),
        _ => Err(NotGreeted::Other),
    }
}
