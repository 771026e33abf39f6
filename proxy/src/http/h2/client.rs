//! A connection to an endpoint over HTTP/2, shared by the requests of one worker.
//!
//! In come requests, out go their responses. Whoever opened the connection spawns its driver once; after that
//! each request is a stream whose futures run where the request runs. A request that is dropped resets its
//! stream with CANCEL and harms no other. What an error proves about delivery is decided here: a refused
//! stream, a stream above GOAWAY's last one, or a connection on which nothing left since the request came.

use std::{
    cell::{Cell, OnceCell, RefCell},
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason as Code, RecvStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderValue, Method, StatusCode};

use super::{
    ClientSettings, IncomingBody, REMEMBERED_RESETS, SEND_BUFFER, connection_window, head,
    keep_alive::KeepAlive,
    outgoing::{Outgoing, Stopped},
    tunnel::Tunnel,
    websocket,
};
use crate::{
    clock,
    error::Delivery,
    http::{
        Body, BodyError, Interim, Onward, RequestHead, Response, Returns, SendError, ServerEnd,
        Takeover, body::Upload,
    },
    io::Socket,
    reason::Reason,
};

/// How many streams there may be, before the endpoint has said so.
const UNKNOWN: usize = 0;

/// A connection to an endpoint. It closes when this and the last of its streams are gone.
#[derive(Debug)]
pub struct Http2Client(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Never has a stream of its own pending: every request goes through a clone.
    sender: RefCell<SendRequest<Bytes>>,
    settings: ClientSettings,
    side_headers: bool,
    status: Rc<Status>,
}

/// What the driver says of the connection.
#[derive(Debug)]
struct Status {
    /// `None` when the connection has ended.
    socket: RefCell<Option<Socket>>,
    /// How many bytes had reached the kernel when it ended.
    written_at_end: Cell<u64>,
    in_flight: Cell<usize>,
    /// A response came since the driver looked.
    answered: Cell<bool>,
    /// Where it is said that a stream has ended.
    returns: OnceCell<Rc<Returns>>,
}

impl Status {
    fn written_to_kernel(&self) -> u64 {
        match &*self.socket.borrow() {
            Some(socket) => socket.written_to_kernel(),
            None => self.written_at_end.get(),
        }
    }
}

/// Notes the connection's end, however its driver ends.
struct EndNote(Rc<Status>);

impl Drop for EndNote {
    fn drop(&mut self) {
        if let Some(socket) = self.0.socket.borrow_mut().take() {
            self.0.written_at_end.set(socket.written_to_kernel());
        }
    }
}

