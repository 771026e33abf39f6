//! A connection from another workload, on its way to the local application.
//!
//! Comes in: a socket, and its original destination in transparent mode. The facts are collected first (mesh
//! TLS or not, which port, who calls), then the port's policy decides: the client's ALPN never does. Goes out:
//! HTTP through the [`Exchange`], or opaque bytes. It serves only ports that discovery lists for this workload, or
//! says how to treat without a list; of the latter, never this proxy's own, and none that a connection was not
//! going to. It ends an open connection that a change of policy or of the trusted roots no longer allows. Access
//! policy decides here about opaque bytes; about requests the exchange asks it, one by one.

mod entry;
mod late;
mod live;
mod opaque;
mod open;
mod treatment;

use std::{net::SocketAddr, pin::pin, rc::Rc};

use weft_proto::{MeshServerName, Port};

pub use live::LivePort;

use crate::{
    clock,
    config::Interception,
    destination::Service,
    detect::Detected,
    discovery::{InboundPort, InboundPorts},
    drain::Drain,
    error::ProxyError,
    exchange::{Exchange, Inbound, Origin, Requests},
    http::{Served, h1, h2},
    io::Socket,
    peek::Peek,
    policy::authz::Source,
    reason::Reason,
    seldom::Seldom,
    shared::Shared,
    telemetry::Direction,
    tls::{Alpn, Peer},
    undeclared::{self, Found},
};
use open::{Carries, Open};

/// All that is known of a connection before it is served.
struct Facts {
    socket: Socket,
    port: Port,
    policy: InboundPort,
    application: Rc<Service>,
    /// The verified caller; `None` for plaintext.
    peer: Option<Peer>,
    /// What mesh TLS agreed on.
    alpn: Option<Alpn>,
    /// Nothing had come when the facts were collected: it may be mesh TLS all the same, whose first bytes are late.
    silent: bool,
    /// Where the connection was going.
    original: Option<SocketAddr>,
    /// How it came here.
    way: Way,
}

impl Facts {
    /// Who calls, for access policy.
    fn source(&self) -> Source<'_> {
        source(self.peer.as_ref(), &self.socket)
    }

    /// The same, by the policy as it stands now; whether that is another.
    fn refresh(&mut self, shared: &Shared) -> bool {
        let now = self.way.policy(shared, self.port).filter(|port| *port != self.policy);
        let Some(policy) = now else { return false };
        self.application = shared.application(self.port, &policy, self.way.application());
        self.policy = policy;
        true
    }
}

fn source<'a>(peer: Option<&'a Peer>, socket: &Socket) -> Source<'a> {
    Source {
        identity: peer.map(|peer| &peer.identity),
        address: socket.peer().map(|address| address.ip()),
    }
}

/// Serves one accepted connection to its end.
pub async fn serve(shared: Rc<Shared>, socket: Socket, original: Option<SocketAddr>) {
    let peer_address = socket.peer();
    match admit(&shared, socket, original).await {
        Ok(Some(facts)) => treat(&shared, facts).await,
        Ok(None) => {}
        Err(error) => refuse(&shared, peer_address, error.reason, &error.detail),
    }
}

/// Collects the facts, and refuses what the port's policy does not allow. `None` when the client left
/// without a byte.
async fn admit(
    shared: &Rc<Shared>,
    socket: Socket,
    original: Option<SocketAddr>,
) -> Result<Option<Facts>, ProxyError> {
    let patience = shared.config.timeouts.header;
    let mut peek = Peek::new(&socket);
    let may_be_silent = may_be_silent(shared, original);
    let limit = if may_be_silent { undeclared::SILENCE } else { patience };
    let first = match clock::timeout(limit, peek.any()).await {
        Ok(Ok(true)) if !peek.may_be_tls() => Some(Ok(Some(Detected::NeedMore))),
        Ok(Ok(_)) => Some(peek.decide(patience).await),
        Ok(Err(error)) => Some(Err(error)),
        Err(_) if may_be_silent => None,
        Err(_) => return Err(ProxyError::new(Reason::HeaderTimeout, "nothing was received")),
    };
    drop(peek);
    let silent = first.is_none();
    let first = first.unwrap_or(Ok(Some(Detected::NeedMore)));
    match first {
        Ok(Some(Detected::Tls(hello)))
            if hello.server_name.as_deref().is_some_and(MeshServerName::is_mesh) =>
        {
            mesh(shared, socket, original).await.map(Some)
        }
        Ok(Some(_)) => plain(shared, socket, original).map(|facts| Some(Facts { silent, ..facts })),
        Ok(None) | Err(_) => Ok(None),
    }
}

