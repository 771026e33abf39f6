//! Objects: what is taken, what is refused and with which words, what is kept apart and what is filled in.

use std::net::IpAddr;

use k8s_openapi::api::{
    core::v1::{ConfigMap, Namespace, Pod, Secret, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api as Objects, ResourceExt,
    api::{
        ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
        Preconditions,
    },
};
use serde_json::{Value, json};
use weft_tests::kubernetes::{
    Cluster,
    cluster::{pods::PodWish, refusal},
};

fn config_map(name: &str, labels: Value, data: Value) -> ConfigMap {
    object(json!({"metadata": {"name": name, "labels": labels}, "data": data}))
}

/// An object of JSON, which k8s-openapi's types want to say what they are.
pub(super) fn object<K>(mut value: Value) -> K
where
    K: k8s_openapi::Resource + serde::de::DeserializeOwned,
{
    value["apiVersion"] = json!(K::API_VERSION);
    value["kind"] = json!(K::KIND);
    serde_json::from_value(value).expect("it is one")
}

#[tokio::test]
async fn a_new_object_has_what_the_server_gives_it() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("objects").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    let mut wanted = config_map("", json!({"app": "web"}), json!({"key": "value"}));
    wanted.metadata.name = None;
    wanted.metadata.generate_name = Some("web-".to_owned());
    wanted.metadata.uid = Some("mine".to_owned());

    let made = cluster.create(&maps, &wanted).await;

    assert!(made.name_any().starts_with("web-") && made.name_any().len() == 9, "{made:?}");
    assert!(made.uid().is_some_and(|uid| uid.len() == 36), "{made:?}");
    assert!(made.creation_timestamp().is_some() && made.resource_version().is_some());
    assert_eq!(made.metadata.namespace.as_deref(), Some(namespace.as_str()));
    let fields = made.metadata.managed_fields.expect("somebody owns them");
    assert_eq!(fields[0].operation.as_deref(), Some("Update"));
    let again =
        maps.get(made.metadata.name.as_deref().expect("a name")).await.expect("it is there");
    assert_eq!(again.data, made.data);
}

#[tokio::test]
async fn an_object_is_refused_for_its_name_its_labels_and_where_it_is_to_be() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("objects").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    let post = PostParams::default();

    let status = refusal(maps.create(&post, &config_map("Web_1", json!({}), json!({}))).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    assert!(status.message.starts_with("ConfigMap \"Web_1\" is invalid: metadata.name: Invalid value: \"Web_1\": a lowercase RFC 1123 subdomain"), "{status:?}");

    let labels = json!({"app": "no spaces"});
    let status = refusal(maps.create(&post, &config_map("web", labels, json!({}))).await);
    assert_eq!(status.code, 422);
    assert!(status.details.expect("details").causes[0].field.starts_with("metadata.labels"));

    let nowhere: Objects<ConfigMap> = cluster.objects("weft-tests-no-such-namespace");
    let status = refusal(nowhere.create(&post, &config_map("web", json!({}), json!({}))).await);
    assert_eq!((status.code, status.reason.as_str()), (404, "NotFound"));
    assert_eq!(status.message, "namespaces \"weft-tests-no-such-namespace\" not found");

    maps.create(&post, &config_map("web", json!({}), json!({}))).await.expect("it is good");
    let status = refusal(maps.create(&post, &config_map("web", json!({}), json!({}))).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "AlreadyExists"));
    assert_eq!(status.message, "configmaps \"web\" already exists");

    let status = refusal(maps.get("other").await);
    assert_eq!(status.message, "configmaps \"other\" not found");
}

#[tokio::test]
async fn an_update_of_an_old_version_is_a_conflict_and_one_that_changes_nothing_is_none() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("objects").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    let first = cluster.create(&maps, &config_map("web", json!({}), json!({"key": "1"}))).await;
    let post = PostParams::default();

    let mut second = first.clone();
    second.data = Some([("key".to_owned(), "2".to_owned())].into());
    let second = maps.replace("web", &post, &second).await.expect("nobody was faster");
    assert_ne!(second.resource_version(), first.resource_version());

    let status = refusal(maps.replace("web", &post, &first).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert_eq!(
        status.message,
        "Operation cannot be fulfilled on configmaps \"web\": the object has been modified; please apply your changes to the latest version and try again"
    );

    let same = maps.replace("web", &post, &second).await.expect("it is the newest");
    assert_eq!(same.resource_version(), second.resource_version());
}

