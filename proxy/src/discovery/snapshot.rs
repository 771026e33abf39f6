//! The compiled, immutable form of what discovery said: what one request sees from start to end.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use rustls_pki_types::CertificateDer;
use weft_proto::{Port, ServicePort, SpiffeId, TrustDomain, WorkloadName, discovery::Protocol};

use super::{EndpointBreaker, External, ServiceBreaking};
use crate::{
    balance::Plan,
    policy::{
        RequestPolicy, authz::Access, breaker::BreakerSettings, budget::Budget,
        concurrency::Concurrency, gate::Gate, limits::ServiceLimits, rate_limit::RateLimits,
    },
    route::Routes,
};

/// What a destination stands for.
#[derive(Debug, Clone, Default)]
pub enum Resolution {
    /// The control plane has not answered yet.
    #[default]
    Pending,
    /// A service port, or one workload dialled by its address (then with one endpoint).
    Mesh(Arc<Destination>),
    /// In the mesh's domain, but nobody's.
    NotFound,
    /// Nobody's: passes through, where the mesh lets traffic out.
    Outside,
}

/// A service port with its endpoints.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The service port; `None` for a workload that belongs to no service.
    pub service: Option<ServicePort>,
    /// What telemetry calls it: the service port's text, or the address.
    pub label: Arc<str>,
    /// The protocol that the service declares; `Unspecified` to detect it.
    pub protocol: Protocol,
    /// Where requests to it go; `None`: to its own endpoints.
    pub routes: Option<Arc<Routes>>,
    /// Ready endpoints. Those known to an earlier snapshot keep their [`EndpointHealth`].
    pub endpoints: Vec<Arc<Endpoint>>,
    /// How one of them is chosen; `None` for the default.
    pub balancing: Option<Arc<Plan>>,
    /// Its endpoints are hosts outside the mesh, found by DNS; `None` for those of the mesh.
    pub external: Option<Arc<External>>,
    /// What holds for requests to it that no rule of a route says otherwise of.
    pub requests: Arc<RequestPolicy>,
    /// When its endpoints are left alone; `None` for never, but a moment after connections to one failed.
    pub breaking: Option<Arc<BreakerSettings>>,
    /// How many requests and connections to it there may be; `None` where no policy says so.
    pub limits: Option<Arc<ServiceLimits>>,
    /// State that outlives this snapshot, shared by all workers.
    pub state: Arc<ServiceState>,
}

impl Destination {
    /// A destination that has no endpoints, no policies and no history.
    #[must_use]
    pub fn empty(label: Arc<str>) -> Self {
        Self {
            service: None,
            label,
            protocol: Protocol::Unspecified,
            routes: None,
            endpoints: Vec::new(),
            balancing: None,
            external: None,
            requests: Arc::default(),
            breaking: None,
            limits: None,
            state: Arc::default(),
        }
    }
}

/// What the process remembers of its requests to a service: carried from snapshot to snapshot.
#[derive(Debug, Default)]
pub struct ServiceState {
    /// How many of them may be retries.
    pub budget: Arc<Budget>,
    /// Which of its endpoints are ejected.
    pub breaking: Arc<ServiceBreaking>,
    /// Its requests in flight, where they are limited.
    pub requests: Arc<Gate>,
    /// Its connections, where they are limited.
    pub connections: Arc<Gate>,
}

impl ServiceState {
    /// The same service under a name that has endpoints of its own: its requests are counted together, but ejections are
    /// a share of these endpoints.
    #[must_use]
    pub fn of_name(&self, breaking: &Arc<ServiceBreaking>) -> Self {
        Self {
            budget: Arc::clone(&self.budget),
            breaking: Arc::clone(breaking),
            requests: Arc::clone(&self.requests),
            connections: Arc::clone(&self.connections),
        }
    }

    /// These limits hold from now on. Who waits under earlier ones that are wider now, or gone, waits no longer.
    pub fn limited_by(&self, limits: Option<&ServiceLimits>) {
        // Zero is none.
        let most = |limit: u32| if limit == 0 { u32::MAX } else { limit };
        self.requests.limit(most(limits.map_or(0, |limits| limits.max_in_flight)));
        self.connections.limit(most(limits.map_or(0, |limits| limits.max_connections)));
    }
}

/// Where one workload of a service is reached.
#[derive(Debug)]
pub struct Endpoint {
    /// Unique within the destination.
    pub id: Arc<str>,
    /// What to dial.
    pub address: SocketAddr,
    /// The application's port there.
    pub app_port: Port,
    /// How to dial it.
    pub transport: Transport,
    /// The zone; empty when unknown.
    pub zone: Arc<str>,
    /// The workload's labels.
    pub labels: BTreeMap<String, String>,
    /// The workload.
    pub workload: Option<WorkloadName>,
    /// An address of the other family at which the same host may be reached, where the first does not answer soon.
    pub alternate: Option<SocketAddr>,
    /// State that outlives this snapshot, shared by all workers.
    pub health: Arc<EndpointHealth>,
}

/// How an endpoint is dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// Mutual TLS; one of these identities must be presented.
    Mesh(Arc<[SpiffeId]>),
    /// No sidecar there: plain TCP.
    Plain,
}

