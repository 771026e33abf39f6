//! The loop against an API server of a few lines: one object, a list, watches that tell what happens to it, a patch.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Mutex, PoisonError},
};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{Request, Response, StatusCode},
};
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::*;
use crate::{ca::AuthorityConfig, clock};

const DEADLINE: Duration = Duration::from_secs(20);

/// The API server.
#[derive(Default)]
struct Cluster {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    object: Option<Value>,
    version: u64,
    watches: Vec<mpsc::UnboundedSender<Bytes>>,
    patches: usize,
    refuse_patches: usize,
}

impl Cluster {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(self: &Arc<Self>) -> Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let cluster = cluster.clone();
            async move { Ok::<_, Infallible>(cluster.answer(request).await) }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<kube::client::Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let is_patch = request.method() == "PATCH";
        let body = to_bytes(Body::new(request.into_body()), usize::MAX).await.unwrap();
        if is_patch {
            assert!(path.ends_with("/mutatingwebhookconfigurations/weft-injector"), "{path}");
            return self.patch(&body);
        }
        assert!(query.contains("fieldSelector=metadata.name%3Dweft-injector"), "{query}");
        if query.contains("watch=") { self.watch() } else { self.list() }
    }

    fn list(&self) -> Response<Body> {
        let state = self.state();
        let items: Vec<_> = state.object.iter().collect();
        let metadata = json!({"resourceVersion": state.version.to_string()});
        answer(
            StatusCode::OK,
            &json!({
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "MutatingWebhookConfigurationList",
                "metadata": metadata,
                "items": items,
            }),
        )
    }

    fn watch(&self) -> Response<Body> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.state().watches.push(sender);
        let lines = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
        Response::new(Body::from_stream(lines.map(Ok::<_, Infallible>)))
    }

    fn patch(&self, body: &[u8]) -> Response<Body> {
        let operations: json_patch::Patch = serde_json::from_slice(body).unwrap();
        let mut state = self.state();
        state.patches += 1;
        if state.refuse_patches > 0 {
            state.refuse_patches -= 1;
            let failure = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 500, "message": "etcd is away", "reason": "InternalError"});
            return answer(StatusCode::INTERNAL_SERVER_ERROR, &failure);
        }
        let mut object = state.object.clone().unwrap();
        json_patch::patch(&mut object, &operations).unwrap();
        state.set(Some(object.clone()));
        answer(StatusCode::OK, &object)
    }

    /// Makes, changes or deletes the object, as somebody else.
    fn set(&self, object: Option<Value>) {
        self.state().set(object);
    }

    /// The bundles that the object has, by webhook.
    fn bundles(&self) -> BTreeMap<String, String> {
        let state = self.state();
        let object = state.object.clone().unwrap_or_default();
        let object: Result<MutatingWebhookConfiguration, _> = serde_json::from_value(object);
        let webhooks = object.ok().and_then(|object| object.webhooks).unwrap_or_default();
        let text =
            |bundle: Option<ByteString>| String::from_utf8(bundle.unwrap_or_default().0).unwrap();
        webhooks.into_iter().map(|hook| (hook.name, text(hook.client_config.ca_bundle))).collect()
    }

    async fn until_bundles_are(&self, wanted: &str) {
        let reached = async {
            while self.bundles().len() != 2
                || self.bundles().values().any(|bundle| bundle != wanted)
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(DEADLINE, reached).await.unwrap_or_else(|_| panic!("{:?}", self.bundles()));
    }

    async fn until_watched(&self) {
        let reached = async {
            while self.state().watches.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(DEADLINE, reached).await.expect("the object is watched");
    }
}

impl State {
    fn set(&mut self, object: Option<Value>) {
        self.version += 1;
        let version = self.version.to_string();
        let (kind, mut told) = match (&self.object, &object) {
            (None, Some(new)) => ("ADDED", new.clone()),
            (Some(old), None) => ("DELETED", old.clone()),
            (_, Some(new)) => ("MODIFIED", new.clone()),
            (None, None) => return,
        };
        told["metadata"]["resourceVersion"] = version.into();
        self.object = object.map(|_| told.clone());
        let line = json!({"type": kind, "object": told}).to_string() + "\n";
        self.watches.retain(|watch| watch.send(Bytes::from(line.clone())).is_ok());
    }
}

fn answer(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}

/// The configuration as it is installed: without a bundle, or with somebody else's.
fn installed(bundle: Option<&str>) -> Value {
    let webhook = |name: &str| {
        let mut config = json!({"service": {"name": "weft-webhook", "namespace": "weft-system"}});
        if let Some(bundle) = bundle {
            config["caBundle"] = json!(ByteString(bundle.as_bytes().to_vec()));
        }
        json!({"name": name, "clientConfig": config, "sideEffects": "None", "admissionReviewVersions": ["v1"]})
    };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": NAME},
        "webhooks": [webhook("namespace.injector.weft.dev"), webhook("pod.injector.weft.dev")],
    })
}

