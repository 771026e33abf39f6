//! The receiving side of a connection: from the kernel, through TLS where there is any, to the reader.
//!
//! One system call takes up to [`turn::READ_STEP`] bytes. A short read is known to have emptied the kernel's
//! buffer (tokio clears the readiness after it), so none follows it in vain. A reader is told of a failed write
//! only when what the peer sent before is read.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::{
    TlsError,
    connection::State,
    failure::Failure,
    tls::Tls,
    turn::{self, READ_STEP},
};

/// From this size on a read counts as large: a body rather than a head.
const LARGE: usize = 16 * 1024;

/// How much is read ahead of the reader to see the peer's end.
const READ_AHEAD: usize = 64 * 1024;

impl State {
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        if !self.unread.is_empty() {
            let unread = std::mem::take(&mut self.unread);
            let count = unread.len();
            if buffer.is_empty() {
                *buffer = unread;
            } else {
                buffer.extend_from_slice(&unread);
            }
            return Poll::Ready(Ok(count));
        }
        let result = if self.tls.is_none() && self.large_reads && !self.read_ended {
            self.poll_fill_directly(cx, buffer)
        } else {
            self.poll_receive(cx, &mut |bytes| buffer.extend_from_slice(bytes))
        };
        if result.is_pending() && buffer.is_empty() {
            *buffer = BytesMut::new();
        }
        result
    }

    /// Without a copy: for large bodies on plain connections.
    fn poll_fill_directly(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else { return self.broken(Ok(0)) };
        buffer.reserve(READ_STEP);
        let result = pin!(stream.read_buf(buffer)).poll(cx);
        if let Poll::Ready(Ok(count)) = &result {
            count_read(*count);
        }
        self.judge(cx, result)
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() && buffer.remaining() > 0 {
            // What does not fit is read next.
            let mut unread = BytesMut::new();
            ready!(self.poll_receive(cx, &mut |bytes| {
                let (fits, rest) = bytes.split_at(bytes.len().min(buffer.remaining()));
                buffer.put_slice(fits);
                unread.extend_from_slice(rest);
            }))?;
            self.unread = unread;
            return Poll::Ready(Ok(()));
        }
        let count = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..count]);
        self.unread.advance(count);
        if self.unread.is_empty() {
            self.unread = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and hands plaintext to `sink`, in pieces. `Ok(0)` at a clean end.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        if self.read_ended {
            return self.broken(Ok(0));
        }
        let Some(stream) = &mut self.stream else { return self.broken(Ok(0)) };
        let result = match &mut self.tls {
            None => turn::with_scratch(|scratch| {
                let buffer = room(&mut scratch.incoming, 0);
                let read = poll_count(stream, cx, buffer);
                read.map_ok(|count| {
                    sink(&scratch.incoming[..count]);
                    count
                })
            }),
            Some(tls) => {
                let result = poll_receive_tls(stream, tls, cx, sink);
                return match result {
                    Poll::Ready(Err(failure)) => {
                        self.read_ended = true;
                        let error = failure.to_error();
                        self.fail(failure);
                        Poll::Ready(Err(error))
                    }
                    Poll::Ready(Ok(count)) => self.judge(cx, Poll::Ready(Ok(count))),
                    Poll::Pending => self.judge(cx, Poll::Pending),
                };
            }
        };
        self.judge(cx, result)
    }

    /// What a read means for the connection.
    fn judge(
        &mut self,
        cx: &Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match &result {
            Poll::Pending if self.failure.is_some() => return self.broken(Ok(0)),
            Poll::Pending => {
                self.large_reads = false;
                match &mut self.reader {
                    Some(reader) => reader.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                return Poll::Pending;
            }
            Poll::Ready(Ok(0)) => self.read_ended = true,
            Poll::Ready(Ok(count)) => {
                self.large_reads = *count >= LARGE;
                return result;
            }
            Poll::Ready(Err(error)) => {
                self.read_ended = true;
                self.fail(Failure::from(error));
            }
        }
        self.broken(Ok(0))
    }

    /// The failure, or `otherwise`.
    fn broken(&self, otherwise: io::Result<usize>) -> Poll<io::Result<usize>> {
        Poll::Ready(self.check().and(otherwise))
    }

    pub(super) fn poll_peer_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.failure.is_none() && !self.read_ended {
            if self.unread.len() >= READ_AHEAD {
                return Poll::Pending;
            }
            // The outcome stays in the state; here only a connection that goes on matters.
            let _ = ready!(self.poll_read_ahead(cx));
        }
        Poll::Ready(())
    }

    pub(super) fn poll_disturbed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.unread.is_empty() && self.failure.is_none() {
            let _ = ready!(self.poll_read_ahead(cx));
        }
        Poll::Ready(())
    }

    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut unread = std::mem::take(&mut self.unread);
        let result = self.poll_receive(cx, &mut |bytes| unread.extend_from_slice(bytes));
        self.unread = unread;
        result
    }

    pub(super) fn put_back(&mut self, bytes: Bytes) {
        let rest = std::mem::replace(&mut self.unread, BytesMut::from(bytes));
        self.unread.extend_from_slice(&rest);
    }

    /// What was put back is the beginning of the handshake.
    pub(super) fn begin_tls(&mut self, mut tls: Tls) {
        tls.begin_with(&std::mem::take(&mut self.unread));
        self.tls = Some(Box::new(tls));
    }

    pub(super) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TlsError>> {
        let mut early = BytesMut::new();
        if let Some(tls) = &mut self.tls
            && let Err(error) = tls.start(&mut |bytes| early.extend_from_slice(bytes))
        {
            self.read_ended = true;
            self.fail(Failure::Tls(error.clone()));
            return Poll::Ready(Err(TlsError::Refused(error)));
        }
        self.unread.extend_from_slice(&early);
        while self.tls.as_ref().is_some_and(|tls| !tls.is_established()) {
            let result = ready!(self.poll_handshake_read(cx));
            match (result, self.failure.as_deref()) {
                (_, Some(Failure::Tls(error))) => {
                    return Poll::Ready(Err(TlsError::Refused(error.clone())));
                }
                (_, Some(Failure::Truncated)) => return Poll::Ready(Err(TlsError::Closed)),
                (Err(error), _) => return Poll::Ready(Err(TlsError::Io(error))),
                (Ok(()), _) if self.read_ended => return Poll::Ready(Err(TlsError::Closed)),
                (Ok(()), _) => {}
            }
        }
        Poll::Ready(Ok(()))
    }

    /// One read of the handshake; what the peer sent right behind it is kept.
    fn poll_handshake_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(self.check()) };
        let Some(tls) = &mut self.tls else { return Poll::Ready(Ok(())) };
        let unread = &mut self.unread;
        let once = poll_read_record(stream, tls, cx, &mut |bytes| unread.extend_from_slice(bytes));
        match once {
            Poll::Pending => self.judge(cx, Poll::Pending).map_ok(|_| ()),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(failure)) => {
                self.read_ended = true;
                let error = failure.to_error();
                self.fail(failure);
                Poll::Ready(Err(error))
            }
        }
    }
}

