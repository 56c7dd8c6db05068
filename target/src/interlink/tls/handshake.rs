//! The handshake over a socket, reading after it, and what goes wrong in both.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use controller::appliance::LinkRefusal;
use protocol::interlink::frame::MAGIC;
use rustls::{AlertDescription, CertificateError, Connection, Error};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::interlink::tls::pinned::Keys;
use crate::interlink::tls::records::{Inbox, Opened, Tls};

/// Bytes one end may send before its handshake is done at most.
pub(crate) const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;

/// An end that is told why it is refused has this long to hear it.
const PARTING_MAX: Duration = Duration::from_millis(500);

/// Bytes read and thrown away meanwhile at most.
const PARTING_BYTES_MAX: u64 = 64 * 1024;

/// First byte of an alert (RFC 8446 5.1, ContentType).
const ALERT: u8 = 21;

/// First byte of a handshake.
const HANDSHAKE: u8 = 22;

/// A fatal alert "unexpected_message" (RFC 8446 6) in the clear: all that a peer without TLS hears.
const NOT_TLS: [u8; 7] = [ALERT, 3, 3, 0, 2, 2, 10];

/// Why a connection under TLS came to nothing, or ended.
#[derive(Debug, thiserror::Error)]
pub(in crate::interlink) enum Broken {
    /// The socket.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] Error),
    /// The other end speaks the interlink without TLS.
    #[error("the other end does not encrypt")]
    Plain,
    /// More than a handshake takes.
    #[error("the other end sent more than a handshake takes")]
    TooMuch,
}

impl Broken {
    /// What people should hear of it, if the other end seems to be a controller.
    pub(in crate::interlink) fn refusal(&self) -> Option<LinkRefusal> {
        match self {
            Self::Plain => Some(LinkRefusal::OtherIsPlain),
            Self::Tls(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)) => {
                Some(LinkRefusal::WrongCertificate)
            }
            // What the check above makes of it at the other end.
            Self::Tls(Error::AlertReceived(AlertDescription::AccessDenied)) => {
                Some(LinkRefusal::CertificateRefused)
            }
            Self::Socket(_) | Self::Tls(_) | Self::TooMuch => None,
        }
    }
}

/// True for the first bytes of an end that encrypts, where a frame was expected.
pub(crate) fn is_tls(first: &[u8]) -> bool {
    matches!(first, [ALERT | HANDSHAKE, 3, ..])
}

/// Tells an end that encrypts, in the clear, that this one does not.
pub(in crate::interlink) async fn part_from_tls(socket: &mut TcpStream) {
    part(socket, &MAGIC).await;
}

/// The receiving side of a connection whose handshake is done.
pub(in crate::interlink) struct Opener {
    tls: Arc<Tls>,
    inbox: Inbox,
}

impl Opener {
    /// What seals the other direction.
    pub(in crate::interlink) fn tls(&self) -> Arc<Tls> {
        Arc::clone(&self.tls)
    }

    /// Reads some bytes of what the peer sent into `space`; none at its end.
    pub(in crate::interlink) async fn read<R: AsyncRead + Unpin>(
        &mut self,
        socket: &mut R,
        space: &mut [u8],
    ) -> Result<usize, Broken> {
        loop {
            match self.inbox.open(&self.tls, space)? {
                Opened::Bytes(bytes) => return Ok(bytes),
                Opened::Closed => return Ok(0),
                Opened::Wants => {}
            }
            let bytes = socket.read(self.inbox.space()).await?;
            if bytes == 0 {
                return Ok(0);
            }
            self.inbox.received(bytes);
        }
    }
}

/// Reads some bytes of what the peer sent, with TLS or without.
pub(in crate::interlink) async fn read<R: AsyncRead + Unpin>(
    socket: &mut R,
    opener: &mut Option<Opener>,
    space: &mut [u8],
) -> Result<usize, Broken> {
    match opener {
        None => Ok(socket.read(space).await?),
        Some(opener) => opener.read(socket, space).await,
    }
}

/// The handshake of the end that dialed.
pub(in crate::interlink) async fn dial(keys: &Keys, socket: &mut TcpStream) -> Result<Opener, Broken> {
    shake(keys.dial()?, socket).await
}

/// The handshake of the end that accepted.
pub(in crate::interlink) async fn accept(keys: &Keys, socket: &mut TcpStream) -> Result<Opener, Broken> {
    shake(keys.accept()?, socket).await
}

/// Carries the handshake between connection and socket. A peer that fails it is told why before the socket is closed.
pub(super) async fn shake(mut connection: Connection, socket: &mut TcpStream) -> Result<Opener, Broken> {
    let mut inbox = Inbox::new();
    let mut heard = 0;
    loop {
        socket.write_all(&outgoing(&mut connection)?).await?;
        if !connection.is_handshaking() {
            return Ok(Opener { tls: Arc::new(Tls::new(connection)), inbox });
        }
        if heard > HANDSHAKE_BYTES_MAX {
            return Err(Broken::TooMuch);
        }
        let bytes = socket.read(inbox.space()).await?;
        if bytes == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        inbox.received(bytes);
        if heard == 0 && is_frame(inbox.rest()) {
            part(socket, &NOT_TLS).await;
            return Err(Broken::Plain);
        }
        heard += bytes;
        while !inbox.rest().is_empty() && connection.is_handshaking() {
            if let Err(error) = inbox.feed(&mut connection) {
                part(socket, &outgoing(&mut connection)?).await;
                return Err(error.into());
            }
        }
    }
}

/// True for the first bytes of an end that does not encrypt.
fn is_frame(first: &[u8]) -> bool {
    MAGIC.starts_with(first.get(..MAGIC.len()).unwrap_or(first))
}

/// What the connection has to send now.
fn outgoing(connection: &mut Connection) -> io::Result<Vec<u8>> {
    let mut flight = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut flight)?;
    }
    Ok(flight)
}

/// Says the last words and waits until the other end has heard them and closes: what is closed with data unread is
/// reset, and its last words are lost.
async fn part(socket: &mut TcpStream, last_words: &[u8]) {
    let parting = async {
        socket.write_all(last_words).await?;
        socket.shutdown().await?;
        tokio::io::copy(&mut socket.take(PARTING_BYTES_MAX), &mut tokio::io::sink()).await
    };
    let parted = timeout(PARTING_MAX, parting).await;
    tracing::trace!(?parted, "an end of the interlink was refused");
}
