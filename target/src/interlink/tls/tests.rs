//! Tests of encrypted connections over real sockets.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use controller::appliance::LinkRefusal;
use controller::disk::buffers::BufferPool;
use controller::plan::Side;
use proptest::prelude::*;
use protocol::interlink::frame::{self, GenerationTag, Prefix};
use rustls::client::ResolvesClientCert;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CipherSuiteCommon, ClientConfig, ClientConnection, ServerConfig, ServerConnection, SignatureScheme,
    SupportedCipherSuite, Tls13CipherSuite,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::interlink::frames::FrameReader;
use crate::interlink::tls::certificates::Certificates;
use crate::interlink::tls::handshake::{self, Broken, Opener};
use crate::interlink::tls::pinned::{Keys, Pinned};
use crate::interlink::tls::records::{SEALED_AT_ONCE_BYTES_MAX, move_front};

/// What `init` makes for two controllers.
fn certificates() -> [Certificates; 2] {
    let folder = tempfile::tempdir().unwrap();
    let text = include_str!("../../../../appliance.toml");
    let config = crate::config::Config::parse(&folder.path().join("appliance.toml"), text).unwrap();
    crate::interlink::tls::certificates::make(&config, false).unwrap();
    [Side::First, Side::Second].map(|side| Certificates::load(&config, side).unwrap())
}

fn made() -> [Keys; 2] {
    certificates().map(|made| made.keys().unwrap())
}

/// Both ends of a connection.
async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialed = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (dialed, listener.accept().await.unwrap().0)
}

/// The end that dialed and the end that accepted, each with its socket.
type Ends = [Result<(Opener, TcpStream), Broken>; 2];

async fn shaken(dialing: &Keys, accepting: &Keys) -> Ends {
    let (mut dialed, mut accepted) = sockets().await;
    let (dial, accept) =
        tokio::join!(handshake::dial(dialing, &mut dialed), handshake::accept(accepting, &mut accepted));
    [dial.map(|opener| (opener, dialed)), accept.map(|opener| (opener, accepted))]
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// Sends frames of these sizes (body and payload) from one end to the other; they must come out as they went in.
async fn carry(
    (from, from_socket): &mut (Opener, TcpStream),
    (to, to_socket): &mut (Opener, TcpStream),
    sizes: &[(usize, usize)],
) {
    let prefix = Prefix { version: 1, kind: 16, lun: 3, generation: GenerationTag { number: 7, id: 1 } };
    let frames: Vec<(Bytes, Bytes)> = sizes
        .iter()
        .map(|(body, payload)| {
            let payload: Bytes = (0..*payload).map(|n| (n % 253) as u8).collect();
            (frame::encode(prefix, &vec![9; *body], std::slice::from_ref(&payload)), payload)
        })
        .collect();
    let sending = async {
        let mut waiting: VecDeque<Bytes> =
            frames.iter().flat_map(|(head, payload)| [head.clone(), payload.clone()]).collect();
        let tls = from.tls();
        while !waiting.is_empty() {
            let mut pieces = VecDeque::new();
            move_front(&mut waiting, &mut pieces);
            let bytes: usize = pieces.iter().map(Bytes::len).sum();
            assert!(bytes <= SEALED_AT_ONCE_BYTES_MAX && (bytes > 0 || waiting.is_empty()));
            from_socket.write_all(&tls.seal(&mut pieces).unwrap()).await.unwrap();
        }
    };
    let receiving = async {
        let mut reader = FrameReader::new(BufferPool::default(), &[]);
        for expected in &frames {
            let frame = loop {
                if let Some(frame) = reader.next().unwrap() {
                    break frame;
                }
                let bytes = to.read(to_socket, reader.space()).await.unwrap();
                assert!(bytes > 0);
                reader.received(bytes);
            };
            assert!(frame == *expected);
        }
    };
    tokio::join!(sending, receiving);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..Default::default() })]
    #[test]
    fn frames_come_out_as_they_went_in(
        sizes in proptest::collection::vec((0..300_usize, prop_oneof![0..5000_usize, 0..900_000_usize]), 1..8),
    ) {
        run(async {
            let [alpha, beta] = made();
            let [dialed, accepted] = shaken(&alpha, &beta).await;
            let (mut dialed, mut accepted) = (dialed.unwrap(), accepted.unwrap());
            carry(&mut dialed, &mut accepted, &sizes).await;
            carry(&mut accepted, &mut dialed, &sizes).await;
        });
    }
}

/// The product's provider, with keys that are good for a few records only.
fn hasty() -> CryptoProvider {
    let mut provider = ring::default_provider();
    for suite in &mut provider.cipher_suites {
        let SupportedCipherSuite::Tls13(known) = *suite;
        let common = CipherSuiteCommon { confidentiality_limit: 3, ..known.common };
        // Lives as long as the tests.
        *suite = SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite { common, ..*known })));
    }
    provider
}

