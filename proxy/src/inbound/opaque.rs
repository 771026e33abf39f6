//! Opaque bytes from another workload: whether they may pass, and their way to the local application.
//!
//! Comes in: a connection that carries no HTTP, as far as anybody can tell. Goes out: its bytes, both ways. Policies that
//! speak of requests must not be got around by bytes that are none:
//!
//! | where there are | a port that declares no protocol | a port that is declared `tcp` or `tls` |
//! |---|---|---|
//! | access rules with operations | must be HTTP | they fail closed: see [`Access`] |
//! | rate limits with operations | must be HTTP | they count nothing |
//! | other rate limits | each connection counts as one request | the same |
//! | a concurrency limit | each is in flight for as long as it lives | the same |
//!
//! And where requests are limited, nothing is opaque that could still become a request: see [`Wait`]; and the application
//! is dialled for nobody, not even for a client that is silent so far, whom these limits do not let in. The policy is
//! that of the moment in which the bytes become opaque; what the connection was let in by before is not asked again
//! (see [`Entry`]). Nobody keeps a place for a connection on which nothing is said.

use std::{cell::Cell, future::poll_fn, pin::pin, rc::Rc, time::Duration};

use weft_proto::{Port, discovery::Protocol};

use super::{
    Facts,
    entry::Entry,
    open::{Carries, Open},
    refuse,
};
use crate::{
    config::Timeouts,
    destination::Service,
    discovery::InboundPort,
    error::ProxyError,
    exchange::admission,
    io::Socket,
    policy::authz::{Access, Deed, Source},
    reason::Reason,
    shared::Shared,
    tcp,
    telemetry::TlsState,
    tls::Alpn,
    undeclared::{self, Wait},
};

/// What policy says of opaque bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bytes {
    Allowed,
    /// Refused by a rule or a default.
    Denied,
    /// A rule or a limit speaks of HTTP, and the port does not say that it carries something else: they must be HTTP.
    MustBeHttp,
}

/// Whether a caller may send opaque bytes to a port.
pub(super) fn bytes(port: &InboundPort, source: Source<'_>) -> Bytes {
    let limits = port.rate_limits.as_ref();
    if !is_opaque(port) && limits.is_some_and(|limits| limits.has_operations()) {
        return Bytes::MustBeHttp;
    }
    access(port, source)
}

/// The same, by access policy alone.
pub(super) fn access(port: &InboundPort, source: Source<'_>) -> Bytes {
    let Some(access) = &port.access else { return Bytes::Allowed };
    if !is_opaque(port) && access.has_operations() {
        return Bytes::MustBeHttp;
    }
    if access.decide(source, Deed::Bytes).allowed { Bytes::Allowed } else { Bytes::Denied }
}

fn is_opaque(port: &InboundPort) -> bool {
    matches!(port.protocol, Protocol::Tcp | Protocol::Tls)
}

/// What bytes are refused with that had to be HTTP.
pub(super) fn must_be_http() -> ProxyError {
    let detail = "the port's policy requires HTTP; these bytes are not";
    ProxyError::new(Reason::ProtocolMismatch, detail)
}

/// What bytes are refused with that nobody allows; counts the refusal.
pub(super) fn denied(
    shared: &Shared,
    access: &Access,
    source: Source<'_>,
    port: Port,
) -> ProxyError {
    let decision = access.decide(source, Deed::Bytes);
    shared.admission.refused(decision.by, Reason::AuthzDenied);
    admission::denied(&decision, source, &format!("opaque bytes to port {port}"))
}

/// How long the bytes of a caller, on a port that declares no protocol, are waited for to become a request.
pub(super) fn wait(facts: &Facts, patience: Duration) -> Wait {
    let policy = &facts.policy;
    if is_limited(policy) {
        Wait::Whole(patience)
    } else if facts.alpn == Some(Alpn::Tcp) {
        // The caller's sidecar has waited already, and sent what it waited for at once.
        Wait::Gap(Duration::ZERO)
    } else {
        Wait::Gap(undeclared::GAP)
    }
}

/// Whether connections to a port need room at the application.
pub(super) const fn is_limited(policy: &InboundPort) -> bool {
    policy.rate_limits.is_some() || policy.concurrency.is_some()
}

/// How long a connection may keep its place at the application until either side says something; zero for as long as any
/// other. A verified caller may keep connections ready where the port declares that they are opaque.
pub(super) fn first_word(facts: &Facts, timeouts: &Timeouts) -> Duration {
    let takes_place = facts.policy.concurrency.is_some();
    let may_be_ready = facts.peer.is_some() && is_opaque(&facts.policy);
    if takes_place && !may_be_ready { timeouts.header } else { Duration::ZERO }
}

/// What a connection ends with that has kept its place for so long, and nothing was said on it.
pub(super) fn silent(patience: Duration) -> ProxyError {
    let detail = format!(
        "a place at the application was kept for {patience:?}, and neither side said anything (WEFT_HEADER_TIMEOUT)"
    );
    ProxyError::new(Reason::HeaderTimeout, detail)
}

/// The local application, dialled for one connection.
#[derive(Debug)]
pub(super) struct Dialled {
    socket: Socket,
    entry: Entry,
}

