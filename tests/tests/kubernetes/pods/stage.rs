//! The stage: two pods behind services, a caller, and who has no sidecar.
//!
//! | pod | network | runs |
//! |---|---|---|
//! | `web` | 0 | a sidecar, and whoever calls |
//! | `cart-0`, `cart-1` | 1, 2 | a sidecar, native and classic, and applications at the ports below; of a StatefulSet |
//! | `legacy` | 3 | no sidecar: it serves, and calls. Its network also has an address outside the cluster |

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt as _, Full};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use weft_tests::{
    apps::{self, App},
    kubernetes::cluster::{pods::PodWish, slices::SliceWish},
    namespace::{Pod as Inside, User},
    node::{Node, RunningPod},
    stage::curl,
};

/// Behind services; strict.
pub(super) const HTTP: u16 = 8080;
/// Behind a service; `weft.dev/permissive-ports` names it.
pub(super) const PERMISSIVE: u16 = 8081;
/// In no service.
pub(super) const UNDECLARED: u16 = 9000;
/// `weft.dev/skip-inbound-ports` names it.
pub(super) const SKIPPED: u16 = 9100;
/// The server speaks first; in no service.
pub(super) const GREETER: u16 = 6379;
/// The server speaks first; `weft.dev/opaque-ports` names it.
pub(super) const OPAQUE: u16 = 7000;
/// `grpc.health.v1.Health`.
const HEALTH: u16 = 9090;

pub(super) const WEB: usize = 0;
pub(super) const CARTS: [usize; 2] = [1, 2];
pub(super) const LEGACY: usize = 3;
/// An address of a private network that is nobody's in the cluster.
pub(super) const OUTSIDE: &str = "192.168.99.9";

/// In the order in which they must go.
pub(super) struct Stage {
    pub(super) apps: [Vec<App>; 2],
    pub(super) carts: Vec<RunningPod>,
    pub(super) web: RunningPod,
    _legacy: Vec<App>,
    pub(super) servers: Vec<Inside>,
    /// The addresses of the service of both carts, one of each family.
    pub(super) cart: Vec<IpAddr>,
    /// Those of the service of `legacy`.
    pub(super) legacy: Vec<IpAddr>,
    pub(super) node: Node,
}

impl Stage {
    pub(super) async fn start() -> Self {
        let node = Node::start(4).await;
        let (ports, both) = (json!([port("http", 80, HTTP)]), "PreferDualStack");
        let of_cart = json!([port("http", 80, HTTP), port("open", 81, PERMISSIVE)]);
        let spec = json!({"ports": of_cart, "ipFamilyPolicy": both});
        let cart = node.service("cart", &spec).await;
        let headless = json!([port("http", HTTP, HTTP)]);
        let spec = json!({"ports": headless, "clusterIP": "None", "ipFamilyPolicy": both});
        node.service("carts", &spec).await;
        let legacy = node.service("legacy", &json!({"ports": ports, "ipFamilyPolicy": both})).await;

        let servers: Vec<_> =
            (0..4).map(|index| node.network.pod(index).runtime(User::Application)).collect();
        let web = PodWish::named("web", node.name()).service_account("web").to_pod();
        let web = node.run(&web, WEB).await;
        let mut carts = Vec::new();
        for (index, sidecar) in CARTS.into_iter().zip(["native", "classic"]) {
            let cart = cart_pod(&node, &cart_name(index), sidecar);
            carts.push(node.run(&cart, index).await);
        }
        let apps = [cart_apps(&servers[1], "cart-0").await, cart_apps(&servers[2], "cart-1").await];
        for cart in &carts {
            node.set_ready(cart).await;
        }
        let plain = PodWish::named("legacy", node.name());
        let addresses = node.addresses(LEGACY);
        node.cluster.running_pod(&node.namespace, &plain, &addresses).await;
        node.network.add_address(LEGACY, OUTSIDE.parse().expect("an address"));
        let outside = vec![http_app(&servers[LEGACY], HTTP, "legacy").await];

        let stage = Self { apps, carts, web, _legacy: outside, servers, cart, legacy, node };
        stage.slices().await;
        stage.balance();
        stage
    }

    /// What the slices' controller, and the one of the StatefulSet, say.
    async fn slices(&self) {
        let Self { node, .. } = self;
        for (v6, family) in [(false, "v4"), (true, "v6")] {
            let slice = |service: &str| {
                SliceWish::of(service, &format!("{service}-{family}")).port("http", HTTP)
            };
            let (mut cart, mut carts) = (slice("cart").port("open", PERMISSIVE), slice("carts"));
            for index in CARTS {
                let name = cart_name(index);
                let mut endpoint = node.endpoint(&name, index, v6);
                cart = cart.endpoint(endpoint.clone());
                endpoint.hostname = Some(name);
                carts = carts.endpoint(endpoint);
            }
            let legacy = slice("legacy").endpoint(node.endpoint("legacy", LEGACY, v6));
            for slice in [cart, carts, legacy] {
                node.cluster.slice(&node.namespace, &slice).await;
            }
        }
        for (service, endpoints) in [("cart", 8), ("carts", 4), ("legacy", 2)] {
            node.told_of(service, endpoints).await;
        }
    }

