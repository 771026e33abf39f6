//! Applications that close their connections: nothing is lost, and nothing is delivered twice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use weft_tests::{
    apps::{App, Http},
    client::{Client, get_once, request},
    load::{Load, Requests, rate},
    wait,
};

use super::shop::{Shop, catalog, web};

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_closes_its_kept_connections_fails_no_request() {
    for patience in [Duration::ZERO, Duration::from_millis(1)] {
        let shop = Shop::start(&[], web()).await;
        let app = App::tcp(move |stream| close_after(stream, patience)).await;
        let _catalog = shop.mesh.sidecar(catalog("0", app.address)).await;
        wait::until_true("catalog", || async {
            get_once(shop.web.outbound(), "http://catalog/").await.status == StatusCode::OK
        })
        .await;
        let proxy = shop.web.outbound();
        let url = "http://catalog/items";
        let kinds = [Requests::get(proxy, Http::One, url), Requests::post(proxy, Http::One, url)];
        let load = Load::start(rate() / 2, &kinds);
        load.answers(1_500).await;
        load.stop()
            .await
            .assert_no_failure(&format!("an application idle-closes after {patience:?}"));
    }
}

/// Answers requests without saying that it will close, and closes after one (`ZERO`), or as soon as the client
/// was silent for so long.
async fn close_after(mut stream: TcpStream, patience: Duration) {
    let mut received = Vec::new();
    let mut wait = Duration::from_secs(20);
    loop {
        let reading = timeout_at(Instant::now() + wait, stream.read_buf(&mut received));
        let Ok(Ok(1..)) = reading.await else { return };
        let Some(end) = request_end(&received) else { continue };
        received.drain(..end);
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err()
            || patience.is_zero()
        {
            return;
        }
        wait = patience;
    }
}

/// Where the first whole request ends.
fn request_end(received: &[u8]) -> Option<usize> {
    let head = received.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&received[..head]).to_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let body: usize = length.map_or(0, |length| length.trim().parse().expect("a length"));
    (received.len() >= head + body).then_some(head + body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_was_delivered_is_never_sent_twice() {
    let shop = Shop::start(&[], web()).await;
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = seen.clone();
    // Takes every request whole, and dies without an answer.
    let app = App::tcp(move |mut stream| {
        let counter = counter.clone();
        async move {
            let mut received = Vec::new();
            while let Ok(1..) = stream.read_buf(&mut received).await {
                if request_end(&received).is_some() {
                    counter.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
    })
    .await;
    let _catalog = shop.mesh.sidecar(catalog("0", app.address)).await;
    wait::until_true("catalog", || async { shop.endpoints().await == 1 }).await;
    let mut client = Client::connect(shop.web.outbound(), Http::One).await;
    let answer = client.send(request("POST", "http://catalog/", "once")).await.expect("an answer");
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{answer:?}");
    assert_eq!(seen.load(Ordering::Relaxed), 1, "delivered once");
}
