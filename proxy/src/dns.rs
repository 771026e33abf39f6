//! DNS, for destinations outside the mesh and for the control plane: names to addresses, with how long the answer
//! holds.
//!
//! Never by the C library, whose look-ups need files that a bare image does not have. The search domains of
//! /etc/resolv.conf count, with their `ndots`, and so does /etc/hosts. hickory caches by TTL and reads the system's
//! configuration once; so it is made anew when that has changed, as on a laptop that joins another network. On a
//! machine without one, look-ups fail with a clear error; addresses need none.

#[cfg(test)]
pub(crate) mod fake;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use hickory_resolver::{
    ResolverBuilder, TokioResolver,
    net::{NetError, runtime::TokioRuntimeProvider},
};

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
    source: Source,
}

/// Where the answers come from.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// The system's servers; answers are kept for as long as they hold.
    Kept,
    /// The system's servers, asked each time.
    Fresh,
    /// One server alone, asked each time.
    #[cfg(test)]
    Server(SocketAddr),
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
        Self::new(Source::Kept)
    }

    /// A resolver under the system's configuration that keeps no answers: for who asks again before an answer is too
    /// old.
    #[must_use]
    pub fn fresh() -> Self {
        Self::new(Source::Fresh)
    }

    /// A resolver that asks one server alone.
    #[cfg(test)]
    pub(crate) fn of_server(server: SocketAddr) -> Self {
        Self::new(Source::Server(server))
    }

    fn new(source: Source) -> Self {
        Self(Arc::new(Mutex::new(Configured::read(source))))
    }

    /// Under the configuration as it is now: costs two calls of stat(2) a look-up.
    fn current(&self) -> Result<Arc<TokioResolver>, Arc<str>> {
        let mut configured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if configured.changed != changes() {
            *configured = Configured::read(configured.source);
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

impl Resolver {
    /// The addresses that `HOST:PORT` stands for, in the order in which they are to be tried; never none. An address
    /// is its own.
    ///
    /// # Errors
    /// The name has no address, or DNS does not answer.
    pub async fn authority(&self, authority: &str) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = authority.parse() {
            return Ok(vec![address]);
        }
        let parts =
            authority.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = parts.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{authority:?} is not HOST:PORT"))
        })?;
        let at_port = |ip: IpAddr| SocketAddr::new(ip, port);
        // RFC 6761 6.3: nobody need be asked.
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(vec![
                at_port(Ipv4Addr::LOCALHOST.into()),
                at_port(Ipv6Addr::LOCALHOST.into()),
            ]);
        }
        let answer = self.resolve(host).await;
        let answer =
            answer.map_err(|error| io::Error::new(io::ErrorKind::NotFound, error.detail))?;
        Ok(answer.addresses.into_iter().map(at_port).collect())
    }
}

impl Source {
    fn builder(self) -> Result<ResolverBuilder<TokioRuntimeProvider>, NetError> {
        match self {
            Self::Kept => TokioResolver::builder_tokio(),
            Self::Fresh => {
                let mut builder = TokioResolver::builder_tokio()?;
                builder.options_mut().cache_size = 0;
                Ok(builder)
            }
            #[cfg(test)]
            Self::Server(server) => {
                use hickory_resolver::config::{NameServerConfig, ResolverConfig};
                let mut config = NameServerConfig::udp(server.ip());
                for connection in &mut config.connections {
                    connection.port = server.port();
                }
                let config = ResolverConfig::from_parts(None, vec![], vec![config]);
                let provider = TokioRuntimeProvider::default();
                let mut builder = TokioResolver::builder_with_config(config, provider);
                builder.options_mut().cache_size = 0;
                builder.options_mut().timeout = std::time::Duration::from_millis(500);
                Ok(builder)
            }
        }
    }
}

impl Configured {
    fn read(source: Source) -> Self {
        // Before the files are read: a change meanwhile is seen at the next look-up.
        let changed = changes();
        let built = source.builder().and_then(ResolverBuilder::build);
        let resolver = built.map(Arc::new).map_err(|error| error.to_string().into());
        Self { resolver, changed, source }
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

#[cfg(test)]
mod tests {
    use super::{fake::FakeDns, *};

    #[tokio::test]
    async fn both_families_are_found_and_the_shortest_time_to_live_holds() {
        let dns = FakeDns::start().await;
        let resolver = Resolver::of_server(dns.address);
        dns.says("api.example.com", &["192.0.2.1", "fd00::1"], 7);
        let mut answer = resolver.resolve("api.example.com").await.expect("it is there");
        answer.addresses.sort_unstable();
        assert_eq!(
            answer.addresses,
            ["192.0.2.1", "fd00::1"].map(|ip| ip.parse::<IpAddr>().expect("valid"))
        );
        let left = answer.valid_until.saturating_duration_since(crate::clock::now()).as_secs();
        assert!((5..=7).contains(&left), "{left}");

        dns.says("api.example.com", &["192.0.2.2"], 7);
        let answer = resolver.resolve("api.example.com").await.expect("it is there");
        assert_eq!(answer.addresses.len(), 1, "no answer is kept");
        let error = resolver.resolve("none.example.com").await.expect_err("nobody's");
        assert_eq!(error.reason, Reason::DestinationUnresolved);
    }

    #[tokio::test]
    async fn addresses_and_this_machine_need_no_dns() {
        let resolver = Resolver::from_system();
        for (authority, expected) in [
            ("10.0.0.1:4480", &["10.0.0.1:4480"][..]),
            ("[fd00::1]:4480", &["[fd00::1]:4480"]),
            ("localhost:4480", &["127.0.0.1:4480", "[::1]:4480"]),
        ] {
            let addresses = resolver.authority(authority).await.expect("no question");
            let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
            assert_eq!(addresses, expected);
        }
        for authority in ["localhost", "localhost:http", ""] {
            let error = resolver.authority(authority).await.expect_err("no port");
            assert_eq!(error.to_string(), format!("{authority:?} is not HOST:PORT"));
        }
    }
}
