//! The admin port: readiness, metrics, the effective configuration, the log's level, drain.
//!
//! Comes in: HTTP requests, on the control runtime. Goes out: what the process knows of itself; no secret ever.
//! `/ready`, `/live`, `/probe` and `/metrics` answer to everybody who reaches the port; everything else to this machine
//! alone, and changes never to a browser's page, which could be anybody's.
//!
//! | path | does |
//! |---|---|
//! | `GET /live` | 200 while the process runs |
//! | `GET /ready` | 200 when requests may come; 503 with the reasons, also while draining |
//! | `GET /probe/CONTAINER/KIND` | 200 when the application in the pod is as it should be; 503 with the reason |
//! | `GET /metrics` | OpenMetrics text |
//! | `GET /config` | settings, identity, what is known of the mesh, as JSON |
//! | `GET`, `PUT /log` | the log's filter, as text |
//! | `GET`, `PUT /log/access` | the access log's switch, `on` or `off` |
//! | `POST /drain` | begins to drain, like SIGTERM |

mod access;
mod dump;
mod probe;
mod readiness;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header::CONTENT_TYPE},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tracing::info;

use crate::{
    config::Config,
    discovery::Directory,
    drain::DrainTrigger,
    identity::Identity,
    kubelet::Prober,
    net::TcpListener,
    telemetry::{AccessLog, Metrics, logging::LogHandle},
};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// A log filter is the longest body.
const MAX_BODY: usize = 4096;

/// What the admin port shows and changes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The settings.
    pub config: Arc<Config>,
    /// What is known of the mesh.
    pub directory: Directory,
    /// Who we are.
    pub identity: Identity,
    /// All metrics.
    pub metrics: Metrics,
    /// The access log's switch.
    pub access: AccessLog,
    /// The log's level; `None` where another has set up logging.
    pub log: Option<LogHandle>,
    /// Performs the kubelet's probes.
    pub prober: Prober,
    /// The order to stop.
    pub drain: Arc<DrainTrigger>,
}

/// Serves the admin port until dropped.
///
/// # Errors
/// The listener cannot accept any more.
pub async fn serve(listener: TcpListener, admin: Admin) -> std::io::Result<()> {
    let service = router(admin).into_make_service_with_connect_info::<access::Peer>();
    axum::serve(listener, service).await
}

fn router(admin: Admin) -> Router {
    let local = Router::new()
        .route("/config", get(config))
        .route("/log", get(log_filter).put(set_log_filter))
        .route("/log/access", get(access_log).put(set_access_log))
        .route("/drain", post(drain))
        .layer(middleware::from_fn(access::this_machine_only));
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/probe/{container}/{kind}", get(probe::probe))
        .route("/metrics", get(metrics))
        .merge(local)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(admin)
}

async fn ready(State(admin): State<Admin>) -> Response {
    let waits = admin.waits_for();
    if waits.is_empty() {
        return "ready\n".into_response();
    }
    let text: String = waits.iter().map(|wait| format!("{wait}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    ([(CONTENT_TYPE, OPEN_METRICS)], admin.metrics.text()).into_response()
}

async fn config(State(admin): State<Admin>) -> Response {
    Json(dump::dump(&admin)).into_response()
}

async fn log_filter(State(admin): State<Admin>) -> Response {
    match &admin.log {
        Some(log) => format!("{}\n", log.filter()).into_response(),
        None => no_log(),
    }
}

async fn set_log_filter(State(admin): State<Admin>, filter: String) -> Response {
    let Some(log) = &admin.log else { return no_log() };
    let filter = filter.trim();
    match log.set(filter) {
        Ok(()) => {
            info!(filter, "the log's filter was changed");
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

fn no_log() -> Response {
    (StatusCode::NOT_FOUND, "this process's log is not set up by the proxy\n").into_response()
}

async fn access_log(State(admin): State<Admin>) -> &'static str {
    if admin.access.is_on() { "on\n" } else { "off\n" }
}

async fn set_access_log(State(admin): State<Admin>, switch: String) -> Response {
    let on = match switch.trim() {
        "on" => true,
        "off" => false,
        other => {
            let text = format!("{other:?}: use on or off\n");
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
    };
    admin.access.set(on);
    info!(on, "the access log was switched");
    StatusCode::NO_CONTENT.into_response()
}

async fn drain(State(admin): State<Admin>) -> Response {
    info!("drain was asked for on the admin port");
    admin.drain.start();
    (StatusCode::ACCEPTED, "draining\n").into_response()
}

#[cfg(test)]
mod tests;
