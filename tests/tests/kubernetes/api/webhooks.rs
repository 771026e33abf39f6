//! Admission webhooks: who is asked, what their patches do, and what becomes of an object when they fail.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{Json, Router, extract::State, routing::post};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use k8s_openapi::{
    ByteString,
    api::{admissionregistration::v1::MutatingWebhookConfiguration, core::v1::ConfigMap},
};
use kube::{Api as Objects, ResourceExt, api::PostParams};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;
use weft_tests::{
    kubernetes::{Cluster, cluster::refusal, metadata::generated_name},
    wait,
};

use super::{objects::object, watches::config_map};

/// A webhook that answers every review alike, and keeps what it was asked.
struct Webhook {
    address: SocketAddr,
    bundle: ByteString,
    seen: Arc<Mutex<Vec<Value>>>,
    _task: JoinSet<()>,
}

#[derive(Clone)]
struct Answers {
    response: Value,
    seen: Arc<Mutex<Vec<Value>>>,
}

impl Webhook {
    /// Starts one whose certificate is for these names.
    async fn start(names: &[&str], host: std::net::IpAddr, response: Value) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let key = KeyPair::generate().expect("randomness");
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let parameters = CertificateParams::new(names).expect("names");
        let certificate = parameters.self_signed(&key).expect("a key that signs");
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .expect("the key is the certificate's");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((host, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let answers = Answers { response, seen: Arc::clone(&seen) };
        let router = Router::new().route("/mutate", post(review)).with_state(answers);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, service) =
                    (acceptor.clone(), TowerToHyperService::new(router.clone()));
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, bundle: ByteString(certificate.pem().into_bytes()), seen, _task: task }
    }

    fn seen(&self) -> Vec<Value> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn review(State(answers): State<Answers>, Json(review): Json<Value>) -> Json<Value> {
    let mut response = answers.response.clone();
    response["uid"] = review["request"]["uid"].clone();
    answers.seen.lock().unwrap_or_else(PoisonError::into_inner).push(review);
    Json(
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}),
    )
}

fn patching(operations: &Value) -> Value {
    let patch = ByteString(operations.to_string().into_bytes());
    json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
}

