//! A worker's sockets: written once a turn of the event loop, read in large steps.
//!
//! In come bytes of many streams and frames; out go few, large system calls. [`Socket::write`] appends to a
//! buffer and marks the socket dirty; when the worker has nothing left to do, its park hook writes every dirty
//! socket out ([`turn`]), so that what was written in one turn leaves as one TLS record and one system call.
//! The record layer ([`tls`]) stands inside the socket, below that buffer.
//!
//! The contract, each line of which has a test:
//! - Above [`HIGH_WATER`] unwritten bytes [`Socket::poll_writable`] is pending and keeps its waker.
//! - What the kernel does not take has an owner, which goes on when the kernel can ([`driver`]).
//! - [`Socket::poll_shutdown`] drains, then half-closes.
//! - What was written before the last handle was dropped is still sent, unless the peer takes nothing for
//!   [`LINGER`]. Who must know that all was sent waits for the shutdown.
//! - A write error is sticky: it wakes the reader and fails every later write. What the peer sent before it
//!   can still be read.
//! - An idle socket holds no buffer.
//! - How many bytes reached the kernel is known, and errs only upwards.
//!
//! It must never lose a byte silently, and never tell that nothing was sent when something may have been.
//!
//! Sockets belong to the thread that made them, on a current-thread runtime. Where that thread has no park hook
//! (tests, simulations), every write leaves at once.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use rustls::{AlertDescription, ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::{self, TcpStream};

mod buffer;
mod connection;
mod driver;
mod failure;
mod receive;
mod send;
pub mod tls;
pub mod turn;

#[cfg(test)]
mod tests;

use connection::Connection;
pub use tls::{TlsError, TlsInfo};

/// Unwritten bytes above which a socket writes without waiting for the end of the turn, and above which
/// [`Socket::poll_writable`] is pending: enough for four full TLS records in one system call.
pub const HIGH_WATER: usize = 64 * 1024;

/// How long a dropped connection waits for the kernel to take any of its bytes, and then for its peer to close.
pub const LINGER: Duration = Duration::from_secs(1);

/// A connection of this worker: plain TCP, or TLS over TCP.
///
/// A handle, cheap to clone within its worker. The connection closes when the last handle is gone, after a
/// bounded linger for what was written. Any number of tasks may wait for room to write; one task at a time
/// may read.
pub struct Socket {
    connection: Rc<Connection>,
}

