//! A body that is read from an HTTP/2 stream.
//!
//! The peer gets its window back for a chunk when the next one is asked for, that is when the chunk was passed
//! on: whoever reads slowly holds back the sender. Dropped early, it gives everything back and, once nothing
//! else holds the stream, resets it.

use std::{
    io::ErrorKind,
    task::{Context, Poll, ready},
};

use super::{
    client::OpenStream,
    connection::{Ended, Stream, StreamError},
};
use crate::http::{BodyError, Frame, side};

/// A body that is read from an HTTP/2 stream.
#[derive(Debug)]
pub struct IncomingBody {
    stream: Stream,
    /// The chunk that was handed out last: its bytes of window are still taken.
    held: usize,
    /// What the framing still announces.
    remaining: Option<u64>,
    has_ended: bool,
    /// Keeps a request counted among those in flight, until its response has ended.
    open: Option<OpenStream>,
}

impl IncomingBody {
    /// The body of this stream, whose head announced `length` bytes of content.
    pub(super) fn new(stream: Stream, length: Option<u64>, open: Option<OpenStream>) -> Self {
        Self { stream, held: 0, remaining: length, has_ended: false, open }
    }

    /// See [`crate::http::Body::poll_frame`].
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.release();
        if self.has_ended {
            return Poll::Ready(None);
        }
        match ready!(self.stream.poll_data(cx)) {
            Some(Ok(data)) => {
                self.held = data.len();
                self.count(data.len());
                Poll::Ready(Some(Ok(Frame::Data(data))))
            }
            Some(Err(error)) => {
                self.end();
                Poll::Ready(Some(Err(body_error(error))))
            }
            None => {
                let trailers = self.stream.take_trailers();
                self.end();
                Poll::Ready(trailers.map(|mut trailers| {
                    // Sidecars say nothing in trailers.
                    side::strip(&mut trailers);
                    Ok(Frame::Trailers(trailers))
                }))
            }
        }
    }

    /// See [`crate::http::Body::is_end`].
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.has_ended || self.stream.is_end()
    }

    /// See [`crate::http::Body::exact_length`].
    #[must_use]
    pub fn exact_length(&self) -> Option<u64> {
        if self.is_end() { Some(0) } else { self.remaining }
    }

    fn count(&mut self, bytes: usize) {
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.saturating_sub(bytes as u64);
        }
    }

    /// Gives the window of the last chunk back.
    fn release(&mut self) {
        if self.held > 0 {
            self.stream.release(self.held);
            self.held = 0;
        }
    }

    fn end(&mut self) {
        self.has_ended = true;
        self.open = None;
    }
}

impl Drop for IncomingBody {
    fn drop(&mut self) {
        self.release();
    }
}

/// Why a stream's body broke off. What the peer did wrong itself is malformed; a connection that ended is
/// truncation.
fn body_error(error: StreamError) -> BodyError {
    match error {
        StreamError::Reset(code) => BodyError::Reset(code),
        StreamError::NotLookedAt(_) | StreamError::Ended(Ended::Left) => BodyError::Truncated,
        StreamError::Ended(Ended::Io(ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)) => {
            BodyError::Truncated
        }
        StreamError::Ended(Ended::Io(kind)) => BodyError::Io(kind),
        StreamError::Fault(_) | StreamError::Ended(Ended::Fault(..)) => {
            BodyError::Malformed("the HTTP/2 stream breaks its protocol")
        }
    }
}
