//! HTTP/2 and gRPC, stream by stream.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use tokio::{sync::mpsc, time::timeout};
use weft_tests::{apps::App, wait};

use super::shop::{Shop, body, head, http2_app};

const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc"), ("te", "trailers")];

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_after_data_and_alone() {
    let app = http2_app(|request, mut respond| async move {
        assert_eq!(request.headers()["te"], "trailers");
        assert_ne!(request.headers()["grpc-timeout"], "5S", "it shrinks by the time spent");
        let alone = request.uri().path() == "/alone";
        let (sent, trailers) = body(request.into_body()).await.expect("a whole request");
        assert_eq!(trailers.expect("trailers")["x-sum"], "5");
        let response = Response::builder().header("content-type", "application/grpc");
        if alone {
            let response = response.header("grpc-status", "7").body(()).expect("valid");
            respond.send_response(response, true).expect("open");
        } else {
            let response = response.body(()).expect("valid");
            let mut stream = respond.send_response(response, false).expect("open");
            stream.send_data(Bytes::from(sent), false).expect("open");
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            trailers.insert("x-note", HeaderValue::from_static("a"));
            trailers.append("x-note", HeaderValue::from_static("b"));
            stream.send_trailers(trailers).expect("open");
        }
    })
    .await;
    let shop = Shop::of(&[app.address]).await;
    for address in [shop.web.outbound(), shop.web.upstream("catalog:80")] {
        let client = super::shop::Http2::connect(address).await;
        for alone in [false, true] {
            let uri = if alone { "http://catalog/alone" } else { "http://catalog/after" };
            let mut request = head("POST", uri, GRPC);
            request.headers_mut().insert("grpc-timeout", HeaderValue::from_static("5S"));
            let (response, mut upload) = client.send(request).await;
            upload.send_data(Bytes::from_static(b"hello"), false).expect("open");
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("5"));
            upload.send_trailers(trailers).expect("open");
            let response = wait::soon("an answer", response).await.expect("a head");
            let (head, stream) = response.into_parts();
            if alone {
                assert!(stream.is_end_stream(), "trailers only must stay so");
                assert_eq!(head.headers["grpc-status"], "7");
            } else {
                let (data, trailers) = body(stream).await.expect("a clean end");
                let trailers = trailers.expect("trailers");
                assert_eq!(
                    (&data[..], &trailers["grpc-status"]),
                    (&b"hello"[..], &HeaderValue::from_static("0"))
                );
                assert_eq!(trailers.get_all("x-note").iter().count(), 2);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_of_either_side_reaches_the_other_with_its_code() {
    let (told, mut resets) = mpsc::unbounded_channel();
    let app = http2_app(move |request, mut respond| {
        let told = told.clone();
        async move {
            match request.uri().path() {
                "/waits" => {
                    let _ = told.send(None);
                    let code = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                    let _ = told.send(code.ok());
                }
                "/answered" => {
                    let mut stream = respond.send_response(Response::new(()), false).expect("open");
                    stream.send_data(Bytes::from_static(b"some"), false).expect("open");
                    let code = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
                    let _ = told.send(code.ok());
                }
                "/resets" => respond.send_reset(h2::Reason::ENHANCE_YOUR_CALM),
                path => panic!("{path}"),
            }
        }
    })
    .await;
    let shop = Shop::of(&[app.address]).await;
    let client = shop.http2().await;

    // The client gives up before an answer came.
    let (response, mut upload) = client.send(head("POST", "http://catalog/waits", GRPC)).await;
    assert_eq!(wait::soon("the stream", resets.recv()).await, Some(None));
    upload.send_reset(h2::Reason::CANCEL);
    drop(response);
    let told = wait::soon("the reset", resets.recv()).await;
    assert_eq!(told, Some(Some(h2::Reason::CANCEL)));

    // And in the middle of one.
    let (response, mut upload) = client.send(head("POST", "http://catalog/answered", GRPC)).await;
    let mut stream = wait::soon("an answer", response).await.expect("a head").into_body();
    wait::soon("data", stream.data()).await.expect("some").expect("data");
    upload.send_reset(h2::Reason::CANCEL);
    let told = wait::soon("the reset", resets.recv()).await;
    assert_eq!(told, Some(Some(h2::Reason::CANCEL)));

    // The application resets before its answer: the client learns why there is none.
    let (response, _upload) = client.send(head("POST", "http://catalog/resets", GRPC)).await;
    let answer = wait::soon("an answer", response).await.expect("a head");
    assert_eq!(answer.headers()["grpc-status"], "14", "{answer:?}");
    assert_eq!(answer.headers()["weft-reason"], "upstream-reset", "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_with_big_fields_share_one_connection() {
    let app = http2_app(|request, mut respond| async move {
        let mut response = Response::new(());
        let big = request.headers()["x-big"].clone();
        response.headers_mut().insert("x-big", big);
        response.headers_mut().insert("x-path", request.uri().path().parse().expect("a value"));
        respond.send_response(response, true).expect("open");
    })
    .await;
    let shop = Shop::of(&[app.address]).await;
    let client = shop.http2().await;
    let big = "x".repeat(16 * 1024);
    let mut responses = Vec::new();
    for at in 0..250 {
        let uri = format!("http://catalog/{at}");
        responses.push(client.send_all(head("GET", &uri, &[("x-big", &big)])).await);
    }
    for (at, response) in responses.into_iter().enumerate() {
        let response = wait::soon("an answer", response).await;
        let response = response.unwrap_or_else(|error| panic!("{at}: {error}"));
        assert_eq!(response.status(), 200, "{at} {response:?}");
        assert_eq!(response.headers()["x-path"], format!("/{at}"));
        assert_eq!(response.headers()["x-big"].len(), big.len());
    }
}

/// An application that allows few streams at once gets more connections, and refuses nobody.
#[tokio::test(flavor = "multi_thread")]
async fn more_calls_than_the_application_allows_streams_all_succeed() {
    let app = App::tcp(|stream| async move {
        let mut builder = h2::server::Builder::new();
        let Ok(mut connection) = builder.max_concurrent_streams(8).handshake(stream).await else {
            return;
        };
        let mut waiting = Vec::<h2::server::SendResponse<Bytes>>::new();
        // Answered in bunches, so that many are open at once; the last of a connection are fewer.
        loop {
            let quiet = match timeout(Duration::from_millis(50), connection.accept()).await {
                Ok(Some(Ok((_, respond)))) => {
                    waiting.push(respond);
                    false
                }
                Ok(_) => return,
                Err(_) => true,
            };
            if quiet || waiting.len() >= 4 {
                for mut respond in waiting.drain(..) {
                    let _ = respond.send_response(Response::new(()), true);
                }
            }
        }
    })
    .await;
    let shop = Shop::of(&[app.address]).await;
    for _ in 0..3 {
        let client = shop.http2().await;
        let mut responses = Vec::new();
        for _ in 0..240 {
            responses.push(client.send_all(head("POST", "http://catalog/", GRPC)).await);
        }
        for response in responses {
            let response = wait::soon("an answer", response).await.expect("a head");
            assert_eq!(response.headers().get("weft-reason"), None, "{response:?}");
        }
    }
    assert!(app.connections() > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_and_a_host_that_differ_are_refused() {
    let app = http2_app(|_, mut respond| async move {
        respond.send_response(Response::new(()), true).expect("open");
    })
    .await;
    let shop = Shop::of(&[app.address]).await;
    let client = shop.http2().await;
    for (host, status) in [("catalog", 200), ("other", 400)] {
        let response = client.send_all(head("GET", "http://catalog/", &[("host", host)])).await;
        let response = wait::soon("an answer", response).await.expect("a head");
        assert_eq!(response.status(), status, "{host}");
    }
}
