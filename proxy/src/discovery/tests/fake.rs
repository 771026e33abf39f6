//! A control plane in this process, over in-memory connections, so that tests run on paused time: the test
//! itself says what it answers.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{
    io::DuplexStream,
    sync::{Mutex, mpsc},
    task::JoinSet,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use weft_proto::discovery::{
    self as wire, ControlMessage, ProxyMessage, ResourceKey, ResourceKind, Update, control_message,
    discovery_server, proxy_message::Kind, target::Found, update::Body,
};

use super::super::{Client, Dial, Directory, Lookup, Settings};
use crate::telemetry::Metrics;

/// Far longer, on the paused clock, than anything that discovery waits for.
const PATIENCE: Duration = Duration::from_secs(600);

type Outgoing = mpsc::UnboundedSender<Result<ControlMessage, Status>>;

pub(super) struct FakeControlPlane {
    streams: Mutex<mpsc::UnboundedReceiver<FakeStream>>,
    pub(super) dial: Dial,
    up: Arc<AtomicBool>,
    _server: JoinSet<()>,
}

struct Service(mpsc::UnboundedSender<FakeStream>);

#[tonic::async_trait]
impl discovery_server::Discovery for Service {
    type ConnectStream = UnboundedReceiverStream<Result<ControlMessage, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<ProxyMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (outgoing, messages) = mpsc::unbounded_channel();
        let stream = FakeStream { incoming: request.into_inner(), outgoing };
        self.0.send(stream).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(UnboundedReceiverStream::new(messages)))
    }
}

impl FakeControlPlane {
    pub(super) fn start() -> Self {
        let (stream_sender, streams) = mpsc::unbounded_channel();
        let (connections, incoming) = mpsc::unbounded_channel::<io::Result<DuplexStream>>();
        let mut server = JoinSet::new();
        server.spawn(async move {
            tonic::transport::Server::builder()
                .add_service(discovery_server::DiscoveryServer::new(Service(stream_sender)))
                .serve_with_incoming(UnboundedReceiverStream::new(incoming))
                .await
                .expect("the fake serves");
        });
        let up = Arc::new(AtomicBool::new(true));
        let dial = dial(connections, Arc::clone(&up));
        Self { streams: Mutex::new(streams), dial, up, _server: server }
    }

    /// Whether new connections are answered.
    pub(super) fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }

    pub(super) async fn accept(&self) -> FakeStream {
        let mut streams = self.streams.lock().await;
        patiently(streams.recv()).await.expect("the server runs")
    }
}

fn dial(connections: mpsc::UnboundedSender<io::Result<DuplexStream>>, up: Arc<AtomicBool>) -> Dial {
    Arc::new(move || {
        let (connections, up) = (connections.clone(), Arc::clone(&up));
        let connector = tower::service_fn(move |_| {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            let answered = up.load(Ordering::Relaxed) && connections.send(Ok(theirs)).is_ok();
            std::future::ready(if answered {
                Ok(TokioIo::new(ours))
            } else {
                Err(io::Error::from(io::ErrorKind::ConnectionRefused))
            })
        });
        tonic::transport::Endpoint::from_static("http://control-plane")
            .connect_with_connector_lazy(connector)
    })
}

/// Waits long on the paused clock, and fails instead of waiting for ever.
pub(super) async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens")
}

pub(super) struct FakeStream {
    incoming: Streaming<ProxyMessage>,
    outgoing: Outgoing,
}

impl FakeStream {
    pub(super) async fn next(&mut self) -> Kind {
        let message = patiently(self.incoming.message()).await.expect("the stream is open");
        message.expect("the stream goes on").kind.expect("a kind")
    }

    pub(super) async fn hello(&mut self) -> wire::Hello {
        match self.next().await {
            Kind::Hello(hello) => hello,
            other => panic!("not Hello: {other:?}"),
        }
    }

    /// The keys of the next message, which must be `Subscribe`, as "KIND NAME".
    pub(super) async fn subscribed(&mut self) -> Vec<String> {
        match self.next().await {
            Kind::Subscribe(subscribe) => sorted(&subscribe.keys),
            other => panic!("not Subscribe: {other:?}"),
        }
    }

    pub(super) async fn unsubscribed(&mut self) -> Vec<String> {
        match self.next().await {
            Kind::Unsubscribe(unsubscribe) => sorted(&unsubscribe.keys),
            other => panic!("not Unsubscribe: {other:?}"),
        }
    }

    /// The version acknowledged by the next message, which must be `Ack`.
    pub(super) async fn acked(&mut self) -> String {
        match self.next().await {
            Kind::Ack(ack) => ack.version,
            other => panic!("not Ack: {other:?}"),
        }
    }

    /// The reason of the next message, which must be `Nack`.
    pub(super) async fn nacked(&mut self) -> String {
        match self.next().await {
            Kind::Nack(nack) => nack.reason,
            other => panic!("not Nack: {other:?}"),
        }
    }

