//! A client that has ended its side of the connection behind its last request: is it still there?
//!
//! Comes in: the connection, once its end was read, and whether the response has begun. Goes out: that the client has
//! left. TCP says the same of a client that wants its answer and of one that has closed all, until it is written to:
//! what is written then to one that has left comes back as a reset. So before the response begins a client of HTTP/1.1 is
//! sent `100 Continue` now and then, which means nothing to who did not ask for it (RFC 9110 section 15.2) and which the
//! simplest clients skip; behind its beginning the response itself is what is written. It must never disturb a client that
//! is answered soon, nor hold for ever what a client that cannot be asked (HTTP/1.0) has taken.

use std::{
    io,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{StatusCode, Version};

use crate::{
    clock::{self, Instant},
    http::{
        ResponseHead,
        h1::{encode, timer::Timer, transfer::with_scratch},
    },
    io::Socket,
};

/// What was written has come back as a reset by then, if it does.
const LOOK: Duration = Duration::from_secs(1);

/// So often a client is asked, after twice the time each time. Some clients take no more than five 1xx responses.
const QUESTIONS: u32 = 5;

/// A client that has half-closed its connection has this long for its response to begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client's half-closed connection, for one request.
#[derive(Debug, Default)]
pub(super) struct HalfClosed {
    since: Option<Instant>,
    timer: Timer,
    asked: u32,
}

impl HalfClosed {
    /// Ready when the client has left, or has waited too long for a response to begin that it can hear of in `version`
    /// only. To be polled once its end was read.
    pub(super) fn poll_awaiting(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Socket,
        version: Version,
    ) -> Poll<()> {
        loop {
            let waited = ready!(self.poll_look(cx, socket));
            let Some(waited) = waited.filter(|waited| *waited < PATIENCE) else {
                return Poll::Ready(());
            };
            let is_due = self.asked < QUESTIONS && waited >= LOOK * (1 << self.asked);
            if is_due && version == Version::HTTP_11 {
                self.asked += 1;
                if ask(socket).is_err() {
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Ready when the client has left, whose response has begun. To be polled once its end was read.
    pub(super) fn poll_receiving(&mut self, cx: &mut Context<'_>, socket: &Socket) -> Poll<()> {
        while ready!(self.poll_look(cx, socket)).is_some() {}
        Poll::Ready(())
    }

    /// Looks after a while: for how long the client has been silent; `None` when the connection is broken.
    fn poll_look(&mut self, cx: &mut Context<'_>, socket: &Socket) -> Poll<Option<Duration>> {
        let now = clock::now();
        let since = *self.since.get_or_insert(now);
        if !self.timer.is_set() {
            self.timer.set(now + LOOK);
        }
        ready!(self.timer.poll(cx));
        let now = clock::now();
        self.timer.set(now + LOOK);
        Poll::Ready((!socket.is_broken()).then(|| now.saturating_duration_since(since)))
    }
}

fn ask(socket: &Socket) -> io::Result<()> {
    let head = ResponseHead::new(StatusCode::CONTINUE);
    with_scratch(|out| {
        encode::interim_head(out, &head);
        socket.write(out)
    })
}
