//! A connection to an endpoint over HTTP/2, shared by the requests of one worker.
//!
//! In come requests, out go their responses. Whoever opened the connection spawns its driver once; after that
//! each request is a stream whose futures run where the request runs. A request that is dropped resets its
//! stream with CANCEL and harms no other. What an error proves about delivery is decided here: a refused
//! stream, a stream above GOAWAY's last one, or a connection on which nothing left since the request came.

use std::{
    cell::{Cell, OnceCell},
    future::{Future, poll_fn},
    io::ErrorKind,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode};

use super::{
    ClientSettings, IncomingBody,
    code::ErrorCode,
    connection::{Allowed, Connection, Ended, Role, Stream, StreamError},
    connection_window, head,
    keep_alive::KeepAlive,
    outgoing::{Outgoing, Stopped},
    tunnel::Tunnel,
    websocket,
};
use crate::{
    clock,
    error::Delivery,
    http::{
        Body, BodyError, Interim, Onward, RequestHead, Response, ResponseHead, Returns, SendError,
        ServerEnd, Takeover, body::Upload,
    },
    io::{LINGER, Socket},
    reason::Reason,
};

/// A connection to an endpoint. It closes when this and the last of its streams are gone.
#[derive(Debug)]
pub struct Http2Client(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    connection: Rc<Connection>,
    settings: ClientSettings,
    side_headers: bool,
    in_flight: Rc<InFlight>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.connection.leave();
    }
}

/// The requests under way.
#[derive(Debug, Default)]
struct InFlight {
    count: Cell<usize>,
    /// Where it is said that a stream has ended.
    returns: OnceCell<Rc<Returns>>,
}

/// A request's place among those in flight, from before it is sent. Dropped, it is given back.
#[derive(Debug)]
pub struct Reservation {
    open: OpenStream,
    client: Rc<Http2Client>,
}

