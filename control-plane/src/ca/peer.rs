//! Who the other side of a connection is, by its certificate and today's bundle.
//!
//! Comes in: the chain that a client presented, and the roots in force now. Goes out: its SPIFFE ID. A chain
//! is verified at the handshake and again for every RPC, because roots go and certificates end while a
//! connection stays. It must never answer with an identity of another trust domain.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;
use weft_proto::SpiffeId;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

use super::{Bundle, svid::BACKDATED};
use crate::model::InstanceKey;

/// A client whose certificate was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub spiffe_id: SpiffeId,
    /// The one instance that its certificate was issued for, if it names one.
    pub instance: Option<InstanceKey>,
    /// When its certificate ends.
    pub not_after: SystemTime,
    /// When it began.
    pub not_before: SystemTime,
    /// The certificate's serial number.
    pub serial: Vec<u8>,
}

/// Why a client's certificate does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefusal {
    /// None was presented.
    #[error("no client certificate was presented; get an SVID with a join token first")]
    None,
    /// It is no SVID of this trust domain.
    #[error("the client certificate is no SVID of the trust domain {domain}: {why}")]
    NotOurs {
        /// Our trust domain.
        domain: String,
        /// What is wrong with it.
        why: String,
    },
    /// Its chain does not verify now.
    #[error("the client certificate {presented} is not valid here and now: {why}")]
    Invalid {
        /// The identity it presents.
        presented: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Peer {
    /// When its certificate was made: the part of its life before that is for clocks that differ.
    #[must_use]
    pub fn issued_at(&self) -> SystemTime {
        self.not_before + BACKDATED
    }
}

/// Verifies a chain under a bundle at a moment.
///
/// # Errors
/// When it is no valid SVID of the bundle's trust domain.
pub fn verify(
    chain: &[CertificateDer<'_>],
    bundle: &Bundle,
    now: SystemTime,
) -> Result<Peer, PeerRefusal> {
    let (leaf, above) = chain.split_first().ok_or(PeerRefusal::None)?;
    let domain = bundle.trust_domain.as_str();
    let peer = read(leaf)
        .map_err(|why| PeerRefusal::NotOurs { domain: domain.to_owned(), why: why.to_owned() })?;
    if peer.spiffe_id.trust_domain() != domain {
        let why = format!("it says {}", peer.spiffe_id);
        return Err(PeerRefusal::NotOurs { domain: domain.to_owned(), why });
    }
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let verifier = webpki_verifier(bundle).map_err(|error| invalid(&peer, &error))?;
    verifier
        .verify_client_cert(leaf, above, UnixTime::since_unix_epoch(since_epoch))
        .map_err(|error| invalid(&peer, &error))?;
    Ok(peer)
}

fn invalid(peer: &Peer, error: &Error) -> PeerRefusal {
    PeerRefusal::Invalid { presented: peer.spiffe_id.to_string(), why: error.to_string() }
}

fn webpki_verifier(bundle: &Bundle) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    WebPkiClientVerifier::builder_with_provider(bundle.anchors.clone(), provider)
        .build()
        .map_err(|error| Error::General(error.to_string()))
}

/// Reads the SVID's fields (SPIFFE X509-SVID, 2 and 4.3: exactly one URI, and no CA).
fn read(leaf: &CertificateDer<'_>) -> Result<Peer, &'static str> {
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|_| "it cannot be read")?;
    if parsed.is_ca() {
        return Err("it is a CA's certificate");
    }
    let names = parsed.subject_alternative_name().map_err(|_| "its names cannot be read")?;
    let mut uris =
        names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
    let (Some(uri), None) = (uris.next(), uris.next()) else {
        return Err("it does not carry exactly one URI");
    };
    let time = |seconds: i64| UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0));
    Ok(Peer {
        instance: instance(&parsed),
        spiffe_id: uri.parse().map_err(|_| "its URI is no SPIFFE ID of a workload")?,
        not_after: time(parsed.validity().not_after.timestamp()),
        not_before: time(parsed.validity().not_before.timestamp()),
        serial: parsed.serial.to_bytes_be(),
    })
}

/// The instance in the subject: see [`super::svid::Holder`].
fn instance(leaf: &X509Certificate<'_>) -> Option<InstanceKey> {
    let subject = leaf.subject();
    let workload = subject.iter_organizational_unit().next()?.as_str().ok()?.parse().ok()?;
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    Some(InstanceKey { workload, instance: name.into() })
}

/// The rustls side of it: asks for a certificate, accepts none, and verifies what comes under the bundle of
/// that moment.
#[derive(Debug)]
pub(super) struct LiveVerifier {
    bundle: watch::Receiver<Arc<Bundle>>,
    provider: Arc<CryptoProvider>,
}

impl LiveVerifier {
    pub(super) fn new(bundle: watch::Receiver<Arc<Bundle>>, provider: Arc<CryptoProvider>) -> Self {
        Self { bundle, provider }
    }
}

impl ClientCertVerifier for LiveVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Roots change: a hint would be out of date.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let bundle = self.bundle.borrow().clone();
        let mut chain = vec![end_entity.clone()];
        chain.extend(intermediates.iter().cloned());
        let moment = UNIX_EPOCH + Duration::from_secs(now.as_secs());
        match verify(&chain, &bundle, moment) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(refusal) => {
                tracing::warn!(%refusal, "a client's certificate is refused");
                Err(Error::InvalidCertificate(tls_alert(end_entity, moment)))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What the client is told: its certificate's time is over, or its root is not ours.
fn tls_alert(leaf: &CertificateDer<'_>, now: SystemTime) -> CertificateError {
    match read(leaf) {
        Ok(peer) if peer.not_after < now => CertificateError::Expired,
        Ok(peer) if peer.not_before > now => CertificateError::NotValidYet,
        _ => CertificateError::UnknownIssuer,
    }
}
