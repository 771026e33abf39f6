//! What filters do to requests and responses: headers, rewrites, copies.

use http_body_util::BodyExt;
use weft_tests::{
    apps::{App, Http},
    client::{Client, request},
    wait,
};

use crate::stage::{Stage, from, get, route, upload};

const HEADERS: &str = "
  - matches: [{path: {type: PathPrefix, value: /rule}}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier:
        set: [{name: X-Set, value: rule}]
        add: [{name: X-Add, value: rule}]
        remove: [X-Remove]
    - type: ResponseHeaderModifier
      responseHeaderModifier:
        set: [{name: X-Target, value: replaced}]
        add: [{name: app, value: added}]
        remove: [x-method]
    backendRefs: [{name: echo-v1, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /backend}}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: x-set, value: rule}], add: [{name: x-add, value: rule}]}
    backendRefs:
    - name: echo-v1
      port: 80
      filters:
      - type: RequestHeaderModifier
        requestHeaderModifier: {set: [{name: x-set, value: backend}], add: [{name: x-add, value: backend}]}
      - type: ResponseHeaderModifier
        responseHeaderModifier: {set: [{name: x-backend, value: echo-v1}]}
";

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_set_added_and_removed_by_the_rule_and_then_by_the_backend() {
    let stage = Stage::with(&route("headers", "echo", HEADERS)).await;
    let with = |uri| get(uri).with("x-set", "own").with("x-add", "own").with("x-remove", "own");
    stage
        .check(&[
            (
                with("http://echo/rule"),
                from("echo-v1,added")
                    .field("got-x-set", "rule")
                    .field("got-x-add", "own,rule")
                    .field("x-target", "replaced")
                    .without("got-x-remove")
                    .without("x-method"),
            ),
            (
                get("http://echo/rule"),
                from("echo-v1,added").field("got-x-set", "rule").field("got-x-add", "rule"),
            ),
            (
                with("http://echo/backend"),
                from("echo-v1")
                    .field("got-x-set", "backend")
                    .field("got-x-add", "own,rule,backend")
                    .field("got-x-remove", "own")
                    .field("x-backend", "echo-v1"),
            ),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_hosts_are_rewritten() {
    let rewrite = |matched: &str, rewrite: &str| {
        format!(
            "
  - matches: [{{path: {{type: PathPrefix, value: {matched}}}}}]
    filters: [{{type: URLRewrite, urlRewrite: {rewrite}}}]
    backendRefs: [{{name: echo-v1, port: 80}}]
"
        )
    };
    let rules =
        rewrite("/prefix/one", "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /one}}")
            + &rewrite(
                "/strip-prefix",
                "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}",
            )
            + &rewrite("/slash/", "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /a/}}")
            + &rewrite("/full/one", "{path: {type: ReplaceFullPath, replaceFullPath: /one}}")
            + &rewrite("/host", "{hostname: example.org}")
            + &rewrite(
                "/both",
                "{hostname: example.org, path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}",
            );
    let stage = Stage::with(&route("rewrite", "echo", &rules)).await;
    let target = |target| from("echo-v1").field("x-target", target);
    stage
        .check(&[
            (get("http://echo/prefix/one/two?a=b"), target("/one/two?a=b").field("x-host", "echo")),
            (get("http://echo/strip-prefix/three"), target("/three")),
            (get("http://echo/strip-prefix"), target("/")),
            (get("http://echo/strip-prefix?q"), target("/?q")),
            (get("http://echo/slash/b"), target("/a/b")),
            (get("http://echo/full/one/two?a"), target("/one?a")),
            (get("http://echo/host/x"), target("/host/x").field("x-host", "example.org")),
            (get("http://echo/both/y"), target("/x/y").field("x-host", "example.org")),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_gets_a_copy_of_each_request_and_its_answers_are_thrown_away() {
    let rules = "
  - matches: [{path: {type: PathPrefix, value: /all}}]
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: echo-v2, port: 80}}}]
    backendRefs: [{name: echo-v1, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /none}}]
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: echo-v2, port: 80}, percent: 0}}]
    backendRefs: [{name: echo-v1, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /missing}}]
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: nobody, port: 80}}}]
    backendRefs: [{name: echo-v1, port: 80}]
";
    let stage = Stage::with(&route("mirror", "echo", rules)).await;
    let mirrored = || {
        stage.web.count(
            "weft_requests_total",
            &["direction=\"outbound\"", "service=\"mesh/echo-v2:80\""],
        )
    };
    let mut client = stage.client(Http::One).await;
    for path in ["none", "missing"] {
        for _ in 0..10 {
            from("echo-v1").check(&client.get(&format!("http://echo/{path}")).await, path);
        }
    }
    for _ in 0..10 {
        let answer =
            client.send(request("POST", "http://echo/all", "body")).await.expect("an answer");
        from("echo-v1").check(&answer, "all");
        assert_eq!(answer.body, "body");
    }
    wait::until_true("the copies to arrive", || async { mirrored().await >= 10.0 }).await;
    assert_eq!(mirrored().await, 10.0, "only those are copied");
}

const LONG: usize = 10 * 1024 * 1024;
const PIECE: usize = 64 * 1024;

/// The mirror never answers, and takes no time from the request.
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_hangs_delays_nothing() {
    let hanging = App::tcp(|stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let rules = "
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: hanging, port: 80}}}]
    backendRefs: [{name: echo-v1, port: 80}]
";
    let hangs = format!(
        "{}---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {{name: hanging, namespace: mesh}}
spec: {{service: hanging, serviceAccount: hanging, ports: [{{servicePort: 80}}]}}
",
        route("mirror", "echo", rules)
    );
    let stage = Stage::with(&hangs).await;
    let spec = weft_tests::mesh::SidecarSpec::of("mesh/hanging")
        .serves("", hanging.address)
        .with("--app-probe=none");
    let _sidecar = stage.mesh.sidecar(spec).await;
    for version in [Http::One, Http::Two] {
        let mut client = stage.client(version).await;
        for _ in 0..50 {
            let answer =
                client.send(request("POST", "http://echo/", "body")).await.expect("an answer");
            from("echo-v1").check(&answer, "beside a mirror that hangs");
        }
        // A long body passes by at its own pace, whether its length is said before or not.
        let answer = client.send(request("POST", "http://echo/", vec![b'x'; LONG])).await;
        assert_eq!(answer.expect("an answer").body.len(), LONG);
        let (send, body) = upload();
        for _ in 0..LONG / PIECE {
            send.send(vec![b'x'; PIECE].into()).expect("it is open");
        }
        drop(send);
        let (head, _) = get("http://echo/").by("POST").request().into_parts();
        let mut client = Client::connect_with(stage.web.outbound(), version).await;
        let response = client.stream(http::Request::from_parts(head, body)).await;
        let echoed = response.expect("an answer").into_body().collect();
        let echoed = wait::soon("the echo", echoed).await.expect("a whole one");
        assert_eq!(echoed.to_bytes().len(), LONG);
    }
    // Of the others there is no copy either, where those before them still have all places.
    let not_whole = ["result=\"not-whole\""];
    stage.web.counts("weft_mirrored_requests_total", &not_whole, 2.0).await;
}