#[tokio::test]
async fn a_delete_holds_to_its_preconditions() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("objects").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    let made = cluster.create(&maps, &config_map("web", json!({}), json!({}))).await;
    let with_uid = |uid: &str| {
        let uid = Some(uid.to_owned());
        DeleteParams::default().preconditions(Preconditions { uid, resource_version: None })
    };

    let status = refusal(maps.delete("web", &with_uid("another")).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));

    maps.delete("web", &with_uid(&made.uid().expect("a uid"))).await.expect("it is that one");
    assert_eq!(refusal(maps.get("web").await).code, 404);
}

#[tokio::test]
async fn unknown_fields_are_refused_when_asked_and_dropped_otherwise() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("objects").await;
    let resource = ApiResource::erase::<Pod>(&());
    let pods: Objects<DynamicObject> =
        Objects::namespaced_with(cluster.client(), &namespace, &resource);
    let pod: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{"name": "app", "image": "pause", "imagePullPolice": "Never"}],
        },
    }))
    .expect("an object");
    let url = format!("/api/v1/namespaces/{namespace}/pods?fieldValidation=Strict");
    let strict = http::Request::post(url)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&pod).expect("JSON"))
        .expect("a request");

    let status = refusal(cluster.client().request::<Value>(strict).await);
    assert_eq!((status.code, status.reason.as_str()), (400, "BadRequest"));
    assert!(
        status.message.contains(
            "strict decoding error: unknown field \"spec.containers[0].imagePullPolice\""
        ),
        "{status:?}"
    );

    let made = pods.create(&PostParams::default(), &pod).await.expect("it is dropped");
    assert_eq!(made.data["spec"]["containers"][0].get("imagePullPolice"), None);
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_and_leaves_nothing() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("objects").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    let post = PostParams { dry_run: true, ..PostParams::default() };

    let made =
        maps.create(&post, &config_map("web", json!({}), json!({}))).await.expect("it would be");

    assert!(made.uid().is_some());
    assert!(maps.get_opt("web").await.expect("the API answers").is_none());
}

#[tokio::test]
async fn pods_are_refused_for_what_a_kubelet_could_not_run() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("objects").await;
    let pods: Objects<Pod> = cluster.objects(&namespace);
    let container = json!({"name": "app", "image": "pause"});
    let with = |more: Value| {
        let mut container = container.clone();
        json_patch::merge(&mut container, &more);
        json!({"containers": [container]})
    };
    let init = |more: Value| {
        let mut init = json!({"name": "init", "image": "pause"});
        json_patch::merge(&mut init, &more);
        json!({"containers": [container.clone()], "initContainers": [init]})
    };
    let probe = json!({"httpGet": {"port": 80}});
    let table = [
        (json!({"containers": []}), "spec.containers"),
        (json!({"containers": [container.clone(), container.clone()]}), "spec.containers[1].name"),
        (with(json!({"name": "App"})), "spec.containers[0].name"),
        (with(json!({"image": ""})), "spec.containers[0].image"),
        (
            with(json!({"ports": [{"containerPort": 0}]})),
            "spec.containers[0].ports[0].containerPort",
        ),
        (
            with(json!({"ports": [{"containerPort": 80, "name": "longer-than-fifteen"}]})),
            "spec.containers[0].ports[0].name",
        ),
        (
            with(json!({"volumeMounts": [{"name": "no", "mountPath": "/no"}]})),
            "spec.containers[0].volumeMounts[0].name",
        ),
        (
            with(
                json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.no"}}}]}),
            ),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath",
        ),
        (
            with(json!({"livenessProbe": {"httpGet": {"port": 80}, "tcpSocket": {"port": 80}}})),
            "spec.containers[0].livenessProbe.tcpSocket",
        ),
        (
            with(json!({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}})),
            "spec.containers[0].resources.requests",
        ),
        (init(json!({"restartPolicy": "Sometimes"})), "spec.initContainers[0].restartPolicy"),
        (init(json!({"startupProbe": probe})), "spec.initContainers[0].startupProbe"),
    ];

    for (spec, field) in table {
        let mut spec = spec;
        spec["automountServiceAccountToken"] = json!(false);
        let pod: Pod = object(json!({"metadata": {"name": "web"}, "spec": spec}));
        let status = refusal(pods.create(&PostParams::default(), &pod).await);
        assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"), "{field}: {status:?}");
        let causes = status.details.expect("details").causes;
        assert!(causes.iter().any(|cause| cause.field == field), "{field}: {causes:?}");
    }
    let native = init(json!({"restartPolicy": "Always", "startupProbe": probe}));
    let pod: Pod = object(json!({"metadata": {"name": "web"}, "spec": native}));
    cluster.create(&pods, &pod).await;
}

