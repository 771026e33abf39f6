//! Opaque forwarding: bytes between two ends, each direction for itself.
//!
//! Half-close is kept: the end of one direction is passed on while the other goes on. A slow reader holds
//! back its sender: nothing is read for a side whose buffer is above its high-water mark. A broken side
//! breaks the other with a reset, so that a truncated stream never looks complete.

mod forged;

use std::{
    future::poll_fn,
    io,
    pin::pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use forged::Scanner;

use crate::{
    clock::{self, Instant},
    io::Socket,
    reason::Reason,
    telemetry::ConnectionRecord,
};

/// How an opaque connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spliced {
    /// Bytes that the client sent.
    pub from_client: u64,
    /// Bytes that the server sent.
    pub from_server: u64,
    /// Set when it did not end cleanly.
    pub reason: Option<Reason>,
}

impl Spliced {
    /// Tells the connection's record.
    pub fn note(&self, record: &mut ConnectionRecord) {
        record.carried(self.from_client, self.from_server);
        if let Some(reason) = self.reason {
            record.failed(reason);
        }
    }
}

/// One end of what is spliced: a connection, or a stream of one that carries others too.
pub trait End {
    /// Reads more, appending to `buffer`; `Ok(0)` at a clean end. Cancel-safe.
    fn poll_fill(&self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>>;

    /// Ready when more may be written.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Takes bytes, whatever waits already; they leave as [`End::poll_writable`] is polled.
    ///
    /// # Errors
    /// It is broken, or was shut down.
    fn write_bytes(&self, bytes: Bytes) -> io::Result<()>;

    /// Sends what waits, then that nothing more comes.
    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends it so that nobody takes it for a clean end.
    fn abort(&self);
}

impl End for Socket {
    fn poll_fill(&self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        Self::poll_fill(self, cx, buffer)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_writable(self, cx)
    }

    fn write_bytes(&self, bytes: Bytes) -> io::Result<()> {
        Self::write_bytes(self, bytes)
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_shutdown(self, cx)
    }

    fn abort(&self) {
        Self::abort(self);
    }
}

/// What may end two spliced connections before they end by themselves.
#[derive(Debug)]
pub struct Bounds<F> {
    /// So long until the first byte in either direction; zero for no bound but `idle`.
    pub first: Duration,
    /// So long without a byte in either direction; zero for no bound.
    pub idle: Duration,
    /// Ready, with why, when the connection may not go on.
    pub forbidden: F,
    /// The client's bytes must not name the field by which an application knows its caller, and must not begin HTTP/2:
    /// nobody has declared that they are no HTTP.
    pub may_be_http: bool,
}

impl<F> Bounds<F> {
    /// Of opaque bytes, whatever they are.
    pub const fn new(idle: Duration, forbidden: F) -> Self {
        Self { first: Duration::ZERO, idle, forbidden, may_be_http: false }
    }
}

/// Forwards until both directions have ended, one broke, or nothing moved for `idle` (zero: no bound). Dropped
/// before, it breaks both sides with a reset.
pub async fn splice(client: &impl End, server: &impl End, idle: Duration) -> Spliced {
    splice_within(client, server, Bounds::new(idle, std::future::pending())).await
}

/// Like [`splice`], within more bounds, each of which ends it by a reset.
pub async fn splice_within(
    client: &impl End,
    server: &impl End,
    bounds: Bounds<impl Future<Output = Reason>>,
) -> Spliced {
    let Bounds { first, idle, forbidden, may_be_http } = bounds;
    let mut cut = Cut { client, server, clean: false };
    let mut forbidden = pin!(forbidden);
    let mut up = OneWay::new(client, server);
    up.scanner = may_be_http.then(Scanner::default);
    let mut down = OneWay::new(server, client);
    let mut moved_at = clock::now();
    let mut timer = pin!(clock::sleep_until(moved_at + if first.is_zero() { idle } else { first }));
    let outcome = poll_fn(|cx| {
        // Before anything moves: not a byte passes that may not.
        if let Poll::Ready(reason) = forbidden.as_mut().poll(cx) {
            return Poll::Ready(Err(reason));
        }
        let before = up.moved + down.moved;
        if let Poll::Ready(ended) = poll_both(&mut up, &mut down, cx) {
            return Poll::Ready(ended.map_err(|stopped| stopped.reason()));
        }
        let moved = up.moved + down.moved;
        let (patience, reason) = match first {
            first if moved == 0 && !first.is_zero() => (first, Reason::HeaderTimeout),
            _ if idle.is_zero() => return Poll::Pending,
            _ => (idle, Reason::IdleTimeout),
        };
        if moved > before {
            moved_at = clock::now();
        }
        poll_idle(timer.as_mut(), moved_at + patience, cx).map(|()| Err(reason))
    })
    .await;
    cut.clean = outcome.is_ok();
    drop(cut);
    Spliced { from_client: up.moved, from_server: down.moved, reason: outcome.err() }
}

/// Breaks both sides when dropped, unless they ended cleanly.
struct Cut<'a, C: End, S: End> {
    client: &'a C,
    server: &'a S,
    clean: bool,
}

