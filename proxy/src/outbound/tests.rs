//! Where the application's connections go outside the mesh, over real sockets: the original destination, which only the
//! kernel knows, is said by the test, and so is what the control plane says.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
};

use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_proto::Port;

use super::*;
use crate::{
    config::Config,
    discovery::{
        Destination, Directory, Endpoint, External, InboundPorts, MeshScope, OutsideScope,
        Resolution,
    },
    dns::Resolver,
    drain::{self, DrainTrigger},
    identity::Identity,
    net::{self, TcpListener, TcpStream},
    pool::Itself,
    shared::Process,
    tasks::Tasks,
    telemetry::{Metrics, Telemetry},
    tls::MutualTls,
    worker,
};

/// The host that is registered; it listens on the port of the test's application.
const HOST: &str = "api.example.com";
/// Where the connections were going: nobody answers there.
const NOWHERE: &str = "192.0.2.1";

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    config: Config,
}

/// The outbound side of a sidecar.
struct Sidecar {
    shared: Rc<Shared>,
    directory: Directory,
    metrics: Metrics,
    /// Of the registered host.
    port: u16,
    _drain: DrainTrigger,
}

fn scope(port: u16, registered_only: bool) -> MeshScope {
    MeshScope {
        trust_domain: weft_proto::TrustDomain::default(),
        ranges: Vec::new(),
        suffixes: Vec::new(),
        namespaces: Vec::new(),
        outside: OutsideScope { hosts: vec![HOST.to_owned()], ports: vec![port], registered_only },
    }
}

impl Sidecar {
    /// A sidecar that knows the registered host, whose address by DNS is the application's.
    fn new(app: SocketAddr, protocol: Protocol, registered_only: bool) -> Self {
        let flags = ["weft-proxy", "--workload=shop/web"];
        let config = Arc::new(Command::try_parse_from(flags).expect("good flags").config);
        let mesh = scope(app.port(), registered_only);
        let directory = Directory::fixed(mesh, InboundPorts::default());
        let port = Port::new(app.port()).expect("bound");
        let external = External { hosts: vec![HOST.to_owned()], port };
        let destination = Destination {
            protocol,
            endpoints: vec![Arc::new(Endpoint::plain(app, port))],
            external: Some(Arc::new(external)),
            ..Destination::empty("shop/api:443".into())
        };
        directory.pin(&format!("{HOST}:{port}"), Resolution::Mesh(Arc::new(destination)));
        let telemetry = Telemetry::new(&config.telemetry);
        let metrics = telemetry.metrics.clone();
        let tls = MutualTls::new(Identity::default(), config.timeouts.tls, metrics.tls());
        let (trigger, drain) = drain::channel();
        let process = Process {
            config,
            directory: directory.clone(),
            mutual_tls: tls,
            telemetry,
            drain,
            resolver: Resolver::from_system(),
            connections: Arc::default(),
            cut_off: Arc::default(),
            own_ports: Arc::default(),
            itself: Itself::default(),
        };
        let shared = Shared::new(process, Tasks::default());
        Self { shared, directory, metrics, port: app.port(), _drain: trigger }
    }

    /// A connection that was going to `original`; without one, to the explicit proxy.
    async fn connect(&self, original: Option<String>) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (client, accepted) = tokio::join!(net::connect(address), listener.accept());
        let (socket, shared) = (Socket::new(accepted.expect("accepted").0), self.shared.clone());
        self.shared.tasks.spawn(async move {
            match original {
                Some(original) => destined(shared, socket, original.into()).await,
                None => explicit(shared, socket).await,
            }
        });
        client.expect("connected")
    }

    async fn intercepted(&self) -> TcpStream {
        self.connect(Some(format!("{NOWHERE}:{}", self.port))).await
    }
}

