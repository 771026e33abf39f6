//! Endpoints that fail are left alone, and come back.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use http::Response;
use weft_tests::{
    apps::{App, Http, full},
    wait,
};

use crate::stage::{Stage, traffic};

const POLICY: &str = "  circuitBreaking:
    consecutiveFailures: 3
    baseEjection: 1s
    maxEjectedPercent: 50";

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_fails_is_left_alone_and_tried_out_again() {
    let (healthy, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let (well, counter) = (healthy.clone(), asked.clone());
    let failing = App::http_at("127.0.0.1:0".parse().expect("an address"), move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        let status = if well.load(Ordering::Relaxed) { 200 } else { 500 };
        async move {
            Response::builder().status(status).header("app", "first").body(full("")).expect("valid")
        }
    })
    .await;
    let apps = [failing, App::echo_both("echo-v2").await];
    let stage = Stage::serving(apps, &traffic("echo", POLICY)).await;
    let mut client = stage.client(Http::One).await;
    for _ in 0..200 {
        client.get("http://echo/").await;
    }
    let before = asked.load(Ordering::Relaxed);
    assert!(before <= 20, "it was asked {before} times of 200");
    healthy.store(true, Ordering::Relaxed);
    wait::until_true("it to have its share again", || async {
        let mut client = stage.client(Http::One).await;
        let mut first = 0;
        for _ in 0..20 {
            first += usize::from(client.get("http://echo/").await.field("app") == "first");
        }
        first >= 5
    })
    .await;
}
