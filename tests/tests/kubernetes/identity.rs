//! Who a pod's sidecar may be: its projected token decides, and nothing that the sidecar says.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PatchParams, PostParams},
};
use tonic::{Code, Status};
use weft_tests::{
    joining::{Joining, Svid},
    kubernetes::cluster::{Cluster, pods::PodWish},
    mesh::Mesh,
    wait,
};

const AUDIENCE: &str = "weft.dev";

struct Stage {
    cluster: Cluster,
    mesh: Mesh,
    system: String,
    namespace: String,
    node: String,
}

impl Stage {
    async fn start() -> Self {
        let cluster = Cluster::start().await;
        let system = cluster.namespace("weft-system").await;
        let mesh = Mesh::in_cluster(cluster.config(), &system, &[]).await;
        // Made when no other control plane is there to put its own roots into it.
        let namespace = cluster.labelled_namespace("shop", &[("weft.dev/inject", "enabled")]).await;
        let node = cluster.node("zone-a").await;
        Self { cluster, mesh, system, namespace, node }
    }

    async fn pod(&self, name: &str, account: &str) -> Pod {
        self.cluster.service_account(&self.namespace, account).await;
        let wish = PodWish::named(name, &self.node).service_account(account);
        let address: IpAddr = "10.77.9.1".parse().expect("an address");
        self.cluster.running_pod(&self.namespace, &wish, &[address]).await
    }

    async fn token(&self, account: &str, pod: Option<&Pod>, audience: &str) -> String {
        self.cluster.token(&self.namespace, account, pod, &[audience]).await
    }

    /// A client that trusts what the namespace's ConfigMap holds, as a pod's sidecar does.
    async fn client(&self) -> Joining {
        let roots: Api<ConfigMap> = self.cluster.objects(&self.namespace);
        let found = wait::until("the ConfigMap of roots", || async {
            roots.get_opt("weft-roots").await.expect("the API answers")
        })
        .await;
        let data = found.data.unwrap_or_default();
        Joining::new(self.mesh.discovery(), &data["roots.pem"])
    }

    /// A workload of the stage's namespace.
    fn named(&self, workload: &str) -> String {
        format!("{}/{workload}", self.namespace)
    }

    /// Joins as a pod, once the control plane knows of it.
    async fn join(&self, client: &Joining, token: &str, workload: &str) -> Result<Svid, Status> {
        wait::until("the pod to be known", || async {
            match client.by_token(token, &self.named(workload)).await {
                Err(status) if status.code() == Code::Unavailable => None,
                answer => Some(answer),
            }
        })
        .await
    }
}

