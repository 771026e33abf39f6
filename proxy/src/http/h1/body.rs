//! A body that is read from an HTTP/1 connection, a client's or a server's.

use std::{
    rc::Rc,
    task::{Context, Poll, ready},
};

use super::{client::Half, inbox::Inbox};
use crate::http::{BodyError, Frame};

/// A body that is read from an HTTP/1 connection.
///
/// A response's body holds its connection: at the clean end the connection can be used again; dropped before
/// that, it ends. A request's body may be dropped unread: the server connection sees to the rest.
#[derive(Debug)]
pub struct IncomingBody {
    inbox: Rc<Inbox>,
    message: u32,
    response: Option<Half>,
    /// The end was seen; the connection may be busy with a later message already.
    is_done: bool,
}

impl IncomingBody {
    /// The body of the request that was just begun.
    pub(super) fn of_request(inbox: Rc<Inbox>, message: u32) -> Self {
        Self { inbox, message, response: None, is_done: false }
    }

    /// The body of the response that was just begun; `half` is its share of the connection.
    pub(super) fn of_response(inbox: Rc<Inbox>, message: u32, half: Half) -> Self {
        Self { inbox, message, response: Some(half), is_done: false }
    }

    /// See [`super::super::Body::poll_frame`].
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        let frame = ready!(self.inbox.poll_frame(cx, self.message));
        if !matches!(frame, Some(Err(_))) && self.inbox.is_end_of(self.message) {
            self.is_done = true;
            if let Some(half) = self.response.take() {
                half.finish();
            }
        }
        Poll::Ready(frame)
    }

    /// See [`super::super::Body::is_end`].
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.is_done || self.inbox.is_end_of(self.message)
    }

    /// See [`super::super::Body::exact_length`].
    #[must_use]
    pub fn exact_length(&self) -> Option<u64> {
        if self.is_done { Some(0) } else { self.inbox.remaining_of(self.message) }
    }
}
