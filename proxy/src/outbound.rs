//! A connection of the local application, on its way to others.
//!
//! Comes in: a socket, and where it was going as far as that is known: nothing (explicit HTTP proxy), a name
//! (bound upstream port, CONNECT tunnel) or an address (original destination). Goes out: HTTP requests through
//! the [`Exchange`], or opaque bytes to an endpoint. It never sends mesh traffic in plain because something
//! failed.

use std::{rc::Rc, time::Duration};

use weft_proto::discovery::Protocol;

use crate::{
    balance::{InFlight, Member},
    clock,
    destination::{Found, Learned, Service},
    detect::Detected,
    discovery::Transport,
    drain::Drain,
    error::ProxyError,
    exchange::{Exchange, Origin, Outbound},
    http::{Served, Takeover, h1, h2},
    io::Socket,
    outside,
    peek::Peek,
    policy::retry,
    pool,
    reason::Reason,
    shared::Shared,
    tcp,
    telemetry::{Direction, TlsState},
};

/// A client that has said nothing for this long may be waiting for the server: the server is dialled, and what
/// the connection is stays open until the first byte from either side.
pub const SILENCE: Duration = Duration::from_millis(5);

/// The same where clients were seen to speak first: a connection opened ahead of its first request costs the
/// server nothing, and one that does wait for the server is not lost.
const KNOWN_CLIENT_SILENCE: Duration = Duration::from_secs(1);

/// A client whose connection cannot be served has this long to show that it speaks HTTP, and so can be told why.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Explicit mode: an HTTP proxy, whose requests name their destination.
pub async fn explicit(shared: Rc<Shared>, socket: Socket) {
    let version = match first_bytes(&shared, &socket).await {
        Ok(Some(Detected::Http2)) => Detected::Http2,
        // What is no HTTP is told so by the codec.
        Ok(Some(_)) => Detected::Http1,
        Ok(None) => return,
        Err(reason) => return refuse(&shared, reason, "no request came"),
    };
    match http(&shared, socket, &version, Outbound::by_request()).await {
        Served::Closed(_) => {}
        Served::TakenOver(client, Takeover::Splice(server)) => {
            // An Upgrade, or a tunnel to outside the mesh.
            tcp::splice(&client, &server, shared.config.timeouts.tcp_idle).await;
        }
        Served::TakenOver(client, Takeover::Tunnel { destination }) => {
            destined(shared, client, destination).await;
        }
    }
}

/// A connection that was going to `name` (`HOST:PORT` or `IP:PORT`).
pub async fn destined(shared: Rc<Shared>, socket: Socket, name: String) {
    match shared.destinations.find(&name).await {
        Ok(Found::Mesh(service)) => to_service(&shared, socket, service).await,
        Ok(Found::Outside) => to_outside(&shared, socket, &name).await,
        Err(error) => decline(&shared, socket, error).await,
    }
}

/// What a connection to a service turned out to be.
enum Plan {
    /// HTTP requests, in this version.
    Http(Detected),
    /// Opaque bytes; the server is dialled already where it was needed to find out.
    Opaque(Option<Dialled>),
    /// The client ended without a byte.
    Nothing,
}

/// A server dialled for opaque bytes.
struct Dialled {
    connection: pool::Dialled,
    member: Rc<Member>,
    _in_flight: InFlight,
}

async fn to_service(shared: &Rc<Shared>, socket: Socket, service: Rc<Service>) {
    let planned = match service.snapshot().destination.protocol {
        Protocol::Unspecified => undeclared(shared, &socket, &service).await,
        Protocol::Tcp | Protocol::Tls => Ok(Plan::Opaque(None)),
        Protocol::Http1 | Protocol::Http2 | Protocol::Grpc => declared_http(shared, &socket).await,
    };
    match planned {
        Ok(Plan::Http(version)) => {
            let origin = Outbound::to(service);
            if let Served::TakenOver(client, Takeover::Splice(server)) =
                http(shared, socket, &version, origin).await
            {
                tcp::splice(&client, &server, shared.config.timeouts.tcp_idle).await;
            }
        }
        Ok(Plan::Opaque(dialled)) => opaque(shared, &socket, &service, dialled).await,
        Ok(Plan::Nothing) => {}
        Err(error) => decline(shared, socket, error).await,
    }
}

