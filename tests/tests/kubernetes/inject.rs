//! Injection by a cluster: with the webhook configuration that is installed, pods are made by an API server that asks
//! Weft, and get their sidecars, or do not.

use std::{sync::Arc, time::SystemTime};

use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    core::v1::{Container, Pod},
};
use kube::{
    Api as Objects,
    api::{DeleteParams, PostParams},
    core::Status,
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{MutexGuard, watch},
    task::JoinSet,
};
use weft_control_plane::{
    ca::{Authority, AuthorityConfig, pem},
    inject::{self, ClusterNamespaces, Settings, ca_bundle},
    metrics::Metrics,
};
use weft_tests::{
    kubernetes::cluster::{Cluster, pods::IMAGE, refusal},
    wait,
};

use super::INJECTOR;

/// The configuration as it is installed.
const CONFIGURATION: &str = include_str!("../../../deploy/k8s/base/webhook.yaml");

/// A cluster with Weft's webhook.
struct Stage {
    cluster: Cluster,
    authority: Arc<Authority>,
    webhook: JoinSet<()>,
    _injector: MutexGuard<'static, ()>,
    _stop: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

impl Stage {
    async fn start() -> Self {
        let cluster = Cluster::start().await;
        let injector = INJECTOR.lock().await;
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Arc::new(authority(folder.path()));
        let listener = TcpListener::bind((cluster.own_address(), 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (stop, stopping) = watch::channel(false);
        let served = inject::serve(
            listener,
            authority.clone(),
            Settings::default(),
            Arc::new(ClusterNamespaces::new(cluster.client())),
            Arc::new(Metrics::default()),
            stopping,
        );
        let mut webhook = JoinSet::new();
        webhook.spawn(async { served.await.expect("the webhook is served") });
        webhook.spawn(inject::keep_ca_bundle(cluster.client(), authority.clone()));
        cluster.create_global(&configuration(&format!("https://{address}/inject"))).await;
        let stage =
            Self { cluster, authority, webhook, _injector: injector, _stop: stop, _folder: folder };
        stage.until_the_roots_are_known().await;
        stage
    }

    /// The API server is told whom to trust.
    async fn until_the_roots_are_known(&self) {
        let api: Objects<MutatingWebhookConfiguration> = Objects::all(self.cluster.client());
        wait::until_true("caBundle holds every root", || async {
            let wanted = pem(&self.authority.bundle().roots).into_bytes();
            let found = api.get(ca_bundle::NAME).await.expect("it is there");
            found.webhooks.iter().flatten().all(|webhook| {
                webhook.client_config.ca_bundle.as_ref().is_some_and(|bundle| bundle.0 == wanted)
            })
        })
        .await;
    }

    fn pods(&self, namespace: &str) -> Objects<Pod> {
        self.cluster.objects(namespace)
    }

    /// Makes pods until one has a sidecar: a real API server learns of the configuration by and by.
    async fn until_injecting(&self, namespace: &str) -> Pod {
        let pods = self.pods(namespace);
        wait::until("a pod with a sidecar", || async {
            let made =
                pods.create(&PostParams::default(), &pod("first", json!({}), json!({}))).await;
            let made = made.expect("it is allowed");
            if has_sidecar(&made) {
                return Some(made);
            }
            let now = DeleteParams::default().grace_period(0);
            pods.delete("first", &now).await.expect("it was there");
            None
        })
        .await
    }

    async fn make(&self, namespace: &str, pod: &Pod) -> Result<Pod, Box<Status>> {
        match self.pods(namespace).create(&PostParams::default(), pod).await {
            Ok(pod) => Ok(pod),
            refused => Err(refusal(refused)),
        }
    }
}

fn authority(folder: &std::path::Path) -> Authority {
    let config = AuthorityConfig {
        trust_domain: "weft.local".parse().expect("a trust domain"),
        svid_ttl: std::time::Duration::from_secs(3600),
        root_lifetime: std::time::Duration::from_secs(24 * 3600),
        propagation: std::time::Duration::ZERO,
        external: None,
    };
    Authority::open(folder, config, SystemTime::now()).expect("an authority")
}

/// What is installed, but that the webhook is at this URL and not behind a Service.
fn configuration(url: &str) -> MutatingWebhookConfiguration {
    let mut object: Value = serde_norway::from_str(CONFIGURATION).expect("YAML");
    assert_eq!(object["metadata"]["name"], ca_bundle::NAME);
    for webhook in object["webhooks"].as_array_mut().expect("webhooks") {
        let service = webhook["clientConfig"]["service"].take();
        assert_eq!((&service["path"], &service["port"]), (&json!("/inject"), &json!(443)));
        webhook["clientConfig"] = json!({"url": url});
    }
    serde_json::from_value(object).expect("a configuration")
}

fn pod(name: &str, metadata: Value, spec: Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name},
        "spec": {"containers": [{
            "name": "app",
            "image": IMAGE,
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
        }]},
    });
    json_patch::merge(&mut pod["metadata"], &metadata);
    json_patch::merge(&mut pod["spec"], &spec);
    serde_json::from_value(pod).expect("a pod")
}

