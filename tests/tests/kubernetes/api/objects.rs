//! Objects: what is taken, what is refused and with which words, what is kept apart and what is filled in.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use kube::{
    Api as Objects, ResourceExt,
    api::{
        ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions,
    },
};
use serde_json::{Value, json};
use weft_tests::kubernetes::{Cluster, cluster::refusal};

pub(super) fn config_map(name: &str, labels: Value, data: Value) -> ConfigMap {
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
    let wanted = "ConfigMap \"Web_1\" is invalid: metadata.name: Invalid value: \"Web_1\": \
                  a lowercase RFC 1123 subdomain";
    assert!(status.message.starts_with(wanted), "{status:?}");

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
        "Operation cannot be fulfilled on configmaps \"web\": the object has been modified; \
         please apply your changes to the latest version and try again"
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
async fn patches_of_every_kind_change_what_they_name() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("objects").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    cluster.create(&maps, &config_map("web", json!({}), json!({"a": "1", "b": "1"}))).await;
    let parameters = PatchParams::default();

    let merge = Patch::Merge(json!({"data": {"a": null, "c": "1"}}));
    maps.patch("web", &parameters, &merge).await.expect("a merge patch");
    let operations = json!([
        {"op": "test", "path": "/data/b", "value": "1"},
        {"op": "replace", "path": "/data/b", "value": "2"},
    ]);
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
