//! A response that the application broke off is broken off at the client too, never a clean end.
//!
//! A request keeps its HTTP version to the application, so there are these two pairs, the first on either hop.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use tokio::sync::Notify;
use weft_tests::{apps::App, wait};

use super::shop::{Shop, body, head, http2_app, raw_app};

#[tokio::test(flavor = "multi_thread")]
async fn what_an_http1_application_truncates_is_truncated_for_its_client() {
    for framing in [
        "Content-Length: 100\r\n\r\nsome",
        "Transfer-Encoding: chunked\r\n\r\n64\r\nsome",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n",
    ] {
        for crowded in [false, true] {
            let arrived = Arc::new(Notify::new());
            let seen = arrived.clone();
            let app = raw_app(move |_, mut peer| {
                let seen = seen.clone();
                async move {
                    peer.send(format!("HTTP/1.1 200 OK\r\n{framing}")).await;
                    seen.notified().await;
                }
            })
            .await;
            let shop = Shop::of(&[app.address]).await;
            let _crowd = if crowded { shop.crowd(&app).await } else { Vec::new() };
            let mut client = shop.raw().await;
            client.send("GET http://catalog/ HTTP/1.1\r\nHost: catalog\r\n\r\n").await;
            let head = client.receive_head().await;
            assert!(head.starts_with("HTTP/1.1 200 "), "{framing:?}: {head:?}");
            let framed = head.to_lowercase();
            let framed =
                framed.contains("content-length: 100\r\n") || framed.contains("chunked\r\n");
            assert!(framed, "{framing:?}: the connection's end is its end: {head:?}");
            client.receive_until("some").await;
            arrived.notify_one();
            let rest = client.receive_to_end().await;
            assert!(!rest.contains("0\r\n"), "{framing:?}: a clean end: {rest:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_http2_application_resets_is_reset_for_its_client() {
    let arrived = Arc::new(Notify::new());
    let seen = arrived.clone();
    let app = http2_app(move |_, mut respond| {
        let seen = seen.clone();
        async move {
            let mut body = respond.send_response(Response::new(()), false).expect("open");
            body.send_data(Bytes::from_static(b"some"), false).expect("open");
            seen.notified().await;
            body.send_reset(h2::Reason::INTERNAL_ERROR);
        }
    })
    .await;
    let shop = Shop::of(&[app.address]).await;
    let client = shop.http2().await;
    let response = client.send_all(head("GET", "http://catalog/", &[])).await;
    let mut stream = wait::soon("an answer", response).await.expect("a head").into_body();
    let first = wait::soon("data", stream.data()).await.expect("some").expect("data");
    assert_eq!(&first[..], b"some");
    arrived.notify_one();
    let ended = body(stream).await.expect_err("a truncated body");
    assert_eq!(ended.reason(), Some(h2::Reason::INTERNAL_ERROR), "{ended:?}");
}

/// The application's connection is lost in the middle of a stream of messages: its client would have read UNAVAILABLE
/// into that, and does so behind the sidecars.
#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_stream_whose_connection_is_lost_ends_with_its_status() {
    let arrived = Arc::new(Notify::new());
    let seen = arrived.clone();
    let app = App::tcp(move |stream| {
        let seen = seen.clone();
        async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            let Some(Ok((_, mut respond))) = connection.accept().await else { return };
            let head = Response::builder().header("content-type", "application/grpc+proto");
            let head = head.body(()).expect("valid");
            let mut body = respond.send_response(head, false).expect("open");
            body.send_data(Bytes::from_static(b"\0\0\0\0\x01x"), false).expect("open");
            tokio::select! {
                _ = connection.accept() => {}
                () = seen.notified() => {}
            }
        }
    })
    .await;
    let shop = Shop::of(&[app.address]).await;
    let client = shop.http2().await;
    let fields = &[("content-type", "application/grpc"), ("te", "trailers")];
    let response = client.send_all(head("POST", "http://catalog/a.B/C", fields)).await;
    let mut stream = wait::soon("an answer", response).await.expect("a head").into_body();
    wait::soon("a message", stream.data()).await.expect("some").expect("data");
    arrived.notify_one();
    let (rest, trailers) = body(stream).await.expect("an end with a status");
    let trailers = trailers.expect("trailers");
    assert_eq!((rest.len(), trailers["grpc-status"].as_bytes()), (0, &b"14"[..]), "{trailers:?}");
    let message = trailers["grpc-message"].to_str().expect("text");
    assert!(message.contains("connection-lost"), "{message}");
}
