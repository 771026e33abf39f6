//! Refusals: one documented reason, and a text that tells an operator what was expected and what was there.

use rustls::{AlertDescription, CertificateError, Error};

use super::{Role, verifier::PeerVerifier};
use crate::{identity::Svid, reason::Reason};

/// Why a handshake was refused; names the expected and the presented identity.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Refused {
    /// The documented code.
    pub reason: Reason,
    /// What exactly was wrong.
    pub detail: String,
}

impl Refused {
    /// We have nothing to present.
    pub(super) const fn no_identity(detail: String) -> Self {
        Self { reason: Reason::IdentityMissing, detail }
    }

    /// The handshake did not finish in time.
    pub(super) fn timeout(verifier: &PeerVerifier, timeout: std::time::Duration) -> Self {
        let (role, expected) = (verifier.role(), verifier.expected());
        let detail = format!(
            "the TLS handshake with the {role}, expected to be {expected}, did not finish in {timeout:?}"
        );
        Self { reason: Reason::TlsTimeout, detail }
    }

    /// Makes of an error during a handshake what `verifier` said, what the peer's alert says of `ours`, or what
    /// else went wrong.
    pub(super) fn during_handshake(error: &Error, verifier: &PeerVerifier, ours: &Svid) -> Self {
        let role = verifier.role();
        match error {
            Error::InvalidCertificate(CertificateError::Other(other)) => other
                .0
                .downcast_ref::<Self>()
                .cloned()
                .unwrap_or_else(|| Self::failed(&other, verifier)),
            Error::NoCertificatesPresented => verifier.refuse_nobody(),
            Error::AlertReceived(alert) => Self::by_alert(*alert, role, ours),
            other => Self::failed(other, verifier),
        }
    }

    /// Neither side refused: the handshake broke.
    pub(super) fn failed(error: &dyn std::fmt::Display, verifier: &PeerVerifier) -> Self {
        let (role, expected) = (verifier.role(), verifier.expected());
        let detail = format!(
            "the TLS handshake with the {role}, expected to be {expected}, failed before it was verified: {error}"
        );
        Self { reason: Reason::TlsFailed, detail }
    }

    /// The server, which presented this identity and was verified, refused us after our handshake.
    pub(super) fn by_server(alert: AlertDescription, server: &str, ours: &Svid) -> Self {
        let ours = ours.describe();
        let detail = format!(
            "the server {server} refused our certificate (alert {alert:?}); we presented {ours}"
        );
        Self { reason: Reason::TlsFailed, detail }
    }

    /// The peer refused us.
    pub(super) fn by_alert(alert: AlertDescription, role: Role, ours: &Svid) -> Self {
        let detail = if is_about_certificates(alert) {
            let ours = ours.describe();
            format!("the {role} refused our certificate (alert {alert:?}); we presented {ours}")
        } else {
            format!("the {role} broke off TLS (alert {alert:?})")
        };
        Self { reason: Reason::TlsFailed, detail }
    }
}

/// Alerts that say something of the receiver's certificate (RFC 8446 6.2).
pub(super) fn is_about_certificates(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
    )
}
