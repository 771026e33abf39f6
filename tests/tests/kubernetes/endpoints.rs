//! What the control plane makes of Services, EndpointSlices and Pods of a real API, or of the one in memory: every
//! state that endpoints go through, as `weft endpoints` shows it.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{Api, api::DeleteParams};
use serde_json::json;
use weft_proto::api::{EndpointStatus, EndpointsRequest};
use weft_tests::{
    kubernetes::{
        cluster::{Cluster, pods::PodWish},
        request::Verb,
    },
    mesh::Mesh,
    wait,
};

/// A mesh on a cluster, with a service of two pods.
struct Stage {
    cluster: Cluster,
    mesh: Mesh,
    namespace: String,
    node: String,
}

impl Stage {
    async fn start(cluster: Cluster) -> Self {
        let system = cluster.namespace("weft-system").await;
        let namespace = cluster.namespace("shop").await;
        let node = cluster.node("zone-a").await;
        let mesh = Mesh::in_cluster(cluster.config(), &system, &[]).await;
        Self { cluster, mesh, namespace, node }
    }

    async fn service(&self, spec: serde_json::Value) {
        let service = json!({"metadata": {"name": "cart"}, "spec": spec});
        let service: Service = serde_json::from_value(service).expect("a Service");
        self.cluster.create(&self.cluster.objects(&self.namespace), &service).await;
    }

    async fn pod(&self, name: &str, address: &str) {
        let wish = PodWish::named(name, &self.node).port("http", 8080);
        let address: IpAddr = address.parse().expect("an address");
        self.cluster.running_pod(&self.namespace, &wish, &[address]).await;
    }