#[test]
fn keys_that_are_used_up_are_replaced_while_data_flows_both_ways() {
    run(async {
        let [alpha, beta] = certificates().map(|made| made.keys_with(hasty()).unwrap());
        let [dialed, accepted] = shaken(&alpha, &beta).await;
        let (mut dialed, mut accepted) = (dialed.unwrap(), accepted.unwrap());
        let mut lengths = BTreeSet::new();
        for _ in 0..40 {
            let sealed = dialed.0.tls().seal(&mut VecDeque::from([Bytes::from_static(b"small")])).unwrap();
            lengths.insert(sealed.len());
            dialed.1.write_all(&sealed).await.unwrap();
            let mut small = [0; 5];
            assert_eq!(accepted.0.read(&mut accepted.1, &mut small).await.unwrap(), 5);
            carry(&mut dialed, &mut accepted, &[(40, 4096), (40, 0), (40, 100_000)]).await;
            carry(&mut accepted, &mut dialed, &[(40, 0), (40, 40_000)]).await;
        }
        assert!(lengths.len() > 1, "a new key is announced in a record of its own: {lengths:?}");
    });
}

#[test]
fn whoever_has_another_certificate_is_refused_and_hears_why() {
    run(async {
        let (pair, [mut stranger, other_beta]) = (certificates(), certificates());
        // It knows beta's certificate, which is no secret, and has none that beta takes.
        stranger.peer = pair[0].peer.clone();
        let [stranger, other_beta] = [stranger, other_beta].map(|made| made.keys().unwrap());
        let [alpha, beta] = pair.map(|made| made.keys().unwrap());
        // Who dials whom, and what each end is left with.
        let [dialed, accepted] = shaken(&alpha, &other_beta).await;
        let refusals = [dialed.err().unwrap().refusal(), accepted.err().unwrap().refusal()];
        assert_eq!(refusals, [Some(LinkRefusal::WrongCertificate), Some(LinkRefusal::CertificateRefused)]);
        // Its own image is not the peer.
        let [dialed, accepted] = shaken(&alpha, &alpha).await;
        assert_eq!(dialed.err().unwrap().refusal(), Some(LinkRefusal::WrongCertificate));
        assert_eq!(accepted.err().unwrap().refusal(), Some(LinkRefusal::CertificateRefused));
        // The one that dialed trusts the other, but not the other way round: it hears of it when it reads.
        let [dialed, accepted] = shaken(&stranger, &beta).await;
        assert_eq!(accepted.err().unwrap().refusal(), Some(LinkRefusal::WrongCertificate));
        let (mut opener, mut socket) = dialed.unwrap();
        let heard = opener.read(&mut socket, &mut [0; 100]).await.unwrap_err();
        assert_eq!(heard.refusal(), Some(LinkRefusal::CertificateRefused), "{heard}");
    });
}

/// Shows a certificate, which is no secret, and signs with a key that is not its own.
#[derive(Debug)]
struct Thief(Arc<CertifiedKey>);

