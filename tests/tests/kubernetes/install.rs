//! The manifests as they are installed, and a control plane that has no rights but those that they give: it reads what
//! it must, lets a pod join, keeps the roots and the state, and says what became of the operator's objects.

use std::path::Path;

use k8s_openapi::{
    api::core::v1::{ConfigMap, Pod, Secret, Service},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use serde_json::json;
use weft_proto::api::{ApplyRequest, AuthzRequest, ProxiesRequest};
use weft_tests::{
    kubernetes::cluster::{Cluster, MANAGER, pods::PodWish},
    mesh::{Mesh, Sidecar},
    pod_sidecar::PodSidecar,
    wait,
};

use super::INJECTOR;

const SYSTEM: &str = "weft-system";

/// The objects of the kustomize base, in the order of its list.
fn manifests() -> Vec<DynamicObject> {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/k8s/base");
    let list = std::fs::read_to_string(base.join("kustomization.yaml")).expect("it is there");
    let list: serde_json::Value = serde_norway::from_str(&list).expect("YAML");
    let files = list["resources"].as_array().expect("resources").iter();
    let texts = files.map(|file| {
        let path = base.join(file.as_str().expect("a path"));
        std::fs::read_to_string(path).expect("it is there")
    });
    let documents = texts.flat_map(|text| {
        let documents = serde_norway::Deserializer::from_str(&text)
            .map(|document| serde::Deserialize::deserialize(document).expect("an object"));
        documents.collect::<Vec<DynamicObject>>()
    });
    documents.collect()
}

/// Where the API serves an object's kind.
fn resource(object: &DynamicObject) -> ApiResource {
    let types = object.types.as_ref().expect("every object says its kind");
    let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
    let kind = GroupVersionKind::gvk(group, version, &types.kind);
    let lower = types.kind.to_lowercase();
    let plural = match lower.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{lower}s"),
    };
    ApiResource::from_gvk_with_plural(&kind, &plural)
}

fn api(cluster: &Cluster, object: &DynamicObject) -> Api<DynamicObject> {
    match object.namespace() {
        Some(namespace) => Api::namespaced_with(cluster.client(), &namespace, &resource(object)),
        None => Api::all_with(cluster.client(), &resource(object)),
    }
}

/// Installs Weft, as `weft install | kubectl apply -f -` does; nothing runs by that.
async fn install(cluster: &Cluster) {
    for object in manifests() {
        let settings = PatchParams::apply(MANAGER).force();
        let (objects, name) = (api(cluster, &object), object.name_any());
        let applied = objects.patch(&name, &settings, &Patch::Apply(&object)).await;
        applied.map_err(|error| format!("{name}: {error}")).expect("it is accepted");
        if object.types.as_ref().is_some_and(|types| types.kind == "CustomResourceDefinition") {
            let definition: CustomResourceDefinition = object.try_parse().expect("a definition");
            cluster.apply_definitions(&[definition]).await;
        }
    }
}