    /// Writes the slice of the service: each pod with its address, and whether it is ready, serving, terminating.
    async fn slice(&self, pods: &[(&str, &str, [bool; 3])]) {
        let endpoints: Vec<_> = pods
            .iter()
            .map(|(pod, address, [ready, serving, terminating])| {
                json!({
                    "addresses": [address],
                    "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
                    "targetRef": {"kind": "Pod", "name": pod, "namespace": self.namespace},
                    "nodeName": self.node,
                    "zone": "zone-a",
                })
            })
            .collect();
        let slice = json!({
            "metadata": {
                "name": "cart-test",
                "labels": {
                    "kubernetes.io/service-name": "cart",
                    "endpointslice.kubernetes.io/managed-by": "weft-tests",
                },
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": endpoints,
        });
        let slice: EndpointSlice = serde_json::from_value(slice).expect("an EndpointSlice");
        self.cluster.apply_slice(&self.namespace, &slice).await;
    }

    async fn statuses(&self) -> Vec<EndpointStatus> {
        let request = EndpointsRequest { service: format!("{}/cart", self.namespace) };
        match self.mesh.api().await.endpoints(request).await {
            Ok(answer) => answer.into_inner().endpoints,
            Err(_) => Vec::new(),
        }
    }

    /// Waits until exactly these are ready, "POD at ADDRESS".
    async fn ready(&self, expected: &[&str]) {
        let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
        wait::until_true(&format!("the ready endpoints to be {expected:?}"), || async {
            let statuses = self.statuses().await;
            let ready = statuses.iter().filter(|status| status.ready);
            let ready: BTreeSet<String> =
                ready.map(|status| format!("{} at {}", status.instance, status.address)).collect();
            ready == expected
        })
        .await;
    }

    /// Waits until an endpoint is kept from callers for this reason.
    async fn kept_back(&self, pod: &str, why: &str) {
        wait::until_true(&format!("{pod} to be kept back: {why}"), || async {
            let statuses = self.statuses().await;
            let found = statuses.iter().find(|status| status.instance == pod);
            found.is_some_and(|status| !status.ready && status.detail.contains(why))
        })
        .await;
    }
}

const READY: [bool; 3] = [true, true, false];
const NOT_READY: [bool; 3] = [false, false, false];
const LEAVING: [bool; 3] = [false, true, true];

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_follow_their_pods_through_every_state() {
    let stage = Stage::start(Cluster::start().await).await;
    stage.service(json!({"ports": [{"name": "http", "port": 80, "targetPort": "http"}]})).await;
    stage.pod("cart-1", "10.77.9.1").await;
    stage.pod("cart-2", "10.77.9.2").await;
    stage.slice(&[("cart-1", "10.77.9.1", READY), ("cart-2", "10.77.9.2", NOT_READY)]).await;
    stage.ready(&["cart-1 at 10.77.9.1:8080"]).await;
    stage.kept_back("cart-2", "not ready").await;

    let statuses = stage.statuses().await;
    let first = statuses.iter().find(|status| status.instance == "cart-1").expect("it is listed");
    assert_eq!((first.zone.as_str(), first.meshed), ("zone-a", false), "no sidecar is in it");
    assert_eq!(first.workload, format!("{}/cart-1", stage.namespace));

    stage.slice(&[("cart-1", "10.77.9.1", READY), ("cart-2", "10.77.9.2", READY)]).await;
    stage.ready(&["cart-1 at 10.77.9.1:8080", "cart-2 at 10.77.9.2:8080"]).await;

    // A pod that is being deleted is left at once; its slice says nothing of it yet.
    let pods: Api<k8s_openapi::api::core::v1::Pod> = stage.cluster.objects(&stage.namespace);
    pods.delete("cart-1", &DeleteParams::default()).await.expect("it is there");
    stage.ready(&["cart-2 at 10.77.9.2:8080"]).await;
    stage.kept_back("cart-1", "about to stop").await;
    stage.slice(&[("cart-1", "10.77.9.1", LEAVING), ("cart-2", "10.77.9.2", READY)]).await;
    stage.kept_back("cart-1", "about to stop").await;
    stage.slice(&[("cart-2", "10.77.9.2", READY)]).await;
    stage.ready(&["cart-2 at 10.77.9.2:8080"]).await;

    let slices: Api<EndpointSlice> = stage.cluster.objects(&stage.namespace);
    slices.delete("cart-test", &DeleteParams::default()).await.expect("it is there");
    stage.ready(&[]).await;
    let services: Api<Service> = stage.cluster.objects(&stage.namespace);
    services.delete("cart", &DeleteParams::default()).await.expect("it is there");
    wait::until_true("the service to be gone", || async {
        let request = EndpointsRequest { service: format!("{}/cart", stage.namespace) };
        let answer = stage.mesh.api().await.endpoints(request).await;
        answer.is_err_and(|status| status.code() == tonic::Code::NotFound)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unready_addresses_are_told_where_the_service_says_so() {
    let stage = Stage::start(Cluster::start().await).await;
    let spec = json!({
        "clusterIP": "None",
        "publishNotReadyAddresses": true,
        "ports": [{"name": "http", "port": 80}],
    });
    stage.service(spec).await;
    stage.pod("cart-1", "10.77.9.1").await;
    // As Kubernetes writes it for such a service: ready, whatever the pod is.
    stage.slice(&[("cart-1", "10.77.9.1", READY)]).await;
    stage.ready(&["cart-1 at 10.77.9.1:8080"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_may_go_away_forget_and_throttle_and_nothing_is_lost_or_asked_in_a_storm() {
    let stage = Stage::start(Cluster::start_in_memory().await).await;
    stage.service(json!({"ports": [{"name": "http", "port": 80}]})).await;
    stage.pod("cart-1", "10.77.9.1").await;
    stage.slice(&[("cart-1", "10.77.9.1", READY)]).await;
    stage.ready(&["cart-1 at 10.77.9.1:8080"]).await;
    let api = stage.cluster.in_memory().expect("this test is of the one in memory");

    // Cut in the middle of an event.
    api.faults().cut_watches(3);
    stage.pod("cart-2", "10.77.9.2").await;
    stage.slice(&[("cart-1", "10.77.9.1", READY), ("cart-2", "10.77.9.2", READY)]).await;
    stage.ready(&["cart-1 at 10.77.9.1:8080", "cart-2 at 10.77.9.2:8080"]).await;

    // Away for a while: what is known stays. What happened meanwhile is found out although the API has forgotten it.
    api.stop().await;
    // Nothing is to happen, for long enough that watches have failed and been tried again.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(stage.statuses().await.len(), 2, "what is known stays in force");
    api.resume().await;
    api.faults().throttle(20, 1);
    api.faults().all_requests(true);
    stage.slice(&[("cart-2", "10.77.9.2", READY)]).await;
    let pods: Api<k8s_openapi::api::core::v1::Pod> = stage.cluster.objects(&stage.namespace);
    pods.delete("cart-1", &DeleteParams::default().grace_period(0)).await.expect("it is there");
    api.compact();
    stage.ready(&["cart-2 at 10.77.9.2:8080"]).await;
    for resource in ["pods", "endpointslices.discovery.k8s.io", "services"] {
        let lists = api.faults().requests(Verb::List, resource);
        let watches = api.faults().requests(Verb::Watch, resource);
        assert!(lists + watches <= 12, "{resource}: {lists} lists and {watches} watches");
    }
}
