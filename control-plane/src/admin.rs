//! The admin port: /ready, /live and /metrics, plain HTTP.
//!
//! It tells how the process is and changes nothing.

use std::sync::Arc;

use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::watch};

use crate::metrics::Metrics;

/// Serves the admin port until the control plane stops.
///
/// # Errors
/// When accepting fails for good.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    stopping: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut stop = stopping.clone();
    let router = Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(move || async move { ready(*stopping.borrow()) }))
        .route("/metrics", get(move || async move { render(&metrics) }));
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            // The sender goes only with the control plane itself.
            let _ = stop.wait_for(|stopping| *stopping).await;
        })
        .await
}

fn ready(stopping: bool) -> Response {
    if stopping {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response()
    } else {
        "ready\n".into_response()
    }
}

fn render(metrics: &Metrics) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
