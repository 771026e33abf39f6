//! ONE request, from its head to its record: the life of every HTTP request through the proxy.
//!
//! ```text
//! record start -> sanitize -> route -> filters -> authorize -> admit ->
//!   loop { pick endpoint -> connection -> send -> judge } ->
//! filters on the response -> record end
//! ```
//!
//! Comes in: a [`Request`] from either server codec. Goes out: a [`Response`], always; what the proxy itself
//! ended has a reason. The request sees one snapshot of its destination from start to end. Policies that are
//! not there yet have their place named in [`Exchange::serve`].

pub mod connect;
pub mod origin;
pub mod record;

use std::rc::Rc;

use http::{Method, Version};
use weft_proto::discovery::Protocol;

pub use origin::{Inbound, Origin, Outbound};
pub use record::{Record, RecordedBody};

use crate::{
    balance::{EndpointSet, InFlight, Member},
    clock,
    destination::Service,
    discovery::Transport,
    error::ProxyError,
    http::{
        Asked, Body, Handler, Interim, Request, RequestHead, Response, h2::Http2Client,
        replay::Replay, respond, side,
    },
    policy::retry,
    pool::{Connection, Need},
    reason::Reason,
    shared::Shared,
};

/// Answers the requests of one client connection.
#[derive(Debug)]
pub struct Exchange {
    shared: Rc<Shared>,
    origin: Origin,
}

impl Handler for Exchange {
    async fn handle(&self, mut request: Request) -> Response {
        let mut record = Record::start(&self.shared, &self.origin, &request.head);
        match self.serve(&mut request, &mut record).await {
            Ok(response) => record.follow(response),
            Err(error) => {
                let response = respond::respond(&error, &request.head, self.origin.audience());
                record.refuse(error, response)
            }
        }
    }

    fn refuse(&self, error: ProxyError, asked: Asked) -> Response {
        let response = respond::respond(&error, asked, self.origin.audience());
        Record::unread(&self.shared, &self.origin, asked).refuse(error, response)
    }
}

impl Exchange {
    /// For one client connection.
    #[must_use]
    pub const fn new(shared: Rc<Shared>, origin: Origin) -> Self {
        Self { shared, origin }
    }

    /// The phases of a request, in order.
    async fn serve(
        &self,
        request: &mut Request,
        record: &mut Record,
    ) -> Result<Response, ProxyError> {
        // 1. Sanitize: what only the mesh may say is taken from who is not the mesh.
        self.origin.sanitize(&mut request.head);

        if request.head.method == Method::CONNECT {
            return connect::tunnel(&self.shared, &self.origin, &request.head).await;
        }

        // 2. Route: the service, and the snapshot of its endpoints that this request keeps.
        let service = self.origin.route(&self.shared, &mut request.head).await?;
        record.routed(&service);
        let snapshot = service.snapshot();

        // 3. Filters on the request: header modifiers, redirects and rewrites of routes belong here.
        // 4. Authorize: access policy belongs here, on the server's side.
        // 5. Admit: rate limits, concurrency limits and the deadline handed on belong here.

        // 6. Attempts.
        let body = std::mem::take(&mut request.body);
        let mut call = Call {
            exchange: self,
            service: &service,
            snapshot: &snapshot,
            head: &mut request.head,
            interim: &request.interim,
            replay: Replay::new(body, self.shared.config.limits.replay_bytes),
            tried: Vec::new(),
            kept_connection_failed: false,
        };
        let mut response = self.within_request_timeout(call.attempts(record)).await?;

        // 7. Filters on the response: header modifiers of routes belong here too.
        self.origin.sanitize_response(&mut response.head);
        Ok(response)
    }

    async fn within_request_timeout(
        &self,
        attempts: impl Future<Output = Result<Response, ProxyError>>,
    ) -> Result<Response, ProxyError> {
        let limit = self.shared.config.timeouts.request;
        if limit.is_zero() {
            return attempts.await;
        }
        clock::timeout(limit, attempts).await.unwrap_or_else(|_| {
            let detail = format!("no response head within {limit:?} (WEFT_REQUEST_TIMEOUT)");
            Err(ProxyError::after_send(Reason::RequestTimeout, detail))
        })
    }
}

/// The attempts of one request.
struct Call<'a> {
    exchange: &'a Exchange,
    service: &'a Rc<Service>,
    snapshot: &'a EndpointSet,
    head: &'a mut RequestHead,
    interim: &'a Interim,
    replay: Replay,
    /// Endpoints that failed this request.
    tried: Vec<Rc<Member>>,
    /// A kept connection failed this request: others may have been closed with it.
    kept_connection_failed: bool,
}

/// How one attempt failed.
struct Failure {
    error: ProxyError,
    /// On a connection that had been used before.
    kept_connection: bool,
}

