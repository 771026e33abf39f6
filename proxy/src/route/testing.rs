//! The outbound side of a sidecar of `shop/web`, with a service `shop/cart:80` at 10.0.0.1:80 whose routes the test sets,
//! and applications that say their name and what they got. An application whose name begins with `tcp-` says its name
//! first, on each connection; one called `upgrade` takes every request for an Upgrade and sends bytes back.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc, time::Duration};

use clap::Parser;
use http::{HeaderMap, HeaderName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_proto::Port;

use crate::{
    clock,
    config::Config,
    destination::{Found, Service},
    discovery::{Destination, Directory, Endpoint, InboundPorts, MeshScope, Resolution},
    dns::Resolver,
    drain::{self, DrainTrigger},
    identity::Identity,
    io::Socket,
    net::{self, TcpListener, TcpStream},
    outbound, pool,
    route::{
        Backend, Filter, HttpTable, OpaqueRule, OpaqueRules, Routes, Rule, Target, Weighted,
        matcher::{HostMatch, Match, PathMatch, ValueMatch},
    },
    shared::{Process, Shared},
    tasks::Tasks,
    telemetry::{Metrics, Telemetry},
    tls::MutualTls,
};

/// Where the application calls `shop/cart:80`.
const CART: &str = "10.0.0.1:80";

/// An application of this name sends back what comes after an Upgrade.
const UPGRADE: &str = "upgrade";
/// An application whose name begins so speaks first, and no HTTP.
const OPAQUE: &str = "tcp-";
/// An application of this name never answers.
const SILENT: &str = "silent";

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    config: Config,
}

/// Runs a test as a worker does.
pub(crate) fn worker(test: impl Future<Output = ()>) {
    let local = tokio::task::LocalSet::new();
    crate::worker::run(local.run_until(test)).expect("a runtime");
}

/// A match of everything, for the first rule.
pub(crate) fn any() -> Match {
    Match {
        rule: 0,
        host: HostMatch::Any,
        path: PathMatch::Any,
        method: None,
        headers: Box::default(),
        query: Box::default(),
        grpc: false,
    }
}

pub(crate) fn prefix(text: &str) -> Match {
    Match { path: PathMatch::Prefix(text.into()), ..any() }
}

pub(crate) fn by_header(name: &'static str, value: &str) -> Match {
    let header = (HeaderName::from_static(name), ValueMatch::Exact(value.into()));
    Match { headers: [header].into(), ..any() }
}

/// The service port of an application.
fn port_of(name: &str) -> weft_proto::ServicePort {
    format!("shop/{name}:80").parse().expect("a service port")
}

pub(crate) fn backend(name: &str) -> Arc<Backend> {
    filtered(name, [])
}

pub(crate) fn filtered(name: &str, filters: impl Into<Box<[Filter]>>) -> Arc<Backend> {
    Arc::new(Backend::new(Target::Service(port_of(name)), filters.into()))
}

pub(crate) fn invalid(why: &str) -> Arc<Backend> {
    Arc::new(Backend::new(Target::Invalid(why.into()), Box::default()))
}

pub(crate) fn opaque_rule(
    name: &str,
    server_names: impl Into<Box<[HostMatch]>>,
    backend: Arc<Backend>,
) -> Arc<OpaqueRule> {
    let (server_names, backends) = (server_names.into(), Weighted::new([(1, backend)]));
    Arc::new(OpaqueRule { name: name.into(), server_names, backends })
}

pub(crate) fn rule(
    name: &str,
    backends: impl IntoIterator<Item = (u32, Arc<Backend>)>,
    filters: impl Into<Box<[Filter]>>,
) -> Arc<Rule> {
    let backends = Weighted::new(backends);
    Arc::new(Rule { name: name.into(), filters: filters.into(), requests: None, backends })
}

