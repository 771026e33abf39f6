//! Makes one connection to one endpoint: TCP, then mutual TLS where a sidecar stands.
//!
//! What was learnt (refused, reached) goes into the endpoint's health, which all workers share.

use std::{io::ErrorKind, net::SocketAddr, pin::pin, time::Duration};

use futures_util::future::{Either, select};
use weft_proto::MeshServerName;

use super::Itself;
use crate::{
    clock,
    config::{PoolSettings, Timeouts},
    discovery::{Endpoint, Transport},
    error::ProxyError,
    http::{h1, h2},
    io::Socket,
    net,
    policy::gate::Turn,
    reason::Reason,
    telemetry::{Metrics, PoolMetrics, PoolProtocol},
    tls::{Alpn, MutualTls, Peer, Refused},
};

/// The head start of an endpoint's own address before that of the other family: what RFC 8305 8 recommends.
const HEAD_START: Duration = Duration::from_millis(250);

/// What a worker needs to make connections.
#[derive(Debug)]
pub struct Dialer {
    mutual_tls: MutualTls,
    itself: Itself,
    connect_timeout: Duration,
    drain_timeout: Duration,
    backoff_ms: u64,
    http1: h1::ClientSettings,
    http2: h2::ClientSettings,
    /// Of HTTP/1 connections.
    pub http1_metrics: PoolMetrics,
    /// Of HTTP/2 connections.
    pub http2_metrics: PoolMetrics,
}

/// A connection that was made.
#[derive(Debug)]
pub struct Dialled {
    /// The connection, inside mutual TLS where a sidecar stands.
    pub socket: Socket,
    /// What was agreed to speak.
    pub alpn: Option<Alpn>,
    /// The roots that the sidecar was verified under; `None` without one. See [`Dialer::is_current`].
    pub bundle_generation: Option<u64>,
    /// Who answered; `None` without a sidecar. See [`Dialer::distrusted`].
    pub peer: Option<Peer>,
    /// Its place among the service's connections, where these are limited.
    pub place: Option<Turn>,
}

impl Dialled {
    /// To a server without a sidecar.
    const fn plain(socket: Socket) -> Self {
        Self { socket, alpn: None, bundle_generation: None, peer: None, place: None }
    }
}

impl AsRef<Socket> for Dialled {
    fn as_ref(&self) -> &Socket {
        &self.socket
    }
}

impl Dialer {
    /// A dialer under these settings.
    #[must_use]
    pub fn new(
        mutual_tls: MutualTls,
        timeouts: &Timeouts,
        pool: &PoolSettings,
        http1: h1::ClientSettings,
        http2: h2::ClientSettings,
        metrics: &Metrics,
    ) -> Self {
        let backoff_ms = u64::try_from(pool.connect_backoff.as_millis()).unwrap_or(u64::MAX);
        Self {
            mutual_tls,
            itself: Itself::default(),
            connect_timeout: timeouts.connect,
            drain_timeout: timeouts.drain,
            backoff_ms,
            http1,
            http2,
            http1_metrics: metrics.pool(PoolProtocol::Http1),
            http2_metrics: metrics.pool(PoolProtocol::Http2),
        }
    }

    /// One that knows its own instance among the endpoints.
    #[must_use]
    pub fn knowing(self, itself: Itself) -> Self {
        Self { itself, ..self }
    }

    /// The settings of HTTP/1 connections.
    #[must_use]
    pub fn http1_settings(&self) -> h1::ClientSettings {
        self.http1.clone()
    }

    /// The settings of HTTP/2 connections.
    #[must_use]
    pub fn http2_settings(&self) -> h2::ClientSettings {
        self.http2.clone()
    }

    /// Connects, offering these protocols, best first, inside mutual TLS; within this time, where it is not the proxy's
    /// own.
    ///
    /// # Errors
    /// Nothing was sent; the reason and the detail say what went wrong.
    pub async fn dial(
        &self,
        endpoint: &Endpoint,
        offer: &[Alpn],
        connect_timeout: Option<Duration>,
    ) -> Result<Dialled, ProxyError> {
        let address = match &endpoint.transport {
            Transport::Mesh(_) => self.itself.address_of(endpoint),
            Transport::Plain => endpoint.address,
        };
        let limit = connect_timeout.unwrap_or(self.connect_timeout);
        if let Some(alternate) = endpoint.alternate {
            return Box::pin(self.dial_either(endpoint, alternate, limit)).await;
        }
        let connected = match connect_within(address, limit).await {
            Ok(socket) => self.secure(socket, endpoint, offer).await,
            Err(error) => Err(error),
        };
        match &connected {
            Ok(_) => endpoint.health.connected(),
            Err(_) => endpoint.health.connect_failed(clock::process_ms(), self.backoff_ms),
        }
        connected
    }

