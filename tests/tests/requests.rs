//! HTTP through two sidecars: every way in, and what must arrive.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_tests::{
    apps::{App, Http},
    client::{Client, get, request},
    mesh::{Mesh, Sidecar, SidecarSpec},
    raw::Raw,
};

const OBJECTS: &str = "
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: web, namespace: shop}
spec: {serviceAccount: web}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: catalog, namespace: shop}
spec: {service: catalog, serviceAccount: catalog, ports: [{servicePort: 80}]}
";

/// web calls catalog, an application that echoes.
struct Shop {
    _mesh: Mesh,
    _app: App,
    web: Sidecar,
    _catalog: Sidecar,
}

async fn shop(version: Http) -> Shop {
    let mesh = Mesh::start(OBJECTS).await;
    let app = App::echo(version, "catalog").await;
    let catalog = mesh.sidecar(SidecarSpec::of("shop/catalog").serves("", app.address)).await;
    let web = mesh.sidecar(SidecarSpec::of("shop/web").upstream("catalog:80")).await;
    Shop { _mesh: mesh, _app: app, web, _catalog: catalog }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http1_request_reaches_the_other_application_with_the_callers_identity() {
    let shop = shop(Http::One).await;
    let mut client = Client::connect(shop.web.outbound(), Http::One).await;
    for uri in [
        "http://catalog/items?x=1",
        "http://catalog.shop/items?x=1",
        "http://catalog.shop.svc.cluster.local/items?x=1",
    ] {
        let answer = client.send(request("POST", uri, "hello")).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::OK, "{uri} {answer:?}");
        assert_eq!(answer.body, "hello");
        assert_eq!(answer.field("app"), "catalog");
        assert_eq!(answer.field("x-target"), "/items?x=1");
        assert_eq!(answer.field("got-weft-client-id"), "spiffe://weft.local/ns/shop/sa/web");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_upstream_port_needs_no_proxy_setting() {
    let shop = shop(Http::One).await;
    let mut client = Client::connect(shop.web.upstream("catalog:80"), Http::One).await;
    let answer = client.get("/items").await;
    assert_eq!((answer.status, answer.field("app")), (StatusCode::OK, "catalog"));
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_stays_http2() {
    let shop = shop(Http::Two).await;
    let mut client = Client::connect(shop.web.outbound(), Http::Two).await;
    let answer =
        client.send(request("PUT", "http://catalog/items", "hello")).await.expect("an answer");
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"hello"[..]));
    assert_eq!(answer.field("x-host"), "catalog");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_identity_is_replaced() {
    let shop = shop(Http::One).await;
    let mut client = Client::connect(shop.web.outbound(), Http::One).await;
    let mut forged = get("http://catalog/");
    for name in ["weft-client-id", "weft_client_id", "weft-not-delivered"] {
        forged
            .headers_mut()
            .insert(name, "spiffe://weft.local/ns/shop/sa/admin".parse().expect("valid"));
    }
    let answer = client.send(forged).await.expect("an answer");
    assert_eq!(answer.field("got-weft-client-id"), "spiffe://weft.local/ns/shop/sa/web");
    assert_eq!(answer.field("got-weft_client_id"), "");
    assert_eq!(answer.field("got-weft-not-delivered"), "");
}

/// An application that reads whatever comes, and notes it; the port declares no protocol.
#[tokio::test(flavor = "multi_thread")]
async fn an_identity_cannot_be_forged_by_bytes_that_hardly_look_like_http() {
    const REST: &str = "Host: catalog\r\nweft-client-id: ADMIN\r\n\r\n";
    let seen = Arc::new(Mutex::new(String::new()));
    let notes = seen.clone();
    let app = App::tcp(move |mut stream| {
        let notes = notes.clone();
        async move {
            let mut received = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut received).await {
                let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
                notes.push_str(&String::from_utf8_lossy(&received[..count]));
                if notes.ends_with("\r\n\r\n") {
                    break;
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    })
    .await;
    let mesh = Mesh::start(OBJECTS).await;
    let _catalog = mesh.sidecar(SidecarSpec::of("shop/catalog").serves("", app.address)).await;
    let web = mesh.sidecar(SidecarSpec::of("shop/web").upstream("catalog:80")).await;
    for (line, reaches) in [
        ("GET / HTTP/1.1\r\n", true),
        ("\r\nGET / HTTP/1.1\r\n", true),
        ("\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n", false),
        (" GET / HTTP/1.1\r\n", false),
        ("GET  /  HTTP/1.1\r\n", false),
        ("GET\t/\tHTTP/1.1\r\n", false),
        ("GET\x0b/ HTTP/1.1\r\n", false),
        ("GET / HTTP/1.1 \r\n", false),
        ("get x http/1.1\r\n", false),
        ("GET / HTTP/2.0\r\n", false),
        ("GET /\r\n", false),
        ("G(T / HTTP/1.1\r\n", false),
        ("GET /\x01 HTTP/1.1\r\n", false),
        ("GET / RTSP/1.0\r\n", false),
        ("GET / HTTP/1.1\n", false),
    ] {
        // Whole, late, and begun and left for longer than a server that speaks first is waited for.
        for (begun, pause) in [(0, 0), (0, 50), (1, 50)] {
            let answer =
                say(&web, &line[..begun], pause, &format!("{}{REST}", &line[begun..])).await;
            let got = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
            assert!(!got.contains("ADMIN"), "{line:?} {begun} {pause}: {got:?}");
            assert_eq!(got.is_empty(), !reaches, "{line:?} {begun} {pause}: {got:?} {answer:?}");
            if reaches {
                let caller = "weft-client-id: spiffe://weft.local/ns/shop/sa/web";
                assert!(got.contains(caller), "{got:?}");
            }
        }
    }
    // Text that ends in no line goes on after a while; what would make it a request does not.
    say(&web, "G", 1_000, &format!("ET / HTTP/1.1\r\n{REST}")).await;
    assert_eq!(*seen.lock().unwrap_or_else(PoisonError::into_inner), "G");
}

/// What a client hears that says the first, and after a pause in milliseconds the second.
async fn say(web: &Sidecar, first: &str, pause: u64, second: &str) -> String {
    let mut client = Raw::connect(web.upstream("catalog:80")).await;
    client.send(first).await;
    client.is_silent_for(Duration::from_millis(pause)).await;
    let _ = client.try_send(second).await;
    client.receive_head_or_end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_proxy_refuses_has_a_reason() {
    let shop = shop(Http::One).await;
    for (uri, status, reason) in [
        ("http://nobody.shop/", StatusCode::BAD_GATEWAY, "destination-unknown"),
        ("http://localhost/", StatusCode::FORBIDDEN, "destination-forbidden"),
        ("http://169.254.169.254/", StatusCode::FORBIDDEN, "destination-forbidden"),
    ] {
        let answer = Client::connect(shop.web.outbound(), Http::One).await.get(uri).await;
        assert_eq!((answer.status, answer.field("weft-reason")), (status, reason), "{uri}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_the_ports_and_both_serve() {
    let mesh = Mesh::start(OBJECTS).await;
    let app = App::echo(Http::One, "catalog").await;
    let workers = "--workers=2";
    let catalog = SidecarSpec::of("shop/catalog").serves("", app.address).with(workers);
    let _catalog = mesh.sidecar(catalog).await;
    let web = mesh.sidecar(SidecarSpec::of("shop/web").with(workers)).await;
    let mut clients = Vec::new();
    for _ in 0..32 {
        clients.push(Client::connect(web.outbound(), Http::One).await);
    }
    for client in &mut clients {
        assert_eq!(client.get("http://catalog/").await.status, StatusCode::OK);
    }
    // Each worker keeps its own connections: one of each would do for one worker.
    assert!(app.connections() > 1, "{}", app.connections());
}
