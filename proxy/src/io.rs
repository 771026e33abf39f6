//! A worker's sockets: written once a turn of the event loop, read in large steps.
//!
//! (Being written: this file fixes the seam.) A [`Socket`] is a handle, cheap to clone within its worker; the
//! connection closes when the last handle is gone, after a bounded linger for what was written. It is plain
//! TCP or TLS over TCP: `tls.rs` turns one into the other.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::TcpStream;

/// A connection of this worker.
#[derive(Debug, Clone)]
pub struct Socket {}

impl Socket {
    /// Takes over a TCP connection.
    #[must_use]
    pub fn new(_stream: TcpStream) -> Self {
        Self {}
    }

    /// Reads in one large step, appending to `buffer`; `Ok(0)` at a clean end. A TLS connection that ended
    /// without close_notify is an `UnexpectedEof` error. Cancel-safe.
    pub fn poll_fill(
        &self,
        _cx: &mut Context<'_>,
        _buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    /// Ready when the write buffer is below its high-water mark; an error when the connection is broken.
    pub fn poll_writable(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    /// Appends to the write buffer whatever its fill (call [`Socket::poll_writable`] first where the amount
    /// is not bounded); leaves at the end of the turn. The error of an earlier write is sticky.
    ///
    /// # Errors
    /// The connection is broken, or was shut down.
    pub fn write(&self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// Like [`Socket::write`], without a copy where the piece is large.
    ///
    /// # Errors
    /// The connection is broken, or was shut down.
    pub fn write_bytes(&self, _bytes: Bytes) -> io::Result<()> {
        Ok(())
    }

    /// Drains the write buffer, then half-closes (TLS: close_notify, then FIN).
    pub fn poll_shutdown(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    /// Ready when the peer has closed its side, or the connection broke; used to watch an idle connection
    /// without consuming bytes.
    pub fn poll_peer_gone(&self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Puts bytes back in front of what is read next (after detection).
    pub fn unread(&self, _bytes: Bytes) {}

    /// How many bytes of what was written (before encryption) have been handed to the kernel.
    #[must_use]
    pub fn written_to_kernel(&self) -> u64 {
        0
    }

    /// How many bytes were written (before encryption), handed to the kernel or not.
    #[must_use]
    pub fn written(&self) -> u64 {
        0
    }

    /// Ends the connection at once with a TCP reset, dropping what is unwritten.
    pub fn abort(&self) {}

    /// The peer's address.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        None
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}