/// Whether a connection on which nothing has come may be served all the same: one of a permissive port, whose client may
/// wait for the server to speak first, or has opened it ahead of its first request.
fn may_be_silent(shared: &Rc<Shared>, original: Option<SocketAddr>) -> bool {
    let original = original.filter(|original| !is_own(shared, *original));
    let port = match original {
        Some(original) => Port::new(original.port()),
        None => shared.only_permissive_port(),
    };
    let policy = port.and_then(|port| shared.inbound_port(port));
    policy.is_some_and(|policy| {
        // At this proxy's own port sidecars are expected, and a server that speaks first would be too early for them.
        !policy.strict && (original.is_some() || treatment::is_http(policy.protocol))
    })
}

/// Mutual TLS from another sidecar.
async fn mesh(
    shared: &Rc<Shared>,
    socket: Socket,
    original: Option<SocketAddr>,
) -> Result<Facts, ProxyError> {
    let accepted = shared.mutual_tls.accept(socket).await;
    let accepted = accepted.map_err(|refused| ProxyError::new(refused.reason, refused.detail))?;
    let port = accepted.server_name.port;
    let caller = &accepted.peer.identity;
    // With an original destination, its port must be the one named, unless this proxy itself was dialled.
    if let Some(original) =
        original.filter(|original| original.port() != port.number() && !is_own(shared, *original))
    {
        let detail = format!("{caller} dialled {original} and named port {port}");
        return Err(ProxyError::new(Reason::PortNotServed, detail));
    }
    let way = Way::of(shared, &accepted.socket, port, original);
    let policy = way.policy(shared, port).ok_or_else(|| {
        let detail = format!(
            "{caller} asked for port {port}, which {} does not serve",
            shared.config.workload
        );
        ProxyError::new(Reason::PortNotServed, detail)
    })?;
    let application = shared.application(port, &policy, way.application());
    Ok(Facts {
        socket: accepted.socket,
        port,
        policy,
        application,
        peer: Some(accepted.peer),
        alpn: accepted.alpn,
        silent: false,
        original,
        way,
    })
}

/// Anything else: allowed on permissive ports only.
fn plain(
    shared: &Rc<Shared>,
    socket: Socket,
    original: Option<SocketAddr>,
) -> Result<Facts, ProxyError> {
    let original = original.filter(|original| !is_own(shared, *original));
    let port = match original {
        Some(original) => Port::new(original.port()),
        None => shared.only_permissive_port(),
    };
    let strict = |port: Option<Port>| {
        let port = port.map_or_else(|| "this workload".to_owned(), |port| format!("port {port}"));
        ProxyError::new(
            Reason::StrictRequired,
            format!("{port} takes mutual TLS from the mesh only"),
        )
    };
    let port = port.ok_or_else(|| strict(None))?;
    let way = Way::of(shared, &socket, port, original);
    let policy = way.policy(shared, port).ok_or_else(|| {
        let detail = format!("{} does not serve port {port}", shared.config.workload);
        ProxyError::new(Reason::PortNotServed, detail)
    })?;
    if policy.strict {
        return Err(strict(Some(port)));
    }
    let application = shared.application(port, &policy, way.application());
    let (peer, alpn, silent) = (None, None, false);
    Ok(Facts { socket, port, policy, application, peer, alpn, silent, original, way })
}

fn is_own(shared: &Shared, address: SocketAddr) -> bool {
    Port::new(address.port()).is_some_and(|port| shared.is_own_port(port))
}

/// How a caller came here, and with it where the application is to be reached: at the address
/// that was dialled, so that what listens on loopback alone stays unreachable from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By way of the application's own port.
    Redirected(SocketAddr),
    /// At this proxy's port, by this very instance (see [`pool::itself`]).
    ByItself(SocketAddr),
    /// At this proxy's port; the address is known where the host's traffic is intercepted.
    Direct(Option<SocketAddr>),
}

