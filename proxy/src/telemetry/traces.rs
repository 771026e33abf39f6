//! Traces: which spans a request leaves behind, and the trace context that it carries on.
//!
//! Comes in: a request's head, its attempts, its end. Goes out: for a sampled request a server span, a client
//! span, and one span for each attempt, whose id the next hop gets as its parent. A parent's choice to sample
//! comes first, the ratio decides about traces that begin here. Switched off (the default), nothing is done:
//! the fields of W3C trace context pass through untouched, and the hot path checks one `Option`.
//!
//! ```text
//! parent (traceparent of the request) -> server span -> client span -> attempt 1
//!                                                                   -> attempt 2 -> parent of the next hop
//! ```

mod context;
mod export;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod span;

use std::sync::Arc;

use opentelemetry::{SpanId, TraceId};
use tokio::sync::{mpsc, oneshot};

pub use export::{Exporting, TracesError};
pub use span::{AttemptSpan, RequestSpan};

use super::{Direction, Metrics, TraceMetrics};
use crate::{
    config::Config,
    dns::Resolver,
    http::{Fields, RequestHead},
};
use context::Parent;
use export::Item;

/// Begins the spans of requests. Cheap to clone; off by default.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    /// Of 2^63 traces that begin here, so many are sampled.
    threshold: u64,
    spans: mpsc::Sender<Item>,
    metrics: Arc<TraceMetrics>,
}

impl Tracer {
    /// Traces nothing.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// A tracer by these settings; with a collector also what sends the spans, to be spawned on the control
    /// runtime, on which this must be called.
    ///
    /// # Errors
    /// The collector's address is malformed.
    pub fn new(
        config: &Config,
        metrics: &Metrics,
        resolver: &Resolver,
    ) -> Result<(Self, Option<Exporting>), TracesError> {
        let Some(endpoint) = &config.telemetry.otlp_endpoint else { return Ok((Self(None), None)) };
        let exporter = export::otlp(config, endpoint, resolver)?;
        let (spans, exporting) = Exporting::new(exporter, metrics.traces());
        Ok((Self::with(config.telemetry.trace_ratio, spans, metrics), Some(exporting)))
    }

    fn with(ratio: f64, spans: mpsc::Sender<Item>, metrics: &Metrics) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 2^63")]
        let threshold = (ratio.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64;
        Self(Some(Arc::new(Shared { threshold, spans, metrics: metrics.traces() })))
    }

    /// A request's head arrived. `None` when its trace context is to travel on as it is.
    #[must_use]
    pub fn begin(&self, head: &RequestHead, direction: Direction) -> Option<RequestSpan> {
        let shared = self.0.as_ref()?;
        match context::parent(&head.headers) {
            Some(parent) if !parent.sampled => None,
            Some(parent) => Some(RequestSpan::new(
                Arc::clone(shared),
                parent.trace,
                Some(parent.span),
                true,
                direction,
                head,
            )),
            None => {
                let (trace, sampled) = shared.begin_trace();
                Some(RequestSpan::new(Arc::clone(shared), trace, None, sampled, direction, head))
            }
        }
    }

    /// Waits until the spans so far have left, or cannot: for the end of the process, within a bound.
    pub async fn flush(&self) {
        let Some(shared) = &self.0 else { return };
        let (done, left) = oneshot::channel();
        if shared.spans.send(Item::Flush(done)).await.is_ok() {
            let _ = left.await;
        }
    }
}

impl Shared {
    fn begin_trace(&self) -> (TraceId, bool) {
        let trace = fastrand::u128(1..);
        // The lower half of a random id, as OpenTelemetry's ratio sampler takes it.
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
        let sampled = (trace as u64) >> 1 < self.threshold;
        (TraceId::from(trace), sampled)
    }

    /// Never waits: a full queue drops the span.
    fn finish(&self, span: opentelemetry_sdk::trace::SpanData) {
        if self.spans.try_send(Item::Span(Box::new(span))).is_err() {
            self.metrics.dropped();
        }
    }
}

fn new_span_id() -> SpanId {
    SpanId::from(fastrand::u64(1..))
}

/// Tells the next hop its parent.
fn inject(headers: &mut Fields, trace: TraceId, span: SpanId, sampled: bool) {
    context::inject(headers, &Parent { trace, span, sampled });
}

#[cfg(test)]
mod tests;