/// The sidecar and its applications.
pub(crate) struct Stage {
    pub(crate) shared: Rc<Shared>,
    pub(crate) directory: Directory,
    pub(crate) metrics: Metrics,
    endpoints: HashMap<String, Arc<Endpoint>>,
    /// The heads of requests, by application.
    seen: Rc<RefCell<Vec<(String, String)>>>,
    _drain: DrainTrigger,
}

impl Stage {
    /// With these applications, each the only endpoint of the service port of its name.
    pub(crate) async fn new(applications: &[&str]) -> Self {
        let flags = ["weft-proxy", "--workload=shop/web", "--discovery-timeout=50ms"];
        let config = Arc::new(Command::try_parse_from(flags).expect("good flags").config);
        let mesh = MeshScope {
            trust_domain: weft_proto::TrustDomain::default(),
            ranges: vec![("10.0.0.0".parse().expect("an address"), 8)],
            suffixes: Vec::new(),
            namespaces: Vec::new(),
            outside: crate::discovery::OutsideScope::default(),
        };
        let directory = Directory::fixed(mesh, InboundPorts::default());
        let telemetry = Telemetry::new(&config.telemetry);
        let metrics = telemetry.metrics.clone();
        let mutual_tls = MutualTls::new(Identity::default(), config.timeouts.tls, metrics.tls());
        let (trigger, drain) = drain::channel();
        let process = Process {
            config,
            directory: directory.clone(),
            mutual_tls,
            telemetry,
            drain,
            resolver: Resolver::from_system(),
            connections: Arc::default(),
            cut_off: Arc::default(),
            own_ports: Arc::new([]),
            itself: pool::Itself::default(),
        };
        let shared = Shared::new(process, Tasks::default());
        let (endpoints, seen) = (HashMap::new(), Rc::default());
        let mut stage = Self { shared, directory, metrics, endpoints, seen, _drain: trigger };
        for name in applications {
            stage.start(name).await;
        }
        stage
    }

    async fn start(&mut self, name: &str) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let endpoint = Arc::new(Endpoint::plain(address, Port::new(80).expect("a port")));
        self.endpoints.insert(name.to_owned(), endpoint.clone());
        let destination = destination(name, vec![endpoint]);
        self.directory.pin(&format!("shop/{name}:80"), Resolution::Mesh(Arc::new(destination)));
        let (name, seen) = (name.to_owned(), self.seen.clone());
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(serve(stream, name.clone(), seen.clone()));
            }
        });
    }

    /// The service's HTTP routes from now on.
    pub(crate) fn route(&self, rules: Vec<Arc<Rule>>, matches: Vec<Match>) {
        let http = Some(HttpTable::new(rules, matches));
        self.set(Routes { http, opaque: OpaqueRules::default() });
    }

    /// The service's routes from now on. Its own endpoint is the application `cart`, if there is one.
    pub(crate) fn set(&self, routes: Routes) {
        let mut cart =
            destination("cart", self.endpoints.get("cart").cloned().into_iter().collect());
        cart.routes = Some(Arc::new(routes));
        self.directory.pin(CART, Resolution::Mesh(Arc::new(cart)));
    }

    /// The worker's view of the service.
    pub(crate) async fn service(&self) -> Rc<Service> {
        match self.shared.destinations.find(CART).await {
            Ok(Found::Mesh(service)) => service,
            other => panic!("{other:?}"),
        }
    }

    /// A connection that was going to the service.
    pub(crate) async fn connect(&self) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (client, accepted) = tokio::join!(net::connect(address), listener.accept());
        let socket = Socket::new(accepted.expect("accepted").0);
        let connection = outbound::destined(self.shared.clone(), socket, CART.into());
        self.shared.tasks.spawn(connection);
        client.expect("connected")
    }

    /// A client of HTTP/1.
    pub(crate) async fn client(&self) -> Client {
        Client { stream: self.connect().await }
    }

    /// The answer's head to a request over HTTP/2.
    pub(crate) async fn http2(&self, path: &str, grpc: bool) -> (u16, HeaderMap) {
        let stream = self.connect().await;
        let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        let mut request = http::Request::builder().uri(format!("http://cart{path}"));
        if grpc {
            request = request.header("content-type", "application/grpc");
        }
        let mut client = client.ready().await.expect("a stream");
        let (response, _) =
            client.send_request(request.body(()).expect("good"), true).expect("sent");
        let head = response.await.expect("an answer").into_parts().0;
        (head.status.as_u16(), head.headers)
    }

    /// How many requests an application got whose heads begin so.
    pub(crate) fn requests(&self, name: &str, begin: &str) -> usize {
        let seen = self.seen.borrow();
        seen.iter().filter(|(app, head)| app == name && head.starts_with(begin)).count()
    }

    /// Waits until an application got so many requests whose heads begin so.
    pub(crate) async fn seen(&self, name: &str, begin: &str, count: usize) {
        let what = format!("{name} to see {begin} {count} times");
        until(&what, || self.requests(name, begin) == count).await;
    }

    /// Waits until a line is among the metrics.
    pub(crate) async fn counted(&self, line: &str) {
        until(line, || self.metrics.text().contains(line)).await;
    }
}