/// Ends a connection that cannot be served: who speaks HTTP is answered with the reason and told to come back on
/// another connection, anybody else gets a reset.
async fn decline(shared: &Rc<Shared>, socket: Socket, error: ProxyError) {
    let mut client = Peek::new(&socket);
    let spoken = clock::timeout(LAST_WORD, client.decide()).await;
    drop(client);
    let Ok(Ok(Some(version @ (Detected::Http1 | Detected::Http2)))) = spoken else {
        refuse(shared, error.reason, &error.detail);
        return socket.abort();
    };
    let (last, drain) = shared.drain.with_own();
    last.start();
    let origin = Origin::Outbound(Outbound::declined(error));
    serve(shared, socket, &version, origin, &drain).await;
}

/// The service declares HTTP: its bytes are waited for, and nothing else is let through.
async fn declared_http(shared: &Rc<Shared>, socket: &Socket) -> Result<Plan, ProxyError> {
    match first_bytes(shared, socket).await {
        Ok(Some(version @ (Detected::Http1 | Detected::Http2))) => Ok(Plan::Http(version)),
        Ok(None) => Ok(Plan::Nothing),
        Ok(Some(_)) => Err(ProxyError::new(
            Reason::ProtocolMismatch,
            "the service declares HTTP; these bytes are not",
        )),
        Err(reason) => Err(ProxyError::new(reason, "no request came")),
    }
}

/// The protocol is to be found out. Whoever speaks first decides; a silent client costs no timeout, because
/// the server is dialled meanwhile.
async fn undeclared(
    shared: &Rc<Shared>,
    socket: &Socket,
    service: &Rc<Service>,
) -> Result<Plan, ProxyError> {
    let mut client = Peek::new(socket);
    let silence = match service.learned.get() {
        Learned::Nothing => SILENCE,
        Learned::ClientFirst => KNOWN_CLIENT_SILENCE,
        Learned::ServerFirst => Duration::ZERO,
    };
    if !silence.is_zero()
        && let Ok(decided) = clock::timeout(silence, client.decide()).await
    {
        service.learned.set(Learned::ClientFirst);
        return Ok(plan(decided, None));
    }
    let dialled = dial(shared, service).await?;
    let server_socket = dialled.connection.socket.clone();
    let mut server = Peek::new(&server_socket);
    let limit = shared.config.timeouts.tcp_idle;
    tokio::select! {
        biased;
        decided = client.decide() => Ok(plan(decided, Some(dialled))),
        spoke = server.any() => {
            if let Ok(true) = spoke {
                service.learned.set(Learned::ServerFirst);
            }
            Ok(Plan::Opaque(Some(dialled)))
        }
        () = clock::sleep(limit), if !limit.is_zero() => {
            Err(ProxyError::new(Reason::IdleTimeout, "neither side said anything"))
        }
    }
}

fn plan(decided: std::io::Result<Option<Detected>>, dialled: Option<Dialled>) -> Plan {
    match decided {
        Ok(Some(version @ (Detected::Http1 | Detected::Http2))) => Plan::Http(version),
        Ok(Some(Detected::Tls(_) | Detected::Opaque | Detected::NeedMore)) => Plan::Opaque(dialled),
        // A client that only half-closed may still want what the server says.
        Ok(None) if dialled.is_some() => Plan::Opaque(dialled),
        Ok(None) | Err(_) => Plan::Nothing,
    }
}

async fn http(shared: &Rc<Shared>, socket: Socket, version: &Detected, origin: Outbound) -> Served {
    serve(shared, socket, version, Origin::Outbound(origin), &shared.drain).await
}

