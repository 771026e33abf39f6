//! Certificates and roots that rotate.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};
use weft_proto::api::RotateRootRequest;
use weft_tests::{
    apps::App,
    load::rate,
    mesh::{Sidecar, SidecarSpec},
    raw::Raw,
    wait,
};

use super::shop::{Shop, echo_bytes, web};

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

/// The certificate in force.
fn certificate(sidecar: &Sidecar) -> Vec<u8> {
    let credentials = sidecar.running().identity.credentials().expect("it has been ready");
    credentials.svid.chain().first().expect("a leaf").to_vec()
}

/// A connection lives longer than the root that its peers were verified under: it goes on while that root is
/// trusted, has the time to drain when it no longer is, and is then ended by either side, with a reason.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_connection_outlives_its_root_by_the_time_to_drain() {
    tokio::join!(
        outlive_the_root("outbound", ["--drain-timeout=2s", "--drain-timeout=60s"]),
        outlive_the_root("inbound", ["--drain-timeout=60s", "--drain-timeout=2s"]),
    );
}

/// The side that serves this `direction` is the first to end the connection; settings are web's and cache's.
async fn outlive_the_root(direction: &str, settings: [&str; 2]) {
    let web = web().upstream("cache:6379").with(settings[0]);
    let shop = Shop::start(&["--root-propagation=0s", "--svid-ttl=45s"], web).await;
    let (app, bytes) = (App::echo_both("one").await, echo_bytes().await);
    let catalog = shop.replica("0", "one", &app).await;
    let cache = SidecarSpec::of("shop/cache").serves("", bytes.address).with(settings[1]);
    let cache = shop.mesh.sidecar(cache).await;
    let mut open = Raw::connect(shop.web.upstream("cache:6379")).await;
    open.send("under the old root").await;
    open.receive_until("old root").await;
    let sidecars = [&shop.web, &catalog, &cache];
    let before = sidecars.map(certificate);
    let load = shop.load(rate() / 10);

    let rotate = RotateRootRequest { retire_old: false };
    shop.mesh.api().await.rotate_root(rotate).await.expect("the API answers");
    wait::until_true("certificates by the new root", || async {
        sidecars.iter().zip(&before).all(|(sidecar, before)| certificate(sidecar) != *before)
    })
    .await;
    open.send("the old root is trusted still").await;
    open.receive_until("still").await;

    let generations = || sidecars.map(|it| it.running().identity.bundle_generation());
    let trusting = generations();
    let retire = RotateRootRequest { retire_old: true };
    shop.mesh.api().await.rotate_root(retire).await.expect("the API answers");
    wait::until_true("the old root to go", || async {
        generations().iter().zip(&trusting).all(|(now, before)| now > before)
    })
    .await;
    let gone = Instant::now();
    open.send("time to drain").await;
    open.receive_until("drain").await;
    open.ended().await;
    let took = gone.elapsed();
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(8), "{took:?}");
    let ended_it = if direction == "outbound" { &shop.web } else { &cache };
    let failed = format!(
        "weft_connections_failed_total{{direction=\"{direction}\",service=\"shop/cache:6379\",reason=\"peer-unverified\"}} 1"
    );
    wait::until_true(&failed, || async { ended_it.metrics().await.contains(&failed) }).await;
    load.answers(100).await;
    load.stop().await.assert_no_failure("the old root retired");
}
