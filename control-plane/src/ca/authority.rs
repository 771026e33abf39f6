//! The roots and what they sign.
//!
//! Comes in: checked requests with the identity that was proved; wishes to rotate. Goes out: chains, and the
//! bundle for all who watch it. Every change of the roots is on disk before it is in force. Times are
//! arguments: nothing here reads a clock.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{Issuer, KeyPair, PublicKeyData};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use weft_proto::{SpiffeId, TrustDomain, join_token::hex};

use super::{
    CaError, Issued,
    csr::Csr,
    durable::{self, Folder, Vault},
    external::{External, ExternalFiles},
    issued::Outstanding,
    root::{self, Phase, Root, StoredRoot, unix},
    svid::{self, Holder, HostNames},
};

/// Under which name its state is kept.
const NAME: &str = "authority.json";

/// How often the propagation time passes before a new root signs, acknowledged by everybody or not.
const PATIENCE: u32 = 10;

/// What the authority is told.
#[derive(Debug, Clone)]
pub struct AuthorityConfig {
    /// The trust domain of every identity.
    pub trust_domain: TrustDomain,
    /// How long an SVID lives.
    pub svid_ttl: Duration,
    /// How long a root of our own lives.
    pub root_lifetime: Duration,
    /// How long a new root is announced before it signs, at least.
    pub propagation: Duration,
    /// An authority made elsewhere, instead of a root of our own.
    pub external: Option<ExternalFiles>,
}

/// The roots of the trust domain at one moment.
#[derive(Debug)]
pub struct Bundle {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The roots; the first one signs.
    pub roots: Vec<CertificateDer<'static>>,
    /// The same, as rustls wants them.
    pub anchors: Arc<RootCertStore>,
}

impl Bundle {
    /// The roots as PEM (RFC 7468), the one that signs first.
    #[must_use]
    pub fn pem(&self) -> String {
        super::pem(&self.roots)
    }
}

/// One root, for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootStatus {
    /// SHA-256 of the certificate, hexadecimal.
    pub sha256: String,
    /// Whether it signs now.
    pub signing: bool,
    /// When it ends.
    pub not_after: SystemTime,
    /// What happens to it next.
    pub detail: String,
}

/// The certificate authority.
pub struct Authority {
    config: AuthorityConfig,
    vault: Arc<dyn Vault>,
    inner: Mutex<Inner>,
    bundle: watch::Sender<Arc<Bundle>>,
}

struct Inner {
    source: Source,
    outstanding: Outstanding,
    /// The longest life that any SVID in use may have: the setting may have been longer before.
    longest_ttl: Duration,
}

enum Source {
    Own(Vec<Root>),
    External(Box<External>),
}

/// What signs now.
struct Signer<'a> {
    issuer: &'a Issuer<'static, KeyPair>,
    /// Sent after a leaf.
    chain: Vec<CertificateDer<'static>>,
    root: [u8; 32],
    not_after: SystemTime,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StateFile {
    trust_domain: TrustDomain,
    longest_ttl_seconds: u64,
    roots: Vec<StoredRoot>,
}

impl Authority {
    /// Opens the authority of a state folder; makes its first root where there is none. Blocking.
    ///
    /// # Errors
    /// When files cannot be read, written or understood, or belong to another trust domain.
    pub fn open(folder: &Path, config: AuthorityConfig, now: SystemTime) -> Result<Self, CaError> {
        Self::open_in(Arc::new(Folder(folder.to_owned())), config, now)
    }

    /// Opens the authority wherever it is kept; makes its first root where there is none. Blocking.
    ///
    /// # Errors
    /// When its state cannot be read, written or understood, or belongs to another trust domain.
    pub fn open_in(
        vault: Arc<dyn Vault>,
        config: AuthorityConfig,
        now: SystemTime,
    ) -> Result<Self, CaError> {
        let inner = match &config.external {
            Some(files) => Inner {
                source: Source::External(Box::new(External::open(files)?)),
                outstanding: Outstanding::new(UNIX_EPOCH),
                longest_ttl: config.svid_ttl,
            },
            None => open_own(&*vault, &config, now)?,
        };
        let bundle = watch::Sender::new(Arc::new(inner.source.bundle(&config.trust_domain)?));
        Ok(Self { config, vault, inner: Mutex::new(inner), bundle })
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.config.trust_domain
    }

