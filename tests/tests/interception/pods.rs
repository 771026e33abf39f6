//! A sidecar as it stands in a pod of Kubernetes: callers dial the pod's address and the application's port.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::time::Instant;
use weft_tests::{
    apps::{self, App},
    ground::{Ground, cluster_grounds, init},
    mesh::{Mesh, SidecarSpec},
    namespace::{Pod, User},
    network::Network,
    raw::Raw,
    stage::{Member, curl, member},
    wait,
};

const CART: &str = "spiffe://weft.local/ns/shop/sa/cart";
const SHOW: &str = "%{http_version} %{http_code} %header{app} %header{got-weft-client-id}\n";

/// Where a server without a sidecar listens.
const LEGACY: u16 = 8099;

/// A pod of `cart`, whose applications call and serve, and a host without a sidecar. In the order in which they
/// must go.
struct Stage {
    cart: Member,
    _app: App,
    _servers: Pod,
    mesh: Mesh,
    outside: Pod,
    network: Network,
    v6: bool,
}

impl Stage {
    async fn start(v6: bool) -> Self {
        let network = Network::switched(2);
        let outside = network.pod(1).runtime(User::Root);
        let listen = format!("--discovery-listen={}", SocketAddr::new(network.pod(1).ip(v6), 0));
        let mesh =
            outside.run(async move { Mesh::start_with(&objects(ALL), &[&listen]).await }).await;
        let pod = network.pod(0);
        assert!(init(pod, &[]).await.status.success());
        let servers = pod.runtime(User::Root);
        let listen = SocketAddr::new(pod.ip(v6), 0);
        let app = servers.run(App::http_at(listen, |request| apps::echo("cart-1", request))).await;
        let spec = SidecarSpec::of("shop/cart")
            .with("--app-probe=none")
            .with(&format!("--pod-ips={},{}", pod.ip(v6), pod.ip(!v6)))
            .with(&format!("--inbound-advertise={}", app.address))
            .serves("http", app.address);
        let cart = member(&mesh, &network, 0, spec).await;
        Self { cart, _app: app, _servers: servers, mesh, outside, network, v6 }
    }

    /// The cluster address of `cart`.
    fn service(&self) -> SocketAddr {
        let v6 = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0x20);
        let ip = if self.v6 { v6.into() } else { Ipv4Addr::new(10, 99, 0, 20).into() };
        SocketAddr::new(ip, 80)
    }
}

/// Ranges of the mesh: with every pod, or with the one of `cart` alone.
const ALL: &str = "[10.77.0.0/24, 'fd77::/64', 10.99.0.0/16, 'fd99::/64']";
const CART_ALONE: &str = "[10.77.0.2/32, 'fd77::2/128', 10.99.0.0/16, 'fd99::/64']";

fn objects(ranges: &str) -> String {
    format!(
        "
apiVersion: weft.dev/v1alpha1
kind: MeshConfig
metadata: {{name: mesh}}
spec:
  addressRanges: {ranges}
---
apiVersion: v1
kind: Service
metadata: {{name: cart, namespace: shop}}
spec:
  clusterIPs: [10.99.0.20, 'fd99::20']
  ports: [{{name: http, port: 80, targetPort: http}}]
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {{name: cart, namespace: shop}}
spec:
  service: cart
  serviceAccount: cart
  ports: [{{name: http, servicePort: 80}}]
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {{name: legacy, namespace: shop}}
spec:
  port: {LEGACY}
  addresses: [{{address: 10.77.0.3}}, {{address: 'fd77::3'}}]
"
    )
}

#[tokio::test]
async fn a_pod_that_calls_itself_by_its_service_is_a_caller_like_any_other() {
    for Ground { v6, .. } in
        cluster_grounds("a_pod_that_calls_itself_by_its_service_is_a_caller_like_any_other")
    {
        let stage = Stage::start(v6).await;
        let url = format!("http://{}/", stage.service());
        for (version, shown) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
            let arguments = [version, "--write-out", SHOW, &url];
            let said = curl(stage.network.pod(0), &arguments).await;
            assert_eq!(said.text, format!("{shown} 200 cart-1 {CART}\n"), "{said:?}");
        }
        for direction in ["direction=\"inbound\"", "direction=\"outbound\""] {
            let labels = [direction, "service=\"shop/cart:80\"", "tls=\"mutual\""];
            stage.cart.counts("weft_requests_total", &labels, 2.0).await;
        }
    }
}

#[tokio::test]
async fn an_open_connection_follows_its_destination_out_of_the_mesh_and_back() {
    for Ground { v6, .. } in
        cluster_grounds("an_open_connection_follows_its_destination_out_of_the_mesh_and_back")
    {
        let stage = Stage::start(v6).await;
        let legacy = SocketAddr::new(stage.network.pod(1).ip(v6), LEGACY);
        let app = App::http_at(legacy, |request| apps::echo("legacy", request));
        let _app = stage.outside.run(app).await;
        let application = stage.network.pod(0).runtime(User::Application);
        let mut client = application.run(Raw::connect(legacy)).await;
        let outbound = "direction=\"outbound\"";
        let (inside, outside) = (format!("service=\"{legacy}\""), "service=\"outside\"");
        for (ranges, label) in [(ALL, &*inside), (CART_ALONE, outside), (ALL, &inside)] {
            stage.mesh.write("mesh.yaml", &objects(ranges));
            let labels = [outbound, label];
            let count = || stage.cart.count("weft_requests_total", &labels);
            let before = count().await;
            let deadline = Instant::now() + wait::PATIENCE;
            while count().await <= before {
                assert!(Instant::now() < deadline, "nothing goes as {label}");
                let head = get(&mut client).await;
                // What it stands for, and what is in the mesh, is told by two updates: between them it is nobody's.
                let between = head.contains("weft-reason: no-endpoints\r\n");
                let served = head.starts_with("HTTP/1.1 200 ") && head.contains("app: legacy\r\n");
                assert!(served || between, "{head}");
            }
        }
    }
}

/// Asks once more on a connection; the answer's head.
async fn get(client: &mut Raw) -> String {
    client.send("GET / HTTP/1.1\r\nHost: legacy\r\n\r\n").await;
    let head = client.receive_head().await;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse().ok())?
    });
    client.receive_exactly(length.unwrap_or(0)).await;
    head
}
