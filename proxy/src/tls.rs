//! Mutual TLS between sidecars: rustls configurations from the live identity, and the SPIFFE verifier.
//!
//! (Being written: this file fixes the seam.)

use std::sync::Arc;

use weft_proto::{MeshServerName, SpiffeId};

use crate::{io::Socket, reason::Reason};

/// What the two sides agreed to speak inside TLS, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// HTTP/2 with Weft's side headers, `weft-h2/1`.
    WeftHttp2,
    /// HTTP/2, `h2`.
    Http2,
    /// HTTP/1.1, `http/1.1`.
    Http1,
    /// Opaque bytes, `weft-tcp/1`.
    Tcp,
}

/// Who is at the other end, verified.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The SPIFFE ID in its certificate.
    pub identity: SpiffeId,
}

/// A finished handshake on the server's side.
#[derive(Debug)]
pub struct Accepted {
    /// The connection, now TLS.
    pub socket: Socket,
    /// Who called.
    pub peer: Peer,
    /// The port (and perhaps service) that the caller named.
    pub server_name: MeshServerName,
    /// The protocol inside; `None` when the caller offered none.
    pub alpn: Option<Alpn>,
}

/// A finished handshake on the client's side.
#[derive(Debug)]
pub struct Connected {
    /// The connection, now TLS.
    pub socket: Socket,
    /// Who answered.
    pub peer: Peer,
    /// The protocol inside.
    pub alpn: Option<Alpn>,
}

/// Why a handshake was refused; names the expected and the presented identity.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Refused {
    /// The documented code.
    pub reason: Reason,
    /// What exactly was wrong.
    pub detail: String,
}

/// Makes and accepts mutual TLS connections under the identity in force. Shared by all workers.
#[derive(Debug, Clone)]
pub struct MutualTls {}

impl MutualTls {
    /// Accepts a handshake.
    ///
    /// # Errors
    /// The peer is not verified, or the handshake failed.
    pub async fn accept(&self, _socket: Socket) -> Result<Accepted, Refused> {
        Err(Refused { reason: Reason::Internal, detail: String::new() })
    }

    /// Makes a handshake with an endpoint: `session_key` names it for session resumption, `expected` lists the
    /// identities allowed there, `offer` the protocols, best first.
    ///
    /// # Errors
    /// The peer is not verified or not expected, or the handshake failed.
    pub async fn connect(
        &self,
        _socket: Socket,
        _session_key: &str,
        _expected: &Arc<[SpiffeId]>,
        _server_name: &MeshServerName,
        _offer: &[Alpn],
    ) -> Result<Connected, Refused> {
        Err(Refused { reason: Reason::Internal, detail: String::new() })
    }
}
