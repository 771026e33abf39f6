//! What the handles of one socket share: its state, who waits for it, and how it ends.
//!
//! In come calls of tasks, of the turn and of the driver; each works on the [`State`] alone, and only then are
//! those woken who waited for what it did. No waker runs, and no other socket is touched, while the state is
//! borrowed.

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use rustls::AlertDescription;
use tokio::io::ReadBuf;

use super::{
    HIGH_WATER, TlsError, TlsInfo, buffer::WriteBuffer, driver, failure::Failure, tls::Tls, turn,
};
use crate::net::{self, TcpStream};

/// One connection, shared by its handles, by the turn while it is dirty, and by its driver while it has one.
#[derive(Debug)]
pub(super) struct Connection {
    state: RefCell<State>,
    handles: Cell<u32>,
    dirty: Cell<bool>,
    driven: Cell<bool>,
}

/// How far the sending side has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sending {
    /// Writes are taken.
    Open,
    /// No more writes: what is buffered is sent, then TLS's close_notify.
    Ending,
    /// All is encrypted, close_notify too.
    Notified,
    /// TCP's FIN is sent.
    Finished,
}

/// A connection's state. `receive.rs` and `send.rs` have the two directions.
#[derive(Debug)]
pub(super) struct State {
    /// `None` after an abort.
    pub(super) stream: Option<TcpStream>,
    pub(super) tls: Option<Box<Tls>>,
    /// Plaintext that has not left.
    pub(super) outgoing: WriteBuffer,
    /// Plaintext that was received, or put back, and is read next.
    pub(super) unread: BytesMut,
    pub(super) failure: Option<Box<Failure>>,
    pub(super) sending: Sending,
    /// The peer's side has ended, cleanly or not.
    pub(super) read_ended: bool,
    /// The last read was a large one, so the next goes into the caller's buffer directly.
    pub(super) large_reads: bool,
    /// Something was under way when the last handle went: the peer gets time to read it.
    pub(super) linger: bool,
    /// Bytes taken from writers.
    pub(super) written: u64,
    /// How many of them the kernel has taken.
    pub(super) sent: u64,
    /// Bytes that the kernel has taken, as they are on the wire.
    pub(super) sent_on_wire: u64,
    pub(super) reader: Option<Waker>,
    /// Boxed: nearly always there is nobody.
    senders: Option<Box<Senders>>,
}

/// Who waits for what was written to leave.
#[derive(Debug, Default)]
struct Senders {
    /// Wait for room.
    writers: Vec<Waker>,
    /// Wait until all is sent.
    closers: Vec<Waker>,
    /// Goes on when the kernel takes more.
    driver: Option<Waker>,
}

/// Who is to be woken when the state is no longer borrowed.
struct Due {
    reader: Option<Waker>,
    writers: Vec<Waker>,
    closers: Vec<Waker>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Rc<Self> {
        // Writes are gathered here already; the kernel must not wait for more. Without it all works, slower.
        let _ = stream.set_nodelay(true);
        Rc::new(Self {
            state: RefCell::new(State::new(stream)),
            handles: Cell::new(1),
            dirty: Cell::new(false),
            driven: Cell::new(false),
        })
    }

