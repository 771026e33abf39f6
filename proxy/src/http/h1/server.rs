//! A client's HTTP/1 connection: one request after the other, answered in the order of their arrival.
//!
//! In come a socket at the first byte of a request and what answers requests; out goes how the connection
//! ended. One task does all: it reads a head, runs the handler inline, and writes the response while it drives
//! what is left of the upload. It spawns nothing; dropping it drops the handler. A pipelined request waits in
//! the buffer until the one before it is answered.
//!
//! ```text
//! wait --head--> answer --response--> reply --both messages whole--> wait
//!   |              |                   |----101, or 200 to CONNECT--> taken over
//!   |--refused--> error response ------+----close------------------> closed, with time to read the answer
//! ```
//!
//! A client that leaves cancels the handler; one that has said that it sends no more (`Connection: close`), and
//! half-closes its connection, still gets its answer, as long as it is there (see [`half_closed`]). It must never end a body cleanly that was cut short, nor go
//! on behind a request whose end it does not know.

mod half_closed;
mod reply;

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::future::Either;
use half_closed::HalfClosed;
use http::{Method, StatusCode, Version};

use super::{
    ServerSettings, body::IncomingBody, encode, error::HeadError, framing::BodyLength,
    inbox::Inbox, parse::ParsedRequest, timer::Timer, transfer::with_scratch,
};
use crate::{
    clock,
    drain::Drain,
    error::ProxyError,
    http::{Asked, Body, Handler, Interim, Request, Response, ResponseHead, Served, Takeover},
    io::Socket,
    reason::Reason,
};

/// Bytes of further requests that are read while one is being answered: enough to notice that the client is
/// gone, not enough to be a burden.
const READ_AHEAD: usize = 16 * 1024;

/// How long the last response of a connection may take to leave.
const LAST_WRITE: Duration = Duration::from_secs(30);

/// Serves a client's connection until it ends, or becomes something else.
pub async fn serve<H: Handler>(
    socket: Socket,
    handler: &H,
    settings: &ServerSettings,
    drain: &Drain,
) -> Served {
    let mut connection = Connection::new(socket, settings);
    let mut drained = drain.started();
    loop {
        let next = poll_fn(|cx| {
            let draining = Pin::new(&mut drained).poll(cx).is_ready();
            connection.poll_request(cx, draining)
        });
        // Boxed, and gone when the response is: between two requests a connection holds little.
        let work = match next.await {
            Next::Request(request) => {
                Either::Left(Box::pin(connection.exchange(request, handler, drain)))
            }
            Next::Refused(refusal) => Either::Right(Box::pin(connection.refuse(refusal, handler))),
            Next::Over(reason) => return Served::Closed(reason),
        };
        let (reason, has_last_word) = match work.await {
            After::Wait => continue,
            After::Close(reason) => (reason, true),
            After::Over(reason) => (reason, false),
            After::TakenOver(takeover) => {
                connection.socket.unread(connection.inbox.take_rest());
                return Served::TakenOver(connection.socket, takeover);
            }
        };
        if has_last_word {
            Box::pin(connection.close()).await;
        }
        return Served::Closed(reason);
    }
}

/// The connection between and during requests.
struct Connection<'a> {
    socket: Socket,
    inbox: Rc<Inbox>,
    settings: &'a ServerSettings,
    timer: Timer,
    waiting: Waiting,
    /// Looked at once the client has half-closed, which is rare.
    half_closed: Option<Box<HalfClosed>>,
}

/// What is waited for, and so how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Nothing,
    FirstByte,
    Head,
}

/// What came instead of, or as, the next request.
enum Next {
    Request(ParsedRequest),
    Refused(Refusal),
    Over(Option<Reason>),
}

/// A request that gets an answer without the handler.
enum Refusal {
    Head(HeadError),
    Timeout,
}

/// How a connection goes on.
enum After {
    /// With the next request.
    Wait,
    /// Not at all, once what was written has left.
    Close(Option<Reason>),
    /// It is broken, or the client has left.
    Over(Option<Reason>),
    /// As something else.
    TakenOver(Takeover),
}

