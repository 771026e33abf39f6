//! Which connections are served, over real sockets: the original destination, which only the kernel knows, is said
//! by the test.

mod access;
mod late;
mod limits;
mod open;
mod scene;
mod silent;
mod turns;
mod unread;
mod websocket;

use std::sync::Arc;

use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_proto::discovery::Protocol;

use super::*;
use crate::{
    config::Config,
    discovery::{Directory, InboundPorts, MeshScope, OutsideScope},
    dns::Resolver,
    drain::{self, DrainTrigger},
    identity::Identity,
    net::{self, TcpListener},
    pool,
    shared::Process,
    tasks::Tasks,
    telemetry::{Metrics, Telemetry},
    tls::{
        MutualTls,
        testing::{Authority, spiffe_id},
    },
    worker,
};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";

/// A port of the proxy in these tests; nothing listens there.
const OWN: u16 = 4191;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    config: Config,
}

/// The inbound side of a sidecar of `shop/cart`, whose traffic is redirected.
struct Sidecar {
    shared: Rc<Shared>,
    directory: Directory,
    metrics: Metrics,
    root: Authority,
    drain: DrainTrigger,
}

impl Sidecar {
    fn new(inbound: InboundPorts) -> Self {
        Self::with(inbound, &[])
    }

    /// One with these flags beside those of all.
    fn with(inbound: InboundPorts, flags: &[&str]) -> Self {
        let of_all = ["weft-proxy", "--workload=shop/cart", "--interception=transparent"];
        let flags = of_all.iter().chain(flags);
        let config = Arc::new(Command::try_parse_from(flags).expect("good flags").config);
        let mesh = MeshScope {
            trust_domain: weft_proto::TrustDomain::default(),
            ranges: Vec::new(),
            suffixes: Vec::new(),
            namespaces: Vec::new(),
            outside: OutsideScope::default(),
        };
        let directory = Directory::fixed(mesh, inbound);
        let root = Authority::new("root");
        let telemetry = Telemetry::new(&config.telemetry);
        let metrics = telemetry.metrics.clone();
        let mutual_tls =
            MutualTls::new(root.sidecar("cart"), config.timeouts.tls, telemetry.metrics.tls());
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
            own_ports: Arc::new([SocketAddr::from(([0, 0, 0, 0], OWN))]),
            itself: pool::Itself::default(),
        };
        let shared = Shared::new(process, Tasks::default());
        Self { shared, directory, metrics, root, drain: trigger }
    }

    /// A connection that the sidecar serves as one that was going to `original`.
    async fn connect(&self, original: Option<SocketAddr>) -> Socket {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (client, accepted) = tokio::join!(net::connect(address), listener.accept());
        let socket = Socket::new(accepted.expect("accepted").0);
        self.shared.tasks.spawn(serve(self.shared.clone(), socket, original));
        Socket::new(client.expect("connected"))
    }

    /// What a stranger gets who was going to `original`.
    async fn plain(&self, original: Option<SocketAddr>) -> String {
        exchange(self.connect(original).await).await
    }

    /// What another sidecar gets that names this port.
    async fn mesh(&self, original: Option<SocketAddr>, named: u16) -> String {
        exchange(self.secured(original, named).await).await
    }

    async fn secured(&self, original: Option<SocketAddr>, named: u16) -> Socket {
        self.secured_for(original, named, Alpn::Http1).await
    }

    async fn secured_for(&self, original: Option<SocketAddr>, named: u16, alpn: Alpn) -> Socket {
        self.secure(self.connect(original).await, named, alpn).await
    }

    /// The client's side of mesh TLS, over a connection.
    async fn secure(&self, socket: Socket, named: u16, alpn: Alpn) -> Socket {
        let identity: Identity = self.root.sidecar("web");
        let tls = MutualTls::new(identity, self.shared.config.timeouts.tls, self.metrics.tls());
        let named = MeshServerName::of_port(Port::new(named).expect("a port"));
        let expected: Arc<[_]> = Arc::new([spiffe_id("cart")]);
        let connected = tls.connect(socket, "test", &expected, &named, &[alpn]).await;
        connected.expect("both belong to the mesh").socket
    }

    /// How many connections were refused for this reason.
    fn refused(&self, reason: Reason) -> u32 {
        let reason = format!("reason=\"{reason}\"");
        let text = self.metrics.text();
        let refused = |line: &&str| {
            line.starts_with("weft_refused_connections_total{") && line.contains(&reason)
        };
        let values = text.lines().filter(refused).filter_map(|line| line.rsplit(' ').next());
        values.filter_map(|value| value.parse::<u32>().ok()).sum()
    }
}

