//! What can be wrong with a peer's certificate, and how the refusal is told.

use std::{fmt, sync::Arc, time::Duration};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use weft_proto::SpiffeId;

use super::{Refused, Role};
use crate::reason::Reason;

/// What is wrong with a peer's certificate. The text goes on after "the server presented X, expected Y: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerFault {
    /// There is none.
    #[error("a certificate is required")]
    NoCertificate,
    /// It is no X.509 certificate.
    #[error("its certificate cannot be read ({0})")]
    Unreadable(String),
    /// It has no URI among its names.
    #[error("its certificate has no URI name, and so no SPIFFE ID")]
    NoUri,
    /// It has more than one.
    #[error("its certificate has several URI names, where an SVID has one")]
    SeveralUris,
    /// Its URI is no SPIFFE ID of a workload.
    #[error(
        "its URI name is not of the form spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT"
    )]
    NotSpiffe,
    /// Its time is over.
    #[error("its certificate (or an issuer's) expired at {}, it is {}", at(*not_after), at(*now))]
    Expired {
        /// Since the epoch.
        not_after: Duration,
        /// Since the epoch.
        now: Duration,
    },
    /// Its time has not come.
    #[error("its certificate (or an issuer's) is not valid before {}, it is {}", at(*not_before), at(*now))]
    NotYetValid {
        /// Since the epoch.
        not_before: Duration,
        /// Since the epoch.
        now: Duration,
    },
    /// It signed itself.
    #[error("its certificate is self-signed, not issued under a root of the bundle")]
    SelfSigned,
    /// Nobody we trust signed it.
    #[error("its certificate (issuer {issuer:?}) leads to no root of the bundle")]
    UnknownRoot {
        /// The issuer's distinguished name.
        issuer: String,
    },
    /// Somebody we no longer trust signed it.
    #[error(
        "its certificate (issuer {issuer:?}) leads to an old root, which was rotated out of the bundle"
    )]
    OldRoot {
        /// The issuer's distinguished name.
        issuer: String,
    },
    /// It is not made for this use.
    #[error("its certificate is not made for a TLS {0} (extended key usage)")]
    Purpose(Role),
    /// It belongs to another trust domain.
    #[error("it is of the trust domain {0:?}, not of this mesh's")]
    OtherDomain(String),
    /// It is valid, but not who is expected there.
    #[error("its certificate is valid, but it is not who is expected there")]
    Unexpected,
    /// Anything else that chain verification finds.
    #[error("its certificate is not valid ({0})")]
    Invalid(String),
}

impl PeerFault {
    /// The reason that is shown.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Unexpected => Reason::PeerUnexpected,
            Self::NoCertificate
            | Self::Unreadable(_)
            | Self::NoUri
            | Self::SeveralUris
            | Self::NotSpiffe
            | Self::Expired { .. }
            | Self::NotYetValid { .. }
            | Self::SelfSigned
            | Self::UnknownRoot { .. }
            | Self::OldRoot { .. }
            | Self::Purpose(_)
            | Self::OtherDomain(_)
            | Self::Invalid(_) => Reason::PeerUnverified,
        }
    }

    /// The refusal: who presented what, what was expected, and what is wrong with it.
    pub(crate) fn refuse(&self, role: Role, presented: &str, expected: &Expected) -> Refused {
        Refused {
            reason: self.reason(),
            detail: format!("the {role} presented {presented}, expected {expected}: {self}"),
        }
    }
}

/// Who may be at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Anybody of the trust domain.
    Anybody(Arc<str>),
    /// One of these, of the trust domain.
    OneOf(Arc<str>, Arc<[SpiffeId]>),
}

impl Expected {
    /// # Errors
    /// `identity` is of another domain, or none of those.
    pub(crate) fn check(&self, identity: &SpiffeId) -> Result<(), PeerFault> {
        let (Self::Anybody(domain) | Self::OneOf(domain, _)) = self;
        if identity.trust_domain() != &**domain {
            return Err(PeerFault::OtherDomain(identity.trust_domain().to_owned()));
        }
        match self {
            Self::OneOf(_, identities) if !identities.contains(identity) => {
                Err(PeerFault::Unexpected)
            }
            Self::Anybody(_) | Self::OneOf(..) => Ok(()),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anybody(domain) => write!(f, "any identity of spiffe://{domain}"),
            Self::OneOf(_, identities) => match &**identities {
                [] => f.write_str("nobody (discovery allows no identity there)"),
                [identity] => identity.fmt(f),
                [first, rest @ ..] => {
                    write!(f, "one of {first}")?;
                    rest.iter().try_for_each(|identity| write!(f, ", {identity}"))
                }
            },
        }
    }
}

/// A time since the epoch as people write it, in UTC.
pub(crate) fn at(since_epoch: Duration) -> String {
    i64::try_from(since_epoch.as_secs())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{} s after 1970", since_epoch.as_secs()))
}
