//! A stream, as those who send and read on it have it.
//!
//! Handles share a stream; when the last one is gone and the stream has not ended, it is reset, so that the peer does
//! not work for nobody. What was received stays readable after a stream or its connection has ended.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::StatusCode;

use super::{Connection, Ended, ReceiveWindow, Role, set_waker};
use crate::http::{
    Fields,
    h2::{chunks::Chunks, code::ErrorCode, frame},
};

/// Why a stream broke off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http::h2) enum StreamError {
    /// The peer reset it.
    Reset(ErrorCode),
    /// The peer left the connection and never looked at the stream.
    NotLookedAt(ErrorCode),
    /// The peer broke the protocol on it, so that this side reset it.
    Fault(&'static str),
    /// Its connection ended.
    Ended(Ended),
}

impl std::fmt::Display for StreamError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reset(code) => write!(f, "the stream was reset: {code}"),
            Self::NotLookedAt(code) => write!(f, "the peer left without looking at it: {code}"),
            Self::Fault(what) => write!(f, "the peer broke HTTP/2: {what}"),
            Self::Ended(ended) => ended.fmt(f),
        }
    }
}

impl std::error::Error for StreamError {}

/// A response's head, final or informational.
pub(super) type ReceivedResponse = (StatusCode, Fields);

/// A stream, shared by the connection and its handles.
#[derive(Debug)]
pub(super) struct Entry {
    pub id: u32,
    pub state: RefCell<State>,
    handles: Cell<u32>,
}

#[derive(Debug)]
pub(super) struct State {
    /// This side may still send, the peer may still send.
    pub can_send: bool,
    pub can_receive: bool,
    pub failed: Option<StreamError>,
    pub send_window: i64,
    /// It is among those that wait for the connection's window.
    pub is_waiting: bool,
    pub receive_window: ReceiveWindow,
    /// What is announced of the body and has not come.
    pub remaining: Option<u64>,
    /// The final response is here, or this is a request: what comes next are trailers.
    pub has_head: bool,
    /// The request was HEAD: its response's length is of a body that does not come.
    pub is_head_request: bool,
    /// It carries a tunnel's bytes: no length is announced of them.
    pub is_tunnel: bool,
    /// Informational responses so far.
    pub informational: u32,
    pub responses: VecDeque<ReceivedResponse>,
    pub data: Chunks,
    pub trailers: Option<Fields>,
    /// Who waits for something to read, and who for room to send or a reset.
    pub reader: Option<Waker>,
    pub sender: Option<Waker>,
}

impl State {
    pub(super) fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    pub(super) fn wake_sender(&mut self) {
        if let Some(waker) = self.sender.take() {
            waker.wake();
        }
    }
}

impl Entry {
    pub(super) fn new(id: u32, send_window: i64, receive_window: u32) -> Self {
        let state = State {
            can_send: true,
            can_receive: true,
            failed: None,
            send_window,
            is_waiting: false,
            receive_window: ReceiveWindow::new(receive_window, receive_window / 2),
            remaining: None,
            has_head: false,
            is_head_request: false,
            is_tunnel: false,
            informational: 0,
            responses: VecDeque::new(),
            data: Chunks::default(),
            trailers: None,
            reader: None,
            sender: None,
        };
        Self { id, state: RefCell::new(state), handles: Cell::new(0) }
    }

    /// Ends it both ways, with what was received still to be read.
    pub(super) fn fail(&self, error: StreamError) {
        let mut state = self.state.borrow_mut();
        if state.can_receive || state.can_send {
            state.failed.get_or_insert(error);
        }
        state.can_send = false;
        state.wake_reader();
        state.wake_sender();
    }
}

/// A handle of a stream.
#[derive(Debug)]
pub(in crate::http::h2) struct Stream {
    pub(super) connection: Rc<Connection>,
    pub(super) entry: Rc<Entry>,
}

impl Stream {
    pub(super) fn new(connection: Rc<Connection>, entry: Rc<Entry>) -> Self {
        entry.handles.set(entry.handles.get() + 1);
        Self { connection, entry }
    }

