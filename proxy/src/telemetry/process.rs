//! Metrics of the process itself: handshakes and certificate, accepted connections, kept connections.

use std::time::Duration;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::Direction;
use crate::reason::Reason;

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Of handshakes between sidecars, and of this proxy's certificate.
#[derive(Debug, Default)]
pub struct TlsMetrics {
    handshakes: Family<Labels<3>, Counter>,
    certificate_expiry: Gauge,
    renewals: Family<Labels<1>, Counter>,
}

impl TlsMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let help =
            "Handshakes between sidecars, by kind (full, resumed) and result (ok, or the reason)";
        registry.register("tls_handshakes", help, new.handshakes.clone());
        let help = "When this proxy's certificate expires, in Unix time; 0 without one";
        let unit = Unit::Seconds;
        let expiry = new.certificate_expiry.clone();
        registry.register_with_unit("certificate_expiry_timestamp", help, unit, expiry);
        let help = "Attempts to get or renew the certificate, by result (ok, failed)";
        registry.register("certificate_renewals", help, new.renewals.clone());
        new
    }

    /// A handshake ended.
    pub fn handshake(&self, direction: Direction, resumed: bool, result: Result<(), Reason>) {
        let kind = if resumed { "resumed" } else { "full" };
        let result = result.map_or_else(Reason::code, |()| "ok");
        let labels = [("direction", direction.as_str()), ("kind", kind), ("result", result)];
        self.handshakes.get_or_create(&labels).inc();
    }

    /// A certificate is in force until this time after the Unix epoch.
    pub fn certificate_expires(&self, since_epoch: Duration) {
        self.certificate_expiry.set(i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX));
    }

    /// An attempt to get or renew the certificate ended.
    pub fn renewal(&self, succeeded: bool) {
        let result = if succeeded { "ok" } else { "failed" };
        self.renewals.get_or_create(&[("result", result)]).inc();
    }
}

/// Of connections accepted by this proxy.
#[derive(Debug, Default)]
pub struct ListenerMetrics {
    open: Family<Labels<1>, Gauge>,
    refused: Family<Labels<2>, Counter>,
}

impl ListenerMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let help = "Accepted connections that are open";
        registry.register("open_connections", help, new.open.clone());
        let help = "Accepted connections that were refused before they carried anything, by reason";
        registry.register("refused_connections", help, new.refused.clone());
        new
    }

    /// A connection was accepted: it is open until the guard is dropped.
    #[must_use]
    pub fn accepted(&self, direction: Direction) -> OpenConnection {
        let gauge = self.open.get_or_create(&[("direction", direction.as_str())]).clone();
        gauge.inc();
        OpenConnection(gauge)
    }

    /// A connection was refused, by a limit or because it may not be served.
    pub fn refused(&self, direction: Direction, reason: Reason) {
        let labels = [("direction", direction.as_str()), ("reason", reason.code())];
        self.refused.get_or_create(&labels).inc();
    }
}

/// An accepted connection; not open any more once dropped.
#[derive(Debug)]
pub struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Of spans on their way to the collector.
#[derive(Debug, Default)]
pub struct TraceMetrics(Family<Labels<1>, Counter>);

impl TraceMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let help =
            "Spans by what became of them (exported, failed, dropped because too many waited)";
        registry.register("trace_spans", help, new.0.clone());
        new
    }

    /// A batch of spans left, or could not be delivered.
    pub fn left(&self, spans: usize, delivered: bool) {
        let result = if delivered { "exported" } else { "failed" };
        self.0.get_or_create(&[("result", result)]).inc_by(spans as u64);
    }

    /// A span found no room.
    pub fn dropped(&self) {
        self.0.get_or_create(&[("result", "dropped")]).inc();
    }
}

/// What a kept connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolProtocol {
    /// HTTP/1, one request at a time.
    Http1,
    /// HTTP/2, multiplexed.
    Http2,
}

impl PoolProtocol {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
        }
    }
}

/// Of connections kept to endpoints, for one protocol. Cheap to clone; no lock, no look-up.
#[derive(Debug, Clone)]
pub struct PoolMetrics {
    connections: Gauge,
    opened: Counter,
    reused: Counter,
}

impl PoolMetrics {
    /// A connection was made.
    pub fn opened(&self) {
        self.connections.inc();
        self.opened.inc();
    }

    /// A connection ended.
    pub fn closed(&self) {
        self.connections.dec();
    }

    /// A request was sent on a connection that had carried one before.
    pub fn reused(&self) {
        self.reused.inc();
    }
}

#[derive(Debug, Default)]
pub(super) struct Pools {
    connections: Family<Labels<1>, Gauge>,
    opened: Family<Labels<1>, Counter>,
    reused: Family<Labels<1>, Counter>,
}

impl Pools {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let help = "Connections to endpoints, in use or kept";
        registry.register("pool_connections", help, new.connections.clone());
        let help = "Connections made to endpoints";
        registry.register("pool_connections_opened", help, new.opened.clone());
        let help = "Requests that were sent on a kept connection";
        registry.register("pool_connections_reused", help, new.reused.clone());
        new
    }

    pub(super) fn handle(&self, protocol: PoolProtocol) -> PoolMetrics {
        let labels = [("protocol", protocol.as_str())];
        PoolMetrics {
            connections: self.connections.get_or_create(&labels).clone(),
            opened: self.opened.get_or_create(&labels).clone(),
            reused: self.reused.get_or_create(&labels).clone(),
        }
    }
}
