//! Over real sockets, by an HTTP client that nobody here wrote.

use std::net::SocketAddr;

use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, body::Bytes};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

use super::*;
use crate::{
    discovery::{InboundPorts, MeshScope, Resolution},
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
        let command = Command::try_parse_from(["weft-proxy", "--workload", "shop/web"]);
        let mesh = MeshScope {
            trust_domain: weft_proto::TrustDomain::default(),
            ranges: vec![("10.0.0.0".parse().expect("an address"), 8)],
            suffixes: Vec::new(),
            namespaces: vec!["shop".to_owned()],
        };
        let config = Arc::new(command.expect("good flags").config);
        let (subscriber, log) =
            telemetry::logging::build(&config.telemetry, std::io::sink()).expect("good settings");
        let admin = Admin {
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
