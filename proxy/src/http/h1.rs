//! (Being written.)

use std::task::{Context, Poll};

use super::{BodyError, Frame};

/// A body that is read from this kind of connection.
#[derive(Debug)]
pub struct IncomingBody {}

impl IncomingBody {
    /// See [`super::Body::poll_frame`].
    pub fn poll_frame(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        Poll::Ready(None)
    }

    /// See [`super::Body::is_end`].
    #[must_use]
    pub fn is_end(&self) -> bool {
        true
    }

    /// See [`super::Body::exact_length`].
    #[must_use]
    pub fn exact_length(&self) -> Option<u64> {
        None
    }
}

/// Settings of an HTTP/1 server connection.
#[derive(Debug, Clone)]
pub struct ServerSettings {}

impl ServerSettings {
    /// From the proxy's settings.
    #[must_use]
    pub fn new(_config: &crate::config::Config) -> Self {
        Self {}
    }
}

/// Settings of an HTTP/1 client connection.
#[derive(Debug, Clone)]
pub struct ClientSettings {}

impl ClientSettings {
    /// From the proxy's settings.
    #[must_use]
    pub fn new(_config: &crate::config::Config) -> Self {
        Self {}
    }
}

/// Serves a client's connection to its end.
pub async fn serve<H: super::Handler>(
    _socket: crate::io::Socket,
    _handler: &H,
    _settings: &ServerSettings,
    _drain: &crate::drain::Drain,
) -> super::Served {
    super::Served::Closed(None)
}

/// A connection to a server, for one request at a time.
#[derive(Debug)]
pub struct Http1Client {}

impl Http1Client {
    /// A connection that nothing was sent on yet.
    #[must_use]
    pub fn new(_socket: crate::io::Socket, _settings: ClientSettings) -> Self {
        Self {}
    }

    /// Sends a request; the connection goes to the shelf when the response has ended and it can be used again.
    ///
    /// # Errors
    /// No response head came.
    pub async fn send(
        self,
        _head: &super::RequestHead,
        _body: super::Body,
        _interim: &super::Interim,
        _shelf: std::rc::Rc<Shelf>,
    ) -> Result<super::Response, super::SendError> {
        Err(super::SendError::undelivered(crate::reason::Reason::Internal, "not written yet"))
    }
}

/// Idle connections to one endpoint.
#[derive(Debug)]
pub struct Shelf {}

impl Shelf {
    /// A shelf for this many.
    #[must_use]
    pub fn new(_max_idle: usize) -> Self {
        Self {}
    }

    /// An idle connection that is still open, the one used last.
    #[must_use]
    pub fn take(&self) -> Option<Http1Client> {
        None
    }

    /// How many are idle.
    #[must_use]
    pub fn len(&self) -> usize {
        0
    }

    /// Whether none is idle.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Closes those that are idle for too long, or too old.
    pub fn evict(
        &self,
        _now: crate::clock::Instant,
        _idle_timeout: std::time::Duration,
        _max_age: std::time::Duration,
    ) {
    }
}
