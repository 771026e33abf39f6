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

/// Settings of an HTTP/2 server connection.
#[derive(Debug, Clone)]
pub struct ServerSettings {}

impl ServerSettings {
    /// From the proxy's settings.
    #[must_use]
    pub fn new(_config: &crate::config::Config) -> Self {
        Self {}
    }
}

/// Settings of an HTTP/2 client connection.
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

/// A connection to a server, shared by many requests.
#[derive(Debug)]
pub struct Http2Client {}

impl Http2Client {
    /// Begins HTTP/2 on a connection. The returned future drives it and must be run once per connection; it
    /// ends when the connection has closed, or gracefully when the client was dropped.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn handshake(
        _socket: crate::io::Socket,
        _settings: ClientSettings,
        _side_headers: bool,
    ) -> Result<(Self, impl Future<Output = ()> + use<>), super::SendError> {
        Ok((Self {}, async {}))
    }

    /// The other side is a sidecar that understands side headers (`weft-h2/1`).
    #[must_use]
    pub fn side_headers(&self) -> bool {
        false
    }

    /// Whether another stream would be taken now.
    #[must_use]
    pub fn can_take_request(&self) -> bool {
        false
    }

    /// Streams open.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        0
    }

    /// Whether the connection has ended, or was told to go away.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        true
    }

    /// Sends a request.
    ///
    /// # Errors
    /// No response head came.
    pub async fn send(
        &self,
        _head: &super::RequestHead,
        _body: super::Body,
        _interim: &super::Interim,
    ) -> Result<super::Response, super::SendError> {
        Err(super::SendError::undelivered(crate::reason::Reason::Internal, "not written yet"))
    }
}
