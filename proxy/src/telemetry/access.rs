//! The access log: one line for every request and every opaque connection, when switched on.
//!
//! Comes in: a record that the exchange filled. Goes out: an event of `tracing`, target `weft::access`, as text
//! or JSON like every other line. Paths are logged without their query, which may hold secrets.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use weft_proto::SpiffeId;

use super::{Direction, TlsState};
use crate::reason::Reason;

/// The target of the access log's events.
pub const TARGET: &str = "weft::access";

/// How one request or opaque connection went.
#[derive(Debug, Clone)]
pub struct AccessRecord<'a> {
    /// Which way it went.
    pub direction: Direction,
    /// What was spoken: "http/1.1", "h2", "grpc", "tcp", "tls", …
    pub protocol: &'a str,
    /// The service port that was called, as in the metrics.
    pub service: &'a str,
    /// The rule of a route that took it.
    pub route: Option<&'a str>,
    /// The service port that the rule sent it to.
    pub backend: Option<&'a str>,
    /// Who called, verified.
    pub client: Option<&'a SpiffeId>,
    /// Where the connection came from.
    pub client_address: Option<SocketAddr>,
    /// The request's method.
    pub method: Option<&'a str>,
    /// The request's authority.
    pub authority: Option<&'a str>,
    /// The request's path; a query is cut off.
    pub path: Option<&'a str>,
    /// The HTTP status sent.
    pub status: Option<u16>,
    /// gRPC's status.
    pub grpc_status: Option<u8>,
    /// Why the proxy itself ended it.
    pub reason: Option<Reason>,
    /// What exactly happened then.
    pub detail: Option<&'a str>,
    /// From the request's head, or the accept, to the end.
    pub duration: Duration,
    /// Bytes of bodies, or of the connection, from the client.
    pub received: u64,
    /// Bytes of bodies, or of the connection, to the client.
    pub sent: u64,
    /// How many attempts were made.
    pub attempts: u32,
    /// Which attempt of the caller's sidecar this was, above the first.
    pub attempt: Option<u32>,
    /// The endpoint of the last attempt.
    pub endpoint: Option<SocketAddr>,
    /// How it was protected between the sidecars.
    pub tls: TlsState,
    /// The trace that it belongs to, 32 hexadecimal digits.
    pub trace_id: Option<&'a str>,
}

impl<'a> AccessRecord<'a> {
    /// A record of nothing yet, to be filled.
    #[must_use]
    pub fn new(direction: Direction, protocol: &'a str, service: &'a str) -> Self {
        Self {
            direction,
            protocol,
            service,
            route: None,
            backend: None,
            client: None,
            client_address: None,
            method: None,
            authority: None,
            path: None,
            status: None,
            grpc_status: None,
            reason: None,
            detail: None,
            duration: Duration::ZERO,
            received: 0,
            sent: 0,
            attempts: 0,
            attempt: None,
            endpoint: None,
            tls: TlsState::Plain,
            trace_id: None,
        }
    }
}

/// The switch of the access log. Cheap to clone; one for the whole process.
#[derive(Debug, Clone)]
pub struct AccessLog(Arc<AtomicBool>);

impl AccessLog {
    /// A switch, in this position.
    #[must_use]
    pub fn new(on: bool) -> Self {
        Self(Arc::new(AtomicBool::new(on)))
    }

    /// Whether lines are written: asked before a record is filled.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Switches it.
    pub fn set(&self, on: bool) {
        self.0.store(on, Relaxed);
    }

    /// Writes one line, when switched on.
    pub fn write(&self, record: &AccessRecord<'_>) {
        if !self.is_on() {
            return;
        }
        let path = record.path.map(|path| path.split_once('?').map_or(path, |(path, _)| path));
        tracing::info!(
            target: TARGET,
            direction = record.direction.as_str(),
            protocol = record.protocol,
            service = record.service,
            route = record.route,
            backend = record.backend,
            client = record.client.map(SpiffeId::as_str),
            client_address = record.client_address.map(tracing::field::display),
            method = record.method,
            authority = record.authority,
            path,
            status = record.status,
            grpc_status = record.grpc_status,
            reason = record.reason.map(Reason::code),
            detail = record.detail,
            duration_ms = millis(record.duration),
            received = record.received,
            sent = record.sent,
            attempts = record.attempts,
            attempt = record.attempt,
            endpoint = record.endpoint.map(tracing::field::display),
            tls = record.tls.as_str(),
            trace_id = record.trace_id,
        );
    }
}

/// Milliseconds with three decimals.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 microseconds, 285 years")]
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}
