//! The proof over a socket, on an interlink without encryption: each end shows that it knows the secret of both before
//! either hears a word of the appliance. [`protocol::interlink::proof`] has the frames.
//!
//! It says who is at the other end when a connection begins, and no more: who can change what crosses the line can
//! change the data that comes after it. Against that there is the encryption.

use std::io;

use controller::appliance::LinkRefusal;
use controller::plan::Side;
use protocol::interlink::FrameError;
use protocol::interlink::proof::{End, FRAME_BYTES, First, Nonces, Step, WORD_BYTES, claim, first};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::secret::Secret;
use super::tls::handshake::is_tls;

/// Why the other end of a connection has not proven to be the peer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotProven {
    /// The socket.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// It ended.
    #[error("it was closed before the proof was done")]
    Closed,
    /// It encrypts.
    #[error("it encrypts")]
    Encrypted,
    /// It is of a release that proves nothing.
    #[error("it greets without any proof, as an earlier release does")]
    OnlyGreets,
    /// It knows no secret, or another one.
    #[error("its proof was made with another secret")]
    Wrong,
    /// It sent something else.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl NotProven {
    /// What people should hear of it, if the other end seems to be a controller.
    pub(crate) const fn refusal(&self) -> Option<LinkRefusal> {
        match self {
            Self::Encrypted => Some(LinkRefusal::OtherIsEncrypted),
            Self::OnlyGreets => Some(LinkRefusal::NoProof),
            Self::Wrong => Some(LinkRefusal::WrongProof),
            Self::Socket(_) | Self::Closed | Self::Frame(_) => None,
        }
    }
}

/// The proof of the controller of this side that dialed its peer.
pub(crate) async fn dial<S>(secret: &Secret, side: Side, socket: &mut S) -> Result<(), NotProven>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let dialing = nonce()?;
    send(socket, Step::Challenge(dialing)).await?;
    let nonces = Nonces { dialing, accepting: challenge(socket).await? };
    send(socket, Step::Proof(secret.sign(&claim(End::Dialing, side as u8, &nonces)))).await?;
    check(secret, &claim(End::Accepting, side.peer() as u8, &nonces), socket).await
}

/// The proof of the controller of this side that was dialed. It tells nothing to an end that has not proven itself
/// first.
pub(crate) async fn accept<S>(secret: &Secret, side: Side, socket: &mut S) -> Result<(), NotProven>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let dialing = challenge(socket).await?;
    let nonces = Nonces { dialing, accepting: nonce()? };
    send(socket, Step::Challenge(nonces.accepting)).await?;
    check(secret, &claim(End::Dialing, side.peer() as u8, &nonces), socket).await?;
    send(socket, Step::Proof(secret.sign(&claim(End::Accepting, side as u8, &nonces)))).await
}

fn nonce() -> Result<[u8; WORD_BYTES], NotProven> {
    let mut nonce = [0; WORD_BYTES];
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    Ok(nonce)
}

async fn send<S: AsyncWrite + Unpin>(socket: &mut S, step: Step) -> Result<(), NotProven> {
    Ok(socket.write_all(&step.encode()).await?)
}

async fn challenge<S: AsyncRead + Unpin>(socket: &mut S) -> Result<[u8; WORD_BYTES], NotProven> {
    match receive(socket).await? {
        Step::Challenge(nonce) => Ok(nonce),
        Step::Proof(_) => Err(FrameError::Content.into()),
    }
}

/// Receives the other end's proof of this claim.
async fn check<S: AsyncRead + Unpin>(secret: &Secret, claim: &[u8], socket: &mut S) -> Result<(), NotProven> {
    match receive(socket).await? {
        Step::Proof(mac) if secret.verifies(claim, &mac) => Ok(()),
        Step::Proof(_) => Err(NotProven::Wrong),
        Step::Challenge(_) => Err(FrameError::Content.into()),
    }
}

/// Receives one frame, and nothing of what follows it.
async fn receive<S: AsyncRead + Unpin>(socket: &mut S) -> Result<Step, NotProven> {
    let mut frame = [0; FRAME_BYTES];
    let mut filled = 0;
    while let Some(rest) = frame.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let bytes = socket.read(rest).await?;
        filled += bytes;
        let so_far = frame.get(..filled).unwrap_or_default();
        if is_tls(so_far) {
            return Err(NotProven::Encrypted);
        }
        match first(so_far) {
            First::Proof if bytes == 0 => return Err(NotProven::Closed),
            First::Proof => {}
            First::Greeting => return Err(NotProven::OnlyGreets),
            First::Other => return Err(FrameError::Magic.into()),
        }
    }
    Ok(Step::decode(&frame)?)
}

#[cfg(test)]
mod tests {
    use protocol::interlink::Message;
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn secret(byte: u8) -> Secret {
        Secret::new(&[byte; 32])
    }

