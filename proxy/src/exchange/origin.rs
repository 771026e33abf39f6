//! Whose requests a connection carries: the local application's to others, or others' to the local
//! application. The two differ in what is trusted and in where a request goes; all else is shared.

use std::{
    borrow::Cow,
    cell::RefCell,
    net::{IpAddr, SocketAddr},
    rc::Rc,
};

use http::uri::Authority;
use weft_proto::{SpiffeId, discovery::Protocol};

use crate::{
    clock,
    destination::{Found, Service, authority},
    discovery::Transport,
    error::ProxyError,
    http::{RequestHead, Response, ResponseHead, Takeover, forward, respond::Audience, side},
    outside,
    reason::Reason,
    shared::Shared,
    telemetry::{Direction, TlsState},
};

use super::{
    passage::{Passage, Requests},
    record::{Held, Record},
};

/// Whose requests a connection carries.
#[derive(Debug)]
pub enum Origin {
    /// The local application's.
    Outbound(Outbound),
    /// Other workloads', for the local application.
    Inbound(Inbound),
}

/// A connection of the local application.
#[derive(Debug)]
pub struct Outbound {
    choice: Choice,
    /// Where the application's connection comes from.
    source: Option<IpAddr>,
}

/// How the destination of the application's requests is chosen.
#[derive(Debug)]
enum Choice {
    /// The connection was going somewhere (original destination, bound upstream port, CONNECT): each request
    /// goes there, whatever its `Host`.
    Connection(Rc<Service>),
    /// Explicit mode: each request names its destination. The last one is remembered: most connections ask
    /// for one host only.
    Request(Remembered),
    /// The connection was going to an address outside the mesh, where registered hosts may be: each request goes to the
    /// registered host that it names, or to the address.
    Address(Box<str>, Remembered),
    /// The connection's destination cannot be served: each request hears why.
    Declined(Reason, Cow<'static, str>),
}

/// Boxed: most connections go to one destination, and remember nothing.
type Remembered = RefCell<Option<Box<Last>>>;

/// What the last request named, and what that stands for.
#[derive(Debug)]
struct Last {
    named: Authority,
    /// Where the authority has no port, the scheme says it.
    default_port: u16,
    service: Rc<Service>,
}

/// A connection from another workload.
#[derive(Debug)]
pub struct Inbound {
    /// The requests under way on this connection, and what they are judged by.
    pub requests: Requests,
    /// The local application behind the port.
    pub application: Rc<Service>,
    /// The caller is a verified mesh peer that sends and understands side headers (`weft-h2/1`).
    pub side_headers: bool,
}

impl Outbound {
    /// Requests on a connection that was going to this service.
    #[must_use]
    pub const fn to(service: Rc<Service>) -> Self {
        Self::chosen(Choice::Connection(service))
    }

    /// Requests that name their destination, in explicit mode.
    #[must_use]
    pub const fn by_request() -> Self {
        Self::chosen(Choice::Request(RefCell::new(None)))
    }

    /// Requests on a connection to an address outside the mesh, `IP:PORT`.
    #[must_use]
    pub fn to_address(name: &str) -> Self {
        Self::chosen(Choice::Address(name.into(), RefCell::new(None)))
    }

    /// Requests on a connection whose destination cannot be served.
    #[must_use]
    pub fn declined(error: ProxyError) -> Self {
        Self::chosen(Choice::Declined(error.reason, error.detail))
    }

    const fn chosen(choice: Choice) -> Self {
        Self { choice, source: None }
    }

    /// The same requests, on a connection that comes from there.
    #[must_use]
    pub fn from(self, source: Option<SocketAddr>) -> Self {
        Self { source: source.map(|source| source.ip()), ..self }
    }

