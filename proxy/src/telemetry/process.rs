//! Metrics of the process itself: handshakes and certificate, accepted connections, kept connections.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::{MetricType, counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::Direction;
use crate::{identity::Identity, reason::Reason};

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Of handshakes between sidecars.
#[derive(Debug, Default)]
pub struct TlsMetrics {
    handshakes: Family<Labels<3>, Counter>,
}

impl TlsMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let help =
            "Handshakes between sidecars, by kind (full, resumed) and result (ok, or the reason)";
        registry.register("tls_handshakes", help, new.handshakes.clone());
        new
    }

    /// A handshake ended.
    pub fn handshake(&self, direction: Direction, resumed: bool, result: Result<(), Reason>) {
        let kind = if resumed { "resumed" } else { "full" };
        let result = result.map_or_else(Reason::code, |()| "ok");
        let labels = [("direction", direction.as_str()), ("kind", kind), ("result", result)];
        self.handshakes.get_or_create(&labels).inc();
    }
}

/// Of this proxy's certificate: asked of the identity when the metrics are read.
#[derive(Debug, Clone, Default)]
pub(super) struct CertificateMetrics(Arc<OnceLock<Identity>>);

impl CertificateMetrics {
    /// Tells whose certificate it is; the first word counts.
    pub(super) fn follow(&self, identity: Identity) {
        let _ = self.0.set(identity);
    }
}

impl Collector for CertificateMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Some(status) = self.0.get().map(Identity::status) else { return Ok(()) };
        let help = "When this proxy's certificate expires, in Unix time; 0 without one";
        let expiry = status.not_after.map_or(0, |not_after| not_after.as_secs());
        encoder
            .encode_descriptor(
                "certificate_expiry_timestamp",
                help,
                Some(&Unit::Seconds),
                MetricType::Gauge,
            )?
            .encode_gauge(&expiry)?;
        let help = "Attempts to get or renew the certificate, by result (ok, failed)";
        let mut family =
            encoder.encode_descriptor("certificate_renewals", help, None, MetricType::Counter)?;
        for (result, count) in [("ok", status.issued), ("failed", status.failures)] {
            family
                .encode_family(&[("result", result)])?
                .encode_counter::<NoLabelSet, _, f64>(&count, None)?;
        }
        Ok(())
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
        let help = "Accepted connections that the proxy itself refused or ended, by reason";
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

    /// A connection of HTTP has ended: counted where the proxy itself has ended it.
    pub fn closed(&self, direction: Direction, reason: Option<Reason>) {
        if let Some(reason) = reason.filter(|reason| *reason != Reason::ConnectionLost) {
            self.refused(direction, reason);
        }
    }

    /// A connection was refused or ended, by a limit or because it may not be served (any more).
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
    opened: Counter,
    reused: Counter,
}

impl PoolMetrics {
    /// A connection was made.
    pub fn opened(&self) {
        self.opened.inc();
    }

    /// A request was sent on a connection that had carried one before.
    pub fn reused(&self) {
        self.reused.inc();
    }
}

#[derive(Debug, Default)]
pub(super) struct Pools {
    opened: Family<Labels<1>, Counter>,
    reused: Family<Labels<1>, Counter>,
}

impl Pools {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let help = "Connections made to endpoints";
        registry.register("pool_connections_opened", help, new.opened.clone());
        let help = "Requests that were sent on a kept connection";
        registry.register("pool_connections_reused", help, new.reused.clone());
        new
    }

    pub(super) fn handle(&self, protocol: PoolProtocol) -> PoolMetrics {
        let labels = [("protocol", protocol.as_str())];
        PoolMetrics {
            opened: self.opened.get_or_create(&labels).clone(),
            reused: self.reused.get_or_create(&labels).clone(),
        }
    }
}
