//! Faults, which only the API in memory has: restarts, compaction, throttling, cut watches, and what clients make of
//! them.

use std::{pin::pin, time::Duration};

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api as Objects, ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
    runtime::{WatchStreamExt, reflector, watcher},
};
use tokio::time::Instant;
use weft_tests::{
    kubernetes::{Cluster, cluster::refusal, request::Verb},
    wait,
};

use super::watches::config_map;

/// A reflector of a namespace's config maps, and what keeps it going.
struct Follower {
    store: reflector::Store<ConfigMap>,
    task: tokio::task::JoinHandle<()>,
}

impl Follower {
    fn start(maps: Objects<ConfigMap>) -> Self {
        let (store, writer) = reflector::store();
        let stream = watcher(maps, watcher::Config::default().labels("app=web")).default_backoff();
        let task = tokio::spawn(reflector(writer, stream).for_each(|_| async {}));
        Self { store, task }
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.store.state().iter().map(|map| map.name_any()).collect();
        names.sort();
        names
    }

    async fn until(&self, names: &[&str]) {
        wait::until_true("the reflector has them", || async { self.names() == names }).await;
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn after_a_restart_watches_go_on_where_they_were() {
    let cluster = Cluster::start_in_memory().await;
    let api = cluster.in_memory().expect("it is in memory");
    let namespace = cluster.namespace("faults").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    cluster.create(&maps, &config_map("one", "web")).await;
    let follower = Follower::start(maps.clone());
    follower.until(&["one"]).await;

    api.restart().await;
    cluster.create(&maps, &config_map("two", "web")).await;

    follower.until(&["one", "two"]).await;
    assert_eq!(api.faults().requests(Verb::List, "configmaps"), 1, "it did not list again");
}

#[tokio::test]
async fn after_a_compaction_a_watch_of_an_old_version_is_told_so_and_lists_again() {
    let cluster = Cluster::start_in_memory().await;
    let api = cluster.in_memory().expect("it is in memory");
    let namespace = cluster.namespace("faults").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    let list = maps.list(&ListParams::default()).await.expect("a list");
    let version = list.metadata.resource_version.expect("a version");
    let follower = Follower::start(maps.clone());
    wait::until_true("it watches", || async {
        api.faults().requests(Verb::Watch, "configmaps") == 1
    })
    .await;

    api.stop().await;
    api.resume().await;
    cluster.create(&maps, &config_map("one", "web")).await;
    api.compact();

    let mut events = pin!(maps.watch(&WatchParams::default(), &version).await.expect("a watch"));
    match wait::soon("an event", events.try_next()).await.expect("no error") {
        Some(WatchEvent::Error(status)) => {
            assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
        }
        other => panic!("{other:?}"),
    }
    follower.until(&["one"]).await;
}

#[tokio::test]
async fn a_page_of_a_forgotten_version_is_gone() {
    let cluster = Cluster::start_in_memory().await;
    let api = cluster.in_memory().expect("it is in memory");
    let namespace = cluster.namespace("faults").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    for name in ["a", "b"] {
        cluster.create(&maps, &config_map(name, "web")).await;
    }
    let page = ListParams::default().limit(1);
    let token = maps.list(&page).await.expect("a page").metadata.continue_.expect("more");
    cluster.create(&maps, &config_map("c", "web")).await;

    api.compact();

    let status = refusal(maps.list(&page.continue_token(&token)).await);
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
}

#[tokio::test]
async fn throttled_requests_are_asked_again_after_the_time_that_they_are_told() {
    let cluster = Cluster::start_in_memory().await;
    let api = cluster.in_memory().expect("it is in memory");
    let namespace = cluster.namespace("faults").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    let begin = Instant::now();

    api.faults().throttle(1, 1);
    maps.list(&ListParams::default()).await.expect("kube's client asks again");

    assert_eq!(api.faults().requests(Verb::List, "configmaps"), 2);
    assert!(begin.elapsed() >= Duration::from_secs(1), "it waited as it was told");
}

#[tokio::test]
async fn a_watch_cut_in_the_middle_of_an_event_goes_on_without_a_gap() {
    let cluster = Cluster::start_in_memory().await;
    let api = cluster.in_memory().expect("it is in memory");
    let namespace = cluster.namespace("faults").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    let follower = Follower::start(maps.clone());
    wait::until_true("it watches", || async {
        api.faults().requests(Verb::Watch, "configmaps") == 1
    })
    .await;

    api.faults().cut_watches(1);
    cluster.create(&maps, &config_map("one", "web")).await;

    follower.until(&["one"]).await;
    assert!(api.faults().requests(Verb::Watch, "configmaps") >= 2, "it began again");
}

#[tokio::test]
async fn a_stopped_server_refuses_connections_until_it_is_back() {
    let cluster = Cluster::start_in_memory().await;
    let api = cluster.in_memory().expect("it is in memory");
    let namespace = cluster.namespace("faults").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);

    api.stop().await;
    assert!(maps.list(&ListParams::default()).await.is_err());
    api.resume().await;
    wait::until_true("it is back", || async { maps.list(&ListParams::default()).await.is_ok() })
        .await;
}

#[tokio::test]
async fn requests_take_the_time_that_they_are_given() {
    let cluster = Cluster::start_in_memory().await;
    let api = cluster.in_memory().expect("it is in memory");
    let namespace = cluster.namespace("faults").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    let begin = Instant::now();

    api.faults().delay(Duration::from_millis(200));
    maps.list(&ListParams::default()).await.expect("it is slow");

    assert!(begin.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn bookmarks_carry_an_idle_watch_over_a_compaction() {
    let cluster = Cluster::start_in_memory().await;
    let api = cluster.in_memory().expect("it is in memory");
    let namespace = cluster.namespace("faults").await;
    let maps: Objects<ConfigMap> = cluster.objects(&namespace);
    let list = maps.list(&ListParams::default()).await.expect("a list");
    let version = list.metadata.resource_version.expect("a version");
    let parameters = WatchParams::default().labels("app=web");
    let mut events = pin!(maps.watch(&parameters, &version).await.expect("a watch"));
    cluster.create(&maps, &config_map("other", "db")).await;

    let bookmark = match wait::soon("an event", events.try_next()).await.expect("no error") {
        Some(WatchEvent::Bookmark(bookmark)) => bookmark.metadata.resource_version,
        other => panic!("{other:?}"),
    };
    api.compact();
    cluster.create(&maps, &config_map("one", "web")).await;

    let mut events = pin!(maps.watch(&parameters, &bookmark).await.expect("a watch"));
    match wait::soon("an event", events.try_next()).await.expect("no error") {
        Some(WatchEvent::Added(map)) => assert_eq!(map.name_any(), "one"),
        other => panic!("{other:?}"),
    }
}
