//! A stream that carries bytes instead of a message's content: one [`End`] of what is spliced, a client's or a server's.
//!
//! In come bytes for the peer, out go those that it sends, each direction within the stream's window: a chunk's room
//! is given back when the next one is asked for, that is when it was passed on. An end that is not clean is a reset
//! (RFC 8441 section 5 says CANCEL), also when the tunnel is dropped before.

use std::{
    cell::RefCell,
    io,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};

use super::{
    client::OpenStream,
    code::ErrorCode,
    connection::{Stream, StreamError},
};
use crate::tcp::End;

/// A stream that carries bytes.
#[derive(Debug)]
pub struct Tunnel(RefCell<State>);

#[derive(Debug)]
struct State {
    stream: Stream,
    /// What waits for the window.
    waiting: BytesMut,
    /// Bytes that were handed out last: their room is still taken.
    held: usize,
    /// Nothing more is sent.
    ended: bool,
    /// Keeps it counted among its connection's streams, on the client's side.
    open: Option<OpenStream>,
}

impl Tunnel {
    /// On a stream whose response's head has passed.
    pub(super) fn new(stream: Stream) -> Self {
        let waiting = BytesMut::new();
        Self(RefCell::new(State { stream, waiting, held: 0, ended: false, open: None }))
    }

    /// One that counts among its connection's streams for as long as it lives.
    pub(super) fn counted(mut self, open: OpenStream) -> Self {
        self.0.get_mut().open = Some(open);
        self
    }
}

impl End for Tunnel {
    fn poll_fill(&self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_fill(cx, buffer)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_drain(cx)
    }

    fn write_bytes(&self, bytes: Bytes) -> io::Result<()> {
        self.0.borrow_mut().waiting.extend_from_slice(&bytes);
        Ok(())
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        ready!(state.poll_drain(cx))?;
        state.ended = true;
        let ended = state.stream.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(broken))
    }

    fn abort(&self) {
        let mut state = self.0.borrow_mut();
        state.ended = true;
        state.stream.reset(ErrorCode::CANCEL);
    }
}

impl State {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let held = std::mem::take(&mut self.held);
        if held > 0 {
            self.stream.release(held);
        }
        match ready!(self.stream.poll_data(cx)) {
            Some(Ok(data)) => {
                self.held = data.len();
                buffer.extend_from_slice(&data);
                Poll::Ready(Ok(data.len()))
            }
            Some(Err(error)) => Poll::Ready(Err(broken(error))),
            None => Poll::Ready(Ok(0)),
        }
    }

    /// Sends what waits, as far as the windows allow.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Also with nothing to send: a peer that has ended its side may still reset the stream.
        if let Poll::Ready(error) = self.stream.poll_failed(cx) {
            return Poll::Ready(Err(broken(error)));
        }
        while !self.waiting.is_empty() {
            let room = ready!(self.stream.poll_room(cx)).map_err(broken)?;
            let piece = self.waiting.split_to(room.min(self.waiting.len())).freeze();
            self.stream.send_data(piece, false).map_err(broken)?;
        }
        // Nothing is left of the chunk: its memory goes with it.
        self.waiting = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

/// What the other end sees of a stream that broke off.
fn broken(error: StreamError) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

impl Drop for State {
    fn drop(&mut self) {
        if self.held > 0 {
            // The connection's window is everybody's.
            self.stream.release(self.held);
        }
        if !self.ended {
            self.stream.reset(ErrorCode::CANCEL);
        }
    }
}
