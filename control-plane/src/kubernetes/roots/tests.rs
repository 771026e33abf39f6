//! How often the API is asked while it refuses.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
};

use axum::{
    body::Body,
    http::{Request, Response, StatusCode},
};
use weft_proto::{TrustDomain, WorkloadName};

use super::*;
use crate::{
    ca::AuthorityConfig,
    clock,
    model::{Life, NamespacedName, Pod},
};

fn meshed_pod(name: &str) -> Pod {
    let key = NamespacedName { namespace: "shop".into(), name: name.into() };
    Pod {
        workload: WorkloadName { namespace: "shop".into(), name: name.into() },
        key,
        uid: "1".into(),
        service_account: "default".into(),
        addresses: Vec::new(),
        host_network: false,
        meshed: true,
        life: Life::Running,
        settings: Arc::default(),
        labels: BTreeMap::new(),
        ports: BTreeMap::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_refuses_is_asked_again_after_a_pause_however_many_pods_come() {
    let folder = tempfile::tempdir().unwrap();
    let config = AuthorityConfig {
        trust_domain: TrustDomain::default(),
        svid_ttl: Duration::from_secs(3600),
        root_lifetime: Duration::from_secs(24 * 3600),
        propagation: Duration::ZERO,
        external: None,
    };
    let authority = Arc::new(Authority::open(folder.path(), config, clock::now()).unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let refusing = {
        let asked = asked.clone();
        tower::service_fn(move |request: Request<kube::client::Body>| {
            assert!(request.uri().path().ends_with("/namespaces/shop/configmaps/weft-roots"));
            asked.fetch_add(1, Ordering::SeqCst);
            let status = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","code":403,"reason":"Forbidden","message":"exceeded quota"}"#;
            let mut response = Response::new(Body::from(status));
            *response.status_mut() = StatusCode::FORBIDDEN;
            async { Ok::<_, Infallible>(response) }
        })
    };
    let catalog = Arc::new(Catalog::new(TrustDomain::default()));
    catalog.change(|index| index.apply_pod(meshed_pod("first")));
    let client = Client::new(refusing, "weft-system");
    let mut kept = std::pin::pin!(keep(client, authority, catalog.clone()));
    for number in 0..24 {
        let pod = meshed_pod(&format!("pod-{number}"));
        catalog.change(|index| index.apply_pod(pod));
        let _ = timeout(Duration::from_millis(500), &mut kept).await;
    }
    // At once, then every 5 s of the 12.
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}
