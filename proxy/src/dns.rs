//! DNS for destinations outside the mesh: names to addresses, with how long the answer holds.
//!
//! hickory caches by TTL and reads the system's configuration once; so it is made anew when that has changed, as on a
//! laptop that joins another network. On a machine without one, look-ups fail with a clear error; addresses need none.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use hickory_resolver::TokioResolver;

use crate::{clock::Instant, error::ProxyError, reason::Reason};

/// What the system's configuration of names is read from.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Resolves names; cheap to clone.
#[derive(Clone)]
pub struct Resolver(Arc<Mutex<Configured>>);

/// A resolver, and when the files were changed that it was made from.
struct Configured {
    resolver: Result<Arc<TokioResolver>, Arc<str>>,
    changed: [Option<SystemTime>; 2],
}

/// The addresses of a name.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// In the order of the answer, never empty.
    pub addresses: Vec<IpAddr>,
    /// Until when the answer holds.
    pub valid_until: Instant,
}

impl Resolver {
    /// A resolver under the system's configuration.
    #[must_use]
    pub fn from_system() -> Self {
        Self(Arc::new(Mutex::new(Configured::read())))
    }

    /// Under the configuration as it is now: costs two calls of stat(2) a look-up.
    fn current(&self) -> Result<Arc<TokioResolver>, Arc<str>> {
        let mut configured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if configured.changed != changes() {
            *configured = Configured::read();
        }
        configured.resolver.clone()
    }

    /// Resolves a host name.
    ///
    /// # Errors
    /// `destination-unresolved` when the name has no address, or DNS does not answer.
    pub async fn resolve(&self, host: &str) -> Result<Addresses, ProxyError> {
        let failed = |why: &dyn std::fmt::Display| {
            ProxyError::new(Reason::DestinationUnresolved, format!("cannot resolve {host}: {why}"))
        };
        let resolver = self.current().map_err(|error| failed(&error))?;
        let answer = resolver.lookup_ip(host).await.map_err(|error| failed(&error))?;
        let addresses: Vec<IpAddr> = answer.iter().collect();
        if addresses.is_empty() {
            return Err(failed(&"the name has no addresses"));
        }
        Ok(Addresses { addresses, valid_until: Instant::from_std(answer.valid_until()) })
    }
}

impl Configured {
    fn read() -> Self {
        // Before the files are read: a change meanwhile is seen at the next look-up.
        let changed = changes();
        let built = TokioResolver::builder_tokio().and_then(|builder| builder.build());
        Self { resolver: built.map(Arc::new).map_err(|error| error.to_string().into()), changed }
    }
}

fn changes() -> [Option<SystemTime>; 2] {
    FILES.map(|file| std::fs::metadata(file).and_then(|file| file.modified()).ok())
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}
