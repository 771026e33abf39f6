//! A node of a cluster with a mesh on it: network namespaces in which pods run, as their objects say.
//!
//! In comes a pod as its author wrote it. The injector adds the sidecar, the API takes the whole, and what a kubelet does
//! is done here, in its order: the pod gets its addresses, `weft-init` runs with its arguments as root, the sidecar with
//! its environment and with what is projected as its own user, and is asked whether it is ready. Applications are the
//! test's, and so is when a pod is ready and when it goes. Nothing is started otherwise than the injected pod says. Root
//! only.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use weft_control_plane::inject::{self, Context, INIT_CONTAINER, Outcome, Settings};
use weft_proto::api::EndpointsRequest;

use crate::{
    client::{Answer, get_once},
    ground::init,
    kubernetes::cluster::{Cluster, slices::EndpointWish},
    mesh::{Mesh, Sidecar, sum_of},
    namespace::{Pod as Inside, User},
    network::Network,
    pod_sidecar::{PodSidecar, container},
    wait,
};

const ZONE: &str = "zone-a";

/// The node, its cluster and its mesh.
pub struct Node {
    /// The cluster.
    pub cluster: Cluster,
    /// The mesh.
    pub mesh: Mesh,
    /// The pods' networks; each pod is in the one that its test chose.
    pub network: Network,
    /// The namespace of all pods.
    pub namespace: String,
    name: String,
    injector: Settings,
    roots: String,
    kubelet: Inside,
}

/// A pod with its sidecar. In the order in which they must go.
pub struct RunningPod {
    /// Its name.
    pub name: String,
    /// The network that it is in.
    pub index: usize,
    /// The sidecar.
    pub sidecar: Sidecar,
    addresses: Vec<IpAddr>,
    _inside: Inside,
}

impl Node {
    /// A node with networks for this many pods.
    ///
    /// # Panics
    /// When something does not start.
    pub async fn start(pods: u8) -> Self {
        let cluster = Cluster::start().await;
        let system = cluster.namespace("weft-system").await;
        let network = Network::routed(pods);
        let machine = network.uplink();
        let settings = ["--discovery-listen=0.0.0.0:0", &format!("--advertise={machine}")];
        let mesh = Mesh::in_cluster(cluster.config(), &system, &settings).await;
        // Made when no other control plane is there to put its own roots into it.
        let asks = [("weft.dev/inject", "enabled")];
        let namespace = cluster.labelled_namespace("shop", &asks).await;
        let name = cluster.node(ZONE).await;
        let control_plane = format!("{machine}:{}", mesh.discovery().port());
        let injector = Settings { control_plane, system_namespace: system, ..Settings::default() };
        let configs: Api<ConfigMap> = cluster.objects(&namespace);
        let roots = wait::until("the roots", || async {
            configs.get_opt("weft-roots").await.expect("the API answers")
        })
        .await;
        let roots = roots.data.expect("it has data")["roots.pem"].clone();
        let kubelet = network.node().runtime(User::Root);
        Self { cluster, mesh, network, namespace, name, injector, roots, kubelet }
    }

