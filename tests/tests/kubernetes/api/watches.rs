//! Watches: what there is and then every change, in order, with bookmarks, by kube's own client and reflectors.

use std::pin::pin;

use futures_util::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api as Objects, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, WatchEvent, WatchParams},
    runtime::{WatchStreamExt, reflector, watcher},
};
use serde_json::json;
use weft_tests::{kubernetes::Cluster, wait};

use super::objects::object;

pub(super) fn config_map(name: &str, app: &str) -> ConfigMap {
    object(json!({"metadata": {"name": name, "labels": {"app": app}}}))
}

/// The next event, in short: its word and its object's name.
async fn next(
    events: &mut (impl Stream<Item = kube::Result<WatchEvent<ConfigMap>>> + Unpin),
) -> (&'static str, String) {
    loop {
        let event = wait::soon("an event", events.try_next()).await.expect("no error");
        return match event.expect("the watch goes on") {
            WatchEvent::Added(map) => ("ADDED", map.name_any()),
            WatchEvent::Modified(map) => ("MODIFIED", map.name_any()),
            WatchEvent::Deleted(map) => ("DELETED", map.name_any()),
            WatchEvent::Error(status) => ("ERROR", status.reason),
            WatchEvent::Bookmark(_) => continue,
        };
    }
}

fn named(word: &'static str, name: &str) -> (&'static str, String) {
    (word, name.to_owned())
}

#[tokio::test]
async fn a_watch_goes_on_from_a_list() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("watches").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    cluster.create(&maps, &config_map("before", "web")).await;
    let list = maps.list(&ListParams::default()).await.expect("a list");
    let version = list.metadata.resource_version.expect("a version");
    cluster.create(&maps, &config_map("after", "web")).await;
    let parameters = WatchParams::default().labels("app=web");
    let mut events = pin!(maps.watch(&parameters, &version).await.expect("a watch"));

    assert_eq!(next(&mut events).await, named("ADDED", "after"));
    let patch = Patch::Merge(json!({"data": {"a": "b"}}));
    maps.patch("before", &PatchParams::default(), &patch).await.expect("patched");
    assert_eq!(next(&mut events).await, named("MODIFIED", "before"));
    maps.delete("after", &DeleteParams::default()).await.expect("deleted");
    assert_eq!(next(&mut events).await, named("DELETED", "after"));
}

#[tokio::test]
async fn what_leaves_a_selector_is_deleted_and_what_comes_into_it_is_added() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("watches").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    cluster.create(&maps, &config_map("one", "web")).await;
    let list = maps.list(&ListParams::default()).await.expect("a list");
    let version = list.metadata.resource_version.expect("a version");
    let parameters = WatchParams::default().labels("app=web");
    let mut events = pin!(maps.watch(&parameters, &version).await.expect("a watch"));

    for (app, word) in [("db", "DELETED"), ("web", "ADDED")] {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"app": app}}}));
        maps.patch("one", &PatchParams::default(), &patch).await.expect("patched");
        assert_eq!(next(&mut events).await, named(word, "one"));
    }
}

#[tokio::test]
async fn a_watch_without_a_version_begins_with_what_there_is() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("watches").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    cluster.create(&maps, &config_map("one", "web")).await;
    let parameters = WatchParams::default().labels("app=web");
    let mut events = pin!(maps.watch(&parameters, "0").await.expect("a watch"));

    assert_eq!(next(&mut events).await, named("ADDED", "one"));
}

#[tokio::test]
async fn a_watch_ends_when_its_time_is_over() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("watches").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    let parameters = WatchParams::default().labels("app=web").timeout(1);
    let events = maps.watch(&parameters, "0").await.expect("a watch");

    let ended = wait::soon("the end of the watch", events.try_collect::<Vec<_>>()).await;
    assert!(ended.is_ok(), "{ended:?}");
}

#[tokio::test]
async fn a_streaming_list_says_when_it_is_whole() {
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("watches").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    cluster.create(&maps, &config_map("one", "web")).await;
    cluster.create(&maps, &config_map("two", "web")).await;
    let parameters = WatchParams::streaming_lists().labels("app=web");
    let mut events = pin!(maps.watch(&parameters, "").await.expect("a watch"));

    let mut names = Vec::new();
    let bookmark = loop {
        match wait::soon("an event", events.try_next()).await.expect("no error").expect("more") {
            WatchEvent::Added(map) => names.push(map.name_any()),
            WatchEvent::Bookmark(bookmark) => break bookmark,
            other => panic!("{other:?}"),
        }
    };
    names.sort();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(bookmark.metadata.annotations["k8s.io/initial-events-end"], "true");
    assert!(!bookmark.metadata.resource_version.is_empty());
}

#[tokio::test]
async fn a_reflector_follows_by_lists_and_by_streams() {
    let cluster = Cluster::start().await;
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let namespace = cluster.namespace("watches").await;
        let maps: Objects<ConfigMap> = cluster.objects(&namespace);
        cluster.create(&maps, &config_map("one", "web")).await;
        let (store, writer) = reflector::store();
        let stream = watcher(maps.clone(), config.labels("app=web")).default_backoff();
        let task = tokio::spawn(reflector(writer, stream).for_each(|event| async {
            event.expect("no error");
        }));
        let names = || {
            let mut names: Vec<String> = store.state().iter().map(|map| map.name_any()).collect();
            names.sort();
            names
        };

        wait::until_true("what there is", || async { names() == ["one"] }).await;
        cluster.create(&maps, &config_map("two", "web")).await;
        wait::until_true("what comes", || async { names() == ["one", "two"] }).await;
        maps.delete("one", &DeleteParams::default()).await.expect("deleted");
        wait::until_true("what goes", || async { names() == ["two"] }).await;
        task.abort();
    }
}

#[tokio::test]
async fn a_slow_watch_misses_nothing() {
    // A real server cuts watches that are too slow for it; this one never needs to.
    let cluster = Cluster::start_in_memory().await;
    let namespace = cluster.namespace("watches").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    let version =
        maps.list(&ListParams::default()).await.expect("a list").metadata.resource_version;
    let version = version.expect("a version");
    let parameters = WatchParams::default().labels("app=web");
    let mut events = pin!(maps.watch(&parameters, &version).await.expect("a watch"));
    // Nobody reads while they are made: together they are more than what sockets hold.
    let big = "x".repeat(100_000);
    let mut made = Vec::new();
    for index in 0..100 {
        let mut map = config_map(&format!("map-{index}"), "web");
        map.data = Some([("big".to_owned(), big.clone())].into());
        cluster.create(&maps, &map).await;
        made.push(map.name_any());
    }

    for name in &made {
        assert_eq!(next(&mut events).await, named("ADDED", name));
    }
}
