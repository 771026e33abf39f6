//! Pods: what a kubelet could run, what stays as it is, and how they end.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api as Objects, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use weft_tests::kubernetes::{
    Cluster,
    cluster::{pods::PodWish, refusal},
};

use super::objects::object;

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