/// Waits for a condition, ten seconds at most.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = clock::now() + Duration::from_secs(10);
    while !holds() {
        assert!(clock::now() < deadline, "waited in vain for {what}");
        clock::sleep(Duration::from_millis(1)).await;
    }
}

fn destination(name: &str, endpoints: Vec<Arc<Endpoint>>) -> Destination {
    let service = port_of(name);
    let label = service.to_string().into();
    Destination { service: Some(service), endpoints, ..Destination::empty(label) }
}

/// Answers each request with the application's name and the request's head.
async fn serve(mut stream: TcpStream, name: String, seen: Rc<RefCell<Vec<(String, String)>>>) {
    if name.starts_with(OPAQUE) {
        let _ = stream.write_all(format!("{name}\n").as_bytes()).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
        return;
    }
    while let Some(head) = read_head(&mut stream).await {
        read_body(&mut stream, &head).await;
        seen.borrow_mut().push((name.clone(), head.clone()));
        if name == SILENT {
            continue;
        }
        if name == UPGRADE {
            let switch =
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
            let _ = stream.write_all(switch.as_bytes()).await;
            let (mut from, mut to) = stream.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
            return;
        }
        let length = head.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nX-Server: {name}\r\n\r\n{head}"
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

pub(crate) async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).expect("text"))
}

async fn read_body(stream: &mut TcpStream, head: &str) -> String {
    let length = value(head, "content-length").parse().unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.expect("the whole body");
    String::from_utf8(body).expect("text")
}

/// The value of a field; empty when it is not there.
fn value<'a>(head: &'a str, name: &str) -> &'a str {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let mut found = fields.filter(|(other, _)| other.eq_ignore_ascii_case(name));
    found.next().map_or("", |(_, value)| value)
}

/// A client of HTTP/1, one request after the other.
pub(crate) struct Client {
    stream: TcpStream,
}

/// An answer of HTTP/1.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Client {
    pub(crate) async fn get(&mut self, target: &str, fields: &str) -> Answer {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: cart\r\n{fields}\r\n")).await
    }

    /// A request with a body of so many bytes.
    pub(crate) async fn post(&mut self, target: &str, length: usize) -> Answer {
        let head =
            format!("POST {target} HTTP/1.1\r\nHost: cart\r\nContent-Length: {length}\r\n\r\n");
        self.send(&format!("{head}{}", "b".repeat(length))).await
    }

    async fn send(&mut self, request: &str) -> Answer {
        self.stream.write_all(request.as_bytes()).await.expect("sent");
        let head = read_head(&mut self.stream).await.expect("an answer");
        let body = read_body(&mut self.stream, &head).await;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Answer { status: status.expect("a status"), head, body }
    }
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> &str {
        value(&self.head, name)
    }

    /// Who answered.
    pub(crate) fn server(&self) -> &str {
        self.field("x-server")
    }
}
