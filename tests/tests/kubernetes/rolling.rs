//! A rolling restart under load, over real sidecars in network namespaces that stand for pods: each pod goes through what
//! a pod goes through, in the order in which Kubernetes lets it happen, and no request fails. Root only.

use std::{net::IpAddr, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Service};
use kube::Api;
use serde_json::json;
use weft_proto::api::EndpointsRequest;
use weft_tests::{
    apps::{self, App, Http},
    client::get_once,
    ground::init,
    kubernetes::cluster::{
        Cluster,
        pods::PodWish,
        slices::{EndpointWish, SliceWish},
    },
    load::{Load, Requests, rate},
    mesh::{Mesh, Sidecar},
    namespace::{self, Pod as Inside, User},
    network::Network,
    pod_sidecar::PodSidecar,
    wait,
};

const HTTP: u16 = 8080;
/// From what happens to a pod until its slice says so.
const SLICE_LAG: Duration = Duration::from_millis(300);

/// A cluster whose node has pods' networks, and a mesh on it.
struct Stage {
    cluster: Cluster,
    mesh: Mesh,
    network: Network,
    /// Where pods find the control plane.
    control_plane: String,
    namespace: String,
    node: String,
    roots: String,
}

/// A pod that runs, with its sidecar, in one of the networks. In the order in which they must go.
struct Running {
    name: String,
    index: usize,
    sidecar: Sidecar,
    _inside: Inside,
    app: Option<App>,
    _servers: Inside,
}

impl Stage {
    async fn start(pods: u8) -> Self {
        let cluster = Cluster::start().await;
        let system = cluster.namespace("weft-system").await;
        let network = Network::routed(pods);
        let machine = network.uplink();
        let settings = ["--discovery-listen=0.0.0.0:0", &format!("--advertise={machine}")];
        let mesh = Mesh::in_cluster(cluster.config(), &system, &settings).await;
        // Made when no other control plane is there to put its own roots into it.
        let namespace = cluster.labelled_namespace("shop", &[("weft.dev/inject", "enabled")]).await;
        let node = cluster.node("zone-a").await;
        let control_plane = format!("{machine}:{}", mesh.discovery().port());
        for index in 0..usize::from(pods) {
            let written = init(network.pod(index), &[]).await;
            assert!(written.status.success(), "{written:?}");
        }
        let configs: Api<ConfigMap> = cluster.objects(&namespace);
        let roots = wait::until("the roots", || async {
            configs.get_opt("weft-roots").await.expect("the API answers")
        })
        .await;
        let roots = roots.data.expect("it has data")["roots.pem"].clone();
        Self { cluster, mesh, network, control_plane, namespace, node, roots }
    }

    /// The service of all pods of `cart`; its cluster address.
    async fn service(&self) -> IpAddr {
        let service = json!({
            "metadata": {"name": "cart"},
            "spec": {"ports": [{"name": "http", "port": 80, "targetPort": HTTP, "appProtocol": "http"}]},
        });
        let service: Service = serde_json::from_value(service).expect("a Service");
        let service = self.cluster.create(&self.cluster.objects(&self.namespace), &service).await;
        let address = service.spec.and_then(|spec| spec.cluster_ip).expect("it is given one");
        address.parse().expect("an address")
    }

    /// Starts a pod with its sidecar, and with an application if it serves.
    async fn pod(&self, name: &str, account: &str, index: usize, serves: bool) -> Running {
        let inside = self.network.pod(index);
        let address = inside.ip(false);
        self.cluster.service_account(&self.namespace, account).await;
        let mut wish = PodWish::named(name, &self.node)
            .service_account(account)
            .annotation("weft.dev/workload", account)
            .port("http", HTTP)
            .to_pod();
        let sidecar = Container {
            name: "weft-proxy".to_owned(),
            image: Some("registry.weft.dev/proxy:test".to_owned()),
            ..Container::default()
        };
        wish.spec.as_mut().expect("it has one").containers.push(sidecar);
        let pods: Api<Pod> = self.cluster.objects(&self.namespace);
        let pod = self.cluster.create(&pods, &wish).await;
        self.cluster.set_running(&self.namespace, name, &[address], false).await;

        let token = self.cluster.token(&self.namespace, account, Some(&pod), &["weft.dev"]).await;
        let projected = PodSidecar::new(&self.named(account), name, &token, &self.roots)
            .control_plane(&self.control_plane)
            .intercepting(&[address])
            .with("--drain-timeout=10s");
        let config = projected.config();
        let proxies = inside.runtime(User::Proxy);
        let sidecar = proxies.run(async move { Sidecar::start(config) }).await;
        // The node, as a kubelet asks.
        let admin = (address, 4191).into();
        wait::until_true(&format!("the sidecar of {name} to be ready"), || {
            proxies
                .run(async move { get_once(admin, "/ready").await.status == http::StatusCode::OK })
        })
        .await;
        let servers = inside.runtime(User::Application);
        let app = match serves {
            true => {
                let listen = (address, HTTP).into();
                Some(servers.run(App::http_at(listen, |request| apps::echo("cart", request))).await)
            }
            false => None,
        };
        self.cluster.set_running(&self.namespace, name, &[address], true).await;
        Running { name: name.to_owned(), index, sidecar, _inside: proxies, app, _servers: servers }
    }

