//! A connection to a permissive port on which nothing has come yet: a stranger that waits for the server to speak, or
//! another sidecar whose hello is late (a packet was lost, a machine is busy).
//!
//! Comes in: the facts of a stranger's connection. Goes out: whether what has come by now is such a hello, which is then
//! accepted like one in time. Nothing is taken from the connection, and no application is dialled for whom it is not to
//! hear. Where the server speaks before the hello comes, it is too late.

use std::{cell::Cell, time::Duration};

use weft_proto::MeshServerName;

use super::{
    Facts,
    opaque::{self, Before, Bytes},
};
use crate::{
    clock,
    detect::Detected,
    error::ProxyError,
    io::Socket,
    peek::Peek,
    shared::Shared,
    undeclared::{self, Found, Learned, Wait},
};

/// Whether what has come by now is the hello of another sidecar.
pub(super) async fn speaks_mesh(socket: &Socket) -> bool {
    let mut peek = Peek::new(socket);
    match clock::timeout(Duration::ZERO, peek.decide(Duration::ZERO)).await {
        Ok(Ok(Some(Detected::Tls(hello)))) => {
            hello.server_name.as_deref().is_some_and(MeshServerName::is_mesh)
        }
        _ => false,
    }
}

/// Waits for the first byte from either side of a connection that carries opaque bytes: another sidecar's hello is none
/// of them.
pub(super) async fn first_bytes(
    shared: &Shared,
    facts: &Facts,
    before: &Before,
) -> Result<Found<opaque::Dialled>, ProxyError> {
    let (patience, socket) = (shared.config.timeouts.header, &facts.socket);
    let is_limited = opaque::is_limited(&facts.policy);
    // The application is dialled only for whom it is to hear now. Where connections are limited that is not known yet:
    // who waits for the server is then kept waiting for long enough to send a lost packet again.
    let alone = match opaque::bytes(&facts.policy, facts.source()) {
        Bytes::Allowed if is_limited => Some(undeclared::GAP),
        Bytes::Allowed => None,
        Bytes::Denied | Bytes::MustBeHttp => Some(patience),
    };
    if let Some(alone) = alone {
        let mut peek = Peek::new(socket);
        if clock::timeout(alone, peek.any()).await.is_ok() && peek.may_be_tls() {
            // What it is, is asked again, when it is there.
            let _ = peek.decide(patience).await;
        }
        return Ok(Found::Opaque(None));
    }
    // Both have been waited for already: the application is dialled at once.
    let learned = &Cell::new(Learned::ServerFirst);
    let (wait, ahead) = (Wait::Tls(patience), Duration::ZERO);
    let client = undeclared::Client { socket, learned, wait, ahead, drain: None };
    let idle = shared.config.timeouts.tcp_idle;
    let room = opaque::room(shared, facts, before);
    undeclared::find_out_in_turn(client, idle, room, async |room| opaque::dial(facts, room).await)
        .await
}
