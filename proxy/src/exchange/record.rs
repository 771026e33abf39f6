//! What is remembered of one request: opened with its head, closed with its response's last byte.
//!
//! Every request is recorded once, also one whose client goes away: dropping the record closes it.

use std::{
    borrow::Cow,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Method, StatusCode, Version, uri::Authority};

use super::{Origin, passage::Passage};
use crate::{
    balance::{InFlight, Member},
    clock::{self, Instant},
    destination::{Service, authority},
    discovery::{Transport, Trial},
    error::ProxyError,
    http::{Asked, Body, BodyError, Fields, Frame, RequestHead, Response, grpc, side},
    policy::{breaker::Verdict, deadline::Deadline, gate::Turn, rate_limit::Quota},
    reason::Reason,
    route::{Backend, Rule},
    shared::Shared,
    telemetry::{
        self, AccessLog, AccessRecord, BackendMetrics, Direction, RequestOutcome, TlsState,
        TrafficMetrics,
        traces::{AttemptSpan, RequestSpan},
    },
};

/// The client went away before there was an answer: not a status of HTTP, but what nginx counts it as.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The record of one request.
#[derive(Debug)]
pub struct Record {
    began: Instant,
    direction: Direction,
    metrics: Arc<TrafficMetrics>,
    counted: telemetry::InFlight,
    tls: TlsState,
    grpc: bool,
    /// It is a gRPC call's over HTTP/2, in both directions: its client reads trailers.
    reads_status: bool,
    status: u16,
    grpc_status: Option<u8>,
    reason: Option<Reason>,
    attempts: u32,
    /// Which attempt of the caller's sidecar this is, above the first.
    attempt: Option<u32>,
    member: Option<Rc<Member>>,
    /// Of the backend that a rule chose.
    backend: Option<Arc<BackendMetrics>>,
    under_way: Option<UnderWay>,
    held: Held,
    quota: Option<Box<Grant>>,
    line: Option<Box<Line>>,
    span: Option<Box<Span>>,
    closed: bool,
}

/// What a request holds until its response's end.
#[derive(Debug)]
pub struct UnderWay {
    /// Its place among those in flight to the endpoint.
    pub in_flight: InFlight,
    /// What the endpoint's breaker waits for.
    pub trial: Option<Trial>,
    /// Its place among those in flight to the service, where these are limited.
    pub turn: Option<Turn>,
}

/// What a request holds on the server's side until its response's end.
#[derive(Debug, Default)]
pub struct Held {
    /// It is under way on its connection.
    pub passage: Option<Passage>,
    /// It is in flight at the application.
    pub turn: Option<Turn>,
}

/// What the client is told of a rate limit.
#[derive(Debug, Clone, Copy)]
pub struct Grant {
    /// What it may still do.
    pub quota: Quota,
    /// It was refused: earlier than after this no try succeeds.
    pub retry_after: Option<Duration>,
}

/// What only the access log wants: filled when it is switched on.
#[derive(Debug)]
struct Line {
    log: AccessLog,
    service: Arc<str>,
    route: Option<Arc<str>>,
    backend: Option<Arc<str>>,
    client: Option<weft_proto::SpiffeId>,
    client_address: Option<std::net::SocketAddr>,
    /// Of a request whose head was read.
    method: Option<Method>,
    protocol: &'static str,
    authority: Option<Authority>,
    path: Option<String>,
    detail: Option<Cow<'static, str>>,
    sent: u64,
}

/// What only traces want: filled when they are switched on.
#[derive(Debug)]
struct Span {
    request: RequestSpan,
    /// The attempt that is being made.
    attempt: Option<AttemptSpan>,
}

impl Record {
    /// Opens a record. Until the request is routed it counts for no service.
    #[must_use]
    pub fn start(shared: &Shared, origin: &Origin, head: &RequestHead) -> Self {
        let mut record = Self::unread(shared, origin, Asked::from(head));
        if let Some(line) = &mut record.line {
            line.read(head);
        }
        record.reads_status = record.grpc && head.version == Version::HTTP_2;
        record.span = Span::begin(shared, origin, head).map(Box::new);
        record
    }

    /// Opens the record of a request whose head could not be read.
    #[must_use]
    pub fn unread(shared: &Shared, origin: &Origin, asked: Asked) -> Self {
        let direction = origin.direction();
        let metrics = shared.unrouted(direction);
        Self {
            began: clock::now(),
            direction,
            counted: metrics.begin(),
            metrics,
            tls: origin.client_tls(),
            grpc: asked.grpc,
            reads_status: false,
            status: 0,
            grpc_status: None,
            reason: None,
            attempts: 0,
            attempt: None,
            member: None,
            backend: None,
            under_way: None,
            held: Held { passage: origin.enter(), turn: None },
            quota: None,
            line: shared.access.is_on().then(|| Box::new(Line::of(&shared.access, origin))),
            span: None,
            closed: false,
        }
    }

