//! The sockets of the interlink: dialing, accepting, and carrying frames between them and the controller.
//!
//! Each controller dials one bridge per worker; the first controller dials the control connection too, and
//! keeps it on its control thread. What is accepted is read up to its greeting, which tells where it belongs. Where
//! the interlink is encrypted, the handshake comes before all of this.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use controller::appliance::LinkRefusal;
use controller::disk::buffers::BufferPool;
use controller::unit::{Controller, LinkKind};
use protocol::interlink::frame::PREFIX_BYTES;
use protocol::interlink::hello::Purpose;
use protocol::interlink::{FrameError, Message, frame_lengths};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::cork::Batch;
use super::frames::FrameReader;
use super::link::LinkTable;
use super::tls::handshake::{self, Broken, Opener, part_from_tls};
use super::tls::pinned::Keys;
use super::troubles::Troubles;
use super::workers::{ThreadKind, Workers, thread_kind};
use super::world::ProductWorld;
use crate::portal::send_unpaced;

/// A connection that is not made within this time has failed.
const DIAL_WITHIN: Duration = Duration::from_secs(1);

/// The first rest after a failed connection; it doubles up to [`REDIAL_AFTER_MAX`].
const REDIAL_AFTER_MIN: Duration = Duration::from_millis(100);

/// The longest rest after a failed connection.
const REDIAL_AFTER_MAX: Duration = Duration::from_secs(1);