    /// A service with this spec; its cluster addresses.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn service(&self, name: &str, spec: &Value) -> Vec<IpAddr> {
        let service = json!({"metadata": {"name": name}, "spec": spec});
        let service: Service = serde_json::from_value(service).expect("a Service");
        let service = self.cluster.create(&self.cluster.objects(&self.namespace), &service).await;
        let ips = service.spec.and_then(|spec| spec.cluster_ips).unwrap_or_default();
        ips.iter().filter_map(|ip| ip.parse().ok()).collect()
    }

    /// Starts a pod with its sidecar, in one of the networks; it is not ready yet.
    ///
    /// # Panics
    /// When it is not injected, or something does not start.
    pub async fn run(&self, pod: &Pod, index: usize) -> RunningPod {
        let (inside, addresses) = (self.network.pod(index), self.addresses(index));
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
        let account = account.unwrap_or_else(|| "default".to_owned());
        self.cluster.service_account(&self.namespace, &account).await;
        let pods: Api<Pod> = self.cluster.objects(&self.namespace);
        let name = self.cluster.create(&pods, &self.injected(pod)).await.name_any();
        let pod = self.cluster.set_running(&self.namespace, &name, &addresses, false).await;

        let arguments = container(&pod, INIT_CONTAINER).args.unwrap_or_default();
        let arguments: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
        let written = init(inside, &arguments).await;
        assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
        let token = self.cluster.token(&self.namespace, &account, Some(&pod), &["weft.dev"]).await;
        let projected = PodSidecar::injected(&pod, &token, &self.roots);
        let config = projected.config();
        let inside = inside.runtime(User::Proxy);
        let sidecar = inside.run(async move { Sidecar::start(config) }).await;
        wait::until_true(&format!("the sidecar of {name} to be ready"), || async {
            self.asked(index, "/ready").await.status == http::StatusCode::OK
        })
        .await;
        RunningPod { name, index, sidecar, addresses, _inside: inside }
    }

    /// A pod as the injector makes it of its author's.
    fn injected(&self, pod: &Pod) -> Pod {
        let asks = ("weft.dev/inject".to_owned(), "enabled".to_owned());
        let namespace = inject::Namespace {
            name: self.namespace.clone(),
            labels: [asks].into(),
            annotations: BTreeMap::new(),
        };
        let context = Context {
            settings: &self.injector,
            namespace: &namespace,
            asked: false,
            workload: &pod.name_any(),
            overrides: &BTreeMap::new(),
        };
        match inject::pod(&serde_json::to_value(pod).expect("JSON"), &context) {
            Outcome::Injected { object, .. } => serde_json::from_value(object).expect("a pod"),
            left => panic!("{left:?}"),
        }
    }

    /// What the admin port in a network answers to the node, from which a kubelet asks.
    pub async fn asked(&self, index: usize, path: &str) -> Answer {
        let (admin, path) = ((self.network.pod(index).ip(false), 4191).into(), path.to_owned());
        self.kubelet.run(async move { get_once(admin, &path).await }).await
    }

    /// Says that a pod is ready, as a kubelet that has asked its application.
    pub async fn set_ready(&self, pod: &RunningPod) {
        self.cluster.set_running(&self.namespace, &pod.name, &pod.addresses, true).await;
    }

    /// The addresses of one of the networks.
    #[must_use]
    pub fn addresses(&self, index: usize) -> Vec<IpAddr> {
        [false, true].map(|v6| self.network.pod(index).ip(v6)).to_vec()
    }

    /// A pod as a ready endpoint, by its address of a family.
    #[must_use]
    pub fn endpoint(&self, pod: &str, index: usize, v6: bool) -> EndpointWish {
        EndpointWish::ready(self.network.pod(index).ip(v6)).pod(pod).on(&self.name, ZONE)
    }

    /// The name of this node, to be a pod's.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until callers of a service are told of so many endpoints at each of its ports together.
    pub async fn told_of(&self, service: &str, expected: usize) {
        wait::until_true(&format!("{expected} endpoints of {service}"), || async {
            let service = format!("{}/{service}", self.namespace);
            let answer = self.mesh.api().await.endpoints(EndpointsRequest { service }).await;
            answer.is_ok_and(|answer| {
                let told = answer.get_ref().endpoints.iter().filter(|status| status.ready);
                told.count() == expected
            })
        })
        .await;
    }

    /// The sum of the samples of a metric of a pod's sidecar that have these labels.
    pub async fn count(&self, pod: &RunningPod, name: &str, labels: &[&str]) -> f64 {
        let metrics = self.asked(pod.index, "/metrics").await.body;
        sum_of(&String::from_utf8_lossy(&metrics), name, labels)
    }
}
