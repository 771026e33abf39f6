//! What a certificate says of its holder: one SPIFFE ID, and from when to when (X.509-SVID 2 to 4).
//!
//! Comes in: DER, trusted or not. Goes out: what it says; whether it is true is [`super::bundle`]'s to check.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use weft_proto::SpiffeId;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

use super::fault::PeerFault;

/// A URI's context-specific tag among general names (RFC 5280 4.2.1.6).
const URI_TAG: u32 = 6;

/// A certificate's content, as far as identity goes.
#[derive(Debug)]
pub(crate) struct Leaf {
    /// The one URI name, if it is a SPIFFE ID.
    pub(crate) identity: Result<SpiffeId, PeerFault>,
    /// What stands there, for people: the URI names as they are, or the subject.
    pub(crate) presented: String,
    pub(crate) validity: Validity,
    /// Whether it says that it is made for TLS servers, and for TLS clients (extended key usage). Saying
    /// nothing is not enough for an SVID between sidecars.
    pub(crate) for_servers: bool,
    pub(crate) for_clients: bool,
    /// The issuer's distinguished name, for people.
    pub(crate) issuer: String,
    /// Whether it names itself as its issuer.
    pub(crate) self_issued: bool,
}

/// A span of time, in seconds since the Unix epoch; both ends are in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: Duration,
    pub(crate) not_after: Duration,
}

impl Validity {
    /// Of a certificate.
    pub(crate) fn of(certificate: &X509Certificate<'_>) -> Self {
        let seconds = |at: i64| Duration::from_secs(u64::try_from(at).unwrap_or(0));
        let validity = certificate.validity();
        Self {
            not_before: seconds(validity.not_before.timestamp()),
            not_after: seconds(validity.not_after.timestamp()),
        }
    }

    /// What is within both.
    pub(crate) fn intersect(self, other: Self) -> Self {
        Self {
            not_before: self.not_before.max(other.not_before),
            not_after: self.not_after.min(other.not_after),
        }
    }

    /// # Errors
    /// `now` lies outside.
    pub(crate) fn check(self, now: Duration) -> Result<(), PeerFault> {
        // Certificates count in whole seconds, and the last one is still good.
        let now = Duration::from_secs(now.as_secs());
        if now < self.not_before {
            Err(PeerFault::NotYetValid { not_before: self.not_before, now })
        } else if now > self.not_after {
            Err(PeerFault::Expired { not_after: self.not_after, now })
        } else {
            Ok(())
        }
    }
}

impl Leaf {
    /// # Errors
    /// It is no X.509 certificate.
    pub(crate) fn parse(der: &CertificateDer<'_>) -> Result<Self, PeerFault> {
        let (rest, certificate) = X509Certificate::from_der(der)
            .map_err(|error| PeerFault::Unreadable(error.to_string()))?;
        if !rest.is_empty() {
            return Err(PeerFault::Unreadable("bytes follow it".to_owned()));
        }
        let uris = uri_names(&certificate)?;
        let usage = certificate
            .extended_key_usage()
            .map_err(|error| PeerFault::Unreadable(error.to_string()))?
            .map(|extension| extension.value);
        let presented = if uris.is_empty() {
            format!("subject {:?}", certificate.subject().to_string())
        } else {
            uris.join(", ")
        };
        Ok(Self {
            identity: only_identity(&uris),
            presented,
            validity: Validity::of(&certificate),
            for_servers: usage.is_some_and(|usage| usage.server_auth),
            for_clients: usage.is_some_and(|usage| usage.client_auth),
            issuer: certificate.issuer().to_string(),
            self_issued: certificate.issuer().as_raw() == certificate.subject().as_raw(),
        })
    }
}

/// All URI names, those that are no text too, so that none can hide beside the one that counts.
fn uri_names(certificate: &X509Certificate<'_>) -> Result<Vec<String>, PeerFault> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| PeerFault::Unreadable(error.to_string()))?;
    let Some(names) = names else { return Ok(Vec::new()) };
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        GeneralName::Invalid(tag, bytes) if tag.0 == URI_TAG => {
            Some(bytes.escape_ascii().to_string())
        }
        _ => None,
    };
    Ok(names.value.general_names.iter().filter_map(uri).collect())
}

fn only_identity(uris: &[String]) -> Result<SpiffeId, PeerFault> {
    match uris {
        [] => Err(PeerFault::NoUri),
        [uri] => uri.parse().map_err(|_| PeerFault::NotSpiffe),
        _ => Err(PeerFault::SeveralUris),
    }
}