    /// Works on the state, then wakes whom it concerns.
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let (result, due) = {
            let mut state = self.state.borrow_mut();
            let result = work(&mut state);
            (result, state.take_due())
        };
        if let Some(due) = due {
            due.wake();
        }
        result
    }

    /// Like [`Connection::with`], for work that receives: TLS may have something to answer.
    fn with_answers<T>(self: &Rc<Self>, work: impl FnOnce(&mut State) -> T) -> T {
        let (result, answers) = self.with(|state| {
            let result = work(state);
            (result, state.tls.as_ref().is_some_and(|tls| tls.has_ciphertext()))
        });
        if answers {
            turn::mark(self);
        }
        result
    }

    // Reading.

    pub(super) fn poll_fill(
        self: &Rc<Self>,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        self.with_answers(|state| state.poll_fill(cx, buffer))
    }

    pub(super) fn poll_read(
        self: &Rc<Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with_answers(|state| state.poll_read(cx, buffer))
    }

    pub(super) fn poll_peer_gone(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.with_answers(|state| state.poll_peer_gone(cx))
    }

    pub(super) fn poll_disturbed(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.with_answers(|state| state.poll_disturbed(cx))
    }

    pub(super) fn is_broken(&self) -> bool {
        self.with(|state| {
            let failed = state.stream.as_ref().and_then(net::failed);
            if let Some(error) = failed {
                state.fail(Failure::from(&error));
            }
            state.failure.is_some()
        })
    }

    pub(super) fn unread(&self, bytes: Bytes) {
        self.with(|state| state.put_back(bytes));
    }

    // Writing.

    /// Lets `append` write to the buffer, and sees to it that it leaves.
    pub(super) fn write(self: &Rc<Self>, append: impl FnOnce(&mut WriteBuffer)) -> io::Result<()> {
        turn::tick();
        let full = self.with(|state| state.append(append))?;
        if full {
            self.flush();
        } else {
            turn::mark(self);
        }
        Ok(())
    }

    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|state| {
            state.check()?;
            if state.unsent() < HIGH_WATER {
                return Poll::Ready(Ok(()));
            }
            remember(&mut state.senders().writers, cx.waker());
            Poll::Pending
        })
    }

    pub(super) fn poll_shutdown(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.with(|state| state.begin_end())? {
            self.flush();
        }
        self.with(|state| {
            state.check()?;
            if !state.is_drained() {
                remember(&mut state.senders().closers, cx.waker());
                return Poll::Pending;
            }
            state.poll_finish(cx)
        })
    }

    /// Writes out what is buffered, as far as the kernel takes it; a driver goes on with the rest.
    pub(super) fn flush(self: &Rc<Self>) {
        if self.driven.get() {
            return; // Blocked: writing is the driver's.
        }
        let mut cx = Context::from_waker(Waker::noop());
        let sent = self.with(|state| state.poll_send(&mut cx));
        if sent.is_pending() || (self.is_orphan() && self.state.borrow().linger) {
            driver::spawn(self);
        }
    }

    /// The driver's part: goes on writing, and is woken when the kernel can take more.
    pub(super) fn drive(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.with(|state| {
            match &mut state.senders().driver {
                Some(driver) => driver.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            let sent = state.poll_send(cx);
            if sent.is_ready() {
                drop(state.take_driver());
            }
            sent
        })
    }

    /// The driver's part once no handle is left: ready when all is sent and the peer has had time to read it.
    pub(super) fn linger(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.drive(cx).is_pending() {
            // A peer that sends before it reads must be heard out, or both would wait.
            self.with(|state| state.discard_meanwhile(cx));
            return Poll::Pending;
        }
        self.with(|state| state.poll_linger(cx))
    }

    // TLS.

    pub(super) fn begin_tls(&self, tls: Tls) {
        self.with(|state| state.begin_tls(tls));
    }

    pub(super) fn poll_handshake(
        self: &Rc<Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TlsError>> {
        self.with_answers(|state| state.poll_handshake(cx))
    }

    pub(super) fn tls_info(&self) -> Option<TlsInfo> {
        self.state.borrow().tls.as_ref().map(|tls| tls.info())
    }

    pub(super) fn refusal(&self) -> Option<AlertDescription> {
        self.state.borrow().tls.as_ref().and_then(|tls| tls.refusal())
    }

    // Life and facts.

    pub(super) fn add_handle(&self) {
        self.handles.set(self.handles.get() + 1);
    }

    pub(super) fn remove_handle(self: &Rc<Self>) {
        self.handles.set(self.handles.get() - 1);
        if !self.is_orphan() {
            return;
        }
        let (work_left, driver) = self.with(|state| (state.begin_close(), state.take_driver()));
        match driver {
            Some(driver) if self.driven.get() => driver.wake(),
            _ if work_left => turn::mark(self),
            _ => {}
        }
    }

    pub(super) fn is_orphan(&self) -> bool {
        self.handles.get() == 0
    }

    /// Sets the mark; false when it was set.
    pub(super) fn set_dirty(&self) -> bool {
        !self.dirty.replace(true)
    }

    pub(super) fn clear_dirty(&self) {
        self.dirty.set(false);
    }

    pub(super) fn set_driven(&self, driven: bool) {
        self.driven.set(driven);
    }

    pub(super) fn abort(&self) {
        self.with(State::abort);
    }

    pub(super) fn check(&self) -> io::Result<()> {
        self.state.borrow().check()
    }

    pub(super) fn written(&self) -> u64 {
        self.state.borrow().written
    }

    pub(super) fn written_to_kernel(&self) -> u64 {
        self.state.borrow().sent
    }

    pub(super) fn sent_on_wire(&self) -> u64 {
        self.state.borrow().sent_on_wire
    }

    pub(super) fn acknowledged_on_wire(&self) -> Option<u64> {
        let state = self.state.borrow();
        let unacknowledged = state.stream.as_ref().and_then(net::unacknowledged)?;
        Some(state.sent_on_wire.saturating_sub(unacknowledged))
    }

    pub(super) fn address(
        &self,
        ask: impl FnOnce(&TcpStream) -> io::Result<SocketAddr>,
    ) -> Option<SocketAddr> {
        self.state.borrow().stream.as_ref().and_then(|stream| ask(stream).ok())
    }
}

#[cfg(test)]
impl Connection {
    pub(super) fn refresh_keys(&self) {
        self.state.borrow_mut().tls.as_mut().expect("TLS").refresh_keys();
    }

    /// Bytes of heap that buffers hold.
    pub(super) fn buffered_capacity(&self) -> usize {
        let state = self.state.borrow();
        let tls = state.tls.as_ref().map_or(0, |tls| tls.buffered_capacity());
        state.outgoing.capacity() + state.unread.capacity() + tls
    }
}

#[cfg(test)]
impl super::Socket {
    /// Bytes of heap that a plain connection takes, apart from the runtime's part.
    pub(super) const fn connection_size() -> usize {
        size_of::<Connection>()
    }
}

impl State {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream: Some(stream),
            tls: None,
            outgoing: WriteBuffer::default(),
            unread: BytesMut::new(),
            failure: None,
            sending: Sending::Open,
            read_ended: false,
            large_reads: false,
            linger: false,
            written: 0,
            sent: 0,
            sent_on_wire: 0,
            reader: None,
            senders: None,
        }
    }

    /// An error when the connection is broken.
    pub(super) fn check(&self) -> io::Result<()> {
        self.failure.as_ref().map_or(Ok(()), |failure| Err(failure.to_error()))
    }

    /// Breaks the connection. The first failure stays; what TLS has to say about it is still sent.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.outgoing.clear();
        if let Some(tls) = self.tls.as_mut().filter(|_| !matches!(failure, Failure::Tls(_))) {
            tls.discard_ciphertext();
        }
        self.failure.get_or_insert_with(|| Box::new(failure));
    }

    fn abort(&mut self) {
        if let Some(stream) = &self.stream {
            net::reset_at_end(stream);
        }
        self.fail(Failure::Aborted);
        self.stream = None;
        self.read_ended = true;
        self.unread = BytesMut::new();
    }

    /// No handle is left. Says whether there is something to send or to wait for.
    fn begin_close(&mut self) -> bool {
        let refused = matches!(self.failure.as_deref(), Some(Failure::Tls(_)));
        if self.stream.is_none() || (self.failure.is_some() && !refused) {
            return false;
        }
        // What the kernel has taken is not what the peer has: a reset would cut that off too.
        let in_flight =
            || self.stream.as_ref().and_then(net::unacknowledged).is_some_and(|bytes| bytes > 0);
        let under_way =
            !self.is_drained() || self.sending == Sending::Finished || refused || in_flight();
        self.linger = !self.read_ended && (under_way || self.has_unread());
        self.sending = self.sending.max(Sending::Ending);
        !self.is_drained() || self.linger
    }

    fn senders(&mut self) -> &mut Senders {
        self.senders.get_or_insert_default()
    }

    fn take_driver(&mut self) -> Option<Waker> {
        self.senders.as_mut().and_then(|senders| senders.driver.take())
    }

    /// Who waited for what the state has come to; nearly always nobody.
    fn take_due(&mut self) -> Option<Due> {
        let failed = self.failure.is_some();
        if !failed && self.senders.is_none() {
            return None;
        }
        let (has_room, is_drained) = (self.unsent() < HIGH_WATER, self.is_drained());
        let reader = if failed { self.reader.take() } else { None };
        let mut due = Due { reader, writers: Vec::new(), closers: Vec::new() };
        if let Some(senders) = &mut self.senders {
            if failed || has_room {
                due.writers = std::mem::take(&mut senders.writers);
            }
            if failed || is_drained {
                due.closers = std::mem::take(&mut senders.closers);
            }
            if senders.are_gone() {
                self.senders = None;
            }
        }
        Some(due)
    }
}

impl Senders {
    const fn are_gone(&self) -> bool {
        self.writers.is_empty() && self.closers.is_empty() && self.driver.is_none()
    }
}

impl Due {
    fn wake(self) {
        self.reader.into_iter().chain(self.writers).chain(self.closers).for_each(Waker::wake);
    }
}

/// Keeps a task's waker once.
fn remember(wakers: &mut Vec<Waker>, waker: &Waker) {
    if !wakers.iter().any(|known| known.will_wake(waker)) {
        wakers.push(waker.clone());
    }
}