/// Sends a request and returns all that comes back.
async fn exchange(mut socket: Socket) -> String {
    let _ = socket.write_all(REQUEST.as_bytes()).await;
    let _ = socket.flush().await;
    let mut received = Vec::new();
    let _ = socket.read_to_end(&mut received).await;
    String::from_utf8_lossy(&received).into_owned()
}

/// An application that listens at this address alone, for as long as the runtime lives.
async fn application(ip: [u8; 4]) -> SocketAddr {
    let listener = TcpListener::bind(SocketAddr::from((ip, 0))).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(ANSWER.as_bytes()).await;
        }
    });
    address
}

fn policy(strict: bool, label: &str) -> InboundPort {
    InboundPort { strict, ..InboundPort::plain(Protocol::Unspecified, label.into()) }
}

fn others(strict: bool) -> InboundPorts {
    InboundPorts { others: Some(policy(strict, "unlisted")), ..InboundPorts::default() }
}

#[test]
fn a_port_that_is_not_listed_is_served_as_all_others_where_it_was_dialled() {
    let test = async {
        // Another address than the one where the proxy looks without an original destination.
        let address = application([127, 0, 0, 2]).await;
        let sidecar = Sidecar::new(others(false));
        assert!(sidecar.plain(Some(address)).await.ends_with("hi"));
        assert!(sidecar.mesh(Some(address), address.port()).await.ends_with("hi"));
        let metrics = sidecar.metrics.text();
        assert!(metrics.contains("service=\"unlisted\""), "{metrics}");

        sidecar.directory.pin_inbound(others(true));
        assert_eq!(sidecar.plain(Some(address)).await, "");
        assert_eq!(sidecar.refused(Reason::StrictRequired), 1);
        assert!(sidecar.mesh(Some(address), address.port()).await.ends_with("hi"));

        sidecar.directory.pin_inbound(InboundPorts::default());
        assert_eq!(sidecar.plain(Some(address)).await, "");
        assert_eq!(sidecar.mesh(Some(address), address.port()).await, "");
        assert_eq!(sidecar.refused(Reason::PortNotServed), 2);
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn a_listed_port_goes_by_its_own_policy() {
    let test = async {
        let address = application([127, 0, 0, 2]).await;
        let mut inbound = others(false);
        let port = Port::new(address.port()).expect("bound");
        inbound.ports.insert(port, policy(true, "shop/cart:80"));
        let sidecar = Sidecar::new(inbound);
        assert_eq!(sidecar.plain(Some(address)).await, "");
        assert_eq!(sidecar.refused(Reason::StrictRequired), 1);
        assert!(sidecar.mesh(Some(address), address.port()).await.ends_with("hi"));
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn what_is_said_of_all_others_is_not_said_of_the_proxys_own_ports() {
    let test = async {
        let sidecar = Sidecar::new(others(false));
        let own = SocketAddr::from(([127, 0, 0, 1], OWN));
        assert_eq!(sidecar.mesh(Some(own), OWN).await, "");
        assert_eq!(sidecar.mesh(None, OWN).await, "");
        assert_eq!(sidecar.refused(Reason::PortNotServed), 2);
        assert_eq!(sidecar.plain(Some(own)).await, "");
        assert_eq!(sidecar.refused(Reason::StrictRequired), 1);
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn a_port_that_is_not_listed_is_not_served_to_who_was_not_going_there() {
    let test = async {
        let address = application([127, 0, 0, 1]).await;
        let sidecar = Sidecar::new(others(false));
        assert_eq!(sidecar.mesh(None, address.port()).await, "");
        assert_eq!(sidecar.refused(Reason::PortNotServed), 1);
        assert_eq!(sidecar.plain(None).await, "");
        let mut inbound = others(false);
        let port = Port::new(address.port()).expect("bound");
        inbound.ports.insert(port, policy(false, "shop/cart:80"));
        sidecar.directory.pin_inbound(inbound);
        assert!(sidecar.mesh(None, address.port()).await.ends_with("hi"));
        // With others it is not clear which port is meant.
        assert_eq!(sidecar.plain(None).await, "");
        assert_eq!(sidecar.refused(Reason::StrictRequired), 2);
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn an_open_connection_to_an_unlisted_port_ends_when_the_others_become_strict() {
    let test = async {
        let address = application([127, 0, 0, 2]).await;
        let sidecar = Sidecar::new(others(false));
        let mut plain = sidecar.connect(Some(address)).await;
        // A request that does not end: the connection is open, and served.
        plain
            .write_all(b"POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 9\r\n\r\n")
            .await
            .expect("open");
        plain.flush().await.expect("open");
        let mut first = [0; 12];
        plain.read_exact(&mut first).await.expect("the application answers");
        let mut mesh = sidecar.secured(Some(address), address.port()).await;
        mesh.write_all(b"POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 9\r\n\r\n")
            .await
            .expect("open");
        mesh.flush().await.expect("open");
        mesh.read_exact(&mut first).await.expect("the application answers");

        sidecar.directory.pin_inbound(others(true));
        let _ = plain.read_to_end(&mut Vec::new()).await;
        assert_eq!(sidecar.refused(Reason::PolicyChanged), 1);
        sidecar.directory.pin_inbound(InboundPorts::default());
        let _ = mesh.read_to_end(&mut Vec::new()).await;
        assert_eq!(sidecar.refused(Reason::PolicyChanged), 2);
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn a_port_that_is_listed_no_longer_is_left_by_who_was_not_going_there() {
    let test = async {
        let address = application([127, 0, 0, 1]).await;
        let port = Port::new(address.port()).expect("bound");
        let begun = "POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 9\r\n\r\n";
        for (alpn, begun) in [(Alpn::Http1, begun), (Alpn::Http1, ""), (Alpn::Tcp, "")] {
            let mut inbound = others(false);
            inbound.ports.insert(port, policy(true, "shop/cart:80"));
            let sidecar = Sidecar::new(inbound);
            let open = |original| sidecar.secured_for(original, address.port(), alpn);
            let mut direct = open(None).await;
            let _redirected = open(Some(address)).await;
            direct.write_all(begun.as_bytes()).await.expect("open");
            direct.flush().await.expect("open");
            if !begun.is_empty() {
                direct.read_exact(&mut [0; 12]).await.expect("the application answers");
            }
            sidecar.directory.pin_inbound(others(false));
            let _ = scene::soon("the end", direct.read_to_end(&mut Vec::new())).await;
            assert_eq!(sidecar.refused(Reason::PolicyChanged), 1);
        }
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn the_policy_decides_how_bytes_are_treated() {
    use super::treatment::{Treatment, treatment};
    use Protocol::{Grpc, Http1, Http2, Tcp, Tls, Unspecified};
    let rows = [
        (Unspecified, Some(Alpn::Http1), Some(Treatment::Http1)),
        (Unspecified, Some(Alpn::WeftHttp2), Some(Treatment::Http2)),
        (Unspecified, Some(Alpn::Tcp), Some(Treatment::Detect)),
        (Unspecified, None, Some(Treatment::Detect)),
        (Http1, Some(Alpn::Tcp), Some(Treatment::Detect)),
        (Http2, Some(Alpn::Tcp), Some(Treatment::Detect)),
        (Grpc, None, Some(Treatment::Detect)),
        (Http1, Some(Alpn::Http2), Some(Treatment::Http2)),
        (Tcp, Some(Alpn::Tcp), Some(Treatment::Opaque)),
        (Tls, None, Some(Treatment::Opaque)),
        (Tcp, Some(Alpn::Http1), None),
        (Tls, Some(Alpn::WeftHttp2), None),
    ];
    for (declared, alpn, expected) in rows {
        assert_eq!(treatment(declared, alpn).ok(), expected, "{declared:?} {alpn:?}");
    }
}