async fn serve(
    shared: &Rc<Shared>,
    socket: Socket,
    version: &Detected,
    origin: Origin,
    drain: &Drain,
) -> Served {
    let exchange = Exchange::new(shared.clone(), origin);
    if *version == Detected::Http2 {
        h2::serve(socket, &exchange, &shared.http2, drain).await
    } else {
        h1::serve(socket, &exchange, &shared.http1, drain).await
    }
}

/// Forwards opaque bytes to an endpoint, and counts the connection.
async fn opaque(
    shared: &Rc<Shared>,
    client: &Socket,
    service: &Rc<Service>,
    dialled: Option<Dialled>,
) {
    let dialled = match dialled {
        Some(dialled) => Ok(dialled),
        None => dial(shared, service).await,
    };
    let dialled = match dialled {
        Ok(dialled) => dialled,
        Err(error) => {
            service.metrics.connection(TlsState::Plain).failed(error.reason);
            tracing::info!(service = %service.label, reason = %error.reason, detail = %error.detail, "connection refused");
            return client.abort();
        }
    };
    let tls = match dialled.member.endpoint.transport {
        Transport::Mesh(_) => TlsState::Mutual,
        Transport::Plain => TlsState::Plain,
    };
    let mut record = service.metrics.connection(tls);
    let server = &dialled.connection;
    let distrusted = async {
        shared.destinations.dialer().distrusted(server.peer.as_ref()).await;
        tracing::info!(service = %service.label, peer = ?server.peer.as_ref().map(|peer| &peer.identity), "connection ended: the server was verified under a root that is no longer trusted");
        Reason::PeerUnverified
    };
    let idle = shared.config.timeouts.tcp_idle;
    let ended = tcp::splice_until(client, &server.socket, idle, distrusted).await;
    ended.note(&mut record);
}

/// Dials an endpoint for opaque bytes, and another one when that fails.
async fn dial(shared: &Rc<Shared>, service: &Rc<Service>) -> Result<Dialled, ProxyError> {
    let snapshot = service.snapshot();
    service.touch(clock::now());
    let mut tried = Vec::new();
    loop {
        let Some(member) = service.pick(&snapshot, &tried) else {
            return Err(ProxyError::new(
                Reason::NoEndpoints,
                format!("{} has no ready endpoint", service.label),
            ));
        };
        let in_flight = InFlight::enter(&member);
        match member.pool.open_tcp().await {
            Ok(connection) => return Ok(Dialled { connection, member, _in_flight: in_flight }),
            Err(error) => {
                tried.push(member);
                if tried.len() >= retry::MAX_ATTEMPTS as usize || shared.is_draining() {
                    return Err(error);
                }
            }
        }
    }
}

/// Outside the mesh: passed through at once.
async fn to_outside(shared: &Rc<Shared>, client: Socket, name: &str) {
    match outside::connect(shared, name).await {
        Ok(server) => {
            let mut record = shared.outside.connection(TlsState::Plain);
            let ended = tcp::splice(&client, &server, shared.config.timeouts.tcp_idle).await;
            ended.note(&mut record);
        }
        Err(error) => {
            refuse(shared, error.reason, &error.detail);
            client.abort();
        }
    }
}

/// What the client says first, within the time for a request's head; `None` when it says nothing at all.
async fn first_bytes(shared: &Rc<Shared>, socket: &Socket) -> Result<Option<Detected>, Reason> {
    let mut peek = Peek::new(socket);
    let limit = shared.config.timeouts.client_idle;
    match clock::timeout(limit, peek.decide()).await {
        Ok(Ok(decided)) => Ok(decided),
        Ok(Err(_)) => Ok(None),
        Err(_) => Err(Reason::HeaderTimeout),
    }
}

fn refuse(shared: &Rc<Shared>, reason: Reason, detail: &str) {
    tracing::info!(%reason, detail, "outbound connection refused");
    shared.listeners.refused(Direction::Outbound, reason);
}
