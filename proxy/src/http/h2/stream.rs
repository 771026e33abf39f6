//! One stream of a client: its request to the handler, the handler's response back.
//!
//! A client that resets its stream ends this future, and with it the handler and what that sent upstream. A
//! response whose body breaks off resets the stream. The rest of a request goes on upstream while its response
//! comes, and after it, until the endpoint or the client wants no more.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{Reason as Code, RecvStream, server::SendResponse};
use http::HeaderValue;

use super::{
    IncomingBody, ServerSettings, head,
    outgoing::{Outgoing, Stopped},
    tunnel::Tunnel,
    websocket,
};
use crate::{
    error::ProxyError,
    http::{Body, Handler, Interim, Request, RequestHead, Response, body::Upload, respond::Asked},
    reason::Reason,
};

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamEnd {
    /// The proxy was done with it.
    Done,
    /// The client reset it before its response was complete.
    ResetByClient,
}

/// Serves one stream.
pub(super) async fn serve<H: Handler>(
    request: http::Request<RecvStream>,
    mut responder: SendResponse<Bytes>,
    handler: &H,
    settings: &ServerSettings,
) -> StreamEnd {
    let (parts, stream) = request.into_parts();
    let (head, checked) = head::from_client(parts, settings);
    if checked.is_ok()
        && let Some(key) = websocket::key(&head)
    {
        // Boxed: it is rare, and lasts.
        return Box::pin(open_websocket(head, &key, stream, responder, handler)).await;
    }
    let response = match checked {
        Err(error) => handler.refuse(error, Asked::from(&head)),
        Ok(()) => {
            let length = head::content_length(&head.headers);
            let body = Body::Http2(IncomingBody::new(stream, length, None));
            let interim = Interim::default();
            let request = Request { head, body, interim: interim.clone() };
            let handling = handler.handle(request);
            match await_response(handling, &interim, &mut responder).await {
                Some(response) => response,
                None => return StreamEnd::ResetByClient,
            }
        }
    };
    send_response(response, responder, handler).await
}

/// Serves the stream of a client that asks for a WebSocket, and carries that when it is opened.
async fn open_websocket<H: Handler>(
    head: RequestHead,
    key: &HeaderValue,
    stream: RecvStream,
    mut responder: SendResponse<Bytes>,
    handler: &H,
) -> StreamEnd {
    let interim = Interim::default();
    let request = Request { head, body: Body::Empty, interim: interim.clone() };
    let handling = handler.handle(request);
    let Some(mut response) = await_response(handling, &interim, &mut responder).await else {
        return StreamEnd::ResetByClient;
    };
    let refused = |detail| {
        let error = ProxyError::after_send(Reason::UpstreamProtocol, detail);
        handler.refuse(error, Asked::default())
    };
    let Some(takeover) = response.takeover.take() else {
        if response.head.status.is_success() {
            // The client would take it for a WebSocket.
            response = refused("the server answers as if no websocket had been asked for");
        }
        return send_response(response, responder, handler).await;
    };
    if let Err(detail) = websocket::opened(&mut response.head, key) {
        drop(takeover);
        return send_response(refused(detail), responder, handler).await;
    }
    let head = head::to_client(*response.head);
    let tunnel = match responder.send_response(head, false) {
        Ok(send) => Tunnel::new(send, stream),
        Err(error) => {
            tracing::debug!(%error, "a response could not be sent");
            responder.send_reset(Code::INTERNAL_ERROR);
            return StreamEnd::Done;
        }
    };
    handler.carry(&tunnel, takeover).await;
    if tunnel.was_reset() { StreamEnd::ResetByClient } else { StreamEnd::Done }
}

/// The handler's response, with 1xx ones sent on as they come; `None` when the client gave up.
async fn await_response(
    handling: impl Future<Output = Response>,
    interim: &Interim,
    responder: &mut SendResponse<Bytes>,
) -> Option<Response> {
    let mut handling = pin!(handling);
    poll_fn(|cx| {
        if responder.poll_reset(cx).is_ready() {
            return Poll::Ready(None);
        }
        let response = handling.as_mut().poll(cx);
        while let Poll::Ready(head) = interim.poll_next(cx) {
            // Fails only on a stream that is gone, which the next poll notices.
            let _ = responder.send_informational(head::to_client(head));
        }
        response.map(Some)
    })
    .await
}

async fn send_response<H: Handler>(
    response: Response,
    mut responder: SendResponse<Bytes>,
    handler: &H,
) -> StreamEnd {
    let response = if response.head.status.is_informational() {
        let detail = "a final response cannot be informational in HTTP/2";
        let error = ProxyError::after_send(Reason::UpstreamProtocol, detail);
        handler.refuse(error, Asked::default())
    } else {
        response
    };
    let Response { head, body, upload, takeover: _ } = response;
    let head = head::to_client(*head);
    let ended = body.is_end();
    match responder.send_response(head, ended) {
        Ok(stream) if ended => send_body(Outgoing::ended(stream), upload).await,
        Ok(stream) => send_body(Outgoing::new(stream, body), upload).await,
        Err(error) => {
            tracing::debug!(%error, "a response could not be sent");
            responder.send_reset(Code::INTERNAL_ERROR);
            StreamEnd::Done
        }
    }
}

/// Sends the response's body, and meanwhile and after it what is left of the request.
async fn send_body(mut outgoing: Outgoing, mut upload: Option<Upload>) -> StreamEnd {
    let sent = poll_fn(|cx| {
        poll_upload(&mut upload, cx);
        outgoing.poll_send(cx)
    })
    .await;
    match sent {
        Ok(()) => {}
        Err(Stopped::Peer(Some(_))) => return StreamEnd::ResetByClient,
        Err(Stopped::Peer(None) | Stopped::Body(_)) => return StreamEnd::Done,
    }
    poll_fn(|cx| {
        if poll_upload(&mut upload, cx) || outgoing.poll_stopped(cx).is_ready() {
            return Poll::Ready(StreamEnd::Done);
        }
        Poll::Pending
    })
    .await
}

/// Drives the upload; says whether there is none (any more). An error in it is not the response's: whether the
/// endpoint can still answer is the endpoint's to say.
fn poll_upload(upload: &mut Option<Upload>, cx: &mut Context<'_>) -> bool {
    if let Some(pump) = upload
        && Pin::new(pump).poll(cx).is_ready()
    {
        *upload = None;
    }
    upload.is_none()
}
