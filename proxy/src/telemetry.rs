//! Metrics, access log, traces and the process's own log.
//!
//! Comes in: how requests and connections ended. Goes out: counters for `/metrics`, lines, spans. Handles are
//! resolved when a snapshot is built, never per request; nothing here makes a request wait.

pub mod access;
mod admission;
mod discovery;
mod histogram;
pub mod logging;
pub mod metrics;
mod process;
mod routes;
pub mod traces;
mod traffic;

pub use access::{AccessLog, AccessRecord};
pub use admission::AdmissionMetrics;
pub use discovery::DiscoveryMetrics;
pub use metrics::{Direction, Metrics, RequestOutcome, TlsState};
pub use process::{
    ListenerMetrics, OpenConnection, PoolMetrics, PoolProtocol, TlsMetrics, TraceMetrics,
};
pub use routes::{BackendMetrics, MirrorMetrics, Mirrored};
pub use traces::Tracer;
pub use traffic::{ConnectionRecord, InFlight, Retried, TrafficMetrics};

use crate::config::TelemetrySettings;

/// Everything that the data path reports to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// Counters.
    pub metrics: Metrics,
    /// One line a request.
    pub access: AccessLog,
    /// Spans.
    pub tracer: Tracer,
}

impl Telemetry {
    /// New metrics, all zero, and an access log as set; traces are off.
    #[must_use]
    pub fn new(settings: &TelemetrySettings) -> Self {
        let access = AccessLog::new(settings.access_log);
        Self { metrics: Metrics::new(), access, tracer: Tracer::off() }
    }

    /// Writes one line of the access log, when it is switched on.
    pub fn log_access(&self, record: &AccessRecord<'_>) {
        self.access.write(record);
    }
}
