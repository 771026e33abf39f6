//! Which service's routes bind: the one that the connection was going to, whatever `Host` says; hostnames choose among
//! its routes.

use weft_tests::{apps::Http, client::Client};

use crate::stage::{Stage, from, get, status};

fn marking(name: &str, parent: &str, hostnames: &str, backend: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: mesh}}
spec:
  parentRefs: [{{group: '', kind: Service, name: {parent}}}]
  hostnames: [{hostnames}]
  rules:
  - filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-route, value: {name}}}]}}}}]
    backendRefs: [{{name: {backend}, port: 80}}]
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_connection_was_going_chooses_the_routes_and_not_the_host() {
    let stage = Stage::with(&marking("frontend", "echo-v2", "", "echo-v2")).await;
    for version in [Http::One, Http::Two] {
        // A bound port stands for the service's address.
        let mut client = Client::connect(stage.web.upstream("echo-v2:80"), version).await;
        let answer = client.get("http://echo-v1/").await;
        from("echo-v2").field("x-route", "frontend").check(&answer, "another's host");
        let mut client = Client::connect(stage.web.upstream("echo-v1:80"), version).await;
        let answer = client.get("http://echo-v2/").await;
        from("echo-v1").without("x-route").check(&answer, "another's address");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_exact_hostname_wins() {
    let routes = marking("exact", "echo", "shop.example.com", "echo-v1")
        + &marking("wildcard", "echo", "'*.example.com'", "echo-v2")
        + &marking("longer", "echo", "'*.api.example.com'", "echo-v1");
    let stage = Stage::with(&routes).await;
    let mut client = Client::connect(stage.web.upstream("echo:80"), Http::One).await;
    for (host, expected) in [
        ("shop.example.com", from("echo-v1").field("x-route", "exact")),
        ("SHOP.example.com:80", from("echo-v1").field("x-route", "exact")),
        ("other.example.com", from("echo-v2").field("x-route", "wildcard")),
        ("a.b.example.com", from("echo-v2").field("x-route", "wildcard")),
        ("v1.api.example.com", from("echo-v1").field("x-route", "longer")),
        ("example.com", status(404)),
        ("echo", status(404)),
    ] {
        let answer =
            client.send(get(&format!("http://{host}/")).request()).await.expect("an answer");
        expected.check(&answer, host);
    }
}
