//! Faults under load, every request counted: nothing that the mesh does to itself may cost a single one.

use std::{
    net::SocketAddr,
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
    task::JoinSet,
    time::{Instant, timeout_at},
};
use weft_proto::api::{EndpointsRequest, ProxiesRequest, RotateRootRequest};
use weft_tests::{
    apps::{App, Http},
    client::{Client, get_once, request},
    load::{Load, Requests, rate},
    mesh::{Mesh, Sidecar, SidecarSpec},
    raw::Raw,
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
metadata: {name: catalog, namespace: shop}
spec: {service: catalog, serviceAccount: catalog, ports: [{servicePort: 80}]}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: cache, namespace: shop}
spec: {service: cache, serviceAccount: cache, ports: [{servicePort: 6379, protocol: tcp}]}
";

/// web calls catalog, which has an application and a replica of its sidecar for each instance.
struct Shop {
    mesh: Mesh,
    web: Sidecar,
}

impl Shop {
    async fn start(settings: &[&str], web: SidecarSpec) -> Self {
        let mesh = Mesh::start_with(OBJECTS, settings).await;
        let web = mesh.sidecar(web).await;
        Self { mesh, web }
    }

    /// Starts a replica of catalog, and waits until its application has answered web.
    async fn replica(&self, instance: &str, name: &str, app: &App) -> Sidecar {
        let sidecar = self.mesh.sidecar(catalog(instance, app.address)).await;
        wait::until_true("the new replica to be used", || async {
            get_once(self.web.outbound(), "http://catalog/").await.field("app") == name
        })
        .await;
        sidecar
    }

    /// GETs and POSTs, HTTP/1 and HTTP/2, through web to catalog.
    fn load(&self, rate: u32) -> Load {
        let (proxy, port) = (self.web.outbound(), self.web.upstream("catalog:80"));
        let kinds = [
            Requests::get(proxy, Http::One, "http://catalog/items"),
            Requests::get(port, Http::Two, "http://catalog/items"),
            Requests::post(proxy, Http::One, "http://catalog/items"),
            Requests::post(port, Http::Two, "http://catalog/items"),
        ];
        Load::start(rate, &kinds)
    }

    /// Only GETs, which may be sent once more wherever they were lost.
    fn load_of_gets(&self, rate: u32) -> Load {
        let (proxy, port) = (self.web.outbound(), self.web.upstream("catalog:80"));
        let kinds = [
            Requests::get(proxy, Http::One, "http://catalog/items"),
            Requests::get(port, Http::Two, "http://catalog/items"),
        ];
        Load::start(rate, &kinds)
    }

    async fn endpoints(&self) -> usize {
        let request = EndpointsRequest { service: "shop/catalog".to_owned() };
        let response = self.mesh.api().await.endpoints(request).await.expect("the API answers");
        response.get_ref().endpoints.len()
    }
}

fn web() -> SidecarSpec {
    SidecarSpec::of("shop/web").upstream("catalog:80")
}

fn catalog(instance: &str, app: SocketAddr) -> SidecarSpec {
    SidecarSpec::of("shop/catalog").serves("", app).with(&format!("--instance={instance}"))
}

/// Full and resumed handshakes that a sidecar's metrics have counted.
async fn handshakes(sidecar: &Sidecar) -> u64 {
    let metrics = sidecar.metrics().await;
    let lines = metrics.lines().filter(|line| line.starts_with("weft_tls_handshakes_total{"));
    let lines = lines.filter(|line| line.contains("result=\"ok\""));
    let counts = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    counts.sum()
}