impl<C: End, S: End> Drop for Cut<'_, C, S> {
    fn drop(&mut self) {
        if !self.clean {
            self.client.abort();
            self.server.abort();
        }
    }
}

fn poll_both<C: End, S: End>(
    up: &mut OneWay<'_, C, S>,
    down: &mut OneWay<'_, S, C>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Stopped>> {
    let up = up.poll(cx)?;
    let down = down.poll(cx)?;
    if up.is_ready() && down.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
}

/// Ready when the deadline has passed. The timer is moved only when it fires, not with every byte.
fn poll_idle(
    mut timer: std::pin::Pin<&mut clock::Sleep>,
    deadline: Instant,
    cx: &mut Context<'_>,
) -> Poll<()> {
    while timer.as_mut().poll(cx).is_ready() {
        if clock::now() >= deadline {
            return Poll::Ready(());
        }
        timer.as_mut().reset(deadline);
    }
    Poll::Pending
}

/// One direction: copying, then passing on the end.
struct OneWay<'a, F, T> {
    from: &'a F,
    to: &'a T,
    buffer: BytesMut,
    moved: u64,
    state: State,
    scanner: Option<Scanner>,
}

/// Why a direction cannot go on.
enum Stopped {
    Broken,
    Forged,
}

impl From<io::Error> for Stopped {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

impl Stopped {
    const fn reason(self) -> Reason {
        match self {
            Self::Broken => Reason::ConnectionLost,
            Self::Forged => Reason::ProtocolMismatch,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Copying,
    Ending,
    Ended,
}

impl<'a, F: End, T: End> OneWay<'a, F, T> {
    fn new(from: &'a F, to: &'a T) -> Self {
        Self { from, to, buffer: BytesMut::new(), moved: 0, state: State::Copying, scanner: None }
    }

    /// Moves what can be moved now.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        while self.state == State::Copying {
            ready!(self.to.poll_writable(cx))?;
            let read = ready!(self.from.poll_fill(cx, &mut self.buffer))?;
            if read == 0 {
                self.state = State::Ending;
            } else {
                self.moved += read as u64;
                if self.scanner.as_mut().is_some_and(|scanner| scanner.finds(&self.buffer)) {
                    return Poll::Ready(Err(Stopped::Forged));
                }
                self.to.write_bytes(self.buffer.split().freeze())?;
            }
        }
        if self.state == State::Ending {
            ready!(self.to.poll_shutdown(cx))?;
            self.state = State::Ended;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::net::{self, TcpListener};

    async fn pair() -> (Socket, net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (near, far) = tokio::join!(net::connect(address), listener.accept());
        (Socket::new(near.expect("connected")), far.expect("accepted").0)
    }

    #[tokio::test]
    async fn nothing_passes_once_it_is_forbidden() {
        tokio::task::LocalSet::new()
            .run_until(async {
                let ((client, _client), (server, mut application)) = (pair().await, pair().await);
                client.unread(Bytes::from_static(b"secret"));
                let forbidden = std::future::ready(Reason::AuthzDenied);
                let bounds = Bounds::new(Duration::ZERO, forbidden);
                let ended = splice_within(&client, &server, bounds).await;
                assert_eq!((ended.reason, ended.from_client), (Some(Reason::AuthzDenied), 0));
                let mut received = Vec::new();
                let _ = application.read_to_end(&mut received).await;
                assert_eq!(received, b"");
            })
            .await;
    }
}