    async fn route(
        &self,
        shared: &Rc<Shared>,
        head: &RequestHead,
    ) -> Result<Rc<Service>, ProxyError> {
        authority::check(head)?;
        let remembered = match &self.choice {
            // What has left the mesh goes out as it is, on a connection from before too.
            Choice::Connection(service) if service.has_left() => {
                return outside::service(shared, &service.name).await;
            }
            Choice::Connection(service) => return Ok(service.clone()),
            Choice::Request(remembered) | Choice::Address(_, remembered) => remembered,
            Choice::Declined(reason, detail) => {
                return Err(ProxyError::new(*reason, detail.clone()));
            }
        };
        let named = authority::of_request(head)?;
        let default_port = default_port(head);
        if let Some(service) = self.recall(shared, remembered, &named, default_port) {
            carries_http(&service)?;
            return Ok(service);
        }
        let service = match &self.choice {
            Choice::Address(address, _) => registered_or_at(shared, &named, address).await?,
            _ => {
                let name = authority::canonical(&named, default_port)?;
                match shared.destinations.find(&name).await? {
                    Found::Mesh(service) => service,
                    Found::Outside => outside::service(shared, &name).await?,
                }
            }
        };
        carries_http(&service)?;
        let last = Last { named, default_port, service: service.clone() };
        *remembered.borrow_mut() = Some(Box::new(last));
        Ok(service)
    }

    /// What the last request went to, where this one names the same and that still stands for it: its name has not
    /// changed sides, its DNS answer is not too old, and nobody has registered it meanwhile.
    fn recall(
        &self,
        shared: &Shared,
        remembered: &Remembered,
        named: &Authority,
        default_port: u16,
    ) -> Option<Rc<Service>> {
        let remembered = remembered.borrow();
        let Last { service, .. } = remembered
            .as_deref()
            .filter(|last| last.named == *named && last.default_port == default_port)?;
        if service.has_left() || !service.is_valid(clock::now()) {
            return None;
        }
        // An address stays outside when the host that the request names does not.
        let may_be_registered = matches!(self.choice, Choice::Address(..))
            && service.is_outside()
            && outside::registers(shared, &host_of(named));
        (!may_be_registered).then(|| service.clone())
    }
}

/// The registered host that a request names, on the port that its connection was going to; else what is at the address.
async fn registered_or_at(
    shared: &Rc<Shared>,
    named: &Authority,
    address: &str,
) -> Result<Rc<Service>, ProxyError> {
    match outside::registered(shared, &host_of(named), address).await? {
        Some(service) => Ok(service),
        None => outside::service(shared, address).await,
    }
}

/// The host as hosts are registered.
fn host_of(named: &Authority) -> String {
    named.host().trim_end_matches('.').to_ascii_lowercase()
}

/// A service that declares opaque bytes gets none of HTTP's requests one by one: its sidecar and its
/// application would read them as something else.
fn carries_http(service: &Service) -> Result<(), ProxyError> {
    match service.snapshot().destination.protocol {
        Protocol::Tcp | Protocol::Tls => {
            let detail = format!(
                "{} declares opaque bytes; reach it by CONNECT or by a bound upstream port",
                service.label
            );
            Err(ProxyError::new(Reason::ProtocolMismatch, detail))
        }
        Protocol::Unspecified | Protocol::Http1 | Protocol::Http2 | Protocol::Grpc => Ok(()),
    }
}

/// The port of a target without one, by its scheme.
fn default_port(head: &RequestHead) -> u16 {
    if head.target.scheme() == Some(&http::uri::Scheme::HTTPS) { 443 } else { 80 }
}

impl Origin {
    /// Where the connection was going, whatever its requests name; `None` where they alone say it.
    pub const fn destination(&self) -> Option<&Rc<Service>> {
        match self {
            Self::Outbound(Outbound { choice: Choice::Connection(service), .. }) => Some(service),
            Self::Outbound(_) => None,
            Self::Inbound(inbound) => Some(&inbound.application),
        }
    }

    /// Takes out what this client may not say, and says who it is where that is ours to say.
    pub fn sanitize(&self, head: &mut RequestHead) {
        match self {
            Self::Outbound(_) => {
                side::strip(&mut head.headers);
                forward::outbound(&mut head.headers);
            }
            Self::Inbound(inbound) => {
                if inbound.side_headers {
                    side::receive_request(head);
                }
                side::strip(&mut head.headers);
                let requests = &inbound.requests;
                forward::inbound(&mut head.headers, requests.peer(), requests.remote());
            }
        }
    }

