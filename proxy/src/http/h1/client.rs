//! The client's side of one HTTP/1 connection: a request out, its response back, then the next.
//!
//! In come a head (borrowed), a body and where 1xx heads go; out comes the response as soon as its head is
//! here, with the rest of the upload beside it, so that neither direction waits for the other. The connection
//! goes back to its [`Shelf`] when both messages ended cleanly, and never otherwise: whoever drops either
//! half early ends it with a reset, which no server can take for a message's end.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use http::{Method, StatusCode};

use super::{
    ClientSettings,
    body::IncomingBody,
    encode,
    framing::BodyLength,
    inbox::Inbox,
    parse::ParsedResponse,
    shelf::Shelf,
    transfer::{Transfer, TransferError, with_scratch},
};
use crate::{
    clock::{self, Instant},
    error::Delivery,
    http::{
        Body, BodyError, Interim, Onward, RequestHead, Response, SendError, ServerEnd, Takeover,
        body::Upload,
    },
    io::Socket,
    policy::gate::{Others, Turn},
    reason::Reason,
};

/// Informational responses to one request; no server needs more.
const MAX_INTERIM: usize = 64;

/// An idle connection to a server, good for one request; it comes back by its [`Shelf`].
#[derive(Debug)]
pub struct Http1Client(Rc<Connection>);

struct Connection {
    socket: Socket,
    inbox: Rc<Inbox>,
    opened: Instant,
    /// How long it lay on its shelf before the request that it carries.
    rested: Cell<Option<Duration>>,
    /// The roots that the peer was verified under, where it was.
    bundle_generation: Cell<Option<u64>>,
    /// Messages under way: the request's, the response's.
    open_halves: Cell<u8>,
    keep: Cell<bool>,
    shelf: RefCell<Option<Rc<Shelf>>>,
    /// Its place among the service's connections, where these are limited: given back with it.
    place: Cell<Option<Turn>>,
}

/// One message's share of the connection. Dropped unfinished, it ends the connection with a reset.
#[derive(Debug)]
pub(super) struct Half(Option<Rc<Connection>>);

/// What is still to be sent of a request.
struct Pump {
    transfer: Transfer,
    socket: Socket,
    half: Option<Half>,
}

/// Why there is no response.
struct Failure {
    reason: Reason,
    detail: String,
    /// The server ended its side, and not a byte of an answer came before.
    unanswered: bool,
}

/// How much had gone out before a request.
struct Before {
    to_kernel: u64,
    on_wire: u64,
}

impl Http1Client {
    /// A connection that nothing was sent on yet.
    #[must_use]
    pub fn new(socket: Socket, settings: ClientSettings) -> Self {
        Self(Rc::new(Connection {
            inbox: Rc::new(Inbox::new(socket.clone(), settings.limits)),
            socket,
            opened: clock::now(),
            rested: Cell::new(None),
            bundle_generation: Cell::new(None),
            open_halves: Cell::new(0),
            keep: Cell::new(false),
            shelf: RefCell::default(),
            place: Cell::default(),
        }))
    }

    /// Notes which roots the peer was verified under.
    #[must_use]
    pub fn verified_under(self, bundle_generation: Option<u64>) -> Self {
        self.0.bundle_generation.set(bundle_generation);
        self
    }

    /// Holds a place among the service's connections for as long as it lives.
    #[must_use]
    pub fn holding(self, place: Option<Turn>) -> Self {
        self.0.place.set(place);
        self
    }

    /// Whether it may go on among those who wait for places: see [`Others::permit`].
    pub(super) fn is_permitted(&self, others: &Others) -> bool {
        let mut place = self.0.place.take();
        let is_permitted = others.permit(&mut place);
        self.0.place.set(place);
        is_permitted
    }

    /// The roots that the peer was verified under; `None` where there is no TLS.
    #[must_use]
    pub fn bundle_generation(&self) -> Option<u64> {
        self.0.bundle_generation.get()
    }

    /// Notes how long it lay on its shelf.
    pub(super) fn rested(self, rested: Duration) -> Self {
        self.0.rested.set(Some(rested));
        self
    }

    /// When the connection was made.
    #[must_use]
    pub fn opened(&self) -> Instant {
        self.0.opened
    }

    /// The connection itself.
    #[must_use]
    pub fn socket(&self) -> Socket {
        self.0.socket.clone()
    }

