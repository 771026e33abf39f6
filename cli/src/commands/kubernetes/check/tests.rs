//! `weft check` against an API server that answers from a table: what each state of a cluster is called.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use kube::client::Body;
use serde_json::{Value, json};
use tower::service_fn;

use super::{finding::State, *};
use crate::command::{ClusterArgs, Format, FormatArgs};

/// What a GET of a path answers. Rights are given unless `refused` names the resource.
#[derive(Clone, Default)]
struct Cluster {
    answers: BTreeMap<String, Value>,
    refused: Option<&'static str>,
}

const WEBHOOKS: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/weft-injector";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/weft-system/deployments/weft-control-plane";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/weft-system/endpointslices";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const SYSTEM: &str = "/api/v1/namespaces/weft-system";

impl Cluster {
    /// A cluster without Weft.
    fn empty() -> Self {
        let version = json!({
            "major": "1", "minor": "33", "gitVersion": "v1.33.2", "gitCommit": "", "gitTreeState": "",
            "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
        });
        let mut cluster = Self::default();
        cluster.put("/version", version);
        for path in ["/api/v1/namespaces", "/api/v1/pods", "/api/v1/configmaps", SLICES] {
            cluster.items(path, json!([]));
        }
        cluster
    }

    /// A cluster in which Weft works, with one meshed pod.
    fn installed() -> Self {
        let mut cluster = Self::empty();
        let system = json!({"metadata": {"name": "weft-system", "labels": {"app.kubernetes.io/part-of": "weft"}}});
        cluster.put(SYSTEM, system);
        let image = concat!("example.org/control-plane:", env!("CARGO_PKG_VERSION"));
        cluster.put(DEPLOYMENT, json!({
            "metadata": {"name": "weft-control-plane", "namespace": "weft-system"},
            "spec": {
                "selector": {},
                "template": {"spec": {"containers": [{"name": "control-plane", "image": image}]}},
            },
            "status": {"availableReplicas": 1},
        }));
        let slice = |service: &str| {
            json!({
                "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.0.0.9"], "conditions": {"ready": true}}],
            })
        };
        cluster.items(SLICES, json!([slice("weft-control-plane"), slice("weft-webhook")]));
        for mut definition in weft_control_plane::model::crd::all() {
            let name = definition["metadata"]["name"].as_str().expect("a name").to_owned();
            definition["spec"]["conversion"] = json!({"strategy": "None"});
            cluster.put(&format!("{DEFINITIONS}/{name}"), definition);
        }
        cluster.put(WEBHOOKS, injector(&certificate(2020, 2100)));
        cluster.items("/api/v1/namespaces", json!([namespace(&[(INJECT, "enabled")])]));
        cluster.items("/api/v1/pods", json!([pod("cart", env!("CARGO_PKG_VERSION"))]));
        let roots = json!({
            "metadata": {"name": "weft-roots", "namespace": "shop"},
            "data": {"roots.pem": "-----BEGIN CERTIFICATE-----"},
        });
        cluster.items("/api/v1/configmaps", json!([roots]));
        cluster
    }

    fn put(&mut self, path: &str, value: Value) -> &mut Self {
        self.answers.insert(path.to_owned(), value);
        self
    }

    fn items(&mut self, path: &str, items: Value) -> &mut Self {
        self.put(path, json!({"metadata": {}, "items": items}))
    }

    fn without(&mut self, path: &str) -> &mut Self {
        self.answers.remove(path);
        self
    }

    fn client(&self) -> Client {
        let cluster = Arc::new(self.clone());
        let answer = move |request: Request<Body>| {
            let cluster = Arc::clone(&cluster);
            async move { Ok::<_, Infallible>(cluster.answer(request).await) }
        };
        Client::new(service_fn(answer), "default")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        if path.ends_with("/selfsubjectaccessreviews") {
            let body = request.into_body().collect().await.expect("the body").to_bytes();
            let mut review: Value = serde_json::from_slice(&body).expect("JSON");
            let resource = review["spec"]["resourceAttributes"]["resource"].as_str();
            let allowed = resource != self.refused;
            review["status"] = json!({"allowed": allowed});
            return Response::new(Full::from(review.to_string()));
        }
        let (status, value) = match self.answers.get(&path) {
            Some(value) => (200, value.clone()),
            None => {
                let message = format!("{path} not found");
                let reason = "NotFound";
                (
                    404,
                    json!({"kind": "Status", "status": "Failure", "message": message, "reason": reason, "code": 404}),
                )
            }
        };
        let mut response = Response::new(Full::from(value.to_string()));
        *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
        response
    }

    async fn check(&self, pre: bool, namespaces: &[&str]) -> Vec<Finding> {
        let args = CheckArgs {
            pre,
            namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
            cluster: ClusterArgs { kubeconfig: None, context: None },
            format: FormatArgs { output: Format::Table },
        };
        findings(&self.client(), "https://cluster.example", &args).await
    }
}