    /// Lets the two of them prove themselves to each other. What one end has given up is closed for the other.
    fn meet(
        dialing: (&Secret, Side),
        accepting: (&Secret, Side),
    ) -> (Result<(), NotProven>, Result<(), NotProven>) {
        let (one, mut other) = duplex(4096);
        run(async {
            tokio::join!(
                async {
                    let mut one = one;
                    dial(dialing.0, dialing.1, &mut one).await
                },
                async move { accept(accepting.0, accepting.1, &mut other).await },
            )
        })
    }

    #[test]
    fn two_with_one_secret_prove_themselves_to_each_other() {
        let met = meet((&secret(1), Side::First), (&secret(1), Side::Second));
        assert!(matches!(met, (Ok(()), Ok(()))), "{met:?}");
        let met = meet((&secret(1), Side::Second), (&secret(1), Side::First));
        assert!(matches!(met, (Ok(()), Ok(()))), "{met:?}");
    }

    #[test]
    fn another_secret_or_side_proves_nothing_and_hears_no_proof() {
        for (dialing, accepting) in [
            ((&secret(1), Side::First), (&secret(2), Side::Second)),
            // Both claim to be the same controller: one that was led to itself.
            ((&secret(1), Side::First), (&secret(1), Side::First)),
            ((&secret(1), Side::Second), (&secret(1), Side::Second)),
        ] {
            let met = meet(dialing, accepting);
            assert!(matches!(met, (Err(NotProven::Closed), Err(NotProven::Wrong))), "{met:?}");
            assert_eq!(met.1.unwrap_err().refusal(), Some(LinkRefusal::WrongProof));
        }
    }

    /// What an accepting controller says to this, and what it makes of it.
    fn says(said: &[u8]) -> (Vec<u8>, NotProven) {
        let (mut one, mut other) = duplex(64 * 1024);
        run(async {
            one.write_all(said).await.unwrap();
            one.shutdown().await.unwrap();
            let error = accept(&secret(1), Side::First, &mut other).await.unwrap_err();
            drop(other);
            let mut heard = Vec::new();
            one.read_to_end(&mut heard).await.unwrap();
            (heard, error)
        })
    }

    #[test]
    fn a_stranger_hears_a_random_number_at_most_and_never_the_same() {
        let greeting = Message::Ping(1).encode(0, Default::default(), &[]);
        for said in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 200], &greeting, b"", b"TWLI"] {
            assert!(says(said).0.is_empty());
        }
        let challenge = Step::Challenge([7; 32]).encode();
        let guess = [challenge.clone(), Step::Proof([7; 32]).encode()].concat();
        let (heard, error) = says(&guess);
        assert!(matches!(error, NotProven::Wrong), "{error}");
        let heard: [u8; FRAME_BYTES] = heard.try_into().unwrap();
        assert!(matches!(Step::decode(&heard), Ok(Step::Challenge(_))));
        let (again, error) = says(&challenge);
        assert!(matches!(error, NotProven::Closed) && again != heard);
        assert!(says(&[challenge.clone(), challenge].concat()).1.refusal().is_none());
    }

    #[test]
    fn an_end_that_encrypts_and_one_that_only_greets_are_known_for_what_they_are() {
        assert!(matches!(says(&[22, 3, 1, 1, 0]).1, NotProven::Encrypted));
        // A fatal alert is all that an end that encrypts says to one that does not.
        assert!(matches!(says(&[21, 3, 3, 0, 2, 2, 10]).1, NotProven::Encrypted));
        let hello = Message::Hello(Box::new(hello())).encode(0, Default::default(), &[]);
        assert_eq!(says(&hello).1.refusal(), Some(LinkRefusal::NoProof));
    }

    fn hello() -> protocol::interlink::hello::Hello {
        protocol::interlink::hello::Hello {
            versions: (1, 1),
            purpose: protocol::interlink::hello::Purpose::Bridge(0),
            side: 1,
            appliance: 2,
            incarnation: 3,
            bridges: 1,
            shared: Vec::new(),
            rooms: Vec::new(),
            identity: Default::default(),
        }
    }

    #[test]
    fn an_answer_from_one_connection_is_worth_nothing_on_another() {
        let (mut one, other) = duplex(4096);
        let (third, mut fourth) = duplex(4096);
        // Somebody who was dialed in the peer's place hands everything on to the one who dialed, as if he were the
        // peer.
        let carry = |mut from: DuplexStream, mut to: DuplexStream| async move {
            let _ended = tokio::io::copy_bidirectional(&mut from, &mut to).await;
        };
        let led = run(async {
            let (secret, side) = (secret(1), Side::First);
            let (dialing, accepting) = (
                async {
                    let met = dial(&secret, side, &mut one).await;
                    drop(one);
                    met
                },
                async {
                    let met = accept(&secret, side, &mut fourth).await;
                    drop(fourth);
                    met
                },
            );
            let (dialed, accepted, ()) = tokio::join!(dialing, accepting, carry(other, third));
            (dialed, accepted)
        });
        assert!(matches!(led, (Err(_), Err(NotProven::Wrong))), "{led:?}");
    }
}
