//! The response's way out, beside the rest of the request's way in.
//!
//! Neither direction waits for the other: while the response's body is written as fast as the client reads,
//! the upload goes on as fast as the server reads. A body that breaks is cut short visibly. What is left of
//! the request afterwards is taken in within bounds, or the connection closes.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Method, Version};

use super::{After, Connection, Facts};
use crate::{
    clock,
    drain::Drain,
    http::{
        Body, BodyError, Frame, Response,
        body::Upload,
        h1::{
            body::IncomingBody,
            encode::{self, Persistence},
            framing::BodyLength,
            transfer::{Transfer, TransferError, with_scratch},
        },
    },
    reason::Reason,
};

/// What is left of a request that nobody reads is taken in up to this size: cheaper than a new connection.
const MAX_REST: u64 = 64 * 1024;
/// How long that may take.
const REST_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an upload may stand still once its response has ended.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(10);

impl Connection<'_> {
    /// Writes the response, and finishes the request.
    pub(super) async fn reply(
        &mut self,
        response: Response,
        facts: &Facts,
        drain: &Drain,
    ) -> After {
        let Response { head, body, mut upload, takeover } = response;
        let length = encode::response_length(&head, &body, &facts.method, facts.version);
        let closes = length == BodyLength::UntilClose
            || drain.is_draining()
            || self.must_close(facts, upload.is_some());
        let persistence = match (takeover.is_some(), closes, facts.version) {
            (true, _, _) => Persistence::Implied,
            (false, true, _) => Persistence::Close,
            (false, false, Version::HTTP_10) => Persistence::KeepAlive,
            (false, false, _) => Persistence::Implied,
        };
        let written = with_scratch(|out| {
            encode::response_head(out, &head, length, persistence, &facts.method);
            self.socket.write(out)
        });
        drop(head);
        if written.is_err() {
            return self.give_up();
        }
        if let Some(takeover) = takeover {
            return After::TakenOver(takeover);
        }
        let mut transfer = Transfer::new(body, length);
        let sent = poll_fn(|cx| self.poll_reply(cx, &mut transfer, &mut upload, facts)).await;
        match sent {
            // A reset is the only end that cannot be taken for the body's.
            Err(TransferError::Body(_)) if length == BodyLength::UntilClose => self.give_up(),
            Err(TransferError::Body(_)) => After::Close(Some(Reason::ConnectionLost)),
            Err(TransferError::Socket(_)) => self.give_up(),
            Ok(()) if length == BodyLength::UntilClose => After::Close(None),
            Ok(()) => match self.finish_request(upload, facts, closes).await {
                true => After::Wait,
                false => After::Close(None),
            },
        }
    }

    /// Writes the response to a request that was refused.
    pub(super) async fn write_refusal(&mut self, response: Response) -> Result<(), TransferError> {
        let Response { head, body, .. } = response;
        let length = encode::response_length(&head, &body, &Method::GET, Version::HTTP_11);
        with_scratch(|out| {
            encode::response_head(out, &head, length, Persistence::Close, &Method::GET);
            self.socket.write(out)
        })
        .map_err(|error| TransferError::Socket(error.kind()))?;
        let mut transfer = Transfer::new(body, length);
        poll_fn(|cx| transfer.poll(cx, &self.socket)).await
    }

    /// Whether the connection cannot go on behind this request, as far as that is known before the response.
    fn must_close(&self, facts: &Facts, uploads: bool) -> bool {
        if !facts.keep_alive || facts.method == Method::CONNECT {
            // What follows a CONNECT that was declined may have been meant for the tunnel.
            return true;
        }
        let is_open = !self.inbox.body_is_done();
        // Who got an answer instead of 100 may send the body or not (RFC 9110 section 10.1.1).
        is_open && (self.lacks_continue(facts) || (!uploads && self.inbox.rest_exceeds(MAX_REST)))
    }

    /// Goes on in both directions; ready when the response was written, or cannot be.
    fn poll_reply(
        &mut self,
        cx: &mut Context<'_>,
        transfer: &mut Transfer,
        upload: &mut Option<Upload>,
        facts: &Facts,
    ) -> Poll<Result<(), TransferError>> {
        if let Some(pump) = upload
            && Pin::new(pump).poll(cx).is_ready()
        {
            // A request that broke shows where its body is left unread.
            *upload = None;
        }
        match transfer.poll(cx, &self.socket) {
            Poll::Ready(sent) => Poll::Ready(sent),
            Poll::Pending => {
                let mut gone = self.poll_gone(cx, facts);
                if gone.is_pending() && self.inbox.has_ended() {
                    let half_closed = self.half_closed.get_or_insert_default();
                    gone = half_closed.poll_receiving(cx, &self.socket);
                }
                gone.map(|()| Err(TransferError::Socket(std::io::ErrorKind::ConnectionReset)))
            }
        }
    }

    /// Whether the client still waits for 100, as far as one can see.
    fn lacks_continue(&self, facts: &Facts) -> bool {
        facts.awaits_continue && !self.inbox.body_has_begun()
    }

    /// Sees the request to its end; `true` when the connection can go on behind it.
    async fn finish_request(
        &mut self,
        upload: Option<Upload>,
        facts: &Facts,
        closes: bool,
    ) -> bool {
        if self.lacks_continue(facts) && !self.inbox.body_is_done() {
            return false;
        }
        if let Some(upload) = upload {
            self.finish_upload(upload).await;
        }
        if closes || self.inbox.body_is_done() {
            return !closes;
        }
        let rest = clock::timeout(REST_TIMEOUT, self.discard_rest());
        matches!(rest.await, Ok(Ok(true)))
    }

    /// Lets an upload go on behind its response for as long as it moves.
    async fn finish_upload(&self, mut upload: Upload) {
        let mut received = self.inbox.received();
        loop {
            if clock::timeout(UPLOAD_PATIENCE, &mut upload).await.is_ok() {
                return;
            }
            if self.inbox.received() == received {
                tracing::debug!("an upload stands still behind its response");
                return;
            }
            received = self.inbox.received();
        }
    }

    /// Takes in what is left of the request, if it is little.
    async fn discard_rest(&self) -> Result<bool, BodyError> {
        let mut body =
            Body::Http1(IncomingBody::of_request(self.inbox.clone(), self.inbox.message()));
        let mut discarded = 0;
        while let Some(frame) = body.frame().await {
            if let Frame::Data(data) = frame? {
                discarded += data.len() as u64;
            }
            if discarded > MAX_REST {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
