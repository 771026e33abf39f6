//! Metrics, access log and traces.
//!
//! (Being written: this file fixes the seam.) Handles are resolved when a snapshot is built, never per request.

pub mod metrics;

pub use metrics::{Direction, Metrics, RequestOutcome, TlsState, TrafficMetrics};
