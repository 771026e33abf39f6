//! A body on its way into an HTTP/2 stream: a request's to an endpoint, or a response's to a client.
//!
//! It asks for window only for a chunk that it holds, so that a stream whose sender has nothing to send takes
//! nothing of the connection's window from the others. It holds one chunk at a time. A body that breaks off
//! resets the stream; it never ends it.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;

use super::{SEND_BUFFER, head};
use crate::http::{Body, BodyError, Frame};

/// Sends a body into a stream.
#[derive(Debug)]
pub(super) struct Outgoing {
    stream: SendStream<Bytes>,
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
    Peer(Option<Reason>),
}

impl Outgoing {
    pub(super) fn new(stream: SendStream<Bytes>, body: Body) -> Self {
        Self { stream, body, chunk: Bytes::new(), finished: false }
    }

    /// A stream that ended with its head.
    pub(super) fn ended(stream: SendStream<Bytes>) -> Self {
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
                let last = ready!(self.poll_send_chunk(cx))?;
                if last {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            if let Poll::Ready(stopped) = self.poll_stopped(cx) {
                return Poll::Ready(Err(stopped));
            }
            let ended = match ready!(self.body.poll_frame(cx)) {
                Some(Ok(Frame::Data(data))) => {
                    self.chunk = data;
                    continue;
                }
                Some(Ok(Frame::Trailers(trailers))) => self.send_trailers(trailers),
                Some(Err(error)) => {
                    self.stream.send_reset(passed_on(error.reset_code()));
                    return Poll::Ready(Err(Stopped::Body(error)));
                }
                None => self.stream.send_data(Bytes::new(), true),
            };
            return Poll::Ready(ended.map_err(|error| Stopped::Peer(error.reason())));
        }
    }

    /// Ready when the peer wants nothing more of this stream.
    pub(super) fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<Stopped> {
        self.stream.poll_reset(cx).map(|reset| Stopped::Peer(reset.ok()))
    }

    /// Sends as much of the chunk in hand as the windows allow; says whether that was the body's end.
    fn poll_send_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Stopped>> {
        // No more than can wait here: the rest of the connection's window is for other streams.
        self.stream.reserve_capacity(self.chunk.len().min(SEND_BUFFER));
        let mut capacity = self.stream.capacity();
        if capacity == 0 {
            capacity = match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(capacity)) => capacity,
                Some(Err(error)) => return Poll::Ready(Err(Stopped::Peer(error.reason()))),
                None => return Poll::Ready(Err(self.why_stopped(cx))),
            };
        }
        let piece = self.chunk.split_to(capacity.min(self.chunk.len()));
        let last = self.chunk.is_empty() && self.body.is_end();
        match self.stream.send_data(piece, last) {
            Ok(()) => Poll::Ready(Ok(last)),
            Err(_) => Poll::Ready(Err(self.why_stopped(cx))),
        }
    }

    fn send_trailers(&mut self, mut trailers: HeaderMap) -> Result<(), h2::Error> {
        head::strip_connection_fields(&mut trailers);
        self.stream.send_trailers(trailers)
    }

    fn why_stopped(&mut self, cx: &mut Context<'_>) -> Stopped {
        match self.poll_stopped(cx) {
            Poll::Ready(stopped) => stopped,
            Poll::Pending => Stopped::Peer(None),
        }
    }
}

impl Drop for Outgoing {
    /// A body that is given up resets its stream: nobody must take it for complete, or wait for the rest.
    fn drop(&mut self) {
        if !self.finished {
            self.stream.send_reset(Reason::CANCEL);
        }
    }
}

/// The code with which one side's reset goes on to the other. Those that speak about the hop itself, or that
/// would invite another try of what may have been processed, become INTERNAL_ERROR; NO_ERROR does too, because
/// a body that broke off is an error.
pub(super) fn passed_on(reason: Reason) -> Reason {
    match reason {
        Reason::NO_ERROR
        | Reason::REFUSED_STREAM
        | Reason::HTTP_1_1_REQUIRED
        | Reason::SETTINGS_TIMEOUT
        | Reason::FLOW_CONTROL_ERROR
        | Reason::FRAME_SIZE_ERROR
        | Reason::COMPRESSION_ERROR
        | Reason::CONNECT_ERROR
        | Reason::STREAM_CLOSED => Reason::INTERNAL_ERROR,
        other => other,
    }
}