    /// The service that the request goes to.
    ///
    /// # Errors
    /// The request names no destination, a forbidden one, or one that is not known.
    pub async fn route(
        &self,
        shared: &Rc<Shared>,
        head: &mut RequestHead,
    ) -> Result<Rc<Service>, ProxyError> {
        match self {
            Self::Outbound(outbound) => outbound.route(shared, head).await,
            Self::Inbound(inbound) => {
                authority::check(head)?;
                Ok(inbound.application.clone())
            }
        }
    }

    /// Takes out of the application's response what only the mesh may say, and adds for the other sidecar what
    /// HTTP/2 cannot carry.
    pub fn sanitize_response(&self, head: &mut ResponseHead) {
        match self {
            Self::Inbound(inbound) if inbound.side_headers => side::send_response(head),
            Self::Inbound(_) => side::strip(&mut head.headers),
            Self::Outbound(_) => {}
        }
    }

    /// What is done to an informational response of an endpoint reached by `transport`: both what
    /// [`Self::sanitize_response`] does and what is done where a response enters.
    #[must_use]
    pub const fn sanitize_interim(&self, transport: &Transport) -> fn(&mut ResponseHead) {
        match (self, transport) {
            (Self::Inbound(inbound), _) if inbound.side_headers => side::send_response,
            (Self::Outbound(_), Transport::Mesh(_)) => side::receive_response,
            (Self::Inbound(_), _) | (Self::Outbound(_), Transport::Plain) => {
                |head| side::strip(&mut head.headers)
            }
        }
    }

    /// Who reads the proxy's own responses.
    #[must_use]
    pub fn audience(&self) -> Audience {
        match self {
            Self::Inbound(inbound) if inbound.requests.peer().is_none() => Audience::Stranger,
            Self::Inbound(_) => Audience::Mesh,
            Self::Outbound(_) => Audience::Local,
        }
    }

    /// A request begins: it is under way on its connection until what is returned is dropped.
    #[must_use]
    pub fn enter(&self) -> Option<Passage> {
        match self {
            Self::Inbound(inbound) => Some(inbound.requests.enter()),
            Self::Outbound(_) => None,
        }
    }

    /// Keeps what a request holds for as long as its connection, where the response hands that over: its record ends
    /// with the response's head.
    pub fn keep_with(&self, response: &mut Response, record: &mut Record) {
        let Some(onward) = response.takeover.as_mut().and_then(Takeover::onward) else { return };
        onward.hold(record.take_turn());
        let Held { passage, turn } = record.take_held();
        onward.hold(turn);
        onward.bound(passage);
    }

    /// The direction, for telemetry.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        match self {
            Self::Outbound(_) => Direction::Outbound,
            Self::Inbound(_) => Direction::Inbound,
        }
    }

    /// Who calls, and from where, as far as that is known.
    #[must_use]
    pub fn client(&self) -> (Option<SpiffeId>, Option<SocketAddr>) {
        match self {
            Self::Inbound(Inbound { requests, .. }) => {
                (requests.peer().cloned(), requests.remote())
            }
            Self::Outbound(_) => (None, None),
        }
    }

    /// Where the application's connection comes from, for hashing.
    #[must_use]
    pub const fn client_address(&self) -> Option<IpAddr> {
        match self {
            Self::Outbound(outbound) => outbound.source,
            Self::Inbound(_) => None,
        }
    }

    /// How the client's connection is protected, where this side decides what is recorded.
    #[must_use]
    pub fn client_tls(&self) -> TlsState {
        match self {
            Self::Inbound(inbound) if inbound.requests.peer().is_some() => TlsState::Mutual,
            Self::Inbound(_) | Self::Outbound(_) => TlsState::Plain,
        }
    }
}
