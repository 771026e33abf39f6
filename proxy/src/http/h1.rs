//! (Being written.)

use std::task::{Context, Poll};

use super::{BodyError, Frame};

/// A body that is read from this kind of connection.
#[derive(Debug)]
pub struct IncomingBody {}

impl IncomingBody {
    /// See [`super::Body::poll_frame`].
    pub fn poll_frame(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        Poll::Ready(None)
    }

    /// See [`super::Body::is_end`].
    #[must_use]
    pub fn is_end(&self) -> bool {
        true
    }

    /// See [`super::Body::exact_length`].
    #[must_use]
    pub fn exact_length(&self) -> Option<u64> {
        None
    }
}