/// Counts how often a sidecar's certificate is replaced.
fn count_certificates(sidecar: &Sidecar, count: &Arc<AtomicUsize>, tasks: &mut JoinSet<()>) {
    let (mut credentials, count) = (sidecar.running().identity.watch(), count.clone());
    credentials.mark_unchanged();
    tasks.spawn(async move {
        while credentials.changed().await.is_ok() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_rotate_every_ten_seconds_for_a_minute_without_a_failure() {
    // Renewed at two thirds of their life.
    let ages = web().with("--pool-max-age=2s");
    let shop = Shop::start(&["--svid-ttl=15s"], ages).await;
    let app = App::echo_both("one").await;
    let catalog = shop.replica("0", "one", &app).await;
    let (changes, mut tasks) = ([(); 2].map(|()| Arc::new(AtomicUsize::new(0))), JoinSet::new());
    count_certificates(&shop.web, &changes[0], &mut tasks);
    count_certificates(&catalog, &changes[1], &mut tasks);

    let load = shop.load(rate());
    let end = Instant::now() + Duration::from_secs(60);
    for minute in 1..=6 {
        let before = handshakes(&shop.web).await;
        let _ = timeout_at(end - Duration::from_secs(60 - 10 * minute), tasks.join_next()).await;
        let after = handshakes(&shop.web).await;
        assert!(
            after > before,
            "no handshake between second {} and {}",
            minute * 10 - 10,
            minute * 10
        );
    }
    load.stop().await.assert_no_failure("certificates rotated");
    for (name, count) in ["web", "catalog"].iter().zip(&changes) {
        let count = count.load(Ordering::Relaxed);
        eprintln!("{name} had {count} new certificates");
        assert!(count >= 5, "{name} had only {count} new certificates");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roots_rotate_under_load_and_connections_under_the_old_ones_drain() {
    let shop = Shop::start(&["--root-propagation=1s", "--svid-ttl=60s"], web()).await;
    let app = App::echo_both("one").await;
    let catalog = shop.replica("0", "one", &app).await;
    let load = shop.load(rate() / 4);
    load.answers(100).await;
    let generations = || [&shop.web, &catalog].map(|it| it.running().identity.bundle_generation());
    let before = generations();
    let old_handshakes = handshakes(&shop.web).await;
    let rotate = RotateRootRequest { retire_old: false };
    shop.mesh.api().await.rotate_root(rotate).await.expect("the API answers");
    wait::until_true("the new root to arrive", || async {
        generations().iter().zip(&before).all(|(now, before)| now > before)
    })
    .await;
    wait::until_true("new connections under the new bundle", || async {
        handshakes(&shop.web).await > old_handshakes
    })
    .await;
    let issuer = |it: &Sidecar| {
        let credentials = it.running().identity.credentials().expect("it has been ready");
        credentials.svid.chain().to_vec()
    };
    let first = [issuer(&shop.web), issuer(&catalog)];
    wait::until_true("certificates by the new root", || async {
        issuer(&shop.web) != first[0] && issuer(&catalog) != first[1]
    })
    .await;
    load.answers(500).await;
    load.stop().await.assert_no_failure("roots rotated");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_plane_is_killed_and_comes_back_without_a_failure() {
    // The settling time of production: reconnects back off for longer than the harness settles.
    let mut shop = Shop::start(&["--settle=30s"], web()).await;
    let (one, two) = (App::echo_both("one").await, App::echo_both("two").await);
    let _catalog = shop.replica("0", "one", &one).await;
    let load = shop.load(rate() / 4);
    load.answers(100).await;
    shop.mesh.kill_control_plane();
    load.answers(500).await;
    shop.mesh.start_control_plane().await;
    load.answers(250).await;
    wait::until_true("the sidecars to come back", || async { all_acknowledged(&shop.mesh).await })
        .await;
    assert_eq!(shop.endpoints().await, 1, "nothing is withdrawn");
    let _second = shop.replica("1", "two", &two).await;
    assert_eq!(shop.endpoints().await, 2);
    load.answers(100).await;
    load.stop().await.assert_no_failure("the control plane killed and restarted");
}

/// Both sidecars are connected, and hold what was sent last.
async fn all_acknowledged(mesh: &Mesh) -> bool {
    let response = mesh.api().await.proxies(ProxiesRequest {}).await;
    let proxies = response.expect("the API answers").into_inner().proxies;
    proxies.len() == 2
        && proxies.iter().all(|proxy| {
            !proxy.resources.is_empty()
                && proxy.resources.iter().all(|held| held.acked_version == held.sent_version)
        })
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_come_and_go_under_load() {
    let shop = Shop::start(&[], web()).await;
    let (one, two) = (App::echo_both("one").await, App::echo_both("two").await);
    let _first = shop.replica("0", "one", &one).await;
    let load = shop.load_of_gets(rate() / 4);
    load.answers(100).await;
    let second = shop.replica("1", "two", &two).await;
    load.answers(100).await;
    assert!(second.stop().await, "a stopped replica ends by itself");
    load.answers(100).await;
    let second = shop.replica("1", "two", &two).await;
    load.answers(100).await;
    drop(second);
    load.answers(500).await;
    load.stop().await.assert_no_failure("endpoints added and removed");
}

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
    let app = App::tcp(|mut stream| async move {
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
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
async fn an_endpoint_that_refuses_connections_is_skipped() {
    let shop = Shop::start(&["--registration-grace=60s"], web()).await;
    let (one, two) = (App::echo_both("one").await, App::echo_both("two").await);
    let _first = shop.replica("0", "one", &one).await;
    let second = shop.replica("1", "two", &two).await;
    // It stays registered, and refuses.
    drop(second);
    let load = shop.load_of_gets(rate() / 4);
    load.answers(100).await;
    load.stop().await.assert_no_failure("an endpoint refuses connections");
    let load = shop.load(rate() / 4);
    load.answers(500).await;
    load.stop().await.assert_no_failure("an endpoint refuses connections, with POST");
    assert_eq!(shop.endpoints().await, 2, "it is still listed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_refuses_is_passed_over_also_for_posts() {
    let shop = Shop::start(&[], web()).await;
    let one = App::echo_both("one").await;
    let two = App::echo_both("two").await;
    let _first = shop.replica("0", "one", &one).await;
    // Without a probe it stays ready, with nobody behind it.
    let address = two.address;
    let second = shop.mesh.sidecar(catalog("1", address).with("--app-probe=none")).await;
    drop(two);
    wait::until_true("both replicas", || async { shop.endpoints().await == 2 }).await;
    let load = shop.load(rate() / 4);
    load.answers(500).await;
    load.stop().await.assert_no_failure("an application refuses connections");
    let metrics = second.metrics().await;
    assert!(
        metrics.contains("connect-refused"),
        "the refusing replica was never tried:\n{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_closes_its_kept_connections_fails_no_request() {
    // A POST that meets the close of a connection idle for a moment cannot be told from one that was taken: it may
    // be sent again only where the close came before its first byte left (RFC 9112 section 9.3.1).
    for (patience, methods) in
        [(Duration::ZERO, &["GET", "POST"][..]), (Duration::from_millis(1), &["GET"])]
    {
        let shop = Shop::start(&[], web()).await;
        let app = App::tcp(move |stream| close_after(stream, patience)).await;
        let _catalog = shop.mesh.sidecar(catalog("0", app.address)).await;
        wait::until_true("catalog", || async {
            get_once(shop.web.outbound(), "http://catalog/").await.status == StatusCode::OK
        })
        .await;
        let proxy = shop.web.outbound();
        let kinds: Vec<_> = methods
            .iter()
            .map(|&method| match method {
                "GET" => Requests::get(proxy, Http::One, "http://catalog/items"),
                _ => Requests::post(proxy, Http::One, "http://catalog/items"),
            })
            .collect();
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