/// One request among those in flight, until its response and its body are done.
#[derive(Debug, Clone)]
pub(super) struct OpenStream(#[expect(dead_code, reason = "held for its drop")] Rc<Counted>);

#[derive(Debug)]
struct Counted(Rc<InFlight>);

impl Drop for Counted {
    fn drop(&mut self) {
        let left = self.0.count.get() - 1;
        self.0.count.set(left);
        match self.0.returns.get() {
            Some(returns) if left == 0 => returns.tell_of_idle(),
            Some(returns) => returns.tell_of_room(),
            None => {}
        }
    }
}

impl Http2Client {
    /// Begins HTTP/2 on a socket to an endpoint, and waits for its SETTINGS: a stream that was opened before they
    /// told how many there may be could be refused. The future returned drives the connection: whoever calls this
    /// spawns it, and owns it until the connection ends.
    ///
    /// # Errors
    /// The socket broke, or the endpoint sent no SETTINGS.
    pub async fn handshake(
        socket: Socket,
        settings: ClientSettings,
        side_headers: bool,
    ) -> Result<(Self, impl Future<Output = ()> + use<>), SendError> {
        let allowed = Allowed {
            max_streams: 0,
            stream_window: settings.stream_window,
            connection_window: connection_window(settings.max_streams, settings.stream_window),
            max_header_bytes: settings.max_header_bytes,
        };
        let connection = Connection::begin(socket, Role::Client, allowed);
        let mut buffer = BytesMut::new();
        let limit = settings.preface_timeout;
        let told = poll_fn(|cx| poll_settings(&connection, &mut buffer, cx));
        match clock::timeout(limit, told).await {
            Ok(told) => told?,
            Err(_) => {
                let detail =
                    format!("no SETTINGS of HTTP/2 within {limit:?} (WEFT_CONNECT_TIMEOUT)");
                return Err(SendError::undelivered(Reason::ConnectTimeout, detail));
            }
        }
        let in_flight = Rc::new(InFlight::default());
        let driver =
            drive(Rc::clone(&connection), buffer, Rc::clone(&in_flight), settings.keep_alive);
        Ok((Self(Rc::new(Shared { connection, settings, side_headers, in_flight })), driver))
    }

    /// One that says there when a stream has ended.
    #[must_use]
    pub fn telling(self, returns: Rc<Returns>) -> Self {
        let _ = self.0.in_flight.returns.set(returns);
        self
    }

    /// Whether another request can be sent at once: the connection is open, and the streams in flight are
    /// fewer than both sides allow.
    #[must_use]
    pub fn can_take_request(&self) -> bool {
        let theirs = self.0.connection.max_streams().unwrap_or(u32::MAX);
        let allowed = theirs.min(self.0.settings.max_streams) as usize;
        self.in_flight() < allowed && !self.is_closed()
    }

    /// Whether the connection takes no more requests: it ended, or the endpoint said GOAWAY. Those in flight
    /// may go on.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.connection.is_closed()
    }

    /// How many requests are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.count.get()
    }

    /// The other side is a sidecar that understands side headers (`weft-h2/1`).
    #[must_use]
    pub fn side_headers(&self) -> bool {
        self.0.side_headers
    }

    /// Sends a request and waits for its response's head, sending the body meanwhile and passing on 1xx
    /// responses. Dropped early, it cancels the request.
    ///
    /// # Errors
    /// Why there is no response, and how much of the request may have reached the application.
    pub async fn send(
        &self,
        head: &RequestHead,
        body: Body,
        interim: &Interim,
    ) -> Result<Response, SendError> {
        self.send_as(self.open_stream(), head, body, interim).await
    }

    /// Takes a place among the requests in flight for one that is to be sent.
    #[must_use]
    pub fn reserve(self: &Rc<Self>) -> Reservation {
        Reservation { open: self.open_stream(), client: Rc::clone(self) }
    }

    async fn send_as(
        &self,
        open: OpenStream,
        head: &RequestHead,
        body: Body,
        interim: &Interim,
    ) -> Result<Response, SendError> {
        let target = head::Target::of(head)?;
        let ended = body.is_end();
        if ended
            && self.takes_websockets()
            && let Some(key) = websocket::key(head)
        {
            return Box::pin(self.open_websocket(open, head, target, &key, interim)).await;
        }
        let connection = &self.0.connection;
        let written_before = connection.written_to_kernel();
        let stream = connection
            .open(head, &target, ended)
            .map_err(|error| SendError { delivery: Delivery::Nothing, ..send_error(&error) })?;
        let mut outgoing = (!ended).then(|| Outgoing::new(stream.clone(), body));
        let received = poll_fn(|cx| poll_response(&stream, &mut outgoing, interim, cx));
        let received = received.await.map_err(|error| self.judge(error, written_before))?;
        Ok(response(head, received, stream, outgoing, &open))
    }

    /// Whether the endpoint has announced the extended CONNECT (RFC 8441 section 3).
    #[must_use]
    pub fn takes_websockets(&self) -> bool {
        self.0.connection.takes_protocols()
    }

    /// Asks for a WebSocket: the response is that of HTTP/1.
    async fn open_websocket(
        &self,
        open: OpenStream,
        head: &RequestHead,
        target: head::Target<'_>,
        key: &HeaderValue,
        interim: &Interim,
    ) -> Result<Response, SendError> {
        let connection = &self.0.connection;
        let written_before = connection.written_to_kernel();
        let stream = connection
            .open(head, &target.for_websocket(), false)
            .map_err(|error| SendError { delivery: Delivery::Nothing, ..send_error(&error) })?;
        let received = poll_fn(|cx| poll_response(&stream, &mut None, interim, cx));
        let mut received = received.await.map_err(|error| self.judge(error, written_before))?;
        if !received.status.is_success() {
            // Nothing follows. On a stream that is gone that needs not be said.
            let _ = stream.send_data(Bytes::new(), true);
            return Ok(response(head, received, stream, None, &open));
        }
        websocket::switched(&mut received, key);
        let tunnel = Tunnel::new(stream).counted(open);
        let mut response = Response::new(received, Body::Empty);
        response.takeover = Some(Takeover::Splice(Onward::new(ServerEnd::Stream(tunnel))));
        Ok(response)
    }

    fn open_stream(&self) -> OpenStream {
        let in_flight = &self.0.in_flight;
        in_flight.count.set(in_flight.count.get() + 1);
        OpenStream(Rc::new(Counted(Rc::clone(in_flight))))
    }

    /// If not a byte had left since before the request came when its connection ended, none of it ever will.
    fn judge(&self, error: SendError, written_before: u64) -> SendError {
        let connection = &self.0.connection;
        if connection.has_ended() && connection.written_to_kernel() == written_before {
            return SendError { delivery: Delivery::Nothing, ..error };
        }
        error
    }
}

impl Reservation {
    /// The connection that it is on.
    #[must_use]
    pub fn client(&self) -> &Http2Client {
        &self.client
    }

    /// Sends the request: see [`Http2Client::send`].
    ///
    /// # Errors
    /// Why there is no response, and how much of the request may have reached the application.
    pub async fn send(
        self,
        head: &RequestHead,
        body: Body,
        interim: &Interim,
    ) -> Result<Response, SendError> {
        self.client.send_as(self.open, head, body, interim).await
    }
}

