//! The webhook as the API server meets it: over TLS, under the roots alone, by its service's name.

use std::{collections::BTreeMap, sync::Mutex};

use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::*;
use crate::{ca::AuthorityConfig, clock};

/// One namespace that asks, `shop`; `lost` cannot be read; the others are plain.
struct Shop;

#[async_trait]
impl Namespaces for Shop {
    async fn namespace(&self, name: &str) -> Result<Namespace, LookupError> {
        if name == "lost" {
            return Err(LookupError {
                name: name.to_owned(),
                why: "connection refused".to_owned(),
            });
        }
        let labels = match name {
            "shop" => BTreeMap::from([("weft.dev/inject".to_owned(), "enabled".to_owned())]),
            _ => BTreeMap::new(),
        };
        Ok(Namespace { name: name.to_owned(), labels, annotations: BTreeMap::new() })
    }
}

struct Webhook {
    address: SocketAddr,
    authority: Arc<Authority>,
    metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    served: Mutex<JoinSet<()>>,
    _folder: tempfile::TempDir,
}

impl Webhook {
    async fn start(svid_ttl: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = AuthorityConfig {
            trust_domain: "weft.local".parse().unwrap(),
            svid_ttl,
            root_lifetime: Duration::from_secs(24 * 3600),
            propagation: Duration::from_secs(0),
            external: None,
        };
        let authority = Arc::new(Authority::open(folder.path(), config, clock::now()).unwrap());
        let listener =
            TcpListener::bind("127.0.0.1:0".parse::<SocketAddr>().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::default());
        let (stop, stopping) = watch::channel(false);
        let mut served = JoinSet::new();
        let serving = serve(
            listener,
            authority.clone(),
            Settings::default(),
            Arc::new(Shop),
            metrics.clone(),
            stopping,
        );
        served.spawn(async move { serving.await.unwrap() });
        Self { address, authority, metrics, stop, served: Mutex::new(served), _folder: folder }
    }

    /// Connects as the API server does, trusting these roots.
    async fn connect(
        &self,
        roots: Arc<RootCertStore>,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "weft-webhook.weft-system.svc".try_into().unwrap();
        let tcp = TcpStream::connect(self.address).await?;
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }

    async fn send(&self, method: &str, path: &str, body: &str) -> (StatusCode, String) {
        let mut tls = self.connect(self.authority.bundle().anchors.clone()).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: weft-webhook.weft-system.svc\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        tls.write_all(head.as_bytes()).await.unwrap();
        // An answer may come before all of the body is read.
        let _ = tls.write_all(body.as_bytes()).await;
        // What the socket did not take at once still lies in the TLS session.
        let _ = tls.flush().await;
        let mut answer = Vec::new();
        let _ = tls.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap();
        (StatusCode::from_bytes(status.as_bytes()).unwrap(), body.to_owned())
    }

    async fn review(&self, request: Value) -> Value {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        let (status, body) = self.send("POST", "/inject", &review.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{body:?}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(answer["kind"], "AdmissionReview");
        assert_eq!(answer["response"]["uid"], request["uid"]);
        answer["response"].clone()
    }

    fn counted(&self, outcome: &str) -> u64 {
        let text = self.metrics.render().unwrap();
        let name = format!("weft_cp_pods_reviewed_total{{outcome=\"{outcome}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
    }
}

fn question(namespace: &str, pod: Value) -> Value {
    json!({
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": namespace,
        "operation": "CREATE",
        "userInfo": {"username": "admin"},
        "object": pod,
        "dryRun": true,
    })
}

/// A pod as a Deployment's ReplicaSet makes it.
fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "cart-5d4f8c7b9-",
            "labels": {"pod-template-hash": "5d4f8c7b9"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "cart-5d4f8c7b9", "controller": true}],
        },
        "spec": {"containers": [{"name": "app", "image": "cart"}]},
    })
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_pod_of_a_labelled_namespace_is_patched() {
    let webhook = Webhook::start(LONG).await;
    let response = webhook.review(question("shop", pod())).await;
    assert_eq!(response["allowed"], true);
    assert_eq!(response["patchType"], "JSONPatch");
    let patch: k8s_openapi::ByteString = serde_json::from_value(response["patch"].clone()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch.0).unwrap();
    let mut patched = pod();
    json_patch::patch(&mut patched, &patch).unwrap();
    assert_eq!(patched["metadata"]["annotations"]["weft.dev/workload"], "cart");
    assert_eq!(patched["spec"]["initContainers"][1]["name"], "weft-proxy");
    assert_eq!(webhook.counted("injected"), 1);

    // As the API server sends it again when another webhook has changed it.
    let again = webhook.review(question("shop", patched)).await;
    assert_eq!((&again["allowed"], &again["patch"]), (&json!(true), &Value::Null));
    assert_eq!(webhook.counted("left"), 1);
}

#[tokio::test]
async fn a_pod_that_is_left_alone_is_let_through_with_a_warning_where_one_would_wonder() {
    let webhook = Webhook::start(LONG).await;
    let mut host = pod();
    host["spec"]["hostNetwork"] = json!(true);
    let mut update = question("shop", pod());
    update["operation"] = json!("UPDATE");
    for (request, warned) in [
        (question("shop", host), true),
        (question("elsewhere", pod()), false),
        (question("kube-system", pod()), false),
        (update, false),
    ] {
        let response = webhook.review(request).await;
        assert_eq!((&response["allowed"], &response["patch"]), (&json!(true), &Value::Null));
        let warnings = response["warnings"].as_array().map_or(0, Vec::len);
        assert_eq!(warnings, usize::from(warned), "{response}");
    }
    assert_eq!(webhook.counted("left"), 4);
}