    /// When the request's head was here.
    #[must_use]
    pub const fn began(&self) -> Instant {
        self.began
    }

    /// How many attempts were made.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// What the request's caller gives it, and which attempt of it this is: by gRPC's own field, and by what a
    /// verified sidecar says. To be asked before the request is sanitized.
    pub fn handed_on(&mut self, origin: &Origin, head: &RequestHead) -> Option<Deadline> {
        let of_grpc = if self.grpc { grpc::timeout(&head.headers) } else { None };
        let of_sidecar = match origin {
            Origin::Inbound(inbound)
                if inbound.requests.peer().is_some() && side::are_said(&head.headers) =>
            {
                self.attempt = side::attempts(&head.headers);
                side::deadline(&head.headers)
            }
            Origin::Inbound(_) | Origin::Outbound(_) => None,
        };
        let deadline = |left: Option<_>| Deadline::of_caller(self.began, left?);
        Deadline::earlier(deadline(of_grpc), deadline(of_sidecar))
    }

    /// The request goes to this service.
    pub fn routed(&mut self, service: &Service) {
        self.metrics = service.metrics.clone();
        self.counted = self.metrics.begin();
        if let Some(line) = &mut self.line {
            line.service = service.label.clone();
        }
        if let Some(span) = &mut self.span {
            span.request.routed(&service.label);
        }
    }

    /// A rule of the service's routes took the request.
    pub fn taken_by(&mut self, rule: &Rule) {
        if let Some(line) = &mut self.line {
            line.route = Some(rule.name.clone());
        }
        if let Some(span) = &mut self.span {
            span.request.taken_by(&rule.name);
        }
    }

    /// The rule sends the request to this backend.
    pub fn sent_to(&mut self, backend: &Backend, metrics: Arc<BackendMetrics>) {
        self.backend = Some(metrics);
        if let Some(line) = &mut self.line {
            line.backend = Some(backend.label.clone());
        }
        if let Some(span) = &mut self.span {
            span.request.sent_to(&backend.label);
        }
    }

    /// The proxy itself answers, for this reason, and not because something failed.
    pub fn answered(&mut self, reason: Reason) {
        self.reason = Some(reason);
    }

    /// An attempt begins; where it is traced, the request tells the next hop so.
    pub fn attempt(&mut self, number: u32, member: &Rc<Member>, headers: &mut Fields) {
        self.attempts = number;
        if self.direction == Direction::Outbound {
            self.tls = match member.endpoint.transport {
                Transport::Mesh(_) => TlsState::Mutual,
                Transport::Plain => TlsState::Plain,
            };
        }
        self.member = Some(member.clone());
        if let Some(span) = &mut self.span {
            let attempt = span.request.attempt(&member.endpoint);
            attempt.inject(headers);
            span.attempt = Some(attempt);
        }
    }

    /// The attempt brought a response head with this status, or failed.
    pub fn attempted(&mut self, result: Result<StatusCode, Reason>) {
        if let Some(attempt) = self.span.as_mut().and_then(|span| span.attempt.take()) {
            attempt.end(result.map(|status| status.as_u16()));
        }
    }

    /// An attempt brought a response head; what it holds is held until the body's end.
    pub fn responding(&mut self, mut under_way: UnderWay) {
        if let Some(trial) = &mut under_way.trial {
            trial.answered();
        }
        self.under_way = Some(under_way);
    }

    /// A rate limit counts the request.
    pub fn limited(&mut self, grant: Grant) {
        self.quota = Some(Box::new(grant));
    }

    /// What the client is to be told of a rate limit.
    #[must_use]
    pub fn grant(&self) -> Option<&Grant> {
        self.quota.as_deref()
    }

    /// The application has been given the request.
    pub fn admitted(&mut self, turn: Turn) {
        self.held.turn = Some(turn);
    }

    /// For as long as what it holds the request may go on, on the server's side.
    #[must_use]
    pub const fn passage(&self) -> Option<&Passage> {
        self.held.passage.as_ref()
    }

    /// Keeps the head of the request where its response lasts: it is judged again when access policy changes.
    pub fn keep(&mut self, head: RequestHead, response: &mut Response) {
        if let Some(passage) = &mut self.held.passage {
            passage.keep(head, response);
        }
    }

