//! Who may do what: in force, in audit, by HTTP and for opaque bytes; and changes under open connections.

use weft_tests::{apps::Http, client::Client, mesh::Sidecar, wait};

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

/// Whether a caller is let in to `echo-v1`, over HTTP/1, HTTP/2 and gRPC alike, and hears no more than it should.
async fn is_let_in(caller: &Sidecar) -> bool {
    let mut passed = Vec::new();
    for (version, asked) in [
        (Http::One, get("http://echo-v1.mesh/")),
        (Http::Two, get("http://echo-v1.mesh/")),
        (Http::Two, call("http://echo-v1.mesh:7070/a.B/C")),
    ] {
        let mut client = Client::connect(caller.outbound(), version).await;
        let answer = client.send(asked.request()).await.expect("an answer");
        passed.push(answer.field("app") == "echo-v1");
        if passed.last() == Some(&true) {
            continue;
        }
        let expected = match asked.is_call() {
            // Trailers alone.
            true => from("").field("grpc-status", "7").field("content-type", "application/grpc"),
            false => status(403),
        };
        expected.field("weft-reason", "authz-denied").check(&answer, &format!("{asked:?}"));
        let said = format!("{answer:?} {}", String::from_utf8_lossy(&answer.body));
        assert!(!said.contains("Policy") && !said.contains("MeshConfig"), "{said}");
        assert!(!asked.is_call() || answer.body.is_empty() && answer.trailers.is_none(), "{said}");
    }
    // While a change arrives they may differ.
    passed.iter().all(|passed| *passed)
}

/// An AccessPolicy for this namespace, or for the mesh.
fn default_of(namespace: &str, spec: &str) -> String {
    format!(
        "---
apiVersion: weft.dev/v1alpha1
kind: AccessPolicy
metadata: {{name: default, namespace: {namespace}}}
spec: {{{spec}}}
"
    )
}

const MESH_DENIES: &str = "---
apiVersion: weft.dev/v1alpha1
kind: MeshConfig
metadata: {name: mesh}
spec: {access: {default: Deny}}
";

/// Each row differs from the one before, so that the change is seen.
#[tokio::test(flavor = "multi_thread")]
async fn levels_callers_and_modes_decide_over_every_protocol() {
    let on_service = |rule: &str| access("Enforce", &format!("  - {{{rule}}}"));
    let mesh_denies = || default_of("weft-system", "default: Deny");
    let rows = [
        ("MeshConfig denies", MESH_DENIES.to_owned(), [false, false]),
        (
            "the namespace allows",
            MESH_DENIES.to_owned() + &default_of("mesh", "default: Allow"),
            [true, true],
        ),
        ("the mesh's policy denies", mesh_denies(), [false, false]),
        (
            "a service's rule allows a namespace",
            mesh_denies() + &on_service("action: Allow, from: [{namespaces: [mesh]}]"),
            [true, false],
        ),
        (
            "a service's rule allows where its namespace denies",
            default_of("mesh", "default: Deny")
                + &on_service(
                    "action: Allow, from: [{identities: ['spiffe://weft.local/ns/guests/*']}]",
                ),
            [false, true],
        ),
        (
            "a denial of the namespace wins over the service's allowance",
            default_of("mesh", "rules: [{action: Deny, from: [{namespaces: [guests]}]}]")
                + &on_service("action: Allow"),
            [true, false],
        ),
        (
            "a range that callers do not come from",
            on_service("action: Allow, from: [{cidrs: [10.0.0.0/8, 'fd00::/8']}]"),
            [false, false],
        ),
        (
            "a range that they come from",
            on_service("action: Allow, from: [{cidrs: [127.0.0.0/8]}]"),
            [true, true],
        ),
        (
            "a denied range wins over an allowed identity",
            on_service("action: Allow, from: [{identities: [mesh/web]}]")
                + "  - {action: Deny, from: [{cidrs: [127.0.0.1/32]}]}\n",
            [false, false],
        ),
        (
            "both identity and range must be right",
            on_service(
                "action: Allow, from: [{identities: [guests/guest], cidrs: [127.0.0.1/32]}]",
            ),
            [false, true],
        ),
        ("what is audited decides nothing", access("Audit", "  - {action: Deny}"), [true, true]),
        (
            "an audited allowance allows nothing",
            mesh_denies() + &access("Audit", "  - {action: Allow}"),
            [false, false],
        ),
        ("without a policy all pass", String::new(), [true, true]),
    ];
    let stage = Stage::with(&rows[0].1).await;
    for (what, policies, expected) in rows {
        stage.change(&policies);
        wait::until_true(what, || async {
            [is_let_in(&stage.web).await, is_let_in(&stage.guest).await] == expected
        })
        .await;
    }
}
