//! Bulk through two sidecars, each a process of its own: however long a body is and however slow its reader,
//! a proxy holds only little of it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header::CONTENT_LENGTH};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep_until},
};
use weft_tests::{
    apps::{App, Http},
    client::{Client, get_once},
    mesh::{Mesh, SidecarSpec},
    process::ProxyProcess,
    wait,
};

const OBJECTS: &str = "
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: web, namespace: shop}
spec: {serviceAccount: web}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: store, namespace: shop}
spec:
  service: store
  serviceAccount: store
  ports: [{name: http, servicePort: 80}, {name: tcp, servicePort: 90, protocol: tcp}]
";

const MIB: u64 = 1024 * 1024;

/// What a proxy may hold above what it holds when idle.
const ALLOWANCE: u64 = 16 * MIB;

/// How long a slow reader is watched, and how fast it reads.
const SLOW_TIME: Duration = Duration::from_secs(5);
const SLOW_RATE: u64 = MIB;

/// How a transfer is read: to its end, or slowly for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Fast,
    Slow,
}

/// How a transfer travels.
#[derive(Debug, Clone, Copy)]
enum Carrier {
    Length,
    Chunked,
    Http2,
    Opaque,
}

/// web and store, each beside its sidecar; store sends back whatever it gets.
struct Pair {
    _mesh: Mesh,
    _apps: [App; 2],
    store: ProxyProcess,
    web: ProxyProcess,
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_up_and_down_costs_little_memory() {
    let pair = Pair::start().await;
    let total = total();
    for carrier in [Carrier::Length, Carrier::Chunked, Carrier::Http2, Carrier::Opaque] {
        pair.measured(carrier, Reader::Fast, total).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_costs_little_memory() {
    let pair = Pair::start().await;
    for carrier in [Carrier::Length, Carrier::Chunked, Carrier::Http2, Carrier::Opaque] {
        pair.measured(carrier, Reader::Slow, 1024 * MIB).await;
    }
}

/// Bytes of a transfer in each direction: `WEFT_TEST_BULK_BYTES`, else 1 GiB.
fn total() -> u64 {
    let total = std::env::var("WEFT_TEST_BULK_BYTES").ok();
    total.and_then(|total| total.parse().ok()).unwrap_or(1024 * MIB)
}

impl Pair {
    async fn start() -> Self {
        let mesh = Mesh::start(OBJECTS).await;
        let http = App::streaming_echo().await;
        let tcp = App::tcp(|mut stream| async move {
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        })
        .await;
        let spec = SidecarSpec::of("shop/store");
        let spec = spec.serves("http", http.address).serves("tcp", tcp.address);
        let store = ProxyProcess::start(&mesh, spec).await;
        let spec = SidecarSpec::of("shop/web").upstream("store:80").upstream("store:90");
        let web = ProxyProcess::start(&mesh, spec).await;
        let pair = Self { _mesh: mesh, _apps: [http, tcp], store, web };
        pair.warm_up().await;
        pair
    }

    /// Idle means: every code path was used once.
    async fn warm_up(&self) {
        wait::until_true("store to answer", || async {
            get_once(self.web.upstreams["store:80"], "/").await.status == http::StatusCode::OK
        })
        .await;
        for carrier in [Carrier::Chunked, Carrier::Http2, Carrier::Opaque] {
            self.transfer(carrier, Reader::Fast, 1).await;
        }
    }

    /// Transfers, and checks both proxies' peaks.
    async fn measured(&self, carrier: Carrier, reader: Reader, total: u64) {
        let proxies = [("web", &self.web), ("store", &self.store)];
        let idle = proxies.map(|(_, proxy)| {
            proxy.forget_peak();
            proxy.peak_memory()
        });
        let began = Instant::now();
        let moved = self.transfer(carrier, reader, total).await;
        let took = began.elapsed();
        if reader == Reader::Fast {
            assert_eq!(moved, total, "{carrier:?} came back whole");
        }
        for ((name, proxy), idle) in proxies.iter().zip(idle) {
            let peak = proxy.peak_memory();
            let (more, idle_kib) = (peak.saturating_sub(idle) / 1024, idle / 1024);
            eprintln!(
                "{carrier:?} {reader:?}: {} MiB in {took:.1?}; {name} idle {idle_kib} KiB, peak +{more} KiB",
                moved / MIB
            );
            assert!(
                peak <= idle + ALLOWANCE,
                "{name} took {more} KiB more for {carrier:?} {reader:?}"
            );
        }
    }

    /// Sends bytes to store while it reads them back; how many came.
    async fn transfer(&self, carrier: Carrier, reader: Reader, total: u64) -> u64 {
        let http = self.web.upstreams["store:80"];
        match carrier {
            Carrier::Length => over_http(http, Http::One, Blob::sized(total), reader).await,
            Carrier::Chunked => over_http(http, Http::One, Blob::chunked(total), reader).await,
            Carrier::Http2 => over_http(http, Http::Two, Blob::chunked(total), reader).await,
            Carrier::Opaque => over_tcp(self.web.upstreams["store:90"], total, reader).await,
        }
    }
}

async fn over_http(to: SocketAddr, version: Http, blob: Blob, reader: Reader) -> u64 {
    let mut request = Request::builder().method("POST").uri("http://store/");
    request = request.header("host", "store");
    if blob.sized {
        request = request.header(CONTENT_LENGTH, blob.left);
    }
    let request = request.body(blob).expect("a request");
    let mut client = Client::<Blob>::connect_with(to, version).await;
    let response: Response<_> = client.stream(request).await.expect("an answer");
    assert_eq!(response.status(), http::StatusCode::OK);
    let mut body = response.into_body();
    let mut pace = Pace::new(reader);
    while let Some(frame) = body.frame().await {
        let frame = frame.expect("the body is whole");
        let count = frame.data_ref().map_or(0, Bytes::len);
        if pace.took(count).await {
            break;
        }
    }
    pace.read
}

async fn over_tcp(to: SocketAddr, total: u64, reader: Reader) -> u64 {
    let stream = TcpStream::connect(to).await.expect("the proxy listens");
    let (mut from, mut into) = stream.into_split();
    let sending = tokio::spawn(async move {
        let mut blob = Blob::sized(total);
        while let Some(chunk) = blob.next() {
            if into.write_all(&chunk).await.is_err() {
                return;
            }
        }
        let _ = into.shutdown().await;
    });
    let mut pace = Pace::new(reader);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await.expect("the connection holds");
        if count == 0 || pace.took(count).await {
            break;
        }
    }
    sending.abort();
    pace.read
}

/// How far a reader has come.
struct Pace {
    reader: Reader,
    began: Instant,
    read: u64,
}

impl Pace {
    fn new(reader: Reader) -> Self {
        Self { reader, began: Instant::now(), read: 0 }
    }

    /// Counts bytes; a slow reader then takes its time. Whether it has seen enough.
    async fn took(&mut self, count: usize) -> bool {
        self.read += count as u64;
        if self.reader == Reader::Fast {
            return false;
        }
        let micros = self.read * 1_000_000 / SLOW_RATE;
        sleep_until(self.began + Duration::from_micros(micros)).await;
        self.began.elapsed() >= SLOW_TIME
    }
}

/// A body of zeros, of known length or not.
struct Blob {
    left: u64,
    sized: bool,
    chunk: Bytes,
}

impl Blob {
    fn sized(left: u64) -> Self {
        Self { left, sized: true, chunk: vec![0; 64 * 1024].into() }
    }

    fn chunked(left: u64) -> Self {
        Self { sized: false, ..Self::sized(left) }
    }

    fn next(&mut self) -> Option<Bytes> {
        let count = self.left.min(self.chunk.len() as u64);
        self.left -= count;
        let count = usize::try_from(count).expect("at most a chunk");
        (count > 0).then(|| self.chunk.slice(..count))
    }
}

impl Body for Blob {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn size_hint(&self) -> SizeHint {
        if self.sized { SizeHint::with_exact(self.left) } else { SizeHint::default() }
    }
}