    pub(super) fn send(&self, kind: control_message::Kind) {
        self.outgoing.send(Ok(ControlMessage { kind: Some(kind) })).expect("the stream is open");
    }

    pub(super) fn fail(&self, status: Status) {
        self.outgoing.send(Err(status)).expect("the stream is open");
    }

    pub(super) fn update(&self, update: Update) {
        self.send(control_message::Kind::Update(update));
    }

    /// Answers the eager set: the namespaces shop and payments, and nothing inbound.
    pub(super) async fn answer_eager_set(&mut self) {
        self.update(eager(ResourceKind::Mesh, Body::Mesh(mesh())));
        self.update(eager(ResourceKind::Inbound, Body::Inbound(wire::Inbound::default())));
        self.acked().await;
        self.acked().await;
    }
}

pub(super) fn mesh() -> wire::Mesh {
    wire::Mesh {
        trust_domain: "weft.local".to_owned(),
        address_ranges: vec!["10.0.0.0/8".to_owned()],
        name_suffixes: vec!["svc.cluster.local".to_owned()],
        namespaces: vec!["shop".to_owned(), "payments".to_owned()],
        ..Default::default()
    }
}

pub(super) fn eager(kind: ResourceKind, body: Body) -> Update {
    Update {
        key: Some(ResourceKey { kind: kind.into(), name: String::new() }),
        version: format!("{kind:?}-1"),
        body: Some(body),
        endpoints: None,
    }
}

pub(super) fn target(name: &str, found: Found) -> Update {
    Update {
        key: Some(ResourceKey { kind: ResourceKind::Target.into(), name: name.to_owned() }),
        version: format!("target-{name}"),
        body: Some(Body::Target(wire::Target { found: Some(found) })),
        endpoints: None,
    }
}

/// A whole service, "NAMESPACE/NAME:PORT", with these endpoints.
pub(super) fn service(name: &str, version: &str, endpoints: Vec<wire::Endpoint>) -> Update {
    let parsed: weft_proto::ServicePort = name.parse().expect("a service port");
    let body = Body::Service(wire::Service {
        namespace: parsed.service.namespace.to_string(),
        name: parsed.service.name.to_string(),
        port: parsed.port.into(),
        port_name: String::new(),
        protocol: wire::Protocol::Http1.into(),
        ..Default::default()
    });
    let delta = wire::EndpointsDelta { reset: true, upserted: endpoints, removed: Vec::new() };
    Update { body: Some(body), ..endpoints_of(name, version, delta) }
}

/// Changed endpoints alone.
pub(super) fn endpoints_of(name: &str, version: &str, delta: wire::EndpointsDelta) -> Update {
    Update {
        key: Some(ResourceKey { kind: ResourceKind::Service.into(), name: name.to_owned() }),
        version: version.to_owned(),
        body: None,
        endpoints: Some(delta),
    }
}

pub(super) fn endpoint(id: &str, address: &str) -> wire::Endpoint {
    wire::Endpoint {
        id: id.to_owned(),
        address: address.to_owned(),
        app_port: 8080,
        meshed: true,
        identities: vec!["spiffe://weft.local/ns/shop/sa/cart".to_owned()],
        ..wire::Endpoint::default()
    }
}

fn sorted(keys: &[ResourceKey]) -> Vec<String> {
    let mut names: Vec<_> = keys
        .iter()
        .map(|key| format!("{:?} {}", key.kind(), key.name).trim_end().to_owned())
        .collect();
    names.sort();
    names
}

pub(super) fn settings() -> Settings {
    Settings {
        workload: "shop/web".parse().expect("a workload"),
        instance: "0".to_owned(),
        incarnation: "1".to_owned(),
        version: "test".to_owned(),
        zone: "a".to_owned(),
        admin_address: None,
        interception: wire::Interception::Explicit,
        registration: None,
        lookup: Lookup::by_system(Arc::default()),
    }
}

/// A proxy's discovery under test, stopped when dropped.
pub(super) struct Proxy {
    pub(super) directory: Directory,
    pub(super) metrics: Metrics,
    _client: JoinSet<()>,
}

impl Proxy {
    pub(super) fn start(control_plane: &FakeControlPlane, settings: Settings) -> Self {
        let metrics = Metrics::new();
        let dial = Arc::clone(&control_plane.dial);
        let (directory, client) = Directory::connect(settings, dial, &metrics);
        let mut tasks = JoinSet::new();
        tasks.spawn(Client::run(client));
        Self { directory, metrics, _client: tasks }
    }

    /// A proxy whose eager set is answered, with its stream.
    pub(super) async fn ready(control_plane: &FakeControlPlane) -> (Self, FakeStream) {
        let proxy = Self::start(control_plane, settings());
        let mut stream = control_plane.accept().await;
        stream.hello().await;
        stream.subscribed().await;
        stream.answer_eager_set().await;
        (proxy, stream)
    }
}
