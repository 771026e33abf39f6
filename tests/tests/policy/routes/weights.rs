//! Backends by weight, and backends that there are not.

use weft_tests::apps::Http;

use crate::stage::{Stage, from, get, route, status};

const REQUESTS: usize = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn weights_share_requests_within_five_percent() {
    let rules = "
  - backendRefs:
    - {name: echo-v1, port: 80, weight: 70}
    - {name: echo-v2, port: 80, weight: 30}
";
    let stage = Stage::with(&route("weights", "echo", rules)).await;
    for version in [Http::One, Http::Two] {
        let mut client = stage.client(version).await;
        let mut first = 0;
        for _ in 0..REQUESTS {
            let answer = client.get("http://echo/").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            first += usize::from(answer.field("app") == "echo-v1");
        }
        assert!((650..=750).contains(&first), "{version:?}: {first} of {REQUESTS}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weight_of_zero_is_never_chosen_and_a_missing_backend_has_its_share_of_failures() {
    let rules = "
  - matches: [{path: {type: PathPrefix, value: /zero}}]
    backendRefs:
    - {name: echo-v1, port: 80, weight: 0}
    - {name: echo-v2, port: 80}
  - matches: [{path: {type: PathPrefix, value: /missing}}]
    backendRefs: [{name: nobody, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /half}}]
    backendRefs: [{name: nobody, port: 80}, {name: echo-v1, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /elsewhere}}]
    backendRefs: [{name: guest, namespace: guests, port: 80}]
";
    let stage = Stage::with(&route("missing", "echo", rules)).await;
    let invalid = || status(500).field("weft-reason", "backend-invalid");
    for _ in 0..20 {
        stage
            .check(&[
                (get("http://echo/zero"), from("echo-v2")),
                (get("http://echo/missing"), invalid()),
                (get("http://echo/elsewhere"), invalid()),
            ])
            .await;
    }
    let mut client = stage.client(Http::One).await;
    let mut failed = 0;
    for _ in 0..REQUESTS {
        failed += usize::from(client.get("http://echo/half").await.status == 500);
    }
    assert!((430..=570).contains(&failed), "{failed} of {REQUESTS}");
}
