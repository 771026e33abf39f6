//! Mutual TLS between sidecars: rustls configurations from the live identity, and the SPIFFE verifier.
//!
//! Comes in: a socket and, where we call, who is expected to answer. Goes out: the socket, now TLS, with the
//! peer's verified identity; or a [`Refused`] that names the expected and the presented identity. TLS 1.3
//! alone, both sides verified, hybrid post-quantum key exchange first, no early data. After every handshake,
//! resumed or not, the peer is checked again under today's bundle.
//!
//! Who learns what of a refusal: the side that refuses knows all and says it in its [`Refused`]; the other gets
//! an alert. In TLS 1.3 the client's handshake is done before the server has looked at the client's
//! certificate, so a client learns that it was refused only when it reads later: hand a connection that broke to
//! [`MutualTls::explain`].

pub mod bundle;
mod counts;
pub mod fault;
mod generation;
pub(crate) mod leaf;
#[cfg(any(test, fuzzing))]
pub mod properties;
pub(crate) mod provider;
mod refused;
mod sessions;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod verifier;

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use rustls::HandshakeKind;
use rustls_pki_types::{CertificateDer, ServerName};
use weft_proto::{MeshServerName, SpiffeId};

pub use bundle::{Bundle, BundleError, RootId};
pub use counts::{Counts, Handshakes};
pub use fault::PeerFault;
use generation::{ForEndpoint, Generation};
pub use refused::Refused;
use verifier::PeerVerifier;

use crate::{
    clock,
    config::TlsSettings,
    identity::{Identity, Svid},
    io::{Socket, TlsError, TlsInfo},
    reason::Reason,
    telemetry::{Direction, TlsMetrics},
};

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

impl Alpn {
    /// All, best first.
    pub const ALL: [Self; 4] = [Self::WeftHttp2, Self::Http2, Self::Http1, Self::Tcp];

    /// How it stands in a ClientHello.
    #[must_use]
    pub const fn wire(self) -> &'static [u8] {
        match self {
            Self::WeftHttp2 => b"weft-h2/1",
            Self::Http2 => b"h2",
            Self::Http1 => b"http/1.1",
            Self::Tcp => b"weft-tcp/1",
        }
    }

    /// From what stands in a ServerHello.
    #[must_use]
    pub fn from_wire(wire: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|alpn| alpn.wire() == wire)
    }
}

/// The role that a peer plays in a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// It accepted the connection.
    Server,
    /// It made the connection.
    Client,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Client => "client",
        })
    }
}

/// Who is at the other end, verified.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The SPIFFE ID in its certificate.
    pub identity: SpiffeId,
    /// The root that its certificate leads to.
    pub root: RootId,
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
    /// The bundle's generation that it was verified under; drain the connection when
    /// [`Identity::bundle_generation`] has moved on.
    pub bundle_generation: u64,
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
    /// The bundle's generation that it was verified under; drain the connection when
    /// [`Identity::bundle_generation`] has moved on.
    pub bundle_generation: u64,
}

/// Makes and accepts mutual TLS connections under the identity in force. Shared by all workers; cheap to clone.
#[derive(Debug, Clone)]
pub struct MutualTls {
    shared: Arc<Shared>,
    settings: TlsSettings,
}

#[derive(Debug)]
struct Shared {
    identity: Identity,
    timeout: Duration,
    /// The configurations of the credentials last seen; replaced when those change.
    generation: ArcSwapOption<Generation>,
    counts: Counts,
    metrics: Arc<TlsMetrics>,
}

impl Shared {
    fn done(&self, peer: Role, resumed: bool) {
        self.counts.done(peer, resumed);
        self.metrics.handshake(direction(peer), resumed, Ok(()));
    }

    fn refused(&self, peer: Role, reason: Reason) {
        self.counts.refused(peer);
        self.metrics.handshake(direction(peer), false, Err(reason));
    }
}

/// Traffic from a client comes in.
const fn direction(peer: Role) -> Direction {
    match peer {
        Role::Client => Direction::Inbound,
        Role::Server => Direction::Outbound,
    }
}

