//! Bytes that are no HTTP: either side first, half-closed, large, held back.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_tests::{
    apps::{App, Http},
    mesh::{Mesh, Sidecar, SidecarSpec},
    raw::Raw,
    wait,
};

fn objects(protocol: &str) -> String {
    format!(
        "
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {{name: web, namespace: shop}}
spec: {{serviceAccount: web}}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {{name: cache, namespace: shop}}
spec: {{service: cache, serviceAccount: cache, ports: [{{servicePort: 6379{protocol}}}]}}
"
    )
}

struct Pair {
    _mesh: Mesh,
    app: App,
    web: Sidecar,
    _cache: Sidecar,
}

impl Pair {
    async fn start(protocol: &str, app: App) -> Self {
        let mesh = Mesh::start(&objects(protocol)).await;
        let cache = mesh
            .sidecar(SidecarSpec::of("shop/cache").serves("", app.address).with("--app-probe=none"))
            .await;
        let web = mesh.sidecar(SidecarSpec::of("shop/web").upstream("cache:6379")).await;
        Self { _mesh: mesh, app, web, _cache: cache }
    }

    async fn connect(&self) -> Raw {
        Raw::connect(self.web.upstream("cache:6379")).await
    }
}

/// Says hello first, then echoes lines, and says how many bytes it got when the client has ended.
async fn greeter() -> App {
    App::tcp(|mut stream| async move {
        let _ = stream.write_all(b"hello\n").await;
        let mut count = 0;
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            count += read;
            let _ = stream.write_all(&buffer[..read]).await;
        }
        let _ = stream.write_all(format!("got {count}\n").as_bytes()).await;
    })
    .await
}

/// Waits for the client's end before it says anything.
async fn listener() -> App {
    App::tcp(|mut stream| async move {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
        let _ = stream.write_all(format!("got {}\n", all.len()).as_bytes()).await;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_may_speak_first_without_configuration() {
    for protocol in ["", ", protocol: tcp"] {
        let pair = Pair::start(protocol, greeter().await).await;
        // The second connection finds what the first has taught.
        for _ in 0..2 {
            let mut client = pair.connect().await;
            assert_eq!(client.receive_until("\n").await, "hello\n", "{protocol}");
            client.send("PING\n").await;
            assert_eq!(client.receive_until("\n").await, "PING\n");
            client.finish().await;
            assert_eq!(client.receive_to_end().await, "got 5\n");
        }
        // Each client got one connection of its own.
        assert_eq!(pair.app.connections(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_opened_ahead_of_its_first_request_costs_the_server_nothing() {
    let pair = Pair::start("", App::echo(Http::One, "cache").await).await;
    let request = "GET / HTTP/1.1\r\nHost: cache\r\n\r\n";
    let mut first = pair.connect().await;
    first.send(request).await;
    assert!(first.receive_head().await.starts_with("HTTP/1.1 200"));
    let before = pair.app.connections();
    // Silent for longer than where clients were only seen to speak first: a request was answered here.
    let mut ahead = pair.connect().await;
    assert!(ahead.is_silent_for(Duration::from_millis(2500)).await);
    assert_eq!(pair.app.connections(), before);
    ahead.send(request).await;
    assert!(ahead.receive_head().await.starts_with("HTTP/1.1 200"));
}

/// A probe of HTTP at a server that greets must not teach the sidecars to wait for clients.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_a_greeting_server_does_not_answer_keeps_nobody_from_the_greeting() {
    let pair = Pair::start("", greeter().await).await;
    for _ in 0..2 {
        let mut probe = pair.connect().await;
        probe.send("GET / HTTP/1.1\r\nHost: cache\r\n\r\n").await;
        assert!(probe.receive_head().await.starts_with("HTTP/1.1 502"));
        let mut client = pair.connect().await;
        assert_eq!(client.receive_until("\n").await, "hello\n");
    }
}

/// What could still become a request line is not waited for for long, and a port where clients speak so not again.
#[tokio::test(flavor = "multi_thread")]
async fn text_that_ends_in_no_line_reaches_the_server() {
    let app = App::tcp(|mut stream| async move {
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    let pair = Pair::start("", app).await;
    for _ in 0..3 {
        let mut client = pair.connect().await;
        for text in ["ping", "GET me that"] {
            client.send(text).await;
            assert_eq!(client.receive_exactly(text.len()).await, text.as_bytes());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_closed_connection_still_carries_the_answer() {
    let pair = Pair::start("", listener().await).await;
    let mut client = pair.connect().await;
    client.send(vec![7; 300_000]).await;
    client.finish().await;
    assert_eq!(client.receive_to_end().await, "got 300000\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_and_ends_is_no_error() {
    let pair = Pair::start("", listener().await).await;
    let mut client = pair.connect().await;
    client.finish().await;
    let _ = client.receive_to_end().await;
    // The proxy serves on.
    let mut client = pair.connect().await;
    client.send("x").await;
    client.finish().await;
    assert_eq!(client.receive_to_end().await, "got 1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_holds_its_sender_back() {
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = sent.clone();
    let app = App::tcp(move |mut stream| {
        let counter = counter.clone();
        async move {
            let chunk = vec![1; 64 * 1024];
            let mut request = [0; 1];
            if stream.read_exact(&mut request).await.is_err() {
                return;
            }
            while counter.load(std::sync::atomic::Ordering::Relaxed) < 256 * 1024 * 1024 {
                if stream.write_all(&chunk).await.is_err() {
                    return;
                }
                counter.fetch_add(chunk.len(), std::sync::atomic::Ordering::Relaxed);
            }
        }
    })
    .await;
    let pair = Pair::start(", protocol: tcp", app).await;
    let mut client = pair.connect().await;
    client.send("x").await;
    client.receive_exactly(1).await;
    // The sender comes to a halt: kernel buffers and the proxies' bounded ones are full.
    let mut before = 0;
    wait::until_true("the sender to be held back", || {
        let now = sent.load(std::sync::atomic::Ordering::Relaxed);
        let halted = now == before && now > 0;
        before = now;
        async move {
            tokio::time::timeout(Duration::from_millis(300), std::future::pending::<()>())
                .await
                .ok();
            halted
        }
    })
    .await;
    assert!(before < 64 * 1024 * 1024, "{before} bytes were taken from the sender");
    let rest = client.receive_exactly(8 * 1024 * 1024).await;
    assert!(rest.iter().all(|byte| *byte == 1));
}
