//! Which connection goes where for pods of a cluster: real sidecars behind the rules of `weft-proxy init`, injected pods,
//! and a control plane that knows all of it from the Kubernetes API. In both families. Root only.
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
    namespace::{self, Pod as Inside, User},
    node::{Node, RunningPod},
    raw::Raw,
    stage::curl,
    wait,
};

/// Behind services; strict.
const HTTP: u16 = 8080;
/// Behind a service; `weft.dev/permissive-ports` names it.
const PERMISSIVE: u16 = 8081;
/// In no service.
const UNDECLARED: u16 = 9000;
/// `weft.dev/skip-inbound-ports` names it.
const SKIPPED: u16 = 9100;
/// The server speaks first; in no service.
const GREETER: u16 = 6379;
/// The server speaks first; `weft.dev/opaque-ports` names it.
const OPAQUE: u16 = 7000;
/// `grpc.health.v1.Health`.
const HEALTH: u16 = 9090;

const WEB: usize = 0;
const CARTS: [usize; 2] = [1, 2];
const LEGACY: usize = 3;
/// An address of a private network that is nobody's in the cluster.
const OUTSIDE: &str = "192.168.99.9";

/// In the order in which they must go.
struct Stage {
    apps: [Vec<App>; 2],
    carts: Vec<RunningPod>,
    web: RunningPod,
    _legacy: Vec<App>,
    servers: Vec<Inside>,
    /// The addresses of the service of both carts, one of each family.
    cart: Vec<IpAddr>,
    /// Those of the service of `legacy`.
    legacy: Vec<IpAddr>,
    node: Node,
}

