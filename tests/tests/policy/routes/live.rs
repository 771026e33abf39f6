//! Routes that come, change and go under load: each request sees one of the states, and none fails.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use weft_tests::{apps::Http, wait};

use crate::stage::{Stage, route};

fn to(backend: &str) -> String {
    route("switch", "echo-v1", &format!("\n  - backendRefs: [{{name: {backend}, port: 80}}]\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_comes_changes_and_goes_without_a_failed_request() {
    let stage = Stage::with("").await;
    let (over, served) = (AtomicBool::new(false), AtomicU32::new(0));
    let load = async |version| {
        let mut client = stage.client(version).await;
        while !over.load(Ordering::Relaxed) {
            let answer = client.get("http://echo-v1/").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            served.fetch_add(1, Ordering::Relaxed);
        }
    };
    let changes = async {
        for (routes, app) in [
            (to("echo-v2"), "echo-v2"),
            (to("echo-v1"), "echo-v1"),
            (to("echo-v2"), "echo-v2"),
            (String::new(), "echo-v1"),
        ] {
            stage.change(&routes);
            wait::until_true(&format!("{app} to serve"), || async {
                let mut client = stage.client(Http::One).await;
                client.get("http://echo-v1/").await.field("app") == app
            })
            .await;
        }
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(load(Http::One), load(Http::Two), changes);
    assert!(served.load(Ordering::Relaxed) > 0);
}
