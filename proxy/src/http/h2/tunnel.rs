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
use h2::{Reason, RecvStream, SendStream};

use super::{SEND_BUFFER, client::OpenStream};
use crate::tcp::End;

/// A stream that carries bytes.
#[derive(Debug)]
pub struct Tunnel(RefCell<State>);

#[derive(Debug)]
struct State {
    send: SendStream<Bytes>,
    receive: RecvStream,
    /// What waits for the window.
    waiting: BytesMut,
    /// Bytes that were handed out last: their room is still taken.
    held: usize,
    /// Nothing more is sent.
    ended: bool,
    was_reset: bool,
    /// Keeps it counted among its connection's streams, on the client's side.
    open: Option<OpenStream>,
}

impl Tunnel {
    /// On a stream whose response's head has passed.
    pub(super) fn new(send: SendStream<Bytes>, receive: RecvStream) -> Self {
        Self(RefCell::new(State {
            send,
            receive,
            waiting: BytesMut::new(),
            held: 0,
            ended: false,
            was_reset: false,
            open: None,
        }))
    }

    /// One that counts among its connection's streams for as long as it lives.
    pub(super) fn counted(mut self, open: OpenStream) -> Self {
        self.0.get_mut().open = Some(open);
        self
    }

    /// Whether the peer has reset it.
    pub(super) fn was_reset(&self) -> bool {
        self.0.borrow().was_reset
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
        let ended = state.send.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(|error| state.broken(&error)))
    }

    fn abort(&self) {
        let mut state = self.0.borrow_mut();
        state.ended = true;
        state.send.send_reset(Reason::CANCEL);
    }
}

impl State {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        loop {
            let held = std::mem::take(&mut self.held);
            if held > 0 {
                // On a stream that is gone there is nothing to give back to.
                let _ = self.receive.flow_control().release_capacity(held);
            }
            match ready!(self.receive.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    self.held = data.len();
                    buffer.extend_from_slice(&data);
                    return Poll::Ready(Ok(data.len()));
                }
                Some(Err(error)) => return Poll::Ready(Err(self.broken(&error))),
                None => return Poll::Ready(Ok(0)),
            }
        }
    }

    /// Sends what waits, as far as the windows allow.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            // No more than can wait in the connection: the rest of its window is for other streams.
            self.send.reserve_capacity(self.waiting.len().min(SEND_BUFFER));
            let mut capacity = self.send.capacity();
            if capacity == 0 {
                capacity = match ready!(self.send.poll_capacity(cx)) {
                    Some(Ok(capacity)) => capacity,
                    Some(Err(error)) => return Poll::Ready(Err(self.broken(&error))),
                    None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                };
            }
            let piece = self.waiting.split_to(capacity.min(self.waiting.len())).freeze();
            if let Err(error) = self.send.send_data(piece, false) {
                return Poll::Ready(Err(self.broken(&error)));
            }
        }
        // Nothing is left of the chunk: its memory goes with it.
        self.waiting = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    fn broken(&mut self, error: &h2::Error) -> io::Error {
        self.was_reset |= error.is_reset() && error.is_remote();
        io::ErrorKind::ConnectionReset.into()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if !self.ended {
            self.send.send_reset(Reason::CANCEL);
        }
    }
}
