//! Lists: pages that belong together, and selectors that select.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api as Objects, ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::json;
use weft_tests::kubernetes::{Cluster, cluster::refusal};

use super::objects::config_map;

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