impl ResolvesClientCert for Thief {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Thief {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

#[test]
fn a_certificate_without_its_key_opens_nothing() {
    run(async {
        let [alpha, beta] = certificates();
        let key = PrivateKeyDer::try_from(rcgen::KeyPair::generate().unwrap().serialize_der()).unwrap();
        let key = ring::sign::any_supported_type(&key).unwrap();
        let thief = Arc::new(Thief(Arc::new(CertifiedKey::new(vec![beta.own.clone()], key))));
        let verifier = Arc::new(Pinned::new(alpha.own.clone(), &ring::default_provider()));
        let alpha = alpha.keys().unwrap();
        let dialing = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::clone(&thief) as _);
        let client =
            ClientConnection::new(Arc::new(dialing), ServerName::try_from("alpha").unwrap()).unwrap();
        let (mut dialed, mut accepted) = sockets().await;
        let (_, accepting) = tokio::join!(
            async {
                let _refused = handshake::shake(client.into(), &mut dialed).await;
                drop(dialed);
            },
            handshake::accept(&alpha, &mut accepted)
        );
        assert!(matches!(accepting, Err(Broken::Tls(rustls::Error::InvalidCertificate(_)))));

        let accepting = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(thief);
        let server = ServerConnection::new(Arc::new(accepting)).unwrap();
        let (mut dialed, mut accepted) = sockets().await;
        let (dialing, _) = tokio::join!(handshake::dial(&alpha, &mut dialed), async {
            let _refused = handshake::shake(server.into(), &mut accepted).await;
            drop(accepted);
        });
        assert!(matches!(dialing, Err(Broken::Tls(rustls::Error::InvalidCertificate(_)))));
    });
}

#[test]
fn an_end_that_does_not_encrypt_is_told_so() {
    run(async {
        let [alpha, _] = made();
        let (mut plain, mut encrypted) = sockets().await;
        let hello = protocol::interlink::Message::Ping(1).encode(0, GenerationTag::default(), &[]);
        plain.write_all(&hello).await.unwrap();
        let mut heard = Vec::new();
        let (accepted, _) = tokio::join!(handshake::accept(&alpha, &mut encrypted), async {
            plain.read_to_end(&mut heard).await.unwrap();
            drop(plain);
        });
        assert_eq!(accepted.err().unwrap().refusal(), Some(LinkRefusal::OtherIsPlain));
        assert!(handshake::is_tls(&heard), "{heard:?}");

        let (mut encrypted, mut plain) = sockets().await;
        let answering = async {
            let mut head = [0; 48];
            plain.read_exact(&mut head).await.unwrap();
            assert!(handshake::is_tls(&head));
            handshake::part_from_tls(&mut plain).await;
        };
        let (dialed, ()) = tokio::join!(handshake::dial(&alpha, &mut encrypted), answering);
        assert_eq!(dialed.err().unwrap().refusal(), Some(LinkRefusal::OtherIsPlain));
    });
}

#[test]
fn what_is_no_handshake_ends_the_connection_and_accuses_nobody() {
    let endless: Vec<u8> = [22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff].into_iter().chain([0; 200_000]).collect();
    let says: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0; 100],
        &[0xff; 100],
        &[22, 3, 1, 0xff, 0xff, 0, 0, 0],
        &[22, 3],
        &endless,
    ];
    run(async {
        let [alpha, _] = made();
        for said in says {
            let (mut stranger, mut socket) = sockets().await;
            let accepting = async {
                let ended = handshake::accept(&alpha, &mut socket).await;
                drop(socket);
                ended
            };
            let (ended, ()) = tokio::join!(accepting, async {
                // It may be closed before it has said everything.
                let _closed = stranger.write_all(said).await;
                let _closed = stranger.shutdown().await;
                let _closed = stranger.read_to_end(&mut Vec::new()).await;
            });
            assert_eq!(ended.err().unwrap().refusal(), None, "{:?}", said.get(..9));
        }
    });
}

#[test]
fn a_record_that_was_changed_or_cut_on_its_way_is_never_taken_for_data() {
    run(async {
        let [alpha, beta] = made();
        for at in [5, 20, 119] {
            let [dialed, accepted] = shaken(&alpha, &beta).await;
            let ((from, mut from_socket), (mut to, mut to_socket)) = (dialed.unwrap(), accepted.unwrap());
            let mut sealed =
                from.tls().seal(&mut VecDeque::from([Bytes::from(vec![7; 100])])).unwrap().to_vec();
            sealed[at] ^= 1;
            from_socket.write_all(&sealed).await.unwrap();
            let read = to.read(&mut to_socket, &mut [0; 200]).await;
            assert!(matches!(read, Err(Broken::Tls(_))), "{read:?}");

            let [dialed, accepted] = shaken(&alpha, &beta).await;
            let ((from, mut from_socket), (mut to, mut to_socket)) = (dialed.unwrap(), accepted.unwrap());
            let sealed = from.tls().seal(&mut VecDeque::from([Bytes::from(vec![7; 100])])).unwrap();
            from_socket.write_all(&sealed[..at]).await.unwrap();
            drop(from_socket);
            assert_eq!(to.read(&mut to_socket, &mut [0; 200]).await.unwrap(), 0);
        }
    });
}

#[test]
fn both_directions_may_be_used_from_different_threads() {
    let [alpha, beta] = made();
    run(async {
        let [dialed, accepted] = shaken(&alpha, &beta).await;
        let ((mut opener, mut socket), (other, mut other_socket)) = (dialed.unwrap(), accepted.unwrap());
        let tls: Arc<_> = opener.tls();
        let sealing = std::thread::spawn(move || {
            let mut pieces = VecDeque::new();
            (0..2000).for_each(|_| {
                pieces.push_back(Bytes::from_static(&[1; 300]));
                tls.seal(&mut pieces).unwrap();
            });
        });
        let sending = async {
            for _ in 0..2000 {
                let sealed = other.tls().seal(&mut VecDeque::from([Bytes::from_static(&[2; 300])])).unwrap();
                other_socket.write_all(&sealed).await.unwrap();
            }
        };
        let receiving = async {
            let (mut received, mut space) = (0, [0; 1000]);
            while received < 2000 * 300 {
                let bytes = opener.read(&mut socket, &mut space).await.unwrap();
                assert!(bytes > 0 && space[..bytes].iter().all(|byte| *byte == 2));
                received += bytes;
            }
        };
        tokio::join!(sending, receiving);
        sealing.join().unwrap();
    });
}
