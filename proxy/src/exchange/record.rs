//! What is remembered of one request: opened with its head, closed with its response's last byte.
//!
//! Every request is recorded once, also one whose client goes away: dropping the record closes it.

use std::{
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use super::{Origin, since};
use crate::{
    balance::{InFlight, Member},
    clock::{self, Instant},
    destination::Service,
    discovery::Transport,
    error::ProxyError,
    http::{Body, BodyError, Frame, RequestHead, Response, grpc},
    reason::Reason,
    shared::Shared,
    telemetry::{RequestOutcome, TlsState, TrafficMetrics},
};

/// The record of one request.
#[derive(Debug)]
pub struct Record {
    began: Instant,
    metrics: Arc<TrafficMetrics>,
    tls: TlsState,
    grpc: bool,
    status: u16,
    grpc_status: Option<u8>,
    reason: Option<Reason>,
    attempts: u32,
    member: Option<Rc<Member>>,
    in_flight: Option<InFlight>,
    outbound: bool,
    closed: bool,
}

impl Record {
    /// Opens a record. Until the request is routed it counts for no service.
    #[must_use]
    pub fn start(shared: &Shared, origin: &Origin, head: &RequestHead) -> Self {
        Self {
            began: clock::now(),
            metrics: shared.unrouted(origin.direction()),
            tls: origin.client_tls(),
            grpc: head.is_grpc(),
            status: 0,
            grpc_status: None,
            reason: None,
            attempts: 0,
            member: None,
            in_flight: None,
            outbound: matches!(origin, Origin::Outbound(_)),
            closed: false,
        }
    }

    /// The request goes to this service.
    pub fn routed(&mut self, service: &Service) {
        self.metrics = service.metrics.clone();
    }

    /// An attempt begins.
    pub fn attempt(&mut self, number: u32, member: &Rc<Member>) {
        self.attempts = number;
        if self.outbound {
            self.tls = match member.endpoint.transport {
                Transport::Mesh(_) => TlsState::Mutual,
                Transport::Plain => TlsState::Plain,
            };
        }
        self.member = Some(member.clone());
    }

    /// An attempt brought a response head; it stays in flight until the body's end.
    pub fn responding(&mut self, in_flight: InFlight) {
        self.in_flight = Some(in_flight);
    }

    /// The application's response: recorded when its body ends.
    #[must_use]
    pub fn follow(mut self, mut response: Response) -> Response {
        self.status = response.head.status.as_u16();
        if self.grpc {
            self.grpc_status = grpc::status(&response.head.headers);
        }
        let inner = std::mem::take(&mut response.body);
        if inner.is_end() && response.upload.is_none() {
            self.close();
            response.body = inner;
        } else {
            response.body = Body::Recorded(Box::new(RecordedBody { inner, record: self }));
        }
        response
    }

    /// The proxy's own response.
    #[must_use]
    pub fn refuse(mut self, error: &ProxyError, response: Response) -> Response {
        self.status = response.head.status.as_u16();
        self.grpc_status = self.grpc.then(|| crate::error::grpc_status(error.reason));
        self.reason = Some(error.reason);
        tracing::debug!(reason = %error.reason, detail = %error.detail, attempts = self.attempts, "request ended by the proxy");
        self.close();
        response
    }

    fn frame(&mut self, frame: &Frame) {
        if let (true, Frame::Trailers(trailers)) = (self.grpc, frame) {
            self.grpc_status = grpc::status(trailers).or(self.grpc_status);
        }
    }

    fn broken(&mut self, error: &BodyError) {
        self.reason = Some(match error {
            BodyError::Reset(_) => Reason::UpstreamReset,
            BodyError::Malformed(_) => Reason::UpstreamProtocol,
            BodyError::TimedOut => Reason::IdleTimeout,
            BodyError::Truncated | BodyError::Io(_) => Reason::ConnectionLost,
        });
    }

    fn close(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        self.in_flight = None;
        let outcome = RequestOutcome {
            status: self.status,
            grpc_status: self.grpc_status,
            reason: self.reason,
            duration: since(self.began),
            tls: self.tls,
        };
        self.metrics.request(&outcome);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.closed && self.reason.is_none() && self.status == 0 {
            // The client went away before there was an answer: 499, as nginx counts it.
            self.status = 499;
        }
        self.close();
    }
}

/// A response's body that closes the record at its end.
#[derive(Debug)]
pub struct RecordedBody {
    inner: Body,
    record: Record,
}

impl RecordedBody {
    /// See [`Body::poll_frame`].
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = self.inner.poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.record.frame(frame),
            Poll::Ready(Some(Err(error))) => self.record.broken(error),
            Poll::Ready(None) => self.record.close(),
            Poll::Pending => {}
        }
        polled
    }

    /// See [`Body::is_end`].
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.inner.is_end()
    }

    /// See [`Body::exact_length`].
    #[must_use]
    pub fn exact_length(&self) -> Option<u64> {
        self.inner.exact_length()
    }
}