const INJECT: &str = "weft.dev/inject";

fn namespace(labels: &[(&str, &str)]) -> Value {
    let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
    json!({"metadata": {"name": "shop", "labels": labels}})
}

/// A pod with a native sidecar that is ready.
fn pod(name: &str, version: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "annotations": {"weft.dev/injected": version}},
        "spec": {"containers": []},
        "status": {
            "phase": "Running",
            "initContainerStatuses": [{
                "name": "weft-proxy", "ready": true, "image": "", "imageID": "", "restartCount": 0,
            }],
        },
    })
}

fn plain_pod(spec: Value) -> Value {
    json!({"metadata": {"name": "old", "namespace": "shop"}, "spec": spec, "status": {"phase": "Running"}})
}

fn injector(pem: &str) -> Value {
    use k8s_openapi::ByteString;
    let bundle = serde_json::to_value(ByteString(pem.as_bytes().to_vec())).expect("JSON");
    let webhook = |name: &String| {
        json!({
            "name": name,
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "clientConfig": {"caBundle": bundle},
        })
    };
    let webhooks: Vec<Value> = webhook::expected().iter().map(webhook).collect();
    json!({"metadata": {"name": "weft-injector"}, "webhooks": webhooks})
}

/// A root that is good from the beginning of one year to that of another.
fn certificate(from: i32, to: i32) -> String {
    let mut parameters = rcgen::CertificateParams::default();
    parameters.not_before = rcgen::date_time_ymd(from, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(to, 1, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    parameters.self_signed(&key).expect("a certificate").pem()
}

fn failures(findings: &[Finding]) -> Vec<String> {
    let failed = findings.iter().filter(|finding| finding.state == State::Failed);
    failed.map(|finding| format!("{}: {}", finding.check, finding.message)).collect()
}

/// The findings hold this failure, and no other, with something to do.
fn only_failure(findings: &[Finding], expected: &str) {
    let failures = failures(findings);
    let [failure] = &failures[..] else { panic!("not one failure: {failures:#?}, for {expected}") };
    assert!(failure.contains(expected), "{failure} is not {expected}");
    assert!(findings.iter().all(|f| f.state == State::Ok || !f.fix.is_empty()), "{findings:#?}");
}

#[tokio::test]
async fn an_empty_cluster_is_ready_for_weft() {
    let findings = Cluster::empty().check(true, &[]).await;
    assert!(findings.iter().all(|finding| finding.state == State::Ok), "{findings:#?}");
    only_failure(&Cluster::empty().check(false, &[]).await, "installation: Weft is not installed");
}

#[tokio::test]
async fn what_keeps_weft_out_is_named_before() {
    let mut cluster = Cluster::empty();
    cluster.refused = Some("clusterroles");
    let rights = "your rights: you may not get clusterroles.rbac.authorization.k8s.io";
    only_failure(&cluster.check(true, &[]).await, rights);

    let mut cluster = Cluster::empty();
    cluster.put(SYSTEM, json!({"metadata": {"name": "weft-system"}}));
    only_failure(&cluster.check(true, &[]).await, "was not made by Weft");

    let mut cluster = Cluster::empty();
    let mut definition = weft_control_plane::model::crd::all().remove(0);
    let path =
        format!("{DEFINITIONS}/{}", definition["metadata"]["name"].as_str().expect("a name"));
    definition["metadata"]["annotations"]["weft.dev/version"] = "99.0.0".into();
    cluster.put(&path, definition.clone());
    only_failure(&cluster.check(true, &[]).await, "is of the newer version 99.0.0");
    definition["metadata"]["annotations"] = json!({});
    cluster.put(&path, definition);
    only_failure(&cluster.check(true, &[]).await, "was not made by Weft");

    let mut cluster = Cluster::empty();
    let restricted = [("pod-security.kubernetes.io/enforce", "restricted")];
    cluster.items("/api/v1/namespaces", json!([namespace(&restricted)]));
    assert_eq!(failures(&cluster.check(true, &[]).await), [""; 0], "nobody means to mesh it");
    only_failure(
        &cluster.check(true, &["shop"]).await,
        "forbids weft-init the capability NET_ADMIN",
    );
    only_failure(&cluster.check(true, &["gone"]).await, "there is no namespace gone");
}

#[tokio::test]
async fn a_cluster_that_is_too_old_is_refused() {
    for (version, state) in [
        ("v1.28.9", State::Failed),
        ("v1.29.0", State::Ok),
        ("v1.33.2+k3s1", State::Ok),
        ("v2.0.0", State::Ok),
        ("mine", State::Warning),
    ] {
        assert_eq!(server(&Ok(version.into()), "https://cluster").state, state, "{version}");
    }
}

#[tokio::test]
async fn an_installation_that_works_is_well() {
    let findings = Cluster::installed().check(false, &[]).await;
    assert!(findings.iter().all(|finding| finding.state == State::Ok), "{findings:#?}");
    let findings = Cluster::installed().check(true, &[]).await;
    assert_eq!(failures(&findings), [""; 0]);
    assert!(findings.iter().any(|finding| finding.message == "Weft is installed already"));
}

#[tokio::test]
async fn each_thing_that_is_broken_is_named() {
    let broken = |change: &dyn Fn(&mut Cluster)| {
        let mut cluster = Cluster::installed();
        change(&mut cluster);
        cluster
    };
    let pods = |pods: Value| broken(&|cluster| _ = cluster.items("/api/v1/pods", pods.clone()));
    let bundle = |pem: &str| broken(&|cluster| _ = cluster.put(WEBHOOKS, injector(pem)));
    let mut unready = pod("cart", env!("CARGO_PKG_VERSION"));
    unready["status"]["initContainerStatuses"][0]["ready"] = false.into();
    let mut annotated = plain_pod(json!({"containers": []}));
    annotated["metadata"]["annotations"] = json!({INJECT: "enabled"});
    annotated["metadata"]["namespace"] = "elsewhere".into();
    let mut loud = namespace(&[(INJECT, "enabled")]);
    loud["metadata"]["annotations"] = json!({"weft.dev/log-level": "loud"});
    let namespaces = |namespaces: Value| {
        broken(&|cluster| _ = cluster.items("/api/v1/namespaces", namespaces.clone()))
    };
    for (cluster, expected) in [
        (
            namespaces(json!([namespace(&[(INJECT, "true")])])),
            "namespaces: shop has the label weft.dev/inject=true, which is no word of Weft's",
        ),
        (
            namespaces(json!([loud])),
            "namespaces: shop can have no meshed pod: the namespace's metadata.annotations[weft.dev/log-level]: \
             \"loud\" is no log level",
        ),
        (
            broken(&|c| _ = c.without(DEPLOYMENT)),
            "control plane: Deployment weft-system/weft-control-plane is not there",
        ),
        (broken(&|c| _ = c.items(SLICES, json!([]))), "services: "),
        (
            broken(&|c| _ = c.without(&format!("{DEFINITIONS}/workloads.weft.dev"))),
            "workloads.weft.dev is not there",
        ),
        (
            broken(&|c| _ = c.without(WEBHOOKS)),
            "webhook: MutatingWebhookConfiguration weft-injector is not there",
        ),
        (bundle(""), "caBundle is empty"),
        (bundle(&certificate(2001, 2002)), "every certificate in caBundle has ended"),
        (bundle(&certificate(2098, 2099)), "no certificate in caBundle is good yet"),
        (
            broken(&|c| _ = c.items("/api/v1/configmaps", json!([]))),
            "roots: ConfigMap weft-roots is missing or empty in shop",
        ),
        (
            pods(json!([plain_pod(json!({"containers": []}))])),
            "sidecars: missing in 1 pod (shop/old): made before",
        ),
        (pods(json!([annotated])), "(elsewhere/old): asked for by an annotation"),
        (pods(json!([unready])), "not ready in 1 pod (shop/cart)"),
    ] {
        let findings = cluster.check(false, &[]).await;
        let failures = failures(&findings);
        assert!(
            failures.iter().any(|failure| failure.contains(expected)),
            "{expected}: {failures:#?}"
        );
        let services = expected == "services: ";
        assert_eq!(failures.len(), if services { 2 } else { 1 }, "{failures:#?}");
    }
}

#[tokio::test]
async fn pods_that_can_have_no_sidecar_or_ask_for_none_fail_nothing() {
    let mut disabled = plain_pod(json!({"containers": []}));
    disabled["metadata"]["labels"] = json!({INJECT: "disabled"});
    let mut done = plain_pod(json!({"containers": []}));
    done["status"]["phase"] = "Succeeded".into();
    let mut going = plain_pod(json!({"containers": []}));
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    for harmless in [
        plain_pod(json!({"containers": [], "hostNetwork": true})),
        plain_pod(json!({"containers": [], "os": {"name": "windows"}})),
        disabled,
        done,
        going,
    ] {
        let mut cluster = Cluster::installed();
        cluster.items("/api/v1/pods", json!([harmless]));
        let findings = cluster.check(false, &[]).await;
        assert!(findings.iter().all(|finding| finding.state == State::Ok), "{findings:#?}");
    }
}

#[tokio::test]
async fn versions_that_differ_are_told() {
    let mut cluster = Cluster::installed();
    cluster.items("/api/v1/pods", json!([pod("cart", "0.0.1")]));
    let findings = cluster.check(false, &[]).await;
    let warning = findings.iter().find(|finding| finding.state == State::Warning);
    let warning = warning.unwrap_or_else(|| panic!("{findings:#?}"));
    assert!(warning.message.contains("of version 0.0.1"), "{warning:?}");
}

#[tokio::test]
async fn after_an_uninstallation_sidecars_that_are_left_are_listed() {
    let mut cluster = Cluster::installed();
    cluster.without(DEPLOYMENT).without(WEBHOOKS);
    let failures = failures(&cluster.check(false, &[]).await);
    assert_eq!(failures.len(), 2, "{failures:#?}");
    assert!(failures[1].contains("left without a control plane: 1 pod (shop/cart)"));
}

#[tokio::test]
async fn a_right_that_is_missing_spoils_one_check_alone() {
    let mut cluster = Cluster::installed();
    cluster.without("/api/v1/pods");
    let findings = cluster.check(false, &[]).await;
    assert_eq!(failures(&findings), [""; 0]);
    let unknown = findings.iter().filter(|finding| finding.state == State::Warning);
    let unknown: Vec<&str> = unknown.map(|finding| finding.check).collect();
    assert_eq!(unknown, ["sidecars"]);
}
