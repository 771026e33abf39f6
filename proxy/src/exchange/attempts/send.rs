//! One attempt: a connection to its endpoint, the request on it, the response's head.
//!
//! Comes in: an endpoint, the body for this attempt, and on the server's side for how long the request may go on. Goes out: a response free of what only sidecars may say to
//! each other, or why there is none and how much of the request may have arrived.

use std::{pin::pin, rc::Rc};

use http::Version;
use weft_proto::discovery::Protocol;

use super::{Call, Failure};
use crate::{
    balance::{InFlight, Member},
    clock,
    discovery::Transport,
    error::ProxyError,
    exchange::{Origin, passage::Passage},
    http::{
        Body, Response, ResponseHead, grpc,
        h2::{self, Http2Client},
        side,
    },
    policy::retry,
    pool::{Connection, Need, Progress},
    reason::Reason,
};

impl Call<'_> {
    /// Sends the request to one endpoint, and waits for the response's head; how far that came shows in `progress`.
    /// Dropped early, it gives the attempt up.
    pub(super) async fn send(
        &mut self,
        member: &Rc<Member>,
        body: Body,
        progress: &Progress,
        passage: Option<&Passage>,
    ) -> Result<(Response, InFlight), Failure> {
        let in_flight = InFlight::enter(member);
        let fresh = |error| Failure { error, kept_connection: false };
        let connection = self.connection(member, body.is_end(), progress).await.map_err(fresh)?;
        progress.connected(clock::now());
        self.hand_on(&member.endpoint.transport);
        let sanitize = self.origin.sanitize_interim(&member.endpoint.transport);
        let interim = self.interim.sanitized(sanitize);
        let socket = connection.socket();
        let (sent, kept_connection) = match connection {
            Connection::Http1 { client, kept } => {
                let shelf = member.pool.shelf().clone();
                let sent = pin!(client.send(self.head, body, &interim, shelf));
                (Passage::hold(passage, self.head, sent).await, kept)
            }
            Connection::Http2(reservation) => {
                self.annotate_for(reservation.client());
                let sent = pin!(reservation.send(self.head, body, &interim));
                (Passage::hold(passage, self.head, sent).await, false)
            }
        };
        let failed = |error: ProxyError| Failure { error, kept_connection };
        let mut response = sent.map_err(fresh)?.map_err(|error| {
            // Not lost by the way: the other sidecar has refused this one, before it read anything.
            let refused = socket.and_then(|socket| member.pool.explain(&socket));
            failed(refused.unwrap_or_else(|| error.into()))
        })?;
        if side::are_said(&response.head.headers) {
            hear(member, &mut response.head).map_err(failed)?;
        }
        self.snapshot.heed(member, &response.head);
        Ok((response, in_flight))
    }

    /// A connection that the request can travel on. An application that declares HTTP/2 gets a WebSocket as a stream, where
    /// it has announced that it takes that, and else as HTTP/1 has it, like any other Upgrade.
    async fn connection(
        &self,
        member: &Rc<Member>,
        has_no_body: bool,
        progress: &Progress,
    ) -> Result<Connection, ProxyError> {
        let declared = self.snapshot.destination.protocol;
        let speaks_http2 = matches!(
            (self.origin, declared),
            (Origin::Inbound(_), Protocol::Http2 | Protocol::Grpc)
        );
        if speaks_http2 && has_no_body && h2::asks_for_websocket(self.head) {
            // Boxed: it is rare.
            let shared = member.pool.acquire(Need::Http2, member.in_flight(), progress);
            let shared = Box::pin(shared).await?;
            if matches!(&shared, Connection::Http2(reserved) if reserved.client().takes_websockets())
            {
                return Ok(shared);
            }
        }
        member.pool.acquire(self.need(), member.in_flight(), progress).await
    }

    /// What the next hop is told of the request: the time that is left, and which attempt this is. An application
    /// hears of gRPC's own deadline only.
    fn hand_on(&mut self, transport: &Transport) {
        let fields = &mut self.head.headers;
        let meshed = matches!(transport, Transport::Mesh(_));
        if let Some(deadline) = &self.deadline {
            let left = deadline.left(clock::now());
            if fields.contains_key(grpc::TIMEOUT) {
                grpc::put_timeout(fields, left);
            }
            if meshed {
                side::put_deadline(fields, left);
            }
        }
        if self.made > 1 && meshed {
            side::put_attempts(fields, self.made);
        } else if self.made > 1 {
            // Of an attempt before, on an endpoint with a sidecar.
            side::take_back(fields);
        }
    }

    /// An HTTP/1 request that travels as HTTP/2 between sidecars carries what HTTP/2 cannot say beside it.
    fn annotate_for(&mut self, client: &Http2Client) {
        if self.head.version != Version::HTTP_2 && client.side_headers() {
            side::put_case(&mut self.head.headers);
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
            let may_repeat =
                retry::is_idempotent(&self.head.method) && self.policy.retry.attempts > 0;
            Need::Http1 { may_be_sent_again: may_repeat && self.replay.is_possible() }
        }
    }

    /// The client's version decides, but towards an application that declares one: it gets that, whatever its
    /// clients speak. gRPC is HTTP/2 always.
    fn travels_as_http2(&self) -> bool {
        // A protocol that a request asks for instead takes its connection over.
        let spoken = self.head.version == Version::HTTP_2 && self.head.upgrade.is_none();
        match (self.origin, self.snapshot.destination.protocol) {
            (Origin::Inbound(_), Protocol::Http1) => spoken && self.head.is_grpc(),
            (Origin::Inbound(_), Protocol::Http2 | Protocol::Grpc) => self.head.upgrade.is_none(),
            (Origin::Inbound(_) | Origin::Outbound(_), _) => spoken,
        }
    }
}

/// Takes what the endpoint's sidecar says beside a response; what an endpoint without one says so counts for nothing.
///
/// # Errors
/// The sidecar answers for its application, which it did not reach or lost.
fn hear(member: &Member, head: &mut ResponseHead) -> Result<(), ProxyError> {
    let Transport::Mesh(_) = member.endpoint.transport else {
        side::strip(&mut head.headers);
        return Ok(());
    };
    if side::take_not_delivered(&mut head.headers) {
        let reason = side::reason(&head.headers).unwrap_or(Reason::ConnectRefused);
        let detail = format!("{} could not reach its application", member.endpoint.id);
        return Err(ProxyError::of_endpoint(reason, detail));
    }
    if let Some(reason) = side::broken_off(&head.headers) {
        let detail = format!("{} lost its application's answer", member.endpoint.id);
        return Err(ProxyError::after_send(reason, detail));
    }
    side::receive_response(head);
    Ok(())
}
