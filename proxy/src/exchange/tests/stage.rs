//! Sidecars in this process over real sockets, whose policies the test says: a client's, and servers' behind mutual
//! TLS; and applications of raw bytes that note what they are asked.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, sync::Arc};

use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_proto::{Port, discovery::Protocol};

use crate::{
    config::Config,
    destination::{Found, Service},
    discovery::{
        Destination, Directory, Endpoint, InboundPort, InboundPorts, MeshScope, OutsideScope,
        Resolution, Transport,
    },
    dns::Resolver,
    drain::{self, DrainTrigger},
    inbound,
    io::Socket,
    net::{self, TcpListener},
    outbound,
    policy::RequestPolicy,
    pool,
    shared::{Process, Shared},
    tasks::Tasks,
    telemetry::{Metrics, Telemetry},
    tls::{
        MutualTls,
        testing::{Authority, spiffe_id},
    },
};

/// What the client's application names.
const NAME: &str = "10.0.0.1:80";

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    config: Config,
}

/// The client's sidecar.
pub(in crate::exchange) struct Stage {
    client: Rc<Shared>,
    process: Process,
    directory: Directory,
    pub(super) metrics: Metrics,
    root: Authority,
    drains: RefCell<Vec<DrainTrigger>>,
}

impl Stage {
    pub(in crate::exchange) fn new() -> Self {
        Self::with(&[])
    }

    /// One whose sidecar was started with these flags.
    pub(super) fn with(flags: &[&str]) -> Self {
        let root = Authority::new("root");
        let (process, drain) = process("web", flags, &root, InboundPorts::default());
        Self {
            directory: process.directory.clone(),
            metrics: process.telemetry.metrics.clone(),
            client: Shared::new(process.clone(), Tasks::default()),
            process,
            root,
            drains: RefCell::new(vec![drain]),
        }
    }

    /// The service has these endpoints and policies from now on.
    pub(super) fn pin(&self, endpoints: Vec<Endpoint>, requests: RequestPolicy) {
        let mut destination = Destination::empty("shop/cart:80".into());
        destination.endpoints = endpoints.into_iter().map(Arc::new).collect();
        destination.requests = Arc::new(requests);
        self.pin_destination(destination);
    }

    pub(in crate::exchange) fn pin_destination(&self, mut destination: Destination) {
        if destination.protocol == Protocol::Unspecified {
            destination.protocol = Protocol::Http1;
        }
        self.directory.pin(NAME, Resolution::Mesh(Arc::new(destination)));
    }

    /// What the client's sidecar knows of the service.
    pub(in crate::exchange) async fn service(&self) -> Rc<Service> {
        match self.client.destinations.find(NAME).await {
            Ok(Found::Mesh(service)) => service,
            other => panic!("{other:?}"),
        }
    }

    pub(in crate::exchange) const fn client(&self) -> &Rc<Shared> {
        &self.client
    }

    /// The application in front of a sidecar of its own.
    pub(super) async fn meshed(&self, application: SocketAddr, protocol: Protocol) -> Endpoint {
        let port = Port::new(application.port()).expect("bound");
        let served = InboundPort {
            protocol,
            strict: true,
            service: None,
            label: "shop/cart:80".into(),
            access: None,
            rate_limits: None,
            concurrency: None,
        };
        let inbound = InboundPorts { ports: [(port, served)].into(), others: None };
        let (process, drain) = process("cart", &[], &self.root, inbound);
        self.drains.borrow_mut().push(drain);
        let shared = Shared::new(process, Tasks::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.tasks.spawn(inbound::serve(shared.clone(), Socket::new(stream), None));
            }
        });
        Endpoint {
            app_port: port,
            transport: Transport::Mesh(Arc::new([spiffe_id("cart")])),
            ..Endpoint::plain(address, port)
        }
    }

    /// For a worker of the client's sidecar in a thread of its own.
    pub(super) fn process(&self) -> Process {
        self.process.clone()
    }

    /// Another worker of the client's sidecar.
    pub(super) fn worker(&self) -> Rc<Shared> {
        Shared::new(self.process.clone(), Tasks::default())
    }

    /// A connection of the client's application to the service.
    pub(super) async fn connect(&self) -> Socket {
        self.connect_to(&self.client).await
    }

    /// One that this worker accepts.
    pub(super) async fn connect_to(&self, worker: &Rc<Shared>) -> Socket {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (client, accepted) = tokio::join!(net::connect(address), listener.accept());
        let socket = Socket::new(accepted.expect("accepted").0);
        let destined = outbound::destined(worker.clone(), socket, NAME.into());
        worker.tasks.spawn(destined);
        Socket::new(client.expect("connected"))
    }

    /// What the client's application gets for these bytes, up to the connection's end.
    pub(super) async fn ask(&self, request: &str) -> String {
        self.ask_at(&self.client, request).await
    }

    /// What it gets from this worker.
    pub(super) async fn ask_at(&self, worker: &Rc<Shared>, request: &str) -> String {
        ask_on(self.connect_to(worker).await, request).await
    }

    /// The sum of a metric's samples that have this label.
    pub(super) fn count(&self, name: &str, label: &str) -> f64 {
        let text = self.metrics.text();
        let samples = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

/// Where this worker accepts connections to the service from now on.
pub(super) async fn listen(worker: Rc<Shared>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let socket = Socket::new(stream);
            worker.tasks.spawn(outbound::destined(worker.clone(), socket, NAME.into()));
        }
    });
    address
}

