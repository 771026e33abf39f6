//! The trust bundle: the roots of the trust domain, and whether a chain leads to one of them.
//!
//! Comes in: roots from the control plane, the one that signs now first; a peer's chain. Goes out: the peer's
//! identity, and from when to when it holds. Chains that were verified are remembered by their digest, so that
//! the check after a resumed handshake costs a hash and a look-up; their times are checked each time.
//!
//! A root's own dates are not looked at: a root is trusted because the control plane lists it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::digest::{Context, Digest, SHA256, digest};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    Peer, Role,
    fault::PeerFault,
    leaf::{Leaf, Validity},
    provider,
};

/// Verified chains remembered; beyond, all are forgotten. More peers than most workloads have.
const REMEMBERED: usize = 1024;

/// Roots remembered after they were rotated out, to tell an old root from an unknown one.
const RETIRED: usize = 4;

/// Roots that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// There are none.
    #[error("the trust bundle has no roots")]
    Empty,
    /// One is no certificate.
    #[error("root {index} of the trust bundle is no X.509 certificate ({problem})")]
    Root {
        /// Its place in the bundle, from 0.
        index: usize,
        /// What is wrong with it.
        problem: String,
    },
}

/// A root, told from others by its name and its key, which a new certificate for it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootId([u8; 32]);

/// The roots of the trust domain.
pub struct Bundle {
    roots: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    retired: Vec<CertificateDer<'static>>,
    verified: Mutex<HashMap<(Role, [u8; 32]), Verified>>,
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let roots: Vec<String> = self.roots.iter().map(fingerprint).collect();
        f.debug_struct("Bundle").field("roots", &roots).finish_non_exhaustive()
    }
}

/// A peer whose chain leads to a root.
#[derive(Debug, Clone)]
struct Verified {
    peer: Peer,
    /// When all certificates of the chain hold.
    validity: Validity,
}

impl RootId {
    fn of(anchor: &TrustAnchor<'_>) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&anchor.subject);
        context.update(&anchor.subject_public_key_info);
        Self(bytes_of(&context.finish()))
    }
}

