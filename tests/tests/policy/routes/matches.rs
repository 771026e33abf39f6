//! Which rule takes a request: paths, headers, methods, query parameters, their precedence, ports and callers.

use weft_tests::{apps::Http, client::Client};

use crate::stage::{Stage, from, get, route, status};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_route_a_service_serves_by_itself() {
    let stage = Stage::with("").await;
    stage.check(&[(get("http://echo-v1/x?y"), from("echo-v1").field("x-target", "/x?y"))]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_split_a_service() {
    let rules = "
  - matches: [{path: {type: Exact, value: /exact}}]
    backendRefs: [{name: echo-v1, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /v1}}]
    backendRefs: [{name: echo-v1, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /v2}}]
    backendRefs: [{name: echo-v2, port: 80}]
  - matches: [{path: {type: RegularExpression, value: '/items/[0-9]+'}}]
    backendRefs: [{name: echo-v2, port: 80}]
";
    let stage = Stage::with(&route("split", "echo", rules)).await;
    let (v1, v2) = (|| from("echo-v1"), || from("echo-v2"));
    stage
        .check(&[
            (get("http://echo/exact"), v1()),
            (get("http://echo/exact/"), status(404)),
            (get("http://echo/v1"), v1()),
            (get("http://echo/v1/"), v1()),
            (get("http://echo/v1/a/b?c=d"), v1().field("x-target", "/v1/a/b?c=d")),
            (get("http://echo/v1a"), status(404).field("weft-reason", "route-not-found")),
            (get("http://echo/v2/x"), v2()),
            (get("http://echo/items/42"), v2()),
            (get("http://echo/items/42/x"), status(404)),
            (get("http://echo/"), status(404)),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_and_methods_match_and_all_of_a_match_must_hold() {
    let rules = "
  - matches:
    - {path: {type: PathPrefix, value: /}, headers: [{name: Version, value: one}]}
    - {path: {type: PathPrefix, value: /v1}}
    backendRefs: [{name: echo-v1, port: 80}]
  - matches:
    - {headers: [{name: version, value: two}, {name: color, type: RegularExpression, value: 'gr[ae]y'}]}
    - {method: DELETE, path: {type: PathPrefix, value: /v2}}
    backendRefs: [{name: echo-v2, port: 80}]
";
    let stage = Stage::with(&route("matching", "echo", rules)).await;
    let get = |uri| get(uri);
    stage
        .check(&[
            (get("http://echo/").with("version", "one"), from("echo-v1")),
            (get("http://echo/v1/example"), from("echo-v1")),
            (get("http://echo/").with("version", "two"), status(404)),
            (get("http://echo/").with("version", "two").with("color", "grey"), from("echo-v2")),
            (get("http://echo/").with("version", "two").with("color", "greys"), status(404)),
            (get("http://echo/").with("version", "ONE"), status(404)),
            (get("http://echo/v2"), status(404)),
            (get("http://echo/v2").by("DELETE"), from("echo-v2")),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn query_parameters_match_and_the_more_exact_match_wins() {
    let rules = "
  - matches: [{queryParams: [{name: animal, value: whale}]}]
    backendRefs: [{name: echo-v1, port: 80}]
  - matches: [{queryParams: [{name: animal, value: dolphin}]}]
    backendRefs: [{name: echo-v2, port: 80}]
  - matches:
    - {path: {type: PathPrefix, value: /path1}, queryParams: [{name: animal, value: whale}]}
    - {headers: [{name: version, value: three}], queryParams: [{name: animal, value: kraken}], path: {type: PathPrefix, value: /path4}}
    backendRefs: [{name: echo-v1, port: 80}]
  - matches: [{headers: [{name: version, value: one}], queryParams: [{name: animal, value: whale}]}]
    backendRefs: [{name: echo-v2, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /path5}}]
    backendRefs: [{name: echo-v1, port: 80}]
  - matches: [{queryParams: [{name: animal, type: RegularExpression, value: 'hyd.*'}, {name: size, value: 'very big'}]}]
    backendRefs: [{name: echo-v2, port: 80}]
";
    let stage = Stage::with(&route("query", "echo", rules)).await;
    stage
        .check(&[
            (get("http://echo/?animal=whale"), from("echo-v1")),
            (get("http://echo/?animal=dolphin"), from("echo-v2")),
            (get("http://echo/?animal=whale&other=x"), from("echo-v1")),
            (get("http://echo/?other=x&animal=dolphin"), from("echo-v2")),
            (get("http://echo/?animal=dog"), status(404)),
            (get("http://echo/?animal=whaledolphin"), status(404)),
            (get("http://echo/?xanimal=whale"), status(404)),
            (get("http://echo/"), status(404)),
            (get("http://echo/path1?animal=whale"), from("echo-v1")),
            (get("http://echo/?animal=whale").with("version", "one"), from("echo-v2")),
            (get("http://echo/path4?animal=kraken").with("version", "three"), from("echo-v1")),
            (get("http://echo/path4?animal=kraken"), status(404)),
            // A path is more exact than query parameters.
            (get("http://echo/path5?animal=hydra&size=very%20big"), from("echo-v1")),
            (get("http://echo/?animal=hydra&size=very%20big"), from("echo-v2")),
            (get("http://echo/?animal=hydra&size=very+big"), from("echo-v2")),
            (get("http://echo/?animal=hydra"), status(404)),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parents_port_or_section_binds_that_port_alone() {
    let modify = |name: &str, parent: &str| {
        format!(
            "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: mesh}}
spec:
  parentRefs: [{parent}]
  rules:
  - filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-header-set, value: {name}}}]}}}}]
    backendRefs: [{{name: echo-v1, port: 80}}]
"
        )
    };
    let routes = modify("port", "{group: '', kind: Service, name: echo-v1, port: 80}")
        + &modify("section", "{group: '', kind: Service, name: echo-v2, sectionName: http-alt}")
        + &modify("all", "{group: '', kind: Service, name: echo}");
    let stage = Stage::with(&routes).await;
    stage
        .check(&[
            (get("http://echo-v1/"), from("echo-v1").field("x-header-set", "port")),
            (get("http://echo-v1:8080/"), from("echo-v1").without("x-header-set")),
            (get("http://echo-v2/"), from("echo-v2").without("x-header-set")),
            (get("http://echo-v2:8080/"), from("echo-v1").field("x-header-set", "section")),
            (get("http://echo/"), from("echo-v1").field("x-header-set", "all")),
            (get("http://echo:8080/"), from("echo-v1").field("x-header-set", "all")),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumers_route_binds_the_callers_of_its_namespace_alone() {
    let consumer = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: consumer, namespace: guests}
spec:
  parentRefs: [{group: '', kind: Service, name: echo-v1, namespace: mesh}]
  rules:
  - filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-header-set, value: consumer}]}}]
    backendRefs: [{name: echo-v1, namespace: mesh, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: producer, namespace: mesh}
spec:
  parentRefs: [{group: '', kind: Service, name: echo-v1}]
  rules:
  - filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-header-set, value: producer}]}}]
    backendRefs: [{name: echo-v1, port: 80}]
";
    let stage = Stage::with(consumer).await;
    for (caller, set) in [(&stage.guest, "consumer"), (&stage.web, "producer")] {
        let mut client = Client::connect(caller.outbound(), Http::One).await;
        let answer = client.get("http://echo-v1.mesh/").await;
        from("echo-v1").field("x-header-set", set).check(&answer, set);
    }
}