/// What the client's application gets on this connection for these bytes, up to the connection's end.
pub(super) async fn ask_on(mut socket: Socket, request: &str) -> String {
    socket.write_all(request.as_bytes()).await.expect("it is open");
    socket.flush().await.expect("it is open");
    let mut received = Vec::new();
    let _ = socket.read_to_end(&mut received).await;
    String::from_utf8_lossy(&received).into_owned()
}

fn process(
    account: &str,
    flags: &[&str],
    root: &Authority,
    inbound: InboundPorts,
) -> (Process, DrainTrigger) {
    let workload = format!("--workload=shop/{account}");
    let flags = ["weft-proxy", &workload].into_iter().chain(flags.iter().copied());
    let config = Arc::new(Command::try_parse_from(flags).expect("good flags").config);
    let mesh = MeshScope {
        trust_domain: weft_proto::TrustDomain::default(),
        ranges: vec![("10.0.0.0".parse().expect("an address"), 8)],
        suffixes: Vec::new(),
        namespaces: Vec::new(),
        outside: OutsideScope::default(),
    };
    let telemetry = Telemetry::new(&config.telemetry);
    let (trigger, drain) = drain::channel();
    let process = Process {
        directory: Directory::fixed(mesh, inbound),
        mutual_tls: MutualTls::new(
            root.sidecar(account),
            config.timeouts.tls,
            telemetry.metrics.tls(),
        ),
        config,
        telemetry,
        drain,
        resolver: Resolver::from_system(),
        connections: Arc::default(),
        cut_off: Arc::default(),
        own_ports: Arc::new([]),
        itself: pool::Itself::default(),
    };
    (process, trigger)
}

/// What an application does with a request.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// Sends these bytes.
    Bytes(String),
    /// Nothing, and holds the connection.
    Silence,
    /// Closes the connection.
    Close,
}

impl Reply {
    /// A whole response with this status line and these further fields, each with its line's end.
    pub(super) fn status(status: &str, fields: &str, body: &str) -> Self {
        let length = body.len();
        Self::Bytes(format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\n\r\n{body}"))
    }
}

/// An application that answers by the number of the request, from zero.
#[derive(Clone)]
pub(super) struct Application {
    pub(super) address: SocketAddr,
    /// Requests, head and body.
    pub(super) asked: Rc<RefCell<Vec<String>>>,
    pub(super) connections: Rc<RefCell<usize>>,
}

impl Application {
    pub(super) async fn start(answer: impl Fn(usize) -> Reply + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (asked, connections) = (Rc::default(), Rc::default());
        let this = Self { address, asked, connections };
        let (serving, answer) = (this.clone(), Rc::new(answer));
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *serving.connections.borrow_mut() += 1;
                let (serving, answer) = (serving.clone(), answer.clone());
                tokio::task::spawn_local(async move { serving.serve(stream, &*answer).await });
            }
        });
        this
    }

    async fn serve(&self, mut stream: net::TcpStream, answer: &dyn Fn(usize) -> Reply) {
        let mut received = Vec::new();
        loop {
            while let Some(length) = whole(&received) {
                let rest = received.split_off(length);
                let request = String::from_utf8_lossy(&received).into_owned();
                received = rest;
                let number = self.asked.borrow().len();
                self.asked.borrow_mut().push(request);
                match answer(number) {
                    Reply::Bytes(bytes) => {
                        let _ = stream.write_all(bytes.as_bytes()).await;
                    }
                    Reply::Silence => std::future::pending().await,
                    Reply::Close => return,
                }
            }
            match stream.read_buf(&mut received).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
        }
    }

    pub(super) fn plain(&self) -> Endpoint {
        Endpoint::plain(self.address, Port::new(self.address.port()).expect("bound"))
    }

    pub(super) fn count(&self) -> usize {
        self.asked.borrow().len()
    }
}

/// How many bytes the first request has, once it is here whole.
fn whole(received: &[u8]) -> Option<usize> {
    let head = received.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&received[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = head + length.map_or(0, |length| length.parse::<usize>().expect("a number"));
    (received.len() >= length).then_some(length)
}
