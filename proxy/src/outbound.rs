//! A connection of the local application, on its way to others.
//!
//! Comes in: a socket, and where it was going as far as that is known: nothing (explicit HTTP proxy), a name
//! (bound upstream port, CONNECT tunnel) or an address (original destination). Goes out: HTTP requests through
//! the [`Exchange`], or opaque bytes to an endpoint. It never sends mesh traffic in plain because something
//! failed.

mod opaque_route;
mod outward;

use std::{rc::Rc, time::Duration};

use weft_proto::discovery::Protocol;

use crate::{
    balance::{Affinity, InFlight, Member},
    clock,
    destination::{Chosen, Found, Service},
    detect::Detected,
    discovery::Transport,
    drain::Drain,
    error::ProxyError,
    exchange::{Exchange, Origin, Outbound, carry},
    http::{Served, Takeover, h1, h2},
    io::Socket,
    peek::Peek,
    policy::{breaker::Verdict, retry},
    pool,
    reason::Reason,
    shared::Shared,
    tcp,
    telemetry::{Direction, TlsState},
    undeclared,
};

/// A client whose connection cannot be served has this long to show that it speaks HTTP, and so can be told why.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A connection that turned out to be HTTP, and what answers its requests.
struct Requests {
    http2: bool,
    exchange: Box<Exchange>,
}

impl Requests {
    /// Requests of this client's, in this version.
    fn new(shared: &Rc<Shared>, client: &Socket, version: &Detected, origin: Outbound) -> Self {
        let origin = Origin::Outbound(origin.from(client.peer()));
        let exchange = Box::new(Exchange::new(shared.clone(), origin));
        Self { http2: *version == Detected::Http2, exchange }
    }

    /// Serves those of HTTP/2 to the connection's end; what answers those of HTTP/1.
    async fn left_of(self, shared: &Shared, client: Socket) -> Option<Box<Exchange>> {
        if !self.http2 {
            return Some(self.exchange);
        }
        self.serve(shared, client, &shared.drain).await;
        None
    }

    /// Serves them to the connection's end.
    async fn serve(self, shared: &Shared, client: Socket, drain: &Drain) {
        let served = if self.http2 {
            Box::pin(h2::serve(client, &*self.exchange, &shared.http2, drain)).await
        } else {
            h1::serve(client, &*self.exchange, &shared.http1, drain).await
        };
        if let Served::Closed(reason) = served {
            shared.listeners.closed(Direction::Outbound, reason);
        }
    }
}

// Thousands of connections are idle between two requests of HTTP/1, and each takes the memory of all that it could become.
// So what comes before requests or instead of them is boxed, and gone when it is over; what is left is a small future, which
// is why the two below are no `async fn`s that would keep their arguments beside it.

/// Explicit mode: an HTTP proxy, whose requests name their destination.
pub fn explicit(shared: Rc<Shared>, socket: Socket) -> impl Future<Output = ()> {
    let asked = Box::pin(asked(shared.clone(), socket.clone()));
    async move {
        let Some(exchange) = asked.await else { return };
        let served = h1::serve(socket, &*exchange, &shared.http1, &shared.drain).await;
        match served {
            Served::Closed(reason) => shared.listeners.closed(Direction::Outbound, reason),
            Served::TakenOver(..) => Box::pin(tunnelled(&shared, served)).await,
        }
    }
}

/// A connection that was going to `name` (`HOST:PORT` or `IP:PORT`).
pub fn destined(shared: Rc<Shared>, socket: Socket, name: Box<str>) -> impl Future<Output = ()> {
    let led = Box::pin(lead(shared.clone(), socket.clone(), name));
    async move {
        let Some(exchange) = led.await else { return };
        let served = h1::serve(socket, &*exchange, &shared.http1, &shared.drain).await;
        match served {
            Served::Closed(reason) => shared.listeners.closed(Direction::Outbound, reason),
            Served::TakenOver(..) => Box::pin(spliced(&shared, served)).await,
        }
    }
}

