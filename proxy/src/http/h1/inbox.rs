//! What comes in on one connection: its unparsed bytes, and the body that is being cut out of them.
//!
//! Shared by the connection's task (heads) and the [`IncomingBody`] of the message in progress; both run on
//! one worker. Only one body can be open at a time: a handle to an earlier message's body gets an error,
//! never a later message's bytes.

use std::{
    cell::RefCell,
    io,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};

use super::{
    decode::{Decoded, Decoder},
    error::HeadError,
    framing::BodyLength,
    parse::{self, HeadLimits, ParsedRequest, ParsedResponse, Progress},
};
use crate::{
    http::{BodyError, Frame},
    io::Socket,
};

/// The reading half of a connection.
#[derive(Debug)]
pub(super) struct Inbox {
    socket: Socket,
    limits: HeadLimits,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    buffer: BytesMut,
    progress: Progress,
    decoder: Decoder,
    /// Which message the decoder is for.
    message: u32,
    /// Something of its body was read.
    has_begun: bool,
    /// The peer will send nothing more.
    ended: bool,
    received: u64,
    failed: Option<BodyError>,
}

impl Inbox {
    pub(super) fn new(socket: Socket, limits: HeadLimits) -> Self {
        let state = RefCell::new(State {
            buffer: BytesMut::new(),
            progress: Progress::default(),
            decoder: Decoder::new(BodyLength::Empty, limits),
            message: 0,
            has_begun: false,
            ended: false,
            received: 0,
            failed: None,
        });
        Self { socket, limits, state }
    }

    /// The next request's head, if it is here whole.
    pub(super) fn parse_request(&self) -> Result<Option<ParsedRequest>, HeadError> {
        let state = &mut *self.state.borrow_mut();
        parse::request(&mut state.buffer, &mut state.progress, self.limits)
    }

    /// The next response's head, if it is here whole.
    pub(super) fn parse_response(
        &self,
        to_head: bool,
    ) -> Result<Option<ParsedResponse>, HeadError> {
        let state = &mut *self.state.borrow_mut();
        parse::response(&mut state.buffer, &mut state.progress, self.limits, to_head)
    }

    /// Reads more; `Ok(0)` at the end.
    pub(super) fn poll_fill(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let state = &mut *self.state.borrow_mut();
        if state.ended {
            return Poll::Ready(Ok(0));
        }
        let count = ready!(self.socket.poll_fill(cx, &mut state.buffer))?;
        state.ended = count == 0;
        state.received += count as u64;
        Poll::Ready(Ok(count))
    }

    /// Begins the body of the message whose head was just parsed; returns which message it is.
    pub(super) fn begin_body(&self, length: BodyLength) -> u32 {
        let mut state = self.state.borrow_mut();
        state.decoder = Decoder::new(length, self.limits);
        state.failed = None;
        state.has_begun = false;
        state.message = state.message.wrapping_add(1);
        state.message
    }

    /// The next frame of a message's body.
    pub(super) fn poll_frame(
        &self,
        cx: &mut Context<'_>,
        message: u32,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        loop {
            if let Poll::Ready(frame) = self.state.borrow_mut().next_frame(message) {
                return Poll::Ready(frame.transpose());
            }
            if let Err(error) = ready!(self.poll_fill(cx)) {
                let error = match error.kind() {
                    io::ErrorKind::UnexpectedEof => BodyError::Truncated,
                    kind => BodyError::Io(kind),
                };
                self.state.borrow_mut().failed = Some(error.clone());
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    /// Whether the body in progress was cut out whole.
    pub(super) fn body_is_done(&self) -> bool {
        let state = self.state.borrow();
        state.failed.is_none() && state.decoder.is_done()
    }

    /// Whether anything of the body in progress has arrived.
    pub(super) fn body_has_begun(&self) -> bool {
        let state = self.state.borrow();
        state.has_begun || !state.buffer.is_empty()
    }

    /// Whether nothing more comes of a message's body.
    pub(super) fn is_end_of(&self, message: u32) -> bool {
        let state = self.state.borrow();
        state.message == message && state.failed.is_none() && state.decoder.is_done()
    }

    /// How much of a message's body is still to come, where that is known.
    pub(super) fn remaining_of(&self, message: u32) -> Option<u64> {
        let state = self.state.borrow();
        state.decoder.remaining().filter(|_| state.message == message)
    }

    /// Bytes that were read and not used yet.
    pub(super) fn buffered(&self) -> usize {
        self.state.borrow().buffer.len()
    }

    /// Whether the peer will send nothing more.
    pub(super) fn has_ended(&self) -> bool {
        self.state.borrow().ended
    }

    /// All bytes that ever came in.
    pub(super) fn received(&self) -> u64 {
        self.state.borrow().received
    }

    /// Takes what was read and not used: it belongs to whoever takes the connection over.
    pub(super) fn take_rest(&self) -> Bytes {
        self.state.borrow_mut().buffer.split().freeze()
    }

    /// Which message's body is in progress.
    pub(super) fn message(&self) -> u32 {
        self.state.borrow().message
    }

    /// Whether more than this is known to be left of the body in progress.
    pub(super) fn rest_exceeds(&self, bytes: u64) -> bool {
        self.state.borrow().decoder.remaining().is_some_and(|remaining| remaining > bytes)
    }
}

impl State {
    /// The next frame, `Ok(None)` at the clean end; pending when more bytes are needed.
    fn next_frame(&mut self, message: u32) -> Poll<Result<Option<Frame>, BodyError>> {
        if self.message != message {
            return Poll::Ready(Err(BodyError::Truncated));
        }
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        self.has_begun |= !self.buffer.is_empty();
        match self.decoder.decode(&mut self.buffer, self.ended) {
            Ok(Decoded::Data(data)) => Poll::Ready(Ok(Some(Frame::Data(data)))),
            Ok(Decoded::Trailers(trailers)) => Poll::Ready(Ok(Some(Frame::Trailers(trailers)))),
            Ok(Decoded::End) => Poll::Ready(Ok(None)),
            Ok(Decoded::More) => Poll::Pending,
            Err(error) => {
                self.failed = Some(error.clone());
                Poll::Ready(Err(error))
            }
        }
    }
}
