//! The SPIFFE verifier: rustls asks it in every full handshake, and `tls.rs` after every handshake.
//!
//! Comes in: a peer's chain. Goes out: its identity, or a refusal that names the expected and the presented
//! one. The server's DNS name is never looked at: the TLS server name between sidecars only routes.

use std::{sync::Arc, time::Duration};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::verify_tls13_signature,
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{
    Peer, Refused, Role,
    bundle::Bundle,
    fault::{Expected, PeerFault},
    leaf::Leaf,
    provider,
};

/// Checks peers in one role against one bundle.
#[derive(Debug)]
pub(crate) struct PeerVerifier {
    bundle: Arc<Bundle>,
    role: Role,
    expected: Expected,
}

impl PeerVerifier {
    /// Of servers or of clients.
    pub(crate) fn new(bundle: Arc<Bundle>, role: Role, expected: Expected) -> Arc<Self> {
        Arc::new(Self { bundle, role, expected })
    }

    /// The role of the peers that it checks.
    pub(crate) const fn role(&self) -> Role {
        self.role
    }

    /// Who is expected.
    pub(crate) const fn expected(&self) -> &Expected {
        &self.expected
    }

    /// Who the peer is. The chain stands leaf first.
    ///
    /// # Errors
    /// It is not verified, or not expected.
    pub(crate) fn check(
        &self,
        chain: &[CertificateDer<'_>],
        now: Duration,
    ) -> Result<Peer, Refused> {
        let verified = self.bundle.verify(chain, self.role, now);
        let allowed = verified.and_then(|peer| self.expected.check(&peer.identity).map(|()| peer));
        allowed.map_err(|fault| fault.refuse(self.role, &presented(chain), &self.expected))
    }

    /// The refusal of a peer that presents nothing.
    pub(crate) fn refuse_nobody(&self) -> Refused {
        PeerFault::NoCertificate.refuse(self.role, "no certificate", &self.expected)
    }

    fn check_in_handshake(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let chain: Vec<_> = std::iter::once(leaf).chain(intermediates).cloned().collect();
        let refused = match self.check(&chain, Duration::from_secs(now.as_secs())) {
            Ok(_) => return Ok(()),
            Err(refused) => refused,
        };
        Err(CertificateError::Other(OtherError(Arc::new(refused))).into())
    }
}

/// What a chain says its holder is, for people.
pub(crate) fn presented(chain: &[CertificateDer<'_>]) -> String {
    match chain.first().map(Leaf::parse) {
        None => "no certificate".to_owned(),
        Some(Ok(leaf)) => leaf.presented,
        Some(Err(_)) => "an unreadable certificate".to_owned(),
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check_in_handshake(end_entity, intermediates, now)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, provider::algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider::algorithms().supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    /// None: a client of the mesh has one certificate and sends it.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check_in_handshake(end_entity, intermediates, now)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, provider::algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider::algorithms().supported_schemes()
    }
}

/// TLS 1.2 is never offered, so this is never asked for.
pub(crate) fn no_tls12() -> Error {
    Error::General("TLS 1.2 is not spoken in the mesh".to_owned())
}
