//! A client's HTTP/2 connection: accepts streams and polls them, until either side leaves.
//!
//! In come a socket at the client's preface and what answers requests; out goes why the connection ended. The
//! streams' futures live here and are polled by this task: it spawns nothing, and dropping it drops every
//! handler. It leaves with GOAWAY and serves what is open to its end, except where the client resets streams
//! faster than anybody honest would.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use futures_util::{StreamExt, stream::FuturesUnordered};

use super::{
    ServerSettings,
    code::ErrorCode,
    connection::{Accepted, Allowed, Connection, Ended, Role},
    connection_window,
    keep_alive::KeepAlive,
    resets::ResetMeter,
    stream,
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

/// What happens on a connection.
enum Event {
    Request(Accepted),
    StreamEnded,
    Ended(Ended),
    TooManyResets,
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
    let mut buffer = BytesMut::new();
    let connection = match handshake(socket, &mut buffer, settings).await {
        Ok(connection) => connection,
        Err(reason) => return Served::Closed(Some(reason)),
    };
    let connection = &EndNote(connection).0;
    let mut streams = FuturesUnordered::new();
    let mut resets = ResetMeter::new(settings.max_resets_per_second);
    let mut drained = drain.started();
    let mut keep_alive = KeepAlive::new(Rc::clone(connection), settings.keep_alive);
    // Runs while there are no streams.
    let mut timer = pin!(clock::sleep(settings.idle_timeout));
    let mut leaving: Option<Leaving> = None;
    loop {
        let event = poll_fn(|cx| {
            if leaving.is_none() && Pin::new(&mut drained).poll(cx).is_ready() {
                return Poll::Ready(Event::Drain);
            }
            if let Poll::Ready(event) =
                poll_event(connection, &mut buffer, &mut resets, &mut streams, cx)
            {
                return Poll::Ready(event);
            }
            let active = !streams.is_empty();
            if keep_alive.poll_dead(active, cx).is_ready() {
                return Poll::Ready(Event::Dead);
            }
            poll_timer(!active, timer.as_mut(), cx)
        })
        .await;
        match event {
            // In a box: it is large, and the set would move it twice.
            Event::Request(accepted) => {
                streams.push(Box::pin(stream::serve(accepted, handler, settings)));
            }
            Event::StreamEnded => {
                if streams.is_empty() {
                    let wait = if leaving.is_some() { GOODBYE } else { settings.idle_timeout };
                    timer.as_mut().reset(clock::now() + wait);
                }
            }
            Event::TooManyResets => {
                connection.close(ErrorCode::ENHANCE_YOUR_CALM);
                leaving = Some(Leaving::TooManyResets);
                streams.clear();
                while connection.accept().is_some() {}
                timer.as_mut().reset(clock::now() + GOODBYE);
            }
            Event::Drain => {
                connection.say_goodbye();
                leaving = Some(Leaving::Drained);
                timer.as_mut().reset(clock::now() + GOODBYE);
            }
            Event::TimeUp => match leaving {
                Some(cause) => return Served::Closed(cause.reason()),
                None => {
                    connection.say_goodbye();
                    leaving = Some(Leaving::Idle);
                    timer.as_mut().reset(clock::now() + GOODBYE);
                }
            },
            Event::Dead => return Served::Closed(Some(Reason::ConnectionLost)),
            Event::Ended(ended) => {
                let reason = leaving.map_or_else(|| broken(&ended), Leaving::reason);
                // Nobody polls them any more: what they wait for is others'.
                streams.clear();
                // What was said last still leaves; a client that takes nothing is not waited for.
                let _ = clock::timeout(GOODBYE, poll_fn(|cx| connection.poll_shutdown(cx))).await;
                return Served::Closed(reason);
            }
        }
    }
}

/// Ends the connection for all on it, however serving it ends.
struct EndNote(Rc<Connection>);

impl Drop for EndNote {
    fn drop(&mut self) {
        self.0.end(Ended::Left);
    }
}

/// Whether one of so many more resets was too many.
fn is_too_much(resets: u32, meter: &mut ResetMeter) -> bool {
    (0..resets).fold(false, |too_many, _| too_many | !meter.allow(clock::now()))
}

/// What a broken connection is called: the client's offence has a name, its going away has none.
fn broken(ended: &Ended) -> Option<Reason> {
    match ended {
        Ended::Fault(ErrorCode::ENHANCE_YOUR_CALM, _) => Some(Reason::StreamLimit),
        Ended::Fault(..) => Some(Reason::BadRequest),
        Ended::Io(_) | Ended::Left => None,
    }
}

async fn handshake(
    socket: Socket,
    buffer: &mut BytesMut,
    settings: &ServerSettings,
) -> Result<Rc<Connection>, Reason> {
    let allowed = Allowed {
        max_streams: settings.max_streams,
        stream_window: settings.stream_window,
        connection_window: connection_window(settings.max_streams, settings.stream_window),
        max_header_bytes: settings.max_header_bytes,
    };
    let connection = Connection::begin(socket, Role::Server, allowed);
    match clock::timeout(settings.preface_timeout, connection.read_preface(buffer)).await {
        Ok(Ok(())) => Ok(connection),
        Ok(Err(ended)) => {
            let reason = broken(&ended).unwrap_or(Reason::ConnectionLost);
            connection.end(ended);
            Err(reason)
        }
        Err(_) => Err(Reason::HeaderTimeout),
    }
}

/// Takes in what has come, then polls the streams that were woken.
fn poll_event(
    connection: &Rc<Connection>,
    buffer: &mut BytesMut,
    resets: &mut ResetMeter,
    streams: &mut FuturesUnordered<impl Future<Output = ()>>,
    cx: &mut Context<'_>,
) -> Poll<Event> {
    let read = connection.poll_read(cx, buffer);
    if is_too_much(connection.take_resets(), resets) {
        return Poll::Ready(Event::TooManyResets);
    }
    if let Some(accepted) = connection.accept() {
        return Poll::Ready(Event::Request(accepted));
    }
    if let Poll::Ready(ended) = read {
        return Poll::Ready(Event::Ended(ended));
    }
    match streams.poll_next_unpin(cx) {
        Poll::Ready(Some(())) => Poll::Ready(Event::StreamEnded),
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
