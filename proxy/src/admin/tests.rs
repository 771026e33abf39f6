//! Over real sockets, by an HTTP client that nobody here wrote.

use std::net::SocketAddr;

use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, body::Bytes};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

use super::*;
use crate::{
    discovery::{InboundPorts, MeshScope, OutsideScope, Resolution},
    dns::Resolver,
    drain, telemetry,
    tls::testing::{Authority, id},
};

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    config: Config,
}

struct Served {
    address: SocketAddr,
    admin: Admin,
    _subscriber: Box<dyn std::any::Any>,
    _tasks: JoinSet<()>,
}

impl Served {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(flags: &[&str]) -> Self {
        let fixed = ["weft-proxy", "--workload", "shop/web"];
        let command = Command::try_parse_from(fixed.iter().chain(flags));
        let mesh = MeshScope {
            trust_domain: weft_proto::TrustDomain::default(),
            ranges: vec![("10.0.0.0".parse().expect("an address"), 8)],
            suffixes: Vec::new(),
            namespaces: vec!["shop".to_owned()],
            outside: OutsideScope::default(),
        };
        let config = Arc::new(command.expect("good flags").config);
        let (subscriber, log) =
            telemetry::logging::build(&config.telemetry, std::io::sink()).expect("good settings");
        let admin = Admin {
            prober: Prober::new(&config, Resolver::from_system()),
            config,
            directory: Directory::fixed(mesh, InboundPorts::default()),
            identity: Identity::default(),
            metrics: Metrics::new(),
            access: crate::telemetry::AccessLog::new(false),
            log: Some(log),
            drain: Arc::new(drain::channel().0),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut tasks = JoinSet::new();
        let served = serve(listener, admin.clone());
        tasks.spawn(async move { served.await.expect("serves") });
        Self { address, admin, _subscriber: Box::new(subscriber), _tasks: tasks }
    }

