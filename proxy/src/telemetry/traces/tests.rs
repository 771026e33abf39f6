//! Spans as they arrive at a collector: over OTLP and gRPC, decoded with the published messages.

use std::{collections::BTreeMap, time::Duration};

use clap::Parser;
use http::{Method, Uri, Version};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use opentelemetry_sdk::{
    error::{OTelSdkError, OTelSdkResult},
    trace::{SpanData, SpanExporter},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::*;
use crate::{
    discovery::{Endpoint, EndpointHealth, Transport},
    dns::Resolver,
    http::Fields,
    reason::Reason,
    telemetry::{RequestOutcome, TlsState},
};

const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const NOT_SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send(request.into_inner()).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A tracer that exports to a collector in this process.
struct Traced {
    tracer: Tracer,
    metrics: Metrics,
    received: mpsc::UnboundedReceiver<ExportTraceServiceRequest>,
    _tasks: JoinSet<()>,
}

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    config: Config,
}

fn config(endpoint: &str, ratio: &str) -> Config {
    let flags = ["weft-proxy", "--workload", "shop/web", "--otlp-endpoint", endpoint];
    let flags = flags.into_iter().chain(["--trace-ratio", ratio]);
    Command::try_parse_from(flags).expect("good flags").config
}

impl Traced {
    async fn start(ratio: &str) -> Self {
        let (sender, received) = mpsc::unbounded_channel();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            tonic::transport::Server::builder()
                .add_service(TraceServiceServer::new(Collector(sender)))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .expect("the collector serves");
        });
        let metrics = Metrics::new();
        let (tracer, exporting) =
            Tracer::new(&config(&endpoint, ratio), &metrics, &Resolver::from_system())
                .expect("a good endpoint");
        tasks.spawn(exporting.expect("an endpoint is set").run());
        Self { tracer, metrics, received, _tasks: tasks }
    }

    /// The spans that have arrived so far, by kind and name.
    async fn spans(&mut self) -> Vec<Span> {
        self.tracer.flush().await;
        let requests = std::iter::from_fn(|| self.received.try_recv().ok());
        requests
            .flat_map(|request| request.resource_spans)
            .flat_map(|resource| resource.scope_spans)
            .flat_map(|scope| scope.spans)
            .collect()
    }
}

fn head(method: Method, target: &'static str, headers: &[(&'static str, &str)]) -> RequestHead {
    let mut map = Fields::new();
    for (name, value) in headers {
        map.append(*name, value.parse().expect("a value"));
    }
    RequestHead {
        method,
        target: Uri::from_static(target),
        version: Version::HTTP_11,
        headers: map,
        upgrade: None,
        accepts_trailers: false,
    }
}

fn endpoint() -> Endpoint {
    Endpoint {
        id: "shop/cart/0:8080".into(),
        address: "10.0.0.1:4143".parse().expect("an address"),
        app_port: "8080".parse().expect("a port"),
        transport: Transport::Plain,
        zone: "".into(),
        labels: BTreeMap::new(),
        workload: None,
        alternate: None,
        health: Arc::new(EndpointHealth::default()),
    }
}

fn outcome(status: u16, reason: Option<Reason>) -> RequestOutcome {
    RequestOutcome {
        status,
        grpc_status: None,
        reason,
        duration: Duration::ZERO,
        tls: TlsState::Mutual,
    }
}

fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_request_leaves_a_server_span_a_client_span_and_one_for_each_attempt() {
    let mut traced = Traced::start("0").await;
    let mut head = head(Method::GET, "/items?token=secret", &[("traceparent", SAMPLED)]);
    let mut request = traced.tracer.begin(&head, Direction::Outbound).expect("sampled");
    assert_eq!(request.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    request.routed(&"shop/cart:80".into());
    let refused = request.attempt(&endpoint());
    refused.inject(&mut head.headers);
    refused.end(Err(Reason::ConnectRefused));
    let second = request.attempt(&endpoint());
    second.inject(&mut head.headers);
    second.end(Ok(200));
    request.end(&outcome(200, None));

    let spans = traced.spans().await;
    let [first, second, client, server] = &spans[..] else { panic!("{spans:?}") };
    assert!(spans.iter().all(|span| hex(&span.trace_id) == "4bf92f3577b34da6a3ce929d0e0e4736"));
    assert!(spans.iter().all(|span| span.name == "GET"));
    assert_eq!(hex(&server.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(client.parent_span_id, server.span_id);
    assert_eq!(first.parent_span_id, client.span_id);
    assert_eq!(second.parent_span_id, client.span_id);
    let sent = head.headers["traceparent"].to_str().expect("text");
    let expected = format!("00-{}-{}-01", hex(&second.trace_id), hex(&second.span_id));
    assert_eq!(sent, expected);
    // Kinds of OTLP: 2 server, 3 client.
    assert_eq!([server.kind, client.kind, first.kind, second.kind], [2, 3, 3, 3]);
    for (span, name, value) in [
        (server, "url.path", Some("/items")),
        (server, "http.response.status_code", Some("200")),
        (server, "weft.service", Some("shop/cart:80")),
        (server, "weft.attempts", Some("2")),
        (server, "weft.reason", None),
        (first, "weft.reason", Some("connect-refused")),
        (first, "http.request.resend_count", None),
        (second, "http.request.resend_count", Some("1")),
        (second, "network.peer.address", Some("10.0.0.1")),
    ] {
        let found = attribute(&span.attributes, name);
        assert_eq!(found.as_deref(), value, "{name} in {span:?}");
    }
    assert!(!format!("{spans:?}").contains("secret"), "{spans:?}");
    for span in &spans {
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        assert!(server.start_time_unix_nano <= span.start_time_unix_nano, "{span:?}");
    }
    let text = traced.metrics.text();
    assert!(text.contains(r#"weft_trace_spans_total{result="exported"} 4"#), "{text}");
}

#[tokio::test]
async fn a_parent_s_choice_comes_before_the_ratio() {
    for (ratio, parent, begun) in
        [("0", SAMPLED, true), ("1", NOT_SAMPLED, false), ("0", NOT_SAMPLED, false)]
    {
        let traced = Traced::start(ratio).await;
        let head = head(Method::GET, "/", &[("traceparent", parent)]);
        let begun_here = traced.tracer.begin(&head, Direction::Inbound).is_some();
        assert_eq!(begun_here, begun, "{ratio} {parent}");
    }
}

#[tokio::test]
async fn a_trace_that_begins_here_is_sampled_by_ratio_and_the_next_hop_is_told() {
    for (ratio, flags, count) in [("1", "01", 3), ("0", "00", 0)] {
        let mut traced = Traced::start(ratio).await;
        let mut head =
            head(Method::POST, "/", &[("traceparent", "malformed"), ("tracestate", "=")]);
        let mut request = traced.tracer.begin(&head, Direction::Outbound).expect("tracing is on");
        let attempt = request.attempt(&endpoint());
        attempt.inject(&mut head.headers);
        attempt.end(Ok(503));
        request.end(&outcome(503, Some(Reason::NoEndpoints)));
        let sent = head.headers["traceparent"].to_str().expect("text");
        assert!(sent.starts_with("00-") && sent.ends_with(flags), "{sent}");
        assert!(!head.headers.contains_key("tracestate"));
        let spans = traced.spans().await;
        assert_eq!(spans.len(), count, "{ratio}");
        // Status of OTLP: 2 error.
        assert!(spans.iter().all(|span| span.status.as_ref().is_some_and(|s| s.code == 2)));
    }
}

#[tokio::test]
async fn about_the_ratio_of_traces_is_sampled() {
    let traced = Traced::start("0.25").await;
    let shared = traced.tracer.0.as_ref().expect("on");
    fastrand::seed(42);
    let sampled = (0..10_000).filter(|_| shared.begin_trace().1).count();
    assert!((2_300..2_700).contains(&sampled), "{sampled}");
}

#[tokio::test]
async fn a_grpc_request_is_named_by_its_method() {
    let mut traced = Traced::start("1").await;
    let head =
        head(Method::POST, "/inventory.Stock/Count", &[("content-type", "application/grpc+proto")]);
    let request = traced.tracer.begin(&head, Direction::Inbound).expect("sampled");
    request.end(&RequestOutcome { grpc_status: Some(0), ..outcome(200, None) });
    let spans = traced.spans().await;
    let [server] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(server.name, "inventory.Stock/Count");
    assert_eq!(attribute(&server.attributes, "rpc.grpc.status_code").as_deref(), Some("0"));
}

/// A collector that is away.
#[derive(Debug)]
struct Away;

impl SpanExporter for Away {
    fn export(&self, _batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        std::future::ready(Err(OTelSdkError::InternalFailure("away".to_owned())))
    }
}

#[tokio::test]
async fn spans_that_find_no_room_or_no_collector_are_counted_and_nobody_waits() {
    let metrics = Metrics::new();
    let (spans, exporting) = Exporting::new(Away, metrics.traces());
    let tracer = Tracer::with(1.0, spans, &metrics);
    let head = head(Method::GET, "/", &[]);
    for _ in 0..5_000 {
        let request = tracer.begin(&head, Direction::Inbound).expect("sampled");
        request.end(&outcome(200, None));
    }
    let text = metrics.text();
    assert!(text.contains(r#"weft_trace_spans_total{result="dropped"} 904"#), "{text}");
    drop(tracer);
    exporting.run().await;
    let text = metrics.text();
    assert!(text.contains(r#"weft_trace_spans_total{result="failed"} 4096"#), "{text}");
}

#[test]
fn switched_off_nothing_is_begun() {
    let metrics = Metrics::new();
    let mut off = config("http://127.0.0.1:1", "1");
    off.telemetry.otlp_endpoint = None;
    let (tracer, exporting) =
        Tracer::new(&off, &metrics, &Resolver::from_system()).expect("nothing to set up");
    assert!(exporting.is_none());
    let head = head(Method::GET, "/", &[("traceparent", SAMPLED)]);
    assert!(tracer.begin(&head, Direction::Inbound).is_none());
}

#[tokio::test]
async fn a_bad_endpoint_is_named() {
    // The flag would have refused it already.
    let mut config = config("http://127.0.0.1:4317", "1");
    config.telemetry.otlp_endpoint = Some("not a uri".to_owned());
    let error = Tracer::new(&config, &Metrics::new(), &Resolver::from_system()).expect_err("bad");
    let text = error.to_string();
    assert!(text.starts_with("otlp endpoint \"not a uri\": "), "{text}");
}
