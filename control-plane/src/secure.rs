//! The secured port: TCP connections become TLS streams that know their client's certificate.
//!
//! Comes in: a listener and a TLS configuration. Goes out: a stream of connections for tonic, each with the
//! chain its client presented as request extension. Handshakes run beside each other, bounded in number and
//! time: a silent client holds up nobody.

use std::{
    io,
    net::SocketAddr,
    ops::Deref,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use crate::net::{TcpListener, TcpStream};

/// Handshakes under way at once.
const MAX_HANDSHAKES: usize = 512;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// After accept fails (out of descriptors), this long passes before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The chain that a connection's client presented; empty when it presented none. It was verified at the
/// handshake, and must be verified again when it is used.
#[derive(Debug, Clone, Default)]
pub struct PeerChain {
    certificates: Arc<[CertificateDer<'static>]>,
    from: Option<SocketAddr>,
}

impl PeerChain {
    /// Where the client is, for people.
    #[must_use]
    pub const fn from(&self) -> Option<SocketAddr> {
        self.from
    }
}

impl Deref for PeerChain {
    type Target = [CertificateDer<'static>];
    fn deref(&self) -> &Self::Target {
        &self.certificates
    }
}

/// One connection.
pub struct SecureStream {
    tls: TlsStream<TcpStream>,
    chain: PeerChain,
}

impl SecureStream {
    fn new(tls: TlsStream<TcpStream>) -> Self {
        let certificates = tls.get_ref().1.peer_certificates().unwrap_or_default();
        let certificates = certificates.iter().map(|der| der.clone().into_owned()).collect();
        let from = tls.get_ref().0.peer_addr().ok();
        Self { chain: PeerChain { certificates, from }, tls }
    }
}

/// Accepts connections until the receiver of the answer is dropped; the task lives in `tasks`.
pub fn accept(
    listener: TcpListener,
    config: Arc<rustls::ServerConfig>,
    tasks: &mut JoinSet<()>,
) -> mpsc::Receiver<io::Result<SecureStream>> {
    let (connections, incoming) = mpsc::channel(16);
    tasks.spawn(accept_loop(listener, TlsAcceptor::from(config), connections));
    incoming
}

async fn accept_loop(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    connections: mpsc::Sender<io::Result<SecureStream>>,
) {
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            () = connections.closed() => return,
            Some(_) = handshakes.join_next() => {}
            accepted = listener.accept(), if handshakes.len() < MAX_HANDSHAKES => match accepted {
                Ok((tcp, from)) => {
                    handshakes.spawn(handshake(acceptor.clone(), tcp, from, connections.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    from: SocketAddr,
    connections: mpsc::Sender<io::Result<SecureStream>>,
) {
    // Updates are small and wait for nobody.
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, %from, "TCP_NODELAY is refused");
    }
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)).await {
        Ok(Ok(tls)) => {
            // Nobody takes it only when the server is stopping.
            let _ = connections.send(Ok(SecureStream::new(tls))).await;
        }
        Ok(Err(error)) => tracing::info!(%error, %from, "a TLS handshake failed"),
        Err(_) => tracing::info!(%from, "a TLS handshake took too long"),
    }
}

impl Connected for SecureStream {
    type ConnectInfo = PeerChain;
    fn connect_info(&self) -> PeerChain {
        self.chain.clone()
    }
}

impl AsyncRead for SecureStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for SecureStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}