/// An accepted connection greets within this time, handshake included, or is closed; a dialed one has as long for its
/// handshake.
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
    /// None: it is plain.
    pub(super) keys: Option<Keys>,
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
                Ok(Ok(socket)) => self.dialed(socket, kind).await,
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

    async fn dialed(&self, mut socket: TcpStream, kind: LinkKind) {
        prepare(&socket);
        let Some(keys) = &self.keys else {
            return self.run(Stream { socket, opener: None }, Some(kind), Bytes::new()).await;
        };
        match timeout(GREETING_WITHIN, handshake::dial(keys, &mut socket)).await {
            Ok(Ok(opener)) => {
                self.run(Stream { socket, opener: Some(opener) }, Some(kind), Bytes::new()).await
            }
            Ok(Err(broken)) => self.refuse(&broken),
            Err(_) => tracing::debug!("the peer did not shake hands in time"),
        }
    }

    /// Tells the controller why a connection came to nothing, if people should hear of it.
    fn refuse(&self, broken: &Broken) {
        tracing::debug!("a connection of the interlink came to nothing: {broken}");
        if let Some(refusal) = broken.refusal() {
            self.controller.on_link_refused(refusal);
        }
    }

    /// Accepts connections of the peer, for ever. Runs on the control thread.
    pub(super) async fn accept(self: Arc<Self>, listener: std::net::TcpListener) {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!("the interlink cannot be served: {error}"),
        };
        let greetings = Rc::new(Cell::new(0));
        let troubles = Troubles::of("the interlink");
        loop {
            let socket = match listener.accept().await {
                Ok((socket, _)) => socket,
                Err(error) => {
                    // For instance no file descriptor is left: it will not be better at once.
                    troubles.tell(&error, &self.controller.world().troubles);
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
                if let Some((stream, greeting)) = greeted {
                    interlink.run(stream, None, greeting).await;
                }
            });
        }
    }

    /// Reads the greeting. A bridge goes on to its worker; the control connection comes back.
    async fn greet(self: &Arc<Self>, socket: TcpStream) -> Option<(Stream, Bytes)> {
        prepare(&socket);
        let mut stream = Stream { socket, opener: None };
        let (greeting, purpose) = match timeout(GREETING_WITHIN, self.greeted(&mut stream)).await {
            Ok(Ok(greeted)) => greeted,
            Ok(Err(NotGreeted::Broken(broken))) => {
                self.refuse(&broken);
                return None;
            }
            Ok(Err(error)) => {
                tracing::debug!("a connection did not greet as the peer does: {error}");
                if matches!(error, NotGreeted::Encrypted) {
                    self.controller.on_link_refused(LinkRefusal::OtherIsEncrypted);
                    part_from_tls(&mut stream.socket).await;
                }
                return None;
            }
            Err(_) => {
                tracing::debug!("a connection did not greet in time");
                return None;
            }
        };
        let Purpose::Bridge(number) = purpose else { return Some((stream, greeting)) };
        let workers = self.workers.upgrade()?;
        let Stream { socket, opener } = stream;
        let socket = socket.into_std().ok()?;
        let interlink = Arc::clone(self);
        workers.spawn(usize::from(number), move || async move {
            match TcpStream::from_std(socket) {
                Ok(socket) => interlink.run(Stream { socket, opener }, None, greeting).await,
                Err(error) => tracing::warn!("a bridge could not be moved to its worker: {error}"),
            }
        });
        None
    }

    /// The handshake of an accepted connection, and its first frame.
    async fn greeted(&self, stream: &mut Stream) -> Result<(Bytes, Purpose), NotGreeted> {
        if let Some(keys) = &self.keys {
            stream.opener = Some(handshake::accept(keys, &mut stream.socket).await?);
        }
        read_greeting(stream).await
    }

    /// Carries frames between a socket and the controller until the connection ends. `received` is what was
    /// read of it already.
    async fn run(&self, stream: Stream, kind: Option<LinkKind>, received: Bytes) {
        let Stream { socket, mut opener } = stream;
        let (mut socket, writer) = socket.into_split();
        let link = self.links.add(writer, opener.as_ref().map(Opener::tls));
        let sender = tokio::task::spawn_local(Arc::clone(&link).keep_sending());
        {
            let _batch = Batch::begin();
            self.controller.on_link_up(link.id, kind);
        }
        if let (Some(LinkKind::Bridge(_)), ThreadKind::Worker(index)) = (kind, thread_kind()) {
            self.links.bridge_up(index, &link);
        }
        let mut reader = FrameReader::new(self.buffers.clone(), &received);
        let mut unheard = kind.is_some();
        let why = loop {
            if let Err(error) = self.pass_on(&link.id, &mut reader) {
                break error.to_string();
            }
            let space = reader.space();
            match handshake::read(&mut socket, &mut opener, space).await {
                Ok(0) => break "closed".to_owned(),
                Ok(bytes) => {
                    if std::mem::take(&mut unheard) && handshake::is_tls(space) {
                        self.controller.on_link_refused(LinkRefusal::OtherIsEncrypted);
                        break "the other end encrypts".to_owned();
                    }
                    reader.received(bytes);
                }
                Err(broken) => {
                    self.refuse(&broken);
                    break broken.to_string();
                }
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

/// A connection, with what opens its records if it is encrypted.
struct Stream {
    socket: TcpStream,
    opener: Option<Opener>,
}

impl Stream {
    /// Fills all of `space`.
    async fn read_exact(&mut self, space: &mut [u8]) -> Result<(), Broken> {
        let mut filled = 0;
        while let Some(rest) = space.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match handshake::read(&mut self.socket, &mut self.opener, rest).await? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                bytes => filled += bytes,
            }
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
    Broken(#[from] Broken),
    #[error("it encrypts")]
    Encrypted,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("its first frame is another message")]
    Other,
}

/// Reads the first frame, which must be a greeting, and tells what the connection is for.
async fn read_greeting(stream: &mut Stream) -> Result<(Bytes, Purpose), NotGreeted> {
    let mut head = vec![0; PREFIX_BYTES];
    stream.read_exact(&mut head).await?;
    if stream.opener.is_none() && handshake::is_tls(&head) {
        return Err(NotGreeted::Encrypted);
    }
    let prefix = head.first_chunk().ok_or(FrameError::Length)?;
    let lengths = frame_lengths(prefix)?;
    if lengths.payload != 0 {
        return Err(NotGreeted::Other);
    }
    head.resize(lengths.head, 0);
    stream.read_exact(head.get_mut(PREFIX_BYTES..).unwrap_or_default()).await?;
    match Message::decode(&head, &[])? {
        (_, Message::Hello(hello)) => Ok((head.into(), hello.purpose)),
        _ => Err(NotGreeted::Other),
    }
}
