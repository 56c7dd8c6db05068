//! The sockets of the interlink: dialing, accepting, and carrying frames between them and the controller.
//!
//! Each controller dials one bridge per worker; the first controller dials the control connection too, and
//! keeps it on its control thread. What is accepted is read up to its greeting, which tells where it belongs. Before
//! all of this each end shows the other that it is the peer: by the handshake where the interlink is encrypted, by
//! the proof where it is not. Until then the controller knows nothing of the connection, and its other end nothing of
//! the controller.

pub(crate) mod entrance;
mod frames;
pub(crate) mod link;
mod proof;
pub mod secret;
pub mod tls;

/// Bounds that [`crate::admin::limits`] shows.
pub(crate) mod limits {
    pub(crate) use super::LINKS_MAX;
    pub(crate) use super::entrance::UNPROVEN_MAX;
    pub(crate) use super::link::LINK_QUEUE_BYTES_MAX;
    pub(crate) use super::tls::handshake::HANDSHAKE_BYTES_MAX;
    pub(crate) use super::tls::records::SEALED_AT_ONCE_BYTES_MAX;
}

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use controller::appliance::LinkRefusal;
use controller::disk::buffers::BufferPool;
use controller::link::LinkKind;
use controller::log_limit::TimedLogLimiter;
use controller::plan::Side;
use controller::unit::Controller;
use protocol::interlink::frame::PREFIX_BYTES;
use protocol::interlink::hello::Purpose;
use protocol::interlink::{FrameError, Message, frame_lengths};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

use self::entrance::{Entrance, Place};
use self::frames::FrameReader;
use self::link::LinkTable;
use self::proof::NotProven;
use self::secret::Secret;
use self::tls::handshake::{self, Broken, Opener, part_from_tls};
use self::tls::pinned::Keys;
use crate::batch::Batch;
use crate::portal::send_unpaced;
use crate::runtime::accept_errors::Troubles;
use crate::runtime::workers::{ThreadKind, Workers, thread_kind};
use crate::runtime::world::ProductWorld;

/// A connection that is not made within this time has failed.
const DIAL_WITHIN: Duration = Duration::from_secs(1);

/// The first rest after a failed connection; it doubles up to [`REDIAL_AFTER_MAX`].
const REDIAL_AFTER_MIN: Duration = Duration::from_millis(100);

/// The longest rest after a failed connection.
const REDIAL_AFTER_MAX: Duration = Duration::from_secs(1);

/// An accepted connection greets within this time, handshake or proof included, or is closed; a dialed one has as long
/// for its handshake or proof.
const GREETING_WITHIN: Duration = Duration::from_secs(2);

/// Links of one controller at most; more are closed.
pub(crate) const LINKS_MAX: usize = 2 * (controller::plan::BRIDGES_MAX as usize + 1);

/// Data that the peer has not acknowledged for this time ends the connection.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(5);

/// The interlink of one controller.
pub(crate) struct Interlink {
    /// The controller it serves.
    pub(crate) controller: Arc<Controller<ProductWorld>>,
    /// Its links.
    pub(crate) links: Arc<LinkTable>,
    /// Where its bridges run.
    pub(crate) workers: Weak<Workers>,
    /// Buffers for payloads.
    pub(crate) buffers: BufferPool,
    /// How the peer is known.
    pub(crate) known_by: KnownBy,
    /// Which controller it serves.
    pub(crate) side: Side,
    /// Where the peer listens; tried in turn.
    pub(crate) peer: Vec<SocketAddr>,
    /// Where accepted connections stand until they have greeted.
    pub(crate) entrance: Entrance,
    /// What was said of those that did not come in.
    pub(crate) strangers: TimedLogLimiter,
}

/// How the two ends of a connection show each other who they are.
pub(crate) enum KnownBy {
    /// By their certificates: the interlink is encrypted.
    Certificate(Keys),
    /// By a secret: it is not.
    Secret(Secret),
}

impl Interlink {
    /// Keeps one connection to the peer, for ever.
    pub(crate) async fn keep_dialed(self: Arc<Self>, kind: LinkKind) {
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
        let opener = match timeout(GREETING_WITHIN, self.dialed_peer(&mut socket)).await {
            Ok(Ok(opener)) => opener,
            Ok(Err(stranger)) => return self.refuse(&stranger),
            Err(_) => {
                tracing::debug!("the peer did not show in time who it is");
                return self.controller.on_link_refused(LinkRefusal::Mute);
            }
        };
        self.run(Stream { socket, opener }, Some(kind), Bytes::new()).await;
    }

    /// Shows the end that was dialed who this is, and makes sure that it is the peer.
    async fn dialed_peer(&self, socket: &mut TcpStream) -> Result<Option<Opener>, Stranger> {
        match &self.known_by {
            KnownBy::Certificate(keys) => Ok(Some(handshake::dial(keys, socket).await?)),
            KnownBy::Secret(secret) => {
                proof::dial(secret, self.side, socket).await?;
                Ok(None)
            }
        }
    }

    /// Tells the controller why a connection came to nothing, if people should hear of it.
    fn refuse(&self, stranger: &Stranger) {
        tracing::debug!("a connection of the interlink came to nothing: {stranger}");
        if let Some(refusal) = stranger.refusal() {
            self.controller.on_link_refused(refusal);
        }
    }

    /// The same of a connection that was accepted. What comes from elsewhere than the peer's addresses is nobody's word
    /// for the peer: it is only logged.
    fn turn_away(&self, from: IpAddr, stranger: &Stranger) {
        if self.peer.iter().any(|peer| peer.ip().to_canonical() == from) {
            self.refuse(stranger);
        }
        if !stranger.is_an_end()
            && let Some(unsaid) = self.strangers.happens("interlink", &from.to_string())
        {
            tracing::warn!(
                "a connection to the interlink from {from} is not the other controller's: {stranger}; it was closed \
                 and told nothing{unsaid}"
            );
        }
    }