    /// What kube-proxy does for those that have no sidecar.
    fn balance(&self) {
        for service in &self.cart {
            for (port, target) in [(80, HTTP), (81, PERMISSIVE)] {
                self.node.network.balance(SocketAddr::new(*service, port), &CARTS, target);
            }
        }
    }

    /// A port of a cart, by each family.
    pub(super) fn cart_at(&self, index: usize, port: u16) -> Vec<SocketAddr> {
        let addresses = self.node.addresses(index).into_iter();
        addresses.map(|address| SocketAddr::new(address, port)).collect()
    }

    pub(super) fn spiffe(&self, account: &str) -> String {
        format!("spiffe://weft.local/ns/{}/sa/{account}", self.node.namespace)
    }

    /// Asks as an application in a network: the status, who answered, and as whom the caller was known.
    pub(super) async fn ask(&self, from: usize, arguments: &[&str]) -> (String, String, String) {
        const SHOW: &str = "%{http_code} %header{app} %header{got-weft-client-id}";
        let arguments = [&["--output", "/dev/null", "--write-out", SHOW], arguments].concat();
        let said = curl(self.node.network.pod(from), &arguments).await;
        let mut parts = said.text.split(' ').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        (next(), next(), next())
    }

    /// Who answered whom, where somebody did.
    pub(super) async fn answered(&self, from: usize, arguments: &[&str]) -> (String, String) {
        let (status, app, caller) = self.ask(from, arguments).await;
        assert_eq!(status, "200", "{arguments:?}");
        (app, caller)
    }
}

pub(super) fn cart_name(index: usize) -> String {
    format!("cart-{}", index - CARTS[0])
}

fn port(name: &str, port: u16, target: u16) -> Value {
    json!({"name": name, "port": port, "targetPort": target})
}

/// A pod of the StatefulSet, with a probe of each kind.
fn cart_pod(node: &Node, name: &str, sidecar: &str) -> Pod {
    let wish = PodWish::named(name, node.name())
        .service_account("cart")
        .annotation("weft.dev/workload", "cart")
        .annotation("weft.dev/sidecar", sidecar)
        .annotation("weft.dev/opaque-ports", &OPAQUE.to_string())
        .annotation("weft.dev/permissive-ports", &PERMISSIVE.to_string())
        .annotation("weft.dev/skip-inbound-ports", &SKIPPED.to_string())
        .port("http", HTTP);
    let mut pod = serde_json::to_value(wish.to_pod()).expect("JSON");
    let container = &mut pod["spec"]["containers"][0];
    container["readinessProbe"] = json!({"httpGet": {"path": "/healthy", "port": "http"}});
    container["livenessProbe"] = json!({"tcpSocket": {"port": "http"}});
    container["startupProbe"] = json!({"grpc": {"port": HEALTH}});
    serde_json::from_value(pod).expect("a pod")
}

/// Every application of a cart, at every address of its pod.
async fn cart_apps(servers: &Inside, name: &'static str) -> Vec<App> {
    let mut apps = Vec::new();
    for port in [HTTP, PERMISSIVE, UNDECLARED, SKIPPED] {
        apps.push(http_app(servers, port, name).await);
    }
    for port in [GREETER, OPAQUE] {
        apps.push(servers.run(App::tcp_at(anywhere(port), greet)).await);
    }
    let health = App::http_at(anywhere(HEALTH), |_| async { serving() });
    apps.push(servers.run(health).await);
    apps
}

async fn http_app(servers: &Inside, port: u16, name: &'static str) -> App {
    let app = App::http_at(anywhere(port), move |request| apps::echo(name, request));
    servers.run(app).await
}

fn anywhere(port: u16) -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, port).into()
}

/// Says hello first, then echoes.
async fn greet(stream: tokio::net::TcpStream) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let _ = writer.write_all(b"hello\n").await;
    let _ = tokio::io::copy(&mut reader, &mut writer).await;
}

/// A `HealthCheckResponse` with the status SERVING, and that the call has succeeded.
fn serving() -> Response<apps::Answer> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let message = Full::new(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]));
    let body = message.with_trailers(std::future::ready(Some(Ok(trailers)))).boxed();
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(body).expect("a valid response")
}
