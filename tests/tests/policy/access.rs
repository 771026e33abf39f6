//! Who may do what: in force, in audit, by HTTP and for opaque bytes; and changes under open connections.

use weft_tests::{apps::Http, client::Client, wait};

use crate::stage::{Stage, call, from, get, policy, status};

fn access(mode: &str, rules: &str) -> String {
    let spec = format!(
        "  targetRefs: [{{group: '', kind: Service, name: echo-v1}}]
  mode: {mode}
  rules:
{rules}
"
    );
    policy("AccessPolicy", "echo-v1", &spec)
}

const WEB_ONLY: &str =
    "  - {action: Allow, from: [{identities: ['spiffe://weft.local/ns/mesh/sa/web']}]}";

#[tokio::test(flavor = "multi_thread")]
async fn only_those_who_are_allowed_get_an_answer() {
    let stage = Stage::with(&access("Enforce", WEB_ONLY)).await;
    for version in [Http::One, Http::Two] {
        let mut web = Client::connect(stage.web.outbound(), version).await;
        from("echo-v1").check(&web.get("http://echo-v1.mesh/").await, "web");
        let mut guest = Client::connect(stage.guest.outbound(), version).await;
        let answer = guest.get("http://echo-v1.mesh/").await;
        status(403).field("weft-reason", "authz-denied").check(&answer, "guest");
        let said = format!("{answer:?} {}", String::from_utf8_lossy(&answer.body));
        assert!(!said.contains("AccessPolicy"), "the caller hears no policy's name: {said}");
        // Another service of the same namespace has no policy.
        from("echo-v2").check(&guest.get("http://echo-v2.mesh/").await, "guest elsewhere");
    }
    let mut guest = Client::connect(stage.guest.outbound(), Http::Two).await;
    let answer =
        guest.send(call("http://echo-v1.mesh:7070/a.B/C").request()).await.expect("an answer");
    from("").field("grpc-status", "7").check(&answer, "a guest's call");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_wins_and_requests_are_told_apart_by_method_and_path() {
    let rules = "  - {action: Allow, to: [{methods: [GET], paths: [{prefix: /public}]}]}
  - {action: Deny, to: [{paths: [{prefix: /public/secret}]}]}
  - {action: Allow, from: [{namespaces: [mesh]}], to: [{methods: [POST]}]}";
    let stage = Stage::with(&access("Enforce", rules)).await;
    let denied = || status(403).field("weft-reason", "authz-denied");
    stage
        .check(&[
            (get("http://echo-v1/public/x"), from("echo-v1")),
            (get("http://echo-v1/public/secret"), denied()),
            (get("http://echo-v1/public/%73ecret"), denied()),
            (get("http://echo-v1/public/x/../secret"), denied()),
            (get("http://echo-v1/public//secret"), denied()),
            (get("http://echo-v1/publicity"), denied()),
            (get("http://echo-v1/").by("POST"), from("echo-v1")),
            (get("http://echo-v1/").by("DELETE"), denied()),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_refuses_nobody_and_counts_who_would_have_been() {
    let stage = Stage::with(&access("Audit", WEB_ONLY)).await;
    let mut guest = Client::connect(stage.guest.outbound(), Http::One).await;
    for _ in 0..3 {
        from("echo-v1").check(&guest.get("http://echo-v1.mesh/").await, "guest");
    }
    let mut web = Client::connect(stage.web.outbound(), Http::One).await;
    from("echo-v1").check(&web.get("http://echo-v1.mesh/").await, "web");
    let (server, _) = &stage.servers()[0];
    let audited = server.count("weft_authz_audited_total", &[]).await;
    assert!((audited - 3.0).abs() < f64::EPSILON, "{audited}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_acts_on_the_next_request_of_an_open_connection() {
    let stage = Stage::with("").await;
    for version in [Http::One, Http::Two] {
        let mut guest = Client::connect(stage.guest.outbound(), version).await;
        from("echo-v1").check(&guest.get("http://echo-v1.mesh/").await, "before");
        stage.change(&access("Enforce", WEB_ONLY));
        wait::until_true("the policy to act", || async {
            let mut other = Client::connect(stage.guest.outbound(), version).await;
            other.get("http://echo-v1.mesh/").await.status == 403
        })
        .await;
        assert_eq!(guest.get("http://echo-v1.mesh/").await.status, 403);
        stage.change("");
        wait::until_true("the policy to be gone", || async {
            let mut other = Client::connect(stage.guest.outbound(), version).await;
            other.get("http://echo-v1.mesh/").await.status == 200
        })
        .await;
        from("echo-v1").check(&guest.get("http://echo-v1.mesh/").await, "after");
    }
}