impl Call<'_> {
    /// Sends the request until there is a response, or no further attempt is safe.
    async fn attempts(&mut self, record: &mut Record) -> Result<Response, ProxyError> {
        let mut made = 0;
        loop {
            let member = self.pick()?;
            let Some(body) = self.replay.attempt() else {
                return Err(ProxyError::new(Reason::Internal, "the request's body is gone"));
            };
            made += 1;
            record.attempt(made, &member, &mut self.head.headers);
            let failure = match self.attempt(&member, body, record).await {
                Ok(response) => {
                    record.attempted(Ok(response.head.status));
                    return Ok(response);
                }
                Err(failure) => failure,
            };
            record.attempted(Err(failure.error.reason));
            self.hint(failure.error.reason);
            if !self.another_is_safe(made, &failure) {
                return Err(failure.error);
            }
            tracing::debug!(service = %self.service.label, endpoint = %member.endpoint.id, error = %failure.error, "sending the request once more");
            self.service.metrics.retried(failure.error.reason);
            self.tried.push(member);
            self.kept_connection_failed |= failure.kept_connection;
        }
    }

    /// An application that refuses connections is probed before its next turn.
    fn hint(&self, reason: Reason) {
        if let (Origin::Inbound(_), Reason::ConnectRefused) = (&self.exchange.origin, reason) {
            self.exchange.shared.destinations.application_refused();
        }
    }

    fn pick(&self) -> Result<Rc<Member>, ProxyError> {
        self.service.pick(self.snapshot, &self.tried).ok_or_else(|| {
            let detail = format!("{} has no ready endpoint", self.service.label);
            ProxyError::new(Reason::NoEndpoints, detail)
        })
    }

    /// One attempt on one endpoint: a connection, the request on it, the response's head judged.
    async fn attempt(
        &mut self,
        member: &Rc<Member>,
        body: Body,
        record: &mut Record,
    ) -> Result<Response, Failure> {
        let in_flight = InFlight::enter(member);
        let fresh = |error| Failure { error, kept_connection: false };
        let connection =
            member.pool.acquire(self.need(), member.in_flight()).await.map_err(fresh)?;
        // A handshake is no answer's time: counted, it would keep a cold endpoint from its share.
        let began = clock::now();
        let sanitize = self.exchange.origin.sanitize_interim(&member.endpoint.transport);
        let interim = self.interim.sanitized(sanitize);
        let socket = connection.socket();
        let (sent, kept_connection) = match connection {
            Connection::Http1 { client, kept } => {
                let shelf = member.pool.shelf().clone();
                (client.send(self.head, body, &interim, shelf).await, kept)
            }
            Connection::Http2(client) => {
                self.annotate_for(&client);
                (client.send(self.head, body, &interim).await, false)
            }
        };
        let failed = |error: ProxyError| Failure { error, kept_connection };
        member.observe(began);
        let mut response = sent.map_err(|error| {
            // Not lost by the way: the other sidecar has refused this one, before it read anything.
            let refused = socket.and_then(|socket| member.pool.explain(&socket));
            failed(refused.unwrap_or_else(|| error.into()))
        })?;
        if let Transport::Mesh(_) = member.endpoint.transport {
            if side::take_not_delivered(&mut response.head.headers) {
                let reason = side::reason(&response.head.headers).unwrap_or(Reason::ConnectRefused);
                let detail = format!("{} could not reach its application", member.endpoint.id);
                return Err(failed(ProxyError::of_endpoint(reason, detail)));
            }
            if let Some(reason) = side::broken_off(&response.head.headers) {
                let detail = format!("{} lost its application's answer", member.endpoint.id);
                return Err(failed(ProxyError::after_send(reason, detail)));
            }
            side::receive_response(&mut response.head);
        } else {
            side::strip(&mut response.head.headers);
        }
        record.responding(in_flight);
        Ok(response)
    }

    /// An HTTP/1 request that travels as HTTP/2 between sidecars carries what HTTP/2 cannot say beside it.
    fn annotate_for(&mut self, client: &Http2Client) {
        if self.head.version != Version::HTTP_2 && client.side_headers() {
            side::put_case(&mut self.head.headers, &self.head.case);
            side::put_version(&mut self.head.headers, self.head.version);
        }
    }

    /// Streams and trailers of HTTP/2 are kept; an Upgrade needs a connection of its own, and so does an attempt
    /// after one that a kept connection failed.
    fn need(&self) -> Need {
        if self.travels_as_http2() {
            Need::Http2
        } else if self.head.upgrade.is_some() || self.kept_connection_failed {
            Need::OwnHttp1
        } else {
            let idempotent = retry::is_idempotent(&self.head.method);
            Need::Http1 { may_be_sent_again: idempotent && self.replay.is_possible() }
        }
    }

    /// The client's version decides, but towards an application that declares one: it gets that, whatever its
    /// clients speak. gRPC is HTTP/2 always.
    fn travels_as_http2(&self) -> bool {
        let spoken = self.head.version == Version::HTTP_2;
        match (&self.exchange.origin, self.snapshot.destination.protocol) {
            (Origin::Inbound(_), Protocol::Http1) => spoken && self.head.is_grpc(),
            (Origin::Inbound(_), Protocol::Http2 | Protocol::Grpc) => self.head.upgrade.is_none(),
            (Origin::Inbound(_) | Origin::Outbound(_), _) => spoken,
        }
    }

    fn another_is_safe(&self, made: u32, failure: &Failure) -> bool {
        let role = match &self.exchange.origin {
            Origin::Outbound(_) => retry::Role::Client,
            Origin::Inbound(_) => {
                retry::Role::Server { kept_connection_closed: failure.kept_connection }
            }
        };
        retry::permits(role, &self.head.method, made, &failure.error) && self.replay.is_possible()
    }
}
