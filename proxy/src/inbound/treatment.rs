//! What a connection carries: HTTP, in which version, or opaque bytes.
//!
//! Comes in: the facts of a connection. Goes out: what it carries, by the port's policy and by its bytes, whenever they
//! come. A client may open a connection long before it has something to send: where that can be HTTP only, it is waited
//! for as long as between two requests; where the server may speak first, [`undeclared`] tells. What was found out under
//! a policy that holds no longer is asked again, of the application that was dialled already; and a connection that is no
//! longer allowed is not waited for.

use std::rc::Rc;

use weft_proto::discovery::Protocol;

use super::{
    Facts, late,
    opaque::{self, Before, Bytes},
    open::{Carries, Open},
    refuse,
};
use crate::{
    clock,
    detect::Detected,
    drain::Drain,
    error::ProxyError,
    peek::Peek,
    reason::Reason,
    shared::Shared,
    telemetry::Direction,
    tls::Alpn,
    undeclared::{self, Found},
};

/// How a connection is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    Http1,
    Http2,
    Opaque,
    /// The bytes decide.
    Detect,
}

/// The port's policy decides how bytes are treated. What the caller's ALPN says is followed only where the
/// policy leaves it open, and never to pass bytes unread that may be HTTP.
pub(super) fn treatment(declared: Protocol, alpn: Option<Alpn>) -> Result<Treatment, ProxyError> {
    let said = match alpn {
        Some(Alpn::WeftHttp2 | Alpn::Http2) => Treatment::Http2,
        Some(Alpn::Http1) => Treatment::Http1,
        Some(Alpn::Tcp) => Treatment::Opaque,
        None => Treatment::Detect,
    };
    match (declared, said) {
        (Protocol::Tcp | Protocol::Tls, Treatment::Opaque | Treatment::Detect) => {
            Ok(Treatment::Opaque)
        }
        (Protocol::Tcp | Protocol::Tls, Treatment::Http1 | Treatment::Http2) => {
            Err(ProxyError::new(
                Reason::ProtocolMismatch,
                "the port is opaque; the caller speaks HTTP to it",
            ))
        }
        (_, Treatment::Opaque) => Ok(Treatment::Detect),
        (_, said) => Ok(said),
    }
}

/// Whether a port declares HTTP.
pub(super) const fn is_http(declared: Protocol) -> bool {
    match declared {
        Protocol::Http1 | Protocol::Http2 | Protocol::Grpc => true,
        Protocol::Tcp | Protocol::Tls | Protocol::Unspecified => false,
    }
}

/// What the connection carries, under the policy that holds when that is known; the facts are of that policy then.
pub(super) async fn find(
    shared: &Rc<Shared>,
    facts: &mut Facts,
) -> Result<Found<opaque::Dialled>, ProxyError> {
    let before = Before::default();
    loop {
        let mut decided = {
            let (leave, drain) = shared.drain.with_own();
            let (port, source, peer) = (facts.port, facts.source(), facts.peer.as_ref());
            let open = Open { port, way: facts.way, source, peer, carries: Carries::Nothing };
            tokio::select! {
                biased;
                decided = decide(shared, facts, &drain, &before) => decided,
                error = open.forbidden(shared, &leave) => return Err(error),
            }
        };
        if let Ok(Found::Opaque(dialled @ None)) = &mut decided {
            *dialled = before.take();
        }
        let is_settled = matches!(decided, Ok(Found::Http(_) | Found::Nothing));
        if !facts.refresh(shared) || is_settled {
            return decided;
        }
        if let Ok(Found::Opaque(dialled)) = decided {
            before.set(dialled);
        }
    }
}

