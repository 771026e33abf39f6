//! Bodies under flow control: who does not read holds back who sends, and nobody else.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use h2::SendStream;
use http::Response;
use weft_tests::{raw::Raw, wait};

use super::shop::{Shop, head, http2_app, raw_app};

/// What an application may have sent towards somebody who does not read: the buffers of two proxies, three
/// connections' sockets, and room.
const HELD_AT_MOST: usize = 64 * 1024 * 1024;

/// What a sender would send if nothing held it back.
const ENDLESS: usize = 512 * 1024 * 1024;

const CHUNK: usize = 64 * 1024;

/// Waits until a count stands still, and says at what.
async fn halted(sent: &AtomicUsize) -> usize {
    let mut before = 0;
    wait::until("the sender to be held back", || {
        let now = sent.load(Relaxed);
        let still = now > 0 && now == before;
        before = now;
        async move {
            let pause = std::future::pending::<()>();
            let _ = tokio::time::timeout(std::time::Duration::from_millis(300), pause).await;
            still.then_some(now)
        }
    })
    .await
}

/// Sends a body over HTTP/2 as fast as it is let.
async fn send_endlessly(mut stream: SendStream<Bytes>, sent: Arc<AtomicUsize>) {
    let chunk = Bytes::from(vec![1; CHUNK]);
    while sent.load(Relaxed) < ENDLESS {
        stream.reserve_capacity(CHUNK);
        let Some(Ok(granted)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else {
            return;
        };
        if stream.send_data(chunk.slice(..granted.min(CHUNK)), false).is_err() {
            return;
        }
        sent.fetch_add(granted.min(CHUNK), Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_of_http1_holds_back_the_application() {
    for crowded in [false, true] {
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = sent.clone();
        let app = raw_app(move |_, mut peer: Raw| {
            let sent = counter.clone();
            async move {
                peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {ENDLESS}\r\n\r\n")).await;
                let chunk = vec![1; CHUNK];
                while sent.load(Relaxed) < ENDLESS {
                    peer.send(&chunk).await;
                    sent.fetch_add(CHUNK, Relaxed);
                }
            }
        })
        .await;
        let shop = Shop::of(&[app.address]).await;
        let _crowd = if crowded { shop.crowd(&app).await } else { Vec::new() };
        let mut client = shop.raw().await;
        client.send("GET http://catalog/ HTTP/1.1\r\nHost: catalog\r\n\r\n").await;
        client.receive_head().await;
        let held = halted(&sent).await;
        assert!(held < HELD_AT_MOST, "crowded {crowded}: {held} bytes were taken");
        // It goes on as soon as there is room.
        assert_eq!(client.receive_exactly(2 * HELD_AT_MOST).await.len(), 2 * HELD_AT_MOST);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_application_holds_back_the_client() {
    for crowded in [false, true] {
        let (go, gone) = tokio::sync::watch::channel(false);
        let app = raw_app(move |_, mut peer: Raw| {
            let mut gone = gone.clone();
            async move {
                let _ = gone.wait_for(|go| *go).await;
                for _ in 0..ENDLESS / CHUNK / 4 {
                    peer.receive_exactly(CHUNK).await;
                }
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                peer.ended().await;
            }
        })
        .await;
        let shop = Shop::of(&[app.address]).await;
        let _crowd = if crowded { shop.crowd(&app).await } else { Vec::new() };
        let mut client = shop.raw().await;
        let length = ENDLESS / 4;
        client
            .send(format!(
                "PUT http://catalog/ HTTP/1.1\r\nHost: catalog\r\nContent-Length: {length}\r\n\r\n"
            ))
            .await;
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = sent.clone();
        let uploading = tokio::spawn(async move {
            let chunk = vec![1; CHUNK];
            for _ in 0..length / CHUNK {
                client.send(&chunk).await;
                counter.fetch_add(CHUNK, Relaxed);
            }
            client.receive_head().await
        });
        let held = halted(&sent).await;
        assert!(held < HELD_AT_MOST, "crowded {crowded}: {held} bytes were taken");
        let _ = go.send(true);
        let head = wait::soon("the answer", uploading).await.expect("it was sent");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_streams_hold_back_their_senders_and_no_other_stream() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let app = http2_app(move |request, mut respond| {
        let sent = counter.clone();
        async move {
            let stream = respond.send_response(Response::new(()), false).expect("open");
            let counted = request.uri().path() == "/stalls";
            send_endlessly(stream, if counted { sent } else { Arc::default() }).await;
        }
    })
    .await;
    let shop = Shop::of(&[app.address]).await;
    let client = shop.http2().await;
    // Their answers are never read.
    let mut stalled = Vec::new();
    for _ in 0..50 {
        let response = client.send_all(head("GET", "http://catalog/stalls", &[])).await;
        stalled.push(wait::soon("an answer", response).await.expect("a head"));
    }
    let held = halted(&sent).await;
    assert!(held < HELD_AT_MOST, "{held} bytes were taken");

    let response = client.send_all(head("GET", "http://catalog/runs", &[])).await;
    let mut running = wait::soon("an answer", response).await.expect("a head").into_body();
    let mut received = 0;
    while received < HELD_AT_MOST {
        let data = wait::soon("data", running.data()).await.expect("more").expect("data");
        running.flow_control().release_capacity(data.len()).expect("it was received");
        received += data.len();
    }
    assert_eq!(sent.load(Relaxed), held, "the others stay where they are");
}
