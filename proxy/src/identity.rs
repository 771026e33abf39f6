//! The live identity: the SVID in force, its key, and the roots that peers are verified against.
//!
//! Comes in: what the control plane issues, and the roots that discovery pushes. Goes out: [`Credentials`],
//! the same for all workers, replaced whole when anything changes. The key never leaves this process and never
//! touches a disk; nothing secret is logged.

pub mod control_plane;
pub mod issuer;
pub mod keeper;
pub mod key;
mod pinned;
pub mod schedule;
pub mod service_account;
mod status;
pub mod svid;
pub mod token;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use weft_proto::SpiffeId;

pub use control_plane::{ConnectError, ControlPlane};
pub use issuer::{GrpcIssuer, IssueError, Issued, Issuer, Proof};
pub use keeper::Keeper;
pub use key::{KeyError, PrivateKey};
pub use service_account::{ServiceAccount, ServiceAccountToken};
pub use status::IdentityStatus;
pub use svid::{Svid, SvidError};
pub use token::{TokenError, TokenSource};

use crate::tls::{Bundle, BundleError, Role};

/// Who we are and whom we trust, at one moment.
#[derive(Debug)]
pub struct Credentials {
    /// The certificate and its key.
    pub svid: Arc<Svid>,
    /// The roots that peers are verified against.
    pub bundle: Arc<Bundle>,
    /// Counts the bundles: a connection made under an older one is to be drained.
    pub bundle_generation: u64,
}

/// The live identity. Cheap to clone; one for the whole process.
#[derive(Debug, Clone)]
pub struct Identity {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    current: ArcSwapOption<Credentials>,
    changed: watch::Sender<Option<Arc<Credentials>>>,
    bundle_generation: AtomicU64,
    /// Discovery has pushed roots, and will push each change.
    roots_are_pushed: AtomicBool,
    record: status::Record,
}

impl Default for Identity {
    fn default() -> Self {
        let shared = Shared {
            current: ArcSwapOption::empty(),
            changed: watch::Sender::new(None),
            bundle_generation: AtomicU64::new(0),
            roots_are_pushed: AtomicBool::new(false),
            record: status::Record::default(),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Identity {
    /// What is in force; `None` before the first SVID. Costs one atomic load. An SVID may have expired.
    #[must_use]
    pub fn credentials(&self) -> Option<Arc<Credentials>> {
        self.shared.current.load_full()
    }

    /// Who we are; `None` before the first SVID.
    #[must_use]
    pub fn id(&self) -> Option<SpiffeId> {
        self.credentials().map(|credentials| credentials.svid.identity().clone())
    }

    /// The credentials, and word when they change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Option<Arc<Credentials>>> {
        self.shared.changed.subscribe()
    }

    /// Counts the bundles, from 1; 0 before the first. A connection that was made under an older one is to be
    /// drained.
    #[must_use]
    pub fn bundle_generation(&self) -> u64 {
        self.shared.bundle_generation.load(Ordering::Acquire)
    }

    /// How issuing goes, for readiness and metrics.
    #[must_use]
    pub fn status(&self) -> IdentityStatus {
        self.shared.record.status(self.credentials().as_deref())
    }

    /// Puts an SVID into force, with the roots that were issued with it (the one that signs first).
    ///
    /// # Errors
    /// The roots cannot be used; nothing is changed.
    pub fn install(
        &self,
        svid: Svid,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<(), BundleError> {
        let svid = Arc::new(svid);
        self.replace(|old| Ok(Some((svid, self.next_bundle(old, roots)?))))
    }

    /// Like [`Identity::install`], but once discovery pushes roots, those stay as long as the SVID is good under
    /// them: the answer may be older than a push that crossed it, and the push would not come again.
    pub(crate) fn install_issued(
        &self,
        svid: Svid,
        roots: Vec<CertificateDer<'static>>,
        now: Duration,
    ) -> Result<(), BundleError> {
        let svid = Arc::new(svid);
        let pushed = self.shared.roots_are_pushed.load(Ordering::Acquire);
        self.replace(|old| match old {
            Some(credentials)
                if pushed && credentials.bundle.verify(svid.chain(), Role::Client, now).is_ok() =>
            {
                Ok(Some((svid, Arc::clone(&credentials.bundle))))
            }
            Some(_) | None => Ok(Some((svid, self.next_bundle(old, roots)?))),
        })
    }

    /// Puts the roots into force that discovery pushed (the one that signs first). Without an SVID they are
    /// dropped: the first one brings its own.
    ///
    /// # Errors
    /// The roots cannot be used; nothing is changed.
    pub fn set_bundle(&self, roots: Vec<CertificateDer<'static>>) -> Result<(), BundleError> {
        self.shared.roots_are_pushed.store(true, Ordering::Release);
        self.replace(|old| match old {
            Some(credentials) if !credentials.bundle.has_roots(&roots) => {
                Ok(Some((Arc::clone(&credentials.svid), self.next_bundle(old, roots)?)))
            }
            Some(_) | None => Ok(None),
        })
    }

    fn next_bundle(
        &self,
        old: Option<&Arc<Credentials>>,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Arc<Bundle>, BundleError> {
        match old {
            Some(credentials) if credentials.bundle.has_roots(&roots) => {
                Ok(Arc::clone(&credentials.bundle))
            }
            Some(credentials) => Ok(Arc::new(credentials.bundle.succeeded_by(roots)?)),
            None => Ok(Arc::new(Bundle::new(roots)?)),
        }
    }

    /// Replaces the credentials. Runs under the watch channel's lock, so that two changes cannot cross.
    fn replace(
        &self,
        change: impl FnOnce(
            Option<&Arc<Credentials>>,
        ) -> Result<Option<(Arc<Svid>, Arc<Bundle>)>, BundleError>,
    ) -> Result<(), BundleError> {
        let mut outcome = Ok(());
        self.shared.changed.send_if_modified(|current| {
            let (svid, bundle) = match change(current.as_ref()) {
                Ok(Some(next)) => next,
                Ok(None) => return false,
                Err(error) => {
                    outcome = Err(error);
                    return false;
                }
            };
            let same_bundle = current.as_ref().is_some_and(|old| Arc::ptr_eq(&old.bundle, &bundle));
            let bundle_generation = self.bundle_generation() + u64::from(!same_bundle);
            let next = Arc::new(Credentials { svid, bundle, bundle_generation });
            self.shared.bundle_generation.store(bundle_generation, Ordering::Release);
            self.shared.current.store(Some(Arc::clone(&next)));
            *current = Some(next);
            true
        });
        outcome
    }
}
