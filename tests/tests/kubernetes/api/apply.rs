//! Server-side apply: who owns what, who may take it, and what goes when it is not applied any more.

use k8s_openapi::api::{
    core::v1::{ConfigMap, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api as Objects, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use weft_tests::kubernetes::{Cluster, cluster::refusal};

use super::objects::object;

pub(super) fn by(manager: &str) -> PatchParams {
    PatchParams::apply(manager)
}

fn data(fields: &Value) -> Patch<Value> {
    Patch::Apply(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": fields}),
    )
}

#[tokio::test]
async fn what_is_applied_is_made_owned_and_removed_again() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("apply").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);

    let made = maps
        .patch("web", &by("one"), &data(&json!({"a": "1", "b": "1"})))
        .await
        .expect("it is made");
    let entry = &made.metadata.managed_fields.as_ref().expect("owners")[0];
    assert_eq!(
        (entry.manager.as_deref(), entry.operation.as_deref()),
        (Some("one"), Some("Apply"))
    );
    assert_eq!(
        entry.fields_v1.as_ref().expect("fields").0,
        json!({"f:data": {"f:a": {}, "f:b": {}}})
    );
    let again =
        maps.patch("web", &by("one"), &data(&json!({"a": "1", "b": "1"}))).await.expect("again");
    assert_eq!(again.resource_version(), made.resource_version(), "nothing changed");

    maps.patch("web", &by("two"), &data(&json!({"b": "1", "c": "1"})))
        .await
        .expect("b is the same");
    let left = maps.patch("web", &by("one"), &data(&json!({"a": "2"}))).await.expect("its own");
    let left = serde_json::to_value(left.data).expect("JSON");
    assert_eq!(left, json!({"a": "2", "b": "1", "c": "1"}), "two still owns b");
    let left = maps.patch("web", &by("two"), &data(&json!({"c": "1"}))).await.expect("its own");
    assert_eq!(serde_json::to_value(left.data).expect("JSON"), json!({"a": "2", "c": "1"}));
}

#[tokio::test]
async fn another_value_for_anothers_field_is_a_conflict_until_it_is_forced() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("apply").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    maps.patch("web", &by("one"), &data(&json!({"a": "1"}))).await.expect("it is made");

    let status = refusal(maps.patch("web", &by("two"), &data(&json!({"a": "2"}))).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert_eq!(status.message, "Apply failed with 1 conflict: conflict with \"one\": .data.a");
    let cause = &status.details.expect("details").causes[0];
    assert_eq!((cause.reason.as_str(), cause.field.as_str()), ("FieldManagerConflict", ".data.a"));

    let forced =
        maps.patch("web", &by("two").force(), &data(&json!({"a": "2"}))).await.expect("forced");
    assert_eq!(forced.data.expect("data")["a"], "2");
    let owners = forced.metadata.managed_fields.expect("owners");
    assert_eq!(
        owners.iter().filter_map(|entry| entry.manager.as_deref()).collect::<Vec<_>>(),
        ["two"]
    );

    let patch = Patch::Merge(json!({"data": {"a": "3"}}));
    let parameters =
        PatchParams { field_manager: Some("three".to_owned()), ..PatchParams::default() };
    maps.patch("web", &parameters, &patch).await.expect("an update asks nobody");
    let status = refusal(maps.patch("web", &by("two"), &data(&json!({"a": "2"}))).await);
    assert_eq!(
        status.message,
        "Apply failed with 1 conflict: conflict with \"three\" using v1: .data.a"
    );
}

#[tokio::test]
async fn all_conflicts_are_told() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("apply").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    maps.patch("web", &by("one"), &data(&json!({"a": "1", "b": "1"}))).await.expect("it is made");

    let status = refusal(maps.patch("web", &by("two"), &data(&json!({"a": "2", "b": "2"}))).await);

    let wanted = "Apply failed with 2 conflicts: conflicts with \"one\":\n- .data.a\n- .data.b";
    assert_eq!(status.message, wanted);
    assert_eq!(status.details.expect("details").causes.len(), 2);
}

#[tokio::test]
async fn items_of_keyed_lists_are_owned_one_by_one() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("apply").await;
    let services: Objects<Service> = cluster.objects(&namespace);
    let ports = |ports: Value| {
        Patch::Apply(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": ports}}),
        )
    };
    let http = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
    let grpc = json!([{"name": "grpc", "port": 90, "protocol": "TCP"}]);

    services.patch("web", &by("one"), &ports(http)).await.expect("it is made");
    let both = services.patch("web", &by("two"), &ports(grpc.clone())).await.expect("another port");
    let numbers = |service: &Service| -> Vec<i32> {
        service
            .spec
            .iter()
            .flat_map(|spec| spec.ports.iter().flatten())
            .map(|port| port.port)
            .collect()
    };
    assert_eq!(numbers(&both), [80, 90]);
    let none = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"type": "ClusterIP"},
    });
    let one = services.patch("web", &by("one"), &Patch::Apply(none)).await;
    let one = one.expect("its own port goes");
    assert_eq!(numbers(&one), [90]);
}

#[tokio::test]
async fn an_apply_names_its_manager_and_brings_no_owners() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("apply").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    let mut applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}});
    let made =
        maps.patch("web", &by("one"), &Patch::Apply(applied.clone())).await.expect("it is made");

    applied["metadata"]["managedFields"] = json!(made.metadata.managed_fields);
    if made.metadata.managed_fields.as_ref().is_some_and(|owners| !owners.is_empty()) {
        let status = refusal(maps.patch("web", &by("one"), &Patch::Apply(applied.clone())).await);
        assert_eq!(status.message, "metadata.managedFields must be nil");
    }
    applied["metadata"]["managedFields"] = Value::Null;
    applied["metadata"]["resourceVersion"] = json!("1");
    let status = refusal(maps.patch("web", &by("one"), &Patch::Apply(applied)).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
}

#[tokio::test]
async fn whole_slices_are_applied_and_applied_again() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("apply").await;
    let slice = |address: &str| -> EndpointSlice {
        object(json!({
            "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        }))
    };
    cluster.apply_slice(&namespace, &slice("192.0.2.1")).await;

    let applied = cluster.apply_slice(&namespace, &slice("192.0.2.2")).await;

    assert_eq!(applied.endpoints.len(), 1);
    assert_eq!(applied.endpoints[0].addresses, ["192.0.2.2"]);
    assert_eq!(applied.metadata.generation, Some(2));
}
