//! The webhook: HTTPS from the API server comes in, `AdmissionReview` answers go out. It changes nothing in the
//! cluster, and reads one thing: the pod's namespace.
//!
//! What cannot be answered right is answered with an error, never with a pod as it is: the webhook's `failurePolicy`
//! is where an operator says what is to become of such a pod.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use k8s_openapi::api::core::v1::Namespace as ClusterNamespace;
use kube::{Api, Client};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tonic::async_trait;

use super::{
    Context, Namespace, Outcome, Settings, pod,
    review::{Answer, Question},
};
use crate::{
    ca::{Authority, CaError, serving::Serving},
    metrics::Metrics,
    net::TcpListener,
    secure::{self, SecureStream},
};

/// The API server takes no object above 3 MiB; around it stands little.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
/// The API server gives up after the webhook's `timeoutSeconds`, 5; what has not arrived by then is of no use.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Leaves time for the answer.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);

/// Where a pod's namespace is looked up: the API server's question names it and says nothing of it.
#[async_trait]
pub trait Namespaces: Send + Sync + 'static {
    /// The namespace as it is now; one that does not exist has no labels.
    async fn namespace(&self, name: &str) -> Result<Namespace, LookupError>;
}

/// A namespace cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the namespace {name} cannot be read: {why}")]
pub struct LookupError {
    /// Which.
    pub name: String,
    /// Why not.
    pub why: String,
}

/// Asks the API server for every pod's namespace: a label that was set a moment ago counts.
pub struct ClusterNamespaces(Client);

impl ClusterNamespaces {
    /// Asks by this client.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self(client)
    }
}

#[async_trait]
impl Namespaces for ClusterNamespaces {
    async fn namespace(&self, name: &str) -> Result<Namespace, LookupError> {
        let error = |why: String| LookupError { name: name.to_owned(), why };
        let api: Api<ClusterNamespace> = Api::all(self.0.clone());
        let found = tokio::time::timeout(LOOKUP_TIMEOUT, api.get_opt(name)).await;
        let found = found
            .map_err(|_| error("the API server does not answer".into()))?
            .map_err(|failed| error(failed.to_string()))?;
        let metadata = found.unwrap_or_default().metadata;
        Ok(Namespace {
            name: name.to_owned(),
            labels: metadata.labels.unwrap_or_default(),
            annotations: metadata.annotations.unwrap_or_default(),
        })
    }
}

/// What the handlers share.
struct Injector {
    settings: Settings,
    namespaces: Arc<dyn Namespaces>,
    metrics: Arc<Metrics>,
}

/// Serves the webhook until the control plane stops, with a certificate of the authority's that is renewed by
/// itself.
///
/// # Errors
/// When no certificate can be issued, or the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    authority: Arc<Authority>,
    settings: Settings,
    namespaces: Arc<dyn Namespaces>,
    metrics: Arc<Metrics>,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    let address = listener.local_addr()?;
    let serving = Serving::new(authority, &names(&settings.system_namespace, address))?;
    let config = serving.webhook_config()?;
    // Owned here: all of it ends with this future.
    let mut tasks = JoinSet::new();
    tasks.spawn(serving.keep_current());
    let incoming = Incoming { connections: secure::accept(listener, config, &mut tasks), address };
    axum::serve(incoming, router(Injector { settings, namespaces, metrics }))
        .with_graceful_shutdown(async move {
            // The sender goes only with the control plane itself.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        })
        .await?;
    Ok(())
}

/// The names under which the API server reaches the webhook: its Service's, and the listener's own address, where it has
/// one, for a configuration that says `url`.
fn names(namespace: &str, address: SocketAddr) -> Vec<String> {
    let service = format!("weft-webhook.{namespace}.svc");
    let mut names = vec![format!("{service}.cluster.local"), service];
    if !address.ip().is_unspecified() {
        names.push(address.ip().to_string());
    }
    names
}

/// Why the webhook is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Its certificate.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// Its port.
    #[error("the webhook's port fails: {0}")]
    Io(#[from] io::Error),
}

/// Connections whose handshake is done, as axum wants them.
struct Incoming {
    connections: mpsc::Receiver<io::Result<SecureStream>>,
    address: SocketAddr,
}

impl axum::serve::Listener for Incoming {
    type Io = SecureStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (SecureStream, SocketAddr) {
        loop {
            match self.connections.recv().await {
                Some(Ok(stream)) => return (stream, self.address),
                Some(Err(error)) => tracing::debug!(%error, "a connection to the webhook failed"),
                // The accepting task has ended: nothing comes any more, until all of it is dropped.
                None => std::future::pending().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

fn router(injector: Injector) -> Router {
    Router::new()
        .route("/inject", post(inject))
        .route("/ready", get(|| async { "ready\n" }))
        .with_state(Arc::new(injector))
}

async fn inject(State(injector): State<Arc<Injector>>, body: Body) -> Response {
    let received = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY_BYTES)).await;
    let bytes = match received {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => {
            let message = format!("the body is cut off or above {MAX_BODY_BYTES} bytes: {error}\n");
            return injector.failed(StatusCode::PAYLOAD_TOO_LARGE, message);
        }
        Err(_) => {
            let message = "the body does not arrive\n".to_owned();
            return injector.failed(StatusCode::REQUEST_TIMEOUT, message);
        }
    };
    let question = match Question::read(&bytes) {
        Ok(question) => question,
        Err(error) => return injector.failed(StatusCode::BAD_REQUEST, error + "\n"),
    };
    match injector.decide(&question).await {
        Ok(outcome) => injector.answer(&question, &outcome),
        Err(error) => {
            tracing::warn!(%error, pod = question.pod(), "a pod cannot be judged");
            injector.failed(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
        }
    }
}

impl Injector {
    async fn decide(&self, question: &Question) -> Result<Outcome, LookupError> {
        if !question.is_new_pod() {
            return Ok(Outcome::Left(super::Reason::NoPods));
        }
        let namespace = self.namespaces.namespace(&question.namespace).await?;
        let context = Context {
            settings: &self.settings,
            namespace: &namespace,
            asked: false,
            workload: &question.workload(),
            overrides: &Default::default(),
        };
        Ok(pod(&question.object, &context))
    }

    fn answer(&self, question: &Question, outcome: &Outcome) -> Response {
        let (pod, answer) = (question.pod(), Answer::new(question, outcome));
        match outcome {
            Outcome::Injected { .. } => {
                self.metrics.reviewed("injected");
                tracing::info!(pod, "a pod is injected");
            }
            Outcome::Left(reason) => {
                self.metrics.reviewed("left");
                tracing::debug!(pod, %reason, "a pod is left alone");
            }
            Outcome::Refused(errors) => {
                self.metrics.reviewed("refused");
                let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
                tracing::info!(pod, errors = errors.join("; "), "a pod is refused");
            }
        }
        match serde_json::to_vec(&answer) {
            Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
            Err(error) => self.failed(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    fn failed(&self, status: StatusCode, message: String) -> Response {
        self.metrics.reviewed("failed");
        (status, message).into_response()
    }
}

#[cfg(test)]
mod tests;
