//! One SVID: the certificate chain that the control plane issued for our key, and what it says.

use std::{sync::Arc, time::Duration};

use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use weft_proto::SpiffeId;

use super::key::PrivateKey;
use crate::tls::{
    PeerFault,
    fault::at,
    leaf::{Leaf, Validity},
};

/// A certificate with its key. Not changed once made; a renewal makes another.
#[derive(Debug)]
pub struct Svid {
    identity: SpiffeId,
    certified: Arc<CertifiedKey>,
    validity: Validity,
}

/// An SVID that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// The chain does not begin with a certificate that has one SPIFFE ID.
    #[error("the issued certificate is not an SVID: {0}")]
    Certificate(#[from] PeerFault),
    /// It was issued for another key.
    #[error("the issued certificate is for another key than the one asked for")]
    Key,
}

impl Svid {
    /// Joins a chain (leaf first) with the key that it was issued for.
    ///
    /// # Errors
    /// It is no SVID, or not that key's.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKey) -> Result<Self, SvidError> {
        let leaf = Leaf::parse(chain.first().ok_or(PeerFault::NoCertificate)?)?;
        let certified = CertifiedKey::new(chain, Arc::new(key));
        certified.keys_match().map_err(|_| SvidError::Key)?;
        Ok(Self {
            identity: leaf.identity?,
            certified: Arc::new(certified),
            validity: leaf.validity,
        })
    }

    /// Who we are.
    #[must_use]
    pub const fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// The chain, DER, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// When it begins to hold, since the Unix epoch.
    #[must_use]
    pub const fn not_before(&self) -> Duration {
        self.validity.not_before
    }

    /// The last second in which it holds, since the Unix epoch.
    #[must_use]
    pub const fn not_after(&self) -> Duration {
        self.validity.not_after
    }

    /// Whether it holds at this time since the Unix epoch.
    #[must_use]
    pub fn holds_at(&self, now: Duration) -> bool {
        self.validity.check(now).is_ok()
    }

    /// For rustls.
    pub(crate) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// What we present, for a person who asks why a peer refused it.
    pub(crate) fn describe(&self) -> String {
        let issuer = self.chain().first().and_then(|leaf| Leaf::parse(leaf).ok());
        let issuer = issuer.map(|leaf| leaf.issuer).unwrap_or_default();
        let (from, to) = (at(self.not_before()), at(self.not_after()));
        format!("{} (valid from {from} to {to}, issuer {issuer:?})", self.identity)
    }
}
