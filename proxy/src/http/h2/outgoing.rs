//! A body on its way into an HTTP/2 stream: a request's to an endpoint, or a response's to a client.
//!
//! It asks for window only for a chunk that it holds, so that a stream whose sender has nothing to send takes
//! nothing of the connection's window from the others. It holds one chunk at a time. A body that breaks off
//! resets the stream; it never ends it.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::{
    code::ErrorCode,
    connection::{Stream, StreamError},
};
use crate::http::{Body, BodyError, Frame};

/// Sends a body into a stream.
#[derive(Debug)]
pub(super) struct Outgoing {
    stream: Stream,
    body: Body,
    /// What is left of the chunk in hand.
    chunk: Bytes,
    /// Nothing more is to be done with the stream.
    finished: bool,
}

/// Why a body was not sent to its end.
#[derive(Debug)]
pub(super) enum Stopped {
    /// Its source broke off; the stream was reset.
    Body(BodyError),
    /// The peer reset the stream, or the connection ended.
    Peer(Option<ErrorCode>),
}

impl From<StreamError> for Stopped {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Reset(code) | StreamError::NotLookedAt(code) => Self::Peer(Some(code)),
            StreamError::Fault(_) | StreamError::Ended(_) => Self::Peer(None),
        }
    }
}

impl Outgoing {
    pub(super) fn new(stream: Stream, body: Body) -> Self {
        Self { stream, body, chunk: Bytes::new(), finished: false }
    }

    /// A stream that ended with its head.
    pub(super) fn ended(stream: Stream) -> Self {
        Self { stream, body: Body::Empty, chunk: Bytes::new(), finished: true }
    }

    /// Sends all it can; ready when the body was handed over to its end.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        if self.finished {
            return Poll::Ready(Ok(()));
        }
        let sent = ready!(self.poll_body(cx));
        self.finished = true;
        Poll::Ready(sent)
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        loop {
            if !self.chunk.is_empty() {
                let room = ready!(self.stream.poll_room(cx))?;
                let piece = self.chunk.split_to(room.min(self.chunk.len()));
                let last = self.chunk.is_empty() && self.body.is_end();
                self.stream.send_data(piece, last)?;
                if last {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            if let Poll::Ready(stopped) = self.poll_stopped(cx) {
                return Poll::Ready(Err(stopped));
            }
            match ready!(self.body.poll_frame(cx)) {
                Some(Ok(Frame::Data(data))) => self.chunk = data,
                Some(Ok(Frame::Trailers(trailers))) => {
                    return Poll::Ready(Ok(self.stream.send_trailers(&trailers)?));
                }
                Some(Err(error)) => {
                    self.stream.reset(passed_on(error.reset_code()));
                    return Poll::Ready(Err(Stopped::Body(error)));
                }
                None => return Poll::Ready(Ok(self.stream.send_data(Bytes::new(), true)?)),
            }
        }
    }

    /// Ready when the peer wants nothing more of this stream.
    pub(super) fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<Stopped> {
        self.stream.poll_failed(cx).map(Stopped::from)
    }
}

impl Drop for Outgoing {
    /// A body that is given up resets its stream: nobody must take it for complete, or wait for the rest.
    fn drop(&mut self) {
        if !self.finished {
            self.stream.reset(ErrorCode::CANCEL);
        }
    }
}

/// The code with which one side's reset goes on to the other. Those that speak about the hop itself, or that
/// would invite another try of what may have been processed, become INTERNAL_ERROR; NO_ERROR does too, because
/// a body that broke off is an error.
pub(super) fn passed_on(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::NO_ERROR
        | ErrorCode::REFUSED_STREAM
        | ErrorCode::HTTP_1_1_REQUIRED
        | ErrorCode::SETTINGS_TIMEOUT
        | ErrorCode::FLOW_CONTROL_ERROR
        | ErrorCode::FRAME_SIZE_ERROR
        | ErrorCode::COMPRESSION_ERROR
        | ErrorCode::CONNECT_ERROR
        | ErrorCode::STREAM_CLOSED => ErrorCode::INTERNAL_ERROR,
        other => other,
    }
}