    /// How long an SVID lives.
    #[must_use]
    pub fn svid_ttl(&self) -> Duration {
        self.config.svid_ttl
    }

    /// The roots in force.
    #[must_use]
    pub fn bundle(&self) -> Arc<Bundle> {
        self.bundle.borrow().clone()
    }

    /// The roots in force, and their changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Bundle>> {
        self.bundle.subscribe()
    }

    /// SHA-256 of the root that signs now: what a join token pins.
    #[must_use]
    pub fn pin(&self) -> [u8; 32] {
        self.bundle.borrow().roots.first().map_or([0; 32], root::sha256)
    }

    /// Signs an SVID for an identity that was proved.
    ///
    /// # Errors
    /// When the identity is of another trust domain, or the signing certificate has ended.
    pub fn issue(
        &self,
        csr: &Csr,
        holder: &Holder<'_>,
        now: SystemTime,
    ) -> Result<Issued, CaError> {
        let mut inner = self.lock();
        let (issued, serial, root) = self.sign(&inner.source, &csr.public_key, holder, now)?;
        inner.outstanding.issued(serial, root, issued.not_after);
        inner.outstanding.sweep(now);
        Ok(issued)
    }

    /// Signs the control plane's own certificate, with the names that it is reached at. An old root does not
    /// wait for its end: it is replaced as soon as another root signs.
    pub(super) fn issue_own(
        &self,
        key: &impl PublicKeyData,
        identity: &SpiffeId,
        hosts: &HostNames,
        now: SystemTime,
    ) -> Result<Issued, CaError> {
        let holder = Holder { identity, instance: None, hosts: Some(hosts) };
        let (issued, ..) = self.sign(&self.lock().source, key, &holder, now)?;
        Ok(issued)
    }

    /// Signs a leaf; returns it with its serial number and the root that it leads to.
    fn sign(
        &self,
        source: &Source,
        key: &impl PublicKeyData,
        holder: &Holder<'_>,
        now: SystemTime,
    ) -> Result<(Issued, Vec<u8>, [u8; 32]), CaError> {
        let identity = holder.identity;
        if identity.trust_domain() != self.config.trust_domain.as_str() {
            let ours = &self.config.trust_domain;
            return Err(CaError::State(format!("{identity} is not of the trust domain {ours}")));
        }
        let signer = source.signer()?;
        let not_after = (now + self.config.svid_ttl).min(signer.not_after);
        if not_after <= now {
            return Err(CaError::State("the signing certificate has expired".into()));
        }
        let params = svid::leaf(holder, now, not_after)?;
        let leaf = params.signed_by(key, signer.issuer)?;
        let mut chain = vec![leaf.into()];
        chain.extend(signer.chain);
        let serial = params.serial_number.map(|serial| serial.to_bytes()).unwrap_or_default();
        let issued = Issued { spiffe_id: identity.clone(), chain, issued_at: now, not_after };
        Ok((issued, serial, signer.root))
    }

    /// A certificate was replaced by a newer one of the same holder.
    pub fn renewed(&self, serial: &[u8]) {
        self.lock().outstanding.renewed(serial);
    }

    /// Makes a new root and announces it; it signs later ([`Authority::advance`]). Blocking.
    ///
    /// # Errors
    /// When a root is being announced already, the authority was handed in, or the disk refuses.
    pub fn rotate_root(&self, now: SystemTime) -> Result<(), CaError> {
        let mut inner = self.lock();
        let roots = inner.source.own()?;
        if roots.iter().any(|root| matches!(root.stored.phase, Phase::Announced { .. })) {
            let message = "a new root is being announced already; wait until it signs";
            return Err(CaError::State(message.into()));
        }
        let signing = roots.iter().find(|root| root.stored.phase == Phase::Signing);
        let new = StoredRoot::generate(
            &self.config.trust_domain,
            self.config.root_lifetime,
            now,
            signing,
        )?;
        let mut stored: Vec<_> = roots.iter().map(|root| root.stored.clone()).collect();
        stored.push(new);
        self.replace(&mut inner, stored)
    }

    /// Asks for the old roots to be dropped as soon as nothing under them is in use. Blocking.
    ///
    /// # Errors
    /// When the authority was handed in, or the disk refuses.
    pub fn retire_old(&self, now: SystemTime) -> Result<(), CaError> {
        {
            let mut inner = self.lock();
            let mut stored: Vec<_> =
                inner.source.own()?.iter().map(|root| root.stored.clone()).collect();
            for root in &mut stored {
                if let Phase::Old { retire, .. } = &mut root.phase {
                    *retire = true;
                }
            }
            self.replace(&mut inner, stored)?;
        }
        self.advance(now, false).map(|_| ())
    }

    /// Takes the steps that are due: an announced root signs once it is `distributed`, an old one goes.
    /// Returns whether anything changed. Blocking.
    ///
    /// # Errors
    /// When the disk refuses; nothing has changed then.
    pub fn advance(&self, now: SystemTime, distributed: bool) -> Result<bool, CaError> {
        let mut inner = self.lock();
        let Source::Own(roots) = &inner.source else { return Ok(false) };
        let mut changed = false;
        let promote = roots.iter().any(|root| self.may_sign(&root.stored.phase, now, distributed));
        let mut stored = Vec::with_capacity(roots.len());
        for root in roots {
            let mut next = root.stored.clone();
            next.phase = match next.phase {
                Phase::Announced { .. } if promote => Phase::Signing,
                Phase::Signing if promote => {
                    Phase::Old { expired_at: unix(now + inner.longest_ttl) + 1, retire: false }
                }
                same => same,
            };
            changed |= next.phase != root.stored.phase;
            match next.phase {
                Phase::Old { expired_at, retire: true }
                    if unix(now) >= expired_at
                        || inner.outstanding.none_under(&root.sha256(), now) =>
                {
                    changed = true;
                }
                _ => stored.push(next),
            }
        }
        if changed {
            self.replace(&mut inner, stored)?;
        }
        Ok(changed)
    }

    /// Every root, the signing one first.
    #[must_use]
    pub fn roots(&self) -> Vec<RootStatus> {
        let inner = self.lock();
        match &inner.source {
            Source::Own(roots) => in_bundle_order(roots).map(own_status).collect(),
            Source::External(external) => external
                .roots
                .iter()
                .enumerate()
                .map(|(index, certificate)| RootStatus {
                    sha256: hex(&root::sha256(certificate)),
                    signing: index == 0,
                    not_after: root::not_after(certificate).unwrap_or(UNIX_EPOCH),
                    detail: "handed in: replace its files and restart to rotate".into(),
                })
                .collect(),
        }
    }

    /// Whether a step is to come that [`Authority::advance`] has to take.
    #[must_use]
    pub fn is_rotating(&self) -> bool {
        let inner = self.lock();
        let Source::Own(roots) = &inner.source else { return false };
        roots.iter().any(|root| {
            matches!(root.stored.phase, Phase::Announced { .. } | Phase::Old { retire: true, .. })
        })
    }

    fn may_sign(&self, phase: &Phase, now: SystemTime, distributed: bool) -> bool {
        let Phase::Announced { since } = phase else { return false };
        let age = now.duration_since(UNIX_EPOCH + Duration::from_secs(*since)).unwrap_or_default();
        let wait = self.config.propagation;
        (distributed && age >= wait) || age >= wait * PATIENCE
    }

    /// Puts other roots in force: on disk, then here, then to all who watch.
    fn replace(&self, inner: &mut Inner, stored: Vec<StoredRoot>) -> Result<(), CaError> {
        let roots = open_roots(&*self.vault, stored.clone())?;
        save(&*self.vault, &self.config.trust_domain, inner.longest_ttl, stored)?;
        inner.source = Source::Own(roots);
        self.bundle.send_replace(Arc::new(inner.source.bundle(&self.config.trust_domain)?));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing is left half done on a panic: a change is built aside and assigned at once.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    fn own(&self) -> Result<&[Root], CaError> {
        match self {
            Self::Own(roots) => Ok(roots),
            Self::External(_) => Err(CaError::State(
                "the certificate authority was handed in; replace its files and restart to rotate"
                    .into(),
            )),
        }
    }

    fn signer(&self) -> Result<Signer<'_>, CaError> {
        match self {
            Self::Own(roots) => {
                let signing = roots
                    .iter()
                    .find(|root| root.stored.phase == Phase::Signing)
                    .ok_or_else(|| CaError::State("no root is in force".into()))?;
                let old = roots.iter().any(|root| matches!(root.stored.phase, Phase::Old { .. }));
                Ok(Signer {
                    issuer: &signing.issuer,
                    chain: signing.cross.iter().filter(|_| old).cloned().collect(),
                    root: signing.sha256(),
                    not_after: signing.not_after,
                })
            }
            Self::External(external) => Ok(Signer {
                issuer: &external.issuer,
                chain: external.intermediates.clone(),
                root: external.roots.first().map_or([0; 32], root::sha256),
                not_after: external.not_after,
            }),
        }
    }

    fn bundle(&self, trust_domain: &TrustDomain) -> Result<Bundle, CaError> {
        let roots: Vec<_> = match self {
            Self::Own(roots) => {
                in_bundle_order(roots).map(|root| root.certificate.clone()).collect()
            }
            Self::External(external) => external.roots.clone(),
        };
        let mut anchors = RootCertStore::empty();
        for root in &roots {
            anchors.add(root.clone())?;
        }
        Ok(Bundle { trust_domain: trust_domain.clone(), roots, anchors: Arc::new(anchors) })
    }
}