/// Registers a webhook for the config maps of a namespace that have the label `app: web`.
async fn register(cluster: &Cluster, namespace: &str, client: Value, more: Value) {
    let mut hook = json!({
        "name": "test.webhooks.weft.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": client, "timeoutSeconds": 5, "failurePolicy": "Fail",
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "objectSelector": {"matchLabels": {"app": "web"}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
    });
    json_patch::merge(&mut hook, &more);
    let name = generated_name("weft-tests-");
    let configuration: MutatingWebhookConfiguration =
        object(json!({"metadata": {"name": name}, "webhooks": [hook]}));
    cluster.create_global(&configuration).await;
}

/// Makes config maps until one shows that the webhook is asked: a real server learns of webhooks by watching them.
async fn until_asked(maps: &Objects<ConfigMap>, webhook: &Webhook) {
    wait::until_true("the webhook is asked", || async {
        let mut map = config_map("", "web");
        map.metadata.name = None;
        map.metadata.generate_name = Some("probe-".to_owned());
        let _ = maps.create(&PostParams::default(), &map).await;
        !webhook.seen().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_webhook_changes_what_it_is_asked_about() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("webhooks").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    let host = cluster.own_address();
    let operations = json!([{"op": "add", "path": "/data", "value": {"by": "webhook"}}]);
    let webhook = Webhook::start(&[&host.to_string()], host, patching(&operations)).await;
    let url = format!("https://{}/mutate", webhook.address);
    register(&cluster, &namespace, json!({"url": url, "caBundle": webhook.bundle}), json!({}))
        .await;
    until_asked(&maps, &webhook).await;

    let changed = cluster.create(&maps, &config_map("web", "web")).await;
    let other = cluster.create(&maps, &config_map("db", "db")).await;

    assert_eq!(changed.data.expect("data")["by"], "webhook");
    assert_eq!(other.data, None, "its label is another");
    let seen = webhook.seen();
    let request = &seen.last().expect("it was asked")["request"];
    assert_eq!((&request["operation"], &request["name"]), (&json!("CREATE"), &json!("web")));
    assert_eq!(request["namespace"], json!(namespace));
    assert_eq!(
        request["resource"],
        json!({"group": "", "version": "v1", "resource": "configmaps"})
    );
    assert_eq!(request["object"]["metadata"]["labels"]["app"], "web");
    assert_eq!(request["dryRun"], false);
    assert!(request["userInfo"]["username"].is_string());
}

#[tokio::test]
async fn a_denial_is_told_with_its_reason() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("webhooks").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    let host = cluster.own_address();
    let denial = json!({"allowed": false, "status": {"code": 403, "message": "no web here"}});
    let webhook = Webhook::start(&[&host.to_string()], host, denial).await;
    let url = format!("https://{}/mutate", webhook.address);
    register(&cluster, &namespace, json!({"url": url, "caBundle": webhook.bundle}), json!({}))
        .await;
    until_asked(&maps, &webhook).await;

    let status = refusal(maps.create(&PostParams::default(), &config_map("web", "web")).await);

    assert_eq!(status.code, 403);
    assert_eq!(
        status.message,
        "admission webhook \"test.webhooks.weft.dev\" denied the request: no web here"
    );
}

#[tokio::test]
async fn a_webhook_that_fails_stops_or_not_as_its_policy_says() {
    let cluster = Cluster::start().await;
    let host = cluster.own_address();
    // A port that was free a moment ago, and nobody's since.
    let refusing = weft_tests::apps::Refusing::bind();
    let url = format!("https://{host}:{}/mutate", refusing.address.port());
    for (policy, is_refused) in [("Fail", true), ("Ignore", false)] {
        let namespace = cluster.namespace("webhooks").await;
        let maps: Objects<ConfigMap> = cluster.objects(&namespace);
        register(&cluster, &namespace, json!({"url": url}), json!({"failurePolicy": policy})).await;
        if !is_refused {
            cluster.create(&maps, &config_map("web", "web")).await;
            continue;
        }
        let status = wait::until("the webhook is called", || async {
            let mut map = config_map("", "web");
            map.metadata.name = None;
            map.metadata.generate_name = Some("probe-".to_owned());
            match maps.create(&PostParams::default(), &map).await {
                Err(kube::Error::Api(status)) => Some(status),
                _ => None,
            }
        })
        .await;
        assert_eq!((status.code, status.reason.as_str()), (500, "InternalError"));
        assert!(
            status.message.contains(
                "failed calling webhook \"test.webhooks.weft.dev\": failed to call webhook"
            ),
            "{status:?}"
        );
    }
}

#[tokio::test]
async fn a_webhook_behind_a_service_is_known_by_the_services_name() {
    let cluster = Cluster::start_in_memory().await;
    let api = cluster.in_memory().expect("it is in memory");
    let namespace = cluster.namespace("webhooks").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    let host = cluster.own_address();
    let operations = json!([{"op": "add", "path": "/data", "value": {"by": "service"}}]);
    let good = Webhook::start(&["hook.weft-system.svc"], host, patching(&operations)).await;
    let wrong = Webhook::start(&["other.weft-system.svc"], host, patching(&operations)).await;
    let client = |webhook: &Webhook| {
        let service = json!({"namespace": "weft-system", "name": "hook", "path": "/mutate"});
        json!({"service": service, "caBundle": webhook.bundle})
    };

    api.resolve("weft-system", "hook", 443, good.address);
    register(&cluster, &namespace, client(&good), json!({})).await;
    let changed = cluster.create(&maps, &config_map("web", "web")).await;
    assert_eq!(changed.data.expect("data")["by"], "service");

    let other = cluster.namespace("webhooks").await;
    api.resolve("weft-system", "hook", 443, wrong.address);
    register(&cluster, &other, client(&wrong), json!({})).await;
    let status = refusal(
        cluster.objects(&other).create(&PostParams::default(), &config_map("web", "web")).await,
    );
    assert!(status.message.contains("tls: failed to verify certificate"), "{status:?}");
    assert!(wrong.seen().is_empty());
}

#[tokio::test]
async fn webhooks_are_refused_for_what_cannot_be_called() {
    let cluster = Cluster::start().await;
    let configurations: Objects<MutatingWebhookConfiguration> = Objects::all(cluster.client());
    let good = json!({
        "name": "test.webhooks.weft.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": {"url": "https://192.0.2.1/mutate"}, "rules": [],
    });
    for (more, field) in [
        (json!({"name": "short"}), "webhooks[0].name"),
        (json!({"sideEffects": "Some"}), "webhooks[0].sideEffects"),
        (json!({"timeoutSeconds": 31}), "webhooks[0].timeoutSeconds"),
        (
            json!({"clientConfig": {"url": "http://192.0.2.1/mutate"}}),
            "webhooks[0].clientConfig.url",
        ),
        (json!({"clientConfig": {"url": null}}), "webhooks[0].clientConfig"),
    ] {
        let mut hook = good.clone();
        json_patch::merge(&mut hook, &more);
        let name = generated_name("weft-tests-");
        let wanted: MutatingWebhookConfiguration =
            object(json!({"metadata": {"name": name}, "webhooks": [hook]}));
        let status = refusal(configurations.create(&PostParams::default(), &wanted).await);
        assert_eq!(status.code, 422, "{more}: {status:?}");
        let causes = status.details.expect("details").causes;
        assert!(
            causes.iter().any(|cause| cause.field == field),
            "{more}: {causes:?} in {}",
            wanted.name_any()
        );
    }
}
