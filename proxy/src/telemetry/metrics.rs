//! The metrics of the process, and the handles that the data path holds.

use std::{sync::Arc, time::Duration};

use crate::reason::Reason;

/// Which way traffic goes, seen from the local application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the mesh to the application.
    Inbound,
    /// From the application to the mesh.
    Outbound,
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

/// All metrics of the process.
#[derive(Debug, Clone)]
pub struct Metrics {}

impl Metrics {
    /// The handle for one direction of one service (`label`), made once and kept by the snapshot's user.
    #[must_use]
    pub fn traffic(&self, _direction: Direction, _label: &str) -> Arc<TrafficMetrics> {
        Arc::new(TrafficMetrics {})
    }

    /// A connection was refused before it belonged to a service.
    pub fn connection_refused(&self, _direction: Direction, _reason: Reason) {}
}

/// The counters of one direction of one service.
#[derive(Debug)]
pub struct TrafficMetrics {}

impl TrafficMetrics {
    /// One request ended.
    pub fn request(&self, _outcome: &RequestOutcome) {}
    /// A connection opened (opaque, or a client's).
    pub fn connection_opened(&self, _tls: TlsState) {}
    /// It ended.
    pub fn connection_closed(
        &self,
        _tls: TlsState,
        _reason: Option<Reason>,
        _received: u64,
        _sent: u64,
    ) {
    }
    /// Another attempt was made for a request.
    pub fn retried(&self, _reason: Reason) {}
}
