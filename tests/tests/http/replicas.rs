//! Several replicas: the share of each, and which one serves when another cannot.

use std::sync::Arc;

use futures_util::future::join_all;
use http::{Response, StatusCode};
use tokio::{sync::Notify, time::Instant};
use weft_tests::{
    apps::{App, Http, Refusing, full},
    client::{Client, request},
    raw::Raw,
    wait,
};

use super::shop::{Shop, raw_app};

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_connection_are_shared_by_the_replicas() {
    for version in [Http::One, Http::Two] {
        let one = App::echo(version, "one").await;
        let two = App::echo(version, "two").await;
        let shop = Shop::of(&[one.address, two.address]).await;
        // HTTP/2 carries them all on one connection.
        let clients = if version == Http::Two { 1 } else { 8 };
        let mut connections = Vec::new();
        for _ in 0..clients {
            connections.push(Client::connect(shop.web.outbound(), version).await);
        }
        let mut counts = [0_u32; 2];
        for _ in 0..50 {
            let answers = match connections.as_mut_slice() {
                [client] => client.get_many("http://catalog/", 8).await,
                many => join_all(many.iter_mut().map(|client| client.get("http://catalog/"))).await,
            };
            for answer in answers {
                assert_eq!(answer.status, StatusCode::OK, "{version:?} {answer:?}");
                counts[usize::from(answer.field("app") == "two")] += 1;
            }
        }
        assert!(counts.iter().all(|count| *count >= 80), "{version:?} {counts:?}");
    }
}

/// A client that never has two requests under way says nothing of load: only the draw can spread them. One slow
/// answer keeps a replica from its share for some seconds.
#[tokio::test(flavor = "multi_thread")]
async fn requests_one_after_the_other_are_shared_too() {
    let apps = [App::echo(Http::One, "one").await, App::echo(Http::One, "two").await];
    let shop = Shop::of(&[apps[0].address, apps[1].address]).await;
    let mut client = Client::connect(shop.web.outbound(), Http::One).await;
    let mut alternations = 0;
    let mut last = String::new();
    let deadline = Instant::now() + wait::PATIENCE;
    while alternations < 20 {
        assert!(Instant::now() < deadline, "{alternations} alternations");
        let app = client.get("http://catalog/").await.field("app").to_owned();
        alternations += u32::from(app != last);
        last = app;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_replica_gets_less() {
    let fast = App::echo(Http::One, "fast").await;
    let slow = App::http(Http::One, |_| async {
        // Its answer takes this long: load, not a wait for something.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        Response::builder().header("app", "slow").body(full("")).expect("valid")
    })
    .await;
    let shop = Shop::of(&[fast.address, slow.address]).await;
    let mut client = Client::connect(shop.web.outbound(), Http::One).await;
    let mut slow = 0;
    for _ in 0..100 {
        slow += u32::from(client.get("http://catalog/").await.field("app") == "slow");
    }
    assert!(slow <= 25, "{slow} of 100");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_serves_what_one_could_not_be_handed() {
    for version in [Http::One, Http::Two] {
        let gone = Refusing::bind();
        let app = App::echo(version, "there").await;
        let shop = Shop::of(&[gone.address, app.address]).await;
        // Many at once: the one that is gone gets its share of them.
        let orders = (0..20).map(|at| {
            let address = shop.web.outbound();
            async move {
                let order = format!("order {at}");
                let request = request("POST", "http://catalog/", order.clone());
                let answer = Client::connect(address, version).await.send(request).await;
                (order, answer.expect("an answer"))
            }
        });
        for (order, answer) in join_all(orders).await {
            assert_eq!(answer.status, StatusCode::OK, "{version:?} {answer:?}");
            assert_eq!((answer.field("app"), &answer.body[..]), ("there", order.as_bytes()));
            assert_eq!(answer.field("weft-not-delivered"), "");
        }
        let retried = r#"reason="connect-refused"} "#;
        let metrics = shop.web.metrics().await;
        assert!(
            metrics.contains(retried),
            "no attempt was made at the one that is gone: {metrics}"
        );
    }
}

/// Breaks its connection when a request has come.
async fn breaking() -> App {
    raw_app(|_, _: Raw| async {}).await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_idempotent_request_is_sent_once_more_when_its_connection_breaks() {
    for method in ["GET", "PUT", "DELETE", "POST", "PATCH"] {
        let broken = breaking().await;
        let shop = Shop::of(&[broken.address]).await;
        let mut client = Client::connect(shop.web.outbound(), Http::One).await;
        let answer =
            client.send(request(method, "http://catalog/", "body")).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{method} {answer:?}");
        assert_eq!(answer.field("weft-reason"), "connection-lost", "{method}");
        let sent = if matches!(method, "POST" | "PATCH") { 1 } else { 2 };
        assert_eq!(broken.connections(), sent, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_the_application_closed_costs_no_request() {
    let closing = Arc::new(Notify::new());
    let close = closing.clone();
    let app = raw_app(move |_, mut peer| {
        let close = close.clone();
        async move {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            close.notified().await;
        }
    })
    .await;
    let shop = Shop::of(&[app.address]).await;
    let mut client = Client::connect(shop.web.outbound(), Http::One).await;
    for at in 0..20 {
        let answer = client.send(request("PUT", "http://catalog/", "x")).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::OK, "{at} {answer:?}");
        // The next request may meet the end on its way.
        closing.notify_one();
    }
}
