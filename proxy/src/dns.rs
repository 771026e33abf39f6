//! DNS for destinations outside the mesh: names to addresses, with how long the answer holds.
//!
//! hickory caches by TTL and reads the system's configuration. On a machine without one, look-ups fail with a
//! clear error; addresses need none.

use std::{net::IpAddr, sync::Arc};

use hickory_resolver::TokioResolver;

use crate::{clock::Instant, error::ProxyError, reason::Reason};

/// Resolves names; cheap to clone.
#[derive(Clone)]
pub struct Resolver(Result<Arc<TokioResolver>, Arc<str>>);

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
        let built = TokioResolver::builder_tokio().and_then(|builder| builder.build());
        Self(built.map(Arc::new).map_err(|error| error.to_string().into()))
    }

    /// Resolves a host name.
    ///
    /// # Errors
    /// `destination-unresolved` when the name has no address, or DNS does not answer.
    pub async fn resolve(&self, host: &str) -> Result<Addresses, ProxyError> {
        let failed = |why: &dyn std::fmt::Display| {
            ProxyError::new(Reason::DestinationUnresolved, format!("cannot resolve {host}: {why}"))
        };
        let resolver = self.0.as_ref().map_err(|error| failed(error))?;
        let answer = resolver.lookup_ip(host).await.map_err(|error| failed(&error))?;
        let addresses: Vec<IpAddr> = answer.iter().collect();
        if addresses.is_empty() {
            return Err(failed(&"the name has no addresses"));
        }
        Ok(Addresses { addresses, valid_until: Instant::from_std(answer.valid_until()) })
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}
