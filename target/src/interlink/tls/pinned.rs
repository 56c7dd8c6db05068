//! Who is let in: the peer, by exactly the certificate that is pinned for it.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Connection, DigitallySignedStruct, DistinguishedName,
    Error, PeerIncompatible, ServerConfig, ServerConnection, SignatureScheme,
};
use subtle::ConstantTimeEq;

/// What a controller is called in a handshake. It is neither sent nor checked.
const NAME: &str = "interlink";

/// What one controller needs for the connections of its interlink.
#[derive(Clone, Debug)]
pub struct Keys {
    dialing: Arc<ClientConfig>,
    accepting: Arc<ServerConfig>,
}

impl Keys {
    /// From this controller's certificate with its key, and the peer's certificate. An error: key and certificate do
    /// not belong together, or are of a kind that is not supported.
    pub fn new(
        own: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
        peer: CertificateDer<'static>,
    ) -> Result<Self, Error> {
        Self::with_provider(ring::default_provider(), own, key, peer)
    }

    pub(super) fn with_provider(
        mut provider: CryptoProvider,
        own: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
        peer: CertificateDer<'static>,
    ) -> Result<Self, Error> {
        // The strongest is of no use between two processors that both have instructions for the fastest.
        provider
            .cipher_suites
            .sort_by_key(|suite| suite.suite() != rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        let pinned = Arc::new(Pinned::new(peer, &provider));
        let provider = Arc::new(provider);
        let mut dialing = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&pinned) as Arc<dyn ServerCertVerifier>)
            .with_client_auth_cert(vec![own.clone()], key.clone_key())?;
        dialing.resumption = Resumption::disabled();
        dialing.enable_sni = false;
        let mut accepting = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(pinned)
            .with_single_cert(vec![own], key)?;
        accepting.session_storage = Arc::new(NoServerSessionStorage {});
        accepting.send_tls13_tickets = 0;
        Ok(Self { dialing: Arc::new(dialing), accepting: Arc::new(accepting) })
    }

    /// The dialing end of a connection.
    pub(super) fn dial(&self) -> Result<Connection, Error> {
        let name = ServerName::try_from(NAME).map_err(|error| Error::General(error.to_string()))?;
        Ok(ClientConnection::new(Arc::clone(&self.dialing), name)?.into())
    }

    /// The accepting end of a connection.
    pub(super) fn accept(&self) -> Result<Connection, Error> {
        Ok(ServerConnection::new(Arc::clone(&self.accepting))?.into())
    }
}

/// Takes one certificate, byte by byte the one it was given. That the peer has its key is shown by its signature over
/// the handshake, which is verified as ever.
#[derive(Debug)]
pub(super) struct Pinned {
    peer: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    pub(super) const fn new(peer: CertificateDer<'static>, provider: &CryptoProvider) -> Self {
        Self { peer, algorithms: provider.signature_verification_algorithms }
    }

    fn check(&self, shown: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<(), Error> {
        let same: bool = self.peer.as_ref().ct_eq(shown.as_ref()).into();
        if same && more.is_empty() {
            return Ok(());
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn signed(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }
}

const fn too_old<T>() -> Result<T, Error> {
    Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        too_old()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        too_old()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
