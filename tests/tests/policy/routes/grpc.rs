//! GRPCRoute: methods, headers, weights, filters; and what a call that no rule takes hears.

use weft_tests::apps::Http;

use crate::stage::{Asked, Expected, Stage, call, from, get};

fn grpc_route(rules: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {{name: calls, namespace: mesh}}
spec:
  parentRefs: [{{group: '', kind: Service, name: echo, port: 7070}}]
  rules:
{rules}"
    )
}

async fn check(stage: &Stage, cases: &[(Asked, Expected)]) {
    let mut client = stage.client(Http::Two).await;
    for (asked, expected) in cases {
        let answer = client.send(asked.request()).await.expect("an answer");
        expected.check(&answer, &format!("{asked:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_and_headers_choose_and_a_call_that_no_rule_takes_is_unimplemented() {
    let rules = "
  - matches:
    - {method: {service: shop.Cart, method: Add}}
    - {method: {service: shop.Exact}}
    backendRefs: [{name: echo-v1, port: 7070}]
  - matches:
    - {method: {method: Ping}}
    - {method: {type: RegularExpression, service: 'shop\\.(Pay|Ship)', method: 'G.*'}}
    - {headers: [{name: version, value: two}]}
    backendRefs: [{name: echo-v2, port: 7070}]
";
    let stage = Stage::with(&grpc_route(rules)).await;
    // A trailers-only answer: HTTP has nothing to object to.
    let unimplemented =
        || from("").field("grpc-status", "12").field("weft-reason", "route-not-found");
    check(
        &stage,
        &[
            (call("http://echo:7070/shop.Cart/Add"), from("echo-v1")),
            (call("http://echo:7070/shop.Cart/Remove"), unimplemented()),
            (call("http://echo:7070/shop.Exact/Any"), from("echo-v1")),
            (call("http://echo:7070/shop.Exactly/Any"), unimplemented()),
            (call("http://echo:7070/any.Service/Ping"), from("echo-v2")),
            (call("http://echo:7070/shop.Pay/Get"), from("echo-v2")),
            (call("http://echo:7070/shop.Pay/Put"), unimplemented()),
            (call("http://echo:7070/shop.Cart/Remove").with("version", "two"), from("echo-v2")),
            // Another port has no route.
            (call("http://echo-v1:7070/shop.Cart/Remove"), from("echo-v1")),
            // No call at all.
            (get("http://echo-v2:7070/shop.Cart/Remove"), from("echo-v2")),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_share_calls_within_five_percent() {
    let rules = "
  - backendRefs:
    - {name: echo-v1, port: 7070, weight: 70}
    - {name: echo-v2, port: 7070, weight: 30}
";
    let stage = Stage::with(&grpc_route(rules)).await;
    let mut client = stage.client(Http::Two).await;
    let mut first = 0;
    for _ in 0..1_000 {
        let answer =
            client.send(call("http://echo:7070/a.B/C").request()).await.expect("an answer");
        first += usize::from(answer.field("app") == "echo-v1");
    }
    assert!((650..=750).contains(&first), "{first} of 1000");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_calls_are_modified() {
    let rules = "
  - matches: [{headers: [{name: x-test-case, value: multi}]}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier:
        set: [{name: x-set-1, value: set-1}, {name: x-set-2, value: set-2}]
        add: [{name: x-add, value: added}]
        remove: [x-remove]
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: x-answer, value: set}]}
    backendRefs: [{name: echo-v2, port: 7070}]
";
    let stage = Stage::with(&grpc_route(rules)).await;
    let asked = call("http://echo:7070/a.B/C")
        .with("x-test-case", "multi")
        .with("x-set-2", "own")
        .with("x-add", "own")
        .with("x-remove", "own");
    let expected = from("echo-v2")
        .field("got-x-set-1", "set-1")
        .field("got-x-set-2", "set-2")
        .field("got-x-add", "own,added")
        .field("x-answer", "set")
        .without("got-x-remove");
    check(&stage, &[(asked, expected)]).await;
}