    /// Accepts connections of the peer, for ever. Runs on the control thread.
    pub(crate) async fn accept(self: Arc<Self>, listener: std::net::TcpListener) {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!("the interlink cannot be served: {error}"),
        };
        let troubles = Troubles::of("the interlink");
        loop {
            let (socket, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // For instance no file descriptor is left: it will not be better at once.
                    troubles.tell(&error, &self.controller.world().troubles);
                    sleep(REDIAL_AFTER_MIN).await;
                    continue;
                }
            };
            if self.links.count() >= LINKS_MAX {
                tracing::debug!("a connection too many was closed");
                continue;
            }
            let from = from.ip().to_canonical();
            let (interlink, place) = (Arc::clone(&self), self.entrance.enter(from));
            tokio::spawn(async move {
                if let Some((stream, greeting)) = interlink.greet(socket, from, place).await {
                    interlink.run(stream, None, greeting).await;
                }
            });
            // Those who stand there go on before the next one may take the place of one of them.
            yield_now().await;
        }
    }

    /// Waits until a connection has shown who it is and greeted. A bridge goes on to its worker; the control
    /// connection comes back.
    async fn greet(
        self: &Arc<Self>,
        socket: TcpStream,
        from: IpAddr,
        mut place: Place,
    ) -> Option<(Stream, Bytes)> {
        prepare(&socket);
        let mut stream = Stream { socket, opener: None };
        let greeted = tokio::select! {
            greeted = timeout(GREETING_WITHIN, self.greeted(&mut stream)) => greeted,
            () = place.lost() => Ok(Err(Stranger::Crowded)),
        };
        let (greeting, purpose) = match greeted.unwrap_or(Err(Stranger::Silent)) {
            Ok(greeted) => greeted,
            Err(stranger) => {
                self.turn_away(from, &stranger);
                if matches!(stranger, Stranger::NotProven(NotProven::Encrypted)) {
                    // It has its place until it is closed.
                    tokio::select! {
                        () = part_from_tls(&mut stream.socket) => {}
                        () = place.lost() => {}
                    }
                }
                return None;
            }
        };
        drop(place);
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

    /// How an accepted connection shows who it is, and its first frame.
    async fn greeted(&self, stream: &mut Stream) -> Result<(Bytes, Purpose), Stranger> {
        match &self.known_by {
            KnownBy::Certificate(keys) => {
                stream.opener = Some(handshake::accept(keys, &mut stream.socket).await?);
            }
            KnownBy::Secret(secret) => proof::accept(secret, self.side, &mut stream.socket).await?,
        }
        read_greeting(stream).await
    }

    /// Carries frames between a socket and the controller until the connection ends. `received` is what was
    /// read of it already.
    async fn run(&self, stream: Stream, kind: Option<LinkKind>, received: Bytes) {
        let Stream { socket, mut opener } = stream;
        let (mut socket, writer) = socket.into_split();
        let link = self.links.add(writer, opener.as_ref().map(Opener::tls));
        let sender = tokio::spawn(Arc::clone(&link).keep_sending());
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
            let space = reader.space();
            match handshake::read(&mut socket, &mut opener, space).await {
                Ok(0) => break "closed".to_owned(),
                Ok(bytes) => reader.received(bytes),
                Err(broken) => {
                    // Where the peer refuses this one's certificate, it says so after the handshake of who dialed.
                    let broken = Stranger::Broken(broken);
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
    fn pass_on(&self, link: &controller::link::LinkId, reader: &mut FrameReader) -> Result<(), FrameError> {
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

/// Why a connection is not one with the peer.
#[derive(Debug, thiserror::Error)]
enum Stranger {
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error(transparent)]
    NotProven(#[from] NotProven),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("its first frame is another message than a greeting")]
    Other,
    #[error("it did not show in time who it is")]
    Silent,
    #[error("it did not show who it is while others came")]
    Crowded,
}

impl Stranger {
    /// What people should hear of it, if the other end seems to be a controller.
    fn refusal(&self) -> Option<LinkRefusal> {
        match self {
            Self::Broken(broken) => broken.refusal(),
            Self::NotProven(not_proven) => not_proven.refusal(),
            Self::Frame(_) | Self::Other | Self::Silent | Self::Crowded => None,
        }
    }

    /// It only ended, as connections of the peer do when it is stopped.
    const fn is_an_end(&self) -> bool {
        matches!(
            self,
            Self::Broken(Broken::Socket(_)) | Self::NotProven(NotProven::Socket(_) | NotProven::Closed)
        )
    }
}

/// Reads the first frame, which must be a greeting, and tells what the connection is for.
async fn read_greeting(stream: &mut Stream) -> Result<(Bytes, Purpose), Stranger> {
    let mut head = vec![0; PREFIX_BYTES];
    stream.read_exact(&mut head).await?;
    let prefix = head.first_chunk().ok_or(FrameError::Length)?;
    let lengths = frame_lengths(prefix)?;
    if lengths.payload != 0 {
        return Err(Stranger::Other);
    }
    head.resize(lengths.head, 0);
    stream.read_exact(head.get_mut(PREFIX_BYTES..).unwrap_or_default()).await?;
    match Message::decode(&head, &[])? {
        (_, Message::Hello(hello)) => Ok((head.into(), hello.purpose)),
        _ => Err(Stranger::Other),
    }
}