    /// The next head of a response: informational ones, then the final one, after which this is not to be asked.
    pub(in crate::http::h2) fn poll_response(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ReceivedResponse, StreamError>> {
        let mut state = self.entry.state.borrow_mut();
        if let Some(response) = state.responses.pop_front() {
            return Poll::Ready(Ok(response));
        }
        if let Some(error) = &state.failed {
            return Poll::Ready(Err(error.clone()));
        }
        set_waker(&mut state.reader, cx);
        Poll::Pending
    }

    /// The next piece of the body; `None` at its end, behind which trailers may be. Its window is to be given back
    /// ([`Self::release`]) once it was passed on.
    pub(in crate::http::h2) fn poll_data(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, StreamError>>> {
        let mut state = self.entry.state.borrow_mut();
        if let Some(piece) = state.data.pop() {
            return Poll::Ready(Some(Ok(piece)));
        }
        if !state.can_receive {
            return Poll::Ready(None);
        }
        if let Some(error) = &state.failed {
            return Poll::Ready(Some(Err(error.clone())));
        }
        set_waker(&mut state.reader, cx);
        Poll::Pending
    }

    /// The trailers, behind the last piece.
    pub(in crate::http::h2) fn take_trailers(&self) -> Option<Fields> {
        self.entry.state.borrow_mut().trailers.take()
    }

    /// Whether nothing is to be read any more, and nothing will come.
    pub(in crate::http::h2) fn is_end(&self) -> bool {
        let state = self.entry.state.borrow();
        !state.can_receive && state.data.is_empty() && state.trailers.is_none()
    }

    /// Gives window back for what was read and passed on.
    pub(in crate::http::h2) fn release(&self, bytes: usize) {
        self.connection.write(|core, out| {
            let mut state = self.entry.state.borrow_mut();
            let is_wanted = state.can_receive && state.failed.is_none();
            if let Some(increment) = state.receive_window.release(bytes)
                && is_wanted
            {
                frame::window_update(self.entry.id, increment, out);
            }
            if let Some(increment) = core.receive_window.release(bytes) {
                frame::window_update(0, increment, out);
            }
        });
    }

    /// Ready with how many bytes can be sent at once, which is not nothing; or with why none can be.
    pub(in crate::http::h2) fn poll_room(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, StreamError>> {
        let window = {
            let mut core = self.connection.core.borrow_mut();
            let mut state = self.entry.state.borrow_mut();
            if let Some(error) = &state.failed {
                return Poll::Ready(Err(error.clone()));
            }
            let window = state.send_window.min(core.send_window);
            if window <= 0
                && state.send_window > 0
                && !std::mem::replace(&mut state.is_waiting, true)
            {
                core.waiting.push(Rc::clone(&self.entry));
            }
            set_waker(&mut state.sender, cx);
            window
        };
        if window <= 0 {
            return Poll::Pending;
        }
        match ready!(self.connection.socket.poll_writable(cx)) {
            Ok(()) => Poll::Ready(Ok(window as usize)),
            Err(error) => Poll::Ready(Err(StreamError::Ended(Ended::Io(error.kind())))),
        }
    }

    /// Ready when a response may begin, or when the stream has ended: what a peer does not read must not add up.
    pub(in crate::http::h2) fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_failed(cx).is_ready() {
            return Poll::Ready(());
        }
        self.connection.socket.poll_writable(cx).map(|_| ())
    }

    /// Ready when the peer wants nothing more of this stream.
    pub(in crate::http::h2) fn poll_failed(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let mut state = self.entry.state.borrow_mut();
        if let Some(error) = &state.failed {
            return Poll::Ready(error.clone());
        }
        set_waker(&mut state.sender, cx);
        Poll::Pending
    }

    /// Resets the stream, unless it has ended.
    pub(in crate::http::h2) fn reset(&self, code: ErrorCode) {
        self.connection.reset(&self.entry, code, StreamError::Ended(Ended::Left));
    }
}

impl Clone for Stream {
    fn clone(&self) -> Self {
        Self::new(Rc::clone(&self.connection), Rc::clone(&self.entry))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let handles = self.entry.handles.get() - 1;
        self.entry.handles.set(handles);
        if handles == 0 {
            self.connection.abandon(&self.entry);
        }
    }
}

impl Connection {
    /// Resets a stream that has not ended, for this reason towards those who have handles.
    pub(super) fn reset(&self, entry: &Entry, code: ErrorCode, why: StreamError) {
        self.write(|core, out| {
            if core.streams.contains_key(&entry.id) {
                frame::rst_stream(entry.id, code, out);
                core.remove_reset(entry.id);
            }
        });
        entry.fail(why);
    }

    /// Nobody sends or reads on a stream any more.
    fn abandon(&self, entry: &Entry) {
        let unread = entry.state.borrow_mut().data.clear();
        if unread > 0 {
            self.write(|core, out| {
                if let Some(increment) = core.receive_window.release(unread) {
                    frame::window_update(0, increment, out);
                }
            });
        }
        let state = entry.state.borrow();
        let is_open = state.failed.is_none() && (state.can_send || state.can_receive);
        // A response that is whole: the rest of the request is not wanted, and nothing is wrong (RFC 9113 8.1).
        let is_answered = !state.can_send && self.core.borrow().role == Role::Server;
        drop(state);
        if is_open {
            let code = if is_answered { ErrorCode::NO_ERROR } else { ErrorCode::CANCEL };
            self.reset(entry, code, StreamError::Ended(Ended::Left));
        }
    }
}
