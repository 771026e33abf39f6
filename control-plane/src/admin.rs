//! The admin port: /ready, /live and /metrics, plain HTTP.
//!
//! It tells how the process is and changes nothing. It is the first port that is opened: a control plane that waits for
//! its cluster is alive, and says what it waits for.

use std::sync::Arc;

use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::watch};

use crate::metrics::Metrics;

/// How far the control plane has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It reads the objects; nobody is answered yet.
    Starting,
    /// It answers.
    Ready,
    /// It ends.
    Stopping,
}

/// Serves the admin port until the control plane stops.
///
/// # Errors
/// When accepting fails for good.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    progress: watch::Receiver<Progress>,
) -> std::io::Result<()> {
    let mut stop = progress.clone();
    let router = Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(move || async move { ready(*progress.borrow()) }))
        .route("/metrics", get(move || async move { render(&metrics) }));
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            // The sender goes only with the control plane itself.
            let _ = stop.wait_for(|progress| *progress == Progress::Stopping).await;
        })
        .await
}

fn ready(progress: Progress) -> Response {
    const NOT: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
    match progress {
        Progress::Starting => (NOT, "starting: the objects are not all read yet\n").into_response(),
        Progress::Ready => "ready\n".into_response(),
        Progress::Stopping => (NOT, "stopping\n").into_response(),
    }
}

fn render(metrics: &Metrics) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