    /// Whether the request, whose response is under way, may go on no longer.
    fn is_revoked(&mut self) -> bool {
        let revoked = self.held.passage.as_ref().and_then(|passage| passage.revoked(None));
        let Some(error) = revoked else { return false };
        tracing::debug!(reason = %error.reason, detail = %error.detail, "response cut short");
        if let Some(line) = &mut self.line {
            line.detail = Some(error.detail);
        }
        true
    }

    /// Its place among the service's requests, for what it becomes.
    #[must_use]
    pub fn take_turn(&mut self) -> Option<Turn> {
        self.under_way.as_mut()?.turn.take()
    }

    /// What is held for the request, for what it becomes: the record ends before that.
    #[must_use]
    pub fn take_held(&mut self) -> Held {
        std::mem::take(&mut self.held)
    }

    /// A policy in audit mode would have refused the request.
    pub fn audited(&mut self, policy: &str) {
        if let Some(line) = &mut self.line {
            line.detail = Some(format!("{policy} would refuse it (Audit)").into());
        }
    }

    /// The application's response: recorded when its body ends.
    #[must_use]
    pub fn follow(mut self, mut response: Response) -> Response {
        self.status = response.head.status.as_u16();
        if self.grpc {
            self.grpc_status = grpc::status(&response.head.headers);
            self.reads_status &= response.head.is_grpc();
        }
        if !response.body.is_end() {
            let inner = std::mem::take(&mut response.body);
            response.body =
                Body::Recorded(Box::new(RecordedBody { inner, record: self, over: false }));
        }
        response
    }

    /// The proxy's own response.
    #[must_use]
    pub fn refuse(mut self, error: ProxyError, response: Response) -> Response {
        self.status = response.head.status.as_u16();
        self.grpc_status = self.grpc.then(|| error.grpc_status());
        self.reason = Some(error.reason);
        tracing::debug!(reason = %error.reason, detail = %error.detail, attempts = self.attempts, "request ended by the proxy");
        if let Some(line) = &mut self.line {
            line.detail = Some(error.detail);
        }
        response
    }

    fn frame(&mut self, frame: &Frame) {
        match frame {
            Frame::Data(data) => {
                if let Some(line) = &mut self.line {
                    line.sent += data.len() as u64;
                }
            }
            Frame::Trailers(trailers) if self.grpc => {
                self.grpc_status = grpc::status(trailers).or(self.grpc_status);
            }
            Frame::Trailers(_) => {}
        }
    }

    fn broken(&mut self, error: &BodyError) {
        if let (BodyError::Overdue(_), Some(under_way)) = (error, &mut self.under_way) {
            // The endpoint was not waited for.
            under_way.trial = None;
        }
        self.reason = Some(match error {
            BodyError::Reset(_) => Reason::UpstreamReset,
            BodyError::Malformed(_) => Reason::UpstreamProtocol,
            BodyError::TimedOut => Reason::IdleTimeout,
            BodyError::Expired(reason) | BodyError::Overdue(reason) => *reason,
            BodyError::Truncated | BodyError::Io(_) => Reason::ConnectionLost,
        });
    }

    /// What the client of a gRPC call gets for a connection that was lost, a time that was over or a right that is gone, behind its
    /// response's head: the status, as it would have from its own connection, and not a reset, which it reads as a
    /// defect.
    fn status_instead_of_reset(&mut self) -> Option<Fields> {
        let reason = self.reason.filter(|reason| {
            self.reads_status
                && matches!(
                    reason,
                    Reason::ConnectionLost
                        | Reason::IdleTimeout
                        | Reason::RequestTimeout
                        | Reason::DeadlineExceeded
                        | Reason::StreamIdleTimeout
                        | Reason::AuthzDenied
                )
        })?;
        let status = crate::error::grpc_status(reason);
        self.grpc_status = Some(status);
        let mut trailers = Fields::new();
        grpc::put_status(&mut trailers, status, &format!("weft: {reason}: {}", reason.meaning()));
        Some(trailers)
    }

    fn close(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        if self.status == 0 {
            self.status = CLIENT_CLOSED_REQUEST;
        }
        if let Some(trial) = self.under_way.take().and_then(|held| held.trial) {
            trial.judge(self.verdict());
        }
        self.held = Held::default();
        let outcome = RequestOutcome {
            status: self.status,
            grpc_status: self.grpc_status,
            reason: self.reason,
            duration: clock::now().saturating_duration_since(self.began),
            tls: self.tls,
        };
        self.metrics.request(&outcome);
        if let Some(backend) = &self.backend {
            backend.request(&outcome);
        }
        let span = self.span.take();
        if let Some(line) = self.line.take() {
            let trace_id = span.as_ref().map(|span| span.request.trace_id());
            self.write(&line, &outcome, trace_id.as_deref());
        }
        if let Some(span) = span {
            span.end(&outcome);
        }
    }