#[tokio::test]
async fn a_pod_needs_its_account_gets_its_token_and_stays_as_it_is() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("objects").await;
    let node = cluster.node("a").await;
    let pods: Objects<Pod> = cluster.objects(&namespace);
    let pod = PodWish::named("web", &node).service_account("nobody").to_pod();
    let status = refusal(pods.create(&PostParams::default(), &pod).await);
    assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
    assert!(status.message.contains("error looking up service account"), "{status:?}");

    let mut pod = PodWish::named("web", &node).to_pod();
    pod.spec.as_mut().expect("a spec").automount_service_account_token = None;
    let made = cluster.create(&pods, &pod).await;
    let spec = made.spec.as_ref().expect("a spec");
    assert_eq!(spec.service_account_name.as_deref(), Some("default"));
    assert!(
        spec.volumes.iter().flatten().any(|volume| volume.name.starts_with("kube-api-access-"))
    );
    assert_eq!(spec.restart_policy.as_deref(), Some("Always"));

    let patch =
        Patch::Strategic(json!({"spec": {"containers": [{"name": "app", "image": "other"}]}}));
    pods.patch("web", &PatchParams::default(), &patch).await.expect("images may change");
    let patch = Patch::Strategic(json!({"spec": {"hostNetwork": true}}));
    let status = refusal(pods.patch("web", &PatchParams::default(), &patch).await);
    assert_eq!(status.code, 422);
    assert!(status.message.contains("pod updates may not change fields other than"), "{status:?}");
}

#[tokio::test]
async fn status_and_spec_are_written_by_paths_of_their_own() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("objects").await;
    let node = cluster.node("a").await;
    let pods: Objects<Pod> = cluster.objects(&namespace);
    let ip: IpAddr = "192.0.2.7".parse().expect("an address");
    let mut wanted = PodWish::named("web", &node).to_pod();
    wanted.status = object::<Pod>(json!({"metadata": {}, "status": {"phase": "Failed"}})).status;
    let made = cluster.create(&pods, &wanted).await;
    assert_eq!(made.status.and_then(|status| status.phase).as_deref(), Some("Pending"));

    let running = cluster.set_running(&namespace, "web", &[ip], true).await;
    let status = running.status.expect("a status");
    assert_eq!(status.pod_ip.as_deref(), Some("192.0.2.7"));
    assert_eq!(status.pod_ips.expect("addresses")[0].ip, "192.0.2.7");

    let patch =
        Patch::Merge(json!({"status": {"phase": "Failed"}, "metadata": {"labels": {"a": "b"}}}));
    let patched =
        pods.patch("web", &PatchParams::default(), &patch).await.expect("labels may change");
    assert_eq!(patched.labels()["a"], "b");
    assert_eq!(patched.status.expect("a status").phase.as_deref(), Some("Running"));

    let unready = cluster.set_ready(&namespace, "web", false).await.status.expect("a status");
    let conditions = unready.conditions.expect("conditions");
    let ready: Vec<_> = conditions.iter().filter(|one| one.type_ == "Ready").collect();
    assert_eq!(ready.len(), 1, "conditions are merged by type: {conditions:?}");
    assert_eq!(ready[0].status, "False");
}

#[tokio::test]
async fn a_pod_with_a_node_terminates_and_one_without_goes_at_once() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("objects").await;
    let node = cluster.node("a").await;
    let pods: Objects<Pod> = cluster.objects(&namespace);
    let ip: IpAddr = "192.0.2.7".parse().expect("an address");
    cluster.running_pod(&namespace, &PodWish::named("web", &node), &[ip]).await;

    cluster.terminate_pod(&namespace, "web").await;
    let terminating = pods.get("web").await.expect("it is still there");
    assert!(terminating.metadata.deletion_timestamp.is_some());
    assert_eq!(terminating.metadata.deletion_grace_period_seconds, Some(300));
    cluster.remove_pod(&namespace, "web").await;
    assert!(pods.get_opt("web").await.expect("the API answers").is_none());
}

