//! Custom resources: held to their schema, with a status apart and a generation of what is wanted.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api as Objects,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use weft_tests::kubernetes::{Cluster, cluster::refusal};

use super::{apply::by, objects::object};

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
    let status = |visitors: i32| {
        let (version, status) = (format!("{GROUP}/v1"), json!({"visitors": visitors}));
        json!({"apiVersion": version, "kind": "Shop", "metadata": {"name": "web"}, "status": status})
    };
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