impl Way {
    fn of(shared: &Shared, socket: &Socket, port: Port, original: Option<SocketAddr>) -> Self {
        if let Some(original) = original.filter(|original| !is_own(shared, *original)) {
            return Self::Redirected(original);
        }
        let intercepted = shared.config.interception == Interception::Transparent;
        let local = socket.local().map(|local| local.ip());
        match local.filter(|local| intercepted && !local.is_loopback()) {
            Some(local) => {
                let application = SocketAddr::new(local, port.number());
                let by_itself = socket.peer().is_some_and(|peer| peer.ip() == local);
                if by_itself {
                    Self::ByItself(application)
                } else {
                    Self::Direct(Some(application))
                }
            }
            None => Self::Direct(None),
        }
    }

    /// The policy of a port as it stands now, for who came this way.
    fn policy(self, shared: &Shared, port: Port) -> Option<InboundPort> {
        match self {
            Self::Redirected(_) | Self::ByItself(_) => shared.inbound_port(port),
            Self::Direct(_) => shared.listed_port(port),
        }
    }

    /// The same, of these ports.
    fn find(self, ports: &InboundPorts, port: Port) -> Option<&InboundPort> {
        match self {
            Self::Redirected(_) | Self::ByItself(_) => ports.port(port),
            Self::Direct(_) => ports.ports.get(&port),
        }
    }

    const fn application(self) -> Option<SocketAddr> {
        match self {
            Self::Redirected(application) | Self::ByItself(application) => Some(application),
            Self::Direct(application) => application,
        }
    }
}

async fn treat(shared: &Rc<Shared>, mut facts: Facts) {
    let peer_address = facts.socket.peer();
    let mut found = treatment::find(shared, &mut facts).await;
    if facts.silent && late::speaks_mesh(&facts.socket).await {
        // What was dialled to find out was dialled for a stranger.
        drop(found);
        // Boxed: it happens seldom.
        facts = match Box::pin(mesh(shared, facts.socket, facts.original)).await {
            Ok(facts) => facts,
            Err(error) => return refuse(shared, peer_address, error.reason, &error.detail),
        };
        found = Box::pin(treatment::find(shared, &mut facts)).await;
    }
    match found {
        Ok(Found::Http(version)) => http(shared, facts, version == Detected::Http2).await,
        Ok(Found::Opaque(server)) => opaque::serve(shared, facts, server).await,
        Ok(Found::Nothing) => {}
        Err(error) => {
            refuse(shared, peer_address, error.reason, &error.detail);
            facts.socket.abort();
        }
    }
}

async fn http(shared: &Rc<Shared>, facts: Facts, http2: bool) {
    let (leave, drain) = shared.drain.with_own();
    let (socket, remote) = (facts.socket.clone(), facts.socket.peer());
    let (port, way, peer) = (facts.port, facts.way, facts.peer.clone());
    let identity = peer.as_ref().map(|peer| peer.identity.clone());
    let live = LivePort::new(shared, port, facts.policy.clone());
    let requests = Requests::new(live, identity, remote, shared.admission.clone());
    let carries = Carries::Requests(requests.clone());
    let open =
        Open { port, way, source: source(peer.as_ref(), &socket), peer: peer.as_ref(), carries };
    let forbidden = pin!(open.forbidden(shared, &leave));
    tokio::select! {
        biased;
        error = Seldom::new(forbidden) => {
            socket.abort();
            refuse(shared, remote, error.reason, &error.detail);
        }
        () = exchanges(shared, facts, requests, http2, &drain) => {}
    }
}

/// Serves requests until the connection ends, or becomes something else.
async fn exchanges(
    shared: &Rc<Shared>,
    facts: Facts,
    requests: Requests,
    http2: bool,
    drain: &Drain,
) {
    let origin = Origin::Inbound(Inbound {
        requests,
        application: facts.application,
        side_headers: facts.alpn == Some(Alpn::WeftHttp2),
    });
    let exchange = Exchange::new(shared.clone(), origin);
    let served = if http2 {
        h2::serve(facts.socket, &exchange, &shared.http2, drain).await
    } else {
        h1::serve(facts.socket, &exchange, &shared.http1, drain).await
    };
    match served {
        Served::Closed(reason) => shared.listeners.closed(Direction::Inbound, reason),
        Served::TakenOver(client, takeover) => exchange.go_on(&client, takeover).await,
    }
}

fn refuse(shared: &Rc<Shared>, peer: Option<SocketAddr>, reason: Reason, detail: &str) {
    let peer = peer.map(tracing::field::display);
    tracing::info!(%reason, detail, peer, "inbound connection refused");
    shared.listeners.refused(Direction::Inbound, reason);
}

#[cfg(test)]
mod tests;
