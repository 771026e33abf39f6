//! Looks at a connection's first bytes without taking them.
//!
//! Cancel-safe: what was read so far stays in the [`Peek`], and goes back to the socket when it is done.

use std::{future::poll_fn, io, time::Duration};

use bytes::BytesMut;

use crate::{
    clock,
    detect::{self, Detected},
    io::Socket,
};

/// A look at one socket's first bytes.
#[derive(Debug)]
pub struct Peek<'a> {
    socket: &'a Socket,
    seen: BytesMut,
}

impl<'a> Peek<'a> {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(socket: &'a Socket) -> Self {
        Self { socket, seen: BytesMut::new() }
    }

    /// Reads until it is clear what the connection is. A peer that has begun has `patience` to make it clear
    /// ([`detect::unfinished`]); one that ends before that is opaque; one that ends without a byte is `None`.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn decide(&mut self, patience: Duration) -> io::Result<Option<Detected>> {
        if !self.any().await? {
            return Ok(None);
        }
        let deadline = clock::now() + patience;
        loop {
            match detect::detect(&self.seen) {
                Detected::NeedMore => {}
                decided => return Ok(Some(decided)),
            }
            let Ok(filled) = clock::timeout_at(deadline, self.fill()).await else {
                return Ok(Some(detect::unfinished(&self.seen)));
            };
            if filled? == 0 {
                return Ok(Some(Detected::Opaque));
            }
        }
    }

    /// Reads for as long as it is not clear what the connection is, and the next byte comes within `gap`: else it is
    /// [`Detected::NeedMore`]. A peer that ends before is opaque; one that ends without a byte is `None`.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn decide_while_it_speaks(&mut self, gap: Duration) -> io::Result<Option<Detected>> {
        if !self.any().await? {
            return Ok(None);
        }
        loop {
            match detect::detect(&self.seen) {
                Detected::NeedMore => {}
                decided => return Ok(Some(decided)),
            }
            match clock::timeout(gap, self.fill()).await {
                Ok(filled) if filled.as_ref().is_ok_and(|&count| count > 0) => {}
                Ok(filled) => return filled.map(|_| Some(Detected::Opaque)),
                Err(_) => return Ok(Some(Detected::NeedMore)),
            }
        }
    }

    /// Whether what was seen may be the beginning of a TLS hello.
    #[must_use]
    pub fn may_be_tls(&self) -> bool {
        self.seen.first() == Some(&detect::HANDSHAKE_RECORD)
    }

    /// Completes when it is clear what a server is that speaks first: HTTP/2 (true), or anything else; `None` when it
    /// ends before.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn is_http2_server(&mut self) -> io::Result<Option<bool>> {
        loop {
            if let Some(decided) = detect::is_http2_server(&self.seen) {
                return Ok(Some(decided));
            }
            if self.fill().await? == 0 {
                return Ok((!self.seen.is_empty()).then_some(false));
            }
        }
    }

    /// Completes when the peer has said anything (true), or ended without.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn any(&mut self) -> io::Result<bool> {
        Ok(!self.seen.is_empty() || self.fill().await? > 0)
    }

    async fn fill(&mut self) -> io::Result<usize> {
        poll_fn(|cx| self.socket.poll_fill(cx, &mut self.seen)).await
    }
}

impl Drop for Peek<'_> {
    fn drop(&mut self) {
        if !self.seen.is_empty() {
            self.socket.unread(std::mem::take(&mut self.seen).freeze());
        }
    }
}
