//! What a request leaves behind: spans at a collector, counters on both sides.

use http::StatusCode;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use weft_tests::{
    apps::{App, Http},
    client::{Client, get},
    mesh::{Mesh, SidecarSpec},
    wait,
};

const OBJECTS: &str = "
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: web, namespace: shop}
spec: {serviceAccount: web}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: catalog, namespace: shop}
spec: {service: catalog, serviceAccount: catalog, ports: [{servicePort: 80}]}
";

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

struct Collector(mpsc::UnboundedSender<Span>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        for span in scopes.flat_map(|scope| scope.spans) {
            self.0.send(span).map_err(|_| Status::unavailable("the test is over"))?;
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector in this process: where it listens, and what it gets.
async fn collector(tasks: &mut JoinSet<()>) -> (String, mpsc::UnboundedReceiver<Span>) {
    let (sender, spans) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    tasks.spawn(async move {
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(Collector(sender)))
            .serve_with_incoming(TcpListenerStream::new(listener));
        server.await.expect("the collector serves");
    });
    (endpoint, spans)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_leads_from_the_caller_through_both_sidecars_to_the_application() {
    let mut tasks = JoinSet::new();
    let (endpoint, mut collected) = collector(&mut tasks).await;
    let mesh = Mesh::start(OBJECTS).await;
    let app = App::echo(Http::One, "catalog").await;
    let traced = |spec: SidecarSpec| {
        spec.with(&format!("--otlp-endpoint={endpoint}")).with("--trace-ratio=0")
    };
    let catalog = SidecarSpec::of("shop/catalog").serves("", app.address);
    let _catalog = mesh.sidecar(traced(catalog)).await;
    let web = mesh.sidecar(traced(SidecarSpec::of("shop/web"))).await;

    let mut client = Client::connect(web.outbound(), Http::One).await;
    let mut request = get("http://catalog/items");
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    request.headers_mut().insert("traceparent", parent.parse().expect("a value"));
    request.headers_mut().insert("tracestate", "congo=t61rcWkgMzE".parse().expect("a value"));
    let answer = client.send(request).await.expect("an answer");
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");

    // A server span, a client span and an attempt of each sidecar.
    let mut spans = Vec::new();
    while spans.len() < 6 {
        let span = wait::soon("six spans", collected.recv()).await;
        spans.push(span.expect("the collector runs"));
    }
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE), "{spans:?}");
    // From the caller's span down: each has one child, the last the application.
    let mut parent = "00f067aa0ba902b7".to_owned();
    let mut kinds = Vec::new();
    while let Some(child) = spans.iter().find(|span| hex(&span.parent_span_id) == parent) {
        kinds.push(child.kind);
        parent = hex(&child.span_id);
    }
    assert_eq!(kinds, [2, 3, 3, 2, 3, 3], "server, client, attempt, twice: {spans:?}");
    assert_eq!(answer.field("got-traceparent"), format!("00-{TRACE}-{parent}-01"));
    assert_eq!(answer.field("got-tracestate"), "congo=t61rcWkgMzE");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_the_trace_context_passes_untouched() {
    let mesh = Mesh::start(OBJECTS).await;
    let app = App::echo(Http::One, "catalog").await;
    let _catalog = mesh.sidecar(SidecarSpec::of("shop/catalog").serves("", app.address)).await;
    let web = mesh.sidecar(SidecarSpec::of("shop/web")).await;
    let mut client = Client::connect(web.outbound(), Http::One).await;
    let mut request = get("http://catalog/items");
    request.headers_mut().insert("traceparent", "anything at all".parse().expect("a value"));
    let answer = client.send(request).await.expect("an answer");
    assert_eq!(answer.field("got-traceparent"), "anything at all");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sidecars_count_the_request_with_its_protection() {
    let mesh = Mesh::start(OBJECTS).await;
    let app = App::echo(Http::One, "catalog").await;
    let catalog = mesh.sidecar(SidecarSpec::of("shop/catalog").serves("", app.address)).await;
    let web = mesh.sidecar(SidecarSpec::of("shop/web")).await;
    let mut client = Client::connect(web.outbound(), Http::One).await;
    assert_eq!(client.get("http://catalog/items").await.status, StatusCode::OK);
    assert_eq!(client.get("http://nobody/").await.status, StatusCode::BAD_GATEWAY);
    for (sidecar, sample) in [
        (
            &web,
            r#"weft_requests_total{direction="outbound",service="shop/catalog:80",tls="mutual",status="200"} 1"#,
        ),
        (
            &catalog,
            r#"weft_requests_total{direction="inbound",service="shop/catalog:80",tls="mutual",status="200"} 1"#,
        ),
        (&web, r#"reason="destination-unknown"} 1"#),
        (&web, r"weft_discovery_connected 1"),
        (&web, r#"weft_tls_handshakes_total{direction="outbound",kind="full",result="ok"} 1"#),
        (&catalog, r#"weft_tls_handshakes_total{direction="inbound",kind="full",result="ok"} 1"#),
        (&catalog, r#"weft_certificate_renewals_total{result="ok"} 1"#),
        (&web, r#"weft_pool_connections_opened_total{protocol="http"#),
    ] {
        wait::until_true(sample, || async { sidecar.metrics().await.contains(sample) }).await;
    }
}