    /// What the slice's controller says of these pods, some of which are about to stop.
    async fn slice(&self, pods: &[&Running], leaving: Option<&str>) {
        let mut wish = SliceWish::of("cart", "cart-test").port("http", HTTP);
        for pod in pods {
            let address = self.network.pod(pod.index).ip(false);
            let endpoint = EndpointWish::ready(address).pod(&pod.name).on(&self.node, "zone-a");
            let is_leaving = leaving == Some(&*pod.name);
            wish = wish.endpoint(if is_leaving { endpoint.terminating() } else { endpoint });
        }
        self.cluster.slice(&self.namespace, &wish).await;
    }

    /// Waits until so many endpoints are told to callers.
    async fn endpoints(&self, expected: usize) {
        wait::until_true(&format!("{expected} ready endpoints"), || async {
            let request = EndpointsRequest { service: self.named("cart") };
            let answer = self.mesh.api().await.endpoints(request).await;
            answer.is_ok_and(|answer| {
                answer.get_ref().endpoints.iter().filter(|status| status.ready).count() == expected
            })
        })
        .await;
    }

    fn named(&self, name: &str) -> String {
        format!("{}/{name}", self.namespace)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_under_load_fails_no_request() {
    if !namespace::available("a_rolling_restart_under_load_fails_no_request") {
        return;
    }
    let stage = Stage::start(4).await;
    let service = stage.service().await;
    let web = stage.pod("web-1", "web", 0, false).await;
    let mut carts = Vec::new();
    for index in 1..4 {
        carts.push(stage.pod(&format!("cart-{index}"), "cart", index, true).await);
    }
    stage.slice(&carts.iter().collect::<Vec<_>>(), None).await;
    stage.endpoints(3).await;

    let callers = stage.network.pod(0).runtime(User::Application);
    let to = (service, 80).into();
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
        let mut old = carts.remove(0);
        stage.cluster.terminate_pod(&stage.namespace, &old.name).await;
        old.app.take().expect("it serves").stop().await;
        tokio::time::sleep(SLICE_LAG).await;
        let all: Vec<&Running> = carts.iter().chain([&old]).collect();
        stage.slice(&all, Some(&old.name)).await;
        let Running { name, index, sidecar, .. } = old;
        sidecar.stop().await;
        stage.slice(&carts.iter().collect::<Vec<_>>(), None).await;
        stage.cluster.remove_pod(&stage.namespace, &name).await;
        // Another takes its place, and its address.
        carts.push(stage.pod(&format!("cart-{restart}"), "cart", index, true).await);
        stage.slice(&carts.iter().collect::<Vec<_>>(), None).await;
        stage.endpoints(3).await;
        load.answers(100).await;
    }
    let outcome = callers.run(load.stop()).await;
    outcome.assert_no_failure("six pods restarted in turn");
    let labels = ["direction=\"outbound\"", "tls=\"plain\""];
    let admin = (stage.network.pod(0).ip(false), 4191).into();
    let metrics = web._inside.run(async move { get_once(admin, "/metrics").await.body }).await;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    let plain = metrics.lines().find(|line| {
        line.starts_with("weft_requests_total") && labels.iter().all(|label| line.contains(label))
    });
    assert_eq!(plain, None, "nothing went around the mesh");
    assert!(metrics.contains("tls=\"mutual\""), "{metrics}");
}
