//! Requests and responses as the exchange sees them, whichever codec they came from.
//!
//! Heads are free of hop-by-hop fields: the server codec has taken out what concerns its own connection
//! (RFC 9110 7.6.1) and the client codec adds what its own needs.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, Version};

use super::{Body, Fields, body::Upload, h2::Tunnel};
use crate::{exchange::passage::Passage, io::Socket, policy::gate::Turn, tcp::End};

/// A request on its way through the proxy.
#[derive(Debug)]
pub struct Request {
    /// Method, target and fields.
    pub head: RequestHead,
    /// The body, not read yet.
    pub body: Body,
    /// Where informational responses to this request go.
    pub interim: Interim,
}

/// Method, target and fields of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The target. Origin-form has path and query only; absolute-form and HTTP/2 also have scheme and
    /// authority; CONNECT has the authority only; `OPTIONS *` has the path `*`.
    pub target: Uri,
    /// The version that the client spoke.
    pub version: Version,
    /// Fields, without hop-by-hop ones. `Host` is kept as received; HTTP/2's `:authority` is in `target`.
    pub headers: Fields,
    /// The protocols of an `Upgrade` offer (never `h2c`), taken out of the fields by the server codec.
    pub upgrade: Option<Bytes>,
    /// The client announced `TE: trailers`.
    pub accepts_trailers: bool,
}

impl RequestHead {
    /// Whether this is a gRPC request, by its content type.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        is_grpc(&self.headers)
    }

    /// The values of a field, as who names it means it: HTTP/2 says the host in `:authority`.
    pub fn values(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        let mut fields = self.headers.get_all(name).map(HeaderValue::as_bytes).peekable();
        let is_elsewhere = *name == http::header::HOST && fields.peek().is_none();
        let authority = self.target.authority().filter(|_| is_elsewhere);
        fields.chain(authority.map(|authority| authority.as_str().as_bytes()))
    }
}

/// The final response to a request.
#[derive(Debug)]
pub struct Response {
    /// Status and fields. In a box: a response changes hands a dozen times on its way.
    pub head: Box<ResponseHead>,
    /// The body, not read yet.
    pub body: Body,
    /// What is still to be sent of the request: the server codec drives it while it writes the response, so
    /// that neither direction waits for the other.
    pub upload: Option<Upload>,
    /// Set with 101, and with 200 to CONNECT: what becomes of the connection after the head.
    pub takeover: Option<Takeover>,
}

/// Status and fields of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status, informational ones too.
    pub status: StatusCode,
    /// HTTP/1's reason phrase where it is not the status's usual one.
    pub reason_phrase: Option<Bytes>,
    /// Fields, without hop-by-hop ones.
    pub headers: Fields,
    /// With 101: the protocol that was chosen, taken out of the fields.
    pub upgrade: Option<Bytes>,
}

impl ResponseHead {
    /// A head with this status and no fields.
    #[must_use]
    pub fn new(status: StatusCode) -> Self {
        Self { status, reason_phrase: None, headers: Fields::new(), upgrade: None }
    }

    /// Whether this is the response to a gRPC call.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        is_grpc(&self.headers)
    }
}

fn is_grpc(headers: &Fields) -> bool {
    let kind = headers.get(http::header::CONTENT_TYPE);
    kind.is_some_and(|value| super::grpc::is_content_type(value.as_bytes()))
}

impl Response {
    /// A response with this head and body, nothing left to send of the request.
    #[must_use]
    pub fn new(head: ResponseHead, body: Body) -> Self {
        Self { head: Box::new(head), body, upload: None, takeover: None }
    }
}

/// What becomes of a connection after the response's head was written.
#[derive(Debug)]
pub enum Takeover {
    /// Bytes flow between the client and this server (after 101).
    Splice(Onward),
    /// The same, with a server outside the mesh that nobody registers: for as long as traffic may go there.
    Outside(Onward),
    /// The client tunnels to a destination through this proxy (after 200 to CONNECT): what comes next is
    /// detected like any other connection.
    Tunnel {
        /// HOST:PORT, in the form of discovery's keys.
        destination: String,
    },
}

