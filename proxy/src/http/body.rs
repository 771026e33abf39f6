//! Bodies: a concrete enum over the codecs' own, read frame by frame.
//!
//! A body ends with `None` only when its framing said so; a peer that went away early is an error, which the
//! other side passes on as a reset or a broken chunk, never as a clean end.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::Fields;

/// A message body.
#[derive(Debug, Default)]
pub enum Body {
    /// No body.
    #[default]
    Empty,
    /// A body that is here already.
    Full(Option<Bytes>),
    /// Read from an HTTP/1 connection, client's or server's.
    Http1(super::h1::IncomingBody),
    /// Read from an HTTP/2 stream.
    Http2(super::h2::IncomingBody),
    /// A request's body that is recorded for another attempt.
    Replay(super::replay::ReplayBody),
    /// A body that a policy's timeouts bound.
    Watched(Box<crate::policy::timeout::WatchedBody>),
    /// A response's body that closes the request's record at its end.
    Recorded(Box<crate::exchange::RecordedBody>),
    /// A request's body that is copied for a mirror as it passes by.
    Copied(Box<crate::exchange::CopiedBody>),
    /// Fed by a test; see [`channel`].
    #[cfg(test)]
    Channel(tokio::sync::mpsc::UnboundedReceiver<Result<Frame, BodyError>>),
}

/// A body that a test feeds frame by frame; it ends when the sender is dropped.
#[cfg(test)]
pub(crate) fn channel() -> (tokio::sync::mpsc::UnboundedSender<Result<Frame, BodyError>>, Body) {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    (sender, Body::Channel(receiver))
}

/// One piece of a body.
#[derive(Debug)]
pub enum Frame {
    /// Content; never empty.
    Data(Bytes),
    /// Trailers: the last frame.
    Trailers(Fields),
}

/// Why a body did not end cleanly.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BodyError {
    /// The connection ended before the framing said so.
    #[error("the connection ended before the body was complete")]
    Truncated,
    /// The framing is malformed.
    #[error("malformed body: {0}")]
    Malformed(&'static str),
    /// The peer reset the HTTP/2 stream.
    #[error("the stream was reset: {0}")]
    Reset(super::h2::ErrorCode),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(std::io::ErrorKind),
    /// Nothing came for too long.
    #[error("nothing was received in time")]
    TimedOut,
    /// The time that the request has is over.
    #[error("{}", .0.meaning())]
    Expired(crate::reason::Reason),
    /// The same, though more was there: it is long, or its reader slow.
    #[error("{}", .0.meaning())]
    Overdue(crate::reason::Reason),
}

impl BodyError {
    /// The HTTP/2 code with which the other side's stream is reset.
    #[must_use]
    pub const fn reset_code(&self) -> super::h2::ErrorCode {
        match self {
            Self::Reset(reason) => *reason,
            Self::TimedOut | Self::Expired(_) | Self::Overdue(_) => super::h2::ErrorCode::CANCEL,
            Self::Truncated | Self::Malformed(_) | Self::Io(_) => {
                super::h2::ErrorCode::INTERNAL_ERROR
            }
        }
    }
}

impl Body {
    /// A body of these bytes.
    #[must_use]
    pub fn full(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Full(Some(bytes)) }
    }

    /// The next frame; `None` at the clean end. Must not be polled after `None` or an error.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::Data(bytes)))),
            Self::Http1(body) => body.poll_frame(cx),
            Self::Http2(body) => body.poll_frame(cx),
            Self::Replay(body) => body.poll_frame(cx),
            Self::Watched(body) => body.poll_frame(cx),
            Self::Recorded(body) => body.poll_frame(cx),
            Self::Copied(body) => body.poll_frame(cx),
            #[cfg(test)]
            Self::Channel(receiver) => receiver.poll_recv(cx),
        }
    }

    /// The next frame; `None` at the clean end. Cancel-safe.
    pub async fn frame(&mut self) -> Option<Result<Frame, BodyError>> {
        poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// Whether it is known, without reading, that nothing (more) will come.
    #[must_use]
    pub fn is_end(&self) -> bool {
        match self {
            Self::Empty | Self::Full(None) => true,
            Self::Full(Some(_)) => false,
            Self::Http1(body) => body.is_end(),
            Self::Http2(body) => body.is_end(),
            Self::Replay(body) => body.is_end(),
            Self::Watched(body) => body.is_end(),
            Self::Recorded(body) => body.is_end(),
            Self::Copied(body) => body.is_end(),
            #[cfg(test)]
            Self::Channel(receiver) => receiver.is_closed() && receiver.is_empty(),
        }
    }

    /// How many bytes of content will come, where the framing says so. `Some(0)` for none.
    #[must_use]
    pub fn exact_length(&self) -> Option<u64> {
        match self {
            Self::Empty | Self::Full(None) => Some(0),
            Self::Full(Some(bytes)) => Some(bytes.len() as u64),
            Self::Http1(body) => body.exact_length(),
            Self::Http2(body) => body.exact_length(),
            Self::Replay(body) => body.exact_length(),
            Self::Watched(body) => body.exact_length(),
            Self::Recorded(body) => body.exact_length(),
            Self::Copied(body) => body.exact_length(),
            #[cfg(test)]
            Self::Channel(_) => None,
        }
    }
}

/// What is still to be sent of a request while its response is already on the way: the client codec's pump
/// from the request's body to the connection.
///
/// Completes when the request is sent whole, or with the error that ended it. Dropping it gives up the rest
/// of the request: the client codec resets the stream or closes the connection.
pub struct Upload(Pin<Box<dyn Future<Output = Result<(), BodyError>>>>);

impl Upload {
    /// An upload that this future drives.
    pub fn new(pump: impl Future<Output = Result<(), BodyError>> + 'static) -> Self {
        Self(Box::pin(pump))
    }
}

impl Future for Upload {
    type Output = Result<(), BodyError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Upload")
    }
}
