//! The attempts of one request: an endpoint, a connection, the request on it, the response's head judged, until
//! there is a response or no further attempt is safe.
//!
//! Comes in: a routed request and the snapshot of its service. Goes out: a response whose body is still to come, or why
//! there is none. It must never send a request again that may have been served, unless that is safe.

use std::rc::Rc;

use http::Version;
use weft_proto::discovery::Protocol;

use super::{Exchange, Origin, Record};
use crate::{
    balance::{Affinity, EndpointSet, InFlight, Member},
    clock,
    destination::Service,
    discovery::Transport,
    error::ProxyError,
    http::{Body, Interim, Request, RequestHead, Response, h2::Http2Client, replay::Replay, side},
    policy::retry,
    pool::{Connection, Need},
    reason::Reason,
    shared::Shared,
};

/// The attempts of one request.
pub(super) struct Call<'a> {
    shared: &'a Shared,
    origin: &'a Origin,
    service: &'a Rc<Service>,
    snapshot: &'a EndpointSet,
    head: &'a mut RequestHead,
    interim: &'a Interim,
    replay: Replay,
    /// What ties it to an endpoint.
    affinity: Affinity,
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

impl<'a> Call<'a> {
    /// A request to a service, as this snapshot of it stands.
    pub(super) fn new(
        exchange: &'a Exchange,
        service: &'a Rc<Service>,
        snapshot: &'a EndpointSet,
        request: &'a mut Request,
    ) -> Self {
        let body = std::mem::take(&mut request.body);
        let plan = snapshot.destination.balancing.as_deref();
        let affinity =
            Affinity::of_request(plan, &request.head, || exchange.origin.client_address());
        Self {
            shared: &exchange.shared,
            origin: &exchange.origin,
            service,
            snapshot,
            head: &mut request.head,
            interim: &request.interim,
            replay: Replay::new(body, exchange.shared.config.limits.replay_bytes),
            affinity,
            tried: Vec::new(),
            kept_connection_failed: false,
        }
    }

    /// Sends the request until there is a response within the request timeout, or no further attempt is safe.
    pub(super) async fn respond(mut self, record: &mut Record) -> Result<Response, ProxyError> {
        let limit = self.shared.config.timeouts.request;
        if limit.is_zero() {
            return self.attempts(record).await;
        }
        clock::timeout(limit, self.attempts(record)).await.unwrap_or_else(|_| {
            let detail = format!("no response head within {limit:?} (WEFT_REQUEST_TIMEOUT)");
            Err(ProxyError::after_send(Reason::RequestTimeout, detail))
        })
    }

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
                Ok(mut response) => {
                    record.attempted(Ok(response.head.status));
                    self.affinity.mark(&mut response.head);
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
        if let (Origin::Inbound(_), Reason::ConnectRefused) = (self.origin, reason) {
            self.shared.destinations.application_refused();
        }
    }

    fn pick(&self) -> Result<Rc<Member>, ProxyError> {
        let picked = self.service.pick(self.snapshot, &self.tried, self.affinity.key());
        picked.ok_or_else(|| self.service.without_endpoints(self.snapshot))
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
        let sanitize = self.origin.sanitize_interim(&member.endpoint.transport);
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
        self.snapshot.heed(member, &response.head);
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
        match (self.origin, self.snapshot.destination.protocol) {
            (Origin::Inbound(_), Protocol::Http1) => spoken && self.head.is_grpc(),
            (Origin::Inbound(_), Protocol::Http2 | Protocol::Grpc) => self.head.upgrade.is_none(),
            (Origin::Inbound(_) | Origin::Outbound(_), _) => spoken,
        }
    }

    fn another_is_safe(&self, made: u32, failure: &Failure) -> bool {
        let role = match self.origin {
            Origin::Outbound(_) => retry::Role::Client,
            Origin::Inbound(_) => {
                retry::Role::Server { kept_connection_closed: failure.kept_connection }
            }
        };
        retry::permits(role, &self.head.method, made, &failure.error) && self.replay.is_possible()
    }
}