impl Bundle {
    /// Roots in DER, the one that signs now first.
    ///
    /// # Errors
    /// There are none, or one is no certificate.
    pub fn new(roots: Vec<CertificateDer<'static>>) -> Result<Self, BundleError> {
        if roots.is_empty() {
            return Err(BundleError::Empty);
        }
        let anchors = roots
            .iter()
            .enumerate()
            .map(|(index, root)| {
                anchor(root).map_err(|problem| BundleError::Root { index, problem })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { roots, anchors, retired: Vec::new(), verified: Mutex::default() })
    }

    /// The bundle that comes after this one.
    ///
    /// # Errors
    /// As [`Bundle::new`].
    pub fn succeeded_by(&self, roots: Vec<CertificateDer<'static>>) -> Result<Self, BundleError> {
        let mut next = Self::new(roots)?;
        let gone = self.roots.iter().chain(&self.retired).filter(|root| !next.roots.contains(root));
        next.retired = gone.take(RETIRED).cloned().collect();
        Ok(next)
    }

    /// The roots, DER, the one that signs now first.
    #[must_use]
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// Whether a root is trusted.
    #[must_use]
    pub fn trusts(&self, root: RootId) -> bool {
        self.anchors.iter().any(|anchor| RootId::of(anchor) == root)
    }

    /// Whether these are the same roots in the same order.
    #[must_use]
    pub fn has_roots(&self, roots: &[CertificateDer<'_>]) -> bool {
        self.roots == roots
    }

    /// Whether the root that signs now issued this chain (leaf first).
    #[must_use]
    pub fn newest_root_issued(&self, chain: &[CertificateDer<'_>]) -> bool {
        let [newest, ..] = self.anchors.as_slice() else { return false };
        leads_to(chain, std::slice::from_ref(newest))
    }

    /// Verifies a peer's chain, leaf first.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        role: Role,
        now: Duration,
    ) -> Result<Peer, PeerFault> {
        let key = (role, digest_of(chain));
        let known = self.remembered().get(&key).cloned();
        let verified = match known {
            Some(verified) => verified,
            None => {
                let verified = self.verify_anew(chain, role, now)?;
                let mut remembered = self.remembered();
                if remembered.len() >= REMEMBERED {
                    remembered.clear();
                }
                remembered.insert(key, verified.clone());
                verified
            }
        };
        verified.validity.check(now)?;
        Ok(verified.peer)
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<(Role, [u8; 32]), Verified>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn verify_anew(
        &self,
        chain: &[CertificateDer<'_>],
        role: Role,
        now: Duration,
    ) -> Result<Verified, PeerFault> {
        let [first, intermediates @ ..] = chain else { return Err(PeerFault::NoCertificate) };
        let leaf = Leaf::parse(first)?;
        let end_entity = EndEntityCert::try_from(first)
            .map_err(|error| PeerFault::Unreadable(error.to_string()))?;
        let (usage, is_for_it) = match role {
            Role::Server => (KeyUsage::server_auth(), leaf.for_servers),
            Role::Client => (KeyUsage::client_auth(), leaf.for_clients),
        };
        let path = end_entity
            .verify_for_usage(
                provider::algorithms().all,
                &self.anchors,
                intermediates,
                UnixTime::since_unix_epoch(now),
                usage,
                None,
                None,
            )
            .map_err(|error| self.explain(&error, chain, &leaf, role, now))?;
        let mut validity = leaf.validity;
        for intermediate in path.intermediate_certificates() {
            let der = intermediate.der();
            let (_, certificate) = X509Certificate::from_der(&der)
                .map_err(|error| PeerFault::Unreadable(error.to_string()))?;
            validity = validity.intersect(Validity::of(&certificate));
        }
        if !is_for_it {
            return Err(PeerFault::Purpose(role));
        }
        let root = RootId::of(path.anchor());
        Ok(Verified { peer: Peer { identity: leaf.identity?, root }, validity })
    }

    /// What webpki found, in the words of an operator.
    fn explain(
        &self,
        error: &webpki::Error,
        chain: &[CertificateDer<'_>],
        leaf: &Leaf,
        role: Role,
        now: Duration,
    ) -> PeerFault {
        match error {
            webpki::Error::CertExpired { not_after, .. } => {
                PeerFault::Expired { not_after: Duration::from_secs(not_after.as_secs()), now }
            }
            webpki::Error::CertNotValidYet { not_before, .. } => PeerFault::NotYetValid {
                not_before: Duration::from_secs(not_before.as_secs()),
                now,
            },
            webpki::Error::RequiredEkuNotFoundContext(_) | webpki::Error::EmptyEkuExtension => {
                PeerFault::Purpose(role)
            }
            webpki::Error::UnknownIssuer
            | webpki::Error::InvalidSignatureForPublicKey
            | webpki::Error::CaUsedAsEndEntity => {
                let issuer = leaf.issuer.clone();
                if leaf.self_issued {
                    PeerFault::SelfSigned
                } else if self.retired_root_issued(chain) {
                    PeerFault::OldRoot { issuer }
                } else if *error == webpki::Error::CaUsedAsEndEntity {
                    PeerFault::Invalid(error.to_string())
                } else {
                    PeerFault::UnknownRoot { issuer }
                }
            }
            other => PeerFault::Invalid(other.to_string()),
        }
    }

    fn retired_root_issued(&self, chain: &[CertificateDer<'_>]) -> bool {
        let anchors: Vec<_> = self.retired.iter().filter_map(|root| anchor(root).ok()).collect();
        leads_to(chain, &anchors)
    }
}

/// A certificate's SHA-256, as `weft` shows it.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    weft_proto::join_token::hex(digest(&SHA256, certificate).as_ref())
}

/// Whether the chain's signatures lead to one of these roots, at the time when its leaf began to hold.
fn leads_to(chain: &[CertificateDer<'_>], anchors: &[TrustAnchor<'_>]) -> bool {
    let [first, intermediates @ ..] = chain else { return false };
    let (Ok(leaf), Ok(end_entity)) = (Leaf::parse(first), EndEntityCert::try_from(first)) else {
        return false;
    };
    let at = UnixTime::since_unix_epoch(leaf.validity.not_before);
    let algorithms = provider::algorithms().all;
    let usage = KeyUsage::client_auth();
    end_entity.verify_for_usage(algorithms, anchors, intermediates, at, usage, None, None).is_ok()
}

fn anchor(root: &CertificateDer<'_>) -> Result<TrustAnchor<'static>, String> {
    anchor_from_trusted_cert(root)
        .map(|anchor| anchor.to_owned())
        .map_err(|error| error.to_string())
}

/// SHA-256 over all certificates, each with its length, so that no two chains share one.
fn digest_of(chain: &[CertificateDer<'_>]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for certificate in chain {
        context.update(&(certificate.len() as u64).to_be_bytes());
        context.update(certificate);
    }
    bytes_of(&context.finish())
}

fn bytes_of(digest: &Digest) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

#[cfg(test)]
mod tests;
