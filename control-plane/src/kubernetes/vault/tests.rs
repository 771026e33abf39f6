//! The Secret on an API server of a few lines: one object with a version, whose answers may be lost.

use std::{
    convert::Infallible,
    sync::{Arc, MutexGuard},
};

use axum::{
    body::{Body, to_bytes},
    http::{Method, Request, Response, StatusCode},
};
use serde_json::{Value, json};

use super::*;

/// The API server.
#[derive(Default)]
struct Cluster(Mutex<State>);

#[derive(Default)]
struct State {
    object: Option<Value>,
    version: u64,
    /// The next write is done, and its answer does not arrive.
    lose_answer: bool,
}

impl Cluster {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn vault(self: &Arc<Self>) -> SecretVault {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let cluster = cluster.clone();
            async move {
                let method = request.method().clone();
                let body = to_bytes(Body::new(request.into_body()), usize::MAX).await.unwrap();
                let object = serde_json::from_slice(&body).unwrap_or_default();
                let (status, body) = cluster.state().answer(&method, object);
                let mut response = Response::new(Body::from(body.to_string()));
                *response.status_mut() = status;
                Ok::<_, Infallible>(response)
            }
        });
        SecretVault::new(Client::new(service, "weft-system"), "weft-system")
    }

    /// What lies under a key.
    fn value(&self, name: &str) -> Option<String> {
        let object: Secret = serde_json::from_value(self.state().object.clone()?).unwrap();
        let ByteString(bytes) = object.data?.remove(name)?;
        Some(String::from_utf8(bytes).unwrap())
    }

    /// Somebody else writes.
    fn set(&self, pointer: &str, field: &str, value: Value) {
        let mut state = self.state();
        let mut object = state.object.clone().unwrap();
        object.pointer_mut(pointer).unwrap()[field] = value;
        state.keep(object);
    }
}

impl State {
    fn answer(&mut self, method: &Method, object: Value) -> (StatusCode, Value) {
        let present = self.object.clone();
        let failure = |status: StatusCode| {
            let code = status.as_u16();
            let reason = status.canonical_reason().unwrap_or_default().replace(' ', "");
            (
                status,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "", "reason": reason}),
            )
        };
        match (method, present) {
            (&Method::GET, Some(present)) => return (StatusCode::OK, present),
            (&Method::GET | &Method::PUT, None) => return failure(StatusCode::NOT_FOUND),
            (&Method::POST, Some(_)) => return failure(StatusCode::CONFLICT),
            (&Method::PUT, Some(present))
                if object["metadata"]["resourceVersion"]
                    != present["metadata"]["resourceVersion"] =>
            {
                return failure(StatusCode::CONFLICT);
            }
            _ => self.keep(object),
        }
        if std::mem::take(&mut self.lose_answer) {
            return failure(StatusCode::GATEWAY_TIMEOUT);
        }
        (StatusCode::OK, self.object.clone().unwrap_or_default())
    }

    fn keep(&mut self, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.object = Some(object);
    }
}

/// Off the runtime's threads, as the authority calls it.
async fn blocking<T: Send + 'static>(
    vault: &Arc<SecretVault>,
    call: impl FnOnce(&SecretVault) -> Result<T, CaError> + Send + 'static,
) -> Result<T, String> {
    let vault = vault.clone();
    let called = tokio::task::spawn_blocking(move || call(&vault)).await.unwrap();
    called.map_err(|error| error.to_string())
}

async fn write(
    vault: &Arc<SecretVault>,
    name: &'static str,
    text: &'static str,
) -> Result<(), String> {
    blocking(vault, move |vault| vault.write(name, text.as_bytes())).await
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_not_taken_for_another_control_planes() {
    let cluster = Arc::new(Cluster::default());
    let vault = Arc::new(cluster.vault());
    assert_eq!(blocking(&vault, |vault| vault.read("a")).await.unwrap(), None);

    // The first one, which makes the Secret.
    cluster.state().lose_answer = true;
    write(&vault, "a", "1").await.unwrap_err();
    write(&vault, "a", "1").await.unwrap();
    // Tried again with something else, too.
    cluster.state().lose_answer = true;
    write(&vault, "a", "2").await.unwrap_err();
    write(&vault, "b", "3").await.unwrap();
    cluster.set("/metadata", "labels", json!({"backup": "yes"}));
    write(&vault, "b", "4").await.unwrap();
    assert_eq!(cluster.value("b").as_deref(), Some("4"));
}

#[tokio::test]
async fn what_another_control_plane_wrote_is_not_written_over() {
    let cluster = Arc::new(Cluster::default());
    let vault = Arc::new(cluster.vault());
    write(&vault, "a", "1").await.unwrap();
    cluster.set("", "data", Value::Null);
    write(&vault, "a", "2").await.unwrap_err();
    cluster.set("", "data", json!({"a": ByteString(b"another's".to_vec())}));
    for _ in 0..2 {
        let error = write(&vault, "a", "2").await.unwrap_err();
        assert!(error.contains("another control plane"), "{error}");
    }
    assert_eq!(cluster.value("a").as_deref(), Some("another's"));
    // Read anew, it is known.
    let read = blocking(&vault, |vault| vault.read("a")).await.unwrap();
    assert_eq!(read.as_deref(), Some(&b"another's"[..]));
    write(&vault, "a", "2").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_api_that_does_not_answer_is_not_waited_for_for_ever() {
    let silent = tower::service_fn(|_: Request<kube::client::Body>| {
        std::future::pending::<Result<Response<Body>, Infallible>>()
    });
    let vault = SecretVault::new(Client::new(silent, "weft-system"), "weft-system");
    let error = vault.answer("a", vault.api.get_opt(STATE)).await.unwrap_err().to_string();
    assert!(error.contains("does not answer within 10s"), "{error}");
}