#[tokio::test]
async fn a_pod_with_mistakes_is_refused_with_all_of_them() {
    let webhook = Webhook::start(LONG).await;
    let mut wrong = pod();
    wrong["metadata"]["annotations"] = json!({"weft.dev/sidecar": "x", "weft.dev/typo": ""});
    let response = webhook.review(question("shop", wrong)).await;
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["code"], 422);
    let message = response["status"]["message"].as_str().unwrap();
    for part in ["shop/cart-5d4f8c7b9", "weft.dev/sidecar", "weft.dev/typo"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(webhook.counted("refused"), 1);
}

#[tokio::test]
async fn what_cannot_be_answered_right_is_an_error_and_never_a_pod_as_it_is() {
    let webhook = Webhook::start(LONG).await;
    let review = |version: &str, request: Value| {
        json!({"apiVersion": version, "kind": "AdmissionReview", "request": request}).to_string()
    };
    let v1 = "admission.k8s.io/v1";
    for (body, status) in [
        (String::new(), StatusCode::BAD_REQUEST),
        ("{".to_owned(), StatusCode::BAD_REQUEST),
        ("[]".to_owned(), StatusCode::BAD_REQUEST),
        (review(v1, Value::Null), StatusCode::BAD_REQUEST),
        (review(v1, json!({"uid": "x"})), StatusCode::BAD_REQUEST),
        (review("admission.k8s.io/v1beta1", question("shop", pod())), StatusCode::BAD_REQUEST),
        (" ".repeat(MAX_BODY_BYTES + 1), StatusCode::PAYLOAD_TOO_LARGE),
        (review(v1, question("lost", pod())), StatusCode::INTERNAL_SERVER_ERROR),
    ] {
        let (answered, text) = webhook.send("POST", "/inject", &body).await;
        assert_eq!(answered, status, "{:.80} {text:?}", body);
        assert!(!text.is_empty(), "{status} without a reason");
    }
    assert_eq!(webhook.counted("failed"), 8);
    assert_eq!(webhook.send("GET", "/inject", "").await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(webhook.send("GET", "/ready", "").await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_api_server_with_only_the_old_root_or_only_the_new_one_trusts_it_through_a_rotation() {
    let webhook = Webhook::start(LONG).await;
    let old = webhook.authority.bundle().anchors.clone();
    webhook.authority.rotate_root(clock::now()).unwrap();
    let first = webhook.authority.bundle().roots[0].clone();
    webhook.connect(old.clone()).await.unwrap();
    assert!(webhook.authority.advance(clock::now(), true).unwrap());
    let bundle = webhook.authority.bundle();
    assert_ne!(bundle.roots[0], first, "another root signs");
    let mut new = RootCertStore::empty();
    new.add(bundle.roots[0].clone()).unwrap();
    let new = Arc::new(new);
    // It is renewed when the roots change: soon, not at once.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while webhook.connect(new.clone()).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the new root is not used");
        tokio::task::yield_now().await;
    }
    webhook.connect(old).await.unwrap();
}

#[tokio::test]
async fn its_certificate_is_renewed_before_it_ends() {
    let webhook = Webhook::start(Duration::from_secs(3)).await;
    let presented = async || {
        let tls = webhook.connect(webhook.authority.bundle().anchors.clone()).await.unwrap();
        tls.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let first = presented().await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while presented().await == first {
        assert!(tokio::time::Instant::now() < deadline, "the certificate is not renewed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_clusters_own_word_on_a_namespace_is_asked_for_each_time() {
    let service = tower::service_fn(
        |request: axum::http::Request<kube::client::Body>| async move {
            let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            let (status, body) = match name.as_str() {
                "shop" => (
                    200,
                    json!({"metadata": {
                        "name": "shop",
                        "labels": {"weft.dev/inject": "enabled"},
                        "annotations": {"weft.dev/log-level": "debug"},
                    }}),
                ),
                "gone" => (
                    404,
                    json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "no"}),
                ),
                _ => (
                    403,
                    json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "not yours"}),
                ),
            };
            let response = axum::http::Response::builder().status(status);
            Ok::<_, std::convert::Infallible>(response.body(Body::from(body.to_string())).unwrap())
        },
    );
    let namespaces = ClusterNamespaces::new(Client::new(service, "default"));
    let shop = namespaces.namespace("shop").await.unwrap();
    assert_eq!(shop.labels["weft.dev/inject"], "enabled");
    assert_eq!(shop.annotations["weft.dev/log-level"], "debug");
    let gone = namespaces.namespace("gone").await.unwrap();
    assert_eq!(gone, Namespace { name: "gone".to_owned(), ..Namespace::default() });
    let error = namespaces.namespace("secret").await.unwrap_err().to_string();
    assert!(error.contains("secret") && error.contains("not yours"), "{error}");
}

#[tokio::test]
async fn a_stranger_to_the_roots_is_not_answered_and_a_stop_ends_it() {
    let webhook = Webhook::start(LONG).await;
    assert!(webhook.connect(Arc::new(RootCertStore::empty())).await.is_err());
    webhook.stop.send_replace(true);
    let mut served = std::mem::take(&mut *webhook.served.lock().unwrap());
    let ended = tokio::time::timeout(Duration::from_secs(10), served.join_next()).await;
    ended.expect("it ends").unwrap().unwrap();
}