fn poll_response(
    stream: &Stream,
    outgoing: &mut Option<Outgoing>,
    interim: &Interim,
    cx: &mut Context<'_>,
) -> Poll<Result<ResponseHead, SendError>> {
    while let Poll::Ready(received) = stream.poll_response(cx) {
        let (status, fields) = received.map_err(|error| send_error(&error))?;
        let head = head::from_endpoint(status, fields);
        if !status.is_informational() {
            return Poll::Ready(Ok(head));
        }
        if status != StatusCode::SWITCHING_PROTOCOLS {
            interim.send(head);
        }
    }
    if let Some(pump) = outgoing {
        match pump.poll_send(cx) {
            Poll::Ready(Err(Stopped::Body(error))) => {
                let detail = format!("the request's body broke off: {error}");
                return Poll::Ready(Err(SendError::after_send(Reason::RequestBodyBroken, detail)));
            }
            // Why the endpoint wants no more, its response tells.
            Poll::Ready(Ok(()) | Err(Stopped::Peer(_))) => *outgoing = None,
            Poll::Pending => {}
        }
    }
    Poll::Pending
}

fn response(
    request: &RequestHead,
    head: ResponseHead,
    stream: Stream,
    outgoing: Option<Outgoing>,
    open: &OpenStream,
) -> Response {
    let length = head::content_length(&head.headers).filter(|_| request.method != Method::HEAD);
    let body = IncomingBody::new(stream, length, Some(open.clone()));
    let upload = outgoing.map(|outgoing| upload(outgoing, open.clone()));
    Response { upload, ..Response::new(head, Body::Http2(body)) }
}

/// Ready when the endpoint has told how many streams there may be.
fn poll_settings(
    connection: &Rc<Connection>,
    buffer: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<Result<(), SendError>> {
    let read = connection.poll_read(cx, buffer);
    if let Poll::Ready(ended) = read {
        let reason = match ended {
            Ended::Fault(..) => Reason::UpstreamProtocol,
            Ended::Io(_) | Ended::Left => Reason::ConnectFailed,
        };
        return Poll::Ready(Err(SendError::undelivered(reason, format!("HTTP/2: {ended}"))));
    }
    match connection.max_streams() {
        Some(_) => Poll::Ready(Ok(())),
        None => Poll::Pending,
    }
}

/// Ends the connection for all on it, however its driver ends.
struct EndNote(Rc<Connection>);

impl Drop for EndNote {
    fn drop(&mut self) {
        self.0.end(Ended::Left);
    }
}

/// Drives a connection until it has ended or its peer is dead; what is in flight then fails.
async fn drive(
    connection: Rc<Connection>,
    mut buffer: BytesMut,
    in_flight: Rc<InFlight>,
    keep_alive: Duration,
) {
    let note = EndNote(connection);
    let connection = &note.0;
    let mut keep_alive = KeepAlive::new(Rc::clone(connection), keep_alive);
    let ended = poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.poll_read(cx, &mut buffer) {
            return Poll::Ready(ended);
        }
        let active = in_flight.count.get() > 0;
        keep_alive.poll_dead(active, cx).map(|()| Ended::Io(ErrorKind::TimedOut))
    })
    .await;
    tracing::debug!(%ended, "an HTTP/2 connection to an endpoint ended");
    connection.end(ended);
    // What was said last still leaves; an endpoint that takes nothing is not waited for.
    let _ = clock::timeout(LINGER, poll_fn(|cx| connection.poll_shutdown(cx))).await;
}

/// What is left of a request. An endpoint that answers early may say so with NO_ERROR (RFC 9113 8.1): then the
/// rest is not wanted, and nothing is wrong.
fn upload(mut outgoing: Outgoing, open: OpenStream) -> Upload {
    Upload::new(async move {
        let sent = poll_fn(|cx| outgoing.poll_send(cx)).await;
        drop(open);
        match sent {
            Ok(()) | Err(Stopped::Peer(Some(ErrorCode::NO_ERROR))) => Ok(()),
            Err(Stopped::Peer(Some(code))) => Err(BodyError::Reset(code)),
            Err(Stopped::Peer(None)) => Err(BodyError::Truncated),
            Err(Stopped::Body(error)) => Err(error),
        }
    })
}

/// What an error of a stream proves.
fn send_error(error: &StreamError) -> SendError {
    let detail = error.to_string();
    match error {
        StreamError::NotLookedAt(_) | StreamError::Reset(ErrorCode::REFUSED_STREAM) => {
            SendError::undelivered(Reason::UpstreamRefusedStream, detail)
        }
        StreamError::Reset(_) => SendError::after_send(Reason::UpstreamReset, detail),
        StreamError::Fault(_) | StreamError::Ended(Ended::Fault(..)) => {
            SendError::after_send(Reason::UpstreamProtocol, detail)
        }
        StreamError::Ended(Ended::Io(_) | Ended::Left) => {
            SendError::after_send(Reason::ConnectionLost, detail)
        }
    }
}