/// Takes it out again, but for the namespace, which goes with the test.
async fn uninstall(cluster: &Cluster) {
    for object in manifests().iter().rev() {
        if object.types.as_ref().is_some_and(|types| types.kind == "Namespace") {
            continue;
        }
        let (objects, name) = (api(cluster, object), object.name_any());
        let deleted = objects.delete(&name, &DeleteParams::default()).await;
        deleted.map_err(|error| format!("{name}: {error}")).expect("it was there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_installed_is_all_that_a_control_plane_needs() {
    let cluster = Cluster::start().await;
    let _injector = INJECTOR.lock().await;
    cluster.adopt_namespace(SYSTEM);
    install(&cluster).await;
    let account = "weft-control-plane";
    // A token of the account itself, for the API server: the rights are those of the manifests.
    let token = cluster.token(SYSTEM, account, None, &[]).await;
    let config = cluster.config_with_token(&token);
    let webhook = format!("--webhook-listen={}:0", cluster.own_address());
    let settings = [webhook.as_str(), "--inbound-mode=permissive"];
    let mesh = Mesh::in_cluster(&config, SYSTEM, &settings).await;

    let namespace = cluster.labelled_namespace("shop", &[("weft.dev/inject", "enabled")]).await;
    let node = cluster.node("zone-a").await;
    cluster.service_account(&namespace, "cart").await;
    let wish = PodWish::named("cart-1", &node).service_account("cart").port("http", 8080);
    let address = "10.77.9.1".parse().expect("an address");
    let pod: Pod = cluster.running_pod(&namespace, &wish, &[address]).await;

    let roots: Api<ConfigMap> = cluster.objects(&namespace);
    let roots = wait::until("the roots", || async {
        roots.get_opt("weft-roots").await.expect("the API answers")
    })
    .await;
    let roots = roots.data.expect("it has data")["roots.pem"].clone();
    let secrets: Api<Secret> = cluster.objects(SYSTEM);
    secrets.get("weft-control-plane-state").await.expect("the state is kept");
    let injector = Api::<DynamicObject>::all_with(
        cluster.client(),
        &ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk(
                "admissionregistration.k8s.io",
                "v1",
                "MutatingWebhookConfiguration",
            ),
            "mutatingwebhookconfigurations",
        ),
    );
    wait::until_true("the API server to be told whom to trust", || async {
        let found = injector.get("weft-injector").await.expect("it is installed");
        let webhooks = found.data["webhooks"].as_array().expect("webhooks").clone();
        webhooks.iter().all(|webhook| webhook["clientConfig"]["caBundle"].is_string())
    })
    .await;

    let token = cluster.token(&namespace, "cart", Some(&pod), &["weft.dev"]).await;
    let workload = format!("{namespace}/cart-1");
    let projected = PodSidecar::new(&workload, "cart-1", &token, &roots)
        .control_plane(&mesh.discovery().to_string());
    let sidecar = Sidecar::start(projected.config());
    sidecar.ready().await;
    let proxies = mesh.api().await.proxies(ProxiesRequest {}).await.expect("the API answers");
    let proxies = proxies.into_inner().proxies;
    let [proxy] = &proxies[..] else { panic!("one sidecar, but: {proxies:?}") };
    assert_eq!((proxy.workload.as_str(), proxy.instance.as_str()), (workload.as_str(), "cart-1"));

    let configs = Api::<DynamicObject>::all_with(
        cluster.client(),
        &ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk("weft.dev", "v1alpha1", "MeshConfig"),
            "meshconfigs",
        ),
    );
    let config = json!({
        "apiVersion": "weft.dev/v1alpha1",
        "kind": "MeshConfig",
        "metadata": {"name": "mesh"},
        "spec": {"inbound": {"mode": "strict"}},
    });
    let settings = PatchParams::apply(MANAGER).force();
    configs.patch("mesh", &settings, &Patch::Apply(&config)).await.expect("it is right");
    wait::until_true("the MeshConfig to be told that it is in force", || async {
        let found = configs.get("mesh").await.expect("it is there");
        let conditions = found.data["status"]["conditions"].as_array().cloned();
        conditions.into_iter().flatten().any(|condition| {
            condition["type"] == "Accepted"
                && condition["status"] == "True"
                && condition["observedGeneration"] == found.metadata.generation.unwrap_or_default()
        })
    })
    .await;
    let apply = ApplyRequest { objects: vec![config.to_string()], dry_run: false };
    let answer = mesh.api().await.apply(apply).await.expect("the API answers").into_inner();
    let message = &answer.results[0].message;
    assert!(message.contains("do it yourself, with kubectl apply"), "{message}");
    configs.delete("mesh", &DeleteParams::default()).await.expect("it is there");
    policies_are_told_what_became_of_them(&cluster, &mesh, &namespace).await;
    drop(sidecar);
    drop(mesh);
    uninstall(&cluster).await;
}

/// Policies and services outside are read, and get their conditions; what their definitions refuse never comes in.
async fn policies_are_told_what_became_of_them(cluster: &Cluster, mesh: &Mesh, namespace: &str) {
    let target = json!([{"kind": "Service", "name": "cart"}]);
    let service = json!({"metadata": {"name": "cart"}, "spec": {"ports": [{"port": 80}]}});
    let service: Service = serde_json::from_value(service).expect("a Service");
    cluster.create(&cluster.objects(namespace), &service).await;
    let deny = json!([{"action": "Deny", "to": [{"methods": ["DELETE"]}]}]);
    let hosts = json!({"hosts": ["api.example.com"], "ports": [{"port": 443, "protocol": "tls"}]});
    for (kind, plural, spec) in [
        (
            "TrafficPolicy",
            "trafficpolicies",
            json!({"targetRefs": target, "timeouts": {"request": "10s"}}),
        ),
        ("AccessPolicy", "accesspolicies", json!({"targetRefs": target, "rules": deny})),
        ("ExternalService", "externalservices", hosts),
    ] {
        let kind_of = GroupVersionKind::gvk("weft.dev", "v1alpha1", kind);
        let resource = ApiResource::from_gvk_with_plural(&kind_of, plural);
        let objects = Api::<DynamicObject>::namespaced_with(cluster.client(), namespace, &resource);
        let object = |spec: &serde_json::Value| {
            json!({
                "apiVersion": "weft.dev/v1alpha1",
                "kind": kind,
                "metadata": {"name": "sample"},
                "spec": spec,
            })
        };
        let settings = PatchParams::apply(MANAGER).force();
        // Each definition knows one of these fields, and it is no number.
        let wrong = Patch::Apply(object(&json!({"timeouts": 1, "rules": 1, "hosts": 1})));
        objects.patch("sample", &settings, &wrong).await.expect_err("it is wrong");
        let right = Patch::Apply(object(&spec));
        objects.patch("sample", &settings, &right).await.expect("it is right");
        wait::until_true(&format!("the {kind} to be told that it is in force"), || async {
            let found = objects.get("sample").await.expect("it is there");
            let conditions = found.data["status"]["conditions"].as_array().cloned();
            let is_right = |condition: &serde_json::Value| condition["status"] == "True";
            conditions.is_some_and(|all| !all.is_empty() && all.iter().all(is_right))
        })
        .await;
    }
    let request = AuthzRequest { service: format!("{namespace}/cart") };
    let answer = mesh.api().await.authz(request).await.expect("the API answers").into_inner();
    let rules: Vec<&str> = answer.ports[0].rules.iter().map(|rule| rule.rule.as_str()).collect();
    assert_eq!(rules, [format!("AccessPolicy {namespace}/sample rules[0]")]);
}