/// Reads until there is plaintext, or a clean end.
fn poll_receive_tls(
    stream: &mut crate::net::TcpStream,
    tls: &mut Tls,
    cx: &mut Context<'_>,
    sink: &mut dyn FnMut(&[u8]),
) -> Poll<Result<usize, Failure>> {
    loop {
        if tls.peer_closed() {
            return Poll::Ready(Ok(0));
        }
        let count = ready!(poll_read_record(stream, tls, cx, sink))?;
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
    }
}

/// Reads ciphertext once. `Ok(0)` when no plaintext came of it.
fn poll_read_record(
    stream: &mut crate::net::TcpStream,
    tls: &mut Tls,
    cx: &mut Context<'_>,
    sink: &mut dyn FnMut(&[u8]),
) -> Poll<Result<usize, Failure>> {
    turn::with_scratch(|scratch| {
        let kept = tls.partial_len();
        let buffer = room(&mut scratch.incoming, kept);
        let count = match ready!(poll_count(stream, cx, buffer)) {
            Ok(0) => return Poll::Ready(Err(Failure::Truncated)),
            Ok(count) => count,
            Err(error) => return Poll::Ready(Err(Failure::from(&error))),
        };
        let received = tls.receive(&mut scratch.incoming[..kept + count], kept, sink);
        Poll::Ready(received.map_err(Failure::Tls))
    })
}

/// Room for one read behind the first `kept` bytes.
fn room(incoming: &mut Vec<u8>, kept: usize) -> &mut [u8] {
    let size = kept + READ_STEP;
    if incoming.len() < size {
        incoming.resize(size, 0);
    }
    &mut incoming[kept..size]
}

fn poll_count(
    stream: &mut crate::net::TcpStream,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
    let count = buffer.filled().len();
    count_read(count);
    Poll::Ready(Ok(count))
}

fn count_read(count: usize) {
    turn::count(|statistics| {
        statistics.reads += 1;
        statistics.read_bytes += count as u64;
    });
}
