//! A body that is read from an HTTP/2 stream.
//!
//! The peer gets its window back for a chunk when the next one is asked for, that is when the chunk was passed
//! on: whoever reads slowly holds back the sender. Dropped early, it gives everything back and, once nothing
//! else holds the stream, resets it.

use std::task::{Context, Poll, ready};

use h2::RecvStream;

use super::client::OpenStream;
use crate::http::{BodyError, Frame, side};

/// A body that is read from an HTTP/2 stream.
#[derive(Debug)]
pub struct IncomingBody {
    stream: RecvStream,
    /// The chunk that was handed out last: its bytes of window are still taken.
    held: usize,
    /// What the framing still announces.
    remaining: Option<u64>,
    state: State,
    /// Keeps a request counted among those in flight, until its response has ended.
    open: Option<OpenStream>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Data,
    Trailers,
    Ended,
}

impl IncomingBody {
    /// The body of this stream, whose head announced `length` bytes of content.
    pub(super) fn new(stream: RecvStream, length: Option<u64>, open: Option<OpenStream>) -> Self {
        Self { stream, held: 0, remaining: length, state: State::Data, open }
    }

    /// See [`crate::http::Body::poll_frame`].
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.release();
        if self.state == State::Data {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.held = data.len();
                    if !data.is_empty() {
                        self.count(data.len());
                        return Poll::Ready(Some(Ok(Frame::Data(data))));
                    }
                    // An empty frame that ends the stream: the end comes next.
                    return self.poll_frame(cx);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(self.fail(&error)))),
                None => self.state = State::Trailers,
            }
        }
        if self.state == State::Trailers {
            let trailers = ready!(self.stream.poll_trailers(cx));
            self.end();
            return Poll::Ready(match trailers {
                Ok(None) => None,
                Ok(Some(mut trailers)) => {
                    // Sidecars say nothing in trailers.
                    side::strip(&mut trailers);
                    Some(Ok(Frame::Trailers(trailers)))
                }
                Err(error) => Some(Err(body_error(&error))),
            });
        }
        Poll::Ready(None)
    }

    /// See [`crate::http::Body::is_end`].
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.state == State::Ended || self.stream.is_end_stream()
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

    /// Gives the window of the last chunk back. On a stream that is gone there is nothing to give back to.
    fn release(&mut self) {
        if self.held > 0 {
            let _ = self.stream.flow_control().release_capacity(self.held);
            self.held = 0;
        }
    }

    fn fail(&mut self, error: &h2::Error) -> BodyError {
        self.end();
        body_error(error)
    }

    fn end(&mut self) {
        self.state = State::Ended;
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
fn body_error(error: &h2::Error) -> BodyError {
    if let Some(io) = error.get_io() {
        return match io.kind() {
            std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::UnexpectedEof => {
                BodyError::Truncated
            }
            kind => BodyError::Io(kind),
        };
    }
    match error.reason() {
        Some(reason) if error.is_reset() && error.is_remote() => BodyError::Reset(reason),
        Some(_) if error.is_go_away() => BodyError::Truncated,
        _ => BodyError::Malformed("the HTTP/2 stream breaks its protocol"),
    }
}