fn authority(folder: &tempfile::TempDir) -> Arc<Authority> {
    let config = AuthorityConfig {
        trust_domain: "weft.local".parse().unwrap(),
        svid_ttl: Duration::from_secs(3600),
        root_lifetime: Duration::from_secs(24 * 3600),
        propagation: Duration::from_secs(0),
        external: None,
    };
    Arc::new(Authority::open(folder.path(), config, clock::now()).unwrap())
}

fn roots(authority: &Authority) -> String {
    pem(&authority.bundle().roots)
}

#[tokio::test]
async fn the_bundle_follows_the_roots_and_the_object_through_everything_that_happens() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(&folder);
    let cluster = Arc::new(Cluster::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(keep_ca_bundle(cluster.client(), authority.clone()));

    // Absent at first, then installed.
    cluster.until_watched().await;
    cluster.set(Some(installed(None)));
    cluster.until_bundles_are(&roots(&authority)).await;

    // A new root is there as soon as it is announced.
    let before = roots(&authority);
    authority.rotate_root(clock::now()).unwrap();
    assert_ne!(roots(&authority), before);
    cluster.until_bundles_are(&roots(&authority)).await;

    // Somebody installs again, or writes his own.
    cluster.set(Some(installed(None)));
    cluster.until_bundles_are(&roots(&authority)).await;
    cluster.set(Some(installed(Some("another's"))));
    cluster.until_bundles_are(&roots(&authority)).await;

    // Deleted and made anew.
    cluster.set(None);
    cluster.set(Some(installed(None)));
    cluster.until_bundles_are(&roots(&authority)).await;
    assert_eq!(cluster.state().patches, 5, "no more patches than changes");
}

#[tokio::test]
async fn an_api_server_that_refuses_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(&folder);
    let cluster = Arc::new(Cluster::default());
    cluster.set(Some(installed(None)));
    cluster.state().refuse_patches = 1;
    let mut tasks = JoinSet::new();
    tasks.spawn(keep_ca_bundle(cluster.client(), authority.clone()));
    cluster.until_bundles_are(&roots(&authority)).await;
    assert_eq!(cluster.state().patches, 2);
}

#[test]
fn only_what_is_wrong_is_patched_and_each_webhook_is_tested_by_name() {
    let object =
        |value: Value| serde_json::from_value::<MutatingWebhookConfiguration>(value).unwrap();
    let wanted = ByteString(b"roots".to_vec());
    assert!(patch(&object(installed(Some("roots"))), &wanted).is_none());
    assert!(patch(&object(json!({"metadata": {"name": NAME}})), &wanted).is_none());
    let mut half = installed(Some("roots"));
    half["webhooks"][1]["clientConfig"] = json!({"url": "https://example.com"});
    let operations = serde_json::to_value(patch(&object(half), &wanted).unwrap()).unwrap();
    assert_eq!(
        operations,
        json!([
            {"op": "test", "path": "/webhooks/1/name", "value": "pod.injector.weft.dev"},
            {"op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": "cm9vdHM="},
        ])
    );
}