fn init_containers(pod: &Pod) -> &[Container] {
    pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default()
}

fn has_sidecar(pod: &Pod) -> bool {
    init_containers(pod).iter().any(|container| container.name == inject::PROXY_CONTAINER)
}

/// One test for all of it: the configuration has one name in a cluster.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_asks_for_sidecars_where_a_label_does_and_works_on_without_an_answer() {
    let mut stage = Stage::start().await;
    let shop = stage.cluster.labelled_namespace("shop", &[("weft.dev/inject", "enabled")]).await;
    let plain = stage.cluster.namespace("plain").await;
    let first = stage.until_injecting(&shop).await;
    is_whole(&first);

    let labelled = |word: &str| json!({"labels": {"weft.dev/inject": word}});
    for (namespace, metadata, spec, is_injected) in [
        (&shop, json!({}), json!({}), true),
        (&shop, labelled("disabled"), json!({}), false),
        (&shop, json!({"annotations": {"weft.dev/inject": "disabled"}}), json!({}), false),
        (&shop, json!({}), json!({"hostNetwork": true}), false),
        (&plain, json!({}), json!({}), false),
        (&plain, labelled("enabled"), json!({}), true),
    ] {
        let wish = pod("", json!({"name": null, "generateName": "pod-"}), json!({}));
        let mut wish = serde_json::to_value(wish).expect("JSON");
        json_patch::merge(&mut wish["metadata"], &metadata);
        if spec["hostNetwork"] == true {
            // A port of a container is then the node's, and must be given as such.
            wish["spec"]["hostNetwork"] = json!(true);
            wish["spec"]["containers"][0]["ports"] = Value::Null;
            wish["spec"]["containers"][0]["readinessProbe"] = Value::Null;
        }
        let wish: Pod = serde_json::from_value(wish).expect("a pod");
        let made = stage.make(namespace, &wish).await.expect("it is allowed");
        assert_eq!(has_sidecar(&made), is_injected, "{metadata} {spec}");
    }

    let wrong = json!({"annotations": {"weft.dev/skip-inbound-ports": "ssh", "weft.dev/typo": ""}});
    let status = stage.make(&shop, &pod("wrong", wrong, json!({}))).await.expect_err("refused");
    for part in ["denied the request", "weft.dev/skip-inbound-ports", "weft.dev/typo"] {
        assert!(status.message.contains(part), "{}", status.message);
    }

    rotated(&stage, &shop).await;

    // Nobody answers: pods are made all the same.
    stage.webhook.shutdown().await;
    let made = stage.make(&shop, &pod("late", json!({}), json!({}))).await.expect("it is allowed");
    assert!(!has_sidecar(&made));
}

/// What the API server made of it is what was meant: valid, complete, in order.
fn is_whole(pod: &Pod) {
    let names: Vec<_> = init_containers(pod).iter().map(|init| init.name.as_str()).collect();
    assert_eq!(names, [inject::INIT_CONTAINER, inject::PROXY_CONTAINER]);
    assert_eq!(init_containers(pod)[1].restart_policy.as_deref(), Some("Always"));
    let annotations = pod.metadata.annotations.as_ref().expect("annotations");
    assert_eq!(annotations["weft.dev/workload"], "first");
    let spec = pod.spec.as_ref().expect("a spec");
    let volumes = spec.volumes.iter().flatten();
    assert_eq!(volumes.filter(|volume| volume.name == inject::VOLUME).count(), 1);
    let probe = spec.containers[0].readiness_probe.as_ref().expect("its probe");
    let path = probe.http_get.as_ref().and_then(|get| get.path.as_deref());
    assert_eq!(path, Some("/probe/app/readiness"));
}

/// The root is replaced, and injection goes on at every step.
async fn rotated(stage: &Stage, namespace: &str) {
    let works = async |name: &str| {
        let made = stage.make(namespace, &pod(name, json!({}), json!({}))).await;
        assert!(has_sidecar(&made.expect("it is allowed")), "{name}");
    };
    stage.authority.rotate_root(SystemTime::now()).expect("a new root");
    works("announced").await;
    stage.until_the_roots_are_known().await;
    assert!(stage.authority.advance(SystemTime::now(), true).expect("it signs"));
    works("signs").await;
    stage.until_the_roots_are_known().await;
    works("known").await;
}