/// One request among those in flight, until its response and its body are done.
#[derive(Debug, Clone)]
pub(super) struct OpenStream(#[expect(dead_code, reason = "held for its drop")] Rc<Counted>);

#[derive(Debug)]
struct Counted(Rc<Status>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
        if let Some(returns) = self.0.returns.get() {
            returns.tell();
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
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(settings.stream_window)
            .initial_connection_window_size(connection_window(
                settings.max_streams,
                settings.stream_window,
            ))
            .max_header_list_size(settings.max_header_bytes)
            .max_send_buffer_size(SEND_BUFFER)
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            .initial_max_send_streams(UNKNOWN)
            // An endpoint harms its own connection only, and answers to cancelled requests must not add up.
            .max_local_error_reset_streams(None)
            .enable_push(false);
        let begun = builder.handshake(socket.clone()).await;
        let (sender, mut connection) = begun.map_err(|error| no_handshake(&error))?;
        let limit = settings.preface_timeout;
        match clock::timeout(limit, settings_of_peer(&mut connection)).await {
            Ok(received) => received?,
            Err(_) => {
                let detail =
                    format!("no SETTINGS of HTTP/2 within {limit:?} (WEFT_CONNECT_TIMEOUT)");
                return Err(SendError::undelivered(Reason::ConnectTimeout, detail));
            }
        }
        let status = Rc::new(Status {
            socket: RefCell::new(Some(socket)),
            written_at_end: Cell::new(0),
            in_flight: Cell::new(0),
            answered: Cell::new(false),
            returns: OnceCell::new(),
        });
        let driver = drive(connection, EndNote(Rc::clone(&status)), settings.keep_alive);
        let shared = Shared { sender: RefCell::new(sender), settings, side_headers, status };
        Ok((Self(Rc::new(shared)), driver))
    }

    /// One that says there when a stream has ended.
    #[must_use]
    pub fn telling(self, returns: Rc<Returns>) -> Self {
        let _ = self.0.status.returns.set(returns);
        self
    }

    /// Whether another request can be sent at once: the connection is open, and the streams in flight are
    /// fewer than both sides allow.
    #[must_use]
    pub fn can_take_request(&self) -> bool {
        let theirs = self.0.sender.borrow().current_max_send_streams();
        let ours = self.0.settings.max_streams as usize;
        self.in_flight() < theirs.min(ours) && !self.is_closed()
    }

    /// Whether the connection takes no more requests: it ended, or the endpoint said GOAWAY. Those in flight
    /// may go on.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        if self.0.status.socket.borrow().is_none() {
            return true;
        }
        let mut cx = Context::from_waker(Waker::noop());
        !matches!(self.0.sender.borrow_mut().poll_ready(&mut cx), Poll::Ready(Ok(())))
    }

    /// How many requests are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.status.in_flight.get()
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
        let request = head::to_endpoint(head)?;
        let ended = body.is_end();
        if ended
            && self.takes_websockets()
            && let Some(key) = websocket::key(head)
        {
            return Box::pin(self.open_websocket(head, request, &key, interim)).await;
        }
        let written_before = self.0.status.written_to_kernel();
        let mut sender = self.0.sender.borrow().clone();
        let (mut response, stream) = sender
            .send_request(request, ended)
            .map_err(|error| SendError { delivery: Delivery::Nothing, ..send_error(&error) })?;
        drop(sender);
        let open = self.open_stream();
        let mut outgoing = (!ended).then(|| Outgoing::new(stream, body));
        let received = poll_fn(|cx| self.poll_response(&mut response, &mut outgoing, interim, cx));
        let received = received.await.map_err(|error| self.judge(error, written_before))?;
        self.0.status.answered.set(true);
        Ok(self.response(head, received, outgoing, &open))
    }

    /// Whether the endpoint has announced the extended CONNECT (RFC 8441 section 3).
    #[must_use]
    pub fn takes_websockets(&self) -> bool {
        self.0.sender.borrow().is_extended_connect_protocol_enabled()
    }

    /// Asks for a WebSocket: the response is that of HTTP/1.
    async fn open_websocket(
        &self,
        head: &RequestHead,
        mut request: http::Request<()>,
        key: &HeaderValue,
        interim: &Interim,
    ) -> Result<Response, SendError> {
        websocket::into_connect(&mut request);
        let written_before = self.0.status.written_to_kernel();
        let mut sender = self.0.sender.borrow().clone();
        let (mut response, mut send) = sender
            .send_request(request, false)
            .map_err(|error| SendError { delivery: Delivery::Nothing, ..send_error(&error) })?;
        drop(sender);
        let open = self.open_stream();
        let received = poll_fn(|cx| self.poll_response(&mut response, &mut None, interim, cx));
        let received = received.await.map_err(|error| self.judge(error, written_before))?;
        if !received.status().is_success() {
            // Nothing follows. On a stream that is gone that needs not be said.
            let _ = send.send_data(Bytes::new(), true);
            return Ok(self.response(head, received, None, &open));
        }
        let (parts, receive) = received.into_parts();
        let mut head = head::from_endpoint(parts);
        websocket::switched(&mut head, key);
        let tunnel = Tunnel::new(send, receive).counted(open);
        let mut response = Response::new(head, Body::Empty);
        response.takeover = Some(Takeover::Splice(Onward::new(ServerEnd::Stream(tunnel))));
        Ok(response)
    }

    fn open_stream(&self) -> OpenStream {
        let status = &self.0.status;
        status.in_flight.set(status.in_flight.get() + 1);
        OpenStream(Rc::new(Counted(Rc::clone(status))))
    }

    fn poll_response(
        &self,
        response: &mut ResponseFuture,
        outgoing: &mut Option<Outgoing>,
        interim: &Interim,
        cx: &mut Context<'_>,
    ) -> Poll<Result<http::Response<RecvStream>, SendError>> {
        while let Poll::Ready(Some(Ok(informational))) = response.poll_informational(cx) {
            let head = head::from_endpoint(informational.into_parts().0);
            if head.status != StatusCode::SWITCHING_PROTOCOLS {
                interim.send(head);
            }
        }
        if let Poll::Ready(received) = Pin::new(response).poll(cx) {
            return Poll::Ready(received.map_err(|error| send_error(&error)));
        }
        if let Some(pump) = outgoing {
            match pump.poll_send(cx) {
                Poll::Ready(Err(Stopped::Body(error))) => {
                    let detail = format!("the request's body broke off: {error}");
                    let broken = SendError::after_send(Reason::RequestBodyBroken, detail);
                    return Poll::Ready(Err(broken));
                }
                // Why the endpoint wants no more, its response tells.
                Poll::Ready(Ok(()) | Err(Stopped::Peer(_))) => *outgoing = None,
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    /// If not a byte has left since before the request came, none of it did.
    fn judge(&self, error: SendError, written_before: u64) -> SendError {
        if self.0.status.written_to_kernel() == written_before {
            return SendError { delivery: Delivery::Nothing, ..error };
        }
        error
    }

    fn response(
        &self,
        request: &RequestHead,
        received: http::Response<RecvStream>,
        outgoing: Option<Outgoing>,
        open: &OpenStream,
    ) -> Response {
        let (parts, stream) = received.into_parts();
        let head = head::from_endpoint(parts);
        let length = head::content_length(&head.headers).filter(|_| request.method != Method::HEAD);
        let body = IncomingBody::new(stream, length, Some(open.clone()));
        let upload = outgoing.map(|outgoing| upload(outgoing, open.clone()));
        Response { upload, ..Response::new(head, Body::Http2(body)) }
    }
}

/// Waits until the endpoint has told how many streams there may be.
async fn settings_of_peer(
    connection: &mut h2::client::Connection<Socket, Bytes>,
) -> Result<(), SendError> {
    poll_fn(|cx| match Pin::new(&mut *connection).poll(cx) {
        Poll::Ready(Err(error)) => Poll::Ready(Err(no_handshake(&error))),
        Poll::Ready(Ok(())) => {
            let detail = "the endpoint closed the connection before its SETTINGS";
            Poll::Ready(Err(SendError::undelivered(Reason::ConnectFailed, detail)))
        }
        Poll::Pending if connection.max_concurrent_send_streams() == UNKNOWN => Poll::Pending,
        Poll::Pending => Poll::Ready(Ok(())),
    })
    .await
}

/// No request was sent yet.
fn no_handshake(error: &h2::Error) -> SendError {
    let reason = if error.is_io() { Reason::ConnectFailed } else { Reason::UpstreamProtocol };
    SendError::undelivered(reason, format!("HTTP/2 handshake: {error}"))
}

/// Drives a connection until it has ended or its peer is dead; what is in flight then fails.
async fn drive(
    mut connection: h2::client::Connection<Socket, Bytes>,
    note: EndNote,
    keep_alive: Duration,
) {
    let mut keep_alive = KeepAlive::new(connection.ping_pong(), keep_alive);
    let status = &note.0;
    let ended = poll_fn(|cx| {
        if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(ended.map_err(|error| error.to_string()));
        }
        let active = status.in_flight.get() > 0;
        let answered = status.answered.take();
        let Some(keep_alive) = &mut keep_alive else { return Poll::Pending };
        keep_alive.poll_dead(active, answered, cx).map(|()| Err("no answer to PING".to_owned()))
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP/2 connection to an endpoint broke");
    }
}

/// What is left of a request. An endpoint that answers early may say so with NO_ERROR (RFC 9113 8.1): then the
/// rest is not wanted, and nothing is wrong.
fn upload(mut outgoing: Outgoing, open: OpenStream) -> Upload {
    Upload::new(async move {
        let sent = poll_fn(|cx| outgoing.poll_send(cx)).await;
        drop(open);
        match sent {
            Ok(()) | Err(Stopped::Peer(Some(Code::NO_ERROR))) => Ok(()),
            Err(Stopped::Peer(Some(code))) => Err(BodyError::Reset(code)),
            Err(Stopped::Peer(None)) => Err(BodyError::Truncated),
            Err(Stopped::Body(error)) => Err(error),
        }
    })
}

/// What an error of a stream proves. h2 gives a received GOAWAY to the streams above its last one only.
fn send_error(error: &h2::Error) -> SendError {
    let detail = error.to_string();
    if error.is_remote() && error.is_go_away() {
        return SendError::undelivered(Reason::UpstreamRefusedStream, detail);
    }
    if error.is_remote() && error.is_reset() {
        return match error.reason() {
            Some(Code::REFUSED_STREAM) => {
                SendError::undelivered(Reason::UpstreamRefusedStream, detail)
            }
            _ => SendError::after_send(Reason::UpstreamReset, detail),
        };
    }
    if error.is_io() {
        return SendError::after_send(Reason::ConnectionLost, detail);
    }
    if error.is_library() {
        return SendError::after_send(Reason::UpstreamProtocol, detail);
    }
    SendError::after_send(Reason::Internal, detail)
}