    /// Connects to an endpoint outside the mesh, or to its address of the other family: that is tried when the first one
    /// has failed, or has not answered within its head start, and the first to accept wins (RFC 8305 5). A host whose
    /// one family leads nowhere is so reached at once; and the endpoint is skipped for a while.
    async fn dial_either(
        &self,
        endpoint: &Endpoint,
        alternate: SocketAddr,
        limit: Duration,
    ) -> Result<Dialled, ProxyError> {
        let mut first = pin!(connect_within(endpoint.address, limit));
        let early = clock::timeout(HEAD_START, first.as_mut()).await;
        let second = pin!(connect_within(alternate, limit));
        // With whether it is the endpoint's own address. Of two errors the first address's is told.
        let connected = match early {
            Ok(Ok(socket)) => Ok((socket, true)),
            Ok(Err(error)) => second.await.map(|socket| (socket, false)).map_err(|_| error),
            Err(_) => match select(first, second).await {
                Either::Left((Ok(socket), _)) => Ok((socket, true)),
                Either::Left((Err(error), second)) => {
                    second.await.map(|socket| (socket, false)).map_err(|_| error)
                }
                Either::Right((Ok(socket), _)) => Ok((socket, false)),
                Either::Right((Err(_), first)) => first.await.map(|socket| (socket, true)),
            },
        };
        match &connected {
            Ok((_, true)) => endpoint.health.connected(),
            Ok((_, false)) | Err(_) => {
                endpoint.health.connect_failed(clock::process_ms(), self.backoff_ms);
            }
        }
        connected.map(|(socket, _)| Dialled::plain(socket))
    }

    /// Why a connection to this endpoint broke, where its sidecar refused our certificate: nothing that was sent on
    /// it was read. The endpoint is skipped for a while, like one that cannot be connected to. To be asked once.
    pub fn explain(&self, endpoint: &Endpoint, socket: &Socket) -> Option<ProxyError> {
        let error = refusal(endpoint, self.mutual_tls.explain(socket)?);
        note(endpoint, &error);
        endpoint.health.connect_failed(clock::process_ms(), self.backoff_ms);
        Some(error)
    }

    /// Whether a connection that was verified under these roots may take new requests: not when the roots have
    /// changed since.
    #[must_use]
    pub fn is_current(&self, bundle_generation: Option<u64>) -> bool {
        let now = || self.mutual_tls.identity().bundle_generation();
        bundle_generation.is_none_or(|generation| generation == now())
    }

    /// Ready when a connection to this peer has gone on for the time to drain after its root was no longer
    /// trusted. Cancel-safe.
    pub async fn distrusted(&self, peer: Option<&Peer>) {
        let Some(peer) = peer else { return std::future::pending().await };
        self.mutual_tls.distrusted(peer.root).await;
        clock::sleep(self.drain_timeout).await;
    }

    /// Plain TCP to an address.
    ///
    /// # Errors
    /// The connection was refused, timed out or failed.
    pub async fn connect(&self, address: SocketAddr) -> Result<Socket, ProxyError> {
        connect_within(address, self.connect_timeout).await
    }

    async fn secure(
        &self,
        socket: Socket,
        endpoint: &Endpoint,
        offer: &[Alpn],
    ) -> Result<Dialled, ProxyError> {
        let Transport::Mesh(expected) = &endpoint.transport else {
            return Ok(Dialled::plain(socket));
        };
        let server_name = MeshServerName::of_port(endpoint.app_port);
        let handshake =
            self.mutual_tls.connect(socket, &endpoint.id, expected, &server_name, offer);
        match handshake.await {
            Ok(connected) => Ok(Dialled {
                socket: connected.socket,
                alpn: connected.alpn,
                bundle_generation: Some(connected.bundle_generation),
                peer: Some(connected.peer),
                place: None,
            }),
            Err(refused) => {
                let error = refusal(endpoint, refused);
                note(endpoint, &error);
                Err(error)
            }
        }
    }
}

async fn connect_within(address: SocketAddr, limit: Duration) -> Result<Socket, ProxyError> {
    match clock::timeout(limit, net::connect(address)).await {
        Ok(Ok(stream)) => Ok(Socket::new(stream)),
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Err(ProxyError::new(
            Reason::ConnectRefused,
            format!("{address} refused the connection"),
        )),
        Ok(Err(error)) => Err(ProxyError::new(
            Reason::ConnectFailed,
            format!("cannot connect to {address}: {error}"),
        )),
        Err(_) => {
            let detail = format!("{address} did not accept within {limit:?}");
            Err(ProxyError::new(Reason::ConnectTimeout, detail))
        }
    }
}

fn refusal(endpoint: &Endpoint, refused: Refused) -> ProxyError {
    let detail = format!("{} at {}: {}", endpoint.id, endpoint.address, refused.detail);
    ProxyError::new(refused.reason, detail)
}

/// Says that this sidecar and an endpoint's do not trust each other: what the requests that it concerns come to is
/// theirs to tell. Not again while the endpoint is skipped for it.
fn note(endpoint: &Endpoint, error: &ProxyError) {
    if !endpoint.health.in_backoff(clock::process_ms()) {
        tracing::warn!(reason = %error.reason, detail = %error.detail, "no mutual TLS with an endpoint");
    }
}