/// Waits for what the client of the explicit proxy says first; what answers its requests of HTTP/1.
async fn asked(shared: Rc<Shared>, socket: Socket) -> Option<Box<Exchange>> {
    let requests = match first_bytes(&shared, &socket).await {
        // What is no HTTP is told so by the codec.
        Ok(Some(version)) => Requests::new(&shared, &socket, &version, Outbound::by_request()),
        Ok(None) => return None,
        Err(reason) => {
            refuse(&shared, reason, "no request came");
            return None;
        }
    };
    requests.left_of(&shared, socket).await
}

/// Leads a connection to where it was going; what answers its requests of HTTP/1, if that is what it carries.
async fn lead(shared: Rc<Shared>, socket: Socket, name: Box<str>) -> Option<Box<Exchange>> {
    let requests = match shared.destinations.find(&name).await {
        Ok(Found::Mesh(service)) => to_service(&shared, &socket, service).await,
        Ok(Found::Outside) => outward::serve(&shared, &socket, &name).await,
        Err(error) => {
            decline(&shared, socket.clone(), error).await;
            None
        }
    };
    requests?.left_of(&shared, socket).await
}

/// A server dialled for opaque bytes.
struct Dialled {
    connection: pool::Dialled,
    member: Rc<Member>,
    _in_flight: InFlight,
}

impl AsRef<Socket> for Dialled {
    fn as_ref(&self) -> &Socket {
        &self.connection.socket
    }
}

async fn to_service(
    shared: &Rc<Shared>,
    socket: &Socket,
    service: Rc<Service>,
) -> Option<Requests> {
    let protocol = service.snapshot().destination.protocol;
    let mut server_name = None;
    let planned = match protocol {
        Protocol::Unspecified | Protocol::Tcp | Protocol::Tls
            if opaque_route::is_by_server_name(&service) =>
        {
            let found = opaque_route::server_name(shared, socket, protocol).await;
            found.map(|(found, name)| {
                server_name = name;
                found
            })
        }
        Protocol::Unspecified => {
            let learned = service.what_is_learned();
            let client = undeclared::Client {
                socket,
                learned,
                wait: undeclared::Wait::Gap(undeclared::GAP),
                ahead: shared.config.timeouts.client_idle,
                drain: None,
            };
            let idle = shared.config.timeouts.tcp_idle;
            undeclared::find_out(client, idle, dial(shared, &service, socket, None)).await
        }
        Protocol::Tcp | Protocol::Tls => Ok(undeclared::Found::Opaque(None)),
        Protocol::Http1 | Protocol::Http2 | Protocol::Grpc => declared_http(shared, socket).await,
    };
    match planned {
        Ok(undeclared::Found::Http(version)) => {
            return Some(Requests::new(shared, socket, &version, Outbound::to(service)));
        }
        Ok(undeclared::Found::Opaque(dialled)) => {
            let dialled = match dialled {
                Some(dialled) => Ok(dialled),
                None => dial(shared, &service, socket, server_name.as_deref()).await,
            };
            opaque(shared, socket, &service, dialled).await;
        }
        Ok(undeclared::Found::Nothing) => {}
        Err(error) => decline(shared, socket.clone(), error).await,
    }
    None
}

/// Ends a connection that cannot be served: who speaks HTTP is answered with the reason and told to come back on
/// another connection, anybody else gets a reset.
async fn decline(shared: &Rc<Shared>, socket: Socket, error: ProxyError) {
    let mut client = Peek::new(&socket);
    let spoken = clock::timeout(LAST_WORD, client.decide(LAST_WORD)).await;
    drop(client);
    let Ok(Ok(Some(version @ (Detected::Http1 | Detected::Http2)))) = spoken else {
        refuse(shared, error.reason, &error.detail);
        return socket.abort();
    };
    let (last, drain) = shared.drain.with_own();
    last.start();
    let requests = Requests::new(shared, &socket, &version, Outbound::declined(error));
    requests.serve(shared, socket, &drain).await;
}

/// The service declares HTTP: its bytes are waited for, and nothing else is let through.
async fn declared_http(
    shared: &Rc<Shared>,
    socket: &Socket,
) -> Result<undeclared::Found<Dialled>, ProxyError> {
    match first_bytes(shared, socket).await {
        Ok(Some(version @ (Detected::Http1 | Detected::Http2))) => {
            Ok(undeclared::Found::Http(version))
        }
        Ok(None) => Ok(undeclared::Found::Nothing),
        Ok(Some(_)) => Err(ProxyError::new(
            Reason::ProtocolMismatch,
            "the service declares HTTP; these bytes are not",
        )),
        Err(reason) => Err(ProxyError::new(reason, "no request came")),
    }
}

