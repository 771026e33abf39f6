//! Whether a server is the control plane of this mesh.
//!
//! With a bundle: its chain leads to a root of it, and its SPIFFE ID is the control plane's in our trust domain.
//! Before the first bundle, and once the roots of an old one are gone: what came with the proof. A join token
//! carries the SHA-256 of a root; the control plane sends that root in its chain, and the chain must lead to it. The
//! hash is what is trusted: whoever gave us the token gave us that. Beside a ServiceAccount token lie the roots.

use std::{io, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::verify_tls13_signature,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use weft_proto::{SpiffeId, TrustDomain, join_token::hex};

use super::Credentials;
use crate::{
    reason::Reason,
    tls::{
        Bundle, Refused, Role,
        fault::Expected,
        leaf::Leaf,
        provider,
        verifier::{PeerVerifier, no_tls12, presented},
    },
};

/// The namespace and the service account of the control plane.
const NAMESPACE: &str = "weft-system";
const SERVICE_ACCOUNT: &str = "control-plane";

/// What the control plane is verified by at a join, beside the bundle in force.
#[derive(Debug, Clone)]
pub(super) enum Anchor {
    /// SHA-256 of a root that it sends.
    Hash([u8; 32]),
    /// Roots.
    Roots(Arc<Bundle>),
}

/// Verifies the control plane, by whatever is known of it.
#[derive(Debug)]
pub(super) struct ControlPlaneVerifier {
    by_bundle: Option<Arc<PeerVerifier>>,
    anchor: Option<Anchor>,
}

impl ControlPlaneVerifier {
    pub(super) fn new(credentials: Option<&Credentials>, anchor: Option<Anchor>) -> Self {
        let by_bundle = credentials.and_then(|credentials| {
            let domain = credentials.svid.identity().trust_domain();
            verifier(Arc::clone(&credentials.bundle), domain)
        });
        Self { by_bundle, anchor }
    }

    /// # Errors
    /// It is not the control plane of this mesh.
    fn check(&self, chain: &[CertificateDer<'_>], now: Duration) -> Result<SpiffeId, Refused> {
        let refused = match &self.by_bundle {
            Some(verifier) => match verifier.check(chain, now) {
                Ok(peer) => return Ok(peer.identity),
                Err(refused) => Some(refused),
            },
            None => None,
        };
        let anchored = match &self.anchor {
            Some(Anchor::Hash(hash)) => Some(check_pinned(chain, *hash, now)),
            Some(Anchor::Roots(roots)) => Some(check_under(Arc::clone(roots), chain, now)),
            None => None,
        };
        match (anchored, refused) {
            (Some(anchored), refused) => anchored.map_err(|anchored| refused.unwrap_or(anchored)),
            (None, Some(refused)) => Err(refused),
            (None, None) => Err(Refused {
                reason: Reason::IdentityMissing,
                detail: "there is nothing yet to verify the control plane by".to_owned(),
            }),
        }
    }

    /// What a failed handshake with it means.
    pub(super) fn explain(&self, error: &io::Error) -> Refused {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        if let Some(Error::InvalidCertificate(CertificateError::Other(other))) = inner
            && let Some(refused) = other.0.downcast_ref::<Refused>()
        {
            return refused.clone();
        }
        let detail = format!("the TLS handshake with the control plane failed: {error}");
        Refused { reason: Reason::TlsFailed, detail }
    }
}

/// Checks a chain that must lead to the root with this hash, which is part of it.
fn check_pinned(
    chain: &[CertificateDer<'_>],
    pin: [u8; 32],
    now: Duration,
) -> Result<SpiffeId, Refused> {
    let refused = |detail: String| Refused { reason: Reason::PeerUnverified, detail };
    let root = chain.iter().skip(1).find(|root| digest(&SHA256, root).as_ref() == pin);
    let Some(root) = root else {
        return Err(refused(format!(
            "the server presented {}, but not the root with the SHA-256 {} that the join token names; \
             take a token of this control plane (`weft token create`)",
            presented(chain),
            hex(&pin)
        )));
    };
    let bundle =
        Bundle::new(vec![root.clone().into_owned()]).map_err(|error| refused(error.to_string()))?;
    check_under(Arc::new(bundle), chain, now)
}

/// Checks a chain that must lead to one of these roots. Its domain is taken from what it presents: the roots are
/// trusted to name nobody falsely.
fn check_under(
    roots: Arc<Bundle>,
    chain: &[CertificateDer<'_>],
    now: Duration,
) -> Result<SpiffeId, Refused> {
    let leaf = chain.first().and_then(|leaf| Leaf::parse(leaf).ok());
    let identity = leaf.and_then(|leaf| leaf.identity.ok());
    let default = TrustDomain::default();
    let domain = identity.as_ref().map_or(default.as_str(), SpiffeId::trust_domain);
    let verifier = verifier(roots, domain).ok_or_else(|| Refused {
        reason: Reason::PeerUnverified,
        detail: format!("{domain:?} is not a trust domain"),
    })?;
    verifier.check(chain, now).map(|peer| peer.identity)
}

/// Verifies the control plane of one trust domain.
fn verifier(bundle: Arc<Bundle>, domain: &str) -> Option<Arc<PeerVerifier>> {
    let identity = SpiffeId::new(&domain.parse().ok()?, NAMESPACE, SERVICE_ACCOUNT).ok()?;
    let expected = Expected::OneOf(domain.into(), Arc::new([identity]));
    Some(PeerVerifier::new(bundle, Role::Server, expected))
}

impl ServerCertVerifier for ControlPlaneVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        match self.check(&chain, Duration::from_secs(now.as_secs())) {
            Ok(_) => Ok(ServerCertVerified::assertion()),
            Err(refused) => Err(CertificateError::Other(OtherError(Arc::new(refused))).into()),
        }
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
