//! A sidecar as it stands in a pod of Kubernetes: callers dial the pod's address and the application's port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weft_tests::{
    apps::{self, App},
    ground::{cluster_grounds, init},
    mesh::{Mesh, SidecarSpec},
    namespace::User,
    network::Network,
    stage::{curl, member},
};

const CART: &str = "spiffe://weft.local/ns/shop/sa/cart";
const SHOW: &str = "%{http_version} %{http_code} %header{app} %header{got-weft-client-id}\n";

const OBJECTS: &str = "
apiVersion: weft.dev/v1alpha1
kind: MeshConfig
metadata: {name: mesh}
spec:
  addressRanges: [10.77.0.0/24, 'fd77::/64', 10.99.0.0/16, 'fd99::/64']
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  clusterIPs: [10.99.0.20, 'fd99::20']
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: cart, namespace: shop}
spec:
  service: cart
  serviceAccount: cart
  ports: [{name: http, servicePort: 80}]
";

#[tokio::test]
async fn a_pod_that_calls_itself_by_its_service_is_a_caller_like_any_other() {
    for ground in
        cluster_grounds("a_pod_that_calls_itself_by_its_service_is_a_caller_like_any_other")
    {
        let v6 = ground.v6;
        let network = Network::switched(2);
        let outside = network.pod(1).runtime(User::Root);
        let listen = format!("--discovery-listen={}", SocketAddr::new(network.pod(1).ip(v6), 0));
        let mesh = outside.run(async move { Mesh::start_with(OBJECTS, &[&listen]).await }).await;

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

        let service: IpAddr = if v6 {
            Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0x20).into()
        } else {
            Ipv4Addr::new(10, 99, 0, 20).into()
        };
        let url = format!("http://{}/", SocketAddr::new(service, 80));
        for (version, shown) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
            let said = curl(pod, &[version, "--write-out", SHOW, &url]).await;
            assert_eq!(said.text, format!("{shown} 200 cart-1 {CART}\n"), "{said:?}");
        }
        for direction in ["direction=\"inbound\"", "direction=\"outbound\""] {
            let labels = [direction, "service=\"shop/cart:80\"", "tls=\"mutual\""];
            cart.counts("weft_requests_total", &labels, 2.0).await;
        }
    }
}
