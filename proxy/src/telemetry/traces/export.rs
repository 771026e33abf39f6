//! Spans leave in batches, on the control runtime.
//!
//! Comes in: finished spans of every worker, through a bounded queue that never makes one wait. Goes out: OTLP
//! over gRPC. What does not fit or cannot be delivered is counted and dropped: traces are a sample anyway.

use std::{sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use opentelemetry::KeyValue;
use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanExporter},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::MissedTickBehavior,
};
use tonic::transport::{Channel, Endpoint};
use tracing::{debug, warn};

use crate::{config::Config, dns::Resolver, net, telemetry::TraceMetrics};

/// Spans that wait: some megabytes at most.
const QUEUE: usize = 4096;
const BATCH: usize = 512;
/// How long a span waits for others.
const INTERVAL: Duration = Duration::from_secs(1);
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// The port of a collector that names none.
const DEFAULT_PORT: u16 = 80;

/// The collector's address cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("otlp endpoint {endpoint:?}: {source}; use http://HOST:PORT")]
pub struct TracesError {
    endpoint: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

pub(super) enum Item {
    Span(Box<SpanData>),
    /// Answered when all spans before it have left.
    Flush(oneshot::Sender<()>),
}

/// Sends finished spans, to be spawned on the control runtime. Ends with the last [`super::Tracer`].
#[derive(Debug)]
pub struct Exporting<E = opentelemetry_otlp::SpanExporter> {
    exporter: E,
    items: mpsc::Receiver<Item>,
    metrics: Arc<TraceMetrics>,
    failing: bool,
}

/// Where spans go by OTLP over gRPC. Must be called on the runtime that the spans are exported on.
pub(super) fn otlp(
    config: &Config,
    endpoint: &str,
    resolver: &Resolver,
) -> Result<opentelemetry_otlp::SpanExporter, TracesError> {
    let failed = |source| TracesError { endpoint: endpoint.to_owned(), source };
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_channel(channel(endpoint, resolver.clone()).map_err(|error| failed(error.into()))?)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|error| failed(error.into()))?;
    let resource = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", config.workload.name.to_string()),
            KeyValue::new("service.namespace", config.workload.namespace.to_string()),
            KeyValue::new("service.instance.id", config.instance.clone()),
            KeyValue::new("weft.zone", config.zone.clone()),
        ])
        .build();
    exporter.set_resource(&resource);
    Ok(exporter)
}

/// A channel that looks names up as everything here does; it connects when it is first used.
fn channel(endpoint: &str, resolver: Resolver) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(endpoint.to_owned())?.timeout(EXPORT_TIMEOUT);
    let connector = tower::service_fn(move |uri: http::Uri| {
        let resolver = resolver.clone();
        async move {
            let port = uri.port_u16().unwrap_or(DEFAULT_PORT);
            let authority = format!("{}:{port}", uri.host().unwrap_or_default());
            net::connect_by_name(&authority, &resolver).await.map(TokioIo::new)
        }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}

impl<E: SpanExporter> Exporting<E> {
    pub(super) fn new(exporter: E, metrics: Arc<TraceMetrics>) -> (mpsc::Sender<Item>, Self) {
        let (sender, items) = mpsc::channel(QUEUE);
        (sender, Self { exporter, items, metrics, failing: false })
    }

    /// Exports until the last tracer is gone.
    pub async fn run(mut self) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        loop {
            // Both branches are cancel-safe.
            tokio::select! {
                item = self.items.recv() => match item {
                    Some(Item::Span(span)) => {
                        batch.push(*span);
                        if batch.len() >= BATCH {
                            self.export(&mut batch).await;
                        }
                    }
                    Some(Item::Flush(done)) => {
                        self.export(&mut batch).await;
                        let _ = done.send(());
                    }
                    None => return self.export(&mut batch).await,
                },
                _ = interval.tick() => self.export(&mut batch).await,
            }
        }
    }

    async fn export(&mut self, batch: &mut Vec<SpanData>) {
        if batch.is_empty() {
            return;
        }
        let spans = batch.len();
        let result = self.exporter.export(std::mem::take(batch)).await;
        self.metrics.left(spans, result.is_ok());
        match (&result, self.failing) {
            (Err(error), false) => warn!(%error, spans, "traces cannot be exported"),
            (Err(error), true) => debug!(%error, spans, "traces still cannot be exported"),
            (Ok(()), true) => tracing::info!("traces are exported again"),
            (Ok(()), false) => {}
        }
        self.failing = result.is_err();
    }
}
