//! A rolling restart under load, over real sidecars in network namespaces that stand for pods: each pod goes through what
//! a pod goes through, in the order in which Kubernetes lets it happen, and no request fails. Root only.

use std::time::Duration;

use serde_json::json;
use weft_tests::{
    apps::{self, App, Http},
    kubernetes::cluster::{pods::PodWish, slices::SliceWish},
    load::{Load, Requests, rate},
    namespace::{self, Pod as Inside, User},
    node::{Node, RunningPod},
};

const HTTP: u16 = 8080;
/// From what happens to a pod until its slice says so.
const SLICE_LAG: Duration = Duration::from_millis(300);

/// A pod of the service, and its application. In the order in which they must go.
struct Cart {
    app: App,
    pod: RunningPod,
    _servers: Inside,
}

fn wish(node: &Node, name: &str, account: &str) -> PodWish {
    PodWish::named(name, node.name())
        .service_account(account)
        .annotation("weft.dev/workload", account)
        .annotation("weft.dev/drain-time", "10s")
        .port("http", HTTP)
}

async fn cart(node: &Node, name: &str, index: usize) -> Cart {
    let pod = node.run(&wish(node, name, "cart").to_pod(), index).await;
    let servers = node.network.pod(index).runtime(User::Application);
    let listen = (node.network.pod(index).ip(false), HTTP).into();
    let app = servers.run(App::http_at(listen, |request| apps::echo("cart", request))).await;
    node.set_ready(&pod).await;
    Cart { app, pod, _servers: servers }
}

/// What the slice's controller says of these pods, some of which are about to stop.
async fn slice(node: &Node, pods: &[&RunningPod], leaving: Option<&str>) {
    let mut wish = SliceWish::of("cart", "cart-test").port("http", HTTP);
    for pod in pods {
        let endpoint = node.endpoint(&pod.name, pod.index, false);
        let is_leaving = leaving == Some(&*pod.name);
        wish = wish.endpoint(if is_leaving { endpoint.terminating() } else { endpoint });
    }
    node.cluster.slice(&node.namespace, &wish).await;
}

/// They, and nobody else, are the service's.
async fn are_ready(node: &Node, carts: &[Cart]) {
    slice(node, &carts.iter().map(|cart| &cart.pod).collect::<Vec<_>>(), None).await;
    node.told_of("cart", carts.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_under_load_fails_no_request() {
    if !namespace::available("a_rolling_restart_under_load_fails_no_request") {
        return;
    }
    let node = Node::start(4).await;
    let port = json!({"name": "http", "port": 80, "targetPort": HTTP, "appProtocol": "http"});
    let service = node.service("cart", &json!({"ports": [port]})).await;
    let web = node.run(&wish(&node, "web-1", "web").to_pod(), 0).await;
    let mut carts = Vec::new();
    for index in 1..4 {
        carts.push(cart(&node, &format!("cart-{index}"), index).await);
    }
    are_ready(&node, &carts).await;

    let callers = node.network.pod(0).runtime(User::Application);
    let to = (service[0], 80).into();
    let kinds = [
        Requests::get(to, Http::One, "/items"),
        Requests::post(to, Http::One, "/items"),
        Requests::get(to, Http::Two, "/items"),
        Requests::post(to, Http::Two, "/items"),
    ];
    let load = callers.run(async move { Load::start(rate() / 4, &kinds) }).await;
    load.answers(100).await;
    for restart in 4..10 {
        // A pod is told to stop: its application ends at once, its slice says so later, its sidecar goes last.
        let Cart { app, pod, _servers } = carts.remove(0);
        node.cluster.terminate_pod(&node.namespace, &pod.name).await;
        app.stop().await;
        tokio::time::sleep(SLICE_LAG).await;
        let all: Vec<_> = carts.iter().map(|cart| &cart.pod).chain([&pod]).collect();
        slice(&node, &all, Some(&pod.name)).await;
        let RunningPod { name, index, sidecar, .. } = pod;
        sidecar.stop().await;
        slice(&node, &carts.iter().map(|cart| &cart.pod).collect::<Vec<_>>(), None).await;
        node.cluster.remove_pod(&node.namespace, &name).await;
        // Another takes its place, and its address.
        carts.push(cart(&node, &format!("cart-{restart}"), index).await);
        are_ready(&node, &carts).await;
        load.answers(100).await;
    }
    let outcome = callers.run(load.stop()).await;
    outcome.assert_no_failure("six pods restarted in turn");
    let requests = async |tls: &str| {
        node.count(&web, "weft_requests_total", &["direction=\"outbound\"", tls]).await
    };
    let (plain, mutual) = (requests("tls=\"plain\"").await, requests("tls=\"mutual\"").await);
    assert!(plain < 0.5 && mutual > 0.5, "nothing goes around the mesh: {plain} {mutual}");
}