impl Stage {
    async fn start() -> Self {
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
    fn cart_at(&self, index: usize, port: u16) -> Vec<SocketAddr> {
        let addresses = self.node.addresses(index).into_iter();
        addresses.map(|address| SocketAddr::new(address, port)).collect()
    }

    fn spiffe(&self, account: &str) -> String {
        format!("spiffe://weft.local/ns/{}/sa/{account}", self.node.namespace)
    }

    /// Asks as an application in a network: the status, who answered, and as whom the caller was known.
    async fn ask(&self, from: usize, arguments: &[&str]) -> (String, String, String) {
        const SHOW: &str = "%{http_code} %header{app} %header{got-weft-client-id}";
        let arguments = [&["--output", "/dev/null", "--write-out", SHOW], arguments].concat();
        let said = curl(self.node.network.pod(from), &arguments).await;
        let mut parts = said.text.split(' ').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        (next(), next(), next())
    }

    /// Who answered whom, where somebody did.
    async fn answered(&self, from: usize, arguments: &[&str]) -> (String, String) {
        let (status, app, caller) = self.ask(from, arguments).await;
        assert_eq!(status, "200", "{arguments:?}");
        (app, caller)
    }
}

fn cart_name(index: usize) -> String {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_meshed_pod_reaches_whatever_a_pod_can_reach() {
    if !namespace::available("a_meshed_pod_reaches_whatever_a_pod_can_reach") {
        return;
    }
    let stage = Stage::start().await;
    let (web, nobody) = (stage.spiffe("web"), String::new());
    // By the service's address: either of both.
    for service in &stage.cart {
        let url = format!("http://{}/", SocketAddr::new(*service, 80));
        for name in ["cart-0", "cart-1"] {
            wait::until_true(&format!("{url} to be answered by {name}"), || async {
                let (app, caller) = stage.answered(WEB, &[&url]).await;
                assert_eq!(caller, web, "{url}");
                app == name
            })
            .await;
        }
    }
    // By the pod's own name, which DNS knows below the headless service, or the sidecar as an HTTP proxy; and by its own
    // addresses, at a port of a service, of none, and at one that is not the sidecar's.
    for index in CARTS {
        let name = cart_name(index);
        let host = format!("{name}.carts.{}.svc.cluster.local", stage.node.namespace);
        let url = format!("http://{host}:{HTTP}/");
        let by_proxy = ["--proxy", "http://127.0.0.1:4140", &url];
        assert_eq!(stage.answered(WEB, &by_proxy).await, (name.clone(), web.clone()));
        for address in stage.node.addresses(index) {
            let resolve = format!("{host}:{HTTP}:{}", in_url(address));
            let found = stage.answered(WEB, &["--resolve", &resolve, &url]).await;
            assert_eq!(found, (name.clone(), web.clone()), "{resolve}");
        }
        for (port, caller) in
            [(HTTP, &web), (PERMISSIVE, &web), (UNDECLARED, &web), (SKIPPED, &nobody)]
        {
            for address in stage.cart_at(index, port) {
                let found = stage.answered(WEB, &[&format!("http://{address}/")]).await;
                assert_eq!(found, (name.clone(), caller.clone()), "{address}");
            }
        }
    }
    let by_name = ["--proxy", "http://127.0.0.1:4140", "http://cart/"];
    assert_eq!(stage.answered(WEB, &by_name).await.1, web);
    // Without a sidecar there: by the service, by the pod, and outside the cluster.
    let services = stage.legacy.iter().map(|ip| SocketAddr::new(*ip, 80));
    let pods = stage.cart_at(LEGACY, HTTP);
    let outside = SocketAddr::new(OUTSIDE.parse().expect("an address"), HTTP);
    for address in services.chain(pods).chain([outside]) {
        let found = stage.answered(WEB, &[&format!("http://{address}/")]).await;
        assert_eq!(found, ("legacy".to_owned(), nobody.clone()), "{address}");
    }
    let labels = ["direction=\"outbound\"", "service=\"outside\"", "tls=\"plain\""];
    let passed = stage.node.count(&stage.web, "weft_connections_closed_total", &labels).await;
    assert!((passed - 1.0).abs() < 0.1, "one went past the mesh: {passed}");
}

fn in_url(address: IpAddr) -> String {
    if address.is_ipv6() { format!("[{address}]") } else { address.to_string() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_behind_a_service_reaches_itself_by_it_over_mutual_tls() {
    if !namespace::available("a_pod_behind_a_service_reaches_itself_by_it_over_mutual_tls") {
        return;
    }
    let stage = Stage::start().await;
    let cart = stage.spiffe("cart");
    for service in &stage.cart {
        let url = format!("http://{}/", SocketAddr::new(*service, 80));
        wait::until_true("cart-0 to answer itself", || async {
            let (app, caller) = stage.answered(CARTS[0], &[&url]).await;
            assert_eq!(caller, cart, "{url}");
            app == "cart-0"
        })
        .await;
    }
    // Its own addresses are no way through the mesh: what it says to itself stays with it.
    for address in stage.cart_at(CARTS[0], HTTP) {
        let found = stage.answered(CARTS[0], &[&format!("http://{address}/")]).await;
        assert_eq!(found, ("cart-0".to_owned(), String::new()), "{address}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_without_a_sidecar_reach_what_is_open_to_them_and_nothing_else() {
    let test = "callers_without_a_sidecar_reach_what_is_open_to_them_and_nothing_else";
    if !namespace::available(test) {
        return;
    }
    let stage = Stage::start().await;
    let mut rows: Vec<(SocketAddr, bool)> = Vec::new();
    for service in &stage.cart {
        rows.extend([(80, false), (81, true)].map(|(port, open)| ((*service, port).into(), open)));
    }
    for (port, open) in [(HTTP, false), (UNDECLARED, false), (PERMISSIVE, true), (SKIPPED, true)] {
        for index in CARTS {
            rows.extend(stage.cart_at(index, port).into_iter().map(|address| (address, open)));
        }
    }
    let mut refused = 0.0;
    for (address, is_open) in rows {
        let (status, app, caller) = stage.ask(LEGACY, &[&format!("http://{address}/")]).await;
        let expected = if is_open { "200" } else { "000" };
        assert_eq!(status, expected, "{address}");
        assert_eq!((app.starts_with("cart-"), caller.as_str()), (is_open, ""), "{address}");
        refused += if is_open { 0.0 } else { 1.0 };
    }
    let mut counted = 0.0;
    for cart in &stage.carts {
        let labels = ["direction=\"inbound\"", "reason=\"strict-required\""];
        counted += stage.node.count(cart, "weft_refused_connections_total", &labels).await;
    }
    assert!((counted - refused).abs() < 0.1, "{counted} of {refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_first_is_heard_and_its_bytes_are_its_own() {
    if !namespace::available("a_server_that_speaks_first_is_heard_and_its_bytes_are_its_own") {
        return;
    }
    let stage = Stage::start().await;
    let tls = ["direction=\"inbound\"", "tls=\"mutual\""];
    for (done, port) in [(0.0, GREETER), (2.0, OPAQUE)] {
        for address in stage.cart_at(CARTS[0], port) {
            let mut client = stage.servers[WEB].run(Raw::connect(address)).await;
            assert_eq!(client.receive_until("\n").await, "hello\n", "{address}");
            // Where bytes are opaque, not even what looks like a forged caller is anybody's business.
            let bytes = "GET / HTTP/1.1\r\nHost: cart\r\n\r\n";
            client.send(bytes).await;
            assert_eq!(client.receive_until("\r\n\r\n").await, bytes, "{address}");
            client.finish().await;
            client.ended().await;
        }
        let name = "weft_connections_closed_total";
        wait::until_true("both connections to be counted", || async {
            stage.node.count(&stage.carts[0], name, &tls).await >= done + 2.0
        })
        .await;
    }
    let requests = stage.node.count(&stage.carts[0], "weft_requests_total", &tls).await;
    assert!(requests < 0.5, "bytes were taken for requests: {requests}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_probes_reach_applications_behind_strict_ports() {
    if !namespace::available("the_nodes_probes_reach_applications_behind_strict_ports") {
        return;
    }
    let mut stage = Stage::start().await;
    let probes = ["readiness", "liveness", "startup"];
    let asked = async |stage: &Stage, kind: &str| {
        stage.node.asked(CARTS[0], &format!("/probe/app/{kind}")).await
    };
    for kind in probes {
        let answer = asked(&stage, kind).await;
        assert_eq!(answer.status, http::StatusCode::OK, "{kind}: {answer:?}");
    }
    assert_eq!(asked(&stage, "pre-stop").await.status, http::StatusCode::NOT_FOUND);
    for app in std::mem::take(&mut stage.apps[0]) {
        app.stop().await;
    }
    for kind in probes {
        let answer = asked(&stage, kind).await;
        assert_eq!(answer.status, http::StatusCode::SERVICE_UNAVAILABLE, "{kind}: {answer:?}");
        let why = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(why.contains("cannot connect to "), "{kind}: {why}");
    }
    // The sidecar itself is well, and the other pod's application too.
    assert_eq!(stage.node.asked(CARTS[0], "/ready").await.status, http::StatusCode::OK);
    let other = stage.node.asked(CARTS[1], "/probe/app/readiness").await;
    assert_eq!(other.status, http::StatusCode::OK, "{other:?}");
}