    /// Whether the server has neither closed nor sent anything unasked: only then may a request be sent.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.0.is_reusable() && self.0.socket.poll_disturbed(&mut cx).is_pending()
    }

    /// Sends a request and waits for the response's head. 1xx heads go to `interim`; the connection goes to
    /// `shelf` when both messages have ended cleanly. Dropping the future, the response's body or its
    /// upload early resets the connection.
    ///
    /// # Errors
    /// There is no response; whether the request may have arrived is told by what the kernel took, and by what
    /// the server's system acknowledged before the server's end.
    pub async fn send(
        self,
        head: &RequestHead,
        body: Body,
        interim: &Interim,
        shelf: Rc<Shelf>,
    ) -> Result<Response, SendError> {
        let connection = self.0;
        let before = Before::of(&connection.socket);
        let (sending, receiving) = Connection::begin(&connection, shelf);
        let length = encode::request_length(head, &body);
        let mut pump = Pump {
            transfer: Transfer::new(body, length),
            socket: connection.socket.clone(),
            half: Some(sending),
        };
        let outcome = match connection.write_head(head, length) {
            Ok(()) => {
                let mut interims = 0;
                poll_fn(|cx| connection.poll_head(cx, head, &mut pump, interim, &mut interims))
                    .await
            }
            Err(error) => Err(lost(&error)),
        };
        match outcome {
            Ok(parsed) => Ok(connection.receive(parsed, pump, receiving)),
            Err(failure) => Err(connection.fail(failure, &before)),
        }
    }
}

impl Connection {
    /// Opens both halves of an exchange.
    fn begin(connection: &Rc<Self>, shelf: Rc<Shelf>) -> (Half, Half) {
        connection.open_halves.set(2);
        connection.keep.set(false);
        *connection.shelf.borrow_mut() = Some(shelf);
        (Half(Some(Rc::clone(connection))), Half(Some(Rc::clone(connection))))
    }

    fn write_head(&self, head: &RequestHead, length: BodyLength) -> io::Result<()> {
        with_scratch(|out| {
            encode::request_head(out, head, length);
            self.socket.write(out)
        })
    }

    /// Sends the body as far as it goes, and reads until the final response's head.
    fn poll_head(
        &self,
        cx: &mut Context<'_>,
        request: &RequestHead,
        pump: &mut Pump,
        interim: &Interim,
        interims: &mut usize,
    ) -> Poll<Result<ParsedResponse, Failure>> {
        if let Poll::Ready(Err(TransferError::Body(error))) = pump.poll(cx) {
            return Poll::Ready(Err(Failure::new(Reason::RequestBodyBroken, error.to_string())));
        }
        loop {
            let parsed = match self.inbox.parse_response(request.method == Method::HEAD) {
                Ok(parsed) => parsed,
                Err(error) => {
                    return Poll::Ready(Err(protocol(&error.to_string())));
                }
            };
            match parsed {
                Some(parsed) if is_interim(parsed.head.status) => {
                    *interims += 1;
                    if *interims > MAX_INTERIM {
                        return Poll::Ready(Err(protocol("too many 1xx responses")));
                    }
                    interim.send(*parsed.head);
                }
                Some(parsed) => return Poll::Ready(check_upgrade(parsed, request, pump)),
                None => match ready!(self.inbox.poll_fill(cx)) {
                    Ok(0) => return Poll::Ready(Err(self.ended())),
                    Ok(_) => {}
                    Err(error) => return Poll::Ready(Err(lost(&error))),
                },
            }
        }
    }

    /// The response, once its head is here.
    fn receive(&self, parsed: ParsedResponse, mut pump: Pump, half: Half) -> Response {
        self.keep.set(parsed.keep_alive);
        if let Some(announced) = parsed.idle_timeout {
            self.tell_shelf(announced);
        }
        let mut takeover = None;
        let body = if parsed.head.status == StatusCode::SWITCHING_PROTOCOLS {
            self.keep.set(false);
            self.socket.unread(self.inbox.take_rest());
            let mut onward = Onward::new(ServerEnd::Connection(self.socket.clone()));
            onward.hold(self.place.take());
            takeover = Some(Takeover::Splice(onward));
            half.finish();
            Body::Empty
        } else {
            let message = self.inbox.begin_body(parsed.length);
            match parsed.length {
                BodyLength::Empty => {
                    half.finish();
                    Body::Empty
                }
                BodyLength::Exact(_) | BodyLength::Chunked | BodyLength::UntilClose => {
                    let inbox = Rc::clone(&self.inbox);
                    Body::Http1(IncomingBody::of_response(inbox, message, half))
                }
            }
        };
        let upload = (!pump.is_over()).then(|| {
            Upload::new(async move { poll_fn(|cx| pump.poll(cx)).await.map_err(BodyError::from) })
        });
        Response { head: parsed.head, body, upload, takeover }
    }