/// What the connection carries, by the port's policy and its bytes.
async fn decide(
    shared: &Rc<Shared>,
    facts: &Facts,
    drain: &Drain,
    before: &Before,
) -> Result<Found<opaque::Dialled>, ProxyError> {
    match treatment(facts.policy.protocol, facts.alpn)? {
        Treatment::Http1 => Ok(Found::Http(Detected::Http1)),
        Treatment::Http2 => Ok(Found::Http(Detected::Http2)),
        Treatment::Opaque if !facts.silent => Ok(Found::Opaque(None)),
        Treatment::Opaque => late::first_bytes(shared, facts, before).await,
        Treatment::Detect => detect(shared, facts, drain, before).await,
    }
}

/// Lets the bytes decide, as far as the policy allows.
async fn detect(
    shared: &Rc<Shared>,
    facts: &Facts,
    drain: &Drain,
    before: &Before,
) -> Result<Found<opaque::Dialled>, ProxyError> {
    let timeouts = &shared.config.timeouts;
    let bytes = opaque::bytes(&facts.policy, facts.source());
    let is_undeclared = facts.policy.protocol == Protocol::Unspecified;
    // The application is not even dialled for whom it is not to hear.
    if is_undeclared && bytes == Bytes::Allowed {
        return whoever_speaks_first(shared, facts, drain, before).await;
    }
    // Nor is it kept, should it have been dialled when it still was.
    before.set(None);
    if is_undeclared && bytes == Bytes::Denied {
        let mut peek = Peek::new(&facts.socket);
        let decided = clock::timeout(timeouts.header, peek.decide(timeouts.header)).await;
        return Ok(match decided {
            Ok(Ok(Some(version @ (Detected::Http1 | Detected::Http2)))) => Found::Http(version),
            Ok(Ok(None)) => Found::Nothing,
            _ => Found::Opaque(None),
        });
    }
    must_be_http(shared, facts, drain).await
}

/// Dials the application for a client that is silent. Where that takes up a place which others may be waiting for, it is
/// theirs again when neither side says anything; the connection ends cleanly then, as what is cut off is nothing.
async fn whoever_speaks_first(
    shared: &Rc<Shared>,
    facts: &Facts,
    drain: &Drain,
    before: &Before,
) -> Result<Found<opaque::Dialled>, ProxyError> {
    let timeouts = &shared.config.timeouts;
    let client = undeclared::Client {
        socket: &facts.socket,
        learned: facts.application.what_is_learned(),
        wait: opaque::wait(facts, timeouts.header),
        ahead: timeouts.client_idle,
        drain: Some(drain),
    };
    let first = opaque::first_word(facts, timeouts);
    let idle = if first.is_zero() { timeouts.tcp_idle } else { first };
    let room = opaque::room(shared, facts, before);
    let dial = async |room| opaque::dial(facts, room).await;
    match undeclared::find_out_in_turn(client, idle, room, dial).await {
        Err(error) if error.reason == Reason::IdleTimeout && !first.is_zero() => {
            let error = opaque::silent(first);
            refuse(shared, facts.socket.peer(), error.reason, &error.detail);
            Ok(Found::Nothing)
        }
        found => found,
    }
}

/// Waits for a request as long as a kept connection would, and lets nothing else through.
async fn must_be_http(
    shared: &Rc<Shared>,
    facts: &Facts,
    drain: &Drain,
) -> Result<Found<opaque::Dialled>, ProxyError> {
    let timeouts = &shared.config.timeouts;
    let mut peek = Peek::new(&facts.socket);
    let spoken = tokio::select! {
        biased;
        spoken = clock::timeout(timeouts.client_idle, peek.any()) => spoken,
        () = drain.started() => return Ok(Found::Nothing),
    };
    match spoken {
        Ok(Ok(true)) => {}
        Ok(Ok(false) | Err(_)) => return Ok(Found::Nothing),
        Err(_) => {
            shared.listeners.closed(Direction::Inbound, Some(Reason::IdleTimeout));
            return Ok(Found::Nothing);
        }
    }
    match peek.decide(timeouts.header).await {
        Ok(Some(version @ (Detected::Http1 | Detected::Http2))) => Ok(Found::Http(version)),
        _ => Err(opaque::must_be_http()),
    }
}