#[tokio::test]
async fn a_binding_gives_a_pod_its_node_once() {
    let cluster = Cluster::start_in_memory().await;
    let namespace = cluster.namespace("objects").await;
    let pods: Objects<Pod> = cluster.objects(&namespace);
    cluster.pod(&namespace, &PodWish::named("web", "")).await;

    cluster.bind_pod(&namespace, "web", "node-1").await;

    let by_node = ListParams::default().fields("spec.nodeName=node-1");
    assert_eq!(pods.list(&by_node).await.expect("a list").items.len(), 1);
    let again = json!({"metadata": {"name": "web"}, "target": {"name": "node-2"}});
    let result: Result<Value, _> =
        pods.create_subresource("binding", "web", &PostParams::default(), &again).await;
    assert_eq!(refusal(result).code, 409);
}

#[tokio::test]
async fn services_get_an_address_and_keep_it() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("objects").await;
    let services: Objects<Service> = cluster.objects(&namespace);
    let service = |name: &str, more: Value| -> Service {
        let mut spec =
            json!({"ports": [{"port": 80, "targetPort": "http"}], "selector": {"app": "web"}});
        json_patch::merge(&mut spec, &more);
        object(json!({"metadata": {"name": name}, "spec": spec}))
    };

    let made = cluster.create(&services, &service("web", json!({}))).await.spec.expect("a spec");
    let address: IpAddr = made.cluster_ip.as_deref().expect("one").parse().expect("an address");
    assert_eq!(made.cluster_ips, Some(vec![address.to_string()]));
    assert_eq!(made.type_.as_deref(), Some("ClusterIP"));
    assert_eq!(made.ports.expect("ports")[0].protocol.as_deref(), Some("TCP"));
    let headless = service("headless", json!({"clusterIP": "None"}));
    let headless = cluster.create(&services, &headless).await.spec.expect("a spec");
    assert_eq!(headless.cluster_ip.as_deref(), Some("None"));
    let external = json!({"type": "ExternalName", "externalName": "example.com", "selector": null});
    let external = cluster.create(&services, &service("external", external)).await;
    assert_eq!(external.spec.expect("a spec").cluster_ip, None);

    let other =
        Patch::Merge(json!({"spec": {"clusterIP": "10.96.255.1", "clusterIPs": ["10.96.255.1"]}}));
    let status = refusal(services.patch("web", &PatchParams::default(), &other).await);
    assert_eq!(status.code, 422, "{status:?}");
    let two = json!({"ports": [{"port": 80}, {"port": 81}]});
    let status = refusal(services.create(&PostParams::default(), &service("two", two)).await);
    assert_eq!(status.details.expect("details").causes[0].field, "spec.ports[0].name");
}

#[tokio::test]
async fn slices_hold_addresses_of_their_family_that_others_can_reach() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("objects").await;
    let slices: Objects<EndpointSlice> = cluster.objects(&namespace);
    let slice = |family: &str, address: &str| -> EndpointSlice {
        object(json!({
            "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": family, "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        }))
    };

    for (family, address) in [
        ("IPv4", "127.0.0.1"),
        ("IPv4", "169.254.1.1"),
        ("IPv4", "224.0.0.1"),
        ("IPv4", "0.0.0.0"),
        ("IPv4", "fd00::1"),
        ("IPv6", "192.0.2.1"),
        ("IPv6", "::1"),
        ("IPv6", "fe80::1"),
        ("IPv4", "web"),
    ] {
        let status = refusal(slices.create(&PostParams::default(), &slice(family, address)).await);
        assert_eq!(status.code, 422, "{family} {address}: {status:?}");
        let field = &status.details.expect("details").causes[0].field;
        assert_eq!(field, "endpoints[0].addresses[0]", "{family} {address}");
    }
    let made = cluster.apply_slice(&namespace, &slice("IPv4", "192.0.2.1")).await;
    assert_eq!(made.ports.expect("ports")[0].protocol.as_deref(), Some("TCP"));
    let status =
        refusal(slices.replace("web-1", &PostParams::default(), &slice("IPv6", "fd00::1")).await);
    assert_eq!(status.details.expect("details").causes[0].field, "addressType");
}

#[tokio::test]
async fn pages_of_a_list_belong_together() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("objects").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    for name in ["a", "b", "c", "d", "e"] {
        cluster.create(&maps, &config_map(name, json!({"list": "pages"}), json!({}))).await;
    }
    let mut page = ListParams::default().labels("list=pages").limit(2);

    let first = maps.list(&page).await.expect("a page");
    let names = |list: &kube::core::ObjectList<ConfigMap>| -> Vec<String> {
        list.items.iter().map(ResourceExt::name_any).collect()
    };
    assert_eq!(names(&first), ["a", "b"]);
    maps.delete("c", &DeleteParams::default()).await.expect("it is there");
    page = page.continue_token(&first.metadata.continue_.clone().expect("there are more"));
    let second = maps.list(&page).await.expect("a page");
    assert_eq!(names(&second), ["c", "d"], "as at the first page");
    assert_eq!(second.metadata.resource_version, first.metadata.resource_version);
}

#[tokio::test]
async fn selectors_select() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("objects").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    for (name, labels) in [
        ("a", json!({"app": "web", "tier": "1"})),
        ("b", json!({"app": "web"})),
        ("c", json!({"app": "db"})),
    ] {
        cluster.create(&maps, &config_map(name, labels, json!({}))).await;
    }
    for (selector, wanted) in [
        ("app=web", vec!["a", "b"]),
        ("app==web,tier", vec!["a"]),
        ("app=web,!tier", vec!["b"]),
        ("app in (db, cache)", vec!["c"]),
        ("app,app notin (db)", vec!["a", "b"]),
        ("app,app!=web", vec!["c"]),
    ] {
        let list = maps.list(&ListParams::default().labels(selector)).await.expect(selector);
        let names: Vec<String> = list.items.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, wanted, "{selector}");
    }
    let one = maps.list(&ListParams::default().fields("metadata.name=b")).await.expect("a list");
    assert_eq!(one.items.len(), 1);
    let status = refusal(maps.list(&ListParams::default().fields("data.key=b")).await);
    assert_eq!(status.code, 400);
}

