//! One body on its way out: frames come from wherever they come, bytes go to this connection.
//!
//! A frame is asked for only while the connection takes bytes, so a slow reader holds back the sender. The
//! end is written only when the body ended cleanly; after an error nothing more may be written, so that the
//! peer sees a body that is cut short.

use std::{
    cell::RefCell,
    io,
    task::{Context, Poll, ready},
};

use bytes::Bytes;

use super::{encode, framing::BodyLength};
use crate::{
    http::{Body, BodyError, Frame},
    io::Socket,
};

/// Scratch above this size is given back.
const MAX_SCRATCH: usize = 64 * 1024;

/// A body, how it is framed, and how far it got.
#[derive(Debug)]
pub(super) struct Transfer {
    body: Body,
    length: BodyLength,
    sent: u64,
    is_done: bool,
}

/// Why a transfer stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransferError {
    /// Where the body comes from.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// Where it goes to.
    #[error("write: {0}")]
    Socket(io::ErrorKind),
}

impl Transfer {
    /// A transfer that has not begun. With `Empty` the body is dropped unread (a response to HEAD).
    pub(super) fn new(body: Body, length: BodyLength) -> Self {
        Self { body, length, sent: 0, is_done: length == BodyLength::Empty }
    }

    /// Goes on as far as body and connection allow; ready when the body was written whole, or broke. May be
    /// polled again after the end.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Socket,
    ) -> Poll<Result<(), TransferError>> {
        while !self.is_done {
            ready!(socket.poll_writable(cx)).map_err(broken)?;
            match ready!(self.body.poll_frame(cx)) {
                Some(frame) => self.write(frame?, socket)?,
                None => self.finish(socket)?,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, frame: Frame, socket: &Socket) -> Result<(), TransferError> {
        match frame {
            Frame::Data(data) => self.write_data(data, socket),
            Frame::Trailers(trailers) if self.length == BodyLength::Chunked => {
                self.is_done = true;
                with_scratch(|out| {
                    encode::trailers(out, &trailers);
                    socket.write(out)
                })
                .map_err(broken)
            }
            Frame::Trailers(_) => self.finish(socket),
        }
    }

    fn write_data(&mut self, data: Bytes, socket: &Socket) -> Result<(), TransferError> {
        self.sent += data.len() as u64;
        match self.length {
            BodyLength::Exact(length) if self.sent > length => {
                return Err(BodyError::Malformed("more content than its length says").into());
            }
            BodyLength::Chunked => with_scratch(|out| {
                encode::chunk_size(out, data.len());
                socket.write(out)
            })
            .and_then(|()| socket.write_bytes(data))
            .and_then(|()| socket.write(b"\r\n")),
            BodyLength::Exact(_) | BodyLength::UntilClose | BodyLength::Empty => {
                socket.write_bytes(data)
            }
        }
        .map_err(broken)?;
        // Known to be whole: what made the body need not be asked once more.
        self.is_done = self.length == BodyLength::Exact(self.sent) && self.body.is_end();
        Ok(())
    }

    fn finish(&mut self, socket: &Socket) -> Result<(), TransferError> {
        match self.length {
            BodyLength::Exact(length) if self.sent < length => {
                return Err(BodyError::Truncated.into());
            }
            BodyLength::Chunked => socket.write(encode::LAST_CHUNK).map_err(broken)?,
            BodyLength::Exact(_) | BodyLength::UntilClose | BodyLength::Empty => {}
        }
        self.is_done = true;
        Ok(())
    }
}

/// An empty buffer of this worker, to encode a head into: the connection need not keep one.
pub(super) fn with_scratch<T>(encode: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    thread_local! {
        static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        scratch.shrink_to(MAX_SCRATCH);
        encode(scratch)
    })
}

fn broken(error: io::Error) -> TransferError {
    TransferError::Socket(error.kind())
}
