//! How a request ends that the mesh cannot serve: its status, its reason, and for gRPC its trailers.

use http::{Response, StatusCode};
use weft_tests::{
    apps::{App, Http, Refusing},
    client::{Answer, Client, request},
    wait,
};

use super::shop::{Shop, head, http2_app, raw_app};

async fn grpc(shop: &Shop) -> http::Response<h2::RecvStream> {
    let client = shop.http2().await;
    let fields = &[("content-type", "application/grpc"), ("te", "trailers")];
    let response = client.send_all(head("POST", "http://catalog/a.B/C", fields)).await;
    wait::soon("an answer", response).await.expect("a head")
}

async fn get(shop: &Shop) -> Answer {
    Client::connect(shop.web.outbound(), Http::One).await.get("http://catalog/").await
}

fn assert_grpc(response: &http::Response<h2::RecvStream>, status: &str, reason: &str) {
    let headers = response.headers();
    assert_eq!(response.status(), StatusCode::OK, "{response:?}");
    assert_eq!(headers["content-type"], "application/grpc");
    assert_eq!(
        (&headers["grpc-status"], &headers["weft-reason"]),
        (&status.parse().expect("valid"), &reason.parse().expect("valid")),
        "{response:?}"
    );
    assert!(headers.contains_key("grpc-message"));
    assert!(response.body().is_end_stream(), "trailers only");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_times_out() {
    let app = raw_app(|_, mut peer| async move { peer.ended().await }).await;
    let shop = Shop::with(&[app.address], "", &["--request-timeout=200ms"]).await;
    let answer = get(&shop).await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(answer.field("weft-reason"), "request-timeout");

    let app = http2_app(|_, mut respond| async move {
        let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
    })
    .await;
    let shop = Shop::with(&[app.address], "", &["--request-timeout=200ms"]).await;
    assert_grpc(&grpc(&shop).await, "4", "request-timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_endpoints_says_so() {
    let shop = Shop::of(&[]).await;
    let answer = get(&shop).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert_eq!(answer.field("weft-reason"), "no-endpoints");
    assert_grpc(&grpc(&shop).await, "14", "no-endpoints");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_is_gone_refuses() {
    let gone = Refusing::bind();
    let shop = Shop::of(&[gone.address]).await;
    let answer = get(&shop).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert_eq!(answer.field("weft-reason"), "connect-refused");
    assert_grpc(&grpc(&shop).await, "14", "connect-refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_declares_no_http_is_refused_on_the_proxy_port() {
    let app = App::echo(Http::One, "catalog").await;
    let shop = Shop::with(&[app.address], ", protocol: tcp", &[]).await;
    let answer = get(&shop).await;
    assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{answer:?}");
    assert_eq!(answer.field("weft-reason"), "protocol-mismatch");
    assert!(String::from_utf8_lossy(&answer.body).contains("catalog"), "{answer:?}");
    assert_eq!(app.connections(), 0, "nothing was handed to the application");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_its_protocol_is_not_passed_on() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let app = raw_app(move |_, mut peer| async move {
            peer.send(response).await;
            peer.ended().await;
        })
        .await;
        let shop = Shop::of(&[app.address]).await;
        let mut client = Client::connect(shop.web.outbound(), Http::One).await;
        let answer = client.send(request("POST", "http://catalog/", "")).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{response:?} {answer:?}");
        assert_eq!(answer.field("weft-reason"), "upstream-protocol", "{response:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ambiguous_request_is_refused_and_never_forwarded() {
    let app = http2_app(|_, mut respond| async move {
        let _ = respond.send_response(Response::new(()), true);
    })
    .await;
    let shop = Shop::of(&[app.address]).await;
    for framing in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "X: a\r\n b\r\n\r\n",
        "Host: other\r\n\r\n",
    ] {
        let mut client = shop.raw().await;
        let request = "POST http://catalog/ HTTP/1.1\r\nHost: catalog\r\n";
        client.send(format!("{request}{framing}")).await;
        let answer = client.receive_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{framing:?}: {answer:?}");
        assert!(answer.contains("weft-reason: bad-request\r\n"), "{framing:?}: {answer:?}");
    }
    assert_eq!(app.connections(), 0);
}