#[tokio::test]
async fn patches_of_every_kind_change_what_they_name() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("objects").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    cluster.create(&maps, &config_map("web", json!({}), json!({"a": "1", "b": "1"}))).await;
    let parameters = PatchParams::default();

    let merge = Patch::Merge(json!({"data": {"a": null, "c": "1"}}));
    maps.patch("web", &parameters, &merge).await.expect("a merge patch");
    let operations = json!([{"op": "test", "path": "/data/b", "value": "1"}, {"op": "replace", "path": "/data/b", "value": "2"}]);
    let operations: json_patch::Patch = serde_json::from_value(operations).expect("a patch");
    let patched =
        maps.patch("web", &parameters, &Patch::Json::<()>(operations)).await.expect("a JSON patch");
    let data = patched.data.expect("data");
    assert_eq!(
        data.into_iter().collect::<Vec<_>>(),
        [("b".to_owned(), "2".to_owned()), ("c".to_owned(), "1".to_owned())]
    );

    let failing = json!([{"op": "test", "path": "/data/b", "value": "1"}]);
    let failing: json_patch::Patch = serde_json::from_value(failing).expect("a patch");
    let status = refusal(maps.patch("web", &parameters, &Patch::Json::<()>(failing)).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
}

#[tokio::test]
async fn secrets_take_text_and_keep_bytes() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("objects").await;
    let secrets: Objects<Secret> = cluster.objects(&namespace);
    let secret: Secret =
        object(json!({"metadata": {"name": "web"}, "stringData": {"token": "secret"}}));

    let made = cluster.create(&secrets, &secret).await;

    assert_eq!(made.data.expect("data")["token"].0, b"secret");
    assert_eq!((made.type_.as_deref(), made.string_data), (Some("Opaque"), None));
}

#[tokio::test]
async fn nothing_is_made_in_a_namespace_on_its_way_out() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("objects").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    // A finalizer keeps it, whoever finalizes.
    let mut held = config_map("held", json!({}), json!({}));
    held.metadata.finalizers = Some(vec!["weft.dev/test".to_owned()]);
    cluster.create(&maps, &held).await;
    let namespaces: Objects<Namespace> = Objects::all(cluster.client());
    namespaces.delete(&namespace, &DeleteParams::default()).await.expect("it is there");

    let found = namespaces.get(&namespace).await.expect("it is terminating");
    assert_eq!(found.status.and_then(|status| status.phase).as_deref(), Some("Terminating"));
    weft_tests::wait::until_true("nothing more is made there", || async {
        let made =
            maps.create(&PostParams::default(), &config_map("late", json!({}), json!({}))).await;
        match made {
            Err(kube::Error::Api(status)) if status.code == 403 => {
                assert!(status.message.contains("because it is being terminated"), "{status:?}");
                true
            }
            _ => false,
        }
    })
    .await;
    maps.delete("held", &DeleteParams::default()).await.expect("it is there");
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("held", &PatchParams::default(), &patch).await.expect("it was held by it alone");
    assert!(maps.get_opt("held").await.expect("the API answers").is_none());
}
