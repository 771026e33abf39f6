//! Policies from the operator's files to a sidecar, and back into their statuses.

use std::{fs, path::Path, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use weft_control_plane::store::DirStore;
use weft_proto::{
    api::{ApplyRequest, AuthzRequest, GetRequest, ObjectRef},
    discovery::{Egress, ResourceKind, target::Found, update::Body},
};

use crate::{
    harness::{DEADLINE, Plane},
    sidecar::{Stream, Svid, hello, join},
};

const CART: &str = "shop/cart:8080";

const SHOP: &str = "
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: web, namespace: shop}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: cart, namespace: shop}
spec: {service: cart, port: 8080}
";

const SLOW: &str = "
apiVersion: weft.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: slow, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: cart}]
  timeouts: {request: 3s}
";

const WHO: &str = "
apiVersion: weft.dev/v1alpha1
kind: AccessPolicy
metadata: {name: who, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: cart}]
  rules: [{action: Allow, from: [{identities: [shop/web]}]}]
";

/// A control plane over a folder of files, and the certificates of two workloads.
struct Shop {
    plane: Plane,
    web: Svid,
    cart: Svid,
    folder: tempfile::TempDir,
}

impl Shop {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("objects")).unwrap();
        fs::write(folder.path().join("objects/shop.yaml"), SHOP).unwrap();
        let store = Arc::new(DirStore::open(&folder.path().join("objects")).await.unwrap());
        let plane = Plane::start_over(store, &[]).await;
        let (_, token) = plane.token("web", 0, 0).await;
        let web = join(&plane, &token, "shop/web").await.unwrap();
        let (_, token) = plane.token("cart", 0, 0).await;
        let cart = join(&plane, &token, "shop/cart").await.unwrap();
        Self { plane, web, cart, folder }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("objects").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        // As a whole: what is half there is nobody's to read.
        let aside = self.folder.path().join("aside");
        fs::write(&aside, text).unwrap();
        rename(&aside, &self.file(name));
    }

    /// Waits for an object's condition to have this reason, and returns its message.
    async fn until(&self, kind: &str, name: &str, condition: &str, reason: &str) -> String {
        let mut api = self.plane.api().await;
        let of = ObjectRef { kind: kind.into(), namespace: "shop".into(), name: name.into() };
        let deadline = Instant::now() + DEADLINE;
        loop {
            let request = GetRequest { r#ref: Some(of.clone()) };
            let objects = api.get(request).await.map(|answer| answer.into_inner().objects);
            let text = objects.unwrap_or_default().pop().unwrap_or_default();
            let object: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let mut found = conditions.iter().filter(|one| one["type"] == condition);
            if let Some(found) = found.find(|one| one["reason"] == reason) {
                return found["message"].as_str().unwrap_or_default().to_owned();
            }
            assert!(Instant::now() < deadline, "{kind} {name} is not {reason}: {conditions:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn rename(from: &Path, to: &Path) {
    fs::rename(from, to).unwrap();
}

#[tokio::test]
async fn a_policy_in_a_file_reaches_callers_and_its_removal_undoes_it() {
    let shop = Shop::start().await;
    let mut caller = Stream::of(&shop.plane, &shop.web, hello("shop/web", "0", "a")).await;
    let Some(Body::Service(before)) = caller.get(ResourceKind::Service, CART).await.body else {
        panic!("a service")
    };
    assert_eq!((before.requests, before.endpoint_policy), (None, None));

    shop.write("slow.yaml", SLOW);
    let Some(Body::Service(service)) = caller.take().await.body else { panic!("a service") };
    let policy = service.requests.expect("said");
    assert_eq!(policy.request_timeout_ms, Some(3_000));
    assert_eq!(policy.policies, ["TrafficPolicy shop/slow"]);
    shop.until("trafficpolicies", "slow", "Programmed", "Programmed").await;

    fs::remove_file(shop.file("slow.yaml")).unwrap();
    let Some(Body::Service(after)) = caller.take().await.body else { panic!("a service") };
    assert_eq!(after.requests, None);
}

#[tokio::test]
async fn access_reaches_the_servers_sidecar_alone_and_is_listed_for_operators() {
    let shop = Shop::start().await;
    let mut caller = Stream::of(&shop.plane, &shop.web, hello("shop/web", "0", "a")).await;
    caller.get(ResourceKind::Service, CART).await;
    let mut server = Stream::of(&shop.plane, &shop.cart, hello("shop/cart", "0", "a")).await;
    // Who has not registered keeps the inbound ports that it has.
    server.register(4143, true).await;
    caller.take().await;
    let Some(Body::Inbound(open)) = server.get(ResourceKind::Inbound, "").await.body else {
        panic!("inbound ports")
    };
    assert_eq!(open.ports[0].access, None);

    shop.write("who.yaml", WHO);
    let Some(Body::Inbound(inbound)) = server.take().await.body else { panic!("inbound ports") };
    let access = inbound.ports[0].access.clone().expect("said");
    assert_eq!(access.rules[0].policy, "AccessPolicy shop/who rules[0]");
    assert_eq!(access.rules[0].callers[0].identities, ["spiffe://weft.local/ns/shop/sa/web"]);
    assert!(access.enforced.expect("always said").deny);
    caller.nothing_is_due().await;

    let request = AuthzRequest { service: "shop/cart".into() };
    let answer = shop.plane.api().await.authz(request).await.unwrap().into_inner();
    let port = &answer.ports[0];
    assert_eq!((port.service_port.as_str(), port.rules[0].from.as_str()), (CART, "shop/web"));
    let request = AuthzRequest { service: "shop/cat".into() };
    let refused = shop.plane.api().await.authz(request).await.unwrap_err();
    assert!(refused.message().contains("there is no service shop/cat"), "{refused}");
}

#[tokio::test]
async fn a_policy_that_a_sidecar_refuses_says_so_until_it_is_taken() {
    let shop = Shop::start().await;
    shop.write("slow.yaml", SLOW);
    shop.until("trafficpolicies", "slow", "Programmed", "Programmed").await;
    let mut caller = Stream::of(&shop.plane, &shop.web, hello("shop/web", "0", "a")).await;
    caller.subscribe(crate::sidecar::key(ResourceKind::Service, CART)).await;
    let update = caller.update().await;
    caller.nack(&update, "requests.requestTimeoutMs: 3000 is too long").await;
    let message = shop.until("trafficpolicies", "slow", "Programmed", "Refused").await;
    for part in ["shop/web/0", CART, "3000 is too long"] {
        assert!(message.contains(part), "{message}");
    }
    let refused = "requests.requestTimeoutMs: 3000 is too long (made of TrafficPolicy shop/slow)";
    shop.plane
        .until("the refusal to name the policy", |proxies| {
            let held = proxies.iter().flat_map(|proxy| &proxy.resources);
            held.into_iter().any(|held| held.last_nack == refused)
        })
        .await;
    shop.write("slow.yaml", &SLOW.replace("3s", "2s"));
    caller.take().await;
    shop.until("trafficpolicies", "slow", "Programmed", "Programmed").await;
}

#[tokio::test]
async fn hosts_outside_are_targets_and_part_of_the_eager_set() {
    let shop = Shop::start().await;
    let mut caller = Stream::of(&shop.plane, &shop.web, hello("shop/web", "0", "a")).await;
    caller.get(ResourceKind::Mesh, "").await;
    let Some(Body::Target(target)) = caller.get(ResourceKind::Target, "api.pay.com:443").await.body
    else {
        panic!("a target")
    };
    assert!(matches!(target.found, Some(Found::NotFound(_))), "{target:?}");
    let text = "
apiVersion: weft.dev/v1alpha1
kind: ExternalService
metadata: {name: pay, namespace: shop}
spec: {hosts: [api.pay.com, 192.0.2.7], ports: [{port: 443, protocol: tls}]}
---
apiVersion: weft.dev/v1alpha1
kind: MeshConfig
metadata: {name: mesh}
spec: {egress: RegisteredOnly}
";
    shop.write("pay.yaml", text);
    let (mut mesh, mut target) = (None, None);
    while mesh.is_none() || target.is_none() {
        match caller.take().await.body {
            Some(Body::Mesh(now)) if now.egress() == Egress::RegisteredOnly => mesh = Some(now),
            Some(Body::Target(now)) => target = now.found,
            _ => {}
        }
    }
    assert_eq!(mesh.unwrap().external_hosts, ["192.0.2.7", "api.pay.com"]);
    assert_eq!(target, Some(Found::Service("shop/pay:443".into())));
    let Some(Body::Service(service)) = caller.get(ResourceKind::Service, "shop/pay:443").await.body
    else {
        panic!("a service")
    };
    assert_eq!(service.external.unwrap().hosts, ["api.pay.com", "192.0.2.7"]);
    let by_address = caller.get(ResourceKind::Target, "192.0.2.7:443").await.body;
    let Some(Body::Target(target)) = by_address else { panic!("a target") };
    assert_eq!(target.found, Some(Found::Service("shop/pay:443".into())));
    shop.until("externalservices", "pay", "Accepted", "Accepted").await;
}

#[tokio::test]
async fn what_is_applied_is_checked_with_the_field_and_what_would_be_right() {
    let shop = Shop::start().await;
    let object = serde_json::json!({
        "apiVersion": "weft.dev/v1alpha1",
        "kind": "TrafficPolicy",
        "metadata": {"name": "slow", "namespace": "shop"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "cart"}], "retry": {"attempts": 99}},
    });
    let request = ApplyRequest { objects: vec![object.to_string()], dry_run: false };
    let answer = shop.plane.api().await.apply(request).await.unwrap().into_inner();
    let message = &answer.results[0].message;
    assert!(message.contains("spec.retry.attempts: 99 is out of range: use 0 to 10"), "{message}");
}
