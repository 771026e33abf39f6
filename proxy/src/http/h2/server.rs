//! A client's HTTP/2 connection: accepts streams and polls them, until either side leaves.
//!
//! In come a socket at the client's preface and what answers requests; out goes why the connection ended. The
//! streams' futures live here and are polled by this task: it spawns nothing, and dropping it drops every
//! handler. It leaves with GOAWAY and serves what is open to its end, except where the client resets streams
//! faster than anybody honest would.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use h2::{Reason as Code, RecvStream, server::SendResponse};

use super::{
    REMEMBERED_RESETS, SEND_BUFFER, ServerSettings, connection_window,
    keep_alive::KeepAlive,
    resets::ResetMeter,
    stream::{self, StreamEnd},
};
use crate::{
    clock,
    drain::Drain,
    http::{Handler, Served},
    io::Socket,
    reason::Reason,
};

/// How long a connection without streams waits for the client to have understood GOAWAY.
const GOODBYE: Duration = Duration::from_secs(2);

/// Streams of which a client can provoke a reset by breaking the protocol, in a connection's life.
const MAX_OFFENCES: usize = 10_000;

/// Why the connection is being left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    Idle,
    Drained,
    TooManyResets,
}

impl Leaving {
    /// The documented code, where the client or its silence is the cause.
    const fn reason(self) -> Option<Reason> {
        match self {
            Self::Drained => None,
            Self::Idle => Some(Reason::IdleTimeout),
            Self::TooManyResets => Some(Reason::StreamLimit),
        }
    }
}

type Connection = h2::server::Connection<Socket, Bytes>;

/// What happens on a connection.
#[expect(clippy::large_enum_variant, reason = "a request is the usual event, and is moved once")]
enum Event {
    Request(http::Request<RecvStream>, SendResponse<Bytes>),
    StreamEnded(StreamEnd),
    Closed,
    Failed(h2::Error),
    Drain,
    TimeUp,
    /// The client did not answer a PING.
    Dead,
}

/// Serves a client's connection until it ends.
pub async fn serve<H: Handler>(
    socket: Socket,
    handler: &H,
    settings: &ServerSettings,
    drain: &Drain,
) -> Served {
    let mut connection = match handshake(socket, settings).await {
        Ok(connection) => connection,
        Err(reason) => return Served::Closed(Some(reason)),
    };
    let mut streams = FuturesUnordered::new();
    let mut resets = ResetMeter::new(settings.max_resets_per_second);
    // A set of one polls its future only when that was woken: every frame wakes this task, the drain once.
    let mut drained = FuturesUnordered::from_iter([drain.started()]);
    let mut keep_alive = KeepAlive::new(connection.ping_pong(), settings.keep_alive);
    // Runs while there are no streams.
    let mut timer = pin!(clock::sleep(settings.idle_timeout));
    let mut leaving: Option<Leaving> = None;
    loop {
        let event = poll_fn(|cx| {
            if leaving.is_none() && drained.poll_next_unpin(cx).is_ready() {
                return Poll::Ready(Event::Drain);
            }
            if let Poll::Ready(event) = poll_event(&mut connection, &mut streams, cx) {
                return Poll::Ready(event);
            }
            let active = !streams.is_empty();
            if let Some(keep_alive) = &mut keep_alive
                // Every stream is the client's word.
                && keep_alive.poll_dead(active, true, cx).is_ready()
            {
                return Poll::Ready(Event::Dead);
            }
            poll_timer(!active, timer.as_mut(), cx)
        })
        .await;
        match event {
            Event::Request(request, responder) => {
                streams.push(stream::serve(request, responder, handler, settings));
            }
            Event::StreamEnded(end) => {
                let too_many = end == StreamEnd::ResetByClient && !resets.allow(clock::now());
                if too_many && leaving != Some(Leaving::TooManyResets) {
                    connection.abrupt_shutdown(Code::ENHANCE_YOUR_CALM);
                    leaving = Some(Leaving::TooManyResets);
                    streams.clear();
                }
                if streams.is_empty() {
                    let wait = if leaving.is_some() { GOODBYE } else { settings.idle_timeout };
                    timer.as_mut().reset(clock::now() + wait);
                }
            }
            Event::Drain => {
                connection.graceful_shutdown();
                leaving = Some(Leaving::Drained);
                timer.as_mut().reset(clock::now() + GOODBYE);
            }
            Event::TimeUp => match leaving {
                Some(cause) => return Served::Closed(cause.reason()),
                None => {
                    connection.graceful_shutdown();
                    leaving = Some(Leaving::Idle);
                    timer.as_mut().reset(clock::now() + GOODBYE);
                }
            },
            Event::Dead => return Served::Closed(Some(Reason::ConnectionLost)),
            Event::Closed => return Served::Closed(leaving.and_then(Leaving::reason)),
            Event::Failed(error) => {
                tracing::debug!(%error, "a client's HTTP/2 connection broke");
                return Served::Closed(leaving.map_or_else(|| broken(&error), Leaving::reason));
            }
        }
    }
}

/// What a broken connection is called: the client's offence has a name, its going away has none.
fn broken(error: &h2::Error) -> Option<Reason> {
    match error.reason() {
        Some(Code::ENHANCE_YOUR_CALM) if error.is_library() => Some(Reason::StreamLimit),
        Some(_) if error.is_library() => Some(Reason::BadRequest),
        _ => None,
    }
}

async fn handshake(socket: Socket, settings: &ServerSettings) -> Result<Connection, Reason> {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(settings.stream_window)
        .initial_connection_window_size(connection_window(
            settings.max_streams,
            settings.stream_window,
        ))
        .max_concurrent_streams(settings.max_streams)
        .enable_connect_protocol()
        // Above its own bound the h2 crate answers 431 by itself, without a reason: the check is ours.
        .max_header_list_size(settings.max_header_bytes.saturating_mul(2))
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .max_pending_accept_reset_streams(settings.max_resets_per_second as usize)
        .max_local_error_reset_streams(Some(MAX_OFFENCES));
    match clock::timeout(settings.preface_timeout, builder.handshake(socket)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(broken(&error).unwrap_or(Reason::ConnectionLost)),
        Err(_) => Err(Reason::HeaderTimeout),
    }
}

/// Drives the connection, then the streams that were woken; what they send leaves when the connection is
/// driven next, for which they have woken this task.
fn poll_event(
    connection: &mut Connection,
    streams: &mut FuturesUnordered<impl Future<Output = StreamEnd>>,
    cx: &mut Context<'_>,
) -> Poll<Event> {
    match connection.poll_accept(cx) {
        Poll::Ready(Some(Ok((request, responder)))) => {
            return Poll::Ready(Event::Request(request, responder));
        }
        Poll::Ready(Some(Err(error))) => return Poll::Ready(Event::Failed(error)),
        Poll::Ready(None) => return Poll::Ready(Event::Closed),
        Poll::Pending => {}
    }
    match streams.poll_next_unpin(cx) {
        Poll::Ready(Some(end)) => Poll::Ready(Event::StreamEnded(end)),
        Poll::Ready(None) | Poll::Pending => Poll::Pending,
    }
}

fn poll_timer(running: bool, timer: Pin<&mut clock::Sleep>, cx: &mut Context<'_>) -> Poll<Event> {
    if !running {
        return Poll::Pending;
    }
    ready!(timer.poll(cx));
    Poll::Ready(Event::TimeUp)
}