impl MutualTls {
    /// Under this identity; a handshake has `timeout` from its beginning to its end.
    #[must_use]
    pub fn new(identity: Identity, timeout: Duration, metrics: Arc<TlsMetrics>) -> Self {
        let (generation, counts) = (ArcSwapOption::empty(), Counts::default());
        let shared = Arc::new(Shared { identity, timeout, generation, counts, metrics });
        Self { shared, settings: TlsSettings::default() }
    }

    /// The same, with handshakes as these settings have them.
    #[must_use]
    pub fn under(self, settings: TlsSettings) -> Self {
        Self { settings, ..self }
    }

    /// The identity that handshakes are made under.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// Accepts a handshake. Cancel-safe in that the connection ends with the future.
    ///
    /// # Errors
    /// The peer is not verified, or the handshake failed.
    pub async fn accept(&self, socket: Socket) -> Result<Accepted, Refused> {
        let accepted = self.try_accept(socket).await;
        accepted.inspect_err(|refused| self.shared.refused(Role::Client, refused.reason))
    }

    async fn try_accept(&self, socket: Socket) -> Result<Accepted, Refused> {
        let generation = self.generation()?;
        let (verifier, ours) = (&generation.callers, &generation.credentials.svid);
        let handshake = socket.start_tls_server(Arc::clone(&generation.server));
        let socket = self.within_time(handshake, verifier, ours).await?;
        let info = established(&socket, verifier)?;
        let (peer, alpn) = self.finish(&Handshake::of(&info), verifier)?;
        let server_name = mesh_name(info.server_name.as_deref(), &peer)?;
        let bundle_generation = generation.credentials.bundle_generation;
        Ok(Accepted { socket, peer, server_name, alpn, bundle_generation })
    }

    /// Makes a handshake with an endpoint: `session_key` names it for session resumption, `expected` lists the
    /// identities allowed there, `offer` the protocols, best first. Cancel-safe in that the connection ends with
    /// the future.
    ///
    /// # Errors
    /// The peer is not verified or not expected, or the handshake failed. That the server refused *us* shows
    /// only later: see [`MutualTls::explain`].
    pub async fn connect(
        &self,
        socket: Socket,
        session_key: &str,
        expected: &Arc<[SpiffeId]>,
        server_name: &MeshServerName,
        offer: &[Alpn],
    ) -> Result<Connected, Refused> {
        let connected = self.try_connect(socket, session_key, expected, server_name, offer).await;
        connected.inspect_err(|refused| self.shared.refused(Role::Server, refused.reason))
    }

    async fn try_connect(
        &self,
        socket: Socket,
        session_key: &str,
        expected: &Arc<[SpiffeId]>,
        server_name: &MeshServerName,
        offer: &[Alpn],
    ) -> Result<Connected, Refused> {
        let generation = self.generation()?;
        let ForEndpoint { config, verifier } = generation.endpoint(session_key, expected);
        let name = ServerName::try_from(server_name.to_string())
            .map_err(|error| Refused::failed(&error, &verifier))?;
        let offer = offer.iter().map(|alpn| alpn.wire().to_vec()).collect();
        let handshake = socket.start_tls_client(config, name, offer);
        let socket = self.within_time(handshake, &verifier, &generation.credentials.svid).await?;
        let info = established(&socket, &verifier)?;
        let (peer, alpn) = self.finish(&Handshake::of(&info), &verifier)?;
        let bundle_generation = generation.credentials.bundle_generation;
        Ok(Connected { socket, peer, alpn, bundle_generation })
    }