/// What follows a request to the explicit proxy that took its connection over.
async fn tunnelled(shared: &Rc<Shared>, served: Served) {
    match served {
        Served::TakenOver(client, Takeover::Tunnel { destination }) => {
            destined(shared.clone(), client, destination.into()).await;
        }
        served => spliced(shared, served).await,
    }
}

/// What follows an Upgrade, or a tunnel to outside the mesh.
async fn spliced(shared: &Rc<Shared>, served: Served) {
    match served {
        Served::TakenOver(client, takeover) => carry::onward(shared, &client, takeover).await,
        Served::Closed(_) => {}
    }
}

/// Forwards opaque bytes to an endpoint, and counts the connection.
async fn opaque(
    shared: &Rc<Shared>,
    client: &Socket,
    service: &Rc<Service>,
    dialled: Result<Dialled, ProxyError>,
) {
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
        tracing::info!(service = %service.label, peer = server.peer.as_ref().map(|peer| tracing::field::display(&peer.identity)), "connection ended: the server was verified under a root that is no longer trusted");
        Reason::PeerUnverified
    };
    let forbidden = async {
        tokio::select! {
            reason = distrusted => reason,
            reason = outward::forbidden(shared, service) => reason,
        }
    };
    let idle = shared.config.timeouts.tcp_idle;
    let bounds = tcp::Bounds::new(idle, forbidden);
    let ended = tcp::splice_within(client, &server.socket, bounds).await;
    ended.note(&mut record);
    if let Some(error) = dialled.member.pool.explain(&server.socket) {
        record.failed(error.reason);
    }
}

/// Dials an endpoint for opaque bytes, and another one when that fails: of the service, or of the backend to which its
/// routes send a connection with this server name.
async fn dial(
    shared: &Rc<Shared>,
    service: &Rc<Service>,
    client: &Socket,
    server_name: Option<&str>,
) -> Result<Dialled, ProxyError> {
    service.touch(clock::now());
    let service = opaque_route::backend(shared, service, server_name).await?;
    let snapshot = service.snapshot();
    let plan = snapshot.destination.balancing.as_deref();
    let affinity = Affinity::of_connection(plan, || Some(client.peer()?.ip()));
    let mut tried = Vec::new();
    loop {
        let Chosen { member, trial } = service.choose(&snapshot, &tried, affinity.key())?;
        let in_flight = InFlight::enter(&member);
        let opened = member.pool.open_tcp().await;
        if let Some(trial) = trial {
            trial.judge(match &opened {
                Ok(_) => Some(Verdict::Success),
                Err(error) => Verdict::of_failure(error.reason),
            });
        }
        match opened {
            Ok(connection) => return Ok(Dialled { connection, member, _in_flight: in_flight }),
            Err(error) => {
                tried.push(member);
                // Who had no place in time lines up once: the places are the service's.
                if !error.elsewhere_may_succeed()
                    || tried.len() >= retry::MAX_ATTEMPTS as usize
                    || shared.is_draining()
                {
                    return Err(error);
                }
            }
        }
    }
}

/// What the client says first: it may be silent as long as between two requests, and then has the time of a
/// request's head. `None` when it says nothing at all.
async fn first_bytes(shared: &Rc<Shared>, socket: &Socket) -> Result<Option<Detected>, Reason> {
    let mut peek = Peek::new(socket);
    let timeouts = &shared.config.timeouts;
    if clock::timeout(timeouts.client_idle, peek.any()).await.is_err() {
        return Err(Reason::IdleTimeout);
    }
    Ok(peek.decide(timeouts.header).await.unwrap_or(None))
}

fn refuse(shared: &Rc<Shared>, reason: Reason, detail: &str) {
    tracing::info!(%reason, detail, "outbound connection refused");
    shared.listeners.refused(Direction::Outbound, reason);
}

#[cfg(test)]
mod tests;
