//! Server-side apply: who owns what, who may take it, and what goes when it is not applied any more.

use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Service},
        discovery::v1::EndpointSlice,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api as Objects, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use weft_tests::kubernetes::{Cluster, cluster::refusal};

use super::objects::object;

fn by(manager: &str) -> PatchParams {
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
    let one = services.patch("web", &by("one"), &ports(json!([]))).await;
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

/// A definition with most of what a schema can say; each test has its own group, as definitions are the cluster's.
fn definition(group: &str) -> CustomResourceDefinition {
    object(json!({
        "metadata": {"name": format!("shops.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"plural": "shops", "singular": "shop", "kind": "Shop", "listKind": "ShopList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {
                    "spec": {"type": "object", "required": ["kind"], "properties": {
                        "kind": {"type": "string", "enum": ["Books", "Shoes"]},
                        "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 8},
                        "shelves": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3},
                        "doors": {
                            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["side"],
                            "items": {"type": "object", "required": ["side"], "properties": {
                                "side": {"type": "string"}, "open": {"type": "boolean"},
                            }},
                        },
                    }},
                    "status": {"type": "object", "properties": {"visitors": {"type": "integer"}}},
                }}},
            }],
        },
    }))
}

fn shops(cluster: &Cluster, namespace: &str, group: &str) -> Objects<DynamicObject> {
    let kind = GroupVersionKind::gvk(group, "v1", "Shop");
    Objects::namespaced_with(
        cluster.client(),
        namespace,
        &ApiResource::from_gvk_with_plural(&kind, "shops"),
    )
}

fn shop(group: &str, name: &str, spec: &Value) -> DynamicObject {
    let value = json!({"apiVersion": format!("{group}/v1"), "kind": "Shop", "metadata": {"name": name}, "spec": spec});
    serde_json::from_value(value).expect("an object")
}

#[tokio::test]
async fn custom_resources_are_held_to_their_schema() {
    const GROUP: &str = "schema.tests.weft.dev";
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("apply").await;
    cluster.apply_definitions(&[definition(GROUP)]).await;
    let shops = shops(&cluster, &namespace, GROUP);
    let post = PostParams::default();

    for (spec, field) in [
        (json!({}), "spec.kind"),
        (json!({"kind": "Hats"}), "spec.kind"),
        (json!({"kind": 1}), "spec.kind"),
        (json!({"kind": "Books", "name": "UPPER"}), "spec.name"),
        (json!({"kind": "Books", "name": "muchtoolong"}), "spec.name"),
        (json!({"kind": "Books", "shelves": 10}), "spec.shelves"),
        (json!({"kind": "Books", "doors": [{"side": "a"}, {"side": "a"}]}), "spec.doors[1]"),
    ] {
        let status = refusal(shops.create(&post, &shop(GROUP, "web", &spec)).await);
        assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"), "{spec}: {status:?}");
        let causes = status.details.expect("details").causes;
        assert!(causes.iter().any(|cause| cause.field == field), "{spec}: {causes:?}");
    }
    let made = shops
        .create(&post, &shop(GROUP, "web", &json!({"kind": "Books", "hats": 1})))
        .await
        .expect("good");
    assert_eq!(made.data["spec"], json!({"kind": "Books", "shelves": 3}), "pruned and defaulted");
    assert_eq!(made.metadata.generation, Some(1));
}

#[tokio::test]
async fn custom_resources_have_a_status_apart_and_a_generation_of_what_is_wanted() {
    const GROUP: &str = "status.tests.weft.dev";
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("apply").await;
    cluster.apply_definitions(&[definition(GROUP)]).await;
    let shops = shops(&cluster, &namespace, GROUP);
    let status = |visitors: i32| json!({"apiVersion": format!("{GROUP}/v1"), "kind": "Shop", "status": {"visitors": visitors}});
    shops
        .create(&PostParams::default(), &shop(GROUP, "web", &json!({"kind": "Books"})))
        .await
        .expect("good");

    let counted =
        shops.patch_status("web", &by("counter"), &Patch::Apply(status(1))).await.expect("applied");
    assert_eq!(
        (&counted.data["status"], counted.metadata.generation),
        (&json!({"visitors": 1}), Some(1))
    );
    let status_refused =
        refusal(shops.patch_status("web", &by("other"), &Patch::Apply(status(2))).await);
    assert_eq!(
        status_refused.message,
        "Apply failed with 1 conflict: conflict with \"counter\" with subresource \"status\": .status.visitors"
    );
    let other = Patch::Merge(json!({"spec": {"kind": "Shoes"}, "status": {"visitors": 9}}));
    let patched = shops.patch("web", &PatchParams::default(), &other).await.expect("patched");
    assert_eq!(
        (&patched.data["status"], patched.metadata.generation),
        (&json!({"visitors": 1}), Some(2))
    );

    let mut unversioned = patched;
    unversioned.metadata.resource_version = None;
    let refused = refusal(shops.replace("web", &PostParams::default(), &unversioned).await);
    assert!(
        refused.message.contains(
            "metadata.resourceVersion: Invalid value: 0: must be specified for an update"
        ),
        "{refused:?}"
    );
}