/// The connection to the server that goes on after a takeover. It is work in flight until it ends: whatever its request
/// took of a service's limits is given back when this is dropped.
#[derive(Debug)]
pub struct Onward {
    /// The server's end of it.
    pub end: ServerEnd,
    turns: Vec<Turn>,
    passage: Option<Passage>,
}

/// The server's end of what goes on after a takeover.
#[derive(Debug)]
pub enum ServerEnd {
    /// All of a connection.
    Connection(Socket),
    /// A stream of a connection that carries others too.
    Stream(Tunnel),
}

impl End for ServerEnd {
    fn poll_fill(&self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        match self {
            Self::Connection(socket) => socket.poll_fill(cx, buffer),
            Self::Stream(tunnel) => tunnel.poll_fill(cx, buffer),
        }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Connection(socket) => socket.poll_writable(cx),
            Self::Stream(tunnel) => tunnel.poll_writable(cx),
        }
    }

    fn write_bytes(&self, bytes: Bytes) -> io::Result<()> {
        match self {
            Self::Connection(socket) => socket.write_bytes(bytes),
            Self::Stream(tunnel) => tunnel.write_bytes(bytes),
        }
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Connection(socket) => socket.poll_shutdown(cx),
            Self::Stream(tunnel) => tunnel.poll_shutdown(cx),
        }
    }

    fn abort(&self) {
        match self {
            Self::Connection(socket) => socket.abort(),
            Self::Stream(tunnel) => tunnel.abort(),
        }
    }
}

impl Onward {
    /// A connection that holds nothing.
    #[must_use]
    pub const fn new(end: ServerEnd) -> Self {
        Self { end, turns: Vec::new(), passage: None }
    }

    /// Holds this until it ends.
    pub fn hold(&mut self, turn: Option<Turn>) {
        self.turns.extend(turn);
    }

    /// Goes on for as long as its request may, on the server's side.
    pub fn bound(&mut self, passage: Option<Passage>) {
        self.passage = passage;
    }

    /// For how long the request may go on; `None` where nothing bounds it.
    #[must_use]
    pub const fn passage(&self) -> Option<&Passage> {
        self.passage.as_ref()
    }
}

impl Takeover {
    /// The connection that goes on; `None` for a tunnel, which is detected anew.
    pub const fn onward(&mut self) -> Option<&mut Onward> {
        match self {
            Self::Splice(onward) | Self::Outside(onward) => Some(onward),
            Self::Tunnel { .. } => None,
        }
    }
}

/// Carries informational (1xx) responses from the client codec, which reads them, to the server codec, which
/// writes them while the final response is awaited.
#[derive(Debug, Clone, Default)]
pub struct Interim {
    state: Rc<RefCell<InterimState>>,
    sanitize: Option<fn(&mut ResponseHead)>,
}

#[derive(Debug, Default)]
struct InterimState {
    heads: VecDeque<ResponseHead>,
    waker: Option<Waker>,
}

impl Interim {
    /// The same way, for heads that must be sanitized on it.
    #[must_use]
    pub fn sanitized(&self, sanitize: fn(&mut ResponseHead)) -> Self {
        Self { state: self.state.clone(), sanitize: Some(sanitize) }
    }

    /// Hands a 1xx head to the server codec. 101 is never sent this way.
    pub fn send(&self, mut head: ResponseHead) {
        if let Some(sanitize) = self.sanitize {
            sanitize(&mut head);
        }
        let mut state = self.state.borrow_mut();
        state.heads.push_back(head);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// The next 1xx head. Cancel-safe; pends for ever when there is none.
    pub async fn next(&self) -> ResponseHead {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next 1xx head; wakes the task of the last call when one comes.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<ResponseHead> {
        let mut state = self.state.borrow_mut();
        match state.heads.pop_front() {
            Some(head) => Poll::Ready(head),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// A 1xx head that has arrived already.
    #[must_use]
    pub fn try_next(&self) -> Option<ResponseHead> {
        self.state.borrow_mut().heads.pop_front()
    }
}
