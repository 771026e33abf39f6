//! The metrics of the process, and the handles that the data path holds.
//!
//! Comes in: what happened, through handles made once. Goes out: the text that `/metrics` answers. Every
//! metric stands in docs/metrics.md, which a test holds equal to what is exported here.

use std::{sync::Arc, time::Duration};

use prometheus_client::{metrics::info::Info, registry::Registry};

use super::{
    AdmissionMetrics, DiscoveryMetrics, ListenerMetrics, PoolMetrics, PoolProtocol, TlsMetrics,
    TraceMetrics, TrafficMetrics,
    process::{CertificateMetrics, Pools},
    routes::{BackendMetrics, Backends, MirrorMetrics},
    traffic::Traffic,
};
use crate::{identity::Identity, reason::Reason};

/// Which way traffic goes, seen from the local application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From the mesh to the application.
    Inbound,
    /// From the application to the mesh.
    Outbound,
}

impl Direction {
    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// How a connection or request was protected between the sidecars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsState {
    /// Mutual TLS with verified identities.
    Mutual,
    /// The application's own TLS, passed through.
    Passthrough,
    /// Nothing.
    Plain,
}

impl TlsState {
    /// All states, in the order of their declaration.
    pub const ALL: [Self; 3] = [Self::Mutual, Self::Passthrough, Self::Plain];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mutual => "mutual",
            Self::Passthrough => "passthrough",
            Self::Plain => "plain",
        }
    }
}

/// How one request ended.
#[derive(Debug, Clone, Copy)]
pub struct RequestOutcome {
    /// The HTTP status sent.
    pub status: u16,
    /// gRPC's status from headers or trailers, for gRPC requests.
    pub grpc_status: Option<u8>,
    /// Set when the proxy itself ended it.
    pub reason: Option<Reason>,
    /// From the request's head to the response's end.
    pub duration: Duration,
    /// How it travelled.
    pub tls: TlsState,
}

/// All metrics of the process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    traffic: Arc<Traffic>,
    discovery: Arc<DiscoveryMetrics>,
    tls: Arc<TlsMetrics>,
    listeners: Arc<ListenerMetrics>,
    certificate: CertificateMetrics,
    pools: Pools,
    traces: Arc<TraceMetrics>,
    backends: Arc<Backends>,
    mirrors: MirrorMetrics,
    admission: Arc<AdmissionMetrics>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// New metrics, all zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("weft");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The proxy's build", version);
        let traffic = Arc::new(Traffic::default());
        registry.register_collector(Box::new(Arc::clone(&traffic)));
        let backends = Arc::new(Backends::default());
        registry.register_collector(Box::new(Arc::clone(&backends)));
        let certificate = CertificateMetrics::default();
        registry.register_collector(Box::new(certificate.clone()));
        let inner = Inner {
            certificate,
            traffic,
            discovery: Arc::new(DiscoveryMetrics::register(&mut registry)),
            tls: Arc::new(TlsMetrics::register(&mut registry)),
            listeners: Arc::new(ListenerMetrics::register(&mut registry)),
            pools: Pools::register(&mut registry),
            traces: Arc::new(TraceMetrics::register(&mut registry)),
            backends,
            mirrors: MirrorMetrics::register(&mut registry),
            admission: Arc::new(AdmissionMetrics::register(&mut registry)),
            registry,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The handle for one direction of one service (`label`), made once and kept by the snapshot's user.
    #[must_use]
    pub fn traffic(&self, direction: Direction, label: &str) -> Arc<TrafficMetrics> {
        self.inner.traffic.handle(direction, label)
    }

    /// Of the stream to the control plane.
    #[must_use]
    pub fn discovery(&self) -> Arc<DiscoveryMetrics> {
        Arc::clone(&self.inner.discovery)
    }

    /// Shows this identity's certificate: when it expires, how often it was renewed.
    pub fn follow_identity(&self, identity: Identity) {
        self.inner.certificate.follow(identity);
    }

    /// Of handshakes.
    #[must_use]
    pub fn tls(&self) -> Arc<TlsMetrics> {
        Arc::clone(&self.inner.tls)
    }

    /// Of accepted connections.
    #[must_use]
    pub fn listeners(&self) -> Arc<ListenerMetrics> {
        Arc::clone(&self.inner.listeners)
    }

    /// Of connections kept to endpoints.
    #[must_use]
    pub fn pool(&self, protocol: PoolProtocol) -> PoolMetrics {
        self.inner.pools.handle(protocol)
    }

    /// Of spans on their way to the collector.
    #[must_use]
    pub fn traces(&self) -> Arc<TraceMetrics> {
        Arc::clone(&self.inner.traces)
    }

    /// The handle for what a rule of a service sends to a backend, found again by these names.
    #[must_use]
    pub fn backend(
        &self,
        service: &Arc<str>,
        route: &Arc<str>,
        backend: &Arc<str>,
    ) -> Arc<BackendMetrics> {
        self.inner.backends.handle(service, route, backend)
    }

    /// Of copies of requests.
    #[must_use]
    pub fn mirrors(&self) -> MirrorMetrics {
        self.inner.mirrors.clone()
    }

    /// Of policies at the server's side.
    #[must_use]
    pub fn admission(&self) -> Arc<AdmissionMetrics> {
        Arc::clone(&self.inner.admission)
    }

    /// All metrics as OpenMetrics 1.0 text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string fails never; a collector's failure would leave the text short.
        if prometheus_client::encoding::text::encode(&mut text, &self.inner.registry).is_err() {
            tracing::error!("the metrics could not be encoded");
        }
        text
    }
}

#[cfg(test)]
mod tests;
