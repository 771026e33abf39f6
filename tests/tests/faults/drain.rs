//! A proxy that is told to stop.

use std::{net::SocketAddr, time::Duration};

use http::StatusCode;
use tokio::time::Instant;
use weft_tests::{
    apps::{App, Http},
    client::{Client, get_once},
    load::rate,
    mesh::SidecarSpec,
    raw::Raw,
    wait,
};

use super::shop::{Shop, echo_bytes, web};

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_drains_under_load() {
    let shop = Shop::start(&[], web()).await;
    let (one, two) = (App::echo_both("one").await, App::echo_both("two").await);
    let _first = shop.replica("0", "one", &one).await;
    let second = shop.replica("1", "two", &two).await;
    let load = shop.load(rate() / 4);
    load.answers(200).await;
    let admin = second.admin();
    let began = Instant::now();
    let stopping = tokio::spawn(second.stop());
    wait::until_true("readiness to fall", || async {
        readiness(admin).await != Some(StatusCode::OK)
    })
    .await;
    assert!(wait::soon("the drain to end", stopping).await.expect("it does not panic"));
    eprintln!("drained in {:?}", began.elapsed());
    load.answers(300).await;
    load.stop().await.assert_no_failure("a proxy drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn opaque_connections_get_their_time_to_drain_and_no_more() {
    let shop = Shop::start(&[], web().upstream("cache:6379")).await;
    let app = echo_bytes().await;
    let cache = SidecarSpec::of("shop/cache").serves("", app.address);
    let cache = shop.mesh.sidecar(cache.with("--drain-timeout=3s")).await;
    let mut open = Raw::connect(shop.web.upstream("cache:6379")).await;
    open.send("before").await;
    assert_eq!(open.receive_exactly(6).await, b"before");
    let began = Instant::now();
    let stopping = tokio::spawn(cache.stop());
    while began.elapsed() < Duration::from_secs(2) {
        open.send("during").await;
        assert_eq!(open.receive_exactly(6).await, b"during");
    }
    assert_eq!(open.receive_to_end().await, "");
    assert!(!stopping.await.expect("it does not panic"), "it did not end by itself");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(6), "{took:?}");
}

/// What `/ready` says; nothing when the port is closed.
async fn readiness(admin: SocketAddr) -> Option<StatusCode> {
    tokio::spawn(get_once(admin, "/ready")).await.ok().map(|answer| answer.status)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_proxy_tells_its_clients_to_go() {
    let shop = Shop::start(&[], web().with("--drain-timeout=4s")).await;
    let app = App::echo_both("one").await;
    let _catalog = shop.replica("0", "one", &app).await;
    let mut kept = Raw::connect(shop.web.upstream("catalog:80")).await;
    kept.send("GET /a HTTP/1.1\r\nHost: catalog\r\n\r\n").await;
    let head = kept.receive_head().await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let web = shop.web;
    let (outbound, upstream) = (web.outbound(), web.upstream("catalog:80"));
    let mut two = Client::connect(upstream, Http::Two).await;
    assert_eq!(two.get("http://catalog/b").await.status, StatusCode::OK);
    web.running().drain();
    // Still accepting for a moment: whoever has not heard yet is served, and told.
    let mut late = Raw::connect(outbound).await;
    late.send("GET http://catalog/c HTTP/1.1\r\nHost: catalog\r\n\r\n").await;
    let head = late.receive_head().await.to_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains("connection: close"), "{head}");
    // The idle HTTP/1 connection is closed, the HTTP/2 one is told to go.
    kept.receive_to_end().await;
    wait::until_true("GOAWAY", || async { two.is_closed() }).await;
    let began = Instant::now();
    assert!(web.stop().await);
    assert!(began.elapsed() < Duration::from_secs(7), "the drain is bounded");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intercepted_application_is_served_until_it_has_ended() {
    let shop = Shop::start(&[], web().with("--interception=transparent")).await;
    let app = App::echo_both("one").await;
    let _catalog = shop.replica("0", "one", &app).await;
    let cache = echo_bytes().await;
    let _cache = shop.mesh.sidecar(SidecarSpec::of("shop/cache").serves("", cache.address)).await;
    let web = shop.web;
    let (outbound, admin) = (web.outbound(), web.admin());
    // Both were told to stop; the application is still at work, on a connection that it keeps.
    let mut kept = Raw::connect(outbound).await;
    kept.send("CONNECT cache:6379 HTTP/1.1\r\nHost: cache:6379\r\n\r\n").await;
    assert!(kept.receive_head().await.starts_with("HTTP/1.1 200"));
    web.running().drain();
    let began = Instant::now();
    assert_eq!(readiness(admin).await, Some(StatusCode::SERVICE_UNAVAILABLE));
    while began.elapsed() < Duration::from_secs(3) {
        kept.send("during").await;
        assert_eq!(kept.receive_exactly(6).await, b"during");
        // Also on a new connection, and to where nobody asked for before.
        let mut late = Raw::connect(outbound).await;
        late.send("GET http://catalog/c HTTP/1.1\r\nHost: catalog\r\n\r\n").await;
        let head = late.receive_head().await.to_lowercase();
        assert!(head.starts_with("http/1.1 200") && head.contains("connection: close"), "{head}");
    }
    // It ends, and with it its sidecar, which does not wait for the drain timeout.
    kept.finish().await;
    kept.receive_to_end().await;
    let ended = Instant::now();
    assert!(web.stop().await, "every connection ended by itself");
    assert!(ended.elapsed() < Duration::from_secs(15), "{:?}", ended.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intercepted_application_that_is_gone_is_not_waited_for() {
    let shop = Shop::start(&[], web().with("--interception=transparent")).await;
    let began = Instant::now();
    assert!(shop.web.stop().await);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}
