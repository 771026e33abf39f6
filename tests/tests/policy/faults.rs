//! Faults on purpose.

use std::time::Duration;

use tokio::time::Instant;
use weft_tests::apps::Http;

use crate::stage::{Stage, call, from, get, status, traffic};

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_delayed_and_aborted_as_the_policy_says() {
    let sections = "  faults:
  - {match: [{headers: [{name: x-fault, exact: abort}]}], percent: 100, abort: {status: 418, grpcCode: ResourceExhausted}}
  - {match: [{headers: [{name: x-fault, exact: delay}]}], percent: 100, delay: 300ms}";
    let stage = Stage::with(&traffic("echo-v1", sections)).await;
    let injected = || status(418).field("weft-reason", "fault-injected");
    stage
        .check(&[
            (get("http://echo-v1/"), from("echo-v1")),
            (get("http://echo-v1/").with("x-fault", "abort"), injected()),
            (
                call("http://echo-v1:7070/a.B/C").with("x-fault", "abort"),
                from("").field("grpc-status", "8").field("weft-reason", "fault-injected"),
            ),
        ])
        .await;
    let mut client = stage.client(Http::One).await;
    let begun = Instant::now();
    let asked = get("http://echo-v1/").with("x-fault", "delay").request();
    from("echo-v1").check(&client.send(asked).await.expect("an answer"), "delayed");
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_percentage_of_the_requests_is_aborted() {
    let stage =
        Stage::with(&traffic("echo-v1", "  faults: [{percent: 25, abort: {status: 500}}]")).await;
    let mut client = stage.client(Http::One).await;
    let mut aborted = 0;
    for _ in 0..1_000 {
        aborted += usize::from(client.get("http://echo-v1/").await.status == 500);
    }
    assert!((180..=320).contains(&aborted), "{aborted} of 1000");
}