impl Socket {
    /// Takes over a TCP connection.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self { connection: Connection::new(stream) }
    }

    /// Makes the client's side of a TLS handshake: `alpn` lists the protocols offered, best first.
    ///
    /// # Errors
    /// The connection broke, or either side refused; the alert still reaches the peer.
    pub async fn start_tls_client(
        self,
        config: Arc<ClientConfig>,
        server_name: ServerName<'static>,
        alpn: Vec<Vec<u8>>,
    ) -> Result<Self, TlsError> {
        self.connection.begin_tls(tls::Tls::client(config, server_name, alpn)?);
        self.handshake().await
    }

    /// Makes the server's side of a TLS handshake.
    ///
    /// # Errors
    /// The connection broke, or either side refused; the alert still reaches the peer.
    pub async fn start_tls_server(self, config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        self.connection.begin_tls(tls::Tls::server(config)?);
        self.handshake().await
    }

    async fn handshake(self) -> Result<Self, TlsError> {
        std::future::poll_fn(|cx| self.connection.poll_handshake(cx)).await?;
        Ok(self)
    }

    /// What the TLS handshake came to; `None` on a plain connection.
    #[must_use]
    pub fn tls(&self) -> Option<TlsInfo> {
        self.connection.tls_info()
    }

    /// The alert by which the peer ended TLS before it had sent a byte of plaintext. Under TLS 1.3 that is also how
    /// a server refuses its client's certificate, which it judges only when the client's handshake is done.
    #[must_use]
    pub fn refusal(&self) -> Option<AlertDescription> {
        self.connection.refusal()
    }

    /// Reads in one large step, appending to `buffer`; `Ok(0)` at a clean end. A TLS connection that ended
    /// without close_notify is an `UnexpectedEof` error. Cancel-safe.
    ///
    /// While it is pending, an empty `buffer` gives its memory back.
    pub fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        turn::tick();
        self.connection.poll_fill(cx, buffer)
    }

    /// Ready when the write buffer is below its high-water mark; an error when the connection is broken.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        turn::tick();
        self.connection.poll_writable(cx)
    }

    /// Appends to the write buffer whatever its fill (call [`Socket::poll_writable`] first where the amount
    /// is not bounded); leaves at the end of the turn. The error of an earlier write is sticky.
    ///
    /// # Errors
    /// The connection is broken, or was shut down.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.connection.write(|buffer| buffer.append(bytes))
    }

    /// Like [`Socket::write`], without a copy where the piece is large.
    ///
    /// # Errors
    /// The connection is broken, or was shut down.
    pub fn write_bytes(&self, bytes: Bytes) -> io::Result<()> {
        self.connection.write(|buffer| buffer.append_bytes(bytes))
    }

    /// Writes out what is buffered now, without waiting for the end of the turn.
    pub fn flush_now(&self) {
        self.connection.flush();
    }

    /// Drains the write buffer, then half-closes (TLS: close_notify, then FIN).
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        turn::tick();
        self.connection.poll_shutdown(cx)
    }

    /// Ready when the peer has closed its side, or the connection broke. Bytes that arrive meanwhile are kept
    /// for the next read, up to 64 KiB; behind more than that the end is not seen.
    pub fn poll_peer_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        turn::tick();
        self.connection.poll_peer_gone(cx)
    }

    /// Whether the connection is broken, as far as the system knows: for a connection whose peer has ended its side, on
    /// which a reset wakes nobody.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.connection.is_broken()
    }

    /// Ready when anything at all happens on a connection on which nothing is expected: bytes (kept for the
    /// next read), its end, or an error. Such a kept connection is not to be used again.
    pub fn poll_disturbed(&self, cx: &mut Context<'_>) -> Poll<()> {
        turn::tick();
        self.connection.poll_disturbed(cx)
    }

    /// Puts bytes back in front of what is read next (after detection).
    pub fn unread(&self, bytes: Bytes) {
        self.connection.unread(bytes);
    }

    /// At most how many bytes of what was written (before encryption) have been handed to the kernel. On a TLS
    /// connection a batch of up to 64 KiB counts as a whole with its first byte: the number may be too high,
    /// never too low, so that zero difference to an earlier value proves that nothing was sent.
    #[must_use]
    pub fn written_to_kernel(&self) -> u64 {
        self.connection.written_to_kernel()
    }

    /// How many bytes have been handed to the kernel, as they are on the wire (encrypted, on a TLS connection).
    #[must_use]
    pub fn sent_on_wire(&self) -> u64 {
        self.connection.sent_on_wire()
    }

    /// How many of the bytes on the wire the peer's system has acknowledged; `None` where that is not known. Its
    /// acknowledgement of what it did receive may still be on the way, unless the peer's end has been read: that
    /// carries the last one.
    #[must_use]
    pub fn acknowledged_on_wire(&self) -> Option<u64> {
        self.connection.acknowledged_on_wire()
    }

    /// How many bytes were written (before encryption), handed to the kernel or not.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.connection.written()
    }

    /// Ends the connection at once with a TCP reset, dropping what is unwritten.
    pub fn abort(&self) {
        self.connection.abort();
    }

    /// The peer's address; an IPv4 peer's is one also where the listener is IPv6's.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.connection.address(TcpStream::peer_addr).map(net::canonical)
    }

    /// This side's address.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        self.connection.address(TcpStream::local_addr).map(net::canonical)
    }
}

/// Waits until no dropped connection of this thread lingers any more, and nothing that was written waits for the
/// kernel. The end of a runtime cuts its connections off, so a worker waits for this at its end.
pub async fn idle() {
    driver::idle().await;
}

/// Grows as long as the peers of the connections that [`idle`] waits for take bytes.
#[must_use]
pub fn taken() -> u64 {
    driver::taken()
}

impl Clone for Socket {
    fn clone(&self) -> Self {
        self.connection.add_handle();
        Self { connection: Rc::clone(&self.connection) }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.connection.remove_handle();
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("peer", &self.peer()).finish_non_exhaustive()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        turn::tick();
        self.connection.poll_read(cx, buf)
    }
}

/// Bytes leave at the end of the turn, so a flush has nothing to wait for; a shutdown drains.
impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_writable(cx))?;
        Poll::Ready(self.write(bytes).map(|()| bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_writable(cx))?;
        Poll::Ready(self.connection.write(|buffer| {
            pieces.iter().for_each(|piece| buffer.append(piece));
        }))
        .map_ok(|()| pieces.iter().map(|piece| piece.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.connection.check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Socket::poll_shutdown(&self, cx)
    }
}