    /// Ends the connection, and tells how much of the request may have arrived.
    fn fail(&self, failure: Failure, before: &Before) -> SendError {
        if let (Reason::ConnectionLost, Some(rested)) = (failure.reason, self.rested.get()) {
            self.tell_shelf(rested);
        }
        let unread = failure.unanswered && before.is_all_acknowledged(&self.socket);
        // Before the kernel's count is read, so that nothing can leave after it.
        self.socket.abort();
        let delivery = match unread || self.socket.written_to_kernel() == before.to_kernel {
            true => Delivery::Nothing,
            false => Delivery::Unknown,
        };
        SendError { reason: failure.reason, delivery, detail: failure.detail.into() }
    }

    fn ended(&self) -> Failure {
        if self.inbox.buffered() > 0 {
            let detail = "the server closed the connection within the response's head";
            return Failure::new(Reason::ConnectionLost, detail.to_owned());
        }
        let detail = "the server closed the connection without an answer".to_owned();
        Failure { reason: Reason::ConnectionLost, detail, unanswered: true }
    }

    /// The server ends connections that have rested for so long.
    fn tell_shelf(&self, rested: Duration) {
        if let Some(shelf) = &*self.shelf.borrow() {
            shelf.ends_after(rested);
        }
    }

    fn is_reusable(&self) -> bool {
        self.open_halves.get() == 0 && self.inbox.buffered() == 0 && !self.inbox.has_ended()
    }

    /// One message has ended. With the second one the connection goes to its shelf.
    fn finish_half(connection: Rc<Self>) {
        connection.open_halves.set(connection.open_halves.get().saturating_sub(1));
        if connection.open_halves.get() > 0 {
            return;
        }
        let shelf = connection.shelf.borrow_mut().take();
        if let Some(shelf) = shelf
            && connection.keep.get()
            && connection.is_reusable()
        {
            shelf.put(Http1Client(connection));
        }
    }
}

impl Failure {
    const fn new(reason: Reason, detail: String) -> Self {
        Self { reason, detail, unanswered: false }
    }
}

impl Before {
    fn of(socket: &Socket) -> Self {
        Self { to_kernel: socket.written_to_kernel(), on_wire: socket.sent_on_wire() }
    }

    /// Whether the server's system has acknowledged nothing that went out since. To be asked when the server's
    /// end has been read: what its application could have read before it closed, that end acknowledges.
    fn is_all_acknowledged(&self, socket: &Socket) -> bool {
        socket.acknowledged_on_wire().is_some_and(|acknowledged| acknowledged <= self.on_wire)
    }
}

impl Half {
    /// The message ended as its framing says.
    pub(super) fn finish(mut self) {
        if let Some(connection) = self.0.take() {
            Connection::finish_half(connection);
        }
    }

    /// The message cannot be finished, but what the other half still has may be read.
    fn give_up(mut self) {
        if let Some(connection) = self.0.take() {
            connection.shelf.borrow_mut().take();
            connection.keep.set(false);
        }
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.shelf.borrow_mut().take();
            connection.socket.abort();
        }
    }
}

impl Pump {
    /// Whether nothing more will be sent.
    fn is_over(&self) -> bool {
        self.half.is_none()
    }

    /// Goes on sending. A broken body resets the connection; a connection that takes no more bytes may still
    /// bring the response.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransferError>> {
        let Some(half) = self.half.take() else { return Poll::Ready(Ok(())) };
        match self.transfer.poll(cx, &self.socket) {
            Poll::Pending => {
                self.half = Some(half);
                Poll::Pending
            }
            Poll::Ready(Ok(())) => {
                half.finish();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error @ TransferError::Socket(_))) => {
                half.give_up();
                Poll::Ready(Err(error))
            }
            Poll::Ready(Err(error @ TransferError::Body(_))) => {
                drop(half);
                Poll::Ready(Err(error))
            }
        }
    }
}

/// 101 must have been asked for, and only after the whole request.
fn check_upgrade(
    parsed: ParsedResponse,
    request: &RequestHead,
    pump: &Pump,
) -> Result<ParsedResponse, Failure> {
    if parsed.head.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(parsed);
    }
    match (&request.upgrade, &parsed.head.upgrade) {
        (Some(_), Some(_)) if pump.is_over() => Ok(parsed),
        (Some(_), None) => Err(protocol("101 without a protocol")),
        (Some(_) | None, _) => Err(protocol("101 that was not asked for")),
    }
}

fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

fn lost(error: &io::Error) -> Failure {
    Failure::new(Reason::ConnectionLost, error.to_string())
}

fn protocol(detail: &str) -> Failure {
    Failure::new(Reason::UpstreamProtocol, detail.to_owned())
}

impl From<TransferError> for BodyError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Body(error) => error,
            TransferError::Socket(kind) => Self::Io(kind),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("socket", &self.socket).finish_non_exhaustive()
    }
}
