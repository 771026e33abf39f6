//! The Gateway API's routes on a cluster: read when their definitions come, told to sidecars, and told what became of
//! them.

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};
use weft_proto::discovery::{Routes, update::Body};
use weft_tests::{
    joining::{Following, Joining},
    kubernetes::cluster::{Cluster, MANAGER, gateway_api::gateway_api, pods::PodWish},
    mesh::Mesh,
    wait,
};

const GROUP: &str = "gateway.networking.k8s.io";

struct Stage {
    cluster: Cluster,
    mesh: Mesh,
    namespace: String,
}

impl Stage {
    /// A mesh with a service, on a cluster that does not know of routes.
    async fn start() -> Self {
        // In memory, as definitions are a whole cluster's: another one may have them.
        let cluster = Cluster::start_in_memory().await;
        let system = cluster.namespace("weft-system").await;
        let mesh = Mesh::in_cluster(cluster.config(), &system, &[]).await;
        let namespace = cluster.labelled_namespace("shop", &[("weft.dev/inject", "enabled")]).await;
        let spec = json!({"ports": [{"name": "http", "port": 80}]});
        let service: Service =
            serde_json::from_value(json!({"metadata": {"name": "cart"}, "spec": spec}))
                .expect("a Service");
        cluster.create(&cluster.objects(&namespace), &service).await;
        Self { cluster, mesh, namespace }
    }

    /// The service's port, as a pod is told of it.
    async fn follow(&self) -> Following {
        let (cluster, namespace) = (&self.cluster, &self.namespace);
        cluster.service_account(namespace, "web").await;
        let node = cluster.node("zone-a").await;
        let wish = PodWish::named("web-1", &node).service_account("web");
        let address = "10.77.9.1".parse().expect("an address");
        let pod: Pod = cluster.running_pod(namespace, &wish, &[address]).await;
        let token = cluster.token(namespace, "web", Some(&pod), &["weft.dev"]).await;
        let roots: Api<ConfigMap> = cluster.objects(namespace);
        let roots = wait::until("the roots", || async {
            roots.get_opt("weft-roots").await.expect("the API answers")
        })
        .await;
        let roots = roots.data.unwrap_or_default();
        let client = Joining::new(self.mesh.discovery(), &roots["roots.pem"]);
        let workload = format!("{namespace}/web-1");
        let svid = wait::until("the pod to be known", || async {
            client.by_token(&token, &workload).await.ok()
        })
        .await;
        let port = format!("{namespace}/cart:80");
        client.follow(&svid, &workload, "web-1", &port).await.expect("its own stream")
    }

    fn routes(&self) -> Api<DynamicObject> {
        self.cluster.gateway_objects("HTTPRoute", &self.namespace)
    }

    /// Writes the route as its owner does.
    async fn write(&self, backend: &str) {
        let route = json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "HTTPRoute", "metadata": {"name": "split"},
            "spec": {
                "parentRefs": [{"group": "", "kind": "Service", "name": "cart"}, {"name": "edge"}],
                "rules": [{"backendRefs": [{"name": backend, "port": 80}]}],
            },
        });
        let settings = PatchParams::apply(MANAGER).force();
        self.routes().patch("split", &settings, &Patch::Apply(&route)).await.expect("it is taken");
    }

    /// Another controller says what it thinks of the route at its own parent.
    async fn gateway_speaks(&self) {
        let found = self.routes().get("split").await.expect("it is there");
        let mut parents = found.data["status"]["parents"].as_array().cloned().unwrap_or_default();
        parents.push(json!({
            "parentRef": {"name": "edge"}, "controllerName": "example.com/gateways",
            "conditions": [{
                "type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
                "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
        }));
        let patch = json!({"status": {"parents": parents}});
        let settings = PatchParams::default();
        let patched = self.routes().patch_status("split", &settings, &Patch::Merge(&patch)).await;
        patched.expect("it is taken");
    }

    /// Waits until the route's status is as it should be: by controller, "TYPE=STATUS REASON" of each condition.
    async fn told(&self, ours: &[&str], is_theirs_there: bool) {
        wait::until_true(&format!("the route to be told {ours:?}"), || async {
            let found = self.routes().get("split").await.expect("it is there");
            let parents = found.data["status"]["parents"].as_array().cloned().unwrap_or_default();
            let by = |controller: &str| -> Vec<String> {
                let own = parents.iter().filter(|parent| parent["controllerName"] == controller);
                own.flat_map(|parent| {
                    parent["conditions"].as_array().into_iter().flatten().map(said)
                })
                .collect()
            };
            by("weft.dev/control-plane") == ours
                && by("example.com/gateways").is_empty() != is_theirs_there
        })
        .await;
    }
}

fn said(condition: &Value) -> String {
    let part = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    format!("{}={} {}", part("type"), part("status"), part("reason"))
}

/// The routes of the next update.
async fn next(following: &mut Following) -> Option<Routes> {
    let body = following.next().await.body;
    let of_service = |body| if let Body::Service(service) = body { Some(service) } else { None };
    body.and_then(of_service).expect("an update of the service itself").routes
}

const GOOD: [&str; 2] = ["Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs"];

#[tokio::test(flavor = "multi_thread")]
async fn a_route_reaches_sidecars_and_is_told_so_once_the_cluster_knows_of_routes() {
    let stage = Stage::start().await;
    let mut following = stage.follow().await;
    assert_eq!(next(&mut following).await, None, "the cluster has no such kind yet");
    stage.cluster.apply_definitions(&gateway_api()).await;
    stage.write("cart").await;
    let http = next(&mut following).await.expect("routes").http.expect("routes of HTTP");
    assert_eq!(http.rules[0].name, format!("HTTPRoute {}/split rules[0]", stage.namespace));
    stage.told(&GOOD, false).await;

    stage.gateway_speaks().await;
    stage.told(&GOOD, true).await;
    stage.write("none").await;
    let http = next(&mut following).await.expect("routes").http.expect("routes of HTTP");
    assert!(format!("{:?}", http.rules[0].backends).contains("there is no service"));
    stage.told(&[GOOD[0], "ResolvedRefs=False BackendNotFound"], true).await;

    stage.routes().delete("split", &DeleteParams::default()).await.expect("it was there");
    assert_eq!(next(&mut following).await, None);
}