/// The application, where it was dialled for a connection under a policy that holds no longer.
pub(super) type Before = Cell<Option<Dialled>>;

/// Room for a connection at the application, which may have been dialled before.
#[derive(Debug)]
pub(super) struct Room {
    entry: Entry,
    socket: Option<Socket>,
}

impl AsRef<Socket> for Dialled {
    fn as_ref(&self) -> &Socket {
        &self.socket
    }
}

/// Room at the local application for a connection that may turn out to be opaque.
pub(super) async fn room(
    shared: &Shared,
    facts: &Facts,
    before: &Before,
) -> Result<Room, ProxyError> {
    let (entry, socket) = before.take().map_or_else(Default::default, Dialled::into_parts);
    Ok(Room { entry: entry.complete(shared, facts).await?, socket })
}

/// Dials the local application, where there is room for the connection.
pub(super) async fn dial(facts: &Facts, room: Room) -> Result<Dialled, ProxyError> {
    let Room { entry, socket } = room;
    let socket = match socket {
        Some(socket) => socket,
        None => connect(&facts.application).await?,
    };
    Ok(Dialled { socket, entry })
}

impl Dialled {
    fn into_parts(self) -> (Entry, Option<Socket>) {
        (self.entry, Some(self.socket))
    }
}

async fn connect(application: &Service) -> Result<Socket, ProxyError> {
    match application.pick(&application.snapshot(), &[], None) {
        Some(member) => member.pool.open_tcp().await.map(|dialled| dialled.socket),
        None => Err(ProxyError::new(Reason::NoEndpoints, "the application has no address")),
    }
}

/// Carries a connection's bytes to its end, where they may pass; the application may have been dialled already.
pub(super) async fn serve(shared: &Rc<Shared>, facts: Facts, dialled: Option<Dialled>) {
    let remote = facts.socket.peer();
    let (leave, _) = shared.drain.with_own();
    let open = Open {
        port: facts.port,
        way: facts.way,
        source: facts.source(),
        peer: facts.peer.as_ref(),
        carries: Carries::Bytes,
    };
    let is_told = Cell::new(false);
    let mut forbidden = pin!(async {
        let error = open.forbidden(shared, &leave).await;
        is_told.set(true);
        refuse(shared, remote, error.reason, &error.detail);
        error.reason
    });
    let before = Cell::new(dialled);
    let admitted = tokio::select! {
        biased;
        _ = &mut forbidden => return facts.socket.abort(),
        admitted = admit(shared, &facts, &before) => admitted,
        // Who leaves is not waited for; what it has sent until then is not delivered.
        () = poll_fn(|cx| facts.socket.poll_peer_gone(cx)) => return,
    };
    let room = match admitted {
        Ok(room) => room,
        Err(error) => {
            refuse(shared, remote, error.reason, &error.detail);
            return facts.socket.abort();
        }
    };
    let tls = if facts.peer.is_some() { TlsState::Mutual } else { TlsState::Plain };
    let mut record = facts.application.metrics.connection(tls);
    let connected = tokio::select! {
        biased;
        reason = &mut forbidden => {
            record.failed(reason);
            return facts.socket.abort();
        }
        connected = dial(&facts, room) => connected,
    };
    let Dialled { socket: server, entry: _entry } = match connected {
        Ok(dialled) => dialled,
        Err(error) => {
            record.failed(error.reason);
            tracing::info!(reason = %error.reason, detail = %error.detail, "the application cannot be reached");
            return facts.socket.abort();
        }
    };
    let timeouts = &shared.config.timeouts;
    let first = first_word(&facts, timeouts);
    let may_be_http = facts.policy.protocol == Protocol::Unspecified;
    let bounds =
        tcp::Bounds { first, may_be_http, ..tcp::Bounds::new(timeouts.tcp_idle, forbidden) };
    let ended = tcp::splice_within(&facts.socket, &server, bounds).await;
    if ended.reason == Some(Reason::HeaderTimeout) {
        refuse(shared, remote, Reason::HeaderTimeout, &silent(first).detail);
    }
    if ended.reason == Some(Reason::ProtocolMismatch) && !is_told.get() {
        let detail = "the bytes name weft-client-id or begin HTTP/2 late, on a port that declares no protocol: declare http, http2, grpc or tcp";
        refuse(shared, remote, Reason::ProtocolMismatch, detail);
    }
    ended.note(&mut record);
}

/// Room for the connection at the application, where it may pass by all policies.
async fn admit(shared: &Shared, facts: &Facts, before: &Before) -> Result<Room, ProxyError> {
    authorize(shared, facts)?;
    room(shared, facts, before).await
}

/// Whether access policy lets the caller send opaque bytes.
fn authorize(shared: &Shared, facts: &Facts) -> Result<(), ProxyError> {
    let Some(access) = &facts.policy.access else { return Ok(()) };
    let (source, port) = (facts.source(), facts.port);
    let decision = access.decide(source, Deed::Bytes);
    if !decision.allowed {
        return Err(denied(shared, access, source, port));
    }
    if let Some(policy) = decision.audited
        && admission::note_audited(shared, &decision)
    {
        let client = admission::who(source);
        tracing::info!(%policy, client, %port, "would be refused: the policy is in Audit mode");
    }
    Ok(())
}
