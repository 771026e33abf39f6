//! Metrics, access log, traces and the process's own log.
//!
//! Comes in: how requests and connections ended. Goes out: counters for `/metrics`, lines, spans. Handles are
//! resolved when a snapshot is built, never per request; nothing here makes a request wait.

mod discovery;
mod histogram;
pub mod metrics;
mod process;
mod traffic;

pub use discovery::DiscoveryMetrics;
pub use metrics::{Direction, Metrics, RequestOutcome, TlsState};
pub use process::{ListenerMetrics, OpenConnection, PoolMetrics, PoolProtocol, TlsMetrics};
pub use traffic::{InFlight, TrafficMetrics};