/// What of a request shapes the answer's way out.
struct Facts {
    method: Method,
    version: Version,
    asked: Asked,
    keep_alive: bool,
    /// The client still waits for 100 before it sends the body.
    awaits_continue: bool,
    offers_upgrade: bool,
}

impl<'a> Connection<'a> {
    fn new(socket: Socket, settings: &'a ServerSettings) -> Self {
        Self {
            inbox: Rc::new(Inbox::new(socket.clone(), settings.limits)),
            socket,
            settings,
            timer: Timer::default(),
            waiting: Waiting::Nothing,
            half_closed: None,
        }
    }

    /// The next request, when its head is here.
    fn poll_request(&mut self, cx: &mut Context<'_>, draining: bool) -> Poll<Next> {
        // Who does not read answers gets no more of them.
        match self.socket.poll_writable(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Next::Over(None)),
            Poll::Pending => return self.poll_patience(cx, false),
        }
        loop {
            match self.inbox.parse_request() {
                Ok(Some(request)) => {
                    self.waiting = Waiting::Nothing;
                    return Poll::Ready(Next::Request(request));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Next::Refused(Refusal::Head(error))),
            }
            let has_begun = self.inbox.buffered() > 0;
            match self.inbox.poll_fill(cx) {
                Poll::Ready(Ok(count)) if count > 0 => {}
                Poll::Ready(Ok(_) | Err(_)) => {
                    return Poll::Ready(Next::Over(has_begun.then_some(Reason::ConnectionLost)));
                }
                Poll::Pending if draining && !has_begun => return Poll::Ready(Next::Over(None)),
                Poll::Pending => return self.poll_patience(cx, has_begun),
            }
        }
    }

    /// Ready when the client took too long.
    fn poll_patience(&mut self, cx: &mut Context<'_>, has_begun: bool) -> Poll<Next> {
        let (waiting, patience) = match has_begun {
            true => (Waiting::Head, self.settings.header_timeout),
            false => (Waiting::FirstByte, self.settings.idle_timeout),
        };
        if self.waiting != waiting {
            self.waiting = waiting;
            self.timer.set(clock::now() + patience);
        }
        ready!(self.timer.poll(cx));
        Poll::Ready(match has_begun {
            true => Next::Refused(Refusal::Timeout),
            false => Next::Over(Some(Reason::IdleTimeout)),
        })
    }

    /// One request and its response.
    async fn exchange<H: Handler>(
        &mut self,
        parsed: ParsedRequest,
        handler: &H,
        drain: &Drain,
    ) -> After {
        let mut facts = Facts::of(&parsed);
        // How long the one before was waited for says nothing of this one.
        self.half_closed = None;
        let message = self.inbox.begin_body(parsed.length);
        let body = match parsed.length {
            BodyLength::Empty => Body::Empty,
            BodyLength::Exact(_) | BodyLength::Chunked | BodyLength::UntilClose => {
                Body::Http1(IncomingBody::of_request(Rc::clone(&self.inbox), message))
            }
        };
        let interim = Interim::default();
        let request = Request { head: parsed.head, body, interim: interim.clone() };
        let answer = {
            let mut handling = pin!(handler.handle(request));
            poll_fn(|cx| self.poll_answer(cx, handling.as_mut(), &interim, &mut facts)).await
        };
        match answer {
            Some(response) => {
                let response = self.check(response, &facts, handler);
                self.reply(response, &facts, drain).await
            }
            None => self.give_up(),
        }
    }

    /// Runs the handler, and writes 1xx heads meanwhile; `None` when the client is gone.
    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        handling: Pin<&mut impl Future<Output = Response>>,
        interim: &Interim,
        facts: &mut Facts,
    ) -> Poll<Option<Response>> {
        let answer = handling.poll(cx);
        while let Poll::Ready(head) = interim.poll_next(cx) {
            if self.write_interim(&head, facts).is_err() {
                return Poll::Ready(None);
            }
        }
        match answer {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            Poll::Pending if self.poll_gone(cx, facts).is_ready() => Poll::Ready(None),
            Poll::Pending if self.inbox.has_ended() => {
                let half_closed = self.half_closed.get_or_insert_default();
                half_closed.poll_awaiting(cx, &self.socket, facts.version).map(|()| None)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// HTTP/1.0 knows no 1xx responses (RFC 9110 section 15.2).
    fn write_interim(&self, head: &ResponseHead, facts: &mut Facts) -> std::io::Result<()> {
        if facts.version != Version::HTTP_11 {
            return Ok(());
        }
        if head.status == StatusCode::CONTINUE {
            facts.awaits_continue = false;
        }
        with_scratch(|out| {
            encode::interim_head(out, head);
            self.socket.write(out)
        })
    }

    /// Ready when the client has left: its connection broke, or it ended its side while more requests could have
    /// come. Clients that give up just close, which looks like a half-close until they are written to; so a
    /// half-close is believed of those only that have said that this is their last request, or have sent the next.
    fn poll_gone(&self, cx: &mut Context<'_>, facts: &Facts) -> Poll<()> {
        // Of a body in progress only its reader takes more than what shows that the client is there.
        let enough = if self.inbox.body_is_done() { READ_AHEAD } else { 1 };
        while !self.inbox.has_ended() && self.inbox.buffered() < enough {
            if ready!(self.inbox.poll_fill(cx)).is_err() {
                return Poll::Ready(());
            }
        }
        let more_could_come = facts.keep_alive && self.inbox.buffered() == 0;
        if self.inbox.has_ended() && self.inbox.body_is_done() && more_could_come {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// A handler's response that does not fit the request is a defect, and is answered as one.
    fn check<H: Handler>(&self, response: Response, facts: &Facts, handler: &H) -> Response {
        let status = response.head.status;
        let opens_tunnel = status.is_success() && facts.method == Method::CONNECT;
        let upgrades = status == StatusCode::SWITCHING_PROTOCOLS && facts.offers_upgrade;
        let fits = match &response.takeover {
            Some(Takeover::Splice(_) | Takeover::Outside(_)) => upgrades || opens_tunnel,
            Some(Takeover::Tunnel { .. }) => opens_tunnel,
            None => !status.is_informational() && !opens_tunnel,
        };
        if fits {
            return response;
        }
        tracing::error!(%status, "a response does not fit its request");
        let error = ProxyError::new(Reason::Internal, "the response does not fit the request");
        handler.refuse(error, facts.asked)
    }

    /// Answers a request that the handler never sees; the connection cannot go on behind it.
    async fn refuse<H: Handler>(&mut self, refusal: Refusal, handler: &H) -> After {
        let (reason, detail, status) = match refusal {
            Refusal::Head(error) => (error.reason(), error.to_string(), Some(error.status())),
            Refusal::Timeout => {
                let limit = self.settings.header_timeout;
                let detail = format!("no whole head within {limit:?} (WEFT_HEADER_TIMEOUT)");
                (Reason::HeaderTimeout, detail, None)
            }
        };
        let error = ProxyError::new(reason, detail);
        let response = handler.refuse(error, Asked { status, ..Asked::default() });
        match self.write_refusal(response).await {
            Ok(()) => After::Close(Some(reason)),
            Err(_) => After::Over(Some(reason)),
        }
    }

    fn give_up(&self) -> After {
        self.socket.abort();
        After::Over(Some(Reason::ConnectionLost))
    }

    /// Ends the connection after what was written; dropped then, the socket gives the client time to read.
    async fn close(&self) {
        let shutdown = poll_fn(|cx| self.socket.poll_shutdown(cx));
        if !matches!(clock::timeout(LAST_WRITE, shutdown).await, Ok(Ok(()))) {
            tracing::debug!("a client did not take its last response");
        }
    }
}

impl Facts {
    fn of(parsed: &ParsedRequest) -> Self {
        Self {
            method: parsed.head.method.clone(),
            version: parsed.head.version,
            asked: Asked::from(&parsed.head),
            keep_alive: parsed.keep_alive,
            awaits_continue: parsed.expects_continue,
            offers_upgrade: parsed.head.upgrade.is_some(),
        }
    }
}