/// What the process has learnt about an endpoint: carried from snapshot to snapshot.
#[derive(Debug, Default)]
pub struct EndpointHealth {
    /// Milliseconds on the process's monotonic clock (see the balancer) until which the endpoint is skipped.
    skip_until_ms: AtomicU64,
    /// Connect failures in a row.
    failures: AtomicU32,
    /// Until when, on the same clock, it is left alone because it asked for that.
    cool_until_ms: AtomicU64,
    /// When, on the same clock, it came; zero when it was there from the start.
    arrived_ms: AtomicU64,
    /// Requests of the whole process in flight; counted where a policy needs it only.
    in_flight: AtomicU32,
    /// Whether it is ejected, where a policy watches its requests.
    pub breaker: EndpointBreaker,
}

impl EndpointHealth {
    /// Whether connects failed so recently that the endpoint is to be skipped at this time.
    #[must_use]
    pub fn in_backoff(&self, now_ms: u64) -> bool {
        now_ms < self.skip_until_ms.load(Ordering::Relaxed)
    }

    /// Notes a failed connect: skip for `backoff_ms`, doubled with each failure in a row, 30 s at most.
    pub fn connect_failed(&self, now_ms: u64, backoff_ms: u64) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed);
        let backoff = backoff_ms.saturating_mul(1 << failures.min(16)).min(30_000);
        self.skip_until_ms.store(now_ms.saturating_add(backoff), Ordering::Relaxed);
    }

    /// Leaves the endpoint alone until then.
    pub fn cool_until(&self, until_ms: u64) {
        self.cool_until_ms.fetch_max(until_ms, Ordering::Relaxed);
    }

    /// Whether it is left alone at this time.
    #[must_use]
    pub fn is_cooling(&self, now_ms: u64) -> bool {
        now_ms < self.cool_until_ms.load(Ordering::Relaxed)
    }

    /// Notes that the endpoint came now, to a service that was known already.
    pub fn arrived(&self, now_ms: u64) {
        self.arrived_ms.store(now_ms.max(1), Ordering::Relaxed);
    }

    /// How old it is; `None` when it was there from the start.
    #[must_use]
    pub fn age_ms(&self, now_ms: u64) -> Option<u64> {
        match self.arrived_ms.load(Ordering::Relaxed) {
            0 => None,
            arrived => Some(now_ms.saturating_sub(arrived)),
        }
    }

    /// One more request in flight.
    pub fn request_began(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn request_ended(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Requests of the whole process in flight, where they are counted.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Notes a connection that was made.
    pub fn connected(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.skip_until_ms.store(0, Ordering::Relaxed);
        }
    }
}

/// What could be in the mesh.
#[derive(Debug, Clone)]
pub struct MeshScope {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// Ranges of addresses, each with the length of its prefix.
    pub ranges: Vec<(std::net::IpAddr, u8)>,
    /// Suffixes of names, without a leading dot.
    pub suffixes: Vec<String>,
    /// The mesh's namespaces.
    pub namespaces: Vec<String>,
    /// What lies outside, and who may go there.
    pub outside: OutsideScope,
}

/// What the mesh knows of hosts outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutsideScope {
    /// Those that somebody registers, in lower case: a name, an address, or "*." and a suffix.
    pub hosts: Vec<String>,
    /// The ports that they listen on; none when that is not known.
    pub ports: Vec<u16>,
    /// Traffic to where nobody is registered is refused; else it goes out as it is.
    pub registered_only: bool,
}

/// The roots that certificates of the trust domain are verified against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// X.509 roots, each parsed once to see that it is one. Several while a root is being rotated.
    pub roots: Vec<CertificateDer<'static>>,
}

/// What this workload serves.
#[derive(Debug, Default)]
pub struct InboundPorts {
    /// By the application's port.
    pub ports: BTreeMap<Port, InboundPort>,
    /// How every other port is served; `None` for not at all.
    pub others: Option<InboundPort>,
}

impl InboundPorts {
    /// How a port is served, listed or not; `None` for not at all.
    #[must_use]
    pub fn port(&self, port: Port) -> Option<&InboundPort> {
        self.ports.get(&port).or(self.others.as_ref())
    }

    /// These hold no longer, but `next` do. Who waits under a limit that is wider there, or gone, waits no longer.
    pub fn followed_by(&self, next: &Self) {
        let listed = self.ports.iter().map(|(number, port)| (port, next.ports.get(number)));
        let others = self.others.iter().map(|port| (port, next.others.as_ref()));
        for (before, after) in listed.chain(others) {
            let Some(before) = &before.concurrency else { continue };
            let after = after.and_then(|port| port.concurrency.as_ref());
            before.gate.limit(after.map_or(u32::MAX, |after| after.max_in_flight));
        }
    }
}

/// One port that this workload serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundPort {
    /// The declared protocol; `Unspecified` to detect it.
    pub protocol: Protocol,
    /// Mutual TLS from the mesh only.
    pub strict: bool,
    /// The service port that this serves, for telemetry.
    pub service: Option<ServicePort>,
    /// What telemetry calls it.
    pub label: Arc<str>,
    /// Who may do what here; `None` for everybody everything.
    pub access: Option<Arc<Access>>,
    /// How many requests are let in; `None` for any number.
    pub rate_limits: Option<Arc<RateLimits>>,
    /// How many requests the application is given at once; `None` for any number.
    pub concurrency: Option<Arc<Concurrency>>,
}

impl InboundPort {
    /// A port of this protocol that takes mutual TLS only, without further policy.
    #[must_use]
    pub const fn plain(protocol: Protocol, label: Arc<str>) -> Self {
        Self {
            protocol,
            strict: true,
            service: None,
            label,
            access: None,
            rate_limits: None,
            concurrency: None,
        }
    }
}