/// A server that sends back what it reads.
async fn echo(ip: IpAddr) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn_local(async move {
                let (mut from, mut to) = stream.into_split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

/// An HTTP server that answers each request with "hi".
async fn http_server(ip: IpAddr) -> SocketAddr {
    http_server_saying((ip, 0).into(), "hi").await
}

/// An HTTP server that answers each request with this, of two bytes.
async fn http_server_saying(address: SocketAddr, answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind(address).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::task::spawn_local(async move {
                while stream.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{answer}");
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn loopback() -> IpAddr {
    IpAddr::from([127, 0, 0, 1])
}

/// This machine's address that an application may name; no packet is sent for the answer.
fn own_address(test: &str) -> Option<IpAddr> {
    let found = || {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect("192.0.2.1:9").ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
    };
    if found().is_none() {
        eprintln!("SKIPPED {test}: this machine has no IPv4 address but loopback");
    }
    found()
}

fn get(uri: &str, host: &str) -> String {
    format!("GET {uri} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// Sends bytes and reads until what came contains `until`, or the end.
async fn say(stream: &mut TcpStream, bytes: &[u8], until: &str) -> String {
    stream.write_all(bytes).await.expect("written");
    let mut received = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&received).into_owned();
        if text.contains(until) {
            return text;
        }
        let read = clock::timeout(Duration::from_secs(20), stream.read_buf(&mut received));
        if !read.await.expect("in time").is_ok_and(|count| count > 0) {
            return format!("{text}<end>");
        }
    }
}

/// Whether the connection is reset, without a byte.
async fn is_reset(mut stream: TcpStream, bytes: &[u8]) -> bool {
    let _ = stream.write_all(bytes).await;
    let read = clock::timeout(Duration::from_secs(20), stream.read(&mut [0; 64])).await;
    read.expect("in time").is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

/// The first bytes of a client of TLS that wants this server.
fn hello(server: &'static str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = server.try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("memory");
    bytes
}

fn run(test: impl Future<Output = ()>) {
    worker::run(test).expect("a runtime");
}

#[test]
fn an_idle_connection_is_a_small_task() {
    worker::run(async {
        let app = http_server(loopback()).await;
        let sidecar = Sidecar::new(app, Protocol::Http1, false);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let stream = net::connect(listener.local_addr().expect("bound")).await.expect("connected");
        let (shared, socket) = (sidecar.shared.clone(), Socket::new(stream));
        let explicit = size_of_val(&explicit(shared.clone(), socket.clone()));
        let destined = size_of_val(&destined(shared, socket, Box::default()));
        // With what the runtime and the listener keep beside it, a task of 384 bytes.
        assert!(explicit <= 232 && destined <= 232, "{explicit}, {destined}");
    })
    .expect("a runtime");
}

#[test]
fn intercepted_http_goes_to_the_registered_host_that_it_names_request_by_request() {
    run(async {
        let app = http_server(loopback()).await;
        let sidecar = Sidecar::new(app, Protocol::Http1, true);
        let mut client = sidecar.intercepted().await;
        for host in [HOST, "API.example.com", &format!("{HOST}:81")] {
            let answer = say(&mut client, get("/", host).as_bytes(), "hi").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
        }
        let answer = say(&mut client, get("/", "other.example.com").as_bytes(), "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(answer.contains("weft-reason: egress-denied"), "{answer}");
        let metrics = sidecar.metrics.text();
        assert!(metrics.contains("service=\"shop/api:443\""), "{metrics}");
    });
}

#[test]
fn intercepted_tls_goes_to_the_registered_host_that_it_names() {
    run(async {
        let app = echo(loopback()).await;
        for protocol in [Protocol::Tls, Protocol::Unspecified] {
            let sidecar = Sidecar::new(app, protocol, true);
            let mut client = sidecar.intercepted().await;
            let said = hello(HOST);
            client.write_all(&said).await.expect("written");
            let mut echoed = vec![0; said.len()];
            client.read_exact(&mut echoed).await.expect("passed through");
            assert_eq!(echoed, said);
            assert!(is_reset(sidecar.intercepted().await, &hello("other.example.com")).await);
        }
        let sidecar = Sidecar::new(app, Protocol::Http1, true);
        assert!(is_reset(sidecar.intercepted().await, &hello(HOST)).await, "it declares HTTP");
    });
}

#[test]
fn what_nobody_registers_is_refused_whether_it_speaks_or_waits() {
    run(async {
        let app = echo(loopback()).await;
        let sidecar = Sidecar::new(app, Protocol::Tls, true);
        for port in [sidecar.port, 9] {
            for bytes in [&b"\x00\x01opaque\xff"[..], b""] {
                let client = sidecar.connect(Some(format!("{NOWHERE}:{port}"))).await;
                assert!(is_reset(client, bytes).await, "{port} {bytes:?}");
            }
        }
        // Who speaks HTTP is told why, on any port.
        let mut client = sidecar.connect(Some(format!("{NOWHERE}:9"))).await;
        let answer = say(&mut client, get("/", HOST).as_bytes(), "\r\n\r\n").await;
        assert!(answer.contains("weft-reason: egress-denied"), "{answer}");
    });
}

#[test]
fn explicit_requests_and_tunnels_go_where_somebody_is_registered_only() {
    run(async {
        let app = http_server(loopback()).await;
        let sidecar = Sidecar::new(app, Protocol::Unspecified, true);
        let registered = format!("{HOST}:{}", sidecar.port);
        let mut client = sidecar.connect(None).await;
        for (host, expected) in [(&*registered, "200 OK"), ("other.example.com", "egress-denied")] {
            let bytes = get(&format!("http://{host}/"), host);
            let answer = say(&mut client, bytes.as_bytes(), expected).await;
            assert!(answer.contains(expected), "{host}: {answer}");
        }
        for (host, expected) in
            [(&*registered, "HTTP/1.1 200 "), ("other.example.com:443", "HTTP/1.1 403 ")]
        {
            let mut client = sidecar.connect(None).await;
            let bytes = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let answer = say(&mut client, bytes.as_bytes(), "\r\n\r\n").await;
            assert!(answer.starts_with(expected), "{host}: {answer}");
            if host == registered {
                assert!(say(&mut client, get("/", host).as_bytes(), "hi").await.ends_with("hi"));
            }
        }
    });
}

#[test]
fn a_change_of_egress_acts_on_open_connections() {
    let test = "a_change_of_egress_acts_on_open_connections";
    let Some(ip) = own_address(test) else { return };
    run(async {
        let (foreign, app) = (echo(ip).await, echo(loopback()).await);
        let website = http_server(ip).await;
        let sidecar = Sidecar::new(app, Protocol::Tcp, false);
        let mut intercepted = sidecar.connect(Some(foreign.to_string())).await;
        assert_eq!(say(&mut intercepted, b"\x00one", "\x00one").await, "\x00one");
        let mut tunnel = sidecar.connect(None).await;
        let connect = format!("CONNECT {foreign} HTTP/1.1\r\nHost: {foreign}\r\n\r\n");
        say(&mut tunnel, connect.as_bytes(), "\r\n\r\n").await;
        assert_eq!(say(&mut tunnel, b"\x00two", "\x00two").await, "\x00two");
        let mut requests = sidecar.connect(None).await;
        let get = get(&format!("http://{website}/"), &website.to_string());
        assert!(say(&mut requests, get.as_bytes(), "hi").await.contains(" 200 "));
        let mut registered = sidecar.connect(Some(format!("{HOST}:{}", sidecar.port))).await;
        assert_eq!(say(&mut registered, b"\x00three", "\x00three").await, "\x00three");

        sidecar.directory.pin_mesh(scope(sidecar.port, true));
        assert!(is_reset(intercepted, b"").await);
        assert!(is_reset(tunnel, b"").await);
        let answer = say(&mut requests, get.as_bytes(), "\r\n\r\n").await;
        assert!(answer.contains("weft-reason: egress-denied"), "{answer}");
        assert_eq!(say(&mut registered, b"\x00four", "\x00four").await, "\x00four");

        sidecar.directory.pin(&format!("{HOST}:{}", sidecar.port), Resolution::NotFound);
        assert!(is_reset(registered, b"").await, "nobody registers it any more");
    });
}

#[test]
fn where_traffic_may_leave_connections_to_addresses_pass_as_they_are() {
    let test = "where_traffic_may_leave_connections_to_addresses_pass_as_they_are";
    let Some(ip) = own_address(test) else { return };
    run(async {
        // A server that speaks first, on a port that a host is registered on.
        let listener = TcpListener::bind((ip, 0)).await.expect("a free port");
        let greeter = listener.local_addr().expect("bound");
        tokio::task::spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(b"220 ready").await;
                let _ = stream.read(&mut [0; 64]).await;
            }
        });
        let sidecar = Sidecar::new(greeter, Protocol::Tls, false);
        for _ in 0..2 {
            let mut client = sidecar.connect(Some(greeter.to_string())).await;
            assert_eq!(say(&mut client, b"", "ready").await, "220 ready");
        }

        let website = http_server(ip).await;
        let sidecar = Sidecar::new(website, Protocol::Http1, false);
        let mut client = sidecar.connect(Some(website.to_string())).await;
        let answer = say(&mut client, get("/", "other.example.com").as_bytes(), "hi").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let mut client = sidecar.connect(Some(website.to_string())).await;
        let answer = say(&mut client, &hello("other.example.com"), "hi").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "TLS reaches the address: {answer}");
    });
}

#[test]
fn a_host_of_two_families_is_reached_by_the_one_that_works() {
    run(async {
        let app = http_server(loopback()).await;
        let sidecar = Sidecar::new(app, Protocol::Http1, true);
        let port = Port::new(app.port()).expect("bound");
        // Nothing listens on the first address; nobody answers for the second.
        for broken in [format!("[::1]:{port}"), format!("{NOWHERE}:{port}")] {
            let broken = broken.parse().expect("an address");
            let endpoint = Endpoint { alternate: Some(app), ..Endpoint::plain(broken, port) };
            let dialled = sidecar.shared.destinations.dialer().dial(&endpoint, &[], None).await;
            assert_eq!(dialled.expect("by the other").socket.peer(), Some(app));
            assert!(
                endpoint.health.in_backoff(clock::process_ms()),
                "it is not asked at once again"
            );
        }
        let endpoint = Endpoint::plain(app, port);
        assert!(sidecar.shared.destinations.dialer().dial(&endpoint, &[], None).await.is_ok());
    });
}

#[test]
fn a_kept_connection_follows_what_its_requests_name() {
    run(async {
        let [one, two] = ["1=", "2="].map(|answer| (SocketAddr::from((loopback(), 0)), answer));
        let one = http_server_saying(one.0, one.1).await;
        let two = http_server_saying(two.0, two.1).await;
        let sidecar = Sidecar::new(one, Protocol::Http1, false);
        let keep = |name: &str, address: SocketAddr, until: Option<clock::Instant>| {
            let port = Port::new(address.port()).expect("bound");
            let endpoints = vec![Arc::new(Endpoint::plain(address, port))];
            let destination = Destination { endpoints, ..Destination::empty("outside".into()) };
            drop(sidecar.shared.destinations.keep_outside(name, destination, until));
        };
        let mut client = sidecar.connect(None).await;
        let mut get = async |uri: &str| {
            let bytes = get(uri, "other.example.com");
            say(&mut client, bytes.as_bytes(), "=").await
        };
        // The scheme says the port.
        keep("other.example.com:80", one, None);
        keep("other.example.com:443", two, None);
        assert!(get("http://other.example.com/").await.contains("\r\n\r\n1="));
        assert!(get("https://other.example.com/").await.contains("\r\n\r\n2="));
        // What DNS said is good for a while only.
        let until = clock::now() + Duration::from_secs(1);
        keep("other.example.com:80", one, Some(until));
        assert!(get("http://other.example.com/").await.contains("\r\n\r\n1="));
        clock::sleep_until(until).await;
        keep("other.example.com:80", two, None);
        assert!(get("http://other.example.com/").await.contains("\r\n\r\n2="));
    });
}

#[test]
fn an_intercepted_connection_goes_to_a_host_that_is_registered_meanwhile() {
    let test = "an_intercepted_connection_goes_to_a_host_that_is_registered_meanwhile";
    let Some(ip) = own_address(test) else { return };
    run(async {
        let registered = http_server_saying((loopback(), 0).into(), "1=").await;
        let at_address = http_server_saying((ip, registered.port()).into(), "2=").await;
        let sidecar = Sidecar::new(registered, Protocol::Http1, false);
        let mut before = scope(sidecar.port, false);
        before.outside.hosts = vec!["another.example.com".to_owned()];
        let name = format!("{HOST}:{}", sidecar.port);
        let service = sidecar.directory.resolve(&name).borrow().clone();
        sidecar.directory.pin_mesh(before);
        let mut client = sidecar.connect(Some(at_address.to_string())).await;
        let get = get("/", HOST);
        assert!(say(&mut client, get.as_bytes(), "=").await.contains("\r\n\r\n2="));
        sidecar.directory.pin_mesh(scope(sidecar.port, false));
        sidecar.directory.pin(&name, service);
        assert!(say(&mut client, get.as_bytes(), "=").await.contains("\r\n\r\n1="));
    });
}

#[test]
fn a_registered_host_without_an_address_is_named() {
    run(async {
        let app = SocketAddr::new(loopback(), 80);
        let sidecar = Sidecar::new(app, Protocol::Http1, false);
        for (hosts, named) in
            [(HOST, HOST), ("*.example.com", HOST), ("api.other.example", "api.other.example")]
        {
            let external =
                External { hosts: vec![hosts.to_owned()], port: Port::new(80).expect("a port") };
            let destination = Destination {
                protocol: Protocol::Http1,
                external: Some(Arc::new(external)),
                ..Destination::empty("shop/api:80".into())
            };
            let name = format!("{HOST}:80");
            sidecar.directory.pin(&name, Resolution::Mesh(Arc::new(destination)));
            let Ok(Found::Mesh(service)) = sidecar.shared.destinations.find(&name).await else {
                panic!("{name} is registered")
            };
            let error = service.without_endpoints(&service.snapshot());
            assert_eq!(error.reason, Reason::DestinationUnresolved);
            let expected = format!("DNS has no address for {named} (of shop/api:80)");
            assert_eq!(error.detail, expected);
        }
    });
}