    /// What the response says of its endpoint, now that it has ended.
    fn verdict(&self) -> Option<Verdict> {
        if let Some(reason) = self.reason {
            return Verdict::of_failure(reason);
        }
        let status = StatusCode::from_u16(self.status).ok()?;
        match (self.grpc, self.grpc_status) {
            // A client that leaves before the call's status says nothing of the server.
            (true, None) if status.is_success() => None,
            (_, grpc_status) => Some(Verdict::of_response(status, grpc_status)),
        }
    }

    fn write(&self, line: &Line, outcome: &RequestOutcome, trace_id: Option<&str>) {
        line.log.write(&AccessRecord {
            route: line.route.as_deref(),
            backend: line.backend.as_deref(),
            client: line.client.as_ref(),
            client_address: line.client_address,
            method: line.method.as_ref().map(Method::as_str),
            authority: line.authority.as_ref().map(Authority::as_str),
            path: line.path.as_deref(),
            status: Some(outcome.status),
            grpc_status: outcome.grpc_status,
            reason: outcome.reason,
            detail: line.detail.as_deref(),
            duration: outcome.duration,
            sent: line.sent,
            attempts: self.attempts,
            attempt: self.attempt,
            endpoint: self.member.as_ref().map(|member| member.endpoint.address),
            tls: outcome.tls,
            trace_id,
            ..AccessRecord::new(self.direction, line.protocol, &line.service)
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.close();
    }
}

impl Span {
    fn begin(shared: &Shared, origin: &Origin, head: &RequestHead) -> Option<Self> {
        let mut request = shared.tracer.begin(head, origin.direction())?;
        if let (Some(client), _) = origin.client() {
            request.called_by(&client);
        }
        Some(Self { request, attempt: None })
    }

    /// An attempt that is still open was given up with the request.
    fn end(self, outcome: &RequestOutcome) {
        if let Some(attempt) = self.attempt {
            attempt.end(outcome.reason.map_or(Ok(outcome.status), Err));
        }
        self.request.end(outcome);
    }
}

impl Line {
    fn of(log: &AccessLog, origin: &Origin) -> Self {
        let (client, client_address) = origin.client();
        Self {
            log: log.clone(),
            service: "".into(),
            route: None,
            backend: None,
            client,
            client_address,
            method: None,
            protocol: "http",
            authority: None,
            path: None,
            detail: None,
            sent: 0,
        }
    }

    fn read(&mut self, head: &RequestHead) {
        self.method = Some(head.method.clone());
        self.protocol = match head.version {
            _ if head.is_grpc() => "grpc",
            Version::HTTP_2 => "h2",
            Version::HTTP_10 => "http/1.0",
            _ => "http/1.1",
        };
        self.authority = authority::of_request(head).ok();
        self.path = Some(head.target.path().to_owned());
    }
}

/// A response's body that closes the record at its end.
#[derive(Debug)]
pub struct RecordedBody {
    inner: Body,
    record: Record,
    /// The end was given already.
    over: bool,
}

impl RecordedBody {
    /// See [`Body::poll_frame`].
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let polled = self.poll_inner(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.record.frame(frame),
            Poll::Ready(Some(Err(error))) => {
                self.record.broken(error);
                if let Some(trailers) = self.record.status_instead_of_reset() {
                    self.over = true;
                    self.record.close();
                    return Poll::Ready(Some(Ok(Frame::Trailers(trailers))));
                }
            }
            Poll::Ready(None) => self.record.close(),
            Poll::Pending => {
                if let Some(passage) = self.record.passage() {
                    passage.wait(cx);
                }
            }
        }
        polled
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.record.is_revoked() {
            // Given up at once: its sender need not go on until the client has taken notice.
            self.inner = Body::Empty;
            return Poll::Ready(Some(Err(BodyError::Expired(Reason::AuthzDenied))));
        }
        self.inner.poll_frame(cx)
    }

    /// See [`Body::is_end`].
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.over || self.inner.is_end()
    }

    /// See [`Body::exact_length`].
    #[must_use]
    pub fn exact_length(&self) -> Option<u64> {
        self.inner.exact_length()
    }
}
