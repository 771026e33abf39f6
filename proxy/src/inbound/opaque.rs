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
//! that of the moment in which the bytes become opaque.

use std::{cell::Cell, future::poll_fn, pin::pin, rc::Rc, time::Duration};

use weft_proto::{Port, discovery::Protocol};

use super::{
    Facts,
    open::{Carries, Open},
    refuse,
};
use crate::{
    destination::Service,
    discovery::InboundPort,
    error::ProxyError,
    exchange::admission,
    io::Socket,
    policy::{
        authz::{Access, Deed, Source},
        gate::Turn,
    },
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

/// The local application, dialled for one connection.
#[derive(Debug)]
pub(super) struct Dialled {
    socket: Socket,
    /// The connection's turn there, where these are limited.
    turn: Option<Turn>,
}

impl AsRef<Socket> for Dialled {
    fn as_ref(&self) -> &Socket {
        &self.socket
    }
}

/// Dials the local application for a connection that may turn out to be opaque: where there is room for that.
pub(super) async fn dial(shared: &Shared, facts: &Facts) -> Result<Dialled, ProxyError> {
    let turn = room(shared, facts).await?;
    Ok(Dialled { socket: connect(&facts.application).await?, turn })
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
    let admitted = tokio::select! {
        biased;
        _ = &mut forbidden => return facts.socket.abort(),
        admitted = admit(shared, &facts, dialled) => admitted,
        // Who leaves is not waited for; what it has sent until then is not delivered.
        () = poll_fn(|cx| facts.socket.poll_peer_gone(cx)) => return,
    };
    let (dialled, _turn) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => {
            refuse(shared, remote, error.reason, &error.detail);
            return facts.socket.abort();
        }
    };
    let tls = if facts.peer.is_some() { TlsState::Mutual } else { TlsState::Plain };
    let mut record = facts.application.metrics.connection(tls);
    let connected = match dialled {
        Some(socket) => Ok(socket),
        None => connect(&facts.application).await,
    };
    let server = match connected {
        Ok(server) => server,
        Err(error) => {
            record.failed(error.reason);
            tracing::info!(reason = %error.reason, detail = %error.detail, "the application cannot be reached");
            return facts.socket.abort();
        }
    };
    let idle = shared.config.timeouts.tcp_idle;
    let may_be_http = facts.policy.protocol == Protocol::Unspecified;
    let bounds = tcp::Bounds { idle, forbidden, may_be_http };
    let ended = tcp::splice_within(&facts.socket, &server, bounds).await;
    if ended.reason == Some(Reason::ProtocolMismatch) && !is_told.get() {
        let detail = "the bytes name weft-client-id or begin HTTP/2 late, on a port that declares no protocol: declare http, http2, grpc or tcp";
        refuse(shared, remote, Reason::ProtocolMismatch, detail);
    }
    ended.note(&mut record);
}

/// Whether the connection may pass, by all policies: what it gets is its turn at the application, where these are
/// limited, and the application where that was dialled already.
async fn admit(
    shared: &Shared,
    facts: &Facts,
    dialled: Option<Dialled>,
) -> Result<(Option<Socket>, Option<Turn>), ProxyError> {
    authorize(shared, facts)?;
    match dialled {
        Some(Dialled { socket, turn }) => Ok((Some(socket), turn)),
        None => Ok((None, room(shared, facts).await?)),
    }
}

/// Room for the connection at the application, where connections are limited.
async fn room(shared: &Shared, facts: &Facts) -> Result<Option<Turn>, ProxyError> {
    if let Some(limits) = &facts.policy.rate_limits {
        let charged = admission::charge(shared, limits, None, facts.source());
        charged.map_err(|limited| limited.error)?;
    }
    match &facts.policy.concurrency {
        Some(limit) => admission::turn(shared, limit, None).await.map(Some),
        None => Ok(None),
    }
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