    /// Ready when a root, under which a peer was verified, is no longer trusted. Cancel-safe.
    pub async fn distrusted(&self, root: RootId) {
        let mut credentials = self.shared.identity.watch();
        let distrusted = credentials.wait_for(|credentials| {
            credentials.as_ref().is_some_and(|credentials| !credentials.bundle.trusts(root))
        });
        if distrusted.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Of a connection that [`MutualTls::connect`] made and that broke: the refusal, where the server refused our
    /// certificate, as it can only after our handshake is done. It has read nothing then of what was sent: what
    /// comes behind a client's certificate is not looked at before that holds (RFC 8446 4.4 and 4.6). To be asked
    /// once: it counts.
    #[must_use]
    pub fn explain(&self, socket: &Socket) -> Option<Refused> {
        let alert = socket.refusal().filter(|alert| refused::is_about_certificates(*alert))?;
        let credentials = self.shared.identity.credentials()?;
        let server = verifier::presented(&socket.tls()?.peer_certificates);
        let refused = Refused::by_server(alert, &server, &credentials.svid);
        self.shared.refused(Role::Server, refused.reason);
        Some(refused)
    }

    async fn within_time(
        &self,
        handshake: impl Future<Output = Result<Socket, TlsError>>,
        verifier: &PeerVerifier,
        ours: &Svid,
    ) -> Result<Socket, Refused> {
        match clock::timeout(self.shared.timeout, handshake).await {
            Ok(Ok(socket)) => Ok(socket),
            Ok(Err(TlsError::Refused(error))) => {
                Err(Refused::during_handshake(&error, verifier, ours))
            }
            Ok(Err(error)) => Err(Refused::failed(&error, verifier)),
            Err(_) => Err(Refused::timeout(verifier, self.shared.timeout)),
        }
    }

    /// Checks the peer of a finished handshake, and counts it.
    fn finish(
        &self,
        handshake: &Handshake<'_>,
        verifier: &PeerVerifier,
    ) -> Result<(Peer, Option<Alpn>), Refused> {
        let peer = verifier.check(handshake.chain, clock::since_epoch())?;
        self.shared.done(verifier.role(), handshake.resumed);
        Ok((peer, handshake.alpn.and_then(Alpn::from_wire)))
    }

    /// The configurations of the credentials in force.
    fn generation(&self) -> Result<Arc<Generation>, Refused> {
        let Some(credentials) = self.shared.identity.credentials() else {
            return Err(Refused::no_identity("this proxy has no SVID yet".to_owned()));
        };
        if !credentials.svid.holds_at(clock::since_epoch()) {
            let detail = format!("our own SVID does not hold now: {}", credentials.svid.describe());
            return Err(Refused::no_identity(detail));
        }
        let current = self.shared.generation.load_full();
        if let Some(current) = current.filter(|it| Arc::ptr_eq(&it.credentials, &credentials)) {
            return Ok(current);
        }
        // Two workers may build at once; the one that stores last wins, and no harm is done.
        let generation = Generation::new(credentials, self.settings)
            .map_err(|error| Refused { reason: Reason::Internal, detail: error.to_string() })?;
        let generation = Arc::new(generation);
        self.shared.generation.store(Some(Arc::clone(&generation)));
        Ok(generation)
    }
}

/// What the handshake came to.
fn established(socket: &Socket, verifier: &PeerVerifier) -> Result<TlsInfo, Refused> {
    socket.tls().ok_or_else(|| Refused::failed(&"the connection has no TLS", verifier))
}

/// The port that the caller named.
fn mesh_name(presented: Option<&str>, caller: &Peer) -> Result<MeshServerName, Refused> {
    let name = presented.unwrap_or_default();
    name.parse().map_err(|_| Refused {
        reason: Reason::TlsFailed,
        detail: format!(
            "the client {} asked for the server name {name:?}, expected PORT.weft.internal",
            caller.identity
        ),
    })
}

/// What a finished handshake came to, before the peer is checked again.
struct Handshake<'a> {
    /// The peer's chain, leaf first; of the session's first handshake when it was resumed.
    chain: &'a [CertificateDer<'static>],
    alpn: Option<&'a [u8]>,
    resumed: bool,
}

impl<'a> Handshake<'a> {
    fn of(info: &'a TlsInfo) -> Self {
        Self {
            chain: &info.peer_certificates,
            alpn: info.alpn.as_deref(),
            resumed: info.handshake_kind == Some(HandshakeKind::Resumed),
        }
    }
}

#[cfg(test)]
mod tests;
