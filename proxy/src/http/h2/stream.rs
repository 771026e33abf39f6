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

use http::HeaderValue;

use super::{
    IncomingBody, ServerSettings,
    code::ErrorCode,
    connection::{Accepted, Stream},
    head,
    outgoing::Outgoing,
    tunnel::Tunnel,
    websocket,
};
use crate::{
    error::ProxyError,
    http::{Body, Handler, Interim, Request, RequestHead, Response, body::Upload, respond::Asked},
    reason::Reason,
};

/// Serves one stream.
pub(super) async fn serve<H: Handler>(accepted: Accepted, handler: &H, settings: &ServerSettings) {
    let Accepted { stream, request, length } = accepted;
    let (head, checked) = head::from_client(request, settings);
    if checked.is_ok()
        && let Some(key) = websocket::key(&head)
    {
        // Boxed: it is rare, and lasts.
        return Box::pin(open_websocket(head, &key, stream, handler)).await;
    }
    let response = match checked {
        Err(error) => handler.refuse(error, Asked::from(&head)),
        Ok(()) => {
            let body = Body::Http2(IncomingBody::new(stream.clone(), length, None));
            let interim = Interim::default();
            let request = Request { head, body, interim: interim.clone() };
            let handling = pin!(handler.handle(request));
            match await_response(handling, &interim, &stream).await {
                Some(response) => response,
                None => return,
            }
        }
    };
    send_response(response, stream, handler).await;
}

/// Serves the stream of a client that asks for a WebSocket, and carries that when it is opened.
async fn open_websocket<H: Handler>(
    head: RequestHead,
    key: &HeaderValue,
    stream: Stream,
    handler: &H,
) {
    let interim = Interim::default();
    let request = Request { head, body: Body::Empty, interim: interim.clone() };
    let handling = pin!(handler.handle(request));
    let Some(mut response) = await_response(handling, &interim, &stream).await else { return };
    let refused = |detail| {
        let error = ProxyError::after_send(Reason::UpstreamProtocol, detail);
        handler.refuse(error, Asked::default())
    };
    let Some(takeover) = response.takeover.take() else {
        if response.head.status.is_success() {
            // The client would take it for a WebSocket.
            response = refused("the server answers as if no websocket had been asked for");
        }
        return send_response(response, stream, handler).await;
    };
    if let Err(detail) = websocket::opened(&mut response.head, key) {
        drop(takeover);
        return send_response(refused(detail), stream, handler).await;
    }
    if let Err(error) = stream.send_response(&response.head, false) {
        tracing::debug!(%error, "a response could not be sent");
        return stream.reset(ErrorCode::INTERNAL_ERROR);
    }
    handler.carry(&Tunnel::new(stream), takeover).await;
}

/// The handler's response, with 1xx ones sent on as they come; `None` when the client gave up. The handler's work is large,
/// and stays where it is.
async fn await_response(
    mut handling: Pin<&mut impl Future<Output = Response>>,
    interim: &Interim,
    stream: &Stream,
) -> Option<Response> {
    poll_fn(|cx| {
        if stream.poll_failed(cx).is_ready() {
            return Poll::Ready(None);
        }
        let response = handling.as_mut().poll(cx);
        while let Poll::Ready(head) = interim.poll_next(cx) {
            // Fails only on a stream that is gone, which the next poll notices.
            let _ = stream.send_response(&head, false);
        }
        response.map(Some)
    })
    .await
}

async fn send_response<H: Handler>(response: Response, stream: Stream, handler: &H) {
    let response = if response.head.status.is_informational() {
        let detail = "a final response cannot be informational in HTTP/2";
        let error = ProxyError::after_send(Reason::UpstreamProtocol, detail);
        handler.refuse(error, Asked::default())
    } else {
        response
    };
    let Response { head, body, upload, takeover: _ } = response;
    let ended = body.is_end();
    poll_fn(|cx| stream.poll_turn(cx)).await;
    if let Err(error) = stream.send_response(&head, ended) {
        tracing::debug!(%error, "a response could not be sent");
        stream.reset(ErrorCode::INTERNAL_ERROR);
        return;
    }
    let outgoing = match ended {
        true => Outgoing::ended(stream),
        false => Outgoing::new(stream, body),
    };
    send_body(outgoing, upload).await;
}

/// Sends the response's body, and meanwhile and after it what is left of the request.
async fn send_body(mut outgoing: Outgoing, mut upload: Option<Upload>) {
    let sent = poll_fn(|cx| {
        poll_upload(&mut upload, cx);
        outgoing.poll_send(cx)
    });
    if sent.await.is_err() {
        return;
    }
    poll_fn(|cx| {
        if poll_upload(&mut upload, cx) || outgoing.poll_stopped(cx).is_ready() {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
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