fn refused<T>(answer: Result<T, Status>, code: Code, why: &str) {
    let status = answer.err().expect("it is refused");
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(why), "{why:?} is not in {:?}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_joins_by_its_token_and_is_no_other_pod() {
    let stage = Stage::start().await;
    let client = stage.client().await;
    let cart = stage.pod("cart-1", "cart").await;
    stage.pod("cart-2", "cart").await;
    let token = stage.token("cart", Some(&cart), AUDIENCE).await;

    let svid = stage.join(&client, &token, "cart-1").await.expect("its own workload");
    let expected = format!("spiffe://weft.local/ns/{}/sa/cart", stage.namespace);
    assert_eq!(svid.spiffe_id, expected);
    client.hello(&svid, &stage.named("cart-1"), "cart-1").await.expect("its own stream");

    let other = stage.named("cart-2");
    refused(client.by_token(&token, &other).await, Code::PermissionDenied, "instance of");
    refused(client.by_renewal(&svid, &other).await, Code::PermissionDenied, "instance of");
    let hello = client.hello(&svid, &other, "cart-2").await;
    refused(hello, Code::PermissionDenied, "the proxy's certificate is for");
    let hello = client.hello(&svid, &stage.named("cart-1"), "cart-2").await;
    refused(hello, Code::PermissionDenied, "the proxy's certificate is for");

    let renewed = client.by_renewal(&svid, &stage.named("cart-1")).await.expect("its own");
    client.hello(&renewed, &stage.named("cart-1"), "cart-1").await.expect("bound as before");
    let hello = client.hello(&renewed, &other, "cart-2").await;
    refused(hello, Code::PermissionDenied, "the proxy's certificate is for");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_prove_too_little_are_refused() {
    let stage = Stage::start().await;
    let client = stage.client().await;
    let cart = stage.pod("cart-1", "cart").await;
    let good = stage.token("cart", Some(&cart), AUDIENCE).await;
    stage.join(&client, &good, "cart-1").await.expect("a good one");

    let workload = stage.named("cart-1");
    let elsewhere = stage.token("cart", Some(&cart), "vault").await;
    let unbound = stage.token("cart", None, AUDIENCE).await;
    for (token, why) in [
        (elsewhere.as_str(), "refused"),
        (unbound.as_str(), "bound to no pod"),
        ("", "refused"),
        ("no.token.atall", "refused"),
    ] {
        refused(client.by_token(token, &workload).await, Code::Unauthenticated, why);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_gone_gets_no_certificate_any_more() {
    let stage = Stage::start().await;
    let client = stage.client().await;
    let cart = stage.pod("db-0", "cart").await;
    let token = stage.token("cart", Some(&cart), AUDIENCE).await;
    let workload = stage.named("db-0");
    let svid = stage.join(&client, &token, "db-0").await.expect("a good token");

    let pods: Api<Pod> = stage.cluster.objects(&stage.namespace);
    let at_once = DeleteParams::default().grace_period(0);
    pods.delete(&cart.name_any(), &at_once).await.expect("it is there");
    wait::until_true("the renewal to be refused", || async {
        let renewal = client.by_renewal(&svid, &workload).await;
        renewal.is_err_and(|status| status.code() == Code::PermissionDenied)
    })
    .await;
    let hello = client.hello(&svid, &workload, "db-0").await;
    refused(hello, Code::PermissionDenied, "called db-0 any more");
    // Another pod of the same name: the old pod's token is not its own.
    stage.pod("db-0", "cart").await;
    wait::until_true("the new pod to be known", || async {
        client.by_renewal(&svid, &workload).await.is_ok()
    })
    .await;
    let answer = client.by_token(&token, &workload).await;
    let status = answer.expect_err("it is refused");
    assert!(matches!(status.code(), Code::Unauthenticated | Code::Unavailable), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn roots_lie_where_sidecars_are_wanted_and_are_put_right() {
    let stage = Stage::start().await;
    stage.client().await;
    let roots: Api<ConfigMap> = stage.cluster.objects(&stage.namespace);
    let elsewhere: Api<ConfigMap> = stage.cluster.objects(&stage.system);
    let none = elsewhere.get_opt("weft-roots").await.expect("the API answers");
    assert!(none.is_none(), "nobody asked for sidecars there");

    // A new root is announced to pods that start from now on, before it signs.
    let mut api = stage.mesh.api().await;
    api.rotate_root(weft_proto::api::RotateRootRequest { retire_old: false })
        .await
        .expect("it makes a root");
    wait::until_true("both roots to be in the ConfigMap", || async {
        let found = roots.get("weft-roots").await.expect("it is there");
        let pem = found.data.unwrap_or_default().remove("roots.pem").unwrap_or_default();
        pem.matches("BEGIN CERTIFICATE").count() == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meshed_pod_finds_the_roots_in_a_namespace_that_asks_for_none() {
    let stage = Stage::start().await;
    stage.client().await;
    // Its own label asked the webhook, or `weft inject` its manifest: nobody labelled the namespace.
    let plain = stage.cluster.namespace("plain").await;
    let roots: Api<ConfigMap> = stage.cluster.objects(&plain);
    let pods: Api<Pod> = stage.cluster.objects(&plain);
    let make = async |name: &str, sidecar: &[&str]| {
        let mut pod = PodWish::named(name, &stage.node).to_pod();
        let containers = &mut pod.spec.as_mut().expect("a spec").containers;
        for name in sidecar {
            let beside = containers[0].clone();
            containers.push(Container { name: (*name).to_owned(), ..beside });
        }
        pods.create(&PostParams::default(), &pod).await.expect("it is allowed");
    };
    make("other", &[]).await;
    make("meshed", &["weft-proxy"]).await;
    wait::until_true("the roots to lie there, too", || async {
        roots.get_opt("weft-roots").await.expect("the API answers").is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authority_survives_in_a_secret() {
    let mut stage = Stage::start().await;
    let client = stage.client().await;
    let cart = stage.pod("cart-1", "cart").await;
    let token = stage.token("cart", Some(&cart), AUDIENCE).await;
    let svid = stage.join(&client, &token, "cart-1").await.expect("a good token");

    let secrets: Api<Secret> = stage.cluster.objects(&stage.system);
    let secret = secrets.get("weft-control-plane-state").await.expect("the state is there");
    assert!(secret.data.unwrap_or_default().contains_key("authority.json"));
    // Somebody else's label does not keep the authority from writing, another's state does.
    let rotate = |retire_old| weft_proto::api::RotateRootRequest { retire_old };
    let patch = |patch: serde_json::Value| {
        let secrets = secrets.clone();
        async move {
            let patch = kube::api::Patch::Merge(patch);
            let name = "weft-control-plane-state";
            secrets.patch(name, &PatchParams::default(), &patch).await.expect("it is there")
        }
    };
    patch(serde_json::json!({"metadata": {"labels": {"backup": "yes"}}})).await;
    stage.mesh.api().await.rotate_root(rotate(false)).await.expect("it writes the new root");
    let state = secrets.get("weft-control-plane-state").await.expect("it is there").data;
    patch(serde_json::json!({"data": {"authority.json": "e30="}})).await;
    let token = weft_proto::api::CreateTokenRequest {
        namespace: "shop".to_owned(),
        service_account: "cart".to_owned(),
        ..Default::default()
    };
    let answer = stage.mesh.api().await.create_token(token).await;
    let message = answer.expect_err("the state is another one").message().to_owned();
    assert!(message.contains("another control plane"), "{message}");
    patch(serde_json::json!({"data": state})).await;
    stage.mesh.kill_control_plane();
    stage.mesh.start_control_plane().await;
    // Same roots: the client's trust holds, and so does the certificate.
    wait::until_true("the renewal after the restart", || async {
        client.by_renewal(&svid, &stage.named("cart-1")).await.is_ok()
    })
    .await;
}
