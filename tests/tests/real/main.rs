//! Programs that nobody here wrote, through the mesh: what they need must work as they were shipped.

mod calls;
mod databases;
mod floods;
mod policies;

use std::net::SocketAddr;

use tokio::process::Command;
use weft_tests::{
    apps::{App, Http},
    client::get_once,
    mesh::{Mesh, Sidecar, SidecarSpec},
    program::{Server, installed, python, run, script, succeed},
};

fn objects(protocol: &str) -> String {
    format!(
        "
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {{name: web, namespace: shop}}
spec: {{serviceAccount: web}}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {{name: server, namespace: shop}}
spec: {{service: server, serviceAccount: server, ports: [{{servicePort: 80{protocol}}}]}}
"
    )
}

/// web calls server, over a bound port or the proxy port.
struct Pair {
    _mesh: Mesh,
    web: Sidecar,
    _server: Sidecar,
}

impl Pair {
    async fn start(protocol: &str, application: SocketAddr) -> Self {
        let mesh = Mesh::start(&objects(protocol)).await;
        let server = mesh.sidecar(SidecarSpec::of("shop/server").serves("", application)).await;
        let web = mesh.sidecar(SidecarSpec::of("shop/web").upstream("server:80")).await;
        Self { _mesh: mesh, web, _server: server }
    }

    fn bound(&self) -> SocketAddr {
        self.web.upstream("server:80")
    }

    fn proxy(&self) -> String {
        format!("http://{}", self.web.outbound())
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_by_the_proxy_and_by_the_port() {
    if !installed("curl", "curl") {
        return;
    }
    let app = App::echo(Http::One, "server").await;
    let pair = Pair::start("", app.address).await;
    let proxy = pair.proxy();
    let out = succeed(
        Command::new("curl").env("http_proxy", &proxy).args(["-sSi", "http://server/a?b=c"]),
    )
    .await;
    assert!(
        out.contains("x-target: /a?b=c")
            && out.contains("got-weft-client-id: spiffe://weft.local/ns/shop/sa/web"),
        "{out}"
    );

    // A large upload waits for 100 Continue, and comes back whole.
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let content: Vec<u8> = (0..5_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    std::fs::write(file.path(), &content).expect("the disk has room");
    let upload = format!("@{}", file.path().display());
    let url = format!("http://{}/", pair.bound());
    let mut curl = Command::new("curl");
    let output =
        run(curl.args(["-sS", "--data-binary", &upload, "-H", "Expect: 100-continue", &url])).await;
    assert!(output.stdout == content, "{} bytes came back", output.stdout.len());

    let out = succeed(Command::new("curl").args(["-sSI", &url])).await;
    assert!(out.starts_with("HTTP/1.1 200") && out.contains("x-method: HEAD"), "{out}");
    let out = succeed(Command::new("curl").args(["-sSi", "--http1.0", &url])).await;
    assert!(out.contains("app: server"), "{out}");
    let out = succeed(Command::new("curl").args([
        "-sSi",
        "--proxytunnel",
        "--proxy",
        &proxy,
        "http://server/x",
    ]))
    .await;
    assert!(out.contains("x-target: /x"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_and_h2load_by_http2() {
    if !installed("h2load", "h2load") || !installed("h2load", "curl") {
        return;
    }
    let app = App::echo(Http::Two, "server").await;
    let pair = Pair::start(", protocol: http2", app.address).await;
    let url = format!("http://{}/x", pair.bound());
    let out = succeed(Command::new("curl").args(["-sSi", "--http2-prior-knowledge", &url])).await;
    assert!(out.starts_with("HTTP/2 200") && out.contains("x-target: /x"), "{out}");
    let out = succeed(Command::new("h2load").args(["-n2000", "-c10", "-m32", &url])).await;
    assert!(out.contains("2000 succeeded, 0 failed, 0 errored"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn h2load_by_http1() {
    if !installed("h2load", "h2load") {
        return;
    }
    let app = App::echo(Http::One, "server").await;
    let pair = Pair::start("", app.address).await;
    let url = format!("http://{}/x", pair.bound());
    let out = succeed(Command::new("h2load").args(["--h1", "-n4000", "-c40", &url])).await;
    assert!(out.contains("4000 succeeded, 0 failed, 0 errored"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcio_by_the_port_and_by_connect() {
    let Some(python) = python("grpcio", "grpc") else { return };
    let server = Server::start(Command::new(&python).arg(script("grpc_server.py"))).await;
    for protocol in [", protocol: grpc", ""] {
        let pair = Pair::start(protocol, local(server.port)).await;
        let client = script("grpc_client.py");
        succeed(Command::new(&python).arg(&client).arg(pair.bound().to_string())).await;
        let mut by_proxy = Command::new(&python);
        succeed(by_proxy.env("http_proxy", pair.proxy()).arg(&client).arg("server.shop:80")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket() {
    let Some(python) = python("websocket", "websockets") else { return };
    let server = Server::start(Command::new(&python).arg(script("websocket_server.py"))).await;
    for protocol in [", protocol: http", ""] {
        let pair = Pair::start(protocol, local(server.port)).await;
        let url = format!("ws://{}/", pair.bound());
        succeed(Command::new(&python).arg(script("websocket_client.py")).arg(url)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_decoded_by_the_published_messages() {
    let Some(python) =
        python("otlp", "opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc")
    else {
        return;
    };
    let mut receiver = Server::start(Command::new(&python).arg(script("otlp_receiver.py"))).await;
    let mesh = Mesh::start(&objects("")).await;
    let app = App::echo(Http::One, "server").await;
    let endpoint = format!("--otlp-endpoint=http://127.0.0.1:{}", receiver.port);
    let traced = |spec: SidecarSpec| spec.with(&endpoint).with("--trace-ratio=1");
    let server = SidecarSpec::of("shop/server").serves("", app.address);
    let _server = mesh.sidecar(traced(server)).await;
    let web = mesh.sidecar(traced(SidecarSpec::of("shop/web"))).await;
    assert_eq!(get_once(web.outbound(), "http://server/a").await.status, 200);

    let mut spans: Vec<serde_json::Value> = Vec::new();
    while spans.len() < 6 {
        spans.push(serde_json::from_str(&receiver.line().await).expect("a span as JSON"));
    }
    let trace = &spans[0]["trace_id"];
    assert!(spans.iter().all(|span| &span["trace_id"] == trace), "one trace: {spans:#?}");
    let roots = spans.iter().filter(|span| span["parent_span_id"] == "");
    assert_eq!(roots.count(), 1, "{spans:#?}");
    for span in &spans {
        assert!(span["start"].as_u64() <= span["end"].as_u64(), "{span:#?}");
        assert!(!span["service"].is_null(), "{span:#?}");
    }
}
