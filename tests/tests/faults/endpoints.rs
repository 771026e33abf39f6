//! The control plane and the endpoints come and go.

use weft_proto::api::ProxiesRequest;
use weft_tests::{apps::App, load::rate, mesh::Mesh, wait};

use super::shop::{Shop, catalog, web};

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