/// The signing root first, then the others as they came.
fn in_bundle_order(roots: &[Root]) -> impl Iterator<Item = &Root> {
    let signs = |root: &&Root| root.stored.phase == Phase::Signing;
    roots.iter().filter(signs).chain(roots.iter().filter(move |root| !signs(root)))
}

fn own_status(root: &Root) -> RootStatus {
    let detail = match &root.stored.phase {
        Phase::Announced { .. } => "announced: signs once every proxy has it".into(),
        Phase::Signing => "signs".into(),
        Phase::Old { retire: false, .. } => "trusted until `retire-old` drops it".into(),
        Phase::Old { expired_at, retire: true } => format!(
            "goes when the SVIDs under it are renewed, at Unix time {expired_at} at the latest"
        ),
    };
    RootStatus {
        sha256: hex(&root.sha256()),
        signing: root.stored.phase == Phase::Signing,
        not_after: root.not_after,
        detail,
    }
}

fn open_own(
    vault: &dyn Vault,
    config: &AuthorityConfig,
    now: SystemTime,
) -> Result<Inner, CaError> {
    let (state, known_from, is_new) = match durable::read::<StateFile>(vault, NAME)? {
        Some(state) => {
            let longest = config.svid_ttl.max(Duration::from_secs(state.longest_ttl_seconds));
            (state, now + longest, false)
        }
        None => (first_state(config, now)?, UNIX_EPOCH, true),
    };
    if state.trust_domain != config.trust_domain {
        let why = format!(
            "belongs to the trust domain {0}, not {1}: give --trust-domain {0}, or begin with no state",
            state.trust_domain, config.trust_domain
        );
        return Err(CaError::Content { path: vault.place(NAME).into(), why });
    }
    let longest_ttl = config.svid_ttl.max(Duration::from_secs(state.longest_ttl_seconds));
    // What is so already is not written: a full disk keeps nobody from starting.
    if is_new || whole_seconds(longest_ttl) != state.longest_ttl_seconds {
        save(vault, &config.trust_domain, longest_ttl, state.roots.clone())?;
    }
    let roots = open_roots(vault, state.roots)?;
    Ok(Inner { source: Source::Own(roots), outstanding: Outstanding::new(known_from), longest_ttl })
}

fn first_state(config: &AuthorityConfig, now: SystemTime) -> Result<StateFile, CaError> {
    let root = StoredRoot::generate(&config.trust_domain, config.root_lifetime, now, None)?;
    Ok(StateFile {
        trust_domain: config.trust_domain.clone(),
        longest_ttl_seconds: 0,
        roots: vec![root],
    })
}

fn open_roots(vault: &dyn Vault, stored: Vec<StoredRoot>) -> Result<Vec<Root>, CaError> {
    let content = |why| CaError::Content { path: vault.place(NAME).into(), why };
    stored.into_iter().map(|root| root.open().map_err(content)).collect()
}

fn save(
    vault: &dyn Vault,
    trust_domain: &TrustDomain,
    longest_ttl: Duration,
    roots: Vec<StoredRoot>,
) -> Result<(), CaError> {
    let longest_ttl_seconds = whole_seconds(longest_ttl);
    durable::write(
        vault,
        NAME,
        &StateFile { trust_domain: trust_domain.clone(), longest_ttl_seconds, roots },
    )
}

/// Rounded up.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests;