    async fn call(&self, method: Method, path: &str, body: &str) -> (u16, String) {
        let stream = TcpStream::connect(self.address).await.expect("listens");
        let io = TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(io).await.expect("HTTP/1");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .expect("a request");
        let response = sender.send_request(request).await.expect("an answer");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.call(Method::GET, path, "").await
    }
}

#[tokio::test]
async fn ready_says_what_it_waits_for_and_falls_at_drain() {
    let served = Served::start().await;
    assert_eq!(served.get("/live").await, (200, "live\n".to_owned()));
    assert_eq!(served.get("/ready").await, (503, "there is no certificate yet\n".to_owned()));
    let root = Authority::new("root");
    served.admin.identity.install(root.svid(&id("web")), vec![root.root()]).expect("good");
    assert_eq!(served.get("/ready").await, (200, "ready\n".to_owned()));
    assert_eq!(served.call(Method::GET, "/drain", "").await.0, 405);
    assert_eq!(served.call(Method::POST, "/drain", "").await.0, 202);
    assert!(served.admin.drain.drain().is_draining());
    assert_eq!(served.get("/ready").await, (503, "draining\n".to_owned()));
    assert_eq!(served.get("/live").await.0, 200);
}

#[tokio::test]
async fn metrics_are_open_metrics_text() {
    let served = Served::start().await;
    let (status, text) = served.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("weft_build_info{version="), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test]
async fn config_shows_settings_the_mesh_and_destinations() {
    let served = Served::start().await;
    served.admin.directory.pin("cart:80", Resolution::NotFound);
    let (status, text) = served.get("/config").await;
    assert_eq!(status, 200);
    let config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(config["settings"]["workload"], "shop/web");
    assert_eq!(config["settings"]["timeouts"]["connect"], "5s");
    assert_eq!(config["mesh"]["address_ranges"][0], "10.0.0.0/8");
    assert_eq!(config["identity"], serde_json::Value::Null);
    assert_eq!(config["destinations"][0]["destination"], "cart:80");
    assert_eq!(config["destinations"][0]["answer"], "not-found");
}

#[tokio::test]
async fn the_access_log_is_switched_at_run_time() {
    let served = Served::start().await;
    assert_eq!(served.get("/log/access").await, (200, "off\n".to_owned()));
    assert_eq!(served.call(Method::PUT, "/log/access", "on\n").await.0, 204);
    assert!(served.admin.access.is_on());
    let (status, text) = served.call(Method::PUT, "/log/access", "perhaps").await;
    assert_eq!((status, text.as_str()), (400, "\"perhaps\": use on or off\n"));
    assert!(served.admin.access.is_on());
}

#[tokio::test]
async fn the_log_s_filter_is_changed_at_run_time() {
    let served = Served::start().await;
    assert_eq!(served.get("/log").await, (200, "info\n".to_owned()));
    assert_eq!(served.call(Method::PUT, "/log", "debug").await.0, 204);
    assert_eq!(served.get("/log").await.1, "debug\n");
    let (status, text) = served.call(Method::PUT, "/log", "weft_proxy=loud").await;
    assert_eq!(status, 400);
    assert!(text.starts_with("log filter \"weft_proxy=loud\""), "{text}");
}

#[tokio::test]
async fn the_identity_is_shown_without_its_key() {
    let served = Served::start().await;
    let root = Authority::new("root");
    served.admin.identity.install(root.svid(&id("web")), vec![root.root()]).expect("good");
    let config: serde_json::Value =
        serde_json::from_str(&served.get("/config").await.1).expect("JSON");
    let identity = config["identity"].as_object().expect("an object");
    let fields: Vec<_> = identity.keys().map(String::as_str).collect();
    assert_eq!(fields, ["not_after", "not_before", "roots_sha256", "spiffe_id", "valid"]);
    assert_eq!(identity["spiffe_id"], id("web"));
    assert_eq!(identity["valid"], true);
    assert_eq!(identity["roots_sha256"][0].as_str().expect("a hash").len(), 64);
}

/// Answers the first connection, on which the request's head is sent back as the answer's body.
async fn mirror(status: &'static str) -> (u16, JoinSet<String>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a call");
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.expect("a request");
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.expect("open");
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    (port, tasks)
}

#[tokio::test]
async fn a_probe_is_performed_for_whoever_asks_and_nothing_but_what_is_listed() {
    let (port, mut seen) = mirror("204 No Content").await;
    let probes = format!(
        r#"--probes={{"web/liveness": {{"httpGet": {{"port": {port}, "path": "/live?x=1"}}}},
        "web/readiness": {{"tcpSocket": {{"port": 1}}}}}}"#
    );
    let served = Served::start_with(&[&probes]).await;
    assert_eq!(served.get("/probe/web/liveness").await, (200, "ok\n".to_owned()));
    let request = seen.join_next().await.expect("one").expect("no panic");
    assert!(request.starts_with("GET /live?x=1 HTTP/1.1\r\n"), "{request}");
    let (status, text) = served.get("/probe/web/readiness").await;
    assert_eq!(status, 503);
    assert!(text.starts_with("cannot connect to 127.0.0.1:1: "), "{text}");
    for path in ["/probe/web/startup", "/probe/api/liveness", "/probe/web%2Fliveness/x"] {
        assert_eq!(served.get(path).await.0, 404, "{path}");
    }
    assert_eq!(served.call(Method::POST, "/probe/web/liveness", "").await.0, 405);
}

#[tokio::test]
async fn a_hook_that_got_no_answer_gives_none_and_any_other_is_right() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (port, _seen) = mirror("500 Internal Server Error").await;
    let probes = format!(
        r#"--probes={{"web/post-start": {{"httpGet": {{"port": {port}}}}},
        "web/pre-stop": {{"httpGet": {{"port": 1}}}}}}"#
    );
    let served = Served::start_with(&[&probes]).await;
    assert_eq!(served.get("/probe/web/post-start").await.0, 200);
    let mut stream = TcpStream::connect(served.address).await.expect("listens");
    let request = b"GET /probe/web/pre-stop HTTP/1.1\r\nHost: pod\r\n\r\n";
    stream.write_all(request).await.expect("open");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert_eq!(String::from_utf8_lossy(&answer), "");
}
